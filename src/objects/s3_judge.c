/* What answers mean: see s3_judge.h. First the code that the store names in its <Error>, then the status; "200 with an error in
 * the body" is an error. What is not known is not tried again. */
#include "objects/s3_judge.h"

#include "base/clock.h"
#include "base/moment.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { MS_PER_S = 1000, RETRY_AFTER_MAX_MS = 24 * 3600 * 1000 };

/* ---- the head ---- */

static void keep_text(char *ret, size_t size, const char *value)
{
    if (strlen(value) < size) {
        strcpy(ret, value);
    }
}

static uint64_t date_ms(const char *value)
{
    time_t seconds = curl_getdate(value, NULL);
    return seconds > 0 ? (uint64_t)seconds * MS_PER_S : 0;
}

static void take_range(struct far_s3_answer *answer, const char *value)
{
    unsigned long long first, last, total;
    if (sscanf(value, "bytes %llu-%llu/%llu", &first, &last, &total) == 3 && first <= last && last < total) {
        answer->has_range = true;
        answer->range_first = first;
        answer->range_last = last;
        answer->object.size = total;
    }
}

static void take_length(struct far_s3_answer *answer, const char *value)
{
    char *end = NULL;
    unsigned long long length = strtoull(value, &end, 10);
    if (value[0] >= '0' && value[0] <= '9' && *end == '\0') {
        answer->has_length = true;
        answer->length = length;
        answer->object.size = answer->has_range ? answer->object.size : length;
    }
}

static void take_etag(struct far_s3_answer *answer, char *value)
{
    size_t len = strlen(value);
    if (len >= 2 && value[0] == '"' && value[len - 1] == '"') {
        value[len - 1] = '\0';
        value++;
    }
    keep_text(answer->object.etag, sizeof answer->object.etag, value);
}

static void take_retry_after(struct far_s3_answer *answer, const char *value)
{
    char *end = NULL;
    uint64_t now = far_clock_wall_ms();
    unsigned long long seconds = strtoull(value, &end, 10);
    if (value[0] >= '0' && value[0] <= '9' && *end == '\0') {
        answer->retry_after_ms = seconds < RETRY_AFTER_MAX_MS / MS_PER_S ? seconds * MS_PER_S : RETRY_AFTER_MAX_MS;
    } else if (date_ms(value) > now) {
        answer->retry_after_ms = date_ms(value) - now;
    }
}

void far_s3_take_header(struct far_s3_answer *answer, const char *line, size_t len)
{
    char text[512];
    if (len >= sizeof text) {
        return;
    }
    memcpy(text, line, len);
    text[len] = '\0';
    if (strncmp(text, "HTTP/", 5) == 0) { /* after a "100 Continue" another head begins */
        memset(&answer->object, 0, sizeof answer->object);
        answer->has_length = answer->has_range = false;
        return;
    }
    char *value = strchr(text, ':');
    if (value == NULL) {
        return;
    }
    *value++ = '\0';
    value += strspn(value, " \t");
    value[strcspn(value, "\r\n")] = '\0';
    struct far_moment until;
    if (strcasecmp(text, "content-length") == 0) {
        take_length(answer, value);
    } else if (strcasecmp(text, "content-range") == 0) {
        take_range(answer, value);
    } else if (strcasecmp(text, "etag") == 0) {
        take_etag(answer, value);
    } else if (strcasecmp(text, "last-modified") == 0) {
        answer->object.modified_ms = date_ms(value);
    } else if (strcasecmp(text, "date") == 0) {
        answer->date_ms = date_ms(value);
    } else if (strcasecmp(text, "x-amz-version-id") == 0 && strcmp(value, "null") != 0) {
        keep_text(answer->object.version, sizeof answer->object.version, value);
    } else if (strcasecmp(text, "x-amz-object-lock-mode") == 0) {
        keep_text(answer->lock_mode, sizeof answer->lock_mode, value);
    } else if (strcasecmp(text, "x-amz-object-lock-retain-until-date") == 0) {
        bool good = far_moment_parse(far_slice_str(value), &until, NULL) == 0 && until.kind == FAR_MOMENT_TIME;
        answer->object.retain_until_ms = good ? until.value : 0;
    } else if (strcasecmp(text, "x-amz-bucket-region") == 0) {
        keep_text(answer->bucket_region, sizeof answer->bucket_region, value);
    } else if (strcasecmp(text, "retry-after") == 0) {
        take_retry_after(answer, value);
    }
}

/* ---- no answer ---- */

int far_s3_judge_transport(int code, bool stalled, const char *words, const struct far_s3_answer *answer,
                           struct far_s3_verdict *ret_verdict, struct far_error *err)
{
    const char *said = words[0] != '\0' ? words : curl_easy_strerror((CURLcode)code);
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
        return far_fail(err, FAR_DENIED, "the store's certificate is not trusted: %.200s", said);
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
        return far_fail(err, FAR_INVALID, "the file of trusted certificates (ca) cannot be used: %.200s", said);
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
        ret_verdict->again = true;
        return far_fail(err, FAR_BUSY, "%.300s", said);
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_ABORTED_BY_CALLBACK:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_FAIL_REWIND:
        ret_verdict->again = true;
        ret_verdict->maybe_done = true;
        ret_verdict->unanswered = true;
        if (stalled) {
            said = answer->status != 0 ? "no byte moved for too long, in the middle of the answer" : "no byte moved for too long";
        }
        return far_fail(err, FAR_BUSY, "%.300s", said);
    case CURLE_OUT_OF_MEMORY:
        return far_fail(err, FAR_LIMIT, "no memory for a request");
    default:
        return far_fail(err, FAR_CORRUPT, "the answer is not HTTP as a store speaks it: %.200s", said);
    }
}

/* ---- answers ---- */

struct rule {
    const char *code; /* NULL: any */
    long status;      /* 0: any */
    int klass;
    bool again;
};
/* The first that fits. */
static const struct rule rules[] = {
    {"SlowDown", 0, FAR_BUSY, true},
    {"SlowDownRead", 0, FAR_BUSY, true},
    {"SlowDownWrite", 0, FAR_BUSY, true},
    {"InternalError", 0, FAR_BUSY, true},
    {"ServiceUnavailable", 0, FAR_BUSY, true},
    {"RequestTimeout", 0, FAR_BUSY, true},
    {"IncompleteBody", 0, FAR_BUSY, true},
    {"BadDigest", 0, FAR_BUSY, true}, /* damaged on its way */
    {"XAmzContentSHA256Mismatch", 0, FAR_BUSY, true},
    {"XAmzContentChecksumMismatch", 0, FAR_BUSY, true},
    {"OperationAborted", 0, FAR_BUSY, true},
    {"ConditionalRequestConflict", 0, FAR_BUSY, true},
    {"NotImplemented", 0, FAR_INVALID, false},
    {"PreconditionFailed", 0, FAR_CONFLICT, false},
    {"NoSuchKey", 0, FAR_NOT_FOUND, false},
    {"NoSuchBucket", 0, FAR_NOT_FOUND, false},
    {"NoSuchVersion", 0, FAR_NOT_FOUND, false},
    {"NoSuchUpload", 0, FAR_NOT_FOUND, false},
    {"AccessDenied", 0, FAR_DENIED, false},
    {"InvalidAccessKeyId", 0, FAR_DENIED, false},
    {"SignatureDoesNotMatch", 0, FAR_DENIED, false},
    {"RequestTimeTooSkewed", 0, FAR_DENIED, false},
    {"ExpiredToken", 0, FAR_DENIED, false},
    {"InvalidToken", 0, FAR_DENIED, false},
    {"TokenRefreshRequired", 0, FAR_DENIED, false},
    {"ObjectLocked", 0, FAR_DENIED, false},
    {"QuotaExceeded", 0, FAR_LIMIT, false},
    {"EntityTooLarge", 0, FAR_LIMIT, false},
    {NULL, 401, FAR_DENIED, false},
    {NULL, 403, FAR_DENIED, false},
    {NULL, 404, FAR_NOT_FOUND, false},
    {NULL, 408, FAR_BUSY, true},
    {NULL, 412, FAR_CONFLICT, false},
    {NULL, 416, FAR_CORRUPT, false},
    {NULL, 425, FAR_BUSY, true},
    {NULL, 429, FAR_BUSY, true},
    {NULL, 500, FAR_BUSY, true},
    {NULL, 501, FAR_INVALID, false},
    {NULL, 502, FAR_BUSY, true},
    {NULL, 503, FAR_BUSY, true},
    {NULL, 504, FAR_BUSY, true},
    {NULL, 507, FAR_LIMIT, false},
};

static struct rule rule_of(const struct far_s3_answer *answer)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if ((rules[i].code == NULL || strcmp(rules[i].code, answer->fault.code) == 0) &&
            (rules[i].status == 0 || rules[i].status == answer->status)) {
            return rules[i];
        }
    }
    /* what one store calls an invalid request because of its lock is a refusal */
    bool locked = strstr(answer->fault.message, "WORM") != NULL;
    return (struct rule){.klass = locked ? FAR_DENIED : FAR_INVALID};
}

/* What an operator can do about it; "" if the store's own words say all. */
static const char *advice(const struct far_s3_answer *answer)
{
    const char *code = answer->fault.code;
    if (strcmp(code, "RequestTimeTooSkewed") == 0) {
        return " (this machine's clock and the store's are too far apart)";
    }
    if (strcmp(code, "SignatureDoesNotMatch") == 0) {
        return " (is the secret key right, and the region?)";
    }
    return "";
}

static bool is_about_keys(const char *code)
{
    static const char *const codes[] = {"ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch",
                                        "TokenRefreshRequired"};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        if (strcmp(code, codes[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int judge_fault(struct far_s3_answer *answer, struct far_s3_verdict *ret_verdict, struct far_error *err)
{
    if (answer->status / 100 == 3) {
        return far_fail(err, FAR_INVALID, "the store answers %ld: this bucket is served elsewhere%s%s; set endpoint and region so",
                        answer->status, answer->bucket_region[0] != '\0' ? ", in region " : "", answer->bucket_region);
    }
    struct rule rule = rule_of(answer);
    bool is_mute = answer->fault.code[0] == '\0' && (answer->status == 400 || answer->status == 403); /* as to HEAD */
    ret_verdict->again = rule.again;
    ret_verdict->stale_keys = is_about_keys(answer->fault.code) || is_mute;
    ret_verdict->maybe_done = rule.again && answer->status != 429 && answer->status != 503;
    return far_fail(err, rule.klass, "the store answers %ld%s%s%s%s%s", answer->status, answer->fault.code[0] != '\0' ? " " : "",
                    answer->fault.code, answer->fault.message[0] != '\0' ? ": " : "", answer->fault.message, advice(answer));
}

int far_s3_judge(const char *root, struct far_s3_answer *answer, struct far_s3_verdict *ret_verdict, struct far_error *err)
{
    bool good = answer->status / 100 == 2;
    bool is_xml = root != NULL && root[0] != '\0';
    if (!good || is_xml) {
        bool is_fault = far_s3_xml_fault(far_buf_slice(&answer->body), &answer->fault);
        if (is_fault || !good) {
            return judge_fault(answer, ret_verdict, err);
        }
    }
    return 0;
}
