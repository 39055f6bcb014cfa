/* Plans: which workloads go from which site to which, and how often. A started plan with an interval has a deadline; when
 * it is due a cycle begins, unless the one before still runs: then this one is skipped. */
#include "fsm/machines.h"

#include "fsm/alert.h"
#include "fsm/bandwidth.h"
#include "fsm/dedup_domain.h"
#include "fsm/checkpoint.h"
#include "fsm/expiry.h"
#include "fsm/job.h"
#include "fsm/offer.h"
#include "fsm/plan_edit.h"
#include "fsm/recovery.h"
#include "fsm/rpo.h"
#include "fsm/run.h"

enum { ABSENT, STOPPED, STOPPED_RUNNING, ACTIVE, ACTIVE_RUNNING, PAUSED, PAUSED_RUNNING };
enum { CREATE, REMOVE, START, STOP, REPLICATE, DUE, RECOVER, FINISH, UPDATE, PAUSE = FAR_PLAN_PAUSE, RESUME = FAR_PLAN_RESUME };
static const char *const states[] = {"absent", "stopped", "stopped, a cycle running", "active", "active, a cycle running",
                                     "paused", "paused, a cycle running"};
static const char *const inputs[] = {"plan_create", "plan_remove", "plan_start", "plan_stop", "plan_replicate", "due",
                                     "recover", "cycle finished", "plan_update", "plan_pause", "plan_resume"};
#define GONE FAR_REJECT(FAR_NOT_FOUND, "does not exist")
#define TAKEN FAR_REJECT(FAR_CONFLICT, "exists already; choose another name")
#define RUNS FAR_REJECT(FAR_CONFLICT, "runs a replication cycle already; wait for it or cancel its job")
#define BUSY FAR_REJECT(FAR_CONFLICT, "runs a replication cycle; wait for it or cancel its job, then remove the plan")
#define IDLE FAR_REJECT(FAR_INTERNAL, "runs no cycle")
#define NO_DUE FAR_REJECT(FAR_INTERNAL, "is stopped and has no deadline")
#define NO_PAUSE FAR_REJECT(FAR_CONFLICT, "is stopped: there is nothing to pause; start it first")
#define NO_RESUME FAR_REJECT(FAR_CONFLICT, "is stopped; start it")
static const struct far_cell cells[7][11] = {
    [ABSENT] = {[CREATE] = FAR_MOVE(STOPPED),
                [REMOVE] = GONE,
                [START] = GONE,
                [STOP] = GONE,
                [REPLICATE] = GONE,
                [DUE] = GONE,
                [RECOVER] = GONE,
                [FINISH] = GONE,
                [UPDATE] = GONE,
                [PAUSE] = GONE,
                [RESUME] = GONE},
    [STOPPED] = {[CREATE] = TAKEN,
                 [REMOVE] = FAR_MOVE(ABSENT),
                 [START] = FAR_MOVE(ACTIVE),
                 [STOP] = FAR_MOVE(STOPPED),
                 [REPLICATE] = FAR_MOVE(STOPPED_RUNNING),
                 [DUE] = NO_DUE,
                 [RECOVER] = FAR_MOVE(STOPPED),
                 [FINISH] = IDLE,
                 [UPDATE] = FAR_MOVE(STOPPED),
                 [PAUSE] = NO_PAUSE,
                 [RESUME] = NO_RESUME},
    [STOPPED_RUNNING] = {[CREATE] = TAKEN,
                         [REMOVE] = BUSY,
                         [START] = FAR_MOVE(ACTIVE_RUNNING),
                         [STOP] = FAR_MOVE(STOPPED_RUNNING),
                         [REPLICATE] = RUNS,
                         [DUE] = NO_DUE,
                         [RECOVER] = FAR_MOVE(STOPPED_RUNNING),
                         [FINISH] = FAR_MOVE(STOPPED),
                         [UPDATE] = FAR_MOVE(STOPPED_RUNNING),
                         [PAUSE] = NO_PAUSE,
                         [RESUME] = NO_RESUME},
    [ACTIVE] = {[CREATE] = TAKEN,
                [REMOVE] = FAR_MOVE(ABSENT),
                [START] = FAR_MOVE(ACTIVE),
                [STOP] = FAR_MOVE(STOPPED),
                [REPLICATE] = FAR_MOVE(ACTIVE_RUNNING),
                [DUE] = FAR_MOVE(ACTIVE_RUNNING),
                [RECOVER] = FAR_MOVE(ACTIVE),
                [FINISH] = IDLE,
                [UPDATE] = FAR_MOVE(ACTIVE),
                [PAUSE] = FAR_MOVE(PAUSED),
                [RESUME] = FAR_MOVE(ACTIVE)},
    [ACTIVE_RUNNING] = {[CREATE] = TAKEN,
                        [REMOVE] = BUSY,
                        [START] = FAR_MOVE(ACTIVE_RUNNING),
                        [STOP] = FAR_MOVE(STOPPED_RUNNING),
                        [REPLICATE] = RUNS,
                        [DUE] = FAR_MOVE(ACTIVE_RUNNING),
                        [RECOVER] = FAR_MOVE(ACTIVE_RUNNING),
                        [FINISH] = FAR_MOVE(ACTIVE),
                        [UPDATE] = FAR_MOVE(ACTIVE_RUNNING),
                        [PAUSE] = FAR_MOVE(PAUSED_RUNNING),
                        [RESUME] = FAR_MOVE(ACTIVE_RUNNING)},
    [PAUSED] = {[CREATE] = TAKEN,
                [REMOVE] = FAR_MOVE(ABSENT),
                [START] = FAR_MOVE(ACTIVE),
                [STOP] = FAR_MOVE(STOPPED),
                [REPLICATE] = FAR_MOVE(PAUSED_RUNNING),
                [DUE] = FAR_MOVE(PAUSED),
                [RECOVER] = FAR_MOVE(PAUSED),
                [FINISH] = IDLE,
                [UPDATE] = FAR_MOVE(PAUSED),
                [PAUSE] = FAR_MOVE(PAUSED),
                [RESUME] = FAR_MOVE(ACTIVE)},
    [PAUSED_RUNNING] = {[CREATE] = TAKEN,
                        [REMOVE] = BUSY,
                        [START] = FAR_MOVE(ACTIVE_RUNNING),
                        [STOP] = FAR_MOVE(STOPPED_RUNNING),
                        [REPLICATE] = RUNS,
                        [DUE] = FAR_MOVE(PAUSED_RUNNING),
                        [RECOVER] = FAR_MOVE(PAUSED_RUNNING),
                        [FINISH] = FAR_MOVE(PAUSED),
                        [UPDATE] = FAR_MOVE(PAUSED_RUNNING),
                        [PAUSE] = FAR_MOVE(PAUSED_RUNNING),
                        [RESUME] = FAR_MOVE(ACTIVE_RUNNING)},
};
const struct far_table far_table_plan = FAR_TABLE("plan", states, inputs, cells);

#define RPO_S_MAX FAR_INTERVAL_S_MAX

static unsigned state_of(const struct far_row_plan *row)
{
    if (row->id == 0) {
        return ABSENT;
    }
    unsigned state = row->state == FAR_plan_state_active ? ACTIVE : row->state == FAR_plan_state_paused ? PAUSED : STOPPED;
    return state + (row->running_job_id != 0);
}

int far_plan_moves(struct far_step *step, const struct far_row_plan *row, struct far_slice name, enum far_plan_input input)
{
    return far_move(step, &far_table_plan, state_of(row), input, name, NULL);
}

/* The row with this id; all zero if there is none. */
static int look(struct far_step *step, uint64_t id, struct far_row_plan *ret_row)
{
    int rc = far_row_find(step, &far_schema_row_plan, id, ret_row);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_plan){.id = 0};
        return 0;
    }
    return rc;
}

static int look_name(struct far_step *step, struct far_slice name, struct far_row_plan *ret_row)
{
    uint64_t id = 0;
    int rc = far_name_find(step, &far_schema_row_plan, name, &id);
    return rc != 0 && rc != FAR_NOT_FOUND ? rc : look(step, id, ret_row);
}

/* Put the row, its deadline moved from where it was. */
int far_plan_put(struct far_step *step, const struct far_row_plan *row, uint64_t due_before_ms)
{
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_plan_due, row->id, 0, due_before_ms, row->due_ms));
    return far_row_put(step, &far_schema_row_plan, row->id, row);
}

/* ---- create and remove ---- */

static int plan_site(struct far_step *step, struct far_slice name, uint64_t *ret_id)
{
    struct far_row_site site;
    FAR_TRY(far_name_need(step, &far_schema_row_site, name, ret_id));
    FAR_TRY(far_row_need(step, &far_schema_row_site, *ret_id, &site));
    return site.role != FAR_site_role_witness
               ? 0
               : far_reject(step, FAR_INVALID, "site '%.*s' is a witness: no plan can use it", FAR_TEXT(name));
}

static int plan_workloads(struct far_step *step, const struct far_cmd_plan_create *cmd, uint64_t site_id,
                          uint64_t *ids)
{
    const struct far_slice *names = cmd->workloads.items;
    for (size_t i = 0; i < cmd->workloads.count; i++) {
        struct far_row_workload row;
        FAR_TRY(far_workload_claimable(step, names[i], &row));
        if (row.site_id != site_id) {
            return far_reject(step, FAR_INVALID, "workload '%.*s' is not at site '%.*s', the source of plan '%.*s'",
                              FAR_TEXT(names[i]), FAR_TEXT(cmd->source_site), FAR_TEXT(cmd->name));
        }
        for (size_t k = 0; k < i; k++) {
            if (ids[k] == row.id) {
                return far_reject(step, FAR_INVALID, "plan '%.*s' names workload '%.*s' twice", FAR_TEXT(cmd->name),
                                  FAR_TEXT(names[i]));
            }
        }
        ids[i] = row.id;
    }
    return 0;
}

static int check_policy(struct far_step *step, struct far_slice name, uint64_t audit_age_s, uint64_t audit_ppm, uint64_t full_age_s,
                        uint64_t rpo_s)
{
    if (rpo_s > RPO_S_MAX) {
        return far_reject(step, FAR_INVALID, "plan '%.*s': an RPO is at most a year", FAR_TEXT(name));
    }
    if (audit_age_s > FAR_POLICY_AGE_S_MAX || full_age_s > FAR_POLICY_AGE_S_MAX) {
        return far_reject(step, FAR_INVALID, "plan '%.*s': the age of a proof or of the audit is at most ten years", FAR_TEXT(name));
    }
    return audit_ppm <= 1000000 ? 0
                                : far_reject(step, FAR_INVALID,
                                             "plan '%.*s': at most 1000000 millionths of a disk can be audited in a cycle",
                                             FAR_TEXT(name));
}

static int check_lock(struct far_step *step, struct far_slice name, uint64_t lock_days)
{
    return lock_days <= FAR_LOCK_DAYS_MAX ? 0
                                          : far_reject(step, FAR_INVALID, "plan '%.*s': checkpoints are locked for at most %d days",
                                                       FAR_TEXT(name), FAR_LOCK_DAYS_MAX);
}

static int check_rto(struct far_step *step, struct far_slice name, uint64_t rto_s)
{
    return rto_s <= FAR_RTO_S_MAX ? 0 : far_reject(step, FAR_INVALID, "plan '%.*s': an RTO is at most 30 days", FAR_TEXT(name));
}

/* A promise that each cycle would break. */
static void warn_of_interval(struct far_step *step, uint64_t interval_s, uint64_t rpo_s)
{
    char every[FAR_RPO_SPAN_MAX], promised[FAR_RPO_SPAN_MAX];
    if (rpo_s != 0 && interval_s >= rpo_s) {
        far_warn(step, "cycles begin every %s, and no point is promised to be older than %s: the interval has to be shorter",
                 far_rpo_span(interval_s * 1000, every), far_rpo_span(rpo_s * 1000, promised));
    }
}

int far_decide_plan_create(struct far_step *step, const struct far_cmd_plan_create *cmd)
{
    struct far_row_plan old;
    struct far_ev_plan_created ev = {.id = step->progress.next_id,
                                     .name = cmd->name,
                                     .interval_s = cmd->interval_s,
                                     .rpo_s = cmd->rpo_s,
                                     .audit_age_s = cmd->audit_age_s,
                                     .audit_ppm = cmd->audit_ppm,
                                     .full_age_s = cmd->full_age_s,
                                     .lock_days = cmd->lock_days};
    FAR_TRY(far_name_check(step, "plan", cmd->name));
    FAR_TRY(look_name(step, cmd->name, &old));
    FAR_TRY(far_move(step, &far_table_plan, state_of(&old), CREATE, cmd->name, NULL));
    FAR_TRY(plan_site(step, cmd->source_site, &ev.source_site_id));
    FAR_TRY(plan_site(step, cmd->target_site, &ev.target_site_id));
    if (ev.source_site_id == ev.target_site_id) {
        return far_reject(step, FAR_INVALID, "plan '%.*s' would copy site '%.*s' to itself; name two sites",
                          FAR_TEXT(cmd->name), FAR_TEXT(cmd->source_site));
    }
    if (cmd->workloads.count == 0) {
        return far_reject(step, FAR_INVALID, "plan '%.*s' needs at least one workload", FAR_TEXT(cmd->name));
    }
    if (cmd->interval_s > FAR_INTERVAL_S_MAX) {
        return far_reject(step, FAR_INVALID, "plan '%.*s': an interval is at most a year", FAR_TEXT(cmd->name));
    }
    FAR_TRY(check_policy(step, cmd->name, cmd->audit_age_s, cmd->audit_ppm, cmd->full_age_s, cmd->rpo_s));
    FAR_TRY(far_domain_of_plan(step, cmd->domain, &ev.domain_id));
    FAR_TRY(check_lock(step, cmd->name, cmd->lock_days));
    uint64_t *ids = far_step_alloc(step, cmd->workloads.count * sizeof *ids);
    if (ids == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(plan_workloads(step, cmd, ev.source_site_id, ids));
    ev.workload_ids = (struct far_list){.items = ids, .count = cmd->workloads.count};
    step->object_id = ev.id;
    FAR_TRY(far_offer_warn_silent(step, ev.source_site_id, ev.target_site_id));
    warn_of_interval(step, cmd->interval_s, cmd->rpo_s);
    return far_emit(step, &far_schema_ev_plan_created, &ev);
}

int far_evolve_plan_created(struct far_step *step, const struct far_ev_plan_created *ev)
{
    const uint64_t *ids = ev->workload_ids.items;
    struct far_row_plan row;
    FAR_TRY(look_name(step, ev->name, &row));
    FAR_TRY(far_move(step, &far_table_plan, state_of(&row), CREATE, ev->name, NULL));
    row = (struct far_row_plan){.id = ev->id,
                                .name = ev->name,
                                .source_site_id = ev->source_site_id,
                                .target_site_id = ev->target_site_id,
                                .state = FAR_plan_state_stopped,
                                .epoch = 1,
                                .interval_s = ev->interval_s,
                                .rpo_s = ev->rpo_s,
                                .workload_count = ev->workload_ids.count,
                                .created_ms = step->time_ms,
                                .audit_age_s = ev->audit_age_s,
                                .audit_ppm = ev->audit_ppm,
                                .full_age_s = ev->full_age_s,
                                .domain_id = ev->domain_id,
                                .lock_days = ev->lock_days};
    FAR_TRY(far_domain_plans(step, row.domain_id, 1));
    for (size_t i = 0; i < ev->workload_ids.count; i++) {
        struct far_row_plan_workload member = {.plan_id = ev->id, .workload_id = ids[i]};
        struct far_key key = far_key_pair(&far_schema_row_plan_workload, ev->id, ids[i]);
        FAR_TRY(far_workload_claim(step, ids[i], ev->id));
        FAR_TRY(far_key_put(step, &far_schema_row_plan_workload, &key, &member));
    }
    FAR_TRY(far_name_put(step, &far_schema_row_plan, row.name, row.id));
    far_id_used(step, row.id);
    return far_plan_put(step, &row, 0);
}

/* What is left behind, no retention removes any more. */
static int warn_of_checkpoints(struct far_step *step, const struct far_row_plan *row)
{
    struct far_row_checkpoint checkpoint;
    struct far_key key = far_plan_checkpoints_from(row->id, 0);
    int rc = far_plan_checkpoints_next(step, row->id, &key, &checkpoint);
    if (rc == 0) {
        far_warn(step, "the checkpoints of plan '%.*s' stay: remove them one by one, or erase the plan before it is removed",
                 FAR_TEXT(row->name));
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_decide_plan_remove(struct far_step *step, const struct far_cmd_plan_remove *cmd)
{
    struct far_row_plan row;
    FAR_TRY(look_name(step, cmd->name, &row));
    FAR_TRY(far_move(step, &far_table_plan, state_of(&row), REMOVE, cmd->name, NULL));
    if (row.job_count != 0) {
        return far_reject(step, FAR_CONFLICT, "plan '%.*s' has %llu running jobs; wait for them or cancel them",
                          FAR_TEXT(cmd->name), FAR_LLU(row.job_count));
    }
    struct far_ev_plan_removed ev = {.id = row.id};
    step->object_id = row.id;
    FAR_TRY(warn_of_checkpoints(step, &row));
    FAR_TRY(far_alert_clear(step, FAR_alert_kind_rpo_late, row.id));
    return far_emit(step, &far_schema_ev_plan_removed, &ev);
}

int far_evolve_plan_removed(struct far_step *step, const struct far_ev_plan_removed *ev)
{
    struct far_row_plan row;
    struct far_row_plan_workload member;
    FAR_TRY(look(step, ev->id, &row));
    FAR_TRY(far_move_id(step, &far_table_plan, state_of(&row), REMOVE, ev->id, NULL));
    for (uint64_t i = 0; i < row.workload_count; i++) {
        struct far_key key = far_key_id(&far_schema_row_plan_workload, ev->id);
        FAR_TRY(far_next(step, &far_schema_row_plan_workload, &key, NULL, &member));
        key = far_key_pair(&far_schema_row_plan_workload, ev->id, member.workload_id);
        FAR_TRY(far_key_del(step, &far_schema_row_plan_workload, &key));
        FAR_TRY(far_workload_claim(step, member.workload_id, 0));
        FAR_TRY(far_recovery_end(step, member.recovery_id));
    }
    FAR_TRY(far_recovery_end(step, row.networks_id));
    FAR_TRY(far_schedule_gone(step, row.id));
    FAR_TRY(far_scripts_gone(step, row.id));
    FAR_TRY(far_throttle_gone(step, row.id));
    FAR_TRY(far_domain_plans(step, row.domain_id, -1));
    FAR_TRY(far_expiry_gone(step, row.id));
    FAR_TRY(far_plan_jobs_orphan(step, row.id));
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_plan_due, row.id, 0, row.due_ms, 0));
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_plan_rpo, row.id, 0, row.rpo_due_ms, 0));
    FAR_TRY(far_name_del(step, &far_schema_row_plan, row.name));
    return far_row_del(step, &far_schema_row_plan, row.id);
}

/* ---- update ---- */

/* The fields of which `clear` says that they are to be as usual. */
static int what_to_clear(struct far_step *step, const struct far_cmd_plan_update *cmd, struct far_ev_plan_updated *ev)
{
    const struct {
        const char *name;
        uint64_t given;
        uint64_t *value;
    } fields[] = {{"audit_age_s", cmd->audit_age_s, &ev->audit_age_s},
                  {"audit_ppm", cmd->audit_ppm, &ev->audit_ppm},
                  {"full_age_s", cmd->full_age_s, &ev->full_age_s},
                  {"lock_days", cmd->lock_days, &ev->lock_days},
                  {"rpo_s", cmd->rpo_s, &ev->rpo_s},
                  {"rto_s", cmd->rto_s, &ev->rto_s}};
    enum { FIELDS = sizeof fields / sizeof fields[0] };
    const struct far_slice *names = cmd->clear.items;
    for (size_t i = 0; i < cmd->clear.count; i++) {
        size_t f = 0;
        while (f < FIELDS && !far_slice_equal(names[i], far_slice_str(fields[f].name))) {
            f++;
        }
        if (f == FIELDS) {
            return far_reject(step, FAR_INVALID,
                              "'%.*s' of a plan cannot be cleared; audit_age_s, audit_ppm, full_age_s, lock_days, rpo_s and rto_s can",
                              FAR_TEXT(names[i]));
        }
        if (fields[f].given != 0) {
            return far_reject(step, FAR_INVALID, "a field cannot be set and cleared at once");
        }
        *fields[f].value = 0;
    }
    bool is_given = cmd->clear.count > 0;
    for (size_t f = 0; f < FIELDS; f++) {
        *fields[f].value = fields[f].given != 0 ? fields[f].given : *fields[f].value;
        is_given = is_given || fields[f].given != 0;
    }
    return is_given ? 0
                    : far_reject(step, FAR_INVALID,
                                 "there is nothing to change; give audit_age_s, audit_ppm, full_age_s, lock_days, rpo_s or rto_s");
}

int far_decide_plan_update(struct far_step *step, const struct far_cmd_plan_update *cmd)
{
    struct far_row_plan row;
    FAR_TRY(look_name(step, cmd->name, &row));
    FAR_TRY(far_move(step, &far_table_plan, state_of(&row), UPDATE, cmd->name, NULL));
    if (cmd->conditional && cmd->revision != row.revision) {
        return far_reject(step, FAR_CONFLICT, "plan '%.*s' has revision %llu, not %llu: somebody changed it; read it again",
                          FAR_TEXT(cmd->name), FAR_LLU(row.revision), FAR_LLU(cmd->revision));
    }
    struct far_ev_plan_updated ev = {.id = row.id,
                                     .audit_age_s = row.audit_age_s,
                                     .audit_ppm = row.audit_ppm,
                                     .full_age_s = row.full_age_s,
                                     .lock_days = row.lock_days,
                                     .rpo_s = row.rpo_s,
                                     .rto_s = row.rto_s};
    FAR_TRY(what_to_clear(step, cmd, &ev));
    FAR_TRY(check_policy(step, cmd->name, ev.audit_age_s, ev.audit_ppm, ev.full_age_s, ev.rpo_s));
    FAR_TRY(check_lock(step, cmd->name, ev.lock_days));
    FAR_TRY(check_rto(step, cmd->name, ev.rto_s));
    warn_of_interval(step, row.interval_s, cmd->rpo_s);
    step->object_id = row.id;
    FAR_TRY(far_emit(step, &far_schema_ev_plan_updated, &ev));
    return far_rpo_look(step, row.id);
}

int far_plan_policies_put(struct far_step *step, const struct far_row_plan *row, const struct far_ev_plan_updated *policies)
{
    bool same = policies->audit_age_s == row->audit_age_s && policies->audit_ppm == row->audit_ppm &&
                policies->full_age_s == row->full_age_s && policies->lock_days == row->lock_days && policies->rpo_s == row->rpo_s &&
                policies->rto_s == row->rto_s;
    FAR_TRY(!same ? far_emit(step, &far_schema_ev_plan_updated, policies) : 0);
    return !same ? far_rpo_look(step, row->id) : 0;
}

int far_evolve_plan_updated(struct far_step *step, const struct far_ev_plan_updated *ev)
{
    struct far_row_plan row;
    FAR_TRY(look(step, ev->id, &row));
    FAR_TRY(far_move_id(step, &far_table_plan, state_of(&row), UPDATE, ev->id, NULL));
    row.audit_age_s = ev->audit_age_s;
    row.audit_ppm = ev->audit_ppm;
    row.full_age_s = ev->full_age_s;
    row.lock_days = ev->lock_days;
    row.rpo_from_ms = row.rpo_s == 0 && ev->rpo_s != 0 && row.state == FAR_plan_state_active ? step->time_ms : row.rpo_from_ms;
    row.rpo_s = ev->rpo_s;
    row.rto_s = ev->rto_s;
    row.revision++;
    FAR_TRY(far_rpo_arm(step, &row));
    return far_plan_put(step, &row, row.due_ms);
}

/* ---- start and stop ---- */

/* What was adopted has no source until somebody gives it one. */
static int check_sources(struct far_step *step, const struct far_row_plan *row)
{
    struct far_key key = far_key_id(&far_schema_row_plan_workload, row->id);
    for (uint64_t i = 0; i < row->workload_count; i++) {
        struct far_row_plan_workload member;
        struct far_row_workload workload;
        FAR_TRY(far_next(step, &far_schema_row_plan_workload, &key, NULL, &member));
        FAR_TRY(far_row_need(step, &far_schema_row_workload, member.workload_id, &workload));
        if (workload.adapter.len == 0 && member.moved_ms == 0) {
            return far_reject(step, FAR_CONFLICT,
                              "workload '%.*s' was adopted and has no source: 'farshore workload set %.*s --adapter NAME --disk "
                              "DISK=PATH' gives it one",
                              FAR_TEXT(workload.name), FAR_TEXT(workload.name));
        }
    }
    return row->workload_count != 0 ? 0 : far_reject(step, FAR_CONFLICT, "plan '%.*s' has no workload", FAR_TEXT(row->name));
}

int far_decide_plan_start(struct far_step *step, const struct far_cmd_plan_start *cmd)
{
    struct far_row_plan row;
    FAR_TRY(look_name(step, cmd->name, &row));
    FAR_TRY(far_move(step, &far_table_plan, state_of(&row), START, cmd->name, NULL));
    step->object_id = row.id;
    if (row.state == FAR_plan_state_active) {
        return 0;
    }
    FAR_TRY(far_run_plan_free(step, &row));
    FAR_TRY(check_sources(step, &row));
    FAR_TRY(far_offer_warn(step, row.id));
    struct far_ev_plan_started ev = {.plan_id = row.id};
    FAR_TRY(far_schedule_next(step, &row, step->time_ms, &ev.due_ms));
    return far_emit(step, &far_schema_ev_plan_started, &ev);
}

int far_evolve_plan_started(struct far_step *step, const struct far_ev_plan_started *ev)
{
    struct far_row_plan row;
    FAR_TRY(look(step, ev->plan_id, &row));
    FAR_TRY(far_move_id(step, &far_table_plan, state_of(&row), START, ev->plan_id, NULL));
    uint64_t due_before_ms = row.due_ms;
    row.state = FAR_plan_state_active;
    row.due_ms = ev->due_ms;
    row.paused_ms = 0;
    row.rpo_from_ms = row.rpo_s != 0 ? step->time_ms : row.rpo_from_ms;
    FAR_TRY(far_rpo_arm(step, &row));
    return far_plan_put(step, &row, due_before_ms);
}

int far_decide_plan_stop(struct far_step *step, const struct far_cmd_plan_stop *cmd)
{
    struct far_row_plan row;
    FAR_TRY(look_name(step, cmd->name, &row));
    FAR_TRY(far_move(step, &far_table_plan, state_of(&row), STOP, cmd->name, NULL));
    step->object_id = row.id;
    if (row.state == FAR_plan_state_stopped) {
        return 0;
    }
    struct far_ev_plan_stopped ev = {.plan_id = row.id};
    return far_emit(step, &far_schema_ev_plan_stopped, &ev);
}

int far_evolve_plan_stopped(struct far_step *step, const struct far_ev_plan_stopped *ev)
{
    struct far_row_plan row;
    FAR_TRY(look(step, ev->plan_id, &row));
    FAR_TRY(far_move_id(step, &far_table_plan, state_of(&row), STOP, ev->plan_id, NULL));
    uint64_t due_before_ms = row.due_ms;
    row.state = FAR_plan_state_stopped;
    row.due_ms = 0;
    row.owed = false;
    row.paused_ms = 0;
    return far_plan_put(step, &row, due_before_ms);
}

/* ---- cycles ---- */

int far_decide_plan_replicate(struct far_step *step, const struct far_cmd_plan_replicate *cmd)
{
    struct far_row_plan row;
    FAR_TRY(look_name(step, cmd->name, &row));
    FAR_TRY(far_move(step, &far_table_plan, state_of(&row), REPLICATE, cmd->name, NULL));
    FAR_TRY(far_run_plan_free(step, &row));
    FAR_TRY(check_sources(step, &row));
    FAR_TRY(far_offer_warn(step, row.id));
    return far_job_replicate(step, &row, NULL);
}

/* The workload and the disk of it that are meant; 0: all. */
static int find_resync(struct far_step *step, const struct far_cmd_plan_resync *cmd, const struct far_row_plan *plan,
                       struct far_resync *ret)
{
    struct far_row_workload workload;
    if (cmd->workload.len == 0) {
        return cmd->disk.len == 0 ? 0 : far_reject(step, FAR_INVALID, "name the workload whose disk '%.*s' is meant", FAR_TEXT(cmd->disk));
    }
    FAR_TRY(far_name_need(step, &far_schema_row_workload, cmd->workload, &ret->workload_id));
    FAR_TRY(far_row_need(step, &far_schema_row_workload, ret->workload_id, &workload));
    if (workload.plan_id != plan->id) {
        return far_reject(step, FAR_INVALID, "workload '%.*s' is not in plan '%.*s'", FAR_TEXT(cmd->workload), FAR_TEXT(plan->name));
    }
    FAR_TRY(far_member_refuse_moved(step, plan, workload.id));
    if (cmd->disk.len == 0) {
        return 0;
    }
    for (uint64_t d = 0; d < workload.disk_count; d++) {
        struct far_row_disk disk;
        struct far_key key = far_key_part(&far_schema_row_disk, workload.id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &disk));
        if (far_slice_equal(disk.name, cmd->disk)) {
            ret->disk_id = disk.id;
            return 0;
        }
    }
    return far_reject(step, FAR_NOT_FOUND, "workload '%.*s' has no disk '%.*s'", FAR_TEXT(cmd->workload), FAR_TEXT(cmd->disk));
}

int far_decide_plan_resync(struct far_step *step, const struct far_cmd_plan_resync *cmd)
{
    struct far_row_plan row;
    struct far_resync resync = {.workload_id = 0};
    FAR_TRY(look_name(step, cmd->name, &row));
    FAR_TRY(far_move(step, &far_table_plan, state_of(&row), REPLICATE, cmd->name, NULL));
    FAR_TRY(far_run_plan_free(step, &row));
    FAR_TRY(find_resync(step, cmd, &row, &resync));
    FAR_TRY(check_sources(step, &row));
    FAR_TRY(far_offer_warn(step, row.id));
    return far_job_replicate(step, &row, &resync);
}

int far_plan_due(struct far_step *step, uint64_t plan_id)
{
    struct far_row_plan row;
    FAR_TRY(look(step, plan_id, &row));
    FAR_TRY(far_move_id(step, &far_table_plan, state_of(&row), DUE, plan_id, NULL));
    bool is_paused = row.state == FAR_plan_state_paused;
    if ((row.interval_s == 0 && !is_paused) || row.due_ms == 0 || row.due_ms > step->time_ms) {
        return 0; /* dropped by deadline.c */
    }
    if (row.moved_ms != 0) { /* the last workload that was not moved has left it */
        struct far_ev_plan_paused pause = {.plan_id = row.id};
        return far_emit(step, &far_schema_ev_plan_paused, &pause);
    }
    if (is_paused) {
        return far_plan_resume_now(step, &row);
    }
    struct far_ev_plan_scheduled ev;
    bool begins;
    FAR_TRY(far_schedule_judge(step, &row, &ev, &begins));
    FAR_TRY(far_emit(step, &far_schema_ev_plan_scheduled, &ev));
    return begins ? far_job_replicate(step, &row, NULL) : 0;
}

int far_evolve_plan_scheduled(struct far_step *step, const struct far_ev_plan_scheduled *ev)
{
    struct far_row_plan row;
    FAR_TRY(look(step, ev->plan_id, &row));
    FAR_TRY(far_move_id(step, &far_table_plan, state_of(&row), DUE, ev->plan_id, NULL));
    uint64_t due_before_ms = row.due_ms;
    row.due_ms = ev->due_ms;
    row.owed = ev->owed;
    return far_plan_put(step, &row, due_before_ms);
}

int far_plan_for_recover(struct far_step *step, struct far_slice name, struct far_row_plan *ret_plan)
{
    FAR_TRY(look_name(step, name, ret_plan));
    return far_move(step, &far_table_plan, state_of(ret_plan), RECOVER, name, NULL);
}

int far_plan_for_erase(struct far_step *step, struct far_slice name, struct far_row_plan *ret_plan)
{
    FAR_TRY(look_name(step, name, ret_plan));
    FAR_TRY(far_move(step, &far_table_plan, state_of(ret_plan), REPLICATE, name, NULL));
    if (ret_plan->state != FAR_plan_state_stopped) {
        return far_reject(step, FAR_CONFLICT, "plan '%.*s' is active; stop it before it is erased", FAR_TEXT(name));
    }
    return ret_plan->job_count == 0 ? 0
                                    : far_reject(step, FAR_CONFLICT, "plan '%.*s' has %llu running jobs; wait for them or cancel them",
                                                 FAR_TEXT(name), FAR_LLU(ret_plan->job_count));
}

/* ---- what jobs and checkpoints do to it, in evolve ---- */

int far_plan_job_started(struct far_step *step, uint64_t plan_id, uint64_t job_id, bool is_cycle)
{
    struct far_row_plan row;
    FAR_TRY(look(step, plan_id, &row));
    if (row.id == 0 && !is_cycle) {
        return 0; /* a job about a checkpoint whose plan was removed */
    }
    FAR_TRY(far_move_id(step, &far_table_plan, state_of(&row), is_cycle ? REPLICATE : RECOVER, plan_id, NULL));
    row.running_job_id = is_cycle ? job_id : row.running_job_id;
    row.job_count++;
    return far_plan_put(step, &row, row.due_ms);
}

int far_plan_job_finished(struct far_step *step, uint64_t plan_id, bool is_cycle)
{
    struct far_row_plan row;
    FAR_TRY(look(step, plan_id, &row));
    if (row.id == 0 && !is_cycle) {
        return 0;
    }
    FAR_TRY(far_move_id(step, &far_table_plan, state_of(&row), is_cycle ? FINISH : RECOVER, plan_id, NULL));
    if (row.job_count == 0) {
        return far_reject(step, FAR_INTERNAL, "broken: plan %llu runs no job", FAR_LLU(plan_id));
    }
    uint64_t due_before_ms = row.due_ms;
    bool catches_up = is_cycle && row.owed && row.state == FAR_plan_state_active;
    row.running_job_id = is_cycle ? 0 : row.running_job_id;
    row.job_count--;
    row.due_ms = catches_up ? step->time_ms : row.due_ms;
    row.owed = row.owed && !catches_up;
    return far_plan_put(step, &row, due_before_ms);
}

int far_plan_checkpoint(struct far_step *step, uint64_t plan_id, uint64_t checkpoint_id)
{
    struct far_row_plan row;
    FAR_TRY(far_row_need(step, &far_schema_row_plan, plan_id, &row));
    row.last_checkpoint_id = checkpoint_id;
    FAR_TRY(far_rpo_arm(step, &row));
    return far_plan_put(step, &row, row.due_ms);
}
