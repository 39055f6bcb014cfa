/* The entries that raft may ask for: see raft_cache.h. An array with free slots at its front, moved when half is free. */
#include "log/raft_cache.h"

#include "base/assert.h"

static struct far_wal_entry *at(const struct far_raft_cache *cache, size_t i)
{
    return &cache->entries[cache->dropped + i];
}

void far_raft_cache_init(struct far_raft_cache *cache, struct far_wal_loaded *loaded)
{
    *cache = (struct far_raft_cache){.entries = loaded->entries,
                                     .count = loaded->count,
                                     .cap = loaded->count,
                                     .base_index = loaded->base_index};
    for (size_t i = 0; i < cache->count; i++) {
        cache->bytes += cache->entries[i].blob->len;
    }
    loaded->entries = NULL;
    loaded->count = 0;
}

void far_raft_cache_done(struct far_raft_cache *cache)
{
    far_raft_cache_reset(cache, 0);
    free(cache->entries);
    *cache = (struct far_raft_cache){0};
}

const struct far_wal_entry *far_raft_cache_get(const struct far_raft_cache *cache, uint64_t index)
{
    if (index <= cache->base_index || index > far_raft_cache_last(cache)) {
        return NULL;
    }
    return at(cache, (size_t)(index - cache->base_index - 1));
}

void far_raft_cache_truncate(struct far_raft_cache *cache, uint64_t from_index)
{
    while (cache->count > 0 && far_raft_cache_last(cache) >= from_index) {
        struct far_wal_entry *last = at(cache, cache->count - 1);
        cache->bytes -= last->blob->len;
        far_blob_unref(last->blob);
        cache->count--;
    }
}

static int make_room(struct far_raft_cache *cache)
{
    if (cache->dropped + cache->count < cache->cap) {
        return 0;
    }
    if (cache->dropped > cache->count) {
        memmove(cache->entries, cache->entries + cache->dropped, cache->count * sizeof *cache->entries);
        cache->dropped = 0;
        return 0;
    }
    size_t cap = cache->cap < 64 ? 64 : cache->cap * 2;
    struct far_wal_entry *entries = realloc(cache->entries, cap * sizeof *entries);
    if (entries == NULL) {
        return FAR_LIMIT;
    }
    cache->entries = entries;
    cache->cap = cap;
    return 0;
}

int far_raft_cache_append(struct far_raft_cache *cache, const struct far_wal_entry *entry)
{
    far_raft_cache_truncate(cache, entry->index);
    FAR_ASSERT(entry->index == far_raft_cache_last(cache) + 1);
    int rc = make_room(cache);
    if (rc == 0) {
        *at(cache, cache->count++) = *entry;
        cache->bytes += entry->blob->len;
    }
    return rc;
}

void far_raft_cache_cut(struct far_raft_cache *cache, uint64_t index)
{
    while (cache->count > 0 && cache->base_index < index) {
        struct far_wal_entry *first = at(cache, 0);
        cache->bytes -= first->blob->len;
        far_blob_unref(first->blob);
        cache->dropped++;
        cache->count--;
        cache->base_index++;
    }
}

void far_raft_cache_reset(struct far_raft_cache *cache, uint64_t index)
{
    far_raft_cache_truncate(cache, 0);
    cache->base_index = index;
    cache->dropped = 0;
}
