/* Sealed boxes: bytes that only the holder of one private key can read (DESIGN.md section 6: CA key and master key are
 * in the state, sealed to each full server and to the recovery key).
 *
 * Box: {version u8 = 0, ephemeral public key 32, ciphertext, tag 16}. Key and nonce of AES-256-GCM come from HKDF-SHA256
 * over the X25519 shared secret, with both public keys as salt and the context ("what is in it, for whom") as info; the
 * key is used once, for it depends on a fresh ephemeral key. The context is not in the box: opening with another one
 * fails. Any thread. */
#ifndef FAR_NET_SEAL_H
#define FAR_NET_SEAL_H

#include "base/buf.h"

enum {
    FAR_SEAL_KEY_BYTES = 32,
    FAR_SEAL_OVERHEAD = 1 + 32 + 16,
    FAR_SEAL_PLAIN_MAX = 64 * 1024,
};

int far_seal_keypair(uint8_t ret_public[32], uint8_t ret_private[32], struct far_error *err);
/* The public half of a private key. */
int far_seal_public(const uint8_t private_key[32], uint8_t ret_public[32], struct far_error *err);
/* Appends the box to out. FAR_LIMIT: plain is too long, or out is full. */
int far_seal(const uint8_t public_key[32], const char *context, struct far_slice plain, struct far_buf *out,
             struct far_error *err);
/* Appends the plain bytes to out. FAR_DENIED: another key, another context, or altered bytes; nobody can tell which. */
int far_seal_open(const uint8_t private_key[32], const char *context, struct far_slice box, struct far_buf *out,
                  struct far_error *err);

/* The recovery key as people keep it: 56 letters and digits of base32 (32 bytes and the first 3 bytes of their SHA-256) in
 * 14 groups of 4. Parsing takes either case, skips blanks and dashes, and reads 0, 1 and 8 as O, L and B. */
enum { FAR_RECOVERY_KEY_TEXT_MAX = 14 * 5 };
void far_recovery_key_print(const uint8_t private_key[32], char text[FAR_RECOVERY_KEY_TEXT_MAX]);
int far_recovery_key_parse(const char *text, size_t len, uint8_t ret_private[32], struct far_error *err);

#endif
