/* The scrub of a vault: its budget, where it goes on, what a rotation reads, and that every point is named that needs what is damaged. */
#include "../lib/cm.h"
#include "../lib/vault_kit.h"
#include "dataplane/pack.h"
#include "dataplane/scrub.h"

#include <fcntl.h>

enum { BLOCKS = 600 };

static char dir[300];
static struct far_vault *vault;
static struct far_error err;
static struct far_manifest manifest;
static struct far_scrub_result result;
static uint64_t jobs;
static const struct far_domain *domain; /* of what is made */

static void must(int rc)
{
    if (rc != 0) {
        print_message("# %s\n", err.message);
    }
    assert_int_equal(rc, 0);
}

static void open_vault(void)
{
    struct far_vault_options options = {.create = true, .pack_bytes_max = 1 << 20, .cache_bytes_max = 1 << 20};
    must(far_vault_open(dir, &options, &vault, &err));
}

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "%s", kit_folder());
    jobs = 0;
    domain = NULL;
    open_vault();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    far_vault_close(vault);
    kit_remove(dir);
    return 0;
}

/* A point of a disk: these numbers from block `at` on, the rest as before. */
static void make_point(uint64_t point_id, uint64_t disk_id, uint64_t at, uint64_t number, uint64_t count)
{
    struct far_fence fence = {.job = ++jobs};
    struct far_replica *replica;
    struct far_hash256 root;
    must(far_replica_open(vault, domain, disk_id, BLOCKS * FAR_BLOCK_BYTES, &fence, &replica, &err));
    for (uint64_t i = 0; i < count; i++) {
        must(kit_write(vault, replica, at + i, number + i, &err));
    }
    must(far_replica_checkpoint(replica, BLOCKS, "view", &err));
    must(far_replica_root(replica, &root, &err));
    far_replica_close(replica);
    kit_manifest(point_id, disk_id, BLOCKS * FAR_BLOCK_BYTES, &root, &manifest);
    far_domain_uuid(domain, manifest.domain_uuid);
    snprintf(manifest.disks[0].name, sizeof manifest.disks[0].name, "disk%d", (int)disk_id);
    must(far_vault_seal(vault, &manifest, &err));
}

/* A rotation reads 120 blocks: 40, 10, 1 and 4 of the first disk, 30 and 35 of the second. */
static void make_points(void)
{
    make_point(1, 1, 0, 1000, 40);
    make_point(2, 2, 0, 1000, 30);
    make_point(3, 1, 0, 2000, 10);
    make_point(4, 2, 300, 3000, 35);
    make_point(5, 1, 599, 4000, 1);
    make_point(6, 1, 300, 5000, 4);
}

static void scrub(struct far_scrub_cursor *cursor, uint64_t blocks)
{
    struct far_scrub_order order = {.cursor = *cursor, .bytes_max = blocks * FAR_BLOCK_BYTES};
    must(far_vault_scrub(vault, &order, NULL, NULL, &result, &err));
    *cursor = result.next;
}

static void a_rotation_reads_every_stored_block_of_every_disk_once(void **state)
{
    (void)state;
    struct far_scrub_cursor cursor = {0};
    scrub(&cursor, 0);
    assert_true(result.rotation_ended);
    assert_int_equal(result.bytes_read, 0);
    make_points();
    scrub(&cursor, 0);
    assert_int_equal(result.bytes_read, (40 + 30 + 10 + 35 + 1 + 4) * FAR_BLOCK_BYTES);
    assert_true(result.rotation_ended);
    assert_int_equal(result.done_permille, 1000);
    assert_int_equal(result.disks_looked_at, 6);
    assert_int_equal(result.damage_count, 0);
    assert_int_equal(cursor.rotation, 3);
    assert_int_equal(cursor.point_id, 0);
}

static void a_run_keeps_to_its_budget_and_the_next_one_goes_on_there(void **state)
{
    (void)state;
    make_points();
    for (uint64_t budget = 1; budget <= 121; budget += 7) {
        struct far_scrub_cursor cursor = {.rotation = 5};
        uint64_t bytes = 0, runs = 0, permille = 0;
        do {
            scrub(&cursor, budget);
            assert_true(result.bytes_read <= budget * FAR_BLOCK_BYTES);
            assert_true(result.done_permille >= permille);
            permille = result.done_permille;
            bytes += result.bytes_read;
            assert_true(++runs <= 121);
        } while (!result.rotation_ended);
        assert_int_equal(bytes, 120 * FAR_BLOCK_BYTES);
        assert_int_equal(cursor.rotation, 6);
        assert_true(runs >= 120 / budget && runs <= 120 / budget + 2);
    }
}

/* One bit of what begins so in a pack, `at` bytes behind. */
static void flip_bytes(const void *begin, size_t len, size_t behind)
{
    static uint8_t read[FAR_BLOCK_BYTES];
    far_vault_close(vault);
    bool done = false;
    for (unsigned pack = 0; pack < 64 && !done; pack++) {
        char path[512];
        snprintf(path, sizeof path, "%s/packs/%08u.pack", dir, pack);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
        for (off_t at = 0; at + (off_t)(len + behind) <= size && !done; at++) {
            if (pread(fd, read, len, at) == (ssize_t)len && memcmp(read, begin, len) == 0) {
                assert_int_equal(pread(fd, read, 1, at + (off_t)behind), 1);
                read[0] ^= 1;
                assert_int_equal(pwrite(fd, read, 1, at + (off_t)behind), 1);
                done = true;
            }
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    assert_true(done);
    open_vault();
}

/* One bit of the block with this number. */
static void flip(uint64_t number)
{
    static uint8_t block[FAR_BLOCK_BYTES];
    kit_block(number, block);
    flip_bytes(block, 64, 3000);
}

static bool is_named(uint64_t point_id, size_t damage)
{
    for (size_t i = 0; i < result.name_count; i++) {
        if (result.names[i].point_id == point_id) {
            return (result.names[i].damages[damage / 8] >> damage % 8 & 1) == 1;
        }
    }
    return false;
}

static void a_flipped_bit_is_found_and_every_point_named_that_needs_the_block(void **state)
{
    (void)state;
    struct far_scrub_cursor cursor = {0};
    make_points();
    flip(1005); /* until point 3 of the first disk; in every point of the second */
    scrub(&cursor, 0);
    assert_int_equal(result.damage_count, 2); /* found where it is read: in the oldest point of both disks */
    assert_int_equal(result.blocks_damaged, 2);
    assert_int_equal(result.damages[0].point_id, 1);
    assert_string_equal(result.damages[0].disk, "disk1");
    assert_int_equal(result.damages[0].first_block, 5);
    assert_int_equal(result.damages[0].block_count, 1);
    assert_non_null(strstr(result.damages[0].text, ".pack"));
    assert_int_equal(result.damages[0].needed_by, 3);
    assert_int_equal(result.name_count, 3);
    assert_true(is_named(1, 0) && is_named(2, 0) && is_named(4, 0) && is_named(1, 1));
    assert_false(is_named(3, 0) || is_named(5, 0) || is_named(6, 0));
    assert_int_equal(result.names[0].blocks, 2); /* of two damages that are one */
    assert_false(result.more_names);
    cursor = (struct far_scrub_cursor){.rotation = 2};
    flip(2003);
    flip(5001);
    scrub(&cursor, 0);
    assert_int_equal(result.damage_count, 4);
    assert_true(is_named(3, 2) && is_named(5, 2) && is_named(6, 2) && is_named(6, 3));
    assert_false(is_named(1, 2) || is_named(5, 3));
}

static void a_disk_of_which_all_is_gone_is_told_in_runs_that_go_on(void **state)
{
    (void)state;
    char path[512];
    struct far_scrub_cursor cursor = {0};
    uint64_t damaged = 0, runs = 0;
    make_point(1, 1, 0, 1001, 500);
    far_vault_close(vault);
    for (unsigned pack = 0; pack < 200; pack++) { /* the newest has the tree */
        snprintf(path, sizeof path, "%s/packs/%08u.pack", dir, pack + 2);
        bool has_newer = access(path, F_OK) == 0;
        snprintf(path, sizeof path, "%s/packs/%08u.pack", dir, pack);
        assert_true(!has_newer || access(path, F_OK) != 0 || unlink(path) == 0);
    }
    open_vault();
    do {
        scrub(&cursor, 0);
        damaged += result.blocks_damaged;
        assert_true(result.damage_count <= FAR_SCRUB_DAMAGES_MAX && ++runs < 5);
    } while (!result.rotation_ended);
    assert_int_equal(runs, 2);
    assert_in_range(damaged, 400, 500);
}

static void a_damaged_manifest_is_named(void **state)
{
    (void)state;
    char path[512];
    struct far_scrub_cursor cursor = {0};
    make_points();
    snprintf(path, sizeof path, "%s/points/3.manifest", dir);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "x", 1, 40), 1);
    close(fd);
    scrub(&cursor, 0);
    assert_int_equal(result.damage_count, 1);
    assert_int_equal(result.damages[0].point_id, 3);
    assert_string_equal(result.damages[0].disk, "");
    assert_int_equal(result.name_count, 0);
    assert_int_equal(result.bytes_read, 120 * FAR_BLOCK_BYTES); /* what point 3 brought is read with point 5 */
}

static void a_damaged_page_is_told_with_all_blocks_below_it(void **state)
{
    (void)state;
    struct far_scrub_cursor cursor = {0};
    struct far_hash256 leaves[2] = {kit_id(1000), kit_id(1001)};
    make_points();
    flip_bytes(leaves, sizeof leaves, 5); /* the first page of point 1 */
    scrub(&cursor, 0);
    assert_int_equal(result.damage_count, 1);
    assert_int_equal(result.damages[0].point_id, 1);
    assert_int_equal(result.damages[0].block_count, 256);
    assert_int_equal(result.blocks_damaged, 256);
    assert_int_equal(result.damages[0].needed_by, 1); /* each other point has a page of its own there */
    assert_true(is_named(1, 0));
}

static void points_in_a_locked_domain_are_left_out_and_counted(void **state)
{
    (void)state;
    struct far_scrub_cursor cursor = {0};
    struct far_domain_keys keys = {.generation = 1, .uuid = {1}, .name = "gold", .secret = {2}, .key = {3}};
    make_points();
    must(far_vault_domain_open(vault, &keys, &domain, &err));
    make_point(7, 3, 0, 7000, 6);
    make_point(8, 3, 0, 8000, 2);
    scrub(&cursor, 0);
    assert_int_equal(result.points_skipped, 0);
    assert_int_equal(result.bytes_read, 128 * FAR_BLOCK_BYTES);
    far_vault_close(vault);
    open_vault(); /* nobody brought the key */
    scrub(&cursor, 0);
    assert_true(result.rotation_ended);
    assert_int_equal(result.points_skipped, 2);
    assert_int_equal(result.damage_count, 0);
    assert_int_equal(result.bytes_read, 120 * FAR_BLOCK_BYTES);
    must(far_vault_domain_open(vault, &keys, &domain, &err));
    scrub(&cursor, 0);
    assert_int_equal(result.points_skipped, 0);
    must(far_vault_domain_destroy(vault, keys.uuid, &err));
    scrub(&cursor, 0);
    assert_int_equal(result.points_skipped, 2);
    assert_int_equal(result.damage_count, 0);
}

static int stop(void *arg, uint64_t bytes_read, uint64_t bytes_max)
{
    (void)bytes_read;
    (void)bytes_max;
    return ++*(int *)arg == 2;
}

static void a_run_can_be_canceled(void **state)
{
    (void)state;
    struct far_scrub_order order = {.bytes_max = UINT64_MAX};
    int calls = 0;
    make_points();
    assert_int_equal(far_vault_scrub(vault, &order, stop, &calls, &result, &err), FAR_CANCELED);
    assert_int_equal(calls, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_rotation_reads_every_stored_block_of_every_disk_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_run_keeps_to_its_budget_and_the_next_one_goes_on_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flipped_bit_is_found_and_every_point_named_that_needs_the_block, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_disk_of_which_all_is_gone_is_told_in_runs_that_go_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_manifest_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_page_is_told_with_all_blocks_below_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(points_in_a_locked_domain_are_left_out_and_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_run_can_be_canceled, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
