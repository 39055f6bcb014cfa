/* Whose a vault is, and how another cluster takes it over.
 *
 * A vault belongs to one cluster, which is written in its file `owner`: nodes of any other cluster refuse to work with it. So when the
 * owner is gone for good, with all of its servers, another cluster adopts the vault: from then on it is that one's, and nodes of the
 * former owner refuse it, should they come back.
 *
 * Everything in a vault is named by numbers that its first owner's log gave: points, disks, plans, workloads, checkpoints. The new owner
 * has objects with the same numbers. Nothing in the vault is renamed for that: the new owner's log sets a base and a span aside
 * (fsm/job_adopt.c), and numbers are exchanged where orders come in and reports go out. What the vault calls n, for 0 < n < span, the log
 * calls base + n, and the reverse: the few objects that the log itself calls n the vault calls base + n. base is a multiple of span, so
 * this is one-to-one, and the same function both ways. Numbers of imports and copies (the highest bit set) are no part of it.
 *
 * A vault without that file is from before it was written (or a copy): it is its manifests' cluster's. Where they do not say (v0.1.0), it
 * is assumed to be the cluster's whose node opens it, and remembered that this was an assumption. */
#ifndef FAR_DATAPLANE_VAULT_OWNER_H
#define FAR_DATAPLANE_VAULT_OWNER_H

#include "dataplane/vault.h"

struct far_vault_owner {
    uint8_t cluster_uuid[16];
    uint8_t former_uuid[16]; /* before it was adopted */
    uint64_t base, span;     /* 0: it was not adopted, numbers are the log's */
    bool adopting;           /* fences of the former owner are still in force: nothing but the adoption goes on */
    bool assumed;
};

/* Of a node of this cluster that opens the vault for writing: the owner; written down if nobody was. FAR_CORRUPT: the file is damaged. */
int far_vault_owner_claim(struct far_vault *vault, const uint8_t cluster_uuid[16], struct far_vault_owner *ret_owner,
                          struct far_error *err);
/* As it is written. FAR_NOT_FOUND: it is not; FAR_CORRUPT. */
int far_vault_owner_read(const struct far_vault *vault, struct far_vault_owner *ret_owner, struct far_error *err);
/* FAR_CONFLICT: it is another cluster's; FAR_BUSY: it is being adopted. */
int far_vault_owner_check(const struct far_vault *vault, const struct far_vault_owner *owner, const uint8_t cluster_uuid[16],
                          struct far_error *err);
/* Takes the vault over, durably: the owner is written first, then the replicas' fences go, which the former owner's epochs and jobs set.
 * *owner is what it was, and becomes what it is. Done already: 0. */
int far_vault_adopt(struct far_vault *vault, const uint8_t cluster_uuid[16], uint64_t base, uint64_t span,
                    struct far_vault_owner *owner, struct far_error *err);
/* What the log calls a number of the vault, and the vault one of the log. */
uint64_t far_vault_owner_exchange(const struct far_vault_owner *owner, uint64_t number);

/* What the log has to know before it sets numbers aside. */
struct far_vault_survey {
    uint8_t vault_uuid[16];
    uint64_t highest; /* number of a point, disk, plan, workload, checkpoint or job, as far as files and manifests say */
    uint64_t point_count;
};
int far_vault_survey(struct far_vault *vault, struct far_vault_survey *ret_survey, struct far_error *err);

/* A portion of the points, ascending. */
enum { FAR_ADOPTED_MAX = 32, FAR_ADOPTED_DISKS_MAX = 120, FAR_ADOPTED_CONFIG_BYTES_MAX = 40 * 1024 };
struct far_adopted_point {
    struct far_manifest manifest;
    uint64_t lock_until_ms;
};
struct far_adopted {
    uint64_t after; /* the next portion is behind this point */
    bool ended;
    uint64_t damaged;    /* manifests: unreadable, not signed by this vault, or without what they name */
    uint64_t unreadable; /* points in domains whose keys are not here */
    char problem[400];   /* of the first of either; "" */
    size_t count;
    struct far_adopted_point points[FAR_ADOPTED_MAX];
};
/* Of points behind `after`, those of plans with these names (none: all). Of each the signature is checked, and that every disk's root is
 * here with its size. */
int far_vault_adopted(struct far_vault *vault, uint64_t after, const char *const *plans, size_t plan_count, struct far_adopted *ret_adopted,
                      struct far_error *err);

#endif
