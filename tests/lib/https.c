/* A TLS client for tests: see https.h. Our server writes names of headers in lower case. */
#include "https.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { IN_MAX = 32 * 1024 * 1024, WAIT_MS = 10000 };

struct far_test_https {
    int fd;
    SSL_CTX *context;
    SSL *ssl;
    char *in;
    size_t len;
    bool ended;
};

static long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct far_test_https *open_client(int port, const char *ca_path, int max_tls, int receive_buffer)
{
    struct far_test_https *client = calloc(1, sizeof *client);
    client->in = calloc(1, IN_MAX + 1);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (receive_buffer != 0) {
        setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    }
    struct timeval wait = {.tv_sec = WAIT_MS / 1000};
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_load_verify_file(client->context, ca_path);
    SSL_CTX_clear_mode(client->context, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_verify(client->context, SSL_VERIFY_PEER, NULL);
    if (max_tls != 0) {
        SSL_CTX_set_security_level(client->context, 0);
        SSL_CTX_set_min_proto_version(client->context, 0);
        SSL_CTX_set_max_proto_version(client->context, max_tls);
    }
    client->ssl = SSL_new(client->context);
    SSL_set_fd(client->ssl, client->fd);
    SSL_set1_host(client->ssl, "127.0.0.1");
    if (connect(client->fd, (struct sockaddr *)&to, sizeof to) != 0 || SSL_connect(client->ssl) != 1) {
        far_test_https_close(client);
        return NULL;
    }
    return client;
}

struct far_test_https *far_test_https_open(int port, const char *ca_path, int max_tls)
{
    return open_client(port, ca_path, max_tls, 0);
}

struct far_test_https *far_test_https_open_small(int port, const char *ca_path)
{
    return open_client(port, ca_path, 0, 4096);
}

void far_test_https_close(struct far_test_https *client)
{
    if (client == NULL) {
        return;
    }
    SSL_free(client->ssl);
    SSL_CTX_free(client->context);
    close(client->fd);
    free(client->in);
    free(client);
}

bool far_test_https_send(struct far_test_https *client, const void *data, size_t len)
{
    return len == 0 || SSL_write(client->ssl, data, (int)len) == (int)len;
}

/* Reads what is there, waiting until the deadline for the first byte. False: nothing more comes. */
static bool read_more(struct far_test_https *client, long deadline)
{
    struct pollfd poll_one = {.fd = client->fd, .events = POLLIN};
    long left = deadline - now_ms();
    if (client->ended || left <= 0 || client->len >= IN_MAX) {
        return false;
    }
    if (SSL_pending(client->ssl) == 0 && poll(&poll_one, 1, (int)left) <= 0) {
        return false;
    }
    int n = SSL_read(client->ssl, client->in + client->len, (int)(IN_MAX - client->len));
    if (n <= 0 && SSL_get_error(client->ssl, n) == SSL_ERROR_WANT_READ) {
        return true; /* a session ticket, no data */
    }
    if (n <= 0) {
        client->ended = true;
        return false;
    }
    client->len += (size_t)n;
    client->in[client->len] = '\0';
    return true;
}

bool far_test_https_expect(struct far_test_https *client, const char *text, int timeout_ms)
{
    long deadline = now_ms() + timeout_ms;
    while (strstr(client->in, text) == NULL) {
        if (!read_more(client, deadline)) {
            return false;
        }
    }
    return true;
}

int far_test_https_answer(struct far_test_https *client)
{
    long deadline = now_ms() + WAIT_MS;
    int status = 0;
    if (!far_test_https_expect(client, "\r\n\r\n", WAIT_MS) || sscanf(client->in, "HTTP/1.1 %d", &status) != 1) {
        return 0;
    }
    const char *length = strstr(client->in, "\r\ncontent-length:");
    size_t head = (size_t)(far_test_https_body(client) - client->in);
    size_t want = length == NULL || length > client->in + head ? SIZE_MAX
                                                               : head + strtoul(length + 17, NULL, 10);
    while (client->len < want && read_more(client, deadline)) {
    }
    return status;
}

const char *far_test_https_text(const struct far_test_https *client)
{
    return client->in;
}

const char *far_test_https_body(const struct far_test_https *client)
{
    const char *end = strstr(client->in, "\r\n\r\n");
    return end == NULL ? "" : end + 4;
}

size_t far_test_https_size(const struct far_test_https *client)
{
    return client->len;
}

void far_test_https_drop(struct far_test_https *client)
{
    client->len = 0;
    client->in[0] = '\0';
}

int far_test_https_request(struct far_test_https *client, const char *method, const char *path, const char *headers,
                           const char *body)
{
    size_t room = strlen(path) + strlen(headers) + 256;
    char *head = malloc(room);
    int len = body == NULL ? snprintf(head, room, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n", method, path, headers)
                           : snprintf(head, room, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %zu\r\n%s\r\n",
                                      method, path, strlen(body), headers);
    far_test_https_drop(client);
    bool sent = far_test_https_send(client, head, (size_t)len) &&
                (body == NULL || far_test_https_send(client, body, strlen(body)));
    free(head);
    return sent ? far_test_https_answer(client) : 0;
}
