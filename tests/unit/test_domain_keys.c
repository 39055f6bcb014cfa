/* Secrets of dedup domains on the server: drawn and sealed, repeatably, and unsealed into orders, to each node what it needs. */
#include "lib/fsm_world.h"
#include "server/domain_keys.h"

#include "lib/cm.h"

static struct world w;
static struct far_master_key master;
static uint64_t source, target, gold;
static uint8_t uuid[16];
static uint8_t boxes[8][FAR_DOMAIN_BOX_BYTES]; /* [0] the secret, [g] the key of generation g */
static const uint8_t seed[16] = {1, 2, 3};

static int setup(void **unused)
{
    struct far_slice member = S("web");
    master = (struct far_master_key){.is_open = true};
    memset(master.key, 0x77, sizeof master.key);
    assert_int_equal(far_domain_draw_uuid(&master, seed, uuid, NULL), 0);
    for (uint64_t generation = 0; generation < 8; generation++) {
        uint8_t other[16] = {(uint8_t)generation};
        assert_int_equal(far_domain_draw(&master, other, uuid, generation, boxes[generation], NULL), 0);
    }
    world_init(&w);
    world_cluster(&w);
    source = world_node(&w, "src", "paris");
    target = world_node(&w, "dst", "lyon");
    world_workload(&w, "web", 1);
    gold = MUST(&w, domain_create, .name = S("gold"), .uuid = far_slice(uuid, 16),
                .sealed_secret = far_slice(boxes[0], sizeof boxes[0]), .sealed_key = far_slice(boxes[1], sizeof boxes[1]));
    MUST(&w, plan_create, .name = S("p"), .source_site = S("paris"), .target_site = S("lyon"), .workloads = {&member, 1},
         .domain = S("gold"));
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    far_master_key_done(&master);
    return 0;
}

static void rotate(uint64_t generation)
{
    MUST(&w, domain_rotate, .name = S("gold"), .generation = generation,
         .sealed_key = far_slice(boxes[generation], sizeof boxes[generation]));
}

/* The order of this kind that the node holds, filled. */
static struct far_sub_order order_of(uint64_t node_id, uint64_t kind)
{
    struct far_list orders;
    assert_int_equal(far_query_orders(&w.state, node_id, 16, &w.arena, &orders, &w.err), 0);
    struct far_sub_order *order = (struct far_sub_order *)orders.items;
    for (size_t i = 0; i < orders.count; i++) {
        if (order[i].kind == kind) {
            assert_int_equal(far_domain_fill_order(&master, &w.state, node_id, &w.arena, &order[i], &w.err), 0);
            return order[i];
        }
    }
    fail_msg("node %d has no order of kind %d", (int)node_id, (int)kind);
    return *order;
}

static bool is_key(struct far_slice bytes, uint64_t generation)
{
    uint8_t plain[32];
    assert_int_equal(far_domain_unseal_box(&master, uuid, generation, far_slice(boxes[generation], FAR_DOMAIN_BOX_BYTES), plain, NULL), 0);
    return far_slice_equal(bytes, far_slice(plain, 32));
}

/* ---- tests ---- */

static void what_is_drawn_from_one_seed_is_the_same_and_of_another_is_not(void **unused)
{
    uint8_t again[16], other_uuid[16], one[FAR_DOMAIN_BOX_BYTES], two[FAR_DOMAIN_BOX_BYTES], plain[32];
    const uint8_t other_seed[16] = {9};
    struct far_error err;
    assert_int_equal(far_domain_draw_uuid(&master, seed, again, &err), 0);
    assert_memory_equal(again, uuid, 16);
    assert_int_equal(far_domain_draw_uuid(&master, other_seed, other_uuid, &err), 0);
    assert_memory_not_equal(other_uuid, uuid, 16);
    assert_int_equal(far_domain_draw(&master, seed, uuid, 3, one, &err), 0);
    assert_int_equal(far_domain_draw(&master, seed, uuid, 3, two, &err), 0);
    assert_memory_equal(one, two, sizeof one);
    assert_int_equal(far_domain_draw(&master, other_seed, uuid, 3, two, &err), 0);
    assert_memory_not_equal(one, two, 12); /* never one nonce for two things */
    assert_memory_not_equal(one + 12, two + 12, sizeof one - 12);
    struct far_slice box = far_slice(one, sizeof one);
    assert_int_equal(far_domain_unseal_box(&master, uuid, 3, box, plain, &err), 0);
    assert_int_equal(far_domain_unseal_box(&master, uuid, 4, box, plain, &err), FAR_DENIED);
    assert_int_equal(far_domain_unseal_box(&master, other_uuid, 3, box, plain, &err), FAR_DENIED);
    assert_int_equal(far_domain_unseal_box(&master, uuid, 3, far_slice(one, sizeof one - 1), plain, &err), FAR_DENIED);
    one[20] ^= 1;
    assert_int_equal(far_domain_unseal_box(&master, uuid, 3, box, plain, &err), FAR_DENIED);
    one[20] ^= 1;
    master.key[0] ^= 1;
    assert_int_equal(far_domain_unseal_box(&master, uuid, 3, box, plain, &err), FAR_DENIED);
    master.key[0] ^= 1;
}

static void a_source_gets_the_secret_and_a_vault_the_keys_that_it_needs(void **unused)
{
    uint64_t nodes[] = {source, target};
    MUST(&w, plan_replicate, .name = S("p"));
    world_work(&w, source); /* frozen */
    struct far_sub_order send = order_of(source, FAR_task_kind_send);
    const struct far_sub_order_domain *domain = send.domains.items;
    assert_true(is_key(domain->secret, 0));
    assert_int_equal(domain->key.len + domain->old_key.len + domain->generation, 0);
    struct far_sub_order receive = order_of(target, FAR_task_kind_receive);
    domain = receive.domains.items;
    assert_true(is_key(domain->secret, 0) && is_key(domain->key, 1));
    assert_int_equal(domain->old_key.len, 0);
    world_work_all(&w, nodes, 2);
}

static void a_vault_that_lags_gets_the_key_that_its_file_has(void **unused)
{
    uint64_t nodes[] = {source, target};
    for (uint64_t generation = 2; generation < 6; generation++) {
        rotate(generation);
        if (generation == 2) { /* it was seen with this one, and then not for long */
            struct far_sub_report_item item = {
                .job_id = 1, .task = 1, .attempt = 1, .state = FAR_report_state_done, .domain_id = gold, .domain_generation = 2};
            uint64_t sequence = world_row_node(&w, target).sequence + 1;
            w.actor = far_actor(FAR_ACTOR_NODE, target);
            MUST(&w, node_report, .node_id = target, .boot = world_row_node(&w, target).boot, .sequence = sequence, .items = {&item, 1});
            w.sequence[target % 16] = sequence;
            w.actor = 0;
        }
    }
    MUST(&w, plan_replicate, .name = S("p"));
    world_work(&w, source);
    struct far_sub_order receive = order_of(target, FAR_task_kind_receive);
    const struct far_sub_order_domain *domain = receive.domains.items;
    assert_int_equal(domain->generation, 5);
    assert_true(is_key(domain->key, 5));
    assert_int_equal(domain->old_generation, 2);
    assert_true(is_key(domain->old_key, 2));
    world_work_all(&w, nodes, 2);
}

static void another_master_key_gives_no_order(void **unused)
{
    uint64_t nodes[] = {source, target};
    struct far_list orders;
    MUST(&w, plan_replicate, .name = S("p"));
    world_work(&w, source);
    master.key[3] ^= 1;
    assert_int_equal(far_query_orders(&w.state, target, 16, &w.arena, &orders, &w.err), 0);
    struct far_sub_order *order = (struct far_sub_order *)orders.items;
    assert_int_equal(far_domain_fill_order(&master, &w.state, target, &w.arena, order, &w.err), FAR_DENIED);
    assert_non_null(strstr(w.err.message, "gold"));
    master.key[3] ^= 1;
    world_work_all(&w, nodes, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_drawn_from_one_seed_is_the_same_and_of_another_is_not, setup, teardown),
        cmocka_unit_test_setup_teardown(a_source_gets_the_secret_and_a_vault_the_keys_that_it_needs, setup, teardown),
        cmocka_unit_test_setup_teardown(a_vault_that_lags_gets_the_key_that_its_file_has, setup, teardown),
        cmocka_unit_test_setup_teardown(another_master_key_gives_no_order, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
