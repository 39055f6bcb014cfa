/* A made-up disk and the tasks of a cycle on it: see engine_disk.h. */
#include "engine_disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 65536 };

static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void fill(uint64_t *state, uint8_t *block, bool text)
{
    for (size_t at = 0; at < BLOCK; at += 8) {
        uint64_t word = next(state);
        word = text ? 0x6120726564726f20ull ^ (word & 0x0303) : word;
        memcpy(block + at, &word, 8);
    }
}

void disk_make(struct engine_disk *disk, struct engine_pair *pair, const char *name, uint64_t size_bytes, uint64_t seed)
{
    static uint8_t block[BLOCK];
    *disk = (struct engine_disk){.pair = pair, .size_bytes = size_bytes, .seed = seed, .adapter = "file"};
    pair_path(pair, name, disk->path, sizeof disk->path);
    int fd = open(disk->path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size_bytes) != 0) {
        perror(disk->path);
        abort();
    }
    uint64_t state = seed * 2 + 1;
    for (uint64_t at = 0; at < size_bytes; at += BLOCK) {
        unsigned kind = (unsigned)(next(&state) >> 20) % 10;
        size_t length = size_bytes - at < BLOCK ? (size_t)(size_bytes - at) : BLOCK;
        if (kind < 3) {
            continue; /* zero */
        }
        fill(&state, block, kind < 6);
        if (pwrite(fd, block, length, (off_t)at) != (ssize_t)length) {
            abort();
        }
    }
    disk->seed = state;
    close(fd);
}

uint64_t disk_change(struct engine_disk *disk, uint64_t count)
{
    static uint8_t block[BLOCK];
    uint64_t blocks = disk->size_bytes / BLOCK;
    int fd = open(disk->path, O_RDWR);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = (i * (blocks / count) + next(&disk->seed) % (blocks / count)) * BLOCK;
        fill(&disk->seed, block, i % 3 == 0);
        if (pwrite(fd, block, BLOCK, (off_t)at) != BLOCK) {
            abort();
        }
    }
    close(fd);
    return count * BLOCK;
}

struct far_engine_order disk_order(const struct engine_disk *disk, enum far_engine_kind kind, uint64_t job, uint64_t task,
                                   uint64_t attempt)
{
    struct far_engine_order order = {
        .job_id = job,
        .task = task,
        .attempt = attempt,
        .kind = kind,
        .incarnation_epoch = 1,
        .plan_epoch = 1,
        .plan_id = 20,
        .plan = "plan",
        .workload_id = 21,
        .workload = "workload",
        .adapter = disk->adapter,
        .disk_id = 22,
        .disk = "disk",
        .locator = disk->path,
        .size_bytes = disk->size_bytes,
        .has_base_root = disk->has_base,
        .freeze_ref = disk->freeze.freeze_ref,
        .site = "site",
    };
    memcpy(order.base_root, disk->base_root, 32);
    if (disk->domain != NULL) {
        order.has_domain = true;
        order.domain = *disk->domain;
    }
    if (disk->domain != NULL && kind == FAR_ENGINE_SEND) { /* ids are all that a source makes */
        order.domain.generation = order.domain.old_generation = 0;
        memset(order.domain.key, 0, 32);
        memset(order.domain.old_key, 0, 32);
    }
    order.peer_node_id = kind == FAR_ENGINE_SEND ? PAIR_TARGET : PAIR_SOURCE;
    if (kind == FAR_ENGINE_SEND) {
        order.peer_address = disk->proxy != NULL ? disk->proxy : far_engine_data_address(disk->pair->target);
    }
    return order;
}

void disk_start(struct engine_disk *disk, const struct far_engine_order *order)
{
    struct far_error err;
    bool source = order->kind == FAR_ENGINE_FREEZE || order->kind == FAR_ENGINE_SEND || order->kind == FAR_ENGINE_RELEASE;
    if (far_engine_start(source ? disk->pair->source : disk->pair->target, order, &err) != 0) {
        fprintf(stderr, "# start: %s\n", err.message);
        abort();
    }
}

bool disk_cycle(struct engine_disk *disk)
{
    struct engine_pair *pair = disk->pair;
    struct far_engine_disk disks[] = {{.name = "disk", .locator = disk->path}};
    uint64_t job = ++pair->job;
    struct far_engine_order freeze = disk_order(disk, FAR_ENGINE_FREEZE, job, TASK_FREEZE, 1);
    freeze.disks = disks;
    freeze.disk_count = 1;
    disk_start(disk, &freeze);
    disk->freeze = pair_wait(pair, job, TASK_FREEZE, 1);
    if (disk->freeze.state != FAR_ENGINE_DONE) {
        return false;
    }
    struct far_engine_order receive = disk_order(disk, FAR_ENGINE_RECEIVE, job, TASK_RECEIVE, 1);
    struct far_engine_order send = disk_order(disk, FAR_ENGINE_SEND, job, TASK_SEND, 1);
    disk_start(disk, &send);
    disk_start(disk, &receive);
    disk->send = pair_wait(pair, job, TASK_SEND, 1);
    disk->receive = pair_wait(pair, job, TASK_RECEIVE, 1);
    if (disk->send.state != FAR_ENGINE_DONE || disk->receive.state != FAR_ENGINE_DONE) {
        fprintf(stderr, "# send: %s; receive: %s\n", disk->send.error_message, disk->receive.error_message);
        return false;
    }
    return memcmp(disk->send.root, disk->receive.root, 32) == 0;
}

void disk_accept(struct engine_disk *disk)
{
    memcpy(disk->base_root, disk->receive.root, 32);
    disk->has_base = true;
}

static bool same_files(const char *a, const char *b)
{
    char command[700];
    snprintf(command, sizeof command, "cmp -s '%s' '%s'", a, b);
    return system(command) == 0;
}

bool disk_restore(struct engine_disk *disk, const char *name)
{
    char target[300];
    uint64_t job = ++disk->pair->job;
    struct far_engine_order restore = disk_order(disk, FAR_ENGINE_RESTORE, job, TASK_RESTORE, 1);
    memcpy(restore.root, disk->receive.root, 32);
    restore.target_path = pair_path(disk->pair, name, target, sizeof target);
    disk_start(disk, &restore);
    struct far_engine_report report = pair_wait(disk->pair, job, TASK_RESTORE, 1);
    if (report.state != FAR_ENGINE_DONE) {
        fprintf(stderr, "# restore: %s\n", report.error_message);
    }
    return report.state == FAR_ENGINE_DONE && report.has_root && memcmp(report.root, restore.root, 32) == 0 &&
           report.size_bytes == disk->size_bytes && same_files(target, disk->path);
}
