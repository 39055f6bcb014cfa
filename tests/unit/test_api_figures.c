/* Figures, the promised RPO, history and metrics from outside: what objects, lists and text say while a disk is sent and afterwards. */
#include "../lib/cm.h"

#include "../lib/api_fixture.h"
#include "../lib/fsm_world.h"
#include "../lib/https.h"

#include <jansson.h>
#include <stdlib.h>

enum { SEND = 4, RECEIVE = 5 };
#define MIB (1ull << 20)

static struct far_test_api *fixture;
static struct far_test_https *c;
static struct world w;
static char auth[256];
static uint64_t nodes[2], job_id;
static const uint8_t secret[32] = {5};

static int ask(const char *path)
{
    int status = far_test_https_request(c, "GET", path, auth, NULL);
    if (status == 0) { /* the server ended the connection with the answer before */
        far_test_https_close(c);
        c = far_test_https_open(fixture->port, fixture->ca_path, 0);
        status = far_test_https_request(c, "GET", path, auth, NULL);
    }
    return status;
}

static json_t *get(const char *path)
{
    int status = ask(path);
    json_t *json = json_loads(far_test_https_body(c), 0, NULL);
    if (status != 200 || json == NULL) {
        fail_msg("%s: %d %s", path, status, far_test_https_body(c));
    }
    return json;
}

static json_int_t number(const json_t *json, const char *name)
{
    if (!json_is_integer(json_object_get(json, name))) {
        fail_msg("no number '%s'", name);
    }
    return json_integer_value(json_object_get(json, name));
}

static const char *text(const json_t *json, const char *name)
{
    assert_true(json_is_string(json_object_get(json, name)));
    return json_string_value(json_object_get(json, name));
}

/* ---- the world: one cycle is done, the next one sends ---- */

static void make_world(void)
{
    struct far_slice web = S("web");
    uint8_t hash[32];
    world_init(&w);
    world_cluster(&w);
    nodes[0] = world_node(&w, "n1", "paris");
    nodes[1] = world_node(&w, "n2", "lyon");
    world_workload(&w, "web", 1);
    MUST(&w, plan_create, .name = S("gold"), .source_site = S("paris"), .target_site = S("lyon"), .workloads = {&web, 1},
         .rpo_s = 3600);
    MUST(&w, plan_replicate, .name = S("gold"));
    world_work_all(&w, nodes, 2);
    job_id = MUST(&w, plan_replicate, .name = S("gold"));
    world_work(&w, nodes[0]);
    for (uint64_t second = 0; second <= 5; second++) {
        struct far_sub_figures figures = {.bytes_read = second * 10 * MIB,
                                          .bytes_zero = second * MIB,
                                          .bytes_known = MIB,
                                          .bytes_wanted = second * 5 * MIB,
                                          .window_bytes = 32 * MIB,
                                          .streams = 4,
                                          .bottleneck = FAR_bottleneck_target_write};
        struct far_row_task send = world_row_task(&w, job_id, SEND);
        assert_int_equal(world_report(&w, &send,
                                      (struct far_sub_report_item){.state = FAR_report_state_running,
                                                                   .bytes_total = 100 * MIB,
                                                                   .bytes_done = second * 10 * MIB,
                                                                   .bytes_changed = second * 5 * MIB,
                                                                   .bytes_sent = second * 3 * MIB,
                                                                   .figures = {&figures, 1}}),
                         0);
        w.now_ms += 1000;
    }
    far_token_hash(secret, hash);
    MUST(&w, token_create, .name = S("us"), .hash = far_slice(hash, 32), .purpose = FAR_token_purpose_api);
}

static int setup(void **unused)
{
    char hex[65];
    fixture = far_test_api_start(0);
    assert_non_null(fixture);
    make_world();
    far_test_api_become(fixture, far_slice(w.log.data, w.log.len));
    far_hex_encode(secret, sizeof secret, hex);
    snprintf(auth, sizeof auth, "Authorization: Bearer far_%s\r\n", hex);
    c = far_test_https_open(fixture->port, fixture->ca_path, 0);
    return 0;
}

static int teardown(void **unused)
{
    far_test_https_close(c);
    far_test_api_stop(fixture);
    world_done(&w);
    return 0;
}

/* ---- what is seen ---- */

static void a_job_shows_how_its_disks_go(void **unused)
{
    char path[64];
    snprintf(path, sizeof path, "/v1/jobs/%llu", (unsigned long long)job_id);
    json_t *job = get(path), *send = json_array_get(json_object_get(job, "tasks"), SEND - 1);
    json_t *figures = json_object_get(send, "figures"), *sum = json_object_get(job, "figures");
    assert_string_equal(text(send, "disk"), "root");
    assert_int_equal(number(figures, "bytes_read"), 50 * MIB);
    assert_int_equal(number(figures, "bytes_zero"), 5 * MIB);
    assert_int_equal(number(figures, "bytes_saved"), 35 * MIB);
    assert_int_equal(number(figures, "bytes_unchanged"), 19 * MIB);
    assert_int_equal(number(figures, "bytes_encoded_away"), 10 * MIB);
    assert_int_equal(number(figures, "window_bytes"), 32 * MIB);
    assert_int_equal(number(figures, "bytes_per_s"), 10 * MIB);
    assert_int_equal(number(figures, "left_for_ms"), 5000);
    assert_string_equal(text(figures, "bottleneck"), "target_write");
    assert_string_equal(text(figures, "bottleneck_node"), "n2");
    assert_int_equal(number(sum, "left_for_ms"), 5000);
    assert_int_equal(number(sum, "reduction_ppm"), 700000);
    assert_int_equal(number(sum, "bottleneck_task"), SEND);
    assert_true(json_is_null(json_object_get(json_array_get(json_object_get(job, "tasks"), 0), "figures")));
    json_decref(job);
}

static void a_plan_shows_how_it_stands_with_its_promise(void **unused)
{
    json_t *plan = get("/v1/plans/gold"), *rpo = json_object_get(plan, "rpo");
    const json_t *reason = json_array_get(json_object_get(rpo, "reasons"), 0);
    assert_int_equal(number(rpo, "promised_s"), 3600);
    assert_string_equal(text(rpo, "workload"), "web");
    assert_int_equal(number(rpo, "slack_s") < 3600, 1);
    assert_true(number(rpo, "newest_ms") > 0 && number(rpo, "expected_ms") > 0);
    assert_string_equal(text(reason, "code"), "transfer");
    assert_string_equal(text(reason, "text"), "the send of disk 'web/root' is at 50.0 MiB of 100.0 MiB, 10.0 MiB/s, held up by writing the "
                                              "target on node 'n2'; it needs about 5 s");
    assert_string_equal(text(reason, "node"), "n1");
    json_decref(plan);
}

static void history_is_newest_first_and_pages(void **unused)
{
    char path[96];
    json_t *page = get("/v1/plans/gold/history?limit=1"), *cycle = json_array_get(json_object_get(page, "items"), 0);
    assert_int_equal(json_array_size(json_object_get(page, "items")), 1);
    assert_int_equal(number(cycle, "id"), job_id);
    assert_string_equal(text(cycle, "state"), "running");
    snprintf(path, sizeof path, "/v1/plans/gold/history?limit=1&cursor=%lld", (long long)number(page, "cursor"));
    json_decref(page);
    page = get(path);
    cycle = json_array_get(json_object_get(page, "items"), 0);
    assert_string_equal(text(cycle, "state"), "succeeded");
    assert_int_equal(number(cycle, "bytes_sent"), 1000);
    assert_true(number(json_object_get(cycle, "figures"), "reduction_ppm") > 999990);
    assert_true(json_is_null(json_object_get(page, "cursor")));
    json_decref(page);
    assert_int_equal(ask("/v1/plans/silver/history"), 404);
}

static void metrics_need_a_token_and_name_what_runs(void **unused)
{
    static const char *const lines[] = {
        "# TYPE farshore_transfer_bytes gauge\n",
        "farshore_transfer_bytes{plan=\"gold\",workload=\"web\",disk=\"root\",direction=\"send\",node=\"n1\",kind=\"read\"} 52428800\n",
        "farshore_transfer_window_bytes{plan=\"gold\",workload=\"web\",disk=\"root\",direction=\"send\",node=\"n1\"} 33554432\n",
        "node=\"n1\",bottleneck=\"target_write\"} 1\n",
        "farshore_plan_rpo_promised_seconds{plan=\"gold\"} 3600\n",
        "farshore_plan_cycle_running{plan=\"gold\"} 1\n",
        "farshore_node_up{node=\"n2\"} 1\n",
        "farshore_series_left_out{sort=\"transfer\"} 0\n",
        "farshore_log_last_seq{server=",
    };
    assert_int_equal(ask("/metrics"), 200);
    assert_non_null(strstr(far_test_https_text(c), "content-type: text/plain; version=0.0.4"));
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (strstr(far_test_https_body(c), lines[i]) == NULL) {
            fail_msg("no line: %s", lines[i]);
        }
    }
    assert_int_equal(ask("/metrics?at=3"), 400);
    assert_int_equal(far_test_https_request(c, "GET", "/metrics", "", NULL), 401);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_shows_how_its_disks_go),
        cmocka_unit_test(a_plan_shows_how_it_stands_with_its_promise),
        cmocka_unit_test(history_is_newest_first_and_pages),
        cmocka_unit_test(metrics_need_a_token_and_name_what_runs),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
