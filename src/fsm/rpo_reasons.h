/* Why the next recovery point of a plan is not there yet, in words, from facts in the state. For query_rpo.c. */
#ifndef FAR_FSM_RPO_REASONS_H
#define FAR_FSM_RPO_REASONS_H

#include "fsm/query.h"
#include "fsm/task.h"

/* What is asked, and the answer as it grows. The step reads into a scratch that is reset with each task. */
struct far_rpo_ask {
    struct far_step *step;
    uint64_t now_ms;
    struct far_row_plan plan;
    struct far_rpo *rpo;
};

/* Appends a reason if there is room; its text is cut. */
struct far_rpo_reason *far_rpo_add(struct far_rpo_ask *ask, const char *code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* What its tasks wait for, or what slows them: of the workload whose point is the oldest first, else of any. */
int far_rpo_of_cycle(struct far_rpo_ask *ask, const struct far_row_job *job);

#endif
