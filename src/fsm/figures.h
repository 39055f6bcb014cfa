/* How transfers go: the figures that nodes report of sends and receives that run, a few rows a node and job, written only where a
 * report changes them (feature level 4). What went lately is kept with them, in cluster time, so every server tells the same rate.
 *
 * Figures are here from the first report that has any until nobody holds the task; totals of what is done are in the task's row.
 * Reports without figures cost nothing. Internal to src/fsm/. */
#ifndef FAR_FSM_FIGURES_H
#define FAR_FSM_FIGURES_H

#include "fsm/machines.h"

enum {
    FAR_FIGURES_TASKS = 24, /* tasks of a job whose figures share a row; at most half of them transfer at one node */
    FAR_FIGURES_PART = 12,  /* figures in a row; beyond, there are none */
};

/* The row at hand while samples are taken, which come job by job; all zero at first. */
struct far_figures {
    struct far_key key; /* len 0: none */
    struct far_sub_running_figures items[FAR_FIGURES_PART];
    size_t count;
    bool is_changed;
};

/* Evolve: a report with figures; done_before and sent_before: the task's bytes until now. */
int far_figures_take(struct far_step *step, struct far_figures *figures, uint64_t node_id, const struct far_sub_sample *sample,
                     uint64_t done_before, uint64_t sent_before);
/* Evolve: write what is changed of the row at hand. */
int far_figures_flush(struct far_step *step, struct far_figures *figures);
/* Evolve: the node does not hold the task any more. */
int far_figures_drop(struct far_step *step, uint64_t node_id, const struct far_row_task *task);
/* FAR_NOT_FOUND without a rejection: nothing was said. */
int far_figures_find(struct far_step *step, const struct far_row_task *task, struct far_sub_running_figures *ret);

struct far_task_figures;
/* See far_query_figures(). */
int far_figures_show(struct far_step *step, const struct far_row_task *task, struct far_task_figures *ret);

#endif
