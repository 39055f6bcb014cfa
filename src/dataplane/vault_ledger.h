/* How often each record is needed: see reclaim.h. Private to the vault.
 *
 * The trees of a disk in one dedup domain form a chain: its counted points by number, then its replica. At one place of the tree (a
 * level and an index in it), a run of neighbours that hold the same is one need of that record. Putting a tree between two others,
 * taking it out, or moving the replica on changes needs only where it differs from both, which a walk over three trees at once finds,
 * skipping what is the same. What a walk finds gathers in memory and goes into the index with the changed chain in one transaction; a
 * walk that finds more is written down half way, with its place, and goes on there after a crash.
 *
 * A ledger is used by one pass, on one thread. */
#ifndef FAR_DATAPLANE_VAULT_LEDGER_H
#define FAR_DATAPLANE_VAULT_LEDGER_H

#include "dataplane/vault_private.h"

#define FAR_LEDGER_REPLICA UINT64_MAX /* as the point of a chain: the disk's replica, behind all points */

struct far_chain {
    uint64_t disk_id;
    uint16_t domain; /* number in this vault; 0: the plain one */
};

/* A tree of a chain. height 0: there is none. */
struct far_ledger_tree {
    unsigned height;
    uint64_t size_bytes;
    struct far_hash256 top;
};
void far_ledger_tree_set(struct far_ledger_tree *ret_tree, uint64_t size_bytes, const struct far_hash256 *top);

struct far_ledger;

/* Goes on first with what a crash or a cancel interrupted. FAR_CORRUPT: counts are wrong; they are made anew when the vault is opened
 * next. */
int far_ledger_open(struct far_vault *vault, uint64_t pass, struct far_ledger **ret_ledger, struct far_error *err);
/* Drops what was not committed. NULL is allowed. */
void far_ledger_close(struct far_ledger *ledger);
/* Everything counted so far is in the index. */
int far_ledger_commit(struct far_ledger *ledger, struct far_error *err);
bool far_ledger_gave_up(const struct far_ledger *ledger); /* counts are wrong: nothing more can be done with it but to close it */
uint64_t far_ledger_quarantined(const struct far_ledger *ledger); /* records that are needed no longer, since opened */

/* The disk of a point comes into its chain; of FAR_LEDGER_REPLICA: takes the place of the tree that was there. Nothing to do: 0.
 * FAR_CORRUPT, FAR_NOT_FOUND: a page of the tree cannot be read; FAR_DENIED: the domain's key is not here; FAR_CONFLICT: the domain was
 * destroyed. Nothing was counted then. */
int far_ledger_add(struct far_ledger *ledger, struct far_chain chain, uint64_t point_id, const struct far_ledger_tree *tree,
                   struct far_error *err);
/* It goes. Nothing there: 0. A page that cannot be read: FAR_CORRUPT; counts are made anew when the vault is opened next. FAR_DENIED and
 * FAR_CONFLICT as above. */
int far_ledger_remove(struct far_ledger *ledger, struct far_chain chain, uint64_t point_id, struct far_error *err);
/* A tree of a destroyed domain leaves the chain, uncounted: its records are deleted whoever needs them. */
int far_ledger_drop(struct far_ledger *ledger, struct far_chain chain, uint64_t point_id, struct far_error *err);
/* That a point is counted, or no longer: with the next commit, as its chains. */
int far_ledger_note_point(struct far_ledger *ledger, uint64_t point_id, uint64_t plan_id, bool is_counted, struct far_error *err);
bool far_ledger_has_point(struct far_vault *vault, uint64_t point_id);
void far_ledger_point_key(uint64_t point_id, struct far_index_key *ret_key); /* value: plan id, u64 */
/* The next row of the chain at or behind *point_id. FAR_NOT_FOUND. */
int far_ledger_next(struct far_vault *vault, struct far_chain chain, uint64_t *point_id, struct far_ledger_tree *ret_tree,
                    struct far_error *err);

/* Single values in the index: 'b' counts are wrong, 'p' number of the last pass, 's' swept up to here, 'd' destroyed domains swept. */
int far_ledger_word(struct far_vault *vault, char name, uint8_t ret_value[16], struct far_error *err); /* FAR_NOT_FOUND: zeroes */
int far_ledger_set_word(struct far_vault *vault, char name, const uint8_t value[16], struct far_error *err);

#endif
