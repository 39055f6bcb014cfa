/* A skipped entry: what stands in the events for a log entry that no server could apply (DESIGN.md section 3.10). The state
 * does not change; that its commands did nothing is part of the history. */
#include "fsm/machines.h"

enum { THIS_ENTRY, ANOTHER_ENTRY };
static const char *const states[] = {"any"};
static const char *const inputs[] = {"in the place of this entry", "in another place"};
static const struct far_cell cells[1][2] = {
    {[THIS_ENTRY] = FAR_MOVE(0), [ANOTHER_ENTRY] = FAR_REJECT(FAR_CONFLICT, "is not skipped by a command of another entry")},
};
const struct far_table far_table_skip = FAR_TABLE("entry", states, inputs, cells);

static int check(struct far_step *step, uint64_t index)
{
    return far_move_id(step, &far_table_skip, 0, index == step->index ? THIS_ENTRY : ANOTHER_ENTRY, index, NULL);
}

int far_decide_entry_skip(struct far_step *step, const struct far_cmd_entry_skip *cmd)
{
    FAR_TRY(check(step, cmd->index));
    struct far_ev_entry_skipped ev = {.index = cmd->index, .entry_hash = cmd->entry_hash, .commands = cmd->commands};
    return far_emit(step, &far_schema_ev_entry_skipped, &ev);
}

int far_evolve_entry_skipped(struct far_step *step, const struct far_ev_entry_skipped *ev)
{
    return check(step, ev->index);
}
