/* What a log refuses: commands on a disk that gets full, a start without its memory, a state that others do not share. */
#define _GNU_SOURCE
#include "../lib/cm.h"

#include "../lib/entries.h"
#include "../lib/log_kit.h"
#include "../lib/remove_tree.h"
#include "log/store.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct far_buf payload;

static void remove_folder(const struct kit_server *server, const char *name)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", server->dir, name);
    assert_int_equal(far_test_remove_tree(path), 0);
}

static void found_cluster(void)
{
    kit_make_server(1);
    WAIT_FOR(kit_leader() != NULL);
    struct far_command init = far_test_cluster_init(&payload);
    assert_int_equal(kit_propose(&kit_servers[1], &init).result.klass, 0);
}

static void below_the_first_watermark_users_wait_and_cleanup_goes_on(void **state)
{
    (void)state;
    found_cluster();
    kit_must_propose(&kit_servers[1], kit_next_number++);
    kit_close_server(&kit_servers[1]);
    kit_low_space_bytes = UINT64_MAX; /* every disk is below it */
    kit_open_server(&kit_servers[1]);
    WAIT_FOR(kit_leader() != NULL);
    struct far_command create = far_test_site_create(kit_next_number, &payload);
    struct kit_call call = kit_propose(&kit_servers[1], &create);
    assert_int_equal(call.result.klass, FAR_LIMIT);
    assert_non_null(strstr(call.result.message, "make room"));
    struct far_cmd_site_remove remove = {.name = far_slice_str("site-100")};
    struct far_command cleanup = far_test_command(&far_schema_cmd_site_remove, &remove, 7, &payload);
    assert_int_equal(kit_propose(&kit_servers[1], &cleanup).result.klass, 0);
    kit_close_server(&kit_servers[1]);
    kit_low_space_bytes = 1; /* space came back */
    kit_open_server(&kit_servers[1]);
    kit_must_propose(&kit_servers[1], kit_next_number++);
}

static void a_server_without_its_memory_does_not_start_under_its_old_id(void **state)
{
    (void)state;
    char mark[400];
    found_cluster();
    snprintf(mark, sizeof mark, "%s/log.made", kit_servers[1].dir);
    WAIT_FOR(access(mark, F_OK) == 0);
    kit_close_server(&kit_servers[1]);
    remove_folder(&kit_servers[1], "wal");
    remove_folder(&kit_servers[1], "state");
    struct far_log_config config = kit_config_of(&kit_servers[1]);
    struct far_error err = {0};
    struct far_log *log;
    assert_int_equal(far_log_open(&config, &kit_loop, NULL, NULL, NULL, &log, &err), FAR_CORRUPT);
    assert_non_null(strstr(err.message, "rejoin"));
}

/* Take a row out of a stopped server's state as a defect in its memory would: every checksum fits. */
static void spoil(const struct kit_server *server)
{
    char path[400];
    struct far_store *store;
    struct far_store_txn *txn;
    struct far_arena arena;
    struct far_row_site site;
    snprintf(path, sizeof path, "%s/state", server->dir);
    assert_int_equal(far_store_open_lmdb(path, (size_t)1 << 30, false, &store, NULL), 0);
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    struct far_state rows = {.kv = far_store_kv(txn), .digest = far_store_meta(txn)->digest};
    struct far_key key = far_key(&far_schema_row_site);
    far_arena_init(&arena, 65536);
    assert_int_equal(far_state_next(&rows, &far_schema_row_site, &key, &arena, NULL, &site, NULL), 0);
    key = far_key(&far_schema_row_site);
    far_key_u64(&key, site.id);
    assert_int_equal(far_state_del(&rows, &key, NULL), 0);
    far_arena_done(&arena);
    far_store_meta(txn)->digest = rows.digest;
    assert_int_equal(far_store_commit(txn, NULL), 0);
    far_store_close(store);
}

static void run_into_divergence(void)
{
    kit_setup(NULL);
    found_cluster();
    kit_add_server(2);
    kit_add_server(3);
    WAIT_FOR(kit_leader() != NULL);
    WAIT_FOR(kit_leader() != NULL);
    kit_must_propose(kit_leader(), kit_next_number++);
    WAIT_FOR(kit_leader() != NULL && kit_all_at(kit_applied(kit_leader())) && kit_are_equal());
    struct kit_server *server = kit_follower();
    kit_close_server(server);
    spoil(server);
    kit_open_server(server);
    WAIT_FOR(false); /* the process ends here */
}

/* In a process of its own, for it is to die. */
static void a_server_whose_state_differs_from_the_majority_stops_and_says_where(void **state)
{
    (void)state;
    int fds[2], status;
    static char text[65536];
    size_t len = 0;
    ssize_t got;
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        run_into_divergence();
        _exit(0);
    }
    close(fds[1]);
    while ((got = read(fds[0], text + len, sizeof text - 1 - len)) > 0) {
        len += (size_t)got;
    }
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || strstr(text, "not that of the majority") == NULL) {
        fail_msg("status %x: %s", status, text);
    }
    assert_non_null(strstr(text, "at entry "));
}

static int setup(void **state)
{
    far_buf_init(&payload, 64 * 1024);
    return kit_setup(state);
}

static int teardown(void **state)
{
    far_buf_done(&payload);
    return kit_teardown(state);
}

static int setup_alone(void **state)
{
    (void)state;
    far_buf_init(&payload, 64 * 1024);
    return 0;
}

static int teardown_alone(void **state)
{
    (void)state;
    far_buf_done(&payload);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* before this process has threads */
        cmocka_unit_test_setup_teardown(a_server_whose_state_differs_from_the_majority_stops_and_says_where, setup_alone,
                                        teardown_alone),
        cmocka_unit_test_setup_teardown(below_the_first_watermark_users_wait_and_cleanup_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_server_without_its_memory_does_not_start_under_its_old_id, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
