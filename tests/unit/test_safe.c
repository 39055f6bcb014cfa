/* Safe mode's file: three deaths in one entry hold the log, everything else begins to count anew. */
#include "log/safe.h"

#include "../lib/cm.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64], path[96];
static struct far_error err;

static int setup(void **unused)
{
    snprintf(dir, sizeof dir, "/tmp/far-safe-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/safe", dir);
    return 0;
}

static int teardown(void **unused)
{
    unlink(path);
    rmdir(dir);
    return 0;
}

/* A process opens the file, begins these entries and dies in the last one (0: it ends between two); the hold that it saw. */
static int life(const char *version, uint64_t first, uint64_t dies_in)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct far_safe *safe;
        if (far_safe_open(dir, version, &safe, &err) != 0) {
            _exit(99);
        }
        int hold = (int)far_safe_hold(safe);
        for (uint64_t index = first; hold == 0 && index <= dies_in; index++) {
            far_safe_begin(safe, index);
            if (index < dies_in) {
                far_safe_end(safe);
            }
        }
        _exit(hold);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void three_deaths_in_one_entry_hold_the_log_before_it(void **unused)
{
    assert_int_equal(life("1", 3, 7), 0);
    assert_int_equal(life("1", 7, 7), 0);
    assert_int_equal(life("1", 7, 7), 0);
    assert_int_equal(life("1", 7, 7), 7);
    assert_int_equal(life("1", 7, 7), 7); /* and goes on holding it */
}

static void deaths_in_other_entries_or_between_them_begin_anew(void **unused)
{
    life("1", 7, 7);
    life("1", 7, 7);
    life("1", 8, 8);
    life("1", 7, 7);
    life("1", 7, 7);
    life("1", 7, 0);
    life("1", 7, 7);
    life("1", 7, 7);
    assert_int_equal(life("1", 7, 0), 0);
}

/* A process that dies while it commits entries up to this one; whether it was to be careful. */
static bool death_in_a_commit(uint64_t index)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct far_safe *safe;
        if (far_safe_open(dir, "1", &safe, &err) != 0) {
            _exit(99);
        }
        far_safe_committing(safe, index);
        _exit(far_safe_careful_until(safe) != 0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    return WEXITSTATUS(status) == 1;
}

static uint64_t careful_until(void)
{
    struct far_safe *safe;
    assert_int_equal(far_safe_open(dir, "1", &safe, &err), 0);
    uint64_t index = far_safe_careful_until(safe);
    far_safe_close(safe);
    return index;
}

static void after_two_deaths_in_commits_the_third_finds_the_entry(void **unused)
{
    assert_false(death_in_a_commit(20));
    assert_false(death_in_a_commit(25));
    assert_int_equal(careful_until(), 25);
    assert_int_equal(life("1", 18, 22), 0); /* dies in entry 22, committing one by one */
    assert_int_equal(careful_until(), 25);
    assert_int_equal(life("1", 22, 22), 22);
}

static void a_commit_that_ends_well_begins_anew(void **unused)
{
    struct far_safe *safe;
    assert_false(death_in_a_commit(20));
    assert_int_equal(far_safe_open(dir, "1", &safe, &err), 0);
    far_safe_committing(safe, 21);
    far_safe_committed(safe, 21);
    far_safe_close(safe);
    assert_false(death_in_a_commit(25));
    assert_int_equal(far_safe_open(dir, "1", &safe, &err), 0);
    assert_int_equal(far_safe_careful_until(safe), 0);
    far_safe_committing(safe, 24); /* not yet what the last one died of */
    far_safe_committed(safe, 24);
    far_safe_close(safe);
    assert_int_equal(careful_until(), 25);
}

/* A file of the version before. */
static void a_shorter_file_keeps_what_it_says(void **unused)
{
    struct far_safe *safe;
    assert_int_equal(far_safe_open(dir, "1", &safe, &err), 0);
    assert_int_equal(far_safe_set_skip(safe, (struct far_safe_entry){7, 0xabcd}, &err), 0);
    far_safe_close(safe);
    assert_int_equal(truncate(path, 64), 0);
    assert_int_equal(far_safe_open(dir, "1", &safe, &err), 0);
    assert_int_equal(far_safe_skip(safe).index, 7);
    assert_int_equal(far_safe_careful_until(safe), 0);
    far_safe_close(safe);
}

static void a_new_version_tries_again(void **unused)
{
    life("1", 7, 7);
    life("1", 7, 7);
    life("1", 7, 7);
    assert_int_equal(life("1", 7, 7), 7);
    assert_int_equal(life("2", 7, 7), 0);
    life("2", 7, 7);
    life("2", 7, 7);
    assert_int_equal(life("2", 7, 7), 7);
}

static void what_is_to_be_skipped_is_kept_and_ends_the_hold(void **unused)
{
    struct far_safe *safe;
    for (int i = 0; i < 3; i++) {
        life("1", 7, 7);
    }
    assert_int_equal(far_safe_open(dir, "1", &safe, &err), 0);
    assert_int_equal(far_safe_hold(safe), 7);
    assert_int_equal(far_safe_set_skip(safe, (struct far_safe_entry){7, 0xabcd}, &err), 0);
    far_safe_close(safe);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(far_safe_open(dir, "1", &safe, &err), 0);
        assert_int_equal(far_safe_hold(safe), 0);
        assert_int_equal(far_safe_skip(safe).index, 7);
        assert_int_equal(far_safe_skip(safe).hash, 0xabcd);
        far_safe_close(safe);
    }
}

static void a_damaged_file_says_nothing(void **unused)
{
    struct far_safe *safe;
    for (int i = 0; i < 3; i++) {
        life("1", 7, 7);
    }
    for (off_t at = 0; at < 64; at += 7) {
        int fd = open(path, O_RDWR);
        uint8_t byte;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x40;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
        assert_int_equal(far_safe_open(dir, "1", &safe, &err), 0);
        far_safe_close(safe);
    }
    assert_int_equal(truncate(path, 13), 0);
    assert_int_equal(far_safe_open(dir, "1", &safe, &err), 0);
    assert_int_equal(far_safe_hold(safe), 0);
    assert_int_equal(far_safe_skip(safe).index, 0);
    far_safe_close(safe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(three_deaths_in_one_entry_hold_the_log_before_it, setup, teardown),
        cmocka_unit_test_setup_teardown(deaths_in_other_entries_or_between_them_begin_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(after_two_deaths_in_commits_the_third_finds_the_entry, setup, teardown),
        cmocka_unit_test_setup_teardown(a_commit_that_ends_well_begins_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(a_shorter_file_keeps_what_it_says, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_version_tries_again, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_to_be_skipped_is_kept_and_ends_the_hold, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_file_says_nothing, setup, teardown),
    };
    return cmocka_run_group_tests_name("safe", tests, NULL, NULL);
}
