/* The store in LMDB: one environment with the databases meta, state0, state1, events, history and segments.
 *
 * A commit writes its pages, syncs them, then writes the meta page without a sync (MDB_NOMETASYNC): a power cut may undo
 * the last commit, so what counts as durable is the commit before it, whose meta page was synced together with the pages
 * of this one. At open everything is synced once. LMDB's own errors become FAR_LIMIT (disk, map or reader table full),
 * FAR_CORRUPT (its structure is broken) or FAR_IO. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fallocate */
#endif
#include "log/store_lmdb.h"

#include "base/assert.h"
#include "log/segments.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DATABASES = 6, PROBE_BYTES = 1024 * 1024 };
#ifdef __SANITIZE_THREAD__ /* of gcc: ThreadSanitizer leaves a program 1.5 TiB of addresses, often less in one piece */
static const size_t MAP_BYTES_DEFAULT = (size_t)1 << 34;
#else
static const size_t MAP_BYTES_DEFAULT = (size_t)1 << 40;
#endif
static const size_t MAP_BYTES_LEAST = (size_t)1 << 34;

int far_lmdb_fail(struct far_error *err, int code, const char *what)
{
    switch (code) {
    case MDB_MAP_FULL:
    case MDB_READERS_FULL:
    case MDB_TXN_FULL:
        return far_fail(err, FAR_LIMIT, "store: %s: %s", what, mdb_strerror(code));
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_NOTFOUND:
        return far_fail(err, FAR_CORRUPT, "store: %s: %s", what, mdb_strerror(code));
    default:
        return code > 0 ? far_fail_errno(err, FAR_IO, code, "store: %s", what)
                        : far_fail(err, FAR_IO, "store: %s: %s", what, mdb_strerror(code));
    }
}

/* LMDB says EIO also when the disk took only a part of a write: the usual way in which it becomes full. Is it? Room is asked
 * for behind the end of the file, and given back. */
int far_lmdb_cause(MDB_env *env, int code)
{
    mdb_filehandle_t fd;
    struct stat st;
    if (code != EIO || mdb_env_get_fd(env, &fd) != 0 || fstat(fd, &st) != 0) {
        return code;
    }
    if (fallocate(fd, 0, st.st_size, PROBE_BYTES) == 0) {
        return ftruncate(fd, st.st_size) == 0 ? code : errno;
    }
    return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? errno : code;
}

/* ---- the key-value interface ---- */

static int kv_place(struct lmdb_kv *kv)
{
    return kv->place != NULL ? 0 : mdb_cursor_open(kv->txn, kv->dbi, &kv->place);
}

static int kv_get(struct far_kv *base, struct far_slice key, struct far_slice *ret_value, struct far_error *err)
{
    struct lmdb_kv *kv = (struct lmdb_kv *)base;
    MDB_val k = far_lmdb_val(key), v;
    int rc = key.len == 0 ? MDB_NOTFOUND : kv->is_written ? kv_place(kv) : mdb_get(kv->txn, kv->dbi, &k, &v);
    rc = rc == 0 && kv->is_written ? mdb_cursor_get(kv->place, &k, &v, MDB_SET) : rc;
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? FAR_NOT_FOUND : far_lmdb_fail(err, rc, "read a row");
    }
    *ret_value = far_lmdb_slice(v);
    return 0;
}

static int kv_put(struct far_kv *base, struct far_slice key, struct far_slice value, struct far_error *err)
{
    struct lmdb_kv *kv = (struct lmdb_kv *)base;
    if (key.len == 0 || key.len > FAR_KV_KEY_MAX || value.len > FAR_KV_VALUE_MAX) {
        return far_fail(err, FAR_LIMIT, "a row of %zu bytes under a key of %zu", value.len, key.len);
    }
    MDB_val k = far_lmdb_val(key), v = far_lmdb_val(value);
    int rc = kv_place(kv);
    rc = rc == 0 ? mdb_cursor_put(kv->place, &k, &v, 0) : rc;
    return rc == 0 ? 0 : far_lmdb_fail(err, far_lmdb_cause(mdb_txn_env(kv->txn), rc), "write a row");
}

static int kv_del(struct far_kv *base, struct far_slice key, struct far_error *err)
{
    struct lmdb_kv *kv = (struct lmdb_kv *)base;
    MDB_val k = far_lmdb_val(key), v;
    int rc = key.len == 0 ? MDB_NOTFOUND : kv_place(kv);
    rc = rc == 0 ? mdb_cursor_get(kv->place, &k, &v, MDB_SET) : rc;
    rc = rc == 0 ? mdb_cursor_del(kv->place, 0) : rc;
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? FAR_NOT_FOUND : far_lmdb_fail(err, rc, "remove a row");
    }
    return 0;
}

/* Position at the first pair >= key (an empty key: the first), or with `before` at the last pair < key. */
static int kv_position(struct lmdb_kv *kv, struct far_slice key, bool before, MDB_val *ret_key, MDB_val *ret_value)
{
    int rc = kv->cursor != NULL ? 0 : mdb_cursor_open(kv->txn, kv->dbi, &kv->cursor);
    if (rc != 0) {
        return rc;
    }
    *ret_key = far_lmdb_val(key);
    if (key.len == 0) {
        return before ? MDB_NOTFOUND : mdb_cursor_get(kv->cursor, ret_key, ret_value, MDB_FIRST);
    }
    rc = mdb_cursor_get(kv->cursor, ret_key, ret_value, MDB_SET_RANGE);
    if (!before) {
        return rc;
    }
    if (rc == MDB_NOTFOUND) {
        return mdb_cursor_get(kv->cursor, ret_key, ret_value, MDB_LAST);
    }
    return rc != 0 ? rc : mdb_cursor_get(kv->cursor, ret_key, ret_value, MDB_PREV);
}

static int kv_seek_either(struct far_kv *base, struct far_slice key, bool before, struct far_slice *ret_key,
                          struct far_slice *ret_value, struct far_error *err)
{
    MDB_val k, v;
    int rc = kv_position((struct lmdb_kv *)base, key, before, &k, &v);
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? FAR_NOT_FOUND : far_lmdb_fail(err, rc, "look for a row");
    }
    *ret_key = far_lmdb_slice(k);
    *ret_value = far_lmdb_slice(v);
    if (key.len > 0 && before != (far_slice_compare(*ret_key, key) < 0)) { /* who walks by keys would walk in a circle */
        return far_fail(err, FAR_CORRUPT, "store: look for a row: a page leads to another place than its key says");
    }
    return 0;
}

static int kv_seek(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key, struct far_slice *ret_value,
                   struct far_error *err)
{
    return kv_seek_either(kv, key, false, ret_key, ret_value, err);
}

static int kv_seek_before(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key,
                          struct far_slice *ret_value, struct far_error *err)
{
    return kv_seek_either(kv, key, true, ret_key, ret_value, err);
}

static const struct far_kv_ops kv_ops = {
    .get = kv_get, .put = kv_put, .del = kv_del, .seek = kv_seek, .seek_before = kv_seek_before};

static void kv_close_cursor(struct lmdb_kv *kv)
{
    if (kv->cursor != NULL) {
        mdb_cursor_close(kv->cursor);
        kv->cursor = NULL;
    }
    if (kv->place != NULL) {
        mdb_cursor_close(kv->place);
        kv->place = NULL;
    }
}

static void point_kvs(struct lmdb_store *store, struct lmdb_txn *txn)
{
    kv_close_cursor(&txn->state);
    kv_close_cursor(&txn->install);
    kv_close_cursor(&txn->history);
    struct lmdb_kv kv = {.kv = {.ops = &kv_ops}, .txn = txn->txn_lmdb, .is_written = txn->txn.write};
    txn->state = txn->install = txn->history = kv;
    txn->state.dbi = store->states[txn->active];
    txn->install.dbi = store->states[1 - txn->active];
    txn->history.dbi = store->history;
    txn->txn.kv = &txn->state.kv;
    txn->txn.install_kv = txn->txn.write ? &txn->install.kv : NULL;
    txn->txn.history = store->has_history ? &txn->history.kv : NULL;
}

/* ---- transactions ---- */

/* Frees what is around an LMDB transaction that has ended. */
static void txn_free(struct lmdb_txn *txn)
{
    free(txn);
}

static void close_cursors(struct lmdb_txn *txn)
{
    kv_close_cursor(&txn->state);
    kv_close_cursor(&txn->install);
    kv_close_cursor(&txn->history);
}

static void give_up(struct far_store_txn *base)
{
    struct lmdb_txn *txn = (struct lmdb_txn *)base;
    close_cursors(txn);
    mdb_txn_abort(txn->txn_lmdb);
    txn_free(txn);
}

static int begin(struct far_store *base, bool write, struct far_store_txn **ret_txn, struct far_error *err)
{
    struct lmdb_store *store = (struct lmdb_store *)base;
    struct lmdb_txn *txn = calloc(1, sizeof *txn);
    if (txn == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory");
    }
    int rc = mdb_txn_begin(store->env, NULL, write ? 0 : MDB_RDONLY, &txn->txn_lmdb);
    if (rc != 0) {
        txn_free(txn);
        return far_lmdb_fail(err, rc, "begin a transaction");
    }
    txn->txn.store = base;
    txn->txn.write = write;
    int rv = far_lmdb_meta_read(store, txn, err);
    if (rv != 0) {
        give_up(&txn->txn);
        return rv;
    }
    point_kvs(store, txn);
    *ret_txn = &txn->txn;
    return 0;
}

static int commit(struct far_store_txn *base, struct far_error *err)
{
    struct lmdb_txn *txn = (struct lmdb_txn *)base;
    struct lmdb_store *store = (struct lmdb_store *)base->store;
    int rv = base->write ? far_lmdb_meta_write(store, txn, err) : 0;
    if (rv != 0) {
        give_up(base);
        return rv;
    }
    close_cursors(txn);
    int rc = mdb_txn_commit(txn->txn_lmdb);
    if (rc != 0) {
        rv = far_lmdb_fail(err, far_lmdb_cause(store->env, rc), "commit");
    } else if (base->write) {
        store->store.durable_index = store->committed_index;
        store->committed_index = base->meta.applied_index;
    }
    txn_free(txn);
    return rv;
}

static int empty(struct lmdb_txn *txn, MDB_dbi dbi, struct far_error *err)
{
    int rc = mdb_drop(txn->txn_lmdb, dbi, 0);
    return rc == 0 ? 0 : far_lmdb_fail(err, rc, "empty a table");
}

static int install_clear(struct far_store_txn *base, struct far_error *err)
{
    struct lmdb_txn *txn = (struct lmdb_txn *)base;
    return empty(txn, txn->install.dbi, err);
}

static int install_switch(struct far_store_txn *base, struct far_error *err)
{
    struct lmdb_txn *txn = (struct lmdb_txn *)base;
    struct lmdb_store *store = (struct lmdb_store *)base->store;
    close_cursors(txn);
    int rv = empty(txn, txn->state.dbi, err);
    rv = rv != 0 ? rv : empty(txn, store->history, err);
    if (rv == 0) {
        txn->active = 1 - txn->active;
        point_kvs(store, txn);
    }
    return rv;
}

static int sync_all(struct far_store *base, struct far_error *err)
{
    struct lmdb_store *store = (struct lmdb_store *)base;
    int rc = mdb_env_sync(store->env, 1);
    if (rc != 0) {
        return far_lmdb_fail(err, rc, "sync");
    }
    base->durable_index = store->committed_index;
    return 0;
}

/* ---- opening ---- */

static void close_store(struct far_store *base)
{
    struct lmdb_store *store = (struct lmdb_store *)base;
    if (store->env != NULL) {
        if (!store->read_only) {
            (void)mdb_env_sync(store->env, 1);
        }
        mdb_env_close(store->env);
    }
    free(store->store.segments_dir);
    free(store);
}

static const struct far_store_ops store_ops = {
    .begin = begin,
    .commit = commit,
    .abort = give_up,
    .event_put = far_lmdb_event_put,
    .event_row = far_lmdb_event_row,
    .event_seek = far_lmdb_event_seek,
    .event_remove = far_lmdb_event_remove,
    .segment_seek = far_lmdb_segment_seek,
    .segment_put = far_lmdb_segment_put,
    .segment_remove = far_lmdb_segment_remove,
    .sizes = far_lmdb_sizes,
    .install_clear = install_clear,
    .install_switch = install_switch,
    .sync = sync_all,
    .close = close_store,
};

/* May a table be made that is not there? All of them in a new store, the newer ones in an older store; in a damaged one it was there,
 * and making it would change what may still be read otherwise. */
static bool may_create(const struct lmdb_store *store, MDB_txn *txn, bool is_new, const MDB_dbi *handle)
{
    bool is_newer = handle == &store->history || handle == &store->segments;
    return !store->read_only && (is_new || (is_newer && far_lmdb_meta_is_whole(txn, store->meta)));
}

static bool has_no_tables(MDB_txn *txn)
{
    MDB_dbi main_table;
    MDB_stat stat;
    return mdb_dbi_open(txn, NULL, 0, &main_table) == 0 && mdb_stat(txn, main_table, &stat) == 0 && stat.ms_entries == 0;
}

static int open_databases(struct lmdb_store *store, struct far_error *err)
{
    const char *const names[DATABASES] = {"meta", "events", "state0", "state1", "history", "segments"};
    MDB_dbi *const handles[DATABASES] = {&store->meta, &store->events, &store->states[0], &store->states[1],
                                         &store->history, &store->segments};
    MDB_txn *txn;
    int rc = mdb_txn_begin(store->env, NULL, store->read_only ? MDB_RDONLY : 0, &txn);
    if (rc != 0) {
        return far_lmdb_fail(err, rc, "begin a transaction");
    }
    bool is_new = has_no_tables(txn);
    const char *missing = NULL;
    for (int i = 0; rc == 0 && i < DATABASES; i++) {
        rc = mdb_dbi_open(txn, names[i], 0, handles[i]);
        if (rc == MDB_NOTFOUND && may_create(store, txn, is_new, handles[i])) {
            rc = mdb_dbi_open(txn, names[i], MDB_CREATE, handles[i]);
        }
        bool is_newer = handles[i] == &store->history || handles[i] == &store->segments;
        store->has_history = store->has_history || (rc == 0 && handles[i] == &store->history);
        store->has_segments = store->has_segments || (rc == 0 && handles[i] == &store->segments);
        rc = rc == MDB_NOTFOUND && is_newer && store->read_only ? 0 : rc;
        missing = rc == MDB_NOTFOUND ? names[i] : NULL;
    }
    if (rc != 0) {
        mdb_txn_abort(txn);
        return missing != NULL ? far_fail(err, FAR_CORRUPT, "store, table %s: missing", missing)
                               : far_lmdb_fail(err, rc, "open its tables");
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 ? 0 : far_lmdb_fail(err, rc, "open its tables");
}

/* A terabyte, or as much of it as a limit on the address space leaves (ulimit -v, valgrind). */
static size_t default_map(void)
{
    size_t bytes = MAP_BYTES_DEFAULT;
    while (bytes > MAP_BYTES_LEAST) {
        void *map = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map != MAP_FAILED) {
            munmap(map, bytes);
            break;
        }
        bytes /= 2;
    }
    return bytes;
}

static int open_environment(struct lmdb_store *store, const char *dir, size_t map_bytes, struct far_error *err)
{
    unsigned flags = MDB_NOTLS | (store->read_only ? MDB_RDONLY : MDB_NOMETASYNC);
    int rc = mdb_env_create(&store->env);
    rc = rc != 0 ? rc : mdb_env_set_maxdbs(store->env, DATABASES);
    rc = rc != 0 ? rc : mdb_env_set_maxreaders(store->env, FAR_STORE_READERS_MAX);
    if (!store->read_only) { /* who only reads maps what is there, and not what a damaged page points to */
        rc = rc != 0 ? rc : mdb_env_set_mapsize(store->env, map_bytes == 0 ? default_map() : map_bytes);
    }
    rc = rc != 0 ? rc : mdb_env_open(store->env, dir, flags, 0600);
    if (rc != 0) {
        int rv = far_lmdb_fail(err, rc, "open");
        far_error_context(err, "folder '%s'", dir);
        return rv;
    }
    int dead;
    (void)mdb_reader_check(store->env, &dead);
    return 0;
}

/* The folder of segments, without what a crash left there. */
static int open_segments(struct lmdb_store *store, const char *dir, struct far_error *err)
{
    size_t size = strlen(dir) + sizeof "/segments";
    store->store.segments_dir = malloc(size);
    if (store->store.segments_dir == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory");
    }
    snprintf(store->store.segments_dir, size, "%s/segments", dir);
    return store->read_only ? 0 : far_segments_sweep(&store->store, err);
}

int far_store_open_lmdb(const char *dir, size_t map_bytes, bool read_only, struct far_store **ret_store,
                        struct far_error *err)
{
    struct lmdb_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory");
    }
    store->store.ops = &store_ops;
    store->read_only = read_only;
    struct far_store_txn *txn;
    int rv = open_environment(store, dir, map_bytes, err);
    rv = rv != 0 ? rv : open_databases(store, err);
    rv = rv != 0 ? rv : begin(&store->store, false, &txn, err); /* checks the meta record */
    if (rv == 0) {
        store->committed_index = txn->meta.applied_index;
        store->store.durable_index = read_only ? txn->meta.applied_index : 0;
        give_up(txn);
        rv = read_only ? 0 : sync_all(&store->store, err);
    }
    rv = rv != 0 ? rv : open_segments(store, dir, err);
    if (rv != 0) {
        close_store(&store->store);
        return rv;
    }
    *ret_store = &store->store;
    return 0;
}
