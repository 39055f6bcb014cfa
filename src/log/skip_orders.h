/* Who had an entry skipped: orders of operators, kept in the file `skip-orders` of the log's folder until the log has them.
 *
 * A server in safe mode (safe.h) can propose nothing, and the event that stands in the place of the skipped entry is made by every
 * server by itself, so it cannot say who wanted it. The server that was told keeps it here, durable before the instruction itself,
 * and proposes it as a command (entry_skip_order) when it is past the entry. A file that cannot be read is one that says nothing, and an
 * order that cannot be kept keeps no cluster from being rescued. Core thread. */
#ifndef FAR_LOG_SKIP_ORDERS_H
#define FAR_LOG_SKIP_ORDERS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FAR_SKIP_ORDERS_MAX = 16, FAR_SKIP_NAME_MAX = 63, FAR_SKIP_REASON_MAX = 400 };

struct far_skip_order {
    uint64_t index;
    uint64_t hash; /* XXH3-64 of the entry */
    uint64_t token_id;
    uint64_t ordered_ms; /* by this server's clock */
    bool is_forced;
    char token_name[FAR_SKIP_NAME_MAX + 1];
    char reason[FAR_SKIP_REASON_MAX + 1]; /* UTF-8; empty: none was given */
};

struct far_skip_orders {
    size_t count; /* in the order in which they were given */
    struct far_skip_order items[FAR_SKIP_ORDERS_MAX];
};

/* What the folder's file says; no orders if there is none. FAR_CORRUPT: it is damaged, *ret_orders has none. */
int far_skip_orders_load(const char *dir, struct far_skip_orders *ret_orders, struct far_error *err);
/* Adds the order, in the place of one for the same entry; the oldest goes when there are too many (they could not be told to the log
 * while 16 others came). Durable when this returns 0; else the orders are what they were. */
int far_skip_orders_add(const char *dir, struct far_skip_orders *orders, const struct far_skip_order *order, struct far_error *err);
/* Takes the order for this entry out, durably; without one nothing happens. */
int far_skip_orders_remove(const char *dir, struct far_skip_orders *orders, uint64_t index, struct far_error *err);

#endif
