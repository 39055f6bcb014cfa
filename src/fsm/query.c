/* Queries: see query.h. */
#include "fsm/query.h"

#include "fsm/machines.h"
#include "fsm/task.h"

int far_query_id(struct far_state *state, const struct far_schema *table, struct far_slice name, uint64_t *ret_id,
                 struct far_error *err)
{
    struct far_row_name row;
    struct far_arena arena;
    if (name.len == 0 || name.len > 63) {
        return far_fail(err, FAR_NOT_FOUND, "there is no %s with such a name", table->name);
    }
    struct far_key key = far_key(&far_schema_row_name);
    far_key_u8(&key, (uint8_t)table->kind);
    far_key_bytes(&key, name);
    far_arena_init(&arena, 1 << 16);
    int rc = far_state_get(state, &far_schema_row_name, &key, &arena, &row, err);
    far_arena_done(&arena);
    if (rc == FAR_NOT_FOUND) {
        return far_fail(err, FAR_NOT_FOUND, "there is no %s '%.*s'", table->name, FAR_TEXT(name));
    }
    if (rc == 0) {
        *ret_id = row.id;
    }
    return rc;
}

int far_query_next_deadline(struct far_state *state, uint64_t *ret_time_ms, struct far_error *err)
{
    struct far_row_progress progress = {.next_seq = 0};
    struct far_row_deadline row;
    struct far_slice id = {0};
    struct far_arena arena;
    struct far_key key = far_key(&far_schema_row_progress);
    far_arena_init(&arena, 1 << 16);
    int rc = far_state_get(state, &far_schema_row_progress, &key, &arena, &progress, err);
    rc = rc == FAR_NOT_FOUND ? 0 : rc;
    key = far_key(&far_schema_row_deadline);
    do {
        far_arena_reset(&arena);
        rc = rc == 0 ? far_state_next(state, &far_schema_row_deadline, &key, &arena, &id, &row, err) : rc;
        if (rc == 0 && id.len < 9) {
            rc = far_fail(err, FAR_INTERNAL, "a deadline's key has %zu bytes", id.len);
        }
    } while (rc == 0 && far_clock_waits(&progress, id.data[8]));
    if (rc == 0) {
        *ret_time_ms = far_get_be64(id.data);
    } else if (rc == FAR_NOT_FOUND) {
        *ret_time_ms = UINT64_MAX;
        rc = 0;
    }
    far_arena_done(&arena);
    return rc;
}

int far_query_token(struct far_state *state, struct far_slice hash, uint64_t purpose, uint64_t now_ms,
                    struct far_arena *arena, struct far_row_token *ret_token, struct far_error *err)
{
    if (hash.len != 32) {
        return far_fail(err, FAR_DENIED, "the token is not known");
    }
    struct far_key key = far_key(&far_schema_row_token);
    far_key_bytes(&key, hash);
    struct far_row_token row;
    int rc = far_state_get(state, &far_schema_row_token, &key, arena, &row, err);
    if (rc == FAR_NOT_FOUND) {
        return far_fail(err, FAR_DENIED, "the token is not known to this cluster, or has expired");
    }
    if (rc != 0) {
        return rc;
    }
    const char *fault = far_token_fault(&row, purpose, now_ms);
    if (fault != NULL) {
        return far_fail(err, FAR_DENIED, "token '%.*s' %s", FAR_TEXT(row.name), fault);
    }
    *ret_token = row;
    return 0;
}

int far_query_task_over(struct far_state *state, uint64_t job_id, uint64_t task, bool *ret_is_over, struct far_error *err)
{
    struct far_row_task row;
    struct far_arena arena;
    struct far_key key = far_key_part(&far_schema_row_task, job_id, task);
    int rc = FAR_NOT_FOUND;
    far_arena_init(&arena, 1 << 16);
    if (task <= UINT32_MAX) {
        rc = far_state_get(state, &far_schema_row_task, &key, &arena, &row, err);
    }
    if (rc == 0 || rc == FAR_NOT_FOUND) {
        *ret_is_over = rc == FAR_NOT_FOUND || far_task_over(&row);
    }
    far_arena_done(&arena);
    return rc == FAR_NOT_FOUND ? 0 : rc;
}
