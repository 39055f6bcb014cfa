/* What a resync would read, and about how long that takes, from the rates that earlier sends were measured at. See query.h.
 *
 * A disk's own rate where there is one, else that of all measured disks of the plan, else none is known. Disks are read side by side, at
 * most 16 at once: it takes as long as the slowest, or as all of them in sixteen lanes. */
#include "fsm/query.h"

#include "fsm/coverage.h"

enum { SCRATCH_MAX = 4 * 1024 * 1024, LANES = 16, PARTS_MAX = 256 };

struct rate {
    uint64_t bytes, ms;
};

struct context {
    struct far_step *step; /* reads into a scratch that is reset with each workload */
    struct far_arena *out;
    struct far_resync_wish wish;
    struct far_resync_estimate *estimate;
    struct rate plan;
    uint64_t slowest_ms, sum_ms;
    bool is_incomplete; /* a disk without any rate, or without a size */
};

static uint64_t per_second(struct rate rate)
{
    if (rate.ms == 0) {
        return 0;
    }
    uint64_t per_s = rate.bytes < UINT64_MAX / 1000 ? rate.bytes * 1000 / rate.ms : rate.bytes / rate.ms * 1000;
    return per_s > 0 ? per_s : 1;
}

static uint64_t time_of(uint64_t bytes, uint64_t bytes_per_s)
{
    return bytes / bytes_per_s * 1000 + bytes % bytes_per_s * 1000 / bytes_per_s;
}

static int part_of(struct context *c, struct far_slice workload, struct far_slice disk, struct far_resync_part **ret)
{
    struct far_resync_estimate *estimate = c->estimate;
    struct far_arena *scratch = c->step->arena;
    *ret = &estimate->parts[estimate->part_count < PARTS_MAX ? estimate->part_count++ : PARTS_MAX - 1];
    c->step->arena = c->out;
    int rc = far_step_copy(c->step, workload, &(*ret)->workload);
    rc = rc != 0 ? rc : far_step_copy(c->step, disk, &(*ret)->disk);
    c->step->arena = scratch;
    return rc;
}

static void add_disk(struct context *c, const struct far_row_disk *disk, const struct far_row_coverage *coverage,
                     struct far_resync_part *part)
{
    struct rate own = {.bytes = coverage->rate_bytes, .ms = coverage->rate_ms};
    uint64_t bytes_per_s = per_second(own.ms != 0 ? own : c->plan);
    uint64_t ms = bytes_per_s != 0 ? time_of(disk->size_bytes, bytes_per_s) : 0;
    part->disk_count++;
    part->bytes += disk->size_bytes;
    part->duration_ms = ms > part->duration_ms ? ms : part->duration_ms;
    part->is_measured = part->is_measured && bytes_per_s != 0 && disk->size_bytes != 0;
    part->bytes_per_s += bytes_per_s;
    c->slowest_ms = ms > c->slowest_ms ? ms : c->slowest_ms;
    c->sum_ms += ms;
    c->is_incomplete = c->is_incomplete || !part->is_measured;
    c->estimate->bytes += disk->size_bytes;
    c->estimate->disk_count++;
}

/* The disks of one workload; is_sum: only their rates are added up. */
static int look_at(struct context *c, uint64_t workload_id, bool is_sum)
{
    struct far_row_workload workload;
    struct far_resync_part *part = NULL;
    FAR_TRY(far_row_need(c->step, &far_schema_row_workload, workload_id, &workload));
    for (uint64_t d = 0; d < workload.disk_count; d++) {
        struct far_row_disk disk;
        struct far_coverage coverage;
        struct far_key key = far_key_part(&far_schema_row_disk, workload_id, d);
        FAR_TRY(far_key_need(c->step, &far_schema_row_disk, &key, &disk));
        FAR_TRY(far_coverage_load(c->step, workload_id, d, &coverage));
        bool is_meant = c->wish.disk.len == 0 || far_slice_equal(c->wish.disk, disk.name);
        if (is_sum) {
            c->plan.bytes += coverage.row.rate_bytes;
            c->plan.ms += coverage.row.rate_ms;
        } else if (is_meant) {
            bool is_own = c->wish.workload_id != 0 || part == NULL; /* of one workload: a part for each disk */
            FAR_TRY(is_own ? part_of(c, workload.name, c->wish.workload_id != 0 ? disk.name : far_slice(NULL, 0), &part) : 0);
            part->is_measured = is_own || part->is_measured;
            add_disk(c, &disk, &coverage.row, part);
        }
    }
    return 0;
}

static int walk(struct context *c, bool is_sum)
{
    struct far_key key = far_key_id(&far_schema_row_plan_workload, c->wish.plan_id);
    for (;;) {
        struct far_row_plan_workload member;
        far_arena_reset(c->step->arena);
        int rc = far_plan_member_next(c->step, c->wish.plan_id, &key, &member);
        if (rc == FAR_NOT_FOUND) {
            return 0;
        }
        FAR_TRY(rc);
        if (member.moved_ms != 0) {
            continue;
        }
        bool is_meant = is_sum || c->wish.workload_id == 0 || c->wish.workload_id == member.workload_id;
        FAR_TRY(is_meant ? look_at(c, member.workload_id, is_sum) : 0);
    }
}

int far_query_resync(struct far_state *state, const struct far_resync_wish *wish, struct far_arena *arena,
                     struct far_resync_estimate *ret_estimate, struct far_error *err)
{
    struct far_arena scratch;
    struct far_error cause = {0};
    struct far_resync_estimate estimate = {.parts = far_arena_alloc(arena, PARTS_MAX * sizeof *estimate.parts)};
    struct far_step step = {.state = state, .arena = &scratch, .err = &cause};
    struct context c = {.step = &step, .out = arena, .wish = *wish, .estimate = &estimate};
    if (estimate.parts == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for an estimate");
    }
    memset(estimate.parts, 0, PARTS_MAX * sizeof *estimate.parts);
    far_arena_init(&scratch, SCRATCH_MAX);
    int rc = walk(&c, true);
    rc = rc != 0 ? rc : walk(&c, false);
    far_arena_done(&scratch);
    if (rc != 0) {
        return far_fail(err, rc, "%s", step.is_rejected ? step.reject_message : cause.message);
    }
    if (estimate.disk_count == 0) {
        return far_fail(err, FAR_NOT_FOUND, "the plan has no such workload or disk");
    }
    uint64_t lanes_ms = c.sum_ms / LANES;
    estimate.is_measured = !c.is_incomplete;
    estimate.duration_ms = lanes_ms > c.slowest_ms ? lanes_ms : c.slowest_ms;
    *ret_estimate = estimate;
    return 0;
}
