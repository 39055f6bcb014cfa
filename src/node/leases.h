/* Leases: how long each order may still be acted upon, by the node's own monotonic clock.
 *
 * A lease is counted from sending the last renewal that a server confirmed, and a new one from sending what the server
 * answered last before it gave the order, so it ends here before it ends in the cluster, however long the order was under way;
 * a tenth of it is kept as a margin for stopping. A fixed table, one thread. */
#ifndef FAR_NODE_LEASES_H
#define FAR_NODE_LEASES_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum { FAR_LEASES_MAX = 1024 };

struct far_lease {
    uint64_t job_id;
    uint64_t task;
    uint64_t attempt;
    uint64_t renewed_ms; /* monotonic */
    uint64_t lease_ms;
};

struct far_leases {
    struct far_lease items[FAR_LEASES_MAX];
    size_t count;
};

/* lease_ms is what was left of it at from_ms or later. A new attempt of a task takes the place of an older one; the same one
 * again is not renewed by it; an older one is FAR_CONFLICT. FAR_LIMIT at FAR_LEASES_MAX. */
int far_leases_add(struct far_leases *leases, uint64_t job_id, uint64_t task, uint64_t attempt, uint64_t from_ms,
                   uint64_t lease_ms, struct far_error *err);
/* From sent_ms on it lasts lease_ms, if that is longer than it had. Nothing happens if the attempt is not there. */
void far_leases_renew(struct far_leases *leases, uint64_t job_id, uint64_t task, uint64_t attempt, uint64_t sent_ms,
                      uint64_t lease_ms);
void far_leases_remove(struct far_leases *leases, uint64_t job_id, uint64_t task, uint64_t attempt);
/* One that must be stopped now, or NULL. Valid until the next change. */
const struct far_lease *far_leases_late(const struct far_leases *leases, uint64_t now_ms);
const struct far_lease *far_leases_first(const struct far_leases *leases);

#endif
