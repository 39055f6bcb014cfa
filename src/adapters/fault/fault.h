/* What the files of the fault adapter share. */
#ifndef FAR_ADAPTERS_FAULT_FAULT_H
#define FAR_ADAPTERS_FAULT_FAULT_H

#include "adapters/adapters.h"
#include "base/error.h"

#include <stdatomic.h>

enum far_fault_number {
    FAR_FAULT_READ_DELAY_US,
    FAR_FAULT_WRITE_DELAY_US,
    FAR_FAULT_FAIL_READ,
    FAR_FAULT_FAIL_WRITE,
    FAR_FAULT_FAIL_FREEZE,
    FAR_FAULT_FAIL_RELEASE,
    FAR_FAULT_FAIL_KEEP,
    FAR_FAULT_FAIL_FLUSH,
    FAR_FAULT_FAIL_CHANGED,
    FAR_FAULT_FLIP_READ,
    FAR_FAULT_BAD_AT_KIB,
    FAR_FAULT_BAD_KIB,
    FAR_FAULT_BAD_TIMES,
    FAR_FAULT_BAD_WRITE_AT_KIB,
    FAR_FAULT_BAD_WRITE_KIB,
    FAR_FAULT_BAD_WRITE_TIMES,
    FAR_FAULT_DROP_CHANGED_PPM,
    FAR_FAULT_RESYNC_CHANGED,
    FAR_FAULT_END_CHANGED,
    FAR_FAULT_STUCK_CHANGED,
    FAR_FAULT_PAGE_EXTENTS,
    FAR_FAULT_EMPTY_PAGES,
    FAR_FAULT_REPEAT_CHANGED,
    FAR_FAULT_CAPTURE_BESIDE,
    FAR_FAULT_SEED,
    FAR_FAULT_OUTCOME,
    FAR_FAULT_NUMBERS
};

struct far_fault {
    const struct far_adapter *inner;
    void *platform;
    uint64_t number[FAR_FAULT_NUMBERS];
    _Atomic uint64_t calls[FAR_FAULT_NUMBERS]; /* by the number that they are compared with */
};

/* Counts a call; is it the n-th? */
bool far_fault_hits(struct far_fault *fault, enum far_fault_number number);
/* Counts a call; is it the n-th or a later one? */
bool far_fault_hits_on(struct far_fault *fault, enum far_fault_number number);
/* The failure as it was asked for. */
int far_fault_injected(const struct far_fault *fault, const char *what, struct far_adapter_error *ret_error);

/* fault_changed.c: the inner adapter's list, made worse. */
int far_fault_changed(void *platform, const char *ref, const struct far_adapter_disk *disk, const char *since,
                      uint64_t offset, struct far_adapter_extent *ret_extents, size_t max, size_t *ret_count,
                      uint64_t *ret_next, struct far_adapter_error *ret_error);

/* fault_machines.c: the inner adapter's, or a file's. */
extern const struct far_adapter_machines far_fault_machines;

#endif
