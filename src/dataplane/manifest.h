/* The manifest of a sealed point: all that is needed to recover a workload with nothing but the vault.
 *
 * A value: fixed arrays, no ownership. The bytes are in docs/FORMATS.md: checksummed (XXH3, for damage) and signed with
 * the Ed25519 key that the vault made for itself (for adversaries). */
#ifndef FAR_DATAPLANE_MANIFEST_H
#define FAR_DATAPLANE_MANIFEST_H

#include "base/buf.h"
#include "dataplane/captured.h"
#include "dataplane/map.h"

enum { FAR_MANIFEST_DISKS_MAX = 60, FAR_MANIFEST_RECOVERY_MAX = 4096, FAR_MANIFEST_BYTES_MAX = 65536 };

struct far_manifest_disk {
    uint64_t disk_index;
    uint64_t disk_id;
    char name[64];
    uint64_t size_bytes;
    struct far_hash256 root;
};

struct far_manifest {
    uint8_t cluster_uuid[16];
    uint64_t incarnation_epoch;
    uint64_t plan_id;
    char plan[64];
    uint64_t plan_epoch;
    char site[64]; /* the protected one */
    uint64_t workload_id;
    char workload[64];
    uint64_t point_id;
    uint64_t checkpoint_id;
    uint64_t job_id;
    uint64_t frozen_at_ms;
    bool fuzzy; /* nothing was frozen: blocks may be of different moments */
    uint32_t disk_count;
    struct far_manifest_disk disks[FAR_MANIFEST_DISKS_MAX];
    /* What the machine was, one frame of zstd and the SHA-256 of its text (captured.h); and how it is to be brought up, as the log has it:
     * sub recovery_kept, encoded. 0 long: not known. No part of what the point is: far_manifest_same() does not look at them. */
    uint8_t config_sha256[32];
    uint32_t config_len;
    uint8_t config[FAR_CAPTURED_BYTES_MAX];
    uint32_t recovery_len;
    uint8_t recovery[FAR_MANIFEST_RECOVERY_MAX];
    uint8_t domain_uuid[16]; /* dedup domain (domain.h) of its disks; all zero: the plain one */
    /* filled in by the vault */
    uint16_t domain_number; /* in it; 0: the plain one */
    uint64_t created_at_ms;
    uint64_t pack;        /* everything before this position of the packs was durable then */
    uint64_t pack_offset;
    uint8_t vault_uuid[16];
    uint8_t public_key[32];
    uint8_t signature[64];
};

/* The signed part of a manifest, appended to buf. FAR_INVALID: more disks than the maximum, or a string that is empty
 * where it must not be; FAR_LIMIT: buf is full. */
int far_manifest_encode(const struct far_manifest *manifest, struct far_buf *buf, struct far_error *err);
/* Bytes of a whole manifest file into a value; checks magic, version, lengths and the checksum, not the signature.
 * Pure. FAR_CORRUPT says where it is wrong. */
int far_manifest_decode(struct far_slice file, struct far_manifest *ret_manifest, struct far_error *err);
/* encode and sign with the seed of an Ed25519 key: the whole file. public_key and signature are set in manifest. */
int far_manifest_sign(struct far_manifest *manifest, const uint8_t seed[32], struct far_buf *buf,
                      struct far_error *err);
/* Is the file signed by the key in it, and is that key `public_key`? FAR_CORRUPT if not. */
int far_manifest_verify(struct far_slice file, const uint8_t public_key[32], struct far_error *err);
/* Do both say the same of the same point (all fields but those filled in by the vault, and what its machine is)? */
bool far_manifest_same(const struct far_manifest *a, const struct far_manifest *b);

#endif
