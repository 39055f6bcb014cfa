/* The key of a vault: Ed25519, made at creation, signs its manifests. See vault_private.h. */
#include "dataplane/vault_private.h"

#include "base/random.h"

#include <openssl/evp.h>

int far_vault_public_of(const uint8_t seed[32], uint8_t ret_public[32], struct far_error *err)
{
    size_t len = 32;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
    bool good = key != NULL && EVP_PKEY_get_raw_public_key(key, ret_public, &len) == 1 && len == 32;
    EVP_PKEY_free(key);
    return good ? 0 : far_fail(err, FAR_LIMIT, "no memory for the key of the vault");
}

int far_vault_key_make(uint8_t ret_seed[32], uint8_t ret_public[32], struct far_error *err)
{
    far_random_bytes(ret_seed, 32);
    return far_vault_public_of(ret_seed, ret_public, err);
}
