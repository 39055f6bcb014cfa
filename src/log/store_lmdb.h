/* The parts of the store in LMDB know each other by this: store_lmdb.c (transactions, rows, opening),
 * store_lmdb_meta.c (the meta record) and store_lmdb_events.c (events, segments). */
#ifndef FAR_LOG_STORE_LMDB_H
#define FAR_LOG_STORE_LMDB_H

#include "log/store.h"

#include <lmdb.h>

enum { LMDB_STRETCH_BYTES = 24 + 2 * FAR_HEAD_SIZE, LMDB_OLDER_BYTES = FAR_STORE_OLDER_MAX * LMDB_STRETCH_BYTES + 8 };

struct lmdb_store {
    struct far_store store; /* first */
    MDB_env *env;
    MDB_dbi meta, events, states[2], history, segments;
    bool has_history, has_segments; /* a folder of an older version, opened for reading, has none */
    uint64_t committed_index; /* applied index of the last commit */
    bool read_only;
};

struct lmdb_kv {
    struct far_kv kv; /* first */
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_cursor *cursor;
    MDB_cursor *place; /* in a write transaction: keys that follow each other are found without a way down from the root */
    bool is_written; /* NULL until the first seek */
};

struct lmdb_txn {
    struct far_store_txn txn; /* first */
    MDB_txn *txn_lmdb;
    int active;
    struct lmdb_kv state, install, history;
    uint64_t compacted_seq;         /* as it lies in the store */
    struct far_slice configuration; /* as it lies in the store, borrowed from it */
    uint8_t older[LMDB_OLDER_BYTES]; /* the record of stretches, as it lies in the store */
    size_t older_len;
};

/* LMDB's error as ours. */
int far_lmdb_fail(struct far_error *err, int code, const char *what);
/* Of a write that failed: the disk's own reason. */
int far_lmdb_cause(MDB_env *env, int code);

static inline MDB_val far_lmdb_val(struct far_slice slice)
{
    return (MDB_val){.mv_size = slice.len, .mv_data = (void *)(uintptr_t)slice.data};
}

static inline struct far_slice far_lmdb_slice(MDB_val v)
{
    return far_slice(v.mv_data, v.mv_size);
}

/* store_lmdb_meta.c: the meta of a new transaction, from the store; a new store has none. And back, at its commit. */
int far_lmdb_meta_read(struct lmdb_store *store, struct lmdb_txn *txn, struct far_error *err);
int far_lmdb_meta_write(struct lmdb_store *store, struct lmdb_txn *txn, struct far_error *err);
/* Is the record what was written, or not there yet? */
bool far_lmdb_meta_is_whole(MDB_txn *txn, MDB_dbi meta);

/* Of struct far_store_ops. */
int far_lmdb_event_put(struct far_store_txn *base, uint64_t seq, struct far_slice row, struct far_error *err);
int far_lmdb_event_row(struct far_store_txn *base, uint64_t seq, struct far_slice *ret_row, struct far_error *err);
int far_lmdb_event_seek(struct far_store_txn *base, uint64_t seq, uint64_t *ret_seq, struct far_error *err);
int far_lmdb_event_remove(struct far_store_txn *base, uint64_t from, uint64_t to, size_t max, size_t *ret_count,
                          struct far_error *err);
int far_lmdb_segment_seek(struct far_store_txn *base, uint64_t seq, struct far_segment *ret_segment, struct far_error *err);
int far_lmdb_segment_put(struct far_store_txn *base, const struct far_segment *segment, struct far_error *err);
int far_lmdb_segment_remove(struct far_store_txn *base, uint64_t last_seq, struct far_error *err);
void far_lmdb_sizes(struct far_store_txn *base, struct far_store_sizes *ret_sizes);

#endif
