/* A witness votes and stores the log, and serves no users (DESIGN.md section 1): whoever asks it for more than how it and the
 * cluster are is sent to another server. While there is no other one that could serve them (after a forced recovery on the
 * witness, or when all others are down), it does, or nobody could let a new server in. A command that would leave only
 * witnesses, though there is a server that serves users, is refused. */
#include "api/request.h"

#include "fsm/query.h"

#include <stdio.h>

enum { ASK_MAX = 300 };

/* Does this server stand at a witness site? */
static int is_witness(struct far_state *state, uint64_t server_id, struct far_arena *arena, bool *ret_is,
                      struct far_error *err)
{
    struct far_row_server server;
    struct far_row_site site;
    struct far_key key = far_key(&far_schema_row_server);
    far_key_u64(&key, server_id);
    int rc = far_state_get(state, &far_schema_row_server, &key, arena, &server, err);
    if (rc == 0) {
        key = far_key(&far_schema_row_site);
        far_key_u64(&key, server.site_id);
        rc = far_state_get(state, &far_schema_row_site, &key, arena, &site, err);
    }
    *ret_is = rc == 0 && site.role == FAR_site_role_witness;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* The others that vote and are to go on with it. */
struct voters {
    size_t count;
    size_t for_users; /* of them: not at a witness site */
    bool has_up;      /* one of these is up */
    char ask[ASK_MAX]; /* their addresses */
};

static void add_address(char ask[ASK_MAX], struct far_slice address)
{
    size_t len = strlen(ask);
    if (len + address.len + 3 < ASK_MAX) {
        snprintf(ask + len, ASK_MAX - len, "%s%.*s", len == 0 ? "" : ", ", (int)address.len, (const char *)address.data);
    }
}

static bool is_up(const struct far_log_status *status, uint64_t id)
{
    for (size_t i = 0; i < status->member_count; i++) {
        if (status->members[i].id == id) {
            return far_api_member_is_up(status, &status->members[i]);
        }
    }
    return false;
}

static int count_others(struct far_state *state, const struct far_log_status *status, uint64_t server_id,
                        struct far_arena *arena, struct voters *ret_voters, struct far_error *err)
{
    struct far_row_server row;
    struct far_key key = far_key(&far_schema_row_server);
    int rc;
    *ret_voters = (struct voters){.count = 0};
    while ((rc = far_state_next(state, &far_schema_row_server, &key, arena, NULL, &row, err)) == 0) {
        bool is_there = row.id != server_id && row.role == FAR_server_role_voter && row.wanted_role == FAR_server_role_voter;
        bool witnesses = false;
        rc = is_there ? is_witness(state, row.id, arena, &witnesses, err) : 0;
        if (rc != 0) {
            return rc;
        }
        ret_voters->count += is_there;
        if (is_there && !witnesses) {
            ret_voters->for_users++;
            ret_voters->has_up = ret_voters->has_up || is_up(status, row.id);
            add_address(ret_voters->ask, row.api_address);
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

bool far_api_is_for_users(const struct far_route *route)
{
    return route->action > FAR_ROUTE_LOG_HEAD && route->action != FAR_ROUTE_SKIP_ENTRY && route->action != FAR_ROUTE_METRICS;
}

int far_api_check_witness(struct far_api_request *request, struct far_log_view *view, struct far_error *err)
{
    struct far_api *api = request->api;
    struct far_log_status status;
    struct voters voters;
    bool is = false;
    if (!far_api_is_for_users(request->route)) {
        return 0;
    }
    if (api->server_id == 0) {
        struct far_log_glance glance;
        api->hooks.glance(api->arg, &glance);
        api->server_id = glance.server_id;
    }
    int rc = is_witness(&view->state, api->server_id, &request->arena, &is, err);
    if (rc != 0 || !is) {
        return rc;
    }
    api->hooks.status(api->arg, &status);
    rc = count_others(&view->state, &status, api->server_id, &request->arena, &voters, err);
    return rc != 0 || !voters.has_up
               ? rc
               : far_fail(err, FAR_NOT_LEADER, "this server is a witness: it votes and keeps the log, and serves no users; "
                          "ask one of %s", voters.ask);
}

/* ---- commands that would leave only witnesses ---- */

static bool is_site_of_witness(struct far_state *state, struct far_slice name, struct far_arena *arena)
{
    struct far_row_site site = {.role = 0};
    struct far_key key = far_key(&far_schema_row_site);
    uint64_t id = 0;
    int rc = far_query_id(state, &far_schema_row_site, name, &id, NULL);
    far_key_u64(&key, id);
    rc = rc != 0 ? rc : far_state_get(state, &far_schema_row_site, &key, arena, &site, NULL);
    return rc == 0 && site.role == FAR_site_role_witness;
}

/* The server is asked to cease serving users; is_leaving: to leave the cluster. */
static int check_others(struct far_api_request *request, struct far_log_view *view, struct far_slice name, bool is_leaving,
                        struct far_error *err)
{
    struct far_row_server row;
    struct far_log_status status;
    struct voters voters;
    uint64_t id = 0;
    bool witnesses = false;
    struct far_key key = far_key(&far_schema_row_server);
    int rc = far_query_id(&view->state, &far_schema_row_server, name, &id, err);
    far_key_u64(&key, id);
    rc = rc != 0 ? rc : far_state_get(&view->state, &far_schema_row_server, &key, &request->arena, &row, err);
    rc = rc != 0 ? rc : is_witness(&view->state, id, &request->arena, &witnesses, err);
    if (rc != 0 || witnesses || row.role != FAR_server_role_voter) {
        return rc == FAR_NOT_FOUND ? 0 : rc; /* the core says so better */
    }
    request->api->hooks.status(request->api->arg, &status);
    rc = count_others(&view->state, &status, id, &request->arena, &voters, err);
    bool is_last = voters.count == 0 && is_leaving; /* the core refuses it */
    bool is_gone = is_leaving && !is_up(&status, id);
    return rc != 0 || voters.for_users > 0 || is_last || is_gone
               ? rc
               : far_fail(err, FAR_CONFLICT, "server '%.*s' is the last voter that is no witness: users would have no server to ask; "
                          "let another one join at a site that is no witness first", (int)name.len, (const char *)name.data);
}

int far_api_check_users_served(struct far_api_request *request, const void *command, struct far_error *err)
{
    const struct far_schema *schema = request->route->schema;
    const struct far_cmd_server_role_set *role = command;
    const struct far_cmd_server_site_set *site = command;
    bool is_leaving = schema == &far_schema_cmd_server_role_set && role->role == FAR_server_role_removed;
    bool is_moving = schema == &far_schema_cmd_server_site_set;
    struct far_log_view view;
    if ((!is_leaving && !is_moving) || request->query.at.kind != FAR_MOMENT_NOW) {
        return 0;
    }
    int rc = request->api->hooks.view_begin(request->api->arg, &view, err);
    if (rc == 0) {
        if (is_leaving || is_site_of_witness(&view.state, site->site, &request->arena)) {
            rc = check_others(request, &view, is_leaving ? role->name : site->name, is_leaving, err);
        }
        request->api->hooks.view_end(request->api->arg, &view);
    }
    return rc;
}
