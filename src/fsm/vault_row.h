/* The vaults of nodes as the log knows them (feature level 4): how they are looked after, what they hold. Internal to src/fsm/.
 *
 * A vault has a row from the first point on that a node seals; it goes with the node. What it says of itself comes with the reports of
 * jobs over it (job_vault.c). */
#ifndef FAR_FSM_VAULT_ROW_H
#define FAR_FSM_VAULT_ROW_H

#include "fsm/machines.h"
#include "fsm/task.h"

enum {
    FAR_RECLAIM_INTERVAL_S = 86400,
    FAR_VAULT_PASSES_MAX = 8,
    FAR_VAULT_SAMPLES_MAX = 60,
    FAR_VAULT_PLANS_MAX = 256, /* measured at once */
};

/* ---- vault_row.c ---- */
/* Evolve: a point of the plan came to the vault of the node (1), or was removed from it (-1). */
int far_vault_row_point(struct far_step *step, uint64_t node_id, uint64_t plan_id, int delta);
/* Evolve: the vault of the node is to have a row, also before a point comes. */
int far_vault_row_made(struct far_step *step, uint64_t node_id);
/* Evolve: the cluster reached feature level 4: count what was there before. */
int far_vaults_count(struct far_step *step);
/* Evolve: the node is gone, and its vault with it. */
int far_vault_row_gone(struct far_step *step, uint64_t node_id);
/* The vault of the node with this name; rejects if it has none. */
int far_vault_row_need(struct far_step *step, struct far_slice node, struct far_row_vault *ret);
/* Rejects while it is being reclaimed. */
int far_vault_row_free(struct far_step *step, const struct far_row_vault *row, struct far_slice node);
/* Put the row, its deadline of reclaim moved; that of the scrub is moved by who changes it. */
int far_vault_row_store(struct far_step *step, const struct far_row_vault *row, uint64_t reclaim_due_before_ms);
/* The policy that holds for a vault, with what is usual where nothing was set. */
int far_vault_row_policy(struct far_step *step, uint64_t node_id, struct far_row_vault_policy *ret);
/* Decide: its deadline. */
int far_vault_row_reclaim_due(struct far_step *step, uint64_t node_id);

/* ---- job_vault.c ---- */
/* Decide: a job over a vault; step->object_id is the job. scrub_bytes: of a scrub. */
int far_vault_row_job(struct far_step *step, const struct far_row_vault *vault, uint64_t kind, uint64_t scrub_bytes);
/* Evolve: a job began to reclaim a vault, or ended. */
int far_vault_row_reclaiming(struct far_step *step, uint64_t node_id, uint64_t job_id, bool is_running);
/* Decide: what a pass quarantined before the one with the returned number may be deleted now; 0: nothing. */
int far_vault_row_delete_before(struct far_step *step, const struct far_row_vault *vault, uint64_t *ret_pass);
/* Decide: a task over a vault is done. */
int far_vault_row_done(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item);
/* Does a task of this kind belong to a vault, and to no point? */
static inline bool far_task_of_vault(uint64_t kind)
{
    return kind == FAR_task_kind_reclaim || kind == FAR_task_kind_measure || kind == FAR_task_kind_scrub || kind == FAR_task_kind_adopt ||
           kind == FAR_task_kind_seed;
}
/* The plans whose space is to be told, those measured longest ago; 256 at most. */
int far_vault_row_plans(struct far_step *step, uint64_t node_id, struct far_list *ret_plan_ids);

/* ---- source_heal.c ---- */
/* What scrubs found damaged of a disk of the workload in the vault of a node (disk empty: of all its disks), for orders: without words. */
int far_vault_damages_of(struct far_step *step, uint64_t node_id, uint64_t workload_id, struct far_slice disk, struct far_list *ret);
/* Places of points that were removed go. */
int far_vault_damages_prune(struct far_step *step, struct far_row_vault *row);
/* Evolve: what a run found, and what is known from before; *ret_more is set if not all of it has room. */
int far_vault_damages_merge(struct far_step *step, struct far_row_vault *row, const struct far_list *found, bool *ret_more);
/* Decide: a point was sealed; its node says which of the places that it was ordered to look at are good now. */
int far_vault_heal_done(struct far_step *step, uint64_t node_id, uint64_t job_id, const struct far_sub_report_item *item);

/* Decide: a verification found damage in a point of the node's vault. */
int far_vault_damage_found(struct far_step *step, const struct far_row_task *verify, const struct far_sub_report_item *item);

/* ---- job_scrub.c ---- */
/* Evolve: the scrub's deadline by the policy that holds now. */
int far_scrub_arm(struct far_step *step, struct far_row_vault *row, const struct far_row_vault_policy *policy);
/* Decide: its deadline. */
int far_scrub_due(struct far_step *step, uint64_t node_id);
/* Evolve: it was due. */
int far_scrub_scheduled(struct far_step *step, const struct far_ev_vault_scheduled *ev);
/* Evolve: a job began to scrub a vault, or ended. */
int far_scrub_running(struct far_step *step, uint64_t node_id, uint64_t job_id, bool is_running);
/* Decide: a run is done. */
int far_scrub_done(struct far_step *step, const struct far_row_vault *vault, uint64_t job_id, const struct far_sub_report_item *item);
/* Decide: a verification found a point of the node's vault good. */
int far_scrub_good(struct far_step *step, uint64_t node_id);

#endif
