/* Payloads of records in a keyed domain: AES-256-GCM with a data key of the pack; see domain_private.h.
 *
 * Stored are a random nonce of 12 bytes, the ciphertext, a tag of 16. The data key is HKDF-SHA-256 of the wrapping key, salt: vault and
 * number of the pack; at most some 10,000 records use one, far below what random nonces bear. The record keeps that number: moved to
 * another pack as it is, it can still be read. Bound to the tag: type, codec, domain, pack of the key, id.
 *
 * Every thread keeps the cipher with the key it used last, one to seal and one to open. */
#include "dataplane/domain_private.h"

#include "base/random.h"
#include "net/keyed_box.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>

enum { NONCE = 12, TAG = 16, BOUND = 48 };

/* ---- what a thread keeps ---- */

struct cipher {
    EVP_CIPHER_CTX *context;
    uint64_t serial; /* of the domain whose key it has; 0: none */
    uint32_t pack;
};

struct kept {
    struct cipher ciphers[2]; /* [0] opens, [1] seals */
    uint8_t *scratch;
};

static pthread_key_t kept_key;
static pthread_once_t kept_once = PTHREAD_ONCE_INIT;
static bool kept_made;

static void kept_free(void *arg)
{
    struct kept *kept = arg;
    for (size_t i = 0; i < 2; i++) {
        EVP_CIPHER_CTX_free(kept->ciphers[i].context);
    }
    free(kept->scratch);
    free(kept);
}

static void kept_init(void)
{
    kept_made = pthread_key_create(&kept_key, kept_free) == 0;
}

static struct kept *kept_of_thread(void)
{
    pthread_once(&kept_once, kept_init);
    struct kept *kept = kept_made ? pthread_getspecific(kept_key) : NULL;
    if (kept == NULL && kept_made) {
        kept = calloc(1, sizeof *kept);
        if (kept != NULL && pthread_setspecific(kept_key, kept) != 0) {
            free(kept);
            kept = NULL;
        }
    }
    return kept;
}

uint8_t *far_domain_scratch(void)
{
    struct kept *kept = kept_of_thread();
    if (kept != NULL && kept->scratch == NULL) {
        kept->scratch = malloc(FAR_RECORD_PAYLOAD_MAX);
    }
    return kept != NULL ? kept->scratch : NULL;
}

/* ---- keys ---- */

static int data_key(const struct far_domain *domain, uint32_t pack, uint8_t ret_key[32], struct far_error *err)
{
    const struct far_wrapping_key *wrapping = NULL;
    uint32_t count = atomic_load_explicit(&domain->key_count, memory_order_acquire);
    for (uint32_t i = 0; i < count && domain->keys[i].first_pack <= pack; i++) {
        wrapping = &domain->keys[i];
    }
    if (wrapping == NULL) {
        return far_fail(err, FAR_CORRUPT, "domain '%s' has no key for pack %u", domain->name, pack);
    }
    uint8_t salt[20];
    memcpy(salt, domain->vault_uuid, 16);
    far_put_le32(salt + 16, pack);
    return far_hkdf(wrapping->key, far_slice(salt, sizeof salt), "farshore pack", ret_key, err);
}

static int cipher_of(const struct far_domain *domain, uint32_t pack, bool seals, EVP_CIPHER_CTX **ret_context, struct far_error *err)
{
    struct kept *kept = kept_of_thread();
    if (!atomic_load_explicit(&domain->usable, memory_order_acquire)) {
        return far_fail(err, FAR_CONFLICT, "domain '%s' was destroyed: nothing of it can be read or written any more", domain->name);
    }
    struct cipher *cipher = kept != NULL ? &kept->ciphers[seals] : NULL;
    if (cipher != NULL && cipher->context == NULL) {
        cipher->context = EVP_CIPHER_CTX_new();
    }
    if (cipher == NULL || cipher->context == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to encrypt");
    }
    *ret_context = cipher->context;
    if (cipher->serial == domain->serial && cipher->pack == pack) {
        return 0;
    }
    uint8_t key[32];
    cipher->serial = 0;
    int rc = data_key(domain, pack, key, err);
    if (rc == 0 && EVP_CipherInit_ex(cipher->context, EVP_aes_256_gcm(), NULL, key, NULL, seals) != 1) {
        ERR_clear_error();
        rc = far_fail(err, FAR_INTERNAL, "the crypto library refuses a key");
    }
    if (rc == 0) {
        cipher->serial = domain->serial;
        cipher->pack = pack;
    }
    OPENSSL_cleanse(key, sizeof key);
    return rc;
}

/* ---- records ---- */

static void bound_of(const struct far_record *record, uint8_t bound[BOUND])
{
    memset(bound, 0, BOUND);
    bound[0] = record->type;
    bound[1] = record->codec;
    far_put_le16(bound + 2, record->domain);
    far_put_le32(bound + 4, record->key_pack);
    memcpy(bound + 16, record->id.bytes, 32);
}

int far_domain_seal(const struct far_domain *domain, uint32_t pack, struct far_record *record, const void *plain, size_t len,
                    uint8_t *ret_stored, struct far_error *err)
{
    EVP_CIPHER_CTX *context;
    uint8_t bound[BOUND];
    int n;
    int rc = cipher_of(domain, pack, true, &context, err);
    if (rc != 0) {
        return rc;
    }
    record->domain = domain->number;
    record->key_pack = pack;
    record->stored_len = (uint32_t)(len + FAR_SEALED_OVERHEAD);
    bound_of(record, bound);
    far_random_bytes(ret_stored, NONCE);
    if (EVP_CipherInit_ex(context, NULL, NULL, NULL, ret_stored, 1) != 1 || EVP_CipherUpdate(context, NULL, &n, bound, BOUND) != 1 ||
        EVP_CipherUpdate(context, ret_stored + NONCE, &n, plain, (int)len) != 1 ||
        EVP_CipherFinal_ex(context, ret_stored + NONCE + len, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG, ret_stored + NONCE + len) != 1) {
        ERR_clear_error();
        return far_fail(err, FAR_INTERNAL, "the crypto library cannot encrypt");
    }
    return 0;
}

int far_domain_unseal(const struct far_domain *domain, const struct far_record *record, const uint8_t *stored, void *ret_plain,
                      struct far_error *err)
{
    EVP_CIPHER_CTX *context;
    uint8_t bound[BOUND];
    size_t len = record->stored_len - FAR_SEALED_OVERHEAD;
    int n;
    int rc = cipher_of(domain, record->key_pack, false, &context, err);
    if (rc != 0) {
        return rc;
    }
    bound_of(record, bound);
    if (EVP_CipherInit_ex(context, NULL, NULL, NULL, stored, 0) != 1 || EVP_CipherUpdate(context, NULL, &n, bound, BOUND) != 1 ||
        EVP_CipherUpdate(context, ret_plain, &n, stored + NONCE, (int)len) != 1 ||
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(stored + NONCE + len)) != 1 ||
        EVP_CipherFinal_ex(context, (uint8_t *)ret_plain + len, &n) != 1) {
        ERR_clear_error();
        return far_fail(err, FAR_CORRUPT, "it does not decrypt with the keys of domain '%s'", domain->name);
    }
    return 0;
}
