/* Scripts of a plan that run (feature level 4): around cycles (job_scripts.c) and around recoveries (run_scripts.c). Each is a task of
 * kind `script`, which carries what it runs, so that nothing depends on what the plan is set to meanwhile. Internal to src/fsm/. */
#ifndef FAR_FSM_SCRIPT_TASK_H
#define FAR_FSM_SCRIPT_TASK_H

#include "fsm/task.h"

enum { FAR_SCRIPTS_MAX = 16 }; /* of a plan */

/* The script of such a task; all zero if it has none. */
const struct far_sub_plan_script *far_script_of(const struct far_row_task *task);

/* ---- script_task.c: what becomes of an attempt ---- */
int far_script_done(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item);
/* The node reported that it ended otherwise: again, as often as its retries say, or the end of the task. */
int far_script_failed(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item);
/* Nobody knows how far it came: it counts as one that failed. */
int far_script_lost(struct far_step *step, struct far_group *g, size_t at);
/* What a node is told of it. */
int far_script_order(struct far_step *step, const struct far_row_job *job, const struct far_row_task *task, struct far_sub_order *order);

/* ---- job_scripts.c: around a cycle ---- */
/* The first tasks of a cycle of the plan: its scripts; ret_items has room for FAR_SCRIPTS_MAX. */
int far_cycle_scripts_new(struct far_step *step, const struct far_row_plan *plan, struct far_sub_task_new *ret_items, size_t *ret_count);
/* Does the freeze of this workload wait for a script? */
int far_cycle_scripts_hold(struct far_step *step, const struct far_row_job *job, const struct far_sub_task_new *items, size_t count,
                           uint64_t workload_id, bool *ret_holds);
/* The freeze of a group waits for scripts: it becomes ready, or fails, or waits on. */
int far_cycle_scripts_gate(struct far_step *step, struct far_group *g);
/* A script of a cycle: what it waits for is there, or it has no use any more. */
int far_cycle_script_advance(struct far_step *step, struct far_group *g);
/* What a script behind the cycle, or behind a workload of it (0: all), is told of it; empty: it is not over. */
int far_cycle_result(struct far_step *step, const struct far_row_job *job, uint64_t workload_id, const char **ret_result);
/* How many scripts behind the cycle failed: its points are good all the same. */
int far_cycle_scripts_failed(struct far_step *step, const struct far_row_job *job, uint64_t *ret_count);

#endif
