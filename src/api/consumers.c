/* Named consumers: made at a place, acknowledged.
 *
 * An acknowledgement is taken at once and enters the log later: for each consumer at most one a second, or one for each
 * thousand events, whichever comes first, always the newest. Nobody waits for it: what a crash loses of acknowledgements
 * is delivered once more. They carry no command id, so nothing remembers them; one that comes late moves nothing back. */
#include "api/request.h"

#include "base/clock.h"
#include "fsm/query.h"

#include <stdio.h>
#include <stdlib.h>

enum { ACK_EVERY_MS = 1000, ACK_EVERY_EVENTS = 1000, ACKS_MAX = 1000, IDLE_MS = 60000, COMMAND_MAX = 256 };

/* What is known here of one consumer's acknowledgements. */
struct far_consumer_acks {
    struct far_http_work work; /* first: posted when a proposal was answered */
    struct far_consumer_acks *next;
    struct far_api *api;
    char name[FAR_ROUTE_PARAM_MAX + 1];
    uint64_t actor;
    struct far_cursor cursor; /* the newest */
    bool is_pending;          /* it has to be proposed */
    bool is_busy;             /* a proposal is under way */
    uint64_t proposed_seq;
    uint64_t proposed_ms; /* monotonic; 0: never */
    struct far_buf payload;
    int klass; /* of the answer */
};

/* ---- finding ---- */

int far_api_consumer(struct far_state *state, struct far_slice name, struct far_arena *arena,
                     struct far_row_consumer *ret_row, struct far_error *err)
{
    uint64_t id = 0;
    int rc = far_query_id(state, &far_schema_row_consumer, name, &id, err);
    if (rc != 0) {
        return rc;
    }
    struct far_key key = far_key(&far_schema_row_consumer);
    far_key_u64(&key, id);
    return far_state_get(state, &far_schema_row_consumer, &key, arena, ret_row, err);
}

/* Is the cursor of this history? What is not kept here any more cannot be held against it. */
static int check_cursor(struct far_api *api, struct far_log_view *view, const struct far_cursor *cursor,
                        struct far_error *err)
{
    struct far_event_text *text = NULL;
    size_t len = cursor->is_whole ? sizeof cursor->head : FAR_CURSOR_HEAD;
    if (cursor->seq > view->last_seq) {
        return far_fail(err, FAR_BUSY, "event %llu has not come to this server yet; the newest here is %llu",
                        (unsigned long long)cursor->seq, (unsigned long long)view->last_seq);
    }
    if (!cursor->has_head || cursor->seq < view->first_seq || cursor->seq == 0) {
        return 0;
    }
    int rc = far_event_text(&api->cache, &api->hooks, api->arg, view, cursor->seq, &text, err);
    if (rc == 0 && memcmp(text->head, cursor->head, len) != 0) {
        rc = far_fail(err, FAR_CONFLICT, "the cursor is of another history: event %llu has another head here",
                      (unsigned long long)cursor->seq);
    }
    return rc;
}

/* ---- proposing ---- */

/* Back on the API thread. */
static void answered(struct far_http_work *work, bool dropped)
{
    struct far_consumer_acks *acks = (struct far_consumer_acks *)(void *)work;
    bool again = acks->klass != 0 && acks->klass != FAR_NOT_FOUND && acks->klass != FAR_INVALID;
    acks->api->calls--;
    acks->is_busy = false;
    acks->is_pending = acks->is_pending || again;
}

static void proposed(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct far_consumer_acks *acks = arg;
    acks->klass = result->klass;
    acks->work.run = answered;
    far_http_post(acks->api->http, &acks->work);
}

static bool is_due(const struct far_consumer_acks *acks, uint64_t now_ms)
{
    return acks->is_pending && !acks->is_busy &&
           (acks->proposed_ms == 0 || now_ms - acks->proposed_ms >= ACK_EVERY_MS ||
            acks->cursor.seq >= acks->proposed_seq + ACK_EVERY_EVENTS);
}

static void propose(struct far_consumer_acks *acks, uint64_t now_ms)
{
    struct far_api *api = acks->api;
    struct far_cmd_consumer_ack object = {.name = far_slice_str(acks->name), .seq = acks->cursor.seq};
    if (acks->cursor.has_head) {
        object.head = far_slice(acks->cursor.head, acks->cursor.is_whole ? sizeof acks->cursor.head : FAR_CURSOR_HEAD);
    }
    far_buf_reset(&acks->payload);
    if (api->calls >= FAR_API_CALLS_MAX ||
        far_schema_encode(&far_schema_cmd_consumer_ack, &object, &acks->payload, NULL) != 0) {
        return; /* the next tick tries again */
    }
    struct far_command command = {.kind = far_schema_cmd_consumer_ack.kind,
                                  .version = far_schema_cmd_consumer_ack.version,
                                  .actor = acks->actor,
                                  .payload = far_buf_slice(&acks->payload)};
    api->calls++;
    acks->is_busy = true;
    acks->is_pending = false;
    acks->proposed_seq = acks->cursor.seq;
    acks->proposed_ms = now_ms;
    api->hooks.propose(api->arg, &command, FAR_API_TIMEOUT_MS, proposed, acks);
}

void far_api_acks_tick(struct far_api *api)
{
    uint64_t now_ms = far_clock_monotonic_ms();
    for (struct far_consumer_acks **at = &api->acks; *at != NULL;) {
        struct far_consumer_acks *acks = *at;
        if (is_due(acks, now_ms)) {
            propose(acks, now_ms);
        }
        if (!acks->is_busy && !acks->is_pending && now_ms - acks->proposed_ms >= IDLE_MS) {
            *at = acks->next;
            far_buf_done(&acks->payload);
            free(acks);
            continue;
        }
        at = &acks->next;
    }
}

void far_api_acks_done(struct far_api *api)
{
    while (api->acks != NULL) {
        struct far_consumer_acks *acks = api->acks;
        api->acks = acks->next;
        far_buf_done(&acks->payload);
        free(acks);
    }
}

/* ---- requests ---- */

static int acks_of(struct far_api *api, const char *name, struct far_consumer_acks **ret_acks, struct far_error *err)
{
    size_t count = 0;
    for (struct far_consumer_acks *acks = api->acks; acks != NULL; acks = acks->next, count++) {
        if (strcmp(acks->name, name) == 0) {
            *ret_acks = acks;
            return 0;
        }
    }
    struct far_consumer_acks *acks = count >= ACKS_MAX ? NULL : calloc(1, sizeof *acks);
    if (acks == NULL) {
        return far_fail(err, FAR_BUSY, "too many consumers acknowledge at once; try again in a moment");
    }
    acks->api = api;
    snprintf(acks->name, sizeof acks->name, "%s", name);
    far_buf_init(&acks->payload, COMMAND_MAX);
    acks->next = api->acks;
    api->acks = acks;
    *ret_acks = acks;
    return 0;
}

static int cursor_of(const json_t *body, struct far_cursor *ret_cursor, struct far_error *err)
{
    const json_t *cursor = json_object_get(body, "cursor");
    if (!json_is_string(cursor) || json_object_size(body) != 1) {
        return far_fail(err, FAR_INVALID, "the body must be {\"cursor\": \"<a cursor of the stream>\"}");
    }
    return far_cursor_parse(far_slice(json_string_value(cursor), json_string_length(cursor)), ret_cursor, err);
}

/* The consumer is there and the cursor of its history. */
static int check_ack(struct far_api_request *request, const struct far_cursor *cursor,
                     struct far_row_consumer *ret_row, struct far_error *err)
{
    struct far_log_view view;
    int rc = far_api_view(request, &view, err);
    if (rc != 0) {
        return rc;
    }
    rc = far_api_consumer(&view.state, far_slice_str(request->param), &request->arena, ret_row, err);
    rc = rc != 0 ? rc : check_cursor(request->api, &view, cursor, err);
    far_api_view_end(request, &view);
    return rc;
}

/* What a proposal of this cursor would do. */
static int try_ack(struct far_api_request *request, const struct far_cursor *cursor, struct far_error *err)
{
    struct far_cmd_consumer_ack object = {.name = far_slice_str(request->param), .seq = cursor->seq};
    if (cursor->has_head) {
        object.head = far_slice(cursor->head, cursor->is_whole ? sizeof cursor->head : FAR_CURSOR_HEAD);
    }
    int rc = far_schema_encode(&far_schema_cmd_consumer_ack, &object, &request->payload, err);
    if (rc == 0) {
        request->command = (struct far_command){.kind = far_schema_cmd_consumer_ack.kind,
                                                .version = far_schema_cmd_consumer_ack.version,
                                                .actor = far_actor(FAR_ACTOR_TOKEN, request->token_id),
                                                .payload = far_buf_slice(&request->payload)};
        far_api_dry_run(request);
    }
    return rc;
}

static int ack(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    struct far_cursor cursor;
    struct far_row_consumer row;
    struct far_consumer_acks *acks = NULL;
    uint64_t now_ms = far_clock_monotonic_ms();
    int rc = cursor_of(body, &cursor, err);
    rc = rc != 0 ? rc : check_ack(request, &cursor, &row, err);
    if (rc == 0 && request->query.dry_run) {
        return try_ack(request, &cursor, err);
    }
    rc = rc != 0 ? rc : acks_of(request->api, request->param, &acks, err);
    if (rc != 0) {
        return rc;
    }
    if (cursor.seq > row.seq && (cursor.seq > acks->cursor.seq || !acks->is_pending)) {
        acks->cursor = cursor;
        acks->actor = far_actor(FAR_ACTOR_TOKEN, request->token_id);
        acks->is_pending = true;
    }
    if (is_due(acks, now_ms)) {
        propose(acks, now_ms);
    }
    far_api_answer(request, request->route->status,
                   json_pack("{s:s, s:o, s:o}", "consumer", request->param, "seq", far_json_u64(cursor.seq), "durable_seq",
                             far_json_u64(row.seq)));
    return 0;
}

void far_api_consumer_ack(struct far_api_request *request)
{
    far_api_with_body(request, ack);
}

/* The place in words: "end", "start", "<seq>" (from that event on) or a cursor. */
static int place(struct far_api_request *request, const char *from, struct far_cursor *cursor, struct far_error *err)
{
    struct far_log_view view;
    bool start = strcmp(from, "start") == 0;
    int rc = start ? 0 : far_cursor_parse(far_slice_str(from), cursor, err);
    rc = rc != 0 ? rc : far_api_view(request, &view, err);
    if (rc != 0) {
        return rc;
    }
    if (start) {
        rc = far_api_check_oldest(request, &view, 1, err);
        *cursor = (struct far_cursor){.seq = view.first_seq == 0 ? 0 : view.first_seq - 1};
    } else if (!cursor->has_head && cursor->seq > 0) {
        cursor->seq--; /* from that event on */
    }
    rc = rc != 0 ? rc : check_cursor(request->api, &view, cursor, err);
    far_api_view_end(request, &view);
    return rc;
}

static int create(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    struct far_cmd_consumer_create object;
    struct far_cursor cursor = {0};
    const json_t *from = json_object_get(body, "from");
    if (from != NULL && !json_is_string(from)) {
        return far_fail(err, FAR_INVALID, "field 'from' must be a string");
    }
    json_t *rest = json_copy((json_t *)body);
    json_object_del(rest, "from");
    int rc = far_json_to_struct(request->route->schema, rest, &request->route->rule, &request->arena, &object, err);
    json_decref(rest);
    object.from_end = from == NULL || strcmp(json_string_value(from), "end") == 0;
    if (rc == 0 && !object.from_end) {
        rc = place(request, json_string_value(from), &cursor, err);
        object.seq = cursor.seq;
        object.head = far_slice(cursor.head, !cursor.has_head ? 0 : cursor.is_whole ? sizeof cursor.head : FAR_CURSOR_HEAD);
    }
    return rc != 0 ? rc : far_api_propose(request, &object, err);
}

void far_api_consumer_create(struct far_api_request *request)
{
    far_api_with_body(request, create);
}
