/* Recovery points and checkpoints.
 *
 * A recovery point is a workload at one instant: all its disks from one freeze, the two roots of each equal, made by one
 * event when the target has sealed it. A checkpoint is what one cycle made of a plan. A point lives as long as a
 * checkpoint names it; a removed checkpoint's job takes the manifests of points nobody names any more out of the vault. */
#include "fsm/coverage.h"
#include "fsm/dedup_domain.h"
#include "fsm/job.h"
#include "fsm/node_load.h"
#include "fsm/rpo.h"
#include "fsm/task.h"

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

enum { CREATE, RECOVER, VERIFY, REMOVE };
static const char *const states[] = {"absent", "available", "damaged", "removed"};
static const char *const inputs[] = {"create", "recover", "checkpoint_verify", "checkpoint_remove"};
static const struct far_cell cells[4][4] = {
    [ABSENT] = {[CREATE] = FAR_MOVE(AVAILABLE), [RECOVER] = GONE, [VERIFY] = GONE, [REMOVE] = GONE},
    [AVAILABLE] = {[CREATE] = TAKEN, [RECOVER] = FAR_MOVE(AVAILABLE), [VERIFY] = FAR_MOVE(AVAILABLE),
                   [REMOVE] = FAR_MOVE(REMOVED)},
    [DAMAGED] = {[CREATE] = TAKEN, [RECOVER] = FAR_MOVE(DAMAGED), [VERIFY] = FAR_MOVE(DAMAGED),
                 [REMOVE] = FAR_MOVE(REMOVED)},
    [REMOVED] = {[CREATE] = TAKEN, [RECOVER] = OVER, [VERIFY] = OVER, [REMOVE] = OVER},
};
const struct far_table far_table_checkpoint = FAR_TABLE("checkpoint", states, inputs, cells);

/* ---- making a point ---- */

/* All zero if there is none. */
static int look_point(struct far_step *step, uint64_t id, struct far_row_point *ret)
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
    FAR_TRY(look_point(step, g->workload.last_point_id, &last));
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
    FAR_TRY(far_emit(step, &far_schema_ev_point_created, &ev));
    FAR_TRY(far_rpo_look(step, ev.plan_id));
    return far_list_proven(step, &ev);
}

/* has_lists: from feature level 4 on a disk that was not hashed as a whole went by a list. */
static int create_disk(struct far_step *step, const struct far_ev_point_created *ev, size_t d, bool has_lists)
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
    key = far_key_part(&far_schema_row_disk, ev->workload_id, d);
    FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &disk));
    disk.size_bytes = part->size_bytes;
    disk.identity = part->identity;
    disk.root = part->root;
    disk.token = part->token;
    return far_key_put(step, &far_schema_row_disk, &key, &disk);
}

static int keep_coverage(struct far_step *step, const struct far_ev_point_created *ev)
{
    const struct far_sub_point_part *parts = ev->disks.items;
    struct far_row_workload_point point = {.proof = ev->proof, .frozen_at_ms = ev->frozen_at_ms};
    struct far_key key = far_key_pair(&far_schema_row_workload_point, ev->workload_id, ev->id);
    for (size_t d = 0; d < ev->disks.count; d++) {
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
    FAR_TRY(look_point(step, ev->id, &row));
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
                                 .suspected_ms = is_suspect ? step->time_ms : 0};
    bool has;
    FAR_TRY(far_level_has(step, 4, &has));
    FAR_TRY(has ? keep_coverage(step, ev) : 0);
    FAR_TRY(has ? keep_reached(step, ev) : 0);
    FAR_TRY(far_row_put(step, &far_schema_row_point, row.id, &row));
    FAR_TRY(far_node_points(step, row.node_id, 1));
    FAR_TRY(far_domain_points(step, row.domain_id, 1));
    FAR_TRY(far_row_need(step, &far_schema_row_workload, ev->workload_id, &workload));
    FAR_TRY(far_node_vault_leave(step, &workload));
    for (size_t d = 0; d < ev->disks.count; d++) {
        FAR_TRY(create_disk(step, ev, d, has));
    }
    workload.last_point_id = row.id;
    workload.target_node_id = row.node_id;
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
    return ev.state != 0 ? far_emit(step, &far_schema_ev_point_verified, &ev) : 0;
}

int far_evolve_point_verified(struct far_step *step, const struct far_ev_point_verified *ev)
{
    struct far_row_point row;
    struct far_row_checkpoint checkpoint;
    bool is_damaged = ev->state == FAR_point_state_damaged;
    FAR_TRY(look_point(step, ev->point_id, &row));
    FAR_TRY(far_move_id(step, &far_table_point, (size_t)row.state, is_damaged ? POINT_DAMAGED : POINT_GOOD,
                        ev->point_id, NULL));
    row.state = is_damaged ? FAR_point_state_damaged : FAR_point_state_available;
    row.verified_ms = step->time_ms;
    FAR_TRY(far_row_put(step, &far_schema_row_point, row.id, &row));
    FAR_TRY(far_row_need(step, &far_schema_row_checkpoint, ev->checkpoint_id, &checkpoint));
    if (!is_damaged || checkpoint.state != FAR_point_state_available) {
        return 0;
    }
    checkpoint.state = FAR_point_state_damaged;
    return far_row_put(step, &far_schema_row_checkpoint, checkpoint.id, &checkpoint);
}

/* ---- checkpoints ---- */

/* All zero if there is none. */
static int look(struct far_step *step, uint64_t id, struct far_row_checkpoint *ret)
{
    int rc = far_row_find(step, &far_schema_row_checkpoint, id, ret);
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_row_checkpoint){.id = 0};
        return 0;
    }
    return rc;
}

int far_checkpoint_read(struct far_step *step, uint64_t id, struct far_row_checkpoint *ret)
{
    FAR_TRY(look(step, id, ret));
    return far_move_id(step, &far_table_checkpoint, (size_t)ret->state, RECOVER, id, NULL);
}

int far_checkpoint_readers(struct far_step *step, uint64_t checkpoint_id, int delta)
{
    struct far_row_checkpoint row;
    FAR_TRY(far_row_need(step, &far_schema_row_checkpoint, checkpoint_id, &row));
    if (delta < 0 && row.readers == 0) {
        return far_reject(step, FAR_INTERNAL, "broken: nobody reads checkpoint %llu", FAR_LLU(checkpoint_id));
    }
    row.readers += (uint64_t)(int64_t)delta;
    return far_row_put(step, &far_schema_row_checkpoint, checkpoint_id, &row);
}

int far_evolve_checkpoint_created(struct far_step *step, const struct far_ev_checkpoint_created *ev)
{
    const struct far_sub_member *members = ev->members.items;
    struct far_row_checkpoint row;
    FAR_TRY(look(step, ev->id, &row));
    FAR_TRY(far_move_id(step, &far_table_checkpoint, (size_t)row.state, CREATE, ev->id, NULL));
    row = (struct far_row_checkpoint){.id = ev->id,
                                      .plan_id = ev->plan_id,
                                      .job_id = ev->job_id,
                                      .created_ms = step->time_ms,
                                      .member_count = ev->members.count,
                                      .skew_ms = ev->skew_ms,
                                      .state = FAR_point_state_available};
    for (size_t i = 0; i < ev->members.count; i++) {
        struct far_row_checkpoint_member member = {.checkpoint_id = ev->id,
                                                   .workload_id = members[i].workload_id,
                                                   .point_id = members[i].point_id,
                                                   .failed = members[i].failed,
                                                   .error_message = members[i].error_message};
        struct far_key key = far_key_pair(&far_schema_row_checkpoint_member, ev->id, member.workload_id);
        FAR_TRY(far_key_put(step, &far_schema_row_checkpoint_member, &key, &member));
        row.failed_count += member.failed;
        if (member.point_id != 0) {
            struct far_row_point point;
            FAR_TRY(far_row_need(step, &far_schema_row_point, member.point_id, &point));
            point.holds++;
            FAR_TRY(far_row_put(step, &far_schema_row_point, point.id, &point));
        }
    }
    FAR_TRY(far_row_put(step, &far_schema_row_checkpoint, row.id, &row));
    return far_plan_checkpoint(step, ev->plan_id, ev->id);
}

/* The member behind *key, which moves on; FAR_NOT_FOUND behind the last one of the checkpoint. */
static int next_member(struct far_step *step, uint64_t checkpoint_id, struct far_key *key,
                       struct far_row_checkpoint_member *ret_member)
{
    int rc = far_next(step, &far_schema_row_checkpoint_member, key, NULL, ret_member);
    return rc == 0 && ret_member->checkpoint_id != checkpoint_id ? FAR_NOT_FOUND : rc;
}

/* The first workload of the checkpoint, and whether a point of it is there to be read. */
static int survey(struct far_step *step, uint64_t checkpoint_id, uint64_t *ret_first_workload_id, size_t *ret_points)
{
    struct far_key key = far_key_id(&far_schema_row_checkpoint_member, checkpoint_id);
    *ret_first_workload_id = 0;
    *ret_points = 0;
    for (;;) {
        struct far_row_checkpoint_member member;
        struct far_row_point point;
        int rc = next_member(step, checkpoint_id, &key, &member);
        if (rc != 0) {
            return rc == FAR_NOT_FOUND ? 0 : rc;
        }
        *ret_first_workload_id = *ret_first_workload_id != 0 ? *ret_first_workload_id : member.workload_id;
        FAR_TRY(look_point(step, member.point_id, &point));
        *ret_points += point.state == FAR_point_state_available || point.state == FAR_point_state_damaged;
    }
}

static int start_job(struct far_step *step, const struct far_row_checkpoint *checkpoint, uint64_t kind,
                     uint64_t first_workload_id)
{
    struct far_ev_job_started ev = {.id = step->progress.next_id,
                                    .kind = kind,
                                    .plan_id = checkpoint->plan_id,
                                    .checkpoint_id = checkpoint->id,
                                    .actor = step->actor,
                                    .next_workload_id = first_workload_id};
    step->object_id = ev.id;
    FAR_TRY(far_emit(step, &far_schema_ev_job_started, &ev));
    return far_job_create_tasks(step, ev.id);
}

int far_decide_checkpoint_verify(struct far_step *step, const struct far_cmd_checkpoint_verify *cmd)
{
    struct far_row_checkpoint row;
    uint64_t first_workload_id;
    size_t points;
    FAR_TRY(look(step, cmd->checkpoint_id, &row));
    FAR_TRY(far_move_id(step, &far_table_checkpoint, (size_t)row.state, VERIFY, cmd->checkpoint_id, NULL));
    FAR_TRY(survey(step, row.id, &first_workload_id, &points));
    if (points == 0) {
        return far_reject(step, FAR_NOT_FOUND, "checkpoint %llu has no recovery point to verify", FAR_LLU(row.id));
    }
    return start_job(step, &row, FAR_job_kind_verify, first_workload_id);
}

/* ---- removal ---- */

/* The points that only this checkpoint names. */
static int orphans(struct far_step *step, uint64_t checkpoint_id, uint64_t *ids, size_t *ret_count)
{
    struct far_key key = far_key_id(&far_schema_row_checkpoint_member, checkpoint_id);
    *ret_count = 0;
    for (;;) {
        struct far_row_checkpoint_member member;
        struct far_row_point point;
        int rc = next_member(step, checkpoint_id, &key, &member);
        if (rc != 0) {
            return rc == FAR_NOT_FOUND ? 0 : rc;
        }
        if (member.point_id != 0) {
            FAR_TRY(far_row_need(step, &far_schema_row_point, member.point_id, &point));
            if (point.holds == 1 && *ret_count < 256) {
                ids[(*ret_count)++] = point.id;
            }
        }
    }
}

int far_decide_checkpoint_remove(struct far_step *step, const struct far_cmd_checkpoint_remove *cmd)
{
    struct far_row_checkpoint row;
    struct far_row_plan plan;
    uint64_t ids[256], first_workload_id;
    size_t count, points;
    FAR_TRY(look(step, cmd->checkpoint_id, &row));
    FAR_TRY(far_move_id(step, &far_table_checkpoint, (size_t)row.state, REMOVE, cmd->checkpoint_id, NULL));
    if (row.readers != 0) {
        return far_reject(step, FAR_CONFLICT, "checkpoint %llu is being read by %llu jobs; wait for them",
                          FAR_LLU(row.id), FAR_LLU(row.readers));
    }
    int rc = far_row_find(step, &far_schema_row_plan, row.plan_id, &plan);
    if (rc == 0 && plan.running_job_id != 0) {
        return far_reject(step, FAR_CONFLICT, "plan '%.*s' runs a replication cycle; wait for it or cancel job %llu",
                          FAR_TEXT(plan.name), FAR_LLU(plan.running_job_id));
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    FAR_TRY(survey(step, row.id, &first_workload_id, &points));
    FAR_TRY(orphans(step, row.id, ids, &count));
    struct far_ev_checkpoint_removed ev = {.id = row.id, .point_ids = {.items = ids, .count = count}};
    FAR_TRY(far_emit(step, &far_schema_ev_checkpoint_removed, &ev));
    FAR_TRY(count > 0 ? start_job(step, &row, FAR_job_kind_forget, first_workload_id) : 0);
    step->object_id = row.id;
    return 0;
}

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

static int remove_point(struct far_step *step, uint64_t id)
{
    struct far_row_point row;
    struct far_row_workload workload;
    FAR_TRY(look_point(step, id, &row));
    FAR_TRY(far_move_id(step, &far_table_point, (size_t)row.state, POINT_REMOVE, id, NULL));
    FAR_TRY(unlist(step, &row));
    row.state = FAR_point_state_removed;
    FAR_TRY(far_row_put(step, &far_schema_row_point, id, &row));
    FAR_TRY(far_node_points(step, row.node_id, -1));
    FAR_TRY(far_domain_points(step, row.domain_id, -1));
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

int far_evolve_checkpoint_removed(struct far_step *step, const struct far_ev_checkpoint_removed *ev)
{
    const uint64_t *ids = ev->point_ids.items;
    struct far_row_checkpoint row;
    struct far_key key = far_key_id(&far_schema_row_checkpoint_member, ev->id);
    FAR_TRY(look(step, ev->id, &row));
    FAR_TRY(far_move_id(step, &far_table_checkpoint, (size_t)row.state, REMOVE, ev->id, NULL));
    row.state = FAR_point_state_removed;
    FAR_TRY(far_row_put(step, &far_schema_row_checkpoint, row.id, &row));
    for (uint64_t i = 0; i < row.member_count; i++) {
        struct far_row_checkpoint_member member;
        struct far_row_point point;
        FAR_TRY(far_next(step, &far_schema_row_checkpoint_member, &key, NULL, &member));
        if (member.point_id != 0) {
            FAR_TRY(far_row_need(step, &far_schema_row_point, member.point_id, &point));
            point.holds--;
            FAR_TRY(far_row_put(step, &far_schema_row_point, point.id, &point));
        }
    }
    for (size_t i = 0; i < ev->point_ids.count; i++) {
        FAR_TRY(remove_point(step, ids[i]));
    }
    return 0;
}
