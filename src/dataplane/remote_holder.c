/* Whose a vault on a store is: see remote.h. The object `holder` and the file of that name are the same bytes (FORMATS.md). */
#define _GNU_SOURCE
#include "dataplane/remote_private.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/random.h"

#include <stdio.h>
#include <unistd.h>

enum { VERSION = 0, HOLDER_READ_MAX = 64 << 10 /* longer than it can be: so its etag is known, and it can be replaced */ };
static const char magic[8] = "FARHOLDR";

void far_remote_holder_make(struct far_remote_holder *ret_holder, uint64_t epoch)
{
    *ret_holder = (struct far_remote_holder){.epoch = epoch, .since_ms = far_clock_wall_ms()};
    far_random_bytes(ret_holder->token, sizeof ret_holder->token);
    if (gethostname(ret_holder->name, sizeof ret_holder->name - 1) != 0) {
        snprintf(ret_holder->name, sizeof ret_holder->name, "?");
    }
}

static void encode(const struct far_remote_holder *holder, uint8_t bytes[FAR_REMOTE_HOLDER_BYTES])
{
    memset(bytes, 0, FAR_REMOTE_HOLDER_BYTES);
    memcpy(bytes, magic, 8);
    far_put_le32(bytes + 8, VERSION);
    far_put_le64(bytes + 16, holder->epoch);
    far_put_le64(bytes + 24, holder->since_ms);
    memcpy(bytes + 32, holder->token, 16);
    memcpy(bytes + 48, holder->name, sizeof holder->name);
    far_put_le64(bytes + 120, far_hash64(bytes, 120));
}

static int decode(struct far_slice slice, const char *what, struct far_remote_holder *ret_holder, struct far_error *err)
{
    const uint8_t *b = slice.data;
    if (slice.len != FAR_REMOTE_HOLDER_BYTES || memcmp(b, magic, 8) != 0 || far_get_le32(b + 8) != VERSION ||
        far_get_le64(b + 120) != far_hash64(b, 120) || far_get_le64(b + 16) == 0 || far_get_le64(b + 16) >= UINT32_MAX) {
        return far_fail(err, FAR_CORRUPT, "%s is damaged", what);
    }
    *ret_holder = (struct far_remote_holder){.epoch = far_get_le64(b + 16), .since_ms = far_get_le64(b + 24)};
    memcpy(ret_holder->token, b + 32, 16);
    memcpy(ret_holder->name, b + 48, sizeof ret_holder->name - 1);
    for (char *c = ret_holder->name; *c != '\0'; c++) { /* it comes from elsewhere and is shown to people */
        *c = *c > ' ' && *c <= '~' ? *c : '?';
    }
    return 0;
}

int far_remote_holder_read(struct far_objects *objects, struct far_remote_holder *ret_holder, char ret_etag[72], struct far_error *err)
{
    struct far_buf buf;
    struct far_object object = {0};
    far_buf_init(&buf, HOLDER_READ_MAX);
    int rc = far_objects_read(objects, "holder", HOLDER_READ_MAX, &buf, &object, err);
    rc = rc == 0 ? decode(far_buf_slice(&buf), "the object 'holder' in the store", ret_holder, err) : rc;
    snprintf(ret_etag, 72, "%s", object.etag);
    far_buf_done(&buf);
    return rc;
}

int far_remote_holder_put(struct far_objects *objects, const struct far_remote_holder *holder, const char *etag, struct far_error *err)
{
    uint8_t bytes[FAR_REMOTE_HOLDER_BYTES];
    struct far_object_put put = {.condition = etag == NULL ? FAR_OBJECT_NEW : FAR_OBJECT_SAME, .etag = etag};
    encode(holder, bytes);
    return far_objects_put(objects, "holder", far_slice(bytes, sizeof bytes), &put, NULL, err);
}

void far_remote_holder_key(const struct far_remote_holder *holder, char ret_key[32])
{
    char hex[17];
    far_hex_encode(holder->token, 8, hex);
    snprintf(ret_key, 32, "readers/%s", hex);
}

static void path_of(const char *dir, char *path, size_t len)
{
    snprintf(path, len, "%s/holder", dir);
}

int far_remote_holder_load(const char *dir, struct far_remote_holder *ret_holder, struct far_error *err)
{
    char path[FAR_DIR_MAX + 16];
    struct far_buf buf;
    path_of(dir, path, sizeof path);
    far_buf_init(&buf, FAR_REMOTE_HOLDER_BYTES);
    int rc = far_file_read(path, &buf, err);
    rc = rc == 0 ? decode(far_buf_slice(&buf), path, ret_holder, err) : rc;
    far_buf_done(&buf);
    return rc;
}

int far_remote_holder_save(const char *dir, const struct far_remote_holder *holder, struct far_error *err)
{
    char path[FAR_DIR_MAX + 16];
    uint8_t bytes[FAR_REMOTE_HOLDER_BYTES];
    encode(holder, bytes);
    path_of(dir, path, sizeof path);
    return far_file_replace(path, bytes, sizeof bytes, 0600, err);
}

void far_remote_fence(struct far_vault *vault)
{
    pthread_mutex_lock(&vault->remote->lock);
    vault->remote->is_fenced = true;
    pthread_mutex_unlock(&vault->remote->lock);
    pthread_mutex_lock(&vault->lock);
    vault->broken = true;
    pthread_mutex_unlock(&vault->lock);
}

int far_remote_check_holder(struct far_vault *vault, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    struct far_remote_holder now = {0};
    char etag[72];
    if (remote == NULL) {
        return 0;
    }
    int rc = far_remote_holder_read(remote->objects, &now, etag, err);
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    if (rc == 0 && now.epoch == remote->holder.epoch && memcmp(now.token, remote->holder.token, 16) == 0) {
        return 0;
    }
    far_remote_fence(vault);
    return rc == FAR_NOT_FOUND ? far_fail(err, FAR_CONFLICT, "the store has no holder of vault '%s' any more", vault->dir)
                               : far_fail(err, FAR_CONFLICT, "vault '%s' was taken over by '%.60s' (epoch %llu)", vault->dir, now.name,
                                          (unsigned long long)now.epoch);
}

bool far_remote_is_fenced(struct far_vault *vault)
{
    if (vault->remote == NULL) {
        return false;
    }
    pthread_mutex_lock(&vault->remote->lock);
    bool is_fenced = vault->remote->is_fenced;
    pthread_mutex_unlock(&vault->remote->lock);
    return is_fenced;
}
