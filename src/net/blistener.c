/* The listener of blocking streams: see net.h. An eventfd wakes accept when it is shut down. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* accept4 */
#endif
#include "net/address.h"
#include "net/bstream_private.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { BACKLOG = 128 };

struct far_blistener {
    struct far_net *net;
    int fd;
    int wake_fd;
    char address[FAR_ADDRESS_TEXT_MAX];
};

const char *far_blistener_address(const struct far_blistener *listener)
{
    return listener->address;
}

static int open_socket(struct far_blistener *listener, const char *address, struct far_error *err)
{
    const int on = 1;
    struct sockaddr_storage bound;
    socklen_t bound_len = sizeof bound;
    int rc = far_address_to_listen(address, &bound, &bound_len, err);
    if (rc != 0) {
        return rc;
    }
    listener->fd = socket(bound.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = listener->fd >= 0 && setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
              bind(listener->fd, (struct sockaddr *)&bound, bound_len) == 0 && listen(listener->fd, BACKLOG) == 0 &&
              getsockname(listener->fd, (struct sockaddr *)&bound, &bound_len) == 0;
    if (!ok) {
        return far_fail_errno(err, FAR_IO, errno, "listen on %s", address);
    }
    return far_address_print((struct sockaddr *)&bound, bound_len, listener->address, err);
}

int far_blistener_new(struct far_net *net, const char *address, struct far_blistener **ret_listener,
                      struct far_error *err)
{
    struct far_blistener *listener = calloc(1, sizeof *listener);
    if (listener == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a listener");
    }
    listener->net = net;
    listener->fd = -1;
    listener->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = listener->wake_fd < 0 ? far_fail_errno(err, FAR_IO, errno, "make an eventfd")
                                   : open_socket(listener, address, err);
    if (rc != 0) {
        far_blistener_free(listener);
        return rc;
    }
    *ret_listener = listener;
    return 0;
}

void far_blistener_shutdown(struct far_blistener *listener)
{
    ssize_t n = write(listener->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
    (void)n; /* only a counter that is full already can refuse */
}

void far_blistener_free(struct far_blistener *listener)
{
    if (listener == NULL) {
        return;
    }
    if (listener->fd >= 0) {
        close(listener->fd);
    }
    if (listener->wake_fd >= 0) {
        close(listener->wake_fd);
    }
    free(listener);
}

/* What accept(2) says when the one connection it would have returned is gone already. */
static bool is_passing(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ECONNABORTED || error == EPROTO ||
           error == ENETDOWN || error == ENETUNREACH || error == EHOSTUNREACH || error == EHOSTDOWN;
}

int far_blistener_accept(struct far_blistener *listener, struct far_bstream **ret_stream, struct far_error *err)
{
    struct pollfd pollers[2] = {{.fd = listener->fd, .events = POLLIN}, {.fd = listener->wake_fd, .events = POLLIN}};
    for (;;) {
        if (poll(pollers, 2, -1) < 0 && errno != EINTR) {
            return far_fail_errno(err, FAR_IO, errno, "wait for connections");
        }
        if (pollers[1].revents != 0) {
            return far_fail(err, FAR_CANCELED, "the listener was shut down");
        }
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && is_passing(errno)) {
            continue;
        }
        if (fd < 0) {
            return far_fail_errno(err, FAR_IO, errno, "accept a connection");
        }
        struct far_bstream *stream = far_bstream_new(listener->net, fd, false);
        if (stream == NULL) {
            close(fd);
            return far_fail(err, FAR_LIMIT, "no memory for a connection");
        }
        *ret_stream = stream;
        return 0;
    }
}
