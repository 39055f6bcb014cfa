/* cmocka with what it needs included before it. */
#ifndef FAR_TESTS_LIB_CM_H
#define FAR_TESTS_LIB_CM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* keep this order: cmocka.h needs the four above */
#include <cmocka.h>

#endif
