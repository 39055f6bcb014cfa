/* The fault adapter: each failure strikes where and how it was asked for, and nowhere else. */
#include "../lib/cm.h"

#include "adapters/adapters.h"
#include "base/error.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KIB = 1024, SIZE = 16 << 20, CHANGES = 200, STEP = 65536 };

static char dir[200], image[260];
static struct far_adapter_error said;
static const struct far_adapter *const fault = &far_adapter_fault;
static void *platform, *handle;
static char ref[128];
static struct far_adapter_disk disk = {.name = "disk", .locator = image};

/* A disk with a list of 200 changes, 4 KiB in each 64 KiB. */
static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    char path[300];
    snprintf(dir, sizeof dir, "%s/fault-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
    snprintf(image, sizeof image, "%s/disk.img", dir);
    int fd = open(image, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(ftruncate(fd, SIZE), 0);
    close(fd);
    snprintf(path, sizeof path, "%s/disk.changes", dir);
    FILE *list = fopen(path, "w");
    fprintf(list, "farshore-changes 1 a b\n");
    for (size_t i = 0; i < CHANGES; i++) {
        fprintf(list, "%zu 4096\n", i * STEP + 8192);
    }
    fclose(list);
    platform = handle = NULL;
    return 0;
}

static void with(const char *settings)
{
    char config[600];
    struct far_adapter_found found;
    bool fuzzy;
    fault->bytes->close(handle);
    handle = NULL;
    if (platform != NULL) {
        fault->close(platform);
    }
    snprintf(config, sizeof config, "inner=file\nchanges=%s\n%s", dir, settings);
    int outcome = fault->open(config, &platform, &said);
    if (outcome != FAR_ADAPTER_OK) {
        print_error("%s: %s\n", settings, said.message);
    }
    assert_int_equal(outcome, FAR_ADAPTER_OK);
    assert_int_equal(fault->changes->freeze(platform, "1-1-1", &disk, 1, &found, ref, &fuzzy, &said), FAR_ADAPTER_OK);
    assert_string_equal(found.token, "b"); /* the folder went on to `file` */
    assert_int_equal(fault->bytes->open_frozen(platform, ref, &disk, &handle, &said), FAR_ADAPTER_OK);
}

static int teardown(void **state)
{
    char command[300];
    fault->bytes->close(handle);
    fault->close(platform);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static int page(uint64_t offset, struct far_adapter_extent *extents, size_t max, size_t *ret_count, uint64_t *ret_next)
{
    return fault->changes->changed(platform, ref, &disk, "a", offset, extents, max, ret_count, ret_next, &said);
}

/* Walks all pages; returns a bit for each change that was named, and how many pages there were. */
static size_t walk(size_t max, bool named[CHANGES], size_t *ret_pages)
{
    struct far_adapter_extent extents[64];
    size_t count, sum = 0;
    *ret_pages = 0;
    memset(named, 0, CHANGES * sizeof named[0]);
    for (uint64_t at = 0, next; at < SIZE; at = next, ++*ret_pages) {
        assert_int_equal(page(at, extents, max, &count, &next), FAR_ADAPTER_OK);
        assert_true(next > at && count <= max);
        for (size_t i = 0; i < count; i++, sum++) {
            named[extents[i].offset / STEP] = true;
        }
    }
    return sum;
}

static void a_share_of_the_changes_is_dropped_the_same_one_each_time(void **state)
{
    bool all[CHANGES], some[CHANGES], same[CHANGES], other[CHANGES];
    size_t pages;
    with("");
    assert_int_equal(walk(64, all, &pages), CHANGES);
    with("dc=100000\nsd=7\n");
    size_t kept = walk(64, some, &pages);
    assert_in_range(kept, CHANGES * 8 / 10, CHANGES - 1);
    assert_int_equal(walk(3, same, &pages), kept);
    assert_memory_equal(some, same, sizeof some);
    with("drop_changed_ppm=100000\nseed=8\n");
    walk(64, other, &pages);
    assert_memory_not_equal(some, other, sizeof some);
    with("dc=1000000\n");
    assert_int_equal(walk(64, all, &pages), 0);
}

static void pages_are_cut_empty_or_repeated(void **state)
{
    struct far_adapter_extent extents[64];
    bool all[CHANGES];
    size_t pages, count;
    uint64_t next, later;
    with("pe=3\n");
    assert_int_equal(walk(64, all, &pages), CHANGES);
    assert_int_equal(pages, (CHANGES + 2) / 3);
    with("ep=1\n");
    assert_int_equal(page(0, extents, 4, &count, &next), FAR_ADAPTER_OK);
    assert_int_equal(count, 0);
    assert_int_equal(next, 8192);
    assert_int_equal(walk(64, all, &pages), CHANGES);
    with("rp=1\n");
    assert_int_equal(page(0, extents, 4, &count, &next), FAR_ADAPTER_OK);
    assert_int_equal(page(next, extents, 4, &count, &later), FAR_ADAPTER_OK);
    assert_true(extents[0].offset < next && extents[0].offset + extents[0].length == next);
    assert_int_equal(count, 4);
}

static void lists_end_early_stand_still_fail_or_are_gone(void **state)
{
    struct far_adapter_extent extents[4];
    size_t count;
    uint64_t next;
    with("ec=1\n");
    assert_int_equal(page(0, extents, 4, &count, &next), FAR_ADAPTER_OK);
    assert_true(next >= SIZE);
    with("sk=2\n");
    assert_int_equal(page(0, extents, 4, &count, &next), FAR_ADAPTER_OK);
    uint64_t at = next;
    assert_int_equal(page(at, extents, 4, &count, &next), FAR_ADAPTER_OK);
    assert_true(count == 0 && next == at);
    with("fc=1\noc=3\n");
    assert_int_equal(page(0, extents, 4, &count, &next), FAR_ADAPTER_SLOW_DOWN);
    assert_int_equal(page(0, extents, 4, &count, &next), FAR_ADAPTER_OK);
    with("rc=2\n");
    assert_int_equal(page(0, extents, 4, &count, &next), FAR_ADAPTER_OK);
    assert_int_equal(page(0, extents, 4, &count, &next), FAR_ADAPTER_RESYNC);
    assert_int_equal(page(0, extents, 4, &count, &next), FAR_ADAPTER_RESYNC);
}

static void a_range_is_bad_for_reads_for_ever_or_so_often(void **state)
{
    uint8_t buffer[8192];
    with("ba=1024\nbk=4\n");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fault->bytes->read(handle, buffer, 4096, 1024 * KIB, &said), FAR_ADAPTER_RETRY);
    }
    assert_non_null(strstr(said.message, "read of bytes 1048576 to 1052671"));
    assert_int_equal(fault->bytes->read(handle, buffer, 2, 1024 * KIB - 1, &said), FAR_ADAPTER_RETRY);
    assert_int_equal(fault->bytes->read(handle, buffer, 4096, 1020 * KIB, &said), FAR_ADAPTER_OK);
    assert_int_equal(fault->bytes->read(handle, buffer, 4096, 1028 * KIB, &said), FAR_ADAPTER_OK);
    with("bad_at_kib=0\nbad_kib=1\nbad_times=2\n");
    assert_int_equal(fault->bytes->read(handle, buffer, 1, 0, &said), FAR_ADAPTER_RETRY);
    assert_int_equal(fault->bytes->read(handle, buffer, 1, 0, &said), FAR_ADAPTER_RETRY);
    assert_int_equal(fault->bytes->read(handle, buffer, 1, 0, &said), FAR_ADAPTER_OK);
}

static void a_range_is_bad_for_writes_and_keep_fails_once(void **state)
{
    char target[300];
    uint8_t buffer[4096] = {1};
    void *out;
    snprintf(target, sizeof target, "%s/target", dir);
    with("wa=64\nwk=4\nwt=1\nfk=1\n");
    assert_int_equal(fault->bytes->open_target(platform, "restore-1-1", target, SIZE, &out, &said), FAR_ADAPTER_OK);
    assert_int_equal(fault->bytes->write(out, buffer, sizeof buffer, 0, &said), FAR_ADAPTER_OK);
    assert_int_equal(fault->bytes->write(out, buffer, sizeof buffer, 64 * KIB, &said), FAR_ADAPTER_RETRY);
    assert_non_null(strstr(said.message, "write of bytes 65536 to 69631"));
    assert_int_equal(fault->bytes->write(out, buffer, sizeof buffer, 64 * KIB, &said), FAR_ADAPTER_OK);
    fault->bytes->close(out);
    assert_int_equal(fault->changes->keep(platform, ref, &disk, 1, &said), FAR_ADAPTER_RETRY);
    assert_int_equal(fault->changes->keep(platform, ref, &disk, 1, &said), FAR_ADAPTER_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_share_of_the_changes_is_dropped_the_same_one_each_time, setup, teardown),
        cmocka_unit_test_setup_teardown(pages_are_cut_empty_or_repeated, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_end_early_stand_still_fail_or_are_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_range_is_bad_for_reads_for_ever_or_so_often, setup, teardown),
        cmocka_unit_test_setup_teardown(a_range_is_bad_for_writes_and_keep_fails_once, setup, teardown),
    };
    return cmocka_run_group_tests_name("adapter_fault", tests, NULL, NULL);
}
