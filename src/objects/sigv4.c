/* AWS Signature Version 4: see sigv4.h. On a good day: the request is written in its canonical form, hashed, and the hash signed with
 * a key that the secret, the date, the region and the service give. Fails only for want of room or of libcrypto's HMAC. */
#include "objects/sigv4.h"

#include "base/date.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>

enum { HASH_BYTES = 32, HEX_BYTES = 65, CANONICAL_MAX = 64 * 1024, DATE_CHARS = 8 };

const char *far_sigv4_time(uint64_t ms, char text[FAR_SIGV4_TIME_MAX])
{
    uint64_t seconds = ms / 1000, of_day = seconds % 86400;
    struct far_date date = far_date_of_days(seconds / 86400);
    snprintf(text, FAR_SIGV4_TIME_MAX, "%04u%02u%02uT%02u%02u%02uZ", (unsigned)(date.year % 10000), date.month % 100u, date.day % 100u,
             (unsigned)(of_day / 3600), (unsigned)(of_day / 60 % 60), (unsigned)(of_day % 60));
    return text;
}

int far_uri_encode(struct far_buf *out, struct far_slice text, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";
    int rc = 0;
    for (size_t i = 0; i < text.len && rc == 0; i++) {
        uint8_t c = text.data[i];
        bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
                     c == '_' || c == '~' || (c == '/' && keep_slash);
        char code[3] = {'%', digits[c >> 4], digits[c & 15]};
        rc = plain ? far_buf_append(out, &c, 1) : far_buf_append(out, code, 3);
    }
    return rc;
}

/* ---- the query ---- */

/* An encoded pair within the text of all. */
struct place {
    const struct far_buf *text;
    size_t name, name_len, value, value_len;
};

static int by_name_and_value(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    int order = far_slice_compare(far_slice(x->text->data + x->name, x->name_len), far_slice(y->text->data + y->name, y->name_len));
    return order != 0 ? order
                      : far_slice_compare(far_slice(x->text->data + x->value, x->value_len),
                                          far_slice(y->text->data + y->value, y->value_len));
}

int far_sigv4_query(const struct far_sigv4_pair *query, size_t count, struct far_buf *out)
{
    struct place places[FAR_SIGV4_PAIRS_MAX];
    struct far_buf text;
    far_buf_init(&text, CANONICAL_MAX);
    int rc = count > FAR_SIGV4_PAIRS_MAX ? FAR_LIMIT : far_buf_append(&text, "", 1); /* so that there is memory to point to */
    for (size_t i = 0; i < count && rc == 0; i++) {
        places[i] = (struct place){.text = &text, .name = text.len};
        rc = far_uri_encode(&text, far_slice_str(query[i].name), false);
        places[i].name_len = text.len - places[i].name;
        places[i].value = text.len;
        rc = rc == 0 ? far_uri_encode(&text, far_slice_str(query[i].value), false) : rc;
        places[i].value_len = text.len - places[i].value;
    }
    if (rc == 0 && count > 0) {
        qsort(places, count, sizeof *places, by_name_and_value);
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = i > 0 ? far_buf_append(out, "&", 1) : 0;
        rc = rc == 0 ? far_buf_append(out, text.data + places[i].name, places[i].name_len) : rc;
        rc = rc == 0 ? far_buf_append(out, "=", 1) : rc;
        rc = rc == 0 ? far_buf_append(out, text.data + places[i].value, places[i].value_len) : rc;
    }
    far_buf_done(&text);
    return rc;
}

/* ---- the canonical request ---- */

static int by_header_name(const void *a, const void *b)
{
    const struct far_sigv4_pair *const *x = a, *const *y = b;
    int order = strcmp((*x)->name, (*y)->name);
    return order != 0 ? order : (*x > *y) - (*x < *y); /* values of one name stay in the order of the request */
}

/* Without white space at the ends, and one blank for each run of it. */
static int append_trimmed(struct far_buf *out, const char *value)
{
    int rc = 0;
    bool blank = false, begun = false;
    for (; *value != '\0' && rc == 0; value++) {
        if (strchr(" \t\r\n", *value) != NULL) {
            blank = begun;
            continue;
        }
        rc = blank ? far_buf_append(out, " ", 1) : 0;
        rc = rc == 0 ? far_buf_append(out, value, 1) : rc;
        blank = false;
        begun = true;
    }
    return rc;
}

static size_t sorted_headers(const struct far_sigv4_request *request, const struct far_sigv4_pair *ret_sorted[FAR_SIGV4_PAIRS_MAX])
{
    for (size_t i = 0; i < request->header_count; i++) {
        ret_sorted[i] = &request->headers[i];
    }
    qsort(ret_sorted, request->header_count, sizeof *ret_sorted, by_header_name);
    return request->header_count;
}

/* "host;x-amz-date" */
static int append_names(const struct far_sigv4_pair *const *sorted, size_t count, struct far_buf *out)
{
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        if (i > 0 && strcmp(sorted[i]->name, sorted[i - 1]->name) == 0) {
            continue;
        }
        rc = far_buf_printf(out, "%s%s", i > 0 ? ";" : "", sorted[i]->name);
    }
    return rc;
}

int far_sigv4_canonical(const struct far_sigv4_request *request, struct far_buf *out)
{
    const struct far_sigv4_pair *sorted[FAR_SIGV4_PAIRS_MAX] = {0};
    if (request->header_count > FAR_SIGV4_PAIRS_MAX) {
        return FAR_LIMIT;
    }
    size_t count = sorted_headers(request, sorted);
    int rc = far_buf_printf(out, "%s\n%s\n", request->method, request->path);
    rc = rc == 0 ? far_sigv4_query(request->query, request->query_count, out) : rc;
    for (size_t i = 0; i < count && rc == 0; i++) {
        bool again = i > 0 && strcmp(sorted[i]->name, sorted[i - 1]->name) == 0;
        rc = again ? far_buf_append(out, ",", 1) : far_buf_printf(out, "\n%s:", sorted[i]->name);
        rc = rc == 0 ? append_trimmed(out, sorted[i]->value) : rc;
    }
    rc = rc == 0 ? far_buf_append(out, "\n\n", 2) : rc;
    rc = rc == 0 ? append_names(sorted, count, out) : rc;
    return rc == 0 ? far_buf_printf(out, "\n%s", request->payload_sha256) : rc;
}

/* ---- the signature ---- */

static bool hmac(const void *key, size_t key_len, const void *text, size_t len, uint8_t ret[HASH_BYTES])
{
    unsigned int written = 0;
    return HMAC(EVP_sha256(), key, (int)key_len, text, len, ret, &written) != NULL && written == HASH_BYTES;
}

static bool sign(const struct far_sigv4_request *request, const char *to_sign, size_t len, char ret_hex[HEX_BYTES])
{
    char secret[300];
    uint8_t key[HASH_BYTES], next[HASH_BYTES];
    int secret_len = snprintf(secret, sizeof secret, "AWS4%s", request->secret_key);
    bool good = secret_len > 0 && (size_t)secret_len < sizeof secret &&
                hmac(secret, (size_t)secret_len, request->time, DATE_CHARS, key) &&
                hmac(key, sizeof key, request->region, strlen(request->region), next) &&
                hmac(next, sizeof next, request->service, strlen(request->service), key) &&
                hmac(key, sizeof key, "aws4_request", strlen("aws4_request"), next) && hmac(next, sizeof next, to_sign, len, key);
    if (good) {
        far_hex_encode(key, sizeof key, ret_hex);
    }
    OPENSSL_cleanse(secret, sizeof secret);
    OPENSSL_cleanse(key, sizeof key);
    OPENSSL_cleanse(next, sizeof next);
    return good;
}

int far_sigv4_authorize(const struct far_sigv4_request *request, struct far_buf *out, struct far_error *err)
{
    const struct far_sigv4_pair *sorted[FAR_SIGV4_PAIRS_MAX] = {0};
    char scope[160], to_sign[512], hex[HEX_BYTES];
    uint8_t hash[HASH_BYTES];
    struct far_buf canonical;
    far_buf_init(&canonical, CANONICAL_MAX);
    int rc = far_sigv4_canonical(request, &canonical);
    if (rc != 0) {
        rc = far_fail(err, rc, "the request is too long to be signed");
        goto out;
    }
    snprintf(scope, sizeof scope, "%.8s/%.64s/%.16s/aws4_request", request->time, request->region, request->service);
    if (EVP_Digest(canonical.data, canonical.len, hash, NULL, EVP_sha256(), NULL) != 1) {
        rc = far_fail(err, FAR_INTERNAL, "libcrypto has no SHA-256");
        goto out;
    }
    far_hex_encode(hash, sizeof hash, hex);
    int len = snprintf(to_sign, sizeof to_sign, "AWS4-HMAC-SHA256\n%s\n%s\n%s", request->time, scope, hex);
    if (!sign(request, to_sign, (size_t)len, hex)) {
        rc = far_fail(err, FAR_INTERNAL, "the request could not be signed: the secret key is too long, or libcrypto refuses HMAC");
        goto out;
    }
    size_t count = sorted_headers(request, sorted);
    rc = far_buf_printf(out, "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=", request->access_key, scope);
    rc = rc == 0 ? append_names(sorted, count, out) : rc;
    rc = rc == 0 ? far_buf_printf(out, ", Signature=%s", hex) : rc;
    rc = rc == 0 ? 0 : far_fail(err, rc, "the request is too long to be signed");
out:
    far_buf_done(&canonical);
    return rc;
}
