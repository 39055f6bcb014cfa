/* Scripts around a recovery: see script_task.h and run_begin.c. Each is a row of the run, as the plan had it when the run began; one runs
 * after the other.
 *
 *   before, of the plan      in the phase begun, ahead of everything (a failover fences its source beside it)
 *   before, of a workload    when it is its turn to come up
 *   after, of a workload     when its gates are open; the boot order waits for it
 *   after, of the plan       when all are up
 *
 * One that fails holds the run, as a failed gate does: it is tried again, or a person goes on without it. */
#include "fsm/run.h"

#include "fsm/plan_edit.h"
#include "fsm/script_task.h"

#include <stdio.h>

static struct far_key key_of(uint64_t job_id, uint64_t index)
{
    return far_key_part(&far_schema_row_run_script, job_id, index);
}

static const struct far_sub_plan_script *script_of(const struct far_row_run_script *row)
{
    static const struct far_sub_plan_script none;
    return row->script.count > 0 ? row->script.items : &none;
}

/* ---- begin ---- */

int far_run_scripts_begin(struct far_step *step, uint64_t plan_id, const struct far_run_pick *pick)
{
    struct far_row_plan_scripts row;
    struct far_ev_run_scripts ev = {.job_id = pick->job_id};
    struct far_sub_run_script *items = far_step_alloc(step, FAR_SCRIPTS_MAX * sizeof *items);
    if (items == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_scripts_of(step, plan_id, &row));
    const struct far_sub_plan_script *scripts = row.scripts.items;
    for (size_t i = 0; i < row.scripts.count && ev.items.count < FAR_SCRIPTS_MAX; i++) {
        uint64_t workload_id = 0;
        bool is_for_it = scripts[i].phase == FAR_script_phase_before_recovery || scripts[i].phase == FAR_script_phase_after_recovery;
        bool takes_part = scripts[i].workload.len == 0;
        int rc = is_for_it && !takes_part ? far_name_find(step, &far_schema_row_workload, scripts[i].workload, &workload_id) : 0;
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
        for (size_t k = 0; k < pick->count; k++) {
            takes_part = takes_part || pick->items[k].workload_id == workload_id;
        }
        if (is_for_it && takes_part) {
            items[ev.items.count++] = (struct far_sub_run_script){.workload_id = workload_id, .script = {.items = &scripts[i], .count = 1}};
        }
    }
    ev.items.items = items;
    return ev.items.count > 0 ? far_emit(step, &far_schema_ev_run_scripts, &ev) : 0;
}

int far_evolve_run_scripts(struct far_step *step, const struct far_ev_run_scripts *ev)
{
    const struct far_sub_run_script *items = ev->items.items;
    struct far_row_run run;
    FAR_TRY(far_row_need(step, &far_schema_row_run, ev->job_id, &run));
    for (size_t i = 0; i < ev->items.count; i++) {
        struct far_key key = key_of(run.id, i);
        struct far_row_run_script row = {.job_id = run.id,
                                         .index = i,
                                         .workload_id = items[i].workload_id,
                                         .script = items[i].script,
                                         .state = FAR_run_script_state_waiting};
        FAR_TRY(far_key_put(step, &far_schema_row_run_script, &key, &row));
    }
    run.script_count = ev->items.count;
    return far_row_put(step, &far_schema_row_run, run.id, &run);
}

int far_run_scripts_load(struct far_step *step, struct far_run *run)
{
    run->scripts = NULL;
    if (run->row.script_count == 0) {
        return 0;
    }
    run->scripts = far_step_alloc(step, run->row.script_count * sizeof *run->scripts);
    for (uint64_t i = 0; run->scripts != NULL && i < run->row.script_count; i++) {
        struct far_key key = key_of(run->row.id, i);
        FAR_TRY(far_key_need(step, &far_schema_row_run_script, &key, &run->scripts[i]));
    }
    return run->scripts != NULL ? 0 : FAR_LIMIT;
}

int far_run_scripts_pruned(struct far_step *step, uint64_t job_id)
{
    for (uint64_t i = 0;; i++) {
        struct far_row_run_script row;
        struct far_key key = key_of(job_id, i);
        int rc = far_key_find(step, &far_schema_row_run_script, &key, &row);
        if (rc != 0) {
            return rc == FAR_NOT_FOUND ? 0 : rc;
        }
        FAR_TRY(far_key_del(step, &far_schema_row_run_script, &key));
    }
}

/* ---- what comes next ---- */

static bool is_over(const struct far_row_run_script *row)
{
    return row->state == FAR_run_script_state_done || row->state == FAR_run_script_state_passed;
}

/* The first of this place that is not over; NULL: all are. */
static const struct far_row_run_script *first_open(const struct far_run *run, uint64_t workload_id, uint64_t phase)
{
    for (uint64_t i = 0; i < run->row.script_count; i++) {
        const struct far_row_run_script *row = &run->scripts[i];
        if (row->workload_id == workload_id && script_of(row)->phase == phase && !is_over(row)) {
            return row;
        }
    }
    return NULL;
}

bool far_run_scripts_over(const struct far_run *run, uint64_t workload_id, uint64_t phase)
{
    return first_open(run, workload_id, phase) == NULL;
}

/* In whose node a script of the whole plan runs: that of the first workload that takes part, rather one that is up. */
static int find_point(struct far_step *step, const struct far_run *run, uint64_t workload_id, uint64_t *ret_point_id)
{
    *ret_point_id = 0;
    for (size_t i = 0; i < run->count; i++) {
        const struct far_row_run_member *m = &run->members[i];
        struct far_candidate *node;
        if (m->point_id == 0 || (workload_id != 0 && m->workload_id != workload_id)) {
            continue;
        }
        *ret_point_id = *ret_point_id == 0 ? m->point_id : *ret_point_id;
        FAR_TRY(far_candidate_node(step, m->node_id, &node));
        if (node != NULL && node->runs_scripts) {
            *ret_point_id = m->point_id;
            return 0;
        }
    }
    return 0;
}

/* A migration's own point comes last: until then the newest point of its first workload says which node that will be. */
static int newest_point(struct far_step *step, const struct far_run *run, uint64_t *ret_point_id)
{
    for (size_t i = 0; i < run->count && *ret_point_id == 0; i++) {
        struct far_row_workload workload;
        int rc = far_row_find(step, &far_schema_row_workload, run->members[i].workload_id, &workload);
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
        *ret_point_id = rc == 0 ? workload.last_point_id : 0;
    }
    return 0;
}

int far_run_scripts_next(struct far_step *step, struct far_run *run, uint64_t workload_id, uint64_t phase,
                         struct far_sub_task_new *ret_task, bool *ret_begins, bool *ret_is_over)
{
    const struct far_row_run_script *row = first_open(run, workload_id, phase);
    *ret_begins = false;
    *ret_is_over = row == NULL;
    if (row == NULL || row->state == FAR_run_script_state_running) {
        return 0;
    }
    if (row->state == FAR_run_script_state_failed) {
        if (run->problem[0] == '\0') {
            snprintf(run->problem, sizeof run->problem, "%.*s; try it again, or go on without it", FAR_TEXT(row->error_message));
        }
        return 0;
    }
    *ret_task = (struct far_sub_task_new){
        .kind = FAR_task_kind_script, .workload_id = workload_id, .disk_index = row->index, .script = row->script};
    FAR_TRY(find_point(step, run, workload_id, &ret_task->point_id));
    FAR_TRY(ret_task->point_id == 0 ? newest_point(step, run, &ret_task->point_id) : 0);
    *ret_begins = ret_task->point_id != 0;
    *ret_is_over = ret_task->point_id == 0; /* nothing takes part that it could be before or after */
    return 0;
}

int far_run_script_wanted(struct far_step *step, const struct far_row_run *run, const struct far_row_task *task, bool *ret_wants)
{
    struct far_row_run_script row;
    struct far_row_run_member member;
    struct far_key key = key_of(run->id, task->disk_index);
    FAR_TRY(far_key_need(step, &far_schema_row_run_script, &key, &row));
    bool is_before = script_of(&row)->phase == FAR_script_phase_before_recovery, is_its_time = run->phase == FAR_run_phase_starting;
    if (row.workload_id == 0) {
        is_its_time = is_before ? run->phase == FAR_run_phase_begun : is_its_time;
    } else {
        key = far_key_pair(&far_schema_row_run_member, run->id, row.workload_id);
        FAR_TRY(far_key_need(step, &far_schema_row_run_member, &key, &member));
        is_its_time = is_its_time && member.state == (is_before ? FAR_run_member_state_prepared : FAR_run_member_state_passed);
    }
    *ret_wants = is_its_time && row.task == task->task && row.state == FAR_run_script_state_running;
    return 0;
}

/* ---- a person ---- */

size_t far_run_scripts_held(const struct far_run *run, uint64_t workload_id, bool is_any, bool is_failed, struct far_sub_run_change *ret)
{
    size_t count = 0;
    for (uint64_t i = 0; i < run->row.script_count; i++) {
        const struct far_row_run_script *row = &run->scripts[i];
        bool is_held = row->state == FAR_run_script_state_failed || (!is_failed && row->state == FAR_run_script_state_running);
        if (is_held && (is_any || row->workload_id == workload_id)) {
            ret[count++] = (struct far_sub_run_change){
                .step = is_failed ? FAR_run_step_script_retry : FAR_run_step_script_pass, .script = row->index};
        }
    }
    return count;
}

/* ---- evolve ---- */

int far_run_script_change(struct far_step *step, uint64_t job_id, const struct far_sub_run_change *item)
{
    struct far_row_run_script row;
    struct far_key key = key_of(job_id, item->script);
    FAR_TRY(far_key_need(step, &far_schema_row_run_script, &key, &row));
    row.state = item->step == FAR_run_step_script_retry ? FAR_run_script_state_waiting : FAR_run_script_state_passed;
    row.ended_ms = item->step == FAR_run_step_script_pass ? step->time_ms : 0;
    return far_key_put(step, &far_schema_row_run_script, &key, &row);
}

int far_run_script_made(struct far_step *step, const struct far_row_job *job, const struct far_sub_task_new *item)
{
    struct far_row_run_script row;
    struct far_key key = key_of(job->id, item->disk_index);
    FAR_TRY(far_key_need(step, &far_schema_row_run_script, &key, &row));
    row.state = FAR_run_script_state_running;
    row.task = job->task_count + 1; /* it is being made */
    row.started_ms = row.started_ms != 0 ? row.started_ms : step->time_ms;
    row.ended_ms = 0;
    row.error_class = row.error_message = far_slice(NULL, 0);
    return far_key_put(step, &far_schema_row_run_script, &key, &row);
}

int far_run_script_over(struct far_step *step, const struct far_row_task *task)
{
    struct far_row_run_script row;
    struct far_key key = key_of(task->job_id, task->disk_index);
    FAR_TRY(far_key_need(step, &far_schema_row_run_script, &key, &row));
    if (row.task != task->task || row.state != FAR_run_script_state_running) {
        return 0; /* a person went on without it */
    }
    row.state = task->state == FAR_task_state_done     ? FAR_run_script_state_done
                : task->state == FAR_task_state_failed ? FAR_run_script_state_failed
                                                       : FAR_run_script_state_waiting;
    row.ended_ms = step->time_ms;
    row.error_class = task->error_class;
    row.error_message = task->error_message;
    return far_key_put(step, &far_schema_row_run_script, &key, &row);
}
