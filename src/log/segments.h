/* The segments of a store: which are there, reading through them, sealing, and what goes with them.
 *
 * LMDB keeps the newest events; older ones are sealed: a sealer copies a run of rows into a segment file, in short read
 * transactions; when the file is durable one write transaction notes it in the table of segments; then its rows are
 * removed, some at a time. A row that is there and in a segment is read from its row. A crash between any two of these
 * steps leaves every event readable: a file that no record names is removed at the next opening, rows that a segment
 * holds are removed when somebody asks again. */
#ifndef FAR_LOG_SEGMENTS_H
#define FAR_LOG_SEGMENTS_H

#include "log/segment.h"
#include "log/store.h"

/* ---- reading ---- */

/* The row of an event from the segment that holds it, until the next call. FAR_NOT_FOUND: none does. */
int far_segments_row(struct far_store_txn *txn, uint64_t seq, struct far_slice *ret_row, struct far_error *err);
/* FAR_CORRUPT: its file is missing. If it was compacted after the caller's transaction began, the file in its place is opened. */
int far_segments_open(const struct far_store *store, const struct far_segment *segment, struct far_segment_reader **ret_reader,
                      struct far_error *err);
/* Read every row of a segment: FAR_CORRUPT if it is not what was sealed. */
int far_segments_check(struct far_store_txn *txn, const struct far_segment *segment, struct far_error *err);

/* ---- sealing ---- */

struct far_seal_limits {
    uint64_t rows_max;       /* so many of the newest events stay rows; 0 = 1,000,000 */
    uint64_t segment_events; /* a run is sealed when it has so many, and ends there; 0 = 262,144 */
    uint64_t segment_bytes;  /* or when its file has so many; 0 = 64 MiB */
};

/* A run that is being sealed; one at a time, by any one thread. */
struct far_sealer;
/* FAR_NOT_FOUND: there are not enough rows. */
int far_sealer_new(struct far_store *store, const struct far_seal_limits *limits, struct far_sealer **ret_sealer,
                   struct far_error *err);
/* Copy some more, in one short read transaction. *ret_done: the file is whole and durable, and ret_segment says what is in
 * it. FAR_LIMIT: the disk is full; FAR_CONFLICT: the events were replaced or cut meanwhile. */
int far_sealer_step(struct far_sealer *sealer, bool *ret_done, struct far_segment *ret_segment, struct far_error *err);
/* Removes what is not whole. NULL is allowed. */
void far_sealer_free(struct far_sealer *sealer);

/* Note a sealed segment, in a write transaction. FAR_CONFLICT: the store does not hold these events as rows (any more). */
int far_segments_take(struct far_store_txn *txn, const struct far_segment *segment, struct far_error *err);
/* Remove at most max rows that a segment holds; *ret_more: there may be others. */
int far_segments_trim(struct far_store_txn *txn, size_t max, bool *ret_more, struct far_error *err);
/* Seal as long as there is something to seal, and trim: for tools and tests. */
int far_segments_seal_all(struct far_store *store, const struct far_seal_limits *limits, struct far_error *err);

/* ---- cutting, and the folder ---- */

/* Let the events before seq go: first_seq and base_head move, at most max rows and the records of whole segments are
 * removed. *ret_more: rows are left to be removed by another call. seq at most last_seq + 1; not behind first_seq: nothing. */
int far_segments_cut(struct far_store_txn *txn, uint64_t seq, size_t max, bool *ret_more, struct far_error *err);
/* Remove the files that no record names. Not while a segment is being sealed, and only what is durably unnamed: sync first. */
int far_segments_sweep(struct far_store *store, struct far_error *err);
/* The bytes of all segment files, by the records. */
int far_segments_bytes(struct far_store_txn *txn, uint64_t *ret_bytes, struct far_error *err);

#endif
