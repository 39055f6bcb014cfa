/* Following events: see farshore/client.h. On a good day one stream, line by line; when it breaks, the next server, from
 * behind the last event. Heartbeats move the cursor too and tell a silent stream from a dead one. */
#include "client/transfer.h"

#include <stdlib.h>

enum {
    LINE_MAX_BYTES = 2 * 1024 * 1024,
    SILENCE_S = 30, /* a stream without a heartbeat for so long is dead */
    CURSOR_MAX = 64,
};

struct follower {
    struct answer answer; /* its body collects a refusal, or the line being received */
    far_client_event_fn on_event;
    void *arg;
    char cursor[CURSOR_MAX]; /* behind the last event; "" before the first */
    char id[CURSOR_MAX];     /* of the frame being received */
    bool heartbeat, problem; /* what the frame being received is */
    bool stopped;            /* on_event said so */
    bool ended;              /* a problem ended the stream: see err */
    struct far_error err;
};

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

static void take_data(struct follower *follower, const char *json)
{
    if (follower->problem) {
        take_problem(follower, json);
        return;
    }
    memcpy(follower->cursor, follower->id, sizeof follower->cursor);
    follower->stopped = follower->on_event(follower->arg, follower->heartbeat ? NULL : json, follower->cursor) != 0;
}

/* One line of a server-sent event, without its end. */
static void take_line(struct follower *follower, const char *line)
{
    if (strncmp(line, "event: ", 7) == 0) {
        follower->heartbeat = strcmp(line + 7, "heartbeat") == 0;
        follower->problem = strcmp(line + 7, "problem") == 0;
    } else if (strncmp(line, "id: ", 4) == 0) {
        snprintf(follower->id, sizeof follower->id, "%s", line + 4);
    } else if (strncmp(line, "data: ", 6) == 0) {
        take_data(follower, line + 6);
    } else if (line[0] == '\0') {
        follower->heartbeat = follower->problem = false;
    }
}

static size_t on_stream(char *data, size_t size, size_t count, void *arg)
{
    struct follower *follower = arg;
    struct far_buf *line = &follower->answer.body;
    long status = 0;
    curl_easy_getinfo(follower->answer.client->curl, CURLINFO_RESPONSE_CODE, &status);
    for (size_t i = 0; i < size * count; i++) {
        bool end = status == 200 && data[i] == '\n';
        if (far_buf_append(line, end ? "" : data + i, 1) != 0) {
            follower->answer.too_large = true;
            return 0;
        }
        if (end) {
            take_line(follower, (const char *)line->data);
            far_buf_reset(line);
        }
        if (follower->stopped || follower->ended) {
            return 0;
        }
    }
    return size * count;
}

static CURLcode stream_once(struct far_client *client, struct follower *follower, const char *from, bool follow)
{
    char url[512];
    const char *place = follower->cursor[0] != '\0' ? follower->cursor : from;
    struct attempt nothing = {0};
    struct curl_slist *headers = client_headers(client, &nothing);
    int n = snprintf(url, sizeof url, "%s/v1/events?follow=%d%s%s", client->servers[client->current], follow ? 1 : 0,
                     place != NULL ? "&from=" : "", place != NULL ? place : "");
    if (client->index > 0) {
        snprintf(url + n, sizeof url - (size_t)n, "&min_index=%llu", (unsigned long long)client->index);
    }
    client_prepare(client, url, headers, follower->answer.words);
    curl_easy_setopt(client->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(client->curl, CURLOPT_LOW_SPEED_TIME, (long)SILENCE_S);
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, on_stream);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, follower);
    far_buf_reset(&follower->answer.body);
    follower->answer.words[0] = '\0';
    follower->heartbeat = follower->problem = false;
    CURLcode code = curl_easy_perform(client->curl);
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &follower->answer.status);
    curl_slist_free_all(headers);
    return code;
}

/* After a stream ended by itself: go on elsewhere, or is that all? */
static enum verdict judge_stream(struct far_client *client, struct follower *follower, CURLcode code, bool follow)
{
    char retry[16] = "later";
    if (follower->stopped) {
        return DONE;
    }
    if (atomic_load(&client->canceled)) {
        far_fail(&follower->err, FAR_CANCELED, "canceled");
        return GIVE_UP;
    }
    if (follower->ended || follower->answer.too_large) {
        return follower->err.klass == FAR_BUSY ? TRY_AGAIN : GIVE_UP;
    }
    if (follower->answer.status >= 400) {
        client_refused(&follower->answer, retry, &follower->err);
        return strcmp(retry, "never") == 0 ? GIVE_UP : TRY_AGAIN;
    }
    if (code == CURLE_OK && !follow && follower->answer.status == 200) {
        return DONE;
    }
    bool sent = false;
    return client_transport_failed(client, client->servers[client->current], code, follower->answer.words, &sent,
                            &follower->err) == FAR_DENIED
               ? GIVE_UP
               : TRY_AGAIN;
}

int far_client_events(struct far_client *client, const char *from, bool follow, far_client_event_fn on_event, void *arg,
                      struct far_client_error *ret_error)
{
    struct follower follower = {.answer = {.client = client}, .on_event = on_event, .arg = arg};
    enum verdict verdict = TRY_AGAIN;
    size_t failures = 0;
    far_buf_init(&follower.answer.body, LINE_MAX_BYTES);
    while (verdict == TRY_AGAIN) {
        char before[CURSOR_MAX];
        memcpy(before, follower.cursor, sizeof before);
        follower.ended = false;
        CURLcode code = stream_once(client, &follower, from, follow);
        verdict = judge_stream(client, &follower, code, follow);
        failures = memcmp(before, follower.cursor, sizeof before) != 0 ? 0 : failures + 1;
        client->current = verdict == TRY_AGAIN ? (client->current + 1) % client->server_count : client->current;
        bool lost = failures > 2 * client->server_count && follower.cursor[0] == '\0';
        if (verdict == TRY_AGAIN && (lost || !client_pause(client, failures > 4 ? PAUSE_MAX_MS : PAUSE_MIN_MS, UINT64_MAX))) {
            verdict = GIVE_UP;
        }
    }
    far_buf_done(&follower.answer.body);
    return verdict == DONE ? 0 : client_give(ret_error, &follower.err, (int)follower.answer.status);
}
