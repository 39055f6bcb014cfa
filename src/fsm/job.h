/* Jobs, plans, nodes, workloads and points: what they ask of each other. Internal to src/fsm/. */
#ifndef FAR_FSM_JOB_H
#define FAR_FSM_JOB_H

#include "fsm/machines.h"

/* ---- job.c ---- */
int far_job_due(struct far_step *step, uint64_t job_id);
int far_job_replicate(struct far_step *step, const struct far_row_plan *plan);
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

/* ---- job_finish.c ---- */
int far_job_finish(struct far_step *step, const struct far_row_job *job);

/* ---- plan.c ---- */
int far_plan_due(struct far_step *step, uint64_t plan_id);
int far_plan_for_recover(struct far_step *step, struct far_slice name, struct far_row_plan *ret_plan);
int far_plan_job_started(struct far_step *step, uint64_t plan_id, uint64_t job_id, bool is_cycle);
int far_plan_job_finished(struct far_step *step, uint64_t plan_id, bool is_cycle);
int far_plan_checkpoint(struct far_step *step, uint64_t plan_id, uint64_t checkpoint_id);

/* ---- workload.c ---- */
int far_workload_claimable(struct far_step *step, struct far_slice name, struct far_row_workload *ret_row);
/* plan_id 0: out of its plan. */
int far_workload_claim(struct far_step *step, uint64_t id, uint64_t plan_id);

/* ---- node.c ---- */
int far_node_due(struct far_step *step, uint64_t node_id);

/* ---- point.c ---- */
/* The checkpoint, if it may be recovered from. */
int far_checkpoint_read(struct far_step *step, uint64_t id, struct far_row_checkpoint *ret);
int far_checkpoint_readers(struct far_step *step, uint64_t checkpoint_id, int delta);

#endif
