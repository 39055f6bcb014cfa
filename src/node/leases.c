/* Leases: see leases.h. */
#include "node/leases.h"

enum { MARGIN_PART = 10 };

static struct far_lease *find(struct far_leases *leases, uint64_t job_id, uint64_t task)
{
    for (size_t i = 0; i < leases->count; i++) {
        if (leases->items[i].job_id == job_id && leases->items[i].task == task) {
            return &leases->items[i];
        }
    }
    return NULL;
}

int far_leases_add(struct far_leases *leases, uint64_t job_id, uint64_t task, uint64_t attempt, uint64_t from_ms,
                   uint64_t lease_ms, struct far_error *err)
{
    struct far_lease *lease = find(leases, job_id, task);
    if (lease == NULL) {
        if (leases->count == FAR_LEASES_MAX) {
            return far_fail(err, FAR_LIMIT, "this node holds %d orders already", FAR_LEASES_MAX);
        }
        lease = &leases->items[leases->count++];
    } else if (lease->attempt > attempt) {
        return far_fail(err, FAR_CONFLICT, "attempt %llu is newer", (unsigned long long)lease->attempt);
    } else if (lease->attempt == attempt) {
        return 0;
    }
    *lease = (struct far_lease){
        .job_id = job_id, .task = task, .attempt = attempt, .renewed_ms = from_ms, .lease_ms = lease_ms};
    return 0;
}

/* When it has to be stopped. */
static uint64_t stop_at(uint64_t from_ms, uint64_t lease_ms)
{
    return from_ms + lease_ms - lease_ms / MARGIN_PART;
}

void far_leases_renew(struct far_leases *leases, uint64_t job_id, uint64_t task, uint64_t attempt, uint64_t sent_ms,
                      uint64_t lease_ms)
{
    struct far_lease *lease = find(leases, job_id, task);
    if (lease != NULL && lease->attempt == attempt && stop_at(sent_ms, lease_ms) > stop_at(lease->renewed_ms, lease->lease_ms)) {
        lease->renewed_ms = sent_ms;
        lease->lease_ms = lease_ms;
    }
}

void far_leases_remove(struct far_leases *leases, uint64_t job_id, uint64_t task, uint64_t attempt)
{
    struct far_lease *lease = find(leases, job_id, task);
    if (lease != NULL && lease->attempt <= attempt) {
        *lease = leases->items[--leases->count];
    }
}

const struct far_lease *far_leases_late(const struct far_leases *leases, uint64_t now_ms)
{
    for (size_t i = 0; i < leases->count; i++) {
        const struct far_lease *lease = &leases->items[i];
        if (now_ms >= stop_at(lease->renewed_ms, lease->lease_ms)) {
            return lease;
        }
    }
    return NULL;
}

const struct far_lease *far_leases_first(const struct far_leases *leases)
{
    return leases->count == 0 ? NULL : &leases->items[0];
}
