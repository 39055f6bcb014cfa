/* The heads of requests, over raw sockets: what libwebsockets would cut, misread or leave without an answer is refused, with a
 * reason, and never reaches the handler. In one piece, and byte by byte. */
#include "../lib/cm.h"

#include "../lib/http_alone.h"
#include "../lib/https.h"

#include <stdatomic.h>
#include <stdlib.h>

static struct far_http *http;
static struct far_test_pki pki;
static char ca_path[512];
static atomic_int handled; /* requests that were not refused */

/* Echoes method and path. */
static void on_request(void *arg, struct far_http_exchange *exchange)
{
    const struct far_http_request *request = far_http_exchange_request(exchange);
    struct far_buf body;
    far_buf_init(&body, 8192);
    if (request->refuse_status != 0) {
        far_buf_append_str(&body, request->refuse_why);
    } else {
        atomic_fetch_add(&handled, 1);
        far_buf_printf(&body, "%s|%.*s", far_http_method_name(request->method), (int)request->path.len,
                       (const char *)request->path.data);
    }
    far_http_answer(exchange, request->refuse_status != 0 ? request->refuse_status : 200, "text/plain", NULL, 0, &body);
}

static void on_gone(void *arg, struct far_http_exchange *exchange)
{
}

static void on_tick(void *arg)
{
}

static struct far_test_https *client(void)
{
    struct far_test_https *opened = far_test_https_open(far_http_port(http), ca_path, 0);
    assert_non_null(opened);
    return opened;
}

/* Sends the text in pieces of this many bytes; returns the status of the answer. */
static int ask_raw(const char *text, size_t piece)
{
    struct far_test_https *c = client();
    size_t len = strlen(text);
    for (size_t at = 0; at < len; at += piece) { /* a refusal may end the connection before all is sent */
        (void)far_test_https_send(c, text + at, len - at < piece ? len - at : piece);
    }
    int status = far_test_https_answer(c);
    if (status == 0) { /* in the words of the version that was understood */
        (void)sscanf(far_test_https_text(c), "HTTP/1.0 %d", &status);
    }
    far_test_https_close(c);
    return status;
}

static void an_escaped_control_character_cuts_no_request(void **unused)
{
    static const char *const methods[] = {"GET", "HEAD", "DELETE", "POST", "PUT", "PATCH"};
    static const char *const targets[] = {
        "/v1/sites/a1%0d", "/v1/sites/a1%0D?dry_run=true", "/v1/sites/a1%0a", "/v1/sites/a1%0AHTTP/1.1", "/v1/sites/a1%00",
        "/v1/sites/a1%0aIf-Match:3", "/v1/sites/a1%0d%0aHTTP/1.1", "/v1/sites%0a/a1", "/p?limit=1%0a0&role=banana",
        "/p?confirm=a1%0d", "/p?confirm=a1%00", "/p?confirm%00=a1", "/p?x=1%0aHTTP/1.1", "/p%1b", "/p?x=%7f", "/%00", "%0a/p",
    };
    char text[400];
    int before = atomic_load(&handled);
    for (size_t m = 0; m < sizeof methods / sizeof methods[0]; m++) {
        for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
            snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: h\r\n%s\r\n", methods[m], targets[i],
                     m < 3 ? "" : "Content-Length: 0\r\n");
            assert_int_equal(ask_raw(text, sizeof text), 400);
        }
    }
    assert_int_equal(atomic_load(&handled), before);
    assert_int_equal(ask_raw("DELETE /v1/sites/a1%0aHTTP/1.1 HTTP/1.1\r\nHost: h\r\n\r\n", 1), 400);
    assert_int_equal(ask_raw("GET /p?x=%20%c3%a9%25 HTTP/1.1\r\nHost: h\r\n\r\n", 1), 200);
}

/* Behind another head, or a body, in the same bytes it is judged as well. */
static void a_head_sent_ahead_is_never_misread(void **unused)
{
    static const char *const firsts[] = {"GET /p HTTP/1.1\r\nHost: h\r\n\r\n",
                                         "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 19\r\n\r\n%0a%00\r\n\r\nGET / x\r\n"};
    static const char *const seconds[] = {
        "GET /p HTTP/1.1\r\nHost: h\r\n\r\n",
        "DELETE /p HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /p%0aHTTP/1.1 HTTP/1.1\r\nHost: h\r\n\r\n",
        "DELETE /p%0aHTTP/1.1 HTTP/1.1\r\nHost: h\r\n\r\n",
    };
    for (int i = 0; i < 8; i++) {
        int before = atomic_load(&handled);
        char text[400];
        struct far_test_https *c = client();
        int n = snprintf(text, sizeof text, "%s%s", firsts[i / 4], seconds[i % 4]);
        assert_true(far_test_https_send(c, text, (size_t)n));
        assert_int_equal(far_test_https_answer(c), 200);
        far_test_https_drop(c);
        assert_int_equal(far_test_https_answer(c), i % 4 < 2 ? 200 : 400);
        assert_int_equal(atomic_load(&handled), before + (i % 4 < 2 ? 2 : 1));
        far_test_https_close(c);
    }
}

static void a_head_that_is_none_of_http_is_told_what_is_wrong(void **unused)
{
    static const char *const heads[] = {
        "GET /p HTTP/1.1\r\nHost: h\r\nA: b\r\n folded: c\r\n\r\n", "GET /p HTTP/1.1\r\nHost: h\r\nA: b\r\n\tfolded\r\n\r\n",
        "GET /p HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n",           "GET /p HTTP/1.1\r\nHost: h\r\nnocolon\r\n\r\n",
        "GET /p HTTP/1.1\r\nHost: h\r\nDELETE /q:1 HTTP/1.1\r\n\r\n", "GET /p HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n",
        "GET /p%zz HTTP/1.1\r\nHost: h\r\n\r\n",                    "GET /p% HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /p?x=%2 HTTP/1.1\r\nHost: h\r\n\r\n",                  "GET /p q HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /p\r\nHost: h\r\n\r\n",                                "GET /p HTTP/2.0\r\nHost: h\r\n\r\n",
        "GET /p\tq HTTP/1.1\r\nHost: h\r\n\r\n",                    "GET /p HTTP/1.1\r\nHost: h\r\nAccept: a\x01\r\n\r\n",
        "GET /p HTTP/1.1\r\nHost: h\r\nAccept: a\rIf-Match: 1\r\n\r\n",
        "PUT /p HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "GET p HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /p HTTP/1.1\r\nHost: h\r\nIdempotency-Key:\r\nContent-Length: 0\r\n\r\n",
        "POST /p HTTP/1.1\r\nHost: h\r\nIdempotency-Key:  \r\nContent-Length: 0\r\n\r\n",
    };
    static const char *const fine[] = {
        "GET /p HTTP/1.1\r\nHost: h\r\nD: x\r\nIf:y\r\nAccep:\r\nAcceptance: z\r\n\r\n", "GET /p HTTP/1.0\r\n\r\n",
    }; /* headers with whose names longer ones begin */
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        assert_int_equal(ask_raw(heads[i], i % 2 == 0 ? 1 : 1000), 400);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(ask_raw(fine[i / 2], i % 2 == 0 ? 1 : 1000), 200);
    }
}

/* A request of so many bytes of path, of one header, and so many small headers and arguments. */
static int ask_large(size_t path, size_t header, int headers, int arguments)
{
    char *text = malloc(path + header + 1000 + 20 * (size_t)(headers + arguments)), *at = text;
    at += sprintf(at, "GET /");
    memset(at, 'a', path);
    at += path;
    for (int i = 0; i < arguments; i++) {
        at += sprintf(at, "%ca=%d", i == 0 ? '?' : '&', i);
    }
    at += sprintf(at, " HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ");
    memset(at, 'b', header);
    at += header;
    for (int i = 0; i < headers; i++) {
        at += sprintf(at, "\r\nX-%d: y", i);
    }
    strcpy(at, "\r\n\r\n");
    int status = ask_raw(text, 4000);
    free(text);
    return status;
}

static void a_head_of_any_size_is_answered(void **unused)
{
    assert_int_equal(ask_large(1, 1, 45, 16), 200);
    assert_int_equal(ask_large(1, 1, 60, 0), 431);
    assert_int_equal(ask_large(1, 1, 3000, 0), 431);
    assert_int_equal(ask_large(1, 1, 0, 17), 414);
    assert_int_equal(ask_large(1, 1, 0, 1000), 414);
    for (size_t bytes = 6800; bytes < 8400; bytes += 97) { /* across what libwebsockets has room for */
        assert_int_equal(ask_large(bytes, 1, 0, 0), 414);
        assert_int_equal(ask_large(1, bytes, 0, 0), 431);
    }
    for (size_t bytes = FAR_HTTP_HEAD_MAX - 512 - 60; bytes < FAR_HTTP_HEAD_MAX - 512 + 20; bytes += 3) { /* what is taken: every place */
        int status = ask_large(bytes, 1, 0, 0); /* the line fits, and the headers behind it do not any more */
        assert_true(status == 414 || status == 431);
        assert_int_equal(ask_large(1, bytes, 0, 0), 431);
        assert_int_equal(ask_large(1, bytes - 60, 3, 0), 431);
    }
    assert_int_equal(ask_large(60000, 1, 0, 0), 414);
    assert_int_equal(ask_large(1, 60000, 0, 0), 431);
}

static void an_upgrade_is_not_taken_and_the_request_is_served(void **unused)
{
    static const char *const wanted[] = {("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
                                         "Connection: Upgrade, HTTP2-Settings\r\nUPGRADE: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n",
                                         "Upgrade-Insecure-Requests: 1\r\n"};
    for (size_t i = 0; i < 3; i++) {
        struct far_test_https *c = client();
        assert_int_equal(far_test_https_request(c, "GET", "/p", wanted[i], NULL), 200);
        assert_string_equal(far_test_https_body(c), "GET|/p");
        far_test_https_close(c);
    }
}

static int setup(void **unused)
{
    static const struct far_http_callbacks callbacks = {on_request, on_gone, on_tick, on_tick, NULL, NULL};
    static char dir[] = "/tmp/far-api-heads-XXXXXX";
    const struct far_http_config config = {.body_max = 1000, .connections_max = 20, .stall_ms = 1000, .tick_ms = 100};
    assert_non_null(mkdtemp(dir));
    far_test_pki_init(&pki, dir, 1);
    far_net_free(far_test_pki_net(&pki, FAR_PARTY_SERVER, 1));
    snprintf(ca_path, sizeof ca_path, "%s/ca.crt", dir);
    http = far_test_http_start(&pki, config, &callbacks);
    return http != NULL ? 0 : -1;
}

static int teardown(void **unused)
{
    far_http_free(http);
    return far_test_pki_remove(&pki);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_escaped_control_character_cuts_no_request),
        cmocka_unit_test(a_head_sent_ahead_is_never_misread),
        cmocka_unit_test(a_head_that_is_none_of_http_is_told_what_is_wrong),
        cmocka_unit_test(a_head_of_any_size_is_answered),
        cmocka_unit_test(an_upgrade_is_not_taken_and_the_request_is_served),
    };
    return cmocka_run_group_tests_name("api_heads", tests, setup, teardown);
}
