/* Keys and certificates of a cluster: its own CA, one certificate a server and node.
 *
 * Keys are EC P-256 and travel as PEM (PKCS#8) text; certificates and requests as DER, and as PEM in files. A
 * certificate's subject is the one name that counts inside the cluster, "server:<id>" or "node:<id>"; its alternative
 * names are the hosts under which a server answers HTTPS. Pure but for the clock and the random numbers that making keys
 * and certificates takes. Any thread. Whoever holds a buffer with a key ends it with
 * far_secret_done(). */
#ifndef FAR_NET_PKI_H
#define FAR_NET_PKI_H

#include "net/net.h"

enum {
    FAR_PKI_BYTES_MAX = 4096,        /* of a key, request or certificate; give output buffers this maximum */
    FAR_PKI_HOSTS_MAX = 16,          /* alternative names of one certificate */
    FAR_PKI_HOST_BYTES_MAX = 253,
    FAR_PKI_CA_DAYS = 365 * 50,
    FAR_PKI_LEAF_DAYS = 365 * 10,
};

/* A new private key. */
int far_pki_key_make(struct far_buf *ret_key_pem, struct far_error *err);
/* A new CA certificate for the key; the cluster's name goes into its subject for people to read. */
int far_pki_ca_make(struct far_slice key_pem, const char *cluster_name, struct far_buf *ret_certificate_der,
                    struct far_error *err);
/* A request to be signed: nothing but the public key and the proof of holding its private half. */
int far_pki_request_make(struct far_slice key_pem, struct far_buf *ret_request_der, struct far_error *err);
/* A certificate for the key of the request, naming `who` and the hosts (names or IP addresses). FAR_INVALID: the request
 * is malformed, not signed by its own key, not an EC P-256 key, or a host is no name. */
int far_pki_sign(struct far_slice ca_key_pem, struct far_slice ca_certificate_der, struct far_slice request_der,
                 struct far_peer who, const char *const *hosts, size_t host_count, struct far_buf *ret_certificate_der,
                 struct far_error *err);
/* Would far_pki_sign take request and hosts? FAR_INVALID as there: to be known before anything is spent on it. */
int far_pki_request_check(struct far_slice request_der, const char *const *hosts, size_t host_count,
                          struct far_error *err);
/* SHA-256 of a certificate's DER. */
void far_pki_fingerprint(struct far_slice certificate_der, uint8_t ret_fingerprint[32]);
/* SHA-256 of a certificate's public key (DER of SubjectPublicKeyInfo), the same as of its request: what the state keeps
 * of a joined party, known before its certificate is signed. */
int far_pki_key_fingerprint(struct far_slice certificate_der, uint8_t ret_fingerprint[32], struct far_error *err);
/* Does the key belong to the certificate, and was that issued by the CA for `who`? What a joiner checks before it
 * writes anything. FAR_DENIED if not. */
int far_pki_check(struct far_slice key_pem, struct far_slice certificate_der, struct far_slice ca_certificate_der,
                  struct far_peer who, struct far_error *err);
int far_pki_der_to_pem(struct far_slice certificate_der, struct far_buf *ret_pem, struct far_error *err);
int far_pki_pem_to_der(struct far_slice certificate_pem, struct far_buf *ret_der, struct far_error *err);

/* "server:7" and back; false if the text is anything else. Text has room for FAR_PEER_TEXT_MAX bytes. */
enum { FAR_PEER_TEXT_MAX = 32 };
void far_peer_print(struct far_peer peer, char *text);
bool far_peer_parse(const char *text, size_t len, struct far_peer *ret_peer);

/* Overwrite and free a buffer that held a secret. */
void far_secret_done(struct far_buf *buf);

#endif
