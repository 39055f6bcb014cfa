/* Orders: from the message of a server to the plain structs of the data-plane engine. Pure, any thread. */
#ifndef FAR_NODE_ORDERS_H
#define FAR_NODE_ORDERS_H

#include "base/arena.h"
#include "dataplane/engine.h"
#include "fsm/schema.h"

/* Fill *ret_order; its strings and lists live in arena. FAR_INVALID: a field that the engine needs is not well formed. */
int far_orders_convert(const struct far_sub_order *order, struct far_arena *arena, struct far_engine_order *ret_order,
                       struct far_error *err);

#endif
