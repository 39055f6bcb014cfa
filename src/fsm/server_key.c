/* The keys that servers sign heads of the log with, and their history. Each server has one in use; a new one ends it. The rows
 * say from which event until which event a key was in use; of those that ended the newest few of a server stay, the log has
 * them all. */
#include "fsm/machines.h"

enum { ABSENT, KEYLESS, KEYED };
static const char *const states[] = {"absent", "without a key", "with a key"};
static const char *const inputs[] = {"server_key_set"};
static const struct far_cell cells[3][1] = {
    [ABSENT] = {FAR_REJECT(FAR_NOT_FOUND, "does not exist, or was removed")},
    [KEYLESS] = {FAR_MOVE(KEYED)},
    [KEYED] = {FAR_MOVE(KEYED)},
};
const struct far_table far_table_server_key = FAR_TABLE("key of server", states, inputs, cells);

enum { ENDED_KEPT = 8, KEY_BYTES = 32 };

/* The next key of the server behind `key`; FAR_NOT_FOUND after the last. */
static int next_of(struct far_step *step, uint64_t server_id, struct far_key *key, struct far_row_server_key *ret_row)
{
    int rc = far_next(step, &far_schema_row_server_key, key, NULL, ret_row);
    return rc == 0 && ret_row->server_id != server_id ? FAR_NOT_FOUND : rc;
}

int far_server_key_find(struct far_step *step, uint64_t server_id, struct far_row_server_key *ret_row)
{
    struct far_row_server_key row;
    struct far_key key = far_key_id(&far_schema_row_server_key, server_id);
    int rc;
    while ((rc = next_of(step, server_id, &key, &row)) == 0) {
        if (row.until_seq == 0) {
            *ret_row = row;
            return 0;
        }
    }
    return rc;
}

static int look(struct far_step *step, uint64_t server_id, unsigned *ret_state, struct far_row_server_key *ret_row)
{
    struct far_row_server server;
    *ret_row = (struct far_row_server_key){.server_id = server_id};
    *ret_state = ABSENT;
    int rc = far_row_find(step, &far_schema_row_server, server_id, &server);
    if (rc != 0 || server.role == FAR_server_role_removed) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    rc = far_server_key_find(step, server_id, ret_row);
    *ret_state = rc == 0 ? KEYED : KEYLESS;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* A key says who signed, so no two servers ever have the same. */
static int check_new(struct far_step *step, struct far_slice public_key)
{
    struct far_row_server_key row;
    struct far_key key = far_key(&far_schema_row_server_key);
    int rc;
    while ((rc = far_next(step, &far_schema_row_server_key, &key, NULL, &row)) == 0) {
        if (far_slice_equal(row.public_key, public_key)) {
            return far_reject(step, FAR_CONFLICT, "this key is or was that of server %llu; make a new one",
                              FAR_LLU(row.server_id));
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_decide_server_key_set(struct far_step *step, const struct far_cmd_server_key_set *cmd)
{
    unsigned state;
    struct far_row_server_key row;
    FAR_TRY(look(step, cmd->server_id, &state, &row));
    FAR_TRY(far_move_id(step, &far_table_server_key, state, 0, cmd->server_id, NULL));
    if (cmd->public_key.len != KEY_BYTES) {
        return far_reject(step, FAR_INVALID, "the key of server %llu must have %d bytes", FAR_LLU(cmd->server_id), KEY_BYTES);
    }
    step->object_id = cmd->server_id;
    if (state == KEYED && far_slice_equal(row.public_key, cmd->public_key)) {
        return 0;
    }
    FAR_TRY(check_new(step, cmd->public_key));
    struct far_ev_server_key_changed ev = {.server_id = cmd->server_id, .public_key = cmd->public_key};
    return far_emit(step, &far_schema_ev_server_key_changed, &ev);
}

static int prune(struct far_step *step, uint64_t server_id)
{
    struct far_row_server_key row, oldest = {.from_seq = 0};
    struct far_key key = far_key_id(&far_schema_row_server_key, server_id);
    size_t count = 0;
    int rc;
    while ((rc = next_of(step, server_id, &key, &row)) == 0) {
        oldest = count++ == 0 ? row : oldest;
    }
    if (rc != FAR_NOT_FOUND || count <= ENDED_KEPT + 1) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    key = far_key_pair(&far_schema_row_server_key, server_id, oldest.from_seq);
    return far_key_del(step, &far_schema_row_server_key, &key);
}

int far_evolve_server_key_changed(struct far_step *step, const struct far_ev_server_key_changed *ev)
{
    unsigned state;
    struct far_row_server_key row;
    uint64_t seq = step->progress.next_seq - 1; /* of this event */
    FAR_TRY(look(step, ev->server_id, &state, &row));
    FAR_TRY(far_move_id(step, &far_table_server_key, state, 0, ev->server_id, NULL));
    if (state == KEYED) {
        struct far_key old = far_key_pair(&far_schema_row_server_key, row.server_id, row.from_seq);
        row.until_seq = seq;
        row.until_ms = step->time_ms;
        FAR_TRY(far_key_put(step, &far_schema_row_server_key, &old, &row));
    }
    row = (struct far_row_server_key){
        .server_id = ev->server_id, .public_key = ev->public_key, .from_seq = seq, .from_ms = step->time_ms};
    struct far_key key = far_key_pair(&far_schema_row_server_key, row.server_id, row.from_seq);
    FAR_TRY(far_key_put(step, &far_schema_row_server_key, &key, &row));
    return prune(step, row.server_id);
}
