/* What is done again in a run, in the core alone: machines that may have run from their disks, and many at once. */
#include "lib/run_world.h"

static void tell_class(const struct far_sub_order *order, const char *klass, const char *message)
{
    tell(order, (struct far_sub_report_item){.state = FAR_report_state_failed,
                                             .outcome = FAR_outcome_fatal,
                                             .error_class = S(klass),
                                             .error_message = S(message)});
}

static void a_machine_that_may_have_run_is_destroyed_and_written_out_anew(void **unused)
{
    uint64_t run = begin(FAR_job_kind_test_recovery);
    struct far_sub_order orders[16];
    assert_int_equal(do_all(dst, run, 0), 3);
    struct far_sub_order up = only(dst, run, FAR_machine_operation_up);
    tell_failed(&up, "it was on, and is not any more");
    assert_true(member(run, db).stale);
    world_pass(&w, 2);
    assert_int_equal(orders_of(dst, run, FAR_machine_operation_destroy, orders), 0); /* a person says so */
    MUST(&w, run_retry, .job_id = run);
    world_pass(&w, 2);
    assert_int_equal(orders_of(dst, run, FAR_machine_operation_up, orders), 0); /* not from these disks */
    assert_int_equal(orders_of(dst, run, 0, orders), 0);
    struct far_sub_order destroy = only(dst, run, FAR_machine_operation_destroy);
    assert_int_equal(destroy.workload_id, db);
    tell_failed(&destroy, "libvirtd is gone");
    assert_non_null(strstr((const char *)run_row(run).problem.data, "libvirtd is gone"));
    MUST(&w, run_retry, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 1);
    assert_false(member(run, db).stale);
    struct far_sub_order restore = only(dst, run, 0); /* its one disk, and not those of web */
    assert_int_equal(restore.workload_id, db);
    tell_failed(&restore, "no space");
    MUST(&w, run_retry, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 0); /* nothing has run from it since */
    assert_int_equal(do_all(dst, run, 0), 1);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1);
    assert_int_equal(member(run, db).state, FAR_run_member_state_gating);
    MUST(&w, job_cancel, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2);
    assert_over(run, FAR_job_state_canceled);
}

static void a_node_that_does_not_know_whether_it_ran_is_believed(void **unused)
{
    uint64_t run = begin(FAR_job_kind_test_recovery);
    struct far_sub_order orders[16];
    assert_int_equal(do_all(dst, run, 0), 3);
    for (unsigned i = 0; i < 3; i++) { /* by itself, but not for ever */
        struct far_sub_order up = only(dst, run, FAR_machine_operation_up);
        tell_class(&up, "unknown_outcome", "an earlier attempt made it, and it is off");
        assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 1);
        assert_int_equal(do_all(dst, run, 0), 1);
    }
    struct far_sub_order up = only(dst, run, FAR_machine_operation_up);
    tell_class(&up, "unknown_outcome", "an earlier attempt made it, and it is off");
    world_pass(&w, 2);
    assert_int_equal(orders_of(dst, run, FAR_machine_operation_destroy, orders), 0);
    assert_non_null(strstr((const char *)run_row(run).problem.data, "did not come up"));
    MUST(&w, run_finish, .job_id = run); /* ended in between it is cleaned up as any other */
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2);
    assert_over(run, FAR_job_state_canceled);
}

static void a_run_that_ends_while_a_machine_is_made_anew_cleans_up(void **unused)
{
    uint64_t run = begin(FAR_job_kind_test_recovery);
    assert_int_equal(do_all(dst, run, 0), 3);
    struct far_sub_order up = only(dst, run, FAR_machine_operation_up);
    tell_failed(&up, "it was on, and is not any more");
    MUST(&w, run_retry, .job_id = run);
    MUST(&w, run_finish, .job_id = run); /* the destroy that has begun is the one of the end */
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2);
    assert_int_equal(member(run, db).state, FAR_run_member_state_cleaned);
    assert_over(run, FAR_job_state_canceled);
}

/* Each of 130 workloads has failed, and its source is uncertain, too: 260 changes, in two events. */
static void all_that_failed_is_done_again_however_many_they_are(void **unused)
{
    enum { MANY = 130 };
    static char names[MANY][16];
    const char *list[MANY];
    uint64_t ids[MANY];
    for (size_t i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "vm%03zu", i);
        list[i] = names[i];
        ids[i] = world_workload(&w, names[i], 1);
    }
    world_plan(&w, "big", list, MANY);
    MUST(&w, plan_replicate, .name = S("big"));
    work();
    uint64_t run = MUST(&w, run_start, .plan = S("big"), .kind = FAR_job_kind_failover, .fence_s = 3600);
    for (unsigned round = 0; round < 20; round++) {
        struct far_list orders;
        world_pass(&w, 2);
        for (unsigned n = 0; n < 2; n++) {
            assert_int_equal(far_query_orders(&w.state, n == 0 ? src : dst, 1000, &w.arena, &orders, &w.err), 0);
            for (size_t i = 0; i < orders.count; i++) {
                const struct far_sub_order *order = (const struct far_sub_order *)orders.items + i;
                if (order->job_id == run) {
                    tell_failed(order, "no");
                }
            }
        }
    }
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(member(run, ids[i]).state, FAR_run_member_state_failed);
        assert_int_equal(member(run, ids[i]).source, FAR_run_source_uncertain);
    }
    MUST(&w, run_retry, .job_id = run);
    world_pass(&w, 2);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(member(run, ids[i]).state, FAR_run_member_state_preparing);
        assert_int_equal(member(run, ids[i]).source, FAR_run_source_turning_off);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(a_machine_that_may_have_run_is_destroyed_and_written_out_anew),
        IN_A_WORLD(a_node_that_does_not_know_whether_it_ran_is_believed),
        IN_A_WORLD(a_run_that_ends_while_a_machine_is_made_anew_cleans_up),
        IN_A_WORLD(all_that_failed_is_done_again_however_many_they_are),
    };
    return cmocka_run_group_tests_name("run_again", tests, NULL, NULL);
}
