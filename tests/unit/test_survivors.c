/* Who may go on when the quorum is gone: what is refused, and why. */
#include "../lib/cm.h"
#include "server/survivors.h"

#include <stdio.h>
#include <string.h>

/* Three voters: this one, whose log ends at (4, 100), and two that do not answer. */
static struct far_survivors three(void)
{
    struct far_survivors s = {.count = 3};
    for (size_t i = 0; i < 3; i++) {
        struct far_survivor *one = &s.list[i];
        *one = (struct far_survivor){.id = i + 1, .is_voter = true, .incarnation_epoch = 1};
        snprintf(one->name, sizeof one->name, "s%zu", i + 1);
    }
    s.list[0].is_self = true;
    s.list[0].end = (struct far_raft_end){.last_term = 4, .last_index = 100, .term = 4};
    return s;
}

static void answers(struct far_survivor *one, uint64_t last_term, uint64_t last_index)
{
    one->is_there = one->is_judged = true;
    one->end = (struct far_raft_end){.last_term = last_term, .last_index = last_index, .term = last_term + 7};
}

static void refused(const struct far_survivors *s, const char *why)
{
    struct far_error err = {0};
    assert_int_equal(far_survivors_judge(s, 1, false, &err), FAR_CONFLICT);
    if (strstr(err.message, why) == NULL) {
        fail_msg("%s", err.message);
    }
}

static void one_of_three_goes_on(void **state)
{
    struct far_survivors s = three();
    assert_int_equal(far_survivors_judge(&s, 1, false, NULL), 0);
}

static void a_standby_that_is_there_makes_no_quorum_and_must_not_hold_more(void **state)
{
    struct far_survivors s = three();
    s.list[1].is_voter = false;
    s.count = 3;
    s.list[3] = (struct far_survivor){.id = 4, .name = "s4", .is_voter = true};
    s.count = 4; /* voters: s1, s3, s4 */
    answers(&s.list[1], 4, 100);
    assert_int_equal(far_survivors_judge(&s, 1, false, NULL), 0);
    answers(&s.list[1], 4, 101);
    refused(&s, "holds more");
    answers(&s.list[1], 5, 1);
    refused(&s, "holds more");
    answers(&s.list[1], 3, 900);
    assert_int_equal(far_survivors_judge(&s, 1, false, NULL), 0);
    assert_int_equal(far_survivors_term(&s), 10); /* also of one that holds less */
}

static void two_of_three_are_a_quorum_unless_it_is_contested(void **state)
{
    struct far_survivors s = three();
    answers(&s.list[1], 4, 100);
    refused(&s, "that is a quorum");
    assert_int_equal(far_survivors_judge(&s, 1, true, NULL), 0);
}

static void where_somebody_leads_or_went_on_nobody_else_does(void **state)
{
    struct far_survivors s = three();
    answers(&s.list[1], 4, 90);
    s.list[1].leader_id = 3;
    refused(&s, "the quorum is not gone");
    s.list[1].leader_id = 0;
    s.list[1].incarnation_epoch = 2;
    refused(&s, "in incarnation 2 already");
}

static void who_is_there_and_does_not_say_what_it_holds_is_no_survivor_that_is_left_out(void **state)
{
    struct far_survivors s = three();
    s.list[2].is_there = true;
    snprintf(s.list[2].why, sizeof s.list[2].why, "no such token");
    refused(&s, "no such token");
}

static void who_was_removed_does_not_go_on(void **state)
{
    struct far_survivors s = three();
    s.list[0].is_self = false;
    refused(&s, "no member");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_of_three_goes_on),
        cmocka_unit_test(a_standby_that_is_there_makes_no_quorum_and_must_not_hold_more),
        cmocka_unit_test(two_of_three_are_a_quorum_unless_it_is_contested),
        cmocka_unit_test(where_somebody_leads_or_went_on_nobody_else_does),
        cmocka_unit_test(who_is_there_and_does_not_say_what_it_holds_is_no_survivor_that_is_left_out),
        cmocka_unit_test(who_was_removed_does_not_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
