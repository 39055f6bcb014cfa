/* Sealing: a run of rows becomes a segment. See segments.h. */
#include "log/segments.h"

#include "base/file.h"
#include "log/older.h"

#include <stdlib.h>

enum { STEP_ROWS = 4096, STEP_BYTES = 4 * 1024 * 1024, TRIM_ROWS = 4096 };
enum { ROWS_DEFAULT = 1000000, EVENTS_DEFAULT = 262144, BYTES_DEFAULT = 64 * 1024 * 1024 };

struct far_sealer {
    struct far_store *store; /* borrowed */
    uint64_t next_seq, last_seq, bytes_max;
    uint64_t compacted_seq; /* of the store when the first row was copied */
    struct far_segment_writer *writer;
};

static struct far_seal_limits with_defaults(const struct far_seal_limits *limits)
{
    return (struct far_seal_limits){
        .rows_max = limits->rows_max == 0 ? ROWS_DEFAULT : limits->rows_max,
        .segment_events = limits->segment_events == 0 ? EVENTS_DEFAULT : limits->segment_events,
        .segment_bytes = limits->segment_bytes == 0 ? BYTES_DEFAULT : limits->segment_bytes,
    };
}

/* The oldest run of rows that no segment holds, if enough of them are older than the newest rows_max. A run ends where the
 * next segment begins, or one of full length or bytes: rows that were fetched later lie before segments. */
static int find_run(struct far_store_txn *txn, const struct far_seal_limits *limits, uint64_t *ret_first, uint64_t *ret_last,
                    struct far_error *err)
{
    const struct far_store_ops *ops = txn->store->ops;
    const struct far_store_meta *meta = far_store_meta(txn);
    struct far_store_sizes sizes;
    struct far_segment next;
    uint64_t first = 0, apart;
    int rv = far_older_rows(txn, &apart, err);
    if (rv != 0) {
        return rv;
    }
    far_store_sizes(txn, &sizes);
    uint64_t average = sizes.event_rows == 0 ? 0 : sizes.event_bytes / sizes.event_rows;
    uint64_t rows = sizes.event_rows > apart ? sizes.event_rows - apart : 0;
    uint64_t excess = rows > limits->rows_max ? rows - limits->rows_max : 0;
    if (ops->segment_seek == NULL || (excess < limits->segment_events && excess * average < 2 * limits->segment_bytes) ||
        excess == 0) {
        return FAR_NOT_FOUND;
    }
    rv = ops->event_seek(txn, meta->first_seq, &first, err);
    uint64_t last = meta->last_seq - limits->rows_max; /* there are more rows than that */
    while (rv == 0 && (rv = ops->segment_seek(txn, first, &next, err)) == 0 && next.first_seq <= first) {
        rv = ops->event_seek(txn, next.last_seq + 1, &first, err); /* not trimmed yet */
    }
    if (rv != 0 && rv != FAR_NOT_FOUND) {
        return rv;
    }
    last = rv == 0 && next.first_seq <= last ? next.first_seq - 1 : last;
    last = last >= first + limits->segment_events ? first + limits->segment_events - 1 : last;
    if (first == 0 || last < first) {
        return FAR_NOT_FOUND;
    }
    *ret_first = first;
    *ret_last = last;
    return 0;
}

static int head_before(struct far_store_txn *txn, uint64_t seq, uint8_t ret_head[FAR_HEAD_SIZE], struct far_error *err)
{
    struct far_event event;
    if (seq == far_store_meta(txn)->first_seq) {
        memcpy(ret_head, far_store_meta(txn)->base_head, FAR_HEAD_SIZE);
        return 0;
    }
    return far_store_event_get(txn, seq - 1, &event, ret_head, err);
}

int far_sealer_new(struct far_store *store, const struct far_seal_limits *limits, struct far_sealer **ret_sealer,
                   struct far_error *err)
{
    struct far_seal_limits all = with_defaults(limits);
    struct far_store_txn *txn;
    struct far_sealer *sealer = NULL;
    uint8_t head[FAR_HEAD_SIZE];
    uint64_t first, last;
    int rv = far_store_begin(store, false, &txn, err);
    if (rv != 0) {
        return rv;
    }
    rv = find_run(txn, &all, &first, &last, err);
    rv = rv != 0 ? rv : head_before(txn, first, head, err);
    if (rv == 0) {
        sealer = calloc(1, sizeof *sealer);
        rv = sealer != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory for a segment");
    }
    uint64_t compacted_seq = far_store_meta(txn)->compacted_seq;
    far_store_abort(txn);
    if (rv == 0) {
        *sealer = (struct far_sealer){.store = store, .next_seq = first, .last_seq = last, .bytes_max = all.segment_bytes,
                                      .compacted_seq = compacted_seq};
        rv = far_file_make_dir(store->segments_dir, err);
        rv = rv != 0 ? rv : far_segment_create(store->segments_dir, first, head, &sealer->writer, err);
    }
    if (rv != 0) {
        free(sealer);
        return rv;
    }
    *ret_sealer = sealer;
    return 0;
}

static bool is_full(const struct far_sealer *sealer)
{
    return sealer->next_seq > sealer->last_seq || far_segment_written(sealer->writer) >= sealer->bytes_max;
}

static int copy_some(struct far_sealer *sealer, struct far_store_txn *txn, struct far_error *err)
{
    size_t bytes = 0;
    int rv = 0;
    if (sealer->next_seq < far_store_meta(txn)->first_seq || sealer->last_seq > far_store_meta(txn)->last_seq) {
        return far_fail(err, FAR_CONFLICT, "event %llu was removed while it was being sealed",
                        (unsigned long long)sealer->next_seq);
    }
    for (int i = 0; rv == 0 && i < STEP_ROWS && bytes < STEP_BYTES && !is_full(sealer); i++) {
        struct far_slice row;
        rv = far_store_event_row(txn, sealer->next_seq, &row, err);
        rv = rv != 0 ? rv : far_segment_add(sealer->writer, row, err);
        if (rv == 0) {
            sealer->next_seq++;
            bytes += row.len;
        }
    }
    return rv;
}

int far_sealer_step(struct far_sealer *sealer, bool *ret_done, struct far_segment *ret_segment, struct far_error *err)
{
    struct far_store_txn *txn;
    *ret_done = false;
    int rv = far_store_begin(sealer->store, false, &txn, err);
    if (rv != 0) {
        return rv;
    }
    rv = copy_some(sealer, txn, err);
    far_store_abort(txn);
    if (rv == 0 && is_full(sealer)) {
        rv = far_segment_finish(sealer->writer, ret_segment, err);
        sealer->writer = NULL;
        ret_segment->compacted_seq = sealer->compacted_seq;
        *ret_done = rv == 0;
    }
    return rv;
}

void far_sealer_free(struct far_sealer *sealer)
{
    if (sealer != NULL) {
        far_segment_discard(sealer->writer);
        free(sealer);
    }
}

/* ---- all at once ---- */

static int write_step(struct far_store *store, const struct far_segment *segment, bool *ret_more, struct far_error *err)
{
    struct far_store_txn *txn;
    int rv = far_store_begin(store, true, &txn, err);
    if (rv != 0) {
        return rv;
    }
    rv = segment != NULL ? far_segments_take(txn, segment, err) : far_segments_trim(txn, TRIM_ROWS, ret_more, err);
    if (rv != 0) {
        far_store_abort(txn);
        return rv;
    }
    return far_store_commit(txn, err);
}

static int seal_one(struct far_store *store, const struct far_seal_limits *limits, struct far_error *err)
{
    struct far_sealer *sealer;
    struct far_segment segment;
    bool done = false, more = true;
    int rv = far_sealer_new(store, limits, &sealer, err);
    if (rv != 0) {
        return rv;
    }
    while (rv == 0 && !done) {
        rv = far_sealer_step(sealer, &done, &segment, err);
    }
    far_sealer_free(sealer);
    rv = rv != 0 ? rv : write_step(store, &segment, &more, err);
    while (rv == 0 && more) {
        rv = write_step(store, NULL, &more, err);
    }
    return rv;
}

int far_segments_seal_all(struct far_store *store, const struct far_seal_limits *limits, struct far_error *err)
{
    int rv;
    while ((rv = seal_one(store, limits, err)) == 0) {
    }
    return rv == FAR_NOT_FOUND ? 0 : rv;
}
