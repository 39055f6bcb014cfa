/* server/calls.h: order, bound, and the end. */
#include "../lib/cm.h"
#include "server/calls.h"

#include <pthread.h>
#include <stdlib.h>

struct numbered {
    struct far_call call;
    int number;
};

static int ran;
static int last;
static int canceled_count;
static bool in_order;

static void run(struct far_call *call, bool canceled)
{
    struct numbered *n = (struct numbered *)call;
    in_order = in_order && n->number == last + 1;
    last = n->number;
    ran++;
    canceled_count += canceled;
    free(n);
}

static int post(struct far_calls *calls, int number)
{
    struct numbered *n = calloc(1, sizeof *n);
    *n = (struct numbered){.call.run = run, .number = number};
    int rc = far_calls_post(calls, &n->call);
    if (rc != 0) {
        free(n);
    }
    return rc;
}

static void *post_many(void *arg)
{
    for (int i = 1; i <= 100; i++) {
        post(arg, i);
    }
    return NULL;
}

static struct far_calls *begin(uv_loop_t *loop)
{
    struct far_calls *calls = NULL;
    struct far_error err;
    ran = last = canceled_count = 0;
    in_order = true;
    uv_loop_init(loop);
    assert_int_equal(far_calls_new(loop, &calls, &err), 0);
    return calls;
}

static void end(uv_loop_t *loop, struct far_calls *calls)
{
    uv_run(loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(loop), 0);
    far_calls_free(calls);
}

static void calls_of_another_thread_run_in_order(void **unused)
{
    uv_loop_t loop;
    pthread_t thread;
    struct far_calls *calls = begin(&loop);
    assert_int_equal(pthread_create(&thread, NULL, post_many, calls), 0);
    while (ran < 100) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    pthread_join(thread, NULL);
    assert_true(in_order);
    far_calls_close(calls);
    end(&loop, calls);
    assert_int_equal(canceled_count, 0);
}

static void what_is_added_runs_in_order_once_it_is_said(void **unused)
{
    uv_loop_t loop;
    struct far_calls *calls = begin(&loop);
    far_calls_wake(calls);
    for (int i = 1; i <= 3; i++) {
        struct numbered *n = calloc(1, sizeof *n);
        *n = (struct numbered){.call.run = run, .number = i};
        assert_int_equal(far_calls_add(calls, &n->call), 0);
    }
    uv_run(&loop, UV_RUN_NOWAIT);
    assert_int_equal(ran, 0);
    far_calls_wake(calls);
    while (ran < 3) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    assert_true(in_order);
    far_calls_close(calls);
    end(&loop, calls);
}

static void beyond_the_bound_calls_are_refused_and_at_the_end_canceled(void **unused)
{
    uv_loop_t loop;
    struct far_calls *calls = begin(&loop);
    for (int i = 1; i <= FAR_CALLS_MAX; i++) {
        assert_int_equal(post(calls, i), 0);
    }
    assert_int_equal(post(calls, 0), FAR_BUSY);
    far_calls_close(calls);
    assert_int_equal(canceled_count, FAR_CALLS_MAX);
    assert_int_equal(post(calls, 0), FAR_CANCELED);
    end(&loop, calls);
    assert_int_equal(ran, FAR_CALLS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_of_another_thread_run_in_order),
        cmocka_unit_test(what_is_added_runs_in_order_once_it_is_said),
        cmocka_unit_test(beyond_the_bound_calls_are_refused_and_at_the_end_canceled),
    };
    return cmocka_run_group_tests_name("calls", tests, NULL, NULL);
}
