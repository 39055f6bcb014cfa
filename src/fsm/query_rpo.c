/* How a plan stands with the RPO that it promises, and why its next point is not there. See query.h, rpo.h.
 *
 * Reasons are facts in the state: no cycle runs, because the plan is stopped, has no interval, or waits for its time; or one runs, and
 * its tasks wait or are slow. A plan that promises nothing is told the same. */
#include "fsm/query.h"

#include "fsm/rpo.h"
#include "fsm/rpo_reasons.h"

enum { SCRATCH_MAX = 4 * 1024 * 1024 };

/* ---- the last cycle ---- */

/* The newest replication of the plan that is over; id 0: there is none. */
static int last_cycle(struct far_rpo_ask *ask, struct far_row_job *ret)
{
    struct far_key key = far_key_id(&far_schema_row_plan_job, ask->plan.id);
    *ret = (struct far_row_job){.id = 0};
    for (;;) {
        struct far_row_plan_job listed;
        struct far_row_job job;
        int rc = far_next(ask->step, &far_schema_row_plan_job, &key, NULL, &listed);
        if (rc == FAR_NOT_FOUND || (rc == 0 && listed.plan_id != ask->plan.id)) {
            return 0;
        }
        FAR_TRY(rc);
        FAR_TRY(far_row_need(ask->step, &far_schema_row_job, listed.job_id, &job));
        if (job.kind == FAR_job_kind_replicate && job.state != FAR_job_state_running) {
            *ret = job;
        }
    }
}

/* What the last cycle said of the workload whose point is the oldest; empty: nothing. */
static int failure_of(struct far_rpo_ask *ask, const struct far_row_job *last, struct far_slice *ret)
{
    struct far_row_checkpoint_member member;
    struct far_key key = far_key_pair(&far_schema_row_checkpoint_member, last->checkpoint_id, ask->rpo->workload_id);
    *ret = last->error_message;
    if (last->state != FAR_job_state_partial) {
        return 0;
    }
    int rc = far_key_find(ask->step, &far_schema_row_checkpoint_member, &key, &member);
    if (rc == 0) {
        *ret = member.failed ? member.error_message : far_slice(NULL, 0);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int say_last(struct far_rpo_ask *ask, const struct far_row_job *last)
{
    struct far_slice why = {0};
    char ago[FAR_RPO_SPAN_MAX];
    far_rpo_span(ask->now_ms > last->finished_ms ? ask->now_ms - last->finished_ms : 0, ago);
    if (last->state == FAR_job_state_canceled) {
        far_rpo_add(ask, "canceled", "the last cycle, job %llu, was canceled %s ago", FAR_LLU(last->id), ago);
    } else if (last->state == FAR_job_state_failed || last->state == FAR_job_state_partial) {
        FAR_TRY(failure_of(ask, last, &why));
        if (why.len > 0) {
            far_rpo_add(ask, "cycle_failed", "the last cycle, job %llu, failed %s ago: %.*s", FAR_LLU(last->id), ago, FAR_TEXT(why));
        }
    }
    return 0;
}

/* ---- no cycle runs ---- */

static void say_idle(struct far_rpo_ask *ask)
{
    const struct far_row_plan *plan = &ask->plan;
    char every[FAR_RPO_SPAN_MAX], promised[FAR_RPO_SPAN_MAX], left[FAR_RPO_SPAN_MAX];
    bool is_suspect = ask->step->progress.clock_verdict == FAR_clock_verdict_suspect;
    if (plan->moved_ms != 0) {
        far_rpo_add(ask, "moved", "all its machines were moved to its recovery site: 'farshore plan reverse %.*s' protects them there",
                    FAR_TEXT(plan->name));
        return;
    }
    if (plan->state == FAR_plan_state_paused) {
        far_rpo_span(plan->due_ms > ask->now_ms ? plan->due_ms - ask->now_ms : 0, left);
        far_rpo_add(ask, "paused", "the plan is paused%s%s: no cycles begin until then, or 'farshore plan resume %.*s'",
                    plan->due_ms != 0 ? " for " : "", plan->due_ms != 0 ? left : "", FAR_TEXT(plan->name));
        return;
    }
    if (plan->state != FAR_plan_state_active) {
        far_rpo_add(ask, "stopped", "the plan is stopped: no cycles begin until 'farshore plan start %.*s'", FAR_TEXT(plan->name));
        return;
    }
    if (plan->interval_s == 0) {
        far_rpo_add(ask, "no_interval",
                    "the plan has no interval: a cycle begins only when it is asked for ('farshore plan replicate %.*s')",
                    FAR_TEXT(plan->name));
        return;
    }
    far_rpo_span(plan->interval_s * 1000, every);
    far_rpo_span(plan->rpo_s * 1000, promised);
    if (is_suspect) {
        far_rpo_add(ask, "clock", "the servers' clocks disagree and no majority is right: cycles wait ('farshore cluster status')");
    } else {
        far_rpo_span(plan->due_ms > ask->now_ms ? plan->due_ms - ask->now_ms : 0, left);
        far_rpo_add(ask, "schedule", "no cycle runs; one begins every %s, the next in %s", every, left);
    }
    if (plan->rpo_s != 0 && plan->interval_s >= plan->rpo_s) {
        far_rpo_add(ask, "interval", "cycles begin every %s, and %s are promised: the interval has to be shorter", every, promised);
    }
}

/* ---- a cycle runs ---- */

static int say_running(struct far_rpo_ask *ask, const struct far_row_job *job)
{
    char since[FAR_RPO_SPAN_MAX];
    if (job->cancel) {
        far_rpo_add(ask, "canceling", "the cycle that runs, job %llu, is being canceled", FAR_LLU(job->id));
        return 0;
    }
    FAR_TRY(far_rpo_of_cycle(ask, job));
    if (ask->rpo->reason_count == 0) {
        far_rpo_span(ask->now_ms > job->started_ms ? ask->now_ms - job->started_ms : 0, since);
        far_rpo_add(ask, "cycle", "the cycle that runs, job %llu, began %s ago", FAR_LLU(job->id), since);
    }
    return 0;
}

/* About when the next point comes. */
static int expect(struct far_rpo_ask *ask, const struct far_row_job *running, const struct far_row_job *last)
{
    struct far_job_figures figures = {.is_whole = false};
    struct far_error cause = {0};
    uint64_t last_ms = last->finished_ms > last->started_ms ? last->finished_ms - last->started_ms : 0;
    if (running->id != 0) {
        FAR_TRY(far_query_job_figures(ask->step->state, running, &figures, &cause));
        ask->rpo->expected_ms = figures.has_left_ms ? ask->now_ms + figures.left_ms : 0;
    } else if (ask->plan.state == FAR_plan_state_active && ask->plan.due_ms != 0 && last_ms != 0) {
        ask->rpo->expected_ms = (ask->plan.due_ms > ask->now_ms ? ask->plan.due_ms : ask->now_ms) + last_ms;
    }
    return 0;
}

static int answer(struct far_rpo_ask *ask, uint64_t plan_id)
{
    struct far_rpo *rpo = ask->rpo;
    struct far_rpo_oldest oldest;
    struct far_row_job running = {.id = 0}, last;
    struct far_key key = far_key(&far_schema_row_progress);
    int rc = far_key_find(ask->step, &far_schema_row_progress, &key, &ask->step->progress);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    FAR_TRY(far_row_need(ask->step, &far_schema_row_plan, plan_id, &ask->plan));
    FAR_TRY(far_rpo_oldest(ask->step, &ask->plan, &oldest));
    *rpo = (struct far_rpo){.promised_s = ask->plan.rpo_s,
                            .newest_ms = oldest.has_point ? oldest.ms : 0,
                            .from_ms = oldest.ms,
                            .workload_id = oldest.workload_id,
                            .age_ms = oldest.ms != 0 && ask->now_ms > oldest.ms ? ask->now_ms - oldest.ms : 0,
                            .due_ms = oldest.ms != 0 && ask->plan.rpo_s != 0 ? oldest.ms + ask->plan.rpo_s * 1000 : 0};
    rpo->is_late = rpo->due_ms != 0 && rpo->due_ms <= ask->now_ms;
    FAR_TRY(last_cycle(ask, &last));
    if (ask->plan.running_job_id != 0) {
        FAR_TRY(far_row_need(ask->step, &far_schema_row_job, ask->plan.running_job_id, &running));
    }
    FAR_TRY(expect(ask, &running, &last));
    if (running.id == 0) {
        say_idle(ask);
        return last.id != 0 ? say_last(ask, &last) : 0;
    }
    /* The walk over tasks reads into a scratch of its own: names of the plan have to stay. */
    struct far_arena scratch, *own = ask->step->arena;
    far_arena_init(&scratch, SCRATCH_MAX);
    ask->step->arena = &scratch;
    rc = say_running(ask, &running);
    ask->step->arena = own;
    far_arena_done(&scratch);
    return rc;
}

int far_query_rpo(struct far_state *state, uint64_t plan_id, uint64_t now_ms, struct far_rpo *ret, struct far_error *err)
{
    struct far_error cause = {0};
    struct far_arena arena;
    struct far_step step = {.state = state, .arena = &arena, .err = &cause};
    struct far_rpo_ask ask = {.step = &step, .now_ms = now_ms, .rpo = ret};
    far_arena_init(&arena, SCRATCH_MAX);
    int rc = answer(&ask, plan_id);
    far_arena_done(&arena);
    if (rc != 0 && err != NULL) {
        *err = cause;
    }
    return rc != 0 && step.is_rejected ? far_fail(err, rc, "%s", step.reject_message) : rc;
}
