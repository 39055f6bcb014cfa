/* Lists of a store, page by page: of objects (list-type=2), and of uploads in parts that nobody ended. On a good day pages come in
 * the order of their keys, each going on where the one before ended; a store that goes back or stands still is FAR_CORRUPT. */
#include "objects/object_upload.h"
#include "objects/s3_request.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum { DATE_STEP_MS = 1000 /* a Date is rounded down */, EMPTY_PAGES_MAX = 1000, PREFIX_MAX_BYTES = 256 + FAR_OBJECT_KEY_MAX + 1 };

struct listing {
    struct far_objects *objects;
    char prefix[PREFIX_MAX_BYTES]; /* the store's and the caller's */
    size_t own_len;                /* of the store's */
    char last[FAR_S3_TEXT_MAX];    /* key before this one */
    struct far_s3_page page;
    far_object_fn each;
    far_object_version_fn each_version;
    void *arg;
    int rc_each; /* what each returned */
    uint64_t begun_before_ms; /* sweep: by the store's clock */
    uint64_t swept;
};

static struct listing *listing_new(struct far_objects *objects, const char *under, struct far_error *err)
{
    if (strlen(under) > FAR_OBJECT_KEY_MAX) {
        far_fail(err, FAR_INVALID, "keys have at most %d bytes", FAR_OBJECT_KEY_MAX);
        return NULL;
    }
    struct listing *listing = calloc(1, sizeof *listing);
    if (listing == NULL) {
        far_fail(err, FAR_LIMIT, "no memory for a list");
        return NULL;
    }
    listing->objects = objects;
    listing->own_len = strlen(objects->options.prefix);
    snprintf(listing->prefix, sizeof listing->prefix, "%s%s", objects->options.prefix, under);
    return listing;
}

static int give_object(void *arg, const struct far_s3_item *item, struct far_error *err)
{
    struct listing *listing = arg;
    struct far_object object = {.size = item->size, .modified_ms = item->time_ms};
    if (strncmp(item->key, listing->prefix, strlen(listing->prefix)) != 0 || strcmp(item->key, listing->last) <= 0) {
        return far_fail(err, FAR_CORRUPT, "the store lists '%.200s' where it does not belong", item->key);
    }
    strcpy(listing->last, item->key);
    strcpy(object.etag, item->etag);
    if (item->key[listing->own_len] == '\0') { /* the prefix itself, which some tools make as a folder */
        return 0;
    }
    listing->rc_each = listing->each(listing->arg, item->key + listing->own_len, &object, err);
    return listing->rc_each;
}

int far_objects_list(struct far_objects *objects, const char *under, far_object_fn each, void *arg, struct far_error *err)
{
    struct listing *listing = listing_new(objects, under, err);
    if (listing == NULL) {
        return err != NULL && err->klass != 0 ? err->klass : FAR_LIMIT;
    }
    listing->each = each;
    listing->arg = arg;
    int rc = 0;
    unsigned empty = 0;
    do {
        struct far_s3_answer answer = {0};
        struct far_s3_request request = {.method = "GET", .verb = "list", .root = "ListBucketResult"};
        char token[FAR_S3_TEXT_MAX];
        strcpy(token, listing->page.next);
        far_s3_query(&request, "list-type", "2");
        far_s3_query(&request, "encoding-type", "url");
        far_s3_query(&request, "max-keys", "1000");
        far_s3_query(&request, "prefix", listing->prefix);
        if (token[0] != '\0') {
            far_s3_query(&request, "continuation-token", token);
        }
        rc = far_s3_do(objects, &request, &answer, err);
        rc = rc == 0 ? far_s3_xml_list(far_buf_slice(&answer.body), give_object, listing, &listing->page, err) : rc;
        far_s3_answer_done(&answer);
        empty = listing->page.count == 0 ? empty + 1 : 0;
        if (rc == 0 && listing->page.truncated && empty > EMPTY_PAGES_MAX) {
            rc = far_fail(err, FAR_CORRUPT, "the store lists page after page without an object");
        }
    } while (rc == 0 && listing->page.truncated);
    free(listing);
    return rc;
}

/* ---- versions ---- */

static int give_version(void *arg, const struct far_s3_item *item, struct far_error *err)
{
    struct listing *listing = arg;
    struct far_object object = {.size = item->size, .modified_ms = item->time_ms};
    if (strncmp(item->key, listing->prefix, strlen(listing->prefix)) != 0 || item->key[listing->own_len] == '\0') {
        return far_fail(err, FAR_CORRUPT, "the store lists a version of '%.200s' where it does not belong", item->key);
    }
    strcpy(object.etag, item->etag);
    strcpy(object.version, item->version);
    listing->rc_each = listing->each_version(listing->arg, item->key + listing->own_len, &object, item->is_marker, item->is_latest, err);
    return listing->rc_each;
}

int far_objects_versions(struct far_objects *objects, const char *under, far_object_version_fn each, void *arg, struct far_error *err)
{
    struct listing *listing = listing_new(objects, under, err);
    if (listing == NULL) {
        return err != NULL && err->klass != 0 ? err->klass : FAR_LIMIT;
    }
    listing->each_version = each;
    listing->arg = arg;
    int rc = 0;
    unsigned still = 0;
    do {
        struct far_s3_answer answer = {0};
        struct far_s3_request request = {.method = "GET", .verb = "list versions in", .root = "ListVersionsResult"};
        char key_marker[FAR_S3_TEXT_MAX], version_marker[sizeof listing->page.next_upload];
        strcpy(key_marker, listing->page.next);
        strcpy(version_marker, listing->page.next_upload);
        far_s3_query(&request, "versions", "");
        far_s3_query(&request, "encoding-type", "url");
        far_s3_query(&request, "max-keys", "1000");
        far_s3_query(&request, "prefix", listing->prefix);
        if (key_marker[0] != '\0') {
            far_s3_query(&request, "key-marker", key_marker);
        }
        if (version_marker[0] != '\0') {
            far_s3_query(&request, "version-id-marker", version_marker);
        }
        rc = far_s3_do(objects, &request, &answer, err);
        rc = rc == 0 ? far_s3_xml_list(far_buf_slice(&answer.body), give_version, listing, &listing->page, err) : rc;
        far_s3_answer_done(&answer);
        bool goes_on = strcmp(listing->page.next, key_marker) > 0 || strcmp(listing->page.next_upload, version_marker) != 0;
        still = goes_on && listing->page.count > 0 ? 0 : still + 1;
        if (rc == 0 && listing->page.truncated && (!goes_on || still > EMPTY_PAGES_MAX)) {
            rc = far_fail(err, FAR_CORRUPT, "the store lists page after page of versions, and does not go on");
        }
    } while (rc == 0 && listing->page.truncated);
    free(listing);
    return rc;
}

/* ---- uploads that nobody ended ---- */

int far_s3_abort(struct far_objects *objects, const char *key, const char *upload_id, uint64_t retry_max_ms, struct far_error *err)
{
    struct far_s3_answer answer = {0};
    struct far_s3_request request = {.method = "DELETE", .key = key, .verb = "abort the upload of", .retry_max_ms = retry_max_ms};
    far_s3_query(&request, "uploadId", upload_id);
    int rc = far_s3_do(objects, &request, &answer, err);
    rc = rc == FAR_NOT_FOUND ? 0 : rc;
    far_s3_answer_done(&answer);
    return rc;
}

static int sweep_upload(void *arg, const struct far_s3_item *item, struct far_error *err)
{
    struct listing *listing = arg;
    if (strncmp(item->key, listing->prefix, strlen(listing->prefix)) != 0 || item->key[listing->own_len] == '\0') {
        return far_fail(err, FAR_CORRUPT, "the store lists an upload of '%.200s' where it does not belong", item->key);
    }
    if (item->time_ms == 0 || item->time_ms > listing->begun_before_ms) {
        return 0;
    }
    int rc = far_s3_abort(listing->objects, item->key + listing->own_len, item->upload_id, 0, err);
    listing->swept += rc == 0;
    return rc;
}

int far_objects_sweep(struct far_objects *objects, const char *under, uint64_t older_ms, uint64_t *ret_count, struct far_error *err)
{
    struct listing *listing = listing_new(objects, under, err);
    if (listing == NULL) {
        return err != NULL && err->klass != 0 ? err->klass : FAR_LIMIT;
    }
    int rc = 0;
    unsigned pages = 0;
    do {
        struct far_s3_answer answer = {0};
        struct far_s3_request request = {.method = "GET", .verb = "list uploads in", .root = "ListMultipartUploadsResult"};
        char key_marker[FAR_S3_TEXT_MAX], upload_marker[sizeof listing->page.next_upload];
        strcpy(key_marker, listing->page.next);
        strcpy(upload_marker, listing->page.next_upload);
        far_s3_query(&request, "uploads", "");
        far_s3_query(&request, "encoding-type", "url");
        far_s3_query(&request, "prefix", listing->prefix);
        if (key_marker[0] != '\0') {
            far_s3_query(&request, "key-marker", key_marker);
        }
        if (upload_marker[0] != '\0') {
            far_s3_query(&request, "upload-id-marker", upload_marker);
        }
        rc = far_s3_do(objects, &request, &answer, err);
        uint64_t now = answer.date_ms != 0 ? answer.date_ms + DATE_STEP_MS : far_clock_wall_ms();
        listing->begun_before_ms = now > older_ms ? now - older_ms : 0;
        rc = rc == 0 ? far_s3_xml_list(far_buf_slice(&answer.body), sweep_upload, listing, &listing->page, err) : rc;
        far_s3_answer_done(&answer);
        if (rc == 0 && listing->page.truncated && ++pages > EMPTY_PAGES_MAX) {
            rc = far_fail(err, FAR_CORRUPT, "the store lists page after page of uploads");
        }
    } while (rc == 0 && listing->page.truncated);
    if (ret_count != NULL) {
        *ret_count = listing->swept;
    }
    free(listing);
    return rc;
}
