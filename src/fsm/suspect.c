/* Lists of changes that turned out wrong, and the points that rest on them.
 *
 * A block that the audit finds changed though no list named it proves that the disk's lists lie, not when they began to, nor where else. A
 * block that one list left out and a later one named was repaired unseen: each audit finds it as it should be, and so does a full proof,
 * yet every point in between is wrong. So nothing that was hashed later vouches for a point that went by a list; what vouches for one is
 * that all of its disk was hashed for it. With a miss every other point of the disk is suspect, however old; and until a full proof, or
 * a round of the audit, has found no more (`distrusted` in the row `coverage`, as long as the alert is open), so is each new one.
 *
 * Suspect points are named in the log and marked, not damaged: the vault holds exactly what was proven, against lists that were not the
 * truth. While the audit finds no miss there is no suspicion: what lists left out is known only once it is still wrong when the audit
 * comes by. */
#include "fsm/alert.h"
#include "fsm/coverage.h"
#include "fsm/expiry.h"
#include "fsm/task.h"

enum { PAGE = 256 };

struct suspects {
    const struct far_ev_change_list_missed *missed;
    uint64_t *ids; /* of points that are not suspect yet */
    size_t count;
    uint64_t total;
};

static int look_at(struct far_step *step, struct suspects *suspects, uint64_t point_id)
{
    struct far_row_point_disk disk;
    struct far_key key = far_key_part(&far_schema_row_point_disk, point_id, suspects->missed->disk_index);
    int rc = far_key_find(step, &far_schema_row_point_disk, &key, &disk);
    if (rc != 0 || disk.disk_id != suspects->missed->disk_id || !disk.by_list) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    suspects->total++;
    if (!disk.suspect && suspects->count < FAR_SUSPECTS_MAX) {
        suspects->ids[suspects->count++] = point_id;
    }
    return 0;
}

/* Every point of the workload that is still there and for which not all of the disk was hashed. */
static int find_suspects(struct far_step *step, struct suspects *suspects)
{
    uint64_t workload_id = suspects->missed->workload_id;
    struct far_key key = far_key_id(&far_schema_row_workload_point, workload_id);
    suspects->ids = far_step_alloc(step, FAR_SUSPECTS_MAX * sizeof *suspects->ids);
    if (suspects->ids == NULL) {
        return FAR_LIMIT;
    }
    for (;;) {
        struct far_row_workload_point point;
        struct far_slice id;
        int rc = far_next(step, &far_schema_row_workload_point, &key, &id, &point);
        if (rc == FAR_NOT_FOUND || (rc == 0 && far_get_be64(id.data) != workload_id)) {
            return 0;
        }
        FAR_TRY(rc);
        FAR_TRY(point.proof == FAR_proof_full ? 0 : look_at(step, suspects, far_get_be64(id.data + 8)));
    }
}

static int emit_suspects(struct far_step *step, const struct suspects *suspects)
{
    for (size_t at = 0; at < suspects->count; at += PAGE) {
        size_t count = suspects->count - at < PAGE ? suspects->count - at : PAGE;
        struct far_ev_points_suspected ev = {.workload_id = suspects->missed->workload_id,
                                             .disk_id = suspects->missed->disk_id,
                                             .disk_index = suspects->missed->disk_index,
                                             .point_ids = {.items = suspects->ids + at, .count = count}};
        FAR_TRY(far_emit(step, &far_schema_ev_points_suspected, &ev));
    }
    return 0;
}

static int find_disk(struct far_step *step, const struct far_group *g, size_t at, struct far_row_disk *ret_disk)
{
    struct far_key key = far_key_part(&far_schema_row_disk, g->workload_id, g->tasks[at].disk_index);
    return far_key_need(step, &far_schema_row_disk, &key, ret_disk);
}

int far_list_missed(struct far_step *step, const struct far_group *g, size_t at, const struct far_audit *audit,
                    const struct far_sub_report_item *item)
{
    const struct far_row_task *send = &g->tasks[at];
    struct far_row_disk disk;
    struct far_coverage coverage;
    if (audit->since.len == 0 || item->missed_block_count <= send->missed_block_count) {
        return 0; /* no list was used, or it was told already */
    }
    FAR_TRY(find_disk(step, g, at, &disk));
    struct far_ev_change_list_missed ev = {.workload_id = g->workload_id,
                                           .disk_id = disk.id,
                                           .disk_index = disk.disk_index,
                                           .plan_id = g->plan.id,
                                           .job_id = g->job.id,
                                           .node_id = send->node_id,
                                           .since = audit->since,
                                           .block_count = item->missed_block_count,
                                           .ranges = item->missed,
                                           .task = send->task};
    struct suspects suspects = {.missed = &ev};
    struct far_alert_cause cause = {.kind = FAR_alert_kind_change_list_missed,
                                    .object_id = disk.id,
                                    .plan_id = g->plan.id,
                                    .workload_id = g->workload_id,
                                    .disk_id = disk.id};
    FAR_TRY(far_coverage_load(step, g->workload_id, disk.disk_index, &coverage));
    ev.good_point_id = far_coverage_good_point(&coverage, &item->missed);
    FAR_TRY(find_suspects(step, &suspects));
    ev.point_count = suspects.total;
    FAR_TRY(far_emit(step, &far_schema_ev_change_list_missed, &ev));
    FAR_TRY(emit_suspects(step, &suspects));
    return far_alert_raise(step, &cause,
                           "workload '%.*s', disk '%.*s': the platform's list of changes missed %llu blocks. They are copied now; %llu "
                           "earlier recovery points may hold older ones, and new ones are suspect until plan resync, or a round of the "
                           "audit, finds no more. Let more be audited (plan set-policy)",
                           FAR_TEXT(g->workload.name), FAR_TEXT(disk.name), FAR_LLU(ev.block_count), FAR_LLU(ev.point_count));
}

static int refused(struct far_step *step, const struct far_group *g, const struct far_row_disk *disk, const struct far_row_task *send,
                   const struct far_audit *audit, const struct far_sub_report_item *item)
{
    struct far_ev_change_list_refused ev = {.workload_id = g->workload_id,
                                            .disk_id = disk->id,
                                            .disk_index = disk->disk_index,
                                            .plan_id = g->plan.id,
                                            .job_id = g->job.id,
                                            .node_id = send->node_id,
                                            .since = audit->since,
                                            .reason = item->resync_reason};
    struct far_alert_cause cause = {.kind = FAR_alert_kind_change_list_refused,
                                    .object_id = disk->id,
                                    .plan_id = g->plan.id,
                                    .workload_id = g->workload_id,
                                    .disk_id = disk->id};
    FAR_TRY(far_emit(step, &far_schema_ev_change_list_refused, &ev));
    return far_alert_raise(step, &cause,
                           "workload '%.*s', disk '%.*s': the platform could not say what changed, so all of it was read: %.*s",
                           FAR_TEXT(g->workload.name), FAR_TEXT(disk->name), FAR_TEXT(item->resync_reason));
}

int far_list_reported(struct far_step *step, const struct far_group *g, size_t at, const struct far_audit *audit,
                      const struct far_sub_report_item *item)
{
    struct far_row_disk disk;
    if (audit->since.len == 0) {
        return 0; /* there was none to use */
    }
    FAR_TRY(find_disk(step, g, at, &disk));
    if (item->resync_reason.len != 0) {
        return refused(step, g, &disk, &g->tasks[at], audit, item);
    }
    return item->full ? 0 : far_alert_clear(step, FAR_alert_kind_change_list_refused, disk.id); /* it was used */
}

int far_list_proven(struct far_step *step, const struct far_ev_point_created *ev)
{
    const struct far_sub_point_part *parts = ev->disks.items;
    for (size_t d = 0; d < ev->disks.count; d++) {
        struct far_coverage coverage;
        FAR_TRY(far_coverage_load(step, ev->workload_id, d, &coverage));
        FAR_TRY(coverage.row.distrusted ? 0 : far_alert_clear(step, FAR_alert_kind_change_list_missed, parts[d].disk_id));
        FAR_TRY(parts[d].token.len == 0 ? far_alert_clear(step, FAR_alert_kind_change_list_refused, parts[d].disk_id) : 0);
    }
    return 0;
}

/* ---- evolve ---- */

static int mark(struct far_step *step, uint64_t point_id, uint64_t disk_index)
{
    struct far_row_point_disk disk;
    struct far_row_point point;
    struct far_key key = far_key_part(&far_schema_row_point_disk, point_id, disk_index);
    FAR_TRY(far_row_need(step, &far_schema_row_point, point_id, &point));
    FAR_TRY(far_key_need(step, &far_schema_row_point_disk, &key, &disk));
    disk.suspect = true;
    FAR_TRY(far_key_put(step, &far_schema_row_point_disk, &key, &disk));
    point.suspected_ms = point.suspect ? point.suspected_ms : step->time_ms;
    point.suspect = true;
    return far_row_put(step, &far_schema_row_point, point_id, &point);
}

int far_evolve_points_suspected(struct far_step *step, const struct far_ev_points_suspected *ev)
{
    const uint64_t *ids = ev->point_ids.items;
    for (size_t i = 0; i < ev->point_ids.count; i++) {
        FAR_TRY(mark(step, ids[i], ev->disk_index));
    }
    struct far_row_workload workload;
    int rc = far_row_find(step, &far_schema_row_workload, ev->workload_id, &workload);
    return rc == 0 ? far_expiry_wake(step, workload.plan_id) : rc == FAR_NOT_FOUND ? 0 : rc;
}

/* The attempt has told so many; the disk's list has been clean since then. */
int far_evolve_change_list_missed(struct far_step *step, const struct far_ev_change_list_missed *ev)
{
    struct far_coverage coverage;
    struct far_row_task send;
    struct far_key key = far_key_part(&far_schema_row_task, ev->job_id, ev->task);
    FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &send));
    FAR_TRY(far_coverage_load(step, ev->workload_id, ev->disk_index, &coverage));
    uint64_t more = ev->block_count > send.missed_block_count ? ev->block_count - send.missed_block_count : 0;
    send.missed_block_count = ev->block_count;
    FAR_TRY(far_key_put(step, &far_schema_row_task, &key, &send));
    far_coverage_missed(&coverage, more, step->time_ms);
    return far_coverage_store(step, &coverage);
}

int far_evolve_change_list_refused(struct far_step *step, const struct far_ev_change_list_refused *ev)
{
    return 0;
}
