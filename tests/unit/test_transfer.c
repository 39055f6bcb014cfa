/* Transfers that are disturbed: cut connections, restarted nodes, cancels at every moment, a source that lies, a full
 * target. The seed of what is random is printed and can be given as FAR_SEED. */
#include "../lib/cm.h"
#include "../lib/cut_proxy.h"
#include "../lib/engine_disk.h"

#include "base/clock.h"
#include "dataplane/map.h"
#include "dataplane/transfer_frames.h"
#include "dataplane/vault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20, LIE = 5 * FAR_TRANSFER_SLOTS /* a group */ };

static struct engine_pair pair;
static const struct far_engine_config small = {
    .memory_bytes = 32 * MIB, .worker_count = 2, .idle_ms = 3000, .checkpoint_bytes = 4 * MIB, .checkpoint_ms = 50};
static uint64_t seed;

static uint64_t random_below(uint64_t limit)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 33) % limit;
}

static int setup(void **state)
{
    pair_init(&pair, "transfer", &small);
    return 0;
}

static int teardown(void **state)
{
    pair_done(&pair);
    return 0;
}

static void nap(uint64_t us)
{
    struct timespec ts = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
    nanosleep(&ts, NULL); /* far-poll: picks the moment of a disturbance, nothing waits for anything */
}

static void start_both(struct engine_disk *disk, uint64_t job, uint64_t send_attempt, uint64_t receive_attempt)
{
    struct far_engine_order receive = disk_order(disk, FAR_ENGINE_RECEIVE, job, TASK_RECEIVE, receive_attempt);
    struct far_engine_order send = disk_order(disk, FAR_ENGINE_SEND, job, TASK_SEND, send_attempt);
    disk_start(disk, &receive);
    disk_start(disk, &send);
}

static void wait_both(struct engine_disk *disk, uint64_t job, uint64_t send_attempt, uint64_t receive_attempt)
{
    disk->send = pair_wait(&pair, job, TASK_SEND, send_attempt);
    disk->receive = pair_wait(&pair, job, TASK_RECEIVE, receive_attempt);
    assert_string_equal(disk->send.error_message, "");
    assert_string_equal(disk->receive.error_message, "");
    assert_int_equal(disk->send.state, FAR_ENGINE_DONE);
    assert_int_equal(disk->receive.state, FAR_ENGINE_DONE);
    assert_memory_equal(disk->send.root, disk->receive.root, 32);
}

static void cut_connections_are_taken_up_where_they_broke(void **state)
{
    struct engine_disk disk;
    struct cut_proxy proxy;
    disk_make(&disk, &pair, "disk", 48 * MIB, seed);
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:x");
    cut_proxy_start(&proxy, far_engine_data_address(pair.target));
    disk.proxy = proxy.address;
    atomic_store(&proxy.quota, 8 * MIB + random_below(MIB));
    start_both(&disk, 600, 1, 1);
    wait_both(&disk, 600, 1, 1);
    print_message("# %llu cuts, %llu MiB passed\n", (unsigned long long)atomic_load(&proxy.cuts),
                  (unsigned long long)atomic_load(&proxy.passed) / MIB);
    assert_true(atomic_load(&proxy.cuts) >= 3);
    /* At most what was in flight at each cut is sent again. */
    assert_true(atomic_load(&proxy.passed) <= 48 * MIB + atomic_load(&proxy.cuts) * 8 * MIB);
    cut_proxy_stop(&proxy);
    assert_true(disk_restore(&disk, "restored"));
}

static void cuts_at_random_moments_lose_nothing(void **state)
{
    struct engine_disk disk;
    struct cut_proxy proxy;
    disk_make(&disk, &pair, "disk", 24 * MIB, seed);
    disk.adapter = "fault:file?rd=4000";
    cut_proxy_start(&proxy, far_engine_data_address(pair.target));
    disk.proxy = proxy.address;
    for (uint64_t job = 610; job < 614; job++) {
        snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:%llu", (unsigned long long)job);
        start_both(&disk, job, 1, 1);
        for (int cut = 0; cut < 6 && !pair_ended(&pair, job, TASK_SEND, 1); cut++) {
            nap(1000 + random_below(150000));
            atomic_store(&proxy.cut_now, true);
        }
        print_message("# job %llu: %llu cuts so far\n", (unsigned long long)job,
                      (unsigned long long)atomic_load(&proxy.cuts));
        wait_both(&disk, job, 1, 1);
        atomic_store(&proxy.cut_now, false);
        disk_accept(&disk);
        disk_change(&disk, 16);
    }
    cut_proxy_stop(&proxy);
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:last");
    disk.proxy = NULL;
    start_both(&disk, 620, 1, 1);
    wait_both(&disk, 620, 1, 1);
    assert_true(disk_restore(&disk, "restored"));
}

static void a_restarted_source_goes_on_from_the_durable_frontier(void **state)
{
    struct engine_disk disk;
    disk_make(&disk, &pair, "disk", 64 * MIB, seed);
    disk.adapter = "fault:file?rd=5000";
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:x");
    start_both(&disk, 630, 1, 1);
    nap(120000 + random_below(20000)); /* some way into it; wherever that is, the result must be the same */
    pair_stop_source(&pair);
    pair_start_source(&pair);
    start_both(&disk, 630, 2, 1);
    wait_both(&disk, 630, 2, 1);
    print_message("# the second attempt sent %llu of 64 MiB\n", (unsigned long long)disk.send.bytes_sent / MIB);
    assert_true(disk_restore(&disk, "restored"));
}

static void a_restarted_target_goes_on_from_its_last_checkpoint(void **state)
{
    struct engine_disk disk;
    struct cut_proxy proxy;
    disk_make(&disk, &pair, "disk", 64 * MIB, seed);
    disk.adapter = "fault:file?rd=5000";
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:x");
    cut_proxy_start(&proxy, far_engine_data_address(pair.target));
    disk.proxy = proxy.address;
    start_both(&disk, 640, 1, 1);
    nap(120000 + random_below(20000));
    pair_stop_target(&pair);
    pair_start_target(&pair);
    cut_proxy_stop(&proxy);
    disk.proxy = NULL; /* the target has another port now: the server orders a new attempt of the send */
    start_both(&disk, 640, 2, 2);
    wait_both(&disk, 640, 2, 2);
    assert_true(disk_restore(&disk, "restored"));
}

static void a_sender_that_missed_the_end_learns_that_all_is_there(void **state)
{
    struct engine_disk disk;
    disk_make(&disk, &pair, "disk", 8 * MIB, seed);
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:x");
    start_both(&disk, 650, 1, 1);
    wait_both(&disk, 650, 1, 1);
    struct far_engine_order send = disk_order(&disk, FAR_ENGINE_SEND, 650, TASK_SEND, 2);
    disk_start(&disk, &send); /* nobody receives any more */
    struct far_engine_report again = pair_wait(&pair, 650, TASK_SEND, 2);
    assert_int_equal(again.state, FAR_ENGINE_DONE);
    assert_memory_equal(again.root, disk.receive.root, 32);
    struct far_engine_order receive = disk_order(&disk, FAR_ENGINE_RECEIVE, 650, TASK_RECEIVE, 2);
    disk_start(&disk, &receive); /* and nobody sends */
    again = pair_wait(&pair, 650, TASK_RECEIVE, 2);
    assert_int_equal(again.state, FAR_ENGINE_DONE);
    assert_memory_equal(again.root, disk.receive.root, 32);
}

static void an_order_can_be_canceled_at_any_moment(void **state)
{
    struct engine_disk disk;
    disk_make(&disk, &pair, "disk", 16 * MIB, seed);
    disk.adapter = "fault:file?rd=2000";
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:x");
    for (uint64_t i = 1; i <= 12; i++) {
        start_both(&disk, 660, i, i);
        nap(i * 4000);
        if (i % 3 != 0) {
            far_engine_cancel(pair.source, 660, TASK_SEND, i);
        }
        if (i % 3 != 1) {
            far_engine_cancel(pair.target, 660, TASK_RECEIVE, i);
        }
    }
    start_both(&disk, 660, 20, 20); /* also replaces what was not canceled */
    wait_both(&disk, 660, 20, 20);
    assert_true(disk_restore(&disk, "restored"));
}

static void an_older_attempt_is_refused_and_the_same_one_reports_again(void **state)
{
    struct engine_disk disk;
    struct far_error err;
    disk_make(&disk, &pair, "disk", 2 * MIB, seed);
    struct far_engine_order receive = disk_order(&disk, FAR_ENGINE_RECEIVE, 670, TASK_RECEIVE, 5);
    disk_start(&disk, &receive);
    receive.attempt = 4;
    assert_int_equal(far_engine_start(pair.target, &receive, &err), FAR_CONFLICT);
    receive.attempt = 5;
    assert_int_equal(far_engine_start(pair.target, &receive, &err), 0);
    far_engine_cancel(pair.target, 670, TASK_RECEIVE, 5);
    assert_true(disk_cycle(&disk));
    size_t ends = pair.end_count;
    struct far_engine_order again = disk_order(&disk, FAR_ENGINE_RECEIVE, pair.job, TASK_RECEIVE, 1);
    disk_start(&disk, &again);
    assert_int_equal(pair.end_count, ends + 1);
    assert_memory_equal(pair.ends[ends].report.root, disk.receive.root, 32);
}

static void an_attempt_of_an_older_epoch_is_fenced_off(void **state)
{
    struct engine_disk disk;
    disk_make(&disk, &pair, "disk", 2 * MIB, seed);
    assert_true(disk_cycle(&disk));
    struct far_engine_order receive = disk_order(&disk, FAR_ENGINE_RECEIVE, 680, TASK_RECEIVE, 1);
    receive.incarnation_epoch = 0;
    disk_start(&disk, &receive);
    assert_int_equal(pair_wait(&pair, 680, TASK_RECEIVE, 1).error_class, FAR_CONFLICT);
}

/* ---- a source that lies ---- */

static void send_frame(struct far_bstream *stream, enum far_transfer_type type, const uint8_t *head, size_t head_len,
                       const uint8_t *bulk, size_t bulk_len)
{
    uint8_t header[FAR_TRANSFER_HEADER];
    far_transfer_header_encode(type, far_slice(head, head_len), (uint32_t)bulk_len, header);
    assert_int_equal(far_bstream_write(stream, header, sizeof header, 2000, NULL), 0);
    if (head_len > 0) {
        assert_int_equal(far_bstream_write(stream, head, head_len, 2000, NULL), 0);
    }
    if (bulk_len > 0) {
        far_bstream_write(stream, bulk, bulk_len, 2000, NULL);
    }
}

static enum far_transfer_type read_frame(struct far_bstream *stream, uint8_t *head, size_t *ret_len)
{
    struct far_transfer_header header;
    uint8_t bytes[FAR_TRANSFER_HEADER];
    assert_int_equal(far_bstream_read(stream, bytes, sizeof bytes, 5000, NULL), 0);
    assert_int_equal(far_transfer_header_decode(bytes, &header, NULL), 0);
    if (header.head_len > 0) {
        assert_int_equal(far_bstream_read(stream, head, header.head_len, 5000, NULL), 0);
    }
    *ret_len = header.head_len;
    return header.type;
}

/* Skips to a frame of this type. */
static size_t await(struct far_bstream *stream, enum far_transfer_type type, uint8_t *head)
{
    size_t len = 0;
    while (read_frame(stream, head, &len) != type) {
    }
    return len;
}

static struct far_bstream *say_hello(const struct engine_disk *disk, uint64_t job, uint64_t size_bytes)
{
    struct far_transfer_hello hello = {
        .job_id = job, .disk_id = 22, .incarnation_epoch = 1, .plan_epoch = 1, .size_bytes = size_bytes};
    struct far_peer to = {.party = FAR_PARTY_NODE, .id = PAIR_TARGET};
    struct far_bstream *stream;
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    assert_int_equal(
        far_bstream_dial(pair.source_net, far_engine_data_address(disk->pair->target), to, 2000, &stream, NULL), 0);
    snprintf(hello.freeze_ref, sizeof hello.freeze_ref, "live:lie");
    send_frame(stream, FAR_TRANSFER_HELLO, head, far_transfer_hello_encode(&hello, head), NULL, 0);
    return stream;
}

/* One offered block; what is sent for it is up to the caller. */
static struct far_bstream *offer_one(struct engine_disk *disk, uint64_t job, const uint8_t *block)
{
    static struct far_transfer_offer offer;
    struct far_hash256 id;
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    struct far_engine_order receive = disk_order(disk, FAR_ENGINE_RECEIVE, job, TASK_RECEIVE, 1);
    disk_start(disk, &receive);
    struct far_bstream *stream = say_hello(disk, job, disk->size_bytes);
    await(stream, FAR_TRANSFER_WELCOME, head);
    far_block_leaf(block, FAR_BLOCK_BYTES, &id);
    memset(&offer, 0, sizeof offer);
    offer.group = LIE;
    offer.block_count = 1;
    memcpy(offer.ids[0], id.bytes, 32);
    send_frame(stream, FAR_TRANSFER_OFFER, head, far_transfer_offer_encode(&offer, head), NULL, 0);
    await(stream, FAR_TRANSFER_WANT, head);
    return stream;
}

static struct far_engine_report after_lie(struct far_bstream *stream, uint64_t job)
{
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    struct far_transfer_error said;
    size_t len = await(stream, FAR_TRANSFER_ERROR, head);
    assert_int_equal(far_transfer_error_decode(far_slice(head, len), &said, NULL), 0);
    assert_int_equal(said.klass, FAR_CORRUPT);
    struct far_engine_report report = pair_wait(&pair, job, TASK_RECEIVE, 1);
    assert_int_equal(report.state, FAR_ENGINE_FAILED);
    assert_int_equal(report.error_class, FAR_CORRUPT);
    far_bstream_free(stream);
    return report;
}

static void a_block_that_is_not_what_was_offered_is_refused(void **state)
{
    static uint8_t block[FAR_BLOCK_BYTES], other[FAR_BLOCK_BYTES];
    struct engine_disk disk;
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    disk_make(&disk, &pair, "disk", 2 * MIB, seed);
    memset(block, 'a', sizeof block);
    memset(other, 'b', sizeof other);
    struct far_transfer_data data = {
        .group = LIE, .count = 1, .stored = {{.pages = 0xffff, .length = FAR_BLOCK_BYTES}}};
    struct far_bstream *stream = offer_one(&disk, 690, block);
    send_frame(stream, FAR_TRANSFER_DATA, head, far_transfer_data_encode(&data, head), other, sizeof other);
    struct far_engine_report report = after_lie(stream, 690);
    assert_non_null(strstr(report.error_message, "SHA-256"));
    bool has = true;
    struct far_hash256 id;
    far_block_leaf(other, sizeof other, &id);
    assert_int_equal(far_vault_has(far_engine_vault(pair.target), NULL, &id, 1, &has, NULL), 0);
    assert_false(has);
}

static void a_block_with_a_wrong_frame_hash_is_refused(void **state)
{
    static uint8_t block[FAR_BLOCK_BYTES];
    struct engine_disk disk;
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    disk_make(&disk, &pair, "disk", 2 * MIB, seed);
    memset(block, 'c', 100);
    struct far_transfer_data data = {
        .group = LIE, .count = 1, .stored = {{.pages = 0xffff, .length = 100, .codec = FAR_TRANSFER_ZSTD, .hash = 1}}};
    struct far_bstream *stream = offer_one(&disk, 691, block);
    send_frame(stream, FAR_TRANSFER_DATA, head, far_transfer_data_encode(&data, head), block, 100);
    after_lie(stream, 691);
}

static void frames_that_nobody_asked_for_end_the_session_not_the_attempt(void **state)
{
    static uint8_t block[FAR_BLOCK_BYTES];
    struct engine_disk disk;
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    disk_make(&disk, &pair, "disk", 2 * MIB, seed);
    memset(block, 'd', sizeof block);
    struct far_transfer_data data = {.group = 7, .count = 1, .stored = {{.pages = 0xffff, .length = FAR_BLOCK_BYTES}}};
    struct far_bstream *stream = offer_one(&disk, 692, block);
    send_frame(stream, FAR_TRANSFER_DATA, head, far_transfer_data_encode(&data, head), block, sizeof block);
    while (far_bstream_read(stream, head, 1, 5000, NULL) == 0) {
    }
    far_bstream_free(stream);
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:x"); /* an honest source comes */
    struct far_engine_order send = disk_order(&disk, FAR_ENGINE_SEND, 692, TASK_SEND, 1);
    disk_start(&disk, &send);
    wait_both(&disk, 692, 1, 1);
}

static void a_source_with_another_disk_is_refused(void **state)
{
    struct engine_disk disk;
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    struct far_transfer_error said;
    disk_make(&disk, &pair, "disk", 2 * MIB, seed);
    struct far_engine_order receive = disk_order(&disk, FAR_ENGINE_RECEIVE, 693, TASK_RECEIVE, 1);
    disk_start(&disk, &receive);
    struct far_bstream *stream = say_hello(&disk, 693, 3 * MIB);
    size_t len = await(stream, FAR_TRANSFER_ERROR, head);
    assert_int_equal(far_transfer_error_decode(far_slice(head, len), &said, NULL), 0);
    assert_int_equal(said.klass, FAR_CONFLICT);
    far_bstream_free(stream);
    assert_int_equal(pair_wait(&pair, 693, TASK_RECEIVE, 1).error_class, FAR_CONFLICT);
}

static void a_hello_that_nobody_waits_for_gets_an_answer(void **state)
{
    struct engine_disk disk;
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    struct far_transfer_error said;
    disk_make(&disk, &pair, "disk", 2 * MIB, seed);
    struct far_bstream *stream = say_hello(&disk, 694, 2 * MIB);
    size_t len = await(stream, FAR_TRANSFER_ERROR, head);
    assert_int_equal(far_transfer_error_decode(far_slice(head, len), &said, NULL), 0);
    assert_int_equal(said.klass, FAR_NOT_FOUND);
    far_bstream_free(stream);
}

/* ---- a full target ---- */

static void a_full_target_says_so_and_goes_on_when_there_is_space(void **state)
{
    struct engine_disk disk;
    char target[300], file[400], command[500];
    pair_stop_target(&pair);
    pair_path(&pair, "target/vault", target, sizeof target);
    snprintf(command, sizeof command, "rm -rf '%s'", target);
    assert_int_equal(system(command), 0);
    mkdir(target, 0700);
    if (mount("none", target, "tmpfs", 0, "size=48m") != 0) {
        print_message("# cannot mount a small file system: %s\n", strerror(errno));
        pair_start_target(&pair);
        skip();
    }
    pair_start_target(&pair);
    snprintf(file, sizeof file, "%s/filler", target);
    snprintf(command, sizeof command, "dd if=/dev/zero of='%s' bs=1M count=30 2>/dev/null", file);
    assert_int_equal(system(command), 0);
    disk_make(&disk, &pair, "disk", 40 * MIB, seed);
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:x");
    start_both(&disk, 695, 1, 1);
    struct far_engine_report report = pair_wait(&pair, 695, TASK_RECEIVE, 1);
    assert_int_equal(report.state, FAR_ENGINE_FAILED);
    assert_int_equal(report.error_class, FAR_LIMIT);
    assert_int_equal(report.outcome, FAR_ADAPTER_RETRY);
    assert_non_null(strstr(report.error_message, "No space left"));
    unlink(file);
    struct far_engine_order receive = disk_order(&disk, FAR_ENGINE_RECEIVE, 695, TASK_RECEIVE, 2);
    disk_start(&disk, &receive);
    wait_both(&disk, 695, 1, 2);
    assert_true(disk_restore(&disk, "restored"));
    pair_stop_target(&pair);
    assert_int_equal(umount(target), 0);
}

int main(void)
{
    const char *given = getenv("FAR_SEED");
    seed = given != NULL ? strtoull(given, NULL, 10) : far_clock_wall_ms();
    printf("# FAR_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(cut_connections_are_taken_up_where_they_broke, setup, teardown),
        cmocka_unit_test_setup_teardown(cuts_at_random_moments_lose_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_restarted_source_goes_on_from_the_durable_frontier, setup, teardown),
        cmocka_unit_test_setup_teardown(a_restarted_target_goes_on_from_its_last_checkpoint, setup, teardown),
        cmocka_unit_test_setup_teardown(a_sender_that_missed_the_end_learns_that_all_is_there, setup, teardown),
        cmocka_unit_test_setup_teardown(an_order_can_be_canceled_at_any_moment, setup, teardown),
        cmocka_unit_test_setup_teardown(an_older_attempt_is_refused_and_the_same_one_reports_again, setup, teardown),
        cmocka_unit_test_setup_teardown(an_attempt_of_an_older_epoch_is_fenced_off, setup, teardown),
        cmocka_unit_test_setup_teardown(a_block_that_is_not_what_was_offered_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_block_with_a_wrong_frame_hash_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(frames_that_nobody_asked_for_end_the_session_not_the_attempt, setup, teardown),
        cmocka_unit_test_setup_teardown(a_source_with_another_disk_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_hello_that_nobody_waits_for_gets_an_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_target_says_so_and_goes_on_when_there_is_space, setup, teardown),
    };
    return cmocka_run_group_tests_name("transfer", tests, NULL, NULL);
}
