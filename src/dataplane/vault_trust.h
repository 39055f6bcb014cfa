/* By which keys a vault is believed: those that sign, or signed, the manifests of its points.
 *
 * A vault has one key (`vault`, `vault.key`) and, where its folder was lost and made again from its store, those from before
 * (`vault.former`). All of them together, in order, have one fingerprint. The vault's own files cannot prove it: whoever can write
 * them can make a whole vault. So it is told from outside: by the log of the cluster (`vaults` in a node's folder), or by a person.
 * Values, any thread. */
#ifndef FAR_DATAPLANE_VAULT_TRUST_H
#define FAR_DATAPLANE_VAULT_TRUST_H

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    FAR_FORMER_KEYS = 64, /* of a vault; the oldest are forgotten */
    FAR_FINGERPRINT_TEXT = 65,
};

struct far_vault_keys {
    uint8_t uuid[16];
    uint8_t keys[FAR_FORMER_KEYS + 1][32]; /* the oldest first; the last one signs */
    size_t count;
};

/* The bytes of the files `vault` and `vault.former` (empty: there is none). FAR_CORRUPT says which is damaged, in `where`. */
int far_vault_keys_decode(struct far_slice vault, struct far_slice former, const char *where, struct far_vault_keys *ret_keys,
                          struct far_error *err);
/* Of a vault's folder. FAR_NOT_FOUND: no vault is there. */
int far_vault_keys_read(const char *dir, struct far_vault_keys *ret_keys, struct far_error *err);
/* Of the first count keys: the fingerprint that the vault had then. */
void far_vault_keys_fingerprint(const struct far_vault_keys *keys, size_t count, uint8_t ret_fingerprint[32]);

/* Of one that is open. */
struct far_vault;
void far_vault_keys(const struct far_vault *vault, struct far_vault_keys *ret_keys);

/* The file `vaults` in the folder of a node: which fingerprints of vaults the cluster knows (FORMATS.md). false: it does not name it. */
bool far_vault_trust_find(const char *node_dir, const uint8_t uuid[16], uint8_t ret_fingerprint[32]);

#endif
