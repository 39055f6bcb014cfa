/* Files into a store, in parts. On a good day: an upload is begun, two lanes take parts from one counter and send them, and the list of
 * parts completes it. A part that fails is sent again by itself (s3_request.h); an upload that fails for good is aborted. The end is
 * the delicate moment: an answer that got lost, or 200 with an error in it, is settled by looking at what the store has. */
#include "objects/s3_request.h"

#include "base/thread.h"
#include "objects/object_upload.h"

#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { UPLOADS_MAX = 2, LANES = 2, PARTS_MAX = 10000, ABORT_MS = 10000, TEXT_PER_PART = 256 };

struct part {
    char etag[72];
    char sha256[FAR_S3_SHA_B64];
};

struct upload {
    struct far_objects *objects;
    const char *key;
    int fd;
    uint64_t size, part_bytes;
    uint64_t part_count;
    char id[1024];
    bool is_completed; /* the store said so; else it may keep parts */
    bool is_lost;      /* the store knows nothing of it any more */
    struct part *parts;
    atomic_uint_fast64_t next; /* part to take */
    atomic_bool stop;
    int (*progress)(void *arg, uint64_t done);
    void *arg;
    pthread_mutex_t mutex; /* of what follows */
    uint64_t done;         /* bytes of ended parts */
    uint64_t under_way[LANES];
    uint64_t told;
    int rc; /* of the lane that failed first */
    struct far_error error;
};

struct lane {
    struct upload *upload;
    size_t which;
};

/* ---- progress ---- */

static int tell(struct upload *upload, size_t lane, uint64_t under_way, uint64_t ended)
{
    pthread_mutex_lock(&upload->mutex);
    upload->under_way[lane] = under_way;
    upload->done += ended;
    uint64_t sum = upload->done;
    for (size_t i = 0; i < LANES; i++) {
        sum += upload->under_way[i];
    }
    upload->told = sum > upload->told ? sum : upload->told; /* a part that begins anew takes nothing back */
    int rc = upload->progress != NULL ? upload->progress(upload->arg, upload->told) : 0;
    pthread_mutex_unlock(&upload->mutex);
    return rc != 0 || atomic_load(&upload->stop);
}

static int lane_sent(void *arg, uint64_t bytes)
{
    struct lane *lane = arg;
    return tell(lane->upload, lane->which, bytes, 0);
}

/* ---- parts ---- */

static int send_part(struct lane *lane, uint64_t index, struct far_error *err)
{
    struct upload *upload = lane->upload;
    char number[24];
    uint64_t offset = index * upload->part_bytes, left = upload->size - offset;
    struct far_s3_answer answer = {0};
    struct far_s3_body body = {.fd = upload->fd, .offset = offset, .len = left < upload->part_bytes ? left : upload->part_bytes};
    struct far_s3_request request = {.method = "PUT", .key = upload->key, .verb = "write a part of", .body = &body, .checksum = true,
                                     .sent = lane_sent, .arg = lane};
    snprintf(number, sizeof number, "%llu", (unsigned long long)index + 1);
    far_s3_query(&request, "partNumber", number);
    far_s3_query(&request, "uploadId", upload->id);
    int rc = far_s3_body_hash(&body, err);
    rc = rc == 0 ? far_s3_do(upload->objects, &request, &answer, err) : rc;
    if (rc == 0 && answer.object.etag[0] == '\0') {
        rc = far_fail(err, FAR_CORRUPT, "write a part of '%.200s': the store names no etag", upload->key);
    }
    if (rc == 0) {
        strcpy(upload->parts[index].etag, answer.object.etag);
        EVP_EncodeBlock((unsigned char *)upload->parts[index].sha256, body.sha256, sizeof body.sha256);
        rc = tell(upload, lane->which, 0, body.len) != 0 ? far_fail(err, FAR_CANCELED, "canceled") : 0;
    }
    far_s3_answer_done(&answer);
    return rc;
}

static void run_lane(void *arg, size_t which)
{
    struct lane lane = {.upload = arg, .which = which};
    struct upload *upload = arg;
    struct far_error err = {0};
    int rc = 0;
    while (rc == 0 && !atomic_load(&upload->stop)) {
        uint64_t index = atomic_fetch_add(&upload->next, 1);
        if (index >= upload->part_count) {
            return;
        }
        rc = send_part(&lane, index, &err);
    }
    pthread_mutex_lock(&upload->mutex);
    if (rc != 0 && upload->rc == 0) {
        upload->rc = rc;
        upload->error = err;
    }
    pthread_mutex_unlock(&upload->mutex);
    atomic_store(&upload->stop, true);
}

/* ---- begin and end ---- */

static int begin(struct upload *upload, const struct far_object_put *put, struct far_error *err)
{
    struct far_s3_put_texts texts;
    struct far_s3_answer answer = {0};
    struct far_s3_request request = {.method = "POST", .key = upload->key, .verb = "begin the upload of",
                                     .root = "InitiateMultipartUploadResult"};
    far_s3_query(&request, "uploads", "");
    far_s3_header(&request, "x-amz-checksum-algorithm", "SHA256");
    int rc = far_s3_lock_headers(upload->objects, &request, put, &texts, err);
    rc = rc == 0 ? far_s3_do(upload->objects, &request, &answer, err) : rc;
    rc = rc == 0 ? far_s3_xml_value(far_buf_slice(&answer.body), request.root, "UploadId", upload->id, sizeof upload->id, err) : rc;
    far_s3_answer_done(&answer);
    return rc;
}

static int list_parts(const struct upload *upload, struct far_buf *out, struct far_error *err)
{
    int rc = far_buf_append_str(out, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (uint64_t i = 0; i < upload->part_count && rc == 0; i++) {
        const struct part *part = &upload->parts[i];
        if (strpbrk(part->etag, "<>&") != NULL) {
            return far_fail(err, FAR_CORRUPT, "the store gave an etag that cannot be");
        }
        rc = far_buf_printf(out, "<Part><PartNumber>%llu</PartNumber><ETag>\"%s\"</ETag><ChecksumSHA256>%s</ChecksumSHA256></Part>",
                            (unsigned long long)i + 1, part->etag, part->sha256);
    }
    rc = rc == 0 ? far_buf_append_str(out, "</CompleteMultipartUpload>") : rc;
    return rc == 0 ? 0 : far_fail(err, rc, "no memory for the list of parts");
}

static int complete(struct upload *upload, const struct far_object_put *put, struct far_s3_answer *answer, struct far_error *err)
{
    struct far_s3_put_texts texts;
    struct far_buf text;
    far_buf_init(&text, PARTS_MAX * TEXT_PER_PART);
    int rc = list_parts(upload, &text, err);
    struct far_s3_body body = {.data = text.data, .len = text.len};
    struct far_s3_request request = {.method = "POST", .key = upload->key, .verb = "end the upload of", .body = &body,
                                     .root = "CompleteMultipartUploadResult"};
    far_s3_query(&request, "uploadId", upload->id);
    far_s3_condition_headers(&request, put, &texts);
    rc = rc == 0 ? far_s3_body_hash(&body, err) : rc;
    rc = rc == 0 ? far_s3_do(upload->objects, &request, answer, err) : rc;
    char etag[80] = "";
    rc = rc == 0 ? far_s3_xml_value(far_buf_slice(&answer->body), request.root, "ETag", etag, sizeof etag, err) : rc;
    if (rc == 0) {
        size_t len = strlen(etag);
        bool quoted = len >= 2 && etag[0] == '"' && etag[len - 1] == '"';
        snprintf(answer->object.etag, sizeof answer->object.etag, "%.*s", (int)(quoted ? len - 2 : len), etag + (quoted ? 1 : 0));
    }
    far_buf_done(&text);
    return rc;
}

/* The end was refused, or nobody knows whether it was carried out: what is there decides. */
static int settle(struct upload *upload, int rc, const struct far_object_put *put, struct far_object *ret_object, struct far_error *err)
{
    struct far_s3_body body = {.fd = upload->fd, .len = upload->size};
    struct far_error other = {0};
    int same = far_s3_same(upload->objects, upload->key, &body, ret_object, &other);
    if (same == 0) {
        return 0;
    }
    if (rc == FAR_CONFLICT) {
        *err = other;
        return same;
    }
    upload->is_lost = rc == 0 || rc == FAR_NOT_FOUND;
    return !upload->is_lost ? rc
                            : far_fail(err, FAR_BUSY, "the store has lost the upload of '%.200s' at its end: %.200s", upload->key,
                                       other.message);
}

/* After the parts are there. */
static int end(struct upload *upload, const struct far_object_put *put, struct far_object *ret_object, struct far_error *err)
{
    struct far_s3_answer answer = {0};
    enum far_object_condition condition = put != NULL ? put->condition : FAR_OBJECT_ANY;
    int rc = complete(upload, put, &answer, err);
    /* A store that died in the middle of it may say that all is done, and have nothing. */
    bool is_unsure = answer.unanswered || (rc != 0 && (answer.ambiguous || answer.status / 100 == 2));
    if (is_unsure || (rc == FAR_CONFLICT && condition == FAR_OBJECT_NEW)) {
        rc = settle(upload, rc, put, ret_object, err);
    } else if (rc == FAR_NOT_FOUND && condition == FAR_OBJECT_SAME && strcmp(answer.fault.code, "NoSuchKey") == 0) {
        rc = far_fail(err, FAR_CONFLICT, "the object '%.200s' is gone", upload->key);
    } else if (rc == FAR_NOT_FOUND) {
        upload->is_lost = true;
        err->klass = FAR_BUSY;
        rc = far_error_context(err, "the upload of '%.200s' is gone before its end", upload->key);
    } else if (rc == 0) {
        upload->is_completed = true;
        answer.object.size = upload->size;
        answer.object.retain_until_ms = put != NULL ? put->retain_until_ms : 0;
        if (ret_object != NULL) {
            *ret_object = answer.object;
        }
    }
    far_s3_answer_done(&answer);
    return rc;
}

static int send_all(struct upload *upload, const struct far_object_put *put, struct far_object *ret_object, struct far_error *err)
{
    int rc = begin(upload, put, err);
    if (rc != 0) {
        return rc;
    }
    far_thread_side_by_side("upload", upload->part_count < LANES ? (size_t)upload->part_count : LANES, run_lane, upload);
    rc = upload->rc;
    if (rc != 0) {
        *err = upload->error;
    } else if (atomic_load(&upload->next) < upload->part_count) {
        rc = far_fail(err, FAR_LIMIT, "no thread for an upload");
    } else {
        rc = end(upload, put, ret_object, err);
    }
    if (!upload->is_completed) {
        far_s3_abort(upload->objects, upload->key, upload->id, ABORT_MS, NULL);
    }
    return rc;
}

/* A whole put tells its progress by the same way. */
struct whole {
    int (*progress)(void *arg, uint64_t done);
    void *arg;
    uint64_t told;
};

static int whole_sent(void *arg, uint64_t bytes)
{
    struct whole *whole = arg;
    whole->told = bytes > whole->told ? bytes : whole->told;
    return whole->progress != NULL ? whole->progress(whole->arg, whole->told) : 0;
}

static int put_in_parts(struct far_objects *objects, const char *key, int fd, uint64_t size, const struct far_object_put *put,
                        int (*progress)(void *arg, uint64_t done), void *arg, struct far_object *ret_object, bool *ret_lost,
                        struct far_error *err)
{
    struct upload upload = {.objects = objects, .key = key, .fd = fd, .size = size, .part_bytes = objects->options.part_bytes,
                            .progress = progress, .arg = arg};
    while ((size + upload.part_bytes - 1) / upload.part_bytes > PARTS_MAX) {
        upload.part_bytes *= 2;
    }
    upload.part_count = (size + upload.part_bytes - 1) / upload.part_bytes;
    upload.parts = calloc((size_t)upload.part_count, sizeof *upload.parts);
    pthread_mutex_init(&upload.mutex, NULL);
    int rc = upload.parts == NULL ? far_fail(err, FAR_LIMIT, "no memory for an upload") : send_all(&upload, put, ret_object, err);
    *ret_lost = rc != 0 && upload.is_lost;
    pthread_mutex_destroy(&upload.mutex);
    free(upload.parts);
    return rc;
}

int far_objects_put_file(struct far_objects *objects, const char *key, int fd, uint64_t size, const struct far_object_put *put,
                         int (*progress)(void *arg, uint64_t done), void *arg, struct far_object *ret_object, struct far_error *err)
{
    struct far_error own;
    err = err != NULL ? err : &own;
    if (size < objects->options.part_bytes) {
        struct far_s3_body body = {.fd = fd, .len = size};
        struct whole whole = {.progress = progress, .arg = arg};
        return far_s3_put_body(objects, key, &body, put, whole_sent, &whole, ret_object, err);
    }
    int rc = far_s3_key_check(key, err);
    bool is_lost = rc == 0;
    for (unsigned tries = 0; tries < UPLOADS_MAX && is_lost; tries++) {
        rc = put_in_parts(objects, key, fd, size, put, progress, arg, ret_object, &is_lost, err);
    }
    return rc;
}
