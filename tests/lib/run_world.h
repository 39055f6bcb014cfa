/* What tests of runs in the core share: a cluster with a plan of two workloads, what its nodes are ordered for a run, and answers to
 * that. A test program includes it once. */
#ifndef FAR_TESTS_LIB_RUN_WORLD_H
#define FAR_TESTS_LIB_RUN_WORLD_H

#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <stdio.h>

static struct world w;
static uint64_t src, dst, web, db, plan, checkpoint;

/* ---- the world ---- */

static inline void work(void)
{
    world_pass(&w, 2);
    world_work_all(&w, (const uint64_t[]){src, dst}, 2);
}

static inline uint64_t cycle(void)
{
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    work();
    return world_row_job(&w, job).checkpoint_id;
}

static inline void configure(const char *workload, struct far_sub_recovery config)
{
    MUST(&w, recovery_set, .workload = S(workload), .config = {&config, 1});
}

/* db comes up first and is waited for at a port; then web, which a person looks at. */
static inline int setup(void **unused)
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

static inline int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static inline struct far_row_run run_row(uint64_t id)
{
    struct far_row_run row;
    struct far_key key = far_key(&far_schema_row_run);
    far_key_u64(&key, id);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_run, &key, &w.arena, &row, &w.err), 0);
    return row;
}

static inline struct far_row_run_member member(uint64_t run, uint64_t workload)
{
    struct far_row_run_member row;
    struct far_key key = far_key(&far_schema_row_run_member);
    far_key_u64(&key, run);
    far_key_u64(&key, workload);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_run_member, &key, &w.arena, &row, &w.err), 0);
    return row;
}

/* The orders of a node for a run with this operation (0: restores), at most 16. */
static inline size_t orders_of(uint64_t node, uint64_t run, uint64_t operation, struct far_sub_order *orders)
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

static inline const struct far_sub_machine_order *machine_of(const struct far_sub_order *order)
{
    return order->machine.items;
}

static inline void tell(const struct far_sub_order *order, struct far_sub_report_item item)
{
    struct far_row_task task = world_row_task(&w, order->job_id, order->task);
    assert_int_equal(world_report(&w, &task, item), 0);
}

static inline void tell_done(const struct far_sub_order *order, struct far_sub_machine_result result)
{
    tell(order, (struct far_sub_report_item){
                    .state = FAR_report_state_done, .outcome = FAR_outcome_ok, .root = order->root, .machine_result = {&result, 1}});
}

static inline void tell_failed(const struct far_sub_order *order, const char *message)
{
    tell(order, (struct far_sub_report_item){.state = FAR_report_state_failed,
                                             .outcome = FAR_outcome_fatal,
                                             .error_class = S("io"),
                                             .error_message = S(message)});
}

/* All orders of one operation at the node go well; how many those were. */
static inline size_t do_all(uint64_t node, uint64_t run, uint64_t operation)
{
    struct far_sub_order orders[16];
    world_pass(&w, 2);
    size_t count = orders_of(node, run, operation, orders);
    for (size_t i = 0; i < count; i++) {
        tell_done(&orders[i], (struct far_sub_machine_result){.address = S("10.0.0.9"), .platform_ms = 7, .waited_ms = 3});
    }
    return count;
}

static inline struct far_sub_order only(uint64_t node, uint64_t run, uint64_t operation)
{
    struct far_sub_order orders[16];
    world_pass(&w, 2);
    assert_int_equal(orders_of(node, run, operation, orders), 1);
    return orders[0];
}

static inline uint64_t begin(uint64_t kind)
{
    return MUST(&w, run_start, .plan = S("p"), .kind = kind);
}

/* Up to where all that can is up. */
static inline void bring_up(uint64_t run)
{
    assert_int_equal(do_all(dst, run, 0), 3);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1); /* db */
    assert_int_equal(do_all(dst, run, FAR_machine_operation_gate), 1);
    world_pass(&w, 5000);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1); /* web */
    MUST(&w, run_pass, .job_id = run, .workload = S("web"));
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
}

static inline void assert_over(uint64_t run, uint64_t state)
{
    if (run_row(run).end == FAR_run_end_committed && run_row(run).kind == FAR_job_kind_failover) { /* what was lost: test_fsm_lost.c */
        work();
    }
    assert_int_equal(run_row(run).phase, FAR_run_phase_done);
    assert_int_equal(world_row_job(&w, run).state, state);
    assert_int_equal(world_row_checkpoint(&w, checkpoint).readers, 0);
    assert_int_equal(world_row_plan(&w, plan).run_job_id, 0);
    assert_int_equal(world_row_plan(&w, plan).test_job_id, 0);
}

/* Up to where the second cycle is done. */
static inline void migrate(uint64_t run)
{
    assert_int_equal(run_row(run).phase, FAR_run_phase_syncing);
    uint64_t cycle_id = run_row(run).cycle_job_id;
    assert_int_equal(world_row_plan(&w, plan).running_job_id, cycle_id);
    for (unsigned i = 0; i < 20 && run_row(run).phase == FAR_run_phase_syncing; i++) {
        world_pass(&w, 2);
        world_work(&w, src);
        world_work(&w, dst);
    }
    assert_int_equal(run_row(run).phase, FAR_run_phase_shutting_down);
    assert_int_equal(do_all(src, run, FAR_machine_operation_source_off), 2);
    assert_int_equal(run_row(run).phase, FAR_run_phase_last_increment);
    assert_int_not_equal(run_row(run).cycle_job_id, cycle_id);
    for (unsigned i = 0; i < 40 && run_row(run).phase == FAR_run_phase_last_increment; i++) {
        world_pass(&w, 2);
        world_work(&w, i % 2 == 0 ? src : dst);
    }
    assert_int_equal(run_row(run).phase, FAR_run_phase_preparing);
}

#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
