/* Runs of plans (feature level 4): test recovery, failover, migration; see run_begin.c. What its files ask of each other, and what
 * others ask of them. Internal to src/fsm/. */
#ifndef FAR_FSM_RUN_H
#define FAR_FSM_RUN_H

#include "fsm/task.h"

enum { FAR_RUN_MEMBERS_MAX = 256, FAR_RUN_PATH_MAX = 200, FAR_RUN_REF_MAX = 64 };

/* Inputs of the run's table: the phases that it enters (begun, syncing, …, done), then commands. */
enum far_run_input {
    FAR_RUN_BEGIN,
    FAR_RUN_DONE = 10,
    FAR_RUN_FINISH,
    FAR_RUN_ABANDON,
    FAR_RUN_COMMIT,
    FAR_RUN_ROLL_BACK,
    FAR_RUN_PASS,
    FAR_RUN_RETRY,
};
extern const struct far_table far_table_run;

/* A run with its members, as the state has it. */
struct far_run {
    struct far_row_run row;
    struct far_row_job job;
    struct far_row_run_member *members; /* by workload id */
    size_t count;
    struct far_row_run_script *scripts; /* row.script_count, in the order in which they run */
    uint64_t wake_ms;  /* what the look at it found: when to look again; 0: when something happens */
    char problem[400]; /* and what holds it */
};

/* ---- run_begin.c ---- */
/* All zero if there is none. */
int far_run_find(struct far_step *step, uint64_t job_id, struct far_row_run *ret);
int far_run_load(struct far_step *step, uint64_t job_id, struct far_run *ret);
/* Decide: somebody cancels its job. */
int far_run_cancel(struct far_step *step, uint64_t job_id);
/* Decide: it enters this phase; what the phase has no use for ends. */
int far_run_enter(struct far_step *step, const struct far_row_run *run, uint64_t phase, uint64_t end, bool abandoned);
/* Rejects while a run of the plan goes on, or since all its machines are at the recovery site. */
int far_run_plan_free(struct far_step *step, const struct far_row_plan *plan);
/* What became of its job. */
int far_run_outcome(struct far_step *step, const struct far_row_job *job, uint64_t *ret_state);

/* ---- plan_moved.c ---- */
/* When the run is over and was committed: is its machine at the recovery site? */
bool far_run_has_moved(const struct far_row_run_member *m);

/* ---- run_points.c ---- */
/* Decide: who takes part, and from which points of which checkpoint. names: none = all; checkpoint_id 0: the newest that will do. */
struct far_run_pick {
    uint64_t job_id;
    bool is_test;
    struct far_sub_run_member *items;
    size_t count;
    size_t usable; /* of them: they are not left out */
    uint64_t checkpoint_id;
};
int far_run_list(struct far_step *step, const struct far_row_plan *plan, const struct far_list *names, struct far_run_pick *ret);
int far_run_choose(struct far_step *step, const struct far_row_plan *plan, uint64_t checkpoint_id, struct far_run_pick *pick);
/* How the machine of a point is to come up; all zero: as it was at the source. */
int far_run_recovery(struct far_step *step, uint64_t recovery_id, struct far_sub_recovery *ret);
bool far_run_leaves_disk(const struct far_sub_recovery *config, struct far_slice disk);
/* image_format of the disks that it comes up with: what is set, else qcow2 where its platform keeps lists of changes in that. */
uint64_t far_run_format(const struct far_row_workload *workload, const struct far_sub_recovery *config);
/* "run-<job>/<workload>/<disk>.raw", or .qcow2 */
int far_run_path(struct far_step *step, uint64_t job_id, struct far_slice workload, struct far_slice disk, uint64_t format,
                 struct far_slice *ret);
/* A migration: so long its machines will be down, by what cycles and disks are like. */
int far_run_forecast(struct far_step *step, const struct far_row_plan *plan, const struct far_run_pick *pick, uint64_t *ret_ms);

/* ---- run_walk.c ---- */
/* Decide: the next things to do. */
int far_run_next(struct far_step *step, uint64_t job_id);
/* Decide: a cycle of the plan is over. */
int far_run_cycle_over(struct far_step *step, uint64_t plan_id);
int far_run_due(struct far_step *step, uint64_t job_id);
/* Has its phase still use for this task? */
int far_run_wants(struct far_step *step, const struct far_row_job *job, const struct far_row_task *task, bool *ret_wants);
/* Which node may do it now; NULL: none that is up. FAR_NOT_FOUND: the one that only could was removed. */
int far_run_node(struct far_step *step, const struct far_row_job *job, const struct far_row_task *task, struct far_candidate **ret);

/* ---- run_rows.c: evolve ---- */
/* Operations that go on beside whatever else is done with the machine: those of the source, and hydrate. */
bool far_run_is_beside(uint64_t operation);
int far_run_task_made(struct far_step *step, const struct far_row_job *job, const struct far_sub_task_new *item);
int far_run_task_over(struct far_step *step, const struct far_row_job *job, const struct far_row_task *row,
                      const struct far_sub_task_change *change);
int far_run_pruned(struct far_step *step, const struct far_row_job *job);
/* The next disk of the machines of a run behind *key, which moves on; FAR_NOT_FOUND behind the last. */
int far_run_disk_next(struct far_step *step, uint64_t job_id, struct far_key *key, struct far_row_run_disk *ret);

/* ---- run_scripts.c ---- */
/* Decide: the scripts that the plan has for recoveries of these become those of the run. */
int far_run_scripts_begin(struct far_step *step, uint64_t plan_id, const struct far_run_pick *pick);
int far_run_scripts_load(struct far_step *step, struct far_run *run);
/* Of this place (workload_id 0: the whole plan): are all over? */
bool far_run_scripts_over(const struct far_run *run, uint64_t workload_id, uint64_t phase);
/* The same, and the task that is to be made for the next one; one that failed is the run's problem. */
int far_run_scripts_next(struct far_step *step, struct far_run *run, uint64_t workload_id, uint64_t phase,
                         struct far_sub_task_new *ret_task, bool *ret_begins, bool *ret_is_over);
int far_run_script_wanted(struct far_step *step, const struct far_row_run *run, const struct far_row_task *task, bool *ret_wants);
/* What a person changes: those that failed are tried again, or those that failed or run are gone on without; of one place, or any.
 * ret has room for all; returns how many. */
size_t far_run_scripts_held(const struct far_run *run, uint64_t workload_id, bool is_any, bool is_failed, struct far_sub_run_change *ret);
/* Evolve. */
int far_run_script_change(struct far_step *step, uint64_t job_id, const struct far_sub_run_change *item);
int far_run_script_made(struct far_step *step, const struct far_row_job *job, const struct far_sub_task_new *item);
int far_run_script_over(struct far_step *step, const struct far_row_task *task);
int far_run_scripts_pruned(struct far_step *step, uint64_t job_id);

/* ---- run_order.c ---- */
int far_run_order(struct far_step *step, const struct far_row_job *job, const struct far_row_task *task, struct far_sub_order *order);

#endif
