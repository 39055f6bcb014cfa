/* Scores of points in the log: kept with points, disks, checkpoints and workloads; alarms, the last point before, how one ends. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

static struct world w;
static uint64_t nodes[2], workload;

static void begin(uint64_t level)
{
    const char *name = "web";
    world_init(&w);
    w.level = level;
    world_cluster(&w);
    nodes[0] = world_node(&w, "src", "paris");
    nodes[1] = world_node(&w, "dst", "lyon");
    workload = world_workload(&w, name, 2);
    world_plan(&w, "p", &name, 1);
}

static int setup(void **unused)
{
    begin(0);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static struct far_row_task task_of(uint64_t job, uint64_t kind)
{
    for (uint64_t t = 1; t < 10; t++) {
        struct far_row_task row = {.job_id = 0};
        struct far_key key = far_key(&far_schema_row_task);
        far_key_u64(&key, job);
        far_key_u32(&key, (uint32_t)t);
        if (far_state_get(&w.state, &far_schema_row_task, &key, &w.arena, &row, NULL) == 0 && row.kind == kind) {
            return row;
        }
    }
    fail_msg("job %llu has no such task", (unsigned long long)job);
    return (struct far_row_task){.job_id = 0};
}

static struct far_sub_report_item item_of(struct far_sub_signal *signals, size_t count)
{
    return (struct far_sub_report_item){.state = FAR_report_state_done, .signals = {.items = signals, .count = count}};
}

/* A cycle whose seal reports these scores of its two disks; returns the point. calm: what the node says for both. */
static uint64_t cycle(uint64_t first, uint64_t second, uint64_t calm)
{
    struct far_sub_signal signals[2] = {
        {.disk_index = 0, .detector = 3, .score = first, .evidence = first / 10, .changed_blocks = 50, .calm_point_id = calm},
        {.disk_index = 1, .detector = 3, .score = second, .evidence = second / 10, .low_to_high_blocks = 9, .calm_point_id = calm}};
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    struct far_row_task seal = task_of(job, FAR_task_kind_seal);
    for (unsigned i = 0; i < 20 && seal.state != FAR_task_state_assigned; i++) {
        struct far_row_task held = task_of(job, FAR_task_kind_freeze);
        world_work(&w, held.state == FAR_task_state_done ? nodes[1] : nodes[0]);
        seal = task_of(job, FAR_task_kind_seal);
        if (seal.state != FAR_task_state_assigned && seal.state != FAR_task_state_done) {
            world_work(&w, nodes[0]);
            seal = task_of(job, FAR_task_kind_seal);
        }
    }
    assert_int_equal(seal.state, FAR_task_state_assigned);
    assert_int_equal(world_report(&w, &seal, item_of(signals, 2)), 0);
    world_work_all(&w, nodes, 2);
    return world_row_workload(&w, workload).last_point_id;
}

static struct far_row_point_disk disk_of(uint64_t point, uint32_t disk)
{
    struct far_row_point_disk row = {.disk_id = 0};
    struct far_key key = far_key(&far_schema_row_point_disk);
    far_key_u64(&key, point);
    far_key_u32(&key, disk);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_point_disk, &key, &w.arena, &row, NULL), 0);
    return row;
}

/* Open alerts of the signal; the last of them. */
static size_t open_alerts(struct far_row_alert *ret_row)
{
    struct far_key key = far_key(&far_schema_row_alert);
    struct far_row_alert row;
    size_t count = 0;
    while (far_state_next(&w.state, &far_schema_row_alert, &key, &w.arena, NULL, &row, NULL) == 0) {
        if (row.kind == FAR_alert_kind_signal_rose && row.state != FAR_alert_state_cleared) {
            *ret_row = row;
            count++;
        }
    }
    return count;
}

static void a_score_is_kept_with_point_disks_and_checkpoint(void **unused)
{
    struct far_row_alert alert;
    uint64_t id = cycle(120, 340, 0);
    struct far_row_point point = world_row_point(&w, id);
    assert_int_equal(point.score, 340);
    assert_int_equal(point.detector, 3);
    assert_false(point.rose);
    assert_int_equal(disk_of(id, 0).score, 120);
    assert_int_equal(disk_of(id, 0).changed_blocks, 50);
    assert_int_equal(disk_of(id, 1).evidence, 34);
    assert_int_equal(disk_of(id, 1).low_to_high_blocks, 9);
    assert_int_equal(world_row_checkpoint(&w, point.checkpoint_id).score, 340);
    assert_int_equal(open_alerts(&alert), 0);
    assert_int_equal(world_row_workload(&w, workload).rose_point_id, 0);
}

static void an_alarm_names_the_first_point_and_the_last_before(void **unused)
{
    struct far_row_alert alert;
    uint64_t calm = cycle(0, 0, 0), between = cycle(300, 0, 0), first = cycle(700, 10, calm);
    struct far_row_workload row = world_row_workload(&w, workload);
    assert_int_equal(row.rose_point_id, first);
    assert_int_equal(row.calm_point_id, calm); /* it began before it was enough for an alarm */
    assert_int_equal(open_alerts(&alert), 1);
    assert_int_equal(alert.disk_id, disk_of(first, 0).disk_id);
    cycle(800, 900, between);
    row = world_row_workload(&w, workload);
    assert_int_equal(row.rose_point_id, first); /* the rise goes on */
    assert_int_equal(row.calm_point_id, calm);
    assert_int_equal(open_alerts(&alert), 2);
    char named[64], message[512];
    snprintf(named, sizeof named, "last point before it rose is %llu:", (unsigned long long)calm);
    snprintf(message, sizeof message, "%.*s", (int)alert.message.len, (const char *)alert.message.data);
    assert_non_null(strstr(message, named));
}

static void a_removed_point_is_not_named(void **unused)
{
    uint64_t older = cycle(0, 0, 0), gone = cycle(0, 0, 0);
    cycle(0, 0, 0);
    MUST(&w, checkpoint_remove, .checkpoint_id = world_row_point(&w, gone).checkpoint_id);
    world_work_all(&w, nodes, 2);
    cycle(999, 0, gone);
    assert_int_equal(world_row_workload(&w, workload).calm_point_id, older);
}

static void it_ends_when_a_person_saw_it_and_a_point_is_calm(void **unused)
{
    struct far_row_alert alert;
    uint64_t calm = cycle(0, 0, 0), rose = cycle(600, 0, calm);
    cycle(0, 0, 0);
    assert_int_equal(open_alerts(&alert), 1);
    assert_int_equal(world_row_workload(&w, workload).rose_point_id, rose);
    MUST(&w, alert_ack, .alert_id = alert.id);
    cycle(650, 0, calm); /* seen, but it goes on */
    assert_int_equal(open_alerts(&alert), 1);
    cycle(0, 0, 0);
    assert_int_equal(open_alerts(&alert), 0);
    assert_int_equal(world_row_workload(&w, workload).rose_point_id, 0);
    assert_int_equal(world_row_workload(&w, workload).calm_point_id, 0);
}

static uint64_t state_of(uint64_t point)
{
    return world_row_point(&w, point).state;
}

static void later(void)
{
    static uint8_t nonce = 100;
    world_pass(&w, 3600000);
    for (size_t i = 0; i < 2; i++) {
        world_boot(&w, nodes[i], nonce++);
    }
    world_pass(&w, 2);
    world_work_all(&w, nodes, 2);
}

/* What the alarm says to keep is there as long as it says so. */
static void retention_holds_the_last_calm_point_until_the_alarm_is_over(void **unused)
{
    struct far_row_alert alert;
    uint64_t older = cycle(0, 0, 0), calm = cycle(0, 0, 0), rose = cycle(700, 0, calm);
    MUST(&w, plan_retention_set, .name = S("p"), .last = 1);
    cycle(0, 0, 0);
    later();
    assert_int_equal(state_of(older), FAR_point_state_removed);
    assert_int_equal(state_of(rose), FAR_point_state_removed);
    assert_int_equal(state_of(calm), FAR_point_state_available);
    struct far_retention retention;
    struct far_retention_wish wish = {.plan_id = world_row_point(&w, calm).plan_id, .max = 10};
    assert_int_equal(far_query_retention(&w.state, &wish, w.now_ms, &w.arena, &retention, &w.err), 0);
    assert_int_equal(retention.item_count, 2);
    unsigned bit = 0;
    while (far_retention_reason(bit) != NULL && strcmp(far_retention_reason(bit), "calm") != 0) {
        bit++;
    }
    assert_int_equal(retention.items[1].stays, 1u << bit);
    assert_int_equal(open_alerts(&alert), 1);
    MUST(&w, alert_ack, .alert_id = alert.id);
    later();
    assert_int_equal(state_of(calm), FAR_point_state_available); /* seen, and not calm since */
    cycle(0, 0, 0);
    later();
    assert_int_equal(open_alerts(&alert), 0);
    assert_int_equal(state_of(calm), FAR_point_state_removed);
}

static void points_are_judged_anew(void **unused)
{
    struct far_row_alert alert;
    uint64_t calm = cycle(0, 0, 0), point = cycle(200, 0, 0);
    cycle(0, 0, 0);
    struct far_sub_signal better = {.disk_index = 0, .detector = 4, .score = 880, .calm_point_id = calm};
    uint64_t job = MUST(&w, checkpoint_rescore, .checkpoint_id = world_row_point(&w, point).checkpoint_id);
    struct far_row_task task = world_row_task(&w, job, 1);
    assert_int_equal(task.kind, FAR_task_kind_rescore);
    assert_int_equal(task.node_id, nodes[1]);
    assert_int_equal(world_report(&w, &task, item_of(&better, 1)), 0);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    assert_int_equal(world_row_point(&w, point).score, 880);
    assert_int_equal(world_row_point(&w, point).detector, 4);
    assert_int_equal(open_alerts(&alert), 1);
    assert_int_equal(world_row_workload(&w, workload).rose_point_id, point);
    assert_int_equal(world_row_workload(&w, workload).calm_point_id, calm);
    assert_int_equal(APPLY(&w, checkpoint_rescore, .checkpoint_id = 99999), FAR_NOT_FOUND);
}

static void nonsense_of_a_node_changes_nothing(void **unused)
{
    struct far_row_alert alert;
    uint64_t point = cycle(5000, 1001, 0);
    assert_int_equal(world_row_point(&w, point).score, 0);
    struct far_sub_signal wrong[2] = {{.disk_index = 9, .score = 900, .detector = 1}, {.disk_index = 0, .score = 10, .detector = 1}};
    uint64_t job = MUST(&w, checkpoint_rescore, .checkpoint_id = world_row_point(&w, point).checkpoint_id);
    struct far_row_task task = world_row_task(&w, job, 1);
    assert_int_equal(world_report(&w, &task, item_of(wrong, 2)), 0);
    assert_int_equal(world_row_point(&w, point).score, 10);
    assert_int_equal(open_alerts(&alert), 0);
}

static void below_level_4_there_are_none(void **unused)
{
    teardown(NULL);
    begin(3);
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    world_work_all(&w, nodes, 2);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    uint64_t point = world_row_workload(&w, workload).last_point_id;
    assert_int_not_equal(APPLY(&w, checkpoint_rescore, .checkpoint_id = world_row_point(&w, point).checkpoint_id), 0);
    assert_int_equal(world_row_point(&w, point).detector, 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_score_is_kept_with_point_disks_and_checkpoint),
        CASE(an_alarm_names_the_first_point_and_the_last_before),
        CASE(a_removed_point_is_not_named),
        CASE(it_ends_when_a_person_saw_it_and_a_point_is_calm),
        CASE(retention_holds_the_last_calm_point_until_the_alarm_is_over),
        CASE(points_are_judged_anew),
        CASE(nonsense_of_a_node_changes_nothing),
        CASE(below_level_4_there_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
