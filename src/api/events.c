/* Event streams: server-sent events, or one JSON object a line.
 *
 * A stream is a place in the log. Each time its connection can take more, it reads the next events from a view, so a slow
 * consumer costs nothing but its place; one that takes nothing for long is cut off by HTTP and comes back with its
 * cursor. The JSON of an event is made once and shared by all streams through a small cache. When nothing is sent for
 * heartbeat_ms, a heartbeat tells the cursor reached, also past events that the filter left out. A stream ends with a
 * problem when its token is revoked, when what it wants next is no longer kept, or when its cursor is of another history. */
#include "api/request.h"

#include "base/clock.h"

#include <stdlib.h>

enum { SCAN_MAX = 500 }; /* events looked at in one turn */

struct far_event_stream {
    struct far_event_stream *prev, *next; /* of api->streams */
    struct far_api_request *request;
    uint64_t next_seq;
    bool has_head; /* head is the chain head before next_seq */
    uint8_t head[8];
    bool expect_head; /* the client named a head that could not be compared yet */
    uint8_t expected[8];
    uint64_t bounded_to; /* last seq to send; UINT64_MAX: follow */
    const struct far_schema *kind; /* only events of this kind; NULL: all */
    bool ndjson;
    uint64_t sent_ms;  /* monotonic */
    uint64_t token_ms;    /* when the token was last looked up; monotonic */
    uint64_t token_index; /* and in which state */
};

/* ---- the text of an event ---- */

static json_t *event_to_json(const struct far_event *event, struct far_arena *arena, const uint8_t head[32])
{
    const struct far_schema *schema = far_schema_find(FAR_CLASS_ev, event->kind, event->version);
    void *object = schema == NULL ? NULL : far_arena_alloc(arena, schema->size);
    json_t *data = NULL;
    if (object != NULL && far_schema_decode(schema, event->payload, arena, object, NULL) == 0) {
        data = far_json_from_struct(schema, object);
    }
    return json_pack("{s:o, s:o, s:s, s:i, s:o, s:o*, s:o*, s:o*, s:o}", "seq", far_json_u64(event->seq), "index",
                     far_json_u64(event->index), "kind", schema != NULL ? schema->name : "unknown", "version",
                     (int)event->version, "time_ms", far_json_u64(event->time_ms), "actor", far_json_actor(event->actor),
                     "command_id", far_json_hex(event->command_id, sizeof event->command_id), "head",
                     far_json_hex(head, 32), "data", data != NULL ? data : json_null());
}

/* The event with this seq as JSON: from the cache, or made now. *ret_text lives until the next call. */
static int event_text(struct far_api *api, struct far_log_view *view, uint64_t seq, struct far_event_text **ret_text,
                      struct far_error *err)
{
    struct far_event_text *text = &api->cache[seq % FAR_API_EVENT_CACHE];
    if (text->seq == seq) {
        *ret_text = text;
        return 0;
    }
    struct far_arena arena;
    struct far_event event;
    uint8_t head[32];
    far_arena_init(&arena, FAR_API_ARENA_MAX);
    if (text->json.max == 0 || text->json.cap > FAR_API_EVENT_CACHED_MAX) {
        far_buf_done(&text->json);
        far_buf_init(&text->json, FAR_API_EVENT_TEXT_MAX);
    }
    far_buf_reset(&text->json);
    text->seq = 0;
    int rc = api->hooks.view_event(api->arg, view, seq, &arena, &event, head, err);
    if (rc == 0) {
        json_t *json = event_to_json(&event, &arena, head);
        rc = far_json_write(json, &text->json, err);
        json_decref(json);
    }
    if (rc == 0) {
        text->seq = seq;
        text->kind = event.kind;
        memcpy(text->head, head, sizeof text->head);
        *ret_text = text;
    }
    far_arena_done(&arena);
    return rc;
}

/* ---- frames ---- */

static void cursor_text(const struct far_event_stream *stream, char text[FAR_CURSOR_TEXT_MAX])
{
    struct far_cursor cursor = {.seq = stream->next_seq - 1, .has_head = stream->has_head};
    memcpy(cursor.head, stream->head, sizeof cursor.head);
    far_cursor_format(&cursor, text);
}

/* One frame; event NULL: an ordinary one. Its id is the cursor behind what was sent so far. */
static int frame(struct far_event_stream *stream, const char *event, struct far_slice json, struct far_buf *out)
{
    char cursor[FAR_CURSOR_TEXT_MAX];
    size_t before = out->len;
    int rc = 0;
    cursor_text(stream, cursor);
    if (stream->ndjson) {
        rc = event == NULL ? 0 : far_buf_printf(out, "{\"%s\":", event);
        rc = rc != 0 ? rc : far_buf_append(out, json.data, json.len);
        rc = rc != 0 ? rc : far_buf_append_str(out, event == NULL ? "\n" : "}\n");
    } else {
        rc = event == NULL ? 0 : far_buf_printf(out, "event: %s\n", event);
        rc = rc != 0 ? rc : far_buf_printf(out, "id: %s\ndata: ", cursor);
        rc = rc != 0 ? rc : far_buf_append(out, json.data, json.len);
        rc = rc != 0 ? rc : far_buf_append_str(out, "\n\n");
    }
    if (rc != 0) {
        out->len = before;
    }
    return rc;
}

static void frame_json(struct far_event_stream *stream, const char *event, json_t *value, struct far_buf *out)
{
    struct far_buf text;
    far_buf_init(&text, FAR_HTTP_CHUNK);
    if (far_json_write(value, &text, NULL) == 0) {
        frame(stream, event, far_buf_slice(&text), out);
    }
    far_buf_done(&text);
    json_decref(value);
}

static void heartbeat(struct far_event_stream *stream, const struct far_log_view *view, struct far_buf *out)
{
    char cursor[FAR_CURSOR_TEXT_MAX];
    cursor_text(stream, cursor);
    frame_json(stream, "heartbeat",
               json_pack("{s:s, s:o, s:o}", "cursor", cursor, "last_seq", far_json_u64(view->last_seq), "applied_index",
                         far_json_u64(view->applied_index)),
               out);
}

static int end_with(struct far_event_stream *stream, const struct far_error *error, struct far_buf *out)
{
    json_t *problem = far_api_problem_json(stream->request, far_class_info(error->klass)->http_status, error);
    char cursor[FAR_CURSOR_TEXT_MAX];
    cursor_text(stream, cursor);
    json_object_set_new(problem, "cursor", json_string(cursor));
    frame_json(stream, "problem", problem, out);
    return 0;
}

/* ---- the place in the log ---- */

static int no_longer_kept(uint64_t seq, const struct far_log_view *view, struct far_error *err)
{
    return far_fail(err, FAR_NOT_FOUND, "event %llu is no longer kept; the oldest here is %llu",
                    (unsigned long long)seq, (unsigned long long)view->first_seq);
}

/* The chain head before next_seq, where it can be known. */
static int find_head(struct far_event_stream *stream, struct far_log_view *view, struct far_error *err)
{
    uint64_t seq = stream->next_seq - 1;
    struct far_api *api = stream->request->api;
    struct far_event_text *text;
    stream->has_head = true;
    if (seq == view->last_seq) {
        memcpy(stream->head, view->head, sizeof stream->head);
    } else if (seq >= view->first_seq && seq > 0 && seq < view->last_seq) {
        int rc = event_text(api, view, seq, &text, err);
        if (rc != 0) {
            return rc;
        }
        memcpy(stream->head, text->head, sizeof stream->head);
    } else {
        stream->has_head = false;
    }
    if (stream->expect_head && stream->has_head) {
        stream->expect_head = false;
        if (memcmp(stream->head, stream->expected, sizeof stream->head) != 0) {
            return far_fail(err, FAR_CONFLICT, "the history here differs from the one that event %llu was read from; "
                                               "read it anew from the start", (unsigned long long)seq);
        }
    }
    return 0;
}

static int place(struct far_event_stream *stream, struct far_log_view *view, struct far_error *err)
{
    const struct far_api_request *request = stream->request;
    const struct far_query *query = &request->query;
    const char *last = far_http_exchange_request(request->exchange)->last_event_id;
    enum far_from from = query->from;
    struct far_cursor cursor = query->from_cursor;
    if (last[0] != '\0') {
        int rc = far_cursor_parse(far_slice_str(last), &cursor, err);
        if (rc != 0) {
            return rc;
        }
        from = FAR_FROM_CURSOR;
    }
    uint64_t first = view->first_seq == 0 ? 1 : view->first_seq;
    stream->bounded_to = query->bounded ? view->last_seq : UINT64_MAX;
    stream->next_seq = from == FAR_FROM_END      ? view->last_seq + 1
                       : from == FAR_FROM_CURSOR ? cursor.seq + 1
                       : from == FAR_FROM_SEQ    ? (cursor.seq == 0 ? 1 : cursor.seq)
                                                 : first;
    if (from == FAR_FROM_CURSOR && cursor.has_head && cursor.seq > 0) {
        stream->expect_head = true;
        memcpy(stream->expected, cursor.head, sizeof stream->expected);
    }
    if (stream->next_seq < first) {
        return no_longer_kept(stream->next_seq, view, err);
    }
    return find_head(stream, view, err);
}

/* ---- sending ---- */

/* Appends events until the room is used up; the place moves on. */
static int send_events(struct far_event_stream *stream, struct far_log_view *view, struct far_buf *out, size_t room,
                       struct far_error *err)
{
    struct far_api *api = stream->request->api;
    size_t start = out->len;
    uint64_t last = view->last_seq < stream->bounded_to ? view->last_seq : stream->bounded_to;
    if (stream->expect_head) {
        int rc = find_head(stream, view, err);
        if (rc != 0) {
            return rc;
        }
    }
    for (size_t seen = 0; seen < SCAN_MAX && stream->next_seq <= last && out->len - start < room; seen++) {
        struct far_event_text *text;
        if (stream->next_seq < view->first_seq) {
            return no_longer_kept(stream->next_seq, view, err);
        }
        int rc = event_text(api, view, stream->next_seq, &text, err);
        if (rc != 0) {
            return rc;
        }
        stream->next_seq++;
        stream->has_head = true;
        memcpy(stream->head, text->head, sizeof stream->head);
        if (stream->kind != NULL && stream->kind->kind != text->kind) {
            continue;
        }
        if (frame(stream, NULL, far_buf_slice(&text->json), out) != 0) {
            if (out->len == start) {
                return far_fail(err, FAR_LIMIT, "an event is too large to be sent");
            }
            stream->next_seq--; /* in the next chunk; its head is found again with it */
            break;
        }
    }
    return 0;
}

/* In each new state, so that nothing is sent behind a revocation, and now and then for a token's end. */
static int check_token(struct far_event_stream *stream, struct far_log_view *view, uint64_t now_ms,
                       struct far_error *err)
{
    struct far_api_request *request = stream->request;
    if (view->applied_index == stream->token_index && now_ms - stream->token_ms < request->api->heartbeat_ms) {
        return 0;
    }
    stream->token_ms = now_ms;
    stream->token_index = view->applied_index;
    far_arena_reset(&request->arena);
    return far_api_authorize(request, view, &request->token_id, err);
}

static int pull_from(struct far_event_stream *stream, struct far_log_view *view, struct far_buf *out, size_t room)
{
    struct far_error err;
    uint64_t now_ms = far_clock_monotonic_ms();
    size_t before = out->len;
    uint64_t place_before = stream->next_seq;
    int rc = check_token(stream, view, now_ms, &err);
    rc = rc != 0 ? rc : send_events(stream, view, out, room, &err);
    if (rc != 0) {
        return end_with(stream, &err, out);
    }
    bool at_end = stream->bounded_to != UINT64_MAX && stream->next_seq > stream->bounded_to;
    bool silent = out->len == before;
    bool moved = stream->next_seq != place_before && stream->next_seq <= view->last_seq;
    if (silent && !at_end && (moved || now_ms - stream->sent_ms >= stream->request->api->heartbeat_ms)) {
        heartbeat(stream, view, out);
    }
    if (out->len > before) {
        stream->sent_ms = now_ms;
    }
    return at_end ? 0 : 1;
}

static int pull(void *arg, struct far_http_exchange *exchange, struct far_buf *out, size_t room)
{
    struct far_api *api = arg;
    struct far_api_request *request = far_http_exchange_data(exchange);
    struct far_log_view view;
    struct far_error err;
    if (api->hooks.view_begin(api->arg, &view, &err) != 0) {
        return end_with(request->stream, &err, out);
    }
    int more = pull_from(request->stream, &view, out, room);
    api->hooks.view_end(api->arg, &view);
    return more;
}

/* ---- life ---- */

static int start(struct far_event_stream *stream, struct far_error *err)
{
    struct far_api_request *request = stream->request;
    struct far_slice kind = request->query.kind;
    if (kind.len > 0) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)kind.len, (const char *)kind.data);
        stream->kind = far_schema_find_name(FAR_CLASS_ev, name);
        if (stream->kind == NULL) {
            return far_fail(err, FAR_INVALID, "there is no kind of event '%s'", name);
        }
    }
    struct far_log_view view;
    int rc = far_api_view(request, &view, err);
    if (rc == 0) {
        rc = place(stream, &view, err);
        far_api_view_end(request, &view);
    }
    return rc;
}

void far_api_events(struct far_api_request *request)
{
    struct far_api *api = request->api;
    struct far_error err;
    struct far_event_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        far_fail(&err, FAR_LIMIT, "no memory for the stream");
        far_api_problem(request, 0, &err);
        return;
    }
    stream->request = request;
    stream->sent_ms = stream->token_ms = far_clock_monotonic_ms();
    stream->ndjson = request->query.ndjson ||
                     strstr(far_http_exchange_request(request->exchange)->accept, "application/x-ndjson") != NULL;
    if (start(stream, &err) != 0) {
        free(stream);
        far_api_problem(request, 0, &err);
        return;
    }
    stream->next = api->streams;
    if (stream->next != NULL) {
        stream->next->prev = stream;
    }
    api->streams = stream;
    request->stream = stream;
    struct far_http_header headers[FAR_API_HEADERS_MAX];
    char index_text[24];
    size_t count = far_api_headers(request, index_text, headers);
    far_http_stream(request->exchange, stream->ndjson ? "application/x-ndjson" : "text/event-stream", headers, count,
                    pull);
}

void far_api_events_gone(struct far_api_request *request)
{
    struct far_event_stream *stream = request->stream;
    if (stream == NULL) {
        return;
    }
    if (stream->prev != NULL) {
        stream->prev->next = stream->next;
    } else {
        request->api->streams = stream->next;
    }
    if (stream->next != NULL) {
        stream->next->prev = stream->prev;
    }
    free(stream);
    request->stream = NULL;
}

void far_api_events_wake(struct far_api *api)
{
    for (struct far_event_stream *stream = api->streams; stream != NULL; stream = stream->next) {
        far_http_stream_wake(stream->request->exchange);
    }
}

void far_api_events_tick(struct far_api *api)
{
    uint64_t now_ms = far_clock_monotonic_ms();
    for (struct far_event_stream *stream = api->streams; stream != NULL; stream = stream->next) {
        if (now_ms - stream->sent_ms >= api->heartbeat_ms) {
            far_http_stream_wake(stream->request->exchange);
        }
    }
}

void far_api_events_done(struct far_api *api)
{
    for (size_t i = 0; i < FAR_API_EVENT_CACHE; i++) {
        far_buf_done(&api->cache[i].json);
    }
}
