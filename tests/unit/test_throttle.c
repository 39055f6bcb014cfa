/* The buckets of a node, and an engine that sends by them. What may go is held against the time that passed, as an upper bound only. */
#include "dataplane/throttle.h"

#include "../lib/cm.h"
#include "../lib/engine_disk.h"
#include "../lib/until.h"

#include "base/clock.h"

#include <fcntl.h>
#include <unistd.h>

enum { MIB = 1 << 20, FRAME = 64 * 1024, TAKERS = 6 };

static struct far_throttle *throttle;
static struct far_error error;

static int setup(void **state)
{
    return far_throttle_new(&throttle, &error);
}

static int teardown(void **state)
{
    far_throttle_free(throttle);
    return 0;
}

static void set(uint64_t rate, uint64_t plan_id, uint64_t plan_rate)
{
    struct far_engine_plan_limit plan = {plan_id, plan_rate};
    assert_int_equal(far_throttle_set(throttle, rate, &plan, plan_id != 0, &error), 0);
}

static int take(struct far_throttle_ticket *ticket, uint64_t plan_id, uint64_t bytes, uint64_t wait_ms)
{
    return far_throttle_take(throttle, ticket, plan_id, bytes, wait_ms, NULL, NULL);
}

static void without_limits_nobody_waits(void **state)
{
    struct far_throttle_ticket ticket;
    uint64_t waited_ns = 7;
    far_throttle_ticket_init(&ticket, NULL);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(far_throttle_take(throttle, &ticket, 1, 1ull << 40, 0, NULL, &waited_ns), 0);
        assert_int_equal(waited_ns, 0);
    }
    set(0, 5, 10000); /* of another plan */
    assert_int_equal(take(&ticket, 1, 1ull << 40, 0), 0);
    assert_int_equal(far_throttle_rate(throttle, 1), 0);
    assert_int_equal(far_throttle_rate(throttle, 5), 10000);
    set(20000, 5, 30000);
    assert_int_equal(far_throttle_rate(throttle, 5), 20000);
    far_throttle_ticket_done(throttle, &ticket);
}

/* From an empty bucket: rate x time. */
static void no_more_goes_than_the_rate_allows(void **state)
{
    struct far_throttle_ticket ticket;
    uint64_t taken = 0, waited_ns = 0;
    bool waited = false;
    far_throttle_ticket_init(&ticket, NULL);
    for (int by_plan = 0; by_plan < 2; by_plan++) {
        const uint64_t rate = 8 * MIB;
        uint64_t began_ns = far_clock_monotonic_ns();
        set(by_plan ? 0 : rate, 1, by_plan ? rate : 0);
        for (taken = 0; taken < 4 * MIB; taken += FRAME) {
            assert_int_equal(far_throttle_take(throttle, &ticket, 1, FRAME, 60000, NULL, &waited_ns), 0);
            waited = waited || waited_ns > 0;
            double seconds = (double)(far_clock_monotonic_ns() - began_ns) / 1e9;
            assert_true((double)(taken + FRAME) <= (double)rate * seconds + 1);
        }
        assert_true(waited); /* at least 0.4 s of it */
        set(0, 0, 0);
    }
    far_throttle_ticket_done(throttle, &ticket);
}

static void a_frame_larger_than_the_bucket_goes_when_it_is_paid(void **state)
{
    struct far_throttle_ticket ticket;
    far_throttle_ticket_init(&ticket, NULL);
    uint64_t began_ns = far_clock_monotonic_ns();
    set(1000000, 0, 0); /* keeps 100,000 */
    assert_int_equal(take(&ticket, 1, 300000, 1), FAR_TIMEOUT);
    while (take(&ticket, 1, 300000, 20) == FAR_TIMEOUT) { /* it keeps its place, and what was paid */
    }
    assert_true(far_clock_monotonic_ns() - began_ns >= 299 * 1000000ull);
    far_throttle_ticket_done(throttle, &ticket);
}

static void a_bucket_keeps_a_tenth_of_a_second(void **state)
{
    struct far_throttle_ticket ticket;
    far_throttle_ticket_init(&ticket, NULL);
    set(1000000, 0, 0);
    uint64_t until_ns = far_clock_monotonic_ns() + 300000000;
    assert_true(FAR_UNTIL(far_clock_monotonic_ns() >= until_ns, 60000));
    uint64_t began_ns = far_clock_monotonic_ns();
    int rc = take(&ticket, 1, 250000, 0); /* it has been filling for 0.3 s */
    uint64_t ns = far_clock_monotonic_ns() - began_ns;
    assert_true(rc == FAR_TIMEOUT || ns >= 149000000);
    far_throttle_ticket_done(throttle, &ticket);
}

/* One owner asks with four tickets, another with one: each gets half. */
static void owners_share_alike_however_many_tickets_they_have(void **state)
{
    enum { TICKETS = 5, FRAMES = 40 };
    struct far_throttle_ticket tickets[TICKETS];
    unsigned frames[2] = {0};
    set(10 * FRAME, 0, 0); /* the bucket holds one frame: whoever comes late, by a busy machine, finds no more */
    for (int i = 0; i < TICKETS; i++) {
        far_throttle_ticket_init(&tickets[i], &frames[i == 4]);
    }
    while (frames[0] + frames[1] < FRAMES) {
        for (int i = 0; i < TICKETS; i++) { /* all ask, then the first in the queue is waited for */
            frames[i == 4] += take(&tickets[i], 1, FRAME, 0) == 0;
        }
    }
    assert_in_range(frames[1], FRAMES * 2 / 5, FRAMES * 3 / 5);
    for (int i = 0; i < TICKETS; i++) {
        far_throttle_ticket_done(throttle, &tickets[i]);
    }
}

/* ---- many ---- */

struct taker {
    pthread_t thread;
    uint64_t plan_id;
    atomic_bool *stop;
    atomic_uint frames;
    atomic_int rc; /* of the last take */
};

static void *taker_main(void *arg)
{
    struct taker *taker = arg;
    struct far_throttle_ticket ticket;
    far_throttle_ticket_init(&ticket, taker);
    while (!atomic_load(taker->stop)) {
        int rc = far_throttle_take(throttle, &ticket, taker->plan_id, FRAME, 1000, taker->stop, NULL);
        atomic_store(&taker->rc, rc);
        atomic_fetch_add(&taker->frames, rc == 0);
    }
    far_throttle_ticket_done(throttle, &ticket);
    return NULL;
}

static atomic_bool stop_all;

static void start_takers(struct taker *takers, size_t count, const uint64_t *plan_ids)
{
    atomic_store(&stop_all, false);
    for (size_t i = 0; i < count; i++) {
        takers[i].plan_id = plan_ids[i];
        takers[i].stop = &stop_all;
        atomic_init(&takers[i].frames, 0);
        atomic_init(&takers[i].rc, 0);
        assert_int_equal(pthread_create(&takers[i].thread, NULL, taker_main, &takers[i]), 0);
    }
}

static void stop_takers(struct taker *takers, size_t count)
{
    atomic_store(&stop_all, true);
    far_throttle_wake(throttle);
    for (size_t i = 0; i < count; i++) {
        pthread_join(takers[i].thread, NULL);
    }
}

static bool all_have(struct taker *takers, size_t count, unsigned frames)
{
    bool have = true;
    for (size_t i = 0; i < count; i++) {
        have = have && atomic_load(&takers[i].frames) >= frames;
    }
    return have;
}

static void nobody_starves(void **state)
{
    static const uint64_t plans[TAKERS] = {1, 1, 1, 2, 2, 3};
    struct taker takers[TAKERS];
    uint64_t began_ns = far_clock_monotonic_ns();
    set(16 * MIB, 2, 4 * MIB);
    start_takers(takers, TAKERS, plans);
    bool all = FAR_UNTIL(all_have(takers, TAKERS, 10), 60000);
    stop_takers(takers, TAKERS);
    uint64_t sum = 0, of_two = 0;
    for (size_t i = 0; i < TAKERS; i++) {
        sum += atomic_load(&takers[i].frames);
        of_two += plans[i] == 2 ? atomic_load(&takers[i].frames) : 0;
    }
    double seconds = (double)(far_clock_monotonic_ns() - began_ns) / 1e9;
    assert_true(all);
    assert_true((double)sum * FRAME <= 16.0 * MIB * seconds + 1);
    assert_true((double)of_two * FRAME <= 4.0 * MIB * seconds + 1);
}

static void a_plan_that_waits_holds_up_no_other(void **state)
{
    static const uint64_t plans[2] = {7, 1};
    struct taker takers[2];
    set(64 * MIB, 7, FAR_THROTTLE_PAUSED);
    start_takers(takers, 2, plans);
    bool goes = FAR_UNTIL(atomic_load(&takers[1].frames) >= 20, 60000);
    bool waits = atomic_load(&takers[0].frames) == 0;
    set(64 * MIB, 7, 0);
    bool goes_on = FAR_UNTIL(atomic_load(&takers[0].frames) >= 20, 60000);
    stop_takers(takers, 2);
    assert_true(goes && waits && goes_on);
}

static void new_limits_hold_for_those_who_wait(void **state)
{
    static const uint64_t plans[TAKERS] = {1, 1, 1, 1, 1, 1};
    struct taker takers[TAKERS];
    set(FAR_THROTTLE_PAUSED, 0, 0);
    start_takers(takers, TAKERS, plans);
    assert_false(all_have(takers, 1, 1));
    set(10000, 0, 0); /* 6.5 s a frame */
    set(0, 0, 0);
    bool all = FAR_UNTIL(all_have(takers, TAKERS, 5), 60000);
    set(FAR_THROTTLE_PAUSED, 0, 0);
    stop_takers(takers, TAKERS);
    assert_true(all);
}

static void who_is_canceled_leaves_at_once_and_gives_back(void **state)
{
    static const uint64_t plans[1] = {1};
    struct taker taker;
    struct far_throttle_ticket ticket;
    set(FAR_THROTTLE_PAUSED, 0, 0);
    start_takers(&taker, 1, plans);
    stop_takers(&taker, 1);
    int rc = atomic_load(&taker.rc);
    assert_true(rc == FAR_CANCELED || rc == 0); /* 0: it was stopped before it asked */
    assert_int_equal(atomic_load(&taker.frames), 0);
    far_throttle_ticket_init(&ticket, NULL);
    assert_int_equal(far_throttle_take(throttle, &ticket, 1, 1, 60000, &stop_all, NULL), FAR_CANCELED);
    assert_int_equal(take(&ticket, 1, 100, 0), FAR_TIMEOUT);
    assert_int_equal(take(&ticket, 2, 50, 0), FAR_TIMEOUT); /* it asks for something else instead */
    set(0, 0, 0);
    assert_int_equal(take(&ticket, 2, 50, 0), 0);
    set(FAR_THROTTLE_PAUSED, 0, 0);
    assert_int_equal(take(&ticket, 1, 100, 0), FAR_TIMEOUT);
    far_throttle_ticket_done(throttle, &ticket); /* with its place */
}

static void too_many_plans_are_refused_and_change_nothing(void **state)
{
    static struct far_engine_plan_limit plans[FAR_ENGINE_LIMITS_MAX + 1];
    for (uint64_t i = 0; i <= FAR_ENGINE_LIMITS_MAX; i++) {
        plans[i] = (struct far_engine_plan_limit){FAR_ENGINE_LIMITS_MAX - i + 1, 10000 + i};
    }
    assert_int_equal(far_throttle_set(throttle, 50000, plans, FAR_ENGINE_LIMITS_MAX, &error), 0);
    assert_int_equal(far_throttle_rate(throttle, FAR_ENGINE_LIMITS_MAX + 1), 10000);
    assert_int_equal(far_throttle_rate(throttle, 2), 10000 + FAR_ENGINE_LIMITS_MAX - 1);
    assert_int_equal(far_throttle_set(throttle, 1, plans, FAR_ENGINE_LIMITS_MAX + 1, &error), FAR_LIMIT);
    assert_int_equal(far_throttle_rate(throttle, 2), 10000 + FAR_ENGINE_LIMITS_MAX - 1);
    assert_int_equal(far_throttle_rate(throttle, 99999), 50000);
}

/* ---- an engine ---- */

static struct engine_pair pair;

static void an_engine_sends_no_faster_than_it_may(void **state)
{
    static const struct far_engine_config config = {
        .memory_bytes = 32 * MIB, .worker_count = 2, .idle_ms = 1000, .compress = FAR_ENGINE_COMPRESS_NEVER};
    struct engine_disk disk;
    pair_init(&pair, "throttle", &config);
    disk_make(&disk, &pair, "disk", 12 * MIB, 9);
    uint64_t began_ns = far_clock_monotonic_ns();
    assert_int_equal(far_engine_set_limits(pair.source, 4 * MIB, NULL, 0, &error), 0);
    assert_true(disk_cycle(&disk));
    double seconds = (double)(far_clock_monotonic_ns() - began_ns) / 1e9;
    assert_true(disk.send.bytes_sent >= 4 * MIB);
    assert_true((double)disk.send.bytes_sent <= 4.0 * MIB * seconds + 65536); /* offers and the like are not counted */
    pair_done(&pair);
}

/* Longer than a peer may be silent, at idle_ms of 1 s; then at full speed. */
static void a_pause_costs_no_connection(void **state)
{
    static const struct far_engine_config config = {.memory_bytes = 32 * MIB, .worker_count = 2, .idle_ms = 1000};
    static const struct far_engine_plan_limit paused = {.plan_id = 20, .bytes_per_s = FAR_THROTTLE_PAUSED};
    struct engine_disk disk;
    pair_init(&pair, "pause", &config);
    disk_make(&disk, &pair, "disk", 12 * MIB, 10);
    assert_int_equal(far_engine_set_limits(pair.source, 0, &paused, 1, &error), 0);
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:x");
    struct far_engine_order receive = disk_order(&disk, FAR_ENGINE_RECEIVE, 7, TASK_RECEIVE, 1);
    struct far_engine_order send = disk_order(&disk, FAR_ENGINE_SEND, 7, TASK_SEND, 1);
    disk_start(&disk, &receive);
    disk_start(&disk, &send);
    size_t reports = 0;
    bool waits = FAR_UNTIL((pthread_mutex_lock(&pair.mutex), reports = pair.running_count, pthread_mutex_unlock(&pair.mutex), reports >= 8),
                           60000);
    bool ended = pair_ended(&pair, 7, TASK_SEND, 1) || pair_ended(&pair, 7, TASK_RECEIVE, 1);
    assert_int_equal(far_engine_set_limits(pair.source, 0, NULL, 0, &error), 0);
    struct far_engine_report sent = pair_wait(&pair, 7, TASK_SEND, 1), received = pair_wait(&pair, 7, TASK_RECEIVE, 1);
    assert_true(waits);
    assert_false(ended);
    assert_int_equal(sent.state, FAR_ENGINE_DONE);
    assert_memory_equal(sent.root, received.root, 32);
    pair_done(&pair);
}

/* A block that waits for others to fill its group, and then for its turn behind all that was offered before, would hold up the frontier,
 * and with it progress, the time left and what a crash costs, for as long as a window takes at this rate. */
static void what_is_behind_keeps_up_with_what_is_sent(void **state)
{
    static const struct far_engine_config config = {
        .memory_bytes = 64 * MIB, .worker_count = 1, .idle_ms = 1000, .compress = FAR_ENGINE_COMPRESS_NEVER};
    struct engine_disk disk;
    static uint8_t bytes[MIB];
    uint64_t x = 12345;
    pair_init(&pair, "frontier", &config);
    disk_make(&disk, &pair, "disk", 32 * MIB, 11);
    int fd = open(disk.path, O_WRONLY);
    assert_true(fd >= 0);
    for (size_t i = 0; i < 32; i++) { /* of the first 16 blocks only one is not zero */
        for (size_t k = 0; k < MIB; k++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            bytes[k] = i > 0 || k < 65536 ? (uint8_t)(x >> 56) : 0;
        }
        assert_int_equal(pwrite(fd, bytes, MIB, (off_t)(i * MIB)), MIB);
    }
    close(fd);
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:x");
    assert_int_equal(far_engine_set_limits(pair.source, 8 * MIB, NULL, 0, &error), 0);
    struct far_engine_order receive = disk_order(&disk, FAR_ENGINE_RECEIVE, 7, TASK_RECEIVE, 1);
    struct far_engine_order send = disk_order(&disk, FAR_ENGINE_SEND, 7, TASK_SEND, 1);
    disk_start(&disk, &send);
    disk_start(&disk, &receive);
    uint64_t done = 0, sent = 0;
    bool is_far = FAR_UNTIL((pthread_mutex_lock(&pair.mutex), done = pair.running_done[TASK_SEND], sent = pair.running_sent[TASK_SEND],
                             pthread_mutex_unlock(&pair.mutex), sent >= 16 * MIB),
                            60000);
    assert_int_equal(far_engine_set_limits(pair.source, 0, NULL, 0, &error), 0);
    assert_int_equal(pair_wait(&pair, 7, TASK_SEND, 1).state, FAR_ENGINE_DONE);
    assert_int_equal(pair_wait(&pair, 7, TASK_RECEIVE, 1).state, FAR_ENGINE_DONE);
    assert_true(is_far);
    assert_in_range(done, 4 * MIB, 32 * MIB);
    pair_done(&pair);
}

int main(void)
{
#define ONE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        ONE(owners_share_alike_however_many_tickets_they_have),
        ONE(without_limits_nobody_waits),
        ONE(no_more_goes_than_the_rate_allows),
        ONE(a_frame_larger_than_the_bucket_goes_when_it_is_paid),
        ONE(a_bucket_keeps_a_tenth_of_a_second),
        ONE(nobody_starves),
        ONE(a_plan_that_waits_holds_up_no_other),
        ONE(new_limits_hold_for_those_who_wait),
        ONE(who_is_canceled_leaves_at_once_and_gives_back),
        ONE(too_many_plans_are_refused_and_change_nothing),
        cmocka_unit_test(an_engine_sends_no_faster_than_it_may),
        cmocka_unit_test(a_pause_costs_no_connection),
        cmocka_unit_test(what_is_behind_keeps_up_with_what_is_sent),
    };
    return cmocka_run_group_tests_name("throttle", tests, NULL, NULL);
}
