/* The XML answers of S3-compatible stores, read by expat: errors, pages of lists, single values.
 *
 * Bounds: FAR_S3_XML_MAX bytes, FAR_S3_DEPTH_MAX elements deep, FAR_S3_TEXT_MAX bytes of text in one; a document type or entity
 * is refused. Everything comes from outside: nothing is believed before it was looked at. Values, any thread. */
#ifndef FAR_OBJECTS_S3_XML_H
#define FAR_OBJECTS_S3_XML_H

#include "objects/objects.h"

enum { FAR_S3_XML_MAX = 8 * 1024 * 1024, FAR_S3_DEPTH_MAX = 16, FAR_S3_TEXT_MAX = 4096 };

/* What a store says in <Error>: both with '?' for what is not printable. */
struct far_s3_fault {
    char code[64];
    char message[200];
};
/* False: not an <Error> document; ret is then empty. */
bool far_s3_xml_fault(struct far_slice xml, struct far_s3_fault *ret);

/* The text of <root><name>…, e.g. the UploadId of an InitiateMultipartUploadResult. FAR_CORRUPT: another document, or no such
 * element, or more than size - 1 bytes. */
int far_s3_xml_value(struct far_slice xml, const char *root, const char *name, char *ret, size_t size, struct far_error *err);

/* One <Contents>, <Upload>, <Version> or <DeleteMarker>. */
struct far_s3_item {
    char key[FAR_S3_TEXT_MAX]; /* decoded, with the prefix */
    char upload_id[1024];      /* "" in lists of objects */
    char version[136];         /* of the last two */
    bool is_marker, is_latest; /* of the last two */
    char etag[72];
    uint64_t size;
    uint64_t time_ms; /* modified, or the upload begun; 0 = not told */
};
struct far_s3_page {
    size_t count;
    bool truncated;
    char next[FAR_S3_TEXT_MAX];    /* NextContinuationToken or NextKeyMarker */
    char next_upload[1024];        /* NextUploadIdMarker or NextVersionIdMarker */
};
typedef int (*far_s3_item_fn)(void *arg, const struct far_s3_item *item, struct far_error *err);
/* A ListBucketResult, ListMultipartUploadsResult or ListVersionsResult. It is read to its end before each is called the first time.
 * FAR_CORRUPT, or what each returned other than 0. */
int far_s3_xml_list(struct far_slice xml, far_s3_item_fn each, void *arg, struct far_s3_page *ret_page, struct far_error *err);

#endif
