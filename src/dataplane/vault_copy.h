/* Copies of points in a second vault, by tree difference: only what the second one does not have is read and written.
 *
 * Each disk has a replica of its own in the target (under a number that the log never gives), which after a copy is as the copied point
 * was; the next copy walks both trees and skips equal subtrees, so it costs what changed. That replica also holds what a copy brought
 * so far against reclaim, and from its last checkpoint a copy that was ended goes on. The tree in the target is made anew from the leaves,
 * never copied, and its root must come out as the source's manifest says; every block that is read is checked (SHA-256). Then
 * the target seals: its own signature, the rest of the manifest as it was. Memory: some MiB, whatever the sizes.
 *
 * A domain with keys must be unlocked in both; where the target has none, it is made (far_vault_domain_carry). Blocks of it are
 * encrypted anew, with the target's keys. */
#ifndef FAR_DATAPLANE_VAULT_COPY_H
#define FAR_DATAPLANE_VAULT_COPY_H

#include "dataplane/vault.h"

struct far_copy_options {
    uint64_t checkpoint_blocks; /* between checkpoints; 0 = 4096 */
    /* May be NULL; another result than 0 cancels (FAR_CANCELED; what was copied so far stays for the next run). blocks: of the disk */
    int (*progress)(void *arg, const char *disk, uint64_t blocks_done, uint64_t blocks);
    void *arg;
};
struct far_copy_result {
    bool was_there;          /* the target had the point already, and nothing was done */
    uint64_t blocks_changed; /* differ from what the replica in the target was: looked at */
    uint64_t blocks_copied;  /* of them: read and stored */
    uint64_t bytes_copied;   /* of them, as stored */
};
/* One sealed point of `source` into `target`, which is open for writing. Blocks. The same again is no error.
 * FAR_NOT_FOUND: no such point; FAR_CORRUPT: a block or page of the source is damaged, the message
 * names it with disk and point, nothing was sealed; FAR_CONFLICT: the target has another point under this number, or forgot it;
 * FAR_INVALID: both are the same vault; FAR_DENIED: the key of the domain is missing on one side; FAR_LIMIT: no space.
 * *ret_result is filled in also when it fails. */
int far_vault_copy(struct far_vault *source, struct far_vault *target, uint64_t point_id, const struct far_copy_options *options,
                   struct far_copy_result *ret_result, struct far_error *err);
/* The number of the replica in a target that copies of this disk are made by. */
uint64_t far_copy_replica_id(const uint8_t cluster_uuid[16], uint64_t disk_id);

#endif
