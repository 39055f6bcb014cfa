/* A send: hash of one disk of a frozen view what may have changed, bring what the target lacks over there, and report the
 * root of the view.
 *
 * The attempt dials the target with back-off until somebody there waits for this disk (or waits for its call), and begins a
 * session: several connections on a far path, one on a near one (send_lane.c). A connection that breaks costs what was
 * under way on it. A session that the target has forgotten is begun anew from what both sides know; only errors of this
 * side (the frozen view cannot be read) end the attempt, and having found no receiver for LONELY_MS. The root is computed
 * from the leaves of this side and the base point in the log (source_map.h). */
#include "dataplane/send_local.h"

#include "base/clock.h"
#include "base/random.h"
#include "base/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

enum { LONELY_MS = 120000 };

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

void send_queue_insert(struct send_queue *queue, struct send_group *group)
{
    struct send_group *before = NULL;
    if (queue->last != NULL && queue->last->low_block <= group->low_block) {
        before = queue->last;
    } else {
        for (struct send_group *at = queue->first; at != NULL && at->low_block <= group->low_block; at = at->next) {
            before = at;
        }
    }
    struct send_group **link = before != NULL ? &before->next : &queue->first;
    group->next = *link;
    *link = group;
    queue->last = group->next == NULL ? group : queue->last;
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

void send_group_drop_buffer(struct far_send *send, struct send_group *group)
{
    if (group->buffer != NULL) {
        far_pool_give(send->engine->pool_out, group->buffer);
        group->buffer = NULL;
        send->buffers--;
        pthread_cond_signal(&send->work);
    }
}

/* Is it counted as open at the target? */
static bool is_open(const struct send_group *group)
{
    return group->state >= SEND_OFFERED;
}

static void forget_sent(struct far_send *send, struct send_group *group)
{
    send->unacked_bytes -= group->unacked_bytes;
    group->unacked_bytes = 0;
}

void send_group_free(struct far_send *send, struct send_group *group)
{
    send_group_drop_buffer(send, group);
    forget_sent(send, group);
    send->groups_open -= is_open(group);
    group->state = SEND_FREE;
    send->groups_used--;
    pthread_cond_broadcast(&send->work);
}

void send_group_offer(struct far_send *send, struct send_group *group)
{
    uint64_t slot = (uint64_t)(group - send->groups);
    if (group->state >= SEND_READING) {
        send_group_drop_buffer(send, group); /* perhaps packed already */
    }
    forget_sent(send, group);
    send->groups_open -= is_open(group);
    group->state = SEND_OFFERING;
    group->offer.group = ++send->group_count * FAR_TRANSFER_SLOTS + slot;
    send_queue_push(&send->to_offer, group);
}

void send_group_read(struct far_send *send, struct send_group *group)
{
    forget_sent(send, group);
    group->state = SEND_READING;
    send_queue_push(&send->to_read, group);
    pthread_cond_signal(&send->work);
}

void send_stop(struct far_send *send, int rc, const struct far_error *error, bool own)
{
    if (send->stop) {
        return;
    }
    send->stop = true;
    send->rc = rc;
    send->own = own;
    if (rc != 0 && error != NULL) {
        send->error = *error;
    }
    for (size_t i = 0; i < SEND_LANES_FAR; i++) {
        if (send->lanes[i].stream != NULL) {
            far_bstream_shutdown(send->lanes[i].stream);
        }
    }
    pthread_cond_broadcast(&send->work);
    pthread_cond_broadcast(&send->out);
    pthread_cond_broadcast(&send->ended);
}

bool send_all_hashed(const struct far_send *send)
{
    return send->planned && send->busy == 0;
}

uint64_t send_low_block(const struct far_send *send)
{
    uint64_t low = send->next_block;
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

/* ---- the platform's list of changes ---- */

static int fetch_changes(void *arg, uint64_t offset, struct far_adapter_extent *ret_extents, size_t max,
                         size_t *ret_count, uint64_t *ret_next, struct far_error *err)
{
    struct far_send *send = arg;
    const struct far_engine_order *order = &send->attempt->order;
    struct far_adapter_disk disk = {.name = order->disk, .locator = order->locator};
    struct far_adapter_error said = {0};
    enum far_adapter_outcome outcome = FAR_ADAPTER_OK;
    int answer = send->platform->adapter->changes->changed(send->platform->platform, order->freeze_ref, &disk,
                                                           order->since, offset, ret_extents, max, ret_count, ret_next,
                                                           &said);
    int rc = far_adapter_result(answer, &said, &outcome, err);
    if (answer == FAR_ADAPTER_RESYNC) {
        far_error_context(err, "use the list of what changed");
        err->klass = FAR_CORRUPT;
        return FAR_CORRUPT;
    }
    if (rc != 0) {
        pthread_mutex_lock(&send->mutex);
        send->outcome = outcome;
        pthread_mutex_unlock(&send->mutex);
    }
    return rc;
}

static bool uses_list(const struct far_send *send)
{
    const struct far_engine_order *order = &send->attempt->order;
    const struct far_adapter_changes *changes = send->platform->adapter->changes;
    return !send->list_failed && !send->local && send->skip_equal && order->has_base_root &&
           order->since[0] != '\0' && changes != NULL && changes->changed != NULL;
}

/* ---- a session ---- */

static int start_threads(struct far_send *send, struct far_error *err)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, FAR_ENGINE_WORKER_STACK_BYTES);
    int failed = 0;
    for (size_t i = 0; failed == 0 && i < send->engine->config.worker_count; i++) {
        failed = pthread_create(&send->workers[i].thread, &attr, send_worker_main, &send->workers[i]);
        send->workers[i].runs = failed == 0;
    }
    for (size_t i = 0; failed == 0 && !send->local && i < send->lane_count; i++) {
        struct send_lane *lane = &send->lanes[i];
        failed = pthread_create(&lane->reader, &attr, send_lane_reader_main, lane);
        lane->reader_runs = failed == 0;
        failed = failed == 0 ? pthread_create(&lane->writer, &attr, send_lane_writer_main, lane) : failed;
        lane->writer_runs = lane->reader_runs && failed == 0;
    }
    pthread_attr_destroy(&attr);
    return failed == 0 ? 0 : far_fail_errno(err, FAR_LIMIT, failed, "start a thread");
}

static void join_threads(struct far_send *send)
{
    for (size_t i = 0; i < send->engine->config.worker_count; i++) {
        if (send->workers[i].runs) {
            pthread_join(send->workers[i].thread, NULL);
        }
    }
    for (size_t i = 0; i < SEND_LANES_FAR; i++) {
        struct send_lane *lane = &send->lanes[i];
        if (lane->reader_runs) {
            pthread_join(lane->reader, NULL);
        }
        if (lane->writer_runs) {
            pthread_join(lane->writer, NULL);
        }
    }
}

static void session_init(struct far_send *send, const struct far_transfer_welcome *welcome)
{
    const struct far_engine_order *order = &send->attempt->order;
    send->fin_sent = send->fin_known = false;
    send->local = welcome->complete;
    send->skip_equal = !order->has_base_root || welcome->base_bytes != 0;
    uint64_t from = welcome->complete ? 0 : welcome->resume_block;
    bool has_base = order->has_base_root && welcome->base_bytes != 0 && !send->local;
    if (send->local && far_source_map_known(send->map) == send->blocks && !order->has_base_root) {
        from = send->blocks;
    }
    far_source_map_begin(send->map, from, has_base, has_base ? welcome->base_bytes : 0);
    from = far_source_map_known(send->map); /* if the target goes back behind what was closed, nothing is known any more */
    send_missed_forget(&send->missed, from);
    bool list = uses_list(send);
    bool all = order->full; /* with a list it is an audit of everything: what the list left out is told */
    send_plan_init(&send->plan, send->size_bytes, from, list ? fetch_changes : NULL, send,
                   all ? 0 : order->audit_first_block, !list ? 0 : all ? send->blocks : order->audit_blocks);
    for (size_t i = 0; list && i < order->damage_count; i++) {
        send_plan_add(&send->plan, order->damages[i].first_block, order->damages[i].block_count);
    }
    send->next_block = send->marked_block = from;
    send->marked_ms = far_clock_monotonic_ms();
    send->planned = false;
    bool ahead = send->lanes[0].awaits_welcome;
    bool near = send->local || (!ahead && far_bstream_round_trip_us(send->lanes[0].stream) < SEND_NEAR_US &&
                                send->lanes[0].answered_us < SEND_NEAR_ANSWER_US);
    send->welcomed = !ahead;
    send->buffers_max = near ? SEND_BUFFERS_NEAR : SEND_BUFFERS_MAX;
    send->lane_count = near ? 1 : SEND_LANES_FAR;
    send->lanes_up = 0;
    send->lonely_since_ms = far_clock_monotonic_ms();
    send->busy = send->groups_open = 0;
    send->judged_ns = far_clock_monotonic_ns();
    send->unacked_bytes = send->offered_blocks = send->wanted_blocks = 0;
    send->credit = (struct far_transfer_credit){.groups = ahead ? SEND_AHEAD_GROUPS : 0};
    send->to_offer = send->to_read = send->to_pack = send->to_send = (struct send_queue){0};
    for (size_t i = 0; i < send->engine->config.worker_count; i++) {
        send->workers[i].low_block = send->workers[i].work_block = UINT64_MAX;
        send->workers[i].runs = false;
    }
    for (size_t i = 0; i < SEND_LANES_FAR; i++) {
        send->lanes[i].up = send->lanes[i].writing = send->lanes[i].reader_runs = send->lanes[i].writer_runs = false;
    }
}

/* Everything of the session goes back; the maps stay. */
static void session_done(struct far_send *send)
{
    for (size_t i = 0; i < SEND_GROUPS; i++) {
        far_pool_give(send->engine->pool_out, send->groups[i].buffer);
        send->groups[i].buffer = NULL;
        send->groups[i].state = SEND_FREE;
        send->groups[i].unacked_bytes = 0;
    }
    for (size_t i = 0; i < FAR_ENGINE_WORKERS_MAX; i++) {
        for (size_t c = 0; c < SEND_CHUNKS; c++) {
            far_pool_give(send->engine->pool_out, send->workers[i].buffers[c]);
            send->workers[i].buffers[c] = NULL;
            send->workers[i].spares[c] = NULL;
        }
        send->workers[i].open = NULL;
    }
    for (size_t i = 0; i < SEND_LANES_FAR; i++) {
        struct send_lane *lane = &send->lanes[i];
        send_lane_close(lane);
        lane->held = NULL;
        far_throttle_ticket_done(send->engine->throttle, &lane->ticket);
        far_throttle_ticket_init(&lane->ticket, send);
    }
    send->buffers = send->groups_used = 0;
    atomic_store(&send->attempt->figures.streams, 0);
}

/* The mutex is held. */
static void wait_for_end(struct far_send *send)
{
    while (!send->stop) {
        if (send->local && send_all_hashed(send)) {
            send_stop(send, 0, NULL, false);
            break;
        }
        struct timespec at = far_clock_monotonic_in(SEND_MARK_MS);
        pthread_cond_timedwait(&send->ended, &send->mutex, &at);
        send_note_progress(send);
        if (far_clock_monotonic_ns() - send->judged_ns >= (uint64_t)SEND_MARK_MS * 900000) {
            send_judge(send);
        }
    }
}

static int session(struct far_send *send, const struct far_transfer_welcome *welcome, struct far_error *err)
{
    session_init(send, welcome);
    int rc = start_threads(send, err);
    pthread_mutex_lock(&send->mutex);
    if (rc != 0) {
        send_stop(send, rc, err, true);
    }
    wait_for_end(send);
    pthread_mutex_unlock(&send->mutex);
    join_threads(send);
    session_done(send);
    if (send->rc != 0 && err != NULL) {
        *err = send->error;
    }
    return send->rc;
}

/* What a cancel does: it must not be lost between two sessions, where nobody looks at `stop`. */
static void interrupt(void *arg)
{
    struct far_send *send = arg;
    struct far_error error;
    if (!far_attempt_stopped(send->attempt)) {
        return; /* a visitor: whoever waits for one is woken by the attempt itself */
    }
    far_fail(&error, FAR_CANCELED, "canceled");
    pthread_mutex_lock(&send->mutex);
    send_stop(send, FAR_CANCELED, &error, true);
    pthread_mutex_unlock(&send->mutex);
}

static int connect_once(struct far_send *send, bool *ret_met, struct far_error *err)
{
    struct far_transfer_welcome welcome;
    pthread_mutex_lock(&send->mutex);
    send->stop = send->own = false;
    send->rc = 0;
    pthread_mutex_unlock(&send->mutex);
    far_random_bytes(send->session, sizeof send->session);
    int rc = far_attempt_check(send->attempt, err); /* after stop: a cancel sets its flag first */
    rc = rc == 0 ? send_lane_connect(&send->lanes[0], false, &welcome, err) : rc;
    if (rc != 0) {
        return rc;
    }
    rc = session(send, &welcome, err);
    *ret_met = send->welcomed;
    send->guesses = send->welcomed;
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
        atomic_store(&send->attempt->figures.bottleneck, FAR_ENGINE_PEER);
        if (now_ms - lonely_since_ms >= LONELY_MS) {
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
    struct far_source_map_config config = {
        .dir = send->engine->cache_dir,
        .disk_id = order->disk_id,
        .size_bytes = send->size_bytes,
        .has_base = order->has_base_root,
        .job_id = order->job_id,
        .freeze_ref = order->freeze_ref,
        .missed = send_missed_note,
        .missed_arg = &send->missed,
    };
    memcpy(config.base_root.bytes, order->base_root, sizeof config.base_root.bytes);
    int rc = far_source_map_new(&config, &send->map, err);
    if (rc != 0) {
        return rc;
    }
    send->keyed = order->has_domain;
    rc = send->keyed ? far_id_key_init(&send->ids, order->domain.uuid, order->domain.secret, err) : 0;
    send->blocks = far_map_block_count(send->size_bytes);
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
    for (unsigned i = 0; i < SEND_LANES_FAR; i++) {
        send->lanes[i].send = send;
        send->lanes[i].index = i;
        far_throttle_ticket_init(&send->lanes[i].ticket, send);
    }
    return rc;
}

static void send_free(struct far_send *send)
{
    far_attempt_watch(send->attempt, NULL, NULL, NULL);
    if (send->handle != NULL) {
        send->platform->adapter->bytes->close(send->handle);
    }
    for (size_t i = 0; i < FAR_ENGINE_WORKERS_MAX; i++) {
        free(send->workers[i].scratch);
        ZSTD_freeCCtx(send->workers[i].zstd);
    }
    for (size_t i = 0; i < SEND_LANES_FAR && send->lanes[i].send != NULL; i++) {
        far_throttle_ticket_done(send->engine->throttle, &send->lanes[i].ticket);
    }
    far_source_map_free(send->map);
    pthread_mutex_destroy(&send->mutex);
    pthread_mutex_destroy(&send->plan_mutex);
    explicit_bzero(&send->ids, sizeof send->ids);
    send_missed_done(&send->missed);
    pthread_cond_destroy(&send->work);
    pthread_cond_destroy(&send->out);
    pthread_cond_destroy(&send->ended);
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
        pthread_mutex_init(&send->plan_mutex, NULL);
        send_missed_init(&send->missed);
        pthread_cond_init(&send->work, &attr);
        pthread_cond_init(&send->out, &attr);
        pthread_cond_init(&send->ended, &attr);
        pthread_condattr_destroy(&attr);
        send->guesses = true;
        send->attempt = attempt;
        send->engine = attempt->engine;
    }
    return send;
}

static int fill_result(struct far_send *send, struct far_engine_report *result, struct far_error *err)
{
    const struct far_engine_order *order = &send->attempt->order;
    struct far_hash256 root;
    int rc = far_source_map_close_to(send->map, send->blocks, err);
    if (rc != 0) {
        return rc;
    }
    far_source_map_root(send->map, &root);
    memcpy(result->root, root.bytes, sizeof result->root);
    result->has_root = true;
    result->size_bytes = send->size_bytes;
    result->full = !send->plan.has_list || order->full || order->audit_blocks >= send->blocks;
    result->audited_blocks = send->audited_blocks;
    result->audit_next_block = (order->audit_first_block + order->audit_blocks) % send->blocks;
    atomic_store(&send->attempt->bytes_done, send->size_bytes);
    far_source_map_finish(send->map);
    return 0;
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
    rc = rc == 0 ? far_attempt_watch(attempt, interrupt, send, err) : rc;
    rc = rc == 0 ? transfer(send, err) : rc;
    rc = rc == 0 ? fill_result(send, result, err) : rc;
    memcpy(result->resync_reason, send->resync_reason, sizeof result->resync_reason); /* these also of one that failed */
    result->missed_block_count = send->missed.blocks;
    result->missed_count = send->missed.count;
    memcpy(result->missed, send->missed.ranges, sizeof result->missed);
    result->outcome = send->outcome;
    far_transfer_slot_give(engine, &engine->sending);
    send_free(send);
    return rc;
}
