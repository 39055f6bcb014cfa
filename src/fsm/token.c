/* Tokens: of people and programs (api), and single-use ones with which a server or node joins. Rows are keyed by the
 * SHA-256 of the secret, which only its holder knows. A token with an end has a deadline and is then gone. The names of
 * api tokens are their own; a join token's name is that of the server or node to come. */
#include "fsm/machines.h"

enum { ABSENT, GOOD, USED, REVOKED };
enum { CREATE, REVOKE, JOIN, EXPIRE };
enum { LAST_TOKEN_LEVEL = 3 }; /* from which on the last one of users stays */
static const char *const states[] = {"absent", "good", "used", "revoked"};
static const char *const inputs[] = {"token_create", "token_revoke", "join", "expiry"};
static const struct far_cell cells[4][4] = {
    [ABSENT] = {[CREATE] = FAR_MOVE(GOOD),
                [REVOKE] = FAR_REJECT(FAR_NOT_FOUND, "does not exist"),
                [JOIN] = FAR_REJECT(FAR_DENIED, "is not known to this cluster; ask for a new join token"),
                [EXPIRE] = FAR_REJECT(FAR_NOT_FOUND, "does not exist")},
    [GOOD] = {[CREATE] = FAR_REJECT(FAR_CONFLICT, "exists already; draw another secret"),
              [REVOKE] = FAR_MOVE(REVOKED),
              [JOIN] = FAR_MOVE(USED),
              [EXPIRE] = FAR_MOVE(ABSENT)},
    [USED] = {[CREATE] = FAR_REJECT(FAR_CONFLICT, "exists already; draw another secret"),
              [REVOKE] = FAR_REJECT(FAR_CONFLICT, "was used up already; remove what joined with it instead"),
              [JOIN] = FAR_REJECT(FAR_DENIED, "was used up already; ask for a new join token"),
              [EXPIRE] = FAR_MOVE(ABSENT)},
    [REVOKED] = {[CREATE] = FAR_REJECT(FAR_CONFLICT, "exists already; draw another secret"),
                 [REVOKE] = FAR_REJECT(FAR_CONFLICT, "is revoked already"),
                 [JOIN] = FAR_REJECT(FAR_DENIED, "was revoked; ask for a new join token"),
                 [EXPIRE] = FAR_MOVE(ABSENT)},
};
const struct far_table far_table_token = FAR_TABLE("token", states, inputs, cells);

static struct far_key key_of(struct far_slice hash)
{
    struct far_key key = far_key(&far_schema_row_token);
    far_key_bytes(&key, hash);
    return key;
}

static unsigned state_of(const struct far_row_token *token)
{
    return token->id == 0 ? ABSENT : token->revoked ? REVOKED : token->used_ms != 0 ? USED : GOOD;
}

/* The row with this hash; all zero if there is none. */
static int look(struct far_step *step, struct far_slice hash, struct far_row_token *ret_token)
{
    struct far_key key = key_of(hash);
    int rc = far_key_find(step, &far_schema_row_token, &key, ret_token);
    if (rc == FAR_NOT_FOUND) {
        *ret_token = (struct far_row_token){.id = 0};
        return 0;
    }
    return rc;
}

/* The token with this id and its hash; all zero if there is none. */
static int look_id(struct far_step *step, uint64_t id, struct far_row_token *ret_token, struct far_slice *ret_hash)
{
    struct far_key key = far_key(&far_schema_row_token);
    int rc;
    while ((rc = far_next(step, &far_schema_row_token, &key, ret_hash, ret_token)) == 0) {
        if (ret_token->id == id) {
            return 0;
        }
    }
    *ret_token = (struct far_row_token){.id = 0};
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

const char *far_token_fault(const struct far_row_token *token, uint64_t purpose, uint64_t now_ms)
{
    unsigned state = state_of(token);
    if (token->purpose == FAR_token_purpose_api && purpose == FAR_token_purpose_api && state == REVOKED) {
        return "was revoked";
    }
    if (state != GOOD) {
        return far_table_cell(&far_table_token, state, JOIN)->why;
    }
    if (token->purpose != purpose) {
        return "is for another purpose";
    }
    return token->expires_ms != 0 && token->expires_ms <= now_ms ? "has expired; ask for a new one" : NULL;
}

/* ---- create ---- */

/* The node whose place is to be taken is one that is gone: what is up is not pushed out. */
static int check_replaced(struct far_step *step, const struct far_cmd_token_create *cmd, uint64_t *ret_site_id, uint64_t *ret_node_id)
{
    struct far_row_node node;
    struct far_row_site site;
    if (cmd->purpose != FAR_token_purpose_join_node) {
        return far_reject(step, FAR_INVALID, "token '%.*s': only the place of a node can be taken", FAR_TEXT(cmd->name));
    }
    FAR_TRY(far_name_need(step, &far_schema_row_node, cmd->name, ret_node_id));
    FAR_TRY(far_row_need(step, &far_schema_row_node, *ret_node_id, &node));
    FAR_TRY(far_row_need(step, &far_schema_row_site, node.site_id, &site));
    if (cmd->site.len != 0 && !far_slice_equal(cmd->site, site.name)) {
        return far_reject(step, FAR_CONFLICT, "node '%.*s' stands at site '%.*s', and so does whoever takes its place",
                          FAR_TEXT(cmd->name), FAR_TEXT(site.name));
    }
    *ret_site_id = node.site_id;
    return 0;
}

static int check_join_name(struct far_step *step, const struct far_cmd_token_create *cmd, uint64_t *ret_site_id)
{
    bool is_server = cmd->purpose == FAR_token_purpose_join_server;
    const struct far_schema *table = is_server ? &far_schema_row_server : &far_schema_row_node;
    uint64_t other;
    if (cmd->site.len == 0) {
        return far_reject(step, FAR_INVALID, "the join token of '%.*s' needs a site", FAR_TEXT(cmd->name));
    }
    FAR_TRY(far_name_need(step, &far_schema_row_site, cmd->site, ret_site_id));
    int rc = far_name_find(step, table, cmd->name, &other);
    if (rc == 0) {
        return far_reject(step, FAR_CONFLICT, "%s '%.*s' exists already; choose another name", table->name,
                          FAR_TEXT(cmd->name));
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_decide_token_create(struct far_step *step, const struct far_cmd_token_create *cmd)
{
    struct far_row_token old;
    uint64_t site_id = 0, replaces_id = 0, other;
    FAR_TRY(far_name_check(step, "token", cmd->name));
    if (cmd->purpose < FAR_token_purpose_api || cmd->purpose > FAR_token_purpose_join_node) {
        return far_reject(step, FAR_INVALID, "token '%.*s' needs a purpose: api, join_server or join_node",
                          FAR_TEXT(cmd->name));
    }
    if (cmd->hash.len != 32) {
        return far_reject(step, FAR_INVALID, "the hash of token '%.*s' must have 32 bytes", FAR_TEXT(cmd->name));
    }
    bool is_api = cmd->purpose == FAR_token_purpose_api;
    if (cmd->expires_ms <= step->time_ms && !(is_api && cmd->expires_ms == 0)) {
        return far_reject(step, FAR_INVALID, "token '%.*s' would end before it began; give it a time in the future",
                          FAR_TEXT(cmd->name));
    }
    FAR_TRY(look(step, cmd->hash, &old));
    FAR_TRY(far_move(step, &far_table_token, state_of(&old), CREATE, cmd->name, NULL));
    if (cmd->replaces) {
        FAR_TRY(check_replaced(step, cmd, &site_id, &replaces_id));
    } else if (!is_api) {
        FAR_TRY(check_join_name(step, cmd, &site_id));
    } else {
        int rc = far_name_find(step, &far_schema_row_token, cmd->name, &other);
        if (rc == 0) {
            return far_reject(step, FAR_CONFLICT, "token '%.*s' exists already; choose another name",
                              FAR_TEXT(cmd->name));
        }
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    }
    struct far_ev_token_created ev = {.id = step->progress.next_id,
                                      .name = cmd->name,
                                      .purpose = cmd->purpose,
                                      .hash = cmd->hash,
                                      .expires_ms = cmd->expires_ms,
                                      .site_id = site_id,
                                      .replaces_id = replaces_id};
    step->object_id = ev.id;
    return far_emit(step, &far_schema_ev_token_created, &ev);
}

int far_evolve_token_created(struct far_step *step, const struct far_ev_token_created *ev)
{
    struct far_row_token old;
    FAR_TRY(look(step, ev->hash, &old));
    FAR_TRY(far_move(step, &far_table_token, state_of(&old), CREATE, ev->name, NULL));
    struct far_row_token row = {.id = ev->id,
                                .name = ev->name,
                                .purpose = ev->purpose,
                                .site_id = ev->site_id,
                                .created_ms = step->time_ms,
                                .expires_ms = ev->expires_ms,
                                .replaces_id = ev->replaces_id};
    struct far_key key = key_of(ev->hash);
    FAR_TRY(far_key_put(step, &far_schema_row_token, &key, &row));
    if (row.purpose == FAR_token_purpose_api) {
        FAR_TRY(far_name_put(step, &far_schema_row_token, row.name, row.id));
    }
    far_id_used(step, row.id);
    return far_deadline_move(step, FAR_deadline_kind_token_expiry, row.id, 0, 0, row.expires_ms);
}

/* ---- revoke ---- */

/* Without any token that lets somebody in, nobody could make another one. A join token lets nobody in. */
static int check_others_stay(struct far_step *step, const struct far_row_token *leaving)
{
    struct far_row_token row;
    struct far_key key = far_key(&far_schema_row_token);
    uint64_t others = 0, lasting = 0;
    bool is_checked;
    int rc;
    FAR_TRY(far_level_has(step, LAST_TOKEN_LEVEL, &is_checked));
    if (!is_checked || leaving->purpose != FAR_token_purpose_api) {
        return 0;
    }
    while ((rc = far_next(step, &far_schema_row_token, &key, NULL, &row)) == 0) {
        if (row.id != leaving->id && far_token_fault(&row, FAR_token_purpose_api, step->time_ms) == NULL) {
            others++;
            lasting += row.expires_ms == 0;
        }
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    if (others == 0) {
        return far_reject(step, FAR_CONFLICT, "token '%.*s' is the last one that lets anybody in: make another one first (farshore "
                                              "token create)", FAR_TEXT(leaving->name));
    }
    if (lasting == 0) {
        far_warn(step, "the tokens that are left all end by themselves: make one that lasts, or the cluster is closed to everybody then");
    }
    return 0;
}

int far_decide_token_revoke(struct far_step *step, const struct far_cmd_token_revoke *cmd)
{
    struct far_row_token row;
    struct far_ev_token_revoked ev = {.token_id = cmd->token_id};
    FAR_TRY(look_id(step, cmd->token_id, &row, &ev.hash));
    FAR_TRY(far_move_id(step, &far_table_token, state_of(&row), REVOKE, cmd->token_id, NULL));
    FAR_TRY(check_others_stay(step, &row));
    step->object_id = cmd->token_id;
    return far_emit(step, &far_schema_ev_token_revoked, &ev);
}

int far_evolve_token_revoked(struct far_step *step, const struct far_ev_token_revoked *ev)
{
    struct far_row_token row;
    FAR_TRY(look(step, ev->hash, &row));
    FAR_TRY(far_move_id(step, &far_table_token, state_of(&row), REVOKE, ev->token_id, NULL));
    row.revoked = true;
    if (row.purpose == FAR_token_purpose_api) {
        FAR_TRY(far_name_del(step, &far_schema_row_token, row.name));
    }
    struct far_key key = key_of(ev->hash);
    return far_key_put(step, &far_schema_row_token, &key, &row);
}

/* ---- join ---- */

int far_token_for_join(struct far_step *step, struct far_slice hash, uint64_t purpose, struct far_slice name,
                       struct far_row_token *ret_token)
{
    if (hash.len != 32) {
        return far_reject(step, FAR_INVALID, "field 'token_hash' must have 32 bytes");
    }
    FAR_TRY(look(step, hash, ret_token));
    FAR_TRY(far_move(step, &far_table_token, state_of(ret_token), JOIN, name, NULL));
    const char *fault = far_token_fault(ret_token, purpose, step->time_ms);
    if (fault != NULL) {
        return far_reject(step, FAR_DENIED, "the join token for '%.*s' %s", FAR_TEXT(name), fault);
    }
    if (!far_slice_equal(ret_token->name, name)) {
        return far_reject(step, FAR_DENIED, "this join token is for '%.*s', not for '%.*s'", FAR_TEXT(ret_token->name),
                          FAR_TEXT(name));
    }
    return 0;
}

int far_token_use(struct far_step *step, struct far_slice hash)
{
    struct far_row_token row;
    FAR_TRY(look(step, hash, &row));
    FAR_TRY(far_move(step, &far_table_token, state_of(&row), JOIN, row.name, NULL));
    row.used_ms = step->time_ms;
    struct far_key key = key_of(hash);
    return far_key_put(step, &far_schema_row_token, &key, &row);
}

/* ---- expiry ---- */

int far_token_due(struct far_step *step, uint64_t token_id)
{
    struct far_row_token row;
    struct far_ev_token_expired ev = {.token_id = token_id};
    FAR_TRY(look_id(step, token_id, &row, &ev.hash));
    return row.id == 0 ? 0 : far_emit(step, &far_schema_ev_token_expired, &ev);
}

int far_evolve_token_expired(struct far_step *step, const struct far_ev_token_expired *ev)
{
    struct far_row_token row;
    FAR_TRY(look(step, ev->hash, &row));
    FAR_TRY(far_move_id(step, &far_table_token, state_of(&row), EXPIRE, ev->token_id, NULL));
    if (row.purpose == FAR_token_purpose_api && !row.revoked) {
        FAR_TRY(far_name_del(step, &far_schema_row_token, row.name));
    }
    struct far_key key = key_of(ev->hash);
    FAR_TRY(far_key_del(step, &far_schema_row_token, &key));
    return far_deadline_move(step, FAR_deadline_kind_token_expiry, row.id, 0, row.expires_ms, 0);
}
