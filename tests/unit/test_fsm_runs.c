/* Runs of plans in the core alone: test recovery, failover and migration, by commands and by what nodes report. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <stdio.h>

static struct world w;
static uint64_t src, dst, web, db, plan, checkpoint;

/* ---- the world ---- */

static void work(void)
{
    world_pass(&w, 2);
    world_work_all(&w, (const uint64_t[]){src, dst}, 2);
}

static uint64_t cycle(void)
{
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    work();
    return world_row_job(&w, job).checkpoint_id;
}

static void configure(const char *workload, struct far_sub_recovery config)
{
    MUST(&w, recovery_set, .workload = S(workload), .config = {&config, 1});
}

/* db comes up first and is waited for at a port; then web, which a person looks at. */
static int setup(void **unused)
{
    struct far_sub_recovery_gate port = {.kind = FAR_gate_kind_port, .port = 5432, .timeout_s = 60};
    struct far_sub_recovery_gate person = {.kind = FAR_gate_kind_person, .note = S("look"), .timeout_s = 3600};
    world_init(&w);
    world_cluster(&w);
    src = world_node(&w, "src", "paris");
    dst = world_node(&w, "dst", "lyon");
    web = world_workload(&w, "web", 2);
    db = world_workload(&w, "db", 1);
    plan = world_plan(&w, "p", (const char *const[]){"web", "db"}, 2);
    configure("db", (struct far_sub_recovery){.group = 1, .delay_s = 5, .gates = {&port, 1}, .recovered_name = S("db-dr")});
    configure("web", (struct far_sub_recovery){.group = 2, .gates = {&person, 1}});
    checkpoint = cycle();
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static struct far_row_run run_row(uint64_t id)
{
    struct far_row_run row;
    struct far_key key = far_key(&far_schema_row_run);
    far_key_u64(&key, id);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_run, &key, &w.arena, &row, &w.err), 0);
    return row;
}

static struct far_row_run_member member(uint64_t run, uint64_t workload)
{
    struct far_row_run_member row;
    struct far_key key = far_key(&far_schema_row_run_member);
    far_key_u64(&key, run);
    far_key_u64(&key, workload);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_run_member, &key, &w.arena, &row, &w.err), 0);
    return row;
}

/* The orders of a node for a run with this operation (0: restores), at most 16. */
static size_t orders_of(uint64_t node, uint64_t run, uint64_t operation, struct far_sub_order *orders)
{
    struct far_list list;
    size_t count = 0;
    assert_int_equal(far_query_orders(&w.state, node, 1000, &w.arena, &list, &w.err), 0);
    for (size_t i = 0; i < list.count; i++) {
        const struct far_sub_order *order = (const struct far_sub_order *)list.items + i;
        const struct far_sub_machine_order *machine = order->machine.items;
        if (order->job_id == run && (order->machine.count > 0 ? machine->operation : 0) == operation) {
            orders[count++] = *order;
        }
    }
    return count;
}

static const struct far_sub_machine_order *machine_of(const struct far_sub_order *order)
{
    return order->machine.items;
}

static void tell(const struct far_sub_order *order, struct far_sub_report_item item)
{
    struct far_row_task task = world_row_task(&w, order->job_id, order->task);
    assert_int_equal(world_report(&w, &task, item), 0);
}

static void tell_done(const struct far_sub_order *order, struct far_sub_machine_result result)
{
    tell(order, (struct far_sub_report_item){
                    .state = FAR_report_state_done, .outcome = FAR_outcome_ok, .root = order->root, .machine_result = {&result, 1}});
}

static void tell_failed(const struct far_sub_order *order, const char *message)
{
    tell(order, (struct far_sub_report_item){.state = FAR_report_state_failed,
                                             .outcome = FAR_outcome_fatal,
                                             .error_class = S("io"),
                                             .error_message = S(message)});
}

/* All orders of one operation at the node go well; how many those were. */
static size_t do_all(uint64_t node, uint64_t run, uint64_t operation)
{
    struct far_sub_order orders[16];
    world_pass(&w, 2);
    size_t count = orders_of(node, run, operation, orders);
    for (size_t i = 0; i < count; i++) {
        tell_done(&orders[i], (struct far_sub_machine_result){.address = S("10.0.0.9"), .platform_ms = 7, .waited_ms = 3});
    }
    return count;
}

static struct far_sub_order only(uint64_t node, uint64_t run, uint64_t operation)
{
    struct far_sub_order orders[16];
    world_pass(&w, 2);
    assert_int_equal(orders_of(node, run, operation, orders), 1);
    return orders[0];
}

static uint64_t begin(uint64_t kind)
{
    return MUST(&w, run_start, .plan = S("p"), .kind = kind);
}

/* Up to where all that can is up. */
static void bring_up(uint64_t run)
{
    assert_int_equal(do_all(dst, run, 0), 3);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1); /* db */
    assert_int_equal(do_all(dst, run, FAR_machine_operation_gate), 1);
    world_pass(&w, 5000);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1); /* web */
    MUST(&w, run_pass, .job_id = run, .workload = S("web"));
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
}

static void assert_over(uint64_t run, uint64_t state)
{
    assert_int_equal(run_row(run).phase, FAR_run_phase_done);
    assert_int_equal(world_row_job(&w, run).state, state);
    assert_int_equal(world_row_checkpoint(&w, checkpoint).readers, 0);
    assert_int_equal(world_row_plan(&w, plan).run_job_id, 0);
    assert_int_equal(world_row_plan(&w, plan).test_job_id, 0);
}

/* ---- test recovery ---- */

static void a_test_brings_up_in_order_and_cleans_up(void **unused)
{
    uint64_t run = begin(FAR_job_kind_test_recovery);
    struct far_sub_order orders[16];
    assert_int_equal(world_row_checkpoint(&w, checkpoint).readers, 1);
    assert_int_equal(orders_of(dst, run, 0, orders), 3);
    char path[64];
    snprintf(path, sizeof path, "run-%llu/web/", (unsigned long long)run);
    assert_int_equal(memcmp(orders[0].target_path.data, path, strlen(path)), 0);
    assert_int_equal(do_all(dst, run, 0), 3);
    struct far_sub_order up = only(dst, run, FAR_machine_operation_up); /* db alone: web is in the next group */
    assert_int_equal(up.workload_id, db);
    assert_true(machine_of(&up)->isolated);
    assert_int_equal(machine_of(&up)->disks.count, 1);
    assert_int_equal(machine_of(&up)->recovery.count, 1);
    assert_int_equal(memcmp(machine_of(&up)->name.data, "db-dr-test-", 11), 0);
    tell_done(&up, (struct far_sub_machine_result){.address = S("10.0.0.5"), .platform_ms = 40});
    struct far_sub_order gate = only(dst, run, FAR_machine_operation_gate);
    assert_int_equal(((const struct far_sub_recovery_gate *)machine_of(&gate)->gate.items)->port, 5432);
    assert_int_equal(machine_of(&gate)->timeout_s, 60);
    tell_done(&gate, (struct far_sub_machine_result){.waited_ms = 2000});
    assert_int_equal(member(run, db).state, FAR_run_member_state_passed);
    assert_int_equal(member(run, db).platform_ms, 40);
    assert_int_equal(member(run, db).waited_ms, 2000);
    assert_int_equal(orders_of(dst, run, FAR_machine_operation_up, orders), 0); /* its delay is 5 s */
    world_pass(&w, 5000);
    up = only(dst, run, FAR_machine_operation_up);
    assert_int_equal(up.workload_id, web);
    tell_done(&up, (struct far_sub_machine_result){.address = S("10.0.0.6")});
    assert_non_null(strstr((const char *)run_row(run).problem.data, "waits for a person"));
    MUST(&w, run_pass, .job_id = run, .workload = S("web"));
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
    MUST(&w, plan_replicate, .name = S("p")); /* replication goes on */
    world_pass(&w, 2);
    MUST(&w, run_finish, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2);
    assert_over(run, FAR_job_state_succeeded);
}

static void a_test_expires_and_cleans_up_by_itself(void **unused)
{
    uint64_t run = MUST(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_test_recovery, .expires_s = 600);
    bring_up(run);
    world_pass(&w, 600000);
    world_boot(&w, src, 50);
    world_boot(&w, dst, 51);
    assert_int_equal(run_row(run).phase, FAR_run_phase_cleaning);
    assert_int_equal(run_row(run).end, FAR_run_end_expired);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2);
    assert_over(run, FAR_job_state_succeeded);
}

static void a_gate_that_fails_holds_the_run_until_it_is_tried_again_or_passed(void **unused)
{
    uint64_t run = begin(FAR_job_kind_test_recovery);
    assert_int_equal(do_all(dst, run, 0), 3);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1);
    struct far_sub_order gate = only(dst, run, FAR_machine_operation_gate);
    tell_failed(&gate, "port 5432 did not answer within 60 s");
    assert_int_equal(member(run, db).state, FAR_run_member_state_failed);
    assert_non_null(strstr((const char *)run_row(run).problem.data, "did not answer"));
    world_pass(&w, 10000);
    world_boot(&w, dst, 51);
    struct far_sub_order orders[16];
    assert_int_equal(orders_of(dst, run, FAR_machine_operation_up, orders), 0); /* web waits behind it */
    MUST(&w, run_retry, .job_id = run);
    gate = only(dst, run, FAR_machine_operation_gate);
    tell_failed(&gate, "not yet");
    assert_int_equal(APPLY(&w, run_pass, .job_id = run, .workload = S("web")), FAR_CONFLICT); /* it is at no gate yet */
    MUST(&w, run_pass, .job_id = run, .workload = S("db"));
    assert_int_equal(member(run, db).state, FAR_run_member_state_passed);
    assert_int_equal(run_row(run).problem.len, 0);
    MUST(&w, job_cancel, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2);
    assert_over(run, FAR_job_state_canceled);
}

#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(a_test_brings_up_in_order_and_cleans_up),
        IN_A_WORLD(a_test_expires_and_cleans_up_by_itself),
        IN_A_WORLD(a_gate_that_fails_holds_the_run_until_it_is_tried_again_or_passed),
    };
    return cmocka_run_group_tests_name("fsm_runs", tests, NULL, NULL);
}
