/* Reclaim: giving back the space of what no point and no replica needs any more.
 *
 * The index counts, for each record, how often it is needed. A disk is a chain: its sealed points by number, at the end its replica.
 * Where neighbours of the chain hold the same at the same place of the tree, that is one need, however many points share it; so a
 * new or forgotten point changes counts only where it differs from its neighbours, and a pass costs what changed, not what is kept.
 * Counts are a cache like the rest of the index: lost, they are made anew from the manifests.
 *
 * A pass has a number that grows (the index in the log at which it was ordered). It
 *   1. marks: every open replica's tree becomes durable, and from here on each block that an offer finds is noted;
 *   2. counts: moved replicas, then new points, then forgotten points;
 *   3. quarantines what came since the last pass and is not needed, and what is needed no longer;
 *   4. deletes what an earlier pass quarantined (before `delete_before`) and nobody needs or found since: first it leaves the index,
 *      then its bytes are zeroed and the room is given back to the file system (a hole in the pack; a pack without a living record
 *      is removed; of one with few the living are moved).
 * Ingest goes on all the while. A point that is open (in this or any process: a shared flock on its manifest) is not counted out;
 * packs are moved only while no other process reads the vault. A pass that is killed at any place is ended by the next one.
 *
 * While a sealed point cannot be counted (a page of its tree is damaged, its domain's key is not here), what it needs is not known: then
 * nothing of its dedup domain is deleted; of none, while a manifest or a replica's file is damaged. The result names the first. Of a
 * domain that was destroyed everything is deleted. */
#ifndef FAR_DATAPLANE_RECLAIM_H
#define FAR_DATAPLANE_RECLAIM_H

#include "dataplane/vault.h"

struct far_reclaim_order {
    uint64_t pass;          /* above that of every earlier pass, or the last one's once more; FAR_CONFLICT otherwise */
    uint64_t delete_before; /* delete what passes before this one quarantined; at most `pass`; 0: nothing */
    bool secure;            /* overwrite what is deleted before its room is given back: for file systems and disks that write in place */
    uint32_t move_percent;  /* a pack of which at least so much is dead has its living records moved; 0 = 50, above 100 = never */
    uint32_t batch_max;     /* records in one transaction, while which nobody finds any; 0 = 2048, the most */
};

struct far_reclaim_progress {
    const char *phase;   /* "mark", "count", "quarantine", "delete", "move" */
    uint64_t done;       /* of this phase: points, records */
    uint64_t total;      /* 0: not known */
    uint64_t freed_bytes; /* so far */
};

enum { FAR_UNUSED_DISKS_MAX = 256 };
struct far_reclaim_result {
    uint64_t points_counted;      /* new ones */
    uint64_t points_released;     /* forgotten ones */
    uint64_t points_pinned;       /* forgotten ones that are open somewhere */
    uint64_t points_uncountable;  /* damaged or locked: nothing of their domains is deleted */
    uint64_t points_locked;       /* forgotten ones that hold on, because their domain's key is not here */
    uint64_t points_lost;         /* counted, but their manifests are gone without having been forgotten; what they need is kept */
    uint64_t quarantined_records; /* by this pass */
    uint64_t found_again_records; /* were in quarantine, are needed again */
    uint64_t deleted_records;
    uint64_t deleted_bytes; /* as stored, headers included */
    uint64_t freed_bytes;   /* given back to the file system */
    uint64_t moved_records;
    uint64_t packs_removed;
    uint64_t waiting_records; /* left in quarantine */
    char problem[512];      /* of the first uncountable point, in words; else of the vault's store; "" if none */
    size_t unused_disk_count; /* disks of a log whose replicas hold something, and no point is made of; those with a place here */
    uint64_t unused_disk_ids[FAR_UNUSED_DISKS_MAX];
};

/* One pass. progress (may be NULL) is called now and then, without locks; a result other than 0 ends the pass with FAR_CANCELED
 * at a place where the next one goes on. FAR_BUSY: another pass runs; FAR_INVALID, FAR_CONFLICT: the order is not good;
 * FAR_LIMIT: no space even for the index, nor with the vault's reserve given up (nothing is lost). *ret_result is filled in also
 * when it fails. */
int far_vault_reclaim(struct far_vault *vault, const struct far_reclaim_order *order,
                      int (*progress)(void *arg, const struct far_reclaim_progress *progress), void *arg,
                      struct far_reclaim_result *ret_result, struct far_error *err);
/* The number of the newest pass that began here; 0: none. */
int far_vault_reclaim_last(struct far_vault *vault, uint64_t *ret_pass, struct far_error *err);

/* Space of groups of points (plans). */
struct far_space {
    uint64_t logical_bytes; /* what is not zero in the newest point of each disk */
    uint64_t points_bytes;  /* the same over all points: what as many full copies would take */
    uint64_t unique_bytes;  /* stored, needed by this group alone: what forgetting all of it would free */
    uint64_t shared_bytes;  /* stored, needed by this group and another one */
    bool estimated;         /* from a sample of the records; about 1 % */
};
/* By the counts of the last pass: points that came since are not in it. FAR_NOT_FOUND: the group has no counted point. */
int far_vault_space(struct far_vault *vault, const uint64_t *plan_ids, size_t count, struct far_space *ret_spaces,
                    struct far_error *err);

#endif
