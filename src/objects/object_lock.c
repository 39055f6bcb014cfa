/* Object lock: an object that nobody can delete or replace for good before a date. On a good day: look what date it has, and put a
 * later one. The store itself refuses an earlier one in mode compliance; in governance only those with a special right could, and
 * we do not ask for it. */
#include "objects/s3_request.h"

#include "base/moment.h"

#include <openssl/evp.h>
#include <stdio.h>

enum { BODY_MAX = 256, MS_PER_S = 1000, MD5_B64 = 32 };

static const char *mode_of(const struct far_objects *objects, const char *has)
{
    bool strict = strcmp(objects->options.lock_mode, "compliance") == 0 || strcmp(has, "COMPLIANCE") == 0;
    return strict ? "COMPLIANCE" : "GOVERNANCE";
}

/* What it has now. */
static int look(struct far_objects *objects, const char *key, const char *version, struct far_s3_answer *answer, struct far_error *err)
{
    struct far_s3_request request = {.method = "HEAD", .key = key, .verb = "look at"};
    if (version != NULL) {
        far_s3_query(&request, "versionId", version);
    }
    return far_s3_do(objects, &request, answer, err);
}

int far_objects_retain(struct far_objects *objects, const char *key, const char *version, uint64_t until_ms, struct far_error *err)
{
    char text[BODY_MAX], until[32], md5[MD5_B64];
    uint8_t digest[EVP_MAX_MD_SIZE];
    struct far_s3_answer answer = {0};
    int rc = far_s3_key_check(key, err);
    if (rc != 0) {
        return rc;
    }
    if (objects->options.lock_mode[0] == '\0') {
        return far_fail(err, FAR_INVALID, "'%.200s' is to be locked, and the store's configuration has no lock_mode", key);
    }
    rc = look(objects, key, version, &answer, err);
    if (rc != 0 || (answer.object.retain_until_ms + MS_PER_S - 1) / MS_PER_S >= (until_ms + MS_PER_S - 1) / MS_PER_S) {
        far_s3_answer_done(&answer);
        return rc;
    }
    far_s3_until_text(until_ms, until);
    int len = snprintf(text, sizeof text,
                       "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>%s</Mode>"
                       "<RetainUntilDate>%s</RetainUntilDate></Retention>",
                       mode_of(objects, answer.lock_mode), until);
    far_s3_answer_done(&answer);
    struct far_s3_body body = {.data = (const uint8_t *)text, .len = (uint64_t)len};
    struct far_s3_request request = {.method = "PUT", .key = key, .verb = "lock", .body = &body, .checksum = true};
    far_s3_query(&request, "retention", "");
    if (version != NULL) {
        far_s3_query(&request, "versionId", version);
    }
    if (EVP_Digest(text, (size_t)len, digest, NULL, EVP_md5(), NULL) == 1) { /* older stores want it here; a libcrypto may refuse */
        EVP_EncodeBlock((unsigned char *)md5, digest, 16);
        far_s3_header(&request, "content-md5", md5);
    }
    rc = far_s3_body_hash(&body, err);
    rc = rc == 0 ? far_s3_do(objects, &request, &answer, err) : rc;
    far_s3_answer_done(&answer);
    return rc;
}

int far_objects_retained(struct far_objects *objects, const char *key, const char *version, uint64_t *ret_until_ms, struct far_error *err)
{
    static const char *const roots[] = {"Retention", "ObjectLockRetention"}; /* the latter says versitygw */
    char text[FAR_S3_CONDITION_BYTES];
    struct far_moment moment = {.value = 0};
    struct far_s3_answer answer = {0};
    struct far_s3_request request = {.method = "GET", .key = key, .verb = "read the lock of", .root = ""};
    int rc = far_s3_key_check(key, err);
    far_s3_query(&request, "retention", "");
    if (version != NULL) {
        far_s3_query(&request, "versionId", version);
    }
    rc = rc == 0 ? far_s3_do(objects, &request, &answer, err) : rc;
    bool has_none = rc == FAR_INVALID || (rc == FAR_NOT_FOUND && strstr(answer.fault.code, "ObjectLock") != NULL);
    bool is_said = false;
    for (size_t i = 0; rc == 0 && !is_said && i < sizeof roots / sizeof roots[0]; i++) {
        is_said = far_s3_xml_value(far_buf_slice(&answer.body), roots[i], "RetainUntilDate", text, sizeof text, NULL) == 0;
    }
    bool fits = is_said && far_moment_parse(far_slice_str(text), &moment, NULL) == 0 && moment.kind == FAR_MOMENT_TIME;
    if (rc == 0 && is_said && !fits) {
        rc = far_fail(err, FAR_CORRUPT, "the store says of '%.200s' that it is locked until a date that is none", key);
    }
    far_s3_answer_done(&answer);
    if (rc == 0 || has_none) {
        *ret_until_ms = fits ? moment.value : 0;
        return 0;
    }
    return rc;
}
