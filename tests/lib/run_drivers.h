/* The driver of the table of runs: a part of test_fsm_tables.c, whose world and ways to give an input it uses. */
#ifndef FAR_TESTS_LIB_RUN_DRIVERS_H
#define FAR_TESTS_LIB_RUN_DRIVERS_H

#include "fsm/run.h"

enum { RUN = 900 };

/* A failover with one workload of which something was made, so that its end has something to do. */
static void begin_run(void)
{
    struct far_sub_run_member member = {.workload_id = workload, .node_id = target, .machine = S("web")};
    struct far_sub_task_new item = {
        .kind = FAR_task_kind_restore, .ready = true, .workload_id = workload, .target_path = S("run-900/web/root.raw")};
    member.point_id = item.point_id = world_row_workload(&w, workload).last_point_id;
    EVENT(job_started, .id = RUN, .kind = FAR_job_kind_failover, .plan_id = plan, .next_workload_id = 1);
    assert_int_equal(outcome.klass, 0);
    EVENT(run_begun, .job_id = RUN, .plan_id = plan, .kind = FAR_job_kind_failover);
    assert_int_equal(outcome.klass, 0);
    EVENT(run_members, .job_id = RUN, .checkpoint_id = checkpoint, .items = {&member, 1});
    assert_int_equal(outcome.klass, 0);
    EVENT(tasks_created, .job_id = RUN, .first_task = 1, .next_workload_id = 1, .items = {&item, 1});
    assert_int_equal(outcome.klass, 0);
}

static void run_moves(uint64_t phase)
{
    EVENT(run_moved, .job_id = RUN, .phase = phase);
    assert_int_equal(outcome.klass, 0);
}

static void reach_run(unsigned state)
{
    object = RUN;
    if (state == 0) {
        return;
    }
    begin_run();
    bool goes_up = state < FAR_run_phase_cleaning;
    for (unsigned phase = FAR_run_phase_syncing; goes_up && phase <= state; phase++) {
        run_moves(phase);
    }
    if (!goes_up) {
        run_moves(FAR_run_phase_cleaning);
    }
    if (state == FAR_run_phase_unfencing) {
        run_moves(FAR_run_phase_unfencing);
    } else if (state == FAR_run_phase_done) {
        run_moves(FAR_run_phase_done);
    }
}

static void give_run(unsigned state, unsigned input)
{
    switch (input) {
    case FAR_RUN_BEGIN:
        if (state == 0) {
            EVENT(job_started, .id = RUN, .kind = FAR_job_kind_failover, .plan_id = plan, .next_workload_id = 1);
        }
        EVENT(run_begun, .job_id = RUN, .plan_id = plan, .kind = FAR_job_kind_failover);
        break;
    case FAR_RUN_FINISH:
    case FAR_RUN_ABANDON:
        if (state == FAR_run_phase_up && input == FAR_RUN_FINISH) {
            run_moves(FAR_run_phase_cleaning); /* of one that is no test a person says commit or roll back */
        } else {
            COMMAND(run_finish, .job_id = RUN, .abandon = input == FAR_RUN_ABANDON);
        }
        break;
    case FAR_RUN_COMMIT:
        COMMAND(run_commit, .job_id = RUN);
        break;
    case FAR_RUN_ROLL_BACK:
        COMMAND(run_roll_back, .job_id = RUN);
        break;
    case FAR_RUN_PASS:
    case FAR_RUN_RETRY:
        by_table(&far_table_run, state, input); /* they are about its workloads */
        break;
    default:
        if (state == 0) {
            by_table(&far_table_run, state, input); /* an event about no run is refused before the table is asked */
        } else {
            EVENT(run_moved, .job_id = RUN, .phase = input + 1);
        }
        break;
    }
}

static unsigned see_run(void)
{
    struct far_row_run row;
    struct far_key key = far_key_id(&far_schema_row_run, RUN);
    int rc = far_state_get(&w.state, &far_schema_row_run, &key, &w.arena, &row, &w.err);
    return rc == 0 ? (unsigned)row.phase : 0;
}

#endif
