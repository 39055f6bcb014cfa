/* What goes from a vault's store, and what the store locks, so that nobody makes it go; see remote.h. */
#include "dataplane/remote_private.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- packs that go ---- */

bool far_remote_may_go(struct far_vault *vault, uint32_t number)
{
    struct far_remote *remote = vault->remote;
    if (remote == NULL) {
        return true;
    }
    pthread_mutex_lock(&remote->lock);
    const struct far_remote_pack *pack = far_remote_find(remote, number);
    bool may = pack == NULL || pack->retain_until_ms <= far_clock_wall_ms();
    pthread_mutex_unlock(&remote->lock);
    return may;
}

enum { VERSIONS_MAX = 32 };

/* All of an object that shows itself: behind a version that went, an older one does (it was carried twice). What the store locks is
 * hidden at least. */
static int erase(struct far_objects *objects, const char *key, struct far_error *err)
{
    struct far_object object = {0};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < VERSIONS_MAX; i++) {
        rc = far_objects_head(objects, key, &object, err);
        if (rc == 0) {
            rc = far_objects_delete(objects, key, object.version[0] != '\0' ? object.version : NULL, err);
        }
        if (rc == FAR_DENIED && object.version[0] != '\0') {
            return far_objects_delete(objects, key, NULL, err);
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* Who locked it meanwhile was faster: it stays. */
static bool is_retained(struct far_remote *remote, uint32_t number)
{
    pthread_mutex_lock(&remote->lock);
    const struct far_remote_pack *pack = far_remote_find(remote, number);
    bool is_retained = pack != NULL && pack->retain_until_ms != 0;
    pthread_mutex_unlock(&remote->lock);
    return is_retained;
}

int far_remote_drop_pack(struct far_vault *vault, uint32_t number, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    struct far_remote_pack pack;
    char key[FAR_REMOTE_NAME_MAX], path[4096];
    uint64_t size;
    if (!far_remote_has(vault, number, &size)) {
        return 0;
    }
    pthread_mutex_lock(&remote->lock);
    pack = *far_remote_find(remote, number);
    pthread_mutex_unlock(&remote->lock);
    int rc = far_remote_check_holder(vault, err);
    rc = rc == 0 ? far_remote_announce(vault, err) : rc;
    rc = rc == 0 ? far_remote_push(vault, "packs/removed", err) : rc; /* whoever attaches the vault misses it no more */
    bool is_read = false;
    rc = rc == 0 ? far_remote_is_read(vault, &is_read, err) : rc; /* a reader that came meanwhile says so before it looks at `removed` */
    if (rc != 0 || is_read) {
        return rc;
    }
    far_remote_key(number, pack.epoch, ".pack", key, sizeof key);
    rc = far_objects_delete(remote->objects, key, pack.version[0] != '\0' ? pack.version : NULL, err);
    if (rc == FAR_DENIED && is_retained(remote, number)) {
        return 0;
    }
    rc = rc == 0 ? erase(remote->objects, key, err) : rc;
    far_remote_key(number, pack.epoch, ".idx", key, sizeof key);
    rc = rc == 0 ? erase(remote->objects, key, err) : rc;
    if (rc != 0) {
        return rc;
    }
    snprintf(path, sizeof path, "%.4000s/%08" PRIu32 ".up", vault->packs.dir, number);
    unlink(path);
    pthread_mutex_lock(&remote->lock);
    struct far_remote_pack *there = far_remote_find(remote, number);
    size_t at = (size_t)(there - remote->packs);
    memmove(there, there + 1, (remote->count - at - 1) * sizeof *there);
    remote->count--;
    pthread_mutex_unlock(&remote->lock);
    return 0;
}

/* ---- locks ---- */

static int retain_pack(struct far_vault *vault, uint32_t number, uint64_t until_ms, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    char key[FAR_REMOTE_NAME_MAX];
    pthread_mutex_lock(&remote->lock);
    const struct far_remote_pack *there = far_remote_find(remote, number);
    struct far_remote_pack pack = there != NULL ? *there : (struct far_remote_pack){.retain_until_ms = UINT64_MAX};
    pthread_mutex_unlock(&remote->lock);
    if (pack.retain_until_ms >= until_ms) {
        return 0;
    }
    far_remote_key(number, pack.epoch, ".pack", key, sizeof key);
    int rc = far_objects_retain(remote->objects, key, pack.version[0] != '\0' ? pack.version : NULL, until_ms, err);
    pack.retain_until_ms = until_ms;
    rc = rc == 0 ? far_remote_up_write(vault->packs.dir, vault->uuid, &pack, err) : rc;
    pthread_mutex_lock(&remote->lock);
    struct far_remote_pack *now = far_remote_find(remote, number);
    if (rc == 0 && now != NULL) {
        now->retain_until_ms = until_ms;
    }
    pthread_mutex_unlock(&remote->lock);
    if (rc == FAR_NOT_FOUND) { /* reclaim was faster: nobody needs it */
        rc = now == NULL ? 0 : far_fail(err, FAR_CORRUPT, "the store has lost pack %08" PRIu32, number);
    }
    return rc;
}

/* Each pack up to the one in which the point ends. */
static int retain_packs(struct far_vault *vault, uint32_t last, uint64_t until_ms, struct far_error *err)
{
    uint32_t number = 0;
    for (int rc = 0;;) {
        pthread_mutex_lock(&vault->remote->lock);
        number = far_remote_after(vault->remote, number);
        pthread_mutex_unlock(&vault->remote->lock);
        if (rc != 0 || number == 0 || number > last) {
            return rc;
        }
        rc = retain_pack(vault, number, until_ms, err);
    }
}

int far_remote_lock(struct far_vault *vault, uint64_t point_id, uint64_t until_ms, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    char name[FAR_REMOTE_NAME_MAX];
    if (remote == NULL) {
        return 0;
    }
    snprintf(name, sizeof name, "points/%" PRIu64 ".lock", point_id);
    struct far_manifest *manifest = malloc(sizeof *manifest);
    int rc = manifest != NULL ? far_remote_push(vault, name, err) : far_fail(err, FAR_LIMIT, "no memory to lock a point");
    bool is_sealed = rc == 0 && far_vault_manifest_peek(vault, point_id, manifest, NULL) == 0;
    int offered = 0;
    if (is_sealed) {
        offered = far_objects_retain(remote->objects, name, NULL, until_ms, err);
        snprintf(name, sizeof name, "points/%" PRIu64 ".manifest", point_id);
        offered = offered == 0 ? far_objects_retain(remote->objects, name, NULL, until_ms, err) : offered;
        offered = offered == 0 ? retain_packs(vault, (uint32_t)manifest->pack, until_ms, err) : offered;
        pthread_mutex_lock(&remote->lock);
        remote->locks_refused = offered == FAR_INVALID;
        pthread_mutex_unlock(&remote->lock);
    }
    free(manifest);
    return rc != 0 || offered == FAR_INVALID ? rc : offered; /* without object lock the vault's own lock holds */
}
