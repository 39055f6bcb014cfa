/* The apply thread. See apply_thread.h.
 *
 * Jobs lie in a queue (apply_queue.h); the thread takes up to FAR_APPLY_GROUP_MAX of them and works without a lock. Entries
 * and marks of what was stored share a transaction; jobs of a snapshot have transactions of their own. */
#include "log/apply_thread.h"

#include "base/assert.h"
#include "base/logging.h"
#include "fsm/query.h"
#include "log/apply_queue.h"
#include "log/past_copy.h"
#include "net/wake.h"

#include <stdlib.h>

enum { FULL_RETRY_MS = 500, ROW_ARENA_MAX = 64 * 1024 };

struct far_apply_thread {
    struct far_store *store; /* borrowed; this thread alone writes it */
    far_apply_outcome_fn on_outcome;
    far_apply_full_fn on_full;
    void *arg;
    struct far_wake wake;
    uv_thread_t thread;

    struct far_apply_queue queue;

    uv_mutex_t mutex; /* of the outcomes */
    struct far_apply_outcome *outcomes, **outcomes_last;

    struct far_safe *safe; /* borrowed; NULL: nobody is told */
    struct far_safe_entry skip;

    /* the thread's own */
    struct far_install install;
    bool installing;
    struct far_retain_walk retain_walk;
    size_t results_cap, marks_cap;

    void (*done)(void *arg);
    void *done_arg;
};

static void stop_server(const struct far_error *err)
{
    far_logf(FAR_LEVEL_ERROR, "apply", "the server stops: %s", err->message);
    abort();
}

static void outcome_free(struct far_apply_outcome *outcome)
{
    if (outcome != NULL) {
        free(outcome->marks);
        free(outcome->results);
        free(outcome);
    }
}

/* ---- on the apply thread ---- */

struct work {
    struct far_apply_thread *thread;
    struct far_apply_outcome *outcome;
    const struct far_apply_job *job;
};

/* Memory for the answers must not fail half-way: without it the server cannot go on. */
static void *grown(void *items, size_t *cap, size_t count, size_t size)
{
    if (count < *cap) {
        return items;
    }
    *cap = *cap == 0 ? 64 : *cap * 2;
    items = realloc(items, *cap * size);
    if (items == NULL) {
        far_logf(FAR_LEVEL_ERROR, "apply", "the server stops: out of memory");
        abort();
    }
    return items;
}

static void on_result(void *arg, unsigned position, const struct far_command *command, const struct far_result *result)
{
    struct work *work = arg;
    struct far_apply_outcome *outcome = work->outcome;
    enum far_apply_haste haste = far_apply_haste(command->kind);
    if (haste == FAR_HASTE_NOW) {
        far_apply_queue_want(&work->thread->queue, work->job->index);
    } else if (haste == FAR_HASTE_SOON) {
        far_apply_queue_hurry(&work->thread->queue);
    }
    if (work->job->want_results) {
        outcome->results = grown(outcome->results, &work->thread->results_cap, outcome->result_count,
                                 sizeof *outcome->results);
        outcome->results[outcome->result_count++] = (struct far_apply_result){
            .index = work->job->index, .term = work->job->term, .position = position, .result = *result};
    }
}

static void note_mark(struct work *work, const struct far_store_meta *meta)
{
    struct far_apply_outcome *outcome = work->outcome;
    outcome->marks = grown(outcome->marks, &work->thread->marks_cap, outcome->mark_count, sizeof *outcome->marks);
    struct far_mark *mark = &outcome->marks[outcome->mark_count++];
    *mark = (struct far_mark){.index = meta->applied_index, .last_seq = meta->last_seq, .digest = meta->digest};
    memcpy(mark->head, meta->head, FAR_HEAD_SIZE);
}

/* In the order of logs: a later term counts more than a longer log. */
static void note_stored(struct far_store_meta *meta, const struct far_apply_job *job)
{
    if (job->term > meta->stored_term || (job->term == meta->stored_term && job->index > meta->stored_index)) {
        meta->stored_index = job->index;
        meta->stored_term = job->term;
    }
}

/* An entry with commands, under the eyes of who counts crashes. */
static int apply_entry(struct work *work, struct far_store_txn *txn, struct far_error *err)
{
    struct far_apply_thread *thread = work->thread;
    const struct far_apply_job *job = work->job;
    struct far_slice data = far_apply_job_data(job);
    int rv;
    if (thread->safe != NULL) {
        far_safe_begin(thread->safe, job->index);
    }
    if (job->index == thread->skip.index && job->index != 0) {
        far_logf(FAR_LEVEL_WARN, "apply", "entry %llu is skipped, as the operator wants", (unsigned long long)job->index);
        rv = far_hash64(data.data, data.len) != thread->skip.hash
                 ? far_fail(err, FAR_CORRUPT, "entry %llu is to be skipped, and it is another one than that",
                            (unsigned long long)job->index)
                 : far_apply_skip(txn, job->index, job->term, data, err);
    } else {
        rv = far_apply_commands(txn, job->index, job->term, data, on_result, work, err);
    }
    if (thread->safe != NULL && (rv == 0 || rv == FAR_LIMIT)) {
        far_safe_end(thread->safe);
    }
    return rv;
}

static int apply_one(struct work *work, struct far_store_txn *txn, struct far_error *err)
{
    const struct far_apply_job *job = work->job;
    struct far_slice data = far_apply_job_data(job);
    int rv = 0;
    switch (job->kind) {
    case FAR_JOB_COMMANDS:
        rv = apply_entry(work, txn, err);
        break;
    case FAR_JOB_BARRIER:
        rv = far_apply_barrier(txn, job->index, job->term, err);
        break;
    case FAR_JOB_CONFIGURATION:
        rv = far_apply_configuration(txn, job->index, job->term, data, err);
        break;
    default:
        note_stored(far_store_meta(txn), job);
        return 0;
    }
    if (rv == 0) {
        note_mark(work, far_store_meta(txn));
    }
    return rv;
}

/* What the state wants from the leader next. */
static int read_clock(struct far_store_txn *txn, struct far_apply_outcome *outcome, struct far_error *err)
{
    struct far_state state = {.kv = far_store_kv(txn), .digest = far_store_meta(txn)->digest};
    struct far_row_progress progress = {0};
    struct far_key key = far_key(&far_schema_row_progress);
    struct far_arena arena;
    far_arena_init(&arena, ROW_ARENA_MAX);
    int rv = far_state_get(&state, &far_schema_row_progress, &key, &arena, &progress, err);
    outcome->time_ms = progress.time_ms;
    outcome->clock_verdict = progress.clock_verdict;
    outcome->clock_off_ms = progress.clock_off_ms;
    if (rv == 0) {
        struct far_row_cluster cluster;
        key = far_key(&far_schema_row_cluster);
        rv = far_state_get(&state, &far_schema_row_cluster, &key, &arena, &cluster, err);
        outcome->feature_level = rv == 0 ? cluster.feature_level : 0;
    }
    far_arena_done(&arena);
    if (rv != 0 && rv != FAR_NOT_FOUND) {
        return rv;
    }
    return far_query_next_deadline(&state, &outcome->next_deadline_ms, err);
}

static void post(struct far_apply_thread *thread, struct far_apply_outcome *outcome)
{
    uv_mutex_lock(&thread->mutex);
    *thread->outcomes_last = outcome;
    thread->outcomes_last = &outcome->next;
    uv_mutex_unlock(&thread->mutex);
    far_wake_send(&thread->wake);
}

/* What was decided needs no commit of ours to be final: the entry is on a majority's disks, and a commit that fails is
 * done again, with the same results. So the answers go out while the store writes. */
static void post_results(struct work *work)
{
    struct far_apply_outcome *early = work->outcome->result_count == 0 ? NULL : calloc(1, sizeof *early);
    if (early == NULL) {
        return;
    }
    early->is_early = true;
    early->results = work->outcome->results;
    early->result_count = work->outcome->result_count;
    work->outcome->results = NULL;
    work->outcome->result_count = 0;
    work->thread->results_cap = 0;
    post(work->thread, early);
}

/* Apply the jobs to the open transaction and let their answers go; returns the last job. */
static int apply_jobs(struct work *work, struct far_store_txn *txn, struct far_apply_job *jobs, struct far_apply_job **ret_last,
                      size_t *count, struct far_error *err)
{
    int rv = 0;
    for (struct far_apply_job *job = jobs; rv == 0 && job != NULL; job = job->next) {
        work->job = job;
        *ret_last = job;
        (*count)++;
        rv = apply_one(work, txn, err);
    }
    if (rv == 0) {
        post_results(work);
    }
    return rv;
}

/* All shared jobs of the group in one transaction, and what else comes while it is open: that joins the group. */
static int apply_shared(struct work *work, struct far_apply_job *jobs, struct far_error *err)
{
    struct far_store_txn *txn;
    int rv = far_store_begin(work->thread->store, true, &txn, err);
    if (rv != 0) {
        return rv;
    }
    uint64_t begin_ns = uv_hrtime();
    struct far_apply_job *last = jobs;
    size_t count = 0;
    work->outcome->result_count = work->outcome->mark_count = 0;
    rv = apply_jobs(work, txn, jobs, &last, &count, err);
    while (rv == 0) {
        struct far_apply_job *more = far_apply_queue_take_more(&work->thread->queue, count, far_store_meta(txn)->applied_index,
                                                               begin_ns);
        if (more == NULL) {
            break;
        }
        last->next = more;
        rv = apply_jobs(work, txn, more, &last, &count, err);
    }
    rv = rv != 0 ? rv : read_clock(txn, work->outcome, err);
    if (rv != 0) {
        far_store_abort(txn);
        return rv;
    }
    uint64_t index = far_store_meta(txn)->applied_index;
    rv = far_store_commit(txn, err);
    if (rv == 0) {
        far_apply_queue_committed(&work->thread->queue, index);
    }
    return rv;
}

typedef int (*batch_fn)(struct far_store_txn *txn, struct far_slice batch, struct far_error *err);

static int apply_batch(struct far_apply_thread *thread, const struct far_apply_job *job, batch_fn apply, struct far_error *err)
{
    struct far_store_txn *txn;
    int rv = far_store_begin(thread->store, true, &txn, err);
    if (rv != 0) {
        return rv;
    }
    rv = apply(txn, far_apply_job_data(job), err);
    if (rv != 0) {
        far_store_abort(txn);
        return rv;
    }
    return far_store_commit(txn, err);
}

static int take_segment(struct far_apply_thread *thread, const struct far_apply_job *job, struct far_error *err)
{
    struct far_segment segment;
    struct far_store_txn *txn;
    memcpy(&segment, far_apply_job_data(job).data, sizeof segment);
    int rv = far_store_begin(thread->store, true, &txn, err);
    if (rv != 0) {
        return rv;
    }
    rv = far_segments_take(txn, &segment, err);
    if (rv != 0) {
        far_store_abort(txn);
        return rv;
    }
    return far_store_commit(txn, err);
}

/* The old file may go when this is durable. */
static int take_compacted(struct far_apply_thread *thread, const struct far_apply_job *job, struct far_error *err)
{
    struct far_compacted compacted;
    struct far_store_txn *txn;
    memcpy(&compacted, far_apply_job_data(job).data, sizeof compacted);
    int rv = far_store_begin(thread->store, true, &txn, err);
    if (rv != 0) {
        return rv;
    }
    rv = far_compact_take(txn, &compacted, err);
    if (rv != 0) {
        far_store_abort(txn);
        return rv;
    }
    rv = far_store_commit(txn, err);
    return rv != 0 ? rv : far_store_sync(thread->store, err);
}

static int install_finish(struct far_apply_thread *thread, const struct far_apply_job *job, struct far_error *err)
{
    struct far_manifest manifest;
    int rv = far_manifest_decode(far_apply_job_data(job), &manifest, err);
    rv = rv != 0 ? rv : far_install_finish(&thread->install, &manifest, err);
    thread->installing = rv != 0;
    return rv;
}

static int apply_alone(struct work *work, const struct far_apply_job *job, struct far_error *err)
{
    struct far_apply_thread *thread = work->thread;
    if (job->kind != FAR_JOB_INSTALL_BEGIN && job->kind < FAR_JOB_HISTORY && !thread->installing) {
        return far_fail(err, FAR_CORRUPT, "a piece of a snapshot came without its beginning");
    }
    switch (job->kind) {
    case FAR_JOB_INSTALL_BEGIN:
        thread->installing = true;
        return far_install_begin(thread->store, &thread->install, err);
    case FAR_JOB_INSTALL_PIECE:
        return far_install_piece(&thread->install, far_apply_job_data(job), err);
    case FAR_JOB_INSTALL_FINISH:
        return install_finish(thread, job, err);
    case FAR_JOB_HISTORY:
        return apply_batch(thread, job, far_history_apply, err);
    case FAR_JOB_PAST:
        return apply_batch(thread, job, far_past_copy_apply, err);
    case FAR_JOB_SEGMENT:
        return take_segment(thread, job, err);
    case FAR_JOB_COMPACTED:
        return take_compacted(thread, job, err);
    case FAR_JOB_TIDY:
        return far_tidy(thread->store, &thread->retain_walk, &work->outcome->tidy, err);
    default:
        return far_store_sync(thread->store, err);
    }
}

/* Wait a little for space, or until it is time to stop; false: stop. */
static bool wait_for_space(struct far_apply_thread *thread, const struct far_error *err)
{
    far_logf(FAR_LEVEL_WARN, "apply", "waiting for space on the disk: %s", err->message);
    if (thread->on_full != NULL) {
        thread->on_full(thread->arg);
    }
    return far_apply_queue_pause(&thread->queue, FULL_RETRY_MS);
}

static bool failure_is_of_the_sender(const struct far_apply_job *job, int rv)
{
    if (job->kind == FAR_JOB_PAST) {
        return rv == FAR_CORRUPT;
    }
    if (job->kind == FAR_JOB_SEGMENT || job->kind == FAR_JOB_COMPACTED) {
        return rv == FAR_CONFLICT;
    }
    return job->kind >= FAR_JOB_INSTALL_BEGIN && job->kind <= FAR_JOB_HISTORY && rv == FAR_CORRUPT;
}

/* Do a group until it is done. False: given up because the thread is to stop while the disk is full. */
static bool carry_out(struct work *work, struct far_apply_job *group)
{
    for (;;) {
        struct far_error err = {0};
        int rv = far_apply_job_is_shared(group) ? apply_shared(work, group, &err) : apply_alone(work, group, &err);
        if (rv == 0) {
            return true;
        }
        if (failure_is_of_the_sender(group, rv)) {
            work->outcome->job_error = err;
            return true;
        }
        if (rv != FAR_LIMIT) {
            stop_server(&err);
        }
        if (!wait_for_space(work->thread, &err)) {
            return false;
        }
    }
}

static void describe(struct far_apply_thread *thread, struct far_apply_outcome *outcome)
{
    struct far_store_txn *txn;
    struct far_error err;
    if (far_store_begin(thread->store, false, &txn, &err) != 0) {
        stop_server(&err);
    }
    const struct far_store_meta *meta = far_store_meta(txn);
    outcome->applied_index = meta->applied_index;
    outcome->applied_term = meta->applied_term;
    outcome->first_seq = meta->first_seq;
    outcome->last_seq = meta->last_seq;
    struct far_row_retention retention;
    uint64_t now_ms;
    if (far_retain_row(txn, &retention, &now_ms, &err) != 0) {
        stop_server(&err);
    }
    outcome->cut_seq = retention.first_seq;
    outcome->compact_is_due = retention.compacted_seq > meta->compacted_seq;
    outcome->durable_index = far_store_durable_index(thread->store);
    far_apply_queue_committed(&thread->queue, meta->applied_index);
    if (outcome->mark_count == 0 && read_clock(txn, outcome, &err) != 0) {
        stop_server(&err);
    }
    if (outcome->mark_count == 0 && outcome->jobs[FAR_JOB_INSTALL_FINISH] > 0) {
        note_mark(&(struct work){.thread = thread, .outcome = outcome}, meta);
    }
    far_store_abort(txn);
}

static void run(void *arg)
{
    struct far_apply_thread *thread = arg;
    struct far_apply_job *group;
    while ((group = far_apply_queue_take(&thread->queue)) != NULL) {
        struct far_apply_outcome *outcome = calloc(1, sizeof *outcome);
        if (outcome == NULL) {
            stop_server(&(struct far_error){.message = "out of memory"});
        }
        outcome->next_deadline_ms = UINT64_MAX;
        thread->results_cap = thread->marks_cap = 0;
        struct work work = {.thread = thread, .outcome = outcome};
        bool done = carry_out(&work, group);
        size_t count = 0;
        for (struct far_apply_job *job = group; job != NULL; job = job->next) {
            outcome->jobs[job->kind]++;
            outcome->bytes += far_apply_job_data(job).len;
            count++;
        }
        far_apply_jobs_free(group);
        if (!done) {
            outcome_free(outcome);
            return;
        }
        describe(thread, outcome);
        far_apply_queue_release(&thread->queue, count, outcome->bytes);
        post(thread, outcome);
    }
}

/* ---- on the core thread ---- */

static void on_wake(struct far_wake *wake)
{
    struct far_apply_thread *thread = wake->data;
    uv_mutex_lock(&thread->mutex);
    struct far_apply_outcome *outcome = thread->outcomes;
    thread->outcomes = NULL;
    thread->outcomes_last = &thread->outcomes;
    uv_mutex_unlock(&thread->mutex);
    while (outcome != NULL) {
        struct far_apply_outcome *next = outcome->next;
        if (thread->done == NULL) {
            thread->on_outcome(thread->arg, outcome);
        }
        outcome_free(outcome);
        outcome = next;
    }
}

static int init_sync(struct far_apply_thread *thread, uv_loop_t *loop)
{
    int rc = far_apply_queue_init(&thread->queue);
    if (rc != 0) {
        return rc;
    }
    FAR_ASSERT(uv_mutex_init(&thread->mutex) == 0);
    rc = far_wake_start(loop, &thread->wake, on_wake, thread);
    if (rc != 0) {
        uv_mutex_destroy(&thread->mutex);
        far_apply_queue_done(&thread->queue);
    }
    return rc;
}

int far_apply_thread_start(struct far_store *store, uv_loop_t *loop, far_apply_outcome_fn on_outcome,
                           far_apply_full_fn on_full, void *arg, struct far_apply_thread **ret_thread,
                           struct far_error *err)
{
    struct far_apply_thread *thread = calloc(1, sizeof *thread);
    int rc = thread == NULL ? UV_ENOMEM : init_sync(thread, loop);
    if (rc != 0) {
        free(thread);
        return far_fail(err, FAR_LIMIT, "start the apply thread: %s", uv_strerror(rc));
    }
    thread->store = store;
    thread->on_outcome = on_outcome;
    thread->on_full = on_full;
    thread->arg = arg;
    thread->outcomes_last = &thread->outcomes;
    /* Without a thread the process cannot do anything: nothing to undo gracefully here. */
    FAR_ASSERT(uv_thread_create(&thread->thread, run, thread) == 0);
    *ret_thread = thread;
    return 0;
}

void far_apply_thread_want(struct far_apply_thread *thread, uint64_t index)
{
    far_apply_queue_want(&thread->queue, index);
}

uint64_t far_apply_thread_committed(struct far_apply_thread *thread)
{
    return far_apply_queue_last_committed(&thread->queue);
}

uint64_t far_apply_thread_read(struct far_apply_thread *thread)
{
    return far_apply_queue_read(&thread->queue, uv_hrtime());
}

void far_apply_thread_follow(struct far_apply_thread *thread, bool begins)
{
    far_apply_queue_follow(&thread->queue, begins);
}

bool far_apply_thread_wait(struct far_apply_thread *thread, uint64_t index, uint64_t timeout_ms)
{
    return far_apply_queue_wait(&thread->queue, index, timeout_ms);
}

bool far_apply_thread_full(struct far_apply_thread *thread, size_t bytes)
{
    return far_apply_queue_full(&thread->queue, bytes);
}

void far_apply_thread_guard(struct far_apply_thread *thread, struct far_safe *safe)
{
    thread->safe = safe;
    thread->skip = far_safe_skip(safe);
}

int far_apply_thread_push(struct far_apply_thread *thread, enum far_apply_kind kind, uint64_t index, uint64_t term,
                          struct far_blob *data, bool want_results)
{
    return far_apply_queue_push(&thread->queue, kind, index, term, data, want_results);
}

static void on_stopped(struct far_wake *wake)
{
    struct far_apply_thread *thread = wake->data;
    far_wake_done(wake);
    void (*done)(void *arg) = thread->done;
    void *arg = thread->done_arg;
    while (thread->outcomes != NULL) {
        struct far_apply_outcome *next = thread->outcomes->next;
        outcome_free(thread->outcomes);
        thread->outcomes = next;
    }
    far_apply_queue_done(&thread->queue);
    uv_mutex_destroy(&thread->mutex);
    free(thread);
    done(arg);
}

void far_apply_thread_stop(struct far_apply_thread *thread, void (*done)(void *arg), void *arg)
{
    thread->done = done;
    thread->done_arg = arg;
    far_apply_queue_stop(&thread->queue);
    FAR_ASSERT(uv_thread_join(&thread->thread) == 0);
    far_wake_stop(&thread->wake, on_stopped);
}
