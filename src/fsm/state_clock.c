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
    return far_leases_extend(step, ev->lease_until_ms);
}
