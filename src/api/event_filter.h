/* Which events a stream wants: by kind, severity, and what they are about. Values; the API thread. */
#ifndef FAR_API_EVENT_FILTER_H
#define FAR_API_EVENT_FILTER_H

#include "api/event_text.h"
#include "api/route.h"

enum { FAR_EVENT_KINDS_MAX = 1024 };

struct far_event_filter {
    bool has_kinds;
    bool kinds[FAR_EVENT_KINDS_MAX];
    uint64_t severity_min; /* 0: all */
    /* Ids; 0: all. subject: an object that the event itself names. plan, site: of whatever it names, too. */
    uint64_t subject_id, plan_id, site_id;
};

/* From the arguments of a query, names looked up in the state. FAR_INVALID, FAR_NOT_FOUND with a message. */
int far_event_filter_init(struct far_event_filter *filter, const struct far_query *query, struct far_state *state,
                          struct far_error *err);
/* Does the event pass? Acknowledgements of consumers never do. Fails when the state cannot be read. */
int far_event_filter_passes(const struct far_event_filter *filter, struct far_event_text *text, struct far_state *state,
                            bool *ret_passes, struct far_error *err);

#endif
