/* By which keys the vaults of nodes are believed, told to every node at the welcome and whenever it changes: whoever attaches a vault
 * beside a node goes by what that node heard (dataplane/vault_trust.h). See link.h. */
#include "server/link_private.h"

#include "base/hash.h"
#include "base/logging.h"

#include <stdio.h>

enum { VAULTS_MAX = 1000 /* that one message names */, TEXT_MORE = 2 * 16 + 1 + 2 * 32 + 1 + 1 /* than the name has */ };

/* The name of the node; empty: it is gone. */
static int name_of(struct far_state *state, uint64_t node_id, struct far_arena *arena, struct far_slice *ret_name, struct far_error *err)
{
    struct far_row_node node = {.name = {0}};
    struct far_key key = far_key(&far_schema_row_node);
    far_key_u64(&key, node_id);
    int rc = far_state_get(state, &far_schema_row_node, &key, arena, &node, err);
    *ret_name = node.name;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int print_vault(const struct far_row_vault_keys *row, struct far_slice name, struct far_arena *arena, struct far_slice *ret_text,
                       struct far_error *err)
{
    char *text = far_arena_alloc(arena, name.len + TEXT_MORE);
    if (text == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the list of vaults");
    }
    far_hex_encode(row->vault_uuid.data, 16, text);
    text[32] = ' ';
    far_hex_encode(row->fingerprint.data, 32, text + 33);
    int n = sprintf(text + 97, " %.*s", (int)name.len, (const char *)name.data);
    *ret_text = far_slice(text, 97 + (size_t)n);
    return 0;
}

/* As many as one message names. */
static int list_vaults(struct far_state *state, struct far_arena *arena, struct far_list *ret_vaults, struct far_error *err)
{
    struct far_key key = far_key(&far_schema_row_vault_keys);
    struct far_row_vault_keys row;
    struct far_slice name, *texts = far_arena_alloc(arena, VAULTS_MAX * sizeof *texts);
    size_t count = 0;
    int rc = texts == NULL ? far_fail(err, FAR_LIMIT, "no memory for the list of vaults") : 0;
    while (rc == 0 && count < VAULTS_MAX && (rc = far_state_next(state, &far_schema_row_vault_keys, &key, arena, NULL, &row, err)) == 0) {
        if (row.vault_uuid.len == 16 && row.fingerprint.len == 32) {
            rc = name_of(state, row.node_id, arena, &name, err);
            rc = rc == 0 ? print_vault(&row, name, arena, &texts[count++], err) : rc;
        }
    }
    *ret_vaults = (struct far_list){.items = texts, .count = count};
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_link_vault_of(struct far_state *state, uint64_t node_id, struct far_arena *arena, struct far_slice *ret_text,
                      struct far_error *err)
{
    struct far_row_vault_keys row;
    struct far_slice name;
    struct far_key key = far_key(&far_schema_row_vault_keys);
    far_key_u64(&key, node_id);
    int rc = far_state_get(state, &far_schema_row_vault_keys, &key, arena, &row, err);
    rc = rc == 0 ? name_of(state, node_id, arena, &name, err) : rc;
    return rc == 0 ? print_vault(&row, name, arena, ret_text, err) : rc;
}

/* ---- to nodes ---- */

int far_link_look_at_level(struct far_link *link, struct far_error *err)
{
    struct far_row_cluster cluster = {.feature_level = 1};
    struct far_key key = far_key(&far_schema_row_cluster);
    struct far_log_view view;
    struct far_arena arena;
    if (link->level >= FAR_FEATURE_LEVEL) {
        return 0;
    }
    int rc = far_log_view_begin_now(link->log, &view, err);
    if (rc != 0) {
        return rc;
    }
    far_arena_init(&arena, FAR_LINK_ARENA_MAX);
    rc = far_state_get(&view.state, &far_schema_row_cluster, &key, &arena, &cluster, err);
    far_arena_done(&arena);
    far_log_view_end(&view);
    if (rc == 0 || rc == FAR_NOT_FOUND) {
        link->level = cluster.feature_level;
        return 0;
    }
    return rc;
}

static void tell(struct session *session, const struct far_msg_vaults *message)
{
    uint64_t hash = far_link_servers_hash(&message->vaults) + 1;
    uint64_t level = session->level < session->link->level ? session->level : session->link->level;
    if (level < far_schema_msg_vaults.since(0) || session->state != SESSION_LIVE || session->vaults_told == hash) {
        return;
    }
    session->vaults_told = hash;
    if (far_link_send(session, &far_schema_msg_vaults, message) != 0) {
        far_link_session_end(session); /* its next welcome tells it */
    }
}

static int list(struct far_link *link, struct far_log_view *view, struct far_arena *arena, struct far_msg_vaults *ret_message)
{
    struct far_error err = {0};
    far_arena_init(arena, FAR_LINK_ARENA_MAX);
    int rc = far_link_look_at_level(link, &err); /* a cluster below hears nothing of keys, and so asks nobody for them */
    rc = rc != 0 ? rc : list_vaults(&view->state, arena, &ret_message->vaults, &err);
    if (rc != 0) {
        far_logf(FAR_LEVEL_WARN, "link", "nodes are not told by which keys vaults are believed: %s", err.message);
    }
    return rc;
}

void far_link_begin_vaults(struct session *session, struct far_log_view *view)
{
    struct far_arena arena;
    struct far_msg_vaults message = {.vaults = {.count = 0}};
    if (list(session->link, view, &arena, &message) == 0) {
        tell(session, &message); /* also that there is none: then it says which keys its own has */
    }
    far_arena_done(&arena);
}

void far_link_push_vaults(struct far_link *link, struct far_log_view *view)
{
    struct far_arena arena;
    struct far_msg_vaults message = {.vaults = {.count = 0}};
    int rc = list(link, view, &arena, &message);
    for (struct session *s = link->sessions, *next; rc == 0 && s != NULL; s = next) {
        next = s->next;
        tell(s, &message);
    }
    far_arena_done(&arena);
}
