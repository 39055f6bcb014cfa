/* The WAL on a real folder: what was stored is there, torn tails are told from damage, full disks wait, errors stop. The
 * depth of crashes is in tests/sim. */
#include "../lib/cm.h"

#include "log/raft_wal.h"
#include "log/raft_wal_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEGMENT = 4096 };

/* ---- a disk that fails on purpose ---- */

struct weak_disk {
    struct far_disk disk; /* first */
    struct far_disk *real;
    unsigned left; /* operations that change something until it fails; 0 = never */
    int klass;     /* FAR_LIMIT: as long as it is set; FAR_IO */
};

static struct weak_disk weak;
static char dir[64];

static bool fails(struct far_disk *disk, struct far_error *err, int *ret_rc)
{
    struct weak_disk *w = (struct weak_disk *)(void *)disk;
    if (w->left == 0 || --w->left > 0) {
        return false;
    }
    w->left = 1; /* and from now on */
    *ret_rc = far_fail(err, w->klass, "on purpose");
    return true;
}

static int weak_open(struct far_disk *d, const char *name, bool create, struct far_file **ret, struct far_error *err)
{
    return weak.real->ops->open(weak.real, name, create, ret, err);
}
static void weak_close(struct far_disk *d, struct far_file *file)
{
    weak.real->ops->close(weak.real, file);
}
static int weak_size(struct far_disk *d, struct far_file *file, uint64_t *ret, struct far_error *err)
{
    return weak.real->ops->size(weak.real, file, ret, err);
}
static int weak_read(struct far_disk *d, struct far_file *f, uint64_t at, void *data, size_t n, struct far_error *err)
{
    return weak.real->ops->read(weak.real, f, at, data, n, err);
}
static int weak_write(struct far_disk *d, struct far_file *f, uint64_t at, const void *data, size_t n,
                      struct far_error *err)
{
    int rc = 0;
    return fails(d, err, &rc) ? rc : weak.real->ops->write(weak.real, f, at, data, n, err);
}
static int weak_truncate(struct far_disk *d, struct far_file *file, uint64_t bytes, struct far_error *err)
{
    int rc = 0;
    return fails(d, err, &rc) ? rc : weak.real->ops->truncate(weak.real, file, bytes, err);
}
static int weak_sync(struct far_disk *d, struct far_file *file, struct far_error *err)
{
    int rc = 0;
    return fails(d, err, &rc) ? rc : weak.real->ops->sync(weak.real, file, err);
}
static int weak_remove(struct far_disk *d, const char *name, struct far_error *err)
{
    int rc = 0;
    return fails(d, err, &rc) ? rc : weak.real->ops->remove(weak.real, name, err);
}
static int weak_sync_dir(struct far_disk *d, struct far_error *err)
{
    int rc = 0;
    return fails(d, err, &rc) ? rc : weak.real->ops->sync_dir(weak.real, err);
}
static int weak_list(struct far_disk *d, far_disk_name_fn each, void *arg, struct far_error *err)
{
    return weak.real->ops->list(weak.real, each, arg, err);
}
static uint64_t weak_free_bytes(struct far_disk *d)
{
    return weak.real->ops->free_bytes(weak.real);
}
static const struct far_disk_ops weak_ops = {
    .open = weak_open, .close = weak_close, .size = weak_size, .read = weak_read, .write = weak_write,
    .truncate = weak_truncate, .sync = weak_sync, .remove = weak_remove, .sync_dir = weak_sync_dir, .list = weak_list,
    .free_bytes = weak_free_bytes,
};

/* ---- the WAL under test ---- */

static struct far_wal_job *job;
static uint64_t stored_last;
static unsigned full_count, fatal_count;

static void submit(void *arg, struct far_wal_job *new_job)
{
    job = new_job;
}
static void work(void)
{
    while (job != NULL) {
        struct far_wal_job *now = job;
        job = NULL;
        now->run(now);
        now->done(now);
    }
}
static void on_stored(void *arg, const struct far_wal_stored *stored)
{
    stored_last = stored->count > 0 ? stored->first_index + stored->count - 1 : stored_last;
}
static void on_full(void *arg, const struct far_error *err)
{
    full_count++;
}
static void on_fatal(void *arg, const struct far_error *err)
{
    fatal_count++;
}

static struct far_wal_config config_of(void)
{
    return (struct far_wal_config){.disk = &weak.disk, .executor = {.submit = submit}, .segment_bytes = SEGMENT, .salt = 5,
                                   .on_stored = on_stored, .on_full = on_full, .on_fatal = on_fatal};
}

/* Entries first to last of this term; their data says both. */
static int append(struct far_wal *wal, uint64_t first, uint64_t last, uint64_t term)
{
    int rc = 0;
    for (uint64_t index = first; index <= last && rc == 0; index++) {
        uint64_t words[8] = {index, term, index * term, 1, 2, 3, 4, 5};
        struct far_wal_entry entry = {.index = index, .term = term, .type = 1,
                                      .blob = far_blob_new(words, sizeof words)};
        rc = far_wal_append(wal, &entry, 1, NULL);
        far_wal_write(wal);
        far_blob_unref(entry.blob);
    }
    return rc;
}

static void expect(const struct far_wal_loaded *log, uint64_t base, uint64_t last)
{
    assert_int_equal(log->base_index, base);
    assert_int_equal(log->base_index + log->count, last);
    for (size_t i = 0; i < log->count; i++) {
        const struct far_wal_entry *entry = &log->entries[i];
        uint64_t words[8];
        assert_int_equal(entry->index, base + 1 + i);
        assert_int_equal(entry->blob->len, sizeof words);
        memcpy(words, entry->blob->data, sizeof words);
        assert_int_equal(words[0], entry->index);
        assert_int_equal(words[1], entry->term);
    }
}

static int try_open(const struct far_wal_config *config, struct far_wal **wal, struct far_wal_loaded *log)
{
    struct far_error err = {0};
    int rc = far_wal_open(config, wal, log, &err);
    if (rc == FAR_CORRUPT) {
        assert_true(strlen(err.message) > 0);
    }
    return rc;
}

/* A log of entries 1 to n, each a record of its own, closed again. */
static void make_log(uint64_t n)
{
    struct far_wal_config config = config_of();
    struct far_wal *wal;
    struct far_wal_loaded log;
    assert_int_equal(try_open(&config, &wal, &log), 0);
    assert_int_equal(far_wal_set_vote(wal, 3, 2, NULL), 0);
    for (uint64_t i = 1; i <= n; i++) {
        assert_int_equal(append(wal, i, i, 1), 0);
        work();
    }
    assert_int_equal(stored_last, n);
    far_wal_loaded_done(&log);
    far_wal_close(wal);
}

static void path_of(char path[128], const char *name)
{
    snprintf(path, 128, "%s/%s", dir, name);
}

static size_t read_file(const char *name, uint8_t *bytes, size_t max)
{
    char path[128];
    path_of(path, name);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t n = read(fd, bytes, max);
    close(fd);
    return (size_t)n;
}

static void flip(const char *name, size_t at)
{
    char path[128];
    uint8_t byte = 0;
    path_of(path, name);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1);
    byte ^= 0x41;
    assert_true(pwrite(fd, &byte, 1, (off_t)at) == 1);
    close(fd);
}

static int clear(void **state)
{
    (void)state;
    for (unsigned i = 1; i < 64; i++) {
        char path[128], name[32];
        snprintf(name, sizeof name, "%016x.wal", i);
        path_of(path, name);
        unlink(path);
    }
    char path[128];
    path_of(path, "vote-a");
    unlink(path);
    path_of(path, "vote-b");
    unlink(path);
    weak.left = 0;
    stored_last = full_count = fatal_count = 0;
    job = NULL;
    return 0;
}

#define SEGMENT_1 "0000000000000001.wal"

static void what_was_stored_is_there_again(void **state)
{
    struct far_wal_config config = config_of();
    struct far_wal *wal;
    struct far_wal_loaded log;
    make_log(100); /* several segments */
    assert_int_equal(try_open(&config, &wal, &log), 0);
    expect(&log, 0, 100);
    assert_int_equal(log.term, 3);
    assert_int_equal(log.vote, 2);
    far_wal_loaded_done(&log);
    append(wal, 81, 90, 2); /* replaces 81 to 100 */
    work();
    assert_int_equal(stored_last, 90);
    far_wal_close(wal);
    assert_int_equal(try_open(&config, &wal, &log), 0);
    expect(&log, 0, 90);
    assert_int_equal(log.entries[79].term, 1);
    assert_int_equal(log.entries[80].term, 2);
    far_wal_loaded_done(&log);
    far_wal_close(wal);
}

static void what_waits_during_a_write_goes_out_as_one(void **state)
{
    struct far_wal_config config = config_of();
    struct far_wal *wal;
    struct far_wal_loaded log;
    assert_int_equal(try_open(&config, &wal, &log), 0);
    far_wal_set_vote(wal, 1, 0, NULL);
    append(wal, 1, 1, 1);
    append(wal, 2, 9, 1);
    append(wal, 6, 7, 2);
    assert_true(far_wal_busy(wal));
    assert_int_equal(stored_last, 0); /* never within the call */
    work();
    assert_int_equal(stored_last, 7);
    far_wal_close(wal);
    assert_int_equal(try_open(&config, &wal, &log), 0);
    expect(&log, 0, 7);
    assert_int_equal(log.entries[5].term, 2);
    far_wal_loaded_done(&log);
    far_wal_close(wal);
}

/* Wherever a bit flips: refused, unless it is in the last record (then it looks torn, and only LMDB knows better) or in
 * space that was never used. */
static void no_flipped_byte_is_taken_for_something_else(void **state)
{
    static uint8_t bytes[64 * 1024];
    struct far_wal_config config = config_of();
    struct far_wal *wal;
    struct far_wal_loaded log;
    make_log(20);
    size_t record = FAR_WAL_RECORD_HEADER_BYTES + FAR_WAL_ENTRY_HEADER_BYTES + 64;
    size_t last = FAR_WAL_HEADER_BYTES + 19 * record;
    assert_true(read_file(SEGMENT_1, bytes, sizeof bytes) == SEGMENT);
    for (size_t at = 0; at < last; at++) {
        flip(SEGMENT_1, at);
        assert_int_equal(try_open(&config, &wal, &log), FAR_CORRUPT);
        flip(SEGMENT_1, at);
    }
    config.trusted_index = 20;
    config.trusted_term = 1;
    for (size_t at = last; at < last + record; at++) {
        flip(SEGMENT_1, at);
        assert_int_equal(try_open(&config, &wal, &log), FAR_CORRUPT); /* LMDB knows of 20 */
        flip(SEGMENT_1, at);
    }
    assert_int_equal(try_open(&config, &wal, &log), 0); /* and nothing of it was changed by the refusals */
    expect(&log, 0, 20);
    far_wal_loaded_done(&log);
    far_wal_close(wal);
}

static void a_torn_tail_is_cut_wherever_it_tore(void **state)
{
    size_t record = FAR_WAL_RECORD_HEADER_BYTES + FAR_WAL_ENTRY_HEADER_BYTES + 64;
    size_t last = FAR_WAL_HEADER_BYTES + 4 * record;
    for (size_t torn = 1; torn < record; torn += 17) {
        struct far_wal_config config = config_of();
        struct far_wal *wal;
        struct far_wal_loaded log;
        char path[128];
        clear(NULL);
        make_log(5);
        path_of(path, SEGMENT_1);
        assert_int_equal(truncate(path, (off_t)(last + torn)), 0);
        assert_int_equal(try_open(&config, &wal, &log), 0);
        expect(&log, 0, 4);
        far_wal_loaded_done(&log);
        append(wal, 5, 6, 2);
        work();
        far_wal_close(wal);
        assert_int_equal(try_open(&config, &wal, &log), 0);
        expect(&log, 0, 6);
        far_wal_loaded_done(&log);
        far_wal_close(wal);
    }
}

static void a_log_that_ends_before_what_is_trusted_is_refused(void **state)
{
    struct far_wal_config config = config_of();
    struct far_wal *wal;
    struct far_wal_loaded log;
    make_log(20);
    config.trusted_index = 21;
    config.trusted_term = 1;
    assert_int_equal(try_open(&config, &wal, &log), FAR_CORRUPT);
    config.trusted_index = 20;
    assert_int_equal(try_open(&config, &wal, &log), 0);
    far_wal_loaded_done(&log);
    append(wal, 10, 12, 2); /* 20 was replaced since: that is no loss */
    work();
    far_wal_close(wal);
    assert_int_equal(try_open(&config, &wal, &log), 0);
    expect(&log, 0, 12);
    far_wal_loaded_done(&log);
    far_wal_close(wal);
}

static void a_missing_segment_is_damage(void **state)
{
    struct far_wal_config config = config_of();
    struct far_wal *wal;
    struct far_wal_loaded log;
    char path[128];
    make_log(100);
    path_of(path, "0000000000000002.wal");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(try_open(&config, &wal, &log), FAR_CORRUPT);
}

static void term_and_vote_survive_the_loss_of_one_copy(void **state)
{
    static const char *const names[] = {"vote-a", "vote-b"};
    struct far_wal_config config = config_of();
    struct far_wal *wal;
    struct far_wal_loaded log;
    make_log(2);
    for (unsigned i = 0; i < 2; i++) {
        flip(names[i], 17);
        assert_int_equal(try_open(&config, &wal, &log), 0);
        assert_int_equal(log.term, 3);
        assert_int_equal(log.vote, 2);
        far_wal_loaded_done(&log);
        far_wal_close(wal); /* and it has been written anew: the other one may go now */
    }
    flip(names[0], 17);
    flip(names[1], 17);
    assert_int_equal(try_open(&config, &wal, &log), FAR_CORRUPT);
}

static void a_full_disk_waits_and_goes_on(void **state)
{
    struct far_wal_config config = config_of();
    struct far_wal *wal;
    struct far_wal_loaded log;
    assert_int_equal(try_open(&config, &wal, &log), 0);
    assert_int_equal(far_wal_set_vote(wal, 1, 0, NULL), 0);
    weak.klass = FAR_LIMIT;
    for (unsigned n = 1; n < 6; n++) { /* at any operation of the making of a segment, too */
        uint64_t before = stored_last;
        weak.left = n;
        append(wal, before + 1, before + 40, 1);
        work();
        if (full_count > 0) {
            uint64_t stuck_at = stored_last;
            assert_true(stuck_at < before + 40);
            append(wal, before + 41, before + 42, 1);
            work(); /* nothing is begun while it is full */
            assert_int_equal(stored_last, stuck_at);
            weak.left = full_count = 0;
            far_wal_retry(wal);
            work();
        }
        weak.left = 0;
        assert_true(stored_last >= before + 40);
    }
    assert_int_equal(fatal_count, 0);
    uint64_t last = stored_last;
    far_wal_close(wal);
    assert_int_equal(try_open(&config, &wal, &log), 0);
    expect(&log, 0, last);
    far_wal_loaded_done(&log);
    far_wal_close(wal);
}

/* Whichever operation fails: the server is told to stop, and what was called stored is there at the next start. */
static void any_other_error_stops_and_loses_nothing_stored(void **state)
{
    weak.klass = FAR_IO;
    for (unsigned n = 1; n < 40; n++) {
        struct far_wal_config config = config_of();
        struct far_wal *wal;
        struct far_wal_loaded log;
        clear(NULL);
        assert_int_equal(try_open(&config, &wal, &log), 0);
        assert_int_equal(far_wal_set_vote(wal, 1, 0, NULL), 0);
        weak.left = n;
        for (uint64_t i = 1; i <= 36 && fatal_count == 0; i++) {
            append(wal, i, i, 1);
            if (i == 33) {
                far_wal_cut(wal, 32);
            }
            work();
        }
        assert_int_equal(fatal_count, 1);
        weak.left = 0;
        far_wal_close(wal);
        uint64_t told = stored_last;
        assert_int_equal(try_open(&config, &wal, &log), 0);
        assert_true(log.base_index + log.count >= told);
        expect(&log, log.base_index, log.base_index + log.count);
        far_wal_loaded_done(&log);
        far_wal_close(wal);
    }
}

static void old_segments_go_and_the_rest_stays(void **state)
{
    struct far_wal_config config = config_of();
    struct far_wal *wal;
    struct far_wal_loaded log;
    make_log(100);
    assert_int_equal(try_open(&config, &wal, &log), 0);
    far_wal_loaded_done(&log);
    uint64_t before = far_wal_bytes(wal);
    far_wal_cut(wal, 70);
    work();
    assert_true(far_wal_bytes(wal) < before);
    far_wal_close(wal);
    assert_int_equal(try_open(&config, &wal, &log), 0);
    assert_in_range(log.base_index, 30, 70);
    expect(&log, log.base_index, 100);
    far_wal_loaded_done(&log);
    far_wal_reset(wal, 500, 7, NULL);
    append(wal, 501, 502, 8);
    work();
    far_wal_close(wal);
    assert_int_equal(try_open(&config, &wal, &log), 0);
    expect(&log, 500, 502);
    assert_int_equal(log.base_term, 7);
    far_wal_loaded_done(&log);
    far_wal_close(wal);
}

static void an_installed_state_empties_a_log_that_knows_nothing_of_it(void **state)
{
    struct far_wal_config config = config_of();
    struct far_wal *wal;
    struct far_wal_loaded log;
    make_log(20);
    config.installed_index = config.trusted_index = 15;
    config.installed_term = config.trusted_term = 1;
    assert_int_equal(try_open(&config, &wal, &log), 0); /* it is in the log: stays */
    expect(&log, 0, 20);
    far_wal_loaded_done(&log);
    far_wal_close(wal);
    config.installed_term = config.trusted_term = 9; /* another entry is in its place */
    assert_int_equal(try_open(&config, &wal, &log), 0);
    expect(&log, 15, 15);
    assert_int_equal(log.base_term, 9);
    work();
    far_wal_close(wal);
    config.installed_index = config.trusted_index = 90;
    assert_int_equal(try_open(&config, &wal, &log), 0);
    expect(&log, 90, 90);
    work();
    far_wal_close(wal);
    clear(NULL); /* but a folder without a vote has lost its memory */
    assert_int_equal(try_open(&config, &wal, &log), FAR_CORRUPT);
}

/* A client that knows the format writes a record into its data; the record that holds it tears. */
static void data_that_looks_like_a_record_is_not_one(void **state)
{
    static uint8_t data[512];
    uint8_t *inner = data + 64; /* at a multiple of 8 of the file */
    struct far_wal_config config = config_of();
    struct far_wal *wal;
    struct far_wal_loaded log;
    far_wal_record_header(inner, 2, 0, 99, far_slice(NULL, 0));
    assert_int_equal(try_open(&config, &wal, &log), 0);
    far_wal_set_vote(wal, 1, 0, NULL);
    struct far_wal_entry entry = {.index = 1, .term = 1, .type = 1, .blob = far_blob_new(data, sizeof data)};
    assert_int_equal(far_wal_append(wal, &entry, 1, NULL), 0);
    far_wal_write(wal);
    work();
    far_blob_unref(entry.blob);
    far_wal_close(wal);
    flip(SEGMENT_1, FAR_WAL_HEADER_BYTES + FAR_WAL_RECORD_HEADER_BYTES + 3);
    assert_int_equal(try_open(&config, &wal, &log), 0);
    assert_int_equal(log.count, 0);
    far_wal_loaded_done(&log);
    far_wal_close(wal);
}

static unsigned bad_findings;
static char bad_text[FAR_MESSAGE_MAX];
static void note_finding(void *arg, bool good, const char *text)
{
    if (!good) {
        bad_findings++;
        snprintf(bad_text, sizeof bad_text, "%s", text);
    }
}

static void verify_names_file_and_offset(void **state)
{
    struct far_error err = {0};
    struct far_wal_config verified = {.disk = &weak.disk};
    make_log(100);
    bad_findings = 0;
    assert_int_equal(far_wal_verify(&verified, note_finding, NULL, &err), 0);
    assert_int_equal(bad_findings, 0);
    flip("0000000000000002.wal", FAR_WAL_HEADER_BYTES + 40);
    assert_int_equal(far_wal_verify(&verified, note_finding, NULL, &err), FAR_CORRUPT);
    assert_non_null(strstr(bad_text, "0000000000000002.wal"));
    assert_non_null(strstr(bad_text, "offset 64"));
    flip("0000000000000002.wal", FAR_WAL_HEADER_BYTES + 40);
    flip("vote-b", 20);
    assert_int_equal(far_wal_verify(&verified, note_finding, NULL, &err), FAR_CORRUPT);
    assert_non_null(strstr(bad_text, "vote-b"));
}

static int setup(void **state)
{
    snprintf(dir, sizeof dir, "/tmp/far-wal-XXXXXX");
    assert_non_null(mkdtemp(dir));
    weak.disk.ops = &weak_ops;
    return far_disk_posix_new(dir, &weak.real, NULL);
}

static int teardown(void **state)
{
    clear(NULL);
    far_disk_posix_free(weak.real);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_was_stored_is_there_again, clear),
        cmocka_unit_test_setup(what_waits_during_a_write_goes_out_as_one, clear),
        cmocka_unit_test_setup(no_flipped_byte_is_taken_for_something_else, clear),
        cmocka_unit_test_setup(a_torn_tail_is_cut_wherever_it_tore, clear),
        cmocka_unit_test_setup(a_log_that_ends_before_what_is_trusted_is_refused, clear),
        cmocka_unit_test_setup(a_missing_segment_is_damage, clear),
        cmocka_unit_test_setup(term_and_vote_survive_the_loss_of_one_copy, clear),
        cmocka_unit_test_setup(a_full_disk_waits_and_goes_on, clear),
        cmocka_unit_test_setup(any_other_error_stops_and_loses_nothing_stored, clear),
        cmocka_unit_test_setup(old_segments_go_and_the_rest_stays, clear),
        cmocka_unit_test_setup(an_installed_state_empties_a_log_that_knows_nothing_of_it, clear),
        cmocka_unit_test_setup(data_that_looks_like_a_record_is_not_one, clear),
        cmocka_unit_test_setup(verify_names_file_and_offset, clear),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
