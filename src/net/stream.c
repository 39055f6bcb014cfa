/* Streams on a uv loop: dialing, states, the end. See net.h; stream_tls.c has the bytes.
 *
 * Good day: resolve, connect, handshake, greeting, open; one timer is the deadline of all that. Every end goes through
 * CLOSING: handles are closed, and when the last one is gone (and no resolver thread works for it any more), on_close is
 * called and the memory freed. DRAINING comes before it where something is still to be said: a refusal, a last frame. */
#include "net/stream_private.h"

#include "base/assert.h"
#include "net/address.h"

#include <stdlib.h>

static void begin_connect(struct far_stream *stream);

/* ---- states ---- */

static bool move_is_legal(enum far_stream_state from, enum far_stream_state to)
{
    /* a bit for each state that may follow */
    static const unsigned legal[] = {
        [FAR_STREAM_RESOLVING] = 1u << FAR_STREAM_CONNECTING | 1u << FAR_STREAM_CLOSING,
        [FAR_STREAM_CONNECTING] = 1u << FAR_STREAM_HANDSHAKE | 1u << FAR_STREAM_CLOSING,
        [FAR_STREAM_HANDSHAKE] = 1u << FAR_STREAM_GREETING | 1u << FAR_STREAM_DRAINING | 1u << FAR_STREAM_CLOSING,
        [FAR_STREAM_GREETING] = 1u << FAR_STREAM_OPEN | 1u << FAR_STREAM_DRAINING | 1u << FAR_STREAM_CLOSING,
        [FAR_STREAM_OPEN] = 1u << FAR_STREAM_DRAINING | 1u << FAR_STREAM_CLOSING,
        [FAR_STREAM_DRAINING] = 1u << FAR_STREAM_CLOSING,
        [FAR_STREAM_CLOSING] = 0,
    };
    return (legal[from] >> to & 1) != 0;
}

void far_stream_move(struct far_stream *stream, enum far_stream_state state)
{
    FAR_ASSERT(move_is_legal(stream->state, state));
    stream->state = state;
}

/* ---- the end ---- */

static void finish_if_done(struct far_stream *stream)
{
    if (stream->state != FAR_STREAM_CLOSING || stream->handles_open > 0 || stream->is_resolving) {
        return;
    }
    struct far_listener *listener = stream->listener;
    stream->callbacks.on_close(stream->arg, stream, &stream->why);
    if (listener != NULL) {
        far_listener_forget(listener, stream);
    }
    SSL_free(stream->ssl);
    far_buf_done(&stream->plain);
    free(stream->writing);
    free(stream);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct far_stream *stream = handle->data;
    stream->handles_open--;
    finish_if_done(stream);
}

void far_stream_end(struct far_stream *stream, const struct far_error *why)
{
    if (stream->state == FAR_STREAM_CLOSING) {
        return;
    }
    if (stream->state != FAR_STREAM_DRAINING) {
        stream->why = *why;
    }
    far_stream_move(stream, FAR_STREAM_CLOSING);
    if (stream->is_resolving) {
        uv_cancel((uv_req_t *)&stream->resolve); /* if it runs already, its callback comes all the same */
    }
    if (!uv_is_closing((uv_handle_t *)&stream->tcp)) {
        uv_close((uv_handle_t *)&stream->tcp, on_handle_closed);
    }
    uv_close((uv_handle_t *)&stream->timer, on_handle_closed);
}

static void on_timer(uv_timer_t *timer)
{
    struct far_stream *stream = timer->data;
    struct far_error why;
    if (stream->state == FAR_STREAM_OPEN) { /* resumed */
        far_stream_pump(stream);
        return;
    }
    far_fail(&why, FAR_TIMEOUT, "the connection did not come about within %d s", FAR_HANDSHAKE_MS / 1000);
    far_stream_end(stream, &why);
}

void far_stream_drain(struct far_stream *stream, const struct far_error *why)
{
    if (stream->state < FAR_STREAM_HANDSHAKE) {
        far_stream_end(stream, why);
        return;
    }
    if (stream->state >= FAR_STREAM_DRAINING) {
        return;
    }
    stream->why = *why;
    far_stream_move(stream, FAR_STREAM_DRAINING);
    uv_timer_start(&stream->timer, on_timer, FAR_DRAIN_MS, 0);
    far_stream_read_on(stream);
    far_stream_flush(stream);
}

void far_stream_close(struct far_stream *stream)
{
    struct far_error why;
    far_fail(&why, FAR_CANCELED, "closed by this side");
    if (stream->state == FAR_STREAM_OPEN) {
        SSL_shutdown(stream->ssl);
        far_stream_drain(stream, &why);
    } else if (stream->state < FAR_STREAM_OPEN) {
        far_stream_end(stream, &why);
    }
}

/* ---- the beginning ---- */

struct far_stream *far_stream_new(struct far_net *net, uv_loop_t *loop,
                                  const struct far_stream_callbacks *callbacks, void *arg)
{
    struct far_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        return NULL;
    }
    stream->net = net;
    stream->loop = loop;
    stream->callbacks = *callbacks;
    stream->arg = arg;
    stream->tcp.data = stream;
    stream->timer.data = stream;
    stream->resolve.data = stream;
    stream->connect.data = stream;
    stream->write.data = stream;
    stream->shutdown.data = stream;
    far_buf_init(&stream->plain, FAR_FRAME_HEADER_BYTES + FAR_FRAME_MAX + FAR_RECORD_BYTES);
    uv_tcp_init(loop, &stream->tcp);   /* cannot fail without a family */
    uv_timer_init(loop, &stream->timer);
    stream->handles_open = 2;
    uv_timer_start(&stream->timer, on_timer, FAR_HANDSHAKE_MS, 0);
    return stream;
}

static void end_with_uv_error(struct far_stream *stream, const char *what, int status)
{
    struct far_error why;
    far_fail_errno(&why, FAR_IO, -status, "%s", what);
    far_stream_end(stream, &why);
}

static void on_connect(uv_connect_t *connect, int status);

/* A socket whose connect failed cannot be used again. */
static void on_closed_for_retry(uv_handle_t *handle)
{
    struct far_stream *stream = handle->data;
    stream->handles_open--;
    if (stream->state == FAR_STREAM_CLOSING) {
        finish_if_done(stream);
        return;
    }
    uv_tcp_init(stream->loop, &stream->tcp);
    stream->tcp.data = stream;
    stream->handles_open++;
    begin_connect(stream);
}

static void try_next_address(struct far_stream *stream, int status)
{
    if (stream->address_next == stream->address_count) {
        end_with_uv_error(stream, "connect", status);
        return;
    }
    uv_close((uv_handle_t *)&stream->tcp, on_closed_for_retry);
}

static void begin_connect(struct far_stream *stream)
{
    const struct sockaddr *address = (const struct sockaddr *)&stream->addresses[stream->address_next++];
    int status = uv_tcp_connect(&stream->connect, &stream->tcp, address, on_connect);
    if (status != 0) {
        try_next_address(stream, status);
    }
}

static void on_connect(uv_connect_t *connect, int status)
{
    struct far_stream *stream = connect->data;
    if (stream->state == FAR_STREAM_CLOSING) {
        return;
    }
    if (status != 0) {
        try_next_address(stream, status);
        return;
    }
    far_stream_move(stream, FAR_STREAM_HANDSHAKE);
    far_stream_start_tls(stream);
}

static void on_resolved(uv_getaddrinfo_t *resolve, int status, struct addrinfo *list)
{
    struct far_stream *stream = resolve->data;
    stream->is_resolving = false;
    for (struct addrinfo *ai = list; ai != NULL && stream->address_count < FAR_STREAM_ADDRESSES_MAX; ai = ai->ai_next) {
        memcpy(&stream->addresses[stream->address_count++], ai->ai_addr, ai->ai_addrlen);
    }
    uv_freeaddrinfo(list);
    if (stream->state == FAR_STREAM_CLOSING) {
        finish_if_done(stream);
    } else if (status != 0 || stream->address_count == 0) {
        struct far_error why;
        far_fail(&why, FAR_IO, "look up the host: %s", status != 0 ? uv_strerror(status) : "it has no address");
        far_stream_end(stream, &why);
    } else {
        far_stream_move(stream, FAR_STREAM_CONNECTING);
        begin_connect(stream);
    }
}

/* Numbers need no resolver. */
static bool is_numeric(struct far_stream *stream, const struct far_address *address)
{
    int port = atoi(address->port);
    return uv_ip4_addr(address->host, port, (struct sockaddr_in *)&stream->addresses[0]) == 0 ||
           uv_ip6_addr(address->host, port, (struct sockaddr_in6 *)&stream->addresses[0]) == 0;
}

int far_stream_dial(struct far_net *net, uv_loop_t *loop, const char *address, struct far_peer to,
                    enum far_purpose purpose, const struct far_stream_callbacks *callbacks, void *arg,
                    struct far_stream **ret_stream, struct far_error *err)
{
    struct far_address parsed;
    int rc = far_address_parse(address, &parsed, err);
    if (rc != 0) {
        return rc;
    }
    struct far_stream *stream = far_stream_new(net, loop, callbacks, arg);
    if (stream == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a connection");
    }
    stream->is_dialer = true;
    stream->wanted = to;
    stream->purpose = purpose;
    *ret_stream = stream;
    if (is_numeric(stream, &parsed)) {
        stream->address_count = 1;
        far_stream_move(stream, FAR_STREAM_CONNECTING);
        begin_connect(stream);
        return 0;
    }
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    int status = uv_getaddrinfo(loop, &stream->resolve, on_resolved, parsed.host, parsed.port, &hints);
    stream->is_resolving = status == 0;
    if (status != 0) {
        end_with_uv_error(stream, "look up the host", status);
    }
    return 0;
}

/* ---- what users see of an open stream ---- */

void far_stream_set_callbacks(struct far_stream *stream, const struct far_stream_callbacks *callbacks, void *arg)
{
    stream->callbacks = *callbacks;
    stream->arg = arg;
}

const uint8_t *far_stream_fingerprint(const struct far_stream *stream)
{
    return stream->fingerprint;
}

void far_stream_pause(struct far_stream *stream)
{
    stream->is_paused = true;
    if (stream->state == FAR_STREAM_OPEN) {
        uv_read_stop((uv_stream_t *)&stream->tcp);
    }
}

void far_stream_resume(struct far_stream *stream)
{
    if (stream->is_paused && stream->state == FAR_STREAM_OPEN) {
        uv_timer_start(&stream->timer, on_timer, 0, 0); /* what waits is delivered in the next turn of the loop */
        far_stream_read_on(stream);
    }
    stream->is_paused = false;
}
