/* vault_driver: a program for the power-cut test to drive (tests/integration/test_powercut.py).
 *
 *   vault_driver write DIR SEED   opens or makes the vault in DIR, writes to two disks, checkpoints and seals points, all
 *                                 from the seed; prints one line after each step that is durable
 *   vault_driver reclaim DIR SEED the same with a third disk in a keyed domain, passes of reclaim, rotations of the domain's key, and an
 *                                 index that is lost before every other run
 *   vault_driver copy DIR SEED SOURCE   writes to three disks of another vault, SOURCE, copies each of its points into DIR, forgets and
 *                                 reclaims there now and then
 *   vault_driver again DIR SOURCE copies whatever points of SOURCE are not in DIR; status 1 if one is not exact then
 *   vault_driver key DIR GENERATION   opens the keyed domain, making it or giving it this key, and seals a point in it
 *   vault_driver destroy DIR      destroys that domain
 *   vault_driver locked DIR POINT SECONDS [OTHER]   locks that point for so long; one that is not there is sealed then, with something
 *                                 new in it. Forgets the point OTHER meanwhile, when a line comes on stdin
 *   vault_driver look DIR         as check, of a folder that is only read; what was forgotten may still be there
 *   vault_driver check DIR        reads those lines from stdin, opens the vault and looks whether it holds what they say;
 *                                 prints what is there and every fault; status 1 if there is any
 *
 * Lines:  "checkpoint DISK FRONTIER ROOT FENCE-JOB", "point ID DISK ROOT", "forgetting ID", "forget ID", "fence DISK JOB",
 *         "reclaims", "step PHASE", "rotating GENERATION", "rotated GENERATION"
 * A disk's newest state is that of its last acknowledged checkpoint or a newer one; a cut may keep more than was
 * acknowledged, never less. */
#include "dataplane/reclaim.h"
#include "base/clock.h"
#include "dataplane/vault_copy.h"
#include "dataplane/vault_lock.h"
#include "vault_reach.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>

enum { DISKS = 3, PLAIN_DISKS = 2, BLOCKS = 700, STEPS = 40, DISK_FIRST = 5, POINTS_MAX = 256, LINE_BYTES = 256 };

static struct far_error err;
static struct far_manifest manifest;
static bool is_quiet; /* what is done now is not what is acknowledged */

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
    if (is_quiet) {
        return;
    }
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (write(STDOUT_FILENO, line, (size_t)length) != length) {
        exit(2);
    }
}

/* ---- the keyed domain ---- */

/* Both generations: a vault that was cut has one of them. */
static struct far_domain_keys keys_of(uint32_t generation)
{
    struct far_domain_keys keys = {.name = "kept", .generation = generation, .old_generation = generation - 1};
    memset(keys.uuid, 0xD0, sizeof keys.uuid);
    memset(keys.secret, 0x5E, sizeof keys.secret);
    memset(keys.key, (int)(generation % 251), sizeof keys.key);
    memset(keys.old_key, (int)((generation - 1) % 251), sizeof keys.old_key);
    return keys;
}

static uint32_t last_generation(struct far_vault *vault)
{
    struct far_domain_info infos[4];
    return far_vault_domains(vault, infos, 4) == 0 ? 1 : infos[0].generation;
}

static const struct far_domain *open_domain(struct far_vault *vault, uint32_t generation)
{
    const struct far_domain *domain = NULL;
    struct far_domain_keys keys = keys_of(generation);
    must(far_vault_domain_open(vault, &keys, &domain, &err), "domain");
    return domain;
}

/* ---- write ---- */

static int tell_step(void *arg, const struct far_reclaim_progress *progress)
{
    (void)arg;
    say("step %s\n", progress->phase);
    return 0;
}

static struct far_reclaim_result reclaim(struct far_vault *vault, bool tells)
{
    struct far_reclaim_result result;
    struct far_reclaim_order order = {.move_percent = 20, .batch_max = 50};
    must(far_vault_reclaim_last(vault, &order.pass, &err), "last pass");
    order.delete_before = ++order.pass;
    order.secure = order.pass % 3 == 0;
    must(far_vault_reclaim(vault, &order, tells ? tell_step : NULL, NULL, &result, &err), "reclaim");
    if (result.points_uncountable > 0) {
        fprintf(stderr, "vault_driver: uncountable: %s\n", result.problem);
        exit(2);
    }
    return result;
}

static void rotate(struct far_vault *vault)
{
    uint32_t next = last_generation(vault) + 1;
    say("rotating %u\n", next);
    open_domain(vault, next);
    say("rotated %u\n", next);
}

static void lose_index(const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/index/data.mdb", dir);
    unlink(path);
}

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

/* What only `reclaim` does, now and then. */
static void tidy(struct far_vault *vault, uint64_t *state)
{
    uint64_t what = next_random(state) % 6;
    if (what == 0) {
        rotate(vault);
    } else if (what < 4) {
        reclaim(vault, true);
    }
}

static int write_vault(const char *dir, uint64_t seed, bool reclaims)
{
    uint64_t state = seed;
    uint64_t point_id = 0;
    uint64_t disks = reclaims ? DISKS : PLAIN_DISKS;
    if (reclaims && seed % 2 == 1) {
        lose_index(dir);
    }
    struct far_vault *vault = open_vault(dir);
    const struct far_domain *keyed = reclaims ? open_domain(vault, last_generation(vault)) : NULL;
    if (reclaims) {
        say("reclaims\n");
    }
    must(far_vault_points(vault, find_last_point, &point_id, &err), "points");
    struct far_fence fence = {.incarnation_epoch = 1, .plan_epoch = 1, .job = seed, .attempt = 1};
    struct far_replica *replicas[DISKS];
    for (uint64_t i = 0; i < disks; i++) {
        const struct far_domain *domain = i < PLAIN_DISKS ? NULL : keyed;
        must(far_replica_open(vault, domain, DISK_FIRST + i, BLOCKS * FAR_BLOCK_BYTES, &fence, &replicas[i], &err), "replica");
        say("fence %" PRIu64 " %" PRIu64 "\n", DISK_FIRST + i, seed);
    }
    for (int step = 0; step < STEPS; step++) {
        uint64_t which = next_random(&state) % disks;
        struct far_replica *replica = replicas[which];
        for (uint64_t i = next_random(&state) % 12; i > 0; i--) {
            uint64_t at = next_random(&state) % BLOCKS;
            must(kit_write(vault, replica, at, next_random(&state) % 400, &err), "write");
        }
        if (reclaims) {
            tidy(vault, &state);
        }
        uint64_t action = next_random(&state) % 8;
        if (action >= 5) {
            continue;
        }
        checkpoint(replica, DISK_FIRST + which, next_random(&state) % BLOCKS, seed);
        if (action < 2) {
            seal(vault, replica, DISK_FIRST + which, ++point_id);
        }
        if ((action == 4 || (reclaims && action == 3)) && point_id > 1) {
            uint64_t goes = reclaims && point_id > 6 ? point_id - 5 : point_id / 2;
            say("forgetting %" PRIu64 "\n", goes); /* from now on it may be gone */
            must(far_vault_forget(vault, goes, &err), "forget");
            say("forget %" PRIu64 "\n", goes);
        }
    }
    for (uint64_t i = 0; i < disks; i++) {
        far_replica_close(replicas[i]);
    }
    far_vault_close(vault);
    return 0;
}

/* ---- copy ---- */

static int copy_point(struct far_vault *source, struct far_vault *target, uint64_t point_id, bool *ret_was_there)
{
    const struct far_copy_options options = {.checkpoint_blocks = 8};
    struct far_copy_result result = {.was_there = false};
    int rc = far_vault_copy(source, target, point_id, &options, &result, &err);
    *ret_was_there = result.was_there;
    return rc;
}

static void forget_and_reclaim(struct far_vault *target, uint64_t point_id, uint64_t *state)
{
    uint64_t what = next_random(state) % 3;
    if (what == 0 && point_id > 3) {
        say("forgetting %" PRIu64 "\n", point_id - 3);
        must(far_vault_forget(target, point_id - 3, &err), "forget");
        say("forget %" PRIu64 "\n", point_id - 3);
    } else if (what == 1) {
        reclaim(target, true);
    }
}

static int copy_vault(const char *dir, uint64_t seed, const char *source_dir)
{
    uint64_t state = seed, point_id = 0;
    struct far_replica *replicas[DISKS];
    struct far_vault *source = open_vault(source_dir), *target = open_vault(dir);
    const struct far_domain *keyed = open_domain(source, 1);
    struct far_fence fence = {.incarnation_epoch = 1, .plan_epoch = 1, .job = seed, .attempt = 1};
    say("reclaims\n");
    open_domain(target, 1);
    must(far_vault_points(source, find_last_point, &point_id, &err), "points");
    for (uint64_t i = 0; i < DISKS; i++) {
        const struct far_domain *domain = i < PLAIN_DISKS ? NULL : keyed;
        must(far_replica_open(source, domain, DISK_FIRST + i, BLOCKS * FAR_BLOCK_BYTES, &fence, &replicas[i], &err), "replica");
    }
    for (int step = 0; step < STEPS / 2; step++) {
        uint64_t which = next_random(&state) % DISKS;
        for (uint64_t i = next_random(&state) % 30; i > 0; i--) {
            uint64_t at = next_random(&state) % BLOCKS;
            must(kit_write(source, replicas[which], at, next_random(&state) % 400, &err), "write");
        }
        is_quiet = true;
        checkpoint(replicas[which], DISK_FIRST + which, BLOCKS, seed);
        seal(source, replicas[which], DISK_FIRST + which, ++point_id);
        is_quiet = false;
        bool was_there;
        must(copy_point(source, target, point_id, &was_there), "copy");
        char hex[65];
        far_hex_encode(manifest.disks[0].root.bytes, 32, hex);
        say("point %" PRIu64 " %" PRIu64 " %s\n", point_id, DISK_FIRST + which, hex);
        forget_and_reclaim(target, point_id, &state);
    }
    for (uint64_t i = 0; i < DISKS; i++) {
        far_replica_close(replicas[i]);
    }
    far_vault_close(target);
    far_vault_close(source);
    return 0;
}

struct again {
    struct far_vault *source, *target;
    int faults;
};

static int copy_again(void *arg, uint64_t point_id, const struct far_manifest *found, const char *problem)
{
    struct again *again = arg;
    struct far_point *point = NULL;
    struct far_verify_result result;
    (void)found;
    (void)problem;
    bool was_there;
    int rc = copy_point(again->source, again->target, point_id, &was_there);
    if (rc == FAR_CONFLICT || was_there) { /* it was forgotten there; or is there, and `check` read it */
        return 0;
    }
    rc = rc == 0 ? far_point_open_disk(again->target, point_id, manifest.disks[0].name, &point, &err) : rc;
    rc = rc == 0 ? far_point_verify(point, NULL, NULL, NULL, &result, &err) : rc;
    far_point_close(point);
    if (rc != 0) {
        printf("FAULT: copied again, point %" PRIu64 ": %s\n", point_id, err.message);
        again->faults++;
    }
    return 0;
}

static int copy_all_again(const char *dir, const char *source_dir)
{
    struct again again = {.source = open_vault(source_dir), .target = open_vault(dir)};
    struct far_hash256 none = {{0}};
    open_domain(again.source, 1);
    open_domain(again.target, 1);
    kit_manifest(1, DISK_FIRST, FAR_BLOCK_BYTES, &none, &manifest); /* for the name that it gives to disks */
    must(far_vault_points(again.source, copy_again, &again, &err), "points");
    far_vault_close(again.target);
    far_vault_close(again.source);
    return again.faults == 0 ? 0 : 1;
}

static int use_key(const char *dir, uint32_t generation)
{
    struct far_vault *vault = open_vault(dir);
    struct far_replica *replica;
    struct far_fence fence = {.incarnation_epoch = 2, .plan_epoch = 1, .job = generation, .attempt = 1};
    uint64_t disk = DISK_FIRST + PLAIN_DISKS;
    say("reclaims\n");
    say("rotating %u\n", generation);
    const struct far_domain *domain = open_domain(vault, generation);
    say("rotated %u\n", generation);
    must(far_replica_open(vault, domain, disk, BLOCKS * FAR_BLOCK_BYTES, &fence, &replica, &err), "replica");
    must(kit_write(vault, replica, generation, 2000 + generation, &err), "write");
    checkpoint(replica, disk, 1, generation);
    seal(vault, replica, disk, 100 + generation);
    far_replica_close(replica);
    far_vault_close(vault);
    return 0;
}

static int destroy_domain(const char *dir)
{
    struct far_vault *vault = open_vault(dir);
    struct far_domain_keys keys = keys_of(1);
    must(far_vault_domain_destroy(vault, keys.uuid, &err), "destroy");
    far_vault_close(vault);
    return 0;
}

struct forgetting {
    struct far_vault *vault;
    uint64_t point_id;
};

static void *forget_on_demand(void *arg)
{
    struct forgetting *forgetting = arg;
    struct far_error own;
    char line[LINE_BYTES];
    if (fgets(line, sizeof line, stdin) != NULL) {
        int rc = far_vault_forget(forgetting->vault, forgetting->point_id, &own);
        say("forget %" PRIu64 ": %d\n", forgetting->point_id, rc);
    }
    return NULL;
}

static int seal_locked(const char *dir, uint64_t point_id, uint64_t seconds, uint64_t other)
{
    struct far_vault *vault = open_vault(dir);
    struct far_replica *replica;
    struct far_fence fence = {.incarnation_epoch = 3, .plan_epoch = 1, .job = point_id, .attempt = 1};
    struct forgetting forgetting = {.vault = vault, .point_id = other};
    pthread_t thread;
    if (other != 0 && pthread_create(&thread, NULL, forget_on_demand, &forgetting) != 0) {
        return 2;
    }
    must(far_vault_lock(vault, point_id, far_clock_wall_ms() + seconds * 1000, &err), "lock");
    if (far_vault_point(vault, point_id, &manifest, NULL) == FAR_NOT_FOUND) {
        must(far_replica_open(vault, NULL, DISK_FIRST, BLOCKS * FAR_BLOCK_BYTES, &fence, &replica, &err), "replica");
        must(kit_write(vault, replica, point_id % BLOCKS, 3000 + point_id, &err), "write");
        checkpoint(replica, DISK_FIRST, 1, point_id);
        seal(vault, replica, DISK_FIRST, point_id);
        far_replica_close(replica);
    }
    if (other != 0) {
        pthread_join(thread, NULL);
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
    bool reclaims;
    uint32_t generation; /* of the keyed domain's key, that a rotation began with */
    const struct far_domain *keyed;
    int faults;
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
        } else if (strcmp(line, "reclaims\n") == 0) {
            known->reclaims = true;
        } else if (sscanf(line, "rotating %" SCNu64, &a) == 1) {
            known->generation = (uint32_t)a;
        } else if (sscanf(line, "fence %" SCNu64 " %" SCNu64, &a, &b) == 2 && a - DISK_FIRST < DISKS) {
            known->disks[a - DISK_FIRST].fence = b;
        }
    }
}

static void check_root(struct far_vault *vault, struct known *known, const struct far_domain *domain, const char *what,
                       uint64_t number, const struct far_hash256 *root)
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
    check_root(check->vault, check->known, found->domain_number != 0 ? check->known->keyed : NULL, "point", point_id,
               &found->disks[0].root);
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
        check_root(vault, known, i < PLAIN_DISKS ? NULL : known->keyed, "disk", DISK_FIRST + i, &state.root);
    }
    struct far_fence older = {.incarnation_epoch = 1, .plan_epoch = 1, .job = disk->fence, .attempt = 0};
    uint64_t size = BLOCKS * FAR_BLOCK_BYTES;
    const struct far_domain *domain = i < PLAIN_DISKS ? NULL : known->keyed;
    if (disk->fence != 0 && far_replica_open(vault, domain, DISK_FIRST + i, size, &older, &replica, &err) != FAR_CONFLICT) {
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
        check_root(vault, known, NULL, "acknowledged checkpoint of disk", DISK_FIRST + i, &root);
    }
}

/* The vault can still be written: a repaired one goes on. */
static void check_goes_on(struct far_vault *vault, struct known *known)
{
    struct far_replica *replica = NULL;
    struct far_fence fence = {.incarnation_epoch = 9};
    int rc = far_replica_open(vault, NULL, DISK_FIRST, BLOCKS * FAR_BLOCK_BYTES, &fence, &replica, &err);
    for (uint64_t i = 0; rc == 0 && i < 5; i++) {
        rc = kit_write(vault, replica, i, 1000 + i, &err);
    }
    if (rc == 0) {
        rc = far_replica_checkpoint(replica, 5, "after", &err);
    }
    if (rc != 0) {
        fault(known, "writing after the cut, disk", DISK_FIRST, err.message);
    } else {
        struct far_hash256 root;
        must(far_replica_root(replica, &root, &err), "root");
        check_root(vault, known, NULL, "written after the cut, disk", DISK_FIRST, &root);
    }
    far_replica_close(replica);
}

/* Three passes and nobody at work: all that is reached is there, and nothing else. */
static void check_reclaim(struct far_vault *vault, struct known *known)
{
    struct check check = {.vault = vault, .known = known};
    for (int i = 0; i < 3; i++) {
        reclaim(vault, false);
    }
    memset(known->forgotten, 0, sizeof known->forgotten); /* those that were back were told already */
    must(far_vault_points(vault, check_point, &check, &err), "points");
    int64_t unreachable = reach_unreachable(vault);
    if (unreachable != 0) {
        fault(known, "records that nobody reaches", (uint64_t)unreachable, "");
    }
}

static int check_vault(const char *dir)
{
    struct known *known = calloc(1, sizeof *known);
    struct far_vault_stats stats;
    read_lines(known);
    struct far_vault *vault = open_vault(dir);
    struct check check = {.vault = vault, .known = known};
    if (last_generation(vault) > 1 || known->reclaims) {
        known->keyed = open_domain(vault, known->generation > last_generation(vault) ? known->generation : last_generation(vault));
    }
    far_vault_stats(vault, &stats);
    printf("packs %" PRIu64 ", records %" PRIu64 ", index %s, tail cut %" PRIu64 "\n", stats.packs, stats.records,
           stats.index_rebuilt ? "rebuilt" : "kept", stats.tail_cut);
    if (stats.damages > 0) {
        fault(known, "damages at open", stats.damages, stats.damage);
    }
    must(far_vault_points(vault, check_point, &check, &err), "points");
    for (uint64_t i = 0; i < POINTS_MAX; i++) {
        if (known->points[i][0] != '\0' && !known->may_be_gone[i]) {
            fault(known, "point", i, "was acknowledged and is gone");
        }
    }
    for (uint64_t i = 0; i < DISKS; i++) {
        check_disk(vault, known, i);
        if (!known->reclaims) {
            check_acknowledged_root(vault, known, i);
        }
    }
    check_goes_on(vault, known);
    if (known->reclaims) {
        check_reclaim(vault, known);
    }
    far_vault_close(vault);
    int faults = known->faults;
    printf("%d faults\n", faults);
    free(known);
    return faults == 0 ? 0 : 1;
}

/* Every point that was announced is there, and each that is there is whole. */
static int look_at_vault(const char *dir)
{
    struct known *known = calloc(1, sizeof *known);
    const struct far_vault_options options = {.read_only = true};
    struct far_vault *vault = NULL;
    read_lines(known);
    must(far_vault_open(dir, &options, &vault, &err), "open");
    struct check check = {.vault = vault, .known = known};
    memset(known->forgotten, 0, sizeof known->forgotten);
    struct far_domain_info infos[4];
    if (far_vault_domains(vault, infos, 4) > 0) {
        known->keyed = open_domain(vault, last_generation(vault));
    }
    must(far_vault_points(vault, check_point, &check, &err), "points");
    for (uint64_t i = 0; i < POINTS_MAX; i++) {
        if (known->points[i][0] != '\0' && !known->may_be_gone[i]) {
            fault(known, "point", i, "was acknowledged and is gone");
        }
    }
    far_vault_close(vault);
    int faults = known->faults;
    free(known);
    return faults == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 4 && (strcmp(argv[1], "write") == 0 || strcmp(argv[1], "reclaim") == 0)) {
        return write_vault(argv[2], strtoull(argv[3], NULL, 10), strcmp(argv[1], "reclaim") == 0);
    }
    if (argc == 5 && strcmp(argv[1], "copy") == 0) {
        return copy_vault(argv[2], strtoull(argv[3], NULL, 10), argv[4]);
    }
    if (argc == 4 && strcmp(argv[1], "again") == 0) {
        return copy_all_again(argv[2], argv[3]);
    }
    if (argc == 4 && strcmp(argv[1], "key") == 0) {
        return use_key(argv[2], (uint32_t)strtoul(argv[3], NULL, 10));
    }
    if (argc == 3 && strcmp(argv[1], "look") == 0) {
        return look_at_vault(argv[2]);
    }
    if (argc == 3 && strcmp(argv[1], "destroy") == 0) {
        return destroy_domain(argv[2]);
    }
    if ((argc == 5 || argc == 6) && strcmp(argv[1], "locked") == 0) {
        return seal_locked(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10), argc == 6 ? strtoull(argv[5], NULL, 10) : 0);
    }
    if (argc == 3 && strcmp(argv[1], "check") == 0) {
        return check_vault(argv[2]);
    }
    fprintf(stderr, "usage: vault_driver write|reclaim DIR SEED | copy DIR SEED SOURCE | again DIR SOURCE |"
                    " key DIR GENERATION | destroy DIR | locked DIR POINT SECONDS [OTHER] |"
                    " look DIR | check DIR\n");
    return 2;
}
