/* Jobs, plans and nodes: what they ask of each other. Internal to src/fsm/. */
#ifndef FAR_FSM_JOB_H
#define FAR_FSM_JOB_H

#include "fsm/machines.h"

/* Deadlines. */
int far_job_due(struct far_step *step, uint64_t job_id);
int far_plan_due(struct far_step *step, uint64_t plan_id);
int far_node_due(struct far_step *step, uint64_t node_id);

#endif
