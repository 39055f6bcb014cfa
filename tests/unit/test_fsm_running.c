/* What runs on a node: its bytes and leases are in a few rows of the node, and nothing that was true of tasks changes by that. */
#include "fsm/running.h"
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <stdio.h>

enum { NAMED_MAX = 1200 };

static struct world w;
static uint64_t source, plans;

static int setup_at(uint64_t level)
{
    world_init(&w);
    w.level = level;
    world_cluster(&w);
    source = world_node(&w, "src", "paris");
    world_node(&w, "dst", "lyon");
    plans = 0;
    return 0;
}

static int setup(void **unused)
{
    return setup_at(0);
}

static int setup_before(void **unused)
{
    return setup_at(FAR_RUNNING_LEVEL - 1);
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

/* A cycle of a new plan with so many workloads: the source holds as many freezes more. */
static uint64_t cycle(size_t count)
{
    static char names[256][24];
    const char *members[256];
    char plan[24];
    for (size_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "w%llu-%zu", (unsigned long long)plans, i);
        world_workload(&w, names[i], 1);
        members[i] = names[i];
    }
    snprintf(plan, sizeof plan, "p%llu", (unsigned long long)plans++);
    world_plan(&w, plan, members, count);
    uint64_t job = MUST(&w, plan_replicate, .name = S(plan));
    world_pass(&w, 20); /* the rest of its tasks */
    return job;
}

static struct far_list orders(void)
{
    struct far_list list;
    assert_int_equal(far_query_orders(&w.state, source, NAMED_MAX, &w.arena, &list, &w.err), 0);
    return list;
}

static bool every(size_t i)
{
    return true;
}

static bool odd(size_t i)
{
    return i % 2 == 1;
}

/* One report names those of the source's freezes that `names` wants, as running or, with their sizes, as done. */
static int report(bool (*names)(size_t i), uint64_t state, uint64_t bytes_done)
{
    static struct far_sub_report_item items[NAMED_MAX];
    static struct far_sub_disk_found found = {.size_bytes = 1000};
    struct far_row_node node = world_row_node(&w, source);
    struct far_list list = orders();
    const struct far_sub_order *order = list.items;
    size_t count = 0, at = 0;
    for (size_t i = 0; i < list.count; i++) {
        if (order[i].kind == FAR_task_kind_freeze && names(at++) && count < 1000) {
            items[count++] = (struct far_sub_report_item){.job_id = order[i].job_id, .task = order[i].task,
                                                          .attempt = order[i].attempt, .state = state,
                                                          .bytes_total = 5000, .bytes_done = bytes_done + i,
                                                          .freeze_ref = S("view"), .disks = {&found, 1}};
        }
    }
    w.actor = far_actor(FAR_ACTOR_NODE, source);
    int klass = APPLY(&w, node_report, .node_id = source, .boot = node.boot, .sequence = node.sequence + 1,
                      .items = {.items = items, .count = count});
    w.actor = 0;
    return klass;
}

static size_t count_rows(const struct far_schema *table)
{
    struct far_key key = far_key(table);
    void *row = far_arena_alloc(&w.arena, table->size);
    size_t count = 0;
    while (far_state_next(&w.state, table, &key, &w.arena, NULL, row, &w.err) == 0) {
        count++;
    }
    return count;
}

static uint64_t running(void)
{
    return world_row_node(&w, source).running_count;
}

static void assert_whole(void)
{
    int rc = far_fsm_invariants(&w.state, &w.err);
    if (rc != 0) {
        fprintf(stderr, "# %s\n", w.err.message);
    }
    assert_int_equal(rc, 0);
}

/* ---- tests ---- */

static void a_report_moves_no_deadline_and_is_seen_in_every_task(void **unused)
{
    uint64_t job = cycle(45);
    assert_int_equal(running(), 0);
    assert_int_equal(report(every, FAR_report_state_running, 100), 0);
    assert_int_equal(running(), 45);
    assert_int_equal(count_rows(&far_schema_row_running), 3);
    size_t deadlines = count_rows(&far_schema_row_deadline);
    uint64_t due_ms = world_row_node(&w, source).running_due_ms;
    w.now_ms += 3000;
    assert_int_equal(report(every, FAR_report_state_running, 200), 0);
    assert_int_equal(count_rows(&far_schema_row_deadline), deadlines);
    assert_int_equal(world_row_node(&w, source).running_due_ms, due_ms);
    struct far_row_task task = world_row_task(&w, job, 1);
    assert_int_equal(task.state, FAR_task_state_running);
    assert_int_equal(task.bytes_total, 5000);
    assert_in_range(task.bytes_done, 200, 244);
    assert_int_equal(task.lease_until_ms, w.now_ms + 15000);
}

static void a_lease_that_is_not_renewed_ends_when_it_always_did(void **unused)
{
    cycle(6);
    report(every, FAR_report_state_running, 1);
    uint64_t began_ms = w.now_ms;
    for (int i = 0; i < 2; i++) {
        world_pass(&w, 7000);
        assert_int_equal(report(odd, FAR_report_state_running, 2), 0);
    }
    assert_int_equal(running(), 6);
    world_pass(&w, began_ms + 15000 - 1 - w.now_ms);
    assert_int_equal(running(), 6);
    world_pass(&w, 1);
    assert_int_equal(running(), 3); /* those that were named go on; the others are given out again */
    struct far_list list = orders();
    const struct far_sub_order *order = list.items;
    size_t again = 0;
    for (size_t i = 0; i < list.count; i++) {
        again += order[i].attempt == 2;
    }
    assert_int_equal(again, 3);
    assert_whole();
    world_pass(&w, 15000);
    assert_int_equal(running(), 0);
    assert_int_equal(world_row_node(&w, source).running_due_ms, 0);
}

static void tasks_that_end_leave_the_others_as_they_are(void **unused)
{
    uint64_t job = cycle(50);
    report(every, FAR_report_state_running, 1000);
    while (running() > 0) {
        uint64_t before = running();
        assert_int_equal(report(before > 3 ? odd : every, FAR_report_state_done, 7), 0);
        assert_in_range(running(), 0, before - 1);
        assert_int_equal(count_rows(&far_schema_row_running), (running() + FAR_RUNNING_PART - 1) / FAR_RUNNING_PART);
        assert_whole();
        for (uint64_t number = 1; number < 50 * 5; number += 5) {
            struct far_row_task task = world_row_task(&w, job, number);
            assert_in_range(task.bytes_done, task.state == FAR_task_state_done ? 7 : 1000, 1300);
        }
    }
    world_pass(&w, 20000);
    assert_int_equal(world_row_node(&w, source).running_due_ms, 0);
}

static void a_new_boot_loses_what_ran_and_another_attempt_is_not_taken(void **unused)
{
    cycle(25);
    report(every, FAR_report_state_running, 1);
    assert_int_equal(running(), 25);
    world_boot(&w, source, 7);
    assert_int_equal(running(), 0);
    assert_whole();
    struct far_sub_order order = *(const struct far_sub_order *)orders().items;
    assert_int_equal(order.attempt, 2);
    struct far_row_task old = world_row_task(&w, order.job_id, order.task);
    old.attempt = 1;
    assert_int_equal(world_report(&w, &old, (struct far_sub_report_item){.state = FAR_report_state_running}), 0);
    assert_int_equal(running(), 0);
    assert_int_equal(report(every, FAR_report_state_running, 1), 0);
    old.attempt = 1;
    uint64_t done = world_row_task(&w, order.job_id, order.task).bytes_done;
    assert_int_equal(world_report(&w, &old, (struct far_sub_report_item){.state = FAR_report_state_running, .bytes_done = 99}), 0);
    assert_int_equal(world_row_task(&w, order.job_id, order.task).bytes_done, done);
}

static void a_new_leader_extends_what_runs(void **unused)
{
    cycle(25);
    report(every, FAR_report_state_running, 1);
    world_pass(&w, 14000);
    MUST(&w, leader_started, .server_id = 1, .term = 2);
    world_pass(&w, 14999);
    assert_int_equal(running(), 25);
    assert_whole();
    world_pass(&w, 1);
    assert_int_equal(running(), 0);
}

static void a_node_is_removed_when_nothing_runs_there(void **unused)
{
    cycle(2);
    report(every, FAR_report_state_running, 1);
    assert_int_equal(APPLY(&w, node_remove, .name = S("src")), FAR_CONFLICT);
    report(every, FAR_report_state_done, 1);
    while (orders().count > 0) { /* the sends, too */
        world_work(&w, source);
    }
    assert_int_not_equal(world_row_node(&w, source).running_due_ms, 0);
    MUST(&w, node_remove, .name = S("src"));
    assert_whole();
}

static void more_than_a_thousand_have_rows_of_their_own(void **unused)
{
    for (int i = 0; i < 5; i++) {
        cycle(220);
    }
    assert_int_equal(orders().count, 1100);
    report(every, FAR_report_state_running, 1);
    assert_int_equal(running(), FAR_RUNNING_MAX);
    struct far_list list = orders();
    struct far_sub_order last = ((const struct far_sub_order *)list.items)[1099];
    struct far_row_task task = world_row_task(&w, last.job_id, last.task);
    assert_int_equal(world_report(&w, &task, (struct far_sub_report_item){.state = FAR_report_state_running, .bytes_done = 3}), 0);
    task = world_row_task(&w, last.job_id, last.task);
    assert_int_equal(task.state, FAR_task_state_running);
    assert_int_equal(task.bytes_done, 3);
    assert_int_equal(task.lease_until_ms, w.now_ms + 15000);
    assert_int_equal(running(), FAR_RUNNING_MAX);
    assert_whole();
    world_pass(&w, 15000);
    assert_int_equal(running(), 0);
    assert_int_equal(world_row_task(&w, last.job_id, last.task).attempt, 2);
}

static void tasks_that_ran_before_the_level_move_over_with_their_next_report(void **unused)
{
    uint64_t job = cycle(45);
    report(every, FAR_report_state_running, 100);
    assert_int_equal(running(), 0);
    assert_int_equal(world_row_task(&w, job, 1).lease_until_ms, w.now_ms + 15000);
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    MUST(&w, feature_level_raise, .level = FAR_RUNNING_LEVEL);
    w.actor = 0;
    assert_in_range(world_row_task(&w, job, 1).bytes_done, 100, 144);
    world_pass(&w, 5000);
    report(odd, FAR_report_state_running, 500);
    assert_int_equal(running(), 22);
    assert_whole();
    world_pass(&w, 10000); /* the leases of the others were as long as before */
    assert_int_equal(running(), 22);
    assert_int_equal(world_row_task(&w, job, 1).attempt, 2);
    assert_whole();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_report_moves_no_deadline_and_is_seen_in_every_task, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lease_that_is_not_renewed_ends_when_it_always_did, setup, teardown),
        cmocka_unit_test_setup_teardown(tasks_that_end_leave_the_others_as_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_boot_loses_what_ran_and_another_attempt_is_not_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_leader_extends_what_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(a_node_is_removed_when_nothing_runs_there, setup, teardown),
        cmocka_unit_test_setup_teardown(more_than_a_thousand_have_rows_of_their_own, setup, teardown),
        cmocka_unit_test_setup_teardown(tasks_that_ran_before_the_level_move_over_with_their_next_report, setup_before, teardown),
    };
    return cmocka_run_group_tests_name("what runs on a node", tests, NULL, NULL);
}
