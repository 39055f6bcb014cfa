/* Seeding a vault with what another disk holds: who may be asked for it, what the node is told, and how it ends. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

static struct world w;
static uint64_t nodes[2];

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    nodes[0] = world_node(&w, "src", "paris");
    nodes[1] = world_node(&w, "dst", "lyon");
    world_workload(&w, "web", 2);
    world_workload(&w, "one", 1);
    world_workload(&w, "free", 1);
    world_plan(&w, "p", (const char *const[]){"web", "one"}, 2);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

#define SEED(plan, workload_name, disk_name, node_name, place) \
    APPLY(&w, plan_seed, .name = S(plan), .workload = S(workload_name), .disk = S(disk_name), .node = S(node_name), .locator = S(place))

static void the_node_is_told_where_and_for_which_disk(void **unused)
{
    uint64_t job = MUST(&w, plan_seed, .name = S("p"), .workload = S("web"), .disk = S("data"), .node = S("dst"),
                        .locator = S("/carried/disk.raw"));
    struct far_list orders;
    assert_int_equal(far_query_orders(&w.state, nodes[1], 100, &w.arena, &orders, &w.err), 0);
    assert_int_equal(orders.count, 1);
    const struct far_sub_order *order = orders.items;
    struct far_row_workload workload = world_row_workload(&w, world_row_job(&w, job).workload_id);
    assert_int_equal(order->kind, FAR_task_kind_seed);
    assert_true(far_slice_equal(order->disk, S("data")) && far_slice_equal(order->locator, S("/carried/disk.raw")));
    assert_true(far_slice_equal(order->adapter, S("file")) && far_slice_equal(order->workload, workload.name));
    assert_true(order->disk_id != 0);
    struct far_row_task task = world_row_task(&w, job, 1);
    struct far_sub_report_item item = {.state = FAR_report_state_done, .bytes_done = 7};
    assert_int_equal(world_report(&w, &task, item), 0);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

static void what_cannot_be_is_refused(void **unused)
{
    assert_int_equal(SEED("p", "nobody", "", "dst", "/x"), FAR_NOT_FOUND);
    assert_int_equal(SEED("p", "free", "", "dst", "/x"), FAR_INVALID); /* in no plan */
    assert_int_equal(SEED("p", "web", "", "dst", "/x"), FAR_INVALID);  /* which disk? */
    assert_int_equal(SEED("p", "web", "tape", "dst", "/x"), FAR_NOT_FOUND);
    assert_int_equal(SEED("p", "one", "", "src", "/x"), FAR_INVALID); /* not where the points are kept */
    assert_int_equal(SEED("p", "one", "", "nil", "/x"), FAR_NOT_FOUND);
    assert_int_equal(SEED("p", "one", "", "dst", "disk.raw"), FAR_INVALID);
    assert_int_equal(SEED("p", "one", "", "dst", "/a\nb"), FAR_INVALID);
    assert_int_equal(SEED("p", "one", "", "dst", ""), FAR_INVALID);
    assert_int_equal(SEED("q", "one", "", "dst", "/x"), FAR_NOT_FOUND);
    assert_int_equal(APPLY(&w, plan_seed, .name = S("p"), .workload = S("one"), .node = S("dst"), .adapter = S("F!"), .locator = S("/x")),
                     FAR_INVALID);
    assert_int_equal(SEED("p", "one", "", "dst", "/x"), 0);
}

static void it_can_be_canceled_and_begins_again_when_its_node_does(void **unused)
{
    uint64_t job = MUST(&w, plan_seed, .name = S("p"), .workload = S("one"), .node = S("dst"), .locator = S("/x"));
    world_boot(&w, nodes[1], 9);
    struct far_row_task task = world_row_task(&w, job, 1);
    assert_int_equal(task.attempt, 2);
    assert_int_equal(task.node_id, nodes[1]);
    MUST(&w, job_cancel, .job_id = job);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_canceled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_node_is_told_where_and_for_which_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(it_can_be_canceled_and_begins_again_when_its_node_does, setup, teardown),
    };
    return cmocka_run_group_tests_name("fsm_seed", tests, NULL, NULL);
}
