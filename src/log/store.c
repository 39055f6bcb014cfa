/* What both stores share: transactions seen from outside, events with their chain and checks. See store.h. */
#include "log/store.h"

#include "log/older.h"
#include "log/segments.h"

void far_store_meta_init(struct far_store_meta *meta)
{
    memset(meta, 0, sizeof *meta);
    meta->first_seq = 1;
}

int far_store_begin(struct far_store *store, bool write, struct far_store_txn **ret_txn, struct far_error *err)
{
    struct far_store_txn *txn;
    int rv = store->ops->begin(store, write, &txn, err);
    if (rv == 0) {
        far_buf_init(&txn->row, FAR_EVENT_ROW_MAX);
        *ret_txn = txn;
    }
    return rv;
}

int far_store_commit(struct far_store_txn *txn, struct far_error *err)
{
    far_buf_done(&txn->row);
    far_segment_close(txn->segment);
    return txn->store->ops->commit(txn, err);
}

void far_store_abort(struct far_store_txn *txn)
{
    if (txn != NULL) {
        far_buf_done(&txn->row);
        far_segment_close(txn->segment);
        txn->store->ops->abort(txn);
    }
}

struct far_store_meta *far_store_meta(struct far_store_txn *txn)
{
    return &txn->meta;
}

struct far_kv *far_store_kv(struct far_store_txn *txn)
{
    return txn->kv;
}

struct far_kv *far_store_history(struct far_store_txn *txn)
{
    return txn->history;
}

/* Write the row of an event whose place in the chain is known. */
static int put_event(struct far_store_txn *txn, const struct far_event *event, const uint8_t head[FAR_HEAD_SIZE],
                     struct far_error *err)
{
    far_buf_reset(&txn->row);
    int rv = far_event_row_encode(event, head, &txn->row, err);
    return rv != 0 ? rv : txn->store->ops->event_put(txn, event->seq, far_buf_slice(&txn->row), err);
}

int far_store_event_append(struct far_store_txn *txn, const struct far_event *event, struct far_error *err)
{
    struct far_store_meta *meta = &txn->meta;
    uint8_t head[FAR_HEAD_SIZE];
    if (event->seq != meta->last_seq + 1) {
        return far_fail(err, FAR_INTERNAL, "event %llu cannot follow event %llu", (unsigned long long)event->seq,
                        (unsigned long long)meta->last_seq);
    }
    memcpy(head, meta->head, sizeof head);
    int rv = far_chain_add(head, event, err);
    rv = rv != 0 ? rv : put_event(txn, event, head, err);
    if (rv == 0) {
        memcpy(meta->head, head, sizeof head);
        meta->last_seq = event->seq;
    }
    return rv;
}

int far_store_event_prepend(struct far_store_txn *txn, const struct far_event *event,
                            const uint8_t before[FAR_HEAD_SIZE], struct far_error *err)
{
    struct far_store_meta *meta = &txn->meta;
    uint8_t head[FAR_HEAD_SIZE];
    memcpy(head, before, sizeof head);
    int rv = far_chain_add(head, event, err);
    if (rv != 0) {
        return rv;
    }
    if (event->seq + 1 != meta->first_seq || memcmp(head, meta->base_head, sizeof head) != 0) {
        return far_fail(err, FAR_CORRUPT, "event %llu does not lead to event %llu", (unsigned long long)event->seq,
                        (unsigned long long)meta->first_seq);
    }
    struct far_event kept = *event;
    uint8_t hash[32];
    if (event->seq <= meta->compacted_seq && event->compacted_len == 0 && far_event_may_compact(event)) {
        rv = far_event_compact(&kept, hash, err);
    }
    rv = rv != 0 ? rv : put_event(txn, &kept, head, err);
    if (rv == 0) {
        memcpy(meta->base_head, before, FAR_HEAD_SIZE);
        meta->first_seq = event->seq;
        rv = far_older_join(txn, err);
    }
    return rv;
}

int far_store_event_compact(struct far_store_txn *txn, uint64_t seq, bool *ret_changed, struct far_error *err)
{
    struct far_slice row;
    struct far_event event;
    uint8_t head[FAR_HEAD_SIZE], hash[32];
    int rv = txn->store->ops->event_row(txn, seq, &row, err);
    rv = rv != 0 ? rv : far_event_row_decode(row, &event, head, err);
    *ret_changed = rv == 0 && event.compacted_len == 0 && far_event_may_compact(&event);
    if (!*ret_changed) {
        return rv;
    }
    rv = far_event_compact(&event, hash, err);
    return rv != 0 ? rv : put_event(txn, &event, head, err);
}

int far_store_event_row(struct far_store_txn *txn, uint64_t seq, struct far_slice *ret_row, struct far_error *err)
{
    if (seq < txn->meta.first_seq || seq > txn->meta.last_seq) {
        return far_fail(err, FAR_NOT_FOUND, "event %llu is not here; this server has %llu to %llu",
                        (unsigned long long)seq, (unsigned long long)txn->meta.first_seq,
                        (unsigned long long)txn->meta.last_seq);
    }
    int rv = txn->store->ops->event_row(txn, seq, ret_row, err);
    rv = rv == FAR_NOT_FOUND ? far_segments_row(txn, seq, ret_row, err) : rv;
    return rv == FAR_NOT_FOUND
               ? far_fail(err, FAR_CORRUPT, "store, table events, seq %llu: missing", (unsigned long long)seq)
               : rv;
}

int far_store_event_get(struct far_store_txn *txn, uint64_t seq, struct far_event *ret_event,
                        uint8_t ret_head[FAR_HEAD_SIZE], struct far_error *err)
{
    struct far_slice row;
    struct far_event event;
    int rv = far_store_event_row(txn, seq, &row, err);
    if (rv != 0) {
        return rv;
    }
    rv = far_event_row_decode(row, &event, ret_head, err);
    if (rv != 0) {
        far_error_context(err, "store, table events, seq %llu", (unsigned long long)seq);
        return rv;
    }
    if (event.seq != seq) {
        return far_fail(err, FAR_CORRUPT, "store, table events, seq %llu: event %llu lies there",
                        (unsigned long long)seq, (unsigned long long)event.seq);
    }
    *ret_event = event;
    return 0;
}

int far_store_install_clear(struct far_store_txn *txn, struct far_error *err)
{
    return txn->store->ops->install_clear(txn, err);
}

struct far_kv *far_store_install_kv(struct far_store_txn *txn)
{
    return txn->install_kv;
}

int far_store_install_switch(struct far_store_txn *txn, struct far_error *err)
{
    return txn->store->ops->install_switch(txn, err);
}

void far_store_sizes(struct far_store_txn *txn, struct far_store_sizes *ret_sizes)
{
    *ret_sizes = (struct far_store_sizes){0};
    if (txn->store->ops->sizes != NULL) {
        txn->store->ops->sizes(txn, ret_sizes);
    }
}

uint64_t far_store_durable_index(const struct far_store *store)
{
    return store->durable_index;
}

int far_store_sync(struct far_store *store, struct far_error *err)
{
    return store->ops->sync(store, err);
}

void far_store_close(struct far_store *store)
{
    if (store != NULL) {
        store->ops->close(store);
    }
}
