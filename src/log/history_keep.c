/* Writing the history: see history.h. */
#include "log/history_private.h"

int far_epoch_begin(struct far_store_txn *txn, struct far_error *err)
{
    const struct far_store_meta *meta = far_store_meta(txn);
    struct far_kv *kept = far_store_history(txn);
    struct far_kept_key key = far_epoch_key(meta->last_seq);
    uint8_t p[FAR_HISTORY_RECORD] = {0};
    far_put_le64(p, meta->applied_index);
    far_put_le64(p + 8, meta->applied_term);
    memcpy(p + 16, meta->head, FAR_HEAD_SIZE);
    far_put_le64(p + 48, meta->digest.low);
    far_put_le64(p + 56, meta->digest.high);
    far_put_le64(p + 72, far_hash64_parts(far_kept_slice(&key), far_slice(p, 72), far_slice(NULL, 0)));
    return kept->ops->put(kept, far_kept_slice(&key), far_slice(p, sizeof p), err);
}

static struct far_history *history_of(struct far_kv *kv)
{
    return (struct far_history *)(void *)kv;
}

static int rows_get(struct far_kv *kv, struct far_slice key, struct far_slice *ret_value, struct far_error *err)
{
    struct far_kv *rows = history_of(kv)->rows;
    return rows->ops->get(rows, key, ret_value, err);
}

static int rows_seek(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key, struct far_slice *ret_value,
                     struct far_error *err)
{
    struct far_kv *rows = history_of(kv)->rows;
    return rows->ops->seek(rows, key, ret_key, ret_value, err);
}

static int rows_seek_before(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key,
                            struct far_slice *ret_value, struct far_error *err)
{
    struct far_kv *rows = history_of(kv)->rows;
    return rows->ops->seek_before(rows, key, ret_key, ret_value, err);
}

/* Was the row kept in this epoch already? 0, or FAR_NOT_FOUND; then it is known from now on that it was. */
static int look(struct far_history *history, struct far_slice key, const struct far_kept_key *kept, struct far_error *err)
{
    struct far_slice value;
    int is_new = history->knows_keys ? far_key_set_add(&history->keys, key) : -1;
    if (is_new >= 0) {
        return is_new == 1 ? FAR_NOT_FOUND : 0;
    }
    history->knows_keys = false; /* it may also be for want of memory */
    return history->kept->ops->get(history->kept, far_kept_slice(kept), &value, err);
}

/* Keep what is under key (with is_new nothing is), unless that was done in this epoch. */
static int keep(struct far_history *history, struct far_slice key, bool is_new, struct far_error *err)
{
    struct far_kept_key kept = far_kept_key(key, history->epoch);
    uint8_t copy[FAR_KV_VALUE_MAX];
    struct far_slice value = far_slice(copy, 0);
    int rc = look(history, key, &kept, err);
    if (rc != FAR_NOT_FOUND) {
        return rc;
    }
    rc = is_new ? FAR_NOT_FOUND : history->rows->ops->get(history->rows, key, &value, err);
    if (rc == FAR_NOT_FOUND) {
        value = far_slice(copy, 0);
    } else if (rc != 0) {
        return rc;
    } else { /* what a read returned does not outlive a write */
        value.len = value.len > sizeof copy ? sizeof copy : value.len;
        memcpy(copy, value.data, value.len);
        value.data = copy;
    }
    return history->kept->ops->put(history->kept, far_kept_slice(&kept), value, err);
}

static int rows_put(struct far_kv *kv, struct far_slice key, struct far_slice value, struct far_error *err)
{
    struct far_history *history = history_of(kv);
    int rc = keep(history, key, false, err);
    return rc != 0 ? rc : history->rows->ops->put(history->rows, key, value, err);
}

static int rows_add(struct far_kv *kv, struct far_slice key, struct far_slice value, struct far_error *err)
{
    struct far_history *history = history_of(kv);
    int rc = keep(history, key, true, err);
    return rc != 0 ? rc : history->rows->ops->put(history->rows, key, value, err);
}

static int rows_del(struct far_kv *kv, struct far_slice key, struct far_error *err)
{
    struct far_history *history = history_of(kv);
    int rc = keep(history, key, false, err);
    return rc != 0 ? rc : history->rows->ops->del(history->rows, key, err);
}

static const struct far_kv_ops keeping = {
    .get = rows_get, .put = rows_put, .add = rows_add, .del = rows_del, .seek = rows_seek, .seek_before = rows_seek_before};

int far_history_resume(struct far_history *history, struct far_store_txn *txn, struct far_error *err)
{
    struct far_epoch epoch = {.seq = history->epoch};
    uint64_t seq = far_store_meta(txn)->last_seq;
    uint64_t events = txn->store->epoch_events != 0 ? txn->store->epoch_events : FAR_HISTORY_EPOCH;
    int rc = history->kv.ops != NULL ? 0 : far_epoch_before(txn, seq, &epoch, err);
    if (rc == FAR_NOT_FOUND || (rc == 0 && seq / events > epoch.seq / events)) { /* at the same events on all servers */
        rc = far_epoch_begin(txn, err);
        epoch.seq = seq;
        far_key_set_clear(&history->keys);
        history->knows_keys = !history->is_once;
    }
    history->kv.ops = &keeping;
    history->rows = far_store_kv(txn);
    history->kept = far_store_history(txn);
    history->epoch = epoch.seq;
    return rc;
}

int far_history_begin(struct far_history *history, struct far_store_txn *txn, struct far_error *err)
{
    *history = (struct far_history){.is_once = true};
    return far_history_resume(history, txn, err);
}

void far_history_done(struct far_history *history)
{
    far_key_set_done(&history->keys);
    *history = (struct far_history){0};
}
