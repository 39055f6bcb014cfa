/* Once after an open: the points that the store has are those of the folder; see remote.h. A program that died between the two left
 * one more here, which it had not announced, or one more there, which was forgotten. Before that: is the folder one that was set back
 * (a snapshot of its machine, a backup)? It would write its packs over newer ones. */
#include "dataplane/remote_private.h"
#include "dataplane/vault_lock.h"

#include "base/clock.h"
#include "base/key_set.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

struct settling {
    struct far_vault *vault;
    struct far_key_set there; /* keys of manifests and locks that the store has */
};

static int note_key(void *arg, const char *key, const struct far_object *object, struct far_error *err)
{
    struct settling *settling = arg;
    char path[FAR_DIR_MAX + FAR_OBJECT_KEY_MAX + 2];
    size_t len = strlen(key);
    bool is_manifest = len > 9 && strcmp(key + len - 9, ".manifest") == 0;
    int rc = 0;
    (void)object;
    if (far_key_set_add(&settling->there, far_slice_str(key)) < 0) {
        return far_fail(err, FAR_LIMIT, "no memory for the points of a store");
    }
    /* One that this folder does not know at all stays: it may be the folder that was set back. */
    int stem = (int)(len - (is_manifest ? 9 : 0));
    snprintf(path, sizeof path, "%s/%.*s" FAR_FORGOTTEN, settling->vault->dir, stem, key);
    bool is_forgotten = is_manifest && access(path, F_OK) == 0;
    snprintf(path, sizeof path, "%s/%s", settling->vault->dir, key);
    if (is_forgotten && access(path, F_OK) != 0 && errno == ENOENT) { /* it goes; unless it is of who took the vault over meanwhile */
        rc = far_remote_check_holder(settling->vault, err);
        rc = rc == 0 ? far_remote_push(settling->vault, key, err) : rc;
    }
    return rc;
}

static int push_missing(struct settling *settling, uint64_t number, const char *suffix, struct far_error *err)
{
    char name[FAR_REMOTE_NAME_MAX];
    snprintf(name, sizeof name, "points/%" PRIu64 "%s", number, suffix);
    int was_new = far_key_set_add(&settling->there, far_slice_str(name));
    if (was_new < 0) {
        return far_fail(err, FAR_LIMIT, "no memory for the points of a store");
    }
    if (was_new == 0) {
        return 0;
    }
    /* Also a lock that somebody else is putting there just now: the version that comes last is to be locked, too. */
    uint64_t until_ms = 0;
    bool is_locked = far_vault_lock_until(settling->vault, number, &until_ms, NULL) == 0 && until_ms > far_clock_wall_ms();
    int rc = far_remote_push(settling->vault, name, err);
    return rc == 0 && is_locked ? far_remote_lock(settling->vault, number, until_ms, err) : rc; /* what was hidden is so no more */
}

static int push_lock(void *arg, uint64_t number, struct far_error *err)
{
    return push_missing(arg, number, ".lock", err);
}

static int push_manifest(void *arg, uint64_t number, struct far_error *err)
{
    return push_missing(arg, number, ".manifest", err);
}

/* ---- a folder that was set back ---- */

static int look_at_pack(void *arg, const char *key, const struct far_object *object, struct far_error *err)
{
    struct far_vault *vault = arg;
    const struct far_remote *remote = vault->remote;
    uint32_t number, epoch;
    (void)object;
    bool is_newer = far_remote_key_parse(key, ".pack", &number, &epoch) && epoch == remote->holder.epoch && number > remote->opened_last &&
                    !far_removed_has(&vault->removed, number);
    if (!is_newer) {
        return 0;
    }
    return far_fail(err, FAR_CONFLICT, "the store has pack %08" PRIu32 ", and '%s' does not know it: it is an older copy; attach the "
                    "vault in another folder, and take it over", number, vault->dir);
}

int far_remote_check_age(struct far_vault *vault, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    int rc = far_remote_check_current(vault, err);
    rc = rc == 0 ? far_objects_list(remote->objects, "packs/", look_at_pack, vault, err) : rc;
    if (rc == FAR_CONFLICT) {
        far_remote_fence(vault);
    }
    return rc;
}

/* ---- points ---- */

int far_remote_settle_points(struct far_vault *vault, struct far_error *err)
{
    char points[FAR_DIR_MAX + 16];
    struct settling settling = {.vault = vault};
    snprintf(points, sizeof points, "%s/points", vault->dir);
    int rc = far_remote_check_holder(vault, err);
    rc = rc == 0 ? far_objects_list(vault->remote->objects, "points/", note_key, &settling, err) : rc;
    rc = rc == 0 ? far_vault_each_number(points, ".lock", push_lock, &settling, err) : rc;
    rc = rc == 0 ? far_vault_each_number(points, ".manifest", push_manifest, &settling, err) : rc;
    far_key_set_done(&settling.there);
    return rc;
}

void far_remote_forget(struct far_vault *vault, uint64_t point_id)
{
    struct far_remote *remote = vault->remote;
    char name[FAR_REMOTE_NAME_MAX];
    if (remote == NULL) {
        return;
    }
    pthread_mutex_lock(&remote->lock);
    bool answers = remote->round_rc == 0;
    pthread_mutex_unlock(&remote->lock);
    snprintf(name, sizeof name, "points/%" PRIu64 ".manifest", point_id);
    bool may = answers && far_remote_check_holder(vault, NULL) == 0 && far_remote_announce(vault, NULL) == 0;
    if (may && far_remote_push(vault, name, NULL) == 0) {
        snprintf(name, sizeof name, "points/%" PRIu64 ".lock", point_id);
        far_remote_push(vault, name, NULL);
    }
}
