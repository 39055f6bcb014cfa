/* node: what waits for confirmation, how long an order holds, and what an order becomes. */
#include "fsm/schema.h"
#include "node/agent.h"
#include "node/leases.h"
#include "node/orders.h"
#include "node/refusals.h"
#include "node/reports.h"
#include "../lib/cm.h"

static struct far_reports *reports;
static struct far_report_batch taken;
static struct far_report_key *const keys = taken.keys;
static struct far_buf batch;

static int setup(void **unused)
{
    far_buf_init(&batch, 1 << 20);
    taken = (struct far_report_batch){.sequence = 0};
    return far_reports_new(&reports, NULL);
}

static int teardown(void **unused)
{
    far_reports_free(reports);
    far_buf_done(&batch);
    return 0;
}

static bool put(uint64_t task, uint64_t attempt, enum far_engine_state state, uint64_t bytes_done)
{
    struct far_engine_report r = {
        .job_id = 1, .task = task, .attempt = attempt, .state = state, .bytes_done = bytes_done};
    bool urgent = false;
    assert_int_equal(far_reports_put(reports, &r, &urgent), 0);
    return urgent;
}

static size_t take_at(uint64_t sequence, uint64_t now_ms)
{
    far_buf_reset(&batch);
    taken.sequence = sequence;
    taken.now_ms = now_ms;
    assert_int_equal(far_reports_take(reports, &taken, &batch, NULL), 0);
    return taken.count;
}

static size_t take(uint64_t sequence)
{
    return take_at(sequence, 0);
}

static void progress_is_coalesced_and_ends_are_urgent(void **unused)
{
    assert_true(put(1, 1, FAR_ENGINE_RUNNING, 10)); /* the first word of an attempt */
    assert_false(put(1, 1, FAR_ENGINE_RUNNING, 20));
    assert_int_equal(take(1), 1);
    far_reports_confirm(reports);
    assert_int_equal(take(2), 0);
    assert_false(put(1, 1, FAR_ENGINE_RUNNING, 30));
    assert_true(put(1, 1, FAR_ENGINE_DONE, 40));
    assert_true(far_reports_urgent(reports, 0));
    assert_int_equal(take(3), 1);
    assert_true(keys[0].ended);
    assert_false(far_reports_urgent(reports, 0));
}

static void an_end_is_kept_until_it_is_confirmed(void **unused)
{
    put(1, 1, FAR_ENGINE_DONE, 0);
    assert_int_equal(take(1), 1);
    put(2, 1, FAR_ENGINE_FAILED, 0); /* while the first batch is on its way */
    far_reports_confirm(reports);
    assert_int_equal(take(2), 1);
    assert_int_equal(keys[0].task, 2);
    far_reports_confirm(reports);
    assert_int_equal(take(3), 0);
}

static void an_older_attempt_says_nothing_any_more(void **unused)
{
    put(1, 2, FAR_ENGINE_RUNNING, 0);
    assert_false(put(1, 1, FAR_ENGINE_DONE, 0));
    assert_int_equal(take(1), 1);
    assert_int_equal(keys[0].attempt, 2);
    far_reports_drop(reports, 1, 1, 2);
    far_reports_confirm(reports);
    assert_int_equal(take(2), 0);
}

static void a_late_lease_keeps_the_end(void **unused)
{
    put(1, 1, FAR_ENGINE_RUNNING, 0);
    put(2, 1, FAR_ENGINE_DONE, 0);
    far_reports_drop_running(reports, 1, 1, 1);
    far_reports_drop_running(reports, 1, 2, 1);
    assert_int_equal(take(1), 1);
    assert_int_equal(keys[0].task, 2);
}

static void a_batch_is_bounded_and_the_rest_follows(void **unused)
{
    for (uint64_t task = 0; task < FAR_REPORTS_MAX; task++) {
        put(task, 1, FAR_ENGINE_DONE, task);
    }
    struct far_engine_report more = {.job_id = 2, .task = 1, .attempt = 1, .state = FAR_ENGINE_DONE};
    bool urgent;
    assert_int_equal(far_reports_put(reports, &more, &urgent), FAR_LIMIT);
    size_t all = 0;
    for (uint64_t sequence = 1; all < FAR_REPORTS_MAX; sequence++) {
        size_t count = take(sequence);
        assert_in_range(count, 1, FAR_REPORT_BATCH_MAX);
        assert_true(batch.len <= FAR_REPORT_BATCH_BYTES);
        far_reports_confirm(reports);
        all += count;
    }
    assert_int_equal(all, FAR_REPORTS_MAX);
}

/* ---- refusals ---- */

static struct far_sub_report_item first_item(struct far_arena *arena)
{
    struct far_msg_report message;
    assert_int_equal(far_schema_decode(&far_schema_msg_report, far_buf_slice(&batch), arena, &message, NULL), 0);
    assert_true(message.items.count > 0);
    return *(const struct far_sub_report_item *)message.items.items;
}

static enum far_refused refuse(int klass, uint64_t now_ms)
{
    assert_true(taken.is_suspect);
    return far_reports_refuse(reports, &keys[0], klass, "it cannot be", now_ms);
}

/* One of three is refused: alone it is, the others are told beside it. */
static void what_is_refused_together_goes_one_by_one(void **unused)
{
    uint64_t sequence = 1, told[4] = {0};
    for (uint64_t task = 1; task <= 3; task++) {
        put(task, 1, FAR_ENGINE_DONE, task);
    }
    assert_int_equal(take(sequence++), 3);
    assert_false(taken.is_suspect);
    far_reports_split(reports);
    assert_true(far_reports_urgent(reports, 0));
    put(4, 1, FAR_ENGINE_RUNNING, 0); /* goes beside them */
    bool others_went = false;
    for (size_t turns = 0; turns < 5 && told[1] + told[3] < 2; turns++) {
        assert_int_equal(take(sequence++), 1);
        others_went = others_went || !taken.is_suspect;
        if (keys[0].task == 2) {
            assert_int_equal(refuse(FAR_INTERNAL, 0), FAR_REFUSED_CUT);
        } else {
            told[keys[0].task % 4]++;
            far_reports_confirm(reports);
        }
    }
    assert_true(others_went && told[1] == 1 && told[3] == 1 && told[0] == 1);
}

/* What came of it is refused for good: the servers hear of a failure that says so; is that refused, too, nothing is left. */
static void a_result_that_is_refused_becomes_a_failure_and_then_nothing(void **unused)
{
    struct far_arena arena;
    far_arena_init(&arena, 1 << 20);
    struct far_engine_found found[2] = {{.disk_index = 0, .size_bytes = 5}, {.disk_index = 1, .size_bytes = 6}};
    struct far_engine_report r = {.job_id = 1, .task = 1, .attempt = 1, .state = FAR_ENGINE_DONE, .disks = found, .disk_count = 2};
    bool urgent;
    assert_int_equal(far_reports_put(reports, &r, &urgent), 0);
    assert_int_equal(take(1), 1);
    far_reports_split(reports);
    assert_int_equal(take(2), 1);
    assert_int_equal(refuse(FAR_INVALID, 0), FAR_REFUSED_CUT);
    assert_int_equal(far_reports_put(reports, &r, &urgent), 0); /* the engine says it again: it is known */
    assert_int_equal(take(3), 1);
    struct far_sub_report_item item = first_item(&arena);
    assert_int_equal(item.state, FAR_report_state_failed);
    assert_int_equal(item.outcome, FAR_outcome_fatal);
    assert_int_equal(item.disks.count, 0);
    assert_true(far_slice_equal(item.error_class, far_slice_str("invalid")));
    assert_true(item.error_message.len > 20);
    assert_int_equal(refuse(FAR_INVALID, 0), FAR_REFUSED_DROPPED);
    assert_int_equal(take(4), 0);
    far_arena_done(&arena);
}

static void progress_that_is_refused_is_bare_and_then_silent_until_its_end(void **unused)
{
    put(1, 1, FAR_ENGINE_RUNNING, 5);
    assert_int_equal(take(1), 1);
    far_reports_split(reports);
    assert_int_equal(take(2), 1);
    assert_int_equal(refuse(FAR_CONFLICT, 0), FAR_REFUSED_CUT);
    assert_int_equal(take(3), 1);
    assert_int_equal(refuse(FAR_CONFLICT, 0), FAR_REFUSED_DROPPED);
    assert_false(put(1, 1, FAR_ENGINE_RUNNING, 6));
    assert_int_equal(take(4), 0);
    assert_true(put(1, 1, FAR_ENGINE_DONE, 7));
    assert_int_equal(take(5), 1);
    assert_false(taken.is_suspect);
    far_reports_confirm(reports);
    assert_true(put(1, 2, FAR_ENGINE_RUNNING, 0)); /* another attempt is another matter */
    assert_int_equal(take(6), 1);
}

/* Alone it is refused until later: the pause grows, and others go on in it. */
static void what_may_be_taken_later_waits_longer_each_time(void **unused)
{
    uint64_t now_ms = 1000;
    put(1, 1, FAR_ENGINE_DONE, 5);
    assert_int_equal(take_at(1, now_ms), 1);
    far_reports_split(reports);
    assert_int_equal(take_at(2, now_ms), 1);
    for (uint64_t i = 0; i < 12; i++) {
        uint64_t begin_ms = now_ms, expected_ms = 500;
        assert_int_equal(refuse(FAR_BUSY, now_ms), FAR_REFUSED_LATER);
        assert_false(far_reports_urgent(reports, now_ms + 499));
        assert_true(far_reports_urgent(reports, now_ms + 60000));
        put(50 + i, 1, FAR_ENGINE_DONE, 0);
        while (take_at(3, now_ms) == 1 && keys[0].task != 1) {
            assert_int_equal(keys[0].task, 50 + i);
            far_reports_confirm(reports);
        }
        while (taken.count == 0) {
            now_ms += 250;
            take_at(3, now_ms);
        }
        assert_int_equal(keys[0].task, 1);
        for (uint64_t n = 0; n < i && expected_ms < 60000; n++) {
            expected_ms *= 2;
        }
        assert_int_equal(now_ms - begin_ms, expected_ms < 60000 ? expected_ms : 60000);
    }
    far_reports_confirm(reports);
    assert_int_equal(take_at(4, now_ms), 0);
}

static void a_report_that_cannot_be_encoded_keeps_no_other_back(void **unused)
{
    struct far_error err = {0};
    struct far_buf small;
    put(1, 1, FAR_ENGINE_DONE, 5);
    put(2, 1, FAR_ENGINE_DONE, 5);
    far_buf_init(&small, 16); /* too small for both; not for a probe */
    assert_true(far_reports_take(reports, &taken, &small, &err) != 0);
    assert_int_equal(take(1), 1);
    assert_true(taken.is_suspect);
    far_reports_confirm(reports);
    assert_int_equal(take(2), 1);
    far_reports_confirm(reports);
    assert_int_equal(take(3), 0);
    far_buf_done(&small);
}

static void each_refusal_has_its_answer(void **unused)
{
    struct far_refusals r = {.probes = false};
    for (int klass = FAR_INVALID; klass >= FAR_CLASS_MIN; klass--) {
        bool unsure = klass == FAR_NOT_LEADER || klass == FAR_UNKNOWN_OUTCOME || klass == FAR_TIMEOUT || klass == FAR_IO ||
                      klass == FAR_CANCELED;
        bool later = klass == FAR_BUSY || klass == FAR_LIMIT;
        r = (struct far_refusals){.probes = false};
        enum far_verdict whole = far_refusals_judge(&r, klass, false, false, 1000);
        assert_int_equal(whole, unsure ? FAR_VERDICT_ELSEWHERE : FAR_VERDICT_SPLIT);
        assert_int_equal(r.probes, !unsure);
        enum far_verdict probe = far_refusals_judge(&r, klass, false, true, 1000);
        assert_int_equal(probe, unsure  ? FAR_VERDICT_ELSEWHERE
                                : later ? FAR_VERDICT_WAIT
                                : klass == FAR_DENIED || klass == FAR_NOT_FOUND ? FAR_VERDICT_GREET
                                                                                : FAR_VERDICT_ANEW);
        assert_int_equal(far_refusals_judge(&r, klass, true, false, 1000), unsure ? FAR_VERDICT_ELSEWHERE : FAR_VERDICT_GUILTY);
    }
    r = (struct far_refusals){.probes = false};
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(far_refusals_judge(&r, FAR_BUSY, false, true, 0), FAR_VERDICT_WAIT);
    }
    assert_int_equal(r.until_ms, FAR_REFUSAL_PAUSE_MS_MAX);
    far_refusals_over(&r, true);
    assert_true(!r.probes && r.until_ms == 0 && r.pause_ms == 0);
}

static void a_freeze_tells_its_disks(void **unused)
{
    struct far_engine_found found[2] = {{.disk_index = 0, .size_bytes = 5, .identity = "a"},
                                        {.disk_index = 1, .size_bytes = 6, .identity = "b"}};
    struct far_engine_report r = {
        .job_id = 1, .task = 1, .attempt = 1, .state = FAR_ENGINE_DONE, .disks = found, .disk_count = 2};
    bool urgent;
    assert_int_equal(far_reports_put(reports, &r, &urgent), 0);
    memset(found, 0, sizeof found);
    assert_int_equal(take(9), 1);
    struct far_arena arena;
    struct far_msg_report message;
    far_arena_init(&arena, 1 << 20);
    assert_int_equal(far_schema_decode(&far_schema_msg_report, far_buf_slice(&batch), &arena, &message, NULL), 0);
    assert_int_equal(message.sequence, 9);
    const struct far_sub_report_item *item = message.items.items;
    const struct far_sub_disk_found *disks = item->disks.items;
    assert_int_equal(item->disks.count, 2);
    assert_int_equal(disks[1].size_bytes, 6);
    assert_true(far_slice_equal(disks[1].identity, far_slice_str("b")));
    far_arena_done(&arena);
}

static void a_lease_ends_before_its_time_unless_renewed(void **unused)
{
    static struct far_leases leases;
    leases.count = 0;
    assert_int_equal(far_leases_add(&leases, 1, 1, 1, 1000, 10000, NULL), 0);
    assert_null(far_leases_late(&leases, 9999));
    assert_non_null(far_leases_late(&leases, 10000));
    far_leases_renew(&leases, 1, 1, 1, 5000, 10000);
    far_leases_renew(&leases, 1, 1, 1, 4000, 10000); /* an older renewal does not shorten it */
    assert_null(far_leases_late(&leases, 13999));
    assert_non_null(far_leases_late(&leases, 14000));
    assert_int_equal(far_leases_add(&leases, 1, 1, 2, 20000, 10000, NULL), 0);
    assert_int_equal(far_leases_add(&leases, 1, 1, 1, 20000, 10000, NULL), FAR_CONFLICT);
    far_leases_renew(&leases, 1, 1, 1, 90000, 10000); /* of an attempt that is gone */
    assert_non_null(far_leases_late(&leases, 29000));
    far_leases_remove(&leases, 1, 1, 1); /* the older attempt: the newer stays */
    assert_non_null(far_leases_first(&leases));
    far_leases_remove(&leases, 1, 1, 2);
    assert_null(far_leases_first(&leases));
}

static void what_was_left_of_a_lease_counts_until_it_is_renewed(void **unused)
{
    static struct far_leases leases;
    leases.count = 0;
    assert_int_equal(far_leases_add(&leases, 1, 1, 1, 1000, 2000, NULL), 0); /* of 10,000 */
    assert_null(far_leases_late(&leases, 2799));
    assert_non_null(far_leases_late(&leases, 2800));
    far_leases_renew(&leases, 1, 1, 1, 1500, 10000);
    assert_null(far_leases_late(&leases, 10499));
    assert_non_null(far_leases_late(&leases, 10500));
}

static void leases_stop_at_their_maximum(void **unused)
{
    static struct far_leases leases;
    leases.count = 0;
    for (uint64_t i = 0; i < FAR_LEASES_MAX; i++) {
        assert_int_equal(far_leases_add(&leases, i, 1, 1, 0, 10, NULL), 0);
    }
    assert_int_equal(far_leases_add(&leases, FAR_LEASES_MAX, 1, 1, 0, 10, NULL), FAR_LIMIT);
}

static void orders_are_checked_before_the_engine_sees_them(void **unused)
{
    struct far_arena arena;
    struct far_engine_order order;
    struct far_error err;
    uint8_t root[32] = {7};
    struct far_sub_disk_spec disks[1] = {{.name = far_slice_str("d"), .locator = far_slice_str("/x")}};
    struct far_sub_order message = {.job_id = 3,
                                    .kind = FAR_task_kind_send,
                                    .adapter = far_slice_str("file"),
                                    .base_root = far_slice(root, 32),
                                    .disks = {.items = disks, .count = 1}};
    far_arena_init(&arena, 1 << 20);
    assert_int_equal(far_orders_convert(&message, &arena, &order, &err), 0);
    assert_int_equal(order.kind, FAR_ENGINE_SEND);
    assert_string_equal(order.adapter, "file");
    assert_string_equal(order.peer_address, "");
    assert_string_equal(order.disks[0].locator, "/x");
    assert_true(order.has_base_root);
    message.base_root.len = 31;
    assert_int_equal(far_orders_convert(&message, &arena, &order, &err), FAR_INVALID);
    far_arena_done(&arena);
    far_arena_init(&arena, 64);
    assert_int_equal(far_orders_convert(&message, &arena, &order, &err), FAR_LIMIT);
    far_arena_done(&arena);
}

static void a_server_is_named_with_its_key_where_that_is_known(void **unused)
{
    static const char *const wrong[] = {"", "@a:1", "0@a:1", "x@a:1", "3", "3@", "3@#00", "3@a:1#", "3@a:1#00",
                                        "3@a:1#zz23456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                                        "99999999999999999999@a:1"};
    struct far_agent_server server;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(far_agent_parse_server(wrong[i], &server));
    }
    assert_true(far_agent_parse_server("3@[::1]:5001", &server));
    assert_int_equal(server.id, 3);
    assert_string_equal(server.address, "[::1]:5001");
    assert_false(server.has_fingerprint);
    assert_true(far_agent_parse_server("4@a:1#0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", &server));
    assert_string_equal(server.address, "a:1");
    assert_true(server.has_fingerprint);
    assert_int_equal(server.fingerprint[31], 0xef);
}

static void a_list_of_servers_takes_the_place_of_another_one(void **unused)
{
    struct far_agent_server servers[FAR_AGENT_SERVERS_MAX] = {{.id = 1, .address = "a:1"}};
    size_t count = 1;
    struct far_slice texts[] = {far_slice_str("1@a:1"), far_slice_str("nonsense"), far_slice_str("2@b:1")};
    struct far_list list = {.items = texts, .count = 1};
    assert_false(far_agent_take_servers(&list, servers, &count)); /* the same */
    list.count = 3;
    assert_true(far_agent_take_servers(&list, servers, &count));
    assert_int_equal(count, 2);
    assert_string_equal(servers[1].address, "b:1");
    list = (struct far_list){.items = texts + 1, .count = 1}; /* nothing of it can be read: what is known stays */
    assert_false(far_agent_take_servers(&list, servers, &count));
    assert_int_equal(count, 2);
    list = (struct far_list){.items = texts + 2, .count = 1};
    assert_true(far_agent_take_servers(&list, servers, &count));
    assert_int_equal(count, 1);
    assert_int_equal(servers[0].id, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(progress_is_coalesced_and_ends_are_urgent, setup, teardown),
        cmocka_unit_test_setup_teardown(an_end_is_kept_until_it_is_confirmed, setup, teardown),
        cmocka_unit_test_setup_teardown(an_older_attempt_says_nothing_any_more, setup, teardown),
        cmocka_unit_test_setup_teardown(a_late_lease_keeps_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(a_batch_is_bounded_and_the_rest_follows, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_refused_together_goes_one_by_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_result_that_is_refused_becomes_a_failure_and_then_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(progress_that_is_refused_is_bare_and_then_silent_until_its_end, setup, teardown),
        cmocka_unit_test_setup_teardown(what_may_be_taken_later_waits_longer_each_time, setup, teardown),
        cmocka_unit_test_setup_teardown(a_report_that_cannot_be_encoded_keeps_no_other_back, setup, teardown),
        cmocka_unit_test(each_refusal_has_its_answer),
        cmocka_unit_test_setup_teardown(a_freeze_tells_its_disks, setup, teardown),
        cmocka_unit_test(a_lease_ends_before_its_time_unless_renewed),
        cmocka_unit_test(what_was_left_of_a_lease_counts_until_it_is_renewed),
        cmocka_unit_test(leases_stop_at_their_maximum),
        cmocka_unit_test(a_server_is_named_with_its_key_where_that_is_known),
        cmocka_unit_test(a_list_of_servers_takes_the_place_of_another_one),
        cmocka_unit_test(orders_are_checked_before_the_engine_sees_them),
    };
    return cmocka_run_group_tests_name("node", tests, NULL, NULL);
}
