/* The state machines: for every command a decide, for every event an evolve, generated from events.def, so that none
 * can be forgotten; and what their files ask of each other. Internal to src/fsm/. */
#ifndef FAR_FSM_MACHINES_H
#define FAR_FSM_MACHINES_H

#include "fsm/step.h"

/* int far_decide_site_create(struct far_step *, const struct far_cmd_site_create *); …
 * int far_evolve_site_created(struct far_step *, const struct far_ev_site_created *); … */
#include "fsm/schema_nofields.h"
#define FAR_ENUM_BEGIN(name)
#define FAR_VALUE(owner, number, name)
#define FAR_ENUM_END(name)
#define FAR_MACHINE_sub(name)
#define FAR_MACHINE_row(name)
#define FAR_MACHINE_msg(name)
#define FAR_MACHINE_cmd(name) int far_decide_##name(struct far_step *step, const struct far_cmd_##name *cmd);
#define FAR_MACHINE_ev(name) int far_evolve_##name(struct far_step *step, const struct far_ev_##name *ev);
#define FAR_BEGIN(klass, name, kind, version) FAR_MACHINE_##klass(name)
#include "fsm/events.def"
#include "fsm/schema_undef.h"
#undef FAR_MACHINE_cmd
#undef FAR_MACHINE_ev

/* ---- cluster.c ---- */
enum { FAR_LEASE_MS_DEFAULT = 15000 };
/* Rejects as long as there is no cluster. */
int far_cluster_need(struct far_step *step);
/* When a lease given now ends. */
int far_lease_until(struct far_step *step, uint64_t *ret_until_ms);

/* ---- server.c ---- */
int far_server_is_witness(struct far_step *step, const struct far_row_server *row, bool *ret_is_witness);

/* ---- level.c ---- */
/* Rejects a command that the cluster's feature level does not have yet. */
int far_level_admit(struct far_step *step, const struct far_schema *schema, const void *command);
/* Whether the cluster has reached this level: for a decide that may emit something of it. */
int far_level_has(struct far_step *step, uint64_t level, bool *ret_has);
/* An event of a level that the cluster has not reached is a broken invariant. */
int far_level_emit(struct far_step *step, const struct far_schema *schema, const void *event);

/* ---- deadline.c ---- */
/* Moves a deadline from one time to another; 0 = none. */
int far_deadline_move(struct far_step *step, uint64_t kind, uint64_t object_id, uint64_t part, uint64_t from_ms,
                      uint64_t to_ms);

/* ---- command_memory.c ---- */
enum { FAR_MEMORY_COMMANDS_MAX = 100000 };
#define FAR_MEMORY_MS_MAX (24ull * 3600 * 1000)
uint64_t far_memory_body_hash(const struct far_command *command);
/* Looks the command up: *ret_row.seq is 0 if it is new; a known id with another body is rejected. */
int far_memory_find(struct far_step *step, const struct far_command *command, struct far_row_command *ret_row);
int far_memory_keep(struct far_step *step, const struct far_command *command);
int far_memory_due(struct far_step *step, uint64_t actor);

/* ---- token.c ---- */
/* A join token that is good for this name now; rejects with the reason otherwise. */
int far_token_for_join(struct far_step *step, struct far_slice hash, uint64_t purpose, struct far_slice name,
                       struct far_row_token *ret_token);
int far_token_use(struct far_step *step, struct far_slice hash);
int far_token_due(struct far_step *step, uint64_t token_id);
/* Why this token is no good, or NULL. */
const char *far_token_fault(const struct far_row_token *token, uint64_t purpose, uint64_t now_ms);

/* ---- server_key.c ---- */
/* The key that the server has in use; FAR_NOT_FOUND without a rejection. */
int far_server_key_find(struct far_step *step, uint64_t server_id, struct far_row_server_key *ret_row);

/* ---- plan_members.c ---- */
/* The plan's next workload; the first one after far_key_id() of the plan. FAR_NOT_FOUND, without a rejection: there is no other. */
int far_plan_member_next(struct far_step *step, uint64_t plan_id, struct far_key *key, struct far_row_plan_workload *ret);

/* ---- state_clock.c ---- */
/* Does a deadline of this kind wait until the clocks can be believed? */
bool far_clock_waits(const struct far_row_progress *progress, uint64_t deadline_kind);
/* Rejects a time before the one of the state. */
int far_clock_move(struct far_step *step, uint64_t time_ms);

#endif
