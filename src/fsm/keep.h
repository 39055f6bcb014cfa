/* The rules of a plan's retention (feature level 4), without the state: of checkpoints given the newest first, which rule keeps each.
 *
 * Grandfather, father, son: the newest n are kept, and the *last* one of each of the newest h hours, d days, w weeks and m months that
 * have any. Hours without a checkpoint do not count, so a plan that rested keeps as much as one that ran. Hours, days, weeks (they
 * begin on Monday) and months are those that the clocks of the plan's time zone show; an hour that comes twice in autumn is one.
 * Pure, any thread. */
#ifndef FAR_FSM_KEEP_H
#define FAR_FSM_KEEP_H

#include "fsm/schema.h"

enum far_keep_rule { FAR_KEEP_LAST, FAR_KEEP_HOURLY, FAR_KEEP_DAILY, FAR_KEEP_WEEKLY, FAR_KEEP_MONTHLY, FAR_KEEP_RULES };
enum { FAR_KEEP_MAX = 10000 }; /* of each rule */

struct far_keep {
    uint64_t counts[FAR_KEEP_RULES];
    struct far_list changes; /* struct far_sub_zone_change; none: UTC */
    /* so far: */
    uint64_t used[FAR_KEEP_RULES];
    uint64_t buckets[FAR_KEEP_RULES]; /* hour, day … of the last one that the rule kept */
};

/* All counts 0: everything is kept. */
bool far_keep_everything(const struct far_keep *keep);
/* The rules that keep the next older checkpoint, as bits; 0: none. counts: it takes the place of a rule; a damaged one does not, or
 * a good one beside it would go for it. */
unsigned far_keep_next(struct far_keep *keep, uint64_t created_ms, bool counts);
/* "last", "hourly" … */
const char *far_keep_name(enum far_keep_rule rule);

#endif
