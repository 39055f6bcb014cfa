/* Orders to skip an entry are kept until the log has them: over restarts, each once, and a damaged file gives none. */
#define _GNU_SOURCE
#include "log/skip_orders.h"

#include "../lib/cm.h"
#include "../lib/remove_tree.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[256], path[300];
static struct far_error err;
static struct far_skip_orders orders, loaded;

static int setup(void **unused)
{
    assert_int_equal(far_test_make_folder("skip-orders", dir, sizeof dir), 0);
    snprintf(path, sizeof path, "%s/skip-orders", dir);
    orders = (struct far_skip_orders){.count = 0};
    return 0;
}

static int teardown(void **unused)
{
    return far_test_remove_tree(dir);
}

static void add(uint64_t index, const char *reason)
{
    struct far_skip_order order = {.index = index, .hash = index * 3, .token_id = 9, .ordered_ms = 1234, .is_forced = index % 2};
    snprintf(order.token_name, sizeof order.token_name, "ann");
    snprintf(order.reason, sizeof order.reason, "%s", reason);
    assert_int_equal(far_skip_orders_add(dir, &orders, &order, &err), 0);
}

static void load(void)
{
    assert_int_equal(far_skip_orders_load(dir, &loaded, &err), 0);
}

static void what_was_kept_is_there_after_a_restart(void **unused)
{
    char longest[FAR_SKIP_REASON_MAX + 1];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    load();
    assert_int_equal(loaded.count, 0); /* no file: nobody ever wanted anything */
    add(5, "it crashes");
    add(9, longest);
    load();
    assert_int_equal(loaded.count, 2);
    assert_memory_equal(loaded.items, orders.items, 2 * sizeof orders.items[0]);
    assert_true(loaded.items[0].index == 5 && loaded.items[0].hash == 15 && loaded.items[0].is_forced);
    assert_string_equal(loaded.items[1].reason, longest);
    assert_int_equal(far_skip_orders_remove(dir, &orders, 5, &err), 0);
    assert_int_equal(far_skip_orders_remove(dir, &orders, 5, &err), 0);
    load();
    assert_true(loaded.count == 1 && loaded.items[0].index == 9);
}

static void an_entry_has_one_order_and_the_oldest_goes_when_there_are_too_many(void **unused)
{
    add(5, "one");
    add(5, "two");
    load();
    assert_true(loaded.count == 1 && strcmp(loaded.items[0].reason, "two") == 0);
    for (uint64_t index = 6; index < 6 + FAR_SKIP_ORDERS_MAX; index++) {
        add(index, "more");
    }
    load();
    assert_true(loaded.count == FAR_SKIP_ORDERS_MAX && loaded.items[0].index == 6);
}

static void any_damaged_byte_or_length_gives_no_orders(void **unused)
{
    add(5, "one");
    add(6, "two");
    int fd = open(path, O_RDWR);
    uint8_t bytes[512];
    ssize_t len = read(fd, bytes, sizeof bytes);
    assert_true(len > 40);
    for (ssize_t i = 0; i < len; i++) {
        uint8_t wrong = bytes[i] ^ 0x10;
        assert_int_equal(pwrite(fd, &wrong, 1, i), 1);
        assert_int_equal(far_skip_orders_load(dir, &loaded, &err), FAR_CORRUPT);
        assert_int_equal(loaded.count, 0);
        assert_int_equal(pwrite(fd, &bytes[i], 1, i), 1);
    }
    load();
    assert_int_equal(loaded.count, 2);
    for (ssize_t to = len - 1; to >= 0; to--) {
        assert_int_equal(ftruncate(fd, to), 0);
        assert_int_equal(far_skip_orders_load(dir, &loaded, &err), FAR_CORRUPT);
    }
    close(fd);
}

static void what_cannot_be_kept_changes_nothing(void **unused)
{
    struct far_skip_order order = {.index = 7};
    add(5, "one");
    assert_int_not_equal(far_skip_orders_add("/nowhere/at/all", &orders, &order, &err), 0);
    assert_true(orders.count == 1 && orders.items[0].index == 5);
    assert_int_not_equal(far_skip_orders_remove("/nowhere/at/all", &orders, 5, &err), 0);
    assert_int_equal(orders.count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_kept_is_there_after_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(an_entry_has_one_order_and_the_oldest_goes_when_there_are_too_many, setup, teardown),
        cmocka_unit_test_setup_teardown(any_damaged_byte_or_length_gives_no_orders, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_kept_changes_nothing, setup, teardown),
    };
    return cmocka_run_group_tests_name("skip_orders", tests, NULL, NULL);
}
