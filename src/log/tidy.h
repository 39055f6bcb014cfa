/* Tidying a store: what has to go, a piece at a time, so that no transaction of it lasts long.
 *
 * Events before the cut that the log decided (retain.h; states of the past begin anew if none leads on from there), payloads of
 * progress in rows (compact.h), rows that a segment holds, states of the past that nothing leads on from. On the
 * thread that writes the store, between entries. */
#ifndef FAR_LOG_TIDY_H
#define FAR_LOG_TIDY_H

#include "log/retain.h"
#include "log/segments.h"

enum { FAR_TIDY_ROWS = 2048 };

struct far_tidy {
    bool more;        /* there may be more to do at once */
    bool files_to_go; /* files of segments may go now: their records are gone, durably */
};

/* Do a piece, in a transaction of its own, given up if there is nothing to do. walk: kept between the pieces, zeroes at
 * first. */
int far_tidy(struct far_store *store, struct far_retain_walk *walk, struct far_tidy *ret_tidy, struct far_error *err);

#endif
