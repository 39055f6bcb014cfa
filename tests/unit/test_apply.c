/* Apply: entries become events and state together with the applied index, in order, once; by the thread as by hand. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* nftw */
#endif
#include "../lib/cm.h"

#include "../lib/entries.h"
#include "../lib/remove_tree.h"
#include "log/apply_thread.h"

enum { MAP_BYTES = 1 << 28 };

static struct far_buf payload, entry;

static int setup(void **state)
{
    (void)state;
    far_buf_init(&payload, 64 * 1024);
    far_buf_init(&entry, FAR_ENVELOPE_MAX);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    far_buf_done(&payload);
    far_buf_done(&entry);
    return 0;
}

struct seen {
    unsigned count;
    struct far_result last;
};

static void note(void *arg, unsigned position, const struct far_command *command, const struct far_result *result)
{
    struct seen *seen = arg;
    (void)position;
    (void)command;
    seen->count++;
    seen->last = *result;
}

/* The command that the test log has at this index. */
static struct far_slice nth_entry(uint64_t index)
{
    struct far_command command = index == 1 ? far_test_cluster_init(&payload) : far_test_site_create(index, &payload);
    return far_test_entry(&command, index, 1, &entry);
}

static int apply_at(struct far_store *store, uint64_t index, struct far_slice bytes, struct seen *seen,
                    struct far_error *err)
{
    struct far_store_txn *txn;
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    int rv = far_apply_commands(txn, index, 1, bytes, note, seen, err);
    if (rv != 0) {
        far_store_abort(txn);
    } else {
        assert_int_equal(far_store_commit(txn, NULL), 0);
    }
    return rv;
}

static void read_meta(struct far_store *store, struct far_store_meta *ret_meta)
{
    struct far_store_txn *txn;
    assert_int_equal(far_store_begin(store, false, &txn, NULL), 0);
    *ret_meta = *far_store_meta(txn);
    struct far_hash128 digest;
    uint64_t pairs;
    assert_int_equal(far_state_digest_walk(far_store_kv(txn), &digest, &pairs, NULL), 0);
    assert_true(far_hash128_equal(digest, ret_meta->digest));
    far_store_abort(txn);
}

static void entries_become_events_and_state_with_the_index(void **state)
{
    (void)state;
    struct far_store *store;
    struct far_store_meta meta;
    struct seen seen = {0};
    assert_int_equal(far_store_open_memory(&store, NULL), 0);
    for (uint64_t i = 1; i <= 5; i++) {
        struct far_error err = {0};
        assert_int_equal(apply_at(store, i, nth_entry(i), &seen, &err), 0);
        if (seen.last.klass != 0) {
            fail_msg("%s", seen.last.message);
        }
        assert_int_equal(seen.count, i);
    }
    read_meta(store, &meta);
    assert_int_equal(meta.applied_index, 5);
    assert_int_equal(meta.last_seq, seen.last.seq_last);
    assert_true(meta.last_seq >= 5);
    far_store_close(store);
}

static void an_entry_that_is_not_the_next_one_is_refused(void **state)
{
    (void)state;
    struct far_store *store;
    struct far_store_meta before, after;
    struct seen seen = {0};
    assert_int_equal(far_store_open_memory(&store, NULL), 0);
    assert_int_equal(apply_at(store, 1, nth_entry(1), &seen, NULL), 0);
    read_meta(store, &before);
    assert_int_equal(apply_at(store, 1, nth_entry(1), &seen, NULL), FAR_CORRUPT);
    assert_int_equal(apply_at(store, 3, nth_entry(3), &seen, NULL), FAR_CORRUPT);
    assert_int_equal(apply_at(store, 2, nth_entry(3), &seen, NULL), FAR_CORRUPT); /* an index that is not its own */
    struct far_slice bytes = nth_entry(2);
    entry.data[bytes.len - 9] ^= 1;
    assert_int_equal(apply_at(store, 2, bytes, &seen, NULL), FAR_CORRUPT);
    read_meta(store, &after);
    assert_memory_equal(&before, &after, sizeof before);
    far_store_close(store);
}

static void a_repeated_command_gets_its_first_answer_and_makes_no_event(void **state)
{
    (void)state;
    struct far_store *store;
    struct far_store_meta before, after;
    struct seen first = {0}, second = {0};
    assert_int_equal(far_store_open_memory(&store, NULL), 0);
    assert_int_equal(apply_at(store, 1, nth_entry(1), &first, NULL), 0);
    assert_int_equal(apply_at(store, 2, nth_entry(2), &first, NULL), 0);
    read_meta(store, &before);
    struct far_command command = far_test_site_create(2, &payload);
    assert_int_equal(apply_at(store, 3, far_test_entry(&command, 3, 1, &entry), &second, NULL), 0);
    read_meta(store, &after);
    assert_true(second.last.repeated);
    assert_int_equal(second.last.object_id, first.last.object_id);
    assert_int_equal(before.last_seq, after.last_seq);
    assert_int_equal(after.applied_index, 3);
    far_store_close(store);
}

/* ---- the thread ---- */

struct watch {
    uv_loop_t *loop;
    uint64_t applied, results, marks, wanted;
};

static void on_outcome(void *arg, const struct far_apply_outcome *outcome)
{
    struct watch *watch = arg;
    watch->results += outcome->result_count;
    if (outcome->is_early) {
        assert_true(outcome->results[0].index > watch->applied);
    } else {
        assert_true(outcome->applied_index >= watch->applied);
        watch->applied = outcome->applied_index;
    }
    watch->marks += outcome->mark_count;
    for (size_t i = 0; i < outcome->result_count; i++) {
        assert_int_equal(outcome->results[i].result.klass, 0);
    }
    if (watch->applied == watch->wanted) {
        uv_stop(watch->loop);
    }
}

static void stopped(void *arg)
{
    *(bool *)arg = true;
}

static void the_thread_applies_everything_in_order_and_answers(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    struct far_store *by_thread, *by_hand;
    struct far_apply_thread *thread;
    struct far_store_meta a, b;
    struct seen seen = {0};
    uv_loop_t loop;
    bool is_stopped = false;
    char dir[256];
    assert_int_equal(far_test_make_folder("apply", dir, sizeof dir), 0);
    assert_int_equal(uv_loop_init(&loop), 0);
    struct watch watch = {.loop = &loop, .wanted = COUNT};
    assert_int_equal(far_store_open_lmdb(dir, MAP_BYTES, false, &by_thread, NULL), 0); /* the one in memory is for one thread */
    assert_int_equal(far_store_open_memory(&by_hand, NULL), 0);
    assert_int_equal(far_apply_thread_start(by_thread, NULL, &loop, on_outcome, NULL, &watch, &thread, NULL), 0);
    for (uint64_t i = 1; i <= COUNT; i++) {
        struct far_slice bytes = nth_entry(i);
        struct far_blob *blob = far_blob_new(bytes.data, bytes.len);
        assert_int_equal(far_apply_thread_push(thread, FAR_JOB_COMMANDS, i, 1, blob, i % 2 == 0), 0);
        far_blob_unref(blob);
        assert_int_equal(apply_at(by_hand, i, bytes, &seen, NULL), 0);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(watch.results, COUNT / 2);
    assert_int_equal(watch.marks, COUNT);
    far_apply_thread_stop(thread, stopped, &is_stopped);
    while (uv_run(&loop, UV_RUN_DEFAULT) != 0) {
    }
    assert_true(is_stopped);
    assert_int_equal(uv_loop_close(&loop), 0);
    read_meta(by_thread, &a);
    read_meta(by_hand, &b);
    assert_memory_equal(a.head, b.head, FAR_HEAD_SIZE);
    assert_true(far_hash128_equal(a.digest, b.digest));
    far_store_close(by_thread);
    far_store_close(by_hand);
    far_test_remove_tree(dir);
}

static void what_others_act_on_has_haste_and_what_comes_in_masses_has_none(void **unused)
{
    assert_int_equal(far_apply_haste(FAR_KIND_cmd_token_create), FAR_HASTE_NOW);
    assert_int_equal(far_apply_haste(FAR_KIND_cmd_token_revoke), FAR_HASTE_NOW);
    assert_int_equal(far_apply_haste(FAR_KIND_cmd_node_report), FAR_HASTE_NONE);
    assert_int_equal(far_apply_haste(FAR_KIND_cmd_workload_update), FAR_HASTE_NONE);
    assert_int_equal(far_apply_haste(FAR_KIND_cmd_plan_start), FAR_HASTE_SOON);
    assert_int_equal(far_apply_haste(FAR_KIND_cmd_server_role_set), FAR_HASTE_SOON);
    assert_int_equal(far_apply_haste(FAR_KIND_cmd_tick), FAR_HASTE_SOON);
    assert_int_equal(far_apply_haste(0), FAR_HASTE_SOON); /* a kind of tomorrow */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_others_act_on_has_haste_and_what_comes_in_masses_has_none),
        cmocka_unit_test(entries_become_events_and_state_with_the_index),
        cmocka_unit_test(an_entry_that_is_not_the_next_one_is_refused),
        cmocka_unit_test(a_repeated_command_gets_its_first_answer_and_makes_no_event),
        cmocka_unit_test(the_thread_applies_everything_in_order_and_answers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
