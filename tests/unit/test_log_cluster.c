/* Three logs in one process over real TLS on loopback: what was answered is everywhere, whoever stops and comes back. */
#define _GNU_SOURCE
#include "../lib/cm.h"

#include "../lib/entries.h"
#include "../lib/made_pki.h"
#include "base/clock.h"
#include "log/log.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SERVERS = 3, WAIT_MS = 20000, CALL_MS = 10000 };

struct server {
    uint64_t id;
    char dir[300];
    char address[64];
    struct far_net *net;
    struct far_listener *listener;
    struct far_log *log;
    bool is_closed;
};

static uv_loop_t loop;
static uv_timer_t waker;
static char root[256];
static struct far_test_pki pki;
static struct server servers[SERVERS + 1]; /* by id, from 1 */
static struct far_buf payload;
static uint64_t next_number = 100;

/* ---- the loop ---- */

static void on_wake(uv_timer_t *timer)
{
    (void)timer;
}

static void turn(void)
{
    uv_run(&loop, UV_RUN_ONCE);
}

#define WAIT_FOR(condition)                                                      \
    do {                                                                         \
        uint64_t wait_until = far_clock_monotonic_ms() + WAIT_MS;                   \
        while (!(condition)) {                                                   \
            if (far_clock_monotonic_ms() > wait_until) {                            \
                fail_msg("line %d: did not happen: %s", __LINE__, #condition);   \
            }                                                                    \
            turn();                                                              \
        }                                                                        \
    } while (0)

/* ---- servers ---- */

static void on_open(void *arg, struct far_stream *stream, struct far_peer peer, enum far_purpose purpose)
{
    struct server *server = arg;
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

static struct far_log_config config_of(struct server *server)
{
    return (struct far_log_config){.dir = server->dir,
                                   .server_id = server->id,
                                   .address = server->address,
                                   .net = server->net,
                                   .election_ms = 500,
                                   .wal_bytes_max = 64 * 1024,
                                   .reserve_bytes = 4096,
                                   .low_space_bytes = 1,
                                   .full_space_bytes = 1,
                                   .map_bytes = (size_t)1 << 30};
}

static void open_server(struct server *server)
{
    struct far_error err = {0};
    struct far_log_config config = config_of(server);
    if (far_listener_new(server->net, &loop, server->address, &callbacks, server, &server->listener, &err) != 0) {
        fail_msg("%s", err.message);
    }
    snprintf(server->address, sizeof server->address, "%s", far_listener_address(server->listener));
    if (far_log_open(&config, &loop, NULL, NULL, NULL, &server->log, &err) != 0) {
        fail_msg("server %d: %s", (int)server->id, err.message);
    }
}

static void make_server(uint64_t id)
{
    struct server *server = &servers[id];
    struct far_error err = {0};
    server->id = id;
    snprintf(server->dir, sizeof server->dir, "%s/%d", root, (int)id);
    assert_int_equal(mkdir(server->dir, 0700), 0);
    server->net = far_test_pki_net(&pki, FAR_PARTY_SERVER, id);
    snprintf(server->address, sizeof server->address, "127.0.0.1:0");
    if (far_listener_new(server->net, &loop, server->address, &callbacks, server, &server->listener, &err) != 0) {
        fail_msg("%s", err.message);
    }
    snprintf(server->address, sizeof server->address, "%s", far_listener_address(server->listener));
    struct far_log_config config = config_of(server);
    if (id == 1 && far_log_bootstrap(&config, &err) != 0) {
        fail_msg("%s", err.message);
    }
    if (far_log_open(&config, &loop, NULL, NULL, NULL, &server->log, &err) != 0) {
        fail_msg("server %d: %s", (int)id, err.message);
    }
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

static void close_server(struct server *server)
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

struct call {
    bool is_done;
    struct far_result result;
    uint64_t applied_index;
};

static void on_done(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct call *call = arg;
    assert_false(call->is_done);
    call->is_done = true;
    call->result = *result;
    call->applied_index = applied_index;
}

static struct call propose(struct server *server, const struct far_command *command)
{
    struct call call = {0};
    far_log_propose(server->log, command, CALL_MS, on_done, &call);
    assert_false(call.is_done);
    WAIT_FOR(call.is_done);
    return call;
}

/* Until it is accepted, with the same id, as clients do. */
static void must_propose(struct server *server, uint64_t number)
{
    uint64_t give_up = far_clock_monotonic_ms() + WAIT_MS;
    for (;;) {
        struct far_command command = far_test_site_create(number, &payload);
        struct call call = propose(server, &command);
        if (call.result.klass == 0) {
            return;
        }
        if (far_clock_monotonic_ms() > give_up ||
            (call.result.klass != FAR_BUSY && call.result.klass != FAR_UNKNOWN_OUTCOME)) {
            fail_msg("site-%d: %s", (int)number, call.result.message);
        }
        turn();
    }
}

static struct server *leader(void)
{
    for (int i = 1; i <= SERVERS; i++) {
        struct far_log_status status;
        if (servers[i].log != NULL) {
            far_log_status(servers[i].log, &status);
            if (status.is_leader && !status.stale) {
                return &servers[i];
            }
        }
    }
    return NULL;
}

static struct server *follower(void)
{
    struct server *is_leader = leader();
    for (int i = 1; i <= SERVERS; i++) {
        if (servers[i].log != NULL && &servers[i] != is_leader) {
            return &servers[i];
        }
    }
    return NULL;
}

static uint64_t applied(struct server *server)
{
    struct far_log_status status;
    far_log_status(server->log, &status);
    return status.applied_index;
}

static bool all_at(uint64_t index)
{
    for (int i = 1; i <= SERVERS; i++) {
        if (servers[i].log != NULL && applied(&servers[i]) < index) {
            return false;
        }
    }
    return true;
}

struct state {
    uint64_t index, first_seq, last_seq;
    uint8_t head[32];
    struct far_hash128 walked;
};

/* The digest is walked from the bytes. */
static struct state read_state(struct server *server)
{
    struct far_log_view view;
    uint64_t pairs;
    assert_int_equal(far_log_view_begin(server->log, &view, NULL), 0);
    struct state state = {.index = view.applied_index, .first_seq = view.first_seq, .last_seq = view.last_seq};
    memcpy(state.head, view.head, sizeof state.head);
    assert_int_equal(far_state_digest_walk(view.state.kv, &state.walked, &pairs, NULL), 0);
    assert_true(far_hash128_equal(state.walked, view.digest));
    far_log_view_end(&view);
    return state;
}

static bool are_equal(void)
{
    struct state first = {0};
    for (int i = 1; i <= SERVERS; i++) {
        if (servers[i].log == NULL) {
            continue;
        }
        struct state state = read_state(&servers[i]);
        if (first.index != 0 && (state.index != first.index || memcmp(state.head, first.head, 32) != 0 ||
                                 !far_hash128_equal(state.walked, first.walked))) {
            return false;
        }
        first = state;
    }
    return true;
}

typedef void (*member_fn)(struct far_log *log, uint64_t id, far_log_done_fn done, void *arg);

static void must_change(member_fn change, uint64_t id)
{
    WAIT_FOR(leader() != NULL);
    struct call call = {0};
    change(leader()->log, id, on_done, &call);
    WAIT_FOR(call.is_done);
    if (call.result.klass != 0) {
        fail_msg("server %d: %s", (int)id, call.result.message);
    }
}

static void add_server(uint64_t id)
{
    make_server(id);
    struct call call = {0};
    far_log_member_add(leader()->log, id, servers[id].address, on_done, &call);
    WAIT_FOR(call.is_done);
    if (call.result.klass != 0) {
        fail_msg("add server %d: %s", (int)id, call.result.message);
    }
    must_change(far_log_member_promote, id);
}

/* ---- the story, in the order of the tests ---- */

static void one_server_leads_and_answers(void **state)
{
    (void)state;
    make_server(1);
    WAIT_FOR(leader() != NULL);
    struct far_command init = far_test_cluster_init(&payload);
    struct call call = propose(&servers[1], &init);
    assert_int_equal(call.result.klass, 0);
    must_propose(&servers[1], next_number);
    struct far_command again = far_test_site_create(next_number, &payload);
    call = propose(&servers[1], &again);
    assert_int_equal(call.result.klass, 0);
    assert_true(call.result.repeated);
    again.id[0] ^= 0xff; /* the same name under another id */
    call = propose(&servers[1], &again);
    assert_int_equal(call.result.klass, FAR_CONFLICT);
    next_number++;
}

static void two_more_join_and_are_promoted(void **state)
{
    (void)state;
    add_server(2);
    add_server(3);
    struct far_log_status status;
    far_log_status(leader()->log, &status);
    assert_int_equal(status.member_count, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(status.members[i].role, FAR_server_role_voter);
    }
    WAIT_FOR(all_at(status.applied_index) && are_equal());
}

static void a_follower_passes_commands_on_and_sees_its_own_writes(void **state)
{
    (void)state;
    WAIT_FOR(leader() != NULL && follower() != NULL);
    struct server *server = follower();
    struct far_command command = far_test_site_create(next_number++, &payload);
    struct call call = propose(server, &command), wait = {0}, barrier = {0};
    assert_int_equal(call.result.klass, 0);
    far_log_wait_index(server->log, call.applied_index, CALL_MS, on_done, &wait);
    WAIT_FOR(wait.is_done);
    assert_int_equal(wait.result.klass, 0);
    assert_true(read_state(server).last_seq >= call.result.seq_last);
    far_log_barrier(server->log, CALL_MS, on_done, &barrier);
    WAIT_FOR(barrier.is_done);
    assert_int_equal(barrier.result.klass, 0);
    far_log_barrier(leader()->log, CALL_MS, on_done, memset(&barrier, 0, sizeof barrier));
    WAIT_FOR(barrier.is_done);
    assert_int_equal(barrier.result.klass, 0);
}

static void a_stopped_follower_catches_up_by_the_log(void **state)
{
    (void)state;
    struct server *server = follower();
    close_server(server);
    for (int i = 0; i < 30; i++) {
        must_propose(leader() != NULL ? leader() : follower(), next_number++);
    }
    open_server(server);
    WAIT_FOR(leader() != NULL && all_at(applied(leader())) && are_equal());
    WAIT_FOR(read_state(server).first_seq == 1);
}

static void the_leader_stops_and_another_takes_over(void **state)
{
    (void)state;
    WAIT_FOR(leader() != NULL);
    struct server *old = leader();
    close_server(old);
    WAIT_FOR(leader() != NULL);
    for (int i = 0; i < 10; i++) {
        must_propose(follower(), next_number++);
    }
    open_server(old);
    WAIT_FOR(leader() != NULL && all_at(applied(leader())) && are_equal());
}

static void leadership_is_handed_over_on_request(void **state)
{
    (void)state;
    WAIT_FOR(leader() != NULL);
    uint64_t to = follower()->id;
    must_change(far_log_transfer, to);
    WAIT_FOR(leader() == &servers[to]);
    must_propose(follower(), next_number++);
}

static unsigned many_open;
static void on_one_of_many(void *arg, const struct far_result *result, uint64_t applied_index)
{
    (void)arg;
    (void)result;
    (void)applied_index;
    many_open--;
}

/* So many small entries that the log before them is cut everywhere. */
static void grow_log(struct server *server, uint64_t entries)
{
    uint64_t until = applied(server) + entries, give_up = far_clock_monotonic_ms() + 2 * WAIT_MS;
    while (applied(server) < until && far_clock_monotonic_ms() < give_up) {
        if (many_open < 8) {
            struct far_command command = far_test_site_create(next_number++, &payload);
            many_open++;
            far_log_propose(server->log, &command, CALL_MS, on_one_of_many, NULL);
        }
        turn();
    }
    WAIT_FOR(many_open == 0);
    assert_true(applied(server) >= until);
}

static void one_that_fell_too_far_behind_gets_the_state_and_then_the_history(void **state)
{
    (void)state;
    WAIT_FOR(leader() != NULL);
    struct server *server = follower();
    uint64_t before = applied(server);
    close_server(server);
    WAIT_FOR(leader() != NULL);
    grow_log(leader(), 2600);
    open_server(server);
    WAIT_FOR(leader() != NULL && applied(server) > before + 2600 && all_at(applied(leader())) && are_equal());
    WAIT_FOR(read_state(server).first_seq == 1);
    must_propose(server, next_number++);
}

static void on_report(void *arg, bool good, const char *text)
{
    (void)arg;
    if (!good) {
        printf("# %s\n", text);
    }
}

static void each_folder_verifies_after_the_end(void **state)
{
    (void)state;
    WAIT_FOR(leader() != NULL && all_at(applied(leader())));
    for (int i = 1; i <= SERVERS; i++) {
        close_server(&servers[i]);
    }
    for (int i = 1; i <= SERVERS; i++) {
        struct far_error err = {0};
        if (far_log_verify(servers[i].dir, on_report, NULL, &err) != 0) {
            fail_msg("%s", err.message);
        }
    }
}

/* ---- around ---- */

static int setup(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/far-cluster-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(root));
    far_buf_init(&payload, 64 * 1024);
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_timer_init(&loop, &waker), 0);
    assert_int_equal(uv_timer_start(&waker, on_wake, 10, 10), 0); /* so that turns end */
    far_test_pki_init(&pki, root, 7);
    return 0;
}

static int remove_one(const char *path, const struct stat *stat, int flag, struct FTW *ftw)
{
    (void)stat;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 1; i <= SERVERS; i++) {
        if (servers[i].log != NULL) {
            close_server(&servers[i]);
        }
        far_net_free(servers[i].net);
    }
    uv_close((uv_handle_t *)&waker, NULL);
    while (uv_run(&loop, UV_RUN_DEFAULT) != 0) {
    }
    assert_int_equal(uv_loop_close(&loop), 0);
    far_buf_done(&payload);
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_server_leads_and_answers),
        cmocka_unit_test(two_more_join_and_are_promoted),
        cmocka_unit_test(a_follower_passes_commands_on_and_sees_its_own_writes),
        cmocka_unit_test(a_stopped_follower_catches_up_by_the_log),
        cmocka_unit_test(the_leader_stops_and_another_takes_over),
        cmocka_unit_test(leadership_is_handed_over_on_request),
        cmocka_unit_test(one_that_fell_too_far_behind_gets_the_state_and_then_the_history),
        cmocka_unit_test(each_folder_verifies_after_the_end),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
