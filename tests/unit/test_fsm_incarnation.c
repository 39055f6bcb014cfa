/* Incarnations in the core: who goes on, who is removed, what is refused, the policy of recoveries. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

static struct world w;
static uint8_t uuid[16] = {1}, head[32] = {2}, key_bytes[32] = {3};

static uint64_t join(const char *name)
{
    static uint8_t joins;
    uint8_t hash[32] = {++joins, 9};
    MUST(&w, token_create, .name = S(name), .purpose = FAR_token_purpose_join_server, .hash = far_slice(hash, 32),
         .expires_ms = w.now_ms + 1000, .site = S("lyon"));
    return MUST(&w, server_join, .token_hash = far_slice(hash, 32), .name = S(name), .peer_address = S("b:1"),
                .api_address = S("b:2"), .seal_key = far_slice(hash, 32), .fingerprint = far_slice(hash, 32));
}

static uint64_t next_id(void)
{
    struct far_row_progress row = {0};
    struct far_key key = far_key(&far_schema_row_progress);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_progress, &key, &w.arena, &row, NULL), 0);
    return row.next_id;
}

static uint64_t epoch(void)
{
    struct far_row_cluster row = {0};
    struct far_key key = far_key(&far_schema_row_cluster);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_cluster, &key, &w.arena, &row, NULL), 0);
    return row.incarnation_epoch;
}

static struct far_cmd_incarnation_begin begin_of(uint64_t next_epoch, uint64_t server_id)
{
    return (struct far_cmd_incarnation_begin){.epoch = next_epoch,
                                              .uuid = far_slice(uuid, 16),
                                              .reason = FAR_incarnation_reason_quorum_lost,
                                              .parent_index = 9,
                                              .parent_term = 2,
                                              .parent_seq = w.events,
                                              .parent_head = far_slice(head, 32),
                                              .sure_seq = w.events - 1,
                                              .sure_head = far_slice(head, 32),
                                              .server_id = server_id};
}

static int begin(const struct far_cmd_incarnation_begin *cmd)
{
    return world_apply(&w, &far_schema_cmd_incarnation_begin, cmd);
}

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static void the_survivor_goes_on_alone(void **unused)
{
    uint64_t second = join("s2"), third = join("s3");
    MUST(&w, server_role_changed, .server_id = second, .role = FAR_server_role_voter);
    struct far_cmd_incarnation_begin cmd = begin_of(2, third);
    assert_int_equal(begin(&cmd), 0);
    assert_int_equal(epoch(), 2);
    assert_int_equal(world_row_server(&w, 1).role, FAR_server_role_removed);
    assert_int_equal(world_row_server(&w, second).role, FAR_server_role_removed);
    assert_int_equal(world_row_server(&w, third).role, FAR_server_role_voter);
    assert_int_equal(world_row_server(&w, third).wanted_role, FAR_server_role_voter);
    struct far_row_incarnation row;
    struct far_key key = far_key(&far_schema_row_incarnation);
    far_key_u64(&key, 2);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_incarnation, &key, &w.arena, &row, NULL), 0);
    assert_int_equal(row.parent_index, 9);
    assert_int_equal(row.server_id, third);
    assert_memory_equal(row.uuid.data, uuid, 16);
    assert_int_not_equal(join("s2"), second); /* its name is free, its id is not */
}

static void a_new_server_goes_on_from_a_backup(void **unused)
{
    struct far_cmd_incarnation_begin cmd = begin_of(2, next_id());
    cmd.reason = FAR_incarnation_reason_restored;
    assert_int_equal(begin(&cmd), FAR_INVALID); /* it says nothing about itself */
    cmd.server_name = S("s1");
    cmd.api_address = S("c:1");
    cmd.peer_address = S("c:2");
    cmd.seal_key = far_slice(key_bytes, 32);
    cmd.fingerprint = far_slice(key_bytes, 32);
    cmd.server_id++;
    assert_int_equal(begin(&cmd), FAR_INVALID);
    cmd.server_id--;
    assert_int_equal(begin(&cmd), 0); /* the name of a server that is removed with it */
    assert_int_equal(world_row_server(&w, 1).role, FAR_server_role_removed);
    assert_int_equal(world_row_server(&w, cmd.server_id).role, FAR_server_role_voter);
    assert_true(far_slice_equal(world_row_server(&w, cmd.server_id).peer_address, S("c:2")));
    assert_int_equal(next_id(), cmd.server_id + 1);
}

static void what_does_not_fit_changes_nothing(void **unused)
{
    uint64_t second = join("s2");
    MUST(&w, server_role_changed, .server_id = second, .role = FAR_server_role_removed);
    struct far_cmd_incarnation_begin good = begin_of(2, 1), bad;
    uint64_t events = w.events;
    bad = good, bad.epoch = 3;
    assert_int_equal(begin(&bad), FAR_CONFLICT);
    bad = good, bad.epoch = 1;
    assert_int_equal(begin(&bad), FAR_CONFLICT);
    bad = good, bad.uuid.len = 15;
    assert_int_equal(begin(&bad), FAR_INVALID);
    bad = good, bad.reason = 0;
    assert_int_equal(begin(&bad), FAR_INVALID);
    bad = good, bad.parent_seq = events + 1;
    assert_int_equal(begin(&bad), FAR_INVALID);
    bad = good, bad.sure_seq = bad.parent_seq + 1;
    assert_int_equal(begin(&bad), FAR_INVALID);
    bad = good, bad.server_id = second;
    assert_int_equal(begin(&bad), FAR_CONFLICT);
    bad = good, bad.server_name = S("one");
    assert_int_equal(begin(&bad), FAR_CONFLICT);
    assert_int_equal(w.events, events);
    assert_int_equal(epoch(), 1);
    assert_int_equal(begin(&good), 0);
    assert_int_equal(begin(&good), FAR_CONFLICT); /* by another id */
}

static void only_the_newest_256_are_kept(void **unused)
{
    for (uint64_t e = 2; e < 300; e++) {
        struct far_cmd_incarnation_begin cmd = begin_of(e, 1);
        assert_int_equal(begin(&cmd), 0);
    }
    struct far_row_incarnation row;
    struct far_key key = far_key(&far_schema_row_incarnation);
    size_t count = 0;
    while (far_state_next(&w.state, &far_schema_row_incarnation, &key, &w.arena, NULL, &row, NULL) == 0) {
        count++;
    }
    assert_int_equal(count, 256);
    assert_int_equal(epoch(), 299);
}

static void the_policy_is_kept(void **unused)
{
    struct far_row_recovery_policy row;
    struct far_key key = far_key(&far_schema_row_recovery_policy);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_recovery_policy, &key, &w.arena, &row, NULL), FAR_NOT_FOUND);
    MUST(&w, recovery_policy_set, .second_approval = true);
    uint64_t events = w.events;
    assert_int_equal(far_state_get(&w.state, &far_schema_row_recovery_policy, &key, &w.arena, &row, NULL), 0);
    assert_true(row.second_approval);
    MUST(&w, recovery_policy_set, .second_approval = true);
    assert_true(w.events <= events + 1); /* remembered, nothing changed */
    MUST(&w, recovery_policy_set, .second_approval = false);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_recovery_policy, &key, &w.arena, &row, NULL), 0);
    assert_false(row.second_approval);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_survivor_goes_on_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_server_goes_on_from_a_backup, setup, teardown),
        cmocka_unit_test_setup_teardown(what_does_not_fit_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(only_the_newest_256_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(the_policy_is_kept, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
