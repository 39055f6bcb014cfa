/* A stream on a uv loop from inside: shared by stream.c (life), stream_tls.c (bytes) and listener.c. */
#ifndef FAR_NET_STREAM_PRIVATE_H
#define FAR_NET_STREAM_PRIVATE_H

#include "net/tls.h"

enum far_stream_state {
    FAR_STREAM_RESOLVING,
    FAR_STREAM_CONNECTING,
    FAR_STREAM_HANDSHAKE,
    FAR_STREAM_GREETING, /* handshake done, the other side's greeting is awaited */
    FAR_STREAM_OPEN,
    FAR_STREAM_DRAINING, /* writes what is left, then waits for the other side's end; reads are thrown away */
    FAR_STREAM_CLOSING,  /* handles are being closed; then on_close */
};

enum {
    FAR_FRAME_HEADER_BYTES = 8,
    FAR_STREAM_ADDRESSES_MAX = 8, /* of one host, tried in turn */
    FAR_RECORD_BYTES = 16 * 1024, /* TLS */
    FAR_WRITE_BYTES_MAX = 256 * 1024,
};

struct far_stream {
    struct far_net *net;
    uv_loop_t *loop;
    struct far_stream_callbacks callbacks;
    void *arg;
    enum far_stream_state state;
    bool is_dialer;
    bool is_paused;
    struct far_error why; /* the first cause of its end */

    struct far_peer wanted; /* of a dialer */
    struct far_peer peer;   /* of the certificate */
    enum far_purpose purpose;
    uint8_t fingerprint[32];

    uv_tcp_t tcp;
    uv_timer_t timer; /* deadline until open and while draining; wakes a resumed stream */
    unsigned handles_open;
    bool is_resolving;
    uv_getaddrinfo_t resolve;
    uv_connect_t connect;
    struct sockaddr_storage addresses[FAR_STREAM_ADDRESSES_MAX];
    size_t address_count;
    size_t address_next;

    SSL *ssl;
    BIO *in;  /* ciphertext that came; owned by ssl */
    BIO *out; /* ciphertext to go; owned by ssl */
    uint8_t greeting[FAR_GREETING_BYTES];
    size_t greeting_len;
    struct far_buf plain; /* decrypted, not delivered */
    uv_write_t write;
    uint8_t *writing; /* of the one write in flight; owned */
    size_t writing_len;
    uv_shutdown_t shutdown;
    bool is_shut; /* our end of the connection was ended */

    struct far_listener *listener; /* until greeted */
    uint8_t from[16];              /* the address of one that was accepted */
    struct far_stream *older;      /* in the listener's list */
    struct far_stream *newer;
};

/* stream.c */
struct far_stream *far_stream_new(struct far_net *net, uv_loop_t *loop,
                                  const struct far_stream_callbacks *callbacks, void *arg);
void far_stream_move(struct far_stream *stream, enum far_stream_state state);
/* End it at once, or after what is queued was written. The first cause stays. */
void far_stream_end(struct far_stream *stream, const struct far_error *why);
void far_stream_drain(struct far_stream *stream, const struct far_error *why);

/* stream_tls.c */
/* The TCP connection stands: start the handshake. */
void far_stream_start_tls(struct far_stream *stream);
/* Go on with what can be read: handshake, greeting, frames. */
void far_stream_pump(struct far_stream *stream);
/* Read the socket (again). */
void far_stream_read_on(struct far_stream *stream);
/* Hand ciphertext to the socket. */
void far_stream_flush(struct far_stream *stream);

/* listener.c: a stream was greeted, or has called its last callback. */
void far_listener_forget(struct far_listener *listener, struct far_stream *stream);

#endif
