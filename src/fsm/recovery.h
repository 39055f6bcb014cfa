/* Recovery configurations: how the workloads of a plan are brought up on the far side, and where its networks are there.
 *
 * What is set is a version, a row of its own that never changes; member and plan name the one that is in force. A point names the
 * version that was in force when it was made, a checkpoint that of the networks: so both keep it, whatever is set later, and a million
 * points cost one row for each version. A version goes when nothing names it any more. Internal to src/fsm/. */
#ifndef FAR_FSM_RECOVERY_H
#define FAR_FSM_RECOVERY_H

#include "fsm/machines.h"

/* What a version may be long, encoded: it has to fit a row. */
enum { FAR_RECOVERY_BYTES_MAX = 1700 };

/* ---- recovery.c ---- */
/* Decide: this version from now on; nothing where it is in force already. config->name is not looked at; NULL or plain: as it was at the
 * source. It was checked. */
int far_recovery_put(struct far_step *step, const struct far_row_plan *plan, uint64_t workload_id, const struct far_sub_recovery *config);
int far_networks_put(struct far_step *step, const struct far_row_plan *plan, const struct far_list *networks);
/* Are both the same bytes, once encoded? */
int far_same(struct far_step *step, const struct far_schema *schema, const void *a, const void *b, bool *ret_same);
/* Is it short enough for a row, encoded? */
int far_fits_row(struct far_step *step, const struct far_schema *schema, const void *object, bool *ret_fits);
/* Both versions (0: none) as a manifest keeps them: sub recovery_kept, encoded; empty if both are 0. In the step's memory. */
int far_recovery_kept(struct far_step *step, uint64_t recovery_id, uint64_t networks_id, struct far_slice *ret_bytes);
/* Evolve: a point or checkpoint was made under it, or is removed; 0: under none. */
int far_recovery_hold(struct far_step *step, uint64_t id);
int far_recovery_let_go(struct far_step *step, uint64_t id);
/* Evolve: its member or plan is gone; 0: it had none. */
int far_recovery_end(struct far_step *step, uint64_t id);
/* What a member is brought up by; 0 if it is in no plan, or nothing was set. */
int far_recovery_of(struct far_step *step, uint64_t plan_id, uint64_t workload_id, uint64_t *ret_id);

/* ---- recovery_check.c ---- */
/* Rejects what cannot be, naming the field behind this path ("workloads[2]." or ""), its value, and what would be right. */
int far_recovery_check(struct far_step *step, const char *path, const struct far_row_workload *workload,
                       const struct far_sub_recovery *config);
int far_networks_check(struct far_step *step, const struct far_list *networks);

#endif
