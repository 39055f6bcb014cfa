/* Reading the history: see history.h. */
#include "log/history_private.h"

#include "fsm/kv_memory.h"
#include "fsm/kv_overlay.h"
#include "fsm/rows.h"

#include <stdlib.h>

enum { FROM_START_MAX = 4 * FAR_HISTORY_EPOCH };

typedef unsigned long long llu;

/* ---- keys ---- */

static bool is_of_row(struct far_slice kept, struct far_slice row)
{
    return kept.len == row.len + FAR_EPOCH_BYTES && memcmp(kept.data, row.data, row.len) == 0;
}

/* A damaged page may give keys that do not go on: walks end there. */
static int out_of_order(struct far_error *err)
{
    return far_fail(err, FAR_CORRUPT, "store: its keys are out of order");
}

/* ---- records ---- */

int far_epoch_decode(struct far_slice key, struct far_slice value, struct far_epoch *ret_epoch, struct far_error *err)
{
    const uint8_t *p = value.data;
    if (key.len != 1 + FAR_EPOCH_BYTES || value.len != FAR_HISTORY_RECORD ||
        far_get_le64(p + FAR_HISTORY_RECORD - 8) != far_hash64_parts(key, far_slice(p, FAR_HISTORY_RECORD - 8), far_slice(NULL, 0))) {
        return far_fail(err, FAR_CORRUPT, "store, table history: the record of an epoch is not what was written");
    }
    *ret_epoch = (struct far_epoch){.seq = far_get_be64(key.data + 1),
                                    .index = far_get_le64(p),
                                    .term = far_get_le64(p + 8),
                                    .digest = {.low = far_get_le64(p + 48), .high = far_get_le64(p + 56)}};
    memcpy(ret_epoch->head, p + 16, FAR_HEAD_SIZE);
    return 0;
}

int far_epoch_before(struct far_store_txn *txn, uint64_t seq, struct far_epoch *ret_epoch, struct far_error *err)
{
    struct far_kv *kept = far_store_history(txn);
    struct far_kept_key key = far_epoch_key(seq + 1);
    struct far_slice at, value;
    int rc = kept == NULL ? FAR_NOT_FOUND : kept->ops->seek_before(kept, far_kept_slice(&key), &at, &value, err);
    if (rc != 0 || at.data[0] != FAR_EPOCH_RECORDS) {
        return rc != 0 ? rc : FAR_NOT_FOUND;
    }
    return far_epoch_decode(at, value, ret_epoch, err);
}

int far_epoch_after(struct far_store_txn *txn, uint64_t seq, struct far_epoch *ret_epoch, struct far_error *err)
{
    struct far_kv *kept = far_store_history(txn);
    struct far_kept_key key = far_epoch_key(seq + 1); /* behind UINT64_MAX comes 0 */
    struct far_slice at, value;
    int rc = kept == NULL ? FAR_NOT_FOUND : kept->ops->seek(kept, far_kept_slice(&key), &at, &value, err);
    return rc != 0 ? rc : far_epoch_decode(at, value, ret_epoch, err);
}

/* ---- the rows at the start of an epoch ---- */

struct rows_then {
    struct far_kv kv; /* first */
    struct far_kv *rows;
    struct far_kv *kept;
    uint64_t epoch;
    struct far_kv *empty; /* owned: instead of both, before the first event */
    bool gap_is_known; /* the last place that was looked for, and what is the first there; a read transaction does not change */
    uint8_t gap_from[FAR_KV_KEY_MAX + 2];
    size_t gap_from_len;
    struct far_slice gap_key, gap_value;
    int gap_rc; /* 0, or FAR_NOT_FOUND */
};

static struct rows_then *then_of(struct far_kv *kv)
{
    return (struct rows_then *)(void *)kv;
}

static int then_get(struct far_kv *kv, struct far_slice key, struct far_slice *ret_value, struct far_error *err)
{
    const struct rows_then *then = then_of(kv);
    struct far_kept_key from = far_kept_key(key, then->epoch);
    struct far_slice at, value;
    int rc = then->kept->ops->seek(then->kept, far_kept_slice(&from), &at, &value, err);
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    if (rc != 0 || !is_of_row(at, key)) {
        return then->rows->ops->get(then->rows, key, ret_value, err);
    }
    if (value.len == 0) {
        return FAR_NOT_FOUND;
    }
    *ret_value = value;
    return 0;
}

/* The first row's key >= key of which something is kept. */
static int kept_seek(const struct rows_then *then, struct far_slice key, struct far_slice *ret_key, struct far_error *err)
{
    struct far_slice at, value;
    uint8_t behind[FAR_KV_KEY_MAX + FAR_EPOCH_BYTES + 1];
    for (;;) {
        int rc = then->kept->ops->seek(then->kept, key, &at, &value, err);
        if (rc != 0 || at.data[0] == FAR_EPOCH_RECORDS || at.len <= FAR_EPOCH_BYTES) {
            return rc != 0 ? rc : FAR_NOT_FOUND;
        }
        bool is_epoch = at.data[at.len - FAR_EPOCH_BYTES] == 0; /* else the step behind the row would not get behind it */
        if (far_slice_compare(at, key) < 0 || at.len > FAR_KV_KEY_MAX + FAR_EPOCH_BYTES || !is_epoch) {
            return out_of_order(err);
        }
        struct far_slice row = far_slice(at.data, at.len - FAR_EPOCH_BYTES);
        if (far_slice_compare(row, key) >= 0) {
            *ret_key = row;
            return 0;
        }
        memcpy(behind, row.data, row.len); /* key is the row's and more: behind its entries */
        behind[row.len] = 1;
        key = far_slice(behind, row.len + 1);
    }
}

static int seek_then(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key, struct far_slice *ret_value,
                     struct far_error *err)
{
    const struct rows_then *then = then_of(kv);
    uint8_t from[FAR_KV_KEY_MAX + 2];
    for (;;) {
        struct far_slice now = {0}, kept = {0}, value;
        int rc_now = then->rows->ops->seek(then->rows, key, &now, &value, err);
        int rc_kept = kept_seek(then, key, &kept, err);
        if ((rc_now != 0 && rc_now != FAR_NOT_FOUND) || (rc_kept != 0 && rc_kept != FAR_NOT_FOUND)) {
            return rc_now != 0 && rc_now != FAR_NOT_FOUND ? rc_now : rc_kept;
        }
        if (rc_now != 0 && rc_kept != 0) {
            return FAR_NOT_FOUND;
        }
        bool is_kept = rc_kept == 0 && (rc_now != 0 || far_slice_compare(kept, now) < 0);
        *ret_key = is_kept ? kept : now;
        if (far_slice_compare(*ret_key, key) < 0) {
            return out_of_order(err);
        }
        int rc = then_get(kv, *ret_key, ret_value, err);
        if (rc != FAR_NOT_FOUND) {
            return rc;
        }
        if (ret_key->len > FAR_KV_KEY_MAX) {
            return far_fail(err, FAR_CORRUPT, "a key of %zu bytes", ret_key->len);
        }
        memcpy(from, ret_key->data, ret_key->len);
        from[ret_key->len] = 0;
        key = far_slice(from, ret_key->len + 1);
    }
}

/* The last row's key < key of which something is kept. */
static int kept_seek_before(const struct rows_then *then, struct far_slice key, struct far_slice *ret_key,
                            struct far_error *err)
{
    struct far_slice at, value;
    int rc = then->kept->ops->seek(then->kept, key, &at, &value, err); /* entries of a row whose key begins this one */
    if (rc == 0 && at.len > FAR_EPOCH_BYTES && at.data[0] != FAR_EPOCH_RECORDS &&
        far_slice_compare(far_slice(at.data, at.len - FAR_EPOCH_BYTES), key) < 0) {
        *ret_key = far_slice(at.data, at.len - FAR_EPOCH_BYTES);
        return 0;
    }
    rc = rc != 0 && rc != FAR_NOT_FOUND ? rc : then->kept->ops->seek_before(then->kept, key, &at, &value, err);
    if (rc == 0 && (at.len <= FAR_EPOCH_BYTES || at.data[0] == FAR_EPOCH_RECORDS)) {
        rc = FAR_NOT_FOUND;
    }
    if (rc == 0) {
        *ret_key = far_slice(at.data, at.len - FAR_EPOCH_BYTES);
    }
    return rc;
}

/* An overlay looks for the next row below it again at each of its own: where many rows came later, each look would pass over all
 * of them. So the last gap is remembered: between its ends there is nothing. */
static int then_seek(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key, struct far_slice *ret_value,
                     struct far_error *err)
{
    struct rows_then *then = then_of(kv);
    bool is_in_gap = then->gap_is_known && far_slice_compare(key, far_slice(then->gap_from, then->gap_from_len)) >= 0 &&
                     (then->gap_rc == FAR_NOT_FOUND || far_slice_compare(key, then->gap_key) <= 0);
    if (!is_in_gap) {
        then->gap_is_known = false;
        int rc = seek_then(kv, key, &then->gap_key, &then->gap_value, err);
        if ((rc != 0 && rc != FAR_NOT_FOUND) || key.len > sizeof then->gap_from) {
            *ret_key = then->gap_key;
            *ret_value = then->gap_value;
            return rc;
        }
        if (key.len > 0) {
            memcpy(then->gap_from, key.data, key.len);
        }
        then->gap_from_len = key.len;
        then->gap_rc = rc;
        then->gap_is_known = true;
    }
    if (then->gap_rc == 0) {
        *ret_key = then->gap_key;
        *ret_value = then->gap_value;
    }
    return then->gap_rc;
}

static int then_seek_before(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key,
                            struct far_slice *ret_value, struct far_error *err)
{
    const struct rows_then *then = then_of(kv);
    uint8_t from[FAR_KV_KEY_MAX + 2];
    for (;;) {
        struct far_slice now = {0}, kept = {0}, value;
        int rc_now = then->rows->ops->seek_before(then->rows, key, &now, &value, err);
        int rc_kept = kept_seek_before(then, key, &kept, err);
        if ((rc_now != 0 && rc_now != FAR_NOT_FOUND) || (rc_kept != 0 && rc_kept != FAR_NOT_FOUND)) {
            return rc_now != 0 && rc_now != FAR_NOT_FOUND ? rc_now : rc_kept;
        }
        if (rc_now != 0 && rc_kept != 0) {
            return FAR_NOT_FOUND;
        }
        bool is_kept = rc_kept == 0 && (rc_now != 0 || far_slice_compare(kept, now) > 0);
        *ret_key = is_kept ? kept : now;
        if (far_slice_compare(*ret_key, key) >= 0) {
            return out_of_order(err);
        }
        int rc = then_get(kv, *ret_key, ret_value, err);
        if (rc != FAR_NOT_FOUND) {
            return rc;
        }
        if (ret_key->len > FAR_KV_KEY_MAX) {
            return far_fail(err, FAR_CORRUPT, "a key of %zu bytes", ret_key->len);
        }
        memcpy(from, ret_key->data, ret_key->len);
        key = far_slice(from, ret_key->len);
    }
}

static int then_put(struct far_kv *kv, struct far_slice key, struct far_slice value, struct far_error *err)
{
    return far_fail(err, FAR_INTERNAL, "the past does not change");
}

static int then_del(struct far_kv *kv, struct far_slice key, struct far_error *err)
{
    return far_fail(err, FAR_INTERNAL, "the past does not change");
}

static const struct far_kv_ops reading = {
    .get = then_get, .put = then_put, .del = then_del, .seek = then_seek, .seek_before = then_seek_before};

/* ---- moments ---- */

static int time_of(struct far_store_txn *txn, uint64_t seq, uint64_t *ret_ms, struct far_error *err)
{
    struct far_event event;
    int rc = far_store_event_get(txn, seq, &event, NULL, err);
    *ret_ms = rc == 0 ? event.time_ms : 0;
    return rc;
}

/* The last event at or before a time: time never runs backwards. */
static int seq_of_time(struct far_store_txn *txn, uint64_t time_ms, uint64_t *ret_seq, struct far_error *err)
{
    const struct far_store_meta *meta = far_store_meta(txn);
    uint64_t low = meta->first_seq - 1, high = meta->last_seq; /* low is in (or before all), high + 1 is not */
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2, at_ms;
        int rc = time_of(txn, middle, &at_ms, err);
        if (rc != 0) {
            return rc;
        }
        if (at_ms <= time_ms) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    *ret_seq = low;
    return low >= meta->first_seq || meta->first_seq == 1
               ? 0
               : far_fail(err, FAR_NOT_FOUND, "that is before event %llu, the oldest that this server keeps",
                          (llu)meta->first_seq);
}

int far_moment_seq(struct far_store_txn *txn, const struct far_moment *moment, uint64_t *ret_seq, struct far_error *err)
{
    uint64_t last = far_store_meta(txn)->last_seq;
    if (moment->kind == FAR_MOMENT_TIME) {
        return seq_of_time(txn, moment->value, ret_seq, err);
    }
    *ret_seq = moment->kind == FAR_MOMENT_NOW ? last : moment->value;
    return *ret_seq <= last ? 0
                            : far_fail(err, FAR_NOT_FOUND, "event %llu is yet to come; the newest here is %llu",
                                       (llu)*ret_seq, (llu)last);
}

/* The rows at the start of the newest epoch at or before seq; or of nothing, where all events are here and few. */
static int open_base(struct far_store_txn *txn, uint64_t seq, struct far_past *past, struct rows_then *base,
                     struct far_error *err)
{
    struct far_epoch epoch = {0};
    int rc = far_epoch_before(txn, seq, &epoch, err);
    rc = rc == 0 && epoch.seq + 1 < far_store_meta(txn)->first_seq && epoch.seq < seq ? FAR_NOT_FOUND : rc; /* events are gone */
    if (rc == 0) {
        *base = (struct rows_then){.kv = {.ops = &reading}, .rows = far_store_kv(txn), .kept = far_store_history(txn),
                                   .epoch = epoch.seq};
    } else if (rc == FAR_NOT_FOUND && far_store_meta(txn)->first_seq == 1 && seq <= FROM_START_MAX) {
        base->empty = far_kv_memory_new();
        rc = base->empty != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory for the past");
    } else if (rc == FAR_NOT_FOUND) {
        bool some = far_epoch_after(txn, seq, &epoch, err) == 0;
        far_fail(err, rc, some ? "the oldest state that this server can show is that of event %llu; another server may "
                                 "have older ones" : "this server keeps no states of the past (asked for that of event %llu)",
                 (llu)(some ? epoch.seq : seq));
    }
    if (rc != 0) {
        return rc;
    }
    past->seq = epoch.seq;
    past->index = epoch.index;
    past->state.digest = epoch.digest;
    memcpy(past->head, epoch.head, sizeof past->head);
    past->state.kv = far_kv_overlay_new(base->empty != NULL ? base->empty : &base->kv);
    return past->state.kv != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory for the past");
}

/* The next event has no payload any more. What can be shown around it? */
static int compacted(const struct far_past *past, struct far_store_txn *txn, struct far_error *err)
{
    struct far_epoch next = {.seq = past->seq};
    int rc = far_epoch_after(txn, past->seq, &next, err);
    return rc != 0 && rc != FAR_NOT_FOUND
               ? rc
               : far_fail(err, FAR_NOT_FOUND, "progress was compacted from event %llu on; the nearest states that can be shown are "
                                              "those of events %llu and %llu",
                          (llu)(past->seq + 1), (llu)past->seq, (llu)next.seq);
}

static int forward_one(struct far_past *past, struct far_store_txn *txn, struct far_state *state, struct far_error *err)
{
    uint8_t stored[FAR_HEAD_SIZE];
    struct far_event event;
    int rc = far_store_event_get(txn, past->seq + 1, &event, stored, err);
    rc = rc != 0 ? rc : far_chain_add(past->head, &event, err);
    if (rc == 0 && memcmp(past->head, stored, sizeof stored) != 0) {
        rc = far_fail(err, FAR_CORRUPT, "event %llu: the chain does not lead to it", (llu)event.seq);
    }
    if (rc == 0 && event.compacted_len != 0) {
        return compacted(past, txn, err);
    }
    rc = rc != 0 ? rc : far_fsm_evolve(state, &event, err);
    rc = rc != 0 ? rc : far_rows_trim(state->rows, &state->digest, err);
    if (rc == 0) {
        past->seq = event.seq;
        past->index = event.index;
        past->folded++;
    }
    return rc;
}

int far_past_forward(struct far_past *past, struct far_store_txn *txn, uint64_t seq, struct far_error *err)
{
    struct far_state state = {.kv = past->state.kv, .digest = past->state.digest, .rows = far_rows_new(past->state.kv, false)};
    int rc = state.rows == NULL ? far_fail(err, FAR_LIMIT, "no memory for the past") : 0;
    while (rc == 0 && past->seq < seq) {
        rc = forward_one(past, txn, &state, err);
    }
    rc = rc != 0 ? rc : far_rows_flush(state.rows, &state.digest, err);
    far_rows_free(state.rows);
    past->state.digest = state.digest;
    return rc;
}

int far_past_open(struct far_store_txn *txn, const struct far_moment *moment, struct far_past **ret_past,
                  struct far_error *err)
{
    uint64_t seq = 0;
    int rc = far_moment_seq(txn, moment, &seq, err);
    if (rc != 0) {
        return rc;
    }
    struct far_past *past = calloc(1, sizeof *past);
    struct rows_then *base = calloc(1, sizeof *base);
    if (past == NULL || base == NULL) {
        free(past);
        free(base);
        return far_fail(err, FAR_LIMIT, "no memory for the past");
    }
    past->base = base;
    rc = open_base(txn, seq, past, base, err);
    rc = rc != 0 ? rc : far_past_forward(past, txn, seq, err);
    if (rc != 0) {
        far_past_close(past);
        return rc;
    }
    *ret_past = past;
    return 0;
}

void far_past_close(struct far_past *past)
{
    if (past != NULL) {
        struct rows_then *base = past->base;
        far_kv_overlay_free(past->state.kv);
        far_kv_memory_free(base->empty);
        free(base);
        free(past);
    }
}

int far_history_changed(struct far_store_txn *txn, struct far_slice key, uint64_t before, uint64_t *ret_from,
                        uint64_t *ret_to, struct far_error *err)
{
    struct far_kv *kept = far_store_history(txn);
    struct far_kept_key limit = far_kept_key(key, before > 0 ? before - 1 : 0); /* epoch e begins with event e + 1 */
    struct far_slice at, value;
    struct far_epoch next;
    int rc = kept == NULL ? FAR_NOT_FOUND : kept->ops->seek_before(kept, far_kept_slice(&limit), &at, &value, err);
    if (rc != 0 || !is_of_row(at, key)) {
        return rc != 0 ? rc : FAR_NOT_FOUND;
    }
    uint64_t epoch = far_get_be64(at.data + key.len);
    rc = far_epoch_after(txn, epoch, &next, err);
    *ret_from = epoch + 1;
    *ret_to = rc == 0 ? next.seq : far_store_meta(txn)->last_seq;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_history_next(struct far_store_txn *txn, struct far_history_walk *walk, struct far_error *err)
{
    struct far_kv *kept = far_store_history(txn);
    struct far_slice at, value;
    struct far_epoch epoch;
    int rc = kept == NULL ? FAR_NOT_FOUND : kept->ops->seek(kept, far_slice(walk->at, walk->at_len), &at, &value, err);
    if (rc != 0) {
        return rc;
    }
    if (at.len <= FAR_EPOCH_BYTES || at.len >= sizeof walk->at) {
        return far_fail(err, FAR_CORRUPT, "store, table history: a key of %zu bytes", at.len);
    }
    if (far_slice_compare(at, far_slice(walk->at, walk->at_len)) < 0) { /* damaged: a walk might never end */
        return out_of_order(err);
    }
    memcpy(walk->at, at.data, at.len);
    walk->at[at.len] = 0;
    walk->at_len = at.len + 1;
    walk->row = far_slice(at.data, at.len - FAR_EPOCH_BYTES);
    walk->epoch = far_get_be64(at.data + walk->row.len);
    if (at.data[0] == FAR_EPOCH_RECORDS) {
        walk->is_whole = true;
        return far_epoch_decode(at, value, &epoch, err);
    }
    walk->is_whole = value.len == 0 ||
                     (value.len >= 8 && far_get_le64(value.data + value.len - 8) ==
                                            far_hash64_parts(walk->row, far_slice(value.data, value.len - 8), far_slice(NULL, 0)));
    return 0;
}
