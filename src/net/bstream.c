/* Blocking streams for the worker threads of the data plane: see net.h.
 *
 * The socket never blocks; threads wait in poll(2), each direction on its own, and hold the mutex only while TLS turns bytes
 * into records or back. So reading and writing go on at once although the TLS state is not made for two threads. Records are
 * gathered and sent as up to OUT_BYTES at a time.
 *
 * Ciphertext to go is appended to `out` under the mutex (also by alerts that reading causes); the writer swaps it with
 * `sending` and sends that without the mutex. Ciphertext that came is in `in`, filled by the reader alone. After 64 GiB
 * the sender changes its key, well inside what AES-GCM allows (RFC 8446, section 5.5). */
#include "net/address.h"
#include "net/bstream_private.h"

#include "base/clock.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    IN_BYTES = 256 * 1024,
    OUT_BYTES = 256 * 1024,            /* plain bytes turned into records before they are sent */
    OUT_ROOM = OUT_BYTES + 64 * 1024,  /* with headers, tags, and an alert */
};
static const uint64_t key_bytes_max = 64ull * 1024 * 1024 * 1024;

/* ---- the two ends of the TLS state: a BIO on our buffers ---- */

static int bio_read(BIO *bio, char *data, int len)
{
    struct far_bstream *stream = BIO_get_data(bio);
    size_t there = stream->in_end - stream->in_start;
    BIO_clear_retry_flags(bio);
    if (there == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t n = (size_t)len < there ? (size_t)len : there;
    memcpy(data, stream->in + stream->in_start, n);
    stream->in_start += n;
    return (int)n;
}

static int bio_write(BIO *bio, const char *data, int len)
{
    struct far_bstream *stream = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    return far_buf_append(&stream->out, data, (size_t)len) == 0 ? len : -1;
}

static long bio_ctrl(BIO *bio, int command, long num, void *ptr)
{
    return command == BIO_CTRL_FLUSH || command == BIO_CTRL_PUSH || command == BIO_CTRL_POP;
}

static BIO_METHOD *bio_method;

static void make_bio_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "farshore bstream");
    if (method != NULL && BIO_meth_set_read(method, bio_read) == 1 && BIO_meth_set_write(method, bio_write) == 1 &&
        BIO_meth_set_ctrl(method, bio_ctrl) == 1) {
        bio_method = method; /* lives as long as the process */
    } else {
        BIO_meth_free(method);
    }
}

static SSL *new_tls(struct far_bstream *stream, struct far_net *net, bool is_dialer)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_bio_method);
    SSL *ssl = bio_method == NULL ? NULL : far_tls_new(net, is_dialer);
    BIO *bio = ssl == NULL ? NULL : BIO_new(bio_method);
    if (bio == NULL) {
        SSL_free(ssl);
        ERR_clear_error();
        return NULL;
    }
    BIO_set_data(bio, stream);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_clear_mode(ssl, SSL_MODE_RELEASE_BUFFERS); /* few streams, much traffic */
    return ssl;
}

struct far_bstream *far_bstream_new(struct far_net *net, int fd, bool is_dialer)
{
    struct far_bstream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        return NULL;
    }
    pthread_mutex_init(&stream->mutex, NULL);
    stream->net = net;
    stream->fd = fd;
    stream->is_dialer = is_dialer;
    far_buf_init(&stream->out, OUT_ROOM);
    far_buf_init(&stream->sending, OUT_ROOM);
    stream->in = malloc(IN_BYTES);
    stream->ssl = new_tls(stream, net, is_dialer);
    if (stream->in == NULL || stream->ssl == NULL) {
        stream->fd = -1; /* stays the caller's */
        far_bstream_free(stream);
        return NULL;
    }
    return stream;
}

void far_bstream_free(struct far_bstream *stream)
{
    if (stream == NULL) {
        return;
    }
    SSL_free(stream->ssl);
    far_buf_done(&stream->out);
    far_buf_done(&stream->sending);
    free(stream->in);
    if (stream->fd >= 0) {
        close(stream->fd);
    }
    pthread_mutex_destroy(&stream->mutex);
    free(stream);
}

void far_bstream_shutdown(struct far_bstream *stream)
{
    atomic_store(&stream->is_shut, true);
    shutdown(stream->fd, SHUT_RDWR); /* wakes both polls */
}

uint64_t far_bstream_bytes_sent(const struct far_bstream *stream)
{
    return atomic_load(&stream->bytes_sent);
}

uint64_t far_bstream_bytes_received(const struct far_bstream *stream)
{
    return atomic_load(&stream->bytes_received);
}

/* ---- the socket ---- */

static int fail_socket(struct far_bstream *stream, int sys_errno, const char *what, struct far_error *err)
{
    if (atomic_load(&stream->is_shut)) {
        return far_fail(err, FAR_CANCELED, "the stream was shut down");
    }
    return far_fail_errno(err, FAR_IO, sys_errno, "%s", what);
}

static int wait_for(struct far_bstream *stream, short events, uint64_t idle_ms, struct far_error *err)
{
    struct pollfd poller = {.fd = stream->fd, .events = events};
    uint64_t deadline_ms = far_clock_monotonic_ms() + idle_ms;
    for (;;) {
        uint64_t now_ms = far_clock_monotonic_ms();
        uint64_t rest_ms = now_ms < deadline_ms ? deadline_ms - now_ms : 0;
        int n = poll(&poller, 1, rest_ms > 60000 ? 60000 : (int)rest_ms);
        if (atomic_load(&stream->is_shut)) {
            return far_fail(err, FAR_CANCELED, "the stream was shut down");
        }
        if (n > 0) {
            return 0;
        }
        if (n < 0 && errno != EINTR) {
            return far_fail_errno(err, FAR_IO, errno, "wait for the network");
        }
        if (n == 0 && now_ms >= deadline_ms) {
            return far_fail(err, FAR_TIMEOUT, "nothing moved for %llu ms", (unsigned long long)idle_ms);
        }
    }
}

static int send_all(struct far_bstream *stream, const uint8_t *data, size_t len, uint64_t idle_ms,
                    struct far_error *err)
{
    while (len > 0) {
        ssize_t n = send(stream->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            data += n;
            len -= (size_t)n;
            continue;
        }
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
            return fail_socket(stream, errno, "send", err);
        }
        int rc = wait_for(stream, POLLOUT, idle_ms, err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* Fills `in`, which is empty, with what has come; waits for something. */
static int receive_some(struct far_bstream *stream, uint64_t idle_ms, struct far_error *err)
{
    for (;;) {
        ssize_t n = recv(stream->fd, stream->in, IN_BYTES, MSG_DONTWAIT);
        if (n > 0) {
            stream->in_start = 0;
            stream->in_end = (size_t)n;
            return 0;
        }
        if (n == 0) {
            return atomic_load(&stream->is_shut) ? far_fail(err, FAR_CANCELED, "the stream was shut down")
                                                 : far_fail(err, FAR_IO, "closed by the other side");
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
            return fail_socket(stream, errno, "receive", err);
        }
        int rc = wait_for(stream, POLLIN, idle_ms, err);
        if (rc != 0) {
            return rc;
        }
    }
}

/* Sends what is in `out`. Only the writer, or the one thread of a handshake. */
static int send_out(struct far_bstream *stream, uint64_t idle_ms, struct far_error *err)
{
    pthread_mutex_lock(&stream->mutex);
    struct far_buf full = stream->out;
    stream->out = stream->sending;
    stream->sending = full;
    pthread_mutex_unlock(&stream->mutex);
    int rc = send_all(stream, stream->sending.data, stream->sending.len, idle_ms, err);
    far_buf_reset(&stream->sending);
    return rc;
}

/* ---- reading and writing ---- */

/* Decrypts what is in `in`; 0 bytes: more must come. */
static int decrypt(struct far_bstream *stream, uint8_t *data, size_t len, size_t *ret_len, struct far_error *err)
{
    int rc = 0;
    size_t done = 0;
    pthread_mutex_lock(&stream->mutex);
    while (rc == 0 && done < len) {
        size_t n = 0;
        ERR_clear_error();
        if (SSL_read_ex(stream->ssl, data + done, len - done, &n) == 1) {
            done += n;
            continue;
        }
        int why = SSL_get_error(stream->ssl, 0);
        if (why == SSL_ERROR_WANT_READ) {
            break;
        }
        rc = why == SSL_ERROR_ZERO_RETURN ? far_fail(err, FAR_IO, "closed by the other side")
                                          : far_tls_fail(stream->ssl, err);
    }
    pthread_mutex_unlock(&stream->mutex);
    *ret_len = done;
    return rc;
}

int far_bstream_read(struct far_bstream *stream, void *data, size_t length, uint64_t idle_ms, struct far_error *err)
{
    uint8_t *at = data;
    while (length > 0) {
        size_t n = 0;
        int rc = decrypt(stream, at, length, &n, err);
        at += n;
        length -= n;
        atomic_fetch_add(&stream->bytes_received, n);
        if (rc == 0 && length > 0) {
            rc = receive_some(stream, idle_ms, err);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* Turns up to OUT_BYTES into records. */
static int encrypt(struct far_bstream *stream, const uint8_t *data, size_t len, struct far_error *err)
{
    int rc = 0;
    pthread_mutex_lock(&stream->mutex);
    stream->key_bytes += len;
    if (stream->key_bytes > key_bytes_max) {
        stream->key_bytes = len;
        SSL_key_update(stream->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
    }
    while (rc == 0 && len > 0) {
        size_t n = 0;
        ERR_clear_error();
        if (SSL_write_ex(stream->ssl, data, len, &n) == 1) {
            data += n;
            len -= n;
        } else {
            rc = far_tls_fail(stream->ssl, err);
        }
    }
    pthread_mutex_unlock(&stream->mutex);
    return rc;
}

int far_bstream_write(struct far_bstream *stream, const void *data, size_t length, uint64_t idle_ms,
                      struct far_error *err)
{
    const uint8_t *at = data;
    while (length > 0) {
        size_t n = length < OUT_BYTES ? length : OUT_BYTES;
        int rc = encrypt(stream, at, n, err);
        if (rc == 0) {
            rc = send_out(stream, idle_ms, err);
        }
        if (rc != 0) {
            return rc;
        }
        atomic_fetch_add(&stream->bytes_sent, n);
        at += n;
        length -= n;
    }
    return 0;
}

/* ---- handshake and greeting ---- */

static uint64_t rest_until(uint64_t deadline_ms)
{
    uint64_t now_ms = far_clock_monotonic_ms();
    return now_ms < deadline_ms ? deadline_ms - now_ms : 0;
}

static int shake_hands(struct far_bstream *stream, uint64_t deadline_ms, struct far_error *err)
{
    for (;;) {
        ERR_clear_error();
        int done = SSL_do_handshake(stream->ssl);
        bool wants_more = done != 1 && SSL_get_error(stream->ssl, done) == SSL_ERROR_WANT_READ;
        struct far_error why;
        int rc = done == 1 || wants_more ? 0 : far_tls_fail(stream->ssl, &why);
        int sent = send_out(stream, rest_until(deadline_ms), err); /* an alert, too */
        if (rc != 0) {
            return far_fail(err, rc, "%s", why.message);
        }
        if (sent != 0 || done == 1) {
            return sent;
        }
        rc = receive_some(stream, rest_until(deadline_ms), err);
        if (rc != 0) {
            return rc;
        }
    }
}

static int exchange(struct far_bstream *stream, const struct far_greeting *send, struct far_greeting *receive,
                    uint64_t deadline_ms, struct far_error *err)
{
    uint8_t bytes[FAR_GREETING_BYTES];
    int rc = 0;
    if (send != NULL) {
        far_greeting_encode(send, bytes);
        rc = far_bstream_write(stream, bytes, sizeof bytes, rest_until(deadline_ms), err);
    }
    if (rc == 0 && receive != NULL) {
        rc = far_bstream_read(stream, bytes, sizeof bytes, rest_until(deadline_ms), err);
        rc = rc != 0 ? rc : far_greeting_decode(bytes, receive, err);
    }
    return rc;
}

static int greet_as_dialer(struct far_bstream *stream, struct far_peer to, struct far_peer certificate,
                           uint64_t deadline_ms, struct far_error *err)
{
    struct far_greeting theirs;
    struct far_greeting self = far_tls_greeting(stream->net, to, FAR_PURPOSE_DATA);
    int rc = far_tls_check_dialed(certificate, to, err);
    if (rc == 0) {
        rc = exchange(stream, &self, &theirs, deadline_ms, err);
    }
    return rc != 0 ? rc : far_greeting_check_answer(&self, &theirs, certificate, err);
}

static int greet_as_listener(struct far_bstream *stream, struct far_peer certificate, uint64_t deadline_ms,
                             struct far_error *err)
{
    struct far_greeting theirs;
    int rc = exchange(stream, NULL, &theirs, deadline_ms, err);
    if (rc != 0) {
        return rc;
    }
    struct far_greeting self = far_tls_greeting(stream->net, certificate, theirs.purpose);
    self.verdict = far_greeting_judge(&self, &theirs, certificate);
    if (self.verdict == FAR_VERDICT_WELCOME && theirs.purpose != FAR_PURPOSE_DATA) {
        self.verdict = FAR_VERDICT_OTHER_PURPOSE;
    }
    rc = exchange(stream, &self, NULL, deadline_ms, err);
    if (rc == 0 && self.verdict != FAR_VERDICT_WELCOME) {
        rc = far_greeting_refused(self.verdict, false, certificate, err);
    }
    return rc;
}

static void forget_greeting_bytes(struct far_bstream *stream)
{
    atomic_store(&stream->bytes_sent, 0);
    atomic_store(&stream->bytes_received, 0);
}

static int handshake(struct far_bstream *stream, struct far_peer to, uint64_t timeout_ms, struct far_peer *ret_peer,
                     struct far_error *err)
{
    struct far_peer certificate;
    uint64_t deadline_ms = far_clock_monotonic_ms() + timeout_ms;
    far_tls_socket_options(stream->fd);
    int rc = shake_hands(stream, deadline_ms, err);
    if (rc == 0) {
        rc = far_tls_peer(stream->ssl, &certificate, stream->fingerprint, err);
    }
    if (rc == 0) {
        rc = stream->is_dialer ? greet_as_dialer(stream, to, certificate, deadline_ms, err)
                               : greet_as_listener(stream, certificate, deadline_ms, err);
    }
    if (rc == 0) {
        forget_greeting_bytes(stream);
        *ret_peer = certificate;
    }
    return rc;
}

int far_bstream_handshake(struct far_bstream *stream, uint64_t timeout_ms, struct far_peer *ret_peer,
                          struct far_error *err)
{
    return handshake(stream, (struct far_peer){0}, timeout_ms, ret_peer, err);
}

const uint8_t *far_bstream_fingerprint(const struct far_bstream *stream)
{
    return stream->fingerprint;
}

/* ---- dialing ---- */

static int finish_connect(int fd, uint64_t deadline_ms)
{
    struct pollfd poller = {.fd = fd, .events = POLLOUT};
    for (;;) {
        uint64_t rest_ms = rest_until(deadline_ms);
        int n = poll(&poller, 1, rest_ms > 60000 ? 60000 : (int)rest_ms);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno;
        }
        if (n == 0 && rest_ms == 0) {
            return ETIMEDOUT;
        }
        if (n > 0) {
            int error = 0;
            socklen_t len = sizeof error;
            return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 ? errno : error;
        }
    }
}

/* A connected socket, or -1 with *ret_errno. */
static int connect_one(const struct addrinfo *ai, uint64_t deadline_ms, int *ret_errno)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        *ret_errno = errno;
        return -1;
    }
    int error = connect(fd, ai->ai_addr, ai->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
        error = finish_connect(fd, deadline_ms);
    }
    if (error != 0) {
        close(fd);
        *ret_errno = error;
        return -1;
    }
    return fd;
}

static int connect_any(const char *address, uint64_t deadline_ms, int *ret_fd, struct far_error *err)
{
    struct far_address parsed;
    struct addrinfo *list = NULL;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    int rc = far_address_parse(address, &parsed, err);
    if (rc != 0) {
        return rc;
    }
    rc = getaddrinfo(parsed.host, parsed.port, &hints, &list);
    if (rc != 0) {
        return far_fail(err, FAR_IO, "look up '%s': %s", parsed.host, gai_strerror(rc));
    }
    int fd = -1;
    int error = 0;
    for (struct addrinfo *ai = list; ai != NULL && fd < 0; ai = ai->ai_next) {
        fd = connect_one(ai, deadline_ms, &error);
    }
    freeaddrinfo(list);
    if (fd < 0) {
        return far_fail_errno(err, error == ETIMEDOUT ? FAR_TIMEOUT : FAR_IO, error, "connect to %s", address);
    }
    *ret_fd = fd;
    return 0;
}

int far_bstream_dial(struct far_net *net, const char *address, struct far_peer to, uint64_t timeout_ms,
                     struct far_bstream **ret_stream, struct far_error *err)
{
    int fd = -1;
    struct far_peer peer;
    uint64_t deadline_ms = far_clock_monotonic_ms() + timeout_ms;
    int rc = connect_any(address, deadline_ms, &fd, err);
    if (rc != 0) {
        return rc;
    }
    struct far_bstream *stream = far_bstream_new(net, fd, true);
    if (stream == NULL) {
        close(fd);
        return far_fail(err, FAR_LIMIT, "no memory for a connection");
    }
    rc = handshake(stream, to, rest_until(deadline_ms), &peer, err);
    if (rc != 0) {
        far_bstream_free(stream);
        return rc;
    }
    *ret_stream = stream;
    return 0;
}
