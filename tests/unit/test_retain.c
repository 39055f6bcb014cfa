/* Retention: what is too old or too much is found, cut everywhere alike, and takes the states of the past with it. */
#define _GNU_SOURCE
#include "../lib/cm.h"

#include "../lib/entries.h"
#include "../lib/installed.h"
#include "../lib/remove_tree.h"
#include "log/apply.h"
#include "log/history.h"
#include "log/tidy.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ENTRIES = 600, EPOCH = 32 };
#define HOUR_MS 3600000ull

static char dir[256];
static struct far_store *store;
static struct far_buf payload, entry;
static struct far_hash128 digests[8 * ENTRIES]; /* behind each event */

static void must(int rv, const struct far_error *err)
{
    if (rv != 0) {
        fail_msg("%s", err->message);
    }
}

static struct far_result last_result;
static void on_result(void *arg, unsigned position, const struct far_command *command, const struct far_result *result)
{
    (void)arg;
    (void)position;
    (void)command;
    last_result = *result;
}

/* The next entry; hour: when. */
static void apply(struct far_command command, uint64_t hour)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    command.proposed_at_ms = 1700000000000 + hour * HOUR_MS;
    must(far_store_begin(store, true, &txn, &err), &err);
    uint64_t index = far_store_meta(txn)->applied_index + 1;
    must(far_apply_commands(txn, index, 1, far_test_entry(&command, index, 1, &entry), on_result, NULL, &err), &err);
    digests[far_store_meta(txn)->last_seq] = far_store_meta(txn)->digest;
    must(far_store_commit(txn, &err), &err);
}

static void try_system(const struct far_schema *schema, const void *object, uint64_t hour)
{
    struct far_command command = far_test_command(schema, object, 0, &payload);
    memset(command.id, 0, sizeof command.id);
    command.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    apply(command, hour);
}

static void apply_system(const struct far_schema *schema, const void *object, uint64_t hour)
{
    try_system(schema, object, hour);
    assert_int_equal(last_result.klass, 0);
}

static int setup(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    struct far_error err = {0};
    far_buf_init(&payload, 64 * 1024);
    far_buf_init(&entry, FAR_ENVELOPE_MAX);
    snprintf(dir, sizeof dir, "%s/far-retain-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(dir));
    must(far_store_open_lmdb(dir, (size_t)1 << 28, false, &store, &err), &err);
    store->epoch_events = EPOCH;
    apply(far_test_cluster_init(&payload), 0);
    apply_system(&far_schema_cmd_feature_level_raise, &(struct far_cmd_feature_level_raise){.level = 2}, 0);
    for (uint64_t i = 2; i <= ENTRIES; i++) { /* 40 days of it, all in all */
        apply(far_test_site_create(i, &payload), i * 960 / ENTRIES);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    far_store_close(store);
    far_buf_done(&payload);
    far_buf_done(&entry);
    return far_test_remove_tree(dir);
}

static struct far_store_txn *reading(void)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(store, false, &txn, &err), &err);
    return txn;
}

static struct far_retain_cut wanted;
static uint64_t wanted_cut(void)
{
    struct far_error err = {0};
    struct far_store_txn *txn = reading();
    must(far_retain_cut(txn, &wanted, &err), &err);
    far_store_abort(txn);
    return wanted.seq;
}

static uint64_t time_of(uint64_t seq)
{
    struct far_event event;
    struct far_error err = {0};
    struct far_store_txn *txn = reading();
    must(far_store_event_get(txn, seq, &event, NULL, &err), &err);
    far_store_abort(txn);
    return event.time_ms - 1700000000000;
}

static bool tidy_all(void)
{
    struct far_retain_walk walk = {.floor = 0};
    struct far_tidy tidy = {.more = true};
    struct far_error err = {0};
    bool files = false;
    while (tidy.more) {
        must(far_tidy(store, &walk, &tidy, &err), &err);
        files = files || tidy.files_to_go;
    }
    return files;
}

/* Every state from `first` on can be shown, and is the one that was. */
static void check_past(uint64_t first)
{
    struct far_store_txn *txn = reading();
    for (uint64_t seq = first; seq <= far_store_meta(txn)->last_seq; seq++) {
        struct far_moment moment = {FAR_MOMENT_SEQ, seq};
        struct far_past *past;
        struct far_error err = {0};
        struct far_hash128 walked;
        uint64_t rows;
        must(far_past_open(txn, &moment, &past, &err), &err);
        must(far_state_digest_walk(past->state.kv, &walked, &rows, &err), &err);
        assert_true(far_hash128_equal(walked, past->state.digest));
        if (digests[seq].low != 0) {
            assert_true(far_hash128_equal(walked, digests[seq]));
        }
        far_past_close(past);
    }
    far_store_abort(txn);
}

/* ---- tests: one story ---- */

static void nothing_young_is_cut(void **state)
{
    (void)state;
    struct far_cmd_retention_set set = {.days = 60};
    apply_system(&far_schema_cmd_retention_set, &set, 960);
    assert_int_equal(wanted_cut(), 0);
    assert_false(tidy_all());
    check_past(1);
}

static void what_is_older_than_the_policy_says_is_found(void **state)
{
    (void)state;
    struct far_cmd_retention_set set = {.days = 0};
    apply_system(&far_schema_cmd_retention_set, &set, 960);
    uint64_t by_default = wanted_cut();
    assert_true(by_default > 1);
    assert_true(time_of(by_default) <= 240 * HOUR_MS);               /* nothing younger than 30 days */
    assert_true(time_of(by_default + 3 * EPOCH) > 240 * HOUR_MS);    /* and little that is older stays */
    set.days = 10;
    apply_system(&far_schema_cmd_retention_set, &set, 960);
    assert_true(wanted_cut() > by_default);
}

static void a_cut_takes_events_and_the_states_before_them(void **state)
{
    (void)state;
    uint64_t cut = wanted_cut(), one = 1;
    struct far_store_sizes before, after;
    struct far_store_txn *txn = reading();
    far_store_sizes(txn, &before);
    far_store_abort(txn);
    struct far_cmd_events_cut command = {.seq = cut, .held_by = {.items = &one, .count = 1}};
    apply_system(&far_schema_cmd_events_cut, &command, 960);
    assert_true(tidy_all());
    txn = reading();
    struct far_slice row;
    struct far_past *past;
    struct far_error err = {0};
    assert_int_equal(far_store_meta(txn)->first_seq, cut);
    assert_int_equal(far_store_event_row(txn, cut - 1, &row, &err), FAR_NOT_FOUND);
    assert_int_equal(far_store_event_row(txn, cut, &row, &err), 0);
    assert_int_equal(far_past_open(txn, &(struct far_moment){FAR_MOMENT_SEQ, cut - 2}, &past, &err), FAR_NOT_FOUND);
    assert_non_null(strstr(err.message, "oldest"));
    far_store_sizes(txn, &after);
    assert_true(after.history_rows < before.history_rows / 2 && after.event_rows < before.event_rows / 2);
    far_store_abort(txn);
    check_past(cut - 1);
    assert_int_equal(wanted_cut(), 0);
    assert_false(tidy_all());
}

static void a_server_that_stopped_in_the_middle_goes_on(void **state)
{
    (void)state;
    struct far_error err = {0};
    struct far_retain_walk walk = {.floor = 0};
    struct far_tidy tidy;
    uint64_t one = 1;
    struct far_store_txn *txn = reading();
    uint64_t last = far_store_meta(txn)->last_seq;
    far_store_abort(txn);
    struct far_cmd_events_cut command = {.seq = last - 100, .held_by = {.items = &one, .count = 1}};
    apply_system(&far_schema_cmd_events_cut, &command, 960);
    must(far_tidy(store, &walk, &tidy, &err), &err); /* and no more */
    far_store_close(store);
    must(far_store_open_lmdb(dir, (size_t)1 << 28, false, &store, &err), &err);
    store->epoch_events = EPOCH;
    (void)tidy_all();
    txn = reading();
    struct far_epoch epoch;
    assert_int_equal(far_store_meta(txn)->first_seq, last - 100);
    must(far_epoch_after(txn, last - 102, &epoch, &err), &err);
    far_store_abort(txn);
    check_past(epoch.seq);
}

static void states_of_the_past_have_a_bound_in_bytes(void **state)
{
    (void)state;
    struct far_error err = {0};
    struct far_store_sizes before, after;
    for (uint64_t i = ENTRIES + 1; i <= 2 * ENTRIES; i++) {
        apply(far_test_site_create(i, &payload), 960);
    }
    struct far_store_txn *txn = reading();
    far_store_sizes(txn, &before);
    uint64_t first = far_store_meta(txn)->first_seq;
    far_store_abort(txn);
    store->history_bytes_max = before.history_bytes - 4096;
    (void)tidy_all();
    store->history_bytes_max = 0;
    struct far_epoch epoch;
    txn = reading();
    far_store_sizes(txn, &after);
    assert_true(after.history_rows < before.history_rows && after.history_bytes < before.history_bytes);
    assert_int_equal(far_store_meta(txn)->first_seq, first); /* the events stay */
    must(far_epoch_after(txn, UINT64_MAX, &epoch, &err), &err);
    far_store_abort(txn);
    assert_true(epoch.seq > first);
    check_past(epoch.seq);
}

/* As after a state was installed: the state, and no event before it. */
static struct far_store *without_history(const char *folder)
{
    struct far_store *taker;
    struct far_store_txn *source = reading(), *txn;
    struct far_error err = {0};
    assert_int_equal(mkdir(folder, 0700), 0);
    must(far_store_open_lmdb(folder, (size_t)1 << 28, false, &taker, &err), &err);
    taker->epoch_events = EPOCH;
    must(far_store_begin(taker, true, &txn, &err), &err);
    far_test_install(source, txn);
    far_store_abort(source);
    must(far_store_commit(txn, &err), &err);
    return taker;
}

/* It may lead, and the others hold events before its first that are young. */
static void who_has_only_young_events_cuts_nothing(void **state)
{
    (void)state;
    char folder[300];
    snprintf(folder, sizeof folder, "%s/taker", dir);
    struct far_store *whole = store;
    store = without_history(folder);
    for (uint64_t i = 0; i < 4 * EPOCH; i++) {
        apply(far_test_site_create(3 * ENTRIES + i, &payload), 961);
    }
    assert_int_equal(wanted_cut(), 0);
    struct far_store_txn *txn = reading();
    uint64_t here = far_store_meta(txn)->first_seq;
    far_store_abort(txn);
    apply(far_test_site_create(5 * ENTRIES, &payload), 961 + 60 * 24); /* they grow old, and so did all before them */
    assert_true(wanted_cut() > here);
    far_store_close(store);
    store = whole;
}

/* The log decides by the policy of its own moment, not by that which the leader looked at. */
static void a_cut_for_a_reason_that_is_none_any_more_is_refused(void **state)
{
    (void)state;
    const uint64_t day = 24 * HOUR_MS, now = 1700000000000 + 960 * HOUR_MS;
    uint64_t one = 1;
    struct far_store_txn *txn = reading();
    uint64_t first = far_store_meta(txn)->first_seq;
    far_store_abort(txn);
    struct far_cmd_events_cut cut = {.seq = first + 10, .held_by = {.items = &one, .count = 1}};
    apply_system(&far_schema_cmd_feature_level_raise, &(struct far_cmd_feature_level_raise){.level = 3}, 960);
    apply_system(&far_schema_cmd_retention_set, &(struct far_cmd_retention_set){.days = 5, .bytes = 1 << 30}, 960);
    const struct {
        uint64_t time_ms, bytes;
        const char *why;
    } wrong[] = {
        {now - 5 * day + 1, 0, "younger than 5 days"}, {now, 0, "younger than 5 days"}, {now + day, 0, "younger than 5 days"},
        {0, 1 << 29, "room in 1073741824 bytes"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cut.time_ms = wrong[i].time_ms;
        cut.bytes = wrong[i].bytes;
        try_system(&far_schema_cmd_events_cut, &cut, 960);
        assert_int_equal(last_result.klass, FAR_CONFLICT);
        assert_non_null(strstr(last_result.message, wrong[i].why));
    }
    cut.time_ms = now - 5 * day;
    cut.bytes = 0;
    apply_system(&far_schema_cmd_events_cut, &cut, 960);
    cut = (struct far_cmd_events_cut){.seq = first + 11, .held_by = cut.held_by, .bytes = 1 << 30};
    apply_system(&far_schema_cmd_events_cut, &cut, 960);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_young_is_cut),
        cmocka_unit_test(what_is_older_than_the_policy_says_is_found),
        cmocka_unit_test(a_cut_takes_events_and_the_states_before_them),
        cmocka_unit_test(a_server_that_stopped_in_the_middle_goes_on),
        cmocka_unit_test(states_of_the_past_have_a_bound_in_bytes),
        cmocka_unit_test(who_has_only_young_events_cuts_nothing),
        cmocka_unit_test(a_cut_for_a_reason_that_is_none_any_more_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
