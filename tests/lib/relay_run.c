/* The relay: how it is made, turned on a thread, and asked; see relay.h. */
#define _GNU_SOURCE /* ppoll */
#include "relay_local.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    SOCKET_BYTES = 131072, /* the kernel doubles it */
    PACE_NS = 200000,      /* between two turns, where the link is slow enough that nobody misses it */
};

/* ---- the thread ---- */

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    return (uint64_t)at.tv_sec * 1000000000 + (uint64_t)at.tv_nsec;
}

static bool stopped(struct relay *relay)
{
    pthread_mutex_lock(&relay->mutex);
    relay->stats.busy_us = clock_ns(CLOCK_THREAD_CPUTIME_ID) / 1000;
    bool stop = relay->stop;
    pthread_mutex_unlock(&relay->mutex);
    return stop;
}

static void *relay_main(void *arg)
{
    struct relay *relay = arg;
    const bool paced = relay->config.bits_per_s != 0 || relay->config.delay_us != 0;
    while (!stopped(relay)) {
        uint64_t began = clock_ns(CLOCK_MONOTONIC), next = relay_turn(relay, began), count;
        struct pollfd fds[2] = {{.fd = relay->epoll_fd, .events = POLLIN}, {.fd = relay->wake_fd, .events = POLLIN}};
        if (paced) { /* what came in meanwhile comes together */
            const struct timespec pause = {.tv_nsec = PACE_NS};
            nanosleep(&pause, NULL); /* far-poll: the link has a clock */
        }
        uint64_t now = clock_ns(CLOCK_MONOTONIC), rest = next > now ? next - now : 0;
        const struct timespec timeout = {.tv_sec = (time_t)(rest / 1000000000), .tv_nsec = (long)(rest % 1000000000)};
        if (ppoll(fds, 2, next == RELAY_NEVER ? NULL : &timeout, NULL) > 0 && fds[1].revents != 0 &&
            read(relay->wake_fd, &count, sizeof count) < 0) {
            perror("relay: eventfd");
        }
    }
    return NULL;
}

static void wake(struct relay *relay)
{
    const uint64_t one = 1;
    relay_must(write(relay->wake_fd, &one, sizeof one) == sizeof one, "relay: eventfd");
}

/* ---- for callers ---- */

static void set_rate(struct relay *relay, uint64_t bits_per_s)
{
    uint64_t per_ms = bits_per_s == 0 ? PIECE_BYTES : bits_per_s / 8000;
    relay->config.bits_per_s = bits_per_s;
    relay->quantum = relay_least(relay_most(per_ms, SEGMENT_BYTES), PIECE_BYTES);
    relay->config.queue_bytes = relay_most(relay->config.queue_bytes, 2 * relay->quantum);
}

void relay_limit_buffers(int fd)
{
    const int bytes = SOCKET_BYTES;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

static void open_sockets(struct relay *relay)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    socklen_t len = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    relay->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    relay->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    relay->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    relay_must(relay->epoll_fd >= 0 && relay->wake_fd >= 0 && relay->listen_fd >= 0, "relay: sockets");
    relay_limit_buffers(relay->listen_fd); /* what it accepts has the same */
    relay_must(bind(relay->listen_fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(relay->listen_fd, 256) == 0 &&
             getsockname(relay->listen_fd, (struct sockaddr *)&at, &len) == 0 &&
             epoll_ctl(relay->epoll_fd, EPOLL_CTL_ADD, relay->listen_fd, &event) == 0,
         "relay: listen");
    snprintf(relay->address, sizeof relay->address, "127.0.0.1:%u", ntohs(at.sin_port));
}

struct relay *relay_new(const struct relay_config *config)
{
    struct relay *relay = calloc(1, sizeof *relay);
    const char *colon = strrchr(config->target, ':');
    relay_must(relay != NULL && colon != NULL, "relay: target");
    relay->config = *config;
    relay->config.target = NULL;
    relay->target = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
    relay->target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    relay->delay_ns = config->delay_us * 1000;
    uint64_t round_trip = config->bits_per_s / 8 * config->delay_us * 2 / 1000000;
    relay->config.queue_bytes = config->queue_bytes != 0 ? config->queue_bytes : relay_most(round_trip, 2 * PIECE_BYTES);
    set_rate(relay, config->bits_per_s);
    relay->config.window_bytes = config->window_bytes != 0 ? config->window_bytes : 16 << 20;
    relay->random = config->seed;
    pthread_mutex_init(&relay->mutex, NULL);
    open_sockets(relay);
    return relay;
}

void relay_start(struct relay *relay)
{
    relay_must(pthread_create(&relay->thread, NULL, relay_main, relay) == 0, "relay: thread");
    relay->runs = true;
}

void relay_free(struct relay *relay)
{
    if (relay == NULL) {
        return;
    }
    if (relay->runs) {
        pthread_mutex_lock(&relay->mutex);
        relay->stop = true;
        pthread_mutex_unlock(&relay->mutex);
        wake(relay);
        pthread_join(relay->thread, NULL);
    }
    for (size_t i = 0; i < relay->conn_count; i++) {
        relay_conn_free(relay, relay->conns[i], true);
    }
    while (relay->spare != NULL) {
        struct piece *piece = relay->spare;
        relay->spare = piece->next;
        free(piece);
    }
    close(relay->listen_fd);
    close(relay->epoll_fd);
    close(relay->wake_fd);
    pthread_mutex_destroy(&relay->mutex);
    free(relay);
}

const char *relay_address(const struct relay *relay)
{
    return relay->address;
}

void relay_cut_all(struct relay *relay)
{
    pthread_mutex_lock(&relay->mutex);
    relay->cut_now = true;
    pthread_mutex_unlock(&relay->mutex);
    wake(relay);
}

void relay_black_hole(struct relay *relay, bool on)
{
    pthread_mutex_lock(&relay->mutex);
    relay->hole = on;
    pthread_mutex_unlock(&relay->mutex);
    wake(relay);
}

void relay_set_rate(struct relay *relay, uint64_t bits_per_s)
{
    pthread_mutex_lock(&relay->mutex);
    set_rate(relay, bits_per_s);
    pthread_mutex_unlock(&relay->mutex);
    wake(relay);
}

struct relay_stats relay_stats(struct relay *relay)
{
    pthread_mutex_lock(&relay->mutex);
    struct relay_stats stats = relay->stats;
    pthread_mutex_unlock(&relay->mutex);
    return stats;
}
