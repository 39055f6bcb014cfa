/* What operators see of the work as it goes: figures of transfers and jobs, how a plan stands with its RPO and why it is late, and the
 * plan's newest cycles. The numbers come from fsm/query.h; here they become JSON. */
#include "api/request.h"

#include "fsm/query.h"
#include "fsm/task.h"

enum { HISTORY_JOBS_MAX = 1000 /* more than are kept of a plan */ };

/* The name of an object; null: it is gone, or there is none. */
static int name_to_json(struct far_state *state, const struct far_schema *table, uint64_t id, struct far_arena *arena, json_t **ret_name,
                        struct far_error *err)
{
    struct far_key key = far_key(table);
    far_key_u64(&key, id);
    *ret_name = json_null();
    if (id == 0) {
        return 0;
    }
    int rc;
    if (table == &far_schema_row_node) {
        struct far_row_node row;
        rc = far_state_get(state, table, &key, arena, &row, err);
        *ret_name = rc == 0 ? far_json_text(row.name) : *ret_name;
    } else {
        struct far_row_workload row;
        rc = far_state_get(state, table, &key, arena, &row, err);
        *ret_name = rc == 0 ? far_json_text(row.name) : *ret_name;
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* left_ms: NULL if it is not known. */
static void add_pace(json_t *figures, uint64_t bytes_per_s, uint64_t sent_per_s, uint64_t left_bytes, const uint64_t *left_ms)
{
    json_object_set_new(figures, "bytes_per_s", far_json_u64(bytes_per_s));
    json_object_set_new(figures, "bytes_sent_per_s", far_json_u64(sent_per_s));
    json_object_set_new(figures, "bytes_left", far_json_u64(left_bytes));
    json_object_set_new(figures, "left_for_ms", left_ms != NULL ? far_json_u64(*left_ms) : json_null());
}

static void add_saved(json_t *json, const struct far_saved *saved)
{
    json_object_set_new(json, "bytes_saved", far_json_u64(saved->bytes));
    json_object_set_new(json, "bytes_unchanged", far_json_u64(saved->unchanged));
    json_object_set_new(json, "bytes_encoded_away", far_json_u64(saved->encoding));
}

static json_t *bottleneck_to_json(uint64_t bottleneck)
{
    return bottleneck == 0 ? json_null() : json_string(far_enum_name(&far_enum_bottleneck, bottleneck));
}

/* ---- tasks and jobs ---- */

int far_api_task_figures(struct far_state *state, const struct far_row_task *task, struct far_arena *arena, json_t *json,
                         struct far_error *err)
{
    struct far_task_figures f;
    struct far_row_disk disk;
    struct far_key key = far_key(&far_schema_row_disk);
    json_t *node = NULL, *figures;
    bool is_of_disk = task->kind == FAR_task_kind_send || task->kind == FAR_task_kind_receive;
    far_key_u64(&key, task->workload_id);
    far_key_u32(&key, (uint32_t)task->disk_index);
    int rc = is_of_disk ? far_state_get(state, &far_schema_row_disk, &key, arena, &disk, err) : FAR_NOT_FOUND;
    if (is_of_disk) {
        json_object_set_new(json, "disk", rc == 0 ? far_json_text(disk.name) : json_string(""));
    }
    rc = rc == FAR_NOT_FOUND ? 0 : rc;
    rc = rc != 0 ? rc : far_query_figures(state, task, arena, &f, err);
    rc = rc != 0 ? rc : name_to_json(state, &far_schema_row_node, f.bottleneck_node_id, arena, &node, err);
    if (rc != 0 || !f.is_known) {
        json_decref(node);
        json_object_set_new(json, "figures", json_null());
        return rc;
    }
    figures = json_pack("{s:o, s:o, s:o, s:o}", "bytes_read", far_json_u64(f.bytes_read), "bytes_zero", far_json_u64(f.bytes_zero),
                        "bytes_known", far_json_u64(f.bytes_known), "bytes_wanted", far_json_u64(f.bytes_wanted));
    add_saved(figures, &f.saved);
    json_object_set_new(figures, "window_bytes", far_json_u64(f.window_bytes));
    json_object_set_new(figures, "streams", far_json_u64(f.streams));
    json_object_set_new(figures, "bottleneck", bottleneck_to_json(f.bottleneck));
    json_object_set_new(figures, "bottleneck_node", node);
    add_pace(figures, f.bytes_per_s, f.sent_bytes_per_s, f.left_bytes, f.has_left_ms ? &f.left_ms : NULL);
    json_object_set_new(json, "figures", figures);
    return 0;
}

/* Millionths of what was looked at that did not have to be sent. */
static uint64_t reduction(uint64_t looked_at, uint64_t saved)
{
    return looked_at == 0 ? 0 : saved < UINT64_MAX / 1000000 ? saved * 1000000 / looked_at : saved / (looked_at / 1000000);
}

int far_api_job_figures(struct far_state *state, const struct far_row_job *job, struct far_arena *arena, json_t *json,
                        struct far_error *err)
{
    struct far_job_figures f;
    json_t *node = NULL, *figures;
    if (job->kind != FAR_job_kind_replicate) {
        json_object_set_new(json, "figures", json_null());
        return 0;
    }
    int rc = far_query_job_figures(state, job, &f, err);
    rc = rc != 0 ? rc : name_to_json(state, &far_schema_row_node, f.bottleneck_node_id, arena, &node, err);
    if (rc != 0) {
        return rc;
    }
    figures = json_pack("{s:o, s:o, s:o, s:o}", "bytes_read", far_json_u64(f.bytes_read), "bytes_zero", far_json_u64(f.bytes_zero),
                        "bytes_known", far_json_u64(f.bytes_known), "bytes_wanted", far_json_u64(f.bytes_wanted));
    add_saved(figures, &f.saved);
    json_object_set_new(figures, "reduction_ppm", far_json_u64(reduction(job->bytes_done, f.saved.bytes)));
    json_object_set_new(figures, "bottleneck", bottleneck_to_json(f.bottleneck));
    json_object_set_new(figures, "bottleneck_node", node);
    json_object_set_new(figures, "bottleneck_task", far_json_u64(f.slowest_task));
    add_pace(figures, f.bytes_per_s, f.sent_bytes_per_s, f.left_bytes, f.has_left_ms ? &f.left_ms : NULL);
    json_object_set_new(json, "figures", figures);
    return 0;
}

/* ---- plans ---- */

static int reason_to_json(struct far_state *state, const struct far_rpo_reason *reason, struct far_arena *arena, json_t **ret_json,
                          struct far_error *err)
{
    json_t *node = NULL, *workload = NULL;
    int rc = name_to_json(state, &far_schema_row_node, reason->node_id, arena, &node, err);
    rc = rc != 0 ? rc : name_to_json(state, &far_schema_row_workload, reason->workload_id, arena, &workload, err);
    *ret_json = rc != 0 ? NULL
                        : json_pack("{s:s, s:o, s:o, s:o, s:o}", "code", reason->code, "text",
                                    far_json_text(far_slice_str(reason->text)), "node", node, "workload", workload, "task",
                                    reason->task == 0 ? json_null() : far_json_u64(reason->task));
    return rc;
}

/* Positive: so much is left of the promise; negative: it is late by so much. */
static json_t *slack_to_json(const struct far_rpo *rpo)
{
    json_int_t slack_ms = (json_int_t)(rpo->promised_s * 1000) - (json_int_t)rpo->age_ms;
    return rpo->due_ms == 0 ? json_null() : json_integer(slack_ms / 1000);
}

static json_t *time_to_json(uint64_t time_ms)
{
    return time_ms == 0 ? json_null() : far_json_u64(time_ms);
}

int far_api_plan_rpo(struct far_state *state, uint64_t plan_id, uint64_t now_ms, struct far_arena *arena, json_t *json,
                     struct far_error *err)
{
    struct far_rpo *rpo = far_arena_alloc(arena, sizeof *rpo);
    json_t *reasons = json_array(), *workload = NULL;
    int rc = rpo == NULL ? far_fail(err, FAR_LIMIT, "no memory for the answer") : far_query_rpo(state, plan_id, now_ms, rpo, err);
    for (size_t i = 0; rc == 0 && i < rpo->reason_count; i++) {
        json_t *reason = NULL;
        rc = reason_to_json(state, &rpo->reasons[i], arena, &reason, err);
        json_array_append_new(reasons, reason);
    }
    rc = rc != 0 ? rc : name_to_json(state, &far_schema_row_workload, rpo->workload_id, arena, &workload, err);
    if (rc != 0) {
        json_decref(reasons);
        return rc;
    }
    json_t *answer = json_pack("{s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o}", "promised_s", far_json_u64(rpo->promised_s), "newest_ms",
                               time_to_json(rpo->newest_ms), "workload", workload, "age_s",
                               rpo->newest_ms == 0 ? json_null() : far_json_u64(rpo->age_ms / 1000), "slack_s", slack_to_json(rpo),
                               "late", rpo->is_late, "expected_ms", time_to_json(rpo->expected_ms), "reasons", reasons);
    json_object_set_new(json, "rpo", answer);
    return 0;
}

/* ---- history ---- */

/* The jobs of the plan, oldest first. */
static int list_jobs(struct far_state *state, uint64_t plan_id, struct far_arena *arena, uint64_t *ids, size_t *ret_count,
                     struct far_error *err)
{
    struct far_key key = far_key(&far_schema_row_plan_job);
    struct far_row_plan_job row;
    int rc = 0;
    far_key_u64(&key, plan_id);
    *ret_count = 0;
    while (*ret_count < HISTORY_JOBS_MAX &&
           (rc = far_state_next(state, &far_schema_row_plan_job, &key, arena, NULL, &row, err)) == 0 && row.plan_id == plan_id) {
        ids[(*ret_count)++] = row.job_id;
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int cycle_to_json(struct far_state *state, const struct far_row_job *job, uint64_t now_ms, struct far_arena *arena, json_t **ret,
                         struct far_error *err)
{
    uint64_t end_ms = job->finished_ms != 0 ? job->finished_ms : now_ms;
    json_t *json = json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id", far_json_u64(job->id), "state",
                             far_enum_name(&far_enum_job_state, job->state), "started_ms", far_json_u64(job->started_ms), "finished_ms",
                             time_to_json(job->finished_ms), "duration_ms",
                             far_json_u64(end_ms > job->started_ms ? end_ms - job->started_ms : 0), "bytes_total",
                             far_json_u64(job->bytes_total), "bytes_changed", far_json_u64(job->bytes_changed), "bytes_sent",
                             far_json_u64(job->bytes_sent), "rpo_reached_s",
                             job->rpo_ms == 0 ? json_null() : far_json_u64((job->rpo_ms + 999) / 1000), "error_message",
                             far_json_text(job->error_message));
    int rc = far_api_job_figures(state, job, arena, json, err);
    if (rc != 0) {
        json_decref(json);
        return rc;
    }
    *ret = json;
    return 0;
}

/* Newest first: the cycles that began before the cursor. */
static int history(struct far_api_request *request, struct far_state *state, uint64_t now_ms, json_t *items, uint64_t *ret_cursor,
                   struct far_error *err)
{
    const struct far_query *query = &request->query;
    uint64_t *ids = far_arena_alloc(&request->arena, HISTORY_JOBS_MAX * sizeof *ids), plan_id = 0;
    size_t count = 0;
    int rc = ids == NULL ? far_fail(err, FAR_LIMIT, "no memory for the answer")
                         : far_query_id(state, &far_schema_row_plan, far_slice_str(request->param), &plan_id, err);
    rc = rc != 0 ? rc : list_jobs(state, plan_id, &request->arena, ids, &count, err);
    *ret_cursor = 0;
    while (rc == 0 && count-- > 0) {
        struct far_row_job job;
        struct far_key key = far_key(&far_schema_row_job);
        json_t *item = NULL;
        far_key_u64(&key, ids[count]);
        rc = far_state_get(state, &far_schema_row_job, &key, &request->arena, &job, err);
        if (rc != 0 || job.kind != FAR_job_kind_replicate || (query->cursor != 0 && job.id >= query->cursor)) {
            continue;
        }
        if (json_array_size(items) == query->limit) {
            return 0; /* there are older ones behind the cursor */
        }
        rc = cycle_to_json(state, &job, now_ms, &request->arena, &item, err);
        json_array_append_new(items, item);
        *ret_cursor = job.id;
    }
    *ret_cursor = 0;
    return rc;
}

static int compute(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct far_log_view view;
    json_t *items = json_array();
    uint64_t cursor = 0, now_ms = 0;
    int rc = far_api_view(request, &view, err);
    if (rc == 0) {
        rc = far_api_stamp(request, &view, &now_ms, err);
        rc = rc != 0 ? rc : history(request, &view.state, now_ms, items, &cursor, err);
        far_api_view_end(request, &view);
    }
    if (rc != 0) {
        json_decref(items);
        return rc;
    }
    *ret_answer = json_pack("{s:o, s:o}", "items", items, "cursor", cursor == 0 ? json_null() : far_json_u64(cursor));
    return 0;
}

void far_api_plan_history(struct far_api_request *request)
{
    far_api_compute(request, 200, compute);
}
