/* Following events: see farshore/client.h. On a good day one stream, line by line; when it breaks, the next server, from
 * behind the last event. Heartbeats move the cursor too and tell a silent stream from a dead one. With a proof, every frame
 * goes through proof.h before anybody sees it; a server that is found out is named, and nothing more is asked of any. */
#include "client/proof.h"
#include "client/transfer.h"

#include <stdlib.h>

enum {
    LINE_MAX_BYTES = 2 * 1024 * 1024,
    URL_MAX = 4096,
    SILENCE_S = 30, /* a stream without a heartbeat for so long is dead */
    CURSOR_MAX = 96,
};

enum frame { EVENT, HEARTBEAT, START, SKIPPED, END, PROBLEM, UNKNOWN };
static const char *const frame_names[] = {"", "heartbeat", "start", "skipped", "end", "problem"};

struct follower {
    struct answer answer; /* its body collects a refusal, or the line being received */
    const struct far_client_stream *what;
    far_client_event_fn on_event;
    void *arg;
    struct proof proof;
    char cursor[CURSOR_MAX]; /* behind the last event; "" before the first */
    char id[CURSOR_MAX];     /* of the frame being received */
    uint64_t seq;            /* of the last event; 0: none came yet */
    uint32_t given;          /* events */
    enum frame frame;        /* what is being received */
    bool stopped;            /* on_event said so */
    bool complete;           /* the server said that this was the end */
    bool ended;              /* a problem ended the stream: see err */
    bool lied;               /* and it is the server's */
    struct far_error err;
};

/* ---- frames ---- */

static void take_problem(struct follower *follower, const char *json)
{
    char retry[16];
    struct answer problem = {.status = 200};
    far_buf_init(&problem.body, LINE_MAX_BYTES);
    far_buf_append_str(&problem.body, json);
    client_refused(&problem, retry, &follower->err);
    far_buf_done(&problem.body);
    follower->ended = true;
}

/* Everything that came must fit what is proven so far. */
static int prove(struct follower *follower, const char *json)
{
    struct proof *proof = &follower->proof;
    struct far_error *err = &follower->err;
    json_t *frame = json_loads(json, 0, NULL);
    int rc = frame == NULL ? far_fail(err, FAR_CORRUPT, "a frame is no JSON") : 0;
    if (rc == 0 && follower->frame == START) {
        rc = proof_start(proof, frame, err);
    } else if (rc == 0 && follower->frame == SKIPPED) {
        rc = proof_skipped(proof, frame, err);
    } else if (rc == 0 && follower->frame == EVENT) {
        rc = proof_event(proof, frame, err);
    }
    rc = rc != 0 || !proof->has_head ? rc : proof_cursor(proof, follower->id, err);
    json_decref(frame);
    follower->answer.client->proven = proof->proven;
    return rc;
}

/* Without a proof, that at least nothing comes twice or in another order. */
static int check_order(struct follower *follower)
{
    uint64_t seq = strtoull(follower->id, NULL, 10);
    if (follower->frame == EVENT && seq <= follower->seq) {
        return far_fail(&follower->err, FAR_CORRUPT, "event %llu came behind event %llu", (unsigned long long)seq,
                        (unsigned long long)follower->seq);
    }
    follower->seq = seq;
    return 0;
}

static void take_data(struct follower *follower, const char *json)
{
    if (follower->frame == PROBLEM) {
        take_problem(follower, json);
        return;
    }
    if (follower->frame == UNKNOWN) {
        return; /* of a newer server */
    }
    bool proves = follower->what->proof != FAR_CLIENT_PROOF_NONE;
    if ((proves ? prove(follower, json) : check_order(follower)) != 0) {
        follower->ended = follower->lied = true;
        return;
    }
    if (follower->id[0] != '\0' && (!proves || follower->proof.has_head)) {
        memcpy(follower->cursor, follower->id, sizeof follower->cursor);
    }
    follower->complete = follower->frame == END;
    follower->given += follower->frame == EVENT;
    if (follower->frame == EVENT || follower->frame == HEARTBEAT || follower->frame == END) {
        follower->stopped = follower->on_event(follower->arg, follower->frame == EVENT ? json : NULL, follower->cursor) != 0;
    }
}

/* One line of a server-sent event, without its end. */
static void take_line(struct follower *follower, const char *line)
{
    if (strncmp(line, "event: ", 7) == 0) {
        follower->frame = HEARTBEAT;
        while (follower->frame < UNKNOWN && strcmp(line + 7, frame_names[follower->frame]) != 0) {
            follower->frame++;
        }
    } else if (strncmp(line, "id: ", 4) == 0) {
        snprintf(follower->id, sizeof follower->id, "%s", line + 4);
    } else if (strncmp(line, "data: ", 6) == 0) {
        take_data(follower, line + 6);
    } else if (line[0] == '\0') {
        follower->frame = EVENT;
    }
}

static size_t on_stream(char *data, size_t size, size_t count, void *arg)
{
    struct follower *follower = arg;
    struct far_buf *line = &follower->answer.body;
    size_t len = size * count, at = 0;
    long status = 0;
    curl_easy_getinfo(follower->answer.client->curl, CURLINFO_RESPONSE_CODE, &status);
    while (at < len) {
        const char *newline = status == 200 ? memchr(data + at, '\n', len - at) : NULL;
        size_t part = newline == NULL ? len - at : (size_t)(newline - (data + at));
        if (far_buf_append(line, data + at, part) != 0 || (newline != NULL && far_buf_append(line, "", 1) != 0)) {
            follower->answer.too_large = true;
            return 0;
        }
        at += part + (newline != NULL);
        if (newline != NULL) {
            take_line(follower, (const char *)line->data);
            far_buf_reset(line);
        }
        if (follower->stopped || follower->ended) {
            return 0;
        }
    }
    return len;
}

/* ---- one stream ---- */

/* Appends "&name=value", escaped; nothing for NULL. */
static int add_argument(struct far_client *client, struct far_buf *url, const char *name, const char *value)
{
    if (value == NULL) {
        return 0;
    }
    char *escaped = curl_easy_escape(client->curl, value, 0);
    int rc = escaped == NULL ? FAR_LIMIT : far_buf_printf(url, "&%s=%s", name, escaped);
    curl_free(escaped);
    return rc;
}

static int make_url(struct far_client *client, const struct follower *follower, struct far_buf *url)
{
    static const char *const proofs[] = {NULL, "headers", "full"};
    const struct far_client_stream *what = follower->what;
    const char *from = follower->cursor[0] != '\0' ? follower->cursor : what->from;
    const struct {
        const char *name, *value;
    } arguments[] = {{"from", from},
                     {"to", what->to},
                     {"consumer", what->consumer},
                     {"kind", what->kinds},
                     {"severity", what->severity},
                     {"subject", what->subject},
                     {"plan", what->plan},
                     {"site", what->site},
                     {"proof", proofs[what->proof]}};
    int rc = far_buf_printf(url, "%s/v1/events?follow=%d", client->servers[client->current], what->follow ? 1 : 0);
    for (size_t i = 0; rc == 0 && i < sizeof arguments / sizeof arguments[0]; i++) {
        rc = add_argument(client, url, arguments[i].name, arguments[i].value);
    }
    if (rc == 0 && what->limit > 0) {
        rc = far_buf_printf(url, "&limit=%u", what->limit - follower->given);
    }
    if (rc == 0 && client->index > 0) {
        rc = far_buf_printf(url, "&min_index=%llu", (unsigned long long)client->index);
    }
    return rc != 0 ? rc : far_buf_append(url, "", 1);
}

static CURLcode stream_once(struct far_client *client, struct follower *follower)
{
    struct far_buf url;
    struct attempt nothing = {0};
    struct curl_slist *headers = client_headers(client, &nothing);
    CURLcode code = CURLE_OUT_OF_MEMORY;
    far_buf_init(&url, URL_MAX);
    far_buf_reset(&follower->answer.body);
    follower->answer.words[0] = '\0';
    follower->answer.status = 0;
    follower->frame = EVENT;
    if (make_url(client, follower, &url) == 0) {
        client_prepare(client, (const char *)url.data, headers, follower->answer.words);
        curl_easy_setopt(client->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(client->curl, CURLOPT_LOW_SPEED_TIME, (long)SILENCE_S);
        curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, on_stream);
        curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, follower);
        code = curl_easy_perform(client->curl);
        curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &follower->answer.status);
    }
    curl_slist_free_all(headers);
    far_buf_done(&url);
    return code;
}

/* After a stream ended by itself: go on elsewhere, or is that all? */
static enum verdict judge_stream(struct far_client *client, struct follower *follower, CURLcode code)
{
    char retry[16] = "later";
    const char *server = client->servers[client->current];
    bool enough = follower->what->limit > 0 && follower->given >= follower->what->limit;
    if (follower->stopped || follower->complete || (enough && !follower->lied)) {
        return DONE;
    }
    if (atomic_load(&client->canceled)) {
        far_fail(&follower->err, FAR_CANCELED, "canceled");
        return GIVE_UP;
    }
    if (follower->lied) {
        far_error_context(&follower->err, "server %s", server);
        return GIVE_UP;
    }
    if (follower->answer.too_large) {
        far_fail(&follower->err, FAR_LIMIT, "a line of the stream is larger than %d bytes", LINE_MAX_BYTES);
        return GIVE_UP;
    }
    if (follower->ended) {
        return follower->err.klass == FAR_BUSY ? TRY_AGAIN : GIVE_UP;
    }
    if (follower->answer.status >= 400) {
        client_refused(&follower->answer, retry, &follower->err);
        return strcmp(retry, "never") == 0 ? GIVE_UP : TRY_AGAIN;
    }
    bool sent = false;
    return client_transport_failed(client, server, code, follower->answer.words, &sent, &follower->err) == FAR_DENIED
               ? GIVE_UP
               : TRY_AGAIN;
}

static enum verdict follow(struct far_client *client, struct follower *follower)
{
    enum verdict verdict = TRY_AGAIN;
    size_t failures = 0;
    while (verdict == TRY_AGAIN) {
        char before[CURSOR_MAX];
        memcpy(before, follower->cursor, sizeof before);
        follower->ended = false;
        CURLcode code = stream_once(client, follower);
        verdict = judge_stream(client, follower, code);
        failures = memcmp(before, follower->cursor, sizeof before) != 0 ? 0 : failures + 1;
        client->current = verdict == TRY_AGAIN ? (client->current + 1) % client->server_count : client->current;
        bool lost = failures > 2 * client->server_count && follower->cursor[0] == '\0';
        if (verdict == TRY_AGAIN && (lost || !client_pause(client, failures > 4 ? PAUSE_MAX_MS : PAUSE_MIN_MS, UINT64_MAX))) {
            verdict = GIVE_UP;
        }
    }
    return verdict;
}

/* ---- the library ---- */

int far_client_stream(struct far_client *client, const struct far_client_stream *stream, far_client_event_fn on_event,
                      void *arg, struct far_client_error *ret_error)
{
    struct far_error err = {0};
    struct follower *follower = stream->version != FAR_CLIENT_STREAM_VERSION ? NULL : calloc(1, sizeof *follower);
    if (follower == NULL) {
        far_fail(&err, stream->version != FAR_CLIENT_STREAM_VERSION ? FAR_INVALID : FAR_LIMIT,
                 "the stream has version %u, or there is no memory for it", stream->version);
        return client_give(ret_error, &err, 0);
    }
    *follower = (struct follower){.answer = {.client = client}, .what = stream, .on_event = on_event, .arg = arg};
    far_buf_init(&follower->answer.body, LINE_MAX_BYTES);
    enum verdict verdict = GIVE_UP;
    if (stream->proof != FAR_CLIENT_PROOF_NONE && client->heads == NULL) {
        client->heads = malloc(sizeof *client->heads); /* without it heads cannot be held against signed ones, no more */
    }
    if (client->heads != NULL) {
        client->heads->first = UINT64_MAX;
    }
    follower->proof.heads = stream->proof != FAR_CLIENT_PROOF_NONE ? client->heads : NULL;
    if (proof_init(&follower->proof, stream, &follower->err) == 0) {
        client->proven = follower->proof.proven;
        verdict = follow(client, follower);
    }
    int rc = verdict == DONE ? 0 : client_give(ret_error, &follower->err, (int)follower->answer.status);
    far_buf_done(&follower->answer.body);
    free(follower);
    return rc;
}

int far_client_events(struct far_client *client, const char *from, bool follow, far_client_event_fn on_event, void *arg,
                      struct far_client_error *ret_error)
{
    struct far_client_stream stream = {.version = FAR_CLIENT_STREAM_VERSION, .from = from, .follow = follow};
    return far_client_stream(client, &stream, on_event, arg, ret_error);
}

void far_client_proven(const struct far_client *client, struct far_client_proven *ret_proven)
{
    *ret_proven = client->proven;
}

int far_client_ack(struct far_client *client, const char *consumer, const char *cursor, struct far_client_error *ret_error)
{
    char path[128], body[128], *answer = NULL;
    struct far_error err = {0};
    int path_len = snprintf(path, sizeof path, "/v1/consumers/%s/ack", consumer);
    int body_len = snprintf(body, sizeof body, "{\"cursor\": \"%s\"}", cursor);
    if (path_len >= (int)sizeof path || body_len >= (int)sizeof body || strpbrk(consumer, "/?#% ") != NULL ||
        strpbrk(cursor, "\"\\") != NULL) {
        far_fail(&err, FAR_INVALID, "'%.63s' is no name of a consumer, or the cursor is none", consumer);
        return client_give(ret_error, &err, 0);
    }
    int rc = far_client_request(client, "POST", path, body, &answer, ret_error);
    free(answer);
    return rc;
}
