/* What runs on a node: how far each task is and until when its lease lasts, side by side in a few rows of the node, so that a
 * report changes a row for twenty tasks and not one, or three, for each (feature level 3).
 *
 * A task is here from its attempt's first report until nobody holds it any more; its own row then has no lease and counts no
 * bytes. Leases are looked at when the first of them could end: renewing one moves no deadline. Beyond FAR_RUNNING_MAX, and
 * before the feature level, a task's own row has it all. Internal to src/fsm/. */
#ifndef FAR_FSM_RUNNING_H
#define FAR_FSM_RUNNING_H

#include "fsm/machines.h"

enum { FAR_RUNNING_LEVEL = 3, FAR_RUNNING_PART = 20 /* tasks in a row */, FAR_RUNNING_MAX = 1000 /* on a node */ };

/* A copy of all that runs on a node, in memory of the step. */
struct far_running {
    uint64_t node_id;
    struct far_sub_running_task *items;
    size_t count;
    size_t room; /* for so many, at most FAR_RUNNING_MAX */
    size_t next; /* where the next search begins: reports name tasks in an order that stays */
    bool is_changed[FAR_RUNNING_MAX / FAR_RUNNING_PART]; /* parts that differ from their rows */
};

/* Its row is held by a node that keeps its bytes and lease for it. */
static inline bool far_task_runs(const struct far_row_task *row)
{
    return row->state == FAR_task_state_running && row->lease_until_ms == 0;
}

/* more: tasks that may be added. */
int far_running_load(struct far_step *step, const struct far_row_node *node, size_t more, struct far_running *ret_running);
/* The task, or NULL. */
struct far_sub_running_task *far_running_find(struct far_running *running, uint64_t job_id, uint64_t task);

/* Evolve: a task that begins to run, at the end; false: there is no room. */
bool far_running_add(struct far_running *running, const struct far_sub_running_task *task);
/* Evolve: it differs from what its row says. */
void far_running_touch(struct far_running *running, const struct far_sub_running_task *task);
/* Evolve: write what was changed, and in *node the count and, if none is set, the deadline. */
int far_running_store(struct far_step *step, struct far_running *running, struct far_row_node *node);
/* Evolve: take a task out, if it is there; *node is put by the caller. */
int far_running_drop(struct far_step *step, struct far_row_node *node, uint64_t job_id, uint64_t task);
/* Evolve: each lease there lasts at least until then. */
int far_running_extend(struct far_step *step, const struct far_row_node *node, uint64_t until_ms);
/* Evolve: the deadline is where it should be after a look, or nowhere; *node is put by the caller. */
int far_running_rearm(struct far_step *step, struct far_row_node *node);

/* Bytes of the task's row as they are now; its lease if ret_lease_ms is not NULL. Of a task that does not run nothing changes. */
int far_running_show(struct far_step *step, struct far_row_task *row, uint64_t *ret_lease_ms);

#endif
