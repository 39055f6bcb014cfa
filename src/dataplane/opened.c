/* Reading an opened disk: see opened.h.
 *
 * The cache is set-associative by the number of the block, and cut into shards with a lock each, held only to copy. A whole block that
 * is not there goes straight to the reader: who reads in order does not push out what is read again and again. */
#include "dataplane/opened.h"

#include <pthread.h>
#include <stdlib.h>

enum { WAYS = 8, SHARDS = 16, CACHE_BYTES = 64 << 20, CACHE_BYTES_MIN = 1 << 20 };

struct slot {
    uint64_t block;
    uint64_t used; /* by the shard's clock; 0: empty */
    uint8_t *bytes;
};

struct shard {
    pthread_mutex_t mutex;
    uint64_t clock;
    uint64_t hits, misses;
};

struct far_opened {
    struct far_vault *vault;
    struct far_point *point;
    uint64_t size_bytes;
    bool check_sha;
    size_t sets;
    struct slot *slots; /* sets x WAYS */
    struct shard shards[SHARDS];
};

/* ---- the cache ---- */

static size_t set_of(const struct far_opened *opened, uint64_t block)
{
    return (size_t)((block * 0x9E3779B97F4A7C15ull >> 32) % opened->sets);
}

static struct shard *shard_of(struct far_opened *opened, uint64_t block)
{
    return &opened->shards[set_of(opened, block) % SHARDS];
}

/* The shard's mutex is held. */
static struct slot *find(struct far_opened *opened, struct shard *shard, uint64_t block)
{
    struct slot *set = opened->slots + set_of(opened, block) * WAYS;
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].used != 0 && set[i].block == block) {
            set[i].used = ++shard->clock;
            return &set[i];
        }
    }
    return NULL;
}

static bool take(struct far_opened *opened, uint64_t block, size_t from, void *ret_bytes, size_t length)
{
    struct shard *shard = shard_of(opened, block);
    pthread_mutex_lock(&shard->mutex);
    const struct slot *slot = find(opened, shard, block);
    if (slot != NULL && length > 0) {
        memcpy(ret_bytes, slot->bytes + from, length);
        shard->hits++;
    }
    pthread_mutex_unlock(&shard->mutex);
    return slot != NULL;
}

/* Takes the bytes. */
static void keep(struct far_opened *opened, uint64_t block, uint8_t *bytes)
{
    struct shard *shard = shard_of(opened, block);
    struct slot *set = opened->slots + set_of(opened, block) * WAYS, *oldest = set;
    pthread_mutex_lock(&shard->mutex);
    if (find(opened, shard, block) == NULL) { /* else another reader was faster */
        for (size_t i = 1; i < WAYS; i++) {
            oldest = set[i].used < oldest->used ? &set[i] : oldest;
        }
        uint8_t *before = oldest->bytes;
        *oldest = (struct slot){.block = block, .used = ++shard->clock, .bytes = bytes};
        bytes = before;
    }
    pthread_mutex_unlock(&shard->mutex);
    free(bytes);
}

static void count_miss(struct far_opened *opened, uint64_t block)
{
    struct shard *shard = shard_of(opened, block);
    pthread_mutex_lock(&shard->mutex);
    shard->misses++;
    pthread_mutex_unlock(&shard->mutex);
}

/* A block that is not in the cache; it is kept there. bytes: so many of it, or NULL. */
static int load(struct far_opened *opened, uint64_t block, size_t from, void *ret_bytes, size_t length, struct far_error *err)
{
    uint8_t *bytes = malloc(FAR_BLOCK_BYTES);
    if (bytes == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a block");
    }
    int rc = far_point_read(opened->point, block, opened->check_sha, bytes, NULL, err);
    if (rc != 0) {
        free(bytes);
        return rc;
    }
    if (length > 0) {
        memcpy(ret_bytes, bytes + from, length);
    }
    keep(opened, block, bytes);
    return 0;
}

/* ---- reading ---- */

uint64_t far_opened_size(const struct far_opened *opened)
{
    return opened->size_bytes;
}

void far_opened_root(const struct far_opened *opened, struct far_hash256 *ret_root)
{
    far_point_root(opened->point, ret_root);
}

int far_opened_read(struct far_opened *opened, void *ret_bytes, size_t length, uint64_t offset, struct far_error *err)
{
    uint8_t *at = ret_bytes;
    int rc = far_map_check_range(opened->size_bytes, offset, length, err);
    while (rc == 0 && length > 0) {
        uint64_t block = offset / FAR_BLOCK_BYTES;
        size_t from = offset % FAR_BLOCK_BYTES, rest = FAR_BLOCK_BYTES - from, piece = length < rest ? length : rest;
        if (!take(opened, block, from, at, piece)) {
            count_miss(opened, block);
            rc = piece == FAR_BLOCK_BYTES ? far_point_read(opened->point, block, opened->check_sha, at, NULL, err)
                                          : load(opened, block, from, at, piece, err);
        }
        at += piece;
        offset += piece;
        length -= piece;
    }
    return rc;
}

void far_opened_prefetch(struct far_opened *opened, uint64_t offset, uint64_t length)
{
    if (length == 0 || far_map_check_range(opened->size_bytes, offset, length, NULL) != 0) {
        return;
    }
    uint64_t last = (offset + length - 1) / FAR_BLOCK_BYTES;
    for (uint64_t block = offset / FAR_BLOCK_BYTES; block <= last; block++) {
        if (!take(opened, block, 0, NULL, 0)) {
            (void)load(opened, block, 0, NULL, 0, NULL);
        }
    }
}

int far_opened_extent(struct far_opened *opened, uint64_t offset, bool *ret_zero, uint64_t *ret_length, struct far_error *err)
{
    uint64_t count = 0, block = offset / FAR_BLOCK_BYTES;
    int rc = offset < opened->size_bytes ? far_point_extent(opened->point, block, ret_zero, &count, err)
                                         : far_map_check_range(opened->size_bytes, offset, 1, err);
    if (rc == 0) {
        uint64_t end = (block + count) * FAR_BLOCK_BYTES;
        *ret_length = (end < opened->size_bytes ? end : opened->size_bytes) - offset;
    }
    return rc;
}

void far_opened_stats(struct far_opened *opened, struct far_opened_stats *ret_stats)
{
    *ret_stats = (struct far_opened_stats){0};
    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_lock(&opened->shards[i].mutex);
        ret_stats->hits += opened->shards[i].hits;
        ret_stats->misses += opened->shards[i].misses;
        pthread_mutex_unlock(&opened->shards[i].mutex);
    }
}

/* ---- life ---- */

int far_opened_new(const char *vault_dir, uint64_t point_id, const char *disk, const struct far_opened_options *options,
                   struct far_opened **ret_opened, struct far_error *err)
{
    struct far_vault_options read_only = {.read_only = true};
    uint64_t cache_bytes = options != NULL && options->cache_bytes_max != 0 ? options->cache_bytes_max : CACHE_BYTES;
    struct far_opened *opened = calloc(1, sizeof *opened);
    if (opened == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to open a disk");
    }
    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&opened->shards[i].mutex, NULL);
    }
    cache_bytes = cache_bytes > CACHE_BYTES_MIN ? cache_bytes : CACHE_BYTES_MIN;
    opened->check_sha = options != NULL && options->check_sha;
    opened->sets = (size_t)(cache_bytes / FAR_BLOCK_BYTES / WAYS);
    opened->slots = calloc(opened->sets * WAYS, sizeof *opened->slots);
    int rc = opened->slots != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory for a cache of %llu MiB",
                                                  (unsigned long long)(cache_bytes >> 20));
    rc = rc == 0 ? far_vault_open(vault_dir, &read_only, &opened->vault, err) : rc;
    rc = rc == 0 ? far_vault_unlock_from(opened->vault, options != NULL ? options->recovery_key_file : NULL, err) : rc;
    rc = rc == 0 ? far_point_open_disk(opened->vault, point_id, disk, &opened->point, err) : rc;
    if (rc != 0) {
        far_opened_close(opened);
        return rc;
    }
    opened->size_bytes = far_point_size(opened->point);
    *ret_opened = opened;
    return 0;
}

void far_opened_close(struct far_opened *opened)
{
    if (opened == NULL) {
        return;
    }
    for (size_t i = 0; opened->slots != NULL && i < opened->sets * WAYS; i++) {
        free(opened->slots[i].bytes);
    }
    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_destroy(&opened->shards[i].mutex);
    }
    far_point_close(opened->point);
    far_vault_close(opened->vault);
    free(opened->slots);
    free(opened);
}
