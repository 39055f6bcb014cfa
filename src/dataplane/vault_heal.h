/* Repair of a vault from another one: every block and page of a point is read and checked; what is damaged or gone is taken from the
 * other vault if that has it, checked (SHA-256), and put again. The damaged record stays where it is and is no longer pointed at. */
#ifndef FAR_DATAPLANE_VAULT_HEAL_H
#define FAR_DATAPLANE_VAULT_HEAL_H

#include "dataplane/vault.h"

struct far_heal_place {
    uint64_t point_id;
    const char *disk;
    uint64_t first_block; /* of the disk */
    uint64_t block_count; /* 1, those below a page of the tree, or all of the disk: its root */
    bool healed;
    const char *damage; /* what was wrong: pack, offset, id */
    const char *cause;  /* why it could not be repaired; "" if it was */
};
struct far_heal_options {
    void (*found)(void *arg, const struct far_heal_place *place);                              /* may be NULL */
    int (*progress)(void *arg, const char *disk, uint64_t blocks_done, uint64_t blocks);      /* may be NULL; not 0: FAR_CANCELED */
    void *arg;
};
struct far_heal_result {
    uint64_t blocks;  /* looked at; those of subtrees that are as in `since` not */
    uint64_t damaged; /* places */
    uint64_t healed;  /* of them */
};
/* One disk of a point of `vault`, which is open for writing. since (may be NULL): another root of the disk that was found or made whole
 * just now; subtrees that are as in it are skipped. Adds to *ret_result. 0 also when something stays damaged; durable with
 * far_vault_sync(). Blocks. FAR_DENIED: the key of the domain is missing here; where it is missing in `other` nothing is found there. */
int far_vault_heal(struct far_vault *vault, struct far_vault *other, const struct far_manifest *manifest, uint32_t disk,
                   const struct far_hash256 *since, const struct far_heal_options *options, struct far_heal_result *ret_result,
                   struct far_error *err);

#endif
