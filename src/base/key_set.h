/* A set of byte strings, in memory: is this one in it? Grows by itself; strings are copied and leave only with all the others. */
#ifndef FAR_BASE_KEY_SET_H
#define FAR_BASE_KEY_SET_H

#include "base/bytes.h"

struct far_key_set_place {
    uint64_t hash;
    uint32_t offset; /* in bytes */
    uint32_t len;    /* plus 1; 0: nothing is here */
};

/* Begins as zeroes. */
struct far_key_set {
    struct far_key_set_place *places; /* owned; linear probing */
    size_t place_count;               /* a power of two, or 0 */
    size_t count;
    uint8_t *bytes; /* owned */
    size_t len, cap;
};

/* Frees. */
void far_key_set_done(struct far_key_set *set);
/* Empty it; its memory stays. */
void far_key_set_clear(struct far_key_set *set);
/* Put key in: 1, or 0 if it was there. Negative: no memory, or more than 4 GiB; the set is as it was. */
int far_key_set_add(struct far_key_set *set, struct far_slice key);

#endif
