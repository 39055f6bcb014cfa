/* Making the folder of a vault from what is in its store; see vault_store.h.
 *
 * The keys that are believed are looked at first (vault_trust.h), then whose the vault is; then come the small files and the list of
 * packs, and last the file `vault`. Interrupted anywhere, it is done again. */
#include "dataplane/remote_private.h"
#include "dataplane/vault_dead.h"
#include "dataplane/vault_trust.h"

#include "base/clock.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SMALL_MAX = 16 << 20 };

struct attaching {
    const char *dir;
    const struct far_store_attach *what;
    struct far_objects *objects;
    struct far_store_attached *result;
    uint8_t uuid[16];
    uint8_t fingerprint[32]; /* of the keys in the store, which are believed */
    bool locks;              /* its configuration has a lock_mode: what was hidden is looked for */
    struct hidden {          /* what delete markers hide, by key */
        char key[FAR_REMOTE_NAME_MAX];
        char version[136]; /* the newest one; "": there is none */
        uint64_t size, modified_ms;
    } *hidden;
    size_t hidden_count, hidden_room;
    bool is_plain; /* the bucket keeps no versions, and so has no locks, as its first pack shows */
};

static int find_vault(const struct far_objects_options *store, struct attaching *attaching, struct far_error *err)
{
    char *uuid = attaching->result->uuid;
    snprintf(uuid, 33, "%s", attaching->what->uuid);
    int rc = uuid[0] == '\0' ? far_vault_store_only(store, uuid, err) : 0;
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

/* ---- what was hidden ---- */

enum { HIDDEN_MAX = 1 << 20, FORMER_MAX = 16 };

static int compare_hidden(const void *a, const void *b)
{
    return strcmp(((const struct hidden *)a)->key, ((const struct hidden *)b)->key);
}

static struct hidden *find_hidden(const struct attaching *attaching, const char *key)
{
    struct hidden wanted = {.size = 0};
    if (attaching->hidden_count == 0 || strlen(key) >= sizeof wanted.key) {
        return NULL;
    }
    strcpy(wanted.key, key);
    return bsearch(&wanted, attaching->hidden, attaching->hidden_count, sizeof wanted, compare_hidden);
}

static int note_marker(void *arg, const char *key, const struct far_object *object, bool is_marker, bool is_latest, struct far_error *err)
{
    struct attaching *attaching = arg;
    (void)object;
    if (!is_marker || !is_latest || strlen(key) >= FAR_REMOTE_NAME_MAX) {
        return 0;
    }
    if (attaching->hidden_count == attaching->hidden_room) {
        size_t room = attaching->hidden_room == 0 ? 64 : attaching->hidden_room * 2;
        struct hidden *grown = room <= HIDDEN_MAX ? realloc(attaching->hidden, room * sizeof *grown) : NULL;
        if (grown == NULL) {
            return far_fail(err, FAR_LIMIT, "too many objects of the vault are hidden by delete markers");
        }
        attaching->hidden = grown;
        attaching->hidden_room = room;
    }
    struct hidden *hidden = &attaching->hidden[attaching->hidden_count++];
    *hidden = (struct hidden){.size = 0};
    strcpy(hidden->key, key);
    return 0;
}

static int note_version(void *arg, const char *key, const struct far_object *object, bool is_marker, bool is_latest, struct far_error *err)
{
    struct hidden *hidden = find_hidden(arg, key);
    (void)is_latest;
    (void)err;
    if (hidden != NULL && !is_marker && (hidden->version[0] == '\0' || object->modified_ms > hidden->modified_ms)) {
        snprintf(hidden->version, sizeof hidden->version, "%s", object->version);
        hidden->size = object->size;
        hidden->modified_ms = object->modified_ms;
    }
    return 0;
}

/* Markers first: a store may list them behind the versions. */
static int look_for_hidden(struct attaching *attaching, struct far_error *err)
{
    if (!attaching->locks) {
        return 0;
    }
    int rc = far_objects_versions(attaching->objects, "", note_marker, attaching, err);
    if (rc == 0 && attaching->hidden_count > 0) {
        qsort(attaching->hidden, attaching->hidden_count, sizeof *attaching->hidden, compare_hidden);
        rc = far_objects_versions(attaching->objects, "", note_version, attaching, err);
    }
    return rc == FAR_INVALID ? 0 : rc; /* a store without versions */
}

struct unhiding {
    struct far_objects *objects;
    const char *key;
};

static int drop_marker(void *arg, const char *key, const struct far_object *object, bool is_marker, bool is_latest, struct far_error *err)
{
    const struct unhiding *unhiding = arg;
    (void)is_latest;
    int rc = is_marker && strcmp(key, unhiding->key) == 0 ? far_objects_delete(unhiding->objects, key, object->version, err) : 0;
    return rc == FAR_DENIED ? 0 : rc; /* it stays hidden, and is found again as it was now */
}

/* The new holder takes the markers away; who only reads changes nothing. */
static int unhide(const struct attaching *attaching, const char *key, struct far_error *err)
{
    struct unhiding unhiding = {.objects = attaching->objects, .key = key};
    const struct hidden *hidden = find_hidden(attaching, key);
    bool is_wanted = hidden != NULL && hidden->version[0] != '\0' && !attaching->what->read_only;
    return is_wanted ? far_objects_versions(attaching->objects, key, drop_marker, &unhiding, err) : 0;
}

/* ---- whose keys are believed ---- */

/* A small object; what is hidden by its newest version. The caller ends the buffer. */
static int read_object(struct attaching *attaching, const char *key, struct far_buf *bytes, struct far_error *err)
{
    const struct hidden *hidden = find_hidden(attaching, key);
    far_buf_init(bytes, SMALL_MAX);
    if (hidden == NULL || hidden->version[0] == '\0') {
        return far_objects_read(attaching->objects, key, SMALL_MAX, bytes, NULL, err);
    }
    uint8_t *place = hidden->size <= SMALL_MAX ? malloc((size_t)hidden->size + 1) : NULL;
    int rc = place != NULL ? far_objects_get(attaching->objects, key, hidden->version, 0, (size_t)hidden->size, place, err)
                           : far_fail(err, FAR_LIMIT, "the object '%.200s' is too large", key);
    rc = rc == 0 && far_buf_append(bytes, place, (size_t)hidden->size) != 0 ? far_fail(err, FAR_LIMIT, "no memory for an object") : rc;
    free(place);
    return rc;
}

/* The files `vault` and `vault.former` as the store has them (the latter empty: not at all), and the fingerprint of their keys. The
 * caller ends both buffers. */
static int read_keys(struct attaching *attaching, struct far_buf *vault, struct far_buf *former, uint8_t ret_fingerprint[32],
                     struct far_error *err)
{
    struct far_vault_keys keys;
    int rc = read_object(attaching, "vault", vault, err);
    int had = read_object(attaching, "vault.former", former, rc == 0 ? err : NULL);
    rc = rc == 0 && had != FAR_NOT_FOUND ? had : rc;
    rc = rc == 0 ? far_vault_keys_decode(far_buf_slice(vault), far_buf_slice(former), "the store", &keys, err) : rc;
    if (rc == 0 && memcmp(keys.uuid, attaching->uuid, 16) != 0) {
        rc = far_fail(err, FAR_CORRUPT, "what the store has as vault %s is another one", attaching->result->uuid);
    }
    if (rc == 0) {
        far_vault_keys_fingerprint(&keys, keys.count, ret_fingerprint);
    }
    return rc;
}

/* What this folder believed when it was attached before. */
static bool believed_before(const struct attaching *attaching, uint8_t ret_fingerprint[32])
{
    char path[FAR_DIR_MAX + 64];
    struct far_buf text;
    snprintf(path, sizeof path, "%s/attached-%s", attaching->dir, attaching->result->uuid);
    far_buf_init(&text, 4096);
    bool had = far_file_read(path, &text, NULL) == 0 && far_hex_decode((const char *)text.data, text.len, ret_fingerprint, 32);
    far_buf_done(&text);
    return had;
}

static int check_trust(struct attaching *attaching, struct far_error *err)
{
    struct far_store_attached *result = attaching->result;
    const char *said_by = attaching->what->key_said_by;
    uint8_t wanted[32];
    char there[FAR_FINGERPRINT_TEXT], said[FAR_FINGERPRINT_TEXT];
    struct far_buf vault, former;
    int rc = read_keys(attaching, &vault, &former, attaching->fingerprint, err);
    far_buf_done(&vault);
    far_buf_done(&former);
    if (rc != 0) {
        return rc;
    }
    memcpy(result->there, attaching->fingerprint, 32);
    result->trust = said_by != NULL ? FAR_STORE_AS_SAID : believed_before(attaching, wanted) ? FAR_STORE_AS_BEFORE : FAR_STORE_FIRST_USE;
    if (said_by != NULL) {
        memcpy(wanted, attaching->what->fingerprint, 32);
    }
    if (result->trust == FAR_STORE_FIRST_USE || memcmp(wanted, attaching->fingerprint, 32) == 0) {
        return 0;
    }
    far_hex_encode(wanted, 32, said);
    far_hex_encode(attaching->fingerprint, 32, there);
    return far_fail(err, FAR_DENIED, "the keys of vault %s in the store are %s, and %s says %s: if it was not taken over since, somebody "
                    "forged it; else say with --key what was shown then. Nothing was changed",
                    result->uuid, there, said_by != NULL ? said_by : "what this folder was attached with before", said);
}

static int make_folders(const struct attaching *attaching, struct far_error *err)
{
    static const char *const folders[] = {"/packs", "/replicas", "/points", "/domains"};
    char path[FAR_DIR_MAX + 64];
    int rc = far_file_make_dir(attaching->dir, err);
    snprintf(path, sizeof path, "%s/attached-%s", attaching->dir, attaching->result->uuid); /* first: what is made here may be made again */
    char text[FAR_FINGERPRINT_TEXT];
    far_hex_encode(attaching->fingerprint, 32, text);
    rc = rc == 0 ? far_file_replace(path, text, 64, 0600, err) : rc;
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
    bool is_wanted = strcmp(key, "owner") == 0 || strcmp(key, "packs/removed") == 0;
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
    int rc = read_object(attaching, key, &bytes, err);
    snprintf(path, sizeof path, "%s/%s", attaching->dir, key);
    rc = rc == 0 ? far_file_replace(path, bytes.data, bytes.len, 0600, err) : rc;
    far_buf_done(&bytes);
    return rc;
}

/* The keys that were looked at, and no others. */
static int bring_vault(struct attaching *attaching, struct far_error *err)
{
    char path[FAR_DIR_MAX + 16];
    uint8_t fingerprint[32];
    struct far_buf vault, former;
    int rc = read_keys(attaching, &vault, &former, fingerprint, err);
    if (rc == 0 && memcmp(fingerprint, attaching->fingerprint, 32) != 0) {
        rc = far_fail(err, FAR_CONFLICT, "the keys of the vault in the store changed meanwhile: attach it once more");
    }
    snprintf(path, sizeof path, "%s/vault.former", attaching->dir);
    if (rc == 0 && former.len != 0) {
        rc = far_file_replace(path, former.data, former.len, 0600, err);
    } else if (rc == 0 && unlink(path) != 0 && errno != ENOENT) {
        rc = far_fail_errno(err, FAR_IO, errno, "remove '%s'", path);
    }
    snprintf(path, sizeof path, "%s/vault", attaching->dir);
    rc = rc == 0 ? far_file_replace(path, vault.data, vault.len, 0600, err) : rc;
    rc = rc == 0 ? unhide(attaching, "vault", err) : rc;
    rc = rc == 0 && former.len != 0 ? unhide(attaching, "vault.former", err) : rc;
    far_buf_done(&vault);
    far_buf_done(&former);
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

/* Packs that the holder let go may still be there, hidden, where it was not allowed to delete them. */
static bool was_removed(const struct attaching *attaching, uint32_t number)
{
    struct far_packs *packs = calloc(1, sizeof *packs);
    struct far_removed removed = {0};
    char path[FAR_DIR_MAX + 16];
    snprintf(path, sizeof path, "%s/packs", attaching->dir);
    bool was = packs == NULL;
    if (packs != NULL && far_packs_init(packs, path, attaching->uuid, 1 << 20, NULL) == 0) {
        was = far_removed_read(packs, &removed, NULL) == 0 && far_removed_has(&removed, number);
        far_removed_done(&removed);
        far_packs_done(packs);
    }
    free(packs);
    return was;
}

/* Versions of one key, as they are listed. */
struct former {
    const char *key;
    struct far_object items[FORMER_MAX];
    size_t count;
};

static int note_former(void *arg, const char *key, const struct far_object *object, bool is_marker, bool is_latest, struct far_error *err)
{
    struct former *former = arg;
    (void)is_latest;
    (void)err;
    if (!is_marker && strcmp(key, former->key) == 0 && former->count < FORMER_MAX) {
        former->items[former->count++] = *object;
    }
    return 0;
}

/* Of the hidden versions one that is locked: that was written last may be none (two wrote it at once). Else as it is. */
static int pick_locked(struct attaching *attaching, struct hidden *hidden, struct far_error *err)
{
    struct former former = {.key = hidden->key};
    int rc = far_objects_versions(attaching->objects, hidden->key, note_former, &former, err);
    for (size_t i = 0; rc == 0 && i < former.count; i++) {
        uint64_t until_ms = 0;
        rc = far_objects_retained(attaching->objects, hidden->key, former.items[i].version, &until_ms, err);
        if (rc == 0 && until_ms > far_clock_wall_ms()) {
            snprintf(hidden->version, sizeof hidden->version, "%s", former.items[i].version);
            hidden->size = former.items[i].size;
            return 0;
        }
        rc = rc == FAR_NOT_FOUND ? 0 : rc;
    }
    return rc;
}

/* What nobody may delete yet is not gone, and what a holder never deletes is not either: somebody else hid it. */
static int bring_hidden(struct attaching *attaching, struct hidden *hidden, struct far_error *err)
{
    char packs[FAR_DIR_MAX + 16];
    struct far_object object = {0};
    uint32_t number, epoch;
    bool is_pack = far_remote_key_parse(hidden->key, ".pack", &number, &epoch);
    bool is_point = strncmp(hidden->key, "points/", 7) == 0, is_replica = strncmp(hidden->key, "replicas/", 9) == 0;
    if (hidden->version[0] == '\0' || is_replica || (!is_pack && !is_wanted(hidden->key)) || (is_pack && was_removed(attaching, number))) {
        return 0;
    }
    int rc = is_pack || is_point ? pick_locked(attaching, hidden, err) : 0;
    rc = rc == 0 ? far_objects_look(attaching->objects, hidden->key, hidden->version, &object, err) : rc;
    rc = rc == 0 ? far_objects_retained(attaching->objects, hidden->key, hidden->version, &object.retain_until_ms, err) : rc;
    if (rc != 0 || ((is_pack || is_point) && object.retain_until_ms <= far_clock_wall_ms())) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    if (!is_pack) {
        rc = bring(attaching, hidden->key, err);
        size_t len = strlen(hidden->key);
        attaching->result->points += rc == 0 && len > 9 && strcmp(hidden->key + len - 9, ".manifest") == 0;
    } else {
        struct far_remote_pack before, pack = {.number = number, .epoch = epoch, .size = object.size};
        pack.retain_until_ms = object.retain_until_ms;
        snprintf(pack.version, sizeof pack.version, "%s", hidden->version);
        snprintf(packs, sizeof packs, "%s/packs", attaching->dir);
        bool is_older = far_remote_up_read(packs, attaching->uuid, number, &before, NULL) == 0 && before.epoch > epoch;
        rc = is_older ? 0 : far_remote_up_write(packs, attaching->uuid, &pack, err);
        attaching->result->packs += !is_older;
        attaching->result->pack_bytes += is_older ? 0 : pack.size;
    }
    attaching->result->hidden += rc == 0;
    return rc == 0 ? unhide(attaching, hidden->key, err) : rc;
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
    for (size_t i = 0; rc == 0 && i < attaching->hidden_count; i++) {
        rc = bring_hidden(attaching, &attaching->hidden[i], err);
    }
    rc = rc == 0 ? far_index_remove(index, err) : rc; /* made anew from the packs */
    return rc == 0 ? bring_vault(attaching, err) : rc; /* last: now it is a vault */
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
    struct attaching attaching = {.dir = dir, .what = what, .result = ret_attached, .locks = store->lock_mode[0] != '\0'};
    struct far_remote_holder holder = {0};
    struct far_vault_keys keys;
    *ret_attached = (struct far_store_attached){0};
    int rc = strlen(dir) < FAR_DIR_MAX ? 0 : far_fail(err, FAR_INVALID, "the path of the vault is too long");
    rc = rc == 0 ? find_vault(store, &attaching, err) : rc;
    rc = rc == 0 ? check_folder(&attaching, err) : rc;
    rc = rc == 0 ? look_for_hidden(&attaching, err) : rc;
    rc = rc == 0 ? check_trust(&attaching, err) : rc;
    rc = rc == 0 ? make_folders(&attaching, err) : rc;
    rc = rc != 0 ? rc : what->read_only ? let_holder_go(&attaching, err) : take(&attaching, err);
    rc = rc == 0 && !what->read_only ? say_reader(&attaching, err) : rc;
    rc = rc == 0 ? bring_all(&attaching, err) : rc;
    rc = rc == 0 ? finish(&attaching, store, err) : rc;
    rc = rc == 0 ? far_vault_keys_read(dir, &keys, err) : rc;
    if (rc == 0) {
        far_vault_keys_fingerprint(&keys, keys.count, ret_attached->here);
    }
    far_objects_close(attaching.objects);
    free(attaching.hidden);
    if (rc == 0 && far_remote_holder_load(dir, &holder, NULL) == 0) {
        ret_attached->epoch = holder.epoch;
    }
    return rc;
}
