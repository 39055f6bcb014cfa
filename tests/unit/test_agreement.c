/* Agreement between servers, and the frames that it and the proposals travel in. */
#include "../lib/cm.h"

#include "log/frames.h"
#include "log/space.h"

#include <stdlib.h>
#include <unistd.h>

static struct far_agreement agreement;

static struct far_mark mark_of(uint64_t index, uint64_t digest)
{
    return (struct far_mark){.index = index, .last_seq = index, .digest = {.low = digest}};
}

static void note(uint64_t index, uint64_t digest)
{
    struct far_mark mark = mark_of(index, digest);
    far_agreement_note(&agreement, &mark);
}

static void claim(uint64_t peer, uint64_t index, uint64_t digest)
{
    struct far_mark mark = mark_of(index, digest);
    far_agreement_claim(&agreement, peer, &mark);
}

static void the_minority_is_told_from_the_majority(void **state)
{
    (void)state;
    uint64_t where = 0;
    far_agreement_reset(&agreement);
    note(64, 1);
    assert_int_equal(far_agreement_judge(&agreement, 64, 3), FAR_VERDICT_NONE);
    claim(2, 64, 1);
    assert_int_equal(far_agreement_judge(&agreement, 64, 3), FAR_VERDICT_EQUAL);
    claim(3, 64, 2);
    assert_int_equal(far_agreement_judge(&agreement, 64, 3), FAR_VERDICT_SPLIT);
    claim(2, 64, 2);
    assert_int_equal(far_agreement_judge_all(&agreement, 3, &where), FAR_VERDICT_MINORITY);
    assert_int_equal(where, 64);
}

static void a_claim_ahead_of_us_waits_until_we_are_there(void **state)
{
    (void)state;
    uint64_t where = 0;
    far_agreement_reset(&agreement);
    claim(2, 10, 5);
    claim(3, 10, 5);
    assert_int_equal(far_agreement_judge_all(&agreement, 3, &where), FAR_VERDICT_NONE);
    note(10, 6);
    assert_int_equal(far_agreement_judge_all(&agreement, 3, &where), FAR_VERDICT_MINORITY);
    for (uint64_t index = 11; index < 11 + FAR_AGREEMENT_OWN; index++) {
        note(index, 1); /* index 10 is forgotten by now */
    }
    assert_int_equal(far_agreement_judge_all(&agreement, 3, &where), FAR_VERDICT_NONE);
}

static void frames_come_back_as_sent_and_cut_ones_are_refused(void **state)
{
    (void)state;
    struct far_buf out;
    struct far_forward forward = {.request = 9, .timeout_ms = 500,
                                  .command = {.kind = 7, .actor = 3, .payload = far_slice("abc", 3)}}, forward_back;
    struct far_answer answer = {.request = 4, .applied_index = 5,
                                .result = {.klass = FAR_CONFLICT, .object_id = 8, .message = "taken"}}, answer_back;
    struct far_marks marks = {.wall_ms = 77, .count = 2, .marks = {mark_of(1, 2), mark_of(3, 4)}}, marks_back;
    far_buf_init(&out, 4096);
    assert_int_equal(far_forward_encode(&forward, &out), 0);
    assert_int_equal(far_forward_decode(far_buf_slice(&out), &forward_back, NULL), 0);
    assert_int_equal(forward_back.command.actor, 3);
    assert_true(far_slice_equal(forward_back.command.payload, far_slice("abc", 3)));
    for (size_t len = 0; len < out.len; len++) {
        assert_int_equal(far_forward_decode(far_slice(out.data, len), &forward_back, NULL), FAR_CORRUPT);
    }
    far_buf_reset(&out);
    assert_int_equal(far_answer_encode(&answer, &out), 0);
    assert_int_equal(far_answer_decode(far_buf_slice(&out), &answer_back, NULL), 0);
    assert_int_equal(answer_back.result.klass, FAR_CONFLICT);
    assert_string_equal(answer_back.result.message, "taken");
    assert_int_equal(far_answer_decode(far_slice(out.data, 47), &answer_back, NULL), FAR_CORRUPT);
    far_buf_reset(&out);
    assert_int_equal(far_marks_encode(&marks, &out), 0);
    assert_int_equal(far_marks_decode(far_buf_slice(&out), &marks_back, NULL), 0);
    assert_memory_equal(&marks, &marks_back, sizeof marks);
    assert_int_equal(far_marks_decode(far_slice(out.data, out.len - 1), &marks_back, NULL), FAR_CORRUPT);
    far_buf_done(&out);
}

static void below_a_watermark_only_what_must_passes(void **state)
{
    (void)state;
    char dir[] = "/tmp/far-space-XXXXXX";
    struct far_space space;
    struct far_error err;
    struct far_command user = {.kind = FAR_KIND_cmd_site_create}, cleanup = {.kind = FAR_KIND_cmd_plan_stop},
                       tick = {.kind = FAR_KIND_cmd_tick};
    assert_non_null(mkdtemp(dir));
    assert_int_equal(far_space_init(&space, dir, 4096, 1000, 100, NULL), 0);
    assert_false(space.reserve_given);
    space.free_bytes = 1000;
    assert_int_equal(far_space_admit(&space, &user, NULL), 0);
    space.free_bytes = 999;
    assert_int_equal(far_space_admit(&space, &user, &err), FAR_LIMIT);
    assert_int_equal(far_space_admit(&space, &cleanup, NULL), 0);
    space.free_bytes = 99;
    assert_int_equal(far_space_admit(&space, &cleanup, NULL), FAR_LIMIT);
    assert_int_equal(far_space_admit(&space, &tick, NULL), 0);
    far_space_give_back(&space);
    assert_int_equal(rmdir(dir), 0); /* the reserve is gone */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_minority_is_told_from_the_majority),
        cmocka_unit_test(a_claim_ahead_of_us_waits_until_we_are_there),
        cmocka_unit_test(frames_come_back_as_sent_and_cut_ones_are_refused),
        cmocka_unit_test(below_a_watermark_only_what_must_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
