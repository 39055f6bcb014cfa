/* The Merkle map of a disk as its source works on it: pages of the tree (map.h) that are open between the first and the
 * last change below them, so memory grows with what is in work and neither with the disk nor with the change.
 *
 * A page begins as it was in the base point: known (zero, or no base: then it is as an empty disk's), or from the cache
 * file, or asked of the target. Every page that comes from anywhere is held against its parent's hash, the top page against
 * the base root in the log: cache and target need not be trusted. Leaves are set while their page is open. When everything
 * below a block is settled, pages before it are closed: hashed into their parents, written to the cache file, forgotten.
 *
 * The cache file holds pages in place (docs/FORMATS.md, "pages of a source"); what is stale or damaged in it is simply not
 * the page that was looked for. Beside it a journal says which pages of a view that is still in transfer were closed, so
 * that a source that starts again goes on where it was. The loss of either costs pages asked of the target, or reading
 * and hashing again, never a wrong root.
 *
 * Threads: any, at once; blocking file work. Lifetime: one transfer. */
#ifndef FAR_DATAPLANE_SOURCE_MAP_H
#define FAR_DATAPLANE_SOURCE_MAP_H

#include "dataplane/map.h"

struct far_source_map;

enum {
    FAR_SOURCE_MAP_ASKED_MAX = 256, /* pages asked of the target and not there yet; beyond: FAR_BUSY until some came */
};

struct far_source_map_config {
    const char *dir; /* of cache and journal; NULL: neither. Borrowed for the call */
    uint64_t disk_id;
    uint64_t size_bytes;
    bool has_base;
    struct far_hash256 base_root;
    uint64_t job_id;        /* of the journal; with the view's name */
    const char *freeze_ref; /* "": a view without a name is never taken up again */
    /* May be NULL. Told while the map is made: blocks that an earlier attempt on the view found changed and not listed. */
    void (*missed)(void *arg, uint64_t block);
    void *missed_arg;
};

/* FAR_INVALID: an impossible size; FAR_LIMIT: no memory. What is wrong with the files is no error. */
int far_source_map_new(const struct far_source_map_config *config, struct far_source_map **ret_map,
                       struct far_error *err);
void far_source_map_free(struct far_source_map *map); /* NULL is allowed */
uint64_t far_source_map_blocks(const struct far_source_map *map);

/* Everything before this block is known from an earlier attempt on the same view, by its journal. */
uint64_t far_source_map_known(const struct far_source_map *map);
/* A session begins. resume_block: nothing before it is hashed again, at most what is known. base_bytes: how large the
 * disk was in the base point, by the target's word: the top page shows whether it is true. has_base false: the target
 * has not the base either, or nobody can be asked: every block will be set. */
void far_source_map_begin(struct far_source_map *map, uint64_t resume_block, bool has_base, uint64_t base_bytes);

/* Opens the page of a block. FAR_BUSY: it has been asked of the target (far_source_map_next_ask), or must wait for one
 * that has; try again when a page came. */
int far_source_map_open(struct far_source_map *map, uint64_t block, struct far_error *err);
/* Is all there that the root will need, whatever is set? FAR_BUSY as above. */
int far_source_map_ready(struct far_source_map *map, struct far_error *err);
/* The page of the block is open: sets the leaf, and says whether that is another one than before. */
bool far_source_map_set(struct far_source_map *map, uint64_t block, const struct far_hash256 *leaf);

/* The next page to ask the target for; false: none. */
bool far_source_map_next_ask(struct far_source_map *map, unsigned *ret_level, uint64_t *ret_index);
/* All pages that were asked for and have not come are to be asked for again: a connection was lost. */
void far_source_map_ask_again(struct far_source_map *map);
/* A page from the target. FAR_CORRUPT: it is not what the base root says; FAR_INVALID: nobody asked for it. */
int far_source_map_take(struct far_source_map *map, unsigned level, uint64_t index,
                        const struct far_hash256 hashes[FAR_MAP_FANOUT], struct far_error *err);

/* Nothing before the block is in work: pages there in which nothing differs from the base need not stay open. */
void far_source_map_pass(struct far_source_map *map, uint64_t block);
/* Many pages were opened since then: it is time. */
bool far_source_map_is_crowded(struct far_source_map *map);
/* So many pages without a difference are open, although that was done, that whoever is ahead of others should wait for them. */
bool far_source_map_is_full(struct far_source_map *map);
/* Nothing before the block will be set any more. FAR_BUSY: pages above must come first; try again. */
int far_source_map_close_to(struct far_source_map *map, uint64_t block, struct far_error *err);
/* The audit found that the block changed although no list said so: the journal keeps it for whoever ends this view. */
void far_source_map_missed(struct far_source_map *map, uint64_t block);
/* Everything before the block is durable at the target: the journal says so. */
void far_source_map_durable(struct far_source_map *map, uint64_t block);
/* After far_source_map_close_to() the end of the disk. */
void far_source_map_root(const struct far_source_map *map, struct far_hash256 *ret_root);
/* The transfer is complete: the journal is not needed any more. */
void far_source_map_finish(struct far_source_map *map);
/* Bytes of open pages: for tests of its bound. */
size_t far_source_map_open_bytes(struct far_source_map *map);

#endif
