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

/* Forget the segments with events of [first, last], but none of `below` or behind it: that one is of others. */
static int forget_segments(struct far_store_txn *txn, uint64_t first, uint64_t last, uint64_t below, struct far_error *err)
{
    const struct far_store_ops *ops = txn->store->ops;
    struct far_segment segment = {.last_seq = first - 1};
    int rv = ops->segment_seek == NULL ? FAR_NOT_FOUND : 0;
    while (rv == 0 && (rv = ops->segment_seek(txn, segment.last_seq + 1, &segment, err)) == 0 && segment.first_seq <= last) {
        rv = segment.last_seq < below ? ops->segment_remove(txn, segment.last_seq, err) : 0;
    }
    return rv == FAR_NOT_FOUND ? 0 : rv;
}

/* It cannot be taken up: its rows go with the next tidying, or are written anew when they are fetched. */
static int give_up(struct far_store_txn *txn, const struct far_stretch *stretch, const char *why, struct far_error *err)
{
    far_logf(FAR_LEVEL_WARN, "log", "events %llu to %llu were kept from before a state came, and %s: they are given up, and fetched if "
             "they are still wanted", (llu)stretch->first_seq, (llu)stretch->last_seq, why);
    return forget_segments(txn, stretch->first_seq, stretch->last_seq, txn->meta.first_seq, err);
}

int far_older_keep(struct far_store_txn *txn, uint64_t seq, struct far_error *err)
{
    struct far_store_meta *meta = &txn->meta;
    bool has_some = meta->first_seq <= meta->last_seq && meta->last_seq <= seq;
    uint64_t last = meta->last_seq;
    while (meta->older_count > 0 && meta->older[meta->older_count - 1].last_seq > seq) {
        uint64_t behind = meta->older[--meta->older_count].last_seq;
        last = behind > last ? behind : last;
    }
    if (has_some && meta->older_count == FAR_STORE_OLDER_MAX) {
        far_logf(FAR_LEVEL_WARN, "log", "a state comes for the %dth time before the events between were fetched: events %llu to %llu are "
                 "given up here, and fetched again", FAR_STORE_OLDER_MAX + 1, (llu)meta->first_seq, (llu)meta->last_seq);
    } else if (has_some) {
        struct far_stretch *stretch = &meta->older[meta->older_count++];
        *stretch = (struct far_stretch){
            .first_seq = meta->first_seq, .last_seq = meta->last_seq, .compacted_seq = meta->compacted_seq};
        memcpy(stretch->base_head, meta->base_head, FAR_HEAD_SIZE);
        memcpy(stretch->head, meta->head, FAR_HEAD_SIZE);
    }
    uint64_t kept = meta->older_count == 0 ? 0 : meta->older[meta->older_count - 1].last_seq;
    size_t count;
    int rv = last <= seq || txn->store->ops->event_remove == NULL /* none may lie where the next ones come */
                 ? 0
                 : txn->store->ops->event_remove(txn, kept + 1, last, SIZE_MAX, &count, err);
    return rv != 0 ? rv : forget_segments(txn, kept + 1, UINT64_MAX, UINT64_MAX, err);
}

/* Are its ends what the record says? FAR_NOT_FOUND: no. An older version of the program, which did not know of stretches, may have run
 * in between. */
static int check_ends(struct far_store_txn *txn, const struct far_stretch *stretch, struct far_error *err)
{
    struct far_event event;
    uint8_t head[FAR_HEAD_SIZE], expected[FAR_HEAD_SIZE];
    memcpy(expected, stretch->base_head, sizeof expected);
    int rv = get_apart(txn, stretch->first_seq, &event, head, err);
    rv = rv != 0 ? rv : far_chain_add(expected, &event, err);
    bool fits = rv == 0 && memcmp(head, expected, sizeof head) == 0;
    rv = rv != 0 ? rv : get_apart(txn, stretch->last_seq, &event, head, err);
    fits = fits && rv == 0 && memcmp(head, stretch->head, sizeof head) == 0;
    return rv == FAR_CORRUPT || (rv == 0 && !fits) ? FAR_NOT_FOUND : rv;
}

int far_older_join(struct far_store_txn *txn, struct far_error *err)
{
    struct far_store_meta *meta = &txn->meta;
    int rv = 0;
    while (rv == 0 && meta->older_count > 0 && meta->older[meta->older_count - 1].last_seq + 1 >= meta->first_seq) {
        const struct far_stretch stretch = meta->older[--meta->older_count];
        bool leads_here = stretch.last_seq + 1 == meta->first_seq && memcmp(stretch.head, meta->base_head, FAR_HEAD_SIZE) == 0;
        rv = leads_here ? check_ends(txn, &stretch, err) : FAR_NOT_FOUND;
        if (rv == 0) {
            meta->first_seq = stretch.first_seq;
            meta->compacted_seq = stretch.compacted_seq < meta->compacted_seq ? stretch.compacted_seq : meta->compacted_seq;
            memcpy(meta->base_head, stretch.base_head, FAR_HEAD_SIZE);
        } else if (rv == FAR_NOT_FOUND) {
            rv = give_up(txn, &stretch, leads_here ? "are not whole" : "do not lead to those that follow", err);
        }
    }
    return rv;
}

static void forget_oldest(struct far_store_meta *meta, size_t count)
{
    meta->older_count -= count;
    memmove(meta->older, meta->older + count, meta->older_count * sizeof meta->older[0]);
}

int far_older_cut(struct far_store_txn *txn, uint64_t seq, struct far_error *err)
{
    struct far_store_meta *meta = &txn->meta;
    size_t gone = 0;
    while (gone < meta->older_count && meta->older[gone].last_seq < seq) {
        gone++;
    }
    forget_oldest(meta, gone);
    if (meta->older_count == 0 || meta->older[0].first_seq >= seq) {
        return 0;
    }
    struct far_event event;
    struct far_stretch stretch = meta->older[0];
    int rv = get_apart(txn, seq - 1, &event, stretch.base_head, err);
    if (rv == FAR_NOT_FOUND || rv == FAR_CORRUPT) {
        forget_oldest(meta, 1);
        return give_up(txn, &stretch, "are not whole", err);
    }
    stretch.first_seq = seq;
    meta->older[0] = stretch;
    return rv;
}

int far_older_rows(struct far_store_txn *txn, uint64_t *ret_count, struct far_error *err)
{
    const struct far_store_meta *meta = &txn->meta;
    const struct far_store_ops *ops = txn->store->ops;
    int rv = 0;
    *ret_count = 0;
    for (size_t i = 0; (rv == 0 || rv == FAR_NOT_FOUND) && i < meta->older_count; i++) {
        const struct far_stretch *stretch = &meta->older[i];
        struct far_segment segment = {.last_seq = stretch->first_seq - 1};
        uint64_t rows = stretch->last_seq - stretch->first_seq + 1;
        rv = ops->segment_seek == NULL ? FAR_NOT_FOUND : 0;
        while (rv == 0 && (rv = ops->segment_seek(txn, segment.last_seq + 1, &segment, err)) == 0 &&
               segment.first_seq <= stretch->last_seq) {
            uint64_t first = segment.first_seq > stretch->first_seq ? segment.first_seq : stretch->first_seq;
            uint64_t last = segment.last_seq < stretch->last_seq ? segment.last_seq : stretch->last_seq;
            rows -= last - first + 1;
        }
        *ret_count += rows;
    }
    return rv == FAR_NOT_FOUND ? 0 : rv;
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
