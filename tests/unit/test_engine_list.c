/* Increments by a list of changes: what is read, what is sent, what the audit finds, a list that fails; far links, either side
 * dials, cut connections. The seed of what is random is printed and can be given as FAR_SEED.
 *
 * far-timeout: 240 */
#include "../lib/cm.h"
#include "../lib/engine_disk.h"
#include "../lib/relay.h"
#include "../lib/until.h"

#include "base/clock.h"
#include "dataplane/engine_local.h"
#include "dataplane/map.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MIB = 1 << 20, BLOCK = FAR_BLOCK_BYTES };

#ifdef __SANITIZE_THREAD__
enum { CUT_US = 600000 }; /* there a handshake takes as long as a connection lives otherwise */
#else
enum { CUT_US = 60000 };
#endif

static struct engine_pair pair;
static const struct far_engine_config small = {
    .memory_bytes = 32 * MIB, .worker_count = 2, .idle_ms = 3000, .checkpoint_bytes = 4 * MIB, .checkpoint_ms = 50};
static uint64_t seed;
static char adapter[400];

static uint64_t random_below(uint64_t limit)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 33) % limit;
}

static int setup(void **state)
{
    char path[300];
    pair_init(&pair, "list", &small);
    snprintf(adapter, sizeof adapter, "file?changes=%s", pair_path(&pair, ".", path, sizeof path));
    return 0;
}

static int teardown(void **state)
{
    pair_done(&pair);
    return 0;
}

/* ---- a list beside the disk ---- */

struct listed {
    struct engine_disk disk;
    unsigned number;
    char token[128]; /* of the base */
    uint64_t audit_first, audit_count;
    bool full;
};

static void write_list(struct listed *l, const uint64_t *offsets, size_t count, uint64_t length)
{
    char path[300], fresh[310];
    pair_path(&pair, "disk.changes", path, sizeof path);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    FILE *file = fopen(fresh, "w");
    assert_non_null(file);
    fprintf(file, "farshore-changes 1 state-%u state-%u\n", l->number, l->number + 1);
    for (size_t i = 0; i < count; i++) {
        fprintf(file, "%llu %llu\n", (unsigned long long)offsets[i], (unsigned long long)length);
    }
    fclose(file);
    assert_int_equal(rename(fresh, path), 0);
    l->number++;
}

static void put(struct listed *l, uint64_t offset, size_t length)
{
    static uint8_t bytes[BLOCK];
    int fd = open(l->disk.path, O_WRONLY | O_CLOEXEC);
    for (size_t i = 0; i < length; i++) {
        bytes[i] = (uint8_t)random_below(256);
    }
    assert_true(fd >= 0 && pwrite(fd, bytes, length, (off_t)offset) == (ssize_t)length);
    close(fd);
}

/* freeze, send with the list, receive: as disk_cycle(), with what a server would add to the orders. */
static void cycle(struct listed *l)
{
    struct engine_disk *disk = &l->disk;
    struct far_engine_disk disks[] = {{.name = "disk", .locator = disk->path}};
    uint64_t job = ++pair.job;
    struct far_engine_order freeze = disk_order(disk, FAR_ENGINE_FREEZE, job, TASK_FREEZE, 1);
    freeze.disks = disks;
    freeze.disk_count = 1;
    disk_start(disk, &freeze);
    disk->freeze = pair_wait(&pair, job, TASK_FREEZE, 1);
    assert_int_equal(disk->freeze.state, FAR_ENGINE_DONE);
    char token[128];
    memcpy(token, disk->freeze.disks[0].token, sizeof token);
    struct far_engine_order send = disk_order(disk, FAR_ENGINE_SEND, job, TASK_SEND, 1);
    struct far_engine_order receive = disk_order(disk, FAR_ENGINE_RECEIVE, job, TASK_RECEIVE, 1);
    send.since = l->token;
    send.audit_first_block = l->audit_first;
    send.audit_blocks = l->audit_count;
    send.full = l->full;
    disk_start(disk, &send);
    disk_start(disk, &receive);
    disk->send = pair_wait(&pair, job, TASK_SEND, 1);
    disk->receive = pair_wait(&pair, job, TASK_RECEIVE, 1);
    assert_string_equal(disk->send.error_message, "");
    assert_string_equal(disk->receive.error_message, "");
    assert_memory_equal(disk->send.root, disk->receive.root, 32);
    memcpy(l->token, token, sizeof token);
    struct far_engine_order release = disk_order(disk, FAR_ENGINE_RELEASE, job, TASK_RELEASE, 1);
    release.disks = disks;
    release.disk_count = 1;
    release.proven = true;
    disk_start(disk, &release);
    assert_int_equal(pair_wait(&pair, job, TASK_RELEASE, 1).state, FAR_ENGINE_DONE);
    disk_accept(disk);
}

static void begin(struct listed *l, uint64_t size)
{
    *l = (struct listed){.number = 0};
    disk_make(&l->disk, &pair, "disk", size, seed);
    l->disk.adapter = adapter;
    write_list(l, NULL, 0, 0);
    cycle(l);
    assert_true(l->disk.send.full);
}

/* ---- cases ---- */

static void only_what_is_listed_is_read_and_sent(void **state)
{
    struct listed l;
    begin(&l, 300 * (uint64_t)MIB);
    const uint64_t offsets[] = {5 * BLOCK + 100, 17 * BLOCK - 50, 100 * MIB, 299 * MIB};
    for (size_t i = 0; i < 4; i++) {
        put(&l, offsets[i], 200);
    }
    write_list(&l, offsets, 4, 200);
    cycle(&l);
    assert_false(l.disk.send.full);
    assert_int_equal(l.disk.send.hashed_bytes, 5 * BLOCK); /* one of them crosses from block to block */
    assert_int_equal(l.disk.send.bytes_changed, 5 * BLOCK);
    assert_true(l.disk.send.bytes_sent < 5 * (4096 + 1000));
    assert_true(disk_restore(&l.disk, "restored"));
    write_list(&l, NULL, 0, 0);
    cycle(&l); /* nothing changed */
    assert_int_equal(l.disk.send.hashed_bytes, 0);
    assert_true(l.disk.send.bytes_sent < 1000);
}

static void an_audit_finds_what_the_list_left_out(void **state)
{
    struct listed l;
    begin(&l, 20 * (uint64_t)MIB + 100);
    const uint64_t listed[] = {40 * BLOCK};
    put(&l, 40 * BLOCK, BLOCK);
    put(&l, 7 * BLOCK, 100);
    put(&l, 8 * BLOCK, 100);
    put(&l, 200 * BLOCK, 100); /* not in this round of the audit */
    write_list(&l, listed, 1, BLOCK);
    l.audit_first = 300;
    l.audit_count = 100; /* around the end: blocks 300 to 320, and 0 to 78 */
    cycle(&l);
    const struct far_engine_report *send = &l.disk.send;
    assert_int_equal(send->missed_block_count, 2);
    assert_int_equal(send->missed_count, 1);
    assert_int_equal(send->missed[0].first_block, 7);
    assert_int_equal(send->missed[0].block_count, 2);
    assert_int_equal(send->audited_blocks, 99); /* block 40 was listed */
    assert_int_equal(send->audit_next_block, 79);
    assert_false(disk_restore(&l.disk, "wrong")); /* block 200 is still as it was */
    l.audit_first = send->audit_next_block;
    l.audit_count = 221;
    write_list(&l, NULL, 0, 0);
    cycle(&l);
    assert_int_equal(l.disk.send.missed_block_count, 1);
    assert_int_equal(l.disk.send.missed[0].first_block, 200);
    assert_int_equal(l.disk.send.audit_next_block, 300);
    assert_true(disk_restore(&l.disk, "right"));
    put(&l, 11 * BLOCK, 100);
    put(&l, 12 * BLOCK, 100);
    write_list(&l, &(uint64_t){12 * BLOCK}, 1, 100);
    l.full = true; /* everything is looked at, and what was not listed is told all the same */
    cycle(&l);
    assert_true(l.disk.send.full);
    assert_int_equal(l.disk.send.missed_block_count, 1);
    assert_int_equal(l.disk.send.missed[0].first_block, 11);
}

static void a_list_of_another_lineage_means_that_all_is_compared(void **state)
{
    struct listed l;
    begin(&l, 40 * (uint64_t)MIB);
    put(&l, 9 * BLOCK, BLOCK);
    l.number++; /* as if a list had been lost */
    write_list(&l, NULL, 0, 0);
    cycle(&l);
    assert_true(l.disk.send.full);
    assert_string_not_equal(l.disk.send.resync_reason, "");
    assert_true(l.disk.send.bytes_sent < 2 * BLOCK); /* only what differs moves */
    assert_true(disk_restore(&l.disk, "restored"));
}

/* The platform finds out in the middle that its list is none. */
static void a_list_that_fails_on_the_way_begins_the_disk_anew(void **state)
{
    struct listed l;
    char path[300];
    begin(&l, 120 * (uint64_t)MIB);
    static uint64_t offsets[1500];
    for (size_t i = 0; i < 1500; i++) {
        offsets[i] = i * BLOCK;
        put(&l, offsets[i], 300);
    }
    put(&l, 1800 * BLOCK, 300); /* not listed */
    write_list(&l, offsets, 1500, 300);
    pair_path(&pair, "disk.changes", path, sizeof path);
    FILE *file = fopen(path, "a"); /* before the freeze takes it: a line that is none, behind several batches */
    assert_true(file != NULL && fputs("what is this\n", file) > 0);
    fclose(file);
    cycle(&l);
    assert_true(l.disk.send.full);
    assert_string_not_equal(l.disk.send.resync_reason, "");
    assert_true(disk_restore(&l.disk, "restored"));
}

/* Without the list it is sent again; if then the disk cannot be read either, the attempt is over, as any other. */
static void after_a_list_that_failed_a_disk_that_cannot_be_read_ends_the_attempt(void **state)
{
    struct listed l;
    char here[300];
    begin(&l, 20 * (uint64_t)MIB);
    int before = open(".", O_RDONLY | O_DIRECTORY); /* the name of an adapter is short */
    assert_true(before >= 0 && chdir(pair_path(&pair, ".", here, sizeof here)) == 0);
    l.disk.adapter = "fault:file?changes=.&rc=1&bk=64";
    write_list(&l, NULL, 0, 0);
    struct far_engine_disk disks[] = {{.name = "disk", .locator = l.disk.path}};
    uint64_t job = ++pair.job;
    struct far_engine_order freeze = disk_order(&l.disk, FAR_ENGINE_FREEZE, job, TASK_FREEZE, 1);
    freeze.disks = disks;
    freeze.disk_count = 1;
    disk_start(&l.disk, &freeze);
    l.disk.freeze = pair_wait(&pair, job, TASK_FREEZE, 1);
    assert_string_equal(l.disk.freeze.error_message, "");
    assert_int_equal(l.disk.freeze.state, FAR_ENGINE_DONE);
    struct far_engine_order send = disk_order(&l.disk, FAR_ENGINE_SEND, job, TASK_SEND, 1);
    struct far_engine_order receive = disk_order(&l.disk, FAR_ENGINE_RECEIVE, job, TASK_RECEIVE, 1);
    send.since = l.token;
    disk_start(&l.disk, &send);
    disk_start(&l.disk, &receive);
    struct far_engine_report report = pair_wait(&pair, job, TASK_SEND, 1);
    assert_int_equal(report.state, FAR_ENGINE_FAILED);
    assert_int_equal(report.outcome, FAR_ADAPTER_RETRY);
    assert_non_null(strstr(report.error_message, "read"));
    assert_int_equal(fchdir(before), 0);
    close(before);
}

static void a_source_without_its_maps_asks_the_target_for_pages(void **state)
{
    struct listed l;
    char command[400], cache[300];
    begin(&l, 700 * (uint64_t)MIB);
    const uint64_t offsets[] = {50 * MIB, 600 * MIB};
    for (int round = 0; round < 2; round++) {
        put(&l, offsets[round], BLOCK);
        write_list(&l, &offsets[round], 1, BLOCK);
        pair_stop_source(&pair);
        snprintf(command, sizeof command, "rm -rf '%s'/*", pair_path(&pair, "source/cache", cache, sizeof cache));
        assert_int_equal(system(command), 0);
        pair_start_source(&pair);
        cycle(&l);
        assert_false(l.disk.send.full);
        assert_int_equal(l.disk.send.hashed_bytes, BLOCK);
        assert_true(l.disk.send.bytes_sent < 2 * BLOCK);
    }
    assert_true(disk_restore(&l.disk, "restored"));
}

/* ---- far links ---- */

static void far_connections_are_several_and_cuts_cost_little(void **state)
{
    struct relay_config config = {.target = far_engine_data_address(pair.target), .delay_us = 8000,
                                  .cut_mean_us = CUT_US * (uint64_t)far_test_slow(), .seed = seed};
    struct relay *relay = relay_new(&config);
    struct engine_disk disk;
    relay_start(relay);
    disk_make(&disk, &pair, "disk", 96 * MIB, seed);
    disk.proxy = relay_address(relay);
    assert_true(disk_cycle(&disk));
    struct relay_stats stats = relay_stats(relay);
    print_message("# %llu connections, %llu cut, %llu MiB passed\n", (unsigned long long)stats.accepted,
                  (unsigned long long)stats.cuts, (unsigned long long)stats.passed[RELAY_FORWARD] / MIB);
    assert_true(stats.accepted > 4);
    assert_true(stats.cuts > 2);
    disk_accept(&disk);
    disk_change(&disk, 40);
    assert_true(disk_cycle(&disk));
    assert_true(disk_restore(&disk, "restored"));
    relay_free(relay);
}

/* A session there begins before it is welcomed; the target may know better. */
static void a_far_target_that_has_everything_or_lost_the_base_says_so(void **state)
{
    struct relay_config config = {.target = far_engine_data_address(pair.target), .delay_us = 15000};
    struct relay *relay = relay_new(&config);
    struct engine_disk disk;
    relay_start(relay);
    disk_make(&disk, &pair, "disk", 24 * MIB, seed);
    disk.proxy = relay_address(relay);
    assert_true(disk_cycle(&disk));
    uint8_t root[32];
    memcpy(root, disk.send.root, sizeof root);
    struct far_engine_order again = disk_order(&disk, FAR_ENGINE_SEND, pair.job, TASK_SEND, 2);
    disk_start(&disk, &again); /* its word was lost, nobody receives any more */
    struct far_engine_report report = pair_wait(&pair, pair.job, TASK_SEND, 2);
    assert_string_equal(report.error_message, "");
    assert_memory_equal(report.root, root, sizeof root);
    disk_accept(&disk);
    disk.has_base = true;
    memset(disk.base_root, 7, sizeof disk.base_root); /* of a point that the vault never had */
    disk_change(&disk, 10);
    assert_true(disk_cycle(&disk));
    assert_true(disk_restore(&disk, "restored"));
    relay_free(relay);
}

static void a_link_that_dies_and_comes_back_is_found_again(void **state)
{
    struct relay_config config = {.target = far_engine_data_address(pair.target), .delay_us = 6000, .bits_per_s = 400000000};
    struct relay *relay = relay_new(&config);
    struct engine_disk disk;
    relay_start(relay);
    disk_make(&disk, &pair, "disk", 48 * MIB, seed);
    disk.proxy = relay_address(relay);
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:x");
    struct far_engine_order receive = disk_order(&disk, FAR_ENGINE_RECEIVE, 700, TASK_RECEIVE, 1);
    struct far_engine_order send = disk_order(&disk, FAR_ENGINE_SEND, 700, TASK_SEND, 1);
    disk_start(&disk, &receive);
    disk_start(&disk, &send);
    while (relay_stats(relay).passed[RELAY_FORWARD] < 8 * MIB) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); /* far-poll: the moment of a disturbance */
    }
    relay_black_hole(relay, true);
    uint64_t until_ms = far_clock_monotonic_ms() + 4000; /* longer than a peer may be silent */
    while (far_clock_monotonic_ms() < until_ms) {
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL); /* far-poll: the same */
    }
    relay_black_hole(relay, false);
    relay_cut_all(relay);
    disk.send = pair_wait(&pair, 700, TASK_SEND, 1);
    disk.receive = pair_wait(&pair, 700, TASK_RECEIVE, 1);
    assert_string_equal(disk.send.error_message, "");
    assert_memory_equal(disk.send.root, disk.receive.root, 32);
    assert_true(disk_restore(&disk, "restored"));
    relay_free(relay);
}

/* ---- either side dials ---- */

static void a_target_may_dial_a_source_that_listens(void **state)
{
    struct engine_disk disk;
    struct relay *relay = NULL;
    pair_stop_source(&pair);
    pair.source_listens = true;
    pair_start_source(&pair);
    disk_make(&disk, &pair, "disk", 20 * MIB, seed);
    for (int round = 0; round < 3; round++) {
        uint64_t job = ++pair.job;
        struct relay_config config = {.target = far_engine_data_address(pair.source), .delay_us = 6000,
                                      .cut_mean_us = CUT_US * (uint64_t)far_test_slow()};
        const char *address = config.target;
        if (round == 2) { /* far, and with cuts */
            relay = relay_new(&config);
            relay_start(relay);
            address = relay_address(relay);
        }
        snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:%d", round);
        struct far_engine_order receive = disk_order(&disk, FAR_ENGINE_RECEIVE, job, TASK_RECEIVE, 1);
        struct far_engine_order send = disk_order(&disk, FAR_ENGINE_SEND, job, TASK_SEND, 1);
        receive.peer_address = address;
        send.peer_address = "";
        disk_start(&disk, round % 2 == 0 ? &receive : &send);
        disk_start(&disk, round % 2 == 0 ? &send : &receive);
        disk.send = pair_wait(&pair, job, TASK_SEND, 1);
        disk.receive = pair_wait(&pair, job, TASK_RECEIVE, 1);
        assert_string_equal(disk.send.error_message, "");
        assert_memory_equal(disk.send.root, disk.receive.root, 32);
        disk_accept(&disk);
        disk_change(&disk, 100);
    }
    relay_free(relay);
    uint64_t job = ++pair.job; /* and a send that waits for a call can be canceled */
    struct far_engine_order send = disk_order(&disk, FAR_ENGINE_SEND, job, TASK_SEND, 1);
    send.peer_address = "";
    disk_start(&disk, &send);
    far_engine_cancel(pair.source, job, TASK_SEND, 1);
    disk.proxy = NULL;
    assert_true(disk_cycle(&disk));
    assert_true(disk_restore(&disk, "restored"));
}

/* ---- little memory ---- */

/* Nearly everything is known: buffers are not kept for it, and what is wanted after all is read once more. */
static void blocks_that_are_known_need_no_buffers(void **state)
{
    struct engine_disk first, second;
    disk_make(&first, &pair, "disk", 160 * MIB, seed);
    assert_true(disk_cycle(&first));
    second = first;
    second.seed = seed + 1;
    disk_change(&second, 120);
    uint64_t job = ++pair.job;
    struct far_engine_order receive = disk_order(&second, FAR_ENGINE_RECEIVE, job, TASK_RECEIVE, 1);
    struct far_engine_order send = disk_order(&second, FAR_ENGINE_SEND, job, TASK_SEND, 1);
    receive.disk_id = send.disk_id = 23; /* another disk with nearly the same blocks */
    disk_start(&second, &receive);
    disk_start(&second, &send);
    second.send = pair_wait(&pair, job, TASK_SEND, 1);
    second.receive = pair_wait(&pair, job, TASK_RECEIVE, 1);
    assert_string_equal(second.send.error_message, "");
    assert_memory_equal(second.send.root, second.receive.root, 32);
    assert_true(second.send.bytes_sent < 130 * BLOCK + 2 * MIB);
    assert_true(disk_restore(&second, "restored"));
}

/* ---- the order of those that wait ---- */

/* How many sends wait for a slot; the job of one of them. */
static size_t waiting(struct far_engine *engine, uint64_t *ret_job)
{
    size_t count = 0;
    pthread_mutex_lock(&engine->mutex);
    for (const struct far_attempt *a = engine->attempts; a != NULL; a = a->next) {
        if (a->waits_for != NULL) {
            *ret_job = a->order.job_id;
            count++;
        }
    }
    pthread_mutex_unlock(&engine->mutex);
    return count;
}

static void until_waiting(size_t count, uint64_t *ret_job)
{
    while (waiting(pair.source, ret_job) != count) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); /* far-poll: the engine says nothing when that comes */
    }
}

static void of_those_that_wait_the_one_that_is_due_first_goes_first(void **state)
{
    enum { FIRST_JOB = 800, LATE = FAR_ENGINE_TRANSFERS_MAX, SOON, NEVER, JOBS };
    struct engine_disk disk;
    uint64_t job = 0;
    disk_make(&disk, &pair, "disk", MIB, seed);
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:x");
    for (uint64_t i = 0; i < JOBS; i++) { /* all but SOON find no receiver and keep the slots that they get */
        struct far_engine_order send = disk_order(&disk, FAR_ENGINE_SEND, FIRST_JOB + i, TASK_SEND, 1);
        send.disk_id = 100 + i;
        send.due_ms = i == LATE ? 9000 : i == SOON ? 5000 : 0;
        disk_start(&disk, &send);
        while (i + 1 == LATE && atomic_load(&pair.source->sending_hint) < LATE) {
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); /* far-poll: until all slots are taken */
        }
    }
    struct far_engine_order receive = disk_order(&disk, FAR_ENGINE_RECEIVE, FIRST_JOB + SOON, TASK_RECEIVE, 1);
    receive.disk_id = 100 + SOON;
    disk_start(&disk, &receive);
    until_waiting(3, &job);
    far_engine_cancel(pair.source, FIRST_JOB + 3, TASK_SEND, 1);
    assert_int_equal(pair_wait(&pair, FIRST_JOB + SOON, TASK_SEND, 1).state, FAR_ENGINE_DONE);
    until_waiting(1, &job);
    assert_int_equal(job, FIRST_JOB + NEVER); /* what SOON gave back went to LATE */
}

int main(void)
{
    const char *given = getenv("FAR_SEED");
    seed = given != NULL ? strtoull(given, NULL, 10) : far_clock_wall_ms();
    print_message("# FAR_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_what_is_listed_is_read_and_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(an_audit_finds_what_the_list_left_out, setup, teardown),
        cmocka_unit_test_setup_teardown(a_list_of_another_lineage_means_that_all_is_compared, setup, teardown),
        cmocka_unit_test_setup_teardown(a_list_that_fails_on_the_way_begins_the_disk_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(after_a_list_that_failed_a_disk_that_cannot_be_read_ends_the_attempt, setup, teardown),
        cmocka_unit_test_setup_teardown(a_source_without_its_maps_asks_the_target_for_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(far_connections_are_several_and_cuts_cost_little, setup, teardown),
        cmocka_unit_test_setup_teardown(a_far_target_that_has_everything_or_lost_the_base_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(a_link_that_dies_and_comes_back_is_found_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_target_may_dial_a_source_that_listens, setup, teardown),
        cmocka_unit_test_setup_teardown(blocks_that_are_known_need_no_buffers, setup, teardown),
        cmocka_unit_test_setup_teardown(of_those_that_wait_the_one_that_is_due_first_goes_first, setup, teardown),
    };
    return cmocka_run_group_tests_name("engine_list", tests, NULL, NULL);
}
