/* Opening a vault and making a new one; see vault.h. Repair of the packs is in vault_repair.c.
 *
 * Read-only: no lock is kept, nothing is repaired. The index is used if no process writes when it is opened and it is complete; else
 * one is made from the packs in a temporary folder. Who comes to write afterwards may let it grow, or make it anew: the old one holds
 * for what the reader opened. */
#define _GNU_SOURCE
#include "dataplane/remote.h"
#include "dataplane/vault_ledger.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/random.h"
#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    VERSION = 0,       /* of its files */
    VERSION_KEYED = 1, /* of `vault`: there are encrypted records */
    META_BYTES = 96,
    KEY_BYTES = 56,
    PACK_BYTES_DEFAULT = 256 << 20,
    CACHE_BYTES_DEFAULT = 16 << 20,
    BOUND_LEAST = 1 << 20,
};
#define PACK_BYTES_MOST (1ull << 40)
static const char meta_magic[8] = "FARVAULT";
static const char key_magic[8] = "FARVKEY0";
static const char former_magic[8] = "FARVFRMR";

static void path_in(const struct far_vault *vault, const char *name, char *path, size_t len)
{
    snprintf(path, len, "%s/%s", vault->dir, name);
}

/* ---- the vault's own two files ---- */

static int write_key(const struct far_vault *vault, struct far_error *err)
{
    char path[4096];
    uint8_t bytes[KEY_BYTES] = {0};
    memcpy(bytes, key_magic, 8);
    far_put_le32(bytes + 8, VERSION);
    memcpy(bytes + 16, vault->seed, 32);
    far_put_le64(bytes + 48, far_hash64(bytes, 48));
    path_in(vault, "vault.key", path, sizeof path);
    return far_file_replace(path, bytes, sizeof bytes, 0600, err);
}

int far_vault_mark_keyed(struct far_vault *vault, struct far_error *err)
{
    char path[4096];
    uint8_t bytes[META_BYTES];
    struct far_buf buf;
    path_in(vault, "vault", path, sizeof path);
    far_buf_init(&buf, META_BYTES);
    int rc = far_file_read(path, &buf, err);
    if (rc == 0 && (buf.len != META_BYTES || far_get_le64(buf.data + 88) != far_hash64(buf.data, 88))) {
        rc = far_fail(err, FAR_CORRUPT, "'%s' is damaged", path);
    }
    if (rc == 0 && far_get_le32(buf.data + 8) == VERSION) {
        memcpy(bytes, buf.data, sizeof bytes);
        far_put_le32(bytes + 8, VERSION_KEYED);
        far_put_le64(bytes + 88, far_hash64(bytes, 88));
        rc = far_file_replace(path, bytes, sizeof bytes, 0600, err);
    }
    far_buf_done(&buf);
    return rc;
}

static int write_meta(const struct far_vault *vault, struct far_error *err)
{
    char path[4096];
    uint8_t bytes[META_BYTES] = {0};
    memcpy(bytes, meta_magic, 8);
    far_put_le32(bytes + 8, VERSION);
    far_put_le32(bytes + 12, FAR_BLOCK_BYTES);
    memcpy(bytes + 16, vault->uuid, 16);
    memcpy(bytes + 32, vault->public_key, 32);
    far_put_le64(bytes + 64, far_clock_wall_ms());
    far_put_le64(bytes + 88, far_hash64(bytes, 88));
    path_in(vault, "vault", path, sizeof path);
    return far_file_replace(path, bytes, sizeof bytes, 0600, err);
}

/* A file of exactly len bytes with this magic, a version that is known and a checksum at its end. */
static int read_small(const struct far_vault *vault, const char *name, const char magic[8], uint32_t version_max, uint8_t *bytes,
                      size_t len, struct far_error *err)
{
    char path[4096];
    struct far_buf buf;
    path_in(vault, name, path, sizeof path);
    far_buf_init(&buf, len);
    int rc = far_file_read(path, &buf, err);
    bool good = rc == 0 && buf.len == len && memcmp(buf.data, magic, 8) == 0 && far_get_le32(buf.data + 8) <= version_max &&
                far_get_le64(buf.data + len - 8) == far_hash64(buf.data, len - 8);
    if (good) {
        memcpy(bytes, buf.data, len);
    } else if (rc == 0 || rc == FAR_LIMIT) {
        rc = far_fail(err, FAR_CORRUPT, "'%s' is damaged or of another version", path);
    }
    far_buf_done(&buf);
    return rc;
}

/* `vault` and `vault.former`: what keys signed that the vault had before its folder was lost (vault_store.h) still holds. */
static int read_meta(struct far_vault *vault, struct far_error *err)
{
    struct far_vault_keys keys;
    int rc = far_vault_keys_read(vault->dir, &keys, err);
    if (rc == 0) {
        memcpy(vault->uuid, keys.uuid, 16);
        memcpy(vault->public_key, keys.keys[keys.count - 1], 32);
        vault->former_count = keys.count - 1;
        memcpy(vault->former_keys, keys.keys, 32 * vault->former_count);
    }
    return rc;
}

void far_vault_keys(const struct far_vault *vault, struct far_vault_keys *ret_keys)
{
    memcpy(ret_keys->uuid, vault->uuid, 16);
    memcpy(ret_keys->keys, vault->former_keys, 32 * vault->former_count);
    memcpy(ret_keys->keys[vault->former_count], vault->public_key, 32);
    ret_keys->count = vault->former_count + 1;
}

static int read_key(struct far_vault *vault, struct far_error *err)
{
    uint8_t bytes[KEY_BYTES];
    uint8_t public_key[32];
    int rc = read_small(vault, "vault.key", key_magic, VERSION, bytes, sizeof bytes, err);
    if (rc == FAR_NOT_FOUND) {
        return far_fail(err, FAR_CORRUPT, "vault '%s' has lost its key file vault.key", vault->dir);
    }
    if (rc != 0) {
        return rc;
    }
    memcpy(vault->seed, bytes + 16, 32);
    rc = far_vault_public_of(vault->seed, public_key, err);
    if (rc == 0 && memcmp(public_key, vault->public_key, 32) != 0) {
        rc = far_fail(err, FAR_CORRUPT, "the key file of vault '%s' belongs to another vault", vault->dir);
    }
    return rc;
}

static int write_former(const struct far_vault *vault, struct far_error *err)
{
    char path[4096];
    uint8_t bytes[24 + 32 * FAR_FORMER_KEYS] = {0};
    size_t len = 24 + 32 * vault->former_count;
    memcpy(bytes, former_magic, 8);
    far_put_le32(bytes + 8, VERSION);
    far_put_le32(bytes + 12, (uint32_t)vault->former_count);
    memcpy(bytes + 16, vault->former_keys, 32 * vault->former_count);
    far_put_le64(bytes + len - 8, far_hash64(bytes, len - 8));
    path_in(vault, "vault.former", path, sizeof path);
    return far_file_replace(path, bytes, len, 0600, err);
}

/* The public key alone is another. */
static int replace_public(const struct far_vault *vault, struct far_error *err)
{
    char path[4096];
    uint8_t bytes[META_BYTES];
    int rc = read_small(vault, "vault", meta_magic, VERSION_KEYED, bytes, sizeof bytes, err);
    memcpy(bytes + 32, vault->public_key, 32);
    far_put_le64(bytes + 88, far_hash64(bytes, 88));
    path_in(vault, "vault", path, sizeof path);
    return rc == 0 ? far_file_replace(path, bytes, sizeof bytes, 0600, err) : rc;
}

int far_vault_renew_key(const char *dir, struct far_error *err)
{
    struct far_vault *vault = calloc(1, sizeof *vault);
    if (vault == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the vault");
    }
    snprintf(vault->dir, sizeof vault->dir, "%s", dir);
    int rc = read_meta(vault, err);
    if (rc == 0 && vault->former_count == FAR_FORMER_KEYS) { /* the oldest goes */
        memmove(vault->former_keys[0], vault->former_keys[1], 32 * (FAR_FORMER_KEYS - 1));
        vault->former_count--;
    }
    if (rc == 0) {
        memcpy(vault->former_keys[vault->former_count++], vault->public_key, 32);
        rc = write_former(vault, err);
    }
    rc = rc == 0 ? far_vault_key_make(vault->seed, vault->public_key, err) : rc;
    rc = rc == 0 ? write_key(vault, err) : rc;
    rc = rc == 0 ? replace_public(vault, err) : rc;
    explicit_bzero(vault->seed, sizeof vault->seed);
    free(vault);
    return rc;
}

/* The file `vault` comes last: without it there is no vault yet, and an interrupted creation begins anew. */
static int create_files(struct far_vault *vault, struct far_error *err)
{
    static const char *const folders[] = {"packs", "replicas", "points"};
    char path[4096];
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof folders / sizeof folders[0]; i++) {
        path_in(vault, folders[i], path, sizeof path);
        rc = far_file_make_dir(path, err);
    }
    far_random_bytes(vault->uuid, 16);
    if (rc == 0) {
        rc = far_vault_key_make(vault->seed, vault->public_key, err);
    }
    if (rc == 0) {
        rc = write_key(vault, err);
    }
    return rc == 0 ? write_meta(vault, err) : rc;
}

/* ---- the index ---- */

static int open_temporary_index(struct far_vault *vault, struct far_place *ret_position, struct far_error *err)
{
    const char *folder = getenv("TMPDIR");
    snprintf(vault->index_dir, sizeof vault->index_dir, "%s/farshore-index-XXXXXX", folder != NULL ? folder : "/tmp");
    if (mkdtemp(vault->index_dir) == NULL) {
        return far_fail_errno(err, FAR_IO, errno, "make a temporary folder '%s'", vault->index_dir);
    }
    vault->index_is_temporary = true;
    vault->stats.index_rebuilt = true;
    return far_index_open(vault->index_dir, vault->uuid, false, &vault->index, ret_position, err);
}

static int open_index_read_only(struct far_vault *vault, struct far_place *ret_position, struct far_error *err)
{
    struct far_place durable;
    struct far_place position = {0};
    bool nobody_writes = vault->lock_fd >= 0;
    path_in(vault, "index", vault->index_dir, sizeof vault->index_dir);
    bool good = nobody_writes &&
                far_index_open(vault->index_dir, vault->uuid, true, &vault->index, &position, NULL) == 0;
    int rc = far_vault_find_durable(vault, (struct far_place){0}, &durable, err);
    if (rc != 0) {
        return rc;
    }
    if (good && !far_place_before(position, durable)) {
        /* What lies behind was never acknowledged: the packs need no walk. */
        *ret_position = (struct far_place){.pack = FAR_INDEX_COMPLETE};
        return 0;
    }
    far_index_close(vault->index);
    vault->index = NULL;
    return open_temporary_index(vault, ret_position, err);
}

static int open_index(struct far_vault *vault, struct far_place *ret_position, struct far_error *err)
{
    if (vault->read_only) {
        return open_index_read_only(vault, ret_position, err);
    }
    path_in(vault, "index", vault->index_dir, sizeof vault->index_dir);
    int rc = far_index_open(vault->index_dir, vault->uuid, false, &vault->index, ret_position, err);
    uint8_t wrong[16];
    if (rc == 0 && far_ledger_word(vault, 'b', wrong, NULL) == 0) { /* what it counted cannot be: anew */
        far_index_close(vault->index);
        vault->index = NULL;
        rc = far_index_remove(vault->index_dir, err);
        rc = rc == 0 ? far_index_open(vault->index_dir, vault->uuid, false, &vault->index, ret_position, err) : rc;
    }
    vault->stats.index_rebuilt = rc == 0 && ret_position->pack == 0;
    return rc;
}

/* ---- open and close ---- */

static int take_lock(struct far_vault *vault, struct far_error *err)
{
    char path[4096];
    path_in(vault, "lock", path, sizeof path);
    vault->lock_fd = open(path, vault->read_only ? O_RDONLY | O_CLOEXEC : O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (vault->read_only) {
        if (vault->lock_fd >= 0 && flock(vault->lock_fd, LOCK_SH | LOCK_NB) != 0) {
            close(vault->lock_fd);
            vault->lock_fd = -1;
        }
        return 0;
    }
    if (vault->lock_fd < 0) {
        return far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "open '%s'", path);
    }
    if (flock(vault->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return far_fail(err, FAR_BUSY, "vault '%s' is in use by another process", vault->dir);
    }
    return 0;
}

/* Who only reads says so as long as the vault is open: packs are not moved meanwhile. A writer only makes the file. */
static void take_readers(struct far_vault *vault)
{
    char path[4096];
    path_in(vault, "readers", path, sizeof path);
    vault->readers_fd = open(path, vault->read_only ? O_RDONLY | O_CLOEXEC : O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (vault->read_only && vault->readers_fd >= 0) {
        flock(vault->readers_fd, LOCK_SH);
    }
}

static int open_files(struct far_vault *vault, const struct far_vault_options *options, struct far_error *err)
{
    char path[4096];
    int rc = options->create && !vault->read_only ? far_file_make_dir(vault->dir, err) : 0;
    path_in(vault, "vault", path, sizeof path);
    if (rc == 0 && !options->create && access(path, F_OK) != 0 && errno == ENOENT) {
        rc = far_fail(err, FAR_NOT_FOUND, "there is no vault in '%s'", vault->dir);
    }
    if (rc == 0) {
        rc = take_lock(vault, err);
    }
    if (rc == 0) {
        take_readers(vault);
        rc = read_meta(vault, err);
        if (rc == FAR_NOT_FOUND && options->create && !vault->read_only) {
            rc = create_files(vault, err);
        }
    }
    rc = rc == 0 && !vault->read_only ? far_remote_may_write(vault->dir, err) : rc;
    return rc == 0 && !vault->read_only ? read_key(vault, err) : rc;
}

/* Packs that are gone. A list that is damaged costs no more than words about packs that are missing. */
static int read_removed(struct far_vault *vault, struct far_error *err)
{
    struct far_error cause;
    int rc = far_removed_read(&vault->packs, &vault->removed, &cause);
    if (rc == FAR_CORRUPT) {
        far_vault_note_damage(vault, (struct far_place){0}, cause.message);
        return 0;
    }
    if (rc != 0 && err != NULL) {
        *err = cause;
    }
    return rc;
}

static int open_packs(struct far_vault *vault, struct far_place *ret_indexed, struct far_error *err)
{
    int rc = open_index(vault, ret_indexed, err);
    return rc == 0 ? far_vault_repair(vault, *ret_indexed, err) : rc;
}

static void close_packs(struct far_vault *vault)
{
    far_index_close(vault->index);
    vault->index = NULL;
    far_packs_restart(&vault->packs);
}

/* Where the disk is too full for what the index has yet to be told, room is made: first of what was set aside for that, then of what was
 * written behind everything that was ever acknowledged. As rows of the index may name some of that, it is made anew. */
static int open_packs_with_room(struct far_vault *vault, struct far_error *err)
{
    struct far_error unused;
    struct far_place indexed = {0};
    const struct far_vault_stats stats = vault->stats;
    const size_t damaged_count = vault->damaged_count;
    err = err != NULL ? err : &unused;
    int rc = open_packs(vault, &indexed, err);
    for (int step = 0; step < 2 && rc == FAR_LIMIT && err->sys_errno == ENOSPC && !vault->read_only; step++) {
        bool is_made = step == 0 ? far_vault_reserve_release(vault) : far_vault_cut_unacknowledged(vault, indexed);
        if (is_made) {
            close_packs(vault);
            vault->stats = stats;
            vault->damaged_count = damaged_count;
            rc = step == 0 ? 0 : far_index_remove(vault->index_dir, err);
            rc = rc == 0 ? open_packs(vault, &indexed, err) : rc;
            vault->stats.is_disk_full = true;
        }
    }
    return rc;
}

static int open_parts(struct far_vault *vault, const struct far_vault_options *options, struct far_error *err)
{
    uint64_t cache = options->cache_bytes_max != 0 ? options->cache_bytes_max : CACHE_BYTES_DEFAULT;
    uint64_t pack = options->pack_bytes_max != 0 ? options->pack_bytes_max : PACK_BYTES_DEFAULT;
    char path[4096];
    vault->dirty_pages_max = cache / 2 / FAR_MAP_PAGE_BYTES;
    path_in(vault, "packs", path, sizeof path);
    int rc = far_packs_init(&vault->packs, path, vault->uuid, pack, err);
    rc = rc != 0 ? rc : far_waiting_init(&vault->waiting, err);
    rc = rc != 0 ? rc : far_waiting_init(&vault->committing, err);
    rc = rc != 0 ? rc : far_pages_init(&vault->pages, cache / 2, err);
    rc = rc != 0 ? rc : far_vault_domains_list(vault, err);
    rc = rc != 0 ? rc : read_removed(vault, err);
    rc = rc != 0 ? rc : far_remote_open(vault, err);
    rc = rc != 0 ? rc : open_packs_with_room(vault, err);
    far_vault_reserve_keep(vault);
    return rc != 0 ? rc : far_remote_start(vault, err);
}

static int check_options(const char *dir, const struct far_vault_options *options, struct far_error *err)
{
    bool pack_good = options->pack_bytes_max == 0 ||
                     (options->pack_bytes_max >= BOUND_LEAST && options->pack_bytes_max <= PACK_BYTES_MOST);
    bool cache_good = options->cache_bytes_max == 0 || options->cache_bytes_max >= BOUND_LEAST;
    if (strlen(dir) == 0 || strlen(dir) >= FAR_DIR_MAX) {
        return far_fail(err, FAR_INVALID, "the path of the vault is empty or too long");
    }
    return pack_good && cache_good ? 0 : far_fail(err, FAR_INVALID, "a bound of the vault is below 1 MiB, or too large");
}

int far_vault_open(const char *dir, const struct far_vault_options *options, struct far_vault **ret_vault,
                   struct far_error *err)
{
    static const struct far_vault_options defaults;
    options = options != NULL ? options : &defaults;
    int rc = check_options(dir, options, err);
    if (rc != 0) {
        return rc;
    }
    struct far_vault *vault = calloc(1, sizeof *vault);
    if (vault == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the vault");
    }
    snprintf(vault->dir, sizeof vault->dir, "%s", dir);
    vault->read_only = options->read_only;
    vault->lock_fd = -1;
    vault->readers_fd = -1;
    pthread_mutex_init(&vault->reclaim.pass_lock, NULL);
    pthread_mutex_init(&vault->reclaim.seal_lock, NULL);
    pthread_rwlockattr_t fair;
    pthread_rwlockattr_init(&fair);
    pthread_rwlockattr_setkind_np(&fair, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP); /* who deletes has to come to it */
    pthread_rwlock_init(&vault->reclaim.finding, &fair);
    pthread_rwlockattr_destroy(&fair);
    vault->packs.write_fd = -1;
    far_mutex_init_brief(&vault->lock);
    pthread_mutex_init(&vault->sync_lock, NULL);
    pthread_mutex_init(&vault->replicas_lock, NULL);
    pthread_mutex_init(&vault->domains_lock, NULL);
    rc = open_files(vault, options, err);
    if (rc == 0) {
        rc = open_parts(vault, options, err);
    }
    if (vault->read_only && vault->lock_fd >= 0) { /* the index is open, and a writer may come now: it moves no pack meanwhile */
        close(vault->lock_fd);
        vault->lock_fd = -1;
    }
    if (rc != 0) {
        vault->broken = true; /* nothing to make durable */
        far_vault_close(vault);
        return rc;
    }
    *ret_vault = vault;
    return 0;
}

static void remove_temporary_index(const struct far_vault *vault)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", "in-use"};
    char path[4096];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%.3900s/%s", vault->index_dir, names[i]);
        unlink(path);
    }
    rmdir(vault->index_dir);
}

void far_vault_close(struct far_vault *vault)
{
    if (vault == NULL) {
        return;
    }
    if (!vault->read_only && !vault->broken) {
        far_vault_sync(vault, NULL);
    }
    far_remote_close(vault);
    far_index_close(vault->index);
    if (vault->index_is_temporary) {
        remove_temporary_index(vault);
    }
    far_pages_done(&vault->pages);
    free(vault->waiting.slots);
    free(vault->committing.slots);
    far_packs_done(&vault->packs);
    far_removed_done(&vault->removed);
    free(vault->reclaim.found);
    if (vault->readers_fd >= 0) {
        close(vault->readers_fd);
    }
    if (vault->lock_fd >= 0) {
        close(vault->lock_fd);
    }
    far_vault_domains_done(vault);
    pthread_mutex_destroy(&vault->domains_lock);
    pthread_rwlock_destroy(&vault->reclaim.finding);
    pthread_mutex_destroy(&vault->reclaim.seal_lock);
    pthread_mutex_destroy(&vault->reclaim.pass_lock);
    pthread_mutex_destroy(&vault->replicas_lock);
    pthread_mutex_destroy(&vault->sync_lock);
    pthread_mutex_destroy(&vault->lock);
    explicit_bzero(vault->seed, sizeof vault->seed);
    free(vault);
}
