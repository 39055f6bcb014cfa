/* Limits of platforms, in the core alone: never more at a time than a site bears, whatever is done beside it, and nobody is forgotten. */
#include "lib/run_world.h"

enum { MANY = 10, DISKS = 2 };
static char names[MANY][16];

static void make_plan(const char *name, size_t first, size_t count)
{
    const char *list[MANY];
    for (size_t i = 0; i < count; i++) {
        snprintf(names[first + i], sizeof names[0], "vm%zu", first + i);
        list[i] = names[first + i];
        world_workload(&w, names[first + i], DISKS);
    }
    world_plan(&w, name, list, count);
}

/* What a node has to do of this kind and operation. */
static size_t held(uint64_t node, uint64_t kind, uint64_t operation, struct far_sub_order *ret_first)
{
    struct far_list list;
    size_t count = 0;
    assert_int_equal(far_query_orders(&w.state, node, 1000, &w.arena, &list, &w.err), 0);
    for (size_t i = 0; i < list.count; i++) {
        const struct far_sub_order *order = (const struct far_sub_order *)list.items + i;
        const struct far_sub_machine_order *machine = order->machine.items;
        if (order->kind == kind && (order->machine.count > 0 ? machine->operation : 0) == operation) {
            *ret_first = count == 0 ? *order : *ret_first;
            count++;
        }
    }
    return count;
}

static size_t sends_held(void)
{
    struct far_sub_order first;
    return held(src, FAR_task_kind_freeze, 0, &first) + held(src, FAR_task_kind_send, 0, &first);
}

static size_t recoveries_held(void)
{
    struct far_sub_order first;
    return held(dst, FAR_task_kind_restore, 0, &first) + held(dst, FAR_task_kind_machine, FAR_machine_operation_up, &first);
}

/* Each report alone, looking at what is held between them; returns the most that was. */
static size_t work_and_look(size_t (*count)(void), uint64_t job, size_t limit)
{
    size_t most = 0;
    for (unsigned i = 0; i < 2000 && world_row_job(&w, job).state == FAR_job_state_running; i++) {
        world_pass(&w, 2);
        most = count() > most ? count() : most;
        assert_true(count() <= limit);
        if (world_work(&w, src) + world_work(&w, dst) == 0) {
            return most;
        }
        assert_true(count() <= limit);
        most = count() > most ? count() : most;
        far_arena_reset(&w.arena);
    }
    return most;
}

static void cycles_send_no_more_at_a_time_than_the_source_bears(void **unused)
{
    make_plan("ten", 0, MANY);
    MUST(&w, site_update, .name = S("paris"), .parallel_sends = 3);
    uint64_t job = MUST(&w, plan_replicate, .name = S("ten"));
    assert_int_equal(work_and_look(sends_held, job, 3), 3);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    assert_int_equal(world_row_job(&w, job).tasks_done, MANY * (3 + 2 * DISKS));
}

static void runs_recover_no_more_at_a_time_than_the_target_bears(void **unused)
{
    make_plan("ten", 0, MANY);
    uint64_t job = MUST(&w, plan_replicate, .name = S("ten"));
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    MUST(&w, site_update, .name = S("lyon"), .parallel_recoveries = 4);
    uint64_t run = MUST(&w, run_start, .plan = S("ten"), .kind = FAR_job_kind_test_recovery);
    assert_int_equal(work_and_look(recoveries_held, run, 4), 4);
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
    assert_int_equal(world_row_job(&w, run).tasks_done, MANY * (DISKS + 1));
    MUST(&w, run_finish, .job_id = run);
    work();
    assert_int_equal(world_row_job(&w, run).state, FAR_job_state_succeeded);
}

/* Who waits is told why, and begins in its turn: the older job first, the disks of one workload after those of the one before. */
static void what_waits_says_so_and_begins_in_its_turn(void **unused)
{
    struct far_sub_order first;
    struct far_slice why;
    make_plan("old", 0, 2);
    make_plan("new", 2, 2);
    MUST(&w, plan_replicate, .name = S("old"));
    MUST(&w, plan_replicate, .name = S("new"));
    work();
    MUST(&w, site_update, .name = S("lyon"), .parallel_recoveries = 1);
    uint64_t old_run = MUST(&w, run_start, .plan = S("old"), .kind = FAR_job_kind_test_recovery);
    uint64_t new_run = MUST(&w, run_start, .plan = S("new"), .kind = FAR_job_kind_test_recovery);
    struct far_row_task waits = world_row_task(&w, new_run, 1);
    assert_int_equal(waits.state, FAR_task_state_ready);
    assert_int_equal(far_query_wait(&w.state, &waits, &w.arena, &why, &w.err), 0);
    assert_non_null(strstr((const char *)why.data, "platform limit of site 'lyon'"));
    for (uint64_t task = 1; task <= 2 * DISKS; task++) {
        world_pass(&w, 2);
        assert_int_equal(held(dst, FAR_task_kind_restore, 0, &first), 1);
        assert_int_equal(first.job_id, old_run);
        assert_int_equal(first.task, task);
        tell_done(&first, (struct far_sub_machine_result){.state = S("")});
    }
    world_pass(&w, 2);
    assert_int_equal(recoveries_held(), 1);
    for (unsigned i = 0; i < 50; i++) {
        world_pass(&w, 2);
        assert_true(recoveries_held() <= 1);
        world_work(&w, dst);
    }
    assert_int_equal(run_row(old_run).phase, FAR_run_phase_up);
    assert_int_equal(run_row(new_run).phase, FAR_run_phase_up); /* nobody is forgotten */
}

static void another_limit_takes_effect_at_once(void **unused)
{
    make_plan("ten", 0, MANY);
    MUST(&w, plan_replicate, .name = S("ten"));
    work();
    MUST(&w, site_update, .name = S("lyon"), .parallel_recoveries = 1);
    uint64_t run = MUST(&w, run_start, .plan = S("ten"), .kind = FAR_job_kind_test_recovery);
    world_pass(&w, 2);
    assert_int_equal(recoveries_held(), 1);
    MUST(&w, site_update, .name = S("lyon"), .parallel_recoveries = 5);
    world_pass(&w, 2);
    assert_int_equal(recoveries_held(), 5);
    MUST(&w, site_update, .name = S("lyon"), .parallel_recoveries = 2); /* what has begun goes on */
    world_pass(&w, 2);
    assert_int_equal(recoveries_held(), 5);
    struct far_slice clear = S("parallel_recoveries");
    MUST(&w, site_update, .name = S("lyon"), .clear = {&clear, 1});
    world_pass(&w, 2);
    assert_int_equal(recoveries_held(), MANY * DISKS);
    work();
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
}

/* What a node held that is gone frees its place when it is lost, and what waits for that node lets others pass. */
static void a_node_that_is_lost_holds_up_nobody_for_ever(void **unused)
{
    make_plan("ten", 0, MANY);
    MUST(&w, plan_replicate, .name = S("ten"));
    work();
    MUST(&w, site_update, .name = S("lyon"), .parallel_recoveries = 2);
    uint64_t run = MUST(&w, run_start, .plan = S("ten"), .kind = FAR_job_kind_test_recovery);
    world_pass(&w, 20000); /* its lease ends */
    assert_int_equal(recoveries_held(), 0);
    world_boot(&w, dst, 77);
    world_boot(&w, src, 78);
    assert_true(work_and_look(recoveries_held, run, 2) == 2);
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
}

static void limits_that_make_no_sense_are_refused(void **unused)
{
    struct far_slice both[] = {S("parallel_sends"), S("name")};
    assert_int_equal(APPLY(&w, site_update, .name = S("atlantis"), .parallel_sends = 1), FAR_NOT_FOUND);
    assert_int_equal(APPLY(&w, site_update, .name = S("lyon")), FAR_INVALID);
    assert_int_equal(APPLY(&w, site_update, .name = S("lyon"), .parallel_sends = 10001), FAR_INVALID);
    assert_int_equal(APPLY(&w, site_update, .name = S("lyon"), .parallel_sends = 1, .clear = {both, 1}), FAR_INVALID);
    assert_int_equal(APPLY(&w, site_update, .name = S("lyon"), .clear = {both, 2}), FAR_INVALID);
    assert_int_equal(APPLY(&w, site_create, .name = S("rome"), .role = 1, .parallel_recoveries = 10001), FAR_INVALID);
    assert_int_equal(APPLY(&w, site_update, .name = S("lyon"), .parallel_sends = 1, .conditional = true, .revision = 7), FAR_CONFLICT);
    uint64_t events = w.events;
    MUST(&w, site_update, .name = S("lyon"), .parallel_sends = 3);
    assert_int_equal(w.events, events + 1);
    MUST(&w, site_update, .name = S("lyon"), .parallel_sends = 3); /* it is so already */
    assert_int_equal(w.events, events + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(cycles_send_no_more_at_a_time_than_the_source_bears),
        IN_A_WORLD(runs_recover_no_more_at_a_time_than_the_target_bears),
        IN_A_WORLD(what_waits_says_so_and_begins_in_its_turn),
        IN_A_WORLD(another_limit_takes_effect_at_once),
        IN_A_WORLD(a_node_that_is_lost_holds_up_nobody_for_ever),
        IN_A_WORLD(limits_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests_name("run_limits", tests, NULL, NULL);
}
