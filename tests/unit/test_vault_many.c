/* Many blocks at once into the vault and into a replica: as one by one, only cheaper. */
#include "../lib/cm.h"
#include "../lib/vault_kit.h"

enum { MANY = 150, DISK_BLOCKS = 700 }; /* more than one batch of each */

static char dir[300];
static struct far_vault *vault;
static struct far_replica *replica;
static struct far_error err;
static uint8_t bytes[MANY][FAR_BLOCK_BYTES];
static struct far_vault_block blocks[MANY];
static struct far_hash256 leaves[MANY];
static uint64_t indices[MANY];

static int set_up(void **state)
{
    const struct far_vault_options options = {.create = true, .pack_bytes_max = 1 << 20, .cache_bytes_max = 1 << 20};
    const struct far_fence fence = {.incarnation_epoch = 1, .plan_epoch = 1, .job = 10, .attempt = 1};
    (void)state;
    snprintf(dir, sizeof dir, "%s", kit_folder());
    assert_int_equal(far_vault_open(dir, &options, &vault, &err), 0);
    assert_int_equal(far_replica_open(vault, NULL, 3, (uint64_t)DISK_BLOCKS * FAR_BLOCK_BYTES, &fence, &replica, &err), 0);
    for (size_t i = 0; i < MANY; i++) {
        kit_block(i + 1, bytes[i]);
        leaves[i] = kit_id(i + 1);
        indices[i] = i * 3;
        blocks[i] = (struct far_vault_block){
            .id = leaves[i], .codec = FAR_CODEC_RAW, .data = bytes[i], .len = FAR_BLOCK_BYTES,
        };
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    far_replica_close(replica);
    far_vault_close(vault);
    kit_remove(dir);
    return 0;
}

static size_t count_there(void)
{
    bool there[MANY];
    size_t count = 0;
    assert_int_equal(far_vault_has(vault, NULL, leaves, MANY, there, &err), 0);
    for (size_t i = 0; i < MANY; i++) {
        count += there[i];
    }
    return count;
}

static void many_blocks_are_stored_and_read_back(void **state)
{
    static uint8_t block[FAR_BLOCK_BYTES];
    struct far_vault_stats stats;
    (void)state;
    assert_int_equal(far_vault_put_many(vault, NULL, blocks, MANY, &err), 0);
    assert_int_equal(far_vault_put_many(vault, NULL, blocks, MANY, &err), 0);
    far_vault_stats(vault, &stats);
    assert_int_equal(stats.blocks_put, MANY);
    assert_int_equal(stats.blocks_known, MANY);
    assert_int_equal(far_replica_set_many(replica, indices, leaves, MANY, &err), 0);
    for (size_t i = 0; i < MANY; i++) {
        struct far_hash256 leaf;
        assert_int_equal(far_replica_get(replica, indices[i], &leaf, &err), 0);
        assert_memory_equal(leaf.bytes, leaves[i].bytes, 32);
        assert_int_equal(far_vault_get(vault, NULL, &leaf, true, block, &err), 0);
        assert_memory_equal(block, bytes[i], FAR_BLOCK_BYTES);
    }
}

static void a_block_twice_in_one_call_is_stored_once(void **state)
{
    struct far_vault_stats stats;
    (void)state;
    blocks[1] = blocks[0];
    assert_int_equal(far_vault_put_many(vault, NULL, blocks, 2, &err), 0);
    far_vault_stats(vault, &stats);
    assert_int_equal(stats.blocks_put, 1);
    assert_int_equal(stats.blocks_known, 1);
}

static void one_bad_block_and_none_is_stored(void **state)
{
    (void)state;
    blocks[MANY - 1].len = 17;
    assert_int_equal(far_vault_put_many(vault, NULL, blocks, MANY, &err), FAR_INVALID);
    assert_int_equal(count_there(), 0);
}

static void a_leaf_without_its_block_is_not_set(void **state)
{
    struct far_hash256 leaf;
    (void)state;
    assert_int_equal(far_vault_put_many(vault, NULL, blocks, 2, &err), 0);
    assert_int_equal(far_replica_set_many(replica, indices, leaves, 3, &err), FAR_NOT_FOUND);
    indices[1] = DISK_BLOCKS;
    assert_int_equal(far_replica_set_many(replica, indices, leaves, 2, &err), FAR_INVALID);
    for (size_t i = 0; i < 3; i += 2) {
        assert_int_equal(far_replica_get(replica, indices[i], &leaf, &err), 0);
        assert_memory_equal(leaf.bytes, far_zero_leaf()->bytes, 32);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(many_blocks_are_stored_and_read_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_block_twice_in_one_call_is_stored_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_bad_block_and_none_is_stored, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_leaf_without_its_block_is_not_set, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("vault_many", tests, NULL, NULL);
}
