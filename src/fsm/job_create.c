/* The tasks of a job: whole workloads at a time, at most 256 tasks at once; the job's row says which workload is next,
 * and its deadline brings the rest. What can be assigned at once is, in the same event. */
#include "fsm/job.h"
#include "fsm/node_load.h"
#include "fsm/plan_edit.h"
#include "fsm/script_task.h"
#include "fsm/site_limit.h"

struct batch {
    struct far_sub_task_new items[FAR_TASKS_AT_ONCE_MAX];
    size_t count;
};

static struct far_sub_task_new *add(struct batch *batch, struct far_sub_task_new item)
{
    batch->items[batch->count] = item;
    return &batch->items[batch->count++];
}

static int hold(struct far_step *step, struct far_sub_task_new *item, struct far_candidate *node)
{
    struct far_row_task row = {.kind = item->kind, .size_bytes = item->size_bytes};
    bool is_free = false;
    FAR_TRY(node != NULL ? far_slot_free(step, node->site_id, &row, &is_free) : 0);
    if (is_free) {
        item->node_id = node->node_id;
        item->boot = node->boot;
        far_candidate_add(step, node, &row);
    }
    return 0;
}

static int emit_and_wake(struct far_step *step, const struct far_row_job *job, const struct batch *batch, uint64_t next_workload_id,
                         uint64_t wake_ms)
{
    struct far_ev_tasks_created ev = {.job_id = job->id,
                                      .first_task = job->task_count + 1,
                                      .next_workload_id = next_workload_id,
                                      .wake_ms = wake_ms,
                                      .items = {.items = batch->items, .count = batch->count}};
    FAR_TRY(far_lease_until(step, &ev.lease_until_ms));
    return far_emit(step, &far_schema_ev_tasks_created, &ev);
}

static int emit(struct far_step *step, const struct far_row_job *job, const struct batch *batch, uint64_t next_workload_id)
{
    return emit_and_wake(step, job, batch, next_workload_id, 0);
}

/* ---- a replication ---- */

static int add_replicated(struct far_step *step, struct batch *batch, const struct far_row_workload *workload,
                          uint64_t point_id, bool waits)
{
    struct far_candidate *node = NULL;
    struct far_sub_task_new item = {.kind = FAR_task_kind_freeze, .ready = !waits, .workload_id = workload->id};
    FAR_TRY(far_workload_size(step, workload, &item.size_bytes));
    FAR_TRY(waits ? 0 : far_candidate_source(step, workload->site_id, workload->adapter, workload->source_node_id, item.size_bytes, &node));
    FAR_TRY(hold(step, add(batch, item), node));
    item.ready = false;
    item.size_bytes = 0;
    item.kind = FAR_task_kind_seal;
    item.point_id = point_id;
    add(batch, item);
    item.kind = FAR_task_kind_release;
    item.point_id = 0;
    add(batch, item);
    for (uint64_t d = 0; d < workload->disk_count; d++) {
        item.disk_index = d;
        item.kind = FAR_task_kind_send;
        add(batch, item);
        item.kind = FAR_task_kind_receive;
        add(batch, item);
    }
    return 0;
}

/* Its first tasks. */
static int add_scripts(struct far_step *step, const struct far_row_job *job, struct batch *batch, size_t *ret_count)
{
    struct far_row_plan plan;
    bool has;
    FAR_TRY(far_level_has(step, 4, &has));
    FAR_TRY(has ? far_row_need(step, &far_schema_row_plan, job->plan_id, &plan) : 0);
    FAR_TRY(has ? far_cycle_scripts_new(step, &plan, batch->items, ret_count) : 0);
    batch->count = *ret_count;
    return 0;
}

static int emit_cycle(struct far_step *step, const struct far_row_job *job, const struct batch *batch, size_t scripts,
                      uint64_t next_workload_id)
{
    bool has_scripts = scripts > 0 || job->script_count > 0; /* it may be over at once: its deadline looks */
    FAR_TRY(emit_and_wake(step, job, batch, next_workload_id, has_scripts ? step->time_ms + 1 : 0));
    return has_scripts ? far_tasks_look_around(step, job->id) : 0;
}

static int create_replicated(struct far_step *step, const struct far_row_job *job, struct batch *batch)
{
    struct far_key key = far_key_pair(&far_schema_row_plan_workload, job->plan_id, job->next_workload_id);
    uint64_t point_id = step->progress.next_id;
    size_t scripts = 0;
    FAR_TRY(job->task_count == 0 ? add_scripts(step, job, batch, &scripts) : 0);
    for (;;) {
        struct far_row_plan_workload member;
        struct far_row_workload workload;
        bool waits;
        int rc = far_plan_member_next(step, job->plan_id, &key, &member);
        if (rc == FAR_NOT_FOUND) {
            return emit_cycle(step, job, batch, scripts, 0);
        }
        FAR_TRY(rc);
        if (member.moved_ms != 0) {
            continue;
        }
        FAR_TRY(far_row_need(step, &far_schema_row_workload, member.workload_id, &workload));
        if (batch->count + 3 + 2 * workload.disk_count > FAR_TASKS_AT_ONCE_MAX) {
            return emit_cycle(step, job, batch, scripts, member.workload_id);
        }
        FAR_TRY(far_cycle_scripts_hold(step, job, batch->items, scripts, workload.id, &waits));
        FAR_TRY(add_replicated(step, batch, &workload, point_id++, waits));
    }
}

/* ---- tasks on points ---- */

static int add_point(struct far_step *step, struct batch *batch, const struct far_row_job *job,
                     const struct far_row_point *point)
{
    bool is_verify = job->kind == FAR_job_kind_verify, spreads;
    uint64_t other = job->kind == FAR_job_kind_lock      ? FAR_task_kind_lock
                     : job->kind == FAR_job_kind_rescore ? FAR_task_kind_rescore
                                                         : FAR_task_kind_forget;
    uint64_t count = is_verify ? point->disk_count : 1;
    FAR_TRY(far_level_spreads(step, &spreads));
    for (uint64_t d = 0; d < count; d++) {
        struct far_candidate *node;
        struct far_sub_task_new item = {.kind = is_verify ? (uint64_t)FAR_task_kind_verify : other,
                                        .ready = true,
                                        .workload_id = point->workload_id,
                                        .disk_index = d,
                                        .point_id = point->id};
        if (is_verify && spreads) {
            struct far_row_point_disk disk;
            struct far_key key = far_key_part(&far_schema_row_point_disk, point->id, d);
            FAR_TRY(far_key_need(step, &far_schema_row_point_disk, &key, &disk));
            item.size_bytes = disk.size_bytes;
        }
        FAR_TRY(far_candidate_node(step, point->node_id, &node));
        FAR_TRY(hold(step, add(batch, item), node));
    }
    return 0;
}

/* A verification reads the points that are there; forgetting takes the manifests of those that are removed. */
static int create_on_points(struct far_step *step, const struct far_row_job *job, struct batch *batch)
{
    struct far_key key = far_key_pair(&far_schema_row_checkpoint_member, job->checkpoint_id, job->next_workload_id);
    for (;;) {
        struct far_row_checkpoint_member member;
        struct far_row_point point;
        int rc = far_next(step, &far_schema_row_checkpoint_member, &key, NULL, &member);
        if (rc == FAR_NOT_FOUND || (rc == 0 && member.checkpoint_id != job->checkpoint_id)) {
            return emit(step, job, batch, 0);
        }
        FAR_TRY(rc);
        if (member.point_id == 0) {
            continue;
        }
        FAR_TRY(far_row_need(step, &far_schema_row_point, member.point_id, &point));
        if ((point.state == FAR_point_state_removed) != (job->kind == FAR_job_kind_forget)) {
            continue;
        }
        if (batch->count + point.disk_count > FAR_TASKS_AT_ONCE_MAX) {
            return emit(step, job, batch, member.workload_id);
        }
        FAR_TRY(add_point(step, batch, job, &point));
    }
}

int far_job_create_tasks(struct far_step *step, uint64_t job_id)
{
    struct far_row_job job;
    struct batch *batch = far_step_alloc(step, sizeof *batch);
    if (batch == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_job, job_id, &job));
    if (job.kind == FAR_job_kind_erase) {
        return far_erase_next(step, job_id);
    }
    if (far_job_is_run(job.kind)) {
        return far_job_settle(step, job_id);
    }
    if (job.kind == FAR_job_kind_forget && job.checkpoint_id == 0) {
        return far_members_forget_next(step, &job);
    }
    return job.kind == FAR_job_kind_replicate ? create_replicated(step, &job, batch)
                                              : create_on_points(step, &job, batch);
}

/* ---- recover ---- */

/* Does this checkpoint hold an available point of the workload? */
static int point_in(struct far_step *step, uint64_t checkpoint_id, uint64_t workload_id, struct far_row_point *ret)
{
    struct far_row_checkpoint_member member;
    struct far_key key = far_key_pair(&far_schema_row_checkpoint_member, checkpoint_id, workload_id);
    int rc = far_key_find(step, &far_schema_row_checkpoint_member, &key, &member);
    if (rc != 0 || member.point_id == 0) {
        return rc != 0 ? rc : FAR_NOT_FOUND;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_point, member.point_id, ret));
    return ret->state == FAR_point_state_available ? 0 : FAR_NOT_FOUND;
}

/* The newest checkpoint of the plan that holds an available point of the workload. */
static int newest_point(struct far_step *step, const struct far_row_plan *plan, uint64_t workload_id,
                        uint64_t *ret_checkpoint_id, struct far_row_point *ret)
{
    uint64_t id = plan->last_checkpoint_id;
    while (id != 0) {
        struct far_row_checkpoint checkpoint;
        struct far_slice at;
        int rc = far_row_find(step, &far_schema_row_checkpoint, id, &checkpoint);
        if (rc == 0 && checkpoint.plan_id == plan->id && checkpoint.state != FAR_point_state_removed) {
            rc = point_in(step, id, workload_id, ret);
            *ret_checkpoint_id = id;
            if (rc != FAR_NOT_FOUND) {
                return rc;
            }
        }
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
        struct far_key key = far_key_id(&far_schema_row_checkpoint, id);
        rc = far_state_key_before(step->state, &key, &at, step->err);
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
        bool is_checkpoint = rc == 0 && at.len == 9 && at.data[0] == FAR_KIND_row_checkpoint;
        id = is_checkpoint ? far_get_be64(at.data + 1) : 0;
    }
    return FAR_NOT_FOUND;
}

static const struct far_sub_restore_spec *spec_of(const struct far_cmd_recover *cmd, struct far_slice disk)
{
    const struct far_sub_restore_spec *specs = cmd->disks.items;
    for (size_t i = 0; i < cmd->disks.count; i++) {
        if (far_slice_equal(specs[i].disk, disk)) {
            return &specs[i];
        }
    }
    return NULL;
}

/* A file or device of a node; since level 4 also an export of an NBD server. */
static bool target_ok(struct far_slice path, bool exports)
{
    static const char *const schemes[] = {"nbd://", "nbds://", "nbd+unix://", "nbds+unix://"};
    bool ok = path.len > 0 && path.data[0] == '/';
    for (size_t i = 0; exports && !ok && i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t len = strlen(schemes[i]);
        ok = path.len > len && memcmp(path.data, schemes[i], len) == 0;
    }
    return ok;
}

static int check_specs(struct far_step *step, const struct far_cmd_recover *cmd)
{
    const struct far_sub_restore_spec *specs = cmd->disks.items;
    bool exports = false;
    FAR_TRY(far_level_has(step, 4, &exports));
    for (size_t i = 0; i < cmd->disks.count; i++) {
        if (!target_ok(specs[i].path, exports)) {
            return far_reject(step, FAR_INVALID, "disk '%.*s' needs an absolute path to be recovered to",
                              FAR_TEXT(specs[i].disk));
        }
        for (size_t k = 0; k < i; k++) {
            if (far_slice_equal(specs[k].disk, specs[i].disk) || far_slice_equal(specs[k].path, specs[i].path)) {
                return far_reject(step, FAR_INVALID, "disk '%.*s' or its path is named twice", FAR_TEXT(specs[i].disk));
            }
        }
    }
    return 0;
}

static int add_restores(struct far_step *step, const struct far_cmd_recover *cmd, const struct far_row_point *point,
                        struct batch *batch)
{
    for (uint64_t d = 0; d < point->disk_count; d++) {
        struct far_row_point_disk disk;
        struct far_candidate *node;
        struct far_key key = far_key_part(&far_schema_row_point_disk, point->id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_point_disk, &key, &disk));
        const struct far_sub_restore_spec *spec = spec_of(cmd, disk.name);
        if (spec == NULL) {
            return far_reject(step, FAR_INVALID, "no path is given for disk '%.*s' of workload '%.*s'; name every disk",
                              FAR_TEXT(disk.name), FAR_TEXT(cmd->workload));
        }
        struct far_sub_task_new item = {.kind = FAR_task_kind_restore,
                                        .ready = true,
                                        .workload_id = point->workload_id,
                                        .disk_index = d,
                                        .point_id = point->id,
                                        .target_path = spec->path,
                                        .size_bytes = disk.size_bytes};
        FAR_TRY(far_candidate_node(step, point->node_id, &node));
        FAR_TRY(hold(step, add(batch, item), node));
    }
    return cmd->disks.count == point->disk_count
               ? 0
               : far_reject(step, FAR_INVALID, "workload '%.*s' has %llu disks, %zu are named; name every disk once",
                            FAR_TEXT(cmd->workload), FAR_LLU(point->disk_count), cmd->disks.count);
}

/* The point to recover, and its checkpoint. */
static int choose_point(struct far_step *step, const struct far_cmd_recover *cmd, const struct far_row_plan *plan,
                        uint64_t workload_id, uint64_t *ret_checkpoint_id, struct far_row_point *ret_point)
{
    *ret_checkpoint_id = cmd->checkpoint_id;
    if (cmd->checkpoint_id == 0) {
        int rc = newest_point(step, plan, workload_id, ret_checkpoint_id, ret_point);
        return rc != FAR_NOT_FOUND ? rc
                                   : far_reject(step, FAR_NOT_FOUND,
                                                "no checkpoint of plan '%.*s' has an available recovery point of "
                                                "workload '%.*s'; replicate first",
                                                FAR_TEXT(cmd->plan), FAR_TEXT(cmd->workload));
    }
    struct far_row_checkpoint checkpoint;
    FAR_TRY(far_checkpoint_read(step, cmd->checkpoint_id, &checkpoint));
    if (checkpoint.plan_id != plan->id) {
        return far_reject(step, FAR_INVALID, "checkpoint %llu is not of plan '%.*s'", FAR_LLU(cmd->checkpoint_id),
                          FAR_TEXT(cmd->plan));
    }
    int rc = point_in(step, cmd->checkpoint_id, workload_id, ret_point);
    return rc != FAR_NOT_FOUND ? rc
                               : far_reject(step, FAR_NOT_FOUND,
                                            "checkpoint %llu has no available recovery point of workload '%.*s'; "
                                            "choose another",
                                            FAR_LLU(cmd->checkpoint_id), FAR_TEXT(cmd->workload));
}

int far_decide_recover(struct far_step *step, const struct far_cmd_recover *cmd)
{
    struct far_row_plan plan;
    struct far_row_workload workload;
    struct far_row_point point;
    struct far_row_node node;
    uint64_t workload_id, checkpoint_id;
    struct batch *batch = far_step_alloc(step, sizeof *batch);
    if (batch == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_plan_for_recover(step, cmd->plan, &plan));
    FAR_TRY(far_name_need(step, &far_schema_row_workload, cmd->workload, &workload_id));
    FAR_TRY(far_row_need(step, &far_schema_row_workload, workload_id, &workload));
    if (workload.plan_id != plan.id) {
        return far_reject(step, FAR_INVALID, "workload '%.*s' is not in plan '%.*s'", FAR_TEXT(cmd->workload),
                          FAR_TEXT(cmd->plan));
    }
    FAR_TRY(check_specs(step, cmd));
    FAR_TRY(choose_point(step, cmd, &plan, workload_id, &checkpoint_id, &point));
    int rc = far_row_find(step, &far_schema_row_node, point.node_id, &node);
    if (rc == FAR_NOT_FOUND) {
        return far_reject(step, FAR_NOT_FOUND, "the node whose vault held recovery point %llu was removed",
                          FAR_LLU(point.id));
    }
    FAR_TRY(rc);
    for (size_t i = 0; i < cmd->disks.count; i++) {
        const struct far_sub_restore_spec *spec = (const struct far_sub_restore_spec *)cmd->disks.items + i;
        bool is_known = false;
        for (uint64_t d = 0; d < point.disk_count && !is_known; d++) {
            struct far_row_point_disk disk;
            struct far_key key = far_key_part(&far_schema_row_point_disk, point.id, d);
            FAR_TRY(far_key_need(step, &far_schema_row_point_disk, &key, &disk));
            is_known = far_slice_equal(disk.name, spec->disk);
        }
        if (!is_known) {
            return far_reject(step, FAR_INVALID, "workload '%.*s' has no disk '%.*s'", FAR_TEXT(cmd->workload),
                              FAR_TEXT(spec->disk));
        }
    }
    FAR_TRY(add_restores(step, cmd, &point, batch));
    if (point.suspect) {
        far_warn(step, "recovery point %llu is suspect: it rests on lists of changes that were found to miss some, so blocks of it may be "
                       "older; the events change_list_missed say which disk, and what was found",
                 FAR_LLU(point.id));
    }
    struct far_row_job job = {.id = step->progress.next_id};
    struct far_ev_job_started ev = {.id = job.id,
                                    .kind = FAR_job_kind_recover,
                                    .plan_id = plan.id,
                                    .workload_id = workload_id,
                                    .checkpoint_id = checkpoint_id,
                                    .actor = step->actor,
                                    .fuzzy = point.fuzzy};
    step->object_id = job.id;
    FAR_TRY(far_emit(step, &far_schema_ev_job_started, &ev));
    return emit(step, &job, batch, 0);
}

int far_job_begin_at(struct far_step *step, const struct far_ev_job_started *job, struct far_sub_task_new *task, uint64_t node_id)
{
    struct far_candidate *node;
    struct far_ev_tasks_created created = {.job_id = job->id, .first_task = 1, .items = {.items = task, .count = 1}};
    FAR_TRY(far_candidate_node(step, node_id, &node));
    if (node != NULL) {
        task->node_id = node->node_id;
        task->boot = node->boot;
    }
    FAR_TRY(far_emit(step, &far_schema_ev_job_started, job));
    FAR_TRY(far_lease_until(step, &created.lease_until_ms));
    return far_emit(step, &far_schema_ev_tasks_created, &created);
}
