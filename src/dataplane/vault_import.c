/* Import of an image into a vault: see import.h. Workers take one run of blocks after the other: read, hashed side by side, compared
 * with the disk's last import, looked for in the vault, and what is nowhere is compressed and stored.
 *
 * Where there is a last import most blocks are as they were, so they are looked at where the kernel has them (mapped), by their tags
 * (block_tags.h) if these are known, else by their hashes. Only those that differ are copied, and the copies are hashed: whoever writes
 * to the image meanwhile must not get a block under another one's name. */
#define _GNU_SOURCE
#include "base/file.h"
#include "base/hash.h"
#include "base/thread.h"
#include "dataplane/block_tags.h"
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

enum { BATCH = 48, RUN = FAR_TAGS_OF_PAGE, SAMPLE_BYTES = 4096, PROGRESS_BLOCKS = 1024 };

struct import {
    struct far_vault *vault;
    const struct far_import_options *options;
    struct far_replica *replica;
    struct far_block_tags *tags; /* NULL: does without */
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

struct worker {
    struct import *import;
    int fd;       /* -1: there is a source */
    void *handle; /* of the source */
    uint8_t *blocks; /* BATCH of them */
    uint8_t *stored; /* compressed ones */
    ZSTD_CCtx *zstd;
    struct far_tag_maker *maker; /* NULL: does without */
};

/* The blocks that a worker has in hand. A leaf is that of a block whose tag differs, and of each where the tags are not known. */
struct run {
    uint64_t first;
    size_t count;
    uint8_t *mapped; /* all of its bytes as the kernel has them; NULL: they are read */
    bool is_known;   /* tags_before are there */
    bool is_tagged;  /* tags are complete so far */
    bool zero[RUN];
    struct far_hash256 leaves[RUN];
    struct far_tag tags[RUN];
    struct far_tag tags_before[RUN];
};

/* Some neighbours of a run, whose bytes are at hand. */
struct batch {
    struct run *run;
    size_t at; /* in the run */
    size_t count;
    const uint8_t *bytes; /* of all its blocks: the worker's, or mapped */
    bool is_hole;         /* nothing was read: all are zeroes */
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

static int read_batch(struct worker *worker, struct batch *batch, struct far_error *err)
{
    struct import *import = worker->import;
    uint64_t at = (batch->run->first + batch->at) * FAR_BLOCK_BYTES;
    uint64_t want = batch->count * FAR_BLOCK_BYTES;
    uint64_t there = import->size - at < want ? import->size - at : want;
    const struct far_import_source *source = import->options->source;
    if (source != NULL) {
        memset(worker->blocks + there, 0, want - there);
        return source->read(source->arg, worker->handle, worker->blocks, there, at, err);
    }
    off_t data = lseek(worker->fd, (off_t)at, SEEK_DATA);
    batch->is_hole = (data < 0 && errno == ENXIO) || data >= (off_t)(at + there);
    if (batch->is_hole) {
        return 0;
    }
    memset(worker->blocks + there, 0, want - there);
    return far_file_pread(worker->fd, worker->blocks, there, at, import->options->image, err);
}

/* The tags of these blocks of the run, `indices` in it. */
static void tag_blocks(struct worker *worker, struct run *run, const uint8_t *const *blocks, const size_t *indices, size_t count)
{
    struct far_tag made[RUN];
    run->is_tagged = run->is_tagged && far_tags_make(worker->maker, blocks, count, made);
    for (size_t i = 0; run->is_tagged && i < count; i++) {
        run->tags[indices[i]] = made[i];
    }
}

/* Blocks of the run from `at` on, hashed, and tagged if this run is. The more at once, the better they fill the lanes. */
static void hash_blocks(struct worker *worker, struct run *run, size_t at, size_t count, const uint8_t *bytes)
{
    const uint8_t *full[RUN] = {NULL};
    struct far_hash256 leaves[RUN];
    size_t indices[RUN];
    size_t some = 0;
    for (size_t i = at; i < at + count; i++) {
        const uint8_t *block = bytes + (i - at) * FAR_BLOCK_BYTES;
        run->zero[i] = far_block_is_zero(block, FAR_BLOCK_BYTES);
        if (!run->zero[i]) {
            indices[some] = i;
            full[some++] = block;
        } else {
            run->leaves[i] = *far_zero_leaf();
            if (run->is_tagged) {
                run->tags[i] = *far_tag_of_zeroes(worker->maker);
            }
        }
    }
    far_block_leaves(full, some, leaves);
    for (size_t i = 0; i < some; i++) {
        run->leaves[indices[i]] = leaves[i];
    }
    tag_blocks(worker, run, full, indices, some);
}

/* The same where the tags of before are known: no hashes yet. Without tags now (the crypto library refuses) they are not known either. */
static void look_at_blocks(struct worker *worker, struct run *run, size_t at, size_t count, const uint8_t *bytes)
{
    const uint8_t *blocks[RUN] = {NULL};
    size_t indices[RUN] = {0};
    for (size_t i = 0; run->is_known && i < count; i++) {
        indices[i] = at + i;
        blocks[i] = bytes + i * FAR_BLOCK_BYTES;
    }
    if (run->is_known) {
        tag_blocks(worker, run, blocks, indices, count);
        run->is_known = run->is_tagged;
    }
    if (!run->is_known) {
        hash_blocks(worker, run, at, count, bytes);
        return;
    }
    for (size_t i = at; i < at + count; i++) {
        run->zero[i] = far_tag_equal(&run->tags[i], far_tag_of_zeroes(worker->maker));
    }
}

/* Compressed where that pays (a sample says whether to try); the stored length. */
static size_t pack_block(struct worker *worker, const uint8_t *block, uint8_t *ret_stored)
{
    const uint8_t *sample = block + FAR_BLOCK_BYTES / 2;
    size_t n;
    if (!far_looks_compressible(sample)) {
        n = ZSTD_compressCCtx(worker->zstd, ret_stored, FAR_BLOCK_BYTES, sample, SAMPLE_BYTES, 1);
        if (ZSTD_isError(n) || n > SAMPLE_BYTES - SAMPLE_BYTES / 32) {
            return FAR_BLOCK_BYTES;
        }
    }
    n = ZSTD_compress2(worker->zstd, ret_stored, FAR_BLOCK_BYTES, block, FAR_BLOCK_BYTES);
    return ZSTD_isError(n) || n > FAR_BLOCK_BYTES - FAR_BLOCK_BYTES / 32 ? FAR_BLOCK_BYTES : n;
}

/* Those of the changed blocks that the vault has not. */
static int store_batch(struct worker *worker, const struct batch *batch, const size_t *changed, size_t count,
                       struct far_import_result *result, struct far_error *err)
{
    struct import *import = worker->import;
    const struct run *run = batch->run;
    struct far_vault_block blocks[BATCH];
    struct far_hash256 leaves[BATCH];
    uint64_t indices[BATCH];
    bool there[BATCH] = {false};
    size_t missing = 0;
    for (size_t i = 0; i < count; i++) {
        leaves[i] = run->leaves[batch->at + changed[i]];
        indices[i] = run->first + batch->at + changed[i];
    }
    int rc = far_vault_has(import->vault, import->options->domain, leaves, count, there, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const uint8_t *block = worker->blocks + changed[i] * FAR_BLOCK_BYTES;
        uint8_t *stored = worker->stored + missing * FAR_BLOCK_BYTES;
        if (there[i]) {
            result->blocks_same += !run->zero[batch->at + changed[i]];
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

/* Which blocks are others than before; how many. */
static int compare_batch(const struct import *import, const struct batch *batch, size_t changed[BATCH], size_t *ret_count,
                         struct far_error *err)
{
    const struct run *run = batch->run;
    struct far_hash256 before[BATCH];
    size_t count = 0;
    /* Also where tags say it all: a tree that cannot be read is not to get a point. */
    int rc = far_replica_get_many(import->replica, run->first + batch->at, batch->count, before, err);
    for (size_t i = 0; rc == 0 && i < batch->count; i++) {
        size_t in_run = batch->at + i;
        bool same = run->is_known ? far_tag_equal(&run->tags[in_run], &run->tags_before[in_run])
                                  : far_hash256_equal(&run->leaves[in_run], &before[i]);
        if (!same) {
            changed[count++] = i;
        }
    }
    *ret_count = count;
    return rc;
}

/* The changed blocks of a batch that is mapped, or was not hashed yet, become the worker's own, and are what they are from here on. */
static void own_changed(struct worker *worker, const struct batch *batch, const size_t *changed, size_t count)
{
    struct run *run = batch->run;
    const uint8_t *blocks[BATCH] = {NULL};
    struct far_hash256 leaves[BATCH];
    size_t indices[BATCH];
    for (size_t i = 0; i < count; i++) {
        uint8_t *own = worker->blocks + changed[i] * FAR_BLOCK_BYTES;
        if (run->mapped != NULL) {
            memcpy(own, batch->bytes + changed[i] * FAR_BLOCK_BYTES, FAR_BLOCK_BYTES);
        }
        blocks[i] = own;
        indices[i] = batch->at + changed[i];
    }
    far_block_leaves(blocks, count, leaves);
    for (size_t i = 0; i < count; i++) {
        run->leaves[indices[i]] = leaves[i];
        run->zero[indices[i]] = far_hash256_equal(&leaves[i], far_zero_leaf());
    }
    if (run->mapped != NULL) {
        tag_blocks(worker, run, blocks, indices, count);
    }
}

/* Blocks that nothing was read of. No bytes are needed: a vault stores no zeroes. */
static void take_hole(struct worker *worker, const struct batch *batch)
{
    struct run *run = batch->run;
    for (size_t i = batch->at; i < batch->at + batch->count; i++) {
        run->zero[i] = true;
        run->leaves[i] = *far_zero_leaf();
        if (run->is_tagged) {
            run->tags[i] = *far_tag_of_zeroes(worker->maker);
        }
    }
}

static int import_batch(struct worker *worker, struct batch *batch, struct far_error *err)
{
    struct import *import = worker->import;
    struct run *run = batch->run;
    struct far_import_result result = {0};
    size_t changed[BATCH], count;
    int rc = run->mapped == NULL ? read_batch(worker, batch, err) : 0;
    if (rc == 0 && batch->is_hole) {
        take_hole(worker, batch);
    } else if (rc == 0 && run->mapped == NULL) {
        look_at_blocks(worker, run, batch->at, batch->count, batch->bytes);
    }
    rc = rc == 0 ? compare_batch(import, batch, changed, &count, err) : rc;
    if (rc != 0) {
        return rc;
    }
    if (count > 0 && !batch->is_hole && (run->mapped != NULL || run->is_known)) {
        own_changed(worker, batch, changed, count);
    }
    for (size_t i = 0, next = 0; i < batch->count; i++) {
        bool same = next == count || changed[next] != i;
        next += !same;
        result.blocks_zero += run->zero[batch->at + i];
        result.blocks_same += same && !run->zero[batch->at + i];
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
static uint8_t *map_run(struct worker *worker, const struct run *run)
{
    struct import *import = worker->import;
    uint64_t at = run->first * FAR_BLOCK_BYTES, len = (uint64_t)run->count * FAR_BLOCK_BYTES;
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

static int import_run(struct worker *worker, struct run *run, struct far_error *err)
{
    struct import *import = worker->import;
    uint64_t page = run->first / RUN;
    int rc = 0;
    run->is_tagged = worker->maker != NULL;
    run->is_known = run->is_tagged && far_block_tags_known(import->tags, page, run->tags_before);
    /* Leaf and tag must be of the same bytes, and what is mapped may be written to between them. */
    run->mapped = run->is_known || !run->is_tagged ? map_run(worker, run) : NULL;
    if (run->mapped != NULL) {
        look_at_blocks(worker, run, 0, run->count, run->mapped);
    }
    for (size_t at = 0; rc == 0 && at < run->count && !has_failed(import); at += BATCH) {
        struct batch batch = {.run = run, .at = at, .count = run->count - at < BATCH ? run->count - at : BATCH};
        batch.bytes = run->mapped != NULL ? run->mapped + at * FAR_BLOCK_BYTES : worker->blocks;
        rc = import_batch(worker, &batch, err);
        rc = rc == 0 ? tell(import, batch.count, err) : rc;
    }
    if (run->mapped != NULL) {
        munmap(run->mapped, run->count * FAR_BLOCK_BYTES);
    }
    if (rc == 0 && import->tags != NULL) {
        far_block_tags_keep(import->tags, page, run->is_tagged ? run->tags : NULL);
    }
    return rc;
}

static void work(void *arg, size_t which)
{
    struct worker *worker = (struct worker *)arg + which;
    struct import *import = worker->import;
    struct run run = {0};
    while (!has_failed(import)) {
        struct far_error error = {0};
        run.first = atomic_fetch_add(&import->next, RUN);
        if (run.first >= import->blocks) {
            break;
        }
        run.count = import->blocks - run.first < RUN ? (size_t)(import->blocks - run.first) : RUN;
        int rc = import_run(worker, &run, &error);
        if (rc != 0) {
            fail_of(import, rc, &error);
        }
    }
}

/* As the options say; by default the library's fast search with a table that has a place for each byte of a block: nearly no two share
 * one, so it finds more than level 2 does and is mistaken less often, which makes it faster than that by 12 % (text of random words). */
static bool set_level(ZSTD_CCtx *zstd, int level)
{
    static const struct {
        ZSTD_cParameter name;
        int value;
    } ours[] = {{ZSTD_c_hashLog, 17}, {ZSTD_c_minMatch, 6}};
    size_t n = ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, level != 0 ? level : 1);
    for (size_t i = 0; !ZSTD_isError(n) && level == 0 && i < sizeof ours / sizeof ours[0]; i++) {
        n = ZSTD_CCtx_setParameter(zstd, ours[i].name, ours[i].value);
    }
    return !ZSTD_isError(n);
}

static int prepare(struct worker *worker, struct import *import, struct far_error *err)
{
    const struct far_import_source *source = import->options->source;
    worker->import = import;
    worker->fd = source == NULL ? open(import->options->image, O_RDONLY | O_CLOEXEC) : -1;
    int rc = source != NULL ? source->open(source->arg, &worker->handle, err) : 0;
    worker->blocks = malloc((size_t)BATCH * FAR_BLOCK_BYTES);
    worker->stored = malloc((size_t)BATCH * FAR_BLOCK_BYTES);
    worker->zstd = ZSTD_createCCtx();
    worker->maker = import->tags != NULL ? far_tag_maker_new(import->tags) : NULL;
    if (rc != 0) {
        worker->handle = NULL;
        return rc;
    }
    if (source == NULL && worker->fd < 0) {
        return far_fail_errno(err, FAR_IO, errno, "open '%s'", import->options->image);
    }
    bool good = worker->blocks != NULL && worker->stored != NULL && worker->zstd != NULL && set_level(worker->zstd, import->options->level);
    return good ? 0 : far_fail(err, FAR_LIMIT, "no memory to import '%s'", import->options->image);
}

static void release(struct worker *worker)
{
    if (worker->fd >= 0) {
        close(worker->fd);
    }
    const struct far_import_source *source = worker->import->options->source;
    if (worker->handle != NULL) {
        source->close(source->arg, worker->handle);
    }
    free(worker->blocks);
    free(worker->stored);
    ZSTD_freeCCtx(worker->zstd);
    far_tag_maker_free(worker->maker);
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

/* What blocks were at the last import; without it all are hashed. */
static void open_tags(struct import *import, uint64_t disk_id)
{
    struct far_hash256 root;
    int rc = far_replica_root(import->replica, &root, NULL);
    rc = rc == 0 ? far_block_tags_open(import->vault, import->options->domain, disk_id, import->size, &root, &import->tags, NULL) : rc;
    if (rc != 0) {
        import->tags = NULL;
    }
}

static uint64_t disk_id_of(const char *label, const char *disk)
{
    return FAR_IMPORTED | far_hash64_parts(far_slice_str(label), far_slice("", 1), far_slice_str(disk)) >> 1;
}

static int run_import(struct import *import, struct far_error *err)
{
    const struct far_import_options *options = import->options;
    struct far_replica_state state = {0};
    uint64_t disk_id = disk_id_of(options->label, options->disk);
    int rc = far_vault_replica_state(import->vault, disk_id, &state, err);
    struct far_fence fence = {.job = state.fence.job + 1};
    rc = rc == 0 || rc == FAR_NOT_FOUND ? next_point(import->vault, &import->result.point_id, err) : rc;
    rc = rc == 0 ? far_replica_open(import->vault, options->domain, disk_id, import->size, &fence, &import->replica, err) : rc;
    import->is_again = import->is_dense && state.job != 0;
    if (rc == 0) {
        open_tags(import, disk_id);
    }
    rc = rc == 0 ? run_workers(import, err) : rc;
    rc = rc == 0 ? far_replica_checkpoint(import->replica, import->blocks, "import", err) : rc;
    rc = rc == 0 ? far_replica_root(import->replica, &import->result.root, err) : rc;
    if (rc == 0 && import->tags != NULL) {
        far_block_tags_finish(import->tags, &import->result.root);
    }
    rc = rc == 0 ? seal(import, disk_id, err) : rc;
    far_block_tags_close(import->tags);
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
    import.size = options->source != NULL ? options->source->size_bytes : 0;
    bool is_sized = import.size > 0 && import.size <= FAR_DISK_BYTES_MAX;
    int rc = options->source == NULL ? size_of(options->image, &import.size, &import.is_dense, err)
             : is_sized              ? 0
                                     : far_fail(err, FAR_INVALID, "'%s' has no size that a disk can have", options->image);
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

/* ---- forgetting ---- */

struct search {
    struct far_vault *vault;
    uint64_t disk_id;
};

static int forget_if_of(void *arg, uint64_t point_id, struct far_error *err)
{
    const struct search *search = arg;
    struct far_manifest *manifest = point_id >= FAR_IMPORTED ? malloc(sizeof *manifest) : NULL;
    bool is_of = manifest != NULL && far_vault_manifest_peek(search->vault, point_id, manifest, NULL) == 0 && manifest->disk_count == 1 &&
                 manifest->disks[0].disk_id == search->disk_id;
    free(manifest);
    return is_of ? far_vault_forget(search->vault, point_id, err) : 0;
}

int far_vault_import_forget(struct far_vault *vault, const char *label, const char *disk, struct far_error *err)
{
    struct search search = {.vault = vault, .disk_id = disk_id_of(label, disk)};
    struct far_replica_state state;
    char points[4096];
    int rc = far_vault_replica_state(vault, search.disk_id, &state, err);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    snprintf(points, sizeof points, "%s/points", vault->dir);
    return far_vault_each_number(points, ".manifest", forget_if_of, &search, err);
}
