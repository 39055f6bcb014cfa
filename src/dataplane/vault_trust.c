/* The keys of a vault and their fingerprint: see vault_trust.h; bytes in FORMATS.md. */
#include "dataplane/vault_trust.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

enum { VERSION = 0, VERSION_KEYED = 1, META_BYTES = 96, FORMER_BYTES_MAX = 24 + 32 * FAR_FORMER_KEYS, TRUST_BYTES_MAX = 1 << 20 };
static const char meta_magic[8] = "FARVAULT";
static const char former_magic[8] = "FARVFRMR";

static bool is_meta(struct far_slice file)
{
    const uint8_t *b = file.data;
    return file.len == META_BYTES && memcmp(b, meta_magic, 8) == 0 && far_get_le32(b + 8) <= VERSION_KEYED &&
           far_get_le64(b + META_BYTES - 8) == far_hash64(b, META_BYTES - 8);
}

static bool is_former(struct far_slice file)
{
    const uint8_t *b = file.data;
    return file.len >= 24 && file.len <= FORMER_BYTES_MAX && memcmp(b, former_magic, 8) == 0 && far_get_le32(b + 8) == VERSION &&
           far_get_le32(b + 12) <= FAR_FORMER_KEYS && file.len == 24 + 32 * (size_t)far_get_le32(b + 12) &&
           far_get_le64(b + file.len - 8) == far_hash64(b, file.len - 8);
}

int far_vault_keys_decode(struct far_slice vault, struct far_slice former, const char *where, struct far_vault_keys *ret_keys,
                          struct far_error *err)
{
    if (!is_meta(vault)) {
        return far_fail(err, FAR_CORRUPT, "'%s/vault' is damaged or of another version", where);
    }
    if (former.len != 0 && !is_former(former)) {
        return far_fail(err, FAR_CORRUPT, "'%s/vault.former' is damaged or of another version", where);
    }
    size_t count = former.len != 0 ? far_get_le32(former.data + 12) : 0;
    memcpy(ret_keys->uuid, vault.data + 16, 16);
    if (count > 0) {
        memcpy(ret_keys->keys, former.data + 16, 32 * count);
    }
    memcpy(ret_keys->keys[count], vault.data + 32, 32);
    bool again = count > 0 && memcmp(ret_keys->keys[count - 1], ret_keys->keys[count], 32) == 0; /* the new key was not written any more */
    ret_keys->count = count + !again;
    return 0;
}

int far_vault_keys_read(const char *dir, struct far_vault_keys *ret_keys, struct far_error *err)
{
    char path[4096];
    struct far_buf vault, former;
    far_buf_init(&vault, META_BYTES);
    far_buf_init(&former, FORMER_BYTES_MAX);
    snprintf(path, sizeof path, "%.4000s/vault", dir);
    int rc = far_file_read(path, &vault, err);
    snprintf(path, sizeof path, "%.4000s/vault.former", dir);
    int had = rc == 0 ? far_file_read(path, &former, err) : FAR_NOT_FOUND;
    rc = rc == 0 && had != FAR_NOT_FOUND ? had : rc;
    rc = rc == FAR_LIMIT ? far_fail(err, FAR_CORRUPT, "'%s' is no vault: its files are too long", dir) : rc;
    rc = rc == 0 ? far_vault_keys_decode(far_buf_slice(&vault), far_buf_slice(&former), dir, ret_keys, err) : rc;
    far_buf_done(&vault);
    far_buf_done(&former);
    return rc;
}

void far_vault_keys_fingerprint(const struct far_vault_keys *keys, size_t count, uint8_t ret_fingerprint[32])
{
    uint8_t bytes[24 + sizeof keys->keys] = "FARVKEYS";
    FAR_ASSERT(count <= keys->count);
    memcpy(bytes + 8, keys->uuid, 16);
    memcpy(bytes + 24, keys->keys, 32 * count);
    int good = EVP_Digest(bytes, 24 + 32 * count, ret_fingerprint, NULL, EVP_sha256(), NULL);
    FAR_ASSERT(good == 1);
}

bool far_vault_trust_find(const char *node_dir, const uint8_t uuid[16], uint8_t ret_fingerprint[32])
{
    char path[4096], hex[33];
    struct far_buf text;
    bool found = false;
    far_hex_encode(uuid, 16, hex);
    snprintf(path, sizeof path, "%.4000s/vaults", node_dir);
    far_buf_init(&text, TRUST_BYTES_MAX);
    if (far_file_read(path, &text, NULL) == 0) {
        const char *line = (const char *)text.data;
        const char *end = line + text.len;
        for (size_t len = 0; line < end && !found; line += len + 1) { /* "<uuid> <fingerprint>" and whatever follows */
            const char *newline = memchr(line, '\n', (size_t)(end - line));
            len = (size_t)((newline != NULL ? newline : end) - line);
            found = len >= 32 + 1 + 64 && memcmp(line, hex, 32) == 0 && line[32] == ' ' &&
                    far_hex_decode(line + 33, 64, ret_fingerprint, 32);
        }
    }
    far_buf_done(&text);
    return found;
}
