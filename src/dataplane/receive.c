/* A receive: keep the replica of one disk equal to what the source's frozen view is, and report the replica's root.
 *
 * The attempt opens the replica under its fence, waits for the sender's hello, and serves sessions until one is
 * complete. A session that breaks costs nothing: the replica stays open, the next hello goes on from the durable
 * frontier. Errors of this side (full disk, a block that is not what was offered, a newer fence) end the attempt and
 * are told to the source. An attempt that finds the whole view of its job durable already reports its root at once. */
#include "dataplane/receive_local.h"

#include "base/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

enum { WAIT_MS = 1000 };

/* ---- shared; the mutex is held ---- */

void receive_stop(struct far_receive *receive, int rc, const struct far_error *error, bool own)
{
    if (receive->stop) {
        return;
    }
    receive->stop = true;
    receive->rc = rc;
    receive->own = own;
    if (error != NULL) {
        receive->error = *error;
    }
    if (!own && rc != 0) {
        far_bstream_shutdown(receive->stream);
    }
    pthread_cond_broadcast(&receive->work);
    pthread_cond_broadcast(&receive->out);
    pthread_cond_broadcast(&receive->settled);
}

void receive_settle(struct far_receive *receive)
{
    uint64_t oldest = UINT64_MAX; /* DATA frame that is not stored yet */
    for (size_t i = 0; i < RECEIVE_ITEMS; i++) {
        const struct receive_item *item = &receive->items[i];
        oldest = item->in_work && item->number != 0 && item->number < oldest ? item->number : oldest;
    }
    size_t passed = 0;
    while (passed < receive->mark_count && receive->marks[passed].number < oldest) {
        receive->settled_block = receive->marks[passed++].block;
    }
    if (passed > 0) {
        receive->mark_count -= passed;
        memmove(receive->marks, receive->marks + passed, receive->mark_count * sizeof receive->marks[0]);
        pthread_cond_signal(&receive->settled);
    }
}

void receive_grant(struct far_receive *receive)
{
    for (size_t i = 0; i < RECEIVE_ITEMS && receive->buffers < FAR_ENGINE_WINDOW; i++) {
        struct receive_item *item = &receive->items[i];
        if (item->buffer != NULL || item->in_work) {
            continue;
        }
        if (far_pool_waited_for(receive->engine->pool_in) ||
            (item->buffer = far_pool_try(receive->engine->pool_in)) == NULL) {
            return;
        }
        receive->buffers++;
        receive->credit.datas++;
    }
}

/* ---- a session ---- */

static int start_threads(struct far_receive *receive, pthread_t threads[2], size_t *ret_started, struct far_error *err)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, FAR_ENGINE_WORKER_STACK_BYTES);
    int failed = pthread_create(&threads[0], &attr, receive_writer_main, receive);
    *ret_started = failed == 0;
    failed = failed == 0 ? pthread_create(&threads[1], &attr, receive_checkpoint_main, receive) : failed;
    *ret_started += failed == 0;
    for (size_t i = 0; failed == 0 && i < receive->engine->config.worker_count; i++) {
        failed = pthread_create(&receive->workers[i].thread, &attr, receive_worker_main, &receive->workers[i]);
        receive->workers[i].runs = failed == 0;
    }
    pthread_attr_destroy(&attr);
    return failed == 0 ? 0 : far_fail_errno(err, FAR_LIMIT, failed, "start a thread");
}

static void session_init(struct far_receive *receive, struct far_bstream *stream)
{
    receive->stream = stream;
    receive->stop = receive->own = receive->fin = receive->complete = false;
    receive->rc = 0;
    memset(receive->groups, 0, sizeof receive->groups);
    for (size_t i = 0; i < RECEIVE_ITEMS; i++) {
        receive->items[i].in_work = false;
        receive->items[i].number = 0;
    }
    receive->first = receive->last = NULL;
    receive->in_work = receive->queued = receive->awaited = receive->mark_count = receive->want_count = 0;
    receive->numbered = receive->stored_bytes = 0;
    receive->settled_block = receive->durable_told = receive->frontier_block;
    receive->credit = (struct far_transfer_credit){.offers = RECEIVE_GROUPS / 2, .datas = receive->buffers};
    receive->credit_told = (struct far_transfer_credit){0};
    for (size_t i = 0; i < receive->engine->config.worker_count; i++) {
        receive->workers[i].runs = false;
    }
    receive_grant(receive);
}

static void read_frames(struct far_receive *receive)
{
    struct far_frame frame;
    struct far_error error;
    int rc = 0;
    bool own = false;
    while (rc == 0) {
        own = false;
        rc = far_frame_read(receive->stream, receive->engine->config.idle_ms, &frame, &error);
        rc = rc == 0 ? receive_take_frame(receive, &frame, &own, &error) : rc;
        pthread_mutex_lock(&receive->mutex);
        atomic_store(&receive->attempt->bytes_sent,
                     receive->received_before + far_bstream_bytes_received(receive->stream));
        if (rc != 0) {
            /* After FIN the source may close as soon as it has its answer. */
            receive_stop(receive, receive->complete ? 0 : rc, &error, own);
        }
        rc = receive->stop && rc == 0 ? FAR_CANCELED : rc;
        pthread_mutex_unlock(&receive->mutex);
    }
}

static int run_session(struct far_receive *receive, struct far_error *err)
{
    pthread_t threads[2];
    size_t started = 0;
    int rc = start_threads(receive, threads, &started, err);
    if (rc == 0) {
        read_frames(receive);
    } else {
        pthread_mutex_lock(&receive->mutex);
        receive_stop(receive, rc, err, true);
        pthread_mutex_unlock(&receive->mutex);
    }
    for (size_t i = 0; i < receive->engine->config.worker_count; i++) {
        if (receive->workers[i].runs) {
            pthread_join(receive->workers[i].thread, NULL);
        }
    }
    for (size_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    if (receive->rc != 0) {
        *err = receive->error;
    }
    return receive->complete ? 0 : receive->rc;
}

/* ---- hello ---- */

static int check_hello(const struct far_receive *receive, const struct far_transfer_hello *hello, struct far_error *err)
{
    const struct far_engine_order *order = &receive->attempt->order;
    if (hello->disk_id != order->disk_id || hello->size_bytes != receive->size_bytes) {
        return far_fail(err, FAR_CONFLICT, "the source node sends disk %llu of %llu bytes, expected is disk %llu of %llu",
                        (unsigned long long)hello->disk_id, (unsigned long long)hello->size_bytes,
                        (unsigned long long)order->disk_id, (unsigned long long)receive->size_bytes);
    }
    if (hello->incarnation_epoch != order->incarnation_epoch || hello->plan_epoch != order->plan_epoch) {
        return far_fail(err, FAR_CONFLICT, "the source node acts in epoch %llu.%llu, this one in %llu.%llu",
                        (unsigned long long)hello->incarnation_epoch, (unsigned long long)hello->plan_epoch,
                        (unsigned long long)order->incarnation_epoch, (unsigned long long)order->plan_epoch);
    }
    if (hello->has_base != order->has_base_root ||
        (hello->has_base && memcmp(hello->base_root, order->base_root, 32) != 0)) {
        return far_fail(err, FAR_CONFLICT, "the source node starts from another point than this one");
    }
    return 0;
}

static int say_welcome(struct far_receive *receive, const struct far_visitor *visitor, struct far_error *err)
{
    const struct far_transfer_hello *hello = &visitor->hello;
    if (strcmp(hello->freeze_ref, receive->freeze_ref) != 0 || hello->freeze_ref[0] == '\0') {
        receive->frontier_block = 0; /* of another view */
        snprintf(receive->freeze_ref, sizeof receive->freeze_ref, "%s", hello->freeze_ref);
    }
    uint64_t resume = receive->frontier_block < hello->frontier_block ? receive->frontier_block : hello->frontier_block;
    struct far_transfer_welcome welcome = {.resume_block = resume, .pristine = !receive->touched};
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    size_t len = far_transfer_welcome_encode(&welcome, head);
    receive->frontier_block = resume;
    receive->touched = true;
    return far_frame_write(visitor->stream, FAR_TRANSFER_WELCOME, head, len, receive->engine->config.idle_ms, err);
}

/* *ret_own: the attempt cannot succeed any more. */
static int serve(struct far_receive *receive, struct far_visitor *visitor, bool *ret_own, struct far_error *err)
{
    int rc = check_hello(receive, &visitor->hello, err);
    *ret_own = rc != 0;
    if (rc != 0) {
        receive_say_error(visitor->stream, err);
        return rc;
    }
    rc = far_attempt_use(receive->attempt, visitor->stream, err);
    rc = rc == 0 ? say_welcome(receive, visitor, err) : rc;
    if (rc == 0) {
        session_init(receive, visitor->stream);
        rc = run_session(receive, err);
        *ret_own = rc != 0 && receive->own;
        receive->received_before = atomic_load(&receive->attempt->bytes_sent);
        receive->stream = NULL;
    }
    far_attempt_use(receive->attempt, NULL, NULL);
    return rc;
}

static struct far_visitor *next_visitor(struct far_receive *receive)
{
    struct far_attempt *attempt = receive->attempt;
    pthread_mutex_lock(&attempt->mutex);
    while (attempt->visitor == NULL && !far_attempt_stopped(attempt)) {
        far_attempt_wait(attempt, WAIT_MS);
    }
    struct far_visitor *visitor = attempt->visitor;
    attempt->visitor = NULL;
    pthread_mutex_unlock(&attempt->mutex);
    return visitor;
}

static int serve_until_complete(struct far_receive *receive, struct far_error *err)
{
    for (;;) {
        struct far_visitor *visitor = next_visitor(receive);
        int rc = far_attempt_check(receive->attempt, err);
        bool own = rc != 0;
        if (rc == 0) {
            rc = serve(receive, visitor, &own, err);
        }
        far_visitor_free(visitor);
        if (rc == 0 || own) {
            return rc;
        }
    }
}

/* ---- the task ---- */

/* Start from the base that both sides know; where the vault lacks it, everything is offered. */
static int start_from_base(struct far_receive *receive, const struct far_replica_state *state, struct far_error *err)
{
    const struct far_engine_order *order = &receive->attempt->order;
    struct far_hash256 base, now;
    memcpy(base.bytes, order->base_root, sizeof base.bytes);
    if (!order->has_base_root) {
        receive->touched = state->job != 0; /* a new replica is all zeroes, as a first cycle takes it to be */
        return 0;
    }
    int rc = far_replica_root(receive->replica, &now, err);
    if (rc != 0 || (far_hash256_equal(&now, &base) && state->size_bytes == receive->size_bytes)) {
        return rc;
    }
    rc = far_replica_reset(receive->replica, &base, err);
    receive->touched = rc == FAR_NOT_FOUND;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int open_replica(struct far_receive *receive, bool *ret_has_all, struct far_error *err)
{
    const struct far_engine_order *order = &receive->attempt->order;
    struct far_fence fence = {
        .incarnation_epoch = order->incarnation_epoch,
        .plan_epoch = order->plan_epoch,
        .job = order->job_id,
        .attempt = order->attempt,
    };
    struct far_replica_state state;
    receive->size_bytes = order->size_bytes;
    receive->blocks = far_map_block_count(order->size_bytes);
    atomic_store(&receive->attempt->bytes_total, order->size_bytes);
    int rc = far_replica_open(receive->vault, order->disk_id, order->size_bytes, &fence, &receive->replica, err);
    if (rc != 0) {
        return rc;
    }
    far_replica_state(receive->replica, &state);
    if (state.job != order->job_id || state.size_bytes != order->size_bytes) {
        return start_from_base(receive, &state, err);
    }
    receive->touched = true;
    receive->frontier_block = state.frontier_blocks;
    snprintf(receive->freeze_ref, sizeof receive->freeze_ref, "%s", state.freeze_ref);
    /* Of the view that the sender reads now, not of one that was lost with its node: for that one no sender will come. */
    *ret_has_all = state.frontier_blocks == receive->blocks && state.freeze_ref[0] != '\0' &&
                   strcmp(state.freeze_ref, order->freeze_ref) == 0;
    uint64_t bytes = state.frontier_blocks * FAR_BLOCK_BYTES;
    atomic_store(&receive->attempt->bytes_done, bytes < receive->size_bytes ? bytes : receive->size_bytes);
    return 0;
}

static int workers_init(struct far_receive *receive, struct far_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < receive->engine->config.worker_count; i++) {
        receive->workers[i].receive = receive;
        receive->workers[i].zstd = ZSTD_createDCtx();
        rc = receive->workers[i].zstd == NULL ? far_fail(err, FAR_LIMIT, "no memory for a transfer") : 0;
    }
    return rc;
}

static int take_first_buffers(struct far_receive *receive, struct far_error *err)
{
    struct far_pool *pool = receive->engine->pool_in;
    for (size_t i = 0; i < receive->engine->config.worker_count; i++) {
        receive->workers[i].plain = far_pool_take(pool, &receive->attempt->canceled);
    }
    receive->items[0].buffer = far_pool_take(pool, &receive->attempt->canceled);
    receive->buffers = receive->items[0].buffer != NULL;
    return far_attempt_check(receive->attempt, err);
}

static void receive_free(struct far_receive *receive)
{
    far_replica_close(receive->replica);
    for (size_t i = 0; i < FAR_ENGINE_WORKERS_MAX; i++) {
        far_pool_give(receive->engine->pool_in, receive->workers[i].plain);
        ZSTD_freeDCtx(receive->workers[i].zstd);
    }
    for (size_t i = 0; i < RECEIVE_ITEMS; i++) {
        far_pool_give(receive->engine->pool_in, receive->items[i].buffer);
    }
    pthread_mutex_destroy(&receive->mutex);
    pthread_cond_destroy(&receive->work);
    pthread_cond_destroy(&receive->out);
    pthread_cond_destroy(&receive->settled);
    free(receive);
}

static struct far_receive *receive_new(struct far_attempt *attempt)
{
    struct far_receive *receive = calloc(1, sizeof *receive);
    if (receive != NULL) {
        pthread_condattr_t attr;
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        far_mutex_init_brief(&receive->mutex);
        pthread_cond_init(&receive->work, &attr);
        pthread_cond_init(&receive->out, &attr);
        pthread_cond_init(&receive->settled, &attr);
        pthread_condattr_destroy(&attr);
        receive->attempt = attempt;
        receive->engine = attempt->engine;
        receive->vault = attempt->engine->vault;
    }
    return receive;
}

/* A slot is taken only when the sender is there: it holds one of its own side, and two nodes that each hold slots for
 * what the other has not begun would wait for ever. */
static int receive_disk(struct far_receive *receive, struct far_error *err)
{
    struct far_attempt *attempt = receive->attempt;
    struct far_engine *engine = receive->engine;
    pthread_mutex_lock(&attempt->mutex);
    while (attempt->visitor == NULL && !far_attempt_stopped(attempt)) {
        far_attempt_wait(attempt, WAIT_MS);
    }
    pthread_mutex_unlock(&attempt->mutex);
    int rc = far_transfer_slot_take(attempt, &engine->receiving, err);
    if (rc == 0) {
        rc = take_first_buffers(receive, err);
        rc = rc == 0 ? serve_until_complete(receive, err) : rc;
        far_transfer_slot_give(engine, &engine->receiving);
    }
    return rc;
}

int far_run_receive(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    if (attempt->order.size_bytes == 0 || attempt->order.size_bytes > FAR_DISK_BYTES_MAX) {
        return far_fail(err, FAR_INVALID, "a disk of %llu bytes cannot be received",
                        (unsigned long long)attempt->order.size_bytes);
    }
    struct far_receive *receive = receive_new(attempt);
    if (receive == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a transfer");
    }
    bool has_all = false;
    int rc = workers_init(receive, err);
    rc = rc == 0 ? open_replica(receive, &has_all, err) : rc;
    rc = rc == 0 && !has_all ? receive_disk(receive, err) : rc;
    struct far_hash256 root;
    rc = rc == 0 ? far_replica_root(receive->replica, &root, err) : rc;
    if (rc == 0) {
        memcpy(result->root, root.bytes, sizeof result->root);
        result->has_root = true;
        result->size_bytes = receive->size_bytes;
        result->full = true;
        atomic_store(&attempt->bytes_done, receive->size_bytes);
    }
    receive_free(receive);
    return rc;
}
