/* Invariants of retention and vaults: each checkpoint that is there is listed with its plan and each that is listed is there, vaults count
 * the points that they hold, whatever is due has its deadline. */
#include "fsm/invariants.h"

#include "fsm/task.h"
#include "fsm/vault_row.h"

enum { SCRATCH_BYTES = 4 * 1024 * 1024 };

struct sums {
    uint64_t checkpoints; /* there, less those that are listed */
    uint64_t points;      /* in vaults, less those that are counted */
    uint64_t deadlines;
};

typedef int (*row_fn)(struct far_step *step, struct sums *sums, struct far_slice id, const void *row);

static int walk(struct far_step *step, const struct far_schema *table, struct sums *sums, row_fn check)
{
    struct far_key key = far_key(table);
    for (;;) {
        struct far_slice id;
        far_arena_reset(step->arena);
        void *row = far_step_alloc(step, table->size);
        int rc = row == NULL ? FAR_LIMIT : far_next(step, table, &key, &id, row);
        if (rc != 0) {
            return rc == FAR_NOT_FOUND ? 0 : rc;
        }
        FAR_TRY(check(step, sums, id, row));
    }
}

static int broken(struct far_step *step, const char *object, uint64_t id, const char *what)
{
    return far_reject(step, FAR_INTERNAL, "%s %llu: %s", object, FAR_LLU(id), what);
}

static int check_deadline(struct far_step *step, struct sums *sums, uint64_t kind, uint64_t id, uint64_t time_ms)
{
    struct far_row_deadline row;
    struct far_key key = far_key_id(&far_schema_row_deadline, time_ms);
    if (time_ms == 0) {
        return 0;
    }
    far_key_u8(&key, (uint8_t)kind);
    far_key_u64(&key, id);
    far_key_u32(&key, 0);
    sums->deadlines++;
    int rc = far_key_find(step, &far_schema_row_deadline, &key, &row);
    return rc == FAR_NOT_FOUND ? broken(step, far_enum_name(&far_enum_deadline_kind, kind), id, "has no deadline") : rc;
}

static int check_retention(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_plan_retention *row = object;
    struct far_row_plan plan;
    (void)id;
    FAR_TRY(far_row_need(step, &far_schema_row_plan, row->plan_id, &plan));
    if (row->last + row->hourly + row->daily + row->weekly + row->monthly == 0 || (row->checkpoint_id != 0 && row->due_ms == 0)) {
        return broken(step, "retention of plan", row->plan_id, "keeps everything, or began a look that never goes on");
    }
    return check_deadline(step, sums, FAR_deadline_kind_plan_expiry, row->plan_id, row->due_ms);
}

static int check_checkpoint(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_checkpoint *row = object;
    (void)step;
    (void)id;
    sums->checkpoints += row->state != FAR_point_state_removed;
    bool fits = row->preserved_ms != 0 || row->preserve_reason.len == 0;
    return fits ? 0 : broken(step, "checkpoint", row->id, "has a reason to be preserved, and is not");
}

static int check_listed(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_plan_checkpoint *row = object;
    struct far_row_checkpoint checkpoint;
    FAR_TRY(far_row_need(step, &far_schema_row_checkpoint, row->checkpoint_id, &checkpoint));
    sums->checkpoints--;
    bool fits = checkpoint.state != FAR_point_state_removed && checkpoint.plan_id == row->plan_id &&
                checkpoint.created_ms == row->created_ms && far_get_be64(id.data) == row->plan_id &&
                far_get_be64(id.data + 8) == UINT64_MAX - row->checkpoint_id;
    return fits ? 0 : broken(step, "checkpoint", row->checkpoint_id, "is listed with a plan and is not there, or another one's");
}

static int check_vault(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_vault *row = object;
    struct far_row_node node;
    struct far_row_job job;
    (void)id;
    FAR_TRY(far_row_need(step, &far_schema_row_node, row->node_id, &node));
    FAR_TRY(check_deadline(step, sums, FAR_deadline_kind_vault_reclaim, row->id, row->reclaim_due_ms));
    FAR_TRY(check_deadline(step, sums, FAR_deadline_kind_vault_scrub, row->id, row->scrub_due_ms));
    sums->points += node.point_count;
    if (row->scrub_job_id != 0) {
        FAR_TRY(far_row_need(step, &far_schema_row_job, row->scrub_job_id, &job));
        FAR_TRY(job.state == FAR_job_state_running ? 0 : broken(step, "vault", row->id, "is scrubbed by a job that is over"));
    }
    if (row->reclaim_job_id == 0) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_job, row->reclaim_job_id, &job));
    return job.state == FAR_job_state_running ? 0 : broken(step, "vault", row->id, "is reclaimed by a job that is over");
}

static int check_adoption(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_adoption *row = object;
    struct far_row_vault vault;
    struct far_row_job job = {.state = FAR_job_state_running};
    (void)sums;
    (void)id;
    FAR_TRY(far_row_need(step, &far_schema_row_vault, row->node_id, &vault));
    FAR_TRY(row->job_id != 0 ? far_row_need(step, &far_schema_row_job, row->job_id, &job) : 0);
    return job.state == FAR_job_state_running && row->base % (row->span + (row->span == 0)) == 0
               ? 0
               : broken(step, "vault", row->node_id, "is adopted by a job that is over, or with numbers that may clash");
}

static int check_plan(struct far_step *step, struct sums *sums, struct far_slice id, const void *object)
{
    const struct far_row_vault_plan *row = object;
    struct far_row_vault vault;
    (void)id;
    FAR_TRY(far_row_need(step, &far_schema_row_vault, row->node_id, &vault));
    sums->points -= row->point_count;
    return row->point_count != 0 ? 0 : broken(step, "vault", row->node_id, "counts a plan that has no points");
}

static int walk_all(struct far_step *step, struct sums *sums)
{
    bool has;
    FAR_TRY(far_level_has(step, 4, &has));
    FAR_TRY(walk(step, &far_schema_row_plan_retention, sums, check_retention));
    FAR_TRY(has ? walk(step, &far_schema_row_checkpoint, sums, check_checkpoint) : 0);
    FAR_TRY(walk(step, &far_schema_row_plan_checkpoint, sums, check_listed));
    FAR_TRY(walk(step, &far_schema_row_vault, sums, check_vault));
    FAR_TRY(walk(step, &far_schema_row_vault_plan, sums, check_plan));
    FAR_TRY(walk(step, &far_schema_row_adoption, sums, check_adoption));
    if (sums->checkpoints != 0 || sums->points != 0) {
        return far_reject(step, FAR_INTERNAL, "%llu checkpoints are not listed with their plans, %llu points not counted in vaults",
                          FAR_LLU(sums->checkpoints), FAR_LLU(sums->points));
    }
    return 0;
}

int far_check_vaults(struct far_step *step, uint64_t *deadlines)
{
    struct sums sums = {0};
    struct far_arena own, *whole = step->arena;
    far_arena_init(&own, SCRATCH_BYTES);
    step->arena = &own;
    int rc = walk_all(step, &sums);
    step->arena = whole;
    far_arena_done(&own);
    *deadlines += sums.deadlines;
    return rc;
}
