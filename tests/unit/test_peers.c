/* log/peers.h with real streams: servers come and go for as long as another one runs. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* nftw */
#endif
#include "../lib/cm.h"
#include "../lib/made_pki.h"
#include "../lib/remove_tree.h"
#include "../lib/run_until.h"
#include "log/peers.h"

#include <stdlib.h>

enum { SELF = 1, OTHER = 2, FIRST_GONE = 100, GONE = 3 * FAR_PEERS_MAX };

struct fixture {
    struct far_test_pki pki;
    struct far_net *one, *two;
    uv_loop_t loop;
    struct far_listener *listener; /* of the other one */
    struct far_peers *peers;
    struct far_stream *accepted; /* by the other one, while it lives */
    unsigned frames, connected;
    bool closed, listener_closed;
};

/* ---- the other server ---- */

static void other_on_open(void *arg, struct far_stream *stream, struct far_peer peer, enum far_purpose purpose)
{
    struct fixture *f = arg;
    assert_int_equal(peer.id, SELF);
    assert_int_equal(purpose, FAR_PURPOSE_RAFT);
    f->accepted = stream;
}

static void other_on_frame(void *arg, struct far_stream *stream, uint16_t type, struct far_slice payload)
{
    struct fixture *f = arg;
    (void)stream;
    (void)payload;
    f->frames += type == FAR_FRAME_RAFT;
}

static void other_on_close(void *arg, struct far_stream *stream, const struct far_error *why)
{
    struct fixture *f = arg;
    (void)stream;
    (void)why;
    f->accepted = NULL;
}

static const struct far_stream_callbacks other_callbacks = {other_on_open, other_on_frame, other_on_close};

/* ---- this one ---- */

static void on_frame(void *arg, uint64_t peer_id, const char *address, uint16_t type, struct far_slice payload)
{
    (void)arg;
    (void)peer_id;
    (void)address;
    (void)type;
    (void)payload;
}

static void on_change(void *arg, uint64_t peer_id, bool is_connected)
{
    struct fixture *f = arg;
    f->connected += peer_id == OTHER && is_connected;
}

static void on_done(void *arg)
{
    *(bool *)arg = true;
}

static int set_up(void **state)
{
    static const struct far_peers_callbacks callbacks = {.on_frame = on_frame, .on_change = on_change};
    struct fixture *f = calloc(1, sizeof *f);
    char dir[200];
    assert_int_equal(far_test_make_folder("peers", dir, sizeof dir), 0);
    far_test_pki_init(&f->pki, dir, 0xaa);
    f->one = far_test_pki_net(&f->pki, FAR_PARTY_SERVER, SELF);
    f->two = far_test_pki_net(&f->pki, FAR_PARTY_SERVER, OTHER);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(far_listener_new(f->two, &f->loop, "127.0.0.1:0", &other_callbacks, f, &f->listener, NULL), 0);
    assert_int_equal(far_peers_new(f->one, &f->loop, SELF, "127.0.0.1:1", &callbacks, f, &f->peers, NULL), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    far_peers_close(f->peers, on_done, &f->closed);
    far_listener_close(f->listener, on_done, &f->listener_closed);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(f->closed && f->listener_closed && f->accepted == NULL);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    far_net_free(f->one);
    far_net_free(f->two);
    far_test_pki_done(&f->pki);
    free(f);
    return 0;
}

/* A frame comes through to the other one, which is told of again and again, as raft does with each message. */
static void reaches_the_other(struct fixture *f)
{
    unsigned before = f->frames;
    RUN_UNTIL(f, (far_peers_know(f->peers, OTHER, far_listener_address(f->listener)),
                  far_peers_connected(f->peers, OTHER) && f->accepted != NULL));
    far_peers_send_raft(f->peers, OTHER, far_slice_str("12345678"));
    RUN_UNTIL(f, f->frames == before + 1);
}

/* Servers that never lived at that address, or were something else there: dialed, refused, removed. */
static void those_that_went_leave_room_for_new_ones(void **state)
{
    struct fixture *f = *state;
    for (uint64_t id = FIRST_GONE; id < FIRST_GONE + GONE; id++) {
        far_peers_know(f->peers, id, far_listener_address(f->listener));
        assert_false(far_peers_connected(f->peers, id));
        far_peers_forget(f->peers, id);
        for (int turn = 0; turn < 20; turn++) { /* its streams end in their own time */
            uv_run(&f->loop, UV_RUN_NOWAIT);
        }
    }
    reaches_the_other(f);
    assert_int_equal(f->connected, 1);
}

/* Beyond the bound nobody new is dialed; who is known stays connected. */
static void at_the_bound_nobody_is_pushed_out(void **state)
{
    struct fixture *f = *state;
    reaches_the_other(f);
    for (uint64_t id = FIRST_GONE; id < FIRST_GONE + GONE; id++) {
        far_peers_know(f->peers, id, "127.0.0.1:1");
    }
    reaches_the_other(f);
    assert_int_equal(f->connected, 1);
    far_peers_forget(f->peers, OTHER);
    RUN_UNTIL(f, f->accepted == NULL);
    reaches_the_other(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(those_that_went_leave_room_for_new_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(at_the_bound_nobody_is_pushed_out, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
