/* What is written to a point that was opened writable: a layer over the point, in a temporary file, gone when it is closed.
 *
 * It takes a block of 64 KiB for each block that somebody writes to, and no more than its bound in all: a write beyond that is refused with
 * FAR_LIMIT ("no space left on device" to a guest), what was written stays, and what is there already may be written again. Any thread. */
#ifndef FAR_DATAPLANE_LAYER_H
#define FAR_DATAPLANE_LAYER_H

#include "dataplane/opened.h"

struct far_layer;

/* In folder: a file without a name. bytes_max 0: percent (1 to 100) of what is free there now. opened outlives it. */
int far_layer_new(struct far_opened *opened, const char *folder, uint64_t bytes_max, unsigned percent, struct far_layer **ret_layer,
                  struct far_error *err);
void far_layer_close(struct far_layer *layer); /* NULL is allowed */

/* As far_opened_read(), with what was written. */
int far_layer_read(struct far_layer *layer, void *ret_bytes, size_t length, uint64_t offset, struct far_error *err);
int far_layer_write(struct far_layer *layer, const void *bytes, size_t length, uint64_t offset, struct far_error *err);
/* As far_opened_extent(), a block at a time. */
int far_layer_extent(struct far_layer *layer, uint64_t offset, bool *ret_zero, uint64_t *ret_length, struct far_error *err);

struct far_layer_state {
    uint64_t bytes;     /* that it takes */
    uint64_t bytes_max;
    bool is_full;       /* a write was refused for it */
};
void far_layer_state(const struct far_layer *layer, struct far_layer_state *ret_state);

#endif
