/* XXH3 hashes: fast, for damage, not for adversaries (those meet SHA-256). Values, any thread. */
#ifndef FAR_BASE_HASH_H
#define FAR_BASE_HASH_H

#include "base/bytes.h"

struct far_hash128 {
    uint64_t low;
    uint64_t high;
};

uint64_t far_hash64(const void *data, size_t len);
/* The hash of a ‖ b ‖ c (any may be empty), without joining them. */
uint64_t far_hash64_parts(struct far_slice a, struct far_slice b, struct far_slice c);
struct far_hash128 far_hash128_parts(struct far_slice a, struct far_slice b);

/* Sums modulo 2^128: the digest of a set is the sum of its members' hashes (DESIGN.md section 3.5). */
static inline struct far_hash128 far_hash128_add(struct far_hash128 a, struct far_hash128 b)
{
    struct far_hash128 sum = {.low = a.low + b.low, .high = a.high + b.high};
    sum.high += sum.low < a.low;
    return sum;
}
static inline struct far_hash128 far_hash128_sub(struct far_hash128 a, struct far_hash128 b)
{
    struct far_hash128 rest = {.low = a.low - b.low, .high = a.high - b.high};
    rest.high -= a.low < b.low;
    return rest;
}
static inline bool far_hash128_equal(struct far_hash128 a, struct far_hash128 b)
{
    return a.low == b.low && a.high == b.high;
}

#endif
