/* What the agent does when the servers refuse a report. A value; no thread, no clock of its own.
 *
 * - Nobody knows whether it was taken (no leader, a time-out, an I/O error): the same report again, elsewhere, under the same sequence.
 * - It was refused for sure: a probe, a report with nothing in it. Is that refused as well, it is not what is said: for now, the node
 *   waits, longer each time; for good, the servers count this node's reports otherwise than it does, and it begins anew.
 * - The probe is taken: what was in the report goes item by item (reports.h), and who is refused alone is guilty. */
#ifndef FAR_NODE_REFUSALS_H
#define FAR_NODE_REFUSALS_H

#include "base/error.h"

#include <stdint.h>

enum far_verdict {
    FAR_VERDICT_ELSEWHERE, /* ask another server, with the same report */
    FAR_VERDICT_SPLIT,     /* item by item, after a probe */
    FAR_VERDICT_GUILTY,    /* the one item in it */
    FAR_VERDICT_WAIT,      /* send nothing until until_ms, then a probe */
    FAR_VERDICT_GREET,     /* by a new hello they may find together */
    FAR_VERDICT_ANEW,      /* as a new process, which has no orders */
};

struct far_refusals {
    bool probes;       /* the next report is a probe */
    uint64_t pause_ms; /* of the last wait; 0: none since a report was taken */
    uint64_t until_ms; /* nothing is sent before; 0: at once */
};

enum { FAR_REFUSAL_PAUSE_MS = 250, FAR_REFUSAL_PAUSE_MS_MAX = 15000 };

/* is_suspect: it held one item, which was in a report that was refused before; is_empty: nothing. */
enum far_verdict far_refusals_judge(struct far_refusals *refusals, int klass, bool is_suspect, bool is_empty, uint64_t now_ms);
/* A report was taken. */
void far_refusals_over(struct far_refusals *refusals, bool was_probe);

#endif
