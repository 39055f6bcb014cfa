/* Dedup domains: what plans, points and reports ask of dedup_domain.c. Internal to src/fsm/. */
#ifndef FAR_FSM_DEDUP_DOMAIN_H
#define FAR_FSM_DEDUP_DOMAIN_H

#include "fsm/machines.h"

enum { FAR_DEDUP_DOMAINS_MAX = 200, FAR_DOMAIN_GENERATIONS_KEPT = 16 };

/* The domain that a new plan is in: named, the default one, or 0. Rejects one that is not there, or destroyed. */
int far_domain_of_plan(struct far_step *step, struct far_slice name, uint64_t *ret_id);
/* In evolve: so many plans or points more (or less) are in it; 0: the plain one, nothing. */
int far_domain_plans(struct far_step *step, uint64_t domain_id, int delta);
int far_domain_points(struct far_step *step, uint64_t domain_id, int delta);
/* In evolve: a point in it is locked until then. */
int far_domain_lock(struct far_step *step, uint64_t domain_id, uint64_t until_ms);
/* In evolve: the node is removed, and its vault with it. */
int far_domain_node_gone(struct far_step *step, uint64_t node_id);
/* In decide: a node's report says that its vault has erased a destroyed domain. */
int far_domain_erased(struct far_step *step, uint64_t node_id, uint64_t domain_id);
/* In decide: a node's report says with which generation its vault is sealed. */
int far_domain_seen(struct far_step *step, uint64_t node_id, uint64_t domain_id, uint64_t generation);

#endif
