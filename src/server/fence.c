/* Fencing: see fence.h. */
#include "server/fence.h"

#include "base/file.h"

int far_fence_judge(const struct far_server_config *config, struct far_incarnation_id own, uint64_t peer_id,
                    struct far_incarnation_id theirs, const char **ret_file, struct far_error *err)
{
    unsigned long long id = peer_id, epoch = theirs.epoch, own_epoch = own.epoch;
    if (theirs.epoch < own.epoch || (theirs.epoch == own.epoch && theirs.tag == own.tag)) {
        return 0;
    }
    if (theirs.epoch > own.epoch) {
        *ret_file = FAR_FENCED_FILE;
        return far_fail(err, FAR_DENIED,
                        "server %llu is of incarnation %llu of cluster '%s', this one ('%s') of %llu: it is fenced and serves "
                        "nothing. What it accepted alone is kept: rejoin with a new join token (farshored rejoin), then "
                        "look at it (cluster divergent)",
                        id, epoch, config->cluster, config->name, own_epoch);
    }
    *ret_file = FAR_CONTESTED_FILE;
    return far_fail(err, FAR_DENIED,
                    "server %llu is of another incarnation %llu of cluster '%s': it was recovered at two places at once. "
                    "Both stop. Decide which one is to live, and recover that one again (cluster recover-quorum); the other "
                    "is fenced then",
                    id, epoch, config->cluster);
}

int far_fence_keep(const char *dir, const char *file, const struct far_error *why, struct far_error *err)
{
    return far_server_file_write(dir, file, far_slice_str(why->message), 0600, err);
}

static int check(const char *dir, const char *name, struct far_error *err)
{
    char path[FAR_SERVER_FILE_MAX];
    struct far_buf text;
    struct far_error unread;
    far_server_path(dir, name, path);
    far_buf_init(&text, FAR_MESSAGE_MAX);
    int rc = far_file_read(path, &text, &unread);
    if (rc == 0) {
        rc = far_fail(err, FAR_DENIED, "%.*s", (int)text.len, (const char *)text.data);
    } else {
        rc = rc == FAR_NOT_FOUND ? 0 : far_fail(err, unread.klass, "%s", unread.message);
    }
    far_buf_done(&text);
    return rc;
}

int far_fence_check(const char *dir, bool *ret_is_contested, struct far_error *err)
{
    int rc = check(dir, FAR_FENCED_FILE, err);
    if (rc == 0) {
        rc = check(dir, FAR_CONTESTED_FILE, err);
        if (ret_is_contested != NULL) {
            *ret_is_contested = rc == FAR_DENIED;
        }
    } else if (ret_is_contested != NULL) {
        *ret_is_contested = false;
    }
    return rc;
}
