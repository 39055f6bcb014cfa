/* Tasks: their rows and what is kept in step with them. Internal to src/fsm/. */
#ifndef FAR_FSM_TASK_H
#define FAR_FSM_TASK_H

#include "fsm/machines.h"

/* Every live lease of tasks and nodes lasts at least until then. */
int far_leases_extend(struct far_step *step, uint64_t until_ms);
/* Deadlines of a task. */
int far_task_lease_due(struct far_step *step, uint64_t job_id, uint64_t task);
int far_task_retry_due(struct far_step *step, uint64_t job_id, uint64_t task);

#endif
