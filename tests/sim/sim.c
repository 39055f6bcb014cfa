/* The simulation of log, WAL and driver: sim --seeds FROM-TO [--seconds N] [--broken KIND] [--verbose]. See sim.h.
 *
 * Prints TAP. A seed is printed before it runs; a failing one replays exactly with --seeds N-N --verbose. */
#include "sim.h"

#include "base/assert.h"

#include <getopt.h>

enum { BLOCK = 50, HEAL_S = 90 };

struct totals {
    uint64_t seeds, steps, commands, entries, crashes, cuts, breaks, installs, changes, refused, lost, virtual_us;
};

/* Everybody there is has applied everything, and nobody waits. */
static bool is_quiet(struct sim *sim)
{
    struct sim_server *leader = sim_leader(sim);
    uint64_t last = sim_check_last_index(sim->check);
    if (leader == NULL || !sim->admin_idle || sim->now_us % SIM_SECOND > SIM_SECOND / 2) {
        return false;
    }
    for (unsigned i = 0; i < SIM_CLIENTS; i++) {
        if (sim->clients[i].command != 0) {
            return false;
        }
    }
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        struct sim_server *server = &sim->servers[i];
        struct far_raft_status status;
        if (server->id == 0) {
            continue;
        }
        if (!server->alive || server->meta->applied_index != last || server->queue_count > 0) {
            return false;
        }
        far_raft_status(server->raft, &status);
        if (status.last_index != last || status.leader_id != leader->id) {
            return false;
        }
    }
    return true;
}

static bool is_formed(struct sim *sim)
{
    return sim->admin_idle;
}

static void explain(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        struct sim_server *server = &sim->servers[i];
        struct far_raft_status status = {0};
        if (server->id == 0) {
            continue;
        }
        if (server->alive) {
            far_raft_status(server->raft, &status);
        }
        printf("# server %llu: alive %d, applied %llu, last %llu, stored %llu, commit %llu, term %llu, leader %llu, "
               "installing %d, members %zu\n", (unsigned long long)server->id, server->alive,
               (unsigned long long)server->meta->applied_index, (unsigned long long)status.last_index,
               (unsigned long long)status.stored_index, (unsigned long long)status.commit_index,
               (unsigned long long)status.term, (unsigned long long)status.leader_id, status.installing,
               status.member_count);
    }
}

static void run(struct sim *sim)
{
    sim->voters_wanted = sim->options.servers != 0 ? sim->options.servers : 3 + 2 * (unsigned)sim_random(sim, 2);
    sim_server_create(sim, 0, true);
    sim_clients_start(sim);
    sim_admin_start(sim);
    if (!sim_run_until(sim, 60 * SIM_SECOND, is_formed) && !sim->failed) {
        sim_fail(sim, "the cluster was not formed within a minute");
    }
    uint64_t until = sim->now_us + sim->options.seconds * SIM_SECOND;
    sim_faults_start(sim);
    sim_run_until(sim, until, NULL);
    sim_faults_heal(sim);
    uint64_t answers = sim_check_answers(sim->check);
    sim_run_until(sim, sim->now_us + 15 * SIM_SECOND, NULL);
    if (!sim->failed && sim_check_answers(sim->check) == answers) {
        sim_fail(sim, "no command got through in 15 s after everything was healed");
    }
    sim->calm = true;
    if (!sim_run_until(sim, sim->now_us + HEAL_S * (uint64_t)SIM_SECOND, is_quiet) && !sim->failed) {
        sim_fail(sim, "no rest within %d s after everything was healed", HEAL_S);
    }
    if (!sim->failed) {
        sim_check_end(sim->check);
    }
}

static void add_up(struct totals *totals, const struct sim *sim)
{
    totals->seeds++;
    totals->steps += sim->steps;
    totals->commands += sim_check_answers(sim->check);
    totals->entries += sim_check_last_index(sim->check);
    totals->crashes += sim->crashes;
    totals->cuts += sim->cuts;
    totals->breaks += sim->breaks;
    totals->installs += sim->installs;
    totals->changes += sim->changes;
    totals->refused += sim->refused;
    totals->lost += sim->memory_lost;
    totals->virtual_us += sim->now_us;
}

/* false: the alarm was raised. */
static bool run_seed(const struct sim_options *options, struct totals *totals)
{
    struct sim *sim = sim_new(options);
    run(sim);
    add_up(totals, sim);
    bool good = !sim->failed;
    if (!good) {
        printf("# seed %llu at %.6f s: %s\n", (unsigned long long)options->seed, (double)sim->now_us / SIM_SECOND,
               sim->failure);
        explain(sim);
    }
    sim_free(sim);
    return good;
}

static void print_totals(const struct totals *t)
{
    printf("# %llu seeds, %.0f virtual seconds, %llu events, %llu entries, %llu answered commands\n",
           (unsigned long long)t->seeds, (double)t->virtual_us / SIM_SECOND, (unsigned long long)t->steps,
           (unsigned long long)t->entries, (unsigned long long)t->commands);
    printf("# %llu crashes (%llu power cuts), %llu cut links, %llu installed states, %llu membership changes, "
           "%llu lost memories, %llu damaged logs refused\n",
           (unsigned long long)t->crashes, (unsigned long long)t->cuts, (unsigned long long)t->breaks,
           (unsigned long long)t->installs, (unsigned long long)t->changes, (unsigned long long)t->lost,
           (unsigned long long)t->refused);
}

static int run_sound(struct sim_options options, uint64_t from, uint64_t to)
{
    struct totals totals = {0};
    unsigned tests = 0, bad = 0;
    for (uint64_t first = from; first <= to; first += BLOCK) {
        uint64_t last = first + BLOCK - 1 < to ? first + BLOCK - 1 : to;
        bool good = true;
        printf("# seeds %llu-%llu\n", (unsigned long long)first, (unsigned long long)last);
        fflush(stdout);
        for (options.seed = first; options.seed <= last; options.seed++) {
            if (!run_seed(&options, &totals)) {
                good = false;
                printf("# replay: tests/sim/sim --seeds %llu-%llu --seconds %llu --verbose\n",
                       (unsigned long long)options.seed, (unsigned long long)options.seed,
                       (unsigned long long)options.seconds);
                break;
            }
        }
        printf("%s %u - seeds %llu to %llu keep every promise\n", good ? "ok" : "not ok", ++tests,
               (unsigned long long)first, (unsigned long long)last);
        fflush(stdout);
        bad += !good;
    }
    printf("1..%u\n", tests);
    print_totals(&totals);
    return bad != 0;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"seeds", required_argument, NULL, 's'}, {"seconds", required_argument, NULL, 't'},
                                          {"servers", required_argument, NULL, 'n'}, {"broken", required_argument, NULL, 'b'},
                                          {"verbose", no_argument, NULL, 'v'}, {NULL, 0, NULL, 0}};
    struct sim_options options = {.seconds = 30};
    unsigned long long from = 1, to = 500;
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == 's' && sscanf(optarg, "%llu-%llu", &from, &to) == 2) {
            continue;
        } else if (option == 't') {
            options.seconds = strtoull(optarg, NULL, 10);
        } else if (option == 'n') {
            options.servers = (unsigned)strtoul(optarg, NULL, 10);
        } else if (option == 'v') {
            options.verbose = true;
        } else {
            fprintf(stderr, "usage: sim [--seeds FROM-TO] [--seconds N] [--servers N] [--verbose]\n");
            return 2;
        }
    }
    return run_sound(options, from, to);
}
