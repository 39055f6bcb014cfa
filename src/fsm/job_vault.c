/* Jobs over the vault of a node: reclaim it, measure it, scrub it (job_scrub.c), adopt it (job_adopt.c). One task each, or of an
 * adoption one after the other, done by that node alone.
 *
 * A pass of reclaim is numbered by the index of the log entry that ordered it. What it quarantines is deleted by a later pass, and only
 * when every transfer into this vault has ended that ran when the earlier pass was done (dataplane/reclaim.h): a transfer counts from
 * the start of its cycle, so one that was given to the node again, or retried, is as old as its job. */
#include "fsm/vault_row.h"

#include "fsm/adoption.h"
#include "fsm/job.h"

/* ---- orders ---- */

int far_vault_row_plans(struct far_step *step, uint64_t node_id, struct far_list *ret_plan_ids)
{
    struct far_key key = far_key_id(&far_schema_row_vault_plan, node_id);
    uint64_t *ids = far_step_alloc(step, FAR_VAULT_PLANS_MAX * sizeof *ids);
    uint64_t *measured = far_step_alloc(step, FAR_VAULT_PLANS_MAX * sizeof *measured);
    size_t count = 0;
    if (ids == NULL || measured == NULL) {
        return FAR_LIMIT;
    }
    for (;;) {
        struct far_row_vault_plan row;
        int rc = far_next(step, &far_schema_row_vault_plan, &key, NULL, &row);
        if (rc == FAR_NOT_FOUND || (rc == 0 && row.node_id != node_id)) {
            break;
        }
        FAR_TRY(rc);
        size_t at = count;
        for (; at > 0 && measured[at - 1] > row.measured_ms; at--) {
            if (at < FAR_VAULT_PLANS_MAX) {
                ids[at] = ids[at - 1];
                measured[at] = measured[at - 1];
            }
        }
        if (at < FAR_VAULT_PLANS_MAX) {
            ids[at] = row.plan_id;
            measured[at] = row.measured_ms;
            count += count < FAR_VAULT_PLANS_MAX;
        }
    }
    *ret_plan_ids = (struct far_list){.items = ids, .count = count};
    return 0;
}

/* When the cycle of the oldest transfer into the vault began that its node holds; UINT64_MAX: it holds none. */
static int oldest_transfer(struct far_step *step, uint64_t node_id, uint64_t *ret_ms)
{
    struct far_key at = far_key_id(&far_schema_row_node_task, node_id);
    *ret_ms = UINT64_MAX;
    for (;;) {
        struct far_row_node_task held;
        struct far_row_task task;
        struct far_row_job job;
        struct far_slice id;
        int rc = far_next(step, &far_schema_row_node_task, &at, &id, &held);
        if (rc == FAR_NOT_FOUND || (rc == 0 && far_get_be64(id.data) != node_id)) {
            return 0;
        }
        FAR_TRY(rc);
        struct far_key key = far_key_part(&far_schema_row_task, far_get_be64(id.data + 8), far_get_be32(id.data + 16));
        FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &task));
        if (task.kind != FAR_task_kind_receive && task.kind != FAR_task_kind_seal) {
            continue;
        }
        FAR_TRY(far_row_need(step, &far_schema_row_job, task.job_id, &job));
        *ret_ms = job.started_ms < *ret_ms ? job.started_ms : *ret_ms;
    }
}

int far_vault_row_delete_before(struct far_step *step, const struct far_row_vault *vault, uint64_t *ret_pass)
{
    const struct far_sub_vault_pass *passes = vault->passes.items;
    uint64_t oldest_ms;
    FAR_TRY(oldest_transfer(step, vault->node_id, &oldest_ms));
    *ret_pass = 0;
    for (size_t i = 0; i < vault->passes.count; i++) {
        *ret_pass = passes[i].done_ms < oldest_ms ? passes[i].pass + 1 : *ret_pass;
    }
    return 0;
}

int far_vault_row_job(struct far_step *step, const struct far_row_vault *vault, uint64_t kind, uint64_t scrub_bytes)
{
    struct far_ev_job_started ev = {
        .id = step->progress.next_id, .kind = kind, .node_id = vault->node_id, .actor = step->actor, .scrub_bytes = scrub_bytes};
    struct far_sub_task_new item = {
        .kind = kind == FAR_job_kind_reclaim ? FAR_task_kind_reclaim
                : kind == FAR_job_kind_scrub ? FAR_task_kind_scrub
                : kind == FAR_job_kind_adopt ? FAR_task_kind_adopt
                                             : FAR_task_kind_measure,
        .ready = true,
        .vault_node_id = vault->node_id};
    if (kind == FAR_job_kind_reclaim) {
        ev.pass = step->index > vault->pass ? step->index : vault->pass + 1; /* a replayed or tried command may have no index */
        FAR_TRY(far_vault_row_delete_before(step, vault, &ev.delete_before));
    }
    step->object_id = ev.id;
    return far_job_begin_at(step, &ev, &item, vault->node_id);
}

int far_decide_vault_reclaim(struct far_step *step, const struct far_cmd_vault_reclaim *cmd)
{
    struct far_row_vault vault;
    FAR_TRY(far_vault_row_need(step, cmd->node, &vault));
    FAR_TRY(far_vault_row_free(step, &vault, cmd->node));
    return far_vault_row_job(step, &vault, FAR_job_kind_reclaim, 0);
}

int far_decide_vault_measure(struct far_step *step, const struct far_cmd_vault_measure *cmd)
{
    struct far_row_vault vault;
    FAR_TRY(far_vault_row_need(step, cmd->node, &vault));
    return far_vault_row_job(step, &vault, FAR_job_kind_measure, 0);
}

/* ---- reports ---- */

int far_vault_row_done(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item)
{
    const struct far_row_task *row = &g->tasks[at];
    struct far_row_vault vault;
    int rc = far_row_find(step, &far_schema_row_vault, row->node_id, &vault);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    if (row->kind == FAR_task_kind_adopt) {
        return far_adoption_done(step, g, at, item);
    }
    if (rc == 0 && row->kind == FAR_task_kind_reclaim) {
        struct far_ev_vault_reclaimed ev = {.node_id = row->node_id,
                                            .job_id = g->job.id,
                                            .pass = g->job.pass,
                                            .delete_before = g->job.delete_before,
                                            .reclaimed = item->reclaimed,
                                            .unused_disk_ids = item->unused_disk_ids};
        FAR_TRY(far_scrub_good(step, row->node_id)); /* what it named may have been removed since */
        FAR_TRY(far_emit(step, &far_schema_ev_vault_reclaimed, &ev));
    }
    if (rc == 0 && row->kind == FAR_task_kind_scrub && item->scrubbed.count > 0) {
        FAR_TRY(far_scrub_done(step, &vault, g->job.id, item));
    }
    if (rc == 0 && item->usage.count + item->spaces.count > 0) {
        struct far_ev_vault_measured ev = {
            .node_id = row->node_id, .job_id = g->job.id, .usage = item->usage, .spaces = item->spaces};
        FAR_TRY(far_emit(step, &far_schema_ev_vault_measured, &ev));
    }
    return 0;
}
