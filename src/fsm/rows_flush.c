/* The flush of rows: see rows.h. In the order of keys, as maps like it best. */
#include "fsm/rows_private.h"

/* There is something to write: a row, or that there is none any more. */
static bool is_written(const struct far_rows_entry *entry)
{
    return entry->row != NULL || entry->is_below;
}

/* Most keys differ in their first 16 bytes: sorted without a look at the entry. */
struct place {
    uint64_t high, low;
    struct far_rows_entry *entry;
};

static int by_key(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->high != y->high) {
        return x->high < y->high ? -1 : 1;
    }
    if (x->low != y->low) {
        return x->low < y->low ? -1 : 1;
    }
    return far_slice_compare(far_rows_key_of(x->entry), far_rows_key_of(y->entry));
}

static struct place place_of(struct far_rows_entry *entry)
{
    uint8_t start[16] = {0};
    memcpy(start, entry->key, entry->key_len < sizeof start ? entry->key_len : sizeof start);
    return (struct place){.high = far_get_be64(start), .low = far_get_be64(start + 8), .entry = entry};
}

static bool is_same(struct far_rows *rows, struct far_slice key, struct far_slice value)
{
    struct far_slice there;
    return rows->kv->ops->get(rows->kv, key, &there, NULL) == 0 && far_slice_equal(there, value);
}

static int flush_one(struct far_rows *rows, struct far_rows_entry *entry, struct far_hash128 *digest, struct far_error *err)
{
    uint8_t bytes[FAR_KV_VALUE_MAX];
    struct far_slice key = far_rows_key_of(entry), value;
    if (entry->row == NULL) {
        int rc = rows->kv->ops->del(rows->kv, key, err);
        *digest = rc == 0 ? far_hash128_sub(*digest, entry->below) : *digest;
        entry->is_below = false;
        return rc == FAR_NOT_FOUND ? far_fail(err, FAR_INTERNAL, "a row to delete is gone: the map was changed") : rc;
    }
    int rc = far_row_encode(entry->table, key, entry->row, bytes, &value, err);
    if (rc != 0) {
        return rc;
    }
    struct far_hash128 hash = far_hash128_parts(key, value);
    if (entry->is_below && far_hash128_equal(hash, entry->below) && is_same(rows, key, value)) {
        return 0;
    }
    bool adds = !entry->is_below && rows->kv->ops->add != NULL;
    rc = (adds ? rows->kv->ops->add : rows->kv->ops->put)(rows->kv, key, value, err);
    if (rc == 0) {
        *digest = far_hash128_add(entry->is_below ? far_hash128_sub(*digest, entry->below) : *digest, hash);
        entry->was_added = !entry->is_below;
        entry->below = hash;
        entry->is_below = true;
    }
    return rc;
}

/* Nothing is changed or added any more. What was added is mostly of the kind that is never asked for again (the memory of commands,
 * points, deadlines): it goes, and a reader brings back what stays. */
static void begin_anew(struct far_rows *rows)
{
    for (size_t i = 0; i < FAR_ROW_TABLES; i++) {
        if (rows->gaps[i] != NULL) {
            rows->gaps[i]->from_len = 0;
        }
    }
    while (rows->changed.next != &rows->changed) {
        struct far_rows_entry *entry = far_rows_of_changed(rows->changed.next);
        far_rows_list_remove(&entry->changed);
        far_rows_list_remove(&entry->added);
        entry->is_ordered = false;
        if (entry->was_added || entry->row == NULL) {
            far_rows_forget(rows, entry);
        }
    }
    far_kv_memory_free(rows->ordered);
    rows->ordered = NULL;
    if (rows->count >= rows->drop_at) {
        far_rows_drop(rows, false);
        if (rows->count + FAR_ROWS_STEP > FAR_ROWS_KEEP) {
            far_rows_drop(rows, true);
        }
        rows->drop_at = rows->count + FAR_ROWS_STEP;
    }
}

int far_rows_flush(struct far_rows *rows, struct far_hash128 *digest, struct far_error *err)
{
    size_t count = 0, i = 0;
    for (struct far_rows_link *link = rows->changed.next; link != &rows->changed; link = link->next) {
        count += is_written(far_rows_of_changed(link));
    }
    struct place *places = count > 0 ? malloc(count * sizeof *places) : NULL;
    if (count > 0 && places == NULL) {
        return far_rows_no_memory(err);
    }
    for (struct far_rows_link *link = rows->changed.next; link != &rows->changed; link = link->next) {
        if (is_written(far_rows_of_changed(link))) {
            places[i++] = place_of(far_rows_of_changed(link));
        }
    }
    if (count > 0) {
        qsort(places, count, sizeof *places, by_key);
    }
    int rc = 0;
    for (i = 0; rc == 0 && i < count; i++) {
        rc = flush_one(rows, places[i].entry, digest, err);
    }
    free(places);
    if (rc == 0) {
        begin_anew(rows);
    }
    return rc;
}

int far_rows_trim(struct far_rows *rows, struct far_hash128 *digest, struct far_error *err)
{
    return rows->count > FAR_ROWS_KEEP ? far_rows_flush(rows, digest, err) : 0;
}
