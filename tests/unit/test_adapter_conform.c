/* What every adapter must do, one set of cases run over file, nbd (of nbdkit and qemu-nbd) and fault:file: whatever the engine
 * relies on, also with offsets and numbers that nobody would ask for.
 *
 * The disk is the same everywhere: 5 MiB and some sectors, with data, holes and zeroes, and a list of what changed. */
#include "../lib/cm.h"
#include "../lib/nbd_server.h"

#include "adapters/adapters.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KIB = 1024, MIB = 1 << 20, SIZE = 5 * MIB + 3 * 512, CHANGES = 5, READERS = 6 };

/* Kept as the list of another program and as a dirty bitmap of 64 KiB. */
static const struct far_adapter_extent changes[CHANGES] = {
    {.offset = 0, .length = 64 * KIB},        {.offset = 192 * KIB, .length = 128 * KIB},
    {.offset = MIB, .length = 64 * KIB},      {.offset = 3 * MIB, .length = 64 * KIB},
    {.offset = 5 * MIB, .length = 3 * 512},
};

static char dir[200], image[260], sock[260], uri[600];
static uint8_t *content;
static pid_t server;
static struct far_adapter_error said;

static const struct far_adapter *adapter; /* under test */
static void *platform;
static struct far_adapter_disk disk;
static char ref[128];
static const char *since;

/* ---- the disks ---- */

static int make_disk(void **state)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/conf-XXXXXX", tmp != NULL && strlen(tmp) < 60 ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
    snprintf(image, sizeof image, "%s/disk.img", dir);
    snprintf(sock, sizeof sock, "%s/sock", dir);
    content = calloc(1, SIZE);
    int fd = open(image, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(ftruncate(fd, SIZE), 0);
    for (size_t at = 0; at < SIZE; at += MIB) { /* half of each MiB; the fourth is zeroes that were written */
        size_t length = SIZE - at < MIB / 2 ? SIZE - at : MIB / 2;
        for (size_t i = 0; i < length && at != 4 * MIB; i++) {
            content[at + i] = (uint8_t)(i * 31 + at / MIB + 1);
        }
        assert_int_equal(pwrite(fd, content + at, length, (off_t)at), (ssize_t)length);
    }
    close(fd);
    return 0;
}

static int remove_disk(void **state)
{
    char command[300];
    if (platform != NULL) {
        adapter->close(platform);
        platform = NULL;
    }
    far_nbd_server_kill(&server);
    free(content);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static void freeze_it(const char *config)
{
    struct far_adapter_found found = {0};
    bool fuzzy;
    assert_int_equal(adapter->open(config, &platform, &said), FAR_ADAPTER_OK);
    int outcome = adapter->changes->freeze(platform, "7-1-1", &disk, 1, &found, ref, &fuzzy, &said);
    if (outcome != FAR_ADAPTER_OK) {
        print_error("freeze: %s\n", said.message);
    }
    assert_int_equal(outcome, FAR_ADAPTER_OK);
    assert_int_equal(found.size_bytes, SIZE);
    assert_true(found.identity[0] != '\0' && memchr(found.identity, 0, sizeof found.identity) != NULL);
    assert_true(ref[0] != '\0' && memchr(ref, 0, sizeof ref) != NULL);
}

static void use_file(const char *name, const char *prefix)
{
    char path[300], config[300];
    snprintf(path, sizeof path, "%s/disk.changes", dir);
    FILE *list = fopen(path, "w");
    fprintf(list, "farshore-changes 1 base now\n");
    for (size_t i = 0; i < CHANGES; i++) {
        fprintf(list, "%llu %llu\n", (unsigned long long)changes[i].offset, (unsigned long long)changes[i].length);
    }
    fclose(list);
    adapter = far_adapters_find(name);
    disk = (struct far_adapter_disk){.name = "disk", .locator = image};
    since = "base";
    snprintf(config, sizeof config, "%schanges=.\n", prefix);
    freeze_it(config);
}

static void use_nbdkit(void)
{
    char path[300];
    snprintf(path, sizeof path, "file=%s", image);
    const char *const argv[] = {"nbdkit", "-f", "-r", "-U", sock, "file", path, NULL};
    if (!far_nbd_has("nbdkit")) {
        print_message("nbdkit is not installed\n");
        skip();
    }
    server = far_nbd_server_start(sock, argv);
    assert_true(server > 0);
    adapter = &far_adapter_nbd;
    snprintf(uri, sizeof uri, "nbd+unix:///?socket=%s", sock);
    disk = (struct far_adapter_disk){.name = "disk", .locator = uri};
    since = NULL;
    freeze_it("timeout_ms=10000\nretry_ms=100\n");
}

/* A qcow2 copy whose bitmap b0 knows the changes: they are written again, as they are. */
static void use_qemu(void)
{
    char command[1200], path[300];
    if (!far_nbd_has("qemu-nbd") || !far_nbd_has("qemu-img") || !far_nbd_has("qemu-io")) {
        print_message("qemu-utils are not installed\n");
        skip();
    }
    int n = snprintf(command, sizeof command, "cd '%s' && qemu-img convert -q -f raw -O qcow2 disk.img disk.qcow2 && "
                     "qemu-img bitmap --add -g 64k disk.qcow2 b0 && qemu-io -f qcow2", dir);
    for (size_t i = 0; i < CHANGES; i++) {
        snprintf(path, sizeof path, "%s/piece%zu", dir, i);
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        assert_int_equal(write(fd, content + changes[i].offset, changes[i].length), (ssize_t)changes[i].length);
        close(fd);
        n += snprintf(command + n, sizeof command - (size_t)n, " -c 'write -q -s piece%zu %llu %llu'", i,
                      (unsigned long long)changes[i].offset, (unsigned long long)changes[i].length);
    }
    n += snprintf(command + n, sizeof command - (size_t)n, " disk.qcow2");
    assert_true(n < (int)sizeof command);
    assert_int_equal(system(command), 0);
    snprintf(path, sizeof path, "%s/disk.qcow2", dir);
    const char *const argv[] = {"qemu-nbd", "-t", "-r", "--shared=0", "-f", "qcow2", "-k", sock, "-B", "b0", path, NULL};
    server = far_nbd_server_start(sock, argv);
    assert_true(server > 0);
    adapter = &far_adapter_nbd;
    snprintf(uri, sizeof uri, "nbd+unix:///?socket=%s&bitmap=b0", sock);
    disk = (struct far_adapter_disk){.name = "disk", .locator = uri};
    since = "b0";
    freeze_it("timeout_ms=10000\nretry_ms=100\n");
}

/* ---- the cases ---- */

static void *open_view(void)
{
    void *handle;
    int outcome = adapter->bytes->open_frozen(platform, ref, &disk, &handle, &said);
    if (outcome != FAR_ADAPTER_OK) {
        print_error("open: %s\n", said.message);
    }
    assert_int_equal(outcome, FAR_ADAPTER_OK);
    return handle;
}

static void check_identity(void)
{
    struct far_adapter_found one, two;
    assert_int_equal(adapter->inventory->probe(platform, &disk, &one, &said), FAR_ADAPTER_OK);
    assert_int_equal(adapter->inventory->probe(platform, &disk, &two, NULL), FAR_ADAPTER_OK);
    assert_int_equal(one.size_bytes, SIZE);
    assert_string_equal(one.identity, two.identity);
}

static void check_reads(void *handle)
{
    static const struct {
        uint64_t offset;
        size_t length;
    } good[] = {{0, 1}, {0, SIZE}, {SIZE - 1, 1}, {SIZE - 512, 512}, {MIB - 1, 2}, {511, 1026}, {SIZE, 0}, {0, 0}, {4 * MIB, 65536}},
      bad[] = {{SIZE, 1}, {SIZE - 1, 2}, {SIZE + 4096, 1}, {UINT64_MAX, 1}, {UINT64_MAX - 1, 4096}, {1ull << 62, 65536}};
    uint8_t *buffer = malloc(SIZE + 1);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        buffer[good[i].length] = 0xee;
        assert_int_equal(adapter->bytes->read(handle, buffer, good[i].length, good[i].offset, &said), FAR_ADAPTER_OK);
        assert_memory_equal(buffer, content + good[i].offset, good[i].length);
        assert_int_equal(buffer[good[i].length], 0xee);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        said.message[0] = '\0';
        assert_int_not_equal(adapter->bytes->read(handle, buffer, bad[i].length, bad[i].offset, &said), FAR_ADAPTER_OK);
        assert_true(said.message[0] != '\0' && said.klass < 0);
        assert_int_not_equal(adapter->bytes->read(handle, buffer, bad[i].length, bad[i].offset, NULL), FAR_ADAPTER_OK);
    }
    free(buffer);
}

static void check_extents(void *handle, size_t max)
{
    struct far_adapter_extent extents[16];
    size_t count = 0, data = 0;
    for (uint64_t at = 0; at < SIZE;) {
        assert_int_equal(adapter->bytes->extents(handle, at, extents, max, &count, &said), FAR_ADAPTER_OK);
        assert_true(count >= 1 && count <= max);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(extents[i].offset, at); /* ascending, without gaps */
            assert_true(extents[i].length > 0 && extents[i].length <= UINT64_MAX - at);
            uint64_t end = at + extents[i].length < SIZE ? at + extents[i].length : SIZE;
            for (uint64_t k = at; k < end && extents[i].zero; k++) {
                assert_int_equal(content[k], 0);
            }
            data += extents[i].zero ? 0 : (size_t)(end - at);
            at += extents[i].length;
        }
    }
    assert_true(data >= 2 * MIB); /* what is there is not called a hole */
    assert_int_equal(adapter->bytes->extents(handle, SIZE - 1, extents, 1, &count, &said), FAR_ADAPTER_OK);
    assert_true(count == 1 && extents[0].offset == SIZE - 1);
}

static void check_pages(size_t max)
{
    struct far_adapter_extent extents[16];
    uint64_t last_end = 0, at = 0, sum = 0;
    size_t pages = 0;
    bool named[SIZE / 512] = {false};
    while (at < SIZE) {
        size_t count = 0;
        uint64_t next = 0;
        int outcome = adapter->changes->changed(platform, ref, &disk, since, at, extents, max, &count, &next, &said);
        if (outcome != FAR_ADAPTER_OK) {
            print_error("changed: %s\n", said.message);
        }
        assert_int_equal(outcome, FAR_ADAPTER_OK);
        assert_true(count <= max && next > at && next <= SIZE);
        for (size_t i = 0; i < count; i++) {
            assert_true(extents[i].offset >= at && extents[i].offset >= last_end && extents[i].length > 0);
            last_end = extents[i].offset + extents[i].length;
            assert_true(last_end <= next);
            sum += extents[i].length;
            memset(named + extents[i].offset / 512, true, (size_t)(extents[i].length / 512));
        }
        at = next;
        assert_true(++pages <= SIZE / 512); /* it ends */
    }
    for (size_t i = 0; i < CHANGES; i++) {
        for (uint64_t k = changes[i].offset; k < changes[i].offset + changes[i].length; k += 512) {
            assert_true(named[k / 512]);
        }
    }
    assert_int_equal(sum, 5 * 64 * KIB + 3 * 512);
}

static void check_hostile_pages(void)
{
    static const uint64_t offsets[] = {SIZE, SIZE + 1, UINT64_MAX, 1ull << 63};
    struct far_adapter_extent extents[4];
    size_t count;
    uint64_t next;
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        count = 99;
        assert_int_equal(adapter->changes->changed(platform, ref, &disk, since, offsets[i], extents, 4, &count, &next, &said),
                         FAR_ADAPTER_OK);
        assert_int_equal(count, 0);
        assert_true(next >= SIZE);
    }
    assert_int_equal(adapter->changes->changed(platform, ref, &disk, since, 0, extents, 0, &count, &next, &said), FAR_ADAPTER_FATAL);
    assert_int_equal(adapter->changes->changed(platform, ref, &disk, since, 200 * KIB + 1, extents, 1, &count, &next, &said),
                     FAR_ADAPTER_OK);
    assert_true(count == 1 && extents[0].offset >= 200 * KIB && extents[0].offset + extents[0].length == 320 * KIB);
    assert_int_equal(adapter->changes->changed(platform, ref, &disk, "no-such-token", 0, extents, 4, &count, &next, &said),
                     FAR_ADAPTER_RESYNC);
    assert_true(said.message[0] != '\0');
    assert_int_equal(adapter->changes->changed(platform, ref, &disk, "", 0, extents, 4, &count, &next, NULL), FAR_ADAPTER_RESYNC);
}

/* Release and keep are repeated by whoever did not hear that they were done. */
static void check_the_end(void)
{
    char other[128];
    struct far_adapter_found found;
    bool fuzzy;
    assert_int_equal(adapter->changes->release(platform, ref, &disk, 1, &said), FAR_ADAPTER_OK);
    assert_int_equal(adapter->changes->release(platform, ref, &disk, 1, NULL), FAR_ADAPTER_OK);
    assert_int_equal(adapter->changes->freeze(platform, "8-1-1", &disk, 1, &found, other, &fuzzy, &said), FAR_ADAPTER_OK);
    assert_int_equal(adapter->changes->freeze(platform, "8-1-1", &disk, 1, &found, other, &fuzzy, &said), FAR_ADAPTER_OK);
    if (adapter->changes->keep != NULL) {
        assert_int_equal(adapter->changes->keep(platform, other, &disk, 1, &said), FAR_ADAPTER_OK);
        assert_int_equal(adapter->changes->keep(platform, other, &disk, 1, &said), FAR_ADAPTER_OK);
    }
    assert_int_equal(adapter->changes->release(platform, other, &disk, 1, &said), FAR_ADAPTER_OK);
    assert_int_equal(adapter->changes->release(platform, "nobody-made-this", &disk, 1, &said), FAR_ADAPTER_OK);
    void *handle;
    assert_int_equal(adapter->bytes->open_frozen(platform, "nobody-made-this", &disk, &handle, &said), FAR_ADAPTER_FATAL);
    adapter->bytes->close(NULL);
}

static void *read_all(void *handle)
{
    uint8_t *buffer = malloc(MIB);
    void *wrong = NULL;
    for (uint64_t at = 0; at + MIB <= SIZE && wrong == NULL; at += 100 * KIB) {
        bool right = adapter->bytes->read(handle, buffer, MIB, at, NULL) == FAR_ADAPTER_OK && memcmp(buffer, content + at, MIB) == 0;
        wrong = right ? NULL : handle;
    }
    free(buffer);
    return wrong;
}

static void check_threads(void *handle)
{
    pthread_t threads[READERS];
    for (size_t i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, handle), 0);
    }
    for (size_t i = 0; i < READERS; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

static void check_everything(void)
{
    void *handle = open_view();
    check_identity();
    check_reads(handle);
    check_extents(handle, 1);
    check_extents(handle, 16);
    check_threads(handle);
    adapter->bytes->close(handle);
    if (since != NULL) {
        check_pages(1);
        check_pages(2);
        check_pages(16);
        check_hostile_pages();
    }
    check_the_end();
}

static void file_conforms(void **state)
{
    use_file("file", "");
    check_everything();
}

static void fault_over_file_conforms(void **state)
{
    use_file("fault", "inner=file\n");
    check_everything();
}

static void fault_over_file_conforms_with_legal_oddities(void **state)
{
    use_file("fault", "inner=file\npe=2\nep=2\nrd=10\n");
    check_everything();
}

static void nbd_of_nbdkit_conforms(void **state)
{
    use_nbdkit();
    check_everything();
}

static void nbd_of_qemu_conforms(void **state)
{
    use_qemu();
    check_everything();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(file_conforms, make_disk, remove_disk),
        cmocka_unit_test_setup_teardown(fault_over_file_conforms, make_disk, remove_disk),
        cmocka_unit_test_setup_teardown(fault_over_file_conforms_with_legal_oddities, make_disk, remove_disk),
        cmocka_unit_test_setup_teardown(nbd_of_nbdkit_conforms, make_disk, remove_disk),
        cmocka_unit_test_setup_teardown(nbd_of_qemu_conforms, make_disk, remove_disk),
    };
    return cmocka_run_group_tests_name("adapter_conform", tests, NULL, NULL);
}
