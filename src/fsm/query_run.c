/* What a run took, step by step, and what it lost: see query.h. From its rows alone, so that it can be said of each moment of the log.
 *
 * The machines of a position come up side by side: what its slowest one spent inside the platform, and waiting for its gates, is what
 * the position spent there; the rest of its time is ours. */
#include "fsm/query.h"

#include "fsm/run_lost.h"

#include <stdlib.h>

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static int by_order(const void *a, const void *b)
{
    const struct far_row_run_member *x = a, *y = b;
    return x->group != y->group         ? x->group < y->group ? -1 : 1
           : x->position != y->position ? x->position < y->position ? -1 : 1
                                        : (x->workload_id > y->workload_id) - (x->workload_id < y->workload_id);
}

/* The position that begins with this member; returns how many are of it. */
static size_t add_position(const struct far_row_run_member *m, size_t count, struct far_run_turn *step)
{
    size_t same = 0;
    *step = (struct far_run_turn){.group = m->group, .position = m->position};
    while (same < count && m[same].group == m->group && m[same].position == m->position) {
        const struct far_row_run_member *each = &m[same++];
        step->begun_ms = each->start_ms != 0 && (step->begun_ms == 0 || each->start_ms < step->begun_ms) ? each->start_ms : step->begun_ms;
        if (each->passed_ms != 0 && each->passed_ms >= step->ended_ms) {
            step->ended_ms = each->passed_ms;
            step->slowest_id = each->workload_id;
            step->platform_ms = each->platform_ms;
            step->waited_ms = each->waited_ms;
        }
        step->delay_ms = each->passed_ms != 0 && each->delay_s * 1000 > step->delay_ms ? each->delay_s * 1000 : step->delay_ms;
    }
    step->own_ms = less(less(step->ended_ms, step->begun_ms), step->platform_ms + step->waited_ms);
    return same;
}

/* When the disks were written out: of the slowest workload. */
static uint64_t disks_ready(const struct far_run *run)
{
    uint64_t ready_ms = 0;
    for (size_t i = 0; i < run->count; i++) {
        ready_ms = run->members[i].prepared_ms > ready_ms ? run->members[i].prepared_ms : ready_ms;
    }
    return ready_ms;
}

/* Time in which a script ran, from when the disks were there to the end. */
static uint64_t scripts_time(const struct far_run *run, uint64_t from_ms, uint64_t end_ms)
{
    uint64_t sum_ms = 0, at_ms = from_ms;
    for (;;) { /* the next of them by its begin */
        const struct far_row_run_script *next = NULL;
        for (uint64_t i = 0; i < run->row.script_count; i++) {
            const struct far_row_run_script *row = &run->scripts[i];
            bool is_behind = row->started_ms != 0 && row->ended_ms > at_ms;
            next = is_behind && (next == NULL || row->started_ms < next->started_ms) ? row : next;
        }
        if (next == NULL) {
            return sum_ms;
        }
        uint64_t begun_ms = next->started_ms > at_ms ? next->started_ms : at_ms;
        sum_ms += less(next->ended_ms < end_ms ? next->ended_ms : end_ms, begun_ms);
        at_ms = next->ended_ms;
    }
}

static int list_scripts(struct far_step *step, const struct far_run *run, struct far_run_report *report)
{
    report->scripts = far_step_alloc(step, (run->row.script_count + 1) * sizeof *report->scripts);
    if (report->scripts == NULL) {
        return FAR_LIMIT;
    }
    for (; report->script_count < run->row.script_count; report->script_count++) {
        struct far_run_scripted *to = &report->scripts[report->script_count];
        struct far_row_task task;
        struct far_key key = far_key_part(&far_schema_row_task, run->row.id, run->scripts[report->script_count].task);
        *to = (struct far_run_scripted){.row = run->scripts[report->script_count]};
        int rc = to->row.task != 0 ? far_key_find(step, &far_schema_row_task, &key, &task) : FAR_NOT_FOUND;
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
        if (rc == 0 && task.script_result.count > 0) {
            to->result = *(const struct far_sub_script_result *)task.script_result.items;
        }
    }
    return 0;
}

static void sum_up(const struct far_run *run, struct far_run_report *report)
{
    uint64_t end_ms = run->row.up_ms != 0 ? run->row.up_ms : report->step_count > 0 ? report->steps[report->step_count - 1].ended_ms : 0;
    uint64_t spent = 0;
    for (size_t i = 0; i < report->step_count; i++) {
        bool is_last = i + 1 == report->step_count;
        uint64_t pause = is_last ? 0 : less(report->steps[i + 1].begun_ms, report->steps[i].ended_ms);
        spent += report->steps[i].platform_ms + report->steps[i].waited_ms;
        report->steps[i].delay_ms = pause < report->steps[i].delay_ms ? pause : report->steps[i].delay_ms;
        spent += report->steps[i].delay_ms;
    }
    uint64_t ready_ms = disks_ready(run);
    report->total_ms = less(end_ms, run->row.begun_ms);
    report->disks_ms = less(ready_ms, report->disks_from_ms);
    report->fence_ms = run->row.prepared_ms != 0 ? less(run->row.prepared_ms, ready_ms) : 0;
    report->down_ms = run->row.off_ms != 0 ? less(end_ms, run->row.off_ms) : 0;
    uint64_t source_ms = less(report->disks_from_ms, run->row.begun_ms); /* a migration's cycles, and the shutdown */
    report->scripts_ms = scripts_time(run, ready_ms, end_ms);
    report->own_ms = less(report->total_ms, spent + report->fence_ms + source_ms + report->scripts_ms);
}

/* What the source told of its disks since. */
static int add_disks(struct far_step *step, const struct far_row_run_member *m, struct far_run_loss *loss)
{
    struct far_key key = far_key_id(&far_schema_row_run_lost_disk, m->job_id);
    struct far_row_run_lost_disk row;
    int rc;
    loss->disks = far_step_alloc(step, FAR_RUN_LOST_DISKS_MAX * sizeof *loss->disks);
    if (loss->disks == NULL) {
        return FAR_LIMIT;
    }
    while (loss->disk_count < FAR_RUN_LOST_DISKS_MAX && (rc = far_lost_disk_next(step, m->job_id, &key, &row)) != FAR_NOT_FOUND) {
        FAR_TRY(rc);
        if (row.workload_id == m->workload_id) {
            loss->disks[loss->disk_count++] = row;
            loss->lost_bytes += row.lost_bytes;
            loss->extent_count += row.extent_count;
        }
    }
    return 0;
}

static bool is_whole(const struct far_run_loss *loss)
{
    bool whole = loss->disk_count > 0;
    for (size_t i = 0; i < loss->disk_count; i++) {
        whole = whole && !loss->disks[i].skipped;
    }
    return whole;
}

/* What the source knows better than the estimate. */
static void correct(struct far_run_loss *loss)
{
    const struct far_row_run_lost *told = &loss->told;
    bool is_known = told->state == FAR_lost_state_compared && !told->has_run_since && is_whole(loss);
    if (told->state == FAR_lost_state_none) {
        loss->lost_ms = 0;
        loss->is_estimate = false;
    } else if (is_known && (loss->lost_bytes == 0 || told->written_ms > loss->frozen_at_ms)) {
        loss->until_ms = loss->lost_bytes == 0 ? loss->frozen_at_ms : told->written_ms;
        loss->lost_ms = less(loss->until_ms, loss->frozen_at_ms);
        loss->is_estimate = false;
    }
}

static int list_losses(struct far_step *step, const struct far_run *run, struct far_run_report *report)
{
    for (size_t i = 0; i < run->count; i++) {
        const struct far_row_run_member *m = &run->members[i];
        struct far_run_loss *loss = &report->losses[report->loss_count];
        if (m->point_id == 0) {
            continue;
        }
        /* what was written behind the freeze is lost up to when the source was off, as far as that is known, else to the begin */
        bool is_off = m->source == FAR_run_source_off && m->source_ms > run->row.begun_ms && run->row.kind == FAR_job_kind_failover;
        *loss = (struct far_run_loss){.workload_id = m->workload_id,
                                      .point_id = m->point_id,
                                      .frozen_at_ms = m->frozen_at_ms,
                                      .until_ms = is_off ? m->source_ms : run->row.begun_ms,
                                      .is_estimate = run->row.kind != FAR_job_kind_migration};
        loss->lost_ms = run->row.kind == FAR_job_kind_migration ? 0 : less(loss->until_ms, m->frozen_at_ms);
        FAR_TRY(far_lost_find(step, run->row.id, m->workload_id, &loss->told));
        FAR_TRY(loss->told.state == FAR_lost_state_compared ? add_disks(step, m, loss) : 0);
        correct(loss);
        report->worst_lost_ms = loss->lost_ms > report->worst_lost_ms ? loss->lost_ms : report->worst_lost_ms;
        report->loss_count++;
    }
    return 0;
}

static int report_on(struct far_step *step, uint64_t job_id, struct far_run_report *ret)
{
    struct far_run run;
    struct far_row_run row;
    FAR_TRY(far_run_find(step, job_id, &row));
    if (row.id == 0) {
        return far_reject(step, FAR_NOT_FOUND, "there is no run %llu", FAR_LLU(job_id));
    }
    FAR_TRY(far_run_load(step, job_id, &run));
    *ret = (struct far_run_report){.run = run.row,
                                   .steps = far_step_alloc(step, (run.count + 1) * sizeof *ret->steps),
                                   .losses = far_step_alloc(step, (run.count + 1) * sizeof *ret->losses)};
    if (ret->steps == NULL || ret->losses == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(list_losses(step, &run, ret));
    FAR_TRY(list_scripts(step, &run, ret));
    qsort(run.members, run.count, sizeof *run.members, by_order);
    for (size_t i = 0; i < run.count;) {
        i += add_position(&run.members[i], run.count - i, &ret->steps[ret->step_count]);
        ret->step_count += ret->steps[ret->step_count].begun_ms != 0;
    }
    for (size_t i = 0; i < run.count; i++) {
        uint64_t from = run.members[i].prepare_ms;
        ret->disks_from_ms = from != 0 && (ret->disks_from_ms == 0 || from < ret->disks_from_ms) ? from : ret->disks_from_ms;
    }
    sum_up(&run, ret);
    return 0;
}

int far_query_run_report(struct far_state *state, uint64_t job_id, struct far_arena *arena, struct far_run_report *ret,
                         struct far_error *err)
{
    struct far_error cause = {0};
    struct far_step step = {.state = state, .arena = arena, .err = &cause};
    int rc = report_on(&step, job_id, ret);
    if (rc != 0 && step.is_rejected) {
        return far_fail(err, rc, "%s", step.reject_message);
    }
    if (rc != 0 && err != NULL) {
        *err = cause;
    }
    return rc;
}
