/* Test helper: a TLS client that sends the bytes it is told to and shows what comes back. Verifies the server against a
 * CA file. Blocking, with a deadline on everything; failures abort the test program. */
#ifndef FAR_TESTS_LIB_HTTPS_H
#define FAR_TESTS_LIB_HTTPS_H

#include <stdbool.h>
#include <stddef.h>

struct far_test_https;

/* Connects to 127.0.0.1. NULL if connection or handshake fail. max_tls: highest version, 0 = any (TLS1_1_VERSION …). */
struct far_test_https *far_test_https_open(int port, const char *ca_path, int max_tls);
void far_test_https_close(struct far_test_https *client);
/* False if the peer does not take it. */
bool far_test_https_send(struct far_test_https *client, const void *data, size_t len);
/* Reads until what came in holds the text, the peer closes, or timeout_ms are over; true if it is there. What came in
 * stays until far_test_https_drop. */
bool far_test_https_expect(struct far_test_https *client, const char *text, int timeout_ms);
/* Reads one whole answer (Content-Length, or to the end) of at most 32 MiB and returns its status, 0 if there is none. */
int far_test_https_answer(struct far_test_https *client);
/* What came in, NUL-terminated; with far_test_https_answer: head and body. */
const char *far_test_https_text(const struct far_test_https *client);
const char *far_test_https_body(const struct far_test_https *client);
size_t far_test_https_size(const struct far_test_https *client);
void far_test_https_drop(struct far_test_https *client);
/* One request and its answer: method, path with query, headers ("Name: value\r\n…" or ""), body (NULL: none). */
int far_test_https_request(struct far_test_https *client, const char *method, const char *path, const char *headers,
                           const char *body);
/* Nothing is read from the socket any more, and its receive buffer is small: a consumer that stalls. */
struct far_test_https *far_test_https_open_small(int port, const char *ca_path);

#endif
