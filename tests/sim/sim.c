/* The simulation of log, WAL and driver; docs/SIMULATION.md. Without options: the scenarios, what is broken on purpose,
 * and 500 seeds (or as many as FAR_SEEDS says). With --seeds FROM-TO [--seconds N] [--servers N]
 * [--broken sync|vote|apply] [--verbose]: only those.
 *
 * Prints TAP. Seeds are printed before they run; a failing one replays exactly with --seeds N-N --verbose. */
#include "sim.h"

#include "base/assert.h"

#include <getopt.h>
#include <stdarg.h>

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
    if (!sim_clients_idle(sim)) {
        return false;
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
    return sim_consumers_idle(sim, leader->meta->last_seq);
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
        printf("# server %llu: alive %d, events %llu to %llu, applied %llu, last %llu, stored %llu, commit %llu, term %llu, leader %llu, "
               "installing %d, members %zu\n", (unsigned long long)server->id, server->alive,
               (unsigned long long)server->meta->first_seq, (unsigned long long)server->meta->last_seq,
               (unsigned long long)server->meta->applied_index, (unsigned long long)status.last_index,
               (unsigned long long)status.stored_index, (unsigned long long)status.commit_index,
               (unsigned long long)status.term, (unsigned long long)status.leader_id, status.installing,
               status.member_count);
    }
    for (unsigned i = 0; i < sim->swarm.consumers; i++) {
        printf("# consumer %u: event %llu, asking %d\n", i, (unsigned long long)sim->consumers[i].place.seq,
               sim->consumers[i].caller.is_active);
    }
}

/* No progress. With servers that refuse their logs because something is broken on purpose this is no news: what must be
 * seen then is that a promise was broken. */
static void stuck(struct sim *sim, const char *what)
{
    if (!sim->failed && sim->options.broken == SIM_SOUND) {
        sim_fail(sim, "%s", what);
    }
}

static void run(struct sim *sim)
{
    sim->voters_wanted = sim->options.servers != 0 ? sim->options.servers : sim->swarm.servers;
    sim_swarm_say(sim);
    sim_server_create(sim, 0, true);
    sim_clients_start(sim);
    sim_admin_start(sim);
    if (!sim_run_until(sim, 60 * SIM_SECOND, is_formed)) {
        stuck(sim, "the cluster was not formed within a minute");
    }
    uint64_t until = sim->now_us + sim->options.seconds * SIM_SECOND;
    sim_faults_start(sim);
    sim_run_until(sim, until, NULL);
    sim_faults_heal(sim);
    uint64_t answers = sim_check_answers(sim->check);
    sim_run_until(sim, sim->now_us + 15 * SIM_SECOND, NULL);
    if (sim_check_answers(sim->check) == answers) {
        stuck(sim, "no command got through in 15 s after everything was healed");
    }
    sim->calm = true;
    if (!sim_run_until(sim, sim->now_us + HEAL_S * (uint64_t)SIM_SECOND, is_quiet)) {
        stuck(sim, "no rest within 90 s after everything was healed");
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

static unsigned tests, failures;

static void report(bool good, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%s %u - ", good ? "ok" : "not ok", ++tests);
    vprintf(format, args);
    printf("\n");
    fflush(stdout);
    va_end(args);
    failures += !good;
}

static void run_seeds(struct sim_options options, uint64_t from, uint64_t to)
{
    struct totals totals = {0};
    for (uint64_t first = from; first <= to; first += BLOCK) {
        uint64_t last = first + BLOCK - 1 < to ? first + BLOCK - 1 : to;
        bool good = true;
        printf("# seeds %llu-%llu\n", (unsigned long long)first, (unsigned long long)last);
        fflush(stdout);
        for (options.seed = first; options.seed <= last && good; options.seed++) {
            good = run_seed(&options, &totals);
            if (!good) {
                printf("# replay: tests/sim/sim --seeds %llu-%llu --seconds %llu --verbose\n",
                       (unsigned long long)options.seed, (unsigned long long)options.seed,
                       (unsigned long long)options.seconds);
            }
        }
        report(good, "seeds %llu to %llu keep every promise", (unsigned long long)first, (unsigned long long)last);
    }
    print_totals(&totals);
}

/* The alarm must be raised within so many seeds. */
static void expect_alarm(struct sim_options options, enum sim_broken broken, const char *what, uint64_t seeds)
{
    struct totals totals = {0};
    options.broken = broken;
    printf("# broken on purpose: %s, seeds 1-%llu until the alarm\n", what, (unsigned long long)seeds);
    for (options.seed = 1; options.seed <= seeds; options.seed++) {
        if (!run_seed(&options, &totals)) {
            report(true, "the alarm is raised when a server %s (seed %llu)", what, (unsigned long long)options.seed);
            return;
        }
    }
    report(false, "the alarm is raised when a server %s", what);
}

static void run_scenarios(void)
{
    char alarm[FAR_MESSAGE_MAX];
    bool raised = sim_scenario_old_memory(true, alarm, sizeof alarm);
    printf("# %s\n", alarm);
    report(raised && strstr(alarm, "committed it in term") != NULL,
           "a server that lost its memory and keeps its id loses acknowledged commands");
    raised = sim_scenario_old_memory(false, alarm, sizeof alarm);
    printf("# %s\n", raised ? alarm : "nothing was lost");
    report(!raised, "a server that lost its memory and comes back under a new id loses nothing");
}

static int run_all(struct sim_options options)
{
    run_scenarios();
    expect_alarm(options, SIM_BROKEN_APPLY, "applies something else", 5);
    expect_alarm(options, SIM_BROKEN_SYNC, "answers before its fsync", 100);
    expect_alarm(options, SIM_BROKEN_VOTE, "forgets a vote", 200);
    const char *wanted = getenv("FAR_SEEDS");
    run_seeds(options, 1, wanted != NULL && strtoull(wanted, NULL, 10) > 0 ? strtoull(wanted, NULL, 10) : 500);
    printf("1..%u\n", tests);
    return failures != 0;
}

static bool broken_of(const char *name, enum sim_broken *ret)
{
    static const char *const names[] = {"none", "sync", "vote", "apply"};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], name) == 0) {
            *ret = (enum sim_broken)i;
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"seeds", required_argument, NULL, 's'}, {"seconds", required_argument, NULL, 't'},
                                          {"servers", required_argument, NULL, 'n'}, {"broken", required_argument, NULL, 'b'},
                                          {"verbose", no_argument, NULL, 'v'}, {NULL, 0, NULL, 0}};
    struct sim_options options = {.seconds = 30};
    unsigned long long from = 0, to = 0;
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        bool good = true;
        if (option == 's') {
            good = sscanf(optarg, "%llu-%llu", &from, &to) == 2 && from > 0;
        } else if (option == 't') {
            options.seconds = strtoull(optarg, NULL, 10);
        } else if (option == 'n') {
            options.servers = (unsigned)strtoul(optarg, NULL, 10);
        } else if (option == 'b') {
            good = broken_of(optarg, &options.broken);
        } else if (option == 'v') {
            options.verbose = true;
        }
        if (!good || option == '?') {
            fprintf(stderr, "usage: sim [--seeds FROM-TO] [--seconds N] [--servers N] [--broken sync|vote|apply] "
                            "[--verbose]\n");
            return 2;
        }
    }
    if (from == 0) {
        return run_all(options);
    }
    run_seeds(options, from, to);
    printf("1..%u\n", tests);
    return failures != 0;
}
