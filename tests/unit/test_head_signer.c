/* The head signer on a log of one server: keys, when heads are proposed, what is signed, what is refused, when it stops. */
#include "../lib/server_alone.h"
#include "log/signed_head.h"
#include "net/sign.h"
#include "server/head_signer.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct fixture *f;
static struct far_head_signer *signer;
static uint8_t private_key[32], public_key[32];
static struct far_arena arena; /* of the rows below */
static unsigned sites;

/* Turns the loop, as commits do, until the condition holds. */
#define SIGN_UNTIL(condition)                                            \
    do {                                                                 \
        uint64_t deadline_ns = uv_hrtime() + 20ull * 1000 * 1000 * 1000; \
        while (!(condition)) {                                           \
            assert_true(uv_hrtime() < deadline_ns);                      \
            far_head_signer_changed(signer);                             \
            uv_run(&f->loop, UV_RUN_NOWAIT);                             \
        }                                                                \
    } while (0)

static void start(uint64_t events_max, uint64_t wait_ms)
{
    struct far_head_signer_config config = {
        .log = f->log, .server_id = 1, .events_max = events_max, .wait_ms = wait_ms};
    struct far_error err;
    memcpy(config.private_key, private_key, sizeof private_key);
    assert_int_equal(far_head_signer_new(&config, &f->loop, &signer, &err), 0);
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

static void stop(void)
{
    bool closed = false;
    far_head_signer_close(signer, on_closed, &closed);
    RUN_UNTIL(f, closed);
}

static void add_site(void)
{
    char name[32];
    snprintf(name, sizeof name, "site%u", sites++);
    struct far_cmd_site_create create = {.name = far_slice_str(name), .role = FAR_site_role_witness};
    server_alone_command(f, &far_schema_cmd_site_create, &create);
}

static uint64_t last_seq(void)
{
    struct far_log_view view;
    struct far_error err;
    assert_int_equal(far_log_view_begin(f->log, &view, &err), 0);
    far_log_view_end(&view);
    return view.last_seq;
}

static void read_row(const struct far_schema *table, uint64_t id, uint64_t second, void *ret_row)
{
    struct far_log_view view;
    struct far_error err;
    struct far_key key = far_key(table);
    if (id != 0) {
        far_key_u64(&key, id);
    }
    if (second != 0) {
        far_key_u64(&key, second);
    }
    assert_int_equal(far_log_view_begin(f->log, &view, &err), 0);
    int rc = far_state_get(&view.state, table, &key, &arena, ret_row, &err);
    far_log_view_end(&view);
    if (rc != 0) {
        assert_int_equal(rc, FAR_NOT_FOUND);
        memset(ret_row, 0, table->size);
    }
}

static struct far_row_head_progress progress(void)
{
    struct far_row_head_progress row;
    far_arena_reset(&arena);
    read_row(&far_schema_row_head_progress, 0, 0, &row);
    return row;
}

static struct far_row_head head_of(uint64_t seq)
{
    struct far_row_head row;
    far_arena_reset(&arena);
    read_row(&far_schema_row_head, seq, 0, &row);
    return row;
}

static int set_up(void **state)
{
    struct far_error err;
    void *fixture = NULL;
    int rc = server_alone_set_up(&fixture);
    f = *state = fixture;
    far_arena_init(&arena, 1 << 20);
    return rc != 0 ? rc : far_sign_keypair(public_key, private_key, &err);
}

static int tear_down(void **state)
{
    far_arena_done(&arena);
    return server_alone_tear_down(state);
}

static void a_server_registers_its_key_and_signs_what_it_holds(void **state)
{
    struct far_row_cluster cluster;
    struct far_row_head_signature said;
    struct far_row_head head;
    uint8_t message[FAR_HEAD_MESSAGE_MAX];
    size_t len;
    struct far_error err;
    start(0, 0);
    SIGN_UNTIL(progress().signed_seq != 0);
    head = head_of(progress().signed_seq);
    assert_int_equal(head.voters.count, 1);
    assert_memory_equal(far_head_voter_key(&head.voters, 1).data, public_key, 32);
    assert_int_equal(far_head_voter_key(&head.voters, 2).len, 0);
    read_row(&far_schema_row_cluster, 0, 0, &cluster);
    read_row(&far_schema_row_head_signature, head.seq, 1, &said);
    assert_int_equal(far_head_message(cluster.uuid, head.incarnation_epoch, head.seq, head.head, &head.voters, message, &len,
                                      &err), 0);
    struct far_slice public = far_slice(public_key, 32), bytes = far_slice(message, len);
    assert_true(far_sign_check(public, bytes, said.signature));
    message[len - 1] ^= 1; /* the voters are signed, too */
    assert_false(far_sign_check(public, bytes, said.signature));
    message[len - 1] ^= 1;
    assert_false(far_sign_check(public, bytes, far_slice(said.signature.data, 63)));
    assert_false(far_sign_check(far_slice(public_key, 31), bytes, said.signature));
    stop();
}

static void a_new_key_file_gives_a_new_key_in_the_log_and_a_head_with_it(void **state)
{
    struct far_error err;
    uint64_t before = progress().signed_seq;
    assert_int_equal(far_sign_keypair(public_key, private_key, &err), 0);
    start(0, 3600 * 1000); /* not for the time, and not for the events: for the voters */
    SIGN_UNTIL(progress().signed_seq > before);
    struct far_row_head head = head_of(progress().signed_seq);
    assert_memory_equal(far_head_voter_key(&head.voters, 1).data, public_key, 32);
    stop();
}

static void a_head_comes_after_so_many_events(void **state)
{
    start(10, 3600 * 1000);
    uint64_t before = progress().proposed_seq;
    while (last_seq() < before + 9) {
        add_site();
    }
    for (int i = 0; i < 50; i++) { /* turns without news */
        far_head_signer_changed(signer);
        uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(progress().proposed_seq, before);
    add_site();
    SIGN_UNTIL(progress().signed_seq >= before + 10);
    stop();
}

static void news_are_signed_after_a_while_and_then_it_is_silent(void **state)
{
    start(0, 50);
    uint64_t before = progress().signed_seq;
    add_site();
    SIGN_UNTIL(progress().signed_seq > before);
    uint64_t silent = last_seq();
    uint64_t until_ns = uv_hrtime() + 20 * 50ull * 1000 * 1000;
    SIGN_UNTIL(uv_hrtime() > until_ns);
    assert_int_equal(last_seq(), silent);
    struct far_cmd_consumer_create create = {.name = far_slice_str("audit"), .from_end = true};
    server_alone_command(f, &far_schema_cmd_consumer_create, &create);
    SIGN_UNTIL(progress().signed_seq > silent);
    struct far_cmd_consumer_ack ack = {.name = far_slice_str("audit"), .seq = last_seq()};
    server_alone_command(f, &far_schema_cmd_consumer_ack, &ack);
    silent = last_seq();
    until_ns = uv_hrtime() + 20 * 50ull * 1000 * 1000;
    SIGN_UNTIL(uv_hrtime() > until_ns);
    assert_int_equal(last_seq(), silent); /* who reads that heads were signed says so: no news */
    stop();
}

static void a_head_that_is_not_its_own_is_refused(void **state)
{
    uint8_t wrong[32] = {1};
    struct far_row_head_signature said;
    start(0, 3600 * 1000);
    add_site();
    uint64_t seq = last_seq();
    struct far_cmd_head_propose lie = {.seq = seq, .head = far_slice(wrong, 32)};
    server_alone_command(f, &far_schema_cmd_head_propose, &lie);
    SIGN_UNTIL(head_of(seq).state == FAR_head_state_refused);
    read_row(&far_schema_row_head_signature, seq, 1, &said);
    assert_int_equal(said.signature.len, 0);
    assert_memory_not_equal(said.head.data, wrong, 32);
    assert_true(progress().signed_seq < seq);
    stop();
    start(1, 0); /* the next one is right again */
    add_site();
    SIGN_UNTIL(progress().signed_seq > seq);
    stop();
}

/* In a process of its own: a majority (which this test makes of one server) has signed another head. */
static void run_against_a_majority(void)
{
    uint8_t wrong[32] = {1}, signature[64] = {2};
    void *state = NULL;
    if (set_up(&state) != 0) {
        _exit(3);
    }
    start(0, 3600 * 1000);
    SIGN_UNTIL(progress().signed_seq != 0);
    add_site();
    uint64_t seq = last_seq();
    struct far_cmd_head_propose lie = {.seq = seq, .head = far_slice(wrong, 32)};
    struct far_cmd_head_sign sign = {.server_id = 1, .seq = seq, .signature = far_slice(signature, 64)};
    server_alone_command(f, &far_schema_cmd_head_propose, &lie);
    server_alone_command(f, &far_schema_cmd_head_sign, &sign);
    SIGN_UNTIL(last_seq() == 0); /* never: it stops before */
}

static void a_server_against_a_majority_stops(void **state)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        run_against_a_majority();
        _exit(4);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

int main(void)
{
    const struct CMUnitTest before[] = {
        cmocka_unit_test(a_server_against_a_majority_stops),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_registers_its_key_and_signs_what_it_holds),
        cmocka_unit_test(a_new_key_file_gives_a_new_key_in_the_log_and_a_head_with_it),
        cmocka_unit_test(a_head_comes_after_so_many_events),
        cmocka_unit_test(news_are_signed_after_a_while_and_then_it_is_silent),
        cmocka_unit_test(a_head_that_is_not_its_own_is_refused),
    };
    return cmocka_run_group_tests_name("head signer, stopping", before, NULL, NULL) +
           cmocka_run_group_tests_name("head signer", tests, set_up, tear_down);
}
