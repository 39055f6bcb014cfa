/* Secrets of the cluster: the CA's key and the master key, in the state, sealed to each full server and to the recovery
 * key (DESIGN.md section 6). The context of each box names the secret and its recipient, so none can be passed off as
 * another. Any thread. */
#ifndef FAR_SERVER_SECRETS_H
#define FAR_SERVER_SECRETS_H

#include "base/buf.h"
#include "fsm/state.h"

#define FAR_SECRET_CA_KEY "ca-key"         /* PEM */
#define FAR_SECRET_MASTER_KEY "master-key" /* 32 bytes */
enum { FAR_SECRET_RECOVERY = 0 };          /* the recipient that is the recovery key */

/* Append the box of plain for the recipient with this public key to out. */
int far_secrets_seal(const char *name, uint64_t recipient_id, const uint8_t public_key[32], struct far_slice plain,
                     struct far_buf *out, struct far_error *err);
/* Append the plain bytes of the secret that the state holds for the recipient to out; end out with far_secret_done().
 * FAR_NOT_FOUND: nothing was sealed to it. */
int far_secrets_open(struct far_state *state, const char *name, uint64_t recipient_id, const uint8_t private_key[32],
                     struct far_buf *out, struct far_error *err);

#endif
