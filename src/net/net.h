/* The network of servers and nodes: who we are, whom we believe, and greeted TLS 1.3 streams between us.
 *
 * struct far_net holds the identity of this process: certificate, key, CA, cluster uuid and incarnation epoch. Every
 * connection on ports 5001 and 5002 is mutual TLS 1.3; the first bytes inside are a greeting {magic, version, cluster
 * uuid, incarnation epoch, from, to, purpose}; the certificate must name `from` (subject "server:<id>" or "node:<id>"),
 * the dialer checks that it names `to`; another cluster or incarnation is refused before any other byte.
 *
 * Two kinds of stream on the same handshake: struct far_stream on a uv loop (control plane: frames, bounded queues,
 * callbacks) and struct far_bstream, blocking, for the worker threads of the data plane. */
#ifndef FAR_NET_NET_H
#define FAR_NET_NET_H

#include "base/buf.h"

#include <uv.h>

enum far_party { FAR_PARTY_SERVER = 1, FAR_PARTY_NODE = 2 };
enum far_purpose {
    FAR_PURPOSE_RAFT = 1, /* server to server: frames of log/raft_net.h */
    FAR_PURPOSE_LINK = 2, /* node to server: frames of fsm messages */
    FAR_PURPOSE_DATA = 3, /* node to node */
};

struct far_peer {
    enum far_party party;
    uint64_t id;
};

/* Which life of a cluster: the epoch grows with each forced recovery or restore; the tag, random, tells two apart that
 * were made at the same time at two places. The first one has epoch 1 and tag 0. */
struct far_incarnation_id {
    uint64_t epoch;
    uint64_t tag;
};

struct far_net_config {
    struct far_peer self;
    uint8_t cluster_uuid[16];
    struct far_incarnation_id incarnation;
    const char *ca_path;          /* PEM */
    const char *certificate_path; /* PEM */
    const char *key_path;         /* PEM, 0600 */
};

struct far_net;
/* Reads the files; FAR_INVALID if they do not fit each other or do not name self. The process ignores SIGPIPE from here on. */
int far_net_new(const struct far_net_config *config, struct far_net **ret_net, struct far_error *err);
/* The same with the files of a folder: ca.crt, and server.crt and server.key, or node.crt and node.key, as self is; and the
 * file `incarnation`, if there is one (incarnation.h), else the incarnation with this epoch and tag 0. */
int far_net_open(const char *dir, struct far_peer self, const uint8_t cluster_uuid[16], uint64_t incarnation_epoch,
                 struct far_net **ret_net, struct far_error *err);
void far_net_free(struct far_net *net); /* NULL is allowed */

/* Is this the key of that peer? 0, or FAR_DENIED with the reason. */
typedef int (*far_net_key_check_fn)(void *arg, struct far_peer peer, const uint8_t fingerprint[32],
                                    struct far_error *err);
/* Asked in every handshake of a far_stream from now on, on its loop's thread, before the other side is believed; a dialer
 * that is refused hears why. Without it, whatever the cluster's CA signed is good. NULL takes it away. */
void far_net_check_keys(struct far_net *net, far_net_key_check_fn check, void *arg);

/* Any thread. */
struct far_incarnation_id far_net_incarnation(const struct far_net *net);
/* Greet with another one from now on: a node follows. Streams that are open stay; the caller ends them. Any thread. */
void far_net_set_incarnation(struct far_net *net, struct far_incarnation_id incarnation);
/* Called on the loop's thread when the other side of a far_stream has another incarnation of this cluster; its certificate
 * and key are good. The stream ends then. It must not be closed in the call. NULL takes it away. */
typedef void (*far_net_incarnation_fn)(void *arg, struct far_peer peer, const uint8_t fingerprint[32],
                                       struct far_incarnation_id theirs);
void far_net_on_incarnation(struct far_net *net, far_net_incarnation_fn on_incarnation, void *arg);

enum {
    FAR_FRAME_MAX = 1024 * 1024,      /* payload of one frame on a far_stream */
    FAR_STREAM_QUEUE_MAX = 4 * 1024 * 1024, /* bytes waiting to be written; beyond: FAR_BUSY */
    FAR_HANDSHAKE_MS = 5000,                /* from dial or accept to on_open */
    FAR_DRAIN_MS = 1000,
    FAR_USER_TIMEOUT_MS = 10 * 1000,        /* sent bytes not acknowledged for so long end the connection */
    FAR_ACCEPT_MAX = 64,                    /* streams of one listener that are not greeted yet */
    FAR_ACCEPT_PER_ADDRESS_MAX = 32,        /* of them, from one address */
    FAR_BACKOFF_MIN_MS = 50,
    FAR_BACKOFF_MAX_MS = 2000,
};

/* ---- streams on a uv loop: frames {length u32, type u16, flags u16, payload} ---- */

struct far_stream;
struct far_stream_callbacks {
    /* Greeted: peer is verified. */
    void (*on_open)(void *arg, struct far_stream *stream, struct far_peer peer, enum far_purpose purpose);
    /* One whole frame; payload is borrowed for the call. */
    void (*on_frame)(void *arg, struct far_stream *stream, uint16_t type, struct far_slice payload);
    /* The last callback, exactly once, whatever happened: also when a dial failed. The stream frees itself after it. */
    void (*on_close)(void *arg, struct far_stream *stream, const struct far_error *why);
};

/* Dial host:port ("[v6]:port" too) and greet `to`; id 0 means any of that party. If this returns 0, on_open or on_close
 * follows, never within the call; otherwise neither does. */
int far_stream_dial(struct far_net *net, uv_loop_t *loop, const char *address, struct far_peer to,
                    enum far_purpose purpose, const struct far_stream_callbacks *callbacks, void *arg,
                    struct far_stream **ret_stream, struct far_error *err);
/* Change who gets the callbacks from now on: a listener hands an opened stream on. */
void far_stream_set_callbacks(struct far_stream *stream, const struct far_stream_callbacks *callbacks, void *arg);
/* Copies the frame into the queue. FAR_BUSY: the queue is full, nothing was taken. FAR_CANCELED: it is closing. */
int far_stream_send(struct far_stream *stream, uint16_t type, struct far_slice payload);
size_t far_stream_queued(const struct far_stream *stream);
/* Stop and go on reading: back-pressure. */
void far_stream_pause(struct far_stream *stream);
void far_stream_resume(struct far_stream *stream);
/* Ends the stream; on_close follows, with FAR_CANCELED. What was queued is still written, for FAR_DRAIN_MS at most. */
void far_stream_close(struct far_stream *stream);
/* SHA-256 of the public key of an opened stream's peer, as far_pki_key_fingerprint() (net/pki.h). */
const uint8_t *far_stream_fingerprint(const struct far_stream *stream);

struct far_listener;
/* Listen on host:port (port 0: any; see far_listener_address). callbacks get the accepted streams, and on_close also
 * those that never opened, for the log. Of streams that are not greeted yet at most FAR_ACCEPT_MAX, and
 * FAR_ACCEPT_PER_ADDRESS_MAX from one address; beyond, the oldest is dropped. */
int far_listener_new(struct far_net *net, uv_loop_t *loop, const char *address,
                     const struct far_stream_callbacks *callbacks, void *arg, struct far_listener **ret_listener,
                     struct far_error *err);
const char *far_listener_address(const struct far_listener *listener);
/* Closes the socket and what is not greeted yet; then done. Opened streams stay with whoever has them. */
void far_listener_close(struct far_listener *listener, void (*done)(void *arg), void *arg);

/* ---- blocking streams: one thread reads, one writes ---- */

struct far_bstream;
/* Dials, shakes hands and greets `to` for FAR_PURPOSE_DATA within timeout_ms. */
int far_bstream_dial(struct far_net *net, const char *address, struct far_peer to, uint64_t timeout_ms,
                     struct far_bstream **ret_stream, struct far_error *err);
/* The same in two steps, so that a shutdown ends the second, too; and one round trip shorter: the peer has shown its certificate,
 * and what is written goes behind the greeting at once; its answer comes with the first read, which fails as the dial would have. */
int far_bstream_connect(struct far_net *net, const char *address, uint64_t timeout_ms, struct far_bstream **ret_stream,
                        struct far_error *err);
int far_bstream_greet_ahead(struct far_bstream *stream, struct far_peer to, uint64_t timeout_ms, struct far_error *err);
/* A listening socket for one accepting thread. Handshakes run on whichever thread serves a stream, so that a slow dialer
 * holds nobody up; the owner bounds how many there are. */
struct far_blistener;
int far_blistener_new(struct far_net *net, const char *address, struct far_blistener **ret_listener,
                      struct far_error *err);
const char *far_blistener_address(const struct far_blistener *listener);
/* Blocks until a TCP connection is there; FAR_CANCELED after a shutdown. Any other error (too many open files) may pass:
 * wait a moment before the next call. */
int far_blistener_accept(struct far_blistener *listener, struct far_bstream **ret_stream, struct far_error *err);
/* Then only nodes that were greeted for FAR_PURPOSE_DATA come through; ret_peer is verified. */
int far_bstream_handshake(struct far_bstream *stream, uint64_t timeout_ms, struct far_peer *ret_peer,
                          struct far_error *err);
void far_blistener_shutdown(struct far_blistener *listener); /* any thread; wakes accept */
void far_blistener_free(struct far_blistener *listener);
/* Exactly length bytes, or an error; FAR_TIMEOUT when nothing moves for idle_ms. Reading and writing may run on two
 * threads at once. */
int far_bstream_read(struct far_bstream *stream, void *data, size_t length, uint64_t idle_ms, struct far_error *err);
int far_bstream_write(struct far_bstream *stream, const void *data, size_t length, uint64_t idle_ms,
                      struct far_error *err);
/* The same for several pieces, which may stay here until far_bstream_flush, the next write, or until there are enough to be
 * sent: who has more to say saves a system call, and the other side a wake-up. */
int far_bstream_add(struct far_bstream *stream, const struct far_slice *parts, size_t count, uint64_t idle_ms,
                    struct far_error *err);
/* Sends what was added; nothing to send is 0. */
int far_bstream_flush(struct far_bstream *stream, uint64_t idle_ms, struct far_error *err);
bool far_bstream_has_added(const struct far_bstream *stream); /* the writing thread */
/* SHA-256 of the public key of the peer, after the handshake. */
const uint8_t *far_bstream_fingerprint(const struct far_bstream *stream);
/* Any thread: makes both directions fail from now on. */
void far_bstream_shutdown(struct far_bstream *stream);
void far_bstream_free(struct far_bstream *stream);
uint64_t far_bstream_bytes_sent(const struct far_bstream *stream);     /* before TLS */
uint64_t far_bstream_bytes_received(const struct far_bstream *stream); /* after TLS */
/* The shortest round trip that the kernel saw, microseconds; UINT32_MAX: not known. */
uint32_t far_bstream_round_trip_us(const struct far_bstream *stream);

#endif
