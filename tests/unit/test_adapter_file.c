/* The file adapter and the fault adapter through the tables of farshore/adapter.h. */
#include "../lib/cm.h"
#include "../lib/faults.h"

#include "adapters/adapters.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE = 300000, BLOCK = 65536 };

static char dir[200], image[260], target[260];
static struct far_adapter_error said;
static const struct far_adapter *const file = &far_adapter_file;

static void write_image(size_t size)
{
    uint8_t *data = malloc(size);
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)(i * 7 + i / 1000);
    }
    int fd = open(image, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, data, size), (ssize_t)size);
    close(fd);
    free(data);
}

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/adapter-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
    snprintf(image, sizeof image, "%s/disk.img", dir);
    snprintf(target, sizeof target, "%s/target.img", dir);
    write_image(SIZE);
    memset(&said, 0, sizeof said);
    return 0;
}

static int teardown(void **state)
{
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static struct far_adapter_disk disk(void)
{
    return (struct far_adapter_disk){.name = "disk", .locator = image};
}

static void the_same_path_with_another_file_is_another_disk(void **state)
{
    struct far_adapter_found a, b;
    struct far_adapter_disk d = disk();
    assert_int_equal(file->inventory->probe(NULL, &d, &a, &said), FAR_ADAPTER_OK);
    assert_int_equal(a.size_bytes, SIZE);
    assert_int_equal(file->inventory->probe(NULL, &d, &b, &said), FAR_ADAPTER_OK);
    assert_string_equal(a.identity, b.identity);
    char kept[280];
    snprintf(kept, sizeof kept, "%s.old", image);
    assert_int_equal(rename(image, kept), 0);
    write_image(SIZE);
    assert_int_equal(file->inventory->probe(NULL, &d, &b, &said), FAR_ADAPTER_OK);
    assert_string_not_equal(a.identity, b.identity);
}

static void what_is_no_disk_is_refused_by_name(void **state)
{
    struct far_adapter_found found;
    struct far_adapter_disk d = {.name = "disk", .locator = dir};
    assert_int_equal(file->inventory->probe(NULL, &d, &found, &said), FAR_ADAPTER_FATAL);
    assert_int_equal(said.klass, FAR_INVALID);
    d.locator = "/nonexistent/disk";
    assert_int_equal(file->inventory->probe(NULL, &d, &found, &said), FAR_ADAPTER_FATAL);
    assert_int_equal(said.klass, FAR_NOT_FOUND);
    assert_non_null(strstr(said.message, "/nonexistent/disk"));
    assert_int_equal(mkfifo(target, 0600), 0); /* whoever opens it waits for a writer */
    d.locator = target;
    assert_int_equal(file->inventory->probe(NULL, &d, &found, &said), FAR_ADAPTER_FATAL);
    assert_int_equal(said.klass, FAR_INVALID);
    d.locator = image;
    assert_int_equal(truncate(image, 0), 0);
    assert_int_equal(file->inventory->probe(NULL, &d, &found, &said), FAR_ADAPTER_FATAL);
    assert_int_equal(said.klass, FAR_CONFLICT);
}

static void a_freeze_is_exact_or_says_that_it_is_fuzzy(void **state)
{
    struct far_adapter_found found;
    struct far_adapter_disk d = disk();
    char ref[128];
    bool fuzzy = false;
    void *handle;
    uint8_t before[100], after[100];
    assert_int_equal(file->changes->freeze(NULL, "7-1-1", &d, 1, &found, ref, &fuzzy, &said), FAR_ADAPTER_OK);
    assert_int_equal(found.size_bytes, SIZE);
    assert_int_equal(strncmp(ref, "clone:", 6) == 0, !fuzzy);
    assert_int_equal(file->bytes->open_frozen(NULL, ref, &d, &handle, &said), FAR_ADAPTER_OK);
    assert_int_equal(file->bytes->read(handle, before, 100, 5000, &said), FAR_ADAPTER_OK);
    int fd = open(image, O_WRONLY);
    assert_int_equal(pwrite(fd, "changed", 7, 5000), 7);
    close(fd);
    assert_int_equal(file->bytes->read(handle, after, 100, 5000, &said), FAR_ADAPTER_OK);
    assert_int_equal(memcmp(before, after, 100) != 0, fuzzy);
    assert_int_equal(file->bytes->read(handle, after, 100, SIZE - 50, &said), FAR_ADAPTER_FATAL);
    assert_int_equal(said.klass, FAR_CONFLICT);
    file->bytes->close(handle);
    assert_int_equal(file->changes->release(NULL, ref, &d, 1, &said), FAR_ADAPTER_OK);
    assert_int_equal(file->changes->release(NULL, ref, &d, 1, &said), FAR_ADAPTER_OK); /* again */
}

static void files_have_no_list_of_changes(void **state)
{
    struct far_adapter_disk d = disk();
    struct far_adapter_extent extents[4];
    size_t count;
    uint64_t next;
    assert_int_equal(file->changes->changed(NULL, "live:x", &d, "", 0, extents, 4, &count, &next, &said),
                     FAR_ADAPTER_RESYNC);
}

static void a_target_is_new_sparse_and_taken_up_by_its_own_recovery_only(void **state)
{
    void *handle;
    struct stat st;
    uint8_t *data = calloc(4, BLOCK), back[10];
    memset(data + BLOCK, 'x', BLOCK);
    assert_int_equal(file->bytes->open_target(NULL, "restore-1-1", target, 16 * BLOCK, &handle, &said), FAR_ADAPTER_OK);
    assert_int_equal(file->bytes->write(handle, data, 4 * BLOCK, 4 * BLOCK, &said), FAR_ADAPTER_OK);
    assert_int_equal(file->bytes->flush(handle, &said), FAR_ADAPTER_OK);
    assert_int_equal(file->bytes->read(handle, back, 10, 5 * BLOCK - 1, &said), FAR_ADAPTER_OK);
    assert_memory_equal(back, "\0xxxxxxxxx", 10);
    file->bytes->close(handle);
    assert_int_equal(stat(target, &st), 0);
    assert_int_equal(st.st_size, 16 * BLOCK);
    assert_true(st.st_blocks * 512 <= 2 * BLOCK);
    assert_int_equal(file->bytes->open_target(NULL, "restore-1-1", target, 16 * BLOCK, &handle, &said), FAR_ADAPTER_OK);
    file->bytes->close(handle);
    assert_int_equal(file->bytes->open_target(NULL, "restore-2-1", target, 16 * BLOCK, &handle, &said), FAR_ADAPTER_FATAL);
    assert_int_equal(said.klass, FAR_CONFLICT);
    assert_int_equal(file->bytes->open_target(NULL, "restore-1-1", target, 17 * BLOCK, &handle, &said), FAR_ADAPTER_FATAL);
    assert_int_equal(file->bytes->open_target(NULL, "restore-1-1", "relative", BLOCK, &handle, &said), FAR_ADAPTER_FATAL);
    assert_int_equal(said.klass, FAR_INVALID);
    assert_int_equal(file->bytes->open_target(NULL, "restore-1-1", image, SIZE, &handle, &said), FAR_ADAPTER_FATAL);
    assert_int_equal(said.klass, FAR_CONFLICT);
    free(data);
}

static void a_target_that_could_not_be_made_leaves_nothing(void **state)
{
    void *handle;
    for (uint64_t n = 1;; n++) {
        far_fault_arm(FAR_FAULT_TRUNCATE, n, ENOSPC);
        int outcome = file->bytes->open_target(NULL, "restore-1-1", target, BLOCK, &handle, &said);
        if (!far_fault_disarm()) {
            assert_int_equal(outcome, FAR_ADAPTER_OK);
            file->bytes->close(handle);
            break;
        }
        assert_int_equal(outcome, FAR_ADAPTER_RETRY);
        assert_int_equal(said.klass, FAR_LIMIT);
        assert_int_equal(access(target, F_OK), -1);
    }
    far_fault_arm(FAR_FAULT_ALLOC, 1, ENOMEM);
    assert_int_equal(file->bytes->open_target(NULL, "restore-1-1", target, BLOCK, &handle, &said), FAR_ADAPTER_RETRY);
    assert_true(far_fault_disarm());
}

static void a_target_whose_name_is_too_long_is_refused_at_once(void **state)
{
    void *handle;
    char path[600];
    snprintf(path, sizeof path, "%s/%0256d", dir, 0);
    assert_int_equal(file->bytes->open_target(NULL, "restore-1-1", path, BLOCK, &handle, &said), FAR_ADAPTER_FATAL);
    assert_int_equal(said.klass, FAR_INVALID);
}

static void faults_strike_when_and_how_they_are_told(void **state)
{
    void *platform, *handle;
    uint8_t a[16], b[16];
    struct far_adapter_disk d = disk();
    const struct far_adapter *fault = far_adapters_find("fault");
    assert_int_equal(fault->open("inner=file\nfail_read=2\nxr=2\noc=3\n", &platform, &said), FAR_ADAPTER_OK);
    assert_int_equal(fault->bytes->open_frozen(platform, "live:x", &d, &handle, &said), FAR_ADAPTER_OK);
    assert_int_equal(fault->bytes->read(handle, a, 16, 0, &said), FAR_ADAPTER_OK);
    assert_int_equal(fault->bytes->read(handle, b, 16, 0, &said), FAR_ADAPTER_SLOW_DOWN);
    assert_int_equal(fault->bytes->read(handle, b, 16, 0, &said), FAR_ADAPTER_OK);
    assert_memory_not_equal(a, b, 16); /* the second read that came through: one bit is wrong */
    assert_int_equal(fault->bytes->read(handle, b, 16, 0, &said), FAR_ADAPTER_OK);
    assert_memory_equal(a, b, 16);
    fault->bytes->close(handle);
    fault->close(platform);
    static const char *const wrong[] = {"", "rd=5\n", "inner=nosuch\n", "inner=fault\n", "inner=file\nrd=x\n",
                                        "inner=file\nnosuch=1\n", "inner=file\nrd\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(fault->open(wrong[i], &platform, &said), FAR_ADAPTER_FATAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_same_path_with_another_file_is_another_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_disk_is_refused_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(a_freeze_is_exact_or_says_that_it_is_fuzzy, setup, teardown),
        cmocka_unit_test_setup_teardown(files_have_no_list_of_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_target_is_new_sparse_and_taken_up_by_its_own_recovery_only, setup, teardown),
        cmocka_unit_test_setup_teardown(a_target_that_could_not_be_made_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_target_whose_name_is_too_long_is_refused_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(faults_strike_when_and_how_they_are_told, setup, teardown),
    };
    return cmocka_run_group_tests_name("adapter_file", tests, NULL, NULL);
}
