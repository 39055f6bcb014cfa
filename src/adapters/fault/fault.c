/* The fault adapter: wraps another one and fails on purpose, to test an installation where it stands.
 *
 * "fault:file?rd=500&fr=100" (at most 32 bytes in a workload) reads through `file`, each read 500 µs late, and the
 * 100th read fails. Settings, long or short, numbers; what is not here goes on to the wrapped adapter ("fault:nbd?rm=500"):
 *
 *   read_delay_us     rd   each read is so late          write_delay_us   wd   each write is so late
 *   fail_read         fr   the n-th read fails once      fail_write       fw   the n-th write fails once
 *   fail_freeze       ff   the n-th freeze fails once    fail_release     fl   the n-th release fails once
 *   fail_flush        fs   the n-th flush fails once     fail_keep        fk   the n-th keep fails once
 *   fail_changed      fc   the n-th page of a list fails once
 *   flip_read         xr   the n-th read returns one wrong bit
 *   bad_at_kib        ba   reads of the range from here on fail …
 *   bad_kib           bk   … so long (without it, none does) …
 *   bad_times         bt   … so often (0: for ever)
 *   bad_write_at_kib  wa   the same for writes: wa, wk, wt
 *   drop_changed_ppm  dc   of a million extents of a list of changes so many are left out
 *   seed              sd   which ones
 *   resync_changed    rc   from the n-th page on there is no list any more
 *   end_changed       ec   the n-th page says that it is the last
 *   stuck_changed     sk   from the n-th page on nothing comes, and it does not go on
 *   page_extents      pe   a page holds so many extents at most
 *   empty_pages       ep   every n-th page holds nothing where it may (1: each)
 *   repeat_changed    rp   1: each page begins with what the one before ended with
 *   capture_beside    cb   1: what the machine is stands in the file beside its first disk, whose name ends in ".machine"
 *   outcome           oc   how they fail: 2 retry (default), 3 slow_down, 4 refresh_credentials, 6 fatal
 *
 * Calls are counted for the life of the platform, by all threads. */
#include "adapters/fault/fault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { INNER_CONFIG_MAX = 1024 };

static const struct {
    const char *name, *brief;
} keys[FAR_FAULT_NUMBERS] = {
    [FAR_FAULT_READ_DELAY_US] = {"read_delay_us", "rd"},
    [FAR_FAULT_WRITE_DELAY_US] = {"write_delay_us", "wd"},
    [FAR_FAULT_FAIL_READ] = {"fail_read", "fr"},
    [FAR_FAULT_FAIL_WRITE] = {"fail_write", "fw"},
    [FAR_FAULT_FAIL_FREEZE] = {"fail_freeze", "ff"},
    [FAR_FAULT_FAIL_RELEASE] = {"fail_release", "fl"},
    [FAR_FAULT_FAIL_KEEP] = {"fail_keep", "fk"},
    [FAR_FAULT_FAIL_FLUSH] = {"fail_flush", "fs"},
    [FAR_FAULT_FAIL_CHANGED] = {"fail_changed", "fc"},
    [FAR_FAULT_FLIP_READ] = {"flip_read", "xr"},
    [FAR_FAULT_BAD_AT_KIB] = {"bad_at_kib", "ba"},
    [FAR_FAULT_BAD_KIB] = {"bad_kib", "bk"},
    [FAR_FAULT_BAD_TIMES] = {"bad_times", "bt"},
    [FAR_FAULT_BAD_WRITE_AT_KIB] = {"bad_write_at_kib", "wa"},
    [FAR_FAULT_BAD_WRITE_KIB] = {"bad_write_kib", "wk"},
    [FAR_FAULT_BAD_WRITE_TIMES] = {"bad_write_times", "wt"},
    [FAR_FAULT_DROP_CHANGED_PPM] = {"drop_changed_ppm", "dc"},
    [FAR_FAULT_RESYNC_CHANGED] = {"resync_changed", "rc"},
    [FAR_FAULT_END_CHANGED] = {"end_changed", "ec"},
    [FAR_FAULT_STUCK_CHANGED] = {"stuck_changed", "sk"},
    [FAR_FAULT_PAGE_EXTENTS] = {"page_extents", "pe"},
    [FAR_FAULT_EMPTY_PAGES] = {"empty_pages", "ep"},
    [FAR_FAULT_REPEAT_CHANGED] = {"repeat_changed", "rp"},
    [FAR_FAULT_CAPTURE_BESIDE] = {"capture_beside", "cb"},
    [FAR_FAULT_SEED] = {"seed", "sd"},
    [FAR_FAULT_OUTCOME] = {"outcome", "oc"},
};

struct fault_handle {
    struct far_fault *fault;
    void *handle;
};

/* ---- configuration ---- */

static int key_of(const char *key, size_t len)
{
    for (int i = 0; i < FAR_FAULT_NUMBERS; i++) {
        if ((strlen(keys[i].name) == len && strncmp(keys[i].name, key, len) == 0) ||
            (strlen(keys[i].brief) == len && strncmp(keys[i].brief, key, len) == 0)) {
            return i;
        }
    }
    return -1;
}

static int set_number(struct far_fault *fault, int key, const char *value, struct far_adapter_error *ret_error)
{
    char *end;
    errno = 0;
    fault->number[key] = strtoull(value, &end, 10);
    bool valid = errno == 0 && end != value && (*end == '\n' || *end == '\0') && *value >= '0' && *value <= '9';
    return valid ? FAR_ADAPTER_OK
                 : far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the adapter fault: '%s' wants a number",
                                    keys[key].name);
}

static int set_inner(struct far_fault *fault, const char *value, struct far_adapter_error *ret_error)
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

static int hand_on(char rest[INNER_CONFIG_MAX], const char *line, size_t len, struct far_adapter_error *ret_error)
{
    size_t used = strlen(rest);
    if (used + len + 2 > INNER_CONFIG_MAX) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the adapter fault: too many settings");
    }
    memcpy(rest + used, line, len);
    rest[used + len] = '\n';
    rest[used + len + 1] = '\0';
    return FAR_ADAPTER_OK;
}

static int set(struct far_fault *fault, const char *line, size_t len, char rest[INNER_CONFIG_MAX],
               struct far_adapter_error *ret_error)
{
    size_t key_len = strcspn(line, "=\n");
    const char *value = line + key_len + 1;
    if (key_len == len) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the adapter fault: '%.*s' is no key=value",
                                (int)len, line);
    }
    if (key_len == 5 && strncmp(line, "inner", key_len) == 0) {
        return set_inner(fault, value, ret_error);
    }
    int key = key_of(line, key_len);
    return key >= 0 ? set_number(fault, key, value, ret_error) : hand_on(rest, line, len, ret_error);
}

static int configure(struct far_fault *fault, const char *config, char rest[INNER_CONFIG_MAX],
                     struct far_adapter_error *ret_error)
{
    int outcome = FAR_ADAPTER_OK;
    while (outcome == FAR_ADAPTER_OK && *config != '\0') {
        size_t len = strcspn(config, "\n");
        outcome = set(fault, config, len, rest, ret_error);
        config += len + (config[len] == '\n');
    }
    if (outcome == FAR_ADAPTER_OK && fault->inner == NULL) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                "the adapter fault wraps another one: \"fault:file\"");
    }
    return outcome;
}

static int fault_open(const char *config, void **ret_platform, struct far_adapter_error *ret_error)
{
    char rest[INNER_CONFIG_MAX] = "";
    struct far_fault *fault = calloc(1, sizeof *fault);
    if (fault == NULL) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory");
    }
    fault->number[FAR_FAULT_OUTCOME] = FAR_ADAPTER_RETRY;
    int outcome = configure(fault, config, rest, ret_error);
    outcome = outcome == FAR_ADAPTER_OK ? fault->inner->open(rest, &fault->platform, ret_error) : outcome;
    if (outcome != FAR_ADAPTER_OK) {
        free(fault);
        return outcome;
    }
    *ret_platform = fault;
    return FAR_ADAPTER_OK;
}

static void fault_close(void *platform)
{
    struct far_fault *fault = platform;
    fault->inner->close(fault->platform);
    free(fault);
}

/* ---- faults ---- */

static void delay(const struct far_fault *fault, enum far_fault_number number)
{
    uint64_t us = fault->number[number];
    struct timespec ts = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
    if (us > 0) {
        nanosleep(&ts, NULL);
    }
}

bool far_fault_hits(struct far_fault *fault, enum far_fault_number number)
{
    uint64_t call = atomic_fetch_add(&fault->calls[number], 1) + 1;
    return fault->number[number] != 0 && call == fault->number[number];
}

bool far_fault_hits_on(struct far_fault *fault, enum far_fault_number number)
{
    uint64_t call = atomic_fetch_add(&fault->calls[number], 1) + 1;
    return fault->number[number] != 0 && call >= fault->number[number];
}

int far_fault_injected(const struct far_fault *fault, const char *what, struct far_adapter_error *ret_error)
{
    return far_adapter_fail(ret_error, (int)fault->number[FAR_FAULT_OUTCOME], FAR_IO, "%s: failed on purpose", what);
}

/* Does the range touch the bad one, and is that one still bad? Three numbers that follow each other: where, how long, how often. */
static bool is_bad(struct far_fault *fault, enum far_fault_number at, uint64_t offset, size_t length)
{
    uint64_t from = fault->number[at], kib = fault->number[at + 1], times = fault->number[at + 2];
    bool touches = kib > 0 && length > 0 && offset / 1024 < from + kib && (offset + length - 1) / 1024 >= from;
    return touches && (times == 0 || atomic_fetch_add(&fault->calls[at], 1) < times);
}

static int bad_range(const struct far_fault *fault, const char *what, uint64_t offset, size_t length,
                     struct far_adapter_error *ret_error)
{
    char words[120];
    snprintf(words, sizeof words, "%s of bytes %llu to %llu", what, (unsigned long long)offset,
             (unsigned long long)(offset + length - 1));
    return far_fault_injected(fault, words, ret_error);
}

/* ---- tables ---- */

static int fault_probe(void *platform, const struct far_adapter_disk *disk, struct far_adapter_found *ret_found,
                       struct far_adapter_error *ret_error)
{
    struct far_fault *fault = platform;
    return fault->inner->inventory->probe(fault->platform, disk, ret_found, ret_error);
}

static int fault_written(void *platform, const struct far_adapter_disk *disk, uint64_t *ret_ms, struct far_adapter_error *ret_error)
{
    struct far_fault *fault = platform;
    const struct far_adapter_inventory *inventory = fault->inner->inventory;
    *ret_ms = 0;
    return inventory->version >= FAR_ADAPTER_INVENTORY_VERSION && inventory->written != NULL
               ? inventory->written(fault->platform, disk, ret_ms, ret_error)
               : FAR_ADAPTER_OK;
}

static int fault_freeze(void *platform, const char *ref_hint, const struct far_adapter_disk *disks, size_t count,
                        struct far_adapter_found *ret_found, char ret_ref[128], bool *ret_fuzzy,
                        struct far_adapter_error *ret_error)
{
    struct far_fault *fault = platform;
    if (far_fault_hits(fault, FAR_FAULT_FAIL_FREEZE)) {
        return far_fault_injected(fault, "freeze", ret_error);
    }
    return fault->inner->changes->freeze(fault->platform, ref_hint, disks, count, ret_found, ret_ref, ret_fuzzy,
                                         ret_error);
}

static int fault_release(void *platform, const char *ref, const struct far_adapter_disk *disks, size_t count,
                         struct far_adapter_error *ret_error)
{
    struct far_fault *fault = platform;
    if (far_fault_hits(fault, FAR_FAULT_FAIL_RELEASE)) {
        return far_fault_injected(fault, "release", ret_error);
    }
    return fault->inner->changes->release(fault->platform, ref, disks, count, ret_error);
}

/* A platform that keeps what it needs anyway has only release(). */
static int fault_keep(void *platform, const char *ref, const struct far_adapter_disk *disks, size_t count,
                      struct far_adapter_error *ret_error)
{
    struct far_fault *fault = platform;
    const struct far_adapter_changes *changes = fault->inner->changes;
    if (far_fault_hits(fault, FAR_FAULT_FAIL_KEEP)) {
        return far_fault_injected(fault, "keep", ret_error);
    }
    return (changes->keep != NULL ? changes->keep : changes->release)(fault->platform, ref, disks, count, ret_error);
}

static bool fault_shares_views(void *platform, const struct far_adapter_disk *disks, size_t count)
{
    struct far_fault *fault = platform;
    const struct far_adapter_changes *changes = fault->inner->changes;
    return changes->shares_views != NULL && changes->shares_views(fault->platform, disks, count);
}

static int wrap_handle(struct far_fault *fault, void *inner, void **ret_handle, struct far_adapter_error *ret_error)
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
    struct far_fault *fault = platform;
    void *inner;
    int outcome = fault->inner->bytes->open_frozen(fault->platform, ref, disk, &inner, ret_error);
    return outcome == FAR_ADAPTER_OK ? wrap_handle(fault, inner, ret_handle, ret_error) : outcome;
}

static int fault_open_target(void *platform, const char *ref, const char *locator, uint64_t size_bytes,
                             void **ret_handle, struct far_adapter_error *ret_error)
{
    struct far_fault *fault = platform;
    void *inner;
    int outcome = fault->inner->bytes->open_target(fault->platform, ref, locator, size_bytes, &inner, ret_error);
    return outcome == FAR_ADAPTER_OK ? wrap_handle(fault, inner, ret_handle, ret_error) : outcome;
}

static int fault_read(void *opaque, void *buffer, size_t length, uint64_t offset, struct far_adapter_error *ret_error)
{
    struct fault_handle *handle = opaque;
    struct far_fault *fault = handle->fault;
    delay(fault, FAR_FAULT_READ_DELAY_US);
    if (far_fault_hits(fault, FAR_FAULT_FAIL_READ)) {
        return far_fault_injected(fault, "read", ret_error);
    }
    if (is_bad(fault, FAR_FAULT_BAD_AT_KIB, offset, length)) {
        return bad_range(fault, "read", offset, length, ret_error);
    }
    int outcome = fault->inner->bytes->read(handle->handle, buffer, length, offset, ret_error);
    if (far_fault_hits(fault, FAR_FAULT_FLIP_READ) && outcome == FAR_ADAPTER_OK && length > 0) {
        ((uint8_t *)buffer)[length / 2] ^= 1;
    }
    return outcome;
}

static int fault_write(void *opaque, const void *buffer, size_t length, uint64_t offset,
                       struct far_adapter_error *ret_error)
{
    struct fault_handle *handle = opaque;
    delay(handle->fault, FAR_FAULT_WRITE_DELAY_US);
    if (far_fault_hits(handle->fault, FAR_FAULT_FAIL_WRITE)) {
        return far_fault_injected(handle->fault, "write", ret_error);
    }
    if (is_bad(handle->fault, FAR_FAULT_BAD_WRITE_AT_KIB, offset, length)) {
        return bad_range(handle->fault, "write", offset, length, ret_error);
    }
    return handle->fault->inner->bytes->write(handle->handle, buffer, length, offset, ret_error);
}

static int fault_flush(void *opaque, struct far_adapter_error *ret_error)
{
    struct fault_handle *handle = opaque;
    if (far_fault_hits(handle->fault, FAR_FAULT_FAIL_FLUSH)) {
        return far_fault_injected(handle->fault, "flush", ret_error);
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

static const struct far_adapter_inventory inventory = {
    .version = FAR_ADAPTER_INVENTORY_VERSION, .probe = fault_probe, .written = fault_written};
static const struct far_adapter_changes changes = {
    .version = FAR_ADAPTER_VERSION,
    .survives_node = true, /* as the inner ones do */
    .freeze = fault_freeze,
    .release = fault_release,
    .changed = far_fault_changed,
    .keep = fault_keep,
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
    .machines = &far_fault_machines,
};
