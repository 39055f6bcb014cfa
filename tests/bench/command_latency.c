/* One client's commands, one after the other, by the client library: the program behind bench_command_latency.py.
 *
 * command_latency <https://host:port> <ca.crt> <token file> <folder on the servers' disk> <rounds>
 *
 * Alternating: a command that makes a site over one kept-open connection, then a write and fdatasync of 4 KiB inside a file
 * that was written before, in the folder. Prints three numbers in ms: the median command, its 99th percentile, the median
 * fdatasync. */
#include "base/clock.h"

#include <farshore/client.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 1024, ROUNDS_MAX = 100000, WARM_UP = 20 };

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "command_latency: %s: %s\n", what, why);
    exit(1);
}

static double one_command(struct far_client *client, int number)
{
    char body[96];
    char *answer = NULL;
    struct far_client_error error;
    snprintf(body, sizeof body, "{\"name\":\"site-%d\",\"role\":\"recovery\"}", number);
    uint64_t began = far_clock_monotonic_ns();
    if (far_client_request(client, "POST", "/v1/sites", body, &answer, &error) != 0) {
        fail("a command", error.message);
    }
    double taken = (double)(far_clock_monotonic_ns() - began) / 1e6;
    free(answer);
    return taken;
}

static double one_sync(int fd, int number)
{
    char page[PAGE];
    memset(page, number, sizeof page);
    uint64_t began = far_clock_monotonic_ns();
    if (pwrite(fd, page, sizeof page, (off_t)(number % PAGES) * PAGE) != PAGE || fdatasync(fd) != 0) {
        fail("the disk", "write and sync failed");
    }
    return (double)(far_clock_monotonic_ns() - began) / 1e6;
}

static int written_file(const char *folder)
{
    static const char page[PAGE];
    char path[512];
    snprintf(path, sizeof path, "%s/bench.tmp", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (int i = 0; fd >= 0 && i < PAGES; i++) {
        if (pwrite(fd, page, PAGE, (off_t)i * PAGE) != PAGE) {
            fail(path, "cannot be written");
        }
    }
    if (fd < 0 || fsync(fd) != 0 || unlink(path) != 0) {
        fail(path, "cannot be made");
    }
    return fd;
}

static void read_token(const char *path, char token[256])
{
    FILE *file = fopen(path, "r");
    if (file == NULL || fgets(token, 256, file) == NULL) {
        fail(path, "cannot be read");
    }
    token[strcspn(token, "\n")] = '\0';
    fclose(file);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    int rounds = argc == 6 ? atoi(argv[5]) : 0;
    if (rounds <= 0 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: command_latency <url> <ca.crt> <token file> <folder> <rounds>\n");
        return 2;
    }
    char token[256];
    read_token(argv[3], token);
    struct far_client_config config = {
        .version = FAR_CLIENT_CONFIG_VERSION, .servers = argv[1], .ca_path = argv[2], .token = token};
    struct far_client_error error;
    struct far_client *client;
    if (far_client_new(&config, &client, &error) != 0) {
        fail("the client", error.message);
    }
    int fd = written_file(argv[4]);
    double *commands = calloc((size_t)rounds, sizeof *commands), *syncs = calloc((size_t)rounds, sizeof *syncs);
    if (commands == NULL || syncs == NULL) {
        fail("the figures", "no memory");
    }
    const char *first = getenv("FAR_FIRST"); /* the number of the first site, for a second run on the same servers */
    int from = first == NULL ? 0 : atoi(first);
    for (int i = 0; i < rounds + WARM_UP; i++) {
        double command = one_command(client, from + i), sync = one_sync(fd, i);
        if (i >= WARM_UP) {
            commands[i - WARM_UP] = command;
            syncs[i - WARM_UP] = sync;
        }
    }
    qsort(commands, (size_t)rounds, sizeof *commands, ascending);
    qsort(syncs, (size_t)rounds, sizeof *syncs, ascending);
    printf("%.4f %.4f %.4f\n", commands[rounds / 2], commands[(int)(rounds * 0.99)], syncs[rounds / 2]);
    free(commands);
    free(syncs);
    close(fd);
    far_client_free(client);
    return 0;
}
