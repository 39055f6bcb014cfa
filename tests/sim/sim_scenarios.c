/* Scenarios told step by step: what happens when a server that lost its memory keeps its id, and when it does not.
 *
 * Three servers. The third is cut off; commands are acknowledged by the first two. The leader dies. The second comes back
 * as it was before those commands (its machine was put back to an older copy). Under its old id it makes a majority with
 * the third, which knows nothing of them: acknowledged commands are lost. Under a new id, as DESIGN.md section 6 wants it,
 * it has no vote: nothing goes on until the leader is back, and nothing is lost. */
#include "sim.h"

static bool is_formed(struct sim *sim)
{
    return sim->admin_idle && sim_check_answers(sim->check) > 0;
}

static bool nobody_waits(struct sim *sim)
{
    return sim_clients_idle(sim);
}

static void isolate(struct sim *sim, unsigned machine, bool isolated)
{
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        sim->links[i][machine].blocked = sim->links[machine][i].blocked = isolated;
        sim_net_break(sim, i, machine);
        sim_net_break(sim, machine, i);
    }
}

/* A leader of three, and the two others. */
static bool begin(struct sim *sim, struct sim_server *ret_three[3])
{
    sim->voters_wanted = 3;
    sim_server_create(sim, 0, true);
    sim_clients_start(sim);
    sim_admin_start(sim);
    if (!sim_run_until(sim, 60 * SIM_SECOND, is_formed)) {
        sim_fail(sim, "the cluster was not formed");
        return false;
    }
    sim->admin_off = true;
    unsigned others = 1;
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        struct sim_server *server = &sim->servers[i];
        if (server == sim_leader(sim)) {
            ret_three[0] = server;
        } else if (server->id != 0 && others < 3) {
            ret_three[others++] = server;
        }
    }
    return true;
}

static bool all_is_well(struct sim *sim)
{
    return nobody_waits(sim) && sim->admin_idle;
}

/* true: the alarm was raised. */
static bool old_memory(struct sim *sim, bool keeps_id)
{
    struct sim_server *three[3];
    if (!begin(sim, three)) {
        return true;
    }
    struct sim_copy copy = sim_server_copy(three[1]);
    isolate(sim, three[2]->machine, true);
    uint64_t answers = sim_check_answers(sim->check);
    sim_run_until(sim, sim->now_us + 3 * SIM_SECOND, NULL);
    sim->calm = true;
    sim_run_until(sim, sim->now_us + 5 * SIM_SECOND, nobody_waits);
    if (sim_check_answers(sim->check) < answers + 10) {
        sim_fail(sim, "two of three acknowledged nothing");
    }
    unsigned machine = three[1]->machine;
    sim_server_crash(three[0], false);
    uint64_t leader_id = three[0]->id;
    three[0]->id = 0; /* so that nobody starts it again yet */
    sim_server_forget(three[1]);
    if (keeps_id) {
        sim_server_return(sim, machine, &copy);
    } else {
        sim_disk_free(copy.disk);
        far_store_close(copy.store);
        sim_server_create(sim, machine, false);
    }
    isolate(sim, three[2]->machine, false);
    answers = sim_check_answers(sim->check);
    sim->calm = false;
    sim_run_until(sim, sim->now_us + 10 * SIM_SECOND, NULL);
    if (!keeps_id && sim_check_answers(sim->check) != answers) {
        sim_fail(sim, "a server with a new id voted");
    }
    three[0]->id = leader_id;
    sim->admin_off = sim->admin_idle = false;
    sim_server_start(three[0]);
    sim_run_until(sim, sim->now_us + 10 * SIM_SECOND, NULL);
    sim->calm = true;
    if (!sim_run_until(sim, sim->now_us + 60 * SIM_SECOND, all_is_well) && !sim->failed) {
        sim_fail(sim, "no rest after the leader came back");
    }
    if (!sim->failed) {
        sim_check_end(sim->check);
    }
    return sim->failed;
}

bool sim_scenario_old_memory(bool keeps_id, char *ret_alarm, size_t size)
{
    struct sim_options options = {.seed = 1, .servers = 3};
    struct sim *sim = sim_new(&options);
    sim->swarm = sim_swarm_plain();
    bool alarmed = old_memory(sim, keeps_id);
    snprintf(ret_alarm, size, "%s", sim->failure);
    sim_free(sim);
    return alarmed;
}
