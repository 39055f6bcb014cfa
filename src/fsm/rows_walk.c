/* Walks over rows: see rows.h. What is below and what was added since the last flush, merged. */
#include "fsm/rows_private.h"

/* The added keys of a table go into the skip list. */
static int order(struct far_rows *rows, uint8_t table, struct far_error *err)
{
    struct far_rows_link *list = &rows->added[table];
    if (list->next != list && rows->ordered == NULL && (rows->ordered = far_kv_memory_new()) == NULL) {
        return far_rows_no_memory(err);
    }
    while (list->next != list) {
        struct far_rows_entry *entry = far_rows_of_added(list->next);
        int rc = rows->ordered->ops->put(rows->ordered, far_rows_key_of(entry), far_slice(&entry, sizeof entry), err);
        if (rc != 0) {
            return rc;
        }
        entry->is_ordered = true;
        far_rows_list_remove(&entry->added);
    }
    return 0;
}

static struct far_rows_entry *entry_at(struct far_slice value)
{
    struct far_rows_entry *entry;
    memcpy(&entry, value.data, sizeof entry);
    return entry;
}

/* The first added row of the table at or behind key, or NULL. */
static struct far_rows_entry *seek_added(const struct far_rows *rows, struct far_slice key, uint8_t table)
{
    struct far_slice at = key, value;
    uint8_t from[FAR_KV_KEY_MAX + 2];
    while (rows->ordered != NULL && rows->ordered->ops->seek(rows->ordered, at, &at, &value, NULL) == 0 &&
           at.data[0] == table) {
        struct far_rows_entry *entry = entry_at(value);
        if (entry->row != NULL) {
            return entry;
        }
        memcpy(from, at.data, at.len);
        from[at.len] = 0;
        at = far_slice(from, at.len + 1);
    }
    return NULL;
}

/* The first row of the table at or behind key that is below and not deleted here; FAR_NOT_FOUND: none. */
static int seek_below(struct far_rows *rows, const struct far_schema *table, struct far_slice key, struct far_rows_entry **ret_entry,
                      struct far_error *err)
{
    struct far_slice at, value;
    uint8_t from[FAR_KV_KEY_MAX + 2];
    for (;;) {
        int rc = rows->kv->ops->seek(rows->kv, key, &at, &value, err);
        if (rc != 0) {
            return rc;
        }
        if (at.len == 0 || at.len >= FAR_KV_KEY_MAX || at.data[0] != table->kind) {
            return FAR_NOT_FOUND;
        }
        rc = far_rows_look(rows, table, at, &value, ret_entry, err);
        if (rc != 0 || (*ret_entry)->row != NULL) {
            return rc;
        }
        memcpy(from, (*ret_entry)->key, (*ret_entry)->key_len);
        from[(*ret_entry)->key_len] = 0;
        key = far_slice(from, (*ret_entry)->key_len + 1u);
    }
}

int far_rows_seek(struct far_rows *rows, const struct far_schema *table, struct far_slice key, struct far_slice *ret_key,
                  void *ret_row, struct far_error *err)
{
    struct far_rows_entry *below = NULL;
    int rc = order(rows, (uint8_t)table->kind, err);
    rc = rc != 0 ? rc : seek_below(rows, table, key, &below, err);
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    struct far_rows_entry *found = rc == 0 ? below : NULL, *added = seek_added(rows, key, (uint8_t)table->kind);
    if (added != NULL && (found == NULL || far_slice_compare(far_rows_key_of(added), far_rows_key_of(found)) < 0)) {
        found = added;
    }
    if (found == NULL) {
        return FAR_NOT_FOUND;
    }
    *ret_key = far_rows_key_of(found);
    memcpy(ret_row, found->row, table->size);
    return 0;
}

int far_rows_seek_before(struct far_rows *rows, struct far_slice key, struct far_slice *ret_key, struct far_error *err)
{
    struct far_slice below = {0}, added = {0}, value;
    int rc = key.len > 0 ? order(rows, key.data[0], err) : 0;
    if (rc != 0) {
        return rc;
    }
    rc = rows->kv->ops->seek_before(rows->kv, key, &below, &value, err);
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    bool is_added = rows->ordered != NULL && rows->ordered->ops->seek_before(rows->ordered, key, &added, &value, err) == 0;
    if (rc != 0 && !is_added) {
        return FAR_NOT_FOUND;
    }
    *ret_key = is_added && (rc != 0 || far_slice_compare(added, below) > 0) ? added : below;
    return 0;
}
