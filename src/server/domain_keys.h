/* Secrets and keys of dedup domains: drawn, sealed with the cluster's master key into commands, and unsealed into the orders of nodes
 * that need them. They are never logged, and no answer of the API has them.
 *
 * A box is AES-256-GCM with a key derived (HKDF-SHA-256) of the master key for this domain and generation; its nonce and all that is
 * drawn come from a seed, so that a request that is repeated, at another server perhaps, is the same one. Any thread. */
#ifndef FAR_SERVER_DOMAIN_KEYS_H
#define FAR_SERVER_DOMAIN_KEYS_H

#include "fsm/state.h"
#include "net/keyed_box.h"

enum {
    FAR_DOMAIN_SECRET_GENERATION = 0, /* of what is no key but the domain's secret */
    FAR_DOMAIN_BOX_BYTES = 32 + FAR_KEYED_BOX_OVERHEAD,
};

/* Whose key opens the master key in the state; it is opened once. Not for two threads at once. */
struct far_master_key {
    uint64_t server_id;
    uint8_t seal_key[32]; /* private half of the server's seal key */
    bool is_open;
    uint8_t key[32];
};
/* FAR_NOT_FOUND: nothing is sealed to this server (a witness). */
int far_master_key_open(struct far_master_key *master, struct far_state *state, struct far_error *err);
void far_master_key_done(struct far_master_key *master);

/* A new domain's uuid, of a seed. */
int far_domain_draw_uuid(const struct far_master_key *master, const uint8_t seed[16], uint8_t ret_uuid[16], struct far_error *err);
/* 32 bytes drawn for this domain and generation, sealed. */
int far_domain_draw(const struct far_master_key *master, const uint8_t seed[16], const uint8_t uuid[16], uint64_t generation,
                    uint8_t ret_box[FAR_DOMAIN_BOX_BYTES], struct far_error *err);
/* The secret of a domain that another cluster made, sealed as one that is drawn. */
int far_domain_seal_secret(const struct far_master_key *master, const uint8_t seed[16], const uint8_t uuid[16], const uint8_t secret[32],
                           uint8_t ret_box[FAR_DOMAIN_BOX_BYTES], struct far_error *err);
/* FAR_DENIED: not sealed with this master key, or for another domain or generation. */
int far_domain_unseal_box(const struct far_master_key *master, const uint8_t uuid[16], uint64_t generation, struct far_slice box,
                          uint8_t ret_bytes[32], struct far_error *err);

/* Fills the domains of an order: their secrets, and for one that goes to a vault their keys. The arena has them; wipe it. What was
 * destroyed stays without. */
int far_domain_fill_order(const struct far_master_key *master, struct far_state *state, uint64_t node_id, struct far_arena *arena,
                          struct far_sub_order *order, struct far_error *err);

#endif
