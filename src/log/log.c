/* The log: opening, closing, views. The public side is log.h.
 *
 * A good day: a command is queued (log_propose.c), becomes part of an entry when we lead or goes to who leads, raft
 * commits the entry (log_turn.c), the apply thread decides it and commits the store, and what came of it is answered.
 * Work that follows from events is done once at the end of the loop's turn, so that what came together goes together.
 * How it fails: a full disk refuses and waits; any other error of disk or store, and a state that a majority of the
 * servers does not share, ends the process with a line that says why. */
#include "log/log_private.h"

#include "log/history.h"
#include "log/older.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/logging.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

void far_log_stop_server(const char *area, const char *why)
{
    far_logf(FAR_LEVEL_ERROR, area, "the server stops: %s", why);
    abort();
}

/* ---- the folder ---- */

static int open_folder(const char *dir, int *ret_fd, struct far_error *err)
{
    char path[PATH_BYTES];
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return far_fail_errno(err, FAR_IO, errno, "open folder '%s'", dir);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return far_fail(err, FAR_CONFLICT, "another server runs on folder '%s'", dir);
    }
    snprintf(path, sizeof path, "%s/state", dir);
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        int code = errno;
        close(fd);
        return far_fail_errno(err, FAR_IO, code, "make folder '%s'", path);
    }
    *ret_fd = fd;
    return 0;
}

static int open_store(const struct far_log_config *config, struct far_store **ret_store, struct far_error *err)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/state", config->dir);
    int rc = far_store_open_lmdb(path, config->map_bytes, false, ret_store, err);
    if (rc == 0) {
        (*ret_store)->epoch_events = config->epoch_events;
    }
    return rc;
}

static int open_disk(const struct far_log_config *config, struct far_disk **ret_disk, struct far_error *err)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/wal", config->dir);
    return far_disk_posix_new(path, ret_disk, err);
}

/* ---- bootstrap ---- */

static int bootstrap_store(struct far_store *store, struct far_slice configuration, struct far_error *err)
{
    struct far_store_txn *txn;
    int rv = far_store_begin(store, true, &txn, err);
    if (rv != 0) {
        return rv;
    }
    struct far_store_meta *meta = far_store_meta(txn);
    if (meta->applied_index != 0) {
        far_store_abort(txn);
        return far_fail(err, FAR_CONFLICT, "the folder holds the state of a server already");
    }
    FAR_ASSERT(configuration.len <= sizeof meta->configuration);
    meta->applied_index = meta->configuration_index = meta->stored_index = FAR_RAFT_BOOTSTRAP_INDEX;
    meta->applied_term = meta->stored_term = FAR_RAFT_BOOTSTRAP_TERM;
    meta->configuration_len = configuration.len;
    memcpy(meta->configuration, configuration.data, configuration.len);
    rv = far_store_commit(txn, err);
    return rv != 0 ? rv : far_store_sync(store, err);
}

int far_log_bootstrap(const struct far_log_config *config, struct far_error *err)
{
    struct far_store *store = NULL;
    struct far_disk *disk = NULL;
    struct far_buf configuration;
    int fd = -1;
    far_buf_init(&configuration, FAR_RAFT_MANIFEST_MAX);
    int rv = open_folder(config->dir, &fd, err);
    rv = rv != 0 ? rv : open_store(config, &store, err);
    rv = rv != 0 ? rv : open_disk(config, &disk, err);
    rv = rv != 0 ? rv : far_raft_bootstrap(disk, config->server_id, config->address, &configuration, err);
    rv = rv != 0 ? rv : bootstrap_store(store, far_buf_slice(&configuration), err);
    far_disk_posix_free(disk);
    far_store_close(store);
    far_buf_done(&configuration);
    if (fd >= 0) {
        close(fd);
    }
    return rv;
}

/* ---- the turn ---- */

static void on_idle(uv_idle_t *idle)
{
    (void)idle;
}

static void on_check(uv_check_t *check)
{
    struct far_log *log = check->data;
    if (!log->is_kicked || log->is_closing) {
        return;
    }
    log->is_kicked = false;
    uv_idle_stop(&log->idle);
    far_log_turn(log);
}

void far_log_kick(struct far_log *log)
{
    if (!log->is_kicked && !log->is_closing) {
        log->is_kicked = true;
        uv_idle_start(&log->idle, on_idle);
    }
}

static void on_beat(uv_timer_t *timer)
{
    far_log_on_beat(timer->data);
}

void far_log_refuse(struct far_log *log, int klass, const char *why, far_log_done_fn done, void *arg)
{
    struct far_refusal *refusal = calloc(1, sizeof *refusal);
    if (refusal == NULL) {
        far_log_stop_server("log", "out of memory");
    }
    refusal->result.klass = klass;
    snprintf(refusal->result.message, sizeof refusal->result.message, "%s", why);
    refusal->done = done;
    refusal->arg = arg;
    refusal->next = log->refusals;
    log->refusals = refusal;
    far_log_kick(log);
}

/* ---- opening ---- */

/* What the store says at start; its digest is checked against the bytes. */
static int load(struct far_log *log, struct far_store_meta *meta, struct far_error *err)
{
    struct far_store_txn *txn;
    struct far_hash128 digest;
    uint64_t pairs;
    int rv = far_store_begin(log->store, false, &txn, err);
    if (rv != 0) {
        return rv;
    }
    *meta = *far_store_meta(txn);
    rv = far_state_digest_walk(far_store_kv(txn), &digest, &pairs, err);
    far_store_abort(txn);
    if (rv == 0 && !far_hash128_equal(digest, meta->digest)) {
        return far_fail(err, FAR_CORRUPT, "store: the rows do not give the digest that was kept at entry %llu; this server "
                        "must rejoin as a new one", (unsigned long long)meta->applied_index);
    }
    if (rv != 0) {
        return rv;
    }
    log->applied_index = log->durable_index = log->told_durable_index = meta->applied_index;
    log->applied_term = meta->applied_term;
    log->first_seq = meta->first_seq;
    log->oldest_seq = far_older_first(meta);
    log->last_seq = meta->last_seq;
    log->points[FAR_LOG_POINTS - 1] = (struct far_commit_point){meta->applied_index, meta->applied_term};
    struct far_blob *blob = far_blob_new(meta->configuration, meta->configuration_len);
    if (blob == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory");
    }
    far_log_note_configuration(log, meta->configuration_index, blob);
    far_blob_unref(blob);
    struct far_mark mark = {.index = meta->applied_index, .last_seq = meta->last_seq, .digest = meta->digest};
    memcpy(mark.head, meta->head, FAR_HEAD_SIZE);
    far_agreement_note(&log->agreement, &mark);
    return far_log_load_level(log, err);
}

static void on_full(void *arg)
{
    struct far_log *log = arg; /* on the apply thread */
    far_space_give_back(&log->space);
}

static int open_raft(struct far_log *log, const struct far_store_meta *meta, struct far_error *err)
{
    uint32_t seed;
    far_random_bytes(&seed, sizeof seed);
    struct far_raft_env env = far_log_env;
    env.arg = log;
    struct far_raft_config config = {
        .id = log->config.server_id,
        .address = log->config.address,
        .election_ms = log->config.election_ms,
        .seed = seed,
        .disk = log->disk,
        .executor = far_writer_executor(log->writer),
        .manifest = far_log_raft_manifest(log, meta->applied_index, meta->applied_term),
        .installed = meta->installed_index != 0 && meta->installed_index == meta->applied_index,
        .trusted_index = meta->stored_index,
        .trusted_term = meta->stored_term,
        .cache_bytes_max = log->config.wal_bytes_max,
    };
    return far_raft_open(&config, &env, &log->raft, err);
}

static void init_handles(struct far_log *log)
{
    uv_timer_init(log->loop, &log->raft_timer);
    uv_timer_init(log->loop, &log->beat);
    uv_timer_init(log->loop, &log->tick_timer);
    uv_timer_init(log->loop, &log->pace_timer);
    uv_idle_init(log->loop, &log->idle);
    uv_check_init(log->loop, &log->check);
    log->raft_timer.data = log->beat.data = log->tick_timer.data = log->pace_timer.data = log->idle.data = log->check.data = log;
    log->handles = 6;
    uv_timer_start(&log->beat, on_beat, FAR_LOG_BEAT_MS, FAR_LOG_BEAT_MS);
    uv_check_start(&log->check, on_check);
}

static struct far_log *log_new(const struct far_log_config *config, uv_loop_t *loop)
{
    struct far_log *log = calloc(1, sizeof *log);
    char *dir = strdup(config->dir), *address = strdup(config->address);
    if (log == NULL || dir == NULL || address == NULL) {
        free(log);
        free(dir);
        free(address);
        return NULL;
    }
    log->config = *config;
    log->config.dir = dir;
    log->config.address = address;
    log->config.election_ms = config->election_ms == 0 ? 700 : config->election_ms;
    log->loop = loop;
    log->lock_fd = -1;
    log->next_deadline_ms = UINT64_MAX;
    log->backlog_last = &log->backlog;
    uint64_t first_request;
    far_random_bytes(&first_request, sizeof first_request);
    far_proposals_init(&log->proposals, far_log_answer, log, first_request);
    far_cluster_clock_init(&log->clock);
    far_buf_init(&log->scratch, FAR_FRAME_MAX);
    uv_mutex_init(&log->status_mutex);
    return log;
}

static void log_free(struct far_log *log)
{
    far_disk_posix_free(log->disk);
    far_store_close(log->store);
    far_safe_close(log->safe);
    far_log_free_backlog(log);
    for (int i = 0; i < FAR_LOG_CONFIGURATIONS; i++) {
        far_blob_unref(log->configurations[i].blob);
    }
    far_blob_unref(log->install.manifest);
    far_buf_done(&log->scratch);
    uv_mutex_destroy(&log->status_mutex);
    if (log->lock_fd >= 0) {
        close(log->lock_fd);
    }
    free((char *)log->config.dir);
    free((char *)log->config.address);
    free(log);
}

/* ---- closing: raft, writer, apply, peers, handles, in this order ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct far_log *log = handle->data;
    if (--log->handles > 0) {
        return;
    }
    void (*closed)(void *arg) = log->closed;
    void *arg = log->closed_arg;
    log_free(log);
    if (closed != NULL) {
        closed(arg);
    }
}

static void close_handles(void *arg)
{
    struct far_log *log = arg;
    uv_close((uv_handle_t *)&log->raft_timer, on_handle_closed);
    uv_close((uv_handle_t *)&log->beat, on_handle_closed);
    uv_close((uv_handle_t *)&log->tick_timer, on_handle_closed);
    uv_close((uv_handle_t *)&log->pace_timer, on_handle_closed);
    uv_close((uv_handle_t *)&log->idle, on_handle_closed);
    uv_close((uv_handle_t *)&log->check, on_handle_closed);
}

static void close_peers(void *arg)
{
    struct far_log *log = arg;
    if (log->peers != NULL) {
        far_peers_close(log->peers, close_handles, log);
        log->peers = NULL;
    } else {
        close_handles(log);
    }
}

static void close_apply(void *arg)
{
    struct far_log *log = arg;
    if (log->apply != NULL) {
        far_apply_thread_stop(log->apply, close_peers, log);
        log->apply = NULL;
    } else {
        close_peers(log);
    }
}

static void close_writer(struct far_log *log)
{
    if (log->writer != NULL) {
        far_writer_stop(log->writer, close_apply, log);
        log->writer = NULL;
    } else {
        close_apply(log);
    }
}

/* Answer whoever still waits. */
static void answer_all(struct far_log *log)
{
    struct far_result unknown = {.klass = FAR_UNKNOWN_OUTCOME, .message = "the server is stopping"};
    far_proposals_lost(&log->proposals, unknown.message);
    far_proposals_drop_queued(&log->proposals, FAR_UNKNOWN_OUTCOME, unknown.message);
    far_log_member_end(log, FAR_UNKNOWN_OUTCOME, unknown.message);
    while (log->waiters != NULL) {
        struct far_waiter *waiter = log->waiters;
        log->waiters = waiter->next;
        waiter->done(waiter->arg, &unknown, log->applied_index);
        free(waiter);
    }
    while (log->refusals != NULL) {
        struct far_refusal *refusal = log->refusals;
        log->refusals = refusal->next;
        refusal->done(refusal->arg, &refusal->result, 0);
        free(refusal);
    }
}

static void on_closing_beat(uv_timer_t *timer)
{
    struct far_log *log = timer->data;
    answer_all(log); /* an answer may have asked again */
    if ((log->raft != NULL && far_raft_busy(log->raft)) || far_log_seal_busy(log)) {
        return;
    }
    uv_timer_stop(timer);
    far_log_end_send(log);
    if (log->raft != NULL) {
        far_raft_close(log->raft);
        log->raft = NULL;
    }
    close_writer(log);
}

void far_log_close(struct far_log *log, void (*done)(void *arg), void *arg)
{
    log->is_closing = true;
    log->closed = done;
    log->closed_arg = arg;
    uv_timer_stop(&log->raft_timer);
    uv_timer_stop(&log->tick_timer);
    uv_timer_stop(&log->pace_timer);
    uv_idle_stop(&log->idle);
    if (log->raft != NULL) {
        far_raft_stop(log->raft);
    }
    uv_timer_start(&log->beat, on_closing_beat, 0, 5);
}

/* ---- open ---- */

static int open_all(struct far_log *log, struct far_error *err)
{
    struct far_store_meta meta;
    const struct far_peers_callbacks callbacks = {.on_frame = far_log_on_frame, .on_change = far_log_on_peer};
    int rv = open_folder(log->config.dir, &log->lock_fd, err);
    rv = rv != 0 ? rv : far_log_check_made(log, err);
    rv = rv != 0 ? rv : far_space_init(&log->space, log->config.dir, log->config.reserve_bytes,
                                       log->config.low_space_bytes, log->config.full_space_bytes, err);
    rv = rv != 0 ? rv : far_safe_open(log->config.dir, FARSHORE_VERSION, &log->safe, err);
    rv = rv != 0 ? rv : open_store(&log->config, &log->store, err);
    rv = rv != 0 ? rv : load(log, &meta, err);
    rv = rv != 0 ? rv : open_disk(&log->config, &log->disk, err);
    rv = rv != 0 ? rv : far_writer_start(log->loop, &log->writer, err);
    rv = rv != 0 ? rv : far_apply_thread_start(log->store, log->safe, log->loop, far_log_on_outcome, on_full, log, &log->apply, err);
    if (rv == 0) {
        log->hold_index = far_safe_hold(log->safe);
        far_log_load_skip_orders(log);
    }
    rv = rv != 0 ? rv : far_peers_new(log->config.net, log->loop, log->config.server_id, log->config.address, &callbacks,
                                      log, &log->peers, err);
    return rv != 0 ? rv : open_raft(log, &meta, err);
}

int far_log_open(const struct far_log_config *config, uv_loop_t *loop, far_log_commit_fn on_commit,
                 far_log_leader_fn on_leader, void *arg, struct far_log **ret_log, struct far_error *err)
{
    struct far_log *log = log_new(config, loop);
    if (log == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory");
    }
    log->on_commit = on_commit;
    log->on_leader = on_leader;
    log->arg = arg;
    init_handles(log);
    int rv = open_all(log, err);
    if (rv != 0) {
        far_log_close(log, NULL, NULL); /* ends on the loop */
        return rv;
    }
    (void)far_apply_thread_push(log->apply, FAR_JOB_SYNC, 0, 0, NULL, false); /* tells the deadlines */
    far_log_seal_start(log);
    far_log_fill_status(log);
    far_log_kick(log);
    *ret_log = log;
    return 0;
}

void far_log_accept(struct far_log *log, uint64_t peer_id, struct far_stream *stream)
{
    if (log->is_closing) {
        far_stream_close(stream);
        return;
    }
    far_peers_accept(log->peers, peer_id, stream);
}

/* ---- views: any thread ---- */

/* Who was answered here sees it here, though the answer may have gone out while the store was still writing. On a full disk that may
 * take long: then the view is older. */
static int view_behind(struct far_log *log, uint64_t answered, struct far_log_view *ret_view, struct far_error *err)
{
    if (!log->is_closing) {
        uint64_t index = far_apply_thread_read(log->apply);
        (void)far_apply_thread_wait(log->apply, index > answered ? index : answered, FAR_LOG_VIEW_WAIT_MS);
    }
    return far_log_view_begin_now(log, ret_view, err);
}

int far_log_view_begin(struct far_log *log, struct far_log_view *ret_view, struct far_error *err)
{
    return view_behind(log, log->answered_index, ret_view, err);
}

int far_log_view_begin_shown(struct far_log *log, struct far_log_view *ret_view, struct far_error *err)
{
    return view_behind(log, log->shown_index, ret_view, err);
}

void far_log_on_batch(struct far_log *log, far_log_batch_fn on_batch, void *arg)
{
    log->on_batch = on_batch;
    log->batch_arg = arg;
}

void far_log_follow(struct far_log *log, bool begins)
{
    if (!log->is_closing) {
        far_apply_thread_follow(log->apply, begins);
    }
}

int far_log_view_begin_now(struct far_log *log, struct far_log_view *ret_view, struct far_error *err)
{
    return far_log_view_of(log->store, ret_view, err);
}

int far_log_view_of(struct far_store *store, struct far_log_view *ret_view, struct far_error *err)
{
    struct far_store_txn *txn;
    int rv = far_store_begin(store, false, &txn, err);
    if (rv != 0) {
        return rv;
    }
    const struct far_store_meta *meta = far_store_meta(txn);
    *ret_view = (struct far_log_view){
        .state = {.kv = far_store_kv(txn), .digest = meta->digest},
        .applied_index = meta->applied_index,
        .last_seq = meta->last_seq,
        .first_seq = meta->first_seq,
        .compacted_seq = meta->compacted_seq,
        .digest = meta->digest,
        .transaction = txn,
    };
    memcpy(ret_view->head, meta->head, FAR_HEAD_SIZE);
    memcpy(ret_view->base_head, meta->base_head, FAR_HEAD_SIZE);
    return 0;
}

void far_log_view_end(struct far_log_view *view)
{
    far_past_close(view->past);
    view->past = NULL;
    far_store_abort(view->transaction);
    view->transaction = NULL;
}

int far_log_view_event(struct far_log_view *view, uint64_t seq, struct far_arena *arena, struct far_event *ret_event,
                       uint8_t ret_head[32], struct far_error *err)
{
    struct far_event event;
    int rv = far_store_event_get(view->transaction, seq, &event, ret_head, err);
    if (rv != 0) {
        return rv;
    }
    uint8_t *copy = far_arena_alloc(arena, event.payload.len + 1);
    if (copy == NULL) {
        return far_fail(err, FAR_LIMIT, "event %llu: no room for its payload", (unsigned long long)seq);
    }
    memcpy(copy, event.payload.data, event.payload.len);
    event.payload.data = copy;
    *ret_event = event;
    return 0;
}

static bool is_stale(const struct far_log *log, uint64_t leader_contact_age_ms, uint64_t safe_index)
{
    return leader_contact_age_ms > log->config.election_ms || safe_index != 0;
}

static uint64_t age_of(uint64_t heard_ms, uint64_t now_ms)
{
    return heard_ms == 0 ? UINT64_MAX : now_ms > heard_ms ? now_ms - heard_ms : 0;
}

void far_log_glance(struct far_log *log, struct far_log_glance *ret_glance)
{
    uint64_t now = far_clock_monotonic_ms();
    uint64_t committed = log->is_closing ? 0 : far_apply_thread_committed(log->apply);
    uv_mutex_lock(&log->status_mutex);
    *ret_glance = (struct far_log_glance){
        .server_id = log->status.server_id,
        .applied_index = log->status.applied_index,
        .committed_index = committed,
        .is_stale = is_stale(log, age_of(log->leader_heard_ms, now), log->status.safe_index),
    };
    uv_mutex_unlock(&log->status_mutex);
}

void far_log_status(struct far_log *log, struct far_log_status *ret_status)
{
    uint64_t now = far_clock_monotonic_ms();
    uv_mutex_lock(&log->status_mutex);
    struct far_log_status status = log->status;
    uint64_t heard = log->leader_heard_ms;
    for (size_t i = 0; i < status.member_count; i++) {
        uint64_t member_heard = log->member_heard_ms[i];
        status.members[i].contact_age_ms = status.members[i].id == status.server_id ? 0 : age_of(member_heard, now);
        if (status.members[i].about_age_ms != UINT64_MAX) { /* until here, when it was heard */
            status.members[i].about_age_ms = now - status.members[i].about_age_ms;
        }
    }
    uv_mutex_unlock(&log->status_mutex);
    status.leader_contact_age_ms = age_of(heard, now);
    status.stale = is_stale(log, status.leader_contact_age_ms, status.safe_index);
    if (status.is_leader && !status.stale) {
        status.leader_contact_age_ms = 0;
    }
    status.free_bytes = log->space.free_bytes;
    *ret_status = status;
}
