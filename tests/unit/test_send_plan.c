/* The plan of a send: every block of the list and of the audit once, in order, whatever the list looks like. The seed of what
 * is random is printed and can be given as FAR_SEED. */
#include "../lib/cm.h"

#include "base/clock.h"
#include "dataplane/map.h"
#include "dataplane/send_plan.h"

#include <stdlib.h>
#include <string.h>

enum { LIST_MAX = 4000, BLOCKS_MAX = 5000 };

static uint64_t seed;

static uint64_t random_below(uint64_t limit)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 33) % limit;
}

/* ---- a platform with a list ---- */

struct list {
    struct far_adapter_extent extents[LIST_MAX];
    size_t count;
    size_t batch; /* extents of an answer at most */
    bool stands_still;
    int fails_with;
    size_t calls;
};

static int fetch(void *arg, uint64_t offset, struct far_adapter_extent *ret_extents, size_t max, size_t *ret_count,
                 uint64_t *ret_next, struct far_error *err)
{
    struct list *list = arg;
    size_t count = 0;
    list->calls++;
    if (list->fails_with != 0) {
        return far_fail(err, list->fails_with, "the list is gone");
    }
    *ret_next = UINT64_MAX;
    for (size_t i = 0; i < list->count; i++) {
        const struct far_adapter_extent *e = &list->extents[i];
        if (e->offset + e->length <= offset) {
            continue;
        }
        if (count == max || (count >= list->batch && e->offset > offset)) { /* on and on, also where they overlap */
            *ret_next = e->offset;
            break;
        }
        ret_extents[count++] = *e;
    }
    *ret_next = list->stands_still ? offset : *ret_next;
    *ret_count = count;
    return 0;
}

static void add(struct list *list, uint64_t offset, uint64_t length)
{
    assert_true(list->count < LIST_MAX);
    list->extents[list->count++] = (struct far_adapter_extent){.offset = offset, .length = length};
}

/* ---- what comes out ---- */

enum { NOT_LOOKED_AT, LISTED, AUDITED };

static uint8_t seen[BLOCKS_MAX];

static void walk(struct send_plan *plan, uint64_t max)
{
    struct send_plan_run run;
    uint64_t at = 0;
    memset(seen, NOT_LOOKED_AT, sizeof seen);
    for (;;) {
        assert_int_equal(send_plan_peek(plan, max, &run, NULL), 0);
        if (run.block_count == 0) {
            return;
        }
        assert_true(run.first_block >= at && run.block_count <= max);
        uint64_t take = 1 + random_below(run.block_count); /* not always all of it */
        for (uint64_t i = 0; i < take; i++) {
            assert_int_equal(seen[run.first_block + i], NOT_LOOKED_AT);
            seen[run.first_block + i] = run.listed ? LISTED : AUDITED;
        }
        at = run.first_block + take;
        send_plan_take(plan, at);
    }
}

static void a_whole_disk_comes_in_order(void **state)
{
    struct send_plan plan;
    send_plan_init(&plan, 1000 * 65536ull - 5, 0, NULL, NULL, 0, 0);
    walk(&plan, 16);
    for (size_t i = 0; i < 1001; i++) {
        assert_int_equal(seen[i], i < 1000 ? LISTED : NOT_LOOKED_AT);
    }
    send_plan_init(&plan, 1000 * 65536ull, 993, NULL, NULL, 0, 0);
    walk(&plan, 16);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(seen[i], i < 993 ? NOT_LOOKED_AT : LISTED);
    }
}

/* Random lists and audits against a plain set of blocks. */
static void a_list_and_an_audit_give_each_block_once(void **state)
{
    static struct list list;
    static uint8_t expected[BLOCKS_MAX];
    for (int round = 0; round < 300; round++) {
        uint64_t blocks = 1 + random_below(BLOCKS_MAX), size = blocks * 65536 - random_below(65536), offset = 0;
        uint64_t from = random_below(3) == 0 ? random_below(blocks) : 0;
        uint64_t audit_first = random_below(blocks), audit_count = random_below(2) == 0 ? 0 : random_below(2 * blocks);
        list = (struct list){.batch = 1 + random_below(400)};
        memset(expected, NOT_LOOKED_AT, sizeof expected);
        for (uint64_t i = 0; i < audit_count && i < blocks; i++) {
            expected[(audit_first + i) % blocks] = AUDITED;
        }
        while (offset < size + 65536 && list.count < LIST_MAX) {
            uint64_t length = random_below(4) == 0 ? 0 : 1 + random_below(random_below(2) == 0 ? 300 : 300000);
            add(&list, offset, length);
            for (uint64_t block = offset / 65536; length > 0 && block <= (offset + length - 1) / 65536 && block < blocks; block++) {
                expected[block] = offset < size ? LISTED : expected[block];
            }
            offset += random_below(6) == 0 ? random_below(length + 1) : length + random_below(1 + 65536 * random_below(8));
        }
        uint64_t healed[FAR_SEND_PLAN_REPAIRS][2];
        size_t healed_count = random_below(2) == 0 ? 0 : random_below(FAR_SEND_PLAN_REPAIRS + 1);
        for (size_t i = 0; i < healed_count; i++) { /* in no order, over each other, beyond the end */
            healed[i][0] = random_below(blocks + 10);
            healed[i][1] = random_below(20);
            for (uint64_t block = healed[i][0]; block < healed[i][0] + healed[i][1] && block < blocks; block++) {
                expected[block] = expected[block] == NOT_LOOKED_AT ? AUDITED : expected[block];
            }
        }
        memset(expected, NOT_LOOKED_AT, from);
        struct send_plan plan;
        send_plan_init(&plan, size, from, fetch, &list, audit_first, audit_count);
        for (size_t i = 0; i < healed_count; i++) {
            send_plan_add(&plan, healed[i][0], healed[i][1]);
        }
        walk(&plan, 1 + random_below(40));
        assert_memory_equal(seen, expected, sizeof seen);
    }
}

static void an_empty_list_is_soon_over(void **state)
{
    static struct list list = {.batch = 10};
    struct send_plan plan;
    send_plan_init(&plan, 64ull << 40, 0, fetch, &list, 0, 0);
    walk(&plan, 16);
    assert_int_equal(list.calls, 1);
}

static void a_list_that_goes_back_or_stands_still_is_an_error(void **state)
{
    static struct list list;
    struct send_plan plan;
    struct send_plan_run run;
    struct far_error err;
    list = (struct list){.batch = 10};
    add(&list, 65536 * 9, 10);
    add(&list, 65536 * 3, 65536 * 8);
    send_plan_init(&plan, 1 << 30, 0, fetch, &list, 0, 0);
    assert_int_equal(send_plan_peek(&plan, 16, &run, &err), FAR_CORRUPT);
    list = (struct list){.batch = 10, .stands_still = true};
    send_plan_init(&plan, 1 << 30, 0, fetch, &list, 0, 0);
    assert_int_equal(send_plan_peek(&plan, 16, &run, &err), FAR_IO);
    list = (struct list){.fails_with = FAR_BUSY};
    send_plan_init(&plan, 1 << 30, 0, fetch, &list, 0, 0);
    assert_int_equal(send_plan_peek(&plan, 16, &run, &err), FAR_BUSY);
    list.fails_with = 0; /* and goes on when it is there again */
    list.batch = 10;
    add(&list, 65536 * 9, 10);
    assert_int_equal(send_plan_peek(&plan, 16, &run, &err), 0);
    assert_int_equal(run.first_block, 9);
    assert_int_equal(run.block_count, 1);
}

static void the_end_of_the_numbers_is_no_place(void **state)
{
    static struct list list;
    struct send_plan plan;
    list = (struct list){.batch = 10};
    add(&list, 0, UINT64_MAX);
    add(&list, UINT64_MAX - 5, UINT64_MAX);
    send_plan_init(&plan, 70000, 0, fetch, &list, UINT64_MAX, UINT64_MAX);
    walk(&plan, UINT64_MAX);
    assert_int_equal(seen[0], LISTED);
    assert_int_equal(seen[1], LISTED);
    assert_int_equal(seen[2], NOT_LOOKED_AT);
}

int main(void)
{
    const char *given = getenv("FAR_SEED");
    seed = given != NULL ? strtoull(given, NULL, 10) : far_clock_wall_ms();
    print_message("# FAR_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_disk_comes_in_order),
        cmocka_unit_test(a_list_and_an_audit_give_each_block_once),
        cmocka_unit_test(an_empty_list_is_soon_over),
        cmocka_unit_test(a_list_that_goes_back_or_stands_still_is_an_error),
        cmocka_unit_test(the_end_of_the_numbers_is_no_place),
    };
    return cmocka_run_group_tests_name("send_plan", tests, NULL, NULL);
}
