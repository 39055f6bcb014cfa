/* Skipping an entry that crashes this server (log/safe.h): for this server itself, not for the leader.
 *
 * A dry run has the log check everything that it would check, and then decides on an overlay of the state before the entry what will
 * stand in its place: that event is made by every server by itself, number for number as it is predicted. Who wanted it follows as a
 * command of this server when the cluster works again, so what comes between is not known. */
#include "api/request.h"

#include "fsm/kv_overlay.h"

#include <stdlib.h>

enum { CHANGES_MAX = 100, REASON_MAX = sizeof((struct far_log_skip *)NULL)->reason - 1 };

static bool is_refused(struct far_api_request *request)
{
    struct far_error err;
    if (request->result.klass == 0) {
        return false;
    }
    far_fail(&err, request->result.klass, "%s", request->result.message);
    far_api_problem(request, 0, &err);
    return true;
}

static void skipped(struct far_api_request *request)
{
    if (is_refused(request)) {
        return;
    }
    far_api_answer(request, request->route->status, json_pack("{s:s}", "status", "the entry will be skipped; the server starts anew"));
}

/* A number, also as text: on the command line it is one. */
static bool number_of(const json_t *value, uint64_t *ret_number)
{
    if (json_is_integer(value) && json_integer_value(value) > 0) {
        *ret_number = (uint64_t)json_integer_value(value);
        return true;
    }
    const char *text = json_string_value(value);
    char *end = NULL;
    *ret_number = text == NULL || *text < '0' || *text > '9' ? 0 : strtoull(text, &end, 10);
    return *ret_number > 0 && *end == '\0';
}

/* ---- the dry run ---- */

/* Decides the command that an object describes, and adds its events. */
static int foresee(struct far_api_request *request, struct far_state *above, uint64_t index, struct far_command *command,
                   const struct far_schema *schema, const void *object, json_t *events, struct far_error *err)
{
    struct far_result result = {0};
    struct far_buf payload;
    far_buf_init(&payload, FAR_COMMAND_PAYLOAD_MAX);
    int rc = far_schema_encode(schema, object, &payload, err);
    command->kind = schema->kind;
    command->version = schema->version;
    command->payload = far_buf_slice(&payload);
    rc = rc != 0 ? rc : far_api_foresee(request, above, index, command, events, &result, err);
    far_buf_done(&payload);
    return rc;
}

static int foresee_skip(struct far_api_request *request, struct far_log_view *view, struct far_state *above, json_t *events,
                        struct far_error *err)
{
    const struct far_log_skip *skip = request->skip;
    struct far_log_status status;
    request->api->hooks.status(request->api->arg, &status);
    if (view->applied_index + 1 != skip->index) {
        return far_fail(err, FAR_BUSY, "the state before entry %llu is not all there yet; try again", (unsigned long long)skip->index);
    }
    struct far_command by_all = {.actor = far_actor(FAR_ACTOR_SYSTEM, 0)};
    struct far_command by_this = {.actor = far_actor(FAR_ACTOR_SYSTEM, status.server_id),
                                  .proposed_at_ms = request->api->hooks.now_ms(request->api->arg)};
    struct far_cmd_entry_skip in_place = {.index = skip->index, .entry_hash = skip->hash, .commands = status.safe_command_count};
    struct far_cmd_entry_skip_order order = {.index = skip->index,
                                             .entry_hash = skip->hash,
                                             .server_id = status.server_id,
                                             .token_id = skip->token_id,
                                             .token_name = far_slice_str(skip->token_name),
                                             .reason = far_slice_str(skip->reason),
                                             .forced = skip->is_forced,
                                             .ordered_ms = by_this.proposed_at_ms};
    int rc = foresee(request, above, skip->index, &by_all, &far_schema_cmd_entry_skip, &in_place, events, err);
    bool is_told = rc == 0 && status.feature_level >= far_schema_cmd_entry_skip_order.since(0);
    return is_told ? foresee(request, above, skip->index + 1, &by_this, &far_schema_cmd_entry_skip_order, &order, events, err) : rc;
}

static int predict(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct far_log_view view;
    json_t *events = json_array(), *changes = NULL;
    bool more = false;
    int rc = far_api_view(request, &view, err);
    if (rc != 0) {
        json_decref(events);
        return rc;
    }
    struct far_state above = {.kv = far_kv_overlay_new(view.state.kv), .digest = view.state.digest};
    rc = above.kv == NULL ? far_fail(err, FAR_LIMIT, "no memory for a dry run") : foresee_skip(request, &view, &above, events, err);
    rc = rc != 0 ? rc : far_api_changes(view.state.kv, above.kv, CHANGES_MAX, &changes, &more, err);
    if (rc == 0) {
        *ret_answer = json_pack(
            "{s:b, s:O, s:o, s:b, s:[s, s, s, s]}", "dry_run", true, "events", events, "changes", changes, "more", more, "steps",
            "who wants it and why is kept on this server, then the instruction to skip the entry (files skip-orders and safe)",
            "this server tells the others, which take the instruction over", "every server that is in safe mode there starts anew",
            "entry_skipped stands in the entry's place; entry_skip_ordered follows when there is a leader, other events may come before");
    }
    json_decref(events);
    far_kv_overlay_free(above.kv);
    far_api_view_end(request, &view);
    return rc;
}

static void checked(struct far_api_request *request)
{
    if (!is_refused(request)) {
        far_api_compute(request, 200, predict);
    }
}

/* ---- the request ---- */

/* Who asks, by name as well: the name is told with the entry, the token may be gone when somebody looks. */
static int name_token(struct far_api_request *request, struct far_log_skip *skip, struct far_error *err)
{
    struct far_log_view view;
    struct far_slice name;
    skip->token_id = request->token_id;
    int rc = far_api_view(request, &view, err);
    if (rc != 0) {
        return rc;
    }
    rc = far_api_token_name(&view.state, request->token_id, &request->arena, &name, err);
    if (rc == 0) {
        snprintf(skip->token_name, sizeof skip->token_name, "%.*s", (int)name.len, (const char *)name.data);
    }
    far_api_view_end(request, &view);
    return rc;
}

static int parse(const json_t *body, struct far_log_skip *skip, struct far_error *err)
{
    const json_t *hash_json = json_object_get(body, "entry_hash"), *force = json_object_get(body, "force");
    const json_t *reason = json_object_get(body, "reason");
    uint8_t hash[8];
    size_t known = 2 + (force != NULL) + (reason != NULL);
    if (!number_of(json_object_get(body, "index"), &skip->index)) {
        return far_fail(err, FAR_INVALID, "field 'index' must be the number of a log entry");
    }
    if (!json_is_string(hash_json) || !far_hex_decode(json_string_value(hash_json), json_string_length(hash_json), hash, 8)) {
        return far_fail(err, FAR_INVALID, "field 'entry_hash' must be 16 hexadecimal digits, as the status of the cluster shows them");
    }
    if ((force != NULL && !json_is_boolean(force)) || json_object_size(body) != known) {
        return far_fail(err, FAR_INVALID, "the fields are index, entry_hash, force and reason");
    }
    if (reason != NULL && (!json_is_string(reason) || json_string_length(reason) > REASON_MAX)) {
        return far_fail(err, FAR_INVALID, "field 'reason' must be a text of at most %d bytes", (int)REASON_MAX);
    }
    skip->hash = far_get_be64(hash);
    skip->is_forced = json_is_true(force);
    snprintf(skip->reason, sizeof skip->reason, "%s", reason == NULL ? "" : json_string_value(reason));
    return 0;
}

static int skip(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    struct far_log_skip *skip = far_arena_alloc(&request->arena, sizeof *skip);
    if (skip == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the request");
    }
    *skip = (struct far_log_skip){.is_dry_run = request->query.dry_run};
    int rc = parse(body, skip, err);
    rc = rc != 0 ? rc : name_token(request, skip, err);
    rc = rc != 0 ? rc : far_api_expect(request, skip->is_dry_run ? checked : skipped, err);
    if (rc == 0) {
        request->skip = skip;
        request->api->hooks.skip_entry(request->api->arg, skip, far_api_done, request);
    }
    return rc;
}

void far_api_skip_entry(struct far_api_request *request)
{
    far_api_with_body(request, skip);
}
