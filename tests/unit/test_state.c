/* The state: rows come back as they were put, every flipped bit is named, the digest follows every change. */
#include "fsm/state.h"

#include "fsm/kv_memory.h"

#include "../lib/cm.h"

static struct far_arena arena;
static struct far_state state;
static struct far_error err;

static int setup(void **unused)
{
    far_arena_init(&arena, 1 << 20);
    state = (struct far_state){.kv = far_kv_memory_new()};
    return 0;
}

static int teardown(void **unused)
{
    far_arena_done(&arena);
    far_kv_memory_free(state.kv);
    return 0;
}

static struct far_key site_key(uint64_t id)
{
    struct far_key key = far_key(&far_schema_row_site);
    far_key_u64(&key, id);
    return key;
}

static void put_site(uint64_t id, const char *name)
{
    struct far_row_site row = {.id = id, .name = far_slice_str(name)};
    struct far_key key = site_key(id);
    assert_int_equal(far_state_put(&state, &far_schema_row_site, &key, &row, &err), 0);
}

static void assert_digest(uint64_t pairs)
{
    struct far_hash128 digest;
    uint64_t count;
    assert_int_equal(far_state_digest_walk(state.kv, &digest, &count, &err), 0);
    assert_true(far_hash128_equal(digest, state.digest));
    assert_int_equal(count, pairs);
}

static void rows_and_digest_follow_every_change(void **unused)
{
    struct far_hash128 empty = state.digest;
    put_site(1, "a");
    put_site(2, "b");
    assert_digest(2);
    put_site(1, "c");
    put_site(1, "c");
    assert_digest(2);
    struct far_key key = site_key(1);
    struct far_row_site row;
    assert_int_equal(far_state_get(&state, &far_schema_row_site, &key, &arena, &row, &err), 0);
    assert_true(far_slice_equal(row.name, far_slice_str("c")));
    assert_int_equal(far_state_del(&state, &key, &err), 0);
    assert_int_equal(far_state_del(&state, &key, &err), FAR_NOT_FOUND);
    assert_digest(1);
    key = site_key(2);
    assert_int_equal(far_state_del(&state, &key, &err), 0);
    assert_true(far_hash128_equal(state.digest, empty));
}

static void a_walk_stays_in_its_table(void **unused)
{
    put_site(5, "a");
    put_site(7, "b");
    struct far_row_node node = {.id = 6};
    struct far_key key = far_key(&far_schema_row_node);
    far_key_u64(&key, 6);
    assert_int_equal(far_state_put(&state, &far_schema_row_node, &key, &node, &err), 0);
    struct far_row_site row;
    struct far_slice id;
    key = far_key(&far_schema_row_site);
    assert_int_equal(far_state_next(&state, &far_schema_row_site, &key, &arena, &id, &row, &err), 0);
    assert_int_equal(row.id, 5);
    assert_int_equal(far_get_be64(id.data), 5);
    assert_int_equal(far_state_next(&state, &far_schema_row_site, &key, &arena, &id, &row, &err), 0);
    assert_int_equal(row.id, 7);
    assert_int_equal(far_state_next(&state, &far_schema_row_site, &key, &arena, &id, &row, &err), FAR_NOT_FOUND);
    key = site_key(6);
    assert_int_equal(far_state_next(&state, &far_schema_row_site, &key, &arena, NULL, &row, &err), 0);
    assert_int_equal(row.id, 7);
}

static void every_flipped_bit_is_named_and_never_returned(void **unused)
{
    put_site(1, "paris");
    struct far_key key = site_key(1);
    struct far_slice value, k = far_slice(key.bytes, key.len);
    assert_int_equal(state.kv->ops->get(state.kv, k, &value, &err), 0);
    uint8_t bytes[64];
    size_t len = value.len;
    memcpy(bytes, value.data, len);
    for (size_t bit = 0; bit < len * 8; bit++) {
        struct far_row_site row;
        struct far_hash128 digest;
        uint64_t pairs;
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(state.kv->ops->put(state.kv, k, far_slice(bytes, len), &err), 0);
        assert_int_equal(far_state_get(&state, &far_schema_row_site, &key, &arena, &row, &err), FAR_CORRUPT);
        assert_non_null(strstr(err.message, "table 'site'"));
        assert_int_equal(far_state_digest_walk(state.kv, &digest, &pairs, &err), FAR_CORRUPT);
        assert_int_equal(far_state_del(&state, &key, &err), FAR_CORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(state.kv->ops->put(state.kv, k, far_slice(bytes, 3), &err), 0);
    struct far_row_site row;
    assert_int_equal(far_state_get(&state, &far_schema_row_site, &key, &arena, &row, &err), FAR_CORRUPT);
}

static void a_key_that_is_too_long_is_our_mistake(void **unused)
{
    uint8_t bytes[FAR_KV_KEY_MAX] = {0};
    struct far_key key = far_key(&far_schema_row_name);
    far_key_bytes(&key, far_slice(bytes, sizeof bytes));
    far_key_u8(&key, 1);
    struct far_row_name row = {.id = 1};
    assert_int_equal(far_state_put(&state, &far_schema_row_name, &key, &row, &err), FAR_INTERNAL);
    assert_int_equal(far_state_get(&state, &far_schema_row_name, &key, &arena, &row, &err), FAR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_and_digest_follow_every_change, setup, teardown),
        cmocka_unit_test_setup_teardown(a_walk_stays_in_its_table, setup, teardown),
        cmocka_unit_test_setup_teardown(every_flipped_bit_is_named_and_never_returned, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_that_is_too_long_is_our_mistake, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
