/* The layer of what is written: see layer.h. The file is as large as the disk and sparse: a block lies where it lies on the disk. A block's
 * lock (one of a few, by its number) is held while it comes to be in the layer; what is in it stays, and is read and written without. */
#define _GNU_SOURCE
#include "dataplane/layer.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { LOCKS = 64 };

struct far_layer {
    struct far_opened *opened;
    int fd;
    uint64_t size;
    uint64_t blocks_max;
    _Atomic uint64_t blocks;  /* in it, or about to be */
    _Atomic bool is_full;
    _Atomic uint8_t *written; /* a bit for each block of the disk */
    pthread_mutex_t locks[LOCKS];
};

static bool is_in(const struct far_layer *layer, uint64_t block)
{
    return (atomic_load(&layer->written[block / 8]) >> (block % 8) & 1) != 0;
}

int far_layer_read(struct far_layer *layer, void *ret_bytes, size_t length, uint64_t offset, struct far_error *err)
{
    uint8_t *at = ret_bytes;
    int rc = far_map_check_range(layer->size, offset, length, err);
    while (rc == 0 && length > 0) {
        size_t from = offset % FAR_BLOCK_BYTES, rest = FAR_BLOCK_BYTES - from, piece = length < rest ? length : rest;
        rc = is_in(layer, offset / FAR_BLOCK_BYTES) ? far_file_pread(layer->fd, at, piece, offset, "what was written", err)
                                                    : far_opened_read(layer->opened, at, piece, offset, err);
        at += piece;
        offset += piece;
        length -= piece;
    }
    return rc;
}

/* Room for one block more; given back if it does not come to be there. */
static int take_room(struct far_layer *layer, struct far_error *err)
{
    if (atomic_fetch_add(&layer->blocks, 1) < layer->blocks_max) {
        return 0;
    }
    atomic_fetch_sub(&layer->blocks, 1);
    atomic_store(&layer->is_full, true);
    return far_fail(err, FAR_LIMIT, "what is written to this disk may take %llu bytes, and does: no space left",
                    (unsigned long long)layer->blocks_max * FAR_BLOCK_BYTES);
}

/* The block's lock is held: it comes to be in the layer with these bytes in it. */
static int add_block(struct far_layer *layer, uint64_t block, size_t from, const uint8_t *bytes, size_t length, struct far_error *err)
{
    uint8_t whole[FAR_BLOCK_BYTES];
    size_t size = far_map_block_bytes(layer->size, block);
    int rc = take_room(layer, err);
    if (rc != 0) {
        return rc;
    }
    rc = length < size ? far_opened_read(layer->opened, whole, size, block * FAR_BLOCK_BYTES, err) : 0;
    if (rc == 0) {
        memcpy(whole + from, bytes, length);
        rc = far_file_pwrite(layer->fd, whole, size, block * FAR_BLOCK_BYTES, "what is written", err);
    }
    if (rc == 0) {
        atomic_fetch_or(&layer->written[block / 8], (uint8_t)(1u << (block % 8)));
    } else {
        atomic_fetch_sub(&layer->blocks, 1);
    }
    return rc;
}

static int write_piece(struct far_layer *layer, uint64_t block, size_t from, const uint8_t *bytes, size_t length, struct far_error *err)
{
    pthread_mutex_t *lock = &layer->locks[block % LOCKS];
    int rc = 0;
    bool was_in = is_in(layer, block);
    if (!was_in) {
        pthread_mutex_lock(lock);
        was_in = is_in(layer, block);
        rc = was_in ? 0 : add_block(layer, block, from, bytes, length, err);
        pthread_mutex_unlock(lock);
    }
    return was_in ? far_file_pwrite(layer->fd, bytes, length, block * FAR_BLOCK_BYTES + from, "what is written", err) : rc;
}

int far_layer_write(struct far_layer *layer, const void *bytes, size_t length, uint64_t offset, struct far_error *err)
{
    const uint8_t *at = bytes;
    int rc = far_map_check_range(layer->size, offset, length, err);
    while (rc == 0 && length > 0) {
        size_t from = offset % FAR_BLOCK_BYTES, rest = FAR_BLOCK_BYTES - from, piece = length < rest ? length : rest;
        rc = write_piece(layer, offset / FAR_BLOCK_BYTES, from, at, piece, err);
        at += piece;
        offset += piece;
        length -= piece;
    }
    return rc;
}

int far_layer_extent(struct far_layer *layer, uint64_t offset, bool *ret_zero, uint64_t *ret_length, struct far_error *err)
{
    uint64_t block = offset / FAR_BLOCK_BYTES;
    bool here = offset < layer->size && is_in(layer, block);
    *ret_zero = false;
    int rc = here ? 0 : far_opened_extent(layer->opened, offset, ret_zero, ret_length, err);
    if (rc == 0) {
        *ret_length = block * FAR_BLOCK_BYTES + far_map_block_bytes(layer->size, block) - offset;
    }
    return rc;
}

void far_layer_state(const struct far_layer *layer, struct far_layer_state *ret_state)
{
    uint64_t blocks = atomic_load(&layer->blocks);
    *ret_state = (struct far_layer_state){.bytes = (blocks < layer->blocks_max ? blocks : layer->blocks_max) * FAR_BLOCK_BYTES,
                                          .bytes_max = layer->blocks_max * FAR_BLOCK_BYTES,
                                          .is_full = atomic_load(&layer->is_full)};
}

/* ---- life ---- */

static int make_file(struct far_layer *layer, const char *folder, struct far_error *err)
{
    char path[4096];
    layer->fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (layer->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) { /* a file system that cannot */
        snprintf(path, sizeof path, "%.4000s/written-XXXXXX", folder);
        layer->fd = mkostemp(path, O_CLOEXEC);
        if (layer->fd >= 0) {
            unlink(path);
        }
    }
    if (layer->fd < 0) {
        return far_fail_errno(err, FAR_IO, errno, "make a file in '%s' for what is written", folder);
    }
    return ftruncate(layer->fd, (off_t)layer->size) == 0
               ? 0
               : far_fail_errno(err, FAR_IO, errno, "make a file of %llu bytes in '%s'", (unsigned long long)layer->size, folder);
}

static int bound(struct far_layer *layer, const char *folder, uint64_t bytes_max, unsigned percent, struct far_error *err)
{
    struct statvfs fs;
    if (bytes_max == 0 && fstatvfs(layer->fd, &fs) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "see how much is free in '%s'", folder);
    }
    uint64_t bytes = bytes_max != 0 ? bytes_max : (uint64_t)fs.f_bavail * fs.f_frsize / 100 * percent;
    layer->blocks_max = bytes / FAR_BLOCK_BYTES;
    return 0;
}

int far_layer_new(struct far_opened *opened, const char *folder, uint64_t bytes_max, unsigned percent, struct far_layer **ret_layer,
                  struct far_error *err)
{
    struct far_layer *layer = calloc(1, sizeof *layer);
    if (layer == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for what is written");
    }
    layer->opened = opened;
    layer->fd = -1;
    layer->size = far_opened_size(opened);
    for (size_t i = 0; i < LOCKS; i++) {
        pthread_mutex_init(&layer->locks[i], NULL);
    }
    layer->written = calloc(1, (size_t)(far_map_block_count(layer->size) + 7) / 8 + 1);
    int rc = layer->written != NULL ? make_file(layer, folder, err) : far_fail(err, FAR_LIMIT, "no memory for what is written");
    rc = rc == 0 ? bound(layer, folder, bytes_max, percent, err) : rc;
    if (rc != 0) {
        far_layer_close(layer);
        return rc;
    }
    *ret_layer = layer;
    return 0;
}

void far_layer_close(struct far_layer *layer)
{
    if (layer != NULL) {
        if (layer->fd >= 0) {
            close(layer->fd);
        }
        for (size_t i = 0; i < LOCKS; i++) {
            pthread_mutex_destroy(&layer->locks[i]);
        }
        free((void *)layer->written);
        free(layer);
    }
}
