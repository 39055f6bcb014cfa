/* Clients: each does one operation after the other on keys of the state (the names of sites): create, remove, read. See
 * sim.h.
 *
 * A write goes to whichever server, until it is answered. A linearizable read asks for a barrier and then reads at any
 * server that has applied as much; a local one reads at any server that is not behind what this client has seen. */
#include "sim.h"

#include "base/assert.h"
#include "fsm/query.h"

enum { WAITS_MAX = 100 };

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdu;
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53u;
    return x ^ (x >> 33);
}

static struct far_slice key_name(unsigned key, char name[32])
{
    snprintf(name, 32, "key-%u", key);
    return far_slice_str(name);
}

int sim_key_read(struct far_state *state, unsigned key, uint64_t *ret_value, struct far_error *err)
{
    char name[32];
    int rc = far_query_id(state, &far_schema_row_site, key_name(key, name), ret_value, err);
    if (rc == FAR_NOT_FOUND) {
        *ret_value = 0;
        return 0;
    }
    return rc;
}

static void next_due(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob);

static void rest(struct sim_client *client)
{
    client->is_busy = false;
    sim_after(client->sim, 1 + sim_random(client->sim, client->sim->swarm.think_us), next_due, client, 0, 0, NULL);
}

/* ---- reads ---- */

/* Some message of raft must have come within an election time-out, else a server has to call its answers stale. */
static void check_stale(struct sim_server *server)
{
    struct sim *sim = server->sim;
    struct far_raft_status status;
    uint64_t now_ms = sim->now_us / SIM_MS + 1000;
    far_raft_status(server->raft, &status);
    bool is_stale = status.leader_heard_ms == 0 || now_ms > status.leader_heard_ms + sim->swarm.election_ms;
    unsigned voters = 0;
    for (size_t i = 0; i < status.member_count; i++) {
        voters += status.members[i].voter;
    }
    bool is_alone = status.is_leader && voters == 1;
    if (!is_stale && !is_alone && sim->now_us > server->raft_heard_us + (2 * sim->swarm.election_ms + 10) * SIM_MS) {
        sim_fail(sim, "server %llu has heard nothing for %llu ms and does not call a read stale",
                 (unsigned long long)server->id, (unsigned long long)(sim->now_us - server->raft_heard_us) / SIM_MS);
    }
}

static void read_due(struct sim *sim, void *object, uint64_t index, uint64_t unused, struct far_blob *blob)
{
    struct sim_client *client = object;
    struct sim_server *server = &sim->servers[client->read_at];
    struct far_store_txn *txn;
    struct far_error err = {0};
    uint64_t value = 0;
    if (!server->alive || server->fatal || server->incarnation != sim->incarnation ||
        server->meta->applied_index < index) {
        if (++client->waits % WAITS_MAX == 0 || !server->alive) {
            client->read_at = (unsigned)sim_random(sim, SIM_MACHINES);
        }
        sim_after(sim, 20 * SIM_MS, read_due, client, index, 0, NULL);
        return;
    }
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    struct far_state state = {.kv = far_store_kv(txn)};
    int rc = sim_key_read(&state, client->key, &value, &err);
    far_store_abort(txn);
    if (rc != 0 && !server->damaged) {
        sim_fail(sim, "server %llu: %s", (unsigned long long)server->id, err.message);
        return;
    }
    if (rc != 0) { /* the damage was seen; somebody else will know */
        client->read_at = (unsigned)sim_random(sim, SIM_MACHINES);
        sim_after(sim, 20 * SIM_MS, read_due, client, index, 0, NULL);
        return;
    }
    client->seen_index = server->meta->applied_index;
    sim_history_local(sim->history, client->key, client->seen_index, value);
    if (client->is_local) {
        check_stale(server);
    } else {
        struct sim_op *op = sim_history_op(sim->history, client->op);
        op->outcome = SIM_ACCEPTED;
        op->value = value;
        op->return_us = sim->now_us;
    }
    rest(client);
}

static void read_from(struct sim_client *client, uint64_t index)
{
    client->waits = 0;
    client->read_at = (unsigned)sim_random(client->sim, SIM_MACHINES);
    sim_after(client->sim, 1 + sim_random(client->sim, client->sim->delay_us), read_due, client, index, 0, NULL);
}

/* ---- writes ---- */

/* What a command says follows from its number alone. */
static struct sim_op write_of(struct sim *sim, uint64_t number)
{
    uint64_t drawn = mix(number ^ mix(sim->options.seed));
    return (struct sim_op){.kind = drawn % 2 == 0 ? SIM_CREATE : SIM_REMOVE,
                           .key = (unsigned)(drawn / 2 % sim->swarm.keys),
                           .call_us = sim->now_us,
                           .command = number};
}

static void write_next(struct sim_client *client)
{
    struct sim *sim = client->sim;
    char name[32];
    bool reuse = sim->options.broken == SIM_BROKEN_ID && client->last_number != 0 && sim_chance(sim, 10);
    struct sim_op op = write_of(sim, reuse ? client->last_number : ++sim->next_command);
    client->key = op.key;
    client->op = sim_history_begin(sim->history, op);
    struct far_slice key = key_name(op.key, name);
    if (op.kind == SIM_CREATE) {
        struct far_cmd_site_create create = {.name = key, .role = FAR_site_role_protected};
        sim_call(&client->caller, &far_schema_cmd_site_create, &create, far_actor(FAR_ACTOR_TOKEN, 2), op.command);
    } else {
        struct far_cmd_site_remove gone = {.name = key};
        sim_call(&client->caller, &far_schema_cmd_site_remove, &gone, far_actor(FAR_ACTOR_TOKEN, 2), op.command);
    }
}

static void answered(struct sim_caller *caller, const struct far_result *result, uint64_t index)
{
    struct sim_client *client = caller->owner;
    struct sim *sim = client->sim;
    if (index > client->seen_index) {
        client->seen_index = index;
    }
    if (caller->is_barrier) {
        read_from(client, index);
        return;
    }
    struct sim_op *op = sim_history_op(sim->history, client->op);
    op->return_us = sim->now_us;
    op->may_follow = caller->attempts > 1;
    if (result->klass == 0) {
        op->outcome = SIM_ACCEPTED;
        op->value = result->object_id;
        client->last_number = op->command;
    } else if (result->klass == FAR_CONFLICT || result->klass == FAR_NOT_FOUND) {
        op->outcome = SIM_REJECTED;
    } else {
        sim_fail(sim, "command %llu: %s", (unsigned long long)op->command, result->message);
    }
    rest(client);
}

static void next_due(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob)
{
    struct sim_client *client = object;
    if (sim->calm) {
        sim_after(sim, 500 * SIM_MS, next_due, client, 0, 0, NULL);
        return;
    }
    client->is_busy = true;
    if (!sim_chance(sim, sim->swarm.read_percent)) {
        write_next(client);
        return;
    }
    client->key = (unsigned)sim_random(sim, sim->swarm.keys);
    client->is_local = sim_chance(sim, 50);
    if (client->is_local) {
        read_from(client, client->seen_index);
        return;
    }
    client->op = sim_history_begin(
        sim->history, (struct sim_op){.kind = SIM_READ, .key = client->key, .call_us = sim->now_us});
    sim_call_barrier(&client->caller);
}

/* ---- the beginning ---- */

static void founded(struct sim_caller *caller, const struct far_result *result, uint64_t index)
{
    struct sim *sim = caller->sim;
    struct far_cmd_feature_level_raise raise = {.level = FAR_FEATURE_LEVEL};
    if (result->klass != 0) {
        sim_fail(sim, "the cluster was not made: %s", result->message);
    }
    if (caller->command.kind == FAR_KIND_cmd_cluster_init) {
        sim_call(caller, &far_schema_cmd_feature_level_raise, &raise, far_actor(FAR_ACTOR_SYSTEM, 1), ++sim->next_command);
        return;
    }
    sim->is_founded = true;
    sim_consumers_start(sim);
    sim_nodes_start(sim);
    sim_heads_start(sim);
    sim_past_start(sim);
    for (unsigned i = 0; i < sim->swarm.clients; i++) {
        rest(&sim->clients[i]);
    }
}

void sim_clients_start(struct sim *sim)
{
    static const uint8_t key[32] = {1, 2, 3};
    struct far_cmd_cluster_init init = {.name = far_slice_str("lab"), .uuid = far_slice(key, 16),
        .server_name = far_slice_str("one"), .api_address = far_slice_str("127.0.0.1:5000"),
        .peer_address = far_slice_str("127.0.0.1:5001"), .seal_key = far_slice(key, 32),
        .fingerprint = far_slice(key, 32), .ca_certificate = far_slice(key, 32), .admin_token_hash = far_slice(key, 32),
        .recovery_public_key = far_slice(key, 32), .lease_ms = sim->swarm.lease_ms};
    for (unsigned i = 0; i < SIM_CLIENTS_MAX; i++) {
        sim->clients[i].sim = sim;
        sim_call_init(&sim->clients[i].caller, sim, answered, &sim->clients[i]);
    }
    sim_call_init(&sim->founder, sim, founded, sim);
    sim_call(&sim->founder, &far_schema_cmd_cluster_init, &init, far_actor(FAR_ACTOR_SYSTEM, 1), ++sim->next_command);
}

bool sim_clients_idle(const struct sim *sim)
{
    for (unsigned i = 0; i < sim->swarm.clients; i++) {
        if (sim->clients[i].is_busy) {
            return false;
        }
    }
    return sim->is_founded;
}
