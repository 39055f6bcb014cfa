/* What a plan's retention makes of its checkpoints, before it does: see query.h. By the same function that decides it (expiry.c). */
#include "fsm/query.h"

#include "fsm/expiry.h"

enum { SCRATCH_MAX = 4 * 1024 * 1024 };

const char *far_retention_reason(size_t bit)
{
    static const char *const others[] = {"newest", "sound", "preserved", "locked", "read", "calm"};
    size_t other = bit - FAR_KEEP_RULES;
    return bit < FAR_KEEP_RULES ? far_keep_name((enum far_keep_rule)bit) : other < sizeof others / sizeof others[0] ? others[other] : NULL;
}

static int load(struct far_step *step, const struct far_retention_wish *wish, struct far_expiry_look *look, struct far_retention *ret)
{
    struct far_row_plan plan;
    struct far_row_plan_retention row;
    int rc = far_row_find(step, &far_schema_row_plan_retention, wish->plan_id, &row);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    FAR_TRY(far_row_need(step, &far_schema_row_plan, wish->plan_id, &plan));
    if (rc == 0) {
        FAR_TRY(far_keep_load(step, &row, &look->keep));
        ret->zone_id = row.zone_id;
    }
    for (size_t i = 0; i < FAR_KEEP_RULES; i++) {
        look->keep.counts[i] = wish->is_trial ? wish->counts[i] : look->keep.counts[i];
        ret->counts[i] = look->keep.counts[i];
    }
    look->newest_id = plan.last_checkpoint_id;
    return 0;
}

/* One checkpoint more; its rows are not kept. */
static int look_at(struct far_step *step, const struct far_retention_wish *wish, struct far_expiry_look *look,
                   const struct far_row_checkpoint *row, struct far_retention *ret)
{
    unsigned stays;
    FAR_TRY(far_expiry_judge(step, look, row, &stays));
    bool goes = stays == 0 && !far_keep_everything(&look->keep);
    *(goes ? &ret->going : &ret->kept) += 1;
    if (wish->behind_id != 0 && row->id >= wish->behind_id) {
        return 0;
    }
    ret->more = ret->item_count == wish->max;
    if (!ret->more) {
        ret->items[ret->item_count++] = (struct far_retention_item){
            .checkpoint_id = row->id, .created_ms = row->created_ms, .locked_until_ms = row->locked_until_ms, .stays = stays};
    }
    return 0;
}

static int walk(struct far_step *step, const struct far_retention_wish *wish, struct far_arena *rows, struct far_retention *ret)
{
    struct far_expiry_look look = {.has_sound = false};
    struct far_key key = far_plan_checkpoints_from(wish->plan_id, 0);
    FAR_TRY(load(step, wish, &look, ret));
    step->arena = rows; /* the zone's changes stay in the other one */
    for (;;) {
        struct far_row_checkpoint row;
        far_arena_reset(rows);
        int rc = far_plan_checkpoints_next(step, wish->plan_id, &key, &row);
        if (rc != 0) {
            return rc == FAR_NOT_FOUND ? 0 : rc;
        }
        FAR_TRY(look_at(step, wish, &look, &row, ret));
    }
}

int far_query_retention(struct far_state *state, const struct far_retention_wish *wish, uint64_t now_ms, struct far_arena *arena,
                        struct far_retention *ret, struct far_error *err)
{
    struct far_arena rows;
    struct far_error cause = {0};
    struct far_step step = {.state = state, .arena = arena, .err = &cause, .time_ms = now_ms};
    *ret = (struct far_retention){.items = far_arena_alloc(arena, (wish->max + 1) * sizeof *ret->items)};
    if (ret->items == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the checkpoints");
    }
    far_arena_init(&rows, SCRATCH_MAX);
    int rc = walk(&step, wish, &rows, ret);
    far_arena_done(&rows);
    return rc == 0 ? 0 : far_fail(err, rc, "%s", step.is_rejected ? step.reject_message : cause.message);
}
