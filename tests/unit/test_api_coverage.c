/* Coverage, alerts and resync from outside: what lists, objects, filters and estimates say of a disk whose platform's list of changes
 * was wrong, and what a person does about it. */
#include "../lib/cm.h"

#include "../lib/api_fixture.h"
#include "../lib/fsm_world.h"
#include "../lib/https.h"

#include <jansson.h>
#include <stdlib.h>

enum { SEND = 4, RECEIVE = 5 };

static struct far_test_api *fixture;
static struct far_test_https *c;
static struct world w;
static char auth[256];
static uint64_t nodes[2], alert_id, suspect_id;
static const uint8_t secret[32] = {5};

static int ask(const char *method, const char *path, const char *body)
{
    int status = far_test_https_request(c, method, path, auth, body);
    if (status == 0) { /* the server ended the connection with the answer before */
        far_test_https_close(c);
        c = far_test_https_open(fixture->port, fixture->ca_path, 0);
        status = far_test_https_request(c, method, path, auth, body);
    }
    return status;
}

static json_t *answer(void)
{
    json_t *json = json_loads(far_test_https_body(c), 0, NULL);
    if (json == NULL) {
        fail_msg("no JSON: %s", far_test_https_text(c));
    }
    return json;
}

static json_t *get(const char *path)
{
    int status = ask("GET", path, NULL);
    if (status != 200) {
        fail_msg("%s: %d %s", path, status, far_test_https_body(c));
    }
    return answer();
}

static json_int_t number(const json_t *json, const char *name)
{
    assert_true(json_is_integer(json_object_get(json, name)));
    return json_integer_value(json_object_get(json, name));
}

static const char *text(const json_t *json, const char *name)
{
    assert_true(json_is_string(json_object_get(json, name)));
    return json_string_value(json_object_get(json, name));
}

/* ---- the world ---- */

/* Two full points and one that goes by a list, then one whose audit finds a block that no list named. */
static void make_world(void)
{
    static const char *const gold[] = {"web"}, *const idle[] = {"db"};
    static uint8_t root[32] = {4};
    struct far_sub_block_range range = {.first_block = 100, .block_count = 2};
    struct far_row_alert alert = {.id = 0};
    struct far_key key = far_key(&far_schema_row_alert);
    uint8_t hash[32];
    world_init(&w);
    w.lists = true;
    world_cluster(&w);
    nodes[0] = world_node(&w, "n1", "paris");
    nodes[1] = world_node(&w, "n2", "lyon");
    uint64_t workload = world_workload(&w, "web", 1);
    world_workload(&w, "db", 2);
    world_plan(&w, "gold", gold, 1);
    world_plan(&w, "idle", idle, 1);
    for (unsigned i = 0; i < 2; i++) {
        MUST(&w, plan_replicate, .name = S("gold"));
        world_work_all(&w, nodes, 2);
    }
    suspect_id = world_row_workload(&w, workload).last_point_id;
    uint64_t job_id = MUST(&w, plan_replicate, .name = S("gold"));
    world_work(&w, nodes[0]);
    struct far_sub_report_item item = {.state = FAR_report_state_done, .root = far_slice(root, 32)};
    struct far_row_task receive = world_row_task(&w, job_id, RECEIVE), send = world_row_task(&w, job_id, SEND);
    assert_int_equal(world_report(&w, &receive, item), 0);
    item.missed_block_count = 2;
    item.missed = (struct far_list){.items = &range, .count = 1};
    item.audit_next_block = 200;
    assert_int_equal(world_report(&w, &send, item), 0);
    world_work_all(&w, nodes, 2);
    assert_int_equal(far_state_next(&w.state, &far_schema_row_alert, &key, &w.arena, NULL, &alert, &w.err), 0);
    alert_id = alert.id;
    far_token_hash(secret, hash);
    MUST(&w, token_create, .name = S("test"), .purpose = FAR_token_purpose_api, .hash = far_slice(hash, 32));
}

static int start(void **unused)
{
    char token[FAR_API_TOKEN_TEXT_MAX];
    fixture = far_test_api_start(0);
    far_api_token_print(secret, token);
    snprintf(auth, sizeof auth, "Authorization: Bearer %s\r\n", token);
    far_test_api_become(fixture, far_buf_slice(&w.log));
    c = far_test_https_open(fixture->port, fixture->ca_path, 0);
    return c == NULL;
}

static int stop(void **unused)
{
    far_test_https_close(c);
    far_test_api_stop(fixture);
    return 0;
}

/* ---- */

static void alerts_are_listed_shown_and_acknowledged(void **unused)
{
    char path[64], cleared[80];
    json_t *list = get("/v1/alerts?state=raised&kind=change_list_missed&plan=gold&workload=web");
    const json_t *items = json_object_get(list, "items");
    assert_int_equal(json_array_size(items), 1);
    assert_string_equal(text(json_array_get(items, 0), "workload"), "web");
    assert_string_equal(text(json_array_get(items, 0), "plan"), "gold");
    json_decref(list);
    list = get("/v1/alerts?plan=idle");
    assert_int_equal(json_array_size(json_object_get(list, "items")), 0);
    json_decref(list);
    assert_int_equal(ask("GET", "/v1/alerts?site=paris", NULL), 400);
    snprintf(path, sizeof path, "/v1/alerts/%llu/ack", (unsigned long long)alert_id);
    assert_int_equal(ask("POST", path, "{\"note\":\"told the vendor\"}"), 200);
    assert_int_equal(ask("POST", path, NULL), 200); /* again, without effect */
    snprintf(path, sizeof path, "/v1/alerts/%llu", (unsigned long long)alert_id);
    json_t *alert = get(path);
    assert_string_equal(text(alert, "state"), "acknowledged");
    assert_string_equal(text(alert, "note"), "told the vendor");
    assert_string_equal(text(alert, "kind"), "change_list_missed");
    assert_non_null(strstr(text(alert, "message"), "missed 2 blocks"));
    json_decref(alert);
    assert_int_equal(ask("GET", "/v1/alerts/9999", NULL), 404);
    assert_int_equal(ask("POST", "/v1/alerts/9999/ack", NULL), 404);
    snprintf(cleared, sizeof cleared, "/v1/log/explain?object=alert:%llu", (unsigned long long)alert_id);
    json_decref(get(cleared));
}

static void events_tell_which_ranges_and_points(void **unused)
{
    char path[128];
    snprintf(path, sizeof path, "/v1/events?follow=0&format=ndjson&from=1&kind=change_list_missed,points_suspected&subject=point:%llu",
             (unsigned long long)suspect_id);
    assert_int_equal(ask("GET", path, NULL), 200);
    assert_non_null(strstr(far_test_https_body(c), "\"points_suspected\""));
    assert_null(strstr(far_test_https_body(c), "\"change_list_missed\"")); /* it names the disk */
    snprintf(path, sizeof path, "/v1/events?follow=0&format=ndjson&from=1&severity=error&subject=alert:%llu", (unsigned long long)alert_id);
    assert_int_equal(ask("GET", path, NULL), 200);
    assert_non_null(strstr(far_test_https_body(c), "\"alert_raised\""));
    assert_int_equal(ask("GET", "/v1/events?follow=0&format=ndjson&from=1&kind=change_list_missed&plan=gold", NULL), 200);
    assert_non_null(strstr(far_test_https_body(c), "\"ranges\":[{\"first_block\":100,\"block_count\":2}]"));
}

static void points_and_workloads_say_what_they_rest_on(void **unused)
{
    char path[64];
    snprintf(path, sizeof path, "/v1/points/%llu", (unsigned long long)suspect_id);
    json_t *point = get(path);
    assert_true(json_is_true(json_object_get(point, "suspect")));
    assert_string_equal(text(point, "state"), "available");
    assert_string_equal(text(point, "proof"), "transfer");
    assert_true(json_is_true(json_object_get(json_array_get(json_object_get(point, "disks"), 0), "suspect")));
    json_decref(point);
    json_t *workload = get("/v1/workloads/web");
    const json_t *coverage = json_array_get(json_object_get(workload, "coverage"), 0);
    assert_int_equal(number(coverage, "missed_block_count"), 2);
    assert_int_equal(number(coverage, "block_count"), 16384);
    assert_int_not_equal(number(coverage, "full_point_id"), 0);
    assert_int_not_equal(number(coverage, "oldest_ms"), 0);
    assert_true(json_array_size(json_object_get(coverage, "marks")) == 16);
    json_decref(workload);
}

static void a_plan_is_changed_only_as_it_was_seen(void **unused)
{
    char headers[512];
    assert_int_equal(ask("GET", "/v1/plans/gold", NULL), 200);
    assert_non_null(strstr(far_test_https_text(c), "etag: \"0\""));
    snprintf(headers, sizeof headers, "%sIf-Match: \"0\"\r\n", auth);
    assert_int_equal(far_test_https_request(c, "PATCH", "/v1/plans/gold", headers, "{\"audit_age_s\":3600,\"rpo_s\":60}"), 200);
    assert_int_equal(far_test_https_request(c, "PATCH", "/v1/plans/gold", headers, "{\"audit_age_s\":7200}"), 409);
    assert_int_equal(ask("PATCH", "/v1/plans/gold", "{\"audit_ppm\":500,\"rpo_s\":null,\"revision\":1}"), 200);
    json_t *plan = get("/v1/plans/gold");
    assert_int_equal(number(plan, "audit_age_s"), 3600);
    assert_int_equal(number(plan, "audit_ppm"), 500);
    assert_int_equal(number(plan, "rpo_s"), 0);
    assert_int_equal(number(plan, "revision"), 2);
    json_decref(plan);
    assert_int_equal(ask("PATCH", "/v1/plans/gold", "{\"audit_ppm\":0}"), 200); /* as usual */
    plan = get("/v1/plans/gold");
    assert_int_equal(number(plan, "audit_ppm"), 0);
    json_decref(plan);
    assert_int_equal(ask("PATCH", "/v1/plans/gold", "{\"audit_ppm\":1000001}"), 400);
    assert_int_equal(ask("PATCH", "/v1/plans/gold", "{\"name\":\"silver\"}"), 400);
    assert_int_equal(ask("PATCH", "/v1/plans/gold", "{}"), 400);
    assert_int_equal(ask("PATCH", "/v1/plans/none", "{\"audit_ppm\":5}"), 404);
    assert_int_equal(ask("PATCH", "/v1/plans/gold", "{\"clear\":[\"interval_s\"]}"), 400);
}

static void a_resync_tells_what_it_reads_and_for_how_long(void **unused)
{
    json_t *estimate = get("/v1/plans/gold/resync");
    assert_int_equal(number(estimate, "bytes"), 1 << 30);
    assert_int_equal(number(estimate, "disk_count"), 1);
    assert_int_equal(number(estimate, "duration_ms"), 1000); /* as long as the full cycles took */
    assert_true(json_is_true(json_object_get(estimate, "measured")));
    json_decref(estimate);
    estimate = get("/v1/plans/gold/resync?workload=web&disk=root");
    const json_t *part = json_array_get(json_object_get(estimate, "parts"), 0);
    assert_string_equal(text(part, "disk"), "root");
    assert_int_equal(number(part, "bytes_per_s"), 1 << 30);
    json_decref(estimate);
    estimate = get("/v1/plans/idle/resync"); /* never copied: nothing is known */
    assert_true(json_is_false(json_object_get(estimate, "measured")));
    assert_int_equal(number(estimate, "disk_count"), 2);
    json_decref(estimate);
    assert_int_equal(ask("GET", "/v1/plans/gold/resync?disk=root", NULL), 400);
    assert_int_equal(ask("GET", "/v1/plans/gold/resync?workload=web&disk=tape", NULL), 404);
    assert_int_equal(ask("GET", "/v1/plans/gold/resync?workload=db", NULL), 404);
    assert_int_equal(ask("GET", "/v1/plans/none/resync", NULL), 404);
    assert_int_equal(ask("GET", "/v1/plans?disk=root", NULL), 400);
    assert_int_equal(ask("POST", "/v1/plans/gold/resync?dry_run=true", "{\"workload\":\"web\"}"), 200);
    assert_non_null(strstr(far_test_https_body(c), "\"resync\":true"));
    assert_int_equal(ask("POST", "/v1/plans/gold/resync", "{\"workload\":\"web\",\"disk\":\"root\"}"), 202);
    json_t *result = answer();
    char path[64];
    snprintf(path, sizeof path, "/v1/jobs/%lld", (long long)number(result, "id"));
    json_decref(result);
    json_t *job = get(path);
    assert_true(json_is_true(json_object_get(job, "resync")));
    assert_int_not_equal(number(job, "resync_disk_id"), 0);
    json_decref(job);
    assert_int_equal(ask("POST", "/v1/plans/gold/resync", NULL), 409);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(alerts_are_listed_shown_and_acknowledged), TEST(events_tell_which_ranges_and_points),
        TEST(points_and_workloads_say_what_they_rest_on), TEST(a_plan_is_changed_only_as_it_was_seen),
        TEST(a_resync_tells_what_it_reads_and_for_how_long),
    };
    make_world();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    world_done(&w);
    return failed;
}
