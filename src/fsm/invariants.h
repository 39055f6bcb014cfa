/* Invariants: what its files share. Internal to src/fsm/. */
#ifndef FAR_FSM_INVARIANTS_H
#define FAR_FSM_INVARIANTS_H

#include "fsm/machines.h"

/* ---- invariants_vault.c ---- */
/* Retention, locks and vaults: rejects at the first thing that does not fit. *deadlines: that rows ask for, counted on. */
int far_check_vaults(struct far_step *step, uint64_t *deadlines);

#endif
