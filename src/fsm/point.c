/* Recovery points.
 *
 * A recovery point is a workload at one instant: all its disks from one freeze, the two roots of each equal, made by one
 * event when the target has sealed it. A point lives as long as a checkpoint (checkpoint.c) names it. */
#include "fsm/checkpoint.h"
#include "fsm/coverage.h"
#include "fsm/dedup_domain.h"
#include "fsm/expiry.h"
#include "fsm/job.h"
#include "fsm/machine_config.h"
#include "fsm/node_load.h"
#include "fsm/recovery.h"
#include "fsm/rpo.h"
#include "fsm/task.h"
#include "fsm/vault_row.h"

enum { ABSENT, AVAILABLE, DAMAGED, REMOVED };
enum { POINT_CREATE, POINT_GOOD, POINT_DAMAGED, POINT_REMOVE };
static const char *const point_states[] = {"absent", "available", "damaged", "removed"};
static const char *const point_inputs[] = {"create", "verified", "found damaged", "remove"};
#define GONE FAR_REJECT(FAR_NOT_FOUND, "does not exist")
#define TAKEN FAR_REJECT(FAR_INTERNAL, "exists already")
#define OVER FAR_REJECT(FAR_CONFLICT, "was removed; choose another")
static const struct far_cell point_cells[4][4] = {
    [ABSENT] = {[POINT_CREATE] = FAR_MOVE(AVAILABLE), [POINT_GOOD] = GONE, [POINT_DAMAGED] = GONE,
                [POINT_REMOVE] = GONE},
    [AVAILABLE] = {[POINT_CREATE] = TAKEN, [POINT_GOOD] = FAR_MOVE(AVAILABLE), [POINT_DAMAGED] = FAR_MOVE(DAMAGED),
                   [POINT_REMOVE] = FAR_MOVE(REMOVED)},
    [DAMAGED] = {[POINT_CREATE] = TAKEN, [POINT_GOOD] = FAR_MOVE(AVAILABLE), [POINT_DAMAGED] = FAR_MOVE(DAMAGED),
                 [POINT_REMOVE] = FAR_MOVE(REMOVED)},
    [REMOVED] = {[POINT_CREATE] = TAKEN, [POINT_GOOD] = OVER, [POINT_DAMAGED] = OVER, [POINT_REMOVE] = OVER},
};
const struct far_table far_table_point = FAR_TABLE("recovery point", point_states, point_inputs, point_cells);

/* ---- making a point ---- */

/* All zero if there is none. */
int far_point_find(struct far_step *step, uint64_t id, struct far_row_point *ret)
{
    int rc = far_row_find(step, &far_schema_row_point, id, ret);
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_row_point){.id = 0};
        return 0;
    }
    return rc;
}

/* When the point's source was hashed: a node's clock that is ahead makes nothing younger. */
static uint64_t cover_ms(const struct far_step *step, const struct far_ev_point_created *ev)
{
    return ev->frozen_at_ms < step->time_ms ? ev->frozen_at_ms : step->time_ms;
}

/* The share of a disk's bytes that was hashed since its last full proof, in millionths. */
static uint64_t coverage(uint64_t hashed_bytes, uint64_t size_bytes)
{
    uint64_t millionth = size_bytes / 1000000 > 0 ? size_bytes / 1000000 : 1;
    uint64_t ppm = hashed_bytes / millionth;
    return ppm < 1000000 ? ppm : 1000000;
}

/* From feature level 4 on: what the audit made of the disks with this point. */
static int cover(struct far_step *step, const struct far_group *g, struct far_ev_point_created *ev, struct far_sub_point_part *parts,
                 size_t count)
{
    uint64_t hashed = 0, blocks = 0, time_ms = cover_ms(step, ev);
    for (size_t d = 0; d < count; d++) {
        const struct far_row_task *send = &g->tasks[far_at_send(d)];
        struct far_coverage coverage;
        parts[d].token = send->token;
        parts[d].full = send->full;
        parts[d].audit_passed_blocks = send->audit_passed_blocks;
        parts[d].missed_block_count = send->missed_block_count;
        parts[d].hashed_bytes = send->hashed_bytes;
        parts[d].duration_ms = send->duration_ms;
        FAR_TRY(far_coverage_load(step, g->workload_id, d, &coverage));
        parts[d].suspect = coverage.row.distrusted && !send->full;
        far_coverage_advance(&coverage, &parts[d], ev->id, time_ms);
        uint64_t oldest_ms = coverage.row.oldest_ms;
        ev->oldest_ms = d == 0 || oldest_ms < ev->oldest_ms ? oldest_ms : ev->oldest_ms;
        hashed += send->full ? coverage.row.block_count : coverage.row.audited_blocks;
        blocks += coverage.row.block_count;
    }
    ev->coverage_ppm = ev->proof == FAR_proof_full ? 1000000 : far_coverage_ppm(hashed, blocks);
    return 0;
}

static int collect(struct far_step *step, const struct far_group *g, struct far_ev_point_created *ev,
                   struct far_sub_point_part *parts, size_t count)
{
    uint64_t hashed = 0, size = 0;
    bool has;
    ev->proof = FAR_proof_full;
    for (size_t d = 0; d < count; d++) {
        const struct far_row_task *send = &g->tasks[far_at_send(d)], *receive = &g->tasks[far_at_receive(d)];
        struct far_row_disk disk;
        struct far_key key = far_key_part(&far_schema_row_disk, g->workload_id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &disk));
        if (!far_slice_equal(send->root, receive->root) || send->root.len != 32) {
            return far_reject(step, FAR_INTERNAL, "broken: disk %zu of workload %llu was sealed without proof", d,
                              FAR_LLU(g->workload_id));
        }
        parts[d] = (struct far_sub_point_part){.disk_id = disk.id,
                                               .name = disk.name,
                                               .size_bytes = send->size_bytes,
                                               .root = send->root,
                                               .identity = send->identity};
        ev->proof = send->full ? ev->proof : (uint64_t)FAR_proof_transfer;
        hashed += send->bytes_total;
        size += send->size_bytes;
    }
    struct far_row_point last;
    FAR_TRY(far_point_find(step, g->workload.last_point_id, &last));
    ev->coverage_ppm = ev->proof == FAR_proof_full ? 1000000 : coverage(hashed, size);
    if (ev->proof == FAR_proof_transfer && last.proof == FAR_proof_transfer) {
        ev->coverage_ppm += last.coverage_ppm;
        ev->coverage_ppm = ev->coverage_ppm < 1000000 ? ev->coverage_ppm : 1000000;
    }
    FAR_TRY(far_level_has(step, 4, &has));
    return has ? cover(step, g, ev, parts, count) : 0;
}

int far_point_create(struct far_step *step, const struct far_group *g)
{
    const struct far_row_task *freeze = &g->tasks[FAR_AT_FREEZE], *seal = &g->tasks[FAR_AT_SEAL];
    size_t count = (size_t)g->workload.disk_count;
    struct far_sub_point_part *parts = far_step_alloc(step, count * sizeof *parts);
    if (parts == NULL) {
        return FAR_LIMIT;
    }
    struct far_ev_point_created ev = {.id = seal->point_id,
                                      .workload_id = g->workload_id,
                                      .plan_id = g->plan.id,
                                      .checkpoint_id = g->job.checkpoint_id,
                                      .job_id = g->job.id,
                                      .node_id = seal->node_id,
                                      .plan_epoch = g->plan.epoch,
                                      .fuzzy = freeze->fuzzy,
                                      .frozen_at_ms = freeze->frozen_at_ms,
                                      .domain_id = g->plan.domain_id,
                                      .disks = {.items = parts, .count = count}};
    FAR_TRY(collect(step, g, &ev, parts, count));
    FAR_TRY(far_recovery_of(step, g->plan.id, g->workload_id, &ev.recovery_id));
    FAR_TRY(far_emit(step, &far_schema_ev_point_created, &ev));
    FAR_TRY(far_rpo_look(step, ev.plan_id));
    return far_list_proven(step, &ev);
}

/* has_lists: from feature level 4 on a disk that was not hashed as a whole went by a list. is_newest: the next cycle builds on it. */
static int create_disk(struct far_step *step, const struct far_ev_point_created *ev, size_t d, bool has_lists, bool is_newest)
{
    const struct far_sub_point_part *part = (const struct far_sub_point_part *)ev->disks.items + d;
    struct far_row_point_disk row = {.disk_id = part->disk_id,
                                     .name = part->name,
                                     .size_bytes = part->size_bytes,
                                     .root = part->root,
                                     .identity = part->identity,
                                     .suspect = part->suspect,
                                     .by_list = has_lists && !part->full};
    struct far_row_disk disk;
    struct far_key key = far_key_part(&far_schema_row_point_disk, ev->id, d);
    FAR_TRY(far_key_put(step, &far_schema_row_point_disk, &key, &row));
    if (!is_newest) {
        return 0;
    }
    key = far_key_part(&far_schema_row_disk, ev->workload_id, d);
    FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &disk));
    disk.size_bytes = part->size_bytes;
    disk.identity = part->identity;
    disk.root = part->root;
    disk.token = part->token;
    return far_key_put(step, &far_schema_row_disk, &key, &disk);
}

static int keep_coverage(struct far_step *step, const struct far_ev_point_created *ev, bool is_newest)
{
    const struct far_sub_point_part *parts = ev->disks.items;
    struct far_row_workload_point point = {.proof = ev->proof, .frozen_at_ms = ev->frozen_at_ms};
    struct far_key key = far_key_pair(&far_schema_row_workload_point, ev->workload_id, ev->id);
    for (size_t d = 0; is_newest && d < ev->disks.count; d++) {
        struct far_coverage coverage;
        FAR_TRY(far_coverage_load(step, ev->workload_id, d, &coverage));
        far_coverage_advance(&coverage, &parts[d], ev->id, cover_ms(step, ev));
        FAR_TRY(far_coverage_store(step, &coverage));
    }
    return far_key_put(step, &far_schema_row_workload_point, &key, &point);
}

/* How much the plan would have lost just before this point came. */
static int keep_reached(struct far_step *step, const struct far_ev_point_created *ev)
{
    struct far_row_workload workload;
    struct far_row_point last;
    struct far_row_job job;
    FAR_TRY(far_row_need(step, &far_schema_row_workload, ev->workload_id, &workload));
    if (workload.last_point_id == 0) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_point, workload.last_point_id, &last));
    int rc = far_row_find(step, &far_schema_row_job, ev->job_id, &job);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    uint64_t age_ms = step->time_ms > last.frozen_at_ms ? step->time_ms - last.frozen_at_ms : 0;
    if (age_ms <= job.rpo_ms) {
        return 0;
    }
    job.rpo_ms = age_ms;
    return far_row_put(step, &far_schema_row_job, job.id, &job);
}

int far_evolve_point_created(struct far_step *step, const struct far_ev_point_created *ev)
{
    struct far_row_point row;
    struct far_row_workload workload;
    bool is_suspect = false;
    for (size_t d = 0; d < ev->disks.count; d++) {
        is_suspect = is_suspect || ((const struct far_sub_point_part *)ev->disks.items)[d].suspect;
    }
    FAR_TRY(far_point_find(step, ev->id, &row));
    FAR_TRY(far_move_id(step, &far_table_point, (size_t)row.state, POINT_CREATE, ev->id, NULL));
    row = (struct far_row_point){.id = ev->id,
                                 .workload_id = ev->workload_id,
                                 .plan_id = ev->plan_id,
                                 .checkpoint_id = ev->checkpoint_id,
                                 .job_id = ev->job_id,
                                 .node_id = ev->node_id,
                                 .state = FAR_point_state_available,
                                 .proof = ev->proof,
                                 .coverage_ppm = ev->coverage_ppm,
                                 .fuzzy = ev->fuzzy,
                                 .frozen_at_ms = ev->frozen_at_ms,
                                 .created_ms = step->time_ms,
                                 .disk_count = ev->disks.count,
                                 .plan_epoch = ev->plan_epoch,
                                 .domain_id = ev->domain_id,
                                 .oldest_ms = ev->oldest_ms,
                                 .suspect = is_suspect,
                                 .suspected_ms = is_suspect ? step->time_ms : 0,
                                 .recovery_id = ev->recovery_id};
    bool has;
    FAR_TRY(far_row_need(step, &far_schema_row_workload, ev->workload_id, &workload));
    row.config_id = ev->adopted ? ev->config_id : workload.config_id;
    bool is_newest = !ev->adopted || workload.last_point_id < ev->id;
    FAR_TRY(far_level_has(step, 4, &has));
    FAR_TRY(has ? keep_coverage(step, ev, is_newest) : 0);
    FAR_TRY(has && !ev->adopted ? keep_reached(step, ev) : 0);
    FAR_TRY(far_row_put(step, &far_schema_row_point, row.id, &row));
    FAR_TRY(far_recovery_hold(step, row.recovery_id));
    FAR_TRY(far_machine_config_hold(step, row.config_id));
    FAR_TRY(far_node_points(step, row.node_id, 1));
    FAR_TRY(far_domain_points(step, row.domain_id, 1));
    FAR_TRY(far_vault_row_point(step, row.node_id, row.plan_id, 1));
    FAR_TRY(far_node_vault_leave(step, &workload));
    for (size_t d = 0; d < ev->disks.count; d++) {
        FAR_TRY(create_disk(step, ev, d, has, is_newest));
    }
    workload.last_point_id = is_newest ? row.id : workload.last_point_id;
    workload.target_node_id = is_newest ? row.node_id : workload.target_node_id;
    workload.point_count++;
    FAR_TRY(far_node_vault_enter(step, &workload));
    far_id_used(step, row.id);
    return far_row_put(step, &far_schema_row_workload, workload.id, &workload);
}

/* ---- verification ---- */

int far_point_verified(struct far_step *step, const struct far_group *g)
{
    struct far_ev_point_verified ev = {.point_id = g->tasks[0].point_id,
                                       .checkpoint_id = g->job.checkpoint_id,
                                       .state = FAR_point_state_available};
    for (size_t i = 0; i < g->count; i++) {
        const struct far_row_task *row = &g->tasks[i];
        if (far_slice_equal(row->error_class, far_slice_str("corrupt")) && row->state == FAR_task_state_failed) {
            ev.state = FAR_point_state_damaged;
        } else if (row->state != FAR_task_state_done && ev.state != FAR_point_state_damaged) {
            ev.state = 0; /* not looked at completely: says nothing */
        }
    }
    FAR_TRY(ev.state != 0 ? far_emit(step, &far_schema_ev_point_verified, &ev) : 0);
    return ev.state == FAR_point_state_available ? far_scrub_good(step, g->tasks[0].node_id) : 0;
}

/* From feature level 4 on a damaged checkpoint is available again with the last of its points. */
int far_point_look_again(struct far_step *step, struct far_row_checkpoint *checkpoint)
{
    struct far_key key = far_key_id(&far_schema_row_checkpoint_member, checkpoint->id);
    bool has;
    FAR_TRY(far_level_has(step, 4, &has));
    if (!has || checkpoint->state != FAR_point_state_damaged) {
        return 0;
    }
    for (;;) {
        struct far_row_checkpoint_member member;
        struct far_row_point point;
        int rc = far_checkpoint_member(step, checkpoint->id, &key, &member);
        if (rc == FAR_NOT_FOUND) {
            checkpoint->state = FAR_point_state_available;
            return far_row_put(step, &far_schema_row_checkpoint, checkpoint->id, checkpoint);
        }
        FAR_TRY(rc);
        FAR_TRY(far_point_find(step, member.point_id, &point));
        if (point.state == FAR_point_state_damaged) {
            return 0;
        }
    }
}

int far_evolve_point_verified(struct far_step *step, const struct far_ev_point_verified *ev)
{
    struct far_row_point row;
    struct far_row_checkpoint checkpoint;
    bool is_damaged = ev->state == FAR_point_state_damaged;
    FAR_TRY(far_point_find(step, ev->point_id, &row));
    FAR_TRY(far_move_id(step, &far_table_point, (size_t)row.state, is_damaged ? POINT_DAMAGED : POINT_GOOD,
                        ev->point_id, NULL));
    row.state = is_damaged ? FAR_point_state_damaged : FAR_point_state_available;
    row.verified_ms = step->time_ms;
    FAR_TRY(far_row_put(step, &far_schema_row_point, row.id, &row));
    FAR_TRY(far_row_need(step, &far_schema_row_checkpoint, ev->checkpoint_id, &checkpoint));
    FAR_TRY(far_expiry_wake(step, checkpoint.plan_id));
    if (!is_damaged) {
        return far_point_look_again(step, &checkpoint);
    }
    if (checkpoint.state != FAR_point_state_available) {
        return 0;
    }
    checkpoint.state = FAR_point_state_damaged;
    return far_row_put(step, &far_schema_row_checkpoint, checkpoint.id, &checkpoint);
}

/* ---- removal ---- */

static int drop_base(struct far_step *step, struct far_row_workload *workload)
{
    workload->last_point_id = 0;
    for (uint64_t d = 0; d < workload->disk_count; d++) {
        struct far_row_disk disk;
        struct far_key key = far_key_part(&far_schema_row_disk, workload->id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &disk));
        disk.size_bytes = 0;
        disk.identity = disk.root = disk.token = far_slice(NULL, 0);
        FAR_TRY(far_key_put(step, &far_schema_row_disk, &key, &disk));
        FAR_TRY(far_coverage_drop(step, workload->id, d));
    }
    return 0;
}

/* Points of before feature level 4 are not listed. */
static int unlist(struct far_step *step, const struct far_row_point *row)
{
    struct far_row_workload_point listed;
    struct far_key key = far_key_pair(&far_schema_row_workload_point, row->workload_id, row->id);
    int rc = far_key_find(step, &far_schema_row_workload_point, &key, &listed);
    return rc == 0 ? far_key_del(step, &far_schema_row_workload_point, &key) : rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_point_remove(struct far_step *step, uint64_t id)
{
    struct far_row_point row;
    struct far_row_workload workload;
    FAR_TRY(far_point_find(step, id, &row));
    FAR_TRY(far_move_id(step, &far_table_point, (size_t)row.state, POINT_REMOVE, id, NULL));
    FAR_TRY(unlist(step, &row));
    row.state = FAR_point_state_removed;
    FAR_TRY(far_row_put(step, &far_schema_row_point, id, &row));
    FAR_TRY(far_recovery_let_go(step, row.recovery_id));
    FAR_TRY(far_machine_config_let_go(step, row.config_id));
    FAR_TRY(far_node_points(step, row.node_id, -1));
    FAR_TRY(far_domain_points(step, row.domain_id, -1));
    FAR_TRY(far_vault_row_point(step, row.node_id, row.plan_id, -1));
    int rc = far_row_find(step, &far_schema_row_workload, row.workload_id, &workload);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc; /* the workload was removed before its points */
    }
    if (workload.point_count == 0) {
        return far_reject(step, FAR_INTERNAL, "broken: workload %llu has no points", FAR_LLU(workload.id));
    }
    FAR_TRY(far_node_vault_leave(step, &workload));
    workload.point_count--;
    workload.target_node_id = workload.point_count != 0 ? workload.target_node_id : 0;
    FAR_TRY(workload.last_point_id == id ? drop_base(step, &workload) : 0);
    FAR_TRY(far_node_vault_enter(step, &workload));
    return far_row_put(step, &far_schema_row_workload, workload.id, &workload);
}
