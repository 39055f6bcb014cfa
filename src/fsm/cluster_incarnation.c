/* Incarnations: the lives of a cluster. The first one begins with the cluster; each other one with a forced recovery or a
 * restore, whose one server says so by the first command of the new life (DESIGN.md section 6). All other servers are
 * removed: they come back under new ids, by join tokens. Nothing is known of what they accepted alone. */
#include "fsm/machines.h"

enum { PAST, PRESENT, NEXT, LATER };
enum { KEPT_MAX = 256 };
static const char *const states[] = {"past", "present", "next", "later"};
static const char *const inputs[] = {"incarnation_begin"};
static const struct far_cell cells[4][1] = {
    [PAST] = {FAR_REJECT(FAR_CONFLICT, "is over; the cluster is in a later one")},
    [PRESENT] = {FAR_REJECT(FAR_CONFLICT, "was begun already")},
    [NEXT] = {FAR_MOVE(PRESENT)},
    [LATER] = {FAR_REJECT(FAR_CONFLICT, "is not the next one")},
};
const struct far_table far_table_incarnation = FAR_TABLE("incarnation", states, inputs, cells);

static int find_cluster(struct far_step *step, struct far_row_cluster *ret_row)
{
    struct far_key key = far_key(&far_schema_row_cluster);
    return far_key_need(step, &far_schema_row_cluster, &key, ret_row);
}

static unsigned state_of(uint64_t epoch, uint64_t present)
{
    return epoch < present ? PAST : epoch == present ? PRESENT : epoch == present + 1 ? NEXT : LATER;
}

/* ---- begin ---- */

static int check_values(struct far_step *step, const struct far_cmd_incarnation_begin *cmd)
{
    if (cmd->uuid.len != 16 || cmd->parent_head.len != 32 || cmd->sure_head.len != 32 ||
        cmd->sure_seq > cmd->parent_seq || cmd->parent_seq >= step->progress.next_seq || cmd->reason < FAR_incarnation_reason_quorum_lost ||
        cmd->reason > FAR_incarnation_reason_restored) {
        return far_reject(step, FAR_INVALID, "an incarnation needs a uuid, a reason, and the event that it goes on from");
    }
    return 0;
}

/* Who goes on: a server that is there, or a new one that says everything about itself. */
static int check_server(struct far_step *step, const struct far_cmd_incarnation_begin *cmd)
{
    struct far_row_server row;
    int rc = far_row_find(step, &far_schema_row_server, cmd->server_id, &row);
    if (rc == 0) {
        return row.role != FAR_server_role_removed && cmd->server_name.len == 0
                   ? 0
                   : far_reject(step, FAR_CONFLICT, "server %llu cannot go on: it was removed, or is not new",
                                FAR_LLU(cmd->server_id));
    }
    if (rc != FAR_NOT_FOUND) {
        return rc;
    }
    FAR_TRY(far_name_check(step, "server", cmd->server_name));
    if (cmd->server_id != step->progress.next_id || cmd->seal_key.len != 32 || cmd->fingerprint.len != 32 ||
        cmd->api_address.len == 0 || cmd->peer_address.len == 0) {
        return far_reject(step, FAR_INVALID,
                          "the server of a restored cluster needs the next id, its addresses, and a seal key and fingerprint "
                          "of 32 bytes");
    }
    return 0;
}

int far_decide_incarnation_begin(struct far_step *step, const struct far_cmd_incarnation_begin *cmd)
{
    struct far_row_cluster cluster;
    FAR_TRY(find_cluster(step, &cluster));
    FAR_TRY(far_move_id(step, &far_table_incarnation, state_of(cmd->epoch, cluster.incarnation_epoch), 0, cmd->epoch, NULL));
    step->object_id = cmd->server_id;
    FAR_TRY(check_values(step, cmd));
    FAR_TRY(check_server(step, cmd));
    struct far_ev_incarnation_begun ev = {.epoch = cmd->epoch,
                                          .uuid = cmd->uuid,
                                          .reason = cmd->reason,
                                          .parent_index = cmd->parent_index,
                                          .parent_term = cmd->parent_term,
                                          .parent_seq = cmd->parent_seq,
                                          .parent_head = cmd->parent_head,
                                          .sure_seq = cmd->sure_seq,
                                          .sure_head = cmd->sure_head,
                                          .server_id = cmd->server_id,
                                          .server_name = cmd->server_name,
                                          .api_address = cmd->api_address,
                                          .peer_address = cmd->peer_address,
                                          .seal_key = cmd->seal_key,
                                          .fingerprint = cmd->fingerprint,
                                          .approved_by = cmd->approved_by};
    return far_emit(step, &far_schema_ev_incarnation_begun, &ev);
}

static int remove_server(struct far_step *step, struct far_row_server *row)
{
    if (row->role == FAR_server_role_removed) {
        return 0;
    }
    FAR_TRY(far_name_del(step, &far_schema_row_server, row->name));
    row->role = row->wanted_role = FAR_server_role_removed;
    return far_row_put(step, &far_schema_row_server, row->id, row);
}

static int remove_others(struct far_step *step, uint64_t server_id)
{
    struct far_row_server row;
    struct far_key key = far_key(&far_schema_row_server);
    int rc;
    while ((rc = far_next(step, &far_schema_row_server, &key, NULL, &row)) == 0) {
        if (row.id != server_id) {
            FAR_TRY(remove_server(step, &row));
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int keep_server(struct far_step *step, const struct far_ev_incarnation_begun *ev)
{
    struct far_row_server row;
    int rc = far_row_find(step, &far_schema_row_server, ev->server_id, &row);
    if (rc == FAR_NOT_FOUND) {
        row = (struct far_row_server){.id = ev->server_id,
                                      .name = ev->server_name,
                                      .api_address = ev->api_address,
                                      .peer_address = ev->peer_address,
                                      .seal_key = ev->seal_key,
                                      .fingerprint = ev->fingerprint,
                                      .joined_ms = step->time_ms};
        FAR_TRY(far_name_put(step, &far_schema_row_server, row.name, row.id));
        far_id_used(step, row.id);
    } else if (rc != 0) {
        return rc;
    }
    row.role = row.wanted_role = FAR_server_role_voter;
    return far_row_put(step, &far_schema_row_server, row.id, &row);
}

/* The bound of the table. */
static int forget_oldest(struct far_step *step)
{
    struct far_row_incarnation row;
    struct far_key key = far_key(&far_schema_row_incarnation);
    uint64_t oldest = 0, count = 0;
    int rc;
    while ((rc = far_next(step, &far_schema_row_incarnation, &key, NULL, &row)) == 0) {
        oldest = count++ == 0 ? row.epoch : oldest;
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    return count > KEPT_MAX ? far_row_del(step, &far_schema_row_incarnation, oldest) : 0;
}

int far_evolve_incarnation_begun(struct far_step *step, const struct far_ev_incarnation_begun *ev)
{
    struct far_row_cluster cluster;
    FAR_TRY(find_cluster(step, &cluster));
    FAR_TRY(far_move_id(step, &far_table_incarnation, state_of(ev->epoch, cluster.incarnation_epoch), 0, ev->epoch, NULL));
    struct far_row_incarnation row = {.epoch = ev->epoch,
                                      .uuid = ev->uuid,
                                      .reason = ev->reason,
                                      .parent_index = ev->parent_index,
                                      .parent_term = ev->parent_term,
                                      .parent_seq = ev->parent_seq,
                                      .parent_head = ev->parent_head,
                                      .sure_seq = ev->sure_seq,
                                      .sure_head = ev->sure_head,
                                      .server_id = ev->server_id,
                                      .begun_ms = step->time_ms,
                                      .approved_by = ev->approved_by};
    cluster.incarnation_epoch = ev->epoch;
    struct far_key key = far_key(&far_schema_row_cluster);
    FAR_TRY(far_key_put(step, &far_schema_row_cluster, &key, &cluster));
    FAR_TRY(far_row_put(step, &far_schema_row_incarnation, ev->epoch, &row));
    FAR_TRY(forget_oldest(step));
    FAR_TRY(remove_others(step, ev->server_id));
    return keep_server(step, ev);
}

/* ---- policy ---- */

static int look_policy(struct far_step *step, struct far_key *key, struct far_row_recovery_policy *ret_row)
{
    *key = far_key(&far_schema_row_recovery_policy);
    int rc = far_key_find(step, &far_schema_row_recovery_policy, key, ret_row);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_recovery_policy){.second_approval = false};
        return 0;
    }
    return rc;
}

int far_decide_recovery_policy_set(struct far_step *step, const struct far_cmd_recovery_policy_set *cmd)
{
    struct far_row_recovery_policy row;
    struct far_key key;
    FAR_TRY(look_policy(step, &key, &row));
    if (row.second_approval == cmd->second_approval) {
        return 0;
    }
    struct far_ev_recovery_policy_changed ev = {.second_approval = cmd->second_approval};
    return far_emit(step, &far_schema_ev_recovery_policy_changed, &ev);
}

int far_evolve_recovery_policy_changed(struct far_step *step, const struct far_ev_recovery_policy_changed *ev)
{
    struct far_row_recovery_policy row;
    struct far_key key;
    FAR_TRY(look_policy(step, &key, &row));
    row.second_approval = ev->second_approval;
    return far_key_put(step, &far_schema_row_recovery_policy, &key, &row);
}
