/* The simulated network: for each ordered pair of machines one connection, in order while it lasts. See sim.h.
 *
 * A message may be dropped at the sender (a full queue), delayed, or lost with its connection. When a connection breaks,
 * what is under way is lost, or arrives late, after messages of the next one: as the bytes that a kernel had already. */
#include "sim.h"

#include "base/assert.h"

struct packet {
    uint64_t from_id;
    uint64_t to_id;
    uint64_t generation;
    uint64_t incarnation;
    uint64_t number;
    uint32_t kind;
    uint32_t zero;
};

static bool is_stopped(struct sim *sim, unsigned from, unsigned to)
{
    if (sim->links[from][to].blocked && !sim->links[to][from].blocked) {
        sim_count(sim, SIM_COUNT_ONE_WAY);
    }
    return sim->links[from][to].blocked;
}

static void deliver(struct sim *sim, void *object, uint64_t from, uint64_t to, struct far_blob *blob)
{
    struct sim_link *link = &sim->links[from][to];
    struct packet packet;
    memcpy(&packet, blob->data, sizeof packet);
    if (packet.generation != link->generation) {
        bool is_late = packet.generation + 1 == link->generation && link->late;
        sim_count(sim, is_late ? SIM_COUNT_BROKEN_LATE : SIM_COUNT_BROKEN_LOST);
        if (!is_late) {
            return;
        }
    }
    if (is_stopped(sim, (unsigned)from, (unsigned)to)) {
        return;
    }
    struct sim_server *server = &sim->servers[to];
    if (!server->alive || server->id != packet.to_id) {
        return;
    }
    if (server->incarnation != packet.incarnation) { /* the greeting refuses it before any byte of raft */
        sim_count(sim, SIM_COUNT_FENCED);
        return;
    }
    sim_server_receive(server, packet.from_id, (enum sim_message)packet.kind, packet.number,
                       far_slice(blob->data + sizeof packet, blob->len - sizeof packet));
}

void sim_net_send(struct sim_server *from, uint64_t to_id, enum sim_message kind, uint64_t number, struct far_slice bytes)
{
    struct sim *sim = from->sim;
    struct sim_server *to = sim_server_of(sim, to_id);
    if (to == NULL || to == from) {
        return;
    }
    struct sim_link *link = &sim->links[from->machine][to->machine];
    if (is_stopped(sim, from->machine, to->machine)) {
        return;
    }
    if (sim->trouble && sim_random(sim, 1000) < sim->swarm.drop_permille) {
        sim_count(sim, SIM_COUNT_DROPPED);
        return;
    }
    struct packet packet = {.from_id = from->id, .to_id = to_id, .generation = link->generation,
                            .incarnation = from->incarnation, .number = number,
                            .kind = kind};
    struct far_blob *blob = malloc(sizeof *blob + sizeof packet + bytes.len);
    FAR_ASSERT(blob != NULL);
    atomic_init(&blob->refs, 1);
    blob->len = sizeof packet + bytes.len;
    memcpy(blob->data, &packet, sizeof packet);
    if (bytes.len > 0) {
        memcpy(blob->data + sizeof packet, bytes.data, bytes.len);
    }
    uint64_t at_us = sim->now_us + 100 + sim_random(sim, sim->delay_us);
    at_us = at_us < link->last_us ? link->last_us : at_us;
    link->last_us = at_us;
    sim_after(sim, at_us - sim->now_us, deliver, NULL, from->machine, to->machine, blob);
}

void sim_net_break(struct sim *sim, unsigned from, unsigned to)
{
    struct sim_link *link = &sim->links[from][to];
    link->generation++;
    link->late = sim_chance(sim, 30);
    link->last_us = sim->now_us;
}

void sim_net_heal(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        for (unsigned j = 0; j < SIM_MACHINES; j++) {
            sim->links[i][j].blocked = false;
        }
    }
}
