/* Which packs of a vault are in its store, and the files that say so: see remote.h. */
#include "dataplane/remote_private.h"

#include "base/file.h"
#include "base/hash.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { UP_BYTES = 256, VERSION = 0 };
static const char up_magic[8] = "FARUPPCK";

/* ---- names ---- */

void far_remote_key(uint32_t number, uint32_t epoch, const char *suffix, char *key, size_t len)
{
    snprintf(key, len, "packs/%08" PRIu32 ".e%" PRIu32 "%s", number, epoch, suffix);
}

bool far_remote_key_parse(const char *key, const char *suffix, uint32_t *ret_number, uint32_t *ret_epoch)
{
    char again[FAR_REMOTE_NAME_MAX];
    char *end = NULL;
    if (strncmp(key, "packs/", 6) != 0) {
        return false;
    }
    unsigned long number = strtoul(key + 6, &end, 10);
    unsigned long epoch = strncmp(end, ".e", 2) == 0 ? strtoul(end + 2, &end, 10) : 0;
    if (number == 0 || number >= UINT32_MAX || epoch == 0 || epoch > UINT32_MAX) {
        return false;
    }
    far_remote_key((uint32_t)number, (uint32_t)epoch, suffix, again, sizeof again);
    *ret_number = (uint32_t)number;
    *ret_epoch = (uint32_t)epoch;
    return strcmp(again, key) == 0;
}

int far_remote_client(const struct far_objects_options *options, const char *uuid_hex, struct far_objects **ret_objects,
                      struct far_error *err)
{
    struct far_objects_options own = *options;
    int n = snprintf(own.prefix, sizeof own.prefix, "%s%s/", options->prefix, uuid_hex);
    if (n < 0 || (size_t)n >= sizeof own.prefix) {
        return far_fail(err, FAR_INVALID, "the prefix of the store is too long");
    }
    return far_objects_open(&own, ret_objects, err);
}

/* ---- the files of packs that are up ---- */

static void up_path(const char *packs_dir, uint32_t number, char path[4096])
{
    snprintf(path, 4096, "%.4000s/%08" PRIu32 ".up", packs_dir, number);
}

int far_remote_up_write(const char *packs_dir, const uint8_t vault_uuid[16], const struct far_remote_pack *pack, struct far_error *err)
{
    char path[4096];
    uint8_t bytes[UP_BYTES] = {0};
    memcpy(bytes, up_magic, 8);
    far_put_le32(bytes + 8, VERSION);
    far_put_le32(bytes + 12, pack->number);
    memcpy(bytes + 16, vault_uuid, 16);
    far_put_le32(bytes + 32, pack->epoch);
    far_put_le64(bytes + 40, pack->size);
    far_put_le64(bytes + 48, pack->retain_until_ms);
    memcpy(bytes + 56, pack->version, sizeof pack->version);
    far_put_le64(bytes + UP_BYTES - 8, far_hash64(bytes, UP_BYTES - 8));
    up_path(packs_dir, pack->number, path);
    return far_file_replace(path, bytes, sizeof bytes, 0600, err);
}

int far_remote_up_read(const char *packs_dir, const uint8_t vault_uuid[16], uint32_t number, struct far_remote_pack *ret_pack,
                       struct far_error *err)
{
    char path[4096];
    struct far_buf buf;
    up_path(packs_dir, number, path);
    far_buf_init(&buf, UP_BYTES);
    int rc = far_file_read(path, &buf, err);
    const uint8_t *b = buf.data;
    bool fits = rc == 0 && buf.len == UP_BYTES && memcmp(b, up_magic, 8) == 0 && far_get_le32(b + 8) == VERSION &&
                far_get_le32(b + 12) == number && memcmp(b + 16, vault_uuid, 16) == 0 &&
                far_get_le64(b + UP_BYTES - 8) == far_hash64(b, UP_BYTES - 8);
    if (fits) {
        *ret_pack = (struct far_remote_pack){.number = number, .epoch = far_get_le32(b + 32), .size = far_get_le64(b + 40)};
        ret_pack->retain_until_ms = far_get_le64(b + 48);
        memcpy(ret_pack->version, b + 56, sizeof ret_pack->version - 1);
    } else if (rc == 0 || rc == FAR_LIMIT) {
        rc = far_fail(err, FAR_CORRUPT, "'%s' is damaged", path);
    }
    far_buf_done(&buf);
    return rc;
}

/* ---- the table ---- */

static size_t place_of(const struct far_remote *remote, uint32_t number)
{
    size_t low = 0, high = remote->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (remote->packs[middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct far_remote_pack *far_remote_find(struct far_remote *remote, uint32_t number)
{
    size_t at = place_of(remote, number);
    return at < remote->count && remote->packs[at].number == number ? &remote->packs[at] : NULL;
}

uint32_t far_remote_after(const struct far_remote *remote, uint32_t number)
{
    size_t at = number == UINT32_MAX ? remote->count : place_of(remote, number + 1);
    return at < remote->count ? remote->packs[at].number : 0;
}

int far_remote_add(struct far_remote *remote, const struct far_remote_pack *pack, struct far_error *err)
{
    if (remote->count == remote->room) {
        size_t room = remote->room == 0 ? 256 : remote->room * 2;
        struct far_remote_pack *grown = realloc(remote->packs, room * sizeof *grown);
        if (grown == NULL) {
            return far_fail(err, FAR_LIMIT, "no memory for the list of packs in the store");
        }
        remote->packs = grown;
        remote->room = room;
    }
    size_t at = place_of(remote, pack->number);
    memmove(remote->packs + at + 1, remote->packs + at, (remote->count - at) * sizeof *remote->packs);
    remote->packs[at] = *pack;
    remote->count++;
    return 0;
}

bool far_remote_has(struct far_vault *vault, uint32_t number, uint64_t *ret_size)
{
    struct far_remote *remote = vault->remote;
    if (remote == NULL) {
        return false;
    }
    pthread_mutex_lock(&remote->lock);
    const struct far_remote_pack *pack = far_remote_find(remote, number);
    struct far_remote_pack late;
    if (pack == NULL && vault->read_only && far_remote_up_read(vault->packs.dir, vault->uuid, number, &late, NULL) == 0 &&
        far_remote_add(remote, &late, NULL) == 0) { /* the holder, in this folder, carried it since */
        pack = far_remote_find(remote, number);
    }
    *ret_size = pack != NULL ? pack->size : 0;
    pthread_mutex_unlock(&remote->lock);
    return pack != NULL;
}

/* ---- open and close ---- */

/* One that is damaged: where the pack is here it is carried once more, and else asked for in the store. */
static int find_again(struct far_vault *vault, uint32_t number, struct far_remote_pack *ret_pack, struct far_error *err)
{
    for (uint32_t epoch = (uint32_t)vault->remote->holder.epoch; epoch > 0; epoch--) {
        struct far_object object;
        char key[FAR_REMOTE_NAME_MAX];
        far_remote_key(number, epoch, ".pack", key, sizeof key);
        int rc = far_objects_head(vault->remote->objects, key, &object, err);
        if (rc == 0) {
            *ret_pack = (struct far_remote_pack){.number = number, .epoch = epoch, .size = object.size};
            ret_pack->retain_until_ms = object.retain_until_ms;
            snprintf(ret_pack->version, sizeof ret_pack->version, "%s", object.version);
        }
        if (rc != FAR_NOT_FOUND) {
            return rc == 0 && !vault->read_only ? far_remote_up_write(vault->packs.dir, vault->uuid, ret_pack, err) : rc;
        }
    }
    return FAR_NOT_FOUND;
}

static int note_up(void *arg, uint64_t number, struct far_error *err)
{
    struct far_vault *vault = arg;
    struct far_remote_pack pack;
    char path[4096];
    if (number == 0 || number > UINT32_MAX) {
        return 0;
    }
    far_packs_path(&vault->packs, (uint32_t)number, path, sizeof path);
    bool is_here = access(path, F_OK) == 0;
    int rc = far_remote_up_read(vault->packs.dir, vault->uuid, (uint32_t)number, &pack, err);
    if (rc == FAR_CORRUPT) {
        rc = is_here ? FAR_NOT_FOUND : find_again(vault, (uint32_t)number, &pack, err);
    }
    if (rc == FAR_NOT_FOUND) { /* if it is not here either, whoever opens the vault says that it is missing */
        return 0;
    }
    pack.is_here = is_here;
    return rc == 0 ? far_remote_add(vault->remote, &pack, err) : rc;
}

/* Have packs gone from the store since the vault was attached? What follows is behind far_remote_reader_say(): none goes from here on. */
static int check_removed(struct far_vault *vault, struct far_error *err)
{
    struct far_buf there, here;
    char path[4096];
    snprintf(path, sizeof path, "%.4000s/removed", vault->packs.dir);
    far_buf_init(&there, 16 << 20);
    far_buf_init(&here, 16 << 20);
    int rc = far_objects_read(vault->remote->objects, "packs/removed", 16 << 20, &there, NULL, err);
    int had = far_file_read(path, &here, err);
    bool same = rc == had && there.len == here.len && (rc != 0 || memcmp(there.data, here.data, here.len) == 0);
    far_buf_done(&there);
    far_buf_done(&here);
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    return same ? 0 : far_fail(err, FAR_CONFLICT, "packs of the vault moved since '%s' was attached: attach it once more", vault->dir);
}

static int begin(struct far_vault *vault, const struct far_objects_options *options, struct far_error *err)
{
    char uuid[33];
    struct far_remote *remote = vault->remote;
    pthread_mutex_init(&remote->lock, NULL);
    pthread_mutex_init(&remote->head_lock, NULL);
    pthread_mutex_init(&remote->push_lock, NULL);
    pthread_mutex_init(&remote->up_lock, NULL);
    pthread_condattr_t steady; /* a machine's clock that is set back makes nobody sleep */
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    pthread_cond_init(&remote->changed, &steady);
    pthread_condattr_destroy(&steady);
    remote->keep_bytes = options->keep_bytes;
    far_hex_encode(vault->uuid, 16, uuid);
    int rc = far_remote_client(options, uuid, &remote->objects, err);
    rc = rc == 0 ? far_remote_holder_load(vault->dir, &remote->holder, err) : rc;
    if (rc == FAR_NOT_FOUND && vault->read_only) {
        rc = far_remote_reader_say(vault, err);
        rc = rc == 0 ? far_remote_reader_start(vault, err) : rc; /* making the index anew may take long */
        rc = rc == 0 ? check_removed(vault, err) : rc;
    }
    return rc == 0 ? far_vault_each_number(vault->packs.dir, ".up", note_up, vault, err) : rc;
}

int far_remote_may_write(const char *dir, struct far_error *err)
{
    char store[FAR_DIR_MAX + 16], holder[FAR_DIR_MAX + 16];
    snprintf(store, sizeof store, "%s/store", dir);
    snprintf(holder, sizeof holder, "%s/holder", dir);
    return access(store, F_OK) != 0 || access(holder, F_OK) == 0 || errno != ENOENT
               ? 0
               : far_fail(err, FAR_CONFLICT, "vault '%s' was attached to read its points: another folder writes to it", dir);
}

int far_remote_open(struct far_vault *vault, struct far_error *err)
{
    char path[FAR_DIR_MAX + 16];
    struct far_objects_options options = {0};
    snprintf(path, sizeof path, "%s/store", vault->dir);
    int rc = far_objects_options_read(path, &options, err);
    if (rc == FAR_NOT_FOUND) {
        return 0;
    }
    if (rc != 0) {
        return rc;
    }
    vault->remote = calloc(1, sizeof *vault->remote);
    return vault->remote != NULL ? begin(vault, &options, err) : far_fail(err, FAR_LIMIT, "no memory for the vault's store");
}

void far_remote_close(struct far_vault *vault)
{
    struct far_remote *remote = vault->remote;
    if (remote == NULL) {
        return;
    }
    far_remote_stop(vault);
    far_remote_reader_leave(remote);
    for (size_t i = 0; i < FAR_REMOTE_RANGES; i++) {
        free(remote->ranges[i].bytes);
    }
    far_objects_close(remote->objects);
    free(remote->packs);
    pthread_cond_destroy(&remote->changed);
    pthread_mutex_destroy(&remote->head_lock);
    pthread_mutex_destroy(&remote->push_lock);
    pthread_mutex_destroy(&remote->up_lock);
    pthread_mutex_destroy(&remote->lock);
    free(remote);
    vault->remote = NULL;
}

/* ---- numbers ---- */

struct numbers {
    uint64_t *values;
    size_t count, room;
};

static int note_number(void *arg, uint64_t number, struct far_error *err)
{
    struct numbers *numbers = arg;
    if (numbers->count == numbers->room) {
        size_t room = numbers->room == 0 ? 1024 : numbers->room * 2;
        uint64_t *grown = realloc(numbers->values, room * sizeof *grown);
        if (grown == NULL) {
            return far_fail(err, FAR_LIMIT, "no memory for a list of packs");
        }
        numbers->values = grown;
        numbers->room = room;
    }
    numbers->values[numbers->count++] = number;
    return 0;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int far_remote_each_pack(struct far_vault *vault, int (*each)(void *arg, uint64_t number, struct far_error *err), void *arg,
                         struct far_error *err)
{
    struct numbers numbers = {0};
    int rc = far_vault_each_number(vault->packs.dir, ".pack", note_number, &numbers, err);
    rc = rc == 0 && vault->remote != NULL ? far_vault_each_number(vault->packs.dir, ".up", note_number, &numbers, err) : rc;
    if (rc == 0 && numbers.count > 0) {
        qsort(numbers.values, numbers.count, sizeof *numbers.values, compare);
    }
    for (size_t i = 0; rc == 0 && i < numbers.count; i++) {
        rc = i > 0 && numbers.values[i] == numbers.values[i - 1] ? 0 : each(arg, numbers.values[i], err);
    }
    free(numbers.values);
    return rc;
}

void far_vault_store_state(struct far_vault *vault, struct far_store_state *ret_state)
{
    struct far_remote *remote = vault->remote;
    *ret_state = (struct far_store_state){.is_on_store = remote != NULL};
    if (remote == NULL) {
        return;
    }
    pthread_mutex_lock(&vault->lock);
    uint32_t last = vault->packs.last_sealed ? vault->packs.last : vault->packs.last - (vault->packs.last > 0);
    uint64_t complete = vault->packs.first == 0 ? 0 : last + 1 - vault->packs.first - vault->packs.removed;
    pthread_mutex_unlock(&vault->lock);
    pthread_mutex_lock(&remote->lock);
    for (size_t i = 0; i < remote->count; i++) {
        const struct far_remote_pack *pack = &remote->packs[i];
        ret_state->packs_up++;
        ret_state->bytes_up += pack->size;
        ret_state->packs_away += !pack->is_here;
        ret_state->bytes_away += pack->is_here ? 0 : pack->size;
    }
    ret_state->packs_waiting = complete > remote->count ? complete - remote->count : 0;
    ret_state->ranges_read = remote->ranges_read;
    ret_state->bytes_read = remote->bytes_read;
    ret_state->locks_refused = remote->locks_refused;
    ret_state->packs_unlocked = remote->unlocked;
    snprintf(ret_state->stays, sizeof ret_state->stays, "%s", remote->stays);
    snprintf(ret_state->unlocked_why, sizeof ret_state->unlocked_why, "%s", remote->unlocked > 0 ? remote->unlocked_why : "");
    snprintf(ret_state->problem, sizeof ret_state->problem, "%.250s", remote->round_rc != 0 ? remote->round_error.message : "");
    pthread_mutex_unlock(&remote->lock);
}
