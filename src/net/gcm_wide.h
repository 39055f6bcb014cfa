/* AES-GCM of records by libipsec-mb (Intel), four and more blocks at a time with VAES and VPCLMULQDQ.
 *
 * libcrypto before 3.1 goes block by block through AES-NI, at half the speed or less; from 3.1 on it does the same by
 * itself. Without the library, on other machines and on older processors nothing of this can be used and libcrypto
 * does it all. A value of far_gcm_wide is one key, of one thread at a time. */
#ifndef FAR_NET_GCM_WIDE_H
#define FAR_NET_GCM_WIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FAR_GCM_NONCE = 12, FAR_GCM_TAG = 16, FAR_GCM_HEAD = 5 /* additional data: the head of a record */ };

struct far_gcm_wide;

bool far_gcm_wide_can(void);  /* are library and processor there? */
bool far_gcm_wide_pays(void); /* and is it faster than libcrypto? */
/* The key of AES-128-GCM (16 bytes) or AES-256-GCM (32); the caller's to free. NULL: no memory, another length, cannot. */
struct far_gcm_wide *far_gcm_wide_new(const uint8_t *key, size_t key_len);
void far_gcm_wide_free(struct far_gcm_wide *gcm); /* wipes; NULL is allowed */
/* len bytes of `plain` and then `last`, encrypted, and the tag to `out`: len + 1 + FAR_GCM_TAG bytes. */
void far_gcm_wide_seal(struct far_gcm_wide *gcm, const uint8_t nonce[FAR_GCM_NONCE], const uint8_t head[FAR_GCM_HEAD],
                       const uint8_t *plain, size_t len, uint8_t last, uint8_t *out);
/* The way back; the tag is compared in constant time. False: changed; what is in `plain` is not to be used. */
bool far_gcm_wide_open(struct far_gcm_wide *gcm, const uint8_t nonce[FAR_GCM_NONCE], const uint8_t head[FAR_GCM_HEAD],
                       const uint8_t *sealed, size_t len, uint8_t *plain, uint8_t *ret_last);

#endif
