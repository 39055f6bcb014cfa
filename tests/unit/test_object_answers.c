/* What a store answers: its XML, its headers, and what they mean. */
#include "objects/object_config.h"
#include "objects/s3_judge.h"
#include "objects/s3_xml.h"
#include "../lib/cm.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

#define NS " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

struct seen {
    size_t count;
    struct far_s3_item last;
    int answer;
};

static int note(void *arg, const struct far_s3_item *item, struct far_error *err)
{
    struct seen *seen = arg;
    seen->count++;
    seen->last = *item;
    return seen->answer != 0 ? far_fail(err, seen->answer, "as told") : 0;
}

static int list(const char *xml, struct seen *seen, struct far_s3_page *page, struct far_error *err)
{
    return far_s3_xml_list(far_slice_str(xml), note, seen, page, err);
}

static void a_page_gives_its_objects_and_where_it_goes_on(void **state)
{
    struct seen seen = {0};
    struct far_s3_page page;
    assert_int_equal(list("<?xml version=\"1.0\"?>\n<ListBucketResult" NS ">\n <IsTruncated>true</IsTruncated>"
                          "<Contents><Key>p/a+b%2Bc%C3%A4</Key><LastModified>2026-11-30T17:00:00.500Z</LastModified>"
                          "<ETag>&quot;abc&quot;</ETag><Size>42</Size><Owner><ID>x</ID></Owner></Contents>"
                          "<EncodingType>url</EncodingType><NextContinuationToken>to+ken%2B</NextContinuationToken>"
                          "<CommonPrefixes><Prefix>x</Prefix></CommonPrefixes></ListBucketResult>",
                          &seen, &page, NULL), 0);
    assert_int_equal(seen.count, 1);
    assert_string_equal(seen.last.key, "p/a b+c\xc3\xa4"); /* the encoding is told behind the key */
    assert_string_equal(seen.last.etag, "abc");
    assert_int_equal(seen.last.size, 42);
    assert_int_equal(seen.last.time_ms, 1796058000500);
    assert_true(page.truncated);
    assert_int_equal(page.count, 1);
    assert_string_equal(page.next, "to+ken%2B"); /* a token is never decoded */
    memset(&seen, 0, sizeof seen);
    assert_int_equal(list("<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a+b%2B</Key></Contents></ListBucketResult>",
                          &seen, &page, NULL), 0);
    assert_string_equal(seen.last.key, "a+b%2B"); /* not said to be encoded */
    memset(&seen, 0, sizeof seen);
    assert_int_equal(list("<ListMultipartUploadsResult" NS "><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
                          "<NextKeyMarker>k%20</NextKeyMarker><NextUploadIdMarker>id%</NextUploadIdMarker><Upload><Key>k%20</Key>"
                          "<UploadId>id%</UploadId><Initiated>2026-11-30T17:00:00Z</Initiated></Upload></ListMultipartUploadsResult>",
                          &seen, &page, NULL), 0);
    assert_string_equal(seen.last.upload_id, "id%");
    struct seen versions = {0};
    assert_int_equal(list("<ListVersionsResult" NS "><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextKeyMarker>k%21"
                          "</NextKeyMarker><NextVersionIdMarker>v2</NextVersionIdMarker><Version><Key>k%20</Key><VersionId>v1</VersionId>"
                          "<IsLatest>false</IsLatest><Size>3</Size></Version><DeleteMarker><Key>k%21</Key><VersionId>v2</VersionId>"
                          "<IsLatest>true</IsLatest></DeleteMarker></ListVersionsResult>", &versions, &page, NULL), 0);
    assert_int_equal(versions.count, 2);
    assert_true(versions.last.is_marker && versions.last.is_latest);
    assert_string_equal(versions.last.version, "v2");
    assert_string_equal(page.next, "k!");
    assert_string_equal(page.next_upload, "v2");
    assert_int_equal(list("<ListVersionsResult><Version><Key>k</Key></Version></ListVersionsResult>", &versions, &page, NULL), FAR_CORRUPT);
    assert_int_equal(list("<ListMultipartUploadsResult" NS "><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
                          "<NextKeyMarker>k%20</NextKeyMarker><NextUploadIdMarker>id%</NextUploadIdMarker><Upload><Key>k%20</Key>"
                          "<UploadId>id%</UploadId></Upload></ListMultipartUploadsResult>", &seen, &page, NULL), 0);
    assert_string_equal(page.next, "k ");
    assert_string_equal(page.next_upload, "id%");
}

static void what_a_caller_answers_ends_the_page(void **state)
{
    struct seen seen = {.answer = FAR_CONFLICT};
    struct far_s3_page page;
    struct far_error err;
    assert_int_equal(list("<ListBucketResult><Contents><Key>a</Key></Contents><Contents><Key>b</Key></Contents></ListBucketResult>", &seen,
                          &page, &err), FAR_CONFLICT);
    assert_int_equal(seen.count, 1);
    assert_string_equal(err.message, "as told");
}

static void no_page_that_cannot_be_gives_anything(void **state)
{
    static const char *const wrong[] = {
        "", "x", "<ListBucketResult>", "<Other/>", "<ListBucketResult/><ListBucketResult/>",
        "<ListBucketResult><Contents><Key>a</Key></Contents>", /* cut */
        "<ListBucketResult><Contents><Key>a</Key></Contents><Contents></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>1x</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>99999999999999999999</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><LastModified>yesterday</LastModified></Contents></ListBucketResult>",
        "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>%zz</Key></Contents></ListBucketResult>",
        "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>a%00b</Key></Contents></ListBucketResult>",
        "<ListBucketResult><EncodingType>rot13</EncodingType><Contents><Key>a</Key></Contents></ListBucketResult>",
        "<ListBucketResult><IsTruncated>perhaps</IsTruncated></ListBucketResult>",
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", /* goes on nowhere */
        "<ListMultipartUploadsResult><Upload><Key>a</Key></Upload></ListMultipartUploadsResult>",
        "<!DOCTYPE a [<!ENTITY e \"b\">]><ListBucketResult><Contents><Key>&e;</Key></Contents></ListBucketResult>",
        "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a&#0;</Key></Contents></ListBucketResult>",
        "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a/></a></a></a></a></a></a></a></a></a></a></a></a></a></a></a></a>",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct seen seen = {0};
        struct far_s3_page page = {.count = 77};
        struct far_error err = {0};
        if (list(wrong[i], &seen, &page, &err) != FAR_CORRUPT || seen.count != 0 || page.count != 77) {
            fail_msg("%s: %zu seen, %s", wrong[i], seen.count, err.message);
        }
    }
}

static void a_value_that_is_too_long_is_refused_without_reading_on(void **state)
{
    struct seen seen = {0};
    struct far_s3_page page;
    struct far_error err;
    struct far_buf xml;
    far_buf_init(&xml, FAR_S3_XML_MAX + 1024);
    assert_int_equal(far_buf_append_str(&xml, "<ListBucketResult><Contents><Key>"), 0);
    memset(far_buf_reserve(&xml, FAR_S3_TEXT_MAX), 'k', FAR_S3_TEXT_MAX);
    xml.len += FAR_S3_TEXT_MAX;
    assert_int_equal(far_buf_append_str(&xml, "</Key></Contents></ListBucketResult>"), 0);
    assert_int_equal(far_s3_xml_list(far_buf_slice(&xml), note, &seen, &page, &err), FAR_CORRUPT);
    assert_non_null(strstr(err.message, "too long"));
    size_t more = FAR_S3_XML_MAX + 1 - xml.len;
    memset(far_buf_reserve(&xml, more), ' ', more);
    xml.len += more;
    assert_int_equal(far_s3_xml_list(far_buf_slice(&xml), note, &seen, &page, &err), FAR_CORRUPT);
    far_buf_done(&xml);
}

static void faults_are_words_for_people(void **state)
{
    struct far_s3_fault fault;
    /* a control character is no XML */
    assert_false(far_s3_xml_fault(far_slice_str("<Error><Code>NoSuchKey</Code><Message>\x01</Message></Error>"), &fault));
    assert_true(far_s3_xml_fault(far_slice_str("<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code>"
                                               "<Message>is\n g\xc3\xb6ne</Message><StringToSign>x</StringToSign></Error>"), &fault));
    assert_string_equal(fault.code, "NoSuchKey");
    assert_string_equal(fault.message, "is? g??ne");
    assert_false(far_s3_xml_fault(far_slice_str("<html><Code>x</Code></html>"), &fault));
    assert_string_equal(fault.code, "");
    char id[8];
    assert_int_equal(far_s3_xml_value(far_slice_str("<R><Id>abc</Id></R>"), "R", "Id", id, sizeof id, NULL), 0);
    assert_string_equal(id, "abc");
    static const char *const wrong[] = {"<R/>", "<R><Id/></R>", "<R><Id>12345678</Id></R>", "<R><Id>a</Id><Id>b</Id></R>",
                                        "<S><Id>a</Id></S>", "<R><X><Id>a</Id></X></R>"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(far_s3_xml_value(far_slice_str(wrong[i]), "R", "Id", id, sizeof id, NULL), FAR_CORRUPT);
    }
}

/* ---- heads and verdicts ---- */

static void take(struct far_s3_answer *answer, const char *line)
{
    far_s3_take_header(answer, line, strlen(line));
}

static void heads_tell_what_they_can(void **state)
{
    struct far_s3_answer answer = {0};
    take(&answer, "HTTP/1.1 206 Partial Content\r\n");
    take(&answer, "ETag: \"0af\"\r\n");
    take(&answer, "content-length: 10\r\n");
    take(&answer, "Content-Range: bytes 5-14/100\r\n");
    take(&answer, "x-amz-version-id:v1\r\n");
    take(&answer, "Last-Modified: Mon, 30 Nov 2026 17:00:00 GMT\r\n");
    take(&answer, "x-amz-object-lock-retain-until-date: 2026-11-30T17:00:00.000Z\r\n");
    take(&answer, "Retry-After: 3\r\n");
    assert_string_equal(answer.object.etag, "0af");
    assert_string_equal(answer.object.version, "v1");
    assert_int_equal(answer.object.size, 100);
    assert_int_equal(answer.length, 10);
    assert_true(answer.has_range);
    assert_int_equal(answer.range_last, 14);
    assert_int_equal(answer.object.modified_ms, 1796058000000);
    assert_int_equal(answer.object.retain_until_ms, 1796058000000);
    assert_int_equal(answer.retry_after_ms, 3000);
    take(&answer, "HTTP/1.1 200 OK\r\n");
    assert_false(answer.has_range);
    take(&answer, "content-length: -1\r\n");
    take(&answer, "Content-Range: bytes 5-4/100\r\n");
    take(&answer, "Content-Range: bytes 5-100/100\r\n");
    take(&answer, "x-amz-version-id: null\r\n");
    take(&answer, "no colon\r\n");
    take(&answer, "etag: 0123456789012345678901234567890123456789012345678901234567890123456789012\r\n");
    assert_false(answer.has_length || answer.has_range);
    assert_string_equal(answer.object.version, "");
    assert_string_equal(answer.object.etag, "");
}

static int judge(long status, const char *body, const char *root, struct far_s3_verdict *verdict, struct far_error *err)
{
    struct far_s3_answer answer = {.status = status};
    memset(verdict, 0, sizeof *verdict);
    far_buf_init(&answer.body, 4096);
    assert_int_equal(far_buf_append_str(&answer.body, body), 0);
    int rc = far_s3_judge(root, &answer, verdict, err);
    far_s3_answer_done(&answer);
    return rc;
}

#define FAULT(code) "<Error><Code>" code "</Code><Message>words</Message></Error>"

static void answers_mean_what_the_header_says(void **state)
{
    static const struct {
        long status;
        const char *body;
        const char *root;
        int klass;
        bool again;
    } cases[] = {
        {200, "", NULL, 0, false},
        {204, "", NULL, 0, false},
        {200, FAULT("InternalError"), "CompleteMultipartUploadResult", FAR_BUSY, true}, /* 200 with an error in the body */
        {200, FAULT("NoSuchUpload"), "CompleteMultipartUploadResult", FAR_NOT_FOUND, false},
        {200, FAULT("InternalError"), NULL, 0, false}, /* an object with such bytes */
        {404, "", NULL, FAR_NOT_FOUND, false},
        {404, FAULT("NoSuchBucket"), NULL, FAR_NOT_FOUND, false},
        {403, FAULT("AccessDenied"), NULL, FAR_DENIED, false},
        {403, "", NULL, FAR_DENIED, false},
        {400, FAULT("ExpiredToken"), NULL, FAR_DENIED, false},
        {400, FAULT("InvalidRequest"), NULL, FAR_INVALID, false},
        {400, "<Error><Code>InvalidRequest</Code><Message>Object is WORM protected</Message></Error>", NULL, FAR_DENIED, false},
        {400, FAULT("RequestTimeout"), NULL, FAR_BUSY, true},
        {400, FAULT("BadDigest"), NULL, FAR_BUSY, true},
        {409, FAULT("ConditionalRequestConflict"), NULL, FAR_BUSY, true},
        {412, FAULT("PreconditionFailed"), NULL, FAR_CONFLICT, false},
        {416, FAULT("InvalidRange"), NULL, FAR_CORRUPT, false},
        {429, "<html>", NULL, FAR_BUSY, true},
        {500, "", NULL, FAR_BUSY, true},
        {501, FAULT("NotImplemented"), NULL, FAR_INVALID, false},
        {502, "", NULL, FAR_BUSY, true},
        {503, FAULT("SlowDown"), NULL, FAR_BUSY, true},
        {504, "", NULL, FAR_BUSY, true},
        {507, "", NULL, FAR_LIMIT, false},
        {301, FAULT("PermanentRedirect"), NULL, FAR_INVALID, false},
        {307, "", NULL, FAR_INVALID, false},
        {418, "", NULL, FAR_INVALID, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct far_s3_verdict verdict;
        struct far_error err = {0};
        int rc = judge(cases[i].status, cases[i].body, cases[i].root, &verdict, &err);
        if (rc != cases[i].klass || verdict.again != cases[i].again) {
            fail_msg("%ld %s: %d %d %s", cases[i].status, cases[i].body, rc, verdict.again, err.message);
        }
    }
}

static void a_broken_connection_may_have_done_it_and_a_refused_one_not(void **state)
{
    struct far_s3_answer answer = {0};
    struct far_s3_verdict verdict = {0};
    struct far_error err;
    assert_int_equal(far_s3_judge_transport(CURLE_COULDNT_CONNECT, false, "refused", &answer, &verdict, &err), FAR_BUSY);
    assert_true(verdict.again && !verdict.maybe_done);
    assert_int_equal(far_s3_judge_transport(CURLE_RECV_ERROR, false, "reset", &answer, &verdict, &err), FAR_BUSY);
    assert_true(verdict.again && verdict.maybe_done);
    memset(&verdict, 0, sizeof verdict);
    assert_int_equal(far_s3_judge_transport(CURLE_PEER_FAILED_VERIFICATION, false, "self-signed", &answer, &verdict, &err), FAR_DENIED);
    assert_int_equal(far_s3_judge_transport(CURLE_WEIRD_SERVER_REPLY, false, "", &answer, &verdict, &err), FAR_CORRUPT);
    assert_false(verdict.again);
}

/* ---- endpoints and keys ---- */

static void endpoints_are_https_or_this_machine(void **state)
{
    static const struct {
        const char *endpoint;
        const char *authority; /* NULL: refused */
    } cases[] = {
        {"https://store.example.com", "store.example.com"},
        {"https://store.example.com/", "store.example.com"},
        {"https://store.example.com:9000", "store.example.com:9000"},
        {"https://store.example.com:443", "store.example.com"},
        {"https://[2001:db8::1]:9000", "[2001:db8::1]:9000"},
        {"http://127.0.0.1:9000", "127.0.0.1:9000"},
        {"http://[::1]", "[::1]"},
        {"http://localhost:1", "localhost:1"},
        {"http://store.example.com", NULL},
        {"http://127.0.0.1.example.com", NULL},
        {"http://127.0.0.256", NULL},
        {"http://localhost.example.com", NULL},
        {"ftp://store.example.com", NULL},
        {"file:///etc/passwd", NULL},
        {"store.example.com", NULL},
        {"https://user:word@store.example.com", NULL},
        {"https://store.example.com/path", NULL},
        {"https://store.example.com?x=y", NULL},
        {"https://store.example.com#x", NULL},
        {"https://", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char authority[256] = "";
        bool tls;
        struct far_error err = {0};
        int rc = far_objects_endpoint(cases[i].endpoint, authority, &tls, &err);
        const char *wanted = cases[i].authority == NULL ? "" : cases[i].authority;
        if (rc != (cases[i].authority == NULL ? FAR_INVALID : 0) || strcmp(authority, wanted) != 0) {
            fail_msg("%s: %d '%s' %s", cases[i].endpoint, rc, authority, err.message);
        }
        assert_null(strstr(err.message, "word@"));
    }
}

static void keys_are_bounded_and_go_nowhere_else(void **state)
{
    static const char *const good[] = {"a", "a/b", "a//b", "..a/b..", "a b", "\xc3\xa4"};
    static const char *const wrong[] = {"", "/a", ".", "..", "a/../b", "a/.", "./a", "a/.."};
    char long_key[FAR_OBJECT_KEY_MAX + 2];
    memset(long_key, 'k', sizeof long_key - 1);
    long_key[sizeof long_key - 1] = '\0';
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(far_s3_key_check(good[i], NULL), 0);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(far_s3_key_check(wrong[i], NULL), FAR_INVALID);
    }
    assert_int_equal(far_s3_key_check(long_key, NULL), FAR_INVALID);
    long_key[FAR_OBJECT_KEY_MAX] = '\0';
    assert_int_equal(far_s3_key_check(long_key, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_gives_its_objects_and_where_it_goes_on),
        cmocka_unit_test(what_a_caller_answers_ends_the_page),
        cmocka_unit_test(no_page_that_cannot_be_gives_anything),
        cmocka_unit_test(a_value_that_is_too_long_is_refused_without_reading_on),
        cmocka_unit_test(faults_are_words_for_people),
        cmocka_unit_test(heads_tell_what_they_can),
        cmocka_unit_test(answers_mean_what_the_header_says),
        cmocka_unit_test(a_broken_connection_may_have_done_it_and_a_refused_one_not),
        cmocka_unit_test(endpoints_are_https_or_this_machine),
        cmocka_unit_test(keys_are_bounded_and_go_nowhere_else),
    };
    return cmocka_run_group_tests_name("object_answers", tests, NULL, NULL);
}
