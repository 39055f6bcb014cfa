/* Offline recovery: one disk of a sealed point out of nothing but the vault; see vault.h.
 *
 * Written block by block (holes for zeroes in a file that is new), flushed, and then proven: read back past the cache of
 * the kernel where the file system allows it (O_DIRECT, else POSIX_FADV_DONTNEED), hashed, its root compared with the
 * signed one. A file that does not get that far is removed. */
#define _GNU_SOURCE
#include "base/file.h"
#include "dataplane/vault_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>

enum { BATCH_BLOCKS = 16, PROGRESS_BLOCKS = 64, ALIGNMENT = 4096 };

struct recover {
    struct far_point *point;
    const char *target;
    const struct far_recover_options *options;
    bool is_device;
    bool created; /* by us: ours to remove */
    int fd;
    uint8_t *buffer; /* BATCH_BLOCKS blocks, aligned */
};

static void report(const struct recover *recover, const char *phase, uint64_t blocks_done)
{
    uint64_t size = far_point_size(recover->point);
    uint64_t done = blocks_done * FAR_BLOCK_BYTES;
    struct far_recover_progress progress = {.phase = phase, .bytes_done = done < size ? done : size};
    progress.bytes_total = size;
    if (recover->options->progress != NULL) {
        recover->options->progress(recover->options->arg, &progress);
    }
}

static int open_device(struct recover *recover, struct far_error *err)
{
    uint64_t device_bytes = 0;
    if (!recover->options->overwrite_device) {
        return far_fail(err, FAR_CONFLICT, "'%s' is a device that is there; say that it may be overwritten",
                        recover->target);
    }
    recover->is_device = true;
    recover->fd = open(recover->target, O_RDWR | O_EXCL | O_CLOEXEC);
    if (recover->fd < 0 || ioctl(recover->fd, BLKGETSIZE64, &device_bytes) != 0) {
        return far_fail_errno(err, errno == EBUSY ? FAR_CONFLICT : FAR_IO, errno, "open device '%s'", recover->target);
    }
    if (device_bytes < far_point_size(recover->point)) {
        return far_fail(err, FAR_LIMIT, "device '%s' has %llu bytes, the disk %llu", recover->target,
                        (unsigned long long)device_bytes, (unsigned long long)far_point_size(recover->point));
    }
    return 0;
}

static int open_target(struct recover *recover, struct far_error *err)
{
    struct stat st;
    if (stat(recover->target, &st) == 0) {
        return S_ISBLK(st.st_mode) ? open_device(recover, err)
                                   : far_fail(err, FAR_CONFLICT, "'%s' exists; recovery only makes new files",
                                              recover->target);
    }
    recover->fd = open(recover->target, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (recover->fd < 0) {
        return far_fail_errno(err, errno == EEXIST ? FAR_CONFLICT : FAR_IO, errno, "create '%s'", recover->target);
    }
    recover->created = true;
    if (ftruncate(recover->fd, (off_t)far_point_size(recover->point)) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "set the size of '%s'", recover->target);
    }
    return 0;
}

static int write_all(struct recover *recover, struct far_error *err)
{
    uint64_t size = far_point_size(recover->point);
    uint64_t blocks = far_map_block_count(size);
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < blocks; i++) {
        bool zero;
        if (i % PROGRESS_BLOCKS == 0) {
            report(recover, "write", i);
        }
        rc = far_point_read(recover->point, i, true, recover->buffer, &zero, err);
        if (rc == 0 && (!zero || recover->is_device)) {
            rc = far_file_pwrite(recover->fd, recover->buffer, far_map_block_bytes(size, i), i * FAR_BLOCK_BYTES,
                                 recover->target, err);
        }
    }
    if (rc == 0 && fsync(recover->fd) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "sync '%s'", recover->target);
    }
    report(recover, "write", blocks);
    return rc;
}

/* A descriptor whose reads come from the device. O_DIRECT reads whole aligned batches; a file may end inside one. */
static int open_to_prove(const struct recover *recover, struct far_error *err)
{
    posix_fadvise(recover->fd, 0, 0, POSIX_FADV_DONTNEED);
    int fd = open(recover->target, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0 && errno == EINVAL) {
        fd = open(recover->target, O_RDONLY | O_CLOEXEC);
    }
    return fd >= 0 ? fd : far_fail_errno(err, FAR_IO, errno, "open '%s' to read it back", recover->target);
}

/* Bytes [offset, offset + len) into the buffer, asking for whole batches: O_DIRECT wants aligned lengths. */
static int read_batch(const struct recover *recover, int fd, uint64_t offset, size_t len, struct far_error *err)
{
    size_t done = 0;
    while (done < len) {
        size_t ask = (size_t)BATCH_BLOCKS * FAR_BLOCK_BYTES - done;
        ssize_t n = pread(fd, recover->buffer + done, ask, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return far_fail_errno(err, FAR_IO, errno, "read '%s' back", recover->target);
        }
        if (n == 0) {
            return far_fail(err, FAR_CORRUPT, "'%s' ends early when it is read back", recover->target);
        }
        done += (size_t)n;
    }
    return 0;
}

static int hash_all(struct recover *recover, int fd, struct far_map_stream *map, struct far_error *err)
{
    uint64_t size = far_point_size(recover->point);
    uint64_t blocks = far_map_block_count(size);
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < blocks; i += BATCH_BLOCKS) {
        uint64_t rest = size - i * FAR_BLOCK_BYTES;
        uint64_t count = blocks - i < BATCH_BLOCKS ? blocks - i : BATCH_BLOCKS;
        size_t len = rest < count * FAR_BLOCK_BYTES ? (size_t)rest : (size_t)count * FAR_BLOCK_BYTES;
        rc = read_batch(recover, fd, i * FAR_BLOCK_BYTES, len, err);
        for (uint64_t j = 0; rc == 0 && j < count; j++) {
            struct far_hash256 leaf;
            far_block_leaf(recover->buffer + j * FAR_BLOCK_BYTES, far_map_block_bytes(size, i + j), &leaf);
            far_map_stream_add(map, &leaf);
        }
        if (i % PROGRESS_BLOCKS == 0) {
            report(recover, "prove", i);
        }
    }
    report(recover, "prove", blocks);
    return rc;
}

static int prove(struct recover *recover, struct far_hash256 *ret_root, struct far_error *err)
{
    struct far_hash256 root;
    struct far_hash256 expected;
    int fd = open_to_prove(recover, err);
    if (fd < 0) {
        return fd;
    }
    struct far_map_stream *map = malloc(sizeof *map);
    int rc = map != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory to prove a disk");
    if (rc == 0) {
        far_map_stream_init(map, far_point_size(recover->point));
        rc = hash_all(recover, fd, map, err);
    }
    if (rc == 0) {
        far_map_stream_root(map, &root);
        far_point_root(recover->point, &expected);
        if (!far_hash256_equal(&root, &expected)) {
            rc = far_fail(err, FAR_CORRUPT, "'%s' reads back with another root than the point's", recover->target);
        }
    }
    if (rc == 0 && ret_root != NULL) {
        *ret_root = root;
    }
    free(map);
    close(fd);
    return rc;
}

static int recover_to(struct recover *recover, struct far_hash256 *ret_root, struct far_error *err)
{
    char dir[4096];
    int rc = open_target(recover, err);
    if (rc == 0) {
        rc = write_all(recover, err);
    }
    if (rc == 0) {
        rc = prove(recover, ret_root, err);
    }
    if (rc == 0 && recover->created) {
        far_file_dir_of(recover->target, dir, sizeof dir);
        rc = far_file_sync_dir(dir, err);
    }
    if (recover->fd >= 0) {
        close(recover->fd);
    }
    if (rc != 0 && recover->created) {
        unlink(recover->target);
    }
    return rc;
}

int far_vault_recover_offline(const char *dir, uint64_t point_id, const char *disk, const char *target,
                              const struct far_recover_options *options, struct far_hash256 *ret_root,
                              struct far_error *err)
{
    static const struct far_recover_options defaults;
    struct far_vault_options vault_options = {.read_only = true};
    struct recover recover = {.target = target, .options = options != NULL ? options : &defaults, .fd = -1};
    struct far_vault *vault = NULL;
    int rc = far_vault_open(dir, &vault_options, &vault, err);
    if (rc == 0) {
        rc = far_point_open_disk(vault, point_id, disk, &recover.point, err);
    }
    if (rc == 0) {
        recover.buffer = aligned_alloc(ALIGNMENT, (size_t)BATCH_BLOCKS * FAR_BLOCK_BYTES);
        rc = recover.buffer != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory to recover a disk");
    }
    if (rc == 0) {
        rc = recover_to(&recover, ret_root, err);
    }
    free(recover.buffer);
    far_point_close(recover.point);
    far_vault_close(vault);
    return rc;
}
