/* The queue before the apply thread: see apply_queue.h. */
#include "log/apply_queue.h"

#include "base/assert.h"

#include <stdlib.h>

int far_apply_queue_init(struct far_apply_queue *queue)
{
    *queue = (struct far_apply_queue){.last = &queue->first};
    int rc = uv_mutex_init(&queue->mutex);
    if (rc == 0) {
        /* These fail only without memory: nothing could run then. */
        FAR_ASSERT(uv_cond_init(&queue->cond) == 0 && uv_cond_init(&queue->committed) == 0);
    }
    return rc;
}

void far_apply_queue_done(struct far_apply_queue *queue)
{
    far_apply_jobs_free(queue->first);
    uv_cond_destroy(&queue->committed);
    uv_cond_destroy(&queue->cond);
    uv_mutex_destroy(&queue->mutex);
}

struct far_slice far_apply_job_data(const struct far_apply_job *job)
{
    return job->blob == NULL ? far_slice(NULL, 0) : far_blob_slice(job->blob);
}

bool far_apply_job_is_shared(const struct far_apply_job *job)
{
    return job->kind <= FAR_JOB_CONFIGURATION || job->kind == FAR_JOB_STORED;
}

void far_apply_jobs_free(struct far_apply_job *job)
{
    while (job != NULL) {
        struct far_apply_job *next = job->next;
        far_blob_unref(job->blob);
        free(job);
        job = next;
    }
}

/* ---- under the mutex ---- */

/* Somebody waits for what is here to be committed, or there is much of it. */
static bool is_urgent(const struct far_apply_queue *queue)
{
    return queue->stopping || queue->wanted_index > queue->committed_index || queue->count >= FAR_APPLY_GROUP_MAX / 2 ||
           queue->bytes >= FAR_APPLY_QUEUE_BYTES_MAX / 2;
}

/* A job of which somebody awaits the results, or that has a transaction of its own. */
static bool is_awaited(const struct far_apply_queue *queue)
{
    const struct far_apply_job *job = queue->first;
    while (job != NULL && !job->want_results && far_apply_job_is_shared(job)) {
        job = job->next;
    }
    return job != NULL;
}

/* What was stored is noted with the entries that follow it: alone it is not worth a commit, and whoever waits for those
 * entries would wait for it. */
static const struct far_apply_job *first_work(const struct far_apply_queue *queue)
{
    const struct far_apply_job *job = queue->first;
    while (job != NULL && job->kind == FAR_JOB_STORED) {
        job = job->next;
    }
    return job;
}

/* Wait until there is something to do now. */
static void wait_for_work(struct far_apply_queue *queue)
{
    for (;;) {
        const struct far_apply_job *job = first_work(queue);
        if (queue->stopping || (job != NULL && (is_urgent(queue) || is_awaited(queue)))) {
            return;
        }
        if (job == NULL) {
            uv_cond_wait(&queue->cond, &queue->mutex);
            continue;
        }
        uint64_t now_ns = uv_hrtime(), until_ns = job->pushed_ns + (uint64_t)FAR_APPLY_LINGER_MS * FAR_APPLY_NS_PER_MS;
        if (now_ns >= until_ns) {
            return;
        }
        (void)uv_cond_timedwait(&queue->cond, &queue->mutex, until_ns - now_ns);
    }
}

/* The jobs before the one that end points at, which may be the first. */
static struct far_apply_job *cut(struct far_apply_queue *queue, struct far_apply_job **end)
{
    if (end == &queue->first) {
        return NULL;
    }
    struct far_apply_job *jobs = queue->first;
    queue->first = *end;
    *end = NULL;
    if (queue->first == NULL) {
        queue->last = &queue->first;
    }
    return jobs;
}

/* Only what has been pushed can be waited for here: an index that may never come is wanted when it is pushed. */
static void want(struct far_apply_queue *queue, uint64_t index)
{
    index = index < queue->pushed_index ? index : queue->pushed_index;
    if (index > queue->wanted_index) {
        queue->wanted_index = index;
        uv_cond_signal(&queue->cond);
    }
}

static bool is_read(const struct far_apply_queue *queue, uint64_t now_ns)
{
    return queue->read_ns != 0 && now_ns < queue->read_ns + (uint64_t)FAR_APPLY_READ_MS * FAR_APPLY_NS_PER_MS;
}

/* ---- the core thread, any thread ---- */

bool far_apply_queue_full(struct far_apply_queue *queue, size_t bytes)
{
    uv_mutex_lock(&queue->mutex);
    bool full = queue->count >= FAR_APPLY_QUEUE_MAX ||
                (queue->count > 0 && queue->bytes + bytes > FAR_APPLY_QUEUE_BYTES_MAX);
    uv_mutex_unlock(&queue->mutex);
    return full;
}

int far_apply_queue_push(struct far_apply_queue *queue, enum far_apply_kind kind, uint64_t index, uint64_t term,
                         struct far_blob *data, bool want_results)
{
    size_t len = data == NULL ? 0 : data->len;
    if (far_apply_queue_full(queue, len)) {
        return FAR_BUSY;
    }
    struct far_apply_job *job = malloc(sizeof *job);
    if (job == NULL) {
        return FAR_LIMIT;
    }
    *job = (struct far_apply_job){.kind = kind, .index = index, .term = term, .want_results = want_results,
                                  .pushed_ns = uv_hrtime(), .blob = data == NULL ? NULL : far_blob_ref(data)};
    uv_mutex_lock(&queue->mutex);
    FAR_ASSERT(!queue->stopping);
    bool was_idle = first_work(queue) == NULL; /* else the thread works, or waits until it is time for what lies here */
    *queue->last = job;
    queue->last = &job->next;
    queue->count++;
    queue->bytes += len;
    if (kind <= FAR_JOB_CONFIGURATION && index > queue->pushed_index) {
        queue->pushed_index = index;
    }
    bool wakes = kind != FAR_JOB_STORED && (was_idle || is_urgent(queue) || is_awaited(queue));
    uv_mutex_unlock(&queue->mutex);
    if (wakes) { /* after the mutex, which the woken thread wants */
        uv_cond_signal(&queue->cond);
    }
    return 0;
}

void far_apply_queue_stop(struct far_apply_queue *queue)
{
    uv_mutex_lock(&queue->mutex);
    queue->stopping = true;
    uv_cond_broadcast(&queue->committed);
    uv_cond_signal(&queue->cond);
    uv_mutex_unlock(&queue->mutex);
}

void far_apply_queue_want(struct far_apply_queue *queue, uint64_t index)
{
    uv_mutex_lock(&queue->mutex);
    want(queue, index);
    uv_mutex_unlock(&queue->mutex);
}

bool far_apply_queue_wait(struct far_apply_queue *queue, uint64_t index, uint64_t timeout_ms)
{
    uint64_t deadline_ns = uv_hrtime() + timeout_ms * FAR_APPLY_NS_PER_MS;
    uv_mutex_lock(&queue->mutex);
    want(queue, index);
    for (uint64_t now_ns; queue->committed_index < index && (now_ns = uv_hrtime()) < deadline_ns;) {
        (void)uv_cond_timedwait(&queue->committed, &queue->mutex, deadline_ns - now_ns);
    }
    bool is_there = queue->committed_index >= index;
    uv_mutex_unlock(&queue->mutex);
    return is_there;
}

uint64_t far_apply_queue_last_committed(struct far_apply_queue *queue)
{
    uv_mutex_lock(&queue->mutex);
    uint64_t index = queue->committed_index;
    uv_mutex_unlock(&queue->mutex);
    return index;
}

uint64_t far_apply_queue_read(struct far_apply_queue *queue, uint64_t now_ns)
{
    uv_mutex_lock(&queue->mutex);
    uint64_t index = is_read(queue, now_ns) ? 0 : queue->pushed_index;
    queue->read_ns = now_ns;
    uv_mutex_unlock(&queue->mutex);
    return index;
}

void far_apply_queue_follow(struct far_apply_queue *queue, bool begins)
{
    uv_mutex_lock(&queue->mutex);
    FAR_ASSERT(begins || queue->followers > 0);
    queue->followers = begins ? queue->followers + 1 : queue->followers - 1;
    uv_mutex_unlock(&queue->mutex);
}

/* ---- the apply thread ---- */

struct far_apply_job *far_apply_queue_take(struct far_apply_queue *queue, size_t max)
{
    uv_mutex_lock(&queue->mutex);
    wait_for_work(queue);
    struct far_apply_job **end = &queue->first;
    for (size_t count = 0; *end != NULL && count < max; count++) {
        if (count > 0 && !(far_apply_job_is_shared(queue->first) && far_apply_job_is_shared(*end))) {
            break;
        }
        end = &(*end)->next;
    }
    struct far_apply_job *group = cut(queue, end);
    uv_mutex_unlock(&queue->mutex);
    return group;
}

/* Until when a transaction may stay open. */
static uint64_t linger_until(const struct far_apply_queue *queue, size_t done, uint64_t begin_ns, uint64_t now_ns)
{
    bool is_busy = done >= FAR_APPLY_BUSY_JOBS && queue->followers == 0 && !queue->is_hurried && !is_read(queue, now_ns);
    uint64_t ms = is_busy ? FAR_APPLY_LINGER_BUSY_MS : FAR_APPLY_LINGER_MS;
    return begin_ns + ms * FAR_APPLY_NS_PER_MS;
}

/* Whoever wants to read finds it in this transaction, and does not wait for what comes behind. */
static bool has_wanted(const struct far_apply_queue *queue, uint64_t index)
{
    return queue->wanted_index > queue->committed_index && queue->wanted_index <= index;
}

/* While the group before is being committed this one cannot be, so it goes on for as long as it may. */
static bool goes_on(struct far_apply_queue *queue, size_t max)
{
    while (queue->committing && max > 0 && queue->first == NULL && !queue->stopping) {
        uv_cond_wait(&queue->cond, &queue->mutex);
    }
    return queue->committing && max > 0;
}

struct far_apply_job *far_apply_queue_take_more(struct far_apply_queue *queue, size_t done, uint64_t index, uint64_t begin_ns)
{
    size_t max = done < FAR_APPLY_GROUP_MAX ? FAR_APPLY_GROUP_MAX - done : 0;
    uv_mutex_lock(&queue->mutex);
    if (!goes_on(queue, max)) {
        uint64_t now_ns = uv_hrtime(), slice_ns = now_ns + (uint64_t)FAR_APPLY_LINGER_MS * FAR_APPLY_NS_PER_MS;
        uint64_t until_ns = linger_until(queue, done, begin_ns, now_ns), wake_ns = until_ns < slice_ns ? until_ns : slice_ns;
        max = now_ns < until_ns ? max : 0;
        for (; !is_urgent(queue) && !is_awaited(queue) && max > 0 && now_ns < wake_ns; now_ns = uv_hrtime()) {
            (void)uv_cond_timedwait(&queue->cond, &queue->mutex, wake_ns - now_ns);
        }
        max = has_wanted(queue, index) ? 0 : max;
    }
    struct far_apply_job **end = &queue->first;
    for (; max > 0 && *end != NULL && far_apply_job_is_shared(*end); max--) {
        end = &(*end)->next;
    }
    struct far_apply_job *more = cut(queue, end);
    uv_mutex_unlock(&queue->mutex);
    return more;
}

void far_apply_queue_committing(struct far_apply_queue *queue)
{
    uv_mutex_lock(&queue->mutex);
    queue->committing = true;
    queue->is_hurried = false;
    uv_mutex_unlock(&queue->mutex);
}

void far_apply_queue_committed(struct far_apply_queue *queue, uint64_t index)
{
    uv_mutex_lock(&queue->mutex);
    queue->committed_index = index;
    queue->committing = false;
    uv_cond_broadcast(&queue->committed);
    uv_mutex_unlock(&queue->mutex);
    uv_cond_signal(&queue->cond);
}

void far_apply_queue_hurry(struct far_apply_queue *queue)
{
    uv_mutex_lock(&queue->mutex);
    queue->is_hurried = true;
    uv_mutex_unlock(&queue->mutex);
}

void far_apply_queue_release(struct far_apply_queue *queue, size_t jobs, size_t bytes)
{
    uv_mutex_lock(&queue->mutex);
    queue->count -= jobs;
    queue->bytes -= bytes;
    uv_mutex_unlock(&queue->mutex);
}

bool far_apply_queue_pause(struct far_apply_queue *queue, uint64_t ms)
{
    uint64_t until_ns = uv_hrtime() + ms * FAR_APPLY_NS_PER_MS;
    uv_mutex_lock(&queue->mutex);
    for (uint64_t now_ns; !queue->stopping && (now_ns = uv_hrtime()) < until_ns;) {
        (void)uv_cond_timedwait(&queue->committed, &queue->mutex, until_ns - now_ns);
    }
    bool go_on = !queue->stopping;
    uv_mutex_unlock(&queue->mutex);
    return go_on;
}
