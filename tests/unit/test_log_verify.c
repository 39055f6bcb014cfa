/* Offline verification: a good folder has no finding; a changed byte of state, events or WAL is found and named. */
#define _GNU_SOURCE
#include "../lib/cm.h"

#include "../lib/entries.h"
#include "../lib/remove_tree.h"
#include "base/clock.h"
#include "log/log.h"
#include "log/store.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SITES = 40, WAIT_MS = 20000, FLIPS = 60, FILE_MAX = 32 * 1024 * 1024 };
enum { META_PAGES = 8192 }; /* of LMDB: there a flip may undo the last commit */

static char dir[256], wal_name[1000];
static struct far_buf payload;
static uv_loop_t loop;

/* ---- a log of one server ---- */

struct call {
    bool is_done;
    int klass;
};

static void on_done(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct call *call = arg;
    (void)applied_index;
    call->is_done = true;
    call->klass = result->klass;
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

static void on_wake(uv_timer_t *timer)
{
    (void)timer;
}

static void must_propose(struct far_log *log, const struct far_command *command)
{
    uint64_t give_up = far_clock_monotonic_ms() + WAIT_MS;
    struct call call = {.klass = FAR_BUSY};
    while (call.klass == FAR_BUSY && far_clock_monotonic_ms() < give_up) {
        call = (struct call){0};
        far_log_propose(log, command, WAIT_MS, on_done, &call);
        while (!call.is_done) {
            uv_run(&loop, UV_RUN_ONCE);
        }
    }
    assert_int_equal(call.klass, 0);
}

static struct far_log_config config_of(void)
{
    return (struct far_log_config){.dir = dir, .server_id = 1, .address = "127.0.0.1:1", .election_ms = 500,
                                   .reserve_bytes = 4096, .low_space_bytes = 1, .full_space_bytes = 1,
                                   .map_bytes = (size_t)1 << 30};
}

static void write_log(void)
{
    struct far_log_config config = config_of();
    struct far_error err = {0};
    struct far_log *log = NULL;
    uv_timer_t waker;
    bool is_closed = false;
    assert_int_equal(uv_loop_init(&loop), 0);
    uv_timer_init(&loop, &waker);
    uv_timer_start(&waker, on_wake, 10, 10);
    if (far_log_bootstrap(&config, &err) != 0 || far_log_open(&config, &loop, NULL, NULL, NULL, &log, &err) != 0) {
        fail_msg("%s", err.message);
    }
    struct far_command command = far_test_cluster_init(&payload);
    must_propose(log, &command);
    for (uint64_t i = 1; i <= SITES; i++) {
        command = far_test_site_create(100 + i, &payload);
        must_propose(log, &command);
    }
    far_log_close(log, on_closed, &is_closed);
    uv_close((uv_handle_t *)&waker, NULL);
    while (uv_run(&loop, UV_RUN_DEFAULT) != 0) {
    }
    assert_true(is_closed);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* ---- files ---- */

struct bytes {
    uint8_t *data;
    size_t len;
};

static struct bytes read_file(const char *name)
{
    char path[1000];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    struct bytes bytes = {.data = malloc(FILE_MAX)};
    assert_non_null(bytes.data);
    bytes.len = fread(bytes.data, 1, FILE_MAX, file);
    fclose(file);
    return bytes;
}

static void flip(const char *name, size_t at, uint8_t bits)
{
    char path[1000];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    fputc(byte ^ bits, file);
    assert_int_equal(fclose(file), 0);
}

/* ---- what verification says ---- */

struct said {
    unsigned bad;
    char text[65536];
};

static void on_report(void *arg, bool good, const char *text)
{
    struct said *said = arg;
    said->bad += !good;
    size_t len = strlen(said->text);
    snprintf(said->text + len, sizeof said->text - len, "%c%s\n", good ? '+' : '-', text);
}

static struct said said;

static int verify(void)
{
    memset(&said, 0, sizeof said);
    int rv = far_log_verify(dir, on_report, &said, NULL);
    assert_int_equal(rv, said.bad > 0 ? FAR_CORRUPT : 0);
    return rv;
}

/* Flip each place of the file that holds the text; some finding holds all the words. */
static void assert_found(const char *name, const char *text, const char *word, const char *other_word)
{
    struct bytes bytes = read_file(name);
    unsigned places = 0;
    bool is_named = false;
    for (uint8_t *at = bytes.data; (at = memmem(at, bytes.len - (size_t)(at - bytes.data), text, strlen(text))) != NULL; at++) {
        flip(name, (size_t)(at - bytes.data), 0x04);
        if (verify() != 0) { /* old copies lie in free pages, too */
            is_named = is_named || (strstr(said.text, word) != NULL && strstr(said.text, other_word) != NULL);
        }
        flip(name, (size_t)(at - bytes.data), 0x04);
        places++;
    }
    free(bytes.data);
    if (!is_named) {
        fail_msg("%u places of '%s' in %s; the last said:\n%s", places, text, name, said.text);
    }
    assert_int_equal(verify(), 0);
}

/* ---- tests ---- */

static void a_good_folder_has_no_finding(void **state)
{
    (void)state;
    if (verify() != 0) {
        fail_msg("%s", said.text);
    }
    assert_non_null(strstr(said.text, "+state: equal to the fold of all events"));
}

static void a_changed_row_is_named_with_table_and_key(void **state)
{
    (void)state;
    assert_found("state/data.mdb", "site-110", "-state, table site, key", "its checksum is wrong");
}

/* The name of a site is part of a key that the history has, too: that the row was not there before. */
static void a_changed_row_of_the_past_is_found(void **state)
{
    (void)state;
    struct bytes bytes = read_file("state/data.mdb");
    unsigned found = 0;
    for (uint8_t *at = bytes.data; (at = memmem(at, bytes.len - (size_t)(at - bytes.data), "site-110", 8)) != NULL; at++) {
        flip("state/data.mdb", (size_t)(at - bytes.data), 0x04);
        (void)verify();
        found += strstr(said.text, "-history of event") != NULL;
        flip("state/data.mdb", (size_t)(at - bytes.data), 0x04);
    }
    free(bytes.data);
    assert_int_equal(verify(), 0);
    assert_non_null(strstr(said.text, "+history back to event 0"));
    assert_true(found > 0);
}

static void a_changed_event_is_named_with_its_seq(void **state)
{
    (void)state;
    assert_found("state/data.mdb", "site-110", "-store, table events, seq", "its checksum is wrong");
}

/* As where a segment is damaged: one finding, and one for all that lie behind it. */
static void events_that_are_missing_in_a_row_are_no_flood_of_findings(void **state)
{
    (void)state;
    struct bytes whole = read_file("state/data.mdb");
    struct far_store *store;
    struct far_store_txn *txn;
    char path[1000];
    size_t removed = 0;
    snprintf(path, sizeof path, "%s/state", dir);
    assert_int_equal(far_store_open_lmdb(path, 0, false, &store, NULL), 0);
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    assert_int_equal(store->ops->event_remove(txn, 10, 29, 100, &removed, NULL), 0);
    assert_int_equal(far_store_commit(txn, NULL), 0);
    far_store_close(store);
    assert_int_equal(removed, 20);
    assert_int_equal(verify(), FAR_CORRUPT);
    assert_non_null(strstr(said.text, "seq 10: missing"));
    assert_null(strstr(said.text, "seq 11"));
    assert_null(strstr(said.text, "seq 29"));
    assert_non_null(strstr(said.text, "-events 11 to 29: cannot be read either"));
    snprintf(path, sizeof path, "%s/state/data.mdb", dir);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(whole.data, 1, whole.len, file), whole.len);
    assert_int_equal(fclose(file), 0);
    free(whole.data);
    assert_int_equal(verify(), 0);
}

static void a_changed_byte_of_the_wal_is_named_with_its_file(void **state)
{
    (void)state;
    const char *base = strrchr(wal_name, '/');
    assert_found(wal_name, "site-110", "-", base + 1);
}

/* What looks like the tear of a crash is damage when the record was stored: the state knows. */
static void a_changed_byte_of_the_last_record_of_the_wal_is_found(void **state)
{
    (void)state;
    struct bytes bytes = read_file(wal_name);
    size_t last = bytes.len;
    while (last > 0 && bytes.data[last - 1] == 0) {
        last--;
    }
    free(bytes.data);
    flip(wal_name, last - 1, 0x04);
    assert_int_equal(verify(), FAR_CORRUPT);
    assert_non_null(strstr(said.text, strrchr(wal_name, '/') + 1));
    assert_non_null(strstr(said.text, "was stored"));
    flip(wal_name, last - 1, 0x04);
    assert_int_equal(verify(), 0);
}

static void no_flipped_byte_changes_what_is_read_unnoticed(void **state)
{
    (void)state;
    const char *given = getenv("FAR_SEED");
    unsigned seed = given != NULL ? (unsigned)atoi(given) : (unsigned)getpid(), found = 0;
    printf("# seed %u\n", seed);
    struct bytes bytes = read_file("state/data.mdb");
    verify();
    char *before = strdup(said.text);
    for (int i = 0; i < FLIPS; i++) {
        size_t at = META_PAGES + (size_t)rand_r(&seed) % (bytes.len - META_PAGES);
        flip("state/data.mdb", at, 0x10);
        if (verify() == 0) { /* an unused place: every word is as before, digest and head included */
            assert_string_equal(said.text, before);
        } else {
            found++;
        }
        flip("state/data.mdb", at, 0x10);
    }
    printf("# %u of %d flips were in use\n", found, FLIPS);
    free(before);
    free(bytes.data);
    assert_int_equal(verify(), 0);
}

static void a_running_server_is_not_disturbed(void **state)
{
    (void)state;
    struct far_log_config config = config_of();
    struct far_error err = {0};
    struct far_log *log;
    bool is_closed = false;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(far_log_open(&config, &loop, NULL, NULL, NULL, &log, &err), 0);
    assert_int_equal(far_log_verify(dir, on_report, &said, &err), FAR_CONFLICT);
    far_log_close(log, on_closed, &is_closed);
    while (uv_run(&loop, UV_RUN_DEFAULT) != 0) {
    }
    assert_true(is_closed);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static int expect_refusal(int want)
{
    struct far_log_config config = config_of();
    struct far_error err = {0};
    struct far_log *log;
    assert_int_equal(uv_loop_init(&loop), 0);
    int rv = far_log_open(&config, &loop, NULL, NULL, NULL, &log, &err);
    while (uv_run(&loop, UV_RUN_DEFAULT) != 0) {
    }
    assert_int_equal(uv_loop_close(&loop), 0);
    if (rv != want) {
        print_message("%s\n", err.message);
    }
    return rv;
}

/* The last test: it spoils the folder. */
static void a_server_that_lost_its_wal_does_not_start(void **state)
{
    (void)state;
    char path[1000];
    snprintf(path, sizeof path, "%s/wal", dir);
    assert_int_equal(far_test_remove_tree(path), 0);
    assert_int_equal(expect_refusal(FAR_CORRUPT), FAR_CORRUPT);
}

static void find_wal(void)
{
    char path[1000];
    snprintf(path, sizeof path, "%s/wal", dir);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        snprintf(path, sizeof path, "wal/%s", entry->d_name);
        if (entry->d_name[0] == '.') {
            continue;
        }
        struct bytes bytes = read_file(path);
        if (memmem(bytes.data, bytes.len, "site-110", 8) != NULL) {
            memcpy(wal_name, path, sizeof path);
        }
        free(bytes.data);
    }
    closedir(folder);
    assert_true(wal_name[0] != '\0');
}

static int setup(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/far-verify-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(dir));
    far_buf_init(&payload, 64 * 1024);
    write_log();
    find_wal();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    far_buf_done(&payload);
    return far_test_remove_tree(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_folder_has_no_finding),
        cmocka_unit_test(a_changed_row_is_named_with_table_and_key),
        cmocka_unit_test(a_changed_row_of_the_past_is_found),
        cmocka_unit_test(a_changed_event_is_named_with_its_seq),
        cmocka_unit_test(events_that_are_missing_in_a_row_are_no_flood_of_findings),
        cmocka_unit_test(a_changed_byte_of_the_wal_is_named_with_its_file),
        cmocka_unit_test(a_changed_byte_of_the_last_record_of_the_wal_is_found),
        cmocka_unit_test(no_flipped_byte_changes_what_is_read_unnoticed),
        cmocka_unit_test(a_running_server_is_not_disturbed),
        cmocka_unit_test(a_server_that_lost_its_wal_does_not_start),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
