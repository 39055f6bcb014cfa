/* The relay from inside: shared by relay.c (the link, its connections, turns) and relay_run.c (making it, its thread, what
 * callers ask for). */
#ifndef FAR_TESTS_LIB_RELAY_LOCAL_H
#define FAR_TESTS_LIB_RELAY_LOCAL_H

#include "relay.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stddef.h>

enum {
    PIECE_BYTES = 65536,
    SEGMENT_BYTES = 1448,
    CONNS_MAX = 1024,
    ACKS = 512, /* of a way, on their way back */
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

static inline uint64_t relay_most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline uint64_t relay_least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void relay_must(bool ok, const char *what);
void relay_limit_buffers(int fd); /* of a socket, in the kernel */
/* Closes both sides, hard if it is not over. */
void relay_conn_free(struct relay *relay, struct conn *conn, bool hard);

#endif
