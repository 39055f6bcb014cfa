/* Who had an entry skipped: a server's report counts once, however often it is repeated, and only a server gives one. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

static struct world w;

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

#define ORDER(index_, ...)                                                                                         \
    APPLY(&w, entry_skip_order, .index = index_, .entry_hash = 77, .server_id = 1, .token_id = 2, .ordered_ms = 5, \
          .token_name = S("ann"), __VA_ARGS__)

static int find(uint64_t index, struct far_row_skipped_entry *ret_row)
{
    struct far_key key = far_key(&far_schema_row_skipped_entry);
    far_key_u64(&key, index);
    return far_state_get(&w.state, &far_schema_row_skipped_entry, &key, &w.arena, ret_row, NULL);
}

static void who_and_why_are_in_the_state_and_the_newest_entries_stay(void **unused)
{
    struct far_row_skipped_entry row;
    assert_int_equal(ORDER(2, .reason = S("it crashes"), .forced = true), 0);
    assert_int_equal(find(2, &row), 0);
    assert_true(far_slice_equal(row.token_name, S("ann")) && far_slice_equal(row.reason, S("it crashes")));
    assert_true(row.forced && row.token_id == 2 && row.server_ids.count == 1 && row.entry_hash == 77);
    for (uint64_t i = 0; i < 100; i++) {
        MUST(&w, recovery_policy_set, .second_approval = i % 2 == 0);
    }
    for (uint64_t index = 3; index < 67; index++) {
        assert_int_equal(ORDER(index, .reason = S("again")), 0);
    }
    assert_int_equal(find(2, &row), FAR_NOT_FOUND);
    assert_int_equal(find(3, &row), 0);
    assert_int_equal(find(66, &row), 0);
}

static uint64_t join(const char *name)
{
    uint8_t hash[32] = {4};
    w.actor = far_actor(FAR_ACTOR_TOKEN, 2);
    memcpy(hash, name, strlen(name));
    MUST(&w, token_create, .name = S(name), .purpose = FAR_token_purpose_join_server, .hash = far_slice(hash, 32),
         .expires_ms = w.now_ms + 1000, .site = S("lille"));
    uint64_t id = MUST(&w, server_join, .token_hash = far_slice(hash, 32), .name = S(name), .peer_address = S(name),
                       .seal_key = far_slice(hash, 32), .fingerprint = far_slice(hash, 32));
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    return id;
}

static void a_report_is_taken_once_of_each_server(void **unused)
{
    struct far_row_skipped_entry row;
    w.actor = far_actor(FAR_ACTOR_TOKEN, 2);
    MUST(&w, site_create, .name = S("lille"), .role = FAR_site_role_recovery);
    uint64_t second = join("s2");
    assert_int_equal(ORDER(2, .reason = S("first")), 0);
    uint64_t events = w.events;
    struct far_hash128 digest = w.state.digest;
    assert_int_equal(ORDER(2, .reason = S("first")), 0);
    assert_int_equal(ORDER(2, .reason = S("another reason")), 0);
    assert_true(w.events == events && far_hash128_equal(w.state.digest, digest));
    assert_int_equal(APPLY(&w, entry_skip_order, .index = 2, .server_id = second, .reason = S("second")), 0);
    assert_int_equal(w.events, events + 1);
    assert_int_equal(find(2, &row), 0);
    assert_true(row.server_ids.count == 2 && far_slice_equal(row.reason, S("second")));
}

/* Refused with this class, and nothing changed. */
static void refused(int klass, uint64_t actor, uint64_t index, uint64_t server_id)
{
    struct far_hash128 before = w.state.digest;
    w.actor = actor;
    assert_int_equal(APPLY(&w, entry_skip_order, .index = index, .server_id = server_id, .reason = S("x")), klass);
    assert_true(far_hash128_equal(w.state.digest, before));
}

static void reports_of_others_and_of_what_was_not_skipped_are_refused(void **unused)
{
    uint64_t server = far_actor(FAR_ACTOR_SYSTEM, 1);
    refused(FAR_DENIED, far_actor(FAR_ACTOR_TOKEN, 2), 2, 1);
    refused(FAR_DENIED, far_actor(FAR_ACTOR_NODE, 3), 2, 1);
    refused(FAR_INVALID, server, 0, 1);
    refused(FAR_INVALID, server, w.index + 1, 1);
    refused(FAR_INVALID, server, UINT64_MAX, 1);
    refused(FAR_NOT_FOUND, server, 2, 999);
}

/* For good: another try would give nothing else, so the server that was told gives it up. */
static void what_is_one_too_many_is_refused_for_good(void **unused)
{
    enum { KEPT = 16 };
    char name[16];
    w.actor = far_actor(FAR_ACTOR_TOKEN, 2);
    MUST(&w, site_create, .name = S("lille"), .role = FAR_site_role_recovery);
    for (int i = 0; i <= KEPT; i++) {
        snprintf(name, sizeof name, "many%d", i);
        uint64_t id = join(name);
        if (i < KEPT) {
            assert_int_equal(APPLY(&w, entry_skip_order, .index = 2, .server_id = id, .reason = S("x")), 0);
        } else {
            refused(FAR_CONFLICT, w.actor, 2, id);
        }
    }
}

static void before_the_level_nothing_is_taken(void **unused)
{
    struct world old;
    world_init(&old);
    old.level = 2;
    world_cluster(&old);
    old.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    assert_int_not_equal(APPLY(&old, entry_skip_order, .index = 2, .server_id = 1), 0);
    world_verify(&old);
    world_done(&old);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_and_why_are_in_the_state_and_the_newest_entries_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(a_report_is_taken_once_of_each_server, setup, teardown),
        cmocka_unit_test_setup_teardown(reports_of_others_and_of_what_was_not_skipped_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_one_too_many_is_refused_for_good, setup, teardown),
        cmocka_unit_test(before_the_level_nothing_is_taken),
    };
    return cmocka_run_group_tests_name("fsm_skip", tests, NULL, NULL);
}
