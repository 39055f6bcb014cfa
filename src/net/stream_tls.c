/* The bytes of a stream: TLS over two memory BIOs, greeting, frames. See stream_private.h.
 *
 * What the socket brings goes into `in`; far_stream_pump() takes from it what the state calls for. What TLS makes goes into
 * `out`; far_stream_flush() has one write in flight and sends the rest when that is done, so small frames of one turn share
 * packets. The queue is bounded by its ciphertext. */
#include "net/stream_private.h"

#include <openssl/err.h>
#include <stdlib.h>

static void end_with(struct far_stream *stream, int klass, const char *text)
{
    struct far_error why;
    far_fail(&why, klass, "%s", text);
    far_stream_end(stream, &why);
}

/* ---- writing ---- */

static void on_shutdown(uv_shutdown_t *shutdown, int status)
{
    struct far_stream *stream = shutdown->data;
    if (status != 0 && stream->state == FAR_STREAM_DRAINING) {
        far_stream_end(stream, &stream->why);
    }
}

static void on_write(uv_write_t *write, int status)
{
    struct far_stream *stream = write->data;
    free(stream->writing);
    stream->writing = NULL;
    stream->writing_len = 0;
    if (stream->state == FAR_STREAM_CLOSING) {
        return;
    }
    if (status != 0) {
        struct far_error why;
        far_fail_errno(&why, FAR_IO, -status, "send");
        far_stream_end(stream, &why);
        return;
    }
    far_stream_flush(stream);
}

void far_stream_flush(struct far_stream *stream)
{
    if (stream->state == FAR_STREAM_CLOSING || stream->writing != NULL) {
        return;
    }
    size_t len = stream->out == NULL ? 0 : BIO_ctrl_pending(stream->out);
    if (len == 0) {
        if (stream->state == FAR_STREAM_DRAINING && !stream->is_shut) {
            stream->is_shut = true;
            if (uv_shutdown(&stream->shutdown, (uv_stream_t *)&stream->tcp, on_shutdown) != 0) {
                far_stream_end(stream, &stream->why);
            }
        }
        return;
    }
    len = len > FAR_WRITE_BYTES_MAX ? FAR_WRITE_BYTES_MAX : len;
    stream->writing = malloc(len);
    if (stream->writing == NULL) {
        end_with(stream, FAR_LIMIT, "no memory to send");
        return;
    }
    BIO_read(stream->out, stream->writing, (int)len);
    stream->writing_len = len;
    uv_buf_t buf = uv_buf_init((char *)stream->writing, (unsigned)len);
    int status = uv_write(&stream->write, (uv_stream_t *)&stream->tcp, &buf, 1, on_write);
    if (status != 0) {
        on_write(&stream->write, status);
    }
}

/* Encrypts into `out`, which takes everything unless there is no memory. */
static bool encrypt(struct far_stream *stream, const uint8_t *data, size_t len)
{
    while (len > 0) {
        size_t n = 0;
        ERR_clear_error();
        if (SSL_write_ex(stream->ssl, data, len, &n) != 1) {
            struct far_error why;
            far_tls_fail(stream->ssl, &why);
            far_stream_end(stream, &why);
            return false;
        }
        data += n;
        len -= n;
    }
    return true;
}

size_t far_stream_queued(const struct far_stream *stream)
{
    return stream->writing_len + (stream->out == NULL ? 0 : BIO_ctrl_pending(stream->out));
}

int far_stream_send(struct far_stream *stream, uint16_t type, struct far_slice payload)
{
    if (stream->state != FAR_STREAM_OPEN) {
        return FAR_CANCELED;
    }
    if (payload.len > FAR_FRAME_MAX) {
        return FAR_LIMIT;
    }
    if (far_stream_queued(stream) + FAR_FRAME_HEADER_BYTES + payload.len > FAR_STREAM_QUEUE_MAX) {
        return FAR_BUSY;
    }
    /* header and the first bytes share a record */
    uint8_t first[FAR_RECORD_BYTES];
    size_t first_len = payload.len < sizeof first - FAR_FRAME_HEADER_BYTES ? payload.len
                                                                             : sizeof first - FAR_FRAME_HEADER_BYTES;
    far_put_le32(first, (uint32_t)payload.len);
    far_put_le16(first + 4, type);
    far_put_le16(first + 6, 0);
    if (first_len > 0) {
        memcpy(first + FAR_FRAME_HEADER_BYTES, payload.data, first_len);
    }
    if (!encrypt(stream, first, FAR_FRAME_HEADER_BYTES + first_len) ||
        !encrypt(stream, payload.data + first_len, payload.len - first_len)) {
        return FAR_CANCELED;
    }
    far_stream_flush(stream);
    return 0;
}

/* ---- reading ---- */

/* Decrypts at most room bytes; 0: nothing there now, or the stream has ended. */
static size_t decrypt(struct far_stream *stream, uint8_t *data, size_t room)
{
    struct far_error why;
    size_t n = 0;
    ERR_clear_error();
    if (SSL_read_ex(stream->ssl, data, room, &n) == 1) {
        return n;
    }
    switch (SSL_get_error(stream->ssl, 0)) {
    case SSL_ERROR_WANT_READ:
        break;
    case SSL_ERROR_ZERO_RETURN:
        end_with(stream, FAR_IO, "closed by the other side");
        break;
    default:
        far_tls_fail(stream->ssl, &why);
        far_stream_drain(stream, &why); /* an alert says why */
    }
    return 0;
}

/* Delivers whole frames from `plain`. */
static void deliver(struct far_stream *stream)
{
    size_t at = 0;
    while (stream->state == FAR_STREAM_OPEN && !stream->is_paused && stream->plain.len - at >= FAR_FRAME_HEADER_BYTES) {
        const uint8_t *header = stream->plain.data + at;
        uint32_t len = far_get_le32(header);
        if (len > FAR_FRAME_MAX || far_get_le16(header + 6) != 0) {
            end_with(stream, FAR_INVALID, len > FAR_FRAME_MAX ? "a frame longer than allowed came"
                                                              : "a frame with unknown flags came");
            return;
        }
        if (stream->plain.len - at - FAR_FRAME_HEADER_BYTES < len) {
            break;
        }
        at += FAR_FRAME_HEADER_BYTES + len;
        stream->callbacks.on_frame(stream->arg, stream, far_get_le16(header + 4),
                                   far_slice(header + FAR_FRAME_HEADER_BYTES, len));
    }
    far_buf_consume(&stream->plain, at);
    if (stream->plain.len == 0 && stream->plain.cap > 4 * FAR_RECORD_BYTES) { /* a big frame's memory is given back */
        size_t max = stream->plain.max;
        far_buf_done(&stream->plain);
        far_buf_init(&stream->plain, max);
    }
}

static void read_frames(struct far_stream *stream)
{
    deliver(stream); /* what waited while it was paused */
    while (stream->state == FAR_STREAM_OPEN && !stream->is_paused) {
        uint8_t *at = far_buf_reserve(&stream->plain, FAR_RECORD_BYTES);
        if (at == NULL) {
            end_with(stream, FAR_LIMIT, "no memory to receive");
            return;
        }
        size_t n = decrypt(stream, at, FAR_RECORD_BYTES);
        if (n == 0) {
            return;
        }
        stream->plain.len += n;
        deliver(stream);
    }
}

/* ---- greeting ---- */

static bool send_greeting(struct far_stream *stream, struct far_peer to, enum far_verdict verdict)
{
    uint8_t bytes[FAR_GREETING_BYTES];
    struct far_greeting greeting = far_tls_greeting(stream->net, to, stream->purpose);
    greeting.verdict = verdict;
    far_greeting_encode(&greeting, bytes);
    return encrypt(stream, bytes, sizeof bytes);
}

/* Whoever asked hears of another incarnation, once the certificate is known to be of who says so. */
static void tell_incarnation(struct far_stream *stream, const struct far_greeting *self, const struct far_greeting *theirs)
{
    struct far_net *net = stream->net;
    bool is_other = theirs->incarnation.epoch != self->incarnation.epoch || theirs->incarnation.tag != self->incarnation.tag;
    if (is_other && net->on_incarnation != NULL && theirs->from.party == stream->peer.party &&
        theirs->from.id == stream->peer.id && memcmp(self->cluster_uuid, theirs->cluster_uuid, 16) == 0 &&
        far_tls_check_key(net, stream->peer, stream->fingerprint, NULL) == 0) {
        net->on_incarnation(net->incarnation_arg, stream->peer, stream->fingerprint, theirs->incarnation);
    }
}

/* The listener judges, answers, and drains if the answer is no. */
static bool judge(struct far_stream *stream, const struct far_greeting *theirs, struct far_error *why)
{
    struct far_greeting self = far_tls_greeting(stream->net, stream->peer, theirs->purpose);
    enum far_verdict verdict = far_greeting_judge(&self, theirs, stream->peer);
    if (verdict == FAR_VERDICT_WELCOME && theirs->purpose == FAR_PURPOSE_DATA) {
        verdict = FAR_VERDICT_OTHER_PURPOSE; /* data streams come to a far_blistener */
    }
    struct far_error other_key = {0};
    if (verdict == FAR_VERDICT_WELCOME &&
        far_tls_check_key(stream->net, stream->peer, stream->fingerprint, &other_key) != 0) {
        verdict = FAR_VERDICT_OTHER_KEY;
    }
    stream->purpose = theirs->purpose;
    tell_incarnation(stream, &self, theirs);
    if (!send_greeting(stream, stream->peer, verdict)) {
        return false;
    }
    if (verdict != FAR_VERDICT_WELCOME) {
        far_greeting_refused(verdict, false, stream->peer, why);
        *why = verdict == FAR_VERDICT_OTHER_KEY ? other_key : *why;
        return false;
    }
    return true;
}

static void read_greeting(struct far_stream *stream)
{
    struct far_greeting theirs;
    struct far_error why = {0};
    while (stream->greeting_len < FAR_GREETING_BYTES) {
        size_t n = decrypt(stream, stream->greeting + stream->greeting_len, FAR_GREETING_BYTES - stream->greeting_len);
        if (n == 0) {
            return;
        }
        stream->greeting_len += n;
    }
    bool ok = far_greeting_decode(stream->greeting, &theirs, &why) == 0;
    if (ok && stream->is_dialer) {
        struct far_greeting self = far_tls_greeting(stream->net, stream->wanted, stream->purpose);
        ok = far_greeting_check_answer(&self, &theirs, stream->peer, &why) == 0;
        tell_incarnation(stream, &self, &theirs);
    } else if (ok) {
        ok = judge(stream, &theirs, &why);
    }
    if (!ok) {
        far_stream_drain(stream, &why);
        return;
    }
    far_stream_move(stream, FAR_STREAM_OPEN);
    uv_timer_stop(&stream->timer);
    if (stream->listener != NULL) {
        far_listener_forget(stream->listener, stream);
        stream->listener = NULL;
    }
    stream->callbacks.on_open(stream->arg, stream, stream->peer, stream->purpose);
}

/* ---- handshake ---- */

static void shake_hands(struct far_stream *stream)
{
    struct far_error why;
    ERR_clear_error();
    int rc = SSL_do_handshake(stream->ssl);
    if (rc != 1) {
        if (SSL_get_error(stream->ssl, rc) != SSL_ERROR_WANT_READ) {
            far_tls_fail(stream->ssl, &why);
            far_stream_drain(stream, &why);
        }
        return;
    }
    rc = far_tls_peer(stream->ssl, &stream->peer, stream->fingerprint, &why);
    if (rc == 0 && stream->is_dialer) {
        rc = far_tls_check_dialed(stream->peer, stream->wanted, &why);
        rc = rc == 0 ? far_tls_check_key(stream->net, stream->peer, stream->fingerprint, &why) : rc;
    }
    if (rc != 0) {
        SSL_shutdown(stream->ssl);
        far_stream_drain(stream, &why);
        return;
    }
    far_stream_move(stream, FAR_STREAM_GREETING);
    if (stream->is_dialer) {
        send_greeting(stream, stream->wanted, FAR_VERDICT_NONE);
    }
}

void far_stream_pump(struct far_stream *stream)
{
    if (stream->state == FAR_STREAM_HANDSHAKE) {
        shake_hands(stream);
    }
    if (stream->state == FAR_STREAM_GREETING) {
        read_greeting(stream);
    }
    if (stream->state == FAR_STREAM_OPEN) {
        read_frames(stream);
    }
    far_stream_flush(stream);
}

/* ---- the socket ---- */

static _Thread_local uint8_t read_buffer[64 * 1024]; /* libuv fills it and calls on_read at once */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    *buf = uv_buf_init((char *)read_buffer, sizeof read_buffer);
}

static void on_read(uv_stream_t *tcp, ssize_t n, const uv_buf_t *buf)
{
    struct far_stream *stream = tcp->data;
    if (n == 0 || stream->state == FAR_STREAM_CLOSING) {
        return;
    }
    if (n == UV_EOF) {
        end_with(stream, FAR_IO, "closed by the other side");
        return;
    }
    if (n < 0) {
        struct far_error why;
        far_fail_errno(&why, FAR_IO, (int)-n, "receive");
        far_stream_end(stream, &why);
        return;
    }
    if (stream->state == FAR_STREAM_DRAINING) {
        return;
    }
    if (BIO_write(stream->in, buf->base, (int)n) != n) {
        end_with(stream, FAR_LIMIT, "no memory to receive");
        return;
    }
    far_stream_pump(stream);
}

void far_stream_read_on(struct far_stream *stream)
{
    uv_read_start((uv_stream_t *)&stream->tcp, on_alloc, on_read); /* UV_EALREADY is as good */
}

void far_stream_start_tls(struct far_stream *stream)
{
    uv_os_fd_t fd;
    if (uv_fileno((uv_handle_t *)&stream->tcp, &fd) == 0) {
        far_tls_socket_options(fd);
    }
    stream->ssl = far_tls_new(stream->net, stream->is_dialer);
    BIO *in = BIO_new(BIO_s_mem());
    BIO *out = BIO_new(BIO_s_mem());
    if (stream->ssl == NULL || in == NULL || out == NULL) {
        BIO_free(in);
        BIO_free(out);
        ERR_clear_error();
        end_with(stream, FAR_LIMIT, "no memory for TLS");
        return;
    }
    SSL_set_bio(stream->ssl, in, out);
    stream->in = in;
    stream->out = out;
    far_stream_read_on(stream);
    far_stream_pump(stream);
}
