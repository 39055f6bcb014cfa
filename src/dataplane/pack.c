/* The set of packs of a vault: see pack.h. Records are gathered in a buffer and written in large pieces; nothing is
 * synced here but a pack that is full. A failed write leaves the buffer as it is and is tried again by the next one. */
#define _GNU_SOURCE
#include "dataplane/pack.h"

#include "base/assert.h"
#include "base/file.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SEAL_BYTES = 8 };

int far_packs_init(struct far_packs *packs, const char *dir, const uint8_t vault_uuid[16], uint64_t pack_bytes_max,
                   struct far_error *err)
{
    memset(packs, 0, sizeof *packs);
    packs->write_fd = -1;
    int n = snprintf(packs->dir, sizeof packs->dir, "%s", dir);
    if (n < 0 || (size_t)n >= sizeof packs->dir) {
        return far_fail(err, FAR_INVALID, "path too long: '%.100s…'", dir);
    }
    memcpy(packs->vault_uuid, vault_uuid, 16);
    packs->pack_bytes_max = pack_bytes_max;
    packs->buffer = malloc(FAR_PACK_BUFFER_BYTES);
    return packs->buffer != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory for the write buffer of the vault");
}

static void close_files(struct far_packs *packs)
{
    for (int i = 0; i < FAR_PACK_FILES_MAX; i++) {
        if (packs->files[i].number != 0) {
            FAR_ASSERT(packs->files[i].users == 0);
            close(packs->files[i].fd);
        }
    }
    if (packs->write_fd >= 0) {
        close(packs->write_fd);
    }
}

void far_packs_restart(struct far_packs *packs)
{
    struct far_packs fresh = {.write_fd = -1, .pack_bytes_max = packs->pack_bytes_max, .buffer = packs->buffer};
    close_files(packs);
    memcpy(fresh.dir, packs->dir, sizeof fresh.dir);
    memcpy(fresh.vault_uuid, packs->vault_uuid, sizeof fresh.vault_uuid);
    *packs = fresh;
}

void far_packs_done(struct far_packs *packs)
{
    close_files(packs);
    free(packs->buffer);
    memset(packs, 0, sizeof *packs);
    packs->write_fd = -1;
}

void far_packs_path(const struct far_packs *packs, uint32_t number, char *path, size_t len)
{
    snprintf(path, len, "%s/%08u.pack", packs->dir, number);
}

int far_packs_flush(struct far_packs *packs, struct far_error *err)
{
    char path[4096];
    if (packs->buffered == 0) {
        return 0;
    }
    far_packs_path(packs, packs->last, path, sizeof path);
    int rc = far_file_pwrite(packs->write_fd, packs->buffer, packs->buffered, packs->written, path, err);
    if (rc != 0) {
        return rc;
    }
#ifdef SYNC_FILE_RANGE_WRITE
    /* Only starts the writing, so that the next fdatasync finds less to do. */
    sync_file_range(packs->write_fd, (off_t)packs->written, (off_t)packs->buffered, SYNC_FILE_RANGE_WRITE);
#endif
    packs->written += packs->buffered;
    packs->total_bytes += packs->buffered;
    packs->buffered = 0;
    return 0;
}

/* The record into the buffer, flushed before if it does not fit. */
static int buffer_record(struct far_packs *packs, const struct far_record *record, const void *stored,
                         struct far_error *err)
{
    size_t length = FAR_RECORD_HEADER_BYTES + record->stored_len;
    if (packs->buffered + length > FAR_PACK_BUFFER_BYTES) {
        int rc = far_packs_flush(packs, err);
        if (rc != 0) {
            return rc;
        }
    }
    far_record_encode(record, packs->buffer + packs->buffered);
    memcpy(packs->buffer + packs->buffered + FAR_RECORD_HEADER_BYTES, stored, record->stored_len);
    packs->buffered += length;
    return 0;
}

/* The last pack is complete: written, sealed, durable. */
static int seal_last(struct far_packs *packs, struct far_error *err)
{
    char path[4096];
    uint8_t payload[SEAL_BYTES];
    uint8_t bytes[FAR_RECORD_HEADER_BYTES + SEAL_BYTES];
    int rc = far_packs_flush(packs, err);
    if (rc != 0) {
        return rc;
    }
    far_put_le64(payload, packs->written);
    struct far_record seal = {.type = FAR_RECORD_SEAL, .stored_len = SEAL_BYTES, .raw_len = SEAL_BYTES};
    seal.sum = far_hash64(payload, SEAL_BYTES);
    far_record_encode(&seal, bytes);
    memcpy(bytes + FAR_RECORD_HEADER_BYTES, payload, SEAL_BYTES);
    far_packs_path(packs, packs->last, path, sizeof path);
    rc = far_file_pwrite(packs->write_fd, bytes, sizeof bytes, packs->written, path, err);
    if (rc != 0) {
        return rc;
    }
    if (fdatasync(packs->write_fd) != 0) {
        packs->sync_failed = true;
        return far_fail_errno(err, FAR_IO, errno, "sync '%s'", path);
    }
    close(packs->write_fd);
    packs->write_fd = -1;
    packs->total_bytes += sizeof bytes;
    packs->written += sizeof bytes;
    packs->last_sealed = true;
    return 0;
}

int far_packs_finish(struct far_packs *packs, struct far_error *err)
{
    bool has_some = packs->write_fd >= 0 && packs->written + packs->buffered > FAR_PACK_HEADER_BYTES;
    return has_some ? seal_last(packs, err) : 0;
}

static int start_next(struct far_packs *packs, struct far_error *err)
{
    char path[4096];
    uint8_t header[FAR_PACK_HEADER_BYTES];
    uint32_t number = packs->last + 1;
    if (packs->last == UINT32_MAX) {
        return far_fail(err, FAR_LIMIT, "the vault has no number left for another pack");
    }
    far_packs_path(packs, number, path, sizeof path);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return far_fail_errno(err, FAR_IO, errno, "create '%s'", path);
    }
    far_pack_header_encode(number, packs->vault_uuid, header);
    int rc = far_file_pwrite(fd, header, sizeof header, 0, path, err);
    if (rc == 0 && fdatasync(fd) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "sync '%s'", path);
    }
    if (rc == 0) {
        rc = far_file_sync_dir(packs->dir, err);
    }
    if (rc != 0) {
        close(fd);
        unlink(path);
        return rc;
    }
    packs->write_fd = fd;
    packs->first = packs->first == 0 ? number : packs->first;
    packs->last = number;
    packs->last_sealed = false;
    packs->written = sizeof header;
    packs->total_bytes += sizeof header;
    return 0;
}

int far_packs_append(struct far_packs *packs, const struct far_record *record, const void *stored,
                     struct far_place *ret_place, struct far_error *err)
{
    uint64_t length = FAR_RECORD_HEADER_BYTES + record->stored_len;
    int rc = 0;
    bool full = packs->written + packs->buffered + length > packs->pack_bytes_max;
    if (packs->write_fd >= 0 && full) {
        rc = seal_last(packs, err);
    }
    if (rc == 0 && packs->write_fd < 0) {
        rc = start_next(packs, err);
    }
    if (rc == 0) {
        rc = buffer_record(packs, record, stored, err);
    }
    if (rc != 0) {
        return rc;
    }
    struct far_place end = far_packs_end(packs);
    *ret_place = (struct far_place){.pack = end.pack, .offset = end.offset - length, .length = (uint32_t)length};
    return 0;
}

struct far_place far_packs_end(const struct far_packs *packs)
{
    return (struct far_place){.pack = packs->last, .offset = packs->written + packs->buffered};
}

bool far_packs_read_buffer(const struct far_packs *packs, struct far_place place, void *ret_bytes)
{
    if (place.pack != packs->last || place.offset < packs->written || packs->buffered == 0) {
        return false;
    }
    uint64_t at = place.offset - packs->written;
    FAR_ASSERT(at + place.length <= packs->buffered);
    memcpy(ret_bytes, packs->buffer + at, place.length);
    return true;
}

/* A free slot, or the one that was not used for the longest time; NULL if all are in use. */
static struct far_pack_file *free_slot(struct far_packs *packs)
{
    struct far_pack_file *best = NULL;
    for (int i = 0; i < FAR_PACK_FILES_MAX; i++) {
        struct far_pack_file *file = &packs->files[i];
        if (file->number == 0) {
            return file;
        }
        if (file->users == 0 && (best == NULL || file->used_at < best->used_at)) {
            best = file;
        }
    }
    if (best != NULL) {
        close(best->fd);
        best->number = 0;
    }
    return best;
}

int far_packs_get_file(struct far_packs *packs, uint32_t number, int *ret_fd, struct far_error *err)
{
    char path[4096];
    for (int i = 0; i < FAR_PACK_FILES_MAX; i++) {
        struct far_pack_file *file = &packs->files[i];
        if (file->number == number && number != 0) {
            file->users++;
            file->used_at = ++packs->tick;
            *ret_fd = file->fd;
            return 0;
        }
    }
    far_packs_path(packs, number, path, sizeof path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return far_fail_errno(err, errno == ENOENT ? FAR_CORRUPT : FAR_IO, errno, "open '%s'", path);
    }
    struct far_pack_file *slot = free_slot(packs);
    if (slot != NULL) {
        *slot = (struct far_pack_file){.number = number, .users = 1, .fd = fd, .used_at = ++packs->tick};
    }
    *ret_fd = fd;
    return 0;
}

void far_packs_put_file(struct far_packs *packs, uint32_t number, int fd)
{
    for (int i = 0; i < FAR_PACK_FILES_MAX; i++) {
        if (packs->files[i].number == number && packs->files[i].fd == fd) {
            packs->files[i].users--;
            return;
        }
    }
    close(fd); /* it had no slot */
}

void far_packs_drop_file(struct far_packs *packs, uint32_t number)
{
    for (int i = 0; i < FAR_PACK_FILES_MAX; i++) {
        struct far_pack_file *file = &packs->files[i];
        if (file->number == number && file->users == 0 && number != 0) {
            close(file->fd);
            file->number = 0;
        }
    }
}
