/* Verifying one disk of a point: see vault.h. The walk goes down the pages, past the cache, and leaves out what was verified before; the
 * blocks that it meets gather in a queue, and are read and hashed by all processors. */
#include "base/thread.h"
#include "dataplane/leaf_lanes.h"
#include "dataplane/vault_private.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TOGETHER = 16, /* blocks hashed at once: as many as there are lanes */
    QUEUE = 512,   /* 32 MiB of the disk */
};

/* A block to be read and hashed, and what came of it. */
struct block {
    uint64_t index;
    struct far_hash256 leaf;
    int rc;
    struct far_error cause;
};

struct verify {
    struct far_vault *vault;
    const struct far_domain *domain;
    void (*damage)(void *arg, const struct far_point_damage *damage);
    int (*progress)(void *arg, uint64_t blocks_done, uint64_t blocks);
    void *arg;
    struct far_verify_result result;
    uint64_t first_block; /* those before it were looked at by an earlier part */
    uint64_t bytes_max;   /* to read */
    uint64_t stopped_at;  /* the block at which they were used up; UINT64_MAX: they were not */
    uint64_t blocks; /* of the disk */
    struct block *queue; /* QUEUE of them: met by the walk, and not looked at yet */
    size_t count;
    _Atomic size_t next;  /* of the queue, for whoever looks at them */
    uint8_t *room;        /* TOGETHER blocks a worker */
    size_t workers;
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
    uint64_t rest = first < verify->blocks ? verify->blocks - first : 0;
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

/* One worker: batches of the queue, as many blocks as are hashed at once. */
static void look_at_blocks(void *arg, size_t which)
{
    struct verify *verify = arg;
    uint8_t *room = verify->room + which * TOGETHER * FAR_BLOCK_BYTES;
    for (;;) {
        struct block *read[TOGETHER];
        const uint8_t *bytes[TOGETHER];
        struct far_hash256 computed[TOGETHER];
        size_t first = atomic_fetch_add(&verify->next, TOGETHER), count = 0;
        for (size_t i = first; i < first + TOGETHER && i < verify->count; i++) {
            struct block *block = &verify->queue[i];
            bytes[count] = room + count * FAR_BLOCK_BYTES;
            block->rc = far_vault_get(verify->vault, verify->domain, &block->leaf, false, room + count * FAR_BLOCK_BYTES, &block->cause);
            if (block->rc == 0) {
                read[count++] = block;
            }
        }
        far_block_leaves(bytes, count, computed);
        for (size_t i = 0; i < count; i++) {
            if (!far_hash256_equal(&computed[i], &read[i]->leaf)) {
                read[i]->rc = far_vault_note_wrong(verify->vault, verify->domain, &read[i]->leaf, FAR_WRONG_BLOCK,
                                                   &read[i]->cause);
            }
        }
        if (first + TOGETHER >= verify->count) {
            return;
        }
    }
}

/* Those of the queue, by all processors; what is damaged is told in the order of the disk. */
static int look_at_queue(struct verify *verify, struct far_error *err)
{
    size_t batches = (verify->count + TOGETHER - 1) / TOGETHER;
    int rc = 0;
    atomic_store(&verify->next, 0);
    if (batches > 0) {
        far_thread_side_by_side("verify", batches < verify->workers ? batches : verify->workers, look_at_blocks, verify);
    }
    for (size_t i = 0; rc == 0 && i < verify->count; i++) {
        struct block *block = &verify->queue[i];
        verify->result.bytes_read -= block->rc == 0 ? 0 : FAR_BLOCK_BYTES;
        rc = verdict(verify, block->rc, &(struct place){.first = block->index, .count = 1, .id = &block->leaf}, &block->cause, err);
    }
    verify->count = 0;
    return rc;
}

static int verify_block(struct verify *verify, uint64_t index, const struct far_hash256 *leaf, struct far_error *err)
{
    verify->result.blocks++;
    if (far_hash256_equal(leaf, far_zero_leaf())) {
        return 0;
    }
    verify->result.bytes_read += FAR_BLOCK_BYTES; /* less those that cannot be read */
    verify->queue[verify->count].index = index;
    verify->queue[verify->count++].leaf = *leaf;
    return verify->count == QUEUE ? look_at_queue(verify, err) : 0;
}

/* A page past the cache: what is on the disk is what counts. Its hash must be its name. */
static int load_page(struct verify *verify, const struct far_hash256 *id,
                     struct far_hash256 ret_children[FAR_MAP_FANOUT], struct far_error *err)
{
    struct far_hash256 computed;
    int rc = far_vault_load(verify->vault, verify->domain, FAR_RECORD_PAGE, id, ret_children, FAR_MAP_PAGE_BYTES, err);
    if (rc == 0) {
        far_map_page_hash(ret_children, &computed);
        if (!far_hash256_equal(&computed, id)) {
            rc = far_vault_note_wrong(verify->vault, verify->domain, id, "the page is not the one of its id (SHA-256)", err);
        }
    }
    return rc;
}

static int report_progress(struct verify *verify, struct far_error *err)
{
    if (verify->progress != NULL &&
        verify->progress(verify->arg, verify->result.blocks, verify->blocks) != 0) {
        return far_fail(err, FAR_CANCELED, "the verification was canceled");
    }
    return 0;
}

/* The same page of the point that was verified before; false: it has none, or it cannot be read. */
static bool known_page(struct verify *verify, unsigned level, const struct far_hash256 *id,
                       struct far_hash256 ret_children[FAR_MAP_FANOUT])
{
    return id != NULL && far_vault_page(verify->vault, verify->domain, level, id, ret_children, NULL) == 0;
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
        struct place place = {.is_page = true, .level = level, .first = first, .count = below, .id = id};
        int looked = look_at_queue(verify, err); /* damage before it is told before it */
        verify->result.blocks += below;
        return looked == 0 ? verdict(verify, rc, &place, &cause, err) : looked;
    }
    bool has_before = known_page(verify, level, known, before);
    for (unsigned i = 0; rc == 0 && i < FAR_MAP_FANOUT; i++) {
        uint64_t child_first = first + ((uint64_t)i << (8 * level));
        if (child_first >= verify->blocks || verify->stopped_at != UINT64_MAX) {
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
    uint64_t size = far_point_size(point), blocks = far_map_block_count(size);
    unsigned height = far_map_height(size);
    /* In another domain the same lies there a second time, and was not verified. */
    bool is_known = since != NULL && far_map_height(far_point_size(since)) == height &&
                    far_point_domain(since) == far_point_domain(point);
    struct verify verify = {.vault = far_point_vault(point), .domain = far_point_domain(point), .damage = damage,
                            .progress = progress, .arg = arg, .stopped_at = UINT64_MAX, .blocks = blocks,
                            .first_block = part->first_block, .bytes_max = part->bytes_max, .workers = far_thread_processors()};
    verify.queue = malloc(QUEUE * sizeof *verify.queue);
    verify.room = malloc(verify.workers * TOGETHER * FAR_BLOCK_BYTES);
    int rc = verify.queue != NULL && verify.room != NULL
                 ? verify_page(&verify, height - 1, 0, far_point_top(point), is_known ? far_point_top(since) : NULL, err)
                 : far_fail(err, FAR_LIMIT, "no memory to verify a point");
    rc = rc == 0 ? look_at_queue(&verify, err) : rc;
    free(verify.queue);
    free(verify.room);
    if (rc != 0) {
        return rc;
    }
    part->next_block = verify.stopped_at != UINT64_MAX ? verify.stopped_at : blocks;
    if (verify.result.blocks_damaged == 0 && part->first_block == 0 && part->next_block == blocks) {
        /* Every block has the hash of its leaf (known ones had it), every page that of its parent's entry: the root follows. */
        far_map_bind_root(size, far_point_top(point), &verify.result.root);
    }
    *ret_result = verify.result;
    if (verify.result.blocks_damaged != 0) {
        return far_fail(err, FAR_CORRUPT, "%llu of %llu blocks cannot be given back",
                        (unsigned long long)verify.result.blocks_damaged, (unsigned long long)blocks);
    }
    return 0;
}
