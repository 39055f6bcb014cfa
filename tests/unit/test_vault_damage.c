/* The vault when bytes are not what was written, when files are missing, when the disk is full, when memory is short. */
#include "../lib/cm.h"
#include "../lib/faults.h"
#include "../lib/vault_kit.h"

#include "base/file.h"
#include "dataplane/pack.h"
#include "dataplane/reclaim.h"
#include "dataplane/scrub.h"

#include <errno.h>
#include <fcntl.h>

enum { BLOCKS = 600, DISK = 5 };

static char dir[300];
static struct far_vault *vault;
static struct far_error err;
static struct far_manifest manifest;
static uint8_t block[FAR_BLOCK_BYTES];
static uint8_t expected[FAR_BLOCK_BYTES];
static const struct far_fence fence = {.incarnation_epoch = 1, .plan_epoch = 1, .job = 10, .attempt = 1};
static const struct far_vault_options options = {.create = true, .pack_bytes_max = 1 << 20, .cache_bytes_max = 1 << 20};

static int try_open(void)
{
    vault = NULL;
    return far_vault_open(dir, &options, &vault, &err);
}

static uint64_t number_at(uint64_t index)
{
    return index % 30 == 0 ? index + 1 : 0;
}

/* Two packs of blocks, one sealed point with id 1. */
static int set_up(void **state)
{
    (void)state;
    struct far_replica *replica;
    struct far_hash256 root;
    snprintf(dir, sizeof dir, "%s", kit_folder());
    assert_int_equal(try_open(), 0);
    assert_int_equal(far_replica_open(vault, NULL, DISK, BLOCKS * FAR_BLOCK_BYTES, &fence, &replica, &err), 0);
    for (uint64_t i = 0; i < BLOCKS; i++) {
        assert_true(number_at(i) == 0 || kit_write(vault, replica, i, number_at(i), &err) == 0);
    }
    assert_int_equal(far_replica_checkpoint(replica, BLOCKS, "v", &err), 0);
    assert_int_equal(far_replica_root(replica, &root, &err), 0);
    kit_manifest(1, DISK, BLOCKS * FAR_BLOCK_BYTES, &root, &manifest);
    assert_int_equal(far_vault_seal(vault, &manifest, &err), 0);
    far_replica_close(replica);
    far_vault_close(vault);
    vault = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    far_vault_close(vault);
    vault = NULL;
    kit_remove(dir);
    return 0;
}

static void path_in(const char *name, char path[512])
{
    snprintf(path, 512, "%s/%s", dir, name);
}

static uint64_t size_of(const char *name)
{
    char path[512];
    struct stat st;
    path_in(name, path);
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static void flip(const char *name, uint64_t at, uint8_t bits)
{
    char path[512];
    uint8_t byte;
    path_in(name, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= bits;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

static void remove_file(const char *name)
{
    char path[512];
    path_in(name, path);
    assert_int_equal(unlink(path), 0);
}

struct told {
    uint64_t damages;
    uint64_t blocks;
    char first[512];
};

static void note_damage(void *arg, const struct far_point_damage *damage)
{
    struct told *told = arg;
    if (told->damages++ == 0) {
        memcpy(told->first, damage->text, sizeof told->first);
    }
    told->blocks += damage->block_count;
}

/* Point 1 is whole, or what is not can be named and is never returned: each block read is right or an error. */
static struct told look_at_point(void)
{
    struct told told = {0};
    struct far_point *point;
    struct far_verify_result result = {0};
    int rc = far_point_open_disk(vault, 1, "root", &point, &err);
    if (rc != 0) {
        assert_int_equal(rc, FAR_CORRUPT);
        told.damages = 1;
        told.blocks = BLOCKS;
        memcpy(told.first, err.message, sizeof told.first);
        return told;
    }
    rc = far_point_verify(point, note_damage, NULL, &told, &result, &err);
    assert_int_equal(rc, told.damages == 0 ? 0 : FAR_CORRUPT);
    assert_int_equal(result.blocks_damaged, told.blocks);
    for (uint64_t i = 0; i < BLOCKS; i++) {
        rc = far_point_read(point, i, false, block, NULL, &err);
        if (rc == 0) {
            kit_block(number_at(i), expected);
            assert_memory_equal(block, expected, FAR_BLOCK_BYTES);
        } else {
            assert_int_equal(rc, FAR_CORRUPT);
            assert_true(told.damages > 0);
        }
    }
    far_point_close(point);
    return told;
}

/* ---- packs ---- */

static void every_flipped_bit_of_a_pack_is_found_and_named(void **state)
{
    (void)state;
    uint64_t seed = 99;
    int named = 0;
    print_message("# seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < 40; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        const char *name = seed >> 63 ? "packs/00000001.pack" : "packs/00000002.pack";
        uint64_t at = i < 10 ? FAR_PACK_HEADER_BYTES + (seed >> 30) % 64 /* a header of a record */
                             : (seed >> 20) % size_of(name);
        uint8_t bits = (uint8_t)(1u << (seed >> 60 & 7));
        if (i == 10) {
            at = 5; /* the header of the pack: the records behind it are still read */
        }
        flip(name, at, bits);
        for (int pass = 0; pass < 2; pass++) { /* with the index, and with it made anew from the damaged pack */
            struct far_vault_stats stats;
            assert_int_equal(try_open(), 0);
            struct told told = look_at_point();
            far_vault_stats(vault, &stats);
            /* A bit of a record header that the index already covers shows when the record is read; a bit of the pack's
             * header, or of a record that this point does not use, shows at open. */
            assert_true(told.damages + stats.damages > 0);
            bool names_pack = strstr(told.damages > 0 ? told.first : stats.damage, name + 6) != NULL;
            named += names_pack;
            far_vault_close(vault);
            vault = NULL;
            remove_file("index/data.mdb");
        }
        flip(name, at, bits);
        assert_int_equal(try_open(), 0);
        assert_int_equal(look_at_point().damages, 0);
        far_vault_close(vault);
        vault = NULL;
    }
    /* Without an index a record whose header is gone has no place: then the scan at open has named it. */
    assert_true(named >= 40);
}

static void a_damaged_block_is_not_had_and_a_new_put_heals_it(void **state)
{
    (void)state;
    bool there;
    struct far_hash256 id = kit_id(1);
    flip("packs/00000001.pack", FAR_PACK_HEADER_BYTES + 64 + 1000, 1);
    assert_int_equal(try_open(), 0);
    assert_int_equal(far_vault_has(vault, NULL, &id, 1, &there, &err), 0);
    assert_true(there); /* nobody has looked yet */
    assert_int_equal(look_at_point().blocks, 1);
    assert_int_equal(far_vault_has(vault, NULL, &id, 1, &there, &err), 0);
    assert_false(there);
    assert_int_equal(kit_put(vault, 1, &id, &err), 0);
    assert_int_equal(far_vault_sync(vault, &err), 0);
    assert_int_equal(look_at_point().damages, 0);
    far_vault_close(vault);
    remove_file("index/data.mdb"); /* the newer record wins also when the index is made anew */
    assert_int_equal(try_open(), 0);
    assert_int_equal(look_at_point().damages, 0);
}

static void a_missing_pack_is_named_and_its_number_not_used_again(void **state)
{
    (void)state;
    struct far_vault_stats stats;
    struct far_hash256 id;
    remove_file("packs/00000002.pack");
    assert_int_equal(try_open(), 0);
    far_vault_stats(vault, &stats);
    assert_true(stats.damages > 0);
    assert_non_null(strstr(stats.damage, "00000002.pack"));
    assert_true(look_at_point().damages > 0);
    for (uint64_t i = 1000; i < 1003; i++) {
        assert_int_equal(kit_put(vault, i, &id, &err), 0);
    }
    assert_int_equal(far_vault_sync(vault, &err), 0);
    assert_int_equal(size_of("packs/00000002.pack"), 0);
    assert_true(size_of("packs/00000003.pack") > 0);
}

static void a_sealed_pack_that_lost_its_end_is_named(void **state)
{
    (void)state;
    char path[512];
    struct far_vault_stats stats;
    path_in("packs/00000001.pack", path);
    assert_int_equal(truncate(path, (off_t)size_of("packs/00000001.pack") - 72), 0);
    assert_int_equal(try_open(), 0);
    far_vault_stats(vault, &stats);
    assert_non_null(strstr(stats.damage, "00000001.pack"));
}

static void a_torn_tail_is_cut_and_what_was_acknowledged_stays(void **state)
{
    (void)state;
    char path[512];
    path_in("packs/00000002.pack", path);
    uint64_t whole = size_of("packs/00000002.pack");
    struct far_hash256 id;
    /* Records that were never synced, torn at every place that matters. */
    static const uint64_t tails[] = {1, 63, 64, 65, 64 + 65535};
    uint8_t record[64 + FAR_BLOCK_BYTES];
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        struct far_vault_stats stats;
        struct far_record header = {.type = FAR_RECORD_BLOCK, .stored_len = FAR_BLOCK_BYTES, .raw_len = FAR_BLOCK_BYTES};
        header.id = kit_id(77);
        far_record_encode(&header, record);
        kit_block(77, record + 64);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, record, tails[i], (off_t)whole), tails[i]);
        close(fd);
        assert_int_equal(try_open(), 0);
        far_vault_stats(vault, &stats);
        assert_int_equal(stats.tail_cut, tails[i]);
        assert_int_equal(stats.damages, 0);
        assert_int_equal(look_at_point().damages, 0);
        far_vault_close(vault);
        vault = NULL;
        assert_int_equal(size_of("packs/00000002.pack"), whole);
    }
    assert_int_equal(try_open(), 0);
    assert_int_equal(kit_put(vault, 78, &id, &err), 0);
    assert_int_equal(far_vault_sync(vault, &err), 0);
    assert_int_equal(far_vault_get(vault, NULL, &id, true, block, &err), 0);
}

static void a_last_pack_shorter_than_what_was_durable_is_named(void **state)
{
    (void)state;
    char path[512];
    struct far_vault_stats stats;
    path_in("packs/00000002.pack", path);
    assert_int_equal(truncate(path, (off_t)size_of("packs/00000002.pack") / 2), 0);
    assert_int_equal(try_open(), 0);
    far_vault_stats(vault, &stats);
    assert_true(stats.damages > 0);
    assert_non_null(strstr(stats.damage, "00000002.pack"));
    assert_true(look_at_point().damages > 0);
}

/* ---- index ---- */

static void a_missing_index_is_made_anew(void **state)
{
    (void)state;
    struct far_vault_stats stats;
    remove_file("index/data.mdb");
    assert_int_equal(try_open(), 0);
    far_vault_stats(vault, &stats);
    assert_true(stats.index_rebuilt);
    assert_int_equal(look_at_point().damages, 0);
}

static void flipped_bits_of_the_index_cost_nothing_but_a_rebuild(void **state)
{
    (void)state;
    uint64_t seed = 7;
    int rebuilt = 0;
    print_message("# seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < 60; i++) {
        struct far_vault_stats stats;
        struct far_hash256 id;
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        uint64_t size = size_of("index/data.mdb");
        uint64_t at = i % 2 == 0 ? (seed >> 20) % size : (seed >> 20) % 4 * 4096 + (seed >> 40) % 200;
        flip("index/data.mdb", at % size, (uint8_t)(1u << (seed >> 60 & 7)));
        assert_int_equal(try_open(), 0);
        far_vault_stats(vault, &stats);
        rebuilt += stats.index_rebuilt;
        assert_int_equal(stats.damages, 0);
        assert_int_equal(look_at_point().damages, 0);
        assert_int_equal(kit_put(vault, 10000 + (uint64_t)i, &id, &err), 0);
        far_vault_close(vault);
        vault = NULL;
    }
    print_message("# rebuilt %d times\n", rebuilt);
    assert_true(rebuilt > 5);
}

/* ---- small files ---- */

static int expect_problem(void *arg, uint64_t point_id, const struct far_manifest *found, const char *problem)
{
    assert_int_equal(point_id, 1);
    assert_null(found);
    assert_non_null(strstr(problem, "1.manifest"));
    ++*(int *)arg;
    return 0;
}

static void every_flipped_bit_of_a_manifest_is_found_and_named(void **state)
{
    (void)state;
    uint64_t size = size_of("points/1.manifest");
    int listed = 0;
    assert_true(size > 0);
    assert_int_equal(try_open(), 0);
    for (uint64_t at = 0; at < size; at++) {
        struct far_point *point;
        flip("points/1.manifest", at, (uint8_t)(1u << at % 8));
        assert_int_equal(far_point_open_disk(vault, 1, "root", &point, &err), FAR_CORRUPT);
        assert_non_null(strstr(err.message, "1.manifest"));
        assert_int_equal(far_vault_points(vault, expect_problem, &listed, &err), 0);
        flip("points/1.manifest", at, (uint8_t)(1u << at % 8));
    }
    assert_int_equal(listed, size);
    assert_int_equal(look_at_point().damages, 0);
}

static void a_manifest_signed_by_another_vault_is_refused(void **state)
{
    (void)state;
    char path[512];
    struct far_buf buf;
    uint8_t seed[32] = {42};
    far_buf_init(&buf, FAR_MANIFEST_BYTES_MAX);
    assert_int_equal(far_manifest_sign(&manifest, seed, &buf, &err), 0);
    path_in("points/1.manifest", path);
    assert_int_equal(far_file_replace(path, buf.data, buf.len, 0600, &err), 0);
    assert_int_equal(try_open(), 0);
    struct far_manifest *found = malloc(sizeof *found);
    assert_int_equal(far_vault_point(vault, 1, found, &err), FAR_CORRUPT);
    free(found);
    far_buf_done(&buf);
}

static void damaged_files_of_the_vault_are_named(void **state)
{
    (void)state;
    static const char *const names[] = {"vault", "vault.key"};
    for (size_t i = 0; i < 2; i++) {
        flip(names[i], 20, 4);
        assert_int_equal(try_open(), FAR_CORRUPT);
        assert_non_null(strstr(err.message, names[i]));
        flip(names[i], 20, 4);
    }
    assert_int_equal(try_open(), 0);
    assert_int_equal(look_at_point().damages, 0);
}

static size_t scrub_as_a_reader(void)
{
    struct far_vault_options reading = {.read_only = true};
    struct far_scrub_order order = {.bytes_max = 0};
    struct far_scrub_result *result = calloc(1, sizeof *result);
    assert_int_equal(far_vault_open(dir, &reading, &vault, &err), 0);
    assert_int_equal(far_vault_scrub(vault, &order, NULL, NULL, result, &err), 0);
    size_t count = result->damage_count;
    assert_true(count == 0 || strstr(result->damages[0].text, "5.replica") != NULL);
    free(result);
    far_vault_close(vault);
    return count;
}

/* Of the newest point, or of the handle that is open; neither a cycle nor a pass ends by it. */
static void a_damaged_file_of_a_replica_is_named_and_made_anew(void **state)
{
    (void)state;
    struct far_reclaim_order order = {.pass = 1};
    struct far_reclaim_result result;
    struct far_replica *replica, *other;
    struct far_replica_state is;
    struct far_vault_stats stats;
    struct far_fence next = fence;
    assert_int_equal(scrub_as_a_reader(), 0);
    flip("replicas/5.replica", 60, 1);
    assert_int_equal(scrub_as_a_reader(), 1);
    assert_int_equal(try_open(), 0);
    assert_int_equal(far_vault_reclaim(vault, &order, NULL, NULL, &result, &err), 0);
    assert_int_equal(result.points_uncountable, 0);
    far_vault_stats(vault, &stats);
    assert_non_null(strstr(stats.damage, "made anew"));
    flip("replicas/5.replica", 200, 1);
    assert_int_equal(far_replica_open(vault, NULL, DISK, BLOCKS * FAR_BLOCK_BYTES, &fence, &replica, &err), 0);
    far_replica_state(replica, &is);
    assert_true(far_hash256_equal(&is.root, &manifest.disks[0].root));
    assert_int_equal(kit_write(vault, replica, 7, 7000, &err), 0);
    assert_int_equal(far_replica_checkpoint(replica, 8, "v2", &err), 0);
    flip("replicas/5.replica", 100, 1);
    next.attempt = 2;
    assert_int_equal(far_replica_open(vault, NULL, DISK, BLOCKS * FAR_BLOCK_BYTES, &next, &other, &err), 0);
    far_replica_state(other, &is);
    assert_int_equal(is.frontier_blocks, 8);
    assert_int_equal(far_replica_set_zero(replica, 0, 1, &err), FAR_CONFLICT);
    far_replica_close(replica);
    far_replica_close(other);
    far_vault_close(vault);
    assert_int_equal(scrub_as_a_reader(), 0);
    vault = NULL;
}

/* ---- full disk, failing calls ---- */

/* Writes until the disk is full at the n-th call of a kind; then there is space again and everything goes on. */
static void fill_at(enum far_fault kind, uint64_t nth)
{
    struct far_replica *replica;
    struct far_hash256 leaf;
    assert_int_equal(try_open(), 0);
    static uint64_t attempt = 1;
    struct far_fence next = fence;
    next.attempt = ++attempt;
    assert_int_equal(far_replica_open(vault, NULL, DISK, BLOCKS * FAR_BLOCK_BYTES, &next, &replica, &err), 0);
    far_fault_arm_from(kind, nth, ENOSPC);
    int rc = 0;
    uint64_t done = 0;
    for (; rc == 0 && done < 120; done++) {
        rc = kit_write(vault, replica, done, 2000 + nth * 1000 + done, &err);
        if (rc == 0 && done % 40 == 39) {
            rc = far_replica_checkpoint(replica, done, "v", &err);
        }
    }
    bool struck = far_fault_disarm();
    assert_true(rc == 0 || rc == FAR_LIMIT);
    assert_true(rc == 0 || struck);
    assert_int_equal(look_at_point().damages, 0);
    for (uint64_t i = 0; i < 120; i++) { /* there is space again: the same calls work */
        assert_int_equal(kit_write(vault, replica, i, 2000 + nth * 1000 + i, &err), 0);
    }
    assert_int_equal(far_replica_checkpoint(replica, 120, "v", &err), 0);
    far_replica_close(replica);
    far_vault_close(vault);
    assert_int_equal(try_open(), 0);
    assert_int_equal(far_replica_open(vault, NULL, DISK, BLOCKS * FAR_BLOCK_BYTES, &next, &replica, &err), 0);
    for (uint64_t i = 0; i < 120; i++) {
        struct far_hash256 id = kit_id(2000 + nth * 1000 + i);
        assert_int_equal(far_replica_get(replica, i, &leaf, &err), 0);
        assert_memory_equal(leaf.bytes, id.bytes, 32);
        assert_int_equal(far_vault_get(vault, NULL, &id, true, block, &err), 0);
    }
    assert_int_equal(look_at_point().damages, 0);
    far_replica_close(replica);
    far_vault_close(vault);
    vault = NULL;
}

static void a_full_disk_is_a_limit_and_works_again_with_space(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth <= 6; nth++) {
        fill_at(FAR_FAULT_WRITE, nth);
    }
    for (uint64_t nth = 1; nth <= 3; nth++) {
        fill_at(FAR_FAULT_OPEN, 20 + nth);
        fill_at(FAR_FAULT_RENAME, 30 + nth);
    }
}

static void after_a_failed_sync_nothing_is_acknowledged_until_reopening(void **state)
{
    (void)state;
    struct far_hash256 id;
    assert_int_equal(try_open(), 0);
    assert_int_equal(kit_put(vault, 3000, &id, &err), 0);
    far_fault_arm(FAR_FAULT_SYNC, 1, EIO);
    assert_int_equal(far_vault_sync(vault, &err), FAR_IO);
    assert_true(far_fault_disarm());
    assert_int_equal(far_vault_sync(vault, &err), FAR_IO);
    assert_int_equal(kit_put(vault, 3001, &id, &err), FAR_IO);
    assert_int_equal(look_at_point().damages, 0);
    far_vault_close(vault);
    assert_int_equal(try_open(), 0);
    assert_int_equal(kit_put(vault, 3001, &id, &err), 0);
    assert_int_equal(far_vault_sync(vault, &err), 0);
}

/* One whole life of a vault: open, write, checkpoint, seal, read, verify. */
static int live_once(const char *folder)
{
    struct far_vault *one = NULL;
    struct far_replica *replica = NULL;
    struct far_point *point = NULL;
    struct far_hash256 root;
    struct far_verify_result result;
    int rc = far_vault_open(folder, &options, &one, &err);
    rc = rc != 0 ? rc : far_replica_open(one, NULL, DISK, 3 * FAR_BLOCK_BYTES, &fence, &replica, &err);
    rc = rc != 0 ? rc : kit_write(one, replica, 1, 1, &err);
    rc = rc != 0 ? rc : far_replica_checkpoint(replica, 3, "v", &err);
    rc = rc != 0 ? rc : far_replica_root(replica, &root, &err);
    if (rc == 0) {
        kit_manifest(1, DISK, 3 * FAR_BLOCK_BYTES, &root, &manifest);
        rc = far_vault_seal(one, &manifest, &err);
    }
    rc = rc != 0 ? rc : far_point_open_disk(one, 1, "root", &point, &err);
    rc = rc != 0 ? rc : far_point_verify(point, NULL, NULL, NULL, &result, &err);
    far_point_close(point);
    far_replica_close(replica);
    far_vault_close(one);
    return rc;
}

/* Whatever fails once: a clear error, no leak, and the next life works and holds the same. */
static void fail_each(enum far_fault kind, int error)
{
    char folder[320];
    for (uint64_t n = 1;; n++) {
        snprintf(folder, sizeof folder, "%.300s/life", dir);
        far_fault_arm(kind, n, error);
        int rc = live_once(folder);
        bool struck = far_fault_disarm();
        if (rc != 0) {
            assert_true(rc == FAR_LIMIT || rc == FAR_IO || rc == FAR_CORRUPT);
            assert_true(struck);
        }
        int again = live_once(folder);
        if (again != 0) {
            print_message("# call %d number %llu: %s\n", (int)kind, (unsigned long long)n, err.message);
        }
        assert_int_equal(again, 0);
        kit_remove(folder);
        if (!struck) {
            assert_int_equal(rc, 0);
            break;
        }
    }
}

static void each_failing_allocation_and_system_call_is_an_error_and_no_more(void **state)
{
    (void)state;
    fail_each(FAR_FAULT_ALLOC, ENOMEM);
    fail_each(FAR_FAULT_OPEN, EMFILE);
    fail_each(FAR_FAULT_READ, EIO);
    fail_each(FAR_FAULT_WRITE, ENOSPC);
    fail_each(FAR_FAULT_SYNC, EIO);
    fail_each(FAR_FAULT_RENAME, EIO);
    fail_each(FAR_FAULT_MKDIR, ENOSPC);
    fail_each(FAR_FAULT_STAT, EIO);
}

static void offline_recovery_of_a_damaged_disk_fails_and_leaves_no_file(void **state)
{
    (void)state;
    char target[512];
    path_in("out.raw", target);
    flip("packs/00000001.pack", FAR_PACK_HEADER_BYTES + 64 + 1000, 1);
    assert_int_equal(far_vault_recover_offline(dir, 1, "root", target, NULL, NULL, &err), FAR_CORRUPT);
    assert_non_null(strstr(err.message, "00000001.pack"));
    assert_int_equal(access(target, F_OK), -1);
}

static void offline_recovery_works_without_an_index_and_changes_nothing(void **state)
{
    (void)state;
    char target[512];
    remove_file("index/data.mdb");
    path_in("out.raw", target);
    assert_int_equal(far_vault_recover_offline(dir, 1, "root", target, NULL, NULL, &err), 0);
    assert_int_equal(size_of("out.raw"), BLOCKS * FAR_BLOCK_BYTES);
    assert_int_equal(size_of("index/data.mdb"), 0);
}

static int pass_with_a_full_disk(struct far_replica *replica, uint64_t pass)
{
    struct far_reclaim_order order = {.pass = pass};
    struct far_reclaim_result result;
    assert_int_equal(kit_write(vault, replica, 7, 9000 + pass, &err), 0); /* the mark has to write it */
    far_fault_arm(FAR_FAULT_WRITE, 1, ENOSPC);
    int rc = far_vault_reclaim(vault, &order, NULL, NULL, &result, &err);
    assert_true(far_fault_disarm());
    return rc;
}

static void a_pass_begins_on_a_full_disk_with_what_was_kept_for_that(void **state)
{
    (void)state;
    struct far_replica *replica;
    struct far_fence next = fence;
    char reserve[512];
    next.attempt = 1000;
    path_in("reserve", reserve);
    assert_int_equal(try_open(), 0);
    far_vault_reserve_keep(vault);
    assert_int_equal(size_of("reserve"), 4 << 20);
    assert_int_equal(far_replica_open(vault, NULL, DISK, BLOCKS * FAR_BLOCK_BYTES, &next, &replica, &err), 0);
    assert_int_equal(pass_with_a_full_disk(replica, 1), 0);
    assert_int_equal(size_of("reserve"), 4 << 20); /* there is space again */
    assert_int_equal(unlink(reserve), 0);
    assert_int_equal(pass_with_a_full_disk(replica, 2), FAR_LIMIT);
    assert_int_equal(look_at_point().damages, 0);
    far_replica_close(replica);
}

static void offline_recovery_onto_a_full_disk_fails_and_leaves_no_file(void **state)
{
    (void)state;
    char target[512];
    path_in("out.raw", target);
    far_fault_arm_from(FAR_FAULT_WRITE, 5, ENOSPC);
    int rc = far_vault_recover_offline(dir, 1, "root", target, NULL, NULL, &err);
    assert_true(far_fault_disarm());
    assert_int_equal(rc, FAR_LIMIT);
    assert_int_equal(access(target, F_OK), -1);
}

#define damage_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        damage_test(every_flipped_bit_of_a_pack_is_found_and_named),
        damage_test(a_damaged_block_is_not_had_and_a_new_put_heals_it),
        damage_test(a_missing_pack_is_named_and_its_number_not_used_again),
        damage_test(a_sealed_pack_that_lost_its_end_is_named),
        damage_test(a_torn_tail_is_cut_and_what_was_acknowledged_stays),
        damage_test(a_last_pack_shorter_than_what_was_durable_is_named),
        damage_test(a_missing_index_is_made_anew),
        damage_test(flipped_bits_of_the_index_cost_nothing_but_a_rebuild),
        damage_test(every_flipped_bit_of_a_manifest_is_found_and_named),
        damage_test(a_manifest_signed_by_another_vault_is_refused),
        damage_test(damaged_files_of_the_vault_are_named),
        damage_test(a_damaged_file_of_a_replica_is_named_and_made_anew),
        damage_test(a_full_disk_is_a_limit_and_works_again_with_space),
        damage_test(a_pass_begins_on_a_full_disk_with_what_was_kept_for_that),
        damage_test(after_a_failed_sync_nothing_is_acknowledged_until_reopening),
        damage_test(each_failing_allocation_and_system_call_is_an_error_and_no_more),
        damage_test(offline_recovery_of_a_damaged_disk_fails_and_leaves_no_file),
        damage_test(offline_recovery_works_without_an_index_and_changes_nothing),
        damage_test(offline_recovery_onto_a_full_disk_fails_and_leaves_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
