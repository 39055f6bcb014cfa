/* A workload that left its plan with its points: a job of kind forget takes it out of the plan's checkpoints, the newest first, some at a
 * time, and its points out of the vaults. A checkpoint of nothing else goes as a whole. What is being read, or built on by a cycle of
 * another plan, is waited for; what was locked or preserved after the command stays. next_workload_id of the job is the checkpoint behind
 * which it goes on. Canceled, it stops where it is; what it removed stays removed. */
#include "fsm/plan_edit.h"

#include "fsm/checkpoint.h"
#include "fsm/expiry.h"
#include "fsm/job.h"
#include "fsm/task.h"

enum { LOOKS_MAX = 256, TAKEN_MAX = 64, WAIT_MS = 10000 };

/* FAR_NOT_FOUND, without a rejection: it is not in this checkpoint. */
static int member_of(struct far_step *step, uint64_t checkpoint_id, uint64_t workload_id, struct far_row_checkpoint_member *ret)
{
    struct far_key key = far_key_pair(&far_schema_row_checkpoint_member, checkpoint_id, workload_id);
    return far_key_find(step, &far_schema_row_checkpoint_member, &key, ret);
}

int far_members_forget_check(struct far_step *step, uint64_t plan_id, const uint64_t *workload_ids, size_t count)
{
    struct far_key key = far_plan_checkpoints_from(plan_id, 0);
    for (;;) {
        struct far_row_checkpoint row;
        struct far_row_checkpoint_member member;
        int rc = far_plan_checkpoints_next(step, plan_id, &key, &row);
        if (rc != 0) {
            return rc == FAR_NOT_FOUND && !step->is_rejected ? 0 : rc;
        }
        for (size_t i = 0; i < count; i++) {
            rc = member_of(step, row.id, workload_ids[i], &member);
            FAR_TRY(rc == 0 ? far_checkpoint_free(step, &row) : rc == FAR_NOT_FOUND ? 0 : rc);
        }
    }
}

int far_members_forget(struct far_step *step, uint64_t plan_id, uint64_t workload_id)
{
    struct far_ev_job_started ev = {.id = step->progress.next_id,
                                    .kind = FAR_job_kind_forget,
                                    .plan_id = plan_id,
                                    .workload_id = workload_id,
                                    .actor = step->actor,
                                    .next_workload_id = UINT64_MAX};
    FAR_TRY(far_emit(step, &far_schema_ev_job_started, &ev));
    struct far_ev_tasks_created next = {.job_id = ev.id, .first_task = 1, .next_workload_id = UINT64_MAX};
    return far_emit(step, &far_schema_ev_tasks_created, &next);
}

/* ---- a portion ---- */

struct portion {
    const struct far_row_job *job;
    struct far_sub_task_new items[TAKEN_MAX];
    size_t count, taken;
    uint64_t behind_id; /* 0: it was the last one */
    uint64_t wake_ms;
};

/* Is this point the base of a cycle that runs? */
static int is_built_on(struct far_step *step, uint64_t workload_id, bool *ret_is)
{
    struct far_row_workload workload;
    struct far_row_plan plan = {.id = 0};
    int rc = far_row_find(step, &far_schema_row_workload, workload_id, &workload);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    FAR_TRY(rc == 0 && workload.plan_id != 0 ? far_row_need(step, &far_schema_row_plan, workload.plan_id, &plan) : 0);
    *ret_is = plan.running_job_id != 0;
    return 0;
}

/* Its vault forgets it, unless that is gone with its node. */
static int add_forget(struct far_step *step, struct portion *portion, const struct far_row_point *point)
{
    struct far_row_node node;
    struct far_candidate *candidate;
    struct far_sub_task_new *item = &portion->items[portion->count];
    int rc = far_row_find(step, &far_schema_row_node, point->node_id, &node);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    *item = (struct far_sub_task_new){
        .kind = FAR_task_kind_forget, .ready = true, .workload_id = point->workload_id, .point_id = point->id};
    FAR_TRY(far_candidate_node(step, node.id, &candidate));
    if (candidate != NULL) {
        item->node_id = candidate->node_id;
        item->boot = candidate->boot;
        far_candidate_add(step, candidate, &(struct far_row_task){.kind = item->kind});
    }
    portion->count++;
    return 0;
}

static int take(struct far_step *step, struct portion *portion, const struct far_row_checkpoint *row,
                const struct far_row_checkpoint_member *member)
{
    struct far_row_point point = {.id = 0};
    uint64_t ids[256];
    size_t count;
    FAR_TRY(member->point_id != 0 ? far_row_need(step, &far_schema_row_point, member->point_id, &point) : 0);
    bool goes = point.id != 0 && point.holds == 1;
    struct far_ev_checkpoint_member_removed ev = {
        .checkpoint_id = row->id, .workload_id = member->workload_id, .point_id = goes ? point.id : 0};
    portion->taken++;
    FAR_TRY(row->member_count == 1 ? far_checkpoint_take(step, row, false, ids, &count)
                                   : far_emit(step, &far_schema_ev_checkpoint_member_removed, &ev));
    return goes ? add_forget(step, portion, &point) : 0;
}

/* ret_waits: it cannot be looked at now; the portion ends before it. */
static int look_at(struct far_step *step, struct portion *portion, const struct far_row_checkpoint *row, bool *ret_waits)
{
    struct far_row_checkpoint_member member;
    int rc = member_of(step, row->id, portion->job->workload_id, &member);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    FAR_TRY(is_built_on(step, member.workload_id, ret_waits));
    *ret_waits = *ret_waits || row->readers != 0;
    bool stays = row->locked_until_ms > step->time_ms || row->preserved_ms != 0;
    return *ret_waits || stays ? 0 : take(step, portion, row, &member);
}

int far_members_forget_next(struct far_step *step, const struct far_row_job *job)
{
    struct portion *portion = far_step_alloc(step, sizeof *portion);
    struct far_key key = far_plan_checkpoints_from(job->plan_id, job->next_workload_id);
    bool waits = false;
    if (portion == NULL) {
        return FAR_LIMIT;
    }
    portion->job = job;
    portion->count = portion->taken = 0;
    portion->behind_id = job->next_workload_id;
    portion->wake_ms = 0;
    for (size_t i = 0; i < LOOKS_MAX && portion->taken < TAKEN_MAX && portion->behind_id != 0 && !waits; i++) {
        struct far_row_checkpoint row;
        int rc = far_plan_checkpoints_next(step, job->plan_id, &key, &row);
        FAR_TRY(rc == FAR_NOT_FOUND && !step->is_rejected ? 0 : rc);
        FAR_TRY(rc == 0 ? look_at(step, portion, &row, &waits) : 0);
        portion->behind_id = rc != 0 ? 0 : waits ? portion->behind_id : row.id;
        portion->wake_ms = waits ? step->time_ms + WAIT_MS : 0;
    }
    struct far_ev_tasks_created ev = {.job_id = job->id,
                                      .first_task = job->task_count + 1,
                                      .next_workload_id = portion->behind_id,
                                      .wake_ms = portion->wake_ms,
                                      .items = {.items = portion->items, .count = portion->count}};
    FAR_TRY(far_lease_until(step, &ev.lease_until_ms));
    FAR_TRY(far_emit(step, &far_schema_ev_tasks_created, &ev));
    return portion->behind_id == 0 ? far_job_settle(step, job->id) : 0;
}

int far_evolve_checkpoint_member_removed(struct far_step *step, const struct far_ev_checkpoint_member_removed *ev)
{
    struct far_row_checkpoint row;
    struct far_row_checkpoint_member member;
    struct far_row_point point;
    struct far_key key = far_key_pair(&far_schema_row_checkpoint_member, ev->checkpoint_id, ev->workload_id);
    FAR_TRY(far_row_need(step, &far_schema_row_checkpoint, ev->checkpoint_id, &row));
    FAR_TRY(far_key_need(step, &far_schema_row_checkpoint_member, &key, &member));
    if (row.state == FAR_point_state_removed || row.member_count < 2) {
        return far_reject(step, FAR_INTERNAL, "broken: checkpoint %llu is removed, or would be empty", FAR_LLU(row.id));
    }
    FAR_TRY(far_key_del(step, &far_schema_row_checkpoint_member, &key));
    row.member_count--;
    row.failed_count -= member.failed && row.failed_count > 0;
    FAR_TRY(far_row_put(step, &far_schema_row_checkpoint, row.id, &row));
    if (member.point_id != 0) {
        FAR_TRY(far_row_need(step, &far_schema_row_point, member.point_id, &point));
        point.holds--;
        FAR_TRY(far_row_put(step, &far_schema_row_point, point.id, &point));
    }
    FAR_TRY(ev->point_id != 0 ? far_point_remove(step, ev->point_id) : 0);
    FAR_TRY(far_point_look_again(step, &row));
    return far_expiry_wake(step, row.plan_id);
}
