/* What a failover lost, told by the source once it is back; see run_lost.c. Internal to src/fsm/. */
#ifndef FAR_FSM_RUN_LOST_H
#define FAR_FSM_RUN_LOST_H

#include "fsm/run.h"

enum {
    FAR_LOST_TOGETHER_MAX = 100, /* workloads that one job compares */
    FAR_RUN_LOST_DISKS_MAX = 60,
};

/* The places of a workload's tasks in the group of a compare. */
enum { FAR_AT_COMPARE, FAR_AT_LEAVES };

/* ---- run_lost.c: decide ---- */
/* A failover begins; before it ends the plan's cycle: what that had found changed is the least that is known. */
int far_lost_open(struct far_step *step, const struct far_row_plan *plan, const struct far_run_pick *pick, uint64_t run_id);
/* Is somebody there who can tell? Then a job begins that compares. Looked at when a run moves on, a node comes up, a compare ends. */
int far_lost_look(struct far_step *step, uint64_t run_id);
/* The same of every run whose source is waited for. */
int far_lost_look_all(struct far_step *step);
/* The run came to nothing: the source goes on with what it has. */
int far_lost_none(struct far_step *step, uint64_t run_id);

/* A group of a compare job: what comes next, and what its report means. */
int far_compare_advance(struct far_step *step, struct far_group *g);
int far_compare_done(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item);
/* Its tasks are over: who was not told is told why. */
int far_compare_over(struct far_step *step, const struct far_row_job *job);
/* For query_orders.c. */
int far_compare_order(struct far_step *step, const struct far_row_task *task, struct far_sub_order *order);
/* Why its task waits; empty: nothing keeps it. */
int far_compare_wait(struct far_step *step, const struct far_row_task *task, char *text, size_t size);

/* ---- run_lost_rows.c: evolve, and reading ---- */
int far_lost_find(struct far_step *step, uint64_t run_id, uint64_t workload_id, struct far_row_run_lost *ret); /* all zero: none */
/* The next disk of a run behind *key, which moves on; FAR_NOT_FOUND behind the last. */
int far_lost_disk_next(struct far_step *step, uint64_t run_id, struct far_key *key, struct far_row_run_lost_disk *ret);
int far_lost_pruned(struct far_step *step, uint64_t run_id);

#endif
