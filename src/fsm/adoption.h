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
/* Decide: a point of the portion, and what it needs: site, workload, plan, checkpoint. Counted in *result, where its problem is the
 * first. */
int far_adopt_point(struct far_step *step, const struct far_row_adoption *adoption, const struct far_sub_adopted *portion,
                    const struct far_sub_adopted_point *said, struct far_ev_vault_adopted *result);

/* ---- adopted_machine.c ---- */
/* A point that is about to be made, with the numbers of the log; its workload and plan are there. */
struct far_adopted_from {
    const struct far_sub_adopted *portion;
    const struct far_sub_adopted_point *said;
    uint64_t point_id, workload_id, plan_id, checkpoint_id, job_id, node_id;
};
struct far_adopted_machine {
    uint64_t config_id, recovery_id, networks_id; /* for the point, and its checkpoint; 0: none */
    bool is_unsound; /* how it is to be brought up cannot be, and is left out */
};
/* Decide: versions of what came with it. */
int far_adopt_machine(struct far_step *step, const struct far_adopted_from *from, struct far_adopted_machine *ret);

#endif
