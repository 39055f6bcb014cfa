/* Single flipped bits in a server's files: no changed value is ever returned; a row that a damaged page hides is found by one
 * walk; the log is as it was, or refused. Each bit by itself, in a process of its own: where LMDB's own structure is hit that
 * may die, which is how a server stops. FAR_FLIPS: how many (300). */
#define _GNU_SOURCE
#include "../lib/cm.h"

#include "../lib/entries.h"
#include "../lib/log_kit.h"
#include "base/file.h"
#include "log/chain.h"
#include "log/raft_wal_load.h"
#include "log/segments.h"
#include "log/walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SITES = 1200, FILES_MAX = 64, CHILD_SECONDS = 30 };
enum outcome { SAME = 0, REFUSED = 1, OLDER = 2, CHANGED = 10, UNNOTICED = 11, LOST = 12 };

static struct far_buf payload;
static char state_dir[400], wal_dir[400];

struct pair {
    struct far_slice key, value;
};
static struct pair *rows;
static size_t row_count, row_cap;
static struct far_slice *events; /* rows by seq - first_seq */
static struct far_store_meta meta;
static struct far_wal_loaded wal;

static struct far_slice copy(struct far_slice from)
{
    uint8_t *to = malloc(from.len + 1);
    assert_non_null(to);
    memcpy(to, from.data, from.len);
    return far_slice(to, from.len);
}

/* ---- what there is ---- */

static unsigned many_open;
static void on_one(void *arg, const struct far_result *result, uint64_t applied_index)
{
    (void)arg;
    (void)result;
    (void)applied_index;
    many_open--;
}

static void remember(void)
{
    struct far_store *store;
    struct far_store_txn *txn;
    struct far_slice key, value, row;
    uint8_t at[FAR_KV_KEY_MAX + 1];
    size_t at_len = 0;
    assert_int_equal(far_store_open_lmdb(state_dir, 0, true, &store, NULL), 0);
    assert_int_equal(far_store_begin(store, false, &txn, NULL), 0);
    struct far_kv *kv = far_store_kv(txn);
    meta = *far_store_meta(txn);
    while (kv->ops->seek(kv, far_slice(at, at_len), &key, &value, NULL) == 0) {
        if (row_count == row_cap) {
            row_cap = row_cap == 0 ? 1024 : 2 * row_cap;
            rows = realloc(rows, row_cap * sizeof *rows);
            assert_non_null(rows);
        }
        rows[row_count++] = (struct pair){copy(key), copy(value)};
        memcpy(at, key.data, key.len);
        at[key.len] = 0;
        at_len = key.len + 1;
    }
    events = calloc(meta.last_seq + 1, sizeof *events);
    assert_non_null(events);
    for (uint64_t seq = meta.first_seq; seq <= meta.last_seq; seq++) {
        assert_int_equal(far_store_event_row(txn, seq, &row, NULL), 0);
        events[seq - meta.first_seq] = copy(row);
    }
    far_store_abort(txn);
    far_store_close(store);
}

static int scan_wal(struct far_wal_scan *scan, struct far_error *err)
{
    struct far_disk *disk;
    struct far_wal_votes votes;
    struct far_wal_config config = {.trusted_index = meta.stored_index, .trusted_term = meta.stored_term};
    *scan = (struct far_wal_scan){.trusted_index = meta.stored_index, .trusted_term = meta.stored_term};
    int rv = far_disk_posix_new(wal_dir, &disk, err);
    if (rv != 0) {
        return rv;
    }
    config.disk = disk;
    rv = far_wal_scan_read(disk, scan, err);
    rv = rv != 0 ? rv : far_wal_vote_read(disk, true, &votes, err);
    rv = rv != 0 ? rv : far_wal_check_trust(&config, scan, &votes, err);
    far_disk_posix_free(disk);
    return rv;
}

static int setup(void **state)
{
    far_buf_init(&payload, 64 * 1024);
    kit_setup(state);
    kit_make_server(1);
    struct kit_server *server = &kit_servers[1];
    WAIT_FOR(kit_leader() != NULL);
    struct far_command init = far_test_cluster_init(&payload);
    assert_int_equal(kit_propose(server, &init).result.klass, 0);
    for (int i = 0; i < SITES; i++) {
        struct far_command command = far_test_site_create(kit_next_number++, &payload);
        many_open++;
        far_log_propose(server->log, &command, KIT_CALL_MS, on_one, NULL);
        WAIT_FOR(many_open < 8);
    }
    WAIT_FOR(many_open == 0);
    snprintf(state_dir, sizeof state_dir, "%s/state", server->dir);
    snprintf(wal_dir, sizeof wal_dir, "%s/wal", server->dir);
    char path[420];
    snprintf(path, sizeof path, "%s/segments", state_dir);
    WAIT_FOR(access(path, F_OK) == 0);
    kit_close_server(server);
    remember();
    struct far_wal_scan scan;
    struct far_error err = {0};
    assert_int_equal(scan_wal(&scan, &err), 0);
    wal = scan.log;
    free(scan.segments);
    return 0;
}

static int teardown(void **state)
{
    for (size_t i = 0; i < row_count; i++) {
        free((void *)(uintptr_t)rows[i].key.data);
        free((void *)(uintptr_t)rows[i].value.data);
    }
    for (uint64_t seq = meta.first_seq; seq <= meta.last_seq; seq++) {
        free((void *)(uintptr_t)events[seq - meta.first_seq].data);
    }
    free(rows);
    free(events);
    far_buf_done(&payload);
    return kit_teardown(state);
}

/* ---- in the child: is it as it was? ---- */

static bool is_whole(struct far_slice key, struct far_slice value)
{
    return value.len >= 8 && far_get_le64(value.data + value.len - 8) ==
                                 far_hash64_parts(key, far_slice(value.data, value.len - 8), far_slice(NULL, 0));
}

/* Every row by its key, as the core reads it: the checksum first. */
static enum outcome read_rows(struct far_store_txn *txn, bool *ret_trouble)
{
    struct far_kv *kv = far_store_kv(txn);
    for (size_t i = 0; i < row_count; i++) {
        struct far_slice value;
        int rv = kv->ops->get(kv, rows[i].key, &value, NULL);
        if (rv != 0 || !is_whole(rows[i].key, value)) {
            *ret_trouble = true;
        } else if (!far_slice_equal(value, rows[i].value)) {
            return CHANGED;
        }
    }
    return SAME;
}

static enum outcome read_events(struct far_store_txn *txn, bool *ret_trouble)
{
    struct far_event event, then;
    uint8_t head[FAR_HEAD_SIZE], head_then[FAR_HEAD_SIZE];
    for (uint64_t seq = meta.first_seq; seq <= meta.last_seq; seq++) {
        struct far_slice row = events[seq - meta.first_seq];
        int rv = far_store_event_get(txn, seq, &event, head, NULL);
        if (rv == FAR_NOT_FOUND) {
            return LOST; /* nobody may take damage for the end of the history */
        }
        if (rv != 0) {
            *ret_trouble = true;
            continue;
        }
        if (far_event_row_decode(row, &then, head_then, NULL) != 0 || !far_slice_equal(event.payload, then.payload) ||
            memcmp(head, head_then, sizeof head) != 0 || event.kind != then.kind || event.time_ms != then.time_ms) {
            return CHANGED;
        }
    }
    return SAME;
}

static enum outcome look_at_store(void)
{
    struct far_store *store;
    struct far_store_txn *txn;
    struct far_walk walk = {0};
    bool trouble = false;
    if (far_store_open_lmdb(state_dir, 0, true, &store, NULL) != 0 || far_store_begin(store, false, &txn, NULL) != 0) {
        return REFUSED;
    }
    const struct far_store_meta *now = far_store_meta(txn);
    if (now->applied_index < meta.applied_index) { /* the last commit undone: the log brings it again */
        return far_walk(store, &walk, NULL) == 0 ? OLDER : REFUSED;
    }
    if (now->applied_index != meta.applied_index || now->last_seq != meta.last_seq || now->first_seq != meta.first_seq ||
        memcmp(now->head, meta.head, FAR_HEAD_SIZE) != 0 || !far_hash128_equal(now->digest, meta.digest) ||
        now->stored_index != meta.stored_index || now->stored_term != meta.stored_term) {
        return CHANGED;
    }
    enum outcome rows_are = read_rows(txn, &trouble), events_are = read_events(txn, &trouble);
    int rv = 0;
    do { /* one walk: every segment once */
        rv = far_walk(store, &walk, NULL);
    } while (rv == 0 && walk.segment_seq != 0);
    enum outcome worst = rows_are > events_are ? rows_are : events_are;
    return worst != SAME ? worst : rv != 0 ? REFUSED : trouble ? UNNOTICED : SAME;
}

static enum outcome look_at_wal(void)
{
    struct far_wal_scan scan;
    if (scan_wal(&scan, NULL) != 0) {
        return REFUSED;
    }
    const struct far_wal_loaded *now = &scan.log;
    if (now->base_index + now->count != wal.base_index + wal.count || now->base_index != wal.base_index) {
        return LOST;
    }
    for (size_t i = 0; i < now->count; i++) {
        const struct far_wal_entry *a = &now->entries[i], *b = &wal.entries[i];
        if (a->index != b->index || a->term != b->term || a->type != b->type ||
            !far_slice_equal(far_blob_slice(a->blob), far_blob_slice(b->blob))) {
            return CHANGED;
        }
    }
    return now->term != wal.term || now->vote != wal.vote ? CHANGED : SAME;
}

static enum outcome in_child(bool is_wal)
{
    int status = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        const struct rlimit none = {0, 0};
        static const int deadly[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
        for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++) {
            signal(deadly[i], SIG_DFL);
        }
        setrlimit(RLIMIT_CORE, &none);
        alarm(CHILD_SECONDS);
        int quiet = open("/dev/null", O_WRONLY);
        dup2(quiet, 2);
        _exit((int)(is_wal ? look_at_wal() : look_at_store()));
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status)) {
        return WTERMSIG(status) == SIGALRM ? UNNOTICED : REFUSED; /* it stopped; going on for ever is no answer */
    }
    return (enum outcome)WEXITSTATUS(status);
}

/* ---- files and bits ---- */

struct target {
    char path[800];
    bool is_wal;
    uint64_t bytes; /* that are in use */
};
static struct target targets[FILES_MAX];
static size_t target_count;

/* Zeroes at the end are a WAL's room for more. */
static uint64_t used_bytes(const char *path)
{
    struct far_buf bytes;
    far_buf_init(&bytes, (size_t)1 << 28);
    assert_int_equal(far_file_read(path, &bytes, NULL), 0);
    while (bytes.len > 0 && bytes.data[bytes.len - 1] == 0) {
        bytes.len--;
    }
    uint64_t used = bytes.len;
    far_buf_done(&bytes);
    return used;
}

static void add_folder(const char *dir, bool is_wal)
{
    DIR *folder = opendir(dir);
    assert_non_null(folder);
    for (struct dirent *entry = readdir(folder); entry != NULL && target_count < FILES_MAX; entry = readdir(folder)) {
        struct target *target = &targets[target_count];
        struct stat st;
        snprintf(target->path, sizeof target->path, "%s/%s", dir, entry->d_name);
        if (strcmp(entry->d_name, "lock.mdb") == 0 || stat(target->path, &st) != 0 || !S_ISREG(st.st_mode)) {
            continue;
        }
        target->is_wal = is_wal;
        target->bytes = used_bytes(target->path);
        target_count += target->bytes > 0;
    }
    closedir(folder);
}

static void flip(const char *path, uint64_t bit)
{
    uint8_t byte = 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && pread(fd, &byte, 1, (off_t)(bit / 8)) == 1);
    byte ^= (uint8_t)(1u << bit % 8);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)(bit / 8)), 1);
    close(fd);
}

static void no_flipped_bit_is_returned_or_stays_unnoticed(void **state)
{
    (void)state;
    const char *given = getenv("FAR_SEED"), *flips = getenv("FAR_FLIPS");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();
    int count = flips != NULL ? atoi(flips) : 300, same = 0, refused = 0, older = 0;
    char segments[420];
    snprintf(segments, sizeof segments, "%s/segments", state_dir);
    add_folder(state_dir, false);
    add_folder(segments, false);
    add_folder(wal_dir, true);
    assert_int_equal(in_child(false), SAME);
    assert_int_equal(in_child(true), SAME);
    for (int i = 0; i < count; i++) {
        const struct target *target = &targets[(size_t)rand_r(&seed) % target_count];
        uint64_t bit = ((uint64_t)rand_r(&seed) << 20 ^ (uint64_t)rand_r(&seed)) % (target->bytes * 8);
        flip(target->path, bit);
        enum outcome outcome = in_child(target->is_wal);
        if (outcome > OLDER) {
            print_message("# FAR_SEED=%u: flip %d, bit %llu of %s\n", seed, i, (unsigned long long)bit, target->path);
        }
        flip(target->path, bit);
        assert_in_range(outcome, SAME, OLDER);
        same += outcome == SAME;
        refused += outcome == REFUSED;
        older += outcome == OLDER;
    }
    print_message("# of %d bits in %zu files %d were refused, %d undid the last commit, %d were in unused places\n", count,
                  target_count, refused, older, same);
    assert_true(refused > count / 10);
    assert_int_equal(in_child(false), SAME);
    assert_int_equal(in_child(true), SAME);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_flipped_bit_is_returned_or_stays_unnoticed)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
