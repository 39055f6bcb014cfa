/* When a vault is full, and which policy holds for it: see query.h. */
#include "fsm/query.h"

#include "fsm/vault_row.h"

enum { MINUTE_MS = 60000, DAY_MIN = 24 * 60, SAMPLES_MIN = 3, TIME_BITS = 23 /* of minutes: 16 years */, SPACE_BITS = 26 };

/* Minutes since the first sample, and bytes in units of 2^shift: no sum of 60 products of them reaches 2^62. */
static bool slope(const struct far_sub_vault_sample *items, size_t count, unsigned *ret_shift, int64_t *ret_rise, int64_t *ret_run)
{
    int64_t n = (int64_t)count, t_sum = 0, y_sum = 0, tt_sum = 0, ty_sum = 0;
    unsigned shift = 0;
    for (size_t i = 0; i < count; i++) {
        while (items[i].used_bytes >> shift >> SPACE_BITS != 0) {
            shift++;
        }
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t minutes = (items[i].time_ms - items[0].time_ms) / MINUTE_MS;
        int64_t t = (int64_t)(minutes < 1u << TIME_BITS ? minutes : 1u << TIME_BITS), y = (int64_t)(items[i].used_bytes >> shift);
        t_sum += t;
        y_sum += y;
        tt_sum += t * t;
        ty_sum += t * y;
    }
    *ret_shift = shift;
    *ret_rise = n * ty_sum - t_sum * y_sum;
    *ret_run = n * tt_sum - t_sum * t_sum;
    return *ret_run > 0;
}

void far_query_forecast(const struct far_list *samples, uint64_t free_bytes, struct far_forecast *ret)
{
    const struct far_sub_vault_sample *items = samples->items;
    int64_t rise, run;
    unsigned shift;
    *ret = (struct far_forecast){.is_known = false};
    if (samples->count < SAMPLES_MIN || items[samples->count - 1].time_ms - items[0].time_ms < DAY_MIN * (uint64_t)MINUTE_MS ||
        !slope(items, samples->count, &shift, &rise, &run)) {
        return;
    }
    ret->is_known = true;
    while (rise > INT64_MAX / DAY_MIN) { /* no sum of these lines is so exact */
        rise /= 2;
        run = run > 1 ? run / 2 : 1;
    }
    ret->bytes_per_day = rise > 0 ? (uint64_t)(rise * DAY_MIN / run) << shift : 0;
    if (ret->bytes_per_day >= 1024) {
        uint64_t minutes = free_bytes / 1024 * DAY_MIN / (ret->bytes_per_day / 1024);
        ret->full_ms = items[samples->count - 1].time_ms + minutes * MINUTE_MS;
    }
}

int far_query_vault_policy(struct far_state *state, uint64_t node_id, struct far_row_vault_policy *ret, struct far_error *err)
{
    struct far_arena arena;
    struct far_error cause = {0};
    struct far_step step = {.state = state, .arena = &arena, .err = &cause};
    far_arena_init(&arena, 64 * 1024);
    int rc = far_vault_row_policy(&step, node_id, ret);
    far_arena_done(&arena);
    return rc == 0 ? 0 : far_fail(err, rc, "%s", step.is_rejected ? step.reject_message : cause.message);
}
