/* Ids of blocks, pages and roots in a keyed dedup domain: HMAC-SHA-256 of their hash, so that nobody can name (ask for, or offer)
 * what they only know the hash of. And how a source that has the key tells a target that has it which hash an id stands for.
 *
 * Values; any thread. The keys are derived from the domain's secret, which never changes. */
#ifndef FAR_DATAPLANE_ID_KEY_H
#define FAR_DATAPLANE_ID_KEY_H

#include "dataplane/map.h"

/* Both halves of an HMAC with its key already in: two steps of SHA-256 each. */
struct far_hmac_key {
    uint32_t inner[8];
    uint32_t outer[8];
};
void far_hmac_key_init(struct far_hmac_key *key, const uint8_t bytes[32]);
void far_hmac(const struct far_hmac_key *key, const void *data, size_t len, uint8_t ret_mac[32]);

struct far_id_key {
    struct far_hmac_key id;    /* hash → id */
    struct far_hmac_key veil;  /* id → what the hash is veiled with in an offer */
    struct far_hmac_key hello; /* proves to a target that its peer has the secret */
};

/* HKDF-SHA-256 of the domain's secret. FAR_INTERNAL: the crypto library refuses. */
int far_id_key_init(struct far_id_key *key, const uint8_t uuid[16], const uint8_t secret[32], struct far_error *err);
void far_id_key_id(const struct far_id_key *key, const struct far_hash256 *hash, struct far_hash256 *ret_id);
/* The hash of an id, veiled for whoever has not the key. */
void far_id_key_veil(const struct far_id_key *key, const struct far_hash256 *id, const struct far_hash256 *hash,
                     struct far_hash256 *ret_veiled);
/* The hash that was veiled, if the id is truly its id; else false: whoever offers it has not the key. */
bool far_id_key_unveil(const struct far_id_key *key, const struct far_hash256 *id, const struct far_hash256 *veiled,
                       struct far_hash256 *ret_hash);

#endif
