/* Layers over a store: see layers.h. Rows and history are overlays (kv_overlay.h), the upper layer's on the lower one's, and the
 * lower one's on a read transaction of the store; events lie one behind the other in a buffer. */
#include "log/layers.h"

#include "base/assert.h"
#include "fsm/kv_overlay.h"
#include "log/apply.h"
#include "log/segment.h"

#include <stdlib.h>

enum { EVENTS_FIRST = 256, BYTES_FIRST = 64 * 1024 };

struct far_layer {
    struct far_store_txn txn; /* first */
    uint64_t base_index;      /* applied before this layer */
    uint64_t first_seq;       /* of its first event */
    size_t event_count, events_cap;
    size_t *ends;             /* of each row in bytes; owned */
    uint8_t *bytes;           /* rows of events; owned */
    size_t bytes_cap;
};

struct far_layers {
    struct far_store store; /* first: what the layers' transactions call */
    struct far_store *below;
    struct far_store_txn *base; /* a read transaction; NULL: there is no layer */
    struct far_layer *growing, *frozen;
    struct far_apply_memory memory;
};

static struct far_layer *layer_of(struct far_store_txn *txn)
{
    return (struct far_layer *)(void *)txn;
}

static struct far_layers *layers_of(struct far_store *store)
{
    return (struct far_layers *)(void *)store;
}

/* ---- events ---- */

static int room_for(struct far_layer *layer, size_t len, struct far_error *err)
{
    size_t used = layer->event_count == 0 ? 0 : layer->ends[layer->event_count - 1];
    if (layer->event_count == layer->events_cap) {
        size_t cap = layer->events_cap == 0 ? EVENTS_FIRST : layer->events_cap * 2;
        size_t *ends = realloc(layer->ends, cap * sizeof *ends);
        if (ends == NULL) {
            return far_fail(err, FAR_LIMIT, "out of memory");
        }
        layer->ends = ends;
        layer->events_cap = cap;
    }
    if (used + len > layer->bytes_cap) {
        size_t cap = layer->bytes_cap == 0 ? BYTES_FIRST : layer->bytes_cap * 2;
        cap = cap < used + len ? used + len : cap;
        uint8_t *bytes = realloc(layer->bytes, cap);
        if (bytes == NULL) {
            return far_fail(err, FAR_LIMIT, "out of memory");
        }
        layer->bytes = bytes;
        layer->bytes_cap = cap;
    }
    return 0;
}

static int event_put(struct far_store_txn *txn, uint64_t seq, struct far_slice row, struct far_error *err)
{
    struct far_layer *layer = layer_of(txn);
    if (seq != layer->first_seq + layer->event_count) {
        return far_fail(err, FAR_INTERNAL, "event %llu does not follow what was applied", (unsigned long long)seq);
    }
    int rv = room_for(layer, row.len, err);
    if (rv != 0) {
        return rv;
    }
    size_t begin = layer->event_count == 0 ? 0 : layer->ends[layer->event_count - 1];
    memcpy(layer->bytes + begin, row.data, row.len);
    layer->ends[layer->event_count++] = begin + row.len;
    return 0;
}

static struct far_slice nth_event(const struct far_layer *layer, size_t n)
{
    size_t begin = n == 0 ? 0 : layer->ends[n - 1];
    return far_slice(layer->bytes + begin, layer->ends[n] - begin);
}

static bool find_event(const struct far_layer *layer, uint64_t seq, struct far_slice *ret_row)
{
    if (layer == NULL || seq < layer->first_seq || seq - layer->first_seq >= layer->event_count) {
        return false;
    }
    *ret_row = nth_event(layer, (size_t)(seq - layer->first_seq));
    return true;
}

static int event_row(struct far_store_txn *txn, uint64_t seq, struct far_slice *ret_row, struct far_error *err)
{
    struct far_layers *layers = layers_of(txn->store);
    if (find_event(layer_of(txn), seq, ret_row) || find_event(layers->frozen, seq, ret_row)) {
        return 0;
    }
    return layers->below->ops->event_row(layers->base, seq, ret_row, err);
}

static int segment_seek(struct far_store_txn *txn, uint64_t seq, struct far_segment *ret_segment, struct far_error *err)
{
    struct far_layers *layers = layers_of(txn->store);
    return layers->below->ops->segment_seek(layers->base, seq, ret_segment, err);
}

/* What entries do is all that a layer can do; the rest of struct far_store_ops is for transactions of the store itself. */
static const struct far_store_ops layer_ops = {
    .event_put = event_put,
    .event_row = event_row,
    .segment_seek = segment_seek,
};

/* ---- layers ---- */

static void layer_free(struct far_layer *layer)
{
    if (layer != NULL) {
        far_buf_done(&layer->txn.row);
        far_segment_close(layer->txn.segment);
        far_kv_overlay_free(layer->txn.kv);
        far_kv_overlay_free(layer->txn.history);
        free(layer->ends);
        free(layer->bytes);
        free(layer);
    }
}

static struct far_layer *layer_new(struct far_layers *layers, struct far_store_txn *below)
{
    struct far_layer *layer = calloc(1, sizeof *layer);
    if (layer == NULL) {
        return NULL;
    }
    layer->txn = (struct far_store_txn){.store = &layers->store, .write = true, .memory = &layers->memory, .meta = below->meta};
    far_buf_init(&layer->txn.row, FAR_EVENT_ROW_MAX);
    layer->txn.kv = far_kv_overlay_new(below->kv);
    layer->txn.history = below->history == NULL ? NULL : far_kv_overlay_new(below->history);
    layer->base_index = below->meta.applied_index;
    layer->first_seq = below->meta.last_seq + 1;
    if (layer->txn.kv == NULL || (layer->txn.history == NULL) != (below->history == NULL)) {
        layer_free(layer);
        return NULL;
    }
    return layer;
}

struct far_layers *far_layers_new(struct far_store *store)
{
    struct far_layers *layers = calloc(1, sizeof *layers);
    if (layers == NULL) {
        return NULL;
    }
    layers->below = store;
    return layers;
}

void far_layers_free(struct far_layers *layers)
{
    if (layers != NULL) {
        far_layers_forget(layers);
        layer_free(layers->growing);
        layer_free(layers->frozen);
        far_store_abort(layers->base);
        free(layers);
    }
}

int far_layers_grow(struct far_layers *layers, struct far_store_txn **ret_txn, struct far_error *err)
{
    if (layers->growing == NULL) {
        int rv = layers->base != NULL ? 0 : far_store_begin(layers->below, false, &layers->base, err);
        if (rv != 0) {
            return rv;
        }
        layers->store.ops = &layer_ops;
        layers->store.epoch_events = layers->below->epoch_events;
        layers->store.history_bytes_max = layers->below->history_bytes_max;
        layers->store.segments_dir = layers->below->segments_dir;
        layers->growing = layer_new(layers, layers->frozen != NULL ? &layers->frozen->txn : layers->base);
        if (layers->growing == NULL) {
            return far_fail(err, FAR_LIMIT, "out of memory");
        }
    }
    *ret_txn = &layers->growing->txn;
    return 0;
}

static void close_base(struct far_layers *layers)
{
    far_store_abort(layers->base);
    layers->base = NULL;
}

void far_layers_forget(struct far_layers *layers)
{
    far_apply_memory_forget(&layers->memory);
}

void far_layers_drop(struct far_layers *layers)
{
    far_layers_forget(layers);
    layer_free(layers->growing);
    layers->growing = NULL;
    if (layers->frozen == NULL) {
        close_base(layers);
    }
}

struct far_layer *far_layers_freeze(struct far_layers *layers)
{
    FAR_ASSERT(layers->growing != NULL && layers->frozen == NULL);
    layers->frozen = layers->growing;
    layers->growing = NULL;
    return layers->frozen;
}

int far_layers_settle(struct far_layers *layers, struct far_error *err)
{
    struct far_layer *growing = layers->growing;
    struct far_store_txn *base = NULL;
    if (layers->frozen == NULL) {
        return 0;
    }
    int rv = growing == NULL ? 0 : far_store_begin(layers->below, false, &base, err);
    if (rv != 0) {
        return rv;
    }
    if (growing != NULL) {
        FAR_ASSERT(base->meta.applied_index == growing->base_index);
        far_kv_overlay_rebase(growing->txn.kv, base->kv);
        if (growing->txn.history != NULL) {
            far_kv_overlay_rebase(growing->txn.history, base->history);
        }
    }
    layer_free(layers->frozen);
    layers->frozen = NULL;
    close_base(layers);
    layers->base = base;
    return 0;
}

/* ---- committing ---- */

uint64_t far_layer_index(const struct far_layer *layer)
{
    return layer->txn.meta.applied_index;
}

static int write_layer(const struct far_layer *layer, struct far_store_txn *txn, struct far_error *err)
{
    int rv = txn->meta.applied_index == layer->base_index
                 ? 0
                 : far_fail(err, FAR_INTERNAL, "a layer on entry %llu does not lie on a store at entry %llu",
                            (unsigned long long)layer->base_index, (unsigned long long)txn->meta.applied_index);
    for (size_t i = 0; rv == 0 && i < layer->event_count; i++) {
        rv = txn->store->ops->event_put(txn, layer->first_seq + i, nth_event(layer, i), err);
    }
    rv = rv != 0 ? rv : far_kv_overlay_carry(layer->txn.kv, txn->kv, err);
    if (rv == 0 && layer->txn.history != NULL) {
        rv = far_kv_overlay_carry(layer->txn.history, txn->history, err);
    }
    txn->meta = layer->txn.meta;
    return rv;
}

int far_layer_commit(const struct far_layer *layer, struct far_store *store, struct far_error *err)
{
    struct far_store_txn *txn;
    int rv = far_store_begin(store, true, &txn, err);
    if (rv != 0) {
        return rv;
    }
    rv = write_layer(layer, txn, err);
    if (rv != 0) {
        far_store_abort(txn);
        return rv;
    }
    return far_store_commit(txn, err);
}
