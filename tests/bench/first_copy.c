/* One first copy of an image between two nodes' engines over TLS on loopback: the program behind bench_first_copy.py.
 *
 * first_copy <image>: everything else is made in $TMPDIR and removed. Prints the seconds from the start of send and
 * receive to the end of both: every block read, hashed, sent, checked, stored and durable, and both roots known and
 * equal. It never compresses (nbdcopy does not either: like against like, and AUTO might begin to in a slow moment);
 * FAR_COMPRESS=0 lets the engine decide, 1 compresses. The processor time is that of both engines. */
#include "../lib/engine_pair.h"

#include "base/clock.h"
#include "dataplane/leaf_lanes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { RECEIVE = 2, SEND = 3 };

static double processor_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static double copy(struct engine_pair *pair, const char *image, uint64_t size)
{
    struct far_engine_order receive = {
        .job_id = 1, .task = RECEIVE, .attempt = 1, .kind = FAR_ENGINE_RECEIVE, .incarnation_epoch = 1, .plan_epoch = 1,
        .disk_id = 5, .disk = "disk", .size_bytes = size, .peer_node_id = PAIR_SOURCE,
    };
    struct far_engine_order send = receive;
    struct far_error err;
    send.task = SEND;
    send.kind = FAR_ENGINE_SEND;
    send.adapter = "file";
    send.locator = image;
    send.freeze_ref = "live:1";
    send.peer_node_id = PAIR_TARGET;
    send.peer_address = far_engine_data_address(pair->target);
    double processor_before = processor_seconds();
    uint64_t began = far_clock_monotonic_ns();
    if (far_engine_start(pair->target, &receive, &err) != 0 || far_engine_start(pair->source, &send, &err) != 0) {
        fprintf(stderr, "first_copy: %s\n", err.message);
        exit(1);
    }
    struct far_engine_report sent = pair_wait(pair, 1, SEND, 1), received = pair_wait(pair, 1, RECEIVE, 1);
    double seconds = (double)(far_clock_monotonic_ns() - began) / 1e9, processor = processor_seconds() - processor_before;
    if (sent.state != FAR_ENGINE_DONE || received.state != FAR_ENGINE_DONE || memcmp(sent.root, received.root, 32) != 0) {
        fprintf(stderr, "first_copy: failed: %s %s\n", sent.error_message, received.error_message);
        exit(1);
    }
    static const char *const compressed[] = {"compressed when it pays", "compressed", "not compressed"};
    fprintf(stderr, "first_copy: %.3f s, %.2f of the processor, %s, %llu MiB on the wire (%s)\n", seconds, processor,
            far_leaf_lanes_name(), (unsigned long long)(sent.bytes_sent >> 20), compressed[pair->config.compress]);
    return seconds;
}

int main(int argc, char **argv)
{
    struct engine_pair pair;
    struct far_engine_config config = {0};
    const char *compress = getenv("FAR_COMPRESS");
    config.compress = compress != NULL ? (enum far_engine_compress)atoi(compress) : FAR_ENGINE_COMPRESS_NEVER;
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        fprintf(stderr, "usage: first_copy <image>\n");
        return 2;
    }
    uint64_t size = (uint64_t)ftell(file);
    fclose(file);
    pair_init(&pair, "bench", &config);
    printf("%.3f\n", copy(&pair, argv[1], size));
    pair_done(&pair);
    return 0;
}
