/* The small file of a replica: replicas/<disk id>.replica, one block of bytes replaced as a whole at each checkpoint.
 * See vault_private.h; bytes in docs/FORMATS.md. */
#include "dataplane/vault_private.h"

#include "base/file.h"
#include "base/hash.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { VERSION = 0, VERSION_KEYED = 1, SUM_AT = FAR_REPLICA_FILE_BYTES - 8, REF_AT = 160, REF_MAX = 128 };
static const char magic[8] = "FARREPL0";

void far_replica_file_encode(const struct far_replica_file *file, uint8_t ret_bytes[FAR_REPLICA_FILE_BYTES])
{
    memset(ret_bytes, 0, FAR_REPLICA_FILE_BYTES);
    memcpy(ret_bytes, magic, 8);
    far_put_le32(ret_bytes + 8, file->domain != 0 ? VERSION_KEYED : VERSION);
    far_put_le64(ret_bytes + 16, file->disk_id);
    far_put_le64(ret_bytes + 24, file->fence.incarnation_epoch);
    far_put_le64(ret_bytes + 32, file->fence.plan_epoch);
    far_put_le64(ret_bytes + 40, file->fence.job);
    far_put_le64(ret_bytes + 48, file->fence.attempt);
    far_put_le64(ret_bytes + 56, file->size_bytes);
    memcpy(ret_bytes + 64, file->top.bytes, 32);
    far_put_le64(ret_bytes + 96, file->job);
    far_put_le64(ret_bytes + 104, file->frontier_blocks);
    far_put_le64(ret_bytes + 112, file->durable.pack);
    far_put_le64(ret_bytes + 120, file->durable.offset);
    far_put_le16(ret_bytes + 128, file->domain);
    memcpy(ret_bytes + REF_AT, file->freeze_ref, strnlen(file->freeze_ref, REF_MAX));
    far_put_le64(ret_bytes + SUM_AT, far_hash64(ret_bytes, SUM_AT));
}

int far_replica_file_decode(struct far_slice bytes, struct far_replica_file *ret_file, struct far_error *err)
{
    if (bytes.len != FAR_REPLICA_FILE_BYTES || memcmp(bytes.data, magic, 8) != 0) {
        return far_fail(err, FAR_CORRUPT, "not the file of a replica");
    }
    if (far_get_le64(bytes.data + SUM_AT) != far_hash64(bytes.data, SUM_AT)) {
        return far_fail(err, FAR_CORRUPT, "its checksum is wrong");
    }
    uint32_t version = far_get_le32(bytes.data + 8);
    if (version > VERSION_KEYED) {
        return far_fail(err, FAR_CORRUPT, "version %u, this program knows %d", version, VERSION_KEYED);
    }
    struct far_replica_file file = {
        .disk_id = far_get_le64(bytes.data + 16),
        .fence.incarnation_epoch = far_get_le64(bytes.data + 24),
        .fence.plan_epoch = far_get_le64(bytes.data + 32),
        .fence.job = far_get_le64(bytes.data + 40),
        .fence.attempt = far_get_le64(bytes.data + 48),
        .domain = version == VERSION ? 0 : far_get_le16(bytes.data + 128),
        .size_bytes = far_get_le64(bytes.data + 56),
        .job = far_get_le64(bytes.data + 96),
        .frontier_blocks = far_get_le64(bytes.data + 104),
        .durable.pack = (uint32_t)far_get_le64(bytes.data + 112),
        .durable.offset = far_get_le64(bytes.data + 120),
    };
    if (file.size_bytes == 0 || file.size_bytes > FAR_DISK_BYTES_MAX) {
        return far_fail(err, FAR_CORRUPT, "an impossible disk size");
    }
    memcpy(file.top.bytes, bytes.data + 64, 32);
    memcpy(file.freeze_ref, bytes.data + REF_AT, REF_MAX);
    *ret_file = file;
    return 0;
}

static void path_of(const struct far_vault *vault, uint64_t disk_id, char *path, size_t len)
{
    snprintf(path, len, "%s/replicas/%" PRIu64 ".replica", vault->dir, disk_id);
}

int far_replica_file_read(const struct far_vault *vault, uint64_t disk_id, struct far_replica_file *ret_file,
                          struct far_error *err)
{
    char path[4096];
    struct far_buf buf;
    path_of(vault, disk_id, path, sizeof path);
    far_buf_init(&buf, FAR_REPLICA_FILE_BYTES);
    int rc = far_file_read(path, &buf, err);
    if (rc == FAR_LIMIT) {
        rc = FAR_CORRUPT;
    }
    if (rc == 0) {
        rc = far_replica_file_decode(far_buf_slice(&buf), ret_file, err);
        if (rc == 0 && ret_file->disk_id != disk_id) {
            rc = far_fail(err, FAR_CORRUPT, "it belongs to another disk");
        }
        if (rc != 0) {
            far_error_context(err, "replica '%s'", path);
        }
    }
    far_buf_done(&buf);
    return rc;
}

int far_replica_file_write(const struct far_vault *vault, const struct far_replica_file *file, struct far_error *err)
{
    char path[4096];
    uint8_t bytes[FAR_REPLICA_FILE_BYTES];
    path_of(vault, file->disk_id, path, sizeof path);
    far_replica_file_encode(file, bytes);
    return far_file_replace(path, bytes, sizeof bytes, 0600, err);
}

/* ---- numbered files ---- */

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* "00000007.pack" with ".pack" → 7; false for anything else. */
static bool parse_number(const char *name, const char *suffix, uint64_t *ret_number)
{
    char *end = NULL;
    if (name[0] < '0' || name[0] > '9') {
        return false;
    }
    errno = 0;
    *ret_number = strtoull(name, &end, 10);
    return errno == 0 && strcmp(end, suffix) == 0;
}

static int list_numbers(const char *dir, const char *suffix, struct far_buf *numbers, struct far_error *err)
{
    DIR *folder = opendir(dir);
    if (folder == NULL) {
        return far_fail_errno(err, FAR_IO, errno, "open folder '%s'", dir);
    }
    int rc = 0;
    struct dirent *entry;
    while (rc == 0 && (entry = readdir(folder)) != NULL) {
        uint64_t number;
        if (parse_number(entry->d_name, suffix, &number)) {
            rc = far_buf_append(numbers, &number, sizeof number);
        }
    }
    closedir(folder);
    return rc == 0 ? 0 : far_fail(err, FAR_LIMIT, "too many files in '%s'", dir);
}

int far_vault_each_number(const char *dir, const char *suffix,
                          int (*each)(void *arg, uint64_t number, struct far_error *err), void *arg,
                          struct far_error *err)
{
    enum { FILES_MAX = 4 << 20 };
    struct far_buf numbers;
    far_buf_init(&numbers, (size_t)FILES_MAX * sizeof(uint64_t));
    int rc = list_numbers(dir, suffix, &numbers, err);
    if (rc == 0 && numbers.len > 0) {
        qsort(numbers.data, numbers.len / sizeof(uint64_t), sizeof(uint64_t), compare_numbers);
    }
    for (size_t at = 0; rc == 0 && at < numbers.len; at += sizeof(uint64_t)) {
        uint64_t number;
        memcpy(&number, numbers.data + at, sizeof number);
        rc = each(arg, number, err);
    }
    far_buf_done(&numbers);
    return rc;
}
