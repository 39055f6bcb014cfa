/* What libwebsockets reads from its TLS connections goes through a scan (http_scan.h) first. Private to http*.c.
 *
 * It gives nobody the request as it was sent, only what it made of it; the one place where that can be had is between OpenSSL and it.
 * So this file defines SSL_read(): a program that links it has it called in the place of libssl's, which it calls. Connections of
 * other contexts than those of far_http_watch() pass through as they are. Should the linker ever bind it otherwise, no request is
 * taken any more: see far_http_watch_take().
 *
 * Nor does libwebsockets do with bytes that follow a request before its answer what a client may expect: 4.1 takes a body wrongly
 * out of them, 4.3 closes. So they are held back here, up to FAR_HTTP_AHEAD_MAX, beyond that in the socket, until the answer has
 * ended; then they are read as if they had come only now. The HTTP thread. */
#ifndef FAR_API_HTTP_WATCH_H
#define FAR_API_HTTP_WATCH_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

enum { FAR_HTTP_AHEAD_MAX = 2 * SSL3_RT_MAX_PLAIN_LENGTH }; /* bytes held back; a record more fits, or none is read */

/* The connections of this context are scanned. */
void far_http_watch(SSL_CTX *context);
/* The next head of this connection: 0, or the status with which to refuse it, and why. One that was not seen is refused. */
int far_http_watch_take(SSL *ssl, const char **ret_why);
/* While its request is answered, what follows is held back: libwebsockets reads nothing, but hears that the client has left. */
void far_http_watch_hold(SSL *ssl, bool is_held);
/* Bytes that wait to be read, of which poll() does not tell; 0 while they are held back. */
size_t far_http_watch_ahead(SSL *ssl);

#endif
