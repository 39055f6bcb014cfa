/* node: what waits for confirmation, how long an order holds, and what an order becomes. */
#include "fsm/schema.h"
#include "node/agent.h"
#include "node/leases.h"
#include "node/orders.h"
#include "node/reports.h"
#include "../lib/cm.h"

static struct far_reports *reports;
static struct far_report_key keys[FAR_REPORT_BATCH_MAX];
static struct far_buf batch;

static int setup(void **unused)
{
    far_buf_init(&batch, 1 << 20);
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

static size_t take(uint64_t sequence)
{
    size_t count = 0;
    far_buf_reset(&batch);
    assert_int_equal(far_reports_take(reports, sequence, &batch, keys, &count, NULL), 0);
    return count;
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
    assert_true(far_reports_urgent(reports));
    assert_int_equal(take(3), 1);
    assert_true(keys[0].ended);
    assert_false(far_reports_urgent(reports));
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
