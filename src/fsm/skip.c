/* A skipped entry: what stands in the events for a log entry that no server could apply (DESIGN.md section 3.10). The state
 * does not change; that its commands did nothing is part of the history. Who wanted it, and why, is not in the entry and not known
 * everywhere alike: the server that was told reports it when it is past the entry, as a command like any other. A server that is
 * not sure whether its report was taken repeats it; each counts once. */
#include "fsm/machines.h"

enum { THIS_ENTRY, ANOTHER_ENTRY };
static const char *const states[] = {"any"};
static const char *const inputs[] = {"in the place of this entry", "in another place"};
static const struct far_cell cells[1][2] = {
    {[THIS_ENTRY] = FAR_MOVE(0), [ANOTHER_ENTRY] = FAR_REJECT(FAR_CONFLICT, "is not skipped by a command of another entry")},
};
const struct far_table far_table_skip = FAR_TABLE("entry", states, inputs, cells);

enum { KEPT_MAX = 64, SERVERS_MAX = 16 };

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

/* ---- who wanted it ---- */

/* The row of the entry; one that says nothing if there is none. */
static int look(struct far_step *step, uint64_t index, struct far_row_skipped_entry *ret_row)
{
    int rc = far_row_find(step, &far_schema_row_skipped_entry, index, ret_row);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_skipped_entry){.index = index};
        return 0;
    }
    return rc;
}

static bool has_reported(const struct far_row_skipped_entry *row, uint64_t server_id)
{
    const uint64_t *ids = row->server_ids.items;
    for (size_t i = 0; i < row->server_ids.count; i++) {
        if (ids[i] == server_id) {
            return true;
        }
    }
    return false;
}

int far_decide_entry_skip_order(struct far_step *step, const struct far_cmd_entry_skip_order *cmd)
{
    struct far_row_skipped_entry row;
    struct far_row_server server;
    if (step->actor >> 56 != FAR_ACTOR_SYSTEM) {
        return far_reject(step, FAR_DENIED, "who had an entry skipped is reported by the server that was told");
    }
    if (cmd->index == 0 || (step->index != 0 && cmd->index >= step->index)) {
        return far_reject(step, FAR_INVALID, "entry %llu is not skipped yet", FAR_LLU(cmd->index));
    }
    int rc = far_row_find(step, &far_schema_row_server, cmd->server_id, &server);
    if (rc == FAR_NOT_FOUND) {
        return far_reject(step, FAR_NOT_FOUND, "there is no server %llu", FAR_LLU(cmd->server_id));
    }
    FAR_TRY(rc);
    FAR_TRY(look(step, cmd->index, &row));
    if (has_reported(&row, cmd->server_id)) {
        return 0;
    }
    if (row.server_ids.count >= SERVERS_MAX) {
        return far_reject(step, FAR_CONFLICT, "who had entry %llu skipped was reported by %d servers already", FAR_LLU(cmd->index),
                          SERVERS_MAX);
    }
    struct far_ev_entry_skip_ordered ev = {.index = cmd->index,
                                           .entry_hash = cmd->entry_hash,
                                           .server_id = cmd->server_id,
                                           .token_id = cmd->token_id,
                                           .token_name = cmd->token_name,
                                           .reason = cmd->reason,
                                           .forced = cmd->forced,
                                           .ordered_ms = cmd->ordered_ms};
    return far_emit(step, &far_schema_ev_entry_skip_ordered, &ev);
}

/* The oldest rows go when there are too many. */
static int prune(struct far_step *step)
{
    struct far_row_skipped_entry row;
    struct far_key key = far_key(&far_schema_row_skipped_entry);
    uint64_t count = 0, oldest = 0;
    int rc;
    while ((rc = far_next(step, &far_schema_row_skipped_entry, &key, NULL, &row)) == 0) {
        oldest = count++ == 0 ? row.index : oldest;
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    return count > KEPT_MAX ? far_row_del(step, &far_schema_row_skipped_entry, oldest) : 0;
}

int far_evolve_entry_skip_ordered(struct far_step *step, const struct far_ev_entry_skip_ordered *ev)
{
    struct far_row_skipped_entry row;
    FAR_TRY(look(step, ev->index, &row));
    uint64_t *ids = far_step_alloc(step, SERVERS_MAX * sizeof *ids);
    if (ids == NULL) {
        return FAR_LIMIT;
    }
    if (row.server_ids.count >= SERVERS_MAX) {
        return far_reject(step, FAR_INTERNAL, "entry %llu: too many servers", FAR_LLU(ev->index));
    }
    size_t count = row.server_ids.count;
    for (size_t i = 0; i < count; i++) {
        ids[i] = ((const uint64_t *)row.server_ids.items)[i];
    }
    ids[count] = ev->server_id;
    row = (struct far_row_skipped_entry){.index = ev->index,
                                         .entry_hash = ev->entry_hash,
                                         .server_id = ev->server_id,
                                         .token_id = ev->token_id,
                                         .token_name = ev->token_name,
                                         .reason = ev->reason,
                                         .forced = ev->forced,
                                         .ordered_ms = ev->ordered_ms,
                                         .server_ids = {.items = ids, .count = count + 1}};
    FAR_TRY(far_row_put(step, &far_schema_row_skipped_entry, ev->index, &row));
    return prune(step);
}
