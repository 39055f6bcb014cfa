/* Keys made of keys (HKDF-SHA-256), and small things encrypted with one: AES-256-GCM, a nonce of 12 bytes, ciphertext, a tag of 16.
 * For what is sealed to somebody's public key see seal.h. Any thread. */
#ifndef FAR_NET_KEYED_BOX_H
#define FAR_NET_KEYED_BOX_H

#include "base/bytes.h"
#include "base/error.h"

enum { FAR_KEYED_BOX_NONCE = 12, FAR_KEYED_BOX_OVERHEAD = 12 + 16 };

/* FAR_INTERNAL: the crypto library refuses. */
int far_hkdf(const uint8_t secret[32], struct far_slice salt, const char *info, uint8_t ret_key[32], struct far_error *err);
/* FAR_KEYED_BOX_OVERHEAD more than plain into ret_box. The same nonce never twice with one key. bound: what belongs to it and is not in
 * it; opening with anything else fails. FAR_INTERNAL as above. */
int far_keyed_box_seal(const uint8_t key[32], const uint8_t nonce[FAR_KEYED_BOX_NONCE], struct far_slice bound, struct far_slice plain,
                       uint8_t *ret_box, struct far_error *err);
/* FAR_KEYED_BOX_OVERHEAD less than the box into ret_plain. FAR_DENIED: another key, other bound bytes, or altered. */
int far_keyed_box_open(const uint8_t key[32], struct far_slice bound, struct far_slice box, uint8_t *ret_plain,
                       struct far_error *err);

#endif
