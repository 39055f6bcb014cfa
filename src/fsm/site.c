/* Sites: made by name and role, removed when nothing stands there any more. */
#include "fsm/bandwidth.h"
#include "fsm/job.h"
#include "fsm/machines.h"
#include "fsm/refuse.h"
#include "fsm/site_limit.h"

enum { ABSENT, PRESENT };
enum { CREATE, REMOVE, UPDATE };
static const char *const states[] = {"absent", "present"};
static const char *const inputs[] = {"site_create", "site_remove", "site_update"};
static const struct far_cell cells[2][3] = {
    [ABSENT] = {[CREATE] = FAR_MOVE(PRESENT),
                [REMOVE] = FAR_REJECT(FAR_NOT_FOUND, "does not exist"),
                [UPDATE] = FAR_REJECT(FAR_NOT_FOUND, "does not exist")},
    [PRESENT] = {[CREATE] = FAR_REJECT(FAR_CONFLICT, "exists already; choose another name"),
                 [REMOVE] = FAR_MOVE(ABSENT),
                 [UPDATE] = FAR_MOVE(PRESENT)},
};
const struct far_table far_table_site = FAR_TABLE("site", states, inputs, cells);

/* The state of the site with this name, and its id. */
static int look(struct far_step *step, struct far_slice name, unsigned *ret_state, uint64_t *ret_id)
{
    int rc = far_name_find(step, &far_schema_row_site, name, ret_id);
    *ret_state = rc == 0 ? PRESENT : ABSENT;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int check_limits(struct far_step *step, uint64_t parallel_sends, uint64_t parallel_recoveries)
{
    FAR_TRY(far_refuse_above(step, "", "parallel_sends", parallel_sends, FAR_SITE_LIMIT_MAX));
    return far_refuse_above(step, "", "parallel_recoveries", parallel_recoveries, FAR_SITE_LIMIT_MAX);
}

int far_decide_site_create(struct far_step *step, const struct far_cmd_site_create *cmd)
{
    unsigned state;
    uint64_t id;
    FAR_TRY(far_name_check(step, "site", cmd->name));
    if (cmd->role < FAR_site_role_protected || cmd->role > FAR_site_role_witness) {
        return far_reject(step, FAR_INVALID, "site '%.*s' needs a role: protected, recovery or witness",
                          FAR_TEXT(cmd->name));
    }
    FAR_TRY(look(step, cmd->name, &state, &id));
    FAR_TRY(far_move(step, &far_table_site, state, CREATE, cmd->name, NULL));
    FAR_TRY(check_limits(step, cmd->parallel_sends, cmd->parallel_recoveries));
    struct far_ev_site_created ev = {.id = step->progress.next_id,
                                     .name = cmd->name,
                                     .role = cmd->role,
                                     .parallel_sends = cmd->parallel_sends,
                                     .parallel_recoveries = cmd->parallel_recoveries};
    step->object_id = ev.id;
    return far_emit(step, &far_schema_ev_site_created, &ev);
}

int far_evolve_site_created(struct far_step *step, const struct far_ev_site_created *ev)
{
    unsigned state;
    uint64_t id;
    FAR_TRY(look(step, ev->name, &state, &id));
    FAR_TRY(far_move(step, &far_table_site, state, CREATE, ev->name, NULL));
    struct far_row_site row = {.id = ev->id,
                               .name = ev->name,
                               .role = ev->role,
                               .created_ms = step->time_ms,
                               .parallel_sends = ev->parallel_sends,
                               .parallel_recoveries = ev->parallel_recoveries};
    FAR_TRY(far_row_put(step, &far_schema_row_site, row.id, &row));
    FAR_TRY(far_name_put(step, &far_schema_row_site, row.name, row.id));
    far_id_used(step, ev->id);
    return 0;
}

/* One limit after the command: what is not named stays. */
static int limit_after(struct far_step *step, const struct far_list *clear, const char *field, uint64_t named, uint64_t now, uint64_t *ret)
{
    const struct far_slice *names = clear->items;
    bool is_cleared = false;
    for (size_t i = 0; i < clear->count; i++) {
        is_cleared = is_cleared || far_slice_equal(names[i], far_slice_str(field));
    }
    *ret = is_cleared ? 0 : named != 0 ? named : now;
    return is_cleared && named != 0 ? far_reject(step, FAR_INVALID, "field '%s' cannot be set and cleared at once", field) : 0;
}

static int check_clear(struct far_step *step, const struct far_cmd_site_update *cmd)
{
    const struct far_slice *names = cmd->clear.items;
    for (size_t i = 0; i < cmd->clear.count; i++) {
        bool is_known = far_slice_equal(names[i], far_slice_str("parallel_sends")) ||
                        far_slice_equal(names[i], far_slice_str("parallel_recoveries"));
        if (!is_known) {
            return far_reject(step, FAR_INVALID, "'%.*s' of a site cannot be cleared; parallel_sends and parallel_recoveries can",
                              FAR_TEXT(names[i]));
        }
    }
    return cmd->clear.count > 0 || cmd->parallel_sends != 0 || cmd->parallel_recoveries != 0
               ? 0
               : far_reject(step, FAR_INVALID, "nothing is named that is to change: parallel_sends, parallel_recoveries or clear");
}

int far_decide_site_update(struct far_step *step, const struct far_cmd_site_update *cmd)
{
    struct far_row_site row;
    unsigned state;
    uint64_t id;
    FAR_TRY(far_name_check(step, "site", cmd->name));
    FAR_TRY(look(step, cmd->name, &state, &id));
    FAR_TRY(far_move(step, &far_table_site, state, UPDATE, cmd->name, NULL));
    FAR_TRY(check_clear(step, cmd));
    FAR_TRY(check_limits(step, cmd->parallel_sends, cmd->parallel_recoveries));
    FAR_TRY(far_row_need(step, &far_schema_row_site, id, &row));
    if (cmd->conditional && cmd->revision != row.revision) {
        return far_reject(step, FAR_CONFLICT, "site '%.*s' has revision %llu, not %llu: somebody changed it; read it again",
                          FAR_TEXT(cmd->name), FAR_LLU(row.revision), FAR_LLU(cmd->revision));
    }
    struct far_ev_site_updated ev = {.id = id};
    FAR_TRY(limit_after(step, &cmd->clear, "parallel_sends", cmd->parallel_sends, row.parallel_sends, &ev.parallel_sends));
    FAR_TRY(limit_after(step, &cmd->clear, "parallel_recoveries", cmd->parallel_recoveries, row.parallel_recoveries,
                        &ev.parallel_recoveries));
    step->object_id = id;
    bool same = ev.parallel_sends == row.parallel_sends && ev.parallel_recoveries == row.parallel_recoveries;
    FAR_TRY(same ? 0 : far_emit(step, &far_schema_ev_site_updated, &ev));
    step->candidates = NULL;
    return same ? 0 : far_jobs_wake(step); /* what waited may begin now */
}

int far_evolve_site_updated(struct far_step *step, const struct far_ev_site_updated *ev)
{
    struct far_row_site row;
    int rc = far_row_find(step, &far_schema_row_site, ev->id, &row);
    if (rc == FAR_NOT_FOUND) {
        return far_move_id(step, &far_table_site, ABSENT, UPDATE, ev->id, NULL);
    }
    FAR_TRY(rc);
    row.parallel_sends = ev->parallel_sends;
    row.parallel_recoveries = ev->parallel_recoveries;
    row.revision++;
    FAR_TRY(far_row_put(step, &far_schema_row_site, row.id, &row));
    return far_slots_wake(step, row.id);
}

static int used(struct far_step *step, struct far_slice site, const char *object, struct far_slice name)
{
    return far_reject(step, FAR_CONFLICT, "site '%.*s' is used by %s '%.*s'; remove that first", FAR_TEXT(site), object,
                      FAR_TEXT(name));
}

static int used_by_machines(struct far_step *step, uint64_t id, struct far_slice name)
{
    struct far_row_server server;
    struct far_row_node node;
    struct far_key key = far_key(&far_schema_row_server);
    int rc;
    while ((rc = far_next(step, &far_schema_row_server, &key, NULL, &server)) == 0) {
        if (server.site_id == id && server.role != FAR_server_role_removed) {
            return used(step, name, "server", server.name);
        }
    }
    if (rc != FAR_NOT_FOUND) {
        return rc;
    }
    key = far_key(&far_schema_row_node);
    while ((rc = far_next(step, &far_schema_row_node, &key, NULL, &node)) == 0) {
        if (node.site_id == id) {
            return used(step, name, "node", node.name);
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int used_by_work(struct far_step *step, uint64_t id, struct far_slice name)
{
    struct far_row_workload workload;
    struct far_row_plan plan;
    struct far_key key = far_key(&far_schema_row_workload);
    int rc;
    while ((rc = far_next(step, &far_schema_row_workload, &key, NULL, &workload)) == 0) {
        if (workload.site_id == id) {
            return used(step, name, "workload", workload.name);
        }
    }
    if (rc != FAR_NOT_FOUND) {
        return rc;
    }
    key = far_key(&far_schema_row_plan);
    while ((rc = far_next(step, &far_schema_row_plan, &key, NULL, &plan)) == 0) {
        if (plan.source_site_id == id || plan.target_site_id == id) {
            return used(step, name, "plan", plan.name);
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int used_by_tokens(struct far_step *step, uint64_t id, struct far_slice name)
{
    struct far_row_token token;
    struct far_key key = far_key(&far_schema_row_token);
    int rc;
    while ((rc = far_next(step, &far_schema_row_token, &key, NULL, &token)) == 0) {
        if (token.site_id == id && far_token_fault(&token, token.purpose, step->time_ms) == NULL) {
            return used(step, name, "a join token for", token.name);
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_decide_site_remove(struct far_step *step, const struct far_cmd_site_remove *cmd)
{
    unsigned state;
    uint64_t id;
    FAR_TRY(far_name_check(step, "site", cmd->name));
    FAR_TRY(look(step, cmd->name, &state, &id));
    FAR_TRY(far_move(step, &far_table_site, state, REMOVE, cmd->name, NULL));
    FAR_TRY(used_by_machines(step, id, cmd->name));
    FAR_TRY(used_by_work(step, id, cmd->name));
    FAR_TRY(used_by_tokens(step, id, cmd->name));
    struct far_ev_site_removed ev = {.id = id};
    step->object_id = id;
    return far_emit(step, &far_schema_ev_site_removed, &ev);
}

int far_evolve_site_removed(struct far_step *step, const struct far_ev_site_removed *ev)
{
    struct far_row_site row;
    int rc = far_row_find(step, &far_schema_row_site, ev->id, &row);
    if (rc == FAR_NOT_FOUND) {
        return far_move_id(step, &far_table_site, ABSENT, REMOVE, ev->id, NULL);
    }
    FAR_TRY(rc);
    FAR_TRY(far_throttle_gone(step, row.id));
    FAR_TRY(far_slots_gone(step, &row));
    FAR_TRY(far_name_del(step, &far_schema_row_site, row.name));
    return far_row_del(step, &far_schema_row_site, ev->id);
}
