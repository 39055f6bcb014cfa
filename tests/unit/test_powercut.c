/* The power-cut tool itself: this program, run again as `writer` under the shim, does a known sequence of file
 * operations; the disk model must keep what was synced, may lose the rest, and never invents anything. */
#include "../lib/cm.h"
#include "../lib/powercut_disk.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static char work[] = "/tmp/far-powercut-XXXXXX";
static char self[4096];
static char shim[4096];

enum { BLOCK = 4096, ROUNDS = 200 };

static void need(bool good)
{
    if (!good) {
        perror("writer");
        _exit(9);
    }
}

/* What the recorded program does, in its folder. */
static void writer(void)
{
    char block[BLOCK];
    int dir = open(".", O_RDONLY | O_DIRECTORY);
    int old = open("old", O_WRONLY);
    need(old >= 0 && pwrite(old, "changed", 7, 0) == 7);
    memset(block, 'a', sizeof block);
    int fd = open("synced", O_RDWR | O_CREAT | O_EXCL, 0600);
    need(fd >= 0 && dir >= 0 && write(fd, block, sizeof block) == BLOCK && fdatasync(fd) == 0 && fsync(dir) == 0);
    memset(block, 'b', sizeof block);
    need(pwrite(fd, block, sizeof block, BLOCK) == BLOCK); /* never synced */
    close(fd);
    fd = open("temporary", O_WRONLY | O_CREAT, 0600);
    struct iovec parts[2] = {{"hel", 3}, {"lo", 2}};
    need(fd >= 0 && writev(fd, parts, 2) == 5 && fsync(fd) == 0);
    close(fd);
    need(rename("temporary", "final") == 0 && fsync(dir) == 0);
    fd = open("dsync", O_WRONLY | O_CREAT | O_DSYNC, 0600);
    need(fd >= 0 && fsync(dir) == 0 && pwrite(fd, "now", 3, 0) == 3);
    close(fd);
    need(mkdir("folder", 0700) == 0 && unlink("old") == 0); /* folder not synced */
    fd = open("folder/inner", O_WRONLY | O_CREAT, 0600);
    need(fd >= 0 && ftruncate(fd, 100) == 0 && posix_fallocate(fd, 0, 200) == 0 && fdatasync(fd) == 0);
    _exit(0);
}

static void path_of(char *out, size_t size, const char *name)
{
    snprintf(out, size, "%s/%s", work, name);
}

static int make_recording(void **state)
{
    char path[4200];
    assert_non_null(mkdtemp(work));
    path_of(path, sizeof path, "base");
    assert_int_equal(mkdir(path, 0700), 0);
    path_of(path, sizeof path, "base/old");
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, "original", 8), 8);
    close(fd);
    char command[16384];
    snprintf(command, sizeof command,
             "cp -a %s/base %s/live && cd %s/live && ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD=%s "
             "FAR_POWERCUT_ROOT=%s/live FAR_POWERCUT_LOG=%s/log %s writer",
             work, work, work, shim, work, work, self);
    assert_int_equal(system(command), 0);
    return 0;
}

static int clean_up(void **state)
{
    char command[4200];
    snprintf(command, sizeof command, "rm -rf %s", work);
    return system(command);
}

static struct powercut_disk *recording(void)
{
    char log[4200];
    char base[4200];
    path_of(log, sizeof log, "log");
    path_of(base, sizeof base, "base");
    return powercut_disk_new(log, base);
}

static void drop_out(void)
{
    char command[4200];
    snprintf(command, sizeof command, "rm -rf %s/out", work);
    assert_int_equal(system(command), 0);
}

/* Content of out/name; -1 when it is not there. */
static ssize_t content(const char *name, char *data, size_t size)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/out/%s", work, name);
    int fd = open(path, O_RDONLY);
    ssize_t got = fd >= 0 ? read(fd, data, size) : -1;
    if (fd >= 0) {
        close(fd);
    }
    return got;
}

static void build(struct powercut_disk *disk, size_t cut, uint64_t seed, int mode)
{
    char out[4200];
    drop_out();
    path_of(out, sizeof out, "out");
    powercut_disk_build(disk, cut, seed, mode, out);
}

static void without_a_loss_the_folder_is_what_the_program_left(void **state)
{
    struct powercut_disk *disk = recording();
    build(disk, powercut_disk_records(disk), 1, POWERCUT_KEEP_ALL);
    char command[9000];
    snprintf(command, sizeof command, "diff -r %s/live %s/out", work, work);
    assert_int_equal(system(command), 0);
    powercut_disk_free(disk);
}

static void losing_everything_unsynced_keeps_what_was_synced(void **state)
{
    char data[3 * BLOCK];
    struct powercut_disk *disk = recording();
    build(disk, powercut_disk_records(disk), 1, POWERCUT_LOSE_ALL);
    assert_int_equal(content("synced", data, sizeof data), BLOCK);
    assert_int_equal(data[0], 'a');
    assert_int_equal(content("final", data, sizeof data), 5);
    assert_memory_equal(data, "hello", 5);
    assert_int_equal(content("dsync", data, sizeof data), 3);
    assert_int_equal(content("old", data, sizeof data), 8); /* neither the write nor the unlink was synced */
    assert_memory_equal(data, "original", 8);
    assert_int_equal(content("folder/inner", data, sizeof data), -1);
    powercut_disk_free(disk);
}

static void before_the_first_operation_the_disk_is_the_base(void **state)
{
    char data[BLOCK];
    struct powercut_disk *disk = recording();
    build(disk, 0, 1, -1);
    assert_int_equal(content("old", data, sizeof data), 8);
    assert_int_equal(content("synced", data, sizeof data), -1);
    powercut_disk_free(disk);
}

static void random_cuts_keep_order_and_invent_nothing(void **state)
{
    char data[3 * BLOCK];
    unsigned torn = 0;
    struct powercut_disk *disk = recording();
    size_t records = powercut_disk_records(disk);
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        build(disk, seed % 3 == 0 ? records : seed * 7 % records, seed, -1);
        ssize_t size = content("synced", data, sizeof data);
        bool final_there = content("final", data + 2 * BLOCK, BLOCK) >= 0;
        assert_true(size == -1 || size <= 2 * BLOCK);
        unsigned b = 0;
        for (ssize_t i = 0; i < size; i++) {
            assert_true(data[i] == (i < BLOCK ? 'a' : 'b') || data[i] == 0);
            b += data[i] == 'b';
        }
        torn += b > 0 && b < BLOCK;
        if (final_there) { /* renamed after its fsync: whole, and the names before it are there too */
            assert_memory_equal(data + 2 * BLOCK, "hello", 5);
            assert_true(size >= 0);
        }
    }
    print_message("# %u of %d cuts tore a write\n", torn, ROUNDS);
    assert_true(torn > 0);
    powercut_disk_free(disk);
}

static void the_same_seed_gives_the_same_disk(void **state)
{
    char one[2 * BLOCK];
    char two[2 * BLOCK];
    struct powercut_disk *disk = recording();
    for (uint64_t seed = 1; seed < 20; seed++) {
        build(disk, powercut_disk_records(disk), seed, -1);
        ssize_t size = content("synced", one, sizeof one);
        build(disk, powercut_disk_records(disk), seed, -1);
        assert_int_equal(content("synced", two, sizeof two), size);
        assert_memory_equal(one, two, (size_t)size);
    }
    powercut_disk_free(disk);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "writer") == 0) {
        writer();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_loss_the_folder_is_what_the_program_left),
        cmocka_unit_test(losing_everything_unsynced_keeps_what_was_synced),
        cmocka_unit_test(before_the_first_operation_the_disk_is_the_base),
        cmocka_unit_test(random_cuts_keep_order_and_invent_nothing),
        cmocka_unit_test(the_same_seed_gives_the_same_disk),
    };
    char here[2048];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0 || getcwd(here, sizeof here) == NULL) {
        return 1;
    }
    snprintf(shim, sizeof shim, "%s/tests/lib/.libs/libpowercut.so", here);
    return cmocka_run_group_tests(tests, make_recording, clean_up);
}
