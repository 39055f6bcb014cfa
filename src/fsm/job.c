/* Jobs: runs of a workflow, made of tasks (task.c). A job runs until all its tasks are created and over; it can be
 * canceled, which ends its tasks but still releases what was frozen. job_create.c makes the tasks, job_replicate.c and
 * job_simple.c say what follows what, job_finish.c draws the sum. */
#include "fsm/job.h"

#include "fsm/adoption.h"
#include "fsm/checkpoint.h"
#include "fsm/job_use.h"
#include "fsm/run_lost.h"

enum { ABSENT, RUNNING, SUCCEEDED, FAILED, CANCELED, PARTIAL, CANCELING };
enum { START, TASKS, CANCEL, FINISH, PRUNE };
static const char *const states[] = {"absent", "running", "succeeded", "failed", "canceled", "partial", "canceling"};
static const char *const inputs[] = {"start", "task changes", "job_cancel", "finish", "prune"};
#define GONE FAR_REJECT(FAR_NOT_FOUND, "does not exist")
#define TAKEN FAR_REJECT(FAR_INTERNAL, "exists already")
#define OVER FAR_REJECT(FAR_CONFLICT, "is over already")
#define RUNS FAR_REJECT(FAR_INTERNAL, "still runs")
static const struct far_cell cells[7][5] = {
    [ABSENT] = {[START] = FAR_MOVE(RUNNING), [TASKS] = GONE, [CANCEL] = GONE, [FINISH] = GONE, [PRUNE] = GONE},
    [RUNNING] = {[START] = TAKEN, [TASKS] = FAR_MOVE(RUNNING), [CANCEL] = FAR_MOVE(CANCELING),
                 [FINISH] = FAR_MOVE(SUCCEEDED), [PRUNE] = RUNS},
    [SUCCEEDED] = {[START] = TAKEN, [TASKS] = OVER, [CANCEL] = OVER, [FINISH] = OVER, [PRUNE] = FAR_MOVE(ABSENT)},
    [FAILED] = {[START] = TAKEN, [TASKS] = OVER, [CANCEL] = OVER, [FINISH] = OVER, [PRUNE] = FAR_MOVE(ABSENT)},
    [CANCELED] = {[START] = TAKEN, [TASKS] = OVER, [CANCEL] = OVER, [FINISH] = OVER, [PRUNE] = FAR_MOVE(ABSENT)},
    [PARTIAL] = {[START] = TAKEN, [TASKS] = OVER, [CANCEL] = OVER, [FINISH] = OVER, [PRUNE] = FAR_MOVE(ABSENT)},
    [CANCELING] = {[START] = TAKEN, [TASKS] = FAR_MOVE(CANCELING), [CANCEL] = FAR_MOVE(CANCELING),
                   [FINISH] = FAR_MOVE(CANCELED), [PRUNE] = RUNS},
};
const struct far_table far_table_job = FAR_TABLE("job", states, inputs, cells);

enum { WAKE_AT_ONCE_MAX = 10000 };

/* States are numbered like the enum, but that a running job may be being canceled. */
static unsigned state_of(const struct far_row_job *row)
{
    if (row->id == 0 || row->state > PARTIAL) {
        return ABSENT;
    }
    return row->state == RUNNING && row->cancel ? CANCELING : (unsigned)row->state;
}

/* The row with this id; all zero if there is none. */
static int look(struct far_step *step, uint64_t id, struct far_row_job *ret_row)
{
    int rc = far_row_find(step, &far_schema_row_job, id, ret_row);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_job){.id = 0};
        return 0;
    }
    return rc;
}

int far_job_open(struct far_step *step, uint64_t job_id, struct far_row_job *ret_job)
{
    FAR_TRY(look(step, job_id, ret_job));
    return far_move_id(step, &far_table_job, state_of(ret_job), TASKS, job_id, NULL);
}

int far_job_wake_at(struct far_step *step, struct far_row_job *job, uint64_t wake_ms)
{
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_job_tasks, job->id, 0, job->wake_ms, wake_ms));
    job->wake_ms = wake_ms;
    return far_row_put(step, &far_schema_row_job, job->id, job);
}

/* ---- start ---- */

int far_job_replicate(struct far_step *step, const struct far_row_plan *plan, const struct far_resync *resync)
{
    struct far_row_plan_workload member;
    struct far_key key = far_key_id(&far_schema_row_plan_workload, plan->id);
    int rc = far_plan_member_next(step, plan->id, &key, &member);
    if (rc == FAR_NOT_FOUND) {
        return far_reject(step, FAR_INTERNAL, "broken: plan '%.*s' has no workload", FAR_TEXT(plan->name));
    }
    FAR_TRY(rc);
    struct far_ev_job_started ev = {.id = step->progress.next_id,
                                    .kind = FAR_job_kind_replicate,
                                    .plan_id = plan->id,
                                    .checkpoint_id = step->progress.next_id + 1,
                                    .actor = step->actor,
                                    .next_workload_id = member.workload_id,
                                    .resync = resync != NULL,
                                    .resync_workload_id = resync != NULL ? resync->workload_id : 0,
                                    .resync_disk_id = resync != NULL ? resync->disk_id : 0,
                                    .lock_until_ms = far_lock_until(step, plan)};
    step->object_id = ev.id;
    FAR_TRY(far_emit(step, &far_schema_ev_job_started, &ev));
    return far_job_create_tasks(step, ev.id);
}

int far_evolve_job_started(struct far_step *step, const struct far_ev_job_started *ev)
{
    struct far_row_job row;
    bool is_cycle = ev->kind == FAR_job_kind_replicate;
    bool is_alone = is_cycle || ev->kind == FAR_job_kind_erase; /* in its plan */
    FAR_TRY(look(step, ev->id, &row));
    FAR_TRY(far_move_id(step, &far_table_job, state_of(&row), START, ev->id, NULL));
    row = (struct far_row_job){.id = ev->id,
                               .kind = ev->kind,
                               .state = FAR_job_state_running,
                               .plan_id = ev->plan_id,
                               .workload_id = ev->workload_id,
                               .checkpoint_id = ev->checkpoint_id,
                               .started_ms = step->time_ms,
                               .actor = ev->actor,
                               .next_workload_id = ev->next_workload_id,
                               .fuzzy = ev->fuzzy,
                               .resync = ev->resync,
                               .resync_workload_id = ev->resync_workload_id,
                               .resync_disk_id = ev->resync_disk_id,
                               .node_id = ev->node_id,
                               .pass = ev->pass,
                               .delete_before = ev->delete_before,
                               .lock_until_ms = ev->lock_until_ms,
                               .scrub_bytes = ev->scrub_bytes,
                               .seed = ev->seed,
                               .run_job_id = ev->run_job_id,
                               .use = ev->use};
    FAR_TRY(far_plan_job_started(step, ev->plan_id, ev->id, is_alone));
    FAR_TRY(far_plan_jobs_add(step, ev->plan_id, ev->node_id, ev->id));
    FAR_TRY(is_cycle || ev->checkpoint_id == 0 ? 0 : far_checkpoint_readers(step, ev->checkpoint_id, 1));
    FAR_TRY(far_use_readers(step, &ev->use, 1));
    far_id_used(step, ev->id);
    if (is_cycle) {
        far_id_used(step, ev->checkpoint_id);
    }
    return far_row_put(step, &far_schema_row_job, row.id, &row);
}

/* ---- cancel ---- */

int far_decide_job_cancel(struct far_step *step, const struct far_cmd_job_cancel *cmd)
{
    struct far_row_job row;
    FAR_TRY(look(step, cmd->job_id, &row));
    FAR_TRY(far_move_id(step, &far_table_job, state_of(&row), CANCEL, cmd->job_id, NULL));
    step->object_id = cmd->job_id;
    if (row.cancel) {
        return 0;
    }
    struct far_ev_job_cancel_requested ev = {.job_id = cmd->job_id};
    FAR_TRY(far_emit(step, &far_schema_ev_job_cancel_requested, &ev));
    if (far_job_is_run(row.kind)) {
        return far_run_cancel(step, row.id);
    }
    return far_tasks_cancel(step, cmd->job_id);
}

int far_evolve_job_cancel_requested(struct far_step *step, const struct far_ev_job_cancel_requested *ev)
{
    struct far_row_job row;
    FAR_TRY(look(step, ev->job_id, &row));
    FAR_TRY(far_move_id(step, &far_table_job, state_of(&row), CANCEL, ev->job_id, NULL));
    row.cancel = true;
    row.next_workload_id = far_job_is_run(row.kind) ? row.next_workload_id : 0; /* a run cleans up first */
    return far_job_wake_at(step, &row, 0);
}

/* ---- finish ---- */

int far_job_settle(struct far_step *step, uint64_t job_id)
{
    struct far_row_job row;
    FAR_TRY(far_row_need(step, &far_schema_row_job, job_id, &row));
    bool is_over = row.tasks_done + row.tasks_failed + row.tasks_canceled == row.task_count;
    if (row.kind == FAR_job_kind_erase && row.next_workload_id != 0) {
        return far_erase_next(step, job_id);
    }
    if (far_job_is_run(row.kind) && row.next_workload_id != 0) {
        return far_run_due(step, job_id);
    }
    if (row.state != FAR_job_state_running || row.next_workload_id != 0 || !is_over) {
        return 0;
    }
    FAR_TRY(row.kind == FAR_job_kind_compare ? far_compare_over(step, &row) : 0);
    FAR_TRY(far_job_finish(step, &row));
    FAR_TRY(row.plan_id != 0 ? far_jobs_prune(step, row.plan_id, row.id) : 0);
    FAR_TRY(row.node_id != 0 ? far_jobs_prune(step, row.node_id, row.id) : 0);
    FAR_TRY(far_jobs_prune(step, 0, row.id));
    FAR_TRY(row.kind == FAR_job_kind_compare ? far_lost_look(step, row.run_job_id) : 0); /* there may have been more of them */
    return row.kind == FAR_job_kind_replicate ? far_run_cycle_over(step, row.plan_id) : 0;
}

int far_evolve_job_finished(struct far_step *step, const struct far_ev_job_finished *ev)
{
    struct far_row_job row;
    FAR_TRY(look(step, ev->job_id, &row));
    FAR_TRY(far_move_id(step, &far_table_job, state_of(&row), FINISH, ev->job_id, NULL));
    if (ev->state <= FAR_job_state_running || ev->state > FAR_job_state_partial) {
        return far_reject(step, FAR_INTERNAL, "broken: job %llu cannot end as %llu", FAR_LLU(ev->job_id),
                          FAR_LLU(ev->state));
    }
    bool is_cycle = row.kind == FAR_job_kind_replicate, is_alone = is_cycle || row.kind == FAR_job_kind_erase;
    row.state = ev->state;
    row.finished_ms = step->time_ms;
    FAR_TRY(far_plan_job_finished(step, row.plan_id, is_alone));
    FAR_TRY(row.kind == FAR_job_kind_adopt ? far_adoption_over(step, row.node_id, row.id) : 0);
    FAR_TRY(is_cycle || row.checkpoint_id == 0 ? 0 : far_checkpoint_readers(step, row.checkpoint_id, -1));
    FAR_TRY(row.kind == FAR_job_kind_use ? far_use_over(step, &row) : 0);
    return far_job_wake_at(step, &row, 0);
}

int far_evolve_job_pruned(struct far_step *step, const struct far_ev_job_pruned *ev)
{
    struct far_row_job row;
    FAR_TRY(look(step, ev->job_id, &row));
    FAR_TRY(far_move_id(step, &far_table_job, state_of(&row), PRUNE, ev->job_id, NULL));
    for (uint64_t task = 1; task <= row.task_count; task++) {
        struct far_key key = far_key_part(&far_schema_row_task, row.id, task);
        FAR_TRY(far_key_del(step, &far_schema_row_task, &key));
    }
    FAR_TRY(far_plan_jobs_del(step, row.plan_id, row.node_id, row.id));
    FAR_TRY(far_run_pruned(step, &row));
    return far_row_del(step, &far_schema_row_job, row.id);
}

/* ---- going on ---- */

int far_job_due(struct far_step *step, uint64_t job_id)
{
    struct far_row_job row;
    FAR_TRY(look(step, job_id, &row));
    if (row.id == 0 || row.state != FAR_job_state_running) {
        return 0; /* dropped by deadline.c */
    }
    struct far_ev_deadline_dropped ev = {
        .time_ms = row.wake_ms, .kind = FAR_deadline_kind_job_tasks, .object_id = job_id};
    FAR_TRY(far_emit(step, &far_schema_ev_deadline_dropped, &ev));
    FAR_TRY(row.next_workload_id != 0 ? far_job_create_tasks(step, job_id) : 0);
    return far_tasks_assign(step, job_id);
}

int far_jobs_wake(struct far_step *step)
{
    struct far_key at = far_key(&far_schema_row_task_ready);
    size_t count = 0, capacity = 16;
    uint64_t *ids = far_step_alloc(step, capacity * sizeof *ids);
    if (ids == NULL) {
        return FAR_LIMIT;
    }
    while (count < WAKE_AT_ONCE_MAX) {
        struct far_row_task_ready ready;
        struct far_slice id;
        int rc = far_next(step, &far_schema_row_task_ready, &at, &id, &ready);
        if (rc == FAR_NOT_FOUND) {
            break;
        }
        FAR_TRY(rc);
        if (count == capacity) {
            uint64_t *more = far_step_alloc(step, 2 * capacity * sizeof *more);
            if (more == NULL) {
                return FAR_LIMIT;
            }
            memcpy(more, ids, count * sizeof *ids);
            ids = more;
            capacity *= 2;
        }
        ids[count++] = far_get_be64(id.data);
        at = far_key_id(&far_schema_row_task_ready, ids[count - 1] + 1);
    }
    struct far_ev_jobs_woken ev = {.job_ids = {.items = ids, .count = count}};
    FAR_TRY(count > 0 ? far_emit(step, &far_schema_ev_jobs_woken, &ev) : 0);
    return far_lost_look_all(step);
}

int far_evolve_jobs_woken(struct far_step *step, const struct far_ev_jobs_woken *ev)
{
    const uint64_t *ids = ev->job_ids.items;
    for (size_t i = 0; i < ev->job_ids.count; i++) {
        struct far_row_job row;
        FAR_TRY(far_job_open(step, ids[i], &row));
        FAR_TRY(row.wake_ms == 0 ? far_job_wake_at(step, &row, step->time_ms + 1) : 0);
    }
    return 0;
}
