/* By which keys the vault of a node is believed (dataplane/vault_trust.h): what it says is kept here, so that whoever attaches the
 * vault from its object store holds what is there against it.
 *
 * What a node says first is believed. Later it has the same keys, or one more, its own, because its vault was taken over from the store
 * with the keys that are known. Anything else nothing speaks for: it is kept beside, an alert is raised, and an operator says whether it
 * is right. */
#include "fsm/alert.h"
#include "fsm/vault_row.h"

#include <stdio.h>

/* All zero if there is none. */
static int look(struct far_step *step, uint64_t node_id, struct far_row_vault_keys *ret)
{
    int rc = far_row_find(step, &far_schema_row_vault_keys, node_id, ret);
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_row_vault_keys){.node_id = 0};
        return 0;
    }
    return rc;
}

static int raise(struct far_step *step, const struct far_row_node *node, struct far_slice said, struct far_slice known)
{
    const struct far_alert_cause cause = {.kind = FAR_alert_kind_vault_keys, .object_id = node->id};
    char said_text[65] = "", known_text[65] = "";
    far_hex_encode(said.data, said.len, said_text);
    far_hex_encode(known.data, known.len, known_text);
    return far_alert_raise(step, &cause,
                           "the vault of node '%.*s' has keys that the cluster does not know: %s instead of %s; if it was taken over "
                           "from its store on purpose, 'farshore vault trust %.*s' says so; else somebody may have forged it",
                           FAR_TEXT(node->name), said_text, known_text, FAR_TEXT(node->name));
}

static int check_lengths(struct far_step *step, const struct far_sub_vault_keys *said)
{
    bool fits = said->vault_uuid.len == 16 && said->public_key.len == 32 && said->fingerprint.len == 32 &&
                (said->fingerprint_before.len == 0 || said->fingerprint_before.len == 32);
    return fits ? 0 : far_reject(step, FAR_INVALID, "the keys of a vault are of a wrong length");
}

/* Only the node itself speaks for its vault (or the leader, in tests and repairs), and only of the boot that runs. */
static int check_speaker(struct far_step *step, const struct far_cmd_vault_keys_tell *cmd, const struct far_row_node *node)
{
    uint64_t kind = step->actor >> 56;
    if (kind == FAR_ACTOR_TOKEN || (kind == FAR_ACTOR_NODE && step->actor != far_actor(FAR_ACTOR_NODE, cmd->node_id))) {
        return far_reject(step, FAR_DENIED, "only node %llu itself may speak for it", FAR_LLU(cmd->node_id));
    }
    return cmd->boot == node->boot ? 0
                                   : far_reject(step, FAR_DENIED, "node '%.*s' is in boot %llu; what boot %llu says comes too late",
                                                FAR_TEXT(node->name), FAR_LLU(node->boot), FAR_LLU(cmd->boot));
}

int far_decide_vault_keys_tell(struct far_step *step, const struct far_cmd_vault_keys_tell *cmd)
{
    const struct far_sub_vault_keys *said = cmd->keys.items;
    struct far_row_node node;
    struct far_row_vault_keys row;
    FAR_TRY(far_row_need(step, &far_schema_row_node, cmd->node_id, &node));
    FAR_TRY(check_speaker(step, cmd, &node));
    step->object_id = node.id;
    if (cmd->keys.count == 0) {
        return 0;
    }
    FAR_TRY(check_lengths(step, said));
    FAR_TRY(look(step, node.id, &row));
    bool is_doubted = row.claimed_fingerprint.len != 0;
    bool is_same = far_slice_equal(row.fingerprint, said->fingerprint);
    if ((is_same && !is_doubted) || (is_doubted && far_slice_equal(row.claimed_fingerprint, said->fingerprint))) {
        return 0;
    }
    bool is_other_vault = !far_slice_equal(row.vault_uuid, said->vault_uuid);
    bool is_next = !is_other_vault && far_slice_equal(row.fingerprint, said->fingerprint_before);
    bool holds_nothing = is_other_vault && node.point_count == 0; /* a new folder: nobody looks for anything in the old one */
    struct far_ev_vault_keys_seen ev = {.node_id = node.id,
                                        .vault_uuid = said->vault_uuid,
                                        .public_key = said->public_key,
                                        .fingerprint = said->fingerprint,
                                        .proven = row.node_id == 0 || is_same || is_next || holds_nothing};
    FAR_TRY(far_emit(step, &far_schema_ev_vault_keys_seen, &ev));
    return ev.proven ? far_alert_clear(step, FAR_alert_kind_vault_keys, node.id) : raise(step, &node, ev.fingerprint, row.fingerprint);
}

int far_evolve_vault_keys_seen(struct far_step *step, const struct far_ev_vault_keys_seen *ev)
{
    struct far_row_vault_keys row;
    FAR_TRY(look(step, ev->node_id, &row));
    if (ev->proven) {
        row = (struct far_row_vault_keys){.node_id = ev->node_id,
                                          .vault_uuid = ev->vault_uuid,
                                          .public_key = ev->public_key,
                                          .fingerprint = ev->fingerprint,
                                          .since_ms = step->time_ms};
    } else {
        row.node_id = ev->node_id;
        row.claimed_vault_uuid = ev->vault_uuid;
        row.claimed_public_key = ev->public_key;
        row.claimed_fingerprint = ev->fingerprint;
        row.claimed_ms = step->time_ms;
    }
    return far_row_put(step, &far_schema_row_vault_keys, row.node_id, &row);
}

int far_decide_vault_trust(struct far_step *step, const struct far_cmd_vault_trust *cmd)
{
    struct far_row_vault_keys row;
    uint64_t node_id;
    FAR_TRY(far_name_need(step, &far_schema_row_node, cmd->node, &node_id));
    FAR_TRY(look(step, node_id, &row));
    step->object_id = node_id;
    if (row.node_id != 0 && far_slice_equal(row.fingerprint, cmd->fingerprint)) {
        return 0; /* done before; what the node says now may still be in doubt */
    }
    if (row.claimed_fingerprint.len == 0 || !far_slice_equal(row.claimed_fingerprint, cmd->fingerprint)) {
        return far_reject(step, FAR_CONFLICT, "the vault of node '%.*s' was not found with keys of that fingerprint", FAR_TEXT(cmd->node));
    }
    struct far_ev_vault_keys_seen ev = {.node_id = node_id,
                                        .vault_uuid = row.claimed_vault_uuid,
                                        .public_key = row.claimed_public_key,
                                        .fingerprint = row.claimed_fingerprint,
                                        .proven = true};
    FAR_TRY(far_emit(step, &far_schema_ev_vault_keys_seen, &ev));
    return far_alert_clear(step, FAR_alert_kind_vault_keys, node_id);
}
