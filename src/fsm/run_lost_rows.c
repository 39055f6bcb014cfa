/* What failovers lost: their rows. See run_lost.c. */
#include "fsm/run_lost.h"

static struct far_key lost_key(uint64_t run_id, uint64_t workload_id)
{
    return far_key_pair(&far_schema_row_run_lost, run_id, workload_id);
}

int far_lost_find(struct far_step *step, uint64_t run_id, uint64_t workload_id, struct far_row_run_lost *ret)
{
    struct far_key key = lost_key(run_id, workload_id);
    int rc = far_key_find(step, &far_schema_row_run_lost, &key, ret);
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_row_run_lost){.job_id = 0};
        return 0;
    }
    return rc;
}

int far_lost_disk_next(struct far_step *step, uint64_t run_id, struct far_key *key, struct far_row_run_lost_disk *ret)
{
    int rc = far_next(step, &far_schema_row_run_lost_disk, key, NULL, ret);
    return rc == 0 && ret->job_id != run_id ? FAR_NOT_FOUND : rc;
}

/* workload_id 0: those of all. */
static int drop_disks(struct far_step *step, uint64_t run_id, uint64_t workload_id)
{
    struct far_key at = far_key_id(&far_schema_row_run_lost_disk, run_id);
    for (;;) {
        struct far_row_run_lost_disk row;
        int rc = far_lost_disk_next(step, run_id, &at, &row);
        if (rc != 0) {
            return rc == FAR_NOT_FOUND ? 0 : rc;
        }
        if (workload_id == 0 || row.workload_id == workload_id) {
            struct far_key key = far_key_pair(&far_schema_row_run_lost_disk, run_id, row.disk_id);
            FAR_TRY(far_key_del(step, &far_schema_row_run_lost_disk, &key));
        }
    }
}

static int put_disks(struct far_step *step, uint64_t run_id, uint64_t workload_id, const struct far_sub_lost_result *result)
{
    const struct far_sub_lost_disk *disks = result->disks.items;
    FAR_TRY(drop_disks(step, run_id, workload_id));
    for (size_t i = 0; i < result->disks.count; i++) {
        struct far_key key = far_key_pair(&far_schema_row_run_lost_disk, run_id, disks[i].disk_id);
        struct far_row_run_lost_disk row = {.job_id = run_id,
                                            .workload_id = workload_id,
                                            .disk_id = disks[i].disk_id,
                                            .name = disks[i].name,
                                            .size_bytes = disks[i].size_bytes,
                                            .compared_bytes = disks[i].compared_bytes,
                                            .by_list = disks[i].by_list,
                                            .lost_bytes = disks[i].lost_bytes,
                                            .extent_count = disks[i].extent_count,
                                            .extents = disks[i].extents,
                                            .problem = disks[i].problem,
                                            .skipped = disks[i].skipped};
        FAR_TRY(far_key_put(step, &far_schema_row_run_lost_disk, &key, &row));
    }
    return 0;
}

int far_evolve_run_lost_open(struct far_step *step, const struct far_ev_run_lost_open *ev)
{
    const struct far_sub_lost_member *items = ev->items.items;
    struct far_row_run_lost_wait wait = {.job_id = ev->job_id};
    struct far_row_run run;
    FAR_TRY(far_row_need(step, &far_schema_row_run, ev->job_id, &run));
    for (size_t i = 0; i < ev->items.count; i++) {
        struct far_key key = lost_key(ev->job_id, items[i].workload_id);
        struct far_row_run_lost row = {.job_id = ev->job_id,
                                       .workload_id = items[i].workload_id,
                                       .state = FAR_lost_state_unknown,
                                       .was_sending = items[i].was_sending,
                                       .seen_bytes = items[i].seen_bytes,
                                       .told_ms = step->time_ms};
        FAR_TRY(far_key_put(step, &far_schema_row_run_lost, &key, &row));
    }
    return far_row_put(step, &far_schema_row_run_lost_wait, ev->job_id, &wait);
}

/* Is anybody of the run waited for? */
static int is_waited_for(struct far_step *step, uint64_t run_id, bool *ret)
{
    struct far_key key = far_key_id(&far_schema_row_run_lost, run_id);
    *ret = false;
    while (!*ret) {
        struct far_row_run_lost row;
        int rc = far_next(step, &far_schema_row_run_lost, &key, NULL, &row);
        if (rc == FAR_NOT_FOUND || (rc == 0 && row.job_id != run_id)) {
            return 0;
        }
        FAR_TRY(rc);
        *ret = row.state == FAR_lost_state_unknown || row.state == FAR_lost_state_comparing;
    }
    return 0;
}

static int keep_waiting(struct far_step *step, uint64_t run_id, uint64_t compare_job_id)
{
    struct far_row_run_lost_wait row;
    bool waits;
    int rc = far_row_find(step, &far_schema_row_run_lost_wait, run_id, &row);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    FAR_TRY(is_waited_for(step, run_id, &waits));
    if (!waits) {
        return rc == 0 ? far_row_del(step, &far_schema_row_run_lost_wait, run_id) : 0;
    }
    row.job_id = run_id;
    row.compare_job_id = compare_job_id != 0 ? compare_job_id : rc == 0 ? row.compare_job_id : 0;
    return far_row_put(step, &far_schema_row_run_lost_wait, run_id, &row);
}

int far_evolve_run_lost(struct far_step *step, const struct far_ev_run_lost *ev)
{
    const uint64_t *ids = ev->workload_ids.items;
    for (size_t i = 0; i < ev->workload_ids.count; i++) {
        struct far_row_run_lost row;
        struct far_key key = lost_key(ev->job_id, ids[i]);
        FAR_TRY(far_key_need(step, &far_schema_row_run_lost, &key, &row));
        row.state = ev->state;
        row.compare_job_id = ev->compare_job_id != 0 ? ev->compare_job_id : row.compare_job_id;
        row.told_ms = step->time_ms;
        row.note = ev->note;
        if (ev->result.count > 0) {
            const struct far_sub_lost_result *result = ev->result.items;
            row.has_run_since = ev->has_run_since;
            row.written_ms = result->written_ms;
            FAR_TRY(put_disks(step, ev->job_id, ids[i], result));
        }
        FAR_TRY(far_key_put(step, &far_schema_row_run_lost, &key, &row));
    }
    return keep_waiting(step, ev->job_id, ev->compare_job_id);
}

int far_lost_pruned(struct far_step *step, uint64_t run_id)
{
    struct far_row_run_lost_wait wait;
    FAR_TRY(drop_disks(step, run_id, 0));
    int rc = far_row_find(step, &far_schema_row_run_lost_wait, run_id, &wait);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    FAR_TRY(rc == 0 ? far_row_del(step, &far_schema_row_run_lost_wait, run_id) : 0);
    for (;;) {
        struct far_row_run_lost row;
        struct far_key key = far_key_id(&far_schema_row_run_lost, run_id);
        rc = far_next(step, &far_schema_row_run_lost, &key, NULL, &row);
        if (rc == FAR_NOT_FOUND || (rc == 0 && row.job_id != run_id)) {
            return 0;
        }
        FAR_TRY(rc);
        key = lost_key(run_id, row.workload_id);
        FAR_TRY(far_key_del(step, &far_schema_row_run_lost, &key));
    }
}
