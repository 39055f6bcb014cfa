/* The apply thread. See apply_thread.h.
 *
 * Jobs lie in a list under the mutex; the thread moves up to FAR_APPLY_GROUP_MAX of them to its own list and works without
 * the mutex. Entries and marks of what was stored share a transaction; jobs of a snapshot have transactions of their own. */
#include "log/apply_thread.h"

#include "base/assert.h"
#include "base/logging.h"
#include "fsm/query.h"
#include "net/wake.h"

#include <stdlib.h>

/* What nobody waits for may lie for LINGER_MS, and a transaction stays open that long, or until somebody wants to read what is in it:
 * each commit costs a sync, and the syncs of commits and of the WAL meet on one disk. Answers do not wait for it. */
enum { FULL_RETRY_MS = 500, ROW_ARENA_MAX = 64 * 1024, NS_PER_MS = 1000000, LINGER_MS = 20 };

struct job {
    struct job *next;
    enum far_apply_kind kind;
    uint64_t index;
    uint64_t term;
    uint64_t pushed_ns;
    bool want_results;
    struct far_blob *blob; /* counted, NULL: no data */
};

struct far_apply_thread {
    struct far_store *store; /* borrowed; this thread alone writes it */
    far_apply_outcome_fn on_outcome;
    far_apply_full_fn on_full;
    void *arg;
    struct far_wake wake;
    uv_thread_t thread;

    uv_mutex_t mutex; /* of what follows */
    uv_cond_t cond;
    uv_cond_t committed; /* broadcast when committed_index moves */
    uint64_t committed_index;
    uint64_t wanted_index; /* somebody waits until this one is committed */
    struct job *first, **last;
    size_t count, bytes; /* queued, and being worked on */
    bool stopping;
    struct far_apply_outcome *outcomes, **outcomes_last;

    /* the thread's own */
    struct far_install install;
    bool installing;
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

static struct far_slice data_of(const struct job *job)
{
    return job->blob == NULL ? far_slice(NULL, 0) : far_blob_slice(job->blob);
}

struct work {
    struct far_apply_thread *thread;
    struct far_apply_outcome *outcome;
    const struct job *job;
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
    (void)command;
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

static bool in_shared_transaction(enum far_apply_kind kind)
{
    return kind <= FAR_JOB_CONFIGURATION || kind == FAR_JOB_STORED;
}

/* In the order of logs: a later term counts more than a longer log. */
static void note_stored(struct far_store_meta *meta, const struct job *job)
{
    if (job->term > meta->stored_term || (job->term == meta->stored_term && job->index > meta->stored_index)) {
        meta->stored_index = job->index;
        meta->stored_term = job->term;
    }
}

static int apply_one(struct work *work, struct far_store_txn *txn, struct far_error *err)
{
    const struct job *job = work->job;
    struct far_slice data = data_of(job);
    int rv = 0;
    switch (job->kind) {
    case FAR_JOB_COMMANDS:
        rv = far_apply_commands(txn, job->index, job->term, data, on_result, work, err);
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
    far_arena_done(&arena);
    if (rv != 0 && rv != FAR_NOT_FOUND) {
        return rv;
    }
    return far_query_next_deadline(&state, &outcome->next_deadline_ms, err);
}

static void post(struct far_apply_thread *thread, struct far_apply_outcome *outcome, size_t jobs)
{
    uv_mutex_lock(&thread->mutex);
    thread->count -= jobs;
    thread->bytes -= outcome->bytes;
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
    post(work->thread, early, 0);
}

static void note_committed(struct far_apply_thread *thread, uint64_t index)
{
    uv_mutex_lock(&thread->mutex);
    thread->committed_index = index;
    uv_cond_broadcast(&thread->committed);
    uv_mutex_unlock(&thread->mutex);
}

/* Under the mutex: somebody waits for what is here to be committed, or there is much of it. */
static bool is_urgent(const struct far_apply_thread *thread)
{
    return thread->stopping || thread->wanted_index > thread->committed_index || thread->count >= FAR_APPLY_GROUP_MAX / 2;
}

/* Under the mutex: a job of which somebody awaits the results, or that has a transaction of its own. */
static bool is_awaited(const struct far_apply_thread *thread)
{
    const struct job *job = thread->first;
    while (job != NULL && !job->want_results && in_shared_transaction(job->kind)) {
        job = job->next;
    }
    return job != NULL;
}

/* Shared jobs that are there, at most max, or that come before until_ns; NULL: it is time to commit. */
static struct job *take_more(struct far_apply_thread *thread, size_t max, uint64_t until_ns)
{
    struct job *more = NULL, **end = &more;
    uv_mutex_lock(&thread->mutex);
    for (uint64_t now_ns; !is_urgent(thread) && !is_awaited(thread) && max > 0 && (now_ns = uv_hrtime()) < until_ns;) {
        (void)uv_cond_timedwait(&thread->cond, &thread->mutex, until_ns - now_ns);
    }
    for (; max > 0 && thread->first != NULL && in_shared_transaction(thread->first->kind); max--) {
        *end = thread->first;
        end = &thread->first->next;
        thread->first = thread->first->next;
    }
    *end = NULL;
    if (thread->first == NULL) {
        thread->last = &thread->first;
    }
    uv_mutex_unlock(&thread->mutex);
    return more;
}

/* Apply the jobs to the open transaction and let their answers go; returns the last job. */
static int apply_jobs(struct work *work, struct far_store_txn *txn, struct job *jobs, struct job **ret_last,
                      size_t *count, struct far_error *err)
{
    int rv = 0;
    for (struct job *job = jobs; rv == 0 && job != NULL; job = job->next) {
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
static int apply_shared(struct work *work, struct job *jobs, struct far_error *err)
{
    struct far_store_txn *txn;
    int rv = far_store_begin(work->thread->store, true, &txn, err);
    if (rv != 0) {
        return rv;
    }
    uint64_t until_ns = uv_hrtime() + (uint64_t)LINGER_MS * NS_PER_MS;
    struct job *last = jobs;
    size_t count = 0;
    work->outcome->result_count = work->outcome->mark_count = 0;
    rv = apply_jobs(work, txn, jobs, &last, &count, err);
    while (rv == 0 && count < FAR_APPLY_GROUP_MAX) {
        struct job *more = take_more(work->thread, FAR_APPLY_GROUP_MAX - count, until_ns);
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
        note_committed(work->thread, index);
    }
    return rv;
}

static int apply_history(struct far_apply_thread *thread, const struct job *job, struct far_error *err)
{
    struct far_store_txn *txn;
    int rv = far_store_begin(thread->store, true, &txn, err);
    if (rv != 0) {
        return rv;
    }
    rv = far_history_apply(txn, data_of(job), err);
    if (rv != 0) {
        far_store_abort(txn);
        return rv;
    }
    return far_store_commit(txn, err);
}

static int install_finish(struct far_apply_thread *thread, const struct job *job, struct far_error *err)
{
    struct far_manifest manifest;
    int rv = far_manifest_decode(data_of(job), &manifest, err);
    rv = rv != 0 ? rv : far_install_finish(&thread->install, &manifest, err);
    thread->installing = rv != 0;
    return rv;
}

static int apply_alone(struct work *work, const struct job *job, struct far_error *err)
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
        return far_install_piece(&thread->install, data_of(job), err);
    case FAR_JOB_INSTALL_FINISH:
        return install_finish(thread, job, err);
    case FAR_JOB_HISTORY:
        return apply_history(thread, job, err);
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
    uv_mutex_lock(&thread->mutex);
    uint64_t now = uv_hrtime(), until = now + (uint64_t)FULL_RETRY_MS * NS_PER_MS;
    for (; !thread->stopping && now < until; now = uv_hrtime()) { /* a push wakes it too: no reason to try again */
        (void)uv_cond_timedwait(&thread->cond, &thread->mutex, until - now);
    }
    bool go_on = !thread->stopping;
    uv_mutex_unlock(&thread->mutex);
    return go_on;
}

static bool failure_is_of_the_sender(const struct job *job, int rv)
{
    return job->kind >= FAR_JOB_INSTALL_BEGIN && job->kind <= FAR_JOB_HISTORY && rv == FAR_CORRUPT;
}

/* Do a group until it is done. False: given up because the thread is to stop while the disk is full. */
static bool carry_out(struct work *work, struct job *group)
{
    for (;;) {
        struct far_error err = {0};
        int rv = in_shared_transaction(group->kind) ? apply_shared(work, group, &err) : apply_alone(work, group, &err);
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
    outcome->durable_index = far_store_durable_index(thread->store);
    note_committed(thread, meta->applied_index);
    if (outcome->mark_count == 0 && read_clock(txn, outcome, &err) != 0) {
        stop_server(&err);
    }
    if (outcome->mark_count == 0 && outcome->jobs[FAR_JOB_INSTALL_FINISH] > 0) {
        note_mark(&(struct work){.thread = thread, .outcome = outcome}, meta);
    }
    far_store_abort(txn);
}

/* What was stored is noted with the entries that follow it: alone it is not worth a commit, and whoever waits for those
 * entries would wait for it. */
static const struct job *first_work(const struct far_apply_thread *thread)
{
    const struct job *job = thread->first;
    while (job != NULL && job->kind == FAR_JOB_STORED) {
        job = job->next;
    }
    return job;
}

/* Wait until there is something to do now. */
static void wait_for_work(struct far_apply_thread *thread)
{
    for (;;) {
        const struct job *job = first_work(thread);
        if (thread->stopping || (job != NULL && (is_urgent(thread) || is_awaited(thread)))) {
            return;
        }
        if (job == NULL) {
            uv_cond_wait(&thread->cond, &thread->mutex);
            continue;
        }
        uint64_t now_ns = uv_hrtime(), until_ns = job->pushed_ns + (uint64_t)LINGER_MS * NS_PER_MS;
        if (now_ns >= until_ns) {
            return;
        }
        (void)uv_cond_timedwait(&thread->cond, &thread->mutex, until_ns - now_ns);
    }
}

/* Take the next group off the queue: shared jobs together, any other by itself. NULL: the thread is to stop. */
static struct job *take_group(struct far_apply_thread *thread)
{
    uv_mutex_lock(&thread->mutex);
    wait_for_work(thread);
    struct job *group = thread->first, **end = &group;
    size_t count = 0;
    while (*end != NULL && count < FAR_APPLY_GROUP_MAX &&
           (count == 0 || (in_shared_transaction(group->kind) && in_shared_transaction((*end)->kind)))) {
        end = &(*end)->next;
        count++;
    }
    thread->first = *end;
    *end = NULL;
    if (thread->first == NULL) {
        thread->last = &thread->first;
    }
    uv_mutex_unlock(&thread->mutex);
    return group;
}

static void free_jobs(struct job *job)
{
    while (job != NULL) {
        struct job *next = job->next;
        far_blob_unref(job->blob);
        free(job);
        job = next;
    }
}

static void run(void *arg)
{
    struct far_apply_thread *thread = arg;
    struct job *group;
    while ((group = take_group(thread)) != NULL) {
        struct far_apply_outcome *outcome = calloc(1, sizeof *outcome);
        if (outcome == NULL) {
            stop_server(&(struct far_error){.message = "out of memory"});
        }
        outcome->next_deadline_ms = UINT64_MAX;
        thread->results_cap = thread->marks_cap = 0;
        struct work work = {.thread = thread, .outcome = outcome};
        bool done = carry_out(&work, group);
        size_t count = 0;
        for (struct job *job = group; job != NULL; job = job->next) {
            outcome->jobs[job->kind]++;
            outcome->bytes += data_of(job).len;
            count++;
        }
        free_jobs(group);
        if (!done) {
            outcome_free(outcome);
            return;
        }
        describe(thread, outcome);
        post(thread, outcome, count);
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
    int rc = uv_mutex_init(&thread->mutex);
    if (rc != 0) {
        return rc;
    }
    rc = uv_cond_init(&thread->cond);
    if (rc != 0) {
        uv_mutex_destroy(&thread->mutex);
        return rc;
    }
    FAR_ASSERT(uv_cond_init(&thread->committed) == 0);
    rc = far_wake_start(loop, &thread->wake, on_wake, thread);
    if (rc != 0) {
        uv_cond_destroy(&thread->committed);
        uv_cond_destroy(&thread->cond);
        uv_mutex_destroy(&thread->mutex);
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
    thread->last = &thread->first;
    thread->outcomes_last = &thread->outcomes;
    /* Without a thread the process cannot do anything: nothing to undo gracefully here. */
    FAR_ASSERT(uv_thread_create(&thread->thread, run, thread) == 0);
    *ret_thread = thread;
    return 0;
}

/* Under the mutex. */
static void want(struct far_apply_thread *thread, uint64_t index)
{
    if (index > thread->wanted_index) {
        thread->wanted_index = index;
        uv_cond_signal(&thread->cond);
    }
}

void far_apply_thread_want(struct far_apply_thread *thread, uint64_t index)
{
    uv_mutex_lock(&thread->mutex);
    want(thread, index);
    uv_mutex_unlock(&thread->mutex);
}

bool far_apply_thread_wait(struct far_apply_thread *thread, uint64_t index, uint64_t timeout_ms)
{
    uint64_t deadline_ns = uv_hrtime() + timeout_ms * NS_PER_MS;
    uv_mutex_lock(&thread->mutex);
    want(thread, index);
    for (uint64_t now_ns; thread->committed_index < index && (now_ns = uv_hrtime()) < deadline_ns;) {
        (void)uv_cond_timedwait(&thread->committed, &thread->mutex, deadline_ns - now_ns);
    }
    bool is_there = thread->committed_index >= index;
    uv_mutex_unlock(&thread->mutex);
    return is_there;
}

bool far_apply_thread_full(struct far_apply_thread *thread, size_t bytes)
{
    uv_mutex_lock(&thread->mutex);
    bool full = thread->count >= FAR_APPLY_QUEUE_MAX ||
                (thread->count > 0 && thread->bytes + bytes > FAR_APPLY_QUEUE_BYTES_MAX);
    uv_mutex_unlock(&thread->mutex);
    return full;
}

int far_apply_thread_push(struct far_apply_thread *thread, enum far_apply_kind kind, uint64_t index, uint64_t term,
                          struct far_blob *data, bool want_results)
{
    size_t len = data == NULL ? 0 : data->len;
    if (far_apply_thread_full(thread, len)) {
        return FAR_BUSY;
    }
    struct job *job = malloc(sizeof *job);
    if (job == NULL) {
        return FAR_LIMIT;
    }
    *job = (struct job){.kind = kind, .index = index, .term = term, .want_results = want_results,
                        .pushed_ns = uv_hrtime(), .blob = data == NULL ? NULL : far_blob_ref(data)};
    uv_mutex_lock(&thread->mutex);
    FAR_ASSERT(!thread->stopping);
    bool was_idle = first_work(thread) == NULL; /* else the thread works, or waits until it is time for what lies here */
    *thread->last = job;
    thread->last = &job->next;
    thread->count++;
    thread->bytes += len;
    bool wakes = kind != FAR_JOB_STORED && (was_idle || is_urgent(thread) || is_awaited(thread));
    uv_mutex_unlock(&thread->mutex);
    if (wakes) { /* after the mutex, which the woken thread wants */
        uv_cond_signal(&thread->cond);
    }
    return 0;
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
    free_jobs(thread->first);
    uv_cond_destroy(&thread->committed);
    uv_cond_destroy(&thread->cond);
    uv_mutex_destroy(&thread->mutex);
    free(thread);
    done(arg);
}

void far_apply_thread_stop(struct far_apply_thread *thread, void (*done)(void *arg), void *arg)
{
    thread->done = done;
    thread->done_arg = arg;
    uv_mutex_lock(&thread->mutex);
    thread->stopping = true;
    uv_cond_signal(&thread->cond);
    uv_mutex_unlock(&thread->mutex);
    FAR_ASSERT(uv_thread_join(&thread->thread) == 0);
    far_wake_stop(&thread->wake, on_stopped);
}
