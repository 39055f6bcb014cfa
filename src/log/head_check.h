/* Are the signed heads in a server's events what they say? Fed with every event in order, by `log verify`.
 *
 * Each signature is checked with the key that its signer had at that head, and each head that a majority signed must be the one
 * that the events here give. Whether these servers are who they should be is for farshore-verify, which starts from a key that
 * somebody was given. Plain data, one thread. */
#ifndef FAR_LOG_HEAD_CHECK_H
#define FAR_LOG_HEAD_CHECK_H

#include "log/signed_head.h"
#include "log/store.h"

enum { FAR_HEAD_CHECK_OPEN = 64 }; /* heads that may still be signed; the state keeps half as many */

struct far_open_head {
    uint64_t seq; /* 0: unused */
    bool is_same; /* as the events here give it */
    bool is_known; /* they reach back to it */
    size_t voter_count, signed_count;
    uint64_t voter_ids[FAR_HEAD_VOTERS_MAX];
    uint8_t keys[FAR_HEAD_VOTERS_MAX][32];
    bool has_key[FAR_HEAD_VOTERS_MAX], has_signed[FAR_HEAD_VOTERS_MAX];
    uint8_t message[FAR_HEAD_MESSAGE_MAX];
    size_t message_len;
};

struct far_head_check {
    uint8_t uuid[16]; /* of the cluster */
    uint64_t signatures; /* that were right */
    uint64_t signed_seq; /* up to here a majority signed what the events give */
    size_t next;
    struct far_open_head open[FAR_HEAD_CHECK_OPEN];
};

/* The cluster's uuid comes from its state. */
int far_head_check_init(struct far_head_check *check, struct far_store_txn *txn, struct far_error *err);
/* FAR_CORRUPT: it is not what it says, err in words. Other classes: it could not be checked. */
int far_head_check_event(struct far_head_check *check, struct far_store_txn *txn, const struct far_event *event,
                         struct far_error *err);

#endif
