/* Hashes of the Merkle map and its flat form: see map.h.
 *
 * The flat form is one anonymous mapping of small pages, so that what was never written costs nothing: regions of zeroes of
 * any size, as 32 zero bytes stand for the leaf of a block of zeroes. The cache file is in map_cache.c. */
#define _GNU_SOURCE
#include "dataplane/map.h"
#include "dataplane/leaf_lanes.h"
#include "dataplane/map_private.h"

#include "base/assert.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PREFIX_LEAF = 0, PREFIX_INNER = 1, PREFIX_ROOT = 2, ZERO_LEVELS = 33 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_MD *sha256;
static pthread_key_t context_key;
static __thread EVP_MD_CTX *thread_context; /* freed by context_key when the thread ends */
static struct far_hash256 zero_hashes[ZERO_LEVELS];

static void context_free(void *context)
{
    EVP_MD_CTX_free(context);
}

static EVP_MD_CTX *context_get(void)
{
    if (thread_context == NULL) {
        thread_context = EVP_MD_CTX_new();
        FAR_ASSERT(thread_context != NULL);
        FAR_ASSERT(EVP_DigestInit_ex2(thread_context, sha256, NULL) == 1);
        pthread_setspecific(context_key, thread_context);
    }
    return thread_context;
}

/* SHA-256(prefix ‖ a ‖ b), without once: for the initializer. */
static void hash_parts(uint8_t prefix, struct far_slice a, struct far_slice b, struct far_hash256 *ret_hash)
{
    EVP_MD_CTX *context = context_get();
    int good = EVP_DigestInit_ex2(context, NULL, NULL) == 1 && EVP_DigestUpdate(context, &prefix, 1) == 1;
    good = good && EVP_DigestUpdate(context, a.data, a.len) == 1;
    good = good && (b.len == 0 || EVP_DigestUpdate(context, b.data, b.len) == 1);
    good = good && EVP_DigestFinal_ex(context, ret_hash->bytes, NULL) == 1;
    FAR_ASSERT(good);
}

static void inner_hash(const struct far_hash256 *left, const struct far_hash256 *right, struct far_hash256 *ret_hash)
{
    uint8_t node[65];
    node[0] = PREFIX_INNER;
    memcpy(node + 1, left->bytes, 32);
    memcpy(node + 33, right->bytes, 32);
    EVP_MD_CTX *context = context_get();
    int good = EVP_DigestInit_ex2(context, NULL, NULL) == 1 && EVP_DigestUpdate(context, node, sizeof node) == 1;
    good = good && EVP_DigestFinal_ex(context, ret_hash->bytes, NULL) == 1;
    FAR_ASSERT(good);
}

static void set_up(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    FAR_ASSERT(sha256 != NULL);
    FAR_ASSERT(pthread_key_create(&context_key, context_free) == 0);
    uint8_t *zeroes = calloc(1, FAR_BLOCK_BYTES);
    FAR_ASSERT(zeroes != NULL);
    hash_parts(PREFIX_LEAF, far_slice(zeroes, FAR_BLOCK_BYTES), far_slice(NULL, 0), &zero_hashes[0]);
    free(zeroes);
    for (unsigned level = 1; level < ZERO_LEVELS; level++) {
        inner_hash(&zero_hashes[level - 1], &zero_hashes[level - 1], &zero_hashes[level]);
    }
}

int far_map_check_range(uint64_t size_bytes, uint64_t offset, uint64_t length, struct far_error *err)
{
    bool inside = offset <= size_bytes && length <= size_bytes - offset;
    return inside ? 0 : far_fail(err, FAR_INVALID, "bytes %llu to %llu are outside the disk of %llu bytes", (unsigned long long)offset,
                                 (unsigned long long)(offset + length), (unsigned long long)size_bytes);
}

bool far_block_is_zero(const void *data, size_t len)
{
    const uint8_t *p = data;
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

void far_block_leaf(const void *data, size_t len, struct far_hash256 *ret_leaf)
{
    static const uint8_t padding[FAR_BLOCK_BYTES];
    FAR_ASSERT(len > 0 && len <= FAR_BLOCK_BYTES);
    pthread_once(&once, set_up);
    hash_parts(PREFIX_LEAF, far_slice(data, len), far_slice(padding, FAR_BLOCK_BYTES - len), ret_leaf);
}

const struct far_hash256 *far_zero_leaf(void)
{
    return far_map_zero(0);
}

const struct far_hash256 *far_map_zero(unsigned level)
{
    FAR_ASSERT(level < ZERO_LEVELS);
    pthread_once(&once, set_up);
    return &zero_hashes[level];
}

/* The inner nodes above `count` pairs, at least one; ret_hashes may be children. Neighbours repeat where there are zeroes: each is hashed
 * once. */
static void inner_hashes(const struct far_hash256 *children, size_t count, struct far_hash256 *ret_hashes)
{
    struct far_hash256 pairs[FAR_MAP_FANOUT], made[FAR_MAP_FANOUT / 2];
    uint8_t from[FAR_MAP_FANOUT / 2] = {0};
    size_t different = 1;
    memcpy(pairs, children, 2 * sizeof *children);
    for (size_t i = 1; i < count; i++) {
        if (memcmp(&children[2 * i], &children[2 * i - 2], 2 * sizeof *children) != 0) {
            memcpy(&pairs[2 * different++], &children[2 * i], 2 * sizeof *children);
        }
        from[i] = (uint8_t)(different - 1);
    }
    for (size_t i = far_inner_hashes(pairs, different, made); i < different; i++) {
        inner_hash(&pairs[2 * i], &pairs[2 * i + 1], &made[i]);
    }
    for (size_t i = 0; i < count; i++) {
        ret_hashes[i] = made[from[i]];
    }
}

void far_map_page_hash(const struct far_hash256 children[FAR_MAP_FANOUT], struct far_hash256 *ret_hash)
{
    struct far_hash256 row[FAR_MAP_FANOUT / 2];
    pthread_once(&once, set_up);
    inner_hashes(children, FAR_MAP_FANOUT / 2, row);
    for (unsigned count = FAR_MAP_FANOUT / 4; count > 0; count /= 2) {
        inner_hashes(row, count, row);
    }
    *ret_hash = row[0];
}

void far_map_root_bytes(uint64_t size_bytes, const struct far_hash256 *top, uint8_t ret_bytes[FAR_MAP_ROOT_BYTES])
{
    far_put_le32(ret_bytes, FAR_MAP_VERSION);
    far_put_le32(ret_bytes + 4, FAR_BLOCK_BYTES);
    far_put_le64(ret_bytes + 8, size_bytes);
    memcpy(ret_bytes + 16, top->bytes, 32);
}

void far_map_bind_root(uint64_t size_bytes, const struct far_hash256 *top, struct far_hash256 *ret_root)
{
    uint8_t bytes[FAR_MAP_ROOT_BYTES];
    pthread_once(&once, set_up);
    far_map_root_bytes(size_bytes, top, bytes);
    hash_parts(PREFIX_ROOT, far_slice(bytes, sizeof bytes), far_slice(NULL, 0), ret_root);
}

unsigned far_map_height(uint64_t size_bytes)
{
    uint64_t pages = far_map_block_count(size_bytes);
    unsigned height = 0;
    do {
        pages = pages / FAR_MAP_FANOUT + (pages % FAR_MAP_FANOUT != 0);
        height++;
    } while (pages > 1);
    return height;
}

/* ---- the flat form ---- */

struct far_map {
    uint64_t size_bytes;
    uint64_t blocks;
    struct far_hash256 *leaves; /* mapping of whole pages of the tree; 32 zero bytes: the zero leaf */
    size_t mapped_bytes;
};

static const struct far_hash256 stands_for_zero;

static int check_size(uint64_t size_bytes, struct far_error *err)
{
    if (size_bytes == 0 || size_bytes > FAR_DISK_BYTES_MAX) {
        return far_fail(err, FAR_INVALID, "a disk of %llu bytes: must be 1 byte to 64 TiB",
                        (unsigned long long)size_bytes);
    }
    return 0;
}

static size_t mapped_bytes_of(uint64_t size_bytes)
{
    uint64_t pages = (far_map_block_count(size_bytes) + FAR_MAP_FANOUT - 1) / FAR_MAP_FANOUT;
    return (size_t)(pages * FAR_MAP_PAGE_BYTES);
}

int far_map_new(uint64_t size_bytes, struct far_map **ret_map, struct far_error *err)
{
    int rc = check_size(size_bytes, err);
    if (rc != 0) {
        return rc;
    }
    struct far_map *map = calloc(1, sizeof *map);
    if (map == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a map");
    }
    map->size_bytes = size_bytes;
    map->blocks = far_map_block_count(size_bytes);
    map->mapped_bytes = mapped_bytes_of(size_bytes);
    map->leaves = mmap(NULL, map->mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                       -1, 0);
    if (map->leaves == MAP_FAILED) {
        free(map);
        return far_fail(err, FAR_LIMIT, "no memory for the map of a disk of %llu bytes",
                        (unsigned long long)size_bytes);
    }
    madvise(map->leaves, map->mapped_bytes, MADV_NOHUGEPAGE); /* a huge page would be all resident for one leaf */
    *ret_map = map;
    return 0;
}

void far_map_free(struct far_map *map)
{
    if (map != NULL) {
        munmap(map->leaves, map->mapped_bytes);
        free(map);
    }
}

uint64_t far_map_blocks(const struct far_map *map)
{
    return map->blocks;
}

int far_map_grow(struct far_map *map, uint64_t size_bytes, struct far_error *err)
{
    int rc = check_size(size_bytes, err);
    if (rc != 0) {
        return rc;
    }
    if (size_bytes < map->size_bytes) {
        return far_fail(err, FAR_INVALID, "a map of %llu bytes cannot shrink to %llu",
                        (unsigned long long)map->size_bytes, (unsigned long long)size_bytes);
    }
    size_t mapped = mapped_bytes_of(size_bytes);
    if (mapped != map->mapped_bytes) {
        void *leaves = mremap(map->leaves, map->mapped_bytes, mapped, MREMAP_MAYMOVE);
        if (leaves == MAP_FAILED) {
            return far_fail(err, FAR_LIMIT, "no memory for the map of a disk of %llu bytes",
                            (unsigned long long)size_bytes);
        }
        map->leaves = leaves;
        map->mapped_bytes = mapped;
    }
    map->size_bytes = size_bytes;
    map->blocks = far_map_block_count(size_bytes);
    return 0;
}

void far_map_set(struct far_map *map, uint64_t index, const struct far_hash256 *leaf)
{
    FAR_ASSERT(index < map->blocks);
    struct far_hash256 *at = &map->leaves[index];
    if (!far_hash256_equal(leaf, far_zero_leaf())) {
        *at = *leaf;
    } else if (!far_hash256_equal(at, &stands_for_zero)) { /* a page that was never written stays one */
        *at = stands_for_zero;
    }
}

void far_map_get(const struct far_map *map, uint64_t index, struct far_hash256 *ret_leaf)
{
    FAR_ASSERT(index < map->blocks);
    const struct far_hash256 *leaf = &map->leaves[index];
    *ret_leaf = far_hash256_equal(leaf, &stands_for_zero) ? *far_zero_leaf() : *leaf;
}

static void flat_page_hash(const struct far_map *map, uint64_t page, struct far_hash256 *ret_hash)
{
    const struct far_hash256 *leaves = map->leaves + page * FAR_MAP_FANOUT;
    if (far_block_is_zero(leaves, FAR_MAP_PAGE_BYTES)) {
        *ret_hash = *far_map_zero(8);
        return;
    }
    struct far_hash256 children[FAR_MAP_FANOUT];
    for (unsigned i = 0; i < FAR_MAP_FANOUT; i++) {
        children[i] = far_hash256_equal(&leaves[i], &stands_for_zero) ? *far_zero_leaf() : leaves[i];
    }
    far_map_page_hash(children, ret_hash);
}

/* The hash of page `page` at a level of pages (0: of leaves), down to the leaves; what is behind the end is zeroes. */
static void subtree_hash(const struct far_map *map, unsigned level, uint64_t page, struct far_hash256 *ret_hash)
{
    uint64_t first = page << (8 * (level + 1));
    if (first >= map->blocks) {
        *ret_hash = *far_map_zero(8 * (level + 1));
        return;
    }
    if (level == 0) {
        flat_page_hash(map, page, ret_hash);
        return;
    }
    struct far_hash256 children[FAR_MAP_FANOUT];
    bool zero = true;
    for (unsigned i = 0; i < FAR_MAP_FANOUT; i++) {
        subtree_hash(map, level - 1, page * FAR_MAP_FANOUT + i, &children[i]);
        zero = zero && far_hash256_equal(&children[i], far_map_zero(8 * level));
    }
    if (zero) {
        *ret_hash = *far_map_zero(8 * (level + 1));
    } else {
        far_map_page_hash(children, ret_hash);
    }
}

void far_map_root(const struct far_map *map, struct far_hash256 *ret_root)
{
    struct far_hash256 top;
    subtree_hash(map, far_map_height(map->size_bytes) - 1, 0, &top);
    far_map_bind_root(map->size_bytes, &top, ret_root);
}
