/* What the files of the reports share: the table. For reports*.c only. */
#ifndef FAR_NODE_REPORTS_PRIVATE_H
#define FAR_NODE_REPORTS_PRIVATE_H

#include "node/reports.h"

#include <pthread.h>

/* What is left out because the servers refused it, for good. */
enum far_report_cut { FAR_CUT_NOTHING, FAR_CUT_BARE, FAR_CUT_ALL };

struct far_report_entry {
    bool used;
    bool fresh;    /* changed since it was last taken */
    bool urgent;   /* a transition that nobody has been told */
    bool in_batch; /* part of the batch that waits for its confirmation */
    struct far_engine_report report;
    struct far_engine_found *found; /* owned copy of report.disks */
    /* Refusals, of this attempt: */
    bool suspect; /* it was in a batch that was refused: it goes alone */
    enum far_report_cut cut;
    bool is_end_cut;   /* the report is a failure in place of a result that was refused */
    unsigned refusals; /* of it alone, until later; one after the other */
    uint64_t hold_ms;  /* not before (monotonic); 0: at once */
};

struct far_reports {
    pthread_mutex_t mutex;
    struct far_report_entry entries[FAR_REPORTS_MAX];
    size_t suspect_at;     /* where the next suspect is looked for */
    bool is_suspects_turn; /* the last batch was theirs, if one was due */
};

/* The mutex is held. */
void far_report_entry_clear(struct far_report_entry *entry);
struct far_report_entry *far_report_find(struct far_reports *reports, uint64_t job_id, uint64_t task,
                                         struct far_report_entry **ret_unused);
/* Nothing is left but how far it is, or that and why it failed. */
void far_report_strip(struct far_report_entry *entry);

#endif
