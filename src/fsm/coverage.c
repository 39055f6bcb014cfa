/* Coverage and audit: see coverage.h.
 *
 * The audit's budget of a cycle follows from the plan's policy: a round over the disk takes 15/16 of `audit_age_s`, at the pace at
 * which cycles come (the plan's interval, or the time since the last point if that is longer). With that and the bound of a sixteenth
 * of a round by which the marks may be too old, no stretch gets older than the policy's age, as long as the bound of one cycle
 * (`audit_ppm`) lets it. A round ends at the end of the disk; what missed cycles left undone is caught up with by the next ones. */
#include "fsm/coverage.h"

uint64_t far_coverage_blocks(uint64_t size_bytes)
{
    return size_bytes / FAR_AUDIT_BLOCK_BYTES + (size_bytes % FAR_AUDIT_BLOCK_BYTES != 0);
}

size_t far_coverage_stretches(uint64_t block_count)
{
    return block_count < FAR_COVERAGE_MARKS ? (size_t)block_count : FAR_COVERAGE_MARKS;
}

uint64_t far_coverage_ppm(uint64_t part, uint64_t total)
{
    if (part >= total) {
        return 1000000;
    }
    return total < UINT64_MAX / 1000000 ? part * 1000000 / total : part / (total / 1000000);
}

/* ---- the row ---- */

int far_coverage_load(struct far_step *step, uint64_t workload_id, uint64_t disk_index, struct far_coverage *ret)
{
    struct far_key key = far_key_part(&far_schema_row_coverage, workload_id, disk_index);
    int rc = far_key_find(step, &far_schema_row_coverage, &key, &ret->row);
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_coverage){.row = {.workload_id = workload_id, .disk_index = disk_index}};
        return 0;
    }
    const struct far_sub_audit_mark *marks = ret->row.marks.items;
    for (size_t i = 0; rc == 0 && i < FAR_COVERAGE_MARKS; i++) {
        ret->marks[i] = i < ret->row.marks.count ? marks[i] : (struct far_sub_audit_mark){.point_id = 0};
    }
    return rc;
}

int far_coverage_store(struct far_step *step, struct far_coverage *coverage)
{
    struct far_row_coverage *row = &coverage->row;
    struct far_key key = far_key_part(&far_schema_row_coverage, row->workload_id, row->disk_index);
    row->marks = (struct far_list){.items = coverage->marks, .count = far_coverage_stretches(row->block_count)};
    return far_key_put(step, &far_schema_row_coverage, &key, row);
}

int far_coverage_drop(struct far_step *step, uint64_t workload_id, uint64_t disk_index)
{
    struct far_coverage coverage;
    struct far_key key = far_key_part(&far_schema_row_coverage, workload_id, disk_index);
    int rc = far_key_find(step, &far_schema_row_coverage, &key, &coverage.row);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    coverage.row = (struct far_row_coverage){.workload_id = workload_id,
                                             .disk_index = disk_index,
                                             .missed_block_count = coverage.row.missed_block_count,
                                             .missed_ms = coverage.row.missed_ms,
                                             .distrusted = coverage.row.distrusted,
                                             .rate_bytes = coverage.row.rate_bytes,
                                             .rate_ms = coverage.row.rate_ms};
    return far_coverage_store(step, &coverage);
}

int far_coverage_forget(struct far_step *step, uint64_t workload_id, uint64_t disk_index)
{
    struct far_row_coverage row;
    struct far_key key = far_key_part(&far_schema_row_coverage, workload_id, disk_index);
    int rc = far_key_find(step, &far_schema_row_coverage, &key, &row);
    return rc == 0 ? far_key_del(step, &far_schema_row_coverage, &key) : rc == FAR_NOT_FOUND ? 0 : rc;
}

/* ---- stretches ---- */

/* The first block of a stretch; of the one behind the last: the number of blocks. */
static uint64_t stretch_first(const struct far_row_coverage *row, size_t stretch)
{
    size_t count = far_coverage_stretches(row->block_count);
    return row->block_count / count * stretch + row->block_count % count * stretch / count;
}

static size_t stretch_of(const struct far_row_coverage *row, uint64_t block)
{
    size_t at = 0;
    while (at + 1 < far_coverage_stretches(row->block_count) && stretch_first(row, at + 1) <= block) {
        at++;
    }
    return at;
}

static struct far_sub_audit_mark oldest(const struct far_coverage *coverage)
{
    size_t count = far_coverage_stretches(coverage->row.block_count);
    struct far_sub_audit_mark least = {.point_id = 0};
    for (size_t i = 0; i < count; i++) {
        least = i == 0 || coverage->marks[i].point_id < least.point_id ? coverage->marks[i] : least;
    }
    return least;
}

uint64_t far_coverage_oldest_ms(const struct far_coverage *coverage)
{
    return oldest(coverage).time_ms;
}

uint64_t far_coverage_good_point(const struct far_coverage *coverage, const struct far_list *ranges)
{
    const struct far_sub_block_range *range = ranges->items;
    const struct far_row_coverage *row = &coverage->row;
    uint64_t good_id = UINT64_MAX;
    for (size_t i = 0; i < ranges->count && row->block_count > 0; i++) {
        uint64_t first = range[i].first_block < row->block_count ? range[i].first_block : row->block_count - 1;
        uint64_t more = range[i].block_count > 0 ? range[i].block_count - 1 : 0;
        uint64_t last = more < row->block_count - first ? first + more : row->block_count - 1;
        for (size_t s = stretch_of(row, first); s <= stretch_of(row, last); s++) {
            good_id = coverage->marks[s].point_id < good_id ? coverage->marks[s].point_id : good_id;
        }
    }
    return good_id != UINT64_MAX ? good_id : oldest(coverage).point_id;
}

/* ---- a new point, and what is found on the way to it ---- */

static void prove_all(struct far_coverage *coverage, uint64_t point_id, uint64_t time_ms)
{
    struct far_row_coverage *row = &coverage->row;
    for (size_t i = 0; i < FAR_COVERAGE_MARKS; i++) {
        coverage->marks[i] = (struct far_sub_audit_mark){.point_id = point_id, .time_ms = time_ms};
    }
    row->full_point_id = point_id;
    row->full_ms = row->audit_pass_ms = time_ms;
    row->audit_next_block = row->audited_blocks = 0;
    row->began_point_id = row->began_ms = 0;
}

static void audit(struct far_coverage *coverage, uint64_t blocks, uint64_t point_id, uint64_t time_ms)
{
    struct far_row_coverage *row = &coverage->row;
    uint64_t left = blocks < row->block_count ? blocks : row->block_count;
    row->audited_blocks = row->audited_blocks + left < row->block_count ? row->audited_blocks + left : row->block_count;
    while (left > 0) {
        size_t stretch = stretch_of(row, row->audit_next_block);
        uint64_t end = stretch_first(row, stretch + 1), n = end - row->audit_next_block;
        if (row->audit_next_block == stretch_first(row, stretch)) {
            row->began_point_id = point_id;
            row->began_ms = time_ms;
        }
        row->audit_pass_ms = row->audit_next_block == 0 ? time_ms : row->audit_pass_ms;
        n = n < left ? n : left;
        left -= n;
        row->audit_next_block += n;
        if (row->audit_next_block == end) {
            coverage->marks[stretch] =
                (struct far_sub_audit_mark){.point_id = row->began_point_id, .time_ms = row->began_ms};
        }
        row->audit_next_block = row->audit_next_block < row->block_count ? row->audit_next_block : 0;
    }
}

/* Stretches are shares of the disk: of another size, they are others, and none is known to be younger than the oldest was. */
static void resize(struct far_coverage *coverage, uint64_t block_count)
{
    struct far_row_coverage *row = &coverage->row;
    struct far_sub_audit_mark least = oldest(coverage);
    for (size_t i = 0; i < FAR_COVERAGE_MARKS; i++) {
        coverage->marks[i] = least;
    }
    row->block_count = block_count;
    row->audit_next_block = row->audited_blocks = row->clean_blocks = 0;
    row->began_point_id = row->began_ms = 0;
}

static void measure(struct far_row_coverage *row, const struct far_sub_point_part *part)
{
    uint64_t bytes = part->hashed_bytes < UINT64_MAX / 4 ? part->hashed_bytes : UINT64_MAX / 4;
    uint64_t ms = part->duration_ms < UINT64_MAX / 4 ? part->duration_ms : UINT64_MAX / 4;
    bool is_telling = bytes >= FAR_COVERAGE_RATE_BYTES_MIN || (part->full && bytes > 0);
    if (is_telling && ms > 0) {
        row->rate_bytes = row->rate_bytes / 2 + bytes;
        row->rate_ms = row->rate_ms / 2 + ms;
    }
}

void far_coverage_missed(struct far_coverage *coverage, uint64_t blocks, uint64_t time_ms)
{
    struct far_row_coverage *row = &coverage->row;
    row->missed_block_count += blocks < UINT64_MAX - row->missed_block_count ? blocks : 0;
    row->missed_ms = time_ms;
    row->clean_blocks = 0;
    row->distrusted = true;
}

void far_coverage_advance(struct far_coverage *coverage, const struct far_sub_point_part *part, uint64_t point_id, uint64_t time_ms)
{
    struct far_row_coverage *row = &coverage->row;
    uint64_t block_count = far_coverage_blocks(part->size_bytes);
    if (row->block_count != block_count) {
        resize(coverage, block_count);
    }
    if (part->full) {
        prove_all(coverage, point_id, time_ms);
    } else {
        audit(coverage, part->audit_passed_blocks, point_id, time_ms);
    }
    uint64_t clean = part->full ? block_count : row->clean_blocks + part->audit_passed_blocks;
    row->clean_blocks = part->missed_block_count != 0 ? 0 : clean < block_count ? clean : block_count;
    row->distrusted = row->distrusted && row->clean_blocks < block_count;
    row->coverage_ppm = part->full ? 1000000 : far_coverage_ppm(row->audited_blocks, block_count);
    row->oldest_ms = far_coverage_oldest_ms(coverage);
    measure(row, part);
}

/* ---- the budget of a cycle ---- */

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* So long from cycle to cycle, as it looks. */
static int pace(struct far_step *step, const struct far_audit_of *of, uint64_t *ret_ms)
{
    struct far_row_point last;
    uint64_t started_ms = of->job->started_ms;
    int rc = far_row_find(step, &far_schema_row_point, of->workload->last_point_id, &last);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    uint64_t since_ms = rc == 0 && started_ms > last.created_ms ? started_ms - last.created_ms : 0;
    uint64_t interval_ms = of->plan->interval_s * 1000;
    *ret_ms = since_ms > interval_ms ? since_ms : interval_ms;
    *ret_ms = *ret_ms > 0 ? *ret_ms : 1;
    return 0;
}

static int budget(struct far_step *step, const struct far_audit_of *of, const struct far_row_coverage *row, struct far_audit *audit)
{
    uint64_t age_ms = (of->plan->audit_age_s != 0 ? of->plan->audit_age_s : FAR_AUDIT_AGE_S_DEFAULT) * 1000;
    uint64_t ppm = of->plan->audit_ppm != 0 ? of->plan->audit_ppm : FAR_AUDIT_PPM_DEFAULT;
    uint64_t left = audit->block_count - audit->first_block, pace_ms = 1;
    FAR_TRY(pace(step, of, &pace_ms));
    uint64_t begun_ms = audit->first_block != 0 ? row->audit_pass_ms : of->job->started_ms;
    uint64_t end_ms = begun_ms + age_ms / FAR_COVERAGE_MARKS * (FAR_COVERAGE_MARKS - 1);
    uint64_t cycles = end_ms > of->job->started_ms ? (end_ms - of->job->started_ms) / pace_ms : 0;
    uint64_t most = audit->block_count / 1000000 * ppm + divide_up(audit->block_count % 1000000 * ppm, 1000000);
    audit->blocks = divide_up(left, cycles > 1 ? cycles : 1);
    audit->blocks = audit->blocks < most ? audit->blocks : most;
    return 0;
}

/* A person wants everything hashed, or the last time that it was is too long ago. */
static bool wants_full(const struct far_audit_of *of, const struct far_row_coverage *row)
{
    const struct far_row_job *job = of->job;
    bool is_asked = job->resync && (job->resync_workload_id == 0 || job->resync_workload_id == of->workload->id) &&
                    (job->resync_disk_id == 0 || job->resync_disk_id == of->disk->id);
    uint64_t age_ms = of->plan->full_age_s * 1000;
    return is_asked || (age_ms != 0 && (row->full_point_id == 0 || job->started_ms >= row->full_ms + age_ms));
}

int far_audit_plan(struct far_step *step, const struct far_audit_of *of, struct far_audit *ret)
{
    struct far_coverage coverage;
    bool has_base = of->target_id == of->workload->target_node_id && of->disk->root.len != 0;
    *ret = (struct far_audit){.block_count = far_coverage_blocks(of->send->size_bytes)};
    if (!has_base || of->disk->token.len == 0 || of->send->token.len == 0 || ret->block_count == 0) {
        return 0; /* nothing to build on, or the platform keeps no list, or kept none then */
    }
    FAR_TRY(far_coverage_load(step, of->workload->id, of->disk->disk_index, &coverage));
    ret->since = of->disk->token;
    ret->full = wants_full(of, &coverage.row);
    if (ret->full) {
        return 0;
    }
    ret->first_block = coverage.row.block_count == ret->block_count ? coverage.row.audit_next_block : 0;
    return budget(step, of, &coverage.row, ret);
}

uint64_t far_audit_passed(const struct far_audit *audit, const struct far_sub_report_item *item)
{
    uint64_t first = audit->first_block, next = item->audit_next_block == audit->block_count ? 0 : item->audit_next_block;
    if (audit->since.len == 0 || audit->full || item->full || next > audit->block_count) {
        return 0;
    }
    if (next == first) {
        return audit->blocks >= audit->block_count ? audit->block_count : 0;
    }
    return next > first ? next - first : audit->block_count - first + next;
}
