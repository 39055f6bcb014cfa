/* Compaction: progress that was superseded long ago loses its payloads; header, hash of the payload and place in the chain stay.
 *
 * Reports of nodes (events node_reported) say nothing but how far tasks were and that leases go on: later reports, results and
 * lost leases supersede them. The leader finds how far they are older than the policy says (30 days), at the start of an epoch
 * (history.h), and the log decides it (progress_compact), so all servers compact the same events: those of this kind up to that
 * one whose payload is longer than its hash.
 *
 * No fold may need what is gone. Folds begin at epochs of the server's own history, so a server compacts no further than its
 * newest epoch at or before what was decided (the bound); epochs begin at the same events on all servers, but for that at which
 * a snapshot was installed. States before the bound can be shown at the starts of epochs, and between them as far as no
 * compacted event was.
 *
 * Carried out from the oldest event on: rows a piece at a time by whoever writes the store (tidy.h), a segment by writing it anew
 * beside the old one (any one thread) and taking it in one transaction. meta->compacted_seq says how far it is, in the same
 * transactions, so a crash between any two steps leaves every event readable and the work is taken up where it was. What is
 * fetched later is compacted when it is stored. */
#ifndef FAR_LOG_COMPACT_H
#define FAR_LOG_COMPACT_H

#include "log/segment.h"
#include "log/store.h"

/* ---- what is decided ---- */

/* Up to which event the log decided it; 0: nothing. */
int far_compact_decided(struct far_store_txn *txn, uint64_t *ret_seq, struct far_error *err);
/* Up to which event this server may do it now. */
int far_compact_bound(struct far_store_txn *txn, uint64_t *ret_seq, struct far_error *err);
/* The event that decided that what may be compacted up to event seq is. FAR_NOT_FOUND: none did, or it is too far from the states of
 * the past that this server has. */
int far_compact_decider(struct far_store_txn *txn, uint64_t seq, uint64_t *ret_decider, struct far_error *err);
/* What the leader is to propose: an epoch's start that is old enough, and its event's time. It must be events_min events further
 * than what was decided, or something waits for a day longer than the policy says. 0: nothing. */
int far_compact_look(struct far_store_txn *txn, uint64_t events_min, uint64_t *ret_seq, uint64_t *ret_time_ms,
                     struct far_error *err);
/* The oldest state from which all events can be folded: of an epoch, or of nothing (*ret_seq 0). FAR_NOT_FOUND: there is none. */
int far_compact_base(struct far_store_txn *txn, uint64_t *ret_seq, struct far_error *err);

/* ---- carrying it out ---- */

enum far_compact_next { FAR_COMPACT_NOTHING, FAR_COMPACT_ROWS, FAR_COMPACT_SEGMENT };
int far_compact_next(struct far_store_txn *txn, enum far_compact_next *ret_next, struct far_error *err);
/* Compact at most max of the next rows, in a write transaction. *ret_changed: there is something to commit; *ret_more: call
 * again. */
int far_compact_rows(struct far_store_txn *txn, size_t max, bool *ret_changed, bool *ret_more, struct far_error *err);

/* A segment that is written anew; one at a time, by any one thread. */
struct far_compactor;
struct far_compacted {
    struct far_segment before, after; /* the same if nothing in it was to be compacted */
    uint64_t until;                   /* up to here it is */
};
/* FAR_NOT_FOUND: the next that is to be compacted is in no segment, or there is nothing. */
int far_compactor_new(struct far_store *store, struct far_compactor **ret_compactor, struct far_error *err);
/* Copy some more. *ret_done: the file is whole and durable, and ret_compacted says what it is. FAR_LIMIT: the disk is full. */
int far_compactor_step(struct far_compactor *compactor, bool *ret_done, struct far_compacted *ret_compacted,
                       struct far_error *err);
/* Removes what is not whole. NULL is allowed. */
void far_compactor_free(struct far_compactor *compactor);
/* Put it in the place of the old one, in a write transaction. The old one's file may go when that is durable. FAR_CONFLICT: the
 * store does not hold the old one (any more). */
int far_compact_take(struct far_store_txn *txn, const struct far_compacted *compacted, struct far_error *err);

/* All there is to do: for tools and tests. */
int far_compact_all(struct far_store *store, struct far_error *err);

#endif
