/* A restore: write one disk of a point to a new device or file of this site, read it back from the device, and report
 * the root of what was read back.
 *
 * Two passes, each by several workers over 1 MiB pieces: write (blocks from the vault, zero runs left out where the
 * adapter can leave them out), flush, then read and hash into a map of its own. Nothing of the first pass is used for
 * the second: the root proves the device. A repeat of the same restore goes on with the target that an earlier attempt
 * made and writes it again; a target that exists otherwise is refused by the adapter. */
#include "dataplane/engine_local.h"

#include "base/file.h"
#include "dataplane/leaf_lanes.h"
#include "dataplane/qcow2_target.h"
#include "dataplane/run_folder.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

struct restore {
    struct far_attempt *attempt;
    struct far_point *point;
    const struct far_adapter_bytes *bytes;
    void *handle;
    struct far_map *map; /* of what was read back; NULL in the first pass */
    uint64_t size_bytes, blocks;
    _Atomic uint64_t next_block;
    pthread_mutex_t mutex; /* below */
    atomic_bool failed;
    int rc;
    enum far_adapter_outcome outcome;
    struct far_error error;
};

static int adapter_answer(struct restore *restore, int answer, const struct far_adapter_error *said,
                          struct far_error *err)
{
    enum far_adapter_outcome outcome = FAR_ADAPTER_OK;
    int rc = far_adapter_result(answer, said, &outcome, err);
    if (rc != 0) {
        pthread_mutex_lock(&restore->mutex);
        restore->outcome = outcome;
        pthread_mutex_unlock(&restore->mutex);
    }
    return rc;
}

static size_t piece_bytes(const struct restore *restore, uint64_t first, size_t count)
{
    uint64_t rest = restore->size_bytes - first * FAR_BLOCK_BYTES;
    return rest < count * FAR_BLOCK_BYTES ? (size_t)rest : count * FAR_BLOCK_BYTES;
}

/* Zero blocks are written too: only the adapter knows whether the target is new and reads as zeroes by itself. */
static int write_piece(struct restore *restore, uint8_t *buffer, uint64_t first, size_t count, struct far_error *err)
{
    struct far_adapter_error said = {0};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = far_point_read(restore->point, first + i, false, buffer + i * FAR_BLOCK_BYTES, NULL, err);
    }
    if (rc != 0) {
        return rc;
    }
    int answer = restore->bytes->write(restore->handle, buffer, piece_bytes(restore, first, count),
                                       first * FAR_BLOCK_BYTES, &said);
    return adapter_answer(restore, answer, &said, err);
}

static int prove_piece(struct restore *restore, uint8_t *buffer, uint64_t first, size_t count, struct far_error *err)
{
    struct far_adapter_error said = {0};
    size_t length = piece_bytes(restore, first, count);
    int answer = restore->bytes->read(restore->handle, buffer, length, first * FAR_BLOCK_BYTES, &said);
    int rc = adapter_answer(restore, answer, &said, err);
    if (rc != 0) {
        return rc;
    }
    memset(buffer + length, 0, count * FAR_BLOCK_BYTES - length);
    const uint8_t *blocks[FAR_TRANSFER_GROUP];
    struct far_hash256 leaves[FAR_TRANSFER_GROUP];
    size_t index[FAR_TRANSFER_GROUP], hashed = 0;
    for (size_t i = 0; i < count; i++) {
        if (!far_block_is_zero(buffer + i * FAR_BLOCK_BYTES, FAR_BLOCK_BYTES)) {
            index[hashed] = i;
            blocks[hashed++] = buffer + i * FAR_BLOCK_BYTES;
        }
    }
    far_block_leaves(blocks, hashed, leaves);
    for (size_t i = 0; i < hashed; i++) {
        far_map_set(restore->map, first + index[i], &leaves[i]);
    }
    return 0;
}

static void restore_fail(struct restore *restore, int rc, const struct far_error *error)
{
    pthread_mutex_lock(&restore->mutex);
    if (!atomic_load(&restore->failed)) {
        restore->rc = rc;
        restore->error = *error;
        atomic_store(&restore->failed, true);
    }
    pthread_mutex_unlock(&restore->mutex);
}

static void *worker_main(void *arg)
{
    struct restore *restore = arg;
    struct far_pool *pool = restore->attempt->engine->pool_in;
    uint8_t *buffer = far_pool_take(pool, &restore->attempt->canceled);
    while (buffer != NULL && !atomic_load(&restore->failed)) {
        struct far_error error = {0};
        int rc = far_attempt_check(restore->attempt, &error);
        uint64_t first = atomic_fetch_add(&restore->next_block, FAR_TRANSFER_GROUP);
        if (rc == 0 && first >= restore->blocks) {
            break;
        }
        uint64_t rest = restore->blocks - first;
        size_t count = rest < FAR_TRANSFER_GROUP ? (size_t)rest : FAR_TRANSFER_GROUP;
        if (rc == 0) {
            rc = restore->map == NULL ? write_piece(restore, buffer, first, count, &error)
                                      : prove_piece(restore, buffer, first, count, &error);
        }
        if (rc != 0) {
            restore_fail(restore, rc, &error);
            break;
        }
        atomic_fetch_add(&restore->attempt->bytes_done, piece_bytes(restore, first, count));
    }
    far_pool_give(pool, buffer);
    return NULL;
}

/* All blocks once, by all workers. */
static int pass(struct restore *restore, struct far_error *err)
{
    pthread_t threads[FAR_ENGINE_WORKERS_MAX];
    pthread_attr_t attr;
    size_t started = 0;
    int failed = 0;
    atomic_store(&restore->next_block, 0);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, FAR_ENGINE_WORKER_STACK_BYTES);
    while (failed == 0 && started < restore->attempt->engine->config.worker_count) {
        failed = pthread_create(&threads[started], &attr, worker_main, restore);
        started += failed == 0;
    }
    pthread_attr_destroy(&attr);
    for (size_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    int rc = far_attempt_check(restore->attempt, err);
    if (rc == 0 && started == 0) {
        rc = far_fail_errno(err, FAR_LIMIT, failed, "start a thread");
    }
    if (rc == 0 && restore->rc != 0) {
        *err = restore->error;
        rc = restore->rc;
    }
    return rc;
}

static bool is_inside(const char *path, const char *dir)
{
    size_t len = strlen(dir);
    return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* What the node itself lives on is no place for a disk; a folder that cannot be resolved is the adapter's to refuse. */
static int check_target(const struct far_engine *engine, const char *target, struct far_error *err)
{
    char dir[PATH_MAX];
    far_file_dir_of(target, dir, sizeof dir);
    char *resolved = realpath(dir, NULL);
    int rc = 0;
    for (size_t i = 0; resolved != NULL && i < sizeof engine->own_dirs / sizeof engine->own_dirs[0]; i++) {
        if (engine->own_dirs[i] != NULL && is_inside(resolved, engine->own_dirs[i])) {
            rc = far_fail(err, FAR_CONFLICT, "'%s' is inside this node's own folder '%s'; recover to another place", target,
                          engine->own_dirs[i]);
            break;
        }
    }
    free(resolved);
    return rc;
}

/* A relative target is a disk of a machine that is recovered: below the folder that the node has for them, and of the format that its name
 * ends with. */
static int place_target(struct far_attempt *attempt, bool *ret_is_qcow2, struct far_error *err)
{
    const struct far_engine *engine = attempt->engine;
    const char *target = attempt->order.target_path;
    size_t len = strlen(target);
    *ret_is_qcow2 = false;
    if (target[0] == '/' || strstr(target, "://") != NULL) {
        return 0;
    }
    *ret_is_qcow2 = len > 6 && strcmp(target + len - 6, ".qcow2") == 0;
    char *path = far_arena_alloc(&attempt->arena, PATH_MAX);
    int rc = path == NULL ? far_fail(err, FAR_LIMIT, "no memory for a path")
                          : far_run_folder_resolve(engine->config.recovery_dir, target, true, (const char *const *)engine->own_dirs,
                                                   sizeof engine->own_dirs / sizeof engine->own_dirs[0], path, err);
    attempt->order.target_path = rc == 0 ? path : target;
    return rc;
}

/* The form of the target says whose it is: what came from an NBD export may be recovered to a file, and the other way. A wrapped
 * adapter of the same kind stays, so that its faults strike. */
static const char *target_adapter(const struct far_engine_order *order)
{
    const char *name = order->adapter, *inner = strncmp(name, "fault:", 6) == 0 ? name + 6 : name;
    const char *kind = strncmp(order->target_path, "nbd", 3) == 0 ? "nbd" : "file";
    size_t len = strcspn(inner, "?:");
    return strlen(kind) == len && strncmp(inner, kind, len) == 0 ? name : kind;
}

static int open_target(struct restore *restore, const struct far_platform *platform, bool is_qcow2, struct far_error *err)
{
    const struct far_engine_order *order = &restore->attempt->order;
    struct far_adapter_error said = {0};
    struct far_qcow2_target *image = NULL;
    uint64_t bytes = is_qcow2 ? far_qcow2_target_file_bytes(restore->size_bytes) : restore->size_bytes;
    char ref[64];
    restore->bytes = platform->adapter->bytes;
    if (is_qcow2 && bytes == 0) {
        return far_fail(err, FAR_INVALID, "a disk of %llu bytes cannot be a qcow2 image", (unsigned long long)restore->size_bytes);
    }
    /* Of the recovery, not of the attempt: the next attempt goes on with what this one made. */
    snprintf(ref, sizeof ref, "restore-%llu-%llu", (unsigned long long)order->job_id, (unsigned long long)order->task);
    int answer = restore->bytes->open_target(platform->platform, ref, order->target_path, bytes, &restore->handle, &said);
    int rc = adapter_answer(restore, answer, &said, err);
    rc = rc == 0 && is_qcow2 ? far_qcow2_target_new(restore->bytes, restore->handle, restore->size_bytes, &image, err) : rc;
    if (image != NULL) {
        restore->handle = image;
        restore->bytes = &far_qcow2_target_bytes;
    }
    return rc;
}

static int open_both(struct restore *restore, struct far_error *err)
{
    const struct far_engine_order *order = &restore->attempt->order;
    struct far_platform *platform;
    struct far_hash256 root;
    const struct far_domain *domain;
    bool is_qcow2;
    memcpy(root.bytes, order->root, sizeof root.bytes);
    int rc = place_target(restore->attempt, &is_qcow2, err);
    rc = rc == 0 ? check_target(restore->attempt->engine, order->target_path, err) : rc;
    if (rc != 0) {
        restore->outcome = FAR_ADAPTER_FATAL;
        return rc;
    }
    rc = far_attempt_domain(restore->attempt, &domain, NULL, err);
    rc = rc == 0 ? far_point_open(restore->attempt->engine->vault, domain, &root, &restore->point, err) : rc;
    rc = rc == 0 ? far_engine_platform(restore->attempt->engine, target_adapter(order), &platform, err) : rc;
    if (rc != 0) {
        return rc;
    }
    restore->size_bytes = far_point_size(restore->point);
    restore->blocks = far_map_block_count(restore->size_bytes);
    return open_target(restore, platform, is_qcow2, err);
}

static int write_and_prove(struct restore *restore, struct far_hash256 *ret_root, struct far_error *err)
{
    struct far_adapter_error said = {0};
    atomic_store(&restore->attempt->bytes_total, 2 * restore->size_bytes);
    atomic_store(&restore->attempt->bytes_done, 0);
    int rc = pass(restore, err);
    rc = rc == 0 ? adapter_answer(restore, restore->bytes->flush(restore->handle, &said), &said, err) : rc;
    rc = rc == 0 ? far_map_new(restore->size_bytes, &restore->map, err) : rc;
    rc = rc == 0 ? pass(restore, err) : rc;
    if (rc == 0) {
        far_map_root(restore->map, ret_root);
    }
    return rc;
}

int far_run_restore(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    struct restore restore = {.attempt = attempt};
    struct far_hash256 root;
    pthread_mutex_init(&restore.mutex, NULL);
    int rc = open_both(&restore, err);
    rc = rc == 0 ? write_and_prove(&restore, &root, err) : rc;
    if (rc == 0) {
        memcpy(result->root, root.bytes, sizeof result->root);
        result->has_root = true;
        result->size_bytes = restore.size_bytes;
    }
    result->outcome = restore.outcome;
    if (restore.handle != NULL) {
        restore.bytes->close(restore.handle);
    }
    far_point_close(restore.point);
    far_map_free(restore.map);
    pthread_mutex_destroy(&restore.mutex);
    return rc;
}
