/* Deadlines: what is to happen at a time. The earliest is the first row of the table; the leader proposes `tick` when it
 * is due, and one tick handles at most 256. Each kind is answered by the file of the object it is about, whose events
 * take the deadline away or move it; one that nobody answers to is dropped. */
#include "fsm/kv_overlay.h"
#include "fsm/machines.h"
#include "fsm/rows.h"

#include "fsm/bandwidth.h"
#include "fsm/expiry.h"
#include "fsm/job.h"
#include "fsm/rpo.h"
#include "fsm/run.h"
#include "fsm/site_limit.h"
#include "fsm/vault_row.h"

enum { AT_ONCE_MAX = 256 };

enum { ABSENT, PENDING };
enum { SET, CLEAR };
static const char *const states[] = {"absent", "pending"};
static const char *const inputs[] = {"set", "clear"};
static const struct far_cell cells[2][2] = {
    [ABSENT] = {[SET] = FAR_MOVE(PENDING), [CLEAR] = FAR_REJECT(FAR_INTERNAL, "is not there to be cleared")},
    [PENDING] = {[SET] = FAR_REJECT(FAR_INTERNAL, "is set already"), [CLEAR] = FAR_MOVE(ABSENT)},
};
const struct far_table far_table_deadline = FAR_TABLE("deadline", states, inputs, cells);

struct deadline {
    uint64_t time_ms;
    uint64_t kind;
    uint64_t object_id;
    uint64_t part;
};

static struct far_key key_of(const struct deadline *d)
{
    struct far_key key = far_key_id(&far_schema_row_deadline, d->time_ms);
    far_key_u8(&key, (uint8_t)d->kind);
    far_key_u64(&key, d->object_id);
    far_key_u32(&key, (uint32_t)d->part);
    return key;
}

static int change(struct far_step *step, const struct deadline *d, unsigned input)
{
    struct far_row_deadline row;
    struct far_key key = key_of(d);
    int rc = far_key_find(step, &far_schema_row_deadline, &key, &row);
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    FAR_TRY(far_move_id(step, &far_table_deadline, rc == 0 ? PENDING : ABSENT, input, d->object_id, NULL));
    return input == SET ? far_key_put(step, &far_schema_row_deadline, &key, &row)
                        : far_key_del(step, &far_schema_row_deadline, &key);
}

int far_deadline_move(struct far_step *step, uint64_t kind, uint64_t object_id, uint64_t part, uint64_t from_ms,
                      uint64_t to_ms)
{
    struct deadline from = {from_ms, kind, object_id, part}, to = {to_ms, kind, object_id, part};
    if (from_ms == to_ms) {
        return 0;
    }
    FAR_TRY(from_ms != 0 ? change(step, &from, CLEAR) : 0);
    return to_ms != 0 ? change(step, &to, SET) : 0;
}

/* The same for what is due by a plan's retention or a vault's policy. */
static int forget_policy(struct far_step *step, const struct deadline *d)
{
    struct far_row_plan_retention retention;
    struct far_row_vault vault;
    bool is_expiry = d->kind == FAR_deadline_kind_plan_expiry;
    int rc = is_expiry ? far_row_find(step, &far_schema_row_plan_retention, d->object_id, &retention)
                       : far_row_find(step, &far_schema_row_vault, d->object_id, &vault);
    if (rc == 0 && is_expiry && retention.due_ms == d->time_ms) {
        retention.due_ms = 0;
        return far_row_put(step, &far_schema_row_plan_retention, d->object_id, &retention);
    }
    if (rc == 0 && d->kind == FAR_deadline_kind_vault_scrub && vault.scrub_due_ms == d->time_ms) {
        vault.scrub_due_ms = 0;
        return far_row_put(step, &far_schema_row_vault, d->object_id, &vault);
    }
    if (rc == 0 && d->kind == FAR_deadline_kind_vault_reclaim && vault.reclaim_due_ms == d->time_ms) {
        vault.reclaim_due_ms = 0;
        return far_row_put(step, &far_schema_row_vault, d->object_id, &vault);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int forget_slots(struct far_step *step, const struct deadline *d)
{
    struct far_row_site row;
    int rc = far_row_find(step, &far_schema_row_site, d->object_id, &row);
    if (rc != 0 || row.slots_ms != d->time_ms) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    row.slots_ms = 0;
    return far_row_put(step, &far_schema_row_site, row.id, &row);
}

static int forget_run(struct far_step *step, const struct deadline *d)
{
    struct far_row_run row;
    FAR_TRY(far_run_find(step, d->object_id, &row));
    bool is_its = row.id != 0 && row.wake_ms == d->time_ms;
    row.wake_ms = 0;
    return is_its ? far_row_put(step, &far_schema_row_run, row.id, &row) : 0;
}

/* Whoever remembers when it is due forgets that, too. */
static int forget(struct far_step *step, const struct deadline *d, bool *ret_is_done)
{
    struct far_row_job job;
    struct far_row_node node;
    struct far_row_throttle limit;
    struct far_row_plan plan;
    int rc = d->kind == FAR_deadline_kind_job_tasks        ? far_row_find(step, &far_schema_row_job, d->object_id, &job)
             : d->kind == FAR_deadline_kind_running_leases ? far_row_find(step, &far_schema_row_node, d->object_id, &node)
             : d->kind == FAR_deadline_kind_plan_rpo       ? far_row_find(step, &far_schema_row_plan, d->object_id, &plan)
             : d->kind == FAR_deadline_kind_throttle       ? far_row_find(step, &far_schema_row_throttle, d->object_id, &limit)
                                                           : FAR_NOT_FOUND;
    if (rc == 0 && d->kind == FAR_deadline_kind_job_tasks && job.wake_ms == d->time_ms) {
        *ret_is_done = true;
        return far_job_wake_at(step, &job, 0);
    }
    if (rc == 0 && d->kind == FAR_deadline_kind_running_leases && node.running_due_ms == d->time_ms) {
        node.running_due_ms = 0;
        return far_row_put(step, &far_schema_row_node, node.id, &node);
    }
    if (rc == 0 && d->kind == FAR_deadline_kind_throttle && limit.next_ms == d->time_ms) {
        limit.next_ms = 0;
        return far_row_put(step, &far_schema_row_throttle, limit.id, &limit);
    }
    if (rc == 0 && d->kind == FAR_deadline_kind_plan_rpo && plan.rpo_due_ms == d->time_ms) {
        plan.rpo_due_ms = 0;
        return far_row_put(step, &far_schema_row_plan, plan.id, &plan);
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    if (d->kind == FAR_deadline_kind_run) {
        return forget_run(step, d);
    }
    if (d->kind == FAR_deadline_kind_site_slots) {
        return forget_slots(step, d);
    }
    bool is_policy = d->kind == FAR_deadline_kind_plan_expiry || d->kind == FAR_deadline_kind_vault_reclaim ||
                     d->kind == FAR_deadline_kind_vault_scrub;
    return is_policy ? forget_policy(step, d) : 0;
}

int far_evolve_deadline_dropped(struct far_step *step, const struct far_ev_deadline_dropped *ev)
{
    struct deadline d = {ev->time_ms, ev->kind, ev->object_id, ev->part};
    bool is_done = false;
    FAR_TRY(forget(step, &d, &is_done));
    return is_done ? 0 : change(step, &d, CLEAR);
}

/* The earliest deadline that does not wait for the clocks; FAR_NOT_FOUND if there is none. */
static int earliest(struct far_step *step, struct deadline *ret)
{
    struct far_row_deadline row;
    struct far_slice id;
    struct far_key key = far_key(&far_schema_row_deadline);
    do {
        FAR_TRY(far_next(step, &far_schema_row_deadline, &key, &id, &row));
        if (id.len != 8 + 1 + 8 + 4) {
            return far_reject(step, FAR_INTERNAL, "broken: a deadline's key has %zu bytes", id.len);
        }
    } while (far_clock_waits(&step->progress, id.data[8]));
    *ret = (struct deadline){far_get_be64(id.data), id.data[8], far_get_be64(id.data + 9), far_get_be32(id.data + 17)};
    return 0;
}

static int act(struct far_step *step, const struct deadline *d)
{
    switch (d->kind) {
    case FAR_deadline_kind_task_lease:
        return far_task_lease_due(step, d->object_id, d->part);
    case FAR_deadline_kind_task_retry:
        return far_task_retry_due(step, d->object_id, d->part);
    case FAR_deadline_kind_plan_due:
        return far_plan_due(step, d->object_id);
    case FAR_deadline_kind_node_lease:
        return far_node_due(step, d->object_id);
    case FAR_deadline_kind_token_expiry:
        return far_token_due(step, d->object_id);
    case FAR_deadline_kind_command_memory:
        return far_memory_due(step, d->object_id);
    case FAR_deadline_kind_job_tasks:
        return far_job_due(step, d->object_id);
    case FAR_deadline_kind_running_leases:
        return far_running_due(step, d->object_id);
    case FAR_deadline_kind_throttle:
        return far_throttle_due(step, d->object_id);
    case FAR_deadline_kind_plan_rpo:
        return far_rpo_due(step, d->object_id);
    case FAR_deadline_kind_plan_expiry:
        return far_expiry_due(step, d->object_id);
    case FAR_deadline_kind_vault_reclaim:
        return far_vault_row_reclaim_due(step, d->object_id);
    case FAR_deadline_kind_vault_scrub:
        return far_scrub_due(step, d->object_id);
    case FAR_deadline_kind_run:
        return far_run_due(step, d->object_id);
    case FAR_deadline_kind_site_slots:
        return far_slots_due(step, d->object_id);
    default:
        return 0;
    }
}

/* Drop a deadline that is still there after it acted. */
static int drop(struct far_step *step, const struct deadline *d)
{
    struct far_row_deadline row;
    struct far_key key = key_of(d);
    int rc = far_key_find(step, &far_schema_row_deadline, &key, &row);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    struct far_ev_deadline_dropped ev = {
        .time_ms = d->time_ms, .kind = d->kind, .object_id = d->object_id, .part = d->part};
    return far_emit(step, &far_schema_ev_deadline_dropped, &ev);
}

static int act_and_drop(struct far_step *step, const struct deadline *d)
{
    int rc = act(step, d);
    return rc == 0 ? drop(step, d) : rc;
}

/* On an overlay, or where rows are held by their journal: what a rejection leaves is what was there before. */
static int try_to_act(struct far_step *step, const struct deadline *d)
{
    struct far_state *below = step->state;
    if (below->rows != NULL) {
        size_t mark = far_rows_mark(below->rows);
        int rc = act_and_drop(step, d);
        if (rc != 0) {
            far_rows_undo(below->rows, mark);
        }
        return rc;
    }
    struct far_state above = {.kv = far_kv_overlay_new(below->kv), .digest = below->digest};
    if (above.kv == NULL) {
        return far_fail(step->err, FAR_LIMIT, "out of memory");
    }
    step->state = &above;
    int rc = act_and_drop(step, d);
    step->state = below;
    if (rc == 0) {
        rc = far_kv_overlay_flush(above.kv, step->err);
        below->digest = above.digest;
    }
    far_kv_overlay_free(above.kv);
    return rc;
}

/* Let one deadline act by itself: if its object is broken, only that deadline is lost, not every later one with it. */
static int act_alone(struct far_step *step, const struct deadline *d)
{
    struct far_row_progress progress = step->progress;
    struct far_emitted *last = step->last;
    int rc = try_to_act(step, d);
    if (rc != 0 && step->is_rejected) {
        step->is_rejected = false;
        step->candidates = NULL;
        step->progress = progress;
        step->last = last;
        *(last != NULL ? &last->next : &step->first) = NULL;
        rc = drop(step, d);
    }
    return rc;
}

int far_decide_tick(struct far_step *step, const struct far_cmd_tick *cmd)
{
    for (unsigned i = 0; i < AT_ONCE_MAX; i++) {
        struct deadline d = {0};
        int rc = earliest(step, &d);
        if (rc == FAR_NOT_FOUND || (rc == 0 && d.time_ms > step->time_ms)) {
            return 0;
        }
        FAR_TRY(rc);
        FAR_TRY(act_alone(step, &d));
    }
    return 0;
}
