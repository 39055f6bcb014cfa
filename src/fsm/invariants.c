/* Invariants: what must hold between rows, checked by walking every table once. See fsm.h. Each walk hands row after row
 * to a function, which looks up what the row refers to; sums are compared at the end. */
#include "fsm/alert.h"
#include "fsm/bandwidth.h"
#include "fsm/coverage.h"
#include "fsm/invariants.h"
#include "fsm/machines.h"
#include "fsm/node_load.h"
#include "fsm/figures.h"
#include "fsm/running.h"
#include "fsm/site_limit.h"

struct sums {
    uint64_t deadlines; /* that rows ask for */
    uint64_t ready;     /* tasks that should be listed as ready */
    uint64_t held;      /* tasks that nodes should hold */
    uint64_t running;   /* tasks whose bytes and leases their nodes should have */
    uint64_t names;
    uint64_t commands;
    uint64_t holds; /* of points by checkpoints, as the points say */
    uint64_t members;
    uint64_t plan_jobs;
    uint64_t readers;
    uint64_t jobs; /* there and listed with their plans */
    uint64_t planned; /* workloads in plans */
    uint64_t moved;   /* of them, as plans say, less what is found */
    bool spreads;     /* nodes count what they have to do and hold: as they say, less what is found */
    uint64_t todo_bytes, receiving_bytes, vault_bytes, points_held, sending, recovering;
    uint64_t queued; /* tasks in the queues of sites */
    uint64_t domain_plans, domain_points; /* as keyed dedup domains say, less what is found */
    uint64_t answers; /* to heads, as the heads say */
    uint64_t newest_head, signed_head, newest_incarnation;
    uint64_t open_alerts;
    uint64_t listed; /* points with a known coverage, listed with their workloads */
    uint64_t counted; /* rows of the table walked last */
};

typedef int (*row_fn)(struct far_step *step, struct sums *sums, struct far_slice id, const void *row);

/* Nothing of the step's arena outlives a call of check. */
static int walk(struct far_step *step, const struct far_schema *table, struct sums *sums, row_fn check)
{
    struct far_key key = far_key(table);
    sums->counted = 0;
    for (;;) {
        struct far_slice id;
        far_arena_reset(step->arena);
        void *row = far_step_alloc(step, table->size);
        if (row == NULL) {
            return FAR_LIMIT;
        }
        int rc = far_next(step, table, &key, &id, row);
        if (rc == FAR_NOT_FOUND) {
            return 0;
        }
        FAR_TRY(rc);
        sums->counted++;
        FAR_TRY(check != NULL ? check(step, sums, id, row) : 0);
    }
}

static int broken(struct far_step *step, const char *object, uint64_t id, const char *what)
{
    return far_reject(step, FAR_INTERNAL, "%s %llu: %s", object, FAR_LLU(id), what);
}

static int equal(struct far_step *step, const char *what, uint64_t is, uint64_t should)
{
    return is == should ? 0
                        : far_reject(step, FAR_INTERNAL, "%s: %llu instead of %llu", what, FAR_LLU(is), FAR_LLU(should));
}

/* An id that was given out, and the time of a deadline that must be there. */
static int known(struct far_step *step, const char *object, uint64_t id)
{
    return id != 0 && id < step->progress.next_id ? 0 : broken(step, object, id, "has an id never given out");
}

static int deadline(struct far_step *step, struct sums *sums, uint64_t kind, uint64_t id, uint64_t part,
                    uint64_t time_ms)
{
    if (time_ms == 0) {
        return 0;
    }
    struct far_row_deadline row;
    struct far_key key = far_key_id(&far_schema_row_deadline, time_ms);
    far_key_u8(&key, (uint8_t)kind);
    far_key_u64(&key, id);
    far_key_u32(&key, (uint32_t)part);
    sums->deadlines++;
    int rc = far_key_find(step, &far_schema_row_deadline, &key, &row);
    return rc == FAR_NOT_FOUND ? broken(step, far_enum_name(&far_enum_deadline_kind, kind), id, "has no deadline") : rc;
}

static int named(struct far_step *step, struct sums *sums, const struct far_schema *table, struct far_slice name,
                 uint64_t id)
{
    uint64_t found = 0;
    sums->names++;
    int rc = far_name_find(step, table, name, &found);
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    return found == id ? known(step, table->name, id) : broken(step, table->name, id, "is not found by its name");
}

/* ---- what stands there ---- */

static int check_server(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_server *row = object;
    return row->role == FAR_server_role_removed ? known(step, "server", row->id)
                                                : named(step, sums, &far_schema_row_server, row->name, row->id);
}

static int check_site(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_site *row = object;
    FAR_TRY(deadline(step, sums, FAR_deadline_kind_site_slots, row->id, 0, row->slots_ms));
    return named(step, sums, &far_schema_row_site, row->name, row->id);
}

static int check_consumer(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_consumer *row = object;
    FAR_TRY(named(step, sums, &far_schema_row_consumer, row->name, row->id));
    return row->seq < step->progress.next_seq ? 0 : broken(step, "consumer", row->id, "is ahead of the events");
}

static int check_token(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_token *row = object;
    FAR_TRY(known(step, "token", row->id));
    FAR_TRY(deadline(step, sums, FAR_deadline_kind_token_expiry, row->id, 0, row->expires_ms));
    return row->purpose == FAR_token_purpose_api && !row->revoked
               ? named(step, sums, &far_schema_row_token, row->name, row->id)
               : 0;
}

/* No lease of what runs on the node ends before they are looked at. */
static int check_running(struct far_step *step, struct sums *sums, const struct far_row_node *node)
{
    struct far_running running;
    FAR_TRY(deadline(step, sums, FAR_deadline_kind_running_leases, node->id, 0, node->running_due_ms));
    FAR_TRY(far_running_load(step, node, 0, &running));
    sums->running -= running.count; /* each is a task's, see check_lease(): so none is there twice */
    for (size_t i = 0; i < running.count; i++) {
        const struct far_sub_running_task *item = &running.items[i];
        struct far_row_task task;
        struct far_key key = far_key_part(&far_schema_row_task, item->job_id, item->task);
        FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &task));
        if (!far_task_runs(&task) || task.node_id != node->id || task.attempt != item->attempt || task.boot != item->boot ||
            task.kind != item->kind || item->lease_until_ms < node->running_due_ms || node->running_due_ms == 0) {
            return broken(step, "node", node->id, "runs what its task does not say, or looks too late at a lease");
        }
    }
    return 0;
}

/* Figures are of transfers that this node holds. */
static int check_figures(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_figures *row = object;
    const struct far_sub_running_figures *items = row->items.items;
    uint64_t node_id = far_get_be64(id.data), job_id = far_get_be64(id.data + 8), part = far_get_be32(id.data + 16);
    (void)sums;
    for (size_t i = 0; i < row->items.count; i++) {
        struct far_row_task task;
        struct far_key key = far_key_part(&far_schema_row_task, job_id, items[i].task);
        FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &task));
        bool is_transfer = task.kind == FAR_task_kind_send || task.kind == FAR_task_kind_receive;
        if (!is_transfer || !far_task_held(&task) || task.node_id != node_id || items[i].task / FAR_FIGURES_TASKS != part) {
            return broken(step, "node", node_id, "has figures of what it does not transfer");
        }
    }
    return row->items.count > 0 ? 0 : broken(step, "node", node_id, "keeps figures of nothing");
}

static int check_node(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_node *row = object;
    struct far_key key = far_key_id(&far_schema_row_node_task, row->id);
    uint64_t count = 0;
    FAR_TRY(named(step, sums, &far_schema_row_node, row->name, row->id));
    FAR_TRY(deadline(step, sums, FAR_deadline_kind_node_lease, row->id, 0, row->lease_until_ms));
    if ((row->state == FAR_node_state_up) != (row->lease_until_ms != 0)) {
        return broken(step, "node", row->id, "is up without a lease, or has one without being up");
    }
    for (;;) {
        struct far_row_node_task held;
        struct far_slice at;
        int rc = far_next(step, &far_schema_row_node_task, &key, &at, &held);
        if (rc == FAR_NOT_FOUND || (rc == 0 && far_get_be64(at.data) != row->id)) {
            break;
        }
        FAR_TRY(rc);
        count++;
    }
    FAR_TRY(equal(step, "tasks that a node holds", row->task_count, count));
    sums->todo_bytes += row->todo_bytes;
    sums->receiving_bytes += row->receiving_bytes;
    sums->sending += row->sending_count;
    sums->recovering += row->recovering_count;
    sums->vault_bytes += row->vault_bytes;
    sums->points_held += row->point_count;
    return check_running(step, sums, row);
}

static int node_exists(struct far_step *step, uint64_t node_id, bool *ret_exists)
{
    struct far_row_node node;
    int rc = node_id != 0 ? far_row_find(step, &far_schema_row_node, node_id, &node) : FAR_NOT_FOUND;
    *ret_exists = rc == 0;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int count_vault(struct far_step *step, struct sums *sums, const struct far_row_workload *row)
{
    uint64_t bytes;
    bool exists;
    FAR_TRY(node_exists(step, row->target_node_id, &exists));
    FAR_TRY(far_workload_size(step, row, &bytes));
    sums->vault_bytes -= exists ? bytes : 0;
    return 0;
}

static int check_workload(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_workload *row = object;
    struct far_row_plan_workload member;
    struct far_row_point point;
    struct far_key key = far_key_pair(&far_schema_row_plan_workload, row->plan_id, row->id);
    FAR_TRY(named(step, sums, &far_schema_row_workload, row->name, row->id));
    if (row->plan_id != 0) {
        FAR_TRY(far_key_need(step, &far_schema_row_plan_workload, &key, &member));
    }
    if ((row->target_node_id != 0) != (row->point_count != 0)) {
        return broken(step, "workload", row->id, "has points and no target, or the reverse");
    }
    FAR_TRY(count_vault(step, sums, row));
    if (row->last_point_id == 0) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_point, row->last_point_id, &point));
    return point.state != FAR_point_state_removed ? 0 : broken(step, "workload", row->id, "builds on a removed point");
}

static int check_plan(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_plan *row = object;
    struct far_row_job job;
    FAR_TRY(named(step, sums, &far_schema_row_plan, row->name, row->id));
    FAR_TRY(deadline(step, sums, FAR_deadline_kind_plan_due, row->id, 0, row->due_ms));
    FAR_TRY(deadline(step, sums, FAR_deadline_kind_plan_rpo, row->id, 0, row->rpo_due_ms));
    sums->plan_jobs += row->job_count;
    sums->domain_plans -= row->domain_id != 0;
    sums->planned += row->workload_count;
    sums->moved += row->moved_count;
    if ((row->moved_ms != 0) != (row->moved_count != 0 && row->moved_count == row->workload_count)) {
        return broken(step, "plan", row->id, "has moved as a whole, and some of its workloads have not, or the reverse");
    }
    if (row->state == FAR_plan_state_stopped && row->due_ms != 0) {
        return broken(step, "plan", row->id, "is stopped and due");
    }
    if (row->running_job_id == 0) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_job, row->running_job_id, &job));
    return job.state == FAR_job_state_running && job.plan_id == row->id &&
                   (job.kind == FAR_job_kind_replicate || job.kind == FAR_job_kind_erase)
               ? 0
               : broken(step, "plan", row->id, "runs a job that does not run");
}

static int check_member(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_plan_workload *row = object;
    struct far_row_workload workload;
    sums->moved -= row->moved_ms != 0;
    FAR_TRY(far_row_need(step, &far_schema_row_workload, row->workload_id, &workload));
    return equal(step, "the plan of a workload", workload.plan_id, row->plan_id);
}

/* ---- work ---- */

static bool carries(uint64_t kind)
{
    return kind == FAR_task_kind_send || kind == FAR_task_kind_restore || kind == FAR_task_kind_verify || kind == FAR_task_kind_use;
}

/* With what its node keeps for it; in memory of its own, as a job has many tasks. */
static int show_running(struct far_step *step, struct far_row_task *task, uint64_t *ret_lease_ms)
{
    struct far_arena own, *arena = step->arena;
    far_arena_init(&own, 1 << 20);
    step->arena = &own;
    int rc = far_running_show(step, task, ret_lease_ms);
    step->arena = arena;
    far_arena_done(&own);
    return rc;
}

static int check_job(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_job *row = object;
    struct far_row_job sum = {.id = 0};
    struct far_key key = far_key_id(&far_schema_row_task, row->id);
    bool is_running = row->state == FAR_job_state_running;
    FAR_TRY(known(step, "job", row->id));
    FAR_TRY(deadline(step, sums, FAR_deadline_kind_job_tasks, row->id, 0, row->wake_ms));
    for (;;) {
        struct far_row_task task;
        int rc = far_next(step, &far_schema_row_task, &key, NULL, &task);
        if (rc == FAR_NOT_FOUND || (rc == 0 && task.job_id != row->id)) {
            break;
        }
        FAR_TRY(rc);
        FAR_TRY(equal(step, "the number of a task", task.task, ++sum.task_count));
        FAR_TRY(show_running(step, &task, NULL));
        sum.tasks_done += task.state == FAR_task_state_done;
        sum.tasks_failed += task.state == FAR_task_state_failed;
        sum.tasks_canceled += task.state == FAR_task_state_canceled;
        sum.bytes_total += carries(task.kind) ? task.bytes_total : 0;
        sum.bytes_done += carries(task.kind) ? task.bytes_done : 0;
        sum.bytes_changed += carries(task.kind) ? task.bytes_changed : 0;
        sum.bytes_read += carries(task.kind) ? task.bytes_read : 0;
        sum.bytes_wanted += carries(task.kind) ? task.bytes_wanted : 0;
    }
    FAR_TRY(equal(step, "tasks of a job", row->task_count, sum.task_count));
    FAR_TRY(equal(step, "done tasks of a job", row->tasks_done, sum.tasks_done));
    FAR_TRY(equal(step, "failed tasks of a job", row->tasks_failed, sum.tasks_failed));
    FAR_TRY(equal(step, "canceled tasks of a job", row->tasks_canceled, sum.tasks_canceled));
    FAR_TRY(equal(step, "bytes of a job", row->bytes_total, sum.bytes_total));
    FAR_TRY(equal(step, "done bytes of a job", row->bytes_done, sum.bytes_done));
    FAR_TRY(equal(step, "changed bytes of a job", row->bytes_changed, sum.bytes_changed));
    FAR_TRY(equal(step, "read bytes of a job", row->bytes_read, sum.bytes_read));
    FAR_TRY(equal(step, "wanted bytes of a job", row->bytes_wanted, sum.bytes_wanted));
    bool is_over = sum.tasks_done + sum.tasks_failed + sum.tasks_canceled == sum.task_count;
    if (is_running == (is_over && row->next_workload_id == 0) || (!is_running && row->finished_ms == 0)) {
        return broken(step, "job", row->id, "is over and runs, or the reverse");
    }
    struct far_row_plan plan;
    int rc = far_row_find(step, &far_schema_row_plan, row->plan_id, &plan);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    struct far_row_plan_job listed;
    uint64_t group;
    FAR_TRY(far_job_group(step, row->plan_id, row->node_id, &group));
    struct far_key at = far_key_pair(&far_schema_row_plan_job, group, row->id);
    FAR_TRY(far_key_need(step, &far_schema_row_plan_job, &at, &listed));
    sums->jobs++;
    sums->plan_jobs -= is_running && rc == 0;
    sums->readers += is_running && row->kind != FAR_job_kind_replicate && row->checkpoint_id != 0;
    const struct far_sub_use *use = row->use.items;
    sums->readers += is_running && row->use.count > 0 && use->other_checkpoint_id != 0;
    return 0;
}

static int check_lease(struct far_step *step, struct sums *sums, const struct far_row_task *row)
{
    struct far_row_node node;
    struct far_row_node_task held;
    struct far_key key = far_key_pair(&far_schema_row_node_task, row->node_id, row->job_id);
    far_key_u32(&key, (uint32_t)row->task);
    FAR_TRY(far_row_need(step, &far_schema_row_node, row->node_id, &node));
    FAR_TRY(far_key_need(step, &far_schema_row_node_task, &key, &held));
    sums->held++;
    sums->running += far_task_runs(row);
    struct far_row_task shown = *row;
    uint64_t lease_until_ms = row->lease_until_ms;
    FAR_TRY(show_running(step, &shown, &lease_until_ms));
    sums->todo_bytes -= sums->spreads ? far_task_todo(&shown) : 0;
    sums->receiving_bytes -= sums->spreads ? far_task_receiving(&shown) : 0;
    enum far_slot slot = far_slot_of(row);
    sums->sending -= sums->spreads && (slot == FAR_SLOT_SEND || slot == FAR_SLOT_FREEZE);
    sums->recovering -= sums->spreads && slot == FAR_SLOT_RECOVERY;
    if (row->boot > node.boot || lease_until_ms == 0) {
        return broken(step, "task", row->task, "is held by a boot to come, or without a lease");
    }
    return equal(step, "the attempt that a node holds", held.attempt, row->attempt);
}

static int check_task(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_task *row = object;
    struct far_row_task_ready ready;
    struct far_row_job job;
    struct far_key key = far_key_part(&far_schema_row_task_ready, row->job_id, row->task);
    bool is_paused = row->state == FAR_task_state_ready && row->retry_ms != 0;
    FAR_TRY(far_row_need(step, &far_schema_row_job, row->job_id, &job));
    FAR_TRY(deadline(step, sums, FAR_deadline_kind_task_lease, row->job_id, row->task, row->lease_until_ms));
    FAR_TRY(deadline(step, sums, FAR_deadline_kind_task_retry, row->job_id, row->task, is_paused ? row->retry_ms : 0));
    if (row->state < FAR_task_state_waiting || row->state > FAR_task_state_canceled || row->attempt == 0 ||
        (!far_task_held(row) && row->lease_until_ms != 0)) {
        return broken(step, "task", row->task, "has no state, no attempt, or a lease that nobody holds");
    }
    if (row->queue_site_id != 0 && !far_task_assignable(row)) {
        return broken(step, "task", row->task, "is in the queue of a site and waits for no node");
    }
    sums->queued += row->queue_site_id != 0;
    if (far_task_assignable(row)) {
        sums->ready++;
        FAR_TRY(far_key_need(step, &far_schema_row_task_ready, &key, &ready));
    }
    if (row->kind == FAR_task_kind_send) {
        struct far_row_task receive;
        key = far_key_part(&far_schema_row_task, row->job_id, row->task + 1);
        FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &receive));
        FAR_TRY(equal(step, "the attempt of a receive", receive.attempt, row->attempt));
    }
    return far_task_held(row) ? check_lease(step, sums, row) : 0;
}

/* ---- points ---- */

static int check_point(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_point *row = object;
    struct far_row_job job;
    bool exists;
    FAR_TRY(known(step, "point", row->id));
    FAR_TRY(node_exists(step, row->node_id, &exists));
    sums->points_held -= sums->spreads && exists && row->state != FAR_point_state_removed;
    bool is_suspect = false, is_wrong = false;
    sums->holds += row->holds;
    sums->domain_points -= row->domain_id != 0 && row->state != FAR_point_state_removed;
    for (uint64_t d = 0; d < row->disk_count; d++) {
        struct far_row_point_disk disk;
        struct far_key key = far_key_part(&far_schema_row_point_disk, row->id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_point_disk, &key, &disk));
        FAR_TRY(disk.root.len == 32 ? 0 : broken(step, "point", row->id, "has a disk without a root"));
        is_suspect = is_suspect || disk.suspect;
        is_wrong = is_wrong || (disk.suspect && !disk.by_list);
    }
    if (is_wrong || (row->proof == FAR_proof_full && is_suspect)) {
        return broken(step, "point", row->id, "is suspect and was proven in full");
    }
    if (is_suspect != row->suspect || (row->suspected_ms != 0) != row->suspect) {
        return broken(step, "point", row->id, "is suspect without a disk that is, or the reverse");
    }
    sums->listed += row->oldest_ms != 0 && row->state != FAR_point_state_removed;
    if ((row->state == FAR_point_state_removed) != (row->holds != 0)) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_job, row->job_id, &job));
    return row->state != FAR_point_state_removed && job.state == FAR_job_state_running
               ? 0
               : broken(step, "point", row->id, "is named by no checkpoint and there, or the reverse");
}

/* A point that is listed is there; one whose coverage is known is listed. */
static int check_listed(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_workload_point *row = object;
    struct far_row_point point;
    uint64_t point_id = far_get_be64(id.data + 8);
    FAR_TRY(far_row_need(step, &far_schema_row_point, point_id, &point));
    sums->listed -= point.oldest_ms != 0;
    return point.state != FAR_point_state_removed && point.workload_id == far_get_be64(id.data) && point.proof == row->proof
               ? 0
               : broken(step, "point", point_id, "is listed with a workload and is not there, or the reverse");
}

static int check_coverage(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_coverage *row = object;
    const struct far_sub_audit_mark *marks = row->marks.items;
    struct far_row_disk disk;
    struct far_key key = far_key_part(&far_schema_row_disk, row->workload_id, row->disk_index);
    FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &disk));
    uint64_t blocks = row->block_count;
    bool fits = row->marks.count == far_coverage_stretches(blocks) && row->audited_blocks <= blocks && row->clean_blocks <= blocks &&
                row->coverage_ppm <= 1000000 && (row->audit_next_block == 0 || row->audit_next_block < blocks);
    for (size_t i = 0; i < row->marks.count; i++) {
        fits = fits && marks[i].point_id < step->progress.next_id && marks[i].point_id >= row->full_point_id;
    }
    fits = fits && (blocks == 0 || blocks == far_coverage_blocks(disk.size_bytes)) &&
           (!row->distrusted || (row->missed_block_count > 0 && (blocks == 0 || row->clean_blocks < blocks)));
    return fits ? 0 : broken(step, "coverage of workload", row->workload_id, "does not fit its disk");
}

static int check_checkpoint(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_checkpoint *row = object;
    struct far_key key = far_key_id(&far_schema_row_checkpoint_member, row->id);
    uint64_t count = 0, failed = 0;
    FAR_TRY(known(step, "checkpoint", row->id));
    sums->readers -= row->readers;
    for (;;) {
        struct far_row_checkpoint_member member;
        int rc = far_next(step, &far_schema_row_checkpoint_member, &key, NULL, &member);
        if (rc == FAR_NOT_FOUND || (rc == 0 && member.checkpoint_id != row->id)) {
            break;
        }
        FAR_TRY(rc);
        count++;
        failed += member.failed;
        sums->holds -= member.point_id != 0 && row->state != FAR_point_state_removed;
    }
    FAR_TRY(equal(step, "members of a checkpoint", row->member_count, count));
    return equal(step, "failed members of a checkpoint", row->failed_count, failed);
}

/* ---- commands ---- */

static int check_actor(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_actor *row = object;
    sums->commands += row->count;
    return deadline(step, sums, FAR_deadline_kind_command_memory, far_get_be64(id.data), 0, row->forget_ms);
}

/* ---- heads ---- */

static int check_server_key(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_server_key *row = object;
    struct far_row_server server;
    struct far_row_server_key used;
    int rc = far_row_find(step, &far_schema_row_server, row->server_id, &server);
    FAR_TRY(rc == FAR_NOT_FOUND ? broken(step, "key of server", row->server_id, "there is no such server") : rc);
    FAR_TRY(far_server_key_find(step, row->server_id, &used));
    return row->until_seq != 0 || used.from_seq == row->from_seq
               ? 0
               : broken(step, "key of server", row->server_id, "two are in use at once");
}

static int check_head(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_head *row = object;
    size_t majority = row->voters.count / 2 + 1;
    sums->answers += row->signed_count + row->refused_count;
    sums->newest_head = row->seq;
    sums->signed_head = row->state == FAR_head_state_signed ? row->seq : sums->signed_head;
    if (row->seq == 0 || row->seq >= step->progress.next_seq) {
        return broken(step, "head", row->seq, "is not behind an event");
    }
    bool fits = row->state == FAR_head_state_proposed  ? row->signed_count < majority && row->refused_count < majority
                : row->state == FAR_head_state_signed  ? row->signed_count >= majority
                : row->state == FAR_head_state_refused ? row->refused_count >= majority
                                                       : false;
    return fits && (row->settled_ms != 0) == (row->state != FAR_head_state_proposed)
               ? 0
               : broken(step, "head", row->seq, "its answers do not fit its state");
}

static int check_answer(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_head_signature *row = object;
    struct far_row_head head;
    int rc = far_row_find(step, &far_schema_row_head, row->seq, &head);
    return rc == FAR_NOT_FOUND ? broken(step, "answer to head", row->seq, "the head is not there") : rc;
}

static int check_heads(struct far_step *step, struct sums *sums)
{
    struct far_row_head_progress progress = {.proposed_seq = 0};
    struct far_key key = far_key(&far_schema_row_head_progress);
    int rc = far_key_find(step, &far_schema_row_head_progress, &key, &progress);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    FAR_TRY(walk(step, &far_schema_row_server_key, sums, check_server_key));
    FAR_TRY(walk(step, &far_schema_row_head, sums, check_head));
    FAR_TRY(equal(step, "heads that are kept", sums->counted, progress.count));
    FAR_TRY(equal(step, "the newest head", sums->newest_head, progress.proposed_seq));
    FAR_TRY(equal(step, "the newest head that is signed", sums->signed_head, progress.signed_seq));
    FAR_TRY(walk(step, &far_schema_row_head_signature, sums, check_answer));
    return equal(step, "answers to heads", sums->counted, sums->answers);
}

/* ---- alerts ---- */

static int check_alert(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_alert *row = object;
    bool is_open = row->state == FAR_alert_state_raised || row->state == FAR_alert_state_acknowledged;
    FAR_TRY(known(step, "alert", row->id));
    if (!is_open && row->state != FAR_alert_state_cleared) {
        return broken(step, "alert", row->id, "has no state");
    }
    sums->open_alerts += is_open;
    if (!is_open) {
        struct far_row_alert_cleared cleared;
        struct far_key key = far_key_pair(&far_schema_row_alert_cleared, row->cleared_ms, row->id);
        return far_key_need(step, &far_schema_row_alert_cleared, &key, &cleared);
    }
    struct far_row_alert found;
    int rc = far_alert_find(step, row->kind, row->object_id, &found);
    return rc == 0 && found.id == row->id ? 0 : broken(step, "alert", row->id, "is open and not found by its cause");
}

static int check_alerts(struct far_step *step, struct sums *sums)
{
    struct far_row_alert_progress progress = {.open_count = 0};
    struct far_key key = far_key(&far_schema_row_alert_progress);
    int rc = far_key_find(step, &far_schema_row_alert_progress, &key, &progress);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    FAR_TRY(walk(step, &far_schema_row_alert, sums, check_alert));
    FAR_TRY(equal(step, "alerts", sums->counted, progress.open_count + progress.cleared_count));
    FAR_TRY(equal(step, "open alerts", sums->open_alerts, progress.open_count));
    FAR_TRY(walk(step, &far_schema_row_alert_open, sums, NULL));
    FAR_TRY(equal(step, "open alerts by cause", sums->counted, progress.open_count));
    FAR_TRY(walk(step, &far_schema_row_alert_cleared, sums, NULL));
    return equal(step, "cleared alerts", sums->counted, progress.cleared_count);
}

static int check_cluster(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_cluster *row = object;
    return row->feature_level >= 1 ? 0 : broken(step, "cluster", 0, "has no feature level");
}

/* ---- incarnations ---- */

static int check_incarnation(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_incarnation *row = object;
    sums->newest_incarnation = row->epoch;
    return row->epoch > 1 && row->parent_seq < step->progress.next_seq
               ? 0
               : broken(step, "incarnation", row->epoch, "goes on from an event that is not there");
}

static int check_incarnations(struct far_step *step, struct sums *sums)
{
    struct far_row_cluster cluster;
    struct far_key key = far_key(&far_schema_row_cluster);
    FAR_TRY(far_key_need(step, &far_schema_row_cluster, &key, &cluster));
    sums->newest_incarnation = 1;
    FAR_TRY(walk(step, &far_schema_row_incarnation, sums, check_incarnation));
    return equal(step, "the newest incarnation", sums->newest_incarnation, cluster.incarnation_epoch);
}

static int check_skipped(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_skipped_entry *row = object;
    (void)sums;
    return row->index != 0 && row->server_ids.count > 0 ? 0 : broken(step, "skipped entry", row->index, "was reported by nobody");
}

/* ---- bandwidth limits ---- */

static int check_zone(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_zone *row = object;
    FAR_TRY(named(step, sums, &far_schema_row_zone, row->name, row->id));
    return row->changes.count > 0 ? 0 : broken(step, "time zone", row->id, "has no rules");
}

/* What it is about is there, and what is in force is what its calendar says, unless its deadline is due. */
static int check_throttle(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_throttle *row = object;
    struct far_row_site site;
    struct far_row_node node;
    struct far_row_plan plan;
    uint64_t rate, next_ms, now_ms = step->progress.time_ms;
    FAR_TRY(row->site_id != 0 ? far_row_need(step, &far_schema_row_site, row->id, &site) : 0);
    FAR_TRY(row->node_id != 0 ? far_row_need(step, &far_schema_row_node, row->id, &node) : 0);
    FAR_TRY(row->plan_id != 0 ? far_row_need(step, &far_schema_row_plan, row->id, &plan) : 0);
    uint64_t of_scope = row->scope == FAR_throttle_scope_node   ? row->node_id
                        : row->scope == FAR_throttle_scope_plan ? row->plan_id
                                                                : row->site_id;
    if (of_scope != row->id || row->node_id + row->plan_id + row->site_id != row->id || (row->zone_id != 0 && row->windows.count == 0)) {
        return broken(step, "bandwidth limit", row->id, "is of another object than it says, or has a time zone for nothing");
    }
    FAR_TRY(deadline(step, sums, FAR_deadline_kind_throttle, row->id, 0, row->next_ms));
    FAR_TRY(far_throttle_at(step, row, now_ms, &rate, &next_ms));
    bool is_due = row->next_ms != 0 && row->next_ms <= now_ms;
    return is_due || (rate == row->in_force_bytes_per_s && next_ms == row->next_ms)
               ? 0
               : broken(step, "bandwidth limit", row->id, "has another rate in force than its calendar says");
}

/* ---- dedup domains ---- */

/* While it is active its newest key is there, once it is destroyed none. */
static int check_domain(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_domain *row = object;
    struct far_row_domain_key newest;
    struct far_key key = far_key_pair(&far_schema_row_domain_key, row->id, row->generation);
    bool is_active = row->state == FAR_domain_state_active;
    FAR_TRY(named(step, sums, &far_schema_row_domain, row->name, row->id));
    sums->domain_plans += row->plan_count;
    sums->domain_points += row->point_count;
    int rc = far_key_find(step, &far_schema_row_domain_key, &key, &newest);
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    bool good = is_active ? rc == 0 && row->sealed_secret.len > 0 : rc != 0 && row->sealed_secret.len == 0 && row->plan_count == 0;
    return good ? 0 : broken(step, "dedup domain", row->id, "has not the keys that its state asks for");
}

static int walk_all(struct far_step *step)
{
    struct sums sums = {0};
    struct far_key key = far_key(&far_schema_row_progress);
    int rc = far_key_find(step, &far_schema_row_progress, &key, &step->progress);
    if (rc == FAR_NOT_FOUND) {
        return 0; /* no cluster yet */
    }
    FAR_TRY(rc);
    FAR_TRY(far_level_spreads(step, &sums.spreads));
    FAR_TRY(walk(step, &far_schema_row_cluster, &sums, check_cluster));
    FAR_TRY(equal(step, "clusters", sums.counted, 1));
    FAR_TRY(walk(step, &far_schema_row_server, &sums, check_server));
    FAR_TRY(walk(step, &far_schema_row_site, &sums, check_site));
    FAR_TRY(check_heads(step, &sums));
    FAR_TRY(check_incarnations(step, &sums));
    FAR_TRY(walk(step, &far_schema_row_skipped_entry, &sums, check_skipped));
    FAR_TRY(walk(step, &far_schema_row_consumer, &sums, check_consumer));
    FAR_TRY(walk(step, &far_schema_row_token, &sums, check_token));
    FAR_TRY(walk(step, &far_schema_row_node, &sums, check_node));
    FAR_TRY(walk(step, &far_schema_row_workload, &sums, check_workload));
    FAR_TRY(walk(step, &far_schema_row_domain, &sums, check_domain));
    FAR_TRY(walk(step, &far_schema_row_plan, &sums, check_plan));
    FAR_TRY(equal(step, "plans in dedup domains", sums.domain_plans, 0));
    FAR_TRY(walk(step, &far_schema_row_zone, &sums, check_zone));
    FAR_TRY(walk(step, &far_schema_row_throttle, &sums, check_throttle));
    FAR_TRY(walk(step, &far_schema_row_plan_workload, &sums, check_member));
    FAR_TRY(equal(step, "workloads in plans", sums.counted, sums.planned));
    FAR_TRY(equal(step, "workloads that were moved", sums.moved, 0));
    FAR_TRY(walk(step, &far_schema_row_job, &sums, check_job));
    FAR_TRY(equal(step, "running jobs of plans", sums.plan_jobs, 0));
    FAR_TRY(walk(step, &far_schema_row_plan_job, &sums, NULL));
    FAR_TRY(equal(step, "jobs listed with their plans", sums.counted, sums.jobs));
    FAR_TRY(walk(step, &far_schema_row_task, &sums, check_task));
    FAR_TRY(walk(step, &far_schema_row_point, &sums, check_point));
    FAR_TRY(equal(step, "points in dedup domains", sums.domain_points, 0));
    FAR_TRY(walk(step, &far_schema_row_workload_point, &sums, check_listed));
    FAR_TRY(equal(step, "points listed with their workloads", sums.listed, 0));
    FAR_TRY(walk(step, &far_schema_row_coverage, &sums, check_coverage));
    FAR_TRY(walk(step, &far_schema_row_checkpoint, &sums, check_checkpoint));
    FAR_TRY(equal(step, "bytes that nodes have to do", sums.todo_bytes, 0));
    FAR_TRY(equal(step, "bytes that nodes receive", sums.receiving_bytes, 0));
    FAR_TRY(equal(step, "bytes in vaults", sums.vault_bytes, 0));
    FAR_TRY(equal(step, "points in vaults", sums.points_held, 0));
    FAR_TRY(equal(step, "points named by checkpoints", sums.holds, 0));
    FAR_TRY(equal(step, "jobs that read checkpoints", sums.readers, 0));
    FAR_TRY(check_alerts(step, &sums));
    FAR_TRY(walk(step, &far_schema_row_actor, &sums, check_actor));
    FAR_TRY(walk(step, &far_schema_row_command, &sums, NULL));
    FAR_TRY(equal(step, "remembered commands", sums.counted, sums.commands));
    FAR_TRY(walk(step, &far_schema_row_command_order, &sums, NULL));
    FAR_TRY(equal(step, "the order of remembered commands", sums.counted, sums.commands));
    FAR_TRY(walk(step, &far_schema_row_name, &sums, NULL));
    FAR_TRY(equal(step, "names", sums.counted, sums.names));
    FAR_TRY(walk(step, &far_schema_row_task_ready, &sums, NULL));
    FAR_TRY(equal(step, "ready tasks", sums.counted, sums.ready));
    FAR_TRY(walk(step, &far_schema_row_site_queue, &sums, NULL));
    FAR_TRY(equal(step, "tasks in the queues of sites", sums.counted, sums.queued));
    FAR_TRY(equal(step, "freezes and sends that nodes hold", sums.sending, 0));
    FAR_TRY(equal(step, "restores and machines that nodes hold", sums.recovering, 0));
    FAR_TRY(walk(step, &far_schema_row_node_task, &sums, NULL));
    FAR_TRY(equal(step, "held tasks", sums.counted, sums.held));
    FAR_TRY(equal(step, "running tasks", sums.running, 0));
    FAR_TRY(walk(step, &far_schema_row_figures, &sums, check_figures));
    FAR_TRY(far_check_recoveries(step));
    FAR_TRY(far_check_runs(step, &sums.deadlines));
    FAR_TRY(far_check_vaults(step, &sums.deadlines));
    FAR_TRY(walk(step, &far_schema_row_deadline, &sums, NULL));
    return equal(step, "deadlines", sums.counted, sums.deadlines);
}

int far_fsm_invariants(struct far_state *state, struct far_error *err)
{
    struct far_arena arena;
    struct far_error cause = {0};
    far_arena_init(&arena, 64 * 1024 * 1024);
    struct far_step step = {.state = state, .arena = &arena, .err = &cause};
    int rc = walk_all(&step);
    far_arena_done(&arena);
    if (rc != 0 && step.is_rejected) {
        return far_fail(err, FAR_INTERNAL, "%s", step.reject_message);
    }
    if (rc != 0 && err != NULL) {
        *err = cause;
    }
    return rc;
}
