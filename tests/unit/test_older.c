/* Events from before an installed state stay, apart, until those between are fetched; what cannot be right is dropped and fetched. */
#define _GNU_SOURCE
#include "../lib/cm.h"
#include "../lib/remove_tree.h"

#include "log/older.h"
#include "log/segments.h"
#include "log/snapshot.h"

enum { EVENTS = 900, OWN = 300, STATE = 600, BATCH = 4096 };

static char dir[256];
static uint8_t heads[EVENTS + 1][FAR_HEAD_SIZE];
static struct far_store *peer; /* holds all of them */
static const struct far_seal_limits limits = {.rows_max = 50, .segment_events = 100, .segment_bytes = 1 << 20};

static void must(int rv, const struct far_error *err)
{
    if (rv != 0) {
        fail_msg("%s", err->message);
    }
}

static struct far_event make_event(uint64_t seq)
{
    return (struct far_event){
        .seq = seq, .index = 1 + seq / 3, .kind = 10, .time_ms = 1000 * seq, .payload = far_slice_str("what happened")};
}

static void append(struct far_store *store, uint64_t from, uint64_t to)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(store, true, &txn, &err), &err);
    for (uint64_t seq = from; seq <= to; seq++) {
        struct far_event event = make_event(seq);
        must(far_store_event_append(txn, &event, &err), &err);
    }
    must(far_store_commit(txn, &err), &err);
}

/* The state after the event `seq` comes from the peer: what an installation does to the events. */
static void install(struct far_store *store, uint64_t seq)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(store, true, &txn, &err), &err);
    struct far_store_meta *meta = far_store_meta(txn);
    must(far_older_keep(txn, seq, &err), &err);
    meta->last_seq = seq;
    meta->first_seq = seq + 1;
    memcpy(meta->head, heads[seq], FAR_HEAD_SIZE);
    memcpy(meta->base_head, heads[seq], FAR_HEAD_SIZE);
    must(far_older_join(txn, &err), &err);
    must(far_store_install_clear(txn, &err), &err);
    must(far_store_install_switch(txn, &err), &err);
    must(far_store_commit(txn, &err), &err);
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

/* Fetch until first_seq <= to. */
static void fetch(struct far_store *store, uint64_t to)
{
    struct far_store_txn *from, *into;
    struct far_error err = {0};
    must(far_store_begin(peer, false, &from, &err), &err);
    while (meta_of(store).first_seq > to) {
        struct far_buf batch;
        far_buf_init(&batch, BATCH);
        must(far_history_encode(from, 1, meta_of(store).first_seq - 1, BATCH, &batch, &err), &err);
        must(far_store_begin(store, true, &into, &err), &err);
        must(far_history_apply(into, far_buf_slice(&batch), &err), &err);
        must(far_store_commit(into, &err), &err);
        far_buf_done(&batch);
    }
    far_store_abort(from);
}

static void check(struct far_store *store, uint64_t first, uint64_t last)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    assert_int_equal(meta_of(store).first_seq, first);
    assert_int_equal(meta_of(store).last_seq, last);
    must(far_store_begin(store, false, &txn, &err), &err);
    for (uint64_t seq = first; seq <= last; seq++) {
        struct far_event event;
        uint8_t head[FAR_HEAD_SIZE];
        must(far_store_event_get(txn, seq, &event, head, &err), &err);
        assert_memory_equal(head, heads[seq], FAR_HEAD_SIZE);
    }
    far_store_abort(txn);
}

static struct far_store *new_store(bool in_memory)
{
    struct far_store *store;
    struct far_error err = {0};
    if (in_memory) {
        must(far_store_open_memory(&store, &err), &err);
    } else {
        assert_int_equal(far_test_make_folder("older", dir, sizeof dir), 0);
        must(far_store_open_lmdb(dir, (size_t)1 << 28, false, &store, &err), &err);
    }
    return store;
}

static struct far_store *reopen(struct far_store *store, bool in_memory)
{
    struct far_error err = {0};
    if (!in_memory) {
        far_store_close(store);
        must(far_store_open_lmdb(dir, (size_t)1 << 28, false, &store, &err), &err);
    }
    return store;
}

static void end(struct far_store *store, bool in_memory)
{
    far_store_close(store);
    assert_int_equal(in_memory ? 0 : far_test_remove_tree(dir), 0);
}

/* Remove some rows as tidying does; true: there was something. */
static bool tidy(struct far_store *store, uint64_t cut)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    bool more = false;
    must(far_store_begin(store, true, &txn, &err), &err);
    must(far_segments_cut(txn, cut, 64, &more, &err), &err);
    must(far_store_commit(txn, &err), &err);
    return more;
}

static size_t count_rows(struct far_store *store)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    struct far_slice row;
    size_t count = 0;
    must(far_store_begin(store, false, &txn, &err), &err);
    for (uint64_t seq = 1; seq <= EVENTS; seq++) {
        count += txn->store->ops->event_row(txn, seq, &row, &err) == 0;
    }
    far_store_abort(txn);
    return count;
}

/* Rows go behind its back, as a damaged page or an older program takes them. */
static void lose(struct far_store *store, uint64_t from, uint64_t to)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    size_t count;
    must(far_store_begin(store, true, &txn, &err), &err);
    must(store->ops->event_remove(txn, from, to, SIZE_MAX, &count, &err), &err);
    must(far_store_commit(txn, &err), &err);
}

/* ---- tests ---- */

static void they_stay_and_are_taken_up_where_fetching_meets_them(bool in_memory)
{
    struct far_store *store = new_store(in_memory);
    append(store, 1, OWN);
    install(store, STATE);
    store = reopen(store, in_memory);
    assert_int_equal(meta_of(store).older_count, 1);
    assert_int_equal(meta_of(store).first_seq, STATE + 1); /* nobody reads them before */
    while (tidy(store, 1)) {
    }
    assert_int_equal(count_rows(store), OWN);
    append(store, STATE + 1, EVENTS);
    fetch(store, STATE - 50);
    store = reopen(store, in_memory);
    fetch(store, OWN);
    assert_int_equal(meta_of(store).older_count, 0);
    check(store, 1, EVENTS);
    store = reopen(store, in_memory);
    check(store, 1, EVENTS);
    end(store, in_memory);
}

static void also_several_of_them(bool in_memory)
{
    struct far_store *store = new_store(in_memory);
    append(store, 1, OWN);
    install(store, OWN); /* only entries without events lay between */
    check(store, 1, OWN);
    install(store, OWN + 100);
    append(store, OWN + 101, OWN + 150);
    install(store, STATE);
    fetch(store, STATE - 30);
    install(store, EVENTS);
    assert_int_equal(meta_of(store).older_count, 3);
    store = reopen(store, in_memory);
    assert_int_equal(meta_of(store).older_count, 3);
    fetch(store, 1);
    check(store, 1, EVENTS);
    assert_int_equal(meta_of(store).older_count, 0);
    end(store, in_memory);
}

static void those_that_lead_elsewhere_are_dropped(bool in_memory)
{
    struct far_store *store = new_store(in_memory);
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(store, true, &txn, &err), &err);
    for (uint64_t seq = 1; seq <= OWN; seq++) {
        struct far_event event = make_event(seq);
        event.kind = seq == OWN / 2 ? 11 : 10;
        must(far_store_event_append(txn, &event, &err), &err);
    }
    must(far_store_commit(txn, &err), &err);
    if (!in_memory) {
        must(far_segments_seal_all(store, &limits, &err), &err);
    }
    install(store, STATE);
    fetch(store, 1);
    check(store, 1, STATE);
    end(store, in_memory);
}

static void those_that_are_not_whole_are_dropped(bool in_memory)
{
    for (int i = 0; i < 2; i++) {
        struct far_store *store = new_store(in_memory);
        append(store, 1, OWN);
        install(store, STATE);
        lose(store, i == 0 ? 1 : OWN, i == 0 ? 1 : OWN);
        fetch(store, OWN + 1);
        assert_true(meta_of(store).first_seq > 1);
        fetch(store, 1);
        check(store, 1, STATE);
        end(store, in_memory);
    }
}

static void cuts_reach_them(bool in_memory)
{
    struct far_store *store = new_store(in_memory);
    append(store, 1, OWN);
    install(store, OWN + 100);
    append(store, OWN + 101, OWN + 150);
    install(store, STATE);
    while (tidy(store, OWN - 9)) {
    }
    assert_int_equal(count_rows(store), 10 + 50);
    assert_int_equal(meta_of(store).older_count, 2);
    store = reopen(store, in_memory);
    fetch(store, OWN);
    check(store, OWN - 9, STATE);
    install(store, EVENTS);
    while (tidy(store, STATE + 10)) {
    }
    assert_int_equal(meta_of(store).older_count, 0);
    assert_int_equal(count_rows(store), 0);
    end(store, in_memory);
}

static void too_many_are_given_up_and_their_rows_go(bool in_memory)
{
    struct far_store *store = new_store(in_memory);
    append(store, 1, 10);
    for (uint64_t i = 1; i <= FAR_STORE_OLDER_MAX + 1; i++) {
        install(store, 20 * i);
        append(store, 20 * i + 1, 20 * i + 10);
    }
    assert_int_equal(meta_of(store).older_count, FAR_STORE_OLDER_MAX);
    while (tidy(store, 1)) {
    }
    assert_int_equal(count_rows(store), 10 * (FAR_STORE_OLDER_MAX + 1));
    fetch(store, 1);
    check(store, 1, 20 * (FAR_STORE_OLDER_MAX + 1) + 10);
    end(store, in_memory);
}

/* It cannot be, and would be another log: nothing of it is in the way of the one that goes on. */
static void those_behind_the_state_are_given_up(bool in_memory)
{
    struct far_store *store = new_store(in_memory);
    append(store, 1, STATE);
    install(store, OWN);
    assert_int_equal(meta_of(store).older_count, 0);
    append(store, OWN + 1, OWN + 5);
    fetch(store, 1);
    check(store, 1, OWN + 5);
    assert_int_equal(count_rows(store), OWN + 5);
    install(store, STATE);
    install(store, OWN - 5); /* also of a stretch */
    assert_int_equal(meta_of(store).older_count, 0);
    append(store, OWN - 4, OWN + 20);
    fetch(store, 1);
    check(store, 1, OWN + 20);
    end(store, in_memory);
}

static void what_was_compacted_is_looked_at_again(bool in_memory)
{
    struct far_store *store = new_store(in_memory);
    struct far_store_txn *txn;
    struct far_error err = {0};
    append(store, 1, OWN);
    for (int i = 0; i < 2; i++) { /* as far as the stretch had come; and after it the rest */
        must(far_store_begin(store, true, &txn, &err), &err);
        far_store_meta(txn)->compacted_seq = i == 0 ? 100 : STATE;
        must(far_store_commit(txn, &err), &err);
        if (i == 0) {
            install(store, STATE);
        }
    }
    fetch(store, 1);
    assert_int_equal(meta_of(store).compacted_seq, 100);
    end(store, in_memory);
}

static void sealed_ones_stay_sealed(void **state)
{
    (void)state;
    struct far_store *store = new_store(false);
    struct far_error err = {0};
    append(store, 1, OWN);
    must(far_segments_seal_all(store, &limits, &err), &err);
    size_t rows = count_rows(store);
    assert_true(rows < OWN);
    install(store, STATE);
    store = reopen(store, false);
    must(far_segments_sweep(store, &err), &err);
    fetch(store, 1);
    assert_int_equal(count_rows(store), rows + STATE - OWN);
    check(store, 1, STATE);
    must(far_segments_seal_all(store, &limits, &err), &err);
    check(store, 1, STATE);
    install(store, EVENTS);
    fetch(store, STATE + 1);
    check(store, 1, EVENTS);
    while (tidy(store, STATE)) {
    }
    check(store, STATE, EVENTS);
    end(store, false);
}

static void newer_segments_outlive_one_that_is_dropped(void **state)
{
    (void)state;
    struct far_store *store = new_store(false);
    struct far_error err = {0};
    append(store, 1, OWN);
    install(store, STATE);
    append(store, STATE + 1, EVENTS);
    fetch(store, OWN + 100);
    must(far_segments_seal_all(store, &limits, &err), &err);
    lose(store, OWN, OWN);
    fetch(store, 1);
    check(store, 1, EVENTS);
    end(store, false);
}

static void segments_are_as_large_as_ever_beside_one(void **state)
{
    (void)state;
    struct far_store *store = new_store(false);
    struct far_store_txn *txn;
    struct far_error err = {0};
    struct far_segment segment = {.last_seq = 0};
    unsigned count = 0;
    append(store, 1, OWN);
    install(store, STATE);
    for (uint64_t seq = STATE + 1; seq <= EVENTS; seq++) {
        append(store, seq, seq);
        must(far_segments_seal_all(store, &limits, &err), &err);
    }
    must(far_store_begin(store, false, &txn, &err), &err);
    while (store->ops->segment_seek(txn, segment.last_seq + 1, &segment, &err) == 0) {
        count++;
    }
    far_store_abort(txn);
    assert_in_range(count, 1, 4);
    end(store, false);
}

static void an_older_program_may_have_run_in_between(void **state)
{
    (void)state;
    struct far_store *store = new_store(false);
    struct far_store_txn *txn;
    struct far_error err = {0};
    struct far_stretch stretch;
    append(store, 1, OWN);
    install(store, STATE);
    append(store, STATE + 1, EVENTS);
    must(far_store_begin(store, true, &txn, &err), &err);
    stretch = far_store_meta(txn)->older[0];
    far_store_meta(txn)->older_count = 0;
    must(far_store_commit(txn, &err), &err);
    fetch(store, 100); /* by the older program, which overwrites rows */
    must(far_segments_seal_all(store, &limits, &err), &err);
    uint64_t first = meta_of(store).first_seq;
    must(far_store_begin(store, true, &txn, &err), &err);
    far_store_meta(txn)->older[0] = stretch; /* what the record says, still */
    far_store_meta(txn)->older_count = 1;
    must(far_store_commit(txn, &err), &err);
    fetch(store, first - 1);
    check(store, meta_of(store).first_seq, EVENTS);
    end(store, false);
}

static void a_cut_through_one_that_is_gone_drops_it(void **state)
{
    (void)state;
    struct far_store *store = new_store(false);
    append(store, 1, OWN);
    install(store, STATE);
    lose(store, 1, OWN); /* an older program's tidying did it */
    while (tidy(store, OWN - 9)) {
    }
    assert_int_equal(meta_of(store).older_count, 0);
    end(store, false);
}

static void a_segment_that_begins_before_one_goes_with_it(void **state)
{
    (void)state;
    static const struct far_seal_limits small = {.rows_max = 1, .segment_events = 50, .segment_bytes = 1 << 20};
    struct far_store *store = new_store(false);
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(store, true, &txn, &err), &err);
    for (uint64_t seq = 1; seq <= OWN; seq++) {
        struct far_event event = make_event(seq);
        event.kind = seq == 240 ? 11 : 10;
        must(far_store_event_append(txn, &event, &err), &err);
    }
    must(far_store_commit(txn, &err), &err);
    must(far_segments_seal_all(store, &small, &err), &err);
    install(store, STATE);
    while (tidy(store, 231)) {
    }
    fetch(store, 231);
    check(store, meta_of(store).first_seq, STATE);
    bool more = true;
    while (more) {
        must(far_store_begin(store, true, &txn, &err), &err);
        must(far_segments_trim(txn, 64, &more, &err), &err);
        must(far_store_commit(txn, &err), &err);
    }
    check(store, meta_of(store).first_seq, STATE);
    end(store, false);
}

static void in_lmdb_and_in_memory(void **state)
{
    (void)state;
    for (int in_memory = 0; in_memory < 2; in_memory++) {
        they_stay_and_are_taken_up_where_fetching_meets_them(in_memory);
        also_several_of_them(in_memory);
        those_that_lead_elsewhere_are_dropped(in_memory);
        those_that_are_not_whole_are_dropped(in_memory);
        cuts_reach_them(in_memory);
        too_many_are_given_up_and_their_rows_go(in_memory);
        those_behind_the_state_are_given_up(in_memory);
        what_was_compacted_is_looked_at_again(in_memory);
    }
}

static int setup(void **state)
{
    (void)state;
    struct far_error err = {0};
    for (uint64_t seq = 1; seq <= EVENTS; seq++) {
        struct far_event event = make_event(seq);
        memcpy(heads[seq], heads[seq - 1], FAR_HEAD_SIZE);
        must(far_chain_add(heads[seq], &event, &err), &err);
    }
    must(far_store_open_memory(&peer, &err), &err);
    append(peer, 1, EVENTS);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    far_store_close(peer);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_lmdb_and_in_memory),
        cmocka_unit_test(sealed_ones_stay_sealed),
        cmocka_unit_test(newer_segments_outlive_one_that_is_dropped),
        cmocka_unit_test(segments_are_as_large_as_ever_beside_one),
        cmocka_unit_test(an_older_program_may_have_run_in_between),
        cmocka_unit_test(a_cut_through_one_that_is_gone_drops_it),
        cmocka_unit_test(a_segment_that_begins_before_one_goes_with_it),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
