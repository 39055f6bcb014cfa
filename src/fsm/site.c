/* Sites: made by name and role, removed when nothing stands there any more. */
#include "fsm/bandwidth.h"
#include "fsm/machines.h"

enum { ABSENT, PRESENT };
enum { CREATE, REMOVE };
static const char *const states[] = {"absent", "present"};
static const char *const inputs[] = {"site_create", "site_remove"};
static const struct far_cell cells[2][2] = {
    [ABSENT] = {[CREATE] = FAR_MOVE(PRESENT), [REMOVE] = FAR_REJECT(FAR_NOT_FOUND, "does not exist")},
    [PRESENT] = {[CREATE] = FAR_REJECT(FAR_CONFLICT, "exists already; choose another name"),
                 [REMOVE] = FAR_MOVE(ABSENT)},
};
const struct far_table far_table_site = FAR_TABLE("site", states, inputs, cells);

/* The state of the site with this name, and its id. */
static int look(struct far_step *step, struct far_slice name, unsigned *ret_state, uint64_t *ret_id)
{
    int rc = far_name_find(step, &far_schema_row_site, name, ret_id);
    *ret_state = rc == 0 ? PRESENT : ABSENT;
    return rc == FAR_NOT_FOUND ? 0 : rc;
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
    struct far_ev_site_created ev = {.id = step->progress.next_id, .name = cmd->name, .role = cmd->role};
    step->object_id = ev.id;
    return far_emit(step, &far_schema_ev_site_created, &ev);
}

int far_evolve_site_created(struct far_step *step, const struct far_ev_site_created *ev)
{
    unsigned state;
    uint64_t id;
    FAR_TRY(look(step, ev->name, &state, &id));
    FAR_TRY(far_move(step, &far_table_site, state, CREATE, ev->name, NULL));
    struct far_row_site row = {.id = ev->id, .name = ev->name, .role = ev->role, .created_ms = step->time_ms};
    FAR_TRY(far_row_put(step, &far_schema_row_site, row.id, &row));
    FAR_TRY(far_name_put(step, &far_schema_row_site, row.name, row.id));
    far_id_used(step, ev->id);
    return 0;
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
    FAR_TRY(far_name_del(step, &far_schema_row_site, row.name));
    return far_row_del(step, &far_schema_row_site, ev->id);
}
