/* Jobs, plans, nodes, workloads and points: what they ask of each other. Internal to src/fsm/. */
#ifndef FAR_FSM_JOB_H
#define FAR_FSM_JOB_H

#include "fsm/machines.h"

/* The run of a plan (run_begin.c). */
static inline bool far_job_is_run(uint64_t kind)
{
    return kind == FAR_job_kind_test_recovery || kind == FAR_job_kind_failover || kind == FAR_job_kind_migration;
}

/* ---- job.c ---- */
int far_job_due(struct far_step *step, uint64_t job_id);
/* What a cycle hashes whatever lists of changes say; 0: all of it. */
struct far_resync {
    uint64_t workload_id;
    uint64_t disk_id;
};
/* A cycle of the plan; resync NULL: an ordinary one. */
int far_job_replicate(struct far_step *step, const struct far_row_plan *plan, const struct far_resync *resync);
/* Finish the job if every task of it is over. */
int far_job_settle(struct far_step *step, uint64_t job_id);
/* A node came up: every job with ready tasks looks at them again. */
int far_jobs_wake(struct far_step *step);
/* The job, if its tasks may change. */
int far_job_open(struct far_step *step, uint64_t job_id, struct far_row_job *ret_job);
/* Evolve: put the job, its deadline moved. */
int far_job_wake_at(struct far_step *step, struct far_row_job *job, uint64_t wake_ms);

/* ---- job_create.c ---- */
/* Create the next tasks of a job, at most 256. */
int far_job_create_tasks(struct far_step *step, uint64_t job_id);
/* Begin a job of one task, which only this node can do: it has it at once if it is up. */
int far_job_begin_at(struct far_step *step, const struct far_ev_job_started *job, struct far_sub_task_new *task, uint64_t node_id);

/* ---- job_finish.c ---- */
int far_job_finish(struct far_step *step, const struct far_row_job *job);

/* ---- plan.c ---- */
int far_plan_due(struct far_step *step, uint64_t plan_id);
int far_plan_for_recover(struct far_step *step, struct far_slice name, struct far_row_plan *ret_plan);
int far_plan_job_started(struct far_step *step, uint64_t plan_id, uint64_t job_id, bool is_cycle);
/* job_prune.c: which jobs of a plan there are, and how long they are kept. */
enum {
    FAR_JOBS_KEPT = 100,         /* of a plan or vault, running ones included, runs that moved its machines not; of all removed ones */
    FAR_JOBS_PRUNED_AT_ONCE = 4, /* at the end of a job; more than one, so that a backlog goes */
    FAR_PRUNED_TASKS_MAX = 1024, /* at once, but for one job that has more */
};
/* Decide: forget the oldest jobs of this plan that are over, beyond FAR_JOBS_KEPT, but not kept_id, nor runs that are needed. plan_id 0:
 * of removed plans. */
int far_jobs_prune(struct far_step *step, uint64_t plan_id, uint64_t kept_id);
/* Evolve. */
int far_plan_jobs_add(struct far_step *step, uint64_t plan_id, uint64_t node_id, uint64_t job_id);
int far_plan_jobs_del(struct far_step *step, uint64_t plan_id, uint64_t node_id, uint64_t job_id);
/* Under which number a job is listed: that of its vault's node or its plan, 0 if that is gone. */
int far_job_group(struct far_step *step, uint64_t plan_id, uint64_t node_id, uint64_t *ret_group);
/* The plan (or the vault) is removed: its jobs become those of removed plans. */
int far_plan_jobs_orphan(struct far_step *step, uint64_t plan_id);
int far_plan_job_finished(struct far_step *step, uint64_t plan_id, bool is_cycle);
int far_plan_checkpoint(struct far_step *step, uint64_t plan_id, uint64_t checkpoint_id);

/* Rejects unless it is stopped and runs nothing. */
int far_plan_for_erase(struct far_step *step, struct far_slice name, struct far_row_plan *ret_plan);

/* ---- job_erase.c ---- */
/* Decide: the next thing to do, if all its tasks are over. */
int far_erase_next(struct far_step *step, uint64_t job_id);
/* The disks of a plan, at most FAR_ERASE_DISKS_MAX; beyond: rejects. */
enum { FAR_ERASE_DISKS_MAX = 1024 };
int far_erase_disks(struct far_step *step, uint64_t plan_id, struct far_list *ret_disk_ids);

/* ---- workload.c ---- */
/* Rejects an adapter, or a place of a disk, that cannot be. */
int far_workload_place_check(struct far_step *step, struct far_slice workload, struct far_slice adapter,
                             const struct far_sub_disk_spec *disk);
int far_workload_claimable(struct far_step *step, struct far_slice name, struct far_row_workload *ret_row);
/* plan_id 0: out of its plan. */
int far_workload_claim(struct far_step *step, uint64_t id, uint64_t plan_id);

/* ---- node.c ---- */
int far_node_due(struct far_step *step, uint64_t node_id);
/* Evolve: a node has said so. */
int far_node_heard(struct far_step *step, const struct far_ev_node_reported *said);

/* ---- checkpoint.c ---- */
/* The checkpoint, if it may be recovered from. */
int far_checkpoint_read(struct far_step *step, uint64_t id, struct far_row_checkpoint *ret);
int far_checkpoint_readers(struct far_step *step, uint64_t checkpoint_id, int delta);

#endif
