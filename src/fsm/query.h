/* Queries: what servers ask of a state beyond single rows. Read only, pure; slices live in the arena. */
#ifndef FAR_FSM_QUERY_H
#define FAR_FSM_QUERY_H

#include "fsm/fsm.h"

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

#endif
