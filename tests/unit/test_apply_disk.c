/* The apply thread and LMDB on a disk that is full, or broken: a full one is waited for and everything goes on when there is
 * space, any other error stops the server.
 *
 * LMDB writes by itself, so its open files are what fails here: /dev/full in their place is a full disk, a limit on the
 * size of files one that takes only a part of a write, a file opened for reading one that fails. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "../lib/cm.h"

#include "../lib/entries.h"
#include "log/apply_thread.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BEFORE = 20, COUNT = 400, FILES_MAX = 8 };
enum { MAP_BYTES = 1 << 28 }; /* of the store: valgrind leaves a program no room for the terabyte of a server's */

struct fixture {
    char dir[64];
    struct far_store *store;
    struct far_apply_thread *thread;
    uv_loop_t loop;
    struct far_buf payload, entry;
    uint64_t pushed, applied, wanted;
    _Atomic unsigned full; /* how often the thread said so */
    int files[FILES_MAX], kept[FILES_MAX]; /* descriptors of LMDB, and copies of them */
    size_t file_count;
};

static void on_outcome(void *arg, const struct far_apply_outcome *outcome)
{
    struct fixture *f = arg;
    if (!outcome->is_early) {
        f->applied = outcome->applied_index;
    }
}

static void on_full(void *arg)
{
    atomic_fetch_add(&((struct fixture *)arg)->full, 1);
}

static void push(struct fixture *f, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t index = ++f->pushed;
        struct far_command command =
            index == 1 ? far_test_cluster_init(&f->payload) : far_test_site_create(index, &f->payload);
        struct far_slice bytes = far_test_entry(&command, index, 1, &f->entry);
        struct far_blob *blob = far_blob_new(bytes.data, bytes.len);
        assert_int_equal(far_apply_thread_push(f->thread, FAR_JOB_COMMANDS, index, 1, blob, false), 0);
        far_blob_unref(blob);
    }
}

#define RUN_UNTIL(f, condition)                                                                                       \
    do {                                                                                                              \
        uint64_t deadline_ns = uv_hrtime() + 30ull * 1000 * 1000 * 1000;                                              \
        while (!(condition)) {                                                                                        \
            assert_true(uv_hrtime() < deadline_ns);                                                                   \
            uv_run(&(f)->loop, UV_RUN_NOWAIT);                                                                        \
        }                                                                                                             \
    } while (0)

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%.40s/apply-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    far_buf_init(&f->payload, 64 * 1024);
    far_buf_init(&f->entry, FAR_ENVELOPE_MAX);
    assert_int_equal(far_store_open_lmdb(f->dir, MAP_BYTES, false, &f->store, NULL), 0);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(far_apply_thread_start(f->store, NULL, &f->loop, on_outcome, on_full, f, &f->thread, NULL), 0);
    push(f, BEFORE);
    RUN_UNTIL(f, f->applied == BEFORE);
    *state = f;
    return 0;
}

static void stopped(void *arg)
{
    *(bool *)arg = true;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];
    bool is_stopped = false;
    far_apply_thread_stop(f->thread, stopped, &is_stopped);
    while (uv_run(&f->loop, UV_RUN_DEFAULT) != 0) {
    }
    assert_true(is_stopped);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    far_store_close(f->store);
    far_buf_done(&f->payload);
    far_buf_done(&f->entry);
    snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

/* Puts fd in the place of LMDB's descriptors of its data file. */
static void replace_files(struct fixture *f, int fd)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        char target[256];
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
        target[n < 0 ? 0 : n] = '\0';
        if (n > 9 && strstr(target, f->dir) != NULL && strcmp(target + n - 9, "/data.mdb") == 0) {
            assert_true(f->file_count < FILES_MAX);
            f->files[f->file_count++] = atoi(entry->d_name);
        }
    }
    closedir(dir);
    assert_true(f->file_count > 0);
    for (size_t i = 0; i < f->file_count; i++) {
        f->kept[i] = fcntl(f->files[i], F_DUPFD_CLOEXEC, 0);
        assert_int_equal(dup2(fd, f->files[i]), f->files[i]);
    }
    close(fd);
}

static void restore_files(struct fixture *f)
{
    for (size_t i = 0; i < f->file_count; i++) {
        dup2(f->kept[i], f->files[i]);
        close(f->kept[i]);
    }
    f->file_count = 0;
}

/* Everything is there, once and in order, also after opening anew. */
static void expect_all(struct fixture *f)
{
    struct far_store *by_hand;
    struct far_store_txn *one, *other;
    assert_int_equal(far_store_open_memory(&by_hand, NULL), 0);
    for (uint64_t i = 1; i <= f->pushed; i++) {
        struct far_command command = i == 1 ? far_test_cluster_init(&f->payload) : far_test_site_create(i, &f->payload);
        assert_int_equal(far_store_begin(by_hand, true, &one, NULL), 0);
        assert_int_equal(far_apply_commands(one, i, 1, far_test_entry(&command, i, 1, &f->entry), NULL, NULL, NULL), 0);
        assert_int_equal(far_store_commit(one, NULL), 0);
    }
    assert_int_equal(far_store_begin(by_hand, false, &one, NULL), 0);
    assert_int_equal(far_store_begin(f->store, false, &other, NULL), 0);
    assert_int_equal(far_store_meta(other)->applied_index, f->pushed);
    assert_memory_equal(far_store_meta(one)->head, far_store_meta(other)->head, FAR_HEAD_SIZE);
    assert_true(far_hash128_equal(far_store_meta(one)->digest, far_store_meta(other)->digest));
    far_store_abort(one);
    far_store_abort(other);
    far_store_close(by_hand);
}

static void a_full_disk_is_waited_for_and_everything_goes_on_with_space(void **state)
{
    struct fixture *f = *state;
    replace_files(f, open("/dev/full", O_RDWR | O_CLOEXEC));
    push(f, COUNT);
    RUN_UNTIL(f, atomic_load(&f->full) >= 2); /* it tries again and again */
    assert_int_equal(f->applied, BEFORE);
    restore_files(f);
    RUN_UNTIL(f, f->applied == BEFORE + COUNT);
    push(f, 5);
    RUN_UNTIL(f, f->applied == BEFORE + COUNT + 5);
    expect_all(f);
}

static void a_disk_that_takes_only_a_part_of_a_write_is_full(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, limit;
    struct stat st;
    char path[96];
    snprintf(path, sizeof path, "%s/data.mdb", f->dir);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    for (rlim_t more = 1000; more < 40000; more += 6000) { /* pages of 4 KiB: it ends within one */
        assert_int_equal(stat(path, &st), 0);
        limit = (struct rlimit){.rlim_cur = (rlim_t)st.st_size + more, .rlim_max = before.rlim_max};
        unsigned full = atomic_load(&f->full);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        push(f, COUNT);
        RUN_UNTIL(f, atomic_load(&f->full) > full);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        RUN_UNTIL(f, f->applied == f->pushed);
    }
    expect_all(f);
}

/* A process of its own, for what ends it. */
static void apply_on_a_broken_disk(void)
{
    void *state = NULL;
    struct fixture *f;
    struct rlimit no_core = {0};
    setrlimit(RLIMIT_CORE, &no_core);
    setup(&state);
    f = state;
    replace_files(f, open("/dev/null", O_RDONLY | O_CLOEXEC));
    push(f, 1);
    for (;;) {
        uv_run(&f->loop, UV_RUN_ONCE);
    }
}

static void the_apply_thread_aborts_the_server_on_an_io_error(void **state)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(30);
        apply_on_a_broken_disk();
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void a_full_map_is_a_limit_and_what_is_there_stays(void **state)
{
    char dir[64];
    struct far_store *store;
    struct far_store_txn *txn;
    struct far_error err = {0};
    uint8_t value[1800] = {1};
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%.40s/apply-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(far_store_open_lmdb(dir, 1 << 20, false, &store, NULL), 0);
    int rv = 0;
    unsigned rows = 0;
    for (; rv == 0 && rows < 1000; rows++) {
        char key[16];
        snprintf(key, sizeof key, "row-%06u", rows);
        assert_int_equal(far_store_begin(store, true, &txn, &err), 0);
        struct far_kv *kv = far_store_kv(txn);
        rv = kv->ops->put(kv, far_slice_str(key), far_slice(value, sizeof value), &err);
        rv = rv == 0 ? far_store_commit(txn, &err) : (far_store_abort(txn), rv);
    }
    assert_int_equal(rv, FAR_LIMIT);
    assert_non_null(strstr(err.message, "MDB_MAP_FULL"));
    for (unsigned i = 0; i + 1 < rows; i++) {
        char key[16];
        snprintf(key, sizeof key, "row-%06u", i);
        assert_int_equal(far_store_begin(store, false, &txn, &err), 0);
        struct far_slice got;
        struct far_kv *kv = far_store_kv(txn);
        assert_int_equal(kv->ops->get(kv, far_slice_str(key), &got, &err), 0); /* what was committed is whole */
        assert_int_equal(got.len, sizeof value);
        far_store_abort(txn);
    }
    far_store_close(store);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static uint64_t applied_in(struct far_store *store)
{
    struct far_store_txn *txn;
    assert_int_equal(far_store_begin(store, false, &txn, NULL), 0);
    uint64_t index = far_store_meta(txn)->applied_index;
    far_store_abort(txn);
    return index;
}

/* Nobody awaits these entries, so they may lie for a while; who waits for their commit does not wait for that while. */
static void whoever_waits_for_an_index_gets_it_though_nobody_awaits_its_results(void **state)
{
    enum { SOME = 5, MINUTE_MS = 60000 };
    struct fixture *f = *state;
    push(f, SOME);
    assert_true(far_apply_thread_wait(f->thread, f->pushed, MINUTE_MS));
    assert_int_equal(applied_in(f->store), f->pushed);
    push(f, SOME);
    far_apply_thread_want(f->thread, f->pushed);
    assert_true(far_apply_thread_wait(f->thread, f->pushed, MINUTE_MS));
    assert_int_equal(applied_in(f->store), f->pushed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_apply_thread_aborts_the_server_on_an_io_error), /* before this process has threads */
        cmocka_unit_test_setup_teardown(a_full_disk_is_waited_for_and_everything_goes_on_with_space, setup, teardown),
        cmocka_unit_test_setup_teardown(a_disk_that_takes_only_a_part_of_a_write_is_full, setup, teardown),
        cmocka_unit_test_setup_teardown(whoever_waits_for_an_index_gets_it_though_nobody_awaits_its_results, setup, teardown),
        cmocka_unit_test(a_full_map_is_a_limit_and_what_is_there_stays),
    };
    return cmocka_run_group_tests_name("apply_disk", tests, NULL, NULL);
}
