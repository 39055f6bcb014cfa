/* Transfers in keyed dedup domains: two engines over real TLS, with the secret of the domain, another one, or none. */
#define _GNU_SOURCE
#include "../lib/cm.h"
#include "../lib/engine_disk.h"

#include "dataplane/vault.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

static struct engine_pair pair;
static struct far_domain_keys keys;
static const struct far_engine_config small = {.memory_bytes = 32 * MIB, .worker_count = 2, .idle_ms = 5000};

static int setup(void **state)
{
    (void)state;
    keys = (struct far_domain_keys){.uuid = {1, 2, 3}, .name = "gold", .generation = 1};
    memset(keys.secret, 0x31, 32);
    memset(keys.key, 0x41, 32);
    pair_init(&pair, "keys", &small);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pair_done(&pair);
    return 0;
}

static void next_generation(void)
{
    keys.old_generation = keys.generation++;
    memcpy(keys.old_key, keys.key, 32);
    keys.key[0]++;
}

/* Which of the disk's 4 KiB pages that are neither zero nor alike lie in the packs as they are? */
static size_t pages_in_packs(const struct engine_disk *disk)
{
    char command[500], path[300], name[600];
    size_t found = 0;
    int fd = open(disk->path, O_RDONLY | O_CLOEXEC);
    static uint8_t page[4096];
    snprintf(command, sizeof command, "cat '%s'/packs/*.pack > '%s/all'", pair_path(&pair, "target/vault", path, sizeof path), pair.dir);
    assert_int_equal(system(command), 0);
    snprintf(name, sizeof name, "%s/all", pair.dir);
    int all = open(name, O_RDONLY | O_CLOEXEC);
    struct stat st;
    assert_true(fd >= 0 && all >= 0 && fstat(all, &st) == 0);
    uint8_t *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, all, 0);
    assert_true(bytes != MAP_FAILED);
    for (uint64_t at = 0; at + sizeof page <= disk->size_bytes; at += MIB / 2) {
        assert_int_equal(pread(fd, page, sizeof page, (off_t)at), sizeof page);
        bool zero = page[0] == 0 && memcmp(page, page + 1, sizeof page - 1) == 0;
        found += !zero && memmem(bytes, (size_t)st.st_size, page, sizeof page) != NULL;
    }
    munmap(bytes, (size_t)st.st_size);
    close(all);
    close(fd);
    return found;
}

static struct far_engine_report seal(struct engine_disk *disk, uint64_t point)
{
    struct far_engine_point_disk points[] = {{.disk_id = 22, .name = "disk", .size_bytes = disk->size_bytes}};
    memcpy(points[0].root, disk->receive.root, 32);
    struct far_engine_order order = disk_order(disk, FAR_ENGINE_SEAL, pair.job, TASK_SEAL, 1);
    order.point_id = point;
    order.checkpoint_id = point + 1;
    order.point_disks = points;
    order.point_disk_count = 1;
    disk_start(disk, &order);
    return pair_wait(&pair, pair.job, TASK_SEAL, 1);
}

static struct far_engine_report verify(struct engine_disk *disk, uint64_t job)
{
    struct far_engine_order order = disk_order(disk, FAR_ENGINE_VERIFY, job, TASK_VERIFY, 1);
    memcpy(order.root, disk->receive.root, 32);
    disk_start(disk, &order);
    return pair_wait(&pair, job, TASK_VERIFY, 1);
}

/* ---- tests ---- */

static void cycles_in_a_domain_are_as_good_as_plain_ones_and_encrypted(void **state)
{
    struct engine_disk disk;
    (void)state;
    disk_make(&disk, &pair, "disk", 40 * MIB + 12345, 7);
    disk.domain = &keys;
    assert_true(disk_cycle(&disk));
    assert_int_equal(disk.receive.domain_generation, 1);
    assert_int_equal(seal(&disk, 900).state, FAR_ENGINE_DONE);
    disk_accept(&disk);
    uint64_t changed = disk_change(&disk, 20);
    assert_true(disk_cycle(&disk));
    assert_int_equal(disk.receive.bytes_changed, changed);
    assert_true(disk.send.bytes_sent <= changed + changed / 10);
    assert_int_equal(verify(&disk, 504).blocks_damaged, 0);
    assert_true(disk_restore(&disk, "restored"));
    assert_int_equal(pages_in_packs(&disk), 0);
    struct far_manifest manifest;
    assert_int_equal(far_vault_point(far_engine_vault(pair.target), 900, &manifest, NULL), 0);
    assert_memory_equal(manifest.domain_uuid, keys.uuid, 16);
    disk.domain = NULL; /* the same plain: it is looked for, and found */
    disk.has_base = false;
    assert_true(disk_cycle(&disk));
    assert_true(pages_in_packs(&disk) > 0);
    assert_true(disk_restore(&disk, "plain"));
}

static void a_source_without_its_maps_is_told_them_in_a_domain_too(void **state)
{
    struct engine_disk disk;
    char command[400], path[300];
    (void)state;
    disk_make(&disk, &pair, "disk", 32 * MIB, 9);
    disk.domain = &keys;
    assert_true(disk_cycle(&disk));
    disk_accept(&disk);
    uint64_t changed = disk_change(&disk, 20);
    snprintf(command, sizeof command, "rm -f '%s'/*", pair_path(&pair, "source/cache", path, sizeof path));
    assert_int_equal(system(command), 0);
    assert_true(disk_cycle(&disk));
    assert_true(disk.send.bytes_sent <= changed + changed / 10);
}

static void a_plan_that_changes_its_domain_is_copied_anew(void **state)
{
    struct engine_disk disk;
    (void)state;
    disk_make(&disk, &pair, "disk", 16 * MIB, 10);
    assert_true(disk_cycle(&disk));
    disk_accept(&disk);
    disk.domain = &keys;
    disk_change(&disk, 3);
    assert_true(disk_cycle(&disk)); /* with the base of before: the target has it not in this domain */
    assert_true(disk.send.bytes_sent > 4 * MIB);
    assert_true(disk_restore(&disk, "restored"));
}

static void a_new_key_reaches_the_vault_with_the_next_order(void **state)
{
    struct engine_disk disk;
    (void)state;
    disk_make(&disk, &pair, "disk", 8 * MIB, 11);
    disk.domain = &keys;
    assert_true(disk_cycle(&disk));
    for (uint64_t round = 2; round < 5; round++) {
        disk_accept(&disk);
        next_generation();
        disk_change(&disk, 8);
        if (round == 3) {
            pair_stop_target(&pair);
            pair_start_target(&pair);
        }
        assert_true(disk_cycle(&disk));
        assert_int_equal(disk.receive.domain_generation, round);
        assert_int_equal(verify(&disk, 500 + round).blocks_damaged, 0);
    }
    assert_true(disk_restore(&disk, "restored"));
}

/* What the target of a transfer that was refused has told: that it was. */
static void expect_refused(struct engine_disk *disk, struct far_engine_order *send, const char *why)
{
    struct far_engine_order receive = disk_order(disk, FAR_ENGINE_RECEIVE, send->job_id, TASK_RECEIVE, 1);
    disk_start(disk, &receive);
    disk_start(disk, send);
    struct far_engine_report report = pair_wait(&pair, send->job_id, TASK_SEND, 1);
    assert_int_equal(report.state, FAR_ENGINE_FAILED);
    assert_int_equal(report.error_class, FAR_DENIED);
    assert_non_null(strstr(report.error_message, why));
    assert_int_equal(report.bytes_sent, 0);
    far_engine_cancel(pair.target, send->job_id, TASK_RECEIVE, 1);
}

static void a_source_without_the_secret_gets_nothing(void **state)
{
    struct engine_disk disk;
    (void)state;
    disk_make(&disk, &pair, "disk", 8 * MIB, 12);
    disk.domain = &keys;
    assert_true(disk_cycle(&disk));
    disk_accept(&disk);
    for (int way = 0; way < 3; way++) {
        struct far_engine_order send = disk_order(&disk, FAR_ENGINE_SEND, 2000 + (uint64_t)way, TASK_SEND, 1);
        struct engine_disk expected = disk;
        if (way == 0) {
            send.has_domain = false; /* it speaks of plain hashes */
        } else if (way == 1) {
            send.domain.secret[0] ^= 1;
        } else {
            expected.domain = NULL; /* and the other way round */
        }
        expect_refused(&expected, &send, way == 1 ? "has not the secret of domain 'gold'" : "dedup domain");
    }
}

static void a_target_with_the_wrong_key_says_so(void **state)
{
    struct engine_disk disk;
    (void)state;
    disk_make(&disk, &pair, "disk", 8 * MIB, 13);
    disk.domain = &keys;
    assert_true(disk_cycle(&disk));
    pair_stop_target(&pair);
    pair_start_target(&pair);
    keys.key[7] ^= 1;
    struct far_engine_report report = verify(&disk, 504);
    assert_int_equal(report.state, FAR_ENGINE_FAILED);
    assert_int_equal(report.error_class, FAR_DENIED);
    assert_non_null(strstr(report.error_message, "gold"));
    keys.key[7] ^= 1;
    assert_int_equal(verify(&disk, 505).blocks_damaged, 0);
    struct far_engine_order order = disk_order(&disk, FAR_ENGINE_VERIFY, 506, TASK_VERIFY, 1);
    struct far_error err;
    order.domain.generation = 0;
    assert_int_equal(far_engine_start(pair.target, &order, &err), FAR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(cycles_in_a_domain_are_as_good_as_plain_ones_and_encrypted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_source_without_its_maps_is_told_them_in_a_domain_too, setup, teardown),
        cmocka_unit_test_setup_teardown(a_plan_that_changes_its_domain_is_copied_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_key_reaches_the_vault_with_the_next_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_source_without_the_secret_gets_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_target_with_the_wrong_key_says_so, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
