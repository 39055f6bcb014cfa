/* Groups: all tasks of one workload in one job, whose numbers follow each other. decide loads a group once, changes its
 * rows in memory by the same far_task_apply() that evolve uses, and collects the steps; many of them, also of several
 * groups of one job, become one event.
 *
 * The tasks of a replicated workload with disks 0, 1, …: freeze, seal, release, send 0, receive 0, send 1, receive 1, … */
#include "fsm/node_load.h"
#include "fsm/running.h"
#include "fsm/script_task.h"
#include "fsm/site_limit.h"
#include "fsm/vault_row.h"

#include <stdarg.h>
#include <stdio.h>

enum { CHANGES_BYTES_MAX = 96 * 1024, ERROR_MAX = 400 };

/* ---- what is collected ---- */

int far_changes_new(struct far_step *step, uint64_t job_id, struct far_changes **ret)
{
    struct far_changes *changes = far_step_alloc(step, sizeof *changes);
    if (changes == NULL) {
        return FAR_LIMIT;
    }
    changes->job_id = job_id;
    changes->capacity = 16;
    changes->items = far_step_alloc(step, changes->capacity * sizeof *changes->items);
    *ret = changes;
    return changes->items != NULL ? 0 : FAR_LIMIT;
}

/* The first one's job is the event's: who is of that names none. */
static void name_jobs(struct far_changes *changes)
{
    changes->job_id = changes->items[0].job_id;
    for (size_t i = 0; i < changes->count; i++) {
        changes->items[i].job_id = changes->items[i].job_id != changes->job_id ? changes->items[i].job_id : 0;
    }
}

int far_changes_flush(struct far_step *step, struct far_changes *changes)
{
    const struct far_ev_node_reported *report = changes->report;
    changes->report = NULL;
    if (changes->count == 0) {
        return report != NULL ? far_emit(step, &far_schema_ev_node_reported, report) : 0;
    }
    if (changes->is_mixed) {
        name_jobs(changes);
    }
    struct far_ev_tasks_changed ev = {.job_id = changes->job_id,
                                      .items = {.items = changes->items, .count = changes->count}};
    if (report != NULL) {
        ev.node_id = report->node_id;
        ev.sequence = report->sequence;
        ev.lease_until_ms = report->lease_until_ms;
    }
    for (size_t i = 0; i < changes->count && ev.lease_until_ms == 0; i++) {
        if (changes->items[i].step == FAR_task_step_assign) {
            FAR_TRY(far_lease_until(step, &ev.lease_until_ms));
        }
    }
    changes->count = 0;
    changes->bytes = 0;
    return far_emit(step, &far_schema_ev_tasks_changed, &ev);
}

/* A task that becomes ready and is assigned at once takes one step, not two. */
static bool merge(struct far_changes *changes, const struct far_sub_task_change *change)
{
    struct far_sub_task_change *last = NULL;
    for (size_t i = changes->count; i > 0 && last == NULL; i--) {
        bool is_same = changes->items[i - 1].task == change->task && changes->items[i - 1].job_id == change->job_id;
        last = is_same ? &changes->items[i - 1] : NULL;
    }
    if (last == NULL || last->step != FAR_task_step_ready || change->step != FAR_task_step_assign) {
        return false;
    }
    last->step = FAR_task_step_assign;
    last->node_id = change->node_id;
    last->boot = change->boot;
    return true;
}

static int collect(struct far_step *step, struct far_changes *changes, const struct far_sub_task_change *change)
{
    size_t bytes = 170 + change->identity.len + change->token.len + change->freeze_ref.len +
                   change->error_message.len + change->error_class.len + (change->machine_result.count > 0 ? 400 : 0) +
                   (change->script_result.count > 0 ? 1100 : 0);
    if (merge(changes, change)) {
        return 0;
    }
    if (changes->count == FAR_CHANGES_MAX || changes->bytes + bytes > CHANGES_BYTES_MAX) {
        FAR_TRY(far_changes_flush(step, changes));
    }
    if (changes->count == changes->capacity) {
        struct far_sub_task_change *items = far_step_alloc(step, 2 * changes->capacity * sizeof *items);
        if (items == NULL) {
            return FAR_LIMIT;
        }
        memcpy(items, changes->items, changes->count * sizeof *items);
        changes->items = items;
        changes->capacity *= 2;
    }
    changes->items[changes->count++] = *change;
    changes->bytes += bytes;
    return 0;
}

/* ---- loading ---- */

uint64_t far_group_first(const struct far_row_task *task)
{
    switch (task->kind) {
    case FAR_task_kind_seal:
        return task->task - FAR_AT_SEAL;
    case FAR_task_kind_release:
        return task->task - FAR_AT_RELEASE;
    case FAR_task_kind_send:
        return task->task - far_at_send((size_t)task->disk_index);
    case FAR_task_kind_receive:
        return task->task - far_at_receive((size_t)task->disk_index);
    case FAR_task_kind_leaves:
        return task->task - 1;
    case FAR_task_kind_restore:
    case FAR_task_kind_verify:
        return task->task - task->disk_index;
    default:
        return task->task;
    }
}

/* One that goes with no other, whatever else the job does for its workload. */
static bool is_single(uint64_t kind)
{
    return kind == FAR_task_kind_forget || kind == FAR_task_kind_lock || kind == FAR_task_kind_use || kind == FAR_task_kind_script ||
           far_task_of_vault(kind);
}

static int load_rows(struct far_step *step, struct far_group *g, uint64_t first, size_t max)
{
    struct far_key key = far_key_part(&far_schema_row_task, g->job.id, first);
    struct far_row_task row;
    int rc;
    g->tasks = far_step_alloc(step, FAR_GROUP_TASKS_MAX * sizeof *g->tasks);
    if (g->tasks == NULL) {
        return FAR_LIMIT;
    }
    g->was_over = true;
    for (;;) {
        rc = g->count < max ? far_next(step, &far_schema_row_task, &key, NULL, &row) : FAR_NOT_FOUND;
        if (rc == FAR_NOT_FOUND || (rc == 0 && (row.job_id != g->job.id || row.workload_id != g->workload_id))) {
            return 0;
        }
        FAR_TRY(rc);
        if (row.task != first + g->count) {
            return far_reject(step, FAR_INTERNAL, "broken: job %llu has no task %llu", FAR_LLU(g->job.id),
                              FAR_LLU(first + g->count));
        }
        g->was_over = g->was_over && far_task_over(&row);
        g->tasks[g->count++] = row;
    }
}

int far_group_load(struct far_step *step, const struct far_row_task *task, struct far_changes *changes,
                   struct far_group **ret_group)
{
    struct far_group *g = far_step_alloc(step, sizeof *g);
    if (g == NULL) {
        return FAR_LIMIT;
    }
    g->changes = changes;
    g->workload_id = task->workload_id;
    FAR_TRY(far_row_need(step, &far_schema_row_job, task->job_id, &g->job));
    int rc = far_row_find(step, &far_schema_row_workload, task->workload_id, &g->workload);
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    if (g->job.kind == FAR_job_kind_replicate) {
        FAR_TRY(far_row_need(step, &far_schema_row_plan, g->job.plan_id, &g->plan));
        bool is_there = rc == 0 || task->kind == FAR_task_kind_script;
        FAR_TRY(is_there ? 0 : far_reject(step, FAR_INTERNAL, "broken: there is no workload %llu",
                                         FAR_LLU(task->workload_id)));
    }
    bool alone = is_single(task->kind) || far_job_is_run(g->job.kind);
    FAR_TRY(load_rows(step, g, alone ? task->task : far_group_first(task), alone ? 1 : FAR_GROUP_TASKS_MAX));
    bool is_copy = g->job.kind == FAR_job_kind_replicate && task->kind != FAR_task_kind_script;
    if (is_copy && g->count != FAR_AT_PAIRS + 2 * (size_t)g->workload.disk_count) {
        return far_reject(step, FAR_INTERNAL, "broken: workload %llu has %zu tasks in job %llu",
                          FAR_LLU(g->workload_id), g->count, FAR_LLU(g->job.id));
    }
    *ret_group = g;
    return 0;
}

/* ---- steps ---- */

/* The node has one task less. What was left of one that ran is not looked up: little, or the node is gone. */
static int let_go(struct far_step *step, const struct far_row_task *row)
{
    struct far_candidate *node;
    struct far_row_node holder;
    FAR_TRY(far_candidate_node(step, row->node_id, &node));
    int rc = far_row_find(step, &far_schema_row_node, row->node_id, &holder);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    if (rc == 0) {
        far_site_slot_take(step, holder.site_id, row, false);
    }
    if (node == NULL || node->held == 0) {
        return 0;
    }
    uint64_t todo = far_task_runs(row) ? 0 : far_task_todo(row), receiving = far_task_receiving(row);
    node->held--;
    node->todo_bytes -= todo < node->todo_bytes ? todo : node->todo_bytes;
    node->receiving_bytes -= receiving < node->receiving_bytes ? receiving : node->receiving_bytes;
    return 0;
}

int far_group_change(struct far_step *step, struct far_group *g, size_t at, struct far_sub_task_change change)
{
    struct far_row_task *row = &g->tasks[at], before = *row;
    uint64_t lease_until_ms = 0;
    change.task = row->task;
    change.job_id = g->changes->is_mixed ? row->job_id : 0;
    if (change.step == FAR_task_step_assign) {
        FAR_TRY(far_lease_until(step, &lease_until_ms));
    }
    FAR_TRY(far_task_apply(step, row, &change, lease_until_ms));
    if (far_task_held(&before) && !far_task_held(row)) {
        FAR_TRY(let_go(step, &before));
    }
    bool is_turn = row->kind == FAR_task_kind_seal || row->kind == FAR_task_kind_script;
    g->looks_around = g->looks_around || (g->job.script_count > 0 && is_turn && far_task_over(row));
    return collect(step, g->changes, &change);
}

int far_group_step(struct far_step *step, struct far_group *g, size_t at, uint64_t step_kind)
{
    return far_group_change(step, g, at, (struct far_sub_task_change){.step = step_kind});
}

int far_group_assign(struct far_step *step, struct far_group *g, size_t at, struct far_candidate *node)
{
    FAR_TRY(far_group_change(step, g, at,
                             (struct far_sub_task_change){
                                 .step = FAR_task_step_assign, .node_id = node->node_id, .boot = node->boot}));
    far_candidate_add(step, node, &g->tasks[at]);
    return 0;
}

/* At most max bytes, never half a character. */
static struct far_slice cut(struct far_slice text, size_t max)
{
    if (text.len > max) {
        text.len = max;
        while (text.len > 0 && (text.data[text.len] & 0xc0) == 0x80) {
            text.len--;
        }
    }
    return text;
}

/* "workload 'web', disk 'root': " in front of the message. */
static int describe(struct far_step *step, const struct far_group *g, size_t at, const char *message,
                    struct far_slice *ret_text)
{
    const struct far_row_task *row = &g->tasks[at];
    struct far_row_disk disk = {.name = {0}};
    char text[2 * FAR_MESSAGE_MAX];
    bool is_disk = row->kind == FAR_task_kind_send || row->kind == FAR_task_kind_receive ||
                   row->kind == FAR_task_kind_restore || row->kind == FAR_task_kind_verify;
    if (is_disk) {
        struct far_key key = far_key_part(&far_schema_row_disk, g->workload_id, row->disk_index);
        int rc = far_key_find(step, &far_schema_row_disk, &key, &disk);
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    }
    struct far_row_node node = {.id = 0};
    int found = row->vault_node_id != 0 ? far_row_find(step, &far_schema_row_node, row->vault_node_id, &node) : 0;
    FAR_TRY(found == FAR_NOT_FOUND ? 0 : found);
    int n = node.id != 0 ? snprintf(text, sizeof text, "the vault of node '%.*s': %s", FAR_TEXT(node.name), message)
            : disk.name.len > 0 ? snprintf(text, sizeof text, "workload '%.*s', disk '%.*s': %s",
                                         FAR_TEXT(g->workload.name), FAR_TEXT(disk.name), message)
                              : snprintf(text, sizeof text, "workload '%.*s': %s", FAR_TEXT(g->workload.name), message);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    return far_step_copy(step, cut(far_slice(text, len), ERROR_MAX), ret_text);
}

static int fail_with(struct far_step *step, struct far_group *g, size_t at, struct far_slice klass,
                     const char *message, uint64_t failures)
{
    struct far_sub_task_change change = {.step = FAR_task_step_fail, .error_class = klass, .failures = failures};
    FAR_TRY(describe(step, g, at, message, &change.error_message));
    return far_group_change(step, g, at, change);
}

int far_group_fail(struct far_step *step, struct far_group *g, size_t at, int klass, const char *format, ...)
{
    char message[FAR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return fail_with(step, g, at, far_slice_str(far_class_info(klass)->name), message, 0);
}

static bool is_pair(const struct far_row_task *row)
{
    return row->kind == FAR_task_kind_send || row->kind == FAR_task_kind_receive || row->kind == FAR_task_kind_compare ||
           row->kind == FAR_task_kind_leaves;
}

static size_t peer_of(const struct far_row_task *row)
{
    size_t disk = (size_t)row->disk_index;
    if (row->kind == FAR_task_kind_compare || row->kind == FAR_task_kind_leaves) { /* two of them, side by side */
        return row->kind == FAR_task_kind_compare;
    }
    return row->kind == FAR_task_kind_send ? far_at_receive(disk) : far_at_send(disk);
}

int far_group_again(struct far_step *step, struct far_group *g, size_t at, struct far_sub_task_change change)
{
    change.attempt = g->tasks[at].attempt + 1;
    FAR_TRY(far_group_change(step, g, at, change));
    if (!is_pair(&g->tasks[at])) {
        return 0;
    }
    return far_group_change(step, g, peer_of(&g->tasks[at]),
                            (struct far_sub_task_change){
                                .step = FAR_task_step_redo, .attempt = change.attempt, .retry_ms = change.retry_ms});
}

/* ---- a failed attempt ---- */

static bool is_final(const struct far_sub_report_item *item)
{
    static const char *const classes[] = {"invalid", "denied", "conflict", "not_found", "corrupt"};
    if (item->outcome == FAR_outcome_fatal) {
        return true;
    }
    if (item->outcome > FAR_outcome_ok) {
        return false;
    }
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        if (far_slice_equal(item->error_class, far_slice_str(classes[i]))) {
            return true;
        }
    }
    return false;
}

int far_group_failed(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item)
{
    const struct far_row_task *row = &g->tasks[at];
    if (row->kind == FAR_task_kind_script) {
        return far_script_failed(step, g, at, item);
    }
    uint64_t failures = row->failures + 1;
    struct far_slice klass = item->error_class.len != 0 ? item->error_class : far_slice_str("io");
    char message[ERROR_MAX + 64];
    bool is_tired = failures >= FAR_TASK_FAILURES_MAX && !is_final(item);
    bool is_asked = row->operation == FAR_machine_operation_gate; /* a person says whether it is waited for again */
    snprintf(message, sizeof message, "%.*s%s", FAR_TEXT(item->error_message),
             is_tired ? " (given up after 10 failed attempts)" : "");
    if (is_final(item) || is_tired || is_asked) {
        return fail_with(step, g, at, klass, message, failures);
    }
    uint64_t pause_ms = FAR_TASK_BACKOFF_MS;
    for (uint64_t i = 1; i < failures && pause_ms < FAR_TASK_BACKOFF_MS_MAX; i++) {
        pause_ms *= 2;
    }
    pause_ms = pause_ms < FAR_TASK_BACKOFF_MS_MAX ? pause_ms : FAR_TASK_BACKOFF_MS_MAX;
    struct far_sub_task_change change = {.step = FAR_task_step_retry,
                                         .failures = failures,
                                         .retry_ms = step->time_ms + pause_ms,
                                         .error_class = klass};
    FAR_TRY(describe(step, g, at, message, &change.error_message));
    return far_group_again(step, g, at, change);
}
