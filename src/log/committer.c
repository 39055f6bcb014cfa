/* The thread that commits: see committer.h. */
#include "log/committer.h"

#include "base/assert.h"
#include "base/thread.h"
#include "log/apply_outcome.h"

/* Until it is done. False: given up. */
static bool carry_out(struct far_committer *committer, const struct far_commit *commit)
{
    for (;;) {
        struct far_error err = {0};
        int rv = far_layer_commit(commit->layer, committer->store, &err);
        if (rv == 0) {
            return true;
        }
        if (rv != FAR_LIMIT) {
            far_apply_stop_server(&err);
        }
        if (!committer->on_full(committer->arg, &err)) {
            return false;
        }
    }
}

static void run(void *arg)
{
    struct far_committer *committer = arg;
    far_thread_name("commit");
    far_thread_works_in_bulk(); /* nobody waits for it, but for memory */
    uv_mutex_lock(&committer->mutex);
    while (!committer->stopping) {
        if (!committer->busy || committer->given_up) {
            uv_cond_wait(&committer->cond, &committer->mutex);
            continue;
        }
        struct far_commit commit = committer->commit;
        uv_mutex_unlock(&committer->mutex);
        bool is_done = carry_out(committer, &commit);
        if (is_done) {
            committer->on_committed(committer->arg, &commit);
        }
        uv_mutex_lock(&committer->mutex);
        committer->busy = !is_done;
        committer->given_up = !is_done;
        uv_cond_broadcast(&committer->cond);
    }
    uv_mutex_unlock(&committer->mutex);
}

void far_committer_start(struct far_committer *committer, struct far_store *store, far_committed_fn on_committed,
                         far_commit_full_fn on_full, void *arg)
{
    *committer = (struct far_committer){.store = store, .on_committed = on_committed, .on_full = on_full, .arg = arg};
    FAR_ASSERT(uv_mutex_init(&committer->mutex) == 0 && uv_cond_init(&committer->cond) == 0);
    FAR_ASSERT(uv_thread_create(&committer->thread, run, committer) == 0);
}

void far_committer_stop(struct far_committer *committer)
{
    uv_mutex_lock(&committer->mutex);
    committer->stopping = true;
    uv_cond_broadcast(&committer->cond);
    uv_mutex_unlock(&committer->mutex);
    FAR_ASSERT(uv_thread_join(&committer->thread) == 0);
    if (committer->given_up) {
        far_apply_jobs_free(committer->commit.jobs);
        far_apply_outcome_free(committer->commit.outcome);
    }
    uv_cond_destroy(&committer->cond);
    uv_mutex_destroy(&committer->mutex);
}

bool far_committer_is_idle(struct far_committer *committer)
{
    uv_mutex_lock(&committer->mutex);
    bool is_idle = !committer->busy;
    uv_mutex_unlock(&committer->mutex);
    return is_idle;
}

bool far_committer_wait(struct far_committer *committer)
{
    uv_mutex_lock(&committer->mutex);
    while (committer->busy && !committer->given_up) {
        uv_cond_wait(&committer->cond, &committer->mutex);
    }
    bool is_idle = !committer->busy;
    uv_mutex_unlock(&committer->mutex);
    return is_idle;
}

void far_committer_give(struct far_committer *committer, const struct far_commit *commit)
{
    uv_mutex_lock(&committer->mutex);
    FAR_ASSERT(!committer->busy);
    committer->commit = *commit;
    committer->busy = true;
    uv_cond_broadcast(&committer->cond);
    uv_mutex_unlock(&committer->mutex);
}
