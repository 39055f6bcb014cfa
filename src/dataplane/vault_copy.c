/* Copies of points in a second vault: see vault_copy.h. */
#include "dataplane/vault_copy.h"

#include "base/hash.h"
#include "dataplane/import.h"
#include "dataplane/vault_diff.h"
#include "dataplane/vault_private.h"

#include <stdlib.h>

enum { BATCH = 32, CHECKPOINT_BLOCKS = 4096 };

struct copy {
    struct far_vault *source, *target;
    const struct far_domain *source_domain, *target_domain;
    const struct far_copy_options *options;
    struct far_copy_result *result;
    uint64_t point_id;
    const struct far_manifest_disk *disk;
    struct far_replica *replica;
    uint64_t since_checkpoint; /* blocks set */

    /* what differs, and was not set yet */
    size_t count;
    uint64_t indices[BATCH];
    struct far_hash256 leaves[BATCH];
    struct far_packed *packed; /* BATCH of them */
    uint8_t *raw;              /* one block */
};

uint64_t far_copy_replica_id(const uint8_t cluster_uuid[16], uint64_t disk_id)
{
    uint8_t number[8];
    far_put_le64(number, disk_id);
    return FAR_IMPORTED | far_hash64_parts(far_slice("copy", 5), far_slice(cluster_uuid, 16), far_slice(number, sizeof number)) >> 1;
}

/* ---- blocks ---- */

static int name_block(const struct copy *copy, uint64_t block, int rc, struct far_error *err)
{
    if (rc == FAR_NOT_FOUND) { /* a point names only what is there: it was lost */
        rc = FAR_CORRUPT;
        if (err != NULL) {
            err->klass = rc;
        }
    }
    far_error_context(err, "block %llu of disk '%.63s' of point %llu in '%.200s'", (unsigned long long)block, copy->disk->name,
                      (unsigned long long)copy->point_id, copy->source->dir);
    return rc;
}

/* Those of the batch that the target has not: read, checked, stored. */
static int carry_batch(struct copy *copy, struct far_error *err)
{
    struct far_vault_block blocks[BATCH];
    bool there[BATCH] = {false};
    size_t missing = 0;
    uint64_t bytes = 0;
    int rc = far_vault_has(copy->target, copy->target_domain, copy->leaves, copy->count, there, err);
    for (size_t i = 0; rc == 0 && i < copy->count; i++) {
        struct far_packed *packed = &copy->packed[missing];
        if (there[i]) {
            continue;
        }
        rc = far_vault_get_packed(copy->source, copy->source_domain, &copy->leaves[i], packed, copy->raw, err);
        rc = rc != 0 ? name_block(copy, copy->indices[i], rc, err) : 0;
        blocks[missing++] = (struct far_vault_block){
            .id = copy->leaves[i], .codec = packed->codec, .data = packed->data, .len = packed->len};
        bytes += packed->len;
    }
    rc = rc == 0 && missing > 0 ? far_vault_put_many(copy->target, copy->target_domain, blocks, missing, err) : rc;
    if (rc == 0) {
        copy->result->blocks_copied += missing;
        copy->result->bytes_copied += bytes;
    }
    return rc;
}

static int finish_batch(struct copy *copy, struct far_error *err)
{
    uint64_t every = copy->options->checkpoint_blocks != 0 ? copy->options->checkpoint_blocks : CHECKPOINT_BLOCKS;
    size_t count = copy->count;
    if (count == 0) {
        return 0;
    }
    int rc = carry_batch(copy, err);
    rc = rc == 0 ? far_replica_set_many(copy->replica, copy->indices, copy->leaves, count, err) : rc;
    copy->count = 0;
    copy->since_checkpoint += count;
    uint64_t done = copy->indices[count - 1] + 1;
    if (rc == 0 && copy->since_checkpoint >= every) {
        copy->since_checkpoint = 0;
        rc = far_replica_checkpoint(copy->replica, done, "copy", err);
    }
    if (rc == 0 && copy->options->progress != NULL &&
        copy->options->progress(copy->options->arg, copy->disk->name, done, far_map_block_count(copy->disk->size_bytes)) != 0) {
        rc = far_fail(err, FAR_CANCELED, "the copy of point %llu was canceled", (unsigned long long)copy->point_id);
    }
    return rc;
}

static int take_block(void *arg, uint64_t block, const struct far_hash256 *before, const struct far_hash256 *after,
                      struct far_error *err)
{
    struct copy *copy = arg;
    (void)before;
    copy->result->blocks_changed++;
    copy->indices[copy->count] = block;
    copy->leaves[copy->count++] = *after;
    return copy->count == BATCH ? finish_batch(copy, err) : 0;
}

/* ---- disks ---- */

/* The replica as it is, to compare with. */
static int open_before(struct copy *copy, struct far_point **ret_before, struct far_error *err)
{
    struct far_hash256 root;
    int rc = far_replica_checkpoint(copy->replica, 0, "copy", err);
    rc = rc == 0 ? far_replica_root(copy->replica, &root, err) : rc;
    return rc == 0 ? far_point_open(copy->target, copy->target_domain, &root, ret_before, err) : rc;
}

static int prove(struct copy *copy, struct far_error *err)
{
    struct far_hash256 root;
    int rc = far_replica_checkpoint(copy->replica, far_replica_blocks(copy->replica), "copy", err);
    rc = rc == 0 ? far_replica_root(copy->replica, &root, err) : rc;
    if (rc == 0 && !far_hash256_equal(&root, &copy->disk->root)) {
        rc = far_fail(err, FAR_CORRUPT, "disk '%.63s' of point %llu: its tree in '%.200s' is not the one of the signed root",
                      copy->disk->name, (unsigned long long)copy->point_id, copy->source->dir);
    }
    return rc;
}

static int copy_disk(struct copy *copy, const struct far_manifest *manifest, struct far_error *err)
{
    struct far_point *before = NULL, *after = NULL;
    struct far_replica_state state = {0};
    uint64_t id = far_copy_replica_id(manifest->cluster_uuid, copy->disk->disk_id);
    int rc = far_vault_replica_state(copy->target, id, &state, err);
    struct far_fence fence = {.job = state.fence.job + 1};
    rc = rc == 0 || rc == FAR_NOT_FOUND ? far_point_open_disk(copy->source, copy->point_id, copy->disk->name, &after, err) : rc;
    rc = rc == 0 ? far_replica_open(copy->target, copy->target_domain, id, copy->disk->size_bytes, &fence, &copy->replica, err) : rc;
    rc = rc == 0 ? open_before(copy, &before, err) : rc;
    copy->count = 0;
    if (rc == 0) {
        rc = far_vault_diff(copy->source, before, after, take_block, copy, err);
        rc = rc == 0 ? finish_batch(copy, err) : rc;
        rc = rc == 0 ? prove(copy, err) : rc;
    }
    if (rc != 0) { /* what was set so far is there for the next run; if that cannot be written either, less of it */
        (void)(copy->replica != NULL ? far_replica_checkpoint(copy->replica, 0, "copy", NULL) : 0);
    }
    far_point_close(before);
    far_point_close(after);
    far_replica_close(copy->replica);
    copy->replica = NULL;
    return rc;
}

/* ---- the point ---- */

/* 0: the target has it already; FAR_NOT_FOUND: go on. */
static int look_in_target(struct far_vault *target, const struct far_manifest *manifest, struct far_error *err)
{
    struct far_manifest *there = malloc(sizeof *there);
    if (there == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to copy a point");
    }
    int rc = far_vault_point(target, manifest->point_id, there, err);
    if (rc == 0 && !far_manifest_same(manifest, there)) {
        rc = far_fail(err, FAR_CONFLICT, "vault '%.200s' has another point %llu", target->dir, (unsigned long long)manifest->point_id);
    }
    if (rc == FAR_NOT_FOUND && far_vault_forgotten_read(target, manifest->point_id, there, NULL) != FAR_NOT_FOUND) {
        rc = far_fail(err, FAR_CONFLICT, "point %llu was forgotten in vault '%.200s'", (unsigned long long)manifest->point_id,
                      target->dir);
    }
    free(there);
    return rc;
}

static int find_domains(struct copy *copy, const struct far_manifest *manifest, struct far_error *err)
{
    int rc = far_vault_domain_find(copy->source, manifest->domain_uuid, &copy->source_domain, err);
    if (rc == 0) {
        rc = far_vault_domain_find(copy->target, manifest->domain_uuid, &copy->target_domain, err);
        rc = rc == FAR_NOT_FOUND ? far_vault_domain_carry(copy->target, copy->source_domain, &copy->target_domain, err) : rc;
    }
    if (rc != 0) {
        far_error_context(err, "point %llu", (unsigned long long)copy->point_id);
    }
    return rc;
}

static int copy_point(struct copy *copy, const struct far_manifest *manifest, struct far_error *err)
{
    int rc = find_domains(copy, manifest, err);
    for (uint32_t i = 0; rc == 0 && i < manifest->disk_count; i++) {
        copy->disk = &manifest->disks[i];
        rc = copy_disk(copy, manifest, err);
    }
    return rc == 0 ? far_vault_seal(copy->target, manifest, err) : rc;
}

int far_vault_copy(struct far_vault *source, struct far_vault *target, uint64_t point_id, const struct far_copy_options *options,
                   struct far_copy_result *ret_result, struct far_error *err)
{
    struct copy copy = {.source = source, .target = target, .options = options, .result = ret_result, .point_id = point_id};
    *ret_result = (struct far_copy_result){0};
    if (memcmp(source->uuid, target->uuid, 16) == 0) {
        return far_fail(err, FAR_INVALID, "'%.200s' and '%.200s' are the same vault", source->dir, target->dir);
    }
    struct far_manifest *manifest = malloc(sizeof *manifest);
    copy.packed = malloc(BATCH * sizeof *copy.packed);
    copy.raw = malloc(FAR_BLOCK_BYTES);
    int rc = manifest != NULL && copy.packed != NULL && copy.raw != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory to copy a point");
    rc = rc == 0 ? far_vault_point(source, point_id, manifest, err) : rc;
    if (rc == 0) {
        rc = look_in_target(target, manifest, err);
        ret_result->was_there = rc == 0;
        rc = rc == FAR_NOT_FOUND ? copy_point(&copy, manifest, err) : rc;
    }
    free(copy.raw);
    free(copy.packed);
    free(manifest);
    return rc;
}
