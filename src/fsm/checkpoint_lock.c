/* Preserving and locking checkpoints (feature level 4).
 *
 * A preserved one is kept until somebody gives it free, whatever the plan's retention says. A locked one is removed by nobody before
 * its date, and that date only moves on. The vaults are told (a job `lock`, and the order that seals a point): by a clock of their own
 * they refuse what comes too early, whoever orders it. */
#include "fsm/checkpoint.h"

#include "base/date.h"
#include "fsm/dedup_domain.h"
#include "fsm/expiry.h"
#include "fsm/job.h"

#define DAY_MS 86400000ull
#define LOCK_MS_MAX (FAR_LOCK_DAYS_MAX * DAY_MS)

uint64_t far_lock_until(const struct far_step *step, const struct far_row_plan *plan)
{
    return plan->lock_days != 0 ? step->time_ms + plan->lock_days * DAY_MS : 0;
}

int far_checkpoint_free(struct far_step *step, const struct far_row_checkpoint *row)
{
    if (row->locked_until_ms > step->time_ms) {
        char date[FAR_DATE_MAX];
        return far_reject(step, FAR_DENIED, "checkpoint %llu is locked until %s: nobody can remove it before", FAR_LLU(row->id),
                          far_date_text(row->locked_until_ms, date));
    }
    if (row->preserved_ms != 0) {
        return far_reject(step, FAR_CONFLICT, "checkpoint %llu is preserved (%.*s); 'farshore checkpoint unpreserve %llu' gives it free",
                          FAR_LLU(row->id), FAR_TEXT(row->preserve_reason), FAR_LLU(row->id));
    }
    if (row->readers != 0) {
        return far_reject(step, FAR_CONFLICT, "checkpoint %llu is being read by %llu jobs; wait for them", FAR_LLU(row->id),
                          FAR_LLU(row->readers));
    }
    return 0;
}

/* ---- preserve ---- */

int far_decide_checkpoint_preserve(struct far_step *step, const struct far_cmd_checkpoint_preserve *cmd)
{
    struct far_row_checkpoint row;
    FAR_TRY(far_checkpoint_find(step, cmd->checkpoint_id, &row));
    FAR_TRY(far_move_id(step, &far_table_checkpoint, (size_t)row.state, FAR_CHECKPOINT_PRESERVE, cmd->checkpoint_id, NULL));
    if (cmd->reason.len == 0) {
        return far_reject(step, FAR_INVALID, "say why checkpoint %llu is to be preserved (field 'reason')", FAR_LLU(row.id));
    }
    step->object_id = row.id;
    if (row.preserved_ms != 0 && far_slice_equal(row.preserve_reason, cmd->reason)) {
        return 0;
    }
    struct far_ev_checkpoint_preserved ev = {.checkpoint_id = row.id, .reason = cmd->reason, .actor = step->actor};
    return far_emit(step, &far_schema_ev_checkpoint_preserved, &ev);
}

int far_evolve_checkpoint_preserved(struct far_step *step, const struct far_ev_checkpoint_preserved *ev)
{
    struct far_row_checkpoint row;
    FAR_TRY(far_checkpoint_find(step, ev->checkpoint_id, &row));
    FAR_TRY(far_move_id(step, &far_table_checkpoint, (size_t)row.state, FAR_CHECKPOINT_PRESERVE, ev->checkpoint_id, NULL));
    row.preserved_ms = row.preserved_ms != 0 ? row.preserved_ms : step->time_ms;
    row.preserve_reason = ev->reason;
    row.preserved_by = ev->actor;
    return far_row_put(step, &far_schema_row_checkpoint, row.id, &row);
}

int far_decide_checkpoint_unpreserve(struct far_step *step, const struct far_cmd_checkpoint_unpreserve *cmd)
{
    struct far_row_checkpoint row;
    FAR_TRY(far_checkpoint_find(step, cmd->checkpoint_id, &row));
    FAR_TRY(far_move_id(step, &far_table_checkpoint, (size_t)row.state, FAR_CHECKPOINT_UNPRESERVE, cmd->checkpoint_id, NULL));
    step->object_id = row.id;
    struct far_ev_checkpoint_unpreserved ev = {.checkpoint_id = row.id};
    return row.preserved_ms != 0 ? far_emit(step, &far_schema_ev_checkpoint_unpreserved, &ev) : 0;
}

int far_evolve_checkpoint_unpreserved(struct far_step *step, const struct far_ev_checkpoint_unpreserved *ev)
{
    struct far_row_checkpoint row;
    FAR_TRY(far_checkpoint_find(step, ev->checkpoint_id, &row));
    FAR_TRY(far_move_id(step, &far_table_checkpoint, (size_t)row.state, FAR_CHECKPOINT_UNPRESERVE, ev->checkpoint_id, NULL));
    row.preserved_ms = row.preserved_by = 0;
    row.preserve_reason = far_slice(NULL, 0);
    FAR_TRY(far_row_put(step, &far_schema_row_checkpoint, row.id, &row));
    return far_expiry_wake(step, row.plan_id);
}

/* ---- lock ---- */

int far_decide_checkpoint_lock(struct far_step *step, const struct far_cmd_checkpoint_lock *cmd)
{
    struct far_row_checkpoint row;
    char date[FAR_DATE_MAX];
    FAR_TRY(far_checkpoint_find(step, cmd->checkpoint_id, &row));
    FAR_TRY(far_move_id(step, &far_table_checkpoint, (size_t)row.state, FAR_CHECKPOINT_LOCK, cmd->checkpoint_id, NULL));
    if (cmd->until_ms <= step->time_ms || cmd->until_ms > step->time_ms + LOCK_MS_MAX) {
        return far_reject(step, FAR_INVALID, "a lock ends in the future, and within %d days", FAR_LOCK_DAYS_MAX);
    }
    if (cmd->until_ms < row.locked_until_ms) {
        return far_reject(step, FAR_DENIED, "checkpoint %llu is locked until %s: a lock is never shortened", FAR_LLU(row.id),
                          far_date_text(row.locked_until_ms, date));
    }
    step->object_id = row.id;
    if (cmd->until_ms == row.locked_until_ms) {
        return 0;
    }
    struct far_ev_checkpoint_locked ev = {.checkpoint_id = row.id, .until_ms = cmd->until_ms};
    FAR_TRY(far_emit(step, &far_schema_ev_checkpoint_locked, &ev));
    return far_checkpoint_job(step, &row, FAR_job_kind_lock);
}

int far_evolve_checkpoint_locked(struct far_step *step, const struct far_ev_checkpoint_locked *ev)
{
    struct far_row_checkpoint row;
    FAR_TRY(far_checkpoint_find(step, ev->checkpoint_id, &row));
    FAR_TRY(far_move_id(step, &far_table_checkpoint, (size_t)row.state, FAR_CHECKPOINT_LOCK, ev->checkpoint_id, NULL));
    if (ev->until_ms < row.locked_until_ms) {
        return far_reject(step, FAR_INTERNAL, "broken: the lock of checkpoint %llu would be shortened", FAR_LLU(row.id));
    }
    row.locked_until_ms = ev->until_ms;
    FAR_TRY(far_row_put(step, &far_schema_row_checkpoint, row.id, &row));
    return far_lock_points(step, &row);
}

int far_lock_points(struct far_step *step, const struct far_row_checkpoint *row)
{
    struct far_row_checkpoint_member member;
    struct far_key key = far_key_id(&far_schema_row_checkpoint_member, row->id);
    int rc = 0;
    while (row->locked_until_ms != 0 && (rc = far_checkpoint_member(step, row->id, &key, &member)) == 0) {
        struct far_row_point point = {.domain_id = 0};
        FAR_TRY(member.point_id != 0 ? far_row_need(step, &far_schema_row_point, member.point_id, &point) : 0);
        FAR_TRY(far_domain_lock(step, point.domain_id, row->locked_until_ms));
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_lock_older(struct far_step *step, uint64_t checkpoint_id)
{
    struct far_row_checkpoint row;
    struct far_row_checkpoint_member member;
    struct far_key key = far_key_id(&far_schema_row_checkpoint_member, checkpoint_id);
    bool has_older = false;
    int rc = 0;
    FAR_TRY(far_row_need(step, &far_schema_row_checkpoint, checkpoint_id, &row));
    while (row.locked_until_ms > step->time_ms && row.failed_count > 0 && !has_older &&
           (rc = far_checkpoint_member(step, checkpoint_id, &key, &member)) == 0) {
        has_older = member.failed && member.point_id != 0;
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    uint64_t object_id = step->object_id; /* of whatever is being decided */
    FAR_TRY(has_older ? far_checkpoint_job(step, &row, FAR_job_kind_lock) : 0);
    step->object_id = object_id;
    return 0;
}
