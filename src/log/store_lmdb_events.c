/* The tables of events and of segments in LMDB: see store_lmdb.h. */
#include "base/hash.h"
#include "log/segment.h"
#include "log/store_lmdb.h"

enum { SEGMENT_RECORD = 104 };

static MDB_txn *lmdb_of(struct far_store_txn *base)
{
    return ((struct lmdb_txn *)(void *)base)->txn_lmdb;
}

static struct lmdb_store *store_of(struct far_store_txn *base)
{
    return (struct lmdb_store *)(void *)base->store;
}

/* ---- events ---- */

int far_lmdb_event_put(struct far_store_txn *base, uint64_t seq, struct far_slice row, struct far_error *err)
{
    struct lmdb_store *store = store_of(base);
    uint8_t key[8];
    far_put_be64(key, seq);
    MDB_val k = far_lmdb_val(far_slice(key, sizeof key)), v = far_lmdb_val(row);
    unsigned flags = seq > base->meta.last_seq ? MDB_APPEND : 0;
    int rc = mdb_put(lmdb_of(base), store->events, &k, &v, flags);
    return rc == 0 ? 0 : far_lmdb_fail(err, far_lmdb_cause(store->env, rc), "write an event");
}

int far_lmdb_event_row(struct far_store_txn *base, uint64_t seq, struct far_slice *ret_row, struct far_error *err)
{
    uint8_t key[8];
    far_put_be64(key, seq);
    MDB_val k = far_lmdb_val(far_slice(key, sizeof key)), v;
    int rc = mdb_get(lmdb_of(base), store_of(base)->events, &k, &v);
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? FAR_NOT_FOUND : far_lmdb_fail(err, rc, "read an event");
    }
    *ret_row = far_lmdb_slice(v);
    return 0;
}

/* A cursor at the first key >= seq of a table; MDB_NOTFOUND without one. */
static int cursor_at(struct far_store_txn *base, MDB_dbi dbi, uint64_t seq, MDB_cursor **ret_cursor, MDB_val *ret_key,
                     MDB_val *ret_value)
{
    uint8_t key[8];
    far_put_be64(key, seq);
    int rc = mdb_cursor_open(lmdb_of(base), dbi, ret_cursor);
    if (rc != 0) {
        return rc;
    }
    *ret_key = far_lmdb_val(far_slice(key, sizeof key));
    rc = mdb_cursor_get(*ret_cursor, ret_key, ret_value, MDB_SET_RANGE);
    if (rc != 0) {
        mdb_cursor_close(*ret_cursor);
        *ret_cursor = NULL;
    }
    return rc;
}

static int key_of(MDB_val key, uint64_t at_least, uint64_t *ret_seq, struct far_error *err)
{
    *ret_seq = key.mv_size == 8 ? far_get_be64(key.mv_data) : 0;
    return *ret_seq >= at_least && *ret_seq > 0
               ? 0
               : far_fail(err, FAR_CORRUPT, "store: look for an event: a page leads to another place than its key says");
}

int far_lmdb_event_seek(struct far_store_txn *base, uint64_t seq, uint64_t *ret_seq, struct far_error *err)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    int rc = cursor_at(base, store_of(base)->events, seq, &cursor, &k, &v);
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? FAR_NOT_FOUND : far_lmdb_fail(err, rc, "look for an event");
    }
    int rv = key_of(k, seq, ret_seq, err);
    mdb_cursor_close(cursor);
    return rv;
}

int far_lmdb_event_remove(struct far_store_txn *base, uint64_t from, uint64_t to, size_t max, size_t *ret_count,
                          struct far_error *err)
{
    MDB_cursor *cursor = NULL;
    MDB_val k, v;
    uint64_t seq = from;
    size_t count = 0;
    int rv = 0, rc = from > to ? MDB_NOTFOUND : cursor_at(base, store_of(base)->events, from, &cursor, &k, &v);
    while (rc == 0 && count < max) {
        rv = key_of(k, seq, &seq, err);
        if (rv != 0 || seq > to) {
            break;
        }
        rc = mdb_cursor_del(cursor, 0);
        count += rc == 0;
        rc = rc != 0 ? rc : mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    if (cursor != NULL) {
        mdb_cursor_close(cursor);
    }
    *ret_count = count;
    if (rv == 0 && rc != 0 && rc != MDB_NOTFOUND) {
        rv = far_lmdb_fail(err, far_lmdb_cause(store_of(base)->env, rc), "remove an event");
    }
    return rv;
}

/* ---- segments ---- */

static void segment_encode(const struct far_segment *segment, const uint8_t key[8], uint8_t p[SEGMENT_RECORD])
{
    far_put_le64(p, segment->first_seq);
    far_put_le64(p + 8, segment->last_seq);
    memcpy(p + 16, segment->base_head, FAR_HEAD_SIZE);
    memcpy(p + 48, segment->head, FAR_HEAD_SIZE);
    far_put_le64(p + 80, segment->bytes);
    far_put_le64(p + 88, segment->index_hash);
    far_put_le64(p + 96, far_hash64_parts(far_slice(key, 8), far_slice(p, 96), far_slice(NULL, 0)));
}

static int segment_decode(MDB_val key, MDB_val value, struct far_segment *ret_segment, struct far_error *err)
{
    const uint8_t *p = value.mv_data;
    if (key.mv_size != 8 || value.mv_size != SEGMENT_RECORD ||
        far_get_le64(p + 96) != far_hash64_parts(far_lmdb_slice(key), far_slice(p, 96), far_slice(NULL, 0))) {
        return far_fail(err, FAR_CORRUPT, "store, table segments: a record is not what was written");
    }
    *ret_segment = (struct far_segment){.first_seq = far_get_le64(p), .last_seq = far_get_le64(p + 8),
                                        .bytes = far_get_le64(p + 80), .index_hash = far_get_le64(p + 88)};
    memcpy(ret_segment->base_head, p + 16, FAR_HEAD_SIZE);
    memcpy(ret_segment->head, p + 48, FAR_HEAD_SIZE);
    return 0;
}

int far_lmdb_segment_seek(struct far_store_txn *base, uint64_t seq, struct far_segment *ret_segment, struct far_error *err)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    uint64_t last;
    int rc = !store_of(base)->has_segments ? MDB_NOTFOUND : cursor_at(base, store_of(base)->segments, seq, &cursor, &k, &v);
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? FAR_NOT_FOUND : far_lmdb_fail(err, rc, "look for a segment");
    }
    int rv = key_of(k, seq, &last, err);
    rv = rv != 0 ? rv : segment_decode(k, v, ret_segment, err);
    mdb_cursor_close(cursor);
    return rv;
}

int far_lmdb_segment_put(struct far_store_txn *base, const struct far_segment *segment, struct far_error *err)
{
    uint8_t key[8], record[SEGMENT_RECORD];
    far_put_be64(key, segment->last_seq);
    segment_encode(segment, key, record);
    MDB_val k = far_lmdb_val(far_slice(key, sizeof key)), v = far_lmdb_val(far_slice(record, sizeof record));
    int rc = mdb_put(lmdb_of(base), store_of(base)->segments, &k, &v, 0);
    return rc == 0 ? 0 : far_lmdb_fail(err, far_lmdb_cause(store_of(base)->env, rc), "note a segment");
}

int far_lmdb_segment_remove(struct far_store_txn *base, uint64_t last_seq, struct far_error *err)
{
    uint8_t key[8];
    far_put_be64(key, last_seq);
    MDB_val k = far_lmdb_val(far_slice(key, sizeof key));
    int rc = mdb_del(lmdb_of(base), store_of(base)->segments, &k, NULL);
    return rc == 0 ? 0 : far_lmdb_fail(err, far_lmdb_cause(store_of(base)->env, rc), "remove a segment");
}

/* ---- sizes ---- */

static void size_of(struct far_store_txn *base, MDB_dbi dbi, uint64_t *ret_rows, uint64_t *ret_bytes)
{
    MDB_stat stat;
    if (mdb_stat(lmdb_of(base), dbi, &stat) == 0) {
        *ret_rows = stat.ms_entries;
        *ret_bytes = (uint64_t)stat.ms_psize * (stat.ms_leaf_pages + stat.ms_branch_pages + stat.ms_overflow_pages);
    }
}

void far_lmdb_sizes(struct far_store_txn *base, struct far_store_sizes *ret_sizes)
{
    *ret_sizes = (struct far_store_sizes){0};
    size_of(base, store_of(base)->events, &ret_sizes->event_rows, &ret_sizes->event_bytes);
    if (store_of(base)->has_history) {
        size_of(base, store_of(base)->history, &ret_sizes->history_rows, &ret_sizes->history_bytes);
    }
}
