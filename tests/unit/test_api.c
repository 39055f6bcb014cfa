/* The API from outside, over TLS, with a real state behind it. */
#include "../lib/cm.h"

#include "../lib/api_fixture.h"
#include "../lib/https.h"

#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

enum { HEARTBEAT_MS = 300, WAIT_MS = 5000 };

static struct far_test_api *fixture;
static struct far_test_https *c;
static char auth[256];

/* On a new connection if the server ended the last one, as it does behind a stream. */
static int ask(const char *method, const char *path, const char *body)
{
    int status = far_test_https_request(c, method, path, auth, body);
    if (status == 0) {
        far_test_https_close(c);
        c = far_test_https_open(fixture->port, fixture->ca_path, 0);
        status = far_test_https_request(c, method, path, auth, body);
    }
    return status;
}

/* The member of the last answer, at most two names deep, as text. */
static const char *got(const char *name)
{
    static char text[4096];
    json_t *json = json_loads(far_test_https_body(c), 0, NULL);
    json_t *value = json_object_get(json, name);
    char *dumped = value == NULL ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    snprintf(text, sizeof text, "%s", json_is_string(value) ? json_string_value(value)
                                      : dumped != NULL      ? dumped
                                                            : "(none)");
    free(dumped);
    json_decref(json);
    return text;
}

static void assert_problem(int status, int wanted, const char *code, const char *detail)
{
    assert_int_equal(status, wanted);
    assert_non_null(strstr(far_test_https_text(c), "application/problem+json"));
    assert_string_equal(got("code"), code);
    if (strstr(got("detail"), detail) == NULL) {
        fail_msg("detail is: %s", got("detail"));
    }
}

static void what_is_created_is_listed_shown_and_removed(void **unused)
{
    assert_int_equal(ask("POST", "/v1/sites", "{\"name\":\"berlin\",\"role\":\"protected\"}"), 201);
    assert_string_equal(got("repeated"), "false");
    assert_non_null(strstr(far_test_https_text(c), "farshore-index: "));
    char id[32];
    snprintf(id, sizeof id, "%s", got("id"));
    assert_int_equal(ask("GET", "/v1/sites/berlin", NULL), 200);
    assert_string_equal(got("id"), id);
    assert_string_equal(got("role"), "protected");
    char path[64];
    snprintf(path, sizeof path, "/v1/sites/%s", id);
    assert_int_equal(ask("GET", path, NULL), 200);
    assert_string_equal(got("name"), "berlin");
    assert_int_equal(ask("GET", "/v1/sites?role=protected", NULL), 200);
    assert_non_null(strstr(far_test_https_body(c), "\"berlin\""));
    assert_int_equal(ask("GET", "/v1/sites?role=witness", NULL), 200);
    assert_string_equal(got("items"), "[]");
    assert_int_equal(ask("DELETE", "/v1/sites/berlin", NULL), 200);
    assert_problem(ask("GET", "/v1/sites/berlin", NULL), 404, "not_found", "berlin");
    assert_string_equal(got("object"), "berlin");
}

static void lists_page_by_cursor(void **unused)
{
    char body[128], path[128] = "/v1/sites?limit=3";
    for (int i = 0; i < 8; i++) {
        snprintf(body, sizeof body, "{\"name\":\"page-%d\",\"role\":\"recovery\"}", i);
        assert_int_equal(ask("POST", "/v1/sites", body), 201);
    }
    size_t seen = 0, pages = 0;
    for (bool more = true; more; pages++) {
        assert_int_equal(ask("GET", path, NULL), 200);
        json_t *json = json_loads(far_test_https_body(c), 0, NULL);
        seen += json_array_size(json_object_get(json, "items"));
        json_t *cursor = json_object_get(json, "cursor");
        more = !json_is_null(cursor);
        snprintf(path, sizeof path, "/v1/sites?limit=3&cursor=%lld", (long long)json_integer_value(cursor));
        json_decref(json);
        assert_true(pages < 10);
    }
    assert_int_equal(seen, 8);
    assert_int_equal(pages, 3);
    assert_problem(ask("GET", "/v1/sites?limit=1001", NULL), 400, "invalid", "limit");
    assert_problem(ask("GET", "/v1/sites?limit=0", NULL), 400, "invalid", "limit");
    assert_problem(ask("GET", "/v1/sites?colour=red", NULL), 400, "invalid", "colour");
    assert_problem(ask("GET", "/v1/sites?plan=x", NULL), 400, "invalid", "plan");
}

static void everything_is_denied_without_a_good_token(void **unused)
{
    static const char *const bad[] = {"", "Authorization: Bearer\r\n", "Authorization: Basic YTpi\r\n",
                                      "Authorization: Bearer far_00\r\n",
                                      ("Authorization: Bearer far_0123456789012345678901234567890123456789012345678901"
                                       "234567890123\r\n")};
    uint64_t seq = far_test_api_last_seq(fixture);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_problem(far_test_https_request(c, "GET", "/v1/cluster", bad[i], NULL), 401, "denied", "");
        assert_non_null(strstr(far_test_https_text(c), "www-authenticate: Bearer"));
        assert_int_equal(far_test_https_request(c, "POST", "/v1/sites", bad[i], "{\"name\":\"x\",\"role\":\"witness\"}"),
                         401);
        assert_int_equal(far_test_https_request(c, "GET", "/v1/events", bad[i], NULL), 401);
    }
    assert_int_equal(far_test_api_last_seq(fixture), seq);
    assert_int_equal(far_test_https_request(c, "GET", "/healthz", "", NULL), 200);
    assert_int_equal(far_test_https_request(c, "GET", "/readyz", "", NULL), 200);
    assert_int_equal(far_test_https_request(c, "GET", "/v1/openapi.json", "", NULL), 200);
}

static void backups_are_made_listed_and_read_in_pieces(void **unused)
{
    assert_int_equal(ask("POST", "/v1/cluster/backups", "{}"), 201);
    assert_non_null(strstr(far_test_https_text(c), "\"name\":\"7-1-1.farbackup\""));
    assert_int_equal(ask("POST", "/v1/cluster/backups?dry_run=true", "{}"), 200);
    assert_problem(ask("POST", "/v1/cluster/backups", "{\"name\":\"mine\"}"), 400, "invalid", "no field");
    assert_problem(ask("POST", "/v1/cluster/backups", "{"), 400, "invalid", "");
    assert_int_equal(ask("GET", "/v1/cluster/backups", NULL), 200);
    assert_non_null(strstr(far_test_https_text(c), "\"bytes\":8"));
    assert_int_equal(ask("GET", "/v1/cluster/backups/7-1-1.farbackup?from=2", NULL), 200);
    assert_non_null(strstr(far_test_https_text(c), "\"bytes\":\"6261636b7570\",\"next\":null"));
    assert_problem(ask("GET", "/v1/cluster/backups/8-1-1.farbackup", NULL), 404, "not_found", "8-1-1");
    assert_problem(ask("GET", "/v1/cluster/backups?at=1", NULL), 400, "invalid", "at");
    assert_problem(far_test_https_request(c, "GET", "/v1/cluster/backups/7-1-1.farbackup", "", NULL), 401, "denied", "");
}

static void a_policy_is_shown_and_set_only_whole(void **unused)
{
    uint64_t seq = far_test_api_last_seq(fixture);
    assert_int_equal(ask("GET", "/v1/log/retention", NULL), 200);
    assert_non_null(strstr(far_test_https_body(c), "{\"days\":30,\"bytes\":50000000000,\"first_seq\":1,\"progress_days\":30,"
                                                            "\"compacted_seq\":0}"));
    assert_int_equal(ask("GET", "/v1/cluster/recovery-policy", NULL), 200);
    assert_non_null(strstr(far_test_https_body(c), "{\"second_approval\":false}"));
    assert_problem(ask("POST", "/v1/log/retention", "{}"), 400, "invalid", "'days' is missing");
    assert_problem(ask("POST", "/v1/log/retention", "{\"days\":9}"), 400, "invalid", "'bytes' is missing");
    assert_problem(ask("POST", "/v1/cluster/recovery-policy", ""), 400, "invalid", "'second_approval' is missing");
    assert_int_equal(far_test_api_last_seq(fixture), seq);
    assert_int_equal(ask("POST", "/v1/log/retention", "{\"days\":9,\"bytes\":0}"), 200);
    assert_int_equal(ask("POST", "/v1/cluster/recovery-policy", "{\"second_approval\":true}"), 200);
    assert_int_equal(ask("GET", "/v1/log/retention", NULL), 200);
    assert_non_null(strstr(far_test_https_body(c), "\"days\":9,\"bytes\":50000000000,"));
    assert_int_equal(ask("GET", "/v1/cluster/recovery-policy", NULL), 200);
    assert_non_null(strstr(far_test_https_body(c), "true"));
}

static void a_time_to_come_is_no_moment(void **unused)
{
    assert_problem(ask("GET", "/v1/sites?at=2999-01-01T00:00:00Z", NULL), 400, "invalid", "to come");
    assert_problem(ask("GET", "/v1/log/diff?at=1&until=2999-01-01T00:00:00Z", NULL), 400, "invalid", "to come");
    assert_problem(ask("POST", "/v1/sites?dry_run=true&at=2999-01-01T00:00:00Z", "{\"name\":\"x\",\"role\":\"witness\"}"),
                   400, "invalid", "to come");
}

static void bad_bodies_are_named_and_change_nothing(void **unused)
{
    static const struct {
        const char *body, *detail;
    } bad[] = {
        {"", "'name' is missing"},
        {"{", "malformed JSON"},
        {"[]", "must be a JSON object"},
        {"{\"name\":\"a\"}", "'role' is missing"},
        {"{\"name\":\"a\",\"role\":\"boss\"}", "'role' must be one of 'protected' 'recovery' 'witness'"},
        {"{\"name\":7,\"role\":\"witness\"}", "'name' must be a string"},
        {"{\"name\":\"a\",\"role\":\"witness\",\"colour\":1}", "unknown field 'colour'"},
        {"{\"name\":\"a\",\"name\":\"b\",\"role\":\"witness\"}", "duplicate"},
        {"{\"name\":\"a\\u0000b\",\"role\":\"witness\"}", "malformed JSON"},
        {"{\"name\":\"\xff\",\"role\":\"witness\"}", "malformed JSON"},
        {"{\"name\":\"0123456789012345678901234567890123456789012345678901234567890123\",\"role\":\"witness\"}", "63 bytes"},
        {"{\"name\":{\"a\":[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}}", "nested deeper"},
    };
    uint64_t seq = far_test_api_last_seq(fixture);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_problem(ask("POST", "/v1/sites", bad[i].body), 400, "invalid", bad[i].detail);
    }
    char *large = malloc(FAR_API_BODY_MAX + 2);
    memset(large, ' ', FAR_API_BODY_MAX + 1);
    large[FAR_API_BODY_MAX + 1] = '\0';
    assert_problem(ask("POST", "/v1/sites", large), 413, "limit", "larger than 1048576 bytes");
    assert_string_equal(got("retry"), "never"); /* it will be as large the next time */
    free(large);
    far_test_https_close(c);
    c = far_test_https_open(fixture->port, fixture->ca_path, 0);
    assert_problem(ask("DELETE", "/v1/sites/a", "{\"name\":\"b\"}"), 400, "invalid", "unknown field 'name'");
    assert_problem(ask("POST", "/v1/jobs/abc/cancel", NULL), 400, "invalid", "'abc' is not an id");
    far_test_https_close(c);
    c = far_test_https_open(fixture->port, fixture->ca_path, 0);
    assert_int_equal(far_test_api_last_seq(fixture), seq);
}

static void unknown_paths_and_methods_are_told_apart(void **unused)
{
    assert_problem(ask("GET", "/v1/nothing", NULL), 404, "not_found", "no such path");
    assert_problem(ask("GET", "/v1/sites/a/b", NULL), 404, "not_found", "");
    assert_problem(ask("GET", "/v1/sites/a%2fb", NULL), 404, "not_found", "");
    assert_problem(ask("PUT", "/v1/sites", "{}"), 405, "invalid", "PUT");
    assert_non_null(strstr(far_test_https_text(c), "allow: GET, HEAD, POST\r\n"));
    assert_problem(ask("DELETE", "/v1/cluster", NULL), 405, "invalid", "DELETE");
    assert_non_null(strstr(far_test_https_text(c), "allow: GET, HEAD\r\n"));
}

static void what_breaks_a_limit_of_http_is_told_the_limit(void **unused)
{
    static const char *const strange[] = {"BREW /pot HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS /v1/sites HTTP/1.1\r\nHost: h\r\n\r\n"};
    char headers[2000] = "Accept: ";
    memset(headers + strlen(headers), 'a', 1200);
    strcat(headers, "\r\n");
    struct far_test_https *saved = c;
    c = far_test_https_open(fixture->port, fixture->ca_path, 0);
    assert_problem(far_test_https_request(c, "GET", "/v1/sites", headers, NULL), 431, "limit", "Accept is longer than 1100 bytes");
    assert_string_equal(got("retry"), "never");
    for (int i = 0; i < 2; i++) {
        far_test_https_close(c);
        c = far_test_https_open(fixture->port, fixture->ca_path, 0);
        assert_true(far_test_https_send(c, strange[i], strlen(strange[i])));
        assert_problem(far_test_https_answer(c), 405, "invalid", "is not known here");
        assert_non_null(strstr(far_test_https_text(c), "allow: GET, HEAD, POST"));
    }
    far_test_https_close(c);
    c = saved;
}

/* UUIDs of version 7: each behind the one before it, also within a millisecond. */
static void ids_of_commands_follow_each_other(void **unused)
{
    char before[40] = "", body[64];
    for (int i = 0; i < 20; i++) {
        snprintf(body, sizeof body, "{\"name\":\"follows-%d\",\"role\":\"witness\"}", i);
        assert_int_equal(far_test_https_request(c, "POST", "/v1/sites", auth, body), 201);
        const char *id = got("command_id");
        assert_int_equal(strlen(id), 32);
        assert_int_equal(id[12], '7');
        assert_non_null(strchr("89ab", id[16]));
        assert_true(strcmp(id, before) > 0);
        snprintf(before, sizeof before, "%s", id);
    }
}

static void a_repeated_command_gets_its_first_answer(void **unused)
{
    char headers[512], id[32];
    snprintf(headers, sizeof headers, "%sIdempotency-Key: 6b1f1c1e-0000-4000-8000-0123456789ab\r\n", auth);
    const char *body = "{\"name\":\"again\",\"role\":\"witness\"}";
    assert_int_equal(far_test_https_request(c, "POST", "/v1/sites", headers, body), 201);
    assert_string_equal(got("command_id"), "6b1f1c1e0000400080000123456789ab");
    snprintf(id, sizeof id, "%s", got("id"));
    uint64_t seq = far_test_api_last_seq(fixture);
    assert_int_equal(far_test_https_request(c, "POST", "/v1/sites", headers, body), 201);
    assert_string_equal(got("id"), id);
    assert_string_equal(got("repeated"), "true");
    assert_int_equal(far_test_api_last_seq(fixture), seq);
    assert_problem(far_test_https_request(c, "POST", "/v1/sites", headers, "{\"name\":\"other\",\"role\":\"witness\"}"), 409,
                   "conflict", "");
    assert_problem(ask("POST", "/v1/sites", body), 409, "conflict", "again");
    snprintf(headers, sizeof headers, "%sIdempotency-Key: nonsense\r\n", auth);
    assert_problem(far_test_https_request(c, "POST", "/v1/sites", headers, body), 400, "invalid", "Idempotency-Key");
}

static int patch(const char *if_match, const char *body)
{
    char headers[512];
    snprintf(headers, sizeof headers, "%s%s%s%s", auth, if_match != NULL ? "If-Match: " : "", if_match != NULL ? if_match : "",
             if_match != NULL ? "\r\n" : "");
    return far_test_https_request(c, "PATCH", "/v1/workloads/patched", headers, body);
}

static void a_patch_changes_what_it_names_of_the_revision_that_it_saw(void **unused)
{
    if (ask("GET", "/v1/sites/patchville", NULL) != 200) {
        assert_int_equal(ask("POST", "/v1/sites", "{\"name\":\"patchville\",\"role\":\"protected\"}"), 201);
    }
    assert_int_equal(ask("POST", "/v1/workloads", "{\"name\":\"patched\",\"site\":\"patchville\",\"adapter\":\"file\","
                                                  "\"disks\":[{\"name\":\"a\",\"locator\":\"/d/a\"}]}"), 201);
    assert_int_equal(ask("GET", "/v1/workloads/patched", NULL), 200);
    assert_non_null(strstr(far_test_https_text(c), "etag: \"0\""));
    assert_int_equal(patch("\"0\"", "{\"description\":\"the books\",\"labels\":[{\"key\":\"owner\",\"value\":\"ann\"}]}"), 200);
    assert_problem(patch("\"0\"", "{\"description\":\"mine\"}"), 409, "conflict", "revision 1");
    assert_int_equal(patch("*", "{\"description\":null,\"disks\":[{\"name\":\"a\",\"locator\":\"/d/b\"}]}"), 200);
    assert_problem(patch("3 4", "{\"description\":\"x\"}"), 400, "invalid", "If-Match");
    assert_problem(patch(NULL, "{\"revision\":1,\"description\":\"x\"}"), 409, "conflict", "revision 2");
    assert_problem(patch(NULL, "{\"revision\":\"x\",\"description\":\"x\"}"), 400, "invalid", "revision");
    assert_problem(patch(NULL, "{\"name\":\"other\"}"), 400, "invalid", "name");
    assert_problem(patch(NULL, "{\"site\":null}"), 400, "invalid", "site");
    assert_problem(patch(NULL, "{}"), 400, "invalid", "nothing to change");
    assert_int_equal(ask("GET", "/v1/workloads/patched", NULL), 200);
    assert_non_null(strstr(far_test_https_text(c), "etag: \"2\""));
    assert_non_null(strstr(far_test_https_text(c), "\"owner\""));
    assert_non_null(strstr(far_test_https_text(c), "/d/b"));
    assert_null(strstr(far_test_https_text(c), "the books"));
}

/* What would be passed over in silence is refused. */
static void what_does_not_fit_is_said(void **unused)
{
    char headers[512];
    static const char *const events[] = {"2026-02-30T00:00:00Z", "2026-02-29T00:00:00Z", "2023-11-14T22:13:20+24:00"};
    static const char *const pieces[] = {"end", "2023-11-14T22:13:20Z", "@0", "3-0011223344556677"};
    char path[200];
    snprintf(headers, sizeof headers, "%sIf-Match: \"1\"\r\n", auth);
    assert_problem(far_test_https_request(c, "DELETE", "/v1/workloads/patched", headers, NULL), 400, "invalid", "If-Match does not fit");
    assert_problem(far_test_https_request(c, "POST", "/v1/sites", headers, "{\"name\":\"x\",\"role\":\"recovery\"}"), 400, "invalid",
                   "If-Match does not fit");
    assert_problem(patch("\"2\"", "{\"revision\":3,\"description\":\"x\"}"), 400, "invalid", "different revisions");
    assert_problem(ask("POST", "/v1/tokens", "{\"name\":\"sited\",\"purpose\":\"api\",\"site\":\"patchville\"}"), 400, "invalid", "'site'");
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        snprintf(path, sizeof path, "/v1/events?follow=0&from=%.19s%s", events[i], events[i][19] == '+' ? "%2B24:00" : "Z");
        assert_problem(ask("GET", path, NULL), 400, "invalid", "");
    }
    assert_int_equal(ask("GET", "/v1/events?follow=0&from=2023-11-14T22:13:20%2B05:00&format=ndjson", NULL), 200);
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        snprintf(path, sizeof path, "/v1/log/export?from=%s", pieces[i]);
        assert_problem(ask("GET", path, NULL), 400, "invalid", "'from' must be a number");
        snprintf(path, sizeof path, "/v1/cluster/backups/7-1-1.farbackup?from=%s", pieces[i]);
        assert_problem(ask("GET", path, NULL), 400, "invalid", "'from' must be a number");
    }
    assert_problem(ask("GET", "/v1/events?follow=0&from=99999", NULL), 503, "busy", "event 99999 has not come");
    assert_int_equal(ask("GET", "/v1/log/head", NULL), 200);
    snprintf(path, sizeof path, "/v1/events?follow=0&format=ndjson&from=%lld", atoll(got("seq")) + 1);
    assert_int_equal(ask("GET", path, NULL), 200); /* the next one */
}

static void reads_wait_for_the_index_they_name(void **unused)
{
    assert_int_equal(ask("GET", "/v1/log/head?min_index=1", NULL), 200);
    assert_problem(ask("GET", "/v1/log/head?min_index=999999", NULL), 504, "timeout", "");
    assert_int_equal(ask("GET", "/v1/log/head?consistency=linearizable", NULL), 200);
    assert_int_equal(strlen(got("digest")), 32);
    assert_int_equal(strlen(got("head")), 64);
    assert_problem(ask("GET", "/v1/log/head?consistency=perhaps", NULL), 400, "invalid", "consistency");
}

static void a_stale_server_says_so(void **unused)
{
    far_test_api_stale(fixture, true);
    assert_int_equal(ask("GET", "/v1/sites", NULL), 200);
    assert_non_null(strstr(far_test_https_text(c), "farshore-stale: true"));
    assert_problem(ask("GET", "/readyz", NULL), 503, "busy", "");
    far_test_api_stale(fixture, false);
    assert_int_equal(ask("GET", "/v1/sites", NULL), 200);
    assert_null(strstr(far_test_https_text(c), "farshore-stale"));
}

static void what_the_log_refuses_reaches_the_client_with_its_class(void **unused)
{
    static const struct {
        int klass, status;
        const char *code, *retry;
    } cases[] = {{FAR_BUSY, 503, "busy", "later"}, {FAR_UNKNOWN_OUTCOME, 504, "unknown_outcome", "same_id"},
                 {FAR_LIMIT, 507, "limit", "later"}, {FAR_NOT_LEADER, 503, "not_leader", "elsewhere"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        far_test_api_refuse(fixture, cases[i].klass);
        assert_problem(ask("POST", "/v1/sites", "{\"name\":\"r\",\"role\":\"witness\"}"), cases[i].status, cases[i].code,
                       "refused by the test");
        assert_string_equal(got("retry"), cases[i].retry);
    }
    far_test_api_refuse(fixture, 0);
}

static void a_token_is_shown_once_and_can_be_revoked(void **unused)
{
    const char *body = "{\"name\":\"ci\",\"purpose\":\"api\",\"secret\":"
                       "\"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"}";
    assert_int_equal(ask("POST", "/v1/tokens", body), 201);
    const char *text = "far_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    assert_string_equal(got("token"), text);
    char id[32], headers[256], path[64];
    snprintf(id, sizeof id, "%s", got("id"));
    snprintf(headers, sizeof headers, "Authorization: Bearer %s\r\n", text);
    assert_int_equal(far_test_https_request(c, "GET", "/v1/tokens", headers, NULL), 200);
    assert_null(strstr(far_test_https_body(c), "hash"));
    assert_null(strstr(far_test_https_body(c), "00112233"));
    assert_non_null(strstr(far_test_https_body(c), "\"ci\""));
    assert_int_equal(ask("GET", "/v1/tokens?limit=1", NULL), 200);
    assert_string_not_equal(got("cursor"), "null");
    assert_int_equal(ask("GET", "/v1/events?follow=0&format=ndjson", NULL), 200);
    assert_null(strstr(far_test_https_body(c), "\"hash\""));
    assert_null(strstr(far_test_https_body(c), "token_hash"));
    snprintf(path, sizeof path, "/v1/tokens/%s", id);
    assert_int_equal(ask("DELETE", path, NULL), 200);
    assert_int_equal(far_test_https_request(c, "GET", "/v1/tokens", headers, NULL), 401);
}

static void a_join_token_names_where_to_go(void **unused)
{
    ask("POST", "/v1/sites", "{\"name\":\"joinsite\",\"role\":\"recovery\"}");
    assert_int_equal(ask("POST", "/v1/tokens", "{\"name\":\"n9\",\"purpose\":\"join_node\",\"site\":\"joinsite\"}"), 201);
    struct far_join_token token;
    char text[FAR_JOIN_TOKEN_TEXT_MAX], body[8192];
    snprintf(text, sizeof text, "%s", got("token"));
    assert_int_equal(far_join_token_parse(text, strlen(text), &token, NULL), 0);
    assert_string_equal(token.addresses[0], fixture->url + 8);
    snprintf(body, sizeof body, "{\"token\":\"%s\",\"csr\":\"CSR\",\"name\":\"n9\",\"party\":\"node\"}", text);
    assert_int_equal(far_test_https_request(c, "POST", "/v1/join", "", body), 201);
    assert_string_equal(got("certificate"), "CSR");
    assert_string_equal(got("id"), "9");
    assert_string_equal(got("servers"), "[{\"id\":1,\"address\":\"127.0.0.1:5001\"}]");
    assert_problem(far_test_https_request(c, "POST", "/v1/join", "", "{\"token\":\"x\",\"csr\":\"C\",\"name\":\"n\","
                                          "\"party\":\"king\"}"), 400, "invalid", "party");
    assert_problem(far_test_https_request(c, "POST", "/v1/join", "", "{\"token\":\"x\",\"csr\":\"C\",\"name\":\"n\","
                                          "\"party\":\"server\"}"), 400, "invalid", "seal_key");
    assert_problem(far_test_https_request(c, "POST", "/v1/join", "", "{\"csr\":\"C\"}"), 400, "invalid", "token");
    assert_problem(far_test_https_request(c, "POST", "/v1/join", "", "{\"token\":\"x\",\"csr\":\"C\",\"name\":\"n\","
                                          "\"party\":\"node\"}"), 400, "invalid", "");
}

static void the_cluster_shows_its_members(void **unused)
{
    assert_int_equal(ask("GET", "/v1/cluster", NULL), 200);
    assert_non_null(strstr(got("cluster"), "\"test\""));
    assert_non_null(strstr(got("cluster"), "\"recovery_public_key\"")); /* not one to keep secret, nor named like one */
    assert_null(strstr(got("cluster"), "\"recovery_key\""));
    assert_non_null(strstr(got("members"), "\"s1\""));
    assert_non_null(strstr(got("members"), "\"voter\""));
    assert_int_equal(ask("GET", "/v1/servers/s1", NULL), 200);
    assert_int_equal(ask("GET", "/v1/servers", NULL), 200);
}

/* ---- events ---- */

static struct far_test_https *follow(const char *path, const char *headers)
{
    struct far_test_https *client = far_test_https_open(fixture->port, fixture->ca_path, 0);
    char request[1024];
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: h\r\n%s%s\r\n", path, auth, headers);
    assert_non_null(client);
    assert_true(far_test_https_send(client, request, (size_t)n));
    return client;
}

static void make_site(const char *name)
{
    struct far_cmd_site_create site = {.name = far_slice_str(name), .role = FAR_site_role_witness};
    assert_int_equal(far_test_api_apply(fixture, &far_schema_cmd_site_create, &site), 0);
}

static void events_are_followed_as_they_happen_and_resumed_by_cursor(void **unused)
{
    struct far_test_https *f = follow("/v1/events?from=end", "");
    assert_true(far_test_https_expect(f, "text/event-stream", WAIT_MS));
    make_site("follow-1");
    assert_true(far_test_https_expect(f, "follow-1", WAIT_MS));
    make_site("follow-2");
    assert_true(far_test_https_expect(f, "follow-2", WAIT_MS));
    assert_true(far_test_https_expect(f, "\n\n", WAIT_MS));
    const char *at = strstr(far_test_https_text(f), "follow-1");
    char cursor[64] = "";
    while (strncmp(at, "\nid: ", 5) != 0) { /* back to the cursor behind that event */
        at--;
    }
    snprintf(cursor, sizeof cursor, "%.*s", (int)strcspn(at + 5, "\n"), at + 5);
    far_test_https_close(f);

    char header[128];
    snprintf(header, sizeof header, "Last-Event-ID: %s\r\n", cursor);
    f = follow("/v1/events", header);
    assert_true(far_test_https_expect(f, "follow-2", WAIT_MS));
    assert_null(strstr(far_test_https_text(f), "follow-1"));
    far_test_https_close(f);

    /* the same place in another history */
    char *digit = strchr(cursor, '-') + 1;
    *digit = *digit == '0' ? '1' : '0';
    char path[128];
    snprintf(path, sizeof path, "/v1/events?from=%s", cursor);
    assert_problem(ask("GET", path, NULL), 409, "conflict", "history");
    assert_problem(ask("GET", "/v1/events?from=1-zz", NULL), 400, "invalid", "");
}

static void heartbeats_carry_the_cursor_when_nothing_matches(void **unused)
{
    struct far_test_https *f = follow("/v1/events?from=end&kind=site_created", "");
    assert_true(far_test_https_expect(f, "event: heartbeat\nid: ", WAIT_MS));
    far_test_https_drop(f);
    assert_true(far_test_https_expect(f, "\"cursor\":", WAIT_MS));
    far_test_https_close(f);
    assert_problem(ask("GET", "/v1/events?kind=nonsense", NULL), 400, "invalid", "nonsense");
}

static void history_ends_where_it_was_asked_to(void **unused)
{
    char path[128];
    make_site("bounded");
    uint64_t last = far_test_api_last_seq(fixture);
    assert_int_equal(ask("GET", "/v1/events?follow=0&format=ndjson", NULL), 200);
    const char *line = far_test_https_body(c);
    uint64_t lines = 0;
    for (; strncmp(line, "{\"end\":", 7) != 0; lines++) {
        json_t *event = json_loadb(line, strcspn(line, "\n"), 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(event, "seq")), lines + 1);
        json_decref(event);
        line += strcspn(line, "\n") + 1;
    }
    assert_int_equal(lines, last);
    assert_non_null(strstr(line, "\"more\":false")); /* it says itself that it is at its end */
    far_test_https_close(c);
    c = far_test_https_open(fixture->port, fixture->ca_path, 0);
    snprintf(path, sizeof path, "/v1/events?follow=0&format=ndjson&from=%llu", (unsigned long long)last - 3);
    assert_int_equal(ask("GET", path, NULL), 200);
    assert_non_null(strstr(far_test_https_body(c), "bounded"));
    far_test_https_close(c);
    c = far_test_https_open(fixture->port, fixture->ca_path, 0);
}

static void many_events_arrive_whole_and_in_order(void **unused)
{
    enum { MANY = 1500 };
    char name[32];
    uint64_t before = far_test_api_last_seq(fixture);
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "many-%d", i);
        make_site(name);
    }
    char path[128];
    snprintf(path, sizeof path, "/v1/events?follow=0&format=ndjson&from=%llu", (unsigned long long)before + 1);
    struct far_test_https *f = follow(path, "");
    assert_int_equal(far_test_https_answer(f), 200);
    const char *line = far_test_https_body(f);
    for (uint64_t seq = before + 1; seq <= far_test_api_last_seq(fixture); seq++) {
        json_t *event = json_loadb(line, strcspn(line, "\n"), 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(event, "seq")), seq);
        json_decref(event);
        line += strcspn(line, "\n") + 1;
    }
    assert_memory_equal(line, "{\"end\":", 7);
    far_test_https_close(f);
}

static void a_cursor_before_the_kept_history_is_refused(void **unused)
{
    far_test_api_trim(fixture, 3);
    assert_problem(ask("GET", "/v1/events?from=1", NULL), 404, "not_found", "oldest here is 3");
    far_test_api_trim(fixture, 1);
}

static void a_server_that_still_fetches_older_events_sends_elsewhere(void **unused)
{
    static const char *const older[] = {"/v1/events?follow=false&from=start", "/v1/events?follow=false&from=1",
                                        "/v1/events?follow=false&from=1970-01-01T00:00:00Z"};
    far_test_api_trim(fixture, 3);
    far_test_api_other(fixture, 2, 1);
    for (size_t i = 0; i < sizeof older / sizeof older[0]; i++) {
        assert_problem(ask("GET", older[i], NULL), 503, "busy", "ask server 2");
    }
    assert_problem(ask("POST", "/v1/consumers", "{\"name\":\"late\",\"from\":\"start\"}"), 503, "busy", "ask server 2");
    assert_int_equal(ask("GET", "/v1/events?follow=false&from=3&limit=1", NULL), 200);
    far_test_api_other(fixture, 2, 3); /* nobody has older ones: that is the beginning */
    assert_int_equal(ask("GET", "/v1/events?follow=false&from=start&limit=1", NULL), 200);
    far_test_api_other(fixture, 2, 0);
    far_test_api_trim(fixture, 1);
}

static void a_stream_ends_at_once_when_its_token_is_revoked(void **unused)
{
    char saved[sizeof auth], id[32], path[64];
    assert_int_equal(ask("POST", "/v1/tokens", "{\"name\":\"short\",\"purpose\":\"api\"}"), 201);
    snprintf(id, sizeof id, "%s", got("id"));
    memcpy(saved, auth, sizeof saved);
    snprintf(auth, sizeof auth, "Authorization: Bearer %s\r\n", got("token"));
    struct far_test_https *f = follow("/v1/events?from=end", "");
    assert_true(far_test_https_expect(f, "text/event-stream", WAIT_MS));
    memcpy(auth, saved, sizeof auth);
    snprintf(path, sizeof path, "/v1/tokens/%s", id);
    assert_int_equal(ask("DELETE", path, NULL), 200);
    assert_true(far_test_https_expect(f, "event: problem", WAIT_MS));
    assert_non_null(strstr(far_test_https_text(f), "denied"));
    assert_non_null(strstr(far_test_https_text(f), "token 'short' was revoked\""));
    assert_null(strstr(far_test_https_text(f), "token_revoked")); /* nothing comes behind the revocation */
    far_test_https_close(f);
}

static void a_client_that_leaves_before_its_answer_costs_nothing(void **unused)
{
    far_test_api_hold(fixture, true);
    for (int i = 0; i < 5; i++) {
        struct far_test_https *f = far_test_https_open(fixture->port, fixture->ca_path, 0);
        char request[512];
        int n = snprintf(request, sizeof request, "DELETE /v1/sites/page-%d HTTP/1.1\r\nHost: h\r\n%s\r\n", i, auth);
        uint64_t seq = far_test_api_last_seq(fixture);
        assert_true(far_test_https_send(f, request, (size_t)n));
        for (int wait = 0; wait < 1000 && far_test_api_last_seq(fixture) == seq; wait++) {
            usleep(1000); /* far-poll */
        }
        far_test_https_close(f);
    }
    far_test_api_hold(fixture, false);
    assert_int_equal(ask("GET", "/v1/log/head", NULL), 200);
}

static int setup(void **unused)
{
    fixture = far_test_api_start(HEARTBEAT_MS);
    snprintf(auth, sizeof auth, "Authorization: Bearer %s\r\n", fixture->token);
    c = far_test_https_open(fixture->port, fixture->ca_path, 0);
    return c == NULL;
}

static int teardown(void **unused)
{
    far_test_https_close(c);
    far_test_api_stop(fixture);
    return 0;
}

/* More of them than a stranger may keep idle: who showed a token keeps his connections. */
static void connections_of_known_clients_stay_however_many(void **unused)
{
    enum { MANY = 150 };
    struct far_test_https *clients[MANY];
    for (int i = 0; i < MANY; i++) {
        clients[i] = far_test_https_open(fixture->port, fixture->ca_path, 0);
        assert_non_null(clients[i]);
        assert_int_equal(far_test_https_request(clients[i], "GET", "/v1/sites", auth, NULL), 200);
    }
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(far_test_https_request(clients[i], "GET", "/v1/sites", auth, NULL), 200);
        far_test_https_close(clients[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_created_is_listed_shown_and_removed),
        cmocka_unit_test(lists_page_by_cursor),
        cmocka_unit_test(connections_of_known_clients_stay_however_many),
        cmocka_unit_test(everything_is_denied_without_a_good_token),
        cmocka_unit_test(backups_are_made_listed_and_read_in_pieces),
        cmocka_unit_test(a_policy_is_shown_and_set_only_whole),
        cmocka_unit_test(a_time_to_come_is_no_moment),
        cmocka_unit_test(bad_bodies_are_named_and_change_nothing),
        cmocka_unit_test(unknown_paths_and_methods_are_told_apart),
        cmocka_unit_test(what_breaks_a_limit_of_http_is_told_the_limit),
        cmocka_unit_test(ids_of_commands_follow_each_other),
        cmocka_unit_test(a_repeated_command_gets_its_first_answer),
        cmocka_unit_test(a_patch_changes_what_it_names_of_the_revision_that_it_saw),
        cmocka_unit_test(what_does_not_fit_is_said),
        cmocka_unit_test(reads_wait_for_the_index_they_name),
        cmocka_unit_test(a_stale_server_says_so),
        cmocka_unit_test(what_the_log_refuses_reaches_the_client_with_its_class),
        cmocka_unit_test(a_token_is_shown_once_and_can_be_revoked),
        cmocka_unit_test(a_join_token_names_where_to_go),
        cmocka_unit_test(the_cluster_shows_its_members),
        cmocka_unit_test(events_are_followed_as_they_happen_and_resumed_by_cursor),
        cmocka_unit_test(heartbeats_carry_the_cursor_when_nothing_matches),
        cmocka_unit_test(history_ends_where_it_was_asked_to),
        cmocka_unit_test(many_events_arrive_whole_and_in_order),
        cmocka_unit_test(a_cursor_before_the_kept_history_is_refused),
        cmocka_unit_test(a_server_that_still_fetches_older_events_sends_elsewhere),
        cmocka_unit_test(a_stream_ends_at_once_when_its_token_is_revoked),
        cmocka_unit_test(a_client_that_leaves_before_its_answer_costs_nothing),
    };
    return cmocka_run_group_tests_name("api", tests, setup, teardown);
}
