/* What is written to a point that was opened writable: it is read again, the point does not change, and it takes no more than it may. */
#include "../lib/cm.h"
#include "../lib/vault_kit.h"
#include "dataplane/layer.h"

#include <pthread.h>

enum { BLOCKS = 40, TAIL = 777, MOST = 8 };
static const uint64_t size = BLOCKS * (uint64_t)FAR_BLOCK_BYTES - TAIL;

static char dir[300], vault_dir[320];
static struct far_error err;
static struct far_opened *opened;
static struct far_layer *layer;
static uint8_t block[FAR_BLOCK_BYTES], expected[FAR_BLOCK_BYTES];

static void must(int rc)
{
    if (rc != 0) {
        print_message("# %s\n", err.message);
    }
    assert_int_equal(rc, 0);
}

static int set_up(void **state)
{
    (void)state;
    static struct far_manifest manifest;
    const struct far_vault_options options = {.create = true};
    const struct far_fence fence = {.job = 1};
    struct far_vault *vault;
    struct far_replica *replica;
    struct far_hash256 root;
    snprintf(dir, sizeof dir, "%s", kit_folder());
    snprintf(vault_dir, sizeof vault_dir, "%s/vault", dir);
    must(far_vault_open(vault_dir, &options, &vault, &err));
    must(far_replica_open(vault, NULL, 1, size, &fence, &replica, &err));
    for (uint64_t i = 0; i + 1 < BLOCKS; i += 2) { /* every other one is zeroes */
        must(kit_write(vault, replica, i, i + 1, &err));
    }
    must(far_replica_checkpoint(replica, BLOCKS, "", &err));
    must(far_replica_root(replica, &root, &err));
    kit_manifest(1, 1, size, &root, &manifest);
    must(far_vault_seal(vault, &manifest, &err));
    far_replica_close(replica);
    far_vault_close(vault);
    must(far_opened_new(vault_dir, 1, "root", NULL, &opened, &err));
    must(far_layer_new(opened, dir, MOST * (uint64_t)FAR_BLOCK_BYTES + 5, 0, &layer, &err));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    far_layer_close(layer);
    far_opened_close(opened);
    kit_remove(dir);
    return 0;
}

static struct far_layer_state state_of_layer(void)
{
    struct far_layer_state now;
    far_layer_state(layer, &now);
    return now;
}

static void what_is_written_is_read_and_the_point_does_not_change(void **state)
{
    uint64_t length;
    bool zero;
    (void)state;
    must(far_layer_extent(layer, FAR_BLOCK_BYTES, &zero, &length, &err));
    assert_true(zero && length == FAR_BLOCK_BYTES);
    must(far_layer_write(layer, "over two blocks", 15, 2 * FAR_BLOCK_BYTES - 7, &err)); /* a zero one, and one that is not */
    must(far_layer_read(layer, block, 40, 2 * FAR_BLOCK_BYTES - 20, &err));
    assert_memory_equal(block + 13, "over two blocks", 15);
    kit_block(3, expected);
    assert_memory_equal(block + 28, expected + 8, 12);
    memset(expected, 0, 13);
    assert_memory_equal(block, expected, 13);
    assert_int_equal(state_of_layer().bytes, 2 * FAR_BLOCK_BYTES);
    must(far_layer_extent(layer, FAR_BLOCK_BYTES + 100, &zero, &length, &err));
    assert_true(!zero && length == FAR_BLOCK_BYTES - 100);
    must(far_layer_write(layer, "end", 3, size - 3, &err));
    must(far_layer_read(layer, block, 3, size - 3, &err));
    assert_memory_equal(block, "end", 3);
    assert_int_equal(far_layer_write(layer, "end", 3, size - 2, &err), FAR_INVALID);
    must(far_opened_read(opened, block, sizeof block, 2 * FAR_BLOCK_BYTES, &err));
    kit_block(3, expected);
    assert_memory_equal(block, expected, sizeof block);
}

static void beyond_its_bound_a_write_finds_no_space(void **state)
{
    (void)state;
    assert_int_equal(state_of_layer().bytes_max, MOST * FAR_BLOCK_BYTES);
    for (uint64_t i = 0; i < MOST; i++) {
        must(far_layer_write(layer, "x", 1, i * FAR_BLOCK_BYTES, &err));
        must(far_layer_write(layer, "y", 1, i * FAR_BLOCK_BYTES + 1, &err)); /* the same block takes no more */
    }
    assert_false(state_of_layer().is_full);
    assert_int_equal(far_layer_write(layer, "x", 1, MOST * FAR_BLOCK_BYTES, &err), FAR_LIMIT);
    assert_int_equal(far_layer_write(layer, block, sizeof block, MOST * FAR_BLOCK_BYTES, &err), FAR_LIMIT);
    assert_non_null(strstr(err.message, "no space"));
    assert_true(state_of_layer().is_full);
    assert_int_equal(state_of_layer().bytes, MOST * FAR_BLOCK_BYTES);
    must(far_layer_write(layer, "z", 1, 5, &err));
    must(far_layer_read(layer, block, 6, 0, &err));
    assert_true(block[0] == 'x' && block[1] == 'y' && block[5] == 'z');
    must(far_layer_read(layer, block, sizeof block, MOST * FAR_BLOCK_BYTES, &err)); /* what was refused is not there */
    kit_block(MOST + 1, expected);
    assert_memory_equal(block, expected, sizeof block);
}

static void without_a_bound_it_is_a_share_of_what_is_free(void **state)
{
    struct far_layer *other;
    struct far_layer_state one, all;
    (void)state;
    must(far_layer_new(opened, dir, 0, 1, &other, &err));
    far_layer_state(other, &one);
    far_layer_close(other);
    must(far_layer_new(opened, dir, 0, 100, &other, &err));
    far_layer_state(other, &all);
    far_layer_close(other);
    assert_true(one.bytes_max > 0);
    assert_true(all.bytes_max > 20 * one.bytes_max); /* others write to that file system, too */
    assert_int_equal(far_layer_new(opened, "/nowhere", 0, 25, &other, &err), FAR_IO);
}

static void *write_everywhere(void *arg)
{
    for (uint64_t round = 0; round < 20; round++) {
        for (uint64_t i = 0; i < BLOCKS - 1; i++) {
            (void)far_layer_write(layer, "abcdefgh", 8, i * FAR_BLOCK_BYTES + 8 * (uintptr_t)arg, NULL);
        }
    }
    return NULL;
}

static void many_writers_stay_within_the_bound(void **state)
{
    pthread_t threads[8];
    uint64_t written = 0;
    (void)state;
    for (uintptr_t i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_everywhere, (void *)i), 0);
    }
    for (size_t i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(state_of_layer().bytes, MOST * FAR_BLOCK_BYTES);
    for (uint64_t i = 0; i < BLOCKS - 1; i++) { /* a block has what all of them wrote, or what the point has */
        must(far_layer_read(layer, block, 64, i * FAR_BLOCK_BYTES, &err));
        bool has = true;
        for (size_t n = 0; n < 8; n++) {
            has = has && memcmp(block + 8 * n, "abcdefgh", 8) == 0;
        }
        written += has;
    }
    assert_int_equal(written, MOST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_is_read_and_the_point_does_not_change, set_up, tear_down),
        cmocka_unit_test_setup_teardown(beyond_its_bound_a_write_finds_no_space, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_bound_it_is_a_share_of_what_is_free, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_writers_stay_within_the_bound, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("layer", tests, NULL, NULL);
}
