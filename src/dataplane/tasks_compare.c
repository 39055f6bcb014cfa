/* The source's side of a comparison: what did a failover lose? The disks of a workload are frozen at one moment, as for a cycle, and held
 * against the point that was recovered (compare_disk.c); then the view ends, and what the platform keeps for later lists is as before.
 * Nothing is written to them, nothing is started. A disk that is not there any more is said so, and the others are compared. */
#include "dataplane/compare.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { EXTENTS_MAX = 1024 /* of one report */ };

struct far_engine_lost *far_engine_lost_ref(struct far_engine_lost *lost)
{
    if (lost != NULL) {
        far_users_add(&lost->users);
    }
    return lost;
}

void far_engine_lost_unref(struct far_engine_lost *lost)
{
    if (lost != NULL && far_users_drop(&lost->users)) {
        free(lost);
    }
}

struct comparing {
    struct far_attempt *attempt;
    struct far_platform *platform;
    struct far_engine_lost *told;
    struct far_adapter_disk disks[FAR_ENGINE_DISKS_MAX]; /* those that are there */
    size_t index[FAR_ENGINE_DISKS_MAX];                  /* in the order */
    size_t count;
    struct far_adapter_found found[FAR_ENGINE_DISKS_MAX];
    char ref[128];
};

static void skip(struct far_engine_lost_disk *told, const char *why)
{
    told->skipped = true;
    snprintf(told->problem, sizeof told->problem, "%.*s", (int)sizeof told->problem - 1, why);
}

/* Which disks are there, and when they were written the last time: before anything touches them. */
static int find_disks(struct comparing *c, struct far_error *err)
{
    const struct far_engine_order *order = &c->attempt->order;
    const struct far_adapter_inventory *inventory = c->platform->adapter->inventory;
    bool tells = inventory->version >= FAR_ADAPTER_INVENTORY_VERSION && inventory->written != NULL;
    for (size_t i = 0; i < order->disk_count; i++) {
        struct far_engine_lost_disk *told = &c->told->disks[i];
        struct far_adapter_disk disk = {.name = order->disks[i].name, .locator = order->disks[i].locator};
        struct far_adapter_error said = {0};
        struct far_adapter_found found;
        enum far_adapter_outcome outcome;
        uint64_t written_ms = 0;
        told->disk_id = order->point_disks[i].disk_id;
        snprintf(told->name, sizeof told->name, "%s", order->disks[i].name);
        if (disk.locator[0] == '\0') {
            skip(told, "the workload has it no more");
            continue;
        }
        int rc = far_adapter_result(inventory->probe(c->platform->platform, &disk, &found, &said), &said, &outcome, err);
        if (rc != 0 && rc != FAR_NOT_FOUND) {
            return rc;
        }
        if (rc != 0) {
            skip(told, err->message);
            continue;
        }
        if (tells && inventory->written(c->platform->platform, &disk, &written_ms, &said) == FAR_ADAPTER_OK) {
            c->told->written_ms = written_ms > c->told->written_ms ? written_ms : c->told->written_ms;
        }
        c->index[c->count] = i;
        c->disks[c->count++] = disk;
    }
    c->told->disk_count = order->disk_count;
    return 0;
}

static void look_at_machine(struct comparing *c)
{
    const struct far_adapter_machines *machines = c->platform->adapter->machines;
    struct far_adapter_error said = {0};
    int state = 0;
    if (machines != NULL && machines->version >= 1 && machines->source_look != NULL && c->count > 0 &&
        machines->source_look(c->platform->platform, c->disks, c->count, NULL, &state, &said) == FAR_ADAPTER_OK) {
        c->told->runs = state == FAR_ADAPTER_MACHINE_RUNNING || state == FAR_ADAPTER_MACHINE_PAUSED;
    }
}

static int freeze(struct comparing *c, struct far_engine_report *result, struct far_error *err)
{
    const struct far_engine_order *order = &c->attempt->order;
    struct far_adapter_error said = {0};
    char hint[64];
    snprintf(hint, sizeof hint, "%" PRIu64 "-%" PRIu64 "-%" PRIu64, order->job_id, order->task, order->attempt);
    int answer = c->platform->adapter->changes->freeze(c->platform->platform, hint, c->disks, c->count, c->found, c->ref, &result->fuzzy,
                                                       &said);
    return far_adapter_result(answer, &said, &result->outcome, err);
}

static int compare(struct comparing *c, struct far_error *err)
{
    const struct far_engine_order *order = &c->attempt->order;
    struct compare_link link;
    uint64_t total = 0, done = 0;
    size_t room = EXTENTS_MAX / c->count < FAR_ENGINE_RANGES_MAX ? EXTENTS_MAX / c->count : FAR_ENGINE_RANGES_MAX;
    for (size_t i = 0; i < c->count; i++) {
        total += c->found[i].size_bytes;
    }
    atomic_store(&c->attempt->bytes_total, total);
    int rc = compare_link_init(&link, c->attempt, err);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; rc == 0 && i < c->count; i++) {
        size_t at = c->index[i];
        struct far_engine_lost_disk *told = &c->told->disks[at];
        bool has_list = c->found[i].token[0] != '\0';
        struct compare_disk disk = {.platform = c->platform,
                                    .ref = c->ref,
                                    .disk = c->disks[i],
                                    .size_bytes = c->found[i].size_bytes,
                                    .point = &order->point_disks[at],
                                    .index = at,
                                    .since = has_list ? order->since_each[at] : "",
                                    .done_before = done,
                                    .extents_max = room};
        if (disk.size_bytes == 0) {
            skip(told, "it is empty");
            continue;
        }
        rc = compare_disk_run(&link, &disk, told, err);
        if (!has_list && order->since_each[at][0] != '\0' && told->problem[0] == '\0') {
            snprintf(told->problem, sizeof told->problem, "its list of changes is lost, as after a crash: all of it was read");
        }
        done += disk.size_bytes;
    }
    compare_link_done(&link);
    return rc;
}

int far_run_compare(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    struct far_engine *engine = attempt->engine;
    struct comparing *c = calloc(1, sizeof *c);
    struct far_engine_lost *told = calloc(1, sizeof *told);
    struct far_adapter_error said = {0};
    int rc = c != NULL && told != NULL ? far_transfer_slot_take(attempt, &engine->sending, err)
                                       : far_fail(err, FAR_LIMIT, "no memory for a comparison");
    if (rc != 0) {
        free(c);
        free(told);
        return rc;
    }
    told->users = 1;
    *c = (struct comparing){.attempt = attempt, .told = told};
    rc = far_engine_platform(engine, attempt->order.adapter, &c->platform, err);
    rc = rc == 0 ? find_disks(c, err) : rc;
    if (rc == 0) {
        look_at_machine(c);
    }
    if (rc == 0 && c->count > 0 && (rc = freeze(c, result, err)) == 0) {
        rc = compare(c, err);
        (void)c->platform->adapter->changes->release(c->platform->platform, c->ref, c->disks, c->count, &said); /* or its next freeze */
    }
    far_transfer_slot_give(engine, &engine->sending);
    result->lost = rc == 0 ? told : NULL; /* let go of at the end of the attempt */
    if (rc != 0) {
        far_engine_lost_unref(told);
    }
    free(c);
    return rc;
}
