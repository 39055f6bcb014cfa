/* Jobs whose tasks stand side by side, one a disk or one a workload, on the node whose vault holds the point: recover (restore), verify,
 * forget, lock, rescore, use; or one a vault, on its node: reclaim, measure. A failed restore ends the others of its workload; a failed
 * verification does not, so that all damage is found. */
#include "fsm/job_use.h"
#include "fsm/run_lost.h"
#include "fsm/script_task.h"
#include "fsm/site_limit.h"
#include "fsm/vault_row.h"

/* If that is up, and its platform's limits let it. */
static int assign_to(struct far_step *step, struct far_group *g, size_t at, struct far_candidate *node)
{
    bool is_free = false;
    FAR_TRY(node != NULL ? far_slot_free(step, node->site_id, &g->tasks[at], &is_free) : 0);
    return is_free ? far_group_assign(step, g, at, node) : 0;
}

static int assign(struct far_step *step, struct far_group *g, size_t at)
{
    struct far_row_point point = {.node_id = g->tasks[at].vault_node_id};
    struct far_row_node node;
    struct far_candidate *candidate;
    bool is_vault = far_task_of_vault(g->tasks[at].kind);
    FAR_TRY(!is_vault ? far_row_need(step, &far_schema_row_point, g->tasks[at].point_id, &point) : 0);
    int rc = far_row_find(step, &far_schema_row_node, point.node_id, &node);
    if (rc == FAR_NOT_FOUND && is_vault) {
        return far_group_fail(step, g, at, FAR_NOT_FOUND, "the node of the vault was removed");
    }
    if (rc == FAR_NOT_FOUND) {
        return far_group_fail(step, g, at, FAR_NOT_FOUND, "the node whose vault held recovery point %llu was removed",
                              FAR_LLU(point.id));
    }
    FAR_TRY(rc);
    FAR_TRY(far_candidate_node(step, point.node_id, &candidate));
    return assign_to(step, g, at, candidate);
}

/* A task of a run; the group is it alone. */
static int advance_run(struct far_step *step, struct far_group *g)
{
    struct far_row_task *row = &g->tasks[0];
    struct far_candidate *node;
    bool is_wanted;
    if (far_task_over(row)) {
        return 0;
    }
    FAR_TRY(far_run_wants(step, &g->job, row, &is_wanted));
    if (!is_wanted) {
        return far_group_step(step, g, 0, FAR_task_step_cancel);
    }
    if (!far_task_assignable(row)) {
        return 0;
    }
    int rc = far_run_node(step, &g->job, row, &node);
    if (rc == FAR_NOT_FOUND && !step->is_rejected) {
        return far_group_fail(step, g, 0, FAR_NOT_FOUND, "the node whose vault held its recovery point was removed");
    }
    FAR_TRY(rc);
    return assign_to(step, g, 0, node);
}

static bool is_to_end(const struct far_group *g)
{
    bool has_failed = false;
    for (size_t i = 0; i < g->count; i++) {
        has_failed = has_failed || g->tasks[i].state == FAR_task_state_failed;
    }
    return g->job.cancel || (has_failed && g->job.kind == FAR_job_kind_recover);
}

int far_simple_advance(struct far_step *step, struct far_group *g)
{
    if (far_job_is_run(g->job.kind)) {
        return advance_run(step, g);
    }
    if (g->job.kind == FAR_job_kind_compare) {
        return far_compare_advance(step, g);
    }
    for (size_t i = 0; !is_to_end(g) && i < g->count; i++) {
        FAR_TRY(far_task_assignable(&g->tasks[i]) ? assign(step, g, i) : 0);
    }
    for (size_t i = 0; is_to_end(g) && i < g->count; i++) {
        FAR_TRY(!far_task_over(&g->tasks[i]) ? far_group_step(step, g, i, FAR_task_step_cancel) : 0);
    }
    return 0;
}

/* The root read back must be the one that was proven. */
static int check_root(struct far_step *step, struct far_group *g, size_t at, struct far_slice root)
{
    struct far_row_point_disk disk;
    struct far_key key = far_key_part(&far_schema_row_point_disk, g->tasks[at].point_id, g->tasks[at].disk_index);
    FAR_TRY(far_key_need(step, &far_schema_row_point_disk, &key, &disk));
    if (far_slice_equal(disk.root, root)) {
        return 0;
    }
    char proven[65] = "none", found[65] = "none";
    if (disk.root.len == 32) {
        far_hex_encode(disk.root.data, 32, proven);
    }
    if (root.len == 32) {
        far_hex_encode(root.data, 32, found);
    }
    return far_group_fail(step, g, at, FAR_CORRUPT, "what was read back is not what was proven: root %s instead of %s",
                          found, proven);
}

/* What came of an operation on a machine; its disks are told by an event of their own. */
static int machine_done(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item)
{
    struct far_sub_task_change change = {.step = FAR_task_step_finish};
    struct far_sub_machine_result *result = far_step_alloc(step, sizeof *result);
    if (result == NULL) {
        return FAR_LIMIT;
    }
    if (item->machine_result.count > 0) {
        *result = *(const struct far_sub_machine_result *)item->machine_result.items;
        change.bytes_total = item->bytes_total; /* hydrate */
        change.bytes_done = item->bytes_done;
        change.machine_result = (struct far_list){.items = result, .count = 1};
    }
    if (result->left.count > 0) {
        const struct far_slice *left = result->left.items;
        return far_group_fail(step, g, at, FAR_CONFLICT, "%zu things of it are still there, first: %.*s", result->left.count,
                              (int)(left[0].len < 200 ? left[0].len : 200), (const char *)left[0].data);
    }
    struct far_ev_run_located located = {.job_id = g->job.id, .workload_id = g->workload_id, .disks = result->disks};
    bool is_up = g->tasks[at].operation == FAR_machine_operation_up || g->tasks[at].operation == FAR_machine_operation_keep;
    FAR_TRY(is_up && located.disks.count > 0 ? far_emit(step, &far_schema_ev_run_located, &located) : 0);
    result->disks = (struct far_list){.count = 0};
    return far_group_change(step, g, at, change);
}

int far_simple_done(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item)
{
    const struct far_row_task *row = &g->tasks[at];
    if (row->kind == FAR_task_kind_script) {
        return far_script_done(step, g, at, item);
    }
    if (row->kind == FAR_task_kind_machine) {
        return machine_done(step, g, at, item);
    }
    if (g->job.kind == FAR_job_kind_compare) {
        return far_compare_done(step, g, at, item);
    }
    if (row->kind == FAR_task_kind_verify && item->blocks_damaged != 0) {
        FAR_TRY(far_vault_damage_found(step, row, item));
        return far_group_fail(step, g, at, FAR_CORRUPT, "%llu blocks are damaged in the vault%s%.*s",
                              FAR_LLU(item->blocks_damaged), item->error_message.len > 0 ? ", first: " : "",
                              (int)item->error_message.len, (const char *)item->error_message.data);
    }
    bool is_proven_anew = row->kind == FAR_task_kind_use && item->root.len > 0; /* a disk that was hydrated, and not written to */
    if (row->kind == FAR_task_kind_restore || row->kind == FAR_task_kind_verify || is_proven_anew) {
        FAR_TRY(check_root(step, g, at, item->root));
    }
    FAR_TRY(far_task_of_vault(row->kind) ? far_vault_row_done(step, g, at, item) : 0);
    if (far_task_over(row)) {
        return 0;
    }
    return far_group_change(step, g, at,
                            (struct far_sub_task_change){.step = FAR_task_step_finish,
                                                         .bytes_total = item->bytes_total,
                                                         .bytes_done = item->bytes_done,
                                                         .bytes_changed = item->bytes_changed,
                                                         .bytes_sent = item->bytes_sent,
                                                         .root = item->root,
                                                         .full = item->full});
}
