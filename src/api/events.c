/* Event streams: server-sent events, or one JSON object a line.
 *
 * A stream is a place in the log. Each time its connection can take more, it reads the next events from a view, so a slow
 * consumer costs nothing but its place; one that takes nothing for long is cut off by HTTP and comes back with its
 * cursor. The JSON of an event is made once and shared by all streams (event_text.h). When nothing is sent for
 * heartbeat_ms, a heartbeat tells the cursor reached, also past events that the filter left out. With a proof, the stream
 * begins with the chain head before its first event, events come with their header and payload (or its hash), and what the
 * filter leaves out comes as header and payload hash, so that the client computes the chain over every event there is.
 * A stream ends with a problem when its token is revoked, when what it wants next is no longer kept, or when its cursor is
 * of another history; one with an end says so in its last frame. */
#include "api/event_filter.h"
#include "api/request.h"

#include "base/clock.h"

#include <openssl/evp.h>
#include <stdlib.h>

enum {
    SCAN_MAX = 500, /* events looked at in one turn */
    SKIPPED_ENTRY = FAR_EVENT_HEADER + 32,
    SKIPPED_MAX = 100, /* in one frame */
    PREFIX_MAX = 512 + (FAR_EVENT_PAYLOAD_MAX + 2) / 3 * 4,
};

struct far_event_stream {
    struct far_event_stream *prev, *next; /* of api->streams */
    struct far_api_request *request;
    struct far_event_filter filter;
    enum far_stream_proof proof;
    bool ndjson;
    bool started; /* the head that a proof begins with was sent */
    bool greeted; /* something was sent: a client knows its cursor from the first moment on */
    uint64_t next_seq;
    bool has_head; /* head is the chain head before next_seq */
    uint8_t head[32];
    size_t expected_len; /* not 0: the client named a head that could not be compared yet */
    uint8_t expected[32];
    uint64_t bounded_to;  /* last seq to send; UINT64_MAX: follow */
    uint64_t to_ms;       /* nothing after it; UINT64_MAX: no such end */
    uint64_t sent, limit; /* events that passed, and how many may; limit 0: any number */
    bool more;            /* the limit ended it */
    struct far_buf skipped; /* SKIPPED_ENTRY bytes of each event left out since the last frame */
    uint64_t sent_ms;     /* monotonic */
    uint64_t token_ms;    /* when the token was last looked up; monotonic */
    uint64_t token_index; /* and in which state */
};

static int text_of(struct far_event_stream *stream, struct far_log_view *view, uint64_t seq,
                   struct far_event_text **ret_text, struct far_error *err)
{
    struct far_api *api = stream->request->api;
    return far_event_text(&api->cache, &api->hooks, api->arg, view, seq, ret_text, err);
}

/* ---- frames ---- */

static void cursor_text(const struct far_event_stream *stream, char text[FAR_CURSOR_TEXT_MAX])
{
    size_t len = stream->has_head ? sizeof stream->head : stream->expected_len; /* this server may lag behind the client's */
    struct far_cursor cursor = {.seq = stream->next_seq - 1,
                                .has_head = len > 0,
                                .is_whole = stream->proof != FAR_STREAM_PROOF_NONE && len == sizeof cursor.head};
    memcpy(cursor.head, stream->has_head ? stream->head : stream->expected, sizeof cursor.head);
    far_cursor_format(&cursor, text);
}

static int append(struct far_buf *out, struct far_slice bytes)
{
    return far_buf_append(out, bytes.data, bytes.len);
}

/* One frame; event NULL: an ordinary one. Its id is the cursor behind what was sent so far. prefix: members of the object that
 * stand before those of json; may be empty. */
static int frame(struct far_event_stream *stream, const char *event, struct far_slice prefix, struct far_slice json,
                 struct far_buf *out)
{
    char cursor[FAR_CURSOR_TEXT_MAX];
    size_t before = out->len;
    struct far_slice rest = prefix.len == 0 ? json : far_slice(json.data + 1, json.len - 1); /* without its brace */
    int rc = 0;
    cursor_text(stream, cursor);
    if (stream->ndjson) {
        rc = event == NULL ? 0 : far_buf_printf(out, "{\"%s\":", event);
    } else {
        rc = event == NULL ? 0 : far_buf_printf(out, "event: %s\n", event);
        rc = rc != 0 ? rc : far_buf_printf(out, "id: %s\ndata: ", cursor);
    }
    rc = rc != 0 ? rc : append(out, prefix);
    rc = rc != 0 ? rc : append(out, rest);
    rc = rc != 0 ? rc : far_buf_append_str(out, !stream->ndjson ? "\n\n" : event == NULL ? "\n" : "}\n");
    if (rc != 0) {
        out->len = before;
    }
    return rc;
}

/* Takes value. */
static int frame_json(struct far_event_stream *stream, const char *event, json_t *value, struct far_buf *out)
{
    struct far_buf text;
    far_buf_init(&text, FAR_HTTP_CHUNK);
    int rc = far_json_write(value, &text, NULL);
    rc = rc != 0 ? rc : frame(stream, event, far_slice(NULL, 0), far_buf_slice(&text), out);
    far_buf_done(&text);
    json_decref(value);
    return rc;
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

/* The last frame of a stream that has an end. */
static int end(struct far_event_stream *stream, const struct far_log_view *view, struct far_buf *out)
{
    char cursor[FAR_CURSOR_TEXT_MAX];
    cursor_text(stream, cursor);
    frame_json(stream, "end",
               json_pack("{s:s, s:b, s:o}", "cursor", cursor, "more", stream->more, "last_seq",
                         far_json_u64(view->last_seq)),
               out);
    return 0;
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

/* ---- proofs ---- */

static int append_base64(struct far_buf *out, struct far_slice bytes)
{
    uint8_t *at = far_buf_reserve(out, (bytes.len + 2) / 3 * 4 + 1);
    if (at == NULL) {
        return FAR_LIMIT;
    }
    out->len += (size_t)EVP_EncodeBlock(at, bytes.data, (int)bytes.len);
    return 0;
}

/* What goes in front of an event's JSON: its header, and its payload or the hash of it. */
static int proof_prefix(struct far_event_stream *stream, struct far_event_text *text, struct far_buf *prefix,
                        struct far_error *err)
{
    char hex[65];
    if (stream->proof == FAR_STREAM_PROOF_NONE) {
        return 0;
    }
    int rc = far_buf_append_str(prefix, "{\"header\":\"");
    rc = rc != 0 ? rc : append_base64(prefix, far_slice(text->header, sizeof text->header));
    if (stream->proof == FAR_STREAM_PROOF_FULL && !text->is_secret && !text->is_compacted) {
        rc = rc != 0 ? rc : far_buf_append_str(prefix, "\",\"payload\":\"");
        rc = rc != 0 ? rc : append_base64(prefix, far_buf_slice(&text->payload));
    } else {
        rc = rc != 0 ? rc : far_event_text_hash(text, err);
        far_hex_encode(text->payload_hash, sizeof text->payload_hash, hex);
        rc = rc != 0 ? rc : far_buf_printf(prefix, "\",\"payload_hash\":\"%s", hex);
    }
    rc = rc != 0 ? rc : far_buf_append_str(prefix, "\",");
    return rc == 0 ? 0 : far_fail(err, FAR_LIMIT, "an event is too large to be sent");
}

/* Tells the events that were left out since the last frame. */
static int flush_skipped(struct far_event_stream *stream, struct far_buf *out, struct far_error *err)
{
    struct far_buf json;
    size_t count = stream->skipped.len / SKIPPED_ENTRY;
    if (count == 0) {
        return 0;
    }
    far_buf_init(&json, FAR_HTTP_CHUNK);
    int rc = far_buf_printf(&json, "{\"count\":%zu,\"events\":\"", count);
    rc = rc != 0 ? rc : append_base64(&json, far_buf_slice(&stream->skipped));
    rc = rc != 0 ? rc : far_buf_append_str(&json, "\"}");
    rc = rc != 0 ? rc : frame(stream, "skipped", far_slice(NULL, 0), far_buf_slice(&json), out);
    far_buf_done(&json);
    if (rc != 0) {
        return far_fail(err, FAR_LIMIT, "the headers of skipped events are too large to be sent");
    }
    far_buf_reset(&stream->skipped);
    return 0;
}

static int skip(struct far_event_stream *stream, struct far_event_text *text, struct far_buf *out, struct far_error *err)
{
    if (stream->proof == FAR_STREAM_PROOF_NONE) {
        return 0;
    }
    int rc = far_event_text_hash(text, err);
    rc = rc != 0 ? rc : far_buf_append(&stream->skipped, text->header, sizeof text->header);
    rc = rc != 0 ? rc : far_buf_append(&stream->skipped, text->payload_hash, sizeof text->payload_hash);
    if (rc != 0) {
        return far_fail(err, FAR_LIMIT, "no memory for the stream");
    }
    return stream->skipped.len < SKIPPED_MAX * SKIPPED_ENTRY ? 0 : flush_skipped(stream, out, err);
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
    struct far_event_text *text;
    int rc = 0;
    stream->has_head = seq <= view->last_seq && seq + 1 >= view->first_seq;
    if (seq == view->last_seq) {
        memcpy(stream->head, view->head, sizeof stream->head);
    } else if (stream->has_head && seq + 1 == view->first_seq) {
        memcpy(stream->head, view->base_head, sizeof stream->head);
    } else if (stream->has_head) {
        rc = text_of(stream, view, seq, &text, err);
        memcpy(stream->head, rc == 0 ? text->head : stream->head, sizeof stream->head);
    }
    if (rc == 0 && stream->has_head && stream->expected_len > 0) {
        size_t len = stream->expected_len;
        stream->expected_len = 0;
        if (memcmp(stream->head, stream->expected, len) != 0) {
            return far_fail(err, FAR_CONFLICT, "the history here differs from the one that event %llu was read from; "
                                               "read it anew from the start", (unsigned long long)seq);
        }
    }
    return rc;
}

/* The first event that is not before this time; behind the newest if there is none. Times never run backwards. */
static int find_time(struct far_event_stream *stream, struct far_log_view *view, uint64_t from_ms, uint64_t *ret_seq,
                     struct far_error *err)
{
    uint64_t low = view->first_seq == 0 ? 1 : view->first_seq, high = view->last_seq + 1;
    while (low < high) {
        struct far_event_text *text;
        uint64_t middle = low + (high - low) / 2;
        int rc = text_of(stream, view, middle, &text, err);
        if (rc != 0) {
            return rc;
        }
        if (far_get_le64(text->header + 48) < from_ms) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_seq = low;
    return 0;
}

/* From where: the header of a reconnecting browser, the query, or the place of the consumer. */
static int starting_place(struct far_event_stream *stream, struct far_log_view *view, enum far_from *ret_from,
                          struct far_cursor *ret_cursor, struct far_error *err)
{
    struct far_api_request *request = stream->request;
    const char *last = far_http_exchange_request(request->exchange)->last_event_id;
    struct far_row_consumer row;
    int rc = 0;
    *ret_from = request->query.from;
    *ret_cursor = request->query.from_cursor;
    if (request->query.consumer.len > 0) {
        rc = far_api_consumer(&view->state, request->query.consumer, &request->arena, &row, err);
    }
    if (rc == 0 && last[0] != '\0') {
        *ret_from = FAR_FROM_CURSOR;
        return far_cursor_parse(far_slice_str(last), ret_cursor, err);
    }
    if (rc == 0 && request->query.consumer.len > 0 && *ret_from == FAR_FROM_START) {
        *ret_from = FAR_FROM_CURSOR;
        *ret_cursor = (struct far_cursor){.seq = row.seq, .has_head = row.head.len > 0, .is_whole = row.head.len == 32};
        if (row.head.len > 0 && row.head.len <= sizeof ret_cursor->head) {
            memcpy(ret_cursor->head, row.head.data, row.head.len);
        }
    }
    return rc;
}

static int place(struct far_event_stream *stream, struct far_log_view *view, struct far_error *err)
{
    const struct far_query *query = &stream->request->query;
    struct far_cursor cursor;
    enum far_from from;
    int rc = starting_place(stream, view, &from, &cursor, err);
    if (rc != 0) {
        return rc;
    }
    uint64_t first = view->first_seq == 0 ? 1 : view->first_seq;
    stream->bounded_to = query->bounded ? view->last_seq : UINT64_MAX;
    stream->bounded_to = query->to == FAR_FROM_SEQ && query->to_seq < stream->bounded_to ? query->to_seq
                                                                                         : stream->bounded_to;
    stream->to_ms = query->to == FAR_FROM_TIME ? query->to_ms : UINT64_MAX;
    stream->next_seq = from == FAR_FROM_END      ? view->last_seq + 1
                       : from == FAR_FROM_CURSOR ? cursor.seq + 1
                       : from == FAR_FROM_SEQ    ? (cursor.seq == 0 ? 1 : cursor.seq)
                                                 : first;
    if (from == FAR_FROM_TIME) {
        rc = find_time(stream, view, query->from_ms, &stream->next_seq, err);
    }
    if (from == FAR_FROM_CURSOR && cursor.has_head) {
        stream->expected_len = cursor.is_whole ? sizeof cursor.head : FAR_CURSOR_HEAD;
        memcpy(stream->expected, cursor.head, sizeof stream->expected);
    }
    if (rc == 0 && (stream->next_seq < first || (stream->next_seq == first && (from == FAR_FROM_START || from == FAR_FROM_TIME)))) {
        rc = far_api_check_oldest(stream->request, view, stream->next_seq < first ? stream->next_seq : 1, err);
    }
    if (rc == 0 && stream->next_seq < first) {
        return no_longer_kept(stream->next_seq, view, err);
    }
    if (rc == 0 && query->bounded && stream->next_seq > view->last_seq + 1) {
        return far_fail(err, FAR_BUSY, "event %llu has not come to this server yet; the newest here is %llu",
                        (unsigned long long)(stream->next_seq - (from == FAR_FROM_CURSOR)), (unsigned long long)view->last_seq);
    }
    return rc != 0 ? rc : find_head(stream, view, err);
}

/* ---- sending ---- */

static void advance(struct far_event_stream *stream, const struct far_event_text *text)
{
    stream->next_seq++;
    stream->has_head = true;
    memcpy(stream->head, text->head, sizeof stream->head);
}

/* One event that passed. *ret_full: it has to wait for the next chunk. */
static int send_event(struct far_event_stream *stream, struct far_event_text *text, struct far_buf *out, bool *ret_full,
                      struct far_error *err)
{
    struct far_buf prefix;
    uint8_t head[32];
    bool plain = stream->proof == FAR_STREAM_PROOF_NONE && !stream->ndjson;
    memcpy(head, stream->head, sizeof head);
    far_buf_init(&prefix, PREFIX_MAX);
    int rc = flush_skipped(stream, out, err);
    rc = rc != 0 ? rc : proof_prefix(stream, text, &prefix, err);
    if (rc == 0) {
        advance(stream, text);
        *ret_full = (plain ? append(out, far_buf_slice(&text->frame))
                           : frame(stream, NULL, far_buf_slice(&prefix), far_event_json(text), out)) != 0;
        stream->sent += !*ret_full;
        if (*ret_full) {
            stream->next_seq--;
            memcpy(stream->head, head, sizeof head);
        }
    }
    far_buf_done(&prefix);
    return rc;
}

/* The next event; *ret_go false: there is nothing more to be sent now. */
static int one_event(struct far_event_stream *stream, struct far_log_view *view, struct far_buf *out, bool *ret_go,
                     struct far_error *err)
{
    struct far_event_text *text;
    bool passes = false, full = false;
    size_t before = out->len;
    *ret_go = false;
    if (stream->next_seq < view->first_seq) {
        return no_longer_kept(stream->next_seq, view, err);
    }
    int rc = text_of(stream, view, stream->next_seq, &text, err);
    if (rc == 0 && far_get_le64(text->header + 48) > stream->to_ms) {
        stream->bounded_to = stream->next_seq - 1;
        return 0;
    }
    rc = rc != 0 ? rc : far_event_filter_passes(&stream->filter, text, &view->state, &passes, err);
    if (rc != 0) {
        return rc;
    }
    if (!passes) {
        advance(stream, text);
        *ret_go = true;
        return skip(stream, text, out, err);
    }
    if (stream->limit != 0 && stream->sent >= stream->limit) {
        stream->more = true;
        stream->bounded_to = stream->next_seq - 1;
        return 0;
    }
    rc = send_event(stream, text, out, &full, err);
    if (rc == 0 && full && out->len == before) {
        return before == 0 ? far_fail(err, FAR_LIMIT, "an event is too large to be sent") : 0;
    }
    *ret_go = !full;
    return rc;
}

/* Appends events until the room is used up; the place moves on. */
static int send_events(struct far_event_stream *stream, struct far_log_view *view, struct far_buf *out, size_t room,
                       struct far_error *err)
{
    size_t start = out->len;
    bool go = true;
    int rc = 0;
    if (!stream->has_head || stream->expected_len > 0) {
        rc = find_head(stream, view, err);
    }
    if (rc == 0 && !stream->started && stream->has_head) {
        char hex[65];
        far_hex_encode(stream->head, sizeof stream->head, hex);
        stream->started = true;
        rc = frame_json(stream, "start", json_pack("{s:o, s:s}", "seq", far_json_u64(stream->next_seq - 1), "head", hex), out);
        rc = rc == 0 ? 0 : far_fail(err, FAR_LIMIT, "no room for the start of the stream");
    }
    for (size_t seen = 0; rc == 0 && go && seen < SCAN_MAX && out->len + stream->skipped.len - start < room; seen++) {
        if (stream->next_seq > view->last_seq || stream->next_seq > stream->bounded_to) {
            break;
        }
        rc = one_event(stream, view, out, &go, err);
    }
    return rc != 0 ? rc : flush_skipped(stream, out, err);
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
    if (at_end) {
        return end(stream, view, out);
    }
    if (silent && (!stream->greeted || moved || now_ms - stream->sent_ms >= stream->request->api->heartbeat_ms)) {
        heartbeat(stream, view, out);
    }
    stream->greeted = true;
    if (out->len > before) {
        stream->sent_ms = now_ms;
    }
    return 1;
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
    struct far_log_view view;
    int rc = far_api_view(request, &view, err);
    if (rc == 0) {
        rc = far_event_filter_init(&stream->filter, &request->query, &view.state, err);
        rc = rc != 0 ? rc : place(stream, &view, err);
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
    stream->proof = request->query.proof;
    stream->started = stream->proof == FAR_STREAM_PROOF_NONE;
    stream->limit = request->query.has_limit ? request->query.limit : 0;
    far_buf_init(&stream->skipped, SKIPPED_MAX * SKIPPED_ENTRY);
    stream->sent_ms = stream->token_ms = far_clock_monotonic_ms();
    stream->ndjson = request->query.ndjson ||
                     strstr(far_http_exchange_request(request->exchange)->accept, "application/x-ndjson") != NULL;
    if (start(stream, &err) != 0) {
        far_buf_done(&stream->skipped);
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
    api->hooks.follow(api->arg, true);
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
    request->api->hooks.follow(request->api->arg, false);
    if (stream->next != NULL) {
        stream->next->prev = stream->prev;
    }
    far_buf_done(&stream->skipped);
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
