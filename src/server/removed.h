/* Which servers the state says are removed, and whom to ask instead of them. Pure reads of a state, any thread. */
#ifndef FAR_SERVER_REMOVED_H
#define FAR_SERVER_REMOVED_H

#include "log/log.h"

enum { FAR_REMOVED_MAX = 256 }; /* the newest; an older one that still runs is refused as a stranger is */

struct far_removed {
    size_t count;
    uint64_t ids[FAR_REMOVED_MAX];
    char ask[FAR_LOG_REMOVED_ASK_MAX]; /* API addresses of the servers that are not removed, separated by commas */
};
int far_removed_look(struct far_state *state, struct far_removed *ret_removed, struct far_error *err);
bool far_removed_has(const struct far_removed *removed, uint64_t id);

#endif
