/* The map of a source against a plain one of the same disk: whatever changes, wherever pages come from, however often it begins
 * anew, the root is that of all leaves. The seed of what is random is printed and can be given as FAR_SEED. */
#define _GNU_SOURCE
#include "../lib/cm.h"
#include "../lib/remove_tree.h"

#include "base/clock.h"
#include "dataplane/source_map.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { DISK = 7 };

static uint64_t seed;
static char dir[200];

static uint64_t random_below(uint64_t limit)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 33) % limit;
}

static struct far_hash256 random_leaf(void)
{
    struct far_hash256 leaf;
    for (size_t i = 0; i < sizeof leaf.bytes; i++) {
        leaf.bytes[i] = (uint8_t)random_below(256);
    }
    return random_below(8) == 0 ? *far_zero_leaf() : leaf;
}

/* ---- the plain map, and the target that answers from it ---- */

struct plain {
    struct far_map *map;
    uint64_t size_bytes;
    size_t asked; /* pages so far */
};

static struct plain plain_new(uint64_t size_bytes)
{
    struct plain plain = {.size_bytes = size_bytes};
    assert_int_equal(far_map_new(size_bytes, &plain.map, NULL), 0);
    return plain;
}

static struct plain plain_copy(const struct plain *from, uint64_t size_bytes)
{
    struct plain plain = plain_new(size_bytes);
    for (uint64_t i = 0; i < far_map_blocks(from->map); i++) {
        struct far_hash256 leaf;
        far_map_get(from->map, i, &leaf);
        far_map_set(plain.map, i, &leaf);
    }
    return plain;
}

static struct far_hash256 root_of(const struct plain *plain)
{
    struct far_hash256 root;
    far_map_root(plain->map, &root);
    return root;
}

static struct far_hash256 subtree(const struct plain *plain, unsigned level, uint64_t index);

static void children_of(const struct plain *plain, unsigned level, uint64_t index, struct far_hash256 out[FAR_MAP_FANOUT])
{
    for (unsigned i = 0; i < FAR_MAP_FANOUT; i++) {
        uint64_t child = index * FAR_MAP_FANOUT + i;
        if (level > 0) {
            out[i] = subtree(plain, level - 1, child);
        } else if (child < far_map_blocks(plain->map)) {
            far_map_get(plain->map, child, &out[i]);
        } else {
            out[i] = *far_zero_leaf();
        }
    }
}

static struct far_hash256 subtree(const struct plain *plain, unsigned level, uint64_t index)
{
    struct far_hash256 children[FAR_MAP_FANOUT], hash;
    if (index << (8 * (level + 1)) >= far_map_blocks(plain->map)) {
        return *far_map_zero(8 * (level + 1));
    }
    children_of(plain, level, index, children);
    far_map_page_hash(children, &hash);
    return hash;
}

static void answer(struct plain *base, struct far_source_map *map)
{
    unsigned level;
    uint64_t index;
    while (far_source_map_next_ask(map, &level, &index)) {
        struct far_hash256 children[FAR_MAP_FANOUT];
        children_of(base, level, index, children);
        base->asked++;
        assert_int_equal(far_source_map_take(map, level, index, children, NULL), 0);
    }
}

static void open_block(struct plain *base, struct far_source_map *map, uint64_t block)
{
    while (far_source_map_open(map, block, NULL) != 0) {
        answer(base, map);
    }
}

static void set(struct plain *base, struct plain *now, struct far_source_map *map, uint64_t block)
{
    struct far_hash256 leaf = random_leaf();
    open_block(base, map, block);
    far_source_map_set(map, block, &leaf);
    far_map_set(now->map, block, &leaf);
}

/* To something that it is not in the base: leaves of zeroes are frequent. */
static void change(struct plain *base, struct plain *now, struct far_source_map *map, uint64_t block)
{
    struct far_hash256 before, after;
    far_map_get(base->map, block, &before);
    do {
        set(base, now, map, block);
        far_map_get(now->map, block, &after);
    } while (far_hash256_equal(&before, &after));
}

static void close_to(struct plain *base, struct far_source_map *map, uint64_t block)
{
    while (far_source_map_close_to(map, block, NULL) != 0) {
        answer(base, map);
    }
}

static struct far_source_map *map_new(const struct plain *base, uint64_t size_bytes, const char *cache, const char *view)
{
    struct far_source_map *map;
    struct far_source_map_config config = {.dir = cache, .disk_id = DISK, .size_bytes = size_bytes, .has_base = base != NULL,
                                           .job_id = 3, .freeze_ref = view};
    if (base != NULL) {
        config.base_root = root_of(base);
    }
    assert_int_equal(far_source_map_new(&config, &map, NULL), 0);
    return map;
}

static void expect_root(struct far_source_map *map, const struct plain *now)
{
    struct far_hash256 root, expected = root_of(now);
    far_source_map_root(map, &root);
    assert_memory_equal(&root, &expected, sizeof root);
}

/* A cycle that changes about one block of `every`, in ascending order, closing now and then. */
static void cycle(struct plain *base, struct plain *now, const char *cache, uint64_t every)
{
    struct far_source_map *map = map_new(base, now->size_bytes, cache, "view");
    uint64_t blocks = far_source_map_blocks(map);
    far_source_map_begin(map, 0, base != NULL, base != NULL ? base->size_bytes : 0);
    for (uint64_t block = random_below(every); block < blocks; block += 1 + random_below(2 * every)) {
        set(base, now, map, block);
        if (random_below(20) == 0) {
            close_to(base, map, block);
        }
    }
    while (far_source_map_ready(map, NULL) != 0) {
        answer(base, map);
    }
    close_to(base, map, blocks);
    expect_root(map, now);
    far_source_map_finish(map);
    far_source_map_free(map);
}

/* ---- cases ---- */

static int setup(void **state)
{
    assert_int_equal(far_test_make_folder("source-map", dir, sizeof dir), 0);
    return 0;
}

static int teardown(void **state)
{
    far_test_remove_tree(dir);
    return 0;
}

static const uint64_t sizes[] = {1, 65536, 200 * 65536ull - 5, 256 * 65536ull, 257 * 65536ull, 3000 * 65536ull,
                                 65536 * 65536ull, 70000 * 65536ull + 17};

static void a_first_copy_gives_the_root_of_its_leaves(void **state)
{
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct plain now = plain_new(sizes[i]);
        cycle(NULL, &now, i % 2 == 0 ? dir : NULL, i < 6 ? 1 : 50);
        far_map_free(now.map);
    }
}

static void increments_give_the_root_with_pages_of_the_target_or_of_the_cache(void **state)
{
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct plain base = plain_new(sizes[i]);
        cycle(NULL, &base, dir, 3);
        struct plain now = plain_copy(&base, sizes[i]);
        cycle(&base, &now, dir, 40);
        struct plain nothing = plain_new(sizes[i]);
        struct far_hash256 root = root_of(&base), zero_root = root_of(&nothing);
        far_map_free(nothing.map);
        if (!far_hash256_equal(&root, &zero_root)) { /* a page of zeroes is not cached */
            assert_int_equal(base.asked, 0); /* the cache has them */
        }
        struct plain later = plain_copy(&now, sizes[i]);
        cycle(&now, &later, NULL, 300);
        struct plain again = plain_copy(&later, sizes[i]);
        cycle(&later, &again, dir, 300); /* what it has is from two cycles ago: where that is not right, the target is asked */
        far_map_free(base.map);
        far_map_free(now.map);
        far_map_free(later.map);
        far_map_free(again.map);
    }
}

static void a_disk_that_grew_keeps_its_base(void **state)
{
    const uint64_t grown[] = {2, 65537, 300 * 65536ull, 70000 * 65536ull};
    for (size_t i = 0; i < sizeof grown / sizeof grown[0]; i++) {
        struct plain base = plain_new(grown[i] / 2 + 1);
        cycle(NULL, &base, NULL, 2);
        struct plain same = plain_copy(&base, grown[i]);
        cycle(&base, &same, NULL, UINT32_MAX); /* nothing but grown */
        struct plain now = plain_copy(&base, grown[i]);
        cycle(&base, &now, NULL, 100);
        far_map_free(base.map);
        far_map_free(same.map);
        far_map_free(now.map);
    }
}

static void a_page_that_is_not_the_base_s_is_refused(void **state)
{
    struct plain base = plain_new(3000 * 65536ull);
    struct far_hash256 children[FAR_MAP_FANOUT];
    struct far_error err;
    unsigned level;
    uint64_t index;
    cycle(NULL, &base, NULL, 2);
    struct far_source_map *map = map_new(&base, base.size_bytes, NULL, "view");
    far_source_map_begin(map, 0, true, base.size_bytes);
    assert_int_equal(far_source_map_open(map, 700, NULL), FAR_BUSY);
    while (far_source_map_next_ask(map, &level, &index)) {
        children_of(&base, level, index, children);
        children[random_below(FAR_MAP_FANOUT)].bytes[random_below(32)] ^= 1;
        assert_int_equal(far_source_map_take(map, level, index, children, &err), FAR_CORRUPT);
        children_of(&base, level, index, children);
        assert_int_equal(far_source_map_take(map, level, index, children, NULL), 0);
        assert_int_equal(far_source_map_take(map, level, index, children, NULL), FAR_INVALID); /* nobody asked again */
        far_source_map_open(map, 700, NULL);
    }
    assert_int_equal(far_source_map_open(map, 700, NULL), 0);
    far_source_map_free(map);
    map = map_new(&base, base.size_bytes, NULL, "view");
    far_source_map_begin(map, 0, true, base.size_bytes - 65536); /* the target lies about the size, too */
    assert_int_equal(far_source_map_open(map, 700, NULL), FAR_BUSY);
    assert_true(far_source_map_next_ask(map, &level, &index));
    children_of(&base, level, index, children);
    assert_int_equal(far_source_map_take(map, level, index, children, NULL), FAR_CORRUPT);
    far_source_map_free(map);
    far_map_free(base.map);
}

/* The process ends somewhere; the next one goes on from what was durable, and sets the rest. */
static void an_interrupted_view_is_taken_up_again(void **state)
{
    for (int round = 0; round < 12; round++) {
        uint64_t size = round % 3 == 0 ? 3000 * 65536ull : round % 3 == 1 ? 70000 * 65536ull : 200 * 65536ull, known = 0;
        struct plain base = plain_new(size);
        cycle(NULL, &base, dir, 3);
        struct plain now = plain_copy(&base, size);
        uint64_t blocks = far_map_blocks(base.map), every = round % 2 == 0 ? 5 : 400;
        uint64_t *changed = calloc(blocks, sizeof *changed);
        for (uint64_t block = random_below(every); block < blocks; block += 1 + random_below(2 * every)) {
            changed[block] = 1;
        }
        for (int attempt = 0; known < blocks; attempt++) {
            struct far_source_map *map = map_new(&base, size, dir, "view-17");
            assert_int_equal(far_source_map_known(map), known);
            uint64_t from = attempt % 3 == 2 && random_below(4) == 0 ? 0 : known; /* the target knows less, once */
            far_source_map_begin(map, from, true, size);
            uint64_t stop = attempt > 3 ? blocks : from + random_below(blocks - from) + 1;
            for (uint64_t block = from; block < stop; block++) {
                struct far_hash256 leaf;
                if (changed[block] == 0) {
                    continue;
                }
                far_map_get(now.map, block, &leaf);
                if (changed[block] == 1) {
                    leaf = random_leaf();
                    far_map_set(now.map, block, &leaf);
                    changed[block] = 2;
                }
                open_block(&base, map, block);
                far_source_map_set(map, block, &leaf);
            }
            uint64_t durable = stop == blocks ? blocks : stop - random_below(stop - from + 1);
            if (stop == blocks) {
                while (far_source_map_ready(map, NULL) != 0) {
                    answer(&base, map);
                }
            }
            close_to(&base, map, durable);
            far_source_map_durable(map, durable);
            known = durable == blocks ? blocks : durable / FAR_MAP_FANOUT * FAR_MAP_FANOUT;
            if (durable == blocks) {
                expect_root(map, &now);
            }
            far_source_map_free(map);
        }
        struct far_source_map *map = map_new(&base, size, dir, "view-17"); /* all of it was durable: only the root is missing */
        assert_int_equal(far_source_map_known(map), blocks);
        far_source_map_begin(map, blocks, true, size);
        while (far_source_map_ready(map, NULL) != 0) {
            answer(&base, map);
        }
        close_to(&base, map, blocks);
        expect_root(map, &now);
        far_source_map_finish(map);
        far_source_map_free(map);
        free(changed);
        far_map_free(base.map);
        far_map_free(now.map);
    }
}

/* Each connection tells what is durable, the slow one late; and the process ends between closing pages and hearing of it. */
static void what_is_not_durable_yet_is_the_base_s_again(void **state)
{
    struct plain base = plain_new(3000 * 65536ull);
    cycle(NULL, &base, dir, 3);
    struct plain now = plain_copy(&base, base.size_bytes);
    struct far_source_map *map = map_new(&base, base.size_bytes, dir, "view");
    far_source_map_begin(map, 0, true, base.size_bytes);
    set(&base, &now, map, 5);
    close_to(&base, map, 1024);
    far_source_map_durable(map, 1024);
    far_source_map_durable(map, 600);
    change(&base, &now, map, 1300);
    close_to(&base, map, 2048); /* block 1300 is in the journal and in the cache */
    far_source_map_durable(map, 1100);
    far_source_map_free(map);
    map = map_new(&base, base.size_bytes, dir, "view");
    assert_int_equal(far_source_map_known(map), 1024);
    far_source_map_begin(map, 1024, true, base.size_bytes);
    struct far_hash256 leaf;
    far_map_get(now.map, 1300, &leaf);
    open_block(&base, map, 1300);
    assert_true(far_source_map_set(map, 1300, &leaf)); /* it has to be offered again */
    close_to(&base, map, 3000);
    expect_root(map, &now);
    far_source_map_finish(map);
    far_source_map_free(map);
    far_map_free(base.map);
    far_map_free(now.map);
}

static void another_view_or_job_or_base_begins_anew(void **state)
{
    struct plain base = plain_new(3000 * 65536ull);
    cycle(NULL, &base, dir, 3);
    struct plain now = plain_copy(&base, base.size_bytes);
    struct far_source_map *map = map_new(&base, base.size_bytes, dir, "one");
    far_source_map_begin(map, 0, true, base.size_bytes);
    set(&base, &now, map, 5);
    close_to(&base, map, 1000);
    far_source_map_durable(map, 1000);
    far_source_map_free(map);
    map = map_new(&base, base.size_bytes, dir, "two");
    assert_int_equal(far_source_map_known(map), 0);
    far_source_map_free(map);
    map = map_new(&base, base.size_bytes, dir, ""); /* a view without a name */
    assert_int_equal(far_source_map_known(map), 0);
    far_source_map_free(map);
    far_map_free(base.map);
    far_map_free(now.map);
}

/* Every byte of cache and journal may be wrong. */
static void damaged_files_cost_pages_never_the_root(void **state)
{
    for (int round = 0; round < 30; round++) {
        struct plain base = plain_new(1000 * 65536ull);
        cycle(NULL, &base, dir, 3);
        struct plain now = plain_copy(&base, base.size_bytes);
        struct far_source_map *map = map_new(&base, base.size_bytes, dir, "view");
        far_source_map_begin(map, 0, true, base.size_bytes);
        for (uint64_t block = 0; block < 700; block += 30) {
            set(&base, &now, map, block);
        }
        close_to(&base, map, 600);
        far_source_map_durable(map, 600);
        far_source_map_free(map);
        for (int i = 0; i < 3; i++) {
            char path[300];
            uint8_t byte = (uint8_t)random_below(256);
            snprintf(path, sizeof path, "%s/disk-%d.%s", dir, DISK, i == 0 ? "view" : "pages");
            int fd = open(path, O_RDWR | O_CLOEXEC);
            assert_true(fd >= 0 && pwrite(fd, &byte, 1, (off_t)random_below(i == 0 ? 600 : 4 * FAR_MAP_PAGE_BYTES)) == 1);
            close(fd);
        }
        map = map_new(&base, base.size_bytes, dir, "view");
        uint64_t from = far_source_map_known(map);
        far_source_map_begin(map, from, true, base.size_bytes);
        for (uint64_t block = 0; block < 700; block += 30) {
            struct far_hash256 leaf;
            far_map_get(now.map, block, &leaf);
            if (block >= from) {
                open_block(&base, map, block);
                far_source_map_set(map, block, &leaf);
            }
        }
        while (far_source_map_ready(map, NULL) != 0) {
            answer(&base, map);
        }
        close_to(&base, map, 1000);
        expect_root(map, &now);
        far_source_map_finish(map);
        far_source_map_free(map);
        far_map_free(base.map);
        far_map_free(now.map);
    }
}

static void memory_grows_neither_with_the_disk_nor_with_the_change(void **state)
{
    struct far_source_map *map = map_new(NULL, 64ull << 40, NULL, "view");
    uint64_t blocks = far_source_map_blocks(map), most = 0;
    far_source_map_begin(map, 0, false, 0);
    for (uint64_t block = 0; block < blocks; block += 40000) {
        struct far_hash256 leaf = random_leaf();
        assert_int_equal(far_source_map_open(map, block, NULL), 0);
        far_source_map_set(map, block, &leaf);
        if (block % (64 * 40000) == 0) {
            assert_int_equal(far_source_map_close_to(map, block, NULL), 0);
        }
        uint64_t bytes = far_source_map_open_bytes(map);
        most = bytes > most ? bytes : most;
    }
    print_message("# 64 TiB, %llu changes: %llu KiB of open pages\n", (unsigned long long)(blocks / 40000),
                  (unsigned long long)most / 1024);
    assert_true(most < 2 << 20);
    far_source_map_free(map);
}

int main(void)
{
    const char *given = getenv("FAR_SEED");
    seed = given != NULL ? strtoull(given, NULL, 10) : far_clock_wall_ms();
    print_message("# FAR_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_first_copy_gives_the_root_of_its_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(increments_give_the_root_with_pages_of_the_target_or_of_the_cache, setup, teardown),
        cmocka_unit_test_setup_teardown(a_disk_that_grew_keeps_its_base, setup, teardown),
        cmocka_unit_test_setup_teardown(a_page_that_is_not_the_base_s_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(an_interrupted_view_is_taken_up_again, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_durable_yet_is_the_base_s_again, setup, teardown),
        cmocka_unit_test_setup_teardown(another_view_or_job_or_base_begins_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_files_cost_pages_never_the_root, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_grows_neither_with_the_disk_nor_with_the_change, setup, teardown),
    };
    return cmocka_run_group_tests_name("source_map", tests, NULL, NULL);
}
