/* Captured configurations of machines in the core: what a freeze says becomes a version when it is another one, points keep the version of
 * when they were made, and nothing of it is in the log while nothing changes. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

static struct world w;
static uint64_t nodes[2], workload;

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    nodes[0] = world_node(&w, "src", "paris");
    nodes[1] = world_node(&w, "dst", "lyon");
    workload = world_workload(&w, "web", 2);
    world_plan(&w, "p", (const char *const[]){"web"}, 1);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static uint64_t cycle(uint64_t machine)
{
    w.machine = machine;
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    world_work_all(&w, nodes, 2);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    return world_row_job(&w, job).checkpoint_id;
}

static struct far_row_point newest_point(void)
{
    return world_row_point(&w, world_row_workload(&w, workload).last_point_id);
}

/* All zero if it is gone. */
static struct far_row_machine_config version(uint64_t id, struct far_slice *ret_bytes)
{
    struct far_row_machine_config row = {.id = 0};
    struct far_slice bytes;
    int rc = far_query_machine_config(&w.state, id, &w.arena, &row, &bytes, &w.err);
    assert_true(rc == 0 || rc == FAR_NOT_FOUND);
    if (ret_bytes != NULL) {
        *ret_bytes = bytes;
    }
    return row;
}

static uint64_t open_alerts(void)
{
    struct far_row_alert row;
    struct far_key key = far_key(&far_schema_row_alert);
    uint64_t count = 0;
    while (far_state_next(&w.state, &far_schema_row_alert, &key, &w.arena, NULL, &row, &w.err) == 0) {
        count += row.kind == FAR_alert_kind_config_missed && row.state != FAR_alert_state_cleared;
    }
    return count;
}

static struct far_row_task freeze_of(uint64_t job)
{
    return world_row_task(&w, job, 1);
}

static void a_point_keeps_what_its_machine_was(void **unused)
{
    struct far_slice bytes;
    uint64_t checkpoint = cycle(5000), first = newest_point().config_id;
    assert_int_not_equal(first, 0);
    assert_int_equal(version(first, &bytes).holds, 1);
    assert_int_equal(bytes.len, 5000);
    assert_int_equal(bytes.data[4999], 5000 % 256);
    cycle(24576);
    uint64_t second = newest_point().config_id;
    assert_int_not_equal(second, first);
    assert_false(version(first, NULL).newest);
    assert_true(version(second, &bytes).newest);
    assert_int_equal(bytes.len, 24576);
    MUST(&w, checkpoint_remove, .checkpoint_id = checkpoint);
    world_work_all(&w, nodes, 2);
    assert_int_equal(version(first, NULL).id, 0);
}

static void the_same_machine_is_no_news(void **unused)
{
    cycle(300);
    uint64_t id = newest_point().config_id, events = w.events;
    size_t bytes = w.log.len;
    cycle(300);
    uint64_t events_with = w.events - events;
    size_t bytes_with = w.log.len - bytes;
    assert_int_equal(newest_point().config_id, id);
    assert_int_equal(version(id, NULL).holds, 2);
    events = w.events;
    bytes = w.log.len;
    cycle(0); /* nothing is said at all */
    assert_int_equal(w.events - events, events_with);
    assert_int_equal(w.log.len - bytes, bytes_with);
    assert_int_equal(newest_point().config_id, id); /* what is known is better than nothing */
}

static void a_machine_that_cannot_be_told_fails_no_cycle(void **unused)
{
    struct far_sub_disk_found found[2] = {{.disk_index = 0, .size_bytes = 1 << 30}, {.disk_index = 1, .size_bytes = 1 << 30}};
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    struct far_row_task freeze = freeze_of(job);
    world_report(&w, &freeze, (struct far_sub_report_item){.state = FAR_report_state_done,
                                                           .disks = {found, 2},
                                                           .freeze_ref = S("v"),
                                                           .config_problem = S("libvirt does not answer")});
    world_work_all(&w, nodes, 2);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    assert_int_equal(newest_point().config_id, 0);
    assert_int_equal(open_alerts(), 1);
    cycle(200);
    assert_int_equal(open_alerts(), 0);
    assert_int_not_equal(newest_point().config_id, 0);
}

/* As of a machine whose firmware's variables cannot be read: the rest is kept, and it is said as long as it is so. */
static void one_without_a_part_is_kept_and_said(void **unused)
{
    static const uint8_t hash[32] = {1}, config[100] = {2};
    struct far_sub_disk_found found[2] = {{.size_bytes = 1 << 30, .identity = S("id")},
                                          {.disk_index = 1, .size_bytes = 1 << 30, .identity = S("id")}};
    for (unsigned i = 0; i < 2; i++) {
        uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
        struct far_row_task freeze = freeze_of(job);
        world_report(&w, &freeze,
                     (struct far_sub_report_item){.state = FAR_report_state_done,
                                                  .disks = {found, 2},
                                                  .freeze_ref = S("v"),
                                                  .config_sha256 = far_slice(hash, 32),
                                                  .config = far_slice(config, i == 0 ? sizeof config : 0), /* then it is known */
                                                  .config_problem = S("its variables cannot be read")});
        world_work_all(&w, nodes, 2);
        assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
        assert_int_equal(version(newest_point().config_id, NULL).holds, i + 1);
        assert_int_equal(open_alerts(), 1);
    }
    cycle(200);
    assert_int_equal(open_alerts(), 0);
}

/* As when an order was composed by a server that lagged. */
static void a_hash_that_nobody_knows_is_told(void **unused)
{
    static const uint8_t hash[32] = {1};
    struct far_sub_disk_found found[2] = {{.size_bytes = 1 << 30, .identity = S("id")},
                                          {.disk_index = 1, .size_bytes = 1 << 30, .identity = S("id")}};
    cycle(200);
    uint64_t id = newest_point().config_id, job = MUST(&w, plan_replicate, .name = S("p"));
    struct far_row_task freeze = freeze_of(job);
    world_report(&w, &freeze,
                 (struct far_sub_report_item){
                     .state = FAR_report_state_done, .disks = {found, 2}, .freeze_ref = S("v"), .config_sha256 = far_slice(hash, 32)});
    world_work_all(&w, nodes, 2);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    assert_int_equal(newest_point().config_id, id);
    assert_int_equal(open_alerts(), 1);
}

static void a_workload_that_goes_leaves_what_points_need(void **unused)
{
    uint64_t checkpoint = cycle(200), id = newest_point().config_id;
    MUST(&w, plan_remove, .name = S("p"));
    MUST(&w, workload_remove, .name = S("web"));
    assert_int_equal(version(id, NULL).holds, 1);
    assert_false(version(id, NULL).newest);
    MUST(&w, checkpoint_remove, .checkpoint_id = checkpoint);
    assert_int_equal(version(id, NULL).id, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_point_keeps_what_its_machine_was),
        TEST(the_same_machine_is_no_news),
        TEST(a_machine_that_cannot_be_told_fails_no_cycle),
        TEST(one_without_a_part_is_kept_and_said),
        TEST(a_hash_that_nobody_knows_is_told),
        TEST(a_workload_that_goes_leaves_what_points_need),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
