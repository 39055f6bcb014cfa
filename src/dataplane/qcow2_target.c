/* Recovered disks as qcow2 images: see qcow2_target.h. The file, in clusters: header, table of the blocks of counts, blocks of counts,
 * table of tables (L1), tables (L2), and the data of the disk as it lies there. */
#include "dataplane/qcow2_target.h"

#include "base/bytes.h"
#include "dataplane/map.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CLUSTER = FAR_BLOCK_BYTES,
    ENTRIES = CLUSTER / 8, /* of a table: 512 MiB of disk */
    COUNTS = CLUSTER / 2,  /* of a block of counts */
    HEADER_BYTES = 104,
    SECTOR = 512,
    PIECE = 64, /* entries that are looked at in one go */
};
#define SIZE_MAX_BYTES (512ull << 40)
#define COPIED (1ull << 63) /* an entry whose cluster has one reference */

/* First clusters of the parts. */
struct places {
    uint64_t data_clusters, tables;
    uint64_t count_blocks, counts_table, counts, table_of_tables, first_table, data, end;
};

struct far_qcow2_target {
    const struct far_adapter_bytes *bytes;
    void *handle;
    uint64_t size; /* a multiple of SECTOR */
    struct places at;
    _Atomic uint8_t *is_there; /* a bit for each cluster of the disk that is not known to be zero */
};

static int fail(struct far_adapter_error *ret_error, int outcome, int klass, const char *message)
{
    if (ret_error != NULL) {
        ret_error->klass = klass;
        snprintf(ret_error->message, sizeof ret_error->message, "%s", message);
    }
    return outcome;
}

/* ---- places ---- */

static uint64_t parts_of(uint64_t whole, uint64_t part)
{
    return (whole + part - 1) / part;
}

static void lay_out(uint64_t size, struct places *ret)
{
    uint64_t blocks = 1, tables;
    ret->data_clusters = parts_of(size, CLUSTER);
    ret->tables = parts_of(ret->data_clusters, ENTRIES);
    do { /* the counts count themselves, too */
        ret->count_blocks = blocks;
        tables = parts_of(blocks, ENTRIES);
        ret->counts_table = 1;
        ret->counts = ret->counts_table + tables;
        ret->table_of_tables = ret->counts + blocks;
        ret->first_table = ret->table_of_tables + parts_of(ret->tables, ENTRIES);
        ret->data = ret->first_table + ret->tables;
        ret->end = ret->data + ret->data_clusters;
        blocks = parts_of(ret->end, COUNTS);
    } while (blocks != ret->count_blocks);
}

static uint64_t size_of(uint64_t size_bytes)
{
    return parts_of(size_bytes, SECTOR) * SECTOR;
}

uint64_t far_qcow2_target_file_bytes(uint64_t size_bytes)
{
    struct places at;
    if (size_bytes == 0 || size_bytes > SIZE_MAX_BYTES) {
        return 0;
    }
    lay_out(size_of(size_bytes), &at);
    return at.end * CLUSTER;
}

/* ---- which clusters are there ---- */

static bool is_there(const struct far_qcow2_target *target, uint64_t cluster)
{
    return (atomic_load_explicit(&target->is_there[cluster / 8], memory_order_relaxed) >> (cluster % 8) & 1) != 0;
}

static void note(struct far_qcow2_target *target, const uint8_t *data, size_t length, uint64_t offset)
{
    for (size_t at = 0, piece; at < length; at += piece) {
        uint64_t cluster = (offset + at) / CLUSTER;
        size_t rest = CLUSTER - (offset + at) % CLUSTER;
        piece = length - at < rest ? length - at : rest;
        if (!is_there(target, cluster) && !far_block_is_zero(data + at, piece)) {
            atomic_fetch_or_explicit(&target->is_there[cluster / 8], (uint8_t)(1u << (cluster % 8)), memory_order_relaxed);
        }
    }
}

static int target_write(void *opaque, const void *buffer, size_t length, uint64_t offset, struct far_adapter_error *ret_error)
{
    struct far_qcow2_target *target = opaque;
    note(target, buffer, length, offset);
    return target->bytes->write(target->handle, buffer, length, target->at.data * CLUSTER + offset, ret_error);
}

/* ---- the tables ---- */

static void fill_header(const struct far_qcow2_target *target, uint64_t index, uint8_t *to)
{
    const struct places *at = &target->at;
    (void)index;
    memcpy(to, "QFI\xfb", 4);
    far_put_be32(to + 4, 3);
    far_put_be32(to + 20, 16); /* bits of a cluster */
    far_put_be64(to + 24, target->size);
    far_put_be32(to + 36, (uint32_t)at->tables);
    far_put_be64(to + 40, at->table_of_tables * CLUSTER);
    far_put_be64(to + 48, at->counts_table * CLUSTER);
    far_put_be32(to + 56, (uint32_t)(at->counts - at->counts_table));
    far_put_be32(to + 96, 4); /* 16 bits a count */
    far_put_be32(to + 100, HEADER_BYTES); /* 8 zero bytes behind it: no extensions */
}

/* Entries that name `count` clusters, one after the other from `first` on; this is cluster `index` of them. */
static void fill_names(uint64_t first, uint64_t count, uint64_t index, uint64_t flags, uint8_t *to)
{
    for (uint64_t k = 0; k < ENTRIES && index * ENTRIES + k < count; k++) {
        far_put_be64(to + 8 * k, (first + index * ENTRIES + k) * CLUSTER | flags);
    }
}

static void fill_counts_table(const struct far_qcow2_target *target, uint64_t index, uint8_t *to)
{
    fill_names(target->at.counts, target->at.count_blocks, index, 0, to);
}

static void fill_counts(const struct far_qcow2_target *target, uint64_t index, uint8_t *to)
{
    const struct places *at = &target->at;
    for (uint64_t k = 0; k < COUNTS && index * COUNTS + k < at->end; k++) {
        uint64_t cluster = index * COUNTS + k;
        to[2 * k + 1] = cluster < at->data || is_there(target, cluster - at->data);
    }
}

static void fill_table_of_tables(const struct far_qcow2_target *target, uint64_t index, uint8_t *to)
{
    fill_names(target->at.first_table, target->at.tables, index, COPIED, to);
}

static void fill_table(const struct far_qcow2_target *target, uint64_t index, uint8_t *to)
{
    const struct places *at = &target->at;
    for (uint64_t k = 0; k < ENTRIES && index * ENTRIES + k < at->data_clusters; k++) {
        uint64_t cluster = index * ENTRIES + k;
        far_put_be64(to + 8 * k, is_there(target, cluster) ? (at->data + cluster) * CLUSTER | COPIED : 0);
    }
}

typedef int each_cluster(const struct far_qcow2_target *target, const uint8_t *bytes, uint64_t cluster, uint8_t *room,
                         struct far_adapter_error *ret_error);

static int put_cluster(const struct far_qcow2_target *target, const uint8_t *bytes, uint64_t cluster, uint8_t *room,
                       struct far_adapter_error *ret_error)
{
    (void)room;
    return target->bytes->write(target->handle, bytes, CLUSTER, cluster * CLUSTER, ret_error);
}

static int check_cluster(const struct far_qcow2_target *target, const uint8_t *bytes, uint64_t cluster, uint8_t *room,
                         struct far_adapter_error *ret_error)
{
    int outcome = target->bytes->read(target->handle, room, CLUSTER, cluster * CLUSTER, ret_error);
    return outcome != FAR_ADAPTER_OK || memcmp(room, bytes, CLUSTER) == 0
               ? outcome
               : fail(ret_error, FAR_ADAPTER_FATAL, FAR_CORRUPT, "the tables of a qcow2 image read back as something else");
}

/* The header at last. */
static int for_each_cluster(const struct far_qcow2_target *target, each_cluster *each, struct far_adapter_error *ret_error)
{
    const struct places *at = &target->at;
    const struct {
        uint64_t first, count;
        void (*fill)(const struct far_qcow2_target *target, uint64_t index, uint8_t *to);
    } parts[] = {
        {at->first_table, at->tables, fill_table},
        {at->table_of_tables, at->first_table - at->table_of_tables, fill_table_of_tables},
        {at->counts, at->count_blocks, fill_counts},
        {at->counts_table, at->counts - at->counts_table, fill_counts_table},
        {0, 1, fill_header},
    };
    uint8_t *bytes = malloc(2 * CLUSTER);
    int outcome = bytes != NULL ? FAR_ADAPTER_OK : fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory for a table");
    for (size_t i = 0; outcome == FAR_ADAPTER_OK && i < sizeof parts / sizeof parts[0]; i++) {
        for (uint64_t k = 0; outcome == FAR_ADAPTER_OK && k < parts[i].count; k++) {
            memset(bytes, 0, CLUSTER);
            parts[i].fill(target, k, bytes);
            outcome = each(target, bytes, parts[i].first + k, bytes + CLUSTER, ret_error);
        }
    }
    free(bytes);
    return outcome;
}

static int target_flush(void *opaque, struct far_adapter_error *ret_error)
{
    struct far_qcow2_target *target = opaque;
    int outcome = for_each_cluster(target, put_cluster, ret_error);
    outcome = outcome == FAR_ADAPTER_OK ? target->bytes->flush(target->handle, ret_error) : outcome;
    return outcome == FAR_ADAPTER_OK ? for_each_cluster(target, check_cluster, ret_error) : outcome;
}

/* ---- reading back ---- */

/* So many clusters that lie one behind the other in the file, or none of which is there. */
static size_t run_of(const uint8_t *entries, size_t count)
{
    uint64_t first = far_get_be64(entries) & ~COPIED;
    size_t run = 1;
    while (run < count && (far_get_be64(entries + 8 * run) & ~COPIED) == (first == 0 ? 0 : first + run * CLUSTER)) {
        run++;
    }
    return run;
}

static int target_read(void *opaque, void *buffer, size_t length, uint64_t offset, struct far_adapter_error *ret_error)
{
    struct far_qcow2_target *target = opaque;
    uint8_t entries[8 * PIECE], *to = buffer;
    int outcome = FAR_ADAPTER_OK;
    while (outcome == FAR_ADAPTER_OK && length > 0) {
        uint64_t cluster = offset / CLUSTER;
        size_t count = (length + CLUSTER - 1) / CLUSTER, known = count < PIECE ? count : PIECE;
        outcome = target->bytes->read(target->handle, entries, 8 * known, target->at.first_table * CLUSTER + 8 * cluster, ret_error);
        for (size_t i = 0, run; outcome == FAR_ADAPTER_OK && i < known; i += run) {
            run = run_of(entries + 8 * i, known - i);
            size_t bytes = run * CLUSTER < length ? run * CLUSTER : length;
            uint64_t from = far_get_be64(entries + 8 * i) & ~COPIED;
            if (from == 0) {
                memset(to, 0, bytes);
            } else {
                outcome = target->bytes->read(target->handle, to, bytes, from, ret_error);
            }
            to += bytes;
            length -= bytes;
            offset += bytes;
        }
    }
    return outcome;
}

/* ---- life ---- */

int far_qcow2_target_new(const struct far_adapter_bytes *bytes, void *handle, uint64_t size_bytes, struct far_qcow2_target **ret_target,
                         struct far_error *err)
{
    struct far_qcow2_target *target = calloc(1, sizeof *target);
    if (target != NULL) {
        *target = (struct far_qcow2_target){.bytes = bytes, .handle = handle, .size = size_of(size_bytes)};
        lay_out(target->size, &target->at);
        target->is_there = calloc(1, (size_t)(target->at.data_clusters / 8 + 1));
    }
    if (target == NULL || target->is_there == NULL) {
        free(target);
        return far_fail(err, FAR_LIMIT, "no memory for a qcow2 image");
    }
    *ret_target = target;
    return 0;
}

static void target_close(void *opaque)
{
    struct far_qcow2_target *target = opaque;
    if (target != NULL) {
        target->bytes->close(target->handle);
        free((void *)target->is_there);
        free(target);
    }
}

const struct far_adapter_bytes far_qcow2_target_bytes = {
    .version = FAR_ADAPTER_VERSION,
    .fence = "none",
    .read = target_read,
    .write = target_write,
    .flush = target_flush,
    .close = target_close,
};
