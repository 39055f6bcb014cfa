/* Runs of some workloads of a plan, in the core alone: what was moved, what goes on as before, and what is left where it was. */
#include "lib/run_world.h"

#include "fsm/job.h"

static struct far_row_plan_workload plan_member(uint64_t workload)
{
    struct far_row_plan_workload row;
    struct far_key key = far_key(&far_schema_row_plan_workload);
    far_key_u64(&key, plan);
    far_key_u64(&key, workload);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_plan_workload, &key, &w.arena, &row, &w.err), 0);
    return row;
}

static struct far_row_checkpoint_member checkpoint_member(uint64_t id, uint64_t workload)
{
    struct far_row_checkpoint_member row;
    struct far_key key = far_key(&far_schema_row_checkpoint_member);
    far_key_u64(&key, id);
    far_key_u64(&key, workload);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_checkpoint_member, &key, &w.arena, &row, &w.err), 0);
    return row;
}

static bool is_job(uint64_t id)
{
    struct far_row_job row;
    struct far_key key = far_key(&far_schema_row_job);
    far_key_u64(&key, id);
    return far_state_get(&w.state, &far_schema_row_job, &key, &w.arena, &row, NULL) == 0;
}

/* Of the plan. */
static size_t count_jobs(void)
{
    struct far_row_plan_job row;
    struct far_key key = far_key(&far_schema_row_plan_job);
    size_t count = 0;
    while (far_state_next(&w.state, &far_schema_row_plan_job, &key, &w.arena, NULL, &row, NULL) == 0) {
        count += row.plan_id == plan;
    }
    return count;
}

/* A failover of these alone, committed. */
static uint64_t move_some(const char *plan_name, const char *name, uint64_t kind)
{
    struct far_slice only_name = S(name);
    uint64_t run = MUST(&w, run_start, .plan = S(plan_name), .kind = kind, .workloads = {&only_name, 1});
    for (unsigned i = 0; i < 60 && run_row(run).phase != FAR_run_phase_up; i++) {
        world_pass(&w, 1500);
        world_work(&w, src);
        world_work(&w, dst);
        (void)APPLY(&w, run_pass, .job_id = run, .workload = S("web"));
    }
    MUST(&w, run_commit, .job_id = run);
    assert_int_equal(w.result.message[0], '\0'); /* nothing to be warned of */
    work();
    assert_int_equal(world_row_job(&w, run).state, FAR_job_state_succeeded);
    return run;
}

static void what_was_not_moved_goes_on_being_protected(void **unused)
{
    uint64_t old_point = world_row_workload(&w, db).last_point_id;
    struct far_slice name = S("db");
    MUST(&w, plan_start, .name = S("p"));
    uint64_t run = move_some("p", "db", FAR_job_kind_failover);
    struct far_row_plan row = world_row_plan(&w, plan);
    assert_int_equal(row.moved_count, 1);
    assert_int_equal(row.moved_ms, 0);
    assert_int_equal(row.state, FAR_plan_state_active); /* it goes on */
    assert_true(plan_member(db).moved_ms != 0);
    assert_int_equal(plan_member(db).moved_job_id, run);
    assert_int_equal(plan_member(web).moved_ms, 0);
    /* a cycle of the others: the moved one has no task in it, and keeps its last point in what it makes */
    checkpoint = cycle();
    struct far_row_job job = world_row_job(&w, world_row_checkpoint(&w, checkpoint).job_id);
    assert_int_equal(job.state, FAR_job_state_succeeded);
    assert_int_equal(job.task_count, 3 + 2 * 2);
    assert_int_equal(checkpoint_member(checkpoint, db).point_id, old_point);
    assert_true(checkpoint_member(checkpoint, db).moved);
    assert_false(checkpoint_member(checkpoint, db).failed);
    assert_false(checkpoint_member(checkpoint, web).moved);
    assert_int_equal(world_row_checkpoint(&w, checkpoint).failed_count, 0);
    /* nothing of this direction is done with it */
    assert_int_equal(APPLY(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_test_recovery, .workloads = {&name, 1}), FAR_CONFLICT);
    assert_int_equal(APPLY(&w, plan_resync, .name = S("p"), .workload = S("db")), FAR_CONFLICT);
    uint64_t test = begin(FAR_job_kind_test_recovery);
    assert_int_equal(run_row(test).member_count, 1); /* web alone */
    MUST(&w, job_cancel, .job_id = test);
    work();
    assert_int_equal(run_row(test).phase, FAR_run_phase_done);
}

static void a_promise_is_about_what_was_not_moved(void **unused)
{
    struct far_rpo rpo;
    struct far_slice name = S("web");
    MUST(&w, plan_update, .name = S("p"), .rpo_s = 60);
    MUST(&w, plan_start, .name = S("p"));
    move_some("p", "db", FAR_job_kind_failover);
    for (unsigned i = 0; i < 10; i++) { /* cycles of web keep the promise, however old db's point is */
        cycle();
        world_pass(&w, 10000);
        world_boot(&w, src, (uint8_t)(50 + i));
        world_boot(&w, dst, (uint8_t)(70 + i));
    }
    assert_int_equal(far_query_rpo(&w.state, plan, w.now_ms, &rpo, &w.err), 0);
    assert_false(rpo.is_late);
    assert_int_equal(rpo.workload_id, web);
    MUST(&w, plan_workloads_remove, .name = S("p"), .workloads = {&name, 1}); /* what is left was moved */
    assert_true(world_row_plan(&w, plan).moved_ms != 0);
    assert_int_equal(world_row_plan(&w, plan).rpo_due_ms, 0);
    assert_int_equal(APPLY(&w, plan_replicate, .name = S("p")), FAR_CONFLICT);
    assert_int_equal(far_query_rpo(&w.state, plan, w.now_ms, &rpo, &w.err), 0);
    assert_string_equal(rpo.reasons[0].code, "moved");
    MUST(&w, plan_workloads_add, .name = S("p"), .workloads = {&name, 1});
    assert_int_equal(world_row_plan(&w, plan).moved_ms, 0);
}

static void an_active_plan_whose_last_workload_at_home_leaves_is_paused(void **unused)
{
    struct far_slice name = S("web");
    MUST(&w, plan_schedule_set, .name = S("p"), .interval_s = 60);
    MUST(&w, plan_start, .name = S("p"));
    work();
    move_some("p", "db", FAR_job_kind_failover);
    work();
    MUST(&w, plan_workloads_remove, .name = S("p"), .workloads = {&name, 1});
    world_pass(&w, 70000);
    assert_int_equal(world_row_plan(&w, plan).state, FAR_plan_state_paused);
    assert_int_equal(world_row_plan(&w, plan).running_job_id, 0);
    assert_int_equal(APPLY(&w, plan_resume, .name = S("p")), FAR_CONFLICT);
    world_boot(&w, src, 50);
    world_boot(&w, dst, 51);
}

static void workloads_that_move_one_by_one_come_home_one_by_one(void **unused)
{
    MUST(&w, plan_start, .name = S("p"));
    move_some("p", "db", FAR_job_kind_failover);
    uint64_t back = MUST(&w, plan_reverse, .name = S("p"));
    assert_int_equal(world_row_plan(&w, back).workload_count, 1);
    assert_int_equal(APPLY(&w, plan_reverse, .name = S("p")), FAR_CONFLICT); /* what was moved is protected there */
    MUST(&w, plan_replicate, .name = S("p-back"));
    checkpoint = cycle(); /* both directions at once, of different machines */
    move_some("p", "web", FAR_job_kind_failover);
    assert_true(world_row_plan(&w, plan).moved_ms != 0);
    assert_int_equal(APPLY(&w, plan_replicate, .name = S("p")), FAR_CONFLICT);
    assert_int_equal(MUST(&w, plan_reverse, .name = S("p")), back);
    assert_int_equal(world_row_plan(&w, back).workload_count, 2);
    MUST(&w, plan_replicate, .name = S("p-back"));
    work();
    /* db comes home alone */
    move_some("p-back", "db-back", FAR_job_kind_migration);
    assert_int_equal(world_row_plan(&w, back).moved_count, 1);
    assert_int_equal(MUST(&w, plan_reverse, .name = S("p-back")), plan);
    assert_int_equal(world_row_plan(&w, plan).moved_ms, 0);
    assert_int_equal(world_row_plan(&w, plan).moved_count, 1);
    assert_int_equal(plan_member(db).moved_ms, 0);
    assert_true(plan_member(web).moved_ms != 0);
    checkpoint = cycle();
    assert_int_equal(world_row_job(&w, world_row_checkpoint(&w, checkpoint).job_id).state, FAR_job_state_succeeded);
    assert_true(checkpoint_member(checkpoint, web).moved);
    assert_false(checkpoint_member(checkpoint, db).moved);
    MUST(&w, plan_replicate, .name = S("p-back")); /* web-back is protected over there as before */
    work();
}

/* It was shut down, its point cannot be brought up, and a person goes on without it: it is on again at the source when the others stay. */
static void what_a_migration_goes_on_without_is_turned_on_again(void **unused)
{
    MUST(&w, plan_start, .name = S("p"));
    uint64_t run = begin(FAR_job_kind_migration);
    migrate(run);
    struct far_sub_order orders[16];
    world_pass(&w, 2);
    size_t count = orders_of(dst, run, 0, orders);
    for (size_t i = 0; i < count; i++) {
        if (orders[i].workload_id == web) {
            tell_failed(&orders[i], "no space");
        } else {
            tell_done(&orders[i], (struct far_sub_machine_result){.state = S("")});
        }
    }
    MUST(&w, run_pass, .job_id = run, .workload = S("web"));
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_gate), 1);
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
    MUST(&w, run_commit, .job_id = run);
    world_pass(&w, 2);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_keep), 1);
    do_all(dst, run, FAR_machine_operation_destroy);
    assert_int_equal(run_row(run).phase, FAR_run_phase_unfencing);
    struct far_sub_order on = only(src, run, FAR_machine_operation_source_on);
    assert_int_equal(on.workload_id, web);
    tell_failed(&on, "libvirtd is gone");
    assert_non_null(strstr((const char *)run_row(run).problem.data, "is not on again"));
    MUST(&w, run_retry, .job_id = run);
    assert_int_equal(do_all(src, run, FAR_machine_operation_source_on), 1);
    assert_int_equal(run_row(run).phase, FAR_run_phase_done);
    assert_int_equal(run_row(run).end, FAR_run_end_committed);
    assert_int_equal(world_row_job(&w, run).state, FAR_job_state_partial);
    assert_int_equal(member(run, db).source, FAR_run_source_off);
    assert_int_equal(member(run, web).source, FAR_run_source_on);
    assert_true(plan_member(db).moved_ms != 0);
    assert_int_equal(plan_member(web).moved_ms, 0);
    assert_int_equal(world_row_plan(&w, plan).state, FAR_plan_state_active);
    checkpoint = cycle();
    assert_int_equal(world_row_job(&w, world_row_checkpoint(&w, checkpoint).job_id).state, FAR_job_state_succeeded);
}

/* However many cycles the others have since: where it is, and what was lost, is still known. */
static void the_run_that_moved_a_workload_is_not_forgotten_before_it_is_home(void **unused)
{
    struct far_row_run_lost lost;
    struct far_key key = far_key(&far_schema_row_run_lost);
    MUST(&w, plan_start, .name = S("p"));
    uint64_t first = world_row_job(&w, world_row_checkpoint(&w, checkpoint).job_id).id;
    uint64_t run = move_some("p", "db", FAR_job_kind_failover);
    assert_true(is_job(first));
    for (unsigned i = 0; i < FAR_JOBS_KEPT + 10; i++) {
        checkpoint = cycle();
        far_arena_reset(&w.arena);
    }
    assert_false(is_job(first));
    assert_int_equal(run_row(run).phase, FAR_run_phase_done);
    assert_int_equal(count_jobs(), FAR_JOBS_KEPT + 1); /* it is not one of them */
    far_key_u64(&key, run);
    far_key_u64(&key, db);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_run_lost, &key, &w.arena, &lost, &w.err), 0);
    uint64_t back = MUST(&w, plan_reverse, .name = S("p"));
    assert_int_equal(world_row_plan(&w, back).workload_count, 1);
    MUST(&w, plan_replicate, .name = S("p-back"));
    work();
    move_some("p-back", "db-back", FAR_job_kind_migration);
    MUST(&w, plan_reverse, .name = S("p-back"));
    cycle();
    assert_false(is_job(run)); /* it is of no use any more */
    assert_int_equal(count_jobs(), FAR_JOBS_KEPT);
}

/* So no cycle has a member at home of which it has no tasks: that would count as failed. */
static void nobody_comes_home_while_a_cycle_of_the_plan_runs(void **unused)
{
    MUST(&w, plan_start, .name = S("p"));
    move_some("p", "db", FAR_job_kind_failover);
    MUST(&w, plan_reverse, .name = S("p"));
    MUST(&w, plan_replicate, .name = S("p-back"));
    work();
    move_some("p-back", "db-back", FAR_job_kind_migration);
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    assert_int_equal(APPLY(&w, plan_reverse, .name = S("p-back")), FAR_CONFLICT);
    assert_non_null(strstr(w.result.message, "runs a cycle"));
    assert_true(plan_member(db).moved_ms != 0);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    MUST(&w, plan_reverse, .name = S("p-back"));
    assert_int_equal(plan_member(db).moved_ms, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(what_was_not_moved_goes_on_being_protected),
        IN_A_WORLD(a_promise_is_about_what_was_not_moved),
        IN_A_WORLD(an_active_plan_whose_last_workload_at_home_leaves_is_paused),
        IN_A_WORLD(workloads_that_move_one_by_one_come_home_one_by_one),
        IN_A_WORLD(the_run_that_moved_a_workload_is_not_forgotten_before_it_is_home),
        IN_A_WORLD(nobody_comes_home_while_a_cycle_of_the_plan_runs),
        IN_A_WORLD(what_a_migration_goes_on_without_is_turned_on_again),
    };
    return cmocka_run_group_tests_name("run_moved", tests, NULL, NULL);
}
