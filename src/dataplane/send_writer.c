/* The writer of a send: marks when they are due; offers, they keep the target busy; data as far as credit reaches; a
 * ping when there is nothing else to say; FIN when everything is hashed and answered. What it says goes out when a system
 * call's worth is there, or when there is nothing more to say at the moment. */
#include "dataplane/send_local.h"

#include "base/clock.h"

enum { MARK_MS = 500 };

static int write_offer(struct far_send *send, const struct send_group *group, struct far_error *err)
{
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    size_t len = far_transfer_offer_encode(&group->offer, head);
    return far_frame_add(send->stream, FAR_TRANSFER_OFFER, head, len, send->engine->config.idle_ms, err);
}

/* Head and the stored blocks, sent together; neighbours in the buffer are one piece. */
static int write_data(struct far_send *send, const struct send_group *group, struct far_error *err)
{
    const struct far_transfer_data *data = &group->data;
    struct far_slice bulk[FAR_TRANSFER_GROUP];
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    size_t pieces = 0;
    for (size_t i = 0; i < data->count; i++) {
        const uint8_t *block = group->buffer + group->place[data->stored[i].slot] * FAR_BLOCK_BYTES;
        if (pieces > 0 && bulk[pieces - 1].data + bulk[pieces - 1].len == block) {
            bulk[pieces - 1].len += data->stored[i].length;
        } else {
            bulk[pieces++] = far_slice(block, data->stored[i].length);
        }
    }
    size_t len = far_transfer_data_encode(data, head);
    return far_frame_add_bulk(send->stream, FAR_TRANSFER_DATA, far_slice(head, len), bulk, pieces,
                              send->engine->config.idle_ms, err);
}

static int write_block(struct far_send *send, enum far_transfer_type type, uint64_t block, struct far_error *err)
{
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    size_t len = far_transfer_block_encode(block, head);
    return far_frame_add(send->stream, type, head, len, send->engine->config.idle_ms, err);
}

static bool mark_due(const struct far_send *send, uint64_t low, uint64_t since_ms)
{
    return low >= send->marked_block + SEND_MARK_BLOCKS || (low > send->marked_block && since_ms >= MARK_MS);
}

static void wait_for_more(struct far_send *send)
{
    uint64_t ms = send->engine->config.idle_ms / 4;
    struct timespec at = far_clock_monotonic_in(ms < MARK_MS ? ms : MARK_MS);
    pthread_cond_timedwait(&send->out, &send->mutex, &at);
}

/* How fast does the wire take data? The mutex is held. */
static void measure(struct far_send *send, uint64_t bytes, uint64_t ns)
{
    send->wire_bytes += bytes;
    send->wire_ns += ns;
    if (send->wire_bytes >= SEND_RATE_BYTES) {
        uint64_t us = send->wire_ns / 1000;
        send->wire_rate = send->wire_bytes * 1000000 / (us > 0 ? us : 1);
        send->wire_bytes = send->wire_ns = 0;
    }
}

enum { TAKE_MS = 100 };

struct writer {
    struct far_throttle_ticket ticket;
    uint64_t waited_ns; /* for the limits of bandwidth, since the last data */
    uint64_t written_ms; /* when something was written last */
    uint64_t marked_ms;
};

static uint64_t bytes_of(const struct send_group *group)
{
    uint64_t bytes = FAR_TRANSFER_HEAD_MAX;
    for (size_t i = 0; i < group->data.count; i++) {
        bytes += group->data.stored[i].length;
    }
    return bytes;
}

/* May the next data go? Waits a little for it. The mutex is held, and let go while waiting. */
static bool may_send(struct far_send *send, struct writer *writer, int *ret_rc)
{
    struct far_attempt *attempt = send->attempt;
    uint64_t bytes = bytes_of(send->to_send.first), waited_ns;
    pthread_mutex_unlock(&send->mutex);
    *ret_rc = far_throttle_take(send->engine->throttle, &writer->ticket, attempt->order.plan_id, bytes, TAKE_MS, &attempt->canceled,
                                &waited_ns);
    pthread_mutex_lock(&send->mutex);
    writer->waited_ns += waited_ns;
    return *ret_rc == 0;
}

/* One frame, or a wait. The mutex is held, and let go while writing. */
static int write_next(struct far_send *send, struct writer *writer, struct far_error *err)
{
    int rc = 0, may_rc = 0;
    uint64_t now_ms = far_clock_monotonic_ms();
    uint64_t low = send_low_block(send);
    struct send_group *group;
    if (!send->fin_sent && mark_due(send, low, now_ms - writer->marked_ms)) {
        send->marked_block = low;
        writer->marked_ms = now_ms;
        pthread_mutex_unlock(&send->mutex);
        rc = write_block(send, FAR_TRANSFER_MARK, low, err);
        pthread_mutex_lock(&send->mutex);
    } else if (send->spent.offers < send->credit.offers && (group = send_queue_pop(&send->to_offer)) != NULL) {
        send->spent.offers++;
        group->state = SEND_OFFERED; /* before it is written: the answer may be fast */
        pthread_mutex_unlock(&send->mutex);
        rc = write_offer(send, group, err);
        pthread_mutex_lock(&send->mutex);
    } else if (send->spent.datas < send->credit.datas && send->to_send.first != NULL && may_send(send, writer, &may_rc)) {
        group = send_queue_pop(&send->to_send);
        uint64_t began_ns = far_clock_monotonic_ns();
        uint64_t before = far_bstream_bytes_sent(send->stream);
        send->spent.datas++;
        pthread_mutex_unlock(&send->mutex);
        rc = write_data(send, group, err);
        pthread_mutex_lock(&send->mutex);
        measure(send, far_bstream_bytes_sent(send->stream) - before, far_clock_monotonic_ns() - began_ns + writer->waited_ns);
        writer->waited_ns = 0;
        send_group_free(send, group);
    } else if (low == send->blocks && !send->fin_sent) {
        send->fin_sent = true;
        pthread_mutex_unlock(&send->mutex);
        rc = write_block(send, FAR_TRANSFER_FIN, low, err);
        pthread_mutex_lock(&send->mutex);
    } else if (now_ms - writer->written_ms >= send->engine->config.idle_ms / 4) {
        pthread_mutex_unlock(&send->mutex);
        rc = far_frame_write(send->stream, FAR_TRANSFER_PING, NULL, 0, send->engine->config.idle_ms, err);
        pthread_mutex_lock(&send->mutex);
    } else if (far_bstream_has_added(send->stream)) {
        pthread_mutex_unlock(&send->mutex);
        rc = far_bstream_flush(send->stream, send->engine->config.idle_ms, err);
        pthread_mutex_lock(&send->mutex);
    } else if (may_rc == FAR_TIMEOUT) {
        return 0; /* it has waited */
    } else {
        wait_for_more(send);
        return 0;
    }
    writer->written_ms = now_ms;
    return rc;
}

void *send_writer_main(void *arg)
{
    struct far_send *send = arg;
    struct writer writer = {.written_ms = far_clock_monotonic_ms()};
    uint64_t sent_before = atomic_load(&send->attempt->bytes_sent);
    far_throttle_ticket_init(&writer.ticket);
    pthread_mutex_lock(&send->mutex);
    while (!send->stop) {
        struct far_error error;
        int rc = write_next(send, &writer, &error);
        atomic_store(&send->attempt->bytes_sent, sent_before + far_bstream_bytes_sent(send->stream));
        if (rc != 0) {
            send_stop(send, rc, &error, false);
        }
    }
    pthread_mutex_unlock(&send->mutex);
    far_throttle_ticket_done(send->engine->throttle, &writer.ticket);
    return NULL;
}
