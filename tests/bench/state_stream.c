/* What streaming a state to a new server asks of one turn of the core loop: state_stream [WORKLOADS POINTS].
 *
 * Makes a store on disk with so many workloads (a disk each) and recovery points (each with its disk), then does what the core
 * thread does for a peer that asks for the state (log_peers.c): begins the dump, then makes the pieces that may be ahead, once at
 * the beginning and after that one for each that was taken, and as a worst case all that may be ahead in each turn. Prints one
 * line: rows, MiB, the longest turn and the median of those with one piece, and the longest with all pieces ahead, in ms. */
#include "base/clock.h"
#include "fsm/kv.h"
#include "fsm/state.h"
#include "log/frames.h"
#include "log/snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 50000, TURNS_MAX = 1 << 20 };

static struct far_error err;

static void must(int rc)
{
    if (rc != 0) {
        fprintf(stderr, "state_stream: %s\n", err.message);
        exit(1);
    }
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void put(struct far_state *state, const struct far_schema *table, uint64_t id, bool has_part, const void *row)
{
    struct far_key key = far_key(table);
    far_key_u64(&key, id);
    if (has_part) {
        far_key_u32(&key, 0);
    }
    must(far_state_put(state, table, &key, row, &err));
}

static void put_workload(struct far_state *state, uint64_t id)
{
    char name[32], path[64];
    int n = snprintf(name, sizeof name, "vm-%llu", (unsigned long long)id), m = snprintf(path, sizeof path, "/disks/%s.img", name);
    struct far_row_workload row = {.id = id, .name = far_slice(name, (size_t)n), .site_id = 4, .adapter = far_slice("file", 4),
                                   .disk_count = 1, .created_ms = 1700000000000, .point_count = 100};
    struct far_row_disk disk = {.id = id, .workload_id = id, .name = far_slice("root", 4), .locator = far_slice(path, (size_t)m),
                                .size_bytes = 1ull << 36};
    put(state, &far_schema_row_workload, id, false, &row);
    put(state, &far_schema_row_disk, id, true, &disk);
}

static void put_point(struct far_state *state, uint64_t id, uint64_t workloads)
{
    uint8_t root[32];
    for (size_t i = 0; i < sizeof root; i++) {
        root[i] = (uint8_t)(id * 2654435761u >> i % 24);
    }
    struct far_row_point row = {.id = id, .workload_id = 10 + id % workloads, .plan_id = 7, .checkpoint_id = id / 256, .job_id = id / 256,
                                .node_id = 5, .state = FAR_point_state_available, .proof = FAR_proof_transfer,
                                .coverage_ppm = 500000, .frozen_at_ms = 1700000000000 + id, .created_ms = 1700000001000 + id,
                                .disk_count = 1, .plan_epoch = 1, .holds = 1};
    struct far_row_point_disk disk = {.disk_id = 10 + id % workloads, .name = far_slice("root", 4), .size_bytes = 1ull << 36,
                                      .root = far_slice(root, sizeof root), .identity = far_slice(root, 16)};
    put(state, &far_schema_row_point, id, false, &row);
    put(state, &far_schema_row_point_disk, id, true, &disk);
}

static void fill(struct far_store *store, uint64_t workloads, uint64_t points)
{
    for (uint64_t i = 0; i < workloads + points;) {
        struct far_store_txn *txn;
        must(far_store_begin(store, true, &txn, &err));
        struct far_state state = {.kv = far_store_kv(txn), .digest = far_store_meta(txn)->digest};
        for (uint64_t end = i + BATCH; i < end && i < workloads + points; i++) {
            if (i < workloads) {
                put_workload(&state, 10 + i);
            } else {
                put_point(&state, 100000 + i, workloads);
            }
        }
        far_store_meta(txn)->digest = state.digest;
        must(far_store_commit(txn, &err));
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A whole dump, `pieces` made in each turn but the first, which makes all that may be ahead. */
static void stream(struct far_store *store, unsigned pieces, double *ret_median, double *ret_longest, uint64_t *ret_bytes)
{
    static double turns[TURNS_MAX];
    size_t count = 0;
    struct far_dump dump;
    struct far_buf scratch;
    *ret_bytes = 0;
    far_buf_init(&scratch, FAR_SNAPSHOT_PIECE_MAX);
    for (unsigned left = FAR_FRAME_PIECES_AHEAD; count == 0 || !dump.ended; left = pieces) {
        double start = now_ms();
        if (count == 0) {
            must(far_dump_begin(store, &dump, &err));
        }
        for (; left > 0 && !dump.ended; left--) {
            far_buf_reset(&scratch);
            must(far_dump_next(&dump, &scratch, &err));
            *ret_bytes += scratch.len;
        }
        turns[count++ % TURNS_MAX] = now_ms() - start;
    }
    far_dump_end(&dump);
    far_buf_done(&scratch);
    count = count < TURNS_MAX ? count : TURNS_MAX;
    qsort(turns, count, sizeof turns[0], by_size);
    *ret_median = turns[count / 2];
    *ret_longest = turns[count - 1];
}

int main(int argc, char **argv)
{
    uint64_t workloads = argc > 2 ? strtoull(argv[1], NULL, 10) : 10000, points = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000;
    char dir[] = "/tmp/far-state-XXXXXX", command[64];
    struct far_store *store;
    double median, longest, unused, all;
    uint64_t bytes;
    if (mkdtemp(dir) == NULL) {
        return 1;
    }
    must(far_store_open_lmdb(dir, 0, false, &store, &err));
    fill(store, workloads, points);
    stream(store, 1, &median, &longest, &bytes);
    stream(store, FAR_FRAME_PIECES_AHEAD, &unused, &all, &bytes);
    printf("%llu %llu %.3f %.3f %.3f\n", (unsigned long long)(2 * (workloads + points)), (unsigned long long)(bytes >> 20), longest,
           median, all);
    far_store_close(store);
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command) == 0 ? 0 : 1;
}
