/* Three logs in one process over real TLS on loopback: what was answered is everywhere, whoever stops and comes back.
 * far-timeout: 240 */
#define _GNU_SOURCE
#include "../lib/cm.h"

#include "../lib/entries.h"
#include "../lib/log_kit.h"
#include "log/signed_head.h"
#include "log/skip_orders.h"
#include "net/sign.h"
#include "log/chain.h"
#include "log/history.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

static struct far_buf payload;

/* ---- the story, in the order of the tests ---- */

static void one_server_leads_and_answers(void **state)
{
    (void)state;
    kit_make_server(1);
    WAIT_FOR(kit_leader() != NULL);
    struct far_command init = far_test_cluster_init(&payload);
    struct kit_call call = kit_propose(&kit_servers[1], &init);
    assert_int_equal(call.result.klass, 0);
    kit_must_propose(&kit_servers[1], kit_next_number);
    struct far_command again = far_test_site_create(kit_next_number, &payload);
    call = kit_propose(&kit_servers[1], &again);
    assert_int_equal(call.result.klass, 0);
    assert_true(call.result.repeated);
    again.id[0] ^= 0xff; /* the same name under another id */
    call = kit_propose(&kit_servers[1], &again);
    assert_int_equal(call.result.klass, FAR_CONFLICT);
    kit_next_number++;
}

static void two_more_join_and_are_promoted(void **state)
{
    (void)state;
    kit_add_server(2);
    kit_add_server(3);
    WAIT_FOR(kit_leader() != NULL);
    struct far_log_status status;
    far_log_status(kit_leader()->log, &status);
    assert_int_equal(status.member_count, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(status.members[i].role, FAR_server_role_voter);
    }
    WAIT_FOR(kit_all_at(status.applied_index) && kit_are_equal());
}

static void a_follower_passes_commands_on_and_sees_its_own_writes(void **state)
{
    (void)state;
    WAIT_FOR(kit_leader() != NULL && kit_follower() != NULL);
    struct kit_server *server = kit_follower();
    struct far_command command = far_test_site_create(kit_next_number++, &payload);
    struct kit_call call = kit_propose(server, &command), wait = {0}, barrier = {0};
    assert_int_equal(call.result.klass, 0);
    far_log_wait_index(server->log, call.applied_index, KIT_CALL_MS, kit_on_done, &wait);
    WAIT_FOR(wait.is_done);
    assert_int_equal(wait.result.klass, 0);
    assert_true(kit_read_state(server).last_seq >= call.result.seq_last);
    far_log_barrier(server->log, KIT_CALL_MS, kit_on_done, &barrier);
    WAIT_FOR(barrier.is_done);
    assert_int_equal(barrier.result.klass, 0);
    far_log_barrier(kit_leader()->log, KIT_CALL_MS, kit_on_done, memset(&barrier, 0, sizeof barrier));
    WAIT_FOR(barrier.is_done);
    assert_int_equal(barrier.result.klass, 0);
}

static struct kit_call propose_own(const struct far_schema *schema, const void *object)
{
    static uint64_t number = 1u << 20;
    struct far_command command = far_test_command(schema, object, number++, &payload);
    command.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    return kit_propose(kit_follower(), &command);
}

static void a_wrong_signature_of_a_head_does_not_enter_the_log(void **state)
{
    uint8_t public_key[32], private_key[32], message[FAR_HEAD_MESSAGE_MAX], signature[64];
    size_t len;
    struct far_error err;
    struct far_log_view view;
    WAIT_FOR(kit_leader() != NULL && kit_follower() != NULL);
    assert_int_equal(far_sign_keypair(public_key, private_key, &err), 0);
    struct far_cmd_feature_level_raise raise = {.level = FAR_FEATURE_LEVEL};
    struct far_cmd_server_key_set set = {.server_id = 1, .public_key = far_slice(public_key, 32)};
    assert_int_equal(propose_own(&far_schema_cmd_feature_level_raise, &raise).result.klass, 0);
    assert_int_equal(propose_own(&far_schema_cmd_server_key_set, &set).result.klass, 0);
    assert_int_equal(far_log_view_begin(kit_leader()->log, &view, &err), 0);
    far_log_view_end(&view);
    struct far_cmd_head_propose propose = {.seq = view.last_seq, .head = far_slice(view.head, 32)};
    assert_int_equal(propose_own(&far_schema_cmd_head_propose, &propose).result.klass, 0);

    struct far_sub_head_voter voter = {.server_id = 1, .public_key = far_slice(public_key, 32)};
    struct far_list voters = {.items = &voter, .count = 1};
    static const uint8_t uuid[16] = {1, 2, 3}; /* of far_test_cluster_init() */
    assert_int_equal(far_head_message(far_slice(uuid, 16), 1, view.last_seq, propose.head, &voters, message, &len, &err), 0);
    assert_int_equal(far_sign(private_key, far_slice(message, len), signature, &err), 0);
    struct far_cmd_head_sign sign = {.server_id = 1, .seq = view.last_seq, .signature = far_slice(signature, 64)};
    signature[5] ^= 1;
    struct kit_call call; /* at once, while the head is in memory only: never in the log */
    WAIT_FOR((call = propose_own(&far_schema_cmd_head_sign, &sign)).result.klass != FAR_BUSY);
    assert_int_equal(call.result.klass, FAR_DENIED);
    signature[5] ^= 1;
    call = propose_own(&far_schema_cmd_head_sign, &sign);
    assert_int_equal(call.result.klass, 0);
    assert_true(call.result.seq_first > 0);
}

static void a_stopped_follower_catches_up_by_the_log(void **state)
{
    (void)state;
    struct kit_server *server = kit_follower();
    kit_close_server(server);
    for (int i = 0; i < 30; i++) {
        kit_must_propose(kit_follower(), kit_next_number++);
    }
    kit_open_server(server);
    WAIT_FOR(kit_leader() != NULL && kit_all_at(kit_applied(kit_leader())) && kit_are_equal());
    WAIT_FOR(kit_read_state(server).first_seq == 1);
}

/* Died between keeping who wants it and keeping that it is wanted, and then the entry was applied after all. */
static void an_order_to_skip_what_was_not_skipped_is_void(void **state)
{
    (void)state;
    struct far_error err;
    struct far_skip_orders orders = {.count = 0};
    struct kit_server *server = kit_follower();
    struct far_skip_order order = {.index = kit_applied(server), .hash = 1, .token_id = 2, .reason = "it crashes"};
    kit_close_server(server);
    assert_int_equal(far_skip_orders_add(server->dir, &orders, &order, &err), 0);
    kit_open_server(server);
    WAIT_FOR(far_skip_orders_load(server->dir, &orders, &err) == 0 && orders.count == 0);
    WAIT_FOR(kit_leader() != NULL && kit_all_at(kit_applied(kit_leader())) && kit_are_equal());
    struct far_log_view view;
    struct far_row_skipped_entry row;
    struct far_key key = far_key(&far_schema_row_skipped_entry);
    struct far_arena arena;
    far_key_u64(&key, order.index);
    far_arena_init(&arena, 1 << 16);
    assert_int_equal(far_log_view_begin(server->log, &view, &err), 0);
    assert_int_equal(far_state_get(&view.state, &far_schema_row_skipped_entry, &key, &arena, &row, &err), FAR_NOT_FOUND);
    far_log_view_end(&view);
    far_arena_done(&arena);
}

static void the_leader_stops_and_another_takes_over(void **state)
{
    (void)state;
    WAIT_FOR(kit_leader() != NULL);
    struct kit_server *old = kit_leader();
    kit_close_server(old);
    WAIT_FOR(kit_leader() != NULL);
    for (int i = 0; i < 10; i++) {
        kit_must_propose(kit_follower(), kit_next_number++);
    }
    kit_open_server(old);
    WAIT_FOR(kit_leader() != NULL && kit_all_at(kit_applied(kit_leader())) && kit_are_equal());
}

static void leadership_is_handed_over_on_request(void **state)
{
    (void)state;
    WAIT_FOR(kit_leader() != NULL);
    uint64_t to = kit_follower()->id;
    kit_must_change(far_log_transfer, to);
    WAIT_FOR(kit_leader() == &kit_servers[to]);
    kit_must_propose(kit_follower(), kit_next_number++);
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
static void grow_log(struct kit_server *server, uint64_t entries)
{
    uint64_t until = kit_applied(server) + entries, give_up = far_clock_monotonic_ms() + 2 * KIT_WAIT_MS;
    while (kit_applied(server) < until && far_clock_monotonic_ms() < give_up) {
        if (many_open < 8) {
            struct far_command command = far_test_site_create(kit_next_number++, &payload);
            many_open++;
            far_log_propose(server->log, &command, KIT_CALL_MS, on_one_of_many, NULL);
        }
        kit_turn();
    }
    WAIT_FOR(many_open == 0);
    assert_true(kit_applied(server) >= until);
}

static void one_that_fell_too_far_behind_gets_the_state_and_then_the_history(void **state)
{
    (void)state;
    WAIT_FOR(kit_leader() != NULL);
    struct kit_server *server = kit_follower();
    uint64_t before = kit_applied(server);
    kit_close_server(server);
    WAIT_FOR(kit_leader() != NULL);
    grow_log(kit_leader(), 2600);
    kit_open_server(server);
    WAIT_FOR(kit_leader() != NULL && kit_applied(server) > before + 2600);
    WAIT_FOR(kit_leader() != NULL && kit_all_at(kit_applied(kit_leader())) && kit_are_equal());
    WAIT_FOR(kit_read_state(server).first_seq == 1);
    kit_must_propose(server, kit_next_number++);
}

/* How many segments a server has, by its folder. */
static int segments_of(const struct kit_server *server)
{
    char path[400];
    int count = 0;
    snprintf(path, sizeof path, "%s/state/segments", server->dir);
    DIR *folder = opendir(path);
    for (struct dirent *entry = folder == NULL ? NULL : readdir(folder); entry != NULL; entry = readdir(folder)) {
        count += strstr(entry->d_name, ".seg") != NULL;
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return count;
}

static void every_server_seals_its_older_events_and_shows_all_of_them(void **state)
{
    (void)state;
    for (int i = 1; i <= KIT_SERVERS; i++) {
        struct kit_server *server = &kit_servers[i];
        struct far_log_view view;
        uint8_t head[32], stored[32];
        WAIT_FOR(segments_of(server) >= 3);
        assert_int_equal(far_log_view_begin(server->log, &view, NULL), 0);
        memcpy(head, view.base_head, sizeof head);
        assert_int_equal(view.first_seq, 1);
        for (uint64_t seq = 1; seq <= view.last_seq; seq++) {
            struct far_event event;
            struct far_arena arena;
            far_arena_init(&arena, 1 << 20);
            assert_int_equal(far_log_view_event(&view, seq, &arena, &event, stored, NULL), 0);
            assert_int_equal(far_chain_add(head, &event, NULL), 0);
            assert_memory_equal(head, stored, sizeof head);
            far_arena_done(&arena);
        }
        assert_memory_equal(head, view.head, sizeof head);
        far_log_view_end(&view);
    }
}

static uint64_t oldest_epoch(struct kit_server *server)
{
    struct far_log_view view;
    struct far_epoch epoch = {0};
    assert_int_equal(far_log_view_begin(server->log, &view, NULL), 0);
    int rv = far_epoch_after(view.transaction, UINT64_MAX, &epoch, NULL);
    far_log_view_end(&view);
    return rv == 0 ? epoch.seq : UINT64_MAX;
}

/* The state behind this event, digest walked from the bytes; false: this server cannot show it (yet). */
static bool past_of(struct kit_server *server, uint64_t seq, struct far_hash128 *ret_digest)
{
    struct far_log_view view;
    struct far_moment moment = {FAR_MOMENT_SEQ, seq};
    uint64_t rows;
    assert_int_equal(far_log_view_begin(server->log, &view, NULL), 0);
    bool there = far_log_view_past(&view, &moment, NULL) == 0;
    if (there) {
        assert_int_equal(far_state_digest_walk(view.state.kv, ret_digest, &rows, NULL), 0);
        assert_true(far_hash128_equal(*ret_digest, view.digest));
    }
    far_log_view_end(&view);
    return there;
}

enum { AGAIN_MS = 150 * 1000 };

/* Server 1 never got its state from another; with so few events everybody could fold from the first, so a far moment is asked. */
static void states_of_the_past_come_to_those_who_installed_one(void **state)
{
    (void)state;
    for (int i = 1; i <= KIT_SERVERS; i++) {
        struct kit_server *server = &kit_servers[i];
        WAIT_UP_TO(AGAIN_MS, oldest_epoch(server) == 0); /* whoever asked too early asks again after up to a minute */
        for (uint64_t seq = 200; seq < kit_read_state(server).last_seq; seq += 700) {
            struct far_hash128 here = {0}, there = {0};
            assert_true(past_of(server, seq, &here) && past_of(&kit_servers[1], seq, &there));
            assert_true(far_hash128_equal(here, there));
        }
    }
}

static void raise_level(void)
{
    WAIT_FOR(kit_leader() != NULL);
    struct far_cmd_feature_level_raise raise = {.level = 2};
    struct far_command command = far_test_command(&far_schema_cmd_feature_level_raise, &raise, 0, &payload);
    memset(command.id, 0, sizeof command.id);
    command.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    (void)kit_propose(kit_leader(), &command);
}

/* Servers 2 and 3 are not in the state of these stories: one holder is enough. */
static void a_cut_that_the_log_decides_is_made_by_every_server(void **state)
{
    (void)state;
    raise_level();
    WAIT_FOR(kit_leader() != NULL);
    uint64_t one = 1, seq = kit_read_state(kit_leader()).last_seq - 700;
    struct far_cmd_events_cut cut = {.seq = seq, .held_by = {.items = &one, .count = 1}};
    struct far_command command = far_test_command(&far_schema_cmd_events_cut, &cut, 0, &payload);
    memset(command.id, 0, sizeof command.id);
    command.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    struct kit_call call = kit_propose(kit_leader(), &command);
    assert_string_equal(call.result.message, "");
    for (int i = 1; i <= KIT_SERVERS; i++) {
        WAIT_FOR(kit_read_state(&kit_servers[i]).first_seq == seq);
        WAIT_FOR(segments_of(&kit_servers[i]) <= 3); /* their files are gone, too */
    }
    WAIT_FOR(kit_leader() != NULL);
    kit_must_propose(kit_leader(), kit_next_number++);
    WAIT_FOR(kit_leader() != NULL && kit_all_at(kit_applied(kit_leader())));
    for (int i = 1; i <= KIT_SERVERS; i++) { /* no epoch begins behind the cut: one began with it */
        struct far_hash128 here = {0}, there = {0};
        uint64_t last = kit_read_state(&kit_servers[i]).last_seq;
        WAIT_FOR(past_of(&kit_servers[i], last, &here) && past_of(&kit_servers[1], last, &there));
        assert_true(far_hash128_equal(here, there));
    }
}

static void on_report(void *arg, bool good, const char *text)
{
    (void)arg;
    if (!good) {
        printf("# %s\n", text);
    }
}

static unsigned folds; /* from a state of the past on */
static void on_report_fold(void *arg, bool good, const char *text)
{
    on_report(arg, good, text);
    folds += good && strstr(text, "from the state recorded then") != NULL;
}

static void each_folder_verifies_after_the_end(void **state)
{
    (void)state;
    WAIT_FOR(kit_leader() != NULL && kit_all_at(kit_applied(kit_leader())));
    for (int i = 1; i <= KIT_SERVERS; i++) {
        kit_close_server(&kit_servers[i]);
    }
    for (int i = 1; i <= KIT_SERVERS; i++) {
        struct far_error err = {0};
        if (far_log_verify(kit_servers[i].dir, on_report_fold, NULL, &err) != 0) {
            fail_msg("%s", err.message);
        }
    }
    assert_true(folds > 0); /* the events before the cut are gone, the fold goes on from an epoch */
}

static int setup(void **state)
{
    far_buf_init(&payload, 64 * 1024);
    return kit_setup(state);
}

static int teardown(void **state)
{
    far_buf_done(&payload);
    return kit_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_server_leads_and_answers),
        cmocka_unit_test(two_more_join_and_are_promoted),
        cmocka_unit_test(a_follower_passes_commands_on_and_sees_its_own_writes),
        cmocka_unit_test(a_wrong_signature_of_a_head_does_not_enter_the_log),
        cmocka_unit_test(a_stopped_follower_catches_up_by_the_log),
        cmocka_unit_test(an_order_to_skip_what_was_not_skipped_is_void),
        cmocka_unit_test(the_leader_stops_and_another_takes_over),
        cmocka_unit_test(leadership_is_handed_over_on_request),
        cmocka_unit_test(one_that_fell_too_far_behind_gets_the_state_and_then_the_history),
        cmocka_unit_test(every_server_seals_its_older_events_and_shows_all_of_them),
        cmocka_unit_test(states_of_the_past_come_to_those_who_installed_one),
        cmocka_unit_test(a_cut_that_the_log_decides_is_made_by_every_server),
        cmocka_unit_test(each_folder_verifies_after_the_end),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
