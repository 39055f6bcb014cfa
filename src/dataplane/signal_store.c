/* The files of the signal: see signal_store.h. */
#include "dataplane/signal_store.h"

#include "base/file.h"
#include "base/hash.h"
#include "dataplane/vault_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { VERSION = 0, HEAD_BYTES = 24, DISK_BYTES = 16, INCREMENT_BYTES = 16, VALUES_MAX = 256, BEFORE_MAX = 4096 };
static const char magic[8] = "FARSIGN0";

/* ---- bytes ---- */

/* Seven bits a byte, the lowest first; most values are small. */
static int put_number(struct far_buf *buf, uint64_t value)
{
    uint8_t bytes[10];
    size_t len = 0;
    do {
        bytes[len] = (uint8_t)(value & 0x7f) | (value > 0x7f ? 0x80 : 0);
        value >>= 7;
        len++;
    } while (value != 0);
    return far_buf_append(buf, bytes, len);
}

static bool get_number(struct far_slice *rest, uint64_t *ret)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && rest->len > 0; shift += 7) {
        uint8_t byte = rest->data[0];
        *rest = far_slice(rest->data + 1, rest->len - 1);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret = value;
            return true;
        }
    }
    return false;
}

static int encode_increment(const struct far_signal_features *features, uint64_t since, struct far_buf *buf)
{
    uint8_t bytes[INCREMENT_BYTES];
    far_put_le64(bytes, since);
    far_put_le32(bytes + 8, features->version);
    far_put_le32(bytes + 12, FAR_SIGNAL_FEATURE_COUNT);
    int rc = far_buf_append(buf, bytes, sizeof bytes);
    for (size_t i = 0; rc == 0 && i < FAR_SIGNAL_FEATURE_COUNT; i++) {
        rc = put_number(buf, features->values[i]);
    }
    return rc;
}

int far_signal_encode(const struct far_signal_point *point, struct far_buf *buf, struct far_error *err)
{
    uint8_t bytes[HEAD_BYTES];
    memcpy(bytes, magic, 8);
    far_put_le32(bytes + 8, VERSION);
    far_put_le32(bytes + 12, point->disk_count);
    far_put_le64(bytes + 16, point->point_id);
    int rc = far_buf_append(buf, bytes, HEAD_BYTES);
    for (uint32_t i = 0; rc == 0 && i < point->disk_count; i++) {
        const struct far_signal_disk *disk = &point->disks[i];
        uint32_t count = disk->since_point != 0 ? 1 + disk->history_count : 0;
        far_put_le64(bytes, disk->disk_id);
        far_put_le32(bytes + 8, count);
        far_put_le32(bytes + 12, 0);
        rc = far_buf_append(buf, bytes, DISK_BYTES);
        for (uint32_t k = 0; rc == 0 && k < count; k++) {
            rc = k == 0 ? encode_increment(&disk->features, disk->since_point, buf)
                        : encode_increment(&disk->history[k - 1], disk->history_since[k - 1], buf);
        }
    }
    far_put_le64(bytes, far_hash64(buf->data, buf->len));
    rc = rc == 0 ? far_buf_append(buf, bytes, 8) : rc;
    return rc == 0 ? 0 : far_fail(err, FAR_LIMIT, "no room for the signal of a point");
}

static bool decode_increment(struct far_slice *rest, struct far_signal_features *ret, uint64_t *ret_since)
{
    if (rest->len < INCREMENT_BYTES) {
        return false;
    }
    uint32_t count = far_get_le32(rest->data + 12);
    *ret_since = far_get_le64(rest->data);
    bool good = count <= VALUES_MAX && *ret_since != 0;
    *ret = (struct far_signal_features){.version = far_get_le32(rest->data + 8)};
    *rest = far_slice(rest->data + INCREMENT_BYTES, rest->len - INCREMENT_BYTES);
    for (uint32_t i = 0; good && i < count; i++) {
        uint64_t value = 0;
        good = get_number(rest, &value);
        if (i < FAR_SIGNAL_FEATURE_COUNT) {
            ret->values[i] = value;
        }
    }
    return good;
}

static bool decode_disk(struct far_slice *rest, struct far_signal_disk *ret)
{
    if (rest->len < DISK_BYTES) {
        return false;
    }
    uint32_t count = far_get_le32(rest->data + 8);
    memset(ret, 0, sizeof *ret);
    ret->disk_id = far_get_le64(rest->data);
    ret->history_count = count > 0 ? count - 1 : 0;
    *rest = far_slice(rest->data + DISK_BYTES, rest->len - DISK_BYTES);
    bool good = count <= 1 + FAR_SIGNAL_HISTORY_MAX;
    for (uint32_t k = 0; good && k < count; k++) {
        good = k == 0 ? decode_increment(rest, &ret->features, &ret->since_point)
                      : decode_increment(rest, &ret->history[k - 1], &ret->history_since[k - 1]);
    }
    return good;
}

int far_signal_decode(struct far_slice file, struct far_signal_point *ret_point, struct far_error *err)
{
    if (file.len < HEAD_BYTES + 8 || memcmp(file.data, magic, 8) != 0) {
        return far_fail(err, FAR_CORRUPT, "not the signal of a point");
    }
    if (far_get_le64(file.data + file.len - 8) != far_hash64(file.data, file.len - 8)) {
        return far_fail(err, FAR_CORRUPT, "its checksum is wrong");
    }
    if (far_get_le32(file.data + 8) != VERSION) {
        return far_fail(err, FAR_CORRUPT, "version %u, this program knows %d", far_get_le32(file.data + 8), VERSION);
    }
    struct far_slice rest = far_slice(file.data + HEAD_BYTES, file.len - HEAD_BYTES - 8);
    uint32_t count = far_get_le32(file.data + 12);
    bool good = count >= 1 && count <= FAR_MANIFEST_DISKS_MAX;
    for (uint32_t i = 0; good && i < count; i++) {
        good = decode_disk(&rest, &ret_point->disks[i]);
    }
    if (!good || rest.len != 0) {
        return far_fail(err, FAR_CORRUPT, "its lengths are wrong");
    }
    ret_point->point_id = far_get_le64(file.data + 16);
    ret_point->disk_count = count;
    return 0;
}

/* ---- files ---- */

static void path_of(const struct far_vault *vault, uint64_t point_id, char *path, size_t len)
{
    snprintf(path, len, "%s/signals/%" PRIu64 ".signal", vault->dir, point_id);
}

int far_signal_load(struct far_vault *vault, uint64_t point_id, struct far_signal_point *ret_point, struct far_error *err)
{
    char path[4096];
    struct far_buf buf;
    path_of(vault, point_id, path, sizeof path);
    far_buf_init(&buf, FAR_SIGNAL_FILE_BYTES_MAX);
    int rc = far_file_read(path, &buf, err);
    if (rc == FAR_NOT_FOUND) {
        far_fail(err, rc, "vault '%s' has no signal of point %" PRIu64, vault->dir, point_id);
    } else if (rc == FAR_LIMIT) {
        rc = far_fail(err, FAR_CORRUPT, "'%s' is too long", path);
    } else if (rc == 0) {
        rc = far_signal_decode(far_buf_slice(&buf), ret_point, err);
        rc = rc == 0 && ret_point->point_id != point_id ? far_fail(err, FAR_CORRUPT, "it is of another point") : rc;
        if (rc != 0) {
            far_error_context(err, "'%.300s'", path);
        }
    }
    far_buf_done(&buf);
    return rc;
}

static int keep(struct far_vault *vault, const struct far_signal_point *point, struct far_error *err)
{
    char path[4096];
    struct far_buf buf;
    snprintf(path, sizeof path, "%s/signals", vault->dir);
    if (mkdir(path, 0700) != 0 && errno != EEXIST) { /* a vault of v0.1.0 has none */
        return far_fail_errno(err, FAR_IO, errno, "make folder '%s'", path);
    }
    far_buf_init(&buf, FAR_SIGNAL_FILE_BYTES_MAX);
    int rc = far_signal_encode(point, &buf, err);
    if (rc == 0) {
        path_of(vault, point->point_id, path, sizeof path);
        rc = far_file_replace(path, buf.data, buf.len, 0600, err);
    }
    far_buf_done(&buf);
    return rc;
}

/* ---- the points before ---- */

struct before {
    uint64_t below;          /* points with smaller numbers */
    uint64_t ids[BEFORE_MAX]; /* the last of them, as a ring */
    uint64_t count;
};

static int note_point(void *arg, uint64_t number, struct far_error *err)
{
    struct before *before = arg;
    (void)err;
    if (number < before->below) {
        before->ids[before->count++ % BEFORE_MAX] = number;
    }
    return 0;
}

static bool has_disk(const struct far_manifest *manifest, uint64_t disk_id, uint32_t *ret_at)
{
    for (uint32_t i = 0; i < manifest->disk_count; i++) {
        if (manifest->disks[i].disk_id == disk_id) {
            *ret_at = i;
            return true;
        }
    }
    return false;
}

struct making {
    struct far_vault *vault;
    struct far_manifest *manifest, *older;
    struct far_signal_point *point, *point_before;
    uint32_t left; /* disks whose point before is not found yet */
    bool (*stop)(void *arg);
    void *arg;
};

/* What is kept of the point before becomes the history. */
static void take_history(struct making *making, struct far_signal_disk *disk)
{
    if (far_signal_load(making->vault, disk->since_point, making->point_before, NULL) != 0) {
        return;
    }
    for (uint32_t i = 0; i < making->point_before->disk_count; i++) {
        const struct far_signal_disk *before = &making->point_before->disks[i];
        if (before->disk_id == disk->disk_id && before->since_point != 0) {
            uint32_t rest = before->history_count < FAR_SIGNAL_HISTORY_MAX ? before->history_count : FAR_SIGNAL_HISTORY_MAX - 1;
            disk->history[0] = before->features;
            disk->history_since[0] = before->since_point;
            memcpy(disk->history + 1, before->history, rest * sizeof before->history[0]);
            memcpy(disk->history_since + 1, before->history_since, rest * sizeof before->history_since[0]);
            disk->history_count = 1 + rest;
        }
    }
}

static int compute(struct making *making, uint32_t at, uint32_t older_at, struct far_error *err)
{
    struct far_signal_disk *disk = &making->point->disks[at];
    struct far_signal_request request = {.known_before_pack = making->older->pack,
                                         .known_before_offset = making->older->pack_offset,
                                         .stop = making->stop,
                                         .arg = making->arg};
    const struct far_manifest *older = making->older, *newer = making->manifest;
    int rc = far_point_open_disk(making->vault, older->point_id, older->disks[older_at].name, &request.before, err);
    rc = rc == 0 ? far_point_open_disk(making->vault, newer->point_id, newer->disks[at].name, &request.after, err) : rc;
    rc = rc == 0 ? far_signal_compute(making->vault, &request, &disk->features, err) : rc;
    if (rc == 0) {
        disk->since_point = making->older->point_id;
        take_history(making, disk);
    }
    far_point_close(request.before);
    far_point_close(request.after);
    return rc;
}

/* Newest first, until each disk has its point before. */
static int look_back(struct making *making, const struct before *before, struct far_error *err)
{
    uint64_t kept = before->count < BEFORE_MAX ? before->count : BEFORE_MAX;
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < kept && making->left > 0; i++) {
        uint64_t id = before->ids[(before->count - 1 - i) % BEFORE_MAX];
        if (making->stop != NULL && making->stop(making->arg)) {
            return far_fail(err, FAR_CANCELED, "the signal was canceled");
        }
        if (far_vault_point(making->vault, id, making->older, NULL) != 0 ||
            making->older->workload_id != making->manifest->workload_id) {
            continue; /* damaged, or gone meanwhile: the one before it serves */
        }
        for (uint32_t at = 0; rc == 0 && at < making->manifest->disk_count; at++) {
            uint32_t older_at;
            if (making->point->disks[at].since_point == 0 && has_disk(making->older, making->manifest->disks[at].disk_id, &older_at)) {
                rc = compute(making, at, older_at, err);
                making->left--;
            }
        }
    }
    return rc;
}

static int make_anew(struct making *making, uint64_t point_id, struct far_error *err)
{
    char dir[4096];
    struct before *before = calloc(1, sizeof *before);
    if (before == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the signal");
    }
    before->below = point_id;
    int rc = far_vault_point(making->vault, point_id, making->manifest, err);
    if (rc == 0) {
        memset(making->point, 0, sizeof *making->point);
        making->point->point_id = point_id;
        making->point->disk_count = making->left = making->manifest->disk_count;
        for (uint32_t i = 0; i < making->left; i++) {
            making->point->disks[i].disk_id = making->manifest->disks[i].disk_id;
        }
        snprintf(dir, sizeof dir, "%s/points", making->vault->dir);
        rc = far_vault_each_number(dir, ".manifest", note_point, before, err);
    }
    rc = rc == 0 ? look_back(making, before, err) : rc;
    free(before);
    return rc;
}

static bool is_current(const struct far_signal_point *point)
{
    bool current = true;
    for (uint32_t i = 0; i < point->disk_count; i++) {
        const struct far_signal_disk *disk = &point->disks[i];
        current = current && (disk->since_point == 0 || disk->features.version >= FAR_SIGNAL_FEATURES_VERSION);
    }
    return current;
}

int far_signal_make(struct far_vault *vault, uint64_t point_id, bool (*stop)(void *arg), void *arg,
                    struct far_signal_point *ret_point, struct far_error *err)
{
    struct far_signal_point *point = malloc(2 * sizeof *point);
    struct far_manifest *manifests = malloc(2 * sizeof *manifests);
    struct making making = {.vault = vault, .point = point, .manifest = manifests, .stop = stop, .arg = arg};
    int rc = point != NULL && manifests != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory for the signal");
    if (rc == 0 && (far_signal_load(vault, point_id, point, NULL) != 0 || !is_current(point))) {
        making.older = manifests + 1;
        making.point_before = point + 1;
        rc = make_anew(&making, point_id, err);
        rc = rc == 0 && !vault->read_only ? keep(vault, point, err) : rc;
    }
    if (rc == 0) {
        *ret_point = *point;
    }
    free(manifests);
    free(point);
    return rc;
}

void far_signal_judge(const struct far_signal_disk *disk, struct far_signal_score *ret_score)
{
    *ret_score = (struct far_signal_score){0};
    if (disk->since_point != 0) {
        far_signal_detect(&disk->features, disk->history, disk->history_count, ret_score);
    }
}

uint64_t far_signal_calm_point(const struct far_signal_disk *disk, const struct far_signal_score *score)
{
    if (score->rising == 0 || score->rising > disk->history_count + 1) {
        return 0;
    }
    return score->rising == 1 ? disk->since_point : disk->history_since[score->rising - 2];
}
