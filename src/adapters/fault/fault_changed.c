/* Lists of changes made worse on purpose: what every platform's list has been one day. See fault.c for the settings. */
#include "adapters/fault/fault.h"

#include "base/bytes.h"
#include "base/hash.h"

enum { REPEAT_BYTES = 65536, PPM = 1000000 };

/* The same extent is dropped in every page and every attempt of the same seed. */
static bool is_dropped(const struct far_fault *fault, uint64_t offset)
{
    uint64_t ppm = fault->number[FAR_FAULT_DROP_CHANGED_PPM];
    uint8_t key[16];
    far_put_le64(key, fault->number[FAR_FAULT_SEED]);
    far_put_le64(key + 8, offset);
    return ppm > 0 && far_hash64(key, sizeof key) % PPM < ppm;
}

static void drop(const struct far_fault *fault, struct far_adapter_extent *extents, size_t *count)
{
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        if (!is_dropped(fault, extents[i].offset)) {
            extents[kept++] = extents[i];
        }
    }
    *count = kept;
}

/* A page that holds nothing but goes on: as far as nothing changed. One that would have to name something stays. */
static void make_empty(uint64_t offset, const struct far_adapter_extent *extents, size_t *count, uint64_t *next)
{
    if (*count > 0 && extents[0].offset > offset) {
        *next = extents[0].offset;
        *count = 0;
    }
}

/* The page begins before where it should. */
static void repeat(uint64_t offset, struct far_adapter_extent *extents, size_t *count)
{
    uint64_t again = offset < REPEAT_BYTES ? offset : REPEAT_BYTES;
    if (again > 0) {
        memmove(extents + 1, extents, *count * sizeof extents[0]);
        extents[0] = (struct far_adapter_extent){.offset = offset - again, .length = again};
        ++*count;
    }
}

int far_fault_changed(void *platform, const char *ref, const struct far_adapter_disk *disk, const char *since,
                      uint64_t offset, struct far_adapter_extent *ret_extents, size_t max, size_t *ret_count,
                      uint64_t *ret_next, struct far_adapter_error *ret_error)
{
    struct far_fault *fault = platform;
    uint64_t page = fault->number[FAR_FAULT_PAGE_EXTENTS], every = fault->number[FAR_FAULT_EMPTY_PAGES];
    bool repeats = fault->number[FAR_FAULT_REPEAT_CHANGED] != 0 && max > 1;
    if (far_fault_hits(fault, FAR_FAULT_FAIL_CHANGED)) {
        return far_fault_injected(fault, "the list of changes", ret_error);
    }
    if (far_fault_hits_on(fault, FAR_FAULT_RESYNC_CHANGED)) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_RESYNC, FAR_CONFLICT, "the list of changes is gone on purpose");
    }
    if (far_fault_hits_on(fault, FAR_FAULT_STUCK_CHANGED)) {
        *ret_count = 0;
        *ret_next = offset;
        return FAR_ADAPTER_OK;
    }
    size_t room = page != 0 && page < max ? (size_t)page : max;
    room -= repeats && room == max;
    int outcome = fault->inner->changes->changed(fault->platform, ref, disk, since, offset, ret_extents, room, ret_count,
                                                 ret_next, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    drop(fault, ret_extents, ret_count);
    if (every != 0 && atomic_fetch_add(&fault->calls[FAR_FAULT_EMPTY_PAGES], 1) % every == 0) {
        make_empty(offset, ret_extents, ret_count, ret_next);
    }
    if (repeats) {
        repeat(offset, ret_extents, ret_count);
    }
    if (far_fault_hits(fault, FAR_FAULT_END_CHANGED)) {
        *ret_next = UINT64_MAX;
    }
    return FAR_ADAPTER_OK;
}
