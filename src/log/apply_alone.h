/* Jobs of the apply thread that do not come from entries and have transactions of their own: pieces of a snapshot, of the
 * history and of the past, segments, what is to go, syncs. On the apply thread, while nothing else writes to the store. */
#ifndef FAR_LOG_APPLY_ALONE_H
#define FAR_LOG_APPLY_ALONE_H

#include "log/apply_queue.h"

/* Between jobs: a snapshot that is coming, how far a walk has come. Begins as zeros with the store. */
struct far_apply_alone {
    struct far_store *store; /* borrowed */
    struct far_install install;
    bool installing;
    struct far_retain_walk retain_walk;
};

/* FAR_JOB_TIDY says in ret_tidy what is left. After a failure the store is as before the job. */
int far_apply_alone(struct far_apply_alone *alone, const struct far_apply_job *job, struct far_tidy *ret_tidy,
                    struct far_error *err);
/* Is this failure the fault of who sent the data, rather than of this server? */
bool far_apply_alone_sender_failed(const struct far_apply_job *job, int rv);

#endif
