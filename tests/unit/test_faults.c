/* The fault library itself: a fault strikes the call it was armed for, once or for good, and leaves the others alone. */
#include "../lib/cm.h"
#include "../lib/faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The compiler must not reason about what malloc gave. */
static void *volatile sink;

static void *get(size_t size)
{
    sink = malloc(size);
    return sink;
}

static void nth_allocation_fails_once(void **state)
{
    far_fault_arm(FAR_FAULT_ALLOC, 2, ENOMEM);
    void *first = get(10);
    assert_non_null(first);
    errno = 0;
    assert_null(get(10));
    assert_int_equal(errno, ENOMEM);
    void *third = get(10);
    assert_non_null(third);
    assert_int_equal(far_fault_count(), 3);
    assert_true(far_fault_disarm());
    free(first);
    free(third);
}

static void an_armed_fault_that_is_not_reached_says_so(void **state)
{
    far_fault_arm(FAR_FAULT_ALLOC, 5, ENOMEM);
    free(get(1));
    assert_false(far_fault_disarm());
}

static void from_the_nth_on_everything_fails(void **state)
{
    char path[] = "/tmp/far-faults-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    far_fault_arm_from(FAR_FAULT_WRITE, 2, ENOSPC);
    assert_int_equal(pwrite(fd, "abcd", 4, 0), 4);
    assert_int_equal(pwrite(fd, "abcd", 4, 4), -1);
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(write(fd, "abcd", 4), -1);
    assert_int_equal(fdatasync(fd), 0);
    assert_true(far_fault_disarm());
    assert_int_equal(pwrite(fd, "abcd", 4, 4), 4);
    close(fd);
    unlink(path);
}

static void a_short_write_stores_the_part_it_admits(void **state)
{
    char path[] = "/tmp/far-faults-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    far_fault_arm_short_write(1, 3);
    assert_int_equal(pwrite(fd, "abcdef", 6, 0), 3);
    assert_true(far_fault_disarm());
    char back[8] = {0};
    assert_int_equal(pread(fd, back, sizeof back, 0), 3);
    assert_string_equal(back, "abc");
    close(fd);
    unlink(path);
}

static void system_calls_fail_by_kind(void **state)
{
    far_fault_arm(FAR_FAULT_OPEN, 1, EMFILE);
    assert_int_equal(open("/dev/null", O_RDONLY), -1);
    assert_int_equal(errno, EMFILE);
    assert_true(far_fault_disarm());
    far_fault_arm(FAR_FAULT_SYNC, 1, EIO);
    assert_int_equal(fsync(0), -1);
    assert_int_equal(errno, EIO);
    assert_true(far_fault_disarm());
    far_fault_arm(FAR_FAULT_RENAME, 1, EACCES);
    assert_int_equal(rename("/nonexistent/a", "/nonexistent/b"), -1);
    assert_int_equal(errno, EACCES);
    assert_true(far_fault_disarm());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nth_allocation_fails_once),
        cmocka_unit_test(an_armed_fault_that_is_not_reached_says_so),
        cmocka_unit_test(from_the_nth_on_everything_fails),
        cmocka_unit_test(a_short_write_stores_the_part_it_admits),
        cmocka_unit_test(system_calls_fail_by_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
