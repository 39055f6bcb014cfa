/* HTTPS/1.1 over libwebsockets (4.1 of Debian 12 to 4.3 of Debian 13): see http.h.
 *
 * On a good day: LWS_CALLBACK_HTTP makes an exchange of the headers, HTTP_BODY fills its body, the owner answers, and each
 * HTTP_WRITEABLE sends one chunk until the transaction is complete. A stream pulls its next chunk when the socket
 * can take one. When it fails: the connection closes, CLOSED_HTTP or DROP_PROTOCOL discards the exchange. */
#include "api/http_conns.h"
#include "api/http_head.h"

#include "base/assert.h"
#include "net/address.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { HEADERS_MAX = 4096, DISCARD_MAX = 16 * 1024 * 1024 };

enum phase { READING, DISCARDING, PENDING, ANSWERING, STREAMING, FINISHED };

struct far_http_exchange {
    struct far_http *http;
    struct lws *wsi;
    struct session *session;
    struct far_http_exchange *prev, *next; /* of http->exchanges */
    struct far_http_request request;
    enum phase phase;
    bool known; /* the owner saw it: it gets on_gone */
    uint64_t body_length;
    struct far_buf body;    /* of the request */
    struct far_buf headers; /* of the answer, with LWS_PRE in front; empty once sent */
    struct far_buf answer;
    size_t answer_sent;
    far_http_pull_fn pull;
    void *data; /* the owner's */
    struct far_http_head head;
};

/* What libwebsockets keeps for a connection. */
struct session {
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
    int port;
    struct timer timer;
    struct far_http_exchange *exchanges;
    struct far_buf scratch; /* of the thread: LWS_PRE and what is sent next */
    pthread_t thread;
    bool started;
    atomic_bool stopping;
    atomic_bool woken;
    pthread_mutex_t lock; /* of the next four */
    bool serving;         /* lws_cancel_service is allowed */
    struct far_http_work *first, *last;
};

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len);

static const struct lws_protocols protocols[] = {
    {.name = "http", .callback = callback, .per_session_data_size = sizeof(struct session)},
    {.name = NULL},
};

/* ---- requests ---- */

static void discard(struct far_http_exchange *x)
{
    if (x == NULL) {
        return;
    }
    struct far_http *http = x->http;
    if (x->known) {
        http->callbacks.on_gone(http->arg, x);
    }
    if (x->session != NULL) {
        x->session->exchange = NULL;
    }
    if (x->prev != NULL) {
        x->prev->next = x->next;
    } else {
        http->exchanges = x->next;
    }
    if (x->next != NULL) {
        x->next->prev = x->prev;
    }
    far_buf_done(&x->body);
    far_buf_done(&x->headers);
    far_buf_done(&x->answer);
    free(x);
}

static void dispatch(struct far_http_exchange *x)
{
    x->phase = PENDING;
    x->known = true;
    x->request.body = far_buf_slice(&x->body);
    lws_set_timeout(x->wsi, NO_PENDING_TIMEOUT, 0);
    far_http_conns_busy(&x->http->conns, x->wsi);
    x->http->callbacks.on_request(x->http->arg, x);
}

static int on_head(struct far_http *http, struct lws *wsi, struct session *session)
{
    discard(session->exchange);
    struct far_http_exchange *x = calloc(1, sizeof *x);
    if (x == NULL) {
        return -1;
    }
    x->http = http;
    x->wsi = wsi;
    x->session = session;
    x->next = http->exchanges;
    if (x->next != NULL) {
        x->next->prev = x;
    }
    http->exchanges = x;
    session->exchange = x;
    far_buf_init(&x->body, http->body_max);
    far_buf_init(&x->headers, LWS_PRE + HEADERS_MAX);
    x->request.refuse_status = far_http_head_read(wsi, http->body_max, &x->head, &x->request, &x->body_length);
    if (x->body_length == 0 || x->body_length > DISCARD_MAX) {
        dispatch(x);
    } else {
        x->phase = x->request.refuse_status != 0 ? DISCARDING : READING;
    }
    return 0;
}

static int on_body(struct far_http_exchange *x, const void *data, size_t len)
{
    if (x == NULL || x->phase == DISCARDING) {
        return 0;
    }
    if (x->phase == READING && far_buf_append(&x->body, data, len) != 0) {
        x->request.refuse_status = 413;
        x->phase = DISCARDING;
    }
    return 0;
}

/* ---- answering ---- */

static bool closes(const struct far_http_exchange *x)
{
    return x->request.refuse_status != 0 || x->request.close_after;
}

static int start_answer(struct far_http_exchange *x, int status, const char *content_type,
                        const struct far_http_header *headers, size_t header_count, lws_filepos_t length)
{
    uint8_t *base = far_buf_reserve(&x->headers, LWS_PRE + HEADERS_MAX);
    if (base == NULL) {
        return -1;
    }
    uint8_t *p = base + LWS_PRE, *end = base + LWS_PRE + HEADERS_MAX - 1;
    if (lws_add_http_common_headers(x->wsi, (unsigned)status, content_type, length, &p, end) != 0) {
        return -1;
    }
    if (closes(x) && length != LWS_ILLEGAL_HTTP_CONTENT_LEN &&
        lws_add_http_header_by_token(x->wsi, WSI_TOKEN_CONNECTION, (const unsigned char *)"close", 5, &p, end) != 0) {
        return -1;
    }
    for (size_t i = 0; i < header_count; i++) {
        if (lws_add_http_header_by_name(x->wsi, (const unsigned char *)headers[i].name,
                                        (const unsigned char *)headers[i].value, (int)strlen(headers[i].value), &p,
                                        end) != 0) {
            return -1;
        }
    }
    if (lws_finalize_http_header(x->wsi, &p, end) != 0) {
        return -1;
    }
    x->headers.len = (size_t)(p - base);
    return 0;
}

void far_http_answer(struct far_http_exchange *x, int status, const char *content_type,
                     const struct far_http_header *headers, size_t header_count, struct far_buf *body)
{
    FAR_ASSERT(x->phase == PENDING);
    x->answer = *body;
    memset(body, 0, sizeof *body);
    x->phase = start_answer(x, status, content_type, headers, header_count, x->answer.len) == 0 ? ANSWERING : FINISHED;
    lws_callback_on_writable(x->wsi);
}

void far_http_stream(struct far_http_exchange *x, const char *content_type, const struct far_http_header *headers,
                     size_t header_count, far_http_pull_fn pull)
{
    FAR_ASSERT(x->phase == PENDING);
    x->pull = pull;
    x->phase = start_answer(x, 200, content_type, headers, header_count, LWS_ILLEGAL_HTTP_CONTENT_LEN) == 0
                   ? STREAMING
                   : FINISHED;
    lws_callback_on_writable(x->wsi);
}

void far_http_stream_wake(struct far_http_exchange *x)
{
    if (x->phase == STREAMING) {
        lws_callback_on_writable(x->wsi);
    }
}

static void arm_stall(struct far_http_exchange *x)
{
    lws_set_timeout(x->wsi, PENDING_TIMEOUT_HTTP_CONTENT, (int)((x->http->stall_ms + 999) / 1000)); /* whole seconds */
}

/* Sends what the thread's scratch buffer holds behind LWS_PRE; libwebsockets keeps what the socket does not take. */
static int write_scratch(struct far_http_exchange *x, enum lws_write_protocol how)
{
    struct far_buf *scratch = &x->http->scratch;
    arm_stall(x);
    return lws_write(x->wsi, scratch->data + LWS_PRE, scratch->len - LWS_PRE, how) < 0 ? -1 : 0;
}

static int reset_scratch(struct far_http *http)
{
    if (http->scratch.cap > 8 * FAR_HTTP_CHUNK) {
        size_t max = http->scratch.max;
        far_buf_done(&http->scratch); /* one large event does not hold its memory for ever */
        far_buf_init(&http->scratch, max);
    }
    far_buf_reset(&http->scratch);
    if (far_buf_reserve(&http->scratch, LWS_PRE + FAR_HTTP_CHUNK) == NULL) {
        return -1;
    }
    http->scratch.len = LWS_PRE;
    return 0;
}

static int write_headers(struct far_http_exchange *x, bool last)
{
    enum lws_write_protocol how = last ? LWS_WRITE_HTTP_HEADERS | LWS_WRITE_H2_STREAM_END : LWS_WRITE_HTTP_HEADERS;
    arm_stall(x);
    int n = lws_write(x->wsi, x->headers.data + LWS_PRE, x->headers.len - LWS_PRE, how);
    x->headers.len = 0;
    return n < 0 ? -1 : 0;
}

static int complete(struct far_http_exchange *x)
{
    struct lws *wsi = x->wsi;
    bool must_close = closes(x);
    far_http_conns_idle(&x->http->conns, wsi);
    discard(x);
    return must_close || lws_http_transaction_completed(wsi) != 0 ? -1 : 0;
}

static int write_answer(struct far_http_exchange *x)
{
    bool bodiless = x->request.method == FAR_HTTP_HEAD || x->answer.len == 0;
    if (x->headers.len > 0) {
        if (write_headers(x, bodiless) != 0) {
            return -1;
        }
        if (bodiless) {
            return complete(x);
        }
        lws_callback_on_writable(x->wsi);
        return 0;
    }
    size_t left = x->answer.len - x->answer_sent;
    size_t len = left < FAR_HTTP_CHUNK ? left : FAR_HTTP_CHUNK;
    if (reset_scratch(x->http) != 0 || far_buf_append(&x->http->scratch, x->answer.data + x->answer_sent, len) != 0 ||
        write_scratch(x, len == left ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) != 0) {
        return -1;
    }
    x->answer_sent += len;
    if (len == left) {
        return complete(x);
    }
    lws_callback_on_writable(x->wsi);
    return 0;
}

static int write_stream(struct far_http_exchange *x)
{
    if (x->headers.len > 0) {
        lws_callback_on_writable(x->wsi);
        return write_headers(x, false);
    }
    if (lws_partial_buffered(x->wsi)) {
        lws_callback_on_writable(x->wsi);
        return 0;
    }
    lws_set_timeout(x->wsi, NO_PENDING_TIMEOUT, 0); /* everything before was taken */
    struct far_buf *scratch = &x->http->scratch;
    if (reset_scratch(x->http) != 0) {
        return -1;
    }
    int more = x->pull(x->http->arg, x, scratch, FAR_HTTP_CHUNK);
    if (scratch->len > LWS_PRE) {
        if (write_scratch(x, LWS_WRITE_HTTP) != 0) {
            return -1;
        }
        lws_callback_on_writable(x->wsi);
    }
    if (more == 0) {
        x->phase = FINISHED;
        lws_callback_on_writable(x->wsi);
    }
    return 0;
}

static int on_writeable(struct far_http_exchange *x)
{
    if (x == NULL) {
        return 0;
    }
    switch (x->phase) {
    case ANSWERING:
        return write_answer(x);
    case STREAMING:
        return write_stream(x);
    case FINISHED:
        if (lws_partial_buffered(x->wsi)) {
            lws_callback_on_writable(x->wsi);
            return 0;
        }
        return -1;
    case READING:
    case DISCARDING:
    case PENDING:
        break;
    }
    return 0;
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    struct session *session = user;
    struct far_http *http = lws_context_user(lws_get_context(wsi));
    switch (reason) {
    case LWS_CALLBACK_FILTER_NETWORK_CONNECTION:
        return far_http_conns_admit(&http->conns, (int)(intptr_t)in) ? 0 : -1;
    case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
        return far_http_conns_add(&http->conns, wsi);
    case LWS_CALLBACK_WSI_DESTROY:
        far_http_conns_remove(&http->conns, wsi);
        return 0;
    case LWS_CALLBACK_HTTP:
        return on_head(http, wsi, session);
    case LWS_CALLBACK_HTTP_BODY:
        return on_body(session->exchange, in, len);
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
        if (session->exchange != NULL &&
            (session->exchange->phase == READING || session->exchange->phase == DISCARDING)) {
            dispatch(session->exchange);
        }
        return 0;
    case LWS_CALLBACK_HTTP_WRITEABLE:
        return on_writeable(session->exchange);
    case LWS_CALLBACK_CLOSED_HTTP:
    case LWS_CALLBACK_HTTP_DROP_PROTOCOL:
        if (session != NULL) {
            discard(session->exchange);
        }
        return 0;
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return -1; /* no WebSockets here */
    default:
        return 0;
    }
}

/* ---- the thread ---- */

static struct far_http_work *take_work(struct far_http *http)
{
    pthread_mutex_lock(&http->lock);
    struct far_http_work *work = http->first;
    http->first = http->last = NULL;
    pthread_mutex_unlock(&http->lock);
    return work;
}

static void run_work(struct far_http *http, bool dropped)
{
    for (struct far_http_work *work = take_work(http), *next; work != NULL; work = next) {
        next = work->next;
        work->run(work, dropped);
    }
}

static void on_timer(lws_sorted_usec_list_t *sul)
{
    struct far_http *http = ((struct timer *)(void *)sul)->http;
    http->callbacks.on_tick(http->arg);
    lws_sul_schedule(http->context, 0, &http->timer.sul, on_timer, (lws_usec_t)(http->tick_ms * 1000));
}

static void *serve(void *arg)
{
    struct far_http *http = arg;
    lws_sul_schedule(http->context, 0, &http->timer.sul, on_timer, (lws_usec_t)(http->tick_ms * 1000));
    while (!atomic_load(&http->stopping)) {
        if (lws_service(http->context, 0) < 0) {
            break;
        }
        far_http_conns_reap(&http->conns);
        run_work(http, false);
        if (atomic_exchange(&http->woken, false)) {
            http->callbacks.on_wake(http->arg);
        }
    }
    lws_sul_cancel(&http->timer.sul);
    pthread_mutex_lock(&http->lock);
    http->serving = false;
    pthread_mutex_unlock(&http->lock);
    lws_context_destroy(http->context);
    http->context = NULL;
    while (http->exchanges != NULL) {
        http->exchanges->session = NULL;
        discard(http->exchanges);
    }
    return NULL;
}

static void kick(struct far_http *http)
{
    if (http->serving) {
        lws_cancel_service(http->context);
    }
}

void far_http_post(struct far_http *http, struct far_http_work *work)
{
    work->next = NULL;
    pthread_mutex_lock(&http->lock);
    if (http->last != NULL) {
        http->last->next = work;
    } else {
        http->first = work;
        kick(http);
    }
    http->last = work;
    pthread_mutex_unlock(&http->lock);
}

void far_http_wake(struct far_http *http)
{
    if (atomic_exchange(&http->woken, true)) {
        return;
    }
    pthread_mutex_lock(&http->lock);
    kick(http);
    pthread_mutex_unlock(&http->lock);
}

/* ---- life ---- */

static int listen_on(struct far_http *http, const struct far_http_config *config, struct far_error *err)
{
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS |
                   LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_FAIL_UPON_UNABLE_TO_BIND,
        .user = http,
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
        .fd_limit_per_thread = config->connections_max + FAR_HTTP_CONNS_SPARE + 8, /* the listener, the wake-up pipe */
        .max_http_header_data = FAR_HTTP_HEAD_MAX / 2,
        .max_http_header_pool = (unsigned short)(config->connections_max + 8),
        .timeout_secs = 10, /* for the handshake, for a head, between two pieces of a body */
        .keepalive_timeout = 60,
    };
    http->context = lws_create_context(&info);
    if (http->context == NULL) {
        return far_fail(err, FAR_INTERNAL, "libwebsockets does not start");
    }
    const char *host = http->address.host;
    bool any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    info.port = atoi(http->address.port);
    info.iface = any ? NULL : host;
    info.vhost_name = "farshore";
    info.protocols = protocols;
    info.ssl_cert_filepath = http->certificate_path;
    info.ssl_private_key_filepath = http->key_path;
    info.ssl_options_set = (long)(SSL_OP_NO_SSLv3 | SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1 | SSL_OP_NO_RENEGOTIATION);
    info.alpn = "http/1.1";
    struct lws_vhost *vhost = lws_create_vhost(http->context, &info);
    if (vhost == NULL) {
        return far_fail(err, FAR_IO, "cannot listen on '%s' with certificate '%s': the address is in use or not of this "
                                     "machine, or certificate and key do not fit",
                        config->address, config->certificate_path);
    }
    http->port = lws_get_vhost_listen_port(vhost);
    return 0;
}

static int check_files(const struct far_http *http, struct far_error *err)
{
    const char *paths[] = {http->certificate_path, http->key_path};
    for (size_t i = 0; i < 2; i++) {
        if (access(paths[i], R_OK) != 0) {
            return far_fail_errno(err, FAR_IO, errno, "read '%s'", paths[i]);
        }
    }
    return 0;
}

int far_http_new(const struct far_http_config *config, const struct far_http_callbacks *callbacks, void *arg,
                 struct far_http **ret_http, struct far_error *err)
{
    struct far_http *http = calloc(1, sizeof *http);
    if (http == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the HTTP server");
    }
    lws_set_log_level(0, NULL);
    pthread_mutex_init(&http->lock, NULL);
    http->callbacks = *callbacks;
    http->arg = arg;
    http->conns.max = config->connections_max;
    http->body_max = config->body_max;
    http->stall_ms = config->stall_ms;
    http->tick_ms = config->tick_ms;
    http->timer.http = http;
    far_buf_init(&http->scratch, LWS_PRE + FAR_HTTP_PULL_MAX + FAR_HTTP_CHUNK);
    snprintf(http->certificate_path, sizeof http->certificate_path, "%s", config->certificate_path);
    snprintf(http->key_path, sizeof http->key_path, "%s", config->key_path);
    int rc = far_address_parse(config->address, &http->address, err);
    if (rc == 0) {
        rc = check_files(http, err);
    }
    if (rc == 0) {
        rc = listen_on(http, config, err);
    }
    if (rc != 0) {
        far_http_free(http);
        return rc;
    }
    *ret_http = http;
    return 0;
}

int far_http_start(struct far_http *http, struct far_error *err)
{
    http->serving = true;
    int failed = pthread_create(&http->thread, NULL, serve, http);
    if (failed != 0) {
        http->serving = false;
        return far_fail_errno(err, FAR_IO, failed, "start the HTTP thread");
    }
    http->started = true;
    return 0;
}

int far_http_port(const struct far_http *http)
{
    return http->port;
}

void far_http_stop(struct far_http *http)
{
    if (!http->started) {
        return;
    }
    atomic_store(&http->stopping, true);
    pthread_mutex_lock(&http->lock);
    kick(http);
    pthread_mutex_unlock(&http->lock);
    pthread_join(http->thread, NULL);
    http->started = false;
}

void far_http_free(struct far_http *http)
{
    if (http == NULL) {
        return;
    }
    far_http_stop(http);
    if (http->context != NULL) {
        lws_context_destroy(http->context);
    }
    run_work(http, true);
    far_buf_done(&http->scratch);
    pthread_mutex_destroy(&http->lock);
    free(http);
}

const struct far_http_request *far_http_exchange_request(const struct far_http_exchange *x)
{
    return &x->request;
}

void far_http_exchange_set_data(struct far_http_exchange *x, void *data)
{
    x->data = data;
}

void *far_http_exchange_data(const struct far_http_exchange *x)
{
    return x->data;
}
