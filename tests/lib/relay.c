/* A relay that imitates a link: see relay.h.
 *
 * A direction of the link is a line of time: `free_ns` is when everything that was taken is through. What is taken now goes
 * through behind it, and comes out one delay later; how far free_ns is ahead of now is the queue. Each way (one direction of
 * one connection) holds its pieces with the time at which they come out. Sockets are watched edge-triggered: `readable`
 * and `writable` hold until a call says otherwise. One mutex around everything. */
#define _GNU_SOURCE /* accept4 */
#include "relay_local.h"

#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    EVENTS = 64,
    JOIN_NS = 250000, /* pieces that come out so close to each other become one */
};

void relay_must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        abort();
    }
}

/* ---- the link ---- */

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
    relay->stats.idle_ns[direction] += *free_ns != 0 && *free_ns < now_ns && bytes > 0 ? now_ns - *free_ns : 0;
    *free_ns = relay_most(*free_ns, now_ns) + send_ns(relay, bytes);
    uint64_t waiting = (*free_ns - now_ns) / 1000 * relay->config.bits_per_s / 8000000;
    relay->stats.queue_peak[direction] = relay_most(relay->stats.queue_peak[direction], waiting);
    return *free_ns + relay->delay_ns;
}

/* ---- the window of a way ---- */

static uint64_t window_room(const struct relay *relay, const struct way *way)
{
    uint64_t window = relay->config.window_bytes;
    if (relay->config.slow_start) {
        window = relay_least(window, 10 * SEGMENT_BYTES + way->grown);
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
        relay_must(piece != NULL, "relay: memory");
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
    relay_must(epoll_ctl(relay->epoll_fd, EPOLL_CTL_ADD, side->fd, &event) == 0, "relay: epoll_ctl");
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
    relay_must(conn != NULL, "relay: memory");
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
    conn->reset_ns = relay_least(conn->reset_ns, at_ns);
}

static void dial(struct relay *relay, struct conn *conn)
{
    struct side *side = &conn->sides[1];
    side->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    relay_must(side->fd >= 0, "relay: socket");
    relay_limit_buffers(side->fd);
    if (connect(side->fd, (struct sockaddr *)&relay->target, sizeof relay->target) != 0 && errno != EINPROGRESS) {
        lost(relay, conn, ECONNREFUSED, 0);
    }
    watch(relay, side);
}

void relay_conn_free(struct relay *relay, struct conn *conn, bool hard)
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
    size_t wanted = (size_t)relay_least(relay->quantum, window_room(relay, way));
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
        relay_conn_free(relay, conn, !over);
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
        uint64_t can = relay_most(room_ns(relay, direction), way->hold_ns);
        next = relay_least(next, window_room(relay, way) == 0 ? relay_most(ack, can) : can);
    }
    return next;
}

static uint64_t next_ns(const struct relay *relay)
{
    uint64_t next = RELAY_NEVER;
    for (size_t i = 0; i < relay->conn_count; i++) {
        const struct conn *conn = relay->conns[i];
        next = relay_least(next, relay_least(conn->cut_ns, conn->reset_ns));
        if (!relay->hole) {
            next = conn->sides[1].fd < 0 ? relay_least(next, conn->dial_ns) : next;
            next = relay_least(next, relay_least(way_next_ns(relay, conn, 0), way_next_ns(relay, conn, 1)));
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
