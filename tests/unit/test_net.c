/* net/net.h on a uv loop: handshake, greeting, frames, bounds, and an end that comes exactly once. */
#include "../lib/cm.h"
#include "../lib/faults.h"
#include "../lib/made_pki.h"
#include "../lib/run_until.h"
#include "net/stream_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* One side of a connection, as its user sees it. */
struct side {
    struct far_stream *stream; /* while it is alive */
    struct far_peer peer;
    enum far_purpose purpose;
    unsigned opened, closed, frames;
    uint64_t bytes;
    uint16_t last_type;
    uint32_t next_number; /* frames carry their number in the first four bytes */
    bool out_of_order;
    bool pauses; /* after each frame */
    struct far_error why;
};

struct fixture {
    struct far_test_pki pki;
    struct far_test_pki other;
    struct far_net *one;  /* server 1 */
    struct far_net *two;  /* server 2 */
    struct far_net *node; /* node 9 */
    uv_loop_t loop;
    struct far_listener *listener;
    bool listener_closed;
    struct side dialer;
    struct side accepted;
};

static void on_open(void *arg, struct far_stream *stream, struct far_peer peer, enum far_purpose purpose)
{
    struct side *side = arg;
    side->opened++;
    side->stream = stream;
    side->peer = peer;
    side->purpose = purpose;
}

static void on_frame(void *arg, struct far_stream *stream, uint16_t type, struct far_slice payload)
{
    struct side *side = arg;
    side->frames++;
    side->bytes += payload.len;
    side->last_type = type;
    if (payload.len >= 4) {
        side->out_of_order |= far_get_le32(payload.data) != side->next_number;
        side->next_number++;
    }
    if (side->pauses) {
        far_stream_pause(stream);
    }
}

static void on_close(void *arg, struct far_stream *stream, const struct far_error *why)
{
    struct side *side = arg;
    side->closed++;
    side->stream = NULL;
    side->why = *why;
}

static const struct far_stream_callbacks callbacks = {on_open, on_frame, on_close};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char dir[] = "/tmp/far-net-XXXXXX";
    char other[] = "/tmp/far-net-XXXXXX";
    assert_non_null(mkdtemp(dir));
    assert_non_null(mkdtemp(other));
    far_test_pki_init(&f->pki, dir, 0xaa);
    far_test_pki_init(&f->other, other, 0xaa);
    f->one = far_test_pki_net(&f->pki, FAR_PARTY_SERVER, 1);
    f->two = far_test_pki_net(&f->pki, FAR_PARTY_SERVER, 2);
    f->node = far_test_pki_net(&f->pki, FAR_PARTY_NODE, 9);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    far_net_free(f->one);
    far_net_free(f->two);
    far_net_free(f->node);
    far_test_pki_done(&f->pki);
    far_test_pki_done(&f->other);
    free(f);
    return 0;
}

/* ---- one test's loop ---- */

static void begin(struct fixture *f)
{
    struct far_error err;
    memset(&f->dialer, 0, sizeof f->dialer);
    memset(&f->accepted, 0, sizeof f->accepted);
    f->listener_closed = false;
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(
        far_listener_new(f->one, &f->loop, "127.0.0.1:0", &callbacks, &f->accepted, &f->listener, &err), 0);
}

static void dial(struct fixture *f, struct far_net *net, struct far_peer to, enum far_purpose purpose)
{
    struct far_error err;
    assert_int_equal(far_stream_dial(net, &f->loop, far_listener_address(f->listener), to, purpose, &callbacks,
                                     &f->dialer, &f->dialer.stream, &err),
                     0);
    assert_int_equal(f->dialer.opened + f->dialer.closed, 0);
}

static void on_listener_closed(void *arg)
{
    *(bool *)arg = true;
}

/* Ends everything and holds that nothing is left of it. */
static void end(struct fixture *f)
{
    if (f->dialer.stream != NULL) {
        far_stream_close(f->dialer.stream);
    }
    if (f->accepted.stream != NULL) {
        far_stream_close(f->accepted.stream);
    }
    far_listener_close(f->listener, on_listener_closed, &f->listener_closed);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(f->listener_closed);
    assert_int_equal(f->dialer.closed, 1);
    assert_int_equal(uv_loop_close(&f->loop), 0);
}

static const struct far_peer server_1 = {FAR_PARTY_SERVER, 1};

static void open_both(struct fixture *f)
{
    begin(f);
    dial(f, f->two, server_1, FAR_PURPOSE_RAFT);
    RUN_UNTIL(f, f->dialer.opened && f->accepted.opened);
}

static void refused(struct fixture *f)
{
    RUN_UNTIL(f, f->dialer.closed && f->accepted.closed);
    assert_int_equal(f->dialer.opened + f->accepted.opened, 0);
    assert_int_equal(f->dialer.why.klass, FAR_DENIED);
    assert_int_equal(f->accepted.closed, 1);
    end(f);
}

/* ---- tests ---- */

static void both_sides_learn_who_the_other_is(void **state)
{
    struct fixture *f = *state;
    open_both(f);
    assert_int_equal(f->accepted.peer.party, FAR_PARTY_SERVER);
    assert_int_equal(f->accepted.peer.id, 2);
    assert_int_equal(f->accepted.purpose, FAR_PURPOSE_RAFT);
    assert_int_equal(f->dialer.peer.id, 1);
    assert_memory_not_equal(far_stream_fingerprint(f->accepted.stream), far_stream_fingerprint(f->dialer.stream), 32);
    far_stream_close(f->dialer.stream);
    RUN_UNTIL(f, f->accepted.closed);
    assert_int_equal(f->accepted.why.klass, FAR_IO);
    end(f);
    assert_int_equal(f->dialer.why.klass, FAR_CANCELED);
    assert_int_equal(f->accepted.closed, 1);
}

static void a_node_may_dial_any_server_by_id_0(void **state)
{
    struct fixture *f = *state;
    begin(f);
    dial(f, f->node, (struct far_peer){FAR_PARTY_SERVER, 0}, FAR_PURPOSE_LINK);
    RUN_UNTIL(f, f->dialer.opened && f->accepted.opened);
    assert_int_equal(f->dialer.peer.id, 1);
    assert_int_equal(f->accepted.peer.party, FAR_PARTY_NODE);
    end(f);
}

static void frames_of_every_size_arrive_whole(void **state)
{
    static const size_t sizes[] = {0, 1, 4, 16376, 16377, 100000, FAR_FRAME_MAX};
    static uint8_t payload[FAR_FRAME_MAX + 1];
    struct fixture *f = *state;
    open_both(f);
    uint64_t sent = 0;
    uint32_t number = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i] >= 4) {
            far_put_le32(payload, number++);
        }
        assert_int_equal(far_stream_send(f->dialer.stream, (uint16_t)(i + 1), far_slice(payload, sizes[i])), 0);
        sent += sizes[i];
        RUN_UNTIL(f, f->accepted.frames == i + 1);
        assert_int_equal(f->accepted.last_type, i + 1);
    }
    assert_int_equal(f->accepted.bytes, sent);
    assert_false(f->accepted.out_of_order);
    assert_int_equal(far_stream_send(f->dialer.stream, 1, far_slice(payload, FAR_FRAME_MAX + 1)), FAR_LIMIT);
    assert_int_equal(far_stream_send(f->accepted.stream, 7, far_slice(payload, 10)), 0);
    RUN_UNTIL(f, f->dialer.frames == 1);
    end(f);
}

static void what_was_queued_before_a_close_still_arrives(void **state)
{
    static uint8_t payload[FAR_FRAME_MAX];
    struct fixture *f = *state;
    open_both(f);
    for (uint32_t i = 0; i < 3; i++) {
        far_put_le32(payload, i);
        assert_int_equal(far_stream_send(f->dialer.stream, 1, far_slice(payload, sizeof payload)), 0);
    }
    far_stream_close(f->dialer.stream);
    assert_int_equal(far_stream_send(f->dialer.stream, 1, far_slice(payload, 1)), FAR_CANCELED);
    RUN_UNTIL(f, f->accepted.closed);
    assert_int_equal(f->accepted.frames, 3);
    end(f);
}

static void certificate_of_another_ca_is_refused(void **state)
{
    struct fixture *f = *state;
    struct far_net *stranger = far_test_pki_net(&f->other, FAR_PARTY_SERVER, 2);
    begin(f);
    dial(f, stranger, server_1, FAR_PURPOSE_RAFT);
    refused(f);
    far_net_free(stranger);
}

/* Knows one key of each peer: the first that was shown. */
struct registry {
    uint64_t id;
    uint8_t fingerprint[32];
    unsigned asked;
};

static int check_registered(void *arg, struct far_peer peer, const uint8_t fingerprint[32], struct far_error *err)
{
    struct registry *registry = arg;
    registry->asked++;
    return peer.id == registry->id && memcmp(fingerprint, registry->fingerprint, 32) != 0
               ? far_fail(err, FAR_DENIED, "not the key of %llu", (unsigned long long)peer.id)
               : 0;
}

static void another_key_under_a_good_certificate_is_refused_by_either_side(void **state)
{
    struct fixture *f = *state;
    struct registry registry = {.id = 2};
    open_both(f);
    memcpy(registry.fingerprint, far_stream_fingerprint(f->accepted.stream), 32);
    end(f);
    far_net_check_keys(f->one, check_registered, &registry);
    open_both(f); /* the registered key is welcome */
    end(f);
    far_test_pki_identity(&f->pki, FAR_PARTY_SERVER, 2); /* the same id, signed by the same CA */
    struct far_net *impostor = far_test_pki_net(&f->pki, FAR_PARTY_SERVER, 2);
    begin(f);
    dial(f, impostor, server_1, FAR_PURPOSE_RAFT);
    refused(f);
    assert_string_equal(f->accepted.why.message, "not the key of 2");
    assert_non_null(strstr(f->dialer.why.message, "the key of the certificate is not the one that joined"));
    assert_int_equal(registry.asked, 2);

    far_net_check_keys(f->one, NULL, NULL); /* now the dialer finds another key at server 1's address */
    registry = (struct registry){.id = 1};
    far_net_check_keys(f->two, check_registered, &registry);
    begin(f);
    dial(f, f->two, server_1, FAR_PURPOSE_RAFT);
    RUN_UNTIL(f, f->dialer.closed && f->accepted.closed);
    assert_int_equal(f->dialer.opened + f->accepted.opened, 0);
    assert_string_equal(f->dialer.why.message, "not the key of 1");
    end(f);
    far_net_check_keys(f->two, NULL, NULL);
    far_net_free(impostor);
}

static void another_cluster_or_incarnation_is_refused_on_both_sides(void **state)
{
    struct fixture *f = *state;
    struct far_test_pki cluster = f->pki;
    struct far_test_pki incarnation = f->pki;
    cluster.cluster_uuid[3] ^= 1;
    incarnation.incarnation.epoch = 2;
    struct far_test_pki *const others[] = {&cluster, &incarnation};
    for (size_t i = 0; i < 2; i++) {
        struct far_net *net = far_test_pki_net(others[i], FAR_PARTY_SERVER, 2);
        begin(f);
        dial(f, net, server_1, FAR_PURPOSE_RAFT);
        RUN_UNTIL(f, f->dialer.closed && f->accepted.closed);
        assert_int_equal(f->accepted.why.klass, FAR_DENIED);
        assert_non_null(strstr(f->dialer.why.message, i == 0 ? "another cluster" : "another incarnation"));
        refused(f);
        far_net_free(net);
    }
}

struct heard {
    int count;
    struct far_peer peer;
    struct far_incarnation_id theirs;
};

static void hear(void *arg, struct far_peer peer, const uint8_t fingerprint[32], struct far_incarnation_id theirs)
{
    struct heard *heard = arg;
    assert_non_null(fingerprint);
    heard->count++;
    heard->peer = peer;
    heard->theirs = theirs;
}

/* Also one of the same epoch that was made elsewhere. */
static void both_sides_hear_which_incarnation_the_other_is_of(void **state)
{
    struct fixture *f = *state;
    const struct far_incarnation_id others[] = {{2, 9}, {1, 77}};
    for (size_t i = 0; i < 2; i++) {
        struct far_test_pki other = f->pki;
        struct heard listener = {0}, dialer = {0};
        other.incarnation = others[i];
        struct far_net *net = far_test_pki_net(&other, FAR_PARTY_SERVER, 2);
        far_net_on_incarnation(f->one, hear, &listener);
        far_net_on_incarnation(net, hear, &dialer);
        begin(f);
        dial(f, net, server_1, FAR_PURPOSE_RAFT);
        RUN_UNTIL(f, f->dialer.closed && f->accepted.closed);
        assert_non_null(strstr(f->dialer.why.message, "another incarnation"));
        refused(f);
        far_net_on_incarnation(f->one, NULL, NULL);
        assert_int_equal(listener.count, 1);
        assert_int_equal(listener.peer.id, 2);
        assert_int_equal(listener.theirs.epoch, others[i].epoch);
        assert_int_equal(listener.theirs.tag, others[i].tag);
        assert_int_equal(dialer.count, 1);
        assert_int_equal(dialer.peer.id, 1);
        assert_int_equal(dialer.theirs.epoch, 1);
        assert_int_equal(dialer.theirs.tag, 0);
        far_net_free(net);
    }
}

static void who_follows_is_greeted(void **state)
{
    struct fixture *f = *state;
    struct far_test_pki newer = f->pki;
    newer.incarnation = (struct far_incarnation_id){2, 9};
    struct far_net *net = far_test_pki_net(&newer, FAR_PARTY_SERVER, 2);
    struct far_incarnation_id old = far_net_incarnation(net);
    far_net_set_incarnation(net, far_net_incarnation(f->one));
    begin(f);
    dial(f, net, server_1, FAR_PURPOSE_RAFT);
    RUN_UNTIL(f, f->dialer.opened && f->accepted.opened);
    assert_int_equal(old.epoch, 2);
    end(f);
    far_net_free(net);
}

static void whoever_answers_must_be_who_was_dialed(void **state)
{
    struct fixture *f = *state;
    begin(f);
    dial(f, f->two, (struct far_peer){FAR_PARTY_SERVER, 3}, FAR_PURPOSE_RAFT);
    refused(f);
    begin(f);
    dial(f, f->node, (struct far_peer){FAR_PARTY_NODE, 0}, FAR_PURPOSE_LINK);
    refused(f);
}

static void purposes_are_for_their_parties(void **state)
{
    struct fixture *f = *state;
    begin(f);
    dial(f, f->node, server_1, FAR_PURPOSE_RAFT);
    refused(f);
    begin(f);
    dial(f, f->two, server_1, FAR_PURPOSE_LINK);
    refused(f);
}

static struct far_greeting good_greeting(void)
{
    struct far_greeting greeting = {
        .incarnation = {5, 0}, .purpose = FAR_PURPOSE_LINK, .from = {FAR_PARTY_NODE, 9}, .to = {FAR_PARTY_SERVER, 1}};
    memset(greeting.cluster_uuid, 7, 16);
    return greeting;
}

static void greeting_of_somebody_else_than_the_certificate_is_refused(void **unused)
{
    struct far_greeting theirs = good_greeting();
    struct far_greeting self = good_greeting();
    self.from = theirs.to;
    assert_int_equal(far_greeting_judge(&self, &theirs, theirs.from), FAR_VERDICT_WELCOME);
    assert_int_equal(far_greeting_judge(&self, &theirs, (struct far_peer){FAR_PARTY_NODE, 8}),
                     FAR_VERDICT_OTHER_SENDER);
    assert_int_equal(far_greeting_judge(&self, &theirs, (struct far_peer){FAR_PARTY_SERVER, 9}),
                     FAR_VERDICT_OTHER_SENDER);
    self.from.id = 2;
    assert_int_equal(far_greeting_judge(&self, &theirs, theirs.from), FAR_VERDICT_OTHER_RECEIVER);
}

static void greeting_bytes_are_exact(void **unused)
{
    struct far_error err;
    struct far_greeting back;
    struct far_greeting greeting = good_greeting();
    uint8_t bytes[FAR_GREETING_BYTES];
    far_greeting_encode(&greeting, bytes);
    assert_int_equal(far_greeting_decode(bytes, &back, &err), 0);
    assert_memory_equal(back.cluster_uuid, greeting.cluster_uuid, 16);
    assert_int_equal(back.to.id, 1);
    assert_int_equal(back.incarnation.epoch, 5);
    assert_int_equal(back.incarnation.tag, 0);
    static const size_t wrong_anywhere[] = {0, 4, 7, 33, 34, 35, 36, 39};
    for (size_t i = 0; i < sizeof wrong_anywhere / sizeof wrong_anywhere[0]; i++) {
        far_greeting_encode(&greeting, bytes);
        bytes[wrong_anywhere[i]] ^= 0x80;
        assert_int_equal(far_greeting_decode(bytes, &back, &err), FAR_INVALID);
    }
}

static void a_frame_longer_than_allowed_ends_the_stream(void **state)
{
    struct fixture *f = *state;
    uint8_t header[8] = {0};
    for (int i = 0; i < 2; i++) {
        open_both(f);
        far_put_le32(header, i == 0 ? FAR_FRAME_MAX + 1 : 0);
        far_put_le16(header + 6, i == 0 ? 0 : 1); /* then an unknown flag */
        assert_int_equal(SSL_write(f->dialer.stream->ssl, header, sizeof header), sizeof header);
        far_stream_flush(f->dialer.stream);
        RUN_UNTIL(f, f->accepted.closed);
        assert_int_equal(f->accepted.why.klass, FAR_INVALID);
        assert_int_equal(f->accepted.frames, 0);
        end(f);
    }
}

static void a_slow_peer_fills_a_bounded_queue_and_loses_nothing(void **state)
{
    static uint8_t payload[64 * 1024];
    struct fixture *f = *state;
    open_both(f);
    f->accepted.pauses = true;
    uint32_t sent = 0;
    int rc = 0;
    unsigned turns_without_room = 0;
    while (turns_without_room < 50) { /* the kernel's buffers are full, and ours */
        far_put_le32(payload, sent);
        rc = far_stream_send(f->dialer.stream, 1, far_slice(payload, sizeof payload));
        sent += rc == 0;
        turns_without_room = rc == 0 ? 0 : turns_without_room + 1;
        uv_run(&f->loop, UV_RUN_NOWAIT);
        assert_true(sent < 10000);
    }
    assert_int_equal(rc, FAR_BUSY);
    assert_true(far_stream_queued(f->dialer.stream) <= FAR_STREAM_QUEUE_MAX + FAR_STREAM_QUEUE_MAX / 16);
    assert_int_equal(f->accepted.frames, 1);
    far_stream_resume(f->accepted.stream);
    assert_int_equal(f->accepted.frames, 1); /* never within the call */
    f->accepted.pauses = false;
    RUN_UNTIL(f, f->accepted.frames == sent);
    assert_false(f->accepted.out_of_order);
    end(f);
}

static void frames_come_one_by_one_to_who_pauses_after_each(void **state)
{
    struct fixture *f = *state;
    uint8_t payload[4];
    open_both(f);
    f->accepted.pauses = true;
    for (uint32_t i = 0; i < 20; i++) {
        far_put_le32(payload, i);
        assert_int_equal(far_stream_send(f->dialer.stream, 1, far_slice(payload, sizeof payload)), 0);
    }
    for (unsigned i = 1; i <= 20; i++) {
        RUN_UNTIL(f, f->accepted.frames == i);
        uv_run(&f->loop, UV_RUN_NOWAIT);
        assert_int_equal(f->accepted.frames, i);
        far_stream_resume(f->accepted.stream);
    }
    assert_false(f->accepted.out_of_order);
    end(f);
}

/* Closes the dialer, or the listener with what it holds, after each number of turns of the loop. */
static void an_end_in_any_phase_is_reported_once(void **state)
{
    struct fixture *f = *state;
    bool opened = false;
    for (int turns = 0; !opened || turns < 12; turns++) {
        assert_true(turns < 1000);
        begin(f);
        dial(f, f->two, server_1, FAR_PURPOSE_RAFT);
        for (int i = 0; i < turns; i++) {
            uv_run(&f->loop, UV_RUN_NOWAIT);
        }
        opened = f->dialer.opened && f->accepted.opened;
        end(f);
        assert_true(f->dialer.opened <= 1 && f->accepted.opened <= 1);
        assert_true(f->accepted.closed <= 1);
    }
}

static void names_are_looked_up_and_every_address_is_tried(void **state)
{
    struct fixture *f = *state;
    char address[64];
    struct far_error err;
    for (int canceled = 0; canceled <= 1; canceled++) {
        begin(f);
        snprintf(address, sizeof address, "localhost:%s", strrchr(far_listener_address(f->listener), ':') + 1);
        assert_int_equal(far_stream_dial(f->two, &f->loop, address, server_1, FAR_PURPOSE_RAFT, &callbacks, &f->dialer,
                                         &f->dialer.stream, &err),
                         0);
        if (!canceled) {
            RUN_UNTIL(f, f->dialer.opened && f->accepted.opened);
        }
        end(f);
    }
}

static void an_address_where_nobody_listens_closes_with_an_error(void **state)
{
    struct fixture *f = *state;
    struct far_error err;
    begin(f);
    assert_int_equal(far_stream_dial(f->two, &f->loop, "no port", server_1, FAR_PURPOSE_RAFT, &callbacks, &f->dialer,
                                     &f->dialer.stream, &err),
                     FAR_INVALID);
    assert_int_equal(far_stream_dial(f->two, &f->loop, "127.0.0.1:1", server_1, FAR_PURPOSE_RAFT, &callbacks,
                                     &f->dialer, &f->dialer.stream, &err),
                     0);
    RUN_UNTIL(f, f->dialer.closed);
    assert_int_equal(f->dialer.why.klass, FAR_IO);
    assert_int_equal(f->dialer.why.sys_errno, ECONNREFUSED);
    end(f);
}

/* From 127.0.0.<host>. */
static int connect_raw_from(const char *address, unsigned host)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + host)};
    in.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    return fd;
}

static int connect_raw(const char *address)
{
    return connect_raw_from(address, 1);
}

static void bytes_that_are_no_tls_are_refused(void **state)
{
    struct fixture *f = *state;
    begin(f);
    int fd = connect_raw(far_listener_address(f->listener));
    assert_int_equal(write(fd, "GET / HTTP/1.1\r\n\r\n", 18), 18);
    RUN_UNTIL(f, f->accepted.why.klass != 0 || f->accepted.closed);
    close(fd);
    RUN_UNTIL(f, f->accepted.closed);
    assert_int_equal(f->accepted.opened, 0);
    f->dialer.closed = 1; /* there was none */
    end(f);
}

static void the_oldest_of_too_many_silent_connections_is_dropped(void **state)
{
    struct fixture *f = *state;
    int fds[FAR_ACCEPT_MAX + 3];
    begin(f);
    for (size_t i = 0; i < FAR_ACCEPT_MAX + 3; i++) {
        fds[i] = connect_raw_from(far_listener_address(f->listener), 1 + (unsigned)i % 3);
        uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    RUN_UNTIL(f, f->accepted.closed == 3);
    assert_int_equal(f->accepted.why.klass, FAR_LIMIT);
    char byte;
    assert_int_equal(read(fds[0], &byte, 1), 0);
    f->dialer.closed = 1; /* there was none */
    end(f);
    assert_int_equal(f->accepted.closed, FAR_ACCEPT_MAX + 3);
    for (size_t i = 0; i < FAR_ACCEPT_MAX + 3; i++) {
        close(fds[i]);
    }
}

static void one_address_does_not_crowd_out_the_others(void **state)
{
    struct fixture *f = *state;
    int fds[FAR_ACCEPT_PER_ADDRESS_MAX + 4];
    size_t count = sizeof fds / sizeof fds[0];
    begin(f);
    for (size_t i = 0; i < count; i++) {
        fds[i] = connect_raw_from(far_listener_address(f->listener), i == 0 ? 2 : 1);
        uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    RUN_UNTIL(f, f->accepted.closed == 3);
    assert_int_equal(f->accepted.why.klass, FAR_LIMIT);
    char byte;
    assert_int_equal(recv(fds[0], &byte, 1, MSG_DONTWAIT), -1); /* the oldest of all stays */
    for (size_t i = 1; i <= 3; i++) {
        assert_int_equal(read(fds[i], &byte, 1), 0);
    }
    f->dialer.closed = 1; /* there was none */
    end(f);
    for (size_t i = 0; i < count; i++) {
        close(fds[i]);
    }
}

static void a_silent_connection_meets_its_deadline(void **state)
{
    struct fixture *f = *state;
    begin(f);
    dial(f, f->two, server_1, FAR_PURPOSE_RAFT);
    uv_timer_set_repeat(&f->dialer.stream->timer, 1); /* instead of five seconds */
    uv_timer_again(&f->dialer.stream->timer);
    far_stream_read_on(f->dialer.stream);
    while (!f->dialer.closed) {
        uv_sleep(2); /* the deadline passes before the handshake is done */
        uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(f->dialer.why.klass, FAR_TIMEOUT);
    end(f);
}

static void without_memory_every_step_fails_cleanly(void **state)
{
    struct fixture *f = *state;
    struct far_error err;
    uint8_t payload[100000] = {0};
    bool struck = true;
    for (uint64_t n = 1; struck; n++) {
        assert_true(n < 100);
        begin(f);
        far_fault_arm(FAR_FAULT_ALLOC, n, ENOMEM);
        int rc = far_stream_dial(f->two, &f->loop, far_listener_address(f->listener), server_1, FAR_PURPOSE_RAFT,
                                 &callbacks, &f->dialer, &f->dialer.stream, &err);
        if (rc != 0) {
            f->dialer.closed = 1;
        }
        while (rc == 0 && !f->dialer.closed && !f->accepted.closed && !f->accepted.frames) {
            uv_run(&f->loop, UV_RUN_ONCE);
            if (f->dialer.opened && f->dialer.stream != NULL && far_stream_queued(f->dialer.stream) == 0) {
                far_stream_send(f->dialer.stream, 1, far_slice(payload, sizeof payload));
            }
        }
        struck = far_fault_disarm();
        assert_true(struck || f->accepted.frames > 0);
        end(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_sides_learn_who_the_other_is),
        cmocka_unit_test(a_node_may_dial_any_server_by_id_0),
        cmocka_unit_test(frames_of_every_size_arrive_whole),
        cmocka_unit_test(what_was_queued_before_a_close_still_arrives),
        cmocka_unit_test(certificate_of_another_ca_is_refused),
        cmocka_unit_test(another_key_under_a_good_certificate_is_refused_by_either_side),
        cmocka_unit_test(another_cluster_or_incarnation_is_refused_on_both_sides),
        cmocka_unit_test(both_sides_hear_which_incarnation_the_other_is_of),
        cmocka_unit_test(who_follows_is_greeted),
        cmocka_unit_test(whoever_answers_must_be_who_was_dialed),
        cmocka_unit_test(purposes_are_for_their_parties),
        cmocka_unit_test(greeting_of_somebody_else_than_the_certificate_is_refused),
        cmocka_unit_test(greeting_bytes_are_exact),
        cmocka_unit_test(a_frame_longer_than_allowed_ends_the_stream),
        cmocka_unit_test(a_slow_peer_fills_a_bounded_queue_and_loses_nothing),
        cmocka_unit_test(frames_come_one_by_one_to_who_pauses_after_each),
        cmocka_unit_test(an_end_in_any_phase_is_reported_once),
        cmocka_unit_test(names_are_looked_up_and_every_address_is_tried),
        cmocka_unit_test(an_address_where_nobody_listens_closes_with_an_error),
        cmocka_unit_test(bytes_that_are_no_tls_are_refused),
        cmocka_unit_test(the_oldest_of_too_many_silent_connections_is_dropped),
        cmocka_unit_test(one_address_does_not_crowd_out_the_others),
        cmocka_unit_test(a_silent_connection_meets_its_deadline),
        cmocka_unit_test(without_memory_every_step_fails_cleanly),
    };
    return cmocka_run_group_tests_name("net", tests, set_up, tear_down);
}
