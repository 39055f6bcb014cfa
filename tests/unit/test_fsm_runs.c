/* Runs of plans in the core alone: test recovery, failover and migration, by commands and by what nodes report. */
#include "lib/run_world.h"

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

static void fail_gate(uint64_t run, const char *klass, const char *message)
{
    struct far_sub_order gate = only(dst, run, FAR_machine_operation_gate);
    tell(&gate, (struct far_sub_report_item){.state = FAR_report_state_failed,
                                             .outcome = FAR_outcome_fatal,
                                             .error_class = S(klass),
                                             .error_message = S(message)});
}

static void a_machine_that_its_script_refused_is_powered_on_when_a_person_says_so(void **unused)
{
    uint64_t run = begin(FAR_job_kind_test_recovery);
    struct far_sub_order orders[16];
    assert_int_equal(do_all(dst, run, 0), 3);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1);
    fail_gate(run, "denied", "the script said no");
    world_pass(&w, 2);
    assert_int_equal(orders_of(dst, run, FAR_machine_operation_up, orders), 0);
    assert_non_null(strstr((const char *)run_row(run).problem.data, "the script said no"));
    MUST(&w, run_retry, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1);
    MUST(&w, run_finish, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2);
    assert_over(run, FAR_job_state_canceled);
}

static void a_machine_that_went_off_at_its_gate_is_powered_on_once_by_itself_then_when_that_is_tried_again(void **unused)
{
    uint64_t run = begin(FAR_job_kind_test_recovery);
    struct far_sub_order orders[16];
    assert_int_equal(do_all(dst, run, 0), 3);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1);
    fail_gate(run, "conflict", "the machine went off");
    assert_int_equal(run_row(run).problem.len, 0);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1);
    fail_gate(run, "conflict", "the machine went off");
    world_pass(&w, 2);
    assert_int_equal(orders_of(dst, run, FAR_machine_operation_up, orders), 0);
    assert_non_null(strstr((const char *)run_row(run).problem.data, "went off"));
    MUST(&w, run_retry, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_gate), 1);
    assert_int_equal(member(run, db).state, FAR_run_member_state_passed);
    MUST(&w, run_finish, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2);
    assert_over(run, FAR_job_state_canceled);
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

/* With all that a configuration can say: lists in lists in lists. */
static void an_order_goes_over_the_wire_as_it_is(void **unused)
{
    struct far_slice dns = S("10.0.0.1");
    struct far_sub_recovery_nic nic = {.nic = 0, .network = S("lan"), .mode = FAR_address_mode_static, .address = S("10.0.0.7"),
                                       .prefix = 24, .dns = {&dns, 1}};
    struct far_sub_recovery_gate gate = {.kind = FAR_gate_kind_agent, .timeout_s = 30};
    struct far_sub_label tag = {.key = S("owner"), .value = S("ann")};
    struct far_sub_network_map map = {.source = S("vms"), .target = S("far")};
    configure("db", (struct far_sub_recovery){.gates = {&gate, 1}, .tags = {&tag, 1}, .nics = {&nic, 1}, .memory_bytes = 1 << 30});
    MUST(&w, plan_networks_set, .name = S("p"), .networks = {&map, 1});
    checkpoint = cycle();
    uint64_t run = begin(FAR_job_kind_test_recovery);
    assert_int_equal(do_all(dst, run, 0), 3);
    struct far_list list;
    struct far_buf wire;
    struct far_msg_orders got;
    assert_int_equal(far_query_orders(&w.state, dst, 100, &w.arena, &list, &w.err), 0);
    struct far_msg_orders sent = {.start = list};
    far_buf_init(&wire, 1 << 20);
    assert_int_equal(far_schema_encode(&far_schema_msg_orders, &sent, &wire, &w.err), 0);
    assert_int_equal(far_schema_decode(&far_schema_msg_orders, far_buf_slice(&wire), &w.arena, &got, &w.err), 0);
    const struct far_sub_order *order = got.start.items;
    const struct far_sub_recovery *recovery = machine_of(order)->recovery.items;
    const struct far_sub_recovery_nic *card = recovery->nics.items;
    assert_int_equal(order->kind, FAR_task_kind_machine);
    assert_true(far_slice_equal(((const struct far_slice *)card->dns.items)[0], dns));
    assert_true(far_slice_equal(((const struct far_sub_network_map *)machine_of(order)->networks.items)->target, S("far")));
    assert_int_equal(recovery->gates.count, 1);
    far_buf_done(&wire);
    MUST(&w, job_cancel, .job_id = run);
    work();
}

/* The networks and the configuration of then, not those of now. */
static void what_is_set_later_changes_nothing_of_an_older_checkpoint(void **unused)
{
    configure("db", (struct far_sub_recovery){.processors = 8, .recovered_name = S("other")});
    uint64_t run = begin(FAR_job_kind_failover);
    assert_true(far_slice_equal(member(run, db).machine, S("db-dr")));
    assert_int_equal(member(run, db).gate_count, 1);
    assert_int_equal(member(run, db).delay_s, 5);
    MUST(&w, job_cancel, .job_id = run);
    work();
    assert_over(run, FAR_job_state_canceled);
}

/* ---- failover ---- */

static void a_failover_fences_the_source_and_is_committed(void **unused)
{
    MUST(&w, plan_start, .name = S("p"));
    uint64_t run = begin(FAR_job_kind_failover);
    assert_int_equal(world_row_plan(&w, plan).state, FAR_plan_state_paused);
    assert_int_equal(world_row_plan(&w, plan).run_job_id, run);
    struct far_sub_order orders[16];
    assert_int_equal(orders_of(src, run, FAR_machine_operation_source_off, orders), 2);
    assert_int_equal(orders[0].disks.count + orders[1].disks.count, 3); /* by these the node finds the machines */
    assert_int_equal(do_all(dst, run, 0), 3);
    assert_int_equal(run_row(run).phase, FAR_run_phase_preparing); /* it waits for the fence */
    assert_int_equal(do_all(src, run, FAR_machine_operation_source_off), 2);
    struct far_sub_order up = only(dst, run, FAR_machine_operation_up);
    assert_false(machine_of(&up)->isolated);
    assert_true(far_slice_equal(machine_of(&up)->name, S("db-dr")));
    assert_int_equal(APPLY(&w, plan_replicate, .name = S("p")), FAR_CONFLICT);
    assert_int_equal(APPLY(&w, plan_resume, .name = S("p")), FAR_CONFLICT);
    assert_int_equal(APPLY(&w, plan_remove, .name = S("p")), FAR_CONFLICT);
    assert_int_equal(APPLY(&w, plan_workloads_remove, .name = S("p"), .workloads = {&(struct far_slice){(const uint8_t *)"db", 2}, 1}),
                     FAR_CONFLICT);
    assert_int_equal(APPLY(&w, run_commit, .job_id = run), FAR_CONFLICT);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_gate), 1);
    world_pass(&w, 5000);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1);
    MUST(&w, run_pass, .job_id = run, .workload = S("web"));
    MUST(&w, run_commit, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_keep), 2);
    assert_over(run, FAR_job_state_succeeded);
    assert_int_equal(member(run, web).state, FAR_run_member_state_kept);
    assert_true(world_row_plan(&w, plan).moved_ms != 0);
    assert_int_equal(APPLY(&w, plan_start, .name = S("p")), FAR_CONFLICT); /* what the source has is older */
    assert_int_equal(APPLY(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_test_recovery), FAR_CONFLICT);
}

static void a_failover_that_is_rolled_back_starts_the_source_and_the_plan(void **unused)
{
    MUST(&w, plan_start, .name = S("p"));
    uint64_t run = begin(FAR_job_kind_failover);
    struct far_sub_order orders[16];
    world_pass(&w, 2);
    assert_int_equal(orders_of(src, run, FAR_machine_operation_source_off, orders), 2);
    tell_done(&orders[0], (struct far_sub_machine_result){.was_off = true});
    tell_done(&orders[1], (struct far_sub_machine_result){.state = S("off")});
    bring_up(run);
    MUST(&w, run_roll_back, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2);
    assert_int_equal(run_row(run).phase, FAR_run_phase_unfencing);
    assert_int_equal(do_all(src, run, FAR_machine_operation_source_on), 1); /* not the one that had been off before */
    assert_over(run, FAR_job_state_canceled);
    assert_int_equal(world_row_plan(&w, plan).state, FAR_plan_state_active);
    assert_int_equal(world_row_plan(&w, plan).moved_ms, 0);
}

static void a_failover_does_not_wait_for_a_source_that_is_gone(void **unused)
{
    world_pass(&w, 20000); /* both leases end */
    world_boot(&w, dst, 60);
    uint64_t run = begin(FAR_job_kind_failover);
    assert_int_equal(member(run, web).source, FAR_run_source_unreachable);
    bring_up(run);
    MUST(&w, run_roll_back, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2);
    assert_over(run, FAR_job_state_canceled); /* nothing of the source was changed */
}

static void a_source_that_could_not_be_shut_down_is_tried_again_when_somebody_says_so(void **unused)
{
    uint64_t run = begin(FAR_job_kind_failover);
    struct far_sub_order orders[16];
    world_pass(&w, 2);
    assert_int_equal(orders_of(src, run, FAR_machine_operation_source_off, orders), 2);
    tell_failed(&orders[0], "it does not listen");
    tell_done(&orders[1], (struct far_sub_machine_result){.state = S("off")});
    bring_up(run);
    uint64_t left = orders[0].workload_id;
    assert_int_equal(member(run, left).source, FAR_run_source_uncertain);
    world_boot(&w, src, 80);
    MUST(&w, run_retry, .job_id = run);
    assert_int_equal(do_all(src, run, FAR_machine_operation_source_off), 1);
    assert_int_equal(member(run, left).source, FAR_run_source_off);
    assert_int_equal(APPLY(&w, run_retry, .job_id = run), FAR_CONFLICT);
    MUST(&w, run_commit, .job_id = run);
    assert_int_equal(w.result.message[0], '\0');
    assert_int_equal(do_all(dst, run, FAR_machine_operation_keep), 2);
    assert_over(run, FAR_job_state_succeeded);
}

static void who_commits_is_told_that_the_source_may_be_on(void **unused)
{
    world_pass(&w, 20000);
    world_boot(&w, dst, 60);
    uint64_t run = begin(FAR_job_kind_failover);
    bring_up(run);
    MUST(&w, run_commit, .job_id = run);
    assert_non_null(strstr(w.result.message, "2 machines of the source"));
    assert_int_equal(do_all(dst, run, FAR_machine_operation_keep), 2);
    assert_over(run, FAR_job_state_succeeded);
}

/* Undefined, renamed or moved: it may run elsewhere. A failover goes on, and says so to whoever commits. */
static void a_source_that_is_absent_is_not_taken_for_off(void **unused)
{
    uint64_t run = begin(FAR_job_kind_failover);
    struct far_sub_order orders[16];
    world_pass(&w, 2);
    assert_int_equal(orders_of(src, run, FAR_machine_operation_source_off, orders), 2);
    tell_done(&orders[0], (struct far_sub_machine_result){.state = S("absent")});
    tell_done(&orders[1], (struct far_sub_machine_result){.state = S("off")});
    uint64_t id = orders[0].workload_id;
    assert_int_equal(member(run, id).source, FAR_run_source_absent);
    assert_false(member(run, id).was_off);
    bring_up(run);
    MUST(&w, run_retry, .job_id = run); /* it is looked for again */
    assert_int_equal(member(run, id).source, FAR_run_source_turning_off);
    orders[0] = only(src, run, FAR_machine_operation_source_off);
    tell_done(&orders[0], (struct far_sub_machine_result){.state = S("absent")});
    MUST(&w, run_commit, .job_id = run);
    assert_non_null(strstr(w.result.message, "1 machines of the source are not known to be off"));
    assert_non_null(strstr(w.result.message, "1 of them were not found there"));
    assert_int_equal(do_all(dst, run, FAR_machine_operation_keep), 2);
    assert_over(run, FAR_job_state_succeeded);
}

static void a_source_that_comes_back_is_fenced_then(void **unused)
{
    world_pass(&w, 20000);
    world_boot(&w, dst, 60);
    uint64_t run = begin(FAR_job_kind_failover);
    bring_up(run);
    struct far_sub_order orders[16];
    assert_int_equal(orders_of(src, run, FAR_machine_operation_source_off, orders), 0);
    world_boot(&w, src, 61);
    assert_int_equal(do_all(src, run, FAR_machine_operation_source_off), 2);
    assert_int_equal(member(run, web).source, FAR_run_source_off);
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
    MUST(&w, run_roll_back, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2);
    assert_int_equal(do_all(src, run, FAR_machine_operation_source_on), 2);
    assert_over(run, FAR_job_state_canceled);
}

static void a_source_that_does_not_answer_is_waited_for_as_long_as_was_said(void **unused)
{
    uint64_t run = MUST(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_failover, .fence_s = 5);
    assert_int_equal(do_all(dst, run, 0), 3);
    world_pass(&w, 5000);
    assert_int_equal(member(run, web).source, FAR_run_source_turning_off);
    assert_int_equal(run_row(run).phase, FAR_run_phase_starting);
    MUST(&w, run_roll_back, .job_id = run);
    assert_int_equal(member(run, web).source, FAR_run_source_uncertain);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1); /* db's, which the node has already */
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2);
    assert_int_equal(do_all(src, run, FAR_machine_operation_source_on), 2); /* it may have been shut down after all */
    assert_over(run, FAR_job_state_canceled);
}

static void a_window_that_is_over_commits(void **unused)
{
    uint64_t run = MUST(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_failover, .window_s = 10);
    assert_int_equal(do_all(src, run, FAR_machine_operation_source_off), 2);
    bring_up(run);
    assert_int_equal(APPLY(&w, run_finish, .job_id = run), FAR_CONFLICT); /* is it to stay, or to go? */
    world_pass(&w, 10000);
    assert_int_equal(run_row(run).phase, FAR_run_phase_committing);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_keep), 2);
    assert_over(run, FAR_job_state_succeeded);
}

/* From the vault at once: no disk is written out before, a gate is waited for beside it, and a commit waits until nothing needs it. */
static void at_once_machines_come_up_first_and_are_kept_when_they_are_written_out(void **unused)
{
    struct far_sub_order orders[16];
    uint64_t run = MUST(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_failover, .at_once = true);
    assert_int_equal(do_all(src, run, FAR_machine_operation_source_off), 2);
    assert_int_equal(orders_of(dst, run, 0, orders), 0);
    struct far_sub_order up = only(dst, run, FAR_machine_operation_up);
    assert_true(machine_of(&up)->at_once);
    assert_true(((const struct far_sub_machine_disk *)machine_of(&up)->disks.items)->format == FAR_image_format_qcow2);
    tell_done(&up, (struct far_sub_machine_result){.state = S("running")});
    struct far_sub_order first = only(dst, run, FAR_machine_operation_hydrate);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_gate), 1); /* beside it */
    assert_int_equal(member(run, db).state, FAR_run_member_state_passed);
    world_pass(&w, 5000);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1);
    MUST(&w, run_pass, .job_id = run, .workload = S("web"));
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
    tell_failed(&first, "no space is left");
    assert_int_equal(member(run, db).state, FAR_run_member_state_passed);
    assert_int_equal(member(run, db).hydration, FAR_run_hydration_failed);
    assert_non_null(strstr((const char *)run_row(run).problem.data, "no space is left"));
    MUST(&w, run_commit, .job_id = run);
    assert_int_equal(orders_of(dst, run, FAR_machine_operation_keep, orders), 0);
    MUST(&w, run_retry, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_hydrate), 2);
    assert_true(member(run, db).hydrated_ms == w.now_ms && run_row(run).problem.len == 0);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_keep), 2);
    assert_over(run, FAR_job_state_succeeded);
}

/* What is written out is told to stop, and only when it has does the machine go. */
static void at_once_a_test_ends_whatever_is_written_out(void **unused)
{
    struct far_sub_order orders[16];
    uint64_t run = MUST(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_test_recovery, .at_once = true);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1);
    struct far_sub_order first = only(dst, run, FAR_machine_operation_hydrate);
    MUST(&w, run_finish, .job_id = run);
    assert_int_equal(orders_of(dst, run, FAR_machine_operation_hydrate, orders), 0);
    tell_failed(&first, "canceled");
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 1);
    assert_over(run, FAR_job_state_canceled);
}

static void the_report_tells_what_was_our_own(void **unused)
{
    uint64_t begun_ms = w.now_ms;
    uint64_t run = begin(FAR_job_kind_failover);
    struct far_run_report report;
    world_pass(&w, 1000);
    assert_int_equal(do_all(src, run, FAR_machine_operation_source_off), 2);
    uint64_t off_ms = w.now_ms;
    world_pass(&w, 2000);
    assert_int_equal(do_all(dst, run, 0), 3);
    struct far_sub_order up = only(dst, run, FAR_machine_operation_up);
    world_pass(&w, 4000);
    tell_done(&up, (struct far_sub_machine_result){.platform_ms = 3000});
    struct far_sub_order gate = only(dst, run, FAR_machine_operation_gate);
    world_pass(&w, 7000);
    tell_done(&gate, (struct far_sub_machine_result){.waited_ms = 6900});
    world_pass(&w, 5000);
    up = only(dst, run, FAR_machine_operation_up);
    tell_done(&up, (struct far_sub_machine_result){.state = S("running")});
    MUST(&w, run_pass, .job_id = run, .workload = S("web"));
    assert_int_equal(far_query_run_report(&w.state, run, &w.arena, &report, &w.err), 0);
    assert_int_equal(report.step_count, 2);
    assert_int_equal(report.steps[0].slowest_id, db);
    assert_int_equal(report.steps[0].platform_ms, 3000);
    assert_int_equal(report.steps[0].waited_ms, 6900);
    assert_int_equal(report.steps[0].delay_ms, 5000);
    assert_in_range(report.steps[0].own_ms, 1000, 1300);
    assert_int_equal(report.total_ms, run_row(run).up_ms - run_row(run).begun_ms);
    assert_in_range(report.own_ms, report.total_ms - 3000 - 6900 - 5000, report.total_ms - 3000 - 6900 - 5000);
    assert_int_equal(report.loss_count, 2);
    assert_true(run_row(run).begun_ms >= begun_ms);
    assert_in_range(report.worst_lost_ms, 1, off_ms - world_row_point(&w, member(run, web).point_id).frozen_at_ms + 10);
    assert_int_equal(far_query_run_report(&w.state, 9999, &w.arena, &report, &w.err), FAR_NOT_FOUND);
    MUST(&w, run_roll_back, .job_id = run);
    world_boot(&w, src, 60);
    world_boot(&w, dst, 61);
    work();
    assert_over(run, FAR_job_state_canceled);
}

/* ---- migration ---- */

static void a_migration_comes_up_from_what_was_written_last(void **unused)
{
    MUST(&w, plan_start, .name = S("p"));
    uint64_t run = begin(FAR_job_kind_migration);
    assert_true(run_row(run).forecast_ms >= 10000); /* a guess: no run has told */
    migrate(run);
    struct far_row_run row = run_row(run);
    assert_int_equal(world_row_point(&w, member(run, web).point_id).job_id, row.cycle_job_id);
    assert_int_equal(world_row_point(&w, member(run, db).point_id).job_id, row.cycle_job_id);
    assert_true(world_row_job(&w, row.cycle_job_id).started_ms >= row.off_ms);
    assert_int_equal(world_row_checkpoint(&w, row.checkpoint_id).readers, 1);
    bring_up(run);
    MUST(&w, run_commit, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_keep), 2);
    assert_over(run, FAR_job_state_succeeded);
    assert_int_equal(world_row_checkpoint(&w, row.checkpoint_id).readers, 0);
}

static void a_forecast_goes_by_what_earlier_runs_took(void **unused)
{
    MUST(&w, plan_start, .name = S("p"));
    uint64_t run = begin(FAR_job_kind_test_recovery);
    bring_up(run);
    struct far_row_run row = run_row(run);
    MUST(&w, run_finish, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2);
    struct far_row_job cycle = world_row_job(&w, world_row_checkpoint(&w, checkpoint).job_id);
    uint64_t next = begin(FAR_job_kind_migration);
    assert_int_equal(run_row(next).forecast_ms, row.up_ms - row.begun_ms + (cycle.finished_ms - cycle.started_ms));
}

static void a_migration_waits_for_a_source_that_is_absent(void **unused)
{
    uint64_t run = begin(FAR_job_kind_migration);
    for (unsigned i = 0; i < 20 && run_row(run).phase == FAR_run_phase_syncing; i++) {
        world_pass(&w, 2);
        world_work(&w, src);
        world_work(&w, dst);
    }
    struct far_sub_order orders[16];
    assert_int_equal(orders_of(src, run, FAR_machine_operation_source_off, orders), 2);
    uint64_t id = orders[0].workload_id;
    struct far_slice name = id == web ? S("web") : S("db"), other = id == web ? S("db") : S("web");
    tell_done(&orders[0], (struct far_sub_machine_result){.state = S("absent")});
    tell_done(&orders[1], (struct far_sub_machine_result){.state = S("off")});
    assert_int_equal(run_row(run).phase, FAR_run_phase_shutting_down);
    assert_non_null(strstr((const char *)run_row(run).problem.data, "nobody knows whether it runs elsewhere"));
    assert_int_equal(APPLY(&w, run_pass, .job_id = run, .workload = other), FAR_CONFLICT);
    MUST(&w, run_pass, .job_id = run, .workload = name); /* somebody knows that it is off */
    assert_int_equal(member(run, id).source, FAR_run_source_off);
    assert_int_equal(run_row(run).phase, FAR_run_phase_last_increment);
    MUST(&w, run_roll_back, .job_id = run);
    assert_int_equal(do_all(src, run, FAR_machine_operation_source_on), 1); /* not the one that this run did not turn off */
    assert_over(run, FAR_job_state_canceled);
}

static void a_migration_is_held_where_a_machine_does_not_shut_down(void **unused)
{
    uint64_t run = begin(FAR_job_kind_migration);
    for (unsigned i = 0; i < 20 && run_row(run).phase == FAR_run_phase_syncing; i++) {
        world_pass(&w, 2);
        world_work(&w, src);
        world_work(&w, dst);
    }
    struct far_sub_order orders[16];
    world_pass(&w, 2);
    assert_int_equal(orders_of(src, run, FAR_machine_operation_source_off, orders), 2);
    tell_failed(&orders[0], "it is still on");
    tell_done(&orders[1], (struct far_sub_machine_result){.state = S("off")});
    assert_non_null(strstr((const char *)run_row(run).problem.data, "it is still on"));
    assert_int_equal(run_row(run).phase, FAR_run_phase_shutting_down);
    MUST(&w, run_retry, .job_id = run);
    assert_int_equal(do_all(src, run, FAR_machine_operation_source_off), 1);
    assert_int_equal(run_row(run).phase, FAR_run_phase_last_increment);
    MUST(&w, run_finish, .job_id = run); /* somebody thought better of it: nothing is there to be cleaned up but the source */
    assert_int_equal(run_row(run).phase, FAR_run_phase_unfencing);
    assert_int_equal(do_all(src, run, FAR_machine_operation_source_on), 2);
    assert_over(run, FAR_job_state_canceled);
}

static void a_cycle_that_fails_holds_the_migration(void **unused)
{
    uint64_t run = begin(FAR_job_kind_migration), cycle_id = run_row(run).cycle_job_id;
    MUST(&w, job_cancel, .job_id = cycle_id);
    work();
    assert_int_equal(world_row_job(&w, cycle_id).state, FAR_job_state_canceled);
    assert_non_null(strstr((const char *)run_row(run).problem.data, "did not go well"));
    MUST(&w, run_retry, .job_id = run);
    assert_int_not_equal(run_row(run).cycle_job_id, cycle_id);
    migrate(run);
    MUST(&w, job_cancel, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2);
    assert_int_equal(do_all(src, run, FAR_machine_operation_source_on), 2);
    assert_over(run, FAR_job_state_canceled);
}

static void fail_cycle(uint64_t run)
{
    uint64_t cycle_id = run_row(run).cycle_job_id;
    struct far_sub_order orders[16];
    world_pass(&w, 2);
    size_t count = orders_of(src, cycle_id, 0, orders);
    assert_int_equal(count, 2); /* a freeze of each */
    for (size_t i = 0; i < count; i++) {
        tell_failed(&orders[i], "the view is gone");
    }
    assert_int_equal(world_row_job(&w, cycle_id).state, FAR_job_state_failed);
}

static void a_cycle_that_fails_is_begun_once_more_by_the_migration_itself(void **unused)
{
    uint64_t run = begin(FAR_job_kind_migration), first = run_row(run).cycle_job_id;
    fail_cycle(run);
    uint64_t second = run_row(run).cycle_job_id;
    assert_int_not_equal(second, first);
    assert_int_equal(run_row(run).problem.len, 0);
    fail_cycle(run);
    assert_int_equal(run_row(run).cycle_job_id, second); /* a person is to look */
    assert_non_null(strstr((const char *)run_row(run).problem.data, "did not go well"));
    MUST(&w, run_retry, .job_id = run);
    migrate(run);
    MUST(&w, job_cancel, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2);
    assert_int_equal(do_all(src, run, FAR_machine_operation_source_on), 2);
    assert_over(run, FAR_job_state_canceled);
}

/* ---- the other direction ---- */

static struct far_row_workload workload_named(const char *name)
{
    uint64_t id = 0;
    assert_int_equal(far_query_id(&w.state, &far_schema_row_workload, S(name), &id, &w.err), 0);
    return world_row_workload(&w, id);
}

static struct far_row_disk disk_of(uint64_t workload)
{
    struct far_row_disk row;
    struct far_key key = far_key(&far_schema_row_disk);
    far_key_u64(&key, workload);
    far_key_u32(&key, 0);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_disk, &key, &w.arena, &row, &w.err), 0);
    return row;
}

/* A failover or migration of a plan, committed; every report is a good one. */
static void move(const char *name, uint64_t kind)
{
    uint64_t run = MUST(&w, run_start, .plan = S(name), .kind = kind);
    for (unsigned i = 0; i < 60 && run_row(run).phase != FAR_run_phase_up; i++) {
        world_pass(&w, 1500);
        world_work(&w, src);
        world_work(&w, dst);
        (void)APPLY(&w, run_pass, .job_id = run, .workload = S("web"));
        (void)APPLY(&w, run_pass, .job_id = run, .workload = S("web-back"));
    }
    MUST(&w, run_commit, .job_id = run);
    work();
    assert_int_equal(world_row_job(&w, run).state, FAR_job_state_succeeded);
}

static void what_was_moved_is_protected_the_other_way_and_comes_home(void **unused)
{
    assert_int_equal(APPLY(&w, plan_reverse, .name = S("p")), FAR_CONFLICT); /* nothing was moved */
    move("p", FAR_job_kind_failover);
    uint64_t back = MUST(&w, plan_reverse, .name = S("p"));
    assert_true(far_slice_equal(world_row_plan(&w, back).name, S("p-back")));
    assert_int_equal(world_row_plan(&w, back).source_site_id, world_row_plan(&w, plan).target_site_id);
    assert_int_equal(world_row_plan(&w, plan).reverse_id, back);
    struct far_row_workload twin = workload_named("web-back");
    assert_int_equal(twin.twin_id, web);
    assert_int_equal(world_row_workload(&w, web).twin_id, twin.id);
    assert_int_equal(twin.disk_count, 2);
    assert_int_equal(memcmp(disk_of(twin.id).locator.data, "/recovered/run-", 15), 0);
    assert_int_equal(APPLY(&w, plan_reverse, .name = S("p")), FAR_CONFLICT); /* it is already */
    MUST(&w, plan_replicate, .name = S("p-back"));
    work();
    move("p-back", FAR_job_kind_migration);
    assert_true(world_row_plan(&w, back).moved_ms != 0);
    assert_int_equal(MUST(&w, plan_reverse, .name = S("p-back")), plan);
    assert_int_equal(world_row_plan(&w, plan).moved_ms, 0);
    assert_int_equal(memcmp(disk_of(web).locator.data, "/recovered/run-", 15), 0); /* where the machine came home to */
    assert_int_equal(APPLY(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_failover), FAR_NOT_FOUND);
    assert_non_null(strstr(w.result.message, "since its machines came home"));
    MUST(&w, plan_replicate, .name = S("p"));
    work();
    move("p", FAR_job_kind_failover); /* and so on */
    assert_int_equal(MUST(&w, plan_reverse, .name = S("p")), back);
    assert_int_equal(world_row_plan(&w, back).moved_ms, 0);
}

/* ---- what goes wrong ---- */

static void what_cannot_be_written_out_is_tried_again_or_left_out(void **unused)
{
    uint64_t run = begin(FAR_job_kind_test_recovery);
    struct far_sub_order orders[16];
    world_pass(&w, 2);
    assert_int_equal(orders_of(dst, run, 0, orders), 3);
    for (size_t i = 0; i < 3; i++) { /* the second disk of web fails */
        if (orders[i].workload_id == web && orders[i].disk_index == 1) {
            tell_failed(&orders[i], "no space");
        } else {
            tell_done(&orders[i], (struct far_sub_machine_result){.state = S("")});
        }
    }
    assert_int_equal(run_row(run).phase, FAR_run_phase_preparing);
    MUST(&w, run_retry, .job_id = run);
    struct far_sub_order again = only(dst, run, 0); /* that disk alone */
    assert_int_equal(again.disk_index, 1);
    tell_failed(&again, "no space");
    MUST(&w, run_pass, .job_id = run, .workload = S("web"));
    assert_int_equal(member(run, web).state, FAR_run_member_state_left_out);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_gate), 1);
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
    MUST(&w, run_finish, .job_id = run);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2); /* web's first disk is there */
    assert_over(run, FAR_job_state_partial);
}

static void what_is_left_behind_holds_the_end_until_it_is_abandoned(void **unused)
{
    uint64_t run = begin(FAR_job_kind_test_recovery);
    assert_int_equal(do_all(dst, run, 0), 3);
    assert_int_equal(APPLY(&w, run_finish, .job_id = run, .abandon = true), FAR_CONFLICT);
    MUST(&w, run_finish, .job_id = run);
    struct far_sub_order orders[16];
    assert_int_equal(orders_of(dst, run, FAR_machine_operation_up, orders), 1); /* that it has is waited for */
    assert_int_equal(do_all(dst, run, FAR_machine_operation_up), 1);
    world_pass(&w, 2);
    assert_int_equal(orders_of(dst, run, FAR_machine_operation_destroy, orders), 2);
    struct far_slice left = S("domain db-dr-test-9");
    tell_done(&orders[0], (struct far_sub_machine_result){.left = {&left, 1}});
    tell_done(&orders[1], (struct far_sub_machine_result){.state = S("absent")});
    assert_non_null(strstr((const char *)run_row(run).problem.data, "is not cleaned up"));
    assert_non_null(strstr((const char *)run_row(run).problem.data, "domain db-dr-test-9"));
    MUST(&w, run_retry, .job_id = run);
    struct far_sub_order again = only(dst, run, FAR_machine_operation_destroy);
    tell_failed(&again, "libvirtd is gone");
    MUST(&w, run_finish, .job_id = run, .abandon = true);
    assert_over(run, FAR_job_state_failed);
    assert_true(run_row(run).abandoned);
}

static void a_lost_attempt_of_each_operation_begins_again(void **unused)
{
    static const uint64_t operations[] = {0, FAR_machine_operation_up, FAR_machine_operation_gate};
    uint64_t run = begin(FAR_job_kind_test_recovery);
    for (size_t i = 0; i < 3; i++) {
        struct far_sub_order orders[16];
        world_pass(&w, 2);
        assert_true(orders_of(dst, run, operations[i], orders) > 0);
        world_boot(&w, dst, (uint8_t)(70 + i)); /* the process is another one */
        world_pass(&w, 2);
        assert_true(orders_of(dst, run, operations[i], orders) > 0);
        assert_int_equal(orders[0].attempt, 2);
        assert_true(do_all(dst, run, operations[i]) > 0);
    }
    assert_int_equal(member(run, db).state, FAR_run_member_state_passed);
    MUST(&w, job_cancel, .job_id = run);
    world_boot(&w, dst, 90);
    assert_int_equal(do_all(dst, run, FAR_machine_operation_destroy), 2);
    assert_over(run, FAR_job_state_canceled);
}

/* A run is canceled after so many reports: whatever it had begun, it cleans up. */
static void canceled_at_any_place_it_cleans_up(void **unused)
{
    uint8_t nonce = 100;
    for (uint64_t kind = FAR_job_kind_test_recovery; kind <= FAR_job_kind_migration; kind++) {
        for (unsigned reports = 0; reports < 14; reports++) {
            uint64_t run = begin(kind);
            for (unsigned i = 0; i < reports; i++) {
                world_pass(&w, 3000);
                world_work(&w, i % 2 == 0 ? src : dst);
                if (run_row(run).phase == FAR_run_phase_starting && member(run, web).ask_ms != 0 && member(run, web).passed_ms == 0) {
                    MUST(&w, run_pass, .job_id = run, .workload = S("web"));
                }
            }
            bool was_good = kind == FAR_job_kind_test_recovery && run_row(run).phase == FAR_run_phase_up;
            MUST(&w, job_cancel, .job_id = run);
            world_boot(&w, src, nonce++); /* who had nothing to say for long is down */
            world_boot(&w, dst, nonce++);
            work();
            assert_over(run, was_good ? FAR_job_state_succeeded : FAR_job_state_canceled);
            assert_false(member(run, web).touched || member(run, db).touched);
            assert_int_equal(world_row_plan(&w, plan).running_job_id, 0);
            world_pass(&w, 2);
        }
    }
}

static void what_makes_no_sense_is_refused(void **unused)
{
    struct far_slice twice[] = {S("web"), S("web")}, other = S("other");
    world_workload(&w, "other", 1);
    assert_int_equal(APPLY(&w, run_start, .plan = S("p")), FAR_INVALID);
    assert_int_equal(APPLY(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_replicate), FAR_INVALID);
    assert_int_equal(APPLY(&w, run_start, .plan = S("q"), .kind = FAR_job_kind_failover), FAR_NOT_FOUND);
    assert_int_equal(APPLY(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_failover, .workloads = {twice, 2}), FAR_INVALID);
    assert_int_equal(APPLY(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_failover, .workloads = {&other, 1}), FAR_INVALID);
    assert_int_equal(APPLY(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_failover, .checkpoint_id = 9999), FAR_NOT_FOUND);
    assert_int_equal(APPLY(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_failover, .expires_s = 5), FAR_INVALID);
    assert_int_equal(APPLY(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_test_recovery, .force = true), FAR_INVALID);
    assert_int_equal(APPLY(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_migration, .checkpoint_id = checkpoint), FAR_INVALID);
    assert_int_equal(APPLY(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_test_recovery, .expires_s = 40000000), FAR_INVALID);
    assert_int_equal(APPLY(&w, run_finish, .job_id = 9999), FAR_NOT_FOUND);
    uint64_t run = begin(FAR_job_kind_test_recovery);
    assert_int_equal(APPLY(&w, run_start, .plan = S("p"), .kind = FAR_job_kind_test_recovery), FAR_CONFLICT);
    assert_int_equal(APPLY(&w, run_commit, .job_id = run), FAR_CONFLICT);
    assert_int_equal(APPLY(&w, run_roll_back, .job_id = run), FAR_CONFLICT);
    assert_int_equal(APPLY(&w, run_pass, .job_id = run, .workload = S("web")), FAR_CONFLICT);
    assert_int_equal(APPLY(&w, run_retry, .job_id = run), FAR_CONFLICT);
    assert_int_equal(APPLY(&w, checkpoint_remove, .checkpoint_id = checkpoint), FAR_CONFLICT);
}

/* More disks than fit one event, more workloads than come up at one position. */
static void a_large_plan_comes_up_and_goes(void **unused)
{
    enum { MANY = 130, DISKS = 3 };
    static char names[MANY][16];
    const char *list[MANY];
    for (size_t i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "vm%03zu", i);
        list[i] = names[i];
        world_workload(&w, names[i], DISKS);
    }
    world_plan(&w, "big", list, MANY);
    for (size_t i = 0; i < MANY; i++) {
        struct far_sub_recovery config = {.group = i % 3, .position = i % 2};
        configure(names[i], config);
    }
    MUST(&w, plan_replicate, .name = S("big"));
    work();
    uint64_t run = MUST(&w, run_start, .plan = S("big"), .kind = FAR_job_kind_test_recovery);
    work();
    assert_int_equal(run_row(run).phase, FAR_run_phase_up);
    assert_int_equal(run_row(run).member_count, MANY);
    struct far_row_job job = world_row_job(&w, run);
    assert_int_equal(job.task_count, MANY * (DISKS + 1));
    MUST(&w, run_finish, .job_id = run);
    work();
    assert_over(run, FAR_job_state_succeeded);
}

static void runs_are_forgotten_with_their_jobs(void **unused)
{
    uint64_t first = 0;
    for (unsigned i = 0; i < 110; i++) {
        uint64_t run = begin(FAR_job_kind_test_recovery);
        first = first == 0 ? run : first;
        MUST(&w, job_cancel, .job_id = run);
        world_work_all(&w, (const uint64_t[]){src, dst}, 2);
        far_arena_reset(&w.arena);
    }
    struct far_row_run row;
    struct far_key key = far_key(&far_schema_row_run);
    far_key_u64(&key, first);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_run, &key, &w.arena, &row, &w.err), FAR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(a_test_brings_up_in_order_and_cleans_up),
        IN_A_WORLD(a_machine_that_went_off_at_its_gate_is_powered_on_once_by_itself_then_when_that_is_tried_again),
        IN_A_WORLD(a_machine_that_its_script_refused_is_powered_on_when_a_person_says_so),
        IN_A_WORLD(a_test_expires_and_cleans_up_by_itself),
        IN_A_WORLD(a_gate_that_fails_holds_the_run_until_it_is_tried_again_or_passed),
        IN_A_WORLD(an_order_goes_over_the_wire_as_it_is),
        IN_A_WORLD(what_is_set_later_changes_nothing_of_an_older_checkpoint),
        IN_A_WORLD(a_failover_fences_the_source_and_is_committed),
        IN_A_WORLD(a_failover_that_is_rolled_back_starts_the_source_and_the_plan),
        IN_A_WORLD(a_failover_does_not_wait_for_a_source_that_is_gone),
        IN_A_WORLD(a_source_that_could_not_be_shut_down_is_tried_again_when_somebody_says_so),
        IN_A_WORLD(who_commits_is_told_that_the_source_may_be_on),
        IN_A_WORLD(a_source_that_is_absent_is_not_taken_for_off),
        IN_A_WORLD(a_migration_waits_for_a_source_that_is_absent),
        IN_A_WORLD(a_source_that_comes_back_is_fenced_then),
        IN_A_WORLD(a_source_that_does_not_answer_is_waited_for_as_long_as_was_said),
        IN_A_WORLD(a_window_that_is_over_commits),
        IN_A_WORLD(at_once_machines_come_up_first_and_are_kept_when_they_are_written_out),
        IN_A_WORLD(at_once_a_test_ends_whatever_is_written_out),
        IN_A_WORLD(the_report_tells_what_was_our_own),
        IN_A_WORLD(what_was_moved_is_protected_the_other_way_and_comes_home),
        IN_A_WORLD(a_migration_comes_up_from_what_was_written_last),
        IN_A_WORLD(a_forecast_goes_by_what_earlier_runs_took),
        IN_A_WORLD(a_migration_is_held_where_a_machine_does_not_shut_down),
        IN_A_WORLD(a_cycle_that_fails_holds_the_migration),
        IN_A_WORLD(a_cycle_that_fails_is_begun_once_more_by_the_migration_itself),
        IN_A_WORLD(what_cannot_be_written_out_is_tried_again_or_left_out),
        IN_A_WORLD(what_is_left_behind_holds_the_end_until_it_is_abandoned),
        IN_A_WORLD(a_lost_attempt_of_each_operation_begins_again),
        IN_A_WORLD(canceled_at_any_place_it_cleans_up),
        IN_A_WORLD(what_makes_no_sense_is_refused),
        IN_A_WORLD(a_large_plan_comes_up_and_goes),
        IN_A_WORLD(runs_are_forgotten_with_their_jobs),
    };
    return cmocka_run_group_tests_name("fsm_runs", tests, NULL, NULL);
}
