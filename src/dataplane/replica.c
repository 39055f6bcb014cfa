/* Replicas: the copy-on-write tree of one disk; see vault.h.
 *
 * A set makes the pages from the leaf up to the top dirty: private copies in a hash table. `flush` hashes them bottom up,
 * stores each as a record (named by its hash, so an equal page is stored once) and knows the new top. A child of a dirty
 * page that is itself dirty is found in the table first; the hash of it in its parent is stale until the flush. Open
 * replicas share the bound of dirty pages evenly; at its share a replica flushes its own. */
#include "dataplane/vault_private.h"

#include "base/assert.h"
#include "base/file.h"
#include "base/thread.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BUCKETS = 1024, DIRTY_LEAST = 16, SET_BATCH = 64 };

struct dirty_page {
    struct dirty_page *next;
    unsigned level;
    uint64_t index; /* of the page in its level */
    struct far_hash256 children[FAR_MAP_FANOUT];
};

struct far_replica {
    struct far_vault *vault;
    const struct far_domain *domain;
    uint64_t disk_id;         /* never changes; read by whoever takes the disk over, without the lock */
    struct far_replica *next; /* in vault->replicas, under replicas_lock */
    pthread_mutex_t lock;     /* everything below it */
    bool fenced;              /* another handle took over */
    struct far_fence fence;
    struct far_replica_file file; /* as durable */
    uint64_t rewound_to; /* since then: from this block on the tree is no longer what the frontier says; UINT64_MAX: not rewound */
    uint64_t size_bytes;
    uint64_t blocks;
    unsigned height;
    struct far_hash256 top; /* of the clean tree below the dirty pages */
    struct dirty_page *buckets[BUCKETS];
    size_t dirty_count;
};

/* ---- dirty pages ---- */

static struct dirty_page **bucket_of(struct far_replica *replica, unsigned level, uint64_t index)
{
    return &replica->buckets[(index * 31 + level * 7) % BUCKETS];
}

static struct dirty_page *find_dirty(struct far_replica *replica, unsigned level, uint64_t index)
{
    struct dirty_page *page = *bucket_of(replica, level, index);
    while (page != NULL && (page->level != level || page->index != index)) {
        page = page->next;
    }
    return page;
}

static void drop_dirty(struct far_replica *replica)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        while (replica->buckets[i] != NULL) {
            struct dirty_page *page = replica->buckets[i];
            replica->buckets[i] = page->next;
            free(page);
        }
    }
    replica->dirty_count = 0;
}

/* A dirty copy of the clean page with this hash. */
static int make_dirty(struct far_replica *replica, unsigned level, uint64_t index, const struct far_hash256 *id,
                      struct dirty_page **ret_page, struct far_error *err)
{
    struct dirty_page *page = malloc(sizeof *page);
    if (page == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a page of a replica");
    }
    int rc = far_vault_page(replica->vault, replica->domain, level, id, page->children, err);
    if (rc != 0) {
        free(page);
        return rc;
    }
    page->level = level;
    page->index = index;
    struct dirty_page **bucket = bucket_of(replica, level, index);
    page->next = *bucket;
    *bucket = page;
    replica->dirty_count++;
    *ret_page = page;
    return 0;
}

/* The leaf page of a block, dirty, and all pages above it. */
static int dirty_path(struct far_replica *replica, uint64_t block, struct dirty_page **ret_leaf_page,
                      struct far_error *err)
{
    struct far_hash256 id = replica->top;
    struct dirty_page *page = NULL;
    for (unsigned level = replica->height; level-- > 0;) {
        uint64_t index = block >> (8 * (level + 1));
        page = find_dirty(replica, level, index);
        int rc = page != NULL ? 0 : make_dirty(replica, level, index, &id, &page, err);
        if (rc != 0) {
            return rc;
        }
        id = page->children[(block >> (8 * level)) % FAR_MAP_FANOUT];
    }
    *ret_leaf_page = page;
    return 0;
}

/* Copies of the leaves of the page that holds `block`. */
static int read_leaf_page(struct far_replica *replica, uint64_t block, struct far_hash256 ret_leaves[FAR_MAP_FANOUT],
                          struct far_error *err)
{
    struct far_hash256 id = replica->top;
    for (unsigned level = replica->height; level-- > 0;) {
        struct dirty_page *page = find_dirty(replica, level, block >> (8 * (level + 1)));
        if (page != NULL) {
            memcpy(ret_leaves, page->children, FAR_MAP_PAGE_BYTES);
        } else {
            int rc = far_vault_page(replica->vault, replica->domain, level, &id, ret_leaves, err);
            if (rc != 0) {
                return rc;
            }
        }
        id = ret_leaves[(block >> (8 * level)) % FAR_MAP_FANOUT];
    }
    return 0;
}

static int flush_level(struct far_replica *replica, unsigned level, struct far_error *err)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct dirty_page *page = replica->buckets[i]; page != NULL; page = page->next) {
            struct far_hash256 id;
            if (page->level != level) {
                continue;
            }
            int rc = far_vault_store_page(replica->vault, replica->domain, level, page->children, &id, err);
            if (rc != 0) {
                return rc;
            }
            if (level + 1 == replica->height) {
                replica->top = id;
                continue;
            }
            struct dirty_page *parent = find_dirty(replica, level + 1, page->index / FAR_MAP_FANOUT);
            FAR_ASSERT(parent != NULL);
            parent->children[page->index % FAR_MAP_FANOUT] = id;
        }
    }
    return 0;
}

/* All dirty pages into the vault; afterwards `top` says everything. If it fails half way, nothing is lost: it is done
 * again by the next. */
static int flush(struct far_replica *replica, struct far_error *err)
{
    if (replica->dirty_count == 0) {
        return 0;
    }
    for (unsigned level = 0; level < replica->height; level++) {
        int rc = flush_level(replica, level, err);
        if (rc != 0) {
            return rc;
        }
    }
    drop_dirty(replica);
    return 0;
}

/* Levels of zeroes on top until the tree is as high as its size asks for. */
static int raise_tree(struct far_replica *replica, unsigned height, struct far_error *err)
{
    while (replica->height < height) {
        struct far_hash256 children[FAR_MAP_FANOUT];
        children[0] = replica->top;
        for (unsigned i = 1; i < FAR_MAP_FANOUT; i++) {
            children[i] = *far_map_zero(8 * replica->height);
        }
        int rc = far_vault_store_page(replica->vault, replica->domain, replica->height, children, &replica->top, err);
        if (rc != 0) {
            return rc;
        }
        replica->height++;
    }
    return 0;
}

/* ---- opening ---- */

static int compare_fences(const struct far_fence *a, const struct far_fence *b)
{
    const uint64_t x[] = {a->incarnation_epoch, a->plan_epoch, a->job, a->attempt};
    const uint64_t y[] = {b->incarnation_epoch, b->plan_epoch, b->job, b->attempt};
    for (size_t i = 0; i < 4; i++) {
        if (x[i] != y[i]) {
            return x[i] < y[i] ? -1 : 1;
        }
    }
    return 0;
}

static int refuse_fenced(const struct far_replica *replica, struct far_error *err)
{
    return replica->fenced ? far_fail(err, FAR_CONFLICT, "replica of disk %llu: a newer attempt has taken over",
                                      (unsigned long long)replica->disk_id)
                           : 0;
}

/* Whoever had the disk open has it no longer. Under replicas_lock. */
static void fence_off(struct far_vault *vault, uint64_t disk_id)
{
    struct far_replica **link = &vault->replicas;
    while (*link != NULL) {
        struct far_replica *other = *link;
        if (other->disk_id == disk_id) {
            pthread_mutex_lock(&other->lock);
            other->fenced = true;
            drop_dirty(other);
            pthread_mutex_unlock(&other->lock);
            *link = other->next;
        } else {
            link = &other->next;
        }
    }
}

/* What an attempt wrote of a larger disk is nothing to go on from: that no point is larger, who orders has seen to. Nor is what lies in
 * another domain. */
static void begin_anew(struct far_replica_file *file, uint16_t domain, uint64_t size_bytes)
{
    *file = (struct far_replica_file){
        .disk_id = file->disk_id, .fence = file->fence, .domain = domain, .size_bytes = size_bytes, .durable = file->durable};
    file->top = *far_map_zero(8 * far_map_height(size_bytes));
}

/* Under replicas_lock. */
static int read_mended(struct far_vault *vault, uint64_t disk_id, struct far_replica_file *ret_file, struct far_error *err)
{
    int rc = far_replica_file_read(vault, disk_id, ret_file, err);
    if (rc != FAR_CORRUPT || far_vault_check_writable(vault, NULL) != 0) {
        return rc;
    }
    for (struct far_replica *open = vault->replicas; open != NULL; open = open->next) {
        if (open->disk_id == disk_id) {
            pthread_mutex_lock(&open->lock);
            *ret_file = open->file;
            pthread_mutex_unlock(&open->lock);
            return far_replica_file_write(vault, ret_file, err);
        }
    }
    return far_replica_file_remake(vault, disk_id, ret_file, err);
}

int far_replica_file_mend(struct far_vault *vault, uint64_t disk_id, struct far_replica_file *ret_file, struct far_error *err)
{
    pthread_mutex_lock(&vault->replicas_lock);
    int rc = read_mended(vault, disk_id, ret_file, err);
    pthread_mutex_unlock(&vault->replicas_lock);
    return rc;
}

/* The durable state of the disk, or that of an empty one if there is none yet. */
static int read_state(struct far_vault *vault, const struct far_domain *domain, uint64_t disk_id, uint64_t size_bytes,
                      struct far_replica_file *ret_file, struct far_error *err)
{
    int rc = read_mended(vault, disk_id, ret_file, err);
    if (rc == FAR_NOT_FOUND) {
        *ret_file = (struct far_replica_file){.disk_id = disk_id, .domain = far_domain_number(domain), .size_bytes = size_bytes};
        ret_file->top = *far_map_zero(8 * far_map_height(size_bytes));
        rc = 0;
    }
    return rc;
}

/* Take the disk over: the new fence is durable, older handles are fenced off. Under replicas_lock. */
static int enter_fence(struct far_vault *vault, const struct far_domain *domain, uint64_t disk_id, uint64_t size_bytes,
                       const struct far_fence *fence, struct far_replica_file *ret_file, struct far_error *err)
{
    int rc = read_state(vault, domain, disk_id, size_bytes, ret_file, err);
    if (rc != 0) {
        return rc;
    }
    if (compare_fences(fence, &ret_file->fence) < 0) {
        return far_fail(err, FAR_CONFLICT, "replica of disk %llu: a newer job or epoch has written to it",
                        (unsigned long long)disk_id);
    }
    fence_off(vault, disk_id);
    rc = read_state(vault, domain, disk_id, size_bytes, ret_file, err); /* it may just have made a checkpoint */
    if (rc == 0 && (size_bytes < ret_file->size_bytes || ret_file->domain != far_domain_number(domain))) {
        begin_anew(ret_file, far_domain_number(domain), size_bytes);
    }
    if (rc == 0) {
        ret_file->fence = *fence;
        rc = far_replica_file_write(vault, ret_file, err);
    }
    return rc;
}

static int load_tree(struct far_replica *replica, uint64_t size_bytes, const struct far_hash256 *top,
                     uint64_t top_size_bytes, struct far_error *err)
{
    drop_dirty(replica);
    replica->top = *top;
    replica->height = far_map_height(top_size_bytes);
    replica->size_bytes = size_bytes;
    replica->blocks = far_map_block_count(size_bytes);
    return raise_tree(replica, far_map_height(size_bytes), err);
}

int far_replica_open(struct far_vault *vault, const struct far_domain *domain, uint64_t disk_id, uint64_t size_bytes,
                     const struct far_fence *fence, struct far_replica **ret_replica, struct far_error *err)
{
    int rc = far_vault_check_writable(vault, err);
    if (rc != 0) {
        return rc;
    }
    if (size_bytes == 0 || size_bytes > FAR_DISK_BYTES_MAX) {
        return far_fail(err, FAR_INVALID, "a disk of %llu bytes: must be 1 byte to 64 TiB",
                        (unsigned long long)size_bytes);
    }
    struct far_replica *replica = calloc(1, sizeof *replica);
    if (replica == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a replica");
    }
    replica->vault = vault;
    replica->domain = domain;
    replica->disk_id = disk_id;
    replica->fence = *fence;
    replica->rewound_to = UINT64_MAX;
    far_mutex_init_brief(&replica->lock);
    __atomic_add_fetch(&vault->replicas_open, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&vault->replicas_lock);
    rc = enter_fence(vault, domain, disk_id, size_bytes, fence, &replica->file, err);
    if (rc == 0) {
        rc = load_tree(replica, size_bytes, &replica->file.top, replica->file.size_bytes, err);
    }
    if (rc == 0) {
        replica->next = vault->replicas;
        vault->replicas = replica;
    }
    pthread_mutex_unlock(&vault->replicas_lock);
    if (rc != 0) {
        far_replica_close(replica);
        return rc;
    }
    *ret_replica = replica;
    return 0;
}

void far_replica_close(struct far_replica *replica)
{
    if (replica == NULL) {
        return;
    }
    struct far_vault *vault = replica->vault;
    pthread_mutex_lock(&vault->replicas_lock);
    for (struct far_replica **link = &vault->replicas; *link != NULL; link = &(*link)->next) {
        if (*link == replica) {
            *link = replica->next;
            break;
        }
    }
    pthread_mutex_unlock(&vault->replicas_lock);
    __atomic_sub_fetch(&vault->replicas_open, 1, __ATOMIC_RELAXED);
    drop_dirty(replica);
    pthread_mutex_destroy(&replica->lock);
    free(replica);
}

static bool is_open(const struct far_vault *vault, uint64_t disk_id)
{
    const struct far_replica *replica = vault->replicas;
    while (replica != NULL && replica->disk_id != disk_id) {
        replica = replica->next;
    }
    return replica != NULL;
}

bool far_replica_is_open(struct far_vault *vault, uint64_t disk_id)
{
    pthread_mutex_lock(&vault->replicas_lock);
    bool is = is_open(vault, disk_id);
    pthread_mutex_unlock(&vault->replicas_lock);
    return is;
}

int far_replica_drop(struct far_vault *vault, uint64_t disk_id, struct far_error *err)
{
    static const char *const suffixes[] = {"tags", "replica"};
    char path[FAR_DIR_MAX + 64];
    pthread_mutex_lock(&vault->replicas_lock);
    int rc = is_open(vault, disk_id) ? far_fail(err, FAR_BUSY, "the replica is open") : 0;
    for (size_t i = 0; rc == 0 && i < 2; i++) {
        snprintf(path, sizeof path, "%s/replicas/%llu.%s", vault->dir, (unsigned long long)disk_id, suffixes[i]);
        rc = unlink(path) == 0 || errno == ENOENT ? 0 : far_fail_errno(err, FAR_IO, errno, "remove '%s'", path);
    }
    snprintf(path, sizeof path, "%s/replicas", vault->dir);
    rc = rc == 0 ? far_file_sync_dir(path, err) : rc;
    pthread_mutex_unlock(&vault->replicas_lock);
    return rc;
}

static void state_of_file(const struct far_replica_file *file, struct far_replica_state *ret_state)
{
    memset(ret_state, 0, sizeof *ret_state);
    ret_state->size_bytes = file->size_bytes;
    far_map_bind_root(file->size_bytes, &file->top, &ret_state->root);
    ret_state->job = file->job;
    ret_state->fence = file->fence;
    ret_state->frontier_blocks = file->frontier_blocks;
    memcpy(ret_state->freeze_ref, file->freeze_ref, sizeof ret_state->freeze_ref);
}

void far_replica_state(struct far_replica *replica, struct far_replica_state *ret_state)
{
    pthread_mutex_lock(&replica->lock);
    state_of_file(&replica->file, ret_state);
    pthread_mutex_unlock(&replica->lock);
}

int far_vault_replica_state(struct far_vault *vault, uint64_t disk_id, struct far_replica_state *ret_state,
                            struct far_error *err)
{
    struct far_replica_file file;
    int rc = far_replica_file_mend(vault, disk_id, &file, err);
    if (rc == 0) {
        state_of_file(&file, ret_state);
    }
    return rc;
}

uint64_t far_replica_size(struct far_replica *replica)
{
    return replica->size_bytes; /* fixed at open */
}

uint64_t far_replica_blocks(struct far_replica *replica)
{
    return replica->blocks;
}

const struct far_domain *far_replica_domain(const struct far_replica *replica)
{
    return replica->domain;
}

/* ---- leaves ---- */

static int check_range(const struct far_replica *replica, uint64_t first, uint64_t count, struct far_error *err)
{
    if (first > replica->blocks || count > replica->blocks - first) {
        return far_fail(err, FAR_INVALID, "block %llu is behind the end of disk %llu",
                        (unsigned long long)(first + count), (unsigned long long)replica->disk_id);
    }
    return 0;
}

int far_replica_get_many(struct far_replica *replica, uint64_t first, size_t count, struct far_hash256 *ret_leaves,
                         struct far_error *err)
{
    struct far_hash256 page[FAR_MAP_FANOUT];
    int rc = check_range(replica, first, count, err);
    for (size_t done = 0; rc == 0 && done < count;) {
        size_t at = (size_t)((first + done) % FAR_MAP_FANOUT);
        size_t batch = FAR_MAP_FANOUT - at < count - done ? FAR_MAP_FANOUT - at : count - done;
        pthread_mutex_lock(&replica->lock);
        rc = refuse_fenced(replica, err);
        if (rc == 0) {
            rc = read_leaf_page(replica, first + done, page, err);
        }
        pthread_mutex_unlock(&replica->lock);
        memcpy(ret_leaves + done, page + at, rc == 0 ? batch * sizeof page[0] : 0);
        done += batch;
    }
    return rc;
}

int far_replica_get(struct far_replica *replica, uint64_t index, struct far_hash256 *ret_leaf, struct far_error *err)
{
    return far_replica_get_many(replica, index, 1, ret_leaf, err);
}

static uint64_t dirty_share(struct far_vault *vault)
{
    uint64_t share = vault->dirty_pages_max / __atomic_load_n(&vault->replicas_open, __ATOMIC_RELAXED);
    return share > DIRTY_LEAST ? share : DIRTY_LEAST;
}

/* `count` leaves of one page from `first` on become this one. Under the replica's lock. */
static int set_in_page(struct far_replica *replica, uint64_t first, size_t count, const struct far_hash256 *leaf,
                       struct far_error *err)
{
    struct dirty_page *page;
    int rc = 0;
    if (replica->dirty_count >= dirty_share(replica->vault)) {
        rc = flush(replica, err);
    }
    if (rc == 0) {
        rc = dirty_path(replica, first, &page, err);
    }
    for (size_t i = 0; rc == 0 && i < count; i++) {
        page->children[first % FAR_MAP_FANOUT + i] = *leaf;
    }
    return rc;
}

/* Are these blocks of this disk, and does the vault hold each? Under the replica's lock. */
static int check_there(struct far_replica *replica, const uint64_t *indices, const struct far_hash256 *leaves, size_t count,
                       struct far_error *err)
{
    bool there[SET_BATCH] = {false};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = check_range(replica, indices[i], 1, err);
    }
    rc = rc == 0 ? far_vault_has(replica->vault, replica->domain, leaves, count, there, err) : rc;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (!there[i]) {
            rc = far_fail(err, FAR_NOT_FOUND, "block %llu of disk %llu: the vault does not hold its bytes",
                          (unsigned long long)indices[i], (unsigned long long)replica->disk_id);
        }
    }
    return rc;
}

int far_replica_set_many(struct far_replica *replica, const uint64_t *indices, const struct far_hash256 *leaves,
                         size_t count, struct far_error *err)
{
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < count; at += SET_BATCH) {
        size_t batch = count - at < SET_BATCH ? count - at : SET_BATCH;
        pthread_mutex_lock(&replica->lock);
        rc = refuse_fenced(replica, err);
        /* Under the lock: between the two reclaim must not look at the tree (far_vault_settle_replicas). */
        rc = rc == 0 ? check_there(replica, indices + at, leaves + at, batch, err) : rc;
        for (size_t i = at; rc == 0 && i < at + batch; i++) {
            rc = set_in_page(replica, indices[i], 1, &leaves[i], err);
        }
        pthread_mutex_unlock(&replica->lock);
    }
    return rc;
}

int far_replica_set(struct far_replica *replica, uint64_t index, const struct far_hash256 *leaf,
                    struct far_error *err)
{
    return far_replica_set_many(replica, &index, leaf, 1, err);
}

/* Is every one of these leaves of one page the zero leaf already? Under the replica's lock. */
static int is_zero_already(struct far_replica *replica, uint64_t first, size_t count, bool *ret_zero,
                           struct far_error *err)
{
    struct far_hash256 page[FAR_MAP_FANOUT];
    int rc = read_leaf_page(replica, first, page, err);
    *ret_zero = true;
    for (size_t i = 0; rc == 0 && *ret_zero && i < count; i++) {
        *ret_zero = far_hash256_equal(&page[first % FAR_MAP_FANOUT + i], far_zero_leaf());
    }
    return rc;
}

int far_replica_set_zero(struct far_replica *replica, uint64_t first, uint64_t count, struct far_error *err)
{
    int rc = check_range(replica, first, count, err);
    pthread_mutex_lock(&replica->lock);
    rc = rc != 0 ? rc : refuse_fenced(replica, err);
    while (rc == 0 && count > 0) {
        bool already;
        size_t at = (size_t)(first % FAR_MAP_FANOUT);
        size_t batch = FAR_MAP_FANOUT - at < count ? FAR_MAP_FANOUT - at : (size_t)count;
        rc = is_zero_already(replica, first, batch, &already, err);
        if (rc == 0 && !already) {
            rc = set_in_page(replica, first, batch, far_zero_leaf(), err);
        }
        first += batch;
        count -= batch;
    }
    pthread_mutex_unlock(&replica->lock);
    return rc;
}

/* ---- checkpoints ---- */

int far_replica_root(struct far_replica *replica, struct far_hash256 *ret_root, struct far_error *err)
{
    pthread_mutex_lock(&replica->lock);
    int rc = refuse_fenced(replica, err);
    if (rc == 0) {
        rc = flush(replica, err);
    }
    if (rc == 0) {
        far_map_bind_root(replica->size_bytes, &replica->top, ret_root);
    }
    pthread_mutex_unlock(&replica->lock);
    return rc;
}

/* Under the replica's lock. */
static int checkpoint(struct far_replica *replica, uint64_t frontier_blocks, const char *freeze_ref,
                      struct far_error *err)
{
    struct far_hash256 root;
    int rc = flush(replica, err);
    if (rc == 0) {
        rc = far_vault_root_store(replica->vault, replica->domain, replica->size_bytes, &replica->top, &root, err);
    }
    if (rc == 0) {
        rc = far_vault_sync(replica->vault, err);
    }
    if (rc != 0) {
        return rc;
    }
    struct far_replica_file file = replica->file;
    file.size_bytes = replica->size_bytes;
    file.top = replica->top;
    file.job = replica->fence.job;
    file.frontier_blocks = frontier_blocks;
    memset(file.freeze_ref, 0, sizeof file.freeze_ref);
    memcpy(file.freeze_ref, freeze_ref, strlen(freeze_ref));
    pthread_mutex_lock(&replica->vault->lock);
    file.durable = replica->vault->durable;
    pthread_mutex_unlock(&replica->vault->lock);
    rc = far_replica_file_write(replica->vault, &file, err);
    if (rc == 0) {
        replica->file = file;
        replica->rewound_to = UINT64_MAX;
    }
    return rc;
}

int far_replica_checkpoint(struct far_replica *replica, uint64_t frontier_blocks, const char *freeze_ref,
                           struct far_error *err)
{
    if (frontier_blocks > replica->blocks || strlen(freeze_ref) >= sizeof replica->file.freeze_ref) {
        return far_fail(err, FAR_INVALID, "a checkpoint of disk %llu behind its end, or with too long a name",
                        (unsigned long long)replica->disk_id);
    }
    pthread_mutex_lock(&replica->lock);
    int rc = refuse_fenced(replica, err);
    if (rc == 0) {
        rc = checkpoint(replica, frontier_blocks, freeze_ref, err);
    }
    pthread_mutex_unlock(&replica->lock);
    return rc;
}

/* The tree as it is now, durable as the last checkpoint's: what it says of a frontier stays true, for behind that a resumed job goes
 * back to its base. Where the tree itself went back since, the frontier goes with it. Where the last checkpoint is of an earlier job,
 * this one's is at its beginning. Under the replica's lock. */
static int settle(struct far_replica *replica, struct far_error *err)
{
    int rc = flush(replica, err);
    bool same = far_hash256_equal(&replica->file.top, &replica->top) && replica->file.size_bytes == replica->size_bytes;
    if (rc != 0 || same) {
        return rc;
    }
    bool ours = replica->file.job == replica->fence.job;
    char freeze_ref[sizeof replica->file.freeze_ref];
    uint64_t frontier = replica->file.frontier_blocks < replica->rewound_to ? replica->file.frontier_blocks : replica->rewound_to;
    memcpy(freeze_ref, replica->file.freeze_ref, sizeof freeze_ref);
    return checkpoint(replica, ours ? frontier : 0, ours ? freeze_ref : "", err);
}

int far_vault_settle_replicas(struct far_vault *vault, struct far_error *err)
{
    int rc = 0;
    pthread_mutex_lock(&vault->replicas_lock);
    for (struct far_replica *replica = vault->replicas; rc == 0 && replica != NULL; replica = replica->next) {
        pthread_mutex_lock(&replica->lock);
        rc = replica->fenced ? 0 : settle(replica, err);
        pthread_mutex_unlock(&replica->lock);
    }
    pthread_mutex_unlock(&vault->replicas_lock);
    return rc;
}

/* The page of a tree that is `ours` before the block and `theirs` from there on. */
static int splice(struct far_replica *replica, unsigned level, uint64_t index, const struct far_hash256 *ours,
                  const struct far_hash256 *theirs, uint64_t from_block, struct far_hash256 *ret_id, struct far_error *err)
{
    struct far_hash256 left[FAR_MAP_FANOUT], right[FAR_MAP_FANOUT];
    uint64_t span = 1ull << (8 * (level + 1)), first = index * span;
    if (far_hash256_equal(ours, theirs) || from_block <= first || from_block >= first + span) {
        *ret_id = from_block <= first ? *theirs : *ours;
        return 0;
    }
    int rc = far_vault_page(replica->vault, replica->domain, level, ours, left, err);
    rc = rc == 0 ? far_vault_page(replica->vault, replica->domain, level, theirs, right, err) : rc;
    unsigned at = (unsigned)((from_block - first) / (span / FAR_MAP_FANOUT));
    for (unsigned i = at + (level == 0 ? 0 : 1); rc == 0 && i < FAR_MAP_FANOUT; i++) {
        left[i] = right[i];
    }
    if (rc == 0 && level > 0) {
        rc = splice(replica, level - 1, index * FAR_MAP_FANOUT + at, &left[at], &right[at], from_block, &left[at], err);
    }
    return rc == 0 ? far_vault_store_page(replica->vault, replica->domain, level, left, ret_id, err) : rc;
}

int far_replica_rewind(struct far_replica *replica, const struct far_hash256 *root, uint64_t from_block,
                       struct far_error *err)
{
    uint64_t size = replica->size_bytes;
    struct far_hash256 top = *far_map_zero(8 * far_map_height(size)), ours;
    int rc = root != NULL ? far_vault_root_load(replica->vault, replica->domain, root, &size, &top, err) : 0;
    if (rc == 0 && size > replica->size_bytes) {
        rc = far_fail(err, FAR_CONFLICT, "disk %llu is smaller than the point it is to go back to",
                      (unsigned long long)replica->disk_id);
    }
    if (rc != 0) {
        return rc;
    }
    pthread_mutex_lock(&replica->lock);
    rc = refuse_fenced(replica, err);
    rc = rc == 0 ? flush(replica, err) : rc;
    if (rc == 0) {
        ours = replica->top;
        rc = far_vault_hold_tree(replica->vault, replica->domain, size, &top, &ours, replica->size_bytes, err);
    }
    if (rc == 0) {
        rc = load_tree(replica, replica->size_bytes, &top, size, err);
        rc = rc == 0 ? splice(replica, replica->height - 1, 0, &ours, &replica->top, from_block, &replica->top, err) : rc;
        if (rc != 0) { /* as it was: reclaim may make durable what it finds here (settle) */
            replica->top = ours;
            replica->height = far_map_height(replica->size_bytes);
        } else {
            replica->rewound_to = from_block < replica->rewound_to ? from_block : replica->rewound_to;
        }
    }
    pthread_mutex_unlock(&replica->lock);
    return rc;
}
