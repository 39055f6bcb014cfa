/* One request to a store: see s3_request.h. On a good day: a connection from the pool, signed headers, the body streamed from memory or
 * file, the answer into its place. An attempt ends early when no byte moves for timeout_ms or when more comes than may; what the
 * answer means is judged by s3_judge.c; the loop around it waits and tries again until retry_max_ms are over. */
#include "objects/s3_request.h"

#include "base/clock.h"
#include "base/random.h"
#include "objects/object_config.h"
#include "objects/s3_judge.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    PAUSE_FIRST_MS = 100,
    PAUSE_MAX_MS = 8000,
    PAUSE_STEP_MS = 200, /* how often a pause looks whether it is canceled */
    FAULT_BYTES_MAX = 64 * 1024,
    RATE_MIN = 16 * 1024, /* bytes a second; an attempt may take no longer, however it drips */
    PATH_MAX_BYTES = 4096,
    HEADER_MAX_BYTES = 6144,
    BUFFER_BYTES = 256 * 1024,
};

struct attempt {
    struct far_objects *objects;
    const struct far_s3_request *request;
    struct far_s3_answer *answer;
    CURL *curl;
    struct curl_slist *headers;
    uint64_t got;  /* bytes of the answer in `into` */
    uint64_t sent; /* of the body */
    bool too_much; /* the answer has more bytes than may be */
    bool stalled;
    bool canceled;
    int read_errno; /* of the file that is sent */
    bool file_ended;
    curl_off_t moved; /* as of the last look */
    uint64_t moved_ms;
};

void far_s3_answer_done(struct far_s3_answer *answer)
{
    far_buf_done(&answer->body);
    memset(answer, 0, sizeof *answer);
}

int far_s3_key_check(const char *key, struct far_error *err)
{
    size_t len = key == NULL ? 0 : strlen(key);
    if (len == 0 || len > FAR_OBJECT_KEY_MAX || key[0] == '/') {
        return far_fail(err, FAR_INVALID, "a key of an object has 1 to %d bytes and no '/' at its beginning", FAR_OBJECT_KEY_MAX);
    }
    for (const char *part = key; part != NULL; part = strchr(part, '/')) {
        part += *part == '/';
        size_t part_len = strcspn(part, "/");
        if ((part_len == 1 && part[0] == '.') || (part_len == 2 && part[0] == '.' && part[1] == '.')) {
            return far_fail(err, FAR_INVALID, "a key of an object has no part '.' or '..'");
        }
    }
    return 0;
}

/* ---- the body ---- */

int far_s3_body_hash(struct far_s3_body *body, struct far_error *err)
{
    if (body->data != NULL || body->len == 0) {
        return EVP_Digest(body->data, (size_t)body->len, body->sha256, NULL, EVP_sha256(), NULL) == 1
                   ? 0
                   : far_fail(err, FAR_INTERNAL, "libcrypto has no SHA-256");
    }
    uint8_t *buffer = malloc(BUFFER_BYTES);
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    int rc = buffer == NULL || digest == NULL || EVP_DigestInit_ex(digest, EVP_sha256(), NULL) != 1
                 ? far_fail(err, FAR_LIMIT, "no memory to hash what is sent")
                 : 0;
    for (uint64_t done = 0; done < body->len && rc == 0;) {
        size_t want = body->len - done < BUFFER_BYTES ? (size_t)(body->len - done) : BUFFER_BYTES;
        ssize_t got = pread(body->fd, buffer, want, (off_t)(body->offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            rc = got < 0 ? far_fail_errno(err, FAR_IO, errno, "read the file that is to be stored")
                         : far_fail(err, FAR_IO, "the file that is to be stored ends early");
            break;
        }
        EVP_DigestUpdate(digest, buffer, (size_t)got);
        done += (uint64_t)got;
    }
    if (rc == 0 && EVP_DigestFinal_ex(digest, body->sha256, NULL) != 1) {
        rc = far_fail(err, FAR_INTERNAL, "libcrypto has no SHA-256");
    }
    EVP_MD_CTX_free(digest);
    free(buffer);
    return rc;
}

static size_t send_body(char *buffer, size_t size, size_t count, void *arg)
{
    struct attempt *a = arg;
    const struct far_s3_body *body = a->request->body;
    uint64_t left = body->len - a->sent;
    size_t len = size * count < left ? size * count : (size_t)left;
    if (body->data != NULL) {
        memcpy(buffer, body->data + a->sent, len);
    } else if (len > 0) {
        ssize_t got;
        do {
            got = pread(body->fd, buffer, len, (off_t)(body->offset + a->sent));
        } while (got < 0 && errno == EINTR);
        if (got <= 0) {
            a->read_errno = got < 0 ? errno : 0;
            a->file_ended = got == 0;
            return CURL_READFUNC_ABORT;
        }
        len = (size_t)got;
    }
    a->sent += len;
    return len;
}

/* curl goes back when a connection of the pool turned out to be closed. */
static int seek_body(void *arg, curl_off_t offset, int origin)
{
    struct attempt *a = arg;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > a->request->body->len) {
        return CURL_SEEKFUNC_FAIL;
    }
    a->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* ---- the answer ---- */

static size_t take_header(char *data, size_t size, size_t count, void *arg)
{
    struct attempt *a = arg;
    far_s3_take_header(a->answer, data, size * count);
    return size * count;
}

static uint64_t answer_max(const struct far_s3_request *request)
{
    return request->answer_max != 0 ? request->answer_max : FAR_S3_XML_MAX;
}

static size_t take_body(char *data, size_t size, size_t count, void *arg)
{
    struct attempt *a = arg;
    size_t len = size * count;
    long status = 0;
    curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &status);
    bool good = status >= 200 && status < 300;
    if (good && a->request->into != NULL) {
        if (len > a->request->into_len - a->got) {
            a->too_much = true;
            return 0;
        }
        memcpy(a->request->into + a->got, data, len);
        a->got += len;
        return len;
    }
    uint64_t most = good ? answer_max(a->request) : FAULT_BYTES_MAX;
    if (!good && a->answer->body.len + len > most) { /* what it says of its fault: the beginning will do */
        return len;
    }
    a->too_much = a->answer->body.len + len > most || far_buf_append(&a->answer->body, data, len) != 0;
    return a->too_much ? 0 : len;
}

static int look(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    (void)down_total, (void)up_total;
    struct attempt *a = arg;
    uint64_t now = far_clock_monotonic_ms();
    if (down + up != a->moved) {
        a->moved = down + up;
        a->moved_ms = now;
    }
    a->stalled = now - a->moved_ms > a->objects->options.timeout_ms;
    a->canceled = a->request->sent != NULL && a->request->sent(a->request->arg, a->sent) != 0;
    return a->stalled || a->canceled;
}

/* ---- the request ---- */

/* /bucket/prefix key, encoded. */
static int append_path(const struct far_objects *objects, const struct far_s3_request *request, struct far_buf *out)
{
    int rc = far_buf_printf(out, "/");
    rc = rc == 0 ? far_uri_encode(out, far_slice_str(objects->options.bucket), false) : rc;
    if (request->key != NULL) {
        rc = rc == 0 ? far_buf_printf(out, "/") : rc;
        rc = rc == 0 ? far_uri_encode(out, far_slice_str(objects->options.prefix), true) : rc;
        rc = rc == 0 ? far_uri_encode(out, far_slice_str(request->key), true) : rc;
    }
    return rc == 0 ? far_buf_append(out, "", 1) : rc;
}

static bool add_header(struct attempt *a, const char *name, const char *value)
{
    char line[HEADER_MAX_BYTES];
    int len = snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *more = len > 0 && (size_t)len < sizeof line ? curl_slist_append(a->headers, line) : NULL;
    a->headers = more != NULL ? more : a->headers;
    return more != NULL;
}

/* Those of the request and what every one has; all of them are signed but those that are no names of S3. */
static int sign_headers(struct attempt *a, const struct far_s3_keys *keys, const char *path, struct far_error *err)
{
    const struct far_s3_request *request = a->request;
    struct far_sigv4_pair headers[FAR_SIGV4_PAIRS_MAX];
    char time[FAR_SIGV4_TIME_MAX], hash[65], checksum[FAR_S3_SHA_B64];
    static const uint8_t empty[32] = {0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
                                      0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55};
    const uint8_t *sha = request->body != NULL ? request->body->sha256 : empty;
    size_t count = 0;
    struct far_buf value;
    far_buf_init(&value, HEADER_MAX_BYTES);
    far_hex_encode(sha, 32, hash);
    headers[count++] = (struct far_sigv4_pair){"host", a->objects->authority};
    headers[count++] = (struct far_sigv4_pair){"x-amz-date", far_sigv4_time(far_clock_wall_ms(), time)};
    headers[count++] = (struct far_sigv4_pair){"x-amz-content-sha256", hash};
    if (keys->session_token[0] != '\0') {
        headers[count++] = (struct far_sigv4_pair){"x-amz-security-token", keys->session_token};
    }
    if (request->checksum) {
        EVP_EncodeBlock((unsigned char *)checksum, sha, 32);
        headers[count++] = (struct far_sigv4_pair){"x-amz-checksum-sha256", checksum};
    }
    bool fits = true;
    for (size_t i = 0; i < request->header_count; i++) {
        if (strncmp(request->headers[i].name, "x-amz-", 6) == 0 || strcmp(request->headers[i].name, "content-md5") == 0) {
            headers[count++] = request->headers[i];
        } else {
            fits = fits && add_header(a, request->headers[i].name, request->headers[i].value);
        }
    }
    struct far_sigv4_request to_sign = {
        .access_key = keys->access_key, .secret_key = keys->secret_key, .region = a->objects->options.region, .service = "s3",
        .time = time, .method = request->method, .path = path, .query = request->query, .query_count = request->query_count,
        .headers = headers, .header_count = count, .payload_sha256 = hash,
    };
    int rc = far_sigv4_authorize(&to_sign, &value, err);
    for (size_t i = 0; i < count && rc == 0; i++) {
        fits = fits && add_header(a, headers[i].name, headers[i].value);
    }
    if (rc == 0) {
        fits = fits && far_buf_append(&value, "", 1) == 0 && add_header(a, "authorization", (const char *)value.data);
        /* curl would ask for a go-ahead and wait a second for it, and name a type of forms */
        fits = fits && add_header(a, "expect", "");
        fits = fits && add_header(a, "content-type", request->body != NULL ? "application/octet-stream" : "");
        rc = fits ? 0 : far_fail(err, FAR_LIMIT, "no memory for a request");
    }
    far_buf_done(&value);
    return rc;
}

static int set_address(struct attempt *a, const struct far_s3_keys *keys, struct far_error *err)
{
    struct far_buf path, url;
    far_buf_init(&path, PATH_MAX_BYTES);
    far_buf_init(&url, 2 * FAR_S3_XML_MAX);
    int rc = append_path(a->objects, a->request, &path);
    const char *scheme = a->objects->tls ? "https" : "http";
    rc = rc == 0 ? far_buf_printf(&url, "%s://%s%s", scheme, a->objects->authority, (const char *)path.data) : rc;
    if (rc == 0 && a->request->query_count > 0) {
        rc = far_buf_append(&url, "?", 1);
        rc = rc == 0 ? far_sigv4_query(a->request->query, a->request->query_count, &url) : rc;
    }
    rc = rc == 0 ? far_buf_append(&url, "", 1) : rc;
    if (rc != 0) {
        rc = far_fail(err, rc, "the address of an object is too long");
    } else if (curl_easy_setopt(a->curl, CURLOPT_URL, (const char *)url.data) != CURLE_OK) {
        rc = far_fail(err, FAR_LIMIT, "no memory for a request");
    } else {
        rc = sign_headers(a, keys, (const char *)path.data, err);
    }
    far_buf_done(&path);
    far_buf_done(&url);
    return rc;
}

static void set_limits(struct attempt *a)
{
    const struct far_objects_options *options = &a->objects->options;
    const struct far_s3_request *request = a->request;
    uint64_t bytes = (request->body != NULL ? request->body->len : 0) + (request->into != NULL ? request->into_len : answer_max(request));
    uint64_t whole_ms = 3 * options->timeout_ms + bytes / RATE_MIN * 1000;
    curl_easy_setopt(a->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)options->timeout_ms);
    curl_easy_setopt(a->curl, CURLOPT_TIMEOUT_MS, (long)(whole_ms < 1u << 31 ? whole_ms : 1u << 31));
    curl_easy_setopt(a->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(a->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(a->curl, CURLOPT_XFERINFOFUNCTION, look);
    curl_easy_setopt(a->curl, CURLOPT_XFERINFODATA, a);
}

static void set_trust(struct attempt *a)
{
    const struct far_objects_options *options = &a->objects->options;
    curl_easy_setopt(a->curl, CURLOPT_PROTOCOLS_STR, a->objects->tls ? "https" : "http");
    curl_easy_setopt(a->curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(a->curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(a->curl, CURLOPT_PROXY, "");
    if (options->ca[0] != '\0') {
        curl_easy_setopt(a->curl, CURLOPT_CAINFO, options->ca);
        curl_easy_setopt(a->curl, CURLOPT_CAPATH, NULL);
    }
}

static void set_body(struct attempt *a)
{
    const struct far_s3_request *request = a->request;
    bool puts = strcmp(request->method, "PUT") == 0 || strcmp(request->method, "POST") == 0;
    if (strcmp(request->method, "HEAD") == 0) {
        curl_easy_setopt(a->curl, CURLOPT_NOBODY, 1L);
    } else if (puts && request->body != NULL) {
        curl_easy_setopt(a->curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(a->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body->len);
        curl_easy_setopt(a->curl, CURLOPT_READFUNCTION, send_body);
        curl_easy_setopt(a->curl, CURLOPT_READDATA, a);
        curl_easy_setopt(a->curl, CURLOPT_SEEKFUNCTION, seek_body);
        curl_easy_setopt(a->curl, CURLOPT_SEEKDATA, a);
    } else if (puts) {
        curl_easy_setopt(a->curl, CURLOPT_POSTFIELDS, "");
    }
    if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0) {
        curl_easy_setopt(a->curl, CURLOPT_CUSTOMREQUEST, request->method);
    }
}

/* ---- the pool ---- */

static CURL *take_connection(struct far_objects *objects, struct far_s3_keys *ret_keys)
{
    pthread_mutex_lock(&objects->mutex);
    CURL *curl = objects->idle_count > 0 ? objects->idle[--objects->idle_count] : NULL;
    *ret_keys = objects->keys;
    pthread_mutex_unlock(&objects->mutex);
    if (curl == NULL) {
        return curl_easy_init();
    }
    curl_easy_reset(curl); /* its connection stays */
    return curl;
}

static void give_connection(struct far_objects *objects, CURL *curl)
{
    pthread_mutex_lock(&objects->mutex);
    bool kept = curl != NULL && objects->idle_count < FAR_S3_POOL_MAX;
    if (kept) {
        objects->idle[objects->idle_count++] = curl;
    }
    pthread_mutex_unlock(&objects->mutex);
    if (!kept) {
        curl_easy_cleanup(curl);
    }
}

/* ---- one attempt ---- */

static int perform(struct attempt *a, struct far_s3_verdict *verdict, struct far_error *err)
{
    char words[CURL_ERROR_SIZE] = "";
    curl_easy_setopt(a->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(a->curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(a->curl, CURLOPT_HTTPHEADER, a->headers);
    curl_easy_setopt(a->curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(a->curl, CURLOPT_HEADERDATA, a);
    curl_easy_setopt(a->curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(a->curl, CURLOPT_WRITEDATA, a);
    curl_easy_setopt(a->curl, CURLOPT_BUFFERSIZE, (long)BUFFER_BYTES);
    curl_easy_setopt(a->curl, CURLOPT_UPLOAD_BUFFERSIZE, (long)BUFFER_BYTES);
    curl_easy_setopt(a->curl, CURLOPT_ERRORBUFFER, words);
    a->moved_ms = far_clock_monotonic_ms();
    CURLcode code = curl_easy_perform(a->curl);
    curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &a->answer->status);
    curl_easy_setopt(a->curl, CURLOPT_ERRORBUFFER, NULL);
    if (a->canceled) {
        return far_fail(err, FAR_CANCELED, "canceled");
    }
    if (a->read_errno != 0 || a->file_ended) {
        return a->read_errno != 0 ? far_fail_errno(err, FAR_IO, a->read_errno, "read the file that is to be stored")
                                  : far_fail(err, FAR_IO, "the file that is to be stored ends early");
    }
    if (a->too_much) {
        return far_fail(err, a->request->large_is_limit ? FAR_LIMIT : FAR_CORRUPT, "the answer has more bytes than it may");
    }
    if (code != CURLE_OK) {
        return far_s3_judge_transport(code, a->stalled, words, a->answer, verdict, err);
    }
    if (a->request->into != NULL && a->answer->status / 100 == 2 && a->got != a->request->into_len) {
        return far_fail(err, FAR_CORRUPT, "the answer has %llu bytes, %llu were asked for", (unsigned long long)a->got,
                        (unsigned long long)a->request->into_len);
    }
    return far_s3_judge(a->request->root, a->answer, verdict, err);
}

static int try_once(struct far_objects *objects, const struct far_s3_request *request, struct far_s3_answer *answer,
                    struct far_s3_verdict *verdict, struct far_error *err)
{
    struct far_s3_keys keys;
    bool ambiguous = answer->ambiguous, unanswered = answer->unanswered;
    far_s3_answer_done(answer);
    answer->ambiguous = ambiguous;
    answer->unanswered = unanswered;
    far_buf_init(&answer->body, answer_max(request) > FAULT_BYTES_MAX ? answer_max(request) : FAULT_BYTES_MAX);
    struct attempt a = {.objects = objects, .request = request, .answer = answer, .curl = take_connection(objects, &keys)};
    int rc = a.curl == NULL ? far_fail(err, FAR_LIMIT, "no memory for a request") : set_address(&a, &keys, err);
    OPENSSL_cleanse(&keys, sizeof keys);
    if (rc == 0) {
        set_limits(&a);
        set_trust(&a);
        set_body(&a);
        rc = perform(&a, verdict, err);
    }
    if (a.curl != NULL) {
        curl_easy_setopt(a.curl, CURLOPT_HTTPHEADER, NULL);
    }
    curl_slist_free_all(a.headers);
    give_connection(objects, a.curl);
    return rc;
}

/* ---- again and again ---- */

static uint64_t pause_ms(unsigned tries, uint64_t retry_after_ms)
{
    uint32_t random;
    uint64_t most = tries < 7 ? (uint64_t)PAUSE_FIRST_MS << tries : PAUSE_MAX_MS;
    far_random_bytes(&random, sizeof random);
    most = most < PAUSE_MAX_MS ? most : PAUSE_MAX_MS;
    uint64_t pause = most / 2 + random % (most / 2 + 1);
    return pause > retry_after_ms ? pause : retry_after_ms;
}

void far_s3_pause(uint64_t ms)
{
    struct timespec time = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

/* False: canceled meanwhile. */
static bool rest(const struct far_s3_request *request, uint64_t ms)
{
    while (ms > 0) {
        uint64_t step = ms < PAUSE_STEP_MS ? ms : PAUSE_STEP_MS;
        far_s3_pause(step);
        ms -= step;
        if (request->sent != NULL && request->sent(request->arg, 0) != 0) {
            return false;
        }
    }
    return true;
}

/* Are there other keys in the file than we have? Whoever renews temporary ones writes them there. */
static bool renew_keys(struct far_objects *objects)
{
    struct far_s3_keys keys;
    if (far_objects_keys_read(objects->options.credentials, &keys, NULL) != 0) {
        return false;
    }
    pthread_mutex_lock(&objects->mutex);
    bool are_new = CRYPTO_memcmp(&keys, &objects->keys, sizeof keys) != 0;
    objects->keys = keys;
    pthread_mutex_unlock(&objects->mutex);
    OPENSSL_cleanse(&keys, sizeof keys);
    return are_new;
}

static int in_context(const struct far_objects *objects, const struct far_s3_request *request, struct far_error *err)
{
    const char *bucket = objects->options.bucket;
    return request->key != NULL ? far_error_context(err, "%s '%.200s' at %.80s", request->verb, request->key, objects->authority)
                                : far_error_context(err, "%s bucket '%s' at %.80s", request->verb, bucket, objects->authority);
}

int far_s3_do(struct far_objects *objects, const struct far_s3_request *request, struct far_s3_answer *answer, struct far_error *err)
{
    struct far_error own = {0};
    err = err != NULL ? err : &own;
    uint64_t bound = request->retry_max_ms != 0 ? request->retry_max_ms : objects->options.retry_max_ms;
    uint64_t began = far_clock_monotonic_ms();
    bool renewed = false;
    memset(answer, 0, sizeof *answer);
    for (unsigned tries = 0;; tries++) {
        struct far_s3_verdict verdict = {0};
        int rc = try_once(objects, request, answer, &verdict, err);
        if (rc == 0) {
            return 0;
        }
        if (verdict.stale_keys && !renewed && renew_keys(objects)) {
            renewed = true;
            continue;
        }
        if (!verdict.again) {
            return in_context(objects, request, err);
        }
        answer->ambiguous = answer->ambiguous || verdict.maybe_done;
        answer->unanswered = answer->unanswered || verdict.unanswered;
        uint64_t pause = pause_ms(tries, answer->retry_after_ms);
        uint64_t spent = far_clock_monotonic_ms() - began;
        if (spent + pause > bound) {
            err->klass = FAR_BUSY;
            far_error_context(err, "gave up after %u attempts in %llu s", tries + 1, (unsigned long long)(spent / 1000));
            return in_context(objects, request, err);
        }
        if (!rest(request, pause)) {
            far_fail(err, FAR_CANCELED, "canceled");
            return in_context(objects, request, err);
        }
    }
}
