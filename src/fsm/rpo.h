/* Whether plans keep the RPO that they promise (feature level 4). A plan's newest point is as old as the oldest of the newest points
 * of its workloads; where one has none yet, the promise counts from the plan's start. A deadline of the plan says when it could be
 * broken; then it is looked at, and an alert raised if it is, one a plan, which goes when a point comes. Internal to src/fsm/. */
#ifndef FAR_FSM_RPO_H
#define FAR_FSM_RPO_H

#include "fsm/machines.h"

struct far_rpo_oldest {
    uint64_t ms;          /* when its newest point was frozen, or from when on a first one is waited for; 0: nothing counts */
    uint64_t workload_id; /* which one it is */
    bool has_point;
};
int far_rpo_oldest(struct far_step *step, const struct far_row_plan *plan, struct far_rpo_oldest *ret);
/* Evolve: the deadline is where the promise would be broken; *plan is put by the caller. */
int far_rpo_arm(struct far_step *step, struct far_row_plan *plan);
/* Decide: a point came, or the promise is another one: the alert goes if it is kept. */
int far_rpo_look(struct far_step *step, uint64_t plan_id);
/* Decide: the deadline has come. */
int far_rpo_due(struct far_step *step, uint64_t plan_id);
/* "75 min", "3 h 20 min", "2 d 4 h". */
enum { FAR_RPO_SPAN_MAX = 32 };
const char *far_rpo_span(uint64_t ms, char text[FAR_RPO_SPAN_MAX]);

#endif
