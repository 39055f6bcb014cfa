/* The apply thread: carries out jobs in the order in which they were pushed; with the thread that commits, it alone writes the
 * store.
 *
 * One bounded queue. The thread takes what is there, applies it to a layer in memory (layers.h), posts the answers to the core
 * thread (uv_async), and takes more, until it is time to commit: then another thread writes the layer to the store and posts
 * what came of it, while this one goes on with the next layer. Jobs that are no entries wait until all layers are committed. A
 * full disk is waited for, after giving back the reserve; any other error of the store, and any entry that cannot be applied,
 * aborts the process with a line on stderr (DESIGN.md section 5). Push, full and stop are for the core thread. */
#ifndef FAR_LOG_APPLY_THREAD_H
#define FAR_LOG_APPLY_THREAD_H

#include "log/apply.h"
#include "log/blob.h"
#include "log/compact.h"
#include "log/safe.h"
#include "log/snapshot.h"
#include "log/tidy.h"

#include <uv.h>

enum {
    FAR_APPLY_QUEUE_MAX = 16384,                  /* jobs */
    FAR_APPLY_QUEUE_BYTES_MAX = 16 * 1024 * 1024, /* their data; one job may exceed it */
    FAR_APPLY_GROUP_MAX = 8192,                   /* jobs in one transaction; less than marks are kept (agreement.h) */
};

enum far_apply_kind {
    FAR_JOB_COMMANDS,
    FAR_JOB_BARRIER,
    FAR_JOB_CONFIGURATION,
    FAR_JOB_INSTALL_BEGIN,  /* a snapshot comes */
    FAR_JOB_INSTALL_PIECE,  /* data: the piece */
    FAR_JOB_INSTALL_FINISH, /* data: the manifest */
    FAR_JOB_HISTORY,        /* data: a batch of older events */
    FAR_JOB_STORED,         /* index and term of the last entry that the WAL reported stored */
    FAR_JOB_SYNC,           /* make all durable */
    FAR_JOB_SEGMENT,        /* data: struct far_segment, which was sealed */
    FAR_JOB_TIDY,           /* a piece of what is to go */
    FAR_JOB_COMPACTED,      /* data: struct far_compacted, a segment that was compacted */
    FAR_JOB_PAST,           /* data: a batch of states of the past */
    FAR_JOB_KINDS,
};

/* The state of an index: what servers compare. */
struct far_mark {
    uint64_t index;
    uint64_t last_seq;
    struct far_hash128 digest;
    uint8_t head[FAR_HEAD_SIZE];
};

struct far_apply_result {
    uint64_t index;
    uint64_t term;
    unsigned position; /* in the entry */
    struct far_result result;
};

/* What came of one commit. Fields that a job did not touch say how things are. Results come before their commit, in an
 * outcome that says is_early and holds nothing else: they are decided, and durable in the log, whatever the store does. */
struct far_apply_outcome {
    struct far_apply_outcome *next; /* this, and the next two: private */
    size_t results_cap, marks_cap;
    bool is_early;
    uint64_t applied_index;
    uint64_t applied_term;
    uint64_t durable_index;
    uint64_t first_seq, oldest_seq; /* oldest: as in about.h */
    uint64_t last_seq;
    uint64_t cut_seq;            /* that the log decided: events before it go */
    bool compact_is_due;         /* the log decided more than this server has compacted */
    uint64_t next_deadline_ms;   /* UINT64_MAX: none */
    uint64_t time_ms;            /* of the state: the cluster time of the last command */
    uint64_t feature_level;      /* of the cluster; 0: there is none yet */
    uint64_t clock_verdict;      /* of the state; 0: good */
    uint64_t clock_off_ms;
    struct far_mark *marks;      /* one for each entry applied */
    size_t mark_count;
    struct far_apply_result *results; /* of the entries pushed with want_results */
    size_t result_count;
    unsigned jobs[FAR_JOB_KINDS];    /* how many of each kind were done */
    size_t bytes;                    /* of the jobs' data */
    struct far_tidy tidy;            /* what FAR_JOB_TIDY left */
    struct far_error job_error;      /* klass != 0: an install, history or segment job failed; the store is as before it */
};

struct far_apply_thread;
/* On the core thread, for each commit in order; borrowed for the call. */
typedef void (*far_apply_outcome_fn)(void *arg, const struct far_apply_outcome *outcome);
/* On the thread that writes: the disk is full; give space back if there is some. May be called again and again. */
typedef void (*far_apply_full_fn)(void *arg);

/* safe is told which entry is being applied, and what it says is skipped; NULL: nobody is told. Both are borrowed. */
int far_apply_thread_start(struct far_store *store, struct far_safe *safe, uv_loop_t *loop, far_apply_outcome_fn on_outcome,
                           far_apply_full_fn on_full, void *arg, struct far_apply_thread **ret_thread,
                           struct far_error *err);
/* Takes a reference of its own to the data (NULL: none). FAR_BUSY: the queue is full; FAR_LIMIT: no memory. */
int far_apply_thread_push(struct far_apply_thread *thread, enum far_apply_kind kind, uint64_t index, uint64_t term,
                          struct far_blob *data, bool want_results);
/* Would a job with this much data be refused now? */
bool far_apply_thread_full(struct far_apply_thread *thread, size_t bytes);
/* Any thread: somebody waits until the store has committed this index, so that nothing up to it may lie about. It counts only
 * for what has been pushed. */
void far_apply_thread_want(struct far_apply_thread *thread, uint64_t index);
/* Any thread: what the store has committed last, 0 before the first time. */
uint64_t far_apply_thread_committed(struct far_apply_thread *thread);
/* Any thread: somebody is about to read, and for a while others are expected to: meanwhile nothing lies about for long. Returns
 * the index that the first one should wait for, so that what it sees is not much older than what others see; else 0. */
uint64_t far_apply_thread_read(struct far_apply_thread *thread);
/* Any thread: somebody begins, or ceases, to follow what is committed; while anybody does, nothing lies about for long. */
void far_apply_thread_follow(struct far_apply_thread *thread, bool begins);
/* Any thread: wait until the store has committed this index, at most timeout_ms; whether it has. */
bool far_apply_thread_wait(struct far_apply_thread *thread, uint64_t index, uint64_t timeout_ms);
/* Does what is queued (unless the disk is full), ends the thread, delivers nothing more; done from the loop. Frees. */
void far_apply_thread_stop(struct far_apply_thread *thread, void (*done)(void *arg), void *arg);

#endif
