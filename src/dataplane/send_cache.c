/* The maps that a source keeps in its cache folder, three files a disk:
 *
 *   disk-<id>.map    leaves of the last point that the log called proven
 *   disk-<id>.next   leaves of the last view sent; the log will tell whether it became a point
 *   disk-<id>.work   leaves of a view in transfer below its durable frontier, and disk-<id>.view says which view
 *
 * All of it is only a cache: load checks the root against the log's, and the loss of a file costs offers, or reading
 * and hashing again, never a wrong block. So errors of these files are not errors of the transfer. */
#include "dataplane/send_local.h"

#include "base/hash.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATH_MAX_BYTES = 4096, VIEW_BYTES = 8 + 8 + 8 + 32 + FAR_TRANSFER_REF_MAX + 1 + 8, VIEW_HASHED = VIEW_BYTES - 8 };

static const char *path_of(const struct far_send *send, const char *suffix, char path[PATH_MAX_BYTES])
{
    int n = snprintf(path, PATH_MAX_BYTES, "%s/disk-%llu.%s", send->engine->cache_dir,
                     (unsigned long long)send->attempt->order.disk_id, suffix);
    return n > 0 && n < PATH_MAX_BYTES ? path : NULL;
}

void send_cache_load_base(struct far_send *send)
{
    const struct far_engine_order *order = &send->attempt->order;
    char next[PATH_MAX_BYTES], map[PATH_MAX_BYTES];
    struct far_hash256 root;
    if (send->engine->cache_dir == NULL || !order->has_base_root || path_of(send, "next", next) == NULL ||
        path_of(send, "map", map) == NULL) {
        return;
    }
    memcpy(root.bytes, order->base_root, sizeof root.bytes);
    if (far_map_load(next, send->size_bytes, &root, &send->base, NULL) == 0) {
        rename(next, map);
    } else if (far_map_load(map, send->size_bytes, &root, &send->base, NULL) != 0) {
        send->base = NULL;
    }
}

/* ---- the view in transfer ---- */

static void view_encode(const struct far_send *send, const struct far_hash256 *root, uint8_t bytes[VIEW_BYTES])
{
    const struct far_engine_order *order = &send->attempt->order;
    memset(bytes, 0, VIEW_BYTES);
    far_put_le64(bytes, order->job_id);
    far_put_le64(bytes + 8, send->size_bytes);
    far_put_le64(bytes + 16, send->durable_block);
    memcpy(bytes + 24, root->bytes, 32);
    memcpy(bytes + 56, order->freeze_ref, strlen(order->freeze_ref));
    far_put_le64(bytes + VIEW_HASHED, far_hash64(bytes, VIEW_HASHED));
}

static int write_file(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool written = fd >= 0 && write(fd, data, len) == (ssize_t)len;
    if (fd >= 0) {
        close(fd);
    }
    return written ? 0 : FAR_IO;
}

static bool view_matches(const struct far_send *send, const char *path, uint8_t bytes[VIEW_BYTES])
{
    const struct far_engine_order *order = &send->attempt->order;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool whole = fd >= 0 && read(fd, bytes, VIEW_BYTES) == VIEW_BYTES;
    if (fd >= 0) {
        close(fd);
    }
    return whole && far_get_le64(bytes + VIEW_HASHED) == far_hash64(bytes, VIEW_HASHED) &&
           far_get_le64(bytes) == order->job_id && far_get_le64(bytes + 8) == send->size_bytes &&
           strncmp((const char *)bytes + 56, order->freeze_ref, FAR_TRANSFER_REF_MAX + 1) == 0 &&
           order->freeze_ref[0] != '\0';
}

void send_cache_load_work(struct far_send *send)
{
    char view[PATH_MAX_BYTES], work[PATH_MAX_BYTES];
    uint8_t bytes[VIEW_BYTES];
    struct far_hash256 root;
    if (send->engine->cache_dir == NULL || path_of(send, "view", view) == NULL || path_of(send, "work", work) == NULL ||
        !view_matches(send, view, bytes)) {
        return;
    }
    uint64_t block = far_get_le64(bytes + 16);
    memcpy(root.bytes, bytes + 24, sizeof root.bytes);
    if (block > send->blocks || far_map_load(work, send->size_bytes, &root, &send->durable, NULL) != 0) {
        return;
    }
    for (uint64_t i = 0; i < block; i++) {
        struct far_hash256 leaf;
        far_map_get(send->durable, i, &leaf);
        far_map_set(send->map, i, &leaf);
    }
    send->durable_block = send->known_block = block;
    atomic_store(&send->attempt->bytes_done, block * FAR_BLOCK_BYTES);
}

void send_cache_save_work(struct far_send *send, uint64_t durable_block)
{
    char view[PATH_MAX_BYTES], work[PATH_MAX_BYTES];
    uint8_t bytes[VIEW_BYTES];
    struct far_hash256 root;
    if (send->engine->cache_dir == NULL || durable_block <= send->durable_block ||
        send->attempt->order.freeze_ref[0] == '\0' || path_of(send, "view", view) == NULL ||
        path_of(send, "work", work) == NULL) {
        return;
    }
    if (send->durable == NULL && far_map_new(send->size_bytes, &send->durable, NULL) != 0) {
        send->durable = NULL;
        return;
    }
    for (uint64_t i = send->durable_block; i < durable_block; i++) {
        struct far_hash256 leaf;
        far_map_get(send->map, i, &leaf);
        far_map_set(send->durable, i, &leaf);
    }
    send->durable_block = durable_block;
    far_map_root(send->durable, &root);
    view_encode(send, &root, bytes);
    unlink(view); /* between the two writes there is no view rather than one that names another map */
    if (far_map_save(send->durable, work, NULL) == 0) {
        write_file(view, bytes, sizeof bytes);
    }
}

void send_cache_finish(struct far_send *send)
{
    char path[PATH_MAX_BYTES];
    if (send->engine->cache_dir == NULL) {
        return;
    }
    if (path_of(send, "next", path) != NULL) {
        far_map_save(send->map, path, NULL);
    }
    if (path_of(send, "view", path) != NULL) {
        unlink(path);
    }
    if (path_of(send, "work", path) != NULL) {
        unlink(path);
    }
}
