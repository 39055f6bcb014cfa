/* The connection of a comparison: see compare.h. Whoever has an address dials, the other one waits for it on its data port. */
#include "dataplane/compare.h"

#include "base/clock.h"

#include <stdlib.h>

enum { DIAL_MS = 5000, LONELY_MS = 120000, WAIT_MS = 500 };

static void on_watch(void *arg)
{
    struct compare_link *link = arg;
    if (link->stream != NULL && far_attempt_stopped(link->attempt)) {
        far_bstream_shutdown(link->stream);
    }
}

int compare_link_init(struct compare_link *link, struct far_attempt *attempt, struct far_error *err)
{
    *link = (struct compare_link){.attempt = attempt};
    return far_attempt_watch(attempt, on_watch, link, err);
}

static void set_stream(struct compare_link *link, struct far_bstream *stream)
{
    pthread_mutex_lock(&link->attempt->mutex);
    link->stream = stream;
    on_watch(link);
    pthread_mutex_unlock(&link->attempt->mutex);
}

void compare_link_close(struct compare_link *link)
{
    struct far_bstream *stream = link->stream;
    set_stream(link, NULL);
    far_bstream_free(stream);
}

void compare_link_done(struct compare_link *link)
{
    compare_link_close(link);
    far_attempt_watch(link->attempt, NULL, NULL, NULL);
}

bool compare_link_is_lost(int rc)
{
    return rc == FAR_IO || rc == FAR_TIMEOUT || rc == FAR_BUSY;
}

static int pause_for(struct compare_link *link, struct far_error *err)
{
    struct far_attempt *attempt = link->attempt;
    pthread_mutex_lock(&attempt->mutex);
    if (!far_attempt_stopped(attempt) && !far_attempt_has_visitor(attempt)) {
        far_attempt_wait(attempt, WAIT_MS);
    }
    pthread_mutex_unlock(&attempt->mutex);
    return far_attempt_check(attempt, err);
}

static int dial(struct compare_link *link, struct far_error *err)
{
    const struct far_engine_order *order = &link->attempt->order;
    struct far_peer peer = {.party = FAR_PARTY_NODE, .id = order->peer_node_id};
    struct far_bstream *stream = NULL;
    int rc = far_bstream_connect(link->attempt->engine->config.net, order->peer_address, DIAL_MS, &stream, err);
    if (rc == 0) {
        set_stream(link, stream);
        rc = far_bstream_greet_ahead(stream, peer, DIAL_MS, err);
        rc = rc == 0 ? far_attempt_check_peer(link->attempt, stream, err) : rc;
    }
    return rc;
}

/* The next one that the data port let in; FAR_BUSY: none yet. */
static int take_visitor(struct compare_link *link, struct far_transfer_hello *ret_hello, struct far_error *err)
{
    struct far_visitor *visitor = far_attempt_next_visitor(link->attempt);
    if (visitor == NULL) {
        return far_fail(err, FAR_BUSY, "the other node has not called");
    }
    set_stream(link, visitor->stream);
    visitor->stream = NULL;
    if (ret_hello != NULL) {
        *ret_hello = visitor->hello;
    }
    far_visitor_free(visitor);
    return 0;
}

static int write_head(struct compare_link *link, enum far_transfer_type type, const uint8_t *head, size_t len, struct far_error *err)
{
    link->written_ms = far_clock_monotonic_ms();
    return far_frame_write(link->stream, type, head, len, link->attempt->engine->config.idle_ms, err);
}

/* What the other side says next, but that it is alive. */
static int read_frame(struct compare_link *link, enum far_transfer_type type, struct far_frame *ret_frame, struct far_error *err)
{
    int rc;
    do {
        rc = far_frame_read(link->stream, link->attempt->engine->config.idle_ms, ret_frame, err);
    } while (rc == 0 && ret_frame->header.type == FAR_TRANSFER_PING);
    if (rc == 0 && ret_frame->header.type == FAR_TRANSFER_ERROR) {
        return far_frame_error(ret_frame, err);
    }
    return rc == 0 && ret_frame->header.type != type ? far_fail(err, FAR_INVALID, "the other node does not answer what it was asked") : rc;
}

static int begin_once(struct compare_link *link, const struct far_transfer_hello *hello, uint64_t *ret_base_bytes, struct far_error *err)
{
    bool dials = link->attempt->order.peer_address[0] != '\0';
    struct far_transfer_welcome welcome;
    struct far_frame frame;
    int rc = dials ? dial(link, err) : take_visitor(link, NULL, err);
    if (rc == 0) {
        size_t len = far_transfer_hello_encode(hello, frame.head);
        rc = write_head(link, FAR_TRANSFER_HELLO, frame.head, len, err);
    }
    rc = rc == 0 ? read_frame(link, FAR_TRANSFER_WELCOME, &frame, err) : rc;
    rc = rc == 0 ? far_transfer_welcome_decode(far_frame_head(&frame), &welcome, err) : rc;
    if (rc == 0) {
        *ret_base_bytes = welcome.base_bytes;
    } else {
        compare_link_close(link);
    }
    return rc;
}

int compare_link_begin(struct compare_link *link, const struct far_transfer_hello *hello, uint64_t *ret_base_bytes, struct far_error *err)
{
    uint64_t until_ms = far_clock_monotonic_ms() + LONELY_MS;
    for (;;) {
        compare_link_close(link);
        int rc = begin_once(link, hello, ret_base_bytes, err);
        bool may_come = compare_link_is_lost(rc) || rc == FAR_NOT_FOUND || rc == FAR_CONFLICT; /* the other one's order may be on its way */
        if (rc == 0 || !may_come || far_clock_monotonic_ms() > until_ms) {
            return rc == FAR_NOT_FOUND ? far_fail(err, FAR_IO, "the node of the point's vault does not wait for this comparison") : rc;
        }
        rc = pause_for(link, err);
        if (rc != 0) {
            return rc;
        }
    }
}

static int await_once(struct compare_link *link, struct far_transfer_hello *ret_hello, struct far_error *err)
{
    const struct far_engine_order *order = &link->attempt->order;
    struct far_transfer_knock knock = {.job_id = order->job_id, .disk_id = order->disk_id};
    struct far_frame frame;
    if (order->peer_address[0] == '\0') {
        return take_visitor(link, ret_hello, err);
    }
    int rc = dial(link, err);
    if (rc == 0) {
        size_t len = far_transfer_knock_encode(&knock, frame.head);
        rc = write_head(link, FAR_TRANSFER_KNOCK, frame.head, len, err);
    }
    rc = rc == 0 ? read_frame(link, FAR_TRANSFER_HELLO, &frame, err) : rc;
    return rc == 0 ? far_transfer_hello_decode(far_frame_head(&frame), ret_hello, err) : rc;
}

int compare_link_await(struct compare_link *link, struct far_transfer_hello *ret_hello, struct far_error *err)
{
    for (;;) {
        compare_link_close(link);
        int rc = await_once(link, ret_hello, err);
        if (rc == 0) {
            return 0;
        }
        rc = pause_for(link, err);
        if (rc != 0) {
            return rc;
        }
    }
}
