/* Offers: which adapters the nodes of a site have, and whether they serve a workload.
 *
 * A node tells the names of its adapters with every boot. A workload's adapter "fault:file?rd=5" needs all the names before
 * the settings: `fault` and `file`. A node that names none does not say, and is taken to have every one. */
#ifndef FAR_FSM_OFFER_H
#define FAR_FSM_OFFER_H

#include "fsm/step.h"

/* The names in "name:inner?setting=number&…": what stands before the settings. */
struct far_slice far_offer_name(struct far_slice adapter);
/* Has a node with these adapters all that this one needs? */
bool far_offer_holds(const struct far_list *adapters, struct far_slice adapter);
/* Rejects names of adapters that are none. */
int far_offer_check(struct far_step *step, const struct far_row_node *node, const struct far_list *adapters);
/* Rejects an adapter that no node of the site has; warns where the site has no node that could tell. */
int far_offer_need(struct far_step *step, uint64_t site_id, struct far_slice site, struct far_slice adapter);
/* Warns of a node at either site that have both no data address, once both have booted: neither could call the other. */
int far_offer_warn_silent(struct far_step *step, uint64_t source_site_id, uint64_t target_site_id);
/* Warns of the first workload of a plan that no node of its site can freeze. */
int far_offer_warn(struct far_step *step, uint64_t plan_id);

#endif
