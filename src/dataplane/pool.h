/* A pool of equal buffers, allocated at once and never grown: all bytes of disks that a node has in its hands.
 *
 * Buffers are taken and given back by any thread; a buffer belongs to who took it. Who finds the pool empty waits until
 * one comes back or its stop flag is set (set the flag, then far_pool_wake). Memory is counted only once it was
 * used. */
#ifndef FAR_DATAPLANE_POOL_H
#define FAR_DATAPLANE_POOL_H

#include "base/error.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct far_pool;

int far_pool_new(size_t buffer_bytes, size_t count, struct far_pool **ret_pool, struct far_error *err);
void far_pool_free(struct far_pool *pool); /* NULL is allowed; every buffer must be back */
size_t far_pool_count(const struct far_pool *pool);
uint8_t *far_pool_try(struct far_pool *pool); /* NULL: empty */
/* NULL: *stop was set. */
uint8_t *far_pool_take(struct far_pool *pool, const atomic_bool *stop);
void far_pool_give(struct far_pool *pool, uint8_t *buffer); /* NULL is allowed */
void far_pool_wake(struct far_pool *pool);
bool far_pool_waited_for(struct far_pool *pool); /* somebody waits: give back what you do not need */

#endif
