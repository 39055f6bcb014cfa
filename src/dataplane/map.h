/* The Merkle map of a disk: one SHA-256 leaf for each 64 KiB block, one root for the whole disk.
 *
 *   leaf  = SHA-256(0x00 ‖ block), the block filled up with zeroes where the disk ends inside it
 *   inner = SHA-256(0x01 ‖ left ‖ right), a binary tree over the leaves, filled up with leaves of zero blocks to the
 *           smallest power of 256 (at least 256) that holds all blocks of the disk
 *   root  = SHA-256(0x02 ‖ version u32 ‖ block size u32 ‖ disk size u64 ‖ top), integers little endian
 *
 * The prefixes keep block, inner node and root apart, the root binds the geometry, and regions of zeroes have known
 * hashes at every level (far_map_zero), so an empty disk of any size costs nothing. 256 neighbours are one *page*; its
 * hash is the top of the eight binary levels above them. docs/FORMATS.md has the bytes.
 *
 * `struct far_map` is the flat form: an array of leaves (32 bytes a block, 1/2048 of the disk),
 * pages that were never set cost no memory. The vault's copy-on-write tree (vault.h) gives the same root. Hash
 * functions: any thread; they abort only when the crypto library has no memory for its context. */
#ifndef FAR_DATAPLANE_MAP_H
#define FAR_DATAPLANE_MAP_H

#include "base/bytes.h"
#include "base/error.h"

#define FAR_MAP_VERSION 0u
#define FAR_BLOCK_BYTES 65536u
#define FAR_MAP_FANOUT 256u
#define FAR_MAP_PAGE_BYTES (FAR_MAP_FANOUT * 32u)
#define FAR_MAP_HEIGHT_MAX 4u /* levels of pages: 256^4 blocks are 256 TiB */
#define FAR_DISK_BYTES_MAX (64ull << 40)

/* A SHA-256 value: the leaf of a block (also its id in offers and in the vault), a page, a root. */
struct far_hash256 {
    uint8_t bytes[32];
};

static inline bool far_hash256_equal(const struct far_hash256 *a, const struct far_hash256 *b)
{
    return memcmp(a->bytes, b->bytes, 32) == 0;
}

/* Blocks of a disk: size / 64 KiB, rounded up. */
static inline uint64_t far_map_block_count(uint64_t size_bytes)
{
    return size_bytes / FAR_BLOCK_BYTES + (size_bytes % FAR_BLOCK_BYTES != 0);
}
/* Bytes of block `index` that lie inside the disk: 64 KiB, at the end of the disk perhaps less. */
static inline uint32_t far_map_block_bytes(uint64_t size_bytes, uint64_t index)
{
    uint64_t rest = size_bytes - index * FAR_BLOCK_BYTES;
    return rest < FAR_BLOCK_BYTES ? (uint32_t)rest : FAR_BLOCK_BYTES;
}
/* FAR_INVALID: not all of these bytes lie inside the disk. */
int far_map_check_range(uint64_t size_bytes, uint64_t offset, uint64_t length, struct far_error *err);
/* Levels of pages of a disk, 1 to FAR_MAP_HEIGHT_MAX. */
unsigned far_map_height(uint64_t size_bytes);

/* Are all len bytes zero? Stops at the first that is not. */
bool far_block_is_zero(const void *data, size_t len);
/* The leaf of a block; len 1 to 64 KiB, the missing rest counts as zeroes. As fast as the crypto library hashes. */
void far_block_leaf(const void *data, size_t len, struct far_hash256 *ret_leaf);
/* The leaf of a block of zeroes. Lives for ever. */
const struct far_hash256 *far_zero_leaf(void);
/* The hash of an all-zero subtree of 2^level leaves, level 0 (the zero leaf) to 32. Lives for ever. */
const struct far_hash256 *far_map_zero(unsigned level);
/* The hash of one page: the eight binary levels above its 256 children. */
void far_map_page_hash(const struct far_hash256 children[FAR_MAP_FANOUT], struct far_hash256 *ret_hash);
/* The root of a disk from the hash of its top page. */
void far_map_bind_root(uint64_t size_bytes, const struct far_hash256 *top, struct far_hash256 *ret_root);

/* The root of a disk whose leaves come in order, in 32 KiB of memory whatever the size of the disk. A value of the
 * caller's; one thread at a time. */
struct far_map_stream {
    uint64_t size_bytes;
    uint64_t next; /* index of the next leaf */
    struct far_hash256 children[FAR_MAP_HEIGHT_MAX][FAR_MAP_FANOUT];
};
void far_map_stream_init(struct far_map_stream *stream, uint64_t size_bytes);
void far_map_stream_add(struct far_map_stream *stream, const struct far_hash256 *leaf);
/* All blocks of the disk have been added (asserted). */
void far_map_stream_root(struct far_map_stream *stream, struct far_hash256 *ret_root);

struct far_map;

/* A map of a disk of zeroes. FAR_INVALID: size 0 or above FAR_DISK_BYTES_MAX; FAR_LIMIT: no memory. */
int far_map_new(uint64_t size_bytes, struct far_map **ret_map, struct far_error *err);
void far_map_free(struct far_map *map); /* NULL is allowed */
uint64_t far_map_blocks(const struct far_map *map);
/* A grown disk: what is new is zeroes. FAR_INVALID if it shrinks. No other call on this map at the same time. */
int far_map_grow(struct far_map *map, uint64_t size_bytes, struct far_error *err);
/* Leaf of one block; index < far_map_blocks() (asserted). Several threads may set and get at once as long as no two
 * touch the same index. */
void far_map_set(struct far_map *map, uint64_t index, const struct far_hash256 *leaf);
void far_map_get(const struct far_map *map, uint64_t index, struct far_hash256 *ret_leaf);
/* The root. Nobody may set meanwhile. Hashes every page that is not all zero: about 60 µs for 16 MiB of disk. */
void far_map_root(const struct far_map *map, struct far_hash256 *ret_root);

#endif
