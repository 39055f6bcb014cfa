/* Locks of points: a small file each, beside the manifest; see vault_lock.h. */
#include "dataplane/vault_lock.h"

#include "dataplane/remote.h"
#include "dataplane/vault_private.h"

#include "base/date.h"
#include "base/file.h"
#include "base/hash.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LOCK_BYTES = 48, VERSION = 1 };
static const char magic[8] = "FARLOCK";

static void path_of(const struct far_vault *vault, uint64_t point_id, char *path, size_t len)
{
    snprintf(path, len, "%s/points/%" PRIu64 ".lock", vault->dir, point_id);
}

static int decode(struct far_slice bytes, uint64_t point_id, const char *path, uint64_t *ret_until_ms, struct far_error *err)
{
    const uint8_t *b = bytes.data;
    bool fits = bytes.len == LOCK_BYTES && memcmp(b, magic, sizeof magic) == 0 && far_get_le32(b + 8) == VERSION &&
                far_get_le64(b + 40) == far_hash64(b, 40) && far_get_le64(b + 16) == point_id;
    *ret_until_ms = fits ? far_get_le64(b + 24) : 0;
    return fits ? 0
                : far_fail(err, FAR_CORRUPT, "the lock '%s' is damaged: point %" PRIu64 " stays until it is locked anew", path, point_id);
}

int far_vault_lock_until(struct far_vault *vault, uint64_t point_id, uint64_t *ret_until_ms, struct far_error *err)
{
    char path[FAR_DIR_MAX + 64];
    struct far_buf buf;
    path_of(vault, point_id, path, sizeof path);
    far_buf_init(&buf, 4096);
    *ret_until_ms = 0;
    int rc = far_file_read(path, &buf, err);
    rc = rc == 0 ? decode(far_buf_slice(&buf), point_id, path, ret_until_ms, err) : rc == FAR_NOT_FOUND ? 0 : rc;
    far_buf_done(&buf);
    return rc;
}

int far_vault_lock(struct far_vault *vault, uint64_t point_id, uint64_t until_ms, struct far_error *err)
{
    char path[FAR_DIR_MAX + 64];
    uint8_t bytes[LOCK_BYTES] = {0};
    uint64_t present_ms = 0;
    struct far_vault_time time;
    int rc = far_vault_check_writable(vault, err);
    rc = rc != 0 ? rc : far_vault_lock_until(vault, point_id, &present_ms, err);
    if ((rc != 0 && rc != FAR_CORRUPT) || (rc == 0 && present_ms >= until_ms)) {
        return rc == 0 ? far_remote_lock(vault, point_id, present_ms, err) : rc; /* it may not have come so far */
    }
    rc = far_vault_time(vault, &time, err);
    if (rc != 0) {
        return rc;
    }
    memcpy(bytes, magic, sizeof magic);
    far_put_le32(bytes + 8, VERSION);
    far_put_le64(bytes + 16, point_id);
    far_put_le64(bytes + 24, until_ms);
    far_put_le64(bytes + 32, time.time_ms);
    far_put_le64(bytes + 40, far_hash64(bytes, 40));
    path_of(vault, point_id, path, sizeof path);
    rc = far_file_replace(path, bytes, sizeof bytes, 0600, err);
    return rc == 0 ? far_remote_lock(vault, point_id, until_ms, err) : rc;
}

int far_vault_lock_check(struct far_vault *vault, uint64_t point_id, struct far_error *err)
{
    char until[FAR_DATE_MAX], now[FAR_DATE_MAX];
    struct far_vault_time time;
    uint64_t until_ms;
    int rc = far_vault_lock_until(vault, point_id, &until_ms, err);
    rc = rc != 0 || until_ms == 0 ? rc : far_vault_time(vault, &time, err);
    if (rc != 0 || until_ms == 0 || time.time_ms >= until_ms) {
        return rc;
    }
    return far_fail(err, FAR_DENIED, "point %" PRIu64 " is locked until %s, and by the clock of the vault it is %s%s", point_id,
                    far_date_text(until_ms, until), far_date_text(time.time_ms, now),
                    time.is_trusted ? "" : "; the machine's clock jumped and is not believed ('farshore-node vault confirm-time')");
}

struct domain_check {
    struct far_vault *vault;
    const uint8_t *uuid;
    struct far_manifest *manifest;
};

static int check_one(void *arg, uint64_t point_id, struct far_error *err)
{
    struct domain_check *check = arg;
    struct far_error ignored;
    int rc = far_vault_lock_check(check->vault, point_id, err);
    if (rc == 0) {
        return 0;
    }
    int found = far_vault_manifest_read(check->vault, point_id, check->manifest, &ignored);
    bool is_other = found == 0 && memcmp(check->manifest->domain_uuid, check->uuid, 16) != 0;
    return is_other || found == FAR_NOT_FOUND ? 0 : rc;
}

int far_vault_lock_check_domain(struct far_vault *vault, const uint8_t uuid[16], struct far_error *err)
{
    char points[FAR_DIR_MAX + 16];
    struct domain_check check = {.vault = vault, .uuid = uuid, .manifest = malloc(sizeof *check.manifest)};
    if (check.manifest == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to read a manifest");
    }
    snprintf(points, sizeof points, "%s/points", vault->dir);
    int rc = far_vault_each_number(points, ".lock", check_one, &check, err);
    free(check.manifest);
    return rc;
}

int far_vault_lock_drop(struct far_vault *vault, uint64_t point_id, struct far_error *err)
{
    char path[FAR_DIR_MAX + 64];
    path_of(vault, point_id, path, sizeof path);
    return unlink(path) == 0 || errno == ENOENT ? 0 : far_fail_errno(err, FAR_IO, errno, "remove '%s'", path);
}
