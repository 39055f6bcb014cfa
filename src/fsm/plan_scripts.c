/* Scripts of a plan, and its consistency groups: what is set, and what becomes of it when a workload leaves. Both name workloads of the
 * plan only. */
#include "fsm/plan_edit.h"

#include "fsm/recovery.h"
#include "fsm/refuse.h"

#include <stdio.h>

enum { ABSENT, PRESENT };
enum { SET, CLEAR, GONE };
static const char *const states[] = {"absent", "present"};
static const char *const inputs[] = {"plan_apply with some", "plan_apply with none, or the last one goes with its workload",
                                     "its plan is removed"};
static const struct far_cell cells[2][3] = {
    [ABSENT] = {[SET] = FAR_MOVE(PRESENT), [CLEAR] = FAR_MOVE(ABSENT), [GONE] = FAR_MOVE(ABSENT)},
    [PRESENT] = {[SET] = FAR_MOVE(PRESENT), [CLEAR] = FAR_MOVE(ABSENT), [GONE] = FAR_MOVE(ABSENT)},
};
const struct far_table far_table_plan_scripts = FAR_TABLE("scripts of plan", states, inputs, cells);

enum { TIMEOUT_S_MAX = 24 * 3600, RETRIES_MAX = 10 };

int far_scripts_of(struct far_step *step, uint64_t plan_id, struct far_row_plan_scripts *ret)
{
    int rc = far_row_find(step, &far_schema_row_plan_scripts, plan_id, ret);
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_row_plan_scripts){.plan_id = 0};
        return 0;
    }
    return rc;
}

/* ---- what may be set ---- */

static bool is_member(const struct far_cmd_plan_apply *cmd, struct far_slice name)
{
    const struct far_sub_recovery *members = cmd->workloads.items;
    bool found = false;
    for (size_t i = 0; i < cmd->workloads.count; i++) {
        found = found || far_slice_equal(members[i].name, name);
    }
    return found;
}

static int check_script(struct far_step *step, const struct far_cmd_plan_apply *cmd, const struct far_sub_plan_script *scripts, size_t i)
{
    struct far_place at = far_place("", "scripts", i);
    const struct far_sub_plan_script *script = &scripts[i];
    if (!far_is_name(script->name)) {
        return far_refuse_text(step, at.path, "name", script->name, "a name of the letters a-z, digits, '.', '_' and '-'");
    }
    if (script->sha256.len != 32) {
        return far_refuse_number(step, at.path, "sha256", script->sha256.len, "the SHA-256 of the file: 32 bytes, 64 hexadecimal digits");
    }
    if (script->phase == 0) {
        return far_refuse_text(step, at.path, "phase", far_slice_str(""),
                               "one of 'before_cycle' 'after_cycle' 'before_recovery' 'after_recovery'");
    }
    if (script->workload.len > 0 && !is_member(cmd, script->workload)) {
        return far_refuse_text(step, at.path, "workload", script->workload, "a workload of the plan, or empty");
    }
    if (script->timeout_s == 0 || script->timeout_s > TIMEOUT_S_MAX) {
        return far_refuse_number(step, at.path, "timeout_s", script->timeout_s, "from 1 to 86400 seconds (a day)");
    }
    for (size_t k = 0; k < i; k++) {
        if (scripts[k].phase == script->phase && far_slice_equal(scripts[k].name, script->name) &&
            far_slice_equal(scripts[k].workload, script->workload)) {
            return far_refuse_text(step, at.path, "name", script->name, "another one: it is there twice");
        }
    }
    return far_refuse_above(step, at.path, "retries", script->retries, RETRIES_MAX);
}

/* How often the groups up to this one name the workload. */
static size_t times_in(const struct far_sub_consistency_group *groups, size_t last, struct far_slice workload)
{
    size_t times = 0;
    for (size_t g = 0; g <= last; g++) {
        const struct far_slice *names = groups[g].workloads.items;
        for (size_t i = 0; i < groups[g].workloads.count; i++) {
            times += far_slice_equal(names[i], workload);
        }
    }
    return times;
}

static int check_group(struct far_step *step, const struct far_cmd_plan_apply *cmd, const struct far_sub_consistency_group *groups,
                       size_t g)
{
    struct far_place at = far_place("", "consistency_groups", g);
    const struct far_slice *names = groups[g].workloads.items;
    if (!far_is_name(groups[g].name)) {
        return far_refuse_text(step, at.path, "name", groups[g].name, "a name of the letters a-z, digits, '.', '_' and '-'");
    }
    for (size_t k = 0; k < g; k++) {
        if (far_slice_equal(groups[k].name, groups[g].name)) {
            return far_refuse_text(step, at.path, "name", groups[g].name, "another one: it is there twice");
        }
    }
    if (groups[g].workloads.count < 2) {
        return far_reject(step, FAR_INVALID, "field '%sworkloads' names %zu: it must be at least two workloads of the plan", at.path,
                          groups[g].workloads.count);
    }
    for (size_t i = 0; i < groups[g].workloads.count; i++) {
        char field[40];
        snprintf(field, sizeof field, "workloads[%u]", (unsigned)i);
        if (!is_member(cmd, names[i]) || times_in(groups, g, names[i]) != 1) {
            return far_refuse_text(step, at.path, field, names[i], "a workload of the plan that is in no group yet");
        }
    }
    return 0;
}

int far_scripts_check(struct far_step *step, const struct far_cmd_plan_apply *cmd)
{
    for (size_t i = 0; i < cmd->scripts.count; i++) {
        FAR_TRY(check_script(step, cmd, cmd->scripts.items, i));
    }
    for (size_t g = 0; g < cmd->consistency_groups.count; g++) {
        FAR_TRY(check_group(step, cmd, cmd->consistency_groups.items, g));
    }
    return 0;
}

int far_scripts_put(struct far_step *step, uint64_t plan_id, const struct far_cmd_plan_apply *cmd)
{
    struct far_ev_plan_scripts_changed ev = {
        .plan_id = plan_id, .scripts = cmd->scripts, .consistency_groups = cmd->consistency_groups};
    struct far_row_plan_scripts old;
    bool same, fits;
    FAR_TRY(far_scripts_of(step, plan_id, &old));
    struct far_ev_plan_scripts_changed before = {
        .plan_id = plan_id, .scripts = old.scripts, .consistency_groups = old.consistency_groups};
    FAR_TRY(far_same(step, &far_schema_ev_plan_scripts_changed, &ev, &before, &same));
    if (same) {
        return 0;
    }
    FAR_TRY(far_fits_row(step, &far_schema_ev_plan_scripts_changed, &ev, &fits));
    if (!fits) {
        return far_reject(step, FAR_INVALID,
                          "fields 'scripts' and 'consistency_groups' together must be at most %d bytes: use fewer entries",
                          FAR_RECOVERY_BYTES_MAX);
    }
    return far_emit(step, &far_schema_ev_plan_scripts_changed, &ev);
}

/* ---- evolve ---- */

static int store(struct far_step *step, const struct far_row_plan_scripts *old, const struct far_row_plan_scripts *row)
{
    bool is_some = row->scripts.count + row->consistency_groups.count > 0;
    FAR_TRY(far_move_id(step, &far_table_plan_scripts, old->plan_id != 0 ? PRESENT : ABSENT, is_some ? SET : CLEAR, row->plan_id, NULL));
    if (is_some) {
        return far_row_put(step, &far_schema_row_plan_scripts, row->plan_id, row);
    }
    return old->plan_id != 0 ? far_row_del(step, &far_schema_row_plan_scripts, row->plan_id) : 0;
}

int far_evolve_plan_scripts_changed(struct far_step *step, const struct far_ev_plan_scripts_changed *ev)
{
    struct far_row_plan_scripts old, row = {
        .plan_id = ev->plan_id, .scripts = ev->scripts, .consistency_groups = ev->consistency_groups};
    struct far_row_plan plan;
    FAR_TRY(far_row_need(step, &far_schema_row_plan, ev->plan_id, &plan));
    FAR_TRY(far_scripts_of(step, ev->plan_id, &old));
    FAR_TRY(store(step, &old, &row));
    plan.revision++;
    return far_plan_put(step, &plan, plan.due_ms);
}

int far_scripts_gone(struct far_step *step, uint64_t plan_id)
{
    struct far_row_plan_scripts row;
    FAR_TRY(far_scripts_of(step, plan_id, &row));
    FAR_TRY(far_move_id(step, &far_table_plan_scripts, row.plan_id != 0 ? PRESENT : ABSENT, GONE, plan_id, NULL));
    return row.plan_id != 0 ? far_row_del(step, &far_schema_row_plan_scripts, plan_id) : 0;
}

/* The group without it, in memory of the step. */
static int group_without(struct far_step *step, const struct far_sub_consistency_group *group, struct far_slice workload,
                         struct far_sub_consistency_group *ret)
{
    const struct far_slice *names = group->workloads.items;
    struct far_slice *kept = far_step_alloc(step, (group->workloads.count + 1) * sizeof *kept);
    size_t count = 0;
    if (kept == NULL) {
        return FAR_LIMIT;
    }
    for (size_t i = 0; i < group->workloads.count; i++) {
        kept[count] = names[i];
        count += !far_slice_equal(names[i], workload);
    }
    *ret = (struct far_sub_consistency_group){.name = group->name, .workloads = {.items = kept, .count = count}};
    return 0;
}

int far_scripts_leave(struct far_step *step, uint64_t plan_id, struct far_slice workload)
{
    struct far_row_plan_scripts old;
    FAR_TRY(far_scripts_of(step, plan_id, &old));
    const struct far_sub_plan_script *scripts = old.scripts.items;
    const struct far_sub_consistency_group *groups = old.consistency_groups.items;
    struct far_sub_plan_script *kept = far_step_alloc(step, (old.scripts.count + 1) * sizeof *kept);
    struct far_sub_consistency_group *left = far_step_alloc(step, (old.consistency_groups.count + 1) * sizeof *left);
    size_t script_count = 0, group_count = 0;
    if (kept == NULL || left == NULL) {
        return FAR_LIMIT;
    }
    for (size_t i = 0; i < old.scripts.count; i++) {
        kept[script_count] = scripts[i];
        script_count += !far_slice_equal(scripts[i].workload, workload);
    }
    for (size_t g = 0; g < old.consistency_groups.count; g++) {
        FAR_TRY(group_without(step, &groups[g], workload, &left[group_count]));
        group_count += left[group_count].workloads.count >= 2; /* one alone is no group */
    }
    struct far_row_plan_scripts row = {.plan_id = plan_id,
                                       .scripts = {.items = kept, .count = script_count},
                                       .consistency_groups = {.items = left, .count = group_count}};
    return store(step, &old, &row);
}
