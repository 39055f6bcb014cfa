/* Event streams as a client sees them: filters, places, limits, proofs; named consumers; and servers that lie. */
#include "lib/api_fixture.h"
#include "lib/cm.h"
#include "lib/https.h"

#include "api/http.h"
#include "farshore/client.h"
#include "log/signed_head.h"
#include "net/sign.h"

#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { HEARTBEAT_MS = 100, TEXT_MAX = 1024 * 1024, FRAMES_MAX = 256 };

static struct far_test_api *fixture;
static char auth[FAR_API_TOKEN_TEXT_MAX + 64];
static char body[TEXT_MAX];

/* ---- asking ---- */

static int ask(const char *method, const char *path, const char *json)
{
    struct far_test_https *c = far_test_https_open(fixture->port, fixture->ca_path, 0);
    assert_non_null(c);
    int status = far_test_https_request(c, method, path, auth, json);
    snprintf(body, sizeof body, "%s", far_test_https_body(c));
    far_test_https_close(c);
    return status;
}

/* How many events a bounded query gives, and that each is of one of the kinds. */
static size_t count(const char *arguments, const char *kinds)
{
    char path[512];
    size_t events = 0;
    snprintf(path, sizeof path, "/v1/events?follow=false&format=ndjson&%s", arguments);
    assert_int_equal(ask("GET", path, NULL), 200);
    for (const char *line = body; *line != '\0'; line += strcspn(line, "\n") + 1) {
        json_t *event = json_loadb(line, strcspn(line, "\n"), 0, NULL);
        const char *kind = json_string_value(json_object_get(event, "kind"));
        if (kind != NULL) {
            events++;
            if (strstr(kinds, kind) == NULL) {
                fail_msg("%s: %s was not asked for", arguments, kind);
            }
        }
        json_decref(event);
    }
    assert_non_null(strstr(body, "{\"end\":"));
    return events;
}

static int64_t member(const char *name)
{
    json_t *object = json_loads(body, 0, NULL);
    int64_t value = json_integer_value(json_object_get(object, name));
    json_decref(object);
    return value;
}

#define APPLY_COMMAND(name, ...) \
    assert_int_equal(far_test_api_apply(fixture, &far_schema_cmd_##name, &(struct far_cmd_##name){__VA_ARGS__}), 0)
#define S(text) far_slice_str(text)

static void make_site(const char *name, uint64_t role)
{
    APPLY_COMMAND(site_create, .name = S(name), .role = role);
}

/* ---- filters ---- */

static void events_are_filtered_by_kind_severity_and_what_they_are_about(void **unused)
{
    char path[64];
    assert_int_equal(count("kind=site_created", "site_created"), 2);
    assert_int_equal(count("kind=site_created,plan_created", "site_created plan_created"), 3);
    assert_int_equal(count("severity=notice", "cluster_created feature_level_raised site_created workload_created "
                                              "plan_created plan_started "
                                              "job_started"), 7);
    assert_int_equal(count("severity=warning", ""), 0);
    assert_int_equal(count("plan=gold&severity=notice", "plan_created plan_started workload_created"), 3);
    assert_true(count("plan=gold", "plan_created plan_started workload_created job_started tasks_created tasks_changed "
                                   "plan_scheduled") > 4);
    assert_int_equal(count("subject=plan:gold&kind=plan_created,plan_started,workload_created", "plan_created plan_started"), 2);
    assert_int_equal(count("site=west&kind=site_created,plan_created,workload_created", "site_created plan_created "
                                                                                         "workload_created"), 3);
    assert_int_equal(ask("GET", "/v1/plans/gold", NULL), 200);
    snprintf(path, sizeof path, "subject=%d&kind=plan_started", (int)member("id"));
    assert_int_equal(count(path, "plan_started"), 1);
    assert_int_equal(ask("GET", "/v1/events?severity=loud", NULL), 400);
    assert_int_equal(ask("GET", "/v1/events?kind=consumer_acked", NULL), 400);
    assert_int_equal(ask("GET", "/v1/events?plan=nosuch", NULL), 404);
    assert_int_equal(ask("GET", "/v1/events?subject=thing:x", NULL), 400);
}

static void history_is_bounded_by_number_time_and_count(void **unused)
{
    uint64_t last = far_test_api_last_seq(fixture);
    char arguments[128], cursor[128];
    assert_int_equal(count("kind=site_created,command_remembered&from=3&to=5", "site_created command_remembered"), 2);
    snprintf(arguments, sizeof arguments, "from=%d", (int)last);
    assert_int_equal(count(arguments, "command_remembered job_started tasks_created"), 1);
    /* the fixture's clock: a command a millisecond */
    assert_int_equal(count("from=@1700000000002&to=2023-11-14T22:13:20.003Z&kind=site_created", "site_created"), 2);
    assert_int_equal(count("from=@1800000000000", ""), 0);
    assert_int_equal(count("kind=site_created&limit=1", "site_created"), 1);
    assert_non_null(strstr(body, "\"more\":true"));
    const char *at = strstr(body, "{\"end\":{\"cursor\":\"") + 18;
    snprintf(cursor, sizeof cursor, "kind=site_created&limit=1&from=%.*s", (int)strcspn(at, "\""), at);
    assert_int_equal(count(cursor, "site_created"), 1);
    assert_non_null(strstr(body, "\"more\":false"));
}

/* ---- the client library against an honest server ---- */

struct taken {
    uint64_t events, last_seq;
    char cursor[128];
    uint64_t stop_after;
};

static int take(void *arg, const char *json, const char *cursor)
{
    struct taken *taken = arg;
    snprintf(taken->cursor, sizeof taken->cursor, "%s", cursor);
    if (json == NULL) {
        return 0;
    }
    json_t *event = json_loads(json, 0, NULL);
    uint64_t seq = (uint64_t)json_integer_value(json_object_get(event, "seq"));
    json_decref(event);
    assert_true(seq > taken->last_seq);
    taken->last_seq = seq;
    return ++taken->events == taken->stop_after;
}

static struct far_client *client_of(const char *url)
{
    struct far_client *client = NULL;
    struct far_client_config config = {.version = FAR_CLIENT_CONFIG_VERSION, .servers = url, .ca_path = fixture->ca_path,
                                       .token = fixture->token, .timeout_ms = 10000};
    assert_int_equal(far_client_new(&config, &client, NULL), 0);
    return client;
}

static void assert_head(const struct far_client_proven *proven)
{
    char head[65];
    far_hex_encode(proven->head, 32, head);
    assert_int_equal(ask("GET", "/v1/log/head", NULL), 200);
    assert_non_null(strstr(body, head));
    assert_int_equal(member("seq"), proven->seq);
}

static void a_client_computes_every_head_by_itself(void **unused)
{
    static const struct far_client_stream streams[] = {
        {.proof = FAR_CLIENT_PROOF_FULL},
        {.proof = FAR_CLIENT_PROOF_HEADERS, .kinds = "site_created"},
        {.proof = FAR_CLIENT_PROOF_FULL, .kinds = "site_created,plan_created", .severity = "notice"},
        {.proof = FAR_CLIENT_PROOF_FULL, .severity = "warning"},
        {.proof = FAR_CLIENT_PROOF_HEADERS, .plan = "gold"},
    };
    static const uint64_t events[] = {0, 2, 3, 0, 0};
    struct far_client *client = client_of(fixture->url);
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        struct far_client_stream stream = streams[i];
        struct far_client_error error = {.code = ""};
        struct far_client_proven proven;
        struct taken taken = {0};
        stream.version = FAR_CLIENT_STREAM_VERSION;
        if (far_client_stream(client, &stream, take, &taken, &error) != 0) {
            fail_msg("stream %zu: %s", i, error.message);
        }
        far_client_proven(client, &proven);
        assert_int_equal(proven.events, taken.events);
        assert_int_equal(proven.events + proven.skipped, proven.seq);
        assert_true(proven.from_start);
        assert_true(events[i] == 0 || taken.events == events[i]);
        assert_head(&proven);
    }
    far_client_free(client);
}

/* The fixture's only server signs where the log stands; its public key as text. */
static void sign_head(char key_text[65], const uint8_t head[32])
{
    uint8_t public_key[32], private_key[32], message[FAR_HEAD_MESSAGE_MAX], signature[64], uuid[16];
    size_t len;
    assert_int_equal(far_sign_keypair(public_key, private_key, NULL), 0);
    far_hex_encode(public_key, 32, key_text);
    struct far_cmd_server_key_set set = {.server_id = 1, .public_key = far_slice(public_key, 32)};
    assert_int_equal(far_test_api_apply(fixture, &far_schema_cmd_server_key_set, &set), 0);
    uint8_t own[32];
    assert_int_equal(ask("GET", "/v1/cluster", NULL), 200);
    json_t *json = json_loads(body, 0, NULL);
    const json_t *cluster = json_object_get(json, "cluster"), *log = json_object_get(json, "log");
    uint64_t seq = (uint64_t)json_integer_value(json_object_get(log, "seq"));
    uint64_t epoch = (uint64_t)json_integer_value(json_object_get(cluster, "incarnation_epoch"));
    assert_true(far_hex_decode(json_string_value(json_object_get(log, "head")), 64, own, 32));
    assert_true(far_hex_decode(json_string_value(json_object_get(cluster, "uuid")), 32, uuid, 16));
    json_decref(json);
    struct far_cmd_head_propose propose = {.seq = seq, .head = far_slice(head == NULL ? own : head, 32)};
    assert_int_equal(far_test_api_apply(fixture, &far_schema_cmd_head_propose, &propose), 0);
    struct far_sub_head_voter voter = {.server_id = 1, .public_key = far_slice(public_key, 32)};
    struct far_list voters = {.items = &voter, .count = 1};
    assert_int_equal(far_head_message(far_slice(uuid, 16), epoch, seq, propose.head, &voters, message, &len, NULL), 0);
    assert_int_equal(far_sign(private_key, far_slice(message, len), signature, NULL), 0);
    struct far_cmd_head_sign sign = {.server_id = 1, .seq = seq, .signature = far_slice(signature, 64)};
    assert_int_equal(far_test_api_apply(fixture, &far_schema_cmd_head_sign, &sign), 0);
}

static void a_client_holds_its_chain_against_the_signed_head(void **unused)
{
    char key[65], other_key[65];
    uint8_t wrong[32] = {1};
    uint64_t seq = 0;
    struct far_client *client = client_of(fixture->url);
    struct far_client_error error;
    struct taken taken = {0};
    struct far_client_stream stream = {.version = FAR_CLIENT_STREAM_VERSION, .proof = FAR_CLIENT_PROOF_HEADERS,
                                       .kinds = "site_created"};
    sign_head(key, NULL);
    assert_int_equal(far_client_prove_signed(client, key, &seq, &error), -1); /* nothing was streamed */
    assert_string_equal(error.code, "invalid");
    assert_int_equal(far_client_stream(client, &stream, take, &taken, &error), 0);
    if (far_client_prove_signed(client, key, &seq, &error) != 0) {
        fail_msg("%s", error.message);
    }
    assert_true(seq > 0 && seq < far_test_api_last_seq(fixture));
    assert_int_equal(far_client_prove_signed(client, NULL, &seq, &error), 0);
    memset(other_key, '0', 64);
    other_key[64] = '\0';
    assert_int_equal(far_client_prove_signed(client, other_key, &seq, &error), -1);
    assert_string_equal(error.code, "corrupt");
    stream.from = "end";
    taken = (struct taken){0};
    assert_int_equal(far_client_stream(client, &stream, take, &taken, &error), 0);
    assert_int_equal(far_client_prove_signed(client, key, &seq, &error), -1);
    assert_string_equal(error.code, "not_found");

    sign_head(key, wrong); /* the servers signed something else than what they stream */
    stream.from = NULL;
    taken = (struct taken){0};
    assert_int_equal(far_client_stream(client, &stream, take, &taken, &error), 0);
    assert_int_equal(far_client_prove_signed(client, key, &seq, &error), -1);
    assert_non_null(strstr(error.message, "are not those that a majority signed"));
    far_client_free(client);
}

static void a_proof_goes_on_from_its_cursor(void **unused)
{
    struct far_client *client = client_of(fixture->url);
    struct far_client_error error;
    struct far_client_proven proven;
    struct taken taken = {.stop_after = 3};
    struct far_client_stream stream = {.version = FAR_CLIENT_STREAM_VERSION, .proof = FAR_CLIENT_PROOF_FULL};
    assert_int_equal(far_client_stream(client, &stream, take, &taken, &error), 0);
    taken.stop_after = 0;
    char cursor[128];
    snprintf(cursor, sizeof cursor, "%s", taken.cursor);
    stream.from = cursor;
    assert_int_equal(far_client_stream(client, &stream, take, &taken, &error), 0);
    far_client_proven(client, &proven);
    assert_int_equal(taken.events, far_test_api_last_seq(fixture));
    assert_head(&proven);
    /* the same place with another head */
    char *digit = strchr(cursor, '-') + 40;
    *digit = *digit == '0' ? '1' : '0';
    assert_int_equal(far_client_stream(client, &stream, take, &taken, &error), -1);
    assert_string_equal(error.code, "conflict");
    assert_non_null(strstr(error.message, "history"));
    far_client_free(client);
}

static void a_server_that_lags_keeps_the_cursor_it_was_given(void **unused)
{
    char request[1024], cursor[96];
    struct far_test_https *c = far_test_https_open(fixture->port, fixture->ca_path, 0);
    assert_non_null(c);
    snprintf(cursor, sizeof cursor, "%d-%064d", (int)far_test_api_last_seq(fixture) + 5, 7);
    int n = snprintf(request, sizeof request, "GET /v1/events?proof=full&from=%s HTTP/1.1\r\nHost: h\r\n%s\r\n", cursor, auth);
    assert_true(far_test_https_send(c, request, (size_t)n));
    snprintf(request, sizeof request, "event: heartbeat\nid: %s\n", cursor);
    assert_true(far_test_https_expect(c, request, 10000));
    assert_null(strstr(far_test_https_text(c), "event: start"));
    far_test_https_close(c);
}

/* ---- servers that lie ---- */

/* A server with a good certificate that answers every request with the same text. */
static struct {
    struct far_http *http;
    char url[64];
    char text[TEXT_MAX];
} liar;

static void lie(void *arg, struct far_http_exchange *exchange)
{
    struct far_buf out;
    far_buf_init(&out, TEXT_MAX);
    assert_int_equal(far_buf_append_str(&out, liar.text), 0);
    far_http_answer(exchange, 200, "text/event-stream", NULL, 0, &out);
}

static void gone(void *arg, struct far_http_exchange *exchange)
{
}

static void nothing(void *arg)
{
}

static void start_liar(void)
{
    static const struct far_http_callbacks callbacks = {lie, gone, nothing, nothing, NULL, NULL};
    char certificate[512], key[512];
    struct far_error err;
    snprintf(certificate, sizeof certificate, "%s/server-1.crt", fixture->dir);
    snprintf(key, sizeof key, "%s/server-1.key", fixture->dir);
    struct far_http_config config = {.address = "127.0.0.1:0", .certificate_path = certificate, .key_path = key,
                                     .body_max = 1000, .connections_max = 10, .stall_ms = 10000, .tick_ms = 1000};
    assert_int_equal(far_http_new(&config, &callbacks, NULL, &liar.http, &err), 0);
    assert_int_equal(far_http_start(liar.http, &err), 0);
    snprintf(liar.url, sizeof liar.url, "https://127.0.0.1:%d", far_http_port(liar.http));
}

/* The frames of an honest stream, to be falsified. */
static char honest[TEXT_MAX];
static char *frames[FRAMES_MAX];
static size_t frame_count;

static void split(void)
{
    snprintf(honest, sizeof honest, "%s", body);
    frame_count = 0;
    for (char *at = honest; *at != '\0';) {
        char *end = strstr(at, "\n\n");
        assert_non_null(end);
        *end = '\0';
        assert_true(frame_count < FRAMES_MAX);
        frames[frame_count++] = at;
        at = end + 2;
    }
}

static void join_frames(void)
{
    size_t len = 0;
    for (size_t i = 0; i < frame_count; i++) {
        len += (size_t)snprintf(liar.text + len, sizeof liar.text - len, "%s\n\n", frames[i]);
    }
}

static bool is_event(size_t i, const char *name)
{
    char line[64];
    snprintf(line, sizeof line, "event: %s\n", name);
    return name[0] == '\0' ? strncmp(frames[i], "id: ", 4) == 0 : strncmp(frames[i], line, strlen(line)) == 0;
}

static size_t find_frame(const char *name, size_t from)
{
    while (from < frame_count && !is_event(from, name)) {
        from++;
    }
    assert_true(from < frame_count);
    return from;
}

static void drop_frame(size_t i)
{
    memmove(&frames[i], &frames[i + 1], (frame_count - i - 1) * sizeof frames[0]);
    frame_count--;
}

/* Changes one byte behind the mark in a frame. */
static void flip(size_t i, const char *mark, size_t behind)
{
    char *at = strstr(frames[i], mark);
    assert_non_null(at);
    at += strlen(mark) + behind;
    *at = *at == '1' ? '2' : '1';
}

/* An event is told as one that the filter leaves out. */
static void hide(size_t i)
{
    static char frame[1024];
    uint8_t bytes[64 + 32 + 4], payload[4096];
    char text[160], *header = strstr(frames[i], "\"header\":\"") + 10, *at = strstr(frames[i], "\"payload\":\"") + 11;
    assert_int_equal(EVP_DecodeBlock(bytes, (const uint8_t *)header, 88), 66);
    size_t len = strcspn(at, "\"");
    int got = EVP_DecodeBlock(payload, (const uint8_t *)at, (int)len);
    got -= at[len - 1] == '=' ? 1 + (at[len - 2] == '=') : 0;
    SHA256(payload, (size_t)got, bytes + 64);
    EVP_EncodeBlock((uint8_t *)text, bytes, 96);
    snprintf(frame, sizeof frame, "event: skipped\n%.*s\ndata: {\"count\":1,\"events\":\"%s\"}", (int)strcspn(frames[i], "\n"),
             frames[i], text);
    frames[i] = frame;
}

enum lie_kind { HONEST, DROP, DROP_SKIPPED, CHANGE_PAYLOAD, CHANGE_HEADER, CHANGE_TOLD, TWICE, SWAP, HIDE, CHANGE_START, CHANGE_END,
                NO_PAYLOAD, NO_START, LIES };

static void falsify(enum lie_kind kind)
{
    size_t event = find_frame("", 1), second = find_frame("", event + 1);
    char *frame = frames[event];
    switch (kind) {
    case DROP:
        drop_frame(event);
        break;
    case DROP_SKIPPED:
        drop_frame(find_frame("skipped", 0));
        break;
    case CHANGE_PAYLOAD:
        flip(event, "\"payload\":\"", 3);
        break;
    case CHANGE_HEADER:
        flip(event, "\"header\":\"", 20);
        break;
    case CHANGE_TOLD:
        flip(event, "\"time_ms\":", 4);
        break;
    case TWICE:
        memmove(&frames[event + 1], &frames[event], (frame_count - event) * sizeof frames[0]);
        frame_count++;
        break;
    case SWAP:
        frames[event] = frames[second];
        frames[second] = frame;
        break;
    case HIDE:
        hide(event);
        break;
    case CHANGE_START:
        flip(0, "\"head\":\"", 5);
        break;
    case CHANGE_END:
        flip(frame_count - 1, "\"cursor\":\"", 0);
        flip(frame_count - 1, "id: ", 0);
        break;
    case NO_PAYLOAD:
        memcpy(strstr(frame, "\"payload\""), "\"paiload\"", 9);
        break;
    case NO_START:
        drop_frame(0);
        break;
    case HONEST:
    case LIES:
        break;
    }
}

static void a_server_that_lies_is_found_out(void **unused)
{
    static const char *const found[LIES] = {
        [DROP] = "came where event", [DROP_SKIPPED] = "came where event", [CHANGE_PAYLOAD] = "does not give the head",
        [CHANGE_HEADER] = "not what its header says", [CHANGE_TOLD] = "not what its header says", [TWICE] = "came where event",
        [SWAP] = "came where event", [HIDE] = "was left out", [CHANGE_START] = "head before the first", [CHANGE_END] = "the chain",
        [NO_PAYLOAD] = "without its payload", [NO_START] = "did not say where it begins",
    };
    struct far_client_stream stream = {.version = FAR_CLIENT_STREAM_VERSION, .from = "start", .kinds = "site_created",
                                       .proof = FAR_CLIENT_PROOF_FULL};
    start_liar();
    struct far_client *client = client_of(liar.url);
    for (enum lie_kind kind = HONEST; kind < LIES; kind++) {
        struct far_client_error error = {.code = ""};
        struct taken taken = {0};
        assert_int_equal(ask("GET", "/v1/events?follow=0&from=start&kind=site_created&proof=full", NULL), 200);
        split();
        falsify(kind);
        join_frames();
        int rc = far_client_stream(client, &stream, take, &taken, &error);
        print_message("# lie %d: %s\n", (int)kind, error.message);
        assert_int_equal(rc, kind == HONEST ? 0 : -1);
        assert_true(kind == HONEST || strcmp(error.code, "corrupt") == 0);
        assert_true(kind == HONEST || strstr(error.message, found[kind]) != NULL);
        assert_true(kind == HONEST || strstr(error.message, liar.url) != NULL);
    }
    far_client_free(client);
    far_http_stop(liar.http);
    far_http_free(liar.http);
}

/* ---- consumers ---- */

static uint64_t place_of(const char *name)
{
    char path[96];
    snprintf(path, sizeof path, "/v1/consumers/%s", name);
    assert_int_equal(ask("GET", path, NULL), 200);
    return (uint64_t)member("seq");
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void a_consumer_goes_on_where_it_acknowledged(void **unused)
{
    struct far_client *client = client_of(fixture->url), *acker = client_of(fixture->url);
    struct far_client_error error = {.code = ""};
    struct taken taken = {.stop_after = 5};
    assert_int_equal(ask("POST", "/v1/consumers", "{\"name\":\"audit\",\"from\":\"start\"}"), 201);
    assert_int_equal(ask("POST", "/v1/consumers", "{\"name\":\"audit\"}"), 409);
    assert_int_equal(ask("POST", "/v1/consumers", "{\"name\":\"late\"}"), 201);
    assert_true(place_of("late") > 5);
    assert_int_equal(place_of("audit"), 0);
    struct far_client_stream stream = {.version = FAR_CLIENT_STREAM_VERSION, .consumer = "audit",
                                       .proof = FAR_CLIENT_PROOF_FULL};
    assert_int_equal(far_client_stream(client, &stream, take, &taken, &error), 0);
    assert_int_equal(taken.last_seq, 5);
    assert_int_equal(far_client_ack(acker, "audit", taken.cursor, &error), 0);
    while (place_of("audit") != 5) {
        usleep(1000); /* far-poll */
    }
    assert_int_equal(member("lag"), far_test_api_last_seq(fixture) - 5);
    struct taken rest = {.stop_after = 1, .last_seq = 5};
    assert_int_equal(far_client_stream(client, &stream, take, &rest, &error), 0);
    assert_int_equal(rest.last_seq, 6);
    /* what is not of this history, or not there */
    assert_int_equal(ask("POST", "/v1/consumers/audit/ack", "{\"cursor\":\"6-0000000000000000\"}"), 409);
    assert_int_equal(ask("POST", "/v1/consumers/audit/ack", "{\"cursor\":\"999999\"}"), 503);
    assert_int_equal(ask("POST", "/v1/consumers/nosuch/ack", "{\"cursor\":\"6\"}"), 404);
    assert_int_equal(ask("POST", "/v1/consumers/audit/ack", "{\"cursor\":6}"), 400);
    assert_int_equal(ask("GET", "/v1/events?consumer=nosuch", NULL), 404);
    far_client_free(client);
    far_client_free(acker);
}

static void acknowledgements_are_gathered_and_never_streamed(void **unused)
{
    char json[64];
    assert_int_equal(ask("POST", "/v1/consumers", "{\"name\":\"busy\",\"from\":\"start\"}"), 201);
    uint64_t before = far_test_api_last_seq(fixture), began_ms = now_ms();
    for (unsigned seq = 1; seq <= 20; seq++) {
        snprintf(json, sizeof json, "{\"cursor\":\"%u\"}", seq);
        assert_int_equal(ask("POST", "/v1/consumers/busy/ack", json), 202);
    }
    uint64_t seconds = (now_ms() - began_ms) / 1000;
    assert_true(far_test_api_last_seq(fixture) - before <= 2 + seconds);
    while (place_of("busy") != 20) {
        usleep(1000); /* far-poll */
    }
    assert_int_equal(ask("GET", "/v1/events?follow=0&format=ndjson", NULL), 200);
    assert_null(strstr(body, "consumer_acked"));
    assert_non_null(strstr(body, "consumer_created"));
    /* one that comes late moves nothing back */
    assert_int_equal(ask("POST", "/v1/consumers/busy/ack", "{\"cursor\":\"3\"}"), 202);
    assert_int_equal(place_of("busy"), 20);
    assert_int_equal(ask("DELETE", "/v1/consumers/busy", NULL), 200);
    assert_int_equal(ask("GET", "/v1/consumers/busy", NULL), 404);
}

/* ---- the run ---- */

static int setup(void **unused)
{
    struct far_sub_disk_spec disk = {.name = S("root"), .locator = S("/a.img")};
    struct far_slice web = S("web");
    fixture = far_test_api_start(HEARTBEAT_MS);
    snprintf(auth, sizeof auth, "Authorization: Bearer %s\r\n", fixture->token);
    make_site("west", FAR_site_role_protected);
    make_site("east", FAR_site_role_recovery);
    APPLY_COMMAND(workload_create, .name = web, .site = S("west"), .adapter = S("file"), .disks = {&disk, 1});
    APPLY_COMMAND(plan_create, .name = S("gold"), .source_site = S("west"), .target_site = S("east"), .workloads = {&web, 1});
    APPLY_COMMAND(plan_start, .name = S("gold"));
    APPLY_COMMAND(plan_replicate, .name = S("gold"));
    return 0;
}

static int teardown(void **unused)
{
    far_test_api_stop(fixture);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_filtered_by_kind_severity_and_what_they_are_about),
        cmocka_unit_test(history_is_bounded_by_number_time_and_count),
        cmocka_unit_test(a_client_computes_every_head_by_itself),
        cmocka_unit_test(a_proof_goes_on_from_its_cursor),
        cmocka_unit_test(a_server_that_lags_keeps_the_cursor_it_was_given),
        cmocka_unit_test(a_server_that_lies_is_found_out),
        cmocka_unit_test(a_consumer_goes_on_where_it_acknowledged),
        cmocka_unit_test(acknowledgements_are_gathered_and_never_streamed),
        cmocka_unit_test(a_client_holds_its_chain_against_the_signed_head),
    };
    return cmocka_run_group_tests_name("streams", tests, setup, teardown);
}
