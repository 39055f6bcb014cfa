/* The queue before the apply thread: jobs in order, which of them may lie for a while, and who waits for a commit.
 *
 * What nobody waits for may lie for FAR_APPLY_LINGER_MS, and a layer grows that long, or until somebody wants to
 * read what is in it: each commit costs syncs, and those of commits and of the WAL meet on one disk. Answers do not wait.
 * Where much comes of what comes in masses, and nobody reads here or follows what is committed, it grows for
 * FAR_APPLY_LINGER_BUSY_MS: rows of many commands share pages, and syncs of the WAL meet fewer commits. */
#ifndef FAR_LOG_APPLY_QUEUE_H
#define FAR_LOG_APPLY_QUEUE_H

#include "log/apply_thread.h"

#include <uv.h>

enum {
    FAR_APPLY_LINGER_MS = 50,
    FAR_APPLY_LINGER_BUSY_MS = 500,
    FAR_APPLY_READ_MS = 1000, /* so long after a read, others are expected */
    FAR_APPLY_BUSY_JOBS = 16, /* so many in FAR_APPLY_LINGER_MS are much */
    FAR_APPLY_NS_PER_MS = 1000000,
};

struct far_apply_job {
    struct far_apply_job *next;
    enum far_apply_kind kind;
    uint64_t index;
    uint64_t term;
    uint64_t pushed_ns;
    bool want_results;
    struct far_blob *blob; /* counted, NULL: no data */
};

struct far_apply_queue {
    uv_mutex_t mutex; /* of what follows */
    uv_cond_t cond;      /* the apply thread's */
    uv_cond_t committed; /* broadcast when committed_index moves, and when it is to stop */
    uint64_t committed_index;
    uint64_t wanted_index; /* somebody waits until this one is committed */
    uint64_t pushed_index;
    struct far_apply_job *first, **last;
    size_t count, bytes; /* queued, and being worked on */
    unsigned followers; /* who want to hear of every commit soon */
    uint64_t read_ns;   /* when somebody read last; 0: never */
    bool is_hurried;    /* what is not being committed yet is not to lie about for long */
    bool committing;    /* a group is */
    bool stopping;
};

/* 0, or libuv's (negative) error. */
int far_apply_queue_init(struct far_apply_queue *queue);
void far_apply_queue_done(struct far_apply_queue *queue); /* frees what still lies there */

struct far_slice far_apply_job_data(const struct far_apply_job *job);
/* Jobs that share a transaction with their neighbours; the others have one of their own. */
bool far_apply_job_is_shared(const struct far_apply_job *job);
void far_apply_jobs_free(struct far_apply_job *jobs);

/* The core thread; as far_apply_thread_push and _full. */
int far_apply_queue_push(struct far_apply_queue *queue, enum far_apply_kind kind, uint64_t index, uint64_t term,
                         struct far_blob *data, bool want_results);
bool far_apply_queue_full(struct far_apply_queue *queue, size_t bytes);
void far_apply_queue_stop(struct far_apply_queue *queue);
/* Any thread; as far_apply_thread_want and _wait. */
void far_apply_queue_want(struct far_apply_queue *queue, uint64_t index);
bool far_apply_queue_wait(struct far_apply_queue *queue, uint64_t index, uint64_t timeout_ms);
uint64_t far_apply_queue_last_committed(struct far_apply_queue *queue);
/* As far_apply_thread_read. */
uint64_t far_apply_queue_read(struct far_apply_queue *queue, uint64_t now_ns);
/* As far_apply_thread_follow. */
void far_apply_queue_follow(struct far_apply_queue *queue, bool begins);

/* The apply thread. The next group, when it is time: shared jobs together, at most max (1 to FAR_APPLY_GROUP_MAX), any other by
 * itself; the caller's. NULL: the thread is to stop. */
struct far_apply_job *far_apply_queue_take(struct far_apply_queue *queue, size_t max);
/* A layer was begun at begin_ns, has done so many jobs, and reaches to index: shared jobs that are there, or that come soon (or,
 * while the one before is being committed, at some time), to go on with; NULL: it is time to commit. */
struct far_apply_job *far_apply_queue_take_more(struct far_apply_queue *queue, size_t done, uint64_t index, uint64_t begin_ns);
/* A group begins to be committed, and ends: then the store holds what is up to index. The latter from any thread. */
void far_apply_queue_committing(struct far_apply_queue *queue);
void far_apply_queue_committed(struct far_apply_queue *queue, uint64_t index);
/* A command was decided that does not come in masses: others act on it, when it is committed. */
void far_apply_queue_hurry(struct far_apply_queue *queue);
/* Jobs that were taken are done. Any thread. */
void far_apply_queue_release(struct far_apply_queue *queue, size_t jobs, size_t bytes);
/* Wait, or until it is time to stop; false: stop. Any thread. */
bool far_apply_queue_pause(struct far_apply_queue *queue, uint64_t ms);

#endif
