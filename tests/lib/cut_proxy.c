/* A TCP proxy that cuts: see cut_proxy.h. One connection at a time; the next one waits in the backlog. */
#include "cut_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { POLL_MS = 20, PIECE = 65536 };

static int dial(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Moves what one side has to the other; false: it closed. */
static bool pass(struct cut_proxy *proxy, int from, int to, uint64_t *carried)
{
    static _Thread_local char piece[PIECE];
    ssize_t n = recv(from, piece, sizeof piece, 0);
    for (ssize_t at = 0; n > 0 && at < n;) {
        ssize_t sent = send(to, piece + at, (size_t)(n - at), MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        at += sent;
    }
    *carried += n > 0 ? (uint64_t)n : 0;
    atomic_fetch_add(&proxy->passed, n > 0 ? (uint64_t)n : 0);
    return n > 0;
}

static void carry(struct cut_proxy *proxy, int a, int b)
{
    uint64_t carried = 0;
    for (;;) {
        struct pollfd fds[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
        uint64_t quota = atomic_load(&proxy->quota);
        if (atomic_load(&proxy->stop)) {
            return;
        }
        if (atomic_exchange(&proxy->cut_now, false) || (quota != 0 && carried >= quota)) {
            atomic_fetch_add(&proxy->cuts, 1);
            return;
        }
        poll(fds, 2, POLL_MS);
        if ((fds[0].revents != 0 && !pass(proxy, a, b, &carried)) ||
            (fds[1].revents != 0 && !pass(proxy, b, a, &carried))) {
            return;
        }
    }
}

static void *proxy_main(void *arg)
{
    struct cut_proxy *proxy = arg;
    while (!atomic_load(&proxy->stop)) {
        struct pollfd listening = {.fd = proxy->listen_fd, .events = POLLIN};
        if (poll(&listening, 1, POLL_MS) <= 0) {
            continue;
        }
        int a = accept(proxy->listen_fd, NULL, NULL);
        int b = a >= 0 ? dial(proxy->target_port) : -1;
        if (a >= 0 && b >= 0) {
            carry(proxy, a, b);
        }
        if (a >= 0) {
            close(a);
        }
        if (b >= 0) {
            close(b);
        }
    }
    return NULL;
}

void cut_proxy_start(struct cut_proxy *proxy, const char *target)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    memset(proxy, 0, sizeof *proxy);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    proxy->target_port = (uint16_t)atoi(strrchr(target, ':') + 1);
    proxy->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(proxy->listen_fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(proxy->listen_fd, 16) != 0 ||
        getsockname(proxy->listen_fd, (struct sockaddr *)&at, &len) != 0 ||
        pthread_create(&proxy->thread, NULL, proxy_main, proxy) != 0) {
        perror("cut_proxy");
        abort();
    }
    snprintf(proxy->address, sizeof proxy->address, "127.0.0.1:%u", ntohs(at.sin_port));
}

void cut_proxy_stop(struct cut_proxy *proxy)
{
    atomic_store(&proxy->stop, true);
    pthread_join(proxy->thread, NULL);
    close(proxy->listen_fd);
}
