/* The cluster's clock: runs by the leader's monotonic clock, slews toward the median, never goes back. */
#include "../lib/cm.h"

#include "log/cluster_clock.h"

enum { WALL = 1000000000 };
static const uint64_t voters[] = {1, 2, 3};

static struct far_cluster_clock three(int64_t a, int64_t b, int64_t c, uint64_t mono_ms)
{
    struct far_cluster_clock clock;
    far_cluster_clock_init(&clock);
    far_cluster_clock_servers(&clock, voters, 3);
    const int64_t off[] = {a, b, c};
    for (size_t i = 0; i < 3; i++) {
        far_cluster_clock_sample(&clock, voters[i], (uint64_t)((int64_t)(WALL + mono_ms) + off[i]), mono_ms, mono_ms);
    }
    return clock;
}

static void resample(struct far_cluster_clock *clock, int64_t a, int64_t b, int64_t c, uint64_t mono_ms)
{
    const int64_t off[] = {a, b, c};
    for (size_t i = 0; i < 3; i++) {
        far_cluster_clock_sample(clock, voters[i], (uint64_t)((int64_t)(WALL + mono_ms) + off[i]), mono_ms, mono_ms);
    }
}

static void test_first_stamp_is_the_median(void **state)
{
    struct far_cluster_clock clock = three(-500, 100, 90000, 1000);
    assert_int_equal(far_cluster_clock_stamp(&clock, 1000), WALL + 1100);
    far_cluster_clock_init(&clock);
    assert_int_equal(far_cluster_clock_stamp(&clock, 5), 0);
}

static void test_slews_at_most_500_ppm(void **state)
{
    struct far_cluster_clock clock = three(5000, 5000, 5000, 1000);
    far_cluster_clock_observe(&clock, WALL + 1000, 1000);
    for (uint64_t t = 1000; t <= 101000; t += 10) {
        if (t % 1000 == 0) {
            resample(&clock, 5000, 5000, 5000, t);
        }
        far_cluster_clock_stamp(&clock, t);
    }
    uint64_t stamp = far_cluster_clock_stamp(&clock, 101000); /* 100 s later: 50 ms gained */
    assert_in_range(stamp, WALL + 101000 + 49, WALL + 101000 + 50);
    assert_false(clock.is_suspect);
    assert_int_equal(clock.step_count, 0);
}

static void test_ahead_of_the_median_runs_slower_never_back(void **state)
{
    struct far_cluster_clock clock = three(0, 0, 0, 0);
    far_cluster_clock_observe(&clock, WALL + 3000, 0);
    uint64_t last = 0;
    for (uint64_t t = 0; t <= 20000; t += 7) {
        if (t % 700 == 0) {
            resample(&clock, 0, 0, 0, t);
        }
        uint64_t stamp = far_cluster_clock_stamp(&clock, t);
        assert_true(stamp >= last);
        last = stamp;
    }
    assert_in_range(last, WALL + 22980, WALL + 22999);
}

static void test_a_big_step_forward_needs_a_majority(void **state)
{
    struct far_cluster_clock clock = three(60000, 0, 0, 0);
    far_cluster_clock_observe(&clock, WALL, 0);
    far_cluster_clock_stamp(&clock, 100);
    assert_false(clock.is_suspect); /* one wrong clock moves no median */
    resample(&clock, 60000, 100000, 200000, 200);
    assert_in_range(far_cluster_clock_stamp(&clock, 200), WALL + 199, WALL + 201);
    assert_true(clock.is_suspect);
    resample(&clock, 60000, 60500, 200000, 300);
    assert_in_range(far_cluster_clock_stamp(&clock, 300), WALL + 60300, WALL + 60800);
    assert_false(clock.is_suspect);
    assert_int_equal(clock.step_count, 1);
}

static void test_with_the_log_a_step_waits_for_it(void **state)
{
    struct far_cluster_clock clock = three(60000, 60100, 0, 0);
    clock.steps_by_log = true;
    far_cluster_clock_observe(&clock, WALL, 0);
    assert_in_range(far_cluster_clock_stamp(&clock, 100), WALL + 99, WALL + 101);
    assert_int_equal(clock.judgement, FAR_CLOCK_FORWARD);
    assert_int_equal(clock.agreeing, 2);
    assert_in_range(clock.offset_ms, 59000, 61000);
    far_cluster_clock_observe(&clock, WALL + 100 + 60000, 100); /* the command was applied */
    assert_in_range(far_cluster_clock_stamp(&clock, 200), WALL + 60199, WALL + 60201);
    assert_int_equal(clock.judgement, FAR_CLOCK_GOOD);
    assert_int_equal(clock.step_count, 0);
    resample(&clock, 0, 0, 0, 300); /* everybody goes back: time does not */
    uint64_t before = far_cluster_clock_stamp(&clock, 300);
    assert_int_equal(clock.judgement, FAR_CLOCK_AHEAD);
    assert_in_range(far_cluster_clock_stamp(&clock, 2300), before + 1998, before + 2000);
    resample(&clock, 0, 600000, 900000, 2400);
    far_cluster_clock_stamp(&clock, 2400);
    assert_int_equal(clock.judgement, FAR_CLOCK_SUSPECT);
}

static void test_a_single_clock_of_three_is_no_majority(void **state)
{
    struct far_cluster_clock clock;
    far_cluster_clock_init(&clock);
    far_cluster_clock_servers(&clock, voters, 3);
    far_cluster_clock_observe(&clock, WALL, 0);
    far_cluster_clock_sample(&clock, 1, WALL + 3600 * 1000, 10, 10);
    assert_in_range(far_cluster_clock_stamp(&clock, 10), WALL, WALL + 11);
    assert_true(clock.is_suspect);
}

/* Found by the simulation: a server that led before it knew who else votes took its own clock for the majority. */
static void test_before_the_voters_are_known_there_is_no_majority(void **state)
{
    struct far_cluster_clock clock;
    far_cluster_clock_init(&clock);
    far_cluster_clock_observe(&clock, WALL, 0);
    far_cluster_clock_sample(&clock, 1, WALL + 3600 * 1000, 10, 10);
    assert_in_range(far_cluster_clock_stamp(&clock, 10), WALL, WALL + 11);
    assert_true(clock.is_suspect);
}

/* Found by the simulation: the clock of a standby, and of the removed server whose machine it was given, were two. */
static void test_the_clock_of_a_standby_does_not_count(void **state)
{
    struct far_cluster_clock clock = three(0, 0, 0, 0);
    far_cluster_clock_observe(&clock, WALL, 0);
    far_cluster_clock_sample(&clock, 9, WALL + 3600 * 1000, 10, 10);
    assert_int_equal(clock.sample_count, 3);
}

static void test_a_big_step_back_is_slewed_and_suspect(void **state)
{
    struct far_cluster_clock clock = three(-60000, -60000, -60000, 0);
    far_cluster_clock_observe(&clock, WALL, 0);
    uint64_t first = far_cluster_clock_stamp(&clock, 0);
    uint64_t later = far_cluster_clock_stamp(&clock, 20000);
    assert_true(clock.is_suspect);
    assert_in_range(later - first, 19989, 19991);
}

static void test_old_slow_and_foreign_samples_do_not_count(void **state)
{
    struct far_cluster_clock clock = three(5000, 5000, 5000, 0);
    far_cluster_clock_observe(&clock, WALL, 0);
    uint64_t late = FAR_CLUSTER_CLOCK_FRESH_MS + 1;
    assert_int_equal(far_cluster_clock_stamp(&clock, late), WALL + late);
    far_cluster_clock_sample(&clock, 1, WALL, late, late + FAR_CLUSTER_CLOCK_RTT_MAX_MS + 1);
    far_cluster_clock_sample(&clock, 1, WALL, late, late - 1);
    far_cluster_clock_stamp(&clock, late + 1);
    assert_int_equal(clock.offset_ms, 0);
    far_cluster_clock_sample(&clock, 9, WALL + 9000 + late, late, late);
    far_cluster_clock_servers(&clock, voters, 3);
    far_cluster_clock_stamp(&clock, late + 1);
    assert_int_equal(clock.offset_ms, 0);
}

static void test_a_new_leader_goes_on_where_the_last_one_was(void **state)
{
    struct far_cluster_clock clock;
    far_cluster_clock_init(&clock);
    far_cluster_clock_observe(&clock, WALL + 100, 50);
    far_cluster_clock_observe(&clock, WALL + 90, 60); /* an older word changes nothing */
    assert_int_equal(far_cluster_clock_stamp(&clock, 1050), WALL + 1100);
    far_cluster_clock_observe(&clock, WALL + 5000, 1050);
    assert_int_equal(far_cluster_clock_stamp(&clock, 1051), WALL + 5001);
    assert_int_equal(far_cluster_clock_stamp(&clock, 1000), WALL + 5001);
}

static void test_the_table_of_clocks_is_bounded(void **state)
{
    struct far_cluster_clock clock;
    far_cluster_clock_init(&clock);
    for (uint64_t id = 1; id <= FAR_CLUSTER_CLOCKS_MAX + 3; id++) {
        far_cluster_clock_sample(&clock, id, WALL, 1, 1);
    }
    assert_int_equal(clock.sample_count, FAR_CLUSTER_CLOCKS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_stamp_is_the_median),
        cmocka_unit_test(test_slews_at_most_500_ppm),
        cmocka_unit_test(test_ahead_of_the_median_runs_slower_never_back),
        cmocka_unit_test(test_a_big_step_forward_needs_a_majority),
        cmocka_unit_test(test_with_the_log_a_step_waits_for_it),
        cmocka_unit_test(test_a_single_clock_of_three_is_no_majority),
        cmocka_unit_test(test_before_the_voters_are_known_there_is_no_majority),
        cmocka_unit_test(test_the_clock_of_a_standby_does_not_count),
        cmocka_unit_test(test_a_big_step_back_is_slewed_and_suspect),
        cmocka_unit_test(test_old_slow_and_foreign_samples_do_not_count),
        cmocka_unit_test(test_a_new_leader_goes_on_where_the_last_one_was),
        cmocka_unit_test(test_the_table_of_clocks_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
