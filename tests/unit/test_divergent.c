/* farshored divergent, on what a server was: a log of which the beginning is not there is shown from where it is, and of one
 * whose life the cluster goes on with only what the cluster perhaps does not have. */
#define _GNU_SOURCE
#include "../lib/cm.h"

#include "../lib/entries.h"
#include "../lib/log_kit.h"
#include "../lib/remove_tree.h"
#include "base/file.h"
#include "log/history.h"
#include "log/segments.h"
#include "server/server.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SITES = 60, EPOCH = 16, SAID_MAX = 256 * 1024 };

static char home[300], place[400];
static char said[SAID_MAX], noted[4096];
static uint64_t last_seq;
static struct far_buf payload;

static void must(int rv, const struct far_error *err)
{
    if (rv != 0) {
        fail_msg("%s", err->message);
    }
}

/* What is written to the stream meanwhile goes to a file. */
static int divert(FILE *stream, const char *name)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", home, name);
    fflush(stream);
    int kept = dup(fileno(stream)), fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(kept >= 0 && fd >= 0 && dup2(fd, fileno(stream)) >= 0);
    close(fd);
    return kept;
}

static void take_back(FILE *stream, int kept, const char *name, char *text, size_t size)
{
    char path[400];
    fflush(stream);
    assert_true(dup2(kept, fileno(stream)) >= 0);
    close(kept);
    snprintf(path, sizeof path, "%s/%s", home, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

/* said and noted: what it printed. */
static void run_divergent(const char *what)
{
    char *arguments[] = {"divergent", "--dir", home, "--do", (char *)(uintptr_t)what, "--name", "1-1", NULL};
    int out = divert(stdout, "said"), err = divert(stderr, "noted");
    int status = far_server_divergent(strcmp(what, "list") == 0 ? 5 : 7, arguments);
    take_back(stderr, err, "noted", noted, sizeof noted);
    take_back(stdout, out, "said", said, sizeof said);
    if (status != 0) {
        fail_msg("exit %d: %s", status, noted);
    }
}

static unsigned lines(void)
{
    unsigned count = 0;
    for (const char *at = said; (at = strchr(at, '\n')) != NULL; at++) {
        count++;
    }
    return count;
}

static void assert_says(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("'%s' is not in: %.2000s", part, text);
    }
}

static void write_fork(const char *line)
{
    char path[420];
    struct far_error err = {0};
    snprintf(path, sizeof path, "%s/fork", place);
    must(far_file_replace(path, line, strlen(line), 0600, &err), &err);
}

/* As of one that had fetched nothing before this event. */
static void forget_before(uint64_t seq)
{
    char path[420];
    struct far_store *store;
    struct far_store_txn *txn;
    struct far_epoch epoch;
    struct far_error err = {0};
    bool more;
    snprintf(path, sizeof path, "%s/state", place);
    must(far_store_open_lmdb(path, 0, false, &store, &err), &err);
    must(far_store_begin(store, true, &txn, &err), &err);
    must(far_segments_cut(txn, seq, 100000, &more, &err), &err);
    struct far_kv *kept = far_store_history(txn);
    while (far_epoch_after(txn, UINT64_MAX, &epoch, &err) == 0 && epoch.seq + 1 < seq) {
        uint8_t key[9] = {0xff};
        far_put_be64(key + 1, epoch.seq);
        must(kept->ops->del(kept, far_slice(key, sizeof key), &err), &err);
    }
    must(far_store_commit(txn, &err), &err);
    far_store_close(store);
}

static uint64_t oldest_epoch(void)
{
    char path[420];
    struct far_store *store;
    struct far_store_txn *txn;
    struct far_epoch epoch;
    struct far_error err = {0};
    snprintf(path, sizeof path, "%s/state", place);
    must(far_store_open_lmdb(path, 0, false, &store, &err), &err);
    must(far_store_begin(store, false, &txn, &err), &err);
    must(far_epoch_after(txn, UINT64_MAX, &epoch, &err), &err);
    far_store_abort(txn);
    far_store_close(store);
    return epoch.seq;
}

/* A server with some sites, as rejoin leaves it. */
static int setup(void **state)
{
    struct far_error err = {0};
    struct kit_server *server = &kit_servers[1];
    kit_epoch_events = EPOCH;
    assert_int_equal(kit_setup(state), 0);
    far_buf_init(&payload, 4096);
    kit_make_server(1);
    WAIT_FOR(kit_leader() == server);
    struct far_command init = far_test_cluster_init(&payload);
    struct kit_call call = kit_propose(server, &init);
    assert_int_equal(call.result.klass, 0);
    for (int i = 0; i < SITES; i++) {
        kit_must_propose(server, kit_next_number++);
    }
    last_seq = kit_read_state(server).last_seq;
    kit_close_server(server);
    snprintf(home, sizeof home, "%s/home", kit_root);
    snprintf(place, sizeof place, "%s/divergent", home);
    assert_true(mkdir(home, 0700) == 0 && mkdir(place, 0700) == 0);
    snprintf(place, sizeof place, "%s/divergent/1-1", home);
    assert_int_equal(rename(server->dir, place), 0);
    struct far_server_config config = {.server_id = 1};
    snprintf(config.name, sizeof config.name, "one");
    must(far_server_config_save(place, &config, &err), &err);
    return 0;
}

static int teardown(void **state)
{
    far_buf_done(&payload);
    return kit_teardown(state);
}

static void what_is_kept_is_shown_from_where_it_begins(void **state)
{
    (void)state;
    char text[200];
    uint64_t first = last_seq - 20;
    forget_before(first);
    run_divergent("list");
    snprintf(text, sizeof text, "21 events, %llu to %llu; where the cluster left it is not known", (unsigned long long)first,
             (unsigned long long)last_seq);
    assert_says(said, text);
    run_divergent("show");
    assert_int_equal(lines(), 21);
    snprintf(text, sizeof text, "events 1 to %llu are not here", (unsigned long long)first - 1);
    assert_says(noted, text);
}

static void differences_begin_with_the_oldest_state_that_is_kept(void **state)
{
    (void)state;
    char text[200];
    uint64_t epoch = oldest_epoch();
    assert_true(epoch >= last_seq - 21 && epoch < last_seq - 1);
    run_divergent("diff");
    snprintf(text, sizeof text, "from that behind event %llu on", (unsigned long long)epoch);
    assert_says(noted, text);
    assert_true(lines() > 0 && lines() <= last_seq - epoch);
    assert_says(said, "site");
}

/* It was removed, or rebuilt, in a life that goes on: what it had applied, the cluster has. */
static void what_the_cluster_has_is_not_called_divergent(void **state)
{
    (void)state;
    write_fork(FAR_FORK_NONE);
    run_divergent("list");
    assert_says(said, "nothing that the cluster does not have");
    run_divergent("show");
    assert_int_equal(lines(), 0);
    run_divergent("diff");
    assert_int_equal(lines(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_kept_is_shown_from_where_it_begins),
        cmocka_unit_test(differences_begin_with_the_oldest_state_that_is_kept),
        cmocka_unit_test(what_the_cluster_has_is_not_called_divergent),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
