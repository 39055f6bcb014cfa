/* The overlay: reads go to the map below, writes stay above it, until they are flushed or dropped.
 *
 * What makes a rejected command change nothing, and what a dry run or a what-if works on. The map below is borrowed and
 * must not change while the overlay lives, other than by far_kv_overlay_flush(). One thread at a time. */
#ifndef FAR_FSM_KV_OVERLAY_H
#define FAR_FSM_KV_OVERLAY_H

#include "fsm/kv.h"

/* NULL without memory. */
struct far_kv *far_kv_overlay_new(struct far_kv *below);
void far_kv_overlay_free(struct far_kv *kv); /* NULL is allowed; what was not flushed is gone */
/* Carry out every write on the map below, in the order of keys; the overlay is used up. A failure leaves some of them
 * done: the caller gives the transaction of the map below up. */
int far_kv_overlay_flush(struct far_kv *kv, struct far_error *err);
/* The same on another map that holds what is below. It notes nothing in the overlay: another thread may read that meanwhile, as
 * long as nobody writes there. */
int far_kv_overlay_carry(const struct far_kv *kv, struct far_kv *to, struct far_error *err);
/* Read from another map from now on, which holds the same as the one below. */
void far_kv_overlay_rebase(struct far_kv *kv, struct far_kv *below);
/* The first pair written here whose key is >= the given one; ret_value has no data if the key was deleted. What was written
 * may equal what is below. FAR_NOT_FOUND after the last. */
int far_kv_overlay_written(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key,
                           struct far_slice *ret_value, struct far_error *err);

#endif
