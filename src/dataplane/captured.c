/* Captured configurations: see captured.h. */
#include "dataplane/captured.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum { LEVEL = 9 };

struct far_captured *far_captured_ref(struct far_captured *captured)
{
    if (captured != NULL) {
        far_users_add(&captured->users);
    }
    return captured;
}

void far_captured_unref(struct far_captured *captured)
{
    if (captured != NULL && far_users_drop(&captured->users)) {
        free(captured);
    }
}

int far_captured_pack(struct far_captured *captured, const char *text, const uint8_t *known, struct far_error *err)
{
    size_t len = strlen(text);
    if (len >= FAR_CAPTURED_TEXT_MAX) {
        return far_fail(err, FAR_LIMIT, "it is %zu bytes long, %d are allowed", len, FAR_CAPTURED_TEXT_MAX - 1);
    }
    if (EVP_Digest(text, len, captured->hash, NULL, EVP_sha256(), NULL) != 1) {
        return far_fail(err, FAR_INTERNAL, "SHA-256 does not work");
    }
    captured->len = 0;
    if (known == NULL || memcmp(known, captured->hash, sizeof captured->hash) != 0) {
        size_t packed = ZSTD_compress(captured->bytes, sizeof captured->bytes, text, len, LEVEL);
        if (ZSTD_isError(packed)) {
            return far_fail(err, FAR_LIMIT, "it is longer than %d bytes even when it is compressed", FAR_CAPTURED_BYTES_MAX);
        }
        captured->len = packed;
    }
    captured->is_known = true;
    return 0;
}

int far_captured_text(const uint8_t *bytes, size_t len, char **ret_text, struct far_error *err)
{
    unsigned long long size = ZSTD_getFrameContentSize(bytes, len);
    if (size >= FAR_CAPTURED_TEXT_MAX) { /* also where it is no frame, or does not say */
        return far_fail(err, FAR_CORRUPT, "the configuration of a machine is no frame of zstd, or too long");
    }
    char *text = malloc((size_t)size + 1);
    if (text == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the configuration of a machine");
    }
    size_t got = ZSTD_decompress(text, (size_t)size, bytes, len);
    if (ZSTD_isError(got) || got != size) {
        free(text);
        return far_fail(err, FAR_CORRUPT, "the configuration of a machine is a damaged frame of zstd");
    }
    text[got] = '\0';
    *ret_text = text;
    return 0;
}
