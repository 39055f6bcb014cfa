/* Queries: what servers ask of a state beyond single rows. Read only, pure; slices live in the arena. */
#ifndef FAR_FSM_QUERY_H
#define FAR_FSM_QUERY_H

#include "fsm/fsm.h"
#include "fsm/keep.h"

/* The id of the object with this name in the table (site, node, workload, plan, server); FAR_NOT_FOUND with a message. */
int far_query_id(struct far_state *state, const struct far_schema *table, struct far_slice name, uint64_t *ret_id,
                 struct far_error *err);
/* The time of the earliest deadline, or UINT64_MAX: when the leader has to propose the next tick. */
int far_query_next_deadline(struct far_state *state, uint64_t *ret_time_ms, struct far_error *err);
/* What a node has to do now: every task that it holds, as orders, in the order of (job, task); at most max. */
int far_query_orders(struct far_state *state, uint64_t node_id, size_t max, struct far_arena *arena,
                     struct far_list *ret_orders, struct far_error *err);
/* The same at a cluster time (0: unknown): lease_ms of each is what is left of its lease then; 0: it is over. */
int far_query_orders_at(struct far_state *state, uint64_t node_id, uint64_t now_ms, size_t max, struct far_arena *arena,
                        struct far_list *ret_orders, struct far_error *err);
/* A task's row with the bytes and the lease that its node keeps for it while it runs. */
int far_query_running(struct far_state *state, struct far_row_task *task, struct far_arena *arena, struct far_error *err);
/* Nobody begins this task again: it is done, failed or canceled, or not there any more. */
int far_query_task_over(struct far_state *state, uint64_t job_id, uint64_t task, bool *ret_is_over, struct far_error *err);
/* The token with this SHA-256 if it is good for the purpose at now_ms; FAR_DENIED with the reason otherwise. */
int far_query_token(struct far_state *state, struct far_slice hash, uint64_t purpose, uint64_t now_ms,
                    struct far_arena *arena, struct far_row_token *ret_token, struct far_error *err);
/* Why a task waits for a node: "site 'paris' has no node", "no node … has the adapter 'x'; there are: file", "node 't1', which has
 * the points of this workload, is not up". Empty if it does not. In the arena. */
int far_query_wait(struct far_state *state, const struct far_row_task *task, struct far_arena *arena,
                   struct far_slice *ret_why, struct far_error *err);

/* What a node may send: bytes a second, 0 = as many as it can, 1 = none. */
struct far_node_limits {
    uint64_t node_id;
    uint64_t bytes_per_s;  /* all that it sends: the least of its own limit and its share of its site's */
    struct far_list plans; /* struct far_sub_plan_limit: its share of each limited plan that starts from its site */
};
/* struct far_node_limits of one node (FAR_NOT_FOUND), or with node_id 0 of every node, in the order of their ids. As the log said last
 * (now_ms 0): what servers tell nodes; or as the calendars say at a time. */
int far_query_limits(struct far_state *state, uint64_t node_id, uint64_t now_ms, struct far_arena *arena, struct far_list *ret_limits,
                     struct far_error *err);
/* Is there any bandwidth limit at all? */
int far_query_has_limits(struct far_state *state, bool *ret_has, struct far_error *err);
/* The rate of a limit at a time by its calendar, and when it is another one; 0: never. */
int far_query_throttle(struct far_state *state, const struct far_row_throttle *row, uint64_t now_ms, struct far_arena *arena,
                       uint64_t *ret_bytes_per_s, uint64_t *ret_next_ms, struct far_error *err);

/* A plan as plan_apply would say it, in the arena; its names point into plan's. */
int far_query_plan(struct far_state *state, const struct far_row_plan *plan, struct far_arena *arena, struct far_cmd_plan_apply *ret,
                   struct far_error *err);

/* A version of what a machine was: its row, and its bytes as they were reported (one frame of zstd), in the arena. FAR_NOT_FOUND. */
int far_query_machine_config(struct far_state *state, uint64_t id, struct far_arena *arena, struct far_row_machine_config *ret,
                             struct far_slice *ret_bytes, struct far_error *err);

/* What a resync would read, and about how long that takes. */
struct far_resync_wish {
    uint64_t plan_id;
    uint64_t workload_id;  /* 0: all of the plan */
    struct far_slice disk; /* of that workload; empty: all */
};
struct far_resync_part { /* a workload of the plan, or where one was named a disk of it */
    struct far_slice workload, disk;
    uint64_t disk_count;
    uint64_t bytes;
    uint64_t bytes_per_s; /* at which earlier sends hashed them, all disks together; 0: none was measured */
    uint64_t duration_ms;
    bool is_measured; /* else the size of a disk, or how fast it is read, is not known yet */
};
struct far_resync_estimate {
    uint64_t bytes;
    uint64_t disk_count;
    uint64_t duration_ms;
    bool is_measured; /* else it takes longer by what is not known */
    struct far_resync_part *parts;
    size_t part_count;
};
/* Strings and parts live in the arena. FAR_NOT_FOUND: no such workload or disk in the plan. */
int far_query_resync(struct far_state *state, const struct far_resync_wish *wish, struct far_arena *arena,
                     struct far_resync_estimate *ret_estimate, struct far_error *err);

/* ---- figures of transfers (query_figures.c) ---- */

/* Of what was looked at, the parts that did not have to be sent. */
struct far_saved {
    uint64_t bytes;     /* all: looked at, less sent */
    uint64_t zero;      /* reads as zero */
    uint64_t unchanged; /* as at the point before; of a job: as far as is known, sends that did not get to their end say nothing */
    uint64_t known;     /* the target had it, of whatever disk */
    uint64_t encoding;  /* pages and compression: wanted, less sent */
};
struct far_saved far_saved_of(uint64_t looked_at, uint64_t sent, uint64_t zero, uint64_t known, uint64_t wanted);

struct far_task_figures {
    bool is_known;   /* else its node has said nothing yet, or it transfers nothing */
    bool is_running; /* the rest is of the moment; else only the totals are there */
    uint64_t bytes_read, bytes_zero, bytes_known, bytes_wanted;
    uint64_t window_bytes, streams;
    uint64_t bottleneck;         /* enum far_bottleneck */
    uint64_t bottleneck_node_id; /* 0: none alone */
    uint64_t bytes_per_s;        /* got behind it lately */
    uint64_t sent_bytes_per_s;   /* went on the wire lately */
    uint64_t left_bytes;
    uint64_t left_ms; /* at that rate */
    bool has_left_ms; /* else it cannot be told */
    struct far_saved saved;
};
/* Of a task as far_query_running() shows it. */
int far_query_figures(struct far_state *state, const struct far_row_task *task, struct far_arena *arena, struct far_task_figures *ret,
                      struct far_error *err);

enum { FAR_JOB_TASKS_SEEN_MAX = 4000 }; /* tasks of a running job that are looked at for its figures */
struct far_job_figures {
    bool is_whole; /* else it runs more tasks than are looked at: totals are of what is done, rates of those seen */
    uint64_t bytes_read, bytes_zero, bytes_known, bytes_wanted;
    uint64_t bytes_per_s, sent_bytes_per_s;
    uint64_t left_bytes, left_ms; /* of the sends; in time, all of them or the slowest, whichever is longer */
    bool has_left_ms;
    uint64_t slowest_task, slowest_ms; /* the send that ends last, with its bottleneck; 0: none runs */
    uint64_t bottleneck, bottleneck_node_id;
    struct far_saved saved;
};
int far_query_job_figures(struct far_state *state, const struct far_row_job *job, struct far_job_figures *ret, struct far_error *err);

/* ---- the RPO of plans (query_rpo.c) ---- */

enum { FAR_RPO_REASONS_MAX = 8 };
struct far_rpo_reason {
    const char *code; /* for programs: "stopped", "throttle" … (docs/STATE.md lists them) */
    char text[640];   /* for people */
    uint64_t node_id, workload_id, task; /* what it is about; 0: nothing of the kind */
};
struct far_rpo {
    uint64_t promised_s;  /* 0: nothing is */
    uint64_t newest_ms;   /* when the plan's newest point was frozen: of the newest points of its workloads, the oldest; 0: one has none */
    uint64_t from_ms;     /* the same, or from when on a first point is waited for; 0: neither */
    uint64_t workload_id; /* whose it is */
    uint64_t age_ms;      /* since from_ms */
    uint64_t due_ms;      /* when the promise is broken; 0: never */
    bool is_late;
    uint64_t expected_ms; /* about when the next point comes; 0: it cannot be told */
    struct far_rpo_reason reasons[FAR_RPO_REASONS_MAX]; /* why the next point is not there, the weightiest first */
    size_t reason_count;
};
/* At a cluster time. */
int far_query_rpo(struct far_state *state, uint64_t plan_id, uint64_t now_ms, struct far_rpo *ret, struct far_error *err);
/* ---- the retention of plans (query_retention.c) ---- */

struct far_retention_wish {
    uint64_t plan_id;
    bool is_trial;                      /* by other rules than the plan's: */
    uint64_t counts[FAR_KEEP_RULES];
    uint64_t behind_id;                 /* only checkpoints that are older than this one; 0: all */
    size_t max;
};
struct far_retention_item {
    uint64_t checkpoint_id, created_ms, locked_until_ms;
    unsigned stays; /* why; bits as in expiry.h. 0: it goes */
};
struct far_retention {
    uint64_t counts[FAR_KEEP_RULES]; /* all 0: everything is kept */
    uint64_t zone_id;
    uint64_t kept, going; /* of all */
    struct far_retention_item *items;
    size_t item_count;
    bool more;
};
/* What the rules of a plan make of its checkpoints at a time, the newest first; items live in the arena. */
int far_query_retention(struct far_state *state, const struct far_retention_wish *wish, uint64_t now_ms, struct far_arena *arena,
                        struct far_retention *ret, struct far_error *err);
/* The names of the reasons in the order of their bits: "last" … "newest", "sound", "preserved", "locked", "read"; NULL behind them. */
const char *far_retention_reason(size_t bit);

/* ---- runs (query_run.c) ---- */

/* A position of the boot order. */
struct far_run_turn {
    uint64_t group, position;
    uint64_t begun_ms, ended_ms; /* when its first machine began to come up, and its last one's gates were open; 0: not yet */
    uint64_t slowest_id;         /* the workload that was last */
    uint64_t platform_ms, waited_ms; /* of that */
    uint64_t delay_ms;           /* that was waited behind it as the configuration says */
    uint64_t own_ms;             /* what is left of its time */
};
/* A script, as far as it ran. */
struct far_run_scripted {
    struct far_row_run_script row;
    struct far_sub_script_result result; /* of its last attempt; all zero: there is none yet */
};
struct far_run_loss {
    uint64_t workload_id, point_id;
    uint64_t frozen_at_ms;
    uint64_t lost_ms; /* from the freeze to until_ms; a test: what would have been */
    uint64_t until_ms; /* when the source was written the last time, or was off, or the run began: as much of that as is known */
    bool is_estimate;  /* of lost_ms: it may have been less */
    struct far_row_run_lost told; /* by the source since; job_id 0: it is not asked, the run is no failover */
    uint64_t lost_bytes, extent_count; /* compared: of all its disks */
    struct far_row_run_lost_disk *disks;
    size_t disk_count;
};
struct far_run_report {
    struct far_row_run run;
    uint64_t total_ms; /* from its begin to when all was up, or as far as it came */
    uint64_t down_ms;  /* a migration: since the source was off */
    uint64_t disks_from_ms;
    uint64_t disks_ms; /* disks were written out */
    uint64_t fence_ms; /* and the source was waited for beyond that */
    uint64_t own_ms;   /* of the total: neither inside the platform, nor waiting for gates, delays or the source; disks included */
    uint64_t worst_lost_ms;
    struct far_run_turn *steps; /* in their order; in the arena, as the losses */
    size_t step_count;
    struct far_run_loss *losses;
    size_t loss_count;
    struct far_run_scripted *scripts;
    size_t script_count;
    uint64_t scripts_ms; /* of total_ms: scripts ran, disks and all before them apart */
};
/* FAR_NOT_FOUND: there is no such run. */
int far_query_run_report(struct far_state *state, uint64_t job_id, struct far_arena *arena, struct far_run_report *ret,
                         struct far_error *err);

/* ---- vaults (query_vault.c) ---- */

struct far_forecast {
    bool is_known;         /* else there are too few samples, or they are of less than a day */
    uint64_t bytes_per_day; /* by which it grows; 0: it does not */
    uint64_t full_ms;      /* about when its file system is full; 0: not in sight */
};
/* A line through the samples, by least squares. */
void far_query_forecast(const struct far_list *samples, uint64_t free_bytes, struct far_forecast *ret);
/* The policy that holds for the vault of a node (0: of those without one of their own). */
int far_query_vault_policy(struct far_state *state, uint64_t node_id, struct far_row_vault_policy *ret, struct far_error *err);

/* "12.3 MiB"; room for 32. */
const char *far_rpo_bytes(uint64_t bytes, char text[32]);

#endif
