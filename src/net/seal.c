/* Sealed boxes and the recovery key's text: see seal.h. */
#include "net/seal.h"

#include "net/tls.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/sha.h>

enum { VERSION = 0, KEY_BYTES = 32, NONCE_BYTES = 12, TAG_BYTES = 16, CHECK_BYTES = 3 };

int far_seal_keypair(uint8_t ret_public[32], uint8_t ret_private[32], struct far_error *err)
{
    size_t public_len = KEY_BYTES;
    size_t private_len = KEY_BYTES;
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    int rc = 0;
    if (key == NULL || EVP_PKEY_get_raw_public_key(key, ret_public, &public_len) != 1 ||
        EVP_PKEY_get_raw_private_key(key, ret_private, &private_len) != 1) {
        rc = far_openssl_fail(err, FAR_LIMIT, "make a sealing key");
    }
    EVP_PKEY_free(key);
    return rc;
}

int far_seal_public(const uint8_t private_key[32], uint8_t ret_public[32], struct far_error *err)
{
    size_t len = KEY_BYTES;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, private_key, KEY_BYTES);
    int rc = 0;
    if (key == NULL || EVP_PKEY_get_raw_public_key(key, ret_public, &len) != 1) {
        rc = far_openssl_fail(err, FAR_LIMIT, "read a sealing key");
    }
    EVP_PKEY_free(key);
    return rc;
}

/* X25519 of our private and their public key; an all-zero result (a public key of small order) is refused by OpenSSL. */
static int agree(const uint8_t private_key[32], const uint8_t public_key[32], uint8_t shared[KEY_BYTES],
                 struct far_error *err)
{
    int rc = FAR_DENIED;
    size_t len = KEY_BYTES;
    EVP_PKEY_CTX *context = NULL;
    EVP_PKEY *theirs = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, public_key, KEY_BYTES);
    EVP_PKEY *ours = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, private_key, KEY_BYTES);
    if (ours == NULL || theirs == NULL || (context = EVP_PKEY_CTX_new(ours, NULL)) == NULL ||
        EVP_PKEY_derive_init(context) != 1 || EVP_PKEY_derive_set_peer(context, theirs) != 1 ||
        EVP_PKEY_derive(context, shared, &len) != 1) {
        far_openssl_fail(err, FAR_DENIED, "agree on a key");
    } else {
        rc = 0;
    }
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(theirs);
    EVP_PKEY_free(ours);
    return rc;
}

/* Key and nonce from the shared secret, bound to both public keys and the context. */
static int derive(const uint8_t shared[KEY_BYTES], const uint8_t ephemeral[32], const uint8_t recipient[32],
                  const char *context, uint8_t out[KEY_BYTES + NONCE_BYTES], struct far_error *err)
{
    uint8_t salt[2 * 32];
    memcpy(salt, ephemeral, 32);
    memcpy(salt + 32, recipient, 32);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)shared, KEY_BYTES),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt, sizeof salt),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)context, strlen(context)),
        OSSL_PARAM_construct_end(),
    };
    int rc = 0;
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *kdf_context = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
    if (kdf_context == NULL || EVP_KDF_derive(kdf_context, out, KEY_BYTES + NONCE_BYTES, params) != 1) {
        rc = far_openssl_fail(err, FAR_LIMIT, "derive a key");
    }
    EVP_KDF_CTX_free(kdf_context);
    EVP_KDF_free(kdf);
    return rc;
}

static int encrypt(const uint8_t key_nonce[KEY_BYTES + NONCE_BYTES], struct far_slice plain, uint8_t *out,
                   struct far_error *err)
{
    int rc = 0;
    int n = 0;
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    if (cipher == NULL ||
        EVP_EncryptInit_ex(cipher, EVP_aes_256_gcm(), NULL, key_nonce, key_nonce + KEY_BYTES) != 1 ||
        (plain.len > 0 && EVP_EncryptUpdate(cipher, out, &n, plain.data, (int)plain.len) != 1) ||
        EVP_EncryptFinal_ex(cipher, out + n, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, out + plain.len) != 1) {
        rc = far_openssl_fail(err, FAR_LIMIT, "seal a box");
    }
    EVP_CIPHER_CTX_free(cipher);
    return rc;
}

static int decrypt(const uint8_t key_nonce[KEY_BYTES + NONCE_BYTES], struct far_slice sealed, uint8_t *out,
                   struct far_error *err)
{
    int rc = 0;
    int n = 0;
    size_t plain_len = sealed.len - TAG_BYTES;
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    if (cipher == NULL ||
        EVP_DecryptInit_ex(cipher, EVP_aes_256_gcm(), NULL, key_nonce, key_nonce + KEY_BYTES) != 1) {
        rc = far_openssl_fail(err, FAR_LIMIT, "open a sealed box");
    } else if ((plain_len > 0 && EVP_DecryptUpdate(cipher, out, &n, sealed.data, (int)plain_len) != 1) ||
               EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, (void *)(sealed.data + plain_len)) != 1 ||
               EVP_DecryptFinal_ex(cipher, out + n, &n) != 1) {
        ERR_clear_error();
        rc = far_fail(err, FAR_DENIED, "the sealed box does not open with this key for this use, or was altered");
    }
    EVP_CIPHER_CTX_free(cipher);
    return rc;
}

int far_seal(const uint8_t public_key[32], const char *context, struct far_slice plain, struct far_buf *out,
             struct far_error *err)
{
    uint8_t ephemeral_public[32];
    uint8_t ephemeral_private[32];
    uint8_t shared[KEY_BYTES] = {0};
    uint8_t key_nonce[KEY_BYTES + NONCE_BYTES] = {0};
    if (plain.len > FAR_SEAL_PLAIN_MAX) {
        return far_fail(err, FAR_LIMIT, "more than %d bytes to seal", (int)FAR_SEAL_PLAIN_MAX);
    }
    int rc = far_seal_keypair(ephemeral_public, ephemeral_private, err);
    if (rc == 0) {
        rc = agree(ephemeral_private, public_key, shared, err);
    }
    if (rc == 0) {
        rc = derive(shared, ephemeral_public, public_key, context, key_nonce, err);
    }
    uint8_t *at = rc != 0 ? NULL : far_buf_reserve(out, FAR_SEAL_OVERHEAD + plain.len);
    if (rc == 0 && at == NULL) {
        rc = far_fail(err, FAR_LIMIT, "no room for a sealed box");
    }
    if (rc == 0) {
        at[0] = VERSION;
        memcpy(at + 1, ephemeral_public, 32);
        rc = encrypt(key_nonce, plain, at + 1 + 32, err);
    }
    if (rc == 0) {
        out->len += FAR_SEAL_OVERHEAD + plain.len;
    }
    OPENSSL_cleanse(ephemeral_private, sizeof ephemeral_private);
    OPENSSL_cleanse(shared, sizeof shared);
    OPENSSL_cleanse(key_nonce, sizeof key_nonce);
    return rc;
}

int far_seal_open(const uint8_t private_key[32], const char *context, struct far_slice box, struct far_buf *out,
                  struct far_error *err)
{
    uint8_t recipient[32];
    uint8_t shared[KEY_BYTES] = {0};
    uint8_t key_nonce[KEY_BYTES + NONCE_BYTES] = {0};
    if (box.len < FAR_SEAL_OVERHEAD || box.len > FAR_SEAL_OVERHEAD + FAR_SEAL_PLAIN_MAX || box.data[0] != VERSION) {
        return far_fail(err, FAR_DENIED, "this is not a sealed box of version %d", (int)VERSION);
    }
    size_t plain_len = box.len - FAR_SEAL_OVERHEAD;
    int rc = far_seal_public(private_key, recipient, err);
    if (rc == 0) {
        rc = agree(private_key, box.data + 1, shared, err);
    }
    if (rc == 0) {
        rc = derive(shared, box.data + 1, recipient, context, key_nonce, err);
    }
    uint8_t *at = rc != 0 ? NULL : far_buf_reserve(out, plain_len);
    if (rc == 0 && at == NULL) {
        rc = far_fail(err, FAR_LIMIT, "no room for what is in a sealed box");
    }
    if (rc == 0) {
        rc = decrypt(key_nonce, far_slice(box.data + 1 + 32, plain_len + TAG_BYTES), at, err);
    }
    if (rc == 0) {
        out->len += plain_len;
    } else if (at != NULL) {
        OPENSSL_cleanse(at, plain_len);
    }
    OPENSSL_cleanse(shared, sizeof shared);
    OPENSSL_cleanse(key_nonce, sizeof key_nonce);
    return rc;
}

/* ---- the recovery key as text ---- */

static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

static void key_with_checksum(const uint8_t key[32], uint8_t bytes[32 + CHECK_BYTES])
{
    uint8_t hash[32];
    SHA256(key, 32, hash);
    memcpy(bytes, key, 32);
    memcpy(bytes + 32, hash, CHECK_BYTES);
    OPENSSL_cleanse(hash, sizeof hash);
}

void far_recovery_key_print(const uint8_t private_key[32], char text[FAR_RECOVERY_KEY_TEXT_MAX])
{
    uint8_t bytes[32 + CHECK_BYTES];
    key_with_checksum(private_key, bytes);
    size_t digit = 0;
    for (size_t bit = 0; bit < sizeof bytes * 8; bit += 5, digit++) {
        uint32_t pair = (uint32_t)bytes[bit / 8] << 8 | (bit / 8 + 1 < sizeof bytes ? bytes[bit / 8 + 1] : 0u);
        *text++ = base32[pair >> (11 - bit % 8) & 31];
        if (digit % 4 == 3) {
            *text++ = '-';
        }
    }
    text[-1] = '\0';
    OPENSSL_cleanse(bytes, sizeof bytes);
}

/* The value of a digit, 32 for what is skipped, 33 for what is wrong. */
static unsigned digit_value(char c)
{
    if (c == ' ' || c == '-' || c == '\t' || c == '\r' || c == '\n') {
        return 32;
    }
    c = c == '0' ? 'O' : c == '1' ? 'L' : c == '8' ? 'B' : c;
    if (c >= 'a' && c <= 'z') {
        c = (char)(c - 'a' + 'A');
    }
    const char *at = c == '\0' ? NULL : strchr(base32, c);
    return at == NULL ? 33 : (unsigned)(at - base32);
}

int far_recovery_key_parse(const char *text, size_t len, uint8_t ret_private[32], struct far_error *err)
{
    uint8_t bytes[32 + CHECK_BYTES] = {0};
    uint8_t good[32 + CHECK_BYTES];
    size_t bit = 0;
    int rc = 0;
    for (size_t i = 0; i < len && rc == 0; i++) {
        unsigned value = digit_value(text[i]);
        if (value == 32) {
            continue;
        }
        if (value > 32 || bit >= sizeof bytes * 8) {
            rc = far_fail(err, FAR_INVALID, "a recovery key has 56 letters and digits 2 to 7");
            break;
        }
        for (int k = 4; k >= 0; k--, bit++) {
            bytes[bit / 8] |= (uint8_t)((value >> k & 1) << (7 - bit % 8));
        }
    }
    if (rc == 0 && bit != sizeof bytes * 8) {
        rc = far_fail(err, FAR_INVALID, "the recovery key is incomplete: %zu of 56 letters and digits", bit / 5);
    }
    key_with_checksum(bytes, good);
    if (rc == 0 && CRYPTO_memcmp(bytes, good, sizeof bytes) != 0) {
        rc = far_fail(err, FAR_INVALID, "the recovery key has a typing mistake: its checksum is wrong");
    }
    if (rc == 0) {
        memcpy(ret_private, bytes, 32);
    }
    OPENSSL_cleanse(bytes, sizeof bytes);
    OPENSSL_cleanse(good, sizeof good);
    return rc;
}
