/* States of the past for another server: see past_copy.h. */
#include "log/past_copy.h"

#include "log/history_private.h"

enum { ROW_HEADER = 4 };

typedef unsigned long long llu;

static int no_memory(struct far_error *err)
{
    return far_fail(err, FAR_LIMIT, "no memory for states of the past");
}

/* ---- sending ---- */

static int put(struct far_buf *out, struct far_slice key, struct far_slice value, struct far_error *err)
{
    uint8_t *p = far_buf_reserve(out, ROW_HEADER + key.len + value.len);
    if (p == NULL) {
        return no_memory(err);
    }
    far_put_le16(p, (uint16_t)key.len);
    far_put_le16(p + 2, (uint16_t)value.len);
    memcpy(p + ROW_HEADER, key.data, key.len);
    if (value.len > 0) {
        memcpy(p + ROW_HEADER + key.len, value.data, value.len);
    }
    out->len += ROW_HEADER + key.len + value.len;
    return 0;
}

/* All records before `before`, but no more than the newest FAR_PAST_RECORDS_MAX. */
static int put_records(struct far_store_txn *txn, uint64_t before, struct far_buf *out, struct far_error *err)
{
    struct far_kv *kept = far_store_history(txn);
    uint64_t from = before;
    struct far_epoch epoch;
    int rv = 0;
    for (int i = 0; rv == 0 && i < FAR_PAST_RECORDS_MAX && from > 0; i++) {
        rv = far_epoch_before(txn, from - 1, &epoch, err);
        from = rv == 0 ? epoch.seq : from;
    }
    rv = rv == FAR_NOT_FOUND ? 0 : rv;
    while (rv == 0 && from < before) {
        struct far_kept_key key = far_epoch_key(from);
        struct far_slice value;
        rv = kept->ops->get(kept, far_kept_slice(&key), &value, err);
        rv = rv != 0 ? rv : put(out, far_kept_slice(&key), value, err);
        rv = rv != 0 ? rv : far_epoch_after(txn, from, &epoch, err);
        from = rv == 0 ? epoch.seq : from;
    }
    return rv == FAR_NOT_FOUND ? 0 : rv;
}

struct place {
    uint8_t key[FAR_PAST_KEY_MAX + 1];
    size_t len;
};

/* Rows from the place on, until there are enough; the place moves behind them, or to the records. */
static int put_rows(struct far_store_txn *txn, uint64_t before, struct place *place, struct far_buf *out, struct far_error *err)
{
    struct far_kv *kept = far_store_history(txn);
    size_t begin = out->len;
    uint64_t looks = txn->store->past_looks != 0 ? txn->store->past_looks : FAR_PAST_LOOKS_MAX;
    for (uint64_t i = 0; i < looks && out->len - begin < FAR_PAST_BATCH_MAX; i++) {
        struct far_slice key, value;
        int rv = kept->ops->seek(kept, far_slice(place->key, place->len), &key, &value, err);
        if (rv == FAR_NOT_FOUND || (rv == 0 && key.data[0] == FAR_EPOCH_RECORDS)) {
            place->key[0] = FAR_EPOCH_RECORDS;
            place->len = 1;
            return 0;
        }
        if (rv == 0 && (key.len <= FAR_EPOCH_BYTES || key.len > FAR_PAST_KEY_MAX)) {
            rv = far_fail(err, FAR_CORRUPT, "store, table history: a key of %zu bytes", key.len);
        }
        if (rv == 0 && far_get_be64(key.data + key.len - FAR_EPOCH_BYTES) < before) {
            rv = put(out, key, value, err);
        }
        if (rv != 0) {
            return rv;
        }
        memcpy(place->key, key.data, key.len);
        place->key[key.len] = 0;
        place->len = key.len + 1;
    }
    return 0;
}

int far_past_copy_encode(struct far_store_txn *txn, uint64_t before, struct far_slice key, struct far_buf *out,
                         struct far_error *err)
{
    struct place place = {.len = key.len > FAR_PAST_KEY_MAX ? FAR_PAST_KEY_MAX : key.len};
    struct far_buf rows;
    uint8_t header[FAR_PAST_HEADER];
    int rv = 0;
    if (place.len > 0) {
        memcpy(place.key, key.data, place.len);
    }
    far_buf_init(&rows, out->max);
    struct far_epoch epoch;
    bool has_some = before > 0 && far_epoch_before(txn, before - 1, &epoch, err) == 0; /* none without a history */
    bool is_last = !has_some || (place.len > 0 && place.key[0] == FAR_EPOCH_RECORDS);
    if (is_last) {
        place = (struct place){.key = {FAR_EPOCH_RECORDS}, .len = 1};
    }
    if (has_some) {
        rv = is_last ? put_records(txn, before, &rows, err) : put_rows(txn, before, &place, &rows, err);
    }
    far_put_le64(header, before);
    far_put_le16(header + 8, is_last);
    far_put_le16(header + 10, (uint16_t)place.len);
    if (rv == 0 && (far_buf_append(out, header, sizeof header) != 0 || far_buf_append(out, place.key, place.len) != 0 ||
                    far_buf_append(out, rows.data, rows.len) != 0)) {
        rv = no_memory(err);
    }
    far_buf_done(&rows);
    return rv;
}

/* ---- receiving ---- */

int far_past_copy_decode(struct far_slice bytes, struct far_past_batch *ret_batch, struct far_error *err)
{
    size_t next = bytes.len < FAR_PAST_HEADER ? 0 : far_get_le16(bytes.data + 10);
    if (bytes.len < FAR_PAST_HEADER + next || far_get_le16(bytes.data + 8) > 1 || next == 0 || next > FAR_PAST_KEY_MAX + 1) {
        return far_fail(err, FAR_CORRUPT, "a batch of states of the past is damaged (%zu bytes)", bytes.len);
    }
    *ret_batch = (struct far_past_batch){
        .before = far_get_le64(bytes.data),
        .is_last = far_get_le16(bytes.data + 8) == 1,
        .next = far_slice(bytes.data + FAR_PAST_HEADER, next),
        .rows = far_slice(bytes.data + FAR_PAST_HEADER + next, bytes.len - FAR_PAST_HEADER - next),
    };
    return 0;
}

/* The head after an event, if it or the one behind it is here. */
static int head_of(struct far_store_txn *txn, uint64_t seq, uint8_t ret_head[FAR_HEAD_SIZE], struct far_error *err)
{
    struct far_event event;
    if (seq + 1 == far_store_meta(txn)->first_seq) {
        memcpy(ret_head, far_store_meta(txn)->base_head, FAR_HEAD_SIZE);
        return 0;
    }
    return far_store_event_get(txn, seq, &event, ret_head, err);
}

/* A record is put if all events since are here, and if it is of their history. */
static int put_record(struct far_store_txn *txn, uint64_t before, struct far_slice key, struct far_slice value,
                      struct far_epoch *oldest, struct far_error *err)
{
    struct far_kv *kept = far_store_history(txn);
    struct far_epoch epoch;
    uint8_t head[FAR_HEAD_SIZE];
    int rv = far_epoch_decode(key, value, &epoch, err);
    if (rv == 0 && epoch.seq >= before) {
        rv = far_fail(err, FAR_CORRUPT, "a state of the past came that nobody asked for");
    }
    if (rv != 0 || epoch.seq + 1 < far_store_meta(txn)->first_seq) {
        return rv;
    }
    rv = head_of(txn, epoch.seq, head, err);
    if (rv == 0 && memcmp(head, epoch.head, sizeof head) != 0) {
        rv = far_fail(err, FAR_CORRUPT, "the state behind event %llu that came is of another history", (llu)epoch.seq);
    }
    *oldest = rv == 0 && epoch.seq < oldest->seq ? epoch : *oldest;
    return rv != 0 ? rv : kept->ops->put(kept, key, value, err);
}

/* The rows that came give the oldest state that came: all of them are here, or none of the states is believed. */
static int check_whole(struct far_store_txn *txn, const struct far_epoch *oldest, struct far_error *err)
{
    struct far_moment moment = {FAR_MOMENT_SEQ, oldest->seq};
    struct far_past *past = NULL;
    struct far_hash128 digest;
    uint64_t rows;
    int rv = far_past_open(txn, &moment, &past, err);
    rv = rv != 0 ? rv : far_state_digest_walk(past->state.kv, &digest, &rows, err);
    if (rv == 0 && !far_hash128_equal(digest, oldest->digest)) {
        rv = far_fail(err, FAR_CORRUPT, "the state behind event %llu that came is not whole", (llu)oldest->seq);
    }
    far_past_close(past);
    return rv;
}

static int put_row(struct far_store_txn *txn, uint64_t before, struct far_slice key, struct far_slice value, struct far_error *err)
{
    struct far_kv *kept = far_store_history(txn);
    struct far_slice row = far_slice(key.data, key.len - FAR_EPOCH_BYTES);
    bool is_whole = value.len == 0 ||
                    (value.len >= 8 && far_get_le64(value.data + value.len - 8) ==
                                           far_hash64_parts(row, far_slice(value.data, value.len - 8), far_slice(NULL, 0)));
    if (!is_whole || far_get_be64(key.data + row.len) >= before) {
        return far_fail(err, FAR_CORRUPT, "a row of a state of the past is not what was written");
    }
    return kept->ops->put(kept, key, value, err);
}

/* Only with the states behind them are those before whole: what was asked for ends where the oldest one here begins. If tidying
 * has removed that one meanwhile (*ret_gone), then also rows that these need; if there are older ones, these came already. */
static int look_behind(struct far_store_txn *txn, uint64_t before, bool *ret_gone, bool *ret_came, struct far_error *err)
{
    struct far_epoch oldest = {.seq = UINT64_MAX};
    int rv = far_epoch_after(txn, UINT64_MAX, &oldest, err);
    *ret_gone = oldest.seq > before;
    *ret_came = oldest.seq < before;
    return rv == FAR_NOT_FOUND ? 0 : rv;
}

int far_past_copy_apply(struct far_store_txn *txn, struct far_slice bytes, struct far_error *err)
{
    struct far_past_batch batch;
    struct far_epoch oldest = {.seq = UINT64_MAX};
    int rv = far_past_copy_decode(bytes, &batch, err);
    if (rv == 0 && far_store_history(txn) == NULL) {
        rv = far_fail(err, FAR_CORRUPT, "states of the past came to a store that keeps none");
    }
    bool is_gone = false, came = false;
    rv = rv == 0 && batch.is_last ? look_behind(txn, batch.before, &is_gone, &came, err) : rv;
    struct far_slice left = rv == 0 && !came ? batch.rows : far_slice(NULL, 0);
    txn->store->history_filled += left.len > 0;
    while (rv == 0 && left.len > 0) {
        size_t key_len = left.len < ROW_HEADER ? 0 : far_get_le16(left.data);
        size_t value_len = left.len < ROW_HEADER ? 0 : far_get_le16(left.data + 2);
        if (key_len <= FAR_EPOCH_BYTES || key_len > FAR_PAST_KEY_MAX || value_len > FAR_KV_VALUE_MAX ||
            ROW_HEADER + key_len + value_len > left.len) {
            return far_fail(err, FAR_CORRUPT, "a batch of states of the past has a wrong length");
        }
        struct far_slice key = far_slice(left.data + ROW_HEADER, key_len);
        struct far_slice value = far_slice(key.data + key_len, value_len);
        rv = (key.data[0] == FAR_EPOCH_RECORDS) != batch.is_last ? far_fail(err, FAR_CORRUPT, "states of the past came out of order")
             : batch.is_last                           ? put_record(txn, batch.before, key, value, &oldest, err)
                                                       : put_row(txn, batch.before, key, value, err);
        left = far_slice(left.data + ROW_HEADER + key_len + value_len, left.len - ROW_HEADER - key_len - value_len);
    }
    if (rv == 0 && is_gone && oldest.seq != UINT64_MAX) {
        return far_fail(err, FAR_CORRUPT, "states from before event %llu came too late: that behind it is gone", (llu)batch.before);
    }
    return rv != 0 || oldest.seq == UINT64_MAX ? rv : check_whole(txn, &oldest, err);
}
