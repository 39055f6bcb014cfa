/* The simulated disk: files in memory, with what is durable apart from what was only written. See sim.h, log/disk.h.
 *
 * A power cut loses any subset of the sectors (512 bytes) that were written and not synced, of the truncations, and of the
 * names made or removed since the last sync of the folder. Runs of zeros beyond the end only make a file longer. */
#include "sim.h"

#include "base/assert.h"

#include <stdlib.h>

enum { SECTOR = 512, FILES_MAX = 64 };

struct version {
    uint8_t *data;
    uint64_t len; /* of data; zeros from here to size */
    uint64_t size;
};

struct range {
    uint64_t from;
    uint64_t to;
};

struct far_file {
    char name[FAR_DISK_NAME_MAX];
    bool used;
    bool exists;         /* now */
    bool exists_durable; /* its name survives */
    unsigned open_count;
    struct version now;
    struct version durable;
    struct range *dirty; /* owned: written and not synced */
    size_t dirty_count, dirty_cap;
};

struct sim_disk {
    struct far_disk base; /* first */
    struct sim *sim;
    bool dead;
    bool full;
    bool is_torn; /* a write was, by the last power cut */
    bool went_astray;
    bool astray, astray_lost; /* the next write to a segment is misdirected or lost */
    uint64_t die_after; /* 0 = not planned */
    struct far_file files[FILES_MAX];
};

static struct sim_disk *of(struct far_disk *disk)
{
    return (struct sim_disk *)(void *)disk;
}

static void version_done(struct version *v)
{
    free(v->data);
    *v = (struct version){0};
}

static void version_reach(struct version *v, uint64_t len)
{
    if (len > v->len) {
        v->data = realloc(v->data, len);
        FAR_ASSERT(v->data != NULL);
        memset(v->data + v->len, 0, len - v->len);
        v->len = len;
    }
}

static void version_cut(struct version *v, uint64_t size)
{
    v->len = v->len > size ? size : v->len;
    v->size = size;
}

/* Make bytes [from, to) of one version those of another. */
static void version_copy(struct version *to_v, const struct version *from_v, uint64_t from, uint64_t to)
{
    to = to > from_v->size ? from_v->size : to;
    if (from >= to) {
        return;
    }
    to_v->size = to > to_v->size ? to : to_v->size;
    uint64_t data_to = to > from_v->len ? from_v->len : to;
    if (data_to > from) {
        version_reach(to_v, data_to);
        memcpy(to_v->data + from, from_v->data + from, data_to - from);
    }
    uint64_t zero_from = from > from_v->len ? from : from_v->len;
    if (zero_from < to_v->len && zero_from < to) {
        memset(to_v->data + zero_from, 0, (to < to_v->len ? to : to_v->len) - zero_from);
    }
}

static void version_assign(struct version *to_v, const struct version *from_v)
{
    version_cut(to_v, 0);
    to_v->size = from_v->size;
    if (from_v->len > 0) {
        version_reach(to_v, from_v->len);
        memcpy(to_v->data, from_v->data, from_v->len);
    }
}

static bool check(struct sim_disk *disk, bool changes, struct far_error *err, int *ret_rc)
{
    if (changes && disk->die_after > 0 && --disk->die_after == 0) {
        sim_count(disk->sim, SIM_COUNT_DISK_DIED);
        disk->dead = true;
    }
    if (disk->dead) {
        *ret_rc = far_fail(err, FAR_IO, "the power is off");
        return false;
    }
    return true;
}

static struct far_file *find(struct sim_disk *disk, const char *name)
{
    for (unsigned i = 0; i < FILES_MAX; i++) {
        if (disk->files[i].used && strcmp(disk->files[i].name, name) == 0) {
            return &disk->files[i];
        }
    }
    return NULL;
}

static void file_clear(struct far_file *file)
{
    version_done(&file->now);
    version_done(&file->durable);
    free(file->dirty);
    memset(file, 0, sizeof *file);
}

static int disk_open(struct far_disk *base, const char *name, bool create, struct far_file **ret_file,
                     struct far_error *err)
{
    struct sim_disk *disk = of(base);
    int rc = 0;
    if (!check(disk, false, err, &rc)) {
        return rc;
    }
    struct far_file *file = find(disk, name);
    if ((file == NULL || !file->exists) && !create) {
        return far_fail(err, FAR_NOT_FOUND, "no file '%s'", name);
    }
    if (file != NULL && !file->exists) { /* made again after a removal that is not durable */
        version_cut(&file->now, 0);
        file->exists = true;
    }
    for (unsigned i = 0; file == NULL && i < FILES_MAX; i++) {
        if (!disk->files[i].used) {
            file = &disk->files[i];
            file->used = true;
            file->exists = true;
            snprintf(file->name, sizeof file->name, "%s", name);
        }
    }
    FAR_ASSERT(file != NULL);
    file->open_count++;
    *ret_file = file;
    return 0;
}

static void disk_close(struct far_disk *base, struct far_file *file)
{
    if (file != NULL && file->open_count > 0) {
        file->open_count--;
    }
}

static int disk_size(struct far_disk *base, struct far_file *file, uint64_t *ret_bytes, struct far_error *err)
{
    *ret_bytes = file->now.size;
    return 0;
}

static int disk_read(struct far_disk *base, struct far_file *file, uint64_t offset, void *data, size_t length,
                     struct far_error *err)
{
    int rc = 0;
    if (!check(of(base), false, err, &rc)) {
        return rc;
    }
    if (offset + length > file->now.size) {
        return far_fail(err, FAR_CORRUPT, "'%s' ends early", file->name);
    }
    uint64_t have = offset >= file->now.len ? 0 : file->now.len - offset;
    have = have > length ? length : have;
    if (have > 0) {
        memcpy(data, file->now.data + offset, have);
    }
    memset((uint8_t *)data + have, 0, length - have);
    return 0;
}

static void mark_dirty(struct far_file *file, uint64_t from, uint64_t to)
{
    if (file->dirty_count == file->dirty_cap) {
        file->dirty_cap = file->dirty_cap == 0 ? 8 : file->dirty_cap * 2;
        file->dirty = realloc(file->dirty, file->dirty_cap * sizeof *file->dirty);
        FAR_ASSERT(file->dirty != NULL);
    }
    file->dirty[file->dirty_count++] = (struct range){.from = from, .to = to};
}

static bool all_zero(const uint8_t *data, size_t length)
{
    return length == 0 || (data[0] == 0 && memcmp(data, data + 1, length - 1) == 0);
}

static void put(struct far_file *file, uint64_t offset, const void *data, size_t length)
{
    if (offset < file->now.len || !all_zero(data, length)) {
        version_reach(&file->now, offset + length);
        memcpy(file->now.data + offset, data, length);
    }
    file->now.size = offset + length > file->now.size ? offset + length : file->now.size;
    mark_dirty(file, offset, offset + length);
}

static int disk_write(struct far_disk *base, struct far_file *file, uint64_t offset, const void *data, size_t length,
                      struct far_error *err)
{
    int rc = 0;
    bool was_dead = of(base)->dead;
    if (!check(of(base), true, err, &rc)) {
        if (!was_dead) { /* the power goes in the middle of it */
            put(file, offset, data, length);
        }
        return rc;
    }
    if (of(base)->full && offset + length > file->now.size) {
        sim_count(of(base)->sim, SIM_COUNT_FULL);
        return far_fail(err, FAR_LIMIT, "write '%s': no space left on the simulated disk", file->name);
    }
    if (of(base)->astray && strstr(file->name, ".wal") != NULL && !all_zero(data, length)) {
        of(base)->astray = false;
        of(base)->went_astray = true;
        sim_count(of(base)->sim, of(base)->astray_lost ? SIM_COUNT_WRITE_LOST : SIM_COUNT_MISDIRECTED);
        if (of(base)->astray_lost) {
            return 0;
        }
        offset += SECTOR * (1 + sim_random(of(base)->sim, 8));
    }
    put(file, offset, data, length);
    return 0;
}

static int disk_truncate(struct far_disk *base, struct far_file *file, uint64_t bytes, struct far_error *err)
{
    int rc = 0;
    bool was_dead = of(base)->dead;
    check(of(base), true, err, &rc);
    if (!was_dead) {
        mark_dirty(file, bytes < file->now.size ? bytes : file->now.size, UINT64_MAX);
        version_cut(&file->now, bytes);
    }
    return rc;
}

static bool sync_is_broken(struct sim_disk *disk, const struct far_file *file)
{
    bool is_segment = strstr(file->name, ".wal") != NULL;
    enum sim_broken broken = disk->sim->options.broken;
    return ((broken == SIM_BROKEN_SYNC && is_segment) || (broken == SIM_BROKEN_VOTE && !is_segment)) &&
           sim_chance(disk->sim, 50);
}

static int disk_sync(struct far_disk *base, struct far_file *file, struct far_error *err)
{
    int rc = 0;
    if (!check(of(base), true, err, &rc)) {
        return rc;
    }
    if (sync_is_broken(of(base), file)) {
        return 0;
    }
    if (file->durable.size > file->now.size) {
        version_cut(&file->durable, file->now.size);
    }
    for (size_t i = 0; i < file->dirty_count; i++) {
        version_copy(&file->durable, &file->now, file->dirty[i].from, file->dirty[i].to);
    }
    file->durable.size = file->now.size;
    file->dirty_count = 0;
    return 0;
}

static int disk_remove(struct far_disk *base, const char *name, struct far_error *err)
{
    int rc = 0;
    if (!check(of(base), true, err, &rc)) {
        return rc;
    }
    struct far_file *file = find(of(base), name);
    if (file != NULL) {
        file->exists = false;
    }
    return 0;
}

static int disk_sync_dir(struct far_disk *base, struct far_error *err)
{
    int rc = 0;
    if (!check(of(base), true, err, &rc)) {
        return rc;
    }
    for (unsigned i = 0; i < FILES_MAX; i++) {
        struct far_file *file = &of(base)->files[i];
        file->exists_durable = file->exists;
        if (file->used && !file->exists && file->open_count == 0) {
            file_clear(file);
        }
    }
    return 0;
}

static int disk_list(struct far_disk *base, far_disk_name_fn each, void *arg, struct far_error *err)
{
    int rc = 0;
    if (!check(of(base), false, err, &rc)) {
        return rc;
    }
    for (unsigned i = 0; i < FILES_MAX; i++) {
        if (of(base)->files[i].used && of(base)->files[i].exists) {
            each(arg, of(base)->files[i].name);
        }
    }
    return 0;
}

static uint64_t disk_free_bytes(struct far_disk *base)
{
    return of(base)->full ? 0 : 1024ull * 1024 * 1024;
}

static const struct far_disk_ops disk_ops = {
    .open = disk_open,
    .close = disk_close,
    .size = disk_size,
    .read = disk_read,
    .write = disk_write,
    .truncate = disk_truncate,
    .sync = disk_sync,
    .remove = disk_remove,
    .sync_dir = disk_sync_dir,
    .list = disk_list,
    .free_bytes = disk_free_bytes,
};

struct sim_disk *sim_disk_new(struct sim *sim)
{
    struct sim_disk *disk = calloc(1, sizeof *disk);
    FAR_ASSERT(disk != NULL);
    disk->base.ops = &disk_ops;
    disk->sim = sim;
    return disk;
}

void sim_disk_free(struct sim_disk *disk)
{
    sim_disk_wipe(disk);
    free(disk);
}

struct far_disk *sim_disk_base(struct sim_disk *disk)
{
    return &disk->base;
}

void sim_disk_die(struct sim_disk *disk)
{
    disk->dead = true;
}

void sim_disk_die_after(struct sim_disk *disk, uint64_t operations)
{
    disk->die_after = operations;
}

bool sim_disk_dead(const struct sim_disk *disk)
{
    return disk->dead;
}

void sim_disk_set_full(struct sim_disk *disk, bool full)
{
    disk->full = full;
}

void sim_disk_go_astray(struct sim_disk *disk, bool lost)
{
    disk->astray = true;
    disk->went_astray = false;
    disk->astray_lost = lost;
}

bool sim_disk_torn(const struct sim_disk *disk)
{
    return disk->is_torn;
}

bool sim_disk_astray(const struct sim_disk *disk)
{
    return disk->went_astray;
}

void sim_disk_wipe(struct sim_disk *disk)
{
    for (unsigned i = 0; i < FILES_MAX; i++) {
        file_clear(&disk->files[i]);
    }
    disk->dead = disk->astray = disk->went_astray = false;
    disk->die_after = 0;
}

void sim_disk_copy(struct sim_disk *to, const struct sim_disk *from)
{
    sim_disk_wipe(to);
    for (unsigned i = 0; i < FILES_MAX; i++) {
        const struct far_file *file = &from->files[i];
        if (!file->used || !file->exists_durable) {
            continue;
        }
        to->files[i].used = to->files[i].exists = to->files[i].exists_durable = true;
        memcpy(to->files[i].name, file->name, sizeof file->name);
        version_assign(&to->files[i].now, &file->durable);
        version_assign(&to->files[i].durable, &file->durable);
    }
}

/* percent: how much of what was not synced gets through by luck. */
static void crash_file(struct sim_disk *disk, struct far_file *file, unsigned percent)
{
    struct sim *sim = disk->sim;
    for (size_t i = 0; i < file->dirty_count; i++) {
        struct range *range = &file->dirty[i];
        if (range->to == UINT64_MAX) { /* a truncation: as a whole */
            bool is_done = sim_chance(sim, percent);
            if (file->durable.size > range->from && is_done) {
                version_cut(&file->durable, range->from);
            } else if (file->durable.size > range->from) {
                sim_count(sim, SIM_COUNT_UNTRUNCATED);
            }
            continue;
        }
        unsigned kept = 0, lost = 0;
        for (uint64_t at = range->from; at < range->to;) {
            uint64_t to = (at / SECTOR + 1) * SECTOR;
            to = to > range->to ? range->to : to;
            if (at >= file->now.len && at >= file->durable.len) { /* the rest are zeros: one draw for all */
                to = range->to;
            }
            bool is_kept = sim_chance(sim, percent);
            if (is_kept) {
                version_copy(&file->durable, &file->now, at, to);
            }
            kept += is_kept;
            lost += !is_kept;
            at = to;
        }
        sim->counts.of[kept > 0 ? SIM_COUNT_TORN : SIM_COUNT_UNWRITTEN] += lost > 0;
        disk->is_torn = disk->is_torn || (kept > 0 && lost > 0);
    }
    if (file->exists != file->exists_durable && sim_chance(sim, percent)) {
        file->exists_durable = file->exists;
    }
    sim->counts.of[SIM_COUNT_NAME_LOST] += file->exists != file->exists_durable;
}

void sim_disk_crash(struct sim_disk *disk, bool power_cut)
{
    static const unsigned luck[] = {0, 30, 70, 95, 100};
    unsigned percent = luck[sim_random(disk->sim, 5)];
    disk->is_torn = false;
    for (unsigned i = 0; i < FILES_MAX; i++) {
        struct far_file *file = &disk->files[i];
        if (!file->used) {
            continue;
        }
        file->open_count = 0;
        if (!power_cut) {
            continue;
        }
        crash_file(disk, file, percent);
        if (!file->exists_durable) {
            file_clear(file);
            continue;
        }
        file->exists = true;
        file->dirty_count = 0;
        version_assign(&file->now, &file->durable);
    }
    disk->dead = disk->astray = disk->went_astray = false;
    disk->die_after = 0;
}

/* A byte in the first two thirds of the records of the oldest segment, where something valid is behind it. */
bool sim_disk_flip(struct sim_disk *disk)
{
    for (unsigned i = 0; i < FILES_MAX; i++) {
        struct far_file *file = &disk->files[i];
        if (!file->used || !file->exists || strstr(file->name, ".wal") == NULL || file->now.len < 2048) {
            continue;
        }
        uint64_t at = 64 + sim_random(disk->sim, file->now.len / 2 - 64);
        uint8_t bit = (uint8_t)(1u << sim_random(disk->sim, 8));
        file->now.data[at] ^= bit;
        if (at < file->durable.len) {
            file->durable.data[at] = file->now.data[at];
        }
        return true;
    }
    return false;
}
