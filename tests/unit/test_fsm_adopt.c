/* Adopting vaults in the log: numbers that clash with nothing, portions that may come twice, manifests that do not fit, and that what was
 * adopted is like any other point. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

#define DAY 86400000ull

static struct world w;
static uint64_t nodes[3], job;
static uint8_t lost_cluster[16] = {7, 7}, vault_uuids[2][16] = {{1}, {2}};

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    nodes[0] = world_node(&w, "src", "paris");
    nodes[1] = world_node(&w, "dst", "lyon");
    nodes[2] = world_node(&w, "dst2", "lyon");
    world_workload(&w, "web", 1); /* the names that the lost cluster has, too */
    world_plan(&w, "p", (const char *const[]){"web"}, 1);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static struct far_row_adoption adoption(size_t node)
{
    struct far_row_adoption row = {.node_id = 0};
    struct far_key key = far_key(&far_schema_row_adoption);
    far_key_u64(&key, nodes[node]);
    (void)far_state_get(&w.state, &far_schema_row_adoption, &key, &w.arena, &row, NULL);
    return row;
}

/* ---- what a node says ---- */

static struct far_sub_point_disk disk_of(uint64_t id)
{
    static uint8_t root[32] = {5};
    return (struct far_sub_point_disk){.disk_id = id, .name = S("d0"), .size_bytes = 1 << 30, .root = far_slice(root, 32)};
}

static struct far_sub_point_disk disks[8];
static struct far_sub_adopted_point points[8];

/* Point n of the lost cluster: plan 4 "p", workload 2 "web" with disk 3, checkpoint 100 + n. */
static struct far_sub_adopted_point *point(size_t at, uint64_t n)
{
    disks[at] = disk_of(3);
    points[at] = (struct far_sub_adopted_point){.point_id = n,
                                                .plan_id = 4,
                                                .plan = S("p"),
                                                .plan_epoch = 1,
                                                .workload_id = 2,
                                                .workload = S("web"),
                                                .site = S("oslo"),
                                                .checkpoint_id = 100 + n,
                                                .frozen_at_ms = 5000 + n,
                                                .created_ms = 6000 + n,
                                                .disks = {&disks[at], 1}};
    return &points[at];
}

static uint64_t last_task(void)
{
    return world_row_job(&w, job).task_count;
}

static void survey(size_t node, uint64_t highest)
{
    struct far_sub_adoption_survey said = {.cluster_uuid = far_slice(lost_cluster, 16),
                                           .vault_uuid = far_slice(vault_uuids[node - 1], 16),
                                           .highest = highest,
                                           .pass = 77777,
                                           .point_count = 9};
    struct far_row_task task = world_row_task(&w, job, 1);
    struct far_sub_report_item done = {.state = FAR_report_state_done, .adoption_survey = {&said, 1}};
    assert_int_equal(world_report(&w, &task, done), 0);
}

static struct far_sub_adopted_config configs[2];

static void portion(uint64_t after, bool ended, size_t count)
{
    struct far_sub_adopted said = {.after = after, .ended = ended, .points = {points, count}, .configs = {configs, 2}};
    struct far_row_task task = world_row_task(&w, job, last_task());
    struct far_sub_report_item done = {.state = FAR_report_state_done, .adopted = {&said, 1}};
    assert_int_equal(world_report(&w, &task, done), 0);
}

static void begin(const char *node, size_t at, uint64_t highest)
{
    job = MUST(&w, vault_adopt, .node = S(node));
    survey(at, highest);
}

static struct far_row_workload workload_of(uint64_t id)
{
    return world_row_workload(&w, id);
}

static uint64_t workload_id(void) /* of "web", this cluster's own */
{
    uint64_t id = 0;
    assert_int_equal(far_query_id(&w.state, &far_schema_row_workload, S("web"), &id, &w.err), 0);
    return id;
}

/* ---- tests ---- */

static void numbers_are_set_aside_that_nothing_has(void **unused)
{
    begin("dst", 1, 142);
    struct far_row_adoption row = adoption(1);
    assert_int_equal(row.span, 1000); /* room for twice as much */
    assert_int_equal(row.base % row.span, 0);
    assert_true(row.base > job);
    uint64_t next = MUST(&w, site_create, .name = S("rome"), .role = FAR_site_role_recovery);
    assert_true(next >= row.base + row.span);
    point(0, 41);
    portion(41, true, 1);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    assert_int_equal(world_row_point(&w, row.base + 41).workload_id, row.base + 2);
    uint64_t pass = world_row_job(&w, MUST(&w, vault_reclaim, .node = S("dst"))).pass;
    assert_true(pass > 77777); /* what the vault counted is not counted anew */
}

static void what_a_manifest_says_becomes_what_it_was(void **unused)
{
    begin("dst", 1, 60);
    uint64_t base = adoption(1).base;
    point(0, 41)->lock_until_ms = w.now_ms + 30 * DAY;
    point(1, 42);
    portion(42, false, 2);
    point(0, 43);
    portion(43, true, 1);
    struct far_row_plan plan = world_row_plan(&w, base + 4);
    assert_true(plan.name.len > 2 && memcmp(plan.name.data, "p-", 2) == 0); /* there is a plan "p" here */
    assert_int_equal(plan.state, FAR_plan_state_stopped);
    assert_int_equal(plan.workload_count, 1);
    assert_int_equal(plan.last_checkpoint_id, base + 143);
    struct far_row_workload workload = workload_of(base + 2);
    assert_int_equal(workload.last_point_id, base + 43);
    assert_int_equal(workload.target_node_id, nodes[1]);
    assert_int_equal(workload.point_count, 3);
    struct far_row_checkpoint checkpoint = world_row_checkpoint(&w, base + 141);
    assert_int_equal(checkpoint.created_ms, 6041);
    assert_true(checkpoint.locked_until_ms > w.now_ms + 29 * DAY);
    assert_int_equal(APPLY(&w, checkpoint_remove, .checkpoint_id = base + 141), FAR_DENIED);
    MUST(&w, checkpoint_remove, .checkpoint_id = base + 142);
    MUST(&w, checkpoint_verify, .checkpoint_id = base + 143);
    world_work_all(&w, nodes, 3);
    struct far_sub_restore_spec spec = {.disk = S("d0"), .path = S("/out")};
    MUST(&w, recover, .plan = plan.name, .workload = workload.name, .checkpoint_id = base + 141, .disks = {&spec, 1});
    world_work_all(&w, nodes, 3);
    assert_int_equal(adoption(1).points, 3);
    assert_int_equal(world_row_job(&w, job).task_count, 3);
}

/* As a manifest has it. */
static struct far_slice kept(uint64_t processors, const char *target)
{
    struct far_sub_recovery config = {.processors = processors};
    struct far_sub_network_map map = {.source = S("vms"), .target = S(target)};
    struct far_sub_recovery_kept object = {.config = {&config, processors != 0}, .networks = {&map, 1}};
    struct far_buf buf;
    far_buf_init(&buf, 4096);
    assert_int_equal(far_schema_encode(&far_schema_sub_recovery_kept, &object, &buf, &w.err), 0);
    uint8_t *copy = far_arena_alloc(&w.arena, buf.len);
    assert_non_null(copy);
    memcpy(copy, buf.data, buf.len);
    struct far_slice bytes = far_slice(copy, buf.len);
    far_buf_done(&buf);
    return bytes;
}

static struct far_row_recovery version(uint64_t id)
{
    struct far_row_recovery row = {.id = 0};
    struct far_key key = far_key(&far_schema_row_recovery);
    far_key_u64(&key, id);
    (void)far_state_get(&w.state, &far_schema_row_recovery, &key, &w.arena, &row, NULL);
    return row;
}

static uint64_t processors_of(uint64_t point_id)
{
    struct far_row_recovery row = version(world_row_point(&w, point_id).recovery_id);
    return row.config.count > 0 ? ((const struct far_sub_recovery *)row.config.items)->processors : 0;
}

static void machines_and_how_they_are_brought_up_come_with_the_points(void **unused)
{
    static uint8_t hashes[2][32] = {{1}, {2}}, bytes[3000];
    struct far_row_machine_config row;
    struct far_slice config;
    for (size_t i = 0; i < 2; i++) {
        configs[i] = (struct far_sub_adopted_config){.sha256 = far_slice(hashes[i], 32), .config = far_slice(bytes, 1000 + 2000 * i)};
    }
    begin("dst", 1, 60);
    uint64_t base = adoption(1).base;
    for (size_t i = 0; i < 3; i++) {
        struct far_sub_adopted_point *said = point(i, 41 + i);
        said->config_sha256 = configs[i == 2].sha256;
        said->recovery = kept(i == 2 ? 8 : 4, "dr");
    }
    portion(43, false, 3);
    uint64_t first = world_row_point(&w, base + 41).config_id, last = world_row_point(&w, base + 43).config_id;
    assert_int_not_equal(first, 0);
    assert_int_equal(world_row_point(&w, base + 42).config_id, first);
    assert_int_equal(far_query_machine_config(&w.state, last, &w.arena, &row, &config, &w.err), 0);
    assert_true(row.newest);
    assert_int_equal(config.len, 3000);
    assert_int_equal(workload_of(base + 2).config_id, last);
    assert_int_equal(processors_of(base + 42), 4);
    assert_int_equal(processors_of(base + 43), 8);
    struct far_row_plan plan = world_row_plan(&w, base + 4);
    assert_int_not_equal(plan.networks_id, 0);
    assert_int_equal(world_row_checkpoint(&w, base + 141).networks_id, plan.networks_id);
    assert_int_equal(version(plan.networks_id).holds, 3);
    /* what is set here is not set back by what comes later; the points keep what was theirs */
    struct far_sub_recovery own = {.processors = 16};
    MUST(&w, recovery_set, .workload = workload_of(base + 2).name, .config = {&own, 1});
    point(0, 44)->recovery = kept(2, "elsewhere");
    MUST(&w, plan_networks_set, .name = plan.name);
    point(1, 45)->recovery = far_slice("nonsense", 8);
    portion(45, true, 2);
    assert_int_equal(processors_of(base + 44), 2);
    assert_false(version(world_row_point(&w, base + 44).recovery_id).in_force);
    assert_int_equal(world_row_plan(&w, base + 4).networks_id, 0);
    assert_int_not_equal(world_row_checkpoint(&w, base + 144).networks_id, 0);
    assert_int_equal(world_row_point(&w, base + 45).recovery_id, 0);
    assert_int_equal(adoption(1).points, 5);
    MUST(&w, checkpoint_remove, .checkpoint_id = base + 144);
    memset(configs, 0, sizeof configs);
}

static void adopting_again_changes_nothing_and_finds_what_was_left_out(void **unused)
{
    begin("dst", 1, 60);
    uint64_t base = adoption(1).base;
    point(0, 43);
    portion(43, true, 1);
    begin("dst", 1, 60);
    assert_int_equal(adoption(1).base, base);
    point(0, 41); /* an older one, which was damaged the first time, say */
    point(1, 43);
    portion(43, true, 2);
    assert_int_equal(adoption(1).points, 1);
    assert_int_equal(adoption(1).known, 1);
    assert_int_equal(workload_of(base + 2).last_point_id, base + 43); /* the next cycle builds on the newest */
    assert_int_equal(world_row_plan(&w, base + 4).last_checkpoint_id, base + 143);
    MUST(&w, checkpoint_remove, .checkpoint_id = base + 141);
    world_work_all(&w, nodes, 3);
    begin("dst", 1, 60);
    portion(43, true, 2); /* it is still in the vault, say: who removed it meant it */
    assert_int_equal(world_row_checkpoint(&w, base + 141).state, FAR_point_state_removed);
}

static void adopting_again_after_own_cycles_keeps_the_numbers(void **unused)
{
    begin("dst", 1, 60);
    uint64_t base = adoption(1).base, span = adoption(1).span;
    point(0, 41);
    portion(41, true, 1);
    MUST(&w, plan_replicate, .name = S("p"));
    world_work_all(&w, nodes, 3);
    uint64_t own = workload_of(workload_id()).last_point_id;
    assert_true(own > base + span);
    job = MUST(&w, vault_adopt, .node = S("dst"));
    struct far_sub_adoption_survey said = {.cluster_uuid = far_slice(lost_cluster, 16), .vault_uuid = far_slice(vault_uuids[0], 16),
                                           .own = true, .base = base, .highest = own, .point_count = 2};
    struct far_row_task task = world_row_task(&w, job, 1);
    struct far_sub_report_item done = {.state = FAR_report_state_done, .adoption_survey = {&said, 1}};
    assert_int_equal(world_report(&w, &task, done), 0);
    assert_int_equal(adoption(1).base, base);
    assert_int_equal(adoption(1).span, span);
    point(0, 41);
    point(1, own)->checkpoint_id = own + 1;
    portion(own, true, 2);
    assert_int_equal(adoption(1).known, 2); /* this cluster's own is known, too, and not left out */
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

static void a_vault_that_does_not_say_whose_it_is_is_not_adopted_over_own_points(void **unused)
{
    MUST(&w, plan_replicate, .name = S("p"));
    world_work_all(&w, nodes, 3);
    struct far_row_workload web = world_row_workload(&w, workload_id());
    const char *node = web.target_node_id == nodes[1] ? "dst" : "dst2";
    uint8_t zero[16] = {0};
    struct far_sub_adoption_survey said = {.cluster_uuid = far_slice(zero, 16), .vault_uuid = far_slice(vault_uuids[0], 16), .highest = 90};
    job = MUST(&w, vault_adopt, .node = S(node));
    struct far_row_task task = world_row_task(&w, job, 1);
    struct far_sub_report_item done = {.state = FAR_report_state_done, .adoption_survey = {&said, 1}};
    assert_int_equal(world_report(&w, &task, done), 0);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_failed);
    assert_int_equal(adoption(web.target_node_id == nodes[1] ? 1 : 2).base, 0);
}

static void a_second_vault_of_the_same_cluster_comes_together_with_the_first(void **unused)
{
    begin("dst", 1, 60);
    uint64_t base = adoption(1).base;
    point(0, 41);
    portion(41, true, 1);
    begin("dst2", 2, 70);
    assert_int_equal(adoption(2).base, base);
    struct far_sub_adopted_point *other = point(0, 45);
    other->workload_id = 8;
    other->workload = S("db");
    disks[0].disk_id = 9;
    other->checkpoint_id = 141; /* of both workloads */
    portion(45, true, 1);
    assert_int_equal(world_row_checkpoint(&w, base + 141).member_count, 2);
    assert_int_equal(world_row_plan(&w, base + 4).workload_count, 2);
    assert_int_equal(world_row_point(&w, base + 45).node_id, nodes[2]);
    assert_int_equal(workload_of(base + 8).plan_id, base + 4);
}

static void what_does_not_fit_is_left_out_and_named(void **unused)
{
    uint8_t domain[16] = {9};
    begin("dst", 1, 60);
    point(0, 41);
    point(1, 42)->disks.count = 0;
    point(2, 43)->workload_id = 5000;
    point(3, 44);
    disks[3].disk_id = 7; /* another disk than that workload has at 41 */
    point(4, 45)->domain_uuid = far_slice(domain, 16);
    point(5, 46)->checkpoint_id = 141; /* with another point of the workload in it */
    point(6, 47)->plan = S("../../x");
    points[6].plan_id = 30;
    portion(47, true, 7);
    struct far_row_adoption row = adoption(1);
    assert_int_equal(row.points, 2);
    assert_int_equal(row.left_out, 4);
    assert_int_equal(row.unreadable, 1);
    assert_true(row.problem.len > 0);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_partial);
    assert_memory_equal(world_row_plan(&w, row.base + 30).name.data, "adopted", 7);
}

static void a_node_that_dies_and_a_job_that_is_canceled_leave_what_was_taken(void **unused)
{
    begin("dst", 1, 60);
    uint64_t base = adoption(1).base;
    point(0, 41);
    portion(41, false, 1);
    uint64_t task = last_task();
    world_boot(&w, nodes[1], 99); /* kill -9 */
    world_pass(&w, 1);
    assert_int_equal(last_task(), task);
    struct far_list orders;
    assert_int_equal(far_query_orders(&w.state, nodes[1], 10, &w.arena, &orders, &w.err), 0);
    const struct far_sub_order *order = orders.items;
    assert_true(orders.count == 1 && order->adopt_after == 41 && order->adopt_base == base && order->attempt == 2);
    assert_int_equal(APPLY(&w, vault_adopt, .node = S("dst")), FAR_CONFLICT);
    MUST(&w, job_cancel, .job_id = job);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_canceled);
    assert_int_equal(adoption(1).job_id, 0);
    begin("dst", 1, 60);
    point(1, 42);
    portion(42, true, 2);
    assert_int_equal(adoption(1).known, 1);
    assert_int_equal(adoption(1).points, 1);
    MUST(&w, node_remove, .name = S("dst"));
    assert_int_equal(adoption(1).node_id, 0);
}

static void a_vault_of_this_cluster_is_not_adopted(void **unused)
{
    struct far_sub_adoption_survey said = {.own = true, .vault_uuid = far_slice(vault_uuids[0], 16), .highest = 20};
    job = MUST(&w, vault_adopt, .node = S("dst"));
    struct far_row_task task = world_row_task(&w, job, 1);
    struct far_sub_report_item done = {.state = FAR_report_state_done, .adoption_survey = {&said, 1}};
    assert_int_equal(world_report(&w, &task, done), 0);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_failed);
    assert_int_equal(adoption(1).base, 0);
    job = MUST(&w, vault_adopt, .node = S("dst"));
    said.assumed = true; /* it only took it for its own, and knows nothing in it */
    task = world_row_task(&w, job, 1);
    assert_int_equal(world_report(&w, &task, done), 0);
    assert_true(adoption(1).base != 0);
    MUST(&w, job_cancel, .job_id = job);
    assert_int_equal(APPLY(&w, vault_adopt, .node = S("nobody")), FAR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        IN_A_WORLD(numbers_are_set_aside_that_nothing_has),
        IN_A_WORLD(what_a_manifest_says_becomes_what_it_was),
        IN_A_WORLD(machines_and_how_they_are_brought_up_come_with_the_points),
        IN_A_WORLD(adopting_again_changes_nothing_and_finds_what_was_left_out),
        IN_A_WORLD(adopting_again_after_own_cycles_keeps_the_numbers),
        IN_A_WORLD(a_vault_that_does_not_say_whose_it_is_is_not_adopted_over_own_points),
        IN_A_WORLD(a_second_vault_of_the_same_cluster_comes_together_with_the_first),
        IN_A_WORLD(what_does_not_fit_is_left_out_and_named),
        IN_A_WORLD(a_node_that_dies_and_a_job_that_is_canceled_leave_what_was_taken),
        IN_A_WORLD(a_vault_of_this_cluster_is_not_adopted),
    };
    return cmocka_run_group_tests_name("fsm_adopt", tests, NULL, NULL);
}
