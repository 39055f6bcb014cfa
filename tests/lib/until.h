/* Waiting in tests: for a condition that another thread or process makes true, with a deadline; never just for time. */
#ifndef FAR_TESTS_LIB_UNTIL_H
#define FAR_TESTS_LIB_UNTIL_H

#include <poll.h>
#include <stdbool.h>

/* Looks every millisecond, at most timeout_ms times (an int); whether it became true. */
#define FAR_UNTIL(condition, timeout_ms)                         \
    ({                                                           \
        int far_until_left = (timeout_ms);                       \
        while (!(condition) && far_until_left-- > 0) {           \
            poll(NULL, 0, 1);                                    \
        }                                                        \
        (condition) ? true : false;                              \
    })

#endif
