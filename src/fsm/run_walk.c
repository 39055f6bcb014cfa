/* Runs of plans: what comes next. Each look finds it in the rows alone and does one thing after the other until there is something to wait
 * for: a task, a cycle, a time, or a person. See run_begin.c. */
#include "fsm/run_lost.h"

#include "fsm/script_task.h"
#include "fsm/site_limit.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    MOVES_MAX = 64, /* of one look */
    TRIES_MAX = 3,  /* of a machine, by itself */
    CYCLES_MAX = 2, /* of a migration in one phase, by itself: what froze or served its disks may have died */
};

/* What a look at a run is about. */
struct look {
    struct far_step *step;
    struct far_run run;
    struct far_row_plan plan;
    struct far_sub_task_new *tasks; /* to be created */
    size_t task_count;
    struct far_sub_run_change *changes;
    size_t change_count;
    bool is_full; /* more tasks are to be created than fit one event */
};

static void hold(struct look *look, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void hold(struct look *look, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (look->run.problem[0] == '\0') {
        vsnprintf(look->run.problem, sizeof look->run.problem, format, args);
    }
    va_end(args);
}

static void wake_at(struct look *look, uint64_t time_ms)
{
    if (time_ms != 0 && (look->run.wake_ms == 0 || time_ms < look->run.wake_ms)) {
        look->run.wake_ms = time_ms;
    }
}

static int enter(struct look *look, uint64_t phase, uint64_t end)
{
    return far_run_enter(look->step, &look->run.row, phase, end, false);
}

static int name_of(struct look *look, uint64_t workload_id, struct far_slice *ret)
{
    struct far_row_workload row;
    int rc = far_row_find(look->step, &far_schema_row_workload, workload_id, &row);
    *ret = rc == 0 ? row.name : far_slice_str("?");
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int hold_for(struct look *look, const struct far_row_run_member *m, const char *what)
{
    struct far_slice name;
    FAR_TRY(name_of(look, m->workload_id, &name));
    hold(look, "workload '%.*s' %s: %.*s", FAR_TEXT(name), what, FAR_TEXT(m->error_message));
    return 0;
}

/* ---- tasks ---- */

int far_run_node(struct far_step *step, const struct far_row_job *job, const struct far_row_task *task, struct far_candidate **ret)
{
    struct far_row_plan plan;
    struct far_row_workload workload;
    struct far_row_point point;
    struct far_row_node node;
    if (task->operation == FAR_machine_operation_source_off || task->operation == FAR_machine_operation_source_on) {
        FAR_TRY(far_row_need(step, &far_schema_row_plan, job->plan_id, &plan));
        FAR_TRY(far_row_need(step, &far_schema_row_workload, task->workload_id, &workload));
        return far_candidate_site(step, plan.source_site_id, workload.adapter, ret);
    }
    FAR_TRY(far_row_need(step, &far_schema_row_point, task->point_id, &point));
    int rc = far_row_find(step, &far_schema_row_node, point.node_id, &node);
    return rc != 0 ? rc : far_candidate_node(step, point.node_id, ret);
}

static int add(struct look *look, struct far_sub_task_new item)
{
    struct far_candidate *node = NULL;
    struct far_row_task row = {.kind = item.kind,
                               .operation = item.operation,
                               .workload_id = item.workload_id,
                               .point_id = item.point_id,
                               .size_bytes = item.size_bytes};
    if (look->task_count == FAR_TASKS_AT_ONCE_MAX) {
        look->is_full = true;
        return 0;
    }
    int rc = far_run_node(look->step, &look->run.job, &row, &node);
    FAR_TRY(rc == FAR_NOT_FOUND && !look->step->is_rejected ? 0 : rc);
    bool is_free = false;
    FAR_TRY(node != NULL ? far_slot_free(look->step, node->site_id, &row, &is_free) : 0);
    if (is_free) {
        item.node_id = node->node_id;
        item.boot = node->boot;
        far_candidate_add(look->step, node, &row);
    }
    item.ready = true;
    look->tasks[look->task_count++] = item;
    return 0;
}

static int add_machine(struct look *look, const struct far_row_run_member *m, uint64_t operation)
{
    return add(look, (struct far_sub_task_new){.kind = FAR_task_kind_machine,
                                               .operation = operation,
                                               .workload_id = m->workload_id,
                                               .point_id = m->point_id,
                                               .disk_index = operation == FAR_machine_operation_gate ? m->gate : 0});
}

/* Scripts of the plan (m NULL) or of a workload: the next one begins; are all over? */
static int run_scripts(struct look *look, const struct far_row_run_member *m, uint64_t phase, bool *ret_is_over)
{
    struct far_sub_task_new task;
    bool begins;
    FAR_TRY(far_run_scripts_next(look->step, &look->run, m != NULL ? m->workload_id : 0, phase, &task, &begins, ret_is_over));
    return begins ? add(look, task) : 0;
}

/* What was found to do becomes events; were there any? */
static int flush(struct look *look, bool *ret_any)
{
    struct far_ev_tasks_created tasks = {.job_id = look->run.row.id,
                                         .first_task = look->run.job.task_count + 1,
                                         .next_workload_id = 1,
                                         .items = {.items = look->tasks, .count = look->task_count}};
    struct far_ev_run_changed changes = {.job_id = look->run.row.id, .items = {.items = look->changes, .count = look->change_count}};
    *ret_any = look->task_count + look->change_count > 0;
    FAR_TRY(far_lease_until(look->step, &tasks.lease_until_ms));
    FAR_TRY(changes.items.count > 0 ? far_emit(look->step, &far_schema_ev_run_changed, &changes) : 0);
    FAR_TRY(tasks.items.count > 0 ? far_emit(look->step, &far_schema_ev_tasks_created, &tasks) : 0);
    look->task_count = look->change_count = 0;
    return 0;
}

static void add_change(struct look *look, struct far_sub_run_change change)
{
    look->changes[look->change_count++] = change;
}

static bool takes_part(const struct far_row_run_member *m)
{
    return m->state != FAR_run_member_state_left_out;
}

/* ---- the source ---- */

static int begin_cycle(struct look *look)
{
    struct far_step *step = look->step;
    uint64_t object_id = step->object_id;
    struct far_ev_run_cycle ev = {.job_id = look->run.row.id};
    FAR_TRY(far_job_replicate(step, &look->plan, NULL));
    ev.cycle_job_id = step->object_id;
    step->object_id = object_id;
    return far_emit(step, &far_schema_ev_run_cycle, &ev);
}

/* ret_job: the cycle, when it went well. */
static int cycle(struct look *look, struct far_row_job *ret_job, bool *ret_is_done)
{
    const struct far_row_run *run = &look->run.row;
    struct far_row_job job;
    *ret_is_done = false;
    if (run->cycle_job_id == 0) {
        return look->plan.running_job_id == 0 ? begin_cycle(look) : 0; /* else its end brings us back */
    }
    int rc = far_row_find(look->step, &far_schema_row_job, run->cycle_job_id, &job);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    uint64_t spoilt = 0;
    FAR_TRY(rc == 0 && job.state == FAR_job_state_partial ? far_cycle_scripts_failed(look->step, &job, &spoilt) : 0);
    bool is_good = rc == 0 && (job.state == FAR_job_state_succeeded || (spoilt > 0 && spoilt == job.tasks_failed));
    if (is_good) { /* a script behind it that failed leaves its points good */
        *ret_job = job;
        *ret_is_done = true;
    } else if (rc == 0 && (job.state == FAR_job_state_failed || job.state == FAR_job_state_partial) && run->cycle_tries < CYCLES_MAX) {
        return look->plan.running_job_id == 0 ? begin_cycle(look) : 0;
    } else if (rc != 0 || job.state != FAR_job_state_running) {
        hold(look, "cycle %llu did not go well: %.*s; try it again, or end the run", FAR_LLU(run->cycle_job_id),
             rc == 0 ? (int)job.error_message.len : 0, rc == 0 ? (const char *)job.error_message.data : "");
    }
    return 0;
}

static int sync_source(struct look *look, bool *ret_again)
{
    struct far_row_job job;
    bool is_done;
    FAR_TRY(cycle(look, &job, &is_done));
    *ret_again = is_done;
    return is_done ? enter(look, FAR_run_phase_shutting_down, 0) : 0;
}

static int hold_for_absent(struct look *look, const struct far_row_run_member *m)
{
    struct far_slice name;
    FAR_TRY(name_of(look, m->workload_id, &name));
    hold(look, "the machine of workload '%.*s' is not there: nobody knows whether it runs elsewhere; try again when it is back, pass it if "
               "you know that it is off, or end the run", FAR_TEXT(name));
    return 0;
}

static int shut_down(struct look *look, bool *ret_again)
{
    bool is_off = true;
    for (size_t i = 0; i < look->run.count; i++) {
        const struct far_row_run_member *m = &look->run.members[i];
        if (!takes_part(m) || m->source == FAR_run_source_off) {
            continue;
        }
        is_off = false;
        FAR_TRY(m->source == FAR_run_source_failed ? hold_for(look, m, "was not shut down") : 0);
        if (m->source == FAR_run_source_unreachable) {
            hold(look, "no node of the source's site is up that could shut its machines down");
        }
        FAR_TRY(m->source == FAR_run_source_absent ? hold_for_absent(look, m) : 0);
        FAR_TRY(m->source == 0 ? add_machine(look, m, FAR_machine_operation_source_off) : 0);
    }
    *ret_again = is_off;
    return is_off ? enter(look, FAR_run_phase_last_increment, 0) : 0;
}

/* Every point is one of the cycle that began when all was off: that is the proof that nothing came after it. */
static int check_last(struct look *look, const struct far_run_pick *pick)
{
    for (size_t i = 0; i < pick->count; i++) {
        struct far_row_point point = {.job_id = 0};
        if (pick->items[i].left_out.len == 0) {
            FAR_TRY(far_row_need(look->step, &far_schema_row_point, pick->items[i].point_id, &point));
        }
        if (point.job_id != look->run.row.cycle_job_id) {
            struct far_slice name;
            FAR_TRY(name_of(look, pick->items[i].workload_id, &name));
            hold(look, "workload '%.*s' has no usable point that was made since its machine was off", FAR_TEXT(name));
        }
    }
    return 0;
}

static int last_increment(struct look *look, bool *ret_again)
{
    struct far_step *step = look->step;
    struct far_row_job job;
    struct far_slice names[FAR_RUN_MEMBERS_MAX];
    struct far_run_pick pick = {.job_id = look->run.row.id};
    struct far_list wanted = {.items = names};
    bool is_done;
    FAR_TRY(cycle(look, &job, &is_done));
    if (!is_done) {
        return 0;
    }
    for (size_t i = 0; i < look->run.count; i++) {
        FAR_TRY(takes_part(&look->run.members[i]) ? name_of(look, look->run.members[i].workload_id, &names[wanted.count++]) : 0);
    }
    FAR_TRY(far_run_list(step, &look->plan, &wanted, &pick));
    FAR_TRY(far_run_choose(step, &look->plan, job.checkpoint_id, &pick));
    FAR_TRY(check_last(look, &pick));
    if (look->run.problem[0] != '\0') {
        return 0;
    }
    struct far_ev_run_members ev = {
        .job_id = pick.job_id, .checkpoint_id = pick.checkpoint_id, .items = {.items = pick.items, .count = pick.count}};
    FAR_TRY(far_emit(step, &far_schema_ev_run_members, &ev));
    *ret_again = true;
    return enter(look, FAR_run_phase_preparing, 0);
}

/* ---- preparing ---- */

/* A disk that an earlier try has written out already, and that nobody took away since. */
static int is_restored(struct look *look, const struct far_row_run_member *m, uint64_t disk, bool *ret)
{
    struct far_key key = far_key_id(&far_schema_row_task, m->job_id);
    *ret = false;
    while (m->tries > 0) {
        struct far_row_task task;
        int rc = far_next(look->step, &far_schema_row_task, &key, NULL, &task);
        if (rc == FAR_NOT_FOUND || (rc == 0 && task.job_id != m->job_id)) {
            return 0;
        }
        FAR_TRY(rc);
        bool is_done = task.workload_id == m->workload_id && task.state == FAR_task_state_done;
        *ret = *ret || (is_done && task.kind == FAR_task_kind_restore && task.disk_index == disk);
        *ret = *ret && !(is_done && task.operation == FAR_machine_operation_destroy);
    }
    return 0;
}

static int add_restores(struct look *look, const struct far_row_run_member *m)
{
    struct far_row_point point;
    struct far_row_workload workload;
    struct far_sub_recovery config;
    FAR_TRY(far_row_need(look->step, &far_schema_row_point, m->point_id, &point));
    FAR_TRY(far_run_recovery(look->step, m->recovery_id, &config));
    FAR_TRY(far_row_need(look->step, &far_schema_row_workload, m->workload_id, &workload));
    if (look->task_count + point.disk_count > FAR_TASKS_AT_ONCE_MAX) {
        look->is_full = true; /* all of a workload in one event */
        return 0;
    }
    for (uint64_t d = 0; d < point.disk_count; d++) {
        struct far_row_point_disk disk;
        struct far_key key = far_key_part(&far_schema_row_point_disk, point.id, d);
        struct far_slice path;
        bool is_there;
        FAR_TRY(far_key_need(look->step, &far_schema_row_point_disk, &key, &disk));
        FAR_TRY(is_restored(look, m, d, &is_there));
        if (is_there || far_run_leaves_disk(&config, disk.name)) {
            continue;
        }
        FAR_TRY(far_run_path(look->step, m->job_id, workload.name, disk.name, far_run_format(&workload, &config), &path));
        FAR_TRY(add(look, (struct far_sub_task_new){.kind = FAR_task_kind_restore,
                                                    .workload_id = m->workload_id,
                                                    .disk_index = d,
                                                    .point_id = m->point_id,
                                                    .target_path = path,
                                                    .size_bytes = disk.size_bytes}));
    }
    return 0;
}

/* Its disks, as the point has them: where its machine may have run from those that are there, these go first. */
static int write_out(struct look *look, const struct far_row_run_member *m)
{
    if (!m->stale && look->run.row.at_once) {
        add_change(look, (struct far_sub_run_change){.workload_id = m->workload_id, .step = FAR_run_step_serve});
        return 0;
    }
    if (!m->stale) {
        return add_restores(look, m);
    }
    return m->open_tasks == 0 ? add_machine(look, m, FAR_machine_operation_destroy) : 0;
}

/* A failover: whoever is there at the source shuts the machines down, and is waited for so long; that nobody is holds nothing up. What was
 * not reached yet is tried as long as the run lives: a source that comes back while its machines are up elsewhere does harm. */
static int fence(struct look *look, bool *ret_is_over)
{
    uint64_t until_ms = look->run.row.fence_until_ms;
    *ret_is_over = true;
    for (size_t i = 0; i < look->run.count && look->run.row.kind == FAR_job_kind_failover; i++) {
        const struct far_row_run_member *m = &look->run.members[i];
        if (!takes_part(m)) {
            continue;
        }
        if (m->source != FAR_run_source_off && look->step->time_ms < until_ms) {
            *ret_is_over = *ret_is_over && m->source != FAR_run_source_turning_off;
            wake_at(look, until_ms);
        }
        FAR_TRY(m->source == 0 ? add_machine(look, m, FAR_machine_operation_source_off) : 0);
    }
    return 0;
}

static int prepare(struct look *look, bool *ret_again)
{
    bool is_over, is_fenced;
    size_t ready = 0;
    FAR_TRY(fence(look, &is_fenced));
    is_over = is_fenced;
    for (size_t i = 0; i < look->run.count; i++) {
        const struct far_row_run_member *m = &look->run.members[i];
        FAR_TRY(m->state == FAR_run_member_state_waiting ? write_out(look, m) : 0);
        FAR_TRY(m->state == FAR_run_member_state_failed ? hold_for(look, m, "cannot be written out") : 0);
        is_over = is_over && (m->state == FAR_run_member_state_prepared || !takes_part(m));
        ready += m->state == FAR_run_member_state_prepared;
    }
    if (is_over && ready == 0) {
        hold(look, "no workload is left to be brought up; end the run");
    }
    is_over = is_over && ready > 0 && look->task_count + look->change_count == 0;
    *ret_again = is_over;
    return is_over ? enter(look, FAR_run_phase_starting, 0) : 0;
}

/* ---- the boot order ---- */

static bool comes_before(const struct far_row_run_member *a, const struct far_row_run_member *b)
{
    return a->group != b->group ? a->group < b->group : a->position < b->position;
}

/* The first in the order that is not up yet; NULL: all are that can be. */
static const struct far_row_run_member *whose_turn(const struct look *look)
{
    const struct far_row_run_member *first = NULL;
    for (size_t i = 0; i < look->run.count; i++) {
        const struct far_row_run_member *m = &look->run.members[i];
        bool is_open = takes_part(m) && (m->state != FAR_run_member_state_passed ||
                                         !far_run_scripts_over(&look->run, m->workload_id, FAR_script_phase_after_recovery));
        first = is_open && (first == NULL || comes_before(m, first)) ? m : first;
    }
    return first;
}

/* When this position may begin: the longest delay of the one before it, from when the last of that was up. */
static uint64_t turn_begins(const struct look *look, const struct far_row_run_member *turn)
{
    const struct far_row_run_member *before = NULL;
    uint64_t passed_ms = 0, delay_s = 0;
    for (size_t i = 0; i < look->run.count; i++) {
        const struct far_row_run_member *m = &look->run.members[i];
        bool is_up = m->state == FAR_run_member_state_passed && comes_before(m, turn);
        before = is_up && (before == NULL || comes_before(before, m)) ? m : before;
    }
    for (size_t i = 0; before != NULL && i < look->run.count; i++) {
        const struct far_row_run_member *m = &look->run.members[i];
        if (m->state == FAR_run_member_state_passed && !comes_before(m, before) && !comes_before(before, m)) {
            passed_ms = m->passed_ms > passed_ms ? m->passed_ms : passed_ms;
            delay_s = m->delay_s > delay_s ? m->delay_s : delay_s;
        }
    }
    return passed_ms + delay_s * 1000;
}

/* A machine is on: what is its next gate? */
static int open_gate(struct look *look, const struct far_row_run_member *m)
{
    struct far_sub_recovery config;
    struct far_slice name;
    FAR_TRY(far_run_recovery(look->step, m->recovery_id, &config));
    const struct far_sub_recovery_gate *gate = (const struct far_sub_recovery_gate *)config.gates.items + m->gate;
    if (gate->kind != FAR_gate_kind_person) {
        return m->open_tasks == 0 ? add_machine(look, m, FAR_machine_operation_gate) : 0;
    }
    FAR_TRY(name_of(look, m->workload_id, &name));
    if (m->ask_ms == 0) {
        uint64_t until_ms = gate->timeout_s != 0 ? look->step->time_ms + gate->timeout_s * 1000 : 0;
        add_change(look, (struct far_sub_run_change){
                             .workload_id = m->workload_id, .step = FAR_run_step_ask, .until_ms = until_ms, .note = gate->note});
    } else if (m->ask_until_ms != 0 && m->ask_until_ms <= look->step->time_ms) {
        add_change(look, (struct far_sub_run_change){.workload_id = m->workload_id, .step = FAR_run_step_give_up});
    } else {
        wake_at(look, m->ask_until_ms);
        hold(look, "workload '%.*s' waits for a person: %.*s", FAR_TEXT(name), FAR_TEXT(m->note));
    }
    return 0;
}

/* What machines take from the vault while they run is written out beside everything else. */
static int hydrate(struct look *look)
{
    for (size_t i = 0; look->run.row.at_once && i < look->run.count; i++) {
        const struct far_row_run_member *m = &look->run.members[i];
        bool is_on = m->state == FAR_run_member_state_gating || m->state == FAR_run_member_state_passed ||
                     (m->state == FAR_run_member_state_failed && m->failed_in == FAR_run_member_state_gating);
        FAR_TRY(is_on && m->hydration == 0 ? add_machine(look, m, FAR_machine_operation_hydrate) : 0);
        if (is_on && m->hydration == FAR_run_hydration_failed) {
            struct far_slice name;
            FAR_TRY(name_of(look, m->workload_id, &name));
            hold(look, "the disks of workload '%.*s' are not written out, and need this node's vault: %.*s", FAR_TEXT(name),
                 FAR_TEXT(m->hydration_problem));
        }
    }
    return 0;
}

static bool has_failed(const struct far_row_run_member *m, uint64_t in, int klass)
{
    return m->state == FAR_run_member_state_failed && m->failed_in == in && m->open_tasks == 0 &&
           far_slice_equal(m->error_class, far_slice_str(far_class_info(klass)->name));
}

/* By itself: a machine of which its node does not know whether it has run, from disks that are written out anew; and once, one that went
 * off at its gate (its hypervisor may have died). If that happens again, a person is to look. */
static bool begins_again(const struct far_row_run_member *m)
{
    return (m->tries < TRIES_MAX && has_failed(m, FAR_run_member_state_starting, FAR_UNKNOWN_OUTCOME)) ||
           (m->tries == 0 && has_failed(m, FAR_run_member_state_gating, FAR_CONFLICT));
}

static int start(struct look *look, bool *ret_again)
{
    const struct far_row_run_member *turn = whose_turn(look);
    bool is_fenced, is_over;
    FAR_TRY(fence(look, &is_fenced)); /* one that failed is tried again when somebody says so */
    FAR_TRY(hydrate(look));
    if (turn == NULL) {
        FAR_TRY(run_scripts(look, NULL, FAR_script_phase_after_recovery, ret_again));
        return *ret_again ? enter(look, FAR_run_phase_up, 0) : 0;
    }
    uint64_t begins_ms = turn_begins(look, turn);
    for (size_t i = 0; i < look->run.count; i++) {
        const struct far_row_run_member *m = &look->run.members[i];
        if (!takes_part(m) || comes_before(turn, m)) {
            continue;
        }
        if (m->state == FAR_run_member_state_prepared && begins_ms > look->step->time_ms) {
            wake_at(look, begins_ms);
        } else if (m->state == FAR_run_member_state_prepared && m->open_tasks == 0) {
            FAR_TRY(run_scripts(look, m, FAR_script_phase_before_recovery, &is_over));
            FAR_TRY(is_over ? add_machine(look, m, FAR_machine_operation_up) : 0);
        } else if (m->state == FAR_run_member_state_passed) {
            FAR_TRY(run_scripts(look, m, FAR_script_phase_after_recovery, &is_over));
        } else if (m->state == FAR_run_member_state_gating) {
            FAR_TRY(open_gate(look, m));
        } else if (begins_again(m)) {
            add_change(look, (struct far_sub_run_change){.workload_id = m->workload_id, .step = FAR_run_step_retry});
        } else if (m->state == FAR_run_member_state_failed) {
            FAR_TRY(hold_for(look, m, m->failed_in == FAR_run_member_state_gating ? "waits at a gate that failed" : "did not come up"));
        } else if (m->state == FAR_run_member_state_waiting) { /* it is tried again from its disks on */
            FAR_TRY(write_out(look, m));
        }
    }
    return 0;
}

static int stay_up(struct look *look, bool *ret_again)
{
    uint64_t commit_ms = look->run.row.commit_ms;
    bool is_fenced;
    FAR_TRY(fence(look, &is_fenced));
    FAR_TRY(hydrate(look));
    *ret_again = commit_ms != 0 && commit_ms <= look->step->time_ms;
    wake_at(look, commit_ms);
    return *ret_again ? enter(look, FAR_run_phase_committing, FAR_run_end_committed) : 0;
}

/* ---- the end ---- */

/* What was made of a workload goes. */
static int destroy(struct look *look, const struct far_row_run_member *m, bool *ret_is_over)
{
    if (!m->touched) {
        return 0;
    }
    *ret_is_over = false;
    if (m->hydration == FAR_run_hydration_running) { /* it was told to stop */
        return 0;
    }
    bool has_failed = m->state == FAR_run_member_state_failed && m->failed_in == FAR_run_member_state_cleaning;
    FAR_TRY(has_failed ? hold_for(look, m, "is not cleaned up") : 0);
    return m->open_tasks == 0 && !has_failed ? add_machine(look, m, FAR_machine_operation_destroy) : 0;
}

/* Did this run turn it off, or may it have, and did its machine not come up elsewhere to stay? */
static bool is_to_turn_on(const struct far_row_run_member *m)
{
    return !m->was_off && (m->source == FAR_run_source_off || m->source == FAR_run_source_uncertain) && !far_run_has_moved(m);
}

/* Behind the end of what is at the recovery site. */
static int end(struct look *look)
{
    bool unfences = false;
    for (size_t i = 0; i < look->run.count; i++) {
        unfences = unfences || is_to_turn_on(&look->run.members[i]);
    }
    return enter(look, unfences ? FAR_run_phase_unfencing : FAR_run_phase_done, 0);
}

/* Kept is what stands on its own: one that reads from the vault is waited for. */
static int keep(struct look *look, const struct far_row_run_member *m)
{
    bool needs_vault = look->run.row.at_once && m->hydration != FAR_run_hydration_done;
    bool is_ready = m->state == FAR_run_member_state_passed && m->open_tasks == 0 && !needs_vault;
    return is_ready ? add_machine(look, m, FAR_machine_operation_keep) : 0;
}

static int commit(struct look *look, bool *ret_again)
{
    bool is_over = true;
    FAR_TRY(hydrate(look));
    for (size_t i = 0; i < look->run.count; i++) {
        const struct far_row_run_member *m = &look->run.members[i];
        bool is_failed = m->state == FAR_run_member_state_failed && m->failed_in == FAR_run_member_state_keeping;
        if (m->state == FAR_run_member_state_passed || m->state == FAR_run_member_state_keeping || is_failed) {
            is_over = false;
            FAR_TRY(is_failed ? hold_for(look, m, "is not committed") : 0);
            FAR_TRY(keep(look, m));
        } else {
            FAR_TRY(destroy(look, m, &is_over));
        }
    }
    *ret_again = is_over;
    return is_over ? end(look) : 0;
}

static int clean(struct look *look, bool *ret_again)
{
    bool is_over = true;
    for (size_t i = 0; i < look->run.count; i++) {
        FAR_TRY(destroy(look, &look->run.members[i], &is_over));
    }
    *ret_again = is_over;
    return is_over ? end(look) : 0;
}

static int unfence(struct look *look, bool *ret_again)
{
    bool is_over = true;
    for (size_t i = 0; i < look->run.count; i++) {
        const struct far_row_run_member *m = &look->run.members[i];
        bool is_failed = m->source == FAR_run_source_failed;
        is_over = is_over && !is_to_turn_on(m) && m->source != FAR_run_source_turning_on && !is_failed;
        FAR_TRY(is_failed ? hold_for(look, m, "is not on again at the source") : 0);
        FAR_TRY(is_to_turn_on(m) ? add_machine(look, m, FAR_machine_operation_source_on) : 0);
    }
    *ret_again = is_over;
    return is_over ? enter(look, FAR_run_phase_done, 0) : 0;
}

/* ---- the look ---- */

static int begin(struct look *look, bool *ret_again)
{
    const struct far_row_run *run = &look->run.row;
    bool is_fenced;
    FAR_TRY(run_scripts(look, NULL, FAR_script_phase_before_recovery, ret_again));
    if (!*ret_again) {
        return fence(look, &is_fenced);
    }
    return enter(look, run->kind == FAR_job_kind_migration ? FAR_run_phase_syncing : FAR_run_phase_preparing, 0);
}

static int act(struct look *look, bool *ret_again)
{
    const struct far_row_run *run = &look->run.row;
    bool expires = run->expires_ms != 0 && run->phase <= FAR_run_phase_up;
    if (expires && run->expires_ms <= look->step->time_ms) {
        *ret_again = true;
        return enter(look, FAR_run_phase_cleaning, FAR_run_end_expired);
    }
    wake_at(look, expires ? run->expires_ms : 0);
    switch (run->phase) {
    case FAR_run_phase_begun:
        return begin(look, ret_again);
    case FAR_run_phase_syncing:
        return sync_source(look, ret_again);
    case FAR_run_phase_shutting_down:
        return shut_down(look, ret_again);
    case FAR_run_phase_last_increment:
        return last_increment(look, ret_again);
    case FAR_run_phase_preparing:
        return prepare(look, ret_again);
    case FAR_run_phase_starting:
        return start(look, ret_again);
    case FAR_run_phase_up:
        return stay_up(look, ret_again);
    case FAR_run_phase_committing:
        return commit(look, ret_again);
    case FAR_run_phase_cleaning:
        return clean(look, ret_again);
    default:
        return unfence(look, ret_again);
    }
}

/* What holds it and when it is looked at again, if that is news. */
static int tell(struct look *look)
{
    const struct far_row_run *run = &look->run.row;
    struct far_slice problem = far_slice_str(look->run.problem);
    struct far_ev_run_waits ev = {.job_id = run->id, .wake_ms = look->run.wake_ms, .problem = problem};
    bool is_news = run->wake_ms != ev.wake_ms || !far_slice_equal(run->problem, problem);
    FAR_TRY(is_news ? far_emit(look->step, &far_schema_ev_run_waits, &ev) : 0);
    return far_lost_look(look->step, run->id);
}

static int load(struct look *look, uint64_t job_id)
{
    look->task_count = look->change_count = 0;
    look->is_full = false;
    FAR_TRY(far_run_load(look->step, job_id, &look->run));
    return far_row_need(look->step, &far_schema_row_plan, look->run.row.plan_id, &look->plan);
}

int far_run_next(struct far_step *step, uint64_t job_id)
{
    struct look *look = far_step_alloc(step, sizeof *look);
    if (look == NULL) {
        return FAR_LIMIT;
    }
    *look = (struct look){.step = step,
                          .tasks = far_step_alloc(step, FAR_TASKS_AT_ONCE_MAX * sizeof *look->tasks),
                          .changes = far_step_alloc(step, 2 * FAR_RUN_MEMBERS_MAX * sizeof *look->changes)};
    if (look->tasks == NULL || look->changes == NULL) {
        return FAR_LIMIT;
    }
    for (unsigned i = 0; i < MOVES_MAX; i++) {
        bool again = false, any = false;
        FAR_TRY(load(look, job_id));
        if (look->run.row.phase == FAR_run_phase_done) {
            return far_lost_look(step, job_id);
        }
        FAR_TRY(act(look, &again));
        FAR_TRY(!again ? flush(look, &any) : 0);
        if (!again && !any) {
            return tell(look);
        }
    }
    look->run.problem[0] = '\0';
    look->run.wake_ms = step->time_ms + 1; /* the rest */
    return tell(look);
}

int far_run_due(struct far_step *step, uint64_t job_id)
{
    struct far_row_run row;
    FAR_TRY(far_run_find(step, job_id, &row));
    return row.id != 0 && row.phase != FAR_run_phase_done ? far_run_next(step, job_id) : 0;
}

int far_run_cycle_over(struct far_step *step, uint64_t plan_id)
{
    struct far_row_plan plan;
    int rc = far_row_find(step, &far_schema_row_plan, plan_id, &plan);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    return rc == 0 && plan.run_job_id != 0 ? far_run_due(step, plan.run_job_id) : 0;
}

/* ---- which tasks a phase has use for ---- */

static bool is_wanted(const struct far_row_run *run, const struct far_row_run_member *m, const struct far_row_task *task)
{
    uint64_t phase = run->phase;
    bool goes_up = phase <= FAR_run_phase_up, is_held = far_task_held(task);
    switch (task->operation) {
    case FAR_machine_operation_up: /* one that a node has is not taken from it: what it makes is to be known before it goes */
        return goes_up ? m->state == FAR_run_member_state_starting : is_held && phase != FAR_run_phase_done;
    case FAR_machine_operation_gate:
        return phase == FAR_run_phase_starting && m->state == FAR_run_member_state_gating && task->disk_index == m->gate;
    case FAR_machine_operation_hydrate:
        return phase >= FAR_run_phase_starting && phase <= FAR_run_phase_committing && takes_part(m) && !m->stale;
    case FAR_machine_operation_destroy:
        return phase == FAR_run_phase_cleaning || phase == FAR_run_phase_committing || (goes_up && m->stale);
    case FAR_machine_operation_source_off:
        return phase == FAR_run_phase_shutting_down || (run->kind == FAR_job_kind_failover && goes_up);
    case FAR_machine_operation_source_on:
        return phase == FAR_run_phase_unfencing;
    case FAR_machine_operation_keep:
        return phase == FAR_run_phase_committing;
    default: /* a restore */
        return goes_up && takes_part(m);
    }
}

int far_run_wants(struct far_step *step, const struct far_row_job *job, const struct far_row_task *task, bool *ret_wants)
{
    struct far_row_run run;
    struct far_row_run_member member;
    struct far_key key = far_key_pair(&far_schema_row_run_member, job->id, task->workload_id);
    FAR_TRY(far_row_need(step, &far_schema_row_run, job->id, &run));
    if (task->kind == FAR_task_kind_script) {
        return far_run_script_wanted(step, &run, task, ret_wants);
    }
    FAR_TRY(far_key_need(step, &far_schema_row_run_member, &key, &member));
    *ret_wants = is_wanted(&run, &member, task);
    return 0;
}
