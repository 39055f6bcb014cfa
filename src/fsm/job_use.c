/* Jobs that use a disk of a checkpoint where it lies: opened over NBD, exported, compared, copied, hydrated, browsed. One task, done by the
 * node whose vault holds the point; what comes of it (where it is served, what differs) is told by that node's reports, as soon as there is
 * something to tell, and kept with the job.
 *
 * While the job runs it counts as a reader of each checkpoint that it names, so nobody removes one, and retention leaves it
 * (checkpoint_lock.c). An open one ends when the job is canceled, or by itself when its time is over. A lost attempt begins again. */
#include "fsm/job_use.h"

#include "fsm/checkpoint.h"

enum { DURATION_S_MAX = 366 * 86400 };

/* What is asked for, while it is looked at. */
struct wish {
    const struct far_cmd_checkpoint_use *cmd;
    struct far_row_checkpoint checkpoint;
    struct far_row_workload workload; /* its name; id 0: it was removed since */
    struct far_row_point point;
    struct far_row_point_disk disk;
    struct far_sub_use use;
};

/* ---- what may be asked for ---- */

static bool makes_file(uint64_t operation)
{
    return operation == FAR_point_use_export || operation == FAR_point_use_get || operation == FAR_point_use_hydrate ||
           operation == FAR_point_use_copy;
}

static bool is_served(uint64_t operation)
{
    return operation == FAR_point_use_open || operation == FAR_point_use_hydrate;
}

static bool has_nul(struct far_slice text)
{
    return text.len > 0 && memchr(text.data, 0, text.len) != NULL;
}

/* Part by part: nothing that leads out of a folder. Whether the folder is one that the node allows only the node can tell. */
static bool is_path(struct far_slice path)
{
    size_t begin = path.len > 0 && path.data[0] == '/' ? 1 : 0;
    bool good = path.len > begin && !has_nul(path);
    while (good && begin <= path.len) {
        size_t end = begin;
        while (end < path.len && path.data[end] != '/') {
            end++;
        }
        struct far_slice part = far_slice(path.data + begin, end - begin);
        good = part.len > 0 && part.len <= 200 && !far_slice_equal(part, far_slice_str(".")) && !far_slice_equal(part, far_slice_str(".."));
        begin = end + 1;
    }
    return good;
}

static int check_fields(struct far_step *step, const struct far_cmd_checkpoint_use *cmd)
{
    uint64_t operation = cmd->operation;
    bool browses = operation == FAR_point_use_list || operation == FAR_point_use_get;
    if (operation == 0) {
        return far_reject(step, FAR_INVALID, "what is the checkpoint to be used for?");
    }
    if (makes_file(operation) != (cmd->path.len > 0) && operation != FAR_point_use_diff) {
        return far_reject(step, FAR_INVALID,
                          makes_file(operation) ? "a path on the node is needed" : "nothing is written: no path is needed");
    }
    if (cmd->path.len > 0 && !is_path(cmd->path)) {
        return far_reject(step, FAR_INVALID, "'%.*s' is no path of a file: names of at most 200 bytes, none of them '.' or '..'",
                          FAR_TEXT(cmd->path));
    }
    if ((operation == FAR_point_use_diff) != (cmd->other_checkpoint_id != 0) && operation != FAR_point_use_export) {
        return far_reject(step, FAR_INVALID, operation == FAR_point_use_diff ? "with which checkpoint is it to be compared?"
                                                                             : "a second checkpoint is only for comparing and exporting");
    }
    bool is_based = operation == FAR_point_use_export && cmd->other_checkpoint_id != 0;
    if (is_based != (cmd->backing.len > 0) || has_nul(cmd->backing) || (is_based && cmd->format != FAR_image_format_qcow2)) {
        return far_reject(step, FAR_INVALID, "a base checkpoint, its file ('backing') and the format qcow2 go together");
    }
    if ((cmd->format != 0 && operation != FAR_point_use_export) || (cmd->writable && operation != FAR_point_use_open) ||
        (cmd->duration_s != 0 && !is_served(operation)) || (cmd->listen.len > 0 && !is_served(operation))) {
        return far_reject(step, FAR_INVALID, "format is for export; writable is for open; listen and duration_s are for what is served");
    }
    if (browses != (cmd->guest_path.len > 0) || (browses && (cmd->guest_path.data[0] != '/' || has_nul(cmd->guest_path)))) {
        return far_reject(step, FAR_INVALID, "guest_path is for browsing: an absolute path in the guest");
    }
    if ((cmd->range_offset != 0 && operation != FAR_point_use_diff) || (cmd->write_bytes_max != 0 && !cmd->writable)) {
        return far_reject(step, FAR_INVALID, "range_offset is for diff; write_bytes_max is for what is opened writable");
    }
    if (cmd->duration_s > DURATION_S_MAX || has_nul(cmd->listen)) {
        return far_reject(step, FAR_INVALID, "at most a year");
    }
    return 0;
}

/* ---- which point, and which disk ---- */

/* The point of the workload, or (workload_id 0) the only point of the checkpoint that is there. */
static int find_point(struct far_step *step, uint64_t checkpoint_id, uint64_t workload_id, struct far_row_point *ret)
{
    struct far_key key = far_key_id(&far_schema_row_checkpoint_member, checkpoint_id);
    struct far_row_checkpoint_member member;
    size_t found = 0;
    int rc;
    while ((rc = far_checkpoint_member(step, checkpoint_id, &key, &member)) == 0) {
        struct far_row_point point;
        FAR_TRY(far_point_find(step, member.point_id, &point));
        bool is_there = point.state == FAR_point_state_available || point.state == FAR_point_state_damaged;
        if (is_there && (workload_id == 0 || member.workload_id == workload_id)) {
            *ret = point;
            found++;
        }
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    if (found == 1) {
        return 0;
    }
    return found == 0 ? far_reject(step, FAR_NOT_FOUND, "checkpoint %llu has no recovery point of %s", FAR_LLU(checkpoint_id),
                                   workload_id != 0 ? "this workload" : "any workload")
                      : far_reject(step, FAR_INVALID, "checkpoint %llu has points of several workloads: which one?",
                                   FAR_LLU(checkpoint_id));
}

/* The disk of that name, or (name empty) the only one. */
static int find_disk(struct far_step *step, const struct far_row_point *point, struct far_slice name, uint64_t *ret_index,
                     struct far_row_point_disk *ret)
{
    if (name.len == 0 && point->disk_count != 1) {
        return far_reject(step, FAR_INVALID, "recovery point %llu has %llu disks: which one?", FAR_LLU(point->id),
                          FAR_LLU(point->disk_count));
    }
    for (uint64_t d = 0; d < point->disk_count; d++) {
        struct far_key key = far_key_part(&far_schema_row_point_disk, point->id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_point_disk, &key, ret));
        if (name.len == 0 || far_slice_equal(ret->name, name)) {
            *ret_index = d;
            return 0;
        }
    }
    return far_reject(step, FAR_NOT_FOUND, "recovery point %llu has no disk '%.*s'", FAR_LLU(point->id), FAR_TEXT(name));
}

static int find_first(struct far_step *step, struct wish *wish)
{
    const struct far_cmd_checkpoint_use *cmd = wish->cmd;
    struct far_row_node node;
    uint64_t workload_id = 0;
    FAR_TRY(far_checkpoint_read(step, cmd->checkpoint_id, &wish->checkpoint));
    FAR_TRY(cmd->workload.len > 0 ? far_name_need(step, &far_schema_row_workload, cmd->workload, &workload_id) : 0);
    FAR_TRY(find_point(step, cmd->checkpoint_id, workload_id, &wish->point));
    int rc = far_row_find(step, &far_schema_row_node, wish->point.node_id, &node);
    if (rc == FAR_NOT_FOUND) {
        return far_reject(step, FAR_NOT_FOUND, "the node whose vault held recovery point %llu was removed", FAR_LLU(wish->point.id));
    }
    FAR_TRY(rc);
    wish->use = (struct far_sub_use){.operation = cmd->operation,
                                     .point_id = wish->point.id,
                                     .path = cmd->path,
                                     .format = cmd->operation != FAR_point_use_export ? 0
                                               : cmd->format != 0                      ? cmd->format
                                                                                       : (uint64_t)FAR_image_format_raw,
                                     .writable = cmd->writable,
                                     .listen = cmd->listen,
                                     .duration_s = cmd->duration_s,
                                     .guest_path = cmd->guest_path,
                                     .backing = cmd->backing,
                                     .range_offset = cmd->range_offset,
                                     .write_bytes_max = cmd->write_bytes_max};
    if (cmd->operation == FAR_point_use_copy) { /* a point goes as a whole */
        return cmd->disk.len == 0 ? 0 : far_reject(step, FAR_INVALID, "all disks of a point are copied; name none");
    }
    FAR_TRY(find_disk(step, &wish->point, cmd->disk, &wish->use.disk_index, &wish->disk));
    wish->use.disk = wish->disk.name;
    return 0;
}

static int find_other(struct far_step *step, struct wish *wish)
{
    uint64_t id = wish->cmd->other_checkpoint_id, index;
    struct far_row_checkpoint checkpoint;
    struct far_row_point point;
    struct far_row_point_disk disk;
    if (id == 0) {
        return 0;
    }
    FAR_TRY(far_checkpoint_read(step, id, &checkpoint));
    FAR_TRY(find_point(step, id, wish->point.workload_id, &point));
    FAR_TRY(find_disk(step, &point, wish->use.disk, &index, &disk));
    if (point.node_id != wish->point.node_id || point.domain_id != wish->point.domain_id) {
        return far_reject(step, FAR_CONFLICT,
                          "recovery points %llu and %llu are in different vaults or dedup domains: nothing can compare them",
                          FAR_LLU(wish->point.id), FAR_LLU(point.id));
    }
    wish->use.other_checkpoint_id = id;
    wish->use.other_point_id = point.id;
    return 0;
}

int far_decide_checkpoint_use(struct far_step *step, const struct far_cmd_checkpoint_use *cmd)
{
    struct wish *wish = far_step_alloc(step, sizeof *wish);
    if (wish == NULL) {
        return FAR_LIMIT;
    }
    wish->cmd = cmd;
    FAR_TRY(check_fields(step, cmd));
    FAR_TRY(find_first(step, wish));
    FAR_TRY(find_other(step, wish));
    if (wish->point.state == FAR_point_state_damaged) {
        far_warn(step, "recovery point %llu is damaged: what is damaged cannot be read", FAR_LLU(wish->point.id));
    }
    struct far_ev_job_started ev = {.id = step->progress.next_id,
                                    .kind = FAR_job_kind_use,
                                    .plan_id = wish->checkpoint.plan_id,
                                    .workload_id = wish->point.workload_id,
                                    .checkpoint_id = cmd->checkpoint_id,
                                    .actor = step->actor,
                                    .fuzzy = wish->point.fuzzy,
                                    .use = {.items = &wish->use, .count = 1}};
    struct far_sub_task_new item = {.kind = FAR_task_kind_use,
                                    .ready = true,
                                    .workload_id = wish->point.workload_id,
                                    .disk_index = wish->use.disk_index,
                                    .point_id = wish->point.id,
                                    .size_bytes = wish->disk.size_bytes};
    step->object_id = ev.id;
    return far_job_begin_at(step, &ev, &item, wish->point.node_id);
}

/* ---- readers ---- */

int far_use_readers(struct far_step *step, const struct far_list *uses, int delta)
{
    const struct far_sub_use *use = uses->items;
    return uses->count > 0 && use->other_checkpoint_id != 0 ? far_checkpoint_readers(step, use->other_checkpoint_id, delta) : 0;
}

/* ---- what came of it ---- */

static bool is_news(const struct far_list *kept, const struct far_sub_use_result *said)
{
    const struct far_sub_use_result *known = kept->items;
    return kept->count == 0 || !far_slice_equal(known->uri, said->uri) || !far_slice_equal(known->path, said->path) ||
           known->bytes != said->bytes || known->range_count != said->range_count || known->entries.count != said->entries.count ||
           known->writes != said->writes || known->truncated != said->truncated || known->write_bytes != said->write_bytes ||
           known->write_bytes_max != said->write_bytes_max || known->write_full != said->write_full;
}

int far_use_told(struct far_step *step, const struct far_row_job *job, const struct far_sub_report_item *item)
{
    struct far_row_job row;
    struct far_ev_point_used ev = {.job_id = job->id, .result = item->use_result};
    FAR_TRY(far_row_need(step, &far_schema_row_job, job->id, &row));
    bool tells = item->use_result.count > 0 && is_news(&row.use_result, item->use_result.items);
    return tells ? far_emit(step, &far_schema_ev_point_used, &ev) : 0;
}

int far_evolve_point_used(struct far_step *step, const struct far_ev_point_used *ev)
{
    struct far_row_job row;
    FAR_TRY(far_job_open(step, ev->job_id, &row));
    if (row.kind != FAR_job_kind_use) {
        return far_reject(step, FAR_INTERNAL, "broken: job %llu uses no point", FAR_LLU(ev->job_id));
    }
    row.use_result = ev->result;
    return far_row_put(step, &far_schema_row_job, row.id, &row);
}

int far_use_over(struct far_step *step, struct far_row_job *row)
{
    struct far_sub_use_result *result = far_step_alloc(step, sizeof *result);
    if (result == NULL) {
        return FAR_LIMIT;
    }
    if (row->use_result.count > 0) {
        *result = *(const struct far_sub_use_result *)row->use_result.items;
        result->uri = far_slice(NULL, 0); /* nothing is served there any more */
        row->use_result.items = result;
    }
    return far_use_readers(step, &row->use, -1);
}
