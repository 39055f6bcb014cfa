/* Objects of an S3-compatible store: one bucket, and in it the keys below one prefix.
 *
 * Threads: every function blocks and may be called from any thread, also at once (each call takes a connection of a pool).
 * Retries: what may work a little later (no connection, time-outs, 429, 500, 502, 503, 504, SlowDown) is tried again with growing pauses
 * until retry_max_ms are over; then FAR_BUSY with what it said last. Every request is safe to repeat: a conditional PUT that was
 * answered with a time-out and then finds the object there compares it with what it wanted to write.
 * Errors: FAR_NOT_FOUND no such object or bucket; FAR_CONFLICT a condition did not hold; FAR_DENIED keys or permissions, or an
 * object lock that still holds; FAR_INVALID what the store does not offer; FAR_CORRUPT an answer that cannot be (also a body that
 * is not of the promised length); FAR_IO local files. The secret key is in no message.
 * Integrity: uploads carry a checksum that the store verifies (x-amz-checksum-sha256 or Content-MD5), and the signature covers it. */
#ifndef FAR_OBJECTS_OBJECTS_H
#define FAR_OBJECTS_OBJECTS_H

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct far_objects;

enum { FAR_OBJECT_KEY_MAX = 512 }; /* of a key, without the prefix */

struct far_objects_options {
    char endpoint[256];      /* https://host[:port]; http:// only for loopback addresses */
    char region[64];         /* "" = us-east-1 */
    char bucket[64];
    char prefix[256];        /* "" or ending with '/' */
    char credentials[1024];  /* file: access_key, secret_key, optional session_token; not readable by others */
    char ca[1024];           /* PEM file; "" = the system's */
    char lock_mode[16];      /* "", "governance" or "compliance": the mode of far_objects_retain() and retain_until_ms */
    uint64_t part_bytes;     /* of multipart uploads; 0 = 16 MiB; 5 MiB at least */
    uint64_t retry_max_ms;   /* 0 = 60,000 */
    uint64_t timeout_ms;     /* without a byte moving; 0 = 20,000 */
    uint64_t keep_bytes;     /* not for the client: what a vault keeps of its packs on its own disk, too */
};

/* What `store` files of vaults say (base/config.h): endpoint, region, bucket, prefix, credentials, ca, lock_mode, part_bytes,
 * retry_max_ms, keep_bytes. FAR_NOT_FOUND: no such file; FAR_INVALID names line and key. */
int far_objects_options_read(const char *path, struct far_objects_options *ret_options, struct far_error *err);
int far_objects_options_write(const char *path, const struct far_objects_options *options, struct far_error *err);

/* Reads the credentials; asks nothing of the store yet. */
int far_objects_open(const struct far_objects_options *options, struct far_objects **ret_objects, struct far_error *err);
void far_objects_close(struct far_objects *objects); /* NULL is allowed */

struct far_object {
    uint64_t size;
    uint64_t modified_ms;     /* by the store's clock; 0 = not told */
    uint64_t retain_until_ms; /* 0 = no object lock, or not told */
    char etag[72];            /* without the quotes */
    char version[136];        /* "" = the bucket keeps no versions */
};

enum far_object_condition {
    FAR_OBJECT_ANY,  /* replace what is there */
    FAR_OBJECT_NEW,  /* FAR_CONFLICT if there is one with this key (unless it is the same bytes) */
    FAR_OBJECT_SAME, /* FAR_CONFLICT unless it has `etag` */
};
struct far_object_put {
    enum far_object_condition condition;
    const char *etag;         /* of FAR_OBJECT_SAME */
    uint64_t retain_until_ms; /* object lock, from the beginning; 0 = none */
};

/* A small object from memory; put NULL: FAR_OBJECT_ANY. ret_object may be NULL. */
int far_objects_put(struct far_objects *objects, const char *key, struct far_slice bytes, const struct far_object_put *put,
                    struct far_object *ret_object, struct far_error *err);
/* bytes [0, size) of a file, which does not change meanwhile; in parts from part_bytes on, two at a time. An upload that fails is
 * aborted, so that the store keeps no parts; those of a process that died are what far_objects_sweep() is for. progress (may be
 * NULL; any thread, one at a time) cancels with a result other than 0: FAR_CANCELED. */
int far_objects_put_file(struct far_objects *objects, const char *key, int fd, uint64_t size, const struct far_object_put *put,
                         int (*progress)(void *arg, uint64_t done), void *arg, struct far_object *ret_object, struct far_error *err);
/* Exactly `len` bytes from `offset` on; version may be NULL. FAR_CORRUPT: the object is shorter. */
int far_objects_get(struct far_objects *objects, const char *key, const char *version, uint64_t offset, size_t len, void *ret_bytes,
                    struct far_error *err);
/* A whole small object. FAR_LIMIT: it has more than bytes_max. ret_object may be NULL. */
int far_objects_read(struct far_objects *objects, const char *key, size_t bytes_max, struct far_buf *ret_bytes,
                     struct far_object *ret_object, struct far_error *err);
int far_objects_head(struct far_objects *objects, const char *key, struct far_object *ret_object, struct far_error *err);
/* Of one version. */
int far_objects_look(struct far_objects *objects, const char *key, const char *version, struct far_object *ret_object,
                     struct far_error *err);
/* What is not there is 0. In a bucket that keeps versions the newest one is hidden, or with `version` (else NULL) that one goes
 * for good. */
int far_objects_delete(struct far_objects *objects, const char *key, const char *version, struct far_error *err);
/* All keys that begin with `under` (within the prefix, which is not part of what each gets), ascending, by as many pages as it
 * takes. A result other than 0 stops and is returned. */
typedef int (*far_object_fn)(void *arg, const char *key, const struct far_object *object, struct far_error *err);
int far_objects_list(struct far_objects *objects, const char *under, far_object_fn each, void *arg, struct far_error *err);
/* All versions of all keys that begin with `under`, and delete markers, in whatever order the store has; object->version names each. In
 * a bucket that keeps none each object is one, with the version "null". As far_objects_list(). */
typedef int (*far_object_version_fn)(void *arg, const char *key, const struct far_object *object, bool is_marker, bool is_latest,
                                     struct far_error *err);
int far_objects_versions(struct far_objects *objects, const char *under, far_object_version_fn each, void *arg, struct far_error *err);
/* The object cannot be deleted or replaced for good before that time, by the store's own clock. Only ever later: an earlier
 * date than it has is 0 and changes nothing. FAR_INVALID: the bucket offers no object lock, or no lock_mode is set. */
int far_objects_retain(struct far_objects *objects, const char *key, const char *version, uint64_t until_ms, struct far_error *err);
/* Until when a version is locked; 0: it is not, or the bucket offers no locks. (far_objects_look() may not say it of a former version.) */
int far_objects_retained(struct far_objects *objects, const char *key, const char *version, uint64_t *ret_until_ms, struct far_error *err);
/* Aborts multipart uploads below `under` that were begun more than older_ms ago. ret_count (may be NULL): how many. */
int far_objects_sweep(struct far_objects *objects, const char *under, uint64_t older_ms, uint64_t *ret_count, struct far_error *err);

#endif
