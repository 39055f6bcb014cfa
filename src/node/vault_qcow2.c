/* farshore-node vault export --format qcow2 --base POINT --backing FILE: only what differs from another point, as a qcow2 file over that
 * one's file.
 *
 * A walk down both trees tells the blocks; a block is a cluster (64 KiB), so no byte is read that does not differ. Version 3 of the
 * format: data and its tables as they come, then the table of tables, reference counts (all 1: the file has no holes) and at last the
 * header; killed before that it is no qcow2 file. Zeroes over something that was none take no cluster. Every block is checked by SHA-256
 * when it is read, and read back from the file at the end. The file of the base is named, not opened: it may lie elsewhere. */
#include "base/file.h"
#include "dataplane/vault_diff.h"
#include "node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CLUSTER = FAR_BLOCK_BYTES,
    ENTRIES = CLUSTER / 8,  /* of a table: 512 MiB of disk */
    COUNTS = CLUSTER / 2,   /* of a block of reference counts */
    HEADER_BYTES = 104,
    BACKING_BYTES_MAX = 1023,
    TABLES_MAX = 1 << 20, /* 512 TiB */
};
#define COPIED (1ull << 63) /* an entry whose cluster has one reference */
#define ZEROES 1ull

struct qcow2 {
    struct far_vault *vault;
    struct far_point *base, *point;
    const char *path;
    int fd;
    uint64_t size; /* a multiple of 512 */
    uint64_t next; /* the next cluster that is free */
    uint64_t *tables; /* cluster of each, 0: none */
    uint64_t table_count;
    uint64_t current; /* the table that is in memory; table_count: none */
    uint8_t *table, *block;
    uint64_t looked_at; /* blocks */
    bool tells;         /* how far it is */
};

static int put(struct qcow2 *q, uint64_t cluster, const void *bytes, size_t length, struct far_error *err)
{
    return far_file_pwrite(q->fd, bytes, length, cluster * CLUSTER, q->path, err);
}

/* ---- what differs ---- */

static int close_table(struct qcow2 *q, struct far_error *err)
{
    if (q->current == q->table_count) {
        return 0;
    }
    q->tables[q->current] = q->next++;
    int rc = put(q, q->tables[q->current], q->table, CLUSTER, err);
    q->current = q->table_count;
    return rc;
}

static int write_block(void *arg, uint64_t block, const struct far_hash256 *before, const struct far_hash256 *after, struct far_error *err)
{
    struct qcow2 *q = arg;
    bool zero = false;
    uint64_t entry = ZEROES;
    (void)before;
    int rc = block / ENTRIES != q->current ? close_table(q, err) : 0;
    if (rc == 0 && q->current == q->table_count) {
        q->current = block / ENTRIES;
        memset(q->table, 0, CLUSTER);
    }
    if (rc == 0 && !far_hash256_equal(after, far_zero_leaf())) {
        rc = far_point_read(q->point, block, true, q->block, &zero, err);
        entry = q->next * CLUSTER | COPIED;
        rc = rc == 0 ? put(q, q->next++, q->block, CLUSTER, err) : rc;
    }
    if (rc == 0) {
        far_put_be64(q->table + 8 * (block % ENTRIES), entry);
    }
    if (++q->looked_at % 64 == 0 && q->tells) {
        far_vault_cli_progress(block * CLUSTER < q->size ? block * CLUSTER : q->size, 2 * q->size);
    }
    return rc;
}

/* ---- what holds it together ---- */

static uint64_t clusters_of(uint64_t bytes)
{
    return (bytes + CLUSTER - 1) / CLUSTER;
}

static int write_tables(struct qcow2 *q, uint64_t *ret_first, struct far_error *err)
{
    int rc = 0;
    *ret_first = q->next;
    q->next += clusters_of(8 * q->table_count);
    for (uint64_t at = 0; rc == 0 && at < q->table_count; at += ENTRIES) {
        memset(q->table, 0, CLUSTER);
        for (uint64_t i = at; i < q->table_count && i < at + ENTRIES; i++) {
            far_put_be64(q->table + 8 * (i - at), q->tables[i] != 0 ? q->tables[i] * CLUSTER | COPIED : 0);
        }
        rc = put(q, *ret_first + at / ENTRIES, q->table, CLUSTER, err);
    }
    return rc;
}

/* One for every cluster of the file, those of the counts included. */
static int write_counts(struct qcow2 *q, uint64_t *ret_first, uint64_t *ret_clusters, struct far_error *err)
{
    uint64_t blocks = 1, tables = 1;
    while (blocks * COUNTS < q->next + blocks + tables || tables * ENTRIES < blocks) {
        blocks += blocks * COUNTS < q->next + blocks + tables;
        tables += tables * ENTRIES < blocks;
    }
    uint64_t first_block = q->next, end = q->next + blocks + tables;
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < blocks; i++) {
        memset(q->table, 0, CLUSTER);
        for (uint64_t k = 0; k < COUNTS && i * COUNTS + k < end; k++) {
            q->table[2 * k + 1] = 1;
        }
        rc = put(q, first_block + i, q->table, CLUSTER, err);
    }
    *ret_first = first_block + blocks;
    *ret_clusters = tables;
    for (uint64_t t = 0; rc == 0 && t < tables; t++) {
        memset(q->table, 0, CLUSTER);
        for (uint64_t k = 0; k < ENTRIES && t * ENTRIES + k < blocks; k++) {
            far_put_be64(q->table + 8 * k, (first_block + t * ENTRIES + k) * CLUSTER);
        }
        rc = put(q, *ret_first + t, q->table, CLUSTER, err);
    }
    return rc;
}

static int write_header(struct qcow2 *q, const char *backing, uint64_t tables, uint64_t counts, uint64_t count_clusters,
                        struct far_error *err)
{
    uint8_t *h = q->table, *extension = q->table + HEADER_BYTES;
    size_t name = HEADER_BYTES + 16 + 8; /* behind the extensions */
    memset(h, 0, CLUSTER);
    memcpy(h, "QFI\xfb", 4);
    far_put_be32(h + 4, 3);
    far_put_be64(h + 8, name);
    far_put_be32(h + 16, (uint32_t)strlen(backing));
    far_put_be32(h + 20, 16); /* bits of a cluster */
    far_put_be64(h + 24, q->size);
    far_put_be32(h + 36, (uint32_t)q->table_count);
    far_put_be64(h + 40, tables * CLUSTER);
    far_put_be64(h + 48, counts * CLUSTER);
    far_put_be32(h + 56, (uint32_t)count_clusters);
    far_put_be32(h + 96, 4); /* 16 bits a count */
    far_put_be32(h + 100, HEADER_BYTES);
    far_put_be32(extension, 0xe2792acau); /* format of the backing file */
    far_put_be32(extension + 4, 3);
    memcpy(extension + 8, "raw", 3); /* then 8 zero bytes: the last extension */
    memcpy(h + name, backing, strlen(backing));
    return put(q, 0, h, CLUSTER, err);
}

/* ---- proof ---- */

static int check_block(void *arg, uint64_t block, const struct far_hash256 *before, const struct far_hash256 *after, struct far_error *err)
{
    struct qcow2 *q = arg;
    struct far_hash256 leaf = *far_zero_leaf();
    uint8_t entry[8];
    uint64_t table = q->tables[block / ENTRIES];
    (void)before;
    int rc = far_file_pread(q->fd, entry, sizeof entry, table * CLUSTER + 8 * (block % ENTRIES), q->path, err);
    uint64_t at = rc == 0 ? far_get_be64(entry) & ~COPIED : 0;
    if (rc == 0 && at != ZEROES) {
        rc = far_file_pread(q->fd, q->block, CLUSTER, at, q->path, err);
        far_block_leaf(q->block, CLUSTER, &leaf);
    }
    if (++q->looked_at % 64 == 0 && q->tells) {
        far_vault_cli_progress(q->size + (block * CLUSTER < q->size ? block * CLUSTER : q->size), 2 * q->size);
    }
    bool is_other = rc == 0 && !far_hash256_equal(&leaf, after);
    return is_other ? far_fail(err, FAR_CORRUPT, "'%s' reads back with another block %" PRIu64, q->path, block) : rc;
}

/* ---- all of it ---- */

static int write_all(struct qcow2 *q, const char *backing, struct far_error *err)
{
    uint64_t tables = 0, counts = 0, count_clusters = 0;
    q->next = 1;
    q->current = q->table_count;
    int rc = far_vault_diff(q->vault, q->base, q->point, write_block, q, err);
    rc = rc == 0 ? close_table(q, err) : rc;
    rc = rc == 0 ? write_tables(q, &tables, err) : rc;
    rc = rc == 0 ? write_counts(q, &counts, &count_clusters, err) : rc;
    rc = rc == 0 && fsync(q->fd) != 0 ? far_fail_errno(err, FAR_IO, errno, "sync '%s'", q->path) : rc;
    rc = rc == 0 ? write_header(q, backing, tables, counts, count_clusters, err) : rc;
    rc = rc == 0 && fsync(q->fd) != 0 ? far_fail_errno(err, FAR_IO, errno, "sync '%s'", q->path) : rc;
    if (rc == 0) {
        (void)posix_fadvise(q->fd, 0, 0, POSIX_FADV_DONTNEED);
        q->looked_at = 0;
        rc = far_vault_diff(q->vault, q->base, q->point, check_block, q, err);
    }
    return rc;
}

static int make_file(struct qcow2 *q, const char *backing, struct far_error *err)
{
    q->size = (far_point_size(q->point) + 511) / 512 * 512;
    q->table_count = (clusters_of(q->size) + ENTRIES - 1) / ENTRIES;
    if (q->table_count > TABLES_MAX || strlen(backing) > BACKING_BYTES_MAX || backing[0] == '\0') {
        return far_fail(err, FAR_INVALID, "the name of the base's file is empty or too long, or the disk too large");
    }
    q->tables = calloc(q->table_count, sizeof *q->tables);
    q->table = malloc(CLUSTER);
    q->block = malloc(CLUSTER);
    if (q->tables == NULL || q->table == NULL || q->block == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to export a disk");
    }
    q->fd = open(q->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (q->fd < 0) {
        return far_fail_errno(err, errno == EEXIST ? FAR_CONFLICT : FAR_IO, errno, "create '%s'", q->path);
    }
    int rc = write_all(q, backing, err);
    close(q->fd);
    if (rc != 0) {
        unlink(q->path);
    }
    return rc;
}

int far_vault_qcow2_export(const struct far_qcow2_order *order, struct far_error *err)
{
    struct qcow2 q = {.path = order->out, .fd = -1, .tells = order->progress};
    int rc = far_vault_cli_open(order->vault, FAR_VAULT_READ, order->recovery_key, &q.vault, err);
    rc = rc == 0 ? far_point_open_disk(q.vault, order->base, order->disk, &q.base, err) : rc;
    rc = rc == 0 ? far_point_open_disk(q.vault, order->point, order->disk, &q.point, err) : rc;
    rc = rc == 0 ? make_file(&q, order->backing, err) : rc;
    free(q.tables);
    free(q.table);
    free(q.block);
    far_point_close(q.base);
    far_point_close(q.point);
    far_vault_close(q.vault);
    return rc;
}
