/* Reading and verifying one disk of a point: see vault.h. A point is a root; the walk goes down its pages. */
#include "dataplane/leaf_lanes.h"
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

/* ---- verification ---- */

enum { TOGETHER = 16 }; /* blocks hashed at once: as many as there are lanes */

struct verify {
    struct far_point *point;
    void (*damage)(void *arg, const struct far_point_damage *damage);
    int (*progress)(void *arg, uint64_t blocks_done, uint64_t blocks);
    void *arg;
    struct far_verify_result result;
    uint64_t first_block; /* those before it were looked at by an earlier part */
    uint64_t bytes_max;   /* to read */
    uint64_t stopped_at;  /* the block at which they were used up; UINT64_MAX: they were not */
    uint8_t *blocks; /* room for TOGETHER of them */
    uint64_t indices[TOGETHER];
    struct far_hash256 leaves[TOGETHER];
    size_t count; /* in blocks, read and not hashed yet */
};

/* What lies at a place of the tree: a page of this level, or a block. */
struct place {
    bool is_page;
    unsigned level;
    uint64_t first;
    uint64_t count;
    const struct far_hash256 *id;
};

static void tell(struct verify *verify, const struct place *place, const char *text)
{
    struct far_point_damage damage = {.first_block = place->first, .block_count = place->count, .id = *place->id,
                                      .height = place->is_page ? place->level + 1 : 0};
    verify->result.blocks_damaged += place->count;
    if (verify->damage != NULL) {
        snprintf(damage.text, sizeof damage.text, "%.511s", text);
        verify->damage(verify->arg, &damage);
    }
}

/* Blocks of the disk below a child of a page: 256^level from `first` on, cut at the end of the disk. */
static uint64_t blocks_below(const struct verify *verify, unsigned level, uint64_t first)
{
    uint64_t count = 1ull << (8 * level);
    uint64_t rest = first < verify->point->blocks ? verify->point->blocks - first : 0;
    return rest < count ? rest : count;
}

/* Damage of any kind is told and the walk goes on; only what stops the walk is returned. */
static int verdict(struct verify *verify, int rc, const struct place *place, const struct far_error *cause, struct far_error *err)
{
    if (rc == FAR_CORRUPT || rc == FAR_NOT_FOUND) {
        tell(verify, place, cause->message);
        return 0;
    }
    if (rc != 0 && err != NULL) {
        *err = *cause;
    }
    return rc;
}

/* SHA-256 of what was read. */
static int hash_blocks(struct verify *verify, struct far_error *err)
{
    const uint8_t *blocks[TOGETHER];
    struct far_hash256 computed[TOGETHER];
    int rc = 0;
    for (size_t i = 0; i < verify->count; i++) {
        blocks[i] = verify->blocks + i * FAR_BLOCK_BYTES;
    }
    far_block_leaves(blocks, verify->count, computed);
    for (size_t i = 0; rc == 0 && i < verify->count; i++) {
        struct far_error cause;
        if (!far_hash256_equal(&computed[i], &verify->leaves[i])) {
            rc = far_vault_note_wrong(verify->point->vault, verify->point->domain, &verify->leaves[i], FAR_WRONG_BLOCK, &cause);
            struct place place = {.first = verify->indices[i], .count = 1, .id = &verify->leaves[i]};
            rc = verdict(verify, rc, &place, &cause, err);
        }
    }
    verify->count = 0;
    return rc;
}

static int verify_block(struct verify *verify, uint64_t index, const struct far_hash256 *leaf, struct far_error *err)
{
    struct far_error cause;
    verify->result.blocks++;
    if (far_hash256_equal(leaf, far_zero_leaf())) {
        return 0;
    }
    int rc = far_vault_get(verify->point->vault, verify->point->domain, leaf, false,
                           verify->blocks + verify->count * FAR_BLOCK_BYTES, &cause);
    if (rc != 0) {
        return verdict(verify, rc, &(struct place){.first = index, .count = 1, .id = leaf}, &cause, err);
    }
    verify->result.bytes_read += FAR_BLOCK_BYTES;
    verify->indices[verify->count] = index;
    verify->leaves[verify->count++] = *leaf;
    return verify->count == TOGETHER ? hash_blocks(verify, err) : 0;
}

/* A page past the cache: what is on the disk is what counts. Its hash must be its name. */
static int load_page(struct verify *verify, const struct far_hash256 *id,
                     struct far_hash256 ret_children[FAR_MAP_FANOUT], struct far_error *err)
{
    struct far_hash256 computed;
    int rc = far_vault_load(verify->point->vault, verify->point->domain, FAR_RECORD_PAGE, id, ret_children, FAR_MAP_PAGE_BYTES, err);
    if (rc == 0) {
        far_map_page_hash(ret_children, &computed);
        if (!far_hash256_equal(&computed, id)) {
            rc = far_vault_note_wrong(verify->point->vault, verify->point->domain, id, "the page is not the one of its id (SHA-256)", err);
        }
    }
    return rc;
}

static int report_progress(struct verify *verify, struct far_error *err)
{
    if (verify->progress != NULL &&
        verify->progress(verify->arg, verify->result.blocks, verify->point->blocks) != 0) {
        return far_fail(err, FAR_CANCELED, "the verification was canceled");
    }
    return 0;
}

/* The same page of the point that was verified before; false: it has none, or it cannot be read. */
static bool known_page(struct verify *verify, unsigned level, const struct far_hash256 *id,
                       struct far_hash256 ret_children[FAR_MAP_FANOUT])
{
    return id != NULL && far_vault_page(verify->point->vault, verify->point->domain, level, id, ret_children, NULL) == 0;
}

/* known: its hash in the point that was verified before, or NULL. */
static int verify_page(struct verify *verify, unsigned level, uint64_t first, const struct far_hash256 *id,
                       const struct far_hash256 *known, struct far_error *err)
{
    struct far_hash256 children[FAR_MAP_FANOUT], before[FAR_MAP_FANOUT];
    struct far_error cause;
    uint64_t below = blocks_below(verify, level + 1, first);
    if (known != NULL && far_hash256_equal(id, known)) {
        verify->result.blocks += below;
        verify->result.blocks_known += below;
        return 0;
    }
    if (far_hash256_equal(id, far_map_zero(8 * (level + 1)))) {
        verify->result.blocks += below;
        return 0;
    }
    int rc = load_page(verify, id, children, &cause);
    if (rc != 0) {
        verify->result.blocks += below;
        struct place place = {.is_page = true, .level = level, .first = first, .count = below, .id = id};
        return verdict(verify, rc, &place, &cause, err);
    }
    bool has_before = known_page(verify, level, known, before);
    for (unsigned i = 0; rc == 0 && i < FAR_MAP_FANOUT; i++) {
        uint64_t child_first = first + ((uint64_t)i << (8 * level));
        if (child_first >= verify->point->blocks || verify->stopped_at != UINT64_MAX) {
            break;
        }
        if (child_first + blocks_below(verify, level, child_first) <= verify->first_block) {
            continue;
        }
        if (verify->result.bytes_read >= verify->bytes_max) {
            verify->stopped_at = child_first;
        } else if (level > 0) {
            rc = verify_page(verify, level - 1, child_first, &children[i], has_before ? &before[i] : NULL, err);
        } else if (has_before && far_hash256_equal(&children[i], &before[i])) {
            verify->result.blocks++;
            verify->result.blocks_known++;
        } else {
            rc = verify_block(verify, child_first, &children[i], err);
        }
    }
    return rc == 0 && level == 0 ? report_progress(verify, err) : rc;
}

int far_point_verify(struct far_point *point, void (*damage)(void *arg, const struct far_point_damage *damage),
                     int (*progress)(void *arg, uint64_t blocks_done, uint64_t blocks), void *arg,
                     struct far_verify_result *ret_result, struct far_error *err)
{
    return far_point_verify_since(point, NULL, damage, progress, arg, ret_result, err);
}

int far_point_verify_since(struct far_point *point, struct far_point *since,
                           void (*damage)(void *arg, const struct far_point_damage *damage),
                           int (*progress)(void *arg, uint64_t blocks_done, uint64_t blocks), void *arg,
                           struct far_verify_result *ret_result, struct far_error *err)
{
    struct far_verify_part part = {.bytes_max = UINT64_MAX};
    return far_point_verify_part(point, since, &part, damage, progress, arg, ret_result, err);
}

int far_point_verify_part(struct far_point *point, struct far_point *since, struct far_verify_part *part,
                          void (*damage)(void *arg, const struct far_point_damage *damage),
                          int (*progress)(void *arg, uint64_t blocks_done, uint64_t blocks), void *arg,
                          struct far_verify_result *ret_result, struct far_error *err)
{
    /* In another domain the same lies there a second time, and was not verified. */
    bool is_known = since != NULL && since->height == point->height && since->domain == point->domain;
    struct verify verify = {.point = point, .damage = damage, .progress = progress, .arg = arg, .stopped_at = UINT64_MAX,
                            .first_block = part->first_block, .bytes_max = part->bytes_max};
    verify.blocks = malloc((size_t)TOGETHER * FAR_BLOCK_BYTES);
    if (verify.blocks == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to verify a point");
    }
    int rc = verify_page(&verify, point->height - 1, 0, &point->top, is_known ? &since->top : NULL, err);
    rc = rc == 0 ? hash_blocks(&verify, err) : rc;
    free(verify.blocks);
    if (rc != 0) {
        return rc;
    }
    part->next_block = verify.stopped_at != UINT64_MAX ? verify.stopped_at : point->blocks;
    if (verify.result.blocks_damaged == 0 && part->first_block == 0 && part->next_block == point->blocks) {
        /* Every block has the hash of its leaf (known ones had it), every page that of its parent's entry: the root follows. */
        far_map_bind_root(point->size_bytes, &point->top, &verify.result.root);
    }
    *ret_result = verify.result;
    if (verify.result.blocks_damaged != 0) {
        return far_fail(err, FAR_CORRUPT, "%llu of %llu blocks cannot be given back",
                        (unsigned long long)verify.result.blocks_damaged, (unsigned long long)point->blocks);
    }
    return 0;
}
