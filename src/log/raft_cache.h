/* The entries that raft may ask for: those in the log from base + 1 to last, counted blobs in a ring. Core thread. */
#ifndef FAR_LOG_RAFT_CACHE_H
#define FAR_LOG_RAFT_CACHE_H

#include "log/raft_wal.h"

struct far_raft_cache {
    struct far_wal_entry *entries; /* owned; from base_index + 1 on */
    size_t count;
    size_t cap;
    size_t dropped; /* slots at the front that are free again */
    uint64_t base_index;
    uint64_t bytes; /* of the data */
};

/* Takes the array and the references. */
void far_raft_cache_init(struct far_raft_cache *cache, struct far_wal_loaded *loaded);
void far_raft_cache_done(struct far_raft_cache *cache);
static inline uint64_t far_raft_cache_last(const struct far_raft_cache *cache)
{
    return cache->base_index + cache->count;
}
/* NULL: not in it. */
const struct far_wal_entry *far_raft_cache_get(const struct far_raft_cache *cache, uint64_t index);
/* Drop everything from index on, then append this one (takes the reference). FAR_LIMIT: no memory. */
int far_raft_cache_append(struct far_raft_cache *cache, const struct far_wal_entry *entry);
void far_raft_cache_truncate(struct far_raft_cache *cache, uint64_t from_index);
/* Drop everything up to index. */
void far_raft_cache_cut(struct far_raft_cache *cache, uint64_t index);
/* Empty, after index. */
void far_raft_cache_reset(struct far_raft_cache *cache, uint64_t index);

#endif
