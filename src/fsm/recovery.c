/* Recovery configurations: see recovery.h. */
#include "fsm/recovery.h"

enum { ABSENT, IN_FORCE, KEPT };
enum { SET, KEEP, FORGET, HOLD, LET_GO, ADOPT };
static const char *const states[] = {"absent", "in force", "kept for what was made under it"};
static const char *const inputs[] = {"recovery_set", "replaced, but something was made under it", "replaced or let go, and nothing was",
                                     "a point is made", "a point is removed, and others are there", "adopted, and not in force"};
#define GONE FAR_REJECT(FAR_INTERNAL, "does not exist")
static const struct far_cell cells[3][6] = {
    [ABSENT] = {[SET] = FAR_MOVE(IN_FORCE), [KEEP] = GONE, [FORGET] = GONE, [HOLD] = GONE, [LET_GO] = GONE, [ADOPT] = FAR_MOVE(KEPT)},
    [IN_FORCE] = {[SET] = FAR_REJECT(FAR_INTERNAL, "exists already"),
                  [KEEP] = FAR_MOVE(KEPT),
                  [FORGET] = FAR_MOVE(ABSENT),
                  [HOLD] = FAR_MOVE(IN_FORCE),
                  [LET_GO] = FAR_MOVE(IN_FORCE),
                  [ADOPT] = FAR_REJECT(FAR_INTERNAL, "exists already")},
    [KEPT] = {[SET] = FAR_REJECT(FAR_INTERNAL, "exists already"),
              [KEEP] = FAR_REJECT(FAR_INTERNAL, "is not in force"),
              [FORGET] = FAR_MOVE(ABSENT),
              [HOLD] = FAR_MOVE(KEPT), /* by an adopted point that was made under it */
              [LET_GO] = FAR_MOVE(KEPT),
              [ADOPT] = FAR_REJECT(FAR_INTERNAL, "exists already")},
};
const struct far_table far_table_recovery = FAR_TABLE("recovery configuration", states, inputs, cells);

static unsigned state_of(const struct far_row_recovery *row)
{
    return row->id == 0 ? ABSENT : row->in_force ? IN_FORCE : KEPT;
}

/* All zero if there is none. */
static int look(struct far_step *step, uint64_t id, struct far_row_recovery *ret)
{
    int rc = far_row_find(step, &far_schema_row_recovery, id, ret);
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_row_recovery){.id = 0};
        return 0;
    }
    return rc;
}

/* ---- what is in force ---- */

/* The member, and its version; FAR_NOT_FOUND: it is in another plan, or in none. */
static int member_of(struct far_step *step, uint64_t plan_id, uint64_t workload_id, struct far_row_plan_workload *ret)
{
    struct far_key key = far_key_pair(&far_schema_row_plan_workload, plan_id, workload_id);
    return far_key_find(step, &far_schema_row_plan_workload, &key, ret);
}

int far_recovery_of(struct far_step *step, uint64_t plan_id, uint64_t workload_id, uint64_t *ret_id)
{
    struct far_row_plan_workload member;
    int rc = member_of(step, plan_id, workload_id, &member);
    *ret_id = rc == 0 ? member.recovery_id : 0;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int encoded(struct far_step *step, const struct far_schema *schema, const void *object, struct far_slice *ret)
{
    struct far_buf buf;
    struct far_error why = {0};
    far_buf_init(&buf, FAR_COMMAND_PAYLOAD_MAX);
    int rc = far_schema_encode(schema, object, &buf, &why);
    if (rc == FAR_INVALID) {
        rc = far_reject(step, FAR_INVALID, "%s", why.message);
    } else if (rc != 0) {
        far_fail(step->err, rc, "%s", why.message);
    }
    rc = rc == 0 ? far_step_copy(step, far_buf_slice(&buf), ret) : rc;
    far_buf_done(&buf);
    return rc;
}

int far_same(struct far_step *step, const struct far_schema *schema, const void *a, const void *b, bool *ret_same)
{
    struct far_slice first, second;
    FAR_TRY(encoded(step, schema, a, &first));
    FAR_TRY(encoded(step, schema, b, &second));
    *ret_same = far_slice_equal(first, second);
    return 0;
}

int far_recovery_kept(struct far_step *step, uint64_t recovery_id, uint64_t networks_id, struct far_slice *ret_bytes)
{
    struct far_row_recovery recovery, networks;
    FAR_TRY(look(step, recovery_id, &recovery));
    FAR_TRY(look(step, networks_id, &networks));
    struct far_sub_recovery_kept kept = {.config = recovery.config, .networks = networks.networks};
    *ret_bytes = far_slice(NULL, 0);
    return kept.config.count + kept.networks.count > 0 ? encoded(step, &far_schema_sub_recovery_kept, &kept, ret_bytes) : 0;
}

int far_fits_row(struct far_step *step, const struct far_schema *schema, const void *object, bool *ret_fits)
{
    struct far_slice bytes;
    FAR_TRY(encoded(step, schema, object, &bytes));
    *ret_fits = bytes.len <= FAR_RECOVERY_BYTES_MAX;
    return 0;
}

/* The event, unless the version that is in force says the same. What it sets has to fit a row. */
static int put(struct far_step *step, struct far_ev_recovery_changed *ev, uint64_t now_id, const char *whose, struct far_slice name)
{
    struct far_row_recovery now;
    struct far_slice bytes;
    bool same = false;
    FAR_TRY(look(step, now_id, &now));
    struct far_ev_recovery_changed old = {
        .plan_id = ev->plan_id, .workload_id = ev->workload_id, .config = now.config, .networks = now.networks};
    FAR_TRY(far_same(step, &far_schema_ev_recovery_changed, ev, &old, &same));
    if (same) {
        return 0;
    }
    FAR_TRY(encoded(step, &far_schema_ev_recovery_changed, ev, &bytes));
    if (bytes.len > FAR_RECOVERY_BYTES_MAX) {
        return far_reject(step, FAR_INVALID,
                          "%s '%.*s': all fields together are %zu bytes, %d are allowed: use fewer entries or shorter names", whose,
                          FAR_TEXT(name), bytes.len, FAR_RECOVERY_BYTES_MAX);
    }
    ev->id = ev->config.count + ev->networks.count > 0 ? step->progress.next_id : 0;
    return far_emit(step, &far_schema_ev_recovery_changed, ev);
}

int far_recovery_put(struct far_step *step, const struct far_row_plan *plan, uint64_t workload_id, const struct far_sub_recovery *config)
{
    struct far_sub_recovery plain = {.processors = 0}, given = config != NULL ? *config : plain;
    struct far_ev_recovery_changed ev = {.plan_id = plan->id, .workload_id = workload_id};
    struct far_row_workload workload;
    uint64_t now_id;
    bool is_plain;
    given.name = far_slice(NULL, 0);
    FAR_TRY(far_same(step, &far_schema_sub_recovery, &given, &plain, &is_plain));
    ev.config = (struct far_list){.items = &given, .count = !is_plain};
    FAR_TRY(far_row_need(step, &far_schema_row_workload, workload_id, &workload));
    FAR_TRY(far_recovery_of(step, plan->id, workload_id, &now_id));
    return put(step, &ev, now_id, "workload", workload.name);
}

int far_networks_put(struct far_step *step, const struct far_row_plan *plan, const struct far_list *networks)
{
    struct far_ev_recovery_changed ev = {.plan_id = plan->id, .networks = *networks};
    return put(step, &ev, plan->networks_id, "the networks of plan", plan->name);
}

int far_decide_recovery_set(struct far_step *step, const struct far_cmd_recovery_set *cmd)
{
    struct far_row_workload workload;
    struct far_row_plan plan;
    uint64_t id;
    FAR_TRY(far_name_need(step, &far_schema_row_workload, cmd->workload, &id));
    FAR_TRY(far_row_need(step, &far_schema_row_workload, id, &workload));
    if (workload.plan_id == 0) {
        return far_reject(step, FAR_CONFLICT, "workload '%.*s' is in no plan: nothing brings it up", FAR_TEXT(cmd->workload));
    }
    FAR_TRY(far_row_need(step, &far_schema_row_plan, workload.plan_id, &plan));
    const struct far_sub_recovery *config = cmd->config.count > 0 ? cmd->config.items : NULL;
    FAR_TRY(config != NULL ? far_recovery_check(step, "config.", &workload, config) : 0);
    step->object_id = workload.id;
    return far_recovery_put(step, &plan, workload.id, config);
}

int far_decide_plan_networks_set(struct far_step *step, const struct far_cmd_plan_networks_set *cmd)
{
    struct far_row_plan plan;
    uint64_t id;
    FAR_TRY(far_name_need(step, &far_schema_row_plan, cmd->name, &id));
    FAR_TRY(far_row_need(step, &far_schema_row_plan, id, &plan));
    FAR_TRY(far_networks_check(step, &cmd->networks));
    step->object_id = plan.id;
    return far_networks_put(step, &plan, &cmd->networks);
}

/* ---- evolve ---- */

static int store(struct far_step *step, const struct far_row_recovery *row)
{
    return row->in_force || row->holds != 0 ? far_row_put(step, &far_schema_row_recovery, row->id, row)
                                            : far_row_del(step, &far_schema_row_recovery, row->id);
}

int far_recovery_end(struct far_step *step, uint64_t id)
{
    struct far_row_recovery row;
    if (id == 0) {
        return 0;
    }
    FAR_TRY(look(step, id, &row));
    FAR_TRY(far_move_id(step, &far_table_recovery, state_of(&row), row.holds != 0 ? KEEP : FORGET, id, NULL));
    row.in_force = false;
    return store(step, &row);
}

/* The plan or its member names this version instead of another. */
static int name_version(struct far_step *step, const struct far_ev_recovery_changed *ev, struct far_row_plan *plan, uint64_t *ret_before_id)
{
    struct far_row_plan_workload member;
    struct far_key key = far_key_pair(&far_schema_row_plan_workload, ev->plan_id, ev->workload_id);
    plan->revision++;
    if (ev->workload_id == 0) {
        *ret_before_id = plan->networks_id;
        plan->networks_id = ev->id;
    } else {
        FAR_TRY(far_key_need(step, &far_schema_row_plan_workload, &key, &member));
        *ret_before_id = member.recovery_id;
        member.recovery_id = ev->id;
        FAR_TRY(far_key_put(step, &far_schema_row_plan_workload, &key, &member));
    }
    return far_row_put(step, &far_schema_row_plan, plan->id, plan);
}

int far_evolve_recovery_changed(struct far_step *step, const struct far_ev_recovery_changed *ev)
{
    struct far_row_plan plan;
    struct far_row_recovery old;
    uint64_t before_id;
    FAR_TRY(far_row_need(step, &far_schema_row_plan, ev->plan_id, &plan));
    if (!ev->kept) {
        FAR_TRY(name_version(step, ev, &plan, &before_id));
        FAR_TRY(far_recovery_end(step, before_id));
    }
    if (ev->id == 0) {
        return 0;
    }
    FAR_TRY(look(step, ev->id, &old));
    FAR_TRY(far_move_id(step, &far_table_recovery, state_of(&old), ev->kept ? ADOPT : SET, ev->id, NULL));
    struct far_row_recovery row = {.id = ev->id,
                                   .plan_id = ev->plan_id,
                                   .workload_id = ev->workload_id,
                                   .in_force = !ev->kept,
                                   .set_ms = step->time_ms,
                                   .config = ev->config,
                                   .networks = ev->networks};
    far_id_used(step, row.id);
    return far_row_put(step, &far_schema_row_recovery, row.id, &row);
}

int far_recovery_hold(struct far_step *step, uint64_t id)
{
    struct far_row_recovery row;
    if (id == 0) {
        return 0;
    }
    FAR_TRY(look(step, id, &row));
    FAR_TRY(far_move_id(step, &far_table_recovery, state_of(&row), HOLD, id, NULL));
    row.holds++;
    return store(step, &row);
}

int far_recovery_let_go(struct far_step *step, uint64_t id)
{
    struct far_row_recovery row;
    if (id == 0) {
        return 0;
    }
    FAR_TRY(look(step, id, &row));
    FAR_TRY(far_move_id(step, &far_table_recovery, state_of(&row), row.in_force || row.holds > 1 ? LET_GO : FORGET, id, NULL));
    if (row.holds == 0) {
        return far_reject(step, FAR_INTERNAL, "broken: nothing was made under recovery configuration %llu", FAR_LLU(id));
    }
    row.holds--;
    return store(step, &row);
}
