/* Scripts of a plan in the core alone: before and after cycles, before and after recoveries, by commands and by what nodes report. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <stdio.h>

static struct world w;
static uint64_t src, dst, web, db, plan;
static uint8_t sum[32];
static struct far_sub_plan_script scripts[16];
static size_t script_count;

static void assert_string_slice(struct far_slice text, const char *wanted)
{
    char copy[600];
    snprintf(copy, sizeof copy, "%.*s", (int)text.len, (const char *)text.data);
    assert_string_equal(copy, wanted);
}

static bool says(struct far_slice text, const char *part)
{
    char copy[600];
    snprintf(copy, sizeof copy, "%.*s", (int)text.len, (const char *)text.data);
    return strstr(copy, part) != NULL;
}

/* ---- the world ---- */

static void boot(uint64_t node, uint8_t nonce, bool runs_scripts)
{
    uint8_t bytes[16] = {nonce, 9};
    w.actor = far_actor(FAR_ACTOR_NODE, node);
    w.sequence[node % 16] = 0;
    MUST(&w, node_boot, .node_id = node, .nonce = far_slice(bytes, 16), .data_address = S("127.0.0.1:5002"), .runs_scripts = runs_scripts);
    w.actor = 0;
}

static void add(const char *name, uint64_t phase, const char *workload, uint64_t retries)
{
    scripts[script_count++] = (struct far_sub_plan_script){
        .name = S(name), .sha256 = far_slice(sum, 32), .phase = phase, .workload = S(workload), .timeout_s = 60, .retries = retries};
}

static void apply(void)
{
    struct far_sub_recovery members[] = {{.name = S("web"), .group = 2}, {.name = S("db"), .group = 1}};
    MUST(&w, plan_apply, .name = S("p"), .source_site = S("paris"), .target_site = S("lyon"), .workloads = {members, 2},
         .scripts = {scripts, script_count});
}

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    src = world_node(&w, "src", "paris");
    dst = world_node(&w, "dst", "lyon");
    boot(src, 1, true);
    boot(dst, 1, true);
    web = world_workload(&w, "web", 1);
    db = world_workload(&w, "db", 2);
    plan = world_plan(&w, "p", (const char *const[]){"web", "db"}, 2);
    script_count = 0;
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static uint64_t begin_cycle(void)
{
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    world_pass(&w, 2);
    return job;
}

/* The orders of a node of this kind; at most 16. */
static size_t orders_of(uint64_t node, uint64_t kind, struct far_sub_order *orders)
{
    struct far_list list;
    size_t count = 0;
    assert_int_equal(far_query_orders(&w.state, node, 1000, &w.arena, &list, &w.err), 0);
    for (size_t i = 0; i < list.count && count < 16; i++) {
        const struct far_sub_order *order = (const struct far_sub_order *)list.items + i;
        if (order->kind == kind) {
            orders[count++] = *order;
        }
    }
    return count;
}

static const struct far_sub_script_order *said(const struct far_sub_order *order)
{
    return order->script.items;
}

static const struct far_sub_plan_script *script_in(const struct far_sub_order *order)
{
    return said(order)->script.items;
}

/* The only script that the node is to run, which is this one. */
static struct far_sub_order only(uint64_t node, const char *name)
{
    struct far_sub_order orders[16];
    world_pass(&w, 2);
    assert_int_equal(orders_of(node, FAR_task_kind_script, orders), 1);
    assert_string_slice(script_in(&orders[0])->name, name);
    return orders[0];
}

static size_t count_of(uint64_t node, uint64_t kind)
{
    struct far_sub_order orders[16];
    world_pass(&w, 2);
    return orders_of(node, kind, orders);
}

static void tell(const struct far_sub_order *order, struct far_sub_report_item item)
{
    struct far_row_task task = world_row_task(&w, order->job_id, order->task);
    assert_int_equal(world_report(&w, &task, item), 0);
}

static void tell_done(const struct far_sub_order *order)
{
    struct far_sub_script_result result = {.output = S("quiet now"), .duration_ms = 20};
    tell(order, (struct far_sub_report_item){.state = FAR_report_state_done, .outcome = FAR_outcome_ok, .script_result = {&result, 1}});
}

static void tell_failed(const struct far_sub_order *order, uint64_t outcome)
{
    struct far_sub_script_result result = {.status = 3, .output = S("no disk space")};
    tell(order, (struct far_sub_report_item){.state = FAR_report_state_failed,
                                             .outcome = outcome,
                                             .error_class = S("conflict"),
                                             .error_message = S("it ended with status 3; it said last: no disk space"),
                                             .script_result = {&result, outcome == FAR_outcome_retry}});
}

static void do_script(uint64_t node, const char *name)
{
    struct far_sub_order order = only(node, name);
    tell_done(&order);
}

/* Freeze, copy, seal and release of all that may; scripts are left. */
static void do_copies(void)
{
    for (unsigned round = 0; round < 8; round++) {
        const uint64_t nodes[] = {src, dst};
        for (size_t n = 0; n < 2; n++) {
            world_pass(&w, 2);
            world_work_but(&w, nodes[n], FAR_task_kind_script);
        }
    }
}

static struct far_row_job job_row(uint64_t id)
{
    return world_row_job(&w, id);
}

/* ---- around cycles ---- */

static void a_cycle_without_scripts_is_as_before(void **unused)
{
    uint64_t before = w.events, plain, job = begin_cycle();
    do_copies();
    plain = w.events - before;
    assert_int_equal(job_row(job).state, FAR_job_state_succeeded);
    add("far.sh", FAR_script_phase_before_recovery, "", 0); /* none of a cycle */
    apply();
    before = w.events;
    job = begin_cycle();
    do_copies();
    assert_int_equal(job_row(job).state, FAR_job_state_succeeded);
    assert_int_equal(job_row(job).script_count, 0);
    assert_int_equal(w.events - before, plain);
}

static void they_run_in_their_order(void **unused)
{
    add("after-all", FAR_script_phase_after_cycle, "", 0);
    add("after-db", FAR_script_phase_after_cycle, "db", 0);
    add("before-db", FAR_script_phase_before_cycle, "db", 0);
    add("first", FAR_script_phase_before_cycle, "", 0);
    add("second", FAR_script_phase_before_cycle, "", 0);
    apply();
    uint64_t job = begin_cycle();
    assert_int_equal(job_row(job).script_count, 5);
    assert_int_equal(count_of(src, FAR_task_kind_freeze), 0);
    struct far_sub_order order = only(src, "first");
    assert_int_equal(order.workload_id, 0);
    assert_string_slice(order.plan, "p");
    assert_int_equal(said(&order)->kind, FAR_job_kind_replicate);
    assert_int_equal(script_in(&order)->phase, FAR_script_phase_before_cycle);
    assert_memory_equal(script_in(&order)->sha256.data, sum, 32);
    assert_int_equal(said(&order)->result.len, 0);
    tell_done(&order);
    do_script(src, "second");
    struct far_sub_order freezes[16];
    world_pass(&w, 2);
    assert_int_equal(orders_of(src, FAR_task_kind_freeze, freezes), 1); /* web has no script of its own */
    assert_int_equal(freezes[0].workload_id, web);
    do_script(src, "before-db");
    assert_int_equal(count_of(src, FAR_task_kind_freeze), 2);
    do_copies();
    order = only(src, "after-db");
    assert_int_equal(order.workload_id, db);
    assert_string_slice(said(&order)->result, "succeeded");
    assert_int_equal(job_row(job).state, FAR_job_state_running);
    tell_done(&order);
    do_script(src, "after-all");
    assert_int_equal(job_row(job).state, FAR_job_state_succeeded);
    struct far_row_task task = world_row_task(&w, job, 1);
    const struct far_sub_script_result *result = task.script_result.items;
    assert_int_equal(task.script_result.count, 1);
    assert_string_slice(result->output, "quiet now");
}

static void one_before_a_workload_that_fails_spoils_that_workload_alone(void **unused)
{
    add("before-db", FAR_script_phase_before_cycle, "db", 1);
    add("after-db", FAR_script_phase_after_cycle, "db", 0);
    apply();
    uint64_t job = begin_cycle();
    struct far_sub_order order = only(src, "before-db");
    tell_failed(&order, FAR_outcome_retry);
    assert_int_equal(world_row_task(&w, job, order.task).state, FAR_task_state_ready); /* once more */
    world_pass(&w, 1000);
    order = only(src, "before-db");
    assert_int_equal(order.attempt, 2);
    tell_failed(&order, FAR_outcome_retry);
    do_copies();
    order = only(src, "after-db");
    assert_string_slice(said(&order)->result, "failed");
    tell_done(&order);
    assert_int_equal(job_row(job).state, FAR_job_state_partial);
    assert_true(says(job_row(job).error_message, "script 'before-db' before the cycle of workload 'db': it ended with status 3"));
    assert_int_equal(world_row_workload(&w, db).last_point_id, 0);
    assert_int_not_equal(world_row_workload(&w, web).last_point_id, 0);
}

static void one_before_the_plan_that_fails_spoils_the_cycle(void **unused)
{
    add("first", FAR_script_phase_before_cycle, "", 3);
    add("before-db", FAR_script_phase_before_cycle, "db", 0);
    add("after-all", FAR_script_phase_after_cycle, "", 0);
    apply();
    uint64_t job = begin_cycle();
    struct far_sub_order order = only(src, "first");
    tell_failed(&order, FAR_outcome_fatal); /* another sum, say: it is not tried again */
    order = only(src, "after-all");
    assert_string_slice(said(&order)->result, "failed");
    tell_done(&order);
    assert_int_equal(job_row(job).state, FAR_job_state_failed);
    assert_int_equal(world_row_task(&w, job, 2).state, FAR_task_state_canceled);
    assert_true(says(job_row(job).error_message, "script 'first' before the cycle of the plan"));
}

static void one_behind_that_fails_leaves_the_points(void **unused)
{
    add("after-db", FAR_script_phase_after_cycle, "db", 0);
    add("after-all", FAR_script_phase_after_cycle, "", 0);
    apply();
    uint64_t job = begin_cycle();
    do_copies();
    struct far_sub_order order = only(src, "after-db");
    tell_failed(&order, FAR_outcome_retry);
    order = only(src, "after-all");
    assert_string_slice(said(&order)->result, "succeeded"); /* the cycle, not the scripts */
    tell_done(&order);
    assert_int_equal(job_row(job).state, FAR_job_state_partial);
    assert_true(says(job_row(job).error_message, "script 'after-db' after the cycle of workload 'db'"));
    struct far_row_checkpoint checkpoint = world_row_checkpoint(&w, job_row(job).checkpoint_id);
    assert_int_equal(checkpoint.member_count, 2);
    assert_int_not_equal(world_row_workload(&w, db).last_point_id, 0);
}

static void a_lost_attempt_counts_as_one_that_failed(void **unused)
{
    add("first", FAR_script_phase_before_cycle, "", 1);
    apply();
    uint64_t job = begin_cycle();
    assert_int_equal(only(src, "first").attempt, 1);
    boot(src, 2, true);
    world_pass(&w, 1000);
    assert_int_equal(only(src, "first").attempt, 2);
    boot(src, 3, true);
    world_pass(&w, 1000);
    assert_int_equal(count_of(src, FAR_task_kind_script), 0);
    assert_int_equal(job_row(job).state, FAR_job_state_failed);
    assert_true(says(job_row(job).error_message, "the node that ran it was lost meanwhile"));
}

static void a_canceled_cycle_tells_those_behind_it_once(void **unused)
{
    add("first", FAR_script_phase_before_cycle, "", 0);
    add("before-db", FAR_script_phase_before_cycle, "db", 0);
    add("after-db", FAR_script_phase_after_cycle, "db", 5);
    add("after-web", FAR_script_phase_after_cycle, "web", 5);
    add("after-all", FAR_script_phase_after_cycle, "", 5);
    apply();
    uint64_t job = begin_cycle();
    do_script(src, "first");
    only(src, "before-db");
    MUST(&w, job_cancel, .job_id = job);
    struct far_sub_order orders[16];
    do_copies();
    assert_int_equal(orders_of(src, FAR_task_kind_script, orders), 2); /* of both workloads: the plan's had begun */
    assert_string_slice(said(&orders[0])->result, "canceled");
    tell_failed(&orders[0], FAR_outcome_retry); /* no other try */
    tell_done(&orders[1]);
    do_script(src, "after-all");
    assert_int_equal(job_row(job).state, FAR_job_state_canceled);
    job = begin_cycle(); /* at once: nothing had begun but the first script, which is told to stop */
    boot(src, 2, true);  /* and that is lost */
    MUST(&w, job_cancel, .job_id = job);
    for (unsigned i = 0; i < 4; i++) {
        world_pass(&w, 1000);
        world_work(&w, src);
    }
    assert_int_equal(job_row(job).state, FAR_job_state_canceled);
}

static void a_site_without_a_node_that_runs_scripts_says_so(void **unused)
{
    add("first", FAR_script_phase_before_cycle, "", 9);
    apply();
    boot(src, 2, false);
    uint64_t job = begin_cycle();
    assert_int_equal(job_row(job).state, FAR_job_state_failed);
    assert_true(says(job_row(job).error_message, "no node of site 'paris' runs scripts"));
    uint64_t other = world_node(&w, "other", "paris");
    boot(other, 1, true);
    begin_cycle();
    only(other, "first");
}

/* ---- around recoveries ---- */

static struct far_row_run run_row(uint64_t id)
{
    struct far_row_run row;
    struct far_key key = far_key(&far_schema_row_run);
    far_key_u64(&key, id);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_run, &key, &w.arena, &row, &w.err), 0);
    return row;
}

/* A plan whose points are there, then with these scripts. */
static uint64_t begin_run(uint64_t kind)
{
    begin_cycle();
    do_copies();
    apply();
    uint64_t run = MUST(&w, run_start, .plan = S("p"), .kind = kind, .fence_s = kind == FAR_job_kind_failover ? 5 : 0);
    world_pass(&w, 2);
    return run;
}

static void do_rest(uint64_t node)
{
    for (unsigned i = 0; i < 6; i++) {
        world_pass(&w, 2);
        world_work_but(&w, node, FAR_task_kind_script);
    }
}

static void a_recovery_runs_them_in_their_order(void **unused)
{
    add("before-all", FAR_script_phase_before_recovery, "", 0);
    add("before-db", FAR_script_phase_before_recovery, "db", 0);
    add("after-db", FAR_script_phase_after_recovery, "db", 0);
    add("after-all", FAR_script_phase_after_recovery, "", 0);
    add("of-cycles", FAR_script_phase_after_cycle, "", 0);
    uint64_t run = begin_run(FAR_job_kind_test_recovery);
    assert_int_equal(run_row(run).script_count, 4);
    assert_int_equal(count_of(dst, FAR_task_kind_restore), 0);
    struct far_sub_order order = only(dst, "before-all");
    assert_int_equal(said(&order)->kind, FAR_job_kind_test_recovery);
    assert_true(said(&order)->isolated);
    tell_done(&order);
    assert_int_equal(count_of(dst, FAR_task_kind_restore), 3);
    do_rest(dst);
    order = only(dst, "before-db");
    assert_int_equal(order.workload_id, db);
    assert_int_not_equal(said(&order)->machine.len, 0);
    assert_int_equal(count_of(dst, FAR_task_kind_machine), 0);
    tell_done(&order);
    do_rest(dst); /* db is up; web waits for what comes after it */
    order = only(dst, "after-db");
    assert_string_slice(said(&order)->result, "succeeded");
    assert_int_equal(count_of(dst, FAR_task_kind_machine), 0);
    tell_done(&order);
    do_rest(dst);
    assert_int_equal(run_row(run).phase, FAR_run_phase_starting);
    do_script(dst, "after-all");
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
    MUST(&w, run_finish, .job_id = run);
    do_rest(dst);
    assert_int_equal(run_row(run).phase, FAR_run_phase_done);
    assert_int_equal(job_row(run).state, FAR_job_state_succeeded);
}

static void one_that_fails_holds_the_run(void **unused)
{
    add("before-all", FAR_script_phase_before_recovery, "", 0);
    add("before-db", FAR_script_phase_before_recovery, "db", 0);
    uint64_t run = begin_run(FAR_job_kind_test_recovery);
    struct far_sub_order order = only(dst, "before-all");
    tell_failed(&order, FAR_outcome_retry);
    assert_true(says(run_row(run).problem, "script 'before-all' before the recovery of the plan: it ended with status 3"));
    MUST(&w, run_retry, .job_id = run);
    order = only(dst, "before-all");
    tell_failed(&order, FAR_outcome_retry);
    MUST(&w, run_pass, .job_id = run, .workload = S("p")); /* the plan's own, by its name */
    assert_int_equal(run_row(run).problem.len, 0);
    do_rest(dst);
    order = only(dst, "before-db");
    tell_failed(&order, FAR_outcome_fatal);
    assert_true(says(run_row(run).problem, "workload 'db'"));
    MUST(&w, run_retry, .job_id = run);
    only(dst, "before-db"); /* it runs; somebody does not want to wait for it */
    MUST(&w, run_pass, .job_id = run, .workload = S("db"));
    assert_int_equal(count_of(dst, FAR_task_kind_script), 0);
    do_rest(dst);
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
    assert_int_equal(APPLY(&w, run_retry, .job_id = run), FAR_CONFLICT);
}

static void a_failover_fences_beside_the_first_script(void **unused)
{
    add("before-all", FAR_script_phase_before_recovery, "", 0);
    uint64_t run = begin_run(FAR_job_kind_failover);
    assert_int_equal(run_row(run).phase, FAR_run_phase_begun);
    assert_int_equal(count_of(src, FAR_task_kind_machine), 2);
    do_script(dst, "before-all");
    do_rest(src);
    do_rest(dst);
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
    MUST(&w, run_commit, .job_id = run);
    do_rest(dst);
    assert_int_equal(job_row(run).state, FAR_job_state_succeeded);
}

static void a_migration_goes_on_though_one_behind_its_cycle_failed(void **unused)
{
    add("before-all", FAR_script_phase_before_recovery, "", 0);
    add("after-cycle", FAR_script_phase_after_cycle, "", 0);
    uint64_t run = begin_run(FAR_job_kind_migration);
    do_script(dst, "before-all");
    do_copies();
    struct far_sub_order order = only(src, "after-cycle");
    tell_failed(&order, FAR_outcome_retry);
    do_rest(src);
    do_copies();
    do_rest(dst);
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
}

/* Its machines are off: what would quiesce them finds nobody. */
static void the_last_increment_of_a_migration_runs_none(void **unused)
{
    add("before-db", FAR_script_phase_before_cycle, "db", 0);
    add("after-db", FAR_script_phase_after_cycle, "db", 0);
    uint64_t run = begin_run(FAR_job_kind_migration);
    do_script(src, "before-db");
    do_copies();
    do_script(src, "after-db");
    do_rest(src); /* they are shut down */
    assert_int_equal(run_row(run).phase, FAR_run_phase_last_increment);
    assert_int_equal(count_of(src, FAR_task_kind_script), 0);
    do_copies();
    do_rest(dst);
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
}

static void a_workload_that_was_moved_has_none(void **unused)
{
    add("before-db", FAR_script_phase_before_cycle, "db", 0);
    add("before-web", FAR_script_phase_before_cycle, "web", 0);
    struct far_slice names[] = {S("db")};
    begin_cycle();
    do_copies();
    apply();
    uint64_t run = MUST(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_failover, .workloads = {names, 1}, .fence_s = 5);
    world_pass(&w, 2);
    do_rest(src);
    do_rest(dst);
    MUST(&w, run_commit, .job_id = run);
    do_rest(dst);
    assert_int_equal(run_row(run).phase, FAR_run_phase_done);
    MUST(&w, plan_replicate, .name = S("p"));
    only(src, "before-web");
    assert_int_equal(count_of(src, FAR_task_kind_script), 1);
}

static void a_run_that_ends_ends_its_scripts(void **unused)
{
    add("before-db", FAR_script_phase_before_recovery, "db", 5);
    uint64_t run = begin_run(FAR_job_kind_test_recovery);
    do_rest(dst);
    only(dst, "before-db");
    MUST(&w, run_finish, .job_id = run);
    assert_int_equal(count_of(dst, FAR_task_kind_script), 0);
    do_rest(dst);
    assert_int_equal(run_row(run).phase, FAR_run_phase_done);
}

#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(a_cycle_without_scripts_is_as_before),
        IN_A_WORLD(they_run_in_their_order),
        IN_A_WORLD(one_before_a_workload_that_fails_spoils_that_workload_alone),
        IN_A_WORLD(one_before_the_plan_that_fails_spoils_the_cycle),
        IN_A_WORLD(one_behind_that_fails_leaves_the_points),
        IN_A_WORLD(a_lost_attempt_counts_as_one_that_failed),
        IN_A_WORLD(a_canceled_cycle_tells_those_behind_it_once),
        IN_A_WORLD(a_site_without_a_node_that_runs_scripts_says_so),
        IN_A_WORLD(a_recovery_runs_them_in_their_order),
        IN_A_WORLD(one_that_fails_holds_the_run),
        IN_A_WORLD(a_failover_fences_beside_the_first_script),
        IN_A_WORLD(a_migration_goes_on_though_one_behind_its_cycle_failed),
        IN_A_WORLD(the_last_increment_of_a_migration_runs_none),
        IN_A_WORLD(a_workload_that_was_moved_has_none),
        IN_A_WORLD(a_run_that_ends_ends_its_scripts),
    };
    return cmocka_run_group_tests_name("fsm_scripts", tests, NULL, NULL);
}
