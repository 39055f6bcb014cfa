/* The scrub of a vault: see scrub.h. Here is the way through its points; who needs what is damaged is in scrub_names.c. */
#include "dataplane/domain.h"
#include "dataplane/scrub_private.h"
#include "dataplane/vault_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRIES_FIRST = 64, LATER_SHARE = 64 /* a later point of a disk counts for so small a part of it */ };

struct scrub {
    struct far_vault *vault;
    const struct far_scrub_order *order;
    int (*progress)(void *arg, uint64_t bytes_read, uint64_t bytes_max);
    void *arg;
    struct far_scrub_entry *entries; /* by point and disk */
    struct far_scrub_entry **by_disk;
    size_t count, room;
    struct far_scrub_result *result;
    struct far_scrub_wanted wanted[FAR_SCRUB_DAMAGES_MAX];
    const struct far_scrub_entry *entry; /* that is read */
    const struct far_domain *domain;
    uint64_t bytes_before; /* read by this run before it */
    bool dropped;          /* there was damage beyond the most of a run */
    int list_rc;
};

/* ---- what there is ---- */

static void note_damage(struct scrub *scrub, uint64_t point_id, const char *disk, uint64_t first, uint64_t count, const char *text)
{
    struct far_scrub_result *result = scrub->result;
    if (result->damage_count == FAR_SCRUB_DAMAGES_MAX) {
        return;
    }
    struct far_scrub_damage *damage = &result->damages[result->damage_count++];
    *damage = (struct far_scrub_damage){.point_id = point_id, .first_block = first, .block_count = count};
    snprintf(damage->disk, sizeof damage->disk, "%.63s", disk);
    snprintf(damage->text, sizeof damage->text, "%.255s", text);
}

static int make_room(struct scrub *scrub, size_t more)
{
    if (scrub->count + more <= scrub->room) {
        return 0;
    }
    size_t room = scrub->room < ENTRIES_FIRST ? ENTRIES_FIRST : 2 * scrub->room;
    struct far_scrub_entry *entries = room <= FAR_SCRUB_ENTRIES_MAX ? realloc(scrub->entries, room * sizeof *entries) : NULL;
    if (entries == NULL) {
        return FAR_LIMIT;
    }
    scrub->entries = entries;
    scrub->room = room;
    return 0;
}

/* Something of the vault's own; told by each run until the rotation is past it. Blocks keep their room. */
static void note_own(struct scrub *scrub, uint64_t point_id, const char *text)
{
    bool is_ahead = point_id >= scrub->order->cursor.point_id;
    if (is_ahead && scrub->result->damage_count < FAR_SCRUB_DAMAGES_MAX / 2) {
        note_damage(scrub, point_id, "", 0, 0, text);
    }
}

static int note_point(void *arg, uint64_t point_id, const struct far_manifest *manifest, const char *problem)
{
    struct scrub *scrub = arg;
    const struct far_domain *domain;
    struct far_error cause;
    if (manifest == NULL || far_vault_domain_is_lost(scrub->vault, manifest->domain_uuid, &cause)) {
        note_own(scrub, point_id, manifest == NULL ? problem : cause.message);
        return 0;
    }
    if (far_vault_domain_find(scrub->vault, manifest->domain_uuid, &domain, NULL) != 0) {
        scrub->result->points_skipped++;
        return 0;
    }
    scrub->list_rc = make_room(scrub, manifest->disk_count);
    for (uint32_t i = 0; scrub->list_rc == 0 && i < manifest->disk_count; i++) {
        const struct far_manifest_disk *disk = &manifest->disks[i];
        struct far_scrub_entry *entry = &scrub->entries[scrub->count++];
        *entry = (struct far_scrub_entry){.point_id = point_id, .disk_id = disk->disk_id, .disk = i, .root = disk->root,
                                          .blocks = far_map_block_count(disk->size_bytes)};
        memcpy(entry->name, disk->name, sizeof entry->name);
    }
    return scrub->list_rc;
}

/* Whoever writes next makes it anew (replica_mend.c). */
static int note_replica(void *arg, uint64_t disk_id, struct far_error *err)
{
    struct scrub *scrub = arg;
    struct far_replica_file file;
    struct far_error cause;
    (void)err;
    if (far_replica_file_read(scrub->vault, disk_id, &file, &cause) == FAR_CORRUPT) {
        note_own(scrub, 0, cause.message);
    }
    return 0;
}

static int compare(const void *a, const void *b)
{
    const struct far_scrub_entry *x = *(struct far_scrub_entry *const *)a, *y = *(struct far_scrub_entry *const *)b;
    if (x->disk_id != y->disk_id) {
        return x->disk_id < y->disk_id ? -1 : 1;
    }
    return x < y ? -1 : x > y; /* of one array, by point */
}

static int list(struct scrub *scrub, struct far_error *err)
{
    char replicas[4096];
    snprintf(replicas, sizeof replicas, "%s/replicas", scrub->vault->dir);
    int rc = far_vault_each_number(replicas, ".replica", note_replica, scrub, err);
    rc = rc == 0 ? far_vault_points(scrub->vault, note_point, scrub, err) : rc;
    if (scrub->list_rc != 0) {
        return far_fail(err, FAR_LIMIT, "no memory for the disks of so many points");
    }
    scrub->by_disk = rc == 0 ? calloc(scrub->count + 1, sizeof *scrub->by_disk) : NULL;
    if (rc == 0 && scrub->by_disk == NULL) {
        rc = far_fail(err, FAR_LIMIT, "no memory for the disks of so many points");
    }
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < scrub->count; i++) {
        scrub->by_disk[i] = &scrub->entries[i];
    }
    qsort(scrub->by_disk, scrub->count, sizeof *scrub->by_disk, compare);
    for (size_t i = 1; i < scrub->count; i++) {
        bool same = scrub->by_disk[i - 1]->disk_id == scrub->by_disk[i]->disk_id;
        scrub->by_disk[i]->before = same ? scrub->by_disk[i - 1] : NULL;
    }
    return 0;
}

/* ---- one disk of a point ---- */

static void on_damage(void *arg, const struct far_point_damage *damage)
{
    struct scrub *scrub = arg;
    size_t at = scrub->result->damage_count;
    note_damage(scrub, scrub->entry->point_id, scrub->entry->name, damage->first_block, damage->block_count, damage->text);
    scrub->dropped = at == FAR_SCRUB_DAMAGES_MAX;
    if (!scrub->dropped) {
        scrub->result->blocks_damaged += damage->block_count;
        scrub->wanted[at] = (struct far_scrub_wanted){.height = damage->height, .id = damage->id, .domain = scrub->domain};
    }
}

static int on_progress(void *arg, uint64_t blocks_done, uint64_t blocks)
{
    struct scrub *scrub = arg;
    (void)blocks_done;
    (void)blocks;
    return scrub->progress != NULL ? scrub->progress(scrub->arg, scrub->bytes_before, scrub->order->bytes_max) : 0;
}

/* Its root cannot be read: all of the disk is damaged. */
static void note_root(struct scrub *scrub, const char *text)
{
    size_t at = scrub->result->damage_count; /* a full list ended the run */
    note_damage(scrub, scrub->entry->point_id, scrub->entry->name, 0, scrub->entry->blocks, text);
    scrub->wanted[at] = (struct far_scrub_wanted){.is_root = true, .id = scrub->entry->root};
    scrub->result->blocks_damaged += scrub->entry->blocks;
}

/* *block: where it begins, then where the next run goes on; the count of its blocks: it is done. */
static int look_at(struct scrub *scrub, const struct far_scrub_entry *entry, uint64_t *block, struct far_error *err)
{
    struct far_scrub_result *result = scrub->result;
    struct far_verify_part part = {.first_block = *block, .bytes_max = UINT64_MAX};
    struct far_verify_result found = {0};
    struct far_point *point = NULL, *since = NULL;
    struct far_error cause;
    scrub->entry = entry;
    scrub->bytes_before = result->bytes_read;
    part.bytes_max = scrub->order->bytes_max != 0 ? scrub->order->bytes_max - result->bytes_read : UINT64_MAX;
    *block = entry->blocks;
    int rc = far_point_open_disk(scrub->vault, entry->point_id, entry->name, &point, &cause);
    if (rc == FAR_DENIED || rc == FAR_CONFLICT) { /* its domain was destroyed meanwhile */
        return 0;
    }
    if (rc == FAR_NOT_FOUND || rc == FAR_CORRUPT) {
        struct far_manifest *manifest = malloc(sizeof *manifest);
        int lost = manifest == NULL ? FAR_LIMIT : far_vault_point(scrub->vault, entry->point_id, manifest, NULL);
        free(manifest);
        if (lost == 0) {
            note_root(scrub, cause.message);
        }
        return 0; /* otherwise it was forgotten meanwhile */
    }
    if (rc != 0) {
        return far_fail(err, rc, "%s", cause.message);
    }
    scrub->domain = far_point_domain(point);
    if (entry->before != NULL) {
        (void)far_point_open_disk(scrub->vault, entry->before->point_id, entry->before->name, &since, NULL);
    }
    rc = far_point_verify_part(point, since, &part, on_damage, on_progress, scrub, &found, err);
    far_point_close(since);
    far_point_close(point);
    rc = rc == FAR_CORRUPT && found.blocks_damaged != 0 ? 0 : rc;
    if (rc == 0) {
        const struct far_scrub_damage *last = &result->damages[FAR_SCRUB_DAMAGES_MAX - 1];
        *block = scrub->dropped ? last->first_block + last->block_count : part.next_block;
        result->blocks += found.blocks;
        result->bytes_read += found.bytes_read;
    }
    return rc;
}

/* ---- a run ---- */

static uint64_t weight(const struct far_scrub_entry *entry)
{
    return entry->before == NULL ? entry->blocks : entry->blocks / LATER_SHARE + 1;
}

static uint32_t share(const struct scrub *scrub, size_t at, uint64_t block)
{
    uint64_t done = 0, all = 0;
    for (size_t i = 0; i < scrub->count; i++) {
        const struct far_scrub_entry *entry = &scrub->entries[i];
        uint64_t part = weight(entry);
        all += part;
        done += i < at ? part : i > at ? 0 : entry->before == NULL ? block : block / LATER_SHARE;
    }
    return all == 0 ? 1000 : (uint32_t)((double)done / (double)all * 1000);
}

static bool is_full(const struct scrub *scrub)
{
    uint64_t bytes_max = scrub->order->bytes_max;
    return (bytes_max != 0 && scrub->result->bytes_read >= bytes_max) || scrub->result->damage_count == FAR_SCRUB_DAMAGES_MAX;
}

static int go_round(struct scrub *scrub, struct far_error *err)
{
    const struct far_scrub_cursor *cursor = &scrub->order->cursor;
    struct far_scrub_result *result = scrub->result;
    uint64_t block = 0;
    size_t at = 0;
    while (at < scrub->count && (scrub->entries[at].point_id < cursor->point_id ||
                                 (scrub->entries[at].point_id == cursor->point_id && scrub->entries[at].disk < cursor->disk))) {
        at++;
    }
    if (at < scrub->count && scrub->entries[at].point_id == cursor->point_id && scrub->entries[at].disk == cursor->disk) {
        block = cursor->block;
    }
    int rc = 0;
    while (rc == 0 && at < scrub->count && !is_full(scrub)) {
        rc = look_at(scrub, &scrub->entries[at], &block, err);
        if (rc == 0 && block >= scrub->entries[at].blocks) {
            result->disks_looked_at++;
            at++;
            block = 0;
        }
        rc = rc == 0 && on_progress(scrub, 0, 0) != 0 ? far_fail(err, FAR_CANCELED, "the scrub was canceled") : rc;
    }
    result->next = (struct far_scrub_cursor){.rotation = cursor->rotation != 0 ? cursor->rotation : 1};
    result->rotation_ended = at == scrub->count;
    result->done_permille = share(scrub, at, block);
    if (result->rotation_ended) {
        result->next.rotation++;
    } else {
        result->next.point_id = scrub->entries[at].point_id;
        result->next.disk = scrub->entries[at].disk;
        result->next.block = block;
    }
    return rc;
}

int far_vault_scrub(struct far_vault *vault, const struct far_scrub_order *order,
                    int (*progress)(void *arg, uint64_t bytes_read, uint64_t bytes_max), void *arg,
                    struct far_scrub_result *ret_result, struct far_error *err)
{
    struct scrub *scrub = calloc(1, sizeof *scrub);
    struct far_scrub_result *result = calloc(1, sizeof *result);
    int rc = scrub == NULL || result == NULL ? far_fail(err, FAR_LIMIT, "no memory to scrub") : 0;
    if (rc == 0) {
        *scrub = (struct scrub){.vault = vault, .order = order, .progress = progress, .arg = arg, .result = result};
        rc = list(scrub, err);
        rc = rc == 0 ? go_round(scrub, err) : rc;
        rc = rc == 0 && result->damage_count > 0
                 ? far_scrub_names(vault, scrub->by_disk, scrub->count, scrub->wanted, result, err) : rc;
        free(scrub->entries);
        free(scrub->by_disk);
    }
    if (rc == 0) {
        *ret_result = *result;
    }
    free(result);
    free(scrub);
    return rc;
}
