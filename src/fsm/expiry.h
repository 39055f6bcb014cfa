/* Which checkpoints of a plan are kept, and until when nobody may remove one (feature level 4). Internal to src/fsm/.
 *
 * A deadline of the plan says when its checkpoints are looked at: after each new one, each removal, each damage, and when a lock ends.
 * A look goes from the newest to the oldest, a bounded piece at each tick; its place is in the row plan_retention, and whatever could
 * change what it has seen begins it anew. What the rules (keep.h) do not keep is removed, but never
 *   - the plan's newest checkpoint, nor the newest one that is sound: neither damaged nor suspect in any part,
 *   - one that is preserved, locked, or read by a running job, nor one with the last point of a workload before what looks like
 *     ransomware, until that is over (signal_score.c). */
#ifndef FAR_FSM_EXPIRY_H
#define FAR_FSM_EXPIRY_H

#include "fsm/keep.h"
#include "fsm/machines.h"

/* ---- expiry.c ---- */
/* The rules of a plan by its row, at their beginning. */
int far_keep_load(struct far_step *step, const struct far_row_plan_retention *row, struct far_keep *ret);
/* Is every point of it there, and none damaged or suspect? */
int far_checkpoint_is_sound(struct far_step *step, const struct far_row_checkpoint *row, bool *ret_is_sound);
/* The checkpoint behind *key, which moves on; FAR_NOT_FOUND behind the oldest of the plan. */
struct far_key far_plan_checkpoints_from(uint64_t plan_id, uint64_t behind_id);
int far_plan_checkpoints_next(struct far_step *step, uint64_t plan_id, struct far_key *key, struct far_row_checkpoint *ret);
/* Why a checkpoint stays: the bits of the rules that keep it (keep.h), and of these. 0: it goes. */
enum {
    FAR_STAYS_NEWEST = 1 << FAR_KEEP_RULES, /* the next cycle builds on it */
    FAR_STAYS_SOUND = 2 << FAR_KEEP_RULES,  /* every newer one is damaged or suspect */
    FAR_STAYS_PRESERVED = 4 << FAR_KEEP_RULES,
    FAR_STAYS_LOCKED = 8 << FAR_KEEP_RULES,
    FAR_STAYS_READ = 16 << FAR_KEEP_RULES, /* by a running job */
    FAR_STAYS_CALM = 32 << FAR_KEEP_RULES, /* has a point that an open alarm names as the last calm one; looked at if it would go else */
};
struct far_expiry_look {
    struct far_keep keep;
    uint64_t newest_id; /* of the plan's checkpoints */
    bool has_sound;     /* one was met */
};
/* Of the next older one. */
int far_expiry_judge(struct far_step *step, struct far_expiry_look *look, const struct far_row_checkpoint *row, unsigned *ret_stays);
/* Decide: the plan's deadline. */
int far_expiry_due(struct far_step *step, uint64_t plan_id);
/* Evolve: something changed that may change what goes: the look begins anew. */
int far_expiry_wake(struct far_step *step, uint64_t plan_id);
/* Evolve: a checkpoint is listed with its plan, or no longer. */
int far_plan_checkpoint_list(struct far_step *step, const struct far_row_checkpoint *row, bool is_there);
/* Evolve: the plan is gone. */
int far_expiry_gone(struct far_step *step, uint64_t plan_id);
/* Evolve: the cluster reached feature level 4: list what was there before. */
int far_checkpoints_list(struct far_step *step);

#endif
