/* The simulation of log, WAL and driver; docs/SIMULATION.md. Without options: 500 seeds, or as many as FAR_SEEDS says. With
 * --seeds FROM-TO [--seconds N] [--servers N] [--broken NAME] [--verbose]: only those; with --forced
 * their stories of a forced recovery. --verbose says what happens when, and in the end how often each fault and story did; over
 * 500 seeds and more each must have happened.
 *
 * Prints TAP. Seeds are printed before they run; a failing one replays exactly with --seeds N-N --verbose. */
#include "sim.h"

#include <getopt.h>
#include <stdlib.h>

enum { BLOCK = 50, SEEDS = 500, WHOLE_SEEDS = 500 };

static void run_seeds(struct sim_options options, uint64_t from, uint64_t to)
{
    struct sim_totals totals = {0};
    for (uint64_t first = from; first <= to; first += BLOCK) {
        uint64_t last = first + BLOCK - 1 < to ? first + BLOCK - 1 : to;
        bool good = true;
        printf("# seeds %llu-%llu\n", (unsigned long long)first, (unsigned long long)last);
        fflush(stdout);
        for (options.seed = first; options.seed <= last && good; options.seed++) {
            good = sim_run_seed(&options, &totals);
            if (!good) {
                printf("# replay: tests/sim/sim --seeds %llu-%llu --seconds %llu --verbose\n",
                       (unsigned long long)options.seed, (unsigned long long)options.seed,
                       (unsigned long long)options.seconds);
            }
        }
        sim_report(good, "seeds %llu to %llu keep every promise", (unsigned long long)first, (unsigned long long)last);
    }
    sim_print_totals(&totals);
    if (options.verbose) {
        sim_counts_print(&totals.counts, 0, SIM_COUNT_SEEDS_END);
        sim_counts_print(&totals.counts, SIM_COUNT_FORCED_END, SIM_COUNTS);
    }
    if (totals.seeds >= WHOLE_SEEDS && options.broken == SIM_SOUND) {
        sim_report(sim_counts_whole(&totals.counts, 0, SIM_COUNT_SEEDS_END),
                   "in %llu seeds every kind of fault and every story happened", (unsigned long long)totals.seeds);
    }
}

/* The story of sim_forced.c. */
static void run_forced(struct sim_options options, uint64_t from, uint64_t to)
{
    struct sim_counts counts = {0};
    for (options.seed = from; options.seed <= to; options.seed++) {
        char alarm[FAR_MESSAGE_MAX];
        uint64_t lost;
        bool alarmed = sim_scenario_forced(&options, alarm, sizeof alarm, &lost, &counts);
        sim_report(!alarmed, "forced recovery, seed %llu, %llu acknowledged commands stated as lost: %s",
                   (unsigned long long)options.seed, (unsigned long long)lost, alarm);
    }
    if (options.verbose) {
        sim_counts_print(&counts, 0, SIM_COUNTS);
    }
}

static bool broken_of(const char *name, enum sim_broken *ret)
{
    static const char *const names[] = {"none", "sync", "vote", "apply", "term", "twice", "event", "id", "lease", "head", "compact"};
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
                                          {"verbose", no_argument, NULL, 'v'}, {"forced", no_argument, NULL, 'f'}, {NULL, 0, NULL, 0}};
    struct sim_options options = {.seconds = 30};
    unsigned long long from = 0, to = 0;
    bool is_forced = false;
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
        } else if (option == 'f') {
            is_forced = true;
        } else if (option == 'v') {
            options.verbose = true;
        }
        if (!good || option == '?') {
            fprintf(stderr, "usage: sim [--seeds FROM-TO] [--seconds N] [--servers N] [--verbose] [--forced]\n"
                            "           [--broken sync|vote|apply|term|twice|event|id|lease|head|compact]\n");
            return 2;
        }
    }
    if (from == 0) {
        const char *wanted = getenv("FAR_SEEDS");
        unsigned long long count = wanted == NULL ? 0 : strtoull(wanted, NULL, 10);
        from = 1;
        to = count > 0 ? count : SEEDS;
    }
    if (is_forced) {
        run_forced(options, from, to);
        return sim_report_end();
    }
    run_seeds(options, from, to);
    return sim_report_end();
}
