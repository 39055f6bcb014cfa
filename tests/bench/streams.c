/* Many consumers of the events over TLS: streams PORT CA TOKEN CONSUMERS LAST_SEQ STOPPED.
 *
 * All read the whole history as server-sent events, up to LAST_SEQ, from one thread and one epoll. Every frame is looked at: its
 * seq must be the one after the last, so nothing may be missing and nothing come twice. The last STOPPED of them are only
 * opened and then never read. Prints one line: seconds from the first byte asked for to the last one's end, events in all, gaps
 * and repetitions, and the seconds of the fastest and the slowest consumer. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONSUMERS_MAX = 1000, PIECE = 64 * 1024, KEPT = 64 };

struct consumer {
    int fd;
    SSL *ssl;
    uint64_t seq;     /* of the last event */
    bool is_over;
    char kept[KEPT];  /* the start of a line that goes on in the next piece */
    size_t kept_len;
    bool skips;       /* the rest of this line is of no interest */
    double ended;
};

static struct consumer consumers[CONSUMERS_MAX];
static uint64_t last_seq, events, wrong;
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

static void open_one(struct consumer *c, uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0) {
        die("connect");
    }
    c->ssl = SSL_new(context);
    SSL_set_fd(c->ssl, c->fd);
    if (SSL_connect(c->ssl) != 1) {
        die("handshake");
    }
}

static void ask(struct consumer *c, const char *token)
{
    char text[512];
    int len = snprintf(text, sizeof text, "GET /v1/events?from=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
                                          "Accept: text/event-stream\r\n\r\n", token);
    if (SSL_write(c->ssl, text, len) != len) {
        die("ask");
    }
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
                fprintf(stderr, "streams: a stream ended at event %llu\n", (unsigned long long)c->seq);
                exit(1);
            }
            return;
        }
        look(c, piece, (size_t)n, now());
    }
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        return 2;
    }
    uint16_t port = (uint16_t)atoi(argv[1]);
    size_t count = strtoul(argv[4], NULL, 10), stopped = strtoul(argv[6], NULL, 10), over = 0;
    last_seq = strtoull(argv[5], NULL, 10);
    context = SSL_CTX_new(TLS_client_method());
    if (count + stopped > CONSUMERS_MAX || SSL_CTX_load_verify_locations(context, argv[2], NULL) != 1) {
        die(argv[2]);
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    int epoll = epoll_create1(0);
    for (size_t i = 0; i < count + stopped; i++) {
        open_one(&consumers[i], port);
    }
    double start = now(), fastest = 1e9, slowest = 0;
    for (size_t i = count + stopped; i-- > 0;) {
        ask(&consumers[i], argv[3]);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &consumers[i]};
        fcntl(consumers[i].fd, F_SETFL, fcntl(consumers[i].fd, F_GETFL) | O_NONBLOCK);
        if (i < count && epoll_ctl(epoll, EPOLL_CTL_ADD, consumers[i].fd, &event) != 0) {
            die("epoll");
        }
    }
    while (over < count) {
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
                fastest = c->ended - start < fastest ? c->ended - start : fastest;
                slowest = c->ended - start > slowest ? c->ended - start : slowest;
            }
        }
    }
    printf("%.3f %llu %llu %.3f %.3f\n", now() - start, (unsigned long long)events, (unsigned long long)wrong, fastest, slowest);
    return 0;
}
