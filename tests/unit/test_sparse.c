/* Sparse disks: what the file system knows to be a hole is not read, not hashed, and costs no memory. */
#include "../lib/cm.h"
#include "../lib/engine_disk.h"
#include "../lib/until.h"

#include "adapters/adapters.h"
#include "base/file.h"
#include "dataplane/map.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MIB = 1024 * 1024, BLOCK = 65536 };
#define GIB (1024ull * MIB)

static _Atomic uint64_t bytes_read, anon_most_kib;

static uint64_t anon_kib(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL && sscanf(line, "RssAnon: %llu", &kib) != 1) {
    }
    if (file != NULL) {
        fclose(file);
    }
    return kib;
}

/* ---- the file adapter, with its reads counted ---- */

static int counted_read(void *handle, void *buffer, size_t length, uint64_t offset, struct far_adapter_error *ret_error)
{
    uint64_t kib = anon_kib();
    atomic_fetch_add(&bytes_read, length);
    if (kib > atomic_load(&anon_most_kib)) {
        atomic_store(&anon_most_kib, kib);
    }
    return far_adapter_file.bytes->read(handle, buffer, length, offset, ret_error);
}

static struct far_adapter_bytes counted_bytes, blind_bytes;
static struct far_adapter counted, blind; /* blind: knows of no holes */
static const struct far_adapter *adapters[] = {&counted, &blind, &far_adapter_file, NULL};

static struct engine_pair pair;

static int setup(void **state)
{
    const struct far_engine_config config = {
        .memory_bytes = 16 * MIB, .checkpoint_bytes = 4 * MIB, .checkpoint_ms = 1000, .adapters = adapters};
    counted_bytes = blind_bytes = *far_adapter_file.bytes;
    counted_bytes.read = blind_bytes.read = counted_read;
    blind_bytes.extents = NULL;
    counted = blind = far_adapter_file;
    counted.name = "counted";
    counted.bytes = &counted_bytes;
    blind.name = "blind";
    blind.bytes = &blind_bytes;
    pair_init(&pair, "sparse", &config);
    return 0;
}

static int teardown(void **state)
{
    pair_done(&pair);
    return 0;
}

static void put(const struct engine_disk *disk, uint64_t offset, size_t length, uint8_t seed)
{
    uint8_t *data = malloc(length);
    for (size_t i = 0; i < length; i++) {
        data[i] = (uint8_t)(i * 131 + (i >> 8) * 17 + (i >> 16) * seed + seed);
    }
    int fd = open(disk->path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, data, length, (off_t)offset), (ssize_t)length);
    close(fd);
    free(data);
}

static void sparse_disk(struct engine_disk *disk, const char *name, uint64_t size_bytes, const char *adapter)
{
    *disk = (struct engine_disk){.pair = &pair, .size_bytes = size_bytes, .adapter = adapter};
    pair_path(&pair, name, disk->path, sizeof disk->path);
    int fd = open(disk->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, (off_t)size_bytes), 0);
    close(fd);
}

static bool cycle(struct engine_disk *disk)
{
    atomic_store(&bytes_read, 0);
    atomic_store(&anon_most_kib, 0);
    return disk_cycle(disk);
}

static bool knows_holes(const struct engine_disk *disk)
{
    struct stat st;
    return stat(disk->path, &st) == 0 && (uint64_t)st.st_blocks * 512 < disk->size_bytes / 2;
}

/* ---- tests ---- */

static void a_hole_of_100_gib_is_neither_read_nor_kept_in_memory(void **state)
{
    struct engine_disk disk;
    sparse_disk(&disk, "huge", 100 * GIB, "counted");
    for (uint64_t i = 0; i < 10; i++) { /* 10 MiB, scattered */
        put(&disk, i * 10 * GIB + 5 * MIB, MIB, (uint8_t)(i + 1));
    }
    assert_true(knows_holes(&disk));
    uint64_t before_kib = anon_kib();
#ifdef __SANITIZE_ADDRESS__
    uint64_t more_kib_max = 288 * 1024; /* it keeps 256 MiB of what was freed */
#else
    uint64_t more_kib_max = far_test_on_valgrind() ? 64 * 1024 : 32 * 1024; /* it keeps 20 MB of what was freed */
#endif
    assert_true(cycle(&disk));
    assert_int_equal(disk.send.bytes_changed, 10 * MIB);
    assert_true(atomic_load(&bytes_read) <= 12 * MIB);
    print_message("# %llu KiB read, %llu KiB of memory more\n", (unsigned long long)atomic_load(&bytes_read) / 1024,
                  (unsigned long long)(atomic_load(&anon_most_kib) - before_kib));
    assert_true(atomic_load(&anon_most_kib) < before_kib + more_kib_max); /* leaves of all blocks were 50 MiB, three times */
    disk_accept(&disk);

    put(&disk, 77 * GIB, BLOCK, 99); /* in a hole */
    assert_int_equal(truncate(disk.path, (off_t)(90 * GIB)), 0); /* the last MiB becomes a hole */
    assert_int_equal(truncate(disk.path, (off_t)(100 * GIB)), 0);
    assert_true(cycle(&disk));
    assert_int_equal(disk.send.bytes_changed, MIB + BLOCK);
    assert_true(disk.send.bytes_sent < 2 * BLOCK + 64 * 1024);
    assert_true(atomic_load(&bytes_read) <= 12 * MIB);
}

static void holes_of_any_place_and_size_give_the_same_root_as_reading_them(void **state)
{
    struct engine_disk disk;
    uint64_t sizes[] = {4096, 60 * 1024, BLOCK, 200 * 1024, 300 * 1024, MIB + 8192}, at = 12288;
    sparse_disk(&disk, "holes", 48 * MIB + 1000, "counted");
    for (size_t i = 0; at < 40 * MIB; i++) {
        size_t length = (size_t)sizes[(i * 5 + 1) % 6];
        put(&disk, at, length, (uint8_t)(i * 3 + 1));
        at += length + sizes[(i * 7 + 3) % 6];
    }
    assert_true(cycle(&disk));
    uint64_t read_once = atomic_load(&bytes_read);
    uint8_t root[32];
    memcpy(root, disk.send.root, sizeof root);
    disk.adapter = "blind";
    assert_true(cycle(&disk)); /* the same bytes, all read */
    assert_int_equal(atomic_load(&bytes_read), disk.size_bytes);
    assert_true(read_once < disk.size_bytes);
    assert_memory_equal(root, disk.send.root, sizeof root);
    disk.adapter = "counted";
    assert_true(disk_restore(&disk, "restored"));
}

static void a_map_of_zeroes_takes_no_room_in_memory(void **state)
{
    struct far_map *map;
    struct far_hash256 leaf = {{7}};
    uint64_t before_kib = anon_kib();
    assert_int_equal(far_map_new(100 * GIB, &map, NULL), 0);
    for (uint64_t i = 0; i < far_map_blocks(map); i++) {
        far_map_set(map, i, far_zero_leaf());
    }
    far_map_set(map, 5, &leaf);
    far_map_set(map, 1000000, &leaf);
    far_map_set(map, 1000000, far_zero_leaf()); /* and back */
    far_map_set(map, 999999, &leaf);
    assert_true(anon_kib() < before_kib + 1024);
    far_map_free(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_hole_of_100_gib_is_neither_read_nor_kept_in_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(holes_of_any_place_and_size_give_the_same_root_as_reading_them, setup, teardown),
        cmocka_unit_test_setup_teardown(a_map_of_zeroes_takes_no_room_in_memory, setup, teardown),
    };
    return cmocka_run_group_tests_name("sparse", tests, NULL, NULL);
}
