/* One request to an S3-compatible store, repeated until it is answered: signed, over a connection of the pool, bounded in bytes and time.
 *
 * The only place that sends anything. Any thread; far_s3_do() blocks. What may help by waiting is tried again (objects.h says what),
 * with pauses that double and a random part, and as long as the store says in Retry-After if that is within the bound. */
#ifndef FAR_OBJECTS_S3_REQUEST_H
#define FAR_OBJECTS_S3_REQUEST_H

#include "objects/objects.h"
#include "objects/s3_xml.h"
#include "objects/sigv4.h"

#include <pthread.h>

enum {
    FAR_S3_POOL_MAX = 16, /* connections that are kept while nobody uses them */
    FAR_S3_QUERY_MAX = 8,
    FAR_S3_HEADERS_MAX = 10,
    FAR_S3_SHA_B64 = 48,
};

/* See objects.h. */
struct far_objects {
    struct far_objects_options options; /* with what 0 means filled in */
    char authority[256];                /* host[:port], as signed and sent */
    bool tls;
    pthread_mutex_t mutex; /* of what follows */
    void *idle[FAR_S3_POOL_MAX];
    size_t idle_count;
    struct far_s3_keys {
        char access_key[160];
        char secret_key[160];
        char session_token[4096]; /* "" = none */
    } keys;
};

/* The bytes that are sent: from memory, or of a file. */
struct far_s3_body {
    const uint8_t *data; /* NULL: from fd */
    int fd;
    uint64_t offset;
    uint64_t len;
    uint8_t sha256[32]; /* set by far_s3_body_hash() */
};
int far_s3_body_hash(struct far_s3_body *body, struct far_error *err);

struct far_s3_request {
    const char *method;
    const char *key;  /* NULL: the bucket itself; else without the prefix */
    const char *verb; /* for messages: "write", "list" … */
    struct far_sigv4_pair query[FAR_S3_QUERY_MAX];
    size_t query_count;
    struct far_sigv4_pair headers[FAR_S3_HEADERS_MAX]; /* names in lower case; all of x-amz-… and content-md5 are signed */
    size_t header_count;
    const struct far_s3_body *body; /* NULL: none */
    bool checksum;                  /* x-amz-checksum-sha256 of the body */
    const char *root;               /* the answer is XML with this root; "" = any bytes; NULL = a body is not looked at */
    uint8_t *into;                  /* what an answer of 2xx goes to, exactly into_len bytes; NULL: to answer.body */
    uint64_t into_len;
    uint64_t answer_max;   /* bytes of answer.body; 0 = FAR_S3_XML_MAX. More is FAR_LIMIT if large_is_limit, else FAR_CORRUPT */
    uint64_t retry_max_ms; /* 0 = of the options */
    /* Told now and then how much of the body is sent; other than 0: FAR_CANCELED. May be NULL. */
    int (*sent)(void *arg, uint64_t bytes);
    void *arg;
    bool large_is_limit;
};

struct far_s3_answer {
    long status;
    struct far_buf body;
    struct far_object object; /* size: Content-Length, or of all in Content-Range */
    bool has_length;          /* Content-Length was told */
    uint64_t length;
    bool has_range;
    uint64_t range_first, range_last;
    uint64_t date_ms; /* the store's clock; 0 = not told */
    bool ambiguous;   /* an attempt before the last may have been carried out … */
    bool unanswered;  /* … and nothing was answered to it */
    struct far_s3_fault fault;
    char lock_mode[16];
    char bucket_region[64];
    uint64_t retry_after_ms;
};
/* Begins as zeroes; also before far_s3_do() is called again. */
void far_s3_answer_done(struct far_s3_answer *answer);

/* 0: answered with 2xx. Else the class and message of the answer; answer->status is 0 if there was none. */
int far_s3_do(struct far_objects *objects, const struct far_s3_request *request, struct far_s3_answer *answer, struct far_error *err);

/* Sleeps. */
void far_s3_pause(uint64_t ms);

/* Room left in request->query and headers is the caller's care. */
static inline void far_s3_query(struct far_s3_request *request, const char *name, const char *value)
{
    request->query[request->query_count++] = (struct far_sigv4_pair){name, value};
}
static inline void far_s3_header(struct far_s3_request *request, const char *name, const char *value)
{
    request->headers[request->header_count++] = (struct far_sigv4_pair){name, value};
}
/* FAR_INVALID: no key for a store. */
int far_s3_key_check(const char *key, struct far_error *err);

/* What objects.h means by them; shared by whole puts and uploads in parts. */
enum { FAR_S3_CONDITION_BYTES = 80 };
/* Adds the headers of put (may be NULL); texts must live as long as the request. */
struct far_s3_put_texts {
    char etag[FAR_S3_CONDITION_BYTES];
    char until[32];
    char mode[16];
};
void far_s3_condition_headers(struct far_s3_request *request, const struct far_object_put *put, struct far_s3_put_texts *texts);
/* FAR_INVALID: no lock_mode is set. */
int far_s3_lock_headers(struct far_objects *objects, struct far_s3_request *request, const struct far_object_put *put,
                        struct far_s3_put_texts *texts, struct far_error *err);
/* After a conditional put was refused, or may have been carried out: 0, with the object, if what is there is these bytes; else
 * FAR_CONFLICT, also if there is nothing. */
int far_s3_same(struct far_objects *objects, const char *key, const struct far_s3_body *body, struct far_object *ret_object,
                struct far_error *err);
/* RetainUntilDate of a time, rounded up to a second. */
void far_s3_until_text(uint64_t ms, char text[32]);

#endif
