/* A relay that imitates a link: see relay.h.
 *
 * A direction of the link is a line of time: `free_ns` is when everything that was taken is through. What is taken now goes
 * through behind it, and comes out one delay later; how far free_ns is ahead of now is the queue. Each way (one direction of
 * one connection) holds its pieces with the time at which they come out. Sockets are watched edge-triggered: `readable`
 * and `writable` hold until a call says otherwise. One mutex around everything. */
#define _GNU_SOURCE /* ppoll, accept4 */
#include "relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    PIECE_BYTES = 65536,
    SEGMENT_BYTES = 1448,
    CONNS_MAX = 1024,
    ACKS = 512,           /* of a way, on their way back */
    SOCKET_BYTES = 131072, /* the kernel doubles it */
    EVENTS = 64,
    JOIN_NS = 250000,  /* pieces that come out so close to each other become one */
    PACE_NS = 200000,  /* between two turns, where the link is slow enough that nobody misses it */
};

struct piece {
    struct piece *next;
    uint64_t due_ns;
    size_t length, at; /* length 0: the end of the stream */
    uint8_t bytes[PIECE_BYTES];
};

struct ack {
    uint64_t due_ns, bytes;
};

struct side {
    int fd; /* -1: not dialed yet */
    bool readable, writable, hup;
    struct conn *conn;
};

struct way {
    struct piece *first, *last;
    uint64_t hold_ns; /* nothing is read before */
    uint64_t unacked, grown;
    struct ack acks[ACKS];
    size_t ack_first, ack_count;
    bool end_read, end_passed;
};

struct conn {
    struct side sides[2]; /* the dialer's, the target's */
    struct way ways[2];   /* way i goes from side i to the other */
    uint64_t dial_ns, cut_ns, reset_ns;
};

struct relay {
    struct relay_config config;
    struct sockaddr_in target;
    char address[64];
    int listen_fd, epoll_fd, wake_fd;
    bool acceptable, hole, cut_now;
    uint64_t quantum, delay_ns;
    uint64_t free_ns[2];
    size_t turn_of[2];
    struct conn *conns[CONNS_MAX];
    size_t conn_count;
    struct piece *spare;
    uint64_t random;
    struct relay_stats stats;
    pthread_mutex_t mutex;
    pthread_t thread;
    bool runs, stop;
};

static void must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        abort();
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- the link ---- */

static void set_rate(struct relay *relay, uint64_t bits_per_s)
{
    uint64_t per_ms = bits_per_s == 0 ? PIECE_BYTES : bits_per_s / 8000;
    relay->config.bits_per_s = bits_per_s;
    relay->quantum = least(most(per_ms, SEGMENT_BYTES), PIECE_BYTES);
    relay->config.queue_bytes = most(relay->config.queue_bytes, 2 * relay->quantum);
}

static uint64_t send_ns(const struct relay *relay, uint64_t bytes)
{
    return relay->config.bits_per_s == 0 ? 0 : bytes * 8000000000 / relay->config.bits_per_s;
}

/* When a quantum finds room in the queue. */
static uint64_t room_ns(const struct relay *relay, int direction)
{
    uint64_t allowed = send_ns(relay, relay->config.queue_bytes - relay->quantum);
    return relay->free_ns[direction] > allowed ? relay->free_ns[direction] - allowed : 0;
}

/* Puts bytes on the link: when they come out at its other end. */
static uint64_t put_on_link(struct relay *relay, int direction, uint64_t bytes, uint64_t now_ns)
{
    uint64_t *free_ns = &relay->free_ns[direction];
    *free_ns = most(*free_ns, now_ns) + send_ns(relay, bytes);
    uint64_t waiting = (*free_ns - now_ns) / 1000 * relay->config.bits_per_s / 8000000;
    relay->stats.queue_peak[direction] = most(relay->stats.queue_peak[direction], waiting);
    return *free_ns + relay->delay_ns;
}

/* ---- the window of a way ---- */

static uint64_t window_room(const struct relay *relay, const struct way *way)
{
    uint64_t window = relay->config.window_bytes;
    if (relay->config.slow_start) {
        window = least(window, 10 * SEGMENT_BYTES + way->grown);
    }
    return window > way->unacked ? window - way->unacked : 0;
}

static void take_acks(struct way *way, uint64_t now_ns)
{
    while (way->ack_count > 0 && way->acks[way->ack_first].due_ns <= now_ns) {
        way->unacked -= way->acks[way->ack_first].bytes;
        way->grown += way->acks[way->ack_first].bytes;
        way->ack_first = (way->ack_first + 1) % ACKS;
        way->ack_count--;
    }
}

/* Acknowledgements that come close to each other come together, with the first of them: ACKS of them are enough. */
static void send_ack(const struct relay *relay, struct way *way, uint64_t bytes, uint64_t now_ns)
{
    struct ack *newest = &way->acks[(way->ack_first + way->ack_count + ACKS - 1) % ACKS];
    uint64_t due_ns = now_ns + relay->delay_ns, together_ns = relay->delay_ns / (ACKS / 2);
    if (way->ack_count == ACKS || (way->ack_count > 0 && due_ns - newest->due_ns < together_ns)) {
        newest->bytes += bytes;
        return;
    }
    way->acks[(way->ack_first + way->ack_count++) % ACKS] = (struct ack){.due_ns = due_ns, .bytes = bytes};
}

/* ---- pieces ---- */

static struct piece *piece_new(struct relay *relay)
{
    struct piece *piece = relay->spare;
    if (piece != NULL) {
        relay->spare = piece->next;
    } else {
        piece = malloc(sizeof *piece);
        must(piece != NULL, "relay: memory");
    }
    piece->next = NULL;
    piece->length = piece->at = 0;
    return piece;
}

static void piece_free(struct relay *relay, struct piece *piece)
{
    piece->next = relay->spare;
    relay->spare = piece;
}

static void way_push(struct way *way, struct piece *piece)
{
    if (way->last != NULL) {
        way->last->next = piece;
    } else {
        way->first = piece;
    }
    way->last = piece;
}

static void way_pop(struct relay *relay, struct way *way)
{
    struct piece *piece = way->first;
    way->first = piece->next;
    way->last = way->first != NULL ? way->last : NULL;
    piece_free(relay, piece);
}

/* ---- connections ---- */

static void watch(struct relay *relay, struct side *side)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = side};
    const int on = 1;
    setsockopt(side->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    must(epoll_ctl(relay->epoll_fd, EPOLL_CTL_ADD, side->fd, &event) == 0, "relay: epoll_ctl");
}

static void limit_buffers(int fd)
{
    const int bytes = SOCKET_BYTES;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

static double uniform(struct relay *relay) /* in (0, 1]; splitmix64 */
{
    uint64_t x = relay->random += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return (double)(((x ^ x >> 31) >> 11) + 1) / 9007199254740992.0;
}

static void conn_new(struct relay *relay, int fd, uint64_t now_ns)
{
    struct conn *conn = calloc(1, sizeof *conn);
    must(conn != NULL, "relay: memory");
    conn->sides[0] = (struct side){.fd = fd, .conn = conn};
    conn->sides[1] = (struct side){.fd = -1, .conn = conn};
    conn->dial_ns = now_ns + relay->delay_ns;
    conn->ways[0].hold_ns = now_ns + 2 * relay->delay_ns;
    conn->reset_ns = conn->cut_ns = RELAY_NEVER;
    if (relay->config.cut_mean_us != 0) {
        conn->cut_ns = now_ns + (uint64_t)(-log(uniform(relay)) * 1000.0 * (double)relay->config.cut_mean_us);
    }
    relay->conns[relay->conn_count++] = conn;
    relay->stats.accepted++;
    watch(relay, &conn->sides[0]);
}

static void accept_all(struct relay *relay, uint64_t now_ns)
{
    while (relay->acceptable && relay->conn_count < CONNS_MAX) {
        int fd = accept4(relay->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            conn_new(relay, fd, now_ns);
        } else {
            relay->acceptable = errno == EINTR || errno == ECONNABORTED;
        }
    }
}

/* One side is gone, or was never there: the other hears of it one delay later. */
static void lost(const struct relay *relay, struct conn *conn, int error, uint64_t now_ns)
{
    uint64_t at_ns = error == ECONNREFUSED ? conn->ways[0].hold_ns : now_ns + relay->delay_ns;
    conn->reset_ns = least(conn->reset_ns, at_ns);
}

static void dial(struct relay *relay, struct conn *conn)
{
    struct side *side = &conn->sides[1];
    side->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    must(side->fd >= 0, "relay: socket");
    limit_buffers(side->fd);
    if (connect(side->fd, (struct sockaddr *)&relay->target, sizeof relay->target) != 0 && errno != EINPROGRESS) {
        lost(relay, conn, ECONNREFUSED, 0);
    }
    watch(relay, side);
}

/* Closes both sides, hard if it is not over. */
static void conn_free(struct relay *relay, struct conn *conn, bool hard)
{
    const struct linger at_once = {.l_onoff = 1};
    for (int i = 0; i < 2; i++) {
        if (hard && conn->sides[i].fd >= 0) {
            setsockopt(conn->sides[i].fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        }
        if (conn->sides[i].fd >= 0) {
            close(conn->sides[i].fd);
        }
        while (conn->ways[i].first != NULL) {
            way_pop(relay, &conn->ways[i]);
        }
    }
    free(conn);
}

/* ---- taking and passing on ---- */

/* Takes one quantum at most of a way; false: there is nothing that can be taken now. */
static bool take(struct relay *relay, struct conn *conn, int direction, uint64_t now_ns)
{
    struct side *from = &conn->sides[direction];
    struct way *way = &conn->ways[direction];
    if (from->fd < 0 || !from->readable || way->end_read || now_ns < way->hold_ns) {
        return false;
    }
    take_acks(way, now_ns);
    size_t wanted = (size_t)least(relay->quantum, window_room(relay, way));
    if (wanted == 0) {
        return false;
    }
    struct piece *piece = piece_new(relay), *last = way->last;
    ssize_t n = recv(from->fd, piece->bytes, wanted, MSG_DONTWAIT);
    if (n < 0) {
        int error = errno;
        piece_free(relay, piece);
        from->readable = error == EINTR;
        if (error != EAGAIN && error != EINTR) {
            lost(relay, conn, error, now_ns);
        }
        return false;
    }
    from->readable = (size_t)n == wanted || from->hup;
    way->end_read = n == 0;
    way->unacked += (uint64_t)n;
    relay->stats.taken[direction] += (uint64_t)n;
    piece->length = (size_t)n;
    piece->due_ns = put_on_link(relay, direction, (uint64_t)n, now_ns);
    if (n > 0 && last != NULL && last->length > 0 && last->length + piece->length <= PIECE_BYTES &&
        piece->due_ns - last->due_ns < JOIN_NS && piece->length < PIECE_BYTES / 16) {
        memcpy(last->bytes + last->length, piece->bytes, piece->length);
        last->length += piece->length;
        last->due_ns = piece->due_ns;
        piece_free(relay, piece);
    } else {
        way_push(way, piece);
    }
    return n > 0;
}

static void take_all(struct relay *relay, int direction, uint64_t now_ns)
{
    bool took = true;
    while (took) {
        took = false;
        for (size_t i = 0; i < relay->conn_count; i++) {
            if (room_ns(relay, direction) > now_ns) {
                return;
            }
            relay->turn_of[direction] = (relay->turn_of[direction] + 1) % relay->conn_count;
            took = take(relay, relay->conns[relay->turn_of[direction]], direction, now_ns) || took;
        }
    }
}

static void pass_on(struct relay *relay, struct conn *conn, int direction, uint64_t now_ns)
{
    struct side *to = &conn->sides[1 - direction];
    struct way *way = &conn->ways[direction];
    while (way->first != NULL && way->first->due_ns <= now_ns && to->fd >= 0 && to->writable) {
        struct piece *piece = way->first;
        if (piece->length == 0) {
            shutdown(to->fd, SHUT_WR);
            way->end_passed = true;
            way_pop(relay, way);
            continue;
        }
        ssize_t n = send(to->fd, piece->bytes + piece->at, piece->length - piece->at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            int error = errno;
            to->writable = error == EINTR;
            if (error != EAGAIN && error != EINTR) {
                lost(relay, conn, error, now_ns);
            }
            continue;
        }
        piece->at += (size_t)n;
        relay->stats.passed[direction] += (uint64_t)n;
        send_ack(relay, way, (uint64_t)n, now_ns);
        if (piece->at == piece->length) {
            way_pop(relay, way);
        }
    }
}

/* ---- turns ---- */

static void note_events(struct relay *relay)
{
    struct epoll_event events[EVENTS];
    int count;
    do {
        count = epoll_wait(relay->epoll_fd, events, EVENTS, 0);
        for (int i = 0; i < count; i++) {
            struct side *side = events[i].data.ptr;
            if (side == NULL) {
                relay->acceptable = true;
                continue;
            }
            side->hup = side->hup || (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
            side->readable = side->readable || side->hup || (events[i].events & EPOLLIN) != 0;
            side->writable = side->writable || (events[i].events & (EPOLLOUT | EPOLLERR)) != 0;
        }
    } while (count == EVENTS);
}

/* Dials, cuts, forgets: whether it is still there. */
static bool conn_goes_on(struct relay *relay, struct conn *conn, uint64_t now_ns)
{
    bool over = conn->ways[0].end_passed && conn->ways[1].end_passed;
    bool cut = relay->cut_now || conn->cut_ns <= now_ns;
    if (over || cut || conn->reset_ns <= now_ns) {
        relay->stats.cuts += !over && cut ? 1 : 0;
        conn_free(relay, conn, !over);
        return false;
    }
    if (!relay->hole && conn->sides[1].fd < 0 && conn->dial_ns <= now_ns) {
        dial(relay, conn);
    }
    return true;
}

static void drop_ended(struct relay *relay, uint64_t now_ns)
{
    size_t kept = 0;
    for (size_t i = 0; i < relay->conn_count; i++) {
        if (conn_goes_on(relay, relay->conns[i], now_ns)) {
            relay->conns[kept++] = relay->conns[i];
        }
    }
    relay->conn_count = kept;
    relay->stats.open = kept;
    relay->cut_now = false;
}

static uint64_t way_next_ns(const struct relay *relay, const struct conn *conn, int direction)
{
    const struct way *way = &conn->ways[direction];
    const struct side *from = &conn->sides[direction], *to = &conn->sides[1 - direction];
    uint64_t next = way->first != NULL && to->writable && to->fd >= 0 ? way->first->due_ns : RELAY_NEVER;
    if (from->readable && !way->end_read) {
        uint64_t ack = way->ack_count > 0 ? way->acks[way->ack_first].due_ns : RELAY_NEVER;
        uint64_t can = most(room_ns(relay, direction), way->hold_ns);
        next = least(next, window_room(relay, way) == 0 ? most(ack, can) : can);
    }
    return next;
}

static uint64_t next_ns(const struct relay *relay)
{
    uint64_t next = RELAY_NEVER;
    for (size_t i = 0; i < relay->conn_count; i++) {
        const struct conn *conn = relay->conns[i];
        next = least(next, least(conn->cut_ns, conn->reset_ns));
        if (!relay->hole) {
            next = conn->sides[1].fd < 0 ? least(next, conn->dial_ns) : next;
            next = least(next, least(way_next_ns(relay, conn, 0), way_next_ns(relay, conn, 1)));
        }
    }
    return next;
}

uint64_t relay_turn(struct relay *relay, uint64_t now_ns)
{
    pthread_mutex_lock(&relay->mutex);
    note_events(relay);
    if (!relay->hole) {
        accept_all(relay, now_ns);
    }
    drop_ended(relay, now_ns);
    for (int direction = 0; direction < 2 && !relay->hole; direction++) {
        take_all(relay, direction, now_ns);
        for (size_t i = 0; i < relay->conn_count; i++) {
            pass_on(relay, relay->conns[i], direction, now_ns);
        }
    }
    uint64_t next = next_ns(relay);
    pthread_mutex_unlock(&relay->mutex);
    return next;
}

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
    must(write(relay->wake_fd, &one, sizeof one) == sizeof one, "relay: eventfd");
}

/* ---- for callers ---- */

static void open_sockets(struct relay *relay)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    socklen_t len = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    relay->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    relay->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    relay->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    must(relay->epoll_fd >= 0 && relay->wake_fd >= 0 && relay->listen_fd >= 0, "relay: sockets");
    limit_buffers(relay->listen_fd); /* what it accepts has the same */
    must(bind(relay->listen_fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(relay->listen_fd, 256) == 0 &&
             getsockname(relay->listen_fd, (struct sockaddr *)&at, &len) == 0 &&
             epoll_ctl(relay->epoll_fd, EPOLL_CTL_ADD, relay->listen_fd, &event) == 0,
         "relay: listen");
    snprintf(relay->address, sizeof relay->address, "127.0.0.1:%u", ntohs(at.sin_port));
}

struct relay *relay_new(const struct relay_config *config)
{
    struct relay *relay = calloc(1, sizeof *relay);
    const char *colon = strrchr(config->target, ':');
    must(relay != NULL && colon != NULL, "relay: target");
    relay->config = *config;
    relay->config.target = NULL;
    relay->target = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
    relay->target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    relay->delay_ns = config->delay_us * 1000;
    uint64_t round_trip = config->bits_per_s / 8 * config->delay_us * 2 / 1000000;
    relay->config.queue_bytes = config->queue_bytes != 0 ? config->queue_bytes : most(round_trip, 2 * PIECE_BYTES);
    set_rate(relay, config->bits_per_s);
    relay->config.window_bytes = config->window_bytes != 0 ? config->window_bytes : 16 << 20;
    relay->random = config->seed;
    pthread_mutex_init(&relay->mutex, NULL);
    open_sockets(relay);
    return relay;
}

void relay_start(struct relay *relay)
{
    must(pthread_create(&relay->thread, NULL, relay_main, relay) == 0, "relay: thread");
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
        conn_free(relay, relay->conns[i], true);
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
