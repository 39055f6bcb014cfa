/* Dialing a blocking stream: every address of a name in turn, then the handshake; see net.h. */
#include "net/address.h"
#include "net/bstream_private.h"

#include "base/clock.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <unistd.h>

static uint64_t rest_until(uint64_t deadline_ms)
{
    uint64_t now_ms = far_clock_monotonic_ms();
    return now_ms < deadline_ms ? deadline_ms - now_ms : 0;
}

static int finish_connect(int fd, uint64_t deadline_ms)
{
    struct pollfd poller = {.fd = fd, .events = POLLOUT};
    for (;;) {
        uint64_t rest_ms = rest_until(deadline_ms);
        int n = poll(&poller, 1, rest_ms > 60000 ? 60000 : (int)rest_ms);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno;
        }
        if (n == 0 && rest_ms == 0) {
            return ETIMEDOUT;
        }
        if (n > 0) {
            int error = 0;
            socklen_t len = sizeof error;
            return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 ? errno : error;
        }
    }
}

/* A connected socket, or -1 with *ret_errno. */
static int connect_one(const struct addrinfo *ai, uint64_t deadline_ms, int *ret_errno)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        *ret_errno = errno;
        return -1;
    }
    int error = connect(fd, ai->ai_addr, ai->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
        error = finish_connect(fd, deadline_ms);
    }
    if (error != 0) {
        close(fd);
        *ret_errno = error;
        return -1;
    }
    return fd;
}

static int connect_any(const char *address, uint64_t deadline_ms, int *ret_fd, struct far_error *err)
{
    struct far_address parsed;
    struct addrinfo *list = NULL;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    int rc = far_address_parse(address, &parsed, err);
    if (rc != 0) {
        return rc;
    }
    rc = getaddrinfo(parsed.host, parsed.port, &hints, &list);
    if (rc != 0) {
        return far_fail(err, FAR_IO, "look up '%s': %s", parsed.host, gai_strerror(rc));
    }
    int fd = -1;
    int error = 0;
    for (struct addrinfo *ai = list; ai != NULL && fd < 0; ai = ai->ai_next) {
        fd = connect_one(ai, deadline_ms, &error);
    }
    freeaddrinfo(list);
    if (fd < 0) {
        return far_fail_errno(err, error == ETIMEDOUT ? FAR_TIMEOUT : FAR_IO, error, "connect to %s", address);
    }
    *ret_fd = fd;
    return 0;
}

int far_bstream_connect(struct far_net *net, const char *address, uint64_t timeout_ms, struct far_bstream **ret_stream,
                        struct far_error *err)
{
    int fd = -1;
    int rc = connect_any(address, far_clock_monotonic_ms() + timeout_ms, &fd, err);
    if (rc != 0) {
        return rc;
    }
    *ret_stream = far_bstream_new(net, fd, true);
    if (*ret_stream == NULL) {
        close(fd);
        return far_fail(err, FAR_LIMIT, "no memory for a connection");
    }
    return 0;
}

int far_bstream_greet_ahead(struct far_bstream *stream, struct far_peer to, uint64_t timeout_ms, struct far_error *err)
{
    struct far_peer peer;
    stream->is_ahead = true;
    return far_bstream_shake(stream, to, timeout_ms, &peer, err);
}

int far_bstream_dial(struct far_net *net, const char *address, struct far_peer to, uint64_t timeout_ms,
                     struct far_bstream **ret_stream, struct far_error *err)
{
    struct far_peer peer;
    struct far_bstream *stream;
    uint64_t deadline_ms = far_clock_monotonic_ms() + timeout_ms;
    int rc = far_bstream_connect(net, address, timeout_ms, &stream, err);
    if (rc != 0) {
        return rc;
    }
    rc = far_bstream_shake(stream, to, rest_until(deadline_ms), &peer, err);
    if (rc != 0) {
        far_bstream_free(stream);
        return rc;
    }
    *ret_stream = stream;
    return 0;
}
