/* From a key that somebody knows to a signed head of now, through the heads between: see docs/FORMATS.md, "Signed heads". Private to
 * src/client/.
 *
 * It stands on signatures alone: the first head that a majority of its voters signed, one of them with the known key, is trusted, with
 * the voters that it names; each later one that a majority of those signed, too. So it does not matter who shows the heads, as
 * long as he shows them in their order. Pure. */
#ifndef FAR_CLIENT_TRUST_H
#define FAR_CLIENT_TRUST_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { TRUST_VOTERS_MAX = 16, TRUST_KEY = 32, TRUST_SIGNATURE = 64, TRUST_FIXED = 88, TRUST_VOTER = 40, TRUST_OPEN = 32 };

/* What the voters of a head sign, made from what was told of it. */
struct head_message {
    uint8_t bytes[TRUST_FIXED + TRUST_VOTERS_MAX * TRUST_VOTER];
    size_t len;
    size_t voters;
};

/* head: with seq, head, incarnation_epoch and voters, as an item of GET /v1/log/heads and the data of head_proposed have it. */
bool head_message_make(const json_t *head, const char *cluster_uuid, struct head_message *ret_message);
uint64_t head_message_seq(const struct head_message *message);
/* The voter of this id, message->voters if there is none. */
size_t head_message_voter(const struct head_message *message, uint64_t server_id);
const uint8_t *head_message_key(const struct head_message *message, size_t voter);
bool head_message_is_signed(const struct head_message *message, size_t voter, const uint8_t signature[TRUST_SIGNATURE]);

struct trust {
    char cluster_uuid[40];
    uint8_t known[TRUST_KEY];
    bool is_begun;              /* there is a trusted head: */
    struct head_message newest; /* the newest one */
    uint64_t lost_seq;          /* of the newest head that a majority signed when trust did not lead to it; 0: none */
    size_t next;
    struct {
        struct head_message message; /* len 0: none */
        bool has_signed[TRUST_VOTERS_MAX];
    } open[TRUST_OPEN]; /* the newest that were proposed */
};

/* FAR_INVALID: the key is none. */
int trust_init(struct trust *trust, const char *cluster_uuid, const char *public_key, struct far_error *err);
/* An event of the log, as a stream gives it; others than head_proposed and head_signed are passed over. A signature that is not right
 * is nobody's. */
void trust_event(struct trust *trust, const json_t *event);
/* Does trust lead to this head, signed so far by these of its voters? */
bool trust_leads_to(const struct trust *trust, const struct head_message *message, const bool has_signed[TRUST_VOTERS_MAX]);

#endif
