/* The plan of a send: see send_plan.h. What a platform lists twice or beyond the disk is bent to what fits; a
 * list that goes back is not to be trusted, and one that makes no progress is an error, not a loop. */
#include "dataplane/send_plan.h"

#include "dataplane/map.h"

void send_plan_init(struct send_plan *plan, uint64_t size_bytes, uint64_t from_block,
                    int (*fetch)(void *arg, uint64_t offset, struct far_adapter_extent *ret_extents, size_t max,
                                 size_t *ret_count, uint64_t *ret_next, struct far_error *err),
                    void *fetch_arg, uint64_t audit_first, uint64_t audit_count)
{
    uint64_t blocks = far_map_block_count(size_bytes);
    *plan = (struct send_plan){.blocks = blocks,
                               .at = from_block,
                               .has_list = fetch != NULL,
                               .fetch = fetch,
                               .fetch_arg = fetch_arg,
                               .size_bytes = size_bytes,
                               .next_offset = from_block * FAR_BLOCK_BYTES};
    audit_count = audit_count < blocks ? audit_count : blocks;
    if (audit_count > 0) {
        uint64_t first = audit_first % blocks, rest = blocks - first;
        if (audit_count <= rest) {
            plan->audit[0] = (struct send_plan_range){.first = first, .end = first + audit_count};
        } else {
            plan->audit[0] = (struct send_plan_range){.end = audit_count - rest};
            plan->audit[1] = (struct send_plan_range){.first = first, .end = blocks};
        }
    }
    plan->audit_count = 2;
}

void send_plan_add(struct send_plan *plan, uint64_t first_block, uint64_t block_count)
{
    if (plan->audit_count < sizeof plan->audit / sizeof plan->audit[0] && first_block < plan->blocks) {
        uint64_t rest = plan->blocks - first_block;
        plan->audit[plan->audit_count++] =
            (struct send_plan_range){.first = first_block, .end = first_block + (block_count < rest ? block_count : rest)};
    }
}

/* The next blocks that the list names, from plan->at on; first == end: none. */
static int next_listed(struct send_plan *plan, struct send_plan_range *ret, struct far_error *err)
{
    for (;;) {
        while (plan->extent_at < plan->extent_count) {
            const struct far_adapter_extent *e = &plan->extents[plan->extent_at];
            uint64_t end_byte = e->length < plan->size_bytes - e->offset ? e->offset + e->length : plan->size_bytes;
            uint64_t first = e->offset / FAR_BLOCK_BYTES, end = (end_byte + FAR_BLOCK_BYTES - 1) / FAR_BLOCK_BYTES;
            if (end > plan->at) {
                *ret = (struct send_plan_range){.first = first > plan->at ? first : plan->at, .end = end};
                return 0;
            }
            plan->extent_at++;
        }
        if (plan->next_offset >= plan->size_bytes) {
            *ret = (struct send_plan_range){.first = plan->blocks, .end = plan->blocks};
            return 0;
        }
        uint64_t next = 0;
        plan->extent_at = plan->extent_count = 0;
        int rc = plan->fetch(plan->fetch_arg, plan->next_offset, plan->extents, FAR_SEND_PLAN_EXTENTS,
                             &plan->extent_count, &next, err);
        if (rc != 0) {
            plan->extent_count = 0;
            return rc;
        }
        if (next <= plan->next_offset || plan->extent_count > FAR_SEND_PLAN_EXTENTS) {
            plan->extent_count = 0;
            return far_fail(err, FAR_IO, "the platform's list of changes does not go on behind byte %llu",
                            (unsigned long long)plan->next_offset);
        }
        size_t kept = 0;
        uint64_t before = 0;
        for (size_t i = 0; i < plan->extent_count; i++) {
            const struct far_adapter_extent *e = &plan->extents[i];
            if (e->offset < before) {
                plan->extent_count = 0;
                return far_fail(err, FAR_CORRUPT, "the platform's list of changes goes back from byte %llu to %llu",
                                (unsigned long long)before, (unsigned long long)e->offset);
            }
            before = e->offset;
            if (e->offset < plan->size_bytes && e->length > 0) { /* what lies outside the disk is nobody's */
                plan->extents[kept++] = *e;
            }
        }
        plan->extent_count = kept;
        plan->next_offset = next;
    }
}

static struct send_plan_range next_audited(const struct send_plan *plan)
{
    struct send_plan_range next = {.first = plan->blocks, .end = plan->blocks};
    for (size_t i = 0; i < plan->audit_count; i++) {
        const struct send_plan_range *range = &plan->audit[i];
        uint64_t first = range->first > plan->at ? range->first : plan->at;
        if (range->end > first && first < next.first) {
            next = (struct send_plan_range){.first = first, .end = range->end};
        }
    }
    return next;
}

int send_plan_peek(struct send_plan *plan, uint64_t max, struct send_plan_run *ret_run, struct far_error *err)
{
    struct send_plan_range listed = {.first = plan->at, .end = plan->blocks};
    int rc = plan->has_list ? next_listed(plan, &listed, err) : 0;
    if (rc != 0) {
        return rc;
    }
    struct send_plan_range run = listed, audited = next_audited(plan);
    bool is_listed = listed.first <= audited.first;
    if (!is_listed) {
        run = (struct send_plan_range){.first = audited.first,
                                       .end = audited.end < listed.first ? audited.end : listed.first};
    }
    uint64_t count = run.end - run.first;
    *ret_run = (struct send_plan_run){
        .first_block = run.first, .block_count = count < max ? count : max, .listed = is_listed};
    return 0;
}

void send_plan_take(struct send_plan *plan, uint64_t end_block)
{
    plan->at = end_block;
}
