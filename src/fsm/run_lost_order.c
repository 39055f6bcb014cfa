/* Orders of a comparison: see run_lost.c. The source and the vault are told the same disks, in the order of the point; a disk that the
 * workload has no more has no locator. */
#include "fsm/run_lost.h"

#include "fsm/coverage.h"

#include <stdio.h>

/* A row that may be gone: all zero then. */
static int find_node(struct far_step *step, uint64_t id, struct far_row_node *ret)
{
    int rc = far_row_find(step, &far_schema_row_node, id, ret);
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_row_node){.id = 0};
        return 0;
    }
    return rc;
}

/* The disk of the workload with this id; FAR_NOT_FOUND, without a rejection. */
static int find_disk(struct far_step *step, const struct far_row_workload *workload, uint64_t disk_id, struct far_row_disk *ret)
{
    for (uint64_t d = 0; d < workload->disk_count; d++) {
        struct far_key key = far_key_part(&far_schema_row_disk, workload->id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, ret));
        if (ret->id == disk_id) {
            return 0;
        }
    }
    return FAR_NOT_FOUND;
}

/* From where on the list of changes is to tell; empty: the point is not the newest, or the disk's lists are not to be trusted. */
static int since_of(struct far_step *step, const struct far_row_workload *workload, const struct far_row_disk *disk, uint64_t point_id,
                    struct far_slice *ret)
{
    struct far_coverage coverage;
    FAR_TRY(far_coverage_load(step, workload->id, disk->disk_index, &coverage));
    bool holds = workload->last_point_id == point_id && !coverage.row.distrusted;
    *ret = holds ? disk->token : far_slice(NULL, 0);
    return 0;
}

static int fill_disks(struct far_step *step, const struct far_row_point *point, struct far_sub_order *order)
{
    size_t count = (size_t)point->disk_count;
    struct far_row_workload workload = {.id = 0};
    struct far_sub_disk_spec *disks = far_step_alloc(step, (count + 1) * sizeof *disks);
    struct far_sub_point_disk *points = far_step_alloc(step, (count + 1) * sizeof *points);
    struct far_slice *since = far_step_alloc(step, (count + 1) * sizeof *since);
    int rc = far_row_find(step, &far_schema_row_workload, point->workload_id, &workload);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    if (disks == NULL || points == NULL || since == NULL) {
        return FAR_LIMIT;
    }
    for (size_t d = 0; d < count; d++) {
        struct far_row_point_disk row;
        struct far_row_disk disk;
        struct far_key key = far_key_part(&far_schema_row_point_disk, point->id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_point_disk, &key, &row));
        rc = find_disk(step, &workload, row.disk_id, &disk);
        FAR_TRY(rc == FAR_NOT_FOUND && !step->is_rejected ? 0 : rc);
        points[d] = (struct far_sub_point_disk){
            .disk_index = d, .disk_id = row.disk_id, .name = row.name, .size_bytes = row.size_bytes, .root = row.root};
        disks[d] = (struct far_sub_disk_spec){.name = row.name, .locator = rc == 0 ? disk.locator : far_slice(NULL, 0)};
        since[d] = far_slice(NULL, 0);
        FAR_TRY(rc == 0 ? since_of(step, &workload, &disk, point->id, &since[d]) : 0);
    }
    order->disks = (struct far_list){.items = disks, .count = count};
    order->point_disks = (struct far_list){.items = points, .count = count};
    order->since_each = (struct far_list){.items = since, .count = count};
    order->disk_id = count > 0 ? points[0].disk_id : 0; /* by which the two find each other */
    return 0;
}

int far_compare_order(struct far_step *step, const struct far_row_task *task, struct far_sub_order *order)
{
    bool is_source = task->kind == FAR_task_kind_compare;
    struct far_row_task peer;
    struct far_row_node own, other;
    struct far_row_point point;
    struct far_key key = far_key_part(&far_schema_row_task, task->job_id, is_source ? task->task + 1 : task->task - 1);
    FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &peer));
    FAR_TRY(find_node(step, task->node_id, &own));
    FAR_TRY(find_node(step, peer.node_id, &other));
    FAR_TRY(far_row_need(step, &far_schema_row_point, task->point_id, &point));
    const struct far_row_node *target = is_source ? &other : &own;
    order->peer_node_id = peer.node_id;
    order->peer_fingerprint = other.fingerprint;
    order->peer_address = is_source == (target->data_address.len != 0) ? other.data_address : far_slice(NULL, 0);
    order->frozen_at_ms = point.frozen_at_ms;
    return fill_disks(step, &point, order);
}

int far_compare_wait(struct far_step *step, const struct far_row_task *task, char *text, size_t size)
{
    struct far_row_point point;
    struct far_row_node home;
    struct far_row_site site;
    struct far_row_workload workload;
    struct far_candidate *target, *source;
    text[0] = '\0';
    int rc = far_row_find(step, &far_schema_row_point, task->point_id, &point);
    rc = rc == 0 ? far_row_find(step, &far_schema_row_node, point.node_id, &home) : rc;
    rc = rc == 0 ? far_row_find(step, &far_schema_row_workload, task->workload_id, &workload) : rc;
    rc = rc == 0 ? far_row_find(step, &far_schema_row_site, workload.site_id, &site) : rc;
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    FAR_TRY(far_candidate_node(step, home.id, &target));
    FAR_TRY(far_candidate_site(step, site.id, workload.adapter, &source));
    if (target == NULL) {
        snprintf(text, size, "node '%.*s', which has the point in its vault, is not up", FAR_TEXT(home.name));
    } else if (source == NULL) {
        snprintf(text, size, "no node of site '%.*s' that could read the source's disks is up", FAR_TEXT(site.name));
    }
    return 0;
}
