/* Instant recovery: the disk of a point is used at once, read and written, while it is written out to a file or device of its own.
 *
 * What is asked for comes first: a block that is read (or written in parts) is fetched from the vault and goes to the target at once. A
 * thread of its own brings the rest: first the blocks that earlier boots asked for, in their order, then the others as they lie.
 * What the guest writes goes to the target only; the point never changes. When all is there the target is the whole disk, like any
 * other, and the vault is no longer needed.
 *
 * Beside the target lies `TARGET.hydrating`: whose disk it is, and a bit for each block that is there. A bit is durable only after its
 * block is; a flush makes both durable. So whoever is killed goes on where it was, and what was flushed stays. The file goes when
 * all is there; of a block device it stays (it has to lie on a disk): nothing else says that the device is not to be begun anew.
 * That somebody wrote is kept in it, too, before the first such byte is in the target: who goes on knows that the disk
 * is no longer the point's, and by whom. Bytes in docs/FORMATS.md. */
#ifndef FAR_DATAPLANE_HYDRATE_H
#define FAR_DATAPLANE_HYDRATE_H

#include "dataplane/opened.h"

struct far_hydrate;

struct far_hydrate_options {
    const char *target;     /* a file that is made, or one that was begun before; a block device at least as large as the disk */
    const char *written;    /* file that is made, durably, before the first byte that somebody writes goes to the target; NULL: none */
    const char *order;      /* file of the order in which earlier boots asked for blocks; read, and written again; NULL: none */
    /* Called by the thread of its own, now and then, and at the end. May be NULL. */
    void (*told)(void *arg, uint64_t blocks_there, uint64_t blocks, uint64_t blocks_damaged);
    void *arg;
};

/* opened outlives it. FAR_CONFLICT: the target is there and was not begun for this disk; FAR_BUSY: another process
 * hydrates it; FAR_IO, FAR_LIMIT: it cannot be made. */
int far_hydrate_new(struct far_opened *opened, const struct far_hydrate_options *options, struct far_hydrate **ret_hydrate,
                    struct far_error *err);
/* Stops; what is there so far is durable. NULL is allowed. */
void far_hydrate_close(struct far_hydrate *hydrate);

/* Any bytes inside the disk; any thread. FAR_CORRUPT: the block is damaged in the vault; FAR_LIMIT: no space for what is written. */
int far_hydrate_read(struct far_hydrate *hydrate, void *ret_bytes, size_t length, uint64_t offset, struct far_error *err);
int far_hydrate_write(struct far_hydrate *hydrate, const void *bytes, size_t length, uint64_t offset, struct far_error *err);
/* What was written is durable when this returns 0. */
int far_hydrate_flush(struct far_hydrate *hydrate, struct far_error *err);
/* Zeroes by the vault that nobody wrote to yet? And how far. As far_opened_extent(). */
int far_hydrate_extent(struct far_hydrate *hydrate, uint64_t offset, bool *ret_zero, uint64_t *ret_length, struct far_error *err);
bool far_hydrate_is_done(struct far_hydrate *hydrate);

#endif
