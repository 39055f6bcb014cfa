/* Jobs that use a disk of a checkpoint: what may be asked for, what they hold on to, what their nodes are told and tell. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

static struct world w;
static uint64_t nodes[2], older, newer;

static void work(void)
{
    world_pass(&w, 2);
    for (size_t i = 0; i < 2; i++) {
        if (world_row_node(&w, nodes[i]).state != FAR_node_state_up) {
            world_boot(&w, nodes[i], (uint8_t)(100 + i));
        }
    }
    world_work_all(&w, nodes, 2);
}

static uint64_t cycle(void)
{
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    work();
    return world_row_job(&w, job).checkpoint_id;
}

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    nodes[0] = world_node(&w, "src", "paris");
    nodes[1] = world_node(&w, "dst", "lyon");
    world_workload(&w, "web", 1);
    world_plan(&w, "p", (const char *const[]){"web"}, 1);
    older = cycle();
    newer = cycle();
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static struct far_sub_order order_of(uint64_t job, uint64_t now_ms)
{
    struct far_list orders;
    assert_int_equal(far_query_orders_at(&w.state, nodes[1], now_ms, 100, &w.arena, &orders, &w.err), 0);
    const struct far_sub_order *items = orders.items;
    for (size_t i = 0; i < orders.count; i++) {
        if (items[i].job_id == job) {
            return items[i];
        }
    }
    fail_msg("node %llu has no order of job %llu", (unsigned long long)nodes[1], (unsigned long long)job);
    return items[0];
}

static int tell(uint64_t job, uint64_t state, struct far_sub_use_result *result)
{
    struct far_row_task task = world_row_task(&w, job, 1);
    struct far_sub_report_item item = {.state = state, .use_result = {.items = result, .count = result != NULL}};
    return world_report(&w, &task, item);
}

static const struct far_sub_use_result *told(uint64_t job)
{
    const struct far_row_job row = world_row_job(&w, job);
    return row.use_result.count > 0 ? row.use_result.items : NULL;
}

static void an_open_checkpoint_stays_until_it_is_closed(void **unused)
{
    uint64_t job = MUST(&w, checkpoint_use, .checkpoint_id = older, .operation = FAR_point_use_open, .disk = S("root"));
    assert_int_equal(APPLY(&w, checkpoint_remove, .checkpoint_id = older), FAR_CONFLICT);
    struct far_sub_use_result result = {.uri = S("nbd+unix:///?socket=/n/1.sock")};
    assert_int_equal(tell(job, FAR_report_state_running, &result), 0);
    assert_true(far_slice_equal(told(job)->uri, result.uri));
    MUST(&w, job_cancel, .job_id = job);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_canceled);
    assert_int_equal(told(job)->uri.len, 0); /* nothing is there any more */
    MUST(&w, checkpoint_remove, .checkpoint_id = older);
}

static void both_checkpoints_of_a_comparison_stay(void **unused)
{
    uint64_t job = MUST(&w, checkpoint_use, .checkpoint_id = newer, .operation = FAR_point_use_diff, .other_checkpoint_id = older);
    assert_int_equal(world_row_checkpoint(&w, older).readers, 1);
    assert_int_equal(world_row_checkpoint(&w, newer).readers, 1);
    assert_int_equal(APPLY(&w, checkpoint_remove, .checkpoint_id = older), FAR_CONFLICT);
    struct far_sub_byte_range range = {.offset = 65536, .length = 131072};
    struct far_sub_use_result result = {.bytes = 131072, .range_count = 1, .ranges = {.items = &range, .count = 1}};
    assert_int_equal(tell(job, FAR_report_state_done, &result), 0);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    assert_int_equal(told(job)->range_count, 1);
    assert_int_equal(((const struct far_sub_byte_range *)told(job)->ranges.items)->length, 131072);
    assert_int_equal(world_row_checkpoint(&w, older).readers, 0);
    assert_int_equal(world_row_checkpoint(&w, newer).readers, 0);
}

static void a_job_on_one_checkpoint_twice_lets_go_of_it_twice(void **unused)
{
    uint64_t job = MUST(&w, checkpoint_use, .checkpoint_id = older, .operation = FAR_point_use_diff, .other_checkpoint_id = older);
    assert_int_equal(world_row_checkpoint(&w, older).readers, 2);
    assert_int_equal(tell(job, FAR_report_state_done, NULL), 0);
    assert_int_equal(world_row_checkpoint(&w, older).readers, 0);
}

static void what_was_told_is_told_once(void **unused)
{
    uint64_t job = MUST(&w, checkpoint_use, .checkpoint_id = newer, .operation = FAR_point_use_open);
    struct far_sub_use_result result = {.uri = S("nbd://127.0.0.1:10809")};
    assert_int_equal(tell(job, FAR_report_state_running, &result), 0);
    uint64_t events = w.events;
    assert_int_equal(tell(job, FAR_report_state_running, &result), 0);
    assert_int_equal(w.events - events, 1); /* the report itself */
    result.uri = S("nbd://127.0.0.1:10810");
    assert_int_equal(tell(job, FAR_report_state_running, &result), 0);
    assert_true(far_slice_equal(told(job)->uri, result.uri));
}

static void the_order_says_what_is_to_be_done_and_how_long_still(void **unused)
{
    uint64_t job = MUST(&w, checkpoint_use, .checkpoint_id = newer, .operation = FAR_point_use_open, .writable = true, .duration_s = 600,
                        .listen = S("127.0.0.1:10809"));
    struct far_sub_order order = order_of(job, w.now_ms);
    const struct far_sub_use *use = order.use.items;
    assert_int_equal(order.kind, FAR_task_kind_use);
    assert_int_equal(order.use.count, 1);
    assert_int_equal(use->operation, FAR_point_use_open);
    assert_true(use->writable);
    assert_true(far_slice_equal(use->listen, S("127.0.0.1:10809")));
    assert_int_equal(use->duration_s, 600);
    assert_int_equal(order.root.len, 32);
    order = order_of(job, w.now_ms + 100000);
    assert_int_equal(((const struct far_sub_use *)order.use.items)->duration_s, 500);
    order = order_of(job, w.now_ms + 10000000); /* over: the node ends it by itself */
    assert_int_equal(((const struct far_sub_use *)order.use.items)->duration_s, 1);
}

static void a_lost_attempt_begins_again(void **unused)
{
    uint64_t job = MUST(&w, checkpoint_use, .checkpoint_id = newer, .operation = FAR_point_use_export, .path = S("a.raw"));
    assert_int_equal(tell(job, FAR_report_state_running, NULL), 0);
    world_boot(&w, nodes[1], 77);
    world_pass(&w, 2);
    struct far_row_task task = world_row_task(&w, job, 1);
    assert_int_equal(task.attempt, 2);
    assert_int_equal(task.node_id, nodes[1]);
    struct far_sub_use_result result = {.path = S("/exports/a.raw"), .bytes = 1 << 30};
    assert_int_equal(tell(job, FAR_report_state_done, &result), 0);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    assert_int_equal(told(job)->bytes, 1 << 30);
}

static void a_hydrated_disk_that_reads_back_as_another_fails(void **unused)
{
    uint8_t other[32] = {1};
    uint64_t job = MUST(&w, checkpoint_use, .checkpoint_id = newer, .operation = FAR_point_use_hydrate, .path = S("vm.raw"));
    struct far_row_task task = world_row_task(&w, job, 1);
    struct far_sub_report_item item = {.state = FAR_report_state_done, .root = far_slice(other, 32)};
    assert_int_equal(world_report(&w, &task, item), 0);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_failed);
    assert_true(far_slice_equal(world_row_job(&w, job).error_class, S("corrupt")));
    job = MUST(&w, checkpoint_use, .checkpoint_id = newer, .operation = FAR_point_use_hydrate, .path = S("vm.raw"));
    work(); /* the right root */
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

static void what_makes_no_sense_is_refused(void **unused)
{
#define REFUSED(klass, ...) assert_int_equal(APPLY(&w, checkpoint_use, __VA_ARGS__), klass)
    static const char *const paths[] = {"", "/", "..", "../a", "a/../b", "a//b", "a/", "./a", "a/."};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_export, .path = S(paths[i]));
    }
    REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_export, .path = far_slice("a\0b", 3));
    REFUSED(FAR_INVALID, .checkpoint_id = newer);
    REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_open, .path = S("a"));
    REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_open, .range_offset = 64);
    REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_open, .write_bytes_max = 1 << 20); /* and not writable */
    REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_open, .other_checkpoint_id = older);
    REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_open, .format = FAR_image_format_raw);
    REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_open, .duration_s = 400ull * 86400);
    REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_export, .path = S("a"), .writable = true);
    REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_export, .path = S("a"), .listen = S("127.0.0.1:1"));
    REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_export, .path = S("a"), .other_checkpoint_id = older);
    REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_export, .path = S("a"), .backing = S("b"));
    REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_diff);
    REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_list);
    REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_list, .guest_path = S("etc"));
    REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_get, .guest_path = S("/etc/fstab"));
    REFUSED(FAR_INVALID, .checkpoint_id = newer, .operation = FAR_point_use_copy, .path = S("v"), .disk = S("root"));
    REFUSED(FAR_NOT_FOUND, .checkpoint_id = 9999, .operation = FAR_point_use_open);
    REFUSED(FAR_NOT_FOUND, .checkpoint_id = newer, .operation = FAR_point_use_open, .disk = S("other"));
    REFUSED(FAR_NOT_FOUND, .checkpoint_id = newer, .operation = FAR_point_use_open, .workload = S("other"));
    REFUSED(FAR_NOT_FOUND, .checkpoint_id = newer, .operation = FAR_point_use_diff, .other_checkpoint_id = 9999);
    assert_int_equal(world_row_checkpoint(&w, newer).readers, 0);
}

static void of_several_disks_or_workloads_one_is_named(void **unused)
{
    world_workload(&w, "db", 2);
    world_workload(&w, "mail", 1);
    world_plan(&w, "q", (const char *const[]){"db", "mail"}, 2);
    uint64_t job = MUST(&w, plan_replicate, .name = S("q"));
    work();
    uint64_t checkpoint = world_row_job(&w, job).checkpoint_id;
    REFUSED(FAR_INVALID, .checkpoint_id = checkpoint, .operation = FAR_point_use_open);
    REFUSED(FAR_INVALID, .checkpoint_id = checkpoint, .operation = FAR_point_use_open, .workload = S("db"));
    job = MUST(&w, checkpoint_use, .checkpoint_id = checkpoint, .operation = FAR_point_use_open, .workload = S("db"), .disk = S("data"));
    assert_int_equal(world_row_task(&w, job, 1).disk_index, 1);
    assert_true(far_slice_equal(order_of(job, w.now_ms).disk, S("data")));
    job = MUST(&w, checkpoint_use, .checkpoint_id = checkpoint, .operation = FAR_point_use_open, .workload = S("mail"));
    assert_true(far_slice_equal(order_of(job, w.now_ms).workload, S("mail")));
}

static void what_waits_for_its_node_is_canceled_or_goes_on(void **unused)
{
    world_pass(&w, 100000); /* nobody reports: both are down */
    assert_int_equal(world_row_node(&w, nodes[1]).state, FAR_node_state_down);
    uint64_t first = MUST(&w, checkpoint_use, .checkpoint_id = newer, .operation = FAR_point_use_copy, .path = S("second"));
    uint64_t second = MUST(&w, checkpoint_use, .checkpoint_id = older, .operation = FAR_point_use_copy, .path = S("second"));
    assert_int_equal(world_row_task(&w, first, 1).state, FAR_task_state_ready);
    MUST(&w, job_cancel, .job_id = first);
    assert_int_equal(world_row_job(&w, first).state, FAR_job_state_canceled);
    work(); /* the node comes up */
    work();
    assert_int_equal(world_row_job(&w, second).state, FAR_job_state_succeeded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        IN_A_WORLD(an_open_checkpoint_stays_until_it_is_closed),
        IN_A_WORLD(both_checkpoints_of_a_comparison_stay),
        IN_A_WORLD(a_job_on_one_checkpoint_twice_lets_go_of_it_twice),
        IN_A_WORLD(what_was_told_is_told_once),
        IN_A_WORLD(the_order_says_what_is_to_be_done_and_how_long_still),
        IN_A_WORLD(a_lost_attempt_begins_again),
        IN_A_WORLD(a_hydrated_disk_that_reads_back_as_another_fails),
        IN_A_WORLD(what_makes_no_sense_is_refused),
        IN_A_WORLD(of_several_disks_or_workloads_one_is_named),
        IN_A_WORLD(what_waits_for_its_node_is_canceled_or_goes_on),
    };
    return cmocka_run_group_tests_name("fsm_use", tests, NULL, NULL);
}
