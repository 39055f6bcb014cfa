/* The keys of the history's map, for history*.c, retain.c and past_copy.c: a row's key and the epoch (8 bytes, big endian); FF and
 * an epoch: its record. Epochs are below 2^56, so their first byte is 0 and no name continues with it: a row's entries lie
 * together. */
#ifndef FAR_LOG_HISTORY_PRIVATE_H
#define FAR_LOG_HISTORY_PRIVATE_H

#include "log/history.h"

enum { FAR_EPOCH_BYTES = 8, FAR_EPOCH_RECORDS = 0xff };

struct far_kept_key {
    uint8_t bytes[FAR_KV_KEY_MAX + FAR_EPOCH_BYTES + 1];
    size_t len;
};

static inline struct far_kept_key far_kept_key(struct far_slice row, uint64_t epoch)
{
    struct far_kept_key key = {.len = 0};
    size_t len = row.len > FAR_KV_KEY_MAX ? FAR_KV_KEY_MAX : row.len;
    memcpy(key.bytes, row.data, len);
    far_put_be64(key.bytes + len, epoch);
    key.len = len + FAR_EPOCH_BYTES;
    return key;
}

static inline struct far_kept_key far_epoch_key(uint64_t epoch)
{
    const uint8_t records = FAR_EPOCH_RECORDS;
    return far_kept_key(far_slice(&records, 1), epoch);
}

static inline struct far_slice far_kept_slice(const struct far_kept_key *key)
{
    return far_slice(key->bytes, key->len);
}

/* An epoch begins with the state as it is now, whatever the number of the newest event is. */
int far_epoch_begin(struct far_store_txn *txn, struct far_error *err);

#endif
