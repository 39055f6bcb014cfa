/* The keys of servers and nodes: see peer_keys.h. */
#include "server/peer_keys.h"

enum { ARENA_MAX = 64 * 1024 };

/* The fingerprint in the row; empty if there is none. */
static int registered(struct far_state *state, struct far_peer peer, struct far_arena *arena, struct far_slice *ret_name,
                      struct far_slice *ret_fingerprint, struct far_error *err)
{
    const struct far_schema *table = peer.party == FAR_PARTY_SERVER ? &far_schema_row_server : &far_schema_row_node;
    struct far_key key = far_key(table);
    struct far_row_server server = {.id = 0};
    struct far_row_node node = {.id = 0};
    bool is_server = peer.party == FAR_PARTY_SERVER;
    far_key_u64(&key, peer.id);
    int rc = far_state_get(state, table, &key, arena, is_server ? (void *)&server : (void *)&node, err);
    if (rc == 0) {
        *ret_name = is_server ? server.name : node.name;
        *ret_fingerprint = is_server ? server.fingerprint : node.fingerprint;
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int check(void *arg, struct far_peer peer, const uint8_t fingerprint[32], struct far_error *err)
{
    struct far_log_view view;
    struct far_arena arena;
    struct far_slice name = {0}, known = {0};
    int rc = far_log_view_begin_now(arg, &view, err);
    if (rc != 0) {
        return rc;
    }
    far_arena_init(&arena, ARENA_MAX);
    rc = registered(&view.state, peer, &arena, &name, &known, err);
    far_log_view_end(&view);
    if (rc == 0 && known.len == 32 && memcmp(known.data, fingerprint, 32) != 0) {
        char shown[65];
        far_hex_encode(fingerprint, 32, shown);
        rc = far_fail(err, FAR_DENIED, "refused %s '%.*s' (number %llu): its certificate is of another key (%.16s…) than the "
                                       "one that joined",
                      peer.party == FAR_PARTY_SERVER ? "server" : "node", (int)name.len, (const char *)name.data,
                      (unsigned long long)peer.id, shown);
    }
    far_arena_done(&arena);
    return rc;
}

void far_peer_keys_watch(struct far_net *net, struct far_log *log)
{
    far_net_check_keys(net, check, log);
}
