/* Invariants of plans in full: what members and plans name of recovery configurations is in force and theirs, what points and checkpoints
 * name is there, and each counts what was made under it; the same of captured configurations of machines, whose parts are all there;
 * only who is in a running cycle is about to leave, or owed another one. */
#include "fsm/invariants.h"
#include "fsm/machine_config.h"

struct sums {
    uint64_t in_force; /* versions that are, less those that are named */
    uint64_t holds;    /* as versions say, less points and checkpoints */
    uint64_t newest, config_holds; /* the same of captured configurations */
    uint64_t parts;    /* of their bytes that are to follow */
};

static int broken(struct far_step *step, uint64_t id, const char *what)
{
    return far_reject(step, FAR_INTERNAL, "recovery configuration %llu %s", FAR_LLU(id), what);
}

static int in_force(struct far_step *step, struct sums *sums, uint64_t id, uint64_t plan_id, uint64_t workload_id)
{
    struct far_row_recovery row;
    if (id == 0) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_recovery, id, &row));
    sums->in_force--;
    bool fits = row.in_force && row.plan_id == plan_id && row.workload_id == workload_id;
    return fits ? 0 : broken(step, id, "is named by whom it is not of, or is not in force");
}

static int held(struct far_step *step, struct sums *sums, uint64_t id, uint64_t workload_id)
{
    struct far_row_recovery row;
    if (id == 0) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_recovery, id, &row));
    sums->holds--;
    return row.holds != 0 && row.workload_id == workload_id ? 0 : broken(step, id, "does not count what was made under it");
}

static int check_leaving(struct far_step *step, const struct far_row_plan_workload *row)
{
    struct far_row_plan plan;
    FAR_TRY(far_row_need(step, &far_schema_row_plan, row->plan_id, &plan));
    return plan.running_job_id != 0 ? 0
                                    : far_reject(step, FAR_INTERNAL, "workload %llu is to leave plan %llu, which runs no cycle",
                                                 FAR_LLU(row->workload_id), FAR_LLU(row->plan_id));
}

static int check_schedule(struct far_step *step, const struct far_row_plan_schedule *row)
{
    struct far_row_plan plan;
    FAR_TRY(far_row_need(step, &far_schema_row_plan, row->plan_id, &plan));
    return row->start_ms != 0 || row->windows.count + row->blackouts.count > 0 || row->catch_up != 0
               ? 0
               : far_reject(step, FAR_INTERNAL, "the schedule of plan %llu says nothing", FAR_LLU(row->plan_id));
}

static int check_config(struct far_step *step, struct sums *sums, const struct far_row_machine_config *row)
{
    bool fits = row->part == 0 ? sums->parts == 0 && row->sha256.len == 32 && row->part_count > 0 && (row->newest || row->holds != 0)
                               : sums->parts > 0 && row->bytes.len > 0;
    sums->parts += row->part == 0 ? row->part_count : (uint64_t)-1;
    sums->newest += row->newest;
    sums->config_holds += row->holds;
    return fits ? 0
                : far_reject(step, FAR_INTERNAL, "configuration %llu of a machine lacks a part, or nothing needs it", FAR_LLU(row->id));
}

/* by_point: else by the workload, as its newest. */
static int named_config(struct far_step *step, struct sums *sums, uint64_t id, uint64_t workload_id, bool by_point)
{
    struct far_row_machine_config row;
    if (id == 0) {
        return 0;
    }
    FAR_TRY(far_machine_config_find(step, id, &row));
    *(by_point ? &sums->config_holds : &sums->newest) -= 1;
    return row.workload_id == workload_id && (by_point ? row.holds != 0 : row.newest)
               ? 0
               : far_reject(step, FAR_INTERNAL, "configuration %llu of a machine is not that of workload %llu", FAR_LLU(id),
                            FAR_LLU(workload_id));
}

static int check_point(struct far_step *step, struct sums *sums, const struct far_row_point *row)
{
    if (row->state == FAR_point_state_removed) {
        return 0;
    }
    FAR_TRY(named_config(step, sums, row->config_id, row->workload_id, true));
    return held(step, sums, row->recovery_id, row->workload_id);
}

static int check(struct far_step *step, struct sums *sums, const struct far_schema *table, const void *object)
{
    if (table == &far_schema_row_machine_config) {
        return check_config(step, sums, object);
    }
    if (table == &far_schema_row_workload) {
        const struct far_row_workload *row = object;
        return named_config(step, sums, row->config_id, row->id, false);
    }
    if (table == &far_schema_row_recovery) {
        const struct far_row_recovery *row = object;
        bool is_one = row->workload_id != 0 ? row->config.count == 1 && row->networks.count == 0
                                            : row->config.count == 0 && row->networks.count > 0;
        sums->in_force += row->in_force;
        sums->holds += row->holds;
        return is_one && (row->in_force || row->holds != 0) ? 0 : broken(step, row->id, "is empty, or nothing needs it");
    }
    if (table == &far_schema_row_plan_schedule) {
        return check_schedule(step, object);
    }
    if (table == &far_schema_row_plan_workload) {
        const struct far_row_plan_workload *row = object;
        FAR_TRY(row->leaving ? check_leaving(step, row) : 0);
        return in_force(step, sums, row->recovery_id, row->plan_id, row->workload_id);
    }
    if (table == &far_schema_row_plan) {
        const struct far_row_plan *row = object;
        bool is_paused = row->state == FAR_plan_state_paused;
        if (is_paused != (row->paused_ms != 0) || (row->owed && (row->running_job_id == 0 || row->state != FAR_plan_state_active))) {
            return far_reject(step, FAR_INTERNAL, "plan %llu is paused since never, or owed a cycle that nothing waits for",
                              FAR_LLU(row->id));
        }
        return in_force(step, sums, row->networks_id, row->id, 0);
    }
    if (table == &far_schema_row_point) {
        return check_point(step, sums, object);
    }
    const struct far_row_checkpoint *row = object;
    return row->state != FAR_point_state_removed ? held(step, sums, row->networks_id, 0) : 0;
}

static int walk(struct far_step *step, struct sums *sums, const struct far_schema *table)
{
    struct far_key key = far_key(table);
    for (;;) {
        far_arena_reset(step->arena);
        void *row = far_step_alloc(step, table->size);
        if (row == NULL) {
            return FAR_LIMIT;
        }
        int rc = far_next(step, table, &key, NULL, row);
        if (rc == FAR_NOT_FOUND) {
            return 0;
        }
        FAR_TRY(rc);
        FAR_TRY(check(step, sums, table, row));
    }
}

int far_check_recoveries(struct far_step *step)
{
    struct sums sums = {0};
    FAR_TRY(walk(step, &sums, &far_schema_row_recovery));
    FAR_TRY(walk(step, &sums, &far_schema_row_machine_config));
    FAR_TRY(walk(step, &sums, &far_schema_row_workload));
    FAR_TRY(walk(step, &sums, &far_schema_row_plan_workload));
    FAR_TRY(walk(step, &sums, &far_schema_row_plan));
    FAR_TRY(walk(step, &sums, &far_schema_row_plan_schedule));
    FAR_TRY(walk(step, &sums, &far_schema_row_point));
    FAR_TRY(walk(step, &sums, &far_schema_row_checkpoint));
    if (sums.newest != 0 || sums.config_holds != 0 || sums.parts != 0) {
        return far_reject(step, FAR_INTERNAL, "configurations of machines are kept that nothing names, or count what is not there");
    }
    return sums.in_force == 0 && sums.holds == 0
               ? 0
               : far_reject(step, FAR_INTERNAL, "recovery configurations are in force that nothing names, or count what is not there");
}
