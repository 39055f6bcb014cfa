/* What a client knows of kinds of events by itself, from the one list (fsm/events.def): so no server can tell it otherwise.
 * Const data, any thread. */
#ifndef FAR_CLIENT_KINDS_H
#define FAR_CLIENT_KINDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kind {
    const char *name;
    uint16_t number;
    unsigned traits;
};
enum {
    KIND_SECRET = 1, /* it has a field that never leaves a server */
    KIND_INFO = 2,   /* the severities that it may have, one bit each */
    KIND_NOTICE = 4,
    KIND_WARNING = 8,
    KIND_ERROR = 16,
};

/* NULL: not known to this program. */
const struct kind *kind_by_number(uint16_t number);
const struct kind *kind_by_name(const char *name, size_t len);
/* The KIND_… bits from this severity up; 0: there is no such severity. */
unsigned kind_severities_from(const char *severity);

#endif
