/* Readers of a vault whose holder is elsewhere: see remote.h. Each keeps an object `readers/<token>` young as long as it has the
 * vault open; while there is a young one the holder leaves packs where they are. Ages are by the clock of the store alone. */
#include "dataplane/remote_private.h"

#include "base/logging.h"
#include "base/random.h"
#include "base/thread.h"

#include <stdio.h>
#include <time.h>

enum { RENEW_SECONDS = 60, YOUNG_MS = 10 * 60 * 1000, FORGOTTEN_MS = 24 * 60 * 60 * 1000 };

/* ---- a reader ---- */

static int renew(struct far_remote *remote, struct far_error *err)
{
    return far_objects_put(remote->objects, remote->reader_key, far_slice_str("reads"), NULL, NULL, err);
}

static void *stay_young(void *arg)
{
    struct far_remote *remote = arg;
    far_thread_name("far-reader");
    pthread_mutex_lock(&remote->lock);
    while (!remote->is_ending) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += RENEW_SECONDS;
        int code = 0;
        while (!remote->is_ending && code == 0) {
            code = pthread_cond_timedwait(&remote->changed, &remote->lock, &until);
        }
        bool ends = remote->is_ending;
        pthread_mutex_unlock(&remote->lock);
        struct far_error err;
        if (!ends && renew(remote, &err) != 0) {
            far_logf(FAR_LEVEL_WARN, "vault", "a reader of the vault could not say so to its store: %s", err.message);
        }
        pthread_mutex_lock(&remote->lock);
    }
    pthread_mutex_unlock(&remote->lock);
    return NULL;
}

int far_remote_reader_say(struct far_vault *vault, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    uint8_t token[8];
    char hex[17];
    far_random_bytes(token, sizeof token);
    far_hex_encode(token, sizeof token, hex);
    snprintf(remote->reader_key, sizeof remote->reader_key, "readers/%s", hex);
    return renew(remote, err);
}

int far_remote_reader_start(struct far_vault *vault, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    int code = pthread_create(&remote->thread, NULL, stay_young, remote);
    remote->is_started = code == 0;
    return code == 0 ? 0 : far_fail_errno(err, FAR_LIMIT, code, "start the thread of a reader");
}

void far_remote_reader_leave(struct far_remote *remote)
{
    if (remote->reader_key[0] != '\0') {
        far_objects_delete(remote->objects, remote->reader_key, NULL, NULL);
    }
}

/* ---- the holder ---- */

struct looking {
    struct far_remote *remote;
    uint64_t now_ms;
    bool found;
};

static int look_at(void *arg, const char *key, const struct far_object *object, struct far_error *err)
{
    struct looking *looking = arg;
    char own[32];
    far_remote_holder_key(&looking->remote->holder, own);
    if (strcmp(key, own) == 0) { /* from when this folder was attached */
        return 0;
    }
    uint64_t age_ms = looking->now_ms > object->modified_ms ? looking->now_ms - object->modified_ms : 0;
    looking->found = looking->found || age_ms < YOUNG_MS;
    return age_ms > FORGOTTEN_MS ? far_objects_delete(looking->remote->objects, key, NULL, err) : 0;
}

int far_remote_is_read(struct far_vault *vault, bool *ret_read, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    struct looking looking = {.remote = remote};
    struct far_object object = {0};
    *ret_read = false;
    if (remote == NULL) {
        return 0;
    }
    int rc = far_objects_put(remote->objects, "clock", far_slice_str("now"), NULL, NULL, err); /* so the store says what time it is */
    rc = rc == 0 ? far_objects_head(remote->objects, "clock", &object, err) : rc;
    looking.now_ms = object.modified_ms;
    rc = rc == 0 ? far_objects_list(remote->objects, "readers/", look_at, &looking, err) : rc;
    *ret_read = looking.found;
    return rc;
}
