/* net/net.h, blocking streams: both directions at once, refusals, time-outs, shutdown. */
#include "../lib/cm.h"
#include "../lib/made_pki.h"
#include "net/bstream_private.h"
#include "net/gcm_wide.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct fixture {
    struct far_test_pki pki;
    struct far_net *three; /* node 3 */
    struct far_net *four;  /* node 4 */
    struct far_net *server;
    struct far_blistener *listener; /* of node 4 */
};

/* The accepting side of one connection, on a thread of its own. */
struct server {
    struct fixture *f;
    pthread_t thread;
    struct far_bstream *stream;
    struct far_peer peer;
    int rc;
    struct far_error err;
};

static void *serve(void *arg)
{
    struct server *s = arg;
    s->rc = far_blistener_accept(s->f->listener, &s->stream, &s->err);
    if (s->rc == 0) {
        s->rc = far_bstream_handshake(s->stream, 5000, &s->peer, &s->err);
    }
    return NULL;
}

static int set_up(void **state)
{
    static struct fixture f;
    char dir[] = "/tmp/far-net-XXXXXX";
    struct far_error err;
    assert_non_null(mkdtemp(dir));
    far_test_pki_init(&f.pki, dir, 0xaa);
    f.three = far_test_pki_net(&f.pki, FAR_PARTY_NODE, 3);
    f.four = far_test_pki_net(&f.pki, FAR_PARTY_NODE, 4);
    f.server = far_test_pki_net(&f.pki, FAR_PARTY_SERVER, 1);
    assert_int_equal(far_blistener_new(f.four, "127.0.0.1:0", &f.listener, &err), 0);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    far_blistener_free(f->listener);
    far_net_free(f->three);
    far_net_free(f->four);
    far_net_free(f->server);
    far_test_pki_done(&f->pki);
    return 0;
}

static const struct far_peer node_4 = {FAR_PARTY_NODE, 4};

/* Dials from `net`; *ret_dialer is NULL if that failed. Joins the accepting thread. */
static int connect_both(struct fixture *f, struct far_net *net, struct far_peer to, struct server *s,
                        struct far_bstream **ret_dialer, struct far_error *err)
{
    memset(s, 0, sizeof *s);
    *ret_dialer = NULL;
    s->f = f;
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
    int rc = far_bstream_dial(net, far_blistener_address(f->listener), to, 5000, ret_dialer, err);
    pthread_join(s->thread, NULL);
    return rc;
}

static void only_the_dialed_node_of_this_incarnation_is_greeted(void **state)
{
    struct fixture *f = *state;
    struct server s;
    struct far_bstream *dialer;
    struct far_error err;
    assert_int_equal(connect_both(f, f->three, node_4, &s, &dialer, &err), 0);
    assert_int_equal(s.rc, 0);
    assert_int_equal(s.peer.id, 3);
    assert_int_equal(far_bstream_bytes_sent(dialer), 0);
    far_bstream_free(dialer);
    far_bstream_free(s.stream);

    assert_int_equal(connect_both(f, f->three, (struct far_peer){FAR_PARTY_NODE, 5}, &s, &dialer, &err), FAR_DENIED);
    assert_int_not_equal(s.rc, 0);
    far_bstream_free(s.stream);

    assert_int_equal(connect_both(f, f->server, node_4, &s, &dialer, &err), FAR_DENIED); /* data is for nodes */
    assert_int_equal(s.rc, FAR_DENIED);
    far_bstream_free(s.stream);

    struct far_test_pki old = f->pki;
    old.incarnation.epoch = 0;
    struct far_net *fenced = far_test_pki_net(&old, FAR_PARTY_NODE, 3);
    assert_int_equal(connect_both(f, fenced, node_4, &s, &dialer, &err), FAR_DENIED);
    assert_non_null(strstr(err.message, "another incarnation"));
    far_bstream_free(s.stream);
    far_net_free(fenced);
}

enum { PIECE = 1024 * 1024, PIECES = 24 };

/* Pieces of growing odd sizes whose bytes follow from their place. */
static size_t fill(uint8_t *piece, uint32_t number, uint32_t salt)
{
    size_t len = PIECE - (size_t)number * 7919;
    for (size_t i = 0; i < len; i++) {
        piece[i] = (uint8_t)((i * 31 + number + salt) >> (number % 3));
    }
    return len;
}

struct half {
    pthread_t thread;
    struct far_bstream *stream;
    uint32_t salt;
    int rc;
    bool equal;
};

static void *write_all(void *arg)
{
    struct half *h = arg;
    struct far_error err;
    uint8_t *piece = malloc(PIECE);
    for (uint32_t i = 0; i < PIECES && h->rc == 0; i++) {
        h->rc = far_bstream_write(h->stream, piece, fill(piece, i, h->salt), 5000, &err);
    }
    free(piece);
    return NULL;
}

static void *read_all(void *arg)
{
    struct half *h = arg;
    struct far_error err;
    uint8_t *piece = malloc(PIECE);
    uint8_t *wanted = malloc(PIECE);
    h->equal = true;
    for (uint32_t i = 0; i < PIECES && h->rc == 0; i++) {
        size_t len = fill(wanted, i, h->salt);
        h->rc = far_bstream_read(h->stream, piece, len, 5000, &err);
        h->equal = h->equal && memcmp(piece, wanted, len) == 0;
    }
    free(piece);
    free(wanted);
    return NULL;
}

static void both_directions_flow_at_once(void **state)
{
    struct fixture *f = *state;
    struct server s;
    struct far_bstream *dialer;
    struct far_error err;
    assert_int_equal(connect_both(f, f->three, node_4, &s, &dialer, &err), 0);
    struct half halves[4] = {{.stream = dialer, .salt = 1}, {.stream = s.stream, .salt = 2},
                             {.stream = s.stream, .salt = 1}, {.stream = dialer, .salt = 2}};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&halves[i].thread, NULL, i < 2 ? write_all : read_all, &halves[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(halves[i].thread, NULL);
        assert_int_equal(halves[i].rc, 0);
        assert_true(i < 2 || halves[i].equal);
    }
    assert_int_equal(far_bstream_bytes_sent(dialer), far_bstream_bytes_received(s.stream));
    assert_in_range(far_bstream_round_trip_us(dialer), 1, UINT32_MAX - 1); /* known */
    far_bstream_free(dialer);
    far_bstream_free(s.stream);
}

static void a_change_of_key_goes_unnoticed(void **state)
{
    struct fixture *f = *state;
    struct server s;
    struct far_bstream *dialer;
    struct far_error err;
    assert_int_equal(connect_both(f, f->three, node_4, &s, &dialer, &err), 0);
    dialer->sealed.number = s.stream->opened.number = FAR_RECORDS_PER_KEY; /* so many later */
    char text[6];
    assert_int_equal(far_bstream_write(dialer, "hello", 6, 1000, &err), 0);
    assert_int_equal(far_bstream_read(s.stream, text, 6, 1000, &err), 0);
    assert_string_equal(text, "hello");
    assert_int_equal(dialer->sealed.number, 1);
    assert_int_equal(s.stream->opened.number, 1);
    far_bstream_free(dialer);
    far_bstream_free(s.stream);
}

static void what_is_added_goes_out_with_the_flush_or_the_next_write(void **state)
{
    struct fixture *f = *state;
    struct server s;
    struct far_bstream *dialer;
    struct far_error err;
    const struct far_slice parts[] = {far_slice("ab", 2), far_slice("cd", 2)};
    char text[8] = "";
    assert_int_equal(connect_both(f, f->three, node_4, &s, &dialer, &err), 0);
    assert_false(far_bstream_has_added(dialer));
    assert_int_equal(far_bstream_flush(dialer, 1000, &err), 0);
    assert_int_equal(far_bstream_add(dialer, parts, 2, 1000, &err), 0);
    assert_true(far_bstream_has_added(dialer));
    assert_int_equal(far_bstream_flush(dialer, 1000, &err), 0);
    assert_false(far_bstream_has_added(dialer));
    assert_int_equal(far_bstream_read(s.stream, text, 4, 1000, &err), 0);
    assert_string_equal(text, "abcd");
    assert_int_equal(far_bstream_add(dialer, parts, 1, 1000, &err), 0);
    assert_int_equal(far_bstream_write(dialer, "efg", 4, 1000, &err), 0);
    assert_int_equal(far_bstream_read(s.stream, text, 6, 1000, &err), 0);
    assert_string_equal(text, "abefg");
    far_bstream_free(dialer);
    far_bstream_free(s.stream);
}

static void *shut_down(void *arg)
{
    far_bstream_shutdown(arg);
    return NULL;
}

static void waiting_ends_by_timeout_shutdown_or_the_other_side(void **state)
{
    static uint8_t piece[PIECE];
    struct fixture *f = *state;
    struct server s;
    struct far_bstream *dialer;
    struct far_error err;
    char byte;
    assert_int_equal(connect_both(f, f->three, node_4, &s, &dialer, &err), 0);
    assert_int_equal(far_bstream_read(dialer, &byte, 1, 20, &err), FAR_TIMEOUT);
    int rc = 0;
    for (int i = 0; i < 100 && rc == 0; i++) { /* nobody reads */
        rc = far_bstream_write(dialer, piece, sizeof piece, 20, &err);
    }
    assert_int_equal(rc, FAR_TIMEOUT);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, shut_down, dialer), 0);
    assert_int_equal(far_bstream_read(dialer, &byte, 1, 10000, &err), FAR_CANCELED);
    pthread_join(thread, NULL);
    far_bstream_free(dialer);
    while ((rc = far_bstream_read(s.stream, piece, sizeof piece, 5000, &err)) == 0) {
    }
    assert_int_equal(rc, FAR_IO);
    far_bstream_free(s.stream);
}

/* ---- libssl on the other side ---- */

/* A connection that libssl dialed as node 3, welcomed; s has the accepting side. */
static SSL *dial_with_libssl(struct fixture *f, const char *suite, struct server *s)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    in.sin_port = htons((uint16_t)atoi(strrchr(far_blistener_address(f->listener), ':') + 1));
    uint8_t bytes[FAR_GREETING_BYTES];
    struct far_greeting answer, self = far_tls_greeting(f->three, node_4, FAR_PURPOSE_DATA);
    struct far_error err;
    memset(s, 0, sizeof *s);
    s->f = f;
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    SSL *ssl = far_tls_new(f->three, true);
    assert_int_equal(SSL_set_ciphersuites(ssl, suite), 1);
    assert_int_equal(SSL_set_fd(ssl, fd), 1);
    assert_int_equal(SSL_connect(ssl), 1);
    far_greeting_encode(&self, bytes);
    assert_int_equal(SSL_write(ssl, bytes, sizeof bytes), sizeof bytes);
    assert_int_equal(SSL_read(ssl, bytes, sizeof bytes), sizeof bytes);
    assert_int_equal(far_greeting_decode(bytes, &answer, &err), 0);
    assert_int_equal(answer.verdict, FAR_VERDICT_WELCOME);
    pthread_join(s->thread, NULL);
    assert_int_equal(s->rc, 0);
    return ssl;
}

static void end_libssl(SSL *ssl, struct server *s)
{
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
    far_bstream_free(s->stream);
}

struct echo {
    struct far_bstream *stream;
    size_t len;
    int rc;
};

static void *echo(void *arg)
{
    struct echo *e = arg;
    struct far_error err;
    uint8_t *piece = malloc(e->len);
    e->rc = far_bstream_read(e->stream, piece, e->len, 5000, &err);
    e->rc = e->rc == 0 ? far_bstream_write(e->stream, piece, e->len, 5000, &err) : e->rc;
    free(piece);
    return NULL;
}

/* What libssl wrote comes back to it as it was. */
static void echoed(SSL *ssl, struct far_bstream *stream, const uint8_t *piece, uint8_t *back, size_t len)
{
    struct echo e = {.stream = stream, .len = len};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, echo, &e), 0);
    for (size_t done = 0, n; done < len; done += n) {
        assert_int_equal(SSL_write_ex(ssl, piece + done, len - done, &n), 1);
    }
    for (size_t done = 0, n; done < len; done += n) {
        assert_int_equal(SSL_read_ex(ssl, back + done, len - done, &n), 1);
    }
    pthread_join(thread, NULL);
    assert_int_equal(e.rc, 0);
    assert_memory_equal(back, piece, len);
}

static void records_are_those_of_libssl_in_every_suite(void **state)
{
    static const char *const suites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                         "TLS_CHACHA20_POLY1305_SHA256"};
    static const size_t lengths[] = {1, 15, 16, 17, 16383, 16384, 16385, 100001, PIECE - 7919};
    static uint8_t piece[PIECE], back[PIECE];
    struct fixture *f = *state;
    struct server s;
    fill(piece, 1, 7);
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++) {
        SSL *ssl = dial_with_libssl(f, suites[i], &s);
        for (size_t k = 0; k < sizeof lengths / sizeof lengths[0]; k++) {
            echoed(ssl, s.stream, piece, back, lengths[k]);
            SSL_set_block_padding(ssl, k % 3 == 1 ? 512 : 1); /* 1: none */
            if (k % 2 == 1) { /* both change their keys */
                assert_int_equal(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED), 1);
            }
        }
        end_libssl(ssl, &s);
    }
}

static void what_libssl_says_beside_data_ends_the_stream_cleanly(void **state)
{
    struct fixture *f = *state;
    struct server s;
    struct far_error err;
    uint8_t byte;
    SSL *ssl = dial_with_libssl(f, "TLS_AES_128_GCM_SHA256", &s);
    assert_int_equal(SSL_shutdown(ssl), 0);
    assert_int_equal(far_bstream_read(s.stream, &byte, 1, 5000, &err), FAR_IO);
    assert_non_null(strstr(err.message, "closed by the other side"));
    end_libssl(ssl, &s);
}

/* The next record that libssl writes, changed at `at` and written to the socket of s. */
static void write_damaged(SSL *ssl, size_t at, uint8_t change)
{
    uint8_t record[200];
    int fd = SSL_get_fd(ssl);
    BIO *memory = BIO_new(BIO_s_mem());
    BIO_up_ref(SSL_get_wbio(ssl));
    BIO *socket_bio = SSL_get_wbio(ssl);
    SSL_set0_wbio(ssl, memory);
    assert_int_equal(SSL_write(ssl, "hello", 6), 6);
    assert_int_equal(BIO_read(memory, record, sizeof record), 6 + FAR_RECORD_ADDED);
    SSL_set0_wbio(ssl, socket_bio);
    record[at] ^= change;
    assert_int_equal(write(fd, record, 6 + FAR_RECORD_ADDED), 6 + FAR_RECORD_ADDED);
}

static void a_record_that_was_changed_or_missed_is_refused(void **state)
{
    static const size_t places[] = {0, 1, 2, FAR_RECORD_HEAD, FAR_RECORD_HEAD + 6, 6 + FAR_RECORD_ADDED - 1};
    struct fixture *f = *state;
    struct server s;
    struct far_error err;
    char text[6];
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        SSL *ssl = dial_with_libssl(f, "TLS_AES_128_GCM_SHA256", &s);
        write_damaged(ssl, 0, 0);
        assert_int_equal(far_bstream_read(s.stream, text, 6, 5000, &err), 0);
        assert_string_equal(text, "hello");
        write_damaged(ssl, places[i], 0x40);
        assert_int_equal(far_bstream_read(s.stream, text, 6, 5000, &err), FAR_IO);
        end_libssl(ssl, &s);
    }
    SSL *ssl = dial_with_libssl(f, "TLS_AES_128_GCM_SHA256", &s);
    s.stream->opened.number = 5; /* as if records before it had been dropped */
    write_damaged(ssl, 0, 0);
    assert_int_equal(far_bstream_read(s.stream, text, 6, 5000, &err), FAR_IO);
    end_libssl(ssl, &s);
}

/* Every length up to some strides, then some up to a record; both keys, both ways against libcrypto. */
static void wide_gcm_is_that_of_libcrypto(void **state)
{
    static uint8_t plain[FAR_RECORD_PLAIN_MAX + 1], sealed[FAR_RECORD_PLAIN_MAX + 17], wanted[FAR_RECORD_PLAIN_MAX + 17],
        back[FAR_RECORD_PLAIN_MAX + 1];
    uint8_t key[32] = {0}, nonce[FAR_GCM_NONCE], head[FAR_GCM_HEAD], last;
    int n;
    if (!far_gcm_wide_can()) { /* without the library or the processor for it: there is no such key */
        assert_null(far_gcm_wide_new(key, 16));
        assert_false(far_gcm_wide_pays());
        return;
    }
    srand(20261120);
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    for (size_t round = 0; round < 2000; round++) {
        size_t len = round <= 1601 ? round / 2 : round <= 1605 ? FAR_RECORD_PLAIN_MAX - (round - 1602) / 2
                                                         : (size_t)rand() % FAR_RECORD_PLAIN_MAX;
        size_t key_len = round % 2 == 0 ? 16 : 32;
        for (size_t i = 0; i < sizeof key; i++) {
            key[i] = (uint8_t)rand();
            nonce[i % sizeof nonce] = (uint8_t)rand();
            head[i % sizeof head] = (uint8_t)rand();
        }
        for (size_t i = 0; i <= len; i++) {
            plain[i] = (uint8_t)(rand() >> 3);
        }
        const EVP_CIPHER *of = key_len == 16 ? EVP_aes_128_gcm() : EVP_aes_256_gcm();
        assert_int_equal(EVP_EncryptInit_ex(cipher, of, NULL, key, nonce), 1);
        assert_int_equal(EVP_EncryptUpdate(cipher, NULL, &n, head, sizeof head), 1);
        assert_int_equal(EVP_EncryptUpdate(cipher, wanted, &n, plain, (int)len + 1), 1);
        assert_int_equal(EVP_EncryptFinal_ex(cipher, wanted + len + 1, &n), 1);
        assert_int_equal(EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, FAR_GCM_TAG, wanted + len + 1), 1);
        struct far_gcm_wide *gcm = far_gcm_wide_new(key, key_len);
        far_gcm_wide_seal(gcm, nonce, head, plain, len, plain[len], sealed);
        assert_memory_equal(sealed, wanted, len + 1 + FAR_GCM_TAG);
        assert_true(far_gcm_wide_open(gcm, nonce, head, sealed, len, back, &last));
        assert_memory_equal(back, plain, len);
        assert_int_equal(last, plain[len]);
        sealed[(size_t)rand() % (len + 1 + FAR_GCM_TAG)] ^= (uint8_t)(1 << rand() % 8);
        assert_false(far_gcm_wide_open(gcm, nonce, head, sealed, len, back, &last));
        far_gcm_wide_free(gcm);
    }
    EVP_CIPHER_CTX_free(cipher);
}

static void *shut_listener(void *arg)
{
    far_blistener_shutdown(arg);
    return NULL;
}

static void accept_ends_when_the_listener_is_shut_down(void **state)
{
    struct fixture *f = *state;
    struct far_error err;
    struct far_blistener *listener;
    struct far_bstream *stream = NULL;
    pthread_t thread;
    assert_int_equal(far_blistener_new(f->four, "127.0.0.1:0", &listener, &err), 0);
    assert_int_equal(pthread_create(&thread, NULL, shut_listener, listener), 0);
    assert_int_equal(far_blistener_accept(listener, &stream, &err), FAR_CANCELED);
    pthread_join(thread, NULL);
    assert_int_equal(far_bstream_dial(f->three, "127.0.0.1:1", node_4, 1000, &stream, &err), FAR_IO);
    far_blistener_free(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_dialed_node_of_this_incarnation_is_greeted),
        cmocka_unit_test(both_directions_flow_at_once),
        cmocka_unit_test(a_change_of_key_goes_unnoticed),
        cmocka_unit_test(what_is_added_goes_out_with_the_flush_or_the_next_write),
        cmocka_unit_test(waiting_ends_by_timeout_shutdown_or_the_other_side),
        cmocka_unit_test(records_are_those_of_libssl_in_every_suite),
        cmocka_unit_test(what_libssl_says_beside_data_ends_the_stream_cleanly),
        cmocka_unit_test(a_record_that_was_changed_or_missed_is_refused),
        cmocka_unit_test(wide_gcm_is_that_of_libcrypto),
        cmocka_unit_test(accept_ends_when_the_listener_is_shut_down),
    };
    return cmocka_run_group_tests_name("net_blocking", tests, set_up, tear_down);
}
