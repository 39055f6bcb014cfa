/* A send: hash one disk of a frozen view, bring what the target lacks over there, and report the root of the view.
 *
 * The attempt dials the target with back-off until somebody there waits for this disk. A session that breaks is begun
 * anew from what both sides know; only errors of this side (the frozen view cannot be read) end the attempt, and having
 * found no receiver for FAR_ENGINE_LONELY_MS. The root is computed from the leaves of this side alone. */
#include "dataplane/send_local.h"

#include "base/clock.h"
#include "base/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

enum { DIAL_MS = 5000, FAR_ENGINE_LONELY_MS = 120000 };

/* ---- shared by the threads; the mutex is held ---- */

void send_queue_push(struct send_queue *queue, struct send_group *group)
{
    group->next = NULL;
    if (queue->last != NULL) {
        queue->last->next = group;
    } else {
        queue->first = group;
    }
    queue->last = group;
    queue->count++;
}

struct send_group *send_queue_pop(struct send_queue *queue)
{
    struct send_group *group = queue->first;
    if (group != NULL) {
        queue->first = group->next;
        queue->last = queue->first != NULL ? queue->last : NULL;
        queue->count--;
    }
    return group;
}

void send_group_free(struct far_send *send, struct send_group *group)
{
    if (group->buffer != NULL) {
        far_pool_give(send->engine->pool_out, group->buffer);
        group->buffer = NULL;
        send->buffers--;
    }
    group->state = SEND_FREE;
    send->groups_used--;
    pthread_cond_broadcast(&send->work);
}

void send_stop(struct far_send *send, int rc, const struct far_error *error, bool own)
{
    if (send->stop) {
        return;
    }
    send->stop = true;
    send->rc = rc;
    send->own = own;
    if (error != NULL) {
        send->error = *error;
    }
    if (send->stream != NULL) {
        far_bstream_shutdown(send->stream);
    }
    pthread_cond_broadcast(&send->work);
    pthread_cond_broadcast(&send->out);
}

bool send_all_hashed(const struct far_send *send)
{
    return send->next_chunk >= send->chunks && send->busy == 0;
}

uint64_t send_low_block(const struct far_send *send)
{
    uint64_t low = send->next_chunk * FAR_TRANSFER_GROUP;
    low = low < send->blocks ? low : send->blocks;
    for (size_t i = 0; i < send->engine->config.worker_count; i++) {
        low = send->workers[i].low_block < low ? send->workers[i].low_block : low;
    }
    for (size_t i = 0; i < SEND_GROUPS; i++) {
        const struct send_group *group = &send->groups[i];
        if (group->state >= SEND_OFFERING && group->low_block < low) {
            low = group->low_block;
        }
    }
    return low;
}

void send_note_progress(struct far_send *send)
{
    uint64_t bytes = send_low_block(send) * FAR_BLOCK_BYTES;
    uint64_t before = atomic_load(&send->attempt->bytes_done);
    bytes = bytes < send->size_bytes ? bytes : send->size_bytes;
    if (bytes > before) {
        atomic_store(&send->attempt->bytes_done, bytes);
    }
}

/* ---- the reader ---- */

/* Does compression pay? Level 1 takes about as long for a block as a wire of SEND_COMPRESS_BELOW takes to carry what it
 * saves; on a faster one the processor is the bottleneck, and compression would only slow it. The mutex is held. */
static bool compression_pays(struct far_send *send)
{
    enum far_engine_compress way = send->engine->config.compress;
    if (way != FAR_ENGINE_COMPRESS_AUTO) {
        return way == FAR_ENGINE_COMPRESS_ALWAYS;
    }
    return send->wire_rate != 0 && send->wire_rate < SEND_COMPRESS_BELOW;
}

void send_describe_raw(struct send_group *group)
{
    struct far_transfer_data *data = &group->data;
    *data = (struct far_transfer_data){.group = group->offer.group};
    for (unsigned slot = 0; slot < group->offer.block_count; slot++) {
        if ((group->wanted >> slot & 1) != 0) {
            data->stored[data->count++] = (struct far_transfer_stored){
                .slot = (uint8_t)slot, .codec = FAR_TRANSFER_RAW, .length = FAR_BLOCK_BYTES,
            };
        }
    }
}

/* *ret_ready: there is something for the writer. */
static int take_want(struct far_send *send, const struct far_transfer_want *want, bool *ret_ready, struct far_error *err)
{
    struct send_group *group = want->group < SEND_GROUPS ? &send->groups[want->group] : NULL;
    if (group == NULL || group->state != SEND_OFFERED || want->mask >> group->offer.block_count != 0) {
        return far_fail(err, FAR_INVALID, "the other node answered an offer that was not made");
    }
    group->wanted = want->mask;
    if (want->mask == 0) {
        send_group_free(send, group);
        *ret_ready = true; /* it may be the end */
        return 0;
    }
    if (send->base == NULL) { /* without a base, what the target lacks is the best that is known of what changed */
        atomic_fetch_add(&send->attempt->bytes_changed,
                         (uint64_t)__builtin_popcount(want->mask) * FAR_BLOCK_BYTES);
    }
    if (compression_pays(send)) {
        group->state = SEND_PACKING;
        send_queue_push(&send->to_pack, group);
        pthread_cond_signal(&send->work);
    } else { /* no work for a worker: one hand-over less */
        send_describe_raw(group);
        group->state = SEND_SENDING;
        send_queue_push(&send->to_send, group);
        *ret_ready = true;
    }
    return 0;
}

static int take_wants(struct far_send *send, const struct far_frame *frame, struct far_error *err)
{
    struct far_transfer_want wants[FAR_TRANSFER_WANTS_MAX];
    size_t count = 0;
    bool ready = false;
    int rc = far_transfer_wants_decode(far_frame_head(frame), wants, &count, err);
    pthread_mutex_lock(&send->mutex);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = take_want(send, &wants[i], &ready, err);
    }
    send_note_progress(send);
    pthread_mutex_unlock(&send->mutex);
    if (ready) {
        pthread_cond_signal(&send->out);
    }
    return rc;
}

static int take_credit(struct far_send *send, const struct far_frame *frame, struct far_error *err)
{
    struct far_transfer_credit credit;
    int rc = far_transfer_credit_decode(far_frame_head(frame), &credit, err);
    pthread_mutex_lock(&send->mutex);
    if (rc == 0) {
        send->credit = credit;
    }
    pthread_mutex_unlock(&send->mutex);
    pthread_cond_signal(&send->out);
    return rc;
}

static int take_durable(struct far_send *send, const struct far_frame *frame, struct far_error *err)
{
    uint64_t block;
    int rc = far_transfer_block_decode(far_frame_head(frame), send->blocks, &block, err);
    pthread_mutex_lock(&send->mutex);
    if (rc == 0 && block > send_low_block(send)) {
        rc = far_fail(err, FAR_INVALID, "the other node says that it stored what was not sent");
    }
    pthread_mutex_unlock(&send->mutex);
    if (rc == 0) {
        send_cache_save_work(send, block);
    }
    return rc;
}

static int take_frame(struct far_send *send, const struct far_frame *frame, struct far_error *err)
{
    switch (frame->header.type) {
    case FAR_TRANSFER_CREDIT:
        return take_credit(send, frame, err);
    case FAR_TRANSFER_WANT:
        return take_wants(send, frame, err);
    case FAR_TRANSFER_DURABLE:
        return take_durable(send, frame, err);
    case FAR_TRANSFER_PING:
        return 0;
    case FAR_TRANSFER_ERROR:
        return far_frame_error(frame, err);
    case FAR_TRANSFER_FIN_ACK:
        pthread_mutex_lock(&send->mutex);
        send->acked = send->fin_sent;
        pthread_mutex_unlock(&send->mutex);
        return send->acked ? 0 : far_fail(err, FAR_INVALID, "the other node ended a transfer that is not complete");
    default:
        return far_fail(err, FAR_INVALID, "the other node sent a frame that only a source sends");
    }
}

static void read_frames(struct far_send *send)
{
    struct far_frame frame;
    struct far_error error;
    for (;;) {
        int rc = far_frame_read(send->stream, send->engine->config.idle_ms, &frame, &error);
        rc = rc == 0 ? take_frame(send, &frame, &error) : rc;
        if (rc != 0 || send->acked) {
            pthread_mutex_lock(&send->mutex);
            send_stop(send, rc, rc != 0 ? &error : NULL, false);
            pthread_mutex_unlock(&send->mutex);
            return;
        }
    }
}

/* Only hash: the target has everything. */
static void wait_hashed(struct far_send *send)
{
    pthread_mutex_lock(&send->mutex);
    while (!send->stop && !send_all_hashed(send)) {
        if (far_attempt_stopped(send->attempt)) {
            struct far_error error;
            send_stop(send, far_fail(&error, FAR_CANCELED, "canceled"), &error, true);
            break;
        }
        send_note_progress(send);
        pthread_mutex_unlock(&send->mutex);
        pthread_mutex_lock(&send->attempt->mutex);
        far_attempt_wait(send->attempt, 50);
        pthread_mutex_unlock(&send->attempt->mutex);
        pthread_mutex_lock(&send->mutex);
    }
    send_stop(send, 0, NULL, false);
    pthread_mutex_unlock(&send->mutex);
}

/* ---- a session ---- */

static int start_workers(struct far_send *send, struct far_error *err)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, FAR_ENGINE_WORKER_STACK_BYTES);
    int failed = 0;
    for (size_t i = 0; failed == 0 && i < send->engine->config.worker_count; i++) {
        failed = pthread_create(&send->workers[i].thread, &attr, send_worker_main, &send->workers[i]);
        send->workers[i].runs = failed == 0;
    }
    pthread_attr_destroy(&attr);
    return failed == 0 ? 0 : far_fail_errno(err, FAR_LIMIT, failed, "start a thread");
}

static void session_init(struct far_send *send, const struct far_transfer_welcome *welcome)
{
    send->stop = send->own = send->fin_sent = send->acked = false;
    send->rc = 0;
    send->local = welcome->complete;
    send->skip_equal = welcome->pristine && send->base != NULL;
    uint64_t from = welcome->complete ? 0 : welcome->resume_block;
    send->next_chunk = from == send->blocks ? send->chunks : from / FAR_TRANSFER_GROUP;
    send->marked_block = from;
    bool near = far_bstream_round_trip_us(send->stream) < SEND_NEAR_US;
    send->buffers_max = near ? SEND_BUFFERS_NEAR : SEND_BUFFERS_MAX;
    send->busy = 0;
    send->credit = send->spent = (struct far_transfer_credit){0};
    send->to_offer = send->to_pack = send->to_send = (struct send_queue){0};
    for (size_t i = 0; i < send->engine->config.worker_count; i++) {
        send->workers[i].low_block = UINT64_MAX;
        send->workers[i].runs = false;
    }
}

static void session_done(struct far_send *send)
{
    for (size_t i = 0; i < send->engine->config.worker_count; i++) {
        struct send_worker *worker = &send->workers[i];
        for (size_t c = 0; c < SEND_CHUNKS; c++) {
            far_pool_give(send->engine->pool_out, worker->buffers[c]);
            send->buffers -= worker->buffers[c] != NULL;
            worker->buffers[c] = NULL;
            worker->spares[c] = NULL;
        }
        worker->open = NULL;
    }
    uint64_t low = send_low_block(send);
    send->known_block = low > send->known_block ? low : send->known_block;
    for (size_t i = 0; i < SEND_GROUPS; i++) {
        if (send->groups[i].state != SEND_FREE) {
            send_group_free(send, &send->groups[i]);
        }
    }
}

/* Runs until FIN_ACK (0), or until something breaks: send->own says whose fault it was. */
static int session(struct far_send *send, const struct far_transfer_welcome *welcome, struct far_error *err)
{
    pthread_t writer;
    session_init(send, welcome);
    int rc = start_workers(send, err);
    int failed = rc == 0 && !send->local ? pthread_create(&writer, NULL, send_writer_main, send) : 0;
    rc = failed != 0 ? far_fail_errno(err, FAR_LIMIT, failed, "start a thread") : rc;
    if (rc != 0) {
        pthread_mutex_lock(&send->mutex);
        send_stop(send, rc, err, true);
        pthread_mutex_unlock(&send->mutex);
    } else if (send->local) {
        wait_hashed(send);
    } else {
        read_frames(send);
        pthread_join(writer, NULL);
    }
    for (size_t i = 0; i < send->engine->config.worker_count; i++) {
        if (send->workers[i].runs) {
            pthread_join(send->workers[i].thread, NULL);
        }
    }
    session_done(send);
    if (send->rc != 0 && err != NULL) {
        *err = send->error;
    }
    return send->rc;
}

static int say_hello(struct far_send *send, struct far_bstream *stream, struct far_transfer_welcome *ret_welcome,
                     struct far_error *err)
{
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
        .frontier_block = send->known_block,
        .has_base = order->has_base_root,
    };
    struct far_frame frame;
    memcpy(hello.base_root, order->base_root, sizeof hello.base_root);
    snprintf(hello.freeze_ref, sizeof hello.freeze_ref, "%s", order->freeze_ref);
    uint64_t idle_ms = send->engine->config.idle_ms;
    size_t len = far_transfer_hello_encode(&hello, frame.head);
    int rc = far_frame_write(stream, FAR_TRANSFER_HELLO, frame.head, len, idle_ms, err);
    do {
        rc = rc == 0 ? far_frame_read(stream, idle_ms, &frame, err) : rc;
    } while (rc == 0 && frame.header.type == FAR_TRANSFER_PING);
    if (rc == 0 && frame.header.type == FAR_TRANSFER_ERROR) {
        rc = far_frame_error(&frame, err);
    } else if (rc == 0 && frame.header.type != FAR_TRANSFER_WELCOME) {
        rc = far_fail(err, FAR_INVALID, "the other node did not answer the hello");
    }
    rc = rc == 0 ? far_transfer_welcome_decode(far_frame_head(&frame), ret_welcome, err) : rc;
    if (rc == 0 && ret_welcome->resume_block > send->known_block) {
        rc = far_fail(err, FAR_INVALID, "the other node resumes where nobody was");
    }
    return rc;
}

/* One connection: dial, hello, session. */
static int connect_once(struct far_send *send, bool *ret_met, struct far_error *err)
{
    const struct far_engine_order *order = &send->attempt->order;
    struct far_peer peer = {.party = FAR_PARTY_NODE, .id = order->peer_node_id};
    struct far_transfer_welcome welcome;
    struct far_bstream *stream = NULL;
    send->own = false;
    int rc = far_bstream_dial(send->engine->config.net, order->peer_address, peer, DIAL_MS, &stream, err);
    if (rc != 0) {
        return rc;
    }
    rc = far_attempt_check_peer(send->attempt, stream, err);
    send->own = rc != 0; /* dialing again cannot help */
    rc = rc == 0 ? far_attempt_use(send->attempt, stream, err) : rc;
    rc = rc == 0 ? say_hello(send, stream, &welcome, err) : rc;
    send->own = send->own || rc == FAR_DENIED;
    if (rc == 0) {
        *ret_met = true;
        send->stream = stream;
        rc = session(send, &welcome, err);
        send->stream = NULL;
    }
    far_attempt_use(send->attempt, NULL, NULL);
    far_bstream_free(stream);
    return rc;
}

static int transfer(struct far_send *send, struct far_error *err)
{
    uint64_t backoff_ms = FAR_BACKOFF_MIN_MS;
    uint64_t lonely_since_ms = far_clock_monotonic_ms();
    for (;;) {
        bool met = false;
        int rc = connect_once(send, &met, err);
        if (rc == 0 || send->own) {
            return rc;
        }
        if (far_attempt_check(send->attempt, NULL) != 0) {
            return far_attempt_check(send->attempt, err);
        }
        uint64_t now_ms = far_clock_monotonic_ms();
        lonely_since_ms = met ? now_ms : lonely_since_ms;
        backoff_ms = met ? FAR_BACKOFF_MIN_MS : backoff_ms;
        if (now_ms - lonely_since_ms >= FAR_ENGINE_LONELY_MS) {
            far_error_context(err, "reach the target node at '%s'", send->attempt->order.peer_address);
            err->klass = FAR_TIMEOUT;
            return FAR_TIMEOUT;
        }
        pthread_mutex_lock(&send->attempt->mutex);
        far_attempt_wait(send->attempt, backoff_ms);
        pthread_mutex_unlock(&send->attempt->mutex);
        backoff_ms = backoff_ms * 2 < FAR_BACKOFF_MAX_MS ? backoff_ms * 2 : FAR_BACKOFF_MAX_MS;
    }
}

/* ---- the task ---- */

static int open_view(struct far_send *send, struct far_error *err)
{
    const struct far_engine_order *order = &send->attempt->order;
    struct far_adapter_disk disk = {.name = order->disk, .locator = order->locator};
    struct far_adapter_error said = {0};
    struct far_adapter_found found;
    int rc = far_engine_platform(send->engine, order->adapter, &send->platform, err);
    if (rc != 0) {
        return rc;
    }
    const struct far_adapter *adapter = send->platform->adapter;
    rc = far_adapter_result(adapter->inventory->probe(send->platform->platform, &disk, &found, &said), &said,
                            &send->outcome, err);
    if (rc == 0 && order->size_bytes != 0 && found.size_bytes != order->size_bytes) {
        send->outcome = FAR_ADAPTER_FATAL;
        return far_fail(err, FAR_CONFLICT, "the disk '%s' %s from %llu to %llu bytes since it was frozen", order->disk,
                        found.size_bytes < order->size_bytes ? "shrank" : "grew",
                        (unsigned long long)order->size_bytes, (unsigned long long)found.size_bytes);
    }
    send->size_bytes = rc == 0 ? found.size_bytes : 0;
    if (rc == 0) {
        rc = far_adapter_result(adapter->bytes->open_frozen(send->platform->platform, order->freeze_ref,
                                                            &disk, &send->handle, &said),
                                &said, &send->outcome, err);
    }
    return rc;
}

static int send_prepare(struct far_send *send, struct far_error *err)
{
    const struct far_engine_order *order = &send->attempt->order;
    int rc = far_map_new(send->size_bytes, &send->map, err);
    if (rc == 0 && !order->has_base_root) {
        rc = far_map_new(send->size_bytes, &send->base, err); /* the target starts with zeroes */
    }
    if (rc != 0) {
        return rc;
    }
    send->blocks = far_map_block_count(send->size_bytes);
    send->chunks = (send->blocks + FAR_TRANSFER_GROUP - 1) / FAR_TRANSFER_GROUP;
    atomic_store(&send->attempt->bytes_total, send->size_bytes);
    for (size_t i = 0; rc == 0 && i < send->engine->config.worker_count; i++) {
        struct send_worker *worker = &send->workers[i];
        worker->send = send;
        worker->scratch = malloc(ZSTD_compressBound(FAR_BLOCK_BYTES));
        worker->zstd = ZSTD_createCCtx();
        if (worker->scratch == NULL || worker->zstd == NULL) {
            rc = far_fail(err, FAR_LIMIT, "no memory for a transfer");
        }
    }
    if (rc == 0) {
        send_cache_load_base(send);
        send_cache_load_work(send);
    }
    return rc;
}

static void send_free(struct far_send *send)
{
    if (send->handle != NULL) {
        send->platform->adapter->bytes->close(send->handle);
    }
    for (size_t i = 0; i < FAR_ENGINE_WORKERS_MAX; i++) {
        free(send->workers[i].scratch);
        ZSTD_freeCCtx(send->workers[i].zstd);
    }
    far_map_free(send->base);
    far_map_free(send->map);
    far_map_free(send->durable);
    pthread_mutex_destroy(&send->mutex);
    pthread_cond_destroy(&send->work);
    pthread_cond_destroy(&send->out);
    free(send);
}

static struct far_send *send_new(struct far_attempt *attempt)
{
    struct far_send *send = calloc(1, sizeof *send);
    if (send != NULL) {
        pthread_condattr_t attr;
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        far_mutex_init_brief(&send->mutex);
        pthread_cond_init(&send->work, &attr);
        pthread_cond_init(&send->out, &attr);
        pthread_condattr_destroy(&attr);
        send->attempt = attempt;
        send->engine = attempt->engine;
    }
    return send;
}

int far_run_send(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    struct far_engine *engine = attempt->engine;
    struct far_send *send = send_new(attempt);
    if (send == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a transfer");
    }
    int rc = far_transfer_slot_take(attempt, &engine->sending, err);
    if (rc != 0) {
        send_free(send);
        return rc;
    }
    rc = open_view(send, err);
    rc = rc == 0 ? send_prepare(send, err) : rc;
    rc = rc == 0 ? transfer(send, err) : rc;
    if (rc == 0) {
        struct far_hash256 root;
        far_map_root(send->map, &root);
        memcpy(result->root, root.bytes, sizeof result->root);
        result->has_root = true;
        result->size_bytes = send->size_bytes;
        result->full = true;
        atomic_store(&attempt->bytes_done, send->size_bytes);
        send_cache_finish(send);
    }
    result->outcome = send->outcome;
    far_transfer_slot_give(engine, &engine->sending);
    send_free(send);
    return rc;
}
