/* Jobs as a user and a node see them: what is ordered, what a loss or a failure leads to, what comes out. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <stdio.h>

static struct world w;
static uint64_t source, target, workload, plan;
static uint64_t level; /* of the cluster; 0 = the newest */

static int setup(void **unused)
{
    world_init(&w);
    w.level = level;
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


/* ---- small helpers ---- */

/* Numbers of the tasks of the first workload. */
enum { FREEZE = 1, SEAL = 2, RELEASE = 3, SEND0 = 4, RECEIVE0 = 5, SEND1 = 6, RECEIVE1 = 7 };

static struct far_row_task task(uint64_t job, uint64_t number)
{
    return world_row_task(&w, job, number);
}

static void assert_state(uint64_t job, uint64_t number, uint64_t state)
{
    assert_string_equal(far_enum_name(&far_enum_task_state, task(job, number).state),
                        far_enum_name(&far_enum_task_state, state));
}

static void assert_text(struct far_slice text, const char *part)
{
    char copy[512];
    snprintf(copy, sizeof copy, "%.*s", (int)text.len, (const char *)text.data);
    assert_non_null(strstr(copy, part));
}

static int report(uint64_t job, uint64_t number, struct far_sub_report_item item)
{
    struct far_row_task row = task(job, number);
    return world_report(&w, &row, item);
}

static struct far_sub_report_item failure(uint64_t outcome, const char *klass)
{
    return (struct far_sub_report_item){.state = FAR_report_state_failed,
                                        .outcome = outcome,
                                        .error_class = S(klass),
                                        .error_message = S("the disk said no")};
}

static struct far_sub_report_item done_with(const char *root32)
{
    return (struct far_sub_report_item){
        .state = FAR_report_state_done, .root = far_slice(root32, root32 != NULL ? 32 : 0)};
}

static int freeze_found(uint64_t job, uint64_t size0, uint64_t size1, const char *identity)
{
    struct far_sub_disk_found found[2] = {{.size_bytes = size0, .identity = S(identity)},
                                          {.disk_index = 1, .size_bytes = size1, .identity = S(identity)}};
    struct far_sub_report_item item = {.state = FAR_report_state_done,
                                       .freeze_ref = S("view"),
                                       .frozen_at_ms = w.now_ms,
                                       .disks = {.items = found, .count = size1 != 0 ? 2 : 1}};
    return report(job, FREEZE, item);
}

static const char *const ROOT_A = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
static const char *const ROOT_B = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/* Empty reports every 5 s keep both nodes up, and the tasks they name. */
static void live(uint64_t ms)
{
    for (uint64_t at = 0; at < ms; at += 5000) {
        world_pass(&w, 5000);
        for (size_t i = 0; i < 2; i++) {
            struct far_sub_report_item items[10];
            struct far_list orders;
            uint64_t node = i == 0 ? source : target;
            assert_int_equal(far_query_orders(&w.state, node, 10, &w.arena, &orders, &w.err), 0);
            for (size_t k = 0; k < orders.count; k++) {
                const struct far_sub_order *order = (const struct far_sub_order *)orders.items + k;
                items[k] = (struct far_sub_report_item){.job_id = order->job_id,
                                                        .task = order->task,
                                                        .attempt = order->attempt,
                                                        .state = FAR_report_state_running};
            }
            struct far_row_node row = world_row_node(&w, node);
            MUST(&w, node_report, .node_id = node, .boot = row.boot, .sequence = row.sequence + 1,
                 .items = {.items = items, .count = orders.count});
        }
    }
}

static int setup_live(void **state)
{
    setup(state);
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    return 0;
}

/* ---- what comes out ---- */

static void different_roots_fail_the_workload_with_both_in_the_message(void **unused)
{
    uint64_t job = replicate();
    freeze_found(job, 1000, 2000, "id");
    report(job, SEND0, done_with(ROOT_A));
    report(job, RECEIVE0, done_with(ROOT_B));
    struct far_row_task row = task(job, RECEIVE0);
    assert_int_equal(row.state, FAR_task_state_failed);
    assert_text(row.error_class, "corrupt");
    assert_text(row.error_message, "6161616161616161616161616161616161616161616161616161616161616161 at the source");
    assert_text(row.error_message, "6262626262626262626262626262626262626262626262626262626262626262 at the target");
    assert_text(row.error_message, "disk 'root'");
    assert_state(job, SEND1, FAR_task_state_canceled);
    assert_state(job, SEAL, FAR_task_state_canceled);
    assert_state(job, RELEASE, FAR_task_state_assigned);
    work();
    struct far_row_job j = world_row_job(&w, job);
    assert_int_equal(j.state, FAR_job_state_failed);
    assert_text(j.error_message, "the copy is not the source");
    assert_int_equal(world_row_checkpoint(&w, j.checkpoint_id).id, 0);
    assert_int_equal(world_row_workload(&w, workload).last_point_id, 0);
}

static void a_side_without_a_root_fails(void **unused)
{
    uint64_t job = replicate();
    freeze_found(job, 1000, 2000, "id");
    report(job, SEND0, done_with(NULL));
    assert_state(job, SEND0, FAR_task_state_failed);
}

static void a_failed_workload_keeps_its_last_good_point_and_stops_no_other(void **unused)
{
    world_workload(&w, "db", 1);
    world_plan(&w, "q", (const char *const[]){"db"}, 1);
    MUST(&w, plan_remove, .name = S("q"));
    MUST(&w, plan_remove, .name = S("p"));
    plan = world_plan(&w, "p", (const char *const[]){"web", "db"}, 2);
    replicate();
    work();
    uint64_t good = world_row_workload(&w, workload).last_point_id;
    assert_int_not_equal(good, 0);
    uint64_t job = replicate();
    report(job, FREEZE, failure(FAR_outcome_fatal, "not_found"));
    work();
    struct far_row_job j = world_row_job(&w, job);
    assert_int_equal(j.state, FAR_job_state_partial);
    assert_text(j.error_message, "the disk said no");
    struct far_row_checkpoint checkpoint = world_row_checkpoint(&w, j.checkpoint_id);
    assert_int_equal(checkpoint.member_count, 2);
    assert_int_equal(checkpoint.failed_count, 1);
    struct far_row_checkpoint_member member;
    struct far_key key = far_key(&far_schema_row_checkpoint_member);
    far_key_u64(&key, checkpoint.id);
    far_key_u64(&key, workload);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_checkpoint_member, &key, &w.arena, &member, &w.err), 0);
    assert_true(member.failed);
    assert_int_equal(member.point_id, good);
    assert_text(member.error_message, "the disk said no");
}

static void sizes_and_identities_are_compared_each_cycle(void **unused)
{
    uint64_t job = replicate();
    freeze_found(job, 1000, 2000, "one");
    for (unsigned number = SEND0; number <= RECEIVE1; number++) {
        report(job, number, done_with(ROOT_A));
    }
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    static const struct {
        uint64_t size0, size1;
        const char *identity, *klass, *text;
    } cases[] = {
        {999, 2000, "one", "conflict", "shrank from 1000 to 999"},
        {1000, 2000, "two", "conflict", "is another one now ('two' instead of 'one')"},
        {1000, 0, "one", "not_found", "disk 'data' at '/disks/web-1' is gone"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        job = replicate();
        freeze_found(job, cases[i].size0, cases[i].size1, cases[i].identity);
        work();
        struct far_row_job j = world_row_job(&w, job);
        assert_int_equal(j.state, FAR_job_state_failed);
        assert_text(j.error_class, cases[i].klass);
        assert_text(j.error_message, cases[i].text);
    }
    job = replicate();
    freeze_found(job, 5000, 2000, "one");
    assert_int_equal(task(job, RECEIVE0).size_bytes, 5000);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

/* ---- failures ---- */

static void a_failed_attempt_is_tried_again_after_a_doubling_pause_then_given_up(void **unused)
{
    uint64_t job = replicate();
    uint64_t pause = 1000;
    for (uint64_t attempt = 1; attempt < 10; attempt++) {
        assert_int_equal(task(job, FREEZE).attempt, attempt);
        report(job, FREEZE, failure(FAR_outcome_retry, "io"));
        struct far_row_task row = task(job, FREEZE);
        assert_int_equal(row.state, FAR_task_state_ready);
        assert_int_equal(row.retry_ms, w.now_ms + pause);
        live(pause + (pause < 5000 ? 0 : 5000));
        assert_state(job, FREEZE, FAR_task_state_running);
        pause = pause * 2 < 60000 ? pause * 2 : 60000;
    }
    report(job, FREEZE, failure(FAR_outcome_slow_down, "busy"));
    assert_state(job, FREEZE, FAR_task_state_failed);
    assert_text(task(job, FREEZE).error_message, "given up after 10");
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_failed);
}

static void a_failed_side_takes_its_peer_to_the_same_next_attempt(void **unused)
{
    uint64_t job = replicate();
    freeze_found(job, 1000, 2000, "id");
    report(job, SEND0, done_with(ROOT_A));
    report(job, RECEIVE0, failure(FAR_outcome_retry, "timeout"));
    assert_state(job, SEND0, FAR_task_state_ready);
    assert_int_equal(task(job, SEND0).attempt, 2);
    assert_int_equal(task(job, RECEIVE0).attempt, 2);
    assert_int_equal(task(job, SEND0).failures, 0);
    assert_int_equal(task(job, SEND1).attempt, 1);
    live(5000);
    assert_state(job, SEND0, FAR_task_state_running);
    assert_state(job, RECEIVE0, FAR_task_state_running);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

static void error_classes_decide_where_no_outcome_is_given(void **unused)
{
    uint64_t job = replicate();
    report(job, FREEZE, failure(0, "io"));
    assert_state(job, FREEZE, FAR_task_state_ready);
    live(5000);
    report(job, FREEZE, failure(FAR_outcome_resync, "corrupt"));
    assert_state(job, FREEZE, FAR_task_state_ready);
    live(5000);
    report(job, FREEZE, failure(0, "denied"));
    assert_state(job, FREEZE, FAR_task_state_failed);
}

/* ---- leases, boots, stale reports ---- */

static void a_lost_lease_begins_the_next_attempt_on_another_node(void **unused)
{
    uint64_t job = replicate();
    assert_int_equal(task(job, FREEZE).node_id, source);
    uint64_t other = world_node(&w, "src2", "paris");
    for (unsigned i = 0; i < 4; i++) {
        world_pass(&w, 5000);
        struct far_row_node row = world_row_node(&w, other);
        MUST(&w, node_report, .node_id = other, .boot = row.boot, .sequence = row.sequence + 1);
    }
    assert_int_equal(world_row_node(&w, source).state, FAR_node_state_down);
    struct far_row_task row = task(job, FREEZE);
    assert_int_equal(row.state, FAR_task_state_assigned);
    assert_int_equal(row.node_id, other);
    assert_int_equal(row.attempt, 2);
    assert_int_equal(row.failures, 0);
}

static void a_task_that_no_report_names_is_lost_though_its_node_lives(void **unused)
{
    uint64_t job = replicate();
    for (unsigned i = 0; i < 4; i++) {
        world_pass(&w, 5000);
        struct far_row_node row = world_row_node(&w, source);
        MUST(&w, node_report, .node_id = source, .boot = row.boot, .sequence = row.sequence + 1);
    }
    assert_int_equal(world_row_node(&w, source).state, FAR_node_state_up);
    assert_int_equal(task(job, FREEZE).attempt, 2);
}

static void the_same_nonce_keeps_everything_and_a_new_one_loses_it(void **unused)
{
    uint64_t job = replicate();
    uint64_t events = w.events;
    assert_int_equal(world_boot(&w, source, 1), 1);
    assert_int_equal(w.events, events + 1);
    assert_int_equal(task(job, FREEZE).attempt, 1);
    assert_state(job, FREEZE, FAR_task_state_assigned);
    assert_int_equal(world_boot(&w, source, 2), 2);
    assert_int_equal(task(job, FREEZE).attempt, 2);
    assert_int_equal(task(job, FREEZE).boot, 2);
    assert_state(job, FREEZE, FAR_task_state_assigned);
}

static void a_lost_view_is_frozen_anew_and_all_disks_start_again(void **unused)
{
    uint64_t job = replicate();
    freeze_found(job, 1000, 2000, "id");
    report(job, SEND0, done_with(ROOT_A));
    report(job, RECEIVE0, done_with(ROOT_A));
    world_boot(&w, source, 2);
    assert_state(job, FREEZE, FAR_task_state_assigned);
    assert_int_equal(task(job, FREEZE).attempt, 2);
    for (unsigned number = SEND0; number <= RECEIVE1; number++) {
        assert_state(job, number, FAR_task_state_waiting);
    }
    assert_int_equal(task(job, SEND0).attempt, 2);
    assert_int_equal(task(job, RECEIVE0).attempt, 2);
    assert_int_equal(task(job, SEND1).attempt, task(job, RECEIVE1).attempt);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

static void a_view_is_not_needed_any_more_once_every_disk_is_proven(void **unused)
{
    uint64_t job = replicate();
    freeze_found(job, 1000, 2000, "id");
    for (unsigned number = SEND0; number <= RECEIVE1; number++) {
        report(job, number, done_with(ROOT_A));
    }
    world_boot(&w, source, 2);
    assert_state(job, SEAL, FAR_task_state_assigned);
    assert_int_equal(task(job, FREEZE).attempt, 1);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

static void a_new_boot_of_the_target_restarts_the_pairs_but_not_the_freeze(void **unused)
{
    uint64_t job = replicate();
    freeze_found(job, 1000, 2000, "id");
    world_boot(&w, target, 2);
    assert_int_equal(task(job, FREEZE).attempt, 1);
    assert_int_equal(task(job, SEND0).attempt, 2);
    assert_int_equal(task(job, RECEIVE0).attempt, 2);
    assert_state(job, SEND0, FAR_task_state_assigned);
    assert_state(job, RECEIVE0, FAR_task_state_assigned);
}

static void a_new_leader_extends_what_lives_and_restarts_nothing(void **unused)
{
    uint64_t job = replicate();
    w.now_ms += 14000;
    MUST(&w, leader_started, .server_id = 1, .term = 2);
    assert_int_equal(task(job, FREEZE).lease_until_ms, w.now_ms + 15000);
    world_pass(&w, 14000);
    assert_int_equal(task(job, FREEZE).attempt, 1);
    assert_int_equal(world_row_node(&w, source).state, FAR_node_state_up);
    assert_int_equal(APPLY(&w, leader_started, .server_id = 1, .term = 1), FAR_CONFLICT);
}

static void stale_reports_are_refused_item_by_item(void **unused)
{
    uint64_t job = replicate();
    struct far_row_task old = task(job, FREEZE);
    world_boot(&w, source, 2);
    /* the older attempt, rightly sent by the new boot */
    assert_int_equal(world_report(&w, &old, failure(FAR_outcome_fatal, "io")), 0);
    assert_state(job, FREEZE, FAR_task_state_assigned);
    /* another node */
    struct far_row_task stolen = task(job, FREEZE);
    stolen.node_id = target;
    assert_int_equal(world_report(&w, &stolen, failure(FAR_outcome_fatal, "io")), 0);
    assert_state(job, FREEZE, FAR_task_state_assigned);
    /* no such task */
    stolen.task = 999;
    assert_int_equal(world_report(&w, &stolen, failure(FAR_outcome_fatal, "io")), 0);
    /* another boot */
    struct far_row_node node = world_row_node(&w, source);
    assert_int_equal(APPLY(&w, node_report, .node_id = source, .boot = 1, .sequence = node.sequence + 1), FAR_DENIED);
    /* another actor */
    w.actor = far_actor(FAR_ACTOR_NODE, target);
    assert_int_equal(APPLY(&w, node_report, .node_id = source, .boot = 2, .sequence = node.sequence + 1), FAR_DENIED);
    w.actor = far_actor(FAR_ACTOR_NODE, source);
    MUST(&w, node_report, .node_id = source, .boot = 2, .sequence = 7);
    uint64_t events = w.events;
    MUST(&w, node_report, .node_id = source, .boot = 2, .sequence = 7);
    assert_int_equal(w.events, events);
    assert_int_equal(APPLY(&w, node_report, .node_id = source, .boot = 2, .sequence = 6), FAR_CONFLICT);
    w.actor = 0;
}

/* ---- cancel and release ---- */

static void a_canceled_job_still_releases_what_was_frozen(void **unused)
{
    uint64_t job = replicate();
    freeze_found(job, 1000, 2000, "id");
    MUST(&w, job_cancel, .job_id = job);
    assert_state(job, SEND0, FAR_task_state_canceled);
    assert_state(job, RELEASE, FAR_task_state_assigned);
    uint64_t events = w.events;
    MUST(&w, job_cancel, .job_id = job);
    assert_int_equal(w.events, events);
    work();
    assert_state(job, RELEASE, FAR_task_state_done);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_canceled);
    assert_int_equal(APPLY(&w, job_cancel, .job_id = job), FAR_CONFLICT);
}

static void a_cycle_whose_source_died_can_be_canceled_without_it(void **unused)
{
    uint64_t job = replicate();
    freeze_found(job, 1000, 2000, "id");
    for (unsigned i = 0; i < 8; i++) {
        world_pass(&w, 5000);
        struct far_row_node row = world_row_node(&w, target);
        MUST(&w, node_report, .node_id = target, .boot = row.boot, .sequence = row.sequence + 1);
    }
    assert_int_equal(world_row_node(&w, source).state, FAR_node_state_down);
    assert_state(job, SEND0, FAR_task_state_ready);
    MUST(&w, job_cancel, .job_id = job);
    assert_state(job, RELEASE, FAR_task_state_canceled);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_canceled);
}

static void a_node_that_comes_back_with_its_view_goes_on(void **unused)
{
    uint64_t job = replicate();
    freeze_found(job, 1000, 2000, "id");
    for (unsigned i = 0; i < 8; i++) {
        world_pass(&w, 5000);
        struct far_row_node row = world_row_node(&w, target);
        MUST(&w, node_report, .node_id = target, .boot = row.boot, .sequence = row.sequence + 1);
    }
    struct far_row_node row = world_row_node(&w, source);
    MUST(&w, node_report, .node_id = source, .boot = row.boot, .sequence = row.sequence + 1);
    world_pass(&w, 5);
    assert_state(job, SEND0, FAR_task_state_assigned);
    assert_int_equal(task(job, FREEZE).attempt, 1);
}

/* ---- where things go ---- */

static void work_spreads_and_a_workload_stays_with_its_vault(void **unused)
{
    uint64_t target2 = world_node(&w, "dst2", "lyon");
    uint64_t db = world_workload(&w, "db", 2);
    MUST(&w, plan_remove, .name = S("p"));
    world_plan(&w, "p", (const char *const[]){"web", "db"}, 2);
    uint64_t nodes[3] = {source, target, target2};
    for (unsigned cycle = 0; cycle < 3; cycle++) {
        replicate();
        world_work_all(&w, nodes, 3);
        assert_int_equal(world_row_workload(&w, workload).target_node_id, target);
        assert_int_equal(world_row_workload(&w, db).target_node_id, target2);
    }
}

static void a_first_copy_moves_when_its_target_dies_and_another_is_up(void **unused)
{
    uint64_t job = replicate();
    freeze_found(job, 1000, 2000, "id");
    report(job, SEND0, done_with(ROOT_A));
    report(job, RECEIVE0, done_with(ROOT_A));
    uint64_t target2 = world_node(&w, "dst2", "lyon");
    for (unsigned i = 0; i < 4; i++) {
        world_pass(&w, 5000);
        uint64_t alive[2] = {source, target2};
        for (unsigned k = 0; k < 2; k++) {
            struct far_row_node row = world_row_node(&w, alive[k]);
            MUST(&w, node_report, .node_id = row.id, .boot = row.boot, .sequence = row.sequence + 1);
        }
    }
    assert_int_equal(task(job, RECEIVE0).node_id, target2);
    assert_int_equal(task(job, RECEIVE1).node_id, target2);
    assert_true(task(job, RECEIVE0).attempt > 1);
    world_work_all(&w, (const uint64_t[]){source, target2}, 2);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    assert_int_equal(world_row_workload(&w, workload).target_node_id, target2);
}

static uint64_t lease_left(uint64_t node_id, uint64_t now_ms)
{
    struct far_list list;
    assert_int_equal(far_query_orders_at(&w.state, node_id, now_ms, 10, &w.arena, &list, &w.err), 0);
    assert_int_equal(list.count, 1);
    return ((const struct far_sub_order *)list.items)->lease_ms;
}

static void orders_say_everything(void **unused)
{
    replicate();
    work();
    uint64_t job = replicate();
    struct far_list list;
    assert_int_equal(far_query_orders(&w.state, source, 10, &w.arena, &list, &w.err), 0);
    const struct far_sub_order *order = list.items;
    assert_int_equal(list.count, 1);
    assert_int_equal(order->kind, FAR_task_kind_freeze);
    assert_int_equal(order->disks.count, 2);
    assert_int_equal(order->lease_ms, 15000);
    assert_int_equal(order->plan_epoch, 1);
    assert_int_equal(lease_left(source, w.now_ms + 4000), 11000); /* at a server that gives it late */
    assert_int_equal(lease_left(source, w.now_ms - 60000), 15000);
    assert_int_equal(lease_left(source, w.now_ms + 15000), 0);
    report(job, FREEZE, (struct far_sub_report_item){.state = FAR_report_state_running}); /* renewed, and now kept elsewhere */
    assert_int_equal(lease_left(source, w.now_ms + 4000), 11000);
    freeze_found(job, 1 << 30, 1 << 30, "id");
    assert_int_equal(far_query_orders(&w.state, source, 10, &w.arena, &list, &w.err), 0);
    order = list.items;
    assert_int_equal(list.count, 2);
    assert_int_equal(order->kind, FAR_task_kind_send);
    assert_int_equal(order->peer_node_id, target);
    assert_text(order->peer_address, "127.0.0.1:5002");
    assert_text(order->freeze_ref, "view");
    assert_int_equal(order->base_root.len, 32);
    assert_text(order->locator, "/disks/web-0");
    assert_int_equal(far_query_orders(&w.state, target, 1, &w.arena, &list, &w.err), 0);
    assert_int_equal(list.count, 1);
    report(job, SEND0, done_with(ROOT_A));
    report(job, SEND1, done_with(ROOT_B));
    report(job, RECEIVE0, done_with(ROOT_A));
    report(job, RECEIVE1, done_with(ROOT_B));
    assert_int_equal(far_query_orders(&w.state, target, 10, &w.arena, &list, &w.err), 0);
    order = list.items;
    assert_int_equal(order->kind, FAR_task_kind_seal);
    assert_int_equal(order->point_disks.count, 2);
    assert_int_equal(order->frozen_at_ms, w.now_ms);
    assert_text(order->site, "paris");
    assert_int_equal(far_query_orders(&w.state, 999, 10, &w.arena, &list, &w.err), FAR_NOT_FOUND);
}

static void a_large_job_creates_256_tasks_at_once_and_the_rest_by_deadline(void **unused)
{
    static char names[100][16];
    const char *list[100];
    for (size_t i = 0; i < 100; i++) {
        snprintf(names[i], sizeof names[i], "w%zu", i);
        list[i] = names[i];
        world_workload(&w, list[i], 4);
    }
    world_plan(&w, "big", list, 100);
    uint64_t job = MUST(&w, plan_replicate, .name = S("big"));
    assert_true(world_row_job(&w, job).task_count <= 256);
    world_pass(&w, 1);
    assert_true(world_row_job(&w, job).task_count <= 512);
    work();
    struct far_row_job row = world_row_job(&w, job);
    assert_int_equal(row.task_count, 1100);
    assert_int_equal(row.state, FAR_job_state_succeeded);
    assert_int_equal(world_row_checkpoint(&w, row.checkpoint_id).member_count, 100);
}

static void a_cycle_costs_at_most_four_events_and_a_kibibyte_a_disk(void **unused)
{
    static char names[20][16];
    const char *list[20];
    for (size_t i = 0; i < 20; i++) {
        snprintf(names[i], sizeof names[i], "w%zu", i);
        list[i] = names[i];
        world_workload(&w, list[i], 4);
    }
    world_plan(&w, "big", list, 20);
    MUST(&w, plan_replicate, .name = S("big"));
    work();
    uint64_t events = w.events;
    size_t bytes = w.log.len;
    MUST(&w, plan_replicate, .name = S("big"));
    work();
    events = w.events - events;
    bytes = w.log.len - bytes - events * sizeof(struct far_event) + events * 64;
    print_message("# %llu events and %zu bytes for a cycle of 80 disks\n", (unsigned long long)events, bytes);
    assert_true(events <= 4 * 80);
    assert_true(bytes <= 1024 * 80);
}

/* ---- schedules ---- */

static void a_started_plan_makes_a_cycle_every_interval_and_skips_while_one_runs(void **unused)
{
    struct far_slice names[1] = {S("db")};
    uint64_t db = world_workload(&w, "db", 1);
    uint64_t id = MUST(&w, plan_create, .name = S("q"), .source_site = S("paris"), .target_site = S("lyon"),
                       .workloads = {names, 1}, .interval_s = 60);
    MUST(&w, plan_start, .name = S("q"));
    uint64_t began = w.now_ms;
    world_pass(&w, 1);
    uint64_t job = world_row_plan(&w, id).running_job_id;
    assert_int_not_equal(job, 0);
    assert_int_equal(world_row_plan(&w, id).due_ms, began + 60000);
    live(65000);
    assert_int_equal(world_row_plan(&w, id).running_job_id, job);
    assert_int_equal(world_row_plan(&w, id).due_ms, began + 120000);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    live(60000);
    assert_int_not_equal(world_row_plan(&w, id).running_job_id, 0);
    MUST(&w, plan_stop, .name = S("q"));
    assert_int_not_equal(world_row_plan(&w, id).running_job_id, 0);
    work();
    live(200000);
    assert_int_equal(world_row_plan(&w, id).running_job_id, 0);
    assert_int_not_equal(world_row_workload(&w, db).last_point_id, 0);
}

/* ---- recover, verify, forget ---- */

static int recover(struct far_sub_restore_spec *specs, size_t count, uint64_t checkpoint_id)
{
    return APPLY(&w, recover, .plan = S("p"), .workload = S("web"), .checkpoint_id = checkpoint_id,
                 .disks = {specs, count});
}

static void recovery_names_every_disk_once_with_an_absolute_path(void **unused)
{
    struct far_sub_restore_spec good[2] = {{S("root"), S("/out/a")}, {S("data"), S("/out/b")}};
    assert_int_equal(recover(good, 2, 0), FAR_NOT_FOUND);
    replicate();
    work();
    struct far_sub_restore_spec relative[2] = {{S("root"), S("out/a")}, {S("data"), S("/out/b")}};
    assert_int_equal(recover(relative, 2, 0), FAR_INVALID);
    assert_int_equal(recover(good, 1, 0), FAR_INVALID);
    struct far_sub_restore_spec unknown[2] = {{S("root"), S("/out/a")}, {S("dta"), S("/out/b")}};
    assert_int_equal(recover(unknown, 2, 0), FAR_INVALID);
    assert_non_null(strstr(w.result.message, "no disk 'dta'"));
    struct far_sub_restore_spec twice[2] = {{S("root"), S("/out/a")}, {S("data"), S("/out/a")}};
    assert_int_equal(recover(twice, 2, 0), FAR_INVALID);
    assert_int_equal(recover(good, 2, 12345), FAR_NOT_FOUND);
    assert_int_equal(recover(good, 2, 0), 0);
    uint64_t job = w.result.object_id;
    assert_int_equal(world_row_job(&w, job).kind, FAR_job_kind_recover);
    assert_int_equal(task(job, 1).node_id, target);
    assert_int_equal(APPLY(&w, plan_remove, .name = S("p")), FAR_CONFLICT);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

static void a_recovered_disk_with_another_root_fails_the_job(void **unused)
{
    struct far_sub_restore_spec good[2] = {{S("root"), S("/out/a")}, {S("data"), S("/out/b")}};
    replicate();
    work();
    assert_int_equal(recover(good, 2, 0), 0);
    uint64_t job = w.result.object_id;
    report(job, 1, done_with(ROOT_B));
    struct far_row_job row = world_row_job(&w, job);
    assert_int_equal(row.state, FAR_job_state_failed);
    assert_text(row.error_class, "corrupt");
    assert_state(job, 2, FAR_task_state_canceled);
}

static void a_fuzzy_point_marks_its_recovery(void **unused)
{
    struct far_sub_restore_spec good[2] = {{S("root"), S("/out/a")}, {S("data"), S("/out/b")}};
    struct far_sub_disk_found found[2] = {{.size_bytes = 1000, .identity = S("id")},
                                          {.disk_index = 1, .size_bytes = 1000, .identity = S("id")}};
    uint64_t job = replicate();
    report(job, FREEZE, (struct far_sub_report_item){.state = FAR_report_state_done,
                                                     .fuzzy = true,
                                                     .disks = {.items = found, .count = 2}});
    work();
    assert_true(world_row_point(&w, world_row_workload(&w, workload).last_point_id).fuzzy);
    assert_int_equal(recover(good, 2, 0), 0);
    assert_true(world_row_job(&w, w.result.object_id).fuzzy);
}

static void a_damaged_point_is_marked_and_an_older_one_is_recovered(void **unused)
{
    struct far_sub_restore_spec good[2] = {{S("root"), S("/out/a")}, {S("data"), S("/out/b")}};
    uint64_t first = world_row_job(&w, replicate()).checkpoint_id;
    work();
    uint64_t second = world_row_job(&w, replicate()).checkpoint_id;
    work();
    uint64_t job = MUST(&w, checkpoint_verify, .checkpoint_id = second);
    report(job, 1, (struct far_sub_report_item){.state = FAR_report_state_done, .blocks_damaged = 3});
    assert_state(job, 2, FAR_task_state_assigned);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_failed);
    assert_int_equal(world_row_checkpoint(&w, second).state, FAR_point_state_damaged);
    assert_int_equal(recover(good, 2, second), FAR_NOT_FOUND);
    assert_int_equal(recover(good, 2, 0), 0);
    assert_int_equal(world_row_job(&w, w.result.object_id).checkpoint_id, first);
    job = MUST(&w, checkpoint_verify, .checkpoint_id = first);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

/* Healed, say: it is as good as before when it has been read again. */
static void a_damaged_checkpoint_is_available_again_when_its_points_are(void **unused)
{
    struct far_sub_restore_spec good[2] = {{S("root"), S("/out/a")}, {S("data"), S("/out/b")}};
    uint64_t checkpoint = world_row_job(&w, replicate()).checkpoint_id;
    work();
    uint64_t job = MUST(&w, checkpoint_verify, .checkpoint_id = checkpoint);
    report(job, 1, (struct far_sub_report_item){.state = FAR_report_state_done, .blocks_damaged = 3});
    work();
    assert_int_equal(world_row_checkpoint(&w, checkpoint).state, FAR_point_state_damaged);
    job = MUST(&w, checkpoint_verify, .checkpoint_id = checkpoint);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    bool is_old = level != 0 && level < 4; /* there it stays damaged, as servers of then have it */
    assert_int_equal(world_row_checkpoint(&w, checkpoint).state, is_old ? FAR_point_state_damaged : FAR_point_state_available);
    assert_int_equal(recover(good, 2, checkpoint), 0);
}

static struct far_row_job newest_job(void)
{
    struct far_row_job row = {.id = 0};
    struct far_key key = far_key(&far_schema_row_job);
    while (far_state_next(&w.state, &far_schema_row_job, &key, &w.arena, NULL, &row, &w.err) == 0) {
    }
    return row;
}

/* Nobody comes up who could do it: it does not wait for that. */
static void a_checkpoint_whose_vault_is_gone_is_removed_at_once(void **unused)
{
    uint64_t first = world_row_job(&w, replicate()).checkpoint_id;
    work();
    MUST(&w, node_remove, .name = world_row_node(&w, target).name);
    MUST(&w, checkpoint_remove, .checkpoint_id = first);
    struct far_row_job job = newest_job();
    assert_int_equal(job.kind, FAR_job_kind_forget);
    bool is_old = level != 0 && level < 4;
    assert_int_equal(job.state, is_old ? FAR_job_state_running : FAR_job_state_failed);
    assert_true(is_old || job.error_message.len > 0);
}

static void a_removed_checkpoint_is_forgotten_in_the_vault(void **unused)
{
    uint64_t first = world_row_job(&w, replicate()).checkpoint_id;
    work();
    uint64_t point = world_row_workload(&w, workload).last_point_id;
    uint64_t reader = MUST(&w, checkpoint_verify, .checkpoint_id = first);
    assert_int_equal(APPLY(&w, checkpoint_remove, .checkpoint_id = first), FAR_CONFLICT);
    work();
    assert_int_equal(world_row_job(&w, reader).state, FAR_job_state_succeeded);
    assert_int_equal(MUST(&w, checkpoint_remove, .checkpoint_id = first), first);
    assert_int_equal(world_row_point(&w, point).state, FAR_point_state_removed);
    assert_int_equal(world_row_workload(&w, workload).last_point_id, 0);
    struct far_list list;
    assert_int_equal(far_query_orders(&w.state, target, 10, &w.arena, &list, &w.err), 0);
    const struct far_sub_order *order = list.items;
    assert_int_equal(list.count, 1);
    assert_int_equal(order->kind, FAR_task_kind_forget);
    assert_int_equal(order->point_id, point);
    work();
    assert_int_equal(APPLY(&w, checkpoint_remove, .checkpoint_id = first), FAR_CONFLICT);
    uint64_t job = replicate();
    work();
    assert_int_equal(world_row_point(&w, world_row_workload(&w, workload).last_point_id).proof, FAR_proof_full);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

/* ---- adapters ---- */

static void boot_with(uint64_t node, uint8_t nonce, struct far_slice *names, size_t count)
{
    uint8_t bytes[16] = {nonce, 2};
    w.actor = far_actor(FAR_ACTOR_NODE, node);
    w.sequence[node % 16] = 0;
    MUST(&w, node_boot, .node_id = node, .nonce = far_slice(bytes, 16), .adapters = {names, count});
    w.actor = 0;
}

static int create(const char *name, const char *adapter)
{
    char path[64];
    snprintf(path, sizeof path, "/disks/%s", name);
    struct far_sub_disk_spec disk = {S("root"), S(path)};
    return APPLY(&w, workload_create, .name = S(name), .site = S("paris"), .adapter = S(adapter), .disks = {&disk, 1});
}

static void an_adapter_that_no_node_of_the_site_has_is_refused(void **unused)
{
    struct far_slice here[] = {S("file"), S("fault")}, there[] = {S("nosuch")}, bad[] = {S("a b")};
    assert_int_equal(create("early", "nosuch"), 0); /* nobody has told yet */
    assert_non_null(strstr(w.result.message, "whether 'nosuch' is one"));
    boot_with(source, 9, here, 2);
    boot_with(target, 9, there, 1); /* of another site */
    assert_int_equal(create("vm", "nosuch"), FAR_INVALID);
    assert_string_equal(w.result.message, "no node of site 'paris' has the adapter 'nosuch'; there are: file, fault");
    assert_int_equal(create("vm", "fault:nosuch?rd=5"), FAR_INVALID);
    assert_int_equal(create("vm", "fault:file?rd=5"), 0);
    assert_string_equal(w.result.message, "");
    assert_int_equal(world_row_node(&w, source).adapters.count, 2);
    uint8_t nonce[16] = {1};
    w.actor = far_actor(FAR_ACTOR_NODE, source);
    assert_int_equal(APPLY(&w, node_boot, .node_id = source, .nonce = far_slice(nonce, 16), .adapters = {bad, 1}),
                     FAR_INVALID);
    w.actor = 0;
}

static void a_plan_says_which_workload_waits_for_an_adapter(void **unused)
{
    struct far_slice file[] = {S("file")}, both[] = {S("file"), S("special")}, why;
    assert_int_equal(create("odd", "special"), 0);
    boot_with(source, 9, file, 1);
    world_plan(&w, "q", (const char *const[]){"odd"}, 1);
    MUST(&w, plan_start, .name = S("q"));
    assert_string_equal(w.result.message, "workload 'odd' waits: no node of site 'paris' has the adapter 'special'; there "
                                          "are: file");
    uint64_t job = MUST(&w, plan_replicate, .name = S("q"));
    assert_non_null(strstr(w.result.message, "workload 'odd' waits: no node"));
    assert_state(job, FREEZE, FAR_task_state_ready);
    struct far_row_task row = task(job, FREEZE);
    assert_int_equal(far_query_wait(&w.state, &row, &w.arena, &why, &w.err), 0);
    assert_text(why, "no node of site 'paris' has the adapter 'special'; there are: file");
    boot_with(source, 10, both, 2); /* it learned it */
    world_pass(&w, 1);
    assert_state(job, FREEZE, FAR_task_state_assigned);
    row = task(job, FREEZE);
    assert_int_equal(far_query_wait(&w.state, &row, &w.arena, &why, &w.err), 0);
    assert_int_equal(why.len, 0);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

static void a_freeze_goes_to_a_node_that_has_the_adapter(void **unused)
{
    struct far_slice file[] = {S("file")}, other[] = {S("other")};
    uint64_t second = world_node(&w, "src2", "paris");
    boot_with(source, 9, other, 1);
    boot_with(second, 9, file, 1);
    uint64_t job = replicate();
    assert_int_equal(task(job, FREEZE).node_id, second);
    world_work_all(&w, (const uint64_t[]){source, target, second}, 3);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_LIVE(name) cmocka_unit_test_setup_teardown(name, setup_live, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_cycle_makes_a_point_and_a_checkpoint),
        TEST(different_roots_fail_the_workload_with_both_in_the_message),
        TEST(a_side_without_a_root_fails),
        TEST(a_failed_workload_keeps_its_last_good_point_and_stops_no_other),
        TEST(sizes_and_identities_are_compared_each_cycle),
        TEST_LIVE(a_failed_attempt_is_tried_again_after_a_doubling_pause_then_given_up),
        TEST_LIVE(a_failed_side_takes_its_peer_to_the_same_next_attempt),
        TEST_LIVE(error_classes_decide_where_no_outcome_is_given),
        TEST_LIVE(a_lost_lease_begins_the_next_attempt_on_another_node),
        TEST_LIVE(a_task_that_no_report_names_is_lost_though_its_node_lives),
        TEST(the_same_nonce_keeps_everything_and_a_new_one_loses_it),
        TEST(a_lost_view_is_frozen_anew_and_all_disks_start_again),
        TEST(a_view_is_not_needed_any_more_once_every_disk_is_proven),
        TEST(a_new_boot_of_the_target_restarts_the_pairs_but_not_the_freeze),
        TEST(a_new_leader_extends_what_lives_and_restarts_nothing),
        TEST(stale_reports_are_refused_item_by_item),
        TEST(a_canceled_job_still_releases_what_was_frozen),
        TEST_LIVE(a_cycle_whose_source_died_can_be_canceled_without_it),
        TEST_LIVE(a_node_that_comes_back_with_its_view_goes_on),
        TEST(work_spreads_and_a_workload_stays_with_its_vault),
        TEST_LIVE(a_first_copy_moves_when_its_target_dies_and_another_is_up),
        TEST(orders_say_everything),
        TEST(a_large_job_creates_256_tasks_at_once_and_the_rest_by_deadline),
        TEST(a_cycle_costs_at_most_four_events_and_a_kibibyte_a_disk),
        TEST_LIVE(a_started_plan_makes_a_cycle_every_interval_and_skips_while_one_runs),
        TEST(recovery_names_every_disk_once_with_an_absolute_path),
        TEST(a_recovered_disk_with_another_root_fails_the_job),
        TEST(a_fuzzy_point_marks_its_recovery),
        TEST(a_damaged_point_is_marked_and_an_older_one_is_recovered),
        TEST(a_damaged_checkpoint_is_available_again_when_its_points_are),
        TEST(a_checkpoint_whose_vault_is_gone_is_removed_at_once),
        TEST(a_removed_checkpoint_is_forgotten_in_the_vault),
        TEST(an_adapter_that_no_node_of_the_site_has_is_refused),
        TEST(a_plan_says_which_workload_waits_for_an_adapter),
        TEST(a_freeze_goes_to_a_node_that_has_the_adapter),
    };
    int failed = cmocka_run_group_tests_name("jobs", tests, NULL, NULL);
    level = 2; /* where each task's row has its bytes and lease */
    return failed + cmocka_run_group_tests_name("jobs of feature level 2", tests, NULL, NULL);
}
