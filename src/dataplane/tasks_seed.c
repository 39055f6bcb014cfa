/* Seeding a vault: what a disk at this site holds, frozen and read by its adapter, becomes an import of the vault (import.h), labelled by
 * the disk that it is to serve. So the first copy of that finds its blocks; once its first point is sealed here, the import is forgotten.
 * Cut short, the task begins again: what is stored already is not stored twice. */
#include "dataplane/engine_local.h"
#include "dataplane/import.h"

#include <inttypes.h>
#include <stdio.h>

struct seeding {
    struct far_attempt *attempt;
    struct far_platform *platform;
    struct far_adapter_disk disk;
    char ref[128];
};

static void label_of(uint64_t disk_id, char label[40])
{
    snprintf(label, 40, "seed of disk %" PRIu64, disk_id);
}

static int open_view(void *arg, void **ret_handle, struct far_error *err)
{
    struct seeding *seeding = arg;
    struct far_adapter_error said = {0};
    enum far_adapter_outcome outcome;
    struct far_platform *platform = seeding->platform;
    int answer = platform->adapter->bytes->open_frozen(platform->platform, seeding->ref, &seeding->disk, ret_handle, &said);
    return far_adapter_result(answer, &said, &outcome, err);
}

static int read_view(void *arg, void *handle, void *buffer, size_t length, uint64_t offset, struct far_error *err)
{
    struct seeding *seeding = arg;
    struct far_adapter_error said = {0};
    enum far_adapter_outcome outcome;
    int answer = seeding->platform->adapter->bytes->read(handle, buffer, length, offset, &said);
    return far_adapter_result(answer, &said, &outcome, err);
}

static void close_view(void *arg, void *handle)
{
    ((struct seeding *)arg)->platform->adapter->bytes->close(handle);
}

static int on_progress(void *arg, uint64_t bytes_done, uint64_t bytes)
{
    struct far_attempt *attempt = arg;
    atomic_store(&attempt->bytes_total, bytes);
    atomic_store(&attempt->bytes_done, bytes_done);
    return far_attempt_stopped(attempt) ? FAR_CANCELED : 0;
}

static int take(struct seeding *seeding, uint64_t size_bytes, struct far_engine_report *result, struct far_error *err)
{
    struct far_attempt *attempt = seeding->attempt;
    const struct far_engine_order *order = &attempt->order;
    char label[40];
    struct far_import_source source = {
        .size_bytes = size_bytes, .open = open_view, .read = read_view, .close = close_view, .arg = seeding};
    struct far_import_options options = {
        .image = order->locator, .source = &source, .label = label, .disk = order->disk, .progress = on_progress, .arg = attempt};
    struct far_import_result taken;
    label_of(far_engine_number(attempt->engine, order->disk_id), label);
    int rc = far_attempt_domain(attempt, &options.domain, result, err);
    rc = rc == 0 ? far_vault_import(attempt->engine->vault, &options, &taken, err) : rc;
    if (rc == 0) {
        result->size_bytes = taken.size_bytes;
        result->bytes_changed = taken.blocks_stored * FAR_BLOCK_BYTES;
        result->bytes_sent = taken.bytes_stored;
    }
    return rc;
}

int far_run_seed(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    const struct far_engine_order *order = &attempt->order;
    struct seeding seeding = {.attempt = attempt, .disk = {.name = order->disk, .locator = order->locator}};
    struct far_adapter_found found = {0};
    struct far_adapter_error said = {0};
    char hint[64];
    bool fuzzy;
    int rc = far_engine_platform(attempt->engine, order->adapter, &seeding.platform, err);
    if (rc != 0) {
        return rc;
    }
    const struct far_adapter_changes *changes = seeding.platform->adapter->changes;
    snprintf(hint, sizeof hint, "%" PRIu64 "-%" PRIu64 "-%" PRIu64, order->job_id, order->task, order->attempt);
    int answer = changes->freeze(seeding.platform->platform, hint, &seeding.disk, 1, &found, seeding.ref, &fuzzy, &said);
    rc = far_adapter_result(answer, &said, &result->outcome, err);
    if (rc != 0) {
        return rc;
    }
    rc = take(&seeding, found.size_bytes, result, err);
    (void)changes->release(seeding.platform->platform, seeding.ref, &seeding.disk, 1, &said); /* what stays goes at its next freeze */
    return rc;
}

void far_seeds_over(struct far_attempt *attempt)
{
    const struct far_engine_order *order = &attempt->order;
    for (size_t i = 0; i < order->point_disk_count; i++) {
        char label[40];
        label_of(order->point_disks[i].disk_id, label); /* as the vault has it: exchanged with the order */
        (void)far_vault_import_forget(attempt->engine->vault, label, order->point_disks[i].name, NULL);
    }
}
