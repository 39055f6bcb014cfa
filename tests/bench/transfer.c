/* Measures transfers of disks between a source and a target engine over TLS: the program behind the benchmarks of the engine.
 *
 *   transfer --dir DIR [--adapter NAME] [--memory BYTES] [--workers N] [--compress auto|always|never] [--one-process]
 *            [--verbose] DISK…
 *
 * DIR must exist; what is made in it (pki, cache, vault) stays. First it prints, as one JSON object a line like everything
 * else, where the target listens and the process ids of both nodes. Then it obeys lines on stdin until that ends:
 *   through ADDRESS   from now on the source dials there, a relay
 *   cycle             freezes all disks and transfers them at once, against what the last good cycle proved, if there was one,
 *                     with the platform's list of changes, if it keeps one; then the views are released as proven
 *   cycle nolist      the same without the list
 * and prints what came of it. Time runs from the first order to the last report of a send or receive; processor seconds
 * are those of the nodes in this time; memory is the most of RssAnon and RssShmem together that a node had in it, looked at
 * every few milliseconds. */
#include "transfer_node.h"

#include "../lib/made_pki.h"

#include "base/clock.h"

#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SAMPLE_MS = 4, CYCLE_MS_MAX = 800 * 1000 };

struct disk {
    bool has_base;
    uint8_t base_root[32];
    char token[128]; /* of the base */
    struct node_message frozen;
    struct far_engine_report sent, received;
};

struct node_figures {
    pid_t pid;
    int fd;
    _Atomic uint64_t peak_kib;
    double user_seconds, system_seconds; /* at the start of the cycle, then of it */
};

static struct node_config config = {.adapter = "file", .compress = FAR_ENGINE_COMPRESS_NEVER, .cluster_byte = 0xfa};
static struct node_figures nodes[2]; /* source, target; of one process: twice the same */
static size_t node_count = 2;
static struct disk disks[NODE_DISKS_MAX];
static char dial_address[64];
static uint64_t cycles;

/* ---- memory ---- */

static uint64_t resident_kib(pid_t pid)
{
    char path[64], line[128];
    unsigned long long kib = 0, sum = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "RssAnon: %llu", &kib) == 1 || sscanf(line, "RssShmem: %llu", &kib) == 1) {
            sum += kib;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return sum;
}

static void *sample_main(void *arg)
{
    const struct timespec pause = {.tv_nsec = SAMPLE_MS * 1000000L};
    for (;;) {
        for (size_t i = 0; i < node_count; i++) {
            uint64_t kib = resident_kib(nodes[i].pid);
            if (kib > atomic_load(&nodes[i].peak_kib)) {
                atomic_store(&nodes[i].peak_kib, kib);
            }
        }
        nanosleep(&pause, NULL); /* far-poll: /proc says nothing by itself */
    }
    return NULL;
}

/* ---- orders ---- */

static int fd_of(enum far_engine_kind kind)
{
    return nodes[kind == FAR_ENGINE_RECEIVE ? node_count - 1 : 0].fd;
}

static void order(size_t i, enum far_engine_kind kind, bool with_list)
{
    struct disk *disk = &disks[i];
    struct node_message message = {
        .said = NODE_START,
        .kind = kind,
        .disk = i,
        .job = cycles * 1000 + i,
        .size_bytes = disk->frozen.found_bytes,
        .has_base = disk->has_base,
        .proven = kind == FAR_ENGINE_RELEASE,
    };
    memcpy(message.base_root, disk->base_root, sizeof message.base_root);
    snprintf(message.freeze_ref, sizeof message.freeze_ref, "%s", disk->frozen.report.freeze_ref);
    if (kind == FAR_ENGINE_SEND) {
        snprintf(message.address, sizeof message.address, "%s", dial_address);
        snprintf(message.since, sizeof message.since, "%s", with_list && disk->has_base ? disk->token : "");
    }
    node_send(fd_of(kind), &message);
}

static void note(const struct node_message *message)
{
    struct disk *disk = &disks[message->job % 1000];
    switch (message->report.task) {
    case NODE_TASK_FREEZE:
        disk->frozen = *message;
        break;
    case NODE_TASK_SEND:
        disk->sent = message->report;
        break;
    case NODE_TASK_RECEIVE:
        disk->received = message->report;
        break;
    default:
        break;
    }
}

/* Waits for as many last reports from both nodes. */
static void wait_for(size_t ends)
{
    uint64_t deadline_ms = far_clock_monotonic_ms() + CYCLE_MS_MAX;
    for (size_t at = 0; ends > 0; at = (at + 1) % node_count) {
        struct node_message message;
        while (ends > 0 && node_receive(nodes[at].fd, &message, node_count == 1 ? 100 : 1)) {
            note(&message);
            ends--;
        }
        if (far_clock_monotonic_ms() > deadline_ms) {
            fprintf(stderr, "transfer: a cycle did not end\n");
            exit(1);
        }
    }
}

/* The difference to the last call, of both nodes. */
static void usage(void)
{
    for (size_t i = 0; i < node_count; i++) {
        struct node_message message = {.said = NODE_USAGE};
        node_send(nodes[i].fd, &message);
        while (!node_receive(nodes[i].fd, &message, 1000) || message.said != NODE_USED) {
        }
        nodes[i].user_seconds = message.user_seconds - nodes[i].user_seconds;
        nodes[i].system_seconds = message.system_seconds - nodes[i].system_seconds;
    }
}

/* ---- a cycle ---- */

static void print_text(const char *text)
{
    for (; *text != '\0'; text++) {
        printf((unsigned char)*text < 0x20 || *text == '"' || *text == '\\' ? "\\u%04x" : "%c", *text);
    }
}

static void print_cycle(double taken)
{
    uint64_t sent = 0, changed = 0, read = 0, zero = 0, known = 0, wanted = 0, total = 0;
    size_t good = 0;
    const char *error = "", *resync = "";
    for (size_t i = 0; i < config.disk_count; i++) {
        const struct disk *disk = &disks[i];
        good += disk->has_base && disk->sent.state == FAR_ENGINE_DONE && disk->received.state == FAR_ENGINE_DONE;
        sent += disk->sent.bytes_sent;
        changed += disk->sent.bytes_changed;
        total += disk->sent.bytes_total;
        read += disk->sent.figures.bytes_read;
        zero += disk->sent.figures.bytes_zero;
        known += disk->sent.figures.bytes_known;
        wanted += disk->sent.figures.bytes_wanted;
        error = disk->sent.error_message[0] != '\0' ? disk->sent.error_message
                : disk->received.error_message[0] != '\0' ? disk->received.error_message : error;
        resync = disk->sent.resync_reason[0] != '\0' ? disk->sent.resync_reason : resync;
    }
    printf("{\"seconds\": %.6f, \"good\": %zu, \"disks\": %zu, \"bytes_total\": %llu, \"bytes_sent\": %llu, "
           "\"bytes_changed\": %llu, \"bytes_read\": %llu, \"bytes_zero\": %llu, \"bytes_known\": %llu, \"bytes_wanted\": %llu",
           taken, good, config.disk_count, (unsigned long long)total, (unsigned long long)sent, (unsigned long long)changed,
           (unsigned long long)read, (unsigned long long)zero, (unsigned long long)known, (unsigned long long)wanted);
    for (size_t i = 0; i < node_count; i++) {
        const char *who = node_count == 1 ? "both" : i == 0 ? "source" : "target";
        printf(", \"%s\": {\"user\": %.3f, \"system\": %.3f, \"peak_kib\": %llu}", who, nodes[i].user_seconds,
               nodes[i].system_seconds, (unsigned long long)atomic_load(&nodes[i].peak_kib));
    }
    printf(", \"error\": \"");
    print_text(error);
    printf("\", \"resync\": \"");
    print_text(resync);
    printf("\"}\n");
}

/* What both proved is the base of the next cycle. */
static void accept_root(struct disk *disk)
{
    bool good = disk->sent.state == FAR_ENGINE_DONE && disk->received.state == FAR_ENGINE_DONE && disk->sent.has_root &&
                memcmp(disk->sent.root, disk->received.root, 32) == 0;
    disk->has_base = good;
    if (good) {
        memcpy(disk->base_root, disk->sent.root, 32);
        memcpy(disk->token, disk->frozen.token, sizeof disk->token);
    }
}

static void cycle(bool with_list)
{
    cycles++;
    for (size_t i = 0; i < config.disk_count; i++) {
        disks[i].frozen = (struct node_message){0};
        order(i, FAR_ENGINE_FREEZE, false);
    }
    wait_for(config.disk_count);
    for (size_t i = 0; i < config.disk_count; i++) {
        if (disks[i].frozen.report.state != FAR_ENGINE_DONE) {
            fprintf(stderr, "transfer: %s\n", disks[i].frozen.report.error_message);
            exit(1);
        }
    }
    for (size_t i = 0; i < node_count; i++) {
        nodes[i].user_seconds = nodes[i].system_seconds = 0;
        atomic_store(&nodes[i].peak_kib, 0);
    }
    usage();
    uint64_t began = far_clock_monotonic_ns();
    for (size_t i = 0; i < config.disk_count; i++) {
        order(i, FAR_ENGINE_RECEIVE, false);
        order(i, FAR_ENGINE_SEND, with_list);
    }
    wait_for(2 * config.disk_count);
    double taken = (double)(far_clock_monotonic_ns() - began) / 1e9;
    usage();
    for (size_t i = 0; i < config.disk_count; i++) {
        accept_root(&disks[i]);
    }
    for (size_t i = 0; i < config.disk_count; i++) {
        order(i, FAR_ENGINE_RELEASE, false);
    }
    wait_for(config.disk_count);
    print_cycle(taken);
}

/* ---- the program ---- */

static bool parse(int argc, char **argv)
{
    static const struct option options[] = {
        {"dir", required_argument, NULL, 'd'},     {"adapter", required_argument, NULL, 'a'},
        {"memory", required_argument, NULL, 'm'},  {"workers", required_argument, NULL, 'w'},
        {"compress", required_argument, NULL, 'c'}, {"one-process", no_argument, NULL, '1'},
        {"verbose", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'd': snprintf(config.dir, sizeof config.dir, "%s", optarg); break;
        case 'a': config.adapter = optarg; break;
        case 'm': config.memory_bytes = strtoull(optarg, NULL, 10); break;
        case 'w': config.worker_count = (uint32_t)atoi(optarg); break;
        case 'c':
            config.compress = strcmp(optarg, "always") == 0 ? FAR_ENGINE_COMPRESS_ALWAYS
                              : strcmp(optarg, "auto") == 0 ? FAR_ENGINE_COMPRESS_AUTO : FAR_ENGINE_COMPRESS_NEVER;
            break;
        case '1': node_count = 1; break;
        case 'v': config.verbose = true; break;
        default: return false;
        }
    }
    for (; optind < argc && config.disk_count < NODE_DISKS_MAX; optind++) {
        config.disks[config.disk_count++] = argv[optind];
    }
    return config.dir[0] != '\0' && config.disk_count > 0 && optind == argc;
}

static void make_pki(void)
{
    char path[300];
    struct far_test_pki pki;
    snprintf(path, sizeof path, "%s/cache", config.dir);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/pki", config.dir);
    if (mkdir(path, 0700) != 0) {
        perror(path);
        exit(1);
    }
    far_test_pki_init(&pki, path, config.cluster_byte);
    far_test_pki_identity(&pki, FAR_PARTY_NODE, NODE_SOURCE);
    far_test_pki_identity(&pki, FAR_PARTY_NODE, NODE_TARGET);
}

static void start_nodes(void)
{
    for (size_t i = 0; i < node_count; i++) {
        struct node_message message;
        bool source = i == 0, target = i + 1 == node_count;
        nodes[i].pid = node_fork(&config, source, target, &nodes[i].fd);
        while (!node_receive(nodes[i].fd, &message, 1000)) {
        }
        if (target) {
            snprintf(dial_address, sizeof dial_address, "%s", message.address);
        }
    }
    printf("{\"address\": \"%s\", \"source_pid\": %d, \"target_pid\": %d}\n", dial_address, (int)nodes[0].pid,
           (int)nodes[node_count - 1].pid);
}

static void obey(const char *line)
{
    if (strncmp(line, "through ", 8) == 0) {
        snprintf(dial_address, sizeof dial_address, "%.60s", line + 8);
        printf("{}\n");
    } else if (strcmp(line, "cycle") == 0 || strcmp(line, "cycle nolist") == 0) {
        cycle(line[5] == '\0');
    } else {
        fprintf(stderr, "transfer: unknown command '%s'\n", line);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    char line[256];
    pthread_t sampler;
    if (!parse(argc, argv)) {
        fprintf(stderr, "usage: transfer --dir DIR [--adapter NAME] [--memory BYTES] [--workers N] "
                        "[--compress auto|always|never] [--one-process] [--verbose] DISK…\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    make_pki();
    start_nodes();
    if (pthread_create(&sampler, NULL, sample_main, NULL) != 0) {
        perror("transfer");
        return 1;
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        obey(line);
    }
    for (size_t i = 0; i < node_count; i++) {
        close(nodes[i].fd);
    }
    for (size_t i = 0; i < node_count; i++) {
        waitpid(nodes[i].pid, NULL, 0);
    }
    return 0;
}
