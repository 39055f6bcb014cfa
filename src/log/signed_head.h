/* Signed heads: what exactly a voter signs (docs/FORMATS.md, "Signed heads"), and whether it did.
 *
 * A signature covers the cluster, its incarnation, the chain head with its seq, and everybody who counts at it with their keys:
 * so whoever trusts a majority of the signers knows from the signatures alone whom to trust next. The core only counts; the leader
 * spends no entry on a signature that is wrong. Pure functions, any thread. */
#ifndef FAR_LOG_SIGNED_HEAD_H
#define FAR_LOG_SIGNED_HEAD_H

#include "log/chain.h"

enum { FAR_HEAD_VOTERS_MAX = 16, FAR_HEAD_IN_MESSAGE = 48, FAR_HEAD_MESSAGE_FIXED = 88, FAR_HEAD_VOTER_BYTES = 40 };
enum { FAR_HEAD_MESSAGE_MAX = FAR_HEAD_MESSAGE_FIXED + FAR_HEAD_VOTERS_MAX * FAR_HEAD_VOTER_BYTES };

/* What is signed; voters are struct far_sub_head_voter, as the event head_proposed and the row head have them. FAR_INVALID: it
 * is no head (lengths, too many voters). */
int far_head_message(struct far_slice cluster_uuid, uint64_t incarnation_epoch, uint64_t seq, struct far_slice head,
                     const struct far_list *voters, uint8_t ret_message[FAR_HEAD_MESSAGE_MAX], size_t *ret_len,
                     struct far_error *err);
/* The key of this server among the voters; an empty slice: it does not count, or has none. */
struct far_slice far_head_voter_key(const struct far_list *voters, uint64_t server_id);
/* Of a command head_sign: is its signature by the key that its server has at that head? Others fit. Unknown: this state has no such
 * head (yet); where it is the cluster's, that is for the core to refuse. */
enum far_head_fit {
    FAR_HEAD_FITS,
    FAR_HEAD_WRONG,
    FAR_HEAD_UNKNOWN,
};
enum far_head_fit far_head_signature_fits(struct far_state *state, const struct far_command *command);

#endif
