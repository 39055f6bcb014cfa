/* Tasks: one step of a job, done by one node. The table says what may happen to one; every change goes through
 * far_task_apply(), in decide on a copy and in evolve on the row, so the two cannot disagree. store() keeps in step what
 * hangs on a row: what its node holds, its deadlines, the list of ready tasks, the job's counters.
 *
 * attempt is the number of the current or the next try: 1 at first, one more whenever a try ends without success. A send
 * and its receive find each other by (job, disk) and always have the same attempt: whoever loses or fails its own begins
 * the next one for both, also when the other was done. */
#include "fsm/task.h"

#include "fsm/figures.h"
#include "fsm/node_load.h"
#include "fsm/run.h"
#include "fsm/running.h"
#include "fsm/site_limit.h"
#include "fsm/vault_row.h"

enum { ABSENT, WAITING, READY, ASSIGNED, RUNNING, DONE, FAILED, CANCELED };
enum { CREATE, MAKE_READY, ASSIGN, START, FINISH, RETRY, LOSE, REDO, SUSPEND, FAIL, CANCEL };
static const char *const states[] = {"absent",  "waiting", "ready",  "assigned",
                                     "running", "done",    "failed", "canceled"};
static const char *const inputs[] = {"create", "ready", "assign",  "start", "finish", "retry",
                                     "lose",   "redo",  "suspend", "fail",  "cancel"};
#define GONE FAR_REJECT(FAR_INTERNAL, "does not exist")
#define TAKEN FAR_REJECT(FAR_INTERNAL, "exists already")
#define UNHELD FAR_REJECT(FAR_INTERNAL, "is held by no node")
#define HELD FAR_REJECT(FAR_INTERNAL, "is held by a node already")
#define UNDONE FAR_REJECT(FAR_INTERNAL, "has not begun")
#define IS_DONE FAR_REJECT(FAR_CONFLICT, "is done")
#define OVER FAR_REJECT(FAR_CONFLICT, "is over")
static const struct far_cell cells[8][11] = {
    [ABSENT] = {[CREATE] = FAR_MOVE(WAITING), [MAKE_READY] = GONE, [ASSIGN] = GONE, [START] = GONE, [FINISH] = GONE,
                [RETRY] = GONE, [LOSE] = GONE, [REDO] = GONE, [SUSPEND] = GONE, [FAIL] = GONE, [CANCEL] = GONE},
    [WAITING] = {[CREATE] = TAKEN, [MAKE_READY] = FAR_MOVE(READY), [ASSIGN] = FAR_MOVE(ASSIGNED), [START] = UNHELD,
                 [FINISH] = UNHELD, [RETRY] = UNHELD, [LOSE] = UNHELD, [REDO] = UNDONE, [SUSPEND] = UNDONE,
                 [FAIL] = UNDONE, [CANCEL] = FAR_MOVE(CANCELED)},
    [READY] = {[CREATE] = TAKEN, [MAKE_READY] = FAR_MOVE(READY), [ASSIGN] = FAR_MOVE(ASSIGNED), [START] = UNHELD,
               [FINISH] = UNHELD, [RETRY] = UNHELD, [LOSE] = UNHELD, [REDO] = FAR_MOVE(READY),
               [SUSPEND] = FAR_MOVE(WAITING), [FAIL] = FAR_MOVE(FAILED), [CANCEL] = FAR_MOVE(CANCELED)},
    [ASSIGNED] = {[CREATE] = TAKEN, [MAKE_READY] = HELD, [ASSIGN] = HELD, [START] = FAR_MOVE(RUNNING),
                  [FINISH] = FAR_MOVE(DONE), [RETRY] = FAR_MOVE(READY), [LOSE] = FAR_MOVE(READY),
                  [REDO] = FAR_MOVE(READY), [SUSPEND] = FAR_MOVE(WAITING), [FAIL] = FAR_MOVE(FAILED),
                  [CANCEL] = FAR_MOVE(CANCELED)},
    [RUNNING] = {[CREATE] = TAKEN, [MAKE_READY] = HELD, [ASSIGN] = HELD, [START] = FAR_MOVE(RUNNING),
                 [FINISH] = FAR_MOVE(DONE), [RETRY] = FAR_MOVE(READY), [LOSE] = FAR_MOVE(READY),
                 [REDO] = FAR_MOVE(READY), [SUSPEND] = FAR_MOVE(WAITING), [FAIL] = FAR_MOVE(FAILED),
                 [CANCEL] = FAR_MOVE(CANCELED)},
    [DONE] = {[CREATE] = TAKEN, [MAKE_READY] = IS_DONE, [ASSIGN] = IS_DONE, [START] = IS_DONE, [FINISH] = IS_DONE,
              [RETRY] = IS_DONE, [LOSE] = IS_DONE, [REDO] = FAR_MOVE(READY), [SUSPEND] = FAR_MOVE(WAITING),
              [FAIL] = IS_DONE, [CANCEL] = IS_DONE},
    [FAILED] = {[CREATE] = TAKEN, [MAKE_READY] = OVER, [ASSIGN] = OVER, [START] = OVER, [FINISH] = OVER,
                [RETRY] = OVER, [LOSE] = OVER, [REDO] = OVER, [SUSPEND] = OVER, [FAIL] = OVER, [CANCEL] = OVER},
    [CANCELED] = {[CREATE] = TAKEN, [MAKE_READY] = OVER, [ASSIGN] = OVER, [START] = OVER, [FINISH] = OVER,
                  [RETRY] = OVER, [LOSE] = OVER, [REDO] = OVER, [SUSPEND] = OVER, [FAIL] = OVER, [CANCEL] = OVER},
};
const struct far_table far_table_task = FAR_TABLE("task", states, inputs, cells);

/* ---- one step of one row ---- */

/* What an attempt found out goes with it. */
static void forget_attempt(struct far_row_task *row, const struct far_sub_task_change *change)
{
    row->attempt = change->attempt;
    row->retry_ms = change->retry_ms;
    row->lease_until_ms = 0;
    row->bytes_total = row->bytes_done = row->bytes_changed = row->bytes_sent = 0;
    row->root = row->freeze_ref = far_slice(NULL, 0);
    row->fuzzy = row->full = row->survives = row->shared = false;
    row->frozen_at_ms = 0;
    row->hashed_bytes = row->audit_passed_blocks = row->missed_block_count = row->duration_ms = 0;
    row->bytes_read = row->bytes_zero = row->bytes_known = row->bytes_wanted = 0;
    if (row->state == FAR_task_state_done) {
        row->finished_ms = 0;
    }
    if (change->failures != 0) {
        row->failures = change->failures;
        row->error_class = change->error_class;
        row->error_message = change->error_message;
    }
}

static void keep_figures(struct far_row_task *row, const struct far_list *figures)
{
    const struct far_sub_figures *said = figures->items;
    if (figures->count > 0) {
        row->bytes_read = said->bytes_read;
        row->bytes_zero = said->bytes_zero;
        row->bytes_known = said->bytes_known;
        row->bytes_wanted = said->bytes_wanted;
    }
}

static void keep_results(struct far_row_task *row, const struct far_sub_task_change *change)
{
    row->bytes_total = change->bytes_total;
    row->bytes_done = change->bytes_done;
    row->bytes_changed = change->bytes_changed;
    row->bytes_sent = change->bytes_sent;
    row->root = change->root;
    row->freeze_ref = change->freeze_ref;
    row->fuzzy = change->fuzzy;
    row->full = change->full;
    row->frozen_at_ms = change->frozen_at_ms;
    row->survives = change->survives;
    row->shared = change->shared;
    row->hashed_bytes = change->hashed_bytes;
    row->audit_passed_blocks = change->audit_passed_blocks;
    row->missed_block_count = change->missed_block_count;
    row->duration_ms = change->duration_ms;
    keep_figures(row, &change->figures);
    row->error_class = row->error_message = far_slice(NULL, 0);
}

static void take_found(struct far_row_task *row, const struct far_sub_task_change *change)
{
    if (change->size_bytes != 0) {
        row->size_bytes = change->size_bytes;
        row->identity = change->identity;
        row->token = change->token;
    }
}

static void end(struct far_step *step, struct far_row_task *row)
{
    row->lease_until_ms = 0;
    row->retry_ms = 0;
    row->finished_ms = step->time_ms;
}

int far_task_apply(struct far_step *step, struct far_row_task *row, const struct far_sub_task_change *change,
                   uint64_t lease_until_ms)
{
    unsigned next;
    FAR_TRY(far_move_id(step, &far_table_task, (size_t)row->state, (size_t)change->step, change->task, &next));
    switch (change->step) {
    case FAR_task_step_ready:
        row->retry_ms = 0;
        take_found(row, change);
        break;
    case FAR_task_step_assign:
        row->retry_ms = 0;
        take_found(row, change);
        row->node_id = change->node_id;
        row->boot = change->boot;
        row->lease_until_ms = lease_until_ms;
        row->freeze_ref = change->freeze_ref.len != 0 ? change->freeze_ref : row->freeze_ref;
        row->started_ms = row->started_ms != 0 ? row->started_ms : step->time_ms;
        break;
    case FAR_task_step_finish:
        keep_results(row, change);
        row->script_result = change->script_result;
        end(step, row);
        break;
    case FAR_task_step_retry:
    case FAR_task_step_lose:
    case FAR_task_step_redo:
    case FAR_task_step_suspend:
        forget_attempt(row, change);
        row->script_result = change->script_result;
        break;
    case FAR_task_step_fail:
        row->script_result = change->script_result;
        row->error_class = change->error_class;
        row->error_message = change->error_message;
        row->failures = change->failures != 0 ? change->failures : row->failures;
        end(step, row);
        break;
    case FAR_task_step_cancel:
        end(step, row);
        break;
    default:
        break;
    }
    row->state = next;
    return 0;
}

/* ---- rows and what hangs on them ---- */

static struct far_key node_task_key(const struct far_row_task *row)
{
    struct far_key key = far_key_pair(&far_schema_row_node_task, row->node_id, row->job_id);
    far_key_u32(&key, (uint32_t)row->task);
    return key;
}

static int hold(struct far_step *step, const struct far_row_task *row, bool is_held)
{
    struct far_row_node node;
    struct far_row_node_task held = {.attempt = row->attempt};
    struct far_key key = node_task_key(row);
    FAR_TRY(far_row_need(step, &far_schema_row_node, row->node_id, &node));
    FAR_TRY(!is_held && far_task_runs(row) ? far_running_drop(step, &node, row->job_id, row->task) : 0);
    FAR_TRY(!is_held ? far_figures_drop(step, row->node_id, row) : 0);
    FAR_TRY(is_held ? far_key_put(step, &far_schema_row_node_task, &key, &held)
                    : far_key_del(step, &far_schema_row_node_task, &key));
    if (!is_held && node.task_count == 0) {
        return far_reject(step, FAR_INTERNAL, "broken: node %llu holds no task", FAR_LLU(node.id));
    }
    node.task_count = is_held ? node.task_count + 1 : node.task_count - 1;
    FAR_TRY(far_node_load_hold(step, &node, row, is_held));
    FAR_TRY(far_row_put(step, &far_schema_row_node, node.id, &node));
    return !is_held && far_slot_of(row) != FAR_SLOT_NONE ? far_slots_wake(step, node.site_id) : 0;
}

static int list_ready(struct far_step *step, struct far_row_task *row, bool is_ready)
{
    struct far_row_task_ready ready;
    struct far_key key = far_key_part(&far_schema_row_task_ready, row->job_id, row->task);
    FAR_TRY(far_slot_queue(step, row, is_ready));
    return is_ready ? far_key_put(step, &far_schema_row_task_ready, &key, &ready)
                    : far_key_del(step, &far_schema_row_task_ready, &key);
}

static uint64_t retry_of(const struct far_row_task *row)
{
    return row->state == FAR_task_state_ready ? row->retry_ms : 0;
}

/* old is all zero for a new task. */
static int store(struct far_step *step, const struct far_row_task *old, struct far_row_task *row)
{
    bool is_moved = old->node_id != row->node_id;
    if (far_task_held(old) && (!far_task_held(row) || is_moved)) {
        FAR_TRY(hold(step, old, false));
    }
    if (far_task_held(row) && (!far_task_held(old) || is_moved)) {
        FAR_TRY(hold(step, row, true));
    }
    if (far_task_assignable(old) != far_task_assignable(row)) {
        FAR_TRY(list_ready(step, row, far_task_assignable(row)));
    }
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_task_lease, row->job_id, row->task, old->lease_until_ms,
                              row->lease_until_ms));
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_task_retry, row->job_id, row->task, retry_of(old),
                              retry_of(row)));
    struct far_key key = far_key_part(&far_schema_row_task, row->job_id, row->task);
    return far_key_put(step, &far_schema_row_task, &key, row);
}

/* ---- the job's counters ---- */

static bool moves_data(uint64_t kind)
{
    return kind == FAR_task_kind_send || kind == FAR_task_kind_restore || kind == FAR_task_kind_verify || kind == FAR_task_kind_use;
}

/* Totals are sums over the tasks that move data. What was sent stays counted when an attempt is given up. */
static void count(struct far_row_job *job, const struct far_row_task *old, const struct far_row_task *row)
{
    job->tasks_done += (row->state == FAR_task_state_done) - (uint64_t)(old->state == FAR_task_state_done);
    job->tasks_failed += (row->state == FAR_task_state_failed) - (uint64_t)(old->state == FAR_task_state_failed);
    job->tasks_canceled += (row->state == FAR_task_state_canceled) - (uint64_t)(old->state == FAR_task_state_canceled);
    if (moves_data(row->kind)) {
        job->bytes_total += row->bytes_total - old->bytes_total;
        job->bytes_done += row->bytes_done - old->bytes_done;
        job->bytes_changed += row->bytes_changed - old->bytes_changed;
        job->bytes_sent += row->bytes_sent > old->bytes_sent ? row->bytes_sent - old->bytes_sent : 0;
        job->bytes_read += row->bytes_read - old->bytes_read;
        job->bytes_zero += row->bytes_zero - old->bytes_zero;
        job->bytes_known += row->bytes_known - old->bytes_known;
        job->bytes_wanted += row->bytes_wanted - old->bytes_wanted;
    }
}

/* The job shows the first failure that matters: a view that could not be released costs nothing that was proven. */
static void show_error(struct far_row_job *job, const struct far_row_task *row)
{
    if (row->state == FAR_task_state_failed && job->error_class.len == 0 && row->kind != FAR_task_kind_release) {
        job->error_class = row->error_class;
        job->error_message = row->error_message;
    }
}

/* ---- events ---- */

static int create_one(struct far_step *step, struct far_row_job *job, uint64_t task, uint64_t lease_until_ms,
                      const struct far_sub_task_new *item)
{
    struct far_row_task old, row = {.job_id = job->id,
                                    .task = task,
                                    .kind = item->kind,
                                    .state = item->ready ? FAR_task_state_ready : FAR_task_state_waiting,
                                    .attempt = 1,
                                    .workload_id = item->workload_id,
                                    .disk_index = item->disk_index,
                                    .point_id = item->point_id,
                                    .target_path = item->target_path,
                                    .size_bytes = item->size_bytes,
                                    .vault_node_id = item->vault_node_id,
                                    .operation = item->operation,
                                    .script = item->script};
    struct far_key key = far_key_part(&far_schema_row_task, job->id, task);
    int rc = far_key_find(step, &far_schema_row_task, &key, &old);
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    FAR_TRY(far_move_id(step, &far_table_task, rc == 0 ? (size_t)old.state : ABSENT, CREATE, task, NULL));
    if (item->node_id != 0) {
        struct far_sub_task_change assign = {
            .task = task, .step = FAR_task_step_assign, .node_id = item->node_id, .boot = item->boot};
        FAR_TRY(far_task_apply(step, &row, &assign, lease_until_ms));
    }
    if (item->kind == FAR_task_kind_seal) {
        far_id_used(step, item->point_id);
    }
    FAR_TRY(item->kind == FAR_task_kind_reclaim ? far_vault_row_reclaiming(step, item->vault_node_id, job->id, true) : 0);
    FAR_TRY(item->kind == FAR_task_kind_scrub ? far_scrub_running(step, item->vault_node_id, job->id, true) : 0);
    FAR_TRY(far_job_is_run(job->kind) ? far_run_task_made(step, job, item) : 0);
    old = (struct far_row_task){.task = 0};
    job->task_count++;
    job->script_count += item->kind == FAR_task_kind_script && job->kind == FAR_job_kind_replicate;
    return store(step, &old, &row);
}

int far_evolve_tasks_created(struct far_step *step, const struct far_ev_tasks_created *ev)
{
    const struct far_sub_task_new *items = ev->items.items;
    struct far_row_job job;
    FAR_TRY(far_job_open(step, ev->job_id, &job));
    if (ev->first_task > job.task_count + 1) {
        return far_reject(step, FAR_INTERNAL, "broken: task %llu of job %llu is not the next", FAR_LLU(ev->first_task),
                          FAR_LLU(ev->job_id));
    }
    for (size_t i = 0; i < ev->items.count; i++) {
        FAR_TRY(create_one(step, &job, ev->first_task + i, ev->lease_until_ms, &items[i]));
    }
    job.next_workload_id = ev->next_workload_id;
    return far_job_wake_at(step, &job, ev->wake_ms != 0               ? ev->wake_ms
                                       : ev->next_workload_id != 0 ? step->time_ms + 1
                                                                   : job.wake_ms);
}

/* Who froze a workload may remember what its disks held. */
static int note_source(struct far_step *step, const struct far_row_task *row, uint64_t step_kind)
{
    struct far_row_workload workload;
    bool spreads;
    FAR_TRY(far_level_spreads(step, &spreads));
    if (!spreads || row->kind != FAR_task_kind_freeze || step_kind != FAR_task_step_finish) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_workload, row->workload_id, &workload));
    if (workload.source_node_id == row->node_id) {
        return 0;
    }
    workload.source_node_id = row->node_id;
    return far_row_put(step, &far_schema_row_workload, workload.id, &workload);
}

static int change_one(struct far_step *step, struct far_row_job *job, const struct far_sub_task_change *change, uint64_t lease_until_ms)
{
    struct far_row_task row;
    struct far_key key = far_key_part(&far_schema_row_task, job->id, change->task);
    int rc = far_key_find(step, &far_schema_row_task, &key, &row);
    if (rc == FAR_NOT_FOUND) {
        return far_move_id(step, &far_table_task, ABSENT, (size_t)change->step, change->task, NULL);
    }
    FAR_TRY(rc);
    FAR_TRY(far_running_show(step, &row, NULL));
    struct far_row_task old = row;
    FAR_TRY(far_task_apply(step, &row, change, lease_until_ms));
    FAR_TRY(store(step, &old, &row));
    FAR_TRY(note_source(step, &row, change->step));
    bool ends = far_task_over(&row) && !far_task_over(&old);
    FAR_TRY(ends && row.kind == FAR_task_kind_reclaim ? far_vault_row_reclaiming(step, row.vault_node_id, job->id, false) : 0);
    FAR_TRY(ends && row.kind == FAR_task_kind_scrub ? far_scrub_running(step, row.vault_node_id, job->id, false) : 0);
    FAR_TRY(ends && far_job_is_run(job->kind) ? far_run_task_over(step, job, &row, change) : 0);
    count(job, &old, &row);
    show_error(job, &row);
    return 0;
}

int far_evolve_tasks_changed(struct far_step *step, const struct far_ev_tasks_changed *ev)
{
    const struct far_sub_task_change *items = ev->items.items;
    struct far_ev_node_reported said = {.node_id = ev->node_id, .sequence = ev->sequence, .lease_until_ms = ev->lease_until_ms};
    struct far_row_job job;
    FAR_TRY(ev->node_id != 0 ? far_node_heard(step, &said) : 0);
    FAR_TRY(far_job_open(step, ev->job_id, &job));
    for (size_t i = 0; i < ev->items.count; i++) {
        uint64_t job_id = items[i].job_id != 0 ? items[i].job_id : ev->job_id;
        if (job_id != job.id) {
            FAR_TRY(far_row_put(step, &far_schema_row_job, job.id, &job));
            FAR_TRY(far_job_open(step, job_id, &job));
        }
        FAR_TRY(change_one(step, &job, &items[i], ev->lease_until_ms));
    }
    return far_row_put(step, &far_schema_row_job, job.id, &job);
}

/* The node's row is put by the caller of far_task_samples(). */
static int sample_one(struct far_step *step, struct far_row_node *node, struct far_figures *figures,
                      const struct far_sub_sample *sample, uint64_t lease_until_ms)
{
    bool spreads;
    struct far_row_task row;
    struct far_row_job job;
    struct far_key key = far_key_part(&far_schema_row_task, sample->job_id, sample->task);
    FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &row));
    FAR_TRY(far_row_need(step, &far_schema_row_job, sample->job_id, &job));
    FAR_TRY(far_level_spreads(step, &spreads));
    if (row.node_id != node->id) {
        return far_reject(step, FAR_INTERNAL, "broken: node %llu does not hold task %llu", FAR_LLU(node->id),
                          FAR_LLU(sample->task));
    }
    struct far_row_task old = row;
    struct far_sub_task_change start = {.task = sample->task, .step = FAR_task_step_start};
    FAR_TRY(far_task_apply(step, &row, &start, 0));
    row.bytes_total = sample->bytes_total;
    row.bytes_done = sample->bytes_done;
    row.bytes_changed = sample->bytes_changed;
    row.bytes_sent = sample->bytes_sent;
    row.lease_until_ms = lease_until_ms;
    if (spreads) {
        far_node_load_progress(node, far_task_todo(&old), far_task_todo(&row));
    }
    FAR_TRY(sample->figures.count > 0 ? far_figures_take(step, figures, node->id, sample, old.bytes_done, old.bytes_sent) : 0);
    FAR_TRY(store(step, &old, &row));
    count(&job, &old, &row);
    return far_row_put(step, &far_schema_row_job, job.id, &job);
}

/* From its first report on the node keeps a task's bytes and lease. */
static int begin_to_run(struct far_step *step, struct far_running *running, const struct far_sub_sample *sample)
{
    struct far_row_task row;
    struct far_key key = far_key_part(&far_schema_row_task, sample->job_id, sample->task);
    FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &row));
    if (row.node_id != running->node_id || far_task_runs(&row)) {
        return far_reject(step, FAR_INTERNAL, "broken: node %llu does not hold task %llu", FAR_LLU(running->node_id),
                          FAR_LLU(sample->task));
    }
    struct far_row_task old = row;
    struct far_sub_task_change start = {.task = sample->task, .step = FAR_task_step_start};
    FAR_TRY(far_task_apply(step, &row, &start, 0));
    struct far_sub_running_task task = {.job_id = row.job_id,
                                        .task = row.task,
                                        .kind = row.kind,
                                        .attempt = row.attempt,
                                        .boot = row.boot,
                                        .bytes_total = row.bytes_total,
                                        .bytes_done = row.bytes_done,
                                        .bytes_changed = row.bytes_changed,
                                        .bytes_sent = row.bytes_sent};
    far_running_add(running, &task);
    row.lease_until_ms = 0;
    row.bytes_total = row.bytes_done = row.bytes_changed = row.bytes_sent = 0;
    return store(step, &old, &row);
}

/* The node and the job whose samples are being taken; they come job by job. */
struct counted {
    struct far_row_node *node; /* put by the caller of far_task_samples() */
    bool spreads;              /* what it has to do is counted */
    struct far_row_job job;    /* id 0: none */
    struct far_figures figures;
};

static int put_counted(struct far_step *step, struct counted *counted)
{
    uint64_t id = counted->job.id;
    return id != 0 ? far_row_put(step, &far_schema_row_job, id, &counted->job) : 0;
}

static int count_sample(struct far_step *step, struct counted *counted, const struct far_sub_running_task *task,
                        const struct far_sub_sample *sample)
{
    if (!moves_data(task->kind)) {
        return 0;
    }
    if (counted->job.id != sample->job_id) {
        FAR_TRY(put_counted(step, counted));
        FAR_TRY(far_row_need(step, &far_schema_row_job, sample->job_id, &counted->job));
    }
    struct far_row_job *job = &counted->job;
    job->bytes_total += sample->bytes_total - task->bytes_total;
    job->bytes_done += sample->bytes_done - task->bytes_done;
    job->bytes_changed += sample->bytes_changed - task->bytes_changed;
    job->bytes_sent += sample->bytes_sent > task->bytes_sent ? sample->bytes_sent - task->bytes_sent : 0;
    return 0;
}

/* What is left of a task when it has told of so many bytes. */
static int todo_of(struct far_step *step, const struct far_sub_running_task *task, uint64_t bytes_total, uint64_t bytes_done,
                   uint64_t *ret_bytes)
{
    struct far_row_task row = {.kind = task->kind};
    struct far_key key = far_key_part(&far_schema_row_task, task->job_id, task->task);
    FAR_TRY(bytes_total == 0 ? far_key_need(step, &far_schema_row_task, &key, &row) : 0); /* its size is there */
    row.bytes_total = bytes_total;
    row.bytes_done = bytes_done;
    *ret_bytes = far_task_todo(&row);
    return 0;
}

static int count_todo(struct far_step *step, struct counted *counted, const struct far_sub_running_task *task,
                      const struct far_sub_sample *sample)
{
    uint64_t before, after;
    if (!counted->spreads || (task->bytes_total == 0 && sample->bytes_total == 0)) {
        return 0;
    }
    FAR_TRY(todo_of(step, task, task->bytes_total, task->bytes_done, &before));
    FAR_TRY(todo_of(step, task, sample->bytes_total, sample->bytes_done, &after));
    far_node_load_progress(counted->node, before, after);
    return 0;
}

static int take_sample(struct far_step *step, struct far_running *running, struct counted *counted,
                       const struct far_sub_sample *sample, uint64_t lease_until_ms)
{
    struct far_sub_running_task *task = far_running_find(running, sample->job_id, sample->task);
    if (task == NULL && running->count == FAR_RUNNING_MAX) {
        FAR_TRY(put_counted(step, counted));
        counted->job.id = 0;
        return sample_one(step, counted->node, &counted->figures, sample, lease_until_ms);
    }
    if (task == NULL) {
        FAR_TRY(begin_to_run(step, running, sample));
        task = &running->items[running->count - 1];
    }
    FAR_TRY(count_sample(step, counted, task, sample));
    FAR_TRY(count_todo(step, counted, task, sample));
    if (sample->figures.count > 0) {
        FAR_TRY(far_figures_take(step, &counted->figures, counted->node->id, sample, task->bytes_done, task->bytes_sent));
    }
    task->lease_until_ms = lease_until_ms;
    task->bytes_total = sample->bytes_total;
    task->bytes_done = sample->bytes_done;
    task->bytes_changed = sample->bytes_changed;
    task->bytes_sent = sample->bytes_sent;
    far_running_touch(running, task);
    return 0;
}

int far_task_samples(struct far_step *step, struct far_row_node *node, const struct far_list *samples, uint64_t lease_until_ms)
{
    const struct far_sub_sample *items = samples->items;
    struct far_running running;
    struct counted counted = {.node = node, .job = {.id = 0}, .figures = {.count = 0}};
    bool is_kept_by_node;
    FAR_TRY(far_level_has(step, FAR_RUNNING_LEVEL, &is_kept_by_node));
    if (samples->count == 0) {
        return 0;
    }
    FAR_TRY(far_level_spreads(step, &counted.spreads));
    FAR_TRY(is_kept_by_node ? far_running_load(step, node, samples->count, &running) : 0);
    for (size_t i = 0; i < samples->count; i++) {
        FAR_TRY(is_kept_by_node ? take_sample(step, &running, &counted, &items[i], lease_until_ms)
                                : sample_one(step, node, &counted.figures, &items[i], lease_until_ms));
    }
    FAR_TRY(put_counted(step, &counted));
    FAR_TRY(far_figures_flush(step, &counted.figures));
    return is_kept_by_node ? far_running_store(step, &running, node) : 0;
}

/* ---- leases ---- */

static int extend_tasks(struct far_step *step, uint64_t until_ms)
{
    struct far_row_node_task held;
    struct far_slice id;
    struct far_key at = far_key(&far_schema_row_node_task);
    int rc;
    while ((rc = far_next(step, &far_schema_row_node_task, &at, &id, &held)) == 0) {
        struct far_row_task row;
        struct far_key key = far_key_part(&far_schema_row_task, far_get_be64(id.data + 8), far_get_be32(id.data + 16));
        FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &row));
        if (far_task_runs(&row)) {
            continue; /* its node's rows have it */
        }
        struct far_row_task old = row;
        row.lease_until_ms = row.lease_until_ms > until_ms ? row.lease_until_ms : until_ms;
        FAR_TRY(store(step, &old, &row));
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_leases_extend(struct far_step *step, uint64_t until_ms)
{
    struct far_row_node node;
    struct far_key key = far_key(&far_schema_row_node);
    int rc;
    FAR_TRY(extend_tasks(step, until_ms));
    while ((rc = far_next(step, &far_schema_row_node, &key, NULL, &node)) == 0) {
        FAR_TRY(node.running_count > 0 ? far_running_extend(step, &node, until_ms) : 0);
        if (node.state == FAR_node_state_up && node.lease_until_ms < until_ms) {
            FAR_TRY(far_deadline_move(step, FAR_deadline_kind_node_lease, node.id, 0, node.lease_until_ms, until_ms));
            node.lease_until_ms = until_ms;
            FAR_TRY(far_row_put(step, &far_schema_row_node, node.id, &node));
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}
