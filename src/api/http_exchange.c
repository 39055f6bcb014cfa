/* Requests and their answers: see http.h and http_private.h. Each HTTP_WRITEABLE sends one chunk. */
#include "api/http_private.h"
#include "api/http_watch.h"

#include "base/assert.h"

#include <stdlib.h>

enum { HEADERS_MAX = 4096, DISCARD_MAX = 16 * 1024 * 1024 };

/* ---- requests ---- */

void far_http_discard(struct far_http_exchange *x)
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
    for (struct far_http_exchange **at = &http->ready; x->is_ready && *at != NULL; at = &(*at)->next_ready) {
        if (*at == x) {
            *at = x->next_ready;
            break;
        }
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
    far_http_watch_hold(lws_get_ssl(x->wsi), x->body_length <= DISCARD_MAX);
    x->http->callbacks.on_request(x->http->arg, x);
}

int far_http_on_head(struct far_http *http, struct lws *wsi, struct far_http_session *session)
{
    far_http_discard(session->exchange);
    struct far_http_exchange *x = malloc(sizeof *x);
    if (x == NULL) {
        return -1;
    }
    memset(x, 0, offsetof(struct far_http_exchange, head)); /* the head's text is long, and written before it is read */
    x->head.used = 0;
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
    const char *why;
    int sent_status = far_http_watch_take(lws_get_ssl(wsi), &why); /* counts before all else: the rest may come of it */
    if (sent_status != 0) {
        x->request.refuse_status = far_http_refuse_head(&x->request, sent_status, why);
    }
    if (x->body_length == 0 || x->body_length > DISCARD_MAX) {
        dispatch(x);
    } else if (x->request.refuse_status == 0) {
        x->phase = READING;
    } else {
        x->phase = DISCARDING;
        far_http_conns_go_on(&http->conns, wsi); /* the scan stopped at the end of the head */
    }
    return 0;
}

int far_http_on_body(struct far_http_exchange *x, const void *data, size_t len)
{
    if (x == NULL || x->phase == DISCARDING) {
        return 0;
    }
    if (x->phase == READING && far_buf_append(&x->body, data, len) != 0) {
        far_http_refuse_body(&x->request, x->http->body_max);
        x->phase = DISCARDING;
    }
    return 0;
}

void far_http_on_body_end(struct far_http_exchange *x)
{
    if (x != NULL && (x->phase == READING || x->phase == DISCARDING)) {
        dispatch(x);
    }
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
    if (x->http->in_turn) {
        lws_callback_on_writable(x->wsi);
        return;
    }
    x->is_ready = true;
    x->next_ready = x->http->ready;
    x->http->ready = x;
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

static int write_headers(struct far_http_exchange *x)
{
    arm_stall(x);
    int n = lws_write(x->wsi, x->headers.data + LWS_PRE, x->headers.len - LWS_PRE, LWS_WRITE_HTTP_HEADERS);
    x->headers.len = 0;
    return n < 0 ? -1 : 0;
}

static int complete(struct far_http_exchange *x)
{
    struct lws *wsi = x->wsi;
    struct far_http_conns *conns = &x->http->conns;
    bool must_close = closes(x);
    if (!must_close && lws_partial_buffered(wsi)) { /* libwebsockets would complete it later, and tell nobody */
        lws_callback_on_writable(wsi);
        return 0;
    }
    far_http_conns_idle(conns, wsi);
    far_http_discard(x);
    if (must_close || lws_http_transaction_completed(wsi) != 0) {
        return -1;
    }
    far_http_conns_go_on(conns, wsi);
    return 0;
}

/* Head and body together as far as they go: one record of TLS, one wake-up of the client, for a small answer. */
static int write_answer(struct far_http_exchange *x)
{
    size_t left = x->request.method == FAR_HTTP_HEAD ? 0 : x->answer.len - x->answer_sent;
    size_t len = left < FAR_HTTP_CHUNK ? left : FAR_HTTP_CHUNK;
    struct far_buf *scratch = &x->http->scratch;
    if (x->headers.len == 0 && left == 0) {
        return complete(x);
    }
    if (reset_scratch(x->http) != 0 ||
        (x->headers.len > 0 && far_buf_append(scratch, x->headers.data + LWS_PRE, x->headers.len - LWS_PRE) != 0) ||
        (len > 0 && far_buf_append(scratch, x->answer.data + x->answer_sent, len) != 0) ||
        write_scratch(x, len == left ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) != 0) {
        return -1;
    }
    x->headers.len = 0;
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
        return write_headers(x);
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

int far_http_on_writeable(struct far_http_exchange *x)
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

/* Between two turns nobody else looks at the connection: that saves a poll, and a walk over all sockets, for each answer. */
void far_http_write_ready(struct far_http *http)
{
    for (struct far_http_exchange *x; (x = http->ready) != NULL;) {
        struct lws *wsi = x->wsi;
        http->ready = x->next_ready;
        x->is_ready = false;
        if (far_http_on_writeable(x) != 0) {
            lws_set_timeout(wsi, PENDING_TIMEOUT_KILLED_BY_PARENT, LWS_TO_KILL_SYNC);
        }
    }
}

/* ---- what is no request ---- */

int far_http_on_stranger(struct far_http *http, struct lws *wsi, const void *data, size_t len)
{
    struct far_http_request request = {0};
    struct far_buf body;
    int status = far_http_head_stranger(far_slice(data, len), &request);
    far_buf_init(&body, HEADERS_MAX);
    if (http->callbacks.on_stranger != NULL) {
        http->callbacks.on_stranger(http->arg, &request, &body);
    }
    if (reset_scratch(http) == 0 &&
        far_buf_printf(&http->scratch,
                       "HTTP/1.1 %s\r\ncontent-type: application/problem+json\r\ncontent-length: %zu\r\n%s"
                       "connection: close\r\n\r\n%.*s",
                       status == 405 ? "405 Method Not Allowed" : "400 Bad Request", body.len,
                       status == 405 ? "allow: " FAR_HTTP_METHODS "\r\n" : "", (int)body.len,
                       body.len == 0 ? "" : (const char *)body.data) == 0) {
        /* A few hundred bytes into an empty socket; a write that does not fit is lost with the connection. */
        (void)lws_write(wsi, http->scratch.data + LWS_PRE, http->scratch.len - LWS_PRE, LWS_WRITE_RAW);
    }
    far_buf_done(&body);
    return -1;
}

const struct far_http_request *far_http_exchange_request(const struct far_http_exchange *x)
{
    return &x->request;
}

void far_http_exchange_known(struct far_http_exchange *x)
{
    far_http_conns_known(&x->http->conns, x->wsi);
}

void far_http_exchange_set_data(struct far_http_exchange *x, void *data)
{
    x->data = data;
}

void *far_http_exchange_data(const struct far_http_exchange *x)
{
    return x->data;
}
