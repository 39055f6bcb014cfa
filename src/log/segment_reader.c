/* Reading a segment: see segment.h. One block is open at a time, and where the last row was is remembered, so that a walk
 * forward costs one look a row. */
#include "log/segment.h"

#include "base/file.h"
#include "base/hash.h"
#include "log/segment_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

enum { PATH_BYTES = 4096, NONE = -1 };

struct block {
    uint64_t first_seq, at;
    uint32_t stored_len, raw_len;
};

struct far_segment_reader {
    int fd;
    char name[FAR_SEGMENT_NAME];
    struct far_segment segment;
    uint64_t index_at;
    uint32_t blocks;
    uint8_t *index;
    int64_t open_block; /* its rows lie in raw */
    uint32_t rows;      /* in it */
    uint8_t *stored, *raw;
    size_t raw_len;
    uint64_t next_seq; /* the row that begins at next_at of raw */
    size_t next_at;
};

/* The cause stays, the file is named. */
static int damaged(const struct far_segment_reader *reader, struct far_error *err, const char *what)
{
    return far_fail(err, FAR_CORRUPT, "segment '%s': %s", reader->name, what);
}

static struct block block_of(const struct far_segment_reader *reader, uint32_t number)
{
    const uint8_t *p = reader->index + (size_t)number * FAR_SEGMENT_ENTRY;
    return (struct block){.first_seq = far_get_le64(p), .at = far_get_le64(p + 8), .stored_len = far_get_le32(p + 16),
                          .raw_len = far_get_le32(p + 20)};
}

/* ---- opening ---- */

static int read_trailer(struct far_segment_reader *reader, uint64_t size, struct far_error *err)
{
    uint8_t p[FAR_SEGMENT_TRAILER];
    struct far_segment *segment = &reader->segment;
    if (size < FAR_SEGMENT_HEADER + sizeof p) {
        return damaged(reader, err, "it is too short");
    }
    int rv = far_file_pread(reader->fd, p, sizeof p, size - sizeof p, reader->name, err);
    if (rv != 0) {
        return rv;
    }
    if (memcmp(p, FAR_SEGMENT_END_MAGIC, 8) != 0 || far_get_le64(p + 128) != far_hash64(p, 128)) {
        return damaged(reader, err, "its end is not what was written");
    }
    if (far_get_le32(p + 100) != FAR_SEGMENT_VERSION) {
        return far_fail(err, FAR_INVALID, "segment '%s' has format %u, this version of Farshore knows %d", reader->name,
                        far_get_le32(p + 100), FAR_SEGMENT_VERSION);
    }
    *segment = (struct far_segment){.first_seq = far_get_le64(p + 8), .last_seq = far_get_le64(p + 16),
                                    .bytes = far_get_le64(p + 112), .index_hash = far_get_le64(p + 104)};
    memcpy(segment->base_head, p + 24, FAR_HEAD_SIZE);
    memcpy(segment->head, p + 56, FAR_HEAD_SIZE);
    reader->index_at = far_get_le64(p + 88);
    reader->blocks = far_get_le32(p + 96);
    bool fits = segment->bytes == size && segment->first_seq > 0 && segment->first_seq <= segment->last_seq &&
                reader->blocks > 0 && reader->blocks <= FAR_SEGMENT_BLOCKS_MAX && reader->index_at < size &&
                reader->index_at + (uint64_t)reader->blocks * FAR_SEGMENT_ENTRY + sizeof p == size;
    return fits ? 0 : damaged(reader, err, "its end does not fit its length");
}

/* Blocks lie one after the other, from the header to the index, in the order of their events. */
static int check_index(const struct far_segment_reader *reader, struct far_error *err)
{
    uint64_t at = FAR_SEGMENT_HEADER, seq = reader->segment.first_seq;
    for (uint32_t i = 0; i < reader->blocks; i++) {
        struct block block = block_of(reader, i);
        bool follows = i == 0 ? block.first_seq == seq : block.first_seq > seq && block.first_seq <= reader->segment.last_seq;
        if (!follows || block.at != at || block.raw_len == 0 || block.raw_len > FAR_SEGMENT_BLOCK_MAX ||
            block.stored_len > ZSTD_COMPRESSBOUND(FAR_SEGMENT_BLOCK_MAX)) {
            return damaged(reader, err, "its index is not in order");
        }
        seq = block.first_seq;
        at += FAR_SEGMENT_BLOCK_HEADER + (uint64_t)block.stored_len;
    }
    return at == reader->index_at ? 0 : damaged(reader, err, "its index does not fit its blocks");
}

static int read_index(struct far_segment_reader *reader, struct far_error *err)
{
    size_t len = (size_t)reader->blocks * FAR_SEGMENT_ENTRY;
    reader->index = malloc(len);
    reader->stored = malloc(FAR_SEGMENT_BLOCK_HEADER + ZSTD_COMPRESSBOUND(FAR_SEGMENT_BLOCK_MAX));
    reader->raw = malloc(FAR_SEGMENT_BLOCK_MAX);
    if (reader->index == NULL || reader->stored == NULL || reader->raw == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to read a segment");
    }
    int rv = far_file_pread(reader->fd, reader->index, len, reader->index_at, reader->name, err);
    if (rv == 0 && far_hash64(reader->index, len) != reader->segment.index_hash) {
        rv = damaged(reader, err, "the checksum of its index is wrong");
    }
    return rv != 0 ? rv : check_index(reader, err);
}

static int check_header(const struct far_segment_reader *reader, struct far_error *err)
{
    uint8_t p[FAR_SEGMENT_HEADER];
    int rv = far_file_pread(reader->fd, p, sizeof p, 0, reader->name, err);
    if (rv == 0 && (memcmp(p, FAR_SEGMENT_MAGIC, 8) != 0 || far_get_le64(p + 56) != far_hash64(p, 56) ||
                    far_get_le64(p + 16) != reader->segment.first_seq ||
                    memcmp(p + 24, reader->segment.base_head, FAR_HEAD_SIZE) != 0)) {
        rv = damaged(reader, err, "its beginning is not what was written");
    }
    return rv;
}

int far_segment_open_fd(int fd, const char *name, struct far_segment_reader **ret_reader, struct far_error *err)
{
    struct far_segment_reader *reader = calloc(1, sizeof *reader);
    struct stat st;
    if (reader == NULL) {
        close(fd);
        return far_fail(err, FAR_LIMIT, "no memory to read a segment");
    }
    reader->fd = fd;
    reader->open_block = NONE;
    snprintf(reader->name, sizeof reader->name, "%s", name);
    int rv = fstat(fd, &st) == 0 ? 0 : far_fail_errno(err, FAR_IO, errno, "look at segment '%s'", name);
    rv = rv != 0 ? rv : read_trailer(reader, (uint64_t)st.st_size, err);
    rv = rv != 0 ? rv : read_index(reader, err);
    rv = rv != 0 ? rv : check_header(reader, err);
    if (rv != 0) {
        far_segment_close(reader);
        return rv;
    }
    *ret_reader = reader;
    return 0;
}

bool far_segment_same(const struct far_segment *a, const struct far_segment *b)
{
    return a->first_seq == b->first_seq && a->last_seq == b->last_seq && a->bytes == b->bytes &&
           a->index_hash == b->index_hash && memcmp(a->head, b->head, FAR_HEAD_SIZE) == 0 &&
           memcmp(a->base_head, b->base_head, FAR_HEAD_SIZE) == 0;
}

int far_segment_open(const char *dir, const struct far_segment *segment, struct far_segment_reader **ret_reader,
                     struct far_error *err)
{
    char name[FAR_SEGMENT_NAME], path[PATH_BYTES];
    far_segment_name(segment, name);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "open segment '%s'", path);
    }
    struct far_segment_reader *reader;
    int rv = far_segment_open_fd(fd, name, &reader, err);
    if (rv == 0 && !far_segment_same(&reader->segment, segment)) {
        rv = damaged(reader, err, "it is not the one that was sealed");
        far_segment_close(reader);
    }
    if (rv == 0) {
        *ret_reader = reader;
    }
    return rv;
}

void far_segment_close(struct far_segment_reader *reader)
{
    if (reader != NULL) {
        close(reader->fd);
        free(reader->index);
        free(reader->stored);
        free(reader->raw);
        free(reader);
    }
}

const struct far_segment *far_segment_of(const struct far_segment_reader *reader)
{
    return &reader->segment;
}

/* ---- blocks ---- */

static uint32_t find_block(const struct far_segment_reader *reader, uint64_t seq)
{
    uint32_t low = 0, high = reader->blocks - 1;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (block_of(reader, middle).first_seq <= seq) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

static int open_block(struct far_segment_reader *reader, uint32_t number, struct far_error *err)
{
    struct block block = block_of(reader, number);
    const uint8_t *p = reader->stored;
    size_t len = FAR_SEGMENT_BLOCK_HEADER + (size_t)block.stored_len;
    reader->open_block = NONE;
    int rv = far_file_pread(reader->fd, reader->stored, len, block.at, reader->name, err);
    if (rv != 0) {
        return rv;
    }
    struct far_slice stored = far_slice(p + FAR_SEGMENT_BLOCK_HEADER, block.stored_len);
    if (far_get_le32(p) != FAR_SEGMENT_BLOCK_MAGIC || far_get_le32(p + 8) != block.raw_len ||
        far_get_le32(p + 12) != block.stored_len || far_get_le64(p + 16) != block.first_seq ||
        far_get_le64(p + 24) != far_hash64_parts(far_slice(p, 24), stored, far_slice(NULL, 0))) {
        return damaged(reader, err, "a block is not what was written");
    }
    if (ZSTD_decompress(reader->raw, FAR_SEGMENT_BLOCK_MAX, stored.data, stored.len) != block.raw_len) {
        return damaged(reader, err, "a block cannot be unpacked");
    }
    reader->open_block = number;
    reader->raw_len = block.raw_len;
    reader->rows = far_get_le32(p + 4);
    reader->next_seq = block.first_seq;
    reader->next_at = 0;
    return 0;
}

/* Take the row at next_at. */
static int next_row(struct far_segment_reader *reader, struct far_slice *ret_row, struct far_error *err)
{
    size_t left = reader->raw_len - reader->next_at;
    size_t len = left < 4 ? 0 : far_get_le32(reader->raw + reader->next_at);
    if (left < 4 || len > left - 4) {
        return damaged(reader, err, "a row in a block has a wrong length");
    }
    *ret_row = far_slice(reader->raw + reader->next_at + 4, len);
    reader->next_at += 4 + len;
    reader->next_seq++;
    return 0;
}

int far_segment_row(struct far_segment_reader *reader, uint64_t seq, struct far_slice *ret_row, struct far_error *err)
{
    struct far_slice row = {0};
    if (seq < reader->segment.first_seq || seq > reader->segment.last_seq) {
        return FAR_NOT_FOUND;
    }
    uint32_t number = find_block(reader, seq);
    int rv = 0;
    if (reader->open_block != (int64_t)number || reader->next_seq > seq) {
        if (reader->open_block == (int64_t)number) {
            reader->next_seq = block_of(reader, number).first_seq;
            reader->next_at = 0;
        } else {
            rv = open_block(reader, number, err);
        }
    }
    while (rv == 0 && reader->next_seq <= seq) {
        rv = next_row(reader, &row, err);
    }
    if (rv == 0) {
        *ret_row = row;
    }
    return rv;
}
