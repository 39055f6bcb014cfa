/* TLS 1.3 records of one direction after the handshake (RFC 8446, section 5), without copies.
 *
 * libssl shakes hands, checks certificates and derives the traffic secrets; from there on a blocking stream seals its
 * records straight from the caller's bytes and opens them straight into the caller's buffer, each direction by itself.
 * libssl would copy every byte twice each way and allow only one thread at a time. The ciphers are those of libcrypto
 * (AES-GCM of libipsec-mb where that pays: gcm_wide.h), the bytes on the wire those of any TLS 1.3 peer. A value, of one
 * thread at a time. */
#ifndef FAR_NET_RECORDS_H
#define FAR_NET_RECORDS_H

#include "base/error.h"

#include <openssl/ssl.h>

enum {
    FAR_RECORD_HEAD = 5,
    FAR_RECORD_TAG = 16,
    FAR_RECORD_PLAIN_MAX = 16384,
    FAR_RECORD_ADDED = FAR_RECORD_HEAD + 1 + FAR_RECORD_TAG, /* to the plain bytes, by ours: they are not padded */
    FAR_RECORD_BODY_MAX = FAR_RECORD_PLAIN_MAX + 256,        /* of a record behind its head */
    FAR_RECORDS_PER_KEY = 1 << 22, /* then the key changes: 64 GiB; AES-GCM allows 2^24.5 (RFC 8446, section 5.5) */
};

enum far_record_type {
    FAR_RECORD_ALERT = 21,
    FAR_RECORD_HANDSHAKE = 22,
    FAR_RECORD_DATA = 23,
};

/* The first application traffic secrets of a connection, noted while it shakes hands; wiped by who is done with them. */
struct far_traffic_secrets {
    size_t len; /* 32 or 48; 0 = not known yet */
    uint8_t of_dialer[48];
    uint8_t of_listener[48];
};
/* What SSL_CTX_set_keylog_callback() takes: fills the struct that is the SSL's app data, if it has one. */
void far_traffic_secrets_note(const SSL *ssl, const char *line);

struct far_records {
    EVP_CIPHER_CTX *cipher;
    struct far_gcm_wide *wide; /* in its place where that pays: gcm_wide.h */
    bool may_be_wide;
    const EVP_MD *digest;
    bool seals; /* else it opens */
    uint8_t secret[48];
    uint8_t iv[12];
    uint64_t number; /* of the next record with the present key */
};

/* A direction of a connection whose handshake is done, from its secret of the cipher's length. */
int far_records_init(struct far_records *records, const SSL *ssl, const uint8_t *secret, bool seals,
                     struct far_error *err);
void far_records_done(struct far_records *records); /* wipes; all zero bytes are allowed */
/* The next key, after (or, opening, upon) a KeyUpdate. */
int far_records_next_key(struct far_records *records, struct far_error *err);
/* One record of at most FAR_RECORD_PLAIN_MAX bytes to `out`, len + FAR_RECORD_ADDED bytes. */
int far_records_seal(struct far_records *records, enum far_record_type type, const void *plain, size_t len, uint8_t *out,
                     struct far_error *err);
/* The length of a whole record from its head; 0: that is none. */
size_t far_record_length(const uint8_t head[FAR_RECORD_HEAD]);
/* Checks and opens one whole record. Its inner bytes but the last go to `plain` (room for length - FAR_RECORD_ADDED
 * bytes), the last to *ret_last: where nothing is padded it is the type. FAR_IO: damaged or forged, what is in `plain` is
 * not to be used. */
int far_records_open(struct far_records *records, const uint8_t *record, size_t length, uint8_t *plain,
                     uint8_t *ret_last, struct far_error *err);

#endif
