/* What plans take of a vault, and what a pass of reclaim gives back: by hand, where every byte is known. */
#include "../lib/cm.h"
#include "../lib/vault_reach.h"
#include "dataplane/import.h"
#include "dataplane/reclaim.h"

#include <sys/wait.h>

#include <fcntl.h>

enum { BLOCKS = 600, RECORD = FAR_RECORD_HEADER_BYTES + FAR_BLOCK_BYTES };

static char dir[300];
static struct far_vault *vault;
static struct far_error err;
static struct far_manifest manifest;
static struct far_reclaim_result result;
static uint64_t jobs, pass;

static void must(int rc)
{
    if (rc != 0) {
        print_message("# %s\n", err.message);
    }
    assert_int_equal(rc, 0);
}

static void open_vault(bool read_only, struct far_vault **ret_vault)
{
    struct far_vault_options options = {.create = !read_only, .read_only = read_only, .pack_bytes_max = 1 << 20};
    must(far_vault_open(dir, &options, ret_vault, &err));
}

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "%s", kit_folder());
    jobs = pass = 0;
    open_vault(false, &vault);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    far_vault_close(vault);
    kit_remove(dir);
    return 0;
}

/* A point of a disk: these numbers from block `at` on, the rest as before. */
static void make_point(uint64_t point_id, uint64_t plan_id, uint64_t disk_id, uint64_t at, uint64_t number, uint64_t count)
{
    struct far_fence fence = {.job = ++jobs};
    struct far_replica *replica;
    struct far_hash256 root;
    must(far_replica_open(vault, NULL, disk_id, BLOCKS * FAR_BLOCK_BYTES, &fence, &replica, &err));
    for (uint64_t i = 0; i < count; i++) {
        must(kit_write(vault, replica, at + i, number + i, &err));
    }
    must(far_replica_checkpoint(replica, BLOCKS, "view", &err));
    must(far_replica_root(replica, &root, &err));
    far_replica_close(replica);
    kit_manifest(point_id, disk_id, BLOCKS * FAR_BLOCK_BYTES, &root, &manifest);
    manifest.plan_id = plan_id;
    must(far_vault_seal(vault, &manifest, &err));
}

static void reclaim(void)
{
    pass++;
    struct far_reclaim_order order = {.pass = pass, .delete_before = pass};
    must(far_vault_reclaim(vault, &order, NULL, NULL, &result, &err));
    assert_int_equal(result.points_uncountable, 0);
}

/* Whole blocks; pages and roots are less than one. */
static uint64_t blocks_of(uint64_t bytes)
{
    return bytes / RECORD;
}

static void plans_take_what_they_alone_need_and_what_they_share(void **state)
{
    (void)state;
    struct far_space spaces[2];
    const uint64_t plans[] = {7, 8}, unknown = 99;
    make_point(1, 7, 1, 0, 1000, 40);
    make_point(2, 7, 1, 0, 2000, 10); /* 10 of the 40 changed */
    make_point(3, 8, 2, 0, 1000, 30); /* the other plan has 30 of the first point's */
    make_point(4, 8, 2, 100, 3000, 5);
    assert_int_equal(far_vault_space(vault, &unknown, 1, spaces, &err), FAR_NOT_FOUND);
    reclaim();
    must(far_vault_space(vault, plans, 2, spaces, &err));
    assert_false(spaces[0].estimated);
    assert_int_equal(spaces[0].logical_bytes, 40 * FAR_BLOCK_BYTES);
    assert_int_equal(spaces[0].points_bytes, 80 * FAR_BLOCK_BYTES);
    assert_int_equal(blocks_of(spaces[0].unique_bytes), 20); /* 1030 to 1039, 2000 to 2009 */
    assert_int_equal(blocks_of(spaces[0].shared_bytes), 30);
    assert_int_equal(spaces[1].logical_bytes, 35 * FAR_BLOCK_BYTES);
    assert_int_equal(spaces[1].points_bytes, 65 * FAR_BLOCK_BYTES);
    assert_int_equal(blocks_of(spaces[1].unique_bytes), 5);
    assert_int_equal(blocks_of(spaces[1].shared_bytes), 30);
    assert_int_equal(far_vault_space(vault, &unknown, 1, spaces, &err), FAR_NOT_FOUND);
}

static void assert_space(uint64_t plan, uint64_t logical, uint64_t points, uint64_t unique, uint64_t shared)
{
    struct far_space space;
    must(far_vault_space(vault, &plan, 1, &space, &err));
    assert_int_equal(space.logical_bytes, logical * FAR_BLOCK_BYTES);
    assert_int_equal(space.points_bytes, points * FAR_BLOCK_BYTES);
    assert_int_equal(blocks_of(space.unique_bytes), unique);
    assert_int_equal(blocks_of(space.shared_bytes), shared);
}

static void a_disk_that_was_in_several_plans_counts_for_each_with_its_points(void **state)
{
    (void)state;
    make_point(1, 7, 1, 0, 1000, 40);
    make_point(2, 7, 1, 0, 2000, 10);
    reclaim();
    assert_space(7, 40, 80, 50, 0);
    make_point(3, 9, 1, 10, 3000, 5); /* the same disk in another plan */
    reclaim();
    assert_space(7, 40, 80, 15, 35); /* what the other one's point has as well is shared */
    assert_space(9, 40, 40, 5, 35);
    make_point(4, 7, 1, 0, 4000, 1); /* and in the first one again */
    reclaim();
    assert_space(7, 40, 120, 16, 40);
    assert_space(9, 40, 40, 0, 40);
    must(far_vault_forget(vault, 3, &err));
    reclaim();
    reclaim();
    assert_space(7, 40, 120, 56, 0);
}

static uint64_t pack_blocks(void)
{
    struct far_vault_stats stats;
    far_vault_stats(vault, &stats);
    return blocks_of(stats.pack_bytes);
}

static void what_a_forgotten_point_alone_needed_is_given_back_after_a_further_pass(void **state)
{
    (void)state;
    make_point(1, 7, 1, 0, 1001, 40);
    make_point(2, 7, 1, 0, 2001, 10);
    reclaim();
    uint64_t before = pack_blocks();
    must(far_vault_forget(vault, 1, &err));
    reclaim();
    assert_int_equal(result.points_released, 1);
    assert_true(result.quarantined_records >= 10);
    assert_int_equal(result.deleted_records, 0);
    assert_int_equal(pack_blocks(), before);
    reclaim();
    assert_int_equal(blocks_of(result.deleted_bytes), 10);
    assert_true(result.freed_bytes >= 9 * FAR_BLOCK_BYTES);
    assert_true(pack_blocks() <= before - 10);
    assert_int_equal(reach_unreachable(vault), 0);
}

static void a_block_that_is_offered_while_it_is_in_quarantine_stays(void **state)
{
    (void)state;
    make_point(1, 7, 1, 0, 1001, 40);
    make_point(2, 7, 1, 0, 2001, 40);
    must(far_vault_forget(vault, 1, &err));
    reclaim();
    make_point(3, 7, 2, 5, 1001, 3);
    reclaim();
    assert_int_equal(result.found_again_records, 3);
    assert_int_equal(blocks_of(result.deleted_bytes), 37);
    struct far_point *point;
    struct far_verify_result verified;
    must(far_point_open_disk(vault, 3, "root", &point, &err));
    must(far_point_verify(point, NULL, NULL, NULL, &verified, &err));
    far_point_close(point);
}

/* Between what the pass saw of the points and what it sees of the replicas a point is sealed, and its disk goes on. */
static int seal_and_go_on(void *arg, const struct far_reclaim_progress *progress)
{
    bool *sealed = arg;
    if (strcmp(progress->phase, "count") == 0 && !*sealed) {
        struct far_fence fence = {.job = ++jobs};
        struct far_replica *replica;
        *sealed = true;
        must(far_vault_seal(vault, &manifest, &err));
        must(far_replica_open(vault, NULL, 2, BLOCKS * FAR_BLOCK_BYTES, &fence, &replica, &err));
        for (uint64_t i = 0; i < 3; i++) {
            must(kit_write(vault, replica, 5 + i, 5001 + i, &err));
        }
        must(far_replica_checkpoint(replica, BLOCKS, "view", &err));
        far_replica_close(replica);
    }
    return 0;
}

static void a_point_sealed_while_others_are_counted_keeps_what_its_disk_leaves(void **state)
{
    (void)state;
    struct far_fence fence = {.job = 1000};
    struct far_replica *replica;
    struct far_point *point;
    struct far_hash256 root;
    struct far_verify_result verified;
    bool sealed = false;
    make_point(1, 7, 1, 0, 1001, 40);
    make_point(2, 7, 1, 0, 2001, 40);
    must(far_vault_forget(vault, 1, &err));
    reclaim();
    make_point(4, 7, 3, 0, 4001, 3); /* to be counted */
    must(far_replica_open(vault, NULL, 2, BLOCKS * FAR_BLOCK_BYTES, &fence, &replica, &err));
    for (uint64_t i = 0; i < 3; i++) {
        must(kit_write(vault, replica, 5 + i, 1001 + i, &err)); /* out of the quarantine */
    }
    must(far_replica_checkpoint(replica, BLOCKS, "view", &err));
    must(far_replica_root(replica, &root, &err));
    far_replica_close(replica);
    jobs = 1000;
    kit_manifest(3, 2, BLOCKS * FAR_BLOCK_BYTES, &root, &manifest);
    pass++;
    struct far_reclaim_order order = {.pass = pass, .delete_before = pass};
    must(far_vault_reclaim(vault, &order, seal_and_go_on, &sealed, &result, &err));
    assert_true(sealed);
    reclaim();
    must(far_point_open_disk(vault, 3, "root", &point, &err));
    must(far_point_verify(point, NULL, NULL, NULL, &verified, &err));
    far_point_close(point);
}

/* A page of the tree that a replica was to go back to cannot be read. */
static void a_replica_that_cannot_go_back_stays_as_it_was(void **state)
{
    (void)state;
    struct far_fence fence = {.job = 1000};
    struct far_hash256 root, top, before, after, children[FAR_MAP_FANOUT];
    struct far_replica *replica;
    struct far_place place;
    uint64_t size;
    char path[4096];
    make_point(1, 7, 1, 0, 1001, BLOCKS - 1);
    root = manifest.disks[0].root;
    make_point(2, 7, 1, 0, 3001, BLOCKS - 1);
    reclaim();
    must(far_vault_root_load(vault, NULL, &root, &size, &top, &err));
    must(far_vault_page(vault, NULL, 1, &top, children, &err));
    must(far_vault_find(vault, &children[1], &place, &err));
    far_packs_path(&vault->packs, place.pack, path, sizeof path);
    far_vault_close(vault);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "damage", 6, (off_t)place.offset + 100), 6);
    close(fd);
    open_vault(false, &vault);
    must(far_replica_open(vault, NULL, 1, BLOCKS * FAR_BLOCK_BYTES, &fence, &replica, &err));
    must(far_replica_root(replica, &before, &err));
    assert_int_equal(far_replica_rewind(replica, &root, 300, &err), FAR_CORRUPT);
    must(far_replica_root(replica, &after, &err));
    assert_memory_equal(&before, &after, sizeof before);
    far_replica_close(replica);
}

/* A row of the index that says nobody needs a record, though a tree has it. */
static int take_needs(void *arg, struct far_index_txn *txn)
{
    struct far_index_row row;
    int code = far_index_txn_row(txn, arg, &row);
    row.needs = 0;
    return code == 0 ? far_index_txn_put_row(txn, arg, &row) : code;
}

static void counts_that_cannot_be_end_the_pass_at_once_and_are_made_anew(void **state)
{
    (void)state;
    enum { DISKS = 140 }; /* more changes of chains than a ledger gathers */
    struct far_reclaim_order order = {.pass = 50, .delete_before = 50};
    struct far_fence fence = {.job = 1000};
    struct far_replica *replica;
    struct far_hash256 leaf;
    must(far_replica_open(vault, NULL, 1, BLOCKS * FAR_BLOCK_BYTES, &fence, &replica, &err));
    must(kit_write(vault, replica, 0, 1001, &err));
    must(far_replica_get(replica, 0, &leaf, &err));
    must(far_replica_checkpoint(replica, BLOCKS, "view", &err));
    reclaim();
    must(far_index_write(vault->index, take_needs, &leaf, &err));
    must(kit_write(vault, replica, 0, 1002, &err));
    must(far_replica_checkpoint(replica, BLOCKS, "view", &err));
    far_replica_close(replica);
    for (uint64_t i = 0; i < DISKS; i++) {
        make_point(100 + i, 7, 100 + i, 0, 2000, 1);
    }
    assert_int_equal(far_vault_reclaim(vault, &order, NULL, NULL, &result, &err), FAR_CORRUPT);
    assert_int_equal(result.points_uncountable, 0);
    far_vault_close(vault);
    open_vault(false, &vault);
    pass = 100;
    reclaim();
    assert_int_equal(result.points_counted, DISKS);
    reclaim();
    assert_int_equal(reach_unreachable(vault), 0);
}

static void write_image(const char *path, uint64_t number)
{
    uint8_t block[FAR_BLOCK_BYTES];
    kit_block(number, block);
    FILE *file = fopen(path, "w");
    assert_int_equal(fwrite(block, sizeof block, 1, file), 1);
    fclose(file);
}

/* The lost point's tree is what is counted under its number: another one would not be. */
static void an_import_does_not_take_the_number_of_a_counted_point_that_is_lost(void **state)
{
    (void)state;
    char image[400], path[500];
    struct far_import_options options = {.image = image, .label = "vm", .disk = "root", .workers = 1};
    struct far_import_result first, second, third;
    struct far_point *point;
    struct far_verify_result verified;
    snprintf(image, sizeof image, "%s/image", dir);
    write_image(image, 1001);
    must(far_vault_import(vault, &options, &first, &err));
    reclaim();
    snprintf(path, sizeof path, "%s/points/%llu.manifest", dir, (unsigned long long)first.point_id);
    assert_int_equal(unlink(path), 0);
    write_image(image, 2001);
    must(far_vault_import(vault, &options, &second, &err));
    assert_int_not_equal(second.point_id, first.point_id);
    reclaim();
    assert_int_equal(result.points_lost, 1);
    write_image(image, 3001);
    must(far_vault_import(vault, &options, &third, &err));
    for (int i = 0; i < 3; i++) {
        reclaim();
    }
    must(far_point_open_disk(vault, second.point_id, "root", &point, &err));
    must(far_point_verify(point, NULL, NULL, NULL, &verified, &err));
    far_point_close(point);
}

/* A mark makes the tree durable as it is: a frontier that it went back behind is not true any more. */
static void a_replica_that_went_back_is_settled_with_the_frontier_it_has(void **state)
{
    (void)state;
    struct far_fence fence = {.job = 1000};
    struct far_replica_state settled;
    struct far_replica *replica;
    must(far_replica_open(vault, NULL, 1, BLOCKS * FAR_BLOCK_BYTES, &fence, &replica, &err));
    for (uint64_t i = 0; i < 20; i++) {
        must(kit_write(vault, replica, i, 1001 + i, &err));
    }
    must(far_replica_checkpoint(replica, 20, "view", &err));
    must(far_replica_rewind(replica, NULL, 7, &err));
    reclaim();
    must(far_vault_replica_state(vault, 1, &settled, &err));
    assert_int_equal(settled.frontier_blocks, 7);
    assert_string_equal(settled.freeze_ref, "view");
    must(kit_write(vault, replica, 7, 2001, &err));
    must(far_replica_checkpoint(replica, 8, "view", &err));
    must(kit_write(vault, replica, 8, 2002, &err));
    reclaim();
    must(far_vault_replica_state(vault, 1, &settled, &err));
    assert_int_equal(settled.frontier_blocks, 8);
    far_replica_close(replica);
}

static int end_at_once(void *arg, const struct far_reclaim_progress *progress)
{
    return strcmp(progress->phase, arg) == 0;
}

/* Its order comes again, to the next attempt: whoever waits for the pass relies on all of it. */
static void a_pass_that_was_ended_is_done_once_more(void **state)
{
    (void)state;
    char mark[] = "mark", delete[] = "delete";
    make_point(1, 7, 1, 0, 1001, 40);
    make_point(2, 7, 1, 0, 2001, 40);
    reclaim();
    must(far_vault_forget(vault, 1, &err));
    struct far_reclaim_order order = {.pass = 10};
    assert_int_equal(far_vault_reclaim(vault, &order, end_at_once, mark, &result, &err), FAR_CANCELED);
    must(far_vault_reclaim(vault, &order, NULL, NULL, &result, &err));
    assert_int_equal(result.points_released, 1);
    order = (struct far_reclaim_order){.pass = 20, .delete_before = 11, .batch_max = 16};
    assert_int_equal(far_vault_reclaim(vault, &order, end_at_once, delete, &result, &err), FAR_CANCELED);
    must(far_vault_reclaim(vault, &order, NULL, NULL, &result, &err));
    assert_int_equal(reach_unreachable(vault), 0);
}

static void orders_of_passes_are_checked(void **state)
{
    (void)state;
    struct far_reclaim_order order = {.pass = 0};
    uint64_t last;
    assert_int_equal(far_vault_reclaim(vault, &order, NULL, NULL, &result, &err), FAR_INVALID);
    order = (struct far_reclaim_order){.pass = 5, .delete_before = 6};
    assert_int_equal(far_vault_reclaim(vault, &order, NULL, NULL, &result, &err), FAR_INVALID);
    order.delete_before = 5;
    must(far_vault_reclaim(vault, &order, NULL, NULL, &result, &err));
    must(far_vault_reclaim_last(vault, &last, &err));
    assert_int_equal(last, 5);
    order = (struct far_reclaim_order){.pass = 4, .delete_before = 4};
    assert_int_equal(far_vault_reclaim(vault, &order, NULL, NULL, &result, &err), FAR_CONFLICT);
    struct far_vault *reader;
    far_vault_close(vault);
    open_vault(true, &reader);
    order = (struct far_reclaim_order){.pass = 6};
    assert_int_equal(far_vault_reclaim(reader, &order, NULL, NULL, &result, &err), FAR_CONFLICT);
    far_vault_close(reader);
    open_vault(false, &vault);
}

/* Another process that only reads: packs stay where they are, and what it has open stays readable. */
static void beside_a_reader_no_pack_is_moved_and_its_point_stays(void **state)
{
    (void)state;
    struct far_vault *reader;
    struct far_point *point;
    struct far_verify_result verified;
    make_point(1, 7, 1, 0, 1001, 60);
    make_point(2, 7, 1, 0, 2001, 50);
    make_point(3, 7, 1, 0, 3001, 50);
    reclaim();
    open_vault(true, &reader);
    must(far_point_open_disk(reader, 1, "root", &point, &err));
    must(far_vault_forget(vault, 1, &err));
    must(far_vault_forget(vault, 2, &err));
    for (int i = 0; i < 3; i++) {
        reclaim();
        assert_int_equal(result.points_pinned, 1);
        assert_int_equal(result.packs_removed + result.moved_records, 0);
    }
    must(far_point_verify(point, NULL, NULL, NULL, &verified, &err));
    far_point_close(point);
    far_vault_close(reader);
    reclaim();
    assert_int_equal(result.points_released, 1);
    reclaim();
    assert_true(result.packs_removed > 0);
    assert_int_equal(reach_unreachable(vault), 0);
}

/* In a child: reads all of a point once the parent says so; what came of it is its exit status. */
static int read_later(int ready_fd, int go_fd)
{
    struct far_vault *reader;
    struct far_point *point;
    struct far_verify_result verified;
    char byte = 'r';
    open_vault(true, &reader);
    must(far_point_open_disk(reader, 1, "root", &point, &err));
    if (write(ready_fd, &byte, 1) != 1 || read(go_fd, &byte, 1) != 1) {
        return 2;
    }
    int rc = far_point_verify(point, NULL, NULL, NULL, &verified, &err);
    far_point_close(point);
    far_vault_close(reader);
    return rc == 0 ? 0 : 1;
}

/* A point that is read over weeks keeps no node from starting; what that writes and gives back meanwhile changes nothing for the reader. */
static void whoever_comes_to_write_beside_a_reader_can(void **state)
{
    (void)state;
    int ready[2], go[2], status;
    char byte;
    make_point(1, 7, 1, 0, 1001, 60);
    make_point(2, 7, 1, 0, 2001, 50);
    far_vault_close(vault);
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(go), 0);
    pid_t child = fork();
    if (child == 0) {
        _exit(read_later(ready[1], go[0]));
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    open_vault(false, &vault);
    must(far_vault_forget(vault, 1, &err));
    must(far_vault_forget(vault, 2, &err));
    for (uint64_t i = 0; i < 6; i++) {
        make_point(10 + i, 7, 1, 0, 10000 + 1000 * i, 100);
        reclaim();
    }
    assert_int_equal(write(go[1], "g", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    reclaim();
    reclaim();
    assert_int_equal(reach_unreachable(vault), 0);
    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(go[i]);
    }
}

/* Until it is known again what a point needs, nothing goes. */
static void nothing_is_deleted_while_a_point_cannot_be_counted(void **state)
{
    (void)state;
    char path[500], aside[520];
    make_point(1, 7, 1, 0, 1001, 40);
    make_point(2, 7, 1, 0, 2001, 40);
    reclaim();
    must(far_vault_forget(vault, 1, &err));
    make_point(3, 7, 2, 0, 5001, 3);
    snprintf(path, sizeof path, "%s/points/3.manifest", dir);
    snprintf(aside, sizeof aside, "%s/aside", dir);
    assert_int_equal(rename(path, aside), 0);
    FILE *file = fopen(path, "w");
    fputs("damaged", file);
    fclose(file);
    for (int i = 0; i < 3; i++) {
        pass++;
        struct far_reclaim_order order = {.pass = pass, .delete_before = pass};
        must(far_vault_reclaim(vault, &order, NULL, NULL, &result, &err));
        assert_int_equal(result.points_uncountable, 1);
        assert_int_equal(result.deleted_records, 0);
        assert_non_null(strstr(result.problem, "point 3"));
    }
    assert_int_equal(rename(aside, path), 0);
    reclaim();
    reclaim();
    assert_int_equal(reach_unreachable(vault), 0);
}

/* The domain whose key is lost costs only what is in it; destroyed, all of it goes. */
static void a_locked_domain_keeps_its_own_and_a_destroyed_one_nothing(void **state)
{
    (void)state;
    struct far_domain_keys keys = {.name = "kept", .generation = 1};
    const struct far_domain *domain;
    struct far_fence fence = {.job = 50};
    struct far_replica *replica;
    struct far_hash256 root;
    memset(keys.uuid, 0xD0, sizeof keys.uuid);
    memset(keys.secret, 0x5E, sizeof keys.secret);
    must(far_vault_domain_open(vault, &keys, &domain, &err));
    must(far_replica_open(vault, domain, 9, BLOCKS * FAR_BLOCK_BYTES, &fence, &replica, &err));
    for (uint64_t i = 0; i < 20; i++) {
        must(kit_write(vault, replica, i, 7001 + i, &err));
    }
    must(far_replica_checkpoint(replica, BLOCKS, "view", &err));
    must(far_replica_root(replica, &root, &err));
    far_replica_close(replica);
    kit_manifest(9, 9, BLOCKS * FAR_BLOCK_BYTES, &root, &manifest);
    memcpy(manifest.domain_uuid, keys.uuid, sizeof keys.uuid);
    must(far_vault_seal(vault, &manifest, &err));
    far_vault_close(vault);
    open_vault(false, &vault); /* and nobody brings the key */
    make_point(1, 7, 1, 0, 1001, 40);
    make_point(2, 7, 1, 0, 2001, 40);
    must(far_vault_forget(vault, 1, &err));
    for (int i = 0; i < 2; i++) {
        pass++;
        struct far_reclaim_order order = {.pass = pass, .delete_before = pass};
        must(far_vault_reclaim(vault, &order, NULL, NULL, &result, &err));
        assert_true(result.points_uncountable > 0);
    }
    assert_int_equal(blocks_of(result.deleted_bytes), 40);
    must(far_vault_domain_open(vault, &keys, &domain, &err));
    struct far_point *point;
    struct far_verify_result verified;
    must(far_point_open_disk(vault, 9, "root", &point, &err));
    must(far_point_verify(point, NULL, NULL, NULL, &verified, &err));
    far_point_close(point);
    reclaim();
    must(far_vault_domain_destroy(vault, keys.uuid, &err));
    reclaim();
    assert_int_equal(blocks_of(result.deleted_bytes), 20);
    must(far_vault_forget(vault, 9, &err));
    reclaim();
    assert_int_equal(result.points_released, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_disk_that_was_in_several_plans_counts_for_each_with_its_points, set_up, tear_down),
        cmocka_unit_test_setup_teardown(plans_take_what_they_alone_need_and_what_they_share, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_forgotten_point_alone_needed_is_given_back_after_a_further_pass, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_block_that_is_offered_while_it_is_in_quarantine_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_point_sealed_while_others_are_counted_keeps_what_its_disk_leaves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_replica_that_cannot_go_back_stays_as_it_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(counts_that_cannot_be_end_the_pass_at_once_and_are_made_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_import_does_not_take_the_number_of_a_counted_point_that_is_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_replica_that_went_back_is_settled_with_the_frontier_it_has, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pass_that_was_ended_is_done_once_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(orders_of_passes_are_checked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(beside_a_reader_no_pack_is_moved_and_its_point_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(whoever_comes_to_write_beside_a_reader_can, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_is_deleted_while_a_point_cannot_be_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_locked_domain_keeps_its_own_and_a_destroyed_one_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
