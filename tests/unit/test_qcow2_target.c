/* Recovered disks as qcow2 images: what QEMU's own tools make of them. Without qemu-img only what is read back is looked at. */
#define _GNU_SOURCE
#include "dataplane/map.h"
#include "dataplane/qcow2_target.h"

#include "adapters/adapters.h"
#include "lib/cm.h"
#include "lib/remove_tree.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = FAR_BLOCK_BYTES };

static char base[PATH_MAX], image[PATH_MAX + 16], copy[PATH_MAX + 16];
static struct far_adapter_bytes bytes; /* those of files, and of a device that damages them */
static bool is_damaged;

static int read_damaged(void *handle, void *buffer, size_t length, uint64_t offset, struct far_adapter_error *ret_error)
{
    int outcome = far_adapter_file.bytes->read(handle, buffer, length, offset, ret_error);
    if (outcome == FAR_ADAPTER_OK && is_damaged) {
        ((uint8_t *)buffer)[length - 1] ^= 1;
    }
    return outcome;
}

static int setup(void **unused)
{
    assert_int_equal(far_test_make_folder("qcow2", base, sizeof base), 0);
    bytes = *far_adapter_file.bytes;
    bytes.read = read_damaged;
    is_damaged = false;
    snprintf(image, sizeof image, "%s/disk.qcow2", base);
    snprintf(copy, sizeof copy, "%s/copy.raw", base);
    return 0;
}

static int teardown(void **unused)
{
    return far_test_remove_tree(base);
}

static struct far_qcow2_target *open_image(uint64_t size)
{
    struct far_qcow2_target *target = NULL;
    struct far_adapter_error said = {0};
    struct far_error err;
    void *handle = NULL;
    uint64_t length = far_qcow2_target_file_bytes(size);
    assert_int_equal(bytes.open_target(NULL, "restore-1-1", image, length, &handle, &said), FAR_ADAPTER_OK);
    assert_int_equal(far_qcow2_target_new(&bytes, handle, size, &target, &err), 0);
    return target;
}

static void fill(uint8_t *block, uint64_t number)
{
    for (size_t i = 0; i < BLOCK; i += 8) {
        uint64_t value = number * 0x9E3779B97F4A7C15ull + i;
        memcpy(block + i, &value, sizeof value);
    }
}

/* Every third block has something in it; the last one may be cut. */
static bool has_data(uint64_t number)
{
    return number % 3 == 1;
}

static void write_disk(struct far_qcow2_target *target, uint64_t size)
{
    uint8_t *block = malloc(BLOCK);
    for (uint64_t at = 0; at < size; at += BLOCK) {
        memset(block, 0, BLOCK);
        if (has_data(at / BLOCK)) {
            fill(block, at / BLOCK);
        }
        size_t length = size - at < BLOCK ? (size_t)(size - at) : BLOCK;
        assert_int_equal(far_qcow2_target_bytes.write(target, block, length, at, NULL), FAR_ADAPTER_OK);
    }
    free(block);
}

static void check_disk(struct far_qcow2_target *target, uint64_t size)
{
    enum { BLOCKS = 16 };
    uint8_t *read = malloc(BLOCKS * BLOCK), *block = malloc(BLOCK);
    for (uint64_t at = 0; at < size; at += BLOCKS * BLOCK) {
        size_t length = size - at < BLOCKS * BLOCK ? (size_t)(size - at) : BLOCKS * BLOCK;
        assert_int_equal(far_qcow2_target_bytes.read(target, read, length, at, NULL), FAR_ADAPTER_OK);
        for (size_t k = 0; k * BLOCK < length; k++) {
            size_t part = length - k * BLOCK < BLOCK ? length - k * BLOCK : BLOCK;
            memset(block, 0, BLOCK);
            if (has_data(at / BLOCK + k)) {
                fill(block, at / BLOCK + k);
            }
            assert_memory_equal(read + k * BLOCK, block, part);
        }
    }
    free(read);
    free(block);
}

static bool has_qemu_img(void)
{
    return system("qemu-img --version > /dev/null 2>&1") == 0;
}

static int run(const char *format)
{
    char command[3 * PATH_MAX];
    snprintf(command, sizeof command, format, image, copy);
    return system(command);
}

/* By QEMU's tool: no error in the tables, and the same bytes. */
static void check_by_qemu(uint64_t size)
{
    uint8_t *block = malloc(BLOCK), *read = malloc(BLOCK);
    struct stat st;
    assert_int_equal(run("qemu-img check -q -f qcow2 '%s' # %s"), 0);
    assert_int_equal(run("qemu-img convert -f qcow2 -O raw '%s' '%s'"), 0);
    int fd = open(copy, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    assert_true((uint64_t)st.st_size == (size + 511) / 512 * 512);
    for (uint64_t at = 0; at < size; at += BLOCK) {
        size_t length = size - at < BLOCK ? (size_t)(size - at) : BLOCK;
        memset(block, 0, BLOCK);
        if (has_data(at / BLOCK)) {
            fill(block, at / BLOCK);
        }
        assert_true(pread(fd, read, length, (off_t)at) == (ssize_t)length);
        assert_memory_equal(read, block, length);
    }
    close(fd);
    free(block);
    free(read);
}

static void make_and_check(uint64_t size)
{
    struct far_qcow2_target *target = open_image(size);
    write_disk(target, size);
    assert_int_equal(far_qcow2_target_bytes.flush(target, NULL), FAR_ADAPTER_OK);
    check_disk(target, size);
    far_qcow2_target_bytes.close(target);
    if (has_qemu_img()) {
        check_by_qemu(size);
    }
}

/* ---- tests ---- */

static void an_image_has_the_bytes_of_the_disk(void **unused)
{
    make_and_check(8 << 20);
}

static void a_disk_may_end_anywhere(void **unused)
{
    make_and_check((1 << 20) + 5 * 512);
    unlink(image);
    make_and_check(3 * BLOCK + 77); /* no whole sector */
    unlink(image);
    make_and_check(512);
}

/* 512 MiB and a little: two tables; nothing is in most of it. */
static void a_disk_of_several_tables(void **unused)
{
    const uint64_t size = (600ull << 20) + BLOCK, last = size / BLOCK - 1;
    struct far_qcow2_target *target = open_image(size);
    uint8_t *block = malloc(BLOCK), *read = malloc(BLOCK);
    struct stat st;
    fill(block, last);
    assert_int_equal(far_qcow2_target_bytes.write(target, block, BLOCK, last * BLOCK, NULL), FAR_ADAPTER_OK);
    assert_int_equal(far_qcow2_target_bytes.flush(target, NULL), FAR_ADAPTER_OK);
    assert_int_equal(far_qcow2_target_bytes.read(target, read, BLOCK, last * BLOCK, NULL), FAR_ADAPTER_OK);
    assert_memory_equal(read, block, BLOCK);
    assert_int_equal(far_qcow2_target_bytes.read(target, read, BLOCK, (last - 1) * BLOCK, NULL), FAR_ADAPTER_OK);
    assert_true(far_block_is_zero(read, BLOCK));
    far_qcow2_target_bytes.close(target);
    assert_int_equal(stat(image, &st), 0);
    assert_true(st.st_blocks * 512 < 2 << 20); /* holes */
    assert_true(!has_qemu_img() || run("qemu-img check -q -f qcow2 '%s' # %s") == 0);
    free(block);
    free(read);
}

/* An attempt that was killed anywhere: no image before the end, and the next one makes it. */
static void the_next_attempt_goes_on(void **unused)
{
    const uint64_t size = 4 << 20;
    uint8_t head[4] = "full", *block = malloc(BLOCK);
    struct far_qcow2_target *target = open_image(size);
    fill(block, 1);
    assert_int_equal(far_qcow2_target_bytes.write(target, block, BLOCK, BLOCK, NULL), FAR_ADAPTER_OK);
    far_qcow2_target_bytes.close(target);
    int fd = open(image, O_RDONLY);
    assert_true(fd >= 0 && pread(fd, head, sizeof head, 0) == sizeof head);
    assert_int_equal(head[0], 0); /* nothing takes it for one */
    close(fd);
    make_and_check(size);
    make_and_check(size); /* also one that was whole, and nobody heard of it */
    free(block);
}

static void tables_that_read_back_otherwise_are_found(void **unused)
{
    const uint64_t size = 2 << 20;
    struct far_adapter_error said = {0};
    struct far_qcow2_target *target = open_image(size);
    write_disk(target, size);
    is_damaged = true;
    assert_int_equal(far_qcow2_target_bytes.flush(target, &said), FAR_ADAPTER_FATAL);
    assert_int_equal(said.klass, FAR_CORRUPT);
    far_qcow2_target_bytes.close(target);
}

static void what_is_too_large_is_refused(void **unused)
{
    assert_true(far_qcow2_target_file_bytes(0) == 0);
    assert_true(far_qcow2_target_file_bytes((512ull << 40) + 1) == 0);
    assert_true(far_qcow2_target_file_bytes(512ull << 40) > 512ull << 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_image_has_the_bytes_of_the_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(a_disk_may_end_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(a_disk_of_several_tables, setup, teardown),
        cmocka_unit_test_setup_teardown(the_next_attempt_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(tables_that_read_back_otherwise_are_found, setup, teardown),
        cmocka_unit_test(what_is_too_large_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
