/* The HTTP server from inside: shared by http.c (the thread, life) and http_exchange.c (requests and their answers). The
 * HTTP thread, but for what http.h says otherwise. */
#ifndef FAR_API_HTTP_PRIVATE_H
#define FAR_API_HTTP_PRIVATE_H

#include "api/http_conns.h"
#include "api/http_head.h"

#include "net/address.h"

#include <pthread.h>
#include <stdatomic.h>

enum far_http_phase { READING, DISCARDING, PENDING, ANSWERING, STREAMING, FINISHED };

struct far_http_exchange {
    struct far_http *http;
    struct lws *wsi;
    struct far_http_session *session;
    struct far_http_exchange *prev, *next; /* of http->exchanges */
    struct far_http_exchange *next_ready;  /* of http->ready */
    bool is_ready;
    struct far_http_request request;
    enum far_http_phase phase;
    bool known; /* the owner saw it: it gets on_gone */
    uint64_t body_length;
    struct far_buf body;    /* of the request */
    struct far_buf headers; /* of the answer, with LWS_PRE in front; empty once sent */
    struct far_buf answer;
    size_t answer_sent;
    far_http_pull_fn pull;
    void *data; /* the owner's */
    struct far_http_head head; /* last: it is not zeroed */
};

/* What libwebsockets keeps for a connection. */
struct far_http_session {
    struct far_http_exchange *exchange;
};

struct timer {
    lws_sorted_usec_list_t sul; /* first: the callback gets its address */
    struct far_http *http;
};

struct far_http {
    struct far_http_callbacks callbacks;
    void *arg;
    size_t body_max;
    uint64_t stall_ms;
    uint64_t tick_ms;
    struct far_address address;
    char certificate_path[1024];
    char key_path[1024];
    struct lws_context *context;
    struct far_http_conns conns;
    bool is_stirred;     /* something happened in this turn */
    unsigned idle_turns; /* in a row, in which nothing did */
    int port;
    struct timer timer;
    struct far_http_exchange *exchanges;
    struct far_http_exchange *ready; /* answered between two turns, to be written */
    struct far_buf scratch; /* of the thread: LWS_PRE and what is sent next */
    pthread_t thread;
    bool started;
    atomic_bool stopping;
    atomic_bool woken;
    atomic_bool serving;  /* lws_cancel_service is allowed */
    atomic_int kicking;   /* calls of it under way: the context outlives them */
    pthread_mutex_t lock; /* of the work that waits */
    struct far_http_work *first, *last;
    bool is_batch; /* somebody posts several; under the lock */
    bool in_turn;  /* libwebsockets calls back */
};

/* What libwebsockets says of a connection; -1: close it. */
int far_http_on_head(struct far_http *http, struct lws *wsi, struct far_http_session *session);
int far_http_on_body(struct far_http_exchange *exchange, const void *data, size_t len);
void far_http_on_body_end(struct far_http_exchange *exchange);
int far_http_on_writeable(struct far_http_exchange *exchange);
/* Between two turns of libwebsockets: send what was answered there. */
void far_http_write_ready(struct far_http *http);
/* What came is no HTTP that libwebsockets knows: answered at once. Returns -1. */
int far_http_on_stranger(struct far_http *http, struct lws *wsi, const void *data, size_t len);
/* The end of an exchange; NULL is allowed. */
void far_http_discard(struct far_http_exchange *exchange);

#endif
