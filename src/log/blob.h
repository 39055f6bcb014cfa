/* A counted, immutable run of bytes: an entry's data, shared by the raft cache, the WAL writer, the network and the apply
 * thread. Any thread may ref and unref. */
#ifndef FAR_LOG_BLOB_H
#define FAR_LOG_BLOB_H

#include "base/bytes.h"

#include <stdatomic.h>
#include <stdlib.h>

struct far_blob {
    _Atomic unsigned refs;
    size_t len;
    uint8_t data[];
};

/* One reference; data is a copy. NULL without memory. */
static inline struct far_blob *far_blob_new(const void *data, size_t len)
{
    struct far_blob *blob = malloc(sizeof *blob + len);
    if (blob != NULL) {
        atomic_init(&blob->refs, 1);
        blob->len = len;
        if (len > 0) {
            memcpy(blob->data, data, len);
        }
    }
    return blob;
}

static inline struct far_blob *far_blob_ref(struct far_blob *blob)
{
    atomic_fetch_add(&blob->refs, 1);
    return blob;
}

static inline void far_blob_unref(struct far_blob *blob)
{
    if (blob != NULL && atomic_fetch_sub(&blob->refs, 1) == 1) {
        free(blob);
    }
}

static inline struct far_slice far_blob_slice(const struct far_blob *blob)
{
    return far_slice(blob->data, blob->len);
}

#endif
