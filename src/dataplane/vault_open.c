/* Opening a vault, making a new one, and repairing what a crash left; see vault.h.
 *
 * What was acknowledged is known from the replica files, the manifests and the index: each holds a position of the packs
 * before which everything was durable. Behind the highest of them the last pack is checked byte for byte and cut at the
 * first record that is not whole. Before it nothing is ever cut: damage there is named, and the rest stays usable.
 *
 * Read-only: no lock is taken, nothing is repaired. The index is used if no process writes and it is complete; else one is
 * made from the packs in a temporary folder. */
#define _GNU_SOURCE
#include "dataplane/vault_file.h"
#include "dataplane/vault_private.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    VERSION = 0,
    META_BYTES = 96,
    KEY_BYTES = 56,
    PACK_BYTES_DEFAULT = 256 << 20,
    CACHE_BYTES_DEFAULT = 16 << 20,
    BOUND_LEAST = 1 << 20,
};
#define PACK_BYTES_MOST (1ull << 40)
#define EVERYTHING UINT32_MAX /* as a position of the index: the packs need no walk */
static const char meta_magic[8] = "FARVAULT";
static const char key_magic[8] = "FARVKEY0";

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

/* A file of exactly len bytes with this magic and a checksum at its end. */
static int read_small(const struct far_vault *vault, const char *name, const char magic[8], uint8_t *bytes, size_t len,
                      struct far_error *err)
{
    char path[4096];
    struct far_buf buf;
    path_in(vault, name, path, sizeof path);
    far_buf_init(&buf, len);
    int rc = far_vault_file_read(path, &buf, err);
    bool good = rc == 0 && buf.len == len && memcmp(buf.data, magic, 8) == 0 && far_get_le32(buf.data + 8) == VERSION &&
                far_get_le64(buf.data + len - 8) == far_hash64(buf.data, len - 8);
    if (good) {
        memcpy(bytes, buf.data, len);
    } else if (rc == 0 || rc == FAR_LIMIT) {
        rc = far_fail(err, FAR_CORRUPT, "'%s' is damaged or of another version", path);
    }
    far_buf_done(&buf);
    return rc;
}

static int read_meta(struct far_vault *vault, struct far_error *err)
{
    uint8_t bytes[META_BYTES];
    int rc = read_small(vault, "vault", meta_magic, bytes, sizeof bytes, err);
    if (rc == 0) {
        memcpy(vault->uuid, bytes + 16, 16);
        memcpy(vault->public_key, bytes + 32, 32);
    }
    return rc;
}

static int read_key(struct far_vault *vault, struct far_error *err)
{
    uint8_t bytes[KEY_BYTES];
    uint8_t public_key[32];
    int rc = read_small(vault, "vault.key", key_magic, bytes, sizeof bytes, err);
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

/* ---- what was acknowledged ---- */

struct durable_search {
    struct far_vault *vault;
    struct far_place durable;
};

static void raise_durable(struct durable_search *search, struct far_place place)
{
    if (far_place_before(search->durable, place)) {
        search->durable = place;
    }
}

static int durable_of_replica(void *arg, uint64_t disk_id, struct far_error *err)
{
    struct durable_search *search = arg;
    struct far_replica_file file;
    (void)err;
    if (far_replica_file_read(search->vault, disk_id, &file, NULL) == 0) {
        raise_durable(search, file.durable);
    }
    return 0;
}

static int durable_of_point(void *arg, uint64_t point_id, struct far_error *err)
{
    struct durable_search *search = arg;
    struct far_manifest *manifest = malloc(sizeof *manifest);
    if (manifest == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to open the vault");
    }
    if (far_vault_manifest_read(search->vault, point_id, manifest, NULL) == 0) {
        raise_durable(search, (struct far_place){.pack = (uint32_t)manifest->pack, .offset = manifest->pack_offset});
    }
    free(manifest);
    return 0;
}

static int find_durable(struct far_vault *vault, struct far_place indexed, struct far_place *ret_durable,
                        struct far_error *err)
{
    char path[4096];
    struct durable_search search = {.vault = vault, .durable = indexed};
    path_in(vault, "replicas", path, sizeof path);
    int rc = far_vault_each_number(path, ".replica", durable_of_replica, &search, err);
    if (rc == 0) {
        path_in(vault, "points", path, sizeof path);
        rc = far_vault_each_number(path, ".manifest", durable_of_point, &search, err);
    }
    search.durable.length = 0;
    *ret_durable = search.durable;
    return rc;
}

/* ---- the packs into the index ---- */

struct recovery {
    struct far_vault *vault;
    struct far_place durable;
    struct far_place indexed; /* the index knows everything before it */
    struct far_index_entry *entries;
    size_t count;
    uint32_t expected; /* number of the next pack */
    uint64_t last_size;
};

static int flush_entries(struct recovery *recovery, const struct far_place *position, struct far_error *err)
{
    int rc = recovery->count == 0 && position == NULL
                 ? 0
                 : far_index_put(recovery->vault->index, recovery->entries, recovery->count, position, err);
    recovery->count = rc == 0 ? 0 : recovery->count;
    return rc;
}

static int found_record(void *arg, struct far_place place, const struct far_record *record, struct far_error *err)
{
    struct recovery *recovery = arg;
    if (record->type == FAR_RECORD_SEAL) {
        return 0;
    }
    recovery->entries[recovery->count++] = (struct far_index_entry){.id = record->id, .place = place};
    return recovery->count == FAR_INDEX_BATCH_MAX ? flush_entries(recovery, NULL, err) : 0;
}

static void found_damage(void *arg, struct far_place place, const struct far_hash256 *id, const char *text)
{
    struct recovery *recovery = arg;
    (void)id;
    far_vault_note_damage(recovery->vault, place, text);
}

static void note(struct recovery *recovery, uint32_t number, uint64_t offset, const char *what)
{
    char path[4096];
    char text[320];
    far_packs_path(&recovery->vault->packs, number, path, sizeof path);
    snprintf(text, sizeof text, "%.200s: offset %" PRIu64 ": %s", path, offset, what);
    far_vault_note_damage(recovery->vault, (struct far_place){.pack = number, .offset = offset}, text);
}

/* Scan one pack from `from` on: tolerant up to where it was durable, strict behind. */
static int scan_pack(struct recovery *recovery, int fd, uint32_t number, uint64_t from, uint64_t durable_to,
                     uint64_t size, uint64_t *ret_end, bool *ret_sealed, struct far_error *err)
{
    struct far_pack_visitor visitor = {.arg = recovery, .record = found_record, .damage = found_damage};
    char path[4096];
    far_packs_path(&recovery->vault->packs, number, path, sizeof path);
    *ret_end = from;
    *ret_sealed = false;
    int rc = 0;
    if (from < durable_to) {
        rc = far_pack_scan(fd, path, number, from, durable_to, false, &visitor, ret_end, ret_sealed, err);
    }
    if (rc == 0 && !*ret_sealed && *ret_end < size) {
        rc = far_pack_scan(fd, path, number, *ret_end, size, true, &visitor, ret_end, ret_sealed, err);
    }
    return rc;
}

/* Was the pack sealed? The index may have spared us the scan, so look at its last record. */
static bool ends_sealed(int fd, uint64_t size)
{
    enum { SEAL_LENGTH = FAR_RECORD_HEADER_BYTES + 8 };
    uint8_t bytes[SEAL_LENGTH];
    uint8_t payload[8];
    struct far_record record;
    if (size < FAR_PACK_HEADER_BYTES + SEAL_LENGTH ||
        far_file_pread(fd, bytes, sizeof bytes, size - SEAL_LENGTH, "", NULL) != 0 ||
        far_record_decode(bytes, &record, NULL) != 0 || record.type != FAR_RECORD_SEAL) {
        return false;
    }
    return far_record_open(&record, bytes + FAR_RECORD_HEADER_BYTES, payload, sizeof payload, NULL) == 0 &&
           far_get_le64(payload) == size - SEAL_LENGTH;
}

/* The pack that still grows: cut its torn tail and go on writing behind it. */
static int adopt_last(struct recovery *recovery, int fd, uint32_t number, uint64_t end, uint64_t size,
                      struct far_error *err)
{
    struct far_vault *vault = recovery->vault;
    struct far_packs *packs = &vault->packs;
    char path[4096];
    far_packs_path(packs, number, path, sizeof path);
    if (end < size) {
        vault->stats.tail_cut += size - end;
        if (!vault->read_only && (ftruncate(fd, (off_t)end) != 0 || fdatasync(fd) != 0)) {
            return far_fail_errno(err, FAR_IO, errno, "cut the torn tail of '%s'", path);
        }
    }
    packs->written = end;
    packs->last_sealed = ends_sealed(fd, end);
    if (vault->read_only || packs->last_sealed) {
        return 0;
    }
    /* Bytes that were read from the cache of the kernel may never have reached the disk. */
    packs->write_fd = open(path, O_RDWR | O_CLOEXEC);
    if (packs->write_fd < 0 || fdatasync(packs->write_fd) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "open '%s' for writing", path);
    }
    return 0;
}

/* A header that is not good: in the last pack, if nothing in it was acknowledged, the crash of its creation. */
static int bad_header(struct recovery *recovery, int fd, uint32_t number, uint64_t size, bool is_last,
                      struct far_error *err)
{
    struct far_vault *vault = recovery->vault;
    uint8_t header[FAR_PACK_HEADER_BYTES];
    char path[4096];
    if (!is_last || recovery->durable.pack >= number) {
        note(recovery, number, 0, "the header of the pack is damaged");
        return 0;
    }
    vault->stats.tail_cut += size;
    if (vault->read_only) {
        return 0;
    }
    far_packs_path(&vault->packs, number, path, sizeof path);
    far_pack_header_encode(number, vault->uuid, header);
    if (ftruncate(fd, 0) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "begin '%s' anew", path);
    }
    return far_file_pwrite(fd, header, sizeof header, 0, path, err);
}

static int recover_file(struct recovery *recovery, int fd, uint32_t number, bool is_last, struct far_error *err)
{
    uint8_t header[FAR_PACK_HEADER_BYTES];
    struct stat st;
    char path[4096];
    far_packs_path(&recovery->vault->packs, number, path, sizeof path);
    if (fstat(fd, &st) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "stat '%s'", path);
    }
    uint64_t size = (uint64_t)st.st_size;
    bool header_good = size >= sizeof header && far_file_pread(fd, header, sizeof header, 0, path, NULL) == 0 &&
                       far_pack_header_decode(header, number, recovery->vault->uuid, NULL) == 0;
    if (!header_good) {
        int rc = bad_header(recovery, fd, number, size, is_last, err);
        if (rc != 0) {
            return rc;
        }
        size = size < sizeof header || (is_last && recovery->durable.pack < number) ? sizeof header : size;
    }
    uint64_t from = recovery->indexed.pack > number    ? size
                    : recovery->indexed.pack == number ? recovery->indexed.offset
                                                       : FAR_PACK_HEADER_BYTES;
    uint64_t durable_to = !is_last || recovery->durable.pack > number ? size
                          : recovery->durable.pack == number         ? recovery->durable.offset
                                                                     : FAR_PACK_HEADER_BYTES;
    if (durable_to > size) {
        note(recovery, number, size, "the pack is shorter than what was durable in it");
        durable_to = size;
    }
    uint64_t end;
    bool sealed;
    int rc = scan_pack(recovery, fd, number, from < size ? from : size, durable_to, size, &end, &sealed, err);
    if (rc == 0 && !is_last && !ends_sealed(fd, size)) {
        note(recovery, number, size, "the pack does not end as it was sealed");
    }
    recovery->vault->packs.total_bytes += end;
    recovery->last_size = end;
    return rc == 0 && is_last ? adopt_last(recovery, fd, number, end, size, err) : rc;
}

static int recover_pack(void *arg, uint64_t number, struct far_error *err)
{
    struct recovery *recovery = arg;
    struct far_vault *vault = recovery->vault;
    char path[4096];
    if (number == 0 || number > UINT32_MAX) {
        return 0;
    }
    for (; recovery->expected != 0 && recovery->expected < number; recovery->expected++) {
        note(recovery, recovery->expected, 0, "the pack is missing");
    }
    recovery->expected = (uint32_t)number + 1;
    far_packs_path(&vault->packs, (uint32_t)number, path, sizeof path);
    int fd = open(path, (vault->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (fd < 0) {
        return far_fail_errno(err, FAR_IO, errno, "open '%s'", path);
    }
    int rc = recover_file(recovery, fd, (uint32_t)number, number == vault->packs.last, err);
    close(fd);
    return rc;
}

static int note_number(void *arg, uint64_t number, struct far_error *err)
{
    struct far_packs *packs = arg;
    (void)err;
    if (number > 0 && number <= UINT32_MAX) {
        packs->first = packs->first == 0 ? (uint32_t)number : packs->first;
        packs->last = (uint32_t)number;
    }
    return 0;
}

/* Packs that were durable and are gone from the end. */
static void note_missing(struct recovery *recovery)
{
    struct far_packs *packs = &recovery->vault->packs;
    if (packs->last < recovery->durable.pack) {
        note(recovery, packs->last + 1, 0, "the pack is missing");
        packs->last = recovery->durable.pack; /* the number of a lost pack is never used again */
        packs->last_sealed = true;
    }
}

static int recover_packs(struct far_vault *vault, struct far_place indexed, struct far_error *err)
{
    struct recovery recovery = {.vault = vault, .indexed = indexed, .expected = 1};
    bool trusted = indexed.pack == EVERYTHING;
    int rc = find_durable(vault, trusted ? (struct far_place){0} : indexed, &recovery.durable, err);
    if (rc == 0) {
        rc = far_vault_each_number(vault->packs.dir, ".pack", note_number, &vault->packs, err);
    }
    if (rc != 0) {
        return rc;
    }
    recovery.entries = malloc(FAR_INDEX_BATCH_MAX * sizeof *recovery.entries);
    if (recovery.entries == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to open the vault");
    }
    rc = far_vault_each_number(vault->packs.dir, ".pack", recover_pack, &recovery, err);
    struct far_place end = {.pack = vault->packs.last, .offset = recovery.last_size};
    if (rc == 0 && (recovery.count > 0 || far_place_before(indexed, end)) && end.pack != 0) {
        rc = flush_entries(&recovery, &end, err);
    }
    if (rc == 0) {
        vault->durable = far_packs_end(&vault->packs);
        if (vault->packs.write_fd >= 0 && vault->packs.last < recovery.durable.pack) {
            close(vault->packs.write_fd);
            vault->packs.write_fd = -1;
        }
        note_missing(&recovery);
    }
    free(recovery.entries);
    return rc;
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
    int rc = find_durable(vault, (struct far_place){0}, &durable, err);
    if (rc != 0) {
        return rc;
    }
    if (good && !far_place_before(position, durable)) {
        /* What lies behind was never acknowledged: the packs need no walk. */
        *ret_position = (struct far_place){.pack = EVERYTHING};
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
        rc = read_meta(vault, err);
        if (rc == FAR_NOT_FOUND && options->create && !vault->read_only) {
            rc = create_files(vault, err);
        }
    }
    return rc == 0 && !vault->read_only ? read_key(vault, err) : rc;
}

static int open_parts(struct far_vault *vault, const struct far_vault_options *options, struct far_error *err)
{
    uint64_t cache = options->cache_bytes_max != 0 ? options->cache_bytes_max : CACHE_BYTES_DEFAULT;
    uint64_t pack = options->pack_bytes_max != 0 ? options->pack_bytes_max : PACK_BYTES_DEFAULT;
    struct far_place position;
    char path[4096];
    vault->dirty_pages_max = cache / 2 / FAR_MAP_PAGE_BYTES;
    path_in(vault, "packs", path, sizeof path);
    int rc = far_packs_init(&vault->packs, path, vault->uuid, pack, err);
    rc = rc != 0 ? rc : far_waiting_init(&vault->waiting, err);
    rc = rc != 0 ? rc : far_waiting_init(&vault->committing, err);
    rc = rc != 0 ? rc : far_pages_init(&vault->pages, cache / 2, err);
    rc = rc != 0 ? rc : open_index(vault, &position, err);
    return rc != 0 ? rc : recover_packs(vault, position, err);
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
    vault->packs.write_fd = -1;
    pthread_mutex_init(&vault->lock, NULL);
    pthread_mutex_init(&vault->sync_lock, NULL);
    pthread_mutex_init(&vault->replicas_lock, NULL);
    rc = open_files(vault, options, err);
    if (rc == 0) {
        rc = open_parts(vault, options, err);
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
    static const char *const names[] = {"data.mdb", "lock.mdb"};
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
    far_index_close(vault->index);
    if (vault->index_is_temporary) {
        remove_temporary_index(vault);
    }
    far_pages_done(&vault->pages);
    free(vault->waiting.slots);
    free(vault->committing.slots);
    far_packs_done(&vault->packs);
    if (vault->lock_fd >= 0) {
        close(vault->lock_fd);
    }
    pthread_mutex_destroy(&vault->replicas_lock);
    pthread_mutex_destroy(&vault->sync_lock);
    pthread_mutex_destroy(&vault->lock);
    explicit_bzero(vault->seed, sizeof vault->seed);
    free(vault);
}
