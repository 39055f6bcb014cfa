/* Bandwidth limits, the retention of plans, time zones: what is set here needs the rules of a zone in the state (fsm/zone.c), and they
 * come from this machine.
 *
 * A limit that names a zone which the state does not have, or whose rules end within ten years, is two commands: zone_set, whose result
 * matters only if it is refused, then the limit itself, which alone carries the request's id. A dry run decides both on one overlay. */
#include "api/request.h"
#include "api/tzif.h"

#include "fsm/query.h"

#define TEN_YEARS_S (10ull * 365 * 86400)

int far_api_needs_zone(struct far_api_request *request, struct far_state *state, uint64_t now_ms, bool *ret_needs, struct far_error *err)
{
    struct far_row_zone row = {.id = 0};
    uint64_t id = 0;
    int rc = far_query_id(state, &far_schema_row_zone, request->zone, &id, err);
    if (rc == 0) {
        struct far_key key = far_key(&far_schema_row_zone);
        far_key_u64(&key, id);
        rc = far_state_get(state, &far_schema_row_zone, &key, &request->arena, &row, err);
    }
    *ret_needs = rc == FAR_NOT_FOUND || (rc == 0 && row.until_s < now_ms / 1000 + TEN_YEARS_S);
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int look_now(struct far_api_request *request, uint64_t now_ms, bool *ret_needs, struct far_error *err)
{
    struct far_log_view view;
    int rc = request->api->hooks.view_begin_now(request->api->arg, &view, err);
    if (rc == 0) {
        rc = far_api_needs_zone(request, &view.state, now_ms, ret_needs, err);
        far_api_view_end(request, &view);
    }
    return rc;
}

/* The command that puts the zone's rules into the state, in the request's arena. */
static int make_zone_set(struct far_api_request *request, struct far_slice name, uint64_t now_ms, struct far_cmd_zone_set *ret_command,
                         struct far_error *err)
{
    struct far_sub_zone_change *changes = far_arena_alloc(&request->arena, FAR_ZONE_CHANGES_MAX * sizeof *changes);
    return changes == NULL ? far_fail(err, FAR_LIMIT, "no memory for the request") : far_tzif_load(name, now_ms, changes, ret_command, err);
}

static int encode_before(struct far_api_request *request, const struct far_cmd_zone_set *zone, struct far_error *err)
{
    struct far_buf payload;
    far_buf_init(&payload, FAR_COMMAND_PAYLOAD_MAX);
    int rc = far_schema_encode(&far_schema_cmd_zone_set, zone, &payload, err);
    uint8_t *copy = rc == 0 ? far_arena_alloc(&request->arena, payload.len) : NULL;
    if (rc == 0 && copy == NULL) {
        rc = far_fail(err, FAR_LIMIT, "no memory for the request");
    }
    if (rc == 0) {
        memcpy(copy, payload.data, payload.len);
        request->before = (struct far_command){.kind = far_schema_cmd_zone_set.kind,
                                               .version = far_schema_cmd_zone_set.version,
                                               .actor = far_actor(FAR_ACTOR_TOKEN, request->token_id),
                                               .payload = far_slice(copy, payload.len)};
    }
    far_buf_done(&payload);
    return rc;
}

static void zone_is_set(struct far_api_request *request)
{
    struct far_error err = {0};
    int rc = request->result.klass != 0 ? far_fail(&err, request->result.klass, "%s", request->result.message)
                                        : far_api_propose(request, request->prepared, &err);
    if (rc != 0) {
        far_api_problem(request, 0, &err);
    }
}

/* Propose the zone, and behind it what is prepared. */
static int propose_both(struct far_api_request *request, struct far_error *err)
{
    int rc = far_api_expect(request, zone_is_set, err);
    if (rc == 0) {
        request->api->hooks.propose(request->api->arg, &request->before, FAR_API_TIMEOUT_MS, far_api_done, request);
    }
    return rc;
}

/* set: of the route's schema; NULL: there was no memory. */
static int read_body(struct far_api_request *request, const json_t *body, void *set, struct far_error *err)
{
    const struct far_route *route = request->route;
    int rc = set == NULL ? far_fail(err, FAR_LIMIT, "no memory for the request")
                         : far_json_to_struct(route->schema, body, &route->rule, &request->arena, set, err);
    request->prepared = set;
    return rc != 0 ? rc : far_api_fill_from_route(request, set, err);
}

/* Propose what is prepared, and before it the rules of its zone where they are new. */
static int propose_with_zone(struct far_api_request *request, struct far_error *err)
{
    struct far_cmd_zone_set zone;
    uint64_t now_ms = request->api->hooks.now_ms(request->api->arg);
    bool needs = false, is_dry = request->query.dry_run, has_zone = request->zone.len > 0;
    int rc = has_zone ? look_now(request, now_ms, &needs, err) : 0;
    if (rc == 0 && has_zone && (needs || is_dry)) {
        rc = make_zone_set(request, request->zone, now_ms, &zone, err);
        rc = rc != 0 ? rc : encode_before(request, &zone, err);
        rc = needs ? rc : 0; /* it is there now: what a dry run of the past may need is no reason to fail */
    }
    return rc != 0 ? rc : needs && !is_dry ? propose_both(request, err) : far_api_propose(request, request->prepared, err);
}

static int set_throttle(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    struct far_cmd_throttle_set *set = far_arena_alloc(&request->arena, sizeof *set);
    int rc = read_body(request, body, set, err);
    request->zone = rc == 0 && set->windows.count > 0 ? set->zone : far_slice(NULL, 0);
    return rc != 0 ? rc : propose_with_zone(request, err);
}

static int set_retention(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    struct far_cmd_plan_retention_set *set = far_arena_alloc(&request->arena, sizeof *set);
    int rc = read_body(request, body, set, err);
    request->zone = rc == 0 ? set->zone : far_slice(NULL, 0);
    return rc != 0 ? rc : propose_with_zone(request, err);
}

void far_api_retention_set(struct far_api_request *request)
{
    far_api_with_body(request, set_retention);
}

void far_api_throttle_set(struct far_api_request *request)
{
    far_api_with_body(request, set_throttle);
}

static int refresh_zone(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    struct far_cmd_zone_set asked, found;
    uint64_t now_ms = request->api->hooks.now_ms(request->api->arg);
    int rc = far_json_to_struct(&far_schema_cmd_zone_set, body, &request->route->rule, &request->arena, &asked, err);
    rc = rc != 0 ? rc : make_zone_set(request, asked.name, now_ms, &found, err);
    return rc != 0 ? rc : far_api_propose(request, &found, err);
}

void far_api_zone_refresh(struct far_api_request *request)
{
    far_api_with_body(request, refresh_zone);
}
