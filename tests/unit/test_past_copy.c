/* States of the past for a server that installed a state: every moment whose events it has is shown as by the server that gave
 * them; what is damaged, not whole or of another history is refused, and nothing of it is shown. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* nftw */
#endif
#include "../lib/cm.h"

#include "../lib/entries.h"
#include "../lib/installed.h"
#include "../lib/remove_tree.h"
#include "log/apply.h"
#include "log/history.h"
#include "log/past_copy.h"
#include "log/retain.h"
#include "log/segments.h"
#include "log/snapshot.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EPOCH = 32, FIRST_ENTRIES = 300, LATER_ENTRIES = 100, BATCHES_MAX = 64 };

static char base[256];
static struct far_store *giver, *taker; /* the taker installed the state behind entry FIRST_ENTRIES */
static struct far_buf payload, entry;
static uint64_t installed_seq;
static struct far_buf batches[BATCHES_MAX]; /* all that the giver sends */
static int batch_count;

static void must(int rv, const struct far_error *err)
{
    if (rv != 0) {
        fail_msg("%s", err->message);
    }
}

static struct far_store_txn *begin(struct far_store *store, bool write)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(store, write, &txn, &err), &err);
    return txn;
}

static void commit(struct far_store_txn *txn)
{
    struct far_error err = {0};
    must(far_store_commit(txn, &err), &err);
}

static struct far_store *new_store(const char *name)
{
    char path[300];
    struct far_store *store;
    struct far_error err = {0};
    snprintf(path, sizeof path, "%s/%s", base, name);
    assert_int_equal(mkdir(path, 0700), 0);
    must(far_store_open_lmdb(path, (size_t)1 << 28, false, &store, &err), &err);
    store->epoch_events = EPOCH;
    return store;
}

static void apply(struct far_store *store, struct far_command command)
{
    struct far_store_txn *txn = begin(store, true);
    struct far_error err = {0};
    uint64_t index = far_store_meta(txn)->applied_index + 1;
    must(far_apply_commands(txn, index, 1, far_test_entry(&command, index, 1, &entry), NULL, NULL, &err), &err);
    commit(txn);
}

/* Sites come and go, so that rows change in many epochs. */
static void apply_some(struct far_store *store, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i <= to; i++) {
        char name[32];
        snprintf(name, sizeof name, "site-%llu", (unsigned long long)(i - 7));
        struct far_cmd_site_remove remove = {.name = far_slice_str(name)};
        apply(store, i == 1                  ? far_test_cluster_init(&payload)
                     : i % 3 == 0 && i > 9 ? far_test_command(&far_schema_cmd_site_remove, &remove, i, &payload)
                                             : far_test_site_create(i, &payload));
    }
}

/* The state of now, and the events before it; no states of the past. */
static void install(struct far_store *store, struct far_store *from)
{
    struct far_store_txn *source = begin(from, false), *txn = begin(store, true);
    struct far_error err = {0};
    far_test_install(source, txn);
    struct far_store_meta *meta = far_store_meta(txn);
    struct far_buf events;
    far_buf_init(&events, 1 << 24);
    must(far_history_encode(source, 1, meta->last_seq, 1 << 24, &events, &err), &err);
    must(far_history_apply(txn, far_buf_slice(&events), &err), &err);
    far_buf_done(&events);
    assert_int_equal(meta->first_seq, 1);
    commit(txn);
    far_store_abort(source);
}

static uint64_t oldest_epoch(struct far_store *store)
{
    struct far_store_txn *txn = begin(store, false);
    struct far_epoch epoch = {.seq = 0};
    struct far_error err = {0};
    must(far_epoch_after(txn, UINT64_MAX, &epoch, &err), &err);
    far_store_abort(txn);
    return epoch.seq;
}

static void fetch_all(void)
{
    struct far_store_txn *txn = begin(giver, false);
    struct far_error err = {0};
    struct far_past_batch batch = {.is_last = false};
    uint8_t next[FAR_PAST_KEY_MAX + 1];
    size_t next_len = 0;
    while (!batch.is_last) {
        struct far_buf *out = &batches[batch_count++];
        assert_in_range(batch_count, 1, BATCHES_MAX);
        far_buf_init(out, 1 << 20);
        must(far_past_copy_encode(txn, installed_seq, far_slice(next, next_len), out, &err), &err);
        must(far_past_copy_decode(far_buf_slice(out), &batch, &err), &err);
        memcpy(next, batch.next.data, batch.next.len);
        next_len = batch.next.len;
    }
    far_store_abort(txn);
}

static int set_up(void **unused)
{
    const char *folder = getenv("TMPDIR");
    snprintf(base, sizeof base, "%s/far-past-copy-XXXXXX", folder != NULL ? folder : "/tmp");
    assert_non_null(mkdtemp(base));
    far_buf_init(&payload, 64 * 1024);
    far_buf_init(&entry, FAR_ENVELOPE_MAX);
    giver = new_store("giver");
    taker = new_store("taker");
    apply_some(giver, 1, FIRST_ENTRIES);
    install(taker, giver);
    apply_some(giver, FIRST_ENTRIES + 1, FIRST_ENTRIES + LATER_ENTRIES);
    apply_some(taker, FIRST_ENTRIES + 1, FIRST_ENTRIES + LATER_ENTRIES);
    installed_seq = oldest_epoch(taker);
    assert_true(installed_seq % EPOCH > 1); /* where the giver has no epoch */
    fetch_all();
    return 0;
}

static int tear_down(void **unused)
{
    for (int i = 0; i < batch_count; i++) {
        far_buf_done(&batches[i]);
    }
    far_store_close(giver);
    far_store_close(taker);
    far_buf_done(&payload);
    far_buf_done(&entry);
    return far_test_remove_tree(base);
}

/* Puts a batch into the taker; its error. */
static int put(struct far_slice bytes, struct far_error *err)
{
    struct far_store_txn *txn = begin(taker, true);
    int rv = far_past_copy_apply(txn, bytes, err);
    if (rv != 0) {
        far_store_abort(txn);
    } else {
        commit(txn);
    }
    return rv;
}

static void a_damaged_batch_is_refused_whatever_byte_it_is(void **unused)
{
    for (int b = 0; b < batch_count; b++) {
        size_t step = batches[b].len / 400 + 1;
        for (size_t at = 0; at < batches[b].len; at += step) {
            struct far_past_batch batch;
            struct far_error err = {0};
            uint8_t *copy = malloc(batches[b].len);
            memcpy(copy, batches[b].data, batches[b].len);
            copy[at] ^= 0x40;
            struct far_store_txn *txn = begin(taker, true);
            int rv = far_past_copy_apply(txn, far_slice(copy, batches[b].len), &err);
            bool is_of_head = far_past_copy_decode(far_buf_slice(&batches[b]), &batch, NULL) == 0 &&
                              at < (size_t)(batch.rows.data - batches[b].data); /* where to go on: the asker's matter */
            bool is_of_empty = rv == 0; /* "it was not there" has no checksum: that is found when all are there */
            assert_true(rv == FAR_CORRUPT || is_of_head || (is_of_empty && !batch.is_last));
            far_store_abort(txn);
            free(copy);
        }
        for (size_t len = 0; len < batches[b].len; len += step) {
            struct far_error err = {0};
            struct far_store_txn *txn = begin(taker, true);
            int rv = far_past_copy_apply(txn, far_slice(batches[b].data, len), &err);
            assert_true(rv == FAR_CORRUPT || rv == 0); /* cut between two rows it is a batch */
            far_store_abort(txn);
        }
    }
    assert_int_equal(oldest_epoch(taker), installed_seq);
}

static void states_that_are_not_whole_are_not_believed(void **unused)
{
    struct far_error err = {0};
    assert_true(batch_count >= 2);
    for (int b = 1; b < batch_count; b++) { /* all but the first: rows are missing */
        int rv = put(far_buf_slice(&batches[b]), &err);
        assert_int_equal(rv, b < batch_count - 1 ? 0 : FAR_CORRUPT);
    }
    assert_non_null(strstr(err.message, "not whole"));
    assert_int_equal(oldest_epoch(taker), installed_seq);
}

static void states_of_another_history_are_refused(void **unused)
{
    struct far_store *kept = taker;
    struct far_error err = {0};
    struct far_store *other = new_store("other");
    taker = new_store("other-taker");
    apply_some(other, 1, 10);
    apply(other, far_test_site_create(5000, &payload)); /* here they part */
    apply_some(other, 11, FIRST_ENTRIES + 20);
    install(taker, other);
    apply_some(taker, 20000, 20001);
    for (int b = 0; b < batch_count; b++) {
        int rv = put(far_buf_slice(&batches[b]), &err);
        assert_int_equal(rv, b < batch_count - 1 ? 0 : FAR_CORRUPT);
    }
    assert_non_null(strstr(err.message, "another history"));
    far_store_close(other);
    far_store_close(taker);
    taker = kept;
}

static struct far_hash128 state_of(struct far_store_txn *txn, uint64_t seq)
{
    struct far_moment moment = {FAR_MOMENT_SEQ, seq};
    struct far_past *past;
    struct far_error err = {0};
    struct far_hash128 digest;
    uint64_t rows;
    must(far_past_open(txn, &moment, &past, &err), &err);
    must(far_state_digest_walk(past->state.kv, &digest, &rows, &err), &err);
    assert_true(far_hash128_equal(digest, past->state.digest));
    assert_true(past->folded < 2 * EPOCH); /* from an epoch nearby, not from the first event */
    far_past_close(past);
    return digest;
}

static void every_moment_is_shown_as_by_the_server_that_gave_it(void **unused)
{
    struct far_error err = {0};
    for (int again = 0; again < 2; again++) { /* twice does not harm */
        for (int b = 0; b < batch_count; b++) {
            must(put(far_buf_slice(&batches[b]), &err), &err);
        }
    }
    assert_int_equal(oldest_epoch(taker), 0);
    apply_some(giver, FIRST_ENTRIES + LATER_ENTRIES + 1, FIRST_ENTRIES + 2 * LATER_ENTRIES);
    apply_some(taker, FIRST_ENTRIES + LATER_ENTRIES + 1, FIRST_ENTRIES + 2 * LATER_ENTRIES);
    struct far_store_txn *here = begin(taker, false), *there = begin(giver, false);
    assert_int_equal(far_store_meta(here)->last_seq, far_store_meta(there)->last_seq);
    for (uint64_t seq = 0; seq <= far_store_meta(here)->last_seq; seq++) {
        assert_true(far_hash128_equal(state_of(here, seq), state_of(there, seq)));
    }
    far_store_abort(here);
    far_store_abort(there);
}

/* Two servers with epochs of their own; the events before 101 are cut on one, and tidying is on its way through its states. */
struct cut_server {
    struct far_store *store, *often;
    struct far_retain_walk walk;
    uint64_t before; /* its oldest state: the other one has some between that and the first event */
};

static bool tidy_a_row(struct cut_server *cut, size_t max)
{
    struct far_store_txn *txn = begin(cut->store, true);
    struct far_error err = {0};
    bool changed = false, more = false;
    must(far_retain_history(txn, &cut->walk, UINT64_MAX, max, &changed, &more, &err), &err);
    commit(txn);
    return more;
}

static void cut_before(struct cut_server *cut, uint64_t seq)
{
    struct far_store_txn *txn = begin(cut->store, true);
    struct far_error err = {0};
    bool more;
    must(far_segments_cut(txn, seq, 100000, &more, &err), &err);
    commit(txn);
}

static struct cut_server new_cut_server(const char *name, const char *often)
{
    struct cut_server cut = {.store = new_store(name), .often = new_store(often)};
    cut.often->epoch_events = EPOCH / 4;
    apply_some(cut.store, 1, FIRST_ENTRIES);
    apply_some(cut.often, 1, FIRST_ENTRIES);
    cut_before(&cut, 101);
    assert_true(tidy_a_row(&cut, 1) && tidy_a_row(&cut, 1) && cut.walk.floor > 101); /* the records, then one row */
    cut.before = oldest_epoch(cut.store);
    return cut;
}

static void close_both(struct cut_server *cut)
{
    far_store_close(cut->store);
    far_store_close(cut->often);
}

/* The next batch; its error. */
static int fetch(struct cut_server *cut, struct far_past_batch *batch, struct far_buf *out, struct far_error *err)
{
    uint8_t at[FAR_PAST_KEY_MAX + 1];
    size_t len = batch->next.len;
    if (len > 0) {
        memcpy(at, batch->next.data, len);
    }
    struct far_store_txn *txn = begin(cut->often, false);
    far_buf_reset(out);
    must(far_past_copy_encode(txn, cut->before, far_slice(at, len), out, err), err);
    far_store_abort(txn);
    must(far_past_copy_decode(far_buf_slice(out), batch, err), err);
    txn = begin(cut->store, true);
    int rv = far_past_copy_apply(txn, far_buf_slice(out), err);
    if (rv != 0) {
        far_store_abort(txn);
    } else {
        commit(txn);
    }
    return rv;
}

static void tidying_under_way_leaves_the_states_that_came(void **unused)
{
    struct cut_server cut = new_cut_server("cut", "often");
    struct far_past_batch batch = {.is_last = false};
    struct far_error err = {0};
    struct far_buf out;
    far_buf_init(&out, 1 << 20);
    while (!batch.is_last) {
        must(fetch(&cut, &batch, &out, &err), &err);
    }
    assert_true(oldest_epoch(cut.store) < cut.before);
    while (tidy_a_row(&cut, 7)) {
    }
    struct far_store_txn *here = begin(cut.store, false), *there = begin(cut.often, false);
    for (uint64_t seq = oldest_epoch(cut.store); seq <= far_store_meta(here)->last_seq; seq++) {
        assert_true(far_hash128_equal(state_of(here, seq), state_of(there, seq)));
    }
    far_store_abort(here);
    far_store_abort(there);
    far_buf_done(&out);
    close_both(&cut);
}

static void states_are_not_believed_when_those_behind_them_went_meanwhile(void **unused)
{
    struct cut_server cut = new_cut_server("cut-again", "often-again");
    struct far_past_batch batch = {.is_last = false};
    struct far_error err = {0};
    struct far_buf out;
    far_buf_init(&out, 1 << 20);
    cut.often->past_looks = 50;
    int rv = fetch(&cut, &batch, &out, &err);
    assert_true(rv == 0 && !batch.is_last);
    cut.before = oldest_epoch(cut.store);
    struct far_store_txn *txn = begin(cut.store, true); /* as if it took too much room */
    struct far_kv *kept = far_store_history(txn);
    uint8_t key[9] = {0xff};
    far_put_be64(key + 1, cut.before);
    must(kept->ops->del(kept, far_slice(key, sizeof key), &err), &err);
    commit(txn);
    while (rv == 0 && !batch.is_last) {
        rv = fetch(&cut, &batch, &out, &err);
    }
    assert_int_equal(rv, FAR_CORRUPT);
    assert_non_null(strstr(err.message, "came too late"));
    assert_true(oldest_epoch(cut.store) > cut.before);
    far_buf_done(&out);
    close_both(&cut);
}

static void who_has_nothing_older_says_so_at_once(void **unused)
{
    struct far_store_txn *txn = begin(giver, false);
    struct far_error err = {0};
    struct far_past_batch batch;
    struct far_buf out;
    far_buf_init(&out, 1 << 20);
    must(far_past_copy_encode(txn, 0, far_slice(NULL, 0), &out, &err), &err);
    must(far_past_copy_decode(far_buf_slice(&out), &batch, &err), &err);
    assert_true(batch.is_last && batch.rows.len == 0);
    far_buf_done(&out);
    far_store_abort(txn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_damaged_batch_is_refused_whatever_byte_it_is),
        cmocka_unit_test(states_that_are_not_whole_are_not_believed),
        cmocka_unit_test(states_of_another_history_are_refused),
        cmocka_unit_test(every_moment_is_shown_as_by_the_server_that_gave_it),
        cmocka_unit_test(tidying_under_way_leaves_the_states_that_came),
        cmocka_unit_test(states_are_not_believed_when_those_behind_them_went_meanwhile),
        cmocka_unit_test(who_has_nothing_older_says_so_at_once),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
