/* Carrying a vault's packs and small files to its store, and letting packs leave the folder; see remote.h. */
#define _GNU_SOURCE
#include "dataplane/remote_private.h"
#include "dataplane/vault_dead.h"
#include "dataplane/vault_lock.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/logging.h"
#include "base/thread.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { ROUND_SECONDS = 5, HOLDER_ROUNDS = 12 /* after so many it is asked whose the vault is, though nothing is to be carried */ };
#define ABANDONED_MS (7ull * 24 * 60 * 60 * 1000)

/* ---- small files ---- */

static int read_small(const struct far_vault *vault, const char *name, struct far_buf *bytes, struct far_error *err)
{
    char path[FAR_DIR_MAX + FAR_REMOTE_NAME_MAX + 2];
    snprintf(path, sizeof path, "%s/%s", vault->dir, name);
    return far_file_read(path, bytes, err);
}

/* push_lock is held. The slot of a name; NULL: there are too many, so it is carried every time. */
static uint64_t *sum_of(struct far_remote *remote, const char *name)
{
    for (size_t i = 0; i < remote->name_count; i++) {
        if (strcmp(remote->names[i].name, name) == 0) {
            return &remote->names[i].sum;
        }
    }
    if (remote->name_count == FAR_REMOTE_NAMES) {
        return NULL;
    }
    snprintf(remote->names[remote->name_count].name, FAR_REMOTE_NAME_MAX, "%s", name);
    remote->names[remote->name_count].sum = 0;
    return &remote->names[remote->name_count++].sum;
}

int far_remote_push(struct far_vault *vault, const char *name, struct far_error *err)
{
    struct far_buf bytes;
    if (vault->remote == NULL) {
        return 0;
    }
    far_buf_init(&bytes, 16 << 20);
    pthread_mutex_lock(&vault->remote->push_lock);
    int rc = read_small(vault, name, &bytes, err);
    if (rc == 0) {
        uint64_t *known = strncmp(name, "domains/", 8) == 0 ? sum_of(vault->remote, name) : NULL; /* not by the carrier once more */
        rc = far_objects_put(vault->remote->objects, name, far_buf_slice(&bytes), NULL, NULL, err);
        if (rc == 0 && known != NULL) {
            *known = far_hash64(bytes.data, bytes.len);
        }
    } else if (rc == FAR_NOT_FOUND) {
        rc = far_objects_delete(vault->remote->objects, name, NULL, err);
    }
    pthread_mutex_unlock(&vault->remote->push_lock);
    far_buf_done(&bytes);
    return rc == 0 ? 0 : far_error_context(err, "store of the vault");
}

struct round {
    struct far_vault *vault;
    uint32_t complete; /* the last pack that is complete */
    bool is_holder;    /* asked in this round */
};

/* Nothing is written to the store by whom the vault was taken from: asked once a round, before the first thing. */
static int ask_holder(struct round *round, struct far_error *err)
{
    int rc = round->is_holder ? 0 : far_remote_check_holder(round->vault, err);
    round->is_holder = rc == 0;
    return rc;
}

/* Unless the store has it as it is. */
static int push_changed(struct round *round, const char *name, struct far_error *err)
{
    struct far_vault *vault = round->vault;
    struct far_remote *remote = vault->remote;
    struct far_buf bytes;
    far_buf_init(&bytes, 16 << 20);
    pthread_mutex_lock(&remote->push_lock);
    uint64_t *known = sum_of(remote, name);
    int rc = read_small(vault, name, &bytes, err);
    uint64_t sum = rc == 0 ? far_hash64(bytes.data, bytes.len) : 0;
    if (rc == 0 && (known == NULL || *known != sum)) {
        rc = ask_holder(round, err);
        rc = rc != 0 ? rc : far_objects_put(remote->objects, name, far_buf_slice(&bytes), NULL, NULL, err);
        if (rc == 0 && known != NULL) {
            *known = sum;
        }
    }
    pthread_mutex_unlock(&remote->push_lock);
    far_buf_done(&bytes);
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int push_domains(struct round *round, struct far_error *err)
{
    const struct far_vault *vault = round->vault;
    char path[FAR_DIR_MAX + 16], name[FAR_REMOTE_NAME_MAX];
    snprintf(path, sizeof path, "%s/domains", vault->dir);
    DIR *folder = opendir(path);
    if (folder == NULL) {
        return errno == ENOENT ? 0 : far_fail_errno(err, FAR_IO, errno, "open folder '%s'", path);
    }
    int rc = 0;
    for (struct dirent *entry = readdir(folder); rc == 0 && entry != NULL; entry = readdir(folder)) {
        const char *end = strrchr(entry->d_name, '.');
        if (end != NULL && strcmp(end, ".domain") == 0 && strlen(entry->d_name) < FAR_REMOTE_NAME_MAX - 16) {
            snprintf(name, sizeof name, "domains/%.79s", entry->d_name);
            rc = push_changed(round, name, err);
        }
    }
    closedir(folder);
    return rc;
}

static int push_all_changed(struct round *round, struct far_error *err)
{
    static const char *const names[] = {"vault.former", "vault", "packs/removed", "owner"};
    int rc = push_domains(round, err); /* before any pack that was written with their keys */
    for (size_t i = 0; rc == 0 && i < sizeof names / sizeof names[0]; i++) {
        rc = push_changed(round, names[i], err);
    }
    return rc;
}

/* ---- packs ---- */

static int stop_at_end(void *arg, uint64_t done)
{
    struct far_remote *remote = arg;
    (void)done;
    pthread_mutex_lock(&remote->lock);
    bool ends = remote->is_ending;
    pthread_mutex_unlock(&remote->lock);
    return ends;
}

/* The same bytes, but for ranges that died since the store got them: they are zeroes here. */
static bool is_same(int fd, const struct far_dead_list *dead, uint64_t at, const uint8_t *there, size_t len)
{
    uint8_t *here = malloc(len);
    bool same = here != NULL && far_file_pread(fd, here, len, at, "a pack", NULL) == 0;
    uint64_t from = at;
    for (size_t i = 0; same && i <= dead->count && from < at + len; i++) { /* what lies before each range, and behind the last one */
        uint64_t end = i < dead->count && dead->ranges[i].offset < at + len ? dead->ranges[i].offset : at + len;
        same = end <= from || memcmp(here + (from - at), there + (from - at), end - from) == 0;
        uint64_t behind = i < dead->count ? dead->ranges[i].offset + dead->ranges[i].length : end;
        from = behind > from ? behind : from;
    }
    free(here);
    return same;
}

/* The store has something under this name. What an earlier try brought there is what is here; else another copy of this folder
 * writes, with the same holder's token. */
static int take_present(struct far_vault *vault, uint32_t number, int fd, uint64_t size, const char *key, struct far_object *ret_object,
                        struct far_error *err)
{
    struct far_dead_list dead;
    uint8_t *there = malloc(FAR_REMOTE_RANGE_BYTES);
    int rc = there != NULL ? far_objects_head(vault->remote->objects, key, ret_object, err) : far_fail(err, FAR_LIMIT, "no memory");
    if (rc != 0) {
        free(there);
        return rc == FAR_NOT_FOUND ? far_fail(err, FAR_BUSY, "the store refused the pack for another one, which is gone") : rc;
    }
    bool same = ret_object->size == size;
    if (far_dead_read(&vault->packs, number, &dead, NULL) != 0) {
        dead = (struct far_dead_list){0};
    }
    for (uint64_t at = 0; rc == 0 && same && at < size; at += FAR_REMOTE_RANGE_BYTES) {
        size_t len = size - at < FAR_REMOTE_RANGE_BYTES ? (size_t)(size - at) : FAR_REMOTE_RANGE_BYTES;
        rc = far_objects_get(vault->remote->objects, key, ret_object->version[0] != '\0' ? ret_object->version : NULL, at, len, there, err);
        same = rc != 0 || is_same(fd, &dead, at, there, len);
    }
    far_dead_done(&dead);
    free(there);
    if (rc != 0 || same) {
        return rc;
    }
    far_remote_fence(vault);
    return far_fail(err, FAR_CONFLICT, "the store has another pack of this number: a second copy of '%s' writes to it; stop both, attach "
                    "the vault in another folder, and take it over", vault->dir);
}

/* Only a name that is free is written to: two copies of one folder hold the vault by the same token. Its index comes behind it, for the
 * same reason; who attaches the vault in between reads the pack for it. */
static int carry_file(struct far_vault *vault, uint32_t number, int fd, struct far_remote_pack *ret_pack, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    const struct far_object_put put = {.condition = FAR_OBJECT_NEW};
    struct far_buf index = {0};
    struct far_object object = {0};
    struct stat st;
    char key[FAR_REMOTE_NAME_MAX];
    uint32_t epoch = (uint32_t)remote->holder.epoch;
    if (fstat(fd, &st) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "stat pack %08" PRIu32, number);
    }
    uint64_t size = (uint64_t)st.st_size;
    int rc = far_remote_index_make(vault, number, fd, size, &index, err);
    far_remote_key(number, epoch, ".pack", key, sizeof key);
    rc = rc == 0 ? far_objects_put_file(remote->objects, key, fd, size, &put, stop_at_end, remote, &object, err) : rc;
    rc = rc == FAR_CONFLICT ? take_present(vault, number, fd, size, key, &object, err) : rc;
    far_remote_key(number, epoch, ".idx", key, sizeof key);
    rc = rc == 0 ? far_objects_put(remote->objects, key, far_buf_slice(&index), NULL, NULL, err) : rc;
    far_buf_done(&index);
    *ret_pack = (struct far_remote_pack){.number = number, .epoch = epoch, .size = size, .is_here = true};
    ret_pack->retain_until_ms = object.retain_until_ms;
    snprintf(ret_pack->version, sizeof ret_pack->version, "%s", object.version);
    return rc;
}

/* Waits until what the other does with the pack is done, and says in *own that this one has it now. */
static void take_pack(struct far_remote *remote, uint32_t number, const uint32_t *other, uint32_t *own)
{
    pthread_mutex_lock(&remote->lock);
    while (*other == number) {
        pthread_cond_wait(&remote->changed, &remote->lock);
    }
    *own = number;
    pthread_mutex_unlock(&remote->lock);
}

static void leave_pack(struct far_remote *remote, uint32_t *own)
{
    pthread_mutex_lock(&remote->lock);
    *own = 0;
    pthread_cond_broadcast(&remote->changed);
    pthread_mutex_unlock(&remote->lock);
}

void far_remote_hold(struct far_vault *vault, uint32_t number)
{
    if (vault->remote != NULL) {
        take_pack(vault->remote, number, &vault->remote->carried, &vault->remote->buried);
    }
}

void far_remote_let(struct far_vault *vault)
{
    if (vault->remote != NULL) {
        leave_pack(vault->remote, &vault->remote->buried);
    }
}

static int carry_pack(void *arg, uint64_t number, struct far_error *err)
{
    struct round *round = arg;
    struct far_vault *vault = round->vault;
    struct far_remote *remote = vault->remote;
    struct far_remote_pack pack;
    char path[4096];
    uint64_t size;
    if (number == 0 || number > round->complete || far_remote_has(vault, (uint32_t)number, &size)) {
        return 0;
    }
    far_packs_path(&vault->packs, (uint32_t)number, path, sizeof path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? 0 : far_fail_errno(err, FAR_IO, errno, "open '%s'", path); /* reclaim removed it */
    }
    take_pack(remote, (uint32_t)number, &remote->buried, &remote->carried);
    int rc = ask_holder(round, err);
    rc = rc == 0 ? carry_file(vault, (uint32_t)number, fd, &pack, err) : rc;
    close(fd);
    rc = rc == 0 ? far_remote_up_write(vault->packs.dir, vault->uuid, &pack, err) : rc;
    leave_pack(remote, &remote->carried);
    if (rc == 0) {
        pthread_mutex_lock(&remote->lock);
        pack.used_at = ++remote->tick;
        rc = far_remote_add(remote, &pack, err);
        pthread_mutex_unlock(&remote->lock);
    }
    return rc == 0 ? 0 : far_error_context(err, "carry pack %08u to the store", (unsigned)number);
}

/* ---- packs leave the folder ---- */

/* The pack that leaves next; 0: what is here may stay. */
static uint32_t next_to_leave(struct far_remote *remote, uint32_t last)
{
    uint64_t here = 0;
    const struct far_remote_pack *best = NULL;
    for (size_t i = 0; i < remote->count; i++) {
        const struct far_remote_pack *pack = &remote->packs[i];
        here += pack->is_here ? pack->size : 0;
        if (pack->is_here && pack->number != last && (best == NULL || pack->used_at < best->used_at)) {
            best = pack;
        }
    }
    return remote->keep_bytes != 0 && here > remote->keep_bytes && best != NULL ? best->number : 0;
}

static void let_go(struct far_vault *vault, uint32_t last)
{
    struct far_remote *remote = vault->remote;
    char path[4096];
    for (;;) {
        pthread_mutex_lock(&remote->lock);
        uint32_t number = next_to_leave(remote, last);
        if (number != 0) {
            far_remote_find(remote, number)->is_here = false;
        }
        pthread_mutex_unlock(&remote->lock);
        if (number == 0) {
            return;
        }
        far_packs_path(&vault->packs, number, path, sizeof path);
        unlink(path);
        pthread_mutex_lock(&vault->lock); /* who has it open reads on */
        far_packs_drop_file(&vault->packs, number);
        pthread_mutex_unlock(&vault->lock);
    }
}

/* ---- the thread ---- */

static int push_replica(void *arg, uint64_t number, struct far_error *err)
{
    char name[FAR_REMOTE_NAME_MAX];
    snprintf(name, sizeof name, "replicas/%" PRIu64 ".replica", number);
    return far_remote_push(arg, name, err);
}

static int lock_point(void *arg, uint64_t number, struct far_error *err)
{
    struct far_vault *vault = arg;
    uint64_t until_ms = 0;
    bool holds = far_vault_lock_until(vault, number, &until_ms, NULL) == 0 && until_ms > far_clock_wall_ms();
    return holds ? far_remote_lock(vault, number, until_ms, err) : 0;
}

static void bound_path(const struct far_vault *vault, char path[FAR_DIR_MAX + 16])
{
    snprintf(path, FAR_DIR_MAX + 16, "%s/bound", vault->dir);
}

/* Once: what a vault had before it was bound is there by now, but for its replicas, and for the store's own locks. */
static int end_binding(struct round *round, struct far_error *err)
{
    struct far_vault *vault = round->vault;
    char points[FAR_DIR_MAX + 16], replicas[FAR_DIR_MAX + 16], bound[FAR_DIR_MAX + 16];
    snprintf(points, sizeof points, "%s/points", vault->dir);
    snprintf(replicas, sizeof replicas, "%s/replicas", vault->dir);
    bound_path(vault, bound);
    int rc = ask_holder(round, err);
    rc = rc == 0 ? far_vault_each_number(replicas, ".replica", push_replica, vault, err) : rc;
    rc = rc == 0 ? far_vault_each_number(points, ".lock", lock_point, vault, err) : rc;
    return rc == 0 ? far_file_replace(bound, "", 0, 0600, err) : rc;
}

/* Packs that a lock of a point could not be put on, before this program ran and since. A bucket without locks is asked no more. */
static int settle_locks(struct far_vault *vault, bool is_time, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    int rc = 0;
    if (!remote->locks_settled) {
        rc = far_remote_settle_locks(vault, err);
        remote->locks_settled = rc == 0;
    } else if (is_time) {
        rc = far_remote_lock_again(vault, err);
    }
    return rc;
}

static int go_round(struct far_vault *vault, struct far_error *err)
{
    struct round round = {.vault = vault};
    char bound[FAR_DIR_MAX + 16];
    bound_path(vault, bound);
    bool was_bound = access(bound, F_OK) == 0;
    pthread_mutex_lock(&vault->lock);
    int rc = was_bound ? 0 : far_packs_finish(&vault->packs, err); /* what points from before need is in complete packs */
    vault->broken = vault->broken || vault->packs.sync_failed;
    round.complete = vault->packs.last_sealed ? vault->packs.last : vault->packs.last - (vault->packs.last > 0);
    uint32_t last = vault->packs.last;
    pthread_mutex_unlock(&vault->lock);
    bool asks = rc == 0 && vault->remote->rounds_begun % HOLDER_ROUNDS == 1; /* only this thread counts them */
    rc = asks ? ask_holder(&round, err) : rc;
    if (rc == 0 && !vault->remote->is_known_young) {
        rc = far_remote_check_age(vault, err);
        vault->remote->is_known_young = rc == 0;
    }
    rc = rc == 0 ? push_all_changed(&round, err) : rc;
    rc = rc == 0 ? far_vault_each_number(vault->packs.dir, ".pack", carry_pack, &round, err) : rc;
    if (rc == 0 && !vault->remote->points_settled) {
        rc = far_remote_settle_points(vault, err);
        vault->remote->points_settled = rc == 0;
        if (rc == 0) { /* once since open: uploads of processes that were killed; whoever may not look for them leaves them */
            far_objects_sweep(vault->remote->objects, "", ABANDONED_MS, NULL, NULL);
        }
    }
    rc = rc == 0 && !was_bound ? end_binding(&round, err) : rc;
    rc = rc == 0 ? settle_locks(vault, asks, err) : rc;
    let_go(vault, last);
    return rc;
}

static void rest(struct far_remote *remote)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ROUND_SECONDS;
    int code = 0;
    while (!remote->is_asked && !remote->is_ending && code == 0) {
        code = pthread_cond_timedwait(&remote->changed, &remote->lock, &until);
    }
}

static void *carry(void *arg)
{
    struct far_vault *vault = arg;
    struct far_remote *remote = vault->remote;
    far_thread_name("far-store");
    pthread_mutex_lock(&remote->lock);
    while (!remote->is_ending && !remote->is_fenced) {
        struct far_error err = {0};
        remote->is_asked = false;
        remote->rounds_begun++;
        int before = remote->round_rc;
        pthread_mutex_unlock(&remote->lock);
        int rc = go_round(vault, &err);
        if (rc != 0 && rc != before) {
            far_logf(FAR_LEVEL_WARN, "vault", "%s", err.message);
        }
        pthread_mutex_lock(&remote->lock);
        remote->round_rc = rc;
        remote->round_error = err;
        remote->rounds_done = remote->rounds_begun;
        pthread_cond_broadcast(&remote->changed);
        rest(remote);
    }
    remote->runs = false;
    pthread_cond_broadcast(&remote->changed);
    pthread_mutex_unlock(&remote->lock);
    return NULL;
}

int far_remote_start(struct far_vault *vault, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    if (remote == NULL || vault->read_only) {
        return 0;
    }
    pthread_mutex_lock(&vault->lock);
    remote->opened_last = vault->packs.last_sealed ? vault->packs.last : vault->packs.last - (vault->packs.last > 0);
    pthread_mutex_unlock(&vault->lock);
    remote->runs = true;
    int code = pthread_create(&remote->thread, NULL, carry, vault);
    remote->runs = code == 0;
    remote->is_started = code == 0;
    return code == 0 ? 0 : far_fail_errno(err, FAR_LIMIT, code, "start the thread of the vault's store");
}

void far_remote_stop(struct far_vault *vault)
{
    struct far_remote *remote = vault->remote;
    if (remote == NULL || !remote->is_started) {
        return;
    }
    pthread_mutex_lock(&remote->lock);
    remote->is_ending = true;
    pthread_cond_broadcast(&remote->changed);
    pthread_mutex_unlock(&remote->lock);
    pthread_join(remote->thread, NULL);
    remote->is_started = false;
}

/* A round that begins from now on. */
static int wait_round(struct far_vault *vault, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    pthread_mutex_lock(&remote->lock);
    uint64_t wanted = remote->rounds_begun + 1;
    remote->is_asked = true;
    pthread_cond_broadcast(&remote->changed);
    while (remote->runs && remote->rounds_done < wanted) {
        pthread_cond_wait(&remote->changed, &remote->lock);
    }
    int rc = remote->round_rc; /* of the last one, where the thread ended over it */
    if (rc == 0 && remote->rounds_done < wanted) {
        rc = far_fail(err, FAR_BUSY, "the vault is being closed");
    } else if (rc != 0 && err != NULL) {
        *err = remote->round_error;
    }
    pthread_mutex_unlock(&remote->lock);
    return rc;
}

int far_remote_settle(struct far_vault *vault, struct far_error *err)
{
    if (vault->remote == NULL) {
        return 0;
    }
    pthread_mutex_lock(&vault->lock);
    int rc = far_packs_finish(&vault->packs, err);
    vault->broken = vault->broken || vault->packs.sync_failed;
    pthread_mutex_unlock(&vault->lock);
    rc = rc == 0 ? far_vault_sync(vault, err) : rc;
    return rc == 0 ? wait_round(vault, err) : rc;
}
