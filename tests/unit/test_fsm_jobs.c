/* Jobs as a user and a node see them: what is ordered, what a loss or a failure leads to, what comes out. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <stdio.h>

static struct world w;
static uint64_t source, target, workload, plan;

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    source = world_node(&w, "src", "paris");
    target = world_node(&w, "dst", "lyon");
    workload = world_workload(&w, "web", 2);
    plan = world_plan(&w, "p", (const char *const[]){"web"}, 1);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static void work(void)
{
    world_work_all(&w, (const uint64_t[]){source, target}, 2);
}

static uint64_t replicate(void)
{
    return MUST(&w, plan_replicate, .name = S("p"));
}

static void a_cycle_makes_a_point_and_a_checkpoint(void **unused)
{
    uint64_t job = replicate();
    work();
    struct far_row_job row = world_row_job(&w, job);
    assert_int_equal(row.state, FAR_job_state_succeeded);
    assert_int_equal(row.task_count, 7);
    assert_int_equal(row.tasks_done, 7);
    assert_int_equal(row.bytes_sent, 2000);
    struct far_row_checkpoint checkpoint = world_row_checkpoint(&w, row.checkpoint_id);
    assert_int_equal(checkpoint.state, FAR_point_state_available);
    assert_int_equal(checkpoint.member_count, 1);
    struct far_row_workload wl = world_row_workload(&w, workload);
    struct far_row_point point = world_row_point(&w, wl.last_point_id);
    assert_int_equal(point.node_id, target);
    assert_int_equal(point.proof, FAR_proof_full);
    assert_int_equal(point.coverage_ppm, 1000000);
    assert_int_equal(world_row_plan(&w, plan).running_job_id, 0);
    replicate();
    work();
    point = world_row_point(&w, world_row_workload(&w, workload).last_point_id);
    assert_int_equal(point.proof, FAR_proof_transfer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_cycle_makes_a_point_and_a_checkpoint, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
