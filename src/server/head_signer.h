/* The head signer: carries out what log/head_duty.h says that this server owes to the signed heads. It looks a tenth of a second
 * after a change, and has at most one proposal under way. Core thread only. */
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
