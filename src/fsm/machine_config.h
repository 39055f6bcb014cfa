/* Captured configurations: what the machine of a workload was, as its platform says it, so that a recovered one is what it was when the
 * point was made.
 *
 * A freeze reports it when it is another than the newest that the log knows, which its order names by hash. Each is a version, rows that
 * never change but for who names them: the workload the newest, a point the one of when it was made. It goes when nobody names it any more.
 * The bytes are the node's affair (text of the platform's own, compressed); they are never looked at here. Internal to src/fsm/. */
#ifndef FAR_FSM_MACHINE_CONFIG_H
#define FAR_FSM_MACHINE_CONFIG_H

#include "fsm/task.h"

/* What it may be long, compressed; and how much of it a row holds. */
enum { FAR_MACHINE_CONFIG_BYTES_MAX = 24576, FAR_MACHINE_CONFIG_PART_BYTES = 1700 };

/* Decide: a freeze is done and says this of the machine. From feature level 4 on. */
int far_machine_config_seen(struct far_step *step, const struct far_group *g, const struct far_sub_report_item *item);
/* What it is, all zero if there is none; and its bytes, in the step's memory: empty for 0. */
int far_machine_config_find(struct far_step *step, uint64_t id, struct far_row_machine_config *ret);
int far_machine_config_bytes(struct far_step *step, uint64_t id, struct far_slice *ret_bytes);
/* Evolve: a point names it, or is removed; the workload is removed. 0: there is none. */
int far_machine_config_hold(struct far_step *step, uint64_t id);
int far_machine_config_let_go(struct far_step *step, uint64_t id);
int far_machine_config_end(struct far_step *step, uint64_t id);

#endif
