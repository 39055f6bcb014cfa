/* What differs between two points of a disk: a walk down both trees that skips what is equal, so it costs what changed.
 *
 * A disk that grew was zero there before; one that shrank is compared up to its new end. Any thread. */
#ifndef FAR_DATAPLANE_VAULT_DIFF_H
#define FAR_DATAPLANE_VAULT_DIFF_H

#include "dataplane/vault.h"

/* A result other than 0 ends the walk and is returned. Blocks come in the order of the disk. */
typedef int far_vault_diff_fn(void *arg, uint64_t block, const struct far_hash256 *before, const struct far_hash256 *after,
                              struct far_error *err);
/* vault: that of `after`; `before` may lie in another. before NULL: an empty disk.
 * FAR_CORRUPT, FAR_NOT_FOUND: a page of either tree is damaged or gone. */
int far_vault_diff(struct far_vault *vault, struct far_point *before, struct far_point *after, far_vault_diff_fn *each, void *arg,
                   struct far_error *err);

#endif
