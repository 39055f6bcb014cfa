/* The Merkle map: roots against an independent implementation, flat form, stream. */
#include "../lib/cm.h"
#include "../lib/made_image.h"

#include <stdio.h>

static void known_images_have_the_roots_of_the_independent_script(void **state)
{
    (void)state;
    for (size_t i = 0; i < MADE_ROOTS; i++) {
        uint64_t size = made_roots[i].size_bytes;
        uint8_t *image = made_image(size);
        struct far_map *map;
        struct far_map_stream stream;
        struct far_hash256 leaf, root;
        char hex[65];
        assert_int_equal(far_map_new(size, &map, NULL), 0);
        far_map_stream_init(&stream, size);
        for (uint64_t block = 0; block < far_map_blocks(map); block++) {
            far_block_leaf(image + block * FAR_BLOCK_BYTES, far_map_block_bytes(size, block), &leaf);
            far_map_set(map, block, &leaf);
            far_map_stream_add(&stream, &leaf);
        }
        far_map_root(map, &root);
        far_hex_encode(root.bytes, 32, hex);
        assert_string_equal(hex, made_roots[i].hex);
        far_map_stream_root(&stream, &root);
        far_hex_encode(root.bytes, 32, hex);
        assert_string_equal(hex, made_roots[i].hex);
        far_map_free(map);
        free(image);
    }
}

/* The root level by level, each a plain array filled up with the zero of its level. */
static struct far_hash256 naive_root(const struct far_hash256 *leaves, uint64_t blocks, uint64_t size)
{
    struct far_hash256 *row = calloc(blocks + 256, sizeof *row);
    uint64_t count = blocks;
    memcpy(row, leaves, blocks * sizeof *row);
    unsigned level = 0;
    do {
        for (uint64_t i = count; i % 256 != 0; i++) {
            row[i] = *far_map_zero(8 * level);
        }
        count = (count + 255) / 256;
        for (uint64_t i = 0; i < count; i++) {
            struct far_hash256 page;
            far_map_page_hash(row + i * 256, &page);
            row[i] = page;
        }
        level++;
    } while (count > 1);
    struct far_hash256 root;
    far_map_bind_root(size, row, &root);
    free(row);
    return root;
}

static void flat_map_and_stream_equal_the_naive_tree_at_every_width(void **state)
{
    (void)state;
    static const uint64_t widths[] = {1, 2, 255, 256, 257, 511, 512, 513, 65536, 65537};
    uint64_t seed = 20261120;
    print_message("# seed %llu\n", (unsigned long long)seed);
    for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
        uint64_t blocks = widths[w];
        uint64_t size = blocks * FAR_BLOCK_BYTES - w;
        struct far_hash256 *leaves = calloc(blocks, sizeof *leaves);
        struct far_map *map;
        struct far_map_stream stream;
        struct far_hash256 flat, streamed;
        assert_int_equal(far_map_new(size, &map, NULL), 0);
        far_map_stream_init(&stream, size);
        for (uint64_t i = 0; i < blocks; i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            leaves[i] = *far_zero_leaf();
            if (seed >> 62 != 0) {
                far_put_le64(leaves[i].bytes, seed);
            }
            far_map_set(map, i, &leaves[i]);
            far_map_stream_add(&stream, &leaves[i]);
        }
        struct far_hash256 naive = naive_root(leaves, blocks, size);
        far_map_root(map, &flat);
        far_map_stream_root(&stream, &streamed);
        assert_memory_equal(flat.bytes, naive.bytes, 32);
        assert_memory_equal(streamed.bytes, naive.bytes, 32);
        far_map_free(map);
        free(leaves);
    }
}

static void an_empty_disk_of_64_tib_has_a_root_and_costs_nothing(void **state)
{
    (void)state;
    struct far_map *map;
    struct far_hash256 root, expected;
    /* A whole map of that size would take minutes to walk; its hash is known. */
    far_map_bind_root(FAR_DISK_BYTES_MAX, far_map_zero(32), &expected);
    assert_int_equal(far_map_height(FAR_DISK_BYTES_MAX), 4);
    assert_int_equal(far_map_new(1ull << 36, &map, NULL), 0);
    far_map_root(map, &root);
    far_map_bind_root(1ull << 36, far_map_zero(24), &expected);
    assert_memory_equal(root.bytes, expected.bytes, 32);
    far_map_free(map);
}

static void impossible_sizes_are_refused(void **state)
{
    (void)state;
    struct far_map *map = NULL;
    struct far_error err;
    assert_int_equal(far_map_new(0, &map, &err), FAR_INVALID);
    assert_int_equal(far_map_new(FAR_DISK_BYTES_MAX + 1, &map, &err), FAR_INVALID);
    assert_int_equal(far_map_new(1 << 20, &map, &err), 0);
    assert_int_equal(far_map_grow(map, (1 << 20) - 1, &err), FAR_INVALID);
    far_map_free(map);
}

static void size_is_bound_into_the_root(void **state)
{
    (void)state;
    struct far_map *map;
    struct far_hash256 before, after;
    assert_int_equal(far_map_new(100, &map, NULL), 0);
    far_map_root(map, &before);
    assert_int_equal(far_map_grow(map, 101, NULL), 0);
    far_map_root(map, &after);
    assert_memory_not_equal(before.bytes, after.bytes, 32);
    far_map_free(map);
}

static void a_grown_map_is_the_map_of_the_grown_disk(void **state)
{
    (void)state;
    struct far_map *map, *fresh;
    struct far_hash256 leaf = {{7}}, grown, expected;
    assert_int_equal(far_map_new(1000, &map, NULL), 0);
    far_map_set(map, 0, &leaf);
    assert_int_equal(far_map_grow(map, 300ull * FAR_BLOCK_BYTES, NULL), 0);
    far_map_set(map, 299, &leaf);
    assert_int_equal(far_map_new(300ull * FAR_BLOCK_BYTES, &fresh, NULL), 0);
    far_map_set(fresh, 0, &leaf);
    far_map_set(fresh, 299, &leaf);
    far_map_root(map, &grown);
    far_map_root(fresh, &expected);
    assert_memory_equal(grown.bytes, expected.bytes, 32);
    far_map_free(map);
    far_map_free(fresh);
}

static void zero_blocks_are_recognized(void **state)
{
    (void)state;
    uint8_t *block = calloc(1, FAR_BLOCK_BYTES);
    struct far_hash256 leaf;
    for (size_t len = 1; len < 70; len++) {
        assert_true(far_block_is_zero(block, len));
        block[len - 1] = 1;
        assert_false(far_block_is_zero(block, len));
        block[len - 1] = 0;
    }
    far_block_leaf(block, 17, &leaf);
    assert_memory_equal(leaf.bytes, far_zero_leaf()->bytes, 32);
    free(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_images_have_the_roots_of_the_independent_script),
        cmocka_unit_test(flat_map_and_stream_equal_the_naive_tree_at_every_width),
        cmocka_unit_test(an_empty_disk_of_64_tib_has_a_root_and_costs_nothing),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(size_is_bound_into_the_root),
        cmocka_unit_test(a_grown_map_is_the_map_of_the_grown_disk),
        cmocka_unit_test(zero_blocks_are_recognized),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
