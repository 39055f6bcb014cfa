/* Which servers there are, told to nodes at the welcome and whenever it changes, so that no node is left with the addresses of
 * servers that are gone: see link.h. */
#include "server/link_private.h"

#include "base/hash.h"
#include "base/logging.h"

#include <stdio.h>

enum {
    SERVERS_MAX = 16, /* that one message names */
    FINGERPRINT_BYTES = 32,
    TEXT_MORE = 24 + 2 * FINGERPRINT_BYTES + 2, /* than the address has */
};

/* "<id>@<host>:<port>#<fingerprint>" */
static int print_server(const struct far_row_server *row, struct far_arena *arena, struct far_slice *ret_text, struct far_error *err)
{
    char *text = far_arena_alloc(arena, row->peer_address.len + TEXT_MORE);
    if (text == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the list of servers");
    }
    int n = sprintf(text, "%llu@%.*s", (unsigned long long)row->id, (int)row->peer_address.len,
                    (const char *)row->peer_address.data);
    if (row->fingerprint.len == FINGERPRINT_BYTES) {
        text[n] = '#';
        far_hex_encode(row->fingerprint.data, FINGERPRINT_BYTES, text + n + 1);
        n += 2 * FINGERPRINT_BYTES + 1;
    }
    *ret_text = far_slice(text, (size_t)n);
    return 0;
}

int far_link_list_servers(struct far_state *state, struct far_arena *arena, struct far_list *ret_servers, struct far_error *err)
{
    struct far_key key = far_key(&far_schema_row_server);
    struct far_row_server row;
    struct far_slice *texts = far_arena_alloc(arena, SERVERS_MAX * sizeof *texts);
    size_t count = 0;
    int rc = texts == NULL ? far_fail(err, FAR_LIMIT, "no memory for the list of servers") : 0;
    while (rc == 0 && count < SERVERS_MAX &&
           (rc = far_state_next(state, &far_schema_row_server, &key, arena, NULL, &row, err)) == 0) {
        if (row.role != FAR_server_role_removed && row.peer_address.len != 0) {
            rc = print_server(&row, arena, &texts[count++], err);
        }
    }
    *ret_servers = (struct far_list){.items = texts, .count = count};
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

uint64_t far_link_servers_hash(const struct far_list *servers)
{
    const struct far_slice *texts = servers->items;
    uint64_t hash = 0;
    for (size_t i = 0; i < servers->count; i++) {
        hash = far_hash64_parts(far_slice(&hash, sizeof hash), texts[i], far_slice("\n", 1));
    }
    return hash;
}

void far_link_push_servers(struct far_link *link, struct far_log_view *view)
{
    struct far_arena arena;
    struct far_msg_servers message = {.servers = {.count = 0}};
    struct far_error err = {0};
    far_arena_init(&arena, FAR_LINK_ARENA_MAX);
    int rc = far_link_list_servers(&view->state, &arena, &message.servers, &err);
    uint64_t hash = rc == 0 ? far_link_servers_hash(&message.servers) : 0;
    if (rc != 0) {
        far_logf(FAR_LEVEL_WARN, "link", "nodes are not told the servers: %s", err.message);
    }
    for (struct session *s = link->sessions; rc == 0 && s != NULL; s = s->next) {
        if (s->state != SESSION_LIVE || s->servers_told == hash) {
            continue;
        }
        s->servers_told = hash;
        if (far_link_send(s, &far_schema_msg_servers, &message) != 0) {
            far_link_session_end(s); /* its next welcome tells it */
        }
    }
    far_arena_done(&arena);
}
