/* Ingest and reclaim, interleaved at every step: a pass tells how far it is between any two of its transactions, and each time the
 * test does something else to the same vault – writes, makes and seals points, forgets them, opens them, goes back to them, fails –
 * and compares what the vault holds with a model of plain arrays. In the end nothing is left that nobody needs. */
#include "../lib/cm.h"
#include "../lib/vault_reach.h"
#include "dataplane/reclaim.h"

enum { DISKS = 3, POINTS_MAX = 400, OPENED_MAX = 4, NUMBERS = 220 };
/* Of two heights, so that disks grow into a higher tree. */
static const uint64_t sizes[] = {40 * FAR_BLOCK_BYTES, 300 * FAR_BLOCK_BYTES, 700ull * FAR_BLOCK_BYTES};
enum { BLOCKS_MAX = 700 };

struct disk {
    unsigned size; /* index into sizes */
    uint32_t now[BLOCKS_MAX]; /* numbers of blocks */
    uint32_t durable[BLOCKS_MAX];
    struct far_replica *replica; /* NULL: no job */
};
struct sealed {
    uint64_t id; /* 0: there is none */
    unsigned disk;
    unsigned size;
    uint32_t blocks[BLOCKS_MAX];
    struct far_hash256 root;
};
struct opened {
    struct far_point *point;
    struct sealed what;
};

static char dir[300];
static struct far_vault *vault;
static struct far_error err;
static struct far_manifest manifest;
static struct disk disks[DISKS];
static struct sealed points[POINTS_MAX];
static struct opened open_points[OPENED_MAX];
static struct far_hash256 ids[NUMBERS];
static uint64_t seed, jobs, point_ids, pass, steps, ops_left, cancel_at;
static struct far_reclaim_result total;

static void must(int rc)
{
    if (rc != 0) {
        print_message("# %s\n", err.message);
    }
    assert_int_equal(rc, 0);
}

static uint64_t rnd(uint64_t below)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 33) % below;
}

static void open_vault(void)
{
    struct far_vault_options options = {.create = true, .pack_bytes_max = 1 << 20, .cache_bytes_max = 1 << 20};
    must(far_vault_open(dir, &options, &vault, &err));
}

/* ---- what is held against the model ---- */

static void tell_damage(void *arg, const struct far_point_damage *damage)
{
    const struct sealed *sealed = arg;
    print_message("# point %llu, block %llu: %s\n", (unsigned long long)sealed->id, (unsigned long long)damage->first_block,
                  damage->text);
}

static void check_disk(struct far_point *point, const struct sealed *sealed)
{
    struct far_verify_result result;
    struct far_hash256 leaf;
    must(far_point_verify(point, tell_damage, NULL, (void *)sealed, &result, &err));
    for (uint64_t i = 0; i < sizes[sealed->size] / FAR_BLOCK_BYTES; i++) {
        must(far_point_leaf(point, i, &leaf, &err));
        assert_memory_equal(&leaf, &ids[sealed->blocks[i]], sizeof leaf);
    }
}

static void check_point(const struct sealed *sealed)
{
    struct far_point *point;
    must(far_point_open_disk(vault, sealed->id, "root", &point, &err));
    check_disk(point, sealed);
    far_point_close(point);
}

static void check_replica(const struct disk *disk)
{
    struct far_hash256 leaf;
    for (uint64_t i = 0; disk->replica != NULL && i < sizes[disk->size] / FAR_BLOCK_BYTES; i++) {
        bool there;
        must(far_replica_get(disk->replica, i, &leaf, &err));
        assert_memory_equal(&leaf, &ids[disk->now[i]], sizeof leaf);
        must(far_vault_has(vault, NULL, &leaf, 1, &there, &err));
        assert_true(there);
    }
}

static void check_all(void)
{
    for (size_t i = 0; i < POINTS_MAX; i++) {
        if (points[i].id != 0) {
            check_point(&points[i]);
        }
    }
    for (size_t i = 0; i < OPENED_MAX; i++) {
        if (open_points[i].point != NULL) {
            check_disk(open_points[i].point, &open_points[i].what);
        }
    }
    for (size_t i = 0; i < DISKS; i++) {
        check_replica(&disks[i]);
    }
}

/* ---- needs, counted once more from the chains alone ---- */

enum { PLACES_MAX = 4 + 300 + BLOCKS_MAX, NEEDED_MAX = 60000, CHAIN_MAX = 600 };
struct need {
    struct far_hash256 id;
    uint32_t needs;
};
static struct need needed[NEEDED_MAX];
static size_t needed_count;
/* A tree as an array: the root, pages of level 1, pages of level 0, leaves. A place that is not there is all zero bytes. */
static struct far_hash256 chain[CHAIN_MAX][PLACES_MAX];

static void need(const struct far_hash256 *id)
{
    static const struct far_hash256 none;
    if (memcmp(id, &none, 32) == 0 || memcmp(id, far_zero_leaf(), 32) == 0 || memcmp(id, far_map_zero(8), 32) == 0 ||
        memcmp(id, far_map_zero(16), 32) == 0) {
        return;
    }
    for (size_t i = 0; i < needed_count; i++) {
        if (memcmp(&needed[i].id, id, 32) == 0) {
            needed[i].needs++;
            return;
        }
    }
    assert_true(needed_count < NEEDED_MAX);
    needed[needed_count++] = (struct need){.id = *id, .needs = 1};
}

static void flatten(const struct far_ledger_tree *tree, struct far_hash256 places[PLACES_MAX])
{
    struct far_hash256 pages[FAR_MAP_FANOUT];
    memset(places, 0, PLACES_MAX * sizeof places[0]);
    far_map_bind_root(tree->size_bytes, &tree->top, &places[0]);
    unsigned count = 1;
    if (tree->height == 2) {
        places[1] = tree->top;
        must(far_vault_page(vault, NULL, 1, &tree->top, pages, &err));
        count = 3; /* 700 blocks have three pages */
    } else {
        pages[0] = tree->top;
    }
    for (unsigned i = 0; i < count; i++) {
        struct far_hash256 leaves[FAR_MAP_FANOUT];
        places[2 + i] = pages[i];
        must(far_vault_page(vault, NULL, 0, &pages[i], leaves, &err));
        for (unsigned k = 0; k < FAR_MAP_FANOUT && i * FAR_MAP_FANOUT + k < BLOCKS_MAX; k++) {
            places[304 + i * FAR_MAP_FANOUT + k] = leaves[k];
        }
    }
}

static struct far_chain chain_of(uint64_t disk)
{
    return (struct far_chain){.disk_id = disk};
}

static void check_needs(void)
{
    needed_count = 0;
    for (uint64_t disk = 1; disk <= DISKS; disk++) {
        struct far_ledger_tree tree;
        uint64_t point = 0;
        size_t count = 0;
        while (far_ledger_next(vault, chain_of(disk), &point, &tree, &err) == 0) {
            assert_true(count < CHAIN_MAX);
            flatten(&tree, chain[count++]);
            if (point == FAR_LEDGER_REPLICA) {
                break;
            }
            point++;
        }
        for (size_t at = 0; at < PLACES_MAX; at++) {
            for (size_t i = 0; i < count; i++) {
                if (i == 0 || memcmp(&chain[i][at], &chain[i - 1][at], 32) != 0) {
                    need(&chain[i][at]);
                }
            }
        }
    }
    for (size_t i = 0; i < needed_count; i++) {
        struct far_index_row row;
        must(far_index_look(vault->index, &needed[i].id, 1, &row, &err));
        if (row.needs != needed[i].needs) {
            char hex[65];
            far_hex_encode(needed[i].id.bytes, 32, hex);
            print_message("# %s: needs %u, counted %u\n", hex, needed[i].needs, row.needs);
        }
        assert_int_equal(row.needs, needed[i].needs);
    }
}

/* ---- what is done ---- */

static void begin_job(struct disk *disk)
{
    struct far_fence fence = {.incarnation_epoch = 1, .plan_epoch = 1, .job = ++jobs, .attempt = 1};
    far_replica_close(disk->replica);
    if (rnd(6) == 0 && disk->size + 1 < sizeof sizes / sizeof sizes[0]) {
        disk->size++;
    }
    must(far_replica_open(vault, NULL, (uint64_t)(disk - disks) + 1, sizes[disk->size], &fence, &disk->replica, &err));
    /* What was not made durable by a checkpoint, or by a mark, is gone: so far the model cannot know which. */
    for (uint64_t i = 0; i < sizes[disk->size] / FAR_BLOCK_BYTES; i++) {
        struct far_hash256 leaf;
        must(far_replica_get(disk->replica, i, &leaf, &err));
        uint32_t number = 0;
        while (number < NUMBERS && memcmp(&leaf, &ids[number], sizeof leaf) != 0) {
            number++;
        }
        assert_true(number < NUMBERS);
        disk->now[i] = number;
    }
}

static void end_job(struct disk *disk)
{
    far_replica_close(disk->replica);
    disk->replica = NULL;
}

static void write_blocks(struct disk *disk)
{
    for (uint64_t i = rnd(12); i > 0; i--) {
        uint64_t at = rnd(sizes[disk->size] / FAR_BLOCK_BYTES);
        uint32_t number = (uint32_t)rnd(NUMBERS);
        must(kit_write(vault, disk->replica, at, number, &err));
        disk->now[at] = number;
    }
}

static void zero_blocks(struct disk *disk)
{
    uint64_t blocks = sizes[disk->size] / FAR_BLOCK_BYTES, at = rnd(blocks), count = rnd(blocks - at);
    must(far_replica_set_zero(disk->replica, at, count, &err));
    memset(disk->now + at, 0, count * sizeof disk->now[0]);
}

static struct sealed *free_point(void)
{
    for (size_t i = 0; i < POINTS_MAX; i++) {
        if (points[i].id == 0) {
            return &points[i];
        }
    }
    return NULL;
}

static struct sealed *any_point(void)
{
    size_t first = rnd(POINTS_MAX);
    for (size_t i = 0; i < POINTS_MAX; i++) {
        struct sealed *point = &points[(first + i) % POINTS_MAX];
        if (point->id != 0) {
            return point;
        }
    }
    return NULL;
}

static void seal_point(struct disk *disk)
{
    struct sealed *point = free_point();
    must(far_replica_checkpoint(disk->replica, 0, "view", &err));
    if (rnd(3) != 0 && point != NULL) {
        point->id = ++point_ids;
        point->disk = (unsigned)(disk - disks);
        point->size = disk->size;
        memcpy(point->blocks, disk->now, sizeof point->blocks);
        must(far_replica_root(disk->replica, &point->root, &err));
        kit_manifest(point->id, point->disk + 1, sizes[point->size], &point->root, &manifest);
        must(far_vault_seal(vault, &manifest, &err));
    }
}

static void forget_point(struct sealed *point)
{
    must(far_vault_forget(vault, point->id, &err));
    kit_manifest(point->id, point->disk + 1, sizes[point->size], &point->root, &manifest);
    if (rnd(8) == 0 && access(dir, F_OK) == 0) { /* a repeated order comes too late */
        int rc = far_vault_seal(vault, &manifest, &err);
        assert_true(rc == FAR_CONFLICT || rc == FAR_NOT_FOUND || rc == 0);
        if (rc == 0) {
            must(far_vault_forget(vault, point->id, &err));
        }
    }
    point->id = 0;
}

static void open_or_close(void)
{
    struct opened *opened = &open_points[rnd(OPENED_MAX)];
    struct sealed *point = any_point();
    if (opened->point != NULL) {
        check_disk(opened->point, &opened->what);
        far_point_close(opened->point);
        opened->point = NULL;
    } else if (point != NULL) {
        opened->what = *point;
        must(far_point_open_disk(vault, point->id, "root", &opened->point, &err));
    }
}

static void rewind_disk(struct disk *disk)
{
    struct sealed *point = any_point();
    uint64_t blocks = sizes[disk->size] / FAR_BLOCK_BYTES, from = rnd(blocks);
    if (point == NULL || point->size > disk->size) {
        return;
    }
    must(far_replica_rewind(disk->replica, &point->root, from, &err));
    uint64_t theirs = sizes[point->size] / FAR_BLOCK_BYTES;
    for (uint64_t i = from; i < blocks; i++) {
        disk->now[i] = i < theirs ? point->blocks[i] : 0;
    }
}

/* The tree of a point that may be forgotten already: all of it is there, or the call says that it is not. */
static void rewind_to_the_past(struct disk *disk, const struct sealed *forgotten)
{
    if (forgotten->size > disk->size) {
        return;
    }
    int rc = far_replica_rewind(disk->replica, &forgotten->root, 0, &err);
    assert_true(rc == 0 || rc == FAR_NOT_FOUND);
    if (rc == 0) {
        uint64_t theirs = sizes[forgotten->size] / FAR_BLOCK_BYTES;
        for (uint64_t i = 0; i < BLOCKS_MAX; i++) {
            disk->now[i] = i < theirs ? forgotten->blocks[i] : 0;
        }
    }
}

static void put_orphan(void)
{
    struct far_hash256 id;
    must(kit_put(vault, rnd(NUMBERS), &id, &err));
}

static struct sealed last_forgotten;

static void do_something(void)
{
    struct disk *disk = &disks[rnd(DISKS)];
    struct sealed *point;
    uint64_t what = rnd(20);
    if (disk->replica == NULL) {
        begin_job(disk);
    }
    if (what < 8) {
        write_blocks(disk);
    } else if (what < 11) {
        seal_point(disk);
    } else if (what < 14 && (point = any_point()) != NULL) {
        last_forgotten = *point;
        forget_point(point);
    } else if (what == 14) {
        zero_blocks(disk);
    } else if (what == 15) {
        open_or_close();
    } else if (what == 16) {
        rewind_disk(disk);
    } else if (what == 17 && last_forgotten.id != 0) {
        rewind_to_the_past(disk, &last_forgotten);
    } else if (what == 18) {
        put_orphan();
    } else {
        end_job(disk);
    }
}

static int between(void *arg, const struct far_reclaim_progress *progress)
{
    (void)arg;
    (void)progress;
    steps++;
    for (uint64_t i = ops_left > 0 ? rnd(3) : 0; i > 0; i--) {
        do_something();
        ops_left--;
    }
    return steps == cancel_at;
}

static void add(const struct far_reclaim_result *result)
{
    total.points_counted += result->points_counted;
    total.points_released += result->points_released;
    total.points_pinned += result->points_pinned;
    total.quarantined_records += result->quarantined_records;
    total.found_again_records += result->found_again_records;
    total.waiting_records += result->waiting_records;
    total.deleted_records += result->deleted_records;
    total.moved_records += result->moved_records;
    total.packs_removed += result->packs_removed;
    assert_int_equal(result->points_uncountable, 0);
    assert_int_equal(result->points_lost, 0);
}

static int reclaim(uint64_t ops, uint32_t batch_max)
{
    struct far_reclaim_result result;
    pass++;
    struct far_reclaim_order order = {.pass = pass, .delete_before = pass, .move_percent = 1, .batch_max = batch_max,
                                      .secure = pass % 5 == 0};
    ops_left = ops;
    int rc = far_vault_reclaim(vault, &order, between, NULL, &result, &err);
    add(&result);
    return rc;
}

static void close_all(void)
{
    for (size_t i = 0; i < OPENED_MAX; i++) {
        far_point_close(open_points[i].point);
        open_points[i].point = NULL;
    }
    for (size_t i = 0; i < DISKS; i++) {
        end_job(&disks[i]);
    }
    far_vault_close(vault);
    vault = NULL;
}

static void lose_index(void)
{
    char path[400];
    snprintf(path, sizeof path, "%s/index", dir);
    kit_remove(path);
}

/* ---- nothing is left ---- */

static void nothing_is_left(void)
{
    struct far_vault_stats stats;
    close_all();
    open_vault();
    for (int i = 0; i < 3; i++) {
        must(reclaim(0, 0));
    }
    check_all();
    assert_int_equal(reach_unreachable(vault), 0);
    far_vault_stats(vault, &stats);
    far_vault_close(vault);
    open_vault();
    struct far_vault_stats again;
    far_vault_stats(vault, &again);
    assert_int_equal(again.records, stats.records);
    assert_int_equal(again.pack_bytes, stats.pack_bytes);
    assert_int_equal(again.packs, stats.packs);
    assert_int_equal(again.damages, 0);
    check_all();
}

static void run(uint64_t first_seed, unsigned rounds)
{
    snprintf(dir, sizeof dir, "%s", kit_folder());
    memset(points, 0, sizeof points);
    memset(disks, 0, sizeof disks);
    memset(&last_forgotten, 0, sizeof last_forgotten);
    seed = first_seed;
    jobs = point_ids = pass = 0;
    open_vault();
    for (unsigned round = 0; round < rounds; round++) {
        for (uint64_t i = rnd(30); i > 0; i--) {
            do_something();
        }
        cancel_at = rnd(3) == 0 ? steps + 1 + rnd(20) : 0;
        int rc = reclaim(60, 1 + (uint32_t)rnd(40));
        assert_true(rc == 0 || rc == FAR_CANCELED);
        if (rc == 0) {
            check_needs();
        }
        if (rnd(4) == 0) {
            check_all();
        }
        if (rnd(6) == 0) {
            close_all();
            if (rnd(2) == 0) {
                lose_index();
            }
            open_vault();
            check_all();
        }
    }
    check_all();
    nothing_is_left();
    close_all();
    kit_remove(dir);
}

static void reclaim_beside_ingest_keeps_what_is_needed_and_nothing_else(void **state)
{
    (void)state;
    const char *given = getenv("FAR_SEED");
    const char *wanted = getenv("FAR_SEEDS");
    uint64_t first = given != NULL ? strtoull(given, NULL, 10) : 1;
    uint64_t count = given != NULL ? 1 : wanted != NULL ? strtoull(wanted, NULL, 10) : 8;
    for (uint32_t i = 0; i < NUMBERS; i++) {
        ids[i] = kit_id(i);
    }
    for (uint64_t i = first; i < first + count; i++) {
        print_message("# seed %llu\n", (unsigned long long)i);
        run(i, 40);
    }
    print_message("# %llu steps; points counted %llu, released %llu, pinned %llu; records quarantined %llu, needed again %llu, found again "
                  "%llu, deleted %llu, moved %llu; packs removed %llu\n", (unsigned long long)steps,
                  (unsigned long long)total.points_counted, (unsigned long long)total.points_released,
                  (unsigned long long)total.points_pinned, (unsigned long long)total.quarantined_records,
                  (unsigned long long)total.found_again_records, (unsigned long long)total.waiting_records,
                  (unsigned long long)total.deleted_records, (unsigned long long)total.moved_records,
                  (unsigned long long)total.packs_removed);
    /* Every way was gone. */
    assert_true(given != NULL || (total.points_pinned > 0 && total.found_again_records > 0 && total.waiting_records > 0 &&
                                  total.deleted_records > 0 && total.moved_records > 0 && total.packs_removed > 0));
}

int main(void)
{
    /* What is durable is not the question here (test_powercut.py): in memory it is faster. */
    if (getenv("FAR_SEED") == NULL && access("/dev/shm", W_OK) == 0) {
        setenv("TMPDIR", "/dev/shm", 1);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reclaim_beside_ingest_keeps_what_is_needed_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
