/* Objects of a store: see objects.h. On a good day each function is one request (s3_request.h); a conditional put that was refused looks
 * at what is there, because the refusal may come from its own first attempt. Lists are in object_list.c, files in object_upload.c. */
#include "objects/objects.h"

#include "objects/object_config.h"
#include "objects/object_upload.h"
#include "objects/s3_request.h"

#include <curl/curl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    LOOKS_MAX = 5, /* a store may refuse a write for an object that it shows a moment later only */
    LOOK_PAUSE_MS = 100,
    COMPARE_BYTES = 4 * 1024 * 1024,
    MS_PER_S = 1000,
    RANGE_TEXT = 64,
};

/* ---- open and close ---- */

static void start_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

int far_objects_open(const struct far_objects_options *options, struct far_objects **ret_objects, struct far_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_curl);
    struct far_objects *objects = calloc(1, sizeof *objects);
    if (objects == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for an object store");
    }
    objects->options = *options;
    far_objects_options_fill(&objects->options);
    pthread_mutex_init(&objects->mutex, NULL);
    int rc = far_objects_options_check(options, err);
    rc = rc == 0 ? far_objects_endpoint(options->endpoint, objects->authority, &objects->tls, err) : rc;
    rc = rc == 0 ? far_objects_keys_read(options->credentials, &objects->keys, err) : rc;
    if (rc != 0) {
        far_objects_close(objects);
        return rc;
    }
    *ret_objects = objects;
    return 0;
}

void far_objects_close(struct far_objects *objects)
{
    if (objects == NULL) {
        return;
    }
    for (size_t i = 0; i < objects->idle_count; i++) {
        curl_easy_cleanup(objects->idle[i]);
    }
    OPENSSL_cleanse(&objects->keys, sizeof objects->keys);
    pthread_mutex_destroy(&objects->mutex);
    free(objects);
}

/* ---- put ---- */

void far_s3_until_text(uint64_t ms, char text[32])
{
    char plain[FAR_SIGV4_TIME_MAX]; /* 20150830T123600Z */
    far_sigv4_time(ms + MS_PER_S - 1, plain);
    snprintf(text, 32, "%.4s-%.2s-%.2sT%.2s:%.2s:%.2sZ", plain, plain + 4, plain + 6, plain + 9, plain + 11, plain + 13);
}

void far_s3_condition_headers(struct far_s3_request *request, const struct far_object_put *put, struct far_s3_put_texts *texts)
{
    if (put != NULL && put->condition == FAR_OBJECT_NEW) {
        far_s3_header(request, "if-none-match", "*");
    } else if (put != NULL && put->condition == FAR_OBJECT_SAME) {
        snprintf(texts->etag, sizeof texts->etag, "\"%.70s\"", put->etag);
        far_s3_header(request, "if-match", texts->etag);
    }
}

int far_s3_lock_headers(struct far_objects *objects, struct far_s3_request *request, const struct far_object_put *put,
                        struct far_s3_put_texts *texts, struct far_error *err)
{
    if (put == NULL || put->retain_until_ms == 0) {
        return 0;
    }
    if (objects->options.lock_mode[0] == '\0') {
        return far_fail(err, FAR_INVALID, "an object is to be locked, and the store's configuration has no lock_mode");
    }
    strcpy(texts->mode, strcmp(objects->options.lock_mode, "compliance") == 0 ? "COMPLIANCE" : "GOVERNANCE");
    far_s3_until_text(put->retain_until_ms, texts->until);
    far_s3_header(request, "x-amz-object-lock-mode", texts->mode);
    far_s3_header(request, "x-amz-object-lock-retain-until-date", texts->until);
    return 0;
}

static int differs(struct far_error *err, const char *key)
{
    return far_fail(err, FAR_CONFLICT, "there is another object '%.200s'", key);
}

/* Both are read in pieces: an object may be as large as a pack. */
static int compare(struct far_objects *objects, const char *key, const struct far_s3_body *body, struct far_object *ret_object,
                struct far_error *err)
{
    struct far_object object;
    int rc = far_objects_head(objects, key, &object, err);
    if (rc != 0 || object.size != body->len) {
        return rc != 0 ? rc : differs(err, key);
    }
    struct far_s3_body piece = *body;
    uint8_t *theirs = malloc(COMPARE_BYTES);
    rc = theirs == NULL ? far_fail(err, FAR_LIMIT, "no memory to compare an object") : 0;
    for (uint64_t done = 0; done < body->len && rc == 0; done += piece.len) {
        uint64_t left = body->len - done;
        piece.len = left < COMPARE_BYTES ? left : COMPARE_BYTES;
        piece.data = body->data != NULL ? body->data + done : NULL;
        piece.offset = body->offset + done;
        rc = far_objects_get(objects, key, object.version[0] != '\0' ? object.version : NULL, done, (size_t)piece.len, theirs, err);
        uint8_t digest[32];
        if (rc == 0 && EVP_Digest(theirs, (size_t)piece.len, digest, NULL, EVP_sha256(), NULL) != 1) {
            rc = far_fail(err, FAR_INTERNAL, "libcrypto has no SHA-256");
        }
        rc = rc == 0 ? far_s3_body_hash(&piece, err) : rc;
        if (rc == 0 && memcmp(piece.sha256, digest, sizeof digest) != 0) {
            rc = differs(err, key);
        }
    }
    free(theirs);
    if (rc == 0 && ret_object != NULL) {
        *ret_object = object;
    }
    return rc;
}

int far_s3_same(struct far_objects *objects, const char *key, const struct far_s3_body *body, struct far_object *ret_object,
                struct far_error *err)
{
    int rc = FAR_NOT_FOUND;
    for (unsigned looks = 0; looks < LOOKS_MAX && rc == FAR_NOT_FOUND; looks++) {
        if (looks > 0) {
            far_s3_pause(LOOK_PAUSE_MS);
        }
        rc = compare(objects, key, body, ret_object, err);
    }
    return rc == FAR_NOT_FOUND ? far_fail(err, FAR_CONFLICT, "the store refused '%.200s' for another object, which is gone", key) : rc;
}

static int put_body(struct far_objects *objects, const char *key, const struct far_s3_body *body, const struct far_object_put *put,
                    int (*sent)(void *arg, uint64_t bytes), void *arg, struct far_object *ret_object, struct far_error *err)
{
    struct far_s3_put_texts texts;
    struct far_s3_answer answer = {0};
    struct far_s3_request request = {.method = "PUT", .key = key, .verb = "write", .body = body, .checksum = true, .root = NULL,
                                     .sent = sent, .arg = arg};
    far_s3_condition_headers(&request, put, &texts);
    int rc = far_s3_lock_headers(objects, &request, put, &texts, err);
    if (rc != 0) {
        return rc;
    }
    rc = far_s3_do(objects, &request, &answer, err);
    if (rc == 0) {
        answer.object.size = body->len;
        answer.object.retain_until_ms = put != NULL ? put->retain_until_ms : 0;
        if (ret_object != NULL) {
            *ret_object = answer.object;
        }
    }
    bool ours_perhaps = put != NULL && (put->condition == FAR_OBJECT_NEW || (put->condition == FAR_OBJECT_SAME && answer.ambiguous));
    if (rc == FAR_CONFLICT && ours_perhaps) {
        rc = far_s3_same(objects, key, body, ret_object, err);
    }
    if (rc == FAR_NOT_FOUND && put != NULL && put->condition == FAR_OBJECT_SAME && strcmp(answer.fault.code, "NoSuchBucket") != 0) {
        rc = far_fail(err, FAR_CONFLICT, "the object '%.200s' is gone", key);
    }
    far_s3_answer_done(&answer);
    return rc;
}

int far_s3_put_body(struct far_objects *objects, const char *key, const struct far_s3_body *body, const struct far_object_put *put,
                    int (*sent)(void *arg, uint64_t bytes), void *arg, struct far_object *ret_object, struct far_error *err)
{
    struct far_s3_body hashed = *body;
    int rc = far_s3_key_check(key, err);
    rc = rc == 0 ? far_s3_body_hash(&hashed, err) : rc;
    return rc == 0 ? put_body(objects, key, &hashed, put, sent, arg, ret_object, err) : rc;
}

int far_objects_put(struct far_objects *objects, const char *key, struct far_slice bytes, const struct far_object_put *put,
                    struct far_object *ret_object, struct far_error *err)
{
    struct far_s3_body body = {.data = bytes.len > 0 ? bytes.data : (const uint8_t *)"", .len = bytes.len};
    return far_s3_put_body(objects, key, &body, put, NULL, NULL, ret_object, err);
}

/* ---- get ---- */

/* The store gave the range that was asked for, or all if that is the same. */
static int check_range(const struct far_s3_answer *answer, uint64_t offset, size_t len, struct far_error *err)
{
    bool is_part = answer->status == 206 && answer->has_range && answer->range_first == offset && answer->range_last == offset + len - 1;
    bool is_all = answer->status == 200 && offset == 0 && answer->has_length && answer->length == len;
    return is_part || is_all ? 0 : far_fail(err, FAR_CORRUPT, "the store gave another range than it was asked for");
}

int far_objects_get(struct far_objects *objects, const char *key, const char *version, uint64_t offset, size_t len, void *ret_bytes,
                    struct far_error *err)
{
    char range[RANGE_TEXT];
    struct far_s3_answer answer = {0};
    struct far_s3_request request = {.method = "GET", .key = key, .verb = "read", .into = ret_bytes, .into_len = len};
    int rc = far_s3_key_check(key, err);
    if (rc != 0 || len == 0) {
        return rc;
    }
    snprintf(range, sizeof range, "bytes=%llu-%llu", (unsigned long long)offset, (unsigned long long)(offset + len - 1));
    far_s3_header(&request, "range", range);
    if (version != NULL) {
        far_s3_query(&request, "versionId", version);
    }
    rc = far_s3_do(objects, &request, &answer, err);
    if (rc == 0 && (rc = check_range(&answer, offset, len, err)) != 0) {
        far_error_context(err, "read '%.200s' from %llu on", key, (unsigned long long)offset);
    }
    far_s3_answer_done(&answer);
    return rc;
}

int far_objects_read(struct far_objects *objects, const char *key, size_t bytes_max, struct far_buf *ret_bytes,
                     struct far_object *ret_object, struct far_error *err)
{
    struct far_s3_answer answer = {0};
    struct far_s3_request request = {.method = "GET", .key = key, .verb = "read", .answer_max = (uint64_t)bytes_max + 1,
                                     .large_is_limit = true};
    int rc = far_s3_key_check(key, err);
    rc = rc == 0 ? far_s3_do(objects, &request, &answer, err) : rc;
    if (rc == 0 && (!answer.has_length || answer.length != answer.body.len)) {
        rc = far_fail(err, FAR_CORRUPT, "read '%.200s': the store does not say how long the object is", key);
    }
    if (rc == 0 && answer.body.len > bytes_max) {
        rc = far_fail(err, FAR_LIMIT, "the object '%.200s' has more than %zu bytes", key, bytes_max);
    }
    rc = rc == 0 && far_buf_append(ret_bytes, answer.body.data, answer.body.len) != 0
             ? far_fail(err, FAR_LIMIT, "no memory for the object '%.200s'", key)
             : rc;
    if (rc == 0 && ret_object != NULL) {
        *ret_object = answer.object;
    }
    far_s3_answer_done(&answer);
    return rc;
}

int far_objects_head(struct far_objects *objects, const char *key, struct far_object *ret_object, struct far_error *err)
{
    return far_objects_look(objects, key, NULL, ret_object, err);
}

int far_objects_look(struct far_objects *objects, const char *key, const char *version, struct far_object *ret_object,
                     struct far_error *err)
{
    struct far_s3_answer answer = {0};
    struct far_s3_request request = {.method = "HEAD", .key = key, .verb = "look at"};
    int rc = far_s3_key_check(key, err);
    if (version != NULL) {
        far_s3_query(&request, "versionId", version);
    }
    rc = rc == 0 ? far_s3_do(objects, &request, &answer, err) : rc;
    if (rc == 0 && !answer.has_length) {
        rc = far_fail(err, FAR_CORRUPT, "look at '%.200s': the store does not say how long the object is", key);
    }
    if (rc == 0) {
        *ret_object = answer.object;
    }
    far_s3_answer_done(&answer);
    return rc;
}

int far_objects_delete(struct far_objects *objects, const char *key, const char *version, struct far_error *err)
{
    struct far_s3_answer answer = {0};
    struct far_s3_request request = {.method = "DELETE", .key = key, .verb = "delete"};
    int rc = far_s3_key_check(key, err);
    if (version != NULL) {
        far_s3_query(&request, "versionId", version);
    }
    rc = rc == 0 ? far_s3_do(objects, &request, &answer, err) : rc;
    if (rc == FAR_NOT_FOUND && (strcmp(answer.fault.code, "NoSuchKey") == 0 || strcmp(answer.fault.code, "NoSuchVersion") == 0)) {
        rc = 0;
    }
    far_s3_answer_done(&answer);
    return rc;
}
