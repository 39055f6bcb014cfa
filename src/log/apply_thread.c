/* The apply thread. See apply_thread.h.
 *
 * Jobs lie in a queue (apply_queue.h); the thread takes up to FAR_APPLY_GROUP_MAX of them and works without a lock. Entries
 * and marks of what was stored share a layer, which the committer writes (committer.h); other jobs have transactions of their
 * own (apply_alone.h). */
#include "log/apply_thread.h"

#include "base/assert.h"
#include "base/logging.h"
#include "base/thread.h"
#include "log/apply_alone.h"
#include "log/apply_outcome.h"
#include "log/committer.h"
#include "net/wake.h"

#include <stdlib.h>

enum { FULL_RETRY_MS = 500 };

struct far_apply_thread {
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
    uint64_t careful_until; /* entries up to here are committed one by one (safe.h) */

    struct far_committer committer;

    /* the thread's own */
    struct far_layers *layers;
    struct far_apply_alone alone;

    void (*done)(void *arg);
    void *done_arg;
};

/* ---- on the apply thread, and on the one that commits ---- */

static void post(struct far_apply_thread *thread, struct far_apply_outcome *outcome)
{
    uv_mutex_lock(&thread->mutex);
    *thread->outcomes_last = outcome;
    thread->outcomes_last = &outcome->next;
    uv_mutex_unlock(&thread->mutex);
    far_wake_send(&thread->wake);
}

/* Wait a little for space, or until it is time to stop; false: stop. */
static bool wait_for_space(void *arg, const struct far_error *err)
{
    struct far_apply_thread *thread = arg;
    far_logf(FAR_LEVEL_WARN, "apply", "waiting for space on the disk: %s", err->message);
    if (thread->on_full != NULL) {
        thread->on_full(thread->arg);
    }
    return far_apply_queue_pause(&thread->queue, FULL_RETRY_MS);
}

/* Jobs are done, and in the store: tell of it. Takes both. */
static void conclude(struct far_apply_thread *thread, struct far_apply_job *jobs, struct far_apply_outcome *outcome)
{
    size_t count = 0;
    for (const struct far_apply_job *job = jobs; job != NULL; job = job->next) {
        outcome->jobs[job->kind]++;
        outcome->bytes += far_apply_job_data(job).len;
        count++;
    }
    far_apply_jobs_free(jobs);
    far_apply_outcome_describe(outcome, thread->alone.store);
    far_apply_queue_committed(&thread->queue, outcome->applied_index);
    far_apply_queue_release(&thread->queue, count, outcome->bytes);
    post(thread, outcome);
}

static void on_committed(void *arg, struct far_commit *commit)
{
    struct far_apply_thread *thread = arg;
    if (thread->safe != NULL && thread->careful_until == 0) {
        far_safe_committed(thread->safe, far_layer_index(commit->layer));
    }
    conclude(arg, commit->jobs, commit->outcome);
}

/* ---- on the apply thread ---- */

struct work {
    struct far_apply_thread *thread;
    struct far_apply_outcome *outcome;
    const struct far_apply_job *job;
};

static void on_result(void *arg, unsigned position, const struct far_command *command, const struct far_result *result)
{
    struct work *work = arg;
    enum far_apply_haste haste = far_apply_haste(command->kind);
    if (haste == FAR_HASTE_NOW) {
        far_apply_queue_want(&work->thread->queue, work->job->index);
    } else if (haste == FAR_HASTE_SOON) {
        far_apply_queue_hurry(&work->thread->queue);
    }
    if (work->job->want_results) {
        far_apply_outcome_result(work->outcome, &(struct far_apply_result){.index = work->job->index, .term = work->job->term,
                                                                           .position = position, .result = *result});
    }
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
    if (thread->safe != NULL && (rv == FAR_LIMIT || (rv == 0 && thread->careful_until == 0))) {
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
        far_apply_outcome_mark(work->outcome, far_store_meta(txn));
    }
    return rv;
}

/* What was decided needs no commit of ours to be final: the entry is on a majority's disks, and what a crash loses here is
 * applied again, with the same results. So the answers go out before the store is written. */
static void post_results(struct work *work)
{
    struct far_apply_outcome *early = far_apply_outcome_split(work->outcome);
    if (early != NULL) {
        post(work->thread, early);
    }
}

/* Apply the jobs to the layer that grows and let their answers go; returns the last job. */
static int apply_jobs(struct work *work, struct far_apply_job *jobs, struct far_apply_job **ret_last, size_t *count,
                      struct far_error *err)
{
    struct far_apply_thread *thread = work->thread;
    struct far_store_txn *txn;
    int rv = far_committer_is_idle(&thread->committer) ? far_layers_settle(thread->layers, err) : 0;
    rv = rv != 0 ? rv : far_layers_grow(thread->layers, &txn, err);
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

/* All shared jobs of the group, and what else comes until it is time to commit: that joins the group. */
static int apply_shared(struct work *work, struct far_apply_job *jobs, struct far_error *err)
{
    struct far_apply_thread *thread = work->thread;
    struct far_apply_job *last = jobs;
    struct far_store_txn *txn;
    uint64_t begin_ns = uv_hrtime();
    size_t count = 0;
    work->outcome->result_count = work->outcome->mark_count = 0;
    int rv = apply_jobs(work, jobs, &last, &count, err);
    while (rv == 0 && (rv = far_layers_grow(thread->layers, &txn, err)) == 0) {
        uint64_t index = far_store_meta(txn)->applied_index;
        struct far_apply_job *more = thread->careful_until != 0 ? NULL
                                                                : far_apply_queue_take_more(&thread->queue, count, index, begin_ns);
        if (more == NULL) {
            rv = far_apply_outcome_clock(txn, work->outcome, err);
            break;
        }
        last->next = more;
        rv = apply_jobs(work, more, &last, &count, err);
    }
    return rv;
}

/* Wait until nothing is being committed. False: it was given up. */
static bool settle(struct far_apply_thread *thread)
{
    struct far_error err;
    if (!far_committer_wait(&thread->committer)) {
        return false;
    }
    if (far_layers_settle(thread->layers, &err) != 0) {
        far_apply_stop_server(&err);
    }
    return true;
}

/* An entry that may be the one that crashes: it is not over before it is in the store. */
static void finish_carefully(struct far_apply_thread *thread, uint64_t index)
{
    if (!far_committer_wait(&thread->committer)) {
        return; /* given up: seen the next time */
    }
    far_safe_end(thread->safe);
    if (index >= thread->careful_until) {
        thread->careful_until = 0;
        far_safe_committed(thread->safe, index);
    }
}

/* The layer that grew goes to the thread that commits; takes the jobs and the outcome. */
static bool hand_over(struct work *work, struct far_apply_job *jobs)
{
    struct far_apply_thread *thread = work->thread;
    if (!settle(thread)) {
        return false;
    }
    const struct far_layer *layer = far_layers_freeze(thread->layers);
    uint64_t index = far_layer_index(layer);
    if (thread->safe != NULL && thread->careful_until == 0) {
        far_safe_committing(thread->safe, index);
    }
    far_apply_queue_committing(&thread->queue);
    far_committer_give(&thread->committer, &(struct far_commit){.layer = layer, .jobs = jobs, .outcome = work->outcome});
    if (thread->careful_until != 0) {
        finish_carefully(thread, index);
    }
    return true;
}

/* One attempt at a group. */
static int attempt(struct work *work, struct far_apply_job *group, struct far_error *err)
{
    struct far_apply_thread *thread = work->thread;
    if (!far_apply_job_is_shared(group)) {
        far_layers_forget(thread->layers);
        return far_apply_alone(&thread->alone, group, &work->outcome->tidy, err);
    }
    int rv = apply_shared(work, group, err);
    if (rv != 0) {
        far_layers_drop(thread->layers);
    }
    return rv;
}

/* Do a group until it is done. False: given up because the thread is to stop while the disk is full. */
static bool carry_out(struct work *work, struct far_apply_job *group)
{
    bool is_shared = far_apply_job_is_shared(group);
    if (!is_shared && !settle(work->thread)) {
        return false;
    }
    for (;;) {
        struct far_error err = {0};
        int rv = attempt(work, group, &err);
        if (rv == 0 && is_shared) {
            return hand_over(work, group);
        }
        if (rv != 0 && far_apply_alone_sender_failed(group, rv)) {
            work->outcome->job_error = err;
            rv = 0;
        }
        if (rv == 0) {
            conclude(work->thread, group, work->outcome);
            return true;
        }
        if (rv != FAR_LIMIT) {
            far_apply_stop_server(&err);
        }
        if (!wait_for_space(work->thread, &err)) {
            return false;
        }
    }
}

static void run(void *arg)
{
    struct far_apply_thread *thread = arg;
    struct far_apply_job *group;
    far_thread_name("apply");
    while ((group = far_apply_queue_take(&thread->queue, thread->careful_until != 0 ? 1 : FAR_APPLY_GROUP_MAX)) != NULL) {
        struct work work = {.thread = thread, .outcome = far_apply_outcome_new()};
        if (!carry_out(&work, group)) {
            far_apply_jobs_free(group);
            far_apply_outcome_free(work.outcome);
            return;
        }
    }
    (void)far_committer_wait(&thread->committer);
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
        far_apply_outcome_free(outcome);
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

int far_apply_thread_start(struct far_store *store, struct far_safe *safe, uv_loop_t *loop, far_apply_outcome_fn on_outcome,
                           far_apply_full_fn on_full, void *arg, struct far_apply_thread **ret_thread,
                           struct far_error *err)
{
    struct far_apply_thread *thread = calloc(1, sizeof *thread);
    struct far_layers *layers = far_layers_new(store);
    int rc = thread == NULL || layers == NULL ? UV_ENOMEM : init_sync(thread, loop);
    if (rc != 0) {
        far_layers_free(layers);
        free(thread);
        return far_fail(err, FAR_LIMIT, "start the apply thread: %s", uv_strerror(rc));
    }
    thread->layers = layers;
    thread->alone.store = store;
    if (safe != NULL) {
        thread->safe = safe;
        thread->skip = far_safe_skip(safe);
        thread->careful_until = far_safe_careful_until(safe);
    }
    thread->on_outcome = on_outcome;
    thread->on_full = on_full;
    thread->arg = arg;
    thread->outcomes_last = &thread->outcomes;
    /* Without a thread the process cannot do anything: nothing to undo gracefully here. */
    far_committer_start(&thread->committer, store, on_committed, wait_for_space, thread);
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
        far_apply_outcome_free(thread->outcomes);
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
    far_committer_stop(&thread->committer);
    far_layers_free(thread->layers);
    far_wake_stop(&thread->wake, on_stopped);
}
