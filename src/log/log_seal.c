/* The log seals its older events: see segments.h.
 *
 * A segment whose progress is to be compacted (compact.h) is written anew in the same way, and taken by the apply thread. Also
 * here: a walk through the whole store every ten minutes (walk.h), the first a minute after the start.
 *
 * A look once a second; a run that is due is copied piece by piece on the pool, so that neither this loop nor the apply
 * thread waits for it; then the apply thread notes the segment and removes the rows, a piece at a time. What was replaced or
 * cut meanwhile is given up. A full disk: another look later. Damage stops the server, as everywhere. */
#include "log/log_private.h"

#include "base/clock.h"
#include "base/logging.h"

enum { LOOK_MS = 1000, LATER_MS = 60 * 1000, TIDY_MS = 60 * 1000, FIRST_WALK_MS = 60 * 1000, WALK_MS = 10 * 60 * 1000 };

static void push_tidy(struct far_log *log)
{
    struct far_log_seal *seal = &log->seal;
    if (!seal->tidy_is_pending && far_apply_thread_push(log->apply, FAR_JOB_TIDY, 0, 0, NULL, false) == 0) {
        seal->tidy_is_pending = true;
    }
}

/* ---- on the pool ---- */

/* Rows are compacted by the apply thread: *wants_rows. */
static void work_compact(struct far_log_seal *seal)
{
    enum far_compact_next next = FAR_COMPACT_SEGMENT;
    struct far_store_txn *txn;
    seal->rv = seal->compactor != NULL ? 0 : far_store_begin(seal->store, false, &txn, &seal->err);
    if (seal->rv == 0 && seal->compactor == NULL) {
        seal->rv = far_compact_next(txn, &next, &seal->err);
        far_store_abort(txn);
    }
    seal->wants_rows = seal->rv == 0 && next == FAR_COMPACT_ROWS;
    if (seal->rv == 0 && next == FAR_COMPACT_SEGMENT) {
        seal->rv = seal->compactor != NULL ? 0 : far_compactor_new(seal->store, &seal->compactor, &seal->err);
        seal->rv = seal->rv != 0 ? seal->rv
                                 : far_compactor_step(seal->compactor, &seal->is_done, &seal->compacted, &seal->err);
    }
}

static void work(uv_work_t *request)
{
    struct far_log_seal *seal = request->data;
    seal->err = (struct far_error){0};
    seal->is_done = false;
    if (seal->task == FAR_SEAL_SWEEP) {
        seal->rv = far_segments_sweep(seal->store, &seal->err);
        return;
    }
    if (seal->task == FAR_SEAL_WALK) {
        seal->rv = far_walk(seal->store, &seal->walk, &seal->err);
        return;
    }
    if (seal->task == FAR_SEAL_CUT) {
        seal->rv = far_log_retain_look(seal, &seal->err);
        return;
    }
    if (seal->task == FAR_SEAL_COMPACT) {
        work_compact(seal);
        return;
    }
    seal->rv = seal->sealer != NULL ? 0 : far_sealer_new(seal->store, &seal->limits, &seal->sealer, &seal->err);
    if (seal->rv == 0) {
        seal->rv = far_sealer_step(seal->sealer, &seal->is_done, &seal->segment, &seal->err);
    }
}

static void begin_work(struct far_log *log, int task);

/* ---- on the core thread ---- */

static void end_run(struct far_log_seal *seal)
{
    far_sealer_free(seal->sealer);
    far_compactor_free(seal->compactor);
    seal->sealer = NULL;
    seal->compactor = NULL;
}

static void note(struct far_log *log, enum far_apply_kind kind, const void *data, size_t len)
{
    struct far_log_seal *seal = &log->seal;
    struct far_blob *blob = far_blob_new(data, len);
    if (blob == NULL || far_apply_thread_push(log->apply, kind, 0, 0, blob, false) != 0) {
        seal->wants_sweep = true; /* its file goes, and it is made again */
    } else {
        seal->take_is_pending = true;
    }
    far_blob_unref(blob);
}

static void on_failure(struct far_log *log)
{
    struct far_log_seal *seal = &log->seal;
    end_run(seal);
    if (seal->rv == FAR_NOT_FOUND || seal->rv == FAR_CONFLICT) {
        return; /* nothing is due, or it was replaced */
    }
    if (seal->rv != FAR_LIMIT) {
        far_log_stop_server("segments", seal->err.message);
    }
    far_logf(FAR_LEVEL_WARN, "segments", "%s; sealing goes on later", seal->err.message);
    seal->look_ms = far_clock_monotonic_ms() + LATER_MS;
}

static void after_work(uv_work_t *request, int status)
{
    struct far_log_seal *seal = request->data;
    struct far_log *log = seal->log;
    (void)status;
    seal->is_busy = false;
    if (log->is_closing) {
        end_run(seal);
        return;
    }
    if (seal->rv != 0) {
        on_failure(log);
    } else if (seal->task == FAR_SEAL_CUT) {
        far_log_retain_propose(log);
    } else if (seal->task == FAR_SEAL_RUN && seal->is_done) {
        end_run(seal);
        note(log, FAR_JOB_SEGMENT, &seal->segment, sizeof seal->segment);
    } else if (seal->task == FAR_SEAL_COMPACT && seal->is_done) {
        end_run(seal);
        note(log, FAR_JOB_COMPACTED, &seal->compacted, sizeof seal->compacted);
    } else if (seal->task == FAR_SEAL_COMPACT && seal->wants_rows) {
        push_tidy(log);
    } else if (seal->task == FAR_SEAL_COMPACT && seal->compactor != NULL) {
        begin_work(log, FAR_SEAL_COMPACT);
    } else if (seal->task == FAR_SEAL_RUN) {
        begin_work(log, FAR_SEAL_RUN);
    }
}

static void begin_work(struct far_log *log, int task)
{
    struct far_log_seal *seal = &log->seal;
    seal->task = task;
    seal->log = log;
    seal->store = log->store;
    seal->work.data = seal;
    seal->limits = (struct far_seal_limits){.rows_max = log->config.events_max,
                                            .segment_events = log->config.segment_events,
                                            .segment_bytes = log->config.segment_bytes};
    seal->is_busy = uv_queue_work(log->loop, &seal->work, work, after_work) == 0;
}

void far_log_seal_beat(struct far_log *log)
{
    struct far_log_seal *seal = &log->seal;
    uint64_t now = far_clock_monotonic_ms();
    if (!log->install.is_wanted && (log->cut_seq > log->first_seq || now >= seal->tidy_ms)) {
        seal->tidy_ms = now + TIDY_MS;
        push_tidy(log);
    }
    if (now < seal->look_ms || seal->is_busy || seal->take_is_pending || log->install.is_wanted) {
        return;
    }
    seal->look_ms = now + LOOK_MS;
    if (seal->wants_sweep) {
        seal->wants_sweep = false;
        begin_work(log, FAR_SEAL_SWEEP);
    } else if (now >= seal->walk_ms) {
        seal->walk_ms = now + WALK_MS;
        begin_work(log, FAR_SEAL_WALK);
    } else if (far_log_retain_due(log, now)) {
        begin_work(log, FAR_SEAL_CUT);
    } else { /* in turns, if both wait */
        seal->compacts = log->compact_is_due && !seal->compacts;
        begin_work(log, seal->compacts ? FAR_SEAL_COMPACT : FAR_SEAL_RUN);
    }
}

void far_log_seal_outcome(struct far_log *log, const struct far_apply_outcome *outcome)
{
    struct far_log_seal *seal = &log->seal;
    if (outcome->jobs[FAR_JOB_SEGMENT] > 0) {
        seal->take_is_pending = false;
        seal->wants_sweep = seal->wants_sweep || outcome->job_error.klass != 0;
        push_tidy(log);
    }
    if (outcome->jobs[FAR_JOB_COMPACTED] > 0) {
        seal->take_is_pending = false;
        seal->wants_sweep = true; /* the old file, or the new one if it was not taken */
    }
    if (outcome->jobs[FAR_JOB_TIDY] > 0) {
        seal->tidy_is_pending = false;
        seal->wants_sweep = seal->wants_sweep || outcome->tidy.files_to_go;
        if (outcome->tidy.more) {
            push_tidy(log);
        }
    }
    seal->wants_sweep = seal->wants_sweep || outcome->jobs[FAR_JOB_INSTALL_FINISH] > 0;
}

bool far_log_seal_busy(const struct far_log *log)
{
    return log->seal.is_busy;
}

void far_log_seal_start(struct far_log *log)
{
    log->seal.walk_ms = far_clock_monotonic_ms() + FIRST_WALK_MS;
    push_tidy(log); /* what a crash left to be done */
}
