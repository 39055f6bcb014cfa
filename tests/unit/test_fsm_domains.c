/* Dedup domains in the core: plans and points in them, keys that are kept as long as some vault needs them, what destroys them. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <stdio.h>

static struct world w;
static uint64_t source, target, gold;
static const uint8_t box[60] = {7, 7, 7};

#define SEALED far_slice(box, 60)
#define CREATE(name_, ...) \
    MUST(&w, domain_create, .name = S(name_), .uuid = far_slice(box, 16), .sealed_secret = SEALED, .sealed_key = SEALED, __VA_ARGS__)
#define REFUSED(klass, text, name, ...)                      \
    do {                                                     \
        assert_int_equal(APPLY(&w, name, __VA_ARGS__), klass); \
        assert_non_null(strstr(w.result.message, text));     \
    } while (0)

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    source = world_node(&w, "src", "paris");
    target = world_node(&w, "dst", "lyon");
    world_workload(&w, "web", 2);
    world_workload(&w, "db", 1);
    gold = CREATE("gold", .is_default = false);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static struct far_row_domain row_of(uint64_t id)
{
    struct far_row_domain row = {.id = 0};
    struct far_key key = far_key(&far_schema_row_domain);
    far_key_u64(&key, id);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_domain, &key, &w.arena, &row, &w.err), 0);
    return row;
}

static bool has_key(uint64_t id, uint64_t generation)
{
    struct far_row_domain_key row;
    struct far_key key = far_key(&far_schema_row_domain_key);
    far_key_u64(&key, id);
    far_key_u64(&key, generation);
    int rc = far_state_get(&w.state, &far_schema_row_domain_key, &key, &w.arena, &row, &w.err);
    assert_true(rc == 0 || rc == FAR_NOT_FOUND);
    return rc == 0;
}

static uint64_t make_plan(const char *name, const char *workload, const char *domain)
{
    struct far_slice member = S(workload);
    return MUST(&w, plan_create, .name = S(name), .source_site = S("paris"), .target_site = S("lyon"), .workloads = {&member, 1},
                .domain = S(domain));
}

static void cycle(const char *plan)
{
    uint64_t nodes[] = {source, target};
    MUST(&w, plan_replicate, .name = S(plan));
    world_work_all(&w, nodes, 2);
}

/* The node says that its vault is sealed with this generation. */
static void seal(uint64_t node_id, uint64_t generation)
{
    struct far_sub_report_item item = {
        .job_id = 1, .task = 1, .attempt = 1, .state = FAR_report_state_done, .domain_id = gold, .domain_generation = generation};
    uint64_t sequence = world_row_node(&w, node_id).sequence + 1;
    w.actor = far_actor(FAR_ACTOR_NODE, node_id);
    MUST(&w, node_report, .node_id = node_id, .boot = world_row_node(&w, node_id).boot, .sequence = sequence, .items = {&item, 1});
    w.sequence[node_id % 16] = sequence;
    w.actor = 0;
}

#define ROTATE(generation_) APPLY(&w, domain_rotate, .name = S("gold"), .generation = generation_, .sealed_key = SEALED)

/* ---- tests ---- */

static void plans_and_points_are_counted_in_their_domain(void **unused)
{
    uint64_t plan = make_plan("p", "web", "gold");
    assert_int_equal(world_row_plan(&w, plan).domain_id, gold);
    assert_int_equal(row_of(gold).plan_count, 1);
    cycle("p");
    cycle("p");
    assert_int_equal(row_of(gold).point_count, 2);
    MUST(&w, checkpoint_remove, .checkpoint_id = world_row_plan(&w, plan).last_checkpoint_id);
    assert_int_equal(row_of(gold).point_count, 1);
    world_work_all(&w, (const uint64_t[]){source, target}, 2); /* the point is forgotten */
    MUST(&w, plan_remove, .name = S("p"));
    assert_int_equal(row_of(gold).plan_count, 0);
    assert_int_equal(row_of(gold).point_count, 1);
}

static void the_default_domain_is_for_plans_that_name_none(void **unused)
{
    uint64_t before = make_plan("before", "web", "");
    assert_int_equal(world_row_plan(&w, before).domain_id, 0);
    MUST(&w, plan_remove, .name = S("before"));
    uint64_t silver = CREATE("silver", .is_default = true);
    uint64_t after = make_plan("after", "web", "");
    assert_int_equal(world_row_plan(&w, after).domain_id, silver);
    uint64_t plain = make_plan("plain", "db", "plain");
    assert_int_equal(world_row_plan(&w, plain).domain_id, 0);
    uint64_t iron = CREATE("iron", .is_default = true);
    assert_false(row_of(silver).is_default);
    assert_true(row_of(iron).is_default);
    MUST(&w, domain_destroy, .name = S("iron"));
    MUST(&w, plan_remove, .name = S("plain"));
    uint64_t none = make_plan("none", "db", "");
    assert_int_equal(world_row_plan(&w, none).domain_id, 0);
    struct far_slice member = S("web");
    REFUSED(FAR_NOT_FOUND, "does not exist", plan_create, .name = S("x"), .source_site = S("paris"), .target_site = S("lyon"),
            .workloads = {&member, 1}, .domain = S("nosuch"));
}

static void orders_name_the_domain_and_hold_no_secret(void **unused)
{
    make_plan("p", "web", "gold");
    MUST(&w, plan_replicate, .name = S("p"));
    world_work(&w, source); /* frozen */
    for (int target_side = 0; target_side < 2; target_side++) {
        struct far_list orders;
        assert_int_equal(far_query_orders(&w.state, target_side ? target : source, 16, &w.arena, &orders, &w.err), 0);
        assert_true(orders.count > 0);
        const struct far_sub_order *order = orders.items;
        assert_int_equal(order->domain_id, gold);
        assert_int_equal(order->domains.count, 1);
        const struct far_sub_order_domain *domain = order->domains.items;
        assert_true(far_slice_equal(domain->name, S("gold")));
        assert_int_equal(domain->secret.len + domain->key.len + domain->old_key.len, 0);
    }
    uint64_t nodes[] = {source, target};
    world_work_all(&w, nodes, 2);
}

static void keys_stay_while_a_vault_needs_them(void **unused)
{
    make_plan("p", "web", "gold");
    assert_int_equal(ROTATE(2), 0);
    assert_false(has_key(gold, 1)); /* no vault has it yet */
    seal(target, 2);
    assert_int_equal(ROTATE(3), 0);
    assert_int_equal(ROTATE(4), 0);
    assert_true(has_key(gold, 2) && has_key(gold, 3) && has_key(gold, 4));
    seal(target, 3);
    assert_true(!has_key(gold, 2) && has_key(gold, 3) && has_key(gold, 4));
    seal(target, 2); /* what comes late changes nothing */
    seal(target, 9);
    assert_true(has_key(gold, 3));
    seal(target, 4);
    assert_false(has_key(gold, 3));
    REFUSED(FAR_CONFLICT, "meanwhile", domain_rotate, .name = S("gold"), .generation = 4, .sealed_key = SEALED);
    REFUSED(FAR_INVALID, "sealed_key", domain_rotate, .name = S("gold"), .generation = 5);
    for (uint64_t generation = 5; generation < 4 + 16; generation++) {
        assert_int_equal(ROTATE(generation), 0);
    }
    REFUSED(FAR_CONFLICT, "still sealed with its key of generation 4", domain_rotate, .name = S("gold"), .generation = 20,
            .sealed_key = SEALED);
    MUST(&w, node_remove, .name = S("dst")); /* its vault is gone with it */
    assert_int_equal(ROTATE(20), 0);
    assert_false(has_key(gold, 4));
}

static void what_is_destroyed_stays_so(void **unused)
{
    make_plan("p", "web", "gold");
    cycle("p");
    REFUSED(FAR_CONFLICT, "1 plans are in domain 'gold'", domain_destroy, .name = S("gold"), .confirm = S("gold"));
    MUST(&w, plan_remove, .name = S("p"));
    REFUSED(FAR_CONFLICT, "say its name a second time", domain_destroy, .name = S("gold"));
    REFUSED(FAR_CONFLICT, "say its name a second time", domain_destroy, .name = S("gold"), .confirm = S("Gold"));
    MUST(&w, domain_destroy, .name = S("gold"), .confirm = S("gold"));
    assert_int_equal(row_of(gold).state, FAR_domain_state_destroyed);
    assert_int_equal(row_of(gold).sealed_secret.len, 0);
    assert_false(has_key(gold, 1));
    seal(target, 1);
    REFUSED(FAR_CONFLICT, "exists already", domain_create, .name = S("gold"), .uuid = far_slice(box, 16), .sealed_secret = SEALED,
            .sealed_key = SEALED);
}

static void a_vault_that_has_erased_a_destroyed_domain_is_named_no_more(void **unused)
{
    struct far_sub_report_item item = {
        .job_id = 1, .task = 1, .attempt = 1, .state = FAR_report_state_done, .erased_domain_ids = {&gold, 1}};
    struct far_row_domain_vault vault;
    struct far_key key = far_key(&far_schema_row_domain_vault);
    seal(target, 1);
    for (int destroyed = 0; destroyed < 2; destroyed++) { /* what is not destroyed is not erased, whatever a node says */
        uint64_t sequence = world_row_node(&w, target).sequence + 1;
        w.actor = far_actor(FAR_ACTOR_NODE, target);
        MUST(&w, node_report, .node_id = target, .boot = world_row_node(&w, target).boot, .sequence = sequence, .items = {&item, 1});
        w.actor = 0;
        key = far_key(&far_schema_row_domain_vault);
        int rc = far_state_next(&w.state, &far_schema_row_domain_vault, &key, &w.arena, NULL, &vault, &w.err);
        assert_int_equal(rc, destroyed ? FAR_NOT_FOUND : 0);
        if (!destroyed) {
            MUST(&w, domain_destroy, .name = S("gold"));
        }
    }
}

static void nonsense_is_refused(void **unused)
{
    REFUSED(FAR_INVALID, "plain", domain_create, .name = S("plain"), .uuid = far_slice(box, 16), .sealed_secret = SEALED,
            .sealed_key = SEALED);
    REFUSED(FAR_INVALID, "uuid", domain_create, .name = S("x"), .uuid = far_slice(box, 3), .sealed_secret = SEALED, .sealed_key = SEALED);
    REFUSED(FAR_INVALID, "sealed_secret", domain_create, .name = S("x"), .uuid = far_slice(box, 16), .sealed_key = SEALED);
    char name[16];
    for (int i = 1; i < 200; i++) {
        snprintf(name, sizeof name, "d%d", i);
        CREATE(name, .is_default = false);
    }
    REFUSED(FAR_LIMIT, "200 dedup domains", domain_create, .name = S("x"), .uuid = far_slice(box, 16), .sealed_secret = SEALED,
            .sealed_key = SEALED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(plans_and_points_are_counted_in_their_domain, setup, teardown),
        cmocka_unit_test_setup_teardown(the_default_domain_is_for_plans_that_name_none, setup, teardown),
        cmocka_unit_test_setup_teardown(orders_name_the_domain_and_hold_no_secret, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_stay_while_a_vault_needs_them, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_destroyed_stays_so, setup, teardown),
        cmocka_unit_test_setup_teardown(a_vault_that_has_erased_a_destroyed_domain_is_named_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(nonsense_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
