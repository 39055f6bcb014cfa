/* The queue before the apply thread: how long a transaction stays open. Times are given as the moment when it was opened, so
 * nothing is waited for here. */
#include "../lib/cm.h"

#include "log/apply_queue.h"

enum { FIRST = 100 }; /* index of the first entry that lies in the queue */

struct fixture {
    struct far_apply_queue queue;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_int_equal(far_apply_queue_init(&f->queue), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    far_apply_queue_done(&f->queue);
    free(f);
    return 0;
}

static void push(struct fixture *f, uint64_t count)
{
    uint64_t from = f->queue.pushed_index < FIRST ? FIRST : f->queue.pushed_index + 1;
    for (uint64_t i = 0; i < count; i++) {
        assert_int_equal(far_apply_queue_push(&f->queue, FAR_JOB_BARRIER, from + i, 1, NULL, true), 0);
    }
}

/* How many jobs join a transaction that was opened so long ago, has done so many and reaches to index. */
static size_t joining(struct fixture *f, size_t done, uint64_t index, uint64_t open_ms)
{
    uint64_t begin_ns = uv_hrtime() - open_ms * FAR_APPLY_NS_PER_MS;
    struct far_apply_job *jobs = far_apply_queue_take_more(&f->queue, done, index, begin_ns);
    size_t count = 0;
    for (const struct far_apply_job *job = jobs; job != NULL; job = job->next) {
        count++;
    }
    far_apply_jobs_free(jobs);
    far_apply_queue_release(&f->queue, count, 0);
    return count;
}

static void few_entries_are_committed_soon(void **state)
{
    struct fixture *f = *state;
    push(f, 3);
    assert_int_equal(joining(f, FAR_APPLY_BUSY_JOBS - 1, FIRST - 1, FAR_APPLY_LINGER_MS), 0);
    assert_int_equal(joining(f, FAR_APPLY_BUSY_JOBS - 1, FIRST - 1, 0), 3);
}

static void many_entries_share_a_transaction(void **state)
{
    struct fixture *f = *state;
    push(f, 3);
    assert_int_equal(joining(f, FAR_APPLY_BUSY_JOBS, FIRST - 1, FAR_APPLY_LINGER_BUSY_MS), 0);
    assert_int_equal(joining(f, FAR_APPLY_BUSY_JOBS, FIRST - 1, FAR_APPLY_LINGER_MS), 3);
}

static void where_somebody_follows_even_many_are_committed_soon(void **state)
{
    struct fixture *f = *state;
    push(f, 3);
    far_apply_queue_follow(&f->queue, true);
    far_apply_queue_follow(&f->queue, true);
    far_apply_queue_follow(&f->queue, false);
    assert_int_equal(joining(f, FAR_APPLY_BUSY_JOBS, FIRST - 1, FAR_APPLY_LINGER_MS), 0);
    far_apply_queue_follow(&f->queue, false);
    assert_int_equal(joining(f, FAR_APPLY_BUSY_JOBS, FIRST - 1, FAR_APPLY_LINGER_MS), 3);
}

static void what_others_act_on_is_committed_soon_whatever_else_comes(void **state)
{
    struct fixture *f = *state;
    push(f, 3);
    far_apply_queue_hurry(&f->queue);
    assert_int_equal(joining(f, FAR_APPLY_BUSY_JOBS, FIRST - 1, FAR_APPLY_LINGER_MS), 0);
    far_apply_queue_committing(&f->queue);
    far_apply_queue_committed(&f->queue, FIRST - 1);
    assert_int_equal(joining(f, FAR_APPLY_BUSY_JOBS, FIRST - 1, FAR_APPLY_LINGER_MS), 3);
}

static void while_one_group_is_being_committed_the_next_goes_on(void **state)
{
    struct fixture *f = *state;
    push(f, 6);
    far_apply_queue_hurry(&f->queue);
    far_apply_queue_committing(&f->queue);
    far_apply_queue_want(&f->queue, FIRST + 2);
    assert_int_equal(joining(f, FAR_APPLY_GROUP_MAX - 3, FIRST + 2, FAR_APPLY_LINGER_BUSY_MS), 3);
    assert_int_equal(joining(f, FAR_APPLY_GROUP_MAX, FIRST + 5, 0), 0); /* but not for ever */
    far_apply_queue_committed(&f->queue, FIRST - 1);
    assert_int_equal(joining(f, FAR_APPLY_GROUP_MAX - 3, FIRST + 2, 0), 0); /* somebody waits for it */
    far_apply_queue_committing(&f->queue);
    far_apply_queue_hurry(&f->queue); /* of a command in the next one */
    far_apply_queue_committed(&f->queue, FIRST + 2);
    assert_int_equal(joining(f, FAR_APPLY_BUSY_JOBS, FIRST + 2, FAR_APPLY_LINGER_MS), 0);
}

static void where_somebody_reads_even_many_are_committed_soon(void **state)
{
    struct fixture *f = *state;
    uint64_t now_ns = uv_hrtime(), read_ns = (uint64_t)FAR_APPLY_READ_MS * FAR_APPLY_NS_PER_MS;
    push(f, 3);
    assert_int_equal(far_apply_queue_read(&f->queue, now_ns), FIRST + 2); /* the first one waits for what is there */
    assert_int_equal(far_apply_queue_read(&f->queue, now_ns + 1), 0);
    assert_int_equal(joining(f, FAR_APPLY_BUSY_JOBS, FIRST - 1, FAR_APPLY_LINGER_MS), 0);
    assert_int_equal(far_apply_queue_read(&f->queue, now_ns + 1 + read_ns), FIRST + 2);
    assert_int_equal(far_apply_queue_read(&f->queue, now_ns - read_ns), 0);
    assert_int_equal(joining(f, FAR_APPLY_BUSY_JOBS, FIRST - 1, FAR_APPLY_LINGER_MS), 3); /* that was long ago */
}

static void who_wants_to_read_does_not_wait_for_what_comes_behind(void **state)
{
    struct fixture *f = *state;
    push(f, 3);
    far_apply_queue_want(&f->queue, FIRST); /* lies here still */
    assert_int_equal(joining(f, 1, FIRST - 1, 0), 3);
    push(f, 3);
    assert_int_equal(joining(f, 4, FIRST + 2, 0), 0);
    far_apply_queue_committed(&f->queue, FIRST + 2);
    assert_int_equal(joining(f, 1, FIRST + 2, 0), 3);
}

static void a_transaction_has_a_bound(void **state)
{
    struct fixture *f = *state;
    push(f, 3);
    assert_int_equal(joining(f, FAR_APPLY_GROUP_MAX - 2, FIRST - 1, 0), 2);
    assert_int_equal(joining(f, FAR_APPLY_GROUP_MAX, FIRST + 1, 0), 0);
}

static void a_full_queue_takes_nothing_more(void **state)
{
    struct fixture *f = *state;
    push(f, FAR_APPLY_QUEUE_MAX);
    assert_int_equal(far_apply_queue_push(&f->queue, FAR_JOB_BARRIER, FIRST + FAR_APPLY_QUEUE_MAX, 1, NULL, true), FAR_BUSY);
    assert_true(far_apply_queue_full(&f->queue, 0));
    assert_int_equal(joining(f, 0, FIRST - 1, 0), FAR_APPLY_GROUP_MAX);
    assert_false(far_apply_queue_full(&f->queue, 0));
}

#define QUEUE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE_TEST(few_entries_are_committed_soon),
        QUEUE_TEST(many_entries_share_a_transaction),
        QUEUE_TEST(where_somebody_follows_even_many_are_committed_soon),
        QUEUE_TEST(what_others_act_on_is_committed_soon_whatever_else_comes),
        QUEUE_TEST(while_one_group_is_being_committed_the_next_goes_on),
        QUEUE_TEST(where_somebody_reads_even_many_are_committed_soon),
        QUEUE_TEST(who_wants_to_read_does_not_wait_for_what_comes_behind),
        QUEUE_TEST(a_transaction_has_a_bound),
        QUEUE_TEST(a_full_queue_takes_nothing_more),
    };
    return cmocka_run_group_tests_name("apply_queue", tests, NULL, NULL);
}
