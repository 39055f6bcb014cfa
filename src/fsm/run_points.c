/* Runs of plans: which workloads take part, from which points they come up and under which configuration, and what a migration will take.
 * The configuration is the point's own, and the networks are the checkpoint's: as they were set when these were made, never as they are
 * now. See run_begin.c. */
#include "fsm/run.h"

#include "fsm/checkpoint.h"
#include "fsm/expiry.h"
#include "fsm/plan_edit.h"

#include <stdio.h>

enum {
    CHECKPOINTS_MAX = 64, /* that are looked at for one with usable points of all */
    CYCLES_MAX = 3,       /* that say how long the next one takes */
    RUNS_MAX = 3,         /* of the plan, that say how long its machines take: the quickest, as others may have waited for a person */
    START_MS = 10000,     /* that a machine takes to be defined and powered on, before any run has told */
};
#define BYTES_PER_S (200ull * 1000 * 1000) /* that are written out, before any run has told */

/* ---- who ---- */

static int add(struct far_step *step, struct far_run_pick *pick, uint64_t workload_id)
{
    for (size_t i = 0; i < pick->count; i++) {
        if (pick->items[i].workload_id == workload_id) {
            return far_reject(step, FAR_INVALID, "field 'workloads' names one twice");
        }
    }
    if (pick->count == FAR_RUN_MEMBERS_MAX) {
        return far_reject(step, FAR_LIMIT, "a run has at most %d workloads", FAR_RUN_MEMBERS_MAX);
    }
    pick->items[pick->count++] = (struct far_sub_run_member){.workload_id = workload_id};
    return 0;
}

static int add_all(struct far_step *step, const struct far_row_plan *plan, struct far_run_pick *pick)
{
    struct far_key key = far_key_id(&far_schema_row_plan_workload, plan->id);
    for (;;) {
        struct far_row_plan_workload member;
        int rc = far_plan_member_next(step, plan->id, &key, &member);
        if (rc == FAR_NOT_FOUND) {
            return pick->count > 0 ? 0 : far_reject(step, FAR_CONFLICT, "plan '%.*s' has no workload", FAR_TEXT(plan->name));
        }
        FAR_TRY(rc);
        FAR_TRY(!member.leaving && member.moved_ms == 0 ? add(step, pick, member.workload_id) : 0);
    }
}

/* Its row goes with the cycle that it waits for. */
static int refuse_leaving(struct far_step *step, const struct far_row_plan *plan, uint64_t workload_id, struct far_slice name)
{
    struct far_row_plan_workload member;
    struct far_key key = far_key_pair(&far_schema_row_plan_workload, plan->id, workload_id);
    FAR_TRY(far_key_need(step, &far_schema_row_plan_workload, &key, &member));
    return !member.leaving ? 0
                           : far_reject(step, FAR_CONFLICT, "workload '%.*s' is leaving plan '%.*s'", FAR_TEXT(name), FAR_TEXT(plan->name));
}

int far_run_list(struct far_step *step, const struct far_row_plan *plan, const struct far_list *names, struct far_run_pick *ret)
{
    const struct far_slice *name = names->items;
    ret->items = far_step_alloc(step, FAR_RUN_MEMBERS_MAX * sizeof *ret->items);
    if (ret->items == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(names->count == 0 ? add_all(step, plan, ret) : 0);
    for (size_t i = 0; i < names->count; i++) {
        struct far_row_workload row;
        uint64_t id;
        FAR_TRY(far_name_need(step, &far_schema_row_workload, name[i], &id));
        FAR_TRY(far_row_need(step, &far_schema_row_workload, id, &row));
        if (row.plan_id != plan->id) {
            return far_reject(step, FAR_INVALID, "workload '%.*s' is not in plan '%.*s'", FAR_TEXT(name[i]), FAR_TEXT(plan->name));
        }
        FAR_TRY(refuse_leaving(step, plan, id, name[i]));
        FAR_TRY(far_member_refuse_moved(step, plan, id));
        FAR_TRY(add(step, ret, id));
    }
    ret->usable = ret->count;
    return 0;
}

/* ---- from what ---- */

/* The point of a workload in a checkpoint; id 0: none that can be used. */
static int point_in(struct far_step *step, uint64_t checkpoint_id, uint64_t workload_id, struct far_row_point *ret)
{
    struct far_row_checkpoint_member member;
    struct far_key key = far_key_pair(&far_schema_row_checkpoint_member, checkpoint_id, workload_id);
    int rc = far_key_find(step, &far_schema_row_checkpoint_member, &key, &member);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    ret->id = 0;
    FAR_TRY(rc == 0 && member.point_id != 0 ? far_point_find(step, member.point_id, ret) : 0);
    ret->id = ret->id != 0 && ret->state == FAR_point_state_available ? ret->id : 0;
    return 0;
}

/* Is it from before the machine was away, and came home? What was written there is not in it. */
static int is_from_before(struct far_step *step, uint64_t plan_id, const struct far_row_point *point, bool *ret)
{
    struct far_row_plan_workload member;
    struct far_key key = far_key_pair(&far_schema_row_plan_workload, plan_id, point->workload_id);
    int rc = far_key_find(step, &far_schema_row_plan_workload, &key, &member);
    *ret = rc == 0 && point->id < member.home_id;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int count_usable(struct far_step *step, uint64_t plan_id, const struct far_run_pick *pick, uint64_t checkpoint_id,
                        size_t *ret_count)
{
    *ret_count = 0;
    for (size_t i = 0; i < pick->count; i++) {
        struct far_row_point point;
        bool is_old = false;
        FAR_TRY(point_in(step, checkpoint_id, pick->items[i].workload_id, &point));
        FAR_TRY(point.id != 0 ? is_from_before(step, plan_id, &point, &is_old) : 0);
        *ret_count += point.id != 0 && !is_old;
    }
    return 0;
}

static bool came_home(struct far_step *step, const struct far_row_plan *plan, const struct far_run_pick *pick)
{
    bool home = false;
    for (size_t i = 0; i < pick->count && !home; i++) {
        struct far_row_plan_workload member;
        struct far_key key = far_key_pair(&far_schema_row_plan_workload, plan->id, pick->items[i].workload_id);
        home = far_key_find(step, &far_schema_row_plan_workload, &key, &member) == 0 && member.home_id != 0;
    }
    return home;
}

/* The newest with usable points of all; else the newest one with any. */
static int newest(struct far_step *step, const struct far_row_plan *plan, struct far_run_pick *pick)
{
    struct far_key key = far_plan_checkpoints_from(plan->id, 0);
    for (unsigned i = 0; i < CHECKPOINTS_MAX; i++) {
        struct far_row_checkpoint row;
        size_t usable;
        int rc = far_plan_checkpoints_next(step, plan->id, &key, &row);
        if (rc == FAR_NOT_FOUND) {
            break;
        }
        FAR_TRY(rc);
        FAR_TRY(count_usable(step, plan->id, pick, row.id, &usable));
        if (usable == pick->count || (usable > 0 && pick->checkpoint_id == 0)) {
            pick->checkpoint_id = row.id;
        }
        if (usable == pick->count) {
            break;
        }
    }
    return pick->checkpoint_id != 0 ? 0
                                    : far_reject(step, FAR_NOT_FOUND,
                                                 "plan '%.*s' has no checkpoint with a usable recovery point%s; replicate first",
                                                 FAR_TEXT(plan->name),
                                                 came_home(step, plan, pick) ? " of since its machines came home" : "");
}

int far_run_recovery(struct far_step *step, uint64_t recovery_id, struct far_sub_recovery *ret)
{
    struct far_row_recovery row;
    *ret = (struct far_sub_recovery){.processors = 0};
    if (recovery_id == 0) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_recovery, recovery_id, &row));
    if (row.config.count > 0) {
        *ret = *(const struct far_sub_recovery *)row.config.items;
    }
    return 0;
}

bool far_run_leaves_disk(const struct far_sub_recovery *config, struct far_slice disk)
{
    const struct far_slice *names = config->disks_left_out.items;
    bool found = false;
    for (size_t i = 0; i < config->disks_left_out.count; i++) {
        found = found || far_slice_equal(names[i], disk);
    }
    return found;
}

/* Is the adapter of this kind, with settings or wrapped? */
static bool is_adapter(struct far_slice adapter, const char *kind)
{
    static const char wrapped[] = "fault:";
    size_t len = strlen(kind), skip = sizeof wrapped - 1;
    if (adapter.len > skip && memcmp(adapter.data, wrapped, skip) == 0) {
        adapter = far_slice(adapter.data + skip, adapter.len - skip);
    }
    bool begins = adapter.len >= len && memcmp(adapter.data, kind, len) == 0;
    return begins && (adapter.len == len || adapter.data[len] == '?' || adapter.data[len] == ':');
}

uint64_t far_run_format(const struct far_row_workload *workload, const struct far_sub_recovery *config)
{
    uint64_t usual = is_adapter(workload->adapter, "kvm") ? (uint64_t)FAR_image_format_qcow2 : (uint64_t)FAR_image_format_raw;
    return config->disk_format != 0 ? config->disk_format : usual;
}

int far_run_path(struct far_step *step, uint64_t job_id, struct far_slice workload, struct far_slice disk, uint64_t format,
                 struct far_slice *ret)
{
    char text[FAR_RUN_PATH_MAX];
    snprintf(text, sizeof text, "run-%llu/%.*s/%.*s.%s", FAR_LLU(job_id), FAR_TEXT(workload), FAR_TEXT(disk),
             format == FAR_image_format_qcow2 ? "qcow2" : "raw");
    return far_step_copy(step, far_slice_str(text), ret);
}

/* Does it come up with any disk? */
static int has_disks(struct far_step *step, const struct far_row_point *point, const struct far_sub_recovery *config, bool *ret)
{
    *ret = false;
    for (uint64_t d = 0; d < point->disk_count && !*ret; d++) {
        struct far_row_point_disk disk;
        struct far_key key = far_key_part(&far_schema_row_point_disk, point->id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_point_disk, &key, &disk));
        *ret = !far_run_leaves_disk(config, disk.name);
    }
    return 0;
}

static int leave_out(struct far_step *step, struct far_run_pick *pick, struct far_sub_run_member *item, struct far_slice name,
                     const char *why)
{
    char text[200];
    snprintf(text, sizeof text, "workload '%.*s' %s", FAR_TEXT(name), why);
    pick->usable--;
    return far_step_copy(step, far_slice_str(text), &item->left_out);
}

static int warn_of_old(struct far_step *step, const struct far_run_pick *pick, const struct far_row_point *point, struct far_slice name)
{
    struct far_row_checkpoint row;
    bool is_old;
    FAR_TRY(far_row_need(step, &far_schema_row_checkpoint, pick->checkpoint_id, &row));
    FAR_TRY(is_from_before(step, row.plan_id, point, &is_old));
    if (is_old) {
        far_warn(step, "recovery point %llu of workload '%.*s' is from before its machine came home: it lacks what was written meanwhile",
                 FAR_LLU(point->id), FAR_TEXT(name));
    }
    return 0;
}

static int fill(struct far_step *step, struct far_run_pick *pick, struct far_sub_run_member *item)
{
    struct far_row_point point;
    struct far_row_workload workload;
    struct far_row_node node;
    struct far_sub_recovery config;
    char name[127];
    bool has_any;
    FAR_TRY(far_row_need(step, &far_schema_row_workload, item->workload_id, &workload));
    FAR_TRY(point_in(step, pick->checkpoint_id, item->workload_id, &point));
    if (point.id == 0) {
        return leave_out(step, pick, item, workload.name, "has no usable recovery point in this checkpoint");
    }
    int rc = far_row_find(step, &far_schema_row_node, point.node_id, &node);
    if (rc == FAR_NOT_FOUND) {
        return leave_out(step, pick, item, workload.name, "has its recovery point in the vault of a node that was removed");
    }
    FAR_TRY(rc);
    FAR_TRY(far_run_recovery(step, point.recovery_id, &config));
    FAR_TRY(has_disks(step, &point, &config, &has_any));
    struct far_slice called = config.recovered_name.len != 0 ? config.recovered_name : workload.name;
    if (pick->is_test) {
        snprintf(name, sizeof name, "%.*s-test-%llu", FAR_TEXT(called), FAR_LLU(pick->job_id));
        FAR_TRY(far_step_copy(step, far_slice_str(name), &called));
    }
    *item = (struct far_sub_run_member){.workload_id = item->workload_id,
                                        .point_id = point.id,
                                        .node_id = point.node_id,
                                        .frozen_at_ms = point.frozen_at_ms,
                                        .recovery_id = point.recovery_id,
                                        .group = config.group,
                                        .position = config.position,
                                        .delay_s = config.delay_s,
                                        .gate_count = config.gates.count,
                                        .machine = called};
    FAR_TRY(warn_of_old(step, pick, &point, workload.name));
    if (point.suspect) {
        far_warn(step, "recovery point %llu of workload '%.*s' is suspect: it rests on lists of changes that were found to miss some",
                 FAR_LLU(point.id), FAR_TEXT(workload.name));
    }
    return has_any ? 0 : leave_out(step, pick, item, workload.name, "is to come up without any of its disks");
}

int far_run_choose(struct far_step *step, const struct far_row_plan *plan, uint64_t checkpoint_id, struct far_run_pick *pick)
{
    struct far_row_checkpoint row;
    pick->checkpoint_id = checkpoint_id;
    FAR_TRY(checkpoint_id == 0 ? newest(step, plan, pick) : 0);
    FAR_TRY(far_checkpoint_read(step, pick->checkpoint_id, &row));
    if (row.plan_id != plan->id) {
        return far_reject(step, FAR_INVALID, "checkpoint %llu is not of plan '%.*s'", FAR_LLU(row.id), FAR_TEXT(plan->name));
    }
    for (size_t i = 0; i < pick->count; i++) {
        FAR_TRY(fill(step, pick, &pick->items[i]));
    }
    return pick->usable > 0 ? 0
                            : far_reject(step, FAR_NOT_FOUND,
                                         "checkpoint %llu has no usable recovery point of any of these workloads; choose another",
                                         FAR_LLU(row.id));
}

/* ---- how long ---- */

/* The longest of the last cycles: what the last increment takes at most, as far as it goes as before. */
static int cycle_ms(struct far_step *step, uint64_t plan_id, uint64_t *ret_ms)
{
    struct far_key key = far_plan_checkpoints_from(plan_id, 0);
    *ret_ms = 0;
    for (unsigned i = 0; i < CYCLES_MAX; i++) {
        struct far_row_checkpoint checkpoint;
        struct far_row_job job;
        int rc = far_plan_checkpoints_next(step, plan_id, &key, &checkpoint);
        if (rc == FAR_NOT_FOUND) {
            return 0;
        }
        FAR_TRY(rc);
        rc = far_row_find(step, &far_schema_row_job, checkpoint.job_id, &job);
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
        uint64_t took_ms = rc == 0 && job.finished_ms > job.started_ms ? job.finished_ms - job.started_ms : 0;
        *ret_ms = took_ms > *ret_ms ? took_ms : *ret_ms;
    }
    return 0;
}

static int size_of(struct far_step *step, uint64_t workload_id, uint64_t *bytes)
{
    struct far_row_workload row;
    FAR_TRY(far_row_need(step, &far_schema_row_workload, workload_id, &row));
    for (uint64_t d = 0; d < row.disk_count; d++) {
        struct far_row_disk disk;
        struct far_key key = far_key_part(&far_schema_row_disk, workload_id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &disk));
        *bytes += disk.size_bytes;
    }
    return 0;
}

/* How long at least as many machines of the plan took lately from points to being up, by the runs that are still known; 0: none tells. */
static int machines_ms(struct far_step *step, uint64_t plan_id, size_t count, uint64_t cycle, uint64_t *ret_ms)
{
    struct far_key key = far_key(&far_schema_row_run);
    uint64_t took[RUNS_MAX] = {0};
    struct far_row_run run;
    int rc;
    size_t n = 0;
    while ((rc = far_next(step, &far_schema_row_run, &key, NULL, &run)) == 0) {
        bool is_test = run.kind == FAR_job_kind_test_recovery;
        if (run.plan_id == plan_id && run.up_ms != 0 && run.member_count >= count && (is_test || run.off_ms != 0)) {
            uint64_t all_ms = run.up_ms - (is_test ? run.begun_ms : run.off_ms), cycle_ms = is_test ? 0 : cycle;
            took[n++ % RUNS_MAX] = all_ms > cycle_ms ? all_ms - cycle_ms : 1;
        }
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    *ret_ms = took[0];
    for (size_t i = 1; i < RUNS_MAX && i < n; i++) {
        *ret_ms = took[i] < *ret_ms ? took[i] : *ret_ms;
    }
    return 0;
}

int far_run_forecast(struct far_step *step, const struct far_row_plan *plan, const struct far_run_pick *pick, uint64_t *ret_ms)
{
    uint64_t cycle, machines, bytes = 0, delays_s = 0;
    FAR_TRY(cycle_ms(step, plan->id, &cycle));
    FAR_TRY(machines_ms(step, plan->id, pick->count, cycle, &machines));
    if (machines != 0) {
        *ret_ms = cycle + machines;
        return 0;
    }
    for (size_t i = 0; i < pick->count; i++) {
        struct far_row_plan_workload member;
        struct far_sub_recovery config;
        struct far_key key = far_key_pair(&far_schema_row_plan_workload, plan->id, pick->items[i].workload_id);
        FAR_TRY(far_key_need(step, &far_schema_row_plan_workload, &key, &member));
        FAR_TRY(far_run_recovery(step, member.recovery_id, &config));
        FAR_TRY(size_of(step, pick->items[i].workload_id, &bytes));
        delays_s += config.delay_s; /* each at a position of its own, at worst */
    }
    *ret_ms = cycle + bytes * 1000 / BYTES_PER_S + delays_s * 1000 + START_MS;
    return 0;
}
