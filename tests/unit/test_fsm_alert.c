/* Alerts: one for each cause and object, counted at most once a minute, bounded while open and after. The core's functions are called
 * as a decide does; every cell of the table is driven by test_fsm_tables. */
#include "fsm/alert.h"
#include "lib/fsm_world.h"

#include "lib/cm.h"

static struct world w;
static struct far_arena arena;
static struct far_step step;

static int setup(void **unused)
{
    static const uint8_t no_id[16];
    world_init(&w);
    world_cluster(&w);
    far_arena_init(&arena, 1 << 28);
    step = (struct far_step){.state = &w.state, .arena = &arena, .err = &w.err, .time_ms = w.now_ms, .command_id = no_id};
    struct far_key key = far_key(&far_schema_row_progress);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_progress, &key, &arena, &step.progress, &w.err), 0);
    return 0;
}

static int teardown(void **unused)
{
    assert_int_equal(far_fsm_invariants(&w.state, &w.err), 0);
    far_arena_done(&arena);
    world_done(&w);
    return 0;
}

static void raise(uint64_t kind, uint64_t object_id, const char *message)
{
    struct far_alert_cause cause = {.kind = kind, .object_id = object_id, .plan_id = 3};
    assert_int_equal(far_alert_raise(&step, &cause, "%s", message), 0);
}

static void clear(uint64_t kind, uint64_t object_id)
{
    assert_int_equal(far_alert_clear(&step, kind, object_id), 0);
}

static uint64_t counts(bool open)
{
    struct far_row_alert_progress row = {.open_count = 0};
    struct far_key key = far_key(&far_schema_row_alert_progress);
    (void)far_state_get(&w.state, &far_schema_row_alert_progress, &key, &arena, &row, NULL);
    return open ? row.open_count : row.cleared_count;
}

static struct far_row_alert found(uint64_t kind, uint64_t object_id)
{
    struct far_row_alert row = {.id = 0};
    int rc = far_alert_find(&step, kind, object_id, &row);
    assert_true(rc == 0 || rc == FAR_NOT_FOUND);
    return rc == 0 ? row : (struct far_row_alert){.id = 0};
}

static void a_cause_has_one_alert_and_is_counted_once_a_minute(void **unused)
{
    raise(FAR_alert_kind_rpo_late, 7, "late by 5 s");
    raise(FAR_alert_kind_rpo_late, 7, "late by 6 s");
    assert_int_equal(found(FAR_alert_kind_rpo_late, 7).count, 1);
    step.time_ms += FAR_ALERT_REPEAT_MS - 1;
    raise(FAR_alert_kind_rpo_late, 7, "late by 65 s");
    assert_int_equal(found(FAR_alert_kind_rpo_late, 7).count, 1);
    step.time_ms += 1;
    raise(FAR_alert_kind_rpo_late, 7, "late by 66 s");
    struct far_row_alert row = found(FAR_alert_kind_rpo_late, 7);
    assert_int_equal(row.count, 2);
    assert_true(far_slice_equal(row.message, S("late by 66 s")));
    assert_int_equal(row.repeated_ms, step.time_ms);
    assert_int_equal(counts(true), 1);
}

static void causes_and_objects_do_not_mix(void **unused)
{
    raise(FAR_alert_kind_rpo_late, 7, "a");
    raise(FAR_alert_kind_rpo_late, 8, "b");
    raise(FAR_alert_kind_change_list_missed, 7, "c");
    clear(FAR_alert_kind_rpo_late, 7);
    clear(FAR_alert_kind_rpo_late, 7); /* again, and what never was: nothing happens */
    clear(FAR_alert_kind_change_list_refused, 7);
    assert_int_equal(found(FAR_alert_kind_rpo_late, 7).id, 0);
    assert_int_not_equal(found(FAR_alert_kind_rpo_late, 8).id, 0);
    assert_int_not_equal(found(FAR_alert_kind_change_list_missed, 7).id, 0);
    assert_int_equal(counts(true), 2);
    assert_int_equal(counts(false), 1);
}

static void a_cause_that_comes_back_raises_another_one(void **unused)
{
    raise(FAR_alert_kind_rpo_late, 7, "a");
    uint64_t first = found(FAR_alert_kind_rpo_late, 7).id;
    clear(FAR_alert_kind_rpo_late, 7);
    raise(FAR_alert_kind_rpo_late, 7, "b");
    assert_true(found(FAR_alert_kind_rpo_late, 7).id > first);
    assert_int_equal(found(FAR_alert_kind_rpo_late, 7).count, 1);
}

static void the_oldest_cleared_one_is_forgotten(void **unused)
{
    raise(FAR_alert_kind_rpo_late, 1, "the first");
    struct far_row_alert first = found(FAR_alert_kind_rpo_late, 1), row;
    for (uint64_t i = 1; i <= FAR_ALERTS_CLEARED_MAX; i++) {
        raise(FAR_alert_kind_rpo_late, i, "late");
        clear(FAR_alert_kind_rpo_late, i);
        step.time_ms++;
        far_arena_reset(&arena);
    }
    assert_int_equal(counts(false), FAR_ALERTS_CLEARED_MAX);
    assert_int_equal(far_row_find(&step, &far_schema_row_alert, first.id, &row), 0);
    raise(FAR_alert_kind_rpo_late, 5000, "late");
    clear(FAR_alert_kind_rpo_late, 5000);
    assert_int_equal(counts(false), FAR_ALERTS_CLEARED_MAX);
    assert_int_equal(far_row_find(&step, &far_schema_row_alert, first.id, &row), FAR_NOT_FOUND);
    assert_int_equal(counts(true), 0);
}

static void beyond_the_bound_none_is_raised_and_nothing_fails(void **unused)
{
    struct far_row_alert_progress full = {.open_count = FAR_ALERTS_OPEN_MAX}, none = {.open_count = 0};
    struct far_key key = far_key(&far_schema_row_alert_progress);
    assert_int_equal(far_key_put(&step, &far_schema_row_alert_progress, &key, &full), 0); /* as if there were so many */
    raise(FAR_alert_kind_rpo_late, 7, "late");
    assert_int_equal(found(FAR_alert_kind_rpo_late, 7).id, 0);
    assert_int_equal(far_key_put(&step, &far_schema_row_alert_progress, &key, &none), 0);
}

static void a_long_message_is_cut_between_characters(void **unused)
{
    char text[1000] = "x";
    for (size_t i = 0; i < 300; i++) {
        strcat(text, "\xc3\xb6");
    }
    raise(FAR_alert_kind_rpo_late, 7, text);
    assert_int_equal(found(FAR_alert_kind_rpo_late, 7).message.len, 399);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_cause_has_one_alert_and_is_counted_once_a_minute), TEST(causes_and_objects_do_not_mix),
        TEST(a_cause_that_comes_back_raises_another_one),         TEST(the_oldest_cleared_one_is_forgotten),
        TEST(beyond_the_bound_none_is_raised_and_nothing_fails),  TEST(a_long_message_is_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
