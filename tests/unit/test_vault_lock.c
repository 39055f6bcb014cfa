/* Locks of points, and the vault's own time: it never goes back, and goes forward only by what is explained. */
#define _GNU_SOURCE
#include "dataplane/vault_lock.h"

#include "base/clock.h"
#include "base/file.h"
#include "lib/remove_tree.h"

#include "lib/cm.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MINUTE 60000ull
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define START (1800000000000ull)

/* ---- the clock alone ---- */

static struct far_vault_clock clock_of;
static struct far_vault_now now;

static bool look(uint64_t wall_ms, uint64_t boot_ms, uint8_t boot)
{
    now.wall_ms = wall_ms;
    now.boot_ms = boot_ms;
    memset(now.boot_id, boot, sizeof now.boot_id);
    return far_vault_clock_look(&clock_of, &now);
}

static void begin(void)
{
    clock_of = (struct far_vault_clock){.time_ms = 0};
    assert_true(look(START, HOUR, 1));
    assert_int_equal(clock_of.time_ms, START);
}

static void time_goes_on_with_the_machine(void **unused)
{
    begin();
    assert_true(look(START + DAY, HOUR + DAY, 1));
    assert_int_equal(clock_of.time_ms, START + DAY);
    assert_int_equal(clock_of.unexplained_ms, 0);
}

static void a_clock_set_back_changes_nothing(void **unused)
{
    begin();
    assert_true(look(START - 300 * DAY, HOUR + 2 * DAY, 1));
    assert_int_equal(clock_of.time_ms, START);
    assert_true(look(START + 3 * DAY, HOUR + 3 * DAY, 1)); /* set right: all that passed is explained */
    assert_int_equal(clock_of.time_ms, START + 3 * DAY);
    assert_int_equal(clock_of.unexplained_ms, 0);
}

static void a_clock_that_jumps_is_not_believed(void **unused)
{
    begin();
    assert_false(look(START + 300 * DAY, HOUR + MINUTE, 1));
    assert_int_equal(clock_of.time_ms, START + MINUTE);
    assert_false(look(START + 301 * DAY, HOUR + MINUTE + DAY, 1)); /* it goes on as the machine runs */
    assert_int_equal(clock_of.time_ms, START + MINUTE + DAY);
    assert_true(look(START + 2 * DAY, HOUR + 2 * DAY, 1));
    assert_int_equal(clock_of.time_ms, START + 2 * DAY);
}

static void many_small_jumps_are_one_large(void **unused)
{
    uint64_t wall = START;
    begin();
    for (size_t i = 0; i < 1000; i++) {
        wall += 10 * MINUTE;
        look(wall, HOUR + i * 1000, 1);
    }
    assert_true(clock_of.time_ms <= START + HOUR + 1000 * 1000 + 1000 * 1000 / 64 + 1);
    for (uint8_t boot = 2; boot < 200; boot++) { /* nor does a boot each time help */
        wall += 30 * MINUTE;
        look(wall, 60000, boot);
    }
    assert_true(clock_of.time_ms <= START + HOUR + 1000 * 1000 + 200 * MINUTE + 5 * MINUTE);
}

static void a_machine_may_be_off_for_a_while(void **unused)
{
    begin();
    assert_true(look(START + 40 * MINUTE, 2 * MINUTE, 2));
    assert_int_equal(clock_of.time_ms, START + 40 * MINUTE);
    assert_int_equal(clock_of.unexplained_ms, 38 * MINUTE);
    assert_true(look(START + 64 * DAY, 2 * MINUTE + 64 * DAY - 40 * MINUTE, 2)); /* what runs well earns a 64th */
    assert_true(look(START + 65 * DAY, MINUTE, 3));
    assert_int_equal(clock_of.time_ms, START + 65 * DAY);
    assert_false(look(START + 75 * DAY, MINUTE, 4)); /* ten days off: somebody has to say so */
    far_vault_clock_confirm(&clock_of, &now);
    assert_int_equal(clock_of.time_ms, START + 75 * DAY);
    assert_int_equal(clock_of.unexplained_ms, 0);
    now.wall_ms = START;
    far_vault_clock_confirm(&clock_of, &now);
    assert_int_equal(clock_of.time_ms, START + 75 * DAY);
}

/* ---- in a vault ---- */

static char dir[256];
static struct far_vault *vault;
static struct far_error err;

static int setup(void **unused)
{
    struct far_vault_options options = {.create = true};
    return far_test_make_folder("lock", dir, sizeof dir) != 0 || far_vault_open(dir, &options, &vault, &err) != 0;
}

static int teardown(void **unused)
{
    far_vault_close(vault);
    far_test_remove_tree(dir);
    return 0;
}

static void a_lock_holds_and_is_only_lengthened(void **unused)
{
    uint64_t until, wall = far_clock_wall_ms();
    assert_int_equal(far_vault_lock_until(vault, 7, &until, &err), 0);
    assert_int_equal(until, 0);
    assert_int_equal(far_vault_lock(vault, 7, wall + DAY, &err), 0);
    assert_int_equal(far_vault_lock(vault, 7, wall + HOUR, &err), 0);
    assert_int_equal(far_vault_lock_until(vault, 7, &until, &err), 0);
    assert_int_equal(until, wall + DAY);
    assert_int_equal(far_vault_forget(vault, 7, &err), FAR_DENIED);
    assert_non_null(strstr(err.message, "locked until"));
    assert_int_equal(far_vault_forget(vault, 8, &err), 0);
    assert_int_equal(far_vault_lock(vault, 9, wall - 1, &err), 0); /* over already */
    assert_int_equal(far_vault_forget(vault, 9, &err), 0);
    assert_int_equal(far_vault_lock_until(vault, 9, &until, &err), 0);
    assert_int_equal(until, 0);
}

static void flip(const char *name, size_t at)
{
    char path[320];
    uint8_t byte;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_int_equal(fread(&byte, 1, 1, file), 1);
    byte ^= 0x10;
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(&byte, 1, 1, file), 1);
    assert_int_equal(fclose(file), 0);
}

static void what_is_damaged_holds_until_it_is_mended(void **unused)
{
    uint64_t until, wall = far_clock_wall_ms();
    struct far_vault_time time;
    for (size_t at = 0; at < 48; at++) {
        assert_int_equal(far_vault_lock(vault, 7, wall + DAY, &err), 0);
        flip("points/7.lock", at);
        assert_int_equal(far_vault_forget(vault, 7, &err), FAR_CORRUPT);
    }
    assert_int_equal(far_vault_lock(vault, 7, wall + DAY, &err), 0);
    assert_int_equal(far_vault_lock_until(vault, 7, &until, &err), 0);
    for (size_t at = 0; at < 80; at++) {
        flip("clock", at);
        assert_int_equal(far_vault_forget(vault, 7, &err), FAR_CORRUPT);
        assert_int_equal(far_vault_time_confirm(dir, &time, &err), 0);
        assert_int_equal(far_vault_forget(vault, 7, &err), FAR_DENIED);
    }
}

static void a_damaged_lock_is_not_shortened(void **unused)
{
    uint64_t until, wall = far_clock_wall_ms();
    char path[320];
    assert_int_equal(far_vault_lock(vault, 7, wall + 30 * DAY, &err), 0);
    flip("points/7.lock", 41); /* its checksum */
    assert_int_equal(far_vault_lock(vault, 7, wall + 1, &err), 0);
    assert_int_equal(far_vault_lock_until(vault, 7, &until, &err), 0);
    assert_int_equal(until, wall + 30 * DAY);
    flip("points/7.lock", 31); /* a date in millions of years: as far as a lock can go */
    assert_int_equal(far_vault_lock(vault, 7, wall + 40 * DAY, &err), 0);
    assert_int_equal(far_vault_lock_until(vault, 7, &until, &err), 0);
    assert_true(until >= wall + 40 * DAY && until <= far_clock_wall_ms() + 3661 * DAY);
    snprintf(path, sizeof path, "%s/points/7.lock", dir);
    assert_int_equal(truncate(path, 20), 0); /* nobody knows any more */
    assert_int_equal(far_vault_lock(vault, 7, wall + 1, &err), FAR_CORRUPT);
    assert_int_equal(far_vault_forget(vault, 7, &err), FAR_CORRUPT);
}

enum { RACES = 400 };
static int locked[RACES];

static void *lock_all(void *arg)
{
    struct far_error ignored;
    (void)arg;
    for (uint64_t id = 0; id < RACES; id++) {
        locked[id] = far_vault_lock(vault, id + 1, 4000000000000ull, &ignored);
    }
    return NULL;
}

/* A point is locked and stays, or it was forgotten first and nobody was told that it is locked. */
static void a_lock_and_a_forget_do_not_pass_each_other(void **unused)
{
    char path[320];
    pthread_t thread;
    int forgotten[RACES];
    for (uint64_t id = 1; id <= RACES; id++) {
        snprintf(path, sizeof path, "%s/points/%d.manifest", dir, (int)id);
        assert_int_equal(far_file_replace(path, "any", 3, 0600, &err), 0);
    }
    assert_int_equal(pthread_create(&thread, NULL, lock_all, NULL), 0);
    for (uint64_t id = RACES; id > 0; id--) { /* towards each other */
        forgotten[id - 1] = far_vault_forget(vault, id, &err);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    for (uint64_t id = 1; id <= RACES; id++) {
        snprintf(path, sizeof path, "%s/points/%d.manifest", dir, (int)id);
        bool is_there = access(path, F_OK) == 0;
        assert_int_equal(locked[id - 1] == 0, is_there);
        assert_int_equal(forgotten[id - 1], is_there ? FAR_DENIED : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_goes_on_with_the_machine),
        cmocka_unit_test(a_clock_set_back_changes_nothing),
        cmocka_unit_test(a_clock_that_jumps_is_not_believed),
        cmocka_unit_test(many_small_jumps_are_one_large),
        cmocka_unit_test(a_machine_may_be_off_for_a_while),
        cmocka_unit_test_setup_teardown(a_lock_holds_and_is_only_lengthened, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_damaged_holds_until_it_is_mended, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_lock_is_not_shortened, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lock_and_a_forget_do_not_pass_each_other, setup, teardown),
    };
    return cmocka_run_group_tests_name("vault_lock", tests, NULL, NULL);
}
