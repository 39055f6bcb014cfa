/* Steps: see step.h. The helpers through which decide and evolve read, reject, write and name. */
#include "fsm/step.h"

#include <stdarg.h>
#include <stdio.h>

int far_reject(struct far_step *step, int klass, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(step->reject_message, sizeof step->reject_message, format, args);
    va_end(args);
    step->is_rejected = true;
    step->reject_class = klass;
    return klass;
}

void far_warn(struct far_step *step, const char *format, ...)
{
    va_list args;
    if (step->warning[0] != '\0') {
        return;
    }
    va_start(args, format);
    vsnprintf(step->warning, sizeof step->warning, format, args);
    va_end(args);
}

void *far_step_alloc(struct far_step *step, size_t size)
{
    void *p = far_arena_alloc(step->arena, size);
    if (p == NULL) {
        far_fail(step->err, FAR_LIMIT, "out of memory");
    }
    return p;
}

int far_step_copy(struct far_step *step, struct far_slice bytes, struct far_slice *ret_copy)
{
    uint8_t *copy = far_step_alloc(step, bytes.len);
    if (copy == NULL) {
        return FAR_LIMIT;
    }
    if (bytes.len > 0) {
        memcpy(copy, bytes.data, bytes.len);
    }
    *ret_copy = far_slice(copy, bytes.len);
    return 0;
}

/* ---- tables ---- */

int far_move(struct far_step *step, const struct far_table *table, size_t state, size_t input, struct far_slice name,
             unsigned *ret_next)
{
    const struct far_cell *cell = far_table_cell(table, state, input);
    if (cell->kind == FAR_CELL_REJECT) {
        return far_reject(step, cell->klass, "%s '%.*s' %s", table->object, FAR_TEXT(name), cell->why);
    }
    if (cell->kind == FAR_CELL_UNLISTED) {
        return far_reject(step, FAR_INTERNAL, "%s '%.*s': state %zu and input %zu are in no table", table->object,
                          FAR_TEXT(name), state, input);
    }
    if (ret_next != NULL) {
        *ret_next = cell->next;
    }
    return 0;
}

int far_move_id(struct far_step *step, const struct far_table *table, size_t state, size_t input, uint64_t id,
                unsigned *ret_next)
{
    const struct far_cell *cell = far_table_cell(table, state, input);
    char text[24] = "";
    if (cell->kind == FAR_CELL_MOVE) {
        if (ret_next != NULL) {
            *ret_next = cell->next;
        }
        return 0;
    }
    snprintf(text, sizeof text, "%llu", FAR_LLU(id));
    return far_move(step, table, state, input, far_slice_str(text), ret_next);
}

/* ---- rows ---- */

int far_key_find(struct far_step *step, const struct far_schema *table, const struct far_key *key, void *ret_row)
{
    return far_state_get(step->state, table, key, step->arena, ret_row, step->err);
}

static int missing(struct far_step *step, const struct far_schema *table, const struct far_key *key)
{
    char text[2 * FAR_KV_KEY_MAX + 1];
    far_hex_encode(key->bytes, key->len <= FAR_KV_KEY_MAX ? key->len : 0, text);
    return far_reject(step, FAR_INTERNAL, "broken: table '%s' has no row %s", table->name, text);
}

int far_key_need(struct far_step *step, const struct far_schema *table, const struct far_key *key, void *ret_row)
{
    int rc = far_key_find(step, table, key, ret_row);
    return rc == FAR_NOT_FOUND ? missing(step, table, key) : rc;
}

int far_key_put(struct far_step *step, const struct far_schema *table, const struct far_key *key, const void *row)
{
    return far_state_put(step->state, table, key, row, step->err);
}

int far_key_del(struct far_step *step, const struct far_schema *table, const struct far_key *key)
{
    int rc = far_state_del(step->state, key, step->err);
    return rc == FAR_NOT_FOUND ? missing(step, table, key) : rc;
}

int far_row_find(struct far_step *step, const struct far_schema *table, uint64_t id, void *ret_row)
{
    struct far_key key = far_key_id(table, id);
    return far_key_find(step, table, &key, ret_row);
}

int far_row_need(struct far_step *step, const struct far_schema *table, uint64_t id, void *ret_row)
{
    struct far_key key = far_key_id(table, id);
    return far_key_need(step, table, &key, ret_row);
}

int far_row_put(struct far_step *step, const struct far_schema *table, uint64_t id, const void *row)
{
    struct far_key key = far_key_id(table, id);
    return far_key_put(step, table, &key, row);
}

int far_row_del(struct far_step *step, const struct far_schema *table, uint64_t id)
{
    struct far_key key = far_key_id(table, id);
    return far_key_del(step, table, &key);
}

int far_next(struct far_step *step, const struct far_schema *table, struct far_key *key, struct far_slice *ret_id,
             void *ret_row)
{
    return far_state_next(step->state, table, key, step->arena, ret_id, ret_row, step->err);
}

void far_id_used(struct far_step *step, uint64_t id)
{
    if (id >= step->progress.next_id) {
        step->progress.next_id = id + 1;
    }
}

/* ---- names ---- */

static bool name_byte(uint8_t b, bool is_first)
{
    return (b >= 'a' && b <= 'z') || (b >= '0' && b <= '9') || (!is_first && (b == '.' || b == '_' || b == '-'));
}

int far_name_check(struct far_step *step, const char *object, struct far_slice name)
{
    bool ok = name.len >= 1 && name.len <= 63;
    for (size_t i = 0; ok && i < name.len; i++) {
        ok = name_byte(name.data[i], i == 0);
    }
    return ok ? 0
              : far_reject(step, FAR_INVALID,
                           "the name '%.*s' of a %s is not valid: use 1 to 63 of a-z, 0-9, '.', '_', '-', the first a "
                           "letter or digit",
                           FAR_TEXT(name), object);
}

static struct far_key name_key(const struct far_schema *table, struct far_slice name)
{
    struct far_key key = far_key(&far_schema_row_name);
    far_key_u8(&key, (uint8_t)table->kind);
    far_key_bytes(&key, name);
    return key;
}

int far_name_find(struct far_step *step, const struct far_schema *table, struct far_slice name, uint64_t *ret_id)
{
    struct far_row_name row;
    struct far_key key = name_key(table, name);
    int rc = far_key_find(step, &far_schema_row_name, &key, &row);
    if (rc == 0) {
        *ret_id = row.id;
    }
    return rc;
}

int far_name_need(struct far_step *step, const struct far_schema *table, struct far_slice name, uint64_t *ret_id)
{
    int rc = far_name_find(step, table, name, ret_id);
    return rc == FAR_NOT_FOUND ? far_reject(step, FAR_NOT_FOUND, "there is no %s '%.*s'", table->name, FAR_TEXT(name))
                               : rc;
}

int far_name_put(struct far_step *step, const struct far_schema *table, struct far_slice name, uint64_t id)
{
    struct far_row_name row = {.id = id};
    struct far_key key = name_key(table, name);
    return far_key_put(step, &far_schema_row_name, &key, &row);
}

int far_name_del(struct far_step *step, const struct far_schema *table, struct far_slice name)
{
    struct far_key key = name_key(table, name);
    return far_key_del(step, &far_schema_row_name, &key);
}
