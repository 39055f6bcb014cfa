/* The states of the past, from one server to another that installed a state and does not have those before.
 *
 * What is kept of each row in epochs before the receiver's oldest one (history.h) is sent in the order of its keys; the
 * records of the epochs come last, all at once. Until they are there nobody reads from what came; each says its place in the
 * chain, which the receiver holds against its own events, and the oldest state is recomputed from the rows and must give its
 * digest. It must all come from one server: another one's epochs may lie elsewhere. What an earlier try left does not harm: every
 * entry is true by itself. Pure but for the transaction. */
#ifndef FAR_LOG_PAST_COPY_H
#define FAR_LOG_PAST_COPY_H

#include "log/store.h"

enum {
    FAR_PAST_WANT_HEADER = 8, /* before u64; then the key where to go on */
    FAR_PAST_HEADER = 12,     /* before u64, last u16, length of the next key u16; then the key */
    FAR_PAST_KEY_MAX = FAR_KV_KEY_MAX + 16,
    FAR_PAST_BATCH_MAX = 256 * 1024,
    FAR_PAST_RECORDS_MAX = 4000, /* at once, the newest: 32 million events back; older ones by another round */
    FAR_PAST_LOOKS_MAX = 2048,   /* rows looked at for one batch: some milliseconds of a core loop */
};

/* Append a batch of what is kept in epochs before `before`, beginning at key (empty: the first). Without any such epoch the
 * first batch is the last. out has room for FAR_FRAME_MAX. */
int far_past_copy_encode(struct far_store_txn *txn, uint64_t before, struct far_slice key, struct far_buf *out,
                         struct far_error *err);

struct far_past_batch {
    uint64_t before;
    bool is_last;
    struct far_slice next; /* key where the next batch begins; borrowed from the batch */
    struct far_slice rows; /* key length u16, value length u16, key, value; as often as there is */
};
/* FAR_CORRUPT: not a batch. */
int far_past_copy_decode(struct far_slice bytes, struct far_past_batch *ret_batch, struct far_error *err);
/* Put it, in a write transaction. The last one takes as long as a walk over a state. FAR_CORRUPT: damaged, of another history, or
 * not whole; give the transaction up. */
int far_past_copy_apply(struct far_store_txn *txn, struct far_slice bytes, struct far_error *err);

#endif
