/* Events that nobody holds any more are given up by an operator: the history begins later, once, and cuts go on from there. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

static struct world w;

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    for (uint64_t i = 0; i < 10; i++) {
        MUST(&w, recovery_policy_set, .second_approval = i % 2 == 0);
    }
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static uint64_t first_seq(void)
{
    struct far_row_retention row = {.first_seq = 0};
    struct far_key key = far_key(&far_schema_row_retention);
    (void)far_state_get(&w.state, &far_schema_row_retention, &key, &w.arena, &row, NULL);
    return row.first_seq;
}

static void the_history_begins_later_and_is_cut_from_there(void **unused)
{
    uint64_t one = 1, events = w.events;
    MUST(&w, history_forget, .before = 4);
    assert_int_equal(w.events, events + 1);
    assert_int_equal(first_seq(), 4);
    MUST(&w, retention_set, .days = 7);
    assert_int_equal(first_seq(), 4);
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    MUST(&w, events_cut, .seq = 6, .held_by = {.items = &one, .count = 1});
    w.actor = 0;
    assert_int_equal(first_seq(), 6);
    MUST(&w, history_forget, .before = w.events + 1); /* a server may hold none at all */
}

static void what_is_gone_or_to_come_is_refused(void **unused)
{
    MUST(&w, history_forget, .before = 4, .forced = true);
    struct far_hash128 digest = w.state.digest;
    assert_int_equal(APPLY(&w, history_forget, .before = 4), FAR_CONFLICT);
    assert_int_equal(APPLY(&w, history_forget, .before = 1), FAR_CONFLICT);
    assert_int_equal(APPLY(&w, history_forget, .before = 0), FAR_INVALID);
    assert_int_equal(APPLY(&w, history_forget, .before = w.events + 2), FAR_INVALID);
    assert_int_equal(APPLY(&w, history_forget, .before = UINT64_MAX), FAR_INVALID);
    assert_true(far_hash128_equal(w.state.digest, digest));
}

static void only_an_operator_gives_events_up(void **unused)
{
    static const uint64_t actors[] = {FAR_ACTOR_SYSTEM, FAR_ACTOR_NODE};
    struct far_hash128 digest = w.state.digest;
    for (size_t i = 0; i < 2; i++) {
        w.actor = far_actor(actors[i], 1);
        assert_int_equal(APPLY(&w, history_forget, .before = 4), FAR_DENIED);
    }
    assert_true(far_hash128_equal(w.state.digest, digest));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_history_begins_later_and_is_cut_from_there, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_gone_or_to_come_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(only_an_operator_gives_events_up, setup, teardown),
    };
    return cmocka_run_group_tests_name("fsm_forget", tests, NULL, NULL);
}
