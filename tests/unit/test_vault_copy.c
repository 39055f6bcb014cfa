/* Copies of points in a second vault, and repair from it: several disks, encrypted domains, beside replicas of a cluster, canceled. */
#define _GNU_SOURCE
#include "../lib/cm.h"
#include "../lib/vault_kit.h"

#include "dataplane/reclaim.h"
#include "dataplane/vault_copy.h"
#include "dataplane/vault_heal.h"
#include "net/seal.h"

#include <fcntl.h>

enum { DISK_BLOCKS = 700, SIZE = DISK_BLOCKS * FAR_BLOCK_BYTES - 5, FEW = 20 };

static char here[300], there[300];
static struct far_vault *source, *target;
static struct far_error err;
static uint8_t block[FAR_BLOCK_BYTES], expected[FAR_BLOCK_BYTES];
static struct far_manifest manifest;
static uint8_t recovery_public[32], recovery_private[32];
static uint64_t reclaim_pass;

static struct far_vault *opened(const char *dir)
{
    struct far_vault_options options = {.create = true, .pack_bytes_max = 1 << 20, .cache_bytes_max = 1 << 20};
    struct far_vault *vault = NULL;
    int rc = far_vault_open(dir, &options, &vault, &err);
    assert_string_equal(rc == 0 ? "" : err.message, "");
    return vault;
}

static int set_up(void **state)
{
    (void)state;
    snprintf(here, sizeof here, "%s", kit_folder());
    snprintf(there, sizeof there, "%s", kit_folder());
    assert_int_equal(far_seal_keypair(recovery_public, recovery_private, &err), 0);
    source = opened(here);
    target = opened(there);
    reclaim_pass = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    far_vault_close(source);
    far_vault_close(target);
    kit_remove(here);
    kit_remove(there);
    return 0;
}

static const struct far_domain *gold(struct far_vault *vault, uint32_t generation)
{
    struct far_domain_keys keys = {.generation = generation, .has_recovery_key = true, .name = "gold"};
    const struct far_domain *domain = NULL;
    memset(keys.uuid, 'g', 16);
    memset(keys.secret, 's', 32);
    memset(keys.key, (int)generation, 32);
    memcpy(keys.recovery_public, recovery_public, 32);
    int rc = far_vault_domain_open(vault, &keys, &domain, &err);
    assert_string_equal(rc == 0 ? "" : err.message, "");
    return domain;
}

/* Blocks from..to of the disk become number, number + 1, …; its root. */
static struct far_hash256 write_disk(struct far_vault *vault, const struct far_domain *domain, uint64_t disk_id, uint64_t job,
                                     uint64_t from, uint64_t to, uint64_t number)
{
    struct far_fence fence = {.incarnation_epoch = 1, .job = job};
    struct far_replica *replica;
    struct far_hash256 root;
    assert_int_equal(far_replica_open(vault, domain, disk_id, SIZE, &fence, &replica, &err), 0);
    for (uint64_t i = from; i < to; i++) {
        assert_int_equal(kit_write(vault, replica, i, number + i - from, &err), 0);
    }
    assert_int_equal(far_replica_checkpoint(replica, DISK_BLOCKS, "", &err), 0);
    assert_int_equal(far_replica_root(replica, &root, &err), 0);
    far_replica_close(replica);
    return root;
}

static void seal_disks(uint64_t point_id, const struct far_domain *domain, struct far_hash256 first, struct far_hash256 second)
{
    kit_manifest(point_id, 11, SIZE, &first, &manifest);
    manifest.disks[1] = manifest.disks[0];
    manifest.disks[1].disk_id = 12;
    manifest.disks[1].disk_index = 1;
    manifest.disks[1].root = second;
    strcpy(manifest.disks[1].name, "data");
    manifest.disk_count = 2;
    far_domain_uuid(domain, manifest.domain_uuid);
    assert_int_equal(far_vault_seal(source, &manifest, &err), 0);
}

/* Point 1: blocks 100… of the first disk, 600… of the second; point 2: two blocks of the first are others, one of the second. */
static void make_points(const struct far_domain *domain)
{
    struct far_hash256 first = write_disk(source, domain, 11, 1, 100, 100 + FEW, 1000);
    struct far_hash256 second = write_disk(source, domain, 12, 1, 600, 600 + FEW, 2000);
    seal_disks(1, domain, first, second);
    first = write_disk(source, domain, 11, 2, 105, 107, 3000);
    second = write_disk(source, domain, 12, 2, 0, 1, 4000);
    seal_disks(2, domain, first, second);
}

static void check_block(struct far_vault *vault, uint64_t point_id, const char *disk, uint64_t index, uint64_t number)
{
    struct far_point *point = NULL;
    int rc = far_point_open_disk(vault, point_id, disk, &point, &err);
    assert_string_equal(rc == 0 ? "" : err.message, "");
    assert_int_equal(far_point_read(point, index, true, block, NULL, &err), 0);
    kit_block(number, expected);
    assert_memory_equal(block, expected, sizeof block);
    far_point_close(point);
}

static void check_points(struct far_vault *vault)
{
    struct far_verify_result result;
    for (uint64_t id = 1; id <= 2; id++) {
        for (uint32_t i = 0; i < 2; i++) {
            struct far_point *point = NULL;
            assert_int_equal(far_point_open_disk(vault, id, i == 0 ? "root" : "data", &point, &err), 0);
            assert_int_equal(far_point_verify(point, NULL, NULL, NULL, &result, &err), 0);
            far_point_close(point);
        }
    }
    check_block(vault, 1, "root", 105, 1005);
    check_block(vault, 2, "root", 105, 3000);
    check_block(vault, 1, "data", 0, 0);
    check_block(vault, 2, "data", 0, 4000);
    check_block(vault, 2, "data", 619, 2019);
}

static struct far_copy_result copy_point(uint64_t id)
{
    struct far_copy_options options = {0};
    struct far_copy_result result;
    int rc = far_vault_copy(source, target, id, &options, &result, &err);
    assert_string_equal(rc == 0 ? "" : err.message, "");
    return result;
}

static void each_disk_of_a_point_costs_what_changed_and_the_manifest_stays(void **state)
{
    (void)state;
    struct far_manifest *copied = malloc(sizeof *copied);
    assert_non_null(copied);
    make_points(NULL);
    assert_int_equal(copy_point(1).blocks_copied, 2 * FEW);
    struct far_copy_result second = copy_point(2);
    assert_int_equal(second.blocks_changed, 3);
    assert_int_equal(second.blocks_copied, 3);
    assert_true(copy_point(2).was_there);
    check_points(target);
    assert_int_equal(far_vault_point(target, 2, copied, &err), 0);
    assert_int_equal(far_vault_point(source, 2, &manifest, &err), 0);
    assert_true(far_manifest_same(copied, &manifest));
    assert_memory_not_equal(copied->vault_uuid, manifest.vault_uuid, 16);
    assert_memory_not_equal(copied->public_key, manifest.public_key, 32);
    free(copied);
}

static void reclaim(struct far_vault *vault)
{
    struct far_reclaim_result result;
    for (int i = 0; i < 3; i++) {
        reclaim_pass++;
        struct far_reclaim_order order = {.pass = reclaim_pass, .delete_before = reclaim_pass};
        assert_int_equal(far_vault_reclaim(vault, &order, NULL, NULL, &result, &err), 0);
        assert_string_equal(result.problem, "");
    }
}

static int stop_at(void *arg, const char *disk, uint64_t done, uint64_t blocks)
{
    (void)disk;
    (void)done;
    (void)blocks;
    return --*(int *)arg == 0;
}

static void a_canceled_copy_goes_on_where_it_was_also_after_reclaim(void **state)
{
    (void)state;
    int calls = 1;
    struct far_copy_options options = {.checkpoint_blocks = 1, .progress = stop_at, .arg = &calls};
    struct far_copy_result result;
    struct far_hash256 first = write_disk(source, NULL, 11, 1, 100, 180, 1000);
    seal_disks(1, NULL, first, write_disk(source, NULL, 12, 1, 0, 1, 5000));
    assert_int_equal(far_vault_copy(source, target, 1, &options, &result, &err), FAR_CANCELED);
    uint64_t before = result.blocks_copied;
    assert_in_range(before, 1, 79);
    assert_int_equal(far_vault_point(target, 1, &manifest, &err), FAR_NOT_FOUND);
    reclaim(target); /* what came so far is held by the replica */
    result = copy_point(1);
    assert_int_equal(result.blocks_copied, 81 - before);
    assert_int_equal(result.blocks_changed, 81 - before);
    reclaim(target);
    check_block(target, 1, "root", 179, 1079);
}

/* A smaller disk begins its replica anew, before anything of it is there. */
static void a_copy_of_a_smaller_disk_that_was_killed_keeps_none_away(void **state)
{
    (void)state;
    struct far_replica_state there_now;
    struct far_replica *replica;
    make_points(NULL);
    copy_point(1);
    uint64_t id = far_copy_replica_id(manifest.cluster_uuid, 11);
    assert_int_equal(far_vault_replica_state(target, id, &there_now, &err), 0);
    struct far_fence fence = {.job = there_now.fence.job + 1};
    assert_int_equal(far_replica_open(target, NULL, id, SIZE - FAR_BLOCK_BYTES, &fence, &replica, &err), 0);
    far_replica_close(replica);
    copy_point(2);
    check_points(target);
}

static void a_replica_that_the_cluster_has_there_is_left_alone(void **state)
{
    (void)state;
    struct far_replica_state before, after;
    make_points(NULL);
    write_disk(target, NULL, 11, 50, 3, 9, 7000);
    assert_int_equal(far_vault_replica_state(target, 11, &before, &err), 0);
    copy_point(1);
    copy_point(2);
    assert_int_equal(far_vault_replica_state(target, 11, &after, &err), 0);
    assert_memory_equal(&before, &after, sizeof before);
    reclaim(target);
    check_points(target);
}

static void an_encrypted_domain_is_made_in_the_target_and_follows_orders_there(void **state)
{
    (void)state;
    make_points(gold(source, 3));
    copy_point(1);
    copy_point(2);
    check_points(target);
    far_vault_close(target);
    target = opened(there);
    struct far_point *point;
    assert_int_equal(far_point_open_disk(target, 1, "root", &point, &err), FAR_DENIED);
    assert_int_equal(far_vault_domains_recover(target, recovery_private, &err), 0);
    check_points(target);
    far_vault_close(target);
    target = opened(there);
    gold(target, 4); /* the next order has its own key */
    check_points(target);
    far_vault_close(target);
    target = opened(there);
    struct far_domain_keys wrong = {.generation = 4, .name = "gold"};
    const struct far_domain *domain;
    memset(wrong.uuid, 'g', 16);
    memset(wrong.secret, 's', 32);
    assert_int_equal(far_vault_domain_open(target, &wrong, &domain, &err), FAR_DENIED);
}

static void a_domain_that_is_locked_on_one_side_refuses(void **state)
{
    (void)state;
    struct far_copy_options options = {0};
    struct far_copy_result result;
    make_points(gold(source, 1));
    gold(target, 1);
    far_vault_close(target);
    target = opened(there);
    assert_int_equal(far_vault_copy(source, target, 1, &options, &result, &err), FAR_DENIED);
    assert_non_null(strstr(err.message, "'gold'"));
    far_vault_close(source);
    source = opened(here);
    gold(target, 1);
    assert_int_equal(far_vault_copy(source, target, 1, &options, &result, &err), FAR_DENIED);
    assert_int_equal(far_vault_point(target, 1, &manifest, &err), FAR_NOT_FOUND);
}

/* ---- repair ---- */

/* Where in the packs of a vault the n-th record of this type is, and a bit of it is flipped. */
static void flip_record(const char *dir, unsigned type, int n)
{
    for (unsigned pack = 1;; pack++) {
        char path[400];
        uint8_t head[64], byte;
        snprintf(path, sizeof path, "%s/packs/%08u.pack", dir, pack);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        for (off_t at = 64; pread(fd, head, sizeof head, at) == (ssize_t)sizeof head; at += 64 + far_get_le32(head + 8)) {
            if (head[4] == type && n-- == 0) {
                off_t place = at + 64 + far_get_le32(head + 8) / 2;
                assert_int_equal(pread(fd, &byte, 1, place), 1);
                byte ^= 1;
                assert_int_equal(pwrite(fd, &byte, 1, place), 1);
                close(fd);
                return;
            }
        }
        close(fd);
    }
}

static struct far_heal_result heal_all(void)
{
    struct far_heal_options options = {0};
    struct far_heal_result result = {0};
    for (uint64_t id = 1; id <= 2; id++) {
        assert_int_equal(far_vault_point(source, id, &manifest, &err), 0);
        for (uint32_t i = 0; i < 2; i++) {
            int rc = far_vault_heal(source, target, &manifest, i, NULL, &options, &result, &err);
            assert_string_equal(rc == 0 ? "" : err.message, "");
        }
    }
    assert_int_equal(far_vault_sync(source, &err), 0);
    return result;
}

static void an_encrypted_vault_is_repaired_and_stays_so(void **state)
{
    (void)state;
    make_points(gold(source, 1));
    copy_point(1);
    copy_point(2);
    far_vault_close(source);
    flip_record(here, 1, 3);
    flip_record(here, 2, 0);
    flip_record(here, 3, 0);
    source = opened(here);
    gold(source, 1);
    struct far_heal_result result = heal_all();
    assert_in_range(result.damaged, 2, 3);
    assert_int_equal(result.healed, result.damaged);
    far_vault_close(source);
    source = opened(here);
    gold(source, 1);
    check_points(source);
    assert_int_equal(heal_all().damaged, 0);
}

static void what_cannot_be_helped_is_counted_and_changes_nothing(void **state)
{
    (void)state;
    make_points(gold(source, 1));
    far_vault_close(source);
    flip_record(here, 1, 3);
    source = opened(here);
    gold(source, 1);
    struct far_heal_result result = heal_all(); /* the other vault has no such domain */
    assert_int_equal(result.damaged, 2);        /* of both points */
    assert_int_equal(result.healed, 0);
    check_block(source, 2, "data", 0, 4000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(each_disk_of_a_point_costs_what_changed_and_the_manifest_stays),
        TEST(a_canceled_copy_goes_on_where_it_was_also_after_reclaim),
        TEST(a_copy_of_a_smaller_disk_that_was_killed_keeps_none_away),
        TEST(a_replica_that_the_cluster_has_there_is_left_alone),
        TEST(an_encrypted_domain_is_made_in_the_target_and_follows_orders_there),
        TEST(a_domain_that_is_locked_on_one_side_refuses),
        TEST(an_encrypted_vault_is_repaired_and_stays_so),
        TEST(what_cannot_be_helped_is_counted_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
