/* The identity of a process and what its TLS connections have in common: see net.h and tls.h.
 *
 * TLS 1.3 only, both sides verified against the cluster's own CA and nothing else; no sessions, tickets, renegotiation or
 * early data. AES-128-GCM first: the fastest where the processor helps. */
#include "base/file.h"
#include "net/incarnation.h"
#include "net/records.h"
#include "net/tls.h"

#include "net/pki.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { PATH_MAX_BYTES = 4096 };

int far_openssl_fail(struct far_error *err, int klass, const char *what)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);
    far_fail(err, klass, "%s: %s", what, reason != NULL ? reason : "OpenSSL gave no reason");
    ERR_clear_error();
    return klass;
}

static int load_identity(SSL_CTX *context, const struct far_net_config *config, struct far_error *err)
{
    if (SSL_CTX_load_verify_file(context, config->ca_path) != 1) {
        return far_openssl_fail(err, FAR_INVALID, config->ca_path);
    }
    if (SSL_CTX_use_certificate_file(context, config->certificate_path, SSL_FILETYPE_PEM) != 1) {
        return far_openssl_fail(err, FAR_INVALID, config->certificate_path);
    }
    if (SSL_CTX_use_PrivateKey_file(context, config->key_path, SSL_FILETYPE_PEM) != 1) {
        return far_openssl_fail(err, FAR_INVALID, config->key_path);
    }
    X509 *certificate = SSL_CTX_get0_certificate(context);
    char name[64] = "";
    struct far_peer named;
    int len = X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof name);
    if (len < 0 || !far_peer_parse(name, (size_t)len, &named) || named.party != config->self.party ||
        named.id != config->self.id) {
        char self[FAR_PEER_TEXT_MAX];
        far_peer_print(config->self, self);
        return far_fail(err, FAR_INVALID, "%s: the certificate names '%s', not %s", config->certificate_path, name,
                        self);
    }
    return 0;
}

static int set_options(SSL_CTX *context, struct far_error *err)
{
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_keylog_callback(context, far_traffic_secrets_note); /* only for streams that want them: records.h */
    SSL_CTX_set_verify_depth(context, 1); /* the CA signs directly */
    if (SSL_CTX_set_num_tickets(context, 0) != 1 || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context,
                                 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") != 1) {
        return far_openssl_fail(err, FAR_INTERNAL, "set up TLS 1.3");
    }
    return 0;
}

int far_net_new(const struct far_net_config *config, struct far_net **ret_net, struct far_error *err)
{
    int rc = FAR_LIMIT;
    struct far_net *net = calloc(1, sizeof *net);
    if (net == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the network");
    }
    signal(SIGPIPE, SIG_IGN); /* libuv and OpenSSL write to sockets whose other end may be gone */
    net->self = config->self;
    far_net_set_incarnation(net, config->incarnation);
    memcpy(net->cluster_uuid, config->cluster_uuid, sizeof net->cluster_uuid);
    net->context = SSL_CTX_new(TLS_method());
    if (net->context == NULL) {
        far_openssl_fail(err, FAR_LIMIT, "set up TLS");
        goto out;
    }
    rc = set_options(net->context, err);
    if (rc == 0) {
        rc = load_identity(net->context, config, err);
    }
out:
    if (rc != 0) {
        far_net_free(net);
        return rc;
    }
    *ret_net = net;
    return 0;
}

static int read_der(const char *path, struct far_buf *ret_der, struct far_error *err)
{
    struct far_buf pem;
    far_buf_init(&pem, 4 * FAR_PKI_BYTES_MAX); /* a chain */
    int rc = far_file_read(path, &pem, err);
    rc = rc == 0 ? far_pki_pem_to_der(far_buf_slice(&pem), ret_der, err) : rc;
    far_buf_done(&pem);
    return rc == 0 ? 0 : far_error_context(err, "%s", path);
}

/* A damaged file would otherwise show itself at the others, as their refusal. */
static int check_identity(const struct far_net_config *config, struct far_error *err)
{
    struct far_buf key, own, ca;
    far_buf_init(&key, FAR_PKI_BYTES_MAX);
    far_buf_init(&own, FAR_PKI_BYTES_MAX);
    far_buf_init(&ca, FAR_PKI_BYTES_MAX);
    int rc = far_file_read(config->key_path, &key, err);
    rc = rc == 0 ? read_der(config->certificate_path, &own, err) : rc;
    rc = rc == 0 ? read_der(config->ca_path, &ca, err) : rc;
    if (rc == 0) {
        rc = far_pki_check(far_buf_slice(&key), far_buf_slice(&own), far_buf_slice(&ca), config->self, err);
        rc = rc == 0 ? 0 : far_error_context(err, "%s, with its key and CA", config->certificate_path);
    }
    far_secret_done(&key);
    far_buf_done(&own);
    far_buf_done(&ca);
    return rc;
}

int far_net_open(const char *dir, struct far_peer self, const uint8_t cluster_uuid[16], uint64_t incarnation_epoch,
                 struct far_net **ret_net, struct far_error *err)
{
    char ca[PATH_MAX_BYTES], certificate[PATH_MAX_BYTES], key[PATH_MAX_BYTES];
    const char *party = self.party == FAR_PARTY_SERVER ? "server" : "node";
    int n = snprintf(certificate, sizeof certificate, "%s/%s.crt", dir, party);
    if (n < 0 || (size_t)n >= sizeof certificate) {
        return far_fail(err, FAR_INVALID, "the path of the folder '%.200s' is too long", dir);
    }
    snprintf(key, sizeof key, "%s/%s.key", dir, party);
    snprintf(ca, sizeof ca, "%s/ca.crt", dir);
    struct far_net_config config = {.self = self,
                                    .incarnation = {.epoch = incarnation_epoch},
                                    .ca_path = ca,
                                    .certificate_path = certificate,
                                    .key_path = key};
    memcpy(config.cluster_uuid, cluster_uuid, sizeof config.cluster_uuid);
    struct far_incarnation incarnation;
    int rc = far_incarnation_load(dir, cluster_uuid, &incarnation, err);
    if (rc == 0) {
        config.incarnation = far_incarnation_id(&incarnation);
    }
    rc = rc == FAR_NOT_FOUND ? 0 : rc;
    rc = rc == 0 ? check_identity(&config, err) : rc;
    return rc == 0 ? far_net_new(&config, ret_net, err) : rc;
}

void far_net_free(struct far_net *net)
{
    if (net != NULL) {
        SSL_CTX_free(net->context);
        free(net);
    }
}

void far_net_check_keys(struct far_net *net, far_net_key_check_fn check, void *arg)
{
    net->check_key = check;
    net->check_arg = arg;
}

struct far_incarnation_id far_net_incarnation(const struct far_net *net)
{
    return (struct far_incarnation_id){.epoch = net->incarnation_epoch, .tag = net->incarnation_tag};
}

void far_net_set_incarnation(struct far_net *net, struct far_incarnation_id incarnation)
{
    net->incarnation_epoch = incarnation.epoch;
    net->incarnation_tag = incarnation.tag;
}

void far_net_on_incarnation(struct far_net *net, far_net_incarnation_fn on_incarnation, void *arg)
{
    net->on_incarnation = on_incarnation;
    net->incarnation_arg = arg;
}

int far_tls_check_key(const struct far_net *net, struct far_peer peer, const uint8_t fingerprint[32], struct far_error *err)
{
    return net->check_key == NULL ? 0 : net->check_key(net->check_arg, peer, fingerprint, err);
}

SSL *far_tls_new(struct far_net *net, bool is_dialer)
{
    SSL *ssl = SSL_new(net->context);
    if (ssl == NULL) {
        return NULL;
    }
    if (is_dialer) {
        SSL_set_connect_state(ssl);
    } else {
        SSL_set_accept_state(ssl);
    }
    return ssl;
}

struct far_greeting far_tls_greeting(const struct far_net *net, struct far_peer to, enum far_purpose purpose)
{
    struct far_greeting greeting = {
        .incarnation = far_net_incarnation(net), .purpose = purpose, .from = net->self, .to = to};
    memcpy(greeting.cluster_uuid, net->cluster_uuid, sizeof greeting.cluster_uuid);
    return greeting;
}

int far_tls_key_fingerprint(X509 *certificate, uint8_t ret_fingerprint[32], struct far_error *err)
{
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
    if (len <= 0) {
        return far_openssl_fail(err, FAR_LIMIT, "fingerprint of a public key");
    }
    far_pki_fingerprint(far_slice(der, (size_t)len), ret_fingerprint);
    OPENSSL_free(der);
    return 0;
}

int far_tls_peer(SSL *ssl, struct far_peer *ret_peer, uint8_t ret_fingerprint[32], struct far_error *err)
{
    X509 *certificate = SSL_get0_peer_certificate(ssl);
    if (certificate == NULL) {
        return far_fail(err, FAR_DENIED, "the other side showed no certificate");
    }
    char name[64] = "";
    struct far_peer named;
    int len = X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof name);
    if (len < 0 || !far_peer_parse(name, (size_t)len, &named)) {
        return far_fail(err, FAR_DENIED, "the certificate of the other side names no server or node");
    }
    int rc = far_tls_key_fingerprint(certificate, ret_fingerprint, err);
    if (rc != 0) {
        return rc;
    }
    *ret_peer = named;
    return 0;
}

int far_tls_check_dialed(struct far_peer is, struct far_peer wanted, struct far_error *err)
{
    if (is.party == wanted.party && (wanted.id == 0 || is.id == wanted.id)) {
        return 0;
    }
    char is_text[FAR_PEER_TEXT_MAX];
    char wanted_text[FAR_PEER_TEXT_MAX];
    far_peer_print(is, is_text);
    far_peer_print(wanted, wanted_text);
    return far_fail(err, FAR_DENIED, "%s answers there, not %s", is_text, wanted_text);
}

int far_tls_fail(SSL *ssl, struct far_error *err)
{
    long verify = SSL_get_verify_result(ssl);
    unsigned long code = ERR_peek_last_error();
    int reason = ERR_GET_REASON(code);
    ERR_clear_error();
    if (verify != X509_V_OK) {
        return far_fail(err, FAR_DENIED, "the certificate of the other side is not good: %s",
                        X509_verify_cert_error_string(verify));
    }
    if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        return far_fail(err, FAR_DENIED, "the other side showed no certificate");
    }
    if (reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256) {
        const char *alert = ERR_reason_error_string(code);
        return far_fail(err, FAR_DENIED, "the other side refused us: %s", alert != NULL ? alert : "TLS alert");
    }
    const char *text = code == 0 ? NULL : ERR_reason_error_string(code);
    return far_fail(err, FAR_IO, "TLS: %s", text != NULL ? text : "protocol error");
}

void far_tls_socket_options(int fd)
{
    /* best effort: a Unix socket of a test has none of them */
    const int on = 1;
    const int idle_s = FAR_USER_TIMEOUT_MS / 2000;
    const int interval_s = 2;
    const unsigned user_timeout_ms = FAR_USER_TIMEOUT_MS;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof user_timeout_ms);
}
