/* server/link.h as a node sees it: welcome, reports, two streams, and who is cut off. */
#include "../lib/server_alone.h"
#include "net/join_token.h"
#include "net/pki.h"
#include "net/seal.h"
#include "server/link_private.h"

struct node {
    struct fixture *f;
    struct far_net *net;
    struct far_stream *stream;
    uint64_t id;
    bool opened;
    bool closed;
    bool refused;
    char error_class[33];
    uint64_t boot;
    uint64_t lease_ms;
    size_t servers;
    unsigned told_servers; /* so often since the welcome */
    const char *version; /* of its hello; NULL: an older one */
    unsigned told_limits;
    uint64_t rate; /* as told last */
    uint64_t acked;
    unsigned told_stops; /* so many attempts */
    struct far_error why;
};

static void node_opened(void *arg, struct far_stream *stream, struct far_peer peer, enum far_purpose purpose)
{
    struct node *n = arg;
    n->opened = true;
}

static void copy_class(struct node *n, struct far_slice text)
{
    memset(n->error_class, 0, sizeof n->error_class);
    if (text.len > 0) {
        memcpy(n->error_class, text.data, text.len < 32 ? text.len : 32);
    }
}

static void node_got_frame(void *arg, struct far_stream *stream, uint16_t type, struct far_slice payload)
{
    struct node *n = arg;
    struct far_arena arena;
    struct far_error err;
    far_arena_init(&arena, 1 << 20);
    if (type == FAR_KIND_msg_welcome) {
        struct far_msg_welcome welcome;
        assert_int_equal(far_schema_decode(&far_schema_msg_welcome, payload, &arena, &welcome, &err), 0);
        n->boot = welcome.boot;
        n->lease_ms = welcome.lease_ms;
        n->servers = welcome.servers.count;
    } else if (type == FAR_KIND_msg_servers) {
        struct far_msg_servers message;
        assert_int_equal(far_schema_decode(&far_schema_msg_servers, payload, &arena, &message, &err), 0);
        n->servers = message.servers.count;
        n->told_servers++;
    } else if (type == FAR_KIND_msg_limits) {
        struct far_msg_limits message;
        assert_int_equal(far_schema_decode(&far_schema_msg_limits, payload, &arena, &message, &err), 0);
        n->rate = message.bytes_per_s;
        n->told_limits++;
    } else if (type == FAR_KIND_msg_orders) {
        struct far_msg_orders message;
        assert_int_equal(far_schema_decode(&far_schema_msg_orders, payload, &arena, &message, &err), 0);
        n->told_stops += (unsigned)message.stop.count;
    } else if (type == FAR_KIND_msg_report_ack) {
        struct far_msg_report_ack ack;
        assert_int_equal(far_schema_decode(&far_schema_msg_report_ack, payload, &arena, &ack, &err), 0);
        n->acked = ack.sequence;
        copy_class(n, ack.error_class);
    } else if (type == FAR_KIND_msg_refused) {
        struct far_msg_refused refused;
        assert_int_equal(far_schema_decode(&far_schema_msg_refused, payload, &arena, &refused, &err), 0);
        n->refused = true;
        copy_class(n, refused.error_class);
    }
    far_arena_done(&arena);
}

static void node_closed(void *arg, struct far_stream *stream, const struct far_error *why)
{
    struct node *n = arg;
    n->closed = true;
    n->stream = NULL;
    n->why = *why;
}

static const struct far_stream_callbacks node_callbacks = {node_opened, node_got_frame, node_closed};

static void connect_node(struct fixture *f, uint64_t id, struct node *n)
{
    struct far_error err;
    *n = (struct node){.f = f, .id = id};
    n->net = far_test_pki_net(&f->pki, FAR_PARTY_NODE, id);
    assert_int_equal(far_stream_dial(n->net, &f->loop, far_listener_address(f->listener),
                                     (struct far_peer){FAR_PARTY_SERVER, 0}, FAR_PURPOSE_LINK, &node_callbacks, n,
                                     &n->stream, &err),
                     0);
    RUN_UNTIL(f, n->opened);
}

static void send_message(struct node *n, const struct far_schema *schema, const void *message)
{
    struct far_buf payload;
    far_buf_init(&payload, 8192);
    assert_int_equal(far_schema_encode(schema, message, &payload, NULL), 0);
    assert_int_equal(far_stream_send(n->stream, schema->kind, far_buf_slice(&payload)), 0);
    far_buf_done(&payload);
}

static void say_hello(struct node *n, uint64_t id, uint8_t nonce_byte)
{
    uint8_t nonce[16];
    memset(nonce, nonce_byte, sizeof nonce);
    struct far_msg_hello hello = {.node_id = id,
                                  .nonce = far_slice(nonce, 16),
                                  .data_address = far_slice_str("127.0.0.1:6002"),
                                  .version = far_slice_str(n->version != NULL ? n->version : "0.1.0")};
    send_message(n, &far_schema_msg_hello, &hello);
}

static void disconnect(struct node *n)
{
    if (n->stream != NULL) {
        far_stream_close(n->stream);
    }
    RUN_UNTIL(n->f, n->closed);
    far_net_free(n->net);
}

static void a_node_is_welcomed_and_its_reports_are_answered(void **state)
{
    struct fixture *f = *state;
    struct node n;
    uint64_t id = server_alone_join_node(f, "n2");
    connect_node(f, id, &n);
    say_hello(&n, id, 7);
    RUN_UNTIL(f, n.boot != 0);
    assert_int_equal(n.lease_ms, 15000);
    assert_int_equal(n.servers, 1);
    struct far_msg_report report = {.sequence = 1};
    send_message(&n, &far_schema_msg_report, &report);
    RUN_UNTIL(f, n.acked == 1);
    assert_string_equal(n.error_class, "");
    uint64_t boot = n.boot;
    disconnect(&n);

    connect_node(f, id, &n); /* the same process again: the same boot */
    say_hello(&n, id, 7);
    RUN_UNTIL(f, n.boot != 0);
    assert_int_equal(n.boot, boot);
    disconnect(&n);
    connect_node(f, id, &n); /* another process */
    say_hello(&n, id, 8);
    RUN_UNTIL(f, n.boot != 0);
    assert_true(n.boot > boot);
    disconnect(&n);
}

static void the_newer_of_two_streams_of_a_node_stays(void **state)
{
    struct fixture *f = *state;
    struct node first;
    struct node second;
    uint64_t id = server_alone_join_node(f, "n3");
    connect_node(f, id, &first);
    say_hello(&first, id, 1);
    RUN_UNTIL(f, first.boot != 0);
    connect_node(f, id, &second);
    say_hello(&second, id, 1);
    RUN_UNTIL(f, second.boot != 0 && first.closed);
    assert_false(second.closed);
    disconnect(&second);
    disconnect(&first);
}

static void a_node_with_another_key_than_it_joined_with_is_refused(void **state)
{
    struct fixture *f = *state;
    struct node n;
    struct far_error err;
    uint64_t id = server_alone_join_node(f, "twin");
    far_test_pki_identity(&f->pki, FAR_PARTY_NODE, id); /* the same CA signs another key for the same id */
    n = (struct node){.f = f, .id = id, .net = far_test_pki_net(&f->pki, FAR_PARTY_NODE, id)};
    assert_int_equal(far_stream_dial(n.net, &f->loop, far_listener_address(f->listener),
                                     (struct far_peer){FAR_PARTY_SERVER, 0}, FAR_PURPOSE_LINK, &node_callbacks, &n,
                                     &n.stream, &err),
                     0);
    RUN_UNTIL(f, n.closed);
    assert_false(n.opened);
    assert_non_null(strstr(n.why.message, "the key of the certificate is not the one that joined"));
    RUN_UNTIL(f, f->refused.klass != 0);
    assert_int_equal(f->refused.klass, FAR_DENIED);
    assert_non_null(strstr(f->refused.message, "node 'twin'"));
    far_net_free(n.net);
}

static void whoever_is_unknown_or_out_of_turn_is_cut_off(void **state)
{
    struct fixture *f = *state;
    struct node n;
    connect_node(f, 4711, &n); /* a certificate, but no row */
    say_hello(&n, 4711, 1);
    RUN_UNTIL(f, n.refused && n.closed);
    assert_string_equal(n.error_class, "not_found");
    disconnect(&n);

    uint64_t id = server_alone_join_node(f, "n4");
    connect_node(f, id, &n);
    say_hello(&n, id + 1, 1); /* in the name of somebody else */
    RUN_UNTIL(f, n.closed);
    assert_int_equal(n.boot, 0);
    disconnect(&n);

    connect_node(f, id, &n);
    struct far_msg_report report = {.sequence = 1};
    send_message(&n, &far_schema_msg_report, &report); /* before the hello */
    RUN_UNTIL(f, n.closed);
    disconnect(&n);

    connect_node(f, id, &n);
    assert_int_equal(far_stream_send(n.stream, FAR_KIND_msg_hello, far_slice("\xff\xff", 2)), 0);
    RUN_UNTIL(f, n.closed);
    disconnect(&n);
}

static void make_live(struct fixture *f, const char *name, struct node *n)
{
    uint64_t id = server_alone_join_node(f, name);
    connect_node(f, id, n);
    say_hello(n, id, 1);
    RUN_UNTIL(f, n->boot != 0);
}

/* About a task that there is not: it is passed over. */
static void report_one(struct node *n, uint64_t sequence, uint64_t state)
{
    struct far_sub_report_item item = {.job_id = 1, .task = 1, .attempt = 1, .state = state};
    struct far_msg_report report = {.sequence = sequence, .items = {&item, 1}};
    send_message(n, &far_schema_msg_report, &report);
}

/* The event of the node's newest report. */
static struct far_event last_report(struct fixture *f, const struct node *n)
{
    struct far_log_view view;
    struct far_arena arena;
    struct far_error err;
    struct far_event event = {.seq = 0};
    struct far_ev_node_reported reported = {.node_id = 0};
    far_arena_init(&arena, 1 << 20);
    assert_int_equal(far_log_view_begin(f->log, &view, &err), 0);
    for (uint64_t seq = view.last_seq; seq > 0 && reported.node_id != n->id; seq--) {
        assert_int_equal(far_log_view_event(&view, seq, &arena, &event, NULL, &err), 0);
        if (event.kind == FAR_KIND_ev_node_reported) {
            assert_int_equal(far_schema_decode(&far_schema_ev_node_reported, event.payload, &arena, &reported, &err), 0);
        }
    }
    assert_int_equal(reported.node_id, n->id);
    far_log_view_end(&view);
    far_arena_done(&arena);
    return event;
}

/* It ended while the node was between two streams: nobody told it, and each report would renew its lease. */
static void what_nobody_wants_of_a_node_is_stopped_when_it_says_that_it_runs(void **state)
{
    struct fixture *f = *state;
    struct node n = {.id = 0};
    make_live(f, "a", &n);
    report_one(&n, 1, FAR_report_state_done);
    RUN_UNTIL(f, n.acked == 1);
    assert_int_equal(n.told_stops, 0);
    report_one(&n, 2, FAR_report_state_running);
    RUN_UNTIL(f, n.told_stops == 1);
    RUN_UNTIL(f, n.acked == 2);
    disconnect(&n);
}

static void what_ended_goes_before_progress_that_waits(void **state)
{
    struct fixture *f = *state;
    struct node first, second, third;
    make_live(f, "n5", &first);
    make_live(f, "n6", &second);
    make_live(f, "n7", &third);
    report_one(&first, 1, FAR_report_state_running);
    report_one(&second, 1, FAR_report_state_running);
    report_one(&third, 1, FAR_report_state_failed);
    RUN_UNTIL(f, first.acked == 1 && second.acked == 1 && third.acked == 1);
    uint64_t one = last_report(f, &first).seq, two = last_report(f, &second).seq, ended = last_report(f, &third).seq;
    assert_true(ended < one && one < two);
    disconnect(&first);
    disconnect(&second);
    disconnect(&third);
}

static void whoever_goes_while_its_progress_waits_takes_nobody_along(void **state)
{
    struct fixture *f = *state;
    struct node nodes[3];
    make_live(f, "n8", &nodes[0]);
    make_live(f, "n9", &nodes[1]);
    make_live(f, "n10", &nodes[2]);
    for (size_t i = 0; i < 3; i++) {
        report_one(&nodes[i], 1, FAR_report_state_running);
    }
    disconnect(&nodes[2]); /* the last in the queue, most likely */
    RUN_UNTIL(f, nodes[0].acked == 1 && nodes[1].acked == 1);
    report_one(&nodes[0], 2, FAR_report_state_running);
    report_one(&nodes[1], 2, FAR_report_state_running);
    disconnect(&nodes[0]);
    RUN_UNTIL(f, nodes[1].acked == 2);
    disconnect(&nodes[1]);
}

static struct session *session_of(struct fixture *f, const struct node *n)
{
    struct session *session = f->link->sessions;
    while (session->node_id != n->id || session->state != SESSION_LIVE) {
        session = session->next;
        assert_non_null(session);
    }
    return session;
}

/* One small report after the other until one has to wait; returns its sequence. */
static uint64_t report_until_one_waits(struct fixture *f, struct node *n)
{
    const struct session *session = session_of(f, n);
    for (uint64_t sequence = 1; sequence < 20000; sequence++) {
        report_one(n, sequence, FAR_report_state_failed);
        RUN_UNTIL(f, n->acked == sequence || session->is_delayed);
        if (session->is_delayed) {
            return sequence;
        }
    }
    fail();
    return 0;
}

static void where_small_reports_come_all_the_time_one_waits_and_other_nodes_do_not(void **state)
{
    struct fixture *f = *state;
    struct node busy, quiet;
    make_live(f, "busy", &busy);
    make_live(f, "quiet", &quiet);
    uint64_t waits = report_until_one_waits(f, &busy);
    assert_true(waits > 200); /* a small plan's cycle never gets there */
    uv_timer_stop(&f->link->delay_timer); /* however slow this machine is */
    report_one(&quiet, 1, FAR_report_state_failed);
    RUN_UNTIL(f, quiet.acked == 1);
    assert_int_equal(busy.acked, waits - 1);
    uv_timer_set_repeat(&f->link->delay_timer, 1);
    uv_timer_again(&f->link->delay_timer);
    RUN_UNTIL(f, busy.acked == waits);
    uv_timer_set_repeat(&f->link->delay_timer, 0);
    assert_string_equal(busy.error_class, "");
    assert_true(last_report(f, &quiet).seq < last_report(f, &busy).seq);
    disconnect(&busy);
    disconnect(&quiet);
}

static void a_node_that_brings_something_back_does_not_wait_and_who_waits_may_go(void **state)
{
    struct fixture *f = *state;
    struct node n;
    make_live(f, "leaving", &n);
    report_until_one_waits(f, &n);
    disconnect(&n);

    make_live(f, "recovering", &n);
    uint64_t waits = report_until_one_waits(f, &n);
    RUN_UNTIL(f, n.acked == waits);
    session_of(f, &n)->recovers = true;
    for (uint64_t sequence = waits + 1; sequence < waits + 50; sequence++) {
        report_one(&n, sequence, FAR_report_state_failed);
        RUN_UNTIL(f, n.acked == sequence);
        assert_false(session_of(f, &n)->is_delayed);
    }
    disconnect(&n);
}

static void join_server(struct fixture *f, const char *name)
{
    struct far_error err;
    struct far_buf key = {.max = 4096};
    uint8_t public_key[32], private_key[32];
    char csr[4096], token[FAR_JOIN_TOKEN_TEXT_MAX];
    server_alone_token(f, name, FAR_token_purpose_join_server, token);
    assert_int_equal(far_pki_key_make(&key, &err), 0);
    assert_int_equal(far_seal_keypair(public_key, private_key, &err), 0);
    server_alone_request(far_buf_slice(&key), csr);
    assert_int_equal(server_alone_join(f, token, "server", name, csr, public_key), 0);
    far_secret_done(&key);
}

static void a_connected_node_is_told_the_servers_whenever_they_change(void **state)
{
    struct fixture *f = *state;
    struct node first, second;
    make_live(f, "n14", &first);
    make_live(f, "n15", &second);
    assert_int_equal(first.servers, 1);
    join_server(f, "b");
    RUN_UNTIL(f, first.servers == 2 && second.servers == 2);
    struct far_cmd_server_role_set remove = {.name = far_slice_str("b"), .role = FAR_server_role_removed};
    server_alone_command(f, &far_schema_cmd_server_role_set, &remove);
    RUN_UNTIL(f, first.servers == 1 && second.servers == 1);
    /* once for each change of the list; that a standby became a voter is none */
    assert_int_equal(first.told_servers, 2);
    assert_int_equal(second.told_servers, 2);
    disconnect(&first);
    disconnect(&second);
}

static void limit_node(struct fixture *f, const char *name, uint64_t rate)
{
    struct far_cmd_throttle_set set = {
        .scope = FAR_throttle_scope_node, .name = far_slice_str(name), .bytes_per_s = rate};
    server_alone_command(f, &far_schema_cmd_throttle_set, &set);
}

static void a_node_is_told_what_it_may_send_and_an_older_one_is_not(void **state)
{
    struct fixture *f = *state;
    struct node newer, older, other;
    uint64_t id = server_alone_join_node(f, "n16");
    limit_node(f, "n16", 20000);
    connect_node(f, id, &newer);
    newer.version = "0.2.0+level.4";
    say_hello(&newer, id, 1);
    RUN_UNTIL(f, newer.told_limits == 1);
    assert_int_equal(newer.rate, 20000);
    make_live(f, "n17", &older);
    uint64_t other_id = server_alone_join_node(f, "n18");
    connect_node(f, other_id, &other);
    other.version = "0.2.0+level.4";
    say_hello(&other, other_id, 1);
    RUN_UNTIL(f, other.told_limits == 1); /* that there is none: it may have been told another by a former server */
    assert_int_equal(other.rate, 0);
    limit_node(f, "n17", 30000);
    limit_node(f, "n16", 40000);
    RUN_UNTIL(f, newer.rate == 40000);
    limit_node(f, "n16", 40000);
    struct far_cmd_throttle_remove remove = {.scope = FAR_throttle_scope_node, .name = far_slice_str("n16")};
    server_alone_command(f, &far_schema_cmd_throttle_remove, &remove);
    RUN_UNTIL(f, newer.rate == 0);
    assert_int_equal(newer.told_limits, 3); /* not again what it knows */
    assert_int_equal(other.told_limits, 1);
    assert_int_equal(older.told_limits, 0);
    assert_false(older.closed);
    disconnect(&newer);
    disconnect(&older);
    disconnect(&other);
}

/* ---- the server stops ---- */

enum { CONNECTED = 3 };
static struct node connected[CONNECTED]; /* when the server stops */

static int stop_with_nodes_connected(void **state)
{
    int rc = server_alone_tear_down(state); /* the log holds that nobody follows it any more when it goes */
    for (size_t i = 0; i < CONNECTED; i++) {
        assert_true(connected[i].closed);
        far_net_free(connected[i].net);
    }
    return rc;
}

/* One that only said hello, one whose report was answered, one whose progress waits to be proposed. */
static void a_server_that_stops_lets_its_nodes_go_before_the_log(void **state)
{
    struct fixture *f = *state;
    make_live(f, "n11", &connected[0]);
    make_live(f, "n12", &connected[1]);
    make_live(f, "n13", &connected[2]);
    report_one(&connected[1], 1, FAR_report_state_failed);
    RUN_UNTIL(f, connected[1].acked == 1);
    report_one(&connected[1], 2, FAR_report_state_running);
    report_one(&connected[2], 1, FAR_report_state_running);
    for (int turn = 0; turn < 10; turn++) {
        uv_run(&f->loop, UV_RUN_NOWAIT);
    }
}

int main(void)
{
    const struct CMUnitTest stopping[] = {
        cmocka_unit_test_setup_teardown(a_server_that_stops_lets_its_nodes_go_before_the_log, server_alone_set_up,
                                        stop_with_nodes_connected),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_is_welcomed_and_its_reports_are_answered),
        cmocka_unit_test(the_newer_of_two_streams_of_a_node_stays),
        cmocka_unit_test(a_node_with_another_key_than_it_joined_with_is_refused),
        cmocka_unit_test(whoever_is_unknown_or_out_of_turn_is_cut_off),
        cmocka_unit_test(what_nobody_wants_of_a_node_is_stopped_when_it_says_that_it_runs),
        cmocka_unit_test(what_ended_goes_before_progress_that_waits),
        cmocka_unit_test(whoever_goes_while_its_progress_waits_takes_nobody_along),
        cmocka_unit_test(where_small_reports_come_all_the_time_one_waits_and_other_nodes_do_not),
        cmocka_unit_test(a_node_that_brings_something_back_does_not_wait_and_who_waits_may_go),
        cmocka_unit_test(a_connected_node_is_told_the_servers_whenever_they_change),
        cmocka_unit_test(a_node_is_told_what_it_may_send_and_an_older_one_is_not),
    };
    int failed = cmocka_run_group_tests_name("server_link", tests, server_alone_set_up, server_alone_tear_down);
    return failed + cmocka_run_group_tests_name("server_link_stops", stopping, NULL, NULL);
}
