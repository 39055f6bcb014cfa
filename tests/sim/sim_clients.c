/* Clients: each pushes one command after the other, by its id, at whichever server, until it is answered. See sim.h.
 *
 * An answer may be lost, a leader may fall between entry and answer: then the outcome is unknown and the same command is
 * asked for again. What it says follows from its number alone. */
#include "sim.h"

#include "base/assert.h"

enum { START_MS = 1700000000 };

static void ask(struct sim *sim, void *object, uint64_t attempt, uint64_t hops, struct far_blob *blob);

static int encode(struct sim *sim, const struct far_schema *schema, const void *object, struct far_command *ret)
{
    far_buf_reset(&sim->payload);
    int rc = far_schema_encode(schema, object, &sim->payload, NULL);
    ret->kind = schema->kind;
    ret->version = schema->version;
    ret->payload = far_buf_slice(&sim->payload);
    return rc;
}

/* The first makes the cluster; then sites come and go. */
static struct far_command command_of(struct sim *sim, uint64_t number)
{
    static const uint8_t key[32] = {1, 2, 3};
    char name[32];
    struct far_command command = {.actor = far_actor(FAR_ACTOR_TOKEN, 2)};
    int rc;
    snprintf(name, sizeof name, "site-%llu", (unsigned long long)(number / 2 % SIM_SITES));
    if (number == 1) {
        struct far_cmd_cluster_init init = {.name = far_slice_str("lab"), .uuid = far_slice(key, 16),
            .server_name = far_slice_str("one"), .api_address = far_slice_str("127.0.0.1:5000"),
            .peer_address = far_slice_str("127.0.0.1:5001"), .seal_key = far_slice(key, 32),
            .fingerprint = far_slice(key, 32), .ca_certificate = far_slice(key, 32),
            .admin_token_hash = far_slice(key, 32), .recovery_public_key = far_slice(key, 32)};
        command.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
        rc = encode(sim, &far_schema_cmd_cluster_init, &init, &command);
    } else if (number % 2 == 0) {
        struct far_cmd_site_create create = {.name = far_slice_str(name), .role = FAR_site_role_protected};
        rc = encode(sim, &far_schema_cmd_site_create, &create, &command);
    } else {
        struct far_cmd_site_remove gone = {.name = far_slice_str(name)};
        rc = encode(sim, &far_schema_cmd_site_remove, &gone, &command);
    }
    FAR_ASSERT(rc == 0);
    far_put_le64(command.id, number);
    command.id[15] = 1;
    return command;
}

static void plan_ask(struct sim_client *client, struct sim *sim, uint64_t us)
{
    client->attempt++;
    sim_after(sim, us, ask, client, client->attempt, 0, NULL);
}

static void next_command(struct sim_client *client, struct sim *sim)
{
    client->command = 0;
    if (!sim->calm) {
        client->command = ++sim->next_command;
        plan_ask(client, sim, sim_random(sim, 250 * SIM_MS));
    }
}

static void wake(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob)
{
    struct sim_client *client = object;
    if (client->command == 0) {
        next_command(client, sim);
    }
    sim_after(sim, 500 * SIM_MS, wake, client, 0, 0, NULL);
}

static void give_up(struct sim *sim, void *object, uint64_t attempt, uint64_t hops, struct far_blob *blob)
{
    struct sim_client *client = object;
    if (client->command != 0 && client->attempt == attempt) {
        client->at = (unsigned)sim_random(sim, SIM_MACHINES);
        plan_ask(client, sim, 1);
    }
}

static void ask(struct sim *sim, void *object, uint64_t attempt, uint64_t hops, struct far_blob *blob)
{
    struct sim_client *client = object;
    if (client->command == 0 || client->attempt != attempt) {
        return;
    }
    struct sim_server *server = &sim->servers[client->at];
    if (server->alive && !server->is_leader) {
        struct far_raft_status status;
        far_raft_status(server->raft, &status);
        struct sim_server *leader = sim_server_of(sim, status.leader_id);
        client->at = leader != NULL ? leader->machine : (unsigned)sim_random(sim, SIM_MACHINES);
    } else if (!server->alive) {
        client->at = (unsigned)sim_random(sim, SIM_MACHINES);
    }
    if (!server->alive || !server->is_leader) {
        client->attempt++;
        sim_after(sim, (hops < 3 ? 2 : 100) * SIM_MS, ask, client, client->attempt, hops + 1, NULL);
        return;
    }
    if (server->waiting_count == server->waiting_cap) {
        server->waiting_cap = server->waiting_cap * 2 + 16;
        server->waiting = realloc(server->waiting, server->waiting_cap * sizeof *server->waiting);
        FAR_ASSERT(server->waiting != NULL);
    }
    server->waiting[server->waiting_count++] =
        (struct sim_waiting){.number = client->command, .attempt = attempt, .client = client->number};
    sim_after(sim, SIM_SECOND + sim_random(sim, 2 * SIM_SECOND), give_up, client, attempt, 0, NULL);
    sim_server_pump(server);
}

/* ---- at the leader ---- */

static uint64_t stamp(struct sim_server *server)
{
    struct sim *sim = server->sim;
    uint64_t mono = sim->now_us / SIM_MS + 1000;
    uint64_t wall = (uint64_t)((int64_t)(START_MS + mono) + server->wall_off_ms);
    far_cluster_clock_sample(&server->clock, server->id, wall, mono, mono);
    return far_cluster_clock_stamp(&server->clock, mono);
}

static unsigned fill_entry(struct sim_server *server, uint64_t index, uint64_t term)
{
    struct sim *sim = server->sim;
    unsigned count = 0;
    far_buf_reset(&sim->entry);
    FAR_ASSERT(far_envelope_begin(&sim->entry, NULL) == 0);
    for (size_t i = 0; i < server->waiting_count; i++) {
        struct sim_waiting *waiting = &server->waiting[i];
        if (waiting->index != 0) {
            continue;
        }
        struct far_command command = command_of(sim, waiting->number);
        command.proposed_at_ms = stamp(server);
        if (far_envelope_add(&sim->entry, &command, NULL) != 0) {
            break;
        }
        waiting->index = index;
        waiting->term = term;
        waiting->position = count++;
    }
    far_envelope_finish(&sim->entry, index, term);
    return count;
}

void sim_server_pump(struct sim_server *server)
{
    uint64_t index, term;
    struct far_error err = {0};
    bool any = false;
    for (size_t i = 0; i < server->waiting_count; i++) {
        any = any || server->waiting[i].index == 0;
    }
    if (!any || !server->alive || server->fatal || sim_disk_dead(server->disk) || !server->is_leader ||
        far_raft_in_flight(server->raft) >= FAR_RAFT_WINDOW || far_raft_next(server->raft, &index, &term, &err) != 0) {
        return;
    }
    if (fill_entry(server, index, term) > 0 &&
        far_raft_submit(server->raft, far_buf_slice(&server->sim->entry), &err) != 0) {
        for (size_t i = 0; i < server->waiting_count; i++) {
            if (server->waiting[i].index == index && server->waiting[i].term == term) {
                server->waiting[i].index = 0;
            }
        }
    }
}

static void answer(struct sim *sim, void *object, uint64_t attempt, uint64_t command, struct far_blob *blob)
{
    struct sim_client *client = object;
    uint64_t index;
    memcpy(&index, blob->data, sizeof index);
    if (client->command != command) {
        return;
    }
    if (index != 0) {
        sim_check_answered(sim->check, command, index);
        sim_faults_answered(sim);
    }
    sim->last_command_answered = command;
    next_command(client, sim);
}

void sim_clients_decided(struct sim_server *server, uint64_t index, uint64_t term, unsigned position,
                         const struct far_command *command, const struct far_result *result)
{
    struct sim *sim = server->sim;
    if (sim->options.verbose && result->klass != 0 && server->is_leader) {
        sim_say(sim, "command %llu: %s", (unsigned long long)far_get_le64(command->id), result->message);
    }
    far_cluster_clock_observe(&server->clock, command->proposed_at_ms, sim->now_us / SIM_MS + 1000);
    for (size_t i = 0; i < server->waiting_count; i++) {
        struct sim_waiting waiting = server->waiting[i];
        if (waiting.index != index || waiting.position != position) {
            continue;
        }
        server->waiting[i] = server->waiting[--server->waiting_count];
        if (waiting.term == term && !(sim->trouble && sim_chance(sim, 5))) {
            uint64_t accepted = result->klass == 0 ? index : 0;
            sim_after(sim, 100 + sim_random(sim, sim->delay_us), answer, &sim->clients[waiting.client], waiting.attempt,
                      waiting.number, far_blob_new(&accepted, sizeof accepted));
        }
        return;
    }
}

void sim_clients_lost(struct sim_server *server)
{
    server->waiting_count = 0; /* the clients give up by their own time-out */
}

void sim_clients_start(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_CLIENTS; i++) {
        sim->clients[i].number = i;
        sim_after(sim, 1, wake, &sim->clients[i], 0, 0, NULL);
    }
}
