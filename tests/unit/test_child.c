/* Work in a child process: its errors come back, and its death is one. */
#include "base/child.h"
#include "../lib/cm.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static int value = 1;

static int change(void *arg, struct far_error *err)
{
    *(int *)arg = 2;
    return 0;
}

static int refuse(void *arg, struct far_error *err)
{
    return far_fail(err, FAR_CONFLICT, "refused: %d", *(int *)arg);
}

static int die(void *arg, struct far_error *err)
{
    raise(*(int *)arg);
    return 0;
}

static int leave(void *arg, struct far_error *err)
{
    _exit(*(int *)arg);
}

static void what_it_does_stays_there_and_its_error_comes_back(void **state)
{
    struct far_error err = {0};
    bool has_died = true;
    assert_int_equal(far_child_run(change, &value, &has_died, &err), 0);
    assert_int_equal(value, 1);
    assert_false(has_died);
    assert_int_equal(far_child_run(refuse, &value, NULL, &err), FAR_CONFLICT);
    assert_int_equal(err.klass, FAR_CONFLICT);
    assert_string_equal(err.message, "refused: 1");
    assert_int_equal(far_child_run(refuse, &value, NULL, NULL), FAR_CONFLICT);
}

static void its_death_is_damage(void **state)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGKILL};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct far_error err = {0};
        bool has_died = false;
        int signal_number = signals[i];
        assert_int_equal(far_child_run(die, &signal_number, &has_died, &err), FAR_CORRUPT);
        assert_true(has_died);
        assert_non_null(strstr(err.message, "signal"));
    }
    int status = 0;
    bool has_died = false;
    assert_int_equal(far_child_run(leave, &status, &has_died, NULL), FAR_CORRUPT); /* no word from it */
    assert_true(has_died);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_does_stays_there_and_its_error_comes_back),
        cmocka_unit_test(its_death_is_damage),
    };
    return cmocka_run_group_tests_name("child", tests, NULL, NULL);
}
