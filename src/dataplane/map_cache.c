/* The cache file of a map: a header of 4 KiB, then pages of 4 KiB with 127 leaves, their number and an XXH3 each; pages whose
 * leaves are all of zero blocks are zeroes themselves, and holes of the file where many follow each other.
 * Only a cache: anything unexpected makes it worthless, and the caller goes on without. Bytes in docs/FORMATS.md. */
#include "dataplane/map.h"

#include "base/file.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    CACHE_PAGE = 4096,
    CACHE_LEAVES = 127,
    CACHE_NUMBER_AT = CACHE_LEAVES * 32,
    CACHE_SUM_AT = CACHE_PAGE - 8,
    CACHE_BATCH = 256, /* pages read or written at once: 1 MiB */
};
static const char cache_magic[8] = "FARMAP00";

struct cache_header {
    uint64_t size_bytes;
    uint64_t pages; /* of leaves */
    struct far_hash256 root;
};

static uint64_t pages_of(uint64_t size_bytes)
{
    return (far_map_block_count(size_bytes) + CACHE_LEAVES - 1) / CACHE_LEAVES;
}

static void page_finish(uint8_t page[CACHE_PAGE])
{
    far_put_le64(page + CACHE_SUM_AT, far_hash64(page, CACHE_SUM_AT));
}

static void header_encode(const struct far_map *map, uint8_t page[CACHE_PAGE])
{
    struct far_hash256 root;
    far_map_root(map, &root);
    memset(page, 0, CACHE_PAGE);
    memcpy(page, cache_magic, 8);
    far_put_le32(page + 8, FAR_MAP_VERSION);
    far_put_le32(page + 12, FAR_BLOCK_BYTES);
    far_put_le64(page + 16, far_map_size(map));
    memcpy(page + 24, root.bytes, 32);
    page_finish(page);
}

/* False: all its leaves are of zero blocks, and the page is nothing but zeroes. */
static bool page_encode(const struct far_map *map, uint64_t number, uint8_t page[CACHE_PAGE])
{
    bool zero = true;
    memset(page, 0, CACHE_PAGE);
    uint64_t first = number * CACHE_LEAVES;
    for (unsigned i = 0; i < CACHE_LEAVES && first + i < far_map_blocks(map); i++) {
        struct far_hash256 leaf;
        far_map_get(map, first + i, &leaf);
        zero = zero && far_hash256_equal(&leaf, far_zero_leaf());
        memcpy(page + 32 * i, leaf.bytes, 32);
    }
    if (zero) {
        memset(page, 0, CACHE_PAGE);
        return false;
    }
    far_put_le64(page + CACHE_NUMBER_AT, number);
    page_finish(page);
    return true;
}

static bool page_sum_good(const uint8_t page[CACHE_PAGE])
{
    return far_get_le64(page + CACHE_SUM_AT) == far_hash64(page, CACHE_SUM_AT);
}

static int header_decode(const uint8_t page[CACHE_PAGE], struct cache_header *ret_header, struct far_error *err)
{
    if (memcmp(page, cache_magic, 8) != 0) {
        return far_fail(err, FAR_CORRUPT, "not a map cache: wrong magic");
    }
    if (!page_sum_good(page)) {
        return far_fail(err, FAR_CORRUPT, "map cache: checksum of the header is wrong");
    }
    if (far_get_le32(page + 8) != FAR_MAP_VERSION || far_get_le32(page + 12) != FAR_BLOCK_BYTES) {
        return far_fail(err, FAR_CORRUPT, "map cache: version or block size is not ours");
    }
    uint64_t size = far_get_le64(page + 16);
    if (size == 0 || size > FAR_DISK_BYTES_MAX) {
        return far_fail(err, FAR_CORRUPT, "map cache: impossible disk size");
    }
    ret_header->size_bytes = size;
    ret_header->pages = pages_of(size);
    memcpy(ret_header->root.bytes, page + 24, 32);
    return 0;
}

static int page_decode(const uint8_t page[CACHE_PAGE], uint64_t number, struct far_map *map, struct far_error *err)
{
    if (far_block_is_zero(page, CACHE_PAGE)) {
        return 0; /* the leaves of a new map */
    }
    if (!page_sum_good(page) || far_get_le64(page + CACHE_NUMBER_AT) != number) {
        return far_fail(err, FAR_CORRUPT, "map cache: page %llu at offset %llu is damaged", (unsigned long long)number,
                        (unsigned long long)((number + 1) * CACHE_PAGE));
    }
    uint64_t first = number * CACHE_LEAVES;
    for (unsigned i = 0; i < CACHE_LEAVES && first + i < far_map_blocks(map); i++) {
        struct far_hash256 leaf;
        memcpy(leaf.bytes, page + 32 * i, 32);
        far_map_set(map, first + i, &leaf);
    }
    return 0;
}

static int check_root(const struct far_map *map, const struct far_hash256 *root, struct far_error *err)
{
    struct far_hash256 computed;
    far_map_root(map, &computed);
    if (!far_hash256_equal(&computed, root)) {
        return far_fail(err, FAR_CORRUPT, "map cache: its leaves do not give its root");
    }
    return 0;
}

int far_map_parse(struct far_slice file, struct far_map **ret_map, struct far_error *err)
{
    struct cache_header header;
    if (file.len < CACHE_PAGE) {
        return far_fail(err, FAR_CORRUPT, "map cache: shorter than its header");
    }
    int rc = header_decode(file.data, &header, err);
    if (rc != 0) {
        return rc;
    }
    if (file.len % CACHE_PAGE != 0 || file.len / CACHE_PAGE != header.pages + 1) {
        return far_fail(err, FAR_CORRUPT, "map cache: %zu bytes do not fit the disk size", file.len);
    }
    struct far_map *map = NULL;
    rc = far_map_new(header.size_bytes, &map, err);
    for (uint64_t i = 0; rc == 0 && i < header.pages; i++) {
        rc = page_decode(file.data + (i + 1) * CACHE_PAGE, i, map, err);
    }
    if (rc == 0) {
        rc = check_root(map, &header.root, err);
    }
    if (rc != 0) {
        far_map_free(map);
        return rc;
    }
    *ret_map = map;
    return 0;
}

static int save_pages(const struct far_map *map, int fd, const char *path, struct far_error *err)
{
    uint8_t *batch = malloc((size_t)CACHE_BATCH * CACHE_PAGE);
    if (batch == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to save a map");
    }
    uint64_t pages = pages_of(far_map_size(map));
    header_encode(map, batch);
    int rc = far_file_pwrite(fd, batch, CACHE_PAGE, 0, path, err);
    if (rc == 0 && ftruncate(fd, (off_t)((pages + 1) * CACHE_PAGE)) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "give its size to '%s'", path);
    }
    for (uint64_t i = 0; rc == 0 && i < pages; i += CACHE_BATCH) {
        uint64_t count = pages - i < CACHE_BATCH ? pages - i : CACHE_BATCH;
        bool data = false;
        for (uint64_t j = 0; j < count; j++) {
            data |= page_encode(map, i + j, batch + j * CACHE_PAGE);
        }
        rc = data ? far_file_pwrite(fd, batch, (size_t)count * CACHE_PAGE, (i + 1) * CACHE_PAGE, path, err) : 0;
    }
    free(batch);
    if (rc == 0 && fdatasync(fd) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "sync '%s'", path);
    }
    return rc;
}

int far_map_save(const struct far_map *map, const char *path, struct far_error *err)
{
    char temporary[4096];
    char dir[4096];
    int n = snprintf(temporary, sizeof temporary, "%s.tmp", path);
    if (n < 0 || (size_t)n >= sizeof temporary) {
        return far_fail(err, FAR_INVALID, "path too long: '%.100s…'", path);
    }
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return far_fail_errno(err, FAR_IO, errno, "create '%s'", temporary);
    }
    int rc = save_pages(map, fd, temporary, err);
    close(fd);
    if (rc == 0 && rename(temporary, path) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "rename '%s'", temporary);
    }
    if (rc != 0) {
        unlink(temporary);
        return rc;
    }
    far_file_dir_of(path, dir, sizeof dir);
    return far_file_sync_dir(dir, err);
}

static int load_pages(int fd, const char *path, const struct cache_header *header, struct far_map *map,
                      struct far_error *err)
{
    uint8_t *batch = malloc((size_t)CACHE_BATCH * CACHE_PAGE);
    int rc = batch == NULL ? far_fail(err, FAR_LIMIT, "no memory to load a map") : 0;
    for (uint64_t i = 0; rc == 0 && i < header->pages; i += CACHE_BATCH) {
        uint64_t count = header->pages - i < CACHE_BATCH ? header->pages - i : CACHE_BATCH;
        rc = far_file_pread(fd, batch, (size_t)count * CACHE_PAGE, (i + 1) * CACHE_PAGE, path, err);
        for (uint64_t j = 0; rc == 0 && j < count; j++) {
            rc = page_decode(batch + j * CACHE_PAGE, i + j, map, err);
        }
    }
    free(batch);
    return rc == 0 ? check_root(map, &header->root, err) : rc;
}

static int load_header(int fd, const char *path, uint64_t size_bytes, const struct far_hash256 *root,
                       struct cache_header *ret_header, struct far_error *err)
{
    uint8_t page[CACHE_PAGE];
    struct stat st;
    int rc = far_file_pread(fd, page, sizeof page, 0, path, err);
    if (rc == 0) {
        rc = header_decode(page, ret_header, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (fstat(fd, &st) != 0 || (uint64_t)st.st_size != (ret_header->pages + 1) * CACHE_PAGE) {
        return far_fail(err, FAR_CORRUPT, "'%s' has not the length of its disk size", path);
    }
    if (ret_header->size_bytes != size_bytes || !far_hash256_equal(&ret_header->root, root)) {
        return far_fail(err, FAR_CONFLICT, "'%s' is of another size or root", path);
    }
    return 0;
}

int far_map_load(const char *path, uint64_t size_bytes, const struct far_hash256 *root, struct far_map **ret_map,
                 struct far_error *err)
{
    struct cache_header header;
    struct far_map *map = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "open '%s'", path);
    }
    int rc = load_header(fd, path, size_bytes, root, &header, err);
    if (rc == 0) {
        rc = far_map_new(size_bytes, &map, err);
    }
    if (rc == 0) {
        rc = load_pages(fd, path, &header, map, err);
    }
    close(fd);
    if (rc != 0) {
        far_map_free(map);
        return rc;
    }
    *ret_map = map;
    return 0;
}
