/* Forced recovery of a log that nobody has open: what it keeps, who holds the most, and an interruption at every
 * operation of the disk. */
#include "log/raft_core.h"
#include "../lib/cm.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SELF = 7, ENTRIES = 20, OPERATIONS_MAX = 200 };

/* ---- a disk that dies after so many changes ---- */

struct dying_disk {
    struct far_disk disk; /* first */
    struct far_disk *below;
    unsigned left; /* changes that still work */
    unsigned done;
};
static struct dying_disk dying;

static bool dies(void)
{
    if (dying.left == 0) {
        return true;
    }
    dying.left--;
    dying.done++;
    return false;
}

static int d_open(struct far_disk *disk, const char *name, bool create, struct far_file **ret, struct far_error *err)
{
    return dying.below->ops->open(dying.below, name, create, ret, err);
}

static void d_close(struct far_disk *disk, struct far_file *file)
{
    dying.below->ops->close(dying.below, file);
}

static int d_size(struct far_disk *disk, struct far_file *file, uint64_t *ret, struct far_error *err)
{
    return dying.below->ops->size(dying.below, file, ret, err);
}

static int d_read(struct far_disk *disk, struct far_file *file, uint64_t at, void *data, size_t len, struct far_error *err)
{
    return dying.below->ops->read(dying.below, file, at, data, len, err);
}

static int d_write(struct far_disk *disk, struct far_file *file, uint64_t at, const void *data, size_t len,
                   struct far_error *err)
{
    return dies() ? far_fail(err, FAR_IO, "the disk died") : dying.below->ops->write(dying.below, file, at, data, len, err);
}

static int d_truncate(struct far_disk *disk, struct far_file *file, uint64_t bytes, struct far_error *err)
{
    return dies() ? far_fail(err, FAR_IO, "the disk died") : dying.below->ops->truncate(dying.below, file, bytes, err);
}

static int d_sync(struct far_disk *disk, struct far_file *file, struct far_error *err)
{
    return dies() ? far_fail(err, FAR_IO, "the disk died") : dying.below->ops->sync(dying.below, file, err);
}

static int d_remove(struct far_disk *disk, const char *name, struct far_error *err)
{
    return dies() ? far_fail(err, FAR_IO, "the disk died") : dying.below->ops->remove(dying.below, name, err);
}

static int d_sync_dir(struct far_disk *disk, struct far_error *err)
{
    return dies() ? far_fail(err, FAR_IO, "the disk died") : dying.below->ops->sync_dir(dying.below, err);
}

static int d_list(struct far_disk *disk, far_disk_name_fn each, void *arg, struct far_error *err)
{
    return dying.below->ops->list(dying.below, each, arg, err);
}

static uint64_t d_free(struct far_disk *disk)
{
    return dying.below->ops->free_bytes(dying.below);
}

static const struct far_disk_ops dying_ops = {
    .open = d_open,     .close = d_close, .size = d_size,     .read = d_read,         .write = d_write,
    .truncate = d_truncate, .sync = d_sync, .remove = d_remove, .sync_dir = d_sync_dir, .list = d_list,
    .free_bytes = d_free,
};

/* ---- a log of a follower: entries of two terms behind a state, the last ones perhaps never committed ---- */

static char dir[64];
static struct far_buf state_configuration; /* of the state: three voters */

static void run_now(void *arg, struct far_wal_job *job)
{
    job->run(job);
    job->done(job);
}

static struct far_wal_job *waiting; /* of the server that runs */

static void run_later(void *arg, struct far_wal_job *job)
{
    waiting = job;
}

static void on_stored(void *arg, const struct far_wal_stored *stored)
{
}

static void on_bad(void *arg, const struct far_error *err)
{
    fail_msg("%s", err->message);
}

static void make_log(void)
{
    struct far_wal *wal;
    struct far_wal_loaded log;
    struct far_wal_config config = {.disk = dying.below, .executor = {.submit = run_now}, .on_stored = on_stored,
                                    .on_full = on_bad,   .on_fatal = on_bad,              .salt = 5};
    assert_int_equal(far_wal_open(&config, &wal, &log, NULL), 0);
    far_wal_loaded_done(&log);
    assert_int_equal(far_wal_set_vote(wal, 4, 3, NULL), 0);
    assert_int_equal(far_wal_reset(wal, 10, 2, NULL), 0);
    for (uint64_t i = 1; i <= ENTRIES; i++) {
        uint8_t data[16] = {0};
        far_put_le64(data, i);
        struct far_wal_entry entry = {.index = 10 + i,
                                      .term = i <= 15 ? 3 : 4,
                                      .type = FAR_RAFT_COMMAND,
                                      .blob = far_blob_new(data, sizeof data)};
        assert_int_equal(far_wal_append(wal, &entry, 1, NULL), 0);
        far_wal_write(wal);
        far_blob_unref(entry.blob);
    }
    far_wal_close(wal);
}

static struct far_raft_config config_of(void)
{
    return (struct far_raft_config){.id = SELF,
                                    .address = "self:1",
                                    .seed = 1,
                                    .disk = &dying.disk,
                                    .executor = {.submit = run_now},
                                    .manifest = {.index = 10,
                                                 .term = 2,
                                                 .configuration_index = 9,
                                                 .configuration = far_buf_slice(&state_configuration)},
                                    .trusted_index = 10 + ENTRIES,
                                    .trusted_term = 4};
}

/* Three voters, as raft encodes them. */
static void make_configuration(void)
{
    uint8_t *p;
    far_buf_init(&state_configuration, 256);
    uint8_t bytes[64] = {1};
    far_put_le64(bytes + 1, 3);
    p = bytes + 9;
    for (uint64_t id = SELF; id < SELF + 3; id++) {
        far_put_le64(p, id);
        memcpy(p + 8, id == SELF ? "self:1" : id == SELF + 1 ? "oneh:1" : "twoh:1", 7);
        p += 8 + 7;
        *p++ = 1;
    }
    size_t len = ((size_t)(p - bytes) + 7) / 8 * 8;
    assert_true(len <= sizeof bytes);
    assert_int_equal(far_buf_append(&state_configuration, bytes, len), 0);
}

static int setup(void **unused)
{
    strcpy(dir, "/tmp/far-offline-XXXXXX");
    assert_non_null(mkdtemp(dir));
    dying = (struct dying_disk){.disk.ops = &dying_ops, .left = UINT32_MAX};
    assert_int_equal(far_disk_posix_new(dir, &dying.below, NULL), 0);
    make_configuration();
    make_log();
    return 0;
}

static int teardown(void **unused)
{
    char command[128];
    far_disk_posix_free(dying.below);
    far_buf_done(&state_configuration);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
    return 0;
}

/* ---- the server after it ---- */

struct life {
    uint64_t now, timer_ms, leader, term, last_value, committed;
    bool is_self;
};

static uint64_t env_now(void *arg)
{
    return ((struct life *)arg)->now;
}

static void env_timer(void *arg, uint64_t at)
{
    ((struct life *)arg)->timer_ms = at;
}

static void env_send(void *arg, uint64_t peer, const char *address, struct far_slice message)
{
    fail_msg("a message to server %d", (int)peer);
}

static void env_commit(void *arg, const struct far_wal_entry *entry)
{
    struct life *life = arg;
    if (entry->type == FAR_RAFT_COMMAND) {
        assert_int_equal(far_get_le64(entry->blob->data), life->last_value + 1);
        life->last_value++;
    }
    life->committed = entry->index;
}

static void env_leader(void *arg, uint64_t leader, uint64_t term, bool is_self)
{
    struct life *life = arg;
    life->leader = leader;
    life->term = term;
    life->is_self = is_self;
}

static void env_install(void *arg, uint64_t from, const struct far_raft_manifest *manifest)
{
    fail();
}

/* It leads alone and commits everything that was in its log. */
static void check_leads_alone(uint64_t start_term)
{
    struct life life = {.now = 1000};
    struct far_raft *raft;
    struct far_raft_status status;
    struct far_error err = {0};
    struct far_raft_env env = {&life, env_now, env_timer, env_send, env_commit, env_leader, env_install, on_bad, on_bad};
    struct far_raft_config config = config_of();
    config.executor.submit = run_later;
    if (far_raft_open(&config, &env, &raft, &err) != 0) {
        fail_msg("%s", err.message);
    }
    for (; life.now < 20000 && life.last_value < ENTRIES; life.now++) {
        struct far_wal_job *job = waiting;
        waiting = NULL;
        if (job != NULL) {
            run_now(NULL, job);
        }
        if (life.now >= life.timer_ms) {
            far_raft_timeout(raft);
        }
    }
    far_raft_status(raft, &status);
    assert_true(life.is_self);
    assert_true(life.term >= start_term);
    assert_int_equal(life.last_value, ENTRIES);
    assert_true(life.committed >= 10 + ENTRIES + 1);
    assert_int_equal(status.member_count, 1);
    assert_int_equal(status.members[0].id, SELF);
    assert_true(status.members[0].voter);
    far_raft_stop(raft);
    if (waiting != NULL) {
        run_now(NULL, waiting);
        waiting = NULL;
    }
    far_raft_close(raft);
}

static uint64_t the_start_term(struct far_raft_end *ret_end)
{
    struct far_raft_config config = config_of();
    assert_int_equal(far_raft_find_end(&config, NULL, NULL, ret_end, NULL), 0);
    return ret_end->term + FAR_RAFT_RECOVERY_TERMS;
}

/* ---- tests ---- */

static int count_entry(void *arg, const struct far_wal_entry *entry, struct far_error *err)
{
    assert_int_equal(far_get_le64(entry->blob->data), ++*(uint64_t *)arg);
    return 0;
}

static void the_end_is_found_and_nothing_is_touched(void **state)
{
    struct far_raft_end end;
    uint64_t count = 0;
    struct far_raft_config config = config_of();
    dying.left = 0;
    assert_int_equal(far_raft_find_end(&config, count_entry, &count, &end, NULL), 0);
    assert_int_equal(count, ENTRIES);
    assert_int_equal(end.last_index, 10 + ENTRIES);
    assert_int_equal(end.last_term, 4);
    assert_int_equal(end.term, 4);
    config.trusted_index++;
    assert_int_equal(far_raft_find_end(&config, NULL, NULL, &end, NULL), FAR_CORRUPT);
    assert_int_equal(far_raft_recover(&config, 2000000, NULL), FAR_CORRUPT);
}

static void the_greatest_last_term_then_index_holds_the_most(void **state)
{
    const struct far_raft_end a = {.last_term = 3, .last_index = 90}, b = {.last_term = 4, .last_index = 10},
                              c = {.last_term = 4, .last_index = 11};
    assert_true(far_raft_end_compare(&a, &b) < 0);
    assert_true(far_raft_end_compare(&c, &b) > 0);
    assert_int_equal(far_raft_end_compare(&c, &c), 0);
}

static void a_survivor_leads_alone_with_all_that_it_holds(void **state)
{
    struct far_raft_end end;
    uint64_t start_term = the_start_term(&end);
    struct far_raft_config config = config_of();
    assert_int_equal(far_raft_recover(&config, 3, NULL), FAR_INVALID);
    assert_int_equal(far_raft_recover(&config, start_term, NULL), 0);
    assert_int_equal(far_raft_find_end(&config, NULL, NULL, &end, NULL), 0);
    assert_int_equal(end.last_term, start_term);
    assert_int_equal(end.last_index, 10 + ENTRIES + 1);
    check_leads_alone(start_term);
}

static void done_again_it_changes_nothing(void **state)
{
    struct far_raft_end end, after;
    uint64_t start_term = the_start_term(&end);
    struct far_raft_config config = config_of();
    assert_int_equal(far_raft_recover(&config, start_term, NULL), 0);
    assert_int_equal(far_raft_recover(&config, start_term, NULL), 0);
    assert_int_equal(far_raft_find_end(&config, NULL, NULL, &after, NULL), 0);
    assert_int_equal(after.last_index, end.last_index + 1);
    check_leads_alone(start_term);
    assert_int_equal(far_raft_recover(&config, start_term, NULL), 0);
    check_leads_alone(start_term);
}

static void interrupted_at_any_operation_it_is_finished_by_the_next(void **state)
{
    bool whole = false;
    for (unsigned n = 0; !whole; n++) {
        assert_true(n < OPERATIONS_MAX);
        if (n > 0) {
            setup(NULL);
        }
        struct far_raft_end end, between;
        uint64_t start_term = the_start_term(&end);
        struct far_raft_config config = config_of();
        dying.left = n;
        int rc = far_raft_recover(&config, start_term, NULL);
        whole = rc == 0;
        dying.left = UINT32_MAX;
        assert_int_equal(far_raft_find_end(&config, NULL, NULL, &between, NULL), 0);
        assert_true(between.last_index >= end.last_index);
        assert_int_equal(far_raft_recover(&config, start_term, NULL), 0);
        check_leads_alone(start_term);
        assert_true(whole || n < OPERATIONS_MAX);
        if (!whole) {
            teardown(NULL);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_end_is_found_and_nothing_is_touched, setup, teardown),
        cmocka_unit_test_setup_teardown(the_greatest_last_term_then_index_holds_the_most, setup, teardown),
        cmocka_unit_test_setup_teardown(a_survivor_leads_alone_with_all_that_it_holds, setup, teardown),
        cmocka_unit_test_setup_teardown(done_again_it_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(interrupted_at_any_operation_it_is_finished_by_the_next, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
