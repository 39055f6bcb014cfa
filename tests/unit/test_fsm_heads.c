/* Heads and keys in the core: who counts, what a majority is, what is kept. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <stdio.h>

static struct world w;
static uint64_t ids[5]; /* of servers */
static uint8_t head[32] = {1}, other[32] = {2}, signature[64] = {3};

/* A server that votes, without a key. */
static uint64_t voter(const char *name)
{
    uint8_t hash[32] = {0};
    snprintf((char *)hash, sizeof hash, "%s", name);
    MUST(&w, token_create, .name = S(name), .purpose = FAR_token_purpose_join_server, .hash = far_slice(hash, 32),
         .expires_ms = w.now_ms + 1000, .site = S("lyon"));
    uint64_t id = MUST(&w, server_join, .token_hash = far_slice(hash, 32), .name = S(name), .peer_address = S("b:1"),
                       .seal_key = far_slice(hash, 32), .fingerprint = far_slice(hash, 32));
    MUST(&w, server_role_changed, .server_id = id, .role = FAR_server_role_voter);
    return id;
}

static int set_key(uint64_t id, uint8_t tag)
{
    uint8_t public_key[32] = {tag};
    return APPLY(&w, server_key_set, .server_id = id, .public_key = far_slice(public_key, 32));
}

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    ids[0] = 1;
    ids[1] = voter("s2");
    ids[2] = voter("s3");
    for (uint8_t i = 0; i < 3; i++) {
        assert_int_equal(set_key(ids[i], (uint8_t)(i + 1)), 0);
    }
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static int propose(uint64_t seq)
{
    return APPLY(&w, head_propose, .seq = seq, .head = far_slice(head, 32));
}

static int sign(uint64_t id, uint64_t seq)
{
    return APPLY(&w, head_sign, .server_id = id, .seq = seq, .signature = far_slice(signature, 64));
}

static int refuse(uint64_t id, uint64_t seq)
{
    return APPLY(&w, head_refuse, .server_id = id, .seq = seq, .head = far_slice(other, 32));
}

static struct far_row_head row_of(uint64_t seq)
{
    struct far_row_head row = {0};
    struct far_key key = far_key(&far_schema_row_head);
    far_key_u64(&key, seq);
    int rc = far_state_get(&w.state, &far_schema_row_head, &key, &w.arena, &row, NULL);
    assert_true(rc == 0 || rc == FAR_NOT_FOUND);
    return row;
}

static struct far_row_head_progress progress(void)
{
    struct far_row_head_progress row = {0};
    struct far_key key = far_key(&far_schema_row_head_progress);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_head_progress, &key, &w.arena, &row, NULL), 0);
    return row;
}

static size_t count_rows(const struct far_schema *table)
{
    uint64_t row[128];
    struct far_key key = far_key(table);
    size_t count = 0;
    assert_true(table->size <= sizeof row);
    while (far_state_next(&w.state, table, &key, &w.arena, NULL, row, NULL) == 0) {
        count++;
    }
    return count;
}

static void a_head_counts_as_signed_with_a_majority_of_its_voters(void **unused)
{
    assert_int_equal(propose(10), 0);
    assert_int_equal(row_of(10).voters.count, 3);
    assert_int_equal(sign(ids[0], 10), 0);
    assert_int_equal(sign(ids[0], 10), 0); /* again: no event, no second vote */
    assert_int_equal(row_of(10).state, FAR_head_state_proposed);
    assert_int_equal(progress().signed_seq, 0);
    w.now_ms += 5;
    assert_int_equal(sign(ids[2], 10), 0);
    assert_int_equal(row_of(10).state, FAR_head_state_signed);
    assert_int_equal(row_of(10).settled_ms, w.now_ms);
    assert_int_equal(progress().signed_seq, 10);
    assert_int_equal(sign(ids[1], 10), 0); /* late, and kept */
    assert_int_equal(row_of(10).signed_count, 3);
}

static void who_votes_later_does_not_count_at_an_older_head(void **unused)
{
    assert_int_equal(propose(10), 0);
    uint64_t fourth = voter("s4");
    assert_int_equal(set_key(fourth, 4), 0);
    assert_int_equal(sign(fourth, 10), FAR_DENIED);
    MUST(&w, server_role_changed, .server_id = ids[2], .role = FAR_server_role_removed);
    assert_int_equal(sign(ids[2], 10), 0); /* it counted then */
    assert_int_equal(propose(12), 0);
    assert_int_equal(sign(ids[2], 12), FAR_DENIED);
    assert_int_equal(row_of(12).voters.count, 3);
    assert_int_equal(sign(999, 12), FAR_DENIED);
}

static void a_voter_without_a_key_counts_but_cannot_sign(void **unused)
{
    uint64_t fourth = voter("s4"), fifth = voter("s5");
    assert_int_equal(propose(10), 0); /* 3 of 5 can */
    assert_int_equal(row_of(10).voters.count, 5);
    assert_int_equal(sign(fourth, 10), FAR_DENIED);
    assert_int_equal(sign(ids[0], 10), 0);
    assert_int_equal(sign(ids[1], 10), 0);
    assert_int_equal(row_of(10).state, FAR_head_state_proposed);
    assert_int_equal(sign(ids[2], 10), 0);
    assert_int_equal(row_of(10).state, FAR_head_state_signed);
    MUST(&w, server_role_changed, .server_id = ids[2], .role = FAR_server_role_removed);
    MUST(&w, server_role_changed, .server_id = ids[1], .role = FAR_server_role_removed);
    assert_int_equal(propose(11), FAR_CONFLICT); /* 1 of 3 can: it could never be signed */
    assert_int_equal(set_key(fifth, 5), 0);
    assert_int_equal(propose(11), 0);
}

static void a_refusal_is_an_error_for_people_and_a_majority_of_them_ends_a_head(void **unused)
{
    struct far_ev_head_refused refused = {.seq = 10};
    assert_int_equal(far_schema_ev_head_refused.severity(&refused), FAR_severity_error);
    assert_int_equal(propose(10), 0);
    assert_int_equal(refuse(ids[1], 10), 0);
    assert_int_equal(refuse(ids[1], 10), 0);
    assert_int_equal(sign(ids[1], 10), FAR_CONFLICT);
    assert_int_equal(sign(ids[0], 10), 0);
    assert_int_equal(refuse(ids[0], 10), FAR_CONFLICT);
    assert_int_equal(row_of(10).state, FAR_head_state_proposed);
    assert_int_equal(refuse(ids[2], 10), 0);
    assert_int_equal(row_of(10).state, FAR_head_state_refused);
    assert_int_equal(progress().signed_seq, 0);
}

static void what_is_no_head_is_refused(void **unused)
{
    assert_int_equal(propose(0), FAR_INVALID);
    assert_int_equal(propose(w.events + 1), FAR_INVALID);
    assert_int_equal(APPLY(&w, head_propose, .seq = 3, .head = far_slice(head, 31)), FAR_INVALID);
    assert_int_equal(propose(10), 0);
    assert_int_equal(propose(9), FAR_CONFLICT);
    assert_int_equal(APPLY(&w, head_sign, .server_id = 1, .seq = 10, .signature = far_slice(signature, 63)), FAR_INVALID);
    assert_int_equal(APPLY(&w, head_refuse, .server_id = 1, .seq = 10, .head = far_slice(other, 31)), FAR_INVALID);
    assert_int_equal(APPLY(&w, head_refuse, .server_id = 1, .seq = 10, .head = far_slice(head, 32)), FAR_INVALID);
}

static void the_newest_heads_are_kept_and_always_the_newest_that_is_signed(void **unused)
{
    assert_int_equal(propose(10), 0);
    assert_int_equal(sign(ids[0], 10), 0);
    assert_int_equal(sign(ids[1], 10), 0);
    for (uint64_t seq = 11; seq < 60; seq++) {
        MUST(&w, site_create, .name = S("oslo"), .role = 1);
        MUST(&w, site_remove, .name = S("oslo"));
        assert_int_equal(propose(seq), 0);
        assert_int_equal(sign(ids[2], seq), 0);
        assert_true(count_rows(&far_schema_row_head) <= 32);
    }
    assert_int_equal(row_of(10).state, FAR_head_state_signed);
    assert_int_equal(row_of(11).seq, 0);
    assert_int_equal(sign(ids[0], 11), FAR_NOT_FOUND);
    assert_int_equal(count_rows(&far_schema_row_head), 32);
    assert_int_equal(count_rows(&far_schema_row_head_signature), 31 + 2);
    assert_int_equal(sign(ids[0], 59), 0);
    assert_int_equal(propose(60), 0);
    assert_int_equal(row_of(10).seq, 0); /* a newer one is signed */
}

static void a_head_that_is_too_old_is_not_proposed(void **unused)
{
    while (w.events < 20 + 16384) {
        MUST(&w, site_create, .name = S("oslo"), .role = 1);
        MUST(&w, site_remove, .name = S("oslo"));
    }
    assert_int_equal(propose(20), FAR_CONFLICT);
    assert_int_equal(propose(w.events), 0);
}

static void a_new_key_ends_the_old_one_and_the_newest_stay(void **unused)
{
    uint8_t old[32] = {1};
    assert_int_equal(set_key(ids[0], 1), 0); /* the same: no event */
    assert_int_equal(count_rows(&far_schema_row_server_key), 3);
    assert_int_equal(set_key(ids[1], 1), FAR_CONFLICT); /* somebody else's */
    assert_int_equal(APPLY(&w, server_key_set, .server_id = 1, .public_key = far_slice(old, 31)), FAR_INVALID);
    for (uint8_t tag = 100; tag < 120; tag++) {
        assert_int_equal(set_key(ids[0], tag), 0);
    }
    struct far_row_server_key row;
    struct far_key key = far_key(&far_schema_row_server_key);
    uint64_t from = 0, kept = 0;
    while (far_state_next(&w.state, &far_schema_row_server_key, &key, &w.arena, NULL, &row, NULL) == 0 && row.server_id == 1) {
        assert_true(from == 0 || row.from_seq == from); /* no gap */
        from = row.until_seq;
        kept++;
    }
    assert_int_equal(kept, 9);
    assert_int_equal(from, 0); /* the last one is in use */
    assert_int_equal(propose(10), 0);
    const struct far_sub_head_voter *voters = row_of(10).voters.items;
    assert_int_equal(voters[0].public_key.data[0], 119);
    MUST(&w, server_role_changed, .server_id = ids[2], .role = FAR_server_role_removed);
    assert_int_equal(set_key(ids[2], 200), FAR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_head_counts_as_signed_with_a_majority_of_its_voters, setup, teardown),
        cmocka_unit_test_setup_teardown(who_votes_later_does_not_count_at_an_older_head, setup, teardown),
        cmocka_unit_test_setup_teardown(a_voter_without_a_key_counts_but_cannot_sign, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refusal_is_an_error_for_people_and_a_majority_of_them_ends_a_head, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_head_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(the_newest_heads_are_kept_and_always_the_newest_that_is_signed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_head_that_is_too_old_is_not_proposed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_key_ends_the_old_one_and_the_newest_stay, setup, teardown),
    };
    return cmocka_run_group_tests_name("heads", tests, NULL, NULL);
}
