/* Shared by vault_ledger.c and vault_ledger_walk.c only: what a ledger holds in memory. */
#ifndef FAR_DATAPLANE_VAULT_LEDGER_PRIVATE_H
#define FAR_DATAPLANE_VAULT_LEDGER_PRIVATE_H

#include "dataplane/vault_ledger.h"

enum {
    FAR_LEDGER_SLOTS = 16384,      /* of the table of changed needs */
    FAR_LEDGER_DELTAS_MAX = 8192,  /* in it, before they are written: as many rows as a transaction takes */
    FAR_LEDGER_CHANGES_MAX = 256,  /* of chains */
    FAR_LEDGER_TREE_BYTES = 40,
    FAR_LEDGER_WALK_BYTES = 80,
};

enum far_ledger_kind {
    FAR_LEDGER_ADD = 1,
    FAR_LEDGER_REMOVE = 2,
    FAR_LEDGER_REPLACE = 3,
};

struct far_ledger_delta {
    struct far_hash256 id;
    int32_t change;
    bool used;
};

/* A row of a chain (height 0: it goes), or of a point. */
struct far_ledger_change {
    bool is_point;
    bool is_counted; /* a point */
    struct far_chain chain;
    uint64_t plan_id; /* of a point */
    uint64_t point_id;
    struct far_ledger_tree tree;
};

/* A walk under way. Pages have places in the order in which they are met: first block × 16 + 15 − level; 0 is the root record. */
struct far_ledger_walk {
    bool runs;
    bool undoes; /* takes back what a walk counted from 0 to `to` */
    enum far_ledger_kind kind;
    struct far_chain chain;
    uint64_t point_id;
    struct far_ledger_tree tree; /* that comes, goes, or takes the place of the one there */
    uint64_t from; /* places before this one are counted */
    uint64_t to;   /* and not from here on */
};

struct far_ledger {
    struct far_vault *vault;
    uint64_t pass;
    struct far_ledger_delta *slots;
    struct far_ledger_delta *sorted; /* for a commit */
    size_t delta_count;
    struct far_ledger_change changes[FAR_LEDGER_CHANGES_MAX];
    size_t change_count;
    struct far_ledger_walk walk;
    const struct far_domain *domain; /* of the walk */
    bool walk_noted; /* the index knows of it */
    bool given_up; /* counts are wrong, and the index says so */
    uint64_t quarantined;
    uint64_t quarantined_now; /* in the transaction under way */
};

/* vault_ledger.c */
void far_ledger_chain_key(struct far_chain chain, uint64_t point_id, struct far_index_key *ret_key);

/* vault_ledger_walk.c: tells every need that comes or goes between what is there before and after, from a place on and up to one. `from`
 * is where it came to, also when it fails. trees[i].height 0: none. */
struct far_ledger_walker {
    struct far_vault *vault;
    const struct far_domain *domain;
    uint64_t from;
    uint64_t to;
    void *arg;
    void (*count)(void *arg, const struct far_hash256 *hash, bool is_leaf, int change);
    /* Before a page: at most `count` calls come until the next one. */
    int (*make_room)(void *arg, uint64_t place, size_t count, struct far_error *err);
};
int far_ledger_walk_trees(struct far_ledger_walker *walker, const struct far_ledger_tree trees[3], const bool before[3],
                          const bool after[3], struct far_error *err);

#endif
