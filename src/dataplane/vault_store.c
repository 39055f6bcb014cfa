/* Binding a vault to a store; see vault_store.h. Its folder is made again by vault_attach.c. */
#include "dataplane/remote_private.h"

#include "base/file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static int same_store(const struct far_objects_options *a, const struct far_objects_options *b)
{
    return strcmp(a->endpoint, b->endpoint) == 0 && strcmp(a->bucket, b->bucket) == 0 && strcmp(a->prefix, b->prefix) == 0;
}

/* ---- bind ---- */

/* The object `holder` says that the vault is this folder's. Done again, it is the same object. */
static int claim_new(struct far_vault *vault, struct far_objects *objects, struct far_error *err)
{
    struct far_remote_holder holder, there;
    char etag[72];
    int rc = far_remote_holder_load(vault->dir, &holder, err);
    if (rc == FAR_NOT_FOUND) {
        far_remote_holder_make(&holder, 1);
        rc = far_remote_holder_save(vault->dir, &holder, err);
    }
    rc = rc == 0 ? far_remote_holder_put(objects, &holder, NULL, err) : rc;
    if (rc == FAR_CONFLICT && far_remote_holder_read(objects, &there, etag, NULL) == 0) {
        bool is_ours = there.epoch == holder.epoch && memcmp(there.token, holder.token, 16) == 0;
        rc = is_ours ? 0 : far_fail(err, FAR_CONFLICT, "the store has this vault, and '%.60s' holds it", there.name);
    }
    return rc;
}

static int bind_open(struct far_vault *vault, const struct far_objects_options *store, struct far_error *err)
{
    char path[FAR_DIR_MAX + 16], uuid[33];
    struct far_objects_options present = {0};
    struct far_objects *objects = NULL;
    snprintf(path, sizeof path, "%s/store", vault->dir);
    int rc = far_objects_options_read(path, &present, err);
    if (rc == 0 && !same_store(&present, store)) {
        return far_fail(err, FAR_CONFLICT, "vault '%s' is on another store: %.200s, bucket '%s'", vault->dir, present.endpoint,
                        present.bucket);
    }
    if (rc != FAR_NOT_FOUND) {
        return rc;
    }
    far_hex_encode(vault->uuid, 16, uuid);
    rc = far_remote_client(store, uuid, &objects, err);
    rc = rc == 0 ? claim_new(vault, objects, err) : rc;
    rc = rc == 0 ? far_objects_options_write(path, store, err) : rc;
    far_objects_close(objects);
    return rc;
}

/* Bound already: what may change of the configuration does (credentials, keep_bytes ...), before the vault is opened with it. */
static int refresh(const char *dir, const struct far_objects_options *store, struct far_error *err)
{
    char path[FAR_DIR_MAX + 16];
    struct far_objects_options present = {0};
    snprintf(path, sizeof path, "%.*s/store", FAR_DIR_MAX, dir);
    bool is_bound = far_objects_options_read(path, &present, NULL) == 0 && same_store(&present, store);
    return is_bound ? far_objects_options_write(path, store, err) : 0;
}

int far_vault_store_bind(const char *dir, const struct far_objects_options *store, bool waits, struct far_error *err)
{
    const struct far_vault_options options = {.create = !waits};
    struct far_vault *vault = NULL;
    int rc = refresh(dir, store, err);
    rc = rc == 0 ? far_vault_open(dir, &options, &vault, err) : rc;
    rc = rc == 0 ? bind_open(vault, store, err) : rc;
    far_vault_close(vault);
    if (rc != 0 || !waits) {
        return rc;
    }
    vault = NULL;
    rc = rc == 0 ? far_vault_open(dir, NULL, &vault, err) : rc; /* from now on it is on the store */
    rc = rc == 0 ? far_remote_settle(vault, err) : rc;
    far_vault_close(vault);
    return rc;
}

/* ---- which vaults there are ---- */

struct listing {
    const struct far_objects_options *store;
    int (*each)(void *arg, const char *uuid, const char *holder, uint64_t since_ms, struct far_error *err);
    void *arg;
};

static bool is_vault(const char *key, char ret_uuid[33])
{
    uint8_t uuid[16];
    if (strlen(key) != 32 + 6 || strcmp(key + 32, "/vault") != 0 || !far_hex_decode(key, 32, uuid, sizeof uuid)) {
        return false;
    }
    memcpy(ret_uuid, key, 32);
    ret_uuid[32] = '\0';
    return true;
}

static int list_key(void *arg, const char *key, const struct far_object *object, struct far_error *err)
{
    struct listing *listing = arg;
    struct far_objects *objects = NULL;
    struct far_remote_holder holder = {0};
    char uuid[33], etag[72];
    (void)object;
    if (!is_vault(key, uuid)) {
        return 0;
    }
    int rc = far_remote_client(listing->store, uuid, &objects, err);
    rc = rc == 0 ? far_remote_holder_read(objects, &holder, etag, err) : rc;
    far_objects_close(objects);
    rc = rc == FAR_NOT_FOUND || rc == FAR_CORRUPT ? 0 : rc;
    return rc == 0 ? listing->each(listing->arg, uuid, holder.name, holder.since_ms, err) : rc;
}

int far_vault_store_list(const struct far_objects_options *store,
                         int (*each)(void *arg, const char *uuid, const char *holder, uint64_t since_ms, struct far_error *err), void *arg,
                         struct far_error *err)
{
    struct listing listing = {.store = store, .each = each, .arg = arg};
    struct far_objects *objects = NULL;
    int rc = far_objects_open(store, &objects, err);
    rc = rc == 0 ? far_objects_list(objects, "", list_key, &listing, err) : rc;
    far_objects_close(objects);
    return rc;
}

static int only_one(void *arg, const char *uuid, const char *holder, uint64_t since_ms, struct far_error *err)
{
    char *found = arg;
    (void)holder;
    (void)since_ms;
    if (found[0] != '\0') {
        return far_fail(err, FAR_CONFLICT, "the store has several vaults (%s, %s ...): say which", found, uuid);
    }
    memcpy(found, uuid, 33);
    return 0;
}

int far_vault_store_only(const struct far_objects_options *store, char ret_uuid[33], struct far_error *err)
{
    char found[33] = "";
    int rc = far_vault_store_list(store, only_one, found, err);
    if (rc == 0 && found[0] == '\0') {
        rc = far_fail(err, FAR_NOT_FOUND, "the store has no vault below '%s'; one whose objects were hidden is named by its uuid",
                      store->prefix);
    }
    if (rc == 0) {
        memcpy(ret_uuid, found, sizeof found);
    }
    return rc;
}
