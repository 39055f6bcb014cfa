/* What is broken on purpose: for each promise a server, a stream or a client that breaks it, and the simulation must raise
 * the alarm; docs/SIMULATION.md. And the stories of a lost memory, step by step. Prints TAP. */
#include "sim.h"

/* The alarm must be raised within so many seeds. */
static void expect_alarm(struct sim_options options, const char *what, uint64_t seeds)
{
    struct sim_totals totals = {0};
    printf("# broken on purpose: %s, seeds 1-%llu until the alarm\n", what, (unsigned long long)seeds);
    for (options.seed = 1; options.seed <= seeds; options.seed++) {
        if (!sim_run_seed(&options, &totals)) {
            sim_report(true, "the alarm is raised when %s (seed %llu)", what, (unsigned long long)options.seed);
            return;
        }
    }
    sim_report(false, "the alarm is raised when %s", what);
}

static void run_scenarios(void)
{
    char alarm[FAR_MESSAGE_MAX];
    bool raised = sim_scenario_old_memory(true, alarm, sizeof alarm);
    printf("# %s\n", alarm);
    sim_report(raised && strstr(alarm, "committed it in term") != NULL,
           "a server that lost its memory and keeps its id loses acknowledged commands");
    raised = sim_scenario_old_memory(false, alarm, sizeof alarm);
    printf("# %s\n", raised ? alarm : "nothing was lost");
    sim_report(!raised, "a server that lost its memory and comes back under a new id loses nothing");
}

static void run_forced(void)
{
    enum { FORCED_SEEDS = 40 };
    char alarm[FAR_MESSAGE_MAX];
    uint64_t lost, lost_all = 0;
    struct sim_counts counts = {0};
    bool good = true;
    printf("# forced recovery, seeds 1-%d\n", FORCED_SEEDS);
    struct sim_options options = {.seconds = 10};
    for (options.seed = 1; options.seed <= FORCED_SEEDS; options.seed++) {
        if (sim_scenario_forced(&options, alarm, sizeof alarm, &lost, &counts)) {
            printf("# seed %llu: %s\n", (unsigned long long)options.seed, alarm);
            good = false;
        }
        lost_all += lost;
    }
    printf("# acknowledged by lost servers only, and stated: %llu commands\n", (unsigned long long)lost_all);
    sim_report(good, "a forced recovery under fire keeps what survivors held, and goes on without those that return");
    sim_report(sim_counts_whole(&counts, SIM_COUNT_FORCED, SIM_COUNT_FORCED_END),
               "servers were lost with acknowledged commands, and those that returned were refused");
}

int main(void)
{
    static const struct {
        enum sim_broken broken;
        const char *what;
        uint64_t seeds;
    } all[] = {
        {SIM_BROKEN_SYNC, "a server answers before its fsync", 100},
        {SIM_BROKEN_TERM, "a server skips the check of the term", 100},
        {SIM_BROKEN_TWICE, "a server applies an entry twice", 50},
        {SIM_BROKEN_VOTE, "a server forgets a vote", 200},
        {SIM_BROKEN_EVENT, "a stream drops an event", 20},
        {SIM_BROKEN_ID, "a client uses a command id again", 20},
        {SIM_BROKEN_LEASE, "leases expire on a change of leader", 100},
        {SIM_BROKEN_HEAD, "a leader proposes another head than its own", 20},
        {SIM_BROKEN_COMPACT, "a server compacts events that the log did not decide", 20},
        {SIM_BROKEN_APPLY, "a server applies something else", 20},
    };
    run_scenarios();
    run_forced();
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct sim_options options = {.seconds = 30, .broken = all[i].broken};
        expect_alarm(options, all[i].what, all[i].seeds);
    }
    return sim_report_end();
}
