/* The map of a source: see source_map.h. The journal is in source_journal.c.
 *
 * Open pages lie in a hash table. A page is opened after those above it: its hash there is what it must have. A page above
 * stays open until everything below it is closed, so a child always finds its parent. The top of the base point hangs on the
 * root in the log, which binds the disk's size then; a disk that grew since has pages of zeroes around and above it. */
#include "dataplane/source_map_local.h"

#include "base/assert.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct smap_page **bucket_of(struct far_source_map *map, unsigned level, uint64_t index)
{
    return &map->buckets[(index * 31 + level * 7) % SMAP_BUCKETS];
}

static struct smap_page *find(struct far_source_map *map, unsigned level, uint64_t index)
{
    struct smap_page *page = *bucket_of(map, level, index);
    while (page != NULL && (page->level != level || page->index != index)) {
        page = page->next;
    }
    return page;
}

static struct smap_page *add(struct far_source_map *map, unsigned level, uint64_t index, struct far_error *err)
{
    struct smap_page *page = calloc(1, sizeof *page);
    if (page == NULL) {
        far_fail(err, FAR_LIMIT, "no memory for a page of a map");
        return NULL;
    }
    struct smap_page **bucket = bucket_of(map, level, index);
    page->level = level;
    page->index = index;
    page->next = *bucket;
    *bucket = page;
    map->open_count++;
    atomic_fetch_add(&map->opened, 1);
    return page;
}

static void set_dirty(struct far_source_map *map, struct smap_page *page)
{
    map->dirty_count += !page->dirty;
    page->dirty = true;
}

static void drop(struct far_source_map *map, struct smap_page *page)
{
    struct smap_page **link = bucket_of(map, page->level, page->index);
    while (*link != page) {
        link = &(*link)->next;
    }
    *link = page->next;
    map->asked_count -= page->state != SMAP_OPEN;
    map->open_count--;
    map->dirty_count -= page->dirty;
    free(page);
}

/* Blocks below one page of this level. */
static uint64_t span_of(unsigned level)
{
    return 1ull << (8 * (level + 1));
}

static const struct far_hash256 *zero_page_hash(unsigned level)
{
    return far_map_zero(8 * (level + 1));
}

static void fill_zero(struct smap_page *page, unsigned first)
{
    for (unsigned i = first; i < FAR_MAP_FANOUT; i++) {
        page->hashes[i] = *far_map_zero(8 * page->level);
    }
}

/* ---- the cache file: pages in place, a region a level ---- */

static uint64_t place_of(unsigned level, uint64_t index)
{
    return ((uint64_t)level << SMAP_REGION_BITS) + index * FAR_MAP_PAGE_BYTES;
}

static bool cache_read(struct far_source_map *map, struct smap_page *page)
{
    struct far_error ignored;
    return map->cache_fd >= 0 && far_file_pread(map->cache_fd, page->hashes, FAR_MAP_PAGE_BYTES,
                                                place_of(page->level, page->index), "cache", &ignored) == 0;
}

static void cache_write(struct far_source_map *map, const struct smap_page *page)
{
    if (map->cache_fd >= 0) { /* an error, no space perhaps, only makes the next cycle slower */
        far_file_pwrite(map->cache_fd, page->hashes, FAR_MAP_PAGE_BYTES, place_of(page->level, page->index), "cache", NULL);
    }
}

/* ---- opening ---- */

static unsigned base_top_level(const struct far_source_map *map)
{
    return far_map_height(map->base_bytes) - 1;
}

static bool is_base_top(const struct far_source_map *map, const struct smap_page *page)
{
    return map->has_base && page->index == 0 && page->level == base_top_level(map);
}

/* Is the page what the base root says? */
static bool is_right(const struct far_source_map *map, const struct smap_page *page)
{
    struct far_hash256 hash, root;
    far_map_page_hash(page->hashes, &hash);
    if (is_base_top(map, page)) {
        far_map_bind_root(map->base_bytes, &hash, &root);
        return far_hash256_equal(&root, &map->base_root);
    }
    return far_hash256_equal(&hash, &page->expected);
}

/* The base's top is known: so is what lies above it in a disk that grew. */
static void note_base_top(struct far_source_map *map, const struct smap_page *page)
{
    unsigned level = page->level;
    far_map_page_hash(page->hashes, &map->above[level]);
    while (++level < map->height) {
        struct far_hash256 hashes[FAR_MAP_FANOUT];
        hashes[0] = map->above[level - 1];
        for (unsigned i = 1; i < FAR_MAP_FANOUT; i++) {
            hashes[i] = *far_map_zero(8 * level);
        }
        far_map_page_hash(hashes, &map->above[level]);
    }
    map->has_base_top = true;
}

/* From the cache, or it is asked for. */
static int obtain(struct far_source_map *map, struct smap_page *page)
{
    if (cache_read(map, page) && is_right(map, page)) {
        page->state = SMAP_OPEN;
        return 0;
    }
    page->state = SMAP_TO_ASK;
    map->asked_count++;
    return FAR_BUSY;
}

static int open_page(struct far_source_map *map, unsigned level, uint64_t index, struct smap_page **ret_page,
                     struct far_error *err);

/* The top of the base point, from which every other page of it follows. */
static int open_base_top(struct far_source_map *map, struct far_error *err)
{
    unsigned level = base_top_level(map);
    struct smap_page *page = find(map, level, 0);
    if (page == NULL) {
        page = add(map, level, 0, err);
        if (page == NULL) {
            return FAR_LIMIT;
        }
        int rc = obtain(map, page);
        if (rc != 0) {
            return rc;
        }
    }
    if (page->state != SMAP_OPEN) {
        return FAR_BUSY;
    }
    note_base_top(map, page);
    return 0;
}

/* What the page was in the base; `expected` is its hash there. */
static int begin_page(struct far_source_map *map, struct smap_page *page, const struct far_hash256 *expected)
{
    page->expected = *expected;
    if (!map->has_base || far_hash256_equal(expected, zero_page_hash(page->level))) {
        fill_zero(page, 0);
    } else if (page->index == 0 && page->level > base_top_level(map)) {
        page->hashes[0] = map->above[page->level - 1];
        fill_zero(page, 1);
    } else {
        return obtain(map, page);
    }
    page->state = SMAP_OPEN;
    return 0;
}

static int open_page(struct far_source_map *map, unsigned level, uint64_t index, struct smap_page **ret_page,
                     struct far_error *err)
{
    struct smap_page *page = find(map, level, index), *parent = NULL;
    struct far_hash256 expected = *zero_page_hash(level);
    if (page != NULL) {
        *ret_page = page;
        return page->state == SMAP_OPEN ? 0 : FAR_BUSY;
    }
    if (map->has_base && !map->has_base_top) {
        int rc = open_base_top(map, err);
        return rc != 0 ? rc : open_page(map, level, index, ret_page, err);
    }
    if (level + 1 < map->height) {
        int rc = open_page(map, level + 1, index / FAR_MAP_FANOUT, &parent, err);
        if (rc != 0) {
            return rc;
        }
        expected = parent->hashes[index % FAR_MAP_FANOUT];
    } else if (map->has_base) {
        expected = map->above[level];
    }
    if (map->asked_count >= FAR_SOURCE_MAP_ASKED_MAX) {
        return FAR_BUSY;
    }
    page = add(map, level, index, err);
    if (page == NULL) {
        return FAR_LIMIT;
    }
    *ret_page = page;
    return begin_page(map, page, &expected);
}

/* What the journal says of pages that an earlier attempt closed goes into the pages above them. */
static int replay(struct far_source_map *map, struct far_error *err)
{
    struct smap_page *parent;
    uint64_t index;
    struct far_hash256 hash;
    while (map->replaying && far_source_journal_peek(map, &index, &hash)) {
        int rc = 0;
        if (map->height == 1) {
            map->lone = hash;
            map->has_lone = true;
        } else if ((rc = open_page(map, 1, index / FAR_MAP_FANOUT, &parent, err)) == 0) {
            parent->hashes[index % FAR_MAP_FANOUT] = hash;
            set_dirty(map, parent);
        }
        if (rc != 0) {
            return rc;
        }
        far_source_journal_next(map);
    }
    map->replaying = false;
    return 0;
}

static int ready(struct far_source_map *map, struct far_error *err)
{
    int rc = replay(map, err);
    if (rc == 0 && map->has_base && !map->has_base_top && map->base_bytes != map->size_bytes) {
        rc = open_base_top(map, err); /* perhaps nothing changed, but the disk grew */
    }
    return rc;
}

int far_source_map_ready(struct far_source_map *map, struct far_error *err)
{
    pthread_mutex_lock(&map->mutex);
    int rc = ready(map, err);
    pthread_mutex_unlock(&map->mutex);
    return rc;
}

int far_source_map_open(struct far_source_map *map, uint64_t block, struct far_error *err)
{
    struct smap_page *page;
    FAR_ASSERT(block < map->blocks);
    pthread_mutex_lock(&map->mutex);
    int rc = replay(map, err);
    rc = rc == 0 ? open_page(map, 0, block / FAR_MAP_FANOUT, &page, err) : rc;
    pthread_mutex_unlock(&map->mutex);
    return rc;
}

bool far_source_map_set(struct far_source_map *map, uint64_t block, const struct far_hash256 *leaf)
{
    pthread_mutex_lock(&map->mutex);
    struct smap_page *page = find(map, 0, block / FAR_MAP_FANOUT);
    FAR_ASSERT(page != NULL && page->state == SMAP_OPEN);
    struct far_hash256 *at = &page->hashes[block % FAR_MAP_FANOUT];
    bool differs = !far_hash256_equal(at, leaf);
    *at = *leaf;
    if (differs) {
        set_dirty(map, page);
    }
    pthread_mutex_unlock(&map->mutex);
    return differs;
}

/* ---- asking ---- */

bool far_source_map_next_ask(struct far_source_map *map, unsigned *ret_level, uint64_t *ret_index)
{
    bool found = false;
    pthread_mutex_lock(&map->mutex);
    for (size_t i = 0; map->asked_count > 0 && i < SMAP_BUCKETS && !found; i++) {
        for (struct smap_page *page = map->buckets[i]; page != NULL && !found; page = page->next) {
            if (page->state == SMAP_TO_ASK) {
                page->state = SMAP_ASKED;
                *ret_level = page->level;
                *ret_index = page->index;
                found = true;
            }
        }
    }
    pthread_mutex_unlock(&map->mutex);
    return found;
}

void far_source_map_ask_again(struct far_source_map *map)
{
    pthread_mutex_lock(&map->mutex);
    for (size_t i = 0; map->asked_count > 0 && i < SMAP_BUCKETS; i++) {
        for (struct smap_page *page = map->buckets[i]; page != NULL; page = page->next) {
            page->state = page->state == SMAP_ASKED ? SMAP_TO_ASK : page->state;
        }
    }
    pthread_mutex_unlock(&map->mutex);
}

int far_source_map_take(struct far_source_map *map, unsigned level, uint64_t index,
                        const struct far_hash256 hashes[FAR_MAP_FANOUT], struct far_error *err)
{
    pthread_mutex_lock(&map->mutex);
    struct smap_page *page = find(map, level, index);
    int rc = 0;
    if (page == NULL || page->state == SMAP_OPEN) {
        rc = far_fail(err, FAR_INVALID, "the target node sent a page of its map that nobody asked for");
    } else {
        memcpy(page->hashes, hashes, FAR_MAP_PAGE_BYTES);
        if (is_right(map, page)) {
            page->state = SMAP_OPEN;
            page->fetched = true;
            map->asked_count--;
        } else {
            rc = far_fail(err, FAR_CORRUPT, "the target node sent a page of its map (level %u, page %llu) that is not "
                          "the one of the last proven point", level, (unsigned long long)index);
        }
    }
    pthread_mutex_unlock(&map->mutex);
    return rc;
}

/* ---- closing: one thread at a time; pages are hashed and written without the mutex, nobody touches them any more ---- */

static int put_hash(struct far_source_map *map, const struct smap_page *page, const struct far_hash256 *hash,
                    struct far_error *err)
{
    struct smap_page *parent;
    if (page->level + 1 == map->height) {
        map->top = *hash;
        map->has_top = true;
        return 0;
    }
    int rc = open_page(map, page->level + 1, page->index / FAR_MAP_FANOUT, &parent, err);
    if (rc == 0) {
        parent->hashes[page->index % FAR_MAP_FANOUT] = *hash;
        set_dirty(map, parent);
    }
    return rc;
}

/* What did not change, or was asked for in vain, is as its parent says already. */
static int close_page(struct far_source_map *map, struct smap_page *page, struct far_error *err)
{
    struct far_hash256 hash;
    int rc = 0;
    if (page->state == SMAP_OPEN && (page->dirty || page->fetched)) {
        pthread_mutex_unlock(&map->mutex);
        far_map_page_hash(page->hashes, &hash);
        if (!far_hash256_equal(&hash, zero_page_hash(page->level))) {
            cache_write(map, page);
        }
        pthread_mutex_lock(&map->mutex);
    }
    if (page->dirty) {
        rc = put_hash(map, page, &hash, err);
        if (rc == 0 && page->level == 0) {
            far_source_journal_closed(map, page->index, &hash);
        }
    }
    if (rc == 0) {
        drop(map, page);
    }
    return rc;
}

static int compare_pages(const void *a, const void *b)
{
    const struct smap_page *x = *(struct smap_page *const *)a, *y = *(struct smap_page *const *)b;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* All open pages of a level that end before the block, the lowest first: the journal is in order. */
static int close_level(struct far_source_map *map, unsigned level, uint64_t block, bool with_dirty, struct far_error *err)
{
    struct smap_page **pages = malloc((map->open_count + 1) * sizeof(*pages));
    size_t count = 0;
    int rc = pages == NULL ? far_fail(err, FAR_LIMIT, "no memory to close pages of a map") : 0;
    for (size_t i = 0; rc == 0 && i < SMAP_BUCKETS; i++) {
        for (struct smap_page *page = map->buckets[i]; page != NULL; page = page->next) {
            bool ends = (page->index + 1) * span_of(level) <= block || block == map->blocks;
            if (page->level == level && ends && (with_dirty || (!page->dirty && page->state == SMAP_OPEN))) {
                pages[count++] = page;
            }
        }
    }
    if (rc == 0) {
        qsort(pages, count, sizeof(*pages), compare_pages);
    }
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = close_page(map, pages[i], err);
    }
    free(pages);
    return rc;
}

bool far_source_map_is_crowded(struct far_source_map *map)
{
    return atomic_load(&map->opened) >= SMAP_CROWD;
}

bool far_source_map_is_full(struct far_source_map *map)
{
    pthread_mutex_lock(&map->mutex);
    bool is_full = map->open_count - map->dirty_count >= SMAP_FULL + map->asked_count;
    pthread_mutex_unlock(&map->mutex);
    return is_full;
}

void far_source_map_pass(struct far_source_map *map, uint64_t block)
{
    atomic_store(&map->opened, 0);
    pthread_mutex_lock(&map->closing);
    pthread_mutex_lock(&map->mutex);
    if (!map->replaying) {
        close_level(map, 0, block, false, NULL);
    }
    pthread_mutex_unlock(&map->mutex);
    pthread_mutex_unlock(&map->closing);
}

int far_source_map_close_to(struct far_source_map *map, uint64_t block, struct far_error *err)
{
    pthread_mutex_lock(&map->closing);
    pthread_mutex_lock(&map->mutex);
    int rc = ready(map, err);
    for (unsigned level = 0; rc == 0 && level < map->height; level++) {
        rc = close_level(map, level, block, true, err);
    }
    if (rc == 0 && block > map->closed) {
        map->closed = block;
    }
    pthread_mutex_unlock(&map->mutex);
    pthread_mutex_unlock(&map->closing);
    return rc;
}

void far_source_map_root(const struct far_source_map *map, struct far_hash256 *ret_root)
{
    FAR_ASSERT(map->closed == map->blocks);
    const struct far_hash256 *top = map->has_top ? &map->top : NULL;
    if (top == NULL && map->has_lone) {
        top = &map->lone;
    }
    if (top == NULL && map->has_base && !map->has_base_top) {
        *ret_root = map->base_root; /* nothing changed */
        return;
    }
    if (top == NULL) {
        top = map->has_base ? &map->above[map->height - 1] : zero_page_hash(map->height - 1);
    }
    far_map_bind_root(map->size_bytes, top, ret_root);
}

/* ---- life ---- */

size_t far_source_map_open_bytes(struct far_source_map *map)
{
    pthread_mutex_lock(&map->mutex);
    size_t bytes = map->open_count * sizeof(struct smap_page);
    pthread_mutex_unlock(&map->mutex);
    return bytes;
}

uint64_t far_source_map_blocks(const struct far_source_map *map)
{
    return map->blocks;
}

uint64_t far_source_map_known(const struct far_source_map *map)
{
    return map->closed < map->blocks ? map->closed / FAR_MAP_FANOUT * FAR_MAP_FANOUT : map->closed;
}

/* What versions before this one kept there. */
static void remove_old_files(const struct far_source_map_config *config)
{
    static const char *const suffixes[] = {"map", "next", "work"};
    char path[SMAP_PATH_MAX];
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        int n = snprintf(path, sizeof path, "%s/disk-%llu.%s", config->dir, (unsigned long long)config->disk_id, suffixes[i]);
        if (n > 0 && (size_t)n < sizeof path) {
            unlink(path);
        }
    }
}

static void drop_all(struct far_source_map *map, unsigned from_level, unsigned to_level)
{
    for (size_t i = 0; i < SMAP_BUCKETS; i++) {
        for (struct smap_page *page = map->buckets[i], *next; page != NULL; page = next) {
            next = page->next;
            if ((page->level >= from_level && page->level <= to_level) || page->state != SMAP_OPEN) {
                drop(map, page);
            }
        }
    }
}

void far_source_map_begin(struct far_source_map *map, uint64_t resume_block, bool has_base, uint64_t base_bytes)
{
    pthread_mutex_lock(&map->mutex);
    has_base = has_base && map->config_has_base && far_map_height(base_bytes) <= map->height;
    if (resume_block < far_source_map_known(map) || has_base != map->has_base || base_bytes != map->base_bytes) {
        bool begun = map->began; /* else the journal of an earlier attempt is still to be read */
        if (begun || resume_block < far_source_map_known(map)) {
            drop_all(map, 0, map->height);
            map->closed = 0;
            map->has_top = map->has_lone = map->has_base_top = map->replaying = false;
            far_source_journal_restart(map);
        }
    }
    drop_all(map, 0, 0); /* what is not durable at the target is offered again, so its leaves are the base's again */
    map->has_base = has_base;
    map->base_bytes = base_bytes;
    map->began = true;
    pthread_mutex_unlock(&map->mutex);
}

int far_source_map_new(const struct far_source_map_config *config, struct far_source_map **ret_map,
                       struct far_error *err)
{
    if (config->size_bytes == 0 || config->size_bytes > FAR_DISK_BYTES_MAX) {
        return far_fail(err, FAR_INVALID, "a disk of %llu bytes: must be 1 byte to 64 TiB",
                        (unsigned long long)config->size_bytes);
    }
    struct far_source_map *map = calloc(1, sizeof *map);
    if (map == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a map");
    }
    pthread_mutex_init(&map->mutex, NULL);
    pthread_mutex_init(&map->closing, NULL);
    map->cache_fd = map->journal_fd = -1;
    map->size_bytes = config->size_bytes;
    map->blocks = far_map_block_count(config->size_bytes);
    map->height = far_map_height(config->size_bytes);
    map->config_has_base = config->has_base;
    map->base_root = config->base_root;
    if (config->dir != NULL) {
        char path[SMAP_PATH_MAX];
        int n = snprintf(path, sizeof path, "%s/disk-%llu.pages", config->dir, (unsigned long long)config->disk_id);
        map->cache_fd = n > 0 && (size_t)n < sizeof path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
        far_source_journal_open(map, config);
        remove_old_files(config);
    }
    *ret_map = map;
    return 0;
}

void far_source_map_finish(struct far_source_map *map)
{
    pthread_mutex_lock(&map->mutex);
    far_source_journal_remove(map);
    pthread_mutex_unlock(&map->mutex);
}

void far_source_map_free(struct far_source_map *map)
{
    if (map == NULL) {
        return;
    }
    drop_all(map, 0, map->height);
    if (map->cache_fd >= 0) {
        close(map->cache_fd);
    }
    if (map->journal_fd >= 0) {
        close(map->journal_fd);
    }
    free(map->journal_path);
    pthread_mutex_destroy(&map->mutex);
    pthread_mutex_destroy(&map->closing);
    free(map);
}
