/* Dead ranges of packs and packs that are gone: see vault_dead.h. Both files are the same: a head, pairs of numbers, a checksum. */
#define _GNU_SOURCE
#include "dataplane/vault_dead.h"

#include "base/file.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { VERSION = 0, HEAD_BYTES = 48, PAIR_BYTES = 16, SUM_BYTES = 8, FILE_BYTES_MAX = 128 << 20 };
static const char dead_magic[8] = "FARDEAD0";
static const char removed_magic[8] = "FARGONE0";

/* ---- lists ---- */

void far_dead_done(struct far_dead_list *list)
{
    free(list->ranges);
    *list = (struct far_dead_list){0};
}

/* Index of the first range that ends at or behind the offset. */
static size_t find(const struct far_dead_list *list, uint64_t offset)
{
    size_t low = 0, high = list->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (list->ranges[mid].offset + list->ranges[mid].length < offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static int reserve(struct far_dead_list *list, size_t count, struct far_error *err)
{
    if (count <= list->room) {
        return 0;
    }
    size_t room = count + count / 2 + 16;
    struct far_dead_range *ranges = realloc(list->ranges, room * sizeof *ranges);
    if (ranges == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the dead ranges of a pack");
    }
    list->ranges = ranges;
    list->room = room;
    return 0;
}

int far_dead_add(struct far_dead_list *list, uint64_t offset, uint64_t length, struct far_error *err)
{
    uint64_t end = offset + length;
    size_t first = find(list, offset), behind = first;
    if (length == 0) {
        return 0;
    }
    while (behind < list->count && list->ranges[behind].offset <= end) {
        const struct far_dead_range *range = &list->ranges[behind++];
        offset = range->offset < offset ? range->offset : offset;
        end = range->offset + range->length > end ? range->offset + range->length : end;
        list->total -= range->length;
    }
    if (behind == first) {
        int rc = reserve(list, list->count + 1, err);
        if (rc != 0) {
            return rc;
        }
        memmove(&list->ranges[first + 1], &list->ranges[first], (list->count - first) * sizeof list->ranges[0]);
        list->count++;
    } else {
        memmove(&list->ranges[first + 1], &list->ranges[behind], (list->count - behind) * sizeof list->ranges[0]);
        list->count -= behind - first - 1;
    }
    list->ranges[first] = (struct far_dead_range){.offset = offset, .length = end - offset};
    list->total += end - offset;
    return 0;
}

uint64_t far_dead_end(const struct far_dead_list *list, uint64_t offset)
{
    if (list == NULL || list->count == 0) {
        return offset;
    }
    size_t i = find(list, offset + 1);
    bool covers = i < list->count && list->ranges[i].offset <= offset;
    return covers ? list->ranges[i].offset + list->ranges[i].length : offset;
}

/* ---- files ---- */

static int write_pairs(const char *path, const char magic[8], uint32_t number, const uint8_t vault_uuid[16],
                       const struct far_dead_range *pairs, size_t count, struct far_error *err)
{
    size_t len = HEAD_BYTES + count * PAIR_BYTES + SUM_BYTES;
    uint8_t *bytes = len <= FILE_BYTES_MAX ? calloc(1, len) : NULL;
    if (bytes == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to write '%s'", path);
    }
    memcpy(bytes, magic, 8);
    far_put_le32(bytes + 8, VERSION);
    far_put_le32(bytes + 12, number);
    memcpy(bytes + 16, vault_uuid, 16);
    far_put_le64(bytes + 32, count);
    for (size_t i = 0; i < count; i++) {
        far_put_le64(bytes + HEAD_BYTES + i * PAIR_BYTES, pairs[i].offset);
        far_put_le64(bytes + HEAD_BYTES + i * PAIR_BYTES + 8, pairs[i].length);
    }
    far_put_le64(bytes + len - SUM_BYTES, far_hash64(bytes, len - SUM_BYTES));
    int rc = far_file_replace(path, bytes, len, 0600, err);
    free(bytes);
    return rc;
}

/* Are the pairs what they can be: ascending, apart, not behind limit? */
static bool pairs_good(const uint8_t *bytes, uint64_t count, uint64_t limit)
{
    uint64_t end = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t offset = far_get_le64(bytes + i * PAIR_BYTES);
        uint64_t length = far_get_le64(bytes + i * PAIR_BYTES + 8);
        if ((i > 0 && offset < end) || length == 0 || offset > limit || length > limit - offset) {
            return false;
        }
        end = offset + length;
    }
    return true;
}

static int read_pairs(const char *path, const char magic[8], uint32_t number, const uint8_t vault_uuid[16], uint64_t limit,
                      struct far_dead_list *ret_list, struct far_error *err)
{
    struct far_buf buf;
    *ret_list = (struct far_dead_list){0};
    far_buf_init(&buf, FILE_BYTES_MAX);
    int rc = far_file_read(path, &buf, err);
    const uint8_t *bytes = buf.data;
    uint64_t count = rc == 0 && buf.len >= HEAD_BYTES + SUM_BYTES ? far_get_le64(bytes + 32) : 0;
    bool good = rc == 0 && buf.len >= HEAD_BYTES + SUM_BYTES && count <= FILE_BYTES_MAX / PAIR_BYTES &&
                buf.len == HEAD_BYTES + count * PAIR_BYTES + SUM_BYTES && memcmp(bytes, magic, 8) == 0 &&
                far_get_le32(bytes + 8) == VERSION && far_get_le32(bytes + 12) == number &&
                memcmp(bytes + 16, vault_uuid, 16) == 0 &&
                far_get_le64(bytes + buf.len - SUM_BYTES) == far_hash64(bytes, buf.len - SUM_BYTES) &&
                pairs_good(bytes + HEAD_BYTES, count, limit);
    if (rc == 0 && !good) {
        rc = far_fail(err, FAR_CORRUPT, "'%s' is damaged or of another version", path);
    } else if (rc == FAR_LIMIT) {
        rc = far_fail(err, FAR_CORRUPT, "'%s' is too long", path);
    }
    rc = rc == 0 ? reserve(ret_list, count, err) : rc;
    for (uint64_t i = 0; rc == 0 && i < count; i++) {
        struct far_dead_range range = {.offset = far_get_le64(bytes + HEAD_BYTES + i * PAIR_BYTES),
                                       .length = far_get_le64(bytes + HEAD_BYTES + i * PAIR_BYTES + 8)};
        ret_list->ranges[ret_list->count++] = range;
        ret_list->total += range.length;
    }
    far_buf_done(&buf);
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static void dead_path(const struct far_packs *packs, uint32_t number, char *path, size_t len)
{
    snprintf(path, len, "%s/%08u.dead", packs->dir, number);
}

int far_dead_read(const struct far_packs *packs, uint32_t number, struct far_dead_list *ret_list, struct far_error *err)
{
    char path[4096];
    dead_path(packs, number, path, sizeof path);
    return read_pairs(path, dead_magic, number, packs->vault_uuid, 1ull << 62, ret_list, err);
}

int far_dead_write(const struct far_packs *packs, uint32_t number, const struct far_dead_list *list, struct far_error *err)
{
    char path[4096];
    dead_path(packs, number, path, sizeof path);
    return write_pairs(path, dead_magic, number, packs->vault_uuid, list->ranges, list->count, err);
}

static int overwrite_range(int fd, const char *path, struct far_dead_range range, struct far_error *err)
{
    static const uint8_t zeroes[65536];
    int rc = 0;
    while (rc == 0 && range.length > 0) {
        size_t len = range.length < sizeof zeroes ? (size_t)range.length : sizeof zeroes;
        rc = far_file_pwrite(fd, zeroes, len, range.offset, path, err);
        range.offset += len;
        range.length -= len;
    }
    return rc;
}

int far_dead_zero(int fd, const char *path, struct far_dead_range range, bool overwrite, struct far_error *err)
{
    if (overwrite) {
        int rc = overwrite_range(fd, path, range, err);
        if (rc != 0) {
            return rc;
        }
        if (fdatasync(fd) != 0) {
            return far_fail_errno(err, FAR_IO, errno, "sync '%s'", path);
        }
    }
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)range.offset, (off_t)range.length) == 0) {
        return 0;
    }
    if (errno == EOPNOTSUPP || errno == ENOSYS) {
        return overwrite ? 0 : overwrite_range(fd, path, range, err);
    }
    return far_fail_errno(err, errno == ENOSPC ? FAR_LIMIT : FAR_IO, errno, "make a hole in '%s'", path);
}

/* ---- packs that are gone ---- */

static void removed_path(const struct far_packs *packs, char *path, size_t len)
{
    snprintf(path, len, "%s/removed", packs->dir);
}

int far_removed_read(const struct far_packs *packs, struct far_removed *ret_removed, struct far_error *err)
{
    char path[4096];
    struct far_dead_list list;
    removed_path(packs, path, sizeof path);
    int rc = read_pairs(path, removed_magic, 0, packs->vault_uuid, UINT32_MAX, &list, err);
    if (rc == 0) {
        *ret_removed = (struct far_removed){.runs = list.ranges, .count = list.count};
    } else {
        far_dead_done(&list);
    }
    return rc;
}

void far_removed_done(struct far_removed *removed)
{
    free(removed->runs);
    *removed = (struct far_removed){0};
}

bool far_removed_has(const struct far_removed *removed, uint32_t number)
{
    struct far_dead_list list = {.ranges = removed->runs, .count = removed->count};
    return far_dead_end(&list, number) != number;
}

int far_removed_add(const struct far_packs *packs, struct far_removed *removed, uint32_t number, struct far_error *err)
{
    char path[4096];
    struct far_dead_list list = {.ranges = removed->runs, .count = removed->count, .room = removed->count};
    int rc = far_removed_has(removed, number) ? 0 : far_dead_add(&list, number, 1, err);
    *removed = (struct far_removed){.runs = list.ranges, .count = list.count};
    removed_path(packs, path, sizeof path);
    return rc == 0 ? write_pairs(path, removed_magic, 0, packs->vault_uuid, list.ranges, list.count, err) : rc;
}
