/* Many consumers of the events over TLS: streams PORT[,PORT…] CA TOKEN CONSUMERS LAST_SEQ STOPPED.
 *
 * All read the whole history as server-sent events, up to LAST_SEQ, from one thread and one epoll. Every frame is looked at: its
 * seq must be the one after the last, so nothing may be missing and nothing come twice. The last STOPPED of them are only
 * opened and then never read. A consumer whose stream ends goes on at the next port, from its cursor. Prints one line: seconds from
 * the first byte asked for to the last one's end, events in all, gaps and repetitions, the seconds of the fastest and the slowest
 * consumer, and how often one went on elsewhere. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONSUMERS_MAX = 1000, PORTS_MAX = 8, PIECE = 64 * 1024, KEPT = 128, TRIES_MAX = 100 };

struct consumer {
    int fd;
    SSL *ssl;
    uint64_t seq;     /* of the last event */
    char cursor[KEPT]; /* behind it, as it came */
    unsigned port;     /* which one of the ports */
    bool is_over;
    char kept[KEPT];  /* the start of a line that goes on in the next piece */
    size_t kept_len;
    bool skips;       /* the rest of this line is of no interest */
    double ended;
};

static struct consumer consumers[CONSUMERS_MAX];
static uint64_t last_seq, events, wrong, resumed;
static uint16_t ports[PORTS_MAX];
static unsigned port_count;
static const char *token;
static int epoll;
static SSL_CTX *context;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "streams: %s: %s\n", what, strerror(errno));
    exit(1);
}

static bool open_one(struct consumer *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(ports[c->port]), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    c->ssl = SSL_new(context);
    if (c->fd < 0 || c->ssl == NULL) {
        die("socket");
    }
    SSL_set_fd(c->ssl, c->fd);
    return connect(c->fd, (struct sockaddr *)&to, sizeof to) == 0 && SSL_connect(c->ssl) == 1;
}

static void close_one(struct consumer *c)
{
    SSL_free(c->ssl);
    close(c->fd);
}

static bool ask(struct consumer *c)
{
    char text[768];
    int len = snprintf(text, sizeof text, "GET /v1/events%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
                                          "Accept: text/event-stream\r\n%s%s%s\r\n", c->seq == 0 ? "?from=1" : "", token,
                       c->seq == 0 ? "" : "Last-Event-ID: ", c->cursor, c->seq == 0 ? "" : "\r\n");
    return SSL_write(c->ssl, text, len) == len;
}

static void watch(struct consumer *c)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) != 0) {
        die("epoll");
    }
}

/* The stream ended before its time: go on elsewhere. What came of a frame without its end comes again. */
static void go_on(struct consumer *c)
{
    close_one(c);
    c->kept_len = 0;
    resumed++;
    for (int i = 0; i < TRIES_MAX; i++) {
        c->port = (c->port + 1) % port_count;
        if (open_one(c) && ask(c)) {
            watch(c);
            return;
        }
        close_one(c);
    }
    fprintf(stderr, "streams: nobody answers after event %llu\n", (unsigned long long)c->seq);
    exit(1);
}

/* "id: <seq>-<head>" is the cursor of an event. */
static void look_at_line(struct consumer *c, const char *line, double t)
{
    if (strncmp(line, "id: ", 4) != 0) {
        return;
    }
    uint64_t seq = strtoull(line + 4, NULL, 10);
    if (seq == c->seq) {
        return; /* a heartbeat's cursor */
    }
    wrong += seq != c->seq + 1;
    c->seq = seq;
    snprintf(c->cursor, sizeof c->cursor, "%s", line + 4);
    events++;
    if (seq >= last_seq) {
        c->is_over = true;
        c->ended = t;
    }
}

/* Lines; of long ones only the start is kept. */
static void look(struct consumer *c, const char *data, size_t len, double t)
{
    while (len > 0 && !c->is_over) {
        const char *end = memchr(data, '\n', len);
        size_t piece = end != NULL ? (size_t)(end - data) : len;
        size_t room = KEPT - 1 - c->kept_len, taken = piece < room ? piece : room;
        memcpy(c->kept + c->kept_len, data, taken);
        c->kept_len += taken;
        if (end == NULL) {
            return;
        }
        c->kept[c->kept_len] = '\0';
        look_at_line(c, c->kept, t);
        c->kept_len = 0;
        data = end + 1;
        len -= piece + 1;
    }
}

static void serve(struct consumer *c)
{
    static char piece[PIECE];
    for (int i = 0; i < 4 && !c->is_over; i++) {
        int n = SSL_read(c->ssl, piece, sizeof piece);
        if (n <= 0) {
            int why = SSL_get_error(c->ssl, n);
            if (why != SSL_ERROR_WANT_READ) {
                go_on(c);
            }
            return;
        }
        look(c, piece, (size_t)n, now());
    }
}

static void read_ports(char *text)
{
    for (char *one = strtok(text, ","); one != NULL && port_count < PORTS_MAX; one = strtok(NULL, ",")) {
        ports[port_count++] = (uint16_t)atoi(one);
    }
}

static void read_all(size_t count, double start, double *ret_fastest, double *ret_slowest)
{
    for (size_t over = 0; over < count;) {
        struct epoll_event ready[64];
        int n = epoll_wait(epoll, ready, 64, 20000);
        if (n <= 0) {
            die("nothing came for 20 s");
        }
        for (int i = 0; i < n; i++) {
            struct consumer *c = ready[i].data.ptr;
            serve(c);
            if (c->is_over) {
                over++;
                epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, NULL);
                *ret_fastest = c->ended - start < *ret_fastest ? c->ended - start : *ret_fastest;
                *ret_slowest = c->ended - start > *ret_slowest ? c->ended - start : *ret_slowest;
            }
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        return 2;
    }
    read_ports(argv[1]);
    size_t count = strtoul(argv[4], NULL, 10), stopped = strtoul(argv[6], NULL, 10);
    token = argv[3];
    last_seq = strtoull(argv[5], NULL, 10);
    context = SSL_CTX_new(TLS_client_method());
    if (count + stopped > CONSUMERS_MAX || SSL_CTX_load_verify_locations(context, argv[2], NULL) != 1) {
        die(argv[2]);
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    signal(SIGPIPE, SIG_IGN);
    epoll = epoll_create1(0);
    for (size_t i = 0; i < count + stopped; i++) {
        if (!open_one(&consumers[i])) {
            die("connect");
        }
    }
    double start = now(), fastest = 1e9, slowest = 0;
    for (size_t i = count + stopped; i-- > 0;) {
        if (!ask(&consumers[i])) {
            die("ask");
        }
        if (i < count) {
            watch(&consumers[i]);
        }
    }
    puts("open");
    fflush(stdout);
    read_all(count, start, &fastest, &slowest);
    printf("%.3f %llu %llu %.3f %.3f %llu\n", now() - start, (unsigned long long)events, (unsigned long long)wrong, fastest, slowest,
           (unsigned long long)resumed);
    return 0;
}
