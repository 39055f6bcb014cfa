/* Scripts of a plan: what becomes of an attempt to run one, and what a node is told of it. See script_task.h.
 *
 * An attempt that was lost with its node counts like one that failed: nobody knows what it did, and it may have done it all. So a script
 * begins once, and again at most as often as its retries say. What can never go well (another sum, no such file, a node that runs no
 * scripts) is not tried again. */
#include "fsm/script_task.h"

#include "fsm/run.h"

#include <stdio.h>

enum { ERROR_MAX = 400, SCRIPT_BACKOFF_MS = 1000 };

const struct far_sub_plan_script *far_script_of(const struct far_row_task *task)
{
    static const struct far_sub_plan_script none;
    return task->script.count > 0 ? task->script.items : &none;
}

static bool is_before(uint64_t phase)
{
    return phase == FAR_script_phase_before_cycle || phase == FAR_script_phase_before_recovery;
}

static bool is_of_cycle(uint64_t phase)
{
    return phase == FAR_script_phase_before_cycle || phase == FAR_script_phase_after_cycle;
}

/* At most max bytes, never half a character. */
static struct far_slice cut(struct far_slice text, size_t max)
{
    size_t len = text.len > max ? max : text.len;
    while (len > 0 && len < text.len && (text.data[len] & 0xc0) == 0x80) {
        len--;
    }
    text.len = len;
    return text;
}

/* "script 'quiesce' before the cycle of workload 'db': …" */
static int tell(struct far_step *step, const struct far_row_task *row, const char *message, struct far_slice *ret)
{
    const struct far_sub_plan_script *script = far_script_of(row);
    char text[2 * FAR_MESSAGE_MAX];
    int n = snprintf(text, sizeof text, "script '%.*s' %s the %s of %s%.*s%s: %s", FAR_TEXT(script->name),
                     is_before(script->phase) ? "before" : "after", is_of_cycle(script->phase) ? "cycle" : "recovery",
                     script->workload.len > 0 ? "workload '" : "the plan", FAR_TEXT(script->workload),
                     script->workload.len > 0 ? "'" : "", message);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    return far_step_copy(step, cut(far_slice(text, len), ERROR_MAX), ret);
}

int far_script_done(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item)
{
    return far_group_change(step, g, at,
                            (struct far_sub_task_change){.step = FAR_task_step_finish, .script_result = item->script_result});
}

/* An attempt came to nothing: the next one, or the end. */
static int again(struct far_step *step, struct far_group *g, size_t at, struct far_sub_task_change change, bool is_final)
{
    const struct far_row_task *row = &g->tasks[at];
    uint64_t retries = far_script_of(row)->retries;
    change.failures = row->failures + 1;
    if (is_final || g->job.cancel || change.failures > retries) {
        change.step = FAR_task_step_fail;
        return far_group_change(step, g, at, change);
    }
    uint64_t pause_ms = SCRIPT_BACKOFF_MS;
    for (uint64_t i = 1; i < change.failures && pause_ms < FAR_TASK_BACKOFF_MS_MAX; i++) {
        pause_ms *= 2;
    }
    change.step = FAR_task_step_retry;
    change.retry_ms = step->time_ms + (pause_ms < FAR_TASK_BACKOFF_MS_MAX ? pause_ms : (uint64_t)FAR_TASK_BACKOFF_MS_MAX);
    return far_group_again(step, g, at, change);
}

int far_script_failed(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item)
{
    struct far_sub_task_change change = {.error_class = item->error_class.len != 0 ? item->error_class : far_slice_str("io"),
                                         .script_result = item->script_result};
    char message[ERROR_MAX + 1];
    snprintf(message, sizeof message, "%.*s", FAR_TEXT(item->error_message));
    FAR_TRY(tell(step, &g->tasks[at], message, &change.error_message));
    return again(step, g, at, change, item->outcome == FAR_outcome_fatal);
}

int far_script_lost(struct far_step *step, struct far_group *g, size_t at)
{
    struct far_sub_task_change change = {.error_class = far_slice_str("timeout")};
    FAR_TRY(tell(step, &g->tasks[at], "the node that ran it was lost meanwhile: how far it came is not known", &change.error_message));
    return again(step, g, at, change, false);
}

/* ---- orders ---- */

static int fill_from_run(struct far_step *step, const struct far_row_job *job, const struct far_row_task *task,
                         struct far_sub_script_order *order)
{
    struct far_run *run = far_step_alloc(step, sizeof *run);
    bool is_whole = true;
    if (run == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_run_load(step, job->id, run));
    order->isolated = run->row.kind == FAR_job_kind_test_recovery;
    for (size_t i = 0; i < run->count; i++) {
        const struct far_row_run_member *m = &run->members[i];
        is_whole = is_whole && m->state == FAR_run_member_state_passed;
        if (task->workload_id != 0 && m->workload_id == task->workload_id) {
            order->machine = m->machine;
            order->address = m->address;
        }
    }
    bool is_after = far_script_of(task)->phase == FAR_script_phase_after_recovery;
    order->result = !is_after ? far_slice(NULL, 0) : far_slice_str(is_whole || task->workload_id != 0 ? "succeeded" : "partial");
    return 0;
}

int far_script_order(struct far_step *step, const struct far_row_job *job, const struct far_row_task *task, struct far_sub_order *order)
{
    struct far_sub_script_order *script = far_step_alloc(step, sizeof *script);
    const char *result = "";
    if (script == NULL) {
        return FAR_LIMIT;
    }
    *script = (struct far_sub_script_order){.script = task->script, .kind = job->kind};
    if (far_job_is_run(job->kind)) {
        FAR_TRY(fill_from_run(step, job, task, script));
    } else if (far_script_of(task)->phase == FAR_script_phase_after_cycle) {
        FAR_TRY(far_cycle_result(step, job, task->workload_id, &result));
        script->result = far_slice_str(result);
    }
    order->script = (struct far_list){.items = script, .count = 1};
    return 0;
}
