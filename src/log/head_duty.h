/* What a server owes to the signed heads (DESIGN.md section 5): one look at the state and at its own history says what it has to
 * propose next.
 *
 * On the leader: the chain head 1,024 events after the last one, or 60 s after the first event since that says something (answers
 * to heads and acknowledgements of consumers do not: an idle cluster falls silent), or at once when who votes, or their keys, are
 * not those of the last one. On each server: its public key, a signature of the newest head if its own history has the same one
 * there, a refusal if not. A server that finds itself against a majority has to stop. All that it goes by is in the state, so it can
 * begin anew between any two looks. Knows neither clock nor thread: who looks says the time. */
#ifndef FAR_LOG_HEAD_DUTY_H
#define FAR_LOG_HEAD_DUTY_H

#include "base/arena.h"
#include "fsm/state.h"
#include "log/chain.h"
#include "net/sign.h"

/* The state and the history at one moment. */
struct far_head_source {
    struct far_state *state;
    uint64_t first_seq; /* of the oldest event kept */
    uint64_t last_seq;
    const uint8_t *head;      /* behind last_seq */
    const uint8_t *base_head; /* before first_seq */
    /* As far_log_view_event. */
    int (*event)(void *arg, uint64_t seq, struct far_arena *arena, struct far_event *ret_event, uint8_t ret_head[FAR_HEAD_SIZE],
                 struct far_error *err);
    void *arg;
};

struct far_head_duty {
    uint64_t server_id;
    uint8_t private_key[FAR_SIGN_KEY_BYTES]; /* Ed25519 */
    uint8_t public_key[FAR_SIGN_KEY_BYTES];
    uint64_t events_max; /* 0 = 1,024 */
    uint64_t wait_ms;    /* 0 = 60,000 */

    /* What it remembers; zeroes at the start. */
    uint64_t settled_seq; /* this server is known to agree with a majority up to this head */
    uint64_t unknown_seq; /* of a head that it could not judge: said once */
    uint64_t quiet_seq;   /* nothing between the last head and this event says anything */
    uint64_t news_seq;    /* the first event behind the last head that does; 0 = none seen */
    uint64_t news_at_ms;  /* when it was seen */
};

enum far_head_step {
    FAR_HEAD_REST,    /* nothing to do before something changes */
    FAR_HEAD_WAIT,    /* nor then, but look again in wait_ms */
    FAR_HEAD_PROPOSE, /* schema, and the command's payload in the buffer */
    FAR_HEAD_STOP,    /* its history is not a majority's: why */
};
struct far_head_todo {
    enum far_head_step step;
    uint64_t wait_ms;
    const struct far_schema *schema;
    struct far_buf *payload; /* the caller's; reset when something is put in */
    char why[FAR_MESSAGE_MAX];
};

/* now_ms: monotonic. A failure (the state or an event cannot be read) leaves nothing to do. */
int far_head_duty_look(struct far_head_duty *duty, const struct far_head_source *source, uint64_t now_ms, bool is_leader,
                       struct far_head_todo *todo, struct far_error *err);

#endif
