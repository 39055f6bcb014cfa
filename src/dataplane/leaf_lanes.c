/* Leaves of many blocks at once: see leaf_lanes.h. The message of a leaf is 0x00 ‖ block: one odd byte in front, so the
 * first 64-byte step takes that byte and 63 of the block, the next 1023 lie at odd offsets inside the block, and a last
 * one holds its last byte, the padding and the length in bits. FIPS 180-4. */
#include "dataplane/leaf_lanes.h"

#include <stdatomic.h>

enum { STEP = 64, MIDDLE_STEPS = FAR_BLOCK_BYTES / STEP - 1 };

enum way { WAY_UNKNOWN, WAY_PLAIN, WAY_SHA_NI, WAY_AVX512 };

#if defined(__x86_64__)
#include <immintrin.h>

static const uint32_t round_constants[64] __attribute__((aligned(64))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
static const uint32_t start_values[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/* The first and the last step of a block's message, made up in place. */
static void first_step(const uint8_t *block, uint8_t step[STEP])
{
    step[0] = 0;
    memcpy(step + 1, block, STEP - 1);
}

static void last_step(const uint8_t *block, uint8_t step[STEP])
{
    memset(step, 0, STEP);
    step[0] = block[FAR_BLOCK_BYTES - 1];
    step[1] = 0x80;
    far_put_be64(step + STEP - 8, 8 * (FAR_BLOCK_BYTES + 1));
}

/* ---- SHA extensions, two lanes ---- */

enum { NI_LANES = 2 };

__attribute__((target("sha,sse4.1,ssse3"))) static void
ni_steps(__m128i states[2][NI_LANES], const uint8_t *const messages[NI_LANES], size_t steps)
{
    __m128i abef[NI_LANES], cdgh[NI_LANES]; /* of their own, so that they stay in registers */
    memcpy(abef, states[0], sizeof abef);
    memcpy(cdgh, states[1], sizeof cdgh);
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    for (size_t step = 0; step < steps; step++) {
        __m128i abef_before[NI_LANES], cdgh_before[NI_LANES], words[NI_LANES][4];
        for (int lane = 0; lane < NI_LANES; lane++) {
            abef_before[lane] = abef[lane];
            cdgh_before[lane] = cdgh[lane];
            for (int i = 0; i < 4; i++) {
                const void *at = messages[lane] + step * STEP + (size_t)i * 16;
                words[lane][i] = _mm_shuffle_epi8(_mm_loadu_si128(at), swap);
            }
        }
#pragma GCC unroll 16
        for (int round = 0; round < 16; round++) {
            const __m128i constant = _mm_load_si128((const void *)&round_constants[round * 4]);
#pragma GCC unroll 2
            for (int lane = 0; lane < NI_LANES; lane++) {
                __m128i *w = words[lane];
                __m128i sum = _mm_add_epi32(w[round & 3], constant);
                cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], sum);
                abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], _mm_shuffle_epi32(sum, 0x0e));
                if (round < 12) {
                    __m128i next = _mm_sha256msg1_epu32(w[round & 3], w[(round + 1) & 3]);
                    next = _mm_add_epi32(next, _mm_alignr_epi8(w[(round + 3) & 3], w[(round + 2) & 3], 4));
                    w[round & 3] = _mm_sha256msg2_epu32(next, w[(round + 3) & 3]);
                }
            }
        }
        for (int lane = 0; lane < NI_LANES; lane++) {
            abef[lane] = _mm_add_epi32(abef[lane], abef_before[lane]);
            cdgh[lane] = _mm_add_epi32(cdgh[lane], cdgh_before[lane]);
        }
    }
    memcpy(states[0], abef, sizeof abef);
    memcpy(states[1], cdgh, sizeof cdgh);
}

__attribute__((target("sha,sse4.1,ssse3"))) static void ni_begin(__m128i states[2][NI_LANES])
{
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const void *)&start_values[0]), 0xb1);
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const void *)&start_values[4]), 0x1b);
    for (int lane = 0; lane < NI_LANES; lane++) {
        states[0][lane] = _mm_alignr_epi8(low, high, 8);
        states[1][lane] = _mm_blend_epi16(high, low, 0xf0);
    }
}

__attribute__((target("sha,sse4.1,ssse3"))) static void ni_end(__m128i states[2][NI_LANES], struct far_hash256 *ret_hashes)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    for (int lane = 0; lane < NI_LANES; lane++) {
        __m128i feba = _mm_shuffle_epi32(states[0][lane], 0x1b);
        __m128i dchg = _mm_shuffle_epi32(states[1][lane], 0xb1);
        uint8_t *out = ret_hashes[lane].bytes;
        _mm_storeu_si128((void *)out, _mm_shuffle_epi8(_mm_blend_epi16(feba, dchg, 0xf0), swap));
        _mm_storeu_si128((void *)(out + 16), _mm_shuffle_epi8(_mm_alignr_epi8(dchg, feba, 8), swap));
    }
}

__attribute__((target("sha,sse4.1,ssse3"))) static void ni_leaves(const uint8_t *const blocks[NI_LANES],
                                                                  struct far_hash256 *ret_leaves)
{
    __m128i states[2][NI_LANES];
    uint8_t first[NI_LANES][STEP], last[NI_LANES][STEP];
    const uint8_t *firsts[NI_LANES], *middles[NI_LANES], *lasts[NI_LANES];
    for (int lane = 0; lane < NI_LANES; lane++) {
        first_step(blocks[lane], first[lane]);
        last_step(blocks[lane], last[lane]);
        firsts[lane] = first[lane];
        middles[lane] = blocks[lane] + STEP - 1;
        lasts[lane] = last[lane];
    }
    ni_begin(states);
    ni_steps(states, firsts, 1);
    ni_steps(states, middles, MIDDLE_STEPS);
    ni_steps(states, lasts, 1);
    ni_end(states, ret_leaves);
}

/* Two inner nodes: 0x01 ‖ left ‖ right, 65 bytes each, in two steps. */
static void ni_inner(const struct far_hash256 children[2 * NI_LANES], struct far_hash256 ret_hashes[NI_LANES])
{
    __m128i states[2][NI_LANES];
    uint8_t message[NI_LANES][2 * STEP] = {{0}};
    const uint8_t *messages[NI_LANES];
    for (int lane = 0; lane < NI_LANES; lane++) {
        message[lane][0] = 1;
        memcpy(message[lane] + 1, &children[2 * lane], 64);
        message[lane][65] = 0x80;
        far_put_be64(message[lane] + 2 * STEP - 8, 8 * 65);
        messages[lane] = message[lane];
    }
    ni_begin(states);
    ni_steps(states, messages, 2);
    ni_end(states, ret_hashes);
}

/* ---- AVX-512, sixteen lanes: lane i of every vector belongs to block i ---- */

enum { WIDE_LANES = 16, WIDE_WORTH = 11 };

#define WIDE __attribute__((target("avx512f,avx512bw"), always_inline)) static inline

/* 16 rows of 16 words become 16 columns. */
WIDE void wide_transpose(__m512i r[16])
{
    __m512i t[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

#define XOR3 0x96
#define CHOOSE 0xca
#define MAJORITY 0xe8

__attribute__((target("avx512f,avx512bw"))) static void
wide_steps(__m512i state[8], const uint8_t *const messages[WIDE_LANES], size_t steps)
{
    const __m512i swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL));
    const uint32_t *constants = round_constants;
    __asm__("" : "+r"(constants)); /* or the compiler makes each of them a move and a broadcast of their own */
    for (size_t step = 0; step < steps; step++) {
        __m512i w[16];
#pragma GCC unroll 16
        for (int lane = 0; lane < WIDE_LANES; lane++) {
            w[lane] = _mm512_loadu_si512(messages[lane] + step * STEP);
            _mm_prefetch((const char *)messages[lane] + (step + 4) * STEP, _MM_HINT_T0);
        }
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            w[i] = _mm512_shuffle_epi8(w[i], swap);
        }
        wide_transpose(w);
        __m512i a = state[0], b = state[1], c = state[2], d = state[3];
        __m512i e = state[4], f = state[5], g = state[6], h = state[7];
#pragma GCC unroll 64
        for (int round = 0; round < 64; round++) {
            __m512i word = w[round & 15];
            if (round >= 16) {
                __m512i w15 = w[(round + 1) & 15], w2 = w[(round + 14) & 15];
                __m512i s0 = _mm512_ternarylogic_epi32(_mm512_ror_epi32(w15, 7), _mm512_ror_epi32(w15, 18),
                                                       _mm512_srli_epi32(w15, 3), XOR3);
                __m512i s1 = _mm512_ternarylogic_epi32(_mm512_ror_epi32(w2, 17), _mm512_ror_epi32(w2, 19),
                                                       _mm512_srli_epi32(w2, 10), XOR3);
                word = _mm512_add_epi32(_mm512_add_epi32(word, s0), _mm512_add_epi32(w[(round + 9) & 15], s1));
                w[round & 15] = word;
            }
            __m512i big1 = _mm512_ternarylogic_epi32(_mm512_ror_epi32(e, 6), _mm512_ror_epi32(e, 11),
                                                     _mm512_ror_epi32(e, 25), XOR3);
            __m512i big0 = _mm512_ternarylogic_epi32(_mm512_ror_epi32(a, 2), _mm512_ror_epi32(a, 13),
                                                     _mm512_ror_epi32(a, 22), XOR3);
            __m512i choose = _mm512_ternarylogic_epi32(e, f, g, CHOOSE);
            __m512i majority = _mm512_ternarylogic_epi32(a, b, c, MAJORITY);
            __m512i keyed = _mm512_add_epi32(word, _mm512_set1_epi32((int)constants[round]));
            __m512i t1 = _mm512_add_epi32(_mm512_add_epi32(h, keyed), _mm512_add_epi32(big1, choose));
            h = g;
            g = f;
            f = e;
            e = _mm512_add_epi32(d, t1);
            d = c;
            c = b;
            b = a;
            a = _mm512_add_epi32(t1, _mm512_add_epi32(big0, majority));
        }
        state[0] = _mm512_add_epi32(state[0], a);
        state[1] = _mm512_add_epi32(state[1], b);
        state[2] = _mm512_add_epi32(state[2], c);
        state[3] = _mm512_add_epi32(state[3], d);
        state[4] = _mm512_add_epi32(state[4], e);
        state[5] = _mm512_add_epi32(state[5], f);
        state[6] = _mm512_add_epi32(state[6], g);
        state[7] = _mm512_add_epi32(state[7], h);
    }
}

__attribute__((target("avx512f,avx512bw"))) static void wide_leaves(const uint8_t *const blocks[WIDE_LANES],
                                                                    struct far_hash256 *ret_leaves)
{
    uint8_t first[WIDE_LANES][STEP], last[WIDE_LANES][STEP];
    const uint8_t *firsts[WIDE_LANES], *middles[WIDE_LANES], *lasts[WIDE_LANES];
    for (int lane = 0; lane < WIDE_LANES; lane++) {
        first_step(blocks[lane], first[lane]);
        last_step(blocks[lane], last[lane]);
        firsts[lane] = first[lane];
        middles[lane] = blocks[lane] + STEP - 1;
        lasts[lane] = last[lane];
    }
    __m512i state[8];
    for (int i = 0; i < 8; i++) {
        state[i] = _mm512_set1_epi32((int)start_values[i]);
    }
    wide_steps(state, firsts, 1);
    wide_steps(state, middles, MIDDLE_STEPS);
    wide_steps(state, lasts, 1);
    uint32_t words[8][WIDE_LANES];
    for (int i = 0; i < 8; i++) {
        _mm512_storeu_si512(words[i], state[i]);
    }
    for (int lane = 0; lane < WIDE_LANES; lane++) {
        for (int i = 0; i < 8; i++) {
            far_put_be32(ret_leaves[lane].bytes + 4 * i, words[i][lane]);
        }
    }
}

/* 11 to 15 blocks: the lanes that are left over do the first block again. */
static void wide_leaves_filled(const uint8_t *const *blocks, size_t count, struct far_hash256 *ret_leaves)
{
    const uint8_t *all[WIDE_LANES];
    struct far_hash256 made[WIDE_LANES];
    for (size_t lane = 0; lane < WIDE_LANES; lane++) {
        all[lane] = blocks[lane < count ? lane : 0];
    }
    wide_leaves(all, made);
    memcpy(ret_leaves, made, count * sizeof made[0]);
}

static bool can(enum way way)
{
    switch (way) {
    case WAY_PLAIN:
        return true;
    case WAY_SHA_NI: {
        unsigned leaf = 7, b = 0;
        unsigned subleaf = 0;
        __asm__("cpuid" : "+a"(leaf), "=b"(b), "+c"(subleaf) : : "rdx");
        return __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.1") && (b >> 29 & 1) != 0;
    }
    case WAY_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    default:
        return false;
    }
}

#else

static bool can(enum way way)
{
    return way == WAY_PLAIN;
}

#endif

static _Atomic int chosen = WAY_UNKNOWN;

static enum way choose(void)
{
    int way = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (way == WAY_UNKNOWN) {
        way = can(WAY_AVX512) ? WAY_AVX512 : can(WAY_SHA_NI) ? WAY_SHA_NI : WAY_PLAIN;
        atomic_store_explicit(&chosen, way, memory_order_relaxed);
    }
    return (enum way)way;
}

#if defined(__x86_64__)
/* cpuid is slow in a virtual machine: once. */
static bool can_pair(void)
{
    static _Atomic int known; /* 1: no, 2: yes */
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (answer == 0) {
        answer = can(WAY_SHA_NI) ? 2 : 1;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == 2;
}
#endif

static const char *const names[] = {"unknown", "plain", "sha-ni", "avx512"};

const char *far_leaf_lanes_name(void)
{
    return names[choose()];
}

bool far_leaf_lanes_force(const char *name)
{
    for (int way = WAY_PLAIN; way <= WAY_AVX512; way++) {
        if (strcmp(names[way], name) == 0 && can((enum way)way)) {
            atomic_store_explicit(&chosen, way, memory_order_relaxed);
            return true;
        }
    }
    return false;
}

size_t far_inner_hashes(const struct far_hash256 *children, size_t count, struct far_hash256 *ret_hashes)
{
    size_t done = 0;
#if defined(__x86_64__)
    bool pairs = choose() != WAY_PLAIN && can_pair();
    for (; pairs && count - done >= NI_LANES; done += NI_LANES) {
        struct far_hash256 made[NI_LANES]; /* the children may lie where the hashes go */
        ni_inner(children + 2 * done, made);
        memcpy(ret_hashes + done, made, sizeof made);
    }
#endif
    return done;
}

void far_block_leaves(const uint8_t *const *blocks, size_t count, struct far_hash256 *ret_leaves)
{
    size_t i = 0;
#if defined(__x86_64__)
    enum way way = choose();
    for (; way == WAY_AVX512 && count - i >= WIDE_LANES; i += WIDE_LANES) {
        wide_leaves(blocks + i, ret_leaves + i);
    }
    /* Few blocks fill the lanes badly: below WIDE_WORTH two lanes of the SHA extensions are as fast. */
    if (way == WAY_AVX512 && count - i >= WIDE_WORTH) {
        wide_leaves_filled(blocks + i, count - i, ret_leaves + i);
        i = count;
    }
    bool pairs = way == WAY_SHA_NI || (way == WAY_AVX512 && can_pair());
    for (; pairs && count - i >= NI_LANES; i += NI_LANES) {
        ni_leaves(blocks + i, ret_leaves + i);
    }
#endif
    for (; i < count; i++) {
        far_block_leaf(blocks[i], FAR_BLOCK_BYTES, &ret_leaves[i]);
    }
}
