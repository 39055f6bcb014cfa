/* The Merkle map: roots against an independent implementation, flat form, stream, cache file. */
#include "../lib/cm.h"
#include "../lib/faults.h"
#include "../lib/made_image.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static char folder[64];

static void path_in(const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s", folder, name);
}

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

/* ---- the cache file ---- */

static struct far_map *some_map(uint64_t blocks)
{
    struct far_map *map;
    assert_int_equal(far_map_new(blocks * FAR_BLOCK_BYTES - 100, &map, NULL), 0);
    for (uint64_t i = 0; i < blocks; i += 2) {
        struct far_hash256 leaf = {{(uint8_t)i, 1}};
        far_map_set(map, i, &leaf);
    }
    return map;
}

static void a_saved_map_comes_back(void **state)
{
    (void)state;
    char path[128];
    path_in("cache", path);
    struct far_map *map = some_map(1000);
    struct far_map *loaded;
    struct far_hash256 root, again, other = {{0}};
    struct far_error err;
    far_map_root(map, &root);
    assert_int_equal(far_map_load(path, far_map_size(map), &root, &loaded, &err), FAR_NOT_FOUND);
    assert_int_equal(far_map_save(map, path, &err), 0);
    assert_int_equal(far_map_load(path, far_map_size(map), &root, &loaded, &err), 0);
    far_map_root(loaded, &again);
    assert_memory_equal(root.bytes, again.bytes, 32);
    far_map_free(loaded);
    assert_int_equal(far_map_load(path, far_map_size(map), &other, &loaded, &err), FAR_CONFLICT);
    assert_int_equal(far_map_load(path, far_map_size(map) + 1, &root, &loaded, &err), FAR_CONFLICT);
    far_map_free(map);
    unlink(path);
}

static void every_flipped_bit_of_a_cache_file_is_found(void **state)
{
    (void)state;
    char path[128];
    path_in("cache", path);
    struct far_map *map = some_map(300);
    struct far_buf file;
    struct far_map *loaded;
    assert_int_equal(far_map_save(map, path, NULL), 0);
    far_buf_init(&file, 1 << 20);
    assert_int_equal(far_file_read(path, &file, NULL), 0);
    uint64_t seed = 42;
    for (int i = 0; i < 2000; i++) {
        struct far_error err;
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        size_t at = (size_t)(seed >> 20) % file.len;
        uint8_t bit = (uint8_t)(1u << (seed >> 60 & 7));
        file.data[at] ^= bit;
        assert_int_equal(far_map_parse(far_buf_slice(&file), &loaded, &err), FAR_CORRUPT);
        file.data[at] ^= bit;
    }
    for (size_t len = 0; len < file.len; len += 97) {
        assert_int_equal(far_map_parse(far_slice(file.data, len), &loaded, NULL), FAR_CORRUPT);
    }
    assert_int_equal(far_map_parse(far_buf_slice(&file), &loaded, NULL), 0);
    far_map_free(loaded);
    far_map_free(map);
    far_buf_done(&file);
    unlink(path);
}

/* Whatever fails while a map is saved: the error says so, the file of before is there whole, nothing is left beside it, and the
 * next save is good. */
static void a_failing_save_leaves_the_map_of_before(void **state)
{
    (void)state;
    static const struct {
        enum far_fault what;
        int error, klass;
    } faults[] = {
        {FAR_FAULT_WRITE, ENOSPC, FAR_LIMIT}, {FAR_FAULT_WRITE, EIO, FAR_IO},     {FAR_FAULT_TRUNCATE, EFBIG, FAR_LIMIT},
        {FAR_FAULT_SYNC, EIO, FAR_IO},        {FAR_FAULT_SYNC, ENOSPC, FAR_LIMIT}, {FAR_FAULT_OPEN, EMFILE, FAR_IO},
        {FAR_FAULT_RENAME, EIO, FAR_IO},      {FAR_FAULT_ALLOC, ENOMEM, FAR_LIMIT},
    };
    char path[128], temporary[140];
    path_in("cache", path);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    struct far_map *map = some_map(1000), *changed = some_map(1000), *loaded;
    struct far_hash256 before, after, leaf = {{9}};
    struct far_error err;
    far_map_set(changed, 999, &leaf);
    far_map_root(map, &before);
    far_map_root(changed, &after);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        unsigned struck = 0;
        for (uint64_t n = 1;; n++) {
            assert_int_equal(far_map_save(map, path, NULL), 0);
            far_fault_arm(faults[i].what, n, faults[i].error);
            int rc = far_map_save(changed, path, &err);
            if (!far_fault_disarm()) {
                assert_int_equal(rc, 0);
                break;
            }
            struck++;
            assert_int_equal(rc, faults[i].klass);
            assert_true(access(temporary, F_OK) != 0);
            /* the sync of the folder comes after the rename: then it is the new map that is there, whole */
            rc = far_map_load(path, far_map_size(map), &before, &loaded, &err);
            rc = rc == FAR_CONFLICT ? far_map_load(path, far_map_size(map), &after, &loaded, &err) : rc;
            assert_int_equal(rc, 0);
            far_map_free(loaded);
        }
        assert_true(struck > 0);
    }
    assert_int_equal(far_map_save(map, path, NULL), 0);
    far_fault_arm_short_write(2, 5000); /* a part is written: the rest goes behind it */
    assert_int_equal(far_map_save(changed, path, &err), 0);
    assert_true(far_fault_disarm());
    assert_int_equal(far_map_load(path, far_map_size(map), &after, &loaded, &err), 0);
    far_map_free(loaded);
    for (uint64_t n = 1;; n++) { /* loading: without memory or a readable file the caller goes on without */
        far_fault_arm(n % 2 == 0 ? FAR_FAULT_ALLOC : FAR_FAULT_READ, (n + 1) / 2, n % 2 == 0 ? ENOMEM : EIO);
        int rc = far_map_load(path, far_map_size(map), &after, &loaded, &err);
        bool struck = far_fault_disarm();
        assert_int_equal(rc == 0, !struck);
        if (rc == 0) {
            far_map_free(loaded);
        }
        if (!struck && n > 8) {
            break;
        }
    }
    far_map_free(map);
    far_map_free(changed);
    unlink(path);
}

static int make_folder(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.40s/far-map-XXXXXX", base != NULL ? base : "/tmp");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
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
        cmocka_unit_test(a_saved_map_comes_back),
        cmocka_unit_test(every_flipped_bit_of_a_cache_file_is_found),
        cmocka_unit_test(a_failing_save_leaves_the_map_of_before),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
