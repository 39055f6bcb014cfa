/* Binding a vault to a store, and making its folder again from there; see vault_store.h. */
#include "dataplane/remote_private.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SMALL_MAX = 16 << 20 };

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

/* ---- attach ---- */

struct attaching {
    const char *dir;
    const struct far_store_attach *what;
    struct far_objects *objects;
    struct far_store_attached *result;
    uint8_t uuid[16];
    bool is_plain; /* the bucket keeps no versions, and so has no locks, as its first pack shows */
};

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

static int find_vault(const struct far_objects_options *store, struct attaching *attaching, struct far_error *err)
{
    char *uuid = attaching->result->uuid;
    snprintf(uuid, 33, "%s", attaching->what->uuid);
    int rc = uuid[0] == '\0' ? far_vault_store_list(store, only_one, uuid, err) : 0;
    if (rc == 0 && uuid[0] == '\0') {
        return far_fail(err, FAR_NOT_FOUND, "the store has no vault below '%s'", store->prefix);
    }
    if (rc == 0 && (strlen(uuid) != 32 || !far_hex_decode(uuid, 32, attaching->uuid, 16))) {
        return far_fail(err, FAR_INVALID, "'%s' is not the uuid of a vault", uuid);
    }
    return rc == 0 ? far_remote_client(store, uuid, &attaching->objects, err) : rc;
}

/* A new folder, one that was attached before for reading, or one whose attaching was interrupted. */
static int check_folder(const struct attaching *attaching, struct far_error *err)
{
    char path[FAR_DIR_MAX + 32];
    DIR *folder = opendir(attaching->dir);
    if (folder == NULL) {
        return errno == ENOENT ? 0 : far_fail_errno(err, FAR_IO, errno, "open folder '%s'", attaching->dir);
    }
    char begun[64];
    size_t names = 0;
    int len = snprintf(begun, sizeof begun, "attached-%s", attaching->result->uuid);
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        bool is_own = strncmp(entry->d_name, begun, (size_t)len) == 0; /* also one that was being made */
        names += !is_own && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    closedir(folder);
    snprintf(path, sizeof path, "%s/%s", attaching->dir, begun);
    if (names == 0 || access(path, F_OK) == 0) {
        return 0;
    }
    return far_fail(err, FAR_CONFLICT, "'%s' has something in it that does not come from this vault of the store", attaching->dir);
}

static int make_folders(const struct attaching *attaching, struct far_error *err)
{
    static const char *const folders[] = {"/packs", "/replicas", "/points", "/domains"};
    char path[FAR_DIR_MAX + 64];
    int rc = far_file_make_dir(attaching->dir, err);
    snprintf(path, sizeof path, "%s/attached-%s", attaching->dir, attaching->result->uuid); /* first: what is made here may be made again */
    rc = rc == 0 ? far_file_replace(path, "", 0, 0600, err) : rc;
    for (size_t i = 0; rc == 0 && i < sizeof folders / sizeof folders[0]; i++) {
        snprintf(path, sizeof path, "%s%s", attaching->dir, folders[i]);
        rc = far_file_make_dir(path, err);
    }
    return rc;
}

static int note_epoch(void *arg, const char *key, const struct far_object *object, struct far_error *err)
{
    uint64_t *highest = arg;
    uint32_t number, epoch;
    (void)object;
    (void)err;
    bool is_higher = far_remote_key_parse(key, ".pack", &number, &epoch) && epoch > *highest;
    *highest = is_higher ? epoch : *highest;
    return 0;
}

/* Who holds it. Where the object is lost or damaged the packs say which epochs there were: the next one has to be higher, or they would
 * be taken for newer than what is written from now on. */
static int look_for_holder(struct attaching *attaching, struct far_remote_holder *ret_there, char ret_etag[72], struct far_error *err)
{
    *ret_there = (struct far_remote_holder){0};
    int rc = far_remote_holder_read(attaching->objects, ret_there, ret_etag, err);
    if (rc == FAR_NOT_FOUND || (rc == FAR_CORRUPT && attaching->what->take_over)) {
        int listed = far_objects_list(attaching->objects, "packs/", note_epoch, &ret_there->epoch, err);
        rc = listed != 0 ? listed : rc;
    }
    return rc;
}

/* From here on whoever owned it is refused. */
static int take(struct attaching *attaching, struct far_error *err)
{
    struct far_remote_holder there, own;
    char etag[72] = "";
    int rc = look_for_holder(attaching, &there, etag, err);
    bool is_new = rc == FAR_NOT_FOUND;
    if (rc != 0 && !is_new && (rc != FAR_CORRUPT || etag[0] == '\0' || !attaching->what->take_over)) {
        return rc;
    }
    int had = far_remote_holder_load(attaching->dir, &own, err);
    if (had != 0 && had != FAR_NOT_FOUND && had != FAR_CORRUPT) {
        return had;
    }
    if (had == 0 && rc == 0 && own.epoch == there.epoch && memcmp(own.token, there.token, 16) == 0) {
        return 0;
    }
    if (rc == 0 && !attaching->what->take_over) {
        return far_fail(err, FAR_CONFLICT, "the vault is held by '%.60s'; attach it to read only, or take it over", there.name);
    }
    if (there.epoch + 1 >= UINT32_MAX) {
        return far_fail(err, FAR_CORRUPT, "the store names an epoch of the vault that cannot be");
    }
    snprintf(attaching->result->former_holder, sizeof attaching->result->former_holder, "%.63s", there.name);
    far_remote_holder_make(&own, there.epoch + 1);
    rc = far_remote_holder_save(attaching->dir, &own, err);
    return rc == 0 ? far_remote_holder_put(attaching->objects, &own, is_new ? NULL : etag, err) : rc;
}

/* Whoever it was taken from may be about to remove a pack, having asked just before whose the vault is: it sees a reader, or what it
 * removes is in the list that is read behind this (remote_readers.c). The reader stays until it is forgotten. */
static int say_reader(struct attaching *attaching, struct far_error *err)
{
    struct far_remote_holder own;
    char key[32];
    int rc = far_remote_holder_load(attaching->dir, &own, err);
    if (rc == 0) {
        far_remote_holder_key(&own, key);
        rc = far_objects_put(attaching->objects, key, far_slice_str("attaches"), NULL, NULL, err);
    }
    return rc;
}

/* To read only: an attach that was to write, and was interrupted, is none any more. */
static int let_holder_go(const struct attaching *attaching, struct far_error *err)
{
    static const char *const names[] = {"holder", "vault.key"};
    char path[FAR_DIR_MAX + 16];
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", attaching->dir, names[i]);
        rc = unlink(path) == 0 || errno == ENOENT ? 0 : far_fail_errno(err, FAR_IO, errno, "remove '%s'", path);
    }
    return rc;
}

/* ---- what comes from the store ---- */

/* Lists do not say which version of a pack there is, nor until when it is locked. */
static int look_at_pack(struct attaching *attaching, const char *key, struct far_remote_pack *pack, struct far_error *err)
{
    struct far_object object;
    int rc = far_objects_head(attaching->objects, key, &object, err);
    if (rc == 0) {
        pack->size = object.size;
        pack->retain_until_ms = object.retain_until_ms;
        snprintf(pack->version, sizeof pack->version, "%s", object.version);
        attaching->is_plain = object.version[0] == '\0';
    }
    return rc;
}

static int note_pack(struct attaching *attaching, const char *key, uint32_t number, uint32_t epoch, const struct far_object *object,
                     struct far_error *err)
{
    char packs[FAR_DIR_MAX + 16];
    struct far_remote_pack pack = {.number = number, .epoch = epoch, .size = object->size};
    struct far_remote_pack before;
    snprintf(packs, sizeof packs, "%s/packs", attaching->dir);
    bool is_full = !attaching->is_plain;
    int rc = far_remote_up_read(packs, attaching->uuid, number, &before, NULL);
    bool same = rc == 0 && before.epoch == epoch && before.size == pack.size && (!is_full || before.version[0] != '\0');
    if (rc == 0 && (before.epoch > epoch || same)) {
        return 0; /* what a former holder still carried there, or what was seen before */
    }
    if (rc != 0 && rc != FAR_NOT_FOUND && rc != FAR_CORRUPT) {
        return far_fail(err, rc, "cannot read what is known of pack %08" PRIu32, number);
    }
    rc = is_full ? look_at_pack(attaching, key, &pack, err) : 0;
    attaching->result->packs++;
    attaching->result->pack_bytes += pack.size;
    rc = rc == 0 ? far_remote_up_write(packs, attaching->uuid, &pack, err) : rc;
    return rc == FAR_NOT_FOUND ? 0 : rc; /* removed since it was listed */
}

/* Small files of a vault's folder, and nothing else: not what somebody put there under a name that means something here. */
static bool is_wanted(const char *key)
{
    static const char *const names[][2] = {
        {"points/", ".manifest"}, {"points/", ".lock"}, {"replicas/", ".replica"}, {"domains/", ".domain"}};
    bool is_wanted = strcmp(key, "vault.former") == 0 || strcmp(key, "owner") == 0 || strcmp(key, "packs/removed") == 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t len = strlen(key), before = strlen(names[i][0]), behind = strlen(names[i][1]);
        bool fits = len > before + behind && strncmp(key, names[i][0], before) == 0 && strcmp(key + len - behind, names[i][1]) == 0;
        is_wanted = is_wanted || (fits && key[before] != '.' && strchr(key + before, '/') == NULL);
    }
    return is_wanted;
}

static int bring(struct attaching *attaching, const char *key, struct far_error *err)
{
    char path[FAR_DIR_MAX + FAR_OBJECT_KEY_MAX];
    struct far_buf bytes;
    far_buf_init(&bytes, SMALL_MAX);
    int rc = far_objects_read(attaching->objects, key, SMALL_MAX, &bytes, NULL, err);
    snprintf(path, sizeof path, "%s/%s", attaching->dir, key);
    rc = rc == 0 ? far_file_replace(path, bytes.data, bytes.len, 0600, err) : rc;
    far_buf_done(&bytes);
    return rc;
}

static int bring_key(void *arg, const char *key, const struct far_object *object, struct far_error *err)
{
    struct attaching *attaching = arg;
    uint32_t number, epoch;
    if (far_remote_key_parse(key, ".pack", &number, &epoch)) {
        return note_pack(attaching, key, number, epoch, object, err);
    }
    if (!is_wanted(key)) {
        return 0;
    }
    int rc = bring(attaching, key, err);
    size_t len = strlen(key);
    attaching->result->points += rc == 0 && len > 9 && strcmp(key + len - 9, ".manifest") == 0;
    return rc == FAR_NOT_FOUND ? 0 : rc; /* forgotten meanwhile */
}

/* A point that the holder forgot since this folder was attached last. */
static int drop_forgotten(void *arg, uint64_t number, struct far_error *err)
{
    struct attaching *attaching = arg;
    char key[64], path[FAR_DIR_MAX + 64];
    snprintf(key, sizeof key, "points/%" PRIu64 ".manifest", number);
    struct far_object object;
    int rc = far_objects_head(attaching->objects, key, &object, err);
    snprintf(path, sizeof path, "%s/%s", attaching->dir, key);
    if (rc == FAR_NOT_FOUND) {
        rc = unlink(path) == 0 || errno == ENOENT ? 0 : far_fail_errno(err, FAR_IO, errno, "remove '%s'", path);
    }
    return rc;
}

static int bring_all(struct attaching *attaching, struct far_error *err)
{
    char points[FAR_DIR_MAX + 16], index[FAR_DIR_MAX + 16];
    snprintf(points, sizeof points, "%s/points", attaching->dir);
    snprintf(index, sizeof index, "%s/index", attaching->dir);
    int rc = far_vault_each_number(points, ".manifest", drop_forgotten, attaching, err);
    rc = rc == 0 ? far_objects_list(attaching->objects, "", bring_key, attaching, err) : rc;
    rc = rc == 0 ? far_index_remove(index, err) : rc; /* made anew from the packs */
    return rc == 0 ? bring(attaching, "vault", err) : rc; /* last: now it is a vault */
}

static int finish(struct attaching *attaching, const struct far_objects_options *store, struct far_error *err)
{
    char path[FAR_DIR_MAX + 64];
    int rc = attaching->what->read_only ? 0 : far_vault_renew_key(attaching->dir, err); /* also of an attach that was interrupted */
    snprintf(path, sizeof path, "%s/bound", attaching->dir);
    rc = rc == 0 ? far_file_replace(path, "", 0, 0600, err) : rc;
    snprintf(path, sizeof path, "%s/store", attaching->dir);
    rc = rc == 0 ? far_objects_options_write(path, store, err) : rc;
    snprintf(path, sizeof path, "%s/attached-%s", attaching->dir, attaching->result->uuid);
    if (rc == 0 && !attaching->what->read_only && unlink(path) != 0 && errno != ENOENT) {
        rc = far_fail_errno(err, FAR_IO, errno, "remove '%s'", path);
    }
    return rc;
}

int far_vault_store_attach(const char *dir, const struct far_objects_options *store, const struct far_store_attach *what,
                           struct far_store_attached *ret_attached, struct far_error *err)
{
    struct attaching attaching = {.dir = dir, .what = what, .result = ret_attached};
    struct far_remote_holder holder = {0};
    struct far_object object;
    *ret_attached = (struct far_store_attached){0};
    int rc = strlen(dir) < FAR_DIR_MAX ? 0 : far_fail(err, FAR_INVALID, "the path of the vault is too long");
    rc = rc == 0 ? find_vault(store, &attaching, err) : rc;
    rc = rc == 0 ? far_objects_head(attaching.objects, "vault", &object, err) : rc;
    rc = rc == 0 ? check_folder(&attaching, err) : rc;
    rc = rc == 0 ? make_folders(&attaching, err) : rc;
    rc = rc != 0 ? rc : what->read_only ? let_holder_go(&attaching, err) : take(&attaching, err);
    rc = rc == 0 && !what->read_only ? say_reader(&attaching, err) : rc;
    rc = rc == 0 ? bring_all(&attaching, err) : rc;
    rc = rc == 0 ? finish(&attaching, store, err) : rc;
    far_objects_close(attaching.objects);
    if (rc == 0 && far_remote_holder_load(dir, &holder, NULL) == 0) {
        ret_attached->epoch = holder.epoch;
    }
    return rc;
}
