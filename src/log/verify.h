/* Offline verification, the part between log/verify.c and the WAL: see far_log_verify() in log/log.h. */
#ifndef FAR_LOG_VERIFY_H
#define FAR_LOG_VERIFY_H

#include "base/error.h"

typedef void (*far_verify_report_fn)(void *arg, bool good, const char *text);

#endif
