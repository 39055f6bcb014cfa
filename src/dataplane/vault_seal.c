/* Sealed points: manifests in the vault's folder `points`; see vault.h. A manifest is written after everything that it
 * names is durable, so a manifest that is there is complete. */
#include "dataplane/remote.h"
#include "dataplane/vault_copy.h"
#include "dataplane/vault_lock.h"
#include "dataplane/vault_private.h"

#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void path_of(const struct far_vault *vault, uint64_t point_id, const char *suffix, char *path, size_t len)
{
    snprintf(path, len, "%s/points/%" PRIu64 "%s", vault->dir, point_id, suffix);
}

static int check_manifest(const struct far_vault *vault, uint64_t point_id, struct far_slice file,
                          bool check_signature, struct far_manifest *ret_manifest, struct far_error *err)
{
    int rc = far_manifest_decode(file, ret_manifest, err);
    if (rc == 0 && check_signature) {
        const uint8_t *key = vault->public_key;
        for (size_t i = 0; i < vault->former_count; i++) {
            key = memcmp(vault->former_keys[i], ret_manifest->public_key, 32) == 0 ? vault->former_keys[i] : key;
        }
        rc = far_manifest_verify(file, key, err);
    }
    if (rc == 0 && ret_manifest->point_id != point_id) {
        rc = far_fail(err, FAR_CORRUPT, "it is the manifest of point %" PRIu64, ret_manifest->point_id);
    }
    return rc;
}

static int read_file(const struct far_vault *vault, uint64_t point_id, const char *suffix, bool check_signature,
                     struct far_manifest *ret_manifest, struct far_error *err)
{
    char path[4096];
    struct far_buf buf;
    struct far_error cause;
    path_of(vault, point_id, suffix, path, sizeof path);
    far_buf_init(&buf, FAR_MANIFEST_BYTES_MAX);
    int rc = far_file_read(path, &buf, err);
    if (rc == FAR_NOT_FOUND) {
        far_fail(err, rc, "vault '%s' has no point %" PRIu64, vault->dir, point_id);
    } else if (rc == FAR_LIMIT) {
        rc = far_fail(err, FAR_CORRUPT, "manifest '%s' is too long", path);
    } else if (rc == 0) {
        rc = check_manifest(vault, point_id, far_buf_slice(&buf), check_signature, ret_manifest, &cause);
        if (rc != 0) {
            rc = far_fail(err, rc, "manifest '%.300s': %s", path, cause.message);
        }
    }
    far_buf_done(&buf);
    return rc;
}

int far_vault_manifest_read(const struct far_vault *vault, uint64_t point_id, struct far_manifest *ret_manifest,
                            struct far_error *err)
{
    return read_file(vault, point_id, ".manifest", true, ret_manifest, err);
}

int far_vault_manifest_peek(const struct far_vault *vault, uint64_t point_id, struct far_manifest *ret_manifest, struct far_error *err)
{
    return read_file(vault, point_id, ".manifest", false, ret_manifest, err);
}

int far_vault_forgotten_read(const struct far_vault *vault, uint64_t point_id, struct far_manifest *ret_manifest,
                             struct far_error *err)
{
    return read_file(vault, point_id, FAR_FORGOTTEN, true, ret_manifest, err);
}

int far_vault_point(struct far_vault *vault, uint64_t point_id, struct far_manifest *ret_manifest,
                    struct far_error *err)
{
    struct far_manifest *manifest = malloc(sizeof *manifest);
    if (manifest == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to read a manifest");
    }
    int rc = far_vault_manifest_read(vault, point_id, manifest, err);
    if (rc == 0) {
        *ret_manifest = *manifest;
    }
    free(manifest);
    return rc;
}

/* All of the tree is there and stays: it is the replica's (the disk's, or the one that copies are made by), or else it is looked at. */
static int hold_disk(struct far_vault *vault, const struct far_domain *domain, const struct far_manifest *manifest,
                     const struct far_manifest_disk *disk, const struct far_hash256 *top, struct far_error *err)
{
    struct far_replica_file file = {0};
    int rc = far_replica_file_read(vault, far_copy_replica_id(manifest->cluster_uuid, disk->disk_id), &file, NULL);
    if (rc != 0 || !far_hash256_equal(&file.top, top)) {
        file = (struct far_replica_file){0};
        rc = far_replica_file_mend(vault, disk->disk_id, &file, err);
    }
    bool beside = rc == 0 && file.domain == far_domain_number(domain);
    rc = rc == FAR_NOT_FOUND ? 0 : rc;
    return rc == 0 ? far_vault_hold_tree(vault, domain, disk->size_bytes, top, &file.top, beside ? file.size_bytes : 0, err) : rc;
}

/* Every root is here, with the size that the manifest says. */
static int check_roots(struct far_vault *vault, const struct far_domain *domain, const struct far_manifest *manifest,
                       struct far_error *err)
{
    for (uint32_t i = 0; i < manifest->disk_count; i++) {
        const struct far_manifest_disk *disk = &manifest->disks[i];
        uint64_t size;
        struct far_hash256 top;
        bool there; /* who loads it says whether not; but a pass that runs does not delete it from here on */
        int rc = far_vault_has(vault, domain, &disk->root, 1, &there, err);
        rc = rc == 0 ? far_vault_root_load(vault, domain, &disk->root, &size, &top, err) : rc;
        if (rc != 0) {
            far_error_context(err, "disk '%.63s' of point %" PRIu64, disk->name, manifest->point_id);
            return rc;
        }
        if (size != disk->size_bytes) {
            return far_fail(err, FAR_NOT_FOUND, "disk '%.63s' of point %" PRIu64 ": its root is of another size",
                            disk->name, manifest->point_id);
        }
        rc = hold_disk(vault, domain, manifest, disk, &top, err);
        if (rc != 0) {
            far_error_context(err, "disk '%.63s' of point %" PRIu64, disk->name, manifest->point_id);
            return rc;
        }
    }
    return 0;
}

/* end: everything that the point needs is before it, and is durable. */
static int write_manifest(struct far_vault *vault, struct far_manifest *manifest, struct far_place end, struct far_error *err)
{
    char path[4096];
    struct far_buf buf;
    manifest->created_at_ms = far_clock_wall_ms();
    memcpy(manifest->vault_uuid, vault->uuid, 16);
    manifest->pack = end.pack;
    manifest->pack_offset = end.offset;
    far_buf_init(&buf, FAR_MANIFEST_BYTES_MAX);
    int rc = far_manifest_sign(manifest, vault->seed, &buf, err);
    if (rc == 0) {
        path_of(vault, manifest->point_id, ".manifest", path, sizeof path);
        rc = far_file_replace(path, buf.data, buf.len, 0600, err);
    }
    far_buf_done(&buf);
    return rc;
}

/* A replica that went on since the point was settled names what the store may not have: the next seal brings it. */
static int push_replica(struct far_vault *vault, const struct far_manifest *manifest, uint64_t disk_id, struct far_error *err)
{
    char name[96];
    struct far_replica_file file = {0};
    struct far_place end = {.pack = (uint32_t)manifest->pack, .offset = manifest->pack_offset};
    snprintf(name, sizeof name, "replicas/%" PRIu64 ".replica", disk_id);
    bool is_ahead = far_replica_file_read(vault, disk_id, &file, NULL) == 0 && far_place_before(end, file.durable);
    return is_ahead ? 0 : far_remote_push(vault, name, err);
}

/* The point as it is here is in the store, behind what it needs, and the vault was still this folder's then. */
static int push_point(struct far_vault *vault, const struct far_manifest *manifest, struct far_error *err)
{
    char name[96];
    int rc = far_remote_check_holder(vault, err);
    rc = rc == 0 ? far_remote_announce(vault, err) : rc;
    for (uint32_t i = 0; vault->remote != NULL && rc == 0 && i < manifest->disk_count; i++) {
        rc = push_replica(vault, manifest, manifest->disks[i].disk_id, err);
    }
    snprintf(name, sizeof name, "points/%" PRIu64 ".manifest", manifest->point_id);
    uint64_t until_ms = 0;
    rc = rc == 0 ? far_remote_push(vault, name, err) : rc;
    if (rc == 0 && vault->remote != NULL && far_vault_lock_until(vault, manifest->point_id, &until_ms, NULL) == 0 && until_ms != 0) {
        rc = far_remote_lock(vault, manifest->point_id, until_ms, err);
    }
    return rc == 0 ? far_remote_check_holder(vault, err) : rc;
}

/* 0: this very point is sealed already; FAR_NOT_FOUND: go on and write it. */
static int already_sealed(struct far_vault *vault, const struct far_manifest *manifest, struct far_manifest *there,
                          struct far_error *err)
{
    char path[4096];
    int rc = far_vault_manifest_read(vault, manifest->point_id, there, err);
    if (rc == 0 && !far_manifest_same(manifest, there)) {
        rc = far_fail(err, FAR_CONFLICT, "point %" PRIu64 " is sealed with another content", manifest->point_id);
    }
    path_of(vault, manifest->point_id, FAR_FORGOTTEN, path, sizeof path);
    if (rc == FAR_NOT_FOUND && access(path, F_OK) == 0) {
        rc = far_fail(err, FAR_CONFLICT, "point %" PRIu64 " was forgotten", manifest->point_id);
    }
    return rc;
}

int far_vault_seal(struct far_vault *vault, const struct far_manifest *manifest, struct far_error *err)
{
    int rc = far_vault_check_writable(vault, err);
    if (rc != 0) {
        return rc;
    }
    struct far_manifest *copy = malloc(sizeof *copy);
    if (copy == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to seal a point");
    }
    const struct far_domain *domain = NULL;
    rc = far_remote_settle(vault, err); /* what takes long, before the lock */
    rc = rc == 0 ? far_remote_lock_ahead(vault, manifest->point_id, err) : rc;
    if (rc != 0) {
        free(copy);
        return rc;
    }
    pthread_mutex_lock(&vault->reclaim.seal_lock);
    rc = already_sealed(vault, manifest, copy, err);
    if (rc == FAR_NOT_FOUND) {
        *copy = *manifest;
        rc = far_vault_domain_find(vault, manifest->domain_uuid, &domain, err);
        copy->domain_number = far_domain_number(domain);
        rc = rc == 0 ? check_roots(vault, domain, copy, err) : rc;
        pthread_mutex_lock(&vault->lock);
        struct far_place end = far_packs_end(&vault->packs); /* not what is put meanwhile: that may not be in the store */
        pthread_mutex_unlock(&vault->lock);
        if (rc == 0) {
            rc = vault->remote != NULL ? far_remote_settle(vault, err) : far_vault_sync(vault, err);
        }
        if (rc == 0) {
            rc = write_manifest(vault, copy, end, err);
        }
    }
    rc = rc == 0 ? push_point(vault, copy, err) : rc;
    pthread_mutex_unlock(&vault->reclaim.seal_lock);
    free(copy);
    return rc;
}

/* seal_lock is held: a lock comes wholly before, or finds the point forgotten. */
static int forget(struct far_vault *vault, uint64_t point_id, struct far_error *err)
{
    char path[4096], forgotten[4096];
    char dir[4096];
    int rc = far_vault_lock_check(vault, point_id, err);
    if (rc != 0) {
        return rc;
    }
    snprintf(path, sizeof path, "%s/signals/%" PRIu64 ".signal", vault->dir, point_id); /* first: no manifest, nobody looks for it again */
    if (unlink(path) != 0 && errno != ENOENT) {
        return far_fail_errno(err, FAR_IO, errno, "remove '%s'", path);
    }
    path_of(vault, point_id, ".manifest", path, sizeof path);
    path_of(vault, point_id, FAR_FORGOTTEN, forgotten, sizeof forgotten);
    if (rename(path, forgotten) != 0 && errno != ENOENT) {
        return far_fail_errno(err, FAR_IO, errno, "remove '%s'", path);
    }
    rc = far_vault_lock_drop(vault, point_id, err);
    if (rc != 0) {
        return rc;
    }
    snprintf(dir, sizeof dir, "%s/points", vault->dir);
    return far_file_sync_dir(dir, err);
}

int far_vault_forget(struct far_vault *vault, uint64_t point_id, struct far_error *err)
{
    int rc = far_vault_check_writable(vault, err);
    rc = rc == 0 ? far_remote_check_current(vault, err) : rc;
    rc = rc == FAR_CONFLICT || far_remote_is_fenced(vault) ? rc : 0; /* a store that does not answer is told later */
    if (rc == 0) {
        pthread_mutex_lock(&vault->reclaim.seal_lock);
        rc = forget(vault, point_id, err);
        pthread_mutex_unlock(&vault->reclaim.seal_lock);
    }
    if (rc == 0) {
        far_remote_forget(vault, point_id);
    }
    return rc;
}

struct each_point {
    struct far_vault *vault;
    far_vault_point_fn each;
    void *arg;
    struct far_manifest *manifest;
};

static int visit_point(void *arg, uint64_t point_id, struct far_error *err)
{
    struct each_point *visit = arg;
    struct far_error cause;
    int rc = far_vault_manifest_read(visit->vault, point_id, visit->manifest, &cause);
    if (rc == 0) {
        return visit->each(visit->arg, point_id, visit->manifest, NULL);
    }
    if (rc == FAR_NOT_FOUND) { /* forgotten meanwhile, or a name like 007 */
        return 0;
    }
    return visit->each(visit->arg, point_id, NULL, cause.message);
}

int far_vault_points(struct far_vault *vault, far_vault_point_fn each, void *arg, struct far_error *err)
{
    char dir[4096];
    struct each_point visit = {.vault = vault, .each = each, .arg = arg};
    visit.manifest = malloc(sizeof *visit.manifest);
    if (visit.manifest == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to list points");
    }
    snprintf(dir, sizeof dir, "%s/points", vault->dir);
    int rc = far_vault_each_number(dir, ".manifest", visit_point, &visit, err);
    free(visit.manifest);
    return rc;
}
