/* The key-value interface: an ordered map of bytes to bytes, the only thing the pure core sees of any storage.
 *
 * Three implementations: memory (kv_memory.h), LMDB (log/store_lmdb.c) and an overlay on either (kv_overlay.h). Keys are
 * 1 to 120 bytes, values at most FAR_KV_VALUE_MAX, in the order of memcmp. One thread at a time. Returned slices live
 * until the next call that changes the map, or the end of its transaction. */
#ifndef FAR_FSM_KV_H
#define FAR_FSM_KV_H

#include "base/bytes.h"
#include "base/error.h"

enum { FAR_KV_KEY_MAX = 120, FAR_KV_VALUE_MAX = 1908 }; /* 1,900 bytes of row and 8 of checksum */

struct far_kv;

struct far_kv_ops {
    /* FAR_NOT_FOUND without filling err if there is no such key. */
    int (*get)(struct far_kv *kv, struct far_slice key, struct far_slice *ret_value, struct far_error *err);
    int (*put)(struct far_kv *kv, struct far_slice key, struct far_slice value, struct far_error *err);
    /* A put by somebody who knows that there is no such key. NULL: put does. */
    int (*add)(struct far_kv *kv, struct far_slice key, struct far_slice value, struct far_error *err);
    /* Deleting what is not there is FAR_NOT_FOUND. */
    int (*del)(struct far_kv *kv, struct far_slice key, struct far_error *err);
    /* The first pair whose key is >= the given one (an empty key: the first of all); FAR_NOT_FOUND after the last. */
    int (*seek)(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key, struct far_slice *ret_value,
                struct far_error *err);
    /* The last pair whose key is < the given one; FAR_NOT_FOUND before the first. */
    int (*seek_before)(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key,
                       struct far_slice *ret_value, struct far_error *err);
};

/* Embedded as the first member of each implementation. */
struct far_kv {
    const struct far_kv_ops *ops;
};

#endif
