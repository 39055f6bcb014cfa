/* Bytes of the WAL (docs/FORMATS.md): segments, records, entries, vote files. Pure; private to the WAL and its tests. */
#ifndef FAR_LOG_RAFT_WAL_FORMAT_H
#define FAR_LOG_RAFT_WAL_FORMAT_H

#include "base/buf.h"

enum {
    FAR_WAL_HEADER_BYTES = 64,
    FAR_WAL_RECORD_HEADER_BYTES = 32,
    FAR_WAL_ENTRY_HEADER_BYTES = 24,
    FAR_WAL_VOTE_BYTES = 40,
    FAR_WAL_TYPE_RESET = 0xff, /* no entry: the log is empty after index, which had this term */
};

struct far_wal_record {
    uint64_t ordinal; /* 1, 2, 3, … through all segments */
    uint32_t count;   /* of entries */
    uint32_t salt;
    struct far_slice payload;
    size_t bytes; /* with its header */
};

struct far_wal_item {
    uint64_t index;
    uint64_t term;
    uint8_t type;
    struct far_slice data;
};

struct far_wal_header {
    uint64_t number;
    uint64_t first_ordinal;
    uint32_t salt; /* random; every record of the segment carries it, so that data of a client cannot pass for a record */
};
void far_wal_header_encode(uint8_t bytes[FAR_WAL_HEADER_BYTES], const struct far_wal_header *header);
bool far_wal_header_decode(const uint8_t bytes[FAR_WAL_HEADER_BYTES], struct far_wal_header *ret_header);

/* Append an entry to a payload. FAR_LIMIT: the buffer is full. */
int far_wal_item_encode(struct far_buf *payload, const struct far_wal_item *item);
/* Take the next entry off *rest; false at a malformed one (or at the end: check rest->len first). */
bool far_wal_item_decode(struct far_slice *rest, struct far_wal_item *ret_item);

void far_wal_record_header(uint8_t header[FAR_WAL_RECORD_HEADER_BYTES], uint64_t ordinal, uint32_t count,
                           uint32_t salt, struct far_slice payload);
/* The record at the start of bytes, its checksum verified; false if there is none. */
bool far_wal_record_decode(struct far_slice bytes, struct far_wal_record *ret_record);
/* Is there a valid record with at least this ordinal behind the start of bytes, at a multiple of 8? salt NULL: of any. */
bool far_wal_record_behind(struct far_slice bytes, uint64_t ordinal, const uint32_t *salt);

void far_wal_vote_encode(uint8_t bytes[FAR_WAL_VOTE_BYTES], uint64_t counter, uint64_t term, uint64_t vote);
bool far_wal_vote_decode(const uint8_t bytes[FAR_WAL_VOTE_BYTES], uint64_t *ret_counter, uint64_t *ret_term,
                         uint64_t *ret_vote);

#endif
