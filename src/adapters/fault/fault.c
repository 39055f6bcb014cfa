/* The fault adapter: wraps another one and fails on purpose, to test an installation where it stands.
 *
 * "fault:file?rd=500&fr=100" (at most 32 bytes in a workload) reads through `file`, each read 500 µs late, and the
 * 100th read fails. Keys, long or short, numbers only:
 *
 *   read_delay_us  rd   each read is so late          write_delay_us wd   each write is so late
 *   fail_read      fr   the n-th read fails once      fail_write     fw   the n-th write fails once
 *   fail_freeze    ff   the n-th freeze fails once    fail_release   fl   the n-th release fails once
 *   fail_flush     fs   the n-th flush fails once     flip_read      xr   the n-th read returns one wrong bit
 *   outcome        oc   how they fail: 2 retry (default), 3 slow_down, 4 refresh_credentials, 6 fatal
 *
 * Calls are counted for the life of the platform, by all threads. */
#include "adapters/adapters.h"
#include "base/error.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum fault_number {
    READ_DELAY_US,
    WRITE_DELAY_US,
    FAIL_READ,
    FAIL_WRITE,
    FAIL_FREEZE,
    FAIL_RELEASE,
    FAIL_FLUSH,
    FLIP_READ,
    OUTCOME,
    NUMBERS
};

static const struct {
    const char *name, *brief;
} keys[NUMBERS] = {
    [READ_DELAY_US] = {"read_delay_us", "rd"}, [WRITE_DELAY_US] = {"write_delay_us", "wd"},
    [FAIL_READ] = {"fail_read", "fr"},         [FAIL_WRITE] = {"fail_write", "fw"},
    [FAIL_FREEZE] = {"fail_freeze", "ff"},     [FAIL_RELEASE] = {"fail_release", "fl"},
    [FAIL_FLUSH] = {"fail_flush", "fs"},       [FLIP_READ] = {"flip_read", "xr"},
    [OUTCOME] = {"outcome", "oc"},
};

struct fault {
    const struct far_adapter *inner;
    void *platform;
    uint64_t number[NUMBERS];
    _Atomic uint64_t calls[NUMBERS]; /* by the number that they are compared with */
};

struct fault_handle {
    struct fault *fault;
    void *handle;
};

/* ---- configuration ---- */

static int set_number(struct fault *fault, const char *key, size_t key_len, const char *value,
                      struct far_adapter_error *ret_error)
{
    for (int i = 0; i < NUMBERS; i++) {
        bool is = (strlen(keys[i].name) == key_len && strncmp(keys[i].name, key, key_len) == 0) ||
                  (strlen(keys[i].brief) == key_len && strncmp(keys[i].brief, key, key_len) == 0);
        char *end;
        if (is) {
            errno = 0;
            fault->number[i] = strtoull(value, &end, 10);
            bool valid = errno == 0 && end != value && (*end == '\n' || *end == '\0') && *value >= '0' && *value <= '9';
            return valid ? FAR_ADAPTER_OK
                         : far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                            "the adapter fault: '%.*s' wants a number", (int)key_len, key);
        }
    }
    return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the adapter fault has no setting '%.*s'",
                            (int)key_len, key);
}

static int set_inner(struct fault *fault, const char *value, struct far_adapter_error *ret_error)
{
    char name[33];
    size_t len = strcspn(value, "\n");
    if (len < sizeof name) {
        memcpy(name, value, len);
        name[len] = '\0';
        fault->inner = far_adapters_find(name);
    }
    if (fault->inner == NULL || fault->inner == &far_adapter_fault) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_NOT_FOUND, "the adapter fault cannot wrap '%.*s'",
                                (int)len, value);
    }
    return FAR_ADAPTER_OK;
}

static int configure(struct fault *fault, const char *config, struct far_adapter_error *ret_error)
{
    int outcome = FAR_ADAPTER_OK;
    while (outcome == FAR_ADAPTER_OK && *config != '\0') {
        size_t line = strcspn(config, "\n"), key = strcspn(config, "=\n");
        if (key == line) {
            return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                    "the adapter fault: '%.*s' is no key=value", (int)line, config);
        }
        const char *value = config + key + 1;
        outcome = key == 5 && strncmp(config, "inner", key) == 0 ? set_inner(fault, value, ret_error)
                                                                 : set_number(fault, config, key, value, ret_error);
        config += line + (config[line] == '\n');
    }
    if (outcome == FAR_ADAPTER_OK && fault->inner == NULL) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                "the adapter fault wraps another one: \"fault:file\"");
    }
    return outcome;
}

static int fault_open(const char *config, void **ret_platform, struct far_adapter_error *ret_error)
{
    struct fault *fault = calloc(1, sizeof *fault);
    if (fault == NULL) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory");
    }
    fault->number[OUTCOME] = FAR_ADAPTER_RETRY;
    int outcome = configure(fault, config, ret_error);
    outcome = outcome == FAR_ADAPTER_OK ? fault->inner->open("", &fault->platform, ret_error) : outcome;
    if (outcome != FAR_ADAPTER_OK) {
        free(fault);
        return outcome;
    }
    *ret_platform = fault;
    return FAR_ADAPTER_OK;
}

static void fault_close(void *platform)
{
    struct fault *fault = platform;
    fault->inner->close(fault->platform);
    free(fault);
}

/* ---- faults ---- */

static void delay(const struct fault *fault, enum fault_number number)
{
    uint64_t us = fault->number[number];
    struct timespec ts = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
    if (us > 0) {
        nanosleep(&ts, NULL);
    }
}

/* Is it the n-th call? */
static bool hits(struct fault *fault, enum fault_number number)
{
    uint64_t call = atomic_fetch_add(&fault->calls[number], 1) + 1;
    return fault->number[number] != 0 && call == fault->number[number];
}

static int injected(const struct fault *fault, const char *what, struct far_adapter_error *ret_error)
{
    return far_adapter_fail(ret_error, (int)fault->number[OUTCOME], FAR_IO, "%s: failed on purpose", what);
}

/* ---- tables ---- */

static int fault_probe(void *platform, const struct far_adapter_disk *disk, struct far_adapter_found *ret_found,
                       struct far_adapter_error *ret_error)
{
    struct fault *fault = platform;
    return fault->inner->inventory->probe(fault->platform, disk, ret_found, ret_error);
}

static int fault_freeze(void *platform, const char *ref_hint, const struct far_adapter_disk *disks, size_t count,
                        struct far_adapter_found *ret_found, char ret_ref[128], bool *ret_fuzzy,
                        struct far_adapter_error *ret_error)
{
    struct fault *fault = platform;
    if (hits(fault, FAIL_FREEZE)) {
        return injected(fault, "freeze", ret_error);
    }
    return fault->inner->changes->freeze(fault->platform, ref_hint, disks, count, ret_found, ret_ref, ret_fuzzy,
                                         ret_error);
}

static int fault_release(void *platform, const char *ref, const struct far_adapter_disk *disks, size_t count,
                         struct far_adapter_error *ret_error)
{
    struct fault *fault = platform;
    if (hits(fault, FAIL_RELEASE)) {
        return injected(fault, "release", ret_error);
    }
    return fault->inner->changes->release(fault->platform, ref, disks, count, ret_error);
}

static int fault_changed(void *platform, const char *ref, const struct far_adapter_disk *disk, const char *since,
                         uint64_t offset, struct far_adapter_extent *ret_extents, size_t max, size_t *ret_count,
                         uint64_t *ret_next, struct far_adapter_error *ret_error)
{
    struct fault *fault = platform;
    return fault->inner->changes->changed(fault->platform, ref, disk, since, offset, ret_extents, max, ret_count,
                                          ret_next, ret_error);
}

static int wrap_handle(struct fault *fault, void *inner, void **ret_handle, struct far_adapter_error *ret_error)
{
    struct fault_handle *handle = malloc(sizeof *handle);
    if (handle == NULL) {
        fault->inner->bytes->close(inner);
        return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory");
    }
    *handle = (struct fault_handle){.fault = fault, .handle = inner};
    *ret_handle = handle;
    return FAR_ADAPTER_OK;
}

static int fault_open_frozen(void *platform, const char *ref, const struct far_adapter_disk *disk, void **ret_handle,
                             struct far_adapter_error *ret_error)
{
    struct fault *fault = platform;
    void *inner;
    int outcome = fault->inner->bytes->open_frozen(fault->platform, ref, disk, &inner, ret_error);
    return outcome == FAR_ADAPTER_OK ? wrap_handle(fault, inner, ret_handle, ret_error) : outcome;
}

static int fault_open_target(void *platform, const char *ref, const char *locator, uint64_t size_bytes,
                             void **ret_handle, struct far_adapter_error *ret_error)
{
    struct fault *fault = platform;
    void *inner;
    int outcome = fault->inner->bytes->open_target(fault->platform, ref, locator, size_bytes, &inner, ret_error);
    return outcome == FAR_ADAPTER_OK ? wrap_handle(fault, inner, ret_handle, ret_error) : outcome;
}

static int fault_read(void *opaque, void *buffer, size_t length, uint64_t offset, struct far_adapter_error *ret_error)
{
    struct fault_handle *handle = opaque;
    struct fault *fault = handle->fault;
    delay(fault, READ_DELAY_US);
    if (hits(fault, FAIL_READ)) {
        return injected(fault, "read", ret_error);
    }
    int outcome = fault->inner->bytes->read(handle->handle, buffer, length, offset, ret_error);
    if (hits(fault, FLIP_READ) && outcome == FAR_ADAPTER_OK && length > 0) {
        ((uint8_t *)buffer)[length / 2] ^= 1;
    }
    return outcome;
}

static int fault_write(void *opaque, const void *buffer, size_t length, uint64_t offset,
                       struct far_adapter_error *ret_error)
{
    struct fault_handle *handle = opaque;
    delay(handle->fault, WRITE_DELAY_US);
    if (hits(handle->fault, FAIL_WRITE)) {
        return injected(handle->fault, "write", ret_error);
    }
    return handle->fault->inner->bytes->write(handle->handle, buffer, length, offset, ret_error);
}

static int fault_flush(void *opaque, struct far_adapter_error *ret_error)
{
    struct fault_handle *handle = opaque;
    if (hits(handle->fault, FAIL_FLUSH)) {
        return injected(handle->fault, "flush", ret_error);
    }
    return handle->fault->inner->bytes->flush(handle->handle, ret_error);
}

static int fault_extents(void *opaque, uint64_t offset, struct far_adapter_extent *ret_extents, size_t max,
                         size_t *ret_count, struct far_adapter_error *ret_error)
{
    struct fault_handle *handle = opaque;
    const struct far_adapter_bytes *bytes = handle->fault->inner->bytes;
    if (bytes->extents != NULL) {
        return bytes->extents(handle->handle, offset, ret_extents, max, ret_count, ret_error);
    }
    ret_extents[0] = (struct far_adapter_extent){.offset = offset, .length = UINT64_MAX - offset};
    *ret_count = 1;
    return FAR_ADAPTER_OK;
}

static void fault_close_handle(void *opaque)
{
    struct fault_handle *handle = opaque;
    if (handle != NULL) {
        handle->fault->inner->bytes->close(handle->handle);
        free(handle);
    }
}

static const struct far_adapter_inventory inventory = {.version = FAR_ADAPTER_VERSION, .probe = fault_probe};
static bool fault_shares_views(void *platform, const struct far_adapter_disk *disks, size_t count)
{
    struct fault *fault = platform;
    const struct far_adapter_changes *changes = fault->inner->changes;
    return changes->shares_views != NULL && changes->shares_views(fault->platform, disks, count);
}

static const struct far_adapter_changes changes = {
    .version = FAR_ADAPTER_VERSION,
    .survives_node = true, /* as the inner one does; `file` does */
    .freeze = fault_freeze,
    .release = fault_release,
    .changed = fault_changed,
    .shares_views = fault_shares_views,
};
static const struct far_adapter_bytes bytes = {
    .version = FAR_ADAPTER_VERSION,
    .fence = "epoch",
    .open_frozen = fault_open_frozen,
    .read = fault_read,
    .open_target = fault_open_target,
    .write = fault_write,
    .flush = fault_flush,
    .close = fault_close_handle,
    .extents = fault_extents,
};

const struct far_adapter far_adapter_fault = {
    .version = FAR_ADAPTER_VERSION,
    .name = "fault",
    .open = fault_open,
    .close = fault_close,
    .inventory = &inventory,
    .changes = &changes,
    .bytes = &bytes,
};
