/* Retention: which events are too old or too much, and what of the past goes with them. On a transaction; any thread. */
#ifndef FAR_LOG_RETAIN_H
#define FAR_LOG_RETAIN_H

#include "log/store.h"

#define FAR_HISTORY_BYTES (16ull << 30) /* of the states of the past, on a server's disk */

/* The state's policy and decisions (zeroes: none), and the time by which events are old: the state's, but where most clocks are
 * behind it, theirs, and 0 as long as nobody knows which clocks are right. */
int far_retain_row(struct far_store_txn *txn, struct far_row_retention *ret_row, uint64_t *ret_now_ms, struct far_error *err);
/* The first event of this time or later, last_seq + 1 if there is none: time never runs backwards. */
int far_retain_first_since(struct far_store_txn *txn, uint64_t time_ms, uint64_t *ret_seq, struct far_error *err);
struct far_retain_cut {
    uint64_t seq;     /* the first event that stays; 0: nothing is to go */
    uint64_t time_ms; /* of the event before it, if that is older than the policy says; else 0 */
    uint64_t bytes;   /* if not for their age they go because they do not fit in so many */
};
/* What is to go by the state's policy. Of events that are not here: only if older ones than the policy says are here that came
 * after them, never because of their size. All servers have an epoch that begins there (but who installed its state later), so
 * states of the past begin there, too. */
int far_retain_cut(struct far_store_txn *txn, struct far_retain_cut *ret_cut, struct far_error *err);
/* The cut that the log has decided: events before it go. 1: none. */
int far_retain_decided(struct far_store_txn *txn, uint64_t *ret_seq, struct far_error *err);

/* After a cut where no state of the past begins, none of those that are kept leads on to the present any more: then one begins
 * now, so that moments from now on can be shown. *ret_begun: it was so. Between entries. */
int far_retain_begin_states(struct far_store_txn *txn, bool *ret_begun, struct far_error *err);

/* How far a walk that removes old states has come; zeroes: none is under way. */
struct far_retain_walk {
    uint64_t floor;  /* states before this epoch go; 0: none is under way */
    uint64_t filled; /* store->history_filled when it began */
    uint8_t at[FAR_KV_KEY_MAX + 16];
    size_t at_len;
};
/* A walk ends where states of the past came from another server since it began: it would take them away again, row by row.
 * Remove some of the states that no event leads on from, or that are more than bytes_max: their records first, so that
 * nobody reads from what is no longer whole; at most max rows. *ret_changed: something was removed, *ret_more: call again. */
int far_retain_history(struct far_store_txn *txn, struct far_retain_walk *walk, uint64_t bytes_max, size_t max,
                       bool *ret_changed, bool *ret_more, struct far_error *err);

#endif
