/* Compaction of segments: see compact.h. A segment never changes; one with events to be compacted is written anew. */
#include "log/compact.h"
#include "log/segments.h"

#include <stdlib.h>

enum { STEP_ROWS = 4096, PIECE_ROWS = 2048 };

struct far_compactor {
    struct far_compacted compacted;
    struct far_segment_reader *reader;
    struct far_segment_writer *writer;
    struct far_buf row;
    uint64_t next_seq;
    bool is_changed;
};

void far_compactor_free(struct far_compactor *compactor)
{
    if (compactor != NULL) {
        far_segment_close(compactor->reader);
        far_segment_discard(compactor->writer);
        far_buf_done(&compactor->row);
        free(compactor);
    }
}

/* The segment that is next, and up to where. */
static int find(struct far_store_txn *txn, struct far_compacted *ret_compacted, struct far_error *err)
{
    const struct far_store_meta *meta = far_store_meta(txn);
    struct far_segment *segment = &ret_compacted->before;
    enum far_compact_next next;
    uint64_t bound = 0, from = meta->compacted_seq + 1 > meta->first_seq ? meta->compacted_seq + 1 : meta->first_seq;
    int rv = far_compact_next(txn, &next, err);
    if (rv != 0 || next != FAR_COMPACT_SEGMENT) {
        return rv != 0 ? rv : FAR_NOT_FOUND;
    }
    rv = far_compact_bound(txn, &bound, err);
    rv = rv != 0 ? rv : txn->store->ops->segment_seek(txn, from, segment, err);
    ret_compacted->until = segment->last_seq < bound ? segment->last_seq : bound;
    return rv;
}

int far_compactor_new(struct far_store *store, struct far_compactor **ret_compactor, struct far_error *err)
{
    struct far_store_txn *txn;
    struct far_compactor *compactor = calloc(1, sizeof *compactor);
    if (compactor == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a segment");
    }
    far_buf_init(&compactor->row, FAR_EVENT_ROW_MAX);
    int rv = far_store_begin(store, false, &txn, err);
    if (rv == 0) {
        rv = find(txn, &compactor->compacted, err);
        const struct far_segment *before = &compactor->compacted.before;
        rv = rv != 0 ? rv : far_segments_open(store, before, &compactor->reader, err);
        rv = rv != 0 ? rv : far_segment_create(store->segments_dir, before->first_seq, before->base_head, &compactor->writer, err);
        compactor->next_seq = before->first_seq;
        far_store_abort(txn);
    }
    if (rv != 0) {
        far_compactor_free(compactor);
        return rv;
    }
    *ret_compactor = compactor;
    return 0;
}

/* The next row, without its payload if that is to go. */
static int copy_one(struct far_compactor *compactor, struct far_error *err)
{
    struct far_slice row;
    struct far_event event;
    uint8_t head[FAR_HEAD_SIZE], hash[32];
    int rv = far_segment_row(compactor->reader, compactor->next_seq, &row, err);
    rv = rv != 0 ? rv : far_event_row_decode(row, &event, head, err);
    if (rv == 0 && event.seq <= compactor->compacted.until && event.compacted_len == 0 && far_event_may_compact(&event)) {
        far_buf_reset(&compactor->row);
        rv = far_event_compact(&event, hash, err);
        rv = rv != 0 ? rv : far_event_row_encode(&event, head, &compactor->row, err);
        row = far_buf_slice(&compactor->row);
        compactor->is_changed = true;
    }
    rv = rv != 0 ? rv : far_segment_add(compactor->writer, row, err); /* holds it against the chain */
    compactor->next_seq += rv == 0;
    return rv;
}

int far_compactor_step(struct far_compactor *compactor, bool *ret_done, struct far_compacted *ret_compacted,
                       struct far_error *err)
{
    struct far_compacted *compacted = &compactor->compacted;
    int rv = 0;
    *ret_done = false;
    for (int i = 0; rv == 0 && i < STEP_ROWS && compactor->next_seq <= compacted->before.last_seq; i++) {
        rv = copy_one(compactor, err);
    }
    if (rv != 0 || compactor->next_seq <= compacted->before.last_seq) {
        return rv;
    }
    compacted->after = compacted->before;
    if (compactor->is_changed) {
        rv = far_segment_finish(compactor->writer, &compacted->after, err);
        compactor->writer = NULL;
    }
    if (rv == 0) {
        *ret_compacted = *compacted;
        *ret_done = true;
    }
    return rv;
}

int far_compact_take(struct far_store_txn *txn, const struct far_compacted *compacted, struct far_error *err)
{
    struct far_compacted now = {.until = 0};
    int rv = find(txn, &now, err);
    if (rv != 0 && rv != FAR_NOT_FOUND) {
        return rv;
    }
    if (rv != 0 || !far_segment_same(&now.before, &compacted->before) || now.until < compacted->until) {
        return far_fail(err, FAR_CONFLICT, "the events %llu to %llu are not those any more that were compacted",
                        (unsigned long long)compacted->before.first_seq, (unsigned long long)compacted->before.last_seq);
    }
    rv = far_segment_same(&compacted->before, &compacted->after) ? 0 : txn->store->ops->segment_put(txn, &compacted->after, err);
    if (rv == 0) {
        far_store_meta(txn)->compacted_seq = compacted->until;
    }
    return rv;
}

/* ---- all at once ---- */

static int end_write(struct far_store_txn *txn, int rv, struct far_error *err)
{
    if (rv != 0) {
        far_store_abort(txn);
        return rv;
    }
    return far_store_commit(txn, err);
}

static int do_segment(struct far_store *store, struct far_error *err)
{
    struct far_compactor *compactor;
    struct far_compacted compacted;
    struct far_store_txn *txn;
    bool done = false;
    int rv = far_compactor_new(store, &compactor, err);
    if (rv != 0) {
        return rv;
    }
    while (rv == 0 && !done) {
        rv = far_compactor_step(compactor, &done, &compacted, err);
    }
    far_compactor_free(compactor);
    rv = rv != 0 ? rv : far_store_begin(store, true, &txn, err);
    return rv != 0 ? rv : end_write(txn, far_compact_take(txn, &compacted, err), err);
}

static int do_rows(struct far_store *store, bool *ret_more, struct far_error *err)
{
    struct far_store_txn *txn;
    bool changed = false;
    int rv = far_store_begin(store, true, &txn, err);
    *ret_more = false;
    return rv != 0 ? rv : end_write(txn, far_compact_rows(txn, PIECE_ROWS, &changed, ret_more, err), err);
}

int far_compact_all(struct far_store *store, struct far_error *err)
{
    for (;;) {
        bool more;
        int rv = do_rows(store, &more, err);
        if (rv == 0 && !more) {
            rv = do_segment(store, err);
        }
        if (rv != 0) {
            return rv == FAR_NOT_FOUND ? 0 : rv;
        }
    }
}
