/* Waiting in tests: for a condition that another thread or process makes true, with a deadline; never just for time. */
#ifndef FAR_TESTS_LIB_UNTIL_H
#define FAR_TESTS_LIB_UNTIL_H

#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The factor on time limits that tests/run was given (--slow): sanitizers, valgrind. 1 or more. */
static inline int far_test_slow(void)
{
    const char *slow = getenv("FAR_SLOW");
    int factor = slow != NULL ? atoi(slow) : 1;
    return factor > 1 ? factor : 1;
}

/* Looks every millisecond, at most timeout_ms (an int) times that factor; whether it became true. */
#define FAR_UNTIL(condition, timeout_ms)                         \
    ({                                                           \
        int far_until_left = (timeout_ms) * far_test_slow();     \
        while (!(condition) && far_until_left-- > 0) {           \
            poll(NULL, 0, 1);                                    \
        }                                                        \
        (condition) ? true : false;                              \
    })

/* Whether the program runs under valgrind, which counts as its memory what valgrind remembers of it. */
static inline bool far_test_on_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");
    return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

#endif
