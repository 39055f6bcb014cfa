/* The index of the vault in LMDB: see vault_index.h. Its memory map grows by doubling; lookups hold `growing` shared. */
#include "dataplane/vault_index.h"

#include "base/file.h"
#include "base/hash.h"

#include <errno.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAP_BYTES_FIRST = 64 << 20, READERS_MAX = 510 };
static const char position_key[] = "position";

struct far_index {
    MDB_env *env;
    MDB_dbi dbi;
    bool dbi_open;
    uint8_t vault_uuid[16];
    pthread_rwlock_t growing; /* no transaction may live while the map is resized */
};

static uint32_t check_of(const uint8_t vault_uuid[16], struct far_slice key, const uint8_t *value)
{
    return (uint32_t)far_hash64_parts(far_slice(vault_uuid, 16), key, far_slice(value, FAR_INDEX_VALUE_BYTES - 4));
}

void far_index_value_encode(const uint8_t vault_uuid[16], struct far_slice key, struct far_place place,
                            uint8_t ret_value[FAR_INDEX_VALUE_BYTES])
{
    far_put_le32(ret_value, place.pack);
    far_put_le32(ret_value + 4, place.length);
    far_put_le64(ret_value + 8, place.offset);
    far_put_le32(ret_value + 16, check_of(vault_uuid, key, ret_value));
}

bool far_index_value_decode(const uint8_t vault_uuid[16], struct far_slice key, struct far_slice value,
                            struct far_place *ret_place)
{
    if (value.len != FAR_INDEX_VALUE_BYTES || far_get_le32(value.data + 16) != check_of(vault_uuid, key, value.data)) {
        return false;
    }
    ret_place->pack = far_get_le32(value.data);
    ret_place->length = far_get_le32(value.data + 4);
    ret_place->offset = far_get_le64(value.data + 8);
    return true;
}

static int index_fail(struct far_error *err, int code, const char *what)
{
    if (code == MDB_MAP_FULL || code == MDB_TXN_FULL || code == MDB_READERS_FULL) {
        return far_fail(err, FAR_LIMIT, "%s of the vault: %s", what, mdb_strerror(code));
    }
    if (code > 0) {
        return far_fail_errno(err, FAR_IO, code, "%s of the vault", what);
    }
    return far_fail(err, FAR_CORRUPT, "%s of the vault: %s", what, mdb_strerror(code));
}

static int read_position(struct far_index *index, MDB_txn *txn, struct far_place *ret_position)
{
    MDB_val key = {.mv_size = sizeof position_key - 1, .mv_data = (void *)position_key};
    MDB_val value;
    *ret_position = (struct far_place){0};
    int code = mdb_get(txn, index->dbi, &key, &value);
    if (code == MDB_NOTFOUND) {
        return 0;
    }
    bool good = code == 0 && far_index_value_decode(index->vault_uuid, far_slice_str(position_key),
                                                    far_slice(value.mv_data, value.mv_size), ret_position);
    return good ? 0 : code != 0 ? code : MDB_CORRUPTED;
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
        return index_fail(err, code, "open the index");
    }
    *ret_index = index;
    return 0;
}

static int remove_files(const char *dir, struct far_error *err)
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
    if (rc == 0) {
        rc = open_once(dir, vault_uuid, false, ret_index, ret_position, err);
        if (rc != FAR_CORRUPT) {
            return rc;
        }
    }
    rc = far_file_make_dir(dir, err);
    if (rc == 0) {
        rc = remove_files(dir, err);
    }
    *ret_position = (struct far_place){0};
    return rc != 0 ? rc : open_once(dir, vault_uuid, false, ret_index, ret_position, err);
}

void far_index_close(struct far_index *index)
{
    if (index != NULL) {
        if (index->env != NULL) {
            mdb_env_close(index->env);
        }
        pthread_rwlock_destroy(&index->growing);
        free(index);
    }
}

static int get_all(struct far_index *index, MDB_txn *txn, const struct far_hash256 *ids, size_t count,
                   struct far_place *ret_places)
{
    for (size_t i = 0; i < count; i++) {
        MDB_val key = {.mv_size = 32, .mv_data = (void *)ids[i].bytes};
        MDB_val value;
        ret_places[i] = (struct far_place){0};
        int code = mdb_get(txn, index->dbi, &key, &value);
        if (code == MDB_NOTFOUND) {
            continue;
        }
        if (code != 0) {
            return code;
        }
        struct far_place place;
        if (far_index_value_decode(index->vault_uuid, far_slice(ids[i].bytes, 32),
                                   far_slice(value.mv_data, value.mv_size), &place)) {
            ret_places[i] = place;
        }
    }
    return 0;
}

int far_index_get(struct far_index *index, const struct far_hash256 *ids, size_t count, struct far_place *ret_places,
                  struct far_error *err)
{
    MDB_txn *txn = NULL;
    pthread_rwlock_rdlock(&index->growing);
    int code = mdb_txn_begin(index->env, NULL, MDB_RDONLY, &txn);
    if (code == 0) {
        code = get_all(index, txn, ids, count, ret_places);
        mdb_txn_abort(txn);
    }
    pthread_rwlock_unlock(&index->growing);
    return code == 0 ? 0 : index_fail(err, code, "read the index");
}

static int put_value(struct far_index *index, MDB_txn *txn, struct far_slice name, struct far_place place)
{
    uint8_t bytes[FAR_INDEX_VALUE_BYTES];
    far_index_value_encode(index->vault_uuid, name, place, bytes);
    MDB_val key = {.mv_size = name.len, .mv_data = (void *)name.data};
    MDB_val value = {.mv_size = sizeof bytes, .mv_data = bytes};
    return mdb_put(txn, index->dbi, &key, &value, 0);
}

static int put_once(struct far_index *index, const struct far_index_entry *entries, size_t count,
                    const struct far_place *position)
{
    MDB_txn *txn = NULL;
    int code = mdb_txn_begin(index->env, NULL, 0, &txn);
    if (code != 0) {
        return code;
    }
    for (size_t i = 0; code == 0 && i < count; i++) {
        code = put_value(index, txn, far_slice(entries[i].id.bytes, 32), entries[i].place);
    }
    if (code == 0 && position != NULL) {
        code = put_value(index, txn, far_slice_str(position_key), *position);
    }
    if (code != 0) {
        mdb_txn_abort(txn);
        return code;
    }
    return mdb_txn_commit(txn);
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

int far_index_put(struct far_index *index, const struct far_index_entry *entries, size_t count,
                  const struct far_place *position, struct far_error *err)
{
    int code = put_once(index, entries, count, position);
    if (code == MDB_MAP_FULL) {
        code = grow(index);
        if (code == 0) {
            code = put_once(index, entries, count, position);
        }
    }
    return code == 0 ? 0 : index_fail(err, code, "write the index");
}

uint64_t far_index_count(struct far_index *index)
{
    MDB_stat stat;
    return mdb_env_stat(index->env, &stat) == 0 ? stat.ms_entries : 0;
}
