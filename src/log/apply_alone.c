/* Jobs with transactions of their own: see apply_alone.h. */
#include "log/apply_alone.h"

#include "log/past_copy.h"

typedef int (*batch_fn)(struct far_store_txn *txn, struct far_slice batch, struct far_error *err);

static int apply_batch(struct far_apply_alone *alone, const struct far_apply_job *job, batch_fn apply, struct far_error *err)
{
    struct far_store_txn *txn;
    int rv = far_store_begin(alone->store, true, &txn, err);
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

static int take_segment(struct far_store_txn *txn, struct far_slice data, struct far_error *err)
{
    struct far_segment segment;
    memcpy(&segment, data.data, sizeof segment);
    return far_segments_take(txn, &segment, err);
}

static int take_compacted(struct far_store_txn *txn, struct far_slice data, struct far_error *err)
{
    struct far_compacted compacted;
    memcpy(&compacted, data.data, sizeof compacted);
    return far_compact_take(txn, &compacted, err);
}

/* The old file may go when this is durable. */
static int take_compacted_for_good(struct far_apply_alone *alone, const struct far_apply_job *job, struct far_error *err)
{
    int rv = apply_batch(alone, job, take_compacted, err);
    return rv != 0 ? rv : far_store_sync(alone->store, err);
}

static int install_finish(struct far_apply_alone *alone, const struct far_apply_job *job, struct far_error *err)
{
    struct far_manifest manifest;
    int rv = far_manifest_decode(far_apply_job_data(job), &manifest, err);
    rv = rv != 0 ? rv : far_install_finish(&alone->install, &manifest, err);
    alone->installing = rv != 0;
    return rv;
}

int far_apply_alone(struct far_apply_alone *alone, const struct far_apply_job *job, struct far_tidy *ret_tidy,
                    struct far_error *err)
{
    if (job->kind != FAR_JOB_INSTALL_BEGIN && job->kind < FAR_JOB_HISTORY && !alone->installing) {
        return far_fail(err, FAR_CORRUPT, "a piece of a snapshot came without its beginning");
    }
    switch (job->kind) {
    case FAR_JOB_INSTALL_BEGIN:
        alone->installing = true;
        return far_install_begin(alone->store, &alone->install, err);
    case FAR_JOB_INSTALL_PIECE:
        return far_install_piece(&alone->install, far_apply_job_data(job), err);
    case FAR_JOB_INSTALL_FINISH:
        return install_finish(alone, job, err);
    case FAR_JOB_HISTORY:
        return apply_batch(alone, job, far_history_apply, err);
    case FAR_JOB_PAST:
        return apply_batch(alone, job, far_past_copy_apply, err);
    case FAR_JOB_SEGMENT:
        return apply_batch(alone, job, take_segment, err);
    case FAR_JOB_COMPACTED:
        return take_compacted_for_good(alone, job, err);
    case FAR_JOB_TIDY:
        return far_tidy(alone->store, &alone->retain_walk, ret_tidy, err);
    default:
        return far_store_sync(alone->store, err);
    }
}

bool far_apply_alone_sender_failed(const struct far_apply_job *job, int rv)
{
    if (job->kind == FAR_JOB_PAST) {
        return rv == FAR_CORRUPT;
    }
    if (job->kind == FAR_JOB_SEGMENT || job->kind == FAR_JOB_COMPACTED) {
        return rv == FAR_CONFLICT;
    }
    return job->kind >= FAR_JOB_INSTALL_BEGIN && job->kind <= FAR_JOB_HISTORY && rv == FAR_CORRUPT;
}
