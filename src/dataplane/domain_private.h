/* Shared by the files of domains only: what one is, its file, and how payloads are encrypted. */
#ifndef FAR_DATAPLANE_DOMAIN_PRIVATE_H
#define FAR_DATAPLANE_DOMAIN_PRIVATE_H

#include "dataplane/domain.h"
#include "dataplane/id_key.h"
#include "dataplane/pack.h"

#include <stdatomic.h>

struct far_wrapping_key {
    uint32_t generation;
    uint32_t first_pack; /* of the packs whose data keys come from it */
    uint8_t key[32];
};

/* What is sealed. */
struct far_domain_secrets {
    uint8_t secret[32];
    uint32_t key_count;
    struct far_wrapping_key keys[FAR_DOMAIN_KEYS_MAX]; /* ascending */
};

struct far_domain {
    uint64_t serial; /* of this process: told apart by it in the caches of threads */
    uint16_t number;
    uint8_t uuid[16];
    uint8_t vault_uuid[16];
    char name[FAR_DOMAIN_NAME_MAX + 1];
    uint32_t generation;
    enum far_domain_access state; /* under the vault's domains_lock */
    atomic_bool usable;          /* unlocked, and not destroyed meanwhile */
    struct far_id_key ids;
    uint8_t secret[32];
    struct far_wrapping_key keys[FAR_DOMAIN_KEYS_MAX];
    _Atomic uint32_t key_count; /* only grows */
    bool has_recovery_key;
    uint8_t recovery_public[32];
};

/* ---- domain_crypt.c: payloads of records ---- */

/* Encrypts len bytes of a record that goes into `pack` or the one after it (the data key is that of `pack`): nonce, ciphertext, tag into
 * ret_stored, FAR_SEALED_OVERHEAD more than len. record's type, codec and id are those of its header; domain, key_pack and stored_len
 * are filled in. FAR_CONFLICT: the domain was destroyed. */
int far_domain_seal(const struct far_domain *domain, uint32_t pack, struct far_record *record, const void *plain, size_t len,
                    uint8_t *ret_stored, struct far_error *err);
/* Decrypts a record's stored bytes, which may be where they go, into ret_plain: FAR_SEALED_OVERHEAD less. FAR_CORRUPT: they are not
 * what was sealed under this header with the domain's keys; the message names the domain. */
int far_domain_unseal(const struct far_domain *domain, const struct far_record *record, const uint8_t *stored, void *ret_plain,
                      struct far_error *err);
/* A buffer of this thread, FAR_RECORD_PAYLOAD_MAX bytes, until it ends; NULL: no memory. */
uint8_t *far_domain_scratch(void);

/* ---- domain_file.c: domains/<uuid>.domain ---- */

enum { FAR_DOMAIN_FILE_MAX = 16 * 1024 };

struct far_domain_file {
    uint16_t number;
    uint8_t uuid[16];
    uint8_t vault_uuid[16];
    char name[FAR_DOMAIN_NAME_MAX + 1];
    bool destroyed;
    uint32_t generation;
    uint8_t recovery_public[32]; /* all zero: to none */
    struct far_slice sealed;     /* with the key; of the bytes that were decoded */
    struct far_slice box;        /* to the recovery key */
    uint8_t head[160];           /* what both are bound to */
};
/* FAR_CORRUPT. */
int far_domain_file_decode(struct far_slice bytes, struct far_domain_file *ret_file, struct far_error *err);
/* The whole file: secrets sealed with the key and, if recovery_public is not zero, to that. secrets NULL: a destroyed domain. */
int far_domain_file_encode(const struct far_domain_file *file, const struct far_domain_secrets *secrets, const uint8_t key[32],
                           struct far_buf *out, struct far_error *err);
/* FAR_DENIED: another key. ret_secrets is to be wiped by the caller. */
int far_domain_file_open(const struct far_domain_file *file, const uint8_t key[32], struct far_domain_secrets *ret_secrets,
                         struct far_error *err);
int far_domain_file_recover(const struct far_domain_file *file, const uint8_t recovery_private[32],
                            struct far_domain_secrets *ret_secrets, struct far_error *err);

#endif
