/* Join and API tokens: see join_token.h. */
#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_Init: see far_token_hash */
#include "net/join_token.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>

enum {
    VERSION = 0,
    CHECK_BYTES = 4,
    HEAD_BYTES = 1 + 32 + 32 + 1,
    RAW_MAX = HEAD_BYTES + FAR_JOIN_TOKEN_ADDRESSES_MAX * (1 + FAR_JOIN_TOKEN_ADDRESS_BYTES_MAX) + CHECK_BYTES,
};
_Static_assert((RAW_MAX + 2) / 3 * 4 < FAR_JOIN_TOKEN_TEXT_MAX, "the text holds every token");

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void base64url_encode(const uint8_t *data, size_t len, char *text)
{
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t v = (uint32_t)data[i] << 16;
        v |= n > 1 ? (uint32_t)data[i + 1] << 8 : 0;
        v |= n > 2 ? data[i + 2] : 0;
        for (size_t k = 0; k <= n; k++) {
            *text++ = alphabet[v >> (18 - 6 * k) & 63];
        }
    }
    *text = '\0';
}

/* The number of bytes, or SIZE_MAX if the text is not the one text of any bytes. */
static size_t base64url_decode(const char *text, size_t len, uint8_t *data, size_t room)
{
    if (len % 4 == 1 || len / 4 * 3 + len % 4 > room) {
        return SIZE_MAX;
    }
    size_t out = 0;
    uint32_t v = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < len; i++) {
        const char *digit = text[i] == '\0' ? NULL : strchr(alphabet, text[i]);
        if (digit == NULL) {
            return SIZE_MAX;
        }
        v = v << 6 | (uint32_t)(digit - alphabet);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            data[out++] = (uint8_t)(v >> bits);
        }
    }
    return (v & ((1u << bits) - 1)) == 0 ? out : SIZE_MAX;
}

static void checksum(const uint8_t *raw, size_t len, uint8_t check[CHECK_BYTES])
{
    uint8_t hash[32];
    SHA256(raw, len, hash);
    memcpy(check, hash, CHECK_BYTES);
}

int far_join_token_print(const struct far_join_token *token, char *text, struct far_error *err)
{
    uint8_t raw[RAW_MAX];
    if (token->address_count == 0 || token->address_count > FAR_JOIN_TOKEN_ADDRESSES_MAX) {
        return far_fail(err, FAR_INVALID, "a join token has 1 to %d addresses", (int)FAR_JOIN_TOKEN_ADDRESSES_MAX);
    }
    raw[0] = VERSION;
    memcpy(raw + 1, token->ca_hash, 32);
    memcpy(raw + 33, token->secret, 32);
    raw[65] = (uint8_t)token->address_count;
    size_t len = HEAD_BYTES;
    for (size_t i = 0; i < token->address_count; i++) {
        size_t n = strnlen(token->addresses[i], FAR_JOIN_TOKEN_ADDRESS_BYTES_MAX + 1);
        if (n == 0 || n > FAR_JOIN_TOKEN_ADDRESS_BYTES_MAX) {
            return far_fail(err, FAR_INVALID, "an address of a join token is empty or too long");
        }
        raw[len++] = (uint8_t)n;
        memcpy(raw + len, token->addresses[i], n);
        len += n;
    }
    checksum(raw, len, raw + len);
    base64url_encode(raw, len + CHECK_BYTES, text);
    OPENSSL_cleanse(raw, sizeof raw);
    return 0;
}

static void trim(const char **text, size_t *len)
{
    static const char blanks[] = " \t\r\n";
    while (*len > 0 && memchr(blanks, (*text)[0], 4) != NULL) {
        (*text)++;
        (*len)--;
    }
    while (*len > 0 && memchr(blanks, (*text)[*len - 1], 4) != NULL) {
        (*len)--;
    }
}

/* An address goes into a URL and a log line: printable, no blanks. */
static bool address_is_clean(const uint8_t *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= 0x20 || text[i] >= 0x7f || strchr("/@\\\"'?#%", text[i]) != NULL) {
            return false;
        }
    }
    return len > 0;
}

static int parse_raw(const uint8_t *raw, size_t len, struct far_join_token *token, struct far_error *err)
{
    uint8_t check[CHECK_BYTES];
    if (len < HEAD_BYTES + CHECK_BYTES) {
        return far_fail(err, FAR_INVALID, "the join token is incomplete; copy it whole");
    }
    len -= CHECK_BYTES;
    checksum(raw, len, check);
    if (memcmp(check, raw + len, CHECK_BYTES) != 0) {
        return far_fail(err, FAR_INVALID, "the join token is damaged or incomplete; copy it whole");
    }
    if (raw[0] != VERSION) {
        return far_fail(err, FAR_INVALID, "join token of version %u; this program knows version %u", (unsigned)raw[0],
                        (unsigned)VERSION);
    }
    memcpy(token->ca_hash, raw + 1, 32);
    memcpy(token->secret, raw + 33, 32);
    token->address_count = raw[65];
    size_t at = HEAD_BYTES;
    if (token->address_count == 0 || token->address_count > FAR_JOIN_TOKEN_ADDRESSES_MAX) {
        return far_fail(err, FAR_INVALID, "the join token has %zu addresses", token->address_count);
    }
    for (size_t i = 0; i < token->address_count; i++) {
        size_t n = at < len ? raw[at++] : 0;
        if (n > len - at || !address_is_clean(raw + at, n)) {
            return far_fail(err, FAR_INVALID, "the join token has a bad address");
        }
        memcpy(token->addresses[i], raw + at, n);
        token->addresses[i][n] = '\0';
        at += n;
    }
    return at == len ? 0 : far_fail(err, FAR_INVALID, "the join token has bytes behind its end");
}

int far_join_token_parse(const char *text, size_t len, struct far_join_token *ret_token, struct far_error *err)
{
    uint8_t raw[RAW_MAX + 3];
    struct far_join_token token = {0};
    trim(&text, &len);
    size_t raw_len = base64url_decode(text, len, raw, sizeof raw);
    int rc = raw_len == SIZE_MAX ? far_fail(err, FAR_INVALID, "this is not a join token") : 0;
    if (rc == 0) {
        rc = parse_raw(raw, raw_len, &token, err);
    }
    if (rc == 0) {
        *ret_token = token;
    }
    OPENSSL_cleanse(raw, sizeof raw);
    OPENSSL_cleanse(&token, sizeof token);
    return rc;
}

int far_token_argument(const char *argument, const char *what, char *text, struct far_error *err)
{
    if (argument[0] != '@') {
        if (strlen(argument) >= FAR_JOIN_TOKEN_TEXT_MAX) {
            return far_fail(err, FAR_INVALID, "the %s is too long", what);
        }
        strcpy(text, argument);
        return 0;
    }
    FILE *file = strcmp(argument, "@-") == 0 ? stdin : fopen(argument + 1, "re");
    if (file == NULL) {
        return far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "read the %s from '%s'", what,
                              argument + 1);
    }
    size_t len = fread(text, 1, FAR_JOIN_TOKEN_TEXT_MAX, file);
    bool failed = ferror(file) != 0;
    if (file != stdin) {
        fclose(file);
    }
    if (failed || len == FAR_JOIN_TOKEN_TEXT_MAX) {
        return far_fail(err, FAR_INVALID, "'%s' holds no %s", argument + 1, what);
    }
    text[len] = '\0';
    return 0;
}

void far_token_hash(const uint8_t secret[32], uint8_t ret_hash[32])
{
    SHA256_CTX context; /* SHA256() of OpenSSL 3 looks the algorithm up each time, which costs more than the hash */
    SHA256_Init(&context);
    SHA256_Update(&context, secret, 32);
    SHA256_Final(ret_hash, &context);
    OPENSSL_cleanse(&context, sizeof context);
}

static const char api_prefix[4] = {'f', 'a', 'r', '_'};

void far_api_token_print(const uint8_t secret[32], char text[FAR_API_TOKEN_TEXT_MAX])
{
    memcpy(text, api_prefix, sizeof api_prefix);
    far_hex_encode(secret, 32, text + sizeof api_prefix);
}

bool far_api_token_parse(const char *text, size_t len, uint8_t ret_secret[32])
{
    trim(&text, &len);
    return len == FAR_API_TOKEN_TEXT_MAX - 1 && memcmp(text, api_prefix, sizeof api_prefix) == 0 &&
           far_hex_decode(text + sizeof api_prefix, len - sizeof api_prefix, ret_secret, 32);
}
