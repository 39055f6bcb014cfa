/* Forced quorum recovery under fire: a majority is lost for good, the survivor with the most goes on alone with the real
 * far_raft_recover(), the others join anew, and those that were lost return. See sim.h.
 *
 * What any survivor had stored must be in the log that goes on; what was acknowledged and only the lost servers held is
 * stated, and forgotten by the checkers. The returned are of the older incarnation: nobody hears them. */
#include "sim.h"

#include "base/assert.h"

struct survivor {
    struct sim_server *server;
    struct far_raft_end end;
    uint64_t same_index; /* up to here its log is what was committed */
};

/* Entries behind its state: where another one was committed, by servers that are lost, the histories part. */
static int compare_entry(void *arg, const struct far_wal_entry *entry, struct far_error *err)
{
    struct survivor *one = arg;
    bool is_same = sim_check_is_same(one->server->sim->check, entry);
    if (is_same && one->same_index + 1 == entry->index) {
        one->same_index = entry->index;
    }
    return 0;
}

static bool is_formed(struct sim *sim)
{
    return sim->admin_idle && sim_check_answers(sim->check) > 0;
}

/* The disaster begins with the links: for a while the others go on without this machine, and answer. */
static void cut_off(struct sim *sim, unsigned machine)
{
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        sim->links[machine][i].blocked = sim->links[i][machine].blocked = i != machine;
        sim_net_break(sim, machine, i);
        sim_net_break(sim, i, machine);
    }
    sim_run_until(sim, sim->now_us + sim_random(sim, 3 * SIM_SECOND), NULL);
}

/* Some of the voters stay, fewer than a majority, beginning with this machine; everybody else is away. Returns how many stay. */
static unsigned strike(struct sim *sim, unsigned first, struct survivor survivors[SIM_MACHINES])
{
    unsigned voters = 0, stay, count = 0;
    struct far_raft_status status;
    struct sim_server *leader = sim_leader(sim);
    if (leader == NULL) {
        return 0;
    }
    far_raft_status(leader->raft, &status);
    for (size_t i = 0; i < status.member_count; i++) {
        voters += status.members[i].voter;
    }
    stay = 1 + (unsigned)sim_random(sim, (voters - 1) / 2);
    for (unsigned i = 0, at = first; i < SIM_MACHINES; i++, at++) {
        struct sim_server *server = &sim->servers[at % SIM_MACHINES];
        if (server->id == 0) {
            continue;
        }
        bool stays = count < stay && server->alive && !server->damaged && server->meta->applied_index > 1;
        sim_server_crash(server, sim_chance(sim, 50));
        server->away = !stays;
        if (stays) {
            survivors[count++].server = server;
        }
    }
    return count;
}

/* The one with the greatest (last term, last index); ret_term: the highest that any of them knows. */
static struct survivor *most_of(struct sim *sim, struct survivor *survivors, unsigned count, uint64_t *ret_term)
{
    struct survivor *most = NULL;
    struct far_error err = {0};
    for (unsigned i = 0; i < count; i++) {
        struct survivor *one = &survivors[i];
        sim_server_read_meta(one->server);
        struct far_raft_config config = sim_server_config(one->server);
        one->same_index = one->server->meta->applied_index;
        if (far_raft_find_end(&config, compare_entry, one, &one->end, &err) != 0) {
            sim_fail(sim, "server %llu does not know its end: %s", (unsigned long long)one->server->id, err.message);
            return NULL;
        }
        *ret_term = one->end.term > *ret_term ? one->end.term : *ret_term;
        most = most == NULL || far_raft_end_compare(&one->end, &most->end) > 0 ? one : most;
    }
    return most;
}

static void recover(struct sim *sim, struct survivor *survivors, unsigned count, uint64_t *ret_lost)
{
    uint64_t term = 0;
    struct far_error err = {0};
    struct survivor *most = most_of(sim, survivors, count, &term);
    if (most == NULL) {
        return;
    }
    sim_say(sim, "server %llu goes on alone from entry %llu of term %llu", (unsigned long long)most->server->id,
            (unsigned long long)most->end.last_index, (unsigned long long)most->end.last_term);
    sim_net_heal(sim);
    for (unsigned i = 0; i < count; i++) {
        if (&survivors[i] != most) {
            sim_server_forget(survivors[i].server);
        }
    }
    struct far_raft_config config = sim_server_config(most->server);
    if (far_raft_recover(&config, term + FAR_RAFT_RECOVERY_TERMS, &err) != 0) {
        sim_fail(sim, "server %llu cannot go on: %s", (unsigned long long)most->server->id, err.message);
        return;
    }
    *ret_lost = sim_check_recover(sim->check, most->same_index);
    sim->incarnation++;
    sim_count(sim, SIM_COUNT_FORCED);
    sim->counts.of[SIM_COUNT_FORCED_LOST] += *ret_lost;
    most->server->incarnation = sim->incarnation;
    sim->voters_wanted = 3;
    sim->admin_off = sim->admin_idle = false;
    sim_server_start(most->server);
}

/* They start as they were, find each other, and nobody else; then their machines are given away. */
static void let_return(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        if (sim->servers[i].away && !sim->servers[i].alive) {
            sim_server_start(&sim->servers[i]);
        }
    }
}

static void take_away(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        if (sim->servers[i].away) {
            sim_server_forget(&sim->servers[i]);
        }
    }
}

/* Three machines for the new voters; the lost servers on others may return. */
static void make_room(struct sim *sim)
{
    unsigned away = 0;
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        away += sim->servers[i].away;
        if (sim->servers[i].away && away > SIM_MACHINES - 3) {
            sim_server_forget(&sim->servers[i]);
        }
    }
}

static bool has_leader(struct sim *sim)
{
    return sim_leader(sim) != NULL && sim->now_us % SIM_SECOND < SIM_SECOND / 10;
}

static void tell(struct sim *sim, uint64_t *ret_lost)
{
    struct survivor survivors[SIM_MACHINES] = {0};
    sim->voters_wanted = sim->swarm.servers;
    sim_server_create(sim, 0, true);
    sim_clients_start(sim);
    sim_admin_start(sim);
    sim_run_until(sim, 60 * SIM_SECOND, is_formed);
    sim_faults_start(sim);
    sim_run_until(sim, sim->now_us + 10 * SIM_SECOND, NULL);
    if (!sim_run_until(sim, sim->now_us + 60 * SIM_SECOND, has_leader)) {
        sim_fail(sim, "no leader before the disaster");
        return;
    }
    sim->admin_off = true;
    sim->trouble = false;
    unsigned first = (unsigned)sim_random(sim, SIM_MACHINES);
    if (sim_chance(sim, 50)) {
        cut_off(sim, first);
    }
    unsigned count = strike(sim, first, survivors);
    if (count == 0) { /* nobody who could go on */
        return;
    }
    recover(sim, survivors, count, ret_lost);
    make_room(sim);
    /* While one voter becomes two a crash may stop the cluster for good: libraft's second does not vote before it has heard
     * that it may (docs/SIMULATION.md). So the returners come, but no other fault until there are three. */
    let_return(sim);
    if (!sim_run_until(sim, sim->now_us + 60 * SIM_SECOND, is_formed)) {
        sim_fail(sim, "no new voters joined after the recovery");
        return;
    }
    sim_faults_start(sim);
    sim_run_until(sim, sim->now_us + 10 * SIM_SECOND, NULL);
    sim_faults_heal(sim);
    uint64_t answers = sim_check_answers(sim->check);
    sim_run_until(sim, sim->now_us + 15 * SIM_SECOND, NULL);
    if (sim_check_answers(sim->check) == answers) {
        sim_fail(sim, "no command got through after the recovery");
    }
    take_away(sim);
    sim->calm = true;
    if (!sim_run_until(sim, sim->now_us + 90 * SIM_SECOND, sim_is_quiet) && !sim->failed) {
        sim_fail(sim, "no rest after the recovery");
    }
    if (!sim->failed) {
        sim_check_end(sim->check);
    }
}

bool sim_scenario_forced(const struct sim_options *options, char *ret_alarm, size_t size, uint64_t *ret_lost,
                         struct sim_counts *counts)
{
    struct sim *sim = sim_new(options);
    sim->swarm.consumers = 0; /* what a consumer had of the lost entries is of another history, as its cursor says */
    sim->swarm.membership = false;
    sim->swarm.heads = sim->swarm.retention = false;
    *ret_lost = 0;
    tell(sim, ret_lost);
    bool alarmed = sim->failed;
    snprintf(ret_alarm, size, "%s", sim->failure);
    sim_counts_add(counts, &sim->counts);
    sim_free(sim);
    return alarmed;
}
