/* Jobs that use a disk of a checkpoint (feature level 4): what the other files of the core ask of them. Internal to src/fsm/. */
#ifndef FAR_FSM_JOB_USE_H
#define FAR_FSM_JOB_USE_H

#include "fsm/task.h"

/* Evolve: such a job began (1): the second checkpoint that it names has a reader more. */
int far_use_readers(struct far_step *step, const struct far_list *uses, int delta);
/* Decide: a report about its task; what is news becomes an event. */
int far_use_told(struct far_step *step, const struct far_row_job *job, const struct far_sub_report_item *item);
/* Evolve: the job is over; *row is put by the caller. */
int far_use_over(struct far_step *step, struct far_row_job *row);

#endif
