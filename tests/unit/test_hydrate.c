/* Instant recovery: a disk is used while it is written out. */
#include "../lib/cm.h"
#include "../lib/vault_kit.h"
#include "dataplane/hydrate.h"

#include <fcntl.h>
#include <pthread.h>

enum { BLOCKS = 1500, TAIL = 777 };
static const uint64_t size = BLOCKS * (uint64_t)FAR_BLOCK_BYTES - TAIL;

static char dir[300], vault_dir[320], target[330], order[330], noted[330];
static struct far_error err;
static struct far_opened *opened;
static struct far_hydrate *hydrate;
static uint8_t block[FAR_BLOCK_BYTES], expected[FAR_BLOCK_BYTES];

/* The thread of its own waits here until the test lets it on. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool holds, is_held;

static void must(int rc)
{
    if (rc != 0) {
        print_message("# %s\n", err.message);
    }
    assert_int_equal(rc, 0);
}

static uint64_t number_at(uint64_t index)
{
    return index % 3 == 1 ? 0 : index + 1;
}

static int set_up(void **state)
{
    (void)state;
    static struct far_manifest manifest;
    const struct far_vault_options options = {.create = true};
    const struct far_fence fence = {.job = 1};
    struct far_vault *vault;
    struct far_replica *replica;
    struct far_hash256 root;
    snprintf(dir, sizeof dir, "%s", kit_folder());
    snprintf(vault_dir, sizeof vault_dir, "%s/vault", dir);
    snprintf(target, sizeof target, "%s/disk.raw", dir);
    snprintf(order, sizeof order, "%s/order", dir);
    snprintf(noted, sizeof noted, "%s/written", dir);
    must(far_vault_open(vault_dir, &options, &vault, &err));
    must(far_replica_open(vault, NULL, 1, size, &fence, &replica, &err));
    for (uint64_t i = 0; i + 1 < BLOCKS; i++) {
        must(number_at(i) == 0 ? 0 : kit_write(vault, replica, i, number_at(i), &err));
    }
    must(far_replica_checkpoint(replica, BLOCKS, "", &err));
    must(far_replica_root(replica, &root, &err));
    kit_manifest(1, 1, size, &root, &manifest);
    must(far_vault_seal(vault, &manifest, &err));
    far_replica_close(replica);
    far_vault_close(vault);
    must(far_opened_new(vault_dir, 1, "root", NULL, &opened, &err));
    holds = is_held = false;
    return 0;
}

static void hold(void *arg, uint64_t there, uint64_t blocks, uint64_t damaged)
{
    (void)arg;
    (void)there;
    (void)blocks;
    (void)damaged;
    pthread_mutex_lock(&mutex);
    is_held = true;
    pthread_cond_broadcast(&changed);
    while (holds) {
        pthread_cond_wait(&changed, &mutex);
    }
    is_held = false;
    pthread_mutex_unlock(&mutex);
}

static void let_go(void)
{
    pthread_mutex_lock(&mutex);
    holds = false;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

static int tear_down(void **state)
{
    (void)state;
    let_go();
    far_hydrate_close(hydrate);
    hydrate = NULL;
    far_opened_close(opened);
    kit_remove(dir);
    return 0;
}

static void wait_held(void)
{
    pthread_mutex_lock(&mutex);
    while (!is_held) {
        pthread_cond_wait(&changed, &mutex);
    }
    pthread_mutex_unlock(&mutex);
}

static int start(bool held)
{
    struct far_hydrate_options options = {.target = target, .written = noted, .order = order, .told = hold};
    holds = held;
    is_held = false;
    return far_hydrate_new(opened, &options, &hydrate, &err);
}

static void stop(void)
{
    let_go();
    far_hydrate_close(hydrate);
    hydrate = NULL;
}

static void wait_done(void)
{
    let_go();
    for (int i = 0; i < 6000 && !far_hydrate_is_done(hydrate); i++) {
        usleep(10000); /* far-poll: the thread of its own tells nobody */
    }
    assert_true(far_hydrate_is_done(hydrate));
}

static void assert_read(uint64_t index, uint64_t number)
{
    size_t length = index + 1 == BLOCKS ? FAR_BLOCK_BYTES - TAIL : FAR_BLOCK_BYTES;
    kit_block(number, expected);
    must(far_hydrate_read(hydrate, block, length, index * FAR_BLOCK_BYTES, &err));
    assert_memory_equal(block, expected, length);
}

/* What the file holds there now. */
static bool file_has(uint64_t index, uint64_t number)
{
    int fd = open(target, O_RDONLY);
    kit_block(number, expected);
    assert_int_equal(pread(fd, block, sizeof block, (off_t)(index * FAR_BLOCK_BYTES)), sizeof block);
    close(fd);
    return memcmp(block, expected, sizeof block) == 0;
}

static void the_target_becomes_the_disk_and_its_bits_go(void **state)
{
    (void)state;
    char beside[400];
    struct stat st;
    must(start(false));
    wait_done();
    stop();
    assert_int_equal(stat(target, &st), 0);
    assert_int_equal(st.st_size, size);
    assert_true(st.st_blocks * 512 < (off_t)(size * 3 / 4)); /* zeroes are holes */
    for (uint64_t i = 0; i + 1 < BLOCKS; i++) {
        assert_true(file_has(i, number_at(i)));
    }
    snprintf(beside, sizeof beside, "%s.hydrating", target);
    assert_int_not_equal(access(beside, F_OK), 0);
    assert_int_equal(start(false), FAR_CONFLICT); /* it is a disk of its own now */
    assert_true(file_has(2, number_at(2)));
}

static void what_is_asked_for_comes_first_and_the_next_boot_gets_it_so(void **state)
{
    (void)state;
    must(start(true));
    wait_held(); /* the first 256 blocks that are no zeroes, or so */
    assert_false(file_has(1400, number_at(1400)));
    for (uint64_t i = 0; i < 280; i++) { /* backwards from 1454, such as are not zeroes */
        assert_read(1454 - i, number_at(1454 - i));
    }
    assert_true(file_has(1454, number_at(1454)));
    stop();
    unlink(target);
    must(start(true));
    wait_held();
    assert_true(file_has(1454, number_at(1454)));
    assert_true(file_has(1400, number_at(1400)));
    assert_false(file_has(0, number_at(0)));
    wait_done();
}

static void what_is_written_stays_and_the_point_does_not_change(void **state)
{
    (void)state;
    static uint8_t written[3 * FAR_BLOCK_BYTES];
    memset(written, 0xAB, sizeof written);
    must(start(true));
    wait_held();
    must(far_hydrate_write(hydrate, written, sizeof written, 900 * FAR_BLOCK_BYTES + 1000, &err));
    must(far_hydrate_flush(hydrate, &err));
    stop(); /* not whole yet */
    must(start(false));
    wait_done();
    kit_block(number_at(900), expected);
    must(far_hydrate_read(hydrate, block, sizeof block, 900 * FAR_BLOCK_BYTES, &err));
    assert_memory_equal(block, expected, 1000);
    assert_memory_equal(block + 1000, written, sizeof block - 1000);
    must(far_hydrate_read(hydrate, block, sizeof block, 903 * FAR_BLOCK_BYTES, &err));
    kit_block(number_at(903), expected);
    assert_memory_equal(block, written, 1000);
    assert_memory_equal(block + 1000, expected + 1000, sizeof block - 1000);
    assert_read(899, number_at(899));
    must(far_opened_read(opened, block, sizeof block, 901 * FAR_BLOCK_BYTES, &err));
    kit_block(number_at(901), expected);
    assert_memory_equal(block, expected, sizeof block);
    assert_int_equal(far_hydrate_write(hydrate, written, 2, size - 1, &err), FAR_INVALID);
    assert_int_equal(far_hydrate_read(hydrate, block, 2, size - 1, &err), FAR_INVALID);
}

/* Whoever is killed: that somebody wrote is known to who goes on, for another job, too; and to who comes when all is there. */
static void that_somebody_wrote_is_known_after_any_kill(void **state)
{
    (void)state;
    must(start(true));
    wait_held();
    assert_read(3, number_at(3));
    assert_int_not_equal(access(noted, F_OK), 0); /* it was read */
    assert_int_equal(far_hydrate_write(hydrate, block, 1, size, &err), FAR_INVALID);
    assert_int_not_equal(access(noted, F_OK), 0);
    must(far_hydrate_write(hydrate, "x", 1, 5, &err));
    assert_int_equal(access(noted, F_OK), 0);
    stop();
    assert_int_equal(unlink(noted), 0); /* as it is for another job */
    must(start(false));
    assert_int_equal(access(noted, F_OK), 0);
    wait_done();
    stop();
    assert_int_equal(unlink(noted), 0);
    unlink(target);
    must(start(false));
    wait_done();
    assert_int_not_equal(access(noted, F_OK), 0);
    must(far_hydrate_write(hydrate, "x", 1, 5, &err)); /* all is there */
    assert_int_equal(access(noted, F_OK), 0);
}

/* What was written without a flush before a kill, or in part on a full disk: it may stay or go, but not come back. */
static void what_lies_in_the_file_and_is_not_noted_does_not_come_up_later(void **state)
{
    (void)state;
    must(start(true));
    wait_held();
    stop(); /* its bits are durable: not those of what comes now */
    int fd = open(target, O_RDWR);
    memset(block, 0xCD, sizeof block);
    assert_int_equal(number_at(1399), 0);
    assert_int_equal(pwrite(fd, block, sizeof block, 1399 * FAR_BLOCK_BYTES), sizeof block);
    close(fd);
    must(start(true));
    wait_held();
    assert_read(1399, 0);
    assert_read(1399, 0); /* now from the file */
    wait_done();
    assert_true(file_has(1399, 0));
}

static void a_target_of_another_disk_is_not_touched(void **state)
{
    (void)state;
    char beside[400];
    FILE *file = fopen(target, "w");
    fputs("a file of somebody else", file);
    fclose(file);
    assert_int_equal(start(false), FAR_CONFLICT);
    unlink(target);
    must(start(true));
    struct far_hydrate *other;
    struct far_hydrate_options options = {.target = target};
    assert_int_equal(far_hydrate_new(opened, &options, &other, &err), FAR_BUSY);
    stop();
    snprintf(beside, sizeof beside, "%s.hydrating", target);
    int fd = open(beside, O_RDWR);
    assert_int_equal(pwrite(fd, "x", 1, 30), 1); /* of the root */
    close(fd);
    assert_int_equal(start(false), FAR_CONFLICT);
    assert_non_null(strstr(err.message, "another disk"));
}

static void a_damaged_block_is_an_error_and_the_others_come(void **state)
{
    (void)state;
    char pack[400];
    uint8_t byte;
    snprintf(pack, sizeof pack, "%s/packs/00000001.pack", vault_dir);
    int fd = open(pack, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, 64 + 64 + 100), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 64 + 64 + 100), 1); /* of the first block */
    close(fd);
    must(start(true));
    assert_int_equal(far_hydrate_read(hydrate, block, 100, 0, &err), FAR_CORRUPT);
    wait_held();
    let_go();
    assert_read(1402, number_at(1402));
    memset(block, 7, sizeof block);
    must(far_hydrate_write(hydrate, block, sizeof block, 0, &err)); /* all of it: whole again */
    stop();
    must(start(false));
    wait_done();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_target_becomes_the_disk_and_its_bits_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_asked_for_comes_first_and_the_next_boot_gets_it_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_written_stays_and_the_point_does_not_change, set_up, tear_down),
        cmocka_unit_test_setup_teardown(that_somebody_wrote_is_known_after_any_kill, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_lies_in_the_file_and_is_not_noted_does_not_come_up_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_target_of_another_disk_is_not_touched, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_block_is_an_error_and_the_others_come, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
