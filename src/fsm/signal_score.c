/* Scores of points: what nodes' detectors say of the increments, kept with the points; and what follows when one is of alarm.
 *
 * A point whose score is SCORE_OF_ALARM or more *rose*. The workload then names the first one that did and the last one before, until it
 * is over; each disk that rose has an alert. An encryptor that has finished writes nothing more, so calm points alone end nothing: the
 * alert stays until a person has acknowledged it and a later point is calm. As long retention holds the last point before (expiry.c). */
#include "fsm/alert.h"
#include "fsm/expiry.h"
#include "fsm/task.h"

enum { SCORE_OF_ALARM = 500 };

/* The point, if it is still there; else the newest one before it of this workload that is. 0: there is none. */
static int still_there(struct far_step *step, uint64_t workload_id, uint64_t point_id, uint64_t *ret_id)
{
    struct far_key key = far_key_id(&far_schema_row_workload_point, workload_id);
    *ret_id = 0;
    for (;;) {
        struct far_row_workload_point point;
        struct far_slice id;
        int rc = far_next(step, &far_schema_row_workload_point, &key, &id, &point);
        if (rc == FAR_NOT_FOUND || (rc == 0 && (far_get_be64(id.data) != workload_id || far_get_be64(id.data + 8) > point_id))) {
            return 0;
        }
        FAR_TRY(rc);
        *ret_id = far_get_be64(id.data + 8);
    }
}

static int find_disk(struct far_step *step, uint64_t point_id, uint64_t disk_index, struct far_row_point_disk *ret)
{
    struct far_key key = far_key_part(&far_schema_row_point_disk, point_id, disk_index);
    return far_key_need(step, &far_schema_row_point_disk, &key, ret);
}

static int raise(struct far_step *step, const struct far_row_workload *workload, const struct far_ev_point_scored *ev,
                 const struct far_sub_signal *signal)
{
    struct far_row_point_disk disk;
    FAR_TRY(find_disk(step, ev->point_id, signal->disk_index, &disk));
    uint64_t first = workload->rose_point_id != 0 ? workload->rose_point_id : ev->point_id;
    uint64_t calm = workload->rose_point_id != 0 ? workload->calm_point_id : ev->calm_point_id;
    struct far_alert_cause cause = {.kind = FAR_alert_kind_signal_rose,
                                    .object_id = disk.disk_id,
                                    .plan_id = ev->plan_id,
                                    .workload_id = ev->workload_id,
                                    .disk_id = disk.disk_id};
    if (calm == 0) {
        return far_alert_raise(step, &cause,
                               "workload '%.*s', disk '%.*s': what was written up to recovery point %llu looks like encryption by "
                               "ransomware (score %llu of 1000). No point from before is left",
                               FAR_TEXT(workload->name), FAR_TEXT(disk.name), FAR_LLU(first), FAR_LLU(signal->score));
    }
    return far_alert_raise(step, &cause,
                           "workload '%.*s', disk '%.*s': what was written up to recovery point %llu looks like encryption by "
                           "ransomware (score %llu of 1000). The last point before it rose is %llu: keep it. Acknowledge when it is "
                           "dealt with",
                           FAR_TEXT(workload->name), FAR_TEXT(disk.name), FAR_LLU(first), FAR_LLU(signal->score), FAR_LLU(calm));
}

/* Alerts of disks that are calm and that a person has seen; *ret_open: others stay. */
static int settle(struct far_step *step, const struct far_ev_point_scored *ev, bool *ret_open)
{
    const struct far_sub_signal *signals = ev->disks.items;
    *ret_open = false;
    for (size_t i = 0; i < ev->disks.count; i++) {
        struct far_row_point_disk disk;
        struct far_row_alert alert;
        FAR_TRY(find_disk(step, ev->point_id, signals[i].disk_index, &disk));
        int rc = far_alert_find(step, FAR_alert_kind_signal_rose, disk.disk_id, &alert);
        if (rc == FAR_NOT_FOUND) {
            continue;
        }
        FAR_TRY(rc);
        if (alert.state == FAR_alert_state_acknowledged) {
            FAR_TRY(far_alert_clear(step, FAR_alert_kind_signal_rose, disk.disk_id));
        } else {
            *ret_open = true;
        }
    }
    return 0;
}

/* What of the report is about disks that the point has, and the highest score. */
static int collect(struct far_step *step, const struct far_row_point *point, const struct far_list *signals,
                   struct far_ev_point_scored *ev)
{
    const struct far_sub_signal *from = signals->items;
    struct far_sub_signal *kept = far_step_alloc(step, (signals->count + 1) * sizeof *kept);
    uint64_t calm = 0;
    size_t count = 0;
    if (kept == NULL) {
        return FAR_LIMIT;
    }
    for (size_t i = 0; i < signals->count; i++) {
        bool in_order = count == 0 || kept[count - 1].disk_index < from[i].disk_index;
        if (from[i].disk_index >= point->disk_count || from[i].score > 1000 || !in_order) {
            continue; /* a node that reports nonsense changes nothing */
        }
        kept[count++] = from[i];
        ev->score = from[i].score > ev->score ? from[i].score : ev->score;
        ev->detector = from[i].detector;
        bool rose = from[i].score >= SCORE_OF_ALARM;
        ev->rose = ev->rose || rose;
        calm = rose && (calm == 0 || from[i].calm_point_id < calm) ? from[i].calm_point_id : calm;
    }
    ev->disks = (struct far_list){.items = kept, .count = count};
    uint64_t before = calm != 0 && calm < point->id ? calm : point->id - 1;
    return ev->rose ? still_there(step, point->workload_id, before, &ev->calm_point_id) : 0;
}

int far_point_score(struct far_step *step, uint64_t point_id, const struct far_list *signals)
{
    struct far_row_point point;
    struct far_row_workload workload;
    bool has, open = true;
    FAR_TRY(far_level_has(step, 4, &has));
    if (!has || signals == NULL || signals->count == 0) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_point, point_id, &point));
    FAR_TRY(far_row_need(step, &far_schema_row_workload, point.workload_id, &workload));
    struct far_ev_point_scored ev = {.point_id = point.id, .workload_id = point.workload_id, .plan_id = point.plan_id};
    FAR_TRY(collect(step, &point, signals, &ev));
    if (ev.disks.count == 0) {
        return 0;
    }
    bool is_newest = point.id == workload.last_point_id;
    FAR_TRY(is_newest && !ev.rose ? settle(step, &ev, &open) : 0);
    ev.over = workload.rose_point_id != 0 && !open;
    FAR_TRY(far_emit(step, &far_schema_ev_point_scored, &ev));
    const struct far_sub_signal *kept = ev.disks.items;
    for (size_t i = 0; i < ev.disks.count; i++) {
        FAR_TRY(kept[i].score >= SCORE_OF_ALARM ? raise(step, &workload, &ev, &kept[i]) : 0);
    }
    return 0;
}

/* ---- evolve ---- */

static int keep_checkpoint(struct far_step *step, const struct far_row_point *point)
{
    struct far_row_checkpoint checkpoint;
    int rc = far_row_find(step, &far_schema_row_checkpoint, point->checkpoint_id, &checkpoint);
    if (rc != 0 || checkpoint.score >= point->score) {
        return rc == FAR_NOT_FOUND ? 0 : rc; /* made when the cycle ends */
    }
    checkpoint.score = point->score;
    return far_row_put(step, &far_schema_row_checkpoint, checkpoint.id, &checkpoint);
}

/* Retention held it for the alarm. */
static int let_go(struct far_step *step, uint64_t calm_point_id)
{
    struct far_row_point point;
    int rc = calm_point_id != 0 ? far_row_find(step, &far_schema_row_point, calm_point_id, &point) : FAR_NOT_FOUND;
    return rc == 0 ? far_expiry_wake(step, point.plan_id) : rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_evolve_point_scored(struct far_step *step, const struct far_ev_point_scored *ev)
{
    const struct far_sub_signal *signals = ev->disks.items;
    struct far_row_point point;
    struct far_row_workload workload;
    FAR_TRY(far_row_need(step, &far_schema_row_point, ev->point_id, &point));
    for (size_t i = 0; i < ev->disks.count; i++) {
        struct far_row_point_disk disk;
        struct far_key key = far_key_part(&far_schema_row_point_disk, ev->point_id, signals[i].disk_index);
        FAR_TRY(far_key_need(step, &far_schema_row_point_disk, &key, &disk));
        disk.score = signals[i].score;
        disk.evidence = signals[i].evidence;
        disk.changed_blocks = signals[i].changed_blocks;
        disk.low_to_high_blocks = signals[i].low_to_high_blocks;
        FAR_TRY(far_key_put(step, &far_schema_row_point_disk, &key, &disk));
    }
    point.score = ev->score;
    point.detector = ev->detector;
    point.rose = ev->rose;
    FAR_TRY(far_row_put(step, &far_schema_row_point, point.id, &point));
    FAR_TRY(keep_checkpoint(step, &point));
    FAR_TRY(far_row_need(step, &far_schema_row_workload, ev->workload_id, &workload));
    if (ev->rose && (workload.rose_point_id == 0 || ev->point_id < workload.rose_point_id)) {
        workload.rose_point_id = ev->point_id;
        workload.calm_point_id = ev->calm_point_id;
    } else if (ev->over) {
        FAR_TRY(let_go(step, workload.calm_point_id));
        workload.rose_point_id = workload.calm_point_id = 0;
    } else {
        return 0;
    }
    return far_row_put(step, &far_schema_row_workload, workload.id, &workload);
}
