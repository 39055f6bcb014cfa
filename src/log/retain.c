/* Retention: see retain.h. */
#include "log/retain.h"

#include "log/history_private.h"
#include "log/segments.h"

enum { ROW_ARENA_MAX = 64 * 1024, RECORDS_AT_ONCE = 256 };
#define DAY_MS 86400000ull

/* ---- what is to go ---- */

int far_retain_row(struct far_store_txn *txn, struct far_row_retention *ret_row, uint64_t *ret_now_ms, struct far_error *err)
{
    struct far_state state = {.kv = far_store_kv(txn)};
    struct far_key key = far_key(&far_schema_row_retention);
    struct far_row_progress progress = {0};
    struct far_arena arena;
    far_arena_init(&arena, ROW_ARENA_MAX);
    int rv = far_state_get(&state, &far_schema_row_retention, &key, &arena, ret_row, err);
    if (rv == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_retention){.first_seq = 1};
        rv = 0;
    }
    key = far_key(&far_schema_row_progress);
    rv = rv != 0 ? rv : far_state_get(&state, &far_schema_row_progress, &key, &arena, &progress, err);
    uint64_t off_ms = progress.clock_verdict == FAR_clock_verdict_ahead ? progress.clock_off_ms : 0;
    bool is_known = progress.clock_verdict != FAR_clock_verdict_suspect && progress.time_ms > off_ms;
    *ret_now_ms = is_known ? progress.time_ms - off_ms : 0;
    far_arena_done(&arena);
    ret_row->first_seq = ret_row->first_seq == 0 ? 1 : ret_row->first_seq;
    return rv == FAR_NOT_FOUND ? 0 : rv;
}

int far_retain_decided(struct far_store_txn *txn, uint64_t *ret_seq, struct far_error *err)
{
    struct far_row_retention row;
    uint64_t now_ms;
    int rv = far_retain_row(txn, &row, &now_ms, err);
    *ret_seq = row.first_seq;
    return rv;
}

int far_retain_first_since(struct far_store_txn *txn, uint64_t time_ms, uint64_t *ret_seq, struct far_error *err)
{
    uint64_t low = far_store_meta(txn)->first_seq, high = far_store_meta(txn)->last_seq + 1;
    while (low < high) {
        struct far_event event;
        uint64_t middle = low + (high - low) / 2;
        int rv = far_store_event_get(txn, middle, &event, NULL, err);
        if (rv != 0) {
            return rv;
        }
        if (event.time_ms >= time_ms) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    *ret_seq = low;
    return 0;
}

/* The first event that still has room: whole segments go. */
static int first_within(struct far_store_txn *txn, uint64_t bytes_max, uint64_t *ret_seq, struct far_error *err)
{
    struct far_store_sizes sizes;
    struct far_segment segment = {.last_seq = 0};
    uint64_t bytes = 0;
    int rv = far_segments_bytes(txn, &bytes, err);
    far_store_sizes(txn, &sizes);
    bytes += sizes.event_bytes;
    *ret_seq = 0;
    while (rv == 0 && bytes > bytes_max && txn->store->ops->segment_seek != NULL &&
           (rv = txn->store->ops->segment_seek(txn, segment.last_seq + 1, &segment, err)) == 0) {
        bytes -= segment.bytes < bytes ? segment.bytes : bytes;
        *ret_seq = segment.last_seq + 1;
    }
    return rv == FAR_NOT_FOUND ? 0 : rv;
}

/* The last event of the raft entry that the event `seq` came from. */
static int end_of_entry(struct far_store_txn *txn, uint64_t seq, uint64_t *ret_end, struct far_error *err)
{
    struct far_event event;
    int rv = far_store_event_get(txn, seq, &event, NULL, err);
    uint64_t index = rv == 0 ? event.index : 0;
    while (rv == 0 && event.index == index && seq < far_store_meta(txn)->last_seq) {
        rv = far_store_event_get(txn, ++seq, &event, NULL, err);
    }
    *ret_end = rv == 0 && event.index == index ? seq : seq - 1;
    return rv;
}

/* The last event before the newest epoch that all servers begin, and that begins at or before the event `cut`: epochs begin behind
 * the entry with a multiple of their length. Others are begun by who installs a state, and nobody else has them. FAR_NOT_FOUND: none
 * since the last cut. */
static int common_before(struct far_store_txn *txn, uint64_t cut, uint64_t first_seq, uint64_t *ret_seq, struct far_error *err)
{
    uint64_t events = txn->store->epoch_events != 0 ? txn->store->epoch_events : FAR_HISTORY_EPOCH;
    for (uint64_t due = (cut - 1) / events * events; due > 0 && due >= first_seq; due -= events) {
        uint64_t end;
        int rv = end_of_entry(txn, due, &end, err);
        if (rv != 0 || end < cut) {
            *ret_seq = end;
            return rv;
        }
    }
    return FAR_NOT_FOUND;
}

int far_retain_cut(struct far_store_txn *txn, struct far_retain_cut *ret_cut, struct far_error *err)
{
    struct far_row_retention row;
    struct far_event event;
    uint64_t now_ms, by_time = 0, by_bytes = 0, seq = 0;
    int rv = far_retain_row(txn, &row, &now_ms, err);
    uint64_t keep_ms = (row.days == 0 ? FAR_RETAIN_DAYS : row.days) * DAY_MS;
    uint64_t bytes_max = row.bytes == 0 ? FAR_RETAIN_BYTES : row.bytes;
    *ret_cut = (struct far_retain_cut){.seq = 0};
    if (rv == 0 && now_ms > keep_ms) {
        rv = far_retain_first_since(txn, now_ms - keep_ms, &by_time, err);
        by_time = by_time > far_store_meta(txn)->first_seq ? by_time : 0; /* how old those are that are not here, nobody knows */
    }
    if (rv == 0 && far_store_meta(txn)->first_seq <= row.first_seq) { /* else its room is not that of the others */
        rv = first_within(txn, bytes_max, &by_bytes, err);
    }
    uint64_t cut = by_time > by_bytes ? by_time : by_bytes;
    if (rv != 0 || cut <= row.first_seq) {
        return rv;
    }
    rv = common_before(txn, cut, row.first_seq, &seq, err);
    rv = rv != 0 ? rv : far_store_event_get(txn, seq, &event, NULL, err);
    if (rv == 0) {
        bool is_old = seq < by_time;
        *ret_cut = (struct far_retain_cut){.seq = seq + 1, .time_ms = is_old ? event.time_ms : 0, .bytes = is_old ? 0 : bytes_max};
    }
    return rv == FAR_NOT_FOUND ? 0 : rv;
}

/* ---- states of the past ---- */

int far_retain_begin_states(struct far_store_txn *txn, bool *ret_begun, struct far_error *err)
{
    const struct far_store_meta *meta = far_store_meta(txn);
    struct far_epoch epoch;
    *ret_begun = false;
    if (far_store_history(txn) == NULL || meta->first_seq < 2) {
        return 0;
    }
    int rv = far_epoch_after(txn, meta->first_seq - 2, &epoch, err);
    if (rv == FAR_NOT_FOUND) {
        rv = far_epoch_begin(txn, err);
        *ret_begun = rv == 0;
    }
    return rv;
}

/* The oldest epoch that is to stay; 0: all of them. */
static int find_floor(struct far_store_txn *txn, uint64_t bytes_max, uint64_t *ret_floor, struct far_error *err)
{
    const struct far_store_meta *meta = far_store_meta(txn);
    struct far_store_sizes sizes;
    struct far_epoch oldest, epoch;
    *ret_floor = 0;
    int rv = far_epoch_after(txn, UINT64_MAX, &oldest, err);
    if (rv != 0) {
        return rv == FAR_NOT_FOUND ? 0 : rv;
    }
    far_store_sizes(txn, &sizes);
    bool too_much = sizes.history_bytes > bytes_max;
    uint64_t wanted = meta->first_seq < 2 ? 0 : meta->first_seq - 1;
    uint64_t quarter = oldest.seq + (meta->last_seq - oldest.seq) / 4;
    wanted = too_much && quarter > wanted ? quarter : wanted;
    if (wanted <= oldest.seq) {
        return 0;
    }
    rv = far_epoch_after(txn, wanted - 1, &epoch, err);
    rv = rv == FAR_NOT_FOUND ? far_epoch_before(txn, wanted, &epoch, err) : rv;
    if (rv == 0 && epoch.seq > oldest.seq) {
        *ret_floor = epoch.seq;
    }
    return rv;
}

static int remove_records(struct far_store_txn *txn, uint64_t floor, bool *ret_more, struct far_error *err)
{
    struct far_kv *kept = far_store_history(txn);
    struct far_epoch epoch;
    for (int i = 0; i < RECORDS_AT_ONCE; i++) {
        int rv = far_epoch_after(txn, UINT64_MAX, &epoch, err);
        if (rv != 0 || epoch.seq >= floor) {
            return rv == FAR_NOT_FOUND ? 0 : rv;
        }
        struct far_kept_key key = far_epoch_key(epoch.seq);
        rv = kept->ops->del(kept, far_kept_slice(&key), err);
        if (rv != 0) {
            return rv;
        }
    }
    *ret_more = true;
    return 0;
}

/* The next rows of the walk; each is kept or removed. */
static int walk_some(struct far_store_txn *txn, struct far_retain_walk *walk, size_t max, bool *ret_changed, bool *ret_more,
                     struct far_error *err)
{
    struct far_kv *kept = far_store_history(txn);
    for (size_t i = 0; i < max; i++) {
        struct far_slice key, value;
        int rv = kept->ops->seek(kept, far_slice(walk->at, walk->at_len), &key, &value, err);
        if (rv == FAR_NOT_FOUND || (rv == 0 && key.data[0] == FAR_EPOCH_RECORDS)) {
            *walk = (struct far_retain_walk){.floor = 0};
            return 0;
        }
        if (rv == 0 && (key.len <= FAR_EPOCH_BYTES || key.len >= sizeof walk->at)) {
            rv = far_fail(err, FAR_CORRUPT, "store, table history: a key of %zu bytes", key.len);
        }
        if (rv != 0) {
            return rv;
        }
        memcpy(walk->at, key.data, key.len);
        walk->at[key.len] = 0;
        walk->at_len = key.len + 1;
        if (far_get_be64(walk->at + key.len - FAR_EPOCH_BYTES) < walk->floor) {
            rv = kept->ops->del(kept, far_slice(walk->at, walk->at_len - 1), err);
            *ret_changed = true;
        }
        if (rv != 0) {
            return rv;
        }
    }
    *ret_more = true;
    return 0;
}

int far_retain_history(struct far_store_txn *txn, struct far_retain_walk *walk, uint64_t bytes_max, size_t max,
                       bool *ret_changed, bool *ret_more, struct far_error *err)
{
    uint64_t floor = 0;
    int rv = 0;
    if (far_store_history(txn) == NULL) {
        return 0;
    }
    const struct far_store *store = txn->store;
    if (walk->floor == 0 || walk->filled != store->history_filled) {
        *walk = (struct far_retain_walk){.floor = 0};
        rv = find_floor(txn, bytes_max, &floor, err);
        if (rv != 0 || floor == 0) {
            return rv;
        }
        bool more = false;
        *ret_changed = true;
        rv = remove_records(txn, floor, &more, err);
        *ret_more = *ret_more || more;
        if (rv == 0 && !more) {
            *walk = (struct far_retain_walk){.floor = floor, .filled = store->history_filled};
            *ret_more = true;
        }
        return rv;
    }
    return walk_some(txn, walk, max, ret_changed, ret_more, err);
}
