/* Keys and certificates: see pki.h. Everything goes through OpenSSL 3's EVP and X509 interfaces. */
#include "net/pki.h"

#include "base/random.h"
#include "net/tls.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdio.h>

enum { BACKDATE_S = 24 * 3600 }; /* clocks differ */

/* ---- OpenSSL objects from and to bytes ---- */

static int bio_to_buf(BIO *bio, struct far_buf *out, struct far_error *err)
{
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);
    if (len < 0 || far_buf_append(out, data, (size_t)len) != 0) {
        return far_fail(err, FAR_LIMIT, "no room for a key or certificate");
    }
    return 0;
}

static int no_password(char *buf, int size, int rwflag, void *arg)
{
    return -1; /* encrypted keys are not read, and nobody is asked on a terminal */
}

static EVP_PKEY *key_from_pem(struct far_slice pem, struct far_error *err)
{
    EVP_PKEY *key = NULL;
    BIO *bio = pem.len > FAR_PKI_BYTES_MAX ? NULL : BIO_new_mem_buf(pem.data, (int)pem.len);
    if (bio != NULL) {
        key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    }
    if (key == NULL) {
        far_openssl_fail(err, FAR_INVALID, "read a private key");
    }
    BIO_free(bio);
    return key;
}

static X509 *certificate_from_der(struct far_slice der, struct far_error *err)
{
    const unsigned char *at = der.data;
    X509 *certificate = der.len > FAR_PKI_BYTES_MAX ? NULL : d2i_X509(NULL, &at, (long)der.len);
    if (certificate == NULL || at != der.data + der.len) {
        X509_free(certificate);
        far_openssl_fail(err, FAR_INVALID, "read a certificate");
        return NULL;
    }
    return certificate;
}

static int certificate_to_der(X509 *certificate, struct far_buf *out, struct far_error *err)
{
    int len = i2d_X509(certificate, NULL);
    uint8_t *at = len <= 0 ? NULL : far_buf_reserve(out, (size_t)len);
    if (at == NULL) {
        return far_openssl_fail(err, FAR_LIMIT, "no room for a certificate");
    }
    i2d_X509(certificate, &at);
    out->len += (size_t)len;
    return 0;
}

int far_pki_der_to_pem(struct far_slice certificate_der, struct far_buf *ret_pem, struct far_error *err)
{
    X509 *certificate = certificate_from_der(certificate_der, err);
    if (certificate == NULL) {
        return FAR_INVALID;
    }
    int rc = FAR_LIMIT;
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio == NULL || PEM_write_bio_X509(bio, certificate) != 1) {
        far_openssl_fail(err, FAR_LIMIT, "write a certificate");
    } else {
        rc = bio_to_buf(bio, ret_pem, err);
    }
    BIO_free(bio);
    X509_free(certificate);
    return rc;
}

int far_pki_pem_to_der(struct far_slice certificate_pem, struct far_buf *ret_der, struct far_error *err)
{
    X509 *certificate = NULL;
    BIO *bio = certificate_pem.len > 2 * FAR_PKI_BYTES_MAX
                   ? NULL
                   : BIO_new_mem_buf(certificate_pem.data, (int)certificate_pem.len);
    if (bio != NULL) {
        certificate = PEM_read_bio_X509(bio, NULL, no_password, NULL);
    }
    BIO_free(bio);
    if (certificate == NULL) {
        return far_openssl_fail(err, FAR_INVALID, "read a certificate");
    }
    int rc = certificate_to_der(certificate, ret_der, err);
    X509_free(certificate);
    return rc;
}

void far_pki_fingerprint(struct far_slice certificate_der, uint8_t ret_fingerprint[32])
{
    SHA256(certificate_der.data, certificate_der.len, ret_fingerprint);
}

int far_pki_key_fingerprint(struct far_slice certificate_der, uint8_t ret_fingerprint[32], struct far_error *err)
{
    X509 *certificate = certificate_from_der(certificate_der, err);
    if (certificate == NULL) {
        return FAR_INVALID;
    }
    int rc = far_tls_key_fingerprint(certificate, ret_fingerprint, err);
    X509_free(certificate);
    return rc;
}

/* ---- names ---- */

static const char *const party_names[] = {[FAR_PARTY_SERVER] = "server", [FAR_PARTY_NODE] = "node"};

void far_peer_print(struct far_peer peer, char *text)
{
    bool known = peer.party == FAR_PARTY_SERVER || peer.party == FAR_PARTY_NODE;
    snprintf(text, FAR_PEER_TEXT_MAX, "%s:%" PRIu64, known ? party_names[peer.party] : "nobody", peer.id);
}

static bool parse_id(const char *text, size_t len, uint64_t *ret_id)
{
    uint64_t id = 0;
    if (len == 0 || len > 20 || text[0] == '0') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(id, 10, &id) ||
            __builtin_add_overflow(id, (uint64_t)(text[i] - '0'), &id)) {
            return false;
        }
    }
    *ret_id = id;
    return true;
}

bool far_peer_parse(const char *text, size_t len, struct far_peer *ret_peer)
{
    for (int party = FAR_PARTY_SERVER; party <= FAR_PARTY_NODE; party++) {
        size_t name_len = strlen(party_names[party]);
        if (len > name_len && memcmp(text, party_names[party], name_len) == 0 && text[name_len] == ':' &&
            parse_id(text + name_len + 1, len - name_len - 1, &ret_peer->id)) {
            ret_peer->party = (enum far_party)party;
            return true;
        }
    }
    return false;
}

/* ---- keys and requests ---- */

int far_pki_key_make(struct far_buf *ret_key_pem, struct far_error *err)
{
    int rc = FAR_LIMIT;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    BIO *bio = BIO_new(BIO_s_secmem());
    if (key == NULL || bio == NULL || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
        far_openssl_fail(err, FAR_LIMIT, "make a private key");
    } else {
        rc = bio_to_buf(bio, ret_key_pem, err);
    }
    BIO_free(bio);
    EVP_PKEY_free(key);
    return rc;
}

int far_pki_request_make(struct far_slice key_pem, struct far_buf *ret_request_der, struct far_error *err)
{
    EVP_PKEY *key = key_from_pem(key_pem, err);
    if (key == NULL) {
        return FAR_INVALID;
    }
    int rc = FAR_LIMIT;
    X509_REQ *request = X509_REQ_new();
    if (request == NULL || X509_REQ_set_version(request, X509_REQ_VERSION_1) != 1 ||
        X509_REQ_set_pubkey(request, key) != 1 || X509_REQ_sign(request, key, EVP_sha256()) <= 0) {
        far_openssl_fail(err, FAR_LIMIT, "make a certificate request");
        goto out;
    }
    int len = i2d_X509_REQ(request, NULL);
    uint8_t *at = len <= 0 ? NULL : far_buf_reserve(ret_request_der, (size_t)len);
    if (at == NULL) {
        far_openssl_fail(err, FAR_LIMIT, "no room for a certificate request");
        goto out;
    }
    i2d_X509_REQ(request, &at);
    ret_request_der->len += (size_t)len;
    rc = 0;
out:
    X509_REQ_free(request);
    EVP_PKEY_free(key);
    return rc;
}

/* ---- certificates ---- */

static bool add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool ok = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

static bool set_serial(X509 *certificate)
{
    uint8_t bytes[16];
    far_random_bytes(bytes, sizeof bytes);
    bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40); /* positive, and always as long */
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool ok = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return ok;
}

/* What CA and leaf have in common. */
static bool set_basics(X509 *certificate, EVP_PKEY *key, const char *subject, int days)
{
    return X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) &&
           X509_gmtime_adj(X509_getm_notBefore(certificate), -(long)BACKDATE_S) != NULL &&
           X509_time_adj_ex(X509_getm_notAfter(certificate), days, 0, NULL) != NULL &&
           X509_set_pubkey(certificate, key) == 1 &&
           X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8,
                                      (const unsigned char *)subject, -1, -1, 0) == 1;
}

int far_pki_ca_make(struct far_slice key_pem, const char *cluster_name, struct far_buf *ret_certificate_der,
                    struct far_error *err)
{
    EVP_PKEY *key = key_from_pem(key_pem, err);
    if (key == NULL) {
        return FAR_INVALID;
    }
    int rc = FAR_LIMIT;
    char subject[64 + 1];
    snprintf(subject, sizeof subject, "farshore cluster %.46s", cluster_name); /* a CN has at most 64 characters */
    X509 *ca = X509_new();
    if (ca == NULL || !set_basics(ca, key, subject, FAR_PKI_CA_DAYS) ||
        X509_set_issuer_name(ca, X509_get_subject_name(ca)) != 1 ||
        !add_extension(ca, ca, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
        !add_extension(ca, ca, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !add_extension(ca, ca, NID_subject_key_identifier, "hash") || X509_sign(ca, key, EVP_sha256()) <= 0) {
        far_openssl_fail(err, FAR_LIMIT, "make the certificate of the CA");
        goto out;
    }
    rc = certificate_to_der(ca, ret_certificate_der, err);
out:
    X509_free(ca);
    EVP_PKEY_free(key);
    return rc;
}

static bool is_p256(EVP_PKEY *key)
{
    char group[32] = "";
    size_t len = 0;
    return EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, group, sizeof group, &len) == 1 &&
           strcmp(group, SN_X9_62_prime256v1) == 0;
}

/* The public key of a request that proves that it holds the private one. */
static EVP_PKEY *key_of_request(struct far_slice der, struct far_error *err)
{
    const unsigned char *at = der.data;
    X509_REQ *request = der.len > FAR_PKI_BYTES_MAX ? NULL : d2i_X509_REQ(NULL, &at, (long)der.len);
    EVP_PKEY *key = NULL;
    if (request == NULL || at != der.data + der.len) {
        far_openssl_fail(err, FAR_INVALID, "read a certificate request");
        goto out;
    }
    key = X509_REQ_get_pubkey(request);
    if (key == NULL || !is_p256(key) || X509_REQ_verify(request, key) != 1) {
        far_openssl_fail(err, FAR_INVALID, "the certificate request is not signed by an EC P-256 key of its own");
        EVP_PKEY_free(key);
        key = NULL;
    }
out:
    X509_REQ_free(request);
    return key;
}

/* "IP:…,DNS:…" for the extension; only characters of names and addresses get that far. */
static int print_hosts(const char *const *hosts, size_t count, struct far_buf *out, struct far_error *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:";
    if (count > FAR_PKI_HOSTS_MAX) {
        return far_fail(err, FAR_INVALID, "more than %d host names for one certificate", (int)FAR_PKI_HOSTS_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        uint8_t ip[16];
        size_t len = strlen(hosts[i]);
        bool is_ip = inet_pton(AF_INET, hosts[i], ip) == 1 || inet_pton(AF_INET6, hosts[i], ip) == 1;
        if (len == 0 || len > FAR_PKI_HOST_BYTES_MAX || strspn(hosts[i], allowed) != len ||
            (!is_ip && strchr(hosts[i], ':') != NULL)) {
            return far_fail(err, FAR_INVALID, "'%.100s' is not a host name or IP address", hosts[i]);
        }
        if (far_buf_printf(out, "%s%s:%s", i == 0 ? "" : ",", is_ip ? "IP" : "DNS", hosts[i]) != 0) {
            return far_fail(err, FAR_LIMIT, "no room for the host names of a certificate");
        }
    }
    return 0;
}

int far_pki_request_check(struct far_slice request_der, const char *const *hosts, size_t host_count,
                          struct far_error *err)
{
    struct far_buf names;
    far_buf_init(&names, FAR_PKI_BYTES_MAX);
    int rc = print_hosts(hosts, host_count, &names, err);
    far_buf_done(&names);
    EVP_PKEY *key = rc == 0 ? key_of_request(request_der, err) : NULL;
    rc = rc == 0 && key == NULL ? FAR_INVALID : rc;
    EVP_PKEY_free(key);
    return rc;
}

static int sign_leaf(EVP_PKEY *ca_key, X509 *ca, EVP_PKEY *key, struct far_peer who, const char *hosts,
                     struct far_buf *ret_der, struct far_error *err)
{
    int rc = FAR_LIMIT;
    char subject[FAR_PEER_TEXT_MAX];
    far_peer_print(who, subject);
    X509 *leaf = X509_new();
    if (leaf == NULL || !set_basics(leaf, key, subject, FAR_PKI_LEAF_DAYS) ||
        X509_set_issuer_name(leaf, X509_get_subject_name(ca)) != 1 ||
        !add_extension(leaf, ca, NID_basic_constraints, "critical,CA:FALSE") ||
        !add_extension(leaf, ca, NID_key_usage, "critical,digitalSignature") ||
        !add_extension(leaf, ca, NID_ext_key_usage, "serverAuth,clientAuth") ||
        !add_extension(leaf, ca, NID_subject_key_identifier, "hash") ||
        !add_extension(leaf, ca, NID_authority_key_identifier, "keyid") ||
        (hosts[0] != '\0' && !add_extension(leaf, ca, NID_subject_alt_name, hosts)) ||
        X509_sign(leaf, ca_key, EVP_sha256()) <= 0) {
        far_openssl_fail(err, FAR_LIMIT, "sign a certificate");
        goto out;
    }
    rc = certificate_to_der(leaf, ret_der, err);
out:
    X509_free(leaf);
    return rc;
}

int far_pki_sign(struct far_slice ca_key_pem, struct far_slice ca_certificate_der, struct far_slice request_der,
                 struct far_peer who, const char *const *hosts, size_t host_count, struct far_buf *ret_certificate_der,
                 struct far_error *err)
{
    int rc = FAR_INVALID;
    X509 *ca = NULL;
    EVP_PKEY *key = NULL;
    struct far_buf names;
    far_buf_init(&names, FAR_PKI_HOSTS_MAX * (FAR_PKI_HOST_BYTES_MAX + 8));
    EVP_PKEY *ca_key = key_from_pem(ca_key_pem, err);
    if (ca_key == NULL || (ca = certificate_from_der(ca_certificate_der, err)) == NULL ||
        (key = key_of_request(request_der, err)) == NULL) {
        goto out;
    }
    rc = print_hosts(hosts, host_count, &names, err);
    if (rc == 0 && X509_check_private_key(ca, ca_key) != 1) {
        rc = far_openssl_fail(err, FAR_INTERNAL, "the key of the CA does not belong to its certificate");
    }
    if (rc == 0) {
        rc = sign_leaf(ca_key, ca, key, who, names.len == 0 ? "" : (const char *)names.data, ret_certificate_der, err);
    }
out:
    far_buf_done(&names);
    EVP_PKEY_free(key);
    X509_free(ca);
    EVP_PKEY_free(ca_key);
    return rc;
}

/* A key file holds both halves: do they belong together? */
static bool halves_fit(EVP_PKEY *key)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key, NULL);
    bool fit = context != NULL && EVP_PKEY_pairwise_check(context) == 1;
    EVP_PKEY_CTX_free(context);
    return fit;
}

int far_pki_check(struct far_slice key_pem, struct far_slice certificate_der, struct far_slice ca_certificate_der,
                  struct far_peer who, struct far_error *err)
{
    int rc = FAR_INVALID;
    X509 *certificate = NULL;
    X509 *ca = NULL;
    EVP_PKEY *key = key_from_pem(key_pem, err);
    if (key == NULL || (certificate = certificate_from_der(certificate_der, err)) == NULL ||
        (ca = certificate_from_der(ca_certificate_der, err)) == NULL) {
        goto out;
    }
    char name[64] = "";
    struct far_peer named = {0};
    int len = X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof name);
    bool is_who = len >= 0 && far_peer_parse(name, (size_t)len, &named) && named.party == who.party &&
                  named.id == who.id;
    if (!is_who) {
        rc = far_fail(err, FAR_DENIED, "the certificate names '%s'", name);
    } else if (X509_check_private_key(certificate, key) != 1) {
        rc = far_openssl_fail(err, FAR_DENIED, "the certificate is for another key");
    } else if (!halves_fit(key)) {
        rc = far_openssl_fail(err, FAR_DENIED, "the key is damaged");
    } else if (X509_verify(ca, X509_get0_pubkey(ca)) != 1) {
        rc = far_openssl_fail(err, FAR_DENIED, "the CA's certificate is damaged");
    } else if (X509_verify(certificate, X509_get0_pubkey(ca)) != 1) {
        rc = far_openssl_fail(err, FAR_DENIED, "the certificate was not issued by this CA");
    } else {
        rc = 0;
    }
out:
    EVP_PKEY_free(key);
    X509_free(certificate);
    X509_free(ca);
    return rc;
}

void far_secret_done(struct far_buf *buf)
{
    if (buf != NULL && buf->data != NULL) {
        OPENSSL_cleanse(buf->data, buf->cap);
    }
    far_buf_done(buf);
}
