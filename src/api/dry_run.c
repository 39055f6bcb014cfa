/* Dry run: a command is decided on an overlay of a state, and what it would do is the answer.
 *
 * The same far_fsm_apply() that every server will run, on the same bytes: with the same time, what it predicts is what
 * happens, event for event, if nothing else comes between. The overlay is dropped; nothing enters the log. A rejection is
 * answered as the command itself would be. With ?at= the state and the time are those of the past. */
#include "api/event_text.h"
#include "api/request.h"

#include "fsm/kv_overlay.h"

enum { CHANGES_MAX = 10000 };

struct prediction {
    struct far_api_request *request;
    json_t *events;
};

static int predict_event(void *arg, const struct far_event *event, struct far_error *err)
{
    struct prediction *prediction = arg;
    json_t *json = far_event_as_json(event, &prediction->request->arena);
    return json_array_append_new(prediction->events, json) == 0 ? 0
                                                               : far_fail(err, FAR_LIMIT, "no memory for the events");
}

int far_api_foresee(struct far_api_request *request, struct far_state *above, uint64_t index, const struct far_command *command,
                    json_t *events, struct far_result *ret_result, struct far_error *err)
{
    struct prediction prediction = {request, events};
    int rc = far_fsm_apply(above, index, command, predict_event, &prediction, ret_result, err);
    return rc == 0 && ret_result->klass != 0 ? far_fail(err, ret_result->klass, "%s", ret_result->message) : rc;
}

static json_t *answer_of(const struct far_api_request *request, const struct far_result *result,
                         const struct far_state *after)
{
    uint8_t digest[16];
    far_put_be64(digest, after->digest.high);
    far_put_be64(digest + 8, after->digest.low);
    json_t *answer = json_pack("{s:b, s:o, s:o, s:b, s:o, s:o, s:o}", "dry_run", true, "command_id",
                               far_json_hex(request->command.id, sizeof request->command.id), "id",
                               far_json_u64(result->object_id), "repeated", result->repeated, "seq_first",
                               far_json_u64(result->seq_first), "seq_last", far_json_u64(result->seq_last), "digest",
                               far_json_hex(digest, sizeof digest));
    if (answer != NULL && result->message[0] != '\0') {
        json_object_set_new(answer, "warning", json_string(result->message));
    }
    return answer;
}

/* The time that the leader would stamp: now, or with ?at= that of the past state. */
int far_api_stamp(struct far_api_request *request, struct far_log_view *view, uint64_t *ret_ms, struct far_error *err)
{
    struct far_row_progress progress;
    struct far_key key = far_key(&far_schema_row_progress);
    if (request->query.at.kind == FAR_MOMENT_TIME) {
        *ret_ms = request->query.at.value;
        return 0;
    }
    if (request->query.at.kind == FAR_MOMENT_NOW) {
        *ret_ms = request->api->hooks.now_ms(request->api->arg);
        return 0;
    }
    int rc = far_state_get(&view->state, &far_schema_row_progress, &key, &request->arena, &progress, err);
    *ret_ms = rc == 0 ? progress.time_ms : 0;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* A server that is about to join learns which cluster it would join, in which of its lives: one that was left behind has no other
 * way to know before it gives up what it was (farshored rejoin). */
static int add_cluster(struct far_api_request *request, struct far_log_view *view, json_t *answer, struct far_error *err)
{
    struct far_row_cluster cluster;
    struct far_key key = far_key(&far_schema_row_cluster);
    int rc = far_state_get(&view->state, &far_schema_row_cluster, &key, &request->arena, &cluster, err);
    if (rc == 0) {
        json_object_set_new(answer, "cluster_uuid", far_json_hex(cluster.uuid.data, cluster.uuid.len));
        json_object_set_new(answer, "incarnation_epoch", far_json_u64(cluster.incarnation_epoch));
    }
    return rc;
}

static int decide(struct far_api_request *request, struct far_log_view *view, struct far_state *above,
                  json_t **ret_answer, struct far_error *err)
{
    struct far_result result = {0};
    json_t *answer = NULL, *changes = NULL, *events = json_array();
    bool more = false;
    int rc = far_api_stamp(request, view, &request->command.proposed_at_ms, err);
    bool needs_zone = false;
    if (rc == 0 && request->before.kind != 0) {
        request->before.proposed_at_ms = request->command.proposed_at_ms;
        rc = far_api_needs_zone(request, above, request->command.proposed_at_ms, &needs_zone, err);
    }
    if (rc == 0 && needs_zone) {
        rc = far_api_foresee(request, above, view->applied_index + 1, &request->before, events, &result, err);
    }
    uint64_t index = view->applied_index + 1 + needs_zone; /* a command of its own is an entry of its own, when nothing else comes */
    rc = rc != 0 ? rc : far_api_foresee(request, above, index, &request->command, events, &result, err);
    rc = rc != 0 ? rc : far_api_changes(view->state.kv, above->kv, CHANGES_MAX, &changes, &more, err);
    if (rc == 0) {
        answer = answer_of(request, &result, above);
        json_object_set(answer, "events", events);
        json_object_set_new(answer, "changes", changes);
        json_object_set_new(answer, "more", json_boolean(more));
        rc = request->route->action == FAR_ROUTE_JOIN ? add_cluster(request, view, answer, err) : 0;
    }
    json_decref(events);
    if (rc != 0) {
        json_decref(answer);
        return rc;
    }
    *ret_answer = answer;
    return 0;
}

static int predict(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct far_log_view view;
    int rc = far_api_view(request, &view, err);
    if (rc != 0) {
        return rc;
    }
    struct far_state above = {.kv = far_kv_overlay_new(view.state.kv), .digest = view.state.digest};
    rc = above.kv == NULL ? far_fail(err, FAR_LIMIT, "no memory for a dry run")
                          : decide(request, &view, &above, ret_answer, err);
    far_kv_overlay_free(above.kv);
    far_api_view_end(request, &view);
    return rc;
}

void far_api_dry_run(struct far_api_request *request)
{
    far_api_compute(request, 200, predict);
}
