/* Blocking streams for the worker threads of the data plane: see net.h.
 *
 * The socket never blocks; threads wait in poll(2), each direction on its own. libssl shakes hands over `in` and `out`;
 * then the records of each direction are made and opened here (records.h), each by its one thread, without a lock: sealed
 * from the caller's bytes into `out`, up to OUT_BYTES of them before they are sent, and opened from `in` to where the
 * caller wants them. A reader that asks for much is woken when much has come. After FAR_RECORDS_PER_KEY records the
 * sender changes its key. */
#include "net/bstream_private.h"

#include "base/clock.h"
#include "net/round_trip.h"

#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    IN_BYTES = 256 * 1024,
    OUT_RECORDS = 16, /* sent at once, and a small one */
    OUT_BYTES = (OUT_RECORDS + 1) * (FAR_RECORD_PLAIN_MAX + FAR_RECORD_ADDED),
    GATHER_MIN = 32 * 1024,   /* a reader that wants less is woken at once, */
    GATHER_MAX = 512 * 1024,  /* one that wants much more once for so many, */
    GATHER_MS = 20,           /* but it waits no longer for them */
    KEY_UPDATE = 24,          /* RFC 8446, section 4.6.3 */
    ALERT_CLOSE = 0,
};

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
    if ((size_t)len > OUT_BYTES - stream->out_len) {
        return -1;
    }
    memcpy(stream->out + stream->out_len, data, (size_t)len);
    stream->out_len += (size_t)len;
    return len;
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
    SSL_set_app_data(ssl, &stream->secrets);
    return ssl;
}

struct far_bstream *far_bstream_new(struct far_net *net, int fd, bool is_dialer)
{
    struct far_bstream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        return NULL;
    }
    stream->net = net;
    stream->fd = fd;
    stream->is_dialer = is_dialer;
    stream->in = malloc(IN_BYTES);
    stream->out = malloc(OUT_BYTES);
    stream->plain = malloc(FAR_RECORD_BODY_MAX);
    stream->ssl = new_tls(stream, net, is_dialer);
    if (stream->in == NULL || stream->out == NULL || stream->plain == NULL || stream->ssl == NULL) {
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
    far_records_done(&stream->sealed);
    far_records_done(&stream->opened);
    OPENSSL_cleanse(&stream->secrets, sizeof stream->secrets);
    free(stream->in);
    free(stream->out);
    free(stream->plain);
    if (stream->fd >= 0) {
        close(stream->fd);
    }
    free(stream);
}

void far_bstream_shutdown(struct far_bstream *stream)
{
    atomic_store(&stream->is_shut, true);
    shutdown(stream->fd, SHUT_RDWR); /* wakes both polls */
}

uint32_t far_bstream_round_trip_us(const struct far_bstream *stream)
{
    return far_round_trip_us(stream->fd);
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

/* The reader is woken when so many bytes have come; 1: at once. Only a hint: where it fails it is woken more often. */
static void gather(struct far_bstream *stream, int bytes)
{
    if (stream->gathers != bytes && setsockopt(stream->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes) == 0) {
        stream->gathers = bytes;
    }
}

/* Waits until something can be received; where much is sure to come, until much of it is there or a moment has passed:
 * each wake-up costs a switch of threads. */
static int wait_to_receive(struct far_bstream *stream, size_t wanted, uint64_t idle_ms, struct far_error *err)
{
    struct pollfd poller = {.fd = stream->fd, .events = POLLIN};
    gather(stream, wanted < GATHER_MIN ? 1 : wanted < GATHER_MAX ? (int)wanted : GATHER_MAX);
    if (stream->gathers > 1 && poll(&poller, 1, idle_ms < GATHER_MS ? (int)idle_ms : GATHER_MS) == 0) {
        gather(stream, 1);
    }
    return wait_for(stream, POLLIN, idle_ms, err);
}

/* Receives behind what is in `in`; waits for something. wanted: so many bytes at least are still to come. */
static int receive_some(struct far_bstream *stream, size_t wanted, uint64_t idle_ms, struct far_error *err)
{
    stream->in_end -= stream->in_start;
    memmove(stream->in, stream->in + stream->in_start, stream->in_end);
    stream->in_start = 0;
    for (;;) {
        ssize_t n = recv(stream->fd, stream->in + stream->in_end, IN_BYTES - stream->in_end, MSG_DONTWAIT);
        if (n > 0) {
            stream->in_end += (size_t)n;
            return 0;
        }
        if (n == 0) {
            return atomic_load(&stream->is_shut) ? far_fail(err, FAR_CANCELED, "the stream was shut down")
                                                 : far_fail(err, FAR_IO, "closed by the other side");
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
            return fail_socket(stream, errno, "receive", err);
        }
        int rc = wait_to_receive(stream, wanted, idle_ms, err);
        if (rc != 0) {
            return rc;
        }
    }
}

/* Sends what is in `out`. Only the writer, or the one thread of a handshake. */
static int send_out(struct far_bstream *stream, uint64_t idle_ms, struct far_error *err)
{
    int rc = send_all(stream, stream->out, stream->out_len, idle_ms, err);
    stream->out_len = 0;
    return rc;
}

/* ---- reading ---- */

/* What the other side says in a record that is no data; `plain` holds its bytes. */
static int take_message(struct far_bstream *stream, uint8_t type, size_t len, struct far_error *err)
{
    const uint8_t *message = stream->plain;
    if (type == FAR_RECORD_ALERT && len == 2) {
        return message[1] == ALERT_CLOSE ? far_fail(err, FAR_IO, "closed by the other side")
                                         : far_fail(err, FAR_DENIED, "the other side refused us: %s",
                                                    SSL_alert_desc_string_long(message[1]));
    }
    if (type == FAR_RECORD_HANDSHAKE && len == 5 && memcmp(message, "\x18\0\0\1", 4) == 0 && message[4] <= 1) {
        if (message[4] == 1) {
            atomic_store(&stream->key_asked, true);
        }
        return far_records_next_key(&stream->opened, err);
    }
    return far_fail(err, FAR_IO, "TLS: a message that does not belong here");
}

/* A record of any type and padding, opened into `plain` but for its last byte. */
static int take_record(struct far_bstream *stream, size_t len, uint8_t last, struct far_error *err)
{
    stream->plain[len++] = last;
    while (len > 0 && stream->plain[len - 1] == 0) {
        len--; /* RFC 8446, section 5.4 */
    }
    uint8_t type = len > 0 ? stream->plain[--len] : 0;
    if (type != FAR_RECORD_DATA) {
        return take_message(stream, type, len, err);
    }
    stream->plain_start = 0;
    stream->plain_end = len;
    return 0;
}

/* Opens the next record of `in`, straight to `data` where it is data and there is room for all of it. *ret_len: bytes
 * in `data`; *ret_more: the record is not whole yet. */
static int open_record(struct far_bstream *stream, uint8_t *data, size_t room, size_t *ret_len, bool *ret_more,
                       struct far_error *err)
{
    const uint8_t *record = stream->in + stream->in_start;
    size_t there = stream->in_end - stream->in_start;
    size_t length = there >= FAR_RECORD_HEAD ? far_record_length(record) : FAR_RECORD_HEAD + 1;
    if (length == 0) {
        return far_fail(err, FAR_IO, "TLS: something that is no record");
    }
    *ret_more = there < length;
    if (*ret_more) {
        return 0;
    }
    size_t len = length - FAR_RECORD_ADDED;
    uint8_t last, *to = len <= room ? data : stream->plain;
    int rc = far_records_open(&stream->opened, record, length, to, &last, err);
    stream->in_start += length;
    if (rc != 0) {
        return rc;
    }
    if (to == data && last == FAR_RECORD_DATA) {
        *ret_len = len;
        return 0;
    }
    if (to == data) {
        memcpy(stream->plain, data, len);
    }
    return take_record(stream, len, last, err);
}

static size_t take_plain(struct far_bstream *stream, uint8_t *data, size_t room)
{
    size_t rest = stream->plain_end - stream->plain_start;
    size_t n = room < rest ? room : rest;
    memcpy(data, stream->plain + stream->plain_start, n);
    stream->plain_start += n;
    return n;
}

static int read_answer(struct far_bstream *stream, uint64_t idle_ms, struct far_error *err);

int far_bstream_read(struct far_bstream *stream, void *data, size_t length, uint64_t idle_ms, struct far_error *err)
{
    uint8_t *at = data;
    int rc = stream->answer_is_due ? read_answer(stream, idle_ms, err) : 0;
    while (rc == 0) {
        bool more = false;
        size_t n = take_plain(stream, at, length);
        if (n == 0 && length > 0) {
            rc = open_record(stream, at, length, &n, &more, err);
        }
        at += n;
        length -= n;
        atomic_fetch_add_explicit(&stream->bytes_received, n, memory_order_relaxed);
        if (rc == 0 && more) {
            size_t there = stream->in_end - stream->in_start; /* of what is to come */
            rc = receive_some(stream, length > there ? length - there : 1, idle_ms, err);
        }
        if (length == 0) {
            break;
        }
    }
    return rc;
}

/* ---- writing ---- */

static int seal(struct far_bstream *stream, enum far_record_type type, const uint8_t *data, size_t len,
                struct far_error *err)
{
    int rc = far_records_seal(&stream->sealed, type, data, len, stream->out + stream->out_len, err);
    stream->out_len += rc == 0 ? len + FAR_RECORD_ADDED : 0;
    return rc;
}

static int change_key(struct far_bstream *stream, struct far_error *err)
{
    static const uint8_t update[] = {KEY_UPDATE, 0, 0, 1, 0};
    int rc = seal(stream, FAR_RECORD_HANDSHAKE, update, sizeof update, err);
    return rc == 0 ? far_records_next_key(&stream->sealed, err) : rc;
}

/* One record into `out`, which is sent first where it is full. */
static int write_record(struct far_bstream *stream, const uint8_t *data, size_t len, uint64_t idle_ms,
                        struct far_error *err)
{
    int rc = 0;
    if (stream->sealed.number >= FAR_RECORDS_PER_KEY || atomic_exchange(&stream->key_asked, false)) {
        rc = change_key(stream, err);
    }
    if (rc == 0 && stream->out_len + len + 3 * FAR_RECORD_ADDED > OUT_BYTES) {
        rc = send_out(stream, idle_ms, err);
    }
    rc = rc == 0 ? seal(stream, FAR_RECORD_DATA, data, len, err) : rc;
    atomic_fetch_add_explicit(&stream->bytes_sent, rc == 0 ? len : 0, memory_order_relaxed);
    return rc;
}

int far_bstream_add(struct far_bstream *stream, const struct far_slice *parts, size_t count, uint64_t idle_ms,
                    struct far_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const uint8_t *at = parts[i].data;
        for (size_t rest = parts[i].len; rc == 0 && rest > 0;) {
            size_t n = rest < FAR_RECORD_PLAIN_MAX ? rest : FAR_RECORD_PLAIN_MAX;
            rc = write_record(stream, at, n, idle_ms, err);
            at += n;
            rest -= n;
        }
    }
    return rc;
}

int far_bstream_flush(struct far_bstream *stream, uint64_t idle_ms, struct far_error *err)
{
    return send_out(stream, idle_ms, err);
}

bool far_bstream_has_added(const struct far_bstream *stream)
{
    return stream->out_len > 0;
}

int far_bstream_write(struct far_bstream *stream, const void *data, size_t length, uint64_t idle_ms,
                      struct far_error *err)
{
    const struct far_slice all = far_slice(data, length);
    int rc = far_bstream_add(stream, &all, 1, idle_ms, err);
    return rc == 0 ? far_bstream_flush(stream, idle_ms, err) : rc;
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
        rc = receive_some(stream, 1, rest_until(deadline_ms), err);
        if (rc != 0) {
            return rc;
        }
    }
}

/* From here on the records are ours. What came behind the handshake is still in `in`: libssl took whole records only. */
static int take_over(struct far_bstream *stream, struct far_error *err)
{
    const struct far_traffic_secrets *secrets = &stream->secrets;
    const uint8_t *ours = stream->is_dialer ? secrets->of_dialer : secrets->of_listener;
    const uint8_t *theirs = stream->is_dialer ? secrets->of_listener : secrets->of_dialer;
    size_t digest_bytes = (size_t)EVP_MD_get_size(SSL_CIPHER_get_handshake_digest(SSL_get_current_cipher(stream->ssl)));
    if (secrets->len != digest_bytes || SSL_version(stream->ssl) != TLS1_3_VERSION) {
        return far_fail(err, FAR_INTERNAL, "TLS: the keys of the connection are not known");
    }
    int rc = far_records_init(&stream->sealed, stream->ssl, ours, true, err);
    rc = rc == 0 ? far_records_init(&stream->opened, stream->ssl, theirs, false, err) : rc;
    OPENSSL_cleanse(&stream->secrets, sizeof stream->secrets);
    SSL_free(stream->ssl);
    stream->ssl = NULL;
    return rc;
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
        rc = exchange(stream, &self, stream->is_ahead ? NULL : &theirs, deadline_ms, err);
    }
    if (rc == 0 && stream->is_ahead) {
        stream->greeting = self;
        stream->certificate = certificate;
        stream->answer_is_due = true;
        return 0;
    }
    return rc != 0 ? rc : far_greeting_check_answer(&self, &theirs, certificate, err);
}

static int read_answer(struct far_bstream *stream, uint64_t idle_ms, struct far_error *err)
{
    struct far_greeting theirs;
    stream->answer_is_due = false;
    int rc = exchange(stream, NULL, &theirs, far_clock_monotonic_ms() + idle_ms, err);
    atomic_store(&stream->bytes_received, 0);
    return rc != 0 ? rc : far_greeting_check_answer(&stream->greeting, &theirs, stream->certificate, err);
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

int far_bstream_shake(struct far_bstream *stream, struct far_peer to, uint64_t timeout_ms, struct far_peer *ret_peer,
                      struct far_error *err)
{
    struct far_peer certificate;
    uint64_t deadline_ms = far_clock_monotonic_ms() + timeout_ms;
    far_tls_socket_options(stream->fd);
    int rc = shake_hands(stream, deadline_ms, err);
    if (rc == 0) {
        rc = far_tls_peer(stream->ssl, &certificate, stream->fingerprint, err);
    }
    rc = rc == 0 ? take_over(stream, err) : rc;
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
    return far_bstream_shake(stream, (struct far_peer){0}, timeout_ms, ret_peer, err);
}

const uint8_t *far_bstream_fingerprint(const struct far_bstream *stream)
{
    return stream->fingerprint;
}
