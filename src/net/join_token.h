/* Join tokens: what an operator carries from a cluster to a machine that is to become a server or node of it.
 *
 * A token names the cluster's CA by the SHA-256 of its certificate, so that the joiner knows whom it talks to, the HTTPS
 * addresses of servers, and a secret of 32 bytes that only proves itself by its hash in the state. One use, short life.
 * Text: base64url without padding of {version u8 = 0, CA hash 32, secret 32, count u8, count × (length u8, host:port),
 * first 4 bytes of the SHA-256 of all before}. Parsing is pure. Any thread. */
#ifndef FAR_NET_JOIN_TOKEN_H
#define FAR_NET_JOIN_TOKEN_H

#include "base/buf.h"

enum {
    FAR_JOIN_TOKEN_ADDRESSES_MAX = 8,
    FAR_JOIN_TOKEN_ADDRESS_BYTES_MAX = 255,
    FAR_JOIN_TOKEN_TEXT_MAX = 4096, /* with the NUL */
};

struct far_join_token {
    uint8_t ca_hash[32];
    uint8_t secret[32];
    size_t address_count;
    char addresses[FAR_JOIN_TOKEN_ADDRESSES_MAX][FAR_JOIN_TOKEN_ADDRESS_BYTES_MAX + 1];
};

/* text has room for FAR_JOIN_TOKEN_TEXT_MAX bytes. FAR_INVALID: no address, too many, or one too long. */
int far_join_token_print(const struct far_join_token *token, char *text, struct far_error *err);
/* White space around the token is skipped. FAR_INVALID says what is wrong with it, never what it holds. */
int far_join_token_parse(const char *text, size_t len, struct far_join_token *ret_token, struct far_error *err);
/* The token that a command line means: the argument itself, or with `@FILE` what the file holds (`@-`: standard input), so
 * that a token need not be seen in a list of processes. what: "join token", for the messages.
 * text has room for FAR_JOIN_TOKEN_TEXT_MAX bytes. */
int far_token_argument(const char *argument, const char *what, char *text, struct far_error *err);
/* What the state remembers of a secret: its SHA-256. */
void far_token_hash(const uint8_t secret[32], uint8_t ret_hash[32]);

/* API tokens (the bearer token of a person or program) are "far_" and 64 hexadecimal digits of a secret; the state holds
 * the same hash of the 32 bytes. */
enum { FAR_API_TOKEN_TEXT_MAX = 4 + 64 + 1 };
void far_api_token_print(const uint8_t secret[32], char text[FAR_API_TOKEN_TEXT_MAX]);
/* False if the text is no token; white space around it is skipped. */
bool far_api_token_parse(const char *text, size_t len, uint8_t ret_secret[32]);

#endif
