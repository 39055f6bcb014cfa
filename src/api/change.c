/* Differences between two states, row by row, as JSON.
 *
 * A row that was made shows all of its fields under "after", one that is gone all under "before", a changed one the fields
 * that differ under both. Rows that only serve the state itself (indexes, counters) are marked "internal". */
#include "api/request.h"

#include "fsm/kv_overlay.h"

enum { SCRATCH_MAX = 256 * 1024 };

/* Of these, rows are no objects that people know. */
static const struct far_schema *const internal_tables[] = {
    &far_schema_row_progress,    &far_schema_row_node_task,     &far_schema_row_deadline,   &far_schema_row_name,
    &far_schema_row_command,     &far_schema_row_command_order, &far_schema_row_secret,     &far_schema_row_task_ready,
    &far_schema_row_actor,       &far_schema_row_plan_job,      &far_schema_row_head,       &far_schema_row_head_signature,
    &far_schema_row_head_progress, &far_schema_row_running,    &far_schema_row_alert_open,
    &far_schema_row_alert_cleared, &far_schema_row_alert_progress, &far_schema_row_workload_point,
    &far_schema_row_figures,
};

static bool is_internal(const struct far_schema *table)
{
    for (size_t i = 0; i < sizeof internal_tables / sizeof internal_tables[0]; i++) {
        if (internal_tables[i] == table) {
            return true;
        }
    }
    return false;
}

/* Takes out of both what is equal. */
static void keep_differences(json_t *before, json_t *after)
{
    const char *name;
    json_t *value;
    void *next;
    json_object_foreach_safe(before, next, name, value)
    {
        if (json_equal(value, json_object_get(after, name))) {
            json_object_del(after, name);
            json_object_del(before, name);
        }
    }
}

static int side_to_json(struct far_slice key, struct far_slice value, struct far_arena *arena,
                        const struct far_schema **ret_table, json_t **ret_json, struct far_error *err)
{
    void *row = NULL;
    *ret_json = NULL;
    if (value.data == NULL) {
        return 0;
    }
    int rc = far_state_decode(key, value, arena, ret_table, &row, err);
    if (rc == 0) {
        *ret_json = far_json_from_struct(*ret_table, row);
        rc = *ret_json == NULL ? far_fail(err, FAR_LIMIT, "no memory for the differences") : 0;
    }
    return rc;
}

/* Which row it is: by the numbers of its key, but for tokens, whose key is a hash. */
static void add_place(json_t *change, const struct far_schema *table, struct far_slice key, const json_t *row)
{
    bool is_object = !is_internal(table);
    const json_t *name = json_object_get(row, "name");
    json_object_set_new(change, "table", json_string(table->name));
    if (table == &far_schema_row_token) {
        json_object_set(change, "id", json_object_get(row, "id"));
    } else if (!is_object) {
        json_object_set_new(change, "key", far_json_hex(key.data + 1, key.len - 1));
        json_object_set_new(change, "internal", json_true());
    } else if (key.len >= 9) {
        json_object_set_new(change, "id", far_json_u64(far_get_be64(key.data + 1)));
    }
    if (is_object && key.len == 13) {
        json_object_set_new(change, "part", far_json_u64(far_get_be32(key.data + 9)));
    } else if (is_object && key.len == 17) {
        json_object_set_new(change, "part", far_json_u64(far_get_be64(key.data + 9)));
    }
    if (is_object && name != NULL) {
        json_object_set(change, "name", (json_t *)name);
    }
}

int far_api_change_json(struct far_slice key, struct far_slice before, struct far_slice after, json_t **ret_change,
                        struct far_error *err)
{
    struct far_arena arena;
    const struct far_schema *table = NULL;
    json_t *was = NULL, *is = NULL, *change = json_object();
    far_arena_init(&arena, SCRATCH_MAX);
    int rc = side_to_json(key, before, &arena, &table, &was, err);
    rc = rc != 0 ? rc : side_to_json(key, after, &arena, &table, &is, err);
    if (rc == 0 && table != NULL) {
        add_place(change, table, key, is != NULL ? is : was);
        json_object_set_new(change, "change", json_string(was == NULL ? "created" : is == NULL ? "removed" : "changed"));
        if (was != NULL && is != NULL) {
            keep_differences(was, is);
        }
        json_object_set(change, "before", was != NULL ? was : json_null());
        json_object_set(change, "after", is != NULL ? is : json_null());
    }
    json_decref(was);
    json_decref(is);
    far_arena_done(&arena);
    if (rc != 0) {
        json_decref(change);
        return rc;
    }
    *ret_change = change;
    return 0;
}

/* What the map below holds under the key; no data if nothing. */
static int value_below(struct far_kv *below, struct far_slice key, struct far_slice *ret_value, struct far_error *err)
{
    int rc = below->ops->get(below, key, ret_value, err);
    if (rc == FAR_NOT_FOUND) {
        *ret_value = far_slice(NULL, 0);
        return 0;
    }
    return rc;
}

int far_api_changes(struct far_kv *below, struct far_kv *overlay, size_t max, json_t **ret_changes, bool *ret_more,
                    struct far_error *err)
{
    struct far_key at = {.len = 0};
    struct far_slice key, before, after;
    json_t *changes = json_array();
    int rc;
    *ret_more = false;
    while ((rc = far_kv_overlay_written(overlay, far_slice(at.bytes, at.len), &key, &after, err)) == 0) {
        json_t *change = NULL;
        rc = value_below(below, key, &before, err);
        bool differs = rc == 0 && (before.data == NULL) != (after.data == NULL);
        differs = differs || (rc == 0 && before.data != NULL && !far_slice_equal(before, after));
        if (differs && json_array_size(changes) >= max) {
            *ret_more = true;
            break;
        }
        rc = differs ? far_api_change_json(key, before, after, &change, err) : rc;
        if (rc != 0) {
            break;
        }
        if (change != NULL) {
            json_array_append_new(changes, change);
        }
        memcpy(at.bytes, key.data, key.len);
        at.bytes[key.len] = 0;
        at.len = key.len + 1;
    }
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        json_decref(changes);
        return rc;
    }
    *ret_changes = changes;
    return 0;
}
