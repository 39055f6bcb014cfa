/* A plan as plan_apply says it: what that command would have to say for nothing to change. */
#include "fsm/machines.h"
#include "fsm/plan_edit.h"
#include "fsm/query.h"

static int name_of(struct far_step *step, const struct far_schema *table, uint64_t id, struct far_slice *ret)
{
    struct far_row_site site;
    struct far_row_domain domain;
    struct far_row_zone zone;
    int rc;
    *ret = far_slice(NULL, 0);
    if (id == 0) {
        return 0;
    }
    if (table == &far_schema_row_site) {
        rc = far_row_need(step, table, id, &site);
        *ret = rc == 0 ? site.name : *ret;
    } else if (table == &far_schema_row_domain) {
        rc = far_row_need(step, table, id, &domain);
        *ret = rc == 0 ? domain.name : *ret;
    } else {
        rc = far_row_need(step, table, id, &zone);
        *ret = rc == 0 ? zone.name : *ret;
    }
    return rc;
}

/* The row under the plan's id; FAR_NOT_FOUND: the plan has none. */
static int part(struct far_step *step, const struct far_schema *table, uint64_t plan_id, void *row)
{
    return far_row_find(step, table, plan_id, row);
}

static int add_member(struct far_step *step, const struct far_row_plan_workload *member, struct far_sub_recovery *ret)
{
    struct far_row_workload workload;
    struct far_row_recovery version = {.config = {.count = 0}};
    FAR_TRY(far_row_need(step, &far_schema_row_workload, member->workload_id, &workload));
    FAR_TRY(member->recovery_id != 0 ? far_row_need(step, &far_schema_row_recovery, member->recovery_id, &version) : 0);
    const struct far_sub_recovery *config = version.config.items;
    *ret = version.config.count > 0 ? config[0] : (struct far_sub_recovery){.processors = 0};
    ret->name = workload.name;
    return 0;
}

static int add_members(struct far_step *step, uint64_t plan_id, struct far_cmd_plan_apply *ret)
{
    struct far_key key = far_key_id(&far_schema_row_plan_workload, plan_id);
    struct far_sub_recovery *members = far_step_alloc(step, FAR_PLAN_WORKLOADS_MAX * sizeof *members);
    size_t count = 0;
    if (members == NULL) {
        return FAR_LIMIT;
    }
    for (;;) {
        struct far_row_plan_workload member;
        int rc = far_plan_member_next(step, plan_id, &key, &member);
        if (rc == FAR_NOT_FOUND) {
            break;
        }
        FAR_TRY(rc);
        if (!member.leaving && count < FAR_PLAN_WORKLOADS_MAX) {
            FAR_TRY(add_member(step, &member, &members[count++]));
        }
    }
    ret->workloads = (struct far_list){.items = members, .count = count};
    return 0;
}

static int add_schedule(struct far_step *step, uint64_t plan_id, struct far_cmd_plan_apply *ret)
{
    struct far_row_plan_schedule row;
    struct far_sub_schedule *schedule = far_step_alloc(step, sizeof *schedule);
    int rc = schedule == NULL ? FAR_LIMIT : part(step, &far_schema_row_plan_schedule, plan_id, &row);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    *schedule = (struct far_sub_schedule){
        .start_ms = row.start_ms, .windows = row.windows, .blackouts = row.blackouts, .catch_up = row.catch_up};
    ret->schedule = (struct far_list){.items = schedule, .count = 1};
    return name_of(step, &far_schema_row_zone, row.zone_id, &schedule->zone);
}

static int add_retention(struct far_step *step, uint64_t plan_id, struct far_cmd_plan_apply *ret)
{
    struct far_row_plan_retention row;
    struct far_sub_keep *keep = far_step_alloc(step, sizeof *keep);
    int rc = keep == NULL ? FAR_LIMIT : part(step, &far_schema_row_plan_retention, plan_id, &row);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    *keep = (struct far_sub_keep){
        .last = row.last, .hourly = row.hourly, .daily = row.daily, .weekly = row.weekly, .monthly = row.monthly};
    ret->retention = (struct far_list){.items = keep, .count = 1};
    return name_of(step, &far_schema_row_zone, row.zone_id, &keep->zone);
}

static int add_throttle(struct far_step *step, uint64_t plan_id, struct far_cmd_plan_apply *ret)
{
    struct far_row_throttle row;
    struct far_sub_bandwidth *throttle = far_step_alloc(step, sizeof *throttle);
    int rc = throttle == NULL ? FAR_LIMIT : part(step, &far_schema_row_throttle, plan_id, &row);
    if (rc != 0 || (row.bytes_per_s == 0 && row.windows.count == 0)) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    *throttle = (struct far_sub_bandwidth){.bytes_per_s = row.bytes_per_s, .windows = row.windows};
    ret->throttle = (struct far_list){.items = throttle, .count = 1};
    return name_of(step, &far_schema_row_zone, row.zone_id, &throttle->zone);
}

static int describe(struct far_step *step, const struct far_row_plan *plan, struct far_cmd_plan_apply *ret)
{
    struct far_row_recovery networks = {.networks = {.count = 0}};
    struct far_row_plan_scripts scripts;
    *ret = (struct far_cmd_plan_apply){.name = plan->name,
                                       .state = plan->state,
                                       .interval_s = plan->interval_s,
                                       .rpo_s = plan->rpo_s,
                                       .rto_s = plan->rto_s,
                                       .audit_age_s = plan->audit_age_s,
                                       .audit_ppm = plan->audit_ppm,
                                       .full_age_s = plan->full_age_s,
                                       .lock_days = plan->lock_days,
                                       .revision = plan->revision};
    FAR_TRY(name_of(step, &far_schema_row_site, plan->source_site_id, &ret->source_site));
    FAR_TRY(name_of(step, &far_schema_row_site, plan->target_site_id, &ret->target_site));
    FAR_TRY(name_of(step, &far_schema_row_domain, plan->domain_id, &ret->domain));
    ret->domain = plan->domain_id == 0 ? far_slice_str("plain") : ret->domain;
    FAR_TRY(add_members(step, plan->id, ret));
    FAR_TRY(plan->networks_id != 0 ? far_row_need(step, &far_schema_row_recovery, plan->networks_id, &networks) : 0);
    ret->networks = networks.networks;
    FAR_TRY(far_scripts_of(step, plan->id, &scripts));
    ret->scripts = scripts.scripts;
    ret->consistency_groups = scripts.consistency_groups;
    FAR_TRY(add_schedule(step, plan->id, ret));
    FAR_TRY(add_retention(step, plan->id, ret));
    return add_throttle(step, plan->id, ret);
}

int far_query_plan(struct far_state *state, const struct far_row_plan *plan, struct far_arena *arena, struct far_cmd_plan_apply *ret,
                   struct far_error *err)
{
    struct far_error cause = {0};
    struct far_step step = {.state = state, .arena = arena, .err = &cause};
    int rc = describe(&step, plan, ret);
    if (rc != 0 && step.is_rejected) {
        return far_fail(err, FAR_INTERNAL, "%s", step.reject_message);
    }
    if (rc != 0 && err != NULL) {
        *err = cause;
    }
    return rc;
}
