/* One connection of a receive: its reader and its life. A connection that breaks is forgotten; what the source was not
 * answered it will offer again on another. */
#include "dataplane/receive_local.h"

#include "base/clock.h"
#include "base/thread.h"

static void *reader_main(void *arg)
{
    struct receive_lane *lane = arg;
    struct far_receive *receive = lane->receive;
    struct far_frame frame;
    struct far_error error;
    bool own = false;
    int rc = 0;
    uint64_t before = 0;
    while (rc == 0) {
        own = false;
        rc = far_frame_read(lane->stream, receive->engine->config.idle_ms, &frame, &error);
        rc = rc == 0 ? receive_take_frame(lane, &frame, &own, &error) : rc;
        uint64_t now = far_bstream_bytes_received(lane->stream);
        atomic_fetch_add(&receive->attempt->bytes_sent, now - before);
        before = now;
    }
    pthread_mutex_lock(&receive->mutex);
    if (own) {
        receive_stop(receive, rc, &error, true);
    }
    if (!receive->stop && !receive->complete) {
        receive_adapt(receive, true);
    }
    lane->up = false;
    lane->over = true;
    if (!own) { /* the writer says why before it shuts it */
        far_bstream_shutdown(lane->stream);
    }
    pthread_cond_broadcast(&receive->out);
    pthread_cond_broadcast(&receive->ended);
    pthread_mutex_unlock(&receive->mutex);
    return NULL;
}

static void join(struct receive_lane *lane)
{
    if (lane->runs) {
        pthread_join(lane->reader, NULL);
        pthread_join(lane->writer, NULL);
        lane->runs = false;
    }
    far_bstream_free(lane->stream);
    lane->stream = NULL;
}

size_t receive_lanes_up(const struct far_receive *receive)
{
    size_t up = 0;
    for (size_t i = 0; i < FAR_TRANSFER_LANES_MAX; i++) {
        up += receive->lanes[i].up;
    }
    return up;
}

int receive_lane_start(struct far_receive *receive, struct far_bstream *stream, struct far_error *err)
{
    struct receive_lane *lane = NULL;
    pthread_attr_t attr;
    pthread_mutex_lock(&receive->mutex);
    for (size_t i = 0; i < FAR_TRANSFER_LANES_MAX && lane == NULL; i++) {
        lane = !receive->lanes[i].up && (!receive->lanes[i].runs || receive->lanes[i].over) ? &receive->lanes[i] : NULL;
    }
    pthread_mutex_unlock(&receive->mutex);
    if (lane == NULL) {
        far_bstream_free(stream);
        return far_fail(err, FAR_LIMIT, "more than %d connections of one transfer", FAR_TRANSFER_LANES_MAX);
    }
    join(lane);
    pthread_mutex_lock(&receive->mutex);
    lane->receive = receive;
    lane->index = (unsigned)(lane - receive->lanes);
    lane->stream = stream;
    lane->want_first = lane->want_count = lane->ack_count = lane->page_count = 0;
    lane->credit_told = (struct far_transfer_credit){0};
    lane->durable_told = receive->frontier_block;
    lane->over = lane->told = false;
    lane->life++;
    lane->up = true;
    pthread_mutex_unlock(&receive->mutex);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, FAR_ENGINE_WORKER_STACK_BYTES);
    int failed = pthread_create(&lane->reader, &attr, reader_main, lane);
    if (failed == 0) {
        failed = pthread_create(&lane->writer, &attr, receive_lane_writer_main, lane);
        if (failed != 0) {
            far_bstream_shutdown(stream);
            pthread_join(lane->reader, NULL);
        }
    }
    pthread_attr_destroy(&attr);
    lane->runs = failed == 0;
    if (failed != 0) {
        pthread_mutex_lock(&receive->mutex);
        lane->up = false;
        pthread_mutex_unlock(&receive->mutex);
        join(lane);
        return far_fail_errno(err, FAR_LIMIT, failed, "start a thread");
    }
    pthread_mutex_lock(&receive->mutex);
    atomic_store(&receive->attempt->figures.streams, receive_lanes_up(receive));
    pthread_mutex_unlock(&receive->mutex);
    return 0;
}

void receive_lanes_join(struct far_receive *receive)
{
    for (size_t i = 0; i < FAR_TRANSFER_LANES_MAX; i++) {
        join(&receive->lanes[i]);
    }
    atomic_store(&receive->attempt->figures.streams, 0);
}
