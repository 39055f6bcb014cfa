/* The thread that commits: writes one frozen layer at a time to the store, while the apply thread goes on with the next.
 *
 * A full disk is waited for; any other error stops the server. */
#ifndef FAR_LOG_COMMITTER_H
#define FAR_LOG_COMMITTER_H

#include "log/apply_queue.h"
#include "log/layers.h"

/* What is to be committed, and what comes of it. */
struct far_commit {
    const struct far_layer *layer; /* borrowed until it is done */
    struct far_apply_job *jobs;    /* owned, passed on when it is done */
    struct far_apply_outcome *outcome;
};

/* On the thread that commits. The layer is in the store; takes the jobs and the outcome. */
typedef void (*far_committed_fn)(void *arg, struct far_commit *commit);
/* The disk is full: wait a while. False: give up. */
typedef bool (*far_commit_full_fn)(void *arg, const struct far_error *err);

struct far_committer {
    struct far_store *store; /* borrowed */
    far_committed_fn on_committed;
    far_commit_full_fn on_full;
    void *arg;
    uv_thread_t thread;
    uv_mutex_t mutex; /* of what follows */
    uv_cond_t cond;   /* of both sides */
    struct far_commit commit;
    bool busy;      /* there is one */
    bool given_up;  /* it is left as it was */
    bool stopping;
};

/* Nothing could run without the thread: there is no failure. */
void far_committer_start(struct far_committer *committer, struct far_store *store, far_committed_fn on_committed,
                         far_commit_full_fn on_full, void *arg);
/* Ends the thread, which is idle or has given up; frees what it has given up. */
void far_committer_stop(struct far_committer *committer);

/* The apply thread. Is there nothing to be committed? */
bool far_committer_is_idle(struct far_committer *committer);
/* Wait until it is idle. False: it has given up, and does nothing more. */
bool far_committer_wait(struct far_committer *committer);
/* The next one, while it is idle. Takes what it names. */
void far_committer_give(struct far_committer *committer, const struct far_commit *commit);

#endif
