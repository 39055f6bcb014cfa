/* Tasks: their rows and what is kept in step with them, who is to do them, and the groups in which they belong together.
 * Internal to src/fsm/. */
#ifndef FAR_FSM_TASK_H
#define FAR_FSM_TASK_H

#include "fsm/job.h"

enum {
    FAR_TASK_FAILURES_MAX = 10,     /* reported failures of one task, then it fails for good */
    FAR_TASK_BACKOFF_MS = 1000,     /* after the first failure, doubling */
    FAR_TASK_BACKOFF_MS_MAX = 60000,
    FAR_TASKS_AT_ONCE_MAX = 256,
    FAR_BUNDLE_LEVEL = 4, /* since then what one report changes is one event, whatever jobs it is of */
};

/* ---- task.c: rows ---- */
/* Carry out a step on a row; rejects what the table does not allow. */
int far_task_apply(struct far_step *step, struct far_row_task *row, const struct far_sub_task_change *change,
                   uint64_t lease_until_ms);
static inline bool far_task_held(const struct far_row_task *row)
{
    return row->state == FAR_task_state_assigned || row->state == FAR_task_state_running;
}
static inline bool far_task_over(const struct far_row_task *row)
{
    return row->state >= FAR_task_state_done;
}
/* Waits for a node and nothing else. */
static inline bool far_task_assignable(const struct far_row_task *row)
{
    return row->state == FAR_task_state_ready && row->retry_ms == 0;
}
/* Evolve: every live lease of tasks and nodes lasts at least until then. */
int far_leases_extend(struct far_step *step, uint64_t until_ms);
/* Evolve: the progress of a report's samples; *node is put by the caller. */
int far_task_samples(struct far_step *step, struct far_row_node *node, const struct far_list *samples, uint64_t lease_until_ms);

/* ---- task_assign.c: nodes that could do something ---- */
struct far_candidate {
    uint64_t node_id;
    uint64_t boot;
    uint64_t site_id;
    uint64_t held; /* tasks, those being assigned in this step included */
    struct far_list adapters; /* names of those it has */
    /* from FAR_SPREAD_LEVEL on (node_load.h), zero before: */
    uint64_t todo_bytes;      /* of what it holds, that being assigned in this step included */
    uint64_t receiving_bytes; /* the same of what it receives */
    uint64_t vault_bytes;
    bool spreads; /* these are counted */
    bool is_drained;
    bool listens; /* it has a data address */
    bool runs_scripts;
};
/* The up node with this id; *ret is NULL if it is not up. */
int far_candidate_node(struct far_step *step, uint64_t node_id, struct far_candidate **ret);
/* The up node of a site that has the adapter (empty: any will do), is not drained and has the least to do, the lowest id among
 * equals; NULL if there is none. Before FAR_SPREAD_LEVEL the least is the fewest tasks. */
int far_candidate_site(struct far_step *step, uint64_t site_id, struct far_slice adapter, struct far_candidate **ret);
/* The same for work of so many bytes on a disk or a workload that the node last_id (0: none) did before: it stays there unless
 * the other has less to do by more than half of that work. Before FAR_SPREAD_LEVEL last_id says nothing. */
int far_candidate_source(struct far_step *step, uint64_t site_id, struct far_slice adapter, uint64_t last_id, uint64_t bytes,
                         struct far_candidate **ret);
/* The up node of a site, not drained, whose vault holds and gets the least; then the one that has the least to do. */
int far_candidate_target(struct far_step *step, uint64_t site_id, struct far_candidate **ret);
/* The up node of a site, not drained, that runs scripts: prefer_id if it is one, else the one that has the least to do. */
int far_candidate_scripts(struct far_step *step, uint64_t site_id, uint64_t prefer_id, struct far_candidate **ret);
/* It gets the task as its row says. */
void far_candidate_add(struct far_step *step, struct far_candidate *node, const struct far_row_task *row);

/* ---- task_group.c: all tasks of one workload in one job ---- */
struct far_changes {
    uint64_t job_id; /* of those that name none */
    struct far_sub_task_change *items;
    size_t count;
    size_t capacity;
    size_t bytes; /* about what they take in an event */
    bool is_mixed; /* items name their jobs (since level 4) */
    const struct far_ev_node_reported *report; /* goes with the next event, as it has no samples; or NULL */
};
enum { FAR_GROUP_TASKS_MAX = 3 + 2 * 60, FAR_CHANGES_MAX = 512 };
struct far_group {
    struct far_group *next; /* of the same work */
    struct far_row_job job;
    struct far_row_workload workload; /* id 0: it was removed since */
    struct far_row_plan plan;         /* of a replication */
    uint64_t workload_id;
    size_t count;
    struct far_row_task *tasks;  /* in the order of their numbers */
    struct far_changes *changes; /* what to emit */
    bool is_sealed;              /* in this step: its point is to be made */
    bool looks_around; /* in this step: a script, or what scripts wait for, came to its end */
    const struct far_list *signals; /* in this step: what the node's detector says of the point that was sealed or judged; or NULL */
    bool was_over;               /* before this step */
};
/* The places of a replication's tasks in its group. */
enum { FAR_AT_FREEZE, FAR_AT_SEAL, FAR_AT_RELEASE, FAR_AT_PAIRS };
static inline size_t far_at_send(size_t disk)
{
    return FAR_AT_PAIRS + 2 * disk;
}
static inline size_t far_at_receive(size_t disk)
{
    return FAR_AT_PAIRS + 2 * disk + 1;
}
int far_changes_new(struct far_step *step, uint64_t job_id, struct far_changes **ret);
/* Emit what has been collected, and the report. */
int far_changes_flush(struct far_step *step, struct far_changes *changes);
/* The number of the first task of this task's group. */
uint64_t far_group_first(const struct far_row_task *task);
/* The group of this task, as the state has it. */
int far_group_load(struct far_step *step, const struct far_row_task *task, struct far_changes *changes,
                   struct far_group **ret_group);
/* Carry out a step on the group's row and collect it for the event. */
int far_group_change(struct far_step *step, struct far_group *g, size_t at, struct far_sub_task_change change);
int far_group_step(struct far_step *step, struct far_group *g, size_t at, uint64_t step_kind);
int far_group_assign(struct far_step *step, struct far_group *g, size_t at, struct far_candidate *node);
int far_group_fail(struct far_step *step, struct far_group *g, size_t at, int klass, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* Next attempt: a lose or retry step. A send and its receive begin a new attempt together. */
int far_group_again(struct far_step *step, struct far_group *g, size_t at, struct far_sub_task_change change);
/* The node reported that the attempt failed: back-off and next attempt, or the end of the task. */
int far_group_failed(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item);

/* ---- job_replicate.c, job_simple.c: what a group does next, and what a finished task means ---- */
int far_replicate_advance(struct far_step *step, struct far_group *g);
int far_replicate_done(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item);
/* What the audit of a send has found until now, also if its attempt comes to nothing: the next one may not find it again. */
int far_replicate_missed(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item);
int far_simple_advance(struct far_step *step, struct far_group *g);
int far_simple_done(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item);
/* ---- task_work.c: what happens to tasks ---- */
/* What the items of a report mean. report: what remains to be emitted of it, by FAR_BUNDLE_LEVEL on and with no samples; NULL: nothing. */
int far_tasks_report(struct far_step *step, const struct far_row_node *node, const struct far_list *items,
                     const struct far_ev_node_reported *report);
/* A new boot of the node: what an earlier one held is lost. */
int far_tasks_lost(struct far_step *step, uint64_t node_id, uint64_t boot);
/* The node is drained: look at the group of each task that it holds again. */
int far_tasks_leave(struct far_step *step, uint64_t node_id);
/* Lose those of the node's running tasks whose leases have ended. */
int far_running_due(struct far_step *step, uint64_t node_id);
int far_task_lease_due(struct far_step *step, uint64_t job_id, uint64_t task);
int far_task_retry_due(struct far_step *step, uint64_t job_id, uint64_t task);
/* Look at the group of each ready task of the job again. */
int far_tasks_assign(struct far_step *step, uint64_t job_id);
/* Look at every group of the job until there is nothing more to do: it has scripts. */
int far_tasks_look_around(struct far_step *step, uint64_t job_id);
/* Look at every group of the job again: it was canceled. */
int far_tasks_cancel(struct far_step *step, uint64_t job_id);

/* ---- point.c ---- */
/* Emit the recovery point of a group whose seal is done. */
int far_point_create(struct far_step *step, const struct far_group *g);
/* signal_score.c: what a node's detector says of a point (struct far_sub_signal, by disk index); NULL or empty: nothing. */
int far_point_score(struct far_step *step, uint64_t point_id, const struct far_list *signals);
/* Emit the result of a verification whose tasks are all over. */
int far_point_verified(struct far_step *step, const struct far_group *g);

#endif
