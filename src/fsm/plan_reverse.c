/* The other direction of a plan whose machines were moved (feature level 4). Two plans protect the same machines, each with workloads of
 * its own, twins of the other's; one of them is at work, from the other one the machines were moved away. A failback is the migration of
 * the reversed plan, and reversing that has the first one go by where the machines are then. */
#include "fsm/plan_edit.h"

#include "fsm/recovery.h"
#include "fsm/rpo.h"
#include "fsm/run.h"

#include <stdio.h>

struct reversal {
    struct far_row_plan plan; /* whose machines were moved, or some of them */
    struct far_row_plan back; /* of the other direction; id 0: it is to be made */
    struct far_row_site from, to; /* where they were, where they are */
    struct far_sub_run_twin *twins;
    size_t count;
    struct far_slice *names; /* of the workloads that were made */
};

/* ---- what is there ---- */

/* The disks of a workload's machine as the run located it; at most 60. */
static int list_disks(struct far_step *step, uint64_t job_id, uint64_t workload_id, struct far_sub_disk_spec *disks, size_t *ret_count)
{
    struct far_key key = far_key_pair(&far_schema_row_run_disk, job_id, workload_id);
    *ret_count = 0;
    while (*ret_count < 60) {
        struct far_row_run_disk row;
        int rc = far_run_disk_next(step, job_id, &key, &row);
        if (rc == FAR_NOT_FOUND || (rc == 0 && row.workload_id != workload_id)) {
            return 0;
        }
        FAR_TRY(rc);
        disks[(*ret_count)++] = (struct far_sub_disk_spec){.name = row.name, .locator = row.locator};
    }
    return 0;
}

static int find(struct far_step *step, struct far_slice name, struct reversal *r)
{
    uint64_t id;
    FAR_TRY(far_name_need(step, &far_schema_row_plan, name, &id));
    FAR_TRY(far_row_need(step, &far_schema_row_plan, id, &r->plan));
    if (r->plan.moved_count == 0) {
        return far_reject(step, FAR_CONFLICT,
                          "the machines of plan '%.*s' are at its source: there is nothing to reverse before a failover or migration of it "
                          "was committed",
                          FAR_TEXT(name));
    }
    int rc = r->plan.reverse_id != 0 ? far_row_find(step, &far_schema_row_plan, r->plan.reverse_id, &r->back) : FAR_NOT_FOUND;
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    r->back.id = rc == 0 ? r->back.id : 0;
    FAR_TRY(far_row_need(step, &far_schema_row_site, r->plan.source_site_id, &r->from));
    FAR_TRY(far_row_need(step, &far_schema_row_site, r->plan.target_site_id, &r->to));
    r->twins = far_step_alloc(step, FAR_RUN_MEMBERS_MAX * sizeof *r->twins);
    r->names = far_step_alloc(step, FAR_RUN_MEMBERS_MAX * sizeof *r->names);
    return r->twins != NULL && r->names != NULL ? 0 : FAR_LIMIT;
}

/* ---- workloads ---- */

/* "<name>-back", cut where that is too long; with a number where it is taken. */
static int name_back(struct far_step *step, const struct far_schema *table, struct far_slice name, uint64_t number, struct far_slice *ret)
{
    char text[80];
    uint64_t id;
    int len = (int)(name.len < 40 ? name.len : 40);
    snprintf(text, sizeof text, "%.*s-back", len, (const char *)name.data);
    int rc = far_name_find(step, table, far_slice_str(text), &id);
    if (rc == 0) {
        snprintf(text, sizeof text, "%.*s-back-%llu", len, (const char *)name.data, FAR_LLU(number));
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    return far_step_copy(step, far_slice_str(text), ret);
}

static int make_workload(struct far_step *step, struct reversal *r, const struct far_row_workload *workload,
                         const struct far_sub_disk_spec *disks, size_t count)
{
    struct far_slice name;
    FAR_TRY(name_back(step, &far_schema_row_workload, workload->name, r->plan.moved_job_id, &name));
    struct far_cmd_workload_create made = {
        .name = name, .site = r->to.name, .adapter = workload->adapter, .disks = {.items = disks, .count = count}};
    FAR_TRY(far_decide_workload_create(step, &made));
    r->names[r->count] = name;
    r->twins[r->count++] = (struct far_sub_run_twin){.workload_id = workload->id, .twin_id = step->object_id};
    return 0;
}

/* Its twin goes by where the machine is now. */
static int move_workload(struct far_step *step, struct reversal *r, const struct far_row_workload *twin,
                         const struct far_sub_disk_spec *disks, size_t count)
{
    struct far_cmd_workload_update moved = {.name = twin->name, .disks = {.items = disks, .count = count}};
    FAR_TRY(far_decide_workload_update(step, &moved));
    r->twins[r->count++] = (struct far_sub_run_twin){.workload_id = twin->twin_id, .twin_id = twin->id};
    return 0;
}

/* What the other plan has of it already; id 0: nothing. */
static int find_twin(struct far_step *step, const struct reversal *r, const struct far_row_workload *workload, struct far_row_workload *ret)
{
    int rc = workload->twin_id != 0 && r->back.id != 0 ? far_row_find(step, &far_schema_row_workload, workload->twin_id, ret)
                                                       : FAR_NOT_FOUND;
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    ret->id = rc == 0 && ret->plan_id == r->back.id && ret->twin_id == workload->id ? ret->id : 0;
    return 0;
}

/* Where its machine is, as the run said that moved it. */
static int located(struct far_step *step, const struct reversal *r, const struct far_row_plan_workload *m, struct far_slice name,
                   struct far_sub_disk_spec *disks, size_t *ret_count)
{
    struct far_row_run run;
    FAR_TRY(far_run_find(step, m->moved_job_id, &run));
    if (run.id == 0) {
        return far_reject(step, FAR_CONFLICT, "run %llu, which moved workload '%.*s' of plan '%.*s', is forgotten: make the plan by hand",
                          FAR_LLU(m->moved_job_id), FAR_TEXT(name), FAR_TEXT(r->plan.name));
    }
    FAR_TRY(list_disks(step, m->moved_job_id, m->workload_id, disks, ret_count));
    return *ret_count > 0 ? 0
                          : far_reject(step, FAR_CONFLICT,
                                       "the node that brought workload '%.*s' up did not say how its disks can be read there: make a "
                                       "workload of it by hand, and a plan",
                                       FAR_TEXT(name));
}

/* Unless the other plan is at work with it already. */
static int reverse_workload(struct far_step *step, struct reversal *r, const struct far_row_plan_workload *m)
{
    struct far_row_workload workload, twin = {.id = 0};
    struct far_sub_disk_spec *disks = far_step_alloc(step, 60 * sizeof *disks);
    size_t count;
    bool is_away = false;
    if (disks == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_workload, m->workload_id, &workload));
    FAR_TRY(find_twin(step, r, &workload, &twin));
    FAR_TRY(twin.id != 0 ? far_member_is_moved(step, r->back.id, twin.id, &is_away) : 0);
    if (twin.id != 0 && !is_away) {
        return 0;
    }
    r->names[r->count] = far_slice(NULL, 0);
    FAR_TRY(located(step, r, m, workload.name, disks, &count));
    return twin.id != 0 ? move_workload(step, r, &twin, disks, count) : make_workload(step, r, &workload, disks, count);
}

/* All that were moved. */
static int reverse_workloads(struct far_step *step, struct reversal *r)
{
    struct far_key key = far_key_id(&far_schema_row_plan_workload, r->plan.id);
    for (;;) {
        struct far_row_plan_workload m;
        int rc = far_plan_member_next(step, r->plan.id, &key, &m);
        if (rc == FAR_NOT_FOUND) {
            break;
        }
        FAR_TRY(rc);
        FAR_TRY(m.moved_ms != 0 && !m.leaving ? reverse_workload(step, r, &m) : 0);
    }
    return r->count > 0 ? 0
                        : far_reject(step, FAR_CONFLICT, "plan '%.*s' protects these machines in the other direction already",
                                     FAR_TEXT(r->back.id != 0 ? r->back.name : r->plan.name));
}

/* ---- plans ---- */

static int make_plan(struct far_step *step, struct reversal *r, struct far_slice to)
{
    struct far_row_domain domain = {.name = far_slice_str("plain")};
    FAR_TRY(to.len == 0 ? name_back(step, &far_schema_row_plan, r->plan.name, r->plan.moved_job_id, &to) : 0);
    FAR_TRY(r->plan.domain_id != 0 ? far_row_need(step, &far_schema_row_domain, r->plan.domain_id, &domain) : 0);
    struct far_cmd_plan_create made = {.name = to,
                                       .source_site = r->to.name,
                                       .target_site = r->from.name,
                                       .workloads = {.items = r->names, .count = r->count},
                                       .interval_s = r->plan.interval_s,
                                       .rpo_s = r->plan.rpo_s,
                                       .audit_age_s = r->plan.audit_age_s,
                                       .audit_ppm = r->plan.audit_ppm,
                                       .full_age_s = r->plan.full_age_s,
                                       .domain = domain.name,
                                       .lock_days = r->plan.lock_days};
    FAR_TRY(far_decide_plan_create(step, &made));
    return far_row_need(step, &far_schema_row_plan, step->object_id, &r->back);
}

/* The order in which they come up, and what is waited for, are the same in both directions. Names, networks and addresses are not. */
static int copy_order(struct far_step *step, const struct reversal *r)
{
    for (size_t i = 0; i < r->count; i++) {
        struct far_row_plan_workload member;
        struct far_sub_recovery config;
        struct far_key key = far_key_pair(&far_schema_row_plan_workload, r->plan.id, r->twins[i].workload_id);
        if (r->names[i].len == 0) {
            continue; /* it was there, with what was set since */
        }
        FAR_TRY(far_key_need(step, &far_schema_row_plan_workload, &key, &member));
        FAR_TRY(far_run_recovery(step, member.recovery_id, &config));
        struct far_sub_recovery same = {.tags = config.tags,
                                        .group = config.group,
                                        .position = config.position,
                                        .delay_s = config.delay_s,
                                        .gates = config.gates};
        FAR_TRY(far_recovery_put(step, &r->back, r->twins[i].twin_id, &same));
    }
    return 0;
}

static int add_workloads(struct far_step *step, const struct reversal *r)
{
    struct far_slice *names = far_step_alloc(step, (r->count + 1) * sizeof *names);
    struct far_cmd_plan_workloads_add add = {.name = r->back.name, .workloads = {.items = names}};
    if (names == NULL) {
        return FAR_LIMIT;
    }
    for (size_t i = 0; i < r->count; i++) {
        if (r->names[i].len != 0) {
            names[add.workloads.count++] = r->names[i];
        }
    }
    return add.workloads.count > 0 ? far_decide_plan_workloads_add(step, &add) : 0;
}

int far_decide_plan_reverse(struct far_step *step, const struct far_cmd_plan_reverse *cmd)
{
    struct reversal r = {.count = 0};
    FAR_TRY(find(step, cmd->name, &r));
    FAR_TRY(reverse_workloads(step, &r));
    FAR_TRY(r.back.id == 0 ? make_plan(step, &r, cmd->to) : add_workloads(step, &r));
    FAR_TRY(copy_order(step, &r));
    struct far_ev_plan_reversed ev = {
        .plan_id = r.plan.id, .reverse_id = r.back.id, .twins = {.items = r.twins, .count = r.count}};
    FAR_TRY(far_emit(step, &far_schema_ev_plan_reversed, &ev));
    step->object_id = r.back.id;
    return 0;
}

/* ---- evolve ---- */

static int pair(struct far_step *step, uint64_t workload_id, uint64_t twin_id)
{
    struct far_row_workload row;
    FAR_TRY(far_row_need(step, &far_schema_row_workload, workload_id, &row));
    row.twin_id = twin_id;
    return far_row_put(step, &far_schema_row_workload, row.id, &row);
}

/* Its disks are others from now on, and meant to be: those of the machine that was brought up. What the vault has of the former ones is
 * what they are compared with. */
static int expect_others(struct far_step *step, uint64_t workload_id)
{
    struct far_row_workload row;
    FAR_TRY(far_row_need(step, &far_schema_row_workload, workload_id, &row));
    for (uint64_t d = 0; d < row.disk_count; d++) {
        struct far_row_disk disk;
        struct far_key key = far_key_part(&far_schema_row_disk, workload_id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &disk));
        disk.identity = far_slice(NULL, 0);
        FAR_TRY(far_key_put(step, &far_schema_row_disk, &key, &disk));
    }
    return 0;
}

int far_evolve_plan_reversed(struct far_step *step, const struct far_ev_plan_reversed *ev)
{
    const struct far_sub_run_twin *twins = ev->twins.items;
    struct far_row_plan plan, back;
    FAR_TRY(far_row_need(step, &far_schema_row_plan, ev->plan_id, &plan));
    FAR_TRY(far_row_need(step, &far_schema_row_plan, ev->reverse_id, &back));
    plan.reverse_id = back.id;
    back.reverse_id = plan.id;
    for (size_t i = 0; i < ev->twins.count; i++) {
        FAR_TRY(pair(step, twins[i].workload_id, twins[i].twin_id));
        FAR_TRY(pair(step, twins[i].twin_id, twins[i].workload_id));
        FAR_TRY(expect_others(step, twins[i].twin_id));
        FAR_TRY(far_member_home(step, &back, twins[i].twin_id));
    }
    FAR_TRY(far_rpo_arm(step, &back));
    FAR_TRY(far_plan_put(step, &plan, plan.due_ms));
    return far_plan_put(step, &back, back.due_ms);
}
