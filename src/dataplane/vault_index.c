/* The index of the vault in LMDB: see vault_index.h. Its memory map grows by doubling; transactions hold `growing` shared.
 *
 * The file is walked below the library at each open. While a writer has it open a file `in-use` lies beside it; who finds one left by a
 * crash also has all of it read through LMDB, in a child process: what kills that one costs a rebuild, and not the node. */
#define _GNU_SOURCE
#include "dataplane/vault_index.h"

#include "base/assert.h"
#include "base/child.h"
#include "base/file.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAP_BYTES_FIRST = 64 << 20, READERS_MAX = 510, CHECK_BYTES = 4, PLACE_BYTES = 16, ROW_BYTES = FAR_INDEX_ROW_VALUE - CHECK_BYTES };
_Static_assert((int)FAR_INDEX_NOTHING == MDB_NOTFOUND && (int)FAR_INDEX_BROKEN == MDB_CORRUPTED, "codes of LMDB");
enum { WRITTEN_AT_ONCE = 256 << 10 }; /* the most, by LMDB */
static const char position_key[] = "position";

struct far_index {
    MDB_env *env;
    MDB_dbi dbi;
    bool dbi_open;
    char dir[4096];
    char in_use[4096]; /* path of the file that says so; "": read only */
    uint8_t vault_uuid[16];
    uint64_t others; /* rows that are no records; atomic */
    pthread_rwlock_t growing; /* no transaction may live while the map is resized */
};

struct far_index_txn {
    struct far_index *index;
    MDB_txn *txn;
    int64_t others; /* rows that are no records: so many more */
};

static uint32_t check_of(const uint8_t vault_uuid[16], struct far_slice key, struct far_slice payload)
{
    return (uint32_t)far_hash64_parts(far_slice(vault_uuid, 16), key, payload);
}

bool far_index_value_good(const uint8_t vault_uuid[16], struct far_slice key, struct far_slice value)
{
    if (value.len < CHECK_BYTES || value.len > FAR_INDEX_VALUE_MAX) {
        return false;
    }
    size_t len = value.len - CHECK_BYTES;
    return far_get_le32(value.data + len) == check_of(vault_uuid, key, far_slice(value.data, len));
}

static void encode_place(struct far_place place, uint8_t bytes[PLACE_BYTES])
{
    far_put_le32(bytes, place.pack);
    far_put_le32(bytes + 4, place.length);
    far_put_le64(bytes + 8, place.offset);
}

static struct far_place decode_place(const uint8_t bytes[PLACE_BYTES])
{
    return (struct far_place){
        .pack = far_get_le32(bytes), .length = far_get_le32(bytes + 4), .offset = far_get_le64(bytes + 8)};
}

/* LMDB says of a write that was cut short only that it failed. Is there no room for as much as it writes at once? */
static bool is_disk_full(const char *dir)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    bool is_full = fd < 0 && errno == ENOSPC;
    if (fd >= 0) {
        is_full = fallocate(fd, 0, 0, WRITTEN_AT_ONCE) != 0 && (errno == ENOSPC || errno == EDQUOT);
        close(fd);
    }
    return is_full;
}

static int index_fail(struct far_error *err, const char *dir, int code, const char *what)
{
    if (code == EIO && is_disk_full(dir)) {
        code = ENOSPC;
    }
    if (code == MDB_MAP_FULL || code == MDB_TXN_FULL || code == MDB_READERS_FULL) {
        return far_fail(err, FAR_LIMIT, "%s of the vault: %s", what, mdb_strerror(code));
    }
    if (code > 0) {
        return far_fail_errno(err, FAR_IO, code, "%s of the vault", what);
    }
    return far_fail(err, FAR_CORRUPT, "%s of the vault: %s", what, mdb_strerror(code));
}

/* The value of a key, exactly len bytes of payload. */
static int get_value(struct far_index *index, MDB_txn *txn, struct far_slice name, void *ret_payload, size_t len)
{
    MDB_val key = {.mv_size = name.len, .mv_data = (void *)name.data};
    MDB_val value;
    int code = mdb_get(txn, index->dbi, &key, &value);
    if (code != 0) {
        return code;
    }
    if (value.mv_size != len + CHECK_BYTES ||
        !far_index_value_good(index->vault_uuid, name, far_slice(value.mv_data, value.mv_size))) {
        return MDB_CORRUPTED;
    }
    memcpy(ret_payload, value.mv_data, len);
    return 0;
}

static int put_value(struct far_index *index, MDB_txn *txn, struct far_slice name, const void *payload, size_t len)
{
    uint8_t bytes[FAR_INDEX_VALUE_MAX];
    FAR_ASSERT(len + CHECK_BYTES <= sizeof bytes);
    memcpy(bytes, payload, len);
    far_put_le32(bytes + len, check_of(index->vault_uuid, name, far_slice(bytes, len)));
    MDB_val key = {.mv_size = name.len, .mv_data = (void *)name.data};
    MDB_val value = {.mv_size = len + CHECK_BYTES, .mv_data = bytes};
    return mdb_put(txn, index->dbi, &key, &value, 0);
}

static void others_key(struct far_index_key *ret_key)
{
    far_index_key_begin(ret_key, FAR_INDEX_WORD);
    ret_key->bytes[ret_key->len++] = 'n';
}

static int read_position(struct far_index *index, MDB_txn *txn, struct far_place *ret_position)
{
    uint8_t bytes[PLACE_BYTES];
    struct far_index_key key;
    *ret_position = (struct far_place){0};
    int code = get_value(index, txn, far_slice_str(position_key), bytes, sizeof bytes);
    if (code == 0) {
        *ret_position = decode_place(bytes);
    }
    if (code == 0 || code == MDB_NOTFOUND) {
        others_key(&key);
        code = get_value(index, txn, far_slice(key.bytes, key.len), bytes, 8);
        index->others = code == 0 ? far_get_le64(bytes) : 0;
    }
    return code == MDB_NOTFOUND ? 0 : code;
}

static int open_database(struct far_index *index, bool read_only, struct far_place *ret_position)
{
    MDB_txn *txn = NULL;
    int code = mdb_txn_begin(index->env, NULL, read_only ? MDB_RDONLY : 0, &txn);
    if (code != 0) {
        return code;
    }
    code = mdb_dbi_open(txn, NULL, 0, &index->dbi);
    if (code == 0) {
        code = read_position(index, txn, ret_position);
    }
    if (code != 0) {
        mdb_txn_abort(txn);
        return code;
    }
    index->dbi_open = true;
    return mdb_txn_commit(txn);
}

static int open_once(const char *dir, const uint8_t vault_uuid[16], bool read_only, struct far_index **ret_index,
                     struct far_place *ret_position, struct far_error *err)
{
    struct far_index *index = calloc(1, sizeof *index);
    if (index == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the index of the vault");
    }
    pthread_rwlock_init(&index->growing, NULL);
    memcpy(index->vault_uuid, vault_uuid, 16);
    snprintf(index->dir, sizeof index->dir, "%s", dir);
    int code = mdb_env_create(&index->env);
    if (code == 0) {
        code = mdb_env_set_mapsize(index->env, MAP_BYTES_FIRST);
    }
    if (code == 0) {
        code = mdb_env_set_maxreaders(index->env, READERS_MAX);
    }
    if (code == 0) {
        code = mdb_env_open(index->env, dir, MDB_NOTLS | MDB_NORDAHEAD | (read_only ? MDB_RDONLY : 0), 0600);
    }
    if (code == 0) {
        code = open_database(index, read_only, ret_position);
    }
    if (code != 0) {
        far_index_close(index);
        return index_fail(err, dir, code, "open the index");
    }
    *ret_index = index;
    return 0;
}

int far_index_remove(const char *dir, struct far_error *err)
{
    static const char *const names[] = {"data.mdb", "lock.mdb"};
    char path[4096];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        if (unlink(path) != 0 && errno != ENOENT) {
            return far_fail_errno(err, FAR_IO, errno, "remove '%s'", path);
        }
    }
    return 0;
}

/* ---- after a crash ---- */

struct walk {
    const char *dir;
    const uint8_t *vault_uuid;
};

static int walk_rows(const struct walk *walk, MDB_env *env)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    MDB_dbi dbi;
    MDB_val key, value;
    int code = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    code = code == 0 ? mdb_dbi_open(txn, NULL, 0, &dbi) : code;
    code = code == 0 ? mdb_cursor_open(txn, dbi, &cursor) : code;
    code = code == 0 ? mdb_cursor_get(cursor, &key, &value, MDB_FIRST) : code;
    while (code == 0) {
        bool good = far_index_value_good(walk->vault_uuid, far_slice(key.mv_data, key.mv_size),
                                         far_slice(value.mv_data, value.mv_size));
        code = good ? mdb_cursor_get(cursor, &key, &value, MDB_NEXT) : MDB_CORRUPTED;
    }
    if (cursor != NULL) {
        mdb_cursor_close(cursor);
    }
    if (txn != NULL) {
        mdb_txn_abort(txn);
    }
    return code == MDB_NOTFOUND ? 0 : code;
}

/* In a child. */
static int walk_all(void *arg, struct far_error *err)
{
    const struct walk *walk = arg;
    MDB_env *env = NULL;
    int code = mdb_env_create(&env);
    code = code == 0 ? mdb_env_open(env, walk->dir, MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS, 0600) : code;
    code = code == 0 ? walk_rows(walk, env) : code;
    mdb_env_close(env);
    return code == 0 ? 0 : index_fail(err, walk->dir, code, "walk the index");
}

static void path_of_in_use(const char *dir, char path[4096])
{
    snprintf(path, 4096, "%.4000s/in-use", dir);
}

/* 0: it can be used. FAR_CORRUPT: it cannot. That there is no child is no reason to distrust it. */
static int walk_after_crash(const char *dir, const uint8_t vault_uuid[16], struct far_error *err)
{
    struct walk walk = {.dir = dir, .vault_uuid = vault_uuid};
    char path[4096];
    path_of_in_use(dir, path);
    int rc = access(path, F_OK) == 0 ? far_child_run(walk_all, &walk, NULL, err) : 0;
    return rc == FAR_CORRUPT ? rc : 0;
}

/* Without it a crash is not noticed, and the index only walked below the library. */
static void begin_use(struct far_index *index, const char *dir)
{
    path_of_in_use(dir, index->in_use);
    if (far_file_replace(index->in_use, "", 0, 0600, NULL) != 0) {
        index->in_use[0] = '\0';
    }
}

int far_index_open(const char *dir, const uint8_t vault_uuid[16], bool read_only, struct far_index **ret_index,
                   struct far_place *ret_position, struct far_error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    int rc = far_index_check(path, vault_uuid, err);
    if (read_only) {
        return rc != 0 ? rc : open_once(dir, vault_uuid, true, ret_index, ret_position, err);
    }
    if (rc != 0 && rc != FAR_NOT_FOUND && rc != FAR_CORRUPT) {
        return rc;
    }
    rc = rc == 0 ? walk_after_crash(dir, vault_uuid, err) : rc;
    if (rc == 0) {
        rc = open_once(dir, vault_uuid, false, ret_index, ret_position, err);
        if (rc == 0) {
            begin_use(*ret_index, dir);
        }
        if (rc != FAR_CORRUPT) {
            return rc;
        }
    }
    rc = far_file_make_dir(dir, err);
    if (rc == 0) {
        rc = far_index_remove(dir, err);
    }
    *ret_position = (struct far_place){0};
    rc = rc != 0 ? rc : open_once(dir, vault_uuid, false, ret_index, ret_position, err);
    if (rc == 0) {
        begin_use(*ret_index, dir);
    }
    return rc;
}

void far_index_close(struct far_index *index)
{
    if (index != NULL) {
        if (index->env != NULL) {
            mdb_env_close(index->env);
        }
        if (index->in_use[0] != '\0') {
            unlink(index->in_use);
        }
        pthread_rwlock_destroy(&index->growing);
        free(index);
    }
}

/* ---- keys ---- */

void far_index_key_begin(struct far_index_key *ret_key, enum far_index_kind kind)
{
    memset(ret_key, 0, sizeof *ret_key);
    ret_key->bytes[4] = (uint8_t)kind;
    ret_key->len = 5;
}

void far_index_key_u64(struct far_index_key *key, uint64_t value)
{
    FAR_ASSERT(key->len + 8 <= sizeof key->bytes);
    far_put_be64(key->bytes + key->len, value);
    key->len += 8;
}

void far_index_key_id(struct far_index_key *key, const struct far_hash256 *id)
{
    FAR_ASSERT(key->len + 32 <= sizeof key->bytes);
    memcpy(key->bytes + key->len, id->bytes, 32);
    key->len += 32;
}

uint64_t far_index_key_get_u64(const struct far_index_key *key, size_t at)
{
    return far_get_be64(key->bytes + 5 + 8 * at);
}

static struct far_slice key_slice(const struct far_index_key *key)
{
    return far_slice(key->bytes, key->len);
}

/* ---- changes ---- */

static struct far_slice id_slice(const struct far_hash256 *id)
{
    return far_slice(id->bytes, 32);
}

static int read_row(struct far_index *index, MDB_txn *txn, const struct far_hash256 *id, struct far_index_row *ret_row)
{
    uint8_t bytes[ROW_BYTES];
    *ret_row = (struct far_index_row){0};
    int code = get_value(index, txn, id_slice(id), bytes, sizeof bytes);
    if (code == 0) {
        ret_row->place = decode_place(bytes);
        ret_row->needs = far_get_le32(bytes + PLACE_BYTES);
        ret_row->since = far_get_le64(bytes + PLACE_BYTES + 4);
    }
    return code;
}

int far_index_txn_row(struct far_index_txn *txn, const struct far_hash256 *id, struct far_index_row *ret_row)
{
    return read_row(txn->index, txn->txn, id, ret_row);
}

int far_index_txn_put_row(struct far_index_txn *txn, const struct far_hash256 *id, const struct far_index_row *row)
{
    uint8_t bytes[ROW_BYTES];
    encode_place(row->place, bytes);
    far_put_le32(bytes + PLACE_BYTES, row->needs);
    far_put_le64(bytes + PLACE_BYTES + 4, row->since);
    return put_value(txn->index, txn->txn, id_slice(id), bytes, sizeof bytes);
}

int far_index_txn_del_row(struct far_index_txn *txn, const struct far_hash256 *id)
{
    MDB_val key = {.mv_size = 32, .mv_data = (void *)id->bytes};
    return mdb_del(txn->txn, txn->index->dbi, &key, NULL);
}

int far_index_txn_get(struct far_index_txn *txn, const struct far_index_key *key, void *ret_value, size_t len)
{
    return get_value(txn->index, txn->txn, key_slice(key), ret_value, len);
}

int far_index_txn_put(struct far_index_txn *txn, const struct far_index_key *key, const void *value, size_t len)
{
    MDB_val name = {.mv_size = key->len, .mv_data = (void *)key->bytes};
    MDB_val there;
    int code = mdb_get(txn->txn, txn->index->dbi, &name, &there);
    txn->others += code == MDB_NOTFOUND;
    return code != 0 && code != MDB_NOTFOUND ? code : put_value(txn->index, txn->txn, key_slice(key), value, len);
}

int far_index_txn_del(struct far_index_txn *txn, const struct far_index_key *key)
{
    MDB_val name = {.mv_size = key->len, .mv_data = (void *)key->bytes};
    int code = mdb_del(txn->txn, txn->index->dbi, &name, NULL);
    txn->others -= code == 0;
    return code == MDB_NOTFOUND ? 0 : code;
}

int far_index_txn_quarantine(struct far_index_txn *txn, const struct far_hash256 *id, struct far_index_row *row, uint64_t pass)
{
    struct far_index_key key;
    far_index_key_begin(&key, FAR_INDEX_QUARANTINE);
    far_index_key_u64(&key, pass);
    far_index_key_id(&key, id);
    row->since = pass;
    int code = far_index_txn_put_row(txn, id, row);
    return code == 0 ? far_index_txn_put(txn, &key, "", 0) : code;
}

int far_index_txn_doom(struct far_index_txn *txn, struct far_place place)
{
    uint8_t bytes[4];
    struct far_index_key key;
    if (place.pack == 0) {
        return 0;
    }
    far_index_key_begin(&key, FAR_INDEX_DOOMED);
    far_index_key_u64(&key, place.pack);
    far_index_key_u64(&key, place.offset);
    far_put_le32(bytes, place.length);
    return far_index_txn_put(txn, &key, bytes, sizeof bytes);
}

static int write_once(struct far_index *index, int (*change)(void *arg, struct far_index_txn *txn), void *arg)
{
    struct far_index_txn txn = {.index = index};
    struct far_index_key key;
    uint8_t bytes[8];
    int code = mdb_txn_begin(index->env, NULL, 0, &txn.txn);
    if (code != 0) {
        return code;
    }
    code = change(arg, &txn);
    txn.others += txn.others != 0 && index->others == 0; /* the row that says how many there are */
    if (code == 0 && txn.others != 0) {
        others_key(&key);
        far_put_le64(bytes, index->others + (uint64_t)txn.others);
        code = put_value(index, txn.txn, key_slice(&key), bytes, sizeof bytes);
    }
    if (code != 0) {
        mdb_txn_abort(txn.txn);
        return code;
    }
    uint64_t others = index->others + (uint64_t)txn.others; /* no other writer before the commit */
    __atomic_store_n(&index->others, others, __ATOMIC_RELAXED);
    code = mdb_txn_commit(txn.txn);
    if (code != 0) {
        __atomic_store_n(&index->others, others - (uint64_t)txn.others, __ATOMIC_RELAXED);
    }
    return code;
}

static int grow(struct far_index *index)
{
    MDB_envinfo info;
    pthread_rwlock_wrlock(&index->growing);
    int code = mdb_env_info(index->env, &info);
    if (code == 0) {
        code = mdb_env_set_mapsize(index->env, info.me_mapsize * 2);
    }
    pthread_rwlock_unlock(&index->growing);
    return code;
}

int far_index_write(struct far_index *index, int (*change)(void *arg, struct far_index_txn *txn), void *arg,
                    struct far_error *err)
{
    for (;;) {
        pthread_rwlock_rdlock(&index->growing);
        int code = write_once(index, change, arg);
        pthread_rwlock_unlock(&index->growing);
        if (code == MDB_MAP_FULL) {
            code = grow(index);
            if (code == 0) {
                continue;
            }
        }
        return code == 0 ? 0 : index_fail(err, index->dir, code, "write the index");
    }
}

struct put {
    const struct far_index_entry *entries;
    size_t count;
    const struct far_place *position;
};

/* A record that is known already keeps its needs; where it was before, nobody looks any more. */
static int put_entry(struct far_index_txn *txn, const struct far_index_entry *entry)
{
    struct far_index_row row;
    int code = far_index_txn_row(txn, &entry->id, &row);
    if (code != 0 && code != MDB_NOTFOUND) {
        return code;
    }
    bool same = row.place.pack == entry->place.pack && row.place.offset == entry->place.offset;
    code = same ? 0 : far_index_txn_doom(txn, row.place);
    row.place = entry->place;
    row.since = same ? row.since : 0; /* stored anew: whoever did that will need it; else the next sweep meets it */
    return code != 0 ? code : far_index_txn_put_row(txn, &entry->id, &row);
}

static int put_all(void *arg, struct far_index_txn *txn)
{
    const struct put *put = arg;
    uint8_t bytes[PLACE_BYTES], before[PLACE_BYTES];
    int code = 0;
    for (size_t i = 0; code == 0 && i < put->count; i++) {
        code = put_entry(txn, &put->entries[i]);
    }
    if (code == 0 && put->position != NULL) {
        encode_place(*put->position, bytes);
        code = get_value(txn->index, txn->txn, far_slice_str(position_key), before, sizeof before);
        txn->others += code == MDB_NOTFOUND;
        code = put_value(txn->index, txn->txn, far_slice_str(position_key), bytes, sizeof bytes);
    }
    return code;
}

int far_index_put(struct far_index *index, const struct far_index_entry *entries, size_t count,
                  const struct far_place *position, struct far_error *err)
{
    struct put put = {.entries = entries, .count = count, .position = position};
    return far_index_write(index, put_all, &put, err);
}

/* ---- looking ---- */

static int begin_reading(struct far_index *index, MDB_txn **ret_txn)
{
    pthread_rwlock_rdlock(&index->growing);
    int code = mdb_txn_begin(index->env, NULL, MDB_RDONLY, ret_txn);
    if (code == MDB_MAP_RESIZED) { /* another process writes, and let it grow */
        pthread_rwlock_unlock(&index->growing);
        pthread_rwlock_wrlock(&index->growing);
        code = mdb_env_set_mapsize(index->env, 0);
        pthread_rwlock_unlock(&index->growing);
        pthread_rwlock_rdlock(&index->growing);
        code = code == 0 ? mdb_txn_begin(index->env, NULL, MDB_RDONLY, ret_txn) : code;
    }
    if (code != 0) {
        pthread_rwlock_unlock(&index->growing);
    }
    return code;
}

static void end_reading(struct far_index *index, MDB_txn *txn)
{
    mdb_txn_abort(txn);
    pthread_rwlock_unlock(&index->growing);
}

int far_index_look(struct far_index *index, const struct far_hash256 *ids, size_t count, struct far_index_row *ret_rows,
                   struct far_error *err)
{
    MDB_txn *txn = NULL;
    int code = begin_reading(index, &txn);
    if (code == 0) {
        for (size_t i = 0; code == 0 && i < count; i++) {
            code = read_row(index, txn, &ids[i], &ret_rows[i]);
            code = code == MDB_NOTFOUND || code == MDB_CORRUPTED ? 0 : code; /* a damaged row is none */
        }
        end_reading(index, txn);
    }
    return code == 0 ? 0 : index_fail(err, index->dir, code, "read the index");
}

int far_index_get(struct far_index *index, const struct far_index_key *key, void *ret_value, size_t len,
                  struct far_error *err)
{
    MDB_txn *txn = NULL;
    int code = begin_reading(index, &txn);
    if (code == 0) {
        code = get_value(index, txn, key_slice(key), ret_value, len);
        end_reading(index, txn);
    }
    return code == MDB_NOTFOUND ? FAR_NOT_FOUND : code == 0 ? 0 : index_fail(err, index->dir, code, "read the index");
}

/* Does the cursor stand at a row of this kind? Its key into *ret_key. */
static bool is_like(const MDB_val *name, const struct far_index_key *key, size_t prefix_len)
{
    return name->mv_size == key->len && memcmp(name->mv_data, key->bytes, prefix_len) == 0;
}

static int seek_row(struct far_index *index, MDB_cursor *cursor, struct far_index_key *key, size_t prefix_len,
                    bool backwards, void *ret_value, size_t len)
{
    MDB_val name = {.mv_size = key->len, .mv_data = key->bytes};
    MDB_val value;
    int code = mdb_cursor_get(cursor, &name, &value, MDB_SET_RANGE);
    if (backwards) {
        code = mdb_cursor_get(cursor, &name, &value, code == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    }
    /* Ids between rows of a kind: as good as never, but they may be there. */
    while (code == 0 && name.mv_size >= prefix_len && memcmp(name.mv_data, key->bytes, prefix_len) == 0 &&
           name.mv_size != key->len) {
        code = mdb_cursor_get(cursor, &name, &value, backwards ? MDB_PREV : MDB_NEXT);
    }
    if (code != 0 || !is_like(&name, key, prefix_len)) {
        return code != 0 ? code : MDB_NOTFOUND;
    }
    memcpy(key->bytes, name.mv_data, key->len);
    bool good = value.mv_size == len + CHECK_BYTES &&
                far_index_value_good(index->vault_uuid, key_slice(key), far_slice(value.mv_data, value.mv_size));
    if (good && len > 0) {
        memcpy(ret_value, value.mv_data, len);
    }
    return good ? 0 : MDB_CORRUPTED;
}

int far_index_seek(struct far_index *index, struct far_index_key *key, size_t prefix_len, bool backwards, void *ret_value,
                   size_t len, struct far_error *err)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    int code = begin_reading(index, &txn);
    if (code == 0) {
        code = mdb_cursor_open(txn, index->dbi, &cursor);
        if (code == 0) {
            code = seek_row(index, cursor, key, prefix_len, backwards, ret_value, len);
            mdb_cursor_close(cursor);
        }
        end_reading(index, txn);
    }
    return code == MDB_NOTFOUND ? FAR_NOT_FOUND : code == 0 ? 0 : index_fail(err, index->dir, code, "read the index");
}

int far_index_list(struct far_index *index, const struct far_index_key *key, size_t prefix_len, struct far_index_key *ret_keys,
                   size_t max, size_t *ret_count, struct far_error *err)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    MDB_val name = {.mv_size = key->len, .mv_data = (void *)key->bytes};
    MDB_val value;
    size_t count = 0;
    int code = begin_reading(index, &txn);
    if (code != 0) {
        return index_fail(err, index->dir, code, "read the index");
    }
    code = mdb_cursor_open(txn, index->dbi, &cursor);
    if (code == 0) {
        code = mdb_cursor_get(cursor, &name, &value, MDB_SET_RANGE);
        while (code == 0 && count < max && name.mv_size >= prefix_len &&
               memcmp(name.mv_data, key->bytes, prefix_len) == 0) {
            if (is_like(&name, key, prefix_len)) {
                memcpy(ret_keys[count].bytes, name.mv_data, name.mv_size);
                ret_keys[count++].len = name.mv_size;
            }
            code = mdb_cursor_get(cursor, &name, &value, MDB_NEXT);
        }
        mdb_cursor_close(cursor);
    }
    end_reading(index, txn);
    *ret_count = count;
    return code == 0 || code == MDB_NOTFOUND ? 0 : index_fail(err, index->dir, code, "read the index");
}

uint64_t far_index_count(struct far_index *index)
{
    MDB_stat stat;
    uint64_t others = __atomic_load_n(&index->others, __ATOMIC_RELAXED);
    return mdb_env_stat(index->env, &stat) == 0 && stat.ms_entries > others ? stat.ms_entries - others : 0;
}
