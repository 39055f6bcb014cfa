/* What a crash left in the packs of a vault, when it is opened.
 *
 * What was acknowledged is known from the replica files, the manifests and the index: each holds a position of the
 * packs before which everything was durable. Behind the highest of them the last pack is checked byte for byte and cut
 * at the first record that is not whole. Before it nothing is ever cut: damage there is named, and the rest stays
 * usable. What the index does not know yet is put into it. */
#define _GNU_SOURCE
#include "base/file.h"
#include "dataplane/remote.h"
#include "dataplane/vault_private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { GAP_MAX = 1 << 24 }; /* packs in a row */

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
    if (far_vault_manifest_peek(search->vault, point_id, manifest, NULL) == 0) {
        raise_durable(search, (struct far_place){.pack = (uint32_t)manifest->pack, .offset = manifest->pack_offset});
    }
    free(manifest);
    return 0;
}

int far_vault_find_durable(struct far_vault *vault, struct far_place indexed, struct far_place *ret_durable,
                           struct far_error *err)
{
    char path[4096];
    struct durable_search search = {.vault = vault, .durable = indexed};
    snprintf(path, sizeof path, "%s/replicas", vault->dir);
    int rc = far_vault_each_number(path, ".replica", durable_of_replica, &search, err);
    if (rc == 0) {
        snprintf(path, sizeof path, "%s/points", vault->dir);
        rc = far_vault_each_number(path, ".manifest", durable_of_point, &search, err);
    }
    search.durable.length = 0;
    *ret_durable = search.durable;
    return rc;
}

/* ---- the packs into the index ---- */

struct recovery {
    struct far_vault *vault;
    struct far_dead_list dead; /* of the pack that is looked at */
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
    struct far_dead_list dead;
    (void)id;
    /* Beside a process that writes: what was alive when its list was read may be dead by now. */
    bool died = recovery->vault->read_only && far_dead_read(&recovery->vault->packs, place.pack, &dead, NULL) == 0 &&
                far_dead_end(&dead, place.offset) != place.offset;
    if (recovery->vault->read_only) {
        far_dead_done(&dead);
    }
    if (!died) {
        far_vault_note_damage(recovery->vault, place, text);
    }
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
    struct far_pack_visitor visitor = {
        .arg = recovery, .dead = &recovery->dead, .record = found_record, .damage = found_damage};
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

/* The index that knew which dead ranges had still to be zeroed is gone. */
static void zero_again(const struct recovery *recovery, int fd, const char *path, uint64_t from)
{
    bool whole = from == FAR_PACK_HEADER_BYTES && !recovery->vault->read_only;
    for (size_t i = 0; whole && i < recovery->dead.count; i++) {
        struct far_dead_range range = recovery->dead.ranges[i];
        off_t data = lseek(fd, (off_t)range.offset, SEEK_DATA);
        if (data >= 0 && (uint64_t)data < range.offset + range.length) {
            far_dead_zero(fd, path, range, true, NULL); /* the pass that was interrupted may have been one that overwrites */
        }
    }
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
    zero_again(recovery, fd, path, from);
    int rc = scan_pack(recovery, fd, number, from < size ? from : size, durable_to, size, &end, &sealed, err);
    if (rc == 0 && !is_last && !ends_sealed(fd, size)) {
        note(recovery, number, size, "the pack does not end as it was sealed");
    }
    recovery->vault->packs.total_bytes += end;
    recovery->vault->packs.dead_bytes += recovery->dead.total;
    recovery->last_size = end;
    return rc == 0 && is_last ? adopt_last(recovery, fd, number, end, size, err) : rc;
}

/* A pack that is only in the store: complete, and its index is there. */
static int recover_away(struct recovery *recovery, uint32_t number, uint64_t size, struct far_error *err)
{
    struct far_vault *vault = recovery->vault;
    struct far_pack_visitor visitor = {
        .arg = recovery, .dead = &recovery->dead, .record = found_record, .damage = found_damage};
    uint64_t from = recovery->indexed.pack > number    ? size
                    : recovery->indexed.pack == number ? recovery->indexed.offset
                                                       : FAR_PACK_HEADER_BYTES;
    uint64_t end;
    bool sealed;
    struct far_error cause;
    int rc = from < size ? far_remote_scan(vault, number, from, size, &visitor, &end, &sealed, &cause) : 0;
    if (rc == FAR_CORRUPT) {
        far_vault_note_damage(vault, (struct far_place){.pack = number}, cause.message);
    } else if (rc != 0) {
        if (err != NULL) {
            *err = cause;
        }
        return rc;
    }
    vault->packs.total_bytes += size;
    vault->packs.dead_bytes += recovery->dead.total;
    recovery->last_size = size;
    if (number == vault->packs.last) {
        vault->packs.written = size;
        vault->packs.last_sealed = true;
    }
    return 0;
}

static void read_dead(struct recovery *recovery, uint32_t number)
{
    struct far_error cause;
    if (far_dead_read(&recovery->vault->packs, number, &recovery->dead, &cause) != 0) {
        far_vault_note_damage(recovery->vault, (struct far_place){.pack = number}, cause.message);
    }
}

static int recover_pack(void *arg, uint64_t number, struct far_error *err)
{
    struct recovery *recovery = arg;
    struct far_vault *vault = recovery->vault;
    char path[4096];
    if (number == 0 || number > UINT32_MAX) {
        return 0;
    }
    if (number - recovery->expected > GAP_MAX) {
        note(recovery, recovery->expected, 0, "more packs are missing than there can be");
        recovery->expected = (uint32_t)number;
    }
    for (; recovery->expected != 0 && recovery->expected < number; recovery->expected++) {
        bool removed = far_removed_has(&vault->removed, recovery->expected);
        if (removed) {
            vault->packs.removed += recovery->expected >= vault->packs.first;
        } else {
            note(recovery, recovery->expected, 0, "the pack is missing");
        }
    }
    recovery->expected = (uint32_t)number + 1;
    far_packs_path(&vault->packs, (uint32_t)number, path, sizeof path);
    if (far_removed_has(&vault->removed, (uint32_t)number)) { /* a crash came before its file was gone */
        vault->packs.removed += number >= vault->packs.first;
        return vault->read_only ? 0 : far_vault_remove_pack(vault, (uint32_t)number, err);
    }
    read_dead(recovery, (uint32_t)number);
    uint64_t size;
    int fd = open(path, (vault->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && far_remote_has(vault, (uint32_t)number, &size)) {
        int rc = recover_away(recovery, (uint32_t)number, size, err);
        far_dead_done(&recovery->dead);
        return rc;
    }
    if (fd < 0) {
        return far_fail_errno(err, FAR_IO, errno, "open '%s'", path);
    }
    int rc = recover_file(recovery, fd, (uint32_t)number, number == vault->packs.last, err);
    far_dead_done(&recovery->dead);
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

/* Packs at the end that reclaim removed, behind the last one that is there: after an attach what followed them is gone. A number that is
 * in `removed` is never used again: the next open would take such a pack for one that is to go. */
static void skip_removed(struct far_vault *vault)
{
    struct far_packs *packs = &vault->packs;
    const struct far_removed *removed = &vault->removed;
    const struct far_dead_range *run = removed->count > 0 ? &removed->runs[removed->count - 1] : NULL;
    uint64_t highest = run != NULL ? run->offset + run->length - 1 : 0;
    if (highest > packs->last && highest <= UINT32_MAX) {
        packs->last = (uint32_t)highest;
        packs->last_sealed = true;
    }
}

/* Packs that were durable and are gone from the end. */
static void note_missing(struct recovery *recovery)
{
    struct far_packs *packs = &recovery->vault->packs;
    for (uint64_t number = recovery->expected; packs->first != 0 && number <= packs->last; number++) {
        packs->removed += far_removed_has(&recovery->vault->removed, (uint32_t)number);
    }
    if (packs->last < recovery->durable.pack) {
        note(recovery, packs->last + 1, 0, "the pack is missing");
        packs->last = recovery->durable.pack; /* the number of a lost pack is never used again */
        packs->last_sealed = true;
    }
}

int far_vault_repair(struct far_vault *vault, struct far_place indexed, struct far_error *err)
{
    struct recovery recovery = {.vault = vault, .indexed = indexed, .expected = 1};
    bool trusted = indexed.pack == FAR_INDEX_COMPLETE;
    int rc = far_vault_find_durable(vault, trusted ? (struct far_place){0} : indexed, &recovery.durable, err);
    if (rc == 0) {
        rc = far_remote_each_pack(vault, note_number, &vault->packs, err);
    }
    if (rc != 0) {
        return rc;
    }
    skip_removed(vault);
    recovery.entries = malloc(FAR_INDEX_BATCH_MAX * sizeof *recovery.entries);
    if (recovery.entries == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to open the vault");
    }
    rc = far_remote_each_pack(vault, recover_pack, &recovery, err);
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

bool far_vault_cut_unacknowledged(struct far_vault *vault, struct far_place indexed)
{
    enum { WORTH_IT = 1 << 20 };
    struct far_place durable;
    char path[4096];
    struct stat st;
    uint32_t last = vault->packs.last;
    bool is_known = vault->remote == NULL && indexed.pack != 0 && far_vault_find_durable(vault, indexed, &durable, NULL) == 0 &&
                    durable.pack <= last;
    if (!is_known) {
        return false;
    }
    off_t end = durable.pack == last ? (off_t)durable.offset : FAR_PACK_HEADER_BYTES;
    far_packs_path(&vault->packs, last, path, sizeof path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    bool is_cut = fd >= 0 && fstat(fd, &st) == 0 && st.st_size > end + WORTH_IT && !ends_sealed(fd, (uint64_t)st.st_size) &&
                  ftruncate(fd, end) == 0 && fdatasync(fd) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return is_cut;
}
