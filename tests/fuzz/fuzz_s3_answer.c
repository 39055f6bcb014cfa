/* Answers of an object store: lines of a head up to an empty one, then the body. The first byte chooses the status. */
#include "objects/s3_judge.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int note(void *arg, const struct far_s3_item *item, struct far_error *err)
{
    size_t *count = arg;
    if (item->key[0] == '\0' || memchr(item->key, '\0', sizeof item->key) == NULL || memchr(item->etag, '\0', sizeof item->etag) == NULL) {
        abort();
    }
    return ++*count == 1000 ? far_fail(err, FAR_LIMIT, "enough") : 0;
}

static void read_body(struct far_slice body)
{
    static struct far_s3_page page;
    struct far_s3_fault fault;
    struct far_error err;
    size_t count = 0;
    char id[64];
    if (far_s3_xml_list(body, note, &count, &page, &err) == 0 && page.count != count) {
        abort();
    }
    if (far_s3_xml_fault(body, &fault) && fault.code[0] == '\0') {
        abort();
    }
    if (far_s3_xml_value(body, "InitiateMultipartUploadResult", "UploadId", id, sizeof id, &err) == 0 && id[0] == '\0') {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct far_s3_answer answer = {.status = size > 0 ? 200 + 100 * (data[0] % 4) : 200};
    struct far_s3_verdict verdict = {0};
    struct far_error err;
    const char *at = (const char *)data, *end = at + size;
    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (line_end == NULL || line_end == at) {
            at = line_end == NULL ? at : at + 1;
            break;
        }
        far_s3_take_header(&answer, at, (size_t)(line_end + 1 - at));
        at = line_end + 1;
    }
    far_buf_init(&answer.body, FAR_S3_XML_MAX);
    if (far_buf_append(&answer.body, at, (size_t)(end - at)) == 0) {
        read_body(far_buf_slice(&answer.body));
        int rc = far_s3_judge("ListBucketResult", &answer, &verdict, &err);
        if ((rc == 0) != (answer.status / 100 == 2 && answer.fault.code[0] == '\0')) {
            abort();
        }
    }
    far_s3_answer_done(&answer);
    return 0;
}
