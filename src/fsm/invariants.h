/* Invariants: what its files share. Internal to src/fsm/. */
#ifndef FAR_FSM_INVARIANTS_H
#define FAR_FSM_INVARIANTS_H

#include "fsm/machines.h"

/* ---- invariants_vault.c ---- */
/* Retention, locks and vaults: rejects at the first thing that does not fit. *deadlines: that rows ask for, counted on. */
int far_check_vaults(struct far_step *step, uint64_t *deadlines);

/* ---- invariants_recovery.c ---- */
/* Recovery configurations: each that is named is there, and counts what was made under it. */
int far_check_recoveries(struct far_step *step);

/* ---- invariants_run.c ---- */
/* Runs of plans and their workloads. *deadlines: that rows ask for, counted on. */
int far_check_runs(struct far_step *step, uint64_t *deadlines);

#endif
