/* A vault with many points, and what it costs to list them, to count them, and to give back some:
 *
 *   reclaim_scale DIR DISKS POINTS_PER_DISK
 *
 * Each disk has 16 blocks of its own and a new one in each point. Prints a line for each step: name, seconds, highest RssAnon +
 * RssShmem in bytes so far, records deleted. */
#include "../lib/vault_kit.h"
#include "dataplane/reclaim.h"

#include <time.h>
#include <zstd.h>

static struct far_error err;
static struct far_vault *vault;
static uint64_t disks, points_per_disk, pass, memory_most;

static void must(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "reclaim_scale: %s: %s\n", what, err.message);
        exit(1);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void look_at_memory(void)
{
    char line[256];
    unsigned long long anon = 0, shared = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        sscanf(line, "RssAnon: %llu", &anon);
        sscanf(line, "RssShmem: %llu", &shared);
    }
    if (status != NULL) {
        fclose(status);
    }
    memory_most = (anon + shared) * 1024 > memory_most ? (anon + shared) * 1024 : memory_most;
}

static void say(const char *name, double began, uint64_t deleted)
{
    look_at_memory();
    printf("%s %.4f %llu %llu\n", name, now() - began, (unsigned long long)memory_most, (unsigned long long)deleted);
    fflush(stdout);
}

/* A block of 4 KiB and zeroes, stored compressed. */
static void write_block(struct far_replica *replica, uint64_t index, uint64_t number)
{
    static uint8_t block[FAR_BLOCK_BYTES], stored[FAR_BLOCK_BYTES];
    struct far_hash256 id;
    kit_block(2 * number, block);
    far_block_leaf(block, FAR_BLOCK_BYTES, &id);
    size_t n = ZSTD_compress(stored, sizeof stored, block, sizeof block, 1);
    must(far_vault_put(vault, NULL, &id, FAR_CODEC_ZSTD, stored, n, &err), "put");
    must(far_replica_set(replica, index, &id, &err), "set");
}

static void make_points(void)
{
    static struct far_manifest manifest;
    uint64_t number = 1, point_id = 1;
    for (uint64_t disk = 1; disk <= disks; disk++) {
        struct far_fence fence = {.job = 1};
        struct far_replica *replica;
        struct far_hash256 root;
        must(far_replica_open(vault, NULL, disk, 256 * FAR_BLOCK_BYTES, &fence, &replica, &err), "replica");
        for (uint64_t i = 0; i < 16; i++) {
            write_block(replica, i, number++);
        }
        for (uint64_t i = 0; i < points_per_disk; i++) {
            write_block(replica, i % 16, number++);
            must(far_replica_checkpoint(replica, 0, "", &err), "checkpoint");
            must(far_replica_root(replica, &root, &err), "root");
            kit_manifest(point_id++, disk, 256 * FAR_BLOCK_BYTES, &root, &manifest);
            manifest.plan_id = disk % 100 + 1;
            must(far_vault_seal(vault, &manifest, &err), "seal");
        }
        far_replica_close(replica);
    }
}

static int count_point(void *arg, uint64_t point_id, const struct far_manifest *manifest, const char *problem)
{
    (void)point_id;
    (void)problem;
    *(uint64_t *)arg += manifest != NULL;
    return 0;
}

static int watch(void *arg, const struct far_reclaim_progress *progress)
{
    (void)arg;
    if (progress->done % 1024 == 0) {
        look_at_memory();
    }
    return 0;
}

static void reclaim(const char *name)
{
    struct far_reclaim_result result;
    pass++;
    struct far_reclaim_order order = {.pass = pass, .delete_before = pass};
    double began = now();
    must(far_vault_reclaim(vault, &order, watch, NULL, &result, &err), "reclaim");
    say(name, began, result.deleted_records);
}

/* So many points of each disk, the oldest that are left. */
static void forget(uint64_t from, uint64_t count)
{
    for (uint64_t disk = 0; disk < disks; disk++) {
        for (uint64_t i = from; i < from + count; i++) {
            must(far_vault_forget(vault, disk * points_per_disk + i + 1, &err), "forget");
        }
    }
}

int main(int argc, char **argv)
{
    const struct far_vault_options options = {.create = true};
    uint64_t listed = 0;
    if (argc != 4) {
        fprintf(stderr, "usage: reclaim_scale DIR DISKS POINTS_PER_DISK\n");
        return 2;
    }
    disks = strtoull(argv[2], NULL, 10);
    points_per_disk = strtoull(argv[3], NULL, 10);
    must(far_vault_open(argv[1], &options, &vault, &err), "open");
    double began = now();
    make_points();
    say("make", began, 0);
    far_vault_close(vault);
    began = now();
    memory_most = 0;
    must(far_vault_open(argv[1], &options, &vault, &err), "open");
    say("open", began, 0);
    began = now();
    must(far_vault_points(vault, count_point, &listed, &err), "list");
    say("list", began, 0);
    if (listed != disks * points_per_disk) {
        fprintf(stderr, "reclaim_scale: %llu points are listed\n", (unsigned long long)listed);
        return 1;
    }
    reclaim("count");
    reclaim("idle");
    forget(0, points_per_disk / 100);
    reclaim("release-1");
    reclaim("delete-1");
    forget(points_per_disk / 100, points_per_disk * 4 / 100);
    reclaim("release-4");
    reclaim("delete-4");
    uint64_t plan = 2;
    struct far_space space;
    began = now();
    must(far_vault_space(vault, &plan, 1, &space, &err), "space");
    say("space", began, 0);
    far_vault_close(vault);
    return 0;
}
