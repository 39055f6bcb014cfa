/* Adoption of a vault of another cluster (feature level 4): what its files ask of each other. Internal to src/fsm/. */
#ifndef FAR_FSM_ADOPTION_H
#define FAR_FSM_ADOPTION_H

#include "fsm/machines.h"
#include "fsm/task.h"

/* ---- job_adopt.c ---- */
/* Decide: a task of the job is done: what it said, and the next one. */
int far_adoption_done(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item);
/* Evolve: the job is over. */
int far_adoption_over(struct far_step *step, uint64_t node_id, uint64_t job_id);
/* Was everything in the vault adopted, as far as its last job went? */
int far_adoption_is_whole(struct far_step *step, uint64_t node_id, bool *ret_is_whole);

/* ---- adopted_point.c ---- */
/* Decide: a point of the vault, and what it needs: site, workload, plan, checkpoint. Counted in *result, where its problem is the first. */
int far_adopt_point(struct far_step *step, const struct far_row_adoption *adoption, const struct far_sub_adopted_point *said,
                    struct far_ev_vault_adopted *result);

#endif
