/* Invariants of runs: each is that of a job, and goes on as long as that; its plan names it as long; its workloads are as many as it says,
 * and have as many open tasks as they count. */
#include "fsm/invariants.h"

#include "fsm/run.h"

static int broken(struct far_step *step, uint64_t id, const char *what)
{
    return far_reject(step, FAR_INTERNAL, "run %llu %s", FAR_LLU(id), what);
}

static int need_deadline(struct far_step *step, const struct far_row_run *row, uint64_t *deadlines)
{
    struct far_row_deadline deadline;
    struct far_key key = far_key_id(&far_schema_row_deadline, row->wake_ms);
    if (row->wake_ms == 0) {
        return 0;
    }
    far_key_u8(&key, FAR_deadline_kind_run);
    far_key_u64(&key, row->id);
    far_key_u32(&key, 0);
    (*deadlines)++;
    return far_key_need(step, &far_schema_row_deadline, &key, &deadline);
}

static bool is_counted(const struct far_row_task *task)
{
    return task->kind != FAR_task_kind_script && !far_run_is_beside(task->operation);
}

/* Open tasks of all workloads together, less what they count. */
static int check_tasks(struct far_step *step, const struct far_run *run)
{
    struct far_key key = far_key_id(&far_schema_row_task, run->row.id);
    uint64_t open = 0;
    for (size_t i = 0; i < run->count; i++) {
        open -= run->members[i].open_tasks;
    }
    for (;;) {
        struct far_row_task task;
        int rc = far_next(step, &far_schema_row_task, &key, NULL, &task);
        if (rc == FAR_NOT_FOUND || (rc == 0 && task.job_id != run->row.id)) {
            return open == 0 ? 0 : broken(step, run->row.id, "has another number of open tasks than its workloads count");
        }
        FAR_TRY(rc);
        open += !far_task_over(&task) && is_counted(&task);
    }
}

static int check_members(struct far_step *step, const struct far_run *run)
{
    bool is_over = run->row.phase == FAR_run_phase_done;
    for (size_t i = 0; i < run->count; i++) {
        const struct far_row_run_member *m = &run->members[i];
        bool is_failed = m->state == FAR_run_member_state_failed;
        if (is_failed != (m->failed_in != 0) || m->gate > m->gate_count || (m->open_tasks > 0 && (is_over || !m->touched))) {
            return broken(step, run->row.id, "has a workload whose row does not fit together");
        }
    }
    return 0;
}

static int check(struct far_step *step, const struct far_row_run *row, uint64_t *deadlines)
{
    struct far_run run;
    struct far_row_plan plan;
    bool is_over = row->phase == FAR_run_phase_done, is_test = row->kind == FAR_job_kind_test_recovery;
    FAR_TRY(far_run_load(step, row->id, &run));
    FAR_TRY(need_deadline(step, row, deadlines));
    if (run.job.kind != row->kind || is_over != (run.job.state != FAR_job_state_running) || run.job.checkpoint_id != row->checkpoint_id) {
        return broken(step, row->id, "does not fit its job");
    }
    int rc = far_row_find(step, &far_schema_row_plan, row->plan_id, &plan);
    FAR_TRY(rc == FAR_NOT_FOUND && is_over ? 0 : rc);
    uint64_t owner = rc == FAR_NOT_FOUND ? 0 : is_test ? plan.test_job_id : plan.run_job_id;
    if ((owner == row->id) == is_over) {
        return broken(step, row->id, "is not named by its plan, or is over and named");
    }
    FAR_TRY(check_members(step, &run));
    return check_tasks(step, &run);
}

/* Who is named by a plan is there. */
static int check_plan(struct far_step *step, uint64_t run_id)
{
    struct far_row_run row;
    return run_id != 0 ? far_row_need(step, &far_schema_row_run, run_id, &row) : 0;
}

int far_check_runs(struct far_step *step, uint64_t *deadlines)
{
    struct far_key key = far_key(&far_schema_row_run), plans = far_key(&far_schema_row_plan), members = far_key(&far_schema_row_run_member);
    struct far_row_run row;
    struct far_row_plan plan;
    struct far_row_run_member member;
    uint64_t count = 0;
    int rc;
    for (far_arena_reset(step->arena); (rc = far_next(step, &far_schema_row_run, &key, NULL, &row)) == 0; far_arena_reset(step->arena)) {
        count += row.member_count;
        FAR_TRY(check(step, &row, deadlines));
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    while ((rc = far_next(step, &far_schema_row_run_member, &members, NULL, &member)) == 0) {
        far_arena_reset(step->arena);
        count--;
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    if (count != 0) {
        return far_reject(step, FAR_INTERNAL, "there are workloads of runs that are gone");
    }
    while ((rc = far_next(step, &far_schema_row_plan, &plans, NULL, &plan)) == 0) {
        FAR_TRY(check_plan(step, plan.run_job_id));
        FAR_TRY(check_plan(step, plan.test_job_id));
        far_arena_reset(step->arena);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}
