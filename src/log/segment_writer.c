/* Writing a segment: see segment.h. */
#include "log/segment.h"

#include "base/file.h"
#include "base/hash.h"
#include "log/segment_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zstd.h>

enum { PATH_BYTES = 4096, LEVEL = 3 }; /* of zstd */

struct far_segment_writer {
    int fd;
    char *dir;
    char path[PATH_BYTES];
    struct far_segment segment;
    uint64_t at;          /* where the next block goes */
    struct far_buf rows;  /* of the block that is being filled */
    uint64_t block_first; /* its first seq */
    uint32_t row_count;
    struct far_buf stored; /* a block as it goes to the disk */
    struct far_buf index;
    ZSTD_CCtx *zstd;
};

void far_segment_name(const struct far_segment *segment, char ret_name[FAR_SEGMENT_NAME])
{
    snprintf(ret_name, FAR_SEGMENT_NAME, "%016llx-%016llx.seg", (unsigned long long)segment->first_seq,
             (unsigned long long)segment->index_hash);
}

static void writer_free(struct far_segment_writer *writer)
{
    if (writer->fd >= 0) {
        close(writer->fd);
    }
    far_buf_done(&writer->rows);
    far_buf_done(&writer->stored);
    far_buf_done(&writer->index);
    ZSTD_freeCCtx(writer->zstd);
    free(writer->dir);
    free(writer);
}

void far_segment_discard(struct far_segment_writer *writer)
{
    if (writer != NULL) {
        (void)unlink(writer->path);
        writer_free(writer);
    }
}

static int write_header(struct far_segment_writer *writer, struct far_error *err)
{
    uint8_t p[FAR_SEGMENT_HEADER] = {0};
    memcpy(p, FAR_SEGMENT_MAGIC, 8);
    far_put_le32(p + 8, FAR_SEGMENT_VERSION);
    far_put_le32(p + 12, FAR_SEGMENT_HEADER);
    far_put_le64(p + 16, writer->segment.first_seq);
    memcpy(p + 24, writer->segment.base_head, FAR_HEAD_SIZE);
    far_put_le64(p + 56, far_hash64(p, 56));
    writer->at = sizeof p;
    return far_file_pwrite(writer->fd, p, sizeof p, 0, writer->path, err);
}

int far_segment_create(const char *dir, uint64_t first_seq, const uint8_t base_head[FAR_HEAD_SIZE],
                       struct far_segment_writer **ret_writer, struct far_error *err)
{
    struct far_segment_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a segment");
    }
    far_buf_init(&writer->rows, FAR_SEGMENT_BLOCK_MAX);
    far_buf_init(&writer->stored, FAR_SEGMENT_BLOCK_HEADER + ZSTD_COMPRESSBOUND(FAR_SEGMENT_BLOCK_MAX));
    far_buf_init(&writer->index, (size_t)FAR_SEGMENT_BLOCKS_MAX * FAR_SEGMENT_ENTRY);
    writer->segment = (struct far_segment){.first_seq = first_seq, .last_seq = first_seq - 1};
    memcpy(writer->segment.base_head, base_head, FAR_HEAD_SIZE);
    memcpy(writer->segment.head, base_head, FAR_HEAD_SIZE);
    snprintf(writer->path, sizeof writer->path, "%s/%016llx.new", dir, (unsigned long long)first_seq);
    writer->fd = open(writer->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int rv = writer->fd >= 0 ? 0 : far_fail_errno(err, errno == ENOSPC ? FAR_LIMIT : FAR_IO, errno, "make '%s'", writer->path);
    writer->zstd = ZSTD_createCCtx();
    writer->dir = strdup(dir);
    if (rv == 0 && (writer->zstd == NULL || writer->dir == NULL)) {
        rv = far_fail(err, FAR_LIMIT, "no memory for a segment");
    }
    rv = rv != 0 ? rv : write_header(writer, err);
    if (rv != 0) {
        far_segment_discard(writer);
        return rv;
    }
    *ret_writer = writer;
    return 0;
}

uint64_t far_segment_written(const struct far_segment_writer *writer)
{
    return writer->at;
}

/* ---- blocks ---- */

static int compress(struct far_segment_writer *writer, size_t *ret_len, struct far_error *err)
{
    size_t bound = ZSTD_compressBound(writer->rows.len);
    far_buf_reset(&writer->stored);
    uint8_t *p = far_buf_reserve(&writer->stored, FAR_SEGMENT_BLOCK_HEADER + bound);
    if (p == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a segment");
    }
    size_t len = ZSTD_compressCCtx(writer->zstd, p + FAR_SEGMENT_BLOCK_HEADER, bound, writer->rows.data, writer->rows.len, LEVEL);
    *ret_len = len;
    return ZSTD_isError(len) ? far_fail(err, FAR_INTERNAL, "compress a segment: %s", ZSTD_getErrorName(len)) : 0;
}

static int note_block(struct far_segment_writer *writer, size_t stored_len, struct far_error *err)
{
    uint8_t entry[FAR_SEGMENT_ENTRY];
    far_put_le64(entry, writer->block_first);
    far_put_le64(entry + 8, writer->at);
    far_put_le32(entry + 16, (uint32_t)stored_len);
    far_put_le32(entry + 20, (uint32_t)writer->rows.len);
    return far_buf_append(&writer->index, entry, sizeof entry) == 0
               ? 0
               : far_fail(err, FAR_LIMIT, "a segment has at most %d blocks", FAR_SEGMENT_BLOCKS_MAX);
}

static int end_block(struct far_segment_writer *writer, struct far_error *err)
{
    size_t len = 0;
    if (writer->row_count == 0) {
        return 0;
    }
    int rv = compress(writer, &len, err);
    rv = rv != 0 ? rv : note_block(writer, len, err);
    if (rv != 0) {
        return rv;
    }
    uint8_t *p = writer->stored.data;
    far_put_le32(p, FAR_SEGMENT_BLOCK_MAGIC);
    far_put_le32(p + 4, writer->row_count);
    far_put_le32(p + 8, (uint32_t)writer->rows.len);
    far_put_le32(p + 12, (uint32_t)len);
    far_put_le64(p + 16, writer->block_first);
    far_put_le64(p + 24, far_hash64_parts(far_slice(p, 24), far_slice(p + FAR_SEGMENT_BLOCK_HEADER, len), far_slice(NULL, 0)));
    rv = far_file_pwrite(writer->fd, p, FAR_SEGMENT_BLOCK_HEADER + len, writer->at, writer->path, err);
    if (rv == 0) {
        writer->at += FAR_SEGMENT_BLOCK_HEADER + len;
        writer->row_count = 0;
        far_buf_reset(&writer->rows);
    }
    return rv;
}

/* The next in the chain? */
static int check_row(struct far_segment_writer *writer, struct far_slice row, struct far_error *err)
{
    struct far_event event;
    uint8_t stored[FAR_HEAD_SIZE], head[FAR_HEAD_SIZE];
    memcpy(head, writer->segment.head, sizeof head);
    int rv = far_event_row_decode(row, &event, stored, err);
    rv = rv != 0 ? rv : far_chain_add(head, &event, err);
    if (rv == 0 && (event.seq != writer->segment.last_seq + 1 || memcmp(head, stored, sizeof head) != 0)) {
        rv = far_fail(err, FAR_CORRUPT, "event %llu does not follow event %llu", (unsigned long long)event.seq,
                      (unsigned long long)writer->segment.last_seq);
    }
    if (rv == 0) {
        memcpy(writer->segment.head, head, sizeof head);
        writer->segment.last_seq = event.seq;
    }
    return rv;
}

int far_segment_add(struct far_segment_writer *writer, struct far_slice row, struct far_error *err)
{
    uint8_t length[4];
    int rv = check_row(writer, row, err);
    if (rv != 0) {
        return rv;
    }
    far_put_le32(length, (uint32_t)row.len);
    if (far_buf_append(&writer->rows, length, sizeof length) != 0 || far_buf_append(&writer->rows, row.data, row.len) != 0) {
        return far_fail(err, FAR_LIMIT, "no memory for a segment");
    }
    writer->block_first = writer->row_count == 0 ? writer->segment.last_seq : writer->block_first;
    writer->row_count++;
    return writer->rows.len >= FAR_SEGMENT_BLOCK ? end_block(writer, err) : 0;
}

/* ---- the end ---- */

static int write_end(struct far_segment_writer *writer, struct far_error *err)
{
    struct far_segment *segment = &writer->segment;
    uint8_t p[FAR_SEGMENT_TRAILER] = {0};
    segment->index_hash = far_hash64(writer->index.data, writer->index.len);
    segment->bytes = writer->at + writer->index.len + sizeof p;
    memcpy(p, FAR_SEGMENT_END_MAGIC, 8);
    far_put_le64(p + 8, segment->first_seq);
    far_put_le64(p + 16, segment->last_seq);
    memcpy(p + 24, segment->base_head, FAR_HEAD_SIZE);
    memcpy(p + 56, segment->head, FAR_HEAD_SIZE);
    far_put_le64(p + 88, writer->at);
    far_put_le32(p + 96, (uint32_t)(writer->index.len / FAR_SEGMENT_ENTRY));
    far_put_le32(p + 100, FAR_SEGMENT_VERSION);
    far_put_le64(p + 104, segment->index_hash);
    far_put_le64(p + 112, segment->bytes);
    far_put_le64(p + 128, far_hash64(p, 128));
    int rv = far_file_pwrite(writer->fd, writer->index.data, writer->index.len, writer->at, writer->path, err);
    return rv != 0 ? rv : far_file_pwrite(writer->fd, p, sizeof p, segment->bytes - sizeof p, writer->path, err);
}

/* On the disk first, then under its name. */
static int give_name(struct far_segment_writer *writer, struct far_error *err)
{
    char name[FAR_SEGMENT_NAME], path[PATH_BYTES + FAR_SEGMENT_NAME + 1];
    far_segment_name(&writer->segment, name);
    snprintf(path, sizeof path, "%s/%s", writer->dir, name);
    if (fdatasync(writer->fd) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "sync '%s'", writer->path);
    }
    if (rename(writer->path, path) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "rename '%s'", writer->path);
    }
    return far_file_sync_dir(writer->dir, err);
}

int far_segment_finish(struct far_segment_writer *writer, struct far_segment *ret_segment, struct far_error *err)
{
    int rv = end_block(writer, err);
    if (rv == 0 && writer->index.len == 0) {
        rv = far_fail(err, FAR_INVALID, "a segment without events");
    }
    rv = rv != 0 ? rv : write_end(writer, err);
    rv = rv != 0 ? rv : give_name(writer, err);
    if (rv != 0) {
        far_segment_discard(writer);
        return rv;
    }
    *ret_segment = writer->segment;
    writer_free(writer);
    return 0;
}
