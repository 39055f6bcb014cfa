/* HTTPS/1.1 for one handler: libwebsockets behind a small door.
 *
 * One thread of its own runs the service loop and calls every callback. A request arrives whole (body at most body_max),
 * is answered whole or as a stream that is pulled when the connection can take more, so no consumer's backlog is ever kept in
 * memory. Other threads may only far_http_post() work, which runs on the thread.
 *
 * An exchange (a request and its answer) lives until on_gone: the answer was sent, or the client went away. TLS is 1.2 or
 * newer. What fails: a request that is too large gets 413, a consumer that takes nothing for stall_ms is cut off, a
 * connection that does not come to its request within 10 s is closed, or sooner where there are too many (http_conns.h). */
#ifndef FAR_API_HTTP_H
#define FAR_API_HTTP_H

#include "base/buf.h"

enum {
    FAR_HTTP_QUERY_MAX = 16,     /* arguments; more: 400 */
    FAR_HTTP_QUERY_BYTES = 2048, /* of all of them */
    FAR_HTTP_PATH_MAX = 512,
    FAR_HTTP_HEAD_MAX = 8192, /* somewhat less is taken: see http_scan.h */
    FAR_HTTP_HEADER_MAX = 1100, /* of one header's value */
    FAR_HTTP_CHUNK = 32 * 1024,          /* written at once */
    FAR_HTTP_PULL_MAX = 2 * 1024 * 1024, /* appended by one pull, should a single piece be larger than the room */
};

enum far_http_method { FAR_HTTP_GET, FAR_HTTP_HEAD, FAR_HTTP_POST, FAR_HTTP_PUT, FAR_HTTP_PATCH, FAR_HTTP_DELETE };
#define FAR_HTTP_METHODS "GET, HEAD, POST, PUT, PATCH, DELETE"
/* "GET", … */
const char *far_http_method_name(enum far_http_method method);

/* Everything of a request that is ever looked at; borrowed from the exchange. Path and query are percent-decoded. */
struct far_http_request {
    enum far_http_method method;
    struct far_slice path;                      /* may hold any byte */
    struct far_slice query[FAR_HTTP_QUERY_MAX]; /* "name=value" */
    size_t query_count;
    const char *authorization; /* "" where the header is missing, as in the next ones */
    const char *idempotency_key;
    const char *if_match;
    const char *last_event_id;
    const char *accept;
    const char *feature_level; /* Farshore-Feature-Level: what the program of a server that joins supports */
    struct far_slice body;
    bool close_after;  /* its end cannot be told from what follows: the connection ends with the answer */
    int refuse_status; /* not 0: the request broke a limit of HTTP; answer with this status and nothing else */
    char refuse_why[160]; /* then: what is wrong, and the limit */
};

struct far_http;
struct far_http_exchange;

struct far_http_callbacks {
    void (*on_request)(void *arg, struct far_http_exchange *exchange);
    /* The last one of an exchange. */
    void (*on_gone)(void *arg, struct far_http_exchange *exchange);
    /* Every tick_ms, and whenever far_http_wake() was called since. */
    void (*on_tick)(void *arg);
    void (*on_wake)(void *arg);
    /* What came was no HTTP, or had a method that nobody knows: append the body of the answer to what request says (its
     * refuse_status and refuse_why, nothing else). NULL: an empty body. */
    void (*on_stranger)(void *arg, const struct far_http_request *request, struct far_buf *body);
    /* The last one of a turn of the loop: requests that were there together were delivered. NULL: nobody wants to know. */
    void (*on_turn)(void *arg);
};

struct far_http_config {
    const char *address; /* host:port; port 0: any */
    const char *certificate_path;
    const char *key_path;
    size_t body_max;
    unsigned connections_max;
    uint64_t stall_ms;
    uint64_t tick_ms;
};

int far_http_new(const struct far_http_config *config, const struct far_http_callbacks *callbacks, void *arg,
                 struct far_http **ret_http, struct far_error *err);
/* Start the thread. Apart, so that the owner is complete before the first callback. */
int far_http_start(struct far_http *http, struct far_error *err);
int far_http_port(const struct far_http *http);
/* Ends the thread; every exchange that is left gets on_gone. Not on the HTTP thread. Twice is allowed. */
void far_http_stop(struct far_http *http);
/* After far_http_stop(); runs what is still posted with dropped = true. NULL is allowed. */
void far_http_free(struct far_http *http);
/* Any thread. Coalesced. */
void far_http_wake(struct far_http *http);

/* Work for the HTTP thread, embedded in its owner. The owner bounds how much of it there is. */
struct far_http_work {
    void (*run)(struct far_http_work *work, bool dropped);
    struct far_http_work *next; /* private */
};
/* Any thread, until far_http_free(). */
void far_http_post(struct far_http *http, struct far_http_work *work);
/* Until it ends, what is posted wakes nobody: for who posts several. One thread at a time. */
void far_http_batch(struct far_http *http, bool begins);

const struct far_http_request *far_http_exchange_request(const struct far_http_exchange *exchange);
/* Who asks was let in: the connection may stay idle for longer than those of strangers. */
void far_http_exchange_known(struct far_http_exchange *exchange);
void far_http_exchange_set_data(struct far_http_exchange *exchange, void *data);
void *far_http_exchange_data(const struct far_http_exchange *exchange);

struct far_http_header {
    const char *name; /* lower case with a colon: "farshore-index:" */
    const char *value;
};
/* Answer. Takes *body (emptied). Once an exchange. */
void far_http_answer(struct far_http_exchange *exchange, int status, const char *content_type,
                     const struct far_http_header *headers, size_t header_count, struct far_buf *body);

/* Append to out until about room bytes are there. 1: go on (call again when more can be sent, if something was appended; else after
 * far_http_stream_wake); 0: this was the end. */
typedef int (*far_http_pull_fn)(void *arg, struct far_http_exchange *exchange, struct far_buf *out, size_t room);
/* Answer 200 with a stream without end. */
void far_http_stream(struct far_http_exchange *exchange, const char *content_type,
                     const struct far_http_header *headers, size_t header_count, far_http_pull_fn pull);
void far_http_stream_wake(struct far_http_exchange *exchange);

#endif
