/* Retention: which events are too old or too much, and what of the past goes with them. On a transaction; any thread. */
#ifndef FAR_LOG_RETAIN_H
#define FAR_LOG_RETAIN_H

#include "log/store.h"

enum { FAR_RETAIN_DAYS = 30 };
#define FAR_RETAIN_BYTES 50000000000ull
#define FAR_HISTORY_BYTES (16ull << 30) /* of the states of the past, on a server's disk */

/* The state's policy and decisions (zeroes: none), and its time. */
int far_retain_row(struct far_store_txn *txn, struct far_row_retention *ret_row, uint64_t *ret_now_ms, struct far_error *err);
/* The first event of this time or later, last_seq + 1 if there is none: time never runs backwards. */
int far_retain_first_since(struct far_store_txn *txn, uint64_t time_ms, uint64_t *ret_seq, struct far_error *err);
/* The first event that stays by the state's policy: those before are older than it says, or more than the disk may hold. It is
 * the first of an epoch, so that states of the past begin there. 0: nothing is to go. */
int far_retain_cut(struct far_store_txn *txn, uint64_t *ret_seq, struct far_error *err);
/* The cut that the log has decided: events before it go. 1: none. */
int far_retain_decided(struct far_store_txn *txn, uint64_t *ret_seq, struct far_error *err);

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
