/* Which failures a layout survives, and who should lead. */
#include "fsm/layout.h"
#include "lib/fsm_world.h"
#include "server/leadership.h"

#include "lib/cm.h"

#include <stdio.h>

static struct world w;

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    return 0;
}

static int teardown(void **unused)
{
    world_done(&w);
    return 0;
}

/* ---- layouts ---- */

static uint64_t voter(const char *name, const char *site)
{
    uint8_t hash[32] = {0};
    snprintf((char *)hash, sizeof hash, "%s", name);
    MUST(&w, token_create, .name = S(name), .purpose = FAR_token_purpose_join_server, .hash = far_slice(hash, 32),
         .expires_ms = w.now_ms + 1000, .site = S(site));
    uint64_t id = MUST(&w, server_join, .token_hash = far_slice(hash, 32), .name = S(name), .peer_address = S("b:1"),
                       .seal_key = far_slice(hash, 32), .fingerprint = far_slice(hash, 32));
    MUST(&w, server_role_changed, .server_id = id, .role = FAR_server_role_voter);
    return id;
}

static struct far_layout layout_with(const uint64_t *down, size_t count)
{
    struct far_layout layout;
    assert_int_equal(far_layout_of(&w.state, false, down, count, &w.arena, &layout, &w.err), 0);
    return layout;
}

static bool survives(const struct far_layout *layout, const char *site)
{
    for (size_t i = 0; i < layout->site_count; i++) {
        if (far_slice_equal(layout->sites[i].name, S(site))) {
            return layout->sites[i].is_survived;
        }
    }
    fail_msg("site %s is not in the layout", site);
    return false;
}

static void three_places_survive_the_loss_of_any(void **unused)
{
    char text[FAR_MESSAGE_MAX];
    MUST(&w, server_site_set, .name = S("s1"), .site = S("paris"));
    uint64_t lyon = voter("l", "lyon");
    voter("n", "nice");
    struct far_layout layout = layout_with(NULL, 0);
    assert_true(layout.has_quorum && layout.is_one_survived);
    assert_true(survives(&layout, "paris") && survives(&layout, "lyon") && survives(&layout, "nice"));
    far_layout_warning(&layout, text, sizeof text);
    assert_string_equal(text, "");
    /* one is down: what is left survives nothing but the loss of the place that is lost already */
    layout = layout_with(&lyon, 1);
    assert_true(layout.has_quorum);
    assert_false(layout.is_one_survived);
    assert_false(survives(&layout, "paris"));
    assert_true(survives(&layout, "lyon"));
    uint64_t two[] = {1, lyon};
    layout = layout_with(two, 2);
    assert_false(layout.has_quorum);
}

static void two_voters_at_the_protected_site_are_warned_of(void **unused)
{
    MUST(&w, server_site_set, .name = S("s1"), .site = S("paris"));
    voter("l", "lyon");
    voter("p", "paris");
    struct far_layout layout = layout_with(NULL, 0);
    assert_false(survives(&layout, "paris"));
    assert_true(survives(&layout, "lyon"));
    char text[FAR_MESSAGE_MAX];
    far_layout_warning(&layout, text, sizeof text);
    assert_non_null(strstr(text, "losing the protected site 'paris' loses the quorum"));
    /* and whoever makes it so is told */
    MUST(&w, server_site_set, .name = S("p"), .site = S("nice"));
    assert_string_equal(w.result.message, "");
    MUST(&w, server_site_set, .name = S("p"), .site = S("paris"));
    assert_non_null(strstr(w.result.message, "losing the protected site 'paris'"));
    MUST(&w, server_site_set, .name = S("p"), .site = S("nice"));
    MUST(&w, server_role_set, .name = S("p"), .role = FAR_server_role_removed);
    assert_non_null(strstr(w.result.message, "loses the quorum"));
}

static void a_voter_at_no_site_counts_as_lost_with_every_site(void **unused)
{
    voter("l", "lyon");
    voter("n", "nice");
    struct far_layout layout = layout_with(NULL, 0);
    char text[FAR_MESSAGE_MAX];
    assert_int_equal(layout.homeless, 1);
    assert_false(survives(&layout, "lyon"));
    far_layout_warning(&layout, text, sizeof text);
    assert_non_null(strstr(text, "at no site"));
}

static void leadership_is_wanted_until_that_server_leads(void **unused)
{
    struct far_row_progress progress;
    struct far_key key = far_key(&far_schema_row_progress);
    uint64_t lyon = voter("l", "lyon");
    voter("n", "nice");
    assert_int_equal(APPLY(&w, leader_transfer, .to = S("n")), FAR_CONFLICT); /* a witness */
    MUST(&w, leader_transfer, .to = S("l"));
    assert_int_equal(far_state_get(&w.state, &far_schema_row_progress, &key, &w.arena, &progress, &w.err), 0);
    assert_int_equal(progress.wanted_leader_id, lyon);
    w.actor = far_actor(FAR_ACTOR_SYSTEM, lyon);
    MUST(&w, leader_started, .server_id = lyon, .term = 3);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_progress, &key, &w.arena, &progress, &w.err), 0);
    assert_int_equal(progress.wanted_leader_id, 0);
}

/* ---- who leads ---- */

static struct far_log_status three(void)
{
    struct far_log_status status = {.server_id = 1, .leader_id = 1, .is_leader = true, .commit_index = 1000, .member_count = 3};
    for (uint64_t id = 1; id <= 3; id++) {
        status.members[id - 1] = (struct far_log_member){
            .id = id, .role = FAR_server_role_voter, .connected = true, .match_index = 1000 - id, .about_age_ms = 10};
    }
    return status;
}

static void a_witness_hands_over_to_the_most_up_to_date_voter(void **unused)
{
    struct far_log_status status = three();
    struct far_witnesses witnesses = {.count = 1, .ids = {1}};
    assert_int_equal(far_leadership_choose(&status, &witnesses), 2);
    status.members[1].connected = false;
    assert_int_equal(far_leadership_choose(&status, &witnesses), 3);
    status.members[2].match_index = 100;
    assert_int_equal(far_leadership_choose(&status, &witnesses), 0);
    status.members[2].match_index = 1000;
    status.members[2].role = FAR_server_role_standby;
    assert_int_equal(far_leadership_choose(&status, &witnesses), 0);
}

static void leadership_follows_the_users_only_when_they_are_clearly_elsewhere(void **unused)
{
    struct far_log_status status = three();
    struct far_witnesses witnesses = {.count = 1, .ids = {3}};
    assert_int_equal(far_leadership_choose(&status, &witnesses), 0);
    status.members[1].asked = FAR_LEADERSHIP_ASKED_MIN - 1;
    assert_int_equal(far_leadership_choose(&status, &witnesses), 0);
    status.members[1].asked = 1000;
    assert_int_equal(far_leadership_choose(&status, &witnesses), 2);
    status.members[0].asked = 400;
    assert_int_equal(far_leadership_choose(&status, &witnesses), 0);
    status.members[0].asked = 300;
    assert_int_equal(far_leadership_choose(&status, &witnesses), 2);
    status.members[1].about.is_safe = true;
    assert_int_equal(far_leadership_choose(&status, &witnesses), 0);
    status.members[1].asked = 0;
    status.members[2].asked = 100000; /* the witness gets users' commands: it does not lead for that */
    assert_int_equal(far_leadership_choose(&status, &witnesses), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(three_places_survive_the_loss_of_any, setup, teardown),
        cmocka_unit_test_setup_teardown(two_voters_at_the_protected_site_are_warned_of, setup, teardown),
        cmocka_unit_test_setup_teardown(a_voter_at_no_site_counts_as_lost_with_every_site, setup, teardown),
        cmocka_unit_test_setup_teardown(leadership_is_wanted_until_that_server_leads, setup, teardown),
        cmocka_unit_test(a_witness_hands_over_to_the_most_up_to_date_voter),
        cmocka_unit_test(leadership_follows_the_users_only_when_they_are_clearly_elsewhere),
    };
    return cmocka_run_group_tests_name("leadership", tests, NULL, NULL);
}
