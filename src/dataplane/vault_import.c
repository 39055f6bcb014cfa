/* Import of an image into a vault: see import.h. Workers take one run of blocks after the other: read, hashed side by side, compared
 * with the disk's last import, looked for in the vault, and what is nowhere is compressed and stored.
 *
 * Where there is a last import most blocks are as they were, so they are hashed where the kernel has them (mapped), and only those that
 * differ are copied, and hashed once more: whoever writes to the image meanwhile must not get a block under another one's name. */
#define _GNU_SOURCE
#include "base/file.h"
#include "base/hash.h"
#include "base/thread.h"
#include "dataplane/compressible.h"
#include "dataplane/import.h"
#include "dataplane/leaf_lanes.h"
#include "dataplane/vault_ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <linux/fs.h>

enum { BATCH = 32, RUN = 8 * BATCH, SAMPLE_BYTES = 4096, PROGRESS_BLOCKS = 1024 };

struct import {
    struct far_vault *vault;
    const struct far_import_options *options;
    struct far_replica *replica;
    uint64_t size;
    uint64_t blocks;
    bool is_dense; /* a file without holes, which would be filled in memory */
    bool is_again; /* there is a last import, and the image can be mapped */
    _Atomic uint64_t next;
    _Atomic uint64_t done;
    pthread_mutex_t mutex; /* what follows */
    int rc;
    struct far_error error;
    struct far_import_result result;
};

/* What the blocks of a run are. */
struct hashed {
    bool zero[RUN];
    struct far_hash256 leaves[RUN];
};

struct worker {
    struct import *import;
    int fd;
    uint8_t *blocks; /* BATCH of them */
    uint8_t *stored; /* compressed ones */
    ZSTD_CCtx *zstd;
    struct hashed hashed; /* of a mapped run, or of a batch */
};

/* One batch: what each block is. */
struct batch {
    uint64_t first;
    size_t count;
    const uint8_t *bytes; /* of all its blocks: the worker's, or mapped */
    bool zero[BATCH];
    struct far_hash256 leaves[BATCH];
    struct far_hash256 before[BATCH];
};

static int fail_of(struct import *import, int rc, const struct far_error *error)
{
    pthread_mutex_lock(&import->mutex);
    if (import->rc == 0) {
        import->rc = rc;
        import->error = *error;
    }
    pthread_mutex_unlock(&import->mutex);
    return rc;
}

/* ---- one batch ---- */

static int read_batch(struct worker *worker, const struct batch *batch, struct far_error *err)
{
    struct import *import = worker->import;
    uint64_t at = batch->first * FAR_BLOCK_BYTES;
    uint64_t want = batch->count * FAR_BLOCK_BYTES;
    uint64_t there = import->size - at < want ? import->size - at : want;
    off_t data = lseek(worker->fd, (off_t)at, SEEK_DATA);
    if ((data < 0 && errno == ENXIO) || data >= (off_t)(at + there)) { /* a hole */
        memset(worker->blocks, 0, want);
        return 0;
    }
    memset(worker->blocks + there, 0, want - there);
    return far_file_pread(worker->fd, worker->blocks, there, at, import->options->image, err);
}

/* The more blocks at once, the better they fill the lanes. */
static void hash_blocks(const uint8_t *bytes, size_t count, struct hashed *ret_hashed)
{
    const uint8_t *full[RUN] = {NULL};
    size_t some = 0;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *block = bytes + i * FAR_BLOCK_BYTES;
        ret_hashed->zero[i] = far_block_is_zero(block, FAR_BLOCK_BYTES);
        if (!ret_hashed->zero[i]) {
            full[some++] = block;
        }
    }
    far_block_leaves(full, some, ret_hashed->leaves);
    for (size_t i = count; i > 0; i--) { /* from behind: they only move up */
        ret_hashed->leaves[i - 1] = ret_hashed->zero[i - 1] ? *far_zero_leaf() : ret_hashed->leaves[--some];
    }
}

/* Compressed where that pays (a sample says whether to try); the stored length. */
static size_t pack_block(struct worker *worker, const uint8_t *block, uint8_t *ret_stored)
{
    int level = worker->import->options->level != 0 ? worker->import->options->level : 1;
    const uint8_t *sample = block + FAR_BLOCK_BYTES / 2;
    size_t n;
    if (!far_looks_compressible(sample)) {
        n = ZSTD_compressCCtx(worker->zstd, ret_stored, FAR_BLOCK_BYTES, sample, SAMPLE_BYTES, 1);
        if (ZSTD_isError(n) || n > SAMPLE_BYTES - SAMPLE_BYTES / 32) {
            return FAR_BLOCK_BYTES;
        }
    }
    n = ZSTD_compressCCtx(worker->zstd, ret_stored, FAR_BLOCK_BYTES, block, FAR_BLOCK_BYTES, level);
    return ZSTD_isError(n) || n > FAR_BLOCK_BYTES - FAR_BLOCK_BYTES / 32 ? FAR_BLOCK_BYTES : n;
}

/* Those of the changed blocks that the vault has not. */
static int store_batch(struct worker *worker, const struct batch *batch, const size_t *changed, size_t count,
                       struct far_import_result *result, struct far_error *err)
{
    struct import *import = worker->import;
    struct far_vault_block blocks[BATCH];
    struct far_hash256 leaves[BATCH];
    uint64_t indices[BATCH];
    bool there[BATCH] = {false};
    size_t missing = 0;
    for (size_t i = 0; i < count; i++) {
        leaves[i] = batch->leaves[changed[i]];
        indices[i] = batch->first + changed[i];
    }
    int rc = far_vault_has(import->vault, import->options->domain, leaves, count, there, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const uint8_t *block = worker->blocks + changed[i] * FAR_BLOCK_BYTES;
        uint8_t *stored = worker->stored + missing * FAR_BLOCK_BYTES;
        if (there[i]) {
            result->blocks_same += !batch->zero[changed[i]];
            continue;
        }
        size_t length = pack_block(worker, block, stored);
        bool raw = length == FAR_BLOCK_BYTES;
        blocks[missing++] = (struct far_vault_block){
            .id = leaves[i], .codec = raw ? FAR_CODEC_RAW : FAR_CODEC_ZSTD, .data = raw ? block : stored, .len = length};
        result->bytes_stored += length;
    }
    result->blocks_stored += missing;
    rc = rc == 0 && missing > 0 ? far_vault_put_many(import->vault, import->options->domain, blocks, missing, err) : rc;
    return rc == 0 && count > 0 ? far_replica_set_many(import->replica, indices, leaves, count, err) : rc;
}

/* Which blocks are others than before. */
static size_t compare_batch(const struct batch *batch, size_t changed[BATCH])
{
    size_t count = 0;
    for (size_t i = 0; i < batch->count; i++) {
        if (!far_hash256_equal(&batch->leaves[i], &batch->before[i])) {
            changed[count++] = i;
        }
    }
    return count;
}

/* The changed blocks of a mapped batch become the worker's own, and are what they are from here on. */
static void own_changed(struct worker *worker, struct batch *batch, const size_t *changed, size_t count)
{
    const uint8_t *blocks[BATCH] = {NULL};
    struct far_hash256 leaves[BATCH];
    for (size_t i = 0; i < count; i++) {
        uint8_t *own = worker->blocks + changed[i] * FAR_BLOCK_BYTES;
        memcpy(own, batch->bytes + changed[i] * FAR_BLOCK_BYTES, FAR_BLOCK_BYTES);
        blocks[i] = own;
    }
    far_block_leaves(blocks, count, leaves);
    for (size_t i = 0; i < count; i++) {
        batch->leaves[changed[i]] = leaves[i];
        batch->zero[changed[i]] = far_hash256_equal(&leaves[i], far_zero_leaf());
    }
}

/* mapped: the batch begins `at` blocks into the run that is hashed already; NULL: it is read. */
static int import_batch(struct worker *worker, struct batch *batch, const uint8_t *mapped, size_t at, struct far_error *err)
{
    struct import *import = worker->import;
    struct far_import_result result = {0};
    size_t changed[BATCH];
    int rc = mapped == NULL ? read_batch(worker, batch, err) : 0;
    rc = rc == 0 ? far_replica_get_many(import->replica, batch->first, batch->count, batch->before, err) : rc;
    if (rc != 0) {
        return rc;
    }
    batch->bytes = mapped != NULL ? mapped + at * FAR_BLOCK_BYTES : worker->blocks;
    if (mapped == NULL) {
        hash_blocks(worker->blocks, batch->count, &worker->hashed);
    }
    memcpy(batch->zero, worker->hashed.zero + (mapped != NULL ? at : 0), batch->count * sizeof *batch->zero);
    memcpy(batch->leaves, worker->hashed.leaves + (mapped != NULL ? at : 0), batch->count * sizeof *batch->leaves);
    size_t count = compare_batch(batch, changed);
    if (mapped != NULL) {
        own_changed(worker, batch, changed, count);
    }
    for (size_t i = 0, next = 0; i < batch->count; i++) {
        bool same = next == count || changed[next] != i;
        next += !same;
        result.blocks_zero += batch->zero[i];
        result.blocks_same += same && !batch->zero[i];
    }
    rc = count > 0 ? store_batch(worker, batch, changed, count, &result, err) : 0;
    pthread_mutex_lock(&import->mutex);
    import->result.blocks_zero += result.blocks_zero;
    import->result.blocks_same += result.blocks_same;
    import->result.blocks_stored += result.blocks_stored;
    import->result.bytes_stored += result.bytes_stored;
    pthread_mutex_unlock(&import->mutex);
    return rc;
}

/* ---- workers ---- */

static bool has_failed(struct import *import)
{
    pthread_mutex_lock(&import->mutex);
    bool failed = import->rc != 0;
    pthread_mutex_unlock(&import->mutex);
    return failed;
}

/* Told by one worker only, now and then. */
static int tell(struct import *import, uint64_t blocks, struct far_error *err)
{
    uint64_t done = atomic_fetch_add(&import->done, blocks) + blocks;
    const struct far_import_options *options = import->options;
    if (options->progress == NULL || (done / PROGRESS_BLOCKS == (done - blocks) / PROGRESS_BLOCKS && done != import->blocks)) {
        return 0;
    }
    uint64_t bytes = done * FAR_BLOCK_BYTES;
    pthread_mutex_lock(&import->mutex);
    int ends = options->progress(options->arg, bytes < import->size ? bytes : import->size, import->size);
    pthread_mutex_unlock(&import->mutex);
    return ends == 0 ? 0 : far_fail(err, FAR_CANCELED, "the import of '%s' was canceled", options->image);
}

/* The run as the kernel has it, its pages ready; NULL: it is to be read. */
static uint8_t *map_run(struct worker *worker, uint64_t first, size_t count)
{
    struct import *import = worker->import;
    uint64_t at = first * FAR_BLOCK_BYTES, len = (uint64_t)count * FAR_BLOCK_BYTES;
    if (!import->is_again || at + len > import->size) {
        return NULL;
    }
    uint8_t *bytes = mmap(NULL, len, PROT_READ, MAP_SHARED, worker->fd, (off_t)at);
    if (bytes == MAP_FAILED) {
        return NULL;
    }
    if (madvise(bytes, len, MADV_POPULATE_READ) != 0) { /* what cannot be read: read() says why */
        munmap(bytes, len);
        return NULL;
    }
    return bytes;
}

static int import_run(struct worker *worker, uint64_t first, size_t count, struct far_error *err)
{
    struct import *import = worker->import;
    struct batch batch;
    int rc = 0;
    uint8_t *mapped = map_run(worker, first, count);
    if (mapped != NULL) {
        hash_blocks(mapped, count, &worker->hashed);
    }
    for (size_t at = 0; rc == 0 && at < count && !has_failed(import); at += BATCH) {
        batch.first = first + at;
        batch.count = count - at < BATCH ? count - at : BATCH;
        rc = import_batch(worker, &batch, mapped, at, err);
        rc = rc == 0 ? tell(import, batch.count, err) : rc;
    }
    if (mapped != NULL) {
        munmap(mapped, count * FAR_BLOCK_BYTES);
    }
    return rc;
}

static void work(void *arg, size_t which)
{
    struct worker *worker = (struct worker *)arg + which;
    struct import *import = worker->import;
    uint64_t run = import->is_again ? RUN : BATCH;
    while (!has_failed(import)) {
        struct far_error error = {0};
        uint64_t first = atomic_fetch_add(&import->next, run);
        if (first >= import->blocks) {
            break;
        }
        int rc = import_run(worker, first, import->blocks - first < run ? (size_t)(import->blocks - first) : run, &error);
        if (rc != 0) {
            fail_of(import, rc, &error);
        }
    }
}

static int prepare(struct worker *worker, struct import *import, struct far_error *err)
{
    worker->import = import;
    worker->fd = open(import->options->image, O_RDONLY | O_CLOEXEC);
    worker->blocks = malloc((size_t)BATCH * FAR_BLOCK_BYTES);
    worker->stored = malloc((size_t)BATCH * FAR_BLOCK_BYTES);
    worker->zstd = ZSTD_createCCtx();
    if (worker->fd < 0) {
        return far_fail_errno(err, FAR_IO, errno, "open '%s'", import->options->image);
    }
    bool good = worker->blocks != NULL && worker->stored != NULL && worker->zstd != NULL;
    return good ? 0 : far_fail(err, FAR_LIMIT, "no memory to import '%s'", import->options->image);
}

static void release(struct worker *worker)
{
    if (worker->fd >= 0) {
        close(worker->fd);
    }
    free(worker->blocks);
    free(worker->stored);
    ZSTD_freeCCtx(worker->zstd);
}

static int run_workers(struct import *import, struct far_error *err)
{
    struct worker workers[FAR_SIDE_BY_SIDE_MAX];
    size_t wanted = import->options->workers != 0 ? import->options->workers : far_thread_processors();
    size_t ready = 0;
    int rc = 0;
    wanted = wanted < FAR_SIDE_BY_SIDE_MAX ? wanted : FAR_SIDE_BY_SIDE_MAX;
    for (; rc == 0 && ready < wanted; ready++) {
        workers[ready] = (struct worker){.fd = -1};
        rc = prepare(&workers[ready], import, err);
    }
    if (rc == 0) {
        far_thread_side_by_side("import", ready, work, workers);
    }
    for (size_t i = 0; i < ready; i++) {
        release(&workers[i]);
    }
    if (rc == 0 && import->rc != 0 && err != NULL) {
        *err = import->error;
    }
    return rc == 0 ? import->rc : rc;
}

/* ---- the whole ---- */

static int size_of(const char *image, uint64_t *ret_size, bool *ret_is_dense, struct far_error *err)
{
    struct stat st;
    int fd = open(image, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        int rc = far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "open '%s'", image);
        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    int rc = 0;
    *ret_size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    *ret_is_dense = S_ISREG(st.st_mode) && (uint64_t)st.st_blocks * 512 >= *ret_size;
    if (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, ret_size) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "ask for the size of '%s'", image);
    } else if (*ret_size == 0 || *ret_size > FAR_DISK_BYTES_MAX) {
        rc = far_fail(err, FAR_INVALID, "'%s' is no image: a file or block device of 1 byte to 64 TiB", image);
    }
    close(fd);
    return rc;
}

static int note_highest(void *arg, uint64_t point_id, struct far_error *err)
{
    (void)err;
    *(uint64_t *)arg = point_id;
    return 0;
}

/* Behind every point that is here, was forgotten, or is counted though its manifest is lost: under its number another were not counted. */
static int next_point(struct far_vault *vault, uint64_t *ret_point, struct far_error *err)
{
    char points[4096];
    uint64_t highest = 0, forgotten = 0;
    uint8_t plan[8];
    struct far_index_key counted;
    far_ledger_point_key(UINT64_MAX, &counted);
    snprintf(points, sizeof points, "%s/points", vault->dir);
    int rc = far_vault_each_number(points, ".manifest", note_highest, &highest, err);
    rc = rc == 0 ? far_vault_each_number(points, FAR_FORGOTTEN, note_highest, &forgotten, err) : rc;
    highest = forgotten > highest ? forgotten : highest;
    int found = rc == 0 ? far_index_seek(vault->index, &counted, 5, true, plan, sizeof plan, err) : rc;
    if (found == 0 && far_index_key_get_u64(&counted, 0) > highest) {
        highest = far_index_key_get_u64(&counted, 0);
    }
    rc = found == FAR_NOT_FOUND ? 0 : found;
    *ret_point = highest < FAR_IMPORTED ? FAR_IMPORTED + 1 : highest + 1;
    return rc;
}

static int seal(struct import *import, uint64_t disk_id, struct far_error *err)
{
    struct far_manifest *manifest = calloc(1, sizeof *manifest);
    if (manifest == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to seal an import");
    }
    manifest->point_id = import->result.point_id;
    manifest->fuzzy = false;
    manifest->disk_count = 1;
    manifest->disks[0].disk_id = disk_id;
    manifest->disks[0].size_bytes = import->size;
    manifest->disks[0].root = import->result.root;
    snprintf(manifest->disks[0].name, sizeof manifest->disks[0].name, "%s", import->options->disk);
    snprintf(manifest->workload, sizeof manifest->workload, "%s", import->options->label);
    strcpy(manifest->plan, "import");
    strcpy(manifest->site, "import");
    far_domain_uuid(import->options->domain, manifest->domain_uuid);
    int rc = far_vault_seal(import->vault, manifest, err);
    free(manifest);
    return rc;
}

static int run_import(struct import *import, struct far_error *err)
{
    const struct far_import_options *options = import->options;
    struct far_replica_state state = {0};
    uint64_t disk_id = FAR_IMPORTED | far_hash64_parts(far_slice_str(options->label), far_slice("", 1), far_slice_str(options->disk)) >> 1;
    int rc = far_vault_replica_state(import->vault, disk_id, &state, err);
    struct far_fence fence = {.job = state.job + 1};
    rc = rc == 0 || rc == FAR_NOT_FOUND ? next_point(import->vault, &import->result.point_id, err) : rc;
    rc = rc == 0 ? far_replica_open(import->vault, options->domain, disk_id, import->size, &fence, &import->replica, err) : rc;
    import->is_again = import->is_dense && state.job != 0;
    rc = rc == 0 ? run_workers(import, err) : rc;
    rc = rc == 0 ? far_replica_checkpoint(import->replica, import->blocks, "import", err) : rc;
    rc = rc == 0 ? far_replica_root(import->replica, &import->result.root, err) : rc;
    rc = rc == 0 ? seal(import, disk_id, err) : rc;
    far_replica_close(import->replica);
    return rc;
}

static bool is_name(const char *text)
{
    return text != NULL && text[0] != '\0' && strlen(text) < 64;
}

int far_vault_import(struct far_vault *vault, const struct far_import_options *options, struct far_import_result *ret_result,
                     struct far_error *err)
{
    struct import import = {.vault = vault, .options = options};
    if (!is_name(options->label) || !is_name(options->disk)) {
        return far_fail(err, FAR_INVALID, "label and disk of an import have 1 to 63 characters");
    }
    if (options->level < 0 || options->level > 19) {
        return far_fail(err, FAR_INVALID, "the level of compression is 1 to 19");
    }
    int rc = size_of(options->image, &import.size, &import.is_dense, err);
    if (rc != 0) {
        return rc;
    }
    import.blocks = far_map_block_count(import.size);
    import.result.size_bytes = import.size;
    pthread_mutex_init(&import.mutex, NULL);
    rc = run_import(&import, err);
    pthread_mutex_destroy(&import.mutex);
    if (rc == 0) {
        *ret_result = import.result;
    }
    return rc;
}
