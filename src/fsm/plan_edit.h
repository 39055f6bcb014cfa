/* Changes of a plan that is there: its schedule, its workloads, its policies; what plan_apply shares with the commands for each of them.
 * Internal to src/fsm/. */
#ifndef FAR_FSM_PLAN_EDIT_H
#define FAR_FSM_PLAN_EDIT_H

#include "fsm/machines.h"

#define FAR_INTERVAL_S_MAX (366ull * 24 * 3600)
#define FAR_RTO_S_MAX (30ull * 24 * 3600)
#define FAR_POLICY_AGE_S_MAX (10 * FAR_INTERVAL_S_MAX)
enum { FAR_PLAN_WORKLOADS_MAX = 256 };

/* Inputs of the plan's table behind those of plan.c. */
enum far_plan_input { FAR_PLAN_PAUSE = 9, FAR_PLAN_RESUME = 10 };

/* ---- plan.c ---- */
/* Rejects as the table says; all zero: there is no such plan. */
int far_plan_moves(struct far_step *step, const struct far_row_plan *row, struct far_slice name, enum far_plan_input input);
/* Decide: these policies from now on; nothing where they are in force already. They were checked. */
int far_plan_policies_put(struct far_step *step, const struct far_row_plan *row, const struct far_ev_plan_updated *policies);
/* Evolve. */
int far_plan_put(struct far_step *step, const struct far_row_plan *row, uint64_t due_before_ms);

/* ---- plan_schedule.c ---- */
/* All zero if it says no more than how often. */
int far_schedule_of(struct far_step *step, uint64_t plan_id, struct far_row_plan_schedule *ret);
/* Rejects what cannot be, by its path ("schedule." or ""). */
int far_schedule_check(struct far_step *step, const char *path, const struct far_sub_schedule *schedule);
/* A window of the week, by its path. */
int far_window_check(struct far_step *step, const char *path, const struct far_list *days, uint64_t from_min, uint64_t to_min);
/* A zone that is known, or none; by the path of its field. */
int far_zone_check(struct far_step *step, const char *path, struct far_slice zone, uint64_t *ret_id);
/* Decide: this schedule from now on, NULL: none but the interval. It was checked. */
int far_schedule_put(struct far_step *step, const struct far_row_plan *plan, uint64_t interval_s, const struct far_sub_schedule *schedule);
/* When the next cycle is due, at this time or later; 0: never. */
int far_schedule_next(struct far_step *step, const struct far_row_plan *plan, uint64_t from_ms, uint64_t *ret_due_ms);
/* What becomes of a plan that is due now: whether its cycle begins, and what the event says. */
int far_schedule_judge(struct far_step *step, const struct far_row_plan *plan, struct far_ev_plan_scheduled *ev, bool *ret_begins);
/* Evolve: the plan is gone. */
int far_schedule_gone(struct far_step *step, uint64_t plan_id);

/* When the next cycle is due of a plan that is resumed: at once if one was missed and is caught up with. */
int far_schedule_resume(struct far_step *step, const struct far_row_plan *plan, uint64_t *ret_due_ms);

/* ---- plan_pause.c ---- */
/* Decide: the pause is over. */
int far_plan_resume_now(struct far_step *step, const struct far_row_plan *plan);

/* ---- plan_scripts.c ---- */
/* All zero if there are none. */
int far_scripts_of(struct far_step *step, uint64_t plan_id, struct far_row_plan_scripts *ret);
/* Rejects what cannot be of scripts and consistency groups. */
int far_scripts_check(struct far_step *step, const struct far_cmd_plan_apply *cmd);
/* Decide: these from now on. They were checked. */
int far_scripts_put(struct far_step *step, uint64_t plan_id, const struct far_cmd_plan_apply *cmd);
/* Evolve: the plan is gone; a workload of it is. */
int far_scripts_gone(struct far_step *step, uint64_t plan_id);
int far_scripts_leave(struct far_step *step, uint64_t plan_id, struct far_slice workload);

/* ---- plan_members.c ---- */
/* Decide: these come, these leave: at once, or when the cycle that runs is over. They were checked. */
int far_members_change(struct far_step *step, const struct far_row_plan *plan, const struct far_list *add_ids,
                       const struct far_list *remove_ids);
/* Decide: a cycle of the plan is over: who is to leave goes. */
int far_members_leave(struct far_step *step, uint64_t plan_id);

/* ---- plan_moved.c ---- */
/* Since when all workloads are moved, after their number or that of the moved ones changed. */
void far_plan_moved_settle(struct far_step *step, struct far_row_plan *plan);
int far_member_is_moved(struct far_step *step, uint64_t plan_id, uint64_t workload_id, bool *ret);
/* Rejects where the machine of this workload was moved. */
int far_member_refuse_moved(struct far_step *step, const struct far_row_plan *plan, uint64_t workload_id);
/* Evolve, as what follows; the plan's row is put by the caller. What this run kept is moved from now on. */
struct far_run;
int far_members_moved(struct far_step *step, struct far_row_plan *plan, const struct far_run *run);
/* A workload is at its source again, by the reversal of the plan of the other direction. */
int far_member_home(struct far_step *step, struct far_row_plan *plan, uint64_t workload_id);

/* ---- member_forget.c ---- */
/* Rejects while a checkpoint of the plan with one of these workloads is locked, preserved or being read. */
int far_members_forget_check(struct far_step *step, uint64_t plan_id, const uint64_t *workload_ids, size_t count);
/* Decide: the job that takes a workload, which is not the plan's any more, out of its checkpoints and the vaults; its next portion. */
int far_members_forget(struct far_step *step, uint64_t plan_id, uint64_t workload_id);
int far_members_forget_next(struct far_step *step, const struct far_row_job *job);

#endif
