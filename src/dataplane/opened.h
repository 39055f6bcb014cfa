/* A disk of a recovery point, opened to be read like a disk: any bytes, from several threads, with a cache of blocks. What the NBD
 * plugin (nbdkit_plugin.c) stands on.
 *
 * It reads a vault beside a running node, takes no lock and writes nothing. Every block is checked (XXH3, on demand SHA-256 too); a
 * damaged one is an error that names it, never data. */
#ifndef FAR_DATAPLANE_OPENED_H
#define FAR_DATAPLANE_OPENED_H

#include "dataplane/vault.h"

struct far_opened;

struct far_opened_options {
    uint64_t cache_bytes_max; /* of uncompressed blocks; 0 = 64 MiB; at least 1 MiB */
    const char *recovery_key_file; /* for a point in a keyed domain (domain.h); NULL: none */
    bool check_sha;           /* SHA-256 of every block that is read from the vault */
};

/* options NULL: defaults. FAR_NOT_FOUND: no such vault, point or disk. The caller closes it, when nobody reads any more. */
int far_opened_new(const char *vault_dir, uint64_t point_id, const char *disk, const struct far_opened_options *options,
                   struct far_opened **ret_opened, struct far_error *err);
void far_opened_close(struct far_opened *opened); /* NULL is allowed */

uint64_t far_opened_size(const struct far_opened *opened); /* bytes */
void far_opened_root(const struct far_opened *opened, struct far_hash256 *ret_root);
/* Any offset and length inside the disk. FAR_INVALID: outside; FAR_CORRUPT names what is damaged: nothing of the answer counts. */
int far_opened_read(struct far_opened *opened, void *ret_bytes, size_t length, uint64_t offset, struct far_error *err);
/* Reads these blocks into the cache, if they are not there. Damage is not told: whoever reads it will be. */
void far_opened_prefetch(struct far_opened *opened, uint64_t offset, uint64_t length);
/* Is it zeroes there, and how far does that go? At least to the end of its block; never beyond the disk. */
int far_opened_extent(struct far_opened *opened, uint64_t offset, bool *ret_zero, uint64_t *ret_length, struct far_error *err);

struct far_opened_stats {
    uint64_t hits, misses; /* blocks of reads that were in the cache, or came from the vault */
};
void far_opened_stats(struct far_opened *opened, struct far_opened_stats *ret_stats);

#endif
