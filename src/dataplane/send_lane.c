/* One connection of a send: dialed with back-off, or waited for where the target dials; greeted, read until it breaks, and
 * made anew. What was under way on it is offered once more on whichever connection is there; the session goes on. It ends
 * when the target says so, or has forgotten it, or no connection came to be for SEND_LONELY_MS. */
#include "dataplane/send_local.h"

#include "base/clock.h"

#include <stdio.h>

enum { DIAL_MS = 5000, SEND_LONELY_MS = 120000, VISITOR_WAIT_MS = 250, SHORT_MS = 200 };

/* From now on send_stop() shuts it down. */
static int use(struct send_lane *lane, struct far_bstream *stream, struct far_error *err)
{
    struct far_send *send = lane->send;
    pthread_mutex_lock(&send->mutex);
    int rc = send->stop ? far_fail(err, FAR_CANCELED, "the session is over") : far_attempt_check(send->attempt, err);
    lane->stream = rc == 0 ? stream : NULL;
    pthread_mutex_unlock(&send->mutex);
    return rc;
}

void send_lane_close(struct send_lane *lane)
{
    struct far_send *send = lane->send;
    pthread_mutex_lock(&send->mutex);
    struct far_bstream *stream = lane->stream;
    lane->stream = NULL;
    pthread_mutex_unlock(&send->mutex);
    far_bstream_free(stream);
}

/* Is the path so far that a round trip is worth a guess, and the answer as good as known? */
static bool may_guess(const struct send_lane *lane, const struct far_bstream *stream)
{
    const struct far_send *send = lane->send;
    uint32_t kernel_us = far_bstream_round_trip_us(stream);
    bool far = lane->dialed_us >= SEND_AHEAD_US || (kernel_us != UINT32_MAX && kernel_us >= SEND_AHEAD_US);
    return far && send->guesses && !send->list_failed && far_source_map_known(send->map) == 0;
}

static int await_welcome(struct send_lane *lane, struct far_bstream *stream, uint64_t began_ns,
                         struct far_transfer_welcome *ret_welcome, struct far_error *err)
{
    struct far_frame frame;
    uint64_t idle_ms = lane->send->engine->config.idle_ms;
    int rc = 0;
    do {
        rc = far_frame_read(stream, idle_ms, &frame, err);
        lane->answered_us = (far_clock_monotonic_ns() - began_ns) / 1000;
    } while (rc == 0 && frame.header.type == FAR_TRANSFER_PING && lane->answered_us < SEND_LONELY_MS * 1000ull);
    if (rc == 0 && frame.header.type == FAR_TRANSFER_ERROR) {
        rc = far_frame_error(&frame, err);
    } else if (rc == 0 && frame.header.type != FAR_TRANSFER_WELCOME) {
        rc = far_fail(err, FAR_INVALID, "the other node did not answer the hello");
    }
    return rc == 0 ? far_transfer_welcome_decode(far_frame_head(&frame), ret_welcome, err) : rc;
}

static int say_hello(struct send_lane *lane, struct far_bstream *stream, bool joins,
                     struct far_transfer_welcome *ret_welcome, struct far_error *err)
{
    struct far_send *send = lane->send;
    const struct far_engine_order *order = &send->attempt->order;
    struct far_transfer_hello hello = {
        .job_id = order->job_id,
        .disk_index = order->disk_index,
        .disk_id = order->disk_id,
        .task = order->task,
        .attempt = order->attempt,
        .incarnation_epoch = order->incarnation_epoch,
        .plan_epoch = order->plan_epoch,
        .size_bytes = send->size_bytes,
        .frontier_block = joins ? 0 : send->list_failed ? 0 : far_source_map_known(send->map),
        .has_base = order->has_base_root,
        .joins = joins,
        .keyed = send->keyed,
    };
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    memcpy(hello.session, send->session, sizeof hello.session);
    memcpy(hello.base_root, order->base_root, sizeof hello.base_root);
    snprintf(hello.freeze_ref, sizeof hello.freeze_ref, "%s", order->freeze_ref);
    uint64_t idle_ms = send->engine->config.idle_ms, began_ns = far_clock_monotonic_ns();
    if (send->keyed) {
        far_hmac(&send->ids.hello, head, far_transfer_hello_bound(&hello, head), hello.proof);
    }
    size_t len = far_transfer_hello_encode(&hello, head);
    int rc = far_frame_write(stream, FAR_TRANSFER_HELLO, head, len, idle_ms, err);
    lane->awaits_welcome = !joins && may_guess(lane, stream);
    if (lane->awaits_welcome) {
        *ret_welcome = (struct far_transfer_welcome){.base_bytes = hello.has_base ? send->size_bytes : 0};
        return rc;
    }
    rc = rc == 0 ? await_welcome(lane, stream, began_ns, ret_welcome, err) : rc;
    if (rc == 0 && !joins && ret_welcome->resume_block > hello.frontier_block) {
        rc = far_fail(err, FAR_INVALID, "the other node resumes where nobody was");
    }
    if (rc == 0 && ret_welcome->base_bytes > send->size_bytes) {
        rc = far_fail(err, FAR_INVALID, "the other node has a base of %llu bytes, larger than the disk",
                      (unsigned long long)ret_welcome->base_bytes);
    }
    return rc;
}

/* A connection that the target dialed; taken from those that wait for this send. */
static int await_visitor(struct send_lane *lane, struct far_bstream **ret_stream, struct far_error *err)
{
    struct far_attempt *attempt = lane->send->attempt;
    struct far_visitor *visitor = far_attempt_next_visitor(attempt);
    if (visitor == NULL) {
        pthread_mutex_lock(&attempt->mutex);
        if (!far_attempt_has_visitor(attempt)) {
            far_attempt_wait(attempt, VISITOR_WAIT_MS);
        }
        pthread_mutex_unlock(&attempt->mutex);
        visitor = far_attempt_next_visitor(attempt);
    }
    if (visitor == NULL) {
        return far_fail(err, FAR_TIMEOUT, "the target node has not dialed");
    }
    *ret_stream = visitor->stream;
    visitor->stream = NULL;
    far_visitor_free(visitor);
    return 0;
}

int send_lane_connect(struct send_lane *lane, bool joins, struct far_transfer_welcome *ret_welcome, struct far_error *err)
{
    struct far_send *send = lane->send;
    const struct far_engine_order *order = &send->attempt->order;
    struct far_peer peer = {.party = FAR_PARTY_NODE, .id = order->peer_node_id};
    struct far_bstream *stream = NULL;
    bool dials = order->peer_address[0] != '\0', own = false;
    uint64_t began_ns = far_clock_monotonic_ns();
    int rc = dials ? far_bstream_connect(send->engine->config.net, order->peer_address, DIAL_MS, &stream, err)
                   : await_visitor(lane, &stream, err);
    if (rc != 0) {
        return rc;
    }
    rc = use(lane, stream, err);
    if (rc != 0) {
        far_bstream_free(stream);
        return rc;
    }
    rc = dials ? far_bstream_greet_ahead(stream, peer, DIAL_MS, err) : 0;
    lane->dialed_us = dials ? (far_clock_monotonic_ns() - began_ns) / 1000 : 0;
    if (rc == 0) {
        rc = far_attempt_check_peer(send->attempt, stream, err);
        own = rc != 0; /* dialing again cannot help */
    }
    if (rc == 0) {
        rc = say_hello(lane, stream, joins, ret_welcome, err);
        own = rc == FAR_DENIED;
    }
    if (rc != 0) {
        send_lane_close(lane);
    }
    if (own) {
        pthread_mutex_lock(&send->mutex);
        send_stop(send, rc, err, true);
        pthread_mutex_unlock(&send->mutex);
    }
    return rc;
}

/* ---- in a session ---- */

/* Why it ended. */
static int read_frames(struct send_lane *lane, struct far_error *err)
{
    struct far_send *send = lane->send;
    struct far_frame frame;
    int rc = 0;
    while (rc == 0) { /* the end of the session shuts the stream */
        rc = far_frame_read(lane->stream, send->engine->config.idle_ms, &frame, err);
        rc = rc == 0 ? send_take_frame(lane, &frame, err) : rc;
    }
    return rc;
}

static void set_up(struct send_lane *lane)
{
    struct far_send *send = lane->send;
    lane->up = true;
    lane->written_ms = far_clock_monotonic_ms();
    send->lanes_up++;
    send->lonely_since_ms = 0;
    atomic_store(&send->attempt->figures.streams, send->lanes_up);
    pthread_cond_broadcast(&send->out);
}

/* Until the writer is out of it; then its groups are offered by others. The mutex is held. */
static void set_down(struct send_lane *lane)
{
    struct far_send *send = lane->send;
    lane->up = false;
    far_bstream_shutdown(lane->stream);
    pthread_cond_broadcast(&send->out);
    while (lane->writing) {
        pthread_cond_wait(&send->ended, &send->mutex);
    }
    send->lanes_up--;
    send->lonely_since_ms = send->lanes_up == 0 ? far_clock_monotonic_ms() : 0;
    atomic_store(&send->attempt->figures.streams, send->lanes_up);
    if (!send->stop) {
        send_lane_lost(lane);
    }
}

/* The target knows this session, or not any more, or has everything. The mutex is held. */
static void judge_join(struct send_lane *lane, int rc, const struct far_transfer_welcome *welcome,
                       const struct far_error *error)
{
    struct far_send *send = lane->send;
    if (rc == 0 && welcome->complete && !send->fin_known) { /* of this session it cannot be: another one will tell */
        struct far_error unknown;
        far_fail(&unknown, FAR_CONFLICT, "the other node has everything of a transfer that is not complete");
        send_stop(send, FAR_CONFLICT, &unknown, false);
    } else if (rc == 0 && welcome->complete) {
        send_stop(send, 0, NULL, false);
    } else if (rc == FAR_NOT_FOUND || rc == FAR_CONFLICT) {
        send_stop(send, rc, error, false);
    } else if (rc != 0 && send->lonely_since_ms != 0 &&
               far_clock_monotonic_ms() - send->lonely_since_ms >= SEND_LONELY_MS) {
        send_stop(send, rc, error, false);
    }
}

static void wait_a_while(struct far_send *send, uint64_t *backoff_ms)
{
    if (!send->stop) {
        struct timespec at = far_clock_monotonic_in(*backoff_ms);
        pthread_cond_timedwait(&send->ended, &send->mutex, &at);
        *backoff_ms = *backoff_ms * 2 < FAR_BACKOFF_MAX_MS ? *backoff_ms * 2 : FAR_BACKOFF_MAX_MS;
    }
}

void *send_lane_reader_main(void *arg)
{
    struct send_lane *lane = arg;
    struct far_send *send = lane->send;
    struct far_transfer_welcome welcome;
    struct far_error error;
    uint64_t backoff_ms = FAR_BACKOFF_MIN_MS;
    pthread_mutex_lock(&send->mutex);
    while (!send->stop) {
        int rc = 0;
        if (lane->stream == NULL && !send->welcomed) { /* the session is still a guess: nobody can join it */
            pthread_cond_wait(&send->ended, &send->mutex);
            continue;
        }
        if (lane->stream == NULL) {
            pthread_mutex_unlock(&send->mutex);
            rc = send_lane_connect(lane, true, &welcome, &error);
            pthread_mutex_lock(&send->mutex);
            judge_join(lane, rc, &welcome, &error);
        }
        if (rc != 0) {
            wait_a_while(send, &backoff_ms);
        }
        if (rc != 0 || send->stop) {
            continue;
        }
        uint64_t began_ms = far_clock_monotonic_ms();
        set_up(lane);
        pthread_mutex_unlock(&send->mutex);
        rc = read_frames(lane, &error);
        pthread_mutex_lock(&send->mutex);
        set_down(lane);
        if (!send->welcomed) {
            send_stop(send, rc, &error, false);
        }
        pthread_mutex_unlock(&send->mutex);
        send_lane_close(lane);
        pthread_mutex_lock(&send->mutex);
        if (far_clock_monotonic_ms() - began_ms >= SHORT_MS) {
            backoff_ms = FAR_BACKOFF_MIN_MS;
        } else {
            wait_a_while(send, &backoff_ms);
        }
    }
    pthread_mutex_unlock(&send->mutex);
    send_lane_close(lane);
    return NULL;
}
