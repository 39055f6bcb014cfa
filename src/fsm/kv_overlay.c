/* The overlay: see kv_overlay.h. A memory map holds what was written, each value behind one byte that says whether it is
 * there or deleted; walks merge both maps, the upper one winning. Where the oldest is deleted again and again, a walk would pass by
 * more of them each time: so the last stretches of deleted keys are remembered, at most one for each first byte of keys. */
#include "fsm/kv_overlay.h"

#include "fsm/kv_memory.h"

#include <stdlib.h>

enum { DELETED = 0, PRESENT = 1 };

/* No key from `from` on and before `to` is there. */
struct gap {
    uint8_t from[FAR_KV_KEY_MAX + 2], to[FAR_KV_KEY_MAX + 2];
    size_t from_len, to_len; /* from_len 0: nothing is known */
};
enum { GAPS = 4 };

struct overlay {
    struct far_kv kv;
    struct far_kv *below; /* borrowed */
    struct far_kv *above; /* owned */
    struct gap gaps[GAPS];
    unsigned next_gap; /* to be given up for another */
};

static struct overlay *overlay_of(struct far_kv *kv)
{
    return (struct overlay *)(void *)kv;
}

static struct far_slice payload_of(struct far_slice value)
{
    return far_slice(value.data + 1, value.len - 1);
}

/* ---- gaps ---- */

/* The one among keys with this first byte, or NULL. */
static struct gap *gap_of(struct overlay *o, uint8_t first)
{
    for (unsigned i = 0; i < GAPS; i++) {
        if (o->gaps[i].from_len > 0 && o->gaps[i].from[0] == first) {
            return &o->gaps[i];
        }
    }
    return NULL;
}

/* The one that key lies in, or NULL. */
static struct gap *gap_at(struct overlay *o, struct far_slice key)
{
    struct gap *gap = key.len == 0 ? NULL : gap_of(o, key.data[0]);
    bool is_in = gap != NULL && far_slice_compare(key, far_slice(gap->from, gap->from_len)) >= 0 &&
                 far_slice_compare(key, far_slice(gap->to, gap->to_len)) < 0;
    return is_in ? gap : NULL;
}

/* Something was put under key. */
static void gap_forget(struct overlay *o, struct far_slice key)
{
    struct gap *gap = gap_at(o, key);
    if (gap != NULL) {
        gap->from_len = 0;
    }
}

/* A walk from `from` came to `to` past deleted keys only. */
static void gap_learn(struct overlay *o, struct far_slice from, struct far_slice to)
{
    struct gap *gap = gap_at(o, from);
    if (from.len == 0 || from.len > sizeof gap->from || to.len > sizeof gap->to || to.data[0] != from.data[0]) {
        return;
    }
    if (gap == NULL) {
        gap = gap_of(o, from.data[0]);
        gap = gap != NULL ? gap : &o->gaps[o->next_gap++ % GAPS];
        gap->from_len = from.len;
        memcpy(gap->from, from.data, from.len);
    }
    gap->to_len = to.len;
    memcpy(gap->to, to.data, to.len);
}

/* ---- the map ---- */

static int overlay_get(struct far_kv *kv, struct far_slice key, struct far_slice *ret_value, struct far_error *err)
{
    struct overlay *o = overlay_of(kv);
    struct far_slice value;
    int rc = o->above->ops->get(o->above, key, &value, err);
    if (rc == FAR_NOT_FOUND) {
        return o->below->ops->get(o->below, key, ret_value, err);
    }
    if (rc == 0 && value.data[0] == DELETED) {
        return FAR_NOT_FOUND;
    }
    if (rc == 0) {
        *ret_value = payload_of(value);
    }
    return rc;
}

static int overlay_put(struct far_kv *kv, struct far_slice key, struct far_slice value, struct far_error *err)
{
    struct overlay *o = overlay_of(kv);
    uint8_t bytes[1 + FAR_KV_VALUE_MAX];
    if (value.len > FAR_KV_VALUE_MAX) {
        return far_fail(err, FAR_LIMIT, "a value of %zu bytes does not fit", value.len);
    }
    bytes[0] = PRESENT;
    if (value.len > 0) {
        memcpy(bytes + 1, value.data, value.len);
    }
    gap_forget(o, key);
    return o->above->ops->put(o->above, key, far_slice(bytes, 1 + value.len), err);
}

static int overlay_del(struct far_kv *kv, struct far_slice key, struct far_error *err)
{
    struct overlay *o = overlay_of(kv);
    struct far_slice value;
    int rc = overlay_get(kv, key, &value, err);
    if (rc != 0) {
        return rc;
    }
    rc = o->below->ops->get(o->below, key, &value, err);
    if (rc == FAR_NOT_FOUND) {
        return o->above->ops->del(o->above, key, err);
    }
    const uint8_t deleted = DELETED;
    return rc != 0 ? rc : o->above->ops->put(o->above, key, far_slice(&deleted, 1), err);
}

struct pair {
    struct far_slice key;
    struct far_slice value;
    int rc; /* 0 or FAR_NOT_FOUND */
};

/* Of two candidates the one that comes first (direction 1) or last (-1); the upper one if they are equal. */
static bool upper_wins(const struct pair *up, const struct pair *low, int direction)
{
    return up->rc == 0 && (low->rc != 0 || far_slice_compare(up->key, low->key) * direction <= 0);
}

static int overlay_seek(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key,
                        struct far_slice *ret_value, struct far_error *err)
{
    struct overlay *o = overlay_of(kv);
    const struct gap *gap = gap_at(o, key);
    struct far_slice start = key;
    uint8_t from[FAR_KV_KEY_MAX + 2];
    key = gap != NULL ? far_slice(gap->to, gap->to_len) : key;
    for (bool has_passed = false;; has_passed = true) {
        struct pair up, low;
        up.rc = o->above->ops->seek(o->above, key, &up.key, &up.value, err);
        low.rc = o->below->ops->seek(o->below, key, &low.key, &low.value, err);
        if (low.rc != 0 && low.rc != FAR_NOT_FOUND) {
            return low.rc;
        }
        if (up.rc != 0 && low.rc != 0) {
            return FAR_NOT_FOUND;
        }
        bool is_upper = upper_wins(&up, &low, 1);
        if (!is_upper || up.value.data[0] == PRESENT) {
            *ret_key = is_upper ? up.key : low.key;
            *ret_value = is_upper ? payload_of(up.value) : low.value;
            if (has_passed) {
                gap_learn(o, start, *ret_key);
            }
            return 0;
        }
        memcpy(from, up.key.data, up.key.len);
        from[up.key.len] = 0;
        key = far_slice(from, up.key.len + 1);
    }
}

static int overlay_seek_before(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key,
                               struct far_slice *ret_value, struct far_error *err)
{
    struct overlay *o = overlay_of(kv);
    uint8_t from[FAR_KV_KEY_MAX + 2];
    for (;;) {
        struct pair up, low;
        up.rc = o->above->ops->seek_before(o->above, key, &up.key, &up.value, err);
        low.rc = o->below->ops->seek_before(o->below, key, &low.key, &low.value, err);
        if (low.rc != 0 && low.rc != FAR_NOT_FOUND) {
            return low.rc;
        }
        if (up.rc != 0 && low.rc != 0) {
            return FAR_NOT_FOUND;
        }
        bool is_upper = upper_wins(&up, &low, -1);
        if (!is_upper || up.value.data[0] == PRESENT) {
            *ret_key = is_upper ? up.key : low.key;
            *ret_value = is_upper ? payload_of(up.value) : low.value;
            return 0;
        }
        memcpy(from, up.key.data, up.key.len);
        key = far_slice(from, up.key.len);
    }
}

static const struct far_kv_ops overlay_ops = {
    .get = overlay_get,
    .put = overlay_put,
    .del = overlay_del,
    .seek = overlay_seek,
    .seek_before = overlay_seek_before,
};

struct far_kv *far_kv_overlay_new(struct far_kv *below)
{
    struct overlay *o = calloc(1, sizeof *o);
    if (o == NULL) {
        return NULL;
    }
    *o = (struct overlay){.kv.ops = &overlay_ops, .below = below, .above = far_kv_memory_new()};
    if (o->above == NULL) {
        free(o);
        return NULL;
    }
    return &o->kv;
}

void far_kv_overlay_free(struct far_kv *kv)
{
    if (kv != NULL) {
        far_kv_memory_free(overlay_of(kv)->above);
        free(overlay_of(kv));
    }
}

static int carry(void *arg, struct far_slice key, struct far_slice value, struct far_error *err)
{
    struct far_kv *to = arg;
    int rc = value.data[0] == DELETED ? to->ops->del(to, key, err) : to->ops->put(to, key, payload_of(value), err);
    return rc == FAR_NOT_FOUND ? far_fail(err, FAR_INTERNAL, "a key to delete is gone: the map below was changed") : rc;
}

int far_kv_overlay_carry(const struct far_kv *kv, struct far_kv *to, struct far_error *err)
{
    return far_kv_memory_walk(((const struct overlay *)(const void *)kv)->above, carry, to, err);
}

int far_kv_overlay_flush(struct far_kv *kv, struct far_error *err)
{
    return far_kv_overlay_carry(kv, overlay_of(kv)->below, err);
}

void far_kv_overlay_rebase(struct far_kv *kv, struct far_kv *below)
{
    overlay_of(kv)->below = below;
}

int far_kv_overlay_written(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key,
                           struct far_slice *ret_value, struct far_error *err)
{
    struct overlay *o = overlay_of(kv);
    struct far_slice value;
    int rc = o->above->ops->seek(o->above, key, ret_key, &value, err);
    if (rc == 0) {
        *ret_value = value.data[0] == DELETED ? far_slice(NULL, 0) : payload_of(value);
    }
    return rc;
}
