/* The bandwidth limits of a node: who sends asks for each frame's bytes before it writes them.
 *
 * There is a bucket for all that the node sends, and one for each plan with a limit of its own. A bucket fills at its rate and keeps at
 * most 100 ms of it. Whoever asks has a ticket, one for each connection; owners (sends) are served in turns, and the tickets of one in
 * the order of asking: the bytes of a frame
 * are paid before it goes, as they come in, so in any time no more goes out than rate x time, what the bucket kept, and what tickets
 * had been paid before. Who waits for a slow plan stands in nobody's way: what its plan cannot take now goes to those behind. So a
 * frame larger than a bucket gets its turn, nobody starves, and new limits hold at once for those who wait.
 *
 *     struct far_throttle_ticket ticket;                      one for each connection of a send
 *     far_throttle_ticket_init(&ticket, owner);
 *     for each frame of data:
 *         while ((rc = far_throttle_take(throttle, &ticket, plan_id, bytes, 100, &canceled, &waited_ns)) == FAR_TIMEOUT) {
 *             say a word to the peer if it is due, look whether the session goes on
 *         }
 *         rc == 0: write it
 *     far_throttle_ticket_done(throttle, &ticket);
 *
 * Threads: any; a ticket belongs to one thread at a time. Where nothing limits a plan, taking costs a look at an atomic. */
#ifndef FAR_DATAPLANE_THROTTLE_H
#define FAR_DATAPLANE_THROTTLE_H

#include "dataplane/engine.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    FAR_THROTTLE_PAUSED = 1,    /* as a rate: nothing goes */
    FAR_THROTTLE_BURST_MS = 100, /* of its rate is what a bucket keeps at most */
};

struct far_throttle;

/* Private but for init and done. */
struct far_throttle_ticket {
    struct far_throttle_ticket *next; /* behind it in the queue */
    const void *owner;
    pthread_cond_t paid;
    uint64_t plan_id;
    uint64_t bytes; /* asked for */
    uint64_t missing; /* of them; 0: it may go */
    bool is_queued;
    bool is_waiting; /* its thread does, in far_throttle_take */
};

int far_throttle_new(struct far_throttle **ret_throttle, struct far_error *err);
void far_throttle_free(struct far_throttle *throttle); /* NULL is allowed; no ticket may be in its queue */

/* As far_engine_set_limits(). What buckets held stays, cut to the new size; a new one begins empty. */
int far_throttle_set(struct far_throttle *throttle, uint64_t bytes_per_s, const struct far_engine_plan_limit *plans, size_t plan_count,
                     struct far_error *err);

/* Tickets of one owner (compared as a pointer, never looked at) share its turns. */
void far_throttle_ticket_init(struct far_throttle_ticket *ticket, const void *owner);
/* Gives up its place, if it has one: what was paid goes back. throttle may be NULL if it never took. */
void far_throttle_ticket_done(struct far_throttle *throttle, struct far_throttle_ticket *ticket);

/* Blocks until so many bytes of the plan may go. 0: they may, now. FAR_TIMEOUT: not within wait_ms (0: do not block); the ticket
 * keeps its place and what was paid, call again with the same bytes (with others it asks anew). FAR_CANCELED: *canceled is set (may
 * be NULL; set it, then far_throttle_wake); the place is given up. *ret_waited_ns (may be NULL): how long this call blocked, 0: not at
 * all. No message. */
int far_throttle_take(struct far_throttle *throttle, struct far_throttle_ticket *ticket, uint64_t plan_id, uint64_t bytes,
                      uint64_t wait_ms, const atomic_bool *canceled, uint64_t *ret_waited_ns);
/* All who wait look at their flags. */
void far_throttle_wake(struct far_throttle *throttle);

/* The rate by which this plan's bytes go now, by its own limit and the node's: 0 = no limit, 1 = a pause. */
uint64_t far_throttle_rate(struct far_throttle *throttle, uint64_t plan_id);

#endif
