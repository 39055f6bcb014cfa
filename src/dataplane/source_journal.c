/* The journal of a view in transfer: which pages of the source's map were closed, and how far everything is durable at the
 * target (docs/FORMATS.md, "journal of a source").
 *
 * A head that names the view, then records in the order of the disk, each with a checksum: a closed page of leaves and its
 * hash, a block before which all is durable, or one that changed and was on no list. Reading stops at the first record that
 * is not whole; nothing is synced, so what a power cut leaves is a shorter journal. A view with another name, size, base or
 * job begins a new one. */
#include "dataplane/source_map_local.h"

#include "base/file.h"
#include "base/hash.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { HEAD = 256, RECORD = 56, RECORD_HASHED = 48, CLOSED = 1, DURABLE = 2, MISSED = 3, REF_AT = 96, REF_MAX = 128 };
static const char magic[8] = "FARVIEW1";

static void encode_head(const struct far_source_map *map, const struct far_source_map_config *config, uint8_t head[HEAD])
{
    memset(head, 0, HEAD);
    memcpy(head, magic, 8);
    far_put_le64(head + 8, config->disk_id);
    far_put_le64(head + 16, map->size_bytes);
    far_put_le64(head + 24, config->job_id);
    head[32] = config->has_base;
    memcpy(head + 40, config->base_root.bytes, 32);
    memcpy(head + REF_AT, config->freeze_ref, strlen(config->freeze_ref));
    far_put_le64(head + HEAD - 8, far_hash64(head, HEAD - 8));
}

static bool read_record(struct far_source_map *map, uint64_t at, unsigned *ret_type, uint64_t *ret_number,
                        struct far_hash256 *ret_hash)
{
    uint8_t record[RECORD];
    if (pread(map->journal_fd, record, RECORD, (off_t)at) != RECORD ||
        far_get_le64(record + RECORD_HASHED) != far_hash64(record, RECORD_HASHED)) {
        return false;
    }
    *ret_type = far_get_le32(record);
    *ret_number = far_get_le64(record + 8);
    memcpy(ret_hash->bytes, record + 16, 32);
    return *ret_type == CLOSED ? *ret_number < (map->blocks + FAR_MAP_FANOUT - 1) / FAR_MAP_FANOUT
                               : (*ret_type == DURABLE || *ret_type == MISSED) && *ret_number <= map->blocks;
}

static void append(struct far_source_map *map, unsigned type, uint64_t number, const struct far_hash256 *hash)
{
    uint8_t record[RECORD] = {0};
    if (map->journal_fd < 0) {
        return;
    }
    far_put_le32(record, type);
    far_put_le64(record + 8, number);
    memcpy(record + 16, hash->bytes, 32);
    far_put_le64(record + RECORD_HASHED, far_hash64(record, RECORD_HASHED));
    if (far_file_pwrite(map->journal_fd, record, RECORD, map->journal_end, "journal", NULL) == 0) {
        map->journal_end += RECORD;
    } else {
        far_source_journal_remove(map);
    }
}

/* How far the records that are there go: up to the last that says durable. */
static void scan(struct far_source_map *map, const struct far_source_map_config *config)
{
    uint64_t at = HEAD, number;
    unsigned type;
    struct far_hash256 hash;
    map->journal_end = HEAD;
    while (read_record(map, at, &type, &number, &hash)) {
        at += RECORD;
        if (type == DURABLE) {
            map->closed = number > map->closed ? number : map->closed;
            map->journal_end = at;
        }
    }
    for (at = HEAD; config->missed != NULL && at < map->journal_end && read_record(map, at, &type, &number, &hash); at += RECORD) {
        if (type == MISSED && number < far_source_map_known(map)) { /* what lies behind is looked at again */
            config->missed(config->missed_arg, number);
        }
    }
    map->journal_at = HEAD;
    map->replaying = map->closed > 0;
    map->journal_durable = map->closed;
}

void far_source_journal_restart(struct far_source_map *map)
{
    if (map->journal_fd >= 0 && (ftruncate(map->journal_fd, 0) != 0 ||
                                 far_file_pwrite(map->journal_fd, map->journal_head, HEAD, 0, "journal", NULL) != 0)) {
        far_source_journal_remove(map);
    }
    map->journal_end = HEAD;
    map->journal_durable = 0;
}

void far_source_journal_open(struct far_source_map *map, const struct far_source_map_config *config)
{
    char path[SMAP_PATH_MAX];
    uint8_t head[HEAD];
    int n = snprintf(path, sizeof path, "%s/disk-%llu.view", config->dir, (unsigned long long)config->disk_id);
    if (n < 0 || (size_t)n >= sizeof path || config->freeze_ref[0] == '\0' || strlen(config->freeze_ref) > REF_MAX) {
        return;
    }
    encode_head(map, config, map->journal_head);
    map->journal_path = strdup(path);
    map->journal_fd = map->journal_path != NULL ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (map->journal_fd < 0) {
        return;
    }
    if (pread(map->journal_fd, head, HEAD, 0) == HEAD && memcmp(head, map->journal_head, HEAD) == 0) {
        scan(map, config);
    } else {
        far_source_journal_restart(map);
    }
}

/* What was closed and is not durable is looked at again, so its page must be the base's. */
static bool is_durable(const struct far_source_map *map, uint64_t index)
{
    return map->closed == map->blocks || (index + 1) * FAR_MAP_FANOUT <= map->closed;
}

bool far_source_journal_peek(struct far_source_map *map, uint64_t *ret_index, struct far_hash256 *ret_hash)
{
    unsigned type;
    while (map->journal_fd >= 0 && map->journal_at < map->journal_end) {
        if (!read_record(map, map->journal_at, &type, ret_index, ret_hash)) {
            return false;
        }
        if (type == CLOSED && is_durable(map, *ret_index)) {
            return true;
        }
        map->journal_at += RECORD;
    }
    return false;
}

void far_source_journal_next(struct far_source_map *map)
{
    map->journal_at += RECORD;
}

void far_source_journal_closed(struct far_source_map *map, uint64_t index, const struct far_hash256 *hash)
{
    append(map, CLOSED, index, hash);
}

void far_source_map_missed(struct far_source_map *map, uint64_t block)
{
    static const struct far_hash256 none;
    pthread_mutex_lock(&map->mutex);
    append(map, MISSED, block, &none);
    pthread_mutex_unlock(&map->mutex);
}

void far_source_map_durable(struct far_source_map *map, uint64_t block)
{
    static const struct far_hash256 none;
    pthread_mutex_lock(&map->mutex);
    block = block < map->closed ? block : map->closed;
    if (block > map->journal_durable) { /* each connection says it */
        append(map, DURABLE, block, &none);
        map->journal_durable = block;
    }
    pthread_mutex_unlock(&map->mutex);
}

void far_source_journal_remove(struct far_source_map *map)
{
    if (map->journal_fd >= 0) {
        close(map->journal_fd);
        unlink(map->journal_path);
        map->journal_fd = -1;
    }
}
