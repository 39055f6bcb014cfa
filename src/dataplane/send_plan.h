/* The plan of a send: which blocks of the view are looked at, as runs in ascending order, made while they are handed out.
 *
 * Without a list of changes it is the whole disk. With one it is the platform's extents, widened to blocks, asked for a
 * batch at a time, and between them the blocks of the audit. Memory does not depend on how many extents there are.
 * Threads: the owner's lock. */
#ifndef FAR_DATAPLANE_SEND_PLAN_H
#define FAR_DATAPLANE_SEND_PLAN_H

#include "base/error.h"
#include "farshore/adapter.h"

#include <stddef.h>
#include <stdint.h>

enum { FAR_SEND_PLAN_EXTENTS = 256, FAR_SEND_PLAN_REPAIRS = 16 };

struct send_plan_range {
    uint64_t first, end; /* blocks */
};

struct send_plan {
    uint64_t blocks; /* of the disk */
    uint64_t at;     /* everything before it was handed out */
    bool has_list;
    /* The next batch of extents: as far_adapter_changes.changed, from a byte offset on. */
    int (*fetch)(void *arg, uint64_t offset, struct far_adapter_extent *ret_extents, size_t max, size_t *ret_count,
                 uint64_t *ret_next, struct far_error *err);
    void *fetch_arg;
    uint64_t size_bytes;
    struct far_adapter_extent extents[FAR_SEND_PLAN_EXTENTS];
    size_t extent_count, extent_at;
    uint64_t next_offset;            /* where the next batch begins */
    struct send_plan_range audit[2 + FAR_SEND_PLAN_REPAIRS];
    size_t audit_count;
};

struct send_plan_run {
    uint64_t first_block;
    uint64_t block_count;
    bool listed; /* else only the audit looks at it */
};

/* Begins at a block; fetch NULL: the whole disk. The audit goes around the end of the disk. */
void send_plan_init(struct send_plan *plan, uint64_t size_bytes, uint64_t from_block,
                    int (*fetch)(void *arg, uint64_t offset, struct far_adapter_extent *ret_extents, size_t max,
                                 size_t *ret_count, uint64_t *ret_next, struct far_error *err),
                    void *fetch_arg, uint64_t audit_first, uint64_t audit_count);
/* These are looked at, too; before the first peek. Beyond FAR_SEND_PLAN_REPAIRS there is no room. */
void send_plan_add(struct send_plan *plan, uint64_t first_block, uint64_t block_count);
/* What comes next, at most max blocks of it, without taking it; block_count 0: nothing is left. */
int send_plan_peek(struct send_plan *plan, uint64_t max, struct send_plan_run *ret_run, struct far_error *err);
/* The run, or its beginning, was handed out. */
void send_plan_take(struct send_plan *plan, uint64_t end_block);

#endif
