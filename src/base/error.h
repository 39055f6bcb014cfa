/* Errors: one class, one cause, one message for the operator.
 *
 * A function that can fail returns 0 or a negative class and takes a `struct far_error *err` last (NULL is allowed).
 * The leaf that sees the cause fills it with far_fail() or far_fail_errno(); each caller may put its own context in
 * front once with far_error_context(). Values, no ownership, any thread. */
#ifndef FAR_BASE_ERROR_H
#define FAR_BASE_ERROR_H

#include <stdbool.h>

enum far_class {
    FAR_OK = 0,
    FAR_INVALID = -1,         /* the request itself is wrong; repeating it cannot help */
    FAR_NOT_FOUND = -2,       /* the object does not exist */
    FAR_CONFLICT = -3,        /* the object is in another state, or the name is taken */
    FAR_DENIED = -4,          /* who asks may not */
    FAR_NOT_LEADER = -5,      /* another server leads; retry there */
    FAR_UNKNOWN_OUTCOME = -6, /* it may or may not have happened; repeat it with the same id */
    FAR_BUSY = -7,            /* later may work */
    FAR_LIMIT = -8,           /* a bound was reached: size, count, space */
    FAR_TIMEOUT = -9,
    FAR_IO = -10,             /* disk or network said no */
    FAR_CORRUPT = -11,        /* bytes are not what was written */
    FAR_CANCELED = -12,
    FAR_INTERNAL = -13,       /* our own mistake */
};
#define FAR_CLASS_MIN FAR_INTERNAL

enum far_retry {
    FAR_RETRY_NEVER,     /* the same request fails again */
    FAR_RETRY_LATER,     /* after a pause */
    FAR_RETRY_ELSEWHERE, /* at another server */
    FAR_RETRY_SAME_ID,   /* with the same command id, to learn the outcome */
};

#define FAR_MESSAGE_MAX 512

struct far_error {
    int klass;     /* enum far_class */
    int sys_errno; /* 0 if none */
    char message[FAR_MESSAGE_MAX];
};

/* What a class means at the edges. The only table of its kind. */
struct far_class_info {
    int klass;
    const char *name; /* stable code, as in problem+json: "not_found" */
    int http_status;
    int exit_code; /* of the CLI */
    enum far_retry retry;
};

/* Never NULL: an unknown class answers as internal. */
const struct far_class_info *far_class_info(int klass);
/* The class of a stable name, or FAR_INTERNAL. */
int far_class_from_name(const char *name);

/* Set the cause; returns klass, so that `return far_fail(...)` reads well. Messages are cut at FAR_MESSAGE_MAX - 1. */
int far_fail(struct far_error *err, int klass, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same with ": <text of sys_errno>" behind. ENOSPC, EDQUOT, EFBIG and ENOMEM turn FAR_IO into FAR_LIMIT. */
int far_fail_errno(struct far_error *err, int klass, int sys_errno, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Put "<context>: " in front of the message that is there; returns err's class (FAR_INTERNAL without err). */
int far_error_context(struct far_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
