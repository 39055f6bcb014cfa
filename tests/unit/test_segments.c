/* Segments: sealed events are read as if nobody had sealed them, whatever crashes in between; damage is named and never read. */
#define _GNU_SOURCE
#include "../lib/cm.h"
#include "../lib/remove_tree.h"

#include "log/segments.h"
#include "log/tidy.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EVENTS = 5000, EARLIEST = 1201, PAYLOAD_MAX = 900 };

static char dir[256];
static struct far_store *store;
static struct far_buf rows[EVENTS + 1]; /* as the store had them, by seq */
static uint8_t heads[EVENTS + 1][FAR_HEAD_SIZE];
static unsigned seed;
static const struct far_seal_limits limits = {.rows_max = 1000, .segment_events = 700, .segment_bytes = 1 << 20};

static struct far_event make_event(uint64_t seq, uint8_t *payload)
{
    size_t len = (size_t)rand_r(&seed) % (seq % 500 == 0 ? PAYLOAD_MAX : 60);
    for (size_t i = 0; i < len; i++) {
        payload[i] = (uint8_t)rand_r(&seed);
    }
    return (struct far_event){.seq = seq, .index = 1 + seq / 3, .kind = 10, .time_ms = 1000 * seq, .payload = far_slice(payload, len)};
}

static void must(int rv, const struct far_error *err)
{
    if (rv != 0) {
        fail_msg("%s", err->message);
    }
}

static void open_store(void)
{
    struct far_error err = {0};
    must(far_store_open_lmdb(dir, (size_t)1 << 28, false, &store, &err), &err);
}

/* Events 1 to EVENTS; those before EARLIEST only in `rows`: somebody else has them. */
static void fill(void)
{
    uint8_t payload[PAYLOAD_MAX];
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(store, true, &txn, &err), &err);
    for (uint64_t seq = 1; seq <= EVENTS; seq++) {
        struct far_event event = make_event(seq, payload);
        memcpy(heads[seq], heads[seq - 1], FAR_HEAD_SIZE);
        must(far_chain_add(heads[seq], &event, &err), &err);
        far_buf_init(&rows[seq], FAR_EVENT_ROW_MAX);
        must(far_event_row_encode(&event, heads[seq], &rows[seq], &err), &err);
        if (seq == EARLIEST - 1) {
            struct far_store_meta *meta = far_store_meta(txn);
            meta->first_seq = EARLIEST;
            meta->last_seq = EARLIEST - 1;
            memcpy(meta->head, heads[seq], FAR_HEAD_SIZE);
            memcpy(meta->base_head, heads[seq], FAR_HEAD_SIZE);
        } else if (seq >= EARLIEST) {
            must(far_store_event_append(txn, &event, &err), &err);
        }
    }
    must(far_store_commit(txn, &err), &err);
}

static int setup(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/far-segments-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(dir));
    open_store();
    fill();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    far_store_close(store);
    for (int i = 1; i <= EVENTS; i++) {
        far_buf_done(&rows[i]);
    }
    return far_test_remove_tree(dir);
}

/* ---- looking ---- */

static void check_event(struct far_store_txn *txn, uint64_t seq)
{
    struct far_error err = {0};
    struct far_slice row;
    must(far_store_event_row(txn, seq, &row, &err), &err);
    assert_true(far_slice_equal(row, far_buf_slice(&rows[seq])));
}

static struct far_store_txn *reading(void)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(store, false, &txn, &err), &err);
    return txn;
}

/* Everything from `first` on: forward, backward, at random; before it nothing. */
static void check_all(uint64_t first)
{
    struct far_store_txn *txn = reading();
    struct far_slice row;
    assert_int_equal(far_store_meta(txn)->first_seq, first);
    assert_memory_equal(far_store_meta(txn)->base_head, heads[first - 1], FAR_HEAD_SIZE);
    assert_int_equal(far_store_event_row(txn, first - 1, &row, NULL), FAR_NOT_FOUND);
    for (uint64_t seq = first; seq <= EVENTS; seq++) {
        check_event(txn, seq);
    }
    for (uint64_t seq = EVENTS; seq >= first; seq--) {
        check_event(txn, seq);
    }
    for (int i = 0; i < 2000; i++) {
        check_event(txn, first + (uint64_t)rand_r(&seed) % (EVENTS - first + 1));
    }
    far_store_abort(txn);
}

static struct far_store_sizes sizes(void)
{
    struct far_store_sizes ret;
    struct far_store_txn *txn = reading();
    far_store_sizes(txn, &ret);
    far_store_abort(txn);
    return ret;
}

/* How many files there are whose names end so; the path of one of them. */
static int files(const char *end, char *path)
{
    char folder[300];
    int count = 0;
    snprintf(folder, sizeof folder, "%s/segments", dir);
    DIR *open_folder = opendir(folder);
    for (struct dirent *entry = open_folder == NULL ? NULL : readdir(open_folder); entry != NULL; entry = readdir(open_folder)) {
        size_t len = strlen(entry->d_name);
        if (len > 4 && strcmp(entry->d_name + len - 4, end) == 0) {
            count++;
            if (path != NULL) {
                snprintf(path, 600, "%s/%s", folder, entry->d_name);
            }
        }
    }
    if (open_folder != NULL) {
        closedir(open_folder);
    }
    return count;
}

static void write_step(int (*step)(struct far_store_txn *txn, void *arg, struct far_error *err), void *arg)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(store, true, &txn, &err), &err);
    must(step(txn, arg, &err), &err);
    must(far_store_commit(txn, &err), &err);
}

static int take(struct far_store_txn *txn, void *arg, struct far_error *err)
{
    return far_segments_take(txn, arg, err);
}

static int trim_100(struct far_store_txn *txn, void *arg, struct far_error *err)
{
    return far_segments_trim(txn, 100, arg, err);
}

static void reopen(void)
{
    far_store_close(store);
    open_store();
}

/* ---- tests: one story ---- */

static void nothing_is_sealed_before_it_is_due(void **state)
{
    (void)state;
    const struct far_seal_limits large = {.rows_max = EVENTS, .segment_events = 1};
    struct far_sealer *sealer;
    assert_int_equal(far_sealer_new(store, &large, &sealer, NULL), FAR_NOT_FOUND);
    assert_int_equal(far_sealer_new(store, &(struct far_seal_limits){.rows_max = 0}, &sealer, NULL), FAR_NOT_FOUND);
    check_all(EARLIEST);
}

static struct far_segment seal_file(void)
{
    struct far_sealer *sealer;
    struct far_segment segment = {0};
    struct far_error err = {0};
    bool done = false;
    must(far_sealer_new(store, &limits, &sealer, &err), &err);
    while (!done) {
        must(far_sealer_step(sealer, &done, &segment, &err), &err);
    }
    far_sealer_free(sealer);
    return segment;
}

static void a_crash_at_any_step_loses_nothing(void **state)
{
    (void)state;
    struct far_sealer *sealer;
    struct far_error err = {0};
    must(far_sealer_new(store, &limits, &sealer, &err), &err); /* the writer dies: a file that is not whole */
    assert_int_equal(files(".new", NULL), 1);
    char path[600], copy[620];
    files(".new", path);
    snprintf(copy, sizeof copy, "%s.new", path);
    assert_int_equal(link(path, copy), 0);
    far_sealer_free(sealer);
    assert_int_equal(files(".new", NULL), 1);
    reopen();
    assert_int_equal(files(".new", NULL), 0);
    (void)seal_file(); /* before the record */
    assert_int_equal(files(".seg", NULL), 1);
    reopen();
    assert_int_equal(files(".seg", NULL), 0);
    check_all(EARLIEST);
    struct far_segment segment = seal_file(); /* before any row is removed */
    assert_int_equal(segment.first_seq, EARLIEST);
    assert_int_equal(segment.last_seq, EARLIEST + 699);
    write_step(take, &segment);
    uint64_t rows_before = sizes().event_rows;
    reopen();
    assert_int_equal(files(".seg", NULL), 1);
    check_all(EARLIEST);
    bool more = false;
    write_step(trim_100, &more); /* before the last row is removed */
    assert_true(more);
    assert_int_equal(sizes().event_rows, rows_before - 100);
    reopen();
    check_all(EARLIEST);
}

static void the_same_events_are_not_noted_twice(void **state)
{
    (void)state;
    struct far_store_txn *txn = reading();
    struct far_segment segment;
    assert_int_equal(store->ops->segment_seek(txn, 1, &segment, NULL), 0);
    far_store_abort(txn);
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    assert_int_equal(far_segments_take(txn, &segment, NULL), FAR_CONFLICT);
    segment.first_seq = segment.last_seq + 1; /* another history */
    segment.last_seq += 10;
    assert_int_equal(far_segments_take(txn, &segment, NULL), FAR_CONFLICT);
    far_store_abort(txn);
}

static void the_newest_stay_rows_and_all_is_read_as_before(void **state)
{
    (void)state;
    struct far_error err = {0};
    must(far_segments_seal_all(store, &limits, &err), &err);
    assert_true(sizes().event_rows >= 1000 && sizes().event_rows < 1700);
    assert_true(files(".seg", NULL) >= 4);
    check_all(EARLIEST);
    reopen();
    check_all(EARLIEST);
}

static void older_events_that_come_later_are_sealed_too(void **state)
{
    (void)state;
    struct far_error err = {0};
    for (uint64_t seq = EARLIEST - 1; seq > 0; seq--) {
        struct far_store_txn *txn;
        struct far_event event;
        must(far_store_begin(store, true, &txn, &err), &err);
        must(far_event_row_decode(far_buf_slice(&rows[seq]), &event, NULL, &err), &err);
        must(far_store_event_prepend(txn, &event, heads[seq - 1], &err), &err);
        must(far_store_commit(txn, &err), &err);
        if (seq % 100 == 1) {
            must(far_segments_seal_all(store, &limits, &err), &err);
            check_all(seq);
        }
    }
    assert_true(sizes().event_rows < 1000 + 700 + 100);
}

static int flip(const char *path, uint64_t bit)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte = 0;
    assert_true(fd >= 0 && pread(fd, &byte, 1, (off_t)(bit / 8)) == 1);
    byte ^= (uint8_t)(1u << bit % 8);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)(bit / 8)), 1);
    return close(fd);
}

static void no_flipped_bit_of_a_file_is_ever_read(void **state)
{
    (void)state;
    char path[600];
    struct stat st;
    assert_true(files(".seg", path) > 0);
    assert_int_equal(stat(path, &st), 0);
    int damaged = 0;
    for (int i = 0; i < 300; i++) {
        uint64_t bit = (uint64_t)rand_r(&seed) % ((uint64_t)st.st_size * 8);
        flip(path, bit);
        struct far_store_txn *txn = reading();
        for (uint64_t seq = 1; seq <= EVENTS; seq++) {
            struct far_slice row;
            struct far_error err = {0};
            int rv = far_store_event_row(txn, seq, &row, &err);
            if (rv == 0) {
                assert_true(far_slice_equal(row, far_buf_slice(&rows[seq])));
            } else {
                assert_int_equal(rv, FAR_CORRUPT);
                damaged++;
                break;
            }
        }
        far_store_abort(txn);
        flip(path, bit);
    }
    assert_true(damaged > 290); /* all but bits that nothing reads: zeroes of the trailer are checked, too */
    struct far_store_txn *txn = reading();
    struct far_segment segment;
    for (uint64_t seq = 1; store->ops->segment_seek(txn, seq, &segment, NULL) == 0; seq = segment.last_seq + 1) {
        struct far_error err = {0};
        must(far_segments_check(txn, &segment, &err), &err);
    }
    far_store_abort(txn);
}

static void a_file_that_is_gone_is_damage(void **state)
{
    (void)state;
    char path[600], away[610];
    assert_true(files(".seg", path) > 0);
    snprintf(away, sizeof away, "%s.away", path);
    assert_int_equal(rename(path, away), 0);
    struct far_store_txn *txn = reading();
    int missing = 0;
    for (uint64_t seq = 1; seq <= EVENTS; seq++) {
        struct far_slice row;
        int rv = far_store_event_row(txn, seq, &row, NULL);
        assert_true(rv == 0 || rv == FAR_CORRUPT);
        missing += rv != 0;
    }
    far_store_abort(txn);
    assert_true(missing > 0);
    assert_int_equal(rename(away, path), 0);
    check_all(1);
}

static int cut_100(struct far_store_txn *txn, void *arg, struct far_error *err)
{
    bool more;
    return far_segments_cut(txn, *(uint64_t *)arg, 100, &more, err);
}

static void a_cut_takes_whole_segments_and_reads_on_behind_it(void **state)
{
    (void)state;
    int before = files(".seg", NULL);
    uint64_t seq = 1500;
    write_step(cut_100, &seq);
    check_all(1500);
    assert_int_equal(far_store_sync(store, NULL), 0);
    assert_int_equal(far_segments_sweep(store, NULL), 0);
    assert_true(files(".seg", NULL) < before);
    check_all(1500);
    seq = 1000; /* behind: nothing */
    write_step(cut_100, &seq);
    check_all(1500);
    seq = EVENTS - 10; /* into the rows: the rest is removed by later calls */
    write_step(cut_100, &seq);
    check_all(EVENTS - 10);
    reopen();
    for (int i = 0; i < 20; i++) {
        write_step(cut_100, &seq);
    }
    assert_int_equal(sizes().event_rows, 11);
    assert_int_equal(files(".seg", NULL), 0);
    check_all(EVENTS - 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_sealed_before_it_is_due),
        cmocka_unit_test(a_crash_at_any_step_loses_nothing),
        cmocka_unit_test(the_same_events_are_not_noted_twice),
        cmocka_unit_test(the_newest_stay_rows_and_all_is_read_as_before),
        cmocka_unit_test(older_events_that_come_later_are_sealed_too),
        cmocka_unit_test(no_flipped_bit_of_a_file_is_ever_read),
        cmocka_unit_test(a_file_that_is_gone_is_damage),
        cmocka_unit_test(a_cut_takes_whole_segments_and_reads_on_behind_it),
    };
    const char *given = getenv("FAR_SEED");
    seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();
    print_message("# FAR_SEED=%u\n", seed);
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
