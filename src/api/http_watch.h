/* What libwebsockets reads from its TLS connections goes through a scan (http_scan.h) first. Private to http*.c.
 *
 * It gives nobody the request as it was sent, only what it made of it; the one place where that can be had is between OpenSSL and it.
 * So this file defines SSL_read(): a program that links it has it called in the place of libssl's, which it calls. Connections of
 * other contexts than those of far_http_watch() pass through as they are. Should the linker ever bind it otherwise, no request is
 * taken any more: see far_http_watch_take(). The HTTP thread. */
#ifndef FAR_API_HTTP_WATCH_H
#define FAR_API_HTTP_WATCH_H

#include <openssl/ssl.h>

/* The connections of this context are scanned. */
void far_http_watch(SSL_CTX *context);
/* The next head of this connection: 0, or the status with which to refuse it, and why. One that was not seen is refused. */
int far_http_watch_take(SSL *ssl, const char **ret_why);

#endif
