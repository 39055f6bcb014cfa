/* The feature level: what an older server would not understand does not get into the log. */
#include "fsm/machines.h"
#include "lib/fsm_world.h"

#include "lib/cm.h"

static struct world w;

static int setup(void **unused)
{
    world_init(&w);
    w.level = 1;
    world_cluster(&w);
    return 0;
}

static int teardown(void **unused)
{
    world_done(&w);
    return 0;
}

static int raise_as(enum far_actor_kind actor, uint64_t level)
{
    w.actor = far_actor(actor, 1);
    int klass = APPLY(&w, feature_level_raise, .level = level);
    w.actor = 0;
    return klass;
}

static void a_command_of_a_newer_level_waits_for_it(void **unused)
{
    struct far_hash128 digest = w.state.digest;
    uint64_t events = w.events;
    assert_int_equal(APPLY(&w, consumer_create, .name = S("audit")), FAR_CONFLICT);
    assert_non_null(strstr(w.result.message, "feature level 2"));
    assert_non_null(strstr(w.result.message, "cluster has 1"));
    assert_true(far_hash128_equal(w.state.digest, digest));
    assert_int_equal(w.events, events);
    assert_int_equal(raise_as(FAR_ACTOR_SYSTEM, 2), 0);
    assert_int_equal(w.events, events + 1);
    assert_int_equal(APPLY(&w, consumer_create, .name = S("audit")), 0);
    assert_int_equal(far_fsm_invariants(&w.state, &w.err), 0);
}

static void old_commands_need_no_level(void **unused)
{
    assert_int_equal(APPLY(&w, site_create, .name = S("rome"), .role = FAR_site_role_recovery), 0);
}

static void what_an_older_server_would_refuse_is_refused_below_its_level(void **unused)
{
    struct far_sub_disk_spec disk = {S("root"), S("/a")};
    struct far_list disks = {&disk, 1};
    assert_int_equal(APPLY(&w, site_create, .name = S("rome"), .role = FAR_site_role_protected), 0);
    assert_int_equal(raise_as(FAR_ACTOR_SYSTEM, 3), 0);
    assert_int_equal(APPLY(&w, workload_create, .name = S("web"), .site = S("rome"), .adapter = S("file?changes=/l"), .disks = disks),
                     FAR_INVALID);
    assert_int_equal(raise_as(FAR_ACTOR_SYSTEM, 4), 0);
    assert_int_equal(APPLY(&w, workload_create, .name = S("web"), .site = S("rome"), .adapter = S("file/x"), .disks = disks),
                     FAR_INVALID);
    assert_int_equal(APPLY(&w, workload_create, .name = S("web"), .site = S("rome"), .adapter = S("file?changes=/l"), .disks = disks), 0);
}

static void the_level_is_raised_by_servers_and_never_lowered(void **unused)
{
    assert_int_equal(raise_as(FAR_ACTOR_TOKEN, 2), FAR_DENIED);
    assert_int_equal(raise_as(FAR_ACTOR_NODE, 2), FAR_DENIED);
    assert_int_equal(raise_as(FAR_ACTOR_SYSTEM, 2), 0);
    assert_int_equal(raise_as(FAR_ACTOR_SYSTEM, 2), FAR_CONFLICT);
    assert_int_equal(raise_as(FAR_ACTOR_SYSTEM, 1), FAR_CONFLICT);
    assert_int_equal(raise_as(FAR_ACTOR_SYSTEM, 0), FAR_CONFLICT);
}

/* An older server must not decide it in its own way: it stops, with nothing changed, and is upgraded. */
static void a_level_beyond_this_build_stops_the_server_before_it_applies(void **unused)
{
    struct far_cmd_feature_level_raise raise = {.level = FAR_FEATURE_LEVEL + 1};
    struct far_hash128 digest = w.state.digest;
    struct far_buf payload;
    far_buf_init(&payload, 64);
    assert_int_equal(far_schema_encode(&far_schema_cmd_feature_level_raise, &raise, &payload, &w.err), 0);
    struct far_command command = {.kind = FAR_KIND_cmd_feature_level_raise,
                                  .actor = far_actor(FAR_ACTOR_SYSTEM, 1),
                                  .proposed_at_ms = w.now_ms,
                                  .payload = far_buf_slice(&payload)};
    assert_int_equal(far_fsm_apply(&w.state, 99, &command, NULL, NULL, &w.result, &w.err), FAR_CONFLICT);
    assert_non_null(strstr(w.err.message, "upgrade it"));
    assert_true(far_hash128_equal(w.state.digest, digest));
    far_buf_done(&payload);
}

static void an_event_of_a_newer_level_is_a_broken_invariant(void **unused)
{
    struct far_ev_consumer_removed ev = {.id = 1};
    struct far_step step = {.state = &w.state, .arena = &w.arena, .err = &w.err};
    assert_int_equal(far_level_emit(&step, &far_schema_ev_consumer_removed, &ev), FAR_INTERNAL);
    assert_true(step.is_rejected);
    bool has = true;
    assert_int_equal(far_level_has(&step, 2, &has), 0);
    assert_false(has);
    assert_int_equal(far_level_has(&step, 1, &has), 0);
    assert_true(has);
}

/* ---- fields: a kind of level 1 whose field 2 is of level 3, and a list of it ---- */

struct item {
    uint64_t old, fresh;
};
struct owner {
    struct far_list items;
};

static const struct far_field *item_fields(void)
{
    static const struct far_field table[] = {
        {.type = FAR_TYPE_U64, .number = 1, .name = "old", .offset = offsetof(struct item, old)},
        {.type = FAR_TYPE_U64, .number = 2, .name = "fresh", .offset = offsetof(struct item, fresh)},
        {.type = FAR_TYPE_END}};
    return table;
}
static uint16_t item_since(uint16_t number)
{
    return number == 2 ? 3 : 1;
}
static const struct far_schema item_schema = {
    .size = sizeof(struct item), .fields = item_fields, .since = item_since, .levels = 1 << 1 | 1 << 3};

static const struct far_field *owner_fields(void)
{
    static const struct far_field table[] = {{.type = FAR_TYPE_LIST,
                                              .number = 1,
                                              .name = "items",
                                              .offset = offsetof(struct owner, items),
                                              .max = 8,
                                              .element = &item_schema},
                                             {.type = FAR_TYPE_END}};
    return table;
}
static uint16_t owner_since(uint16_t number)
{
    return 1;
}
static const struct far_schema owner_schema = {
    .size = sizeof(struct owner), .fields = owner_fields, .since = owner_since, .levels = 1 << 1 | 1 << 3};

static void a_new_field_counts_only_where_it_is_used(void **unused)
{
    struct item items[3] = {{.old = 7}, {.old = 8}, {.old = 9}};
    struct owner owner = {.items = {items, 3}};
    assert_int_equal(far_schema_level(&item_schema, &items[0]), 1);
    assert_int_equal(far_schema_level(&owner_schema, &owner), 1);
    items[2].fresh = 1;
    assert_int_equal(far_schema_level(&item_schema, &items[2]), 3);
    assert_int_equal(far_schema_level(&owner_schema, &owner), 3);
    struct far_cmd_consumer_remove gone = {.name = S("x")};
    assert_int_equal(far_schema_level(&far_schema_cmd_consumer_remove, &gone), 2);
    struct far_cmd_tick tick = {};
    assert_int_equal(far_schema_level(&far_schema_cmd_tick, &tick), 1);
}

static void nothing_is_of_a_level_that_this_build_does_not_have(void **unused)
{
    for (size_t i = 0; far_schemas[i] != NULL; i++) {
        assert_int_equal(far_schemas[i]->levels >> (FAR_FEATURE_LEVEL + 1), 0);
        assert_in_range(far_schemas[i]->since(0), 1, FAR_FEATURE_LEVEL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_command_of_a_newer_level_waits_for_it, setup, teardown),
        cmocka_unit_test_setup_teardown(old_commands_need_no_level, setup, teardown),
        cmocka_unit_test_setup_teardown(what_an_older_server_would_refuse_is_refused_below_its_level, setup, teardown),
        cmocka_unit_test_setup_teardown(the_level_is_raised_by_servers_and_never_lowered, setup, teardown),
        cmocka_unit_test_setup_teardown(a_level_beyond_this_build_stops_the_server_before_it_applies, setup, teardown),
        cmocka_unit_test_setup_teardown(an_event_of_a_newer_level_is_a_broken_invariant, setup, teardown),
        cmocka_unit_test(a_new_field_counts_only_where_it_is_used),
        cmocka_unit_test(nothing_is_of_a_level_that_this_build_does_not_have),
    };
    return cmocka_run_group_tests_name("feature level", tests, NULL, NULL);
}
