/* Plans in the core: whole plans in one command, how workloads are brought up and which points keep it, who comes and goes while a cycle
 * runs, and when cycles begin. */
#include "fsm/ip.h"
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <stdio.h>

static struct world w;
static uint64_t nodes[2], plan;

enum { MINUTE_MS = 60000, HOUR_MS = 3600 * 1000, DAY_MS = 24 * HOUR_MS };
#define MONDAY_MS (1804464000000ull) /* 2027-03-08 0:00 UTC */

static int setup(void **unused)
{
    world_init(&w);
    w.now_ms = MONDAY_MS - DAY_MS;
    world_cluster(&w);
    nodes[0] = world_node(&w, "src", "paris");
    nodes[1] = world_node(&w, "dst", "lyon");
    world_workload(&w, "web", 2);
    world_workload(&w, "db", 1);
    world_workload(&w, "mail", 1);
    plan = world_plan(&w, "p", (const char *const[]){"web", "db"}, 2);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static uint64_t cycle(void)
{
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    world_work_all(&w, nodes, 2);
    return world_row_job(&w, job).checkpoint_id;
}

static uint64_t workload_id(const char *name)
{
    uint64_t id = 0;
    assert_int_equal(far_query_id(&w.state, &far_schema_row_workload, S(name), &id, &w.err), 0);
    return id;
}

static struct far_row_plan_workload member(const char *name)
{
    struct far_row_plan_workload row = {.plan_id = 0};
    struct far_key key = far_key(&far_schema_row_plan_workload);
    far_key_u64(&key, plan);
    far_key_u64(&key, workload_id(name));
    int rc = far_state_get(&w.state, &far_schema_row_plan_workload, &key, &w.arena, &row, &w.err);
    assert_true(rc == 0 || rc == FAR_NOT_FOUND);
    return row;
}

static struct far_row_recovery version(uint64_t id)
{
    struct far_row_recovery row = {.id = 0};
    struct far_key key = far_key(&far_schema_row_recovery);
    far_key_u64(&key, id);
    int rc = far_state_get(&w.state, &far_schema_row_recovery, &key, &w.arena, &row, &w.err);
    assert_true(rc == 0 || rc == FAR_NOT_FOUND);
    return row;
}

static uint64_t set(const char *name, uint64_t processors)
{
    struct far_sub_recovery config = {.processors = processors};
    MUST(&w, recovery_set, .workload = S(name), .config = {&config, 1});
    return member(name).recovery_id;
}

static struct far_row_point newest_point(const char *name)
{
    return world_row_point(&w, world_row_workload(&w, workload_id(name)).last_point_id);
}

/* ---- versions ---- */

static void a_point_keeps_what_was_set_when_it_was_made(void **unused)
{
    uint64_t first = set("web", 2), checkpoint = cycle(), second = set("web", 4);
    assert_int_equal(newest_point("web").recovery_id, first);
    assert_int_equal(newest_point("db").recovery_id, 0);
    assert_int_equal(version(first).holds, 1);
    assert_false(version(first).in_force);
    assert_true(version(second).in_force);
    cycle();
    assert_int_equal(newest_point("web").recovery_id, second);
    MUST(&w, checkpoint_remove, .checkpoint_id = checkpoint);
    assert_int_equal(version(first).id, 0);
    world_work_all(&w, nodes, 2);
    MUST(&w, recovery_set, .workload = S("web"));
    assert_int_equal(member("web").recovery_id, 0);
    assert_int_equal(version(second).holds, 1);
}

static void what_is_set_again_is_no_new_version(void **unused)
{
    uint64_t first = set("web", 2), events = w.events;
    assert_int_equal(set("web", 2), first);
    assert_int_equal(w.events, events);
    assert_int_equal(world_row_plan(&w, plan).revision, 1);
    uint64_t next = set("web", 3);
    assert_int_not_equal(next, first);
    assert_int_equal(version(first).id, 0); /* nothing was made under it */
}

static void a_checkpoint_keeps_the_networks(void **unused)
{
    struct far_sub_network_map map = {.source = S("vms"), .target = S("dr")};
    MUST(&w, plan_networks_set, .name = S("p"), .networks = {&map, 1});
    uint64_t first = world_row_plan(&w, plan).networks_id, checkpoint = cycle();
    MUST(&w, plan_networks_set, .name = S("p"));
    assert_int_equal(world_row_plan(&w, plan).networks_id, 0);
    assert_int_equal(world_row_checkpoint(&w, checkpoint).networks_id, first);
    assert_int_equal(version(first).networks.count, 1);
    cycle();
    MUST(&w, checkpoint_remove, .checkpoint_id = checkpoint);
    assert_int_equal(version(first).id, 0);
}

static void a_plan_that_goes_leaves_what_points_need(void **unused)
{
    uint64_t kept = set("web", 2);
    cycle();
    uint64_t other = set("db", 2);
    MUST(&w, plan_remove, .name = S("p"));
    assert_int_equal(version(kept).holds, 1);
    assert_int_equal(version(other).id, 0);
    assert_int_equal(APPLY(&w, recovery_set, .workload = S("web")), FAR_CONFLICT);
}

static void what_does_not_fit_a_row_is_refused(void **unused)
{
    struct far_sub_recovery_nic nics[8];
    char name[128];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    for (size_t i = 0; i < 8; i++) {
        nics[i] = (struct far_sub_recovery_nic){.nic = i, .network = S(name), .test_network = S(name)};
    }
    struct far_sub_recovery config = {.nics = {nics, 6}};
    MUST(&w, recovery_set, .workload = S("web"), .config = {&config, 1});
    config.nics.count = 8;
    assert_int_equal(APPLY(&w, recovery_set, .workload = S("web"), .config = {&config, 1}), FAR_INVALID);
    assert_non_null(strstr(w.result.message, "1700 are allowed"));
}

/* ---- who comes and goes ---- */

static void a_workload_comes_while_a_cycle_runs(void **unused)
{
    struct far_slice mail = S("mail");
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    w.now_ms += 5;
    MUST(&w, plan_workloads_add, .name = S("p"), .workloads = {&mail, 1});
    world_work_all(&w, nodes, 2);
    struct far_row_job row = world_row_job(&w, job);
    assert_int_equal(row.state, FAR_job_state_succeeded);
    assert_int_equal(world_row_checkpoint(&w, row.checkpoint_id).member_count, 2);
    assert_int_equal(world_row_checkpoint(&w, cycle()).member_count, 3);
    uint64_t events = w.events;
    MUST(&w, plan_workloads_add, .name = S("p"), .workloads = {&mail, 1}); /* it is there */
    assert_int_equal(w.events, events);
}

static void a_workload_leaves_when_the_cycle_is_over(void **unused)
{
    struct far_slice db = S("db"), web = S("web");
    cycle();
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    MUST(&w, plan_workloads_remove, .name = S("p"), .workloads = {&db, 1});
    assert_true(member("db").leaving);
    assert_int_equal(APPLY(&w, plan_workloads_remove, .name = S("p"), .workloads = {&web, 1}), FAR_CONFLICT); /* none would be left */
    world_work_all(&w, nodes, 2);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    assert_int_equal(member("db").plan_id, 0);
    assert_int_equal(world_row_workload(&w, workload_id("db")).plan_id, 0);
    assert_int_equal(world_row_plan(&w, plan).workload_count, 1);
    assert_int_equal(newest_point("db").state, FAR_point_state_available); /* it stays in its checkpoints */
    assert_int_equal(world_row_checkpoint(&w, cycle()).member_count, 1);
    MUST(&w, plan_workloads_add, .name = S("p"), .workloads = {&db, 1});
    uint64_t base = newest_point("db").id;
    assert_int_not_equal(base, 0); /* and is what its next cycle builds on */
}

static struct far_row_job newest_job(void)
{
    struct far_row_job row = {.id = 0};
    struct far_key key = far_key(&far_schema_row_job);
    while (far_state_next(&w.state, &far_schema_row_job, &key, &w.arena, NULL, &row, &w.err) == 0) {
    }
    return row;
}

static void a_workload_leaves_with_its_points(void **unused)
{
    struct far_slice db = S("db"), web = S("web");
    uint64_t first = cycle(), second = cycle();
    uint64_t old = newest_point("db").id, stays = newest_point("web").id;
    MUST(&w, plan_workloads_remove, .name = S("p"), .workloads = {&web, 1}); /* its points stay */
    MUST(&w, plan_workloads_add, .name = S("p"), .workloads = {&web, 1});
    MUST(&w, plan_workloads_remove, .name = S("p"), .workloads = {&db, 1}, .with_points = true);
    assert_int_equal(newest_job().kind, FAR_job_kind_forget);
    world_pass(&w, 5);
    world_work_all(&w, nodes, 2);
    assert_int_equal(newest_job().state, FAR_job_state_succeeded);
    assert_int_equal(newest_job().tasks_done, 2);
    assert_int_equal(world_row_checkpoint(&w, first).member_count, 1);
    assert_int_equal(world_row_checkpoint(&w, second).member_count, 1);
    assert_int_equal(world_row_point(&w, old).state, FAR_point_state_removed);
    assert_int_equal(world_row_point(&w, stays).state, FAR_point_state_available);
    assert_int_equal(world_row_workload(&w, workload_id("db")).point_count, 0);
    assert_int_equal(world_row_workload(&w, workload_id("db")).last_point_id, 0);
    assert_int_equal(world_row_workload(&w, workload_id("web")).point_count, 2);
    cycle();
}

static void a_checkpoint_of_nothing_else_goes_as_a_whole(void **unused)
{
    struct far_slice mail = S("mail"), both[2] = {S("web"), S("db")};
    uint64_t first = cycle();
    MUST(&w, plan_workloads_add, .name = S("p"), .workloads = {&mail, 1});
    uint64_t second = cycle();
    MUST(&w, plan_workloads_remove, .name = S("p"), .workloads = {both, 2}, .with_points = true);
    world_pass(&w, 5);
    world_work_all(&w, nodes, 2);
    assert_int_equal(world_row_checkpoint(&w, first).state, FAR_point_state_removed);
    assert_int_equal(world_row_checkpoint(&w, second).state, FAR_point_state_available);
    assert_int_equal(world_row_checkpoint(&w, second).member_count, 1);
}

static void what_is_locked_or_preserved_keeps_its_workloads(void **unused)
{
    struct far_slice db = S("db");
    uint64_t first = cycle();
    MUST(&w, checkpoint_lock, .checkpoint_id = first, .until_ms = w.now_ms + 1000);
    world_work_all(&w, nodes, 2);
    assert_int_equal(APPLY(&w, plan_workloads_remove, .name = S("p"), .workloads = {&db, 1}, .with_points = true), FAR_DENIED);
    world_pass(&w, 2000);
    MUST(&w, checkpoint_preserve, .checkpoint_id = first, .reason = S("the audit"));
    assert_int_equal(APPLY(&w, plan_workloads_remove, .name = S("p"), .workloads = {&db, 1}, .with_points = true), FAR_CONFLICT);
    MUST(&w, checkpoint_unpreserve, .checkpoint_id = first);
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    assert_int_equal(APPLY(&w, plan_workloads_remove, .name = S("p"), .workloads = {&db, 1}, .with_points = true), FAR_CONFLICT);
    world_work_all(&w, nodes, 2);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    /* what is read is waited for; what is preserved meanwhile stays */
    uint64_t second = cycle();
    MUST(&w, plan_workloads_remove, .name = S("p"), .workloads = {&db, 1}, .with_points = true);
    struct far_row_job forget = newest_job();
    uint64_t reader = MUST(&w, checkpoint_verify, .checkpoint_id = second);
    MUST(&w, checkpoint_preserve, .checkpoint_id = first, .reason = S("the audit"));
    world_pass(&w, 1000);
    assert_int_equal(world_row_checkpoint(&w, second).member_count, 2);
    world_work_all(&w, nodes, 2);
    assert_int_equal(world_row_job(&w, reader).state, FAR_job_state_succeeded);
    world_pass(&w, 20000);
    world_work_all(&w, nodes, 2);
    assert_int_equal(world_row_job(&w, forget.id).state, FAR_job_state_succeeded);
    assert_int_equal(world_row_checkpoint(&w, second).member_count, 1);
    assert_int_equal(world_row_checkpoint(&w, first).member_count, 2);
    assert_int_equal(world_row_workload(&w, workload_id("db")).point_count, 1);
}

/* Many checkpoints: some at a time. */
static void many_points_go_in_portions(void **unused)
{
    struct far_slice db = S("db");
    for (size_t i = 0; i < 150; i++) {
        cycle();
    }
    MUST(&w, node_remove, .name = S("dst")); /* the vault is gone: there is nothing to be forgotten */
    MUST(&w, plan_workloads_remove, .name = S("p"), .workloads = {&db, 1}, .with_points = true);
    world_pass(&w, 10);
    struct far_row_job job = newest_job();
    assert_int_equal(job.state, FAR_job_state_succeeded);
    assert_int_equal(job.task_count, 0);
    assert_int_equal(world_row_workload(&w, workload_id("db")).point_count, 0);
    assert_int_equal(world_row_workload(&w, workload_id("web")).point_count, 150);
}

static void one_that_was_to_leave_may_stay(void **unused)
{
    struct far_slice db = S("db");
    MUST(&w, plan_replicate, .name = S("p"));
    MUST(&w, plan_workloads_remove, .name = S("p"), .workloads = {&db, 1});
    MUST(&w, plan_workloads_add, .name = S("p"), .workloads = {&db, 1});
    world_work_all(&w, nodes, 2);
    assert_int_equal(member("db").plan_id, plan);
    assert_int_equal(world_row_plan(&w, plan).workload_count, 2);
}

static void a_promise_counts_for_a_workload_from_when_it_came(void **unused)
{
    struct far_slice mail = S("mail");
    MUST(&w, plan_update, .name = S("p"), .rpo_s = 600);
    MUST(&w, plan_start, .name = S("p"));
    cycle();
    w.now_ms += 300 * 1000;
    MUST(&w, plan_workloads_add, .name = S("p"), .workloads = {&mail, 1});
    assert_int_equal(member("mail").joined_ms, w.now_ms);
    uint64_t due_ms = world_row_plan(&w, plan).rpo_due_ms;
    assert_true(due_ms > w.now_ms && due_ms <= w.now_ms + 600 * 1000);
}

/* ---- when cycles begin ---- */

static const uint64_t week[] = {1, 2, 3, 4, 5, 6, 7};

static void schedule(uint64_t interval_s, struct far_sub_schedule schedule)
{
    MUST(&w, plan_schedule_set, .name = S("p"), .interval_s = interval_s, .schedule = {&schedule, 1});
}

static uint64_t due(void)
{
    return world_row_plan(&w, plan).due_ms;
}

static void until(uint64_t time_ms)
{
    world_pass(&w, time_ms - w.now_ms);
}

/* Nodes that said nothing for hours are here again, and do what there is to do. */
static void work(void)
{
    static uint8_t nonce = 10;
    for (size_t i = 0; i < 2; i++) {
        world_boot(&w, nodes[i], nonce++);
    }
    world_work_all(&w, nodes, 2);
}

static bool runs(void)
{
    return world_row_plan(&w, plan).running_job_id != 0;
}

static void cycles_begin_on_the_grid_of_their_start(void **unused)
{
    schedule(3600, (struct far_sub_schedule){.start_ms = MONDAY_MS + 20 * MINUTE_MS});
    MUST(&w, plan_start, .name = S("p"));
    assert_int_equal(due(), MONDAY_MS + 20 * MINUTE_MS);
    until(MONDAY_MS + 20 * MINUTE_MS);
    assert_true(runs());
    work();
    assert_int_equal(due(), MONDAY_MS + 80 * MINUTE_MS);
    MUST(&w, plan_stop, .name = S("p"));
    until(MONDAY_MS + 100 * MINUTE_MS);
    MUST(&w, plan_start, .name = S("p"));
    assert_int_equal(due(), MONDAY_MS + 140 * MINUTE_MS);
}

static void no_cycle_begins_in_a_blackout(void **unused)
{
    struct far_sub_day_window night = {.days = {week, 7}, .from_min = 22 * 60, .to_min = 6 * 60};
    schedule(3600, (struct far_sub_schedule){.start_ms = MONDAY_MS + 30 * MINUTE_MS, .blackouts = {&night, 1}});
    MUST(&w, plan_start, .name = S("p"));
    assert_int_equal(due(), MONDAY_MS + 6 * HOUR_MS + 30 * MINUTE_MS);
    schedule(3600, (struct far_sub_schedule){
                       .start_ms = MONDAY_MS + 30 * MINUTE_MS, .blackouts = {&night, 1}, .catch_up = FAR_catch_up_now});
    MUST(&w, plan_stop, .name = S("p"));
    until(MONDAY_MS + HOUR_MS);
    MUST(&w, plan_start, .name = S("p"));
    assert_int_equal(due(), MONDAY_MS + 6 * HOUR_MS); /* at once when it is over */
    until(MONDAY_MS + 6 * HOUR_MS);
    assert_true(runs());
    work();
    assert_int_equal(due(), MONDAY_MS + 6 * HOUR_MS + 30 * MINUTE_MS);
}

static void windows_go_by_the_clocks_of_a_zone(void **unused)
{
    struct far_sub_zone_change berlin[] = {{0, 3600, 0}};
    struct far_sub_day_window morning = {.days = {week, 5}, .from_min = 8 * 60, .to_min = 9 * 60};
    MUST(&w, zone_set, .name = S("Europe/Berlin"), .changes = {berlin, 1}, .until_s = 1900000000);
    schedule(600, (struct far_sub_schedule){.start_ms = MONDAY_MS, .zone = S("Europe/Berlin"), .windows = {&morning, 1}});
    MUST(&w, plan_start, .name = S("p"));
    assert_int_equal(due(), MONDAY_MS + 7 * HOUR_MS);
    for (uint64_t i = 0; i < 6; i++) {
        until(due());
        assert_true(runs());
        work();
    }
    assert_int_equal(due(), MONDAY_MS + DAY_MS + 7 * HOUR_MS);
}

static void a_cycle_that_met_another_is_caught_up_with(void **unused)
{
    schedule(10, (struct far_sub_schedule){.start_ms = MONDAY_MS, .catch_up = FAR_catch_up_now});
    MUST(&w, plan_start, .name = S("p"));
    until(MONDAY_MS - 1);
    work(); /* the nodes are here from now on for as long as a lease */
    until(MONDAY_MS);
    assert_int_equal(due(), MONDAY_MS + 10000);
    uint64_t first = world_row_plan(&w, plan).running_job_id;
    until(MONDAY_MS + 10000);
    assert_true(runs() && world_row_plan(&w, plan).owed);
    world_work_all(&w, nodes, 2); /* time passes in it: the next one begins at once, and ends */
    assert_int_equal(world_row_job(&w, first).state, FAR_job_state_succeeded);
    uint64_t newest_id = world_row_plan(&w, plan).last_checkpoint_id;
    assert_true(world_row_checkpoint(&w, newest_id).job_id > first && w.now_ms < MONDAY_MS + 20000);
    assert_false(world_row_plan(&w, plan).owed);
    assert_int_equal(due(), MONDAY_MS + 20000);
}

static void an_outage_is_caught_up_with_or_not(void **unused)
{
    schedule(3600, (struct far_sub_schedule){.start_ms = MONDAY_MS, .catch_up = FAR_catch_up_skip});
    MUST(&w, plan_start, .name = S("p"));
    w.now_ms = MONDAY_MS + 3 * HOUR_MS + 10 * MINUTE_MS; /* nobody ticked */
    world_pass(&w, 1);
    assert_false(runs());
    assert_int_equal(due(), MONDAY_MS + 4 * HOUR_MS);
    schedule(3600, (struct far_sub_schedule){.start_ms = MONDAY_MS, .catch_up = FAR_catch_up_now});
    w.now_ms = MONDAY_MS + 7 * HOUR_MS + 10 * MINUTE_MS;
    world_pass(&w, 1);
    assert_true(runs());
    assert_int_equal(due(), MONDAY_MS + 8 * HOUR_MS);
}

static void a_schedule_without_any_time_is_refused(void **unused)
{
    struct far_sub_day_window all = {.days = {week, 7}, .from_min = 0, .to_min = 1440};
    struct far_sub_schedule never = {.blackouts = {&all, 1}};
    assert_int_equal(APPLY(&w, plan_schedule_set, .name = S("p"), .interval_s = 60, .schedule = {&never, 1}), FAR_INVALID);
    assert_non_null(strstr(w.result.message, "leaves no time"));
}

static void another_interval_moves_the_next_cycle_only_nearer(void **unused)
{
    MUST(&w, plan_schedule_set, .name = S("p"), .interval_s = 3600);
    MUST(&w, plan_start, .name = S("p"));
    world_pass(&w, 1);
    work();
    uint64_t first = due();
    MUST(&w, plan_schedule_set, .name = S("p"), .interval_s = 7200);
    assert_int_equal(due(), first);
    MUST(&w, plan_schedule_set, .name = S("p"), .interval_s = 60);
    assert_int_equal(due(), w.now_ms + 60000);
    MUST(&w, plan_schedule_set, .name = S("p"));
    assert_int_equal(due(), 0);
}

static void a_pause_ends_by_itself_or_when_somebody_says_so(void **unused)
{
    schedule(3600, (struct far_sub_schedule){.start_ms = MONDAY_MS + 30 * MINUTE_MS});
    assert_int_equal(APPLY(&w, plan_pause, .name = S("p")), FAR_CONFLICT); /* it is stopped */
    MUST(&w, plan_start, .name = S("p"));
    MUST(&w, plan_pause, .name = S("p"));
    assert_int_equal(due(), 0);
    until(MONDAY_MS + HOUR_MS);
    assert_false(runs());
    assert_int_equal(APPLY(&w, plan_pause, .name = S("p"), .until_ms = w.now_ms), FAR_INVALID);
    MUST(&w, plan_pause, .name = S("p"), .until_ms = MONDAY_MS + 3 * HOUR_MS);
    uint64_t events = w.events;
    MUST(&w, plan_pause, .name = S("p"), .until_ms = MONDAY_MS + 3 * HOUR_MS);
    assert_int_equal(w.events, events);
    schedule(3600, (struct far_sub_schedule){.start_ms = MONDAY_MS + 40 * MINUTE_MS});
    assert_int_equal(due(), MONDAY_MS + 3 * HOUR_MS);
    until(MONDAY_MS + 3 * HOUR_MS);
    assert_int_equal(world_row_plan(&w, plan).state, FAR_plan_state_active);
    assert_int_equal(due(), MONDAY_MS + 3 * HOUR_MS + 40 * MINUTE_MS);
    schedule(3600, (struct far_sub_schedule){.start_ms = MONDAY_MS + 40 * MINUTE_MS, .catch_up = FAR_catch_up_now});
    MUST(&w, plan_pause, .name = S("p"));
    until(MONDAY_MS + 5 * HOUR_MS);
    MUST(&w, plan_resume, .name = S("p"));
    assert_int_equal(due(), w.now_ms); /* two were missed */
    MUST(&w, plan_pause, .name = S("p"));
    MUST(&w, plan_start, .name = S("p"));
    assert_int_equal(world_row_plan(&w, plan).state, FAR_plan_state_active);
}

/* ---- whole plans ---- */

static void a_whole_plan_is_as_it_is_said_and_says_so(void **unused)
{
    struct far_sub_recovery members[] = {{.name = S("web"), .processors = 2}, {.name = S("mail"), .group = 3}};
    struct far_sub_network_map map = {.source = S("vms"), .target = S("dr")};
    struct far_sub_keep keep = {.daily = 7};
    struct far_sub_bandwidth throttle = {.bytes_per_s = 20000};
    struct far_sub_schedule when = {.start_ms = MONDAY_MS};
    struct far_cmd_plan_apply apply = {.name = S("p"),
                                       .source_site = S("paris"),
                                       .target_site = S("lyon"),
                                       .state = FAR_plan_state_active,
                                       .interval_s = 600,
                                       .rpo_s = 1200,
                                       .rto_s = 300,
                                       .workloads = {members, 2},
                                       .networks = {&map, 1},
                                       .schedule = {&when, 1},
                                       .retention = {&keep, 1},
                                       .throttle = {&throttle, 1}};
    world_must(&w, &far_schema_cmd_plan_apply, &apply);
    assert_int_equal(member("db").plan_id, 0);
    assert_int_equal(member("mail").plan_id, plan);
    uint64_t events = w.events;
    struct far_cmd_plan_apply said;
    struct far_row_plan row = world_row_plan(&w, plan);
    assert_int_equal(far_query_plan(&w.state, &row, &w.arena, &said, &w.err), 0);
    assert_int_equal(said.revision, row.revision);
    said.revision = 0;
    world_must(&w, &far_schema_cmd_plan_apply, &said);
    assert_int_equal(w.events, events);
    world_must(&w, &far_schema_cmd_plan_apply, &apply);
    assert_int_equal(w.events, events);
    apply.conditional = true;
    apply.revision = row.revision + 1;
    assert_int_equal(world_apply(&w, &far_schema_cmd_plan_apply, &apply), FAR_CONFLICT);
    apply.conditional = false;
    apply.source_site = S("lyon");
    apply.target_site = S("paris");
    assert_int_equal(world_apply(&w, &far_schema_cmd_plan_apply, &apply), FAR_INVALID);
    assert_int_equal(w.events, events);
}

static void scripts_and_groups_of_a_workload_go_with_it(void **unused)
{
    static uint8_t hash[32] = {7};
    struct far_slice both[] = {S("web"), S("db")}, db = S("db");
    struct far_sub_recovery members[] = {{.name = S("web")}, {.name = S("db")}};
    struct far_sub_plan_script scripts[] = {
        {.name = S("a.sh"), .sha256 = far_slice(hash, 32), .phase = FAR_script_phase_before_cycle, .workload = S("db"), .timeout_s = 5},
        {.name = S("a.sh"), .sha256 = far_slice(hash, 32), .phase = FAR_script_phase_before_cycle, .timeout_s = 5}};
    struct far_sub_consistency_group group = {.name = S("g"), .workloads = {both, 2}};
    struct far_cmd_plan_apply apply = {.name = S("p"),
                                       .source_site = S("paris"),
                                       .target_site = S("lyon"),
                                       .workloads = {members, 2},
                                       .scripts = {scripts, 2},
                                       .consistency_groups = {&group, 1}};
    struct far_cmd_plan_apply said;
    world_must(&w, &far_schema_cmd_plan_apply, &apply);
    MUST(&w, plan_workloads_remove, .name = S("p"), .workloads = {&db, 1});
    struct far_row_plan row = world_row_plan(&w, plan);
    assert_int_equal(far_query_plan(&w.state, &row, &w.arena, &said, &w.err), 0);
    assert_int_equal(said.scripts.count, 1);
    assert_int_equal(said.consistency_groups.count, 0);
    apply.workloads.count = 1; /* the group names one that is not in the plan */
    assert_int_equal(world_apply(&w, &far_schema_cmd_plan_apply, &apply), FAR_INVALID);
    assert_non_null(strstr(w.result.message, "'scripts[0].workload' is 'db'"));
}

/* Of each freeze the node says another time. */
static void freeze_apart(uint64_t job, uint64_t apart_ms)
{
    for (uint64_t number = 1, said = 0; number <= world_row_job(&w, job).task_count; number++) {
        struct far_row_task task = world_row_task(&w, job, number);
        struct far_sub_disk_found found[] = {{.disk_index = 0, .size_bytes = 1 << 20, .identity = S("i")},
                                             {.disk_index = 1, .size_bytes = 1 << 20, .identity = S("j")}};
        struct far_sub_report_item item = {.state = FAR_report_state_done,
                                           .frozen_at_ms = w.now_ms + said * apart_ms,
                                           .freeze_ref = S("view"),
                                           .disks = {found, task.workload_id == workload_id("web") ? 2 : 1}};
        if (task.kind == FAR_task_kind_freeze) {
            assert_int_equal(world_report(&w, &task, item), 0);
            said++;
        }
    }
}

static const struct far_sub_group_skew *skew_of(uint64_t job)
{
    struct far_row_checkpoint row = world_row_checkpoint(&w, world_row_job(&w, job).checkpoint_id);
    assert_int_equal(row.groups.count, 1);
    return row.groups.items;
}

static void a_checkpoint_says_how_near_its_groups_are_to_one_instant(void **unused)
{
    struct far_slice both[] = {S("web"), S("db")}, db = S("db");
    struct far_sub_recovery members[] = {{.name = S("web")}, {.name = S("db")}, {.name = S("mail")}};
    struct far_sub_consistency_group group = {.name = S("g"), .workloads = {both, 2}};
    struct far_cmd_plan_apply apply = {.name = S("p"),
                                       .source_site = S("paris"),
                                       .target_site = S("lyon"),
                                       .workloads = {members, 3},
                                       .consistency_groups = {&group, 1}};
    world_must(&w, &far_schema_cmd_plan_apply, &apply);
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    freeze_apart(job, 40);
    world_work_all(&w, nodes, 2);
    assert_true(skew_of(job)->is_whole && far_slice_equal(skew_of(job)->name, S("g")));
    assert_int_equal(skew_of(job)->skew_ms, 40);
    assert_int_equal(world_row_checkpoint(&w, world_row_job(&w, job).checkpoint_id).skew_ms, 80); /* with mail, which is not in it */
    MUST(&w, plan_workloads_remove, .name = S("p"), .workloads = {&db, 1}); /* a group of one is none */
    uint64_t other = MUST(&w, plan_replicate, .name = S("p"));
    world_work_all(&w, nodes, 2);
    assert_int_equal(world_row_checkpoint(&w, world_row_job(&w, other).checkpoint_id).groups.count, 0);
}

static void a_plan_of_256_workloads_is_applied_at_once(void **unused)
{
    enum { COUNT = 256 };
    static char names[COUNT][8], networks[COUNT][64];
    static struct far_sub_recovery members[COUNT];
    static struct far_sub_recovery_nic nics[COUNT][2];
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "w%zu", i);
        snprintf(networks[i], sizeof networks[i], "network-%zu-of-the-far-side-with-a-name-of-some-length", i);
        nics[i][0] = (struct far_sub_recovery_nic){.network = S(networks[i]), .test_network = S("lab")};
        nics[i][1] = (struct far_sub_recovery_nic){.nic = 1, .network = S(networks[i]), .mode = FAR_address_mode_dhcp};
        members[i] = (struct far_sub_recovery){.name = S(names[i]), .processors = 1 + i, .group = i / 10, .nics = {nics[i], 2}};
        world_workload(&w, names[i], 1);
    }
    struct far_cmd_plan_apply apply = {
        .name = S("big"), .source_site = S("paris"), .target_site = S("lyon"), .workloads = {members, COUNT}};
    world_must(&w, &far_schema_cmd_plan_apply, &apply);
    uint64_t events = w.events;
    world_must(&w, &far_schema_cmd_plan_apply, &apply);
    assert_int_equal(w.events, events);
    for (size_t i = 0; i < COUNT; i++) {
        members[i].processors = 2;
    }
    world_must(&w, &far_schema_cmd_plan_apply, &apply);
    apply.workloads.count = 1;
    world_must(&w, &far_schema_cmd_plan_apply, &apply);
}

static void what_one_part_refuses_leaves_all_as_it_was(void **unused)
{
    struct far_sub_recovery members[] = {{.name = S("mail"), .processors = 2}};
    struct far_hash128 before = w.state.digest;
    struct far_sub_bandwidth throttle = {.bytes_per_s = 2};
    struct far_cmd_plan_apply apply = {.name = S("new"),
                                       .source_site = S("paris"),
                                       .target_site = S("lyon"),
                                       .workloads = {members, 1},
                                       .throttle = {&throttle, 1}};
    assert_int_equal(world_apply(&w, &far_schema_cmd_plan_apply, &apply), FAR_INVALID);
    assert_non_null(strstr(w.result.message, "'throttle.bytes_per_s' is 2"));
    assert_true(far_hash128_equal(before, w.state.digest));
}

/* ---- addresses ---- */

static void addresses_are_read_as_they_are_written(void **unused)
{
    static const char *const good[] = {"10.1.2.3", "0.0.0.0", "255.255.255.255", "::", "::1", "fd00::1:2", "1:2:3:4:5:6:7:8",
                                       "FE80::ABCD"};
    static const char *const bad[] = {"", "1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.4 ", "1..2.3", ":", ":::",
                                      "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", "g::", "::1%eth0", "1:2:3:4:5:6:7::8"};
    struct far_ip ip, other;
    unsigned prefix;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(far_ip_parse(S(good[i]), &ip));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(far_ip_parse(S(bad[i]), &ip));
    }
    assert_true(far_subnet_parse(S("10.1.0.0/16"), &ip, &prefix) && prefix == 16);
    assert_true(far_subnet_parse(S("fd00::/8"), &ip, &prefix));
    assert_false(far_subnet_parse(S("10.1.0.1/16"), &ip, &prefix));
    assert_false(far_subnet_parse(S("10.1.0.0/32"), &ip, &prefix));
    assert_false(far_subnet_parse(S("10.1.0.0"), &ip, &prefix));
    assert_true(far_ip_parse(S("10.1.2.3"), &ip) && far_ip_parse(S("10.1.3.3"), &other));
    assert_true(far_ip_same_subnet(&ip, &other, 23));
    assert_false(far_ip_same_subnet(&ip, &other, 24));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_point_keeps_what_was_set_when_it_was_made),
        TEST(what_is_set_again_is_no_new_version),
        TEST(a_checkpoint_keeps_the_networks),
        TEST(a_plan_that_goes_leaves_what_points_need),
        TEST(what_does_not_fit_a_row_is_refused),
        TEST(a_workload_comes_while_a_cycle_runs),
        TEST(a_workload_leaves_when_the_cycle_is_over),
        TEST(a_workload_leaves_with_its_points),
        TEST(a_checkpoint_of_nothing_else_goes_as_a_whole),
        TEST(what_is_locked_or_preserved_keeps_its_workloads),
        TEST(many_points_go_in_portions),
        TEST(one_that_was_to_leave_may_stay),
        TEST(a_promise_counts_for_a_workload_from_when_it_came),
        TEST(cycles_begin_on_the_grid_of_their_start),
        TEST(no_cycle_begins_in_a_blackout),
        TEST(windows_go_by_the_clocks_of_a_zone),
        TEST(a_cycle_that_met_another_is_caught_up_with),
        TEST(an_outage_is_caught_up_with_or_not),
        TEST(a_schedule_without_any_time_is_refused),
        TEST(another_interval_moves_the_next_cycle_only_nearer),
        TEST(a_pause_ends_by_itself_or_when_somebody_says_so),
        TEST(a_whole_plan_is_as_it_is_said_and_says_so),
        TEST(scripts_and_groups_of_a_workload_go_with_it),
        TEST(a_checkpoint_says_how_near_its_groups_are_to_one_instant),
        TEST(a_plan_of_256_workloads_is_applied_at_once),
        TEST(what_one_part_refuses_leaves_all_as_it_was),
        cmocka_unit_test(addresses_are_read_as_they_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
