/* Ed25519 with OpenSSL: see sign.h. */
#include "net/sign.h"

#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/evp.h>

int far_sign_keypair(uint8_t ret_public[FAR_SIGN_KEY_BYTES], uint8_t ret_private[FAR_SIGN_KEY_BYTES], struct far_error *err)
{
    size_t public_len = FAR_SIGN_KEY_BYTES, private_len = FAR_SIGN_KEY_BYTES;
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    int rc = 0;
    if (key == NULL || EVP_PKEY_get_raw_public_key(key, ret_public, &public_len) != 1 ||
        EVP_PKEY_get_raw_private_key(key, ret_private, &private_len) != 1) {
        rc = far_openssl_fail(err, FAR_LIMIT, "make a signing key");
    }
    EVP_PKEY_free(key);
    return rc;
}

int far_sign_public(const uint8_t private_key[FAR_SIGN_KEY_BYTES], uint8_t ret_public[FAR_SIGN_KEY_BYTES],
                    struct far_error *err)
{
    size_t len = FAR_SIGN_KEY_BYTES;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private_key, FAR_SIGN_KEY_BYTES);
    int rc = 0;
    if (key == NULL || EVP_PKEY_get_raw_public_key(key, ret_public, &len) != 1) {
        rc = far_openssl_fail(err, FAR_LIMIT, "read a signing key");
    }
    EVP_PKEY_free(key);
    return rc;
}

int far_sign(const uint8_t private_key[FAR_SIGN_KEY_BYTES], struct far_slice message,
             uint8_t ret_signature[FAR_SIGNATURE_BYTES], struct far_error *err)
{
    size_t len = FAR_SIGNATURE_BYTES;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private_key, FAR_SIGN_KEY_BYTES);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int rc = 0;
    if (key == NULL || context == NULL || EVP_DigestSignInit(context, NULL, NULL, NULL, key) != 1 ||
        EVP_DigestSign(context, ret_signature, &len, message.data, message.len) != 1) {
        rc = far_openssl_fail(err, FAR_LIMIT, "sign");
    }
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    return rc;
}

bool far_sign_check(struct far_slice public_key, struct far_slice message, struct far_slice signature)
{
    if (public_key.len != FAR_SIGN_KEY_BYTES || signature.len != FAR_SIGNATURE_BYTES) {
        return false;
    }
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key.data, public_key.len);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = key != NULL && context != NULL && EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
                EVP_DigestVerify(context, signature.data, signature.len, message.data, message.len) == 1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return good;
}
