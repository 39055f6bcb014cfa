/* net/wake.h: nothing that was sent is missed, and a late sender does no harm. */
#include "../lib/cm.h"
#include "net/wake.h"

#include <pthread.h>

enum { SENDS = 10000 };

struct counted {
    struct far_wake wake;
    atomic_int sent; /* raised before each send */
    int seen;        /* what the loop found at its last wake-up */
    int stops;
};

static void on_wake(struct far_wake *wake)
{
    struct counted *c = wake->data;
    c->seen = atomic_load(&c->sent);
}

static void on_stopped(struct far_wake *wake)
{
    struct counted *c = wake->data;
    c->stops++;
}

static void *send_many(void *arg)
{
    struct counted *c = arg;
    for (int i = 0; i < SENDS; i++) {
        atomic_fetch_add(&c->sent, 1);
        far_wake_send(&c->wake);
    }
    return NULL;
}

static void finish(uv_loop_t *loop, struct counted *c)
{
    far_wake_stop(&c->wake, on_stopped);
    far_wake_send(&c->wake); /* too late: no wake-up, no harm */
    int seen = c->seen;
    assert_int_equal(uv_run(loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(c->stops, 1);
    assert_int_equal(c->seen, seen);
    far_wake_done(&c->wake);
    assert_int_equal(uv_loop_close(loop), 0);
}

static void after_the_last_send_comes_a_wake_up(void **state)
{
    uv_loop_t loop;
    pthread_t threads[2];
    struct counted c = {0};
    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(far_wake_start(&loop, &c.wake, on_wake, &c), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, send_many, &c), 0);
    }
    while (c.seen < 2 * SENDS) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    finish(&loop, &c);
}

static void what_the_loop_sends_to_itself_comes_in_its_next_turn(void **state)
{
    uv_loop_t loop;
    struct counted c = {0};
    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(far_wake_start(&loop, &c.wake, on_wake, &c), 0);
    for (int i = 1; i <= 3; i++) {
        atomic_store(&c.sent, i);
        far_wake_send(&c.wake);
        far_wake_send(&c.wake);
        uv_run(&loop, UV_RUN_ONCE);
        assert_int_equal(c.seen, i);
    }
    finish(&loop, &c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_the_last_send_comes_a_wake_up),
        cmocka_unit_test(what_the_loop_sends_to_itself_comes_in_its_next_turn),
    };
    return cmocka_run_group_tests_name("wake", tests, NULL, NULL);
}
