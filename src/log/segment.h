/* A segment: a run of older events in a file of its own, compressed, that never changes (docs/FORMATS.md, "Segments").
 *
 * Good day: the writer takes rows of events in the order of their seq, holds each against the chain, and writes them in
 * blocks of 128 KiB, each one zstd frame with a checksum; then an index of the blocks and a trailer with the first and the
 * last seq and the heads around them. It is written under another name and gets its own when all of it is on the disk. The
 * reader finds an event by the index and opens one block.
 * How it fails: whatever is not as it was written is FAR_CORRUPT, named by file; nothing of it is handed out. A writer
 * that is not finished leaves a file whose name ends in ".new", which whoever opens the folder removes.
 * A writer or reader belongs to one thread at a time. */
#ifndef FAR_LOG_SEGMENT_H
#define FAR_LOG_SEGMENT_H

#include "log/chain.h"

enum {
    FAR_SEGMENT_HEADER = 64,
    FAR_SEGMENT_BLOCK_HEADER = 32,
    FAR_SEGMENT_ENTRY = 24,    /* of the index */
    FAR_SEGMENT_TRAILER = 136,
    FAR_SEGMENT_BLOCK = 128 * 1024, /* rows are collected up to here, and one more */
    FAR_SEGMENT_BLOCK_MAX = FAR_SEGMENT_BLOCK + 4 + FAR_EVENT_ROW_MAX,
    FAR_SEGMENT_BLOCKS_MAX = 65536,
    FAR_SEGMENT_NAME = 48,
};

/* What a segment holds, as its trailer says. */
struct far_segment {
    uint64_t first_seq;
    uint64_t last_seq;
    uint8_t base_head[FAR_HEAD_SIZE]; /* before the first */
    uint8_t head[FAR_HEAD_SIZE];      /* after the last */
    uint64_t bytes;                   /* of the file */
    uint64_t index_hash;              /* XXH3-64 of the index, which holds the checksum of every block */
    uint64_t compacted_seq;           /* of the store whose rows were copied; not in the file */
};

/* Of the same file? */
bool far_segment_same(const struct far_segment *a, const struct far_segment *b);
/* Its file's name: the first seq and the hash of the index, so another content has another name. */
void far_segment_name(const struct far_segment *segment, char ret_name[FAR_SEGMENT_NAME]);

/* ---- writing ---- */

struct far_segment_writer;
int far_segment_create(const char *dir, uint64_t first_seq, const uint8_t base_head[FAR_HEAD_SIZE],
                       struct far_segment_writer **ret_writer, struct far_error *err);
/* The next row as stores keep it (chain.h). FAR_CORRUPT: it is damaged, not the next one, or the chain does not lead to
 * it. FAR_LIMIT: the disk is full, or the segment. */
int far_segment_add(struct far_segment_writer *writer, struct far_slice row, struct far_error *err);
/* What is written so far, without the block that is being filled. */
uint64_t far_segment_written(const struct far_segment_writer *writer);
/* Whole and durable under its name on return. The writer is gone, also on failure. */
int far_segment_finish(struct far_segment_writer *writer, struct far_segment *ret_segment, struct far_error *err);
/* Give up and remove the file. NULL is allowed. */
void far_segment_discard(struct far_segment_writer *writer);

/* ---- reading ---- */

struct far_segment_reader;
/* FAR_NOT_FOUND: there is no such file. */
int far_segment_open(const char *dir, const struct far_segment *segment, struct far_segment_reader **ret_reader,
                     struct far_error *err);
/* Takes the descriptor, whatever comes of it; name: for messages. */
int far_segment_open_fd(int fd, const char *name, struct far_segment_reader **ret_reader, struct far_error *err);
void far_segment_close(struct far_segment_reader *reader); /* NULL is allowed */
const struct far_segment *far_segment_of(const struct far_segment_reader *reader);
/* The row of an event, until the next call. FAR_NOT_FOUND: it is not in this segment. */
int far_segment_row(struct far_segment_reader *reader, uint64_t seq, struct far_slice *ret_row, struct far_error *err);

#endif
