/* Vaults: see vault_row.h. */
#include "fsm/vault_row.h"

#include "fsm/job.h"

enum { ABSENT, IDLE, RECLAIMED };
enum { POINT, DUE, START, FINISH, REPORT, GONE };
static const char *const states[] = {"absent", "idle", "being reclaimed"};
static const char *const inputs[] = {"a point comes", "due", "reclaim starts", "reclaim finishes", "report", "its node is removed"};
#define NONE FAR_REJECT(FAR_INTERNAL, "is not there")
#define RUNS FAR_REJECT(FAR_CONFLICT, "is being reclaimed already; wait for that job or cancel it")
static const struct far_cell cells[3][6] = {
    [ABSENT] = {[POINT] = FAR_MOVE(IDLE), [DUE] = NONE, [START] = NONE, [FINISH] = NONE, [REPORT] = NONE, [GONE] = FAR_MOVE(ABSENT)},
    [IDLE] = {[POINT] = FAR_MOVE(IDLE),
              [DUE] = FAR_MOVE(RECLAIMED),
              [START] = FAR_MOVE(RECLAIMED),
              [FINISH] = FAR_REJECT(FAR_INTERNAL, "is not being reclaimed"),
              [REPORT] = FAR_MOVE(IDLE),
              [GONE] = FAR_MOVE(ABSENT)},
    [RECLAIMED] = {[POINT] = FAR_MOVE(RECLAIMED),
                   [DUE] = FAR_MOVE(RECLAIMED),
                   [START] = RUNS,
                   [FINISH] = FAR_MOVE(IDLE),
                   [REPORT] = FAR_MOVE(RECLAIMED),
                   [GONE] = FAR_MOVE(ABSENT)},
};
const struct far_table far_table_vault = FAR_TABLE("vault of node", states, inputs, cells);

enum { SCRATCH_BYTES = 1024 * 1024, SAMPLE_MS = 3600000 /* samples are at least so far apart */ };
#define INTERVAL_S_MAX (366ull * 86400)
#define INTERVAL_S_MIN 60ull

static unsigned state_of(const struct far_row_vault *row)
{
    return row->id == 0 ? ABSENT : row->reclaim_job_id != 0 ? RECLAIMED : IDLE;
}

/* All zero if there is none. */
static int look(struct far_step *step, uint64_t node_id, struct far_row_vault *ret)
{
    int rc = far_row_find(step, &far_schema_row_vault, node_id, ret);
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_row_vault){.id = 0};
        return 0;
    }
    return rc;
}

int far_vault_row_store(struct far_step *step, const struct far_row_vault *row, uint64_t reclaim_due_before_ms)
{
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_vault_reclaim, row->id, 0, reclaim_due_before_ms, row->reclaim_due_ms));
    return far_row_put(step, &far_schema_row_vault, row->id, row);
}

int far_vault_row_need(struct far_step *step, struct far_slice node, struct far_row_vault *ret)
{
    uint64_t id;
    FAR_TRY(far_name_need(step, &far_schema_row_node, node, &id));
    FAR_TRY(look(step, id, ret));
    return ret->id != 0 ? 0
                        : far_reject(step, FAR_NOT_FOUND, "node '%.*s' holds no recovery point: there is no vault to look after",
                                     FAR_TEXT(node));
}

int far_vault_row_free(struct far_step *step, const struct far_row_vault *row, struct far_slice node)
{
    return far_move(step, &far_table_vault, state_of(row), START, node, NULL);
}

/* ---- points ---- */

static int create(struct far_step *step, uint64_t node_id)
{
    struct far_row_vault_policy policy;
    FAR_TRY(far_vault_row_policy(step, node_id, &policy));
    struct far_row_vault row = {
        .id = node_id,
        .node_id = node_id,
        .reclaim_due_ms = policy.reclaim_off ? 0 : step->time_ms + policy.reclaim_interval_s * 1000,
    };
    FAR_TRY(far_scrub_arm(step, &row, &policy));
    return far_vault_row_store(step, &row, 0);
}

static int count(struct far_step *step, uint64_t node_id, uint64_t plan_id, int delta)
{
    struct far_row_vault_plan row;
    struct far_key key = far_key_pair(&far_schema_row_vault_plan, node_id, plan_id);
    int rc = far_key_find(step, &far_schema_row_vault_plan, &key, &row);
    if (rc == FAR_NOT_FOUND) {
        row = (struct far_row_vault_plan){.node_id = node_id, .plan_id = plan_id};
    } else if (rc != 0) {
        return rc;
    }
    if (delta < 0 && row.point_count == 0) {
        return far_reject(step, FAR_INTERNAL, "broken: the vault of node %llu has no points of plan %llu", FAR_LLU(node_id),
                          FAR_LLU(plan_id));
    }
    row.point_count += (uint64_t)(int64_t)delta;
    return row.point_count != 0 ? far_key_put(step, &far_schema_row_vault_plan, &key, &row)
                                : far_key_del(step, &far_schema_row_vault_plan, &key);
}

int far_vault_row_point(struct far_step *step, uint64_t node_id, uint64_t plan_id, int delta)
{
    struct far_row_node node;
    struct far_row_vault row;
    bool has;
    FAR_TRY(far_level_has(step, 4, &has));
    int rc = has ? far_row_find(step, &far_schema_row_node, node_id, &node) : FAR_NOT_FOUND;
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc; /* of a node that was removed nothing is counted */
    }
    FAR_TRY(look(step, node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_vault, state_of(&row), POINT, node_id, NULL));
    FAR_TRY(row.id == 0 ? create(step, node_id) : 0);
    return count(step, node_id, plan_id, delta);
}

int far_vault_row_made(struct far_step *step, uint64_t node_id)
{
    struct far_row_vault row;
    FAR_TRY(look(step, node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_vault, state_of(&row), POINT, node_id, NULL));
    return row.id == 0 ? create(step, node_id) : 0;
}

int far_vaults_count(struct far_step *step)
{
    struct far_arena own, *whole = step->arena;
    struct far_key key = far_key(&far_schema_row_point);
    int rc;
    far_arena_init(&own, SCRATCH_BYTES);
    do {
        struct far_row_point row;
        far_arena_reset(&own);
        step->arena = &own;
        rc = far_next(step, &far_schema_row_point, &key, NULL, &row);
        if (rc == 0 && row.state != FAR_point_state_removed) {
            rc = far_vault_row_point(step, row.node_id, row.plan_id, 1);
        }
    } while (rc == 0);
    step->arena = whole;
    far_arena_done(&own);
    return rc == FAR_NOT_FOUND && !step->is_rejected ? 0 : rc;
}

static int drop_plans(struct far_step *step, uint64_t node_id)
{
    for (;;) {
        struct far_row_vault_plan row;
        struct far_key key = far_key_id(&far_schema_row_vault_plan, node_id);
        int rc = far_next(step, &far_schema_row_vault_plan, &key, NULL, &row);
        if (rc != 0 || row.node_id != node_id) {
            return rc == FAR_NOT_FOUND ? 0 : rc;
        }
        key = far_key_pair(&far_schema_row_vault_plan, node_id, row.plan_id);
        FAR_TRY(far_key_del(step, &far_schema_row_vault_plan, &key));
    }
}

static int drop_if_there(struct far_step *step, const struct far_schema *table, uint64_t id, void *row)
{
    int rc = far_row_find(step, table, id, row);
    return rc == 0 ? far_row_del(step, table, id) : rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_vault_row_gone(struct far_step *step, uint64_t node_id)
{
    struct far_row_vault row;
    struct far_row_vault_policy policy;
    struct far_row_vault_samples samples;
    struct far_row_adoption adoption;
    struct far_row_vault_keys keys;
    FAR_TRY(drop_if_there(step, &far_schema_row_vault_policy, node_id, &policy));
    FAR_TRY(drop_if_there(step, &far_schema_row_adoption, node_id, &adoption));
    FAR_TRY(drop_if_there(step, &far_schema_row_vault_keys, node_id, &keys));
    FAR_TRY(look(step, node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_vault, state_of(&row), GONE, node_id, NULL));
    if (row.id == 0) {
        return 0;
    }
    FAR_TRY(drop_plans(step, node_id));
    FAR_TRY(drop_if_there(step, &far_schema_row_vault_samples, node_id, &samples));
    FAR_TRY(far_plan_jobs_orphan(step, node_id));
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_vault_reclaim, node_id, 0, row.reclaim_due_ms, 0));
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_vault_scrub, node_id, 0, row.scrub_due_ms, 0));
    return far_row_del(step, &far_schema_row_vault, node_id);
}

/* ---- policies ---- */

int far_vault_row_policy(struct far_step *step, uint64_t node_id, struct far_row_vault_policy *ret)
{
    int rc = far_row_find(step, &far_schema_row_vault_policy, node_id, ret);
    rc = rc == FAR_NOT_FOUND ? far_row_find(step, &far_schema_row_vault_policy, 0, ret) : rc;
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_row_vault_policy){.id = 0};
    }
    ret->reclaim_interval_s = ret->reclaim_interval_s != 0 ? ret->reclaim_interval_s : FAR_RECLAIM_INTERVAL_S;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_decide_vault_policy_set(struct far_step *step, const struct far_cmd_vault_policy_set *cmd)
{
    struct far_row_vault_policy row;
    struct far_ev_vault_policy_changed ev = {.reclaim_interval_s = cmd->reclaim_interval_s, .reclaim_off = cmd->reclaim_off,
                                              .scrub_bytes_per_hour = cmd->scrub_bytes_per_hour};
    FAR_TRY(cmd->node.len != 0 ? far_name_need(step, &far_schema_row_node, cmd->node, &ev.node_id) : 0);
    if (cmd->reclaim_interval_s != 0 && (cmd->reclaim_interval_s < INTERVAL_S_MIN || cmd->reclaim_interval_s > INTERVAL_S_MAX)) {
        return far_reject(step, FAR_INVALID, "a vault is reclaimed at most once a minute and at least once a year");
    }
    int rc = far_row_find(step, &far_schema_row_vault_policy, ev.node_id, &row);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    step->object_id = ev.node_id;
    bool same = rc == 0 && row.reclaim_interval_s == ev.reclaim_interval_s && row.reclaim_off == ev.reclaim_off &&
                row.scrub_bytes_per_hour == ev.scrub_bytes_per_hour;
    return same ? 0 : far_emit(step, &far_schema_ev_vault_policy_changed, &ev);
}

/* The vault's deadlines by the policy that holds now. */
static int rearm(struct far_step *step, struct far_row_vault *row)
{
    struct far_row_vault_policy policy;
    uint64_t due_before_ms = row->reclaim_due_ms;
    FAR_TRY(far_vault_row_policy(step, row->id, &policy));
    uint64_t due_ms = (row->reclaimed_ms != 0 ? row->reclaimed_ms : step->time_ms) + policy.reclaim_interval_s * 1000;
    row->reclaim_due_ms = policy.reclaim_off ? 0 : due_ms > step->time_ms ? due_ms : step->time_ms + 1;
    FAR_TRY(far_scrub_arm(step, row, &policy));
    return far_vault_row_store(step, row, due_before_ms);
}

int far_evolve_vault_policy_changed(struct far_step *step, const struct far_ev_vault_policy_changed *ev)
{
    struct far_row_vault_policy row = {.id = ev->node_id,
                                       .reclaim_interval_s = ev->reclaim_interval_s,
                                       .reclaim_off = ev->reclaim_off,
                                       .scrub_bytes_per_hour = ev->scrub_bytes_per_hour,
                                       .set_ms = step->time_ms};
    struct far_row_vault vault;
    struct far_key key = far_key(&far_schema_row_vault);
    int rc;
    FAR_TRY(far_row_put(step, &far_schema_row_vault_policy, row.id, &row));
    if (ev->node_id != 0) {
        FAR_TRY(look(step, ev->node_id, &vault));
        return vault.id != 0 ? rearm(step, &vault) : 0;
    }
    while ((rc = far_next(step, &far_schema_row_vault, &key, NULL, &vault)) == 0) {
        FAR_TRY(rearm(step, &vault));
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* ---- schedule ---- */

int far_vault_row_reclaim_due(struct far_step *step, uint64_t node_id)
{
    struct far_row_vault row;
    struct far_row_vault_policy policy;
    FAR_TRY(look(step, node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_vault, state_of(&row), DUE, node_id, NULL));
    if (row.reclaim_due_ms == 0 || row.reclaim_due_ms > step->time_ms) {
        return 0; /* dropped by deadline.c */
    }
    FAR_TRY(far_vault_row_policy(step, node_id, &policy));
    struct far_ev_vault_scheduled ev = {.node_id = node_id,
                                        .reclaim_due_ms = policy.reclaim_off ? 0 : step->time_ms + policy.reclaim_interval_s * 1000,
                                        .skipped = row.reclaim_job_id != 0};
    FAR_TRY(far_emit(step, &far_schema_ev_vault_scheduled, &ev));
    return ev.skipped ? 0 : far_vault_row_job(step, &row, FAR_job_kind_reclaim, 0);
}

int far_evolve_vault_scheduled(struct far_step *step, const struct far_ev_vault_scheduled *ev)
{
    struct far_row_vault row;
    if (ev->is_scrub) {
        return far_scrub_scheduled(step, ev);
    }
    FAR_TRY(look(step, ev->node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_vault, state_of(&row), DUE, ev->node_id, NULL));
    uint64_t due_before_ms = row.reclaim_due_ms;
    row.reclaim_due_ms = ev->reclaim_due_ms;
    return far_vault_row_store(step, &row, due_before_ms);
}

int far_vault_row_reclaiming(struct far_step *step, uint64_t node_id, uint64_t job_id, bool is_running)
{
    struct far_row_vault row;
    FAR_TRY(look(step, node_id, &row));
    if (row.id == 0 && !is_running) {
        return 0; /* its node was removed meanwhile */
    }
    if (!is_running && row.reclaim_job_id != job_id) {
        return 0;
    }
    FAR_TRY(far_move_id(step, &far_table_vault, state_of(&row), is_running ? START : FINISH, node_id, NULL));
    row.reclaim_job_id = is_running ? job_id : 0;
    return far_vault_row_store(step, &row, row.reclaim_due_ms);
}

/* ---- reports ---- */

/* What passes before delete_before had quarantined is gone or needed again. */
static int note_pass(struct far_step *step, struct far_row_vault *row, const struct far_ev_vault_reclaimed *ev)
{
    const struct far_sub_vault_pass *old = row->passes.items;
    struct far_sub_vault_pass *passes = far_step_alloc(step, FAR_VAULT_PASSES_MAX * sizeof *passes);
    size_t kept = 0;
    if (passes == NULL) {
        return FAR_LIMIT;
    }
    for (size_t i = 0; i < row->passes.count; i++) {
        bool is_full = kept == FAR_VAULT_PASSES_MAX - 1;
        bool stays = old[i].pass >= ev->delete_before && old[i].pass < ev->pass;
        kept -= stays && is_full; /* the newest but one goes: what it found is deleted with the next one's */
        passes[kept] = old[i];
        kept += stays;
    }
    passes[kept++] = (struct far_sub_vault_pass){.pass = ev->pass, .done_ms = step->time_ms};
    row->passes = (struct far_list){.items = passes, .count = kept};
    return 0;
}

int far_evolve_vault_reclaimed(struct far_step *step, const struct far_ev_vault_reclaimed *ev)
{
    const struct far_sub_reclaimed *said = ev->reclaimed.items;
    struct far_row_vault row;
    struct far_row_job job;
    FAR_TRY(look(step, ev->node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_vault, state_of(&row), REPORT, ev->node_id, NULL));
    FAR_TRY(note_pass(step, &row, ev));
    FAR_TRY(far_vault_damages_prune(step, &row));
    row.reclaimed_ms = step->time_ms;
    row.pass = ev->pass;
    row.unused_disk_ids = ev->unused_disk_ids;
    if (ev->reclaimed.count > 0) {
        row.freed_bytes = said->freed_bytes;
        row.waiting_records = said->waiting_records;
        row.points_pinned = said->points_pinned;
        row.points_uncountable = said->points_uncountable;
        row.problem = said->problem;
        FAR_TRY(far_row_need(step, &far_schema_row_job, ev->job_id, &job));
        job.freed_bytes += said->freed_bytes;
        job.quarantined_records += said->quarantined_records;
        job.deleted_records += said->deleted_records;
        job.pinned_points += said->points_pinned;
        FAR_TRY(far_row_put(step, &far_schema_row_job, job.id, &job));
    }
    return far_vault_row_store(step, &row, row.reclaim_due_ms);
}

/* One more, or instead of the last one if that is not old enough; beyond the most, the oldest goes. */
static int note_sample(struct far_step *step, uint64_t node_id, uint64_t used_bytes)
{
    struct far_row_vault_samples row;
    int rc = far_row_find(step, &far_schema_row_vault_samples, node_id, &row);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    const struct far_sub_vault_sample *old = rc == 0 ? row.items.items : NULL;
    size_t count_old = rc == 0 ? row.items.count : 0;
    struct far_sub_vault_sample *items = far_step_alloc(step, FAR_VAULT_SAMPLES_MAX * sizeof *items);
    if (items == NULL) {
        return FAR_LIMIT;
    }
    count_old -= count_old > 1 && step->time_ms - old[count_old - 2].time_ms < SAMPLE_MS;
    size_t first = count_old == FAR_VAULT_SAMPLES_MAX, kept = 0;
    for (size_t i = first; i < count_old; i++) {
        items[kept++] = old[i];
    }
    items[kept++] = (struct far_sub_vault_sample){.time_ms = step->time_ms, .used_bytes = used_bytes};
    row.items = (struct far_list){.items = items, .count = kept};
    return far_row_put(step, &far_schema_row_vault_samples, node_id, &row);
}

static int note_space(struct far_step *step, uint64_t node_id, const struct far_sub_plan_space *space)
{
    struct far_row_vault_plan row;
    struct far_key key = far_key_pair(&far_schema_row_vault_plan, node_id, space->plan_id);
    int rc = far_key_find(step, &far_schema_row_vault_plan, &key, &row);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc; /* its last point was removed meanwhile */
    }
    row.measured_ms = step->time_ms;
    row.logical_bytes = space->logical_bytes;
    row.points_bytes = space->points_bytes;
    row.unique_bytes = space->unique_bytes;
    row.shared_bytes = space->shared_bytes;
    row.estimated = space->estimated;
    return far_key_put(step, &far_schema_row_vault_plan, &key, &row);
}

static int sum_up(struct far_step *step, struct far_row_vault *row)
{
    struct far_key key = far_key_id(&far_schema_row_vault_plan, row->id);
    row->logical_bytes = row->unique_bytes = 0;
    for (;;) {
        struct far_row_vault_plan plan;
        int rc = far_next(step, &far_schema_row_vault_plan, &key, NULL, &plan);
        if (rc != 0 || plan.node_id != row->id) {
            return rc == FAR_NOT_FOUND ? 0 : rc;
        }
        row->logical_bytes += plan.logical_bytes;
        row->unique_bytes += plan.unique_bytes;
    }
}

int far_evolve_vault_measured(struct far_step *step, const struct far_ev_vault_measured *ev)
{
    const struct far_sub_plan_space *spaces = ev->spaces.items;
    const struct far_sub_vault_usage *usage = ev->usage.items;
    struct far_row_vault row;
    FAR_TRY(look(step, ev->node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_vault, state_of(&row), REPORT, ev->node_id, NULL));
    for (size_t i = 0; i < ev->spaces.count; i++) {
        FAR_TRY(note_space(step, ev->node_id, &spaces[i]));
    }
    FAR_TRY(sum_up(step, &row));
    row.measured_ms = step->time_ms;
    if (ev->usage.count > 0) {
        row.used_bytes = usage->used_bytes;
        row.free_bytes = usage->free_bytes;
        row.total_bytes = usage->total_bytes;
        row.point_count = usage->point_count;
        FAR_TRY(note_sample(step, ev->node_id, usage->used_bytes));
    }
    return far_vault_row_store(step, &row, row.reclaim_due_ms);
}
