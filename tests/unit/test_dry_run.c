/* Dry runs over HTTPS: of every route that changes something, what is predicted is what then happens, on the same state:
 * the same events, the same differences, the same digest. */
#include "../lib/cm.h"

#include "api/route.h"
#include "../lib/api_fixture.h"
#include "../lib/fsm_world.h"
#include "../lib/https.h"

#include <jansson.h>
#include <stdlib.h>

static struct far_test_api *fixture;
static struct far_test_https *c;
static struct world w;
static char auth[256];
static char job_path[64], checkpoint_path[64], verify_path[64], token_path[64], alert_path[64], preserve_path[64], unpreserve_path[64],
    lock_path[64], rescore_path[64], use_paths[7][64], diff_body[64], run_paths[6][64];
static const char *const uses[7] = {"open", "export", "diff", "copy", "hydrate", "list", "get"};

static const uint8_t secret[32] = {5}; /* of the token that the test shows */
static const char key_header[] = "Idempotency-Key: 00112233445566778899aabbccddeeff\r\n";

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

static json_int_t number(const json_t *json, const char *name)
{
    return json_integer_value(json_object_get(json, name));
}

static void assert_same(const char *what, const json_t *a, const json_t *b)
{
    if (!json_equal(a, b)) {
        char *text_a = json_dumps(a, JSON_INDENT(1) | JSON_ENCODE_ANY), *text_b = json_dumps(b, JSON_INDENT(1) | JSON_ENCODE_ANY);
        fail_msg("%s differ: %s\n--- happened:\n%s", what, text_a, text_b);
    }
}

/* A cycle of one workload with one disk whose platform lost its list of changes; returns the alert. */
static uint64_t make_alert(uint64_t job_id, const uint64_t nodes[2])
{
    enum { SEND = 4, RECEIVE = 5 };
    static uint8_t root[32] = {4};
    struct far_row_alert alert = {.id = 0};
    struct far_key key = far_key(&far_schema_row_alert);
    struct far_sub_report_item item = {.state = FAR_report_state_done, .root = far_slice(root, 32), .full = true};
    world_work(&w, nodes[0]);
    struct far_row_task receive = world_row_task(&w, job_id, RECEIVE), send = world_row_task(&w, job_id, SEND);
    assert_int_equal(world_report(&w, &receive, item), 0);
    item.resync_reason = S("the bitmap is gone");
    assert_int_equal(world_report(&w, &send, item), 0);
    world_work_all(&w, nodes, 2);
    assert_int_equal(far_state_next(&w.state, &far_schema_row_alert, &key, &w.arena, NULL, &alert, &w.err), 0);
    return alert.id;
}

/* The node says that its vault has keys whose fingerprint is this byte, again and again. */
static void say_keys(uint64_t node_id, uint8_t byte)
{
    uint8_t keys[32];
    memset(keys, byte, sizeof keys);
    struct far_sub_vault_keys said = {
        .vault_uuid = far_slice(secret, 16), .public_key = far_slice(keys, 32), .fingerprint = far_slice(keys, 32)};
    w.actor = far_actor(FAR_ACTOR_NODE, node_id);
    MUST(&w, vault_keys_tell, .node_id = node_id, .boot = world_row_node(&w, node_id).boot, .keys = {.items = &said, .count = 1});
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
}

static uint64_t first_checkpoint(void)
{
    struct far_row_checkpoint row = {.id = 0};
    struct far_key key = far_key(&far_schema_row_checkpoint);
    assert_int_equal(far_state_next(&w.state, &far_schema_row_checkpoint, &key, &w.arena, NULL, &row, &w.err), 0);
    return row.id;
}

/* Runs of plans: a test and a failover that are up, a test that is held because "vm" could not be written
 * out, and a failover that was committed. */
static void make_runs(const uint64_t nodes[2])
{
    static const char *const verbs[] = {"finish", "commit", "roll-back", "pass", "retry", "compare"};
    static const char *const plans[] = {"lab", "den", "hub", "ark"}, *const workloads[] = {"pc", "mac", "vm", "nas"};
    uint64_t runs[4];
    for (size_t i = 0; i < 4; i++) {
        world_workload(&w, workloads[i], 1);
        world_plan(&w, plans[i], &workloads[i], 1);
        MUST(&w, plan_replicate, .name = S(plans[i]));
        world_work_all(&w, nodes, 2);
        bool is_test = i % 2 == 0;
        runs[i] = MUST(&w, run_start, .plan = S(plans[i]), .kind = is_test ? FAR_job_kind_test_recovery : FAR_job_kind_failover,
                       .expires_s = is_test ? 2000000 : 0);
        if (i == 2) {
            struct far_row_task task = world_row_task(&w, runs[i], 1);
            struct far_sub_report_item item = {
                .state = FAR_report_state_failed, .outcome = FAR_outcome_fatal, .error_class = S("io"), .error_message = S("disk full")};
            assert_int_equal(world_report(&w, &task, item), 0);
        }
        world_work_all(&w, nodes, 2);
    }
    MUST(&w, run_commit, .job_id = runs[3]);
    world_work_all(&w, nodes, 2);
    for (size_t i = 0; i < 6; i++) {
        uint64_t run = runs[i == 0 ? 0 : i < 3 ? 1 : i == 5 ? 3 : 2];
        snprintf(run_paths[i], sizeof run_paths[i], "/v1/runs/%llu/%s", (unsigned long long)run, verbs[i]);
    }
}

/* Paris, lyon and nice, two nodes, plans "gold" (a job runs), "silver" (stopped, with a checkpoint), "iron" (active), an unused
 * workload, site, node, standby and token. */
static void make_world(void)
{
    static const char *const gold[] = {"web"}, *const silver[] = {"db"}, *const iron[] = {"mail"};
    uint8_t hash[32], other[32] = {77};
    uint64_t nodes[2];
    world_init(&w);
    w.now_ms = 1699990000000; /* the past is not long ago: a lock may end neither before now nor far behind it */
    world_cluster(&w);
    nodes[0] = world_node(&w, "n1", "paris");
    nodes[1] = world_node(&w, "n2", "lyon");
    world_node(&w, "n3", "nice");
    world_node(&w, "n4", "paris");
    MUST(&w, node_drain, .name = S("n4"));
    world_workload(&w, "web", 2);
    world_workload(&w, "db", 1);
    world_workload(&w, "mail", 1);
    world_workload(&w, "free", 1);
    world_plan(&w, "gold", gold, 1);
    world_plan(&w, "silver", silver, 1);
    world_plan(&w, "iron", iron, 1);
    world_workload(&w, "can", 1);
    world_plan(&w, "tin", (const char *const[]){"can"}, 1);
    world_workload(&w, "pot", 1);
    world_workload(&w, "tub", 1);
    world_plan(&w, "zinc", (const char *const[]){"pot", "tub"}, 2);
    MUST(&w, plan_start, .name = S("zinc"));
    MUST(&w, plan_pause, .name = S("zinc"));
    struct far_sub_recovery config = {.processors = 1};
    MUST(&w, recovery_set, .workload = S("tub"), .config = {&config, 1});
    MUST(&w, plan_start, .name = S("iron"));
    w.lists = true;
    MUST(&w, plan_replicate, .name = S("silver"));
    world_work_all(&w, nodes, 2);
    uint64_t alert_id = make_alert(MUST(&w, plan_replicate, .name = S("silver")), nodes);
    uint64_t plan_id = 0;
    assert_int_equal(far_query_id(&w.state, &far_schema_row_plan, S("silver"), &plan_id, &w.err), 0);
    uint64_t checkpoint_id = world_row_plan(&w, plan_id).last_checkpoint_id;
    assert_true(checkpoint_id != 0);
    uint64_t preserved_id = MUST(&w, checkpoint_preserve, .checkpoint_id = first_checkpoint(), .reason = S("the audit"));
    make_runs(nodes);
    uint64_t job_id = MUST(&w, plan_replicate, .name = S("gold"));
    say_keys(nodes[1], 1);
    say_keys(nodes[1], 2); /* nothing speaks for these */
    MUST(&w, plan_retention_set, .name = S("iron"), .last = 3);
    MUST(&w, consumer_create, .name = S("first"));
    MUST(&w, throttle_set, .scope = FAR_throttle_scope_node, .name = S("n2"), .bytes_per_s = 20000);
    MUST(&w, throttle_set, .scope = FAR_throttle_scope_plan, .name = S("iron"), .bytes_per_s = 20000);
    MUST(&w, throttle_set, .scope = FAR_throttle_scope_site, .name = S("lyon"), .bytes_per_s = 1);
    MUST(&w, domain_create, .name = S("vault"), .uuid = far_slice(other, 16), .sealed_secret = far_slice(other, 32),
         .sealed_key = far_slice(other, 32));
    MUST(&w, domain_create, .name = S("spare"), .uuid = far_slice(other, 16), .sealed_secret = far_slice(other, 32),
         .sealed_key = far_slice(other, 32));
    MUST(&w, site_create, .name = S("spare"), .role = FAR_site_role_witness);
    uint64_t token_id = MUST(&w, token_create, .name = S("old"), .purpose = FAR_token_purpose_api, .hash = far_slice(other, 32));
    far_token_hash(secret, hash);
    MUST(&w, token_create, .name = S("test"), .purpose = FAR_token_purpose_api, .hash = far_slice(hash, 32));
    other[0] = 78;
    MUST(&w, token_create, .name = S("s2"), .purpose = FAR_token_purpose_join_server, .hash = far_slice(other, 32),
         .expires_ms = w.now_ms + 1000000000, .site = S("lyon"));
    MUST(&w, server_join, .token_hash = far_slice(other, 32), .name = S("s2"), .api_address = S("127.0.0.1:7"),
         .peer_address = S("127.0.0.1:8"), .seal_key = far_slice(other, 32), .fingerprint = far_slice(other, 32));
    snprintf(job_path, sizeof job_path, "/v1/jobs/%llu/cancel", (unsigned long long)job_id);
    snprintf(checkpoint_path, sizeof checkpoint_path, "/v1/checkpoints/%llu", (unsigned long long)checkpoint_id);
    snprintf(preserve_path, sizeof preserve_path, "/v1/checkpoints/%llu/preserve", (unsigned long long)checkpoint_id);
    snprintf(lock_path, sizeof lock_path, "/v1/checkpoints/%llu/lock", (unsigned long long)checkpoint_id);
    snprintf(unpreserve_path, sizeof unpreserve_path, "/v1/checkpoints/%llu/unpreserve", (unsigned long long)preserved_id);
    for (size_t i = 0; i < 7; i++) {
        snprintf(use_paths[i], sizeof use_paths[i], "/v1/checkpoints/%llu/%s", (unsigned long long)checkpoint_id, uses[i]);
    }
    snprintf(diff_body, sizeof diff_body, "{\"other_checkpoint_id\":%llu}", (unsigned long long)checkpoint_id);
    snprintf(rescore_path, sizeof rescore_path, "/v1/checkpoints/%llu/rescore", (unsigned long long)checkpoint_id);
    snprintf(verify_path, sizeof verify_path, "/v1/checkpoints/%llu/verify", (unsigned long long)checkpoint_id);
    snprintf(alert_path, sizeof alert_path, "/v1/alerts/%llu/ack", (unsigned long long)alert_id);
    snprintf(token_path, sizeof token_path, "/v1/tokens/%llu", (unsigned long long)token_id);
}

/* Of each test: the API on that world. */
static int start(void **unused)
{
    char text[FAR_API_TOKEN_TEXT_MAX];
    fixture = far_test_api_start(0);
    far_api_token_print(secret, text);
    snprintf(auth, sizeof auth, "Authorization: Bearer %s\r\n%s", text, key_header);
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

struct trial {
    const char *method, *pattern; /* of the route */
    const char *path, *body;
};

/* Every route that is a command, by something that is accepted in that world. */
static const struct trial trials[] = {
    {"POST", "/v1/servers/{name}/role", "/v1/servers/s2/role", "{\"role\":\"removed\"}"},
    {"POST", "/v1/cluster/transfer", "/v1/cluster/transfer", "{\"to\":\"s1\"}"},
    {"POST", "/v1/log/retention", "/v1/log/retention", "{\"days\":7,\"bytes\":0}"},
    {"POST", "/v1/log/forget", "/v1/log/forget", "{\"before\":3}"},
    {"POST", "/v1/cluster/recovery-policy", "/v1/cluster/recovery-policy", "{\"second_approval\":true}"},
    {"POST", "/v1/servers/{name}/site", "/v1/servers/s1/site", "{\"site\":\"lyon\"}"},
    {"DELETE", "/v1/servers/{name}", "/v1/servers/s2", NULL},
    {"POST", "/v1/sites", "/v1/sites", "{\"name\":\"berlin\",\"role\":\"protected\"}"},
    {"DELETE", "/v1/sites/{name}", "/v1/sites/spare", NULL},
    {"DELETE", "/v1/nodes/{name}", "/v1/nodes/n3", NULL},
    {"POST", "/v1/nodes/{name}/drain", "/v1/nodes/n1/drain", NULL},
    {"POST", "/v1/nodes/{name}/undrain", "/v1/nodes/n4/undrain", NULL},
    {"POST", "/v1/nodes/{name}/throttle", "/v1/nodes/n2/throttle", "{\"bytes_per_s\":30000}"},
    {"POST", "/v1/plans/{name}/throttle", "/v1/plans/gold/throttle",
     "{\"windows\":[{\"days\":[1,2],\"from_min\":480,\"to_min\":1080,\"bytes_per_s\":20000000}]}"},
    {"POST", "/v1/sites/{name}/throttle", "/v1/sites/paris/throttle",
     "{\"bytes_per_s\":1,\"windows\":[{\"days\":[6,7],\"from_min\":1320,\"to_min\":360}]}"},
    {"DELETE", "/v1/nodes/{name}/throttle", "/v1/nodes/n2/throttle", NULL},
    {"DELETE", "/v1/plans/{name}/throttle", "/v1/plans/iron/throttle", NULL},
    {"DELETE", "/v1/sites/{name}/throttle", "/v1/sites/lyon/throttle", NULL},
    {"POST", "/v1/zones", "/v1/zones", "{\"name\":\"UTC\"}"},
    {"POST", "/v1/domains", "/v1/domains", "{\"name\":\"new\",\"is_default\":true}"},
    {"POST", "/v1/domains/{name}/rotate", "/v1/domains/vault/rotate", "{\"generation\":2}"},
    {"POST", "/v1/domains/{name}/destroy", "/v1/domains/spare/destroy", NULL},
    {"POST", "/v1/plans/{name}/retention", "/v1/plans/silver/retention", "{\"daily\":7}"},
    {"POST", "/v1/plans/{name}/seed", "/v1/plans/silver/seed", "{\"workload\":\"db\",\"node\":\"n2\",\"locator\":\"/d\"}"},
    {"DELETE", "/v1/plans/{name}/retention", "/v1/plans/iron/retention", NULL},
    {"PUT", "/v1/plans/{name}/spec", "/v1/plans/silver/spec",
     "{\"source_site\":\"paris\",\"target_site\":\"lyon\",\"interval_s\":60,\"rto_s\":600,"
     "\"workloads\":[{\"name\":\"db\",\"processors\":2},"
     "{\"name\":\"free\"}],\"networks\":[{\"source\":\"a\",\"target\":\"b\"}],\"retention\":{\"daily\":7},"
     "\"schedule\":{\"catch_up\":\"now\",\"blackouts\":[{\"days\":[1],\"from_min\":0,\"to_min\":60}]},"
     "\"throttle\":{\"bytes_per_s\":20000}}"},
    {"POST", "/v1/plans/{name}/networks", "/v1/plans/gold/networks", "{\"networks\":[{\"source\":\"a\",\"target\":\"b\"}]}"},
    {"POST", "/v1/plans/{name}/schedule", "/v1/plans/iron/schedule",
     "{\"interval_s\":60,\"schedule\":{\"windows\":[{\"days\":[1],\"from_min\":0,\"to_min\":60}]}}"},
    {"POST", "/v1/plans/{name}/workloads", "/v1/plans/gold/workloads", "{\"workloads\":[\"free\"]}"},
    {"POST", "/v1/plans/{name}/remove-workloads", "/v1/plans/zinc/remove-workloads", "{\"workloads\":[\"tub\"],\"with_points\":true}"},
    {"POST", "/v1/workloads/{name}/recovery", "/v1/workloads/web/recovery", "{\"config\":{\"processors\":2}}"},
    {"DELETE", "/v1/workloads/{name}/recovery", "/v1/workloads/tub/recovery", NULL},
    {"POST", "/v1/plans/{name}/erase", "/v1/plans/tin/erase", "{\"confirm\":\"tin\"}"},
    {"POST", "/v1/checkpoints/{id}/preserve", preserve_path, "{\"reason\":\"law\"}"},
    {"POST", "/v1/checkpoints/{id}/unpreserve", unpreserve_path, NULL},
    {"POST", "/v1/checkpoints/{id}/lock", lock_path, "{\"until_ms\":1750000000000}"},
    {"POST", "/v1/vaults/{node}/reclaim", "/v1/vaults/n2/reclaim", NULL},
    {"POST", "/v1/vaults/{node}/measure", "/v1/vaults/n2/measure", NULL},
    {"POST", "/v1/vaults/{node}/adopt", "/v1/vaults/n2/adopt", "{\"plans\":[\"web\"]}"},
    {"POST", "/v1/vaults/{node}/trust", "/v1/vaults/n2/trust",
     "{\"fingerprint\":\"0202020202020202020202020202020202020202020202020202020202020202\"}"},
    {"POST", "/v1/vaults/{node}/policy", "/v1/vaults/n2/policy", "{\"reclaim_off\":true}"},
    {"POST", "/v1/vaults/{node}/scrub", "/v1/vaults/n2/scrub", "{\"bytes\":1048576}"},
    {"POST", "/v1/vault-policy", "/v1/vault-policy", "{\"reclaim_interval_s\":3600}"},
    {"POST", "/v1/workloads", "/v1/workloads",
     "{\"name\":\"new\",\"site\":\"paris\",\"adapter\":\"file\",\"disks\":[{\"name\":\"a\",\"locator\":\"/d/a\"},"
     "{\"name\":\"b\",\"locator\":\"/d/b\"}]}"},
    {"PATCH", "/v1/sites/{name}", "/v1/sites/lyon", "{\"parallel_recoveries\": 3, \"parallel_sends\": null}"},
    {"PATCH", "/v1/workloads/{name}", "/v1/workloads/free",
     "{\"description\": \"the books\", \"labels\": [{\"key\": \"owner\", \"value\": \"ann\"}]}"},
    {"DELETE", "/v1/workloads/{name}", "/v1/workloads/free", NULL},
    {"POST", "/v1/plans", "/v1/plans",
     "{\"name\":\"new\",\"source_site\":\"paris\",\"target_site\":\"lyon\",\"workloads\":[\"free\"],\"interval_s\":60}"},
    {"DELETE", "/v1/plans/{name}", "/v1/plans/iron", NULL},
    {"POST", "/v1/plans/{name}/start", "/v1/plans/silver/start", NULL},
    {"POST", "/v1/plans/{name}/pause", "/v1/plans/iron/pause", "{}"},
    {"POST", "/v1/plans/{name}/resume", "/v1/plans/zinc/resume", NULL},
    {"POST", "/v1/plans/{name}/stop", "/v1/plans/iron/stop", NULL},
    {"POST", "/v1/plans/{name}/replicate", "/v1/plans/silver/replicate", NULL},
    {"PATCH", "/v1/plans/{name}", "/v1/plans/gold", "{\"audit_age_s\": 3600, \"full_age_s\": null}"},
    {"POST", "/v1/plans/{name}/resync", "/v1/plans/silver/resync", "{\"workload\":\"db\",\"disk\":\"root\"}"},
    {"POST", "/v1/alerts/{id}/ack", alert_path, "{\"note\":\"seen\"}"},
    {"POST", "/v1/plans/{name}/recover", "/v1/plans/silver/recover",
     "{\"workload\":\"db\",\"disks\":[{\"disk\":\"root\",\"path\":\"/out/root\"}]}"},
    {"POST", "/v1/plans/{name}/test", "/v1/plans/silver/test", "{\"workloads\":[\"db\"],\"expires_s\":600}"},
    {"POST", "/v1/plans/{name}/failover", "/v1/plans/silver/failover", "{\"window_s\":600,\"fence_s\":5,\"force\":true}"},
    {"POST", "/v1/plans/{name}/migrate", "/v1/plans/silver/migrate", "{\"shutdown_s\":60}"},
    {"POST", "/v1/plans/{name}/reverse", "/v1/plans/ark/reverse", "{\"to\":\"ark2\"}"},
    {"POST", "/v1/runs/{id}/finish", run_paths[0], NULL},
    {"POST", "/v1/runs/{id}/commit", run_paths[1], NULL},
    {"POST", "/v1/runs/{id}/roll-back", run_paths[2], NULL},
    {"POST", "/v1/runs/{id}/pass", run_paths[3], "{\"workload\":\"vm\"}"},
    {"POST", "/v1/runs/{id}/retry", run_paths[4], NULL},
    {"POST", "/v1/runs/{id}/compare", run_paths[5], NULL},
    {"POST", "/v1/jobs/{id}/cancel", job_path, NULL},
    {"DELETE", "/v1/checkpoints/{id}", checkpoint_path, NULL},
    {"POST", "/v1/checkpoints/{id}/verify", verify_path, NULL},
    {"POST", "/v1/checkpoints/{id}/rescore", rescore_path, NULL},
    {"POST", "/v1/checkpoints/{id}/open", use_paths[0], "{\"workload\":\"db\",\"writable\":true,\"duration_s\":60}"},
    {"POST", "/v1/checkpoints/{id}/export", use_paths[1], "{\"disk\":\"root\",\"path\":\"a/b.qcow2\",\"format\":\"qcow2\"}"},
    {"POST", "/v1/checkpoints/{id}/diff", use_paths[2], diff_body},
    {"POST", "/v1/checkpoints/{id}/copy", use_paths[3], "{\"path\":\"/exports/vault\"}"},
    {"POST", "/v1/checkpoints/{id}/hydrate", use_paths[4], "{\"path\":\"vm.raw\",\"listen\":\"127.0.0.1:10809\"}"},
    {"POST", "/v1/checkpoints/{id}/list", use_paths[5], "{\"guest_path\":\"/etc\"}"},
    {"POST", "/v1/checkpoints/{id}/get", use_paths[6], "{\"guest_path\":\"/etc/fstab\",\"path\":\"fstab\"}"},
    {"POST", "/v1/tokens", "/v1/tokens",
     "{\"name\":\"t\",\"purpose\":\"api\","
     "\"secret\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}"},
    {"DELETE", "/v1/tokens/{id}", token_path, NULL},
    {"POST", "/v1/consumers", "/v1/consumers", "{\"name\":\"second\"}"},
    {"DELETE", "/v1/consumers/{name}", "/v1/consumers/first", NULL},
};
enum { TRIALS = sizeof trials / sizeof trials[0] };

/* The events behind seq, each without its chain head, which no prediction has. */
static json_t *events_since(json_int_t seq)
{
    char path[128];
    json_t *list = json_array();
    snprintf(path, sizeof path, "/v1/events?follow=0&format=ndjson&from=%lld", (long long)seq + 1);
    assert_int_equal(ask("GET", path, NULL), 200);
    for (const char *line = far_test_https_body(c); *line != '\0'; line += strcspn(line, "\n") + 1) {
        json_t *event = json_loadb(line, strcspn(line, "\n"), 0, NULL);
        json_object_del(event, "head");
        if (json_object_get(event, "seq") != NULL) { /* no frame of the stream itself */
            json_array_append(list, event);
        }
        json_decref(event);
    }
    far_test_https_close(c);
    c = far_test_https_open(fixture->port, fixture->ca_path, 0);
    return list;
}

static json_t *diff_since(json_int_t seq)
{
    char path[128];
    snprintf(path, sizeof path, "/v1/log/diff?at=%lld", (long long)seq);
    assert_int_equal(ask("GET", path, NULL), 200);
    json_t *diff = answer(), *changes = json_incref(json_object_get(diff, "changes"));
    json_decref(diff);
    return changes;
}

static json_t *head(void)
{
    assert_int_equal(ask("GET", "/v1/log/head", NULL), 200);
    return answer();
}

static void predict(const struct trial *trial, const char *extra, json_t **ret_prediction)
{
    char path[256];
    snprintf(path, sizeof path, "%s?dry_run=true%s", trial->path, extra);
    int status = ask(trial->method, path, trial->body);
    if (status != 200) {
        fail_msg("%s %s: %d %s", trial->method, path, status, far_test_https_body(c));
    }
    *ret_prediction = answer();
}

static void try_both_ways(const struct trial *trial)
{
    start(NULL); /* a new one: streams may keep the text of an event */
    far_test_api_trim(fixture, strcmp(trial->path, "/v1/log/forget") == 0 ? 3 : 1);
    json_t *before = head(), *predicted = NULL;
    json_int_t seq = number(before, "seq");
    predict(trial, "", &predicted);
    json_t *between = head();
    assert_same("a dry run changed the log: heads", before, between);
    assert_null(json_object_get(predicted, "token"));

    assert_true(ask(trial->method, trial->path, trial->body) / 100 == 2);
    json_t *done = answer(), *after = head(), *events = events_since(seq), *changes = diff_since(seq);
    static const char *const same[] = {"command_id", "id", "seq_first", "seq_last", "repeated"};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        assert_same(same[i], json_object_get(predicted, same[i]), json_object_get(done, same[i]));
    }
    assert_true(json_array_size(events) > 0);
    assert_same("events", json_object_get(predicted, "events"), events);
    assert_true(json_array_size(changes) > 0);
    assert_same("differences", json_object_get(predicted, "changes"), changes);
    assert_same("digests", json_object_get(predicted, "digest"), json_object_get(after, "digest"));

    /* and of the past: the same on the state as it was */
    char at[64];
    json_t *past = NULL;
    snprintf(at, sizeof at, "&at=%lld", (long long)seq);
    predict(trial, at, &past);
    assert_int_equal(json_array_size(json_object_get(past, "events")), json_array_size(events));
    assert_int_equal(number(past, "id"), number(done, "id"));
    json_t *gone[] = {before, between, predicted, done, after, events, changes, past};
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
        json_decref(gone[i]);
    }
    stop(NULL);
}

static void what_is_predicted_is_what_happens_on_every_route(void **unused)
{
    for (size_t i = 0; i < TRIALS; i++) {
        print_message("# %s %s\n", trials[i].method, trials[i].path);
        try_both_ways(&trials[i]);
    }
}

static void no_command_is_without_a_trial(void **unused)
{
    for (const struct far_route *route = far_routes; route->pattern != NULL; route++) {
        bool by_itself = route->action == FAR_ROUTE_JOIN || route->action == FAR_ROUTE_CONSUMER_ACK ||
                         route->action == FAR_ROUTE_SKIP_ENTRY || route->action == FAR_ROUTE_BACKUP_MAKE; /* tests of their own */
        bool tried = route->method == FAR_HTTP_GET || by_itself;
        for (size_t i = 0; i < TRIALS && !tried; i++) {
            tried = strcmp(trials[i].pattern, route->pattern) == 0 &&
                    strcmp(trials[i].method, far_http_method_name(route->method)) == 0;
        }
        if (!tried) {
            fail_msg("%s %s: add a trial", far_http_method_name(route->method), route->pattern);
        }
    }
}

static void a_rejection_is_predicted_as_it_comes(void **unused)
{
    static const struct trial bad[] = {
        {"DELETE", "", "/v1/sites/paris", NULL},
        {"POST", "", "/v1/plans/gold/replicate", NULL},
        {"POST", "", "/v1/sites", "{\"name\":\"paris\",\"role\":\"recovery\"}"},
        {"POST", "", "/v1/sites", "{\"name\":\"x\",\"role\":\"boss\"}"},
        {"DELETE", "", "/v1/sites/nowhere", NULL},
        {"DELETE", "", "/v1/plans/gold/throttle", NULL},
        {"POST", "", "/v1/plans/gold/throttle", "{\"bytes_per_s\":7}"},
        {"POST", "", "/v1/plans/gold/throttle",
         "{\"zone\":\"Mars/Base\",\"windows\":[{\"days\":[1],\"to_min\":60}]}"},
        {"POST", "", "/v1/zones", "{\"name\":\"../etc/passwd\"}"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char path[128], body[1024];
        snprintf(path, sizeof path, "%s?dry_run=true", bad[i].path);
        int status = ask(bad[i].method, path, bad[i].body);
        snprintf(body, sizeof body, "%s", far_test_https_body(c));
        assert_true(status >= 400);
        assert_int_equal(ask(bad[i].method, bad[i].path, bad[i].body), status);
        assert_string_equal(far_test_https_body(c), body);
    }
}

/* Two commands: the second is an entry, and a moment, later than the first. */
static void a_limit_with_a_new_time_zone_is_predicted_with_the_zone(void **unused)
{
    static const struct trial trial = {
        "POST", "", "/v1/plans/gold/throttle",
        "{\"zone\":\"UTC\",\"windows\":[{\"days\":[1],\"from_min\":480,\"to_min\":1080,\"bytes_per_s\":20000000}]}"};
    for (int round = 0; round < 2; round++) { /* the second time the zone is there */
        json_t *before = head(), *predicted = NULL;
        predict(&trial, "", &predicted);
        json_t *said = json_object_get(predicted, "events");
        assert_int_equal(ask(trial.method, trial.path, trial.body), 200);
        json_t *done = answer(), *events = events_since(number(before, "seq"));
        assert_same("first event", json_object_get(predicted, "seq_first"), json_object_get(done, "seq_first"));
        assert_int_equal(json_array_size(events), round == 0 ? 3 : 0); /* asked again with its key it is the same command */
        for (size_t i = 0; round == 0 && i < 3; i++) {
            static const char *const same[] = {"seq", "index", "kind", "actor"};
            for (size_t k = 0; k < sizeof same / sizeof same[0]; k++) {
                assert_same(same[k], json_object_get(json_array_get(said, i), same[k]),
                            json_object_get(json_array_get(events, i), same[k]));
            }
            assert_true(i == 2 || json_equal(json_object_get(json_array_get(said, i), "data"),
                                             json_object_get(json_array_get(events, i), "data")));
        }
        json_t *gone[] = {before, predicted, done, events};
        for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
            json_decref(gone[i]);
        }
    }
}

static void a_join_is_predicted_without_a_token_of_a_user(void **unused)
{
    assert_int_equal(ask("POST", "/v1/tokens", "{\"name\":\"n9\",\"purpose\":\"join_node\",\"site\":\"lyon\"}"), 201);
    json_t *made = answer();
    char body[1024];
    snprintf(body, sizeof body,
             "{\"token\":\"%s\",\"csr\":\"x\",\"name\":\"n9\",\"party\":\"node\",\"data_address\":\"127.0.0.1:9\"}",
             json_string_value(json_object_get(made, "token")));
    uint64_t seq = far_test_api_last_seq(fixture);
    assert_int_equal(far_test_https_request(c, "POST", "/v1/join?dry_run=true", "", body), 200);
    assert_non_null(strstr(far_test_https_body(c), "\"node_joined\""));
    assert_null(strstr(far_test_https_body(c), "certificate\":"));
    assert_int_equal(far_test_api_last_seq(fixture), seq);
    snprintf(body, sizeof body, "{\"token\":\"x\",\"csr\":\"x\",\"name\":\"n9\",\"party\":\"node\"}");
    assert_int_equal(far_test_https_request(c, "POST", "/v1/join?dry_run=true", "", body) / 100, 4);
    json_decref(made);
}

static void an_acknowledgement_is_predicted_and_not_noted(void **unused)
{
    uint64_t seq = far_test_api_last_seq(fixture);
    assert_int_equal(ask("POST", "/v1/consumers/first/ack?dry_run=true", "{\"cursor\":\"9\"}"), 200);
    json_t *predicted = answer();
    assert_int_equal(json_array_size(json_object_get(predicted, "events")), 1);
    assert_int_equal(far_test_api_last_seq(fixture), seq);
    assert_int_equal(ask("GET", "/v1/consumers/first", NULL), 200);
    json_t *consumer = answer();
    assert_int_equal(number(consumer, "acked_ms"), 0);
    json_decref(predicted);
    json_decref(consumer);
}

static void arguments_of_the_past_are_refused_where_they_mean_nothing(void **unused)
{
    assert_int_equal(ask("GET", "/v1/sites?dry_run=true", NULL), 400);
    assert_int_equal(ask("DELETE", "/v1/sites/spare?at=5", NULL), 400);
    assert_int_equal(ask("GET", "/v1/events?at=5", NULL), 400);
    assert_int_equal(ask("GET", "/healthz?at=5", NULL), 400);
    assert_int_equal(ask("GET", "/v1/sites?until=5", NULL), 400);
    assert_int_equal(ask("GET", "/v1/sites?at=yesterday", NULL), 400);
    assert_int_equal(ask("GET", "/v1/sites?at=99999999", NULL), 404);
    assert_int_equal(ask("GET", "/v1/log/diff", NULL), 400);
    assert_int_equal(ask("GET", "/v1/log/diff?at=9&until=7", NULL), 400);
    assert_int_equal(ask("GET", "/v1/sites/spare", NULL), 200);
}

static void the_only_server_with_some_events_stays(void **unused)
{
    assert_int_equal(ask("GET", "/v1/servers/s2", NULL), 200);
    uint64_t id = strtoull(strstr(far_test_https_body(c), "\"id\":") + 5, NULL, 10);
    far_test_api_trim(fixture, 3); /* server 1, which answers, has fetched no older ones yet */
    far_test_api_other(fixture, id, 1);
    assert_int_equal(ask("DELETE", "/v1/servers/s2?dry_run=true", NULL), 409);
    assert_non_null(strstr(far_test_https_body(c), "server 's2' holds the events before 3"));
    assert_int_equal(ask("POST", "/v1/servers/s2/role?dry_run=true", "{\"role\":\"removed\"}"), 409);
    assert_int_equal(ask("DELETE", "/v1/servers/s2?dry_run=true&force=true", NULL), 200);
    far_test_api_other(fixture, id, 3);
    assert_int_equal(ask("DELETE", "/v1/servers/s2?dry_run=true", NULL), 200);
    far_test_api_apart(fixture, 1); /* from before a state that came */
    assert_int_equal(ask("DELETE", "/v1/servers/s2?dry_run=true", NULL), 409);
    assert_int_equal(ask("DELETE", "/v1/servers/s2?dry_run=true&force=true", NULL), 200);
    far_test_api_apart(fixture, 0);
    far_test_api_other(fixture, id, 0);
    far_test_api_trim(fixture, 1);
    assert_int_equal(ask("DELETE", "/v1/sites/spare?dry_run=true&force=true", NULL), 400);
}

static void only_what_no_server_holds_is_forgotten(void **unused)
{
    assert_int_equal(ask("GET", "/v1/servers/s2", NULL), 200);
    uint64_t id = strtoull(strstr(far_test_https_body(c), "\"id\":") + 5, NULL, 10);
    far_test_api_trim(fixture, 3);
    far_test_api_other(fixture, id, 2);
    assert_int_equal(ask("POST", "/v1/log/forget?dry_run=true", "{\"before\":3}"), 409);
    assert_non_null(strstr(far_test_https_body(c), "holds the events from 2 on"));
    assert_int_equal(ask("POST", "/v1/log/forget?dry_run=true&force=true", "{\"before\":3}"), 409);
    assert_int_equal(ask("POST", "/v1/log/forget?dry_run=true", "{\"before\":2}"), 409);
    assert_non_null(strstr(far_test_https_body(c), "server 1 still fetches"));
    assert_int_equal(ask("POST", "/v1/log/forget?dry_run=true&force=true", "{\"before\":2}"), 200);
    far_test_api_other(fixture, id, 3);
    assert_int_equal(ask("POST", "/v1/log/forget?dry_run=true", "{\"before\":2}"), 400);
    assert_int_equal(ask("POST", "/v1/log/forget?dry_run=true", "{\"before\":3}"), 200);
    assert_non_null(strstr(far_test_https_body(c), "history_forgotten"));
    assert_int_equal(ask("POST", "/v1/log/forget", "{\"before\":0}"), 400);
    assert_int_equal(ask("POST", "/v1/log/forget?dry_run=true", "{\"before\":0}"), 400);
    far_test_api_silent(fixture, true); /* it said what it held a minute ago */
    assert_int_equal(ask("POST", "/v1/log/forget?dry_run=true", "{\"before\":3}"), 409);
    assert_non_null(strstr(far_test_https_body(c), "has not said lately"));
    assert_int_equal(ask("POST", "/v1/log/forget?dry_run=true&force=true", "{\"before\":3}"), 200);
    far_test_api_silent(fixture, false);
    far_test_api_apart(fixture, 1); /* and what lies between is nowhere */
    assert_int_equal(ask("POST", "/v1/log/forget?dry_run=true", "{\"before\":3}"), 409);
    assert_non_null(strstr(far_test_https_body(c), "keeps events from 1 on"));
    assert_int_equal(ask("POST", "/v1/log/forget?dry_run=true&force=true", "{\"before\":3}"), 200);
    far_test_api_apart(fixture, 0);
    far_test_api_other(fixture, id, 0);
    far_test_api_trim(fixture, 1);
    assert_int_equal(ask("POST", "/v1/log/forget?dry_run=true", "{}"), 400);
    assert_int_equal(ask("POST", "/v1/log/forget?dry_run=true", "{\"before\":3,\"forced\":true}"), 400);
}

static void every_get_answers_from_the_past(void **unused)
{
    uint64_t seq = far_test_api_last_seq(fixture);
    char path[128], at[64];
    assert_int_equal(ask("DELETE", "/v1/sites/spare", NULL), 200);
    assert_int_equal(ask("GET", "/v1/sites/spare", NULL), 404);
    snprintf(path, sizeof path, "/v1/sites/spare?at=%llu", (unsigned long long)seq);
    assert_int_equal(ask("GET", path, NULL), 200);
    for (const struct far_route *route = far_routes; route->pattern != NULL; route++) {
        if (route->action != FAR_ROUTE_LIST && route->action != FAR_ROUTE_CLUSTER && route->action != FAR_ROUTE_LOG_HEAD &&
            route->action != FAR_ROUTE_RETENTION && route->action != FAR_ROUTE_RECOVERY_POLICY) {
            continue;
        }
        snprintf(at, sizeof at, "%s", route->pattern);
        snprintf(path, sizeof path, "%s?at=%llu", at, (unsigned long long)seq);
        assert_int_equal(ask("GET", path, NULL), 200);
    }
    assert_int_equal(ask("GET", "/v1/sites?at=1970-01-01T00:00:00Z", NULL), 200);
    assert_non_null(strstr(far_test_https_body(c), "\"items\":[]"));
    assert_int_equal(ask("GET", "/v1/sites?at=2019-01-01T00:00:00%2B01:00", NULL), 200);
    assert_int_equal(ask("GET", "/v1/sites?at=2999-01-01T00:00:00%2B01:00", NULL), 400);
}

/* Not that it is busy: nobody is to come again later for that. */
static void before_the_first_event_there_was_no_cluster(void **unused)
{
    assert_int_equal(ask("GET", "/v1/cluster?at=0", NULL), 404);
    assert_non_null(strstr(far_test_https_body(c), "no cluster yet behind event 0"));
    assert_int_equal(ask("GET", "/v1/cluster?at=1", NULL), 200);
}

static bool is_cut(const char *path)
{
    assert_int_equal(ask("GET", path, NULL), 200);
    json_t *consumer = answer();
    assert_true(json_is_boolean(json_object_get(consumer, "cut")));
    bool cut = json_is_true(json_object_get(consumer, "cut"));
    json_decref(consumer);
    return cut;
}

static void a_consumer_whose_place_was_cut_is_marked(void **unused)
{
    uint64_t holders[3] = {1};
    char path[64];
    assert_int_equal(ask("GET", "/v1/servers/s2", NULL), 200);
    json_t *second = answer();
    holders[1] = (uint64_t)number(second, "id");
    json_decref(second);
    assert_int_equal(ask("POST", "/v1/consumers", "{\"name\":\"early\",\"from\":\"3\"}"), 201);
    assert_true(!is_cut("/v1/consumers/early"));
    uint64_t seq = far_test_api_last_seq(fixture);
    struct far_cmd_events_cut cut = {.seq = 3, .held_by = {.items = holders, .count = 2}};
    assert_int_equal(far_test_api_apply(fixture, &far_schema_cmd_events_cut, &cut), 0);
    assert_true(!is_cut("/v1/consumers/early")); /* 3 stays, with which it begins */
    cut.seq = 4;
    assert_int_equal(far_test_api_apply(fixture, &far_schema_cmd_events_cut, &cut), 0);
    assert_true(is_cut("/v1/consumers/early"));
    snprintf(path, sizeof path, "/v1/consumers/early?at=%llu", (unsigned long long)seq);
    assert_true(!is_cut(path));
}

/* ---- explanations ---- */

static json_t *explain(const char *object)
{
    char path[128];
    snprintf(path, sizeof path, "/v1/log/explain?object=%s", object);
    if (ask("GET", path, NULL) != 200) {
        fail_msg("%s: %s", path, far_test_https_body(c));
    }
    return answer();
}

/* "because.origin.event.kind": what lies there; texts only. */
static const char *text_at(const json_t *json, const char *path)
{
    char name[64];
    while (*path != '\0') {
        size_t len = strcspn(path, ".");
        snprintf(name, sizeof name, "%.*s", (int)len, path);
        json = json_object_get(json, name);
        path += len + (path[len] == '.');
    }
    return json_is_string(json) ? json_string_value(json) : "(none)";
}

static void an_object_is_explained_by_the_events_that_changed_it(void **unused)
{
    json_t *plan = explain("plan:iron");
    json_t *changes = json_object_get(plan, "changes"), *newest = json_array_get(changes, 0);
    assert_string_equal(text_at(plan, "row.state"), "active");
    assert_string_equal(text_at(newest, "event.kind"), "plan_started");
    assert_string_equal(text_at(newest, "before.state"), "stopped");
    assert_string_equal(text_at(newest, "after.state"), "active");
    assert_string_equal(text_at(newest, "cause.by"), "a command of");
    assert_string_equal(text_at(newest, "cause.actor"), "token:2");
    assert_string_equal(text_at(json_array_get(changes, json_array_size(changes) - 1), "event.kind"), "plan_created");
    assert_string_equal(text_at(plan, "because.origin.event.kind"), "plan_created");
    json_decref(plan);

    json_t *checkpoint = explain(strrchr(checkpoint_path, '/') + 1);
    assert_string_equal(text_at(checkpoint, "because.origin.event.kind"), "checkpoint_created");
    assert_string_equal(text_at(checkpoint, "because.origin.cause.by"), "a report of");
    assert_string_equal(text_at(checkpoint, "because.because.origin.event.kind"), "job_started");
    assert_string_equal(text_at(checkpoint, "because.because.origin.cause.actor"), "token:2");
    assert_string_equal(text_at(checkpoint, "because.because.because"), "(none)");
    json_decref(checkpoint);
}

static void what_was_removed_is_explained_by_its_id(void **unused)
{
    assert_int_equal(ask("GET", "/v1/sites/spare", NULL), 200);
    json_t *site = answer();
    char id[32];
    snprintf(id, sizeof id, "%lld", (long long)number(site, "id"));
    assert_int_equal(ask("DELETE", "/v1/sites/spare", NULL), 200);
    json_t *gone = explain(id);
    assert_null(json_object_get(gone, "row"));
    assert_string_equal(text_at(json_array_get(json_object_get(gone, "changes"), 0), "change"), "removed");
    assert_string_equal(text_at(json_array_get(json_object_get(gone, "changes"), 0), "cause.name"), "test");
    assert_string_equal(text_at(gone, "because.origin.event.kind"), "site_created");
    assert_int_equal(ask("GET", "/v1/log/explain?object=site:spare", NULL), 404);
    assert_int_equal(ask("GET", "/v1/log/explain?object=999999", NULL), 404);
    assert_int_equal(ask("GET", "/v1/log/explain?object=colour:red", NULL), 400);
    assert_int_equal(ask("GET", "/v1/log/explain", NULL), 400);
    json_decref(site);
    json_decref(gone);
}

static void a_job_of_the_schedule_leads_to_who_started_the_plan(void **unused)
{
    struct world v;
    struct far_slice member = S("web");
    uint8_t hash[32];
    uint64_t plan_id = 0;
    char id[32], wanted[32];
    world_init(&v);
    world_cluster(&v);
    world_node(&v, "n1", "paris");
    world_workload(&v, "web", 1);
    plan_id = MUST(&v, plan_create, .name = S("clock"), .source_site = S("paris"), .target_site = S("lyon"),
                   .workloads = {.items = &member, .count = 1}, .interval_s = 60);
    MUST(&v, plan_start, .name = S("clock"));
    far_token_hash(secret, hash);
    MUST(&v, token_create, .name = S("test"), .purpose = FAR_token_purpose_api, .hash = far_slice(hash, 32));
    world_pass(&v, 61000);
    uint64_t job_id = world_row_plan(&v, plan_id).running_job_id;
    assert_true(job_id != 0);
    far_test_api_become(fixture, far_buf_slice(&v.log));
    snprintf(id, sizeof id, "job:%llu", (unsigned long long)job_id);
    snprintf(wanted, sizeof wanted, "plan:%llu", (unsigned long long)plan_id);
    json_t *job = explain(id);
    assert_string_equal(text_at(job, "because.origin.event.kind"), "job_started");
    assert_string_equal(text_at(job, "because.origin.cause.by"), "the cluster itself, at its time");
    assert_string_equal(text_at(job, "because.because.object"), wanted);
    assert_string_equal(text_at(job, "because.because.origin.event.kind"), "plan_started");
    assert_string_equal(text_at(job, "because.because.origin.cause.actor"), "token:2");
    json_decref(job);
    world_done(&v);
}

/* Also of the past: there the node has said less. */
static void a_running_task_is_shown_with_what_its_node_keeps_for_it(void **unused)
{
    struct world v;
    uint8_t hash[32];
    char path[64];
    world_init(&v);
    world_cluster(&v);
    world_node(&v, "n1", "paris");
    world_workload(&v, "web", 1);
    world_plan(&v, "p", (const char *const[]){"web"}, 1);
    far_token_hash(secret, hash);
    MUST(&v, token_create, .name = S("test"), .purpose = FAR_token_purpose_api, .hash = far_slice(hash, 32));
    uint64_t job_id = MUST(&v, plan_replicate, .name = S("p")), until_ms = v.now_ms + 15000, seq = 0;
    for (uint64_t done = 1000; done <= 2000; done += 1000) {
        struct far_row_task task = world_row_task(&v, job_id, 1);
        seq = v.events;
        world_report(&v, &task, (struct far_sub_report_item){.state = FAR_report_state_running, .bytes_done = done});
        assert_int_equal(world_row_node(&v, task.node_id).running_count, 1);
    }
    far_test_api_become(fixture, far_buf_slice(&v.log));
    for (int past = 0; past < 2; past++) {
        int len = snprintf(path, sizeof path, "/v1/jobs/%llu", (unsigned long long)job_id);
        if (past) {
            snprintf(path + len, sizeof path - (size_t)len, "?at=%llu", (unsigned long long)seq);
        }
        assert_int_equal(ask("GET", path, NULL), 200);
        json_t *job = answer();
        json_t *task = json_array_get(json_object_get(job, "tasks"), 0);
        assert_string_equal(json_string_value(json_object_get(task, "state")), "running");
        assert_int_equal(json_integer_value(json_object_get(task, "bytes_done")), past ? 1000 : 2000);
        assert_int_equal(json_integer_value(json_object_get(task, "lease_until_ms")), until_ms);
        json_decref(job);
    }
    world_done(&v);
}

static int setup(void **unused)
{
    make_world();
    return 0;
}

static int teardown(void **unused)
{
    world_done(&w);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_predicted_is_what_happens_on_every_route),
        cmocka_unit_test(no_command_is_without_a_trial),
        cmocka_unit_test_setup_teardown(a_rejection_is_predicted_as_it_comes, start, stop),
        cmocka_unit_test_setup_teardown(a_limit_with_a_new_time_zone_is_predicted_with_the_zone, start, stop),
        cmocka_unit_test_setup_teardown(a_join_is_predicted_without_a_token_of_a_user, start, stop),
        cmocka_unit_test_setup_teardown(an_acknowledgement_is_predicted_and_not_noted, start, stop),
        cmocka_unit_test_setup_teardown(arguments_of_the_past_are_refused_where_they_mean_nothing, start, stop),
        cmocka_unit_test_setup_teardown(the_only_server_with_some_events_stays, start, stop),
        cmocka_unit_test_setup_teardown(only_what_no_server_holds_is_forgotten, start, stop),
        cmocka_unit_test_setup_teardown(every_get_answers_from_the_past, start, stop),
        cmocka_unit_test_setup_teardown(before_the_first_event_there_was_no_cluster, start, stop),
        cmocka_unit_test_setup_teardown(a_consumer_whose_place_was_cut_is_marked, start, stop),
        cmocka_unit_test_setup_teardown(an_object_is_explained_by_the_events_that_changed_it, start, stop),
        cmocka_unit_test_setup_teardown(what_was_removed_is_explained_by_its_id, start, stop),
        cmocka_unit_test_setup_teardown(a_job_of_the_schedule_leads_to_who_started_the_plan, start, stop),
        cmocka_unit_test_setup_teardown(a_running_task_is_shown_with_what_its_node_keeps_for_it, start, stop),
    };
    return cmocka_run_group_tests_name("dry_run", tests, setup, teardown);
}
