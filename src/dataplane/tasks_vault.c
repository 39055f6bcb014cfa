/* Tasks about the vault as a whole, and locks: lock, reclaim, measure, scrub; and the thread that keeps the vault's time going. */
#include "dataplane/engine_local.h"
#include "dataplane/vault_lock.h"

#include "base/clock.h"

#include <stdlib.h>

enum { LOOK_MS = 600000 /* at the clock */ };

int far_run_lock(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    (void)result;
    return far_vault_lock(attempt->engine->vault, attempt->order.point_id, attempt->order.lock_until_ms, err);
}

/* What it cannot tell now is told by the next look, or by whoever needs it. */
void *far_engine_clock_main(void *arg)
{
    struct far_engine *engine = arg;
    pthread_mutex_lock(&engine->mutex);
    while (!engine->closing) {
        struct far_vault_time time;
        struct far_error err = {0};
        pthread_mutex_unlock(&engine->mutex);
        (void)far_vault_time(engine->vault, &time, &err);
        uint64_t due_ms = far_clock_monotonic_ms() + LOOK_MS, now_ms;
        pthread_mutex_lock(&engine->mutex);
        while (!engine->closing && (now_ms = far_clock_monotonic_ms()) < due_ms) {
            far_engine_wait(engine, due_ms - now_ms);
        }
    }
    pthread_mutex_unlock(&engine->mutex);
    return NULL;
}

/* ---- what a vault says of itself ---- */

struct far_engine_vault *far_engine_vault_ref(struct far_engine_vault *vault)
{
    if (vault != NULL) {
        far_users_add(&vault->users);
    }
    return vault;
}

void far_engine_vault_unref(struct far_engine_vault *vault)
{
    if (vault != NULL && far_users_drop(&vault->users)) {
        free(vault->scrubbed);
        free(vault->adoption);
        free(vault);
    }
}

static int tell_space(struct far_attempt *attempt, struct far_engine_vault *vault, struct far_error *err)
{
    const struct far_engine_order *order = &attempt->order;
    for (size_t i = 0; i < order->plan_count && vault->space_count < FAR_ENGINE_SPACES_MAX; i++) {
        struct far_space space;
        int rc = far_vault_space(attempt->engine->vault, &order->plan_ids[i], 1, &space, err);
        if (rc != 0 && rc != FAR_NOT_FOUND) {
            return rc;
        }
        if (rc == 0) {
            vault->spaces[vault->space_count++] = (struct far_engine_space){.plan_id = order->plan_ids[i],
                                                                            .logical_bytes = space.logical_bytes,
                                                                            .points_bytes = space.points_bytes,
                                                                            .unique_bytes = space.unique_bytes,
                                                                            .shared_bytes = space.shared_bytes,
                                                                            .estimated = space.estimated};
        }
    }
    return 0;
}

int far_run_measure(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    bool is_part = result->vault != NULL; /* of a pass, which opened the domains */
    struct far_engine_vault *vault = is_part ? result->vault : calloc(1, sizeof *vault);
    if (vault == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for what the vault says");
    }
    vault->users = 1;
    result->vault = vault; /* let go of at the end of the attempt */
    if (!is_part) {
        far_attempt_vault_domains(attempt, result);
    }
    int rc = far_vault_usage(attempt->engine->vault, &vault->usage, err);
    return rc == 0 ? tell_space(attempt, vault, err) : rc;
}

/* ---- reclaim ---- */

/* Of records; what was freed goes with what was sent. */
static int on_progress(void *arg, const struct far_reclaim_progress *progress)
{
    struct far_attempt *attempt = arg;
    atomic_store(&attempt->bytes_total, progress->total);
    atomic_store(&attempt->bytes_done, progress->done < progress->total ? progress->done : progress->total);
    atomic_store(&attempt->bytes_sent, progress->freed_bytes);
    return far_attempt_stopped(attempt) ? FAR_CANCELED : 0;
}

/* A smaller replica is a new one, all zeroes: what it was needs nothing any more. Of no disk is there a transfer: its plan is erased, or
 * it is gone for good, and with it everybody who might have written to it. */
static int empty_replica(struct far_attempt *attempt, uint64_t disk_id, struct far_error *err)
{
    struct far_vault *vault = attempt->engine->vault;
    struct far_fence fence = {.incarnation_epoch = attempt->order.incarnation_epoch,
                              .plan_epoch = attempt->order.plan_epoch,
                              .job = attempt->order.job_id,
                              .attempt = attempt->order.attempt};
    struct far_replica_state state;
    struct far_replica *replica;
    int rc = far_vault_replica_state(vault, disk_id, &state, err);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    /* The passes of an erase are tasks of one job: if an earlier one needed more attempts, this one is not behind it. */
    bool is_same_job = state.fence.incarnation_epoch == fence.incarnation_epoch && state.fence.plan_epoch == fence.plan_epoch &&
                       state.fence.job == fence.job;
    fence.attempt = is_same_job && state.fence.attempt > fence.attempt ? state.fence.attempt : fence.attempt;
    /* Of a disk that is gone the fence stays what it is: a cluster that was restored may give its number once more. */
    rc = far_replica_open(vault, NULL, disk_id, FAR_BLOCK_BYTES, attempt->order.secure ? &fence : &state.fence, &replica, err);
    if (rc != 0) {
        return rc;
    }
    rc = far_replica_set_zero(replica, 0, far_replica_blocks(replica), err);
    rc = rc == 0 ? far_replica_checkpoint(replica, 0, "", err) : rc;
    far_replica_close(replica);
    return rc;
}

int far_run_reclaim(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    struct far_vault *vault = attempt->engine->vault;
    struct far_reclaim_order order = {
        .pass = attempt->order.pass, .delete_before = attempt->order.delete_before, .secure = attempt->order.secure};
    result->vault = calloc(1, sizeof *result->vault);
    if (result->vault == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for what the vault says");
    }
    result->vault->users = 1;
    far_attempt_vault_domains(attempt, result);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < attempt->order.erase_disk_count; i++) {
        rc = empty_replica(attempt, attempt->order.erase_disk_ids[i], err);
        rc = attempt->order.secure || rc == FAR_LIMIT || rc == FAR_IO ? rc : 0; /* of what is gone: the next pass tries again */
    }
    /* Also where an earlier attempt began it: what that left undone, whoever waits for this pass believes done. */
    rc = rc == 0 ? far_vault_reclaim(vault, &order, on_progress, attempt, &result->vault->reclaimed, err) : rc;
    result->vault->is_reclaimed = rc == 0;
    return rc == 0 ? far_run_measure(attempt, result, err) : rc;
}

/* ---- scrub ---- */

static int on_scrub(void *arg, uint64_t bytes_read, uint64_t bytes_max)
{
    struct far_attempt *attempt = arg;
    atomic_store(&attempt->bytes_total, bytes_max != 0 ? bytes_max : bytes_read);
    atomic_store(&attempt->bytes_done, bytes_read);
    return far_attempt_stopped(attempt) ? FAR_CANCELED : 0;
}

/* Damage is a result, not a failure. */
int far_run_scrub(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    struct far_engine_vault *vault = calloc(1, sizeof *vault);
    struct far_scrub_result *scrubbed = calloc(1, sizeof *scrubbed);
    if (vault == NULL || scrubbed == NULL) {
        free(vault);
        free(scrubbed);
        return far_fail(err, FAR_LIMIT, "no memory to scrub");
    }
    vault->users = 1;
    vault->scrubbed = scrubbed;
    result->vault = vault; /* let go of at the end of the attempt */
    far_attempt_vault_domains(attempt, result);
    int rc = far_vault_scrub(attempt->engine->vault, &attempt->order.scrub, on_scrub, attempt, scrubbed, err);
    rc = rc == 0 ? far_vault_usage(attempt->engine->vault, &vault->usage, err) : rc;
    if (rc == 0) {
        atomic_store(&attempt->bytes_total, scrubbed->bytes_read);
        atomic_store(&attempt->bytes_done, scrubbed->bytes_read);
    }
    return rc;
}
