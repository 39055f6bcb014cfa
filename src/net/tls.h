/* What src/net shares inside: the TLS context of a process, and OpenSSL's errors in our words. */
#ifndef FAR_NET_TLS_H
#define FAR_NET_TLS_H

#include "net/greeting.h"
#include "net/net.h"

#include <openssl/ssl.h>

struct far_net {
    SSL_CTX *context; /* for both directions; verifies the peer against the cluster's CA */
    struct far_peer self;
    uint8_t cluster_uuid[16];
    /* A node follows while its data threads greet. */
    _Atomic uint64_t incarnation_epoch, incarnation_tag;
    far_net_incarnation_fn on_incarnation; /* NULL: none */
    void *incarnation_arg;
    far_net_key_check_fn check_key; /* NULL: none */
    void *check_arg;
};

/* A fresh TLS state over two memory or custom BIOs, which it takes on success. */
SSL *far_tls_new(struct far_net *net, bool is_dialer);
/* Who the verified certificate of the peer names, and the fingerprint of its key. FAR_DENIED if it names no party of a cluster. */
int far_tls_peer(SSL *ssl, struct far_peer *ret_peer, uint8_t ret_fingerprint[32], struct far_error *err);
/* As far_pki_key_fingerprint. */
int far_tls_key_fingerprint(X509 *certificate, uint8_t ret_fingerprint[32], struct far_error *err);
/* Asks whoever knows the keys of peers; see far_net_check_keys. */
int far_tls_check_key(const struct far_net *net, struct far_peer peer, const uint8_t fingerprint[32], struct far_error *err);
/* Is `is` the party that was dialed? An id of 0 in `wanted` is any of its party. */
int far_tls_check_dialed(struct far_peer is, struct far_peer wanted, struct far_error *err);
/* The cause of a failed call on the TLS state, in words; empties OpenSSL's error queue. */
int far_tls_fail(SSL *ssl, struct far_error *err);
/* The same for calls beside a connection: "<what>: <OpenSSL's reason>". */
int far_openssl_fail(struct far_error *err, int klass, const char *what);
/* Keep-alive probes and a user time-out (FAR_USER_TIMEOUT_MS) on a connected socket, and no delay. */
void far_tls_socket_options(int fd);
/* The greeting of this process to a peer. */
struct far_greeting far_tls_greeting(const struct far_net *net, struct far_peer to, enum far_purpose purpose);

#endif
