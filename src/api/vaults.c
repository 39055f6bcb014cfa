/* Vaults and what is kept in them: the retention of a plan and what it makes of its checkpoints, how vaults are looked after, what they
 * hold of each plan, when they are full. The numbers come from fsm/query.h; here they become JSON. */
#include "api/request.h"

#include "fsm/query.h"
#include "fsm/vault_row.h"

enum { VAULTS_MAX = 1000 /* shown with a plan */ };

/* ---- the retention of a plan ---- */

static json_t *reasons_to_json(unsigned stays)
{
    json_t *reasons = json_array();
    for (size_t bit = 0; far_retention_reason(bit) != NULL; bit++) {
        if ((stays >> bit & 1) != 0) {
            json_array_append_new(reasons, json_string(far_retention_reason(bit)));
        }
    }
    return reasons;
}

static json_t *item_to_json(const struct far_retention_item *item, bool keeps_all)
{
    return json_pack("{s:o, s:o, s:o, s:b, s:o}", "checkpoint_id", far_json_u64(item->checkpoint_id), "created_ms",
                     far_json_u64(item->created_ms), "locked_until_ms", far_json_u64(item->locked_until_ms), "goes",
                     item->stays == 0 && !keeps_all, "kept_by", reasons_to_json(item->stays));
}

static json_t *retention_to_json(const struct far_retention *retention)
{
    json_t *items = json_array(), *answer = json_object();
    bool keeps_all = true;
    for (unsigned i = 0; i < FAR_KEEP_RULES; i++) {
        json_object_set_new(answer, far_keep_name(i), far_json_u64(retention->counts[i]));
        keeps_all = keeps_all && retention->counts[i] == 0;
    }
    for (size_t i = 0; i < retention->item_count; i++) {
        json_array_append_new(items, item_to_json(&retention->items[i], keeps_all));
    }
    json_object_set_new(answer, "kept", far_json_u64(retention->kept));
    json_object_set_new(answer, "going", far_json_u64(retention->going));
    json_object_set_new(answer, "items", items);
    uint64_t cursor = retention->more ? retention->items[retention->item_count - 1].checkpoint_id : 0;
    json_object_set_new(answer, "cursor", cursor == 0 ? json_null() : far_json_u64(cursor));
    return answer;
}

static int retention_in(struct far_api_request *request, struct far_log_view *view, json_t **ret_answer, struct far_error *err)
{
    const struct far_query *query = &request->query;
    struct far_retention_wish wish = {.is_trial = query->has_keep,
                                      .counts = {query->last, query->hourly, query->daily, query->weekly, query->monthly},
                                      .behind_id = query->cursor,
                                      .max = query->limit};
    struct far_retention found;
    struct far_row_zone zone = {.name = {0}};
    uint64_t now_ms = 0;
    int rc = far_query_id(&view->state, &far_schema_row_plan, far_slice_str(request->param), &wish.plan_id, err);
    rc = rc != 0 ? rc : far_api_stamp(request, view, &now_ms, err);
    rc = rc != 0 ? rc : far_query_retention(&view->state, &wish, now_ms, &request->arena, &found, err);
    if (rc == 0 && found.zone_id != 0) {
        struct far_key key = far_key(&far_schema_row_zone);
        far_key_u64(&key, found.zone_id);
        rc = far_state_get(&view->state, &far_schema_row_zone, &key, &request->arena, &zone, err);
    }
    if (rc == 0) {
        *ret_answer = retention_to_json(&found);
        json_object_set_new(*ret_answer, "plan", json_string(request->param));
        json_object_set_new(*ret_answer, "zone", far_json_text(zone.name));
        json_object_set_new(*ret_answer, "trial", json_boolean(query->has_keep));
    }
    return rc;
}

static int compute_retention(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct far_log_view view;
    int rc = far_api_view(request, &view, err);
    if (rc == 0) {
        rc = retention_in(request, &view, ret_answer, err);
        far_api_view_end(request, &view);
    }
    return rc;
}

void far_api_plan_retention(struct far_api_request *request)
{
    far_api_compute(request, 200, compute_retention);
}

/* ---- what vaults hold ---- */

static int name_of(struct far_state *state, uint64_t node_id, struct far_arena *arena, json_t **ret_name, struct far_error *err)
{
    struct far_row_node node = {.name = {0}};
    struct far_key key = far_key(&far_schema_row_node);
    far_key_u64(&key, node_id);
    int rc = far_state_get(state, &far_schema_row_node, &key, arena, &node, err);
    *ret_name = far_json_text(node.name);
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static json_t *space_to_json(const struct far_row_vault_plan *row)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "point_count", far_json_u64(row->point_count), "measured_ms",
                     far_json_u64(row->measured_ms), "logical_bytes", far_json_u64(row->logical_bytes), "points_bytes",
                     far_json_u64(row->points_bytes), "unique_bytes", far_json_u64(row->unique_bytes), "shared_bytes",
                     far_json_u64(row->shared_bytes), "estimated", row->estimated);
}

/* The vaults that hold points of a plan, with what they hold of it. */
int far_api_plan_space(struct far_state *state, uint64_t plan_id, struct far_arena *arena, json_t *json, struct far_error *err)
{
    struct far_key at = far_key(&far_schema_row_vault);
    json_t *items = json_array();
    int rc = 0;
    for (size_t i = 0; i < VAULTS_MAX && rc == 0; i++) {
        struct far_row_vault vault;
        struct far_row_vault_plan row;
        rc = far_state_next(state, &far_schema_row_vault, &at, arena, NULL, &vault, err);
        if (rc != 0) {
            break;
        }
        struct far_key key = far_key(&far_schema_row_vault_plan);
        far_key_u64(&key, vault.id);
        far_key_u64(&key, plan_id);
        rc = far_state_get(state, &far_schema_row_vault_plan, &key, arena, &row, err);
        if (rc == 0) {
            json_t *item = space_to_json(&row), *name = NULL;
            rc = name_of(state, vault.id, arena, &name, err);
            json_object_set_new(item, "node", name);
            json_array_append_new(items, item);
        }
        rc = rc == FAR_NOT_FOUND ? 0 : rc;
    }
    json_object_set_new(json, "vaults", items);
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static json_t *policy_to_json(const struct far_row_vault_policy *policy, bool is_own)
{
    return json_pack("{s:o, s:b, s:o, s:b}", "reclaim_interval_s", far_json_u64(policy->reclaim_interval_s), "reclaim_off",
                     policy->reclaim_off, "scrub_bytes_per_hour", far_json_u64(policy->scrub_bytes_per_hour), "own", is_own);
}

/* When it is full, by what it said of itself. */
static int add_forecast(struct far_state *state, const struct far_row_vault *vault, struct far_arena *arena, json_t *json,
                        struct far_error *err)
{
    struct far_row_vault_samples samples = {.items = {.count = 0}};
    struct far_forecast forecast;
    struct far_key key = far_key(&far_schema_row_vault_samples);
    far_key_u64(&key, vault->id);
    int rc = far_state_get(state, &far_schema_row_vault_samples, &key, arena, &samples, err);
    far_query_forecast(&samples.items, vault->free_bytes, &forecast);
    json_object_set_new(json, "forecast",
                        json_pack("{s:b, s:o, s:o, s:i}", "known", forecast.is_known, "bytes_per_day",
                                  far_json_u64(forecast.bytes_per_day), "full_ms", far_json_u64(forecast.full_ms), "samples",
                                  (int)samples.items.count));
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* Whose it was, and what of it is here; null: it was always this cluster's. */
static int add_adoption(struct far_state *state, uint64_t node_id, struct far_arena *arena, json_t *json, struct far_error *err)
{
    struct far_row_adoption row;
    char hex[33] = "";
    struct far_key key = far_key(&far_schema_row_adoption);
    far_key_u64(&key, node_id);
    int rc = far_state_get(state, &far_schema_row_adoption, &key, arena, &row, err);
    if (rc != 0) {
        json_object_set_new(json, "adoption", json_null());
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    if (row.cluster_uuid.len == 16) {
        far_hex_encode(row.cluster_uuid.data, 16, hex);
    }
    json_object_set_new(json, "adoption",
                        json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "cluster_uuid", hex, "base",
                                  far_json_u64(row.base), "span", far_json_u64(row.span), "job_id", far_json_u64(row.job_id), "begun_ms",
                                  far_json_u64(row.begun_ms), "ended_ms", far_json_u64(row.ended_ms), "point_count",
                                  far_json_u64(row.point_count), "points", far_json_u64(row.points), "known", far_json_u64(row.known),
                                  "damaged", far_json_u64(row.damaged), "unreadable", far_json_u64(row.unreadable), "left_out",
                                  far_json_u64(row.left_out), "problem", far_json_text(row.problem)));
    return 0;
}

int far_api_vault_figures(struct far_state *state, const struct far_row_vault *vault, struct far_arena *arena, json_t *json,
                          struct far_error *err)
{
    struct far_row_vault_policy policy;
    int rc = far_query_vault_policy(state, vault->id, &policy, err);
    if (rc == 0) {
        json_object_set_new(json, "policy", policy_to_json(&policy, policy.id == vault->id));
        rc = add_forecast(state, vault, arena, json, err);
        rc = rc == 0 ? add_adoption(state, vault->id, arena, json, err) : rc;
    }
    return rc;
}

static int compute_policy(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct far_log_view view;
    struct far_row_vault_policy policy;
    int rc = far_api_view(request, &view, err);
    if (rc == 0) {
        rc = far_query_vault_policy(&view.state, 0, &policy, err);
        far_api_view_end(request, &view);
    }
    if (rc == 0) {
        *ret_answer = policy_to_json(&policy, policy.set_ms != 0);
    }
    return rc;
}

void far_api_vault_policy(struct far_api_request *request)
{
    far_api_compute(request, 200, compute_policy);
}
