/* Alerts: what a person has to know until it is over (alert.c has the table). Internal to src/fsm/.
 *
 * Whoever sees a cause raises its alert, again and again if need be, and clears it when the cause is gone; both may be called at
 * any time and in any order. There is one open alert for each kind and object. Below feature level 4 there are none. */
#ifndef FAR_FSM_ALERT_H
#define FAR_FSM_ALERT_H

#include "fsm/machines.h"

enum {
    FAR_ALERTS_OPEN_MAX = 50000,   /* beyond, none is raised: the events of the causes are in the log all the same */
    FAR_ALERTS_CLEARED_MAX = 1000, /* kept after their cause went; beyond, the oldest is forgotten */
    FAR_ALERT_REPEAT_MS = 60000,   /* a cause that shows again within this time says nothing new */
};

struct far_alert_cause {
    uint64_t kind;      /* enum far_alert_kind */
    uint64_t object_id; /* with the kind: which alert it is */
    uint64_t plan_id;   /* whom it concerns, for lists and streams; 0: none */
    uint64_t workload_id;
    uint64_t disk_id;
};

/* decide: raise the alert of this cause, or count it once more. The message is for the operator: what is wrong, on what, what to do. */
int far_alert_raise(struct far_step *step, const struct far_alert_cause *cause, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* decide: the cause is gone (or its object); without an open alert nothing happens. */
int far_alert_clear(struct far_step *step, uint64_t kind, uint64_t object_id);
/* The open alert of a cause; FAR_NOT_FOUND without a rejection. */
int far_alert_find(struct far_step *step, uint64_t kind, uint64_t object_id, struct far_row_alert *ret_row);

#endif
