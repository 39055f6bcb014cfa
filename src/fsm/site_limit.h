/* What the platform of a site bears at a time (feature level 4): views that are frozen and disks that are sent from there, disks that are
 * written out and machines that are brought up there. Tasks beyond that wait for a node as those do that find none, and stand in a queue
 * of their site, sends before freezes, older jobs before younger ones; as others end, they are looked at in that order. Internal to
 * src/fsm/. */
#ifndef FAR_FSM_SITE_LIMIT_H
#define FAR_FSM_SITE_LIMIT_H

#include "fsm/task.h"

enum { FAR_SITE_LIMIT_MAX = 10000 };

/* What waits, in the key of row site_queue. */
enum far_slot { FAR_SLOT_NONE, FAR_SLOT_SEND, FAR_SLOT_FREEZE, FAR_SLOT_RECOVERY };
enum far_slot far_slot_of(const struct far_row_task *task);

/* What is held of both at a site; used[0]: frozen and sent; used[1]: recovered. */
struct far_site_slots {
    uint64_t site_id;
    uint64_t limits[2], used[2];
};
static inline size_t far_slot_kind(enum far_slot slot)
{
    return slot == FAR_SLOT_RECOVERY;
}

/* ---- task_assign.c ---- */
/* Those of the step: what it assigns is counted in. */
int far_site_slots(struct far_step *step, uint64_t site_id, struct far_site_slots **ret);

void far_site_slot_take(struct far_step *step, uint64_t site_id, const struct far_row_task *task, bool is_taken);

/* ---- site_limit.c ---- */
/* May this task be begun at a node of the site now? Number 0: it is not made yet. */
int far_slot_free(struct far_step *step, uint64_t site_id, const struct far_row_task *task, bool *ret_free);
/* Evolve: the node, whose row the caller puts, begins or ceases to hold a task. */
void far_slot_hold(struct far_row_node *node, const struct far_row_task *task, bool is_held);
/* Evolve: a node of the site ceased to hold such a task, or one waits anew: those that wait are looked at. */
int far_slots_wake(struct far_step *step, uint64_t site_id);
/* Evolve: the task, whose row the caller puts, waits for a node from now on, or does no more. */
int far_slot_queue(struct far_step *step, struct far_row_task *task, bool waits);
/* Decide: begin what can be. */
int far_slots_due(struct far_step *step, uint64_t site_id);
/* Evolve: the site is gone. */
int far_slots_gone(struct far_step *step, struct far_row_site *site);
/* "the platform limit of …" where that is what the task waits for; else empty. */
int far_slot_why(struct far_step *step, const struct far_row_task *task, char text[FAR_MESSAGE_MAX]);

/* ---- task_work.c ---- */
/* Decide: look at the group of this task again. */
int far_task_look(struct far_step *step, const struct far_row_task *task);

#endif
