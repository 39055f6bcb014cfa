/* A world for tests of the pure core: a state in memory, the events it made, and short ways to command it. Failing
 * assumptions end the test by cmocka's asserts. */
#ifndef FAR_TESTS_LIB_FSM_WORLD_H
#define FAR_TESTS_LIB_FSM_WORLD_H

#include "fsm/fsm.h"
#include "fsm/kv_memory.h"
#include "fsm/query.h"
#include "fsm/rows.h"

#include <stdio.h>

struct world {
    struct far_state state;
    struct far_arena arena; /* what queries return; reset by the test when it likes */
    struct far_buf log;     /* recorded events: struct far_event with its payload behind it */
    uint64_t events;
    uint64_t index;
    uint64_t now_ms;
    uint64_t level; /* that world_cluster() raises the cluster to; 0 = the newest */
    uint64_t actor; /* of the next command; 0 = the administrator's token */
    uint8_t id[16]; /* of the next command; zero = not remembered; used once */
    struct far_result result;
    struct far_error err;
    uint64_t sequence[16]; /* of nodes, by id modulo 16 */
    bool lists;            /* the platform keeps lists of changes: world_work() reports tokens, and audits as it is told */
    uint64_t machine;      /* the platform has machines: freezes report this version of theirs, of so many bytes; 0: it has none */
    FILE *transcript;      /* every command and event as a line of text; NULL = none */
    bool check_fold;       /* keep a second state that only evolves */
    struct far_state fold;
    struct far_rows *rows; /* on state.kv, owned: commands are applied on them, then flushed; NULL = none */
};

void world_init(struct world *w);
void world_done(struct world *w);
/* Apply and return the class of the result; the store must not fail. */
int world_apply(struct world *w, const struct far_schema *schema, const void *command);
#define APPLY(w, name, ...) \
    world_apply(w, &far_schema_cmd_##name, &(struct far_cmd_##name){__VA_ARGS__})
/* The same, and it must be accepted; returns the object's id. */
uint64_t world_must(struct world *w, const struct far_schema *schema, const void *command);
#define MUST(w, name, ...) world_must(w, &far_schema_cmd_##name, &(struct far_cmd_##name){__VA_ARGS__})
#define S(text) far_slice_str(text)

/* A cluster "c" with sites "paris" (protected), "lyon" (recovery) and "nice" (witness). */
void world_cluster(struct world *w);
/* A joined and booted node; returns its id. */
uint64_t world_node(struct world *w, const char *name, const char *site);
uint64_t world_boot(struct world *w, uint64_t node_id, uint8_t nonce);
/* A workload "name" of so many disks at paris. */
uint64_t world_workload(struct world *w, const char *name, size_t disks);
/* A plan from paris to lyon. */
uint64_t world_plan(struct world *w, const char *name, const char *const *workloads, size_t count);
/* Let the time pass and tick until nothing is due. */
void world_pass(struct world *w, uint64_t ms);

struct far_row_node world_row_node(struct world *w, uint64_t id);
struct far_row_job world_row_job(struct world *w, uint64_t id);
struct far_row_task world_row_task(struct world *w, uint64_t job_id, uint64_t task);
struct far_row_plan world_row_plan(struct world *w, uint64_t id);
struct far_row_workload world_row_workload(struct world *w, uint64_t id);
struct far_row_point world_row_point(struct world *w, uint64_t id);
struct far_row_checkpoint world_row_checkpoint(struct world *w, uint64_t id);
struct far_row_server world_row_server(struct world *w, uint64_t id);

/* Report on one task as its node would: the item's job, task and attempt are taken from the row. */
int world_report(struct world *w, const struct far_row_task *task, struct far_sub_report_item item);
/* Report success of whatever the node holds, with matching roots; returns how many items. */
size_t world_work(struct world *w, uint64_t node_id);
/* The same, but for tasks of this kind. */
size_t world_work_but(struct world *w, uint64_t node_id, uint64_t kind);
/* Work on all nodes until nobody holds anything; returns the rounds. */
size_t world_work_all(struct world *w, const uint64_t *nodes, size_t count);
/* Invariants, the digest from the bytes, and the fold of the events must all agree. */
void world_verify(struct world *w);

#endif
