/* Apply: carry one committed raft entry over into a store.
 *
 * Decide, events, state and applied index change in the caller's write transaction, together or not at all. Entries come
 * in the order of their index without gaps. Used by the apply thread and by the simulator alike; does nothing but work on
 * the transaction. After any error the transaction must be given up; FAR_LIMIT (full disk) may be tried again, anything
 * else must stop the server before it answers anybody. */
#ifndef FAR_LOG_APPLY_H
#define FAR_LOG_APPLY_H

#include "log/envelope.h"
#include "log/history.h"

/* Called for each command of the entry in order; both are borrowed for the call. The transaction is not committed yet. */
typedef void (*far_apply_fn)(void *arg, unsigned position, const struct far_command *command,
                             const struct far_result *result);

/* Apply an entry with commands. FAR_CORRUPT: it is damaged, not the next one, or says another index or term than its
 * place; FAR_INVALID: of a newer version (see far_envelope_open). on_result may be NULL. */
int far_apply_commands(struct far_store_txn *txn, uint64_t index, uint64_t term, struct far_slice entry,
                       far_apply_fn on_result, void *arg, struct far_error *err);
/* Apply an entry that is to be skipped: whatever it holds does nothing, and the event entry_skipped stands for it. */
int far_apply_skip(struct far_store_txn *txn, uint64_t index, uint64_t term, struct far_slice entry, struct far_error *err);
/* Apply a barrier: only the applied index moves. */
int far_apply_barrier(struct far_store_txn *txn, uint64_t index, uint64_t term, struct far_error *err);
/* Apply a change of the raft configuration, kept as raft encoded it. */
int far_apply_configuration(struct far_store_txn *txn, uint64_t index, uint64_t term, struct far_slice configuration,
                            struct far_error *err);

/* What is kept from entry to entry where many are applied to the same state (far_store_txn.memory): the rows that they read and
 * wrote, decoded. Begins as zeroes. */
struct far_apply_memory {
    struct far_history history; /* private: what the rows lie on */
    struct far_rows *rows;
};
/* Whenever the state changes otherwise, or goes back to what it was. */
void far_apply_memory_forget(struct far_apply_memory *memory);

/* How soon what a command of this kind changed must be committed, answered or not. */
enum far_apply_haste {
    FAR_HASTE_NONE, /* it comes in masses, and nobody's next step hangs on one of them */
    FAR_HASTE_SOON, /* others act on what they find committed */
    FAR_HASTE_NOW,  /* whoever is let in, or no longer, learns it from the answer: the store must not tell another story */
};
enum far_apply_haste far_apply_haste(uint16_t kind);

#endif
