/* Runs of plans: their rows, and what events and finished tasks do to them. See run_begin.c. */
#include "fsm/run_lost.h"

#include "fsm/checkpoint.h"
#include "fsm/plan_edit.h"
#include "fsm/rpo.h"

static struct far_key member_key(uint64_t job_id, uint64_t workload_id)
{
    return far_key_pair(&far_schema_row_run_member, job_id, workload_id);
}

static int need(struct far_step *step, uint64_t job_id, struct far_row_run *ret)
{
    FAR_TRY(far_run_find(step, job_id, ret));
    return ret->id != 0 ? 0 : far_reject(step, FAR_INTERNAL, "broken: job %llu is no run", FAR_LLU(job_id));
}

static int put(struct far_step *step, struct far_row_run *row, uint64_t wake_ms)
{
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_run, row->id, 0, row->wake_ms, wake_ms));
    row->wake_ms = wake_ms;
    return far_row_put(step, &far_schema_row_run, row->id, row);
}

/* ---- its life ---- */

static int own_plan(struct far_step *step, const struct far_row_run *row, bool owns)
{
    struct far_row_plan plan;
    FAR_TRY(far_row_need(step, &far_schema_row_plan, row->plan_id, &plan));
    bool is_test = row->kind == FAR_job_kind_test_recovery;
    uint64_t *owner = is_test ? &plan.test_job_id : &plan.run_job_id;
    if (*owner != (owns ? 0 : row->id)) {
        return far_reject(step, FAR_INTERNAL, "broken: plan %llu has another run", FAR_LLU(plan.id));
    }
    *owner = owns ? row->id : 0;
    if (!owns && row->end == FAR_run_end_committed) {
        struct far_run *run = far_step_alloc(step, sizeof *run);
        FAR_TRY(run == NULL ? FAR_LIMIT : far_run_load(step, row->id, run));
        FAR_TRY(far_members_moved(step, &plan, run));
        FAR_TRY(far_rpo_arm(step, &plan));
    }
    return far_plan_put(step, &plan, plan.due_ms);
}

int far_evolve_run_begun(struct far_step *step, const struct far_ev_run_begun *ev)
{
    struct far_row_run row;
    struct far_row_job job;
    FAR_TRY(far_job_open(step, ev->job_id, &job));
    FAR_TRY(far_run_find(step, ev->job_id, &row));
    FAR_TRY(far_move_id(step, &far_table_run, (size_t)row.phase, FAR_RUN_BEGIN, ev->job_id, NULL));
    row = (struct far_row_run){.id = ev->job_id,
                               .kind = ev->kind,
                               .plan_id = ev->plan_id,
                               .phase = FAR_run_phase_begun,
                               .begun_ms = step->time_ms,
                               .expires_ms = ev->expires_ms,
                               .window_s = ev->window_s,
                               .fence_until_ms = ev->fence_until_ms,
                               .shutdown_s = ev->shutdown_s,
                               .force = ev->force,
                               .at_once = ev->at_once,
                               .resumes = ev->resumes,
                               .forecast_ms = ev->forecast_ms};
    FAR_TRY(own_plan(step, &row, true));
    return far_row_put(step, &far_schema_row_run, row.id, &row);
}

static int put_member(struct far_step *step, struct far_row_run *run, const struct far_sub_run_member *item)
{
    struct far_row_run_member row;
    struct far_key key = member_key(run->id, item->workload_id);
    int rc = far_key_find(step, &far_schema_row_run_member, &key, &row);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    if (rc == FAR_NOT_FOUND) {
        row = (struct far_row_run_member){.job_id = run->id, .workload_id = item->workload_id};
        run->member_count++;
    }
    row.state = item->left_out.len == 0 ? FAR_run_member_state_waiting : FAR_run_member_state_left_out;
    row.error_message = item->left_out;
    row.point_id = item->point_id;
    row.node_id = item->node_id;
    row.frozen_at_ms = item->frozen_at_ms;
    row.recovery_id = item->recovery_id;
    row.group = item->group;
    row.position = item->position;
    row.delay_s = item->delay_s;
    row.gate_count = item->gate_count;
    row.machine = item->machine;
    return far_key_put(step, &far_schema_row_run_member, &key, &row);
}

int far_evolve_run_members(struct far_step *step, const struct far_ev_run_members *ev)
{
    const struct far_sub_run_member *items = ev->items.items;
    struct far_row_run run;
    struct far_row_job job;
    FAR_TRY(need(step, ev->job_id, &run));
    FAR_TRY(far_job_open(step, ev->job_id, &job));
    for (size_t i = 0; i < ev->items.count; i++) {
        FAR_TRY(put_member(step, &run, &items[i]));
    }
    if (job.checkpoint_id != ev->checkpoint_id) {
        FAR_TRY(job.checkpoint_id != 0 ? far_checkpoint_readers(step, job.checkpoint_id, -1) : 0);
        FAR_TRY(ev->checkpoint_id != 0 ? far_checkpoint_readers(step, ev->checkpoint_id, 1) : 0);
        job.checkpoint_id = run.checkpoint_id = ev->checkpoint_id;
        FAR_TRY(far_row_put(step, &far_schema_row_job, job.id, &job));
    }
    return far_row_put(step, &far_schema_row_run, run.id, &run);
}

static void note_time(struct far_step *step, struct far_row_run *row, uint64_t phase)
{
    if (phase == FAR_run_phase_last_increment) {
        row->off_ms = step->time_ms;
        row->cycle_job_id = row->cycle_tries = 0;
    } else if (phase == FAR_run_phase_starting) {
        row->prepared_ms = step->time_ms;
    } else if (phase == FAR_run_phase_up) {
        row->up_ms = step->time_ms;
        row->commit_ms = row->window_s != 0 ? step->time_ms + row->window_s * 1000 : 0;
    } else if (phase == FAR_run_phase_done) {
        row->done_ms = step->time_ms;
    }
    row->ended_ms = row->ended_ms == 0 && row->end != 0 ? step->time_ms : row->ended_ms;
}

int far_evolve_run_moved(struct far_step *step, const struct far_ev_run_moved *ev)
{
    struct far_row_run row;
    struct far_row_job job;
    FAR_TRY(need(step, ev->job_id, &row));
    FAR_TRY(far_job_open(step, ev->job_id, &job));
    if (ev->phase < FAR_run_phase_syncing || ev->phase > FAR_run_phase_done) {
        return far_reject(step, FAR_INTERNAL, "broken: run %llu has no phase %llu", FAR_LLU(ev->job_id), FAR_LLU(ev->phase));
    }
    FAR_TRY(far_move_id(step, &far_table_run, (size_t)row.phase, (size_t)ev->phase - 1, ev->job_id, NULL));
    row.phase = ev->phase;
    row.end = ev->end != 0 ? ev->end : row.end;
    row.abandoned = row.abandoned || ev->abandoned;
    row.problem = far_slice(NULL, 0);
    note_time(step, &row, ev->phase);
    FAR_TRY(ev->phase == FAR_run_phase_done ? own_plan(step, &row, false) : 0);
    FAR_TRY(put(step, &row, 0));
    job.next_workload_id = ev->phase != FAR_run_phase_done;
    return far_row_put(step, &far_schema_row_job, job.id, &job);
}

int far_evolve_run_cycle(struct far_step *step, const struct far_ev_run_cycle *ev)
{
    struct far_row_run row;
    FAR_TRY(need(step, ev->job_id, &row));
    row.cycle_job_id = ev->cycle_job_id;
    row.cycle_tries += ev->cycle_job_id != 0;
    return far_row_put(step, &far_schema_row_run, row.id, &row);
}

int far_evolve_run_waits(struct far_step *step, const struct far_ev_run_waits *ev)
{
    struct far_row_run row;
    FAR_TRY(need(step, ev->job_id, &row));
    row.problem = ev->problem;
    return put(step, &row, ev->wake_ms);
}

/* ---- steps of members ---- */

static void pass_gate(struct far_step *step, struct far_row_run_member *row)
{
    row->gate++;
    row->ask_ms = row->ask_until_ms = 0;
    row->note = row->error_class = row->error_message = far_slice(NULL, 0);
    row->failed_in = 0;
    bool is_last = row->gate >= row->gate_count;
    row->state = is_last ? FAR_run_member_state_passed : FAR_run_member_state_gating;
    row->passed_ms = is_last ? step->time_ms : 0;
}

static void fail(struct far_row_run_member *row, uint64_t in, struct far_slice klass, struct far_slice message)
{
    row->failed_in = row->state == FAR_run_member_state_failed ? row->failed_in : in;
    row->state = FAR_run_member_state_failed;
    row->error_class = klass;
    row->error_message = message;
}

/* A machine that went off at its gate, or that its gate's script refused, is powered on first (one that is on stays so); one that merely
 * took too long is waited for. */
static uint64_t before_gate(const struct far_row_run_member *row)
{
    bool is_off = far_slice_equal(row->error_class, far_slice_str("conflict"));
    bool is_refused = far_slice_equal(row->error_class, far_slice_str("denied"));
    return is_off || is_refused ? FAR_run_member_state_prepared : FAR_run_member_state_gating;
}

/* It begins once more. */
static void forget_failed_hydration(struct far_row_run_member *row)
{
    if (row->hydration == FAR_run_hydration_failed) {
        row->hydration = 0;
        row->hydration_problem = far_slice(NULL, 0);
    }
}

/* Where a member that failed is again, so that the same is begun once more. */
static void begin_again(struct far_row_run_member *row)
{
    if (row->source == FAR_run_source_failed) {
        row->source = row->source_was == FAR_run_source_turning_off ? 0 : (uint64_t)FAR_run_source_off;
        row->source_was = 0;
        row->error_class = row->error_message = far_slice(NULL, 0);
    }
    forget_failed_hydration(row);
    if (row->state != FAR_run_member_state_failed) {
        return;
    }
    uint64_t in = row->failed_in;
    row->state = in == FAR_run_member_state_preparing  ? FAR_run_member_state_waiting
                 : in == FAR_run_member_state_starting ? row->stale ? FAR_run_member_state_waiting : FAR_run_member_state_prepared
                 : in == FAR_run_member_state_keeping  ? FAR_run_member_state_passed
                 : in == FAR_run_member_state_cleaning ? row->stale ? FAR_run_member_state_waiting : FAR_run_member_state_left_out
                                                       : before_gate(row);
    row->failed_in = 0;
    row->ask_ms = row->ask_until_ms = 0;
    row->tries++;
    row->error_class = row->error_message = far_slice(NULL, 0);
}

static void change(struct far_step *step, struct far_row_run_member *row, const struct far_sub_run_change *item)
{
    switch (item->step) {
    case FAR_run_step_pass:
        pass_gate(step, row);
        break;
    case FAR_run_step_leave_out:
        row->state = FAR_run_member_state_left_out;
        row->failed_in = 0;
        break;
    case FAR_run_step_ask:
        row->ask_ms = step->time_ms;
        row->ask_until_ms = item->until_ms;
        row->note = item->note;
        break;
    case FAR_run_step_give_up:
        fail(row, FAR_run_member_state_gating, far_slice_str("timeout"), far_slice_str("nobody opened its gate in time"));
        break;
    case FAR_run_step_retry:
        begin_again(row);
        break;
    case FAR_run_step_serve:
        row->state = FAR_run_member_state_prepared;
        row->prepare_ms = row->prepared_ms = step->time_ms;
        break;
    case FAR_run_step_fence:
        row->source = 0;
        break;
    case FAR_run_step_call_off: /* as if it had been found so: it is not ours to turn on again */
        row->source = FAR_run_source_off;
        row->source_ms = step->time_ms;
        row->was_off = true;
        break;
    default:
        break;
    }
}

int far_evolve_run_changed(struct far_step *step, const struct far_ev_run_changed *ev)
{
    const struct far_sub_run_change *items = ev->items.items;
    struct far_row_run run;
    FAR_TRY(need(step, ev->job_id, &run));
    for (size_t i = 0; i < ev->items.count; i++) {
        struct far_row_run_member row;
        struct far_key key = member_key(ev->job_id, items[i].workload_id);
        if (items[i].step == FAR_run_step_script_retry || items[i].step == FAR_run_step_script_pass) {
            FAR_TRY(far_run_script_change(step, ev->job_id, &items[i]));
            continue;
        }
        FAR_TRY(far_key_need(step, &far_schema_row_run_member, &key, &row));
        change(step, &row, &items[i]);
        FAR_TRY(far_key_put(step, &far_schema_row_run_member, &key, &row));
    }
    return 0;
}

/* ---- what its tasks do ---- */

static bool is_of_source(uint64_t operation)
{
    return operation == FAR_machine_operation_source_off || operation == FAR_machine_operation_source_on;
}

bool far_run_is_beside(uint64_t operation)
{
    return is_of_source(operation) || operation == FAR_machine_operation_hydrate;
}

int far_run_task_made(struct far_step *step, const struct far_row_job *job, const struct far_sub_task_new *item)
{
    struct far_row_run_member row;
    struct far_key key = member_key(job->id, item->workload_id);
    if (item->kind == FAR_task_kind_script) {
        return far_run_script_made(step, job, item);
    }
    FAR_TRY(far_key_need(step, &far_schema_row_run_member, &key, &row));
    bool is_beside = far_run_is_beside(item->operation);
    row.open_tasks += !is_beside;
    row.touched = row.touched || !is_beside;
    row.failed_in = is_beside ? row.failed_in : 0;
    switch (item->operation) {
    case FAR_machine_operation_up:
        row.state = FAR_run_member_state_starting;
        row.start_ms = step->time_ms;
        break;
    case FAR_machine_operation_gate:
        break;
    case FAR_machine_operation_destroy:
        row.state = FAR_run_member_state_cleaning;
        break;
    case FAR_machine_operation_keep:
        row.state = FAR_run_member_state_keeping;
        break;
    case FAR_machine_operation_hydrate:
        row.hydration = FAR_run_hydration_running;
        break;
    case FAR_machine_operation_source_off: /* without a node the task waits for one */
        row.source = item->node_id != 0 ? FAR_run_source_turning_off : FAR_run_source_unreachable;
        row.source_ms = step->time_ms;
        break;
    case FAR_machine_operation_source_on:
        row.source = FAR_run_source_turning_on;
        row.source_ms = step->time_ms;
        break;
    default: /* a restore */
        row.prepare_ms = row.state == FAR_run_member_state_preparing ? row.prepare_ms : step->time_ms;
        row.state = FAR_run_member_state_preparing;
        break;
    }
    return far_key_put(step, &far_schema_row_run_member, &key, &row);
}

static const struct far_sub_machine_result *result_of(const struct far_sub_task_change *change)
{
    static const struct far_sub_machine_result none;
    return change->machine_result.count > 0 ? change->machine_result.items : &none;
}

/* The source's machine. A failover goes on without it; a migration waits for a person. */
static void source_over(struct far_step *step, const struct far_row_job *job, struct far_row_run_member *row,
                        const struct far_row_task *task, const struct far_sub_task_change *change)
{
    const struct far_sub_machine_result *result = result_of(change);
    bool turns_off = task->operation == FAR_machine_operation_source_off, is_done = task->state == FAR_task_state_done;
    bool was_told = task->started_ms != 0;
    if (is_done && turns_off && far_slice_equal(result->state, far_slice_str("absent"))) {
        row->source = FAR_run_source_absent;
    } else if (is_done) {
        row->source = turns_off ? FAR_run_source_off : FAR_run_source_on;
        row->was_off = turns_off ? result->was_off : row->was_off;
        row->was_forced = turns_off ? result->was_forced : row->was_forced;
    } else if (task->state == FAR_task_state_failed && (!turns_off || job->kind == FAR_job_kind_migration)) {
        row->source = FAR_run_source_failed;
        row->source_was = turns_off ? FAR_run_source_turning_off : FAR_run_source_turning_on;
        row->error_class = task->error_class;
        row->error_message = task->error_message;
    } else if (turns_off) {
        row->source = was_told ? FAR_run_source_uncertain : FAR_run_source_unreachable;
    } else {
        row->source = FAR_run_source_uncertain;
    }
    row->source_ms = step->time_ms;
}

static void machine_done(struct far_step *step, struct far_row_run_member *row, const struct far_row_task *task,
                         const struct far_sub_machine_result *result, bool goes_up)
{
    row->platform_ms += result->platform_ms;
    row->waited_ms += result->waited_ms;
    row->address = result->address.len != 0 ? result->address : row->address;
    row->machine_state = result->state.len != 0 ? result->state : row->machine_state;
    switch (task->operation) {
    case FAR_machine_operation_up:
        row->on_ms = step->time_ms;
        row->gate = 0;
        forget_failed_hydration(row); /* it failed as the machine was off */
        row->state = row->gate_count == 0 ? FAR_run_member_state_passed : FAR_run_member_state_gating;
        row->passed_ms = row->gate_count == 0 ? step->time_ms : 0;
        break;
    case FAR_machine_operation_gate:
        if (task->disk_index == row->gate) {
            pass_gate(step, row);
        }
        break;
    case FAR_machine_operation_destroy: /* on the way up: its disks are written out anew */
        row->state = row->stale && goes_up ? FAR_run_member_state_waiting : FAR_run_member_state_cleaned;
        row->stale = row->touched = false;
        row->hydration = row->hydrated_ms = 0;
        row->address = row->machine_state = far_slice(NULL, 0);
        break;
    case FAR_machine_operation_keep:
        row->state = FAR_run_member_state_kept;
        row->touched = false;
        break;
    default:
        break;
    }
}

/* It goes on beside gates and people: the machine is up whatever becomes of it. */
static void hydrate_over(struct far_step *step, struct far_row_run_member *row, const struct far_row_task *task,
                         const struct far_sub_machine_result *result)
{
    row->hydration = task->state == FAR_task_state_done     ? FAR_run_hydration_done
                     : task->state == FAR_task_state_failed ? FAR_run_hydration_failed
                                                            : 0;
    row->hydrated_ms = task->state == FAR_task_state_done ? step->time_ms : 0;
    row->machine_state = result->state.len != 0 ? result->state : row->machine_state;
    row->hydration_problem = task->state == FAR_task_state_failed ? far_slice(task->error_message.data, task->error_message.len < 200
                                                                                                            ? task->error_message.len
                                                                                                            : 200)
                                                                  : far_slice(NULL, 0);
}

static uint64_t state_for(uint64_t operation)
{
    return operation == FAR_machine_operation_up        ? FAR_run_member_state_starting
           : operation == FAR_machine_operation_gate    ? FAR_run_member_state_gating
           : operation == FAR_machine_operation_destroy ? FAR_run_member_state_cleaning
           : operation == FAR_machine_operation_keep    ? FAR_run_member_state_keeping
                                                        : FAR_run_member_state_preparing;
}

int far_run_task_over(struct far_step *step, const struct far_row_job *job, const struct far_row_task *task,
                      const struct far_sub_task_change *change)
{
    struct far_row_run_member row;
    struct far_key key = member_key(job->id, task->workload_id);
    if (task->kind == FAR_task_kind_script) {
        return far_run_script_over(step, task);
    }
    FAR_TRY(far_key_need(step, &far_schema_row_run_member, &key, &row));
    if (is_of_source(task->operation)) {
        source_over(step, job, &row, task, change);
        return far_key_put(step, &far_schema_row_run_member, &key, &row);
    }
    if (task->operation == FAR_machine_operation_hydrate) {
        hydrate_over(step, &row, task, result_of(change));
        return far_key_put(step, &far_schema_row_run_member, &key, &row);
    }
    if (row.open_tasks == 0) {
        return far_reject(step, FAR_INTERNAL, "broken: workload %llu has no task in run %llu", FAR_LLU(task->workload_id),
                          FAR_LLU(job->id));
    }
    row.open_tasks--;
    bool is_gate = task->operation == FAR_machine_operation_gate, is_past = is_gate && task->disk_index != row.gate;
    if (task->state == FAR_task_state_failed && !is_past) {
        fail(&row, state_for(task->operation), task->error_class, task->error_message);
        row.stale = row.stale || (task->operation == FAR_machine_operation_up && task->started_ms != 0); /* a node was told */
    } else if (task->state == FAR_task_state_done && task->kind == FAR_task_kind_machine) {
        struct far_row_run run;
        FAR_TRY(need(step, job->id, &run));
        machine_done(step, &row, task, result_of(change), run.phase <= FAR_run_phase_up);
    }
    if (row.state == FAR_run_member_state_preparing && row.open_tasks == 0) {
        row.state = FAR_run_member_state_prepared;
        row.prepared_ms = step->time_ms;
    }
    return far_key_put(step, &far_schema_row_run_member, &key, &row);
}

static struct far_key disk_key(uint64_t job_id, uint64_t workload_id, uint64_t index)
{
    struct far_key key = far_key_pair(&far_schema_row_run_disk, job_id, workload_id);
    far_key_u32(&key, (uint32_t)index);
    return key;
}

int far_run_disk_next(struct far_step *step, uint64_t job_id, struct far_key *key, struct far_row_run_disk *ret)
{
    int rc = far_next(step, &far_schema_row_run_disk, key, NULL, ret);
    return rc == 0 && ret->job_id != job_id ? FAR_NOT_FOUND : rc;
}

/* Those of a machine that came up before go first. */
static int drop_disks(struct far_step *step, uint64_t job_id, uint64_t workload_id)
{
    for (uint64_t index = 0;; index++) {
        struct far_row_run_disk row;
        struct far_key key = disk_key(job_id, workload_id, index);
        int rc = far_key_find(step, &far_schema_row_run_disk, &key, &row);
        if (rc != 0) {
            return rc == FAR_NOT_FOUND ? 0 : rc;
        }
        FAR_TRY(far_key_del(step, &far_schema_row_run_disk, &key));
    }
}

int far_evolve_run_located(struct far_step *step, const struct far_ev_run_located *ev)
{
    const struct far_sub_disk_spec *disks = ev->disks.items;
    struct far_row_run run;
    FAR_TRY(need(step, ev->job_id, &run));
    FAR_TRY(drop_disks(step, ev->job_id, ev->workload_id));
    for (size_t i = 0; i < ev->disks.count; i++) {
        struct far_row_run_disk row = {
            .job_id = ev->job_id, .workload_id = ev->workload_id, .name = disks[i].name, .locator = disks[i].locator};
        struct far_key key = disk_key(ev->job_id, ev->workload_id, i);
        FAR_TRY(far_key_put(step, &far_schema_row_run_disk, &key, &row));
    }
    return 0;
}

int far_run_pruned(struct far_step *step, const struct far_row_job *job)
{
    if (!far_job_is_run(job->kind)) {
        return 0;
    }
    FAR_TRY(far_lost_pruned(step, job->id));
    FAR_TRY(far_run_scripts_pruned(step, job->id));
    for (;;) {
        struct far_row_run_member row;
        struct far_key key = far_key_id(&far_schema_row_run_member, job->id);
        int rc = far_next(step, &far_schema_row_run_member, &key, NULL, &row);
        if (rc == FAR_NOT_FOUND || (rc == 0 && row.job_id != job->id)) {
            return far_row_del(step, &far_schema_row_run, job->id);
        }
        FAR_TRY(rc);
        key = member_key(job->id, row.workload_id);
        FAR_TRY(drop_disks(step, job->id, row.workload_id));
        FAR_TRY(far_key_del(step, &far_schema_row_run_member, &key));
    }
}
