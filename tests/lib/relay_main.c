/* The relay of relay.h as a program, for benchmarks and tests in other processes.
 *
 *   relay --target HOST:PORT [--rate BITS_PER_S] [--delay-us N] [--queue BYTES] [--window BYTES] [--slow-start]
 *         [--cut-mean-us N] [--seed N]
 *
 * First it prints the address where it listens. Then each line on stdin is a command with one line as its answer: `stats` (a
 * JSON object; forward is from the dialer to the target), `cut` (everything that is open), `black-hole on|off`, `rate N`.
 * It ends when stdin does. */
#include "relay.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_stats(struct relay *relay)
{
    struct relay_stats s = relay_stats(relay);
    printf("{\"forward\": %" PRIu64 ", \"back\": %" PRIu64 ", \"taken_forward\": %" PRIu64 ", \"taken_back\": %" PRIu64
           ", \"queue_forward\": %" PRIu64 ", \"queue_back\": %" PRIu64 ", \"accepted\": %" PRIu64 ", \"open\": %" PRIu64
           ", \"cuts\": %" PRIu64 ", \"idle_forward_us\": %" PRIu64 ", \"idle_back_us\": %" PRIu64 ", \"busy_us\": %" PRIu64 "}\n",
           s.passed[0], s.passed[1], s.taken[0], s.taken[1], s.queue_peak[0], s.queue_peak[1], s.accepted, s.open, s.cuts,
           s.idle_ns[0] / 1000, s.idle_ns[1] / 1000, s.busy_us);
}

static void obey(struct relay *relay, const char *line)
{
    if (strcmp(line, "stats") == 0) {
        print_stats(relay);
        return;
    }
    if (strcmp(line, "cut") == 0) {
        relay_cut_all(relay);
    } else if (strncmp(line, "black-hole ", 11) == 0) {
        relay_black_hole(relay, strcmp(line + 11, "on") == 0);
    } else if (strncmp(line, "rate ", 5) == 0) {
        relay_set_rate(relay, strtoull(line + 5, NULL, 10));
    } else {
        printf("unknown command\n");
        return;
    }
    printf("ok\n");
}

static bool parse(int argc, char **argv, struct relay_config *config)
{
    static const struct option options[] = {
        {"target", required_argument, NULL, 't'},  {"rate", required_argument, NULL, 'r'},
        {"delay-us", required_argument, NULL, 'd'}, {"queue", required_argument, NULL, 'q'},
        {"window", required_argument, NULL, 'w'},  {"slow-start", no_argument, NULL, 'l'},
        {"cut-mean-us", required_argument, NULL, 'c'}, {"seed", required_argument, NULL, 's'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        uint64_t number = optarg != NULL ? strtoull(optarg, NULL, 10) : 0;
        switch (option) {
        case 't': config->target = optarg; break;
        case 'r': config->bits_per_s = number; break;
        case 'd': config->delay_us = number; break;
        case 'q': config->queue_bytes = number; break;
        case 'w': config->window_bytes = number; break;
        case 'l': config->slow_start = true; break;
        case 'c': config->cut_mean_us = number; break;
        case 's': config->seed = number; break;
        default: return false;
        }
    }
    return config->target != NULL && optind == argc;
}

int main(int argc, char **argv)
{
    struct relay_config config = {0};
    char line[256];
    if (!parse(argc, argv, &config)) {
        fprintf(stderr, "usage: relay --target HOST:PORT [--rate BITS] [--delay-us N] [--queue BYTES] [--window BYTES] "
                        "[--slow-start] [--cut-mean-us N] [--seed N]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct relay *relay = relay_new(&config);
    relay_start(relay);
    printf("%s\n", relay_address(relay));
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        obey(relay, line);
    }
    relay_free(relay);
    return 0;
}
