/* Reads over NBD and tells how long it took, in seconds:
 *
 *   nbd_reads URI sequential           all of the disk, 256 KiB a request
 *   nbd_reads URI random BYTES COUNT   COUNT requests of 4 KiB in the first BYTES, from a fixed seed, after one that warms
 *   nbd_reads URI open                 connects, reads 4 KiB
 *
 * DEPTH requests are under way at once. */
#include <errno.h>
#include <libnbd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DEPTH = 16, SEQUENTIAL = 256 * 1024, RANDOM = 4096 };

static struct nbd_handle *nbd;
static char buffers[DEPTH][SEQUENTIAL];
static int64_t cookies[DEPTH];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    fprintf(stderr, "nbd_reads: %s: %s\n", what, nbd_get_error());
    exit(1);
}

/* The slot is free afterwards. */
static void finish(size_t slot)
{
    int done = 0;
    while (cookies[slot] != 0 && (done = nbd_aio_command_completed(nbd, (uint64_t)cookies[slot])) == 0) {
        if (nbd_poll(nbd, -1) < 0) {
            fail("poll");
        }
    }
    if (done < 0) {
        fail("read");
    }
    cookies[slot] = 0;
}

static void read_at(size_t number, size_t length, uint64_t offset)
{
    size_t slot = number % DEPTH;
    finish(slot);
    cookies[slot] = nbd_aio_pread(nbd, buffers[slot], length, offset, NBD_NULL_COMPLETION, 0);
    if (cookies[slot] < 0) {
        fail("read");
    }
}

static void finish_all(void)
{
    for (size_t i = 0; i < DEPTH; i++) {
        finish(i);
    }
}

static void sequential(void)
{
    uint64_t size = (uint64_t)nbd_get_size(nbd), number = 0;
    for (uint64_t at = 0; at < size; at += SEQUENTIAL) {
        read_at(number++, size - at < SEQUENTIAL ? (size_t)(size - at) : SEQUENTIAL, at);
    }
    finish_all();
}

static void at_random(uint64_t bytes, size_t count)
{
    uint64_t state = 7;
    for (size_t i = 0; i < count; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        read_at(i, RANDOM, (state >> 24) % (bytes / RANDOM) * RANDOM);
    }
    finish_all();
}

int main(int argc, char **argv)
{
    double began = now();
    nbd = nbd_create();
    if (argc < 3 || nbd == NULL || nbd_connect_uri(nbd, argv[1]) != 0) {
        fail("connect");
    }
    if (strcmp(argv[2], "sequential") == 0) {
        began = now();
        sequential();
    } else if (strcmp(argv[2], "random") == 0 && argc == 5) {
        uint64_t bytes = strtoull(argv[3], NULL, 10);
        for (uint64_t at = 0; at < bytes; at += RANDOM) { /* each block once, in parts */
            read_at((size_t)(at / RANDOM), RANDOM, at);
        }
        finish_all();
        began = now();
        at_random(bytes, strtoull(argv[4], NULL, 10));
    } else if (strcmp(argv[2], "open") == 0) {
        read_at(0, RANDOM, 0);
        finish_all();
    } else {
        return 2;
    }
    printf("%.6f\n", now() - began);
    nbd_close(nbd);
    return 0;
}
