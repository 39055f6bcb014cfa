/* A moment of the past: an event's number, or a time. What ?at= and --to say. Pure, any thread. */
#ifndef FAR_BASE_MOMENT_H
#define FAR_BASE_MOMENT_H

#include "base/bytes.h"
#include "base/error.h"

enum far_moment_kind {
    FAR_MOMENT_NOW,
    FAR_MOMENT_SEQ,  /* value: the last event that is in */
    FAR_MOMENT_TIME, /* value: cluster time in ms; every event up to and at it is in */
};

struct far_moment {
    enum far_moment_kind kind;
    uint64_t value;
};

/* "<seq>" or RFC 3339: "2026-11-20T17:30:00Z", with fractions of a second and offsets like "+01:00". FAR_INVALID. */
int far_moment_parse(struct far_slice text, struct far_moment *ret_moment, struct far_error *err);

#endif
