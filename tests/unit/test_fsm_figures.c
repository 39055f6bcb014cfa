/* What operators see of transfers and of the promised RPO: figures while a task runs and when it is over, rates in cluster time, every
 * reason for which a point is late, and the alert that says so. */
#include "fsm/figures.h"
#include "lib/fsm_world.h"

#include "lib/cm.h"

#define MIB (1ull << 20)

static struct world w;
static uint64_t nodes[2]; /* "src" at paris, "dst" at lyon */
static uint64_t plan;
static struct far_rpo rpo;

static int setup_at(uint64_t level)
{
    world_init(&w);
    w.level = level;
    world_cluster(&w);
    nodes[0] = world_node(&w, "src", "paris");
    nodes[1] = world_node(&w, "dst", "lyon");
    return 0;
}

static int setup(void **unused)
{
    return setup_at(0);
}

static int setup_before(void **unused)
{
    return setup_at(3);
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

/* ---- what happens ---- */

static void protect(size_t disks, uint64_t interval_s, uint64_t rpo_s)
{
    struct far_slice name = S("db");
    world_workload(&w, "db", disks);
    plan = MUST(&w, plan_create, .name = S("p"), .source_site = S("paris"), .target_site = S("lyon"), .workloads = {&name, 1},
                .interval_s = interval_s, .rpo_s = rpo_s);
}

/* Time in which the nodes say that they are there. */
static void pass(uint64_t ms)
{
    for (uint64_t step; ms > 0; ms -= step) {
        step = ms < 5000 ? ms : 5000;
        w.now_ms += step;
        for (size_t i = 0; i < 2; i++) {
            struct far_row_node node = world_row_node(&w, nodes[i]);
            w.actor = far_actor(FAR_ACTOR_NODE, node.id);
            MUST(&w, node_report, .node_id = node.id, .boot = node.boot, .sequence = node.sequence + 1);
            w.actor = 0;
        }
        world_pass(&w, 0);
    }
}

/* The same, and what runs goes on running. */
static uint64_t begin(void)
{
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    world_work(&w, nodes[0]); /* the freeze */
    return job;
}

static void cycle(void)
{
    MUST(&w, plan_replicate, .name = S("p"));
    world_work_all(&w, nodes, 2);
}

enum { FREEZE = 1, SEAL, RELEASE, SEND, RECEIVE };

static int say(uint64_t job, uint64_t number, uint64_t done, struct far_sub_figures figures)
{
    struct far_row_task task = world_row_task(&w, job, number);
    return world_report(&w, &task,
                        (struct far_sub_report_item){.state = FAR_report_state_running,
                                                     .bytes_total = 100 * MIB,
                                                     .bytes_done = done,
                                                     .bytes_sent = done / 2,
                                                     .figures = {&figures, 1}});
}

static struct far_task_figures figures_of(uint64_t job, uint64_t number)
{
    struct far_row_task task = world_row_task(&w, job, number);
    struct far_task_figures figures;
    assert_int_equal(far_query_running(&w.state, &task, &w.arena, &w.err), 0);
    assert_int_equal(far_query_figures(&w.state, &task, &w.arena, &figures, &w.err), 0);
    return figures;
}

static size_t count_rows(const struct far_schema *table)
{
    struct far_key key = far_key(table);
    size_t count = 0;
    void *row = far_arena_alloc(&w.arena, table->size);
    while (far_state_next(&w.state, table, &key, &w.arena, NULL, row, &w.err) == 0) {
        count++;
    }
    return count;
}

/* ---- figures ---- */

static void a_running_transfer_shows_figures_and_its_rate(void **unused)
{
    protect(1, 0, 0);
    uint64_t job = begin();
    assert_false(figures_of(job, SEND).is_known);
    for (uint64_t second = 0; second <= 8; second++) {
        assert_int_equal(say(job, SEND, second * 4 * MIB,
                             (struct far_sub_figures){.bytes_read = second * 4 * MIB,
                                                      .bytes_zero = second * MIB,
                                                      .bytes_known = MIB,
                                                      .bytes_wanted = second * 2 * MIB,
                                                      .window_bytes = 16 * MIB,
                                                      .streams = 4,
                                                      .bottleneck = FAR_bottleneck_target_write}),
                         0);
        w.now_ms += 1000;
    }
    struct far_task_figures figures = figures_of(job, SEND);
    assert_true(figures.is_running && figures.has_left_ms);
    assert_int_equal(figures.bytes_read, 32 * MIB);
    assert_int_equal(figures.window_bytes, 16 * MIB);
    assert_int_equal(figures.streams, 4);
    assert_int_equal(figures.bottleneck, FAR_bottleneck_target_write);
    assert_int_equal(figures.bottleneck_node_id, nodes[1]); /* the other side's */
    assert_int_equal(figures.bytes_per_s, 4 * MIB);
    assert_int_equal(figures.sent_bytes_per_s, 2 * MIB);
    assert_int_equal(figures.left_bytes, 68 * MIB);
    assert_int_equal(figures.left_ms, 17000);
    assert_int_equal(figures.saved.bytes, 16 * MIB);
    assert_int_equal(figures.saved.zero, 8 * MIB);
    assert_int_equal(figures.saved.known, MIB);
    assert_int_equal(figures.saved.unchanged, 7 * MIB);
    assert_int_equal(figures.saved.encoding, 0);
    struct far_job_figures sum;
    struct far_row_job row = world_row_job(&w, job);
    assert_int_equal(far_query_job_figures(&w.state, &row, &sum, &w.err), 0);
    assert_true(sum.is_whole && sum.has_left_ms);
    assert_int_equal(sum.bytes_per_s, 4 * MIB);
    assert_int_equal(sum.left_ms, 17000);
    assert_int_equal(sum.slowest_task, SEND);
    assert_int_equal(sum.bottleneck_node_id, nodes[1]);
}

static void the_bottleneck_is_about_the_node_that_it_is_at(void **unused)
{
    static const struct {
        uint64_t bottleneck;
        int of_send, of_receive; /* index of the node; -1: none alone */
    } cases[] = {
        {FAR_bottleneck_source_read, 0, 0}, {FAR_bottleneck_link, -1, -1},  {FAR_bottleneck_target_write, 1, 1},
        {FAR_bottleneck_processor, 0, 1},   {FAR_bottleneck_memory, 0, 1}, {FAR_bottleneck_throttle, 0, 0},
        {FAR_bottleneck_peer, 1, 0},
    };
    protect(1, 0, 0);
    uint64_t job = begin();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct far_sub_figures figures = {.bottleneck = cases[i].bottleneck};
        assert_int_equal(say(job, SEND, 0, figures), 0);
        assert_int_equal(say(job, RECEIVE, 0, figures), 0);
        assert_int_equal(figures_of(job, SEND).bottleneck_node_id, cases[i].of_send < 0 ? 0 : nodes[cases[i].of_send]);
        assert_int_equal(figures_of(job, RECEIVE).bottleneck_node_id, cases[i].of_receive < 0 ? 0 : nodes[cases[i].of_receive]);
    }
    assert_int_equal(say(job, SEND, 0, (struct far_sub_figures){.bottleneck = 99}), 0);
    assert_int_equal(figures_of(job, SEND).bottleneck, 0); /* from a newer node */
}

static void figures_that_stay_write_nothing_and_a_rate_fades(void **unused)
{
    struct far_sub_figures figures = {.bottleneck = FAR_bottleneck_memory};
    struct far_key key = far_key(&far_schema_row_figures);
    struct far_row_figures row;
    protect(1, 0, 0);
    uint64_t job = begin();
    assert_int_equal(say(job, SEND, 0, figures), 0);
    uint64_t first_ms = w.now_ms;
    w.now_ms += 3000;
    assert_int_equal(say(job, SEND, 0, figures), 0);
    assert_int_equal(far_state_next(&w.state, &far_schema_row_figures, &key, &w.arena, NULL, &row, &w.err), 0);
    assert_int_equal(((const struct far_sub_running_figures *)row.items.items)->reported_ms, first_ms);
    w.now_ms += 1000;
    assert_int_equal(say(job, SEND, 50 * MIB, figures), 0);
    assert_true(figures_of(job, SEND).bytes_per_s > 0);
    for (int i = 0; i < 300; i++) {
        w.now_ms += 1000;
        assert_int_equal(say(job, SEND, 50 * MIB, figures), 0);
    }
    assert_int_equal(figures_of(job, SEND).bytes_per_s, 0);
    assert_false(figures_of(job, SEND).has_left_ms);
}

static void totals_stay_with_the_task_and_its_job(void **unused)
{
    uint8_t root[32] = {5};
    struct far_sub_figures figures = {.bytes_read = 90, .bytes_zero = 20, .bytes_known = 10, .bytes_wanted = 50};
    protect(1, 0, 0);
    uint64_t job = begin();
    assert_int_equal(say(job, SEND, MIB, figures), 0);
    assert_int_equal(say(job, RECEIVE, MIB, figures), 0);
    assert_int_equal(count_rows(&far_schema_row_figures), 2);
    for (uint64_t number = SEND; number <= RECEIVE; number++) {
        struct far_row_task task = world_row_task(&w, job, number);
        assert_int_equal(world_report(&w, &task,
                                      (struct far_sub_report_item){.state = FAR_report_state_done,
                                                                   .outcome = FAR_outcome_ok,
                                                                   .root = far_slice(root, 32),
                                                                   .bytes_total = 100,
                                                                   .bytes_done = 100,
                                                                   .bytes_sent = 30,
                                                                   .duration_ms = 77,
                                                                   .figures = {&figures, 1}}),
                         0);
    }
    assert_int_equal(count_rows(&far_schema_row_figures), 0);
    struct far_row_task send = world_row_task(&w, job, SEND);
    assert_int_equal(send.bytes_read, 90);
    assert_int_equal(send.bytes_wanted, 50);
    assert_int_equal(send.duration_ms, 77);
    struct far_task_figures shown = figures_of(job, SEND);
    assert_true(shown.is_known && !shown.is_running);
    assert_int_equal(shown.saved.encoding, 20);
    world_work_all(&w, nodes, 2);
    struct far_row_job row = world_row_job(&w, job);
    assert_int_equal(row.state, FAR_job_state_succeeded);
    assert_int_equal(row.bytes_read, 90);
    assert_int_equal(row.bytes_zero, 20);
    assert_int_equal(row.bytes_known, 10);
    assert_int_equal(row.bytes_wanted, 50);
    assert_int_equal(row.rpo_ms, 0); /* there was no point before */
    struct far_row_plan p = world_row_plan(&w, plan);
    uint64_t frozen = world_row_point(&w, world_row_workload(&w, world_row_task(&w, job, SEND).workload_id).last_point_id).frozen_at_ms;
    pass(60000);
    cycle();
    p = world_row_plan(&w, plan);
    row = world_row_job(&w, world_row_checkpoint(&w, p.last_checkpoint_id).job_id);
    uint64_t point_id = world_row_workload(&w, world_row_task(&w, job, SEND).workload_id).last_point_id;
    assert_int_equal(row.rpo_ms, world_row_point(&w, point_id).created_ms - frozen);
}

static void an_attempt_that_is_lost_takes_its_figures_along(void **unused)
{
    protect(1, 0, 0);
    uint64_t job = begin();
    assert_int_equal(say(job, SEND, MIB, (struct far_sub_figures){.streams = 1}), 0);
    assert_int_equal(count_rows(&far_schema_row_figures), 1);
    world_boot(&w, nodes[0], 9);
    assert_int_equal(count_rows(&far_schema_row_figures), 0);
    assert_false(figures_of(job, SEND).is_known);
}

static void many_disks_share_rows(void **unused)
{
    protect(60, 0, 0);
    uint64_t job = begin();
    for (uint64_t d = 0; d < 60; d++) {
        assert_int_equal(say(job, SEND + 2 * d, d, (struct far_sub_figures){.window_bytes = d + 1}), 0);
    }
    assert_true(count_rows(&far_schema_row_figures) <= 7);
    for (uint64_t d = 0; d < 60; d++) {
        assert_int_equal(figures_of(job, SEND + 2 * d).window_bytes, d + 1);
    }
}

/* Every number as large as it can be: a row still fits. */
static void the_largest_figures_fit_their_row(void **unused)
{
    struct far_sub_figures most = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, FAR_bottleneck_peer};
    protect(30, 0, 0);
    uint64_t job = begin();
    for (int round = 0; round < 3; round++) {
        w.now_ms += 1000;
        for (uint64_t d = 0; d < 30; d++) {
            assert_int_equal(say(job, SEND + 2 * d, round * (UINT64_MAX / 4), most), 0);
        }
    }
    assert_int_equal(figures_of(job, SEND).window_bytes, UINT64_MAX);
}

static void below_level_4_there_are_no_figures(void **unused)
{
    world_workload(&w, "db", 1);
    static const char *const names[] = {"db"};
    world_plan(&w, "p", names, 1);
    uint64_t job = begin();
    assert_int_equal(say(job, SEND, MIB, (struct far_sub_figures){.streams = 1}), FAR_CONFLICT);
    assert_false(figures_of(job, SEND).is_known);
    world_work_all(&w, nodes, 2);
    assert_int_equal(count_rows(&far_schema_row_figures), 0);
}

/* ---- the alert ---- */

static size_t alerts(uint64_t state, struct far_row_alert *ret)
{
    struct far_key key = far_key(&far_schema_row_alert);
    struct far_row_alert row;
    size_t count = 0;
    while (far_state_next(&w.state, &far_schema_row_alert, &key, &w.arena, NULL, &row, &w.err) == 0) {
        if (row.kind == FAR_alert_kind_rpo_late && row.state == state) {
            *ret = row;
            count++;
        }
    }
    return count;
}

static void a_late_point_raises_one_alert_that_a_point_clears(void **unused)
{
    struct far_row_alert alert;
    protect(1, 0, 60);
    pass(100000);
    assert_int_equal(alerts(FAR_alert_state_raised, &alert), 0); /* it was never started */
    cycle();
    pass(55000);
    assert_int_equal(alerts(FAR_alert_state_raised, &alert), 0);
    pass(10000);
    assert_int_equal(alerts(FAR_alert_state_raised, &alert), 1);
    assert_int_equal(alert.plan_id, plan);
    assert_memory_equal(alert.message.data, "plan 'p' is late: the newest recovery point of workload 'db' is 60 s old", 72);
    pass(600000);
    assert_int_equal(alerts(FAR_alert_state_raised, &alert), 1);
    assert_int_equal(alert.count, 1);
    cycle();
    assert_int_equal(alerts(FAR_alert_state_raised, &alert), 0);
    assert_int_equal(alerts(FAR_alert_state_cleared, &alert), 1);
    pass(65000);
    assert_int_equal(alerts(FAR_alert_state_raised, &alert), 1); /* the next time again */
    MUST(&w, plan_remove, .name = S("p"));
    assert_int_equal(alerts(FAR_alert_state_raised, &alert), 0);
}

static void a_first_point_is_waited_for_since_the_start(void **unused)
{
    struct far_row_alert alert;
    protect(1, 0, 60);
    pass(200000);
    MUST(&w, plan_start, .name = S("p"));
    pass(55000);
    assert_int_equal(alerts(FAR_alert_state_raised, &alert), 0);
    pass(10000);
    assert_int_equal(alerts(FAR_alert_state_raised, &alert), 1);
    assert_memory_equal(alert.message.data, "plan 'p' is late: workload 'db' has no recovery point after 60 s", 64);
}

static void another_promise_is_judged_at_once(void **unused)
{
    struct far_row_alert alert;
    protect(1, 0, 0);
    cycle();
    pass(100000);
    MUST(&w, plan_update, .name = S("p"), .rpo_s = 60);
    pass(1);
    assert_int_equal(alerts(FAR_alert_state_raised, &alert), 1);
    MUST(&w, plan_update, .name = S("p"), .rpo_s = 300);
    assert_int_equal(alerts(FAR_alert_state_raised, &alert), 0);
    MUST(&w, plan_update, .name = S("p"), .rpo_s = 50);
    pass(1);
    assert_int_equal(alerts(FAR_alert_state_raised, &alert), 1);
    struct far_slice clear = S("rpo_s");
    MUST(&w, plan_update, .name = S("p"), .clear = {&clear, 1});
    assert_int_equal(alerts(FAR_alert_state_raised, &alert), 0);
    assert_int_equal(world_row_plan(&w, plan).rpo_due_ms, 0);
}

/* A transfer that takes longer than the promise: its point is late when it comes, and the alert stays. */
static void a_point_that_is_old_when_it_comes_clears_nothing(void **unused)
{
    struct far_row_alert alert;
    protect(1, 0, 60);
    cycle();
    uint64_t job = begin();
    for (int i = 0; i < 24; i++) {
        w.now_ms += 5000;
        assert_int_equal(say(job, SEND, (uint64_t)i * MIB, (struct far_sub_figures){.streams = 1}), 0);
        assert_int_equal(say(job, RECEIVE, (uint64_t)i * MIB, (struct far_sub_figures){.streams = 1}), 0);
        world_pass(&w, 0);
    }
    assert_int_equal(alerts(FAR_alert_state_raised, &alert), 1);
    world_work_all(&w, nodes, 2);
    assert_int_equal(alerts(FAR_alert_state_raised, &alert), 1);
    assert_int_equal(alerts(FAR_alert_state_cleared, &alert), 0);
}

/* ---- why ---- */

static const struct far_rpo_reason *reason(const char *code)
{
    assert_int_equal(far_query_rpo(&w.state, plan, w.now_ms, &rpo, &w.err), 0);
    for (size_t i = 0; i < rpo.reason_count; i++) {
        if (strcmp(rpo.reasons[i].code, code) == 0) {
            return &rpo.reasons[i];
        }
    }
    for (size_t i = 0; i < rpo.reason_count; i++) {
        print_message("# there is: %s: %s\n", rpo.reasons[i].code, rpo.reasons[i].text);
    }
    fail_msg("no reason '%s'", code);
    return NULL;
}

static void says(const char *code, const char *text)
{
    assert_string_equal(reason(code)->text, text);
}

static void how_a_plan_stands(void **unused)
{
    protect(1, 0, 3600);
    cycle();
    pass(60000);
    reason("stopped");
    assert_int_equal(rpo.promised_s, 3600);
    assert_int_equal(rpo.age_ms, w.now_ms - rpo.newest_ms);
    assert_int_equal(rpo.due_ms, rpo.newest_ms + 3600000);
    assert_false(rpo.is_late);
    assert_int_equal(rpo.expected_ms, 0);
    assert_int_equal(far_query_rpo(&w.state, plan, rpo.due_ms, &rpo, &w.err), 0);
    assert_true(rpo.is_late);
}

static void no_cycle_runs(void **unused)
{
    protect(1, 0, 60);
    says("stopped", "the plan is stopped: no cycles begin until 'farshore plan start p'");
    MUST(&w, plan_start, .name = S("p"));
    says("no_interval", "the plan has no interval: a cycle begins only when it is asked for ('farshore plan replicate p')");
}

static void the_next_cycle_is_not_due_yet(void **unused)
{
    protect(1, 7200, 3600);
    MUST(&w, plan_start, .name = S("p"));
    pass(1);
    world_work_all(&w, nodes, 2);
    pass(600000);
    assert_string_equal(reason("schedule")->text, "no cycle runs; one begins every 2 h 0 min, the next in 109 min");
    says("interval", "cycles begin every 2 h 0 min, and 60 min are promised: the interval has to be shorter");
    assert_true(rpo.expected_ms >= world_row_plan(&w, plan).due_ms);
}

static void a_promise_that_the_interval_breaks_is_warned_of(void **unused)
{
    protect(1, 7200, 3600);
    assert_string_equal(w.result.message,
                        "cycles begin every 2 h 0 min, and no point is promised to be older than 60 min: the interval has to be shorter");
    MUST(&w, plan_update, .name = S("p"), .rpo_s = 7201);
    assert_string_equal(w.result.message, "");
    MUST(&w, plan_update, .name = S("p"), .rpo_s = 7200);
    assert_non_null(strstr(w.result.message, "the interval has to be shorter"));
    MUST(&w, plan_update, .name = S("p"), .audit_ppm = 5);
    assert_string_equal(w.result.message, "");
}

static void the_clocks_are_suspect(void **unused)
{
    protect(1, 60, 60);
    MUST(&w, plan_start, .name = S("p"));
    pass(1);
    world_work_all(&w, nodes, 2);
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    MUST(&w, clock_judge, .verdict = FAR_clock_verdict_suspect, .off_ms = 20000, .agreeing = 1, .voters = 3);
    w.actor = 0;
    says("clock", "the servers' clocks disagree and no majority is right: cycles wait ('farshore cluster status')");
}

static void the_last_cycle_failed(void **unused)
{
    protect(1, 0, 60);
    uint64_t job = begin();
    for (int i = 0; i < 100 && world_row_job(&w, job).state == FAR_job_state_running; i++) {
        struct far_row_task task = world_row_task(&w, job, SEND);
        if (task.state == FAR_task_state_assigned || task.state == FAR_task_state_running) {
            (void)world_report(&w, &task,
                               (struct far_sub_report_item){.state = FAR_report_state_failed,
                                                            .outcome = FAR_outcome_fatal,
                                                            .error_class = S("io"),
                                                            .error_message = S("the disk cannot be read")});
        }
        world_work(&w, nodes[0]);
        pass(1000);
    }
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_failed);
    pass(30000);
    assert_non_null(strstr(reason("cycle_failed")->text, ": the disk cannot be read"));
    uint64_t second = begin();
    MUST(&w, job_cancel, .job_id = second);
    const struct far_row_job canceled = world_row_job(&w, second);
    assert_non_null(strstr(reason(canceled.state == FAR_job_state_running ? "canceling" : "canceled")->text, "cancel"));
}

static void what_a_failed_send_looked_at_is_not_called_unchanged(void **unused)
{
    struct far_job_figures sum;
    protect(1, 0, 60);
    uint64_t job = begin();
    assert_int_equal(say(job, SEND, 40 * MIB, (struct far_sub_figures){.bytes_read = 40 * MIB, .bytes_wanted = 40 * MIB}), 0);
    struct far_row_task task = world_row_task(&w, job, SEND);
    assert_int_equal(world_report(&w, &task,
                                  (struct far_sub_report_item){.state = FAR_report_state_failed,
                                                               .outcome = FAR_outcome_fatal,
                                                               .error_class = S("io"),
                                                               .error_message = S("the disk cannot be read")}),
                     0);
    struct far_row_job row = world_row_job(&w, job);
    assert_int_equal(row.state, FAR_job_state_running); /* its view is still to be released */
    assert_int_equal(row.bytes_done, 40 * MIB);
    assert_int_equal(far_query_job_figures(&w.state, &row, &sum, &w.err), 0);
    assert_int_equal(sum.saved.unchanged, 0);
    world_work_all(&w, nodes, 2);
    row = world_row_job(&w, job);
    assert_int_equal(row.state, FAR_job_state_failed);
    assert_int_equal(far_query_job_figures(&w.state, &row, &sum, &w.err), 0);
    assert_int_equal(sum.saved.unchanged, 0);
}

/* One disk is read far ahead and stands, another is done: what the first will save is not counted before its time. */
static void what_a_job_saved_is_summed_disk_by_disk(void **unused)
{
    struct far_job_figures sum;
    protect(2, 0, 0);
    uint64_t job = begin();
    assert_int_equal(say(job, SEND, 0,
                         (struct far_sub_figures){.bytes_read = 64 * MIB, .bytes_zero = 30 * MIB, .bytes_wanted = 3 * MIB}),
                     0);
    assert_int_equal(say(job, SEND + 2, 64 * MIB, (struct far_sub_figures){.bytes_read = 64 * MIB, .bytes_zero = 4 * MIB}), 0);
    struct far_row_job row = world_row_job(&w, job);
    assert_int_equal(far_query_job_figures(&w.state, &row, &sum, &w.err), 0);
    assert_int_equal(sum.saved.unchanged, figures_of(job, SEND + 2).saved.unchanged);
    assert_int_equal(sum.saved.unchanged, 60 * MIB);
    assert_int_equal(sum.saved.encoding, 0); /* nothing of the 3 MiB was sent yet */
}

static void a_failed_attempt_is_told_in_the_platforms_words(void **unused)
{
    protect(1, 0, 60);
    uint64_t job = begin();
    struct far_row_task task = world_row_task(&w, job, SEND);
    assert_int_equal(world_report(&w, &task,
                                  (struct far_sub_report_item){.state = FAR_report_state_failed,
                                                               .outcome = FAR_outcome_retry,
                                                               .error_class = S("busy"),
                                                               .error_message = S("SNAPSHOT_LIMIT: try later")}),
                     0);
    const struct far_rpo_reason *why = reason("retry");
    assert_non_null(strstr(why->text, "the send of disk 'db/root' failed once and is tried again in"));
    assert_non_null(strstr(why->text, ": SNAPSHOT_LIMIT: try later"));
    assert_int_equal(why->task, SEND);
}

static void of_a_pair_only_the_one_that_failed_is_told(void **unused)
{
    protect(1, 0, 60);
    uint64_t job = begin();
    struct far_row_task task = world_row_task(&w, job, RECEIVE);
    assert_int_equal(world_report(&w, &task,
                                  (struct far_sub_report_item){.state = FAR_report_state_failed,
                                                               .outcome = FAR_outcome_retry,
                                                               .error_class = S("io"),
                                                               .error_message = S("no space left on device")}),
                     0);
    assert_true(world_row_task(&w, job, SEND).retry_ms != 0);
    const struct far_rpo_reason *why = reason("retry");
    assert_non_null(strstr(why->text, "the receive of disk 'db/root' failed once"));
    assert_int_equal(rpo.reason_count, 1);
}

static void nodes_that_are_not_there(void **unused)
{
    protect(1, 0, 60);
    MUST(&w, node_drain, .name = S("src"));
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    assert_non_null(strstr(reason("node_drained")->text, "drained"));
    world_pass(&w, 60000); /* nobody reports */
    assert_non_null(strstr(reason("no_node")->text, "the freeze of workload 'db' waits: no node of site 'paris'"));
    assert_int_equal(world_row_task(&w, job, FREEZE).state, FAR_task_state_ready);
}

static void a_node_that_went_silent(void **unused)
{
    protect(1, 0, 60);
    MUST(&w, plan_replicate, .name = S("p"));
    w.now_ms += 5000;
    assert_int_equal(reason("step")->node_id, nodes[0]);
    assert_non_null(strstr(reason("step")->text, "the freeze of workload 'db' on node 'src' is under way"));
}

static void what_holds_a_transfer_up(void **unused)
{
    protect(1, 0, 60);
    uint64_t job = begin();
    assert_int_equal(say(job, SEND, 0, (struct far_sub_figures){.bottleneck = FAR_bottleneck_memory}), 0);
    says("memory", "the send of disk 'db/root' on node 'src' waits for its turn: the memory there is in use by other transfers");
    assert_int_equal(say(job, SEND, 0, (struct far_sub_figures){.bottleneck = FAR_bottleneck_peer}), 0);
    says("peer", "the send of disk 'db/root' on node 'src' waits for the node at the other side, which does not answer");
    for (uint64_t i = 0; i <= 5; i++) {
        assert_int_equal(say(job, SEND, i * 5 * MIB, (struct far_sub_figures){.bottleneck = FAR_bottleneck_target_write}), 0);
        w.now_ms += 1000;
    }
    says("transfer", "the send of disk 'db/root' is at 25.0 MiB of 100.0 MiB, 5.0 MiB/s, held up by writing the target on node 'dst'; "
                     "it needs about 15 s");
    assert_int_equal(rpo.expected_ms, w.now_ms + 15000);
    assert_int_equal(say(job, SEND, 25 * MIB, (struct far_sub_figures){.bottleneck = FAR_bottleneck_throttle}), 0);
    assert_non_null(strstr(reason("throttle")->text, "held up by a bandwidth limit; it needs about"));
    MUST(&w, throttle_set, .scope = FAR_throttle_scope_site, .name = S("paris"), .bytes_per_s = 5250000);
    assert_non_null(strstr(reason("throttle")->text, "held up by the bandwidth limit of site 'paris', 5.2 MB/s; it needs about"));
    MUST(&w, throttle_set, .scope = FAR_throttle_scope_plan, .name = S("p"), .bytes_per_s = 1);
    assert_non_null(strstr(reason("throttle")->text, "held up by the bandwidth limit of plan 'p', which lets nothing pass now"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_running_transfer_shows_figures_and_its_rate),
        TEST(the_bottleneck_is_about_the_node_that_it_is_at),
        TEST(figures_that_stay_write_nothing_and_a_rate_fades),
        TEST(totals_stay_with_the_task_and_its_job),
        TEST(an_attempt_that_is_lost_takes_its_figures_along),
        TEST(many_disks_share_rows),
        TEST(the_largest_figures_fit_their_row),
        cmocka_unit_test_setup_teardown(below_level_4_there_are_no_figures, setup_before, teardown),
        TEST(a_late_point_raises_one_alert_that_a_point_clears),
        TEST(a_first_point_is_waited_for_since_the_start),
        TEST(another_promise_is_judged_at_once),
        TEST(a_point_that_is_old_when_it_comes_clears_nothing),
        TEST(how_a_plan_stands),
        TEST(no_cycle_runs),
        TEST(the_next_cycle_is_not_due_yet),
        TEST(a_promise_that_the_interval_breaks_is_warned_of),
        TEST(the_clocks_are_suspect),
        TEST(the_last_cycle_failed),
        TEST(what_a_job_saved_is_summed_disk_by_disk),
        TEST(what_a_failed_send_looked_at_is_not_called_unchanged),
        TEST(a_failed_attempt_is_told_in_the_platforms_words),
        TEST(of_a_pair_only_the_one_that_failed_is_told),
        TEST(nodes_that_are_not_there),
        TEST(a_node_that_went_silent),
        TEST(what_holds_a_transfer_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
