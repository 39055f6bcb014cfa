/* The writer of a receive (answers, credit, the durable frontier, pings) and its checkpointer. */
#include "dataplane/receive_local.h"

#include "base/clock.h"

enum { ERROR_MS = 1000 };

static void wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t timeout_ms)
{
    struct timespec at = far_clock_monotonic_in(timeout_ms);
    pthread_cond_timedwait(cond, mutex, &at);
}

/* Composes the next frame; its length, or SIZE_MAX: nothing to say, but a ping perhaps. The mutex is held. */
static size_t compose(struct far_receive *receive, enum far_transfer_type *ret_type, uint8_t *head)
{
    if (receive->want_count > 0) {
        size_t len = far_transfer_wants_encode(receive->wants, receive->want_count, head);
        receive->want_count = 0;
        *ret_type = FAR_TRANSFER_WANT;
        return len;
    }
    const struct far_transfer_credit *told = &receive->credit_told, *credit = &receive->credit;
    if (credit->datas > told->datas || credit->offers >= told->offers + RECEIVE_GROUPS / 8 ||
        (credit->offers > told->offers && told->offers == 0)) {
        receive->credit_told = receive->credit;
        *ret_type = FAR_TRANSFER_CREDIT;
        return far_transfer_credit_encode(credit, head);
    }
    if (receive->frontier_block > receive->durable_told) {
        receive->durable_told = receive->frontier_block;
        *ret_type = FAR_TRANSFER_DURABLE;
        return far_transfer_block_encode(receive->frontier_block, head);
    }
    if (receive->complete) {
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

void *receive_writer_main(void *arg)
{
    struct far_receive *receive = arg;
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    uint64_t idle_ms = receive->engine->config.idle_ms;
    uint64_t written_ms = far_clock_monotonic_ms();
    pthread_mutex_lock(&receive->mutex);
    while (!receive->stop) {
        enum far_transfer_type type = FAR_TRANSFER_PING;
        size_t len = compose(receive, &type, head);
        uint64_t now_ms = far_clock_monotonic_ms();
        bool idle = len == SIZE_MAX && now_ms - written_ms < idle_ms / 4;
        if (idle && !far_bstream_has_added(receive->stream)) {
            wait_until(&receive->out, &receive->mutex, idle_ms / 4);
            receive_grant(receive);
            continue;
        }
        written_ms = now_ms;
        pthread_mutex_unlock(&receive->mutex);
        struct far_error error;
        int rc = idle ? 0 : far_frame_add(receive->stream, type, head, len == SIZE_MAX ? 0 : len, idle_ms, &error);
        if (rc == 0 && (idle || len == SIZE_MAX || type == FAR_TRANSFER_FIN_ACK)) {
            rc = far_bstream_flush(receive->stream, idle_ms, &error);
        }
        pthread_mutex_lock(&receive->mutex);
        if (rc != 0 || type == FAR_TRANSFER_FIN_ACK) {
            receive_stop(receive, type == FAR_TRANSFER_FIN_ACK ? 0 : rc, rc != 0 ? &error : NULL, false);
        }
    }
    bool tell = receive->own && receive->rc != 0;
    struct far_error why = receive->error;
    pthread_mutex_unlock(&receive->mutex);
    if (tell) {
        receive_say_error(receive->stream, &why);
        far_bstream_shutdown(receive->stream); /* wakes the reader */
    }
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
        pthread_cond_signal(&receive->out);
    }
    pthread_mutex_unlock(&receive->mutex);
    return NULL;
}
