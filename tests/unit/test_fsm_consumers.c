/* Named consumers in the core, and the severity of events. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <stdio.h>

static struct world w;

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static struct far_row_consumer row_of(uint64_t id)
{
    struct far_row_consumer row;
    struct far_key key = far_key(&far_schema_row_consumer);
    far_key_u64(&key, id);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_consumer, &key, &w.arena, &row, &w.err), 0);
    return row;
}

static void a_consumer_moves_forward_and_never_back(void **unused)
{
    uint8_t head[32] = {7};
    uint64_t id = MUST(&w, consumer_create, .name = S("audit"), .seq = 0);
    assert_int_equal(row_of(id).seq, 0);
    MUST(&w, consumer_ack, .name = S("audit"), .seq = 2, .head = far_slice(head, 32));
    assert_int_equal(row_of(id).seq, 2);
    assert_int_equal(row_of(id).head.len, 32);
    assert_int_equal(row_of(id).acked_ms, w.now_ms);
    uint64_t events = w.events;
    MUST(&w, consumer_ack, .name = S("audit"), .seq = 1);
    MUST(&w, consumer_ack, .name = S("audit"), .seq = 2);
    assert_int_equal(w.events, events); /* late ones are no events */
    assert_int_equal(row_of(id).seq, 2);
}

static void a_consumer_is_never_ahead_of_the_events(void **unused)
{
    uint64_t id = MUST(&w, consumer_create, .name = S("end"), .from_end = true, .seq = 1000000);
    assert_int_equal(row_of(id).seq, w.events - 1);
    assert_int_equal(APPLY(&w, consumer_create, .name = S("ahead"), .seq = w.events + 1), FAR_INVALID);
    assert_int_equal(APPLY(&w, consumer_ack, .name = S("end"), .seq = w.events + 1), FAR_INVALID);
    assert_int_equal(APPLY(&w, consumer_ack, .name = S("end"), .seq = w.events, .head = S("short")), FAR_INVALID);
    assert_int_equal(APPLY(&w, consumer_create, .name = S("End!")), FAR_INVALID);
    MUST(&w, consumer_ack, .name = S("end"), .seq = w.events);
}

static void there_are_at_most_a_thousand_consumers(void **unused)
{
    char name[16];
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "c%d", i);
        MUST(&w, consumer_create, .name = S(name));
    }
    assert_int_equal(APPLY(&w, consumer_create, .name = S("one-more")), FAR_LIMIT);
    MUST(&w, consumer_remove, .name = S("c7"));
    MUST(&w, consumer_create, .name = S("one-more"));
}

static void every_event_has_a_severity_and_failures_have_more(void **unused)
{
    for (size_t i = 0; far_schemas[i] != NULL; i++) {
        uint64_t zero[128] = {0};
        assert_true(far_schemas[i]->size <= sizeof zero);
        uint64_t severity = far_schemas[i]->severity(zero);
        bool is_event = far_schemas[i]->klass == FAR_CLASS_ev;
        if (is_event != (severity >= FAR_severity_info && severity <= FAR_severity_error)) {
            fail_msg("%s has severity %d", far_schemas[i]->name, (int)severity);
        }
    }
    struct far_ev_job_finished job = {.state = FAR_job_state_succeeded};
    assert_int_equal(far_schema_ev_job_finished.severity(&job), FAR_severity_notice);
    job.state = FAR_job_state_partial;
    assert_int_equal(far_schema_ev_job_finished.severity(&job), FAR_severity_warning);
    job.state = FAR_job_state_failed;
    assert_int_equal(far_schema_ev_job_finished.severity(&job), FAR_severity_error);
    struct far_ev_point_verified point = {.state = FAR_point_state_damaged};
    assert_int_equal(far_schema_ev_point_verified.severity(&point), FAR_severity_error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_consumer_moves_forward_and_never_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_consumer_is_never_ahead_of_the_events, setup, teardown),
        cmocka_unit_test_setup_teardown(there_are_at_most_a_thousand_consumers, setup, teardown),
        cmocka_unit_test(every_event_has_a_severity_and_failures_have_more),
    };
    return cmocka_run_group_tests_name("consumers", tests, NULL, NULL);
}
