/* Keyed ids: see id_key.h. */
#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_Update: EVP costs more than the two steps of such short messages */
#include "dataplane/id_key.h"

#include "net/keyed_box.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

enum { STEP = 64 };

/* ---- HMAC (RFC 2104) ---- */

static void absorb_pad(const uint8_t bytes[32], uint8_t pad, uint32_t ret_state[8])
{
    uint8_t block[STEP];
    SHA256_CTX context;
    memset(block, pad, sizeof block);
    for (size_t i = 0; i < 32; i++) {
        block[i] ^= bytes[i];
    }
    SHA256_Init(&context);
    SHA256_Update(&context, block, sizeof block);
    for (size_t i = 0; i < 8; i++) {
        ret_state[i] = context.h[i];
    }
    OPENSSL_cleanse(block, sizeof block);
    OPENSSL_cleanse(&context, sizeof context);
}

void far_hmac_key_init(struct far_hmac_key *key, const uint8_t bytes[32])
{
    absorb_pad(bytes, 0x36, key->inner);
    absorb_pad(bytes, 0x5c, key->outer);
}

/* As if the pad had just been hashed. */
static void go_on_from(SHA256_CTX *context, const uint32_t state[8])
{
    SHA256_Init(context);
    for (size_t i = 0; i < 8; i++) {
        context->h[i] = state[i];
    }
    context->Nl = 8 * STEP;
}

void far_hmac(const struct far_hmac_key *key, const void *data, size_t len, uint8_t ret_mac[32])
{
    SHA256_CTX context;
    uint8_t digest[32];
    go_on_from(&context, key->inner);
    SHA256_Update(&context, data, len);
    SHA256_Final(digest, &context);
    go_on_from(&context, key->outer);
    SHA256_Update(&context, digest, sizeof digest);
    SHA256_Final(ret_mac, &context);
}

/* ---- keys ---- */

static int derive(struct far_hmac_key *key, const uint8_t uuid[16], const uint8_t secret[32], const char *info,
                  struct far_error *err)
{
    uint8_t bytes[32];
    int rc = far_hkdf(secret, far_slice(uuid, 16), info, bytes, err);
    if (rc == 0) {
        far_hmac_key_init(key, bytes);
    }
    OPENSSL_cleanse(bytes, sizeof bytes);
    return rc;
}

int far_id_key_init(struct far_id_key *key, const uint8_t uuid[16], const uint8_t secret[32], struct far_error *err)
{
    struct far_id_key made;
    int rc = derive(&made.id, uuid, secret, "farshore domain ids", err);
    rc = rc == 0 ? derive(&made.veil, uuid, secret, "farshore domain veil", err) : rc;
    rc = rc == 0 ? derive(&made.hello, uuid, secret, "farshore domain hello", err) : rc;
    if (rc == 0) {
        *key = made;
    }
    OPENSSL_cleanse(&made, sizeof made);
    return rc;
}

/* ---- ids ---- */

void far_id_key_id(const struct far_id_key *key, const struct far_hash256 *hash, struct far_hash256 *ret_id)
{
    struct far_hash256 id;
    far_hmac(&key->id, hash->bytes, sizeof hash->bytes, id.bytes);
    *ret_id = id;
}

static void apply_veil(const struct far_id_key *key, const struct far_hash256 *id, const struct far_hash256 *from,
                       struct far_hash256 *ret_to)
{
    uint8_t veil[32];
    far_hmac(&key->veil, id->bytes, sizeof id->bytes, veil);
    for (size_t i = 0; i < sizeof veil; i++) {
        ret_to->bytes[i] = from->bytes[i] ^ veil[i];
    }
}

void far_id_key_veil(const struct far_id_key *key, const struct far_hash256 *id, const struct far_hash256 *hash,
                     struct far_hash256 *ret_veiled)
{
    apply_veil(key, id, hash, ret_veiled);
}

bool far_id_key_unveil(const struct far_id_key *key, const struct far_hash256 *id, const struct far_hash256 *veiled,
                       struct far_hash256 *ret_hash)
{
    struct far_hash256 hash, computed;
    apply_veil(key, id, veiled, &hash);
    far_id_key_id(key, &hash, &computed);
    if (CRYPTO_memcmp(computed.bytes, id->bytes, sizeof id->bytes) != 0) {
        return false;
    }
    *ret_hash = hash;
    return true;
}
