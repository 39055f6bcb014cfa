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
#define LOCK_MS_MAX (3660ull * 86400000) /* no lock of the log's is longer */
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

/* A lock that is damaged: at least until then, as far as its date can be. FAR_CORRUPT: it has none any more. */
static int damaged_until(struct far_vault *vault, uint64_t point_id, uint64_t now_ms, uint64_t *ret_until_ms, struct far_error *err)
{
    char path[FAR_DIR_MAX + 64];
    struct far_buf buf;
    path_of(vault, point_id, path, sizeof path);
    far_buf_init(&buf, 4096);
    int rc = far_file_read(path, &buf, err);
    if (rc == 0 && buf.len != LOCK_BYTES) {
        rc = far_fail(err, FAR_CORRUPT,
                      "the lock '%s' is damaged, and until when it holds cannot be told: the point stays until somebody removes that file",
                      path);
    }
    uint64_t said_ms = rc == 0 ? far_get_le64(buf.data + 24) : 0;
    *ret_until_ms = said_ms < now_ms + LOCK_MS_MAX ? said_ms : now_ms + LOCK_MS_MAX;
    far_buf_done(&buf);
    return rc;
}

static int refuse_forgotten(const struct far_vault *vault, uint64_t point_id, struct far_error *err)
{
    char path[FAR_DIR_MAX + 64];
    snprintf(path, sizeof path, "%s/points/%" PRIu64 FAR_FORGOTTEN, vault->dir, point_id);
    return access(path, F_OK) != 0 ? 0 : far_fail(err, FAR_CONFLICT, "point %" PRIu64 " was forgotten: it cannot be locked", point_id);
}

/* seal_lock is held. *ret_until_ms: until when it is locked now, which may be later than was asked for. */
static int set_lock(struct far_vault *vault, uint64_t point_id, uint64_t until_ms, uint64_t *ret_until_ms, struct far_error *err)
{
    char path[FAR_DIR_MAX + 64];
    uint8_t bytes[LOCK_BYTES] = {0};
    uint64_t present_ms = 0;
    struct far_vault_time time;
    int read = far_vault_lock_until(vault, point_id, &present_ms, err);
    *ret_until_ms = present_ms;
    if ((read != 0 && read != FAR_CORRUPT) || (read == 0 && present_ms >= until_ms)) {
        return read;
    }
    int rc = refuse_forgotten(vault, point_id, err);
    rc = rc == 0 ? far_vault_time(vault, &time, err) : rc;
    rc = rc == 0 && read == FAR_CORRUPT ? damaged_until(vault, point_id, time.time_ms, &present_ms, err) : rc;
    if (rc != 0) {
        return rc;
    }
    *ret_until_ms = until_ms > present_ms ? until_ms : present_ms;
    memcpy(bytes, magic, sizeof magic);
    far_put_le32(bytes + 8, VERSION);
    far_put_le64(bytes + 16, point_id);
    far_put_le64(bytes + 24, *ret_until_ms);
    far_put_le64(bytes + 32, time.time_ms);
    far_put_le64(bytes + 40, far_hash64(bytes, 40));
    path_of(vault, point_id, path, sizeof path);
    return far_file_replace(path, bytes, sizeof bytes, 0600, err);
}

int far_vault_lock(struct far_vault *vault, uint64_t point_id, uint64_t until_ms, struct far_error *err)
{
    uint64_t locked_ms = 0;
    int rc = far_vault_check_writable(vault, err);
    rc = rc == 0 ? far_remote_check_current(vault, err) : rc; /* an older copy may know an earlier date */
    if (rc == 0) {
        pthread_mutex_lock(&vault->reclaim.seal_lock);
        rc = set_lock(vault, point_id, until_ms, &locked_ms, err);
        pthread_mutex_unlock(&vault->reclaim.seal_lock);
    }
    return rc == 0 ? far_remote_lock(vault, point_id, locked_ms, err) : rc; /* also what did not come so far before */
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
