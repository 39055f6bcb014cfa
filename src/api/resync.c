/* GET /v1/plans/{name}/resync: what a resync would read and about how long it takes, before anybody starts it. */
#include "api/request.h"

#include "fsm/query.h"

static json_t *part_to_json(const struct far_resync_part *part)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "workload", far_json_text(part->workload), "disk", far_json_text(part->disk),
                     "disk_count", far_json_u64(part->disk_count), "bytes", far_json_u64(part->bytes), "bytes_per_s",
                     far_json_u64(part->bytes_per_s), "duration_ms", far_json_u64(part->duration_ms), "measured", part->is_measured);
}

static json_t *to_json(const char *plan, const struct far_resync_estimate *estimate)
{
    json_t *parts = json_array();
    for (size_t i = 0; i < estimate->part_count; i++) {
        json_array_append_new(parts, part_to_json(&estimate->parts[i]));
    }
    return json_pack("{s:s, s:o, s:o, s:o, s:b, s:o}", "plan", plan, "disk_count", far_json_u64(estimate->disk_count), "bytes",
                     far_json_u64(estimate->bytes), "duration_ms", far_json_u64(estimate->duration_ms), "measured",
                     estimate->is_measured, "parts", parts);
}

static int estimate(struct far_api_request *request, struct far_state *state, json_t **ret_answer, struct far_error *err)
{
    const struct far_query *query = &request->query;
    struct far_resync_wish wish = {.disk = query->disk};
    struct far_resync_estimate found;
    int rc = query->disk.len > 0 && query->workload.len == 0
                 ? far_fail(err, FAR_INVALID, "argument 'disk' needs 'workload': name the workload whose disk is meant")
                 : 0;
    rc = rc != 0 ? rc : far_query_id(state, &far_schema_row_plan, far_slice_str(request->param), &wish.plan_id, err);
    if (rc == 0 && query->workload.len > 0) {
        rc = far_query_id(state, &far_schema_row_workload, query->workload, &wish.workload_id, err);
    }
    rc = rc != 0 ? rc : far_query_resync(state, &wish, &request->arena, &found, err);
    if (rc == 0) {
        *ret_answer = to_json(request->param, &found);
    }
    return rc;
}

static int compute(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct far_log_view view;
    int rc = far_api_view(request, &view, err);
    if (rc == 0) {
        rc = estimate(request, &view.state, ret_answer, err);
        far_api_view_end(request, &view);
    }
    return rc;
}

void far_api_resync(struct far_api_request *request)
{
    far_api_compute(request, 200, compute);
}
