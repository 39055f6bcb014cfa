/* One whole plan in one command: it is made, or changed in one step to what the command says.
 *
 * First everything is looked at, so that a rejection names the field by its path in the whole; then the commands for each part decide, on
 * the same step: what is so already makes no event, and a rejection of any of them leaves all as it was. */
#include "fsm/plan_edit.h"

#include "fsm/calendar.h"
#include "fsm/checkpoint.h"
#include "fsm/dedup_domain.h"
#include "fsm/expiry.h"
#include "fsm/job.h"
#include "fsm/recovery.h"
#include "fsm/refuse.h"

struct apply {
    const struct far_cmd_plan_apply *cmd;
    struct far_row_plan plan; /* id 0: it is to be made */
    uint64_t source_site_id;
    struct far_row_workload *workloads; /* as cmd lists them */
};

/* ---- looking ---- */

static int check_numbers(struct far_step *step, const struct far_cmd_plan_apply *cmd)
{
    const struct {
        const char *field;
        uint64_t value, max;
    } numbers[] = {
        {"interval_s", cmd->interval_s, FAR_INTERVAL_S_MAX},     {"rpo_s", cmd->rpo_s, FAR_INTERVAL_S_MAX},
        {"rto_s", cmd->rto_s, FAR_RTO_S_MAX},                    {"audit_age_s", cmd->audit_age_s, FAR_POLICY_AGE_S_MAX},
        {"audit_ppm", cmd->audit_ppm, 1000000},                  {"full_age_s", cmd->full_age_s, FAR_POLICY_AGE_S_MAX},
        {"lock_days", cmd->lock_days, FAR_LOCK_DAYS_MAX},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        FAR_TRY(far_refuse_above(step, "", numbers[i].field, numbers[i].value, numbers[i].max));
    }
    return 0;
}

static int check_site(struct far_step *step, const char *field, struct far_slice name, uint64_t now_id, uint64_t *ret_id)
{
    struct far_row_site site;
    int rc = far_name_find(step, &far_schema_row_site, name, ret_id);
    if (rc == FAR_NOT_FOUND) {
        return far_refuse_text(step, "", field, name, "the name of a site");
    }
    FAR_TRY(rc);
    FAR_TRY(far_row_need(step, &far_schema_row_site, *ret_id, &site));
    if (site.role == FAR_site_role_witness) {
        return far_refuse_text(step, "", field, name, "a site that is no witness");
    }
    return now_id == 0 || now_id == *ret_id
               ? 0
               : far_refuse_text(step, "", field, name, "the site that the plan has: another one is another plan");
}

static int check_domain(struct far_step *step, const struct apply *a)
{
    uint64_t id = 0;
    int rc = 0;
    if (a->cmd->domain.len == 0) {
        return 0;
    }
    if (!far_slice_equal(a->cmd->domain, far_slice_str("plain"))) {
        rc = far_name_find(step, &far_schema_row_domain, a->cmd->domain, &id);
    }
    if (rc == FAR_NOT_FOUND) {
        return far_refuse_text(step, "", "domain", a->cmd->domain, "the name of a dedup domain, or 'plain'");
    }
    FAR_TRY(rc);
    return a->plan.id == 0 || id == a->plan.domain_id
               ? 0
               : far_refuse_text(step, "", "domain", a->cmd->domain, "the dedup domain that the plan has: another one is another plan");
}

static int check_member(struct far_step *step, struct apply *a, const struct far_sub_recovery *members, size_t i)
{
    struct far_place at = far_place("", "workloads", i);
    struct far_row_workload *row = &a->workloads[i];
    uint64_t id;
    int rc = far_name_find(step, &far_schema_row_workload, members[i].name, &id);
    if (rc == FAR_NOT_FOUND) {
        return far_refuse_text(step, at.path, "name", members[i].name, "the name of a workload");
    }
    FAR_TRY(rc);
    FAR_TRY(far_row_need(step, &far_schema_row_workload, id, row));
    for (size_t k = 0; k < i; k++) {
        if (a->workloads[k].id == id) {
            return far_refuse_text(step, at.path, "name", members[i].name, "another one: it is there twice");
        }
    }
    if (row->plan_id != 0 && row->plan_id != a->plan.id) {
        return far_refuse_text(step, at.path, "name", members[i].name, "a workload that no other plan protects");
    }
    if (row->site_id != a->source_site_id) {
        return far_refuse_text(step, at.path, "name", members[i].name, "a workload at the site that 'source_site' says");
    }
    return far_recovery_check(step, at.path, row, &members[i]);
}

static struct far_slice name_there(const struct far_sub_recovery *member)
{
    return member->recovered_name.len > 0 ? member->recovered_name : member->name;
}

static bool same_static(const struct far_sub_recovery *a, const struct far_sub_recovery_nic *nic)
{
    const struct far_sub_recovery_nic *nics = a->nics.items;
    bool same = false;
    for (size_t i = 0; i < a->nics.count; i++) {
        same = same || (nic != &nics[i] && nics[i].mode == FAR_address_mode_static && far_slice_equal(nics[i].address, nic->address) &&
                        far_slice_equal(nics[i].network, nic->network));
    }
    return same;
}

/* Two machines of a plan have neither one name over there nor one address in a network. */
static int check_clashes(struct far_step *step, const struct far_cmd_plan_apply *cmd)
{
    const struct far_sub_recovery *members = cmd->workloads.items;
    for (size_t i = 0; i < cmd->workloads.count; i++) {
        struct far_place at = far_place("", "workloads", i);
        const struct far_sub_recovery_nic *nics = members[i].nics.items;
        for (size_t k = 0; k <= i; k++) {
            if (k < i && far_slice_equal(name_there(&members[k]), name_there(&members[i]))) {
                return far_refuse_text(step, at.path, "recovered_name", name_there(&members[i]), "another one: it is there twice");
            }
            for (size_t n = 0; n < members[i].nics.count; n++) {
                if (nics[n].mode == FAR_address_mode_static && same_static(&members[k], &nics[n])) {
                    struct far_place nic = far_place(at.path, "nics", n);
                    return far_refuse_text(step, nic.path, "address", nics[n].address, "another one: it is there twice");
                }
            }
        }
    }
    return 0;
}

static int check_members(struct far_step *step, struct apply *a)
{
    size_t count = a->cmd->workloads.count;
    if (count == 0) {
        return far_reject(step, FAR_INVALID, "field 'workloads' is empty: a plan needs at least one workload");
    }
    a->workloads = far_step_alloc(step, count * sizeof *a->workloads);
    if (a->workloads == NULL) {
        return FAR_LIMIT;
    }
    for (size_t i = 0; i < count; i++) {
        FAR_TRY(check_member(step, a, a->cmd->workloads.items, i));
    }
    return check_clashes(step, a->cmd);
}

static int check_rate(struct far_step *step, const char *path, uint64_t rate)
{
    return rate == FAR_RATE_UNLIMITED || rate == FAR_RATE_PAUSED || (rate >= FAR_RATE_MIN && rate <= FAR_RATE_MAX)
               ? 0
               : far_refuse_number(step, path, "bytes_per_s", rate, "from 10000 to 1000000000000, 0 for no limit, or 1 for a pause");
}

static int check_throttle(struct far_step *step, const struct far_sub_bandwidth *throttle)
{
    const struct far_sub_throttle_window *windows = throttle->windows.items;
    uint64_t zone_id, minute;
    FAR_TRY(check_rate(step, "throttle.", throttle->bytes_per_s));
    for (size_t i = 0; i < throttle->windows.count; i++) {
        struct far_place at = far_place("throttle.", "windows", i);
        FAR_TRY(far_window_check(step, at.path, &windows[i].days, windows[i].from_min, windows[i].to_min));
        FAR_TRY(check_rate(step, at.path, windows[i].bytes_per_s));
        for (size_t k = 0; k < i; k++) {
            if (far_calendar_overlap(&windows[k], &windows[i], &minute)) {
                return far_refuse_number(step, at.path, "from_min", windows[i].from_min, "outside of every other window: two overlap");
            }
        }
    }
    if (throttle->zone.len > 0 && throttle->windows.count == 0) {
        return far_refuse_text(step, "throttle.", "zone", throttle->zone, "left out: without windows no clock matters");
    }
    return far_zone_check(step, "throttle.", throttle->zone, &zone_id);
}

static int check_retention(struct far_step *step, const struct far_sub_keep *keep)
{
    const uint64_t counts[] = {keep->last, keep->hourly, keep->daily, keep->weekly, keep->monthly};
    uint64_t zone_id, sum = 0;
    for (size_t i = 0; i < FAR_KEEP_RULES; i++) {
        FAR_TRY(far_refuse_above(step, "retention.", far_keep_name(i), counts[i], FAR_KEEP_MAX));
        sum += counts[i];
    }
    if (keep->zone.len > 0 && sum == 0) {
        return far_refuse_text(step, "retention.", "zone", keep->zone, "left out: every checkpoint is kept, and no clock matters");
    }
    return far_zone_check(step, "retention.", keep->zone, &zone_id);
}

static int check(struct far_step *step, struct apply *a)
{
    const struct far_cmd_plan_apply *cmd = a->cmd;
    uint64_t target_id;
    if (!far_is_name(cmd->name)) {
        return far_refuse_text(step, "", "name", cmd->name, "a name of the letters a-z, digits, '.', '_' and '-'");
    }
    if (a->plan.id != 0 && cmd->conditional && cmd->revision != a->plan.revision) {
        return far_reject(step, FAR_CONFLICT, "plan '%.*s' has revision %llu, not %llu: somebody changed it; read it again",
                          FAR_TEXT(cmd->name), FAR_LLU(a->plan.revision), FAR_LLU(cmd->revision));
    }
    FAR_TRY(check_site(step, "source_site", cmd->source_site, a->plan.source_site_id, &a->source_site_id));
    FAR_TRY(check_site(step, "target_site", cmd->target_site, a->plan.target_site_id, &target_id));
    if (target_id == a->source_site_id) {
        return far_refuse_text(step, "", "target_site", cmd->target_site, "another site than 'source_site'");
    }
    FAR_TRY(check_domain(step, a));
    FAR_TRY(check_numbers(step, cmd));
    FAR_TRY(check_members(step, a));
    FAR_TRY(far_networks_check(step, &cmd->networks));
    FAR_TRY(far_scripts_check(step, cmd));
    FAR_TRY(cmd->schedule.count > 0 ? far_schedule_check(step, "schedule.", cmd->schedule.items) : 0);
    FAR_TRY(cmd->retention.count > 0 ? check_retention(step, cmd->retention.items) : 0);
    return cmd->throttle.count > 0 ? check_throttle(step, cmd->throttle.items) : 0;
}

/* ---- making it so ---- */

static int create(struct far_step *step, struct apply *a)
{
    const struct far_cmd_plan_apply *cmd = a->cmd;
    const struct far_sub_recovery *members = cmd->workloads.items;
    struct far_slice *names = far_step_alloc(step, cmd->workloads.count * sizeof *names);
    if (names == NULL) {
        return FAR_LIMIT;
    }
    for (size_t i = 0; i < cmd->workloads.count; i++) {
        names[i] = members[i].name;
    }
    struct far_cmd_plan_create made = {.name = cmd->name,
                                       .source_site = cmd->source_site,
                                       .target_site = cmd->target_site,
                                       .workloads = {.items = names, .count = cmd->workloads.count},
                                       .interval_s = cmd->interval_s,
                                       .rpo_s = cmd->rpo_s,
                                       .audit_age_s = cmd->audit_age_s,
                                       .audit_ppm = cmd->audit_ppm,
                                       .full_age_s = cmd->full_age_s,
                                       .domain = cmd->domain,
                                       .lock_days = cmd->lock_days};
    return far_decide_plan_create(step, &made);
}

static bool is_listed(const struct apply *a, uint64_t workload_id)
{
    bool found = false;
    for (size_t i = 0; i < a->cmd->workloads.count; i++) {
        found = found || a->workloads[i].id == workload_id;
    }
    return found;
}

/* Who comes, and of those that are there who leaves. */
static int change_members(struct far_step *step, const struct apply *a)
{
    struct far_key key = far_key_id(&far_schema_row_plan_workload, a->plan.id);
    uint64_t *added = far_step_alloc(step, FAR_PLAN_WORKLOADS_MAX * sizeof *added);
    uint64_t *removed = far_step_alloc(step, FAR_PLAN_WORKLOADS_MAX * sizeof *removed);
    struct far_list add = {.items = added}, leave = {.items = removed};
    if (added == NULL || removed == NULL) {
        return FAR_LIMIT;
    }
    for (size_t i = 0; i < a->cmd->workloads.count; i++) {
        if (a->workloads[i].plan_id == 0) {
            added[add.count++] = a->workloads[i].id;
        }
    }
    for (;;) {
        struct far_row_plan_workload member;
        int rc = far_plan_member_next(step, a->plan.id, &key, &member);
        if (rc == FAR_NOT_FOUND) {
            break;
        }
        FAR_TRY(rc);
        bool stays = is_listed(a, member.workload_id);
        if (stays == member.leaving) {
            struct far_list *list = stays ? &add : &leave;
            (stays ? added : removed)[list->count++] = member.workload_id;
        }
    }
    uint64_t sum = a->plan.workload_count + add.count;
    if (sum > FAR_PLAN_WORKLOADS_MAX) {
        return far_reject(step, FAR_LIMIT, "field 'workloads' would make %llu workloads until those that leave are gone; %d are allowed",
                          FAR_LLU(sum), FAR_PLAN_WORKLOADS_MAX);
    }
    return far_members_change(step, &a->plan, &add, &leave);
}

static int put_throttle(struct far_step *step, const struct apply *a)
{
    static const struct far_sub_bandwidth none;
    const struct far_sub_bandwidth *throttle = a->cmd->throttle.count > 0 ? a->cmd->throttle.items : &none;
    struct far_row_throttle old;
    struct far_ev_throttle_changed now = {.bytes_per_s = throttle->bytes_per_s, .windows = throttle->windows}, before = {.scope = 0};
    bool same;
    FAR_TRY(far_zone_check(step, "throttle.", throttle->zone, &now.zone_id));
    int rc = far_row_find(step, &far_schema_row_throttle, a->plan.id, &old);
    if (rc == 0) {
        before.bytes_per_s = old.bytes_per_s;
        before.windows = old.windows;
        before.zone_id = old.zone_id;
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    FAR_TRY(far_same(step, &far_schema_ev_throttle_changed, &now, &before, &same));
    if (same) {
        return 0;
    }
    if (throttle->bytes_per_s == 0 && throttle->windows.count == 0) {
        struct far_cmd_throttle_remove remove = {.scope = FAR_throttle_scope_plan, .name = a->cmd->name};
        return far_decide_throttle_remove(step, &remove);
    }
    struct far_cmd_throttle_set set = {.scope = FAR_throttle_scope_plan,
                                       .name = a->cmd->name,
                                       .bytes_per_s = throttle->bytes_per_s,
                                       .zone = throttle->zone,
                                       .windows = throttle->windows};
    return far_decide_throttle_set(step, &set);
}

static int put_retention(struct far_step *step, const struct apply *a)
{
    static const struct far_sub_keep none;
    const struct far_sub_keep *keep = a->cmd->retention.count > 0 ? a->cmd->retention.items : &none;
    struct far_cmd_plan_retention_set set = {.name = a->cmd->name,
                                             .last = keep->last,
                                             .hourly = keep->hourly,
                                             .daily = keep->daily,
                                             .weekly = keep->weekly,
                                             .monthly = keep->monthly,
                                             .zone = keep->zone};
    return far_decide_plan_retention_set(step, &set);
}

static int put_state(struct far_step *step, const struct apply *a)
{
    struct far_cmd_plan_start start = {.name = a->cmd->name};
    struct far_cmd_plan_stop stop = {.name = a->cmd->name};
    struct far_cmd_plan_pause pause = {.name = a->cmd->name};
    if (a->cmd->state == FAR_plan_state_paused) {
        FAR_TRY(a->plan.state == FAR_plan_state_stopped ? far_decide_plan_start(step, &start) : 0);
        return a->plan.state == FAR_plan_state_paused ? 0 : far_decide_plan_pause(step, &pause);
    }
    return a->cmd->state == FAR_plan_state_active    ? far_decide_plan_start(step, &start)
           : a->cmd->state == FAR_plan_state_stopped ? far_decide_plan_stop(step, &stop)
                                                     : 0;
}

/* What was decided before changed the plan's row. */
static int reread(struct far_step *step, struct apply *a)
{
    return far_row_need(step, &far_schema_row_plan, a->plan.id, &a->plan);
}

static int put_configurations(struct far_step *step, struct apply *a)
{
    const struct far_sub_recovery *members = a->cmd->workloads.items;
    for (size_t i = 0; i < a->cmd->workloads.count; i++) {
        FAR_TRY(far_recovery_put(step, &a->plan, a->workloads[i].id, &members[i]));
    }
    FAR_TRY(reread(step, a));
    return far_networks_put(step, &a->plan, &a->cmd->networks);
}

int far_decide_plan_apply(struct far_step *step, const struct far_cmd_plan_apply *cmd)
{
    struct apply a = {.cmd = cmd};
    uint64_t id = 0;
    int rc = far_name_find(step, &far_schema_row_plan, cmd->name, &id);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    FAR_TRY(id != 0 ? far_row_need(step, &far_schema_row_plan, id, &a.plan) : 0);
    FAR_TRY(check(step, &a));
    FAR_TRY(id == 0 ? create(step, &a) : change_members(step, &a));
    a.plan.id = id != 0 ? id : step->object_id;
    FAR_TRY(reread(step, &a));
    struct far_ev_plan_updated policies = {.id = a.plan.id,
                                           .audit_age_s = cmd->audit_age_s,
                                           .audit_ppm = cmd->audit_ppm,
                                           .full_age_s = cmd->full_age_s,
                                           .rpo_s = cmd->rpo_s,
                                           .lock_days = cmd->lock_days,
                                           .rto_s = cmd->rto_s};
    FAR_TRY(far_plan_policies_put(step, &a.plan, &policies));
    FAR_TRY(reread(step, &a));
    FAR_TRY(put_configurations(step, &a));
    FAR_TRY(reread(step, &a));
    FAR_TRY(far_schedule_put(step, &a.plan, cmd->interval_s, cmd->schedule.count > 0 ? cmd->schedule.items : NULL));
    FAR_TRY(far_scripts_put(step, a.plan.id, cmd));
    FAR_TRY(put_retention(step, &a));
    FAR_TRY(put_throttle(step, &a));
    FAR_TRY(put_state(step, &a));
    step->object_id = a.plan.id;
    return 0;
}
