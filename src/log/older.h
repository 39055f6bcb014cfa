/* Events that a store holds apart from the others: those from before a state that was installed.
 *
 * Who gets a state from another server has its events up to then, none between them and the state, and those that follow it. The
 * first ones stay, as stretches of the chain; the events between are fetched, and where they reach a stretch it is taken up again.
 * Nobody reads a stretch before. Were the events dropped, the oldest of the whole cluster could go with them, when no other
 * server had fetched those yet. */
#ifndef FAR_LOG_OLDER_H
#define FAR_LOG_OLDER_H

#include "log/store.h"

/* What was [first_seq, last_seq] becomes a stretch; before the meta becomes that of a state whose last event is `seq`. If some are
 * behind that (a log that went another way), or no stretch is free, they are given up: far_older_remove() takes the rows. */
int far_older_keep(struct far_store_txn *txn, uint64_t seq, struct far_error *err);

/* Where the newest stretch ends right before first_seq: take it up if the chain leads from it to there, else give it up. FAR_IO,
 * FAR_LIMIT: it could not be read, which says nothing of it. After
 * first_seq went down, or the meta became that of a state. */
int far_older_join(struct far_store_txn *txn, struct far_error *err);

/* Stretches end where the events before seq are let go. */
int far_older_cut(struct far_store_txn *txn, uint64_t seq, struct far_error *err);

/* The first event that is held, in a stretch or not. */
static inline uint64_t far_older_first(const struct far_store_meta *meta)
{
    return meta->older_count > 0 ? meta->older[0].first_seq : meta->first_seq;
}

/* How many events of stretches are in no segment. */
int far_older_rows(struct far_store_txn *txn, uint64_t *ret_count, struct far_error *err);

/* Remove rows before first_seq that no stretch holds, at most max. */
int far_older_remove(struct far_store_txn *txn, size_t max, size_t *ret_count, struct far_error *err);

#endif
