/* FAR_ASSERT: for our own mistakes, always on, aborts with file and line. Never inside src/fsm/, where a broken
 * invariant rejects the command instead (DESIGN.md section 3.10). */
#ifndef FAR_BASE_ASSERT_H
#define FAR_BASE_ASSERT_H

#include <stdio.h>
#include <stdlib.h>

#define FAR_ASSERT(condition)                                                                     \
    do {                                                                                          \
        if (__builtin_expect(!(condition), 0)) {                                                  \
            fprintf(stderr, "farshore: %s:%d: %s: broken: %s\n", __FILE__, __LINE__, __func__, #condition); \
            abort();                                                                              \
        }                                                                                         \
    } while (0)

#endif
