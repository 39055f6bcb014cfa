/* Three logs in one process over TLS: see log_kit.h. */
#define _GNU_SOURCE
#include "log_kit.h"
#include "remove_tree.h"

#include "cm.h"
#include "entries.h"
#include "made_pki.h"

#include <sys/stat.h>
#include <unistd.h>

struct kit_server kit_servers[KIT_SERVERS + 1];
uv_loop_t kit_loop;
char kit_root[256];
uint64_t kit_low_space_bytes = 1;
uint64_t kit_epoch_events;
uint64_t kit_next_number = 100;
static uv_timer_t waker;
static struct far_test_pki pki;
static struct far_buf payload;

/* ---- the loop ---- */

static void on_wake(uv_timer_t *timer)
{
    (void)timer;
}

void kit_turn(void)
{
    uv_run(&kit_loop, UV_RUN_ONCE);
}


/* ---- servers ---- */

static void on_open(void *arg, struct far_stream *stream, struct far_peer peer, enum far_purpose purpose)
{
    struct kit_server *server = arg;
    if (server->log == NULL || purpose != FAR_PURPOSE_RAFT) {
        far_stream_close(stream);
        return;
    }
    far_log_accept(server->log, peer.id, stream);
}

static void on_frame(void *arg, struct far_stream *stream, uint16_t type, struct far_slice bytes)
{
    (void)arg;
    (void)stream;
    (void)type;
    (void)bytes;
}

static void on_stream_close(void *arg, struct far_stream *stream, const struct far_error *why)
{
    (void)arg;
    (void)stream;
    (void)why;
}

static const struct far_stream_callbacks callbacks = {
    .on_open = on_open, .on_frame = on_frame, .on_close = on_stream_close};

struct far_log_config kit_config_of(struct kit_server *server)
{
    return (struct far_log_config){.dir = server->dir,
                                   .server_id = server->id,
                                   .address = server->address,
                                   .net = server->net,
                                   .election_ms = 1000,
                                   .wal_bytes_max = 64 * 1024,
                                   .reserve_bytes = 4096,
                                   .low_space_bytes = kit_low_space_bytes,
                                   .full_space_bytes = 1,
                                   .map_bytes = (size_t)1 << 30,
                                   .epoch_events = kit_epoch_events,
                                   .events_max = KIT_EVENTS_MAX,
                                   .segment_events = KIT_SEGMENT_EVENTS};
}

void kit_open_server(struct kit_server *server)
{
    struct far_error err = {0};
    struct far_log_config config = kit_config_of(server);
    if (far_listener_new(server->net, &kit_loop, server->address, &callbacks, server, &server->listener, &err) != 0) {
        fail_msg("%s", err.message);
    }
    snprintf(server->address, sizeof server->address, "%s", far_listener_address(server->listener));
    if (far_log_open(&config, &kit_loop, NULL, NULL, NULL, &server->log, &err) != 0) {
        fail_msg("server %d: %s", (int)server->id, err.message);
    }
}

void kit_make_server(uint64_t id)
{
    struct kit_server *server = &kit_servers[id];
    struct far_error err = {0};
    server->id = id;
    snprintf(server->dir, sizeof server->dir, "%s/%d", kit_root, (int)id);
    assert_int_equal(mkdir(server->dir, 0700), 0);
    server->net = far_test_pki_net(&pki, FAR_PARTY_SERVER, id);
    snprintf(server->address, sizeof server->address, "127.0.0.1:0");
    if (far_listener_new(server->net, &kit_loop, server->address, &callbacks, server, &server->listener, &err) != 0) {
        fail_msg("%s", err.message);
    }
    snprintf(server->address, sizeof server->address, "%s", far_listener_address(server->listener));
    struct far_log_config config = kit_config_of(server);
    if (id == 1 && far_log_bootstrap(&config, &err) != 0) {
        fail_msg("%s", err.message);
    }
    if (far_log_open(&config, &kit_loop, NULL, NULL, NULL, &server->log, &err) != 0) {
        fail_msg("server %d: %s", (int)id, err.message);
    }
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

void kit_close_server(struct kit_server *server)
{
    bool is_closed = false;
    struct far_log *log = server->log;
    server->log = NULL;
    far_log_close(log, on_closed, &is_closed);
    WAIT_FOR(is_closed);
    is_closed = false;
    far_listener_close(server->listener, on_closed, &is_closed);
    server->listener = NULL;
    WAIT_FOR(is_closed);
}

/* ---- calls ---- */


void kit_on_done(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct kit_call *call = arg;
    assert_false(call->is_done);
    call->is_done = true;
    call->result = *result;
    call->applied_index = applied_index;
}

struct kit_call kit_propose(struct kit_server *server, const struct far_command *command)
{
    struct kit_call call = {0};
    far_log_propose(server->log, command, KIT_CALL_MS, kit_on_done, &call);
    assert_false(call.is_done);
    WAIT_FOR(call.is_done);
    return call;
}

/* Until it is accepted, with the same id, as clients do. */
void kit_must_propose(struct kit_server *server, uint64_t number)
{
    uint64_t give_up = far_clock_monotonic_ms() + KIT_WAIT_MS;
    for (;;) {
        struct far_command command = far_test_site_create(number, &payload);
        struct kit_call call = kit_propose(server, &command);
        if (call.result.klass == 0) {
            return;
        }
        if (far_clock_monotonic_ms() > give_up ||
            (call.result.klass != FAR_BUSY && call.result.klass != FAR_UNKNOWN_OUTCOME)) {
            fail_msg("site-%d: %s", (int)number, call.result.message);
        }
        kit_turn();
    }
}

struct kit_server *kit_leader(void)
{
    struct kit_server *found = NULL;
    uint64_t term = 0;
    for (int i = 1; i <= KIT_SERVERS; i++) {
        struct far_log_status status = {0};
        if (kit_servers[i].log != NULL) {
            far_log_status(kit_servers[i].log, &status);
        }
        if (status.is_leader && status.term > term) { /* an older one has not noticed yet */
            found = &kit_servers[i];
            term = status.term;
        }
    }
    return found;
}

struct kit_server *kit_follower(void)
{
    struct kit_server *is_leader = kit_leader();
    for (int i = 1; i <= KIT_SERVERS; i++) {
        if (kit_servers[i].log != NULL && &kit_servers[i] != is_leader) {
            return &kit_servers[i];
        }
    }
    return NULL;
}

uint64_t kit_applied(struct kit_server *server)
{
    struct far_log_status status;
    far_log_status(server->log, &status);
    return status.applied_index;
}

bool kit_all_at(uint64_t index)
{
    for (int i = 1; i <= KIT_SERVERS; i++) {
        if (kit_servers[i].log != NULL && kit_applied(&kit_servers[i]) < index) {
            return false;
        }
    }
    return true;
}


/* The digest is walked from the bytes. */
struct kit_state kit_read_state(struct kit_server *server)
{
    struct far_log_view view;
    uint64_t pairs;
    assert_int_equal(far_log_view_begin(server->log, &view, NULL), 0);
    struct kit_state state = {.index = view.applied_index, .first_seq = view.first_seq, .last_seq = view.last_seq};
    memcpy(state.head, view.head, sizeof state.head);
    assert_int_equal(far_state_digest_walk(view.state.kv, &state.walked, &pairs, NULL), 0);
    assert_true(far_hash128_equal(state.walked, view.digest));
    far_log_view_end(&view);
    return state;
}

bool kit_are_equal(void)
{
    struct kit_state first = {0};
    for (int i = 1; i <= KIT_SERVERS; i++) {
        if (kit_servers[i].log == NULL) {
            continue;
        }
        struct kit_state state = kit_read_state(&kit_servers[i]);
        if (first.index != 0 && (state.index != first.index || memcmp(state.head, first.head, 32) != 0 ||
                                 !far_hash128_equal(state.walked, first.walked))) {
            return false;
        }
        first = state;
    }
    return true;
}


void kit_must_change(kit_member_fn change, uint64_t id)
{
    uint64_t give_up = far_clock_monotonic_ms() + KIT_WAIT_MS;
    struct kit_call call;
    do {
        WAIT_FOR(kit_leader() != NULL);
        call = (struct kit_call){0};
        change(kit_leader()->log, id, kit_on_done, &call);
        WAIT_FOR(call.is_done);
    } while ((call.result.klass == FAR_NOT_LEADER || call.result.klass == FAR_UNKNOWN_OUTCOME) &&
             far_clock_monotonic_ms() < give_up);
    if (call.result.klass != 0) {
        fail_msg("server %d: %s", (int)id, call.result.message);
    }
}

static void add(struct far_log *log, uint64_t id, far_log_done_fn done, void *arg)
{
    far_log_member_add(log, id, kit_servers[id].address, done, arg);
}

void kit_add_server(uint64_t id)
{
    kit_make_server(id);
    kit_must_change(add, id);
    kit_must_change(far_log_member_promote, id);
}

/* ---- around ---- */

int kit_setup(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(kit_root, sizeof kit_root, "%s/far-cluster-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(kit_root));
    far_buf_init(&payload, 64 * 1024);
    assert_int_equal(uv_loop_init(&kit_loop), 0);
    assert_int_equal(uv_timer_init(&kit_loop, &waker), 0);
    assert_int_equal(uv_timer_start(&waker, on_wake, 10, 10), 0); /* so that turns end */
    far_test_pki_init(&pki, kit_root, 7);
    return 0;
}

int kit_teardown(void **state)
{
    (void)state;
    for (int i = 1; i <= KIT_SERVERS; i++) {
        if (kit_servers[i].log != NULL) {
            kit_close_server(&kit_servers[i]);
        }
        far_net_free(kit_servers[i].net);
    }
    uv_close((uv_handle_t *)&waker, NULL);
    while (uv_run(&kit_loop, UV_RUN_DEFAULT) != 0) {
    }
    assert_int_equal(uv_loop_close(&kit_loop), 0);
    far_buf_done(&payload);
    memset(kit_servers, 0, sizeof kit_servers);
    kit_low_space_bytes = 1;
    return far_test_remove_tree(kit_root);
}

