/* XXH3: see hash.h. */
#include "base/hash.h"

#define XXH_STATIC_LINKING_ONLY
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h> /* picks AVX2 or AVX-512 at run time; the values are the same */
#else
#include <xxhash.h>
#endif

uint64_t far_hash64(const void *data, size_t len)
{
    return XXH3_64bits(data, len);
}

static void update(XXH3_state_t *state, struct far_slice part)
{
    if (part.len > 0) {
        XXH3_64bits_update(state, part.data, part.len);
    }
}

uint64_t far_hash64_parts(struct far_slice a, struct far_slice b, struct far_slice c)
{
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset(&state);
    update(&state, a);
    update(&state, b);
    update(&state, c);
    return XXH3_64bits_digest(&state);
}

struct far_hash128 far_hash128_parts(struct far_slice a, struct far_slice b)
{
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    XXH3_128bits_reset(&state);
    if (a.len > 0) {
        XXH3_128bits_update(&state, a.data, a.len);
    }
    if (b.len > 0) {
        XXH3_128bits_update(&state, b.data, b.len);
    }
    XXH128_hash_t hash = XXH3_128bits_digest(&state);
    return (struct far_hash128){.low = hash.low64, .high = hash.high64};
}
