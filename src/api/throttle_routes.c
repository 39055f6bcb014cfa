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
                                        : far_api_propose_with_zones(request, &err);
    if (rc != 0) {
        far_api_problem(request, 0, &err);
    }
}

/* Propose the zone, and behind it what is left. */
static int propose_zone(struct far_api_request *request, struct far_error *err)
{
    int rc = far_api_expect(request, zone_is_set, err);
    if (rc == 0) {
        request->api->hooks.propose(request->api->arg, &request->before, FAR_API_TIMEOUT_MS, far_api_done, request);
    }
    return rc;
}

int far_api_prepare(struct far_api_request *request, const json_t *body, void *set, struct far_error *err)
{
    const struct far_route *route = request->route;
    int rc = set == NULL ? far_fail(err, FAR_LIMIT, "no memory for the request")
                         : far_json_to_struct(route->schema, body, &route->rule, &request->arena, set, err);
    request->prepared = set;
    return rc != 0 ? rc : far_api_fill_from_route(request, set, err);
}

void far_api_names_zone(struct far_api_request *request, const char *field, struct far_slice zone)
{
    bool is_new = zone.len > 0 && request->zone_count < FAR_API_ZONES_MAX;
    for (size_t i = 0; i < request->zone_count; i++) {
        is_new = is_new && !far_slice_equal(request->zones[i], zone);
    }
    if (is_new) {
        request->zone_fields[request->zone_count] = field;
        request->zones[request->zone_count++] = zone;
    }
}

/* The next zone, if the state needs its rules: then the command is made that brings them. */
static int next_zone(struct far_api_request *request, bool *ret_needs, struct far_error *err)
{
    struct far_cmd_zone_set zone;
    uint64_t now_ms = request->api->hooks.now_ms(request->api->arg);
    const char *field = request->zone_fields[request->zone_next];
    request->zone = request->zones[request->zone_next++];
    int rc = look_now(request, now_ms, ret_needs, err);
    if (rc == 0 && (*ret_needs || request->query.dry_run)) {
        rc = make_zone_set(request, request->zone, now_ms, &zone, err);
        rc = rc != 0 ? far_error_context(err, "field '%s'", field) : encode_before(request, &zone, err);
        rc = *ret_needs ? rc : 0; /* it is there now: what a dry run of the past may need is no reason to fail */
    }
    return rc;
}

int far_api_propose_with_zones(struct far_api_request *request, struct far_error *err)
{
    bool needs = false;
    int rc = 0;
    while (rc == 0 && !needs && request->zone_next < request->zone_count) {
        rc = next_zone(request, &needs, err);
    }
    return rc != 0 ? rc : needs && !request->query.dry_run ? propose_zone(request, err) : far_api_propose(request, request->prepared, err);
}

static int set_throttle(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    struct far_cmd_throttle_set *set = far_arena_alloc(&request->arena, sizeof *set);
    int rc = far_api_prepare(request, body, set, err);
    far_api_names_zone(request, "zone", rc == 0 && set->windows.count > 0 ? set->zone : far_slice(NULL, 0));
    return rc != 0 ? rc : far_api_propose_with_zones(request, err);
}

static int set_retention(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    struct far_cmd_plan_retention_set *set = far_arena_alloc(&request->arena, sizeof *set);
    int rc = far_api_prepare(request, body, set, err);
    far_api_names_zone(request, "zone", rc == 0 ? set->zone : far_slice(NULL, 0));
    return rc != 0 ? rc : far_api_propose_with_zones(request, err);
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
