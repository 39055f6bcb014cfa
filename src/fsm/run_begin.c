/* Runs of plans: test recovery, failover and migration (feature level 4). A run is one job that lives until its machines are gone again, or
 * were committed. What it is about stands in rows of its own, one of the run and one of each workload (run_rows.c); what comes next is
 * found by a look at these rows (run_walk.c) whenever a task, a cycle or a time is over, or somebody says something, and at nothing else:
 * so a leader that dies, or a node, leaves nothing behind that is not looked at again.
 *
 *   test recovery  begun, preparing, starting, up, cleaning, done
 *   failover       begun, preparing (the source is fenced beside it), starting, up, committing or cleaning, unfencing, done
 *   migration      begun, syncing, shutting down, last increment, preparing, starting, up, committing or cleaning, unfencing, done
 *
 * What fails holds the run: what is up stays up, nothing new begins behind it, and a person has it tried again, opens the gate, goes on
 * without the workload, or ends the run. The end of a run cleans up; what cannot be cleaned up holds it, too, until it is abandoned. */
#include "fsm/run_lost.h"

#include "fsm/plan_edit.h"
#include "fsm/refuse.h"
#include "fsm/rpo.h"

#include <stdio.h>

enum { ABSENT, BEGUN, SYNCING, SHUTTING, LAST, PREPARING, STARTING, UP, COMMITTING, CLEANING, UNFENCING, DONE };
static const char *const states[] = {"absent",   "begun",    "syncing", "shutting down", "at the last increment", "preparing",
                                     "starting", "up",       "committing", "cleaning", "unfencing", "done"};
static const char *const inputs[] = {"run_start", "sync", "shut down", "last increment", "prepare", "start", "is up", "commit",
                                     "clean", "unfence", "end", "run_finish", "run_finish, abandon", "run_commit", "run_roll_back",
                                     "run_pass", "run_retry"};
#define GONE FAR_REJECT(FAR_NOT_FOUND, "does not exist")
#define TAKEN FAR_REJECT(FAR_INTERNAL, "exists already")
#define NO FAR_REJECT(FAR_INTERNAL, "cannot go there from where it is")
#define OVER FAR_REJECT(FAR_CONFLICT, "is over")
#define ENDS FAR_REJECT(FAR_CONFLICT, "is at its end already")
#define NOT_UP FAR_REJECT(FAR_CONFLICT, "is not up yet: there is nothing to commit")
#define GOES_ON FAR_REJECT(FAR_CONFLICT, "goes on; end it first, then what is left of it can be abandoned")
/* The columns: run_start, the ten phases behind begun, then the commands. */
#define ROW_OF(sync, shut, last, prepare, start, up, commit, clean, unfence, end, finish, abandon, by_commit, back, self)              \
    {TAKEN, sync, shut, last, prepare, start, up, commit, clean, unfence, end, finish, abandon, by_commit, back, self, self}
#define CLEANS FAR_MOVE(CLEANING)
static const struct far_cell cells[12][17] = {
    [ABSENT] = {FAR_MOVE(BEGUN), GONE, GONE, GONE, GONE, GONE, GONE, GONE, GONE, GONE, GONE, GONE, GONE, GONE, GONE, GONE, GONE},
    [BEGUN] = ROW_OF(FAR_MOVE(SYNCING), NO, NO, FAR_MOVE(PREPARING), NO, NO, NO, CLEANS, NO, NO, CLEANS, GOES_ON, NOT_UP, CLEANS,
                     FAR_MOVE(BEGUN)),
    [SYNCING] = ROW_OF(NO, FAR_MOVE(SHUTTING), NO, NO, NO, NO, NO, CLEANS, NO, NO, CLEANS, GOES_ON, NOT_UP, CLEANS, FAR_MOVE(SYNCING)),
    [SHUTTING] = ROW_OF(NO, NO, FAR_MOVE(LAST), NO, NO, NO, NO, CLEANS, NO, NO, CLEANS, GOES_ON, NOT_UP, CLEANS, FAR_MOVE(SHUTTING)),
    [LAST] = ROW_OF(NO, NO, NO, FAR_MOVE(PREPARING), NO, NO, NO, CLEANS, NO, NO, CLEANS, GOES_ON, NOT_UP, CLEANS, FAR_MOVE(LAST)),
    [PREPARING] = ROW_OF(NO, NO, NO, NO, FAR_MOVE(STARTING), NO, NO, CLEANS, NO, NO, CLEANS, GOES_ON, NOT_UP, CLEANS,
                         FAR_MOVE(PREPARING)),
    [STARTING] = ROW_OF(NO, NO, NO, NO, NO, FAR_MOVE(UP), NO, CLEANS, NO, NO, CLEANS, GOES_ON, NOT_UP, CLEANS, FAR_MOVE(STARTING)),
    [UP] = ROW_OF(NO, NO, NO, NO, NO, NO, FAR_MOVE(COMMITTING), CLEANS, NO, NO, CLEANS, GOES_ON, FAR_MOVE(COMMITTING), CLEANS,
                  FAR_MOVE(UP)),
    [COMMITTING] = ROW_OF(NO, NO, NO, NO, NO, NO, NO, NO, FAR_MOVE(UNFENCING), FAR_MOVE(DONE), ENDS, FAR_MOVE(DONE), ENDS, ENDS,
                          FAR_MOVE(COMMITTING)),
    [CLEANING] = ROW_OF(NO, NO, NO, NO, NO, NO, NO, NO, FAR_MOVE(UNFENCING), FAR_MOVE(DONE), ENDS, FAR_MOVE(DONE), ENDS, ENDS,
                        FAR_MOVE(CLEANING)),
    [UNFENCING] = ROW_OF(NO, NO, NO, NO, NO, NO, NO, NO, NO, FAR_MOVE(DONE), ENDS, FAR_MOVE(DONE), ENDS, ENDS, FAR_MOVE(UNFENCING)),
    [DONE] = ROW_OF(OVER, OVER, OVER, OVER, OVER, OVER, OVER, OVER, OVER, OVER, OVER, OVER, OVER, OVER, OVER),
};
const struct far_table far_table_run = FAR_TABLE("run", states, inputs, cells);

enum { DAY_S = 86400, WINDOW_S_MAX = 30 * DAY_S, EXPIRES_S_MAX = 30 * DAY_S, FENCE_S = 60, FENCE_S_MAX = 3600, SHUTDOWN_S = 120,
       SHUTDOWN_S_MAX = 4 * 3600 };

int far_run_find(struct far_step *step, uint64_t job_id, struct far_row_run *ret)
{
    int rc = far_row_find(step, &far_schema_row_run, job_id, ret);
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_row_run){.id = 0};
        return 0;
    }
    return rc;
}

int far_run_load(struct far_step *step, uint64_t job_id, struct far_run *ret)
{
    struct far_key key = far_key_id(&far_schema_row_run_member, job_id);
    *ret = (struct far_run){.count = 0};
    FAR_TRY(far_row_need(step, &far_schema_row_run, job_id, &ret->row));
    FAR_TRY(far_row_need(step, &far_schema_row_job, job_id, &ret->job));
    ret->members = far_step_alloc(step, (ret->row.member_count + 1) * sizeof *ret->members);
    if (ret->members == NULL) {
        return FAR_LIMIT;
    }
    while (ret->count < ret->row.member_count) {
        struct far_row_run_member *member = &ret->members[ret->count];
        int rc = far_next(step, &far_schema_row_run_member, &key, NULL, member);
        if (rc == FAR_NOT_FOUND || (rc == 0 && member->job_id != job_id)) {
            return far_reject(step, FAR_INTERNAL, "broken: run %llu has lost a workload", FAR_LLU(job_id));
        }
        FAR_TRY(rc);
        ret->count++;
    }
    return far_run_scripts_load(step, ret);
}

/* The plan goes on as before, if it came to nothing, or with those of its workloads that were not moved. */
static int resume_plan(struct far_step *step, const struct far_row_run *run)
{
    struct far_row_plan plan;
    FAR_TRY(far_row_need(step, &far_schema_row_plan, run->plan_id, &plan));
    bool is_to = run->resumes && plan.moved_ms == 0 && plan.state == FAR_plan_state_paused;
    return is_to ? far_plan_resume_now(step, &plan) : 0;
}

int far_run_enter(struct far_step *step, const struct far_row_run *run, uint64_t phase, uint64_t end, bool abandoned)
{
    struct far_ev_run_moved ev = {.job_id = run->id, .phase = phase, .end = end, .abandoned = abandoned};
    FAR_TRY(far_emit(step, &far_schema_ev_run_moved, &ev));
    FAR_TRY(phase == FAR_run_phase_cleaning && run->kind == FAR_job_kind_failover ? far_lost_none(step, run->id) : 0);
    FAR_TRY(phase == FAR_run_phase_done ? resume_plan(step, run) : 0);
    FAR_TRY(phase == FAR_run_phase_done ? far_rpo_look(step, run->plan_id) : 0); /* what was moved is not late here */
    return far_tasks_cancel(step, run->id);
}

int far_run_plan_free(struct far_step *step, const struct far_row_plan *plan)
{
    if (plan->run_job_id != 0) {
        return far_reject(step, FAR_CONFLICT, "plan '%.*s' is being failed over or migrated: commit run %llu, or roll it back",
                          FAR_TEXT(plan->name), FAR_LLU(plan->run_job_id));
    }
    return plan->moved_ms == 0 ? 0
                               : far_reject(step, FAR_CONFLICT,
                                            "the machines of plan '%.*s' were moved to its recovery site, what its source has is older: "
                                            "'farshore plan reverse %.*s' protects them there",
                                            FAR_TEXT(plan->name), FAR_TEXT(plan->name));
}

/* ---- begin ---- */

static int check_limits(struct far_step *step, const struct far_cmd_run_start *cmd)
{
    bool is_test = cmd->kind == FAR_job_kind_test_recovery;
    if (!far_job_is_run(cmd->kind)) {
        return far_reject(step, FAR_INVALID, "field 'kind': test_recovery, failover or migration");
    }
    if (cmd->checkpoint_id != 0 && cmd->kind == FAR_job_kind_migration) {
        return far_reject(step, FAR_INVALID, "field 'checkpoint_id': a migration makes a checkpoint of its own; name none");
    }
    if ((cmd->expires_s != 0 && !is_test) || (cmd->window_s != 0 && is_test) ||
        (cmd->fence_s != 0 && cmd->kind != FAR_job_kind_failover) || ((cmd->shutdown_s != 0 || cmd->force) && is_test)) {
        return far_reject(step, FAR_INVALID,
                          "expires_s is for a test_recovery, window_s, shutdown_s and force are for the others, fence_s is for a failover");
    }
    FAR_TRY(far_refuse_above(step, "", "expires_s", cmd->expires_s, EXPIRES_S_MAX));
    FAR_TRY(far_refuse_above(step, "", "window_s", cmd->window_s, WINDOW_S_MAX));
    FAR_TRY(far_refuse_above(step, "", "fence_s", cmd->fence_s, FENCE_S_MAX));
    return far_refuse_above(step, "", "shutdown_s", cmd->shutdown_s, SHUTDOWN_S_MAX);
}

/* Nothing else is under way that it would meet. */
static int check_plan(struct far_step *step, const struct far_row_plan *plan, bool is_test)
{
    struct far_row_job job;
    FAR_TRY(far_run_plan_free(step, plan));
    if (is_test && plan->test_job_id != 0) {
        return far_reject(step, FAR_CONFLICT, "plan '%.*s' is being tested already: finish run %llu first", FAR_TEXT(plan->name),
                          FAR_LLU(plan->test_job_id));
    }
    if (plan->running_job_id == 0) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_job, plan->running_job_id, &job));
    return job.kind != FAR_job_kind_erase ? 0
                                          : far_reject(step, FAR_CONFLICT, "plan '%.*s' is being erased", FAR_TEXT(plan->name));
}

/* No cycle begins any more; a failover ends the one that runs: nothing is to wait for it. */
static int stop_cycles(struct far_step *step, const struct far_row_plan *plan, uint64_t kind)
{
    struct far_ev_plan_paused pause = {.plan_id = plan->id};
    struct far_cmd_job_cancel cancel = {.job_id = plan->running_job_id};
    bool is_quiet = plan->state == FAR_plan_state_stopped || (plan->state == FAR_plan_state_paused && plan->due_ms == 0);
    FAR_TRY(is_quiet ? 0 : far_emit(step, &far_schema_ev_plan_paused, &pause));
    return kind == FAR_job_kind_failover && cancel.job_id != 0 ? far_decide_job_cancel(step, &cancel) : 0;
}

static int tell_members(struct far_step *step, const struct far_run_pick *pick, uint64_t job_id)
{
    struct far_ev_run_members ev = {
        .job_id = job_id, .checkpoint_id = pick->checkpoint_id, .items = {.items = pick->items, .count = pick->count}};
    if (pick->usable < pick->count) {
        for (size_t i = 0; i < pick->count; i++) {
            if (pick->items[i].left_out.len != 0) {
                far_warn(step, "%zu of %zu workloads are left out; the first: %.*s", pick->count - pick->usable, pick->count,
                         FAR_TEXT(pick->items[i].left_out));
                break;
            }
        }
    }
    return far_emit(step, &far_schema_ev_run_members, &ev);
}

static int begin(struct far_step *step, const struct far_cmd_run_start *cmd, const struct far_row_plan *plan, struct far_run_pick *pick)
{
    uint64_t id = step->progress.next_id, now = step->time_ms;
    bool is_test = cmd->kind == FAR_job_kind_test_recovery;
    struct far_ev_job_started job = {
        .id = id, .kind = cmd->kind, .plan_id = plan->id, .actor = step->actor, .next_workload_id = 1};
    struct far_ev_run_begun ev = {
        .job_id = id,
        .plan_id = plan->id,
        .kind = cmd->kind,
        .expires_ms = is_test ? now + (cmd->expires_s != 0 ? cmd->expires_s : (uint64_t)DAY_S) * 1000 : 0,
        .window_s = cmd->window_s,
        .fence_until_ms = cmd->kind == FAR_job_kind_failover ? now + (cmd->fence_s != 0 ? cmd->fence_s : (uint64_t)FENCE_S) * 1000 : 0,
        .shutdown_s = is_test ? 0 : cmd->shutdown_s != 0 ? cmd->shutdown_s : (uint64_t)SHUTDOWN_S,
        .force = cmd->force,
        .at_once = cmd->at_once,
        .resumes = !is_test && plan->state == FAR_plan_state_active};
    FAR_TRY(cmd->kind == FAR_job_kind_migration ? far_run_forecast(step, plan, pick, &ev.forecast_ms) : 0);
    FAR_TRY(far_emit(step, &far_schema_ev_job_started, &job));
    FAR_TRY(far_emit(step, &far_schema_ev_run_begun, &ev));
    FAR_TRY(tell_members(step, pick, id));
    FAR_TRY(cmd->kind == FAR_job_kind_failover ? far_lost_open(step, plan, pick, id) : 0);
    FAR_TRY(far_run_scripts_begin(step, plan->id, pick));
    FAR_TRY(is_test ? 0 : stop_cycles(step, plan, cmd->kind));
    FAR_TRY(far_run_next(step, id));
    step->object_id = id;
    return 0;
}

int far_decide_run_start(struct far_step *step, const struct far_cmd_run_start *cmd)
{
    struct far_row_plan plan;
    bool is_test = cmd->kind == FAR_job_kind_test_recovery;
    struct far_run_pick pick = {.job_id = step->progress.next_id, .is_test = is_test};
    FAR_TRY(far_plan_for_recover(step, cmd->plan, &plan));
    FAR_TRY(check_limits(step, cmd));
    FAR_TRY(check_plan(step, &plan, is_test));
    FAR_TRY(far_run_list(step, &plan, &cmd->workloads, &pick));
    FAR_TRY(cmd->kind != FAR_job_kind_migration ? far_run_choose(step, &plan, cmd->checkpoint_id, &pick) : 0);
    return begin(step, cmd, &plan, &pick);
}

/* ---- ends ---- */

static int may(struct far_step *step, uint64_t job_id, enum far_run_input input, struct far_row_run *ret)
{
    FAR_TRY(far_run_find(step, job_id, ret));
    FAR_TRY(far_move_id(step, &far_table_run, (size_t)ret->phase, input, job_id, NULL));
    step->object_id = job_id;
    return 0;
}

static int go_to(struct far_step *step, const struct far_row_run *run, uint64_t phase, uint64_t end, bool abandoned)
{
    FAR_TRY(far_run_enter(step, run, phase, end, abandoned));
    step->object_id = run->id;
    return 0;
}

static bool is_ending(const struct far_row_run *run)
{
    return run->phase > FAR_run_phase_up;
}

int far_decide_run_finish(struct far_step *step, const struct far_cmd_run_finish *cmd)
{
    struct far_row_run run;
    FAR_TRY(may(step, cmd->job_id, cmd->abandon ? FAR_RUN_ABANDON : FAR_RUN_FINISH, &run));
    if (cmd->abandon) {
        return go_to(step, &run, FAR_run_phase_done, 0, true);
    }
    bool is_up = run.phase == FAR_run_phase_up;
    if (is_up && run.kind != FAR_job_kind_test_recovery) {
        return far_reject(step, FAR_CONFLICT, "run %llu is up: commit it, or roll it back", FAR_LLU(run.id));
    }
    return go_to(step, &run, FAR_run_phase_cleaning, is_up ? FAR_run_end_finished : FAR_run_end_canceled, false);
}

int far_run_cancel(struct far_step *step, uint64_t job_id)
{
    struct far_row_run run;
    FAR_TRY(far_run_find(step, job_id, &run));
    uint64_t end = run.phase < FAR_run_phase_up                   ? FAR_run_end_canceled
                   : run.kind == FAR_job_kind_test_recovery ? FAR_run_end_finished
                                                                  : FAR_run_end_rolled_back;
    return run.id == 0 || is_ending(&run) ? 0 : go_to(step, &run, FAR_run_phase_cleaning, end, false);
}

static int check_is_real(struct far_step *step, const struct far_row_run *run)
{
    return run->id == 0 || run->kind != FAR_job_kind_test_recovery
               ? 0
               : far_reject(step, FAR_CONFLICT, "run %llu is a test: finish it", FAR_LLU(run->id));
}

/* Machines that may be on in two places. */
static int warn_of_two(struct far_step *step, uint64_t job_id)
{
    struct far_run *run = far_step_alloc(step, sizeof *run);
    size_t unsure = 0, absent = 0;
    char nowhere[120] = "";
    if (run == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_run_load(step, job_id, run));
    for (size_t i = 0; i < run->count; i++) {
        bool is_up = run->members[i].state == FAR_run_member_state_passed;
        unsure += is_up && run->members[i].source != FAR_run_source_off;
        absent += is_up && run->members[i].source == FAR_run_source_absent;
    }
    if (absent > 0) {
        snprintf(nowhere, sizeof nowhere, "; %zu of them were not found there under name or id, and may run elsewhere", absent);
    }
    if (unsure > 0) {
        far_warn(step, "%zu machines of the source are not known to be off: see to it that they stay off when it comes back%s", unsure,
                 nowhere);
    }
    return 0;
}

int far_decide_run_commit(struct far_step *step, const struct far_cmd_run_commit *cmd)
{
    struct far_row_run run;
    FAR_TRY(far_run_find(step, cmd->job_id, &run));
    FAR_TRY(check_is_real(step, &run));
    FAR_TRY(may(step, cmd->job_id, FAR_RUN_COMMIT, &run));
    FAR_TRY(warn_of_two(step, run.id));
    return go_to(step, &run, FAR_run_phase_committing, FAR_run_end_committed, false);
}

int far_decide_run_roll_back(struct far_step *step, const struct far_cmd_run_roll_back *cmd)
{
    struct far_row_run run;
    FAR_TRY(far_run_find(step, cmd->job_id, &run));
    FAR_TRY(check_is_real(step, &run));
    FAR_TRY(may(step, cmd->job_id, FAR_RUN_ROLL_BACK, &run));
    return go_to(step, &run, FAR_run_phase_cleaning, FAR_run_end_rolled_back, false);
}

/* ---- what a person does for what is held ---- */

static int change(struct far_step *step, uint64_t job_id, const struct far_sub_run_change *items, size_t count)
{
    struct far_ev_run_changed ev = {.job_id = job_id, .items = {.items = items, .count = count}};
    FAR_TRY(far_emit(step, &far_schema_ev_run_changed, &ev));
    FAR_TRY(far_tasks_cancel(step, job_id)); /* a gate that somebody opened is not waited for; and so on to what is next */
    step->object_id = job_id;
    return 0;
}

/* Scripts of this workload, or of the plan by its name, that run or have failed. */
static int pass_scripts(struct far_step *step, const struct far_row_run *row, struct far_slice name, bool *ret_is_done)
{
    struct far_run *run = far_step_alloc(step, sizeof *run);
    struct far_sub_run_change *items = far_step_alloc(step, (row->script_count + 1) * sizeof *items);
    struct far_row_plan plan;
    uint64_t workload_id = 0;
    size_t count = 0;
    *ret_is_done = false;
    if (row->script_count == 0) {
        return 0;
    }
    if (run == NULL || items == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_run_load(step, row->id, run));
    FAR_TRY(far_row_need(step, &far_schema_row_plan, row->plan_id, &plan));
    int rc = far_name_find(step, &far_schema_row_workload, name, &workload_id);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    count = rc == 0 ? far_run_scripts_held(run, workload_id, false, false, items) : 0;
    count = count == 0 && far_slice_equal(name, plan.name) ? far_run_scripts_held(run, 0, false, false, items) : count;
    *ret_is_done = count > 0;
    return count > 0 ? change(step, row->id, items, count) : 0;
}

int far_decide_run_pass(struct far_step *step, const struct far_cmd_run_pass *cmd)
{
    struct far_row_run run;
    struct far_row_run_member row;
    uint64_t workload_id;
    bool is_done;
    FAR_TRY(may(step, cmd->job_id, FAR_RUN_PASS, &run));
    FAR_TRY(pass_scripts(step, &run, cmd->workload, &is_done));
    if (is_done) {
        return 0;
    }
    FAR_TRY(far_name_need(step, &far_schema_row_workload, cmd->workload, &workload_id));
    struct far_key key = far_key_pair(&far_schema_row_run_member, run.id, workload_id);
    int rc = far_key_find(step, &far_schema_row_run_member, &key, &row);
    if (rc == FAR_NOT_FOUND) {
        return far_reject(step, FAR_NOT_FOUND, "workload '%.*s' is not in run %llu", FAR_TEXT(cmd->workload), FAR_LLU(run.id));
    }
    FAR_TRY(rc);
    bool is_failed = row.state == FAR_run_member_state_failed, ends = is_ending(&run);
    bool at_gate = row.state == FAR_run_member_state_gating || (is_failed && row.failed_in == FAR_run_member_state_gating);
    bool is_absent = row.source == FAR_run_source_absent;
    if (ends || (!at_gate && !is_failed && !is_absent)) {
        return far_reject(step, FAR_CONFLICT,
                          "workload '%.*s' waits at no gate, has not failed on its way up, and its machine at the source is not absent",
                          FAR_TEXT(cmd->workload));
    }
    struct far_sub_run_change item = {.workload_id = workload_id,
                                      .step = at_gate     ? FAR_run_step_pass
                                              : is_failed ? FAR_run_step_leave_out
                                                          : FAR_run_step_call_off};
    return change(step, run.id, &item, 1);
}

/* What is done again of one workload; returns how many changes that are. */
static size_t retry_one(const struct far_row_run *run, const struct far_row_run_member *m, struct far_sub_run_change *items)
{
    bool has_failed = (m->state == FAR_run_member_state_failed && m->open_tasks == 0) || m->hydration == FAR_run_hydration_failed;
    size_t count = 0;
    if (has_failed || m->source == FAR_run_source_failed) {
        items[count++] = (struct far_sub_run_change){.workload_id = m->workload_id, .step = FAR_run_step_retry};
    }
    bool is_unknown = m->source == FAR_run_source_uncertain || m->source == FAR_run_source_absent;
    if (is_unknown && !is_ending(run)) {
        items[count++] = (struct far_sub_run_change){.workload_id = m->workload_id, .step = FAR_run_step_fence};
    }
    return count;
}

/* All of it, in as many events as it takes. */
static int retry_members(struct far_step *step, const struct far_row_run *row, size_t *ret_count)
{
    struct far_run *run = far_step_alloc(step, sizeof *run);
    struct far_sub_run_change *items = far_step_alloc(step, (FAR_RUN_MEMBERS_MAX + 2) * sizeof *items);
    size_t count = 0;
    if (run == NULL || items == NULL) {
        return FAR_LIMIT;
    }
    *ret_count = 0;
    FAR_TRY(far_run_load(step, row->id, run));
    count = far_run_scripts_held(run, 0, true, true, items);
    for (size_t i = 0; i <= run->count; i++) {
        struct far_ev_run_changed ev = {.job_id = row->id, .items = {.items = items, .count = count}};
        bool is_full = count + 2 > FAR_RUN_MEMBERS_MAX;
        if (count > 0 && (is_full || i == run->count)) {
            FAR_TRY(far_emit(step, &far_schema_ev_run_changed, &ev));
            *ret_count += count;
            count = 0;
        }
        count += i < run->count ? retry_one(row, &run->members[i], items + count) : 0;
    }
    return 0;
}

int far_decide_run_retry(struct far_step *step, const struct far_cmd_run_retry *cmd)
{
    struct far_row_run row;
    struct far_row_job cycle;
    size_t count;
    FAR_TRY(may(step, cmd->job_id, FAR_RUN_RETRY, &row));
    FAR_TRY(retry_members(step, &row, &count));
    int rc = row.cycle_job_id != 0 ? far_row_find(step, &far_schema_row_job, row.cycle_job_id, &cycle) : FAR_NOT_FOUND;
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    bool in_cycle = row.phase == FAR_run_phase_syncing || row.phase == FAR_run_phase_last_increment;
    if (in_cycle && rc == 0 && cycle.state != FAR_job_state_running && cycle.state != FAR_job_state_succeeded) {
        struct far_ev_run_cycle ev = {.job_id = row.id};
        FAR_TRY(far_emit(step, &far_schema_ev_run_cycle, &ev));
    } else if (count == 0) {
        return far_reject(step, FAR_CONFLICT, "nothing of run %llu has failed", FAR_LLU(row.id));
    }
    FAR_TRY(count > 0 ? far_tasks_cancel(step, row.id) : far_run_next(step, row.id));
    step->object_id = row.id;
    return 0;
}

/* ---- what became of it ---- */

int far_run_outcome(struct far_step *step, const struct far_row_job *job, uint64_t *ret_state)
{
    struct far_run *run = far_step_alloc(step, sizeof *run);
    bool is_whole = true;
    if (run == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_run_load(step, job->id, run));
    for (size_t i = 0; i < run->count; i++) {
        const struct far_row_run_member *m = &run->members[i];
        is_whole = is_whole && m->passed_ms != 0;
    }
    uint64_t end = run->row.end;
    bool is_good = end == FAR_run_end_committed || ((end == FAR_run_end_finished || end == FAR_run_end_expired) && run->row.up_ms != 0);
    *ret_state = run->row.abandoned               ? FAR_job_state_failed
                 : is_good                        ? is_whole ? FAR_job_state_succeeded : FAR_job_state_partial
                 : end == FAR_run_end_expired ? FAR_job_state_failed
                                                  : FAR_job_state_canceled;
    return 0;
}
