/* Is this folder the one that announced last? See remote.h. A folder that was set back (a snapshot of its machine, a backup), and a second
 * copy of it, hold the vault by the same token, and may have all the packs that the store has: a point whose blocks were all there
 * before brought none.
 *
 * So before something is announced or goes (a point, a pack), the object `head` gets a new mark, in place of the one that this folder
 * knows (a conditional PUT). The mark is in the folder, durably, before it is in the store. The store has the folder's last mark but
 * one, or its last one, where the program died or the answer got lost in between: then the same one is tried again. Any other mark in
 * the same epoch is of somebody who announced something that this folder does not know: it refuses to write from then on. */
#include "dataplane/remote_private.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/random.h"

#include <stdio.h>

enum { VERSION = 0, HEAD_BYTES = 80, READ_MAX = 64 << 10 };
static const char magic[8] = "FARVHEAD";

static void encode(const struct far_remote_head *head, uint8_t bytes[HEAD_BYTES])
{
    memset(bytes, 0, HEAD_BYTES);
    memcpy(bytes, magic, 8);
    far_put_le32(bytes + 8, VERSION);
    far_put_le64(bytes + 16, head->epoch);
    far_put_le64(bytes + 24, head->sequence);
    memcpy(bytes + 32, head->mark, 16);
    memcpy(bytes + 48, head->before, 16);
    far_put_le64(bytes + HEAD_BYTES - 8, far_hash64(bytes, HEAD_BYTES - 8));
}

static int decode(struct far_slice slice, const char *what, struct far_remote_head *ret_head, struct far_error *err)
{
    const uint8_t *b = slice.data;
    if (slice.len != HEAD_BYTES || memcmp(b, magic, 8) != 0 || far_get_le32(b + 8) != VERSION ||
        far_get_le64(b + HEAD_BYTES - 8) != far_hash64(b, HEAD_BYTES - 8)) {
        return far_fail(err, FAR_CORRUPT, "%s is damaged: attach the vault in another folder, and take it over", what);
    }
    *ret_head = (struct far_remote_head){.epoch = far_get_le64(b + 16), .sequence = far_get_le64(b + 24)};
    memcpy(ret_head->mark, b + 32, 16);
    memcpy(ret_head->before, b + 48, 16);
    return 0;
}

static int load(const struct far_vault *vault, struct far_remote_head *ret_head, struct far_error *err)
{
    char path[FAR_DIR_MAX + 16];
    struct far_buf buf;
    snprintf(path, sizeof path, "%s/head", vault->dir);
    far_buf_init(&buf, HEAD_BYTES);
    int rc = far_file_read(path, &buf, err);
    rc = rc == 0 || rc == FAR_LIMIT ? decode(far_buf_slice(&buf), path, ret_head, err) : rc;
    far_buf_done(&buf);
    bool is_of_before = rc == 0 && ret_head->epoch != vault->remote->holder.epoch;
    if (rc == FAR_NOT_FOUND || is_of_before) {
        *ret_head = (struct far_remote_head){.epoch = vault->remote->holder.epoch};
        return 0;
    }
    return rc;
}

static int save(const struct far_vault *vault, const struct far_remote_head *head, struct far_error *err)
{
    char path[FAR_DIR_MAX + 16];
    uint8_t bytes[HEAD_BYTES];
    snprintf(path, sizeof path, "%s/head", vault->dir);
    encode(head, bytes);
    return far_file_replace(path, bytes, sizeof bytes, 0600, err);
}

/* remote->head_lock is held. What the store has, held against the folder. */
static int look(struct far_vault *vault, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    struct far_remote_head there = {0};
    struct far_object object = {0};
    struct far_buf buf;
    if (remote->head_is_known) {
        return 0;
    }
    far_buf_init(&buf, READ_MAX);
    int rc = load(vault, &remote->head, err);
    int read = rc == 0 ? far_objects_read(remote->objects, "head", READ_MAX, &buf, &object, err) : rc;
    if (read == 0 || read == FAR_LIMIT) {
        read = decode(far_buf_slice(&buf), "the object 'head' in the store", &there, err);
    }
    far_buf_done(&buf);
    if (rc != 0 || (read != 0 && read != FAR_NOT_FOUND)) {
        return rc != 0 ? rc : read;
    }
    remote->head_is_there = read == 0 && there.epoch == remote->head.epoch && memcmp(there.mark, remote->head.mark, 16) == 0;
    bool is_one_behind = read == 0 && there.epoch == remote->head.epoch && memcmp(there.mark, remote->head.before, 16) == 0;
    bool is_of_before = read == FAR_NOT_FOUND || there.epoch < remote->head.epoch; /* by whom the vault was taken from */
    if (!remote->head_is_there && !is_one_behind && !is_of_before) {
        far_remote_fence(vault);
        return far_fail(err, FAR_CONFLICT, "in the store is what '%s' does not know (%llu announcements, here %llu): it is an older copy, "
                        "or there is a second one that writes; attach the vault in another folder, and take it over", vault->dir,
                        (unsigned long long)there.sequence, (unsigned long long)remote->head.sequence);
    }
    snprintf(remote->head_etag, sizeof remote->head_etag, "%s", object.etag);
    remote->head_is_known = true;
    return 0;
}

int far_remote_check_current(struct far_vault *vault, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    if (remote == NULL || vault->read_only) {
        return 0;
    }
    pthread_mutex_lock(&remote->head_lock);
    int rc = look(vault, err);
    pthread_mutex_unlock(&remote->head_lock);
    return rc;
}

static int put(struct far_vault *vault, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    uint8_t bytes[HEAD_BYTES];
    struct far_object object = {0};
    const struct far_object_put put = {.condition = remote->head_etag[0] != '\0' ? FAR_OBJECT_SAME : FAR_OBJECT_NEW,
                                       .etag = remote->head_etag};
    encode(&remote->head, bytes);
    int rc = far_objects_put(remote->objects, "head", far_slice(bytes, sizeof bytes), &put, &object, err);
    remote->head_is_known = rc == 0 && object.etag[0] != '\0';
    remote->head_is_there = rc == 0;
    snprintf(remote->head_etag, sizeof remote->head_etag, "%s", object.etag);
    if (rc == FAR_CONFLICT) { /* somebody else was faster; unless it went away meanwhile */
        rc = look(vault, err);
        rc = rc == 0 && !remote->head_is_there ? far_fail(err, FAR_BUSY, "the object 'head' in the store changed meanwhile") : rc;
    }
    return rc;
}

int far_remote_announce(struct far_vault *vault, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    if (remote == NULL) {
        return 0;
    }
    pthread_mutex_lock(&remote->head_lock);
    int rc = look(vault, err);
    if (rc == 0 && (remote->head_is_there || remote->head.sequence == 0)) { /* else the last mark did not get there: it is tried again */
        struct far_remote_head next = {.epoch = remote->head.epoch, .sequence = remote->head.sequence + 1};
        memcpy(next.before, remote->head.mark, 16);
        far_random_bytes(next.mark, sizeof next.mark);
        rc = save(vault, &next, err);
        remote->head = rc == 0 ? next : remote->head;
    }
    rc = rc == 0 ? put(vault, err) : rc;
    pthread_mutex_unlock(&remote->head_lock);
    return rc == 0 ? 0 : far_error_context(err, "store of the vault");
}
