/* A dedup domain of a vault: the plans that share a key, and so store equal blocks once (DESIGN.md section 9).
 *
 * The plain domain, NULL everywhere, is what a vault without keys has: ids are the hashes themselves, payloads lie there as they are.
 * In a keyed domain an id is HMAC-SHA-256 of the hash, and payloads are encrypted with a data key of the pack. What a tree is made of
 * (leaves, hashes of pages, roots) stays SHA-256 in each: only the names in the store differ. One vault holds several domains; whoever
 * lacks the key of one can use the others, rebuild the index and walk the packs all the same.
 *
 * Keys. The domain's *secret* never changes: ids come from it. The *key* (KEK) comes with each order, in generations; it seals the file
 * domains/<uuid>.domain of a vault, and that is all it does. In there are the secret and the vault's own random *wrapping keys*, from
 * which the data key of each pack is derived. So a new generation costs one small file: it is sealed anew, and packs from then on get a
 * new wrapping key. The same is sealed to the cluster's recovery key too. Data of a domain whose file is gone is gone.
 *
 * Domains belong to their vault: far_vault_domain_open() gives them, they stay until the vault is closed. Any thread. */
#ifndef FAR_DATAPLANE_DOMAIN_H
#define FAR_DATAPLANE_DOMAIN_H

#include "dataplane/map.h"

struct far_domain;
struct far_id_key;
struct far_vault;

enum {
    FAR_DOMAIN_NAME_MAX = 63,
    FAR_DOMAINS_MAX = 256,     /* of a vault; beyond: FAR_LIMIT */
    FAR_DOMAIN_KEYS_MAX = 64,  /* wrapping keys of a domain; further generations share the last one */
};

/* What an order brings. */
struct far_domain_keys {
    uint8_t uuid[16];
    char name[FAR_DOMAIN_NAME_MAX + 1];
    uint8_t secret[32];      /* never changes */
    uint32_t generation;     /* of key, from 1 */
    uint8_t key[32];
    uint32_t old_generation; /* an older one, for a vault that has not seen the newest yet; 0: none */
    uint8_t old_key[32];
    bool has_recovery_key;
    uint8_t recovery_public[32]; /* to which the domain's file is sealed too */
};

/* The domain in this vault: unlocked with these keys, made if there is none (not read-only), and brought to the newest generation,
 * durably, if its file has an older one. *ret_domain is good until the vault is closed.
 * FAR_DENIED: the keys do not open it (the message names the domain); FAR_NOT_FOUND: read-only, and there is none; FAR_CONFLICT: it was
 * destroyed; FAR_CORRUPT: its file is damaged; FAR_LIMIT: FAR_DOMAINS_MAX. */
int far_vault_domain_open(struct far_vault *vault, const struct far_domain_keys *keys, const struct far_domain **ret_domain,
                          struct far_error *err);
/* Unlocks every domain of the vault that is sealed to this recovery key. FAR_DENIED: there are some, and it opens none. */
int far_vault_domains_recover(struct far_vault *vault, const uint8_t recovery_private[32], struct far_error *err);
/* The same with the recovery key in a file, as it was printed at init; NULL: nothing is unlocked. Or the file has the keys of one domain in
 * a line, as a node hands them to its own children in memory: this word, UUID, secret and key (hexadecimal), generation, the
 * cluster's public recovery key or "-", name. */
#define FAR_DOMAIN_KEYS_LINE "farshore-domain-keys "
int far_vault_unlock_from(struct far_vault *vault, const char *recovery_key_file, struct far_error *err);
/* When the keys that orders bring are older than the vault's (the cluster was restored from a backup): the next order opens every domain
 * that the recovery key opens, whatever its generation, and seals it with its own key again. *ret_count: how many. Errors as above. */
int far_vault_domains_reset(struct far_vault *vault, const char *recovery_key_file, size_t *ret_count, struct far_error *err);
/* The secret of an unlocked domain, for another cluster that adopts the vault (vault_owner.h). Wipe it. FAR_DENIED: it is locked. */
int far_vault_domain_secret(struct far_vault *vault, const uint8_t uuid[16], uint8_t ret_secret[32], struct far_error *err);
/* A domain that is unlocked in another vault is made in this one: the same secret, wrapping keys of its own, sealed to the recovery key
 * and as after far_vault_domains_reset(). FAR_CONFLICT: there is one. Other errors as for far_vault_domain_open(). */
int far_vault_domain_carry(struct far_vault *vault, const struct far_domain *from, const struct far_domain **ret_domain,
                           struct far_error *err);
/* The keys of the domain leave this vault for good; its data can never be read again. Nothing that is there is no error. */
int far_vault_domain_destroy(struct far_vault *vault, const uint8_t uuid[16], struct far_error *err);

/* The unlocked domain with this uuid (all zero bytes: the plain one, *ret_domain NULL). FAR_DENIED: its key is not here, or its file is
 * damaged; FAR_CONFLICT: destroyed; FAR_NOT_FOUND: no such domain in this vault. The message names it. */
int far_vault_domain_find(struct far_vault *vault, const uint8_t uuid[16], const struct far_domain **ret_domain,
                          struct far_error *err);
/* The same by its number in this vault. */
int far_vault_domain_numbered(struct far_vault *vault, uint16_t number, const struct far_domain **ret_domain,
                              struct far_error *err);

/* Are its keys gone from this vault, the file and its copy both damaged or missing? Then nothing of it can be read, whoever brings a
 * key. */
bool far_vault_domain_is_lost(struct far_vault *vault, const uint8_t uuid[16], struct far_error *err);
enum far_domain_access { FAR_DOMAIN_LOCKED, FAR_DOMAIN_UNLOCKED, FAR_DOMAIN_DESTROYED, FAR_DOMAIN_DAMAGED };
struct far_domain_info {
    uint8_t uuid[16];
    uint16_t number;
    char name[FAR_DOMAIN_NAME_MAX + 1];
    enum far_domain_access state;
    uint32_t generation; /* of the key that its file is sealed with */
    uint32_t key_count;  /* wrapping keys; 0 while it is locked */
};
/* What there is, by number; at most `max`. */
size_t far_vault_domains(struct far_vault *vault, struct far_domain_info *ret_infos, size_t max);

/* The name in the store of what has this hash. NULL: the hash itself. */
void far_domain_id(const struct far_domain *domain, const struct far_hash256 *hash, struct far_hash256 *ret_id);
/* Its number in this vault, from 1; 0: the plain one. */
uint16_t far_domain_number(const struct far_domain *domain);
/* Of the key that its file is sealed with; 0: the plain one. */
uint32_t far_domain_generation(struct far_vault *vault, const struct far_domain *domain);
/* NULL: the plain one. What a target knows a source's offers by. */
const struct far_id_key *far_domain_id_key(const struct far_domain *domain);
/* All zero bytes for the plain one. */
void far_domain_uuid(const struct far_domain *domain, uint8_t ret_uuid[16]);

#endif
