/* Layers: what was applied and is not committed yet, in memory, over what the store holds.
 *
 * A commit to the disk takes as long as the disk likes, and who applies entries need not wait for it: the log holds them. So
 * entries are applied to a layer, which is then frozen and committed by another thread, while the next one grows on top. At
 * most two layers: one grows, one is frozen. A layer is a write transaction (store.h) for what entries do: rows of the state,
 * the history, events and the meta; not for installing snapshots and tidying up, which are done when there is no layer.
 * Nothing in a layer is visible to transactions of the store before it is committed; a crash loses it, and the log gives it
 * back.
 *
 * All for the thread that applies, but far_layer_commit(). */
#ifndef FAR_LOG_LAYERS_H
#define FAR_LOG_LAYERS_H

#include "log/store.h"

struct far_layers;
struct far_layer;

/* Over the store, which is borrowed. NULL: no memory. */
struct far_layers *far_layers_new(struct far_store *store);
/* Layers that were not committed are lost. NULL is allowed. */
void far_layers_free(struct far_layers *layers);

/* The layer that grows, as a write transaction; a new one if there is none. Only far_layers_freeze() and far_layers_drop() end
 * it. FAR_LIMIT: no memory, or too many readers of the store. */
int far_layers_grow(struct far_layers *layers, struct far_store_txn **ret_txn, struct far_error *err);
/* Give up the one that grows, if there is one. */
void far_layers_drop(struct far_layers *layers);
/* The state is about to change otherwise than by entries. */
void far_layers_forget(struct far_layers *layers);
/* No more changes in the one that grows: it is to be committed. It stays owned here. None may be frozen yet. */
struct far_layer *far_layers_freeze(struct far_layers *layers);
/* The frozen one, if there is one, was committed: forget it, and read from the store as it is now. Ends what was borrowed from
 * the transaction. */
int far_layers_settle(struct far_layers *layers, struct far_error *err);

/* The last raft entry in it. */
uint64_t far_layer_index(const struct far_layer *layer);
/* Any thread, but one at a time: write a frozen layer to the store in one transaction. After a failure the store is as before;
 * FAR_LIMIT: full, to be tried again. */
int far_layer_commit(const struct far_layer *layer, struct far_store *store, struct far_error *err);

#endif
