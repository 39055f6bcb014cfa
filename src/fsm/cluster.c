/* The cluster itself: made once, by the first command of its log; and the secrets that it keeps sealed, one row for
 * each secret and recipient. */
#include "fsm/machines.h"

enum { ABSENT, PRESENT };
static const char *const states[] = {"absent", "present"};
static const char *const inputs[] = {"cluster_init", "any other command"};
static const struct far_cell cells[2][2] = {
    [ABSENT] = {FAR_MOVE(PRESENT), FAR_REJECT(FAR_CONFLICT, "does not exist yet; create it first")},
    [PRESENT] = {FAR_REJECT(FAR_CONFLICT, "exists already; a log holds one cluster"), FAR_MOVE(PRESENT)},
};
const struct far_table far_table_cluster = FAR_TABLE("cluster", states, inputs, cells);

static int find_cluster(struct far_step *step, struct far_row_cluster *ret_row)
{
    struct far_key key = far_key(&far_schema_row_cluster);
    return far_key_find(step, &far_schema_row_cluster, &key, ret_row);
}

int far_cluster_need(struct far_step *step)
{
    const struct far_cell *cell = far_table_cell(&far_table_cluster, ABSENT, 1);
    return step->progress.next_seq > 1 ? 0 : far_reject(step, cell->klass, "the cluster %s", cell->why);
}

int far_lease_until(struct far_step *step, uint64_t *ret_until_ms)
{
    if (step->lease_ms == 0) {
        struct far_row_cluster row;
        struct far_key key = far_key(&far_schema_row_cluster);
        FAR_TRY(far_key_need(step, &far_schema_row_cluster, &key, &row));
        step->lease_ms = row.lease_ms;
    }
    *ret_until_ms = step->time_ms + step->lease_ms;
    return 0;
}

static int length(struct far_step *step, const char *field, struct far_slice bytes, size_t len)
{
    return bytes.len == len ? 0 : far_reject(step, FAR_INVALID, "field '%s' must have %zu bytes", field, len);
}

int far_decide_cluster_init(struct far_step *step, const struct far_cmd_cluster_init *cmd)
{
    struct far_row_cluster row;
    int rc = find_cluster(step, &row);
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    FAR_TRY(far_move(step, &far_table_cluster, rc == 0 ? PRESENT : ABSENT, 0, rc == 0 ? row.name : cmd->name, NULL));
    FAR_TRY(far_name_check(step, "cluster", cmd->name));
    FAR_TRY(far_name_check(step, "server", cmd->server_name));
    FAR_TRY(length(step, "uuid", cmd->uuid, 16));
    FAR_TRY(length(step, "seal_key", cmd->seal_key, 32));
    FAR_TRY(length(step, "fingerprint", cmd->fingerprint, 32));
    FAR_TRY(length(step, "admin_token_hash", cmd->admin_token_hash, 32));
    FAR_TRY(length(step, "recovery_public_key", cmd->recovery_public_key, 32));
    if (cmd->lease_ms > 3600 * 1000) {
        return far_reject(step, FAR_INVALID, "a lease of more than an hour is of no use");
    }
    struct far_ev_cluster_created ev = {
        .name = cmd->name,
        .uuid = cmd->uuid,
        .lease_ms = cmd->lease_ms != 0 ? cmd->lease_ms : FAR_LEASE_MS_DEFAULT,
        .ca_certificate = cmd->ca_certificate,
        .recovery_public_key = cmd->recovery_public_key,
        .server_id = step->progress.next_id,
        .server_name = cmd->server_name,
        .api_address = cmd->api_address,
        .peer_address = cmd->peer_address,
        .seal_key = cmd->seal_key,
        .fingerprint = cmd->fingerprint,
        .token_id = step->progress.next_id + 1,
        .token_hash = cmd->admin_token_hash,
    };
    step->object_id = ev.server_id;
    return far_emit(step, &far_schema_ev_cluster_created, &ev);
}

int far_evolve_cluster_created(struct far_step *step, const struct far_ev_cluster_created *ev)
{
    struct far_row_cluster old;
    int rc = find_cluster(step, &old);
    if (rc != FAR_NOT_FOUND) {
        return rc != 0 ? rc : far_move(step, &far_table_cluster, PRESENT, 0, old.name, NULL);
    }
    struct far_row_cluster row = {
        .name = ev->name,
        .uuid = ev->uuid,
        .incarnation_epoch = 1,
        .feature_level = 1,
        .created_ms = step->time_ms,
        .ca_certificate = ev->ca_certificate,
        .recovery_public_key = ev->recovery_public_key,
        .lease_ms = ev->lease_ms,
    };
    struct far_row_server server = {
        .id = ev->server_id,
        .name = ev->server_name,
        .role = FAR_server_role_voter,
        .wanted_role = FAR_server_role_voter,
        .api_address = ev->api_address,
        .peer_address = ev->peer_address,
        .seal_key = ev->seal_key,
        .fingerprint = ev->fingerprint,
        .joined_ms = step->time_ms,
    };
    struct far_row_token token = {.id = ev->token_id,
                                  .name = far_slice_str("admin"),
                                  .purpose = FAR_token_purpose_api,
                                  .created_ms = step->time_ms};
    struct far_key key = far_key(&far_schema_row_cluster);
    FAR_TRY(far_key_put(step, &far_schema_row_cluster, &key, &row));
    FAR_TRY(far_row_put(step, &far_schema_row_server, server.id, &server));
    FAR_TRY(far_name_put(step, &far_schema_row_server, server.name, server.id));
    key = far_key(&far_schema_row_token);
    far_key_bytes(&key, ev->token_hash);
    FAR_TRY(far_key_put(step, &far_schema_row_token, &key, &token));
    FAR_TRY(far_name_put(step, &far_schema_row_token, token.name, token.id));
    far_id_used(step, ev->server_id);
    far_id_used(step, ev->token_id);
    return 0;
}

/* ---- secrets ---- */

static struct far_key secret_key(uint64_t recipient_id, struct far_slice name)
{
    struct far_key key = far_key_id(&far_schema_row_secret, recipient_id);
    far_key_bytes(&key, name);
    return key;
}

int far_decide_secret_set(struct far_step *step, const struct far_cmd_secret_set *cmd)
{
    FAR_TRY(far_name_check(step, "secret", cmd->name));
    struct far_row_server server;
    int rc = cmd->recipient_id == 0 ? 0 : far_row_find(step, &far_schema_row_server, cmd->recipient_id, &server);
    if (rc == FAR_NOT_FOUND) {
        return far_reject(step, FAR_NOT_FOUND, "there is no server %llu to keep secret '%.*s' for",
                          FAR_LLU(cmd->recipient_id), FAR_TEXT(cmd->name));
    }
    FAR_TRY(rc);
    if (cmd->sealed.len == 0) {
        return far_reject(step, FAR_INVALID, "secret '%.*s' is empty", FAR_TEXT(cmd->name));
    }
    struct far_row_secret old;
    struct far_key key = secret_key(cmd->recipient_id, cmd->name);
    rc = far_key_find(step, &far_schema_row_secret, &key, &old);
    step->object_id = cmd->recipient_id;
    if (rc == 0 && far_slice_equal(old.sealed, cmd->sealed)) {
        return 0;
    }
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    struct far_ev_secret_changed ev = {
        .name = cmd->name, .recipient_id = cmd->recipient_id, .sealed = cmd->sealed};
    return far_emit(step, &far_schema_ev_secret_changed, &ev);
}

int far_evolve_secret_changed(struct far_step *step, const struct far_ev_secret_changed *ev)
{
    struct far_row_secret row = {.name = ev->name, .recipient_id = ev->recipient_id, .sealed = ev->sealed};
    struct far_key key = secret_key(ev->recipient_id, ev->name);
    return far_key_put(step, &far_schema_row_secret, &key, &row);
}
