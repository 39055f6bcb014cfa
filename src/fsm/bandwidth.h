/* Bandwidth limits and the time zones of their calendars: what their files ask of each other, and others of them. Internal to
 * src/fsm/, but for queries. */
#ifndef FAR_FSM_BANDWIDTH_H
#define FAR_FSM_BANDWIDTH_H

#include "fsm/calendar.h"
#include "fsm/machines.h"

enum { FAR_THROTTLE_LEVEL = 4, FAR_THROTTLES_MAX = 1000 /* limits in a cluster */ };

/* ---- bandwidth.c ---- */
/* The rate of a limit at a time, and when it is another one (0: never), by its calendar. */
int far_throttle_at(struct far_step *step, const struct far_row_throttle *row, uint64_t time_ms, uint64_t *ret_bytes_per_s,
                    uint64_t *ret_next_ms);
/* Its deadline. */
int far_throttle_due(struct far_step *step, uint64_t id);
/* Evolve: each limit that goes by this zone is looked at by the next tick. */
int far_throttles_recheck(struct far_step *step, uint64_t zone_id);
/* Evolve: the node, plan or site with this id is gone, and its limit with it. */
int far_throttle_gone(struct far_step *step, uint64_t id);

#endif
