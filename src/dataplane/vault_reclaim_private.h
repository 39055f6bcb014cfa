/* Shared by vault_reclaim.c, vault_quarantine.c and vault_bury.c: a pass of reclaim under way. */
#ifndef FAR_DATAPLANE_VAULT_RECLAIM_PRIVATE_H
#define FAR_DATAPLANE_VAULT_RECLAIM_PRIVATE_H

#include "dataplane/reclaim.h"
#include "dataplane/vault_ledger.h"

enum { FAR_RECLAIM_BATCH_MAX = 2048 };

struct far_reclaim {
    struct far_vault *vault;
    struct far_reclaim_order order;
    int (*progress)(void *arg, const struct far_reclaim_progress *progress);
    void *arg;
    struct far_reclaim_progress now;
    struct far_reclaim_result *result;
    bool moves, removes;         /* of packs: what is done in this round */
    bool blocks_all;             /* what somebody needs is not known at all */
    bool blocks_some;
    uint8_t blocked[65536 / 8];  /* bits of domains in which that is not known */
    uint64_t destroyed_count;
    uint8_t destroyed[65536 / 8]; /* bits of domains that were destroyed */
};

static inline bool far_domain_bit(const uint8_t bits[65536 / 8], uint16_t domain)
{
    return (bits[domain / 8] >> (domain % 8) & 1) != 0;
}
static inline void far_domain_set_bit(uint8_t bits[65536 / 8], uint16_t domain)
{
    bits[domain / 8] |= (uint8_t)(1u << (domain % 8));
}

/* Tells how far the pass is; FAR_CANCELED if it is to end. */
int far_reclaim_tell(struct far_reclaim *reclaim, const char *phase, uint64_t done, uint64_t total, struct far_error *err);

/* vault_quarantine.c */
/* What came since the last sweep, up to the mark, and is not needed: into quarantine. */
int far_reclaim_sweep(struct far_reclaim *reclaim, struct far_error *err);
/* What is in quarantine since before order.delete_before leaves the index, unless it is needed or was found. */
int far_reclaim_delete(struct far_reclaim *reclaim, struct far_error *err);

/* vault_bury.c */
/* What nobody names any more: zeroed, its room given back. */
int far_reclaim_bury(struct far_reclaim *reclaim, struct far_error *err);
/* Packs without a living record go; of those with few the living are moved. */
int far_reclaim_move(struct far_reclaim *reclaim, struct far_error *err);

#endif
