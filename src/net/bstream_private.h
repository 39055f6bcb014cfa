/* A blocking stream from inside: shared by bstream.c, bdial.c and blistener.c. */
#ifndef FAR_NET_BSTREAM_PRIVATE_H
#define FAR_NET_BSTREAM_PRIVATE_H

#include "net/records.h"
#include "net/tls.h"

#include <pthread.h>
#include <stdatomic.h>

struct far_bstream {
    struct far_net *net;
    int fd;
    bool is_dialer;
    uint8_t fingerprint[32]; /* of the peer's key, after the handshake */
    _Atomic bool is_shut;
    bool is_ahead;     /* a dialer that does not wait for the answer to its greeting */
    bool answer_is_due; /* the reader's: it comes before everything else */
    struct far_greeting greeting;
    struct far_peer certificate;
    SSL *ssl; /* shakes hands; NULL after it */
    struct far_traffic_secrets secrets;

    /* the writer's */
    struct far_records sealed;
    uint8_t *out; /* ciphertext to go */
    size_t out_len;
    _Atomic uint64_t bytes_sent;

    /* the reader's */
    struct far_records opened;
    uint8_t *in; /* ciphertext that came, from in_start to in_end */
    size_t in_start;
    size_t in_end;
    uint8_t *plain; /* of the last record, what was not asked for yet, from plain_start to plain_end */
    size_t plain_start;
    size_t plain_end;
    int gathers; /* SO_RCVLOWAT as set; 0 = never set */
    _Atomic uint64_t bytes_received;

    _Atomic bool key_asked; /* the other side wants our next records under the next key; set by the reader */
};

/* Takes the connected socket on success; NULL without memory. */
struct far_bstream *far_bstream_new(struct far_net *net, int fd, bool is_dialer);

/* TLS and the greeting of either side within timeout_ms; a dialer's peer must be `to`. */
int far_bstream_shake(struct far_bstream *stream, struct far_peer to, uint64_t timeout_ms, struct far_peer *ret_peer,
                      struct far_error *err);

#endif
