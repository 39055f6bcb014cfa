/* A set of byte strings: see key_set.h. */
#include "base/key_set.h"

#include "base/hash.h"

#include <stdlib.h>

enum { PLACES_MIN = 256, BYTES_MIN = 16 * 1024 };

void far_key_set_done(struct far_key_set *set)
{
    free(set->places);
    free(set->bytes);
    *set = (struct far_key_set){0};
}

void far_key_set_clear(struct far_key_set *set)
{
    if (set->count > 0) {
        memset(set->places, 0, set->place_count * sizeof *set->places);
    }
    set->count = set->len = 0;
}

/* Where key is, or belongs. */
static struct far_key_set_place *find(const struct far_key_set *set, struct far_slice key, uint64_t hash)
{
    size_t at = (size_t)hash & (set->place_count - 1);
    for (;; at = (at + 1) & (set->place_count - 1)) {
        struct far_key_set_place *place = &set->places[at];
        if (place->len == 0 || (place->hash == hash && far_slice_equal(far_slice(set->bytes + place->offset, place->len - 1), key))) {
            return place;
        }
    }
}

static bool grow_places(struct far_key_set *set)
{
    size_t count = set->place_count == 0 ? PLACES_MIN : set->place_count * 2;
    struct far_key_set_place *places = calloc(count, sizeof *places);
    if (places == NULL) {
        return false;
    }
    for (size_t i = 0; i < set->place_count; i++) {
        size_t at = (size_t)set->places[i].hash & (count - 1);
        while (set->places[i].len != 0 && places[at].len != 0) {
            at = (at + 1) & (count - 1);
        }
        if (set->places[i].len != 0) {
            places[at] = set->places[i];
        }
    }
    free(set->places);
    set->places = places;
    set->place_count = count;
    return true;
}

static bool grow_bytes(struct far_key_set *set, size_t more)
{
    size_t cap = set->cap == 0 ? BYTES_MIN : set->cap * 2;
    cap = cap < set->len + more ? set->len + more : cap;
    uint8_t *bytes = realloc(set->bytes, cap);
    if (bytes == NULL) {
        return false;
    }
    set->bytes = bytes;
    set->cap = cap;
    return true;
}

int far_key_set_add(struct far_key_set *set, struct far_slice key)
{
    uint64_t hash = far_hash64(key.data, key.len);
    if (key.len >= UINT32_MAX - set->len || (set->count >= set->place_count / 2 && !grow_places(set)) ||
        (set->cap - set->len < key.len && !grow_bytes(set, key.len))) {
        return -1;
    }
    struct far_key_set_place *place = find(set, key, hash);
    if (place->len != 0) {
        return 0;
    }
    *place = (struct far_key_set_place){.hash = hash, .offset = (uint32_t)set->len, .len = (uint32_t)key.len + 1};
    if (key.len > 0) {
        memcpy(set->bytes + set->len, key.data, key.len);
    }
    set->len += key.len;
    set->count++;
    return 1;
}
