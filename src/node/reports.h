/* Reports: what the engine said and the servers have not confirmed yet.
 *
 * The engine's threads put reports in; the agent's thread takes batches out. One entry a (job, task): a newer report
 * of the same attempt replaces an older `running` one, an end (done, failed) stays until it is confirmed. A batch that
 * was taken is frozen under its sequence number until the servers answer, so that a repeat has the same body. */
#ifndef FAR_NODE_REPORTS_H
#define FAR_NODE_REPORTS_H

#include "base/buf.h"
#include "dataplane/engine.h"
#include "fsm/schema.h"

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
/* Is there an end, or a first report of an attempt, that has not been sent, and may be now (monotonic)? */
bool far_reports_urgent(struct far_reports *reports, uint64_t now_ms);
/* A batch that is to be taken. */
struct far_report_batch {
    uint64_t sequence;
    uint64_t now_ms;      /* monotonic */
    bool is_probe;        /* with nothing in it: is it what is said that the servers refuse, or who says it? */
    struct far_list kept; /* struct far_sub_order_key, asked about with it: which of them are over? */
    /* Filled in: */
    struct far_report_key keys[FAR_REPORT_BATCH_MAX];
    size_t count;
    bool is_suspect; /* one item, of a batch that was refused */
};
/* Append a `report` message with this sequence to out: what is new, as far as one batch holds it. What was refused together goes one by
 * one, each time with a batch of all others in between. On failure nothing counts as taken, and what was to be in it goes one by one. */
int far_reports_take(struct far_reports *reports, struct far_report_batch *batch, struct far_buf *out, struct far_error *err);
/* The batch that was taken last is confirmed: ends in it are forgotten. */
void far_reports_confirm(struct far_reports *reports);
/* It was refused as a whole: what was in it is news again. */
void far_reports_split(struct far_reports *reports);

/* What became of an item that was refused alone. */
enum far_refused {
    FAR_REFUSED_NOTHING, /* something newer took its place meanwhile */
    FAR_REFUSED_LATER,   /* it is sent again after a pause, which grows */
    FAR_REFUSED_CUT,     /* without what it told: a result becomes a failure that says why, progress is bare from now on */
    FAR_REFUSED_DROPPED, /* not even that was taken: nothing is said of this attempt any more */
};
/* The batch that was taken last held this alone, and was refused with this class: for good, or until later. */
enum far_refused far_reports_refuse(struct far_reports *reports, const struct far_report_key *key, int klass, const char *message,
                                    uint64_t now_ms);
/* The node got a new boot number: everything is forgotten. */
void far_reports_clear(struct far_reports *reports);

#endif
