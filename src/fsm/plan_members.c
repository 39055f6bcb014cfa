/* The workloads of a plan that is there: they come and leave without a copy of the others.
 *
 * A workload that comes is copied by the next cycle; one that comes while a cycle runs may already be part of it. One that leaves while a
 * cycle runs is marked, and goes when that is over: what it has begun for it ends well. Its points stay where they are, in the plan's
 * checkpoints, until these go. */
#include "fsm/plan_edit.h"

#include "fsm/job.h"
#include "fsm/recovery.h"
#include "fsm/refuse.h"
#include "fsm/rpo.h"

static struct far_key key_of(uint64_t plan_id, uint64_t workload_id)
{
    return far_key_pair(&far_schema_row_plan_workload, plan_id, workload_id);
}

static int emit(struct far_step *step, const struct far_ev_plan_workloads_changed *ev)
{
    FAR_TRY(far_emit(step, &far_schema_ev_plan_workloads_changed, ev));
    return far_rpo_look(step, ev->plan_id);
}

int far_members_change(struct far_step *step, const struct far_row_plan *plan, const struct far_list *add_ids,
                       const struct far_list *remove_ids)
{
    bool runs = plan->running_job_id != 0, is_held = plan->run_job_id != 0 || plan->test_job_id != 0;
    if (is_held && remove_ids->count > 0) {
        return far_reject(step, FAR_CONFLICT, "plan '%.*s' is being recovered (run %llu): no workload leaves it before that is over",
                          FAR_TEXT(plan->name), FAR_LLU(plan->run_job_id != 0 ? plan->run_job_id : plan->test_job_id));
    }
    struct far_ev_plan_workloads_changed ev = {.plan_id = plan->id, .added_ids = *add_ids};
    *(runs ? &ev.leaving_ids : &ev.removed_ids) = *remove_ids;
    return add_ids->count + remove_ids->count == 0 ? 0 : emit(step, &ev);
}

/* Ids of names; names that stand there twice are refused. */
static int ids_of(struct far_step *step, const struct far_list *names, uint64_t **ret_ids)
{
    const struct far_slice *name = names->items;
    uint64_t *ids = far_step_alloc(step, (names->count + 1) * sizeof *ids);
    if (ids == NULL) {
        return FAR_LIMIT;
    }
    if (names->count == 0) {
        return far_reject(step, FAR_INVALID, "field 'workloads' is empty: name at least one");
    }
    for (size_t i = 0; i < names->count; i++) {
        FAR_TRY(far_name_need(step, &far_schema_row_workload, name[i], &ids[i]));
        for (size_t k = 0; k < i; k++) {
            if (ids[k] == ids[i]) {
                return far_reject(step, FAR_INVALID, "field 'workloads' names '%.*s' twice", FAR_TEXT(name[i]));
            }
        }
    }
    *ret_ids = ids;
    return 0;
}

static int find(struct far_step *step, struct far_slice name, struct far_row_plan *ret)
{
    uint64_t id;
    FAR_TRY(far_name_need(step, &far_schema_row_plan, name, &id));
    step->object_id = id;
    return far_row_need(step, &far_schema_row_plan, id, ret);
}

int far_decide_plan_workloads_add(struct far_step *step, const struct far_cmd_plan_workloads_add *cmd)
{
    const struct far_slice *names = cmd->workloads.items;
    struct far_row_plan plan;
    uint64_t *ids = NULL;
    size_t count = 0;
    FAR_TRY(find(step, cmd->name, &plan));
    FAR_TRY(ids_of(step, &cmd->workloads, &ids));
    for (size_t i = 0; i < cmd->workloads.count; i++) {
        struct far_row_plan_workload member;
        struct far_row_workload workload;
        struct far_key key = key_of(plan.id, ids[i]);
        int rc = far_key_find(step, &far_schema_row_plan_workload, &key, &member);
        if (rc == 0 && !member.leaving) {
            continue; /* it is there */
        }
        FAR_TRY(rc == FAR_NOT_FOUND ? far_workload_claimable(step, names[i], &workload) : rc);
        if (rc == FAR_NOT_FOUND && workload.site_id != plan.source_site_id) {
            return far_reject(step, FAR_INVALID, "workload '%.*s' is not at the source of plan '%.*s'", FAR_TEXT(names[i]),
                              FAR_TEXT(cmd->name));
        }
        if (rc == FAR_NOT_FOUND && plan.workload_count + count >= FAR_PLAN_WORKLOADS_MAX) {
            return far_reject(step, FAR_LIMIT, "plan '%.*s' would have more than %d workloads; make another plan", FAR_TEXT(cmd->name),
                              FAR_PLAN_WORKLOADS_MAX);
        }
        ids[count++] = ids[i];
    }
    return far_members_change(step, &plan, &(struct far_list){.items = ids, .count = count}, &(struct far_list){.count = 0});
}

int far_plan_member_next(struct far_step *step, uint64_t plan_id, struct far_key *key, struct far_row_plan_workload *ret)
{
    int rc = far_next(step, &far_schema_row_plan_workload, key, NULL, ret);
    return rc == 0 && ret->plan_id != plan_id ? FAR_NOT_FOUND : rc;
}

/* Members that are not about to leave. */
static int staying(struct far_step *step, uint64_t plan_id, uint64_t *ret_count)
{
    struct far_key key = far_key_id(&far_schema_row_plan_workload, plan_id);
    *ret_count = 0;
    for (;;) {
        struct far_row_plan_workload member;
        int rc = far_plan_member_next(step, plan_id, &key, &member);
        if (rc == FAR_NOT_FOUND) {
            return 0;
        }
        FAR_TRY(rc);
        *ret_count += !member.leaving;
    }
}

static int remove_with_points(struct far_step *step, const struct far_row_plan *plan, const uint64_t *ids, size_t count)
{
    struct far_list remove = {.items = ids, .count = count}, none = {.count = 0};
    if (plan->running_job_id != 0) {
        return far_reject(step, FAR_CONFLICT, "plan '%.*s' runs job %llu; workloads leave with their points when it is over",
                          FAR_TEXT(plan->name), FAR_LLU(plan->running_job_id));
    }
    FAR_TRY(far_members_forget_check(step, plan->id, ids, count));
    FAR_TRY(far_members_change(step, plan, &none, &remove));
    for (size_t i = 0; i < count; i++) {
        FAR_TRY(far_members_forget(step, plan->id, ids[i]));
    }
    return 0;
}

int far_decide_plan_workloads_remove(struct far_step *step, const struct far_cmd_plan_workloads_remove *cmd)
{
    const struct far_slice *names = cmd->workloads.items;
    struct far_row_plan plan;
    uint64_t *ids = NULL, stay;
    size_t count = 0;
    FAR_TRY(find(step, cmd->name, &plan));
    FAR_TRY(ids_of(step, &cmd->workloads, &ids));
    FAR_TRY(staying(step, plan.id, &stay));
    for (size_t i = 0; i < cmd->workloads.count; i++) {
        struct far_row_plan_workload member;
        struct far_key key = key_of(plan.id, ids[i]);
        int rc = far_key_find(step, &far_schema_row_plan_workload, &key, &member);
        if (rc == FAR_NOT_FOUND) {
            return far_reject(step, FAR_NOT_FOUND, "workload '%.*s' is not in plan '%.*s'", FAR_TEXT(names[i]), FAR_TEXT(cmd->name));
        }
        FAR_TRY(rc);
        ids[count] = ids[i];
        count += !member.leaving;
    }
    if (count >= stay) {
        return far_reject(step, FAR_CONFLICT, "plan '%.*s' would have no workload left; remove the plan instead", FAR_TEXT(cmd->name));
    }
    if (cmd->with_points) {
        return remove_with_points(step, &plan, ids, count);
    }
    return far_members_change(step, &plan, &(struct far_list){.count = 0}, &(struct far_list){.items = ids, .count = count});
}

int far_members_leave(struct far_step *step, uint64_t plan_id)
{
    struct far_key key = far_key_id(&far_schema_row_plan_workload, plan_id);
    uint64_t *ids = far_step_alloc(step, FAR_PLAN_WORKLOADS_MAX * sizeof *ids);
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
        if (member.leaving && count < FAR_PLAN_WORKLOADS_MAX) {
            ids[count++] = member.workload_id;
        }
    }
    struct far_ev_plan_workloads_changed ev = {.plan_id = plan_id, .removed_ids = {.items = ids, .count = count}};
    return count > 0 ? emit(step, &ev) : 0;
}

/* ---- evolve ---- */

static int add(struct far_step *step, struct far_row_plan *plan, uint64_t workload_id)
{
    struct far_row_plan_workload member;
    struct far_key key = key_of(plan->id, workload_id);
    int rc = far_key_find(step, &far_schema_row_plan_workload, &key, &member);
    if (rc == 0) {
        member.leaving = false;
        return far_key_put(step, &far_schema_row_plan_workload, &key, &member);
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    member = (struct far_row_plan_workload){.plan_id = plan->id, .workload_id = workload_id, .joined_ms = step->time_ms};
    plan->workload_count++;
    FAR_TRY(far_workload_claim(step, workload_id, plan->id));
    return far_key_put(step, &far_schema_row_plan_workload, &key, &member);
}

static int mark_leaving(struct far_step *step, uint64_t plan_id, uint64_t workload_id)
{
    struct far_row_plan_workload member;
    struct far_key key = key_of(plan_id, workload_id);
    FAR_TRY(far_key_need(step, &far_schema_row_plan_workload, &key, &member));
    member.leaving = true;
    return far_key_put(step, &far_schema_row_plan_workload, &key, &member);
}

static int drop(struct far_step *step, struct far_row_plan *plan, uint64_t workload_id)
{
    struct far_row_plan_workload member;
    struct far_row_workload workload;
    struct far_key key = key_of(plan->id, workload_id);
    FAR_TRY(far_key_need(step, &far_schema_row_plan_workload, &key, &member));
    FAR_TRY(far_row_need(step, &far_schema_row_workload, workload_id, &workload));
    FAR_TRY(far_scripts_leave(step, plan->id, workload.name));
    FAR_TRY(far_key_del(step, &far_schema_row_plan_workload, &key));
    FAR_TRY(far_recovery_end(step, member.recovery_id));
    plan->workload_count--;
    plan->moved_count -= member.moved_ms != 0;
    return far_workload_claim(step, workload_id, 0);
}

int far_evolve_plan_workloads_changed(struct far_step *step, const struct far_ev_plan_workloads_changed *ev)
{
    const uint64_t *added = ev->added_ids.items, *leaving = ev->leaving_ids.items, *removed = ev->removed_ids.items;
    struct far_row_plan plan;
    FAR_TRY(far_row_need(step, &far_schema_row_plan, ev->plan_id, &plan));
    for (size_t i = 0; i < ev->added_ids.count; i++) {
        FAR_TRY(add(step, &plan, added[i]));
    }
    for (size_t i = 0; i < ev->leaving_ids.count; i++) {
        FAR_TRY(mark_leaving(step, plan.id, leaving[i]));
    }
    for (size_t i = 0; i < ev->removed_ids.count; i++) {
        FAR_TRY(drop(step, &plan, removed[i]));
    }
    plan.revision++;
    far_plan_moved_settle(step, &plan);
    FAR_TRY(far_rpo_arm(step, &plan));
    return far_plan_put(step, &plan, plan.due_ms);
}
