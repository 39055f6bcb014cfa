/* A dedup domain of a vault: the plans that share a key, and so store equal blocks once (DESIGN.md section 9).
 *
 * The plain domain, NULL everywhere, is what a vault without keys has: ids are the hashes themselves, payloads lie there as they are.
 * In a keyed domain an id is HMAC-SHA-256 of the hash, and payloads are encrypted with a data key of the pack. What a tree is made of
 * (leaves, hashes of pages, roots) stays SHA-256 in each: only the names in the store differ. One vault holds several domains; whoever
 * lacks the key of one can use the others, rebuild the index and walk the packs all the same.
 *
 * Domains belong to their vault: they are opened with far_vault_domain_open() and stay until the vault is closed. Any thread. */
#ifndef FAR_DATAPLANE_DOMAIN_H
#define FAR_DATAPLANE_DOMAIN_H

#include "dataplane/map.h"

struct far_domain;

/* The name in the store of what has this hash. NULL: the hash itself. */
void far_domain_id(const struct far_domain *domain, const struct far_hash256 *hash, struct far_hash256 *ret_id);
/* Its number in this vault, from 1; 0: the plain one. */
uint16_t far_domain_number(const struct far_domain *domain);
/* All zero bytes for the plain one. */
void far_domain_uuid(const struct far_domain *domain, uint8_t ret_uuid[16]);

#endif
