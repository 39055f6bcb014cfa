/* AWS Signature Version 4: the authorization of one request, and the encoding of names in addresses that it depends on.
 *
 * Values, any thread; no clock: the time comes with the request. What derives from the secret key is wiped before a function returns.
 * Source: "Signature Version 4 signing process" in the reference of the S3 API; tests/unit/test_sigv4.c has the published vectors. */
#ifndef FAR_OBJECTS_SIGV4_H
#define FAR_OBJECTS_SIGV4_H

#include "base/buf.h"

struct far_sigv4_pair {
    const char *name; /* of a header: in lower case */
    const char *value;
};

struct far_sigv4_request {
    const char *access_key;
    const char *secret_key;
    const char *region;
    const char *service; /* "s3" */
    const char *time;    /* 20150830T123600Z, the value of x-amz-date */
    const char *method;
    const char *path; /* encoded: far_uri_encode() */
    const struct far_sigv4_pair *query; /* not encoded, in any order */
    size_t query_count;
    const struct far_sigv4_pair *headers; /* all that are signed, in any order */
    size_t header_count;
    const char *payload_sha256; /* hexadecimal, or UNSIGNED-PAYLOAD */
};

enum { FAR_SIGV4_PAIRS_MAX = 24, FAR_SIGV4_TIME_MAX = 24 };

/* The time of x-amz-date: milliseconds since 1970 as 20150830T123600Z. Returns text. */
const char *far_sigv4_time(uint64_t ms, char text[FAR_SIGV4_TIME_MAX]);
/* Percent-encodes all but letters, digits and "-._~"; with keep_slash also not '/'. FAR_LIMIT. */
int far_uri_encode(struct far_buf *out, struct far_slice text, bool keep_slash);
/* The query as it is signed and sent: encoded and in order, without the '?'. FAR_LIMIT. */
int far_sigv4_query(const struct far_sigv4_pair *query, size_t count, struct far_buf *out);
/* Appends the canonical request (for tests and far_sigv4_authorize()). FAR_LIMIT. */
int far_sigv4_canonical(const struct far_sigv4_request *request, struct far_buf *out);
/* Appends the value of the header `authorization`. FAR_LIMIT, FAR_INTERNAL (libcrypto refused). */
int far_sigv4_authorize(const struct far_sigv4_request *request, struct far_buf *out, struct far_error *err);

#endif
