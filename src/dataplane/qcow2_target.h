/* A recovered disk as a qcow2 image: what is written to it goes to a file of an adapter, at the place that its cluster has there.
 *
 * A block of a disk is a cluster (64 KiB), and each has its place from the beginning: cluster N of the disk is cluster DATA + N of the
 * file, behind the header and all tables. So any number of threads write anywhere at the same time, what a killed attempt wrote is
 * where the next one writes it again, and the tables say in the end which clusters are there. Zeroes are not: the file has a hole in their
 * place, with the count 0, that QEMU uses for what a guest writes later. Version 3 of the format; QEMU keeps lists of changes in it.
 *
 * flush() writes the tables, at last the header, makes all durable, and compares the tables with what is on the device; read() goes by them
 * from then on. One owner; write() and read() on any thread. */
#ifndef FAR_DATAPLANE_QCOW2_TARGET_H
#define FAR_DATAPLANE_QCOW2_TARGET_H

#include "base/error.h"
#include "farshore/adapter.h"

struct far_qcow2_target;

/* How large the file is to be for a disk of this size; 0: none can be so large. */
uint64_t far_qcow2_target_file_bytes(uint64_t size_bytes);
/* Takes the handle on success: an open target of that size, new or one that was begun for this disk. */
int far_qcow2_target_new(const struct far_adapter_bytes *bytes, void *handle, uint64_t size_bytes, struct far_qcow2_target **ret_target,
                         struct far_error *err);
/* Of a struct far_qcow2_target: write, flush, read and close; offsets are the disk's, and read() takes those of blocks only. */
extern const struct far_adapter_bytes far_qcow2_target_bytes;

#endif
