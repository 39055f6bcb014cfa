/* The feature level: what may enter the log (DESIGN.md section 3.11).
 *
 * Every kind and field of events.def has the level since when it exists. Servers of an older version reject what they do
 * not know, so a command of a higher level than the cluster's is rejected by those that know it too: all decide alike. The
 * leader raises the level when every voter and standby says that it supports a higher one. A server that does not support
 * what is decided here stops before it applies that entry, and goes on from there when it is upgraded. */
#include "fsm/expiry.h"
#include "fsm/machines.h"
#include "fsm/node_load.h"
#include "fsm/vault_row.h"

enum { HIGHER, SAME_OR_LOWER };
static const char *const states[] = {"any"};
static const char *const inputs[] = {"raise to a higher one", "raise to the same or a lower one"};
static const struct far_cell cells[1][2] = {
    {[HIGHER] = FAR_MOVE(0), [SAME_OR_LOWER] = FAR_REJECT(FAR_CONFLICT, "is reached already, and is never lowered")},
};
const struct far_table far_table_level = FAR_TABLE("feature level", states, inputs, cells);

static int load(struct far_step *step)
{
    struct far_row_cluster row;
    struct far_key key = far_key(&far_schema_row_cluster);
    if (step->level != 0) {
        return 0;
    }
    int rc = far_key_find(step, &far_schema_row_cluster, &key, &row);
    step->level = rc == 0 ? row.feature_level : 1;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_level_has(struct far_step *step, uint64_t level, bool *ret_has)
{
    FAR_TRY(level > 1 ? load(step) : 0);
    *ret_has = level <= 1 || step->level >= level;
    return 0;
}

int far_level_admit(struct far_step *step, const struct far_schema *schema, const void *command)
{
    uint16_t level = far_schema_level(schema, command);
    bool has;
    FAR_TRY(far_level_has(step, level, &has));
    return has ? 0
               : far_reject(step, FAR_CONFLICT,
                            "command '%s' needs feature level %u, and the cluster has %llu: some server runs an older "
                            "version; upgrade it ('farshore cluster status' shows which), the level follows by itself",
                            schema->name, level, FAR_LLU(step->level));
}

int far_level_emit(struct far_step *step, const struct far_schema *schema, const void *event)
{
    uint16_t level = far_schema_level(schema, event);
    bool has;
    FAR_TRY(far_level_has(step, level, &has));
    return has ? 0
               : far_reject(step, FAR_INTERNAL, "broken: event '%s' of feature level %u in a cluster of level %llu",
                            schema->name, level, FAR_LLU(step->level));
}

/* ---- raising it ---- */

int far_decide_feature_level_raise(struct far_step *step, const struct far_cmd_feature_level_raise *cmd)
{
    FAR_TRY(load(step));
    if (step->actor >> 56 != FAR_ACTOR_SYSTEM && step->actor >> 56 != FAR_ACTOR_SERVER) {
        return far_reject(step, FAR_DENIED, "the feature level is raised by the leader, when every server supports it");
    }
    FAR_TRY(far_move_id(step, &far_table_level, 0, cmd->level > step->level ? HIGHER : SAME_OR_LOWER, cmd->level, NULL));
    if (cmd->level > FAR_FEATURE_LEVEL) {
        return far_fail(step->err, FAR_CONFLICT,
                        "the cluster goes to feature level %llu and this version of farshored has only %d; upgrade it",
                        FAR_LLU(cmd->level), FAR_FEATURE_LEVEL);
    }
    struct far_ev_feature_level_raised ev = {.level = cmd->level};
    return far_emit(step, &far_schema_ev_feature_level_raised, &ev);
}

int far_evolve_feature_level_raised(struct far_step *step, const struct far_ev_feature_level_raised *ev)
{
    struct far_row_cluster row;
    struct far_key key = far_key(&far_schema_row_cluster);
    FAR_TRY(far_key_need(step, &far_schema_row_cluster, &key, &row));
    FAR_TRY(far_move_id(step, &far_table_level, 0, ev->level > row.feature_level ? HIGHER : SAME_OR_LOWER, ev->level,
                        NULL));
    bool begins_to_spread = row.feature_level < FAR_SPREAD_LEVEL && ev->level >= FAR_SPREAD_LEVEL;
    row.feature_level = ev->level;
    step->level = ev->level;
    FAR_TRY(far_key_put(step, &far_schema_row_cluster, &key, &row));
    if (!begins_to_spread) {
        return 0;
    }
    FAR_TRY(far_node_load_count(step));
    FAR_TRY(far_checkpoints_list(step));
    return far_vaults_count(step);
}
