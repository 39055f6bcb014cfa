/* The engines of source and target while allocations and system calls of the process fail: every attempt ends, with success or
 * with a clear error, and the next one works. Counting is over all threads, so which call the n-th is differs from run to
 * run; that each is survived does not. */
#include "../lib/cm.h"
#include "../lib/engine_disk.h"
#include "../lib/faults.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1024 * 1024, END_MS = 30000 };

static struct engine_pair pair;

static int setup(void **state)
{
    const struct far_engine_config config = {.memory_bytes = 8 * MIB, .worker_count = 2, .checkpoint_bytes = MIB,
                                             .checkpoint_ms = 1000};
    pair_init(&pair, "faults", &config);
    return 0;
}

static int teardown(void **state)
{
    pair_done(&pair);
    return 0;
}

/* What became of a task: 0 = it goes on, else the report's state. */
static int state_of(uint64_t job, uint64_t task, struct far_engine_report *ret_report)
{
    if (!pair_ended(&pair, job, task, 1)) {
        return 0;
    }
    *ret_report = pair_wait(&pair, job, task, 1);
    return (int)ret_report->state;
}

static void wait_report(void)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += 1;
    pthread_mutex_lock(&pair.mutex);
    pthread_cond_timedwait(&pair.reported, &pair.mutex, &at);
    pthread_mutex_unlock(&pair.mutex);
}

static void expect_clear(const struct far_engine_report *report)
{
    if (report->state != FAR_ENGINE_FAILED) {
        return;
    }
    assert_true(report->error_message[0] != '\0');
    assert_true(report->error_class < 0 && report->error_class != FAR_INTERNAL);
}

/* An order that the engine does not take has failed with a clear error, as the servers would hear. */
static bool start(struct far_engine *engine, const struct far_engine_order *order)
{
    struct far_error err = {0};
    int rc = far_engine_start(engine, order, &err);
    assert_true(rc == 0 || (rc == FAR_LIMIT && err.message[0] != '\0'));
    return rc == 0;
}

/* Send and receive while faults strike: both end well, or one fails and the other is canceled, as the servers do. */
static bool attempt(struct engine_disk *disk, uint64_t job)
{
    struct far_engine_order send = disk_order(disk, FAR_ENGINE_SEND, job, TASK_SEND, 1);
    struct far_engine_order receive = disk_order(disk, FAR_ENGINE_RECEIVE, job, TASK_RECEIVE, 1);
    struct far_engine_report sent = {0}, received = {0};
    int source = start(pair.source, &send) ? 0 : FAR_ENGINE_FAILED;
    int target = start(pair.target, &receive) ? 0 : FAR_ENGINE_FAILED;
    time_t until = time(NULL) + END_MS / 1000;
    while (source != FAR_ENGINE_FAILED && target != FAR_ENGINE_FAILED && (source == 0 || target == 0)) {
        assert_true(time(NULL) < until);
        source = source == 0 ? state_of(job, TASK_SEND, &sent) : source;
        target = target == 0 ? state_of(job, TASK_RECEIVE, &received) : target;
        if ((source == 0 || target == 0) && source != FAR_ENGINE_FAILED && target != FAR_ENGINE_FAILED) {
            wait_report();
        }
    }
    expect_clear(&sent);
    expect_clear(&received);
    if (source == FAR_ENGINE_FAILED || target == FAR_ENGINE_FAILED) {
        far_engine_cancel(pair.source, job, TASK_SEND, 1);
        far_engine_cancel(pair.target, job, TASK_RECEIVE, 1);
        return false;
    }
    assert_memory_equal(sent.root, received.root, 32);
    return true;
}

static void sweep(enum far_fault kind, int error, uint64_t most, const char *name)
{
    struct engine_disk disk;
    unsigned struck_count = 0, failed_count = 0;
    uint64_t job = 2000;
    disk_make(&disk, &pair, "disk", 4 * MIB, 31 + (uint64_t)kind);
    for (uint64_t n = 1; n < most; n += 1 + n / 6) {
        snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:%llu", (unsigned long long)++job);
        disk_change(&disk, 8);
        far_fault_arm(kind, n, error);
        bool done = attempt(&disk, job);
        bool struck = far_fault_disarm();
        struck_count += struck;
        failed_count += !done;
        assert_true(done || struck);
        if (!done) { /* a vault whose sync failed is of no use before it is opened again */
            pair_stop_target(&pair);
            pair_start_target(&pair);
            snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:%llu", (unsigned long long)++job);
            assert_true(attempt(&disk, job));
        }
    }
    print_message("# %s: struck %u times, %u attempts failed\n", name, struck_count, failed_count);
    assert_true(struck_count > 0);
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:%llu", (unsigned long long)++job);
    struct far_engine_order send = disk_order(&disk, FAR_ENGINE_SEND, job, TASK_SEND, 1);
    struct far_engine_order receive = disk_order(&disk, FAR_ENGINE_RECEIVE, job, TASK_RECEIVE, 1);
    disk_start(&disk, &send);
    disk_start(&disk, &receive);
    disk.send = pair_wait(&pair, job, TASK_SEND, 1);
    disk.receive = pair_wait(&pair, job, TASK_RECEIVE, 1);
    assert_int_equal(disk.receive.state, FAR_ENGINE_DONE);
    disk_accept(&disk);
    assert_true(disk_restore(&disk, "restored"));
}

#define SWEEP(test, kind, error, most)                             \
    static void test(void **state)                                 \
    {                                                              \
        sweep(kind, error, most, #test);                           \
    }
SWEEP(without_memory_an_attempt_ends_and_the_next_one_works, FAR_FAULT_ALLOC, ENOMEM, 1500)
SWEEP(without_descriptors_an_attempt_ends_and_the_next_one_works, FAR_FAULT_OPEN, EMFILE, 60)
SWEEP(a_full_disk_ends_an_attempt_and_the_next_one_works, FAR_FAULT_WRITE, ENOSPC, 300)
SWEEP(a_failed_write_ends_an_attempt_and_the_next_one_works, FAR_FAULT_WRITE, EIO, 300)
SWEEP(a_failed_sync_ends_an_attempt_and_the_next_one_works, FAR_FAULT_SYNC, EIO, 40)
SWEEP(a_failed_read_ends_an_attempt_and_the_next_one_works, FAR_FAULT_READ, EIO, 200)
SWEEP(a_failed_rename_ends_an_attempt_and_the_next_one_works, FAR_FAULT_RENAME, EIO, 20)

#define FAULT_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAULT_TEST(without_memory_an_attempt_ends_and_the_next_one_works),
        FAULT_TEST(without_descriptors_an_attempt_ends_and_the_next_one_works),
        FAULT_TEST(a_full_disk_ends_an_attempt_and_the_next_one_works),
        FAULT_TEST(a_failed_write_ends_an_attempt_and_the_next_one_works),
        FAULT_TEST(a_failed_sync_ends_an_attempt_and_the_next_one_works),
        FAULT_TEST(a_failed_read_ends_an_attempt_and_the_next_one_works),
        FAULT_TEST(a_failed_rename_ends_an_attempt_and_the_next_one_works),
    };
    return cmocka_run_group_tests_name("engine_faults", tests, NULL, NULL);
}
