/* A disk of a point opened to be read (dataplane/opened.h): any bytes equal a plain copy, holes are what the tree says, the cache stays
 * as small as asked for, damage is an error. The seed of what is random is printed and can be given as FAR_SEED. */
#include "../lib/cm.h"
#include "../lib/vault_kit.h"

#include "dataplane/opened.h"

#include <fcntl.h>
#include <pthread.h>
#include <time.h>

enum { BLOCKS = 700, TAIL = 777, CACHED = 16, SMALL_CACHE = CACHED * FAR_BLOCK_BYTES };

static char dir[300];
static uint64_t size_bytes = (uint64_t)(BLOCKS - 1) * FAR_BLOCK_BYTES + TAIL;
static uint8_t *plain; /* the disk */
static struct far_opened *opened;
static struct far_error err;
static uint64_t seed;

static uint64_t random_below(uint64_t *state, uint64_t limit)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (*state >> 33) % limit;
}

/* Zeroes in the middle over more than a page of the tree, some blocks twice. */
static uint64_t number_of(uint64_t block)
{
    return block >= 200 && block < 600 ? 0 : block % 7 == 0 ? 4 : block + 1;
}

static void put_point(struct far_vault *vault, uint64_t disk_id, uint64_t point_id, uint64_t bytes, uint64_t blocks)
{
    static struct far_manifest manifest;
    const struct far_fence fence = {.incarnation_epoch = 1, .plan_epoch = 1, .job = 9, .attempt = 1};
    struct far_replica *replica;
    struct far_hash256 root, id;
    uint8_t block[FAR_BLOCK_BYTES];
    assert_int_equal(far_replica_open(vault, NULL, disk_id, bytes, &fence, &replica, &err), 0);
    for (uint64_t i = 0; i < blocks; i++) {
        size_t length = (i + 1) * FAR_BLOCK_BYTES <= bytes ? FAR_BLOCK_BYTES : (size_t)(bytes - i * FAR_BLOCK_BYTES);
        if (number_of(i) == 0) {
            continue;
        }
        kit_block(number_of(i), block);
        memset(block + length, 0, sizeof block - length);
        if (disk_id == 1) {
            memcpy(plain + i * FAR_BLOCK_BYTES, block, length);
        }
        far_block_leaf(block, sizeof block, &id);
        assert_int_equal(far_vault_put(vault, NULL, &id, FAR_CODEC_RAW, block, sizeof block, &err), 0);
        assert_int_equal(far_replica_set(replica, i, &id, &err), 0);
    }
    assert_int_equal(far_replica_checkpoint(replica, far_map_block_count(bytes), "view", &err), 0);
    assert_int_equal(far_replica_root(replica, &root, &err), 0);
    kit_manifest(point_id, disk_id, bytes, &root, &manifest);
    assert_int_equal(far_vault_seal(vault, &manifest, &err), 0);
    far_replica_close(replica);
}

static int set_up(void **state)
{
    struct far_vault_options options = {.create = true};
    struct far_vault *vault;
    const char *given = getenv("FAR_SEED");
    (void)state;
    seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    print_message("# FAR_SEED=%llu\n", (unsigned long long)seed);
    snprintf(dir, sizeof dir, "%s", kit_folder());
    plain = calloc(1, size_bytes);
    assert_int_equal(far_vault_open(dir, &options, &vault, &err), 0);
    put_point(vault, 1, 11, size_bytes, BLOCKS);
    put_point(vault, 2, 12, 1ull << 40, 3); /* 1 TiB, nearly nothing in it */
    far_vault_close(vault);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    kit_remove(dir);
    free(plain);
    return 0;
}

static void open_disk(uint64_t point, uint64_t cache_bytes, bool check_sha)
{
    struct far_opened_options options = {.cache_bytes_max = cache_bytes, .check_sha = check_sha};
    assert_int_equal(far_opened_new(dir, point, "root", &options, &opened, &err), 0);
}

/* ---- cases ---- */

static void *read_at_random(void *arg)
{
    uint64_t state = seed + (uint64_t)(uintptr_t)arg;
    uint8_t *bytes = malloc(4 * FAR_BLOCK_BYTES);
    bool good = true;
    for (int i = 0; i < 600 && good; i++) {
        uint64_t offset = random_below(&state, size_bytes);
        uint64_t most = i % 3 == 0 ? 4 * FAR_BLOCK_BYTES : 5000, rest = size_bytes - offset;
        uint64_t length = 1 + random_below(&state, rest < most ? rest : most);
        if (i % 5 == 0) { /* whole blocks */
            offset -= offset % FAR_BLOCK_BYTES;
            length = rest < 2 * FAR_BLOCK_BYTES ? size_bytes - offset : 2 * FAR_BLOCK_BYTES;
            length = length < 2 * FAR_BLOCK_BYTES ? length : 2 * FAR_BLOCK_BYTES;
        }
        if (i % 7 == 0) {
            far_opened_prefetch(opened, offset, length);
        }
        good = far_opened_read(opened, bytes, length, offset, NULL) == 0 && memcmp(bytes, plain + offset, length) == 0;
    }
    free(bytes);
    return good ? arg : NULL;
}

static void any_bytes_are_those_of_the_disk(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++) {
        open_disk(11, round == 0 ? SMALL_CACHE : 0, round == 1);
        assert_int_equal(far_opened_size(opened), size_bytes);
        pthread_t threads[4];
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, read_at_random, (void *)(i + 1)), 0);
        }
        for (size_t i = 0; i < 4; i++) {
            void *good;
            assert_int_equal(pthread_join(threads[i], &good), 0);
            assert_non_null(good);
        }
        far_opened_close(opened);
    }
}

static void nothing_outside_the_disk_is_read(void **state)
{
    uint8_t byte;
    (void)state;
    open_disk(11, 0, false);
    assert_int_equal(far_opened_read(opened, &byte, 1, size_bytes - 1, &err), 0);
    assert_int_equal(far_opened_read(opened, &byte, 1, size_bytes, &err), FAR_INVALID);
    assert_int_equal(far_opened_read(opened, &byte, 0, size_bytes, &err), 0);
    assert_int_equal(far_opened_read(opened, &byte, 1, UINT64_MAX, &err), FAR_INVALID);
    assert_int_equal(far_opened_read(opened, &byte, SIZE_MAX, 1, &err), FAR_INVALID);
    far_opened_prefetch(opened, size_bytes, 1);
    far_opened_prefetch(opened, 0, 0);
    far_opened_close(opened);
    assert_int_equal(far_opened_new(dir, 77, "root", NULL, &opened, &err), FAR_NOT_FOUND);
    assert_int_equal(far_opened_new(dir, 11, "other", NULL, &opened, &err), FAR_NOT_FOUND);
    assert_int_equal(far_opened_new("/nowhere", 11, "root", NULL, &opened, &err), FAR_NOT_FOUND);
}

/* What the extents say, block by block. */
static void extents_are_what_the_tree_says(void **state)
{
    bool zero;
    uint64_t length, at = 0, changes = 0;
    bool before = false;
    (void)state;
    open_disk(11, 0, false);
    for (; at < size_bytes; at += length) {
        assert_int_equal(far_opened_extent(opened, at, &zero, &length, &err), 0);
        assert_true(length > 0 && length <= size_bytes - at);
        for (uint64_t block = at / FAR_BLOCK_BYTES; block * FAR_BLOCK_BYTES < at + length; block++) {
            assert_int_equal(zero, number_of(block) == 0);
        }
        changes += at == 0 || zero != before;
        before = zero;
    }
    assert_int_equal(at, size_bytes);
    assert_int_equal(changes, 3);
    assert_int_equal(far_opened_extent(opened, 5 * FAR_BLOCK_BYTES + 5, &zero, &length, &err), 0);
    assert_int_equal((5 * FAR_BLOCK_BYTES + 5 + length) % FAR_BLOCK_BYTES, 0);
    assert_int_equal(far_opened_extent(opened, size_bytes, &zero, &length, &err), FAR_INVALID);
    far_opened_close(opened);
    open_disk(12, 0, false); /* a TiB: few questions */
    unsigned questions = 0;
    for (at = 0; at < 1ull << 40; at += length, questions++) {
        assert_int_equal(far_opened_extent(opened, at, &zero, &length, &err), 0);
    }
    assert_int_equal(at, 1ull << 40);
    assert_true(questions < 1024);
    far_opened_close(opened);
}

static void what_was_read_lately_comes_from_the_cache(void **state)
{
    uint8_t bytes[4096];
    struct far_opened_stats stats;
    (void)state;
    open_disk(11, 0, false);
    for (int round = 0; round < 4; round++) {
        for (uint64_t block = 0; block < 50; block++) {
            assert_int_equal(far_opened_read(opened, bytes, sizeof bytes, block * FAR_BLOCK_BYTES + 512, &err), 0);
        }
    }
    far_opened_stats(opened, &stats);
    assert_int_equal(stats.misses, 50);
    assert_int_equal(stats.hits, 150);
    far_opened_prefetch(opened, 50 * FAR_BLOCK_BYTES, 10 * FAR_BLOCK_BYTES);
    for (uint64_t block = 50; block < 60; block++) {
        assert_int_equal(far_opened_read(opened, bytes, sizeof bytes, block * FAR_BLOCK_BYTES, &err), 0);
    }
    far_opened_stats(opened, &stats);
    assert_int_equal(stats.misses, 50);
    far_opened_close(opened);
}

static void a_damaged_block_is_an_error_that_names_it(void **state)
{
    char path[400];
    uint8_t byte = 0, *bytes = malloc(size_bytes);
    (void)state;
    snprintf(path, sizeof path, "%s/packs", dir);
    DIR *packs = opendir(path);
    assert_non_null(packs);
    for (struct dirent *entry = readdir(packs); entry != NULL; entry = readdir(packs)) {
        if (entry->d_name[0] != '.') { /* there is one */
            snprintf(path, sizeof path, "%s/packs/%.60s", dir, entry->d_name);
        }
    }
    closedir(packs);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, 100000), 1); /* in a block */
    byte ^= 0x20;
    assert_int_equal(pwrite(fd, &byte, 1, 100000), 1);
    close(fd);
    open_disk(11, 0, false);
    uint64_t bad = 0;
    for (uint64_t at = 0; at < size_bytes; at += FAR_BLOCK_BYTES) {
        size_t length = size_bytes - at < FAR_BLOCK_BYTES ? (size_t)(size_bytes - at) : FAR_BLOCK_BYTES;
        int rc = far_opened_read(opened, bytes, length, at, &err);
        if (rc == 0) {
            assert_memory_equal(bytes, plain + at, length);
            continue;
        }
        bad++;
        assert_int_equal(rc, FAR_CORRUPT);
        assert_non_null(strstr(err.message, "pack"));
        assert_int_equal(far_opened_read(opened, bytes, 10, at + 1, &err), FAR_CORRUPT);
        far_opened_prefetch(opened, at, 1);
    }
    assert_true(bad >= 1);
    far_opened_close(opened);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_bytes_are_those_of_the_disk),
        cmocka_unit_test(nothing_outside_the_disk_is_read),
        cmocka_unit_test(extents_are_what_the_tree_says),
        cmocka_unit_test(what_was_read_lately_comes_from_the_cache),
        cmocka_unit_test(a_damaged_block_is_an_error_that_names_it),
    };
    return cmocka_run_group_tests_name("opened", tests, set_up, tear_down);
}
