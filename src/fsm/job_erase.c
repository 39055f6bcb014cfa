/* Erasing a plan: a job of the plan, beside which no cycle runs, in phases; each begins when all tasks of the one before are over.
 *
 *   measure  what each vault holds of the plan, so that what others share, and stays therefore, can be told;
 *   forget   all checkpoints are removed, a few at a time, and their points forgotten in the vaults;
 *   mark     a pass of reclaim on each of these vaults: what nobody needs now is quarantined;
 *   delete   when every transfer has ended that ran then, a second pass: its bytes are zeroed, its room is given back. While some of the
 *            plan's points could not be let go of (somebody reads them) or what needs what is not known (a manifest is damaged, a
 *            domain's key is not there), so that bytes of the plan may be left, the job says so and tries again, more and more seldom.
 *
 * The vaults are those that the first tasks name. A job that is canceled stops where it is; what it removed stays removed. */
#include "fsm/checkpoint.h"
#include "fsm/expiry.h"
#include "fsm/job.h"
#include "fsm/vault_row.h"

#include <stdio.h>

enum { BEGUN, MEASURE, FORGET, MARK, DELETE, DONE };
static const char *const states[] = {"begun", "measuring", "forgetting", "marking", "deleting", "done"};
static const char *const inputs[] = {"measure", "forget", "mark", "delete", "end"};
#define EARLY FAR_REJECT(FAR_INTERNAL, "is not so far yet")
#define LATE FAR_REJECT(FAR_INTERNAL, "is further on")
static const struct far_cell cells[6][5] = {
    [BEGUN] = {FAR_MOVE(MEASURE), EARLY, EARLY, EARLY, EARLY},
    [MEASURE] = {FAR_MOVE(MEASURE), FAR_MOVE(FORGET), EARLY, EARLY, EARLY},
    [FORGET] = {LATE, FAR_MOVE(FORGET), FAR_MOVE(MARK), EARLY, EARLY},
    [MARK] = {LATE, LATE, FAR_MOVE(MARK), FAR_MOVE(DELETE), EARLY},
    [DELETE] = {LATE, LATE, LATE, FAR_MOVE(DELETE), FAR_MOVE(DONE)},
    [DONE] = {LATE, LATE, LATE, LATE, LATE},
};
const struct far_table far_table_erasing = FAR_TABLE("erasing of job", states, inputs, cells);

enum { CHECKPOINTS_AT_ONCE = 8, NODES_MAX = FAR_TASKS_AT_ONCE_MAX, WAIT_MS = 10000, AGAIN_MS = 30000, AGAIN_MS_MAX = 3600000 };

#define LEFT "some of it may be left: "

/* Did something hold bytes of the plan when the last pass began? */
static bool is_held_up(const struct far_row_job *job)
{
    size_t len = strlen(LEFT);
    return job->error_message.len >= len && memcmp(job->error_message.data, LEFT, len) == 0;
}

static int enter(struct far_step *step, struct far_row_job *job, const struct far_ev_job_phase *ev)
{
    FAR_TRY(far_emit(step, &far_schema_ev_job_phase, ev));
    return far_row_need(step, &far_schema_row_job, job->id, job);
}

int far_evolve_job_phase(struct far_step *step, const struct far_ev_job_phase *ev)
{
    struct far_row_job job;
    FAR_TRY(far_job_open(step, ev->job_id, &job));
    if (ev->phase < MEASURE || ev->phase > DONE) {
        return far_reject(step, FAR_INTERNAL, "broken: job %llu has no phase %llu", FAR_LLU(ev->job_id), FAR_LLU(ev->phase));
    }
    FAR_TRY(far_move_id(step, &far_table_erasing, (size_t)job.phase, (size_t)ev->phase - MEASURE, job.id, NULL));
    job.phase = ev->phase;
    job.pass = ev->pass != 0 ? ev->pass : job.pass;
    job.delete_before = ev->delete_before;
    job.shared_bytes = ev->shared_bytes != 0 ? ev->shared_bytes : job.shared_bytes;
    if (ev->problem.len != 0 || is_held_up(&job)) {
        job.error_message = ev->problem;
        job.error_class = far_slice_str(ev->problem.len != 0 ? "busy" : "");
    }
    job.next_workload_id = ev->phase != DONE;
    return far_job_wake_at(step, &job, ev->wake_ms);
}

static int create(struct far_step *step, const struct far_row_job *job, const struct far_sub_task_new *items, size_t count)
{
    struct far_ev_tasks_created ev = {.job_id = job->id,
                                      .first_task = job->task_count + 1,
                                      .next_workload_id = 1,
                                      .items = {.items = items, .count = count}};
    FAR_TRY(far_lease_until(step, &ev.lease_until_ms));
    return count > 0 ? far_emit(step, &far_schema_ev_tasks_created, &ev) : 0;
}

static int assign(struct far_step *step, uint64_t node_id, struct far_sub_task_new *item)
{
    struct far_candidate *node;
    FAR_TRY(far_candidate_node(step, node_id, &node));
    if (node != NULL) {
        item->node_id = node->node_id;
        item->boot = node->boot;
        far_candidate_add(step, node, &(struct far_row_task){.kind = item->kind});
    }
    return 0;
}

/* ---- which vaults ---- */

/* All that hold points of the plan. */
static int find_vaults(struct far_step *step, uint64_t plan_id, uint64_t *ids, size_t *ret_count)
{
    struct far_key at = far_key(&far_schema_row_vault);
    struct far_row_vault vault;
    int rc;
    *ret_count = 0;
    while ((rc = far_next(step, &far_schema_row_vault, &at, NULL, &vault)) == 0) {
        struct far_row_vault_plan row;
        struct far_key key = far_key_pair(&far_schema_row_vault_plan, vault.id, plan_id);
        rc = far_key_find(step, &far_schema_row_vault_plan, &key, &row);
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
        if (rc == 0 && *ret_count == NODES_MAX) {
            return far_reject(step, FAR_LIMIT, "the points of this plan are in more than %d vaults; remove some checkpoints first",
                              NODES_MAX);
        }
        if (rc == 0) {
            ids[(*ret_count)++] = vault.id;
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* Those that the job measured and that are there. */
static int list_vaults(struct far_step *step, const struct far_row_job *job, struct far_row_vault *vaults, size_t *ret_count)
{
    *ret_count = 0;
    for (uint64_t number = 1; number <= job->task_count; number++) {
        struct far_row_task task;
        struct far_key key = far_key_part(&far_schema_row_task, job->id, number);
        FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &task));
        if (task.kind != FAR_task_kind_measure) {
            return 0;
        }
        int rc = far_row_find(step, &far_schema_row_vault, task.vault_node_id, &vaults[*ret_count]);
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
        *ret_count += rc == 0;
    }
    return 0;
}

/* ---- phases ---- */

static int sum_shared(struct far_step *step, const struct far_row_job *job, const struct far_row_vault *vaults, size_t count,
                      uint64_t *ret_bytes)
{
    *ret_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        struct far_row_vault_plan row;
        struct far_key key = far_key_pair(&far_schema_row_vault_plan, vaults[i].id, job->plan_id);
        int rc = far_key_find(step, &far_schema_row_vault_plan, &key, &row);
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
        *ret_bytes += rc == 0 ? row.shared_bytes : 0;
    }
    return 0;
}

/* Remove some checkpoints; the tasks that forget their points go into items. ret_busy: one is being read. */
static int forget_some(struct far_step *step, const struct far_row_job *job, struct far_sub_task_new *items, size_t *ret_items,
                       size_t *ret_checkpoints, bool *ret_busy)
{
    struct far_key key = far_plan_checkpoints_from(job->plan_id, 0);
    uint64_t ids[256];
    *ret_items = *ret_checkpoints = 0;
    *ret_busy = false;
    while (*ret_checkpoints < CHECKPOINTS_AT_ONCE) {
        struct far_row_checkpoint row;
        size_t count;
        int rc = far_plan_checkpoints_next(step, job->plan_id, &key, &row);
        if (rc == FAR_NOT_FOUND || (rc == 0 && *ret_items + row.member_count > FAR_TASKS_AT_ONCE_MAX)) {
            return 0;
        }
        FAR_TRY(rc);
        if (row.readers != 0) {
            *ret_busy = true;
            continue;
        }
        FAR_TRY(far_checkpoint_take(step, &row, false, ids, &count));
        (*ret_checkpoints)++;
        for (size_t i = 0; i < count; i++) {
            struct far_row_point point;
            struct far_row_node node;
            struct far_sub_task_new *item = &items[*ret_items];
            FAR_TRY(far_row_need(step, &far_schema_row_point, ids[i], &point));
            rc = far_row_find(step, &far_schema_row_node, point.node_id, &node);
            FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
            if (rc == FAR_NOT_FOUND) {
                continue; /* its vault is gone with the node */
            }
            (*ret_items)++;
            *item = (struct far_sub_task_new){
                .kind = FAR_task_kind_forget, .ready = true, .workload_id = point.workload_id, .point_id = point.id};
            FAR_TRY(assign(step, point.node_id, item));
        }
    }
    return 0;
}

static int forget(struct far_step *step, struct far_row_job *job)
{
    struct far_sub_task_new *items = far_step_alloc(step, FAR_TASKS_AT_ONCE_MAX * sizeof *items);
    size_t count, checkpoints;
    bool is_busy;
    if (items == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(forget_some(step, job, items, &count, &checkpoints, &is_busy));
    FAR_TRY(create(step, job, items, count));
    if (count > 0) {
        return 0;
    }
    if (checkpoints == 0 && !is_busy) {
        struct far_ev_job_phase ev = {.job_id = job->id, .phase = MARK, .wake_ms = step->time_ms + 1};
        return enter(step, job, &ev);
    }
    struct far_ev_job_phase ev = {
        .job_id = job->id, .phase = FORGET, .wake_ms = step->time_ms + (checkpoints > 0 ? 1 : WAIT_MS)};
    return enter(step, job, &ev);
}

/* What keeps bytes of the plan in these vaults, in words; empty: nothing. */
static int what_is_left(struct far_step *step, const struct far_row_vault *vaults, size_t count, struct far_slice *ret_problem)
{
    uint64_t pinned = 0, uncountable = 0;
    char text[400];
    const struct far_row_vault *first = NULL;
    for (size_t i = 0; i < count; i++) {
        pinned += vaults[i].points_pinned;
        uncountable += vaults[i].points_uncountable;
        first = first == NULL && vaults[i].points_pinned + vaults[i].points_uncountable != 0 ? &vaults[i] : first;
    }
    *ret_problem = far_slice(NULL, 0);
    if (first == NULL) {
        return 0;
    }
    struct far_row_node node;
    FAR_TRY(far_row_need(step, &far_schema_row_node, first->node_id, &node));
    snprintf(text, sizeof text,
             LEFT "in %llu vaults %llu forgotten points are still being read, and of %llu points it is not known what they "
             "need; it is tried again. First, the vault of node '%.*s'%s%.*s",
             FAR_LLU(count), FAR_LLU(pinned), FAR_LLU(uncountable), FAR_TEXT(node.name), first->problem.len != 0 ? ": " : "",
             (int)(first->problem.len < 150 ? first->problem.len : 150), (const char *)first->problem.data);
    return far_step_copy(step, far_slice_str(text), ret_problem);
}

/* A pass on every vault; phase MARK before it was ordered: job->pass is 0. */
static int reclaim(struct far_step *step, struct far_row_job *job, const struct far_row_vault *vaults, size_t count, uint64_t phase)
{
    struct far_sub_task_new *items = far_step_alloc(step, (count + 1) * sizeof *items);
    struct far_ev_job_phase ev = {.job_id = job->id, .phase = phase, .pass = step->index};
    bool waits = false, goes_on;
    if (items == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_level_has(step, 4, &goes_on)); /* where no vault has anything of the plan: before, such a job stood still */
    ev.wake_ms = goes_on && count == 0 ? step->time_ms + 1 : 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t before = job->pass + 1;
        FAR_TRY(phase == DELETE ? far_vault_row_delete_before(step, &vaults[i], &before) : 0);
        waits = waits || vaults[i].reclaim_job_id != 0 || before <= job->pass;
        ev.pass = ev.pass > vaults[i].pass ? ev.pass : vaults[i].pass + 1;
        items[i] = (struct far_sub_task_new){.kind = FAR_task_kind_reclaim, .ready = true, .vault_node_id = vaults[i].id};
    }
    if (waits) {
        ev = (struct far_ev_job_phase){.job_id = job->id, .phase = job->phase, .wake_ms = step->time_ms + WAIT_MS};
        return enter(step, job, &ev);
    }
    ev.delete_before = phase == DELETE ? job->pass + 1 : 0;
    FAR_TRY(phase == DELETE ? what_is_left(step, vaults, count, &ev.problem) : 0);
    FAR_TRY(enter(step, job, &ev));
    for (size_t i = 0; i < count; i++) {
        FAR_TRY(assign(step, vaults[i].id, &items[i]));
    }
    return create(step, job, items, count);
}

static int end(struct far_step *step, struct far_row_job *job)
{
    struct far_ev_job_phase ev = {.job_id = job->id, .phase = DONE};
    FAR_TRY(enter(step, job, &ev));
    return far_job_settle(step, job->id);
}

/* A pass of the phase DELETE is over: is all of it gone? If not, another one in a while: the more there were, the later. */
static int check_deleted(struct far_step *step, struct far_row_job *job, const struct far_row_vault *vaults, size_t count)
{
    struct far_ev_job_phase ev = {.job_id = job->id, .phase = DELETE};
    uint64_t passes = job->task_count / (count > 0 ? count : 1);
    FAR_TRY(what_is_left(step, vaults, count, &ev.problem));
    if (ev.problem.len == 0 && !is_held_up(job)) {
        return end(step, job);
    }
    /* What was let go of by this pass only is deleted by the next one. */
    uint64_t wait_ms = ev.problem.len == 0 ? 1 : passes * AGAIN_MS < AGAIN_MS_MAX ? passes * AGAIN_MS : AGAIN_MS_MAX;
    ev.wake_ms = step->time_ms + wait_ms;
    return enter(step, job, &ev);
}

int far_erase_next(struct far_step *step, uint64_t job_id)
{
    struct far_row_job job;
    struct far_row_vault *vaults = far_step_alloc(step, NODES_MAX * sizeof *vaults);
    struct far_ev_job_phase ev = {.job_id = job_id, .phase = FORGET, .wake_ms = step->time_ms + 1};
    size_t count;
    if (vaults == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_job, job_id, &job));
    bool is_over = job.tasks_done + job.tasks_failed + job.tasks_canceled == job.task_count;
    bool waits = job.phase == DELETE && job.wake_ms > step->time_ms;
    if (job.next_workload_id == 0 || waits || !is_over) {
        return 0;
    }
    FAR_TRY(list_vaults(step, &job, vaults, &count));
    switch (job.phase) {
    case MEASURE:
        FAR_TRY(sum_shared(step, &job, vaults, count, &ev.shared_bytes));
        return enter(step, &job, &ev);
    case FORGET:
        return forget(step, &job);
    case MARK:
        return job.pass == 0 ? reclaim(step, &job, vaults, count, MARK) : reclaim(step, &job, vaults, count, DELETE);
    case DELETE: /* delete_before is 0 while it waits for another pass */
        return job.delete_before != 0 ? check_deleted(step, &job, vaults, count) : reclaim(step, &job, vaults, count, DELETE);
    default:
        return end(step, &job);
    }
}

/* ---- the command ---- */

static int add_disks(struct far_step *step, uint64_t workload_id, uint64_t *ids, size_t *count)
{
    struct far_row_workload workload;
    FAR_TRY(far_row_need(step, &far_schema_row_workload, workload_id, &workload));
    for (uint64_t d = 0; d < workload.disk_count; d++) {
        struct far_row_disk disk;
        struct far_key key = far_key_part(&far_schema_row_disk, workload_id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &disk));
        if (*count == FAR_ERASE_DISKS_MAX) {
            return far_reject(step, FAR_LIMIT, "a plan of more than %d disks cannot be erased at once", FAR_ERASE_DISKS_MAX);
        }
        ids[(*count)++] = disk.id;
    }
    return 0;
}

int far_erase_disks(struct far_step *step, uint64_t plan_id, struct far_list *ret_disk_ids)
{
    struct far_key key = far_key_id(&far_schema_row_plan_workload, plan_id);
    uint64_t *ids = far_step_alloc(step, FAR_ERASE_DISKS_MAX * sizeof *ids);
    size_t count = 0;
    if (ids == NULL) {
        return FAR_LIMIT;
    }
    for (;;) {
        struct far_row_plan_workload member;
        int rc = far_plan_member_next(step, plan_id, &key, &member);
        if (rc == FAR_NOT_FOUND) {
            break;
        }
        FAR_TRY(rc);
        FAR_TRY(add_disks(step, member.workload_id, ids, &count));
    }
    *ret_disk_ids = (struct far_list){.items = ids, .count = count};
    return 0;
}

static int check_free(struct far_step *step, uint64_t plan_id)
{
    struct far_key key = far_plan_checkpoints_from(plan_id, 0);
    for (;;) {
        struct far_row_checkpoint row;
        int rc = far_plan_checkpoints_next(step, plan_id, &key, &row);
        if (rc != 0) {
            return rc == FAR_NOT_FOUND ? 0 : rc;
        }
        FAR_TRY(far_checkpoint_free(step, &row));
    }
}

int far_decide_plan_erase(struct far_step *step, const struct far_cmd_plan_erase *cmd)
{
    struct far_row_plan plan;
    uint64_t ids[NODES_MAX];
    size_t count;
    FAR_TRY(far_plan_for_erase(step, cmd->name, &plan));
    if (!far_slice_equal(cmd->name, cmd->confirm)) {
        return far_reject(step, FAR_INVALID, "erasing a plan cannot be undone: give its name again (field 'confirm', --confirm %.*s)",
                          FAR_TEXT(cmd->name));
    }
    struct far_list disk_ids;
    FAR_TRY(far_erase_disks(step, plan.id, &disk_ids));
    FAR_TRY(check_free(step, plan.id));
    FAR_TRY(find_vaults(step, plan.id, ids, &count));
    struct far_sub_task_new *items = far_step_alloc(step, (count + 1) * sizeof *items);
    if (items == NULL) {
        return FAR_LIMIT;
    }
    struct far_ev_job_started ev = {.id = step->progress.next_id,
                                    .kind = FAR_job_kind_erase,
                                    .plan_id = plan.id,
                                    .actor = step->actor,
                                    .next_workload_id = 1};
    FAR_TRY(far_emit(step, &far_schema_ev_job_started, &ev));
    struct far_row_job job = {.id = ev.id};
    struct far_ev_job_phase phase = {.job_id = ev.id, .phase = MEASURE, .wake_ms = step->time_ms + 1};
    FAR_TRY(enter(step, &job, &phase));
    for (size_t i = 0; i < count; i++) {
        items[i] = (struct far_sub_task_new){.kind = FAR_task_kind_measure, .ready = true, .vault_node_id = ids[i]};
        FAR_TRY(assign(step, ids[i], &items[i]));
    }
    step->object_id = ev.id;
    return create(step, &job, items, count);
}
