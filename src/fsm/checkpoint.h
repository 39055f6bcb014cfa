/* Checkpoints: what their files ask of each other. Internal to src/fsm/. */
#ifndef FAR_FSM_CHECKPOINT_H
#define FAR_FSM_CHECKPOINT_H

#include "fsm/machines.h"

enum far_checkpoint_input {
    FAR_CHECKPOINT_CREATE,
    FAR_CHECKPOINT_RECOVER,
    FAR_CHECKPOINT_VERIFY,
    FAR_CHECKPOINT_REMOVE,
    FAR_CHECKPOINT_PRESERVE,
    FAR_CHECKPOINT_UNPRESERVE,
    FAR_CHECKPOINT_LOCK,
};
extern const struct far_table far_table_checkpoint;

/* ---- checkpoint.c ---- */
/* All zero if there is none. */
int far_checkpoint_find(struct far_step *step, uint64_t id, struct far_row_checkpoint *ret);
/* The member behind *key, which moves on; FAR_NOT_FOUND behind the last one of the checkpoint. */
int far_checkpoint_member(struct far_step *step, uint64_t checkpoint_id, struct far_key *key, struct far_row_checkpoint_member *ret);
/* Decide: a job about its points; step->object_id is the job. */
int far_checkpoint_job(struct far_step *step, const struct far_row_checkpoint *row, uint64_t kind);
/* Decide: remove it and begin to forget the points that nobody else names. */
int far_checkpoint_drop(struct far_step *step, const struct far_row_checkpoint *row, bool expired);
/* Decide: remove it only, and tell which points nobody else names, at most 256. */
int far_checkpoint_take(struct far_step *step, const struct far_row_checkpoint *row, bool expired, uint64_t ids[256],
                        size_t *ret_count);

/* ---- checkpoint_lock.c ---- */
/* Rejects if nobody may remove it now, with the reason. */
int far_checkpoint_free(struct far_step *step, const struct far_row_checkpoint *row);
/* Until when a checkpoint is locked that a cycle of the plan makes which begins now; 0: it is not. */
uint64_t far_lock_until(const struct far_step *step, const struct far_row_plan *plan);
/* Evolve: the dedup domains that hold its points are locked as it is. */
int far_lock_points(struct far_step *step, const struct far_row_checkpoint *row);
/* Decide: members of a new checkpoint that is locked are older points: their vaults have to know. */
int far_lock_older(struct far_step *step, uint64_t checkpoint_id);
enum { FAR_LOCK_DAYS_MAX = 3660 };

/* ---- point.c ---- */
/* All zero if there is none. */
int far_point_find(struct far_step *step, uint64_t id, struct far_row_point *ret);
/* Evolve: a checkpoint that is damaged is available again if none of its points is; *checkpoint is put then. */
int far_point_look_again(struct far_step *step, struct far_row_checkpoint *checkpoint);
/* Evolve: nobody names it any more. */
int far_point_remove(struct far_step *step, uint64_t id);

#endif
