/* The clock: time moves only by commands (DESIGN.md section 3.6). Every event carries the time of its command, which
 * apply takes as the later of the state's own and what the leader stamped, so no event ever goes back. `tick` lets due
 * deadlines act (deadline.c); `leader_started` extends what lives, so that a change of leader restarts nothing. */
#include "fsm/machines.h"

#include "fsm/task.h"

enum { EARLIER, SAME_OR_LATER };
static const char *const clock_states[] = {"running"};
static const char *const clock_inputs[] = {"an earlier time", "the same or a later time"};
static const struct far_cell clock_cells[1][2] = {
    {[EARLIER] = FAR_REJECT(FAR_INTERNAL, "cannot run backwards"), [SAME_OR_LATER] = FAR_MOVE(0)},
};
const struct far_table far_table_clock = FAR_TABLE("clock", clock_states, clock_inputs, clock_cells);

int far_clock_move(struct far_step *step, uint64_t time_ms)
{
    unsigned input = time_ms >= step->progress.time_ms ? SAME_OR_LATER : EARLIER;
    FAR_TRY(far_move(step, &far_table_clock, 0, input, far_slice_str("cluster"), NULL));
    step->progress.time_ms = time_ms;
    step->time_ms = time_ms;
    return 0;
}

enum { OLDER_TERM, SAME_OR_NEWER_TERM };
static const char *const leader_states[] = {"any"};
static const char *const leader_inputs[] = {"older term", "same or newer term"};
static const struct far_cell leader_cells[1][2] = {
    {[OLDER_TERM] = FAR_REJECT(FAR_CONFLICT, "led in an older term than the newest leader"),
     [SAME_OR_NEWER_TERM] = FAR_MOVE(0)},
};
const struct far_table far_table_leader = FAR_TABLE("server", leader_states, leader_inputs, leader_cells);

int far_decide_leader_started(struct far_step *step, const struct far_cmd_leader_started *cmd)
{
    unsigned input = cmd->term >= step->progress.leader_term ? SAME_OR_NEWER_TERM : OLDER_TERM;
    FAR_TRY(far_move_id(step, &far_table_leader, 0, input, cmd->server_id, NULL));
    struct far_ev_leader_started ev = {.server_id = cmd->server_id, .term = cmd->term};
    FAR_TRY(far_lease_until(step, &ev.lease_until_ms));
    step->object_id = cmd->server_id;
    FAR_TRY(far_emit(step, &far_schema_ev_leader_started, &ev));
    return far_jobs_wake(step);
}

int far_evolve_leader_started(struct far_step *step, const struct far_ev_leader_started *ev)
{
    step->progress.leader_id = ev->server_id;
    step->progress.leader_term = ev->term;
    if (step->progress.wanted_leader_id == ev->server_id) {
        step->progress.wanted_leader_id = step->progress.leader_wanted_ms = 0;
    }
    return far_leases_extend(step, ev->lease_until_ms);
}

/* ---- the servers' clocks ---- */

enum { RUNS, WAITS, IS_AHEAD };
enum { GOOD, SUSPECT, FORWARD, AHEAD };
static const char *const calendar_states[] = {"runs", "waits", "runs ahead"};
static const char *const calendar_inputs[] = {"good", "suspect", "forward", "ahead"};
static const struct far_cell calendar_cells[3][4] = {
    [RUNS] = {[GOOD] = FAR_MOVE(RUNS), [SUSPECT] = FAR_MOVE(WAITS), [FORWARD] = FAR_MOVE(RUNS), [AHEAD] = FAR_MOVE(IS_AHEAD)},
    [WAITS] = {[GOOD] = FAR_MOVE(RUNS), [SUSPECT] = FAR_MOVE(WAITS), [FORWARD] = FAR_MOVE(RUNS), [AHEAD] = FAR_MOVE(IS_AHEAD)},
    [IS_AHEAD] = {[GOOD] = FAR_MOVE(RUNS),
                  [SUSPECT] = FAR_MOVE(WAITS),
                  [FORWARD] = FAR_MOVE(RUNS),
                  [AHEAD] = FAR_MOVE(IS_AHEAD)},
};
const struct far_table far_table_calendar = FAR_TABLE("calendar", calendar_states, calendar_inputs, calendar_cells);

static unsigned calendar_of(uint64_t verdict)
{
    return verdict == FAR_clock_verdict_suspect ? WAITS : verdict == FAR_clock_verdict_ahead ? IS_AHEAD : RUNS;
}

bool far_clock_waits(const struct far_row_progress *progress, uint64_t deadline_kind)
{
    bool is_calendar = deadline_kind == FAR_deadline_kind_plan_due || deadline_kind == FAR_deadline_kind_token_expiry ||
                       deadline_kind == FAR_deadline_kind_throttle || deadline_kind == FAR_deadline_kind_plan_rpo ||
                       deadline_kind == FAR_deadline_kind_plan_expiry || deadline_kind == FAR_deadline_kind_vault_reclaim ||
                       deadline_kind == FAR_deadline_kind_vault_scrub;
    return is_calendar && calendar_of(progress->clock_verdict) == WAITS;
}

static int move_calendar(struct far_step *step, uint64_t verdict)
{
    if (verdict < FAR_clock_verdict_good || verdict > FAR_clock_verdict_ahead) {
        return far_reject(step, FAR_INVALID, "clocks are good, suspect, forward or ahead");
    }
    return far_move(step, &far_table_calendar, calendar_of(step->progress.clock_verdict), (size_t)verdict - 1,
                    far_slice_str("cluster"), NULL);
}

int far_decide_clock_judge(struct far_step *step, const struct far_cmd_clock_judge *cmd)
{
    FAR_TRY(move_calendar(step, cmd->verdict));
    bool needs_majority = cmd->verdict == FAR_clock_verdict_forward || cmd->verdict == FAR_clock_verdict_ahead;
    if (step->actor >> 56 != FAR_ACTOR_SYSTEM) {
        return far_reject(step, FAR_DENIED, "the leader judges the clocks");
    }
    if (needs_majority && 2 * cmd->agreeing <= cmd->voters) {
        return far_reject(step, FAR_CONFLICT, "%llu of %llu clocks agree; time is corrected by a majority",
                          FAR_LLU(cmd->agreeing), FAR_LLU(cmd->voters));
    }
    struct far_ev_clock_judged ev = {
        .verdict = cmd->verdict, .off_ms = cmd->off_ms, .agreeing = cmd->agreeing, .voters = cmd->voters};
    if (cmd->verdict == FAR_clock_verdict_forward) {
        if (cmd->to_ms <= step->time_ms) {
            return far_reject(step, FAR_CONFLICT, "time is there already");
        }
        step->time_ms = cmd->to_ms;
        FAR_TRY(far_lease_until(step, &ev.lease_until_ms));
    }
    return far_emit(step, &far_schema_ev_clock_judged, &ev);
}

/* A jump of time costs no lease: whoever held one holds it as if it had been renewed now. */
int far_evolve_clock_judged(struct far_step *step, const struct far_ev_clock_judged *ev)
{
    FAR_TRY(move_calendar(step, ev->verdict));
    bool is_good = ev->verdict == FAR_clock_verdict_good || ev->verdict == FAR_clock_verdict_forward;
    step->progress.clock_verdict = is_good ? 0 : ev->verdict;
    step->progress.clock_off_ms = is_good ? 0 : ev->off_ms;
    return ev->lease_until_ms != 0 ? far_leases_extend(step, ev->lease_until_ms) : 0;
}
