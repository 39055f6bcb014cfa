/* The writer of one connection of a send: pages of the map that the target is asked for; marks when they are due; offers,
 * they keep the target busy; data as far as the window reaches; a ping when there is nothing else to say; FIN when
 * everything is hashed and written. What it says goes out when a system call's worth is there, or when there is nothing
 * more to say at the moment. All connections take from the same queues: the fast ones take more. */
#include "dataplane/send_local.h"

#include "base/clock.h"

enum { THROTTLED_MS = 100 };

static uint64_t idle_ms_of(const struct far_send *send)
{
    return send->engine->config.idle_ms;
}

/* The offer by the ids of its domain, each with its leaf for whoever has the secret. */
static size_t encode_keyed(const struct far_id_key *key, const struct far_transfer_offer *offer, uint8_t *head)
{
    struct far_transfer_offer keyed = *offer;
    keyed.keyed = true;
    for (size_t i = 0; i < offer->block_count; i++) {
        struct far_hash256 leaf, id, veiled;
        memcpy(leaf.bytes, offer->ids[i], 32);
        far_id_key_id(key, &leaf, &id);
        far_id_key_veil(key, &id, &leaf, &veiled);
        memcpy(keyed.ids[i], id.bytes, 32);
        memcpy(keyed.veiled[i], veiled.bytes, 32);
    }
    return far_transfer_offer_encode(&keyed, head);
}

static int write_offer(struct send_lane *lane, const struct far_transfer_offer *offer, struct far_error *err)
{
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    size_t len = lane->send->keyed ? encode_keyed(&lane->send->ids, offer, head) : far_transfer_offer_encode(offer, head);
    return far_frame_add(lane->stream, FAR_TRANSFER_OFFER, head, len, idle_ms_of(lane->send), err);
}

static size_t data_bytes(const struct send_group *group)
{
    size_t bytes = 0;
    for (size_t i = 0; i < group->data.count; i++) {
        bytes += group->data.stored[i].length;
    }
    return bytes;
}

/* Head and some of the stored blocks, sent together; neighbours in the buffer are one piece. */
static int write_part(struct send_lane *lane, const struct send_group *group, size_t first, size_t count, struct far_error *err)
{
    struct far_transfer_data part = {.group = group->data.group, .count = (uint16_t)count};
    struct far_slice bulk[FAR_TRANSFER_GROUP];
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    size_t pieces = 0;
    memcpy(part.stored, group->data.stored + first, count * sizeof part.stored[0]);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *block = group->buffer + group->place[part.stored[i].slot] * FAR_BLOCK_BYTES;
        if (pieces > 0 && bulk[pieces - 1].data + bulk[pieces - 1].len == block) {
            bulk[pieces - 1].len += part.stored[i].length;
        } else {
            bulk[pieces++] = far_slice(block, part.stored[i].length);
        }
    }
    size_t len = far_transfer_data_encode(&part, head);
    return far_frame_add_bulk(lane->stream, FAR_TRANSFER_DATA, far_slice(head, len), bulk, pieces, idle_ms_of(lane->send),
                              err);
}

/* On a far path in several frames: of a connection that breaks, whole ones that arrived need not come again. */
static int write_data(struct send_lane *lane, const struct send_group *group, struct far_error *err)
{
    size_t most = lane->send->lane_count > 1 ? SEND_FAR_BLOCKS : FAR_TRANSFER_GROUP, count = group->data.count;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i += most) {
        rc = write_part(lane, group, i, count - i < most ? count - i : most, err);
    }
    return rc;
}

static int write_block(struct send_lane *lane, enum far_transfer_type type, uint64_t block, struct far_error *err)
{
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    size_t len = far_transfer_block_encode(block, head);
    return far_frame_add(lane->stream, type, head, len, idle_ms_of(lane->send), err);
}

static int write_page_ask(struct send_lane *lane, unsigned level, uint64_t index, struct far_error *err)
{
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    size_t len = far_transfer_page_ask_encode(level, index, head);
    return far_frame_add(lane->stream, FAR_TRANSFER_PAGE_ASK, head, len, idle_ms_of(lane->send), err);
}

/* How fast does the wire take data? The mutex is held. */
static void measure(struct far_send *send, uint64_t bytes, uint64_t ns)
{
    send->wire_bytes += bytes;
    send->wire_ns += ns;
    if (send->wire_bytes >= SEND_RATE_BYTES) {
        uint64_t us = send->wire_ns / 1000;
        send->wire_rate = send->wire_bytes * 1000000 / (us > 0 ? us : 1) * send->lanes_up;
        send->wire_bytes = send->wire_ns = 0;
    }
}

/* The next data, if the window has room for it: this connection holds it until the limits of bandwidth let it go. */
static bool hold_data(struct send_lane *lane)
{
    struct far_send *send = lane->send;
    struct send_group *group = send->to_send.first;
    if (lane->held == NULL && group != NULL &&
        (send->unacked_bytes == 0 || send->unacked_bytes + data_bytes(group) <= send->credit.window_bytes)) {
        lane->held = send_queue_pop(&send->to_send);
        group->lane = lane->index;
        group->unacked_bytes = data_bytes(group);
        group->early_ack = group->early_want = false;
        send->unacked_bytes += group->unacked_bytes;
    }
    return lane->held != NULL;
}

/* May what it holds go? Waits wait_ms for it. The mutex is held, and let go while waiting. */
static int pay(struct send_lane *lane, uint64_t wait_ms)
{
    struct far_send *send = lane->send;
    struct far_attempt *attempt = send->attempt;
    uint64_t bytes = lane->held->unacked_bytes + FAR_TRANSFER_HEAD_MAX, waited_ns = 0;
    pthread_mutex_unlock(&send->mutex);
    int rc = far_throttle_take(send->engine->throttle, &lane->ticket, attempt->order.plan_id, bytes, wait_ms,
                               &attempt->canceled, &waited_ns);
    pthread_mutex_lock(&send->mutex);
    lane->waited_ns += waited_ns;
    atomic_fetch_add(&send->throttled_ns, waited_ns);
    return rc;
}

/* Is everything offered, answered, and what was wanted of it written? Then the target knows what is still under way. */
static bool all_written(const struct far_send *send)
{
    if (!send_all_hashed(send)) {
        return false;
    }
    for (size_t i = 0; i < SEND_GROUPS; i++) {
        enum send_group_state state = send->groups[i].state;
        bool spare = state == SEND_OPEN; /* of workers that have nothing left to fill */
        if (state != SEND_FREE && state != SEND_SENT && !spare) {
            return false;
        }
    }
    for (size_t i = 0; i < send->engine->config.worker_count; i++) {
        if (send->workers[i].open != NULL) {
            return false;
        }
    }
    return true;
}

static int write_group_offer(struct send_lane *lane, struct far_error *err)
{
    struct far_send *send = lane->send;
    struct send_group *group = send_queue_pop(&send->to_offer);
    group->state = SEND_OFFERED; /* before it is written: the answer may be fast */
    group->lane = lane->index;
    send->groups_open++;
    struct far_transfer_offer offer = group->offer; /* a lane that is lost now has its groups offered by others */
    pthread_mutex_unlock(&send->mutex);
    int rc = write_offer(lane, &offer, err);
    pthread_mutex_lock(&send->mutex);
    return rc;
}

static int write_group_data(struct send_lane *lane, struct far_error *err)
{
    struct far_send *send = lane->send;
    struct send_group *group = lane->held;
    uint64_t began_ns = far_clock_monotonic_ns(), before = far_bstream_bytes_sent(lane->stream);
    struct send_stopwatch watch = send_stopwatch_begin();
    lane->held = NULL;
    pthread_mutex_unlock(&send->mutex);
    int rc = write_data(lane, group, err);
    atomic_fetch_add(&send->write_blocked_ns, send_stopwatch_blocked_ns(&watch));
    pthread_mutex_lock(&send->mutex);
    measure(send, far_bstream_bytes_sent(lane->stream) - before, far_clock_monotonic_ns() - began_ns + lane->waited_ns);
    lane->waited_ns = 0;
    send_group_drop_buffer(send, group);
    group->state = SEND_SENT;
    if (group->early_ack) {
        send_group_free(send, group);
    } else if (group->early_want) {
        send_group_read(send, group);
    }
    return rc;
}

static bool mark_is_due(struct far_send *send, uint64_t now_ms, uint64_t *ret_low)
{
    if (send->fin_sent || now_ms - send->marked_ms < SEND_MARK_MS / 5) {
        return false;
    }
    *ret_low = send_low_block(send);
    bool due = *ret_low >= send->marked_block + SEND_MARK_BLOCKS ||
               (*ret_low > send->marked_block && now_ms - send->marked_ms >= SEND_MARK_MS);
    if (due) {
        send->marked_block = *ret_low;
    }
    if (due || *ret_low == send->marked_block) {
        send->marked_ms = now_ms;
    }
    return due;
}

static void wait_for_more(struct far_send *send)
{
    uint64_t ms = idle_ms_of(send) / 4;
    struct timespec at = far_clock_monotonic_in(ms < SEND_MARK_MS / 5 ? ms : SEND_MARK_MS / 5);
    pthread_cond_timedwait(&send->out, &send->mutex, &at);
}

/* One frame, or a wait. The mutex is held, and let go while writing. */
static int write_next(struct send_lane *lane, struct far_error *err)
{
    struct far_send *send = lane->send;
    int rc = 0;
    uint64_t now_ms = far_clock_monotonic_ms(), low, index;
    unsigned level;
    if (far_source_map_next_ask(send->map, &level, &index)) {
        pthread_mutex_unlock(&send->mutex);
        rc = write_page_ask(lane, level, index, err);
        pthread_mutex_lock(&send->mutex);
    } else if (mark_is_due(send, now_ms, &low)) {
        pthread_mutex_unlock(&send->mutex);
        rc = write_block(lane, FAR_TRANSFER_MARK, low, err);
        far_source_map_pass(send->map, low);
        pthread_mutex_lock(&send->mutex);
    } else if (send->to_offer.first != NULL && send->groups_open < send->credit.groups) {
        rc = write_group_offer(lane, err);
    } else if (hold_data(lane) && pay(lane, 0) == 0) {
        rc = write_group_data(lane, err);
    } else if (!send->fin_sent && all_written(send)) {
        send->fin_sent = send->fin_known = true;
        pthread_mutex_unlock(&send->mutex);
        rc = write_block(lane, FAR_TRANSFER_FIN, send->blocks, err);
        pthread_mutex_lock(&send->mutex);
    } else if (now_ms - lane->written_ms >= idle_ms_of(send) / 4) {
        pthread_mutex_unlock(&send->mutex);
        rc = far_frame_write(lane->stream, FAR_TRANSFER_PING, NULL, 0, idle_ms_of(send), err);
        pthread_mutex_lock(&send->mutex);
    } else if (far_bstream_has_added(lane->stream)) {
        pthread_mutex_unlock(&send->mutex);
        rc = far_bstream_flush(lane->stream, idle_ms_of(send), err);
        pthread_mutex_lock(&send->mutex);
    } else if (lane->held != NULL) {
        if (pay(lane, THROTTLED_MS) != 0) {
            return 0;
        }
        rc = write_group_data(lane, err);
    } else {
        wait_for_more(send);
        return 0;
    }
    lane->written_ms = now_ms;
    return rc;
}

void *send_lane_writer_main(void *arg)
{
    struct send_lane *lane = arg;
    struct far_send *send = lane->send;
    pthread_mutex_lock(&send->mutex);
    while (!send->stop) {
        struct far_error error;
        if (!lane->up) {
            pthread_cond_wait(&send->out, &send->mutex);
            continue;
        }
        uint64_t before = far_bstream_bytes_sent(lane->stream);
        lane->writing = true;
        int rc = write_next(lane, &error);
        lane->writing = false;
        atomic_fetch_add(&send->attempt->bytes_sent, far_bstream_bytes_sent(lane->stream) - before);
        if (rc != 0 && lane->up) {
            lane->up = false;
            far_bstream_shutdown(lane->stream); /* its reader finds out */
        }
        if (!lane->up) {
            pthread_cond_broadcast(&send->ended);
        }
    }
    pthread_mutex_unlock(&send->mutex);
    return NULL;
}
