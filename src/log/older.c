/* Events from before an installed state: see older.h. */
#include "log/older.h"

#include "base/logging.h"
#include "log/segments.h"

typedef unsigned long long llu;

/* The event in a row or a segment, wherever first_seq is; its chain head too. */
static int get_apart(struct far_store_txn *txn, uint64_t seq, struct far_event *ret_event, uint8_t ret_head[FAR_HEAD_SIZE],
                     struct far_error *err)
{
    struct far_slice row;
    int rv = txn->store->ops->event_row(txn, seq, &row, err);
    rv = rv == FAR_NOT_FOUND ? far_segments_row(txn, seq, &row, err) : rv;
    rv = rv != 0 ? rv : far_event_row_decode(row, ret_event, ret_head, err);
    return rv == 0 && ret_event->seq != seq ? far_fail(err, FAR_CORRUPT, "event %llu lies at %llu", (llu)ret_event->seq, (llu)seq) : rv;
}

/* The records of segments that begin at or behind seq: their events are given up. */
static int forget_segments(struct far_store_txn *txn, uint64_t seq, struct far_error *err)
{
    const struct far_store_ops *ops = txn->store->ops;
    struct far_segment segment;
    uint64_t from = seq;
    int rv = ops->segment_seek == NULL ? FAR_NOT_FOUND : 0;
    while (rv == 0 && (rv = ops->segment_seek(txn, from, &segment, err)) == 0) {
        from = segment.last_seq + 1;
        rv = segment.first_seq >= seq ? ops->segment_remove(txn, segment.last_seq, err) : 0;
    }
    return rv == FAR_NOT_FOUND ? 0 : rv;
}

int far_older_keep(struct far_store_txn *txn, uint64_t seq, struct far_error *err)
{
    struct far_store_meta *meta = &txn->meta;
    bool has_some = meta->first_seq <= meta->last_seq && meta->last_seq <= seq;
    if (has_some && meta->older_count < FAR_STORE_OLDER_MAX) {
        struct far_stretch *stretch = &meta->older[meta->older_count++];
        *stretch = (struct far_stretch){
            .first_seq = meta->first_seq, .last_seq = meta->last_seq, .compacted_seq = meta->compacted_seq};
        memcpy(stretch->base_head, meta->base_head, FAR_HEAD_SIZE);
        memcpy(stretch->head, meta->head, FAR_HEAD_SIZE);
    }
    uint64_t kept = meta->older_count == 0 ? 0 : meta->older[meta->older_count - 1].last_seq;
    size_t count;
    int rv = meta->last_seq <= seq || txn->store->ops->event_remove == NULL /* none may lie where the next ones come */
                 ? 0
                 : txn->store->ops->event_remove(txn, kept + 1, meta->last_seq, SIZE_MAX, &count, err);
    return rv != 0 ? rv : forget_segments(txn, kept + 1, err);
}

/* Are its ends what the record says? An older version of the program, which did not know of stretches, may have run in between. */
static bool is_there(struct far_store_txn *txn, const struct far_stretch *stretch)
{
    struct far_event event;
    uint8_t head[FAR_HEAD_SIZE], expected[FAR_HEAD_SIZE];
    memcpy(expected, stretch->base_head, sizeof expected);
    if (get_apart(txn, stretch->first_seq, &event, head, NULL) != 0 || far_chain_add(expected, &event, NULL) != 0 ||
        memcmp(head, expected, sizeof head) != 0) {
        return false;
    }
    return get_apart(txn, stretch->last_seq, &event, head, NULL) == 0 && memcmp(head, stretch->head, sizeof head) == 0;
}

int far_older_join(struct far_store_txn *txn, struct far_error *err)
{
    struct far_store_meta *meta = &txn->meta;
    int rv = 0;
    while (rv == 0 && meta->older_count > 0 && meta->older[meta->older_count - 1].last_seq + 1 >= meta->first_seq) {
        const struct far_stretch stretch = meta->older[--meta->older_count];
        bool leads_here = stretch.last_seq + 1 == meta->first_seq && memcmp(stretch.head, meta->base_head, FAR_HEAD_SIZE) == 0;
        if (leads_here && is_there(txn, &stretch)) {
            meta->first_seq = stretch.first_seq;
            meta->compacted_seq = stretch.compacted_seq < meta->compacted_seq ? stretch.compacted_seq : meta->compacted_seq;
            memcpy(meta->base_head, stretch.base_head, FAR_HEAD_SIZE);
            continue;
        }
        far_logf(FAR_LEVEL_WARN, "log", "events %llu to %llu were kept from before a state came, and %s: they are dropped, and fetched",
                 (llu)stretch.first_seq, (llu)stretch.last_seq, leads_here ? "are not whole" : "do not lead to those that follow");
        rv = forget_segments(txn, stretch.first_seq, err);
    }
    return rv;
}

int far_older_cut(struct far_store_txn *txn, uint64_t seq, struct far_error *err)
{
    struct far_store_meta *meta = &txn->meta;
    size_t gone = 0;
    while (gone < meta->older_count && meta->older[gone].last_seq < seq) {
        gone++;
    }
    meta->older_count -= gone;
    memmove(meta->older, meta->older + gone, meta->older_count * sizeof meta->older[0]);
    if (meta->older_count == 0 || meta->older[0].first_seq >= seq) {
        return 0;
    }
    struct far_event event;
    struct far_stretch *stretch = &meta->older[0];
    int rv = get_apart(txn, seq - 1, &event, stretch->base_head, err);
    stretch->first_seq = seq;
    return rv;
}

int far_older_remove(struct far_store_txn *txn, size_t max, size_t *ret_count, struct far_error *err)
{
    const struct far_store_meta *meta = &txn->meta;
    const struct far_store_ops *ops = txn->store->ops;
    uint64_t from = 1;
    int rv = 0;
    *ret_count = 0;
    for (size_t i = 0; rv == 0 && *ret_count < max && i <= meta->older_count && ops->event_remove != NULL; i++) {
        uint64_t next = i < meta->older_count ? meta->older[i].first_seq : meta->first_seq; /* the first that stays */
        size_t count = 0;
        rv = from < next ? ops->event_remove(txn, from, next - 1, max - *ret_count, &count, err) : 0;
        *ret_count += count;
        from = i < meta->older_count ? meta->older[i].last_seq + 1 : next;
    }
    return rv;
}
