/* How long events are kept, and the cuts that follow from it. The leader finds what is too old or too much and proposes the
 * cut with the servers that hold everything since the last one; decided here, so all servers let go of the same events. Nothing
 * is cut that is not old enough or too much by the policy of that moment, or that fewer than two servers hold (the one, where
 * there is only one). Where events are lost that nobody holds any more, no such cut ever comes: then an operator gives them up.
 *
 * Before that, progress is compacted: what nodes reported on their way, longer ago than progress_days, was superseded by later
 * reports, results and lost leases. Of those events the payload goes, header and hash stay (log/compact.h); up to where is decided
 * here as well. */
#include "fsm/machines.h"

enum { FURTHER, NOT_FURTHER };
static const char *const states[] = {"any"};
static const char *const inputs[] = {"cut further on", "cut where it is or before"};
static const struct far_cell cells[1][2] = {
    {[FURTHER] = FAR_MOVE(0), [NOT_FURTHER] = FAR_REJECT(FAR_CONFLICT, "are gone already")},
};
const struct far_table far_table_retention = FAR_TABLE("events", states, inputs, cells);

static const char *const compactions[] = {"compact further on", "compact up to where it is or before"};
static const struct far_cell compaction_cells[1][2] = {
    {[FURTHER] = FAR_MOVE(0), [NOT_FURTHER] = FAR_REJECT(FAR_CONFLICT, "is compacted already")},
};
const struct far_table far_table_compaction = FAR_TABLE("progress", states, compactions, compaction_cells);

#define DAY_MS 86400000ull
#define DAYS_MAX 36500u
#define BYTES_MIN (64ull << 20)

static int look(struct far_step *step, struct far_key *key, struct far_row_retention *ret_row)
{
    *key = far_key(&far_schema_row_retention);
    int rc = far_key_find(step, &far_schema_row_retention, key, ret_row);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_retention){.first_seq = 1};
        return 0;
    }
    return rc;
}

int far_decide_retention_set(struct far_step *step, const struct far_cmd_retention_set *cmd)
{
    struct far_row_retention row;
    struct far_key key;
    FAR_TRY(far_cluster_need(step));
    if (cmd->days > DAYS_MAX) {
        return far_reject(step, FAR_INVALID, "events can be kept at most %u days", DAYS_MAX);
    }
    if (cmd->progress_days > DAYS_MAX) {
        return far_reject(step, FAR_INVALID, "progress can be kept at most %u days", DAYS_MAX);
    }
    if (cmd->bytes != 0 && cmd->bytes < BYTES_MIN) {
        return far_reject(step, FAR_INVALID, "room for events must be at least %llu bytes", BYTES_MIN);
    }
    FAR_TRY(look(step, &key, &row));
    struct far_ev_retention_changed ev = {.days = cmd->days, .bytes = cmd->bytes, .progress_days = cmd->progress_days};
    bool is_so = row.days == cmd->days && row.bytes == cmd->bytes && row.progress_days == cmd->progress_days;
    return is_so ? 0 : far_emit(step, &far_schema_ev_retention_changed, &ev);
}

int far_evolve_retention_changed(struct far_step *step, const struct far_ev_retention_changed *ev)
{
    struct far_row_retention row;
    struct far_key key;
    FAR_TRY(look(step, &key, &row));
    row.days = ev->days;
    row.bytes = ev->bytes;
    row.progress_days = ev->progress_days;
    return far_key_put(step, &far_schema_row_retention, &key, &row);
}

static int count_servers(struct far_step *step, uint64_t *ret_count)
{
    struct far_row_server row;
    struct far_key key = far_key(&far_schema_row_server);
    int rc;
    *ret_count = 0;
    while ((rc = far_next(step, &far_schema_row_server, &key, NULL, &row)) == 0) {
        *ret_count += row.role != FAR_server_role_removed;
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* Different servers of the cluster among those that are said to hold the events. */
static int count_holders(struct far_step *step, const struct far_list *held_by, uint64_t *ret_count)
{
    const uint64_t *ids = held_by->items;
    *ret_count = 0;
    for (size_t i = 0; i < held_by->count; i++) {
        struct far_row_server row;
        bool again = false;
        for (size_t k = 0; k < i; k++) {
            again = again || ids[k] == ids[i];
        }
        int rc = far_row_find(step, &far_schema_row_server, ids[i], &row);
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
        *ret_count += rc == 0 && !again && row.role != FAR_server_role_removed;
    }
    return 0;
}

/* A leader that says why it cuts is held to it: the policy may have become another one since it looked. One of a lower feature
 * level does not say. */
static int check_reason(struct far_step *step, const struct far_row_retention *row, const struct far_cmd_events_cut *cmd)
{
    uint64_t days = row->days == 0 ? FAR_RETAIN_DAYS : row->days;
    uint64_t bytes = row->bytes == 0 ? FAR_RETAIN_BYTES : row->bytes;
    if (cmd->time_ms != 0 && (cmd->time_ms > step->time_ms || step->time_ms - cmd->time_ms < days * DAY_MS)) {
        return far_reject(step, FAR_CONFLICT, "the events before %llu stay: they are younger than %llu days", FAR_LLU(cmd->seq),
                          FAR_LLU(days));
    }
    if (cmd->bytes != 0 && cmd->bytes != bytes) {
        return far_reject(step, FAR_CONFLICT, "the events before %llu stay: they have room in %llu bytes now", FAR_LLU(cmd->seq),
                          FAR_LLU(bytes));
    }
    return 0;
}

int far_decide_events_cut(struct far_step *step, const struct far_cmd_events_cut *cmd)
{
    struct far_row_retention row;
    struct far_key key;
    uint64_t servers, holders;
    if (step->actor >> 56 != FAR_ACTOR_SYSTEM) {
        return far_reject(step, FAR_DENIED, "events are cut by the leader, as the retention says");
    }
    FAR_TRY(look(step, &key, &row));
    if (cmd->seq > step->progress.next_seq) {
        return far_reject(step, FAR_INVALID, "events before %llu cannot be cut: the newest is %llu", FAR_LLU(cmd->seq),
                          FAR_LLU(step->progress.next_seq - 1));
    }
    FAR_TRY(far_move_id(step, &far_table_retention, 0, cmd->seq > row.first_seq ? FURTHER : NOT_FURTHER, cmd->seq, NULL));
    FAR_TRY(check_reason(step, &row, cmd));
    FAR_TRY(count_servers(step, &servers));
    FAR_TRY(count_holders(step, &cmd->held_by, &holders));
    if (holders < (servers < 2 ? 1 : 2)) {
        return far_reject(step, FAR_CONFLICT, "the events before %llu stay: only %llu server holds them", FAR_LLU(cmd->seq),
                          FAR_LLU(holders));
    }
    struct far_ev_events_cut ev = {.seq = cmd->seq};
    return far_emit(step, &far_schema_ev_events_cut, &ev);
}

/* The history begins here from now on, and further on than before. */
static int begin_at(struct far_step *step, uint64_t seq)
{
    struct far_row_retention row;
    struct far_key key;
    FAR_TRY(look(step, &key, &row));
    FAR_TRY(far_move_id(step, &far_table_retention, 0, seq > row.first_seq ? FURTHER : NOT_FURTHER, seq, NULL));
    row.first_seq = seq;
    return far_key_put(step, &far_schema_row_retention, &key, &row);
}

int far_evolve_events_cut(struct far_step *step, const struct far_ev_events_cut *ev)
{
    return begin_at(step, ev->seq);
}

/* ---- what nobody holds ---- */

/* Who holds what is no part of the state: the server that takes the command looks (src/api/history_gap.c). */
int far_decide_history_forget(struct far_step *step, const struct far_cmd_history_forget *cmd)
{
    struct far_row_retention row;
    struct far_key key;
    if (step->actor >> 56 != FAR_ACTOR_TOKEN) {
        return far_reject(step, FAR_DENIED, "events are given up by an operator");
    }
    FAR_TRY(look(step, &key, &row));
    if (cmd->before == 0) {
        return far_reject(step, FAR_INVALID, "events are numbered from 1: there is none before event 0");
    }
    if (cmd->before > step->progress.next_seq) {
        return far_reject(step, FAR_INVALID, "events before %llu cannot be given up: the newest is %llu", FAR_LLU(cmd->before),
                          FAR_LLU(step->progress.next_seq - 1));
    }
    uint64_t first_seq = row.first_seq == 0 ? 1 : row.first_seq;
    FAR_TRY(far_move_id(step, &far_table_retention, 0, cmd->before > first_seq ? FURTHER : NOT_FURTHER, cmd->before, NULL));
    struct far_ev_history_forgotten ev = {.seq = cmd->before, .first_seq = first_seq, .forced = cmd->forced};
    return far_emit(step, &far_schema_ev_history_forgotten, &ev);
}

int far_evolve_history_forgotten(struct far_step *step, const struct far_ev_history_forgotten *ev)
{
    return begin_at(step, ev->seq);
}

/* ---- progress ---- */

int far_decide_progress_compact(struct far_step *step, const struct far_cmd_progress_compact *cmd)
{
    struct far_row_retention row;
    struct far_key key;
    if (step->actor >> 56 != FAR_ACTOR_SYSTEM) {
        return far_reject(step, FAR_DENIED, "progress is compacted by the leader, as the retention says");
    }
    FAR_TRY(look(step, &key, &row));
    if (cmd->seq >= step->progress.next_seq) {
        return far_reject(step, FAR_INVALID, "progress up to event %llu cannot be compacted: the newest is %llu",
                          FAR_LLU(cmd->seq), FAR_LLU(step->progress.next_seq - 1));
    }
    uint64_t days = row.progress_days == 0 ? FAR_PROGRESS_DAYS : row.progress_days;
    if (cmd->time_ms > step->time_ms || step->time_ms - cmd->time_ms < days * DAY_MS) {
        return far_reject(step, FAR_CONFLICT, "progress up to event %llu stays: it is younger than %llu days", FAR_LLU(cmd->seq),
                          FAR_LLU(days));
    }
    FAR_TRY(far_move_id(step, &far_table_compaction, 0, cmd->seq > row.compacted_seq ? FURTHER : NOT_FURTHER, cmd->seq, NULL));
    struct far_ev_progress_compacted ev = {.seq = cmd->seq, .time_ms = cmd->time_ms};
    return far_emit(step, &far_schema_ev_progress_compacted, &ev);
}

int far_evolve_progress_compacted(struct far_step *step, const struct far_ev_progress_compacted *ev)
{
    struct far_row_retention row;
    struct far_key key;
    FAR_TRY(look(step, &key, &row));
    FAR_TRY(far_move_id(step, &far_table_compaction, 0, ev->seq > row.compacted_seq ? FURTHER : NOT_FURTHER, ev->seq, NULL));
    row.compacted_seq = ev->seq;
    return far_key_put(step, &far_schema_row_retention, &key, &row);
}
