/* A replica whose small file is damaged is made anew, so that its disk is protected again and its domain can be reclaimed: see
 * vault_private.h. Where a handle is open, that one knows all of it. Else it is as the disk's newest point, with the fence that this
 * point was made under: older attempts stay out, and behind its frontier a job goes back to its base anyway. */
#include "dataplane/vault_copy.h"
#include "dataplane/vault_owner.h"
#include "dataplane/vault_private.h"

#include "base/logging.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define IMPORTED (1ull << 63) /* numbers from here on no log gives, and fences are no log's */

struct mending {
    struct far_vault *vault;
    uint64_t disk_id;
    struct far_replica_file file; /* size 0: no point yet */
    struct far_manifest *manifest;
    int rc; /* of the newest point that could be read */
    struct far_error err;
};

static void take_fence(struct mending *mending)
{
    const struct far_manifest *manifest = mending->manifest;
    struct far_vault_owner owner;
    bool is_owners = far_vault_owner_read(mending->vault, &owner, NULL) == 0 &&
                     memcmp(owner.cluster_uuid, manifest->cluster_uuid, 16) == 0;
    if (is_owners && mending->disk_id < IMPORTED) {
        mending->file.fence = (struct far_fence){
            .incarnation_epoch = manifest->incarnation_epoch, .plan_epoch = manifest->plan_epoch, .job = manifest->job_id};
    }
}

static void take_disk(struct mending *mending, const struct far_manifest_disk *disk)
{
    const struct far_manifest *manifest = mending->manifest;
    const struct far_domain *domain = NULL;
    struct far_replica_file file = {.disk_id = mending->disk_id,
                                    .domain = manifest->domain_number,
                                    .durable = {.pack = (uint32_t)manifest->pack, .offset = manifest->pack_offset}};
    int rc = far_vault_domain_numbered(mending->vault, manifest->domain_number, &domain, &mending->err);
    rc = rc == 0 ? far_vault_root_load(mending->vault, domain, &disk->root, &file.size_bytes, &file.top, &mending->err) : rc;
    if (rc == 0 || rc == FAR_DENIED) { /* locked: of its domain at least */
        mending->file = file;
        mending->rc = rc;
        take_fence(mending);
    }
}

/* By number, so the newest comes last. */
static int look_at(void *arg, uint64_t point_id, struct far_error *err)
{
    struct mending *mending = arg;
    struct far_manifest *manifest = mending->manifest;
    (void)err;
    if (far_vault_manifest_read(mending->vault, point_id, manifest, NULL) != 0) {
        return 0;
    }
    for (uint32_t i = 0; i < manifest->disk_count; i++) {
        uint64_t disk_id = manifest->disks[i].disk_id;
        if (disk_id == mending->disk_id || far_copy_replica_id(manifest->cluster_uuid, disk_id) == mending->disk_id) {
            take_disk(mending, &manifest->disks[i]);
        }
    }
    return 0;
}

int far_replica_file_remake(struct far_vault *vault, uint64_t disk_id, struct far_replica_file *ret_file, struct far_error *err)
{
    char points[4096];
    struct mending mending = {.vault = vault, .disk_id = disk_id, .manifest = malloc(sizeof *mending.manifest)};
    if (mending.manifest == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to make a replica anew");
    }
    snprintf(points, sizeof points, "%s/points", vault->dir);
    int rc = far_vault_each_number(points, ".manifest", look_at, &mending, err);
    free(mending.manifest);
    if (rc != 0) {
        return rc;
    }
    if (mending.file.disk_id == 0) { /* it has no point: nothing of it is known */
        mending.file = (struct far_replica_file){.disk_id = disk_id, .size_bytes = FAR_BLOCK_BYTES};
        mending.file.top = *far_map_zero(8 * far_map_height(FAR_BLOCK_BYTES));
    }
    *ret_file = mending.file;
    if (mending.rc != 0) {
        return far_fail(err, mending.rc, "%s", mending.err.message);
    }
    rc = far_replica_file_write(vault, ret_file, err);
    if (rc == 0) {
        char text[256];
        snprintf(text, sizeof text, "the file of the replica of disk %" PRIu64 " was damaged; it was made anew", disk_id);
        far_logf(FAR_LEVEL_WARN, "vault", "%s", text);
        far_vault_note_damage(vault, (struct far_place){0}, text);
    }
    return rc;
}
