/* The memory map and the overlay behave like a sorted list, whatever is done to them. */
#include "fsm/kv_memory.h"
#include "fsm/kv_overlay.h"

#include "../lib/cm.h"

#include <stdio.h>
#include <stdlib.h>

enum { KEYS = 40, ROUNDS = 20000 };

static uint64_t seed;

static uint64_t draw(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return seed >> 33;
}

/* The naive model: every possible key in order, and what is under it. */
struct model {
    bool present[KEYS];
    uint8_t value[KEYS];
};

static struct far_slice key_of(unsigned i, uint8_t bytes[2])
{
    bytes[0] = (uint8_t)(i / 7);
    bytes[1] = (uint8_t)(i % 7 * 16);
    return far_slice(bytes, 2);
}

static void same_walk(struct far_kv *kv, const struct model *m)
{
    struct far_slice at, value;
    uint8_t bytes[2], copy[8];
    for (unsigned i = 0; i <= KEYS; i++) {
        unsigned next = i, prev = i;
        while (next < KEYS && !m->present[next]) {
            next++;
        }
        int rc = kv->ops->seek(kv, i == KEYS ? far_slice("\xff", 1) : key_of(i, bytes), &at, &value, NULL);
        assert_int_equal(rc, next < KEYS ? 0 : FAR_NOT_FOUND);
        if (rc == 0) {
            assert_true(far_slice_equal(at, key_of(next, copy)));
            assert_int_equal(value.data[0], m->value[next]);
        }
        while (prev > 0 && !m->present[prev - 1]) {
            prev--;
        }
        rc = kv->ops->seek_before(kv, i == KEYS ? far_slice("\xff", 1) : key_of(i, bytes), &at, &value, NULL);
        assert_int_equal(rc, prev > 0 ? 0 : FAR_NOT_FOUND);
        if (rc == 0) {
            assert_true(far_slice_equal(at, key_of(prev - 1, copy)));
            assert_int_equal(value.data[0], m->value[prev - 1]);
        }
    }
}

static void one_change(struct far_kv *kv, struct model *m)
{
    uint8_t bytes[2], v = (uint8_t)draw();
    unsigned i = (unsigned)(draw() % KEYS);
    struct far_slice key = key_of(i, bytes), value;
    if (draw() % 3 == 0) {
        assert_int_equal(kv->ops->del(kv, key, NULL), m->present[i] ? 0 : FAR_NOT_FOUND);
        m->present[i] = false;
    } else {
        assert_int_equal(kv->ops->put(kv, key, far_slice(&v, 1), NULL), 0);
        m->present[i] = true;
        m->value[i] = v;
    }
    assert_int_equal(kv->ops->get(kv, key, &value, NULL), m->present[i] ? 0 : FAR_NOT_FOUND);
}

static void the_memory_map_is_a_sorted_map(void **unused)
{
    struct far_kv *kv = far_kv_memory_new();
    struct model m = {0};
    for (unsigned i = 0; i < ROUNDS; i++) {
        one_change(kv, &m);
        if (i % 50 == 0) {
            same_walk(kv, &m);
        }
    }
    struct far_kv *copy = far_kv_memory_clone(kv);
    assert_int_equal(far_kv_memory_count(copy), far_kv_memory_count(kv));
    struct model before = m;
    for (unsigned i = 0; i < 100; i++) {
        one_change(kv, &m);
    }
    same_walk(copy, &before);
    same_walk(kv, &m);
    far_kv_memory_free(copy);
    far_kv_memory_free(kv);
}

static void an_overlay_is_the_map_it_lies_on_with_its_own_changes(void **unused)
{
    for (unsigned round = 0; round < 200; round++) {
        struct far_kv *below = far_kv_memory_new();
        struct model m = {0};
        for (unsigned i = 0; i < draw() % 60; i++) {
            one_change(below, &m);
        }
        struct model under = m;
        struct far_kv *kv = far_kv_overlay_new(below);
        for (unsigned i = 0; i < draw() % 60; i++) {
            one_change(kv, &m);
            same_walk(kv, &m); /* what a walk learned must not outlive the next change */
        }
        same_walk(kv, &m);
        same_walk(below, &under);
        assert_int_equal(far_kv_overlay_flush(kv, NULL), 0);
        same_walk(below, &m);
        far_kv_overlay_free(kv);
        far_kv_memory_free(below);
    }
}

/* A map that counts how often it is walked. */
struct counting {
    struct far_kv kv; /* first */
    struct far_kv *below;
    unsigned seeks;
};

static int counting_get(struct far_kv *kv, struct far_slice key, struct far_slice *ret_value, struct far_error *err)
{
    struct far_kv *below = ((struct counting *)(void *)kv)->below;
    return below->ops->get(below, key, ret_value, err);
}

static int counting_seek(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key, struct far_slice *ret_value,
                         struct far_error *err)
{
    struct counting *c = (struct counting *)(void *)kv;
    c->seeks++;
    return c->below->ops->seek(c->below, key, ret_key, ret_value, err);
}

/* As the memory of commands does: the oldest is looked for and deleted, a new one is put behind the last. */
static void the_oldest_is_found_as_fast_however_many_were_deleted_before(void **unused)
{
    enum { OLD = 3000 };
    static const struct far_kv_ops ops = {.get = counting_get, .seek = counting_seek};
    struct counting below = {.kv.ops = &ops, .below = far_kv_memory_new()};
    uint8_t bytes[5] = {7}, last[5] = {7};
    struct far_slice key = far_slice(bytes, sizeof bytes), at, value;
    for (uint32_t i = 0; i < OLD; i++) {
        far_put_be32(bytes + 1, i);
        assert_int_equal(below.below->ops->put(below.below, key, key, NULL), 0);
    }
    struct far_kv *kv = far_kv_overlay_new(&below.kv);
    for (uint32_t i = 0; i < OLD; i++) {
        assert_int_equal(kv->ops->seek(kv, far_slice("\7", 1), &at, &value, NULL), 0);
        far_put_be32(bytes + 1, i);
        assert_true(far_slice_equal(at, key));
        assert_int_equal(kv->ops->del(kv, key, NULL), 0);
        far_put_be32(last + 1, OLD + i);
        assert_int_equal(kv->ops->put(kv, far_slice(last, sizeof last), key, NULL), 0);
    }
    assert_in_range(below.seeks, 1, 3 * OLD);
    far_kv_overlay_free(kv);
    far_kv_memory_free(below.below);
}

static void sizes_have_bounds(void **unused)
{
    struct far_kv *below = far_kv_memory_new();
    struct far_kv *kv = far_kv_overlay_new(below);
    uint8_t bytes[FAR_KV_VALUE_MAX + 2] = {1};
    assert_int_equal(kv->ops->put(kv, far_slice(bytes, FAR_KV_KEY_MAX), far_slice(bytes, FAR_KV_VALUE_MAX), NULL), 0);
    assert_int_equal(kv->ops->put(kv, far_slice(bytes, FAR_KV_KEY_MAX + 1), far_slice(bytes, 1), NULL), FAR_LIMIT);
    assert_int_equal(kv->ops->put(kv, far_slice(bytes, 0), far_slice(bytes, 1), NULL), FAR_LIMIT);
    assert_int_equal(kv->ops->put(kv, far_slice(bytes, 1), far_slice(bytes, FAR_KV_VALUE_MAX + 1), NULL), FAR_LIMIT);
    far_kv_overlay_free(kv);
    far_kv_memory_free(below);
}

int main(void)
{
    const char *text = getenv("FAR_SEED");
    seed = text != NULL ? strtoull(text, NULL, 0) : 20261120;
    printf("# FAR_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_memory_map_is_a_sorted_map),
        cmocka_unit_test(an_overlay_is_the_map_it_lies_on_with_its_own_changes),
        cmocka_unit_test(the_oldest_is_found_as_fast_however_many_were_deleted_before),
        cmocka_unit_test(sizes_have_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
