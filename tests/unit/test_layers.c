/* Layers: what is applied to them and committed by another thread is, byte by byte, what transactions of the store make of the
 * same entries, whenever they are frozen, committed, settled or given up. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* nftw */
#endif
#include "../lib/cm.h"

#include "../lib/entries.h"
#include "../lib/remove_tree.h"
#include "log/apply.h"
#include "log/layers.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

enum { ENTRIES = 600, EPOCH = 16, MAP_BYTES = 1 << 28 };

struct fixture {
    char dirs[2][256];
    struct far_store *direct, *layered;
    struct far_layers *layers;
    const struct far_layer *frozen; /* NULL: none */
    uv_thread_t thread;
    bool running;
    uint64_t applied, committed; /* of the layers, the last index */
};

static struct far_buf payload, entry;

/* ---- a log ---- */

static unsigned draw(uint64_t index, unsigned what, unsigned below)
{
    unsigned seed = (unsigned)index * 31 + what;
    (void)rand_r(&seed);
    return (unsigned)rand_r(&seed) % below;
}

static void add(const struct far_command *command)
{
    assert_int_equal(far_envelope_add(&entry, command, NULL), 0);
}

static void add_random(uint64_t index, unsigned n)
{
    char name[32];
    snprintf(name, sizeof name, "s%u", draw(index, n, 24));
    struct far_cmd_site_create create = {.name = far_slice_str(name), .role = 1 + draw(index, n + 100, 3)};
    struct far_cmd_site_remove remove = {.name = far_slice_str(name)};
    uint64_t number = 10 * index + n;
    struct far_command command = draw(index, n + 200, 2) == 0 ? far_test_command(&far_schema_cmd_site_create, &create, number, &payload)
                                                              : far_test_command(&far_schema_cmd_site_remove, &remove, number, &payload);
    add(&command);
}

/* The entry that the log has at this index. */
static struct far_slice nth_entry(uint64_t index)
{
    far_buf_reset(&entry);
    assert_int_equal(far_envelope_begin(&entry, NULL), 0);
    if (index == 1) {
        struct far_command init = far_test_cluster_init(&payload);
        add(&init);
    }
    for (unsigned n = 0; index > 1 && n < 1 + draw(index, 300, 3); n++) {
        add_random(index, n);
    }
    far_envelope_finish(&entry, index, 1);
    return far_buf_slice(&entry);
}

static void apply_directly(struct fixture *f, uint64_t index)
{
    struct far_store_txn *txn;
    assert_int_equal(far_store_begin(f->direct, true, &txn, NULL), 0);
    assert_int_equal(far_apply_commands(txn, index, 1, nth_entry(index), NULL, NULL, NULL), 0);
    assert_int_equal(far_store_commit(txn, NULL), 0);
}

/* ---- the layers ---- */

static void apply_to_layer(struct fixture *f)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    assert_int_equal(far_layers_grow(f->layers, &txn, NULL), 0);
    if (far_apply_commands(txn, f->applied + 1, 1, nth_entry(f->applied + 1), NULL, NULL, &err) != 0) {
        fail_msg("entry %llu: %s", (unsigned long long)f->applied + 1, err.message);
    }
    f->applied++;
}

static void commit(void *arg)
{
    struct fixture *f = arg;
    struct far_error err = {0};
    if (far_layer_commit(f->frozen, f->layered, &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
}

/* Wait for the commit that runs, and read from the store. */
static void settle(struct fixture *f)
{
    if (f->running) {
        assert_int_equal(uv_thread_join(&f->thread), 0);
        f->running = false;
        f->frozen = NULL;
    }
    assert_int_equal(far_layers_settle(f->layers, NULL), 0);
}

static void freeze(struct fixture *f)
{
    settle(f);
    f->frozen = far_layers_freeze(f->layers);
    f->committed = f->applied;
    assert_int_equal(uv_thread_create(&f->thread, commit, f), 0);
    f->running = true;
}

static void drop(struct fixture *f)
{
    far_layers_drop(f->layers);
    f->applied = f->committed;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct far_store **const stores[2] = {&f->direct, &f->layered};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(far_test_make_folder("layers", f->dirs[i], sizeof f->dirs[i]), 0);
        assert_int_equal(far_store_open_lmdb(f->dirs[i], MAP_BYTES, false, stores[i], NULL), 0);
        (*stores[i])->epoch_events = EPOCH;
    }
    f->layers = far_layers_new(f->layered);
    assert_non_null(f->layers);
    far_buf_init(&payload, 64 * 1024);
    far_buf_init(&entry, FAR_ENVELOPE_MAX);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    settle(f);
    far_layers_free(f->layers);
    far_store_close(f->direct);
    far_store_close(f->layered);
    far_test_remove_tree(f->dirs[0]);
    far_test_remove_tree(f->dirs[1]);
    far_buf_done(&payload);
    far_buf_done(&entry);
    free(f);
    return 0;
}

/* ---- what they hold ---- */

/* Returns the number of rows. */
static uint64_t expect_equal_rows(struct far_kv *a, struct far_kv *b)
{
    uint8_t from[FAR_KV_KEY_MAX + 1];
    struct far_slice at = far_slice(from, 0), key_a, key_b, value_a, value_b;
    uint64_t rows = 0;
    for (;; rows++) {
        int rv = a->ops->seek(a, at, &key_a, &value_a, NULL);
        assert_int_equal(b->ops->seek(b, at, &key_b, &value_b, NULL), rv);
        if (rv != 0) {
            return rows;
        }
        assert_true(far_slice_equal(key_a, key_b) && far_slice_equal(value_a, value_b));
        memcpy(from, key_a.data, key_a.len);
        from[key_a.len] = 0;
        at = far_slice(from, key_a.len + 1);
    }
}

static void expect_equal_metas(const struct far_store_meta *a, const struct far_store_meta *b)
{
    assert_int_equal(a->applied_index, b->applied_index);
    assert_int_equal(a->applied_term, b->applied_term);
    assert_int_equal(a->first_seq, b->first_seq);
    assert_int_equal(a->last_seq, b->last_seq);
    assert_memory_equal(a->head, b->head, FAR_HEAD_SIZE);
    assert_true(far_hash128_equal(a->digest, b->digest));
}

static void expect_equal(struct far_store_txn *a, struct far_store_txn *b)
{
    expect_equal_metas(far_store_meta(a), far_store_meta(b));
    assert_true(expect_equal_rows(far_store_kv(a), far_store_kv(b)) > 20);
    assert_true(expect_equal_rows(far_store_history(a), far_store_history(b)) > 20);
    for (uint64_t seq = 1; seq <= far_store_meta(a)->last_seq; seq++) {
        struct far_slice row_a, row_b;
        assert_int_equal(far_store_event_row(a, seq, &row_a, NULL), 0);
        assert_int_equal(far_store_event_row(b, seq, &row_b, NULL), 0);
        assert_true(far_slice_equal(row_a, row_b));
    }
}

static void expect_equal_stores(struct fixture *f)
{
    struct far_store_txn *a, *b;
    assert_int_equal(far_store_begin(f->direct, false, &a, NULL), 0);
    assert_int_equal(far_store_begin(f->layered, false, &b, NULL), 0);
    expect_equal(a, b);
    far_store_abort(a);
    far_store_abort(b);
}

/* ---- tests ---- */

static void layers_make_of_entries_what_transactions_do(void **state)
{
    struct fixture *f = *state;
    for (uint64_t i = 1; i <= ENTRIES; i++) {
        apply_directly(f, i);
    }
    for (uint64_t step = 1; f->applied < ENTRIES; step++) {
        apply_to_layer(f);
        switch (draw(step, 500, 24)) {
        case 0:
        case 1:
            freeze(f);
            break;
        case 2:
            settle(f);
            break;
        case 3:
            drop(f);
            break;
        default:
            break;
        }
    }
    if (f->applied > f->committed) {
        freeze(f);
    }
    settle(f);
    expect_equal_stores(f);
}

/* Through both layers and the store below. */
static void a_transaction_sees_what_lies_in_all_layers(void **state)
{
    struct fixture *f = *state;
    struct far_store_txn *a, *b;
    uint64_t counts[3] = {200, 300, 450};
    for (uint64_t i = 1; i <= counts[2]; i++) {
        apply_directly(f, i);
    }
    for (int layer = 0; layer < 3; layer++) {
        while (f->applied < counts[layer]) {
            apply_to_layer(f);
        }
        if (layer < 2) {
            freeze(f);
        }
    }
    assert_int_equal(far_layers_grow(f->layers, &b, NULL), 0); /* the frozen one is committed meanwhile */
    assert_int_equal(far_store_begin(f->direct, false, &a, NULL), 0);
    expect_equal(a, b);
    settle(f);
    expect_equal(a, b);
    far_store_abort(a);
}

static void what_is_not_committed_is_not_in_the_store(void **state)
{
    struct fixture *f = *state;
    for (uint64_t i = 1; i <= 100; i++) {
        apply_directly(f, i);
        apply_to_layer(f);
    }
    freeze(f);
    settle(f);
    for (int i = 0; i < 50; i++) {
        apply_to_layer(f);
    }
    expect_equal_stores(f);
    drop(f);
    expect_equal_stores(f);
}

/* A layer that lies on another state than the store's is never written. */
static void a_layer_is_committed_once(void **state)
{
    struct fixture *f = *state;
    struct far_error err = {0};
    for (uint64_t i = 1; i <= 40; i++) {
        apply_directly(f, i);
        apply_to_layer(f);
    }
    const struct far_layer *layer = far_layers_freeze(f->layers);
    assert_int_equal(far_layer_commit(layer, f->layered, NULL), 0);
    assert_int_equal(far_layer_commit(layer, f->layered, &err), FAR_INTERNAL);
    expect_equal_stores(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(layers_make_of_entries_what_transactions_do, setup, teardown),
        cmocka_unit_test_setup_teardown(a_transaction_sees_what_lies_in_all_layers, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_committed_is_not_in_the_store, setup, teardown),
        cmocka_unit_test_setup_teardown(a_layer_is_committed_once, setup, teardown),
    };
    return cmocka_run_group_tests_name("layers", tests, NULL, NULL);
}
