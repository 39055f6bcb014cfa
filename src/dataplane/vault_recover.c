/* Offline recovery: one disk of a sealed point out of nothing but the vault; see vault.h.
 *
 * Written block by block (holes for zeroes in a file that is new), flushed, and then proven: read back past the cache of
 * the kernel where the file system allows it (O_DIRECT, else POSIX_FADV_DONTNEED), hashed, its root compared with the
 * signed one. A file that does not get that far is removed. Both passes go over windows of the disk, the pieces of each by as many
 * threads as there are processors. */
#define _GNU_SOURCE
#include "base/file.h"
#include "base/thread.h"
#include "dataplane/leaf_lanes.h"
#include "dataplane/vault_private.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>

enum { BATCH_BLOCKS = 16, WINDOW_BLOCKS = 64 * BATCH_BLOCKS, ALIGNMENT = 4096 };

struct recover;

struct worker {
    struct recover *recover;
    uint8_t *buffer; /* BATCH_BLOCKS blocks, aligned */
};

struct recover {
    struct far_point *point;
    const char *target;
    const struct far_recover_options *options;
    bool is_device;
    bool created; /* by us: ours to remove */
    int fd;
    int prove_fd;
    struct worker workers[FAR_SIDE_BY_SIDE_MAX];
    size_t worker_count;

    /* one window */
    int (*each)(struct worker *worker, uint64_t first, size_t count, struct far_error *err);
    uint64_t window_first, window_end;
    _Atomic uint64_t next_block;
    struct far_hash256 leaves[WINDOW_BLOCKS]; /* of what was read back */
    pthread_mutex_t mutex;                    /* of rc and error: the first that failed */
    int rc;
    struct far_error error;
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

/* ---- pieces, side by side ---- */

static void work(void *arg, size_t which)
{
    struct recover *recover = arg;
    struct worker *worker = &recover->workers[which];
    for (;;) {
        uint64_t first = atomic_fetch_add(&recover->next_block, BATCH_BLOCKS);
        if (first >= recover->window_end) {
            return;
        }
        uint64_t rest = recover->window_end - first;
        struct far_error error;
        int rc = recover->each(worker, first, rest < BATCH_BLOCKS ? (size_t)rest : BATCH_BLOCKS, &error);
        if (rc != 0) {
            pthread_mutex_lock(&recover->mutex);
            if (recover->rc == 0) {
                recover->rc = rc;
                recover->error = error;
            }
            pthread_mutex_unlock(&recover->mutex);
            atomic_store(&recover->next_block, recover->window_end); /* nobody begins anything */
        }
    }
}

static int do_window(struct recover *recover, uint64_t first, uint64_t end, struct far_error *err)
{
    recover->window_first = first;
    recover->window_end = end;
    atomic_store(&recover->next_block, first);
    far_thread_side_by_side("recover", recover->worker_count, work, recover);
    if (recover->rc != 0 && err != NULL) {
        *err = recover->error;
    }
    return recover->rc;
}

/* ---- writing ---- */

/* Neighbours that are to be written are written at once. What a block is, its XXH3 tells here; the proof is to come. */
static int write_piece(struct worker *worker, uint64_t first, size_t count, struct far_error *err)
{
    struct recover *recover = worker->recover;
    uint64_t size = far_point_size(recover->point);
    size_t unwritten = 0; /* from here on */
    int rc = 0;
    for (size_t i = 0; rc == 0 && i <= count; i++) {
        bool zero = true;
        if (i < count) {
            rc = far_point_read(recover->point, first + i, false, worker->buffer + i * FAR_BLOCK_BYTES, &zero, err);
        }
        if (rc != 0 || (i < count && (!zero || recover->is_device))) {
            continue;
        }
        if (i > unwritten) {
            uint64_t offset = (first + unwritten) * FAR_BLOCK_BYTES, rest = size - offset;
            size_t length = (i - unwritten) * FAR_BLOCK_BYTES;
            rc = far_file_pwrite(recover->fd, worker->buffer + unwritten * FAR_BLOCK_BYTES, rest < length ? (size_t)rest : length, offset,
                                 recover->target, err);
        }
        unwritten = i + 1;
    }
    return rc;
}

static int write_all(struct recover *recover, struct far_error *err)
{
    uint64_t blocks = far_map_block_count(far_point_size(recover->point));
    int rc = 0;
    recover->each = write_piece;
    for (uint64_t i = 0; rc == 0 && i < blocks; i += WINDOW_BLOCKS) {
        report(recover, "write", i);
        rc = do_window(recover, i, blocks - i < WINDOW_BLOCKS ? blocks : i + WINDOW_BLOCKS, err);
    }
    if (rc == 0 && fsync(recover->fd) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "sync '%s'", recover->target);
    }
    report(recover, "write", blocks);
    return rc;
}

/* ---- proving ---- */

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
static int read_batch(struct worker *worker, uint64_t offset, size_t len, struct far_error *err)
{
    const struct recover *recover = worker->recover;
    size_t done = 0;
    while (done < len) {
        size_t ask = (size_t)BATCH_BLOCKS * FAR_BLOCK_BYTES - done;
        ssize_t n = pread(recover->prove_fd, worker->buffer + done, ask, (off_t)(offset + done));
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

static int prove_piece(struct worker *worker, uint64_t first, size_t count, struct far_error *err)
{
    struct recover *recover = worker->recover;
    uint64_t rest = far_point_size(recover->point) - first * FAR_BLOCK_BYTES;
    size_t whole = count * FAR_BLOCK_BYTES, len = rest < whole ? (size_t)rest : whole, hashed = 0;
    const uint8_t *blocks[BATCH_BLOCKS];
    struct far_hash256 leaves[BATCH_BLOCKS], *into[BATCH_BLOCKS];
    int rc = read_batch(worker, first * FAR_BLOCK_BYTES, len, err);
    if (rc != 0) {
        return rc;
    }
    memset(worker->buffer + len, 0, whole - len);
    for (size_t i = 0; i < count; i++) {
        struct far_hash256 *leaf = &recover->leaves[first - recover->window_first + i];
        if (far_block_is_zero(worker->buffer + i * FAR_BLOCK_BYTES, FAR_BLOCK_BYTES)) {
            *leaf = *far_zero_leaf();
        } else {
            into[hashed] = leaf;
            blocks[hashed++] = worker->buffer + i * FAR_BLOCK_BYTES;
        }
    }
    far_block_leaves(blocks, hashed, leaves);
    for (size_t i = 0; i < hashed; i++) {
        *into[i] = leaves[i];
    }
    return 0;
}

static int hash_all(struct recover *recover, struct far_map_stream *map, struct far_error *err)
{
    uint64_t blocks = far_map_block_count(far_point_size(recover->point));
    int rc = 0;
    recover->each = prove_piece;
    for (uint64_t i = 0; rc == 0 && i < blocks; i += WINDOW_BLOCKS) {
        uint64_t end = blocks - i < WINDOW_BLOCKS ? blocks : i + WINDOW_BLOCKS;
        report(recover, "prove", i);
        rc = do_window(recover, i, end, err);
        for (uint64_t j = i; rc == 0 && j < end; j++) {
            far_map_stream_add(map, &recover->leaves[j - i]);
        }
    }
    report(recover, "prove", blocks);
    return rc;
}

static int prove(struct recover *recover, struct far_hash256 *ret_root, struct far_error *err)
{
    struct far_hash256 root;
    struct far_hash256 expected;
    recover->prove_fd = open_to_prove(recover, err);
    if (recover->prove_fd < 0) {
        return recover->prove_fd;
    }
    struct far_map_stream *map = malloc(sizeof *map);
    int rc = map != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory to prove a disk");
    if (rc == 0) {
        far_map_stream_init(map, far_point_size(recover->point));
        rc = hash_all(recover, map, err);
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
    close(recover->prove_fd);
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

/* ---- all of it ---- */

static int make_workers(struct recover *recover, struct far_error *err)
{
    size_t wanted = far_thread_processors();
    for (size_t i = 0; i < wanted; i++) {
        struct worker *worker = &recover->workers[i];
        worker->recover = recover;
        worker->buffer = aligned_alloc(ALIGNMENT, (size_t)BATCH_BLOCKS * FAR_BLOCK_BYTES);
        if (worker->buffer == NULL) {
            break;
        }
        recover->worker_count++;
    }
    return recover->worker_count > 0 ? 0 : far_fail(err, FAR_LIMIT, "no memory to recover a disk");
}

int far_vault_recover_offline(const char *dir, uint64_t point_id, const char *disk, const char *target,
                              const struct far_recover_options *options, struct far_hash256 *ret_root,
                              struct far_error *err)
{
    static const struct far_recover_options defaults;
    struct far_vault_options vault_options = {.read_only = true};
    struct far_vault *vault = NULL;
    struct recover *recover = calloc(1, sizeof *recover);
    if (recover == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to recover a disk");
    }
    recover->target = target;
    recover->options = options != NULL ? options : &defaults;
    recover->fd = -1;
    pthread_mutex_init(&recover->mutex, NULL);
    int rc = far_vault_open(dir, &vault_options, &vault, err);
    rc = rc == 0 ? far_vault_unlock_from(vault, recover->options->recovery_key_file, err) : rc;
    rc = rc == 0 ? far_point_open_disk(vault, point_id, disk, &recover->point, err) : rc;
    rc = rc == 0 ? make_workers(recover, err) : rc;
    rc = rc == 0 ? recover_to(recover, ret_root, err) : rc;
    for (size_t i = 0; i < recover->worker_count; i++) {
        free(recover->workers[i].buffer);
    }
    pthread_mutex_destroy(&recover->mutex);
    far_point_close(recover->point);
    far_vault_close(vault);
    free(recover);
    return rc;
}
