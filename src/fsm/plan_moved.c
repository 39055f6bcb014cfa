/* Workloads of a plan that were moved (feature level 4): a failover or migration of them was committed, their machines are at the
 * recovery site. No cycle, promise or run of this direction is about them until they come home, by a migration of the plan of the other
 * direction and its reversal (plan_reverse.c). The plan's other workloads go on as before; of a plan of which all were moved no cycle
 * begins. */
#include "fsm/plan_edit.h"

#include "fsm/run.h"

void far_plan_moved_settle(struct far_step *step, struct far_row_plan *plan)
{
    bool is_all = plan->moved_count > 0 && plan->moved_count == plan->workload_count;
    plan->moved_ms = !is_all ? 0 : plan->moved_ms != 0 ? plan->moved_ms : step->time_ms;
}

/* Its machine is up at the recovery site and stays, or, of a run that was abandoned, may be: what the source has is older. */
bool far_run_has_moved(const struct far_row_run_member *m)
{
    uint64_t state = m->state == FAR_run_member_state_failed ? m->failed_in : m->state;
    return state == FAR_run_member_state_kept || state == FAR_run_member_state_keeping || state == FAR_run_member_state_passed;
}

static int find(struct far_step *step, uint64_t plan_id, uint64_t workload_id, struct far_row_plan_workload *ret)
{
    struct far_key key = far_key_pair(&far_schema_row_plan_workload, plan_id, workload_id);
    int rc = far_key_find(step, &far_schema_row_plan_workload, &key, ret);
    ret->moved_ms = rc == 0 ? ret->moved_ms : 0;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_member_is_moved(struct far_step *step, uint64_t plan_id, uint64_t workload_id, bool *ret)
{
    struct far_row_plan_workload row;
    FAR_TRY(find(step, plan_id, workload_id, &row));
    *ret = row.moved_ms != 0;
    return 0;
}

int far_member_refuse_moved(struct far_step *step, const struct far_row_plan *plan, uint64_t workload_id)
{
    struct far_row_workload workload;
    bool is_moved;
    FAR_TRY(far_member_is_moved(step, plan->id, workload_id, &is_moved));
    if (!is_moved) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_workload, workload_id, &workload));
    return far_reject(step, FAR_CONFLICT,
                      "the machine of workload '%.*s' was moved to the recovery site of plan '%.*s', what the source has is older: "
                      "'farshore plan reverse %.*s' protects it there",
                      FAR_TEXT(workload.name), FAR_TEXT(plan->name), FAR_TEXT(plan->name));
}

int far_members_moved(struct far_step *step, struct far_row_plan *plan, const struct far_run *run)
{
    for (size_t i = 0; i < run->count; i++) {
        struct far_row_plan_workload row;
        struct far_key key = far_key_pair(&far_schema_row_plan_workload, plan->id, run->members[i].workload_id);
        if (!far_run_has_moved(&run->members[i])) {
            continue;
        }
        int rc = far_key_find(step, &far_schema_row_plan_workload, &key, &row);
        if (rc == FAR_NOT_FOUND) { /* it left the plan meanwhile */
            continue;
        }
        FAR_TRY(rc);
        plan->moved_count += row.moved_ms == 0;
        plan->moved_job_id = run->row.id;
        row.moved_ms = step->time_ms;
        row.moved_job_id = run->row.id;
        FAR_TRY(far_key_put(step, &far_schema_row_plan_workload, &key, &row));
    }
    far_plan_moved_settle(step, plan);
    return 0;
}

int far_member_home(struct far_step *step, struct far_row_plan *plan, uint64_t workload_id)
{
    struct far_row_plan_workload row;
    struct far_key key = far_key_pair(&far_schema_row_plan_workload, plan->id, workload_id);
    FAR_TRY(far_key_need(step, &far_schema_row_plan_workload, &key, &row));
    plan->moved_count -= row.moved_ms != 0;
    plan->moved_job_id = plan->moved_count != 0 ? plan->moved_job_id : 0;
    row.home_id = row.moved_ms != 0 ? step->progress.next_id : row.home_id;
    row.moved_ms = row.moved_job_id = 0;
    far_plan_moved_settle(step, plan);
    return far_key_put(step, &far_schema_row_plan_workload, &key, &row);
}
