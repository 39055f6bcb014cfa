/* vault_driver: a program for the power-cut test to drive (tests/integration/test_powercut.py).
 *
 *   vault_driver write DIR SEED   opens or makes the vault in DIR, writes to two disks (one in the plain domain, one in a keyed
 *                                 one, whose key is changed now and then), checkpoints and seals points, all from the seed;
 *                                 prints one line after each step that is durable
 *   vault_driver check DIR        reads those lines from stdin, opens the vault and looks whether it holds what they say;
 *                                 prints what is there and every fault; status 1 if there is any
 *
 * Lines:  "checkpoint DISK FRONTIER ROOT FENCE-JOB", "point ID DISK ROOT", "forgetting ID", "forget ID", "fence DISK JOB", "key GENERATION"
 * A disk's newest state is that of its last acknowledged checkpoint or a newer one; a cut may keep more than was
 * acknowledged, never less. */
#include "vault_kit.h"

#include <inttypes.h>
#include <stdarg.h>

enum { DISKS = 2, KEYED = 1 /* of them */, BLOCKS = 700, STEPS = 40, DISK_FIRST = 5, POINTS_MAX = 256, LINE_BYTES = 256 };

static struct far_error err;
static struct far_manifest manifest;

static void must(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "vault_driver: %s: %s\n", what, err.message);
        exit(2);
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return *state >> 24;
}

static struct far_vault *open_vault(const char *dir)
{
    /* Small packs, so that a run goes through several of them. */
    struct far_vault_options options = {.create = true, .pack_bytes_max = 2 << 20, .cache_bytes_max = 1 << 20};
    struct far_vault *vault = NULL;
    must(far_vault_open(dir, &options, &vault, &err), "open");
    return vault;
}

/* One line of output by one write(2): the power-cut shim notes it in its record at that moment (FAR_POWERCUT_MARK_FD). */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (write(STDOUT_FILENO, line, (size_t)length) != length) {
        exit(2);
    }
}

/* As the order of this generation brings them. */
static struct far_domain_keys keys_of(uint32_t generation)
{
    struct far_domain_keys keys = {.uuid = {1, 2, 3}, .name = "gold", .generation = generation, .old_generation = generation - 1};
    memset(keys.secret, 0x51, 32);
    memset(keys.key, (int)generation, 32);
    memset(keys.old_key, (int)generation - 1, 32);
    return keys;
}

/* NULL for the disk in the plain domain. generation 0: there is none yet. */
static const struct far_domain *domain_of(struct far_vault *vault, uint64_t which, uint32_t generation)
{
    const struct far_domain *domain = NULL;
    struct far_domain_keys keys = keys_of(generation);
    must(which == KEYED ? far_vault_domain_open(vault, &keys, &domain, &err) : 0, "domain");
    return domain;
}

static void write_block(struct far_vault *vault, const struct far_domain *domain, struct far_replica *replica, uint64_t at, uint64_t number)
{
    static uint8_t block[FAR_BLOCK_BYTES];
    struct far_hash256 id;
    kit_block(number, block);
    far_block_leaf(block, FAR_BLOCK_BYTES, &id);
    must(far_vault_put(vault, domain, &id, FAR_CODEC_RAW, block, FAR_BLOCK_BYTES, &err), "put");
    must(far_replica_set(replica, at, &id, &err), "set");
}

/* ---- write ---- */

static int find_last_point(void *arg, uint64_t point_id, const struct far_manifest *found, const char *problem)
{
    (void)found;
    (void)problem;
    *(uint64_t *)arg = point_id;
    return 0;
}

static void checkpoint(struct far_replica *replica, uint64_t disk, uint64_t frontier, uint64_t job)
{
    struct far_hash256 root;
    char hex[65];
    must(far_replica_checkpoint(replica, frontier, "view", &err), "checkpoint");
    must(far_replica_root(replica, &root, &err), "root");
    far_hex_encode(root.bytes, 32, hex);
    say("checkpoint %" PRIu64 " %" PRIu64 " %s %" PRIu64 "\n", disk, frontier, hex, job);
}

static void seal(struct far_vault *vault, struct far_replica *replica, uint64_t disk, uint64_t point_id)
{
    struct far_hash256 root;
    char hex[65];
    must(far_replica_root(replica, &root, &err), "root");
    kit_manifest(point_id, disk, far_replica_size(replica), &root, &manifest);
    far_domain_uuid(far_replica_domain(replica), manifest.domain_uuid);
    must(far_vault_seal(vault, &manifest, &err), "seal");
    far_hex_encode(root.bytes, 32, hex);
    say("point %" PRIu64 " %" PRIu64 " %s\n", point_id, disk, hex);
}

static int write_vault(const char *dir, uint64_t seed)
{
    uint64_t state = seed;
    uint64_t point_id = 0;
    struct far_vault *vault = open_vault(dir);
    must(far_vault_points(vault, find_last_point, &point_id, &err), "points");
    struct far_fence fence = {.incarnation_epoch = 1, .plan_epoch = 1, .job = seed, .attempt = 1};
    struct far_replica *replicas[DISKS];
    const struct far_domain *domains[DISKS];
    struct far_domain_info info = {.generation = 0};
    uint32_t generation = far_vault_domains(vault, &info, 1) == 0 ? 1 : info.generation;
    for (uint64_t i = 0; i < DISKS; i++) {
        domains[i] = domain_of(vault, i, generation);
        if (i == KEYED) {
            say("key %u\n", generation);
        }
        must(far_replica_open(vault, domains[i], DISK_FIRST + i, BLOCKS * FAR_BLOCK_BYTES, &fence, &replicas[i], &err), "replica");
        say("fence %" PRIu64 " %" PRIu64 "\n", DISK_FIRST + i, seed);
    }
    for (int step = 0; step < STEPS; step++) {
        uint64_t which = next_random(&state) % DISKS;
        struct far_replica *replica = replicas[which];
        for (uint64_t i = next_random(&state) % 12; i > 0; i--) {
            uint64_t at = next_random(&state) % BLOCKS;
            write_block(vault, domains[which], replica, at, next_random(&state) % 400);
        }
        if (next_random(&state) % 6 == 0) {
            domain_of(vault, KEYED, ++generation);
            say("key %u\n", generation);
        }
        uint64_t action = next_random(&state) % 8;
        if (action >= 5) {
            continue;
        }
        checkpoint(replica, DISK_FIRST + which, next_random(&state) % BLOCKS, seed);
        if (action < 2) {
            seal(vault, replica, DISK_FIRST + which, ++point_id);
        }
        if (action == 4 && point_id > 1) {
            say("forgetting %" PRIu64 "\n", point_id / 2); /* from now on it may be gone */
            must(far_vault_forget(vault, point_id / 2, &err), "forget");
            say("forget %" PRIu64 "\n", point_id / 2);
        }
    }
    for (int i = 0; i < DISKS; i++) {
        far_replica_close(replicas[i]);
    }
    far_vault_close(vault);
    return 0;
}

/* ---- check ---- */

struct known_disk {
    char root[65]; /* of the last acknowledged checkpoint; "" = none */
    uint64_t job;  /* that made it */
    uint64_t fence;
};
struct known {
    struct known_disk disks[DISKS];
    char points[POINTS_MAX][65]; /* root by point id; "" = not known */
    bool may_be_gone[POINTS_MAX]; /* a forget has begun */
    bool forgotten[POINTS_MAX];   /* a forget was acknowledged */
    int faults;
    uint32_t generation; /* of the key, acknowledged */
    const struct far_domain *domains[DISKS];
};

static void fault(struct known *known, const char *what, uint64_t number, const char *detail)
{
    printf("FAULT: %s %" PRIu64 ": %s\n", what, number, detail);
    known->faults++;
}

static void read_lines(struct known *known)
{
    char line[LINE_BYTES];
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint64_t a, b, job;
        char root[65];
        if (sscanf(line, "checkpoint %" SCNu64 " %" SCNu64 " %64s %" SCNu64, &a, &b, root, &job) == 4 &&
            a - DISK_FIRST < DISKS) {
            memcpy(known->disks[a - DISK_FIRST].root, root, sizeof root);
            known->disks[a - DISK_FIRST].job = job;
        } else if (sscanf(line, "point %" SCNu64 " %" SCNu64 " %64s", &a, &b, root) == 3 && a < POINTS_MAX) {
            memcpy(known->points[a], root, sizeof root);
        } else if (sscanf(line, "forgetting %" SCNu64, &a) == 1 && a < POINTS_MAX) {
            known->may_be_gone[a] = true;
        } else if (sscanf(line, "forget %" SCNu64, &a) == 1 && a < POINTS_MAX) {
            known->forgotten[a] = true;
        } else if (sscanf(line, "key %" SCNu64, &a) == 1) {
            known->generation = (uint32_t)a;
        } else if (sscanf(line, "fence %" SCNu64 " %" SCNu64, &a, &b) == 2 && a - DISK_FIRST < DISKS) {
            known->disks[a - DISK_FIRST].fence = b;
        }
    }
}

static void check_root(struct far_vault *vault, struct known *known, const struct far_domain *domain, const char *what, uint64_t number,
                       const struct far_hash256 *root)
{
    struct far_point *point = NULL;
    struct far_verify_result result;
    int rc = far_point_open(vault, domain, root, &point, &err);
    if (rc == 0) {
        rc = far_point_verify(point, NULL, NULL, NULL, &result, &err);
    }
    if (rc != 0) {
        fault(known, what, number, err.message);
    }
    far_point_close(point);
}

struct check {
    struct far_vault *vault;
    struct known *known;
};

/* Whatever is sealed is whole, acknowledged or not. */
static int check_point(void *arg, uint64_t point_id, const struct far_manifest *found, const char *problem)
{
    struct check *check = arg;
    char hex[65];
    if (found == NULL) {
        fault(check->known, "point", point_id, problem);
        return 0;
    }
    far_hex_encode(found->disks[0].root.bytes, 32, hex);
    printf("point %" PRIu64 " %s\n", point_id, hex);
    const struct far_domain *domain = NULL;
    if (far_vault_domain_find(check->vault, found->domain_uuid, &domain, &err) != 0) {
        fault(check->known, "domain of point", point_id, err.message);
    }
    check_root(check->vault, check->known, domain, "point", point_id, &found->disks[0].root);
    if (point_id < POINTS_MAX) {
        const char *acknowledged = check->known->points[point_id];
        if (acknowledged[0] != '\0' && strcmp(acknowledged, hex) != 0) {
            fault(check->known, "point", point_id, "another root than acknowledged");
        }
        if (check->known->forgotten[point_id]) {
            fault(check->known, "point", point_id, "was forgotten, and is back");
        }
        check->known->points[point_id][0] = '\0';
    }
    return 0;
}

static void check_disk(struct far_vault *vault, struct known *known, uint64_t i)
{
    struct known_disk *disk = &known->disks[i];
    struct far_replica_state state;
    struct far_replica *replica = NULL;
    int rc = far_vault_replica_state(vault, DISK_FIRST + i, &state, &err);
    if (rc == FAR_NOT_FOUND && disk->root[0] == '\0' && disk->fence == 0) {
        return;
    }
    if (rc != 0) {
        fault(known, "disk", DISK_FIRST + i, err.message);
        return;
    }
    if (disk->root[0] != '\0' && state.job < disk->job) {
        fault(known, "disk", DISK_FIRST + i, "its checkpoint is of an older job than acknowledged");
    }
    if (state.job != 0) {
        check_root(vault, known, known->domains[i], "disk", DISK_FIRST + i, &state.root);
    }
    struct far_fence older = {.incarnation_epoch = 1, .plan_epoch = 1, .job = disk->fence, .attempt = 0};
    uint64_t size = BLOCKS * FAR_BLOCK_BYTES;
    if (disk->fence != 0 && far_replica_open(vault, known->domains[i], DISK_FIRST + i, size, &older, &replica, &err) != FAR_CONFLICT) {
        fault(known, "disk", DISK_FIRST + i, "the acknowledged fence is gone");
        far_replica_close(replica);
    }
}

/* The acknowledged root of a disk is not needed to be its newest, but must never be lost: every root stays readable. */
static void check_acknowledged_root(struct far_vault *vault, struct known *known, uint64_t i)
{
    struct far_hash256 root;
    const char *hex = known->disks[i].root;
    if (hex[0] != '\0' && far_hex_decode(hex, 64, root.bytes, 32)) {
        check_root(vault, known, known->domains[i], "acknowledged checkpoint of disk", DISK_FIRST + i, &root);
    }
}

/* The vault can still be written: a repaired one goes on. */
static void check_goes_on(struct far_vault *vault, struct known *known, uint64_t which)
{
    const struct far_domain *domain = known->domains[which];
    struct far_replica *replica = NULL;
    struct far_fence fence = {.incarnation_epoch = 9};
    int rc = far_replica_open(vault, domain, DISK_FIRST + which, BLOCKS * FAR_BLOCK_BYTES, &fence, &replica, &err);
    for (uint64_t i = 0; rc == 0 && i < 5; i++) {
        write_block(vault, domain, replica, i, 1000 + i);
    }
    if (rc == 0) {
        rc = far_replica_checkpoint(replica, 5, "after", &err);
    }
    if (rc != 0) {
        fault(known, "writing after the cut, disk", DISK_FIRST + which, err.message);
    } else {
        struct far_hash256 root;
        must(far_replica_root(replica, &root, &err), "root");
        check_root(vault, known, domain, "written after the cut, disk", DISK_FIRST + which, &root);
    }
    far_replica_close(replica);
}

/* The key that was acknowledged last opens the domain, or the one that was on its way. */
static void check_key(struct far_vault *vault, struct known *known)
{
    struct far_domain_info info = {.generation = 0};
    size_t count = far_vault_domains(vault, &info, 1);
    struct far_domain_keys keys = keys_of(known->generation + 1);
    if (known->generation != 0 && (count == 0 || info.generation < known->generation)) {
        fault(known, "key", known->generation, "was acknowledged, and the vault is sealed with an older one");
    } else if (count != 0 && far_vault_domain_open(vault, &keys, &known->domains[KEYED], &err) != 0) {
        fault(known, "key", known->generation + 1, err.message);
    } else if (count == 0) { /* not made yet */
        known->domains[KEYED] = domain_of(vault, KEYED, 1);
    }
}

static int check_vault(const char *dir)
{
    struct known *known = calloc(1, sizeof *known);
    struct far_vault_stats stats;
    read_lines(known);
    struct far_vault *vault = open_vault(dir);
    struct check check = {.vault = vault, .known = known};
    far_vault_stats(vault, &stats);
    printf("packs %" PRIu64 ", records %" PRIu64 ", index %s, tail cut %" PRIu64 "\n", stats.packs, stats.records,
           stats.index_rebuilt ? "rebuilt" : "kept", stats.tail_cut);
    if (stats.damages > 0) {
        fault(known, "damages at open", stats.damages, stats.damage);
    }
    check_key(vault, known);
    must(far_vault_points(vault, check_point, &check, &err), "points");
    for (uint64_t i = 0; i < POINTS_MAX; i++) {
        if (known->points[i][0] != '\0' && !known->may_be_gone[i]) {
            fault(known, "point", i, "was acknowledged and is gone");
        }
    }
    for (uint64_t i = 0; i < DISKS; i++) {
        check_disk(vault, known, i);
        check_acknowledged_root(vault, known, i);
    }
    for (uint64_t i = 0; i < DISKS; i++) {
        check_goes_on(vault, known, i);
    }
    far_vault_close(vault);
    int faults = known->faults;
    printf("%d faults\n", faults);
    free(known);
    return faults == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 4 && strcmp(argv[1], "write") == 0) {
        return write_vault(argv[2], strtoull(argv[3], NULL, 10));
    }
    if (argc == 3 && strcmp(argv[1], "check") == 0) {
        return check_vault(argv[2]);
    }
    fprintf(stderr, "usage: vault_driver write DIR SEED | check DIR\n");
    return 2;
}
