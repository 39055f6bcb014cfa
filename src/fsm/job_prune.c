/* How many jobs are kept: the newest of each plan, and of all removed plans together. At the end of each job the oldest
 * ones beyond that are dropped from the state, so that it is bounded; the events remain the history. A running job is
 * never dropped, nor the one that ends just now: somebody waits for its end; nor a run that says where machines of
 * the plan are now (those do not count), or of which it is still to be found out what it lost. Some more than one at a time,
 * so that what a removed plan leaves shrinks faster than it grows. */
#include "fsm/job.h"
#include "fsm/plan_edit.h"
#include "fsm/task.h"

enum { WAITING_MAX = FAR_JOBS_KEPT / 2 /* runs of a plan of which it is not known what they lost; they count */ };

int far_job_group(struct far_step *step, uint64_t plan_id, uint64_t node_id, uint64_t *ret_group)
{
    struct far_row_plan plan;
    struct far_row_vault vault;
    int rc = node_id != 0 ? far_row_find(step, &far_schema_row_vault, node_id, &vault)
                          : far_row_find(step, &far_schema_row_plan, plan_id, &plan);
    *ret_group = rc != 0 ? 0 : node_id != 0 ? node_id : plan_id;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_plan_jobs_add(struct far_step *step, uint64_t plan_id, uint64_t node_id, uint64_t job_id)
{
    uint64_t group;
    FAR_TRY(far_job_group(step, plan_id, node_id, &group));
    struct far_row_plan_job row = {.plan_id = group, .job_id = job_id};
    struct far_key key = far_key_pair(&far_schema_row_plan_job, group, job_id);
    return far_key_put(step, &far_schema_row_plan_job, &key, &row);
}

int far_plan_jobs_del(struct far_step *step, uint64_t plan_id, uint64_t node_id, uint64_t job_id)
{
    uint64_t group;
    FAR_TRY(far_job_group(step, plan_id, node_id, &group));
    struct far_key key = far_key_pair(&far_schema_row_plan_job, group, job_id);
    return far_key_del(step, &far_schema_row_plan_job, &key);
}

/* The next job of the plan behind key; FAR_NOT_FOUND after the last. */
static int next_of(struct far_step *step, uint64_t plan_id, struct far_key *key, struct far_row_plan_job *ret_row)
{
    int rc = far_next(step, &far_schema_row_plan_job, key, NULL, ret_row);
    return rc == 0 && ret_row->plan_id != plan_id ? FAR_NOT_FOUND : rc;
}

int far_plan_jobs_orphan(struct far_step *step, uint64_t plan_id)
{
    for (;;) {
        struct far_row_plan_job row;
        struct far_key key = far_key_id(&far_schema_row_plan_job, plan_id);
        int rc = next_of(step, plan_id, &key, &row);
        if (rc != 0) {
            return rc == FAR_NOT_FOUND ? 0 : rc;
        }
        key = far_key_pair(&far_schema_row_plan_job, plan_id, row.job_id);
        FAR_TRY(far_key_del(step, &far_schema_row_plan_job, &key));
        row.plan_id = 0;
        key = far_key_pair(&far_schema_row_plan_job, 0, row.job_id);
        FAR_TRY(far_key_put(step, &far_schema_row_plan_job, &key, &row));
    }
}

/* ---- who is kept ---- */

/* The runs that moved the plan's machines to where they are. */
struct movers {
    uint64_t ids[FAR_PLAN_WORKLOADS_MAX];
    size_t count;
};

static bool is_mover(const struct movers *movers, uint64_t job_id)
{
    bool is = false;
    for (size_t i = 0; i < movers->count && !is; i++) {
        is = movers->ids[i] == job_id;
    }
    return is;
}

static int find_movers(struct far_step *step, uint64_t plan_id, struct movers *ret)
{
    struct far_key key = far_key_id(&far_schema_row_plan_workload, plan_id);
    ret->count = 0;
    while (plan_id != 0 && ret->count < FAR_PLAN_WORKLOADS_MAX) {
        struct far_row_plan_workload row;
        int rc = far_plan_member_next(step, plan_id, &key, &row);
        if (rc != 0) {
            return rc == FAR_NOT_FOUND ? 0 : rc;
        }
        if (row.moved_job_id != 0 && !is_mover(ret, row.moved_job_id)) {
            ret->ids[ret->count++] = row.moved_job_id;
        }
    }
    return 0;
}

/* What the run lost is still to be found out. Those of a removed plan wait in vain: nobody knows whose they are. */
static int is_waiting(struct far_step *step, uint64_t plan_id, const struct far_row_job *job, bool *ret)
{
    struct far_row_run_lost_wait wait;
    int rc = plan_id != 0 && job->kind == FAR_job_kind_failover ? far_row_find(step, &far_schema_row_run_lost_wait, job->id, &wait)
                                                                : FAR_NOT_FOUND;
    *ret = rc == 0;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* ---- pruning ---- */

/* How many of them are too many, as far as can be pruned at once. */
static int count_excess(struct far_step *step, uint64_t plan_id, size_t kept, size_t *ret_excess)
{
    struct far_row_plan_job row;
    struct far_key key = far_key_id(&far_schema_row_plan_job, plan_id);
    size_t count = 0;
    int rc = 0;
    while (count < kept + FAR_JOBS_PRUNED_AT_ONCE && (rc = next_of(step, plan_id, &key, &row)) == 0) {
        count++;
    }
    *ret_excess = count > kept ? count - kept : 0;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_jobs_prune(struct far_step *step, uint64_t plan_id, uint64_t kept_id)
{
    struct far_key key = far_key_id(&far_schema_row_plan_job, plan_id);
    struct movers movers;
    size_t excess, waiting = 0;
    uint64_t tasks = 0;
    FAR_TRY(count_excess(step, plan_id, FAR_JOBS_KEPT, &excess));
    if (excess == 0) {
        return 0;
    }
    FAR_TRY(find_movers(step, plan_id, &movers));
    size_t kept = FAR_JOBS_KEPT + movers.count;
    FAR_TRY(movers.count > 0 ? count_excess(step, plan_id, kept, &excess) : 0);
    for (size_t looked = 0; excess > 0 && looked < kept && tasks <= FAR_PRUNED_TASKS_MAX; looked++) {
        struct far_row_plan_job row;
        struct far_row_job job;
        bool waits;
        int rc = next_of(step, plan_id, &key, &row);
        if (rc == FAR_NOT_FOUND) {
            return 0;
        }
        FAR_TRY(rc);
        FAR_TRY(far_row_need(step, &far_schema_row_job, row.job_id, &job));
        if (job.state == FAR_job_state_running || job.id == kept_id || is_mover(&movers, job.id)) {
            continue;
        }
        FAR_TRY(is_waiting(step, plan_id, &job, &waits));
        waiting += waits;
        if (waits && waiting <= WAITING_MAX) {
            continue;
        }
        tasks += job.task_count;
        if (tasks <= FAR_PRUNED_TASKS_MAX || tasks == job.task_count) {
            struct far_ev_job_pruned ev = {.job_id = row.job_id};
            FAR_TRY(far_emit(step, &far_schema_ev_job_pruned, &ev));
            excess--;
        }
    }
    return 0;
}
