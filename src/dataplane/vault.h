/* The vault: the store of replicas on a recovery node (DESIGN.md section 9).
 *
 * A folder with append-only packs of records (blocks, pages of Merkle trees, roots; each named by its hash), an LMDB
 * index that is only a cache rebuilt from the packs, one small file for each replica (its fence, its tree, how far its
 * job got) and one signed manifest for each sealed point. Equal blocks are stored once. What is acknowledged as durable
 * survives kill -9 and power cuts; every record that is read is checked (XXH3), and a damaged one is named (pack file,
 * offset, id) and never returned.
 *
 * Threads: all functions block and may be called from any thread, also at once, unless said otherwise. One process
 * writes at a time (flock). Lifetime: replicas and points are closed before their vault. Full disk: FAR_LIMIT, nothing
 * that was acknowledged is lost, and the same call works again when there is space. After a failed fdatasync (other
 * than for space) the vault refuses to write until it is opened anew: FAR_IO.
 *
 * Memory is bounded whatever the size of the disks: write buffer 4 MiB, pages `cache_bytes_max` (dirty ones included),
 * names not yet in the index 4 MiB, one transaction of the index about 40 MiB at worst. */
#ifndef FAR_DATAPLANE_VAULT_H
#define FAR_DATAPLANE_VAULT_H

#include "dataplane/domain.h"
#include "dataplane/manifest.h"
#include "dataplane/map.h"

struct far_vault;

struct far_vault_options {
    bool create;              /* make the folder and an empty vault if there is none */
    bool read_only;           /* take no lock, write nothing; may be used beside a running node */
    uint64_t pack_bytes_max;  /* 0 = 256 MiB; at least 1 MiB */
    uint64_t cache_bytes_max; /* pages of trees kept in memory; 0 = 16 MiB; at least 1 MiB */
};

/* Opens, and repairs what a crash left: the torn tail of the last pack is cut, the index catches up or is rebuilt.
 * options NULL: an existing vault, defaults. FAR_NOT_FOUND: no vault there; FAR_BUSY: another process writes to it;
 * FAR_CORRUPT: its own small files are damaged (damage inside packs does not stop it from opening, see
 * far_vault_stats). */
int far_vault_open(const char *dir, const struct far_vault_options *options, struct far_vault **ret_vault,
                   struct far_error *err);
/* Makes what was put durable if it can, and closes. NULL is allowed. */
void far_vault_close(struct far_vault *vault);

struct far_vault_stats {
    uint64_t packs;         /* files */
    uint64_t pack_bytes;    /* of all packs, without what was given back */
    uint64_t records;       /* names in the index and waiting for it */
    uint64_t blocks_put;    /* new blocks since open */
    uint64_t blocks_known;  /* puts of blocks that were there already, since open */
    uint64_t bytes_written; /* to packs since open */
    uint64_t damages;       /* damaged places seen since open (scan at open, reads, verifications) */
    char damage[512];       /* the newest of them, in words; "" if none */
    bool index_rebuilt;     /* at this open */
    uint64_t tail_cut;      /* bytes of torn tail cut at this open */
    bool is_disk_full;      /* at this open: room had to be made for it */
};
void far_vault_stats(struct far_vault *vault, struct far_vault_stats *ret_stats);

/* A file of some MiB that holds nothing: whoever opens the vault to write, or a pass of reclaim, gives it up when the disk is too full
 * to begin. Makes it if it is not there and there is space; opening does, too. */
void far_vault_reserve_keep(struct far_vault *vault);

/* ---- blocks ---- */

/* What names a block, page or root here is its hash; the domain (domain.h; NULL: the plain one) says under which id it lies in the
 * store, and with which keys. */

enum far_codec {
    FAR_CODEC_RAW = 0,
    FAR_CODEC_ZSTD = 1, /* one zstd frame */
};

/* Which of these blocks does the vault hold? The zero block counts as held. FAR_IO only if the index cannot be read. */
int far_vault_has(struct far_vault *vault, const struct far_domain *domain, const struct far_hash256 *hashes, size_t count,
                  bool *ret_has, struct far_error *err);
/* Store one block as it came: `id` is the leaf of the uncompressed block of 64 KiB; the caller has checked that it is
 * (the vault does not hash again). data is copied before the call returns. A block that is there already, and the zero
 * block, cost nothing. Not durable before far_vault_sync() or a checkpoint; visible to has and get at once.
 * FAR_INVALID: len 0 or above 64 KiB, or raw and not 64 KiB; FAR_LIMIT: disk full. */
int far_vault_put(struct far_vault *vault, const struct far_domain *domain, const struct far_hash256 *id, enum far_codec codec,
                  const void *data, size_t len, struct far_error *err);
/* The same for several blocks in one go, which is cheaper. On an error those before the failing one may be stored;
 * FAR_INVALID: none is. */
struct far_vault_block {
    struct far_hash256 id;
    enum far_codec codec;
    const void *data;
    size_t len;
};
int far_vault_put_many(struct far_vault *vault, const struct far_domain *domain, const struct far_vault_block *blocks,
                       size_t count, struct far_error *err);
/* One block, uncompressed, into 64 KiB. XXH3 is always checked, SHA-256 too if check_sha. FAR_NOT_FOUND; FAR_CORRUPT
 * names pack, offset and id; from then on has() says that it is not there, so that a new put heals it. */
int far_vault_get(struct far_vault *vault, const struct far_domain *domain, const struct far_hash256 *id, bool check_sha,
                  void *ret_block, struct far_error *err);
/* Everything put before is durable when this returns 0. */
int far_vault_sync(struct far_vault *vault, struct far_error *err);

/* ---- replicas: the disk as the target has it now ---- */

/* Who writes. Ordered by incarnation_epoch, then plan_epoch, then job, then attempt. */
struct far_fence {
    uint64_t incarnation_epoch;
    uint64_t plan_epoch;
    uint64_t job;
    uint64_t attempt;
};

struct far_replica;

/* What the last checkpoint of a replica says. */
struct far_replica_state {
    uint64_t size_bytes;
    struct far_hash256 root;  /* of the tree at that checkpoint */
    uint64_t job;             /* that made it; 0 = never */
    struct far_fence fence;   /* the highest that was ever seen, its job at least that one */
    uint64_t frontier_blocks; /* of that job: all blocks before this one are as in its frozen view */
    char freeze_ref[129];     /* of that job */
};

/* Opens the replica of a disk for writing, new (all zeroes) if there is none. The fence is made durable before this
 * returns; an older one than the highest ever seen is refused with FAR_CONFLICT. A handle that is open for the same disk
 * with an equal or older fence is fenced off: its calls return FAR_CONFLICT from now on (it still has to be closed), and
 * what it did not checkpoint is gone. The tree is the one of the last checkpoint. A larger size grows it with zeroes; with a
 * smaller one it is a new one again: an attempt that failed may have seen a larger disk; so it is in another domain than before. */
int far_replica_open(struct far_vault *vault, const struct far_domain *domain, uint64_t disk_id, uint64_t size_bytes,
                     const struct far_fence *fence, struct far_replica **ret_replica, struct far_error *err);
/* Drops what was not checkpointed. NULL is allowed. */
void far_replica_close(struct far_replica *replica);
/* The last checkpoint, as durable. To resume: if job and freeze_ref are those of the order, go on at frontier_blocks. */
void far_replica_state(struct far_replica *replica, struct far_replica_state *ret_state);
uint64_t far_replica_size(struct far_replica *replica);
uint64_t far_replica_blocks(struct far_replica *replica);
const struct far_domain *far_replica_domain(const struct far_replica *replica);

/* The leaf that block `index` has now (what the target holds there). FAR_INVALID beyond the end. */
int far_replica_get(struct far_replica *replica, uint64_t index, struct far_hash256 *ret_leaf, struct far_error *err);
/* The same for `count` neighbours from `first` on, in one go. */
int far_replica_get_many(struct far_replica *replica, uint64_t first, size_t count, struct far_hash256 *ret_leaves,
                         struct far_error *err);
/* The block is now this one. It must be in the vault (FAR_NOT_FOUND: a leaf without its block is never set). */
int far_replica_set(struct far_replica *replica, uint64_t index, const struct far_hash256 *leaf,
                    struct far_error *err);
/* The same for `count` blocks, not always neighbours, in one go; on an error those before the failing one may be set. */
int far_replica_set_many(struct far_replica *replica, const uint64_t *indices, const struct far_hash256 *leaves,
                         size_t count, struct far_error *err);
/* `count` blocks from `first` on are now zeroes. */
int far_replica_set_zero(struct far_replica *replica, uint64_t first, uint64_t count, struct far_error *err);
/* Everything set so far, and the blocks of it, are durable when this returns 0. The caller vouches that all blocks before
 * frontier_blocks are as in the frozen view freeze_ref (at most 128 bytes; "" allowed) of the fence's job. */
int far_replica_checkpoint(struct far_replica *replica, uint64_t frontier_blocks, const char *freeze_ref,
                           struct far_error *err);
/* The root of the tree as it is now (also of what is not checkpointed yet). far_vault_seal() needs a checkpoint after
 * the last set. */
int far_replica_root(struct far_replica *replica, struct far_hash256 *ret_root, struct far_error *err);
/* From this block on the replica is as in the point with this root again (grown to the replica's size; NULL: an empty disk),
 * before it as it is. Durable with the next checkpoint; the last one and its frontier stay what they are.
 * FAR_NOT_FOUND: the vault has no such root. */
int far_replica_rewind(struct far_replica *replica, const struct far_hash256 *root, uint64_t from_block,
                       struct far_error *err);
/* Read without opening for writing. FAR_NOT_FOUND: no replica of this disk. */
int far_vault_replica_state(struct far_vault *vault, uint64_t disk_id, struct far_replica_state *ret_state,
                            struct far_error *err);

/* ---- sealed points ---- */

/* Writes the manifest of a proven point: signed, durable when this returns 0. Every disk's root must have been
 * checkpointed here with that size (FAR_NOT_FOUND otherwise). Sealing the same again is 0; another content under the
 * same point_id is FAR_CONFLICT. created_at_ms and the vault's own fields (uuid, key, signature, pack position) are
 * filled in; those of `manifest` are ignored. */
int far_vault_seal(struct far_vault *vault, const struct far_manifest *manifest, struct far_error *err);
/* The point is no longer there, durably; what is not there is 0. Space comes back with reclaim (reclaim.h), once nobody has it open.
 * It cannot be sealed again. FAR_DENIED: it is locked (vault_lock.h). */
int far_vault_forget(struct far_vault *vault, uint64_t point_id, struct far_error *err);
/* One manifest, checked and its signature verified. FAR_NOT_FOUND, FAR_CORRUPT (names the file). */
int far_vault_point(struct far_vault *vault, uint64_t point_id, struct far_manifest *ret_manifest,
                    struct far_error *err);
/* All points, oldest id first. each: manifest is NULL when that file is damaged, problem then says so. A result other
 * than 0 stops and is returned. */
typedef int (*far_vault_point_fn)(void *arg, uint64_t point_id, const struct far_manifest *manifest,
                                  const char *problem);
int far_vault_points(struct far_vault *vault, far_vault_point_fn each, void *arg, struct far_error *err);

/* ---- reading one disk of a point ---- */

struct far_point;

/* By root alone: the vault knows the size that belongs to it. FAR_NOT_FOUND: no such root here. */
int far_point_open(struct far_vault *vault, const struct far_domain *domain, const struct far_hash256 *root,
                   struct far_point **ret_point, struct far_error *err);
/* One disk of a sealed point, by name. */
int far_point_open_disk(struct far_vault *vault, uint64_t point_id, const char *disk, struct far_point **ret_point,
                        struct far_error *err);
void far_point_close(struct far_point *point); /* NULL is allowed */
uint64_t far_point_size(const struct far_point *point);
void far_point_root(const struct far_point *point, struct far_hash256 *ret_root);
const struct far_domain *far_point_domain(const struct far_point *point);
int far_point_leaf(struct far_point *point, uint64_t index, struct far_hash256 *ret_leaf, struct far_error *err);
/* The children of one page of the tree: level 0 holds leaves, `index` counts the pages of a level. FAR_INVALID: the tree has
 * no such page. */
int far_point_page(struct far_point *point, unsigned level, uint64_t index, struct far_hash256 ret_children[FAR_MAP_FANOUT],
                   struct far_error *err);
/* Is block `index` all zeroes by the tree, and how many from there on are alike? At least 1; neighbours may be alike, too. */
int far_point_extent(struct far_point *point, uint64_t index, bool *ret_zero, uint64_t *ret_count, struct far_error *err);
/* Block `index` into 64 KiB (behind the end of the disk: zeroes). ret_zero (may be NULL): it is all zeroes. */
int far_point_read(struct far_point *point, uint64_t index, bool check_sha, void *ret_block, bool *ret_zero,
                   struct far_error *err);

struct far_point_damage {
    uint64_t first_block; /* of the disk */
    uint64_t block_count; /* 1, or those below a damaged page of the tree */
    unsigned height;      /* 0: a block; above, a page so many steps above the blocks */
    struct far_hash256 id; /* of the block or page: its name in every tree that needs it */
    char text[512];       /* names pack file, offset, id */
};
struct far_verify_result {
    uint64_t blocks;         /* looked at, zero ones and known ones included */
    uint64_t blocks_known;   /* of them: the same as in the point since which it was verified, and not read */
    uint64_t bytes_read;     /* uncompressed */
    uint64_t blocks_damaged; /* blocks of the disk that cannot be given back */
    struct far_hash256 root; /* computed anew from the blocks; all zero bytes if any is damaged */
};
/* Reads every block, SHA-256 against its leaf, and the tree up to the root, by all processors (a thread each, 1 MiB each). damage (may be
 * NULL) is told each damaged place, in the order of the disk; progress (may be NULL) is called now and then and cancels with a result
 * other than 0 (FAR_CANCELED); both by the caller's thread.
 * FAR_CORRUPT: something is damaged, *ret_result is filled all the same. */
int far_point_verify(struct far_point *point, void (*damage)(void *arg, const struct far_point_damage *damage),
                     int (*progress)(void *arg, uint64_t blocks_done, uint64_t blocks), void *arg,
                     struct far_verify_result *ret_result, struct far_error *err);
/* The same, but what equals `since`, a point that was verified before, is not read: subtrees with the same hash are skipped, so it costs
 * what changed. What has rotted in them meanwhile is not seen. NULL, or a disk of another height or
 * in another domain: everything is read. */
int far_point_verify_since(struct far_point *point, struct far_point *since,
                           void (*damage)(void *arg, const struct far_point_damage *damage),
                           int (*progress)(void *arg, uint64_t blocks_done, uint64_t blocks), void *arg,
                           struct far_verify_result *ret_result, struct far_error *err);

/* The same for a part: from first_block on (a damaged page that begins before it is told again), until bytes_max were read. next_block:
 * where the next part begins; the count of the disk's blocks: this was the last. root is set only if one part was all. */
struct far_verify_part {
    uint64_t first_block;
    uint64_t bytes_max;
    uint64_t next_block; /* returned */
};
int far_point_verify_part(struct far_point *point, struct far_point *since, struct far_verify_part *part,
                          void (*damage)(void *arg, const struct far_point_damage *damage),
                          int (*progress)(void *arg, uint64_t blocks_done, uint64_t blocks), void *arg,
                          struct far_verify_result *ret_result, struct far_error *err);

/* ---- offline: nothing but the vault ---- */

struct far_recover_progress {
    const char *phase; /* "write", "prove" */
    uint64_t bytes_done;
    uint64_t bytes_total;
};
struct far_recover_options {
    const char *recovery_key_file; /* for a point in a keyed domain (domain.h); NULL: none */
    bool overwrite_device; /* the target may be a block device that is there, large enough */
    void (*progress)(void *arg, const struct far_recover_progress *progress); /* may be NULL */
    void *arg;
};
/* Writes one disk of a sealed point to a new raw file (sparse) and proves it: flushed, read back from the device, its
 * root equals the manifest's. Works beside a running node and on a vault without index. FAR_CONFLICT: the target exists;
 * FAR_LIMIT: no space; a file that could not be completed is removed. ret_root (may be NULL): what was read back. */
int far_vault_recover_offline(const char *dir, uint64_t point_id, const char *disk, const char *target,
                              const struct far_recover_options *options, struct far_hash256 *ret_root,
                              struct far_error *err);

#endif
