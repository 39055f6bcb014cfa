/* The history: what rows were before they changed, so that the state of any moment can be read without folding it from the
 * beginning.
 *
 * Events are cut into epochs of FAR_HISTORY_EPOCH events (and the rest of a raft entry): one begins at the first entry behind each
 * multiple of it. The first time in an epoch that a
 * row changes, what it was at the epoch's start is kept under (row's key, epoch), or that it was not there; so a row's value
 * at the start of an epoch is the one kept in this or the next epoch that changed it, and if none did, the present one. A
 * moment between is that, and an overlay on which the events since the epoch's start are folded: bounded in time and memory by
 * an epoch. It costs at most one more row for each that is written, and for one that changes often next to nothing.
 *
 * In the same transaction as the rows themselves (far_apply_commands). A server that installed a snapshot has a history from
 * there on. Not part of the digest: it may differ between servers. */
#ifndef FAR_LOG_HISTORY_H
#define FAR_LOG_HISTORY_H

#include "base/key_set.h"
#include "base/moment.h"
#include "log/store.h"

enum { FAR_HISTORY_EPOCH = 8192, FAR_HISTORY_RECORD = 80 };

/* ---- writing ---- */

/* The map of a write transaction that keeps what it overwrites. Borrows the transaction. */
struct far_history {
    struct far_kv kv; /* first */
    struct far_kv *rows;
    struct far_kv *kept;
    uint64_t epoch;
    struct far_key_set keys; /* of the rows that were kept in this epoch, if it began here */
    bool knows_keys;
    bool is_once;
};
/* Between entries: begins a new epoch if one is due. Without a history in the store (in memory) nothing is kept. */
int far_history_begin(struct far_history *history, struct far_store_txn *txn, struct far_error *err);
/* The same where one entry follows the other, in this transaction or in the next, and nobody else writes to the history's
 * present: what is known from the entry before is not looked for again. history: zeroes at first. */
int far_history_resume(struct far_history *history, struct far_store_txn *txn, struct far_error *err);
void far_history_done(struct far_history *history); /* of a far_history_resume(); zeroes again */

/* ---- reading ---- */

/* An epoch: the state behind the event `seq`. */
struct far_epoch {
    uint64_t seq;
    uint64_t index; /* with term: the last raft entry applied */
    uint64_t term;
    uint8_t head[FAR_HEAD_SIZE];
    struct far_hash128 digest;
};
/* The record of an epoch as it lies in the history. FAR_CORRUPT: not what was written. */
int far_epoch_decode(struct far_slice key, struct far_slice value, struct far_epoch *ret_epoch, struct far_error *err);
/* The newest epoch that starts at or before seq, or the oldest that starts behind it (UINT64_MAX: of all). FAR_NOT_FOUND:
 * none. */
int far_epoch_before(struct far_store_txn *txn, uint64_t seq, struct far_epoch *ret_epoch, struct far_error *err);
int far_epoch_after(struct far_store_txn *txn, uint64_t seq, struct far_epoch *ret_epoch, struct far_error *err);

/* The state of a past moment, on a transaction that outlives it. */
struct far_past {
    struct far_state state; /* to read, or to build overlays on */
    uint64_t seq;           /* of the last event that is in; 0: none */
    uint64_t index;         /* the raft entry that it came from */
    uint8_t head[FAR_HEAD_SIZE];
    uint64_t folded;        /* events since the epoch's start */
    void *base;             /* private: the rows at the epoch's start */
};
/* The last event of a moment, 0: it was before all. Whether the state behind it can be shown is not asked. FAR_NOT_FOUND: it is yet
 * to come, or before the oldest event here. */
int far_moment_seq(struct far_store_txn *txn, const struct far_moment *moment, uint64_t *ret_seq, struct far_error *err);
/* FAR_NOT_FOUND: the moment is yet to come, or this store no longer holds what it needs (or compacted it);
 * FAR_CORRUPT: an event or the chain is not what was written. */
int far_past_open(struct far_store_txn *txn, const struct far_moment *moment, struct far_past **ret_past,
                  struct far_error *err);
void far_past_close(struct far_past *past); /* NULL is allowed */
/* Fold the events up to seq (which must not be behind where it is), each checked against the chain. */
int far_past_forward(struct far_past *past, struct far_store_txn *txn, uint64_t seq, struct far_error *err);

/* The newest stretch of events from, to (inclusive) that begins before `before` and in which the row under key changed: an
 * epoch. FAR_NOT_FOUND: none that is known. */
int far_history_changed(struct far_store_txn *txn, struct far_slice key, uint64_t before, uint64_t *ret_from,
                        uint64_t *ret_to, struct far_error *err);

/* Everything that is kept, one row after the other; begins with zeroes. FAR_NOT_FOUND after the last; FAR_CORRUPT: the record
 * of an epoch is not what was written. */
struct far_history_walk {
    struct far_slice row; /* its key; until the next call */
    uint64_t epoch;
    bool is_whole; /* its checksum is right */
    uint8_t at[FAR_KV_KEY_MAX + 16]; /* private */
    size_t at_len;                   /* private */
};
int far_history_next(struct far_store_txn *txn, struct far_history_walk *walk, struct far_error *err);

#endif
