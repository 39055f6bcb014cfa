/* Reading packs that are in the store: ranges that stay in memory for a while, and whole packs; see remote.h. */
#define _GNU_SOURCE
#include "dataplane/remote_private.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* What the store does not have any more is damage, not "nothing here". */
static int lost(int rc, struct far_error *err)
{
    return rc == FAR_NOT_FOUND ? far_fail(err, FAR_CORRUPT, "the store has lost the pack") : rc;
}

/* ---- ranges; remote->lock is held ---- */

static struct far_remote_range *find_range(struct far_remote *remote, uint32_t number, uint32_t index)
{
    for (size_t i = 0; i < FAR_REMOTE_RANGES; i++) {
        if (remote->ranges[i].pack == number && remote->ranges[i].index == index) {
            return &remote->ranges[i];
        }
    }
    return NULL;
}

/* The one that nobody used for the longest time; NULL: all are in use. */
static struct far_remote_range *oldest_range(struct far_remote *remote)
{
    struct far_remote_range *best = NULL;
    for (size_t i = 0; i < FAR_REMOTE_RANGES; i++) {
        struct far_remote_range *range = &remote->ranges[i];
        if (range->users == 0 && (best == NULL || range->pack == 0 || (best->pack != 0 && range->used_at < best->used_at))) {
            best = range;
        }
    }
    return best;
}

static int fill(struct far_remote *remote, struct far_remote_range *range, const struct far_remote_pack *pack, struct far_error *err)
{
    char key[FAR_REMOTE_NAME_MAX], version[sizeof pack->version];
    uint64_t from = (uint64_t)range->index * FAR_REMOTE_RANGE_BYTES;
    uint64_t rest = pack->size - from;
    size_t len = rest < FAR_REMOTE_RANGE_BYTES ? (size_t)rest : FAR_REMOTE_RANGE_BYTES;
    far_remote_key(pack->number, pack->epoch, ".pack", key, sizeof key);
    memcpy(version, pack->version, sizeof version);
    remote->ranges_read++;
    remote->bytes_read += len;
    pthread_mutex_unlock(&remote->lock);
    int rc = far_objects_get(remote->objects, key, version[0] != '\0' ? version : NULL, from, len, range->bytes, err);
    pthread_mutex_lock(&remote->lock);
    return lost(rc, err);
}

/* The range, loaded and in use; or an error. */
static int use_range(struct far_remote *remote, uint32_t number, uint32_t index, struct far_remote_range **ret_range,
                     struct far_error *err)
{
    for (;;) {
        struct far_remote_range *range = find_range(remote, number, index);
        if (range != NULL && range->is_loaded) {
            range->users++;
            *ret_range = range;
            return 0;
        }
        range = range == NULL ? oldest_range(remote) : NULL;
        if (range == NULL) { /* somebody else loads it, or all are in use */
            pthread_cond_wait(&remote->changed, &remote->lock);
            continue;
        }
        const struct far_remote_pack *pack = far_remote_find(remote, number);
        if (pack == NULL || (uint64_t)index * FAR_REMOTE_RANGE_BYTES >= pack->size) {
            return far_fail(err, FAR_CORRUPT, "the store has no such place of the pack");
        }
        range->bytes = range->bytes != NULL ? range->bytes : malloc(FAR_REMOTE_RANGE_BYTES);
        if (range->bytes == NULL) {
            return far_fail(err, FAR_LIMIT, "no memory to read from the store");
        }
        struct far_remote_pack copy = *pack;
        *range = (struct far_remote_range){.pack = number, .index = index, .users = 1, .bytes = range->bytes};
        int rc = fill(remote, range, &copy, err);
        range->is_loaded = rc == 0;
        if (rc != 0) {
            range->pack = 0;
            range->users = 0;
        }
        pthread_cond_broadcast(&remote->changed);
        *ret_range = range;
        return rc;
    }
}

int far_remote_read(struct far_vault *vault, uint32_t number, uint64_t offset, size_t len, void *ret_bytes, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    uint8_t *to = ret_bytes;
    int rc = 0;
    pthread_mutex_lock(&remote->lock);
    struct far_remote_pack *pack = far_remote_find(remote, number);
    if (pack == NULL || offset > pack->size || pack->size - offset < len) {
        rc = far_fail(err, FAR_CORRUPT, "the store has no such place of the pack");
    } else {
        pack->used_at = ++remote->tick;
    }
    while (rc == 0 && len > 0) {
        struct far_remote_range *range = NULL;
        size_t at = (size_t)(offset % FAR_REMOTE_RANGE_BYTES);
        size_t piece = FAR_REMOTE_RANGE_BYTES - at < len ? FAR_REMOTE_RANGE_BYTES - at : len;
        rc = use_range(remote, number, (uint32_t)(offset / FAR_REMOTE_RANGE_BYTES), &range, err);
        if (rc == 0) {
            range->used_at = ++remote->tick;
            pthread_mutex_unlock(&remote->lock);
            memcpy(to, range->bytes + at, piece);
            pthread_mutex_lock(&remote->lock);
            if (--range->users == 0) {
                pthread_cond_broadcast(&remote->changed);
            }
            to += piece;
            offset += piece;
            len -= piece;
        }
    }
    pthread_mutex_unlock(&remote->lock);
    return rc;
}

/* ---- whole packs ---- */

/* A file without a name in the vault's folder; beside a vault that is only read, wherever temporary files go. */
static int nameless(const struct far_vault *vault, struct far_error *err)
{
    const char *folder = getenv("TMPDIR");
    int fd = vault->read_only ? -1 : open(vault->packs.dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        char path[4096];
        snprintf(path, sizeof path, "%.4000s/farshore-pack-XXXXXX", folder != NULL ? folder : "/tmp");
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0) {
            unlink(path);
        }
    }
    return fd >= 0 ? fd : far_fail_errno(err, FAR_IO, errno, "make a temporary file for a pack");
}

int far_remote_fetch(struct far_vault *vault, uint32_t number, int *ret_fd, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    char key[FAR_REMOTE_NAME_MAX];
    pthread_mutex_lock(&remote->lock);
    const struct far_remote_pack *found = far_remote_find(remote, number);
    struct far_remote_pack pack = found != NULL ? *found : (struct far_remote_pack){0};
    pthread_mutex_unlock(&remote->lock);
    if (found == NULL) {
        return far_fail(err, FAR_NOT_FOUND, "pack %08u is neither in the folder nor in the store", number);
    }
    int fd = nameless(vault, err);
    if (fd < 0) {
        return fd;
    }
    uint8_t *bytes = malloc(FAR_REMOTE_RANGE_BYTES);
    int rc = bytes != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory to read from the store");
    far_remote_key(number, pack.epoch, ".pack", key, sizeof key);
    for (uint64_t at = 0; rc == 0 && at < pack.size; at += FAR_REMOTE_RANGE_BYTES) {
        size_t len = pack.size - at < FAR_REMOTE_RANGE_BYTES ? (size_t)(pack.size - at) : FAR_REMOTE_RANGE_BYTES;
        rc = far_objects_get(remote->objects, key, pack.version[0] != '\0' ? pack.version : NULL, at, len, bytes, err);
        rc = rc == 0 ? far_file_pwrite(fd, bytes, len, at, "a temporary file for a pack", err) : lost(rc, err);
    }
    free(bytes);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

int far_remote_open_pack(struct far_vault *vault, uint32_t number, int *ret_fd, struct far_error *err)
{
    char path[4096];
    far_packs_path(&vault->packs, number, path, sizeof path);
    *ret_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*ret_fd >= 0) {
        return 0;
    }
    int cause = errno;
    if (cause == ENOENT && vault->remote != NULL) {
        return far_remote_fetch(vault, number, ret_fd, err);
    }
    return far_fail_errno(err, cause == ENOENT ? FAR_NOT_FOUND : FAR_IO, cause, "open '%s'", path);
}
