/* A blocking stream from inside: shared by bstream.c and blistener.c. */
#ifndef FAR_NET_BSTREAM_PRIVATE_H
#define FAR_NET_BSTREAM_PRIVATE_H

#include "net/tls.h"

#include <pthread.h>
#include <stdatomic.h>

struct far_bstream {
    struct far_net *net;
    int fd;
    bool is_dialer;
    uint8_t fingerprint[32]; /* of the peer's key, after the handshake */
    _Atomic bool is_shut;
    pthread_mutex_t mutex; /* guards ssl and out; never held while waiting */
    SSL *ssl;
    struct far_buf out;     /* ciphertext to go */
    struct far_buf sending; /* the same, owned by the writer */
    uint8_t *in;            /* ciphertext that came, from in_start to in_end; the reader's */
    size_t in_start;
    size_t in_end;
    uint64_t key_bytes; /* encrypted with the present key; under the mutex */
    _Atomic uint64_t bytes_sent;
    _Atomic uint64_t bytes_received;
};

/* Takes the connected socket on success; NULL without memory. */
struct far_bstream *far_bstream_new(struct far_net *net, int fd, bool is_dialer);

#endif
