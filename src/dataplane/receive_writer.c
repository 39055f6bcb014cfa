/* The writer of one connection of a receive (answers, acknowledgements, pages of the base, credit, the durable frontier,
 * pings) and the checkpointer of the session. */
#include "dataplane/receive_local.h"

#include "base/clock.h"

#include <stdlib.h>

enum { ERROR_MS = 1000 };

static void wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t timeout_ms)
{
    struct timespec at = far_clock_monotonic_in(timeout_ms);
    pthread_cond_timedwait(cond, mutex, &at);
}

/* As many answers as fit. */
static size_t compose_wants(struct receive_lane *lane, uint8_t *head)
{
    size_t len = 0;
    for (size_t count = 0; lane->want_count > 0 && count < FAR_TRANSFER_WANTS_MAX; count++) {
        const struct far_transfer_want *want = &lane->wants[lane->want_first];
        if (len + far_transfer_want_bytes(want) > FAR_TRANSFER_HEAD_MAX) {
            break;
        }
        len += far_transfer_want_encode(want, head + len);
        lane->want_first = (lane->want_first + 1) % RECEIVE_WANTS;
        lane->want_count--;
    }
    pthread_cond_broadcast(&lane->receive->room);
    return len;
}

static size_t compose_acks(struct receive_lane *lane, uint8_t *head)
{
    size_t count = lane->ack_count < FAR_TRANSFER_WANTS_MAX ? lane->ack_count : FAR_TRANSFER_WANTS_MAX;
    size_t len = far_transfer_ack_encode(lane->acks + lane->ack_count - count, count, head);
    lane->ack_count -= count;
    return len;
}

/* Composes the next frame; its length, or SIZE_MAX: nothing to say, but a ping perhaps. The mutex is held. */
static size_t compose(struct receive_lane *lane, enum far_transfer_type *ret_type, uint8_t *head)
{
    struct far_receive *receive = lane->receive;
    struct far_transfer_credit credit = {
        .groups = FAR_TRANSFER_SLOTS / 2, .window_bytes = receive->window_bytes, .busy = receive->busy};
    const struct far_transfer_credit *told = &lane->credit_told;
    if (credit.groups != told->groups || credit.window_bytes != told->window_bytes || credit.busy != told->busy) {
        lane->credit_told = credit;
        *ret_type = FAR_TRANSFER_CREDIT;
        return far_transfer_credit_encode(&credit, head);
    }
    if (lane->want_count > 0) {
        *ret_type = FAR_TRANSFER_WANT;
        return compose_wants(lane, head);
    }
    if (lane->ack_count > 0) {
        *ret_type = FAR_TRANSFER_ACK;
        return compose_acks(lane, head);
    }
    if (receive->frontier_block > lane->durable_told) {
        lane->durable_told = receive->frontier_block;
        *ret_type = FAR_TRANSFER_DURABLE;
        return far_transfer_block_encode(receive->frontier_block, head);
    }
    if (receive->complete && !lane->told) {
        lane->told = true;
        *ret_type = FAR_TRANSFER_FIN_ACK;
        return 0;
    }
    return SIZE_MAX;
}

void receive_say_error(struct far_bstream *stream, const struct far_error *error)
{
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    size_t len = far_transfer_error_encode(error, head);
    far_frame_write(stream, FAR_TRANSFER_ERROR, head, len, ERROR_MS, NULL);
}

/* One page of the base's tree that was asked for. The mutex is held, and let go. */
static int write_page(struct receive_lane *lane, struct far_error *err)
{
    struct far_receive *receive = lane->receive;
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    struct far_transfer_page *page = malloc(sizeof *page);
    unsigned level = lane->pages[0].level;
    uint64_t index = lane->pages[0].index;
    memmove(lane->pages, lane->pages + 1, --lane->page_count * sizeof lane->pages[0]);
    pthread_cond_broadcast(&receive->room);
    pthread_mutex_unlock(&receive->mutex);
    bool own = false;
    int rc = page == NULL ? far_fail(err, FAR_LIMIT, "no memory for a page of a map") : 0;
    if (rc == 0) {
        page->level = (uint8_t)level;
        page->index = index;
        rc = far_point_page(receive->base, level, index, (struct far_hash256 *)page->hashes, err);
        own = rc != 0 && rc != FAR_INVALID; /* it will not be there the next time either; invalid: of the source's making */
    }
    if (rc == 0) {
        size_t len = far_transfer_page_encode(page, head);
        rc = far_frame_add(lane->stream, FAR_TRANSFER_MAP_PAGE, head, len, receive->engine->config.idle_ms, err);
    }
    free(page);
    pthread_mutex_lock(&receive->mutex);
    if (own) {
        far_error_context(err, "read the map of the base point");
        receive_stop(receive, rc, err, true);
    }
    return rc;
}

/* One frame, or a wait. The mutex is held, and let go while writing. */
static int write_next(struct receive_lane *lane, uint64_t *written_ms, struct far_error *err)
{
    struct far_receive *receive = lane->receive;
    uint64_t idle_ms = receive->engine->config.idle_ms, now_ms = far_clock_monotonic_ms();
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    enum far_transfer_type type = FAR_TRANSFER_PING;
    if (lane->page_count > 0) {
        *written_ms = now_ms;
        return write_page(lane, err);
    }
    size_t len = compose(lane, &type, head);
    bool idle = len == SIZE_MAX && now_ms - *written_ms < idle_ms / 4;
    if (idle && !far_bstream_has_added(lane->stream)) {
        wait_until(&receive->out, &receive->mutex, idle_ms / 4);
        return 0;
    }
    *written_ms = now_ms;
    pthread_mutex_unlock(&receive->mutex);
    int rc = idle ? 0 : far_frame_add(lane->stream, type, head, len == SIZE_MAX ? 0 : len, idle_ms, err);
    if (rc == 0 && (idle || len == SIZE_MAX || type == FAR_TRANSFER_FIN_ACK)) {
        rc = far_bstream_flush(lane->stream, idle_ms, err);
    }
    pthread_mutex_lock(&receive->mutex);
    return rc;
}

/* Has every connection heard the end? If all were cut a source that dials comes again and is answered from the vault; one that
 * is dialed can only be told by this attempt. */
static bool all_told(const struct far_receive *receive)
{
    bool told = receive->attempt->order.peer_address[0] == '\0';
    for (size_t i = 0; i < FAR_TRANSFER_LANES_MAX; i++) {
        if (receive->lanes[i].up && !receive->lanes[i].told) {
            return false;
        }
        told = told || receive->lanes[i].told;
    }
    return receive->complete && told;
}

void *receive_lane_writer_main(void *arg)
{
    struct receive_lane *lane = arg;
    struct far_receive *receive = lane->receive;
    uint64_t written_ms = far_clock_monotonic_ms();
    int rc = 0;
    pthread_mutex_lock(&receive->mutex);
    while (!receive->stop && lane->up && !lane->told && rc == 0) {
        struct far_error error;
        rc = write_next(lane, &written_ms, &error);
    }
    if (all_told(receive)) {
        receive_stop(receive, 0, NULL, false);
    }
    bool tell = receive->own && receive->rc != 0;
    struct far_error why = receive->error;
    pthread_mutex_unlock(&receive->mutex);
    if (tell) {
        receive_say_error(lane->stream, &why);
    }
    far_bstream_shutdown(lane->stream); /* wakes the reader */
    return NULL;
}

/* ---- checkpoints ---- */

/* Milliseconds until a checkpoint is due; 0: now. The mutex is held. */
static uint64_t due_in(const struct far_receive *receive, uint64_t since_ms)
{
    const struct far_engine_config *config = &receive->engine->config;
    bool news = receive->settled_block > receive->frontier_block;
    if (receive->fin && receive->settled_block == receive->blocks) {
        return 0;
    }
    if (news && (receive->stored_bytes >= config->checkpoint_bytes || since_ms >= config->checkpoint_ms)) {
        return 0;
    }
    return since_ms < config->checkpoint_ms ? config->checkpoint_ms - since_ms : config->checkpoint_ms;
}

void *receive_checkpoint_main(void *arg)
{
    struct far_receive *receive = arg;
    uint64_t last_ms = far_clock_monotonic_ms();
    pthread_mutex_lock(&receive->mutex);
    while (!receive->stop && !receive->complete) {
        uint64_t wait_ms = due_in(receive, far_clock_monotonic_ms() - last_ms);
        if (wait_ms > 0) {
            wait_until(&receive->settled, &receive->mutex, wait_ms);
            continue;
        }
        uint64_t frontier = receive->settled_block; /* before the checkpoint: what comes meanwhile does not count */
        bool last = receive->fin && frontier == receive->blocks;
        receive->stored_bytes = 0;
        pthread_mutex_unlock(&receive->mutex);
        struct far_error error;
        int rc = far_replica_checkpoint(receive->replica, frontier, receive->freeze_ref, &error);
        last_ms = far_clock_monotonic_ms();
        pthread_mutex_lock(&receive->mutex);
        if (rc != 0) {
            far_error_context(&error, "make what was received durable");
            receive_stop(receive, rc, &error, true);
            break;
        }
        uint64_t bytes = frontier * FAR_BLOCK_BYTES;
        atomic_store(&receive->attempt->bytes_done, bytes < receive->size_bytes ? bytes : receive->size_bytes);
        receive->frontier_block = frontier;
        receive->complete = last;
        if (all_told(receive)) { /* no connection is left to tell */
            receive_stop(receive, 0, NULL, false);
        }
        pthread_cond_broadcast(&receive->out);
    }
    pthread_mutex_unlock(&receive->mutex);
    return NULL;
}
