/* What goes wrong, and the administrator who repairs: all from the seed. See sim.h. */
#include "sim.h"

#include "base/assert.h"

enum { ADMIN_US = 300 * SIM_MS };
#define HOUR_MS 3600000ull

/* ---- faults ---- */

/* Now and then the power goes again while it reads and mends its log. */
static void restart(struct sim *sim, struct sim_server *server)
{
    bool is_torn = sim_disk_torn(server->disk);
    if (sim->trouble && sim->swarm.weights[SIM_FAULT_DISK_DIES] > 0 && sim_chance(sim, is_torn ? 60 : 5)) {
        sim_disk_die_after(server->disk, 1 + sim_random(sim, is_torn ? 2 : 4));
    }
    sim_server_start(server);
}

static void restart_due(struct sim *sim, void *object, uint64_t id, uint64_t unused, struct far_blob *blob)
{
    struct sim_server *server = object;
    if (!server->alive && !server->away && server->id == id && id != 0) {
        restart(sim, server);
    }
}

static struct sim_server *any_server(struct sim *sim)
{
    struct sim_server *server = &sim->servers[sim_random(sim, SIM_MACHINES)];
    if (sim_chance(sim, 30) && sim_leader(sim) != NULL) {
        server = sim_leader(sim);
    }
    return server->alive ? server : NULL;
}

static void crash(struct sim *sim, struct sim_server *server, bool power_cut)
{
    uint64_t id = server->id;
    sim_server_crash(server, power_cut);
    sim_after(sim, 50 * SIM_MS + sim_random(sim, 4 * SIM_SECOND), restart_due, server, id, 0, NULL);
}

static void crash_all(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        if (sim->servers[i].alive) {
            crash(sim, &sim->servers[i], true);
        }
    }
}

static void block(struct sim *sim, unsigned from, unsigned to, bool blocked)
{
    if (sim->links[from][to].blocked != blocked) {
        sim->links[from][to].blocked = blocked;
        sim_net_break(sim, from, to);
        sim->breaks++;
    }
}

static void unblock_due(struct sim *sim, void *object, uint64_t from, uint64_t to, struct far_blob *blob)
{
    block(sim, (unsigned)from, (unsigned)to, false);
}

/* One machine alone, or one direction of one pair. */
static void cut_off(struct sim *sim)
{
    unsigned machine = (unsigned)sim_random(sim, SIM_MACHINES);
    uint64_t for_us = 200 * SIM_MS + sim_random(sim, 6 * SIM_SECOND);
    unsigned which = (unsigned)sim_random(sim, 4); /* both ways, in, out, one pair */
    unsigned only = (unsigned)sim_random(sim, SIM_MACHINES);
    sim_count(sim, (enum sim_counted)(SIM_COUNT_ALONE + which));
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        if (i == machine || (which == 3 && i != only)) {
            continue;
        }
        if (which != 2) {
            block(sim, i, machine, true);
            sim_after(sim, for_us, unblock_due, NULL, i, machine, NULL);
        }
        if (which == 0 || which == 2) {
            block(sim, machine, i, true);
            sim_after(sim, for_us, unblock_due, NULL, machine, i, NULL);
        }
    }
}

static void not_full_due(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob)
{
    struct sim_server *server = object;
    sim_disk_set_full(server->disk, false);
    server->slow_us = 0;
}

/* A server's disk or bits of it are to be lost: never a second one before the first has been replaced. */
static bool may_damage(struct sim *sim)
{
    bool may = sim->admin_idle && sim_all_have_history(sim);
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        may = may && !sim->servers[i].damaged;
    }
    sim->admin_idle = sim->admin_idle && !may;
    sim->memory_lost += may;
    return may;
}

/* What a sick disk did shows when the server starts again. */
static void relapse_due(struct sim *sim, void *object, uint64_t id, uint64_t unused, struct far_blob *blob)
{
    struct sim_server *server = object;
    if (server->id == id && server->damaged && server->alive) {
        crash(sim, server, false);
    }
}

static void damage(struct sim *sim, struct sim_server *server, enum sim_fault fault)
{
    uint64_t id = server->id;
    if (!may_damage(sim)) {
        return;
    }
    if (fault == SIM_FAULT_MEMORY) {
        sim_say(sim, "server %llu loses its memory", (unsigned long long)id);
        sim_count(sim, SIM_COUNT_MEMORY);
        sim_server_forget(server);
    } else if (fault == SIM_FAULT_FLIP) {
        sim_server_crash(server, false);
        server->damaged = sim_disk_flip(server->disk);
        sim->counts.of[SIM_COUNT_FLIP] += server->damaged;
        sim_say(sim, "server %llu: a bit of its log is flipped", (unsigned long long)id);
        sim_after(sim, SIM_SECOND, restart_due, server, id, 0, NULL);
    } else if (fault == SIM_FAULT_ROW) {
        server->damaged = far_store_memory_flip(server->store, sim_random(sim, UINT64_MAX));
        sim->counts.of[SIM_COUNT_ROW] += server->damaged;
        sim_say(sim, "server %llu: a bit of a row is flipped", (unsigned long long)id);
    } else {
        server->damaged = true;
        sim_disk_go_astray(server->disk, fault == SIM_FAULT_LOSE);
        sim_say(sim, "server %llu: the next write to its log is %s", (unsigned long long)id,
                fault == SIM_FAULT_LOSE ? "lost" : "misdirected");
        sim_after(sim, 2 * SIM_SECOND + sim_random(sim, 4 * SIM_SECOND), relapse_due, server, id, 0, NULL);
    }
}

static void jump(struct sim *sim, struct sim_server *server)
{
    static const uint64_t spans_ms[] = {60 * 1000ull, 3 * 3600 * 1000ull, 5 * 365 * 24 * 3600 * 1000ull};
    uint64_t span = spans_ms[sim_random(sim, 3)];
    int64_t by_ms = (int64_t)sim_random(sim, 2 * span) - (int64_t)span;
    uint64_t far_ms = (uint64_t)(by_ms < 0 ? -by_ms : by_ms);
    server->wall_off_ms += by_ms;
    sim_count(sim, far_ms > 30 * 24 * HOUR_MS ? SIM_COUNT_CLOCK_YEARS : far_ms > HOUR_MS ? SIM_COUNT_CLOCK_HOURS : SIM_COUNT_CLOCK_MINUTE);
    sim->counts.of[SIM_COUNT_CLOCK_BACK] += by_ms < 0;
    sim_say(sim, "server %llu: its clock is off by %lld s", (unsigned long long)server->id,
            (long long)server->wall_off_ms / 1000);
}

static enum sim_fault draw_fault(struct sim *sim)
{
    unsigned sum = 0, fault = 0;
    for (unsigned i = 0; i < SIM_FAULTS; i++) {
        sum += sim->swarm.weights[i];
    }
    unsigned at = (unsigned)sim_random(sim, sum);
    for (; at >= sim->swarm.weights[fault]; fault++) {
        at -= sim->swarm.weights[fault];
    }
    return (enum sim_fault)fault;
}

static void fault_of_network(struct sim *sim, enum sim_fault fault)
{
    static const uint64_t delays[] = {SIM_MS, 5 * SIM_MS, 20 * SIM_MS, 100 * SIM_MS};
    if (fault == SIM_FAULT_CUT_OFF) {
        cut_off(sim);
    } else if (fault == SIM_FAULT_BREAK) {
        sim_net_break(sim, (unsigned)sim_random(sim, SIM_MACHINES), (unsigned)sim_random(sim, SIM_MACHINES));
    } else if (fault == SIM_FAULT_BLACKOUT) {
        sim_count(sim, SIM_COUNT_BLACKOUT);
        crash_all(sim);
    } else {
        sim->delay_us = delays[sim_random(sim, 4)];
        sim->counts.of[SIM_COUNT_SLOW_NET] += sim->delay_us == delays[3];
    }
}

static void one_fault(struct sim *sim)
{
    enum sim_fault fault = draw_fault(sim);
    struct sim_server *server = any_server(sim);
    if (fault <= SIM_FAULT_DELAY) {
        fault_of_network(sim, fault);
    } else if (server == NULL) {
        return;
    } else if (fault == SIM_FAULT_KILL || fault == SIM_FAULT_POWER) {
        sim_count(sim, fault == SIM_FAULT_POWER ? SIM_COUNT_POWER : SIM_COUNT_KILLED);
        crash(sim, server, fault == SIM_FAULT_POWER);
    } else if (fault == SIM_FAULT_DISK_DIES) { /* bury() finds it dead; it comes back later */
        sim_disk_die_after(server->disk, 1 + sim_random(sim, 12));
    } else if (fault == SIM_FAULT_SLOW) {
        server->slow_us = 300 * SIM_MS;
        sim_count(sim, SIM_COUNT_SLOW_DISK);
        sim_after(sim, 3 * SIM_SECOND, not_full_due, server, 0, 0, NULL);
    } else if (fault == SIM_FAULT_FULL) {
        sim_disk_set_full(server->disk, true);
        sim_after(sim, 3 * SIM_SECOND, not_full_due, server, 0, 0, NULL);
    } else if (fault == SIM_FAULT_CLOCK) {
        jump(sim, server);
    } else {
        damage(sim, server, fault);
    }
}

/* ---- faults at the worst moment ---- */

/* Somebody has just been elected: it is cut off, and those who may have voted for it lose what they did not sync. */
static void coup_due(struct sim *sim, void *object, uint64_t id, uint64_t unused, struct far_blob *blob)
{
    struct sim_server *leader = object;
    if (!sim->trouble || leader->id != id) {
        return;
    }
    sim_say(sim, "a coup against server %llu", (unsigned long long)id);
    sim_count(sim, SIM_COUNT_COUP);
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        struct sim_server *server = &sim->servers[i];
        if (server == leader) {
            continue;
        }
        block(sim, leader->machine, i, true);
        block(sim, i, leader->machine, true);
        sim_after(sim, 3 * SIM_SECOND, unblock_due, NULL, leader->machine, i, NULL);
        sim_after(sim, 3 * SIM_SECOND, unblock_due, NULL, i, leader->machine, NULL);
        if (server->alive) {
            uint64_t voter = server->id;
            sim_server_crash(server, true);
            sim_after(sim, 20 * SIM_MS, restart_due, server, voter, 0, NULL);
        }
    }
}

void sim_faults_elected(struct sim_server *server)
{
    struct sim *sim = server->sim;
    if (sim->trouble && sim_chance(sim, sim->options.broken == SIM_BROKEN_VOTE ? 60 : sim->swarm.coup_percent)) {
        sim_after(sim, sim_random(sim, 5 * SIM_MS), coup_due, server, server->id, 0, NULL);
    }
}

static void blackout_due(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob)
{
    if (sim->trouble) {
        sim_count(sim, SIM_COUNT_ANSWER_CUT);
        crash_all(sim);
    }
}

/* A client has just got its answer: the power goes everywhere. */
void sim_faults_answered(struct sim *sim)
{
    if (sim->trouble && sim_random(sim, 1000) < (sim->options.broken == SIM_BROKEN_SYNC ? 20 : sim->swarm.blackout_permille)) {
        sim_after(sim, sim_random(sim, SIM_MS), blackout_due, NULL, 0, 0, NULL);
    }
}

static void fault_due(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob)
{
    if (!sim->trouble) {
        return;
    }
    if (sim->options.broken == SIM_BROKEN_SYNC || sim->options.broken == SIM_BROKEN_VOTE) {
        cut_off(sim);
    } else {
        one_fault(sim);
    }
    sim_after(sim, 50 * SIM_MS + sim_random(sim, sim->swarm.fault_us), fault_due, NULL, 0, 0, NULL);
}

/* Whoever died by its disk comes back. */
static void watch_due(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob)
{
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        struct sim_server *server = &sim->servers[i];
        if (!server->alive && !server->away && server->id != 0 && sim_chance(sim, 40)) {
            restart(sim, server);
        }
    }
    sim_after(sim, SIM_SECOND, watch_due, NULL, 0, 0, NULL);
}

void sim_faults_start(struct sim *sim)
{
    sim->trouble = true;
    sim_after(sim, SIM_SECOND, fault_due, NULL, 0, 0, NULL);
}

void sim_faults_heal(struct sim *sim)
{
    sim->trouble = false;
    sim->delay_us = 5 * SIM_MS;
    sim_net_heal(sim);
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        sim_disk_set_full(sim->servers[i].disk, false);
        sim_disk_die_after(sim->servers[i].disk, 0);
        sim->servers[i].slow_us = 0;
        if (sim->servers[i].alive && sim->servers[i].damaged) {
            sim_server_crash(&sim->servers[i], false);
        }
        if (!sim->servers[i].alive && !sim->servers[i].away && sim->servers[i].id != 0) {
            sim_server_start(&sim->servers[i]);
        }
    }
}

/* ---- the administrator ---- */

static bool is_member(const struct far_raft_status *status, uint64_t id)
{
    for (size_t i = 0; i < status->member_count; i++) {
        if (status->members[i].id == id) {
            return true;
        }
    }
    return false;
}

/* A member whose machine is gone for good, or else a voter too many. */
static const struct far_raft_member *pick_leaver(struct sim *sim, const struct far_raft_status *status, unsigned voters)
{
    const struct far_raft_member *surplus = NULL;
    for (size_t i = 0; i < status->member_count; i++) {
        const struct far_raft_member *member = &status->members[i];
        const struct sim_server *server = sim_server_of(sim, member->id);
        if (server == NULL || server->away) {
            return member;
        }
        if (voters > sim->voters_wanted && member->voter && surplus == NULL && sim_all_have_history(sim)) {
            surplus = member;
        }
    }
    return surplus;
}

static void hand_over(struct sim_server *leader)
{
    struct far_error err = {0};
    if (far_raft_transfer(leader->raft, 0, &err) == 0) {
        sim_count(leader->sim, SIM_COUNT_TRANSFER);
    }
}

static bool remove_one(struct sim *sim, struct sim_server *leader, const struct far_raft_status *status, unsigned voters)
{
    struct far_error err = {0};
    const struct far_raft_member *member = pick_leaver(sim, status, voters);
    if (member == NULL) {
        return false;
    }
    if (member->id == leader->id) {
        hand_over(leader);
    } else if (far_raft_remove(leader->raft, member->id, &err) == 0) {
        sim_count(sim, SIM_COUNT_REMOVED);
        sim_say(sim, "remove server %llu", (unsigned long long)member->id);
        struct sim_server *server = sim_server_of(sim, member->id);
        if (server != NULL) {
            server->was_removed = true;
        }
        sim->changes++;
    } else {
        sim_say(sim, "not removed: %s", err.message);
    }
    return true;
}

static bool promote_one(struct sim *sim, struct sim_server *leader, const struct far_raft_status *status)
{
    struct far_error err = {0};
    for (size_t i = 0; i < status->member_count; i++) {
        if (!status->members[i].voter) {
            if (far_raft_promote(leader->raft, status->members[i].id, &err) == 0) {
                sim_say(sim, "promote server %llu", (unsigned long long)status->members[i].id);
                sim_count(sim, SIM_COUNT_PROMOTED);
                sim->changes++;
            }
            return true;
        }
    }
    return false;
}

static bool add_one(struct sim *sim, struct sim_server *leader, const struct far_raft_status *status)
{
    struct far_error err = {0};
    if (status->member_count >= sim->voters_wanted) {
        return false;
    }
    struct sim_server *found = NULL;
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        struct sim_server *server = &sim->servers[i];
        if (server->id != 0 && server->incarnation == sim->incarnation && !is_member(status, server->id)) {
            if (server->was_removed && !status->configuration_pending) {
                sim_say(sim, "server %llu is switched off", (unsigned long long)server->id);
                sim_server_forget(server);
                return true;
            }
            found = server->was_removed ? found : server; /* made, but not in yet */
        }
    }
    for (unsigned i = 0; i < SIM_MACHINES && found == NULL; i++) {
        if (sim->servers[i].id == 0) {
            found = &sim->servers[i];
            sim_server_create(sim, i, false);
        }
    }
    if (found != NULL && far_raft_add(leader->raft, found->id, found->address, &err) == 0) {
        sim_say(sim, "add server %llu", (unsigned long long)found->id);
        sim_count(sim, SIM_COUNT_ADDED);
        sim->changes++;
    }
    return true;
}

/* A server that was removed, as a leader in office says, is switched off. */
static void retire(struct sim *sim, const struct far_raft_status *status)
{
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        struct sim_server *server = &sim->servers[i];
        if (server->id != 0 && !server->away && !is_member(status, server->id) && server->meta->applied_index > 1) {
            sim_say(sim, "server %llu is retired", (unsigned long long)server->id);
            sim_server_forget(server);
            return;
        }
    }
}

static void admin_due(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob)
{
    struct sim_server *leader = sim_leader(sim);
    struct far_raft_status status;
    sim_after(sim, ADMIN_US, admin_due, NULL, 0, 0, NULL);
    if (leader == NULL || sim->admin_off) {
        return;
    }
    far_raft_status(leader->raft, &status);
    uint64_t changes = sim->changes;
    if (!status.ready || status.configuration_pending || leader->meta->applied_index < status.configuration_index || leader->fatal) {
        return;
    }
    unsigned voters = 0;
    for (size_t i = 0; i < status.member_count; i++) {
        voters += status.members[i].voter;
    }
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        if (sim->servers[i].damaged) {
            return; /* it is as good as lost: the others must have a majority without it */
        }
    }
    bool busy = remove_one(sim, leader, &status, voters) || promote_one(sim, leader, &status) ||
                add_one(sim, leader, &status);
    if (sim->changes > changes) {
        sim->change_index = status.last_index + 1;
    }
    if (busy) {
        sim->admin_idle = false;
        return;
    }
    retire(sim, &status);
    sim->admin_idle = voters == sim->voters_wanted;
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        sim->admin_idle = sim->admin_idle && !sim->servers[i].damaged;
    }
    /* libraft does not let a server vote that has not heard of being a voter (reference/raft.md section 5): until it has,
     * the loss of another one may stop the cluster, so it does not count as done. */
    for (size_t i = 0; i < status.member_count; i++) {
        const struct far_raft_member *member = &status.members[i];
        sim->admin_idle = sim->admin_idle && (member->id == leader->id || member->match_index >= sim->change_index);
    }
    if (sim->trouble && sim->swarm.membership && sim_chance(sim, 3)) { /* another number of voters, now and then */
        unsigned voters_wanted = 3 + (unsigned)sim_random(sim, 3);
        sim->counts.of[SIM_COUNT_VOTERS] += voters_wanted != sim->voters_wanted;
        sim->voters_wanted = voters_wanted;
    } else if (sim->trouble && sim_chance(sim, 3)) {
        hand_over(leader);
    }
}

void sim_admin_start(struct sim *sim)
{
    sim_after(sim, ADMIN_US, admin_due, NULL, 0, 0, NULL);
    sim_after(sim, SIM_SECOND, watch_due, NULL, 0, 0, NULL);
}
