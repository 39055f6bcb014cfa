/* Reports: what the engine said and the servers have not confirmed yet.
 *
 * The engine's threads put reports in; the agent's thread takes batches out. One entry a (job, task): a newer report
 * of the same attempt replaces an older `running` one, an end (done, failed) stays until it is confirmed. A batch that
 * was taken is frozen under its sequence number until the servers answer, so that a repeat has the same body. */
#ifndef FAR_NODE_REPORTS_H
#define FAR_NODE_REPORTS_H

#include "base/buf.h"
#include "dataplane/engine.h"

struct far_reports;

/* A batch holds at most so many items, and so many bytes: it becomes one command (FAR_COMMAND_PAYLOAD_MAX). */
enum { FAR_REPORTS_MAX = 1024, FAR_REPORT_BATCH_MAX = 200, FAR_REPORT_BATCH_BYTES = 60 * 1024 };

/* Which attempt an item of a batch spoke of. */
struct far_report_key {
    uint64_t job_id;
    uint64_t task;
    uint64_t attempt;
    bool ended; /* it spoke of the attempt's end */
};

int far_reports_new(struct far_reports **ret_reports, struct far_error *err);
void far_reports_free(struct far_reports *reports); /* NULL is allowed */

/* Any thread. FAR_LIMIT: FAR_REPORTS_MAX tasks have reports that are not confirmed. */
int far_reports_put(struct far_reports *reports, const struct far_engine_report *report, bool *ret_urgent);
/* Forget what is known of an attempt that no longer holds (and older ones). */
void far_reports_drop(struct far_reports *reports, uint64_t job_id, uint64_t task, uint64_t attempt);
/* The same, but an end that was reached is still told: its lease ran out on the way, the servers judge. */
void far_reports_drop_running(struct far_reports *reports, uint64_t job_id, uint64_t task, uint64_t attempt);
/* Is there an end, or a first report of an attempt, that has not been sent? */
bool far_reports_urgent(struct far_reports *reports);
/* Append a `report` message with this sequence to out: what is new, as far as one batch holds it. ret_keys has room for
 * FAR_REPORT_BATCH_MAX. On failure nothing counts as taken. */
int far_reports_take(struct far_reports *reports, uint64_t sequence, struct far_buf *out,
                     struct far_report_key *ret_keys, size_t *ret_count, struct far_error *err);
/* The batch that was taken last is confirmed: ends in it are forgotten. */
void far_reports_confirm(struct far_reports *reports);
/* The node got a new boot number: everything is forgotten. */
void far_reports_clear(struct far_reports *reports);

#endif
