/* A log of one server without raft, for tests of what uses log/log.h: the real store and core, commands applied one by
 * one on the loop, always the leader. What needs several servers (transfer, accept) is refused. Its members only remember
 * what they were told. Link it before liblog.la, whose far_log_… it replaces. */
#include "base/assert.h"
#include "base/clock.h"
#include "fsm/query.h"
#include "log/apply.h"
#include "log/history.h"
#include "log/log.h"
#include "net/net.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

struct pending {
    struct pending *next;
    far_log_done_fn done;
    void *arg;
    bool is_command;
    struct far_result result; /* of what is no command */
    struct far_command command;
    uint8_t payload[];
};

struct far_log {
    struct far_store *store;
    uv_loop_t *loop;
    uv_timer_t timer; /* 0 ms: the queue; else the next deadline */
    far_log_commit_fn on_commit;
    far_log_leader_fn on_leader;
    void *arg;
    struct pending *first;
    struct pending **end;
    bool told_leader;
    int followers; /* far_log_follow(): none is left when the log goes */
    pthread_mutex_t mutex; /* status */
    struct far_log_status status;
    void (*done)(void *arg);
    void *done_arg;
};

static void on_timer(uv_timer_t *timer);

static void wake(struct far_log *log)
{
    uv_timer_start(&log->timer, on_timer, 0, 0);
}

static struct pending *enqueue(struct far_log *log, const struct far_command *command, far_log_done_fn done, void *arg)
{
    size_t len = command == NULL ? 0 : command->payload.len;
    struct pending *p = calloc(1, sizeof *p + len);
    FAR_ASSERT(p != NULL);
    p->done = done;
    p->arg = arg;
    if (command != NULL) {
        p->is_command = true;
        p->command = *command;
        memcpy(p->payload, command->payload.data, len);
        p->command.payload = far_slice(p->payload, len);
    }
    *log->end = p;
    log->end = &p->next;
    wake(log);
    return p;
}

static void take_result(void *arg, unsigned position, const struct far_command *command,
                        const struct far_result *result)
{
    *(struct far_result *)arg = *result;
}

static void must(int rc, const struct far_error *err)
{
    if (rc != 0) {
        fprintf(stderr, "log_alone: %s\n", err->message);
        abort();
    }
}

static void apply(struct far_log *log, const struct far_command *given, struct far_result *ret_result)
{
    struct far_error err;
    struct far_buf entry;
    struct far_store_txn *txn = NULL;
    struct far_command command = *given;
    command.proposed_at_ms = far_clock_wall_ms();
    far_buf_init(&entry, FAR_ENVELOPE_MAX);
    must(far_store_begin(log->store, true, &txn, &err), &err);
    uint64_t index = far_store_meta(txn)->applied_index + 1;
    must(far_envelope_begin(&entry, &err), &err);
    must(far_envelope_add(&entry, &command, &err), &err);
    far_envelope_finish(&entry, index, 1);
    must(far_apply_commands(txn, index, 1, far_buf_slice(&entry), take_result, ret_result, &err), &err);
    uint64_t last_seq = far_store_meta(txn)->last_seq;
    must(far_store_commit(txn, &err), &err);
    pthread_mutex_lock(&log->mutex);
    log->status.applied_index = index;
    log->status.commit_index = index;
    pthread_mutex_unlock(&log->mutex);
    far_buf_done(&entry);
    log->on_commit(log->arg, index, last_seq);
}

static void propose_empty(struct far_log *log, const struct far_schema *schema, const void *object)
{
    struct far_error err;
    struct far_buf payload;
    struct far_result result;
    far_buf_init(&payload, 256);
    must(far_schema_encode(schema, object, &payload, &err), &err);
    struct far_command command = {.kind = schema->kind,
                                  .actor = far_actor(FAR_ACTOR_SYSTEM, log->status.server_id),
                                  .payload = far_buf_slice(&payload)};
    apply(log, &command, &result);
    far_buf_done(&payload);
}

static uint64_t next_deadline_ms(struct far_log *log)
{
    struct far_log_view view;
    struct far_error err;
    uint64_t deadline_ms = UINT64_MAX;
    must(far_log_view_begin(log, &view, &err), &err);
    must(far_query_next_deadline(&view.state, &deadline_ms, &err), &err);
    far_log_view_end(&view);
    return deadline_ms;
}

static void on_timer(uv_timer_t *timer)
{
    struct far_log *log = timer->data;
    struct pending *p = log->first;
    log->first = NULL;
    log->end = &log->first;
    if (!log->told_leader) {
        struct far_cmd_leader_started started = {.server_id = log->status.server_id, .term = 1};
        log->told_leader = true;
        propose_empty(log, &far_schema_cmd_leader_started, &started);
        log->on_leader(log->arg, log->status.server_id, 1, true);
    }
    while (p != NULL) {
        struct pending *next = p->next;
        if (p->is_command) {
            apply(log, &p->command, &p->result);
        }
        p->done(p->arg, &p->result, log->status.applied_index);
        free(p);
        p = next;
    }
    uint64_t deadline_ms = next_deadline_ms(log);
    if (deadline_ms <= far_clock_wall_ms()) {
        propose_empty(log, &far_schema_cmd_tick, &(struct far_cmd_tick){});
        wake(log);
    } else if (log->first == NULL && deadline_ms != UINT64_MAX) {
        uv_timer_start(&log->timer, on_timer, deadline_ms - far_clock_wall_ms() + 1, 0);
    }
}

/* ---- life ---- */

int far_log_bootstrap(const struct far_log_config *config, struct far_error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/state", config->dir);
    if (mkdir(path, 0700) != 0) {
        return far_fail_errno(err, errno == EEXIST ? FAR_CONFLICT : FAR_IO, errno, "create '%s'", path);
    }
    return 0;
}

int far_log_open(const struct far_log_config *config, uv_loop_t *loop, far_log_commit_fn on_commit,
                 far_log_leader_fn on_leader, void *arg, struct far_log **ret_log, struct far_error *err)
{
    char path[4096];
    struct far_store_txn *txn;
    struct far_log *log = calloc(1, sizeof *log);
    FAR_ASSERT(log != NULL);
    snprintf(path, sizeof path, "%s/state", config->dir);
    int rc = far_store_open_lmdb(path, 256u << 20, false, &log->store, err);
    if (rc != 0) {
        free(log);
        return rc;
    }
    log->loop = loop;
    log->on_commit = on_commit;
    log->on_leader = on_leader;
    log->arg = arg;
    log->end = &log->first;
    log->timer.data = log;
    pthread_mutex_init(&log->mutex, NULL);
    log->status = (struct far_log_status){
        .server_id = config->server_id, .leader_id = config->server_id, .term = 1, .is_leader = true, .member_count = 1};
    log->status.members[0] = (struct far_log_member){.id = config->server_id, .role = FAR_server_role_voter};
    snprintf(log->status.members[0].address, sizeof log->status.members[0].address, "%s", config->address);
    must(far_store_begin(log->store, false, &txn, err), err);
    log->status.applied_index = far_store_meta(txn)->applied_index;
    far_store_abort(txn);
    uv_timer_init(loop, &log->timer);
    wake(log);
    *ret_log = log;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct far_log *log = handle->data;
    for (struct pending *p = log->first; p != NULL;) {
        struct pending *next = p->next;
        struct far_result result = {.klass = FAR_UNKNOWN_OUTCOME};
        p->done(p->arg, &result, 0);
        free(p);
        p = next;
    }
    FAR_ASSERT(log->followers == 0);
    far_store_close(log->store);
    pthread_mutex_destroy(&log->mutex);
    void (*done)(void *arg) = log->done;
    void *arg = log->done_arg;
    free(log);
    done(arg);
}

void far_log_close(struct far_log *log, void (*done)(void *arg), void *arg)
{
    log->done = done;
    log->done_arg = arg;
    uv_close((uv_handle_t *)&log->timer, on_closed);
}

/* ---- proposals and waits ---- */

void far_log_propose(struct far_log *log, const struct far_command *command, uint64_t timeout_ms, far_log_done_fn done,
                     void *arg)
{
    enqueue(log, command, done, arg);
}

void far_log_barrier(struct far_log *log, uint64_t timeout_ms, far_log_done_fn done, void *arg)
{
    enqueue(log, NULL, done, arg);
}

void far_log_wait_index(struct far_log *log, uint64_t index, uint64_t timeout_ms, far_log_done_fn done, void *arg)
{
    struct pending *p = enqueue(log, NULL, done, arg);
    if (index > log->status.applied_index) {
        p->result.klass = FAR_TIMEOUT;
    }
}

/* ---- views ---- */

int far_log_view_begin(struct far_log *log, struct far_log_view *ret_view, struct far_error *err)
{
    struct far_store_txn *txn;
    int rc = far_store_begin(log->store, false, &txn, err);
    if (rc != 0) {
        return rc;
    }
    const struct far_store_meta *meta = far_store_meta(txn);
    *ret_view = (struct far_log_view){
        .state = {.kv = far_store_kv(txn), .digest = meta->digest},
        .applied_index = meta->applied_index,
        .last_seq = meta->last_seq,
        .first_seq = meta->first_seq,
        .digest = meta->digest,
        .transaction = txn,
    };
    memcpy(ret_view->head, meta->head, sizeof ret_view->head);
    return 0;
}

void far_log_follow(struct far_log *log, bool begins)
{
    log->followers += begins ? 1 : -1; /* and that is all: every command is committed by itself */
    FAR_ASSERT(log->followers >= 0);
}

int far_log_view_begin_now(struct far_log *log, struct far_log_view *ret_view, struct far_error *err)
{
    return far_log_view_begin(log, ret_view, err);
}

void far_log_view_end(struct far_log_view *view)
{
    far_past_close(view->past);
    far_store_abort(view->transaction);
}

int far_log_view_event(struct far_log_view *view, uint64_t seq, struct far_arena *arena, struct far_event *ret_event,
                       uint8_t ret_head[32], struct far_error *err)
{
    int rc = far_store_event_get(view->transaction, seq, ret_event, ret_head, err);
    uint8_t *copy = rc != 0 ? NULL : far_arena_alloc(arena, ret_event->payload.len + 1);
    if (rc == 0 && copy != NULL) {
        memcpy(copy, ret_event->payload.data, ret_event->payload.len);
        ret_event->payload.data = copy;
    }
    return rc != 0 || copy != NULL ? rc : far_fail(err, FAR_LIMIT, "the arena is full");
}

void far_log_status(struct far_log *log, struct far_log_status *ret_status)
{
    pthread_mutex_lock(&log->mutex);
    *ret_status = log->status;
    pthread_mutex_unlock(&log->mutex);
}

/* ---- members ---- */

static struct far_log_member *find(struct far_log *log, uint64_t id)
{
    for (size_t i = 0; i < log->status.member_count; i++) {
        if (log->status.members[i].id == id) {
            return &log->status.members[i];
        }
    }
    return NULL;
}

void far_log_member_add(struct far_log *log, uint64_t id, const char *address, far_log_done_fn done, void *arg)
{
    pthread_mutex_lock(&log->mutex);
    FAR_ASSERT(find(log, id) == NULL && log->status.member_count < FAR_LOG_MEMBERS_MAX);
    struct far_log_member *member = &log->status.members[log->status.member_count++];
    *member = (struct far_log_member){.id = id, .role = FAR_server_role_standby, .connected = true};
    snprintf(member->address, sizeof member->address, "%s", address);
    pthread_mutex_unlock(&log->mutex);
    enqueue(log, NULL, done, arg);
}

void far_log_member_promote(struct far_log *log, uint64_t id, far_log_done_fn done, void *arg)
{
    pthread_mutex_lock(&log->mutex);
    find(log, id)->role = FAR_server_role_voter;
    pthread_mutex_unlock(&log->mutex);
    enqueue(log, NULL, done, arg);
}

void far_log_member_remove(struct far_log *log, uint64_t id, far_log_done_fn done, void *arg)
{
    pthread_mutex_lock(&log->mutex);
    struct far_log_member *member = find(log, id);
    *member = log->status.members[log->status.member_count - 1];
    log->status.member_count--;
    pthread_mutex_unlock(&log->mutex);
    enqueue(log, NULL, done, arg);
}

uint64_t far_log_now_ms(struct far_log *log)
{
    return 0;
}

void far_log_member_give_up(struct far_log *log, uint64_t id)
{
}

void far_log_transfer(struct far_log *log, uint64_t id, far_log_done_fn done, void *arg)
{
    enqueue(log, NULL, done, arg)->result.klass = FAR_CONFLICT;
}

void far_log_on_removed(struct far_log *log, far_log_removed_fn on_removed, void *arg)
{
}

void far_log_dismiss(struct far_log *log, uint64_t peer_id, struct far_stream *stream, const char *ask)
{
    if (stream != NULL) {
        far_stream_close(stream);
    }
}

void far_log_accept(struct far_log *log, uint64_t peer_id, struct far_stream *stream)
{
    far_stream_close(stream);
}

int far_log_verify(const char *dir, void (*report)(void *arg, bool good, const char *text), void *arg,
                   struct far_error *err)
{
    return far_fail(err, FAR_INTERNAL, "the log of one server has nothing to verify");
}

void far_log_stop_server(const char *area, const char *why)
{
    fprintf(stderr, "%s: the server stops: %s\n", area, why);
    abort();
}
