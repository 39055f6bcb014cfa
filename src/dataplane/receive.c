/* A receive: keep the replica of one disk equal to what the source's frozen view is, and report the replica's root.
 *
 * The attempt opens the replica under its fence, waits for the sender's hello, and serves a session until it is complete:
 * connections come and go in it. A sender that begins another session goes on from the durable frontier: before it the
 * replica is as the view, from there on as the base point again, so that what equals the base need not be offered. Errors
 * of this side (full disk, a block that is not what was offered, a newer fence) end the attempt and are told to the source.
 * An attempt that finds the whole view of its job durable already reports its root at once. */
#include "dataplane/receive_local.h"

#include "base/clock.h"
#include "base/thread.h"
#include "dataplane/id_key.h"

#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

enum {
    WAIT_MS = 1000,
    WINDOW_MIN = 16 << 20, /* bytes of a disk in flight, DESIGN.md section 1 */
    WINDOW_FIRST = 32 << 20,
    WINDOW_MAX = 64 << 20,
    ADAPT_MS = 50,
};

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
    for (size_t i = 0; i < FAR_TRANSFER_LANES_MAX && !own && rc != 0; i++) {
        if (receive->lanes[i].up) {
            far_bstream_shutdown(receive->lanes[i].stream);
        }
    }
    pthread_cond_broadcast(&receive->work);
    pthread_cond_broadcast(&receive->out);
    pthread_cond_broadcast(&receive->settled);
    pthread_cond_broadcast(&receive->room);
    pthread_cond_broadcast(&receive->ended);
}

void receive_settle(struct far_receive *receive)
{
    if (receive->fin && receive->open_groups == 0 && receive->settled_block < receive->blocks) {
        receive->settled_block = receive->blocks;
        pthread_cond_signal(&receive->settled);
    }
}

size_t receive_items_max(const struct far_receive *receive)
{
    size_t receiving = atomic_load(&receive->engine->receiving_hint);
    size_t share = far_pool_count(receive->engine->pool_in) / (receiving > 0 ? receiving : 1);
    share = share > receive->engine->config.worker_count ? share - receive->engine->config.worker_count : 0;
    share = share < RECEIVE_ITEMS ? share : RECEIVE_ITEMS;
    return share > RECEIVE_ITEMS_MIN ? share : RECEIVE_ITEMS_MIN;
}

/* The window grows while everything that comes is stored at once (the path is longer than the window), and shrinks while
 * what came waits for the disk, or when a connection was lost. */
void receive_adapt(struct far_receive *receive, bool lane_lost)
{
    uint64_t now_ms = far_clock_monotonic_ms(), window = receive->window_bytes;
    size_t receiving = atomic_load(&receive->engine->receiving_hint);
    uint64_t share = (uint64_t)far_pool_count(receive->engine->pool_in) * FAR_TRANSFER_BULK_MAX /
                     (receiving > 0 ? receiving : 1);
    uint64_t max = share < WINDOW_MIN ? WINDOW_MIN : share < WINDOW_MAX ? share : WINDOW_MAX;
    if (!lane_lost && now_ms - receive->adapted_ms < ADAPT_MS) {
        return;
    }
    receive->adapted_ms = now_ms;
    receive->busy = receive->in_work * 4 >= receive_items_max(receive) * 3;
    if (receive->busy || lane_lost) {
        window -= window / 4;
    } else if (receive->awaited > 0 && receive->queued == 0) {
        window += window / 4;
    }
    window = window > max ? max : window < WINDOW_MIN ? WINDOW_MIN : window;
    receive->window_bytes = window;
    atomic_store(&receive->attempt->figures.window_bytes, window);
    atomic_store(&receive->attempt->figures.bottleneck, receive->busy ? FAR_ENGINE_TARGET_WRITE : FAR_ENGINE_LINK);
}

/* ---- a session ---- */

static int start_threads(struct far_receive *receive, struct far_error *err)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, FAR_ENGINE_WORKER_STACK_BYTES);
    int failed = pthread_create(&receive->checkpointer, &attr, receive_checkpoint_main, receive);
    receive->checkpointer_runs = failed == 0;
    for (size_t i = 0; failed == 0 && i < receive->engine->config.worker_count; i++) {
        failed = pthread_create(&receive->workers[i].thread, &attr, receive_worker_main, &receive->workers[i]);
        receive->workers[i].runs = failed == 0;
    }
    pthread_attr_destroy(&attr);
    return failed == 0 ? 0 : far_fail_errno(err, FAR_LIMIT, failed, "start a thread");
}

static void session_init(struct far_receive *receive, const struct far_transfer_hello *hello)
{
    memcpy(receive->session, hello->session, sizeof receive->session);
    receive->stop = receive->own = receive->fin = receive->complete = receive->busy = false;
    receive->rc = 0;
    memset(receive->groups, 0, sizeof receive->groups);
    memset(receive->newest, 0, sizeof receive->newest);
    receive->first = receive->last = NULL;
    receive->in_work = receive->queued = receive->awaited = receive->open_groups = 0;
    for (size_t i = 0; i < RECEIVE_ITEMS; i++) {
        receive->items[i].in_work = false;
    }
    receive->paged_blocks = receive->paged_pages = receive->stored_bytes = 0;
    receive->settled_block = receive->frontier_block;
    for (size_t i = 0; i < FAR_TRANSFER_LANES_MAX; i++) {
        receive->lanes[i].told = false;
    }
    receive->window_bytes = WINDOW_FIRST;
    receive->adapted_ms = far_clock_monotonic_ms();
    for (size_t i = 0; i < receive->engine->config.worker_count; i++) {
        receive->workers[i].runs = false;
    }
}

static void session_end(struct far_receive *receive)
{
    if (!receive->active) {
        return;
    }
    struct far_error error;
    pthread_mutex_lock(&receive->mutex);
    far_fail(&error, FAR_CANCELED, "the session is over");
    receive_stop(receive, FAR_CANCELED, &error, false);
    pthread_mutex_unlock(&receive->mutex);
    receive_lanes_join(receive);
    for (size_t i = 0; i < receive->engine->config.worker_count; i++) {
        if (receive->workers[i].runs) {
            pthread_join(receive->workers[i].thread, NULL);
            receive->workers[i].runs = false;
        }
    }
    if (receive->checkpointer_runs) {
        pthread_join(receive->checkpointer, NULL);
        receive->checkpointer_runs = false;
    }
    receive->active = false;
}

/* ---- hello ---- */

/* Has the source the secret of the domain? Without it nothing is answered. */
static int check_proof(const struct far_receive *receive, const struct far_transfer_hello *hello, struct far_error *err)
{
    const struct far_id_key *key = far_domain_id_key(receive->domain);
    uint8_t bound[FAR_TRANSFER_HEAD_MAX], proof[32];
    if (key == NULL || !hello->keyed) {
        return key == NULL && !hello->keyed ? 0
               : far_fail(err, FAR_DENIED, "the source node speaks for %s dedup domain, expected is %s%.63s",
                          hello->keyed ? "a keyed" : "the plain", key == NULL ? "the plain one" : "domain ",
                          key == NULL ? "" : receive->attempt->order.domain.name);
    }
    far_hmac(&key->hello, bound, far_transfer_hello_bound(hello, bound), proof);
    uint8_t differs = 0;
    for (size_t i = 0; i < sizeof proof; i++) {
        differs |= proof[i] ^ hello->proof[i];
    }
    return differs == 0 ? 0 : far_fail(err, FAR_DENIED, "the source node has not the secret of domain '%.63s'",
                                       receive->attempt->order.domain.name);
}

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
    return check_proof(receive, hello, err);
}

static int say_welcome(struct far_receive *receive, struct far_bstream *stream,
                       const struct far_transfer_welcome *welcome, struct far_error *err)
{
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    size_t len = far_transfer_welcome_encode(welcome, head);
    return far_frame_write(stream, FAR_TRANSFER_WELCOME, head, len, receive->engine->config.idle_ms, err);
}

/* Where the sender's view is known to be here, and everything from there on as in the base. Where the vault lacks the base
 * nothing can be told from it: everything is offered. */
static int go_back(struct far_receive *receive, const struct far_transfer_hello *hello,
                   struct far_transfer_welcome *ret_welcome, struct far_error *err)
{
    const struct far_engine_order *order = &receive->attempt->order;
    bool same_view = hello->freeze_ref[0] != '\0' && strcmp(hello->freeze_ref, receive->freeze_ref) == 0;
    uint64_t resume = !same_view                                        ? 0
                      : receive->frontier_block < hello->frontier_block ? receive->frontier_block
                                                                        : hello->frontier_block;
    int rc = 0;
    *ret_welcome = (struct far_transfer_welcome){.resume_block = resume};
    if (!order->has_base_root) {
        rc = far_replica_rewind(receive->replica, NULL, resume, err);
    } else if (receive->base != NULL) {
        struct far_hash256 root;
        far_point_root(receive->base, &root);
        rc = far_replica_rewind(receive->replica, &root, resume, err);
        ret_welcome->base_bytes = far_point_size(receive->base);
    }
    snprintf(receive->freeze_ref, sizeof receive->freeze_ref, "%s", hello->freeze_ref);
    receive->frontier_block = resume;
    return rc;
}

/* Another session, in the place of one that is there. */
static int begin_session(struct far_receive *receive, struct far_visitor *visitor, struct far_error *err)
{
    struct far_transfer_welcome welcome;
    session_end(receive);
    int rc = go_back(receive, &visitor->hello, &welcome, err);
    bool own = rc != 0;
    session_init(receive, &visitor->hello);
    if (rc == 0) {
        rc = say_welcome(receive, visitor->stream, &welcome, err);
        if (rc != 0) {
            return 0; /* the sender has gone: it comes again */
        }
        receive->active = true;
        rc = start_threads(receive, err);
        own = rc != 0;
    }
    if (rc == 0) {
        struct far_bstream *stream = visitor->stream;
        visitor->stream = NULL;
        rc = receive_lane_start(receive, stream, err);
    } else {
        receive_say_error(visitor->stream, err);
    }
    if (own) {
        pthread_mutex_lock(&receive->mutex);
        receive_stop(receive, rc, err, true);
        pthread_mutex_unlock(&receive->mutex);
    }
    return rc;
}

static int join_session(struct far_receive *receive, struct far_visitor *visitor)
{
    struct far_transfer_welcome welcome = {0};
    struct far_error error;
    int rc = 0;
    if (!receive->active || memcmp(receive->session, visitor->hello.session, sizeof receive->session) != 0) {
        rc = far_fail(&error, FAR_CONFLICT, "this session is not known here any more");
        receive_say_error(visitor->stream, &error);
        return rc;
    }
    pthread_mutex_lock(&receive->mutex);
    welcome.resume_block = receive->frontier_block;
    pthread_mutex_unlock(&receive->mutex);
    rc = say_welcome(receive, visitor->stream, &welcome, &error);
    if (rc == 0) {
        struct far_bstream *stream = visitor->stream;
        visitor->stream = NULL;
        rc = receive_lane_start(receive, stream, &error);
    }
    return rc;
}

/* Fails only if the attempt cannot succeed any more. */
static int serve(struct far_receive *receive, struct far_visitor *visitor, struct far_error *err)
{
    int rc = check_hello(receive, &visitor->hello, err);
    if (rc != 0) {
        receive_say_error(visitor->stream, err);
    } else if (visitor->hello.joins) {
        join_session(receive, visitor); /* if not, the sender sees what to do */
    } else {
        rc = begin_session(receive, visitor, err);
    }
    far_visitor_free(visitor);
    return rc;
}

/* What a cancel or a visitor does. */
static void wake(void *arg)
{
    struct far_receive *receive = arg;
    pthread_mutex_lock(&receive->mutex);
    pthread_cond_broadcast(&receive->ended);
    pthread_mutex_unlock(&receive->mutex);
}

/* Does another receive wait for a slot or for buffers? */
static bool somebody_waits(struct far_engine *engine)
{
    pthread_mutex_lock(&engine->mutex);
    bool waits = engine->taking_first;
    for (const struct far_attempt *a = engine->attempts; a != NULL; a = a->next) {
        waits = waits || a->waits_for == &engine->receiving;
    }
    pthread_mutex_unlock(&engine->mutex);
    return waits || far_pool_waited_for(engine->pool_in);
}

/* A visitor, or NULL: the session is over, or the attempt, or the source has been gone for so long that others, if some wait,
 * may have what this one holds. */
static struct far_visitor *await(struct far_receive *receive, bool *ret_alone)
{
    struct far_attempt *attempt = receive->attempt;
    uint64_t since_ms = far_clock_monotonic_ms();
    *ret_alone = false;
    for (;;) {
        struct far_visitor *visitor = far_attempt_next_visitor(attempt);
        uint64_t now_ms = far_clock_monotonic_ms();
        bool needed = now_ms - since_ms >= receive->engine->config.idle_ms && somebody_waits(receive->engine);
        pthread_mutex_lock(&receive->mutex);
        bool over = receive->active && receive->stop, connected = receive_lanes_up(receive) > 0;
        since_ms = connected ? now_ms : since_ms;
        *ret_alone = needed && visitor == NULL && !over && !connected;
        if (visitor == NULL && !over && !*ret_alone && !far_attempt_stopped(attempt) && !far_attempt_has_visitor(attempt)) {
            struct timespec at = far_clock_monotonic_in(WAIT_MS);
            pthread_cond_timedwait(&receive->ended, &receive->mutex, &at);
        }
        pthread_mutex_unlock(&receive->mutex);
        if (visitor != NULL || over || *ret_alone || far_attempt_stopped(attempt)) {
            return visitor;
        }
    }
}

/* ret_alone: it is not, but the source is gone, and its session forgotten. */
static int serve_until_complete(struct far_receive *receive, bool *ret_alone, struct far_error *err)
{
    int rc = 0;
    for (;;) {
        struct far_visitor *visitor = await(receive, ret_alone);
        rc = far_attempt_check(receive->attempt, err);
        if (rc != 0) {
            far_visitor_free(visitor);
            break;
        }
        if (visitor != NULL) {
            rc = serve(receive, visitor, err);
            if (rc != 0) {
                break;
            }
            continue;
        }
        session_end(receive); /* it stopped by itself; its verdict is from before */
        if (receive->complete || receive->own || *ret_alone) {
            rc = receive->own && !receive->complete ? receive->rc : 0;
            *ret_alone = *ret_alone && !receive->complete && rc == 0;
            if (rc != 0) {
                *err = receive->error;
            }
            break;
        }
    }
    session_end(receive);
    return rc;
}

/* ---- the task ---- */

static int open_base(struct far_receive *receive, struct far_error *err)
{
    const struct far_engine_order *order = &receive->attempt->order;
    struct far_hash256 base;
    memcpy(base.bytes, order->base_root, sizeof base.bytes);
    int rc = order->has_base_root ? far_point_open(receive->vault, receive->domain, &base, &receive->base, err) : 0;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int open_replica(struct far_receive *receive, bool *ret_has_all, struct far_engine_report *result, struct far_error *err)
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
    int rc = far_attempt_domain(receive->attempt, &receive->domain, result, err);
    rc = rc != 0 ? rc : far_replica_open(receive->vault, receive->domain, far_engine_number(receive->engine, order->disk_id),
                                         order->size_bytes, &fence, &receive->replica, err);
    rc = rc == 0 ? open_base(receive, err) : rc;
    if (rc != 0) {
        return rc;
    }
    far_replica_state(receive->replica, &state);
    if (state.job != order->job_id || state.size_bytes != order->size_bytes) {
        return 0;
    }
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
        receive->workers[i].scratch = malloc(FAR_BLOCK_BYTES);
        bool made = receive->workers[i].zstd != NULL && receive->workers[i].scratch != NULL;
        rc = made ? 0 : far_fail(err, FAR_LIMIT, "no memory for a transfer");
    }
    return rc;
}

/* One receive at a time: several that each have some of theirs would wait for each other for ever. */
static int take_first_buffers(struct far_receive *receive, struct far_error *err)
{
    struct far_engine *engine = receive->engine;
    struct far_attempt *attempt = receive->attempt;
    pthread_mutex_lock(&engine->mutex);
    while (engine->taking_first && !far_attempt_stopped(attempt)) {
        atomic_store(&attempt->figures.bottleneck, FAR_ENGINE_MEMORY);
        far_engine_wait(engine, WAIT_MS);
    }
    bool turn = !engine->taking_first;
    engine->taking_first = true;
    pthread_mutex_unlock(&engine->mutex);
    if (!turn) {
        return far_attempt_check(attempt, err);
    }
    for (size_t i = 0; i < engine->config.worker_count; i++) {
        receive->workers[i].plain = far_pool_take(engine->pool_in, &attempt->canceled);
    }
    receive->items[0].buffer = far_pool_take(engine->pool_in, &attempt->canceled);
    pthread_mutex_lock(&engine->mutex);
    engine->taking_first = false;
    pthread_cond_broadcast(&engine->changed);
    pthread_mutex_unlock(&engine->mutex);
    return far_attempt_check(attempt, err);
}

/* No session is active. */
static void give_buffers(struct far_receive *receive)
{
    for (size_t i = 0; i < FAR_ENGINE_WORKERS_MAX; i++) {
        far_pool_give(receive->engine->pool_in, receive->workers[i].plain);
        receive->workers[i].plain = NULL;
    }
    for (size_t i = 0; i < RECEIVE_ITEMS; i++) {
        far_pool_give(receive->engine->pool_in, receive->items[i].buffer);
        receive->items[i].buffer = NULL;
    }
}

static void receive_free(struct far_receive *receive)
{
    far_attempt_watch(receive->attempt, NULL, NULL, NULL);
    receive_dial_stop(receive);
    far_point_close(receive->base);
    far_replica_close(receive->replica);
    give_buffers(receive);
    for (size_t i = 0; i < FAR_ENGINE_WORKERS_MAX; i++) {
        ZSTD_freeDCtx(receive->workers[i].zstd);
        free(receive->workers[i].scratch);
    }
    pthread_mutex_destroy(&receive->mutex);
    pthread_cond_destroy(&receive->work);
    pthread_cond_destroy(&receive->out);
    pthread_cond_destroy(&receive->settled);
    pthread_cond_destroy(&receive->room);
    pthread_cond_destroy(&receive->ended);
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
        pthread_cond_init(&receive->room, &attr);
        pthread_cond_init(&receive->ended, &attr);
        pthread_condattr_destroy(&attr);
        receive->attempt = attempt;
        receive->engine = attempt->engine;
        receive->vault = attempt->engine->vault;
    }
    return receive;
}

/* A slot is taken only when the sender is there: it holds one of its own side, and two nodes that each hold slots for
 * what the other has not begun would wait for ever. */
static int receive_in_slot(struct far_receive *receive, bool *ret_alone, struct far_error *err)
{
    struct far_attempt *attempt = receive->attempt;
    struct far_engine *engine = receive->engine;
    *ret_alone = false;
    pthread_mutex_lock(&receive->mutex);
    while (!far_attempt_has_visitor(attempt) && !far_attempt_stopped(attempt)) {
        struct timespec at = far_clock_monotonic_in(WAIT_MS);
        pthread_cond_timedwait(&receive->ended, &receive->mutex, &at);
    }
    pthread_mutex_unlock(&receive->mutex);
    int rc = far_transfer_slot_take(attempt, &engine->receiving, err);
    if (rc == 0) {
        rc = take_first_buffers(receive, err);
        rc = rc == 0 ? serve_until_complete(receive, ret_alone, err) : rc;
        give_buffers(receive);
        far_transfer_slot_give(engine, &engine->receiving);
    }
    return rc;
}

static int receive_disk(struct far_receive *receive, struct far_error *err)
{
    bool alone = true;
    int rc = far_attempt_watch(receive->attempt, wake, receive, err);
    rc = rc == 0 ? receive_dial_start(receive, err) : rc;
    while (rc == 0 && alone) {
        rc = receive_in_slot(receive, &alone, err);
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
    rc = rc == 0 ? open_replica(receive, &has_all, result, err) : rc;
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
