/* The end of a job: what became of it, and for a replication the checkpoint of what its cycle made. A member that failed
 * keeps its last good point and is named with the reason. */
#include "fsm/adoption.h"
#include "fsm/checkpoint.h"
#include "fsm/job.h"
#include "fsm/plan_edit.h"
#include "fsm/run.h"
#include "fsm/script_task.h"

struct sum {
    struct far_sub_member *members; /* by workload id */
    size_t count;
    size_t capacity;
    size_t good;  /* members with a new point */
    size_t moved; /* that the cycle was not about: with their last one, so that it is kept as long as others of the plan are */
    uint64_t joined_ms[FAR_PLAN_WORKLOADS_MAX]; /* of members that came when the plan was there */
    bool has_tasks[FAR_PLAN_WORKLOADS_MAX];
    uint64_t first_freeze_ms;
    uint64_t last_freeze_ms;
};

static int finish(struct far_step *step, const struct far_row_job *job, uint64_t state)
{
    struct far_ev_job_finished ev = {.job_id = job->id, .state = state};
    return far_emit(step, &far_schema_ev_job_finished, &ev);
}

/* The member of a workload that is part of the plan. */
static struct far_sub_member *member_of(struct sum *sum, uint64_t workload_id)
{
    for (size_t i = 0; i < sum->count; i++) {
        if (sum->members[i].workload_id == workload_id) {
            return &sum->members[i];
        }
    }
    return NULL;
}

/* Every workload of the plan, as if it had failed, but for those that were moved. */
static int list_members(struct far_step *step, const struct far_row_job *job, struct sum *sum)
{
    struct far_key key = far_key_id(&far_schema_row_plan_workload, job->plan_id);
    for (;;) {
        struct far_row_plan_workload row;
        struct far_row_workload workload;
        int rc = far_plan_member_next(step, job->plan_id, &key, &row);
        if (rc == FAR_NOT_FOUND) {
            return 0;
        }
        FAR_TRY(rc);
        FAR_TRY(far_row_need(step, &far_schema_row_workload, row.workload_id, &workload));
        if (sum->count == sum->capacity) {
            return far_reject(step, FAR_INTERNAL, "broken: plan %llu has more than %zu workloads",
                              FAR_LLU(job->plan_id), sum->capacity);
        }
        bool is_moved = row.moved_ms != 0;
        if (is_moved && workload.last_point_id == 0) {
            continue;
        }
        sum->moved += is_moved;
        sum->joined_ms[sum->count] = row.joined_ms;
        sum->members[sum->count++] = (struct far_sub_member){
            .workload_id = row.workload_id, .point_id = workload.last_point_id, .failed = !is_moved, .moved = is_moved};
    }
}

static int add_point(struct far_step *step, struct sum *sum, struct far_sub_member *member, uint64_t point_id)
{
    struct far_row_point point;
    FAR_TRY(far_row_need(step, &far_schema_row_point, point_id, &point));
    *member = (struct far_sub_member){.workload_id = member->workload_id, .point_id = point_id};
    bool is_first = sum->good++ == 0;
    sum->first_freeze_ms = is_first || point.frozen_at_ms < sum->first_freeze_ms ? point.frozen_at_ms
                                                                                 : sum->first_freeze_ms;
    sum->last_freeze_ms = point.frozen_at_ms > sum->last_freeze_ms ? point.frozen_at_ms : sum->last_freeze_ms;
    return 0;
}

static int sum_up(struct far_step *step, const struct far_row_job *job, struct sum *sum)
{
    struct far_key key = far_key_id(&far_schema_row_task, job->id);
    for (;;) {
        struct far_row_task task;
        int rc = far_next(step, &far_schema_row_task, &key, NULL, &task);
        if (rc == FAR_NOT_FOUND || (rc == 0 && task.job_id != job->id)) {
            return 0;
        }
        FAR_TRY(rc);
        struct far_sub_member *member = member_of(sum, task.workload_id);
        if (member == NULL || task.kind == FAR_task_kind_release || task.kind == FAR_task_kind_script) {
            continue;
        }
        sum->has_tasks[member - sum->members] = true;
        if (task.kind == FAR_task_kind_seal && task.state == FAR_task_state_done) {
            FAR_TRY(add_point(step, sum, member, task.point_id));
        } else if (task.state == FAR_task_state_failed && member->error_message.len == 0) {
            member->error_message = task.error_message;
        }
    }
}

/* Who came while the cycle ran and had no part in it is no member of what it made. */
static void leave_out(struct sum *sum, const struct far_row_job *job)
{
    size_t kept = 0;
    for (size_t i = 0; i < sum->count; i++) {
        if (sum->has_tasks[i] || sum->joined_ms[i] == 0 || sum->joined_ms[i] < job->started_ms) {
            sum->members[kept++] = sum->members[i];
        }
    }
    sum->count = kept;
}

/* ---- consistency groups ---- */

static int measure_group(struct far_step *step, const struct sum *sum, const struct far_sub_consistency_group *group,
                         struct far_sub_group_skew *ret)
{
    const struct far_slice *names = group->workloads.items;
    uint64_t first_ms = UINT64_MAX, last_ms = 0;
    *ret = (struct far_sub_group_skew){.name = group->name, .is_whole = true};
    for (size_t i = 0; i < group->workloads.count; i++) {
        uint64_t id = 0;
        int rc = far_name_find(step, &far_schema_row_workload, names[i], &id);
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
        const struct far_sub_member *member = NULL;
        for (size_t k = 0; k < sum->count; k++) {
            member = sum->members[k].workload_id == id ? &sum->members[k] : member;
        }
        ret->is_whole = ret->is_whole && member != NULL && !member->failed && !member->moved;
        if (member != NULL && member->point_id != 0 && !member->moved) {
            struct far_row_point point;
            FAR_TRY(far_row_need(step, &far_schema_row_point, member->point_id, &point));
            first_ms = point.frozen_at_ms < first_ms ? point.frozen_at_ms : first_ms;
            last_ms = point.frozen_at_ms > last_ms ? point.frozen_at_ms : last_ms;
        }
    }
    ret->skew_ms = last_ms > first_ms ? last_ms - first_ms : 0;
    return 0;
}

static int measure_groups(struct far_step *step, const struct sum *sum, uint64_t plan_id, struct far_list *ret)
{
    struct far_row_plan_scripts row;
    FAR_TRY(far_scripts_of(step, plan_id, &row));
    struct far_sub_group_skew *skews = far_step_alloc(step, (row.consistency_groups.count + 1) * sizeof *skews);
    if (skews == NULL) {
        return FAR_LIMIT;
    }
    for (size_t g = 0; g < row.consistency_groups.count; g++) {
        FAR_TRY(measure_group(step, sum, (const struct far_sub_consistency_group *)row.consistency_groups.items + g, &skews[g]));
    }
    *ret = (struct far_list){.items = skews, .count = row.consistency_groups.count};
    return 0;
}

static int finish_replicate(struct far_step *step, const struct far_row_job *job)
{
    struct sum sum = {.capacity = FAR_PLAN_WORKLOADS_MAX};
    struct far_row_plan plan;
    sum.members = far_step_alloc(step, sum.capacity * sizeof *sum.members);
    if (sum.members == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_plan, job->plan_id, &plan));
    FAR_TRY(list_members(step, job, &sum));
    FAR_TRY(sum_up(step, job, &sum));
    leave_out(&sum, job);
    if (sum.good > 0) {
        struct far_ev_checkpoint_created ev = {.id = job->checkpoint_id,
                                               .plan_id = job->plan_id,
                                               .job_id = job->id,
                                               .skew_ms = sum.last_freeze_ms - sum.first_freeze_ms,
                                               .members = {.items = sum.members, .count = sum.count},
                                               .locked_until_ms = job->lock_until_ms,
                                               .networks_id = plan.networks_id};
        FAR_TRY(measure_groups(step, &sum, plan.id, &ev.groups));
        FAR_TRY(far_emit(step, &far_schema_ev_checkpoint_created, &ev));
        FAR_TRY(far_lock_older(step, ev.id));
    }
    if (sum.good + sum.moved == sum.count) { /* its points are good whatever a script behind it says */
        uint64_t failed;
        FAR_TRY(far_cycle_scripts_failed(step, job, &failed));
        return finish(step, job, failed > 0 ? FAR_job_state_partial : FAR_job_state_succeeded);
    }
    return finish(step, job, job->cancel      ? FAR_job_state_canceled
                             : sum.good == 0 ? FAR_job_state_failed
                                             : FAR_job_state_partial);
}

static int finish_other(struct far_step *step, const struct far_row_job *job)
{
    if (far_job_is_run(job->kind)) {
        uint64_t state;
        FAR_TRY(far_run_outcome(step, job, &state));
        return finish(step, job, state);
    }
    if (job->kind == FAR_job_kind_compare && job->tasks_done > 0 && !job->cancel) { /* the vault's side is ended when the source's is */
        return finish(step, job, 2 * job->tasks_done >= job->task_count ? FAR_job_state_succeeded : FAR_job_state_partial);
    }
    if (job->kind == FAR_job_kind_erase && job->cancel) {
        return finish(step, job, FAR_job_state_canceled);
    }
    bool is_whole = true;
    FAR_TRY(job->kind == FAR_job_kind_adopt ? far_adoption_is_whole(step, job->node_id, &is_whole) : 0);
    if (job->kind == FAR_job_kind_adopt && job->cancel) {
        return finish(step, job, FAR_job_state_canceled);
    }
    if (job->tasks_done == job->task_count) {
        return finish(step, job, is_whole ? FAR_job_state_succeeded : FAR_job_state_partial);
    }
    return finish(step, job, job->tasks_failed == 0 ? FAR_job_state_canceled : FAR_job_state_failed);
}

int far_job_finish(struct far_step *step, const struct far_row_job *job)
{
    bool is_cycle = job->kind == FAR_job_kind_replicate || job->kind == FAR_job_kind_erase;
    FAR_TRY(job->kind == FAR_job_kind_replicate ? finish_replicate(step, job) : finish_other(step, job));
    return is_cycle ? far_members_leave(step, job->plan_id) : 0;
}
