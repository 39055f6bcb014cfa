/* Leaves of many blocks at once: the same values as far_block_leaf(), faster where the processor can.
 *
 * SHA-256 is a chain of dependent steps, so one block alone leaves most of a core idle. Several independent blocks side
 * by side fill it: two with the SHA extensions of x86, sixteen with AVX-512. Picked once at run time; elsewhere each
 * block goes through the crypto library. Values, no allocation, any thread. */
#ifndef FAR_DATAPLANE_LEAF_LANES_H
#define FAR_DATAPLANE_LEAF_LANES_H

#include "dataplane/map.h"

/* Leaves of `count` whole blocks of FAR_BLOCK_BYTES each. */
void far_block_leaves(const uint8_t *const *blocks, size_t count, struct far_hash256 *ret_leaves);

/* The first of `count` inner nodes, each of two neighbouring children, as far as they can be made side by side: how many. The
 * hashes may go where the children lie. */
size_t far_inner_hashes(const struct far_hash256 *children, size_t count, struct far_hash256 *ret_hashes);

/* Which way is taken: "plain", "sha-ni", "avx512"; force one that the processor has (tests, benchmarks): false if
 * not. */
const char *far_leaf_lanes_name(void);
bool far_leaf_lanes_force(const char *name);

#endif
