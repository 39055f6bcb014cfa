/* Where the receiving side opens the connections, because the source cannot be reached: each dialer has one under way, says
 * which send it means (KNOCK), reads the source's hello and hands the connection to its own attempt, as if it had come in
 * on the data port. On a near path one is enough. */
#include "dataplane/receive_local.h"

#include "base/clock.h"

#include <stdlib.h>

enum { DIAL_MS = 5000, NEAR_US = 2000 };

static int greet(struct far_receive *receive, struct far_visitor *visitor, struct far_error *err)
{
    const struct far_engine_order *order = &receive->attempt->order;
    struct far_transfer_knock knock = {.job_id = order->job_id, .disk_id = order->disk_id};
    struct far_frame frame;
    uint64_t idle_ms = receive->engine->config.idle_ms;
    size_t len = far_transfer_knock_encode(&knock, frame.head);
    int rc = far_attempt_check_peer(receive->attempt, visitor->stream, err);
    rc = rc == 0 ? far_frame_write(visitor->stream, FAR_TRANSFER_KNOCK, frame.head, len, idle_ms, err) : rc;
    rc = rc == 0 ? far_frame_read(visitor->stream, idle_ms, &frame, err) : rc;
    if (rc == 0 && frame.header.type == FAR_TRANSFER_ERROR) {
        rc = far_frame_error(&frame, err);
    } else if (rc == 0 && frame.header.type != FAR_TRANSFER_HELLO) {
        rc = far_fail(err, FAR_INVALID, "the first frame is no hello");
    }
    return rc == 0 ? far_transfer_hello_decode(far_frame_head(&frame), &visitor->hello, err) : rc;
}

/* From now on receive_dial_stop() shuts it down. */
static int use(struct receive_dialer *dialer, struct far_bstream *stream, struct far_error *err)
{
    struct far_receive *receive = dialer->receive;
    pthread_mutex_lock(&receive->mutex);
    int rc = receive->closing && stream != NULL ? far_fail(err, FAR_CANCELED, "canceled") : 0;
    dialer->stream = rc == 0 ? stream : NULL;
    pthread_mutex_unlock(&receive->mutex);
    return rc;
}

static int dial(struct receive_dialer *dialer, struct far_error *err)
{
    struct far_receive *receive = dialer->receive;
    struct far_attempt *attempt = receive->attempt;
    struct far_peer peer = {.party = FAR_PARTY_NODE, .id = attempt->order.peer_node_id};
    struct far_visitor *visitor = calloc(1, sizeof *visitor);
    if (visitor == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a connection");
    }
    int rc = far_bstream_connect(receive->engine->config.net, attempt->order.peer_address, DIAL_MS, &visitor->stream, err);
    rc = rc == 0 ? use(dialer, visitor->stream, err) : rc;
    rc = rc == 0 ? far_bstream_greet_ahead(visitor->stream, peer, DIAL_MS, err) : rc;
    if (rc == 0) {
        uint32_t round_trip_us = far_bstream_round_trip_us(visitor->stream);
        pthread_mutex_lock(&receive->mutex);
        receive->dials_wanted = round_trip_us < NEAR_US ? 1 : RECEIVE_DIALS;
        pthread_cond_broadcast(&receive->ended);
        pthread_mutex_unlock(&receive->mutex);
        rc = greet(receive, visitor, err);
    }
    use(dialer, NULL, NULL);
    if (rc != 0) {
        far_visitor_free(visitor);
        return rc;
    }
    far_attempt_visit(attempt, visitor);
    return 0;
}

static void *dialer_main(void *arg)
{
    struct receive_dialer *dialer = arg;
    struct far_receive *receive = dialer->receive;
    size_t number = (size_t)(dialer - receive->dialers);
    uint64_t backoff_ms = FAR_BACKOFF_MIN_MS;
    pthread_mutex_lock(&receive->mutex);
    while (!receive->closing && !far_attempt_stopped(receive->attempt)) {
        bool wanted = number < receive->dials_wanted && receive_lanes_up(receive) < receive->dials_wanted;
        if (wanted) {
            struct far_error error;
            pthread_mutex_unlock(&receive->mutex);
            int rc = dial(dialer, &error);
            pthread_mutex_lock(&receive->mutex);
            backoff_ms = rc == 0 ? FAR_BACKOFF_MIN_MS : backoff_ms * 2 < FAR_BACKOFF_MAX_MS ? backoff_ms * 2 : FAR_BACKOFF_MAX_MS;
        }
        struct timespec at = far_clock_monotonic_in(wanted ? backoff_ms : FAR_BACKOFF_MAX_MS);
        if (!receive->closing) {
            pthread_cond_timedwait(&receive->ended, &receive->mutex, &at);
        }
    }
    pthread_mutex_unlock(&receive->mutex);
    return NULL;
}

int receive_dial_start(struct far_receive *receive, struct far_error *err)
{
    pthread_attr_t attr;
    int failed = 0;
    if (receive->attempt->order.peer_address[0] == '\0') {
        return 0;
    }
    receive->dials_wanted = 1;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, FAR_ENGINE_WORKER_STACK_BYTES);
    for (size_t i = 0; failed == 0 && i < RECEIVE_DIALS; i++) {
        receive->dialers[i].receive = receive;
        failed = pthread_create(&receive->dialers[i].thread, &attr, dialer_main, &receive->dialers[i]);
        receive->dialers[i].runs = failed == 0;
    }
    pthread_attr_destroy(&attr);
    return failed == 0 ? 0 : far_fail_errno(err, FAR_LIMIT, failed, "start a thread");
}

void receive_dial_stop(struct far_receive *receive)
{
    pthread_mutex_lock(&receive->mutex);
    receive->closing = true;
    for (size_t i = 0; i < RECEIVE_DIALS; i++) {
        if (receive->dialers[i].stream != NULL) {
            far_bstream_shutdown(receive->dialers[i].stream);
        }
    }
    pthread_cond_broadcast(&receive->ended);
    pthread_mutex_unlock(&receive->mutex);
    for (size_t i = 0; i < RECEIVE_DIALS; i++) {
        if (receive->dialers[i].runs) {
            pthread_join(receive->dialers[i].thread, NULL);
            receive->dialers[i].runs = false;
        }
    }
}
