/* Test helper: a TCP relay on loopback that imitates a link between those who dial it and one target.
 *
 * Each direction has one rate for all connections together, a bounded queue before it as a router has, and a delay. What
 * finds no room in the queue stays with its sender (TCP's own back-pressure): nothing is dropped. Connections take turns of a
 * quantum (1 ms of the rate, at most 64 KiB), so they share fairly. A connection has a window: bytes that were sent and whose
 * acknowledgement, one delay after they were passed on, is not back. To set one up costs a round trip: the target hears of it
 * after one delay, the dialer's first byte leaves after two. Connections can be cut (RST to both sides), each after an
 * exponential time from a seed, or all at once; and the link can become a black hole, which keeps what is open and passes
 * nothing. The kernel's buffers between relay and both sides are small, so that what waits, waits here.
 *
 * The relay knows no clock: relay_turn does what is due at a time and says when it wants the next turn, so tests turn it with
 * times of their own. relay_start turns it on a thread by the monotonic clock. All functions but relay_turn are for any thread.
 * Set-up that fails aborts. */
#ifndef FAR_TESTS_LIB_RELAY_H
#define FAR_TESTS_LIB_RELAY_H

#include <stdbool.h>
#include <stdint.h>

enum { RELAY_FORWARD = 0, RELAY_BACK = 1 }; /* dialer to target, target to dialer */

#define RELAY_NEVER UINT64_MAX

struct relay_config {
    const char *target;    /* "127.0.0.1:port" */
    uint64_t bits_per_s;   /* of each direction; 0: no limit */
    uint64_t delay_us;     /* one way */
    uint64_t queue_bytes;  /* before each direction; 0: what the link carries in a round trip, at least 128 KiB */
    uint64_t window_bytes; /* of a connection and direction; 0: 16 MiB */
    bool slow_start;       /* a window begins with 10 segments and grows by what is acknowledged, as TCP's does without losses */
    uint64_t cut_mean_us;  /* 0: nothing is cut by itself */
    uint64_t seed;         /* of the times of cuts */
};

struct relay_stats {
    uint64_t taken[2];      /* bytes from the senders */
    uint64_t passed[2];     /* bytes to the receivers */
    uint64_t queue_peak[2]; /* bytes that waited for the link at once */
    uint64_t idle_ns[2];    /* between the first byte and the last one nothing was on its way onto the link */
    uint64_t accepted, open, cuts;
    uint64_t busy_us; /* processor time of the thread of relay_start */
};

struct relay;

struct relay *relay_new(const struct relay_config *config); /* strings are copied */
void relay_free(struct relay *relay);                       /* stops its thread */
void relay_start(struct relay *relay);
const char *relay_address(const struct relay *relay); /* where it listens */

/* Does what can be done at this time (nanoseconds, never less than the last one); returns when something is due next, at
 * once if it is not later, RELAY_NEVER: when a socket or a caller wakes it. */
uint64_t relay_turn(struct relay *relay, uint64_t now_ns);

void relay_cut_all(struct relay *relay);
void relay_black_hole(struct relay *relay, bool on);
void relay_set_rate(struct relay *relay, uint64_t bits_per_s); /* from the next byte on; the queue stays as it is */
struct relay_stats relay_stats(struct relay *relay);

#endif
