/* Lists of changes of the file adapter: clones on real file systems that are mounted for the test (XFS, btrfs; root), held against
 * a comparison of every byte; and lists that another program writes.
 *
 * The mounts are in a name space of this process, so they end with it. */
#define _GNU_SOURCE /* unshare, fallocate */
#include "../lib/cm.h"

#include "adapters/adapters.h"
#include "base/error.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { KIB = 1024, MIB = 1 << 20, ROUNDS = 50 };

static char dir[200], mnt[260], image[300];
static struct far_adapter_error said;
static const struct far_adapter *const file = &far_adapter_file;
static void *platform;
static struct far_adapter_disk disk = {.name = "disk", .locator = image};

/* ---- fixture ---- */

static bool run(const char *format, const char *a, const char *b)
{
    char command[900];
    snprintf(command, sizeof command, format, a, b);
    return system(command) == 0;
}

static int make_dir(void **state)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/changed-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
    snprintf(mnt, sizeof mnt, "%s/mnt", dir);
    snprintf(image, sizeof image, "%s/disk.img", mnt);
    assert_int_equal(mkdir(mnt, 0700), 0);
    memset(&said, 0, sizeof said);
    return file->open("", &platform, &said) == FAR_ADAPTER_OK ? 0 : -1;
}

static int remove_dir(void **state)
{
    file->close(platform);
    umount2(mnt, MNT_DETACH);
    return run("rm -rf '%s'%s", dir, "") ? 0 : -1;
}

/* Skips where this machine cannot; says why. */
static void mount_it(const char *kind, const char *make)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        print_message("mounting a file system needs root\n");
        skip();
    }
    setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin", 1);
    if (!run("command -v %s >/dev/null%s", make, "")) {
        print_message("%s is not installed\n", make);
        skip();
    }
    char command[700];
    snprintf(command, sizeof command, "mount -t %s -o loop '%s/fs' '%s' >/dev/null 2>&1", kind, dir, mnt);
    if (!run("truncate -s 700M '%s/fs'%s", dir, "") || !run("%s -q '%s/fs' >/dev/null 2>&1", make, dir) || system(command) != 0) {
        print_message("a file system of kind %s cannot be mounted here\n", kind);
        skip();
    }
}

static uint64_t random_state;

static uint64_t rnd(uint64_t below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (random_state >> 24) % below;
}

static void write_at(int fd, uint64_t offset, size_t length)
{
    uint8_t *data = malloc(length);
    for (size_t i = 0; i < length; i++) {
        data[i] = (uint8_t)(rnd(255) + 1);
    }
    assert_int_equal(pwrite(fd, data, length, (off_t)offset), (ssize_t)length);
    free(data);
}

static void make_image(size_t size)
{
    int fd = open(image, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    write_at(fd, 0, size / 2);
    close(fd);
}

static void clone_name(const char *hint, bool kept, char path[400])
{
    snprintf(path, 400, "%s.farshore-%s%s", image, kept ? "base-" : "", hint);
}

static bool is_there(const char *hint, bool kept)
{
    char path[400];
    clone_name(hint, kept, path);
    return access(path, F_OK) == 0;
}

/* Returns the token. */
static const char *freeze(const char *hint, char ref[128])
{
    static struct far_adapter_found found;
    bool fuzzy = true;
    assert_int_equal(file->changes->freeze(platform, hint, &disk, 1, &found, ref, &fuzzy, &said), FAR_ADAPTER_OK);
    assert_false(fuzzy);
    return found.token;
}

static void keep(const char *ref)
{
    assert_int_equal(file->changes->keep(platform, ref, &disk, 1, &said), FAR_ADAPTER_OK);
}

static int ask(const char *ref, const char *since)
{
    struct far_adapter_extent extents[4];
    size_t count;
    uint64_t next;
    said.message[0] = '\0';
    return file->changes->changed(platform, ref, &disk, since, 0, extents, 4, &count, &next, &said);
}

/* ---- comparing ---- */

static uint8_t *slurp(const char *path, size_t *ret_size)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    uint8_t *data = malloc((size_t)st.st_size + 1);
    assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
    close(fd);
    *ret_size = (size_t)st.st_size;
    return data;
}

/* All pages of the list into one map of bytes; returns how many bytes are in it. */
static uint64_t list_all(const char *ref, const char *since, size_t max, const uint8_t *now, size_t size, uint8_t *map)
{
    struct far_adapter_extent extents[64];
    uint64_t at = 0, last_end = 0, sum = 0;
    while (at < size) {
        size_t count = 0;
        uint64_t next = 0;
        int outcome = file->changes->changed(platform, ref, &disk, since, at, extents, max, &count, &next, &said);
        if (outcome != FAR_ADAPTER_OK) {
            print_error("changed: %s\n", said.message);
        }
        assert_int_equal(outcome, FAR_ADAPTER_OK);
        assert_true(count <= max && next > at && next <= size);
        for (size_t i = 0; i < count; i++) {
            assert_true(extents[i].offset >= last_end && extents[i].offset >= at && extents[i].length > 0);
            last_end = extents[i].offset + extents[i].length;
            assert_true(last_end <= next);
            memset(map + extents[i].offset, 1, extents[i].length);
            sum += extents[i].length;
            for (uint64_t k = extents[i].offset; extents[i].zero && k < last_end; k++) {
                assert_int_equal(now[k], 0);
            }
        }
        at = next;
    }
    assert_int_equal(at, size);
    return sum;
}

/* Holds the list of what changed between two views against their bytes; returns the bytes listed. */
static uint64_t check_list(const char *since, const char *hint, const char *ref, size_t max)
{
    char base_path[400], now_path[400];
    size_t base_size, size;
    clone_name(since, true, base_path);
    clone_name(hint, false, now_path);
    uint8_t *base = slurp(base_path, &base_size), *now = slurp(now_path, &size), *map = calloc(1, size + 1);
    uint64_t sum = list_all(ref, since, max, now, size, map);
    for (size_t i = 0; i < size; i++) {
        bool differs = i >= base_size || base[i] != now[i];
        if (differs && !map[i]) {
            fail_msg("byte %zu differs and is not listed", i);
        }
    }
    free(base);
    free(now);
    free(map);
    return sum;
}

/* ---- clones ---- */

static void change_something(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    uint64_t size = (uint64_t)st.st_size, offset = rnd(size), length = 1 + rnd(rnd(2) ? 300 * KIB : 5000);
    length = length < size - offset ? length : size - offset;
    switch (rnd(8)) {
    case 0:
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
        break;
    case 1:
        fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
        break;
    case 2:
        fallocate(fd, FALLOC_FL_ZERO_RANGE, (off_t)offset, (off_t)length);
        break;
    case 3: /* reserved, and then partly written */
        fallocate(fd, 0, (off_t)offset, (off_t)length);
        write_at(fd, offset + length / 2, length / 2 + 1 < size - offset - length / 2 ? length / 2 + 1 : 1);
        break;
    case 4:
        if (size < 6 * MIB) {
            assert_int_equal(ftruncate(fd, (off_t)(size + 1 + rnd(100 * KIB))), 0);
        }
        break;
    case 5:
        if (size < 6 * MIB) {
            write_at(fd, size + rnd(3) * 10 * KIB, 1 + rnd(50 * KIB)); /* behind the end, perhaps with a gap */
        }
        break;
    default:
        write_at(fd, offset, length);
        break;
    }
    if (rnd(3) == 0) {
        fsync(fd);
    }
}

static void no_changed_byte_is_missed(const char *kind, const char *make)
{
    char ref[128], since[32] = "", hint[32];
    const char *seed = getenv("FAR_SEED");
    mount_it(kind, make);
    random_state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) * 1000 + (uint64_t)getpid();
    print_message("seed %llu (FAR_SEED replays it)\n", (unsigned long long)random_state);
    make_image(4 * MIB + 1234);
    for (size_t round = 0; round <= ROUNDS; round++) {
        int fd = open(image, O_RDWR);
        for (uint64_t n = round == 0 ? 0 : 1 + rnd(12); n > 0; n--) {
            change_something(fd);
        }
        close(fd);
        snprintf(hint, sizeof hint, "%zu-1-1", round + 7);
        assert_string_equal(freeze(hint, ref), hint);
        if (since[0] != '\0') {
            check_list(since, hint, ref, 1 + rnd(64));
        }
        if (rnd(4) != 0) { /* else it becomes no point, and the next one is compared with an older base */
            keep(ref);
            snprintf(since, sizeof since, "%s", hint);
        } else {
            assert_int_equal(file->changes->release(platform, ref, &disk, 1, &said), FAR_ADAPTER_OK);
        }
    }
}

static void on_xfs_no_changed_byte_is_missed(void **state)
{
    no_changed_byte_is_missed("xfs", "mkfs.xfs");
}

static void on_btrfs_no_changed_byte_is_missed(void **state)
{
    no_changed_byte_is_missed("btrfs", "mkfs.btrfs");
}

static void a_small_change_is_a_small_list(void **state)
{
    char ref[128];
    mount_it("xfs", "mkfs.xfs");
    make_image(64 * MIB);
    freeze("1-1-1", ref);
    keep(ref);
    freeze("2-1-1", ref);
    assert_int_equal(check_list("1-1-1", "2-1-1", ref, 64), 0);
    int fd = open(image, O_RDWR);
    write_at(fd, 10 * MIB + 100, 10);
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 20 * MIB, 64 * KIB);
    close(fd);
    freeze("3-1-1", ref);
    uint64_t listed = check_list("1-1-1", "3-1-1", ref, 64);
    assert_true(listed >= 64 * KIB + 10 && listed <= 64 * KIB + 64 * KIB);
}

static void one_clone_of_a_disk_is_kept_and_what_is_released_goes(void **state)
{
    char one[128], two[128];
    mount_it("xfs", "mkfs.xfs");
    make_image(MIB);
    freeze("1-1-1", one);
    keep(one);
    keep(one); /* again */
    assert_true(is_there("1-1-1", true));
    freeze("2-1-1", two);
    assert_true(is_there("1-1-1", true) && is_there("2-1-1", false));
    keep(two);
    assert_false(is_there("1-1-1", true) || is_there("2-1-1", false));
    assert_true(is_there("2-1-1", true));
    assert_int_equal(file->changes->release(platform, two, &disk, 1, &said), FAR_ADAPTER_OK);
    assert_false(is_there("2-1-1", true));
}

/* Its node died between the point and the release, which nobody else could do. */
static void a_view_that_was_never_released_is_kept_when_changes_since_it_are_asked_for(void **state)
{
    char one[128], two[128], three[128];
    mount_it("xfs", "mkfs.xfs");
    make_image(MIB);
    freeze("1-1-1", one);
    keep(one);
    freeze("2-1-1", two);
    freeze("3-1-1", three);
    assert_int_equal(ask(three, "2-1-1"), FAR_ADAPTER_OK);
    assert_true(is_there("2-1-1", true) && is_there("3-1-1", false));
    assert_false(is_there("2-1-1", false) || is_there("1-1-1", true));
    assert_int_equal(check_list("2-1-1", "3-1-1", three, 64), 0);
    keep(three);
    assert_true(is_there("3-1-1", true));
    assert_false(is_there("2-1-1", true));
}

static void what_cannot_be_compared_is_a_resync_that_says_why(void **state)
{
    char ref[128], path[400], other[400];
    mount_it("xfs", "mkfs.xfs");
    make_image(MIB);
    freeze("1-1-1", ref);
    keep(ref);
    freeze("2-1-1", ref);
    assert_int_equal(ask(ref, "1-1-1"), FAR_ADAPTER_OK);
    static const char *const strange[] = {"", "0-1-1", "../disk.img", "1-1-1x", "b0"};
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        assert_int_equal(ask(ref, strange[i]), FAR_ADAPTER_RESYNC);
        assert_non_null(strstr(said.message, "is not there"));
    }
    assert_int_equal(ask("live:2-1-1", "1-1-1"), FAR_ADAPTER_RESYNC);
    assert_non_null(strstr(said.message, "makes no clones"));
    assert_int_equal(truncate(image, MIB - 4096), 0);
    freeze("3-1-1", ref);
    assert_int_equal(ask(ref, "1-1-1"), FAR_ADAPTER_RESYNC);
    assert_non_null(strstr(said.message, "it shrank"));
    snprintf(other, sizeof other, "%s.old", image);
    assert_int_equal(rename(image, other), 0);
    make_image(MIB);
    freeze("4-1-1", ref);
    assert_int_equal(ask(ref, "1-1-1"), FAR_ADAPTER_RESYNC);
    assert_non_null(strstr(said.message, "another file"));
    clone_name("1-1-1", true, path);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "x", 1, 0), 1);
    close(fd);
    assert_int_equal(ask(ref, "1-1-1"), FAR_ADAPTER_RESYNC);
    assert_non_null(strstr(said.message, "written to"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(ask(ref, "1-1-1"), FAR_ADAPTER_RESYNC);
    assert_non_null(strstr(said.message, "is not there"));
}

static void make_older(const char *hint)
{
    char path[400];
    struct timespec times[2] = {{.tv_sec = time(NULL) - 25 * 3600}, {.tv_sec = time(NULL) - 25 * 3600}};
    clone_name(hint, false, path);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void clones_of_dead_nodes_are_swept_and_those_in_use_are_not(void **state)
{
    char ref[128], used[128];
    void *handle;
    mount_it("xfs", "mkfs.xfs");
    make_image(MIB);
    freeze("5-1-1", ref);
    freeze("5-2-1", ref); /* another task */
    freeze("3-1-1", ref); /* an older job, of a moment ago */
    freeze("4-1-1", used);
    freeze("2-1-1", ref);
    freeze("9-1-1", ref); /* a younger job */
    make_older("4-1-1");
    make_older("2-1-1");
    make_older("9-1-1");
    assert_int_equal(file->bytes->open_frozen(platform, used, &disk, &handle, &said), FAR_ADAPTER_OK);
    freeze("5-1-2", ref);
    assert_false(is_there("5-1-1", false)); /* its attempt was replaced */
    assert_false(is_there("2-1-1", false)); /* a day old, and nobody reads it */
    assert_true(is_there("5-2-1", false) && is_there("3-1-1", false) && is_there("4-1-1", false) && is_there("9-1-1", false));
    assert_true(is_there("5-1-2", false));
    file->bytes->close(handle);
    freeze("5-1-3", ref);
    assert_false(is_there("4-1-1", false));
    assert_int_equal(access(image, F_OK), 0);
}

/* ---- lists of another program ---- */

static void *with_lists(void)
{
    void *listed;
    char config[300];
    assert_true(run("mkdir -p '%s/lists'%s", dir, ""));
    snprintf(config, sizeof config, "changes=%s/lists\n", dir);
    assert_int_equal(file->open(config, &listed, &said), FAR_ADAPTER_OK);
    int fd = open(image, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(ftruncate(fd, 64 * MIB), 0);
    close(fd);
    return listed;
}

static void write_list(const char *text)
{
    char path[300], temporary[300];
    snprintf(path, sizeof path, "%s/lists/disk.changes", dir);
    snprintf(temporary, sizeof temporary, "%s/lists/next", dir);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    assert_int_equal(rename(temporary, path), 0);
}

static const char *freeze_listed(void *listed, const char *hint, char ref[128])
{
    static struct far_adapter_found found;
    bool fuzzy;
    assert_int_equal(file->changes->freeze(listed, hint, &disk, 1, &found, ref, &fuzzy, &said), FAR_ADAPTER_OK);
    return found.token;
}

static void a_list_of_another_program_is_taken_with_its_token(void **state)
{
    struct far_adapter_extent extents[2];
    char ref[128], later[128];
    size_t count;
    uint64_t next;
    void *listed = with_lists();
    write_list("farshore-changes 1 - first\n");
    assert_string_equal(freeze_listed(listed, "1-1-1", ref), "first");
    assert_int_equal(file->changes->keep(listed, ref, &disk, 1, &said), FAR_ADAPTER_OK);
    write_list("farshore-changes 1 first second\n0 4096\n4096 10\n1048576 65536\n67108860 4\n");
    assert_string_equal(freeze_listed(listed, "2-1-1", ref), "second");
    write_list("farshore-changes 1 second third\n8 1\n"); /* the program is one ahead: the view keeps its own */
    assert_string_equal(freeze_listed(listed, "3-1-1", later), "third");
    assert_int_equal(file->changes->changed(listed, ref, &disk, "first", 0, extents, 2, &count, &next, &said), FAR_ADAPTER_OK);
    assert_int_equal(count, 2);
    assert_int_equal(extents[1].offset, 4096);
    assert_int_equal(extents[1].length, 10);
    assert_int_equal(next, MIB);
    assert_int_equal(file->changes->changed(listed, ref, &disk, "first", next, extents, 2, &count, &next, &said), FAR_ADAPTER_OK);
    assert_int_equal(count, 2);
    assert_int_equal(extents[0].offset, MIB);
    assert_int_equal(extents[1].length, 4);
    assert_int_equal(next, 64 * MIB);
    assert_int_equal(file->changes->changed(listed, ref, &disk, "first", MIB + 100, extents, 1, &count, &next, &said),
                     FAR_ADAPTER_OK);
    assert_int_equal(extents[0].offset, MIB + 100);
    assert_int_equal(extents[0].length, 65436);
    assert_int_equal(file->changes->changed(listed, later, &disk, "first", 0, extents, 2, &count, &next, &said),
                     FAR_ADAPTER_RESYNC);
    assert_non_null(strstr(said.message, "begins with 'second', not with 'first'"));
    assert_int_equal(file->changes->release(listed, ref, &disk, 1, &said), FAR_ADAPTER_OK);
    assert_int_equal(file->changes->changed(listed, ref, &disk, "first", 0, extents, 2, &count, &next, &said),
                     file->changes->changed(listed, "live:2-1-1", &disk, "first", 0, extents, 2, &count, &next, &said));
    file->close(listed);
}

static void a_list_that_is_wrong_is_a_resync_and_names_the_line(void **state)
{
    static const struct {
        const char *lines, *what;
    } wrong[] = {
        {"0 1\n0 1\n", "line 3: it does not follow"},  {"10 5\n12 1\n", "line 3: it does not follow"},
        {"1 0\n", "line 2: it is not 'OFFSET LENGTH'"}, {"x 1\n", "line 2: it is not"},
        {"1  1\n", "line 2: it is not"},                {"1 1 \n", "line 2: it is not"},
        {"-1 1\n", "line 2: it is not"},                {"1\n", "line 2: it is not"},
        {"\n", "line 2: it is not"},                    {"1 1", "line 2: it has no end"},
        {"67108863 2\n", "line 2: it ends behind"},     {"99999999999999999999 1\n", "line 2: it is not"},
        {"18446744073709551615 1\n", "line 2: it ends behind"},
    };
    struct far_adapter_extent extents[8];
    char ref[128], text[300];
    size_t count;
    uint64_t next;
    void *listed = with_lists();
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        snprintf(text, sizeof text, "farshore-changes 1 a b\n%s", wrong[i].lines);
        write_list(text);
        assert_string_equal(freeze_listed(listed, "1-1-1", ref), "b");
        assert_int_equal(file->changes->changed(listed, ref, &disk, "a", 0, extents, 8, &count, &next, &said), FAR_ADAPTER_RESYNC);
        if (strstr(said.message, wrong[i].what) == NULL) {
            fail_msg("%s: %s", wrong[i].lines, said.message);
        }
    }
    static const char *const headers[] = {"", "farshore-changes 2 a b\n", "farshore-changes 1 a\n", "farshore-changes 1 a b c\n",
                                          "farshore-changes  1 a b\n", "farshore-changes 1 a b"};
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        write_list(headers[i]);
        assert_string_equal(freeze_listed(listed, "1-1-1", ref), "");
        assert_int_equal(file->changes->changed(listed, ref, &disk, "a", 0, extents, 8, &count, &next, &said), FAR_ADAPTER_RESYNC);
        assert_non_null(strstr(said.message, "line 1"));
    }
    file->close(listed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(on_xfs_no_changed_byte_is_missed, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(on_btrfs_no_changed_byte_is_missed, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_small_change_is_a_small_list, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(one_clone_of_a_disk_is_kept_and_what_is_released_goes, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_view_that_was_never_released_is_kept_when_changes_since_it_are_asked_for, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(what_cannot_be_compared_is_a_resync_that_says_why, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(clones_of_dead_nodes_are_swept_and_those_in_use_are_not, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_list_of_another_program_is_taken_with_its_token, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_list_that_is_wrong_is_a_resync_and_names_the_line, make_dir, remove_dir),
    };
    return cmocka_run_group_tests_name("file_changed", tests, NULL, NULL);
}
