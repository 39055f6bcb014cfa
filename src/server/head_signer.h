/* The head signer: heads of the log get the signatures of its servers (DESIGN.md section 5).
 *
 * On the leader: proposes the chain head 1,024 events after the last one, or 60 s after the first event since that says something
 * (answers to heads and acknowledgements of consumers do not: an idle cluster falls silent), or at once when who votes, or their
 * keys, are not those of the last one. On each server: keeps its public key in the log, signs the newest head if its own history has
 * the same one there, and refuses it if not. A server that finds itself against a majority stops, as it does when its state
 * differs. Everything that it goes by is in the state, so it can stop and start between any two steps. Core thread only. */
#ifndef FAR_SERVER_HEAD_SIGNER_H
#define FAR_SERVER_HEAD_SIGNER_H

#include "log/log.h"

struct far_head_signer;

struct far_head_signer_config {
    struct far_log *log;
    uint64_t server_id;
    uint8_t private_key[32]; /* Ed25519 */
    uint64_t events_max;     /* 0 = 1,024 */
    uint64_t wait_ms;        /* 0 = 60,000 */
};

int far_head_signer_new(const struct far_head_signer_config *config, uv_loop_t *loop, struct far_head_signer **ret_signer,
                        struct far_error *err);
/* Something was committed, or leadership moved; cheap. */
void far_head_signer_changed(struct far_head_signer *signer);
/* done runs on the loop; a proposal under way must be answered first or after: closing the log does that. */
void far_head_signer_close(struct far_head_signer *signer, void (*done)(void *arg), void *arg);

#endif
