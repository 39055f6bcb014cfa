/* Ed25519: signatures that everybody with the public key can check. Keys and signatures are raw bytes (RFC 8032). Any thread. */
#ifndef FAR_NET_SIGN_H
#define FAR_NET_SIGN_H

#include "base/buf.h"

enum { FAR_SIGN_KEY_BYTES = 32, FAR_SIGNATURE_BYTES = 64 };

int far_sign_keypair(uint8_t ret_public[FAR_SIGN_KEY_BYTES], uint8_t ret_private[FAR_SIGN_KEY_BYTES], struct far_error *err);
/* The public half of a private key. */
int far_sign_public(const uint8_t private_key[FAR_SIGN_KEY_BYTES], uint8_t ret_public[FAR_SIGN_KEY_BYTES],
                    struct far_error *err);
int far_sign(const uint8_t private_key[FAR_SIGN_KEY_BYTES], struct far_slice message,
             uint8_t ret_signature[FAR_SIGNATURE_BYTES], struct far_error *err);
/* Did the holder of this key sign this message? Wrong lengths did not. */
bool far_sign_check(struct far_slice public_key, struct far_slice message, struct far_slice signature);

#endif
