/* Pages of Merkle trees as records of the vault, with a cache of clean ones; see vault_private.h.
 *
 * A page whose 256 children are all zero subtrees has a known hash and is never stored, so an empty disk has no pages. */
#include "dataplane/map_private.h"
#include "dataplane/vault_private.h"

#include <stdlib.h>
#include <zstd.h>

int far_pages_init(struct far_pages *pages, uint64_t bytes_max, struct far_error *err)
{
    pages->sets = (size_t)(bytes_max / (sizeof *pages->slots * FAR_PAGE_WAYS));
    pages->sets = pages->sets > 0 ? pages->sets : 1;
    pages->tick = 0;
    pages->slots = calloc(pages->sets * FAR_PAGE_WAYS, sizeof *pages->slots);
    if (pages->slots == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the page cache of the vault");
    }
    pthread_mutex_init(&pages->lock, NULL);
    return 0;
}

void far_pages_done(struct far_pages *pages)
{
    if (pages->slots != NULL) {
        pthread_mutex_destroy(&pages->lock);
        free(pages->slots);
        pages->slots = NULL;
    }
}

static struct far_cached_page *set_of(struct far_pages *pages, const struct far_hash256 *id)
{
    return &pages->slots[far_get_le64(id->bytes) % pages->sets * FAR_PAGE_WAYS];
}

static bool cache_get(struct far_pages *pages, const struct far_hash256 *id,
                      struct far_hash256 ret_children[FAR_MAP_FANOUT])
{
    bool found = false;
    pthread_mutex_lock(&pages->lock);
    struct far_cached_page *set = set_of(pages, id);
    for (int i = 0; i < FAR_PAGE_WAYS && !found; i++) {
        if (set[i].used_at != 0 && far_hash256_equal(&set[i].id, id)) {
            set[i].used_at = ++pages->tick;
            memcpy(ret_children, set[i].children, FAR_MAP_PAGE_BYTES);
            found = true;
        }
    }
    pthread_mutex_unlock(&pages->lock);
    return found;
}

static void cache_put(struct far_pages *pages, const struct far_hash256 *id,
                      const struct far_hash256 children[FAR_MAP_FANOUT])
{
    pthread_mutex_lock(&pages->lock);
    struct far_cached_page *set = set_of(pages, id);
    struct far_cached_page *oldest = &set[0];
    for (int i = 0; i < FAR_PAGE_WAYS; i++) {
        if (set[i].used_at != 0 && far_hash256_equal(&set[i].id, id)) {
            oldest = &set[i];
            break;
        }
        oldest = set[i].used_at < oldest->used_at ? &set[i] : oldest;
    }
    oldest->id = *id;
    oldest->used_at = ++pages->tick;
    memcpy(oldest->children, children, FAR_MAP_PAGE_BYTES);
    pthread_mutex_unlock(&pages->lock);
}

int far_vault_page(struct far_vault *vault, const struct far_domain *domain, unsigned level, const struct far_hash256 *hash,
                   struct far_hash256 ret_children[FAR_MAP_FANOUT], struct far_error *err)
{
    struct far_hash256 id;
    if (far_hash256_equal(hash, far_map_zero(8 * (level + 1)))) {
        for (unsigned i = 0; i < FAR_MAP_FANOUT; i++) {
            ret_children[i] = *far_map_zero(8 * level);
        }
        return 0;
    }
    far_domain_id(domain, hash, &id);
    if (cache_get(&vault->pages, &id, ret_children)) {
        return 0;
    }
    int rc = far_vault_load(vault, domain, FAR_RECORD_PAGE, hash, ret_children, FAR_MAP_PAGE_BYTES, err);
    if (rc == 0) {
        cache_put(&vault->pages, &id, ret_children);
    }
    return rc;
}

/* Hashes do not compress, but zero subtrees repeat: how many there are. */
static unsigned zero_children(unsigned level, const struct far_hash256 children[FAR_MAP_FANOUT])
{
    unsigned count = 0;
    for (unsigned i = 0; i < FAR_MAP_FANOUT; i++) {
        count += far_hash256_equal(&children[i], far_map_zero(8 * level));
    }
    return count;
}

int far_vault_store_page(struct far_vault *vault, const struct far_domain *domain, unsigned level,
                         const struct far_hash256 children[FAR_MAP_FANOUT], struct far_hash256 *ret_hash, struct far_error *err)
{
    enum { WORTH_PACKING = FAR_MAP_FANOUT / 8 };
    uint8_t packed[FAR_MAP_PAGE_BYTES];
    unsigned zeroes = zero_children(level, children);
    if (zeroes == FAR_MAP_FANOUT) {
        *ret_hash = *far_map_zero(8 * (level + 1));
        return 0;
    }
    struct far_record record = {.type = FAR_RECORD_PAGE, .codec = FAR_CODEC_RAW, .raw_len = FAR_MAP_PAGE_BYTES};
    const void *stored = children;
    record.stored_len = FAR_MAP_PAGE_BYTES;
    if (zeroes >= WORTH_PACKING) {
        size_t n = ZSTD_compress(packed, sizeof packed, children, FAR_MAP_PAGE_BYTES, 1);
        if (!ZSTD_isError(n)) {
            record.codec = FAR_CODEC_ZSTD;
            record.stored_len = (uint32_t)n;
            stored = packed;
        }
    }
    struct far_hash256 hash;
    far_map_page_hash(children, &hash);
    record.id = hash;
    int rc = far_vault_store(vault, domain, &record, stored, err);
    if (rc == 0) {
        cache_put(&vault->pages, &record.id, children);
        *ret_hash = hash;
    }
    return rc;
}

int far_vault_root_load(struct far_vault *vault, const struct far_domain *domain, const struct far_hash256 *root,
                        uint64_t *ret_size_bytes, struct far_hash256 *ret_top, struct far_error *err)
{
    uint8_t bytes[FAR_MAP_ROOT_BYTES];
    struct far_hash256 computed;
    struct far_hash256 top;
    int rc = far_vault_load(vault, domain, FAR_RECORD_ROOT, root, bytes, sizeof bytes, err);
    if (rc != 0) {
        return rc;
    }
    uint64_t size = far_get_le64(bytes + 8);
    memcpy(top.bytes, bytes + 16, 32);
    far_map_bind_root(size, &top, &computed);
    bool geometry_good = far_get_le32(bytes) == FAR_MAP_VERSION && far_get_le32(bytes + 4) == FAR_BLOCK_BYTES &&
                         size > 0 && size <= FAR_DISK_BYTES_MAX;
    if (!geometry_good || !far_hash256_equal(&computed, root)) {
        return far_vault_note_wrong(vault, domain, root, "the root is not the one of its id (SHA-256)", err);
    }
    *ret_size_bytes = size;
    *ret_top = top;
    return 0;
}

int far_vault_root_store(struct far_vault *vault, const struct far_domain *domain, uint64_t size_bytes,
                         const struct far_hash256 *top, struct far_hash256 *ret_root, struct far_error *err)
{
    uint8_t bytes[FAR_MAP_ROOT_BYTES];
    struct far_record record = {.type = FAR_RECORD_ROOT, .codec = FAR_CODEC_RAW};
    record.stored_len = FAR_MAP_ROOT_BYTES;
    record.raw_len = FAR_MAP_ROOT_BYTES;
    far_map_root_bytes(size_bytes, top, bytes);
    struct far_hash256 root;
    far_map_bind_root(size_bytes, top, &root);
    record.id = root;
    int rc = far_vault_store(vault, domain, &record, bytes, err);
    if (rc == 0) {
        *ret_root = root;
    }
    return rc;
}
