/* Derived keys and small encrypted things: see keyed_box.h. */
#include "net/keyed_box.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

enum { NONCE = FAR_KEYED_BOX_NONCE, TAG = FAR_KEYED_BOX_OVERHEAD - FAR_KEYED_BOX_NONCE };

int far_hkdf(const uint8_t secret[32], struct far_slice salt, const char *info, uint8_t ret_key[32], struct far_error *err)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, 32),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt.data, salt.len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info, strlen(info)),
        OSSL_PARAM_construct_end(),
    };
    int rc = context != NULL && EVP_KDF_derive(context, ret_key, 32, params) == 1
                 ? 0
                 : far_fail(err, FAR_INTERNAL, "the crypto library cannot derive a key");
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    ERR_clear_error();
    return rc;
}

static bool crypt(const uint8_t key[32], bool seals, const uint8_t *nonce, struct far_slice bound, struct far_slice from, uint8_t *to,
                  uint8_t *tag)
{
    int n;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    bool done = context != NULL && EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce, seals) == 1 &&
                EVP_CipherUpdate(context, NULL, &n, bound.data, (int)bound.len) == 1 &&
                EVP_CipherUpdate(context, to, &n, from.data, (int)from.len) == 1 &&
                (seals || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG, tag) == 1) &&
                EVP_CipherFinal_ex(context, to + from.len, &n) == 1 &&
                (!seals || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG, tag) == 1);
    EVP_CIPHER_CTX_free(context);
    ERR_clear_error();
    return done;
}

int far_keyed_box_seal(const uint8_t key[32], const uint8_t nonce[FAR_KEYED_BOX_NONCE], struct far_slice bound, struct far_slice plain,
                       uint8_t *ret_box, struct far_error *err)
{
    memcpy(ret_box, nonce, NONCE);
    return crypt(key, true, ret_box, bound, plain, ret_box + NONCE, ret_box + NONCE + plain.len)
               ? 0
               : far_fail(err, FAR_INTERNAL, "the crypto library cannot encrypt");
}

int far_keyed_box_open(const uint8_t key[32], struct far_slice bound, struct far_slice box, uint8_t *ret_plain,
                       struct far_error *err)
{
    uint8_t tag[TAG];
    if (box.len <= FAR_KEYED_BOX_OVERHEAD) {
        return far_fail(err, FAR_DENIED, "it is too short to be encrypted");
    }
    size_t len = box.len - FAR_KEYED_BOX_OVERHEAD;
    memcpy(tag, box.data + NONCE + len, TAG);
    return crypt(key, false, box.data, bound, far_slice(box.data + NONCE, len), ret_plain, tag)
               ? 0
               : far_fail(err, FAR_DENIED, "it does not decrypt with this key, or was altered");
}
