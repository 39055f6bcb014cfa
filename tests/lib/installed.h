/* Test helper: a store as after a state was installed: the rows of another one, and no event before them. */
#ifndef FAR_TESTS_LIB_INSTALLED_H
#define FAR_TESTS_LIB_INSTALLED_H

#include "fsm/state.h"
#include "log/store.h"

/* Into the write transaction; after cm.h. */
static inline void far_test_install(struct far_store_txn *source, struct far_store_txn *txn)
{
    struct far_kv *from = far_store_kv(source), *to = far_store_kv(txn);
    struct far_slice key, value;
    struct far_key at = {.len = 0};
    struct far_error err = {0};
    while (from->ops->seek(from, far_slice(at.bytes, at.len), &key, &value, &err) == 0) {
        assert_int_equal(to->ops->put(to, key, value, &err), 0);
        memcpy(at.bytes, key.data, key.len);
        at.bytes[key.len] = 0;
        at.len = key.len + 1;
    }
    struct far_store_meta *meta = far_store_meta(txn);
    *meta = *far_store_meta(source);
    meta->first_seq = meta->last_seq + 1;
    memcpy(meta->base_head, meta->head, FAR_HEAD_SIZE);
}

#endif
