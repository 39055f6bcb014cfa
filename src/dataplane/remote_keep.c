/* What goes from a vault's store, and what the store locks, so that nobody makes it go; see remote.h. */
#include "dataplane/remote_private.h"
#include "dataplane/vault_lock.h"

#include "base/clock.h"
#include "base/date.h"
#include "base/logging.h"

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
    pthread_mutex_lock(&remote->up_lock);
    unlink(path);
    pthread_mutex_lock(&remote->lock);
    struct far_remote_pack *there = far_remote_find(remote, number);
    size_t at = (size_t)(there - remote->packs);
    remote->unlocked -= there->wanted_until_ms != 0;
    memmove(there, there + 1, (remote->count - at - 1) * sizeof *there);
    remote->count--;
    pthread_mutex_unlock(&remote->lock);
    pthread_mutex_unlock(&remote->up_lock);
    return 0;
}

/* ---- former versions of small files ---- */

struct dropping {
    struct far_remote *remote;
    const char *name;
    uint64_t count;    /* that stay */
    uint64_t until_ms; /* the last of them; 0: not told */
};

static int drop_version(void *arg, const char *key, const struct far_object *object, bool is_marker, bool is_latest, struct far_error *err)
{
    struct dropping *dropping = arg;
    uint64_t until_ms = 0;
    if (strcmp(key, dropping->name) != 0 || (is_latest && !is_marker)) {
        return 0;
    }
    int rc = far_objects_delete(dropping->remote->objects, key, object->version, err);
    if (rc != FAR_DENIED) {
        return rc;
    }
    dropping->count++;
    if (far_objects_retained(dropping->remote->objects, key, object->version, &until_ms, NULL) == 0 && until_ms > dropping->until_ms) {
        dropping->until_ms = until_ms;
    }
    return 0;
}

int far_remote_drop_versions(struct far_vault *vault, const char *name, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    struct dropping dropping = {.remote = remote, .name = name};
    struct far_object object = {0};
    char stays[256] = "", date[FAR_DATE_MAX];
    int rc = remote == NULL ? FAR_NOT_FOUND : far_objects_head(remote->objects, name, &object, err);
    if (rc != 0 || object.version[0] == '\0') {
        return rc == FAR_NOT_FOUND ? 0 : rc; /* a bucket without versions */
    }
    rc = far_objects_versions(remote->objects, name, drop_version, &dropping, err);
    if (rc == FAR_DENIED || rc == FAR_INVALID) {
        snprintf(stays, sizeof stays, "former versions of '%.80s' may stay: the store does not let them be listed", name);
        rc = 0;
    } else if (rc == 0 && dropping.count > 0) {
        snprintf(stays, sizeof stays, "%" PRIu64 " former versions of '%.80s' stay: the store %s%s", dropping.count, name,
                 dropping.until_ms != 0 ? "locks them until " : "does not let them be deleted",
                 dropping.until_ms != 0 ? far_date_text(dropping.until_ms, date) : "");
    }
    if (stays[0] != '\0') {
        far_logf(FAR_LEVEL_ERROR, "vault", "what was to be erased of vault '%s' is still in its store: %s", vault->dir, stays);
        pthread_mutex_lock(&remote->lock);
        snprintf(remote->stays, sizeof remote->stays, "%s", stays);
        pthread_mutex_unlock(&remote->lock);
    }
    return rc;
}

/* ---- locks ---- */

/* remote->lock is held. */
static void note_locked(struct far_remote *remote, struct far_remote_pack *pack, uint64_t until_ms)
{
    pack->retain_until_ms = until_ms > pack->retain_until_ms ? until_ms : pack->retain_until_ms;
    if (pack->wanted_until_ms != 0 && pack->wanted_until_ms <= pack->retain_until_ms) {
        pack->wanted_until_ms = 0;
        remote->unlocked--;
    }
}

/* The store cannot lock this one: the others are none the worse for it. */
static void note_unlocked(struct far_vault *vault, uint32_t number, uint64_t until_ms, const char *why)
{
    struct far_remote *remote = vault->remote;
    pthread_mutex_lock(&remote->lock);
    struct far_remote_pack *pack = far_remote_find(remote, number);
    bool is_new = pack != NULL && pack->wanted_until_ms == 0;
    if (pack != NULL) {
        pack->wanted_until_ms = until_ms > pack->wanted_until_ms ? until_ms : pack->wanted_until_ms;
        remote->unlocked += is_new;
        snprintf(remote->unlocked_why, sizeof remote->unlocked_why, "pack %08" PRIu32 ": %.220s", number, why);
    }
    pthread_mutex_unlock(&remote->lock);
    if (is_new) {
        far_logf(FAR_LEVEL_ERROR, "vault", "the store cannot lock pack %08" PRIu32 " of vault '%s': %s; it is tried again", number,
                 vault->dir, why);
    }
}

static int ask_to_retain(struct far_vault *vault, struct far_remote_pack *pack, uint64_t until_ms, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    char key[FAR_REMOTE_NAME_MAX];
    far_remote_key(pack->number, pack->epoch, ".pack", key, sizeof key);
    int rc = far_objects_retain(remote->objects, key, pack->version[0] != '\0' ? pack->version : NULL, until_ms, err);
    pthread_mutex_lock(&remote->up_lock); /* two may lock it at once, or reclaim lets it go */
    pthread_mutex_lock(&remote->lock);
    struct far_remote_pack *now = far_remote_find(remote, pack->number);
    bool is_there = now != NULL;
    if (rc == 0 && is_there) {
        note_locked(remote, now, until_ms);
        *pack = *now;
    }
    pthread_mutex_unlock(&remote->lock);
    rc = rc == 0 && is_there ? far_remote_up_write(vault->packs.dir, vault->uuid, pack, err) : rc;
    pthread_mutex_unlock(&remote->up_lock);
    if (rc == FAR_NOT_FOUND) { /* reclaim was faster: nobody needs it */
        rc = !is_there ? 0 : far_fail(err, FAR_CORRUPT, "the store has lost it");
    }
    return rc;
}

/* tries: also one that could not be locked before. */
static int retain_pack(struct far_vault *vault, uint32_t number, uint64_t until_ms, bool tries, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    struct far_error why = {0};
    pthread_mutex_lock(&remote->lock);
    struct far_remote_pack *there = far_remote_find(remote, number);
    struct far_remote_pack pack = there != NULL ? *there : (struct far_remote_pack){.retain_until_ms = UINT64_MAX};
    if (there != NULL && there->wanted_until_ms != 0 && there->wanted_until_ms < until_ms) {
        there->wanted_until_ms = until_ms;
    }
    pthread_mutex_unlock(&remote->lock);
    if (pack.retain_until_ms >= until_ms || (pack.wanted_until_ms != 0 && !tries)) {
        return 0;
    }
    int rc = ask_to_retain(vault, &pack, until_ms, &why);
    if (rc == FAR_CORRUPT) {
        note_unlocked(vault, number, until_ms, why.message);
        return 0;
    }
    if (rc != 0 && err != NULL) {
        *err = why;
        far_error_context(err, "lock pack %08" PRIu32 " in the store", number);
    }
    return rc;
}

/* Each pack up to this one. */
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
        rc = retain_pack(vault, number, until_ms, false, err);
    }
}

/* Without object lock the vault's own lock holds. */
static int judge(struct far_remote *remote, int rc)
{
    pthread_mutex_lock(&remote->lock);
    remote->locks_refused = rc == FAR_INVALID;
    pthread_mutex_unlock(&remote->lock);
    return rc == FAR_INVALID ? 0 : rc;
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
    if (is_sealed) {
        int offered = far_objects_retain(remote->objects, name, NULL, until_ms, err);
        snprintf(name, sizeof name, "points/%" PRIu64 ".manifest", point_id);
        offered = offered == 0 ? far_objects_retain(remote->objects, name, NULL, until_ms, err) : offered;
        offered = offered == 0 ? retain_packs(vault, (uint32_t)manifest->pack, until_ms, err) : offered;
        rc = judge(remote, offered);
    }
    free(manifest);
    return rc;
}

int far_remote_lock_ahead(struct far_vault *vault, uint64_t point_id, struct far_error *err)
{
    uint64_t until_ms = 0;
    bool has_lock = vault->remote != NULL && far_vault_lock_until(vault, point_id, &until_ms, NULL) == 0 && until_ms != 0;
    return has_lock ? judge(vault->remote, retain_packs(vault, UINT32_MAX, until_ms, err)) : 0;
}

/* ---- again ---- */

int far_remote_lock_again(struct far_vault *vault, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    uint32_t number = 0;
    for (int rc = 0;;) {
        pthread_mutex_lock(&remote->lock);
        number = remote->unlocked > 0 ? far_remote_after(remote, number) : 0;
        uint64_t until_ms = number != 0 ? far_remote_find(remote, number)->wanted_until_ms : 0;
        pthread_mutex_unlock(&remote->lock);
        if (rc != 0 || number == 0) {
            return rc;
        }
        rc = until_ms != 0 ? judge(remote, retain_pack(vault, number, until_ms, true, err)) : 0;
    }
}

struct wanting {
    struct far_vault *vault;
    struct far_manifest *manifest;
};

static int want_lock(void *arg, uint64_t number, struct far_error *err)
{
    struct wanting *wanting = arg;
    uint64_t until_ms = 0;
    bool holds = far_vault_lock_until(wanting->vault, number, &until_ms, NULL) == 0 && until_ms > far_clock_wall_ms() &&
                 far_vault_manifest_peek(wanting->vault, number, wanting->manifest, NULL) == 0;
    return holds ? judge(wanting->vault->remote, retain_packs(wanting->vault, (uint32_t)wanting->manifest->pack, until_ms, err)) : 0;
}

int far_remote_settle_locks(struct far_vault *vault, struct far_error *err)
{
    char points[FAR_DIR_MAX + 16];
    struct wanting wanting = {.vault = vault, .manifest = malloc(sizeof *wanting.manifest)};
    if (wanting.manifest == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to read a manifest");
    }
    snprintf(points, sizeof points, "%s/points", vault->dir);
    int rc = far_vault_each_number(points, ".lock", want_lock, &wanting, err);
    free(wanting.manifest);
    return rc;
}
