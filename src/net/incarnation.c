/* The incarnation: see incarnation.h. */
#include "net/incarnation.h"

#include "base/file.h"
#include "base/hash.h"

#include <stdio.h>

enum { VERSION = 0, CHECK_AT = FAR_INCARNATION_BYTES - 8, PATH_BYTES = 4096 };
static const char magic[8] = {'F', 'A', 'R', 'I', 'N', 'C', 'A', '0'};

struct far_incarnation_id far_incarnation_id(const struct far_incarnation *incarnation)
{
    return (struct far_incarnation_id){.epoch = incarnation->epoch, .tag = far_get_le64(incarnation->uuid)};
}

void far_incarnation_encode(const struct far_incarnation *in, uint8_t bytes[FAR_INCARNATION_BYTES])
{
    memcpy(bytes, magic, sizeof magic);
    far_put_le32(bytes + 8, VERSION);
    far_put_le32(bytes + 12, (uint32_t)in->reason);
    memcpy(bytes + 16, in->cluster_uuid, 16);
    memcpy(bytes + 32, in->uuid, 16);
    far_put_le64(bytes + 48, in->epoch);
    far_put_le64(bytes + 56, in->start_term);
    far_put_le64(bytes + 64, in->server_id);
    far_put_le64(bytes + 72, in->made_ms);
    far_put_le64(bytes + 80, in->parent_index);
    far_put_le64(bytes + 88, in->parent_term);
    far_put_le64(bytes + 96, in->parent_seq);
    memcpy(bytes + 104, in->parent_head, 32);
    far_put_le64(bytes + 136, in->sure_seq);
    memcpy(bytes + 144, in->sure_head, 32);
    far_put_le64(bytes + CHECK_AT, far_hash64(bytes, CHECK_AT));
}

int far_incarnation_decode(struct far_slice bytes, struct far_incarnation *ret, struct far_error *err)
{
    const uint8_t *p = bytes.data;
    if (bytes.len != FAR_INCARNATION_BYTES || memcmp(p, magic, sizeof magic) != 0 ||
        far_get_le64(p + CHECK_AT) != far_hash64(p, CHECK_AT)) {
        return far_fail(err, FAR_CORRUPT, "the incarnation is not what was written");
    }
    uint32_t reason = far_get_le32(p + 12);
    if (far_get_le32(p + 8) != VERSION || reason < FAR_INCARNATION_QUORUM_LOST || reason > FAR_INCARNATION_FOLLOWED ||
        far_get_le64(p + 48) == 0) {
        return far_fail(err, FAR_INVALID, "the incarnation has format %u; this version of Farshore knows %d",
                        (unsigned)far_get_le32(p + 8), (int)VERSION);
    }
    *ret = (struct far_incarnation){.reason = (enum far_incarnation_cause)reason,
                                    .epoch = far_get_le64(p + 48),
                                    .start_term = far_get_le64(p + 56),
                                    .server_id = far_get_le64(p + 64),
                                    .made_ms = far_get_le64(p + 72),
                                    .parent_index = far_get_le64(p + 80),
                                    .parent_term = far_get_le64(p + 88),
                                    .parent_seq = far_get_le64(p + 96),
                                    .sure_seq = far_get_le64(p + 136)};
    memcpy(ret->cluster_uuid, p + 16, 16);
    memcpy(ret->uuid, p + 32, 16);
    memcpy(ret->parent_head, p + 104, 32);
    memcpy(ret->sure_head, p + 144, 32);
    return 0;
}

static int path_of(const char *dir, char path[PATH_BYTES], struct far_error *err)
{
    int n = snprintf(path, PATH_BYTES, "%s/incarnation", dir);
    return n > 0 && n < PATH_BYTES ? 0 : far_fail(err, FAR_INVALID, "the path of the folder '%.200s' is too long", dir);
}

int far_incarnation_load(const char *dir, const uint8_t cluster_uuid[16], struct far_incarnation *ret_incarnation,
                         struct far_error *err)
{
    char path[PATH_BYTES];
    struct far_buf bytes;
    struct far_incarnation incarnation;
    far_buf_init(&bytes, 2 * FAR_INCARNATION_BYTES);
    int rc = path_of(dir, path, err);
    rc = rc == 0 ? far_file_read(path, &bytes, err) : rc;
    if (rc == FAR_LIMIT) { /* longer than it can be */
        rc = far_fail(err, FAR_CORRUPT, "the incarnation is not what was written");
    }
    rc = rc == 0 ? far_incarnation_decode(far_buf_slice(&bytes), &incarnation, err) : rc;
    if (rc == 0 && memcmp(incarnation.cluster_uuid, cluster_uuid, 16) != 0) {
        rc = far_fail(err, FAR_CORRUPT, "the incarnation is of another cluster");
    }
    if (rc == 0) {
        *ret_incarnation = incarnation;
    } else if (rc != FAR_NOT_FOUND) {
        far_error_context(err, "%s", path);
    }
    far_buf_done(&bytes);
    return rc;
}

int far_incarnation_save(const char *dir, const struct far_incarnation *incarnation, struct far_error *err)
{
    char path[PATH_BYTES];
    uint8_t bytes[FAR_INCARNATION_BYTES];
    far_incarnation_encode(incarnation, bytes);
    int rc = path_of(dir, path, err);
    return rc == 0 ? far_file_replace(path, bytes, sizeof bytes, 0600, err) : rc;
}
