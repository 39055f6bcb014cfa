/* The file of a domain in a vault: domains/<uuid>.domain, replaced as a whole; bytes in docs/FORMATS.md. See domain_private.h. */
#include "dataplane/domain_private.h"

#include "base/hash.h"
#include "base/random.h"
#include "net/keyed_box.h"
#include "net/seal.h"

#include <openssl/crypto.h>
#include <stdio.h>

enum {
    VERSION = 0,
    HEAD = 160,
    NAME_AT = 96,
    LENGTHS = 8,
    SUM = 8,
    SECRETS_MIN = 32 + 4,
    KEY_BYTES = 4 + 4 + 32,
    SECRETS_MAX = SECRETS_MIN + FAR_DOMAIN_KEYS_MAX * KEY_BYTES,
    FLAG_DESTROYED = 1,
};
static const char magic[8] = "FARDOMN0";

/* ---- the head ---- */

static void encode_head(const struct far_domain_file *file, uint8_t head[HEAD])
{
    memset(head, 0, HEAD);
    memcpy(head, magic, 8);
    far_put_le32(head + 8, VERSION);
    far_put_le16(head + 12, file->number);
    far_put_le16(head + 14, file->destroyed ? FLAG_DESTROYED : 0);
    memcpy(head + 16, file->uuid, 16);
    memcpy(head + 32, file->vault_uuid, 16);
    far_put_le32(head + 48, file->generation);
    memcpy(head + 64, file->recovery_public, 32);
    memcpy(head + NAME_AT, file->name, strnlen(file->name, FAR_DOMAIN_NAME_MAX));
}

int far_domain_file_decode(struct far_slice bytes, struct far_domain_file *ret_file, struct far_error *err)
{
    if (bytes.len < HEAD + LENGTHS + SUM || memcmp(bytes.data, magic, 8) != 0) {
        return far_fail(err, FAR_CORRUPT, "not the file of a domain");
    }
    if (far_get_le64(bytes.data + bytes.len - SUM) != far_hash64(bytes.data, bytes.len - SUM)) {
        return far_fail(err, FAR_CORRUPT, "its checksum is wrong");
    }
    if (far_get_le32(bytes.data + 8) != VERSION) {
        return far_fail(err, FAR_CORRUPT, "version %u, this program knows %d", far_get_le32(bytes.data + 8), VERSION);
    }
    struct far_domain_file file = {
        .number = far_get_le16(bytes.data + 12),
        .destroyed = (far_get_le16(bytes.data + 14) & FLAG_DESTROYED) != 0,
        .generation = far_get_le32(bytes.data + 48),
    };
    size_t sealed_len = far_get_le32(bytes.data + HEAD), box_len = far_get_le32(bytes.data + HEAD + 4);
    size_t rest = bytes.len - HEAD - LENGTHS - SUM;
    memcpy(file.head, bytes.data, HEAD);
    memcpy(file.uuid, bytes.data + 16, 16);
    memcpy(file.vault_uuid, bytes.data + 32, 16);
    memcpy(file.recovery_public, bytes.data + 64, 32);
    memcpy(file.name, bytes.data + NAME_AT, FAR_DOMAIN_NAME_MAX);
    if (file.number == 0 || sealed_len > rest || box_len != rest - sealed_len || (file.destroyed && rest != 0)) {
        return far_fail(err, FAR_CORRUPT, "impossible lengths, or no number");
    }
    file.sealed = far_slice(bytes.data + HEAD + LENGTHS, sealed_len);
    file.box = far_slice(bytes.data + HEAD + LENGTHS + sealed_len, box_len);
    *ret_file = file;
    return 0;
}

/* ---- secrets ---- */

static size_t encode_secrets(const struct far_domain_secrets *secrets, uint8_t out[SECRETS_MAX])
{
    uint8_t *at = out + SECRETS_MIN;
    memcpy(out, secrets->secret, 32);
    far_put_le32(out + 32, secrets->key_count);
    for (uint32_t i = 0; i < secrets->key_count; i++, at += KEY_BYTES) {
        far_put_le32(at, secrets->keys[i].generation);
        far_put_le32(at + 4, secrets->keys[i].first_pack);
        memcpy(at + 8, secrets->keys[i].key, 32);
    }
    return (size_t)(at - out);
}

static int decode_secrets(struct far_slice bytes, struct far_domain_secrets *ret_secrets, struct far_error *err)
{
    uint32_t count = bytes.len >= SECRETS_MIN ? far_get_le32(bytes.data + 32) : 0;
    if (count == 0 || count > FAR_DOMAIN_KEYS_MAX || bytes.len != SECRETS_MIN + (size_t)count * KEY_BYTES) {
        return far_fail(err, FAR_CORRUPT, "what is sealed in it is not what a domain has");
    }
    memcpy(ret_secrets->secret, bytes.data, 32);
    ret_secrets->key_count = count;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *at = bytes.data + SECRETS_MIN + (size_t)i * KEY_BYTES;
        ret_secrets->keys[i].generation = far_get_le32(at);
        ret_secrets->keys[i].first_pack = far_get_le32(at + 4);
        memcpy(ret_secrets->keys[i].key, at + 8, 32);
    }
    return 0;
}

/* The key of a domain is the same in every vault: each has one of its own made of it. */
static int sealing_key(const uint8_t key[32], const uint8_t vault_uuid[16], uint8_t ret_key[32], struct far_error *err)
{
    return far_hkdf(key, far_slice(vault_uuid, 16), "farshore domain file", ret_key, err);
}

static void box_context(const struct far_domain_file *file, char context[128])
{
    char uuid[33], vault[33];
    far_hex_encode(file->uuid, 16, uuid);
    far_hex_encode(file->vault_uuid, 16, vault);
    snprintf(context, 128, "farshore domain %s of vault %s", uuid, vault);
}

static bool is_zero(const uint8_t bytes[32])
{
    static const uint8_t zero[32];
    return memcmp(bytes, zero, sizeof zero) == 0;
}

/* Sealed with the key, and to the recovery key, behind head and lengths. */
static int append_sealed(const struct far_domain_file *file, const struct far_domain_secrets *secrets, const uint8_t key[32],
                         struct far_buf *out, struct far_error *err)
{
    uint8_t plain[SECRETS_MAX], sealing[32], head[HEAD], nonce[FAR_KEYED_BOX_NONCE];
    char context[128];
    size_t len = encode_secrets(secrets, plain);
    memcpy(head, out->data, HEAD);
    int rc = sealing_key(key, file->vault_uuid, sealing, err);
    uint8_t *at = rc == 0 ? far_buf_reserve(out, len + FAR_KEYED_BOX_OVERHEAD) : NULL;
    if (rc == 0 && at == NULL) {
        rc = far_fail(err, FAR_LIMIT, "no memory for the file of a domain");
    }
    if (rc == 0) {
        far_random_bytes(nonce, sizeof nonce);
        rc = far_keyed_box_seal(sealing, nonce, far_slice(head, HEAD), far_slice(plain, len), at, err);
        out->len += len + FAR_KEYED_BOX_OVERHEAD;
        far_put_le32(out->data + HEAD, (uint32_t)(len + FAR_KEYED_BOX_OVERHEAD));
    }
    size_t before = out->len;
    if (rc == 0 && !is_zero(file->recovery_public)) {
        box_context(file, context);
        rc = far_seal(file->recovery_public, context, far_slice(plain, len), out, err);
        far_put_le32(out->data + HEAD + 4, (uint32_t)(out->len - before));
    }
    OPENSSL_cleanse(plain, sizeof plain);
    OPENSSL_cleanse(sealing, sizeof sealing);
    return rc;
}

int far_domain_file_encode(const struct far_domain_file *file, const struct far_domain_secrets *secrets, const uint8_t key[32],
                           struct far_buf *out, struct far_error *err)
{
    uint8_t head[HEAD + LENGTHS] = {0}, sum[SUM];
    encode_head(file, head);
    far_buf_reset(out);
    int rc = far_buf_append(out, head, sizeof head) == 0 ? 0 : far_fail(err, FAR_LIMIT, "no memory for the file of a domain");
    rc = rc == 0 && secrets != NULL ? append_sealed(file, secrets, key, out, err) : rc;
    if (rc == 0) {
        far_put_le64(sum, far_hash64(out->data, out->len));
        rc = far_buf_append(out, sum, sizeof sum) == 0 ? 0 : far_fail(err, FAR_LIMIT, "no memory for the file of a domain");
    }
    return rc;
}

int far_domain_file_open(const struct far_domain_file *file, const uint8_t key[32], struct far_domain_secrets *ret_secrets,
                         struct far_error *err)
{
    uint8_t plain[SECRETS_MAX], sealing[32];
    if (file->sealed.len < SECRETS_MIN + FAR_KEYED_BOX_OVERHEAD || file->sealed.len > SECRETS_MAX + FAR_KEYED_BOX_OVERHEAD) {
        return far_fail(err, FAR_CORRUPT, "what is sealed in it has an impossible length");
    }
    int rc = sealing_key(key, file->vault_uuid, sealing, err);
    rc = rc == 0 ? far_keyed_box_open(sealing, far_slice(file->head, HEAD), file->sealed, plain, err) : rc;
    rc = rc == 0 ? decode_secrets(far_slice(plain, file->sealed.len - FAR_KEYED_BOX_OVERHEAD), ret_secrets, err) : rc;
    OPENSSL_cleanse(plain, sizeof plain);
    OPENSSL_cleanse(sealing, sizeof sealing);
    return rc;
}

int far_domain_file_recover(const struct far_domain_file *file, const uint8_t recovery_private[32],
                            struct far_domain_secrets *ret_secrets, struct far_error *err)
{
    char context[128];
    struct far_buf plain;
    if (file->box.len == 0) {
        return far_fail(err, FAR_DENIED, "it is not sealed to a recovery key");
    }
    box_context(file, context);
    far_buf_init(&plain, SECRETS_MAX);
    int rc = far_seal_open(recovery_private, context, file->box, &plain, err);
    rc = rc == 0 ? decode_secrets(far_buf_slice(&plain), ret_secrets, err) : rc;
    if (plain.len > 0) {
        OPENSSL_cleanse(plain.data, plain.len);
    }
    far_buf_done(&plain);
    return rc;
}
