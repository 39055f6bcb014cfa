/* What each node has to do and what its vault holds, counted in its row, since FAR_SPREAD_LEVEL: so the choice of a node (task_assign.c)
 * reads nothing else. Evolve keeps the counts in step; when the cluster reaches the level, everything is counted once. Internal to
 * src/fsm/. */
#ifndef FAR_FSM_NODE_LOAD_H
#define FAR_FSM_NODE_LOAD_H

#include "fsm/step.h"

enum { FAR_SPREAD_LEVEL = 4 }; /* work is spread by bytes, nodes are drained, views survive their node */

int far_level_spreads(struct far_step *step, bool *ret_spreads);

/* Bytes of a task that are still to be done, if a node holds it: its size as long as nothing else was said. Bytes of what runs are
 * those of its node's rows (far_running_show()). */
uint64_t far_task_todo(const struct far_row_task *row);
/* The size of what it receives. */
uint64_t far_task_receiving(const struct far_row_task *row);

/* Evolve: the node, whose row the caller puts, begins or ceases to hold a task. */
int far_node_load_hold(struct far_step *step, struct far_row_node *node, const struct far_row_task *row, bool is_held);
/* Evolve: what the node holds of one task went from so many bytes to so many. */
void far_node_load_progress(struct far_row_node *node, uint64_t before_bytes, uint64_t after_bytes);
/* The sizes of the workload's disks as last proven, together; 0 before FAR_SPREAD_LEVEL. */
int far_workload_size(struct far_step *step, const struct far_row_workload *workload, uint64_t *ret_bytes);
/* Evolve: the workload's row and disks are about to change, or have changed: its bytes leave, or get into, its target's vault. */
int far_node_vault_leave(struct far_step *step, const struct far_row_workload *workload);
int far_node_vault_enter(struct far_step *step, const struct far_row_workload *workload);
/* Evolve: a point was made in the node's vault, or removed from it. */
int far_node_points(struct far_step *step, uint64_t node_id, int delta);
/* Evolve: the cluster reaches FAR_SPREAD_LEVEL. */
int far_node_load_count(struct far_step *step);

#endif
