/* Leadership: whether another server should lead (DESIGN.md section 5: toward the users, off the witness).
 *
 * A witness hands over to any other voter. Otherwise leadership goes to the server through which clearly most of the users'
 * commands of the last minute or so came. Pure; the caller says how often. */
#ifndef FAR_SERVER_LEADERSHIP_H
#define FAR_SERVER_LEADERSHIP_H

#include "log/log.h"

enum {
    FAR_LEADERSHIP_ASKED_MIN = 50,  /* fewer commands than these say nothing */
    FAR_LEADERSHIP_ASKED_TIMES = 3, /* so many times as many as through the leader */
    FAR_LEADERSHIP_BEHIND_MAX = 64, /* entries; who is further behind would make everybody wait */
};

/* Ids of servers that stand at a witness site. */
struct far_witnesses {
    size_t count;
    uint64_t ids[FAR_LOG_MEMBERS_MAX];
};
bool far_leadership_is_witness(const struct far_witnesses *witnesses, uint64_t id);
/* The server that should lead instead of this one, which leads; 0: none. */
uint64_t far_leadership_choose(const struct far_log_status *status, const struct far_witnesses *witnesses);

#endif
