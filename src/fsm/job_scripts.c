/* Scripts around a cycle: see script_task.h. They are the first tasks of its job, so whoever looks for them finds them; a cycle of a plan
 * without any is as it was before there were scripts.
 *
 *   before, of the plan      one after the other; then
 *   before, of a workload    one after the other; then its freeze. One that fails ends what waits for it, with its reason
 *   after, of a workload     when its seal is over, however it ended
 *   after, of the plan       when all that is over
 *
 * Scripts behind are told what became of the cycle, also if it failed or was canceled, once anything of it had begun: what was done before
 * is to be undone. A cycle that is canceled ends those before it, and tries those behind it once. */
#include "fsm/script_task.h"

#include "fsm/plan_edit.h"
#include "fsm/run.h"

/* What a look at all tasks of a cycle with scripts found. */
struct cycle {
    struct far_row_task scripts[FAR_SCRIPTS_MAX];
    size_t script_count;
    struct {
        bool is_there, is_over, is_good, has_begun;
    } parts[FAR_SCRIPTS_MAX]; /* the workload of each script */
    size_t groups, over, good;
    bool has_begun;
};

static uint64_t phase_of(const struct far_row_task *row)
{
    return far_script_of(row)->phase;
}

static bool is_after(const struct far_row_task *row)
{
    return phase_of(row) == FAR_script_phase_after_cycle;
}

/* ---- making them ---- */

/* The id of a workload that is part of the plan's cycles; 0: it is none. */
static int member_id(struct far_step *step, uint64_t plan_id, struct far_slice name, uint64_t *ret_id)
{
    struct far_row_plan_workload member;
    int rc = far_name_find(step, &far_schema_row_workload, name, ret_id);
    struct far_key key = far_key_pair(&far_schema_row_plan_workload, plan_id, *ret_id);
    rc = rc == 0 ? far_key_find(step, &far_schema_row_plan_workload, &key, &member) : rc;
    *ret_id = rc == 0 && member.moved_ms == 0 ? *ret_id : 0;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* The last increment of a migration: its machines are off, so no script finds what it is for. */
static int is_last_increment(struct far_step *step, const struct far_row_plan *plan, bool *ret)
{
    struct far_row_run run = {0};
    FAR_TRY(plan->run_job_id != 0 ? far_run_find(step, plan->run_job_id, &run) : 0);
    *ret = run.phase == FAR_run_phase_last_increment;
    return 0;
}

int far_cycle_scripts_new(struct far_step *step, const struct far_row_plan *plan, struct far_sub_task_new *ret_items, size_t *ret_count)
{
    static const struct {
        uint64_t phase;
        bool is_of_plan;
    } order[] = {{FAR_script_phase_before_cycle, true},
                 {FAR_script_phase_before_cycle, false},
                 {FAR_script_phase_after_cycle, false},
                 {FAR_script_phase_after_cycle, true}};
    struct far_row_plan_scripts row;
    FAR_TRY(far_scripts_of(step, plan->id, &row));
    const struct far_sub_plan_script *scripts = row.scripts.items;
    *ret_count = 0;
    bool is_last;
    FAR_TRY(is_last_increment(step, plan, &is_last));
    for (size_t o = 0; !is_last && o < sizeof order / sizeof order[0]; o++) {
        for (size_t i = 0; i < row.scripts.count; i++) {
            uint64_t workload_id = 0;
            bool is_of_plan = scripts[i].workload.len == 0;
            if (scripts[i].phase != order[o].phase || is_of_plan != order[o].is_of_plan || *ret_count == FAR_SCRIPTS_MAX) {
                continue;
            }
            FAR_TRY(is_of_plan ? 0 : member_id(step, plan->id, scripts[i].workload, &workload_id));
            if (is_of_plan || workload_id != 0) {
                ret_items[(*ret_count)++] = (struct far_sub_task_new){.kind = FAR_task_kind_script,
                                                                      .workload_id = workload_id,
                                                                      .script = {.items = &scripts[i], .count = 1}};
            }
        }
    }
    return 0;
}

static int load_scripts(struct far_step *step, const struct far_row_job *job, struct cycle *c)
{
    while (c->script_count < job->script_count && c->script_count < FAR_SCRIPTS_MAX) {
        struct far_key key = far_key_part(&far_schema_row_task, job->id, c->script_count + 1);
        FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &c->scripts[c->script_count]));
        c->script_count++;
    }
    return 0;
}

static int load_new(struct far_step *step, const struct far_row_job *job, struct cycle **ret)
{
    struct cycle *c = far_step_alloc(step, sizeof *c);
    if (c == NULL) {
        return FAR_LIMIT;
    }
    memset(c, 0, sizeof *c);
    *ret = c;
    return load_scripts(step, job, c);
}

int far_cycle_scripts_hold(struct far_step *step, const struct far_row_job *job, const struct far_sub_task_new *items, size_t count,
                           uint64_t workload_id, bool *ret_holds)
{
    struct cycle *c = NULL;
    *ret_holds = false;
    for (size_t i = 0; i < count; i++) { /* they are made in this step */
        const struct far_sub_plan_script *script = items[i].script.items;
        bool is_own = items[i].workload_id == 0 || items[i].workload_id == workload_id;
        *ret_holds = *ret_holds || (is_own && script->phase == FAR_script_phase_before_cycle);
    }
    if (count > 0 || job->script_count == 0) {
        return 0;
    }
    FAR_TRY(load_new(step, job, &c));
    for (size_t i = 0; i < c->script_count; i++) {
        bool is_own = c->scripts[i].workload_id == 0 || c->scripts[i].workload_id == workload_id;
        *ret_holds = *ret_holds || (is_own && !is_after(&c->scripts[i]));
    }
    return 0;
}

/* ---- the freeze behind them ---- */

int far_cycle_scripts_gate(struct far_step *step, struct far_group *g)
{
    struct cycle *c;
    const struct far_row_task *failed = NULL;
    bool is_open = true;
    FAR_TRY(load_new(step, &g->job, &c));
    for (size_t i = 0; i < c->script_count; i++) {
        const struct far_row_task *row = &c->scripts[i];
        bool is_own = row->workload_id == 0 || row->workload_id == g->workload_id;
        if (is_own && !is_after(row)) {
            failed = failed == NULL && row->state == FAR_task_state_failed ? row : failed;
            is_open = is_open && row->state == FAR_task_state_done;
        }
    }
    if (failed != NULL) {
        struct far_sub_task_change change = {
            .step = FAR_task_step_fail, .error_class = failed->error_class, .error_message = failed->error_message};
        FAR_TRY(far_group_step(step, g, FAR_AT_FREEZE, FAR_task_step_ready));
        return far_group_change(step, g, FAR_AT_FREEZE, change);
    }
    return is_open ? far_group_step(step, g, FAR_AT_FREEZE, FAR_task_step_ready) : 0;
}

/* ---- a look at the whole cycle ---- */

static void note_part(struct cycle *c, const struct far_row_task *task)
{
    bool is_seal = task->kind == FAR_task_kind_seal, begins = task->kind == FAR_task_kind_freeze && task->started_ms != 0;
    c->groups += is_seal;
    c->over += is_seal && far_task_over(task);
    c->good += is_seal && task->state == FAR_task_state_done;
    c->has_begun = c->has_begun || begins;
    for (size_t i = 0; i < c->script_count; i++) {
        if (c->scripts[i].workload_id == task->workload_id) {
            c->parts[i].is_there = true;
            c->parts[i].is_over = c->parts[i].is_over || (is_seal && far_task_over(task));
            c->parts[i].is_good = c->parts[i].is_good || (is_seal && task->state == FAR_task_state_done);
            c->parts[i].has_begun = c->parts[i].has_begun || begins;
        }
    }
}

static int load_cycle(struct far_step *step, const struct far_row_job *job, struct cycle **ret)
{
    struct far_key key = far_key_part(&far_schema_row_task, job->id, job->script_count + 1);
    struct cycle *c;
    int rc;
    FAR_TRY(load_new(step, job, &c));
    *ret = c;
    for (;;) {
        struct far_row_task task;
        rc = far_next(step, &far_schema_row_task, &key, NULL, &task);
        if (rc == FAR_NOT_FOUND || (rc == 0 && task.job_id != job->id)) {
            break;
        }
        FAR_TRY(rc);
        note_part(c, &task);
    }
    for (size_t i = 0; i < c->script_count; i++) { /* a script that began counts as a begin of what it is before */
        const struct far_row_task *row = &c->scripts[i];
        c->has_begun = c->has_begun || (!is_after(row) && row->started_ms != 0);
    }
    for (size_t i = 0; i < c->script_count; i++) {
        for (size_t k = 0; k < c->script_count; k++) {
            const struct far_row_task *row = &c->scripts[k];
            bool is_own = row->workload_id == 0 || row->workload_id == c->scripts[i].workload_id;
            c->parts[i].has_begun = c->parts[i].has_begun || (is_own && !is_after(row) && row->started_ms != 0);
        }
    }
    return 0;
}

/* Those of the same workload, or of the plan, and of the same side that come first. */
static bool are_first_over(const struct cycle *c, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        const struct far_row_task *row = &c->scripts[i];
        bool is_same = row->workload_id == c->scripts[at].workload_id && is_after(row) == is_after(&c->scripts[at]);
        if (is_same && !far_task_over(row)) {
            return false;
        }
    }
    return true;
}

enum verdict { WAIT, GO, DROP };

static enum verdict judge_before(const struct far_group *g, const struct cycle *c, size_t at)
{
    enum verdict verdict = GO;
    for (size_t i = 0; i < at; i++) {
        const struct far_row_task *row = &c->scripts[i];
        if (row->workload_id == 0 || row->workload_id == c->scripts[at].workload_id) {
            bool has_ended = row->state == FAR_task_state_failed || row->state == FAR_task_state_canceled;
            verdict = has_ended ? DROP : row->state != FAR_task_state_done && verdict == GO ? WAIT : verdict;
        }
    }
    return g->job.cancel ? DROP : verdict;
}

static enum verdict judge_after(const struct far_group *g, const struct cycle *c, size_t at)
{
    bool is_of_plan = c->scripts[at].workload_id == 0, all_made = g->job.next_workload_id == 0;
    bool is_over = is_of_plan ? all_made && c->over == c->groups : c->parts[at].is_over || (all_made && !c->parts[at].is_there);
    for (size_t i = 0; is_of_plan && i < at; i++) {
        is_over = is_over && (!is_after(&c->scripts[i]) || far_task_over(&c->scripts[i]));
    }
    if (!is_over || !are_first_over(c, at)) {
        return WAIT;
    }
    return (is_of_plan ? c->has_begun : c->parts[at].has_begun && c->parts[at].is_there) ? GO : DROP;
}

/* ---- the node ---- */

/* Has any node of the site, up or not, said that it runs scripts? */
static int has_runner(struct far_step *step, uint64_t site_id, bool *ret_has)
{
    struct far_key key = far_key(&far_schema_row_node);
    struct far_row_node row;
    int rc = 0;
    *ret_has = false;
    while (!*ret_has && (rc = far_next(step, &far_schema_row_node, &key, NULL, &row)) == 0) {
        *ret_has = row.site_id == site_id && row.runs_scripts;
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int assign(struct far_step *step, struct far_group *g)
{
    struct far_candidate *node;
    struct far_row_site site;
    bool has;
    FAR_TRY(far_candidate_scripts(step, g->plan.source_site_id, g->workload.source_node_id, &node));
    if (node != NULL) {
        return far_group_assign(step, g, 0, node);
    }
    if (g->job.cancel) { /* nobody is waited for */
        return far_group_step(step, g, 0, FAR_task_step_cancel);
    }
    FAR_TRY(has_runner(step, g->plan.source_site_id, &has));
    FAR_TRY(has ? 0 : far_row_need(step, &far_schema_row_site, g->plan.source_site_id, &site));
    return has ? 0
               : far_group_fail(step, g, 0, FAR_DENIED,
                                "no node of site '%.*s' runs scripts: its operator sets scripts_dir and scripts_user in the config of one",
                                FAR_TEXT(site.name));
}

int far_cycle_script_advance(struct far_step *step, struct far_group *g)
{
    struct far_row_task *row = &g->tasks[0];
    struct cycle *c;
    size_t at = (size_t)row->task - 1;
    if (far_task_over(row) || (far_task_held(row) && (!g->job.cancel || is_after(row)))) {
        return 0;
    }
    FAR_TRY(load_cycle(step, &g->job, &c));
    if (at >= c->script_count) {
        return far_reject(step, FAR_INTERNAL, "broken: job %llu has no script %llu", FAR_LLU(g->job.id), FAR_LLU(row->task));
    }
    enum verdict verdict = is_after(row) ? judge_after(g, c, at) : judge_before(g, c, at);
    if (verdict == DROP) {
        return far_group_step(step, g, 0, FAR_task_step_cancel);
    }
    if (verdict == GO && row->state == FAR_task_state_waiting) {
        FAR_TRY(far_group_step(step, g, 0, FAR_task_step_ready));
    }
    return far_task_assignable(row) ? assign(step, g) : 0;
}

/* ---- what became of it ---- */

int far_cycle_result(struct far_step *step, const struct far_row_job *job, uint64_t workload_id, const char **ret_result)
{
    struct cycle *c;
    size_t at = 0;
    FAR_TRY(load_cycle(step, job, &c));
    while (at < c->script_count && c->scripts[at].workload_id != workload_id) {
        at++;
    }
    bool is_whole = workload_id == 0 ? c->good == c->groups : at < c->script_count && c->parts[at].is_good;
    bool is_part = workload_id == 0 && c->good > 0;
    *ret_result = is_whole ? "succeeded" : job->cancel ? "canceled" : is_part ? "partial" : "failed";
    return 0;
}

int far_cycle_scripts_failed(struct far_step *step, const struct far_row_job *job, uint64_t *ret_count)
{
    struct cycle *c;
    *ret_count = 0;
    if (job->script_count == 0) {
        return 0;
    }
    FAR_TRY(load_new(step, job, &c));
    for (size_t i = 0; i < c->script_count; i++) {
        *ret_count += is_after(&c->scripts[i]) && c->scripts[i].state == FAR_task_state_failed;
    }
    return 0;
}
