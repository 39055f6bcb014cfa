/* Test helper: a libuv loop is turned until something is so. */
#ifndef FAR_TESTS_LIB_RUN_UNTIL_H
#define FAR_TESTS_LIB_RUN_UNTIL_H

#include <uv.h>

/* Turns f->loop until the condition holds; fails the test after ten seconds. */
#define RUN_UNTIL(f, condition)                                          \
    do {                                                                 \
        uint64_t deadline_ns = uv_hrtime() + 10ull * 1000 * 1000 * 1000; \
        while (!(condition)) {                                           \
            assert_true(uv_hrtime() < deadline_ns);                      \
            uv_run(&(f)->loop, UV_RUN_NOWAIT);                           \
        }                                                                \
    } while (0)

#endif
