/* What a store is and who we are there: the options of objects.h in a file, their check, the file of the credentials.
 * Messages never hold a value of the credentials; what was read of them is wiped. */
#include "objects/s3_request.h"

#include "base/config.h"
#include "objects/object_config.h"

#include <curl/curl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum {
    KEYS = 10,
    REGION_MAX = 63,
    PART_BYTES = 16 << 20,
    PART_BYTES_MIN = 5 << 20,
    PART_BYTES_MAX = 1 << 30,
    RETRY_MS = 60000,
    RETRY_MS_MAX = 24 * 3600 * 1000,
    TIMEOUT_MS = 20000,
};

static size_t describe(struct far_objects_options *o, struct far_config_key keys[KEYS])
{
    size_t n = 0;
    keys[n++] = (struct far_config_key){"endpoint", FAR_CONFIG_TEXT, o->endpoint, sizeof o->endpoint, .required = true,
                                        .comment = "https://host[:port] of the store (http:// only on this machine)"};
    keys[n++] = (struct far_config_key){"region", FAR_CONFIG_TEXT, o->region, sizeof o->region, .required = false,
                                        .comment = "empty: us-east-1"};
    keys[n++] = (struct far_config_key){"bucket", FAR_CONFIG_TEXT, o->bucket, sizeof o->bucket, .required = true};
    keys[n++] = (struct far_config_key){"prefix", FAR_CONFIG_TEXT, o->prefix, sizeof o->prefix,
                                        .required = false, .comment = "of all keys: empty, or ending with /"};
    keys[n++] = (struct far_config_key){"credentials", FAR_CONFIG_TEXT, o->credentials, sizeof o->credentials, .required = true,
                                        .comment = "a file with access_key, secret_key and perhaps session_token, mode 0600"};
    keys[n++] = (struct far_config_key){"ca", FAR_CONFIG_TEXT, o->ca, sizeof o->ca,
                                        .required = false, .comment = "certificates that are trusted (PEM); empty: the machine's"};
    keys[n++] = (struct far_config_key){"lock_mode", FAR_CONFIG_TEXT, o->lock_mode, sizeof o->lock_mode,
                                        .required = false, .comment = "object lock of locked points: empty, governance or compliance"};
    keys[n++] = (struct far_config_key){"part_bytes", FAR_CONFIG_U64, &o->part_bytes, .max = PART_BYTES_MAX,
                                        .comment = "of uploads in parts; 0: 16m"};
    keys[n++] = (struct far_config_key){"retry_max_ms", FAR_CONFIG_U64, &o->retry_max_ms, .max = RETRY_MS_MAX,
                                        .comment = "how long a request is tried again; 0: a minute"};
    keys[n++] = (struct far_config_key){"keep_bytes", FAR_CONFIG_U64, &o->keep_bytes, .max = UINT64_MAX,
                                        .comment = "of packs that are kept on the node's own disk, too"};
    return n;
}

int far_objects_options_read(const char *path, struct far_objects_options *ret_options, struct far_error *err)
{
    struct far_config_key keys[KEYS];
    struct far_objects_options options = {0};
    int rc = far_config_load(path, keys, describe(&options, keys), err);
    rc = rc == 0 ? far_objects_options_check(&options, err) : rc;
    if (rc == 0) {
        *ret_options = options;
    }
    return rc;
}

int far_objects_options_write(const char *path, const struct far_objects_options *options, struct far_error *err)
{
    struct far_config_key keys[KEYS];
    struct far_objects_options copy = *options;
    int rc = far_objects_options_check(options, err);
    return rc == 0 ? far_config_save(path, keys, describe(&copy, keys), err) : rc;
}

/* ---- the check ---- */

static bool is_loopback(const char *host)
{
    unsigned a, b, c, d;
    char end;
    return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
           (sscanf(host, "%3u.%3u.%3u.%3u%c", &a, &b, &c, &d, &end) == 4 && a == 127 && b < 256 && c < 256 && d < 256);
}

/* Is part absent? curl frees what it gave. */
static bool has(CURLU *url, CURLUPart part)
{
    char *text = NULL;
    bool there = curl_url_get(url, part, &text, 0) == CURLUE_OK && strcmp(text, "/") != 0 && text[0] != '\0';
    curl_free(text);
    return there;
}

int far_objects_endpoint(const char *endpoint, char ret_authority[256], bool *ret_tls, struct far_error *err)
{
    char *scheme = NULL, *host = NULL, *port = NULL;
    CURLU *url = curl_url();
    int rc = 0;
    if (url == NULL || curl_url_set(url, CURLUPART_URL, endpoint, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK || curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK) {
        rc = far_fail(err, FAR_INVALID, "endpoint '%.200s' is not https://host[:port]", endpoint);
        goto out;
    }
    bool has_port = curl_url_get(url, CURLUPART_PORT, &port, CURLU_NO_DEFAULT_PORT) == CURLUE_OK;
    bool tls = strcmp(scheme, "https") == 0;
    if (has(url, CURLUPART_PATH) || has(url, CURLUPART_QUERY) || has(url, CURLUPART_FRAGMENT)) {
        rc = far_fail(err, FAR_INVALID, "endpoint '%.200s' has more than https://host[:port]", endpoint);
    } else if (has(url, CURLUPART_USER) || has(url, CURLUPART_PASSWORD)) {
        rc = far_fail(err, FAR_INVALID, "endpoint has a user or password in it: those stand in the file of the credentials");
    } else if (!tls && strcmp(scheme, "http") != 0) {
        rc = far_fail(err, FAR_INVALID, "endpoint '%.200s' is not https://host[:port]", endpoint);
    } else if (!tls && !is_loopback(host)) {
        rc = far_fail(err, FAR_INVALID, "endpoint '%.200s': http:// is only for this machine itself; use https://", endpoint);
    } else {
        snprintf(ret_authority, 256, has_port ? "%s:%s" : "%s", host, port);
        *ret_tls = tls;
    }
out:
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(url);
    return rc;
}

/* Of lower-case letters, digits, '.' and '-'; nothing that another address could be made of. */
static bool is_name(const char *text, size_t min, size_t max)
{
    size_t len = strlen(text);
    return len >= min && len <= max && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789.-") == len && text[0] != '.' && text[0] != '-';
}

int far_objects_options_check(const struct far_objects_options *o, struct far_error *err)
{
    char authority[256];
    bool tls;
    size_t prefix_len = strlen(o->prefix);
    int rc = far_objects_endpoint(o->endpoint, authority, &tls, err);
    if (rc != 0) {
        return rc;
    }
    if (!is_name(o->bucket, 3, sizeof o->bucket - 1)) {
        return far_fail(err, FAR_INVALID, "bucket '%s' is no name of a bucket (3 to 63 of a-z, 0-9, '.' and '-')", o->bucket);
    }
    if (o->region[0] != '\0' && !is_name(o->region, 1, REGION_MAX)) {
        return far_fail(err, FAR_INVALID, "region '%s' is no name of a region", o->region);
    }
    if (prefix_len > 0 && (o->prefix[prefix_len - 1] != '/' || far_s3_key_check(o->prefix, NULL) != 0)) {
        return far_fail(err, FAR_INVALID, "prefix '%s' must end with '/', begin with another, and have no part '.' or '..'", o->prefix);
    }
    if (o->lock_mode[0] != '\0' && strcmp(o->lock_mode, "governance") != 0 && strcmp(o->lock_mode, "compliance") != 0) {
        return far_fail(err, FAR_INVALID, "lock_mode '%s' is neither empty, governance nor compliance", o->lock_mode);
    }
    if (o->part_bytes != 0 && (o->part_bytes < PART_BYTES_MIN || o->part_bytes > PART_BYTES_MAX)) {
        return far_fail(err, FAR_INVALID, "part_bytes must be 5m to 1g, or 0 for 16m");
    }
    if (o->credentials[0] == '\0') {
        return far_fail(err, FAR_INVALID, "credentials is missing: the file with access_key and secret_key");
    }
    return 0;
}

void far_objects_options_fill(struct far_objects_options *o)
{
    if (o->region[0] == '\0') {
        strcpy(o->region, "us-east-1");
    }
    o->part_bytes = o->part_bytes != 0 ? o->part_bytes : PART_BYTES;
    o->retry_max_ms = o->retry_max_ms != 0 ? o->retry_max_ms : RETRY_MS;
    o->timeout_ms = o->timeout_ms != 0 ? o->timeout_ms : TIMEOUT_MS;
}

/* ---- the credentials ---- */

/* They go into headers. */
static bool is_printable(const char *text)
{
    size_t i = 0;
    while (text[i] > ' ' && text[i] <= '~') {
        i++;
    }
    return text[i] == '\0';
}

int far_objects_keys_read(const char *path, struct far_s3_keys *ret_keys, struct far_error *err)
{
    struct stat st;
    struct far_s3_keys keys = {0};
    const struct far_config_key described[] = {
        {"access_key", FAR_CONFIG_TEXT, keys.access_key, sizeof keys.access_key, .required = true},
        {"secret_key", FAR_CONFIG_TEXT, keys.secret_key, sizeof keys.secret_key, .required = true},
        {"session_token", FAR_CONFIG_TEXT, keys.session_token, sizeof keys.session_token, .required = false},
    };
    if (stat(path, &st) == 0 && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return far_fail(err, FAR_DENIED, "others may read or write the credentials in '%s': chmod 600 it", path);
    }
    int rc = far_config_load(path, described, sizeof described / sizeof *described, err);
    if (rc == 0 && (keys.access_key[0] == '\0' || keys.secret_key[0] == '\0' || !is_printable(keys.access_key) ||
                    !is_printable(keys.secret_key) || !is_printable(keys.session_token))) {
        rc = far_fail(err, FAR_INVALID, "'%s' has no keys in it that can be", path);
    }
    if (rc == 0) {
        *ret_keys = keys;
    }
    OPENSSL_cleanse(&keys, sizeof keys);
    return rc;
}
