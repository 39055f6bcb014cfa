/* The memory map: a key-value store in memory, for tests, simulation and what an overlay holds.
 *
 * A skip list whose towers are as high as a hash of the key says, so the same pairs make the same shape. Owned by its
 * maker; one thread at a time. */
#ifndef FAR_FSM_KV_MEMORY_H
#define FAR_FSM_KV_MEMORY_H

#include "fsm/kv.h"

/* NULL without memory. */
struct far_kv *far_kv_memory_new(void);
void far_kv_memory_free(struct far_kv *kv); /* NULL is allowed */
/* A copy of its own, in one walk; NULL without memory. */
struct far_kv *far_kv_memory_clone(const struct far_kv *kv);
size_t far_kv_memory_count(const struct far_kv *kv);
/* Every pair in the order of keys, until fn fails with something. Unlike the other calls it notes nothing in the map, so another
 * thread may read it meanwhile, as long as nobody changes it. */
typedef int (*far_kv_pair_fn)(void *arg, struct far_slice key, struct far_slice value, struct far_error *err);
int far_kv_memory_walk(const struct far_kv *kv, far_kv_pair_fn fn, void *arg, struct far_error *err);

#endif
