/* Tags of an image's blocks: what they tell, when they are believed, and that an import with them makes what one without makes,
 * whatever became of their file. */
#define _GNU_SOURCE
#include "../lib/cm.h"
#include "../lib/vault_kit.h"
#include "base/file.h"
#include "dataplane/block_tags.h"
#include "dataplane/import.h"
#include "dataplane/pack.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

enum { BLOCKS = 700, TAIL_BYTES = 100, DISK = 7 };
static const uint64_t size_bytes = (uint64_t)(BLOCKS - 1) * FAR_BLOCK_BYTES + TAIL_BYTES;
static char dir[300], image[320];
static struct far_vault *vault;
static struct far_error err;
static uint64_t numbers[BLOCKS];
static unsigned labels;

static void must(int rc)
{
    if (rc != 0) {
        print_message("# %s\n", err.message);
    }
    assert_int_equal(rc, 0);
}

static void write_block(uint64_t index, uint64_t number)
{
    uint8_t block[FAR_BLOCK_BYTES];
    int fd = open(image, O_RDWR | O_CREAT, 0600);
    kit_block(number, block);
    numbers[index] = number;
    must(far_file_pwrite(fd, block, index == BLOCKS - 1 ? TAIL_BYTES : FAR_BLOCK_BYTES, index * FAR_BLOCK_BYTES, image, &err));
    close(fd);
}

static int set_up(void **state)
{
    struct far_vault_options options = {.create = true, .cache_bytes_max = 1 << 20};
    (void)state;
    snprintf(dir, sizeof dir, "%s", kit_folder());
    snprintf(image, sizeof image, "%s/image", dir);
    must(far_vault_open(dir, &options, &vault, &err));
    for (uint64_t i = 0; i < BLOCKS; i++) {
        write_block(i, i % 5 == 0 ? 0 : i);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    far_vault_close(vault);
    kit_remove(dir);
    return 0;
}

static int stop_half_way(void *arg, uint64_t bytes_done, uint64_t bytes)
{
    (void)arg;
    return bytes_done > bytes / 2;
}

static int import(const char *label, bool stop, struct far_import_result *ret)
{
    struct far_import_options options = {
        .image = image, .label = label, .disk = "d", .workers = 2, .progress = stop ? stop_half_way : NULL};
    return far_vault_import(vault, &options, ret, &err);
}

/* The root of the image as it is, made without any tags of before. */
static struct far_hash256 true_root(void)
{
    char label[20];
    struct far_import_result result;
    snprintf(label, sizeof label, "fresh%u", labels++);
    must(import(label, false, &result));
    return result.root;
}

static void expect_exact(const char *label, struct far_import_result *ret)
{
    struct far_hash256 root = true_root();
    must(import(label, false, ret));
    assert_true(far_hash256_equal(&ret->root, &root));
}

/* The path of the one file of tags there is. */
static void tags_path(char *path, size_t len)
{
    char folder[320];
    snprintf(folder, sizeof folder, "%s/replicas", dir);
    DIR *replicas = opendir(folder);
    path[0] = '\0';
    for (struct dirent *entry; (entry = readdir(replicas)) != NULL;) {
        const char *dot = strrchr(entry->d_name, '.');
        if (dot != NULL && strcmp(dot, ".tags") == 0) {
            assert_true(path[0] == '\0');
            snprintf(path, len, "%s/%.200s", folder, entry->d_name);
        }
    }
    closedir(replicas);
    assert_true(path[0] != '\0');
}

static void what_changed_and_only_that_is_stored(void **state)
{
    struct far_import_result result;
    (void)state;
    must(import("web", false, &result));
    must(import("web", false, &result));
    assert_int_equal(result.blocks_stored, 0);
    assert_int_equal(result.blocks_zero, BLOCKS / 5);
    assert_int_equal(result.blocks_same, BLOCKS - BLOCKS / 5);
    write_block(3, 10003);
    write_block(5, 10005);         /* was zeroes */
    write_block(300, 0);
    write_block(301, 0);           /* becomes zeroes */
    write_block(401, 402);         /* a block that the vault has */
    write_block(BLOCKS - 1, 9999); /* the tail */
    must(import("web", false, &result));
    assert_int_equal(result.blocks_stored, 3);
    assert_int_equal(result.blocks_zero, BLOCKS / 5);
    struct far_hash256 root = result.root, fresh = true_root();
    assert_true(far_hash256_equal(&root, &fresh));
}

static void one_bit_is_seen_at_every_place_of_a_block(void **state)
{
    struct far_block_tags *tags;
    struct far_hash256 root = {{1}};
    static uint8_t block[FAR_BLOCK_BYTES];
    const uint8_t *const blocks = block;
    struct far_tag before, after;
    (void)state;
    must(far_block_tags_open(vault, NULL, DISK, size_bytes, &root, &tags, &err));
    struct far_tag_maker *maker = far_tag_maker_new(tags);
    assert_true(far_tags_make(maker, &blocks, 1, &before));
    assert_true(far_tag_equal(&before, far_tag_of_zeroes(maker)));
    for (size_t bit = 0; bit < FAR_BLOCK_BYTES * 8; bit += bit < 2000 ? 1 : 997) {
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_true(far_tags_make(maker, &blocks, 1, &after));
        assert_false(far_tag_equal(&before, &after));
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    far_tag_maker_free(maker);
    far_block_tags_close(tags);
}

static void two_files_have_two_keys(void **state)
{
    struct far_block_tags *a, *b;
    struct far_hash256 root = {{1}};
    (void)state;
    must(far_block_tags_open(vault, NULL, DISK, size_bytes, &root, &a, &err));
    must(far_block_tags_open(vault, NULL, DISK + 1, size_bytes, &root, &b, &err));
    struct far_tag_maker *of_a = far_tag_maker_new(a), *of_b = far_tag_maker_new(b), *again = far_tag_maker_new(a);
    assert_false(far_tag_equal(far_tag_of_zeroes(of_a), far_tag_of_zeroes(of_b)));
    assert_true(far_tag_equal(far_tag_of_zeroes(of_a), far_tag_of_zeroes(again)));
    far_tag_maker_free(of_a);
    far_tag_maker_free(of_b);
    far_tag_maker_free(again);
    far_block_tags_close(a);
    far_block_tags_close(b);
}

static bool knows(uint64_t disk_id, uint64_t size, const struct far_hash256 *root, uint64_t page)
{
    struct far_block_tags *tags;
    struct far_tag known[FAR_TAGS_OF_PAGE];
    must(far_block_tags_open(vault, NULL, disk_id, size, root, &tags, &err));
    bool knows = far_block_tags_known(tags, page, known);
    far_block_tags_close(tags);
    return knows;
}

static void they_hold_for_one_root_of_one_disk_alone(void **state)
{
    struct far_block_tags *tags;
    struct far_tag kept[FAR_TAGS_OF_PAGE] = {{{1}}};
    struct far_hash256 none = {{0}}, root = {{1}}, other = {{2}};
    (void)state;
    must(far_block_tags_open(vault, NULL, DISK, size_bytes, &none, &tags, &err));
    far_block_tags_keep(tags, 0, kept);
    far_block_tags_keep(tags, 2, kept);
    far_block_tags_close(tags);
    assert_false(knows(DISK, size_bytes, &root, 0)); /* was not finished */
    must(far_block_tags_open(vault, NULL, DISK, size_bytes, &none, &tags, &err));
    far_block_tags_keep(tags, 0, kept);
    far_block_tags_keep(tags, 1, NULL);
    far_block_tags_keep(tags, 2, kept);
    far_block_tags_finish(tags, &root);
    far_block_tags_close(tags);
    assert_true(knows(DISK, size_bytes, &root, 0));
    assert_false(knows(DISK, size_bytes, &root, 1));
    assert_true(knows(DISK, size_bytes, &root, 2));
    assert_false(knows(DISK, size_bytes, &root, 3));
    assert_false(knows(DISK, size_bytes, &other, 0));
    assert_false(knows(DISK, size_bytes + 1, &root, 0));
    assert_false(knows(DISK + 1, size_bytes, &root, 0));
}

static void an_import_that_was_stopped_leaves_none_that_lie(void **state)
{
    struct far_import_result result;
    (void)state;
    must(import("web", false, &result));
    uint64_t before = numbers[1];
    write_block(1, 20001);
    assert_int_equal(import("web", true, &result), FAR_CANCELED);
    expect_exact("web", &result);
    write_block(1, before);
    write_block(600, 20600);
    assert_int_equal(import("web", true, &result), FAR_CANCELED);
    expect_exact("web", &result);
    assert_true(truncate(image, (off_t)((BLOCKS - 1) * (uint64_t)FAR_BLOCK_BYTES)) == 0);
    assert_int_equal(import("web", true, &result), FAR_CANCELED);
    expect_exact("web", &result);
    write_block(BLOCKS - 1, 5);
    expect_exact("web", &result);
}

/* Header of one import, pages of another: these are not known, though all have the same seed. */
static void tags_of_two_imports_do_not_mix(void **state)
{
    struct far_import_result result;
    struct far_buf first, second;
    char path[600];
    (void)state;
    far_buf_init(&first, 1 << 20);
    far_buf_init(&second, 1 << 20);
    must(import("web", false, &result));
    tags_path(path, sizeof path);
    must(far_file_read(path, &first, &err));
    uint64_t before = numbers[1];
    write_block(1, 20001);
    must(import("web", false, &result));
    must(far_file_read(path, &second, &err));
    assert_int_equal(first.len, second.len);
    memcpy(first.data, second.data, 4096);
    must(far_file_replace(path, first.data, first.len, 0600, &err));
    write_block(1, before);
    expect_exact("web", &result);
    far_buf_done(&first);
    far_buf_done(&second);
}

/* Somebody writes to the image while it is imported without tags of before, once to each block; the next import is exact all the same. */
static _Atomic bool writes;
static void *write_on(void *arg)
{
    int fd = open(image, O_RDWR);
    uint64_t round = (uint64_t)(uintptr_t)arg;
    static uint8_t block[4 * FAR_BLOCK_BYTES]; /* read after each write, so that they are spread over the import */
    for (uint64_t i = 0; writes && i < BLOCKS - 1; i++) {
        uint64_t at = (i * 211 + round * 37) % (BLOCKS - 1) * FAR_BLOCK_BYTES + i % 60000, bytes = round << 32 | i;
        must(far_file_pwrite(fd, &bytes, sizeof bytes, at, image, &err));
        must(far_file_pread(fd, block, sizeof block, 0, image, &err));
    }
    close(fd);
    return NULL;
}

static void an_image_that_is_written_to_is_exact_as_soon_as_it_rests(void **state)
{
    struct far_import_result result;
    char path[600] = "";
    (void)state;
    must(import("web", false, &result));
    tags_path(path, sizeof path);
    for (uintptr_t round = 1; round <= 24; round++) {
        pthread_t writer;
        assert_true(round % 4 == 0 || unlink(path) == 0);
        writes = true;
        assert_int_equal(pthread_create(&writer, NULL, write_on, (void *)round), 0);
        must(import("web", false, &result));
        writes = false;
        pthread_join(writer, NULL);
        must(import("web", false, &result));
    }
    expect_exact("web", &result);
}

/* Nothing of a hole is read, and it is zeroes all the same. */
static void what_became_a_hole_is_zeroes(void **state)
{
    struct far_import_result result;
    (void)state;
    must(import("web", false, &result));
    int fd = open(image, O_RDWR);
    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100ll * FAR_BLOCK_BYTES, 300ll * FAR_BLOCK_BYTES), 0);
    close(fd);
    expect_exact("web", &result);
    assert_in_range(result.blocks_zero, 300, BLOCKS);
    must(import("web", false, &result));
    assert_in_range(result.blocks_zero, 300, BLOCKS);
    write_block(200, 3);
    expect_exact("web", &result);
}

/* A page of leaves that is damaged: no point is made over it, though the image is as it was. */
static void a_tree_that_cannot_be_read_gets_no_point(void **state)
{
    struct far_vault_options options = {.cache_bytes_max = 1 << 20};
    struct far_import_result result;
    char path[400];
    struct far_buf pack;
    uint64_t flipped = 0;
    (void)state;
    must(import("web", false, &result));
    far_vault_close(vault);
    snprintf(path, sizeof path, "%s/packs/00000001.pack", dir);
    far_buf_init(&pack, 1 << 30);
    must(far_file_read(path, &pack, &err));
    for (size_t at = FAR_PACK_HEADER_BYTES; at + FAR_RECORD_HEADER_BYTES < pack.len;) {
        struct far_record record;
        must(far_record_decode(pack.data + at, &record, &err));
        at += FAR_RECORD_HEADER_BYTES + record.stored_len;
        if (record.type == FAR_RECORD_PAGE) {
            pack.data[at - 5] ^= 1;
            flipped++;
        }
    }
    assert_in_range(flipped, 1, 10);
    must(far_file_replace(path, pack.data, pack.len, 0600, &err));
    far_buf_done(&pack);
    must(far_vault_open(dir, &options, &vault, &err));
    assert_int_equal(import("web", false, &result), FAR_CORRUPT);
}

/* Whatever bit of the file flips: the next import is exact. */
static void a_damaged_file_is_as_none(void **state)
{
    struct far_import_result result;
    char path[600];
    struct far_buf good;
    struct far_hash256 root;
    (void)state;
    must(import("web", false, &result));
    tags_path(path, sizeof path);
    far_buf_init(&good, 1 << 20);
    must(far_file_read(path, &good, &err));
    write_block(2, 30002);
    root = true_root();
    must(import("web", false, &result));
    assert_true(far_hash256_equal(&result.root, &root));
    for (size_t at = 0; at < good.len; at += at < 128 ? 5 : 211) {
        struct far_buf now;
        far_buf_init(&now, 1 << 20);
        must(far_file_read(path, &now, &err));
        now.data[at] ^= 0x10;
        must(far_file_replace(path, now.data, now.len, 0600, &err));
        write_block(at % BLOCKS, 40000 + at);
        must(import("web", false, &result));
        far_buf_done(&now);
    }
    root = true_root();
    must(import("web", false, &result));
    assert_true(far_hash256_equal(&result.root, &root));
    must(far_file_replace(path, good.data, good.len, 0600, &err)); /* of a former root */
    write_block(2, numbers[1]);
    expect_exact("web", &result);
    far_buf_done(&good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_A_VAULT(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
        IN_A_VAULT(what_changed_and_only_that_is_stored),
        IN_A_VAULT(one_bit_is_seen_at_every_place_of_a_block),
        IN_A_VAULT(two_files_have_two_keys),
        IN_A_VAULT(they_hold_for_one_root_of_one_disk_alone),
        IN_A_VAULT(an_import_that_was_stopped_leaves_none_that_lie),
        IN_A_VAULT(tags_of_two_imports_do_not_mix),
        IN_A_VAULT(an_image_that_is_written_to_is_exact_as_soon_as_it_rests),
        IN_A_VAULT(what_became_a_hole_is_zeroes),
        IN_A_VAULT(a_tree_that_cannot_be_read_gets_no_point),
        IN_A_VAULT(a_damaged_file_is_as_none),
    };
    return cmocka_run_group_tests_name("block_tags", tests, NULL, NULL);
}
