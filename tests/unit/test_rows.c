/* Rows held decoded: what is read, walked and digested through them is what a state without them gives, whatever is undone and
 * whenever they are flushed; a damaged row is named; memory stays bounded; the fold of a world's events on rows is its state. */
#include "fsm/rows.h"

#include "../lib/cm.h"
#include "../lib/fsm_world.h"

#include <stdlib.h>

enum { OPS = 20000, IDS = 40 };

static uint64_t random_state = 88172645463325252u;

static uint64_t draw(uint64_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % below;
}

/* The same state twice: with rows and without. */
struct twins {
    struct far_state plain, held;
    struct far_arena arena;
    struct far_error err;
};

static void twins_init(struct twins *t)
{
    *t = (struct twins){.plain.kv = far_kv_memory_new(), .held.kv = far_kv_memory_new()};
    t->held.rows = far_rows_new(t->held.kv, true);
    assert_non_null(t->held.rows);
    far_arena_init(&t->arena, 1 << 20);
}

static void twins_done(struct twins *t)
{
    far_rows_free(t->held.rows);
    far_kv_memory_free(t->plain.kv);
    far_kv_memory_free(t->held.kv);
    far_arena_done(&t->arena);
}

static struct far_key some_key(const struct far_schema *table)
{
    struct far_key key = far_key(table);
    far_key_u64(&key, draw(IDS) * 0x01000001);
    return key;
}

/* A node has texts, bytes and a list of texts; the texts are gone when the call returns. */
static void put_node(struct twins *t, const struct far_key *key)
{
    char name[8] = "n", adapter[8] = "a";
    struct far_slice adapters[3] = {far_slice(adapter, 1 + draw(7)), far_slice(name, 1), far_slice("file", 4)};
    for (size_t i = 1; i < sizeof name; i++) {
        name[i] = adapter[i] = (char)('a' + draw(20));
    }
    struct far_row_node row = {.id = draw(1000), .name = far_slice(name, draw(8)), .fingerprint = far_slice(name, 8),
                               .sequence = draw(3), .adapters = {.items = adapters, .count = draw(4)}};
    assert_int_equal(far_state_put(&t->plain, &far_schema_row_node, key, &row, &t->err), 0);
    assert_int_equal(far_state_put(&t->held, &far_schema_row_node, key, &row, &t->err), 0);
    memset(name, 'x', sizeof name);
    memset(adapter, 'x', sizeof adapter);
}

static void assert_same_node(const struct far_row_node *a, const struct far_row_node *b)
{
    struct far_buf x, y;
    far_buf_init(&x, 4096);
    far_buf_init(&y, 4096);
    assert_int_equal(far_schema_encode(&far_schema_row_node, a, &x, NULL), 0);
    assert_int_equal(far_schema_encode(&far_schema_row_node, b, &y, NULL), 0);
    assert_true(far_slice_equal(far_buf_slice(&x), far_buf_slice(&y)));
    far_buf_done(&x);
    far_buf_done(&y);
}

static void get_node(struct twins *t, const struct far_key *key)
{
    struct far_row_node a = {0}, b = {0};
    int rc = far_state_get(&t->plain, &far_schema_row_node, key, &t->arena, &a, &t->err);
    assert_int_equal(far_state_get(&t->held, &far_schema_row_node, key, &t->arena, &b, &t->err), rc);
    assert_same_node(&a, &b);
}

/* Add to what is there: the slices of what was read are put back, as machines do it. */
static void touch_node(struct twins *t, const struct far_key *key)
{
    struct far_row_node a, b;
    int rc = far_state_get(&t->plain, &far_schema_row_node, key, &t->arena, &a, &t->err);
    assert_int_equal(far_state_get(&t->held, &far_schema_row_node, key, &t->arena, &b, &t->err), rc);
    if (rc == 0) {
        a.sequence = b.sequence = draw(100);
        if (draw(2) == 0) {
            a.data_address = a.name;
            b.data_address = b.name;
        }
        assert_int_equal(far_state_put(&t->plain, &far_schema_row_node, key, &a, &t->err), 0);
        assert_int_equal(far_state_put(&t->held, &far_schema_row_node, key, &b, &t->err), 0);
    }
}

static void del(struct twins *t, const struct far_key *key)
{
    int rc = far_state_del(&t->plain, key, &t->err);
    assert_int_equal(far_state_del(&t->held, key, &t->err), rc);
}

static void change_deadline(struct twins *t)
{
    struct far_row_deadline row;
    struct far_key key = some_key(&far_schema_row_deadline);
    if (draw(2) == 0) {
        assert_int_equal(far_state_put(&t->plain, &far_schema_row_deadline, &key, &row, &t->err), 0);
        assert_int_equal(far_state_put(&t->held, &far_schema_row_deadline, &key, &row, &t->err), 0);
    } else {
        del(t, &key);
    }
}

static void walk_nodes(struct twins *t)
{
    struct far_key a = far_key(&far_schema_row_node), b = a;
    struct far_row_node x, y;
    struct far_slice id, same;
    int rc;
    do {
        rc = far_state_next(&t->plain, &far_schema_row_node, &a, &t->arena, &id, &x, &t->err);
        assert_int_equal(far_state_next(&t->held, &far_schema_row_node, &b, &t->arena, &same, &y, &t->err), rc);
        if (rc == 0) {
            assert_true(far_slice_equal(id, same));
            assert_same_node(&x, &y);
        }
    } while (rc == 0);
}

static void walk_deadlines(struct twins *t)
{
    struct far_key a = some_key(&far_schema_row_deadline), b = a;
    struct far_row_deadline row;
    struct far_slice id, same;
    for (int i = 0, rc = 0; i < 5 && rc == 0; i++) {
        rc = far_state_next(&t->plain, &far_schema_row_deadline, &a, &t->arena, &id, &row, &t->err);
        assert_int_equal(far_state_next(&t->held, &far_schema_row_deadline, &b, &t->arena, &same, &row, &t->err), rc);
        assert_true(rc != 0 || far_slice_equal(id, same));
    }
}

static void some_op(struct twins *t)
{
    struct far_key key = some_key(&far_schema_row_node);
    switch (draw(8)) {
    case 0:
        put_node(t, &key);
        break;
    case 1:
        touch_node(t, &key);
        break;
    case 2:
        del(t, &key);
        break;
    case 3:
        walk_nodes(t);
        break;
    case 4:
        walk_deadlines(t);
        break;
    case 5:
        get_node(t, &key);
        break;
    default:
        change_deadline(t);
        break;
    }
}

/* Changes that are taken back: the plain twin forgets them with a copy of its map. */
static void some_ops_undone(struct twins *t)
{
    size_t mark = far_rows_mark(t->held.rows);
    struct far_state before = {.kv = far_kv_memory_clone(t->plain.kv), .digest = t->plain.digest};
    for (uint64_t i = draw(6); i > 0; i--) {
        some_op(t);
    }
    if (draw(2) == 0) {
        far_rows_undo(t->held.rows, mark);
        far_kv_memory_free(t->plain.kv);
        t->plain = before;
    } else {
        far_kv_memory_free(before.kv);
    }
}

static void flush(struct twins *t)
{
    struct far_hash128 walked;
    uint64_t pairs;
    assert_int_equal(far_rows_flush(t->held.rows, &t->held.digest, &t->err), 0);
    assert_true(far_hash128_equal(t->plain.digest, t->held.digest));
    assert_int_equal(far_state_digest_walk(t->held.kv, &walked, &pairs, &t->err), 0);
    assert_true(far_hash128_equal(walked, t->held.digest));
    assert_int_equal(pairs, far_kv_memory_count(t->plain.kv));
}

static void rows_give_what_the_map_alone_would_give(void **unused)
{
    struct twins t;
    twins_init(&t);
    for (int i = 0; i < OPS; i++) {
        if (draw(4) == 0) {
            some_ops_undone(&t);
        } else {
            some_op(&t);
        }
        if (draw(3) == 0) {
            far_rows_settle(t.held.rows);
            far_arena_reset(&t.arena);
        }
        if (draw(40) == 0) {
            far_rows_settle(t.held.rows);
            flush(&t);
        }
    }
    far_rows_settle(t.held.rows);
    flush(&t);
    twins_done(&t);
}

static void a_row_that_came_and_went_leaves_nothing_in_memory(void **unused)
{
    struct twins t;
    struct far_row_deadline row;
    twins_init(&t);
    for (uint64_t i = 1; i <= 1000; i++) {
        struct far_key key = far_key(&far_schema_row_deadline);
        far_key_u64(&key, i);
        assert_int_equal(far_state_put(&t.held, &far_schema_row_deadline, &key, &row, &t.err), 0);
        far_rows_settle(t.held.rows);
        assert_int_equal(far_state_del(&t.held, &key, &t.err), 0);
        far_rows_settle(t.held.rows);
    }
    assert_int_equal(far_rows_count(t.held.rows), 0);
    flush(&t);
    twins_done(&t);
}

static void a_trim_keeps_what_is_in_memory_within_its_bound(void **unused)
{
    struct twins t;
    struct far_row_deadline row;
    twins_init(&t);
    for (uint64_t i = 1; i <= 2 * FAR_ROWS_KEEP; i++) {
        struct far_key key = far_key(&far_schema_row_deadline);
        far_key_u64(&key, i);
        assert_int_equal(far_state_put(&t.held, &far_schema_row_deadline, &key, &row, &t.err), 0);
        far_rows_settle(t.held.rows);
        assert_int_equal(far_rows_trim(t.held.rows, &t.held.digest, &t.err), 0);
        assert_true(far_rows_count(t.held.rows) <= FAR_ROWS_KEEP);
    }
    assert_int_equal(far_rows_flush(t.held.rows, &t.held.digest, &t.err), 0);
    assert_int_equal(far_kv_memory_count(t.held.kv), 2 * FAR_ROWS_KEEP);
    twins_done(&t);
}

static void a_damaged_row_is_named_and_never_given(void **unused)
{
    struct twins t;
    struct far_key key = far_key(&far_schema_row_node);
    struct far_slice value;
    struct far_row_node row = {.id = 4711};
    uint8_t bytes[FAR_KV_VALUE_MAX];
    twins_init(&t);
    far_key_u64(&key, 1);
    put_node(&t, &key);
    flush(&t);
    assert_int_equal(t.held.kv->ops->get(t.held.kv, far_slice(key.bytes, key.len), &value, NULL), 0);
    size_t len = value.len;
    memcpy(bytes, value.data, len);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(t.held.kv->ops->put(t.held.kv, far_slice(key.bytes, key.len), far_slice(bytes, len), NULL), 0);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        far_rows_free(t.held.rows);
        t.held.rows = far_rows_new(t.held.kv, true);
        assert_int_equal(far_state_get(&t.held, &far_schema_row_node, &key, &t.arena, &row, &t.err), FAR_CORRUPT);
        assert_int_equal(row.id, 4711);
        assert_int_equal(far_state_put(&t.held, &far_schema_row_node, &key, &row, &t.err), FAR_CORRUPT);
        assert_int_equal(far_state_del(&t.held, &key, &t.err), FAR_CORRUPT);
    }
    twins_done(&t);
}

static void *filled(const struct far_schema *schema, struct far_arena *arena);

static struct far_list filled_list(const struct far_field *f, struct far_arena *arena)
{
    size_t each = f->type == FAR_TYPE_LIST ? f->element->size : f->type == FAR_TYPE_STRS ? sizeof(struct far_slice) : 8;
    uint8_t *items = far_arena_alloc(arena, 2 * each);
    for (size_t i = 0; i < 2; i++) {
        struct far_slice text = far_slice(memcpy(far_arena_alloc(arena, 3), i == 0 ? "abc" : "xyz", 3), 2 + i);
        const uint64_t number = 300 + i;
        memcpy(items + i * each, f->type == FAR_TYPE_LIST ? filled(f->element, arena) : f->type == FAR_TYPE_STRS ?
               (const void *)&text : &number, each);
    }
    return (struct far_list){.items = items, .count = f->max < 2 ? f->max : 2};
}

static void *filled(const struct far_schema *schema, struct far_arena *arena)
{
    uint8_t *object = far_arena_alloc(arena, schema->size);
    for (const struct far_field *f = schema->fields(); f->type != FAR_TYPE_END; f++) {
        void *at = object + f->offset;
        if (f->type == FAR_TYPE_LIST || f->type == FAR_TYPE_STRS || f->type == FAR_TYPE_U64S) {
            *(struct far_list *)at = filled_list(f, arena);
        } else if (f->type == FAR_TYPE_BOOL) {
            *(bool *)at = true;
        } else if (f->type == FAR_TYPE_U64 || f->type == FAR_TYPE_ENUM) {
            *(uint64_t *)at = 1 + draw(1000);
        } else {
            *(struct far_slice *)at = far_slice(memcpy(far_arena_alloc(arena, 5), "hello", 5), 1 + draw(5));
        }
    }
    return object;
}

/* Each table's row, every field of it filled, comes back as it was put, when what it was put from is gone. */
static void rows_of_every_table_are_copied_in_full(void **unused)
{
    struct far_arena from, to;
    struct far_error err;
    far_arena_init(&from, 1 << 20);
    far_arena_init(&to, 1 << 20);
    for (size_t i = 0; far_schemas[i] != NULL; i++) {
        if (far_schemas[i]->klass == FAR_CLASS_row) {
            struct far_kv *kv = far_kv_memory_new();
            struct far_state state = {.kv = kv, .rows = far_rows_new(kv, true)};
            struct far_key key = far_key(far_schemas[i]);
            struct far_buf before, after;
            far_buf_init(&before, 4096);
            far_buf_init(&after, 4096);
            void *row = filled(far_schemas[i], &from), *back = far_arena_alloc(&to, far_schemas[i]->size);
            assert_int_equal(far_schema_encode(far_schemas[i], row, &before, &err), 0);
            assert_int_equal(far_state_put(&state, far_schemas[i], &key, row, &err), 0);
            memset(row, 0xee, far_schemas[i]->size);
            far_arena_reset(&from);
            memset(far_arena_alloc(&from, 4000), 0xee, 4000);
            far_arena_reset(&from);
            assert_int_equal(far_state_get(&state, far_schemas[i], &key, &to, back, &err), 0);
            assert_int_equal(far_schema_encode(far_schemas[i], back, &after, &err), 0);
            assert_true(far_slice_equal(far_buf_slice(&before), far_buf_slice(&after)));
            far_buf_done(&before);
            far_buf_done(&after);
            far_rows_free(state.rows);
            far_kv_memory_free(kv);
            far_arena_reset(&to);
        }
    }
    far_arena_done(&from);
    far_arena_done(&to);
}

/* ---- a world's events ---- */

static void make_history(struct world *w)
{
    const char *names[] = {"web", "db"};
    uint64_t nodes[2];
    world_cluster(w);
    nodes[0] = world_node(w, "n1", "paris");
    nodes[1] = world_node(w, "n2", "lyon");
    world_workload(w, "web", 2);
    world_workload(w, "db", 1);
    world_plan(w, "gold", names, 2);
    for (int i = 0; i < 4; i++) {
        MUST(w, plan_replicate, .name = S("gold"));
        world_work_all(w, nodes, 2);
        world_pass(w, 60000); /* their leases end: a boot finds them down */
        world_boot(w, nodes[0], (uint8_t)(20 + i));
        world_boot(w, nodes[1], (uint8_t)(40 + i));
    }
}

static void fold_flushed_each(struct world *w, uint64_t events)
{
    struct far_state fold = {.kv = far_kv_memory_new()};
    uint64_t count = 0;
    fold.rows = far_rows_new(fold.kv, true);
    for (size_t at = 0; at < w->log.len; count++) {
        struct far_event event;
        memcpy(&event, w->log.data + at, sizeof event);
        event.payload = far_slice(w->log.data + at + sizeof event, event.payload.len);
        assert_int_equal(far_fsm_evolve(&fold, &event, &w->err), 0);
        assert_int_equal(count % events == 0 ? far_rows_flush(fold.rows, &fold.digest, &w->err) : 0, 0);
        at += sizeof event + event.payload.len;
    }
    assert_int_equal(far_rows_flush(fold.rows, &fold.digest, &w->err), 0);
    assert_true(far_hash128_equal(fold.digest, w->state.digest));
    far_rows_free(fold.rows);
    far_kv_memory_free(fold.kv);
}

static void a_fold_on_rows_gives_the_state_however_often_it_is_flushed(void **unused)
{
    static struct world w;
    world_init(&w);
    make_history(&w);
    fold_flushed_each(&w, 1);
    fold_flushed_each(&w, 7);
    fold_flushed_each(&w, UINT64_MAX);
    world_done(&w);
}

static void commands_on_rows_make_the_events_and_the_state_that_they_make_on_an_overlay(void **unused)
{
    static struct world a, b;
    world_init(&a);
    world_init(&b);
    b.rows = far_rows_new(b.state.kv, true);
    make_history(&a);
    make_history(&b);
    assert_int_equal(a.events, b.events);
    assert_true(far_hash128_equal(a.state.digest, b.state.digest));
    world_verify(&b);
    world_done(&a);
    world_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_give_what_the_map_alone_would_give),
        cmocka_unit_test(a_row_that_came_and_went_leaves_nothing_in_memory),
        cmocka_unit_test(a_trim_keeps_what_is_in_memory_within_its_bound),
        cmocka_unit_test(a_damaged_row_is_named_and_never_given),
        cmocka_unit_test(rows_of_every_table_are_copied_in_full),
        cmocka_unit_test(a_fold_on_rows_gives_the_state_however_often_it_is_flushed),
        cmocka_unit_test(commands_on_rows_make_the_events_and_the_state_that_they_make_on_an_overlay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
