/* Servers: members of the cluster, as the log knows them. A join token makes a standby that is wanted as a voter; the
 * leader's driver carries a wanted role out with raft and reports what raft committed. An id is never used again: what
 * was removed, or lost its memory, comes back by a new token under a new id. */
#include "fsm/layout.h"
#include "fsm/machines.h"

enum { ABSENT, STANDBY, VOTER, REMOVED };
enum { JOIN, WANT_STANDBY, WANT_VOTER, WANT_REMOVED, IS_STANDBY, IS_VOTER, IS_REMOVED, SITE_SET, LEAD };
static const char *const states[] = {"absent", "standby", "voter", "removed"};
static const char *const inputs[] = {"server_join",         "server_role_set standby",     "server_role_set voter",
                                     "server_role_set removed", "server_role_changed standby", "server_role_changed voter",
                                     "server_role_changed removed", "server_site_set", "leader_transfer"};
#define GONE FAR_REJECT(FAR_NOT_FOUND, "does not exist")
#define OVER FAR_REJECT(FAR_CONFLICT, "was removed, and its id is never used again; join it anew with a token")
#define TAKEN FAR_REJECT(FAR_CONFLICT, "exists already; choose another name, or remove the old server first")
static const struct far_cell cells[4][9] = {
    [ABSENT] = {[JOIN] = FAR_MOVE(STANDBY),
                [WANT_STANDBY] = GONE,
                [WANT_VOTER] = GONE,
                [WANT_REMOVED] = GONE,
                [IS_STANDBY] = GONE,
                [IS_VOTER] = GONE,
                [IS_REMOVED] = GONE,
                [SITE_SET] = GONE,
                [LEAD] = GONE},
    [STANDBY] = {[JOIN] = TAKEN,
                 [WANT_STANDBY] = FAR_MOVE(STANDBY),
                 [WANT_VOTER] = FAR_MOVE(STANDBY),
                 [WANT_REMOVED] = FAR_MOVE(STANDBY),
                 [IS_STANDBY] = FAR_MOVE(STANDBY),
                 [IS_VOTER] = FAR_MOVE(VOTER),
                 [IS_REMOVED] = FAR_MOVE(REMOVED),
                 [SITE_SET] = FAR_MOVE(STANDBY),
                 [LEAD] = FAR_REJECT(FAR_CONFLICT, "does not vote, so it cannot lead; promote it first")},
    [VOTER] = {[JOIN] = TAKEN,
               [WANT_STANDBY] = FAR_REJECT(FAR_CONFLICT, "votes, and a voter is not made a standby; remove it instead"),
               [WANT_VOTER] = FAR_MOVE(VOTER),
               [WANT_REMOVED] = FAR_MOVE(VOTER),
               [IS_STANDBY] = FAR_MOVE(STANDBY),
               [IS_VOTER] = FAR_MOVE(VOTER),
               [IS_REMOVED] = FAR_MOVE(REMOVED),
               [SITE_SET] = FAR_MOVE(VOTER),
               [LEAD] = FAR_MOVE(VOTER)},
    [REMOVED] = {[JOIN] = OVER,
                 [WANT_STANDBY] = OVER,
                 [WANT_VOTER] = OVER,
                 [WANT_REMOVED] = OVER,
                 [IS_STANDBY] = OVER,
                 [IS_VOTER] = OVER,
                 [IS_REMOVED] = FAR_MOVE(REMOVED),
                 [SITE_SET] = OVER,
                 [LEAD] = OVER},
};
const struct far_table far_table_server = FAR_TABLE("server", states, inputs, cells);

/* The row with this id; all zero if there is none. */
static int look(struct far_step *step, uint64_t id, struct far_row_server *ret_row)
{
    int rc = far_row_find(step, &far_schema_row_server, id, ret_row);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_server){.id = 0};
        return 0;
    }
    return rc;
}

static int look_name(struct far_step *step, struct far_slice name, struct far_row_server *ret_row)
{
    uint64_t id = 0;
    int rc = far_name_find(step, &far_schema_row_server, name, &id);
    return rc != 0 && rc != FAR_NOT_FOUND ? rc : look(step, id, ret_row);
}

/* Roles are numbered like the states. */
static unsigned state_of(const struct far_row_server *row)
{
    return row->role <= REMOVED ? (unsigned)row->role : ABSENT;
}

static int check_role(struct far_step *step, uint64_t role)
{
    return role >= FAR_server_role_standby && role <= FAR_server_role_removed
               ? 0
               : far_reject(step, FAR_INVALID, "a server's role is standby, voter or removed");
}

/* The servers will stand so that something that may happen loses the quorum: accepted, and said. */
static int warn_of_layout(struct far_step *step)
{
    struct far_layout layout;
    char text[FAR_MESSAGE_MAX];
    FAR_TRY(far_layout_of(step->state, true, NULL, 0, step->arena, &layout, step->err));
    far_layout_warning(&layout, text, sizeof text);
    if (text[0] != '\0') {
        far_warn(step, "%s", text);
    }
    return 0;
}

/* ---- join ---- */

int far_decide_server_join(struct far_step *step, const struct far_cmd_server_join *cmd)
{
    struct far_row_token token;
    struct far_row_server old;
    FAR_TRY(far_name_check(step, "server", cmd->name));
    FAR_TRY(far_token_for_join(step, cmd->token_hash, FAR_token_purpose_join_server, cmd->name, &token));
    FAR_TRY(look_name(step, cmd->name, &old));
    FAR_TRY(far_move(step, &far_table_server, state_of(&old), JOIN, cmd->name, NULL));
    if (cmd->seal_key.len != 32 || cmd->fingerprint.len != 32 || cmd->peer_address.len == 0) {
        return far_reject(step, FAR_INVALID, "server '%.*s' needs an address, and a seal key and fingerprint of 32 bytes",
                          FAR_TEXT(cmd->name));
    }
    struct far_ev_server_joined ev = {.id = step->progress.next_id,
                                      .name = cmd->name,
                                      .site_id = token.site_id,
                                      .api_address = cmd->api_address,
                                      .peer_address = cmd->peer_address,
                                      .seal_key = cmd->seal_key,
                                      .fingerprint = cmd->fingerprint,
                                      .token_hash = cmd->token_hash};
    step->object_id = ev.id;
    FAR_TRY(far_emit(step, &far_schema_ev_server_joined, &ev));
    return warn_of_layout(step);
}

int far_evolve_server_joined(struct far_step *step, const struct far_ev_server_joined *ev)
{
    struct far_row_server row;
    FAR_TRY(look(step, ev->id, &row));
    FAR_TRY(far_move(step, &far_table_server, state_of(&row), JOIN, ev->name, NULL));
    row = (struct far_row_server){.id = ev->id,
                                  .name = ev->name,
                                  .role = FAR_server_role_standby,
                                  .wanted_role = FAR_server_role_voter,
                                  .site_id = ev->site_id,
                                  .api_address = ev->api_address,
                                  .peer_address = ev->peer_address,
                                  .seal_key = ev->seal_key,
                                  .fingerprint = ev->fingerprint,
                                  .joined_ms = step->time_ms};
    FAR_TRY(far_token_use(step, ev->token_hash));
    FAR_TRY(far_row_put(step, &far_schema_row_server, row.id, &row));
    FAR_TRY(far_name_put(step, &far_schema_row_server, row.name, row.id));
    far_id_used(step, row.id);
    return 0;
}

/* ---- roles ---- */

static int check_last_voter(struct far_step *step, const struct far_row_server *leaving)
{
    struct far_row_server row;
    struct far_key key = far_key(&far_schema_row_server);
    int rc;
    while ((rc = far_next(step, &far_schema_row_server, &key, NULL, &row)) == 0) {
        if (row.id != leaving->id && row.role == FAR_server_role_voter &&
            row.wanted_role == FAR_server_role_voter) {
            return 0;
        }
    }
    return rc != FAR_NOT_FOUND ? rc
                               : far_reject(step, FAR_CONFLICT,
                                            "server '%.*s' is the last voter; add another before removing it",
                                            FAR_TEXT(leaving->name));
}

int far_decide_server_role_set(struct far_step *step, const struct far_cmd_server_role_set *cmd)
{
    struct far_row_server row;
    FAR_TRY(check_role(step, cmd->role));
    FAR_TRY(look_name(step, cmd->name, &row));
    FAR_TRY(far_move(step, &far_table_server, state_of(&row), WANT_STANDBY + (unsigned)cmd->role - 1, cmd->name, NULL));
    if (cmd->role == FAR_server_role_removed && row.role == FAR_server_role_voter) {
        FAR_TRY(check_last_voter(step, &row));
    }
    step->object_id = row.id;
    if (row.wanted_role == cmd->role) {
        return 0;
    }
    struct far_ev_server_role_wanted ev = {.server_id = row.id, .role = cmd->role};
    FAR_TRY(far_emit(step, &far_schema_ev_server_role_wanted, &ev));
    return warn_of_layout(step);
}

int far_evolve_server_role_wanted(struct far_step *step, const struct far_ev_server_role_wanted *ev)
{
    struct far_row_server row;
    FAR_TRY(check_role(step, ev->role));
    FAR_TRY(look(step, ev->server_id, &row));
    FAR_TRY(far_move_id(step, &far_table_server, state_of(&row), WANT_STANDBY + (unsigned)ev->role - 1, ev->server_id,
                        NULL));
    row.wanted_role = ev->role;
    return far_row_put(step, &far_schema_row_server, row.id, &row);
}

int far_decide_server_role_changed(struct far_step *step, const struct far_cmd_server_role_changed *cmd)
{
    struct far_row_server row;
    FAR_TRY(check_role(step, cmd->role));
    FAR_TRY(look(step, cmd->server_id, &row));
    FAR_TRY(far_move_id(step, &far_table_server, state_of(&row), IS_STANDBY + (unsigned)cmd->role - 1, cmd->server_id,
                        NULL));
    step->object_id = row.id;
    if (row.role == cmd->role) {
        return 0;
    }
    struct far_ev_server_role_changed ev = {.server_id = row.id, .role = cmd->role};
    return far_emit(step, &far_schema_ev_server_role_changed, &ev);
}

int far_evolve_server_role_changed(struct far_step *step, const struct far_ev_server_role_changed *ev)
{
    struct far_row_server row;
    FAR_TRY(check_role(step, ev->role));
    FAR_TRY(look(step, ev->server_id, &row));
    FAR_TRY(far_move_id(step, &far_table_server, state_of(&row), IS_STANDBY + (unsigned)ev->role - 1, ev->server_id,
                        NULL));
    if (ev->role == FAR_server_role_removed && row.role != FAR_server_role_removed) {
        FAR_TRY(far_name_del(step, &far_schema_row_server, row.name));
        row.wanted_role = FAR_server_role_removed;
    }
    row.role = ev->role;
    return far_row_put(step, &far_schema_row_server, row.id, &row);
}

/* ---- site ---- */

int far_decide_server_site_set(struct far_step *step, const struct far_cmd_server_site_set *cmd)
{
    struct far_row_server row;
    uint64_t site_id;
    FAR_TRY(look_name(step, cmd->name, &row));
    FAR_TRY(far_move(step, &far_table_server, state_of(&row), SITE_SET, cmd->name, NULL));
    FAR_TRY(far_name_need(step, &far_schema_row_site, cmd->site, &site_id));
    step->object_id = row.id;
    if (row.site_id == site_id) {
        return 0;
    }
    struct far_ev_server_site_changed ev = {.server_id = row.id, .site_id = site_id};
    FAR_TRY(far_emit(step, &far_schema_ev_server_site_changed, &ev));
    return warn_of_layout(step);
}

int far_evolve_server_site_changed(struct far_step *step, const struct far_ev_server_site_changed *ev)
{
    struct far_row_server row;
    FAR_TRY(look(step, ev->server_id, &row));
    FAR_TRY(far_move_id(step, &far_table_server, state_of(&row), SITE_SET, ev->server_id, NULL));
    row.site_id = ev->site_id;
    return far_row_put(step, &far_schema_row_server, row.id, &row);
}

/* ---- who leads ---- */

int far_server_is_witness(struct far_step *step, const struct far_row_server *row, bool *ret_is_witness)
{
    struct far_row_site site = {.id = 0};
    int rc = row->site_id == 0 ? FAR_NOT_FOUND : far_row_find(step, &far_schema_row_site, row->site_id, &site);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    *ret_is_witness = site.role == FAR_site_role_witness;
    return 0;
}

int far_decide_leader_transfer(struct far_step *step, const struct far_cmd_leader_transfer *cmd)
{
    struct far_row_server row;
    bool is_witness = false;
    FAR_TRY(look_name(step, cmd->to, &row));
    FAR_TRY(far_move(step, &far_table_server, state_of(&row), LEAD, cmd->to, NULL));
    FAR_TRY(far_server_is_witness(step, &row, &is_witness));
    if (is_witness) {
        return far_reject(step, FAR_CONFLICT, "server '%.*s' is a witness: it votes and serves no users, so it is not to lead",
                          FAR_TEXT(cmd->to));
    }
    if (row.wanted_role == FAR_server_role_removed) {
        return far_reject(step, FAR_CONFLICT, "server '%.*s' is about to be removed", FAR_TEXT(cmd->to));
    }
    step->object_id = row.id;
    struct far_ev_leader_wanted ev = {.server_id = row.id};
    return step->progress.leader_id == row.id ? 0 : far_emit(step, &far_schema_ev_leader_wanted, &ev);
}

int far_evolve_leader_wanted(struct far_step *step, const struct far_ev_leader_wanted *ev)
{
    struct far_row_server row;
    FAR_TRY(look(step, ev->server_id, &row));
    FAR_TRY(far_move_id(step, &far_table_server, state_of(&row), LEAD, ev->server_id, NULL));
    step->progress.wanted_leader_id = ev->server_id;
    step->progress.leader_wanted_ms = step->time_ms;
    return 0;
}
