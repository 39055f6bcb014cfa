/* Signature Version 4: the published vectors (the signing test suite of AWS, and the examples in the reference of the S3 API), and the
 * encoding of names. */
#include "objects/sigv4.h"
#include "../lib/cm.h"

#include <stdio.h>

#define EMPTY_SHA "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define FORM_SHA "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e"
#define ALL_PLAIN "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define TOKEN "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"

struct vector {
    const char *name;
    const char *method;
    const char *path; /* not encoded */
    struct far_sigv4_pair query[4];
    struct far_sigv4_pair headers[5]; /* beside host and x-amz-date */
    const char *payload_sha256;       /* NULL: of nothing */
    const char *signature;
};

/* Of the suite: those that say what S3 does, too (paths as they are, not normalized). */
static const struct vector suite[] = {
    {"get-vanilla", "GET", "/", {{0}}, {{0}}, NULL, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
    {"get-header-key-duplicate", "GET", "/", {{0}}, {{"my-header1", "value2"}, {"my-header1", "value2"}, {"my-header1", "value1"}}, NULL,
     "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
    {"get-header-value-multiline", "GET", "/", {{0}}, {{"my-header1", "value1\n  value2\n     value3"}}, NULL,
     "cfd34249e4b1c8d6b91ef74165d41a32e5fab3306300901bb65a51a73575eefd"},
    {"get-header-value-order", "GET", "/", {{0}},
     {{"my-header1", "value4"}, {"my-header1", "value1"}, {"my-header1", "value3"}, {"my-header1", "value2"}}, NULL,
     "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"},
    {"get-header-value-trim", "GET", "/", {{0}}, {{"my-header1", " value1"}, {"my-header2", " \"a   b   c\""}}, NULL,
     "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
    {"get-relative-relative-unnormalized", "GET", "/example1/example2/../..", {{0}}, {{0}}, NULL,
     "dc33e0856fd4baca4d7aa2146c38958283844764f38c74252a333df5e613003b"},
    {"get-slash-dot-slash-unnormalized", "GET", "/./", {{0}}, {{0}}, NULL,
     "68714168e6557f8f2de0ef956fc24dc2593a4bd2961f8df51898d8a134695145"},
    {"get-slashes-unnormalized", "GET", "//example//", {{0}}, {{0}}, NULL,
     "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5"},
    {"get-space-unnormalized", "GET", "/example space/", {{0}}, {{0}}, NULL,
     "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"},
    {"get-unreserved", "GET", "/" ALL_PLAIN, {{0}}, {{0}}, NULL, "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
    {"get-utf8", "GET", "/\xe1\x88\xb4", {{0}}, {{0}}, NULL, "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
    {"get-vanilla-empty-query-key", "GET", "/", {{"Param1", "value1"}}, {{0}}, NULL,
     "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"},
    {"get-vanilla-query-order-encoded", "GET", "/", {{"Param-3", "Value3"}, {"Param", "Value2"}, {"\xe1\x88\xb4", "Value1"}}, {{0}}, NULL,
     "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"},
    {"get-vanilla-query-order-key-case", "GET", "/", {{"Param2", "value2"}, {"Param1", "value1"}}, {{0}}, NULL,
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
    {"get-vanilla-query-unreserved", "GET", "/", {{ALL_PLAIN, ALL_PLAIN}}, {{0}}, NULL,
     "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
    {"get-vanilla-utf8-query", "GET", "/", {{"\xe1\x88\xb4", "bar"}}, {{0}}, NULL,
     "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
    {"get-vanilla-with-session-token", "GET", "/", {{0}}, {{"x-amz-security-token", TOKEN}}, NULL,
     "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"},
    {"post-header-value-case", "POST", "/", {{0}}, {{"my-header1", "VALUE1"}}, NULL,
     "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"},
    {"post-vanilla", "POST", "/", {{0}}, {{0}}, NULL, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
    {"post-vanilla-query", "POST", "/", {{"Param1", "value1"}}, {{0}}, NULL,
     "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
    {"post-x-www-form-urlencoded", "POST", "/", {{0}},
     {{"content-type", "application/x-www-form-urlencoded"}, {"content-length", "13"}, {"x-amz-content-sha256", FORM_SHA}}, FORM_SHA,
     "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b"},
};

/* "Examples: signature calculations" of the S3 API. */
static const struct vector s3_examples[] = {
    {"get object", "GET", "/test.txt", {{0}}, {{"range", "bytes=0-9"}, {"x-amz-content-sha256", EMPTY_SHA}}, NULL,
     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
    {"put object", "PUT", "/test$file.text", {{0}},
     {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
      {"x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"},
      {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
     "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
    {"get bucket lifecycle", "GET", "/", {{"lifecycle", ""}}, {{"x-amz-content-sha256", EMPTY_SHA}}, NULL,
     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
    {"list objects", "GET", "/", {{"prefix", "J"}, {"max-keys", "2"}}, {{"x-amz-content-sha256", EMPTY_SHA}}, NULL,
     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
};

static void check_vector(const struct vector *vector, struct far_sigv4_request *request, const char *host)
{
    struct far_sigv4_pair headers[8] = {{"host", host}, {"x-amz-date", request->time}};
    struct far_buf path, out;
    struct far_error err = {0};
    size_t query_count = 0, header_count = 0;
    while (query_count < 4 && vector->query[query_count].name != NULL) {
        query_count++;
    }
    for (; header_count < 5 && vector->headers[header_count].name != NULL; header_count++) {
        headers[2 + header_count] = vector->headers[header_count];
    }
    far_buf_init(&path, 4096);
    far_buf_init(&out, 4096);
    assert_int_equal(far_uri_encode(&path, far_slice_str(vector->path), true), 0);
    assert_int_equal(far_buf_append(&path, "", 1), 0);
    request->method = vector->method;
    request->path = (const char *)path.data;
    request->query = vector->query;
    request->query_count = query_count;
    request->headers = headers;
    request->header_count = 2 + header_count;
    request->payload_sha256 = vector->payload_sha256 != NULL ? vector->payload_sha256 : EMPTY_SHA;
    assert_int_equal(far_sigv4_authorize(request, &out, &err), 0);
    assert_int_equal(far_buf_append(&out, "", 1), 0);
    const char *signature = strstr((const char *)out.data, "Signature=");
    assert_non_null(signature);
    if (strcmp(signature + strlen("Signature="), vector->signature) != 0) {
        fail_msg("%s: %s", vector->name, (const char *)out.data);
    }
    far_buf_done(&path);
    far_buf_done(&out);
}

static void signatures_are_those_of_the_published_vectors(void **state)
{
    struct far_sigv4_request request = {.access_key = "AKIDEXAMPLE", .secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                                        .region = "us-east-1", .service = "service", .time = "20150830T123600Z"};
    for (size_t i = 0; i < sizeof suite / sizeof *suite; i++) {
        check_vector(&suite[i], &request, "example.amazonaws.com");
    }
    struct far_sigv4_request s3 = {.access_key = "AKIAIOSFODNN7EXAMPLE", .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                                   .region = "us-east-1", .service = "s3", .time = "20130524T000000Z"};
    for (size_t i = 0; i < sizeof s3_examples / sizeof *s3_examples; i++) {
        check_vector(&s3_examples[i], &s3, "examplebucket.s3.amazonaws.com");
    }
}

static void the_authorization_names_who_signs_and_what_but_not_the_secret(void **state)
{
    static const struct far_sigv4_pair headers[] = {{"x-amz-date", "20150830T123600Z"}, {"host", "h"}};
    struct far_sigv4_request request = {.access_key = "AK", .secret_key = "SECRET-SECRET", .region = "r", .service = "s3",
                                        .time = "20150830T123600Z", .method = "GET", .path = "/", .headers = headers, .header_count = 2,
                                        .payload_sha256 = EMPTY_SHA};
    struct far_buf out;
    far_buf_init(&out, 4096);
    assert_int_equal(far_sigv4_authorize(&request, &out, NULL), 0);
    assert_int_equal(far_buf_append(&out, "", 1), 0);
    static const char begin[] = "AWS4-HMAC-SHA256 Credential=AK/20150830/r/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=";
    assert_memory_equal(out.data, begin, strlen(begin));
    assert_null(strstr((const char *)out.data, "SECRET"));
    far_buf_done(&out);
}

static void what_does_not_fit_is_an_error(void **state)
{
    static char long_key[400];
    memset(long_key, 'k', sizeof long_key - 1);
    struct far_sigv4_request request = {.access_key = "AK", .secret_key = long_key, .region = "r", .service = "s3",
                                        .time = "20150830T123600Z", .method = "GET", .path = "/", .payload_sha256 = EMPTY_SHA};
    struct far_error err = {0};
    struct far_buf out;
    far_buf_init(&out, 4096);
    assert_int_equal(far_sigv4_authorize(&request, &out, &err), FAR_INTERNAL);
    assert_null(strstr(err.message, "kkk"));
    request.secret_key = "k";
    request.header_count = FAR_SIGV4_PAIRS_MAX + 1;
    assert_int_equal(far_sigv4_authorize(&request, &out, &err), FAR_LIMIT);
    far_buf_done(&out);
    far_buf_init(&out, 5);
    assert_int_equal(far_uri_encode(&out, far_slice_str("a/b c"), true), FAR_LIMIT);
    far_buf_done(&out);
}

static void times_are_those_of_the_calendar(void **state)
{
    char text[FAR_SIGV4_TIME_MAX];
    assert_string_equal(far_sigv4_time(1440938160000, text), "20150830T123600Z");
    assert_string_equal(far_sigv4_time(0, text), "19700101T000000Z");
    assert_string_equal(far_sigv4_time(1709251199999, text), "20240229T235959Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signatures_are_those_of_the_published_vectors),
        cmocka_unit_test(the_authorization_names_who_signs_and_what_but_not_the_secret),
        cmocka_unit_test(what_does_not_fit_is_an_error),
        cmocka_unit_test(times_are_those_of_the_calendar),
    };
    return cmocka_run_group_tests_name("sigv4", tests, NULL, NULL);
}
