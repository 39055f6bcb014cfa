/* A witness votes and stores the log, and serves no users (DESIGN.md section 1): whoever asks it for more than how it and the
 * cluster are is sent to another server. */
#include "api/request.h"

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

/* The addresses of the others. */
static int others(struct far_state *state, uint64_t server_id, struct far_arena *arena, char ask[ASK_MAX],
                  struct far_error *err)
{
    struct far_row_server row;
    struct far_key key = far_key(&far_schema_row_server);
    size_t len = 0;
    int rc;
    ask[0] = '\0';
    while ((rc = far_state_next(state, &far_schema_row_server, &key, arena, NULL, &row, err)) == 0) {
        if (row.id != server_id && row.role != FAR_server_role_removed && len + row.api_address.len + 3 < ASK_MAX) {
            len += (size_t)snprintf(ask + len, ASK_MAX - len, "%s%.*s", len == 0 ? "" : ", ", (int)row.api_address.len,
                                    (const char *)row.api_address.data);
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

bool far_api_is_for_users(const struct far_route *route)
{
    return route->action > FAR_ROUTE_LOG_HEAD && route->action != FAR_ROUTE_SKIP_ENTRY;
}

int far_api_check_witness(struct far_api_request *request, struct far_log_view *view, struct far_error *err)
{
    struct far_api *api = request->api;
    char ask[ASK_MAX];
    bool is = false;
    if (!far_api_is_for_users(request->route)) {
        return 0;
    }
    if (api->server_id == 0) {
        struct far_log_status status;
        api->hooks.status(api->arg, &status);
        api->server_id = status.server_id;
    }
    int rc = is_witness(&view->state, api->server_id, &request->arena, &is, err);
    if (rc != 0 || !is) {
        return rc;
    }
    rc = others(&view->state, api->server_id, &request->arena, ask, err);
    return rc != 0 ? rc
                   : far_fail(err, FAR_NOT_LEADER, "this server is a witness: it votes and keeps the log, and serves no users; "
                              "ask one of %s", ask);
}
