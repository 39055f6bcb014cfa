/* Retention on a server that installed its state: it wants no cut while it does not hold what is old enough, then it wants the
 * same one as who has always been there, and for its room none before it holds everything; and whoever cuts where no state of the
 * past begins can show those that come. */
#define _GNU_SOURCE
#include "../lib/cm.h"

#include "../lib/entries.h"
#include "../lib/remove_tree.h"
#include "log/apply.h"
#include "log/history.h"
#include "log/snapshot.h"
#include "log/tidy.h"

#include <stdlib.h>
#include <unistd.h>

enum { ENTRIES = 200, EPOCH = 32, HOURS = 40 * 24, OLD_HOURS = 10 * 24 };
#define START_MS 1700000000000ull
#define HOUR_MS 3600000ull

static char dir[256];
static struct far_store *old, *new; /* from the beginning; with an installed state */
static struct far_buf payload, entry, bytes;
static uint64_t installed_seq;

static void must(int rv, const struct far_error *err)
{
    if (rv != 0) {
        fail_msg("%s", err->message);
    }
}

static void on_result(void *arg, unsigned position, const struct far_command *command, const struct far_result *result)
{
    (void)arg;
    (void)position;
    (void)command;
    assert_int_equal(result->klass, 0);
}

static void apply_to(struct far_store *store, const struct far_command *command)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(store, true, &txn, &err), &err);
    uint64_t index = far_store_meta(txn)->applied_index + 1;
    must(far_apply_commands(txn, index, 1, far_test_entry(command, index, 1, &entry), on_result, NULL, &err), &err);
    must(far_store_commit(txn, &err), &err);
}

/* The next entry of both logs. */
static void apply(struct far_command command, uint64_t hour)
{
    command.proposed_at_ms = START_MS + hour * HOUR_MS;
    apply_to(old, &command);
    if (installed_seq != 0) {
        apply_to(new, &command);
    }
}

static void apply_system(const struct far_schema *schema, const void *object, uint64_t hour)
{
    struct far_command command = far_test_command(schema, object, 0, &payload);
    memset(command.id, 0, sizeof command.id);
    command.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    apply(command, hour);
}

static struct far_store_meta meta_of(struct far_store *store)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(store, false, &txn, &err), &err);
    struct far_store_meta meta = *far_store_meta(txn);
    far_store_abort(txn);
    return meta;
}

static void install(void)
{
    struct far_install install;
    struct far_dump dump;
    struct far_error err = {0};
    must(far_dump_begin(old, &dump, &err), &err);
    must(far_install_begin(new, &install, &err), &err);
    while (!dump.ended) {
        far_buf_reset(&bytes);
        must(far_dump_next(&dump, &bytes, &err), &err);
        must(far_install_piece(&install, far_buf_slice(&bytes), &err), &err);
    }
    must(far_install_finish(&install, &dump.manifest, &err), &err);
    installed_seq = dump.manifest.last_seq;
    far_dump_end(&dump);
}

/* Fetch some of the events before those that are there; false: all are. */
static bool fetch(size_t bytes_max)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    uint64_t first = meta_of(new).first_seq;
    if (first == 1) {
        return false;
    }
    must(far_store_begin(old, false, &txn, &err), &err);
    far_buf_reset(&bytes);
    must(far_history_encode(txn, 1, first - 1, bytes_max, &bytes, &err), &err);
    far_store_abort(txn);
    must(far_store_begin(new, true, &txn, &err), &err);
    must(far_history_apply(txn, far_buf_slice(&bytes), &err), &err);
    must(far_store_commit(txn, &err), &err);
    return true;
}

static struct far_retain_cut cut_of(struct far_store *store)
{
    struct far_retain_cut cut;
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(store, false, &txn, &err), &err);
    must(far_retain_cut(txn, &cut, &err), &err);
    far_store_abort(txn);
    return cut;
}

static bool has_epoch(struct far_store *store, uint64_t seq)
{
    struct far_epoch epoch = {0};
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(store, false, &txn, &err), &err);
    int rv = far_epoch_before(txn, seq, &epoch, &err);
    far_store_abort(txn);
    return rv == 0 && epoch.seq == seq;
}

/* Can this moment be shown? What is shown is what its digest says. */
static bool shows(struct far_store *store, uint64_t seq)
{
    struct far_moment moment = {FAR_MOMENT_SEQ, seq};
    struct far_past *past;
    struct far_hash128 walked;
    uint64_t rows;
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(store, false, &txn, &err), &err);
    int rv = far_past_open(txn, &moment, &past, &err);
    if (rv == 0) {
        must(far_state_digest_walk(past->state.kv, &walked, &rows, &err), &err);
        assert_true(far_hash128_equal(walked, past->state.digest));
        far_past_close(past);
    }
    far_store_abort(txn);
    return rv == 0;
}

static void tidy(struct far_store *store)
{
    struct far_retain_walk walk = {.floor = 0};
    struct far_tidy tidy = {.more = true};
    struct far_error err = {0};
    while (tidy.more) {
        must(far_tidy(store, &walk, &tidy, &err), &err);
    }
}

static struct far_store *open_store(const char *name)
{
    char path[300];
    struct far_store *store;
    struct far_error err = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(mkdir(path, 0700), 0);
    must(far_store_open_lmdb(path, (size_t)1 << 28, false, &store, &err), &err);
    store->epoch_events = EPOCH;
    return store;
}

/* 40 days, and behind event `seq` the other one gets its state. */
static int setup_at(uint64_t seq)
{
    assert_int_equal(far_test_make_folder("fetch", dir, sizeof dir), 0);
    old = open_store("old");
    new = open_store("new");
    far_buf_init(&payload, 64 * 1024);
    far_buf_init(&entry, FAR_ENVELOPE_MAX);
    far_buf_init(&bytes, 16 << 20);
    installed_seq = 0;
    apply(far_test_cluster_init(&payload), 0);
    apply_system(&far_schema_cmd_feature_level_raise, &(struct far_cmd_feature_level_raise){.level = 3}, 0);
    for (uint64_t i = 2; i <= ENTRIES; i++) {
        apply(far_test_site_create(i, &payload), i * HOURS / ENTRIES);
        if (installed_seq == 0 && meta_of(old).last_seq >= seq) {
            install();
        }
    }
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return setup_at(2 * ENTRIES - 40); /* all that it holds at first is young */
}

static int teardown(void **state)
{
    (void)state;
    far_store_close(old);
    far_store_close(new);
    far_buf_done(&payload);
    far_buf_done(&entry);
    far_buf_done(&bytes);
    return far_test_remove_tree(dir);
}

/* ---- tests ---- */

/* Whatever it has fetched so far: the cut of the others, or none. Returns how often it wanted none. */
static unsigned check_cuts_while_fetching(void)
{
    struct far_retain_cut cut = cut_of(old);
    unsigned none = 0;
    assert_true(cut.seq > 1);
    do {
        struct far_retain_cut own = cut_of(new);
        uint64_t first = meta_of(new).first_seq;
        assert_true(own.seq == (first < cut.seq ? cut.seq : 0) || (own.seq == 0 && first > 1));
        none += own.seq == 0;
    } while (fetch(2000));
    assert_int_equal(cut_of(new).seq, cut.seq);
    assert_int_equal(cut_of(new).time_ms, cut.time_ms);
    return none;
}

static void who_has_not_fetched_what_is_old_wants_no_cut(void **state)
{
    (void)state;
    struct far_retain_cut cut = cut_of(old);
    assert_true(cut.bytes == 0 && cut.time_ms != 0 && cut.time_ms < START_MS + OLD_HOURS * HOUR_MS);
    assert_true(check_cuts_while_fetching() > 5);
}

static void no_policy_makes_it_cut_what_is_young(void **state)
{
    (void)state;
    apply_system(&far_schema_cmd_retention_set, &(struct far_cmd_retention_set){.days = 1, .bytes = 64 << 20}, HOURS);
    assert_true(cut_of(old).seq > 300);
    (void)check_cuts_while_fetching();
}

static void put_policy(struct far_store *store, const struct far_row_retention *row)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(store, true, &txn, &err), &err);
    struct far_state state = {.kv = far_store_kv(txn), .digest = far_store_meta(txn)->digest};
    struct far_key key = far_key(&far_schema_row_retention);
    must(far_state_put(&state, &far_schema_row_retention, &key, row, &err), &err);
    far_store_meta(txn)->digest = state.digest;
    must(far_store_commit(txn, &err), &err);
}

/* A policy of a few bytes, as no command gives it: old and new have segments, and the segments of the new one are others. */
static void who_fetches_has_no_idea_of_what_is_too_much(void **state)
{
    (void)state;
    const struct far_row_retention row = {.days = 1000, .bytes = 1000, .first_seq = 1};
    const struct far_seal_limits limits = {.rows_max = 4, .segment_events = EPOCH};
    struct far_error err = {0};
    put_policy(old, &row);
    put_policy(new, &row);
    must(far_segments_seal_all(old, &limits, &err), &err);
    must(far_segments_seal_all(new, &limits, &err), &err);
    assert_int_equal(cut_of(old).bytes, 1000);
    for (;;) {
        assert_true((cut_of(new).seq != 0) == (meta_of(new).first_seq == 1));
        if (!fetch(2000)) {
            break;
        }
    }
    assert_int_equal(cut_of(new).bytes, 1000);
}

static int setup_old(void **state)
{
    (void)state;
    return setup_at(3 * EPOCH + 3); /* a little behind where an epoch begins, and before what is young */
}

static void where_only_one_server_has_a_state_is_no_cut(void **state)
{
    (void)state;
    uint64_t common = cut_of(old).seq;
    while (fetch(2000)) {
    }
    assert_true(has_epoch(new, installed_seq) && !has_epoch(old, installed_seq));
    assert_true(installed_seq > common);
    assert_int_equal(cut_of(new).seq, common);
    uint64_t one = 1;
    struct far_cmd_events_cut cut = {
        .seq = common, .held_by = {.items = &one, .count = 1}, .time_ms = cut_of(new).time_ms};
    apply_system(&far_schema_cmd_events_cut, &cut, HOURS);
    tidy(old);
    tidy(new);
    assert_int_equal(meta_of(old).first_seq, common);
    for (uint64_t seq = common - 1; seq <= meta_of(old).last_seq; seq++) {
        assert_true(shows(old, seq));
        assert_true(shows(new, seq) == (seq >= installed_seq));
    }
}

/* No leader does so any more, but logs of others say so. */
static void after_a_cut_anywhere_the_states_that_come_can_be_shown(void **state)
{
    (void)state;
    uint64_t one = 1, seq = meta_of(old).last_seq - 3;
    struct far_cmd_events_cut cut = {.seq = seq, .held_by = {.items = &one, .count = 1}};
    apply_system(&far_schema_cmd_events_cut, &cut, HOURS);
    uint64_t last = meta_of(old).last_seq;
    assert_int_equal(last / EPOCH, (seq - 2) / EPOCH); /* none begins in between */
    tidy(old);
    assert_int_equal(meta_of(old).first_seq, seq);
    apply(far_test_site_create(ENTRIES + 1, &payload), HOURS);
    assert_true(shows(old, last) && shows(old, last + 1));
    tidy(old);
    assert_true(shows(old, last) && shows(old, last + 1));
}

/* What is old is so by the clocks that most servers have. */
static void clocks_that_are_wrong_cut_nothing(void **state)
{
    (void)state;
    struct far_cmd_clock_judge judge = {.verdict = FAR_clock_verdict_ahead, .off_ms = 31 * 24 * HOUR_MS, .agreeing = 2, .voters = 3};
    assert_true(cut_of(old).seq > 1);
    apply_system(&far_schema_cmd_clock_judge, &judge, HOURS);
    assert_int_equal(cut_of(old).seq, 0);
    judge = (struct far_cmd_clock_judge){.verdict = FAR_clock_verdict_suspect, .off_ms = HOUR_MS};
    apply_system(&far_schema_cmd_clock_judge, &judge, HOURS);
    assert_int_equal(cut_of(old).seq, 0);
    judge = (struct far_cmd_clock_judge){.verdict = FAR_clock_verdict_good};
    apply_system(&far_schema_cmd_clock_judge, &judge, HOURS);
    assert_true(cut_of(old).seq > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_has_not_fetched_what_is_old_wants_no_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(no_policy_makes_it_cut_what_is_young, setup, teardown),
        cmocka_unit_test_setup_teardown(who_fetches_has_no_idea_of_what_is_too_much, setup, teardown),
        cmocka_unit_test_setup_teardown(where_only_one_server_has_a_state_is_no_cut, setup_old, teardown),
        cmocka_unit_test_setup_teardown(after_a_cut_anywhere_the_states_that_come_can_be_shown, setup, teardown),
        cmocka_unit_test_setup_teardown(clocks_that_are_wrong_cut_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
