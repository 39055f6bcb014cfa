/* Compaction: what is decided, how far, and rows. See compact.h; segments are in compactor.c. */
#include "log/compact.h"

#include "log/history.h"
#include "log/retain.h"

enum { ARENA_MAX = 64 * 1024, SCAN_MAX = 100000 /* events; an epoch has 8,192 or a few more */ };
#define DAY_MS 86400000ull

typedef unsigned long long llu;

int far_compact_decided(struct far_store_txn *txn, uint64_t *ret_seq, struct far_error *err)
{
    struct far_row_retention row;
    uint64_t now_ms;
    int rv = far_retain_row(txn, &row, &now_ms, err);
    *ret_seq = row.compacted_seq;
    return rv;
}

int far_compact_bound(struct far_store_txn *txn, uint64_t *ret_seq, struct far_error *err)
{
    struct far_epoch epoch;
    uint64_t seq;
    int rv = far_compact_decided(txn, &seq, err);
    if (rv == 0 && seq > 0) {
        rv = far_epoch_before(txn, seq, &epoch, err);
        seq = rv == 0 ? epoch.seq : seq; /* without one, all folds begin behind it */
    }
    *ret_seq = seq;
    return rv == FAR_NOT_FOUND ? 0 : rv;
}

int far_compact_base(struct far_store_txn *txn, uint64_t *ret_seq, struct far_error *err)
{
    const struct far_store_meta *meta = far_store_meta(txn);
    struct far_epoch epoch;
    uint64_t bound = 0, decided, least = meta->first_seq - 1;
    int rv = far_compact_decided(txn, &decided, err);
    rv = rv != 0 ? rv : far_compact_bound(txn, &bound, err);
    decided = decided > least ? decided : least;
    least = bound > least ? bound : least;
    *ret_seq = 0;
    if (rv != 0 || least == 0) {
        return rv;
    }
    rv = far_epoch_after(txn, decided - 1, &epoch, err); /* whoever sent the events may have gone further than this server */
    rv = rv == FAR_NOT_FOUND ? far_epoch_after(txn, least - 1, &epoch, err) : rv;
    *ret_seq = rv == 0 ? epoch.seq : 0;
    return rv;
}

/* Up to where it was decided in the state behind an event. */
static int decided_at(struct far_store_txn *txn, uint64_t seq, uint64_t *ret_seq, struct far_error *err)
{
    struct far_moment moment = {FAR_MOMENT_SEQ, seq};
    struct far_key key = far_key(&far_schema_row_retention);
    struct far_row_retention row = {.compacted_seq = 0};
    struct far_arena arena;
    struct far_past *past;
    int rv = far_past_open(txn, &moment, &past, err);
    if (rv != 0) {
        return rv;
    }
    far_arena_init(&arena, ARENA_MAX);
    rv = far_state_get(&past->state, &far_schema_row_retention, &key, &arena, &row, err);
    *ret_seq = rv == 0 ? row.compacted_seq : 0;
    far_arena_done(&arena);
    far_past_close(past);
    return rv == FAR_NOT_FOUND ? 0 : rv;
}

/* Does the event decide it as far as seq? */
static int decides(struct far_store_txn *txn, uint64_t at, uint64_t seq, bool *ret_decides, struct far_error *err)
{
    struct far_ev_progress_compacted decided;
    struct far_event event;
    struct far_arena arena;
    int rv = far_store_event_get(txn, at, &event, NULL, err);
    *ret_decides = false;
    if (rv != 0 || event.kind != FAR_KIND_ev_progress_compacted) {
        return rv;
    }
    far_arena_init(&arena, ARENA_MAX);
    rv = far_schema_decode(&far_schema_ev_progress_compacted, event.payload, &arena, &decided, err);
    *ret_decides = rv == 0 && decided.seq >= seq;
    far_arena_done(&arena);
    return rv;
}

/* Decided behind event *low, and at or before *high: the same, with no start of an epoch between them. */
static int narrow(struct far_store_txn *txn, uint64_t seq, uint64_t *low, uint64_t *high, struct far_error *err)
{
    for (;;) {
        struct far_epoch epoch;
        uint64_t middle = *low + (*high - *low) / 2, decided = 0;
        int rv = far_epoch_before(txn, middle, &epoch, err);
        if (rv == FAR_NOT_FOUND || (rv == 0 && epoch.seq <= *low)) {
            rv = far_epoch_after(txn, middle, &epoch, err);
        }
        if (rv == FAR_NOT_FOUND || (rv == 0 && (epoch.seq <= *low || epoch.seq >= *high))) {
            return 0;
        }
        rv = rv != 0 ? rv : decided_at(txn, epoch.seq, &decided, err);
        if (rv != 0) {
            return rv;
        }
        *(decided >= seq ? high : low) = epoch.seq;
    }
}

int far_compact_decider(struct far_store_txn *txn, uint64_t seq, uint64_t *ret_decider, struct far_error *err)
{
    const struct far_store_meta *meta = far_store_meta(txn);
    uint64_t low = seq + 1 > meta->first_seq ? seq : meta->first_seq - 1, high = meta->last_seq, decided = 0;
    int rv = far_compact_decided(txn, &decided, err);
    rv = rv != 0 ? rv : decided < seq || low > high ? FAR_NOT_FOUND : narrow(txn, seq, &low, &high, err);
    for (uint64_t at = low + 1; rv == 0 && at <= high && at - low <= SCAN_MAX; at++) {
        bool found = false;
        rv = decides(txn, at, seq, &found, err);
        if (found) {
            *ret_decider = at;
            return 0;
        }
    }
    return rv != 0 && rv != FAR_NOT_FOUND
               ? rv
               : far_fail(err, FAR_NOT_FOUND, "no event is known here that decided what is compacted up to event %llu", (llu)seq);
}

static int time_of(struct far_store_txn *txn, uint64_t seq, uint64_t *ret_ms, struct far_error *err)
{
    struct far_event event;
    int rv = far_store_event_get(txn, seq, &event, NULL, err);
    *ret_ms = rv == 0 ? event.time_ms : 0;
    return rv;
}

int far_compact_look(struct far_store_txn *txn, uint64_t events_min, uint64_t *ret_seq, uint64_t *ret_time_ms,
                     struct far_error *err)
{
    const struct far_store_meta *meta = far_store_meta(txn);
    struct far_row_retention row;
    struct far_epoch epoch;
    uint64_t now_ms, first, since, oldest_ms = 0;
    int rv = far_retain_row(txn, &row, &now_ms, err);
    uint64_t keep_ms = (row.progress_days == 0 ? FAR_PROGRESS_DAYS : row.progress_days) * DAY_MS;
    first = row.compacted_seq + 1 > meta->first_seq ? row.compacted_seq + 1 : meta->first_seq;
    *ret_seq = 0;
    if (rv != 0 || now_ms <= keep_ms || first > meta->last_seq) {
        return rv;
    }
    rv = far_retain_first_since(txn, now_ms - keep_ms + 1, &since, err);
    if (rv != 0 || since <= first) {
        return rv;
    }
    rv = far_epoch_before(txn, since - 1, &epoch, err);
    if (rv != 0 || epoch.seq < first) {
        return rv == FAR_NOT_FOUND ? 0 : rv;
    }
    rv = time_of(txn, first, &oldest_ms, err);
    if (rv == 0 && (epoch.seq - first + 1 >= events_min || oldest_ms + keep_ms + DAY_MS <= now_ms)) {
        *ret_seq = epoch.seq;
        rv = time_of(txn, epoch.seq, ret_time_ms, err);
    }
    return rv;
}

/* ---- rows ---- */

/* The next event that is to be compacted, and up to where without a break: all in rows, or all in one segment. *ret_from behind
 * *ret_to: none is held. */
static int find_next(struct far_store_txn *txn, enum far_compact_next *ret_next, uint64_t *ret_from, uint64_t *ret_to,
                     struct far_error *err)
{
    const struct far_store_ops *ops = txn->store->ops;
    const struct far_store_meta *meta = far_store_meta(txn);
    struct far_segment segment = {.first_seq = UINT64_MAX, .last_seq = UINT64_MAX};
    uint64_t bound;
    int rv = far_compact_bound(txn, &bound, err);
    *ret_next = FAR_COMPACT_NOTHING;
    if (rv != 0 || meta->compacted_seq >= bound) {
        return rv;
    }
    *ret_from = meta->compacted_seq + 1 > meta->first_seq ? meta->compacted_seq + 1 : meta->first_seq;
    rv = ops->segment_seek == NULL ? FAR_NOT_FOUND : ops->segment_seek(txn, *ret_from, &segment, err);
    if (rv != 0 && rv != FAR_NOT_FOUND) {
        return rv;
    }
    bool is_sealed = *ret_from <= bound && segment.first_seq <= *ret_from;
    uint64_t end = is_sealed ? segment.last_seq : segment.first_seq - 1;
    *ret_to = end < bound ? end : bound;
    *ret_next = is_sealed ? FAR_COMPACT_SEGMENT : FAR_COMPACT_ROWS;
    return 0;
}

int far_compact_next(struct far_store_txn *txn, enum far_compact_next *ret_next, struct far_error *err)
{
    uint64_t from, to;
    return find_next(txn, ret_next, &from, &to, err);
}

int far_compact_rows(struct far_store_txn *txn, size_t max, bool *ret_changed, bool *ret_more, struct far_error *err)
{
    enum far_compact_next next;
    uint64_t from, to;
    int rv = find_next(txn, &next, &from, &to, err);
    if (rv != 0 || next != FAR_COMPACT_ROWS) {
        return rv;
    }
    to = from <= to && to - from >= max ? from + max - 1 : to;
    for (uint64_t seq = from; rv == 0 && seq <= to; seq++) {
        bool changed;
        rv = far_store_event_compact(txn, seq, &changed, err);
        if (rv == FAR_NOT_FOUND) {
            rv = far_fail(err, FAR_CORRUPT, "store, table events, seq %llu: missing", (llu)seq);
        }
    }
    if (rv == 0) {
        far_store_meta(txn)->compacted_seq = to;
        *ret_changed = *ret_more = true;
    }
    return rv;
}
