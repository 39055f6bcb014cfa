/* Reading one disk of a point: see vault.h. A point is a root; the walk goes down its pages. Verifying is in vault_verify.c. */
#include "dataplane/vault_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

struct far_point {
    struct far_vault *vault;
    const struct far_domain *domain;
    struct far_point *next; /* of the vault's open ones, under its lock */
    int pin_fd;             /* a shared flock on the manifest: reclaim keeps what it needs; -1: opened by root */
    struct far_hash256 root;
    struct far_hash256 top;
    uint64_t size_bytes;
    uint64_t blocks;
    unsigned height;
};

int far_point_open(struct far_vault *vault, const struct far_domain *domain, const struct far_hash256 *root,
                   struct far_point **ret_point, struct far_error *err)
{
    uint64_t size;
    struct far_hash256 top;
    int rc = far_vault_root_load(vault, domain, root, &size, &top, err);
    if (rc != 0) {
        return rc;
    }
    struct far_point *point = calloc(1, sizeof *point);
    if (point == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to open a point");
    }
    point->vault = vault;
    point->domain = domain;
    point->root = *root;
    point->top = top;
    point->size_bytes = size;
    point->blocks = far_map_block_count(size);
    point->height = far_map_height(size);
    point->pin_fd = -1;
    pthread_mutex_lock(&vault->lock);
    point->next = vault->points;
    vault->points = point;
    pthread_mutex_unlock(&vault->lock);
    *ret_point = point;
    return 0;
}

struct far_vault *far_point_vault(const struct far_point *point)
{
    return point->vault;
}

bool far_vault_root_is_open(struct far_vault *vault, const struct far_hash256 *root)
{
    bool found = false;
    pthread_mutex_lock(&vault->lock);
    for (const struct far_point *point = vault->points; point != NULL && !found; point = point->next) {
        found = far_hash256_equal(&point->root, root);
    }
    pthread_mutex_unlock(&vault->lock);
    return found;
}

/* Who has a point open holds its manifest: forgotten meanwhile, it is only renamed. */
static int pin_manifest(struct far_vault *vault, uint64_t point_id, int *ret_fd, struct far_error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/points/%llu.manifest", vault->dir, (unsigned long long)point_id);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT) {
        return far_fail_errno(err, FAR_IO, errno, "open '%s'", path);
    }
    if (fd >= 0 && flock(fd, LOCK_SH) == 0 && access(path, F_OK) == 0) { /* not forgotten between the two */
        *ret_fd = fd;
        return 0;
    }
    if (fd >= 0) {
        close(fd);
    }
    return far_fail(err, FAR_NOT_FOUND, "vault '%s' has no point %llu", vault->dir, (unsigned long long)point_id);
}

int far_point_open_disk(struct far_vault *vault, uint64_t point_id, const char *disk, struct far_point **ret_point,
                        struct far_error *err)
{
    struct far_manifest *manifest = malloc(sizeof *manifest);
    if (manifest == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to open a point");
    }
    int fd = -1;
    int rc = pin_manifest(vault, point_id, &fd, err);
    rc = rc == 0 ? far_vault_point(vault, point_id, manifest, err) : rc;
    uint32_t i = 0;
    while (rc == 0 && i < manifest->disk_count && strcmp(manifest->disks[i].name, disk) != 0) {
        i++;
    }
    if (rc == 0 && i == manifest->disk_count) {
        rc = far_fail(err, FAR_NOT_FOUND, "point %llu has no disk '%.63s'", (unsigned long long)point_id, disk);
    }
    const struct far_domain *domain = NULL;
    rc = rc == 0 ? far_vault_domain_find(vault, manifest->domain_uuid, &domain, err) : rc;
    rc = rc == 0 ? far_point_open(vault, domain, &manifest->disks[i].root, ret_point, err) : rc;
    if (rc == 0) {
        (*ret_point)->pin_fd = fd;
    } else if (fd >= 0) {
        close(fd);
    }
    free(manifest);
    return rc;
}

void far_point_close(struct far_point *point)
{
    if (point == NULL) {
        return;
    }
    pthread_mutex_lock(&point->vault->lock);
    for (struct far_point **link = &point->vault->points; *link != NULL; link = &(*link)->next) {
        if (*link == point) {
            *link = point->next;
            break;
        }
    }
    pthread_mutex_unlock(&point->vault->lock);
    if (point->pin_fd >= 0) {
        close(point->pin_fd);
    }
    free(point);
}

const struct far_hash256 *far_point_top(const struct far_point *point)
{
    return &point->top;
}

uint64_t far_point_size(const struct far_point *point)
{
    return point->size_bytes;
}

void far_point_root(const struct far_point *point, struct far_hash256 *ret_root)
{
    *ret_root = point->root;
}

const struct far_domain *far_point_domain(const struct far_point *point)
{
    return point->domain;
}

int far_point_leaf(struct far_point *point, uint64_t index, struct far_hash256 *ret_leaf, struct far_error *err)
{
    struct far_hash256 children[FAR_MAP_FANOUT];
    struct far_hash256 id = point->top;
    if (index >= point->blocks) {
        return far_fail(err, FAR_INVALID, "block %llu is behind the end of the disk", (unsigned long long)index);
    }
    for (unsigned level = point->height; level-- > 0;) {
        int rc = far_vault_page(point->vault, point->domain, level, &id, children, err);
        if (rc != 0) {
            return rc;
        }
        id = children[(index >> (8 * level)) % FAR_MAP_FANOUT];
    }
    *ret_leaf = id;
    return 0;
}

int far_point_page(struct far_point *point, unsigned level, uint64_t index, struct far_hash256 ret_children[FAR_MAP_FANOUT],
                   struct far_error *err)
{
    struct far_hash256 id = point->top;
    if (level >= point->height || index >= 1ull << (8 * (point->height - 1 - level))) {
        return far_fail(err, FAR_INVALID, "the map has no page %llu of level %u", (unsigned long long)index, level);
    }
    for (unsigned at = point->height; at-- > level;) {
        int rc = far_vault_page(point->vault, point->domain, at, &id, ret_children, err);
        if (rc != 0) {
            return rc;
        }
        id = ret_children[at > level ? (index >> (8 * (at - level - 1))) % FAR_MAP_FANOUT : 0];
    }
    return 0;
}

int far_point_extent(struct far_point *point, uint64_t index, bool *ret_zero, uint64_t *ret_count, struct far_error *err)
{
    struct far_hash256 children[FAR_MAP_FANOUT], id = point->top;
    if (index >= point->blocks) {
        return far_fail(err, FAR_INVALID, "block %llu is behind the end of the disk", (unsigned long long)index);
    }
    unsigned level = point->height; /* of what id names: 0 are blocks */
    while (level > 0 && !far_hash256_equal(&id, far_map_zero(8 * level))) {
        int rc = far_vault_page(point->vault, point->domain, level - 1, &id, children, err);
        if (rc != 0) {
            return rc;
        }
        level--;
        id = children[(index >> (8 * level)) % FAR_MAP_FANOUT];
    }
    uint64_t end = ((index >> (8 * level)) + 1) << (8 * level);
    *ret_zero = far_hash256_equal(&id, far_map_zero(8 * level));
    while (!*ret_zero && end % FAR_MAP_FANOUT != 0 && !far_hash256_equal(&children[end % FAR_MAP_FANOUT], far_zero_leaf())) {
        end++; /* blocks of the same page */
    }
    *ret_count = (end < point->blocks ? end : point->blocks) - index;
    return 0;
}

int far_point_read(struct far_point *point, uint64_t index, bool check_sha, void *ret_block, bool *ret_zero,
                   struct far_error *err)
{
    struct far_hash256 leaf;
    int rc = far_point_leaf(point, index, &leaf, err);
    if (rc == 0) {
        rc = far_vault_get(point->vault, point->domain, &leaf, check_sha, ret_block, err);
    }
    if (rc == 0 && ret_zero != NULL) {
        *ret_zero = far_hash256_equal(&leaf, far_zero_leaf());
    }
    if (rc == FAR_NOT_FOUND) { /* a point names only what is there: it was lost */
        rc = FAR_CORRUPT;
        if (err != NULL) {
            err->klass = rc;
        }
    }
    return rc;
}
