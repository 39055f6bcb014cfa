/* HTTP: what comes in whole goes out whole; limits hold; a stream is pulled; a client that stalls is cut off. */
#include "../lib/cm.h"

#include "../lib/http_alone.h"
#include "../lib/https.h"
#include "../lib/until.h"
#include "api/http.h"
#include "net/pki.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { BODY_MAX = 100 * 1000, STALL_MS = 1000, CONNECTIONS_MAX = 20, WAIT_MS = 10000 };

static struct far_http *http;
static struct far_test_pki pki;
static char ca_path[512];
static atomic_int gone, wakes, pulls, ticks, turns;
static _Atomic(struct later *) held;

/* The handler echoes; /big answers with a megabyte; /later from another thread, /held when it is released; /stream counts; /flood
 * never ends; nor does /quiet, which says one word. */

struct later {
    struct far_http_work work;
    struct far_http_exchange *exchange;
};

static void answer_text(struct far_http_exchange *exchange, int status, const char *text)
{
    struct far_buf body;
    far_buf_init(&body, 1 << 20);
    far_buf_append_str(&body, text);
    struct far_http_header header = {"farshore-index:", "7"};
    far_http_answer(exchange, status, "text/plain", &header, 1, &body);
}

static void answer_big(struct far_http_exchange *exchange)
{
    struct far_buf body;
    far_buf_init(&body, 1 << 20);
    memset(far_buf_reserve(&body, 1000000), 'b', 1000000);
    body.len = 1000000;
    far_http_answer(exchange, 200, "text/plain", NULL, 0, &body);
}

static bool is_path(const struct far_http_exchange *exchange, const char *path)
{
    return far_slice_equal(far_http_exchange_request(exchange)->path, far_slice_str(path));
}

static void run_later(struct far_http_work *work, bool dropped)
{
    struct later *later = (struct later *)(void *)work;
    if (!dropped && is_path(later->exchange, "/later-big")) {
        answer_big(later->exchange);
    } else if (!dropped) {
        answer_text(later->exchange, 200, "later");
    }
    free(later);
}

static void *post_later(void *arg)
{
    bool is_batch = is_path(((struct later *)arg)->exchange, "/later-batch");
    if (is_batch) {
        far_http_batch(http, true);
    }
    far_http_post(http, arg);
    if (is_batch) {
        far_http_batch(http, false);
    }
    return NULL;
}

static struct later *new_later(struct far_http_exchange *exchange)
{
    struct later *later = calloc(1, sizeof *later);
    later->work.run = run_later;
    later->exchange = exchange;
    return later;
}

static void release_held(void)
{
    assert_true(FAR_UNTIL(atomic_load(&held) != NULL, WAIT_MS));
    far_http_post(http, &atomic_exchange(&held, NULL)->work);
}

static int pull(void *arg, struct far_http_exchange *exchange, struct far_buf *out, size_t room)
{
    if (far_slice_equal(far_http_exchange_request(exchange)->path, far_slice_str("/quiet"))) {
        if (atomic_fetch_add(&pulls, 1) == 0) {
            far_buf_append_str(out, "begun");
        }
        return 1;
    }
    bool flood = far_slice_equal(far_http_exchange_request(exchange)->path, far_slice_str("/flood"));
    int n = atomic_fetch_add(&pulls, 1);
    if (flood) {
        static const char block[FAR_HTTP_CHUNK];
        far_buf_append(out, block, sizeof block);
        return 1;
    }
    far_buf_printf(out, "tick %d\n", n);
    return n < 3 ? 1 : 0;
}

static void on_request(void *arg, struct far_http_exchange *exchange)
{
    const struct far_http_request *request = far_http_exchange_request(exchange);
    if (request->refuse_status != 0) {
        answer_text(exchange, request->refuse_status, "refused");
    } else if (request->path.len >= 6 && far_slice_equal(far_slice(request->path.data, 6), far_slice_str("/later"))) {
        pthread_t thread;
        pthread_create(&thread, NULL, post_later, new_later(exchange));
        pthread_detach(thread);
    } else if (is_path(exchange, "/held")) {
        atomic_store(&held, new_later(exchange));
    } else if (far_slice_equal(request->path, far_slice_str("/stream")) ||
               far_slice_equal(request->path, far_slice_str("/quiet")) ||
               far_slice_equal(request->path, far_slice_str("/flood"))) {
        atomic_store(&pulls, 0);
        far_http_stream(exchange, "text/event-stream", NULL, 0, pull);
    } else if (far_slice_equal(request->path, far_slice_str("/big"))) {
        answer_big(exchange);
    } else {
        char text[4096];
        int n = snprintf(text, sizeof text, "%s|%.*s|%zu|%s|%s|%s|%s|", far_http_method_name(request->method),
                         (int)request->path.len, (const char *)request->path.data, request->body.len,
                         request->authorization, request->idempotency_key, request->last_event_id, request->accept);
        for (size_t i = 0; i < request->query_count; i++) {
            n += snprintf(text + n, sizeof text - (size_t)n, "%.*s;", (int)request->query[i].len,
                          (const char *)request->query[i].data);
        }
        answer_text(exchange, 200, text);
    }
}

static void on_gone(void *arg, struct far_http_exchange *exchange)
{
    atomic_fetch_add(&gone, 1);
}

static void on_tick(void *arg)
{
    atomic_fetch_add(&ticks, 1);
}

static void on_turn(void *arg)
{
    atomic_fetch_add(&turns, 1);
}

static void on_wake(void *arg)
{
    atomic_fetch_add(&wakes, 1);
}

static struct far_test_https *client(void)
{
    struct far_test_https *opened = far_test_https_open(far_http_port(http), ca_path, 0);
    assert_non_null(opened);
    return opened;
}

static void a_request_arrives_with_all_that_is_looked_at(void **unused)
{
    struct far_test_https *c = client();
    assert_int_equal(far_test_https_request(c, "GET", "/v1/a%20b?x=1&y=a%26b", "Authorization: Bearer t\r\n"
                                            "Idempotency-Key: k\r\nLast-Event-ID: 5\r\nAccept: text/x\r\n", NULL), 200);
    assert_string_equal(far_test_https_body(c), "GET|/v1/a b|0|Bearer t|k|5|text/x|x=1;y=a&b;");
    assert_non_null(strstr(far_test_https_text(c), "farshore-index: 7"));
    /* the same connection goes on */
    assert_int_equal(far_test_https_request(c, "POST", "/p", "", "{\"a\":1}"), 200);
    assert_string_equal(far_test_https_body(c), "POST|/p|7|||||");
    assert_int_equal(far_test_https_request(c, "POST", "/p", "", ""), 200);
    assert_string_equal(far_test_https_body(c), "POST|/p|0|||||");
    assert_int_equal(far_test_https_request(c, "DELETE", "/p", "", NULL), 200);
    assert_string_equal(far_test_https_body(c), "DELETE|/p|0|||||");
    assert_int_equal(far_test_https_request(c, "PUT", "/p", "", "abc"), 200);
    assert_string_equal(far_test_https_body(c), "PUT|/p|3|||||");
    far_test_https_close(c);
    c = client();
    assert_int_equal(far_test_https_request(c, "POST", "/p", "", NULL), 200);
    assert_string_equal(far_test_https_body(c), "POST|/p|0|||||");
    assert_non_null(strstr(far_test_https_text(c), "connection: close"));
    far_test_https_close(c);
}

static void a_large_answer_arrives_whole(void **unused)
{
    struct far_test_https *c = client();
    assert_int_equal(far_test_https_request(c, "GET", "/big", "", NULL), 200);
    assert_int_equal(strlen(far_test_https_body(c)), 1000000);
    far_test_https_close(c);
}

static void another_thread_answers_by_posting(void **unused)
{
    struct far_test_https *c = client();
    assert_int_equal(far_test_https_request(c, "GET", "/later", "", NULL), 200);
    assert_string_equal(far_test_https_body(c), "later");
    far_test_https_close(c);
}

static void a_large_answer_of_another_thread_arrives_whole(void **unused)
{
    struct far_test_https *c = client();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(far_test_https_request(c, "GET", "/later-big", "", NULL), 200);
        assert_int_equal(strlen(far_test_https_body(c)), 1000000);
    }
    far_test_https_close(c);
}

static void what_is_posted_in_a_batch_is_run_when_that_ends(void **unused)
{
    struct far_test_https *c = client();
    for (int i = 0; i < 20; i++) {
        assert_int_equal(far_test_https_request(c, "GET", "/later-batch", "", NULL), 200);
        assert_string_equal(far_test_https_body(c), "later");
    }
    far_test_https_close(c);
}

static void an_answer_of_another_thread_ends_a_connection_that_must_end(void **unused)
{
    struct far_test_https *c = client();
    assert_int_equal(far_test_https_request(c, "POST", "/later", "", NULL), 200);
    assert_non_null(strstr(far_test_https_text(c), "connection: close"));
    assert_int_equal(far_test_https_request(c, "GET", "/p", "", NULL), 0);
    far_test_https_close(c);
}

static void a_body_up_to_the_maximum_is_taken_and_a_byte_more_is_413(void **unused)
{
    char *body = calloc(1, BODY_MAX + 2);
    memset(body, 'x', BODY_MAX);
    struct far_test_https *c = client();
    assert_int_equal(far_test_https_request(c, "POST", "/p", "", body), 200);
    assert_string_equal(far_test_https_body(c), "POST|/p|100000|||||");
    body[BODY_MAX] = 'x';
    assert_int_equal(far_test_https_request(c, "POST", "/p", "", body), 413);
    far_test_https_close(c);
    free(body);
    c = client();
    const char *huge = "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n";
    assert_true(far_test_https_send(c, huge, strlen(huge)));
    assert_int_equal(far_test_https_answer(c), 413);
    far_test_https_close(c);
}

static void limits_of_the_head_are_refused(void **unused)
{
    char path[1000] = "/";
    memset(path + 1, 'a', 600);
    struct far_test_https *c = client();
    assert_int_equal(far_test_https_request(c, "GET", path, "", NULL), 414);
    far_test_https_close(c);
    c = client();
    assert_int_equal(far_test_https_request(c, "GET", "/p?a=1&b=1&c=1&d=1&e=1&f=1&g=1&h=1&i=1&j=1&k=1&l=1&m=1&n=1&o=1&p=1"
                                            "&q=1", "", NULL), 414);
    far_test_https_close(c);
    char header[1400] = "Authorization: Bearer ";
    memset(header + strlen(header), 'a', 1200);
    strcat(header, "\r\n");
    c = client();
    assert_int_equal(far_test_https_request(c, "GET", "/p", header, NULL), 431);
    far_test_https_close(c);
    static char long_header[7000] = "Authorization: Bearer ";
    memset(long_header + strlen(long_header), 'a', 6900);
    strcat(long_header, "\r\n");
    c = client();
    assert_int_equal(far_test_https_request(c, "GET", "/p", long_header, NULL), 431);
    far_test_https_close(c);
    c = client();
    assert_int_equal(far_test_https_request(c, "POST", "/p", "Transfer-Encoding: chunked\r\n", NULL), 411);
    far_test_https_close(c);
    c = client();
    assert_int_equal(far_test_https_request(c, "POST", "/p", "Content-Length: 1x\r\n", NULL), 400);
    far_test_https_close(c);
}

static void on_stranger(void *arg, const struct far_http_request *request, struct far_buf *body)
{
    far_buf_printf(body, "{\"status\":%d,\"why\":\"%s\"}", request->refuse_status, request->refuse_why);
}

static void an_unknown_method_is_told_which_there_are(void **unused)
{
    static const char *const requests[] = {"BREW /pot HTTP/1.1\r\nHost: h\r\n\r\n", "what is this\r\n\r\n"};
    for (int i = 0; i < 2; i++) {
        struct far_test_https *c = client();
        assert_true(far_test_https_send(c, requests[i], strlen(requests[i])));
        assert_int_equal(far_test_https_answer(c), i == 0 ? 405 : 400);
        assert_non_null(strstr(far_test_https_body(c), i == 0 ? "the method BREW is not known" : "no HTTP"));
        assert_int_equal(strstr(far_test_https_text(c), "allow: GET, HEAD, POST") != NULL, i == 0);
        assert_non_null(strstr(far_test_https_text(c), "application/problem+json"));
        far_test_https_close(c);
    }
    struct far_test_https *c = client();
    assert_int_equal(far_test_https_request(c, "OPTIONS", "/p", "", NULL), 405);
    far_test_https_close(c);
}

static void what_is_no_http_is_survived(void **unused)
{
    static const char *const noise[] = {"\r\n\r\n", "GET\r\n\r\n", "\x16\x03\x01", "GET / HTTP/9.9\r\n\r\n",
                                        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab", "BREW /pot HTTP/1.1\r\n\r\n",
                                        "GET /%00%ff%zz?%=&&&= HTTP/1.1\r\nHost: x\r\n\r\n"};
    for (size_t i = 0; i < sizeof noise / sizeof noise[0]; i++) {
        struct far_test_https *c = client();
        far_test_https_send(c, noise[i], strlen(noise[i]));
        far_test_https_expect(c, "HTTP", 50);
        far_test_https_close(c);
    }
    struct far_test_https *c = client();
    assert_int_equal(far_test_https_request(c, "GET", "/p", "", NULL), 200);
    far_test_https_close(c);
}

/* libwebsockets would take the second head for its own body and turn in a circle, or close. */
static void a_request_sent_ahead_of_an_answer_is_answered_after_it(void **unused)
{
    static const char *const firsts[] = {"GET /p HTTP/1.1\r\nHost: x\r\n\r\n", "GET /later HTTP/1.1\r\nHost: x\r\n\r\n",
                                         "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nfirst",
                                         "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nfirst"};
    static const struct {
        const char *text, *rest;
        int status;
        const char *body; /* is in the answer */
    } seconds[] = {
        {"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nsecond", "", 200, "POST|/p|6|"},
        {"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nsecond", "and", 200, "POST|/p|9|"},
        {"POST /p HTTP/1.1\r\nHost: x\r\nContent-Le", "ngth: 6\r\n\r\nsecond", 200, "POST|/p|6|"},
        {"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 6x\r\n\r\nsecond", "", 400, "refused"},
        {"POST /p%0a HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nsecond", "", 400, "refused"},
        {"BREW /pot HTTP/1.1\r\nHost: h\r\n\r\n", "", 405, "the method BREW"},
        {"xx", "", 0, ""},
    };
    enum { SECONDS = sizeof seconds / sizeof seconds[0] };
    for (size_t i = 0; i < 4 * SECONDS; i++) {
        char text[400];
        struct far_test_https *c = client();
        int n = snprintf(text, sizeof text, "%s%s", firsts[i / SECONDS], seconds[i % SECONDS].text);
        assert_true(far_test_https_send(c, text, (size_t)n));
        assert_int_equal(far_test_https_answer(c), 200);
        far_test_https_drop(c);
        assert_true(far_test_https_send(c, seconds[i % SECONDS].rest, strlen(seconds[i % SECONDS].rest)));
        if (seconds[i % SECONDS].status != 0) {
            assert_int_equal(far_test_https_answer(c), seconds[i % SECONDS].status);
            assert_non_null(strstr(far_test_https_body(c), seconds[i % SECONDS].body));
        }
        far_test_https_close(c);
    }
}

/* Far more than is read ahead, behind an answer that is not there yet: the rest waits in the socket, and keeps nobody awake. */
static void many_requests_sent_ahead_are_answered_in_their_order(void **unused)
{
    enum { MANY = 1500, ONE_MAX = 100 };
    static const char *const firsts[] = {"GET /held HTTP/1.1\r\nHost: x\r\n\r\n",
                                         "POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nfirst"};
    char *text = malloc(ONE_MAX * (MANY + 1)), path[20];
    for (size_t i = 0; i < 2; i++) {
        struct far_test_https *c = client();
        int len = sprintf(text, "%s", firsts[i]);
        for (int n = 0; n < MANY; n++) {
            len += sprintf(text + len, n % 3 == 0 ? "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
                                                  : "PATCH /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n1234567", n);
        }
        assert_true(far_test_https_send(c, text, (size_t)len));
        int tick = atomic_load(&ticks), turn = atomic_load(&turns);
        assert_true(FAR_UNTIL(atomic_load(&ticks) >= tick + 3, 10000));
        assert_true(atomic_load(&turns) - turn < 300);
        release_held();
        assert_int_equal(far_test_https_answer(c), 200);
        assert_string_equal(far_test_https_body(c), "later");
        for (int n = 0; n < MANY; n++) {
            far_test_https_drop(c);
            assert_int_equal(far_test_https_answer(c), 200);
            snprintf(path, sizeof path, n % 3 == 0 ? "GET|/%d|0|" : "PATCH|/%d|7|", n);
            assert_ptr_equal(strstr(far_test_https_body(c), path), far_test_https_body(c));
        }
        far_test_https_close(c);
    }
    free(text);
}

static void a_client_that_leaves_before_its_answer_is_noticed(void **unused)
{
    static const char both[] = "POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nfirst"
                               "GET /p HTTP/1.1\r\nHost: x\r\n\r\n";
    struct far_test_https *c = client();
    assert_true(far_test_https_send(c, both, sizeof both - 1));
    assert_true(FAR_UNTIL(atomic_load(&held) != NULL, WAIT_MS));
    int before = atomic_load(&gone);
    far_test_https_close(c);
    assert_true(FAR_UNTIL(atomic_load(&gone) == before + 1, WAIT_MS));
    free(atomic_exchange(&held, NULL));
}

/* The end of the large answer waits for its client; only behind it the next request is looked at. */
static void a_request_sent_ahead_of_a_large_answer_waits_for_its_end(void **unused)
{
    static const char both[] = "GET /big HTTP/1.1\r\nHost: x\r\n\r\nGET /p HTTP/1.1\r\nHost: x\r\n\r\n";
    struct far_test_https *c = far_test_https_open_small(far_http_port(http), ca_path);
    assert_true(far_test_https_send(c, both, sizeof both - 1));
    int tick = atomic_load(&ticks);
    assert_true(FAR_UNTIL(atomic_load(&ticks) >= tick + 2, 10000)); /* the socket is full */
    assert_true(far_test_https_expect(c, "GET|/p|", WAIT_MS));
    assert_true(far_test_https_size(c) > 1000000);
    far_test_https_close(c);
}

static void a_stream_is_pulled_to_its_end(void **unused)
{
    struct far_test_https *c = client();
    assert_int_equal(far_test_https_request(c, "GET", "/stream", "", NULL), 200);
    assert_string_equal(far_test_https_body(c), "tick 0\ntick 1\ntick 2\ntick 3\n");
    far_test_https_close(c);
}

/* What is said ahead must not keep the thread awake, wherever libwebsockets has it: turns are counted, of which there are some a
 * tick, or many thousands. */
static void a_stream_whose_client_goes_on_talking_wakes_nobody(void **unused)
{
    static const char begin[] = "GET /quiet HTTP/1.1\r\nHost: x\r\n\r\n", more[] = "GET /p HTTP/1.1\r\nHost: x\r\n\r\n";
    for (int i = 0; i < 2; i++) {
        struct far_test_https *c = client();
        char both[sizeof begin + sizeof more];
        int before = atomic_load(&gone), n = snprintf(both, sizeof both, "%s%s", begin, i == 0 ? "" : more);
        assert_true(far_test_https_send(c, both, (size_t)n));
        assert_true(far_test_https_expect(c, "begun", WAIT_MS));
        assert_true(far_test_https_send(c, more, sizeof more - 1));
        int tick = atomic_load(&ticks), turn = atomic_load(&turns);
        assert_true(FAR_UNTIL(atomic_load(&ticks) >= tick + 3, 10000));
        assert_true(atomic_load(&turns) - turn < 300);
        assert_int_equal(atomic_load(&gone), before); /* and it goes on */
        far_test_https_close(c);
    }
}

static void a_client_that_takes_nothing_is_cut_off(void **unused)
{
    struct far_test_https *c = far_test_https_open_small(far_http_port(http), ca_path);
    const char *request = "GET /flood HTTP/1.1\r\nHost: h\r\n\r\n";
    int before = atomic_load(&gone);
    assert_true(far_test_https_send(c, request, strlen(request)));
    assert_true(FAR_UNTIL(atomic_load(&gone) != before, 10000));
    assert_int_equal(atomic_load(&gone), before + 1);
    far_test_https_close(c);
}

/* ---- connections that ask nothing ---- */

enum { IDLERS = 120 };

static int open_silent(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)far_http_port(http)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void only_the_given_address_is_listened_on(void **unused)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)far_http_port(http)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(fd);
}

static size_t count_open(const int *fds, size_t count)
{
    size_t open = 0;
    for (size_t i = 0; i < count; i++) {
        char byte;
        open += recv(fds[i], &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
    }
    return open;
}

static void idle_connections_give_way_the_oldest_first(void **unused)
{
    int fds[IDLERS];
    const char *request = "GET /quiet HTTP/1.1\r\nHost: h\r\n\r\n";
    struct far_test_https *busy = client(); /* older than all of them, but not idle */
    assert_true(far_test_https_send(busy, request, strlen(request)));
    assert_true(far_test_https_expect(busy, "begun", WAIT_MS));
    int before = atomic_load(&gone);
    for (size_t i = 0; i < IDLERS; i++) {
        fds[i] = open_silent();
    }
    assert_true(FAR_UNTIL(count_open(fds, IDLERS) < CONNECTIONS_MAX, WAIT_MS));
    assert_true(FAR_UNTIL(count_open(fds, IDLERS - CONNECTIONS_MAX) == 0, WAIT_MS));
    assert_int_equal(count_open(fds + IDLERS - 1, 1), 1); /* the newest may still say something */
    struct far_test_https *c = client();
    assert_int_equal(far_test_https_request(c, "GET", "/p", "", NULL), 200);
    assert_true(atomic_load(&gone) <= before + 1); /* that request only, not the stream */
    far_test_https_close(c);
    far_test_https_close(busy);
    for (size_t i = 0; i < IDLERS; i++) {
        close(fds[i]);
    }
}

static void wake_runs_on_the_http_thread(void **unused)
{
    int before = atomic_load(&wakes);
    far_http_wake(http);
    assert_true(FAR_UNTIL(atomic_load(&wakes) > before, 1000));
}

static void tls_1_1_is_refused(void **unused)
{
    assert_null(far_test_https_open(far_http_port(http), ca_path, TLS1_1_VERSION));
    struct far_test_https *c = far_test_https_open(far_http_port(http), ca_path, TLS1_2_VERSION);
    assert_non_null(c);
    far_test_https_close(c);
}

static void what_cannot_be_listened_on_is_said(void **unused)
{
    static const struct far_http_callbacks callbacks = {on_request, on_gone, on_tick, on_wake, on_stranger, NULL};
    char certificate[512], key[512], address[32];
    snprintf(certificate, sizeof certificate, "%s/server-1.crt", pki.dir);
    snprintf(key, sizeof key, "%s/server-1.key", pki.dir);
    struct sockaddr_in taken = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof taken;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&taken, sizeof taken), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&taken, &len), 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(taken.sin_port));
    struct far_http_config config = {.address = address, .certificate_path = certificate, .key_path = key,
                                     .body_max = BODY_MAX, .connections_max = 4, .stall_ms = 1000, .tick_ms = 1000};
    struct far_http *other = NULL;
    struct far_error err;
    assert_int_equal(far_http_new(&config, &callbacks, NULL, &other, &err), FAR_IO);
    config.address = "127.0.0.1:0";
    config.certificate_path = "/nonexistent";
    assert_int_equal(far_http_new(&config, &callbacks, NULL, &other, &err), FAR_IO);
    assert_non_null(strstr(err.message, "/nonexistent"));
    config.certificate_path = ca_path;
    assert_int_equal(far_http_new(&config, &callbacks, NULL, &other, &err), FAR_IO);
    config.certificate_path = certificate;
    config.address = "no port";
    assert_int_equal(far_http_new(&config, &callbacks, NULL, &other, &err), FAR_INVALID);
    assert_null(other);
    close(fd);
}

static int make_identity(void **unused)
{
    static char dir[] = "/tmp/far-api-http-XXXXXX";
    assert_non_null(mkdtemp(dir));
    far_test_pki_init(&pki, dir, 1);
    far_net_free(far_test_pki_net(&pki, FAR_PARTY_SERVER, 1));
    snprintf(ca_path, sizeof ca_path, "%s/ca.crt", dir);
    return 0;
}

static int setup(void **unused)
{
    static const struct far_http_callbacks callbacks = {on_request, on_gone, on_tick, on_wake, on_stranger, on_turn};
    const struct far_http_config config = {.body_max = BODY_MAX, .connections_max = CONNECTIONS_MAX, .stall_ms = STALL_MS, .tick_ms = 100};
    http = far_test_http_start(&pki, config, &callbacks);
    return http != NULL ? 0 : -1;
}

static int teardown(void **unused)
{
    far_http_stop(http);
    far_http_free(http);
    return far_test_pki_remove(&pki);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: libwebsockets loses a little memory where two of its contexts live at once. */
        cmocka_unit_test(what_cannot_be_listened_on_is_said),
        cmocka_unit_test_setup(a_request_arrives_with_all_that_is_looked_at, setup),
        cmocka_unit_test(a_large_answer_arrives_whole),
        cmocka_unit_test(another_thread_answers_by_posting),
        cmocka_unit_test(a_large_answer_of_another_thread_arrives_whole),
        cmocka_unit_test(what_is_posted_in_a_batch_is_run_when_that_ends),
        cmocka_unit_test(an_answer_of_another_thread_ends_a_connection_that_must_end),
        cmocka_unit_test(a_body_up_to_the_maximum_is_taken_and_a_byte_more_is_413),
        cmocka_unit_test(limits_of_the_head_are_refused),
        cmocka_unit_test(an_unknown_method_is_told_which_there_are),
        cmocka_unit_test(what_is_no_http_is_survived),
        cmocka_unit_test(a_request_sent_ahead_of_an_answer_is_answered_after_it),
        cmocka_unit_test(many_requests_sent_ahead_are_answered_in_their_order),
        cmocka_unit_test(a_client_that_leaves_before_its_answer_is_noticed),
        cmocka_unit_test(a_request_sent_ahead_of_a_large_answer_waits_for_its_end),
        cmocka_unit_test(a_stream_is_pulled_to_its_end),
        cmocka_unit_test(a_stream_whose_client_goes_on_talking_wakes_nobody),
        cmocka_unit_test(a_client_that_takes_nothing_is_cut_off),
        cmocka_unit_test(only_the_given_address_is_listened_on),
        cmocka_unit_test(idle_connections_give_way_the_oldest_first),
        cmocka_unit_test(wake_runs_on_the_http_thread),
        cmocka_unit_test(tls_1_1_is_refused),
    };
    return cmocka_run_group_tests_name("api_http", tests, make_identity, teardown);
}
