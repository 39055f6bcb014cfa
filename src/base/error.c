/* Errors: see error.h. Uses no allocation, so it works when nothing else does. Inside the pure core errno is never
 * read: far_fail_errno takes the number from its caller. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct far_class_info class_table[] = {
    {FAR_OK, "ok", 200, 0, FAR_RETRY_NEVER},
    {FAR_INVALID, "invalid", 400, 2, FAR_RETRY_NEVER},
    {FAR_NOT_FOUND, "not_found", 404, 3, FAR_RETRY_NEVER},
    {FAR_CONFLICT, "conflict", 409, 4, FAR_RETRY_NEVER},
    {FAR_DENIED, "denied", 403, 5, FAR_RETRY_NEVER},
    {FAR_NOT_LEADER, "not_leader", 503, 6, FAR_RETRY_ELSEWHERE},
    {FAR_UNKNOWN_OUTCOME, "unknown_outcome", 504, 7, FAR_RETRY_SAME_ID},
    {FAR_BUSY, "busy", 503, 8, FAR_RETRY_LATER},
    {FAR_LIMIT, "limit", 507, 9, FAR_RETRY_LATER},
    {FAR_TIMEOUT, "timeout", 504, 10, FAR_RETRY_SAME_ID},
    {FAR_IO, "io", 502, 11, FAR_RETRY_LATER},
    {FAR_CORRUPT, "corrupt", 500, 12, FAR_RETRY_NEVER},
    {FAR_CANCELED, "canceled", 499, 13, FAR_RETRY_LATER},
    {FAR_INTERNAL, "internal", 500, 14, FAR_RETRY_NEVER},
};

const struct far_class_info *far_class_info(int klass)
{
    if (klass > 0 || klass < FAR_CLASS_MIN) {
        klass = FAR_INTERNAL;
    }
    return &class_table[-klass];
}

int far_class_from_name(const char *name)
{
    for (size_t i = 0; i < sizeof class_table / sizeof class_table[0]; i++) {
        if (strcmp(class_table[i].name, name) == 0) {
            return class_table[i].klass;
        }
    }
    return FAR_INTERNAL;
}

int far_fail(struct far_error *err, int klass, const char *format, ...)
{
    if (err != NULL) {
        va_list args;
        va_start(args, format);
        err->klass = klass;
        err->sys_errno = 0;
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
    }
    return klass;
}

int far_fail_errno(struct far_error *err, int klass, int sys_errno, const char *format, ...)
{
    if (klass == FAR_IO && (sys_errno == ENOSPC || sys_errno == EDQUOT || sys_errno == EFBIG || sys_errno == ENOMEM)) {
        klass = FAR_LIMIT;
    }
    if (err != NULL) {
        va_list args;
        va_start(args, format);
        err->klass = klass;
        err->sys_errno = sys_errno;
        int n = vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
        if (n >= 0 && (size_t)n < sizeof err->message) {
            snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s", strerror(sys_errno));
        }
    }
    return klass;
}

int far_error_context(struct far_error *err, const char *format, ...)
{
    if (err == NULL) {
        return FAR_INTERNAL;
    }
    char joined[2 * FAR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(joined, FAR_MESSAGE_MAX, format, args);
    va_end(args);
    if (n >= 0 && n < FAR_MESSAGE_MAX) {
        snprintf(joined + n, sizeof joined - (size_t)n, ": %s", err->message);
    }
    joined[FAR_MESSAGE_MAX - 1] = '\0';
    memcpy(err->message, joined, FAR_MESSAGE_MAX);
    return err->klass;
}
