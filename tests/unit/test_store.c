/* The two stores: LMDB and memory do the same; what was committed is there after opening again; damage is named. */
#define _GNU_SOURCE
#include "../lib/cm.h"
#include "../lib/until.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "log/store.h"

#include <lmdb.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) /* by gcc */
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif

static char folder[256];

static void make_folder(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/far-store-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(folder));
}

static void remove_folder(void)
{
    char path[300];
    const char *const names[] = {"data.mdb", "lock.mdb"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(folder), 0);
}

static struct far_store *open_lmdb(void)
{
    struct far_store *store = NULL;
    struct far_error err = {0};
    if (far_store_open_lmdb(folder, (size_t)1 << 28, false, &store, &err) != 0) {
        fail_msg("%s", err.message);
    }
    return store;
}

static struct far_store *open_memory(void)
{
    struct far_store *store = NULL;
    assert_int_equal(far_store_open_memory(&store, NULL), 0);
    return store;
}

static uint64_t seed;
static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* The same call on both gives the same answer. */
static void compare_seek(struct far_kv *a, struct far_kv *b, struct far_slice key, bool before)
{
    struct far_slice ka, va, kb, vb;
    int ra = before ? a->ops->seek_before(a, key, &ka, &va, NULL) : a->ops->seek(a, key, &ka, &va, NULL);
    int rb = before ? b->ops->seek_before(b, key, &kb, &vb, NULL) : b->ops->seek(b, key, &kb, &vb, NULL);
    assert_int_equal(ra, rb);
    if (ra == 0) {
        assert_true(far_slice_equal(ka, kb));
        assert_true(far_slice_equal(va, vb));
    }
}

static void compare_all(struct far_store_txn *a, struct far_store_txn *b)
{
    struct far_kv *ka = far_store_kv(a), *kb = far_store_kv(b);
    uint8_t at[FAR_KV_KEY_MAX + 1];
    size_t at_len = 0;
    for (;;) {
        struct far_slice key, value, other_key, other_value;
        int rv = ka->ops->seek(ka, far_slice(at, at_len), &key, &value, NULL);
        assert_int_equal(rv, kb->ops->seek(kb, far_slice(at, at_len), &other_key, &other_value, NULL));
        if (rv != 0) {
            break;
        }
        assert_true(far_slice_equal(key, other_key));
        assert_true(far_slice_equal(value, other_value));
        memcpy(at, key.data, key.len);
        at[key.len] = 0; /* just behind it */
        at_len = key.len + 1;
    }
    assert_memory_equal(far_store_meta(a)->head, far_store_meta(b)->head, FAR_HEAD_SIZE);
    assert_int_equal(far_store_meta(a)->last_seq, far_store_meta(b)->last_seq);
    assert_int_equal(far_store_meta(a)->applied_index, far_store_meta(b)->applied_index);
}

static void one_change(struct far_kv *a, struct far_kv *b)
{
    uint8_t key[FAR_KV_KEY_MAX], value[FAR_KV_VALUE_MAX];
    size_t key_len = 1 + next_random() % 3, value_len = next_random() % 40;
    for (size_t i = 0; i < key_len; i++) {
        key[i] = (uint8_t)(next_random() % 8);
    }
    if (next_random() % 16 == 0) {
        value_len = FAR_KV_VALUE_MAX;
    }
    memset(value, (int)next_random(), sizeof value);
    struct far_slice k = far_slice(key, key_len), v = far_slice(value, value_len), va, vb;
    switch (next_random() % 6) {
    case 0:
    case 1:
        assert_int_equal(a->ops->put(a, k, v, NULL), 0);
        assert_int_equal(b->ops->put(b, k, v, NULL), 0);
        break;
    case 2: {
        int rv = a->ops->del(a, k, NULL);
        assert_int_equal(rv, b->ops->del(b, k, NULL));
        break;
    }
    case 3: {
        int rv = a->ops->get(a, k, &va, NULL);
        assert_int_equal(rv, b->ops->get(b, k, &vb, NULL));
        assert_true(rv != 0 || far_slice_equal(va, vb));
        break;
    }
    default:
        compare_seek(a, b, next_random() % 20 == 0 ? far_slice(NULL, 0) : k, next_random() % 2 == 0);
    }
}

static struct far_event event_of(uint64_t seq)
{
    static const char text[] = "the payload of an event";
    return (struct far_event){.seq = seq, .index = seq + 3, .kind = 7, .actor = 1, .time_ms = seq * 10,
                              .payload = far_slice(text, seq % sizeof text)};
}

static void random_operations_give_the_same_in_both(void **state)
{
    (void)state;
    seed = (uint64_t)getpid() * 2654435761u + 88172645463325252u;
    printf("# seed %llu\n", (unsigned long long)seed);
    make_folder();
    struct far_store *a = open_lmdb(), *b = open_memory();
    for (int round = 0; round < 150; round++) {
        struct far_store_txn *ta, *tb;
        assert_int_equal(far_store_begin(a, true, &ta, NULL), 0);
        assert_int_equal(far_store_begin(b, true, &tb, NULL), 0);
        for (int i = 0; i < 30; i++) {
            one_change(far_store_kv(ta), far_store_kv(tb));
        }
        struct far_event event = event_of(far_store_meta(ta)->last_seq + 1);
        assert_int_equal(far_store_event_append(ta, &event, NULL), 0);
        assert_int_equal(far_store_event_append(tb, &event, NULL), 0);
        far_store_meta(ta)->applied_index = far_store_meta(tb)->applied_index = (uint64_t)round + 1;
        if (next_random() % 4 == 0) {
            far_store_abort(ta);
            far_store_abort(tb);
        } else {
            assert_int_equal(far_store_commit(ta, NULL), 0);
            assert_int_equal(far_store_commit(tb, NULL), 0);
        }
        if (round % 10 == 0) {
            assert_int_equal(far_store_durable_index(a), far_store_durable_index(b));
            assert_int_equal(far_store_begin(a, false, &ta, NULL), 0);
            assert_int_equal(far_store_begin(b, false, &tb, NULL), 0);
            compare_all(ta, tb);
            far_store_abort(ta);
            far_store_abort(tb);
        }
    }
    far_store_close(a);
    a = open_lmdb();
    struct far_store_txn *ta, *tb;
    assert_int_equal(far_store_begin(a, false, &ta, NULL), 0);
    assert_int_equal(far_store_begin(b, false, &tb, NULL), 0);
    compare_all(ta, tb);
    far_store_abort(ta);
    far_store_abort(tb);
    far_store_close(a);
    far_store_close(b);
    remove_folder();
}

static void put_one(struct far_store *store, const char *key, const char *value, uint64_t index)
{
    struct far_store_txn *txn;
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    struct far_kv *kv = far_store_kv(txn);
    assert_int_equal(kv->ops->put(kv, far_slice_str(key), far_slice_str(value), NULL), 0);
    far_store_meta(txn)->applied_index = index;
    struct far_event event = event_of(far_store_meta(txn)->last_seq + 1);
    assert_int_equal(far_store_event_append(txn, &event, NULL), 0);
    assert_int_equal(far_store_commit(txn, NULL), 0);
}

static bool has(struct far_store *store, const char *key)
{
    struct far_store_txn *txn;
    struct far_slice value;
    assert_int_equal(far_store_begin(store, false, &txn, NULL), 0);
    struct far_kv *kv = far_store_kv(txn);
    int rv = kv->ops->get(kv, far_slice_str(key), &value, NULL);
    far_store_abort(txn);
    assert_true(rv == 0 || rv == FAR_NOT_FOUND);
    return rv == 0;
}

static void a_power_cut_may_undo_the_last_commit_and_no_other(void **state)
{
    (void)state;
    struct far_store *store = open_memory();
    put_one(store, "a", "1", 1);
    assert_int_equal(far_store_durable_index(store), 0);
    put_one(store, "b", "2", 2);
    assert_int_equal(far_store_durable_index(store), 1);
    far_store_memory_power_cut(store, true);
    assert_true(has(store, "a"));
    assert_false(has(store, "b"));
    assert_int_equal(far_store_durable_index(store), 1);
    far_store_memory_power_cut(store, true);
    assert_true(has(store, "a"));
    put_one(store, "c", "3", 2);
    assert_int_equal(far_store_sync(store, NULL), 0);
    assert_int_equal(far_store_durable_index(store), 2);
    far_store_memory_power_cut(store, true);
    assert_true(has(store, "c"));
    far_store_close(store);
}

static void a_reader_sees_the_store_as_it_was_at_its_begin(struct far_store *store)
{
    struct far_store_txn *txn;
    struct far_slice value;
    put_one(store, "x", "old", 1);
    assert_int_equal(far_store_begin(store, false, &txn, NULL), 0);
    put_one(store, "x", "new", 2);
    struct far_kv *kv = far_store_kv(txn);
    assert_int_equal(kv->ops->get(kv, far_slice_str("x"), &value, NULL), 0);
    assert_true(far_slice_equal(value, far_slice_str("old")));
    assert_int_equal(far_store_meta(txn)->applied_index, 1);
    far_store_abort(txn);
}

static void readers_are_not_disturbed_by_writers(void **state)
{
    (void)state;
    make_folder();
    struct far_store *a = open_lmdb(), *b = open_memory();
    a_reader_sees_the_store_as_it_was_at_its_begin(a);
    a_reader_sees_the_store_as_it_was_at_its_begin(b);
    far_store_close(a);
    far_store_close(b);
    remove_folder();
}

static void install(struct far_store *store)
{
    struct far_store_txn *txn;
    put_one(store, "old", "1", 5);
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    assert_int_equal(far_store_install_clear(txn, NULL), 0);
    struct far_kv *kv = far_store_install_kv(txn);
    assert_int_equal(kv->ops->put(kv, far_slice_str("new"), far_slice_str("2"), NULL), 0);
    assert_int_equal(far_store_commit(txn, NULL), 0);
    assert_true(has(store, "old"));
    assert_false(has(store, "new"));
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    assert_int_equal(far_store_install_switch(txn, NULL), 0);
    far_store_meta(txn)->applied_index = 9;
    far_store_meta(txn)->last_seq = 20;
    far_store_meta(txn)->first_seq = 21;
    assert_int_equal(far_store_commit(txn, NULL), 0);
    assert_false(has(store, "old"));
    assert_true(has(store, "new"));
    struct far_event event;
    assert_int_equal(far_store_begin(store, false, &txn, NULL), 0);
    assert_int_equal(far_store_event_get(txn, 1, &event, NULL, NULL), FAR_NOT_FOUND);
    far_store_abort(txn);
}

static void the_second_set_is_switched_in_by_one_transaction(void **state)
{
    (void)state;
    make_folder();
    struct far_store *a = open_lmdb(), *b = open_memory();
    install(a);
    install(b);
    far_store_close(a);
    a = open_lmdb();
    assert_true(has(a, "new"));
    far_store_close(a);
    far_store_close(b);
    remove_folder();
}

static void events_are_prepended_only_where_the_chain_leads(void **state)
{
    (void)state;
    struct far_store *from = open_memory(), *to = open_memory();
    for (uint64_t i = 1; i <= 5; i++) {
        put_one(from, "k", "v", i);
    }
    struct far_store_txn *source, *sink;
    struct far_event event, wrong;
    uint8_t heads[6][FAR_HEAD_SIZE] = {0};
    assert_int_equal(far_store_begin(from, false, &source, NULL), 0);
    for (uint64_t seq = 1; seq <= 5; seq++) {
        assert_int_equal(far_store_event_get(source, seq, &event, heads[seq], NULL), 0);
    }
    assert_int_equal(far_store_begin(to, true, &sink, NULL), 0);
    far_store_meta(sink)->first_seq = 6;
    far_store_meta(sink)->last_seq = 5;
    memcpy(far_store_meta(sink)->head, heads[5], FAR_HEAD_SIZE);
    memcpy(far_store_meta(sink)->base_head, heads[5], FAR_HEAD_SIZE);
    for (uint64_t seq = 5; seq >= 1; seq--) {
        assert_int_equal(far_store_event_get(source, seq, &event, NULL, NULL), 0);
        wrong = event;
        wrong.time_ms++;
        assert_int_equal(far_store_event_prepend(sink, &wrong, heads[seq - 1], NULL), FAR_CORRUPT);
        assert_int_equal(far_store_event_prepend(sink, &event, heads[seq - 1], NULL), 0);
    }
    assert_int_equal(far_store_meta(sink)->first_seq, 1);
    assert_int_equal(far_store_event_get(sink, 3, &event, NULL, NULL), 0);
    far_store_abort(source);
    assert_int_equal(far_store_commit(sink, NULL), 0);
    far_store_close(from);
    far_store_close(to);
}

/* Flip one bit of the first place in the data file that holds the text. */
static void damage(const char *text)
{
    char path[300];
    snprintf(path, sizeof path, "%s/data.mdb", folder);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    static char bytes[1 << 20];
    size_t len = fread(bytes, 1, sizeof bytes, file);
    char *at = NULL;
    while ((at = memmem(at == NULL ? bytes : at + 1, at == NULL ? len : len - (size_t)(at + 1 - bytes), text,
                        strlen(text))) != NULL) {
        fseek(file, at - bytes, SEEK_SET);
        fputc(*at ^ 1, file);
    }
    assert_int_equal(fclose(file), 0);
}

static void a_changed_event_is_named_and_never_returned(void **state)
{
    (void)state;
    make_folder();
    struct far_store *store = open_lmdb();
    for (uint64_t i = 1; i <= 12; i++) {
        put_one(store, "k", "v", i);
    }
    far_store_close(store);
    damage("the paylo"); /* events 9 to 12 hold it */
    store = open_lmdb();
    struct far_store_txn *txn;
    struct far_event event;
    struct far_error err;
    assert_int_equal(far_store_begin(store, false, &txn, NULL), 0);
    assert_int_equal(far_store_event_get(txn, 8, &event, NULL, &err), 0);
    assert_int_equal(far_store_event_get(txn, 9, &event, NULL, &err), FAR_CORRUPT);
    assert_non_null(strstr(err.message, "table events, seq 9"));
    far_store_abort(txn);
    far_store_close(store);
    remove_folder();
}

enum { PAGE_BYTES = 4096, PAGE_HEADER = 16, NODE_HEADER = 8, BRANCH = 1 };

static uint16_t le16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

/* The n-th byte of the keys in the inner pages of the data file; 0: there are fewer. */
static size_t inner_key_byte(const uint8_t *bytes, size_t len, size_t n)
{
    for (size_t page = 2 * PAGE_BYTES; page < len; page += PAGE_BYTES) {
        const uint8_t *p = bytes + page;
        size_t nodes = le16(p + 10) == BRANCH && le16(p + 12) >= PAGE_HEADER ? (le16(p + 12) - PAGE_HEADER) / 2u : 0;
        for (size_t i = 0; i < nodes; i++) {
            size_t node = le16(p + PAGE_HEADER + 2 * i), key_len = le16(p + node + 6);
            if (n < key_len) {
                return page + node + NODE_HEADER + n;
            }
            n -= key_len;
        }
    }
    return 0;
}

static void write_byte(size_t at, int byte)
{
    char path[300];
    snprintf(path, sizeof path, "%s/data.mdb", folder);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, (long)at, SEEK_SET);
    fputc(byte, file);
    assert_int_equal(fclose(file), 0);
}

/* How many rows a walk by keys finds until it ends; more than `most`: it does not. */
static unsigned walk(unsigned most)
{
    struct far_store *store = open_lmdb();
    struct far_store_txn *txn;
    uint8_t at[FAR_KV_KEY_MAX + 1];
    struct far_slice key = far_slice(at, 0), value;
    unsigned rows = 0;
    assert_int_equal(far_store_begin(store, false, &txn, NULL), 0);
    struct far_kv *kv = far_store_kv(txn);
    for (struct far_slice from = key; rows <= most && kv->ops->seek(kv, from, &key, &value, NULL) == 0; rows++) {
        memcpy(at, key.data, key.len);
        at[key.len] = 0;
        from = far_slice(at, key.len + 1);
    }
    far_store_abort(txn);
    far_store_close(store);
    return rows;
}

static void a_walk_ends_though_a_key_of_an_inner_page_is_damaged(void **state)
{
    enum { ROWS = 300 };
    static uint8_t bytes[1 << 20];
    char path[300], key[40];
    make_folder();
    struct far_store *store = open_lmdb();
    struct far_store_txn *txn;
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    struct far_kv *kv = far_store_kv(txn);
    for (int i = 1; i <= ROWS; i++) {
        snprintf(key, sizeof key, "key-%04d-with-some-length", i);
        assert_int_equal(kv->ops->put(kv, far_slice_str(key), far_slice_str(key), NULL), 0);
    }
    assert_int_equal(far_store_commit(txn, NULL), 0);
    far_store_close(store);
    assert_int_equal(walk(ROWS), ROWS);
    snprintf(path, sizeof path, "%s/data.mdb", folder);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t len = fread(bytes, 1, sizeof bytes, file);
    assert_int_equal(fclose(file), 0);
    size_t at, n = 0;
    for (; (at = inner_key_byte(bytes, len, n)) != 0; n++) {
        for (int bit = 0; bit < 8; bit++) {
            write_byte(at, bytes[at] ^ 1 << bit);
            assert_in_range(walk(ROWS), 0, ROWS);
        }
        write_byte(at, bytes[at]);
    }
    assert_true(n > 0);
    remove_folder();
}

/* As 0.1.0 left it: no table history, and byte 7 of the meta record zero. */
static void make_old(void)
{
    enum { META_BYTES = 168 };
    uint8_t record[META_BYTES + 8];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi meta, history;
    MDB_val key = {4, "meta"}, value;
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 8), 0);
    assert_int_equal(mdb_env_set_mapsize(env, (size_t)1 << 28), 0);
    assert_int_equal(mdb_env_open(env, folder, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "meta", 0, &meta), 0);
    assert_int_equal(mdb_dbi_open(txn, "history", 0, &history), 0);
    assert_int_equal(mdb_get(txn, meta, &key, &value), 0);
    assert_int_equal(value.mv_size, sizeof record);
    memcpy(record, value.mv_data, sizeof record);
    assert_int_equal(record[7], 1);
    record[7] = 0;
    far_put_le64(record + META_BYTES, far_hash64(record, META_BYTES));
    value = (MDB_val){sizeof record, record};
    assert_int_equal(mdb_put(txn, meta, &key, &value, 0), 0);
    assert_int_equal(mdb_drop(txn, history, 1), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void write_row(struct far_store *store, uint8_t value)
{
    struct far_store_txn *txn;
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    struct far_kv *kv = far_store_kv(txn);
    assert_int_equal(kv->ops->put(kv, far_slice("row", 3), far_slice(&value, 1), NULL), 0);
    far_store_meta(txn)->applied_index = value;
    assert_int_equal(far_store_commit(txn, NULL), 0);
}

/* As under ulimit -v; under valgrind there is a limit of its own, and sanitizers have taken more than any already. */
static void a_limit_on_the_address_space_leaves_a_smaller_map(void **state)
{
    (void)state;
    struct far_store *store;
    struct far_error err = {0};
    struct rlimit before, limit;
    make_folder();
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    limit = before;
    limit.rlim_cur = (rlim_t)100 << 30;
    bool may_lower = before.rlim_max == RLIM_INFINITY || before.rlim_max > limit.rlim_cur;
    if (may_lower && !IS_SANITIZED && !far_test_on_valgrind()) {
        assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    }
    int rv = far_store_open_lmdb(folder, 0, false, &store, &err);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    if (rv != 0) {
        fail_msg("%s", err.message);
    }
    far_store_close(store);
    remove_folder();
}

static void a_store_of_0_1_0_opens_and_goes_on(void **state)
{
    (void)state;
    make_folder();
    struct far_store *store = open_lmdb();
    write_row(store, 7);
    far_store_close(store);
    make_old();
    for (uint8_t value = 7; value <= 8; value++) {
        struct far_store_txn *txn;
        struct far_slice found;
        store = open_lmdb();
        assert_int_equal(far_store_begin(store, false, &txn, NULL), 0);
        struct far_kv *kv = far_store_kv(txn);
        assert_int_equal(far_store_meta(txn)->applied_index, value);
        assert_int_equal(kv->ops->get(kv, far_slice("row", 3), &found, NULL), 0);
        assert_int_equal(found.data[0], value);
        assert_non_null(far_store_history(txn)); /* kept from now on */
        far_store_abort(txn);
        write_row(store, (uint8_t)(value + 1));
        far_store_close(store);
    }
    remove_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_give_the_same_in_both),
        cmocka_unit_test(a_store_of_0_1_0_opens_and_goes_on),
        cmocka_unit_test(a_limit_on_the_address_space_leaves_a_smaller_map),
        cmocka_unit_test(a_power_cut_may_undo_the_last_commit_and_no_other),
        cmocka_unit_test(readers_are_not_disturbed_by_writers),
        cmocka_unit_test(the_second_set_is_switched_in_by_one_transaction),
        cmocka_unit_test(events_are_prepended_only_where_the_chain_leads),
        cmocka_unit_test(a_changed_event_is_named_and_never_returned),
        cmocka_unit_test(a_walk_ends_though_a_key_of_an_inner_page_is_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
