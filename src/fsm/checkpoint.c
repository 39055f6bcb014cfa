/* Checkpoints: what one cycle made of a plan.
 *
 * A member is a workload with its new point, or with its last good one if it failed. A removed checkpoint's job takes the manifests of
 * points that nobody names any more out of the vault. Who may remove one, and when: expiry.h. */
#include "fsm/checkpoint.h"

#include "fsm/expiry.h"
#include "fsm/job.h"
#include "fsm/recovery.h"
#include "fsm/task.h"

enum { ABSENT, AVAILABLE, DAMAGED, REMOVED };
enum {
    CREATE = FAR_CHECKPOINT_CREATE,
    RECOVER = FAR_CHECKPOINT_RECOVER,
    VERIFY = FAR_CHECKPOINT_VERIFY,
    REMOVE = FAR_CHECKPOINT_REMOVE,
    PRESERVE = FAR_CHECKPOINT_PRESERVE,
    UNPRESERVE = FAR_CHECKPOINT_UNPRESERVE,
    LOCK = FAR_CHECKPOINT_LOCK,
};
static const char *const states[] = {"absent", "available", "damaged", "removed"};
static const char *const inputs[] = {"create",  "recover", "checkpoint_verify", "checkpoint_remove", "checkpoint_preserve",
                                     "checkpoint_unpreserve", "checkpoint_lock"};
#define GONE FAR_REJECT(FAR_NOT_FOUND, "does not exist")
#define TAKEN FAR_REJECT(FAR_INTERNAL, "exists already")
#define OVER FAR_REJECT(FAR_CONFLICT, "was removed; choose another")
static const struct far_cell cells[4][7] = {
    [ABSENT] = {[CREATE] = FAR_MOVE(AVAILABLE), [RECOVER] = GONE, [VERIFY] = GONE, [REMOVE] = GONE, [PRESERVE] = GONE,
                [UNPRESERVE] = GONE, [LOCK] = GONE},
    [AVAILABLE] = {[CREATE] = TAKEN, [RECOVER] = FAR_MOVE(AVAILABLE), [VERIFY] = FAR_MOVE(AVAILABLE),
                   [REMOVE] = FAR_MOVE(REMOVED), [PRESERVE] = FAR_MOVE(AVAILABLE), [UNPRESERVE] = FAR_MOVE(AVAILABLE),
                   [LOCK] = FAR_MOVE(AVAILABLE)},
    [DAMAGED] = {[CREATE] = TAKEN, [RECOVER] = FAR_MOVE(DAMAGED), [VERIFY] = FAR_MOVE(DAMAGED),
                 [REMOVE] = FAR_MOVE(REMOVED), [PRESERVE] = FAR_MOVE(DAMAGED), [UNPRESERVE] = FAR_MOVE(DAMAGED),
                 [LOCK] = FAR_MOVE(DAMAGED)},
    [REMOVED] = {[CREATE] = TAKEN, [RECOVER] = OVER, [VERIFY] = OVER, [REMOVE] = OVER, [PRESERVE] = OVER, [UNPRESERVE] = OVER,
                 [LOCK] = OVER},
};
const struct far_table far_table_checkpoint = FAR_TABLE("checkpoint", states, inputs, cells);

int far_checkpoint_find(struct far_step *step, uint64_t id, struct far_row_checkpoint *ret)
{
    int rc = far_row_find(step, &far_schema_row_checkpoint, id, ret);
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_row_checkpoint){.id = 0};
        return 0;
    }
    return rc;
}

int far_checkpoint_read(struct far_step *step, uint64_t id, struct far_row_checkpoint *ret)
{
    FAR_TRY(far_checkpoint_find(step, id, ret));
    return far_move_id(step, &far_table_checkpoint, (size_t)ret->state, RECOVER, id, NULL);
}

int far_checkpoint_readers(struct far_step *step, uint64_t checkpoint_id, int delta)
{
    struct far_row_checkpoint row;
    FAR_TRY(far_row_need(step, &far_schema_row_checkpoint, checkpoint_id, &row));
    if (delta < 0 && row.readers == 0) {
        return far_reject(step, FAR_INTERNAL, "broken: nobody reads checkpoint %llu", FAR_LLU(checkpoint_id));
    }
    row.readers += (uint64_t)(int64_t)delta;
    return far_row_put(step, &far_schema_row_checkpoint, checkpoint_id, &row);
}

int far_evolve_checkpoint_created(struct far_step *step, const struct far_ev_checkpoint_created *ev)
{
    const struct far_sub_member *members = ev->members.items;
    struct far_row_checkpoint row;
    FAR_TRY(far_checkpoint_find(step, ev->id, &row));
    FAR_TRY(far_move_id(step, &far_table_checkpoint, (size_t)row.state, CREATE, ev->id, NULL));
    row = (struct far_row_checkpoint){.id = ev->id,
                                      .plan_id = ev->plan_id,
                                      .job_id = ev->job_id,
                                      .created_ms = step->time_ms,
                                      .member_count = ev->members.count,
                                      .skew_ms = ev->skew_ms,
                                      .groups = ev->groups,
                                      .state = FAR_point_state_available,
                                      .locked_until_ms = ev->locked_until_ms,
                                      .networks_id = ev->networks_id};
    for (size_t i = 0; i < ev->members.count; i++) {
        struct far_row_checkpoint_member member = {.checkpoint_id = ev->id,
                                                   .workload_id = members[i].workload_id,
                                                   .point_id = members[i].point_id,
                                                   .failed = members[i].failed,
                                                   .moved = members[i].moved,
                                                   .error_message = members[i].error_message};
        struct far_key key = far_key_pair(&far_schema_row_checkpoint_member, ev->id, member.workload_id);
        FAR_TRY(far_key_put(step, &far_schema_row_checkpoint_member, &key, &member));
        row.failed_count += member.failed;
        if (member.point_id != 0) {
            struct far_row_point point;
            FAR_TRY(far_row_need(step, &far_schema_row_point, member.point_id, &point));
            row.score = point.score > row.score ? point.score : row.score;
            point.holds++;
            FAR_TRY(far_row_put(step, &far_schema_row_point, point.id, &point));
        }
    }
    FAR_TRY(far_row_put(step, &far_schema_row_checkpoint, row.id, &row));
    FAR_TRY(far_recovery_hold(step, row.networks_id));
    FAR_TRY(far_plan_checkpoint_list(step, &row, true));
    FAR_TRY(far_lock_points(step, &row));
    FAR_TRY(far_expiry_wake(step, row.plan_id));
    return far_plan_checkpoint(step, ev->plan_id, ev->id);
}

int far_checkpoint_member(struct far_step *step, uint64_t checkpoint_id, struct far_key *key, struct far_row_checkpoint_member *ret_member)
{
    int rc = far_next(step, &far_schema_row_checkpoint_member, key, NULL, ret_member);
    return rc == 0 && ret_member->checkpoint_id != checkpoint_id ? FAR_NOT_FOUND : rc;
}

/* The first workload of the checkpoint, and whether a point of it is there to be read. */
static int survey(struct far_step *step, uint64_t checkpoint_id, uint64_t *ret_first_workload_id, size_t *ret_points)
{
    struct far_key key = far_key_id(&far_schema_row_checkpoint_member, checkpoint_id);
    *ret_first_workload_id = 0;
    *ret_points = 0;
    for (;;) {
        struct far_row_checkpoint_member member;
        struct far_row_point point;
        int rc = far_checkpoint_member(step, checkpoint_id, &key, &member);
        if (rc != 0) {
            return rc == FAR_NOT_FOUND ? 0 : rc;
        }
        *ret_first_workload_id = *ret_first_workload_id != 0 ? *ret_first_workload_id : member.workload_id;
        FAR_TRY(far_point_find(step, member.point_id, &point));
        *ret_points += point.state == FAR_point_state_available || point.state == FAR_point_state_damaged;
    }
}

int far_checkpoint_job(struct far_step *step, const struct far_row_checkpoint *row, uint64_t kind)
{
    uint64_t first_workload_id;
    size_t points;
    FAR_TRY(survey(step, row->id, &first_workload_id, &points));
    struct far_ev_job_started ev = {.id = step->progress.next_id,
                                    .kind = kind,
                                    .plan_id = row->plan_id,
                                    .checkpoint_id = row->id,
                                    .actor = step->actor,
                                    .next_workload_id = first_workload_id};
    bool ends_at_once;
    step->object_id = ev.id;
    FAR_TRY(far_emit(step, &far_schema_ev_job_started, &ev));
    FAR_TRY(far_job_create_tasks(step, ev.id));
    FAR_TRY(far_level_has(step, 4, &ends_at_once)); /* what is about vaults that are gone; before, it waited until some node came up */
    return ends_at_once ? far_tasks_assign(step, ev.id) : 0;
}

int far_decide_checkpoint_verify(struct far_step *step, const struct far_cmd_checkpoint_verify *cmd)
{
    struct far_row_checkpoint row;
    uint64_t first_workload_id;
    size_t points;
    FAR_TRY(far_checkpoint_find(step, cmd->checkpoint_id, &row));
    FAR_TRY(far_move_id(step, &far_table_checkpoint, (size_t)row.state, VERIFY, cmd->checkpoint_id, NULL));
    FAR_TRY(survey(step, row.id, &first_workload_id, &points));
    if (points == 0) {
        return far_reject(step, FAR_NOT_FOUND, "checkpoint %llu has no recovery point to verify", FAR_LLU(row.id));
    }
    return far_checkpoint_job(step, &row, FAR_job_kind_verify);
}

int far_decide_checkpoint_rescore(struct far_step *step, const struct far_cmd_checkpoint_rescore *cmd)
{
    struct far_row_checkpoint row;
    uint64_t first_workload_id;
    size_t points;
    FAR_TRY(far_checkpoint_find(step, cmd->checkpoint_id, &row));
    FAR_TRY(far_move_id(step, &far_table_checkpoint, (size_t)row.state, VERIFY, cmd->checkpoint_id, NULL)); /* it is read, too */
    FAR_TRY(survey(step, row.id, &first_workload_id, &points));
    if (points == 0) {
        return far_reject(step, FAR_NOT_FOUND, "checkpoint %llu has no recovery point to judge", FAR_LLU(row.id));
    }
    return far_checkpoint_job(step, &row, FAR_job_kind_rescore);
}

/* ---- removal ---- */

/* The points that only this checkpoint names. */
static int orphans(struct far_step *step, uint64_t checkpoint_id, uint64_t *ids, size_t *ret_count)
{
    struct far_key key = far_key_id(&far_schema_row_checkpoint_member, checkpoint_id);
    *ret_count = 0;
    for (;;) {
        struct far_row_checkpoint_member member;
        struct far_row_point point;
        int rc = far_checkpoint_member(step, checkpoint_id, &key, &member);
        if (rc != 0) {
            return rc == FAR_NOT_FOUND ? 0 : rc;
        }
        if (member.point_id != 0) {
            FAR_TRY(far_row_need(step, &far_schema_row_point, member.point_id, &point));
            if (point.holds == 1 && *ret_count < 256) {
                ids[(*ret_count)++] = point.id;
            }
        }
    }
}

int far_checkpoint_take(struct far_step *step, const struct far_row_checkpoint *row, bool expired, uint64_t ids[256],
                        size_t *ret_count)
{
    FAR_TRY(orphans(step, row->id, ids, ret_count));
    struct far_ev_checkpoint_removed ev = {
        .id = row->id, .point_ids = {.items = ids, .count = *ret_count}, .expired = expired};
    return far_emit(step, &far_schema_ev_checkpoint_removed, &ev);
}

int far_checkpoint_drop(struct far_step *step, const struct far_row_checkpoint *row, bool expired)
{
    uint64_t ids[256];
    size_t count;
    FAR_TRY(far_checkpoint_take(step, row, expired, ids, &count));
    return count > 0 ? far_checkpoint_job(step, row, FAR_job_kind_forget) : 0;
}

int far_decide_checkpoint_remove(struct far_step *step, const struct far_cmd_checkpoint_remove *cmd)
{
    struct far_row_checkpoint row;
    struct far_row_plan plan;
    FAR_TRY(far_checkpoint_find(step, cmd->checkpoint_id, &row));
    FAR_TRY(far_move_id(step, &far_table_checkpoint, (size_t)row.state, REMOVE, cmd->checkpoint_id, NULL));
    FAR_TRY(far_checkpoint_free(step, &row));
    int rc = far_row_find(step, &far_schema_row_plan, row.plan_id, &plan);
    if (rc == 0 && plan.running_job_id != 0) {
        return far_reject(step, FAR_CONFLICT, "plan '%.*s' runs a replication cycle; wait for it or cancel job %llu",
                          FAR_TEXT(plan.name), FAR_LLU(plan.running_job_id));
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    FAR_TRY(far_checkpoint_drop(step, &row, false));
    step->object_id = row.id;
    return 0;
}

int far_evolve_checkpoint_removed(struct far_step *step, const struct far_ev_checkpoint_removed *ev)
{
    const uint64_t *ids = ev->point_ids.items;
    struct far_row_checkpoint row;
    struct far_key key = far_key_id(&far_schema_row_checkpoint_member, ev->id);
    FAR_TRY(far_checkpoint_find(step, ev->id, &row));
    FAR_TRY(far_move_id(step, &far_table_checkpoint, (size_t)row.state, REMOVE, ev->id, NULL));
    row.state = FAR_point_state_removed;
    FAR_TRY(far_row_put(step, &far_schema_row_checkpoint, row.id, &row));
    FAR_TRY(far_recovery_let_go(step, row.networks_id));
    FAR_TRY(far_plan_checkpoint_list(step, &row, false));
    FAR_TRY(!ev->expired ? far_expiry_wake(step, row.plan_id) : 0);
    for (uint64_t i = 0; i < row.member_count; i++) {
        struct far_row_checkpoint_member member;
        struct far_row_point point;
        FAR_TRY(far_next(step, &far_schema_row_checkpoint_member, &key, NULL, &member));
        if (member.point_id != 0) {
            FAR_TRY(far_row_need(step, &far_schema_row_point, member.point_id, &point));
            point.holds--;
            FAR_TRY(far_row_put(step, &far_schema_row_point, point.id, &point));
        }
    }
    for (size_t i = 0; i < ev->point_ids.count; i++) {
        FAR_TRY(far_point_remove(step, ids[i]));
    }
    return 0;
}
