/* The walk: see walk.h. */
#include "log/walk.h"

#include "log/history.h"
#include "log/segments.h"

typedef unsigned long long llu;

/* Each row is found by its key. A damaged key in an inner page may send whoever looks for one row to the wrong leaf, while who
 * goes from row to row passes the place without noticing. */
static int find_each(struct far_kv *kv, struct far_error *err)
{
    uint8_t at[FAR_KV_KEY_MAX + 1];
    size_t at_len = 0;
    struct far_slice key, value, found;
    int rv;
    while ((rv = kv->ops->seek(kv, far_slice(at, at_len), &key, &value, err)) == 0) {
        if (key.len == 0 || key.len > FAR_KV_KEY_MAX) {
            return far_fail(err, FAR_CORRUPT, "store: a key of %zu bytes", key.len);
        }
        memcpy(at, key.data, key.len);
        at[key.len] = 0;
        at_len = key.len + 1;
        rv = kv->ops->get(kv, far_slice(at, at_len - 1), &found, err);
        if (rv == FAR_NOT_FOUND || (rv == 0 && !far_slice_equal(found, value))) {
            return far_fail(err, FAR_CORRUPT, "store, table %u: a row is not found by its key: a page leads to another place",
                            at[0]);
        }
        if (rv != 0) {
            return rv;
        }
    }
    return rv == FAR_NOT_FOUND ? 0 : rv;
}

static int walk_rows(struct far_store_txn *txn, struct far_error *err)
{
    struct far_hash128 digest;
    uint64_t rows;
    int rv = far_state_digest_walk(far_store_kv(txn), &digest, &rows, err);
    if (rv == 0 && !far_hash128_equal(digest, far_store_meta(txn)->digest)) {
        rv = far_fail(err, FAR_CORRUPT, "store: the rows do not give the digest that was kept at entry %llu",
                      (llu)far_store_meta(txn)->applied_index);
    }
    return rv != 0 ? rv : find_each(far_store_kv(txn), err);
}

/* The event's row is whole, or a segment is said to hold it: then *ret_next is behind that. */
static int walk_event(struct far_store_txn *txn, uint64_t seq, uint64_t *ret_next, struct far_error *err)
{
    const struct far_store_ops *ops = txn->store->ops;
    struct far_slice row;
    struct far_segment segment;
    struct far_event event;
    int rv = ops->event_row(txn, seq, &row, err);
    if (rv == 0) {
        *ret_next = seq + 1;
        return far_event_row_decode(row, &event, NULL, err);
    }
    rv = rv == FAR_NOT_FOUND && ops->segment_seek != NULL ? ops->segment_seek(txn, seq, &segment, err) : rv;
    if (rv == 0 && segment.first_seq <= seq) {
        *ret_next = segment.last_seq + 1;
        return 0;
    }
    return rv == 0 || rv == FAR_NOT_FOUND ? far_fail(err, FAR_CORRUPT, "store, table events, seq %llu: missing", (llu)seq) : rv;
}

static int walk_events(struct far_store_txn *txn, struct far_error *err)
{
    int rv = 0;
    for (uint64_t seq = far_store_meta(txn)->first_seq; rv == 0 && seq <= far_store_meta(txn)->last_seq;) {
        rv = walk_event(txn, seq, &seq, err);
    }
    return rv;
}

static int walk_segment(struct far_store_txn *txn, struct far_walk *walk, struct far_error *err)
{
    const struct far_store_ops *ops = txn->store->ops;
    struct far_segment segment;
    int rv = ops->segment_seek == NULL ? FAR_NOT_FOUND : ops->segment_seek(txn, walk->segment_seq + 1, &segment, err);
    if (rv != 0) {
        walk->segment_seq = 0; /* from the oldest again */
        return rv == FAR_NOT_FOUND ? 0 : rv;
    }
    walk->segment_seq = segment.last_seq;
    return far_segments_check(txn, &segment, err);
}

static int walk_history(struct far_store_txn *txn, struct far_error *err)
{
    struct far_history_walk walk = {.at_len = 0};
    int rv;
    if (far_store_history(txn) == NULL) {
        return 0;
    }
    while ((rv = far_history_next(txn, &walk, err)) == 0) {
        if (!walk.is_whole) {
            return far_fail(err, FAR_CORRUPT, "store, table history: what was kept of a row at event %llu is damaged",
                            (llu)walk.epoch);
        }
    }
    return rv == FAR_NOT_FOUND ? 0 : rv;
}

int far_walk(struct far_store *store, struct far_walk *walk, struct far_error *err)
{
    struct far_store_txn *txn;
    int rv = far_store_begin(store, false, &txn, err);
    if (rv != 0) {
        return rv;
    }
    rv = walk_rows(txn, err);
    rv = rv != 0 ? rv : walk_events(txn, err);
    rv = rv != 0 ? rv : walk_segment(txn, walk, err);
    rv = rv != 0 ? rv : walk_history(txn, err);
    far_store_abort(txn);
    return rv;
}
