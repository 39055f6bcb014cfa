/* What a failover lost, in the core alone: what is known at once, and what the source tells when it is back. */
#include "lib/fsm_world.h"

#include "fsm/query.h"
#include "lib/cm.h"

#include <stdio.h>

static struct world w;
static uint64_t src, dst, web, db, plan;

static void work(void)
{
    world_pass(&w, 2);
    world_work_all(&w, (const uint64_t[]){src, dst}, 2);
}

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    w.lists = true;
    src = world_node(&w, "src", "paris");
    dst = world_node(&w, "dst", "lyon");
    web = world_workload(&w, "web", 2);
    db = world_workload(&w, "db", 1);
    plan = world_plan(&w, "p", (const char *const[]){"web", "db"}, 2);
    MUST(&w, plan_replicate, .name = S("p"));
    work();
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

/* ---- looking ---- */

static struct far_row_run run_row(uint64_t id)
{
    struct far_row_run row;
    struct far_key key = far_key(&far_schema_row_run);
    far_key_u64(&key, id);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_run, &key, &w.arena, &row, &w.err), 0);
    return row;
}

static struct far_run_loss loss_of(uint64_t run, uint64_t workload)
{
    struct far_run_report report;
    assert_int_equal(far_query_run_report(&w.state, run, &w.arena, &report, &w.err), 0);
    for (size_t i = 0; i < report.loss_count; i++) {
        if (report.losses[i].workload_id == workload) {
            return report.losses[i];
        }
    }
    fail_msg("no loss of workload %llu", (unsigned long long)workload);
    return report.losses[0];
}

/* Orders of one kind at a node, at most 32. */
static size_t orders_of(uint64_t node, uint64_t kind, struct far_sub_order *orders)
{
    struct far_list list;
    size_t count = 0;
    assert_int_equal(far_query_orders(&w.state, node, 1000, &w.arena, &list, &w.err), 0);
    for (size_t i = 0; i < list.count; i++) {
        const struct far_sub_order *order = (const struct far_sub_order *)list.items + i;
        if (order->kind == kind) {
            orders[count++] = *order;
        }
    }
    return count;
}

static void tell(const struct far_sub_order *order, struct far_sub_report_item item)
{
    struct far_row_task task = world_row_task(&w, order->job_id, order->task);
    assert_int_equal(world_report(&w, &task, item), 0);
}

static void tell_lost(const struct far_sub_order *order, struct far_sub_lost_result result)
{
    tell(order,
         (struct far_sub_report_item){.state = FAR_report_state_done, .outcome = FAR_outcome_ok, .lost_result = {&result, 1}});
}

/* ---- a site that is lost, and comes back ---- */

/* Until the recovery site has brought up what it can; nobody is at the source. */
static uint64_t fail_over(void)
{
    world_pass(&w, 60000); /* the lease of src ends, dst is heard of */
    world_boot(&w, dst, 90);
    uint64_t run = MUST(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_failover, .fence_s = 1);
    for (unsigned i = 0; i < 60 && run_row(run).phase != FAR_run_phase_up; i++) {
        world_pass(&w, 1500);
        world_work(&w, dst);
    }
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
    return run;
}

static void come_back(uint64_t nonce)
{
    world_boot(&w, src, nonce);
    world_boot(&w, dst, 90);
    world_pass(&w, 2);
}

static void do_fence(void)
{
    struct far_sub_order orders[32];
    struct far_sub_machine_result result = {.state = S("off")};
    size_t count = orders_of(src, FAR_task_kind_machine, orders);
    assert_int_equal(count, 2);
    for (size_t i = 0; i < count; i++) {
        tell(&orders[i], (struct far_sub_report_item){
                             .state = FAR_report_state_done, .outcome = FAR_outcome_ok, .machine_result = {&result, 1}});
    }
    world_pass(&w, 2);
}

static void who_is_not_there_is_not_asked_and_what_is_known_is_an_estimate(void **unused)
{
    uint64_t run = fail_over();
    struct far_run_loss loss = loss_of(run, web);
    assert_int_equal(loss.told.state, FAR_lost_state_unknown);
    assert_true(loss.is_estimate);
    assert_int_equal(loss.lost_ms, run_row(run).begun_ms - loss.frozen_at_ms);
    assert_false(loss.told.was_sending);
    assert_int_equal(loss.disk_count, 0);
    struct far_sub_order orders[32];
    uint64_t job = MUST(&w, run_compare, .job_id = run); /* who asks waits for a node */
    assert_int_equal(orders_of(src, FAR_task_kind_compare, orders), 0);
    come_back(91);
    assert_int_equal(orders_of(src, FAR_task_kind_compare, orders), 2);
    world_pass(&w, 60000);
    world_boot(&w, dst, 90);
    MUST(&w, job_cancel, .job_id = job);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_canceled);
    assert_int_equal(APPLY(&w, run_compare, .job_id = run + 1000), FAR_NOT_FOUND);
}

static void a_cycle_that_is_cut_short_says_how_much_it_had_found(void **unused)
{
    struct far_sub_order sends[32], freezes[32];
    MUST(&w, plan_replicate, .name = S("p"));
    world_pass(&w, 2);
    assert_int_equal(orders_of(src, FAR_task_kind_freeze, freezes), 2);
    world_work(&w, src);
    assert_int_equal(orders_of(src, FAR_task_kind_send, sends), 3);
    for (size_t i = 0; i < 3; i++) {
        uint64_t changed = sends[i].workload_id == web ? 5 * 65536 : 0;
        tell(&sends[i], (struct far_sub_report_item){.state = FAR_report_state_running, .bytes_total = 1 << 30, .bytes_changed = changed});
    }
    uint64_t run = MUST(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_failover);
    struct far_run_loss loss = loss_of(run, web);
    assert_true(loss.told.was_sending);
    assert_int_equal(loss.told.seen_bytes, 10 * 65536); /* of both disks */
    assert_true(loss_of(run, db).told.was_sending);
    assert_int_equal(loss_of(run, db).told.seen_bytes, 0);
}

static void a_source_that_is_back_tells_what_was_lost(void **unused)
{
    uint64_t run = fail_over();
    struct far_sub_order orders[32], leaves[32];
    come_back(91);
    assert_int_equal(orders_of(src, FAR_task_kind_compare, orders), 0); /* it is turned off first */
    do_fence();
    assert_int_equal(orders_of(src, FAR_task_kind_compare, orders), 2);
    assert_int_equal(orders_of(dst, FAR_task_kind_leaves, leaves), 2);
    const struct far_sub_order *order = orders[0].workload_id == web ? &orders[0] : &orders[1];
    const struct far_sub_point_disk *points = order->point_disks.items;
    const struct far_slice *since = order->since_each.items;
    assert_int_equal(order->disks.count, 2);
    assert_int_equal(order->point_disks.count, 2);
    assert_true(since[0].len > 0 && since[1].len > 0); /* its list holds since the point */
    assert_int_equal(order->disk_id, points[0].disk_id);
    assert_int_equal(order->peer_node_id, dst);
    assert_int_equal(loss_of(run, web).told.state, FAR_lost_state_comparing);
    struct far_sub_byte_range extents[2] = {{.offset = 0, .length = 65536}, {.offset = 1 << 20, .length = 131072}};
    struct far_sub_lost_disk disks[2] = {
        {.disk_id = points[0].disk_id, .name = S("root"), .size_bytes = 1 << 30, .lost_bytes = 196608, .extent_count = 2,
         .extents = {extents, 2}, .by_list = true},
        {.disk_id = points[1].disk_id, .name = S("data"), .problem = S("it is gone"), .skipped = true}};
    tell_lost(order, (struct far_sub_lost_result){.written_ms = order->frozen_at_ms + 1700, .disks = {disks, 2}});
    struct far_run_loss loss = loss_of(run, web);
    assert_int_equal(loss.told.state, FAR_lost_state_compared);
    assert_int_equal(loss.lost_bytes, 196608);
    assert_int_equal(loss.extent_count, 2);
    assert_int_equal(loss.disk_count, 2);
    assert_true(loss.is_estimate); /* of one disk nobody knows */
    work();
    loss = loss_of(run, db); /* of which the world tells one block, written half a second after the freeze */
    assert_int_equal(loss.lost_ms, 500);
    assert_false(loss.is_estimate);
    assert_int_equal(loss.lost_bytes, 65536);
    struct far_row_job job = world_row_job(&w, loss.told.compare_job_id);
    assert_int_equal(job.state, FAR_job_state_succeeded);
    assert_int_equal(orders_of(dst, FAR_task_kind_leaves, leaves), 0); /* it ended with the source's side */
    MUST(&w, run_commit, .job_id = run);
    work();
    assert_int_equal(run_row(run).phase, FAR_run_phase_done);
    assert_int_equal(loss_of(run, web).extent_count, 2); /* it outlives the run */
    uint64_t again = MUST(&w, run_compare, .job_id = run);
    work();
    assert_int_equal(loss_of(run, web).told.compare_job_id, again);
    assert_int_equal(loss_of(run, web).lost_bytes, 2 * 65536);
}

static void a_source_that_comes_back_after_the_commit_is_compared_as_it_is(void **unused)
{
    uint64_t run = fail_over();
    struct far_sub_order orders[32];
    MUST(&w, run_commit, .job_id = run);
    world_work_all(&w, &dst, 1);
    assert_int_equal(run_row(run).phase, FAR_run_phase_done);
    come_back(91);
    assert_int_equal(orders_of(src, FAR_task_kind_machine, orders), 0); /* nobody turns it off any more */
    assert_int_equal(orders_of(src, FAR_task_kind_compare, orders), 2);
    for (size_t i = 0; i < 2; i++) {
        tell_lost(&orders[i], (struct far_sub_lost_result){.runs = orders[i].workload_id == web});
    }
    world_pass(&w, 2);
    assert_true(loss_of(run, web).told.has_run_since);
    assert_true(loss_of(run, web).is_estimate);
    assert_false(loss_of(run, db).told.has_run_since);
    come_back(92); /* it is told: nobody asks again */
    assert_int_equal(orders_of(src, FAR_task_kind_compare, orders), 0);
}

static void what_is_written_after_the_fence_was_not_lost_by_it(void **unused)
{
    uint64_t run = fail_over();
    struct far_sub_order orders[32];
    come_back(91);
    do_fence();
    world_pass(&w, 1000);
    assert_int_equal(orders_of(src, FAR_task_kind_compare, orders), 2);
    tell_lost(&orders[0], (struct far_sub_lost_result){.written_ms = w.now_ms + 60000});
    assert_true(loss_of(run, orders[0].workload_id).told.has_run_since);
}

/* It had a node, so nobody knows: the comparison does not wait for the commit, and somebody can have it turned off again. */
static void a_source_that_is_back_and_cannot_be_turned_off_is_compared_as_it_is(void **unused)
{
    uint64_t run = fail_over();
    struct far_sub_order orders[32];
    come_back(91);
    assert_int_equal(orders_of(src, FAR_task_kind_machine, orders), 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(orders_of(src, FAR_task_kind_compare, &orders[2]), 0);
        tell(&orders[i], (struct far_sub_report_item){.state = FAR_report_state_failed,
                                                      .outcome = FAR_outcome_fatal,
                                                      .error_class = S("io"),
                                                      .error_message = S("it does not listen")});
    }
    world_pass(&w, 2);
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
    assert_int_equal(orders_of(src, FAR_task_kind_machine, orders), 0);
    assert_int_equal(orders_of(src, FAR_task_kind_compare, orders), 2);
    MUST(&w, run_retry, .job_id = run);
    world_pass(&w, 2);
    do_fence();
    assert_int_equal(APPLY(&w, run_retry, .job_id = run), FAR_CONFLICT);
    work();
    assert_int_equal(loss_of(run, web).told.state, FAR_lost_state_compared);
    assert_int_equal(loss_of(run, db).told.state, FAR_lost_state_compared);
}

/* Killed, lost, canceled. */
static void a_comparison_goes_on_with_another_attempt_and_can_be_canceled(void **unused)
{
    uint64_t run = fail_over();
    struct far_sub_order orders[32], leaves[32];
    come_back(91);
    do_fence();
    assert_int_equal(orders_of(src, FAR_task_kind_compare, orders), 2);
    uint64_t attempt = orders[0].attempt, job = orders[0].job_id;
    world_boot(&w, src, 92); /* it died */
    world_pass(&w, 2);
    assert_int_equal(orders_of(src, FAR_task_kind_compare, orders), 2);
    assert_int_equal(orders_of(dst, FAR_task_kind_leaves, leaves), 2);
    assert_int_equal(orders[0].attempt, attempt + 1);
    assert_int_equal(leaves[0].attempt, attempt + 1); /* both begin anew */
    tell(&orders[0], (struct far_sub_report_item){.state = FAR_report_state_failed,
                                                  .outcome = FAR_outcome_fatal,
                                                  .error_class = S("io"),
                                                  .error_message = S("nothing to be read")});
    MUST(&w, job_cancel, .job_id = job);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_failed);
    struct far_run_loss failed = loss_of(run, orders[0].workload_id), canceled = loss_of(run, orders[1].workload_id);
    assert_int_equal(failed.told.state, FAR_lost_state_failed);
    assert_non_null(strstr((const char *)failed.told.note.data, "nothing to be read"));
    assert_non_null(strstr((const char *)canceled.told.note.data, "canceled"));
    come_back(93);
    assert_int_equal(orders_of(src, FAR_task_kind_compare, orders), 0); /* a person begins it again */
    MUST(&w, run_compare, .job_id = run);
    assert_int_equal(APPLY(&w, run_compare, .job_id = run), FAR_CONFLICT);
    work();
    assert_int_equal(loss_of(run, web).told.state, FAR_lost_state_compared);
    assert_int_equal(loss_of(run, db).told.state, FAR_lost_state_compared);
}

static void a_run_that_is_rolled_back_has_lost_nothing(void **unused)
{
    uint64_t run = fail_over();
    struct far_sub_order orders[32];
    come_back(91);
    do_fence();
    assert_int_equal(orders_of(src, FAR_task_kind_compare, orders), 2);
    MUST(&w, run_roll_back, .job_id = run);
    assert_int_equal(orders_of(src, FAR_task_kind_compare, orders), 0);
    work();
    assert_int_equal(run_row(run).phase, FAR_run_phase_done);
    assert_int_equal(loss_of(run, web).told.state, FAR_lost_state_none);
    assert_int_equal(loss_of(run, web).lost_ms, 0);
    assert_int_equal(APPLY(&w, run_compare, .job_id = run), FAR_CONFLICT);
}

/* The point is the newest no more, or its lists are not believed. */
static void an_older_point_is_compared_as_a_whole(void **unused)
{
    uint64_t old = world_row_workload(&w, web).last_point_id;
    struct far_row_point point = world_row_point(&w, old);
    struct far_sub_order orders[32];
    MUST(&w, plan_replicate, .name = S("p"));
    work();
    world_pass(&w, 60000);
    world_boot(&w, dst, 90);
    uint64_t run = MUST(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_failover, .fence_s = 1, .checkpoint_id = point.checkpoint_id);
    for (unsigned i = 0; i < 60 && run_row(run).phase != FAR_run_phase_up; i++) {
        world_pass(&w, 1500);
        world_work(&w, dst);
    }
    come_back(91);
    do_fence();
    assert_int_equal(orders_of(src, FAR_task_kind_compare, orders), 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(((const struct far_slice *)orders[i].since_each.items)[0].len, 0);
    }
    work();
    assert_int_equal(loss_of(run, web).told.state, FAR_lost_state_compared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_is_not_there_is_not_asked_and_what_is_known_is_an_estimate, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cycle_that_is_cut_short_says_how_much_it_had_found, setup, teardown),
        cmocka_unit_test_setup_teardown(a_source_that_is_back_tells_what_was_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(a_source_that_comes_back_after_the_commit_is_compared_as_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_written_after_the_fence_was_not_lost_by_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_source_that_is_back_and_cannot_be_turned_off_is_compared_as_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(a_comparison_goes_on_with_another_attempt_and_can_be_canceled, setup, teardown),
        cmocka_unit_test_setup_teardown(a_run_that_is_rolled_back_has_lost_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(an_older_point_is_compared_as_a_whole, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
