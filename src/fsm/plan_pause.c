/* A pause of a plan: it is active, but no cycle begins until somebody resumes it, or its time is over. What is promised is held against
 * it all the same. due_ms is the end of the pause meanwhile. */
#include "fsm/plan_edit.h"

#include "fsm/refuse.h"
#include "fsm/run.h"

static int find(struct far_step *step, struct far_slice name, struct far_row_plan *ret)
{
    uint64_t id = 0;
    int rc = far_name_find(step, &far_schema_row_plan, name, &id);
    *ret = (struct far_row_plan){.id = 0};
    step->object_id = id;
    return rc == FAR_NOT_FOUND ? 0 : rc != 0 ? rc : far_row_need(step, &far_schema_row_plan, id, ret);
}

int far_decide_plan_pause(struct far_step *step, const struct far_cmd_plan_pause *cmd)
{
    struct far_row_plan row;
    FAR_TRY(find(step, cmd->name, &row));
    FAR_TRY(far_plan_moves(step, &row, cmd->name, FAR_PLAN_PAUSE));
    FAR_TRY(far_run_plan_free(step, &row));
    if (cmd->until_ms != 0 && (cmd->until_ms <= step->time_ms || cmd->until_ms > step->time_ms + FAR_INTERVAL_S_MAX * 1000)) {
        return far_refuse_number(step, "", "until_ms", cmd->until_ms, "a time from now on and within a year, in milliseconds since 1970");
    }
    struct far_ev_plan_paused ev = {.plan_id = row.id, .until_ms = cmd->until_ms};
    bool same = row.state == FAR_plan_state_paused && row.due_ms == cmd->until_ms;
    return same ? 0 : far_emit(step, &far_schema_ev_plan_paused, &ev);
}

int far_evolve_plan_paused(struct far_step *step, const struct far_ev_plan_paused *ev)
{
    struct far_row_plan row;
    FAR_TRY(far_row_need(step, &far_schema_row_plan, ev->plan_id, &row));
    FAR_TRY(far_plan_moves(step, &row, row.name, FAR_PLAN_PAUSE));
    uint64_t due_before_ms = row.due_ms;
    row.paused_ms = row.state == FAR_plan_state_paused ? row.paused_ms : step->time_ms;
    row.state = FAR_plan_state_paused;
    row.due_ms = ev->until_ms;
    row.owed = false;
    return far_plan_put(step, &row, due_before_ms);
}

int far_plan_resume_now(struct far_step *step, const struct far_row_plan *plan)
{
    struct far_ev_plan_resumed ev = {.plan_id = plan->id};
    FAR_TRY(far_schedule_resume(step, plan, &ev.due_ms));
    return far_emit(step, &far_schema_ev_plan_resumed, &ev);
}

int far_decide_plan_resume(struct far_step *step, const struct far_cmd_plan_resume *cmd)
{
    struct far_row_plan row;
    FAR_TRY(find(step, cmd->name, &row));
    FAR_TRY(far_plan_moves(step, &row, cmd->name, FAR_PLAN_RESUME));
    FAR_TRY(far_run_plan_free(step, &row));
    return row.state == FAR_plan_state_paused ? far_plan_resume_now(step, &row) : 0;
}

int far_evolve_plan_resumed(struct far_step *step, const struct far_ev_plan_resumed *ev)
{
    struct far_row_plan row;
    FAR_TRY(far_row_need(step, &far_schema_row_plan, ev->plan_id, &row));
    FAR_TRY(far_plan_moves(step, &row, row.name, FAR_PLAN_RESUME));
    uint64_t due_before_ms = row.due_ms;
    row.state = FAR_plan_state_active;
    row.paused_ms = 0;
    row.due_ms = ev->due_ms;
    return far_plan_put(step, &row, due_before_ms);
}
