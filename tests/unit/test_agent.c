/* node/agent.h against a server that the test plays on a real stream, with a real engine: how long an order is acted upon.
 *
 * The order is to receive from a node that never comes, so it runs until somebody ends it. What the node thinks of it is seen in
 * its reports, at least one a second. Leases pass in real time, and are long enough for a busy machine.
 *
 * far-timeout: 180 */
#define _GNU_SOURCE
#include "../lib/cm.h"
#include "../lib/made_pki.h"
#include "../lib/remove_tree.h"
#include "../lib/until.h"
#include "dataplane/engine_local.h"
#include "fsm/schema.h"
#include "node/agent.h"

#include <stdlib.h>
#include <sys/stat.h>

enum { SERVER = 1, NODE = 9, JOB = 5, TASK = 2, OTHER = 3, ATTEMPT = 1 };

struct fixture {
    char dir[200];
    struct far_test_pki pki;
    struct far_net *server_net, *node_net;
    uv_loop_t loop;
    struct far_listener *listener;
    struct far_agent *agent;
    struct far_engine *engine;
    uint64_t lease_ms;
    bool listener_closed, agent_closed;
    /* the server */
    struct far_stream *stream;
    unsigned hellos, reports;
    uint8_t nonce[16];
    char version[64]; /* that the hello named */
    uint64_t sequence;  /* of the last report */
    uint64_t report_ms; /* when it came */
    bool names_order;   /* it says that the order runs */
    bool names_other;   /* the same of the one with task OTHER */
    size_t items;       /* in it */
};

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

#define RUN_UNTIL(f, condition)                                                                \
    do {                                                                                       \
        uint64_t deadline_ms = now_ms() + 30000u * (unsigned)far_test_slow();                  \
        while (!(condition)) {                                                                 \
            assert_true(now_ms() < deadline_ms);                                               \
            uv_run(&(f)->loop, UV_RUN_ONCE); /* the agent's timer ends each turn */              \
        }                                                                                      \
    } while (0)

/* ---- the server ---- */

static void on_open(void *arg, struct far_stream *stream, struct far_peer peer, enum far_purpose purpose)
{
    struct fixture *f = arg;
    assert_int_equal(peer.id, NODE);
    assert_int_equal(purpose, FAR_PURPOSE_LINK);
    f->stream = stream;
}

static void on_report(struct fixture *f, const struct far_msg_report *report)
{
    const struct far_sub_report_item *items = report->items.items;
    f->names_order = f->names_other = false;
    f->items = report->items.count;
    for (size_t i = 0; i < report->items.count; i++) {
        f->names_order = f->names_order || (items[i].job_id == JOB && items[i].task == TASK && items[i].attempt == ATTEMPT &&
                                            items[i].state == FAR_report_state_running);
        f->names_other = f->names_other || (items[i].job_id == JOB && items[i].task == OTHER);
    }
    f->sequence = report->sequence;
    f->report_ms = now_ms();
    f->reports++;
}

static void on_frame(void *arg, struct far_stream *stream, uint16_t type, struct far_slice payload)
{
    struct fixture *f = arg;
    struct far_arena arena;
    (void)stream;
    far_arena_init(&arena, 1 << 20);
    if (type == FAR_KIND_msg_hello) {
        struct far_msg_hello hello;
        assert_int_equal(far_schema_decode(&far_schema_msg_hello, payload, &arena, &hello, NULL), 0);
        memcpy(f->nonce, hello.nonce.data, sizeof f->nonce);
        snprintf(f->version, sizeof f->version, "%.*s", (int)hello.version.len, (const char *)hello.version.data);
        f->hellos++;
    } else {
        struct far_msg_report report;
        assert_int_equal(type, FAR_KIND_msg_report);
        assert_int_equal(far_schema_decode(&far_schema_msg_report, payload, &arena, &report, NULL), 0);
        on_report(f, &report);
    }
    far_arena_done(&arena);
}

static void on_close(void *arg, struct far_stream *stream, const struct far_error *why)
{
    struct fixture *f = arg;
    (void)stream;
    (void)why;
    f->stream = NULL;
}

static const struct far_stream_callbacks callbacks = {on_open, on_frame, on_close};

static void say(struct fixture *f, const struct far_schema *schema, const void *message)
{
    struct far_buf payload;
    far_buf_init(&payload, 8192);
    assert_int_equal(far_schema_encode(schema, message, &payload, NULL), 0);
    assert_int_equal(far_stream_send(f->stream, schema->kind, far_buf_slice(&payload)), 0);
    far_buf_done(&payload);
}

static void welcome(struct fixture *f, uint64_t boot)
{
    RUN_UNTIL(f, f->stream != NULL && f->hellos > 0);
    f->hellos = 0;
    struct far_msg_welcome message = {.boot = boot, .lease_ms = f->lease_ms, .incarnation_epoch = 1};
    say(f, &far_schema_msg_welcome, &message);
}

static void order_task(struct fixture *f, uint64_t task)
{
    struct far_sub_order start = {.job_id = JOB, .task = task, .attempt = ATTEMPT, .kind = FAR_task_kind_receive,
                                  .lease_ms = f->lease_ms, .incarnation_epoch = 1, .plan_epoch = 1, .plan_id = 3,
                                  .plan = far_slice_str("p"), .workload_id = 4, .workload = far_slice_str("w"),
                                  .adapter = far_slice_str("file"), .disk_id = 6, .disk = far_slice_str("d"),
                                  .freeze_ref = far_slice_str("view"), .size_bytes = 65536, .peer_node_id = 77};
    struct far_msg_orders orders = {.start = {&start, 1}};
    say(f, &far_schema_msg_orders, &orders);
}

static void order(struct fixture *f)
{
    order_task(f, TASK);
}

static void refuse(struct fixture *f, const char *class_name)
{
    struct far_msg_report_ack ack = {
        .sequence = f->sequence, .error_class = far_slice_str(class_name), .error_message = far_slice_str("so it is")};
    say(f, &far_schema_msg_report_ack, &ack);
}

static void confirm(struct fixture *f)
{
    struct far_msg_report_ack ack = {.sequence = f->sequence};
    say(f, &far_schema_msg_report_ack, &ack);
}

/* The report after the one that came last. */
static void next_report(struct fixture *f)
{
    unsigned before = f->reports;
    RUN_UNTIL(f, f->reports > before);
}

static void pass_until(struct fixture *f, uint64_t at_ms)
{
    RUN_UNTIL(f, now_ms() >= at_ms);
}

/* Confirms reports until one names the order; that one is not confirmed. */
static void until_it_runs(struct fixture *f)
{
    do {
        next_report(f);
        if (!f->names_order) {
            confirm(f);
        }
    } while (!f->names_order);
}

/* ---- set-up ---- */

static void on_done(void *arg)
{
    *(bool *)arg = true;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char pki_dir[sizeof f->dir + 8], vault[sizeof f->dir + 8];
    struct far_error err = {0};
    assert_int_equal(far_test_make_folder("agent", f->dir, sizeof f->dir), 0);
    snprintf(pki_dir, sizeof pki_dir, "%s/pki", f->dir);
    snprintf(vault, sizeof vault, "%s/vault", f->dir);
    assert_int_equal(mkdir(pki_dir, 0700), 0);
    far_test_pki_init(&f->pki, pki_dir, 0xaa);
    f->server_net = far_test_pki_net(&f->pki, FAR_PARTY_SERVER, SERVER);
    f->node_net = far_test_pki_net(&f->pki, FAR_PARTY_NODE, NODE);
    f->lease_ms = 2500u * (unsigned)(far_test_slow() < 4 ? far_test_slow() : 4);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(far_listener_new(f->server_net, &f->loop, "127.0.0.1:0", &callbacks, f, &f->listener, &err), 0);
    struct far_agent_server server = {.id = SERVER};
    snprintf(server.address, sizeof server.address, "%s", far_listener_address(f->listener));
    const struct far_agent_config config = {.net = f->node_net, .node_id = NODE, .servers = &server, .server_count = 1};
    assert_int_equal(far_agent_new(&config, &f->loop, &f->agent, &err), 0);
    const struct far_engine_config engine = {.net = f->node_net, .listen_address = "127.0.0.1:0", .vault_dir = vault,
                                             .memory_bytes = 16 << 20, .idle_ms = 600 * 1000, .worker_count = 1};
    assert_int_equal(far_engine_new(&engine, far_agent_report, f->agent, &f->engine, &err), 0);
    far_agent_start(f->agent, f->engine);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    far_engine_free(f->engine);
    far_agent_close(f->agent, on_done, &f->agent_closed);
    if (f->stream != NULL) {
        far_stream_close(f->stream);
    }
    far_listener_close(f->listener, on_done, &f->listener_closed);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(f->agent_closed && f->listener_closed);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    far_net_free(f->server_net);
    far_net_free(f->node_net);
    far_test_pki_done(&f->pki);
    int rc = far_test_remove_tree(f->dir);
    free(f);
    return rc;
}

/* ---- tests ---- */

static void an_order_goes_on_while_its_reports_are_confirmed(void **state)
{
    struct fixture *f = *state;
    welcome(f, 1);
    order(f);
    until_it_runs(f);
    uint64_t end_ms = now_ms() + 2 * f->lease_ms;
    while (now_ms() < end_ms) {
        confirm(f);
        next_report(f);
    }
    confirm(f);
    next_report(f);
    assert_true(f->names_order);
}

/* The server hears the reports and does not answer: it may never have committed them. */
static void without_a_confirmed_report_the_node_stops_by_itself(void **state)
{
    struct fixture *f = *state;
    welcome(f, 1);
    order(f);
    until_it_runs(f);
    uint64_t first = f->sequence;
    pass_until(f, f->report_ms + f->lease_ms);
    assert_int_equal(f->sequence, first); /* one is under way at a time */
    confirm(f);                           /* too late for the order, not for what follows */
    next_report(f);
    assert_int_equal(f->sequence, first + 1);
    assert_false(f->names_order);
}

/* A lease is counted from sending what was confirmed, not from when the answer came. */
static void a_late_confirmation_gives_no_more_than_was_asked_for(void **state)
{
    struct fixture *f = *state;
    welcome(f, 1);
    order(f);
    until_it_runs(f);
    uint64_t sent_ms = f->report_ms;
    pass_until(f, sent_ms + f->lease_ms / 2);
    confirm(f);
    next_report(f); /* at once: a second has passed */
    assert_true(f->names_order);
    pass_until(f, sent_ms + f->lease_ms); /* and half a lease less since the answer */
    confirm(f);
    next_report(f);
    assert_false(f->names_order);
}

/* What an order's lease is counted from lies before the order: it may have been under way for long. */
static void an_order_that_came_late_is_not_acted_upon_for_longer(void **state)
{
    struct fixture *f = *state;
    welcome(f, 1);
    next_report(f);
    pass_until(f, f->report_ms + f->lease_ms);
    confirm(f);
    order(f);
    order(f); /* again: nothing is renewed by it */
    next_report(f);
    pass_until(f, f->report_ms + 1000); /* the agent looked at its leases meanwhile */
    confirm(f);
    next_report(f);
    assert_false(f->names_order);
}

/* The stream ends and comes back under the same boot: the same report again, and nothing has stopped. Under another boot the
 * servers gave it up: it starts from nothing. */
static void another_boot_ends_what_ran_and_the_same_one_does_not(void **state)
{
    struct fixture *f = *state;
    uint8_t nonce[16];
    welcome(f, 1);
    order(f);
    until_it_runs(f);
    uint64_t sequence = f->sequence;
    memcpy(nonce, f->nonce, sizeof nonce);
    far_stream_close(f->stream);
    RUN_UNTIL(f, f->stream == NULL);
    welcome(f, 1);
    assert_memory_equal(f->nonce, nonce, sizeof nonce);
    next_report(f);
    assert_true(f->names_order && f->sequence == sequence);
    confirm(f);
    next_report(f);
    assert_int_equal(f->sequence, sequence + 1);
    if (!f->names_order) { /* the engine had nothing new to tell of it yet; it does once a second while it goes on */
        confirm(f);
        until_it_runs(f);
    }
    far_stream_close(f->stream);
    RUN_UNTIL(f, f->stream == NULL);
    welcome(f, 2);
    next_report(f);
    assert_int_equal(f->sequence, 1);
    assert_false(f->names_order);
}

static void what_it_may_send_holds_until_it_is_told_otherwise(void **state)
{
    struct fixture *f = *state;
    struct far_sub_plan_limit plan = {.plan_id = 3, .bytes_per_s = 20000};
    struct far_msg_limits limits = {.bytes_per_s = 50000, .plans = {&plan, 1}}, none = {.bytes_per_s = 0};
    welcome(f, 1);
    assert_non_null(strstr(f->version, FAR_VERSION "+level."));
    say(f, &far_schema_msg_limits, &limits);
    RUN_UNTIL(f, far_throttle_rate(f->engine->throttle, 3) == 20000);
    assert_int_equal(far_throttle_rate(f->engine->throttle, 4), 50000);
    far_stream_close(f->stream);
    RUN_UNTIL(f, f->stream == NULL);
    welcome(f, 1);
    next_report(f);
    assert_int_equal(far_throttle_rate(f->engine->throttle, 3), 20000);
    say(f, &far_schema_msg_limits, &none);
    RUN_UNTIL(f, far_throttle_rate(f->engine->throttle, 3) == 0);
}

/* ---- refused reports ---- */

static void begin_both(struct fixture *f)
{
    welcome(f, 1);
    order_task(f, TASK);
    order_task(f, OTHER);
}

/* What the log never takes is said a few times, alone at last, and no more; the order beside it goes on all the while. */
static void what_is_refused_for_good_is_dropped_and_the_others_go_on(void **state)
{
    struct fixture *f = *state;
    unsigned refusals = 0, confirmed = 0;
    begin_both(f);
    uint64_t end_ms = now_ms() + 3 * f->lease_ms;
    while (now_ms() < end_ms) {
        next_report(f);
        refusals += f->names_other;
        confirmed += !f->names_other && f->names_order;
        if (f->names_other) {
            refuse(f, "internal");
        } else {
            confirm(f);
        }
    }
    assert_in_range(refusals, 2, 5); /* with the other one, and alone with all, bare */
    assert_true(confirmed > 2);
    until_it_runs(f);
}

static void what_may_be_taken_later_is_sent_again_and_the_others_go_on(void **state)
{
    struct fixture *f = *state;
    unsigned refusals = 0;
    begin_both(f);
    while (refusals < 3) {
        next_report(f);
        refusals += f->names_other;
        if (f->names_other) {
            refuse(f, "busy");
        } else {
            confirm(f);
        }
    }
    bool other = false, own = false;
    while (!other || !own) { /* the third refusal was half a lease ago at the most */
        next_report(f);
        other = other || f->names_other;
        own = own || f->names_order;
        confirm(f);
    }
}

/* Nothing at all is taken: the node does not hammer, and begins again with nothing. */
static void while_nothing_is_taken_the_node_waits(void **state)
{
    struct fixture *f = *state;
    uint64_t pause_ms = 250;
    welcome(f, 1);
    order(f);
    do {
        next_report(f);
        if (f->items == 0) {
            confirm(f);
        }
    } while (f->items == 0);
    refuse(f, "busy");
    next_report(f);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(f->items, 0);
        uint64_t refused_ms = now_ms();
        refuse(f, "busy");
        next_report(f);
        assert_true(now_ms() - refused_ms >= pause_ms - 50); /* the loop's clock is that of its last turn */
        pause_ms *= 2;
    }
    assert_int_equal(f->hellos, 0); /* on the same stream */
}

/* It is not what is said: the servers count otherwise. */
static void refused_with_nothing_in_it_the_node_begins_anew(void **state)
{
    struct fixture *f = *state;
    uint8_t nonce[16];
    welcome(f, 1);
    memcpy(nonce, f->nonce, sizeof nonce);
    order(f);
    do {
        next_report(f);
        refuse(f, "conflict");
    } while (f->items > 0);
    welcome(f, 2);
    assert_memory_not_equal(f->nonce, nonce, sizeof nonce);
    next_report(f);
    assert_int_equal(f->sequence, 1);
    assert_int_equal(f->items, 0);
}

/* Nobody knows whether it was taken: the very same report again, on another stream. */
static void an_unknown_outcome_has_the_same_report_sent_again(void **state)
{
    struct fixture *f = *state;
    welcome(f, 1);
    order(f);
    until_it_runs(f);
    uint64_t sequence = f->sequence;
    refuse(f, "unknown_outcome");
    RUN_UNTIL(f, f->stream == NULL);
    welcome(f, 1);
    next_report(f);
    assert_true(f->names_order && f->sequence == sequence);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_order_goes_on_while_its_reports_are_confirmed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_confirmed_report_the_node_stops_by_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_late_confirmation_gives_no_more_than_was_asked_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_order_that_came_late_is_not_acted_upon_for_longer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_it_may_send_holds_until_it_is_told_otherwise, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_refused_for_good_is_dropped_and_the_others_go_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_may_be_taken_later_is_sent_again_and_the_others_go_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(while_nothing_is_taken_the_node_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refused_with_nothing_in_it_the_node_begins_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_unknown_outcome_has_the_same_report_sent_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_boot_ends_what_ran_and_the_same_one_does_not, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
