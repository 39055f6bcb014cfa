/* One event of what a report changed in several jobs, from outside: each of the jobs, their plans and the node find it. */
#include "../lib/cm.h"

#include "../lib/api_fixture.h"
#include "../lib/fsm_world.h"
#include "../lib/https.h"

#include <jansson.h>

static struct far_test_api *fixture;
static struct world w;
static char auth[256];
static uint64_t nodes[2], jobs[2], seq;
static const uint8_t secret[32] = {7};

static void make_world(void)
{
    static const char *const plans[] = {"gold", "silver"}, *const members[] = {"web", "db"};
    uint8_t hash[32];
    world_init(&w);
    world_cluster(&w);
    nodes[0] = world_node(&w, "n1", "paris");
    nodes[1] = world_node(&w, "n2", "lyon");
    for (size_t i = 0; i < 2; i++) {
        world_workload(&w, members[i], 1);
        world_plan(&w, plans[i], &members[i], 1);
    }
    for (size_t i = 0; i < 2; i++) {
        jobs[i] = MUST(&w, plan_replicate, .name = S(plans[i]));
    }
    assert_int_equal(world_work(&w, nodes[0]), 2);
    seq = w.result.seq_first;
    assert_int_equal(w.result.seq_last, seq);
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
    return 0;
}

static int teardown(void **unused)
{
    far_test_api_stop(fixture);
    world_done(&w);
    return 0;
}

/* The first event that the query gives; NULL: none. */
static json_t *first_event(const char *arguments)
{
    char path[256];
    struct far_test_https *c = far_test_https_open(fixture->port, fixture->ca_path, 0);
    snprintf(path, sizeof path, "/v1/events?follow=false&format=ndjson&kind=tasks_changed&%s", arguments);
    assert_int_equal(far_test_https_request(c, "GET", path, auth, NULL), 200);
    const char *body = far_test_https_body(c);
    json_t *event = json_loadb(body, strcspn(body, "\n"), 0, NULL);
    if (json_object_get(event, "kind") == NULL) {
        json_decref(event);
        event = NULL;
    }
    far_test_https_close(c);
    return event;
}

static void assert_finds(const char *subject, uint64_t id)
{
    char arguments[64];
    snprintf(arguments, sizeof arguments, "%s%llu", subject, (unsigned long long)id);
    json_t *event = first_event(arguments);
    assert_int_equal(json_integer_value(json_object_get(event, "seq")), seq);
    json_decref(event);
}

static void who_is_named_in_an_item_finds_the_event(void **unused)
{
    assert_finds("subject=job:", jobs[0]);
    assert_finds("subject=job:", jobs[1]);
    assert_finds("subject=node:", nodes[0]); /* whose report it was */
    assert_finds("subject=node:", nodes[1]); /* which got work by it */
    assert_finds("plan=gold&from=", seq);
    assert_finds("plan=silver&from=", seq);
    assert_null(first_event("subject=999999"));
}

static void its_items_tell_whose_tasks_they_are(void **unused)
{
    size_t of[2] = {0};
    json_t *event = first_event("limit=1");
    const json_t *data = json_object_get(event, "data"), *items = json_object_get(data, "items");
    assert_int_equal(json_integer_value(json_object_get(data, "node_id")), nodes[0]);
    for (size_t i = 0; i < json_array_size(items); i++) {
        json_int_t own = json_integer_value(json_object_get(json_array_get(items, i), "job_id"));
        json_int_t job = own != 0 ? own : json_integer_value(json_object_get(data, "job_id"));
        for (size_t k = 0; k < 2; k++) {
            of[k] += (uint64_t)job == jobs[k];
        }
    }
    assert_int_equal(of[0], 3); /* freeze, send, receive */
    assert_int_equal(of[1], 3);
    json_decref(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_named_in_an_item_finds_the_event),
        cmocka_unit_test(its_items_tell_whose_tasks_they_are),
    };
    return cmocka_run_group_tests_name("one event of several jobs", tests, setup, teardown);
}
