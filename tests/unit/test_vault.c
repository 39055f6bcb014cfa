/* The vault as its users see it: blocks, replicas, fences, points. Damage and crashes are in test_vault_damage.c. */
#include "../lib/cm.h"
#include "../lib/vault_kit.h"

#include <pthread.h>
#include <zstd.h>

static char dir[300];
static struct far_vault *vault;
static struct far_error err;
static uint8_t block[FAR_BLOCK_BYTES];
static uint8_t expected[FAR_BLOCK_BYTES];
static struct far_manifest manifest;
static const struct far_fence first_fence = {.incarnation_epoch = 1, .plan_epoch = 1, .job = 10, .attempt = 1};

static void open_vault(void)
{
    struct far_vault_options options = {.create = true, .pack_bytes_max = 1 << 20, .cache_bytes_max = 1 << 20};
    int rc = far_vault_open(dir, &options, &vault, &err);
    if (rc != 0) {
        print_message("# %s\n", err.message);
    }
    assert_int_equal(rc, 0);
}

static void reopen(void)
{
    far_vault_close(vault);
    open_vault();
}

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "%s", kit_folder());
    open_vault();
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

static bool has(struct far_hash256 id)
{
    bool there;
    assert_int_equal(far_vault_has(vault, NULL, &id, 1, &there, &err), 0);
    return there;
}

static void assert_block(struct far_hash256 id, uint64_t number)
{
    kit_block(number, expected);
    assert_int_equal(far_vault_get(vault, NULL, &id, true, block, &err), 0);
    assert_memory_equal(block, expected, FAR_BLOCK_BYTES);
}

static void blocks_are_there_at_once_after_a_sync_and_after_reopening(void **state)
{
    (void)state;
    struct far_hash256 ids[100];
    for (uint64_t i = 0; i < 100; i++) {
        assert_false(i != 0 && has(kit_id(i)));
        assert_int_equal(kit_put(vault, i, &ids[i], &err), 0);
        assert_true(has(ids[i]));
        assert_block(ids[i], i);
    }
    assert_int_equal(far_vault_sync(vault, &err), 0);
    for (uint64_t i = 0; i < 100; i++) {
        assert_block(ids[i], i);
    }
    reopen();
    for (uint64_t i = 0; i < 100; i++) {
        assert_true(has(ids[i]));
        assert_block(ids[i], i);
    }
    assert_int_equal(far_vault_get(vault, NULL, &(struct far_hash256){{9}}, false, block, &err), FAR_NOT_FOUND);
}

static void compressed_blocks_are_stored_as_they_came(void **state)
{
    (void)state;
    uint8_t packed[FAR_BLOCK_BYTES];
    struct far_vault_stats stats;
    kit_block(2, expected);
    size_t n = ZSTD_compress(packed, sizeof packed, expected, FAR_BLOCK_BYTES, 1);
    struct far_hash256 id = kit_id(2);
    assert_int_equal(far_vault_put(vault, NULL, &id, FAR_CODEC_ZSTD, packed, n, &err), 0);
    assert_block(id, 2);
    far_vault_stats(vault, &stats);
    assert_int_equal(stats.bytes_written, n + 64);
}

static void equal_blocks_are_stored_once(void **state)
{
    (void)state;
    struct far_hash256 id;
    struct far_vault_stats stats;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kit_put(vault, 1, &id, &err), 0);
        assert_int_equal(far_vault_sync(vault, &err), 0);
    }
    far_vault_stats(vault, &stats);
    assert_int_equal(stats.blocks_put, 1);
    assert_int_equal(stats.blocks_known, 2);
}

static void the_zero_block_is_always_there_and_never_stored(void **state)
{
    (void)state;
    struct far_hash256 id;
    struct far_vault_stats stats;
    assert_true(has(*far_zero_leaf()));
    assert_int_equal(kit_put(vault, 0, &id, &err), 0);
    assert_block(*far_zero_leaf(), 0);
    far_vault_stats(vault, &stats);
    assert_int_equal(stats.bytes_written, 0);
}

static void impossible_blocks_are_refused(void **state)
{
    (void)state;
    struct far_hash256 id = kit_id(1);
    assert_int_equal(far_vault_put(vault, NULL, &id, FAR_CODEC_RAW, block, 100, &err), FAR_INVALID);
    assert_int_equal(far_vault_put(vault, NULL, &id, FAR_CODEC_ZSTD, block, 0, &err), FAR_INVALID);
    assert_int_equal(far_vault_put(vault, NULL, &id, FAR_CODEC_ZSTD, block, FAR_BLOCK_BYTES + 1, &err), FAR_INVALID);
    assert_int_equal(far_vault_put(vault, NULL, &id, (enum far_codec)9, block, 100, &err), FAR_INVALID);
    assert_false(has(id));
}

static void a_second_writer_is_refused_and_readers_are_not(void **state)
{
    (void)state;
    struct far_vault *other;
    struct far_vault_options read_only = {.read_only = true};
    struct far_hash256 id;
    assert_int_equal(kit_put(vault, 1, &id, &err), 0);
    assert_int_equal(far_vault_sync(vault, &err), 0);
    assert_int_equal(far_vault_open(dir, NULL, &other, &err), FAR_BUSY);
    assert_int_equal(far_vault_open(dir, &read_only, &other, &err), 0);
    assert_int_equal(far_vault_get(other, NULL, &id, true, block, &err), 0);
    assert_int_equal(far_vault_put(other, NULL, &id, FAR_CODEC_RAW, block, FAR_BLOCK_BYTES, &err), FAR_CONFLICT);
    far_vault_close(other);
}

static void a_vault_that_is_not_there_is_not_made_unasked(void **state)
{
    (void)state;
    char path[400];
    struct far_vault *other;
    snprintf(path, sizeof path, "%s/nothing", dir);
    assert_int_equal(far_vault_open(path, NULL, &other, &err), FAR_NOT_FOUND);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(far_vault_open("", NULL, &other, &err), FAR_INVALID);
}

/* ---- replicas ---- */

static struct far_replica *open_replica(uint64_t disk_id, uint64_t blocks, struct far_fence fence)
{
    struct far_replica *replica;
    int rc = far_replica_open(vault, NULL, disk_id, blocks * FAR_BLOCK_BYTES, &fence, &replica, &err);
    if (rc != 0) {
        print_message("# %s\n", err.message);
    }
    assert_int_equal(rc, 0);
    return replica;
}

/* Random sets, zeroes, checkpoints, reopens, growth against a plain array and the flat map. */
static void a_replica_equals_a_plain_array_whatever_happens(void **state)
{
    (void)state;
    enum { BLOCKS_MAX = 70000 };
    uint64_t seed = 4711;
    uint64_t blocks = 300;
    print_message("# seed %llu\n", (unsigned long long)seed);
    uint16_t *now = calloc(BLOCKS_MAX, sizeof *now);
    uint16_t *kept = calloc(BLOCKS_MAX, sizeof *kept);
    struct far_replica *replica = open_replica(5, blocks, first_fence);
    for (int step = 0; step < 600; step++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        uint64_t at = (seed >> 20) % blocks;
        uint64_t action = (seed >> 50) % 100;
        if (action < 70) {
            now[at] = (uint16_t)(seed >> 40) % 64;
            assert_int_equal(kit_write(vault, replica, at, now[at], &err), 0);
        } else if (action < 80) {
            uint64_t count = (seed >> 10) % (blocks - at) + 1;
            assert_int_equal(far_replica_set_zero(replica, at, count, &err), 0);
            memset(now + at, 0, count * sizeof *now);
        } else if (action < 90) {
            assert_int_equal(far_replica_checkpoint(replica, at, "view", &err), 0);
            memcpy(kept, now, BLOCKS_MAX * sizeof *now);
        } else if (action < 95) { /* what was not checkpointed is gone */
            far_replica_close(replica);
            reopen();
            replica = open_replica(5, blocks, first_fence);
            memcpy(now, kept, BLOCKS_MAX * sizeof *now);
        } else if (action < 97 && blocks < BLOCKS_MAX) {
            assert_int_equal(far_replica_checkpoint(replica, at, "view", &err), 0);
            memcpy(kept, now, BLOCKS_MAX * sizeof *now);
            blocks = blocks * 3 < BLOCKS_MAX ? blocks * 3 : BLOCKS_MAX;
            far_replica_close(replica);
            replica = open_replica(5, blocks, first_fence);
        }
    }
    struct far_map *map;
    struct far_hash256 root, leaf;
    assert_int_equal(far_map_new(blocks * FAR_BLOCK_BYTES, &map, &err), 0);
    for (uint64_t i = 0; i < blocks; i++) {
        struct far_hash256 id = now[i] == 0 ? *far_zero_leaf() : kit_id(now[i]);
        assert_int_equal(far_replica_get(replica, i, &leaf, &err), 0);
        assert_memory_equal(leaf.bytes, id.bytes, 32);
        far_map_set(map, i, &id);
    }
    far_map_root(map, &root);
    assert_int_equal(far_replica_root(replica, &leaf, &err), 0);
    assert_memory_equal(leaf.bytes, root.bytes, 32);
    far_map_free(map);
    far_replica_close(replica);
    free(now);
    free(kept);
}

static void neighbours_are_read_in_one_go(void **state)
{
    (void)state;
    struct far_hash256 leaves[600], leaf;
    struct far_replica *replica = open_replica(5, 700, first_fence);
    for (uint64_t i = 0; i < 700; i += 7) {
        assert_int_equal(kit_write(vault, replica, i, i, &err), 0);
    }
    assert_int_equal(far_replica_get_many(replica, 99, 600, leaves, &err), 0);
    for (uint64_t i = 0; i < 600; i++) {
        assert_int_equal(far_replica_get(replica, 99 + i, &leaf, &err), 0);
        assert_memory_equal(leaf.bytes, leaves[i].bytes, 32);
    }
    assert_int_equal(far_replica_get_many(replica, 101, 600, leaves, &err), FAR_INVALID);
    assert_int_equal(far_replica_get(replica, 700, &leaf, &err), FAR_INVALID);
    assert_int_equal(far_replica_set(replica, 700, far_zero_leaf(), &err), FAR_INVALID);
    assert_int_equal(far_replica_set_zero(replica, 699, 2, &err), FAR_INVALID);
    assert_int_equal(far_replica_checkpoint(replica, 701, "", &err), FAR_INVALID);
    far_replica_close(replica);
}

static void a_leaf_without_its_block_is_never_set(void **state)
{
    (void)state;
    struct far_hash256 leaf = kit_id(1);
    struct far_replica *replica = open_replica(5, 10, first_fence);
    assert_int_equal(far_replica_set(replica, 0, &leaf, &err), FAR_NOT_FOUND);
    far_replica_close(replica);
}

static void a_checkpoint_says_where_to_resume(void **state)
{
    (void)state;
    struct far_replica_state resume;
    struct far_replica *replica = open_replica(5, 100, first_fence);
    far_replica_state(replica, &resume);
    assert_int_equal(resume.job, 0);
    assert_int_equal(kit_write(vault, replica, 3, 33, &err), 0);
    assert_int_equal(far_replica_checkpoint(replica, 4, "snap-1", &err), 0);
    far_replica_close(replica);
    reopen();
    struct far_fence next = first_fence;
    next.attempt++;
    replica = open_replica(5, 100, next);
    far_replica_state(replica, &resume);
    assert_int_equal(resume.job, 10);
    assert_int_equal(resume.frontier_blocks, 4);
    assert_string_equal(resume.freeze_ref, "snap-1");
    assert_int_equal(resume.size_bytes, 100 * FAR_BLOCK_BYTES);
    far_replica_close(replica);
    assert_int_equal(far_vault_replica_state(vault, 5, &resume, &err), 0);
    assert_int_equal(far_vault_replica_state(vault, 6, &resume, &err), FAR_NOT_FOUND);
}

static void *checkpoint_until_fenced(void *replica)
{
    struct far_error said = {0};
    uint64_t frontier = 0;
    while (far_replica_checkpoint(replica, frontier, "", &said) == 0) {
        frontier = (frontier + 1) % 10;
    }
    return said.klass == FAR_CONFLICT ? replica : NULL;
}

static void a_disk_may_be_taken_over_in_the_middle_of_a_checkpoint(void **state)
{
    (void)state;
    struct far_fence fence = first_fence;
    for (unsigned attempt = 2; attempt < 12; attempt++) {
        struct far_replica *old = open_replica(5, 10, fence);
        pthread_t thread;
        void *fenced = NULL;
        assert_int_equal(pthread_create(&thread, NULL, checkpoint_until_fenced, old), 0);
        fence.attempt = attempt;
        far_replica_close(open_replica(5, 10, fence));
        assert_int_equal(pthread_join(thread, &fenced), 0);
        assert_ptr_equal(fenced, old);
        far_replica_close(old);
    }
}

static void older_fences_are_refused_also_after_reopening(void **state)
{
    (void)state;
    static const struct far_fence older[] = {{1, 2, 10, 2}, {1, 2, 9, 9}, {1, 1, 99, 9}, {0, 9, 99, 9}};
    struct far_fence newest = {1, 2, 10, 3};
    struct far_replica *replica = open_replica(5, 10, newest);
    far_replica_close(replica);
    reopen();
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(far_replica_open(vault, NULL, 5, 10 * FAR_BLOCK_BYTES, &older[i], &replica, &err), FAR_CONFLICT);
    }
    far_replica_close(open_replica(5, 10, newest));
    far_replica_close(open_replica(5, 10, (struct far_fence){2, 0, 0, 0}));
    assert_int_equal(far_replica_open(vault, NULL, 5, 10 * FAR_BLOCK_BYTES, &newest, &replica, &err), FAR_CONFLICT);
}

static void a_newer_attempt_fences_off_the_handle_of_an_older_one(void **state)
{
    (void)state;
    struct far_hash256 leaf;
    struct far_replica *old = open_replica(5, 10, first_fence);
    assert_int_equal(kit_write(vault, old, 1, 1, &err), 0);
    struct far_fence next = first_fence;
    next.attempt = 2;
    struct far_replica *new = open_replica(5, 10, next);
    assert_int_equal(kit_write(vault, old, 2, 2, &err), FAR_CONFLICT);
    assert_int_equal(far_replica_checkpoint(old, 1, "", &err), FAR_CONFLICT);
    assert_int_equal(far_replica_set_zero(old, 1, 1, &err), FAR_CONFLICT);
    assert_int_equal(far_replica_root(old, &leaf, &err), FAR_CONFLICT);
    far_replica_close(old);
    assert_int_equal(far_replica_get(new, 1, &leaf, &err), 0);
    assert_memory_equal(leaf.bytes, far_zero_leaf()->bytes, 32);
    assert_int_equal(kit_write(vault, new, 2, 2, &err), 0);
    far_replica_close(new);
}

/* A first copy failed because the disk shrank under it; or a disk that grew by mistake was made as it had been. */
static void a_disk_smaller_than_an_attempt_saw_it_begins_anew(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {300, 9}; /* of another height, too */
    struct far_fence next = first_fence;
    struct far_replica_state durable;
    struct far_replica *replica;
    struct far_hash256 leaf, root, of_new;
    next.job++;
    for (uint64_t i = 0; i < 2; i++) {
        struct far_replica *larger = open_replica(i, 301, first_fence);
        assert_int_equal(kit_write(vault, larger, 2, 2, &err), 0);
        assert_int_equal(kit_write(vault, larger, 300, 3, &err), 0);
        assert_int_equal(far_replica_checkpoint(larger, 301, "v", &err), 0);
        replica = open_replica(i, sizes[i], next);
        assert_int_equal(kit_write(vault, larger, 2, 2, &err), FAR_CONFLICT); /* it is fenced off */
        far_replica_close(larger);
        far_replica_close(replica);
        reopen();
        assert_int_equal(far_replica_open(vault, NULL, i, sizes[i] * FAR_BLOCK_BYTES, &first_fence, &replica, &err), FAR_CONFLICT);
        replica = open_replica(i, sizes[i], next);
        far_replica_state(replica, &durable);
        assert_int_equal(durable.size_bytes, sizes[i] * FAR_BLOCK_BYTES);
        assert_int_equal(durable.job, 0);
        assert_int_equal(durable.frontier_blocks, 0);
        assert_int_equal(far_replica_get(replica, 2, &leaf, &err), 0);
        assert_memory_equal(leaf.bytes, far_zero_leaf()->bytes, 32);
        assert_int_equal(kit_write(vault, replica, 1, 7, &err), 0);
        assert_int_equal(far_replica_checkpoint(replica, sizes[i], "w", &err), 0);
        assert_int_equal(far_replica_root(replica, &root, &err), 0);
        far_replica_close(replica);
        replica = open_replica(100 + i, sizes[i], first_fence);
        assert_int_equal(kit_write(vault, replica, 1, 7, &err), 0);
        assert_int_equal(far_replica_root(replica, &of_new, &err), 0);
        far_replica_close(replica);
        assert_memory_equal(root.bytes, of_new.bytes, 32);
    }
    assert_int_equal(far_replica_open(vault, NULL, 6, 0, &first_fence, &replica, &err), FAR_INVALID);
}

/* ---- points ---- */

static struct far_hash256 seal(struct far_replica *replica, uint64_t point_id)
{
    struct far_hash256 root;
    assert_int_equal(far_replica_checkpoint(replica, far_replica_blocks(replica), "v", &err), 0);
    assert_int_equal(far_replica_root(replica, &root, &err), 0);
    kit_manifest(point_id, 5, far_replica_size(replica), &root, &manifest);
    assert_int_equal(far_vault_seal(vault, &manifest, &err), 0);
    return root;
}

static void sealed_points_stay_readable_while_the_replica_goes_on(void **state)
{
    (void)state;
    struct far_hash256 roots[3], root;
    struct far_replica *replica = open_replica(5, 600, first_fence);
    for (uint64_t point = 0; point < 3; point++) {
        for (uint64_t i = 0; i < 600; i += 50) {
            assert_int_equal(kit_write(vault, replica, i + point, i + point * 1000 + 1, &err), 0);
        }
        assert_int_equal(kit_write(vault, replica, 599, 5000 + point, &err), 0);
        roots[point] = seal(replica, point + 1);
    }
    far_replica_close(replica);
    reopen();
    for (uint64_t point = 0; point < 3; point++) {
        struct far_point *disk;
        struct far_verify_result result;
        bool zero;
        assert_int_equal(far_point_open_disk(vault, point + 1, "root", &disk, &err), 0);
        far_point_root(disk, &root);
        assert_memory_equal(root.bytes, roots[point].bytes, 32);
        assert_int_equal(far_point_size(disk), 600 * FAR_BLOCK_BYTES);
        assert_int_equal(far_point_read(disk, 599, true, block, &zero, &err), 0);
        kit_block(5000 + point, expected);
        assert_memory_equal(block, expected, FAR_BLOCK_BYTES);
        assert_int_equal(far_point_read(disk, 49, true, block, &zero, &err), 0);
        assert_true(zero);
        assert_int_equal(far_point_read(disk, 600, true, block, &zero, &err), FAR_INVALID);
        assert_int_equal(far_point_verify(disk, NULL, NULL, NULL, &result, &err), 0);
        assert_int_equal(result.blocks, 600);
        assert_memory_equal(result.root.bytes, roots[point].bytes, 32);
        far_point_close(disk);
        assert_int_equal(far_point_open_disk(vault, point + 1, "other", &disk, &err), FAR_NOT_FOUND);
    }
}

static struct far_verify_result verified_since(uint64_t point, uint64_t since)
{
    struct far_point *disk, *before;
    struct far_verify_result result;
    assert_int_equal(far_point_open_disk(vault, point, "root", &disk, &err), 0);
    assert_int_equal(far_point_open_disk(vault, since, "root", &before, &err), 0);
    assert_int_equal(far_point_verify_since(disk, before, NULL, NULL, NULL, &result, &err), 0);
    far_point_close(before);
    far_point_close(disk);
    return result;
}

static void a_verification_since_another_point_reads_what_changed(void **state)
{
    (void)state;
    struct far_hash256 root;
    struct far_replica *replica = open_replica(5, 600, first_fence), *small = open_replica(6, 10, first_fence);
    for (uint64_t i = 0; i < 600; i++) {
        assert_int_equal(kit_write(vault, replica, i, i + 1, &err), 0);
    }
    seal(replica, 1);
    for (uint64_t i = 0; i < 600; i += 100) {
        assert_int_equal(kit_write(vault, replica, i, i + 10001, &err), 0);
    }
    assert_int_equal(far_replica_set_zero(replica, 300, 1, &err), 0);
    root = seal(replica, 2);
    assert_int_equal(kit_write(vault, small, 3, 1, &err), 0);
    seal(small, 3);
    struct far_verify_result result = verified_since(2, 1);
    assert_int_equal(result.blocks, 600);
    assert_int_equal(result.blocks_known, 594);
    assert_int_equal(result.bytes_read, 5 * FAR_BLOCK_BYTES); /* and one of zeroes */
    assert_memory_equal(result.root.bytes, root.bytes, 32);
    result = verified_since(2, 2);
    assert_int_equal(result.blocks_known, 600);
    assert_int_equal(result.bytes_read, 0);
    result = verified_since(2, 3); /* of another height */
    assert_int_equal(result.blocks_known, 0);
    assert_int_equal(result.bytes_read, 599 * FAR_BLOCK_BYTES);
    assert_memory_equal(result.root.bytes, root.bytes, 32);
    far_replica_close(small);
    far_replica_close(replica);
}

static void a_replica_goes_back_to_a_sealed_root(void **state)
{
    (void)state;
    struct far_hash256 root, now, unknown = {{1}};
    struct far_replica_state resume;
    struct far_replica *replica = open_replica(5, 300, first_fence);
    assert_int_equal(kit_write(vault, replica, 299, 1, &err), 0);
    root = seal(replica, 1);
    assert_int_equal(kit_write(vault, replica, 0, 2, &err), 0);
    assert_int_equal(far_replica_checkpoint(replica, 100, "w", &err), 0);
    assert_int_equal(far_replica_rewind(replica, &unknown, 0, &err), FAR_NOT_FOUND);
    assert_int_equal(far_replica_rewind(replica, &root, 0, &err), 0);
    assert_int_equal(far_replica_root(replica, &now, &err), 0);
    assert_memory_equal(now.bytes, root.bytes, 32);
    far_replica_state(replica, &resume); /* what is durable is still what it was */
    assert_int_equal(resume.frontier_blocks, 100);
    assert_memory_not_equal(resume.root.bytes, root.bytes, 32);
    far_replica_close(replica);
    /* and a grown one to the root of its smaller past */
    replica = open_replica(5, 70000, first_fence);
    assert_int_equal(far_replica_rewind(replica, &root, 0, &err), 0);
    assert_int_equal(far_replica_get(replica, 299, &now, &err), 0);
    root = kit_id(1);
    assert_memory_equal(now.bytes, root.bytes, 32);
    far_replica_close(replica);
}

/* Before the block as it was set last, from there on as in the point, or as an empty disk. */
static void a_replica_goes_back_from_any_block_on(void **state)
{
    (void)state;
    enum { BLOCKS = 70000, STEP = 97, FROMS = 9 };
    const uint64_t froms[FROMS] = {0, 1, 255, 256, 257, 40000, 65535, 65536, BLOCKS};
    struct far_replica *replica = open_replica(5, BLOCKS, first_fence);
    for (uint64_t i = 0; i < BLOCKS; i += STEP) {
        assert_int_equal(kit_write(vault, replica, i, 1 + (unsigned)(i % 5), &err), 0);
    }
    struct far_hash256 root = seal(replica, 1), leaf;
    for (size_t f = 0; f < 2 * FROMS; f++) {
        uint64_t from = froms[f / 2];
        bool empty = f % 2 == 1;
        for (uint64_t i = 0; i < BLOCKS; i += STEP) {
            assert_int_equal(kit_write(vault, replica, i, 11 + (unsigned)(i % 3), &err), 0);
        }
        assert_int_equal(far_replica_rewind(replica, empty ? NULL : &root, from, &err), 0);
        for (uint64_t i = 0; i < BLOCKS; i += STEP) {
            struct far_hash256 theirs = empty ? *far_zero_leaf() : kit_id(1 + (unsigned)(i % 5));
            struct far_hash256 wanted = i < from ? kit_id(11 + (unsigned)(i % 3)) : theirs;
            assert_int_equal(far_replica_get(replica, i, &leaf, &err), 0);
            assert_memory_equal(leaf.bytes, wanted.bytes, 32);
        }
    }
    far_replica_close(replica);
}

static void sealing_again_is_nothing_new_and_another_content_a_conflict(void **state)
{
    (void)state;
    struct far_replica *replica = open_replica(5, 10, first_fence);
    assert_int_equal(kit_write(vault, replica, 1, 1, &err), 0);
    seal(replica, 1);
    assert_int_equal(far_vault_seal(vault, &manifest, &err), 0);
    manifest.frozen_at_ms++;
    assert_int_equal(far_vault_seal(vault, &manifest, &err), FAR_CONFLICT);
    manifest.point_id = 2;
    manifest.disks[0].root = (struct far_hash256){{1}};
    assert_int_equal(far_vault_seal(vault, &manifest, &err), FAR_NOT_FOUND);
    far_replica_close(replica);
}

static void a_root_of_another_size_is_not_sealed(void **state)
{
    (void)state;
    struct far_replica *replica = open_replica(5, 10, first_fence);
    seal(replica, 1);
    manifest.point_id = 2;
    manifest.disks[0].size_bytes += 1;
    assert_int_equal(far_vault_seal(vault, &manifest, &err), FAR_NOT_FOUND);
    manifest.disk_count = 0;
    assert_int_equal(far_vault_seal(vault, &manifest, &err), FAR_INVALID);
    far_replica_close(replica);
}

static int count_points(void *arg, uint64_t point_id, const struct far_manifest *found, const char *problem)
{
    (void)point_id;
    assert_non_null(found);
    assert_null(problem);
    ++*(int *)arg;
    return 0;
}

static void points_are_listed_and_forgotten(void **state)
{
    (void)state;
    int count = 0;
    struct far_manifest *found = malloc(sizeof *found);
    struct far_replica *replica = open_replica(5, 10, first_fence);
    seal(replica, 1);
    seal(replica, 12);
    assert_int_equal(far_vault_points(vault, count_points, &count, &err), 0);
    assert_int_equal(count, 2);
    assert_int_equal(far_vault_point(vault, 12, found, &err), 0);
    assert_int_equal(found->checkpoint_id, 1012);
    assert_string_equal(found->workload, "web");
    assert_int_equal(far_vault_forget(vault, 12, &err), 0);
    assert_int_equal(far_vault_forget(vault, 12, &err), 0);
    assert_int_equal(far_vault_point(vault, 12, found, &err), FAR_NOT_FOUND);
    count = 0;
    assert_int_equal(far_vault_points(vault, count_points, &count, &err), 0);
    assert_int_equal(count, 1);
    far_replica_close(replica);
    free(found);
}

static int cancel(void *arg, uint64_t done, uint64_t all)
{
    (void)arg;
    (void)done;
    (void)all;
    return 1;
}

static void a_verification_can_be_canceled(void **state)
{
    (void)state;
    struct far_point *disk;
    struct far_verify_result result;
    struct far_replica *replica = open_replica(5, 10, first_fence);
    assert_int_equal(kit_write(vault, replica, 1, 1, &err), 0);
    struct far_hash256 root = seal(replica, 1);
    assert_int_equal(far_point_open(vault, NULL, &root, &disk, &err), 0);
    assert_int_equal(far_point_verify(disk, NULL, cancel, NULL, &result, &err), FAR_CANCELED);
    far_point_close(disk);
    far_replica_close(replica);
}

/* ---- offline ---- */

static void offline_recovery_gives_the_disk_back_beside_a_running_node(void **state)
{
    (void)state;
    char target[400];
    struct far_hash256 root, read_back;
    struct far_recover_options options = {0};
    struct far_replica *replica;
    uint64_t size = 20 * FAR_BLOCK_BYTES + 777;
    assert_int_equal(far_replica_open(vault, NULL, 5, size, &first_fence, &replica, &err), 0);
    for (uint64_t i = 0; i < 20; i += 3) {
        assert_int_equal(kit_write(vault, replica, i, i + 1, &err), 0);
    }
    root = seal(replica, 1);
    snprintf(target, sizeof target, "%s/out.raw", dir);
    int rc = far_vault_recover_offline(dir, 1, "root", target, &options, &read_back, &err);
    if (rc != 0) {
        print_message("# %s\n", err.message);
    }
    assert_int_equal(rc, 0);
    assert_memory_equal(read_back.bytes, root.bytes, 32);
    struct stat st;
    assert_int_equal(stat(target, &st), 0);
    assert_int_equal(st.st_size, size);
    assert_int_equal(far_vault_recover_offline(dir, 1, "root", target, &options, NULL, &err), FAR_CONFLICT);
    assert_int_equal(far_vault_recover_offline(dir, 2, "root", target, &options, NULL, &err), FAR_NOT_FOUND);
    assert_int_equal(far_vault_recover_offline(dir, 1, "other", target, &options, NULL, &err), FAR_NOT_FOUND);
    far_replica_close(replica);
}

/* ---- threads ---- */

static void *put_many(void *arg)
{
    uint64_t first = (uint64_t)(uintptr_t)arg;
    struct far_hash256 id;
    struct far_error local;
    for (uint64_t i = 0; i < 100; i++) {
        if (kit_put(vault, first + i, &id, &local) != 0 || (i % 25 == 0 && far_vault_sync(vault, &local) != 0)) {
            return &vault;
        }
    }
    return NULL;
}

static void several_threads_put_at_once(void **state)
{
    (void)state;
    pthread_t threads[4];
    struct far_vault_stats stats;
    for (uintptr_t i = 0; i < 4; i++) { /* half of each range is also the next one's */
        assert_int_equal(pthread_create(&threads[i], NULL, put_many, (void *)(1 + i * 50)), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    far_vault_stats(vault, &stats);
    assert_int_equal(stats.blocks_put, 250);
    assert_int_equal(stats.blocks_known, 150);
    reopen();
    for (uint64_t i = 1; i <= 250; i++) {
        assert_block(kit_id(i), i);
    }
}

#define vault_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        vault_test(blocks_are_there_at_once_after_a_sync_and_after_reopening),
        vault_test(compressed_blocks_are_stored_as_they_came),
        vault_test(equal_blocks_are_stored_once),
        vault_test(the_zero_block_is_always_there_and_never_stored),
        vault_test(impossible_blocks_are_refused),
        vault_test(a_second_writer_is_refused_and_readers_are_not),
        vault_test(a_vault_that_is_not_there_is_not_made_unasked),
        vault_test(a_replica_equals_a_plain_array_whatever_happens),
        vault_test(neighbours_are_read_in_one_go),
        vault_test(a_leaf_without_its_block_is_never_set),
        vault_test(a_checkpoint_says_where_to_resume),
        vault_test(older_fences_are_refused_also_after_reopening),
        vault_test(a_disk_may_be_taken_over_in_the_middle_of_a_checkpoint),
        vault_test(a_newer_attempt_fences_off_the_handle_of_an_older_one),
        vault_test(a_disk_smaller_than_an_attempt_saw_it_begins_anew),
        vault_test(sealed_points_stay_readable_while_the_replica_goes_on),
        vault_test(a_verification_since_another_point_reads_what_changed),
        vault_test(a_replica_goes_back_to_a_sealed_root),
        vault_test(a_replica_goes_back_from_any_block_on),
        vault_test(sealing_again_is_nothing_new_and_another_content_a_conflict),
        vault_test(a_root_of_another_size_is_not_sealed),
        vault_test(points_are_listed_and_forgotten),
        vault_test(a_verification_can_be_canceled),
        vault_test(offline_recovery_gives_the_disk_back_beside_a_running_node),
        vault_test(several_threads_put_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
