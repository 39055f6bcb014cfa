/* TLS 1.3 records of one direction: see records.h. */
#include "net/records.h"

#include "base/bytes.h"
#include "net/gcm_wide.h"
#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

/* ---- keys ---- */

void far_traffic_secrets_note(const SSL *ssl, const char *line)
{
    static const char of_dialer[] = "CLIENT_TRAFFIC_SECRET_0 ", of_listener[] = "SERVER_TRAFFIC_SECRET_0 ";
    struct far_traffic_secrets *secrets = SSL_get_app_data(ssl);
    bool dialer = strncmp(line, of_dialer, sizeof of_dialer - 1) == 0;
    if (secrets == NULL || (!dialer && strncmp(line, of_listener, sizeof of_listener - 1) != 0)) {
        return;
    }
    const char *hex = strrchr(line, ' ') + 1;
    size_t len = strlen(hex) / 2;
    uint8_t *secret = dialer ? secrets->of_dialer : secrets->of_listener;
    if (len <= sizeof secrets->of_dialer && far_hex_decode(hex, 2 * len, secret, len)) {
        secrets->len = len;
    }
}

/* HKDF-Expand-Label(secret, label, "", out_len), RFC 8446 section 7.1; label with its "tls13 ". */
static bool expand(const struct far_records *records, const char *label, uint8_t *out, size_t out_len)
{
    uint8_t info[32];
    size_t label_len = strlen(label), len = out_len;
    size_t secret_len = (size_t)EVP_MD_get_size(records->digest);
    info[0] = 0;
    info[1] = (uint8_t)out_len;
    info[2] = (uint8_t)label_len;
    memcpy(info + 3, label, label_len);
    info[3 + label_len] = 0;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
    bool done = context != NULL && EVP_PKEY_derive_init(context) == 1 &&
                EVP_PKEY_CTX_set_hkdf_mode(context, EVP_PKEY_HKDEF_MODE_EXPAND_ONLY) == 1 &&
                EVP_PKEY_CTX_set_hkdf_md(context, records->digest) == 1 &&
                EVP_PKEY_CTX_set1_hkdf_key(context, records->secret, (int)secret_len) == 1 &&
                EVP_PKEY_CTX_add1_hkdf_info(context, info, (int)(4 + label_len)) == 1 &&
                EVP_PKEY_derive(context, out, &len) == 1 && len == out_len;
    EVP_PKEY_CTX_free(context);
    return done;
}

static int use_secret(struct far_records *records, struct far_error *err)
{
    uint8_t key[EVP_MAX_KEY_LENGTH];
    size_t key_len = (size_t)EVP_CIPHER_CTX_get_key_length(records->cipher);
    bool done = expand(records, "tls13 key", key, key_len) &&
                expand(records, "tls13 iv", records->iv, sizeof records->iv) &&
                EVP_CipherInit_ex(records->cipher, NULL, NULL, key, NULL, records->seals) == 1;
    if (done && records->may_be_wide) {
        far_gcm_wide_free(records->wide);
        records->wide = far_gcm_wide_new(key, key_len); /* without memory for it libcrypto does as well */
    }
    OPENSSL_cleanse(key, sizeof key);
    records->number = 0;
    return done ? 0 : far_openssl_fail(err, FAR_INTERNAL, "make the key of a connection");
}

int far_records_init(struct far_records *records, const SSL *ssl, const uint8_t *secret, bool seals,
                     struct far_error *err)
{
    const SSL_CIPHER *suite = SSL_get_current_cipher(ssl);
    memset(records, 0, sizeof *records);
    records->seals = seals;
    records->digest = SSL_CIPHER_get_handshake_digest(suite);
    const EVP_CIPHER *cipher = EVP_get_cipherbynid(SSL_CIPHER_get_cipher_nid(suite));
    records->cipher = EVP_CIPHER_CTX_new();
    if (records->digest == NULL || cipher == NULL || records->cipher == NULL ||
        EVP_CipherInit_ex(records->cipher, cipher, NULL, NULL, NULL, seals) != 1 ||
        EVP_CIPHER_CTX_get_iv_length(records->cipher) != sizeof records->iv) {
        return far_openssl_fail(err, FAR_INTERNAL, "take over a connection");
    }
    int nid = SSL_CIPHER_get_cipher_nid(suite);
    records->may_be_wide = (nid == NID_aes_128_gcm || nid == NID_aes_256_gcm) && far_gcm_wide_pays();
    memcpy(records->secret, secret, (size_t)EVP_MD_get_size(records->digest));
    return use_secret(records, err);
}

void far_records_done(struct far_records *records)
{
    EVP_CIPHER_CTX_free(records->cipher);
    far_gcm_wide_free(records->wide);
    OPENSSL_cleanse(records, sizeof *records);
}

int far_records_next_key(struct far_records *records, struct far_error *err)
{
    uint8_t next[sizeof records->secret];
    size_t len = (size_t)EVP_MD_get_size(records->digest);
    if (!expand(records, "tls13 traffic upd", next, len)) {
        return far_openssl_fail(err, FAR_INTERNAL, "make the next key of a connection");
    }
    memcpy(records->secret, next, len);
    OPENSSL_cleanse(next, sizeof next);
    return use_secret(records, err);
}

/* ---- records ---- */

static void next_nonce(struct far_records *records, uint8_t nonce[FAR_GCM_NONCE])
{
    uint8_t number[8];
    memcpy(nonce, records->iv, sizeof records->iv);
    far_put_be64(number, records->number++);
    for (size_t i = 0; i < sizeof number; i++) {
        nonce[sizeof records->iv - sizeof number + i] ^= number[i];
    }
}

/* The nonce of a record, and its head as additional data. */
static bool begin(struct far_records *records, const uint8_t nonce[FAR_GCM_NONCE], const uint8_t head[FAR_RECORD_HEAD])
{
    int n;
    return EVP_CipherInit_ex(records->cipher, NULL, NULL, NULL, nonce, records->seals) == 1 &&
           EVP_CipherUpdate(records->cipher, NULL, &n, head, FAR_RECORD_HEAD) == 1;
}

int far_records_seal(struct far_records *records, enum far_record_type type, const void *plain, size_t len, uint8_t *out,
                     struct far_error *err)
{
    uint8_t last = (uint8_t)type, *body = out + FAR_RECORD_HEAD, nonce[sizeof records->iv];
    int n;
    out[0] = FAR_RECORD_DATA;
    out[1] = TLS1_2_VERSION >> 8; /* on the wire every record says so */
    out[2] = TLS1_2_VERSION & 0xff;
    out[3] = (uint8_t)((len + 1 + FAR_RECORD_TAG) >> 8);
    out[4] = (uint8_t)(len + 1 + FAR_RECORD_TAG);
    next_nonce(records, nonce);
    if (records->wide != NULL) {
        far_gcm_wide_seal(records->wide, nonce, out, plain, len, last, body);
        return 0;
    }
    if (!begin(records, nonce, out) || (len > 0 && EVP_CipherUpdate(records->cipher, body, &n, plain, (int)len) != 1) ||
        EVP_CipherUpdate(records->cipher, body + len, &n, &last, 1) != 1 ||
        EVP_CipherFinal_ex(records->cipher, body + len + 1, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(records->cipher, EVP_CTRL_AEAD_GET_TAG, FAR_RECORD_TAG, body + len + 1) != 1) {
        return far_openssl_fail(err, FAR_INTERNAL, "encrypt");
    }
    return 0;
}

size_t far_record_length(const uint8_t head[FAR_RECORD_HEAD])
{
    size_t body = (size_t)head[3] << 8 | head[4];
    bool good = head[0] == FAR_RECORD_DATA && head[1] == 3 && body > FAR_RECORD_TAG && body <= FAR_RECORD_BODY_MAX;
    return good ? FAR_RECORD_HEAD + body : 0;
}

int far_records_open(struct far_records *records, const uint8_t *record, size_t length, uint8_t *plain,
                     uint8_t *ret_last, struct far_error *err)
{
    const uint8_t *body = record + FAR_RECORD_HEAD;
    uint8_t tag[FAR_RECORD_TAG], nonce[sizeof records->iv];
    size_t len = length - FAR_RECORD_ADDED;
    int n;
    memcpy(tag, body + len + 1, sizeof tag);
    next_nonce(records, nonce);
    bool good = records->wide != NULL &&
                far_gcm_wide_open(records->wide, nonce, record, body, len, plain, ret_last);
    if (good) {
        return 0;
    }
    if (records->wide != NULL || !begin(records, nonce, record) ||
        EVP_CIPHER_CTX_ctrl(records->cipher, EVP_CTRL_AEAD_SET_TAG, sizeof tag, tag) != 1 ||
        (len > 0 && EVP_CipherUpdate(records->cipher, plain, &n, body, (int)len) != 1) ||
        EVP_CipherUpdate(records->cipher, ret_last, &n, body + len, 1) != 1 ||
        EVP_CipherFinal_ex(records->cipher, tag, &n) != 1) {
        ERR_clear_error();
        return far_fail(err, FAR_IO, "TLS: what came over the connection was damaged or forged on its way");
    }
    return 0;
}
