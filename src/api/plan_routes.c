/* Whole plans: one as it would be written down, and one that is made so; and how workloads are brought up, as it is shown.
 *
 * What is set here may name time zones: throttle_routes.c has the server read their rules first where the state has none. */
#include "api/request.h"

#include "fsm/query.h"

/* ---- a plan as it would be written down ---- */

static int spec_of(struct far_api_request *request, struct far_log_view *view, json_t **ret_answer, struct far_error *err)
{
    struct far_state *state = &view->state;
    struct far_cmd_plan_apply spec;
    struct far_row_plan plan;
    struct far_key key = far_key(&far_schema_row_plan);
    uint64_t id = 0;
    int rc = far_query_id(state, &far_schema_row_plan, far_slice_str(request->param), &id, err);
    if (rc == 0) {
        far_key_u64(&key, id);
        rc = far_state_get(state, &far_schema_row_plan, &key, &request->arena, &plan, err);
    }
    rc = rc == 0 ? far_query_plan(state, &plan, &request->arena, &spec, err) : rc;
    if (rc == 0) {
        snprintf(request->etag, sizeof request->etag, "\"%llu\"", (unsigned long long)spec.revision);
        spec.revision = 0; /* a file that is kept has none: it is in the ETag */
        *ret_answer = far_json_brief(&far_schema_cmd_plan_apply, &spec);
    }
    return rc;
}

static int compute_spec(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct far_log_view view;
    int rc = far_api_view(request, &view, err);
    if (rc == 0) {
        rc = spec_of(request, &view, ret_answer, err);
        far_api_view_end(request, &view);
    }
    return rc;
}

void far_api_plan_spec(struct far_api_request *request)
{
    far_api_compute(request, 200, compute_spec);
}

/* ---- what is set ---- */

/* The revision that the plan must have: If-Match, or the field for who cannot send headers. */
static int condition(struct far_api_request *request, const json_t *body, struct far_cmd_plan_apply *apply, struct far_error *err)
{
    const char *header = far_http_exchange_request(request->exchange)->if_match;
    bool has_field = json_object_get(body, "revision") != NULL, is_any = true;
    uint64_t stated = apply->revision;
    int rc = header[0] != '\0' ? far_if_match_parse(header, &is_any, &stated, err) : 0;
    if (rc == 0 && has_field && !is_any && stated != apply->revision) {
        return far_fail(err, FAR_INVALID, "the header If-Match and the field 'revision' name different revisions");
    }
    apply->revision = stated;
    apply->conditional = has_field || !is_any;
    return rc;
}

static int apply(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    struct far_cmd_plan_apply *plan = far_arena_alloc(&request->arena, sizeof *plan);
    const json_t *name = json_object_get(body, "name");
    if (json_is_string(name) && strcmp(json_string_value(name), request->param) != 0) {
        return far_fail(err, FAR_INVALID, "field 'name' is '%.63s': it must be '%s', as the path says, or left out",
                        json_string_value(name), request->param);
    }
    int rc = far_api_prepare(request, body, plan, err);
    if (rc != 0) {
        return rc;
    }
    const struct far_sub_schedule *schedule = plan->schedule.items;
    const struct far_sub_keep *keep = plan->retention.items;
    const struct far_sub_bandwidth *throttle = plan->throttle.items;
    far_api_names_zone(request, "schedule.zone", plan->schedule.count > 0 ? schedule->zone : far_slice(NULL, 0));
    far_api_names_zone(request, "retention.zone", plan->retention.count > 0 ? keep->zone : far_slice(NULL, 0));
    far_api_names_zone(request, "throttle.zone", plan->throttle.count > 0 ? throttle->zone : far_slice(NULL, 0));
    rc = condition(request, body, plan, err);
    return rc != 0 ? rc : far_api_propose_with_zones(request, err);
}

void far_api_plan_apply(struct far_api_request *request)
{
    far_api_with_body(request, apply);
}

static int set_schedule(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    struct far_cmd_plan_schedule_set *set = far_arena_alloc(&request->arena, sizeof *set);
    int rc = far_api_prepare(request, body, set, err);
    if (rc == 0 && set->schedule.count > 0) {
        far_api_names_zone(request, "schedule.zone", ((const struct far_sub_schedule *)set->schedule.items)->zone);
    }
    return rc != 0 ? rc : far_api_propose_with_zones(request, err);
}

void far_api_schedule_set(struct far_api_request *request)
{
    far_api_with_body(request, set_schedule);
}

/* ---- as it is shown ---- */

static uint64_t version_of(const struct far_schema *table, const void *row)
{
    return table == &far_schema_row_plan_workload ? ((const struct far_row_plan_workload *)row)->recovery_id
           : table == &far_schema_row_point       ? ((const struct far_row_point *)row)->recovery_id
           : table == &far_schema_row_plan        ? ((const struct far_row_plan *)row)->networks_id
           : table == &far_schema_row_checkpoint  ? ((const struct far_row_checkpoint *)row)->networks_id
                                                  : 0;
}

static json_t *networks_to_json(const struct far_list *networks)
{
    json_t *list = json_array();
    for (size_t i = 0; i < networks->count; i++) {
        json_array_append_new(list, far_json_brief(&far_schema_sub_network_map, (const struct far_sub_network_map *)networks->items + i));
    }
    return list;
}

int far_api_add_recovery(struct far_state *state, const struct far_schema *table, const void *row, struct far_arena *arena, json_t *json,
                         struct far_error *err)
{
    struct far_row_recovery version = {.id = 0};
    struct far_key key = far_key(&far_schema_row_recovery);
    bool is_plan = table == &far_schema_row_plan || table == &far_schema_row_checkpoint;
    if (!is_plan && table != &far_schema_row_plan_workload && table != &far_schema_row_point) {
        return 0;
    }
    far_key_u64(&key, version_of(table, row));
    int rc = far_state_get(state, &far_schema_row_recovery, &key, arena, &version, err);
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    if (is_plan) {
        json_object_set_new(json, "networks", networks_to_json(&version.networks));
    } else {
        json_object_set_new(json, "recovery",
                            version.config.count > 0 ? far_json_brief(&far_schema_sub_recovery, version.config.items) : json_null());
    }
    return 0;
}
