/* net/enroll.h: the answer to a join is checked field by field. */
#include "../lib/cm.h"
#include "net/enroll.h"

#include <stdio.h>
#include <string.h>

#define UUID "00112233445566778899aabbccddeeff"
#define REST "\"certificate\":\"c\",\"ca_certificate\":\"d\",\"servers\":[{\"id\":1,\"address\":\"a:1\"}]}"

static int parse(const char *json, struct far_enrolment *ret)
{
    struct far_error err;
    return far_enroll_parse(json, strlen(json), ret, &err);
}

static void a_good_answer_is_taken_whole(void **unused)
{
    struct far_enrolment e;
    assert_int_equal(
        parse("{\"id\":5,\"cluster\":\"north\",\"cluster_uuid\":\"" UUID "\",\"incarnation_epoch\":2," REST, &e), 0);
    assert_int_equal(e.id, 5);
    assert_int_equal(e.incarnation_epoch, 2);
    assert_string_equal(e.cluster, "north");
    assert_int_equal(e.cluster_uuid[15], 0xff);
    assert_int_equal(e.server_count, 1);
    assert_string_equal(e.servers[0].address, "a:1");
    far_enroll_done(&e);
}

static void an_answer_with_anything_wrong_is_refused(void **unused)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{",
        "{\"id\":0,\"cluster\":\"n\",\"cluster_uuid\":\"" UUID "\",\"incarnation_epoch\":2," REST,
        "{\"id\":-1,\"cluster\":\"n\",\"cluster_uuid\":\"" UUID "\",\"incarnation_epoch\":2," REST,
        "{\"id\":5,\"cluster\":7,\"cluster_uuid\":\"" UUID "\",\"incarnation_epoch\":2," REST,
        "{\"id\":5,\"cluster\":\"n\",\"cluster_uuid\":\"00\",\"incarnation_epoch\":2," REST,
        "{\"id\":5,\"id\":6,\"cluster\":\"n\",\"cluster_uuid\":\"" UUID "\",\"incarnation_epoch\":2," REST,
        "{\"id\":5,\"cluster\":\"n\",\"cluster_uuid\":\"" UUID "\",\"incarnation_epoch\":2,\"servers\":[]}",
        "{\"id\":5,\"cluster\":\"n\",\"cluster_uuid\":\"" UUID "\",\"incarnation_epoch\":2,\"certificate\":\"c\","
        "\"ca_certificate\":\"d\",\"servers\":[{\"id\":0,\"address\":\"a:1\"}]}",
    };
    struct far_enrolment e;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse(bad[i], &e), FAR_INVALID);
    }
}

static void more_servers_than_a_cluster_has_are_refused(void **unused)
{
    char json[4096] = "{\"id\":5,\"cluster\":\"n\",\"cluster_uuid\":\"" UUID "\",\"incarnation_epoch\":2,"
                      "\"certificate\":\"c\",\"ca_certificate\":\"d\",\"servers\":[";
    for (int i = 1; i <= FAR_ENROLL_SERVERS_MAX + 1; i++) {
        size_t len = strlen(json);
        snprintf(json + len, sizeof json - len, "%s{\"id\":%d,\"address\":\"a:1\"}", i == 1 ? "" : ",", i);
    }
    strcat(json, "]}");
    struct far_enrolment e;
    assert_int_equal(parse(json, &e), FAR_INVALID);
}

#define LIFE(epoch) "{\"epoch\":" epoch ",\"uuid\":\"" UUID "\",\"parent_seq\":9,\"parent_head\":\"" UUID UUID "\"," \
                    "\"sure_seq\":8,\"sure_head\":\"" UUID UUID "\"}"

/* Without any, as a server of 0.1.0 answers, it is the first. */
static void the_lives_of_a_cluster_are_read(void **state)
{
    struct far_enrolment e;
    assert_int_equal(parse("{\"id\":5,\"cluster\":\"n\",\"cluster_uuid\":\"" UUID "\",\"incarnation_epoch\":3,"
                           "\"incarnations\":[" LIFE("2") "," LIFE("3") "]," REST, &e), 0);
    assert_int_equal(e.incarnation_count, 2);
    assert_int_equal(e.incarnations[1].epoch, 3);
    assert_int_equal(e.incarnations[1].parent_seq, 9);
    assert_int_equal(e.incarnations[1].sure_seq, 8);
    far_enroll_done(&e);
    static const char *const bad[] = {
        "{\"id\":5,\"cluster\":\"n\",\"cluster_uuid\":\"" UUID "\",\"incarnation_epoch\":3,\"incarnations\":[7]," REST,
        "{\"id\":5,\"cluster\":\"n\",\"cluster_uuid\":\"" UUID "\",\"incarnation_epoch\":3,\"incarnations\":["
        LIFE("1") "]," REST,
    };
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(parse(bad[i], &e), FAR_INVALID);
    }
}

static void a_trial_says_which_life_of_which_cluster_answered(void **unused)
{
    static const char *const bad[] = {"", "[]", "{}", "{\"cluster_uuid\":\"" UUID "\"}", "{\"incarnation_epoch\":2}",
                                      "{\"cluster_uuid\":\"" UUID "\",\"incarnation_epoch\":0}",
                                      "{\"cluster_uuid\":\"" UUID "\",\"incarnation_epoch\":-2}",
                                      "{\"cluster_uuid\":\"00\",\"incarnation_epoch\":2}",
                                      "{\"cluster_uuid\":\"" UUID "\",\"incarnation_epoch\":\"2\"}"};
    static const char good[] = "{\"dry_run\":true,\"cluster_uuid\":\"" UUID "\",\"incarnation_epoch\":2}";
    struct far_enroll_cluster cluster = {.incarnation_epoch = 7};
    struct far_error err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(far_enroll_parse_cluster(bad[i], strlen(bad[i]), &cluster, &err), FAR_INVALID);
    }
    assert_int_equal(cluster.incarnation_epoch, 7);
    assert_int_equal(far_enroll_parse_cluster(good, strlen(good), &cluster, &err), 0);
    assert_int_equal(cluster.incarnation_epoch, 2);
    assert_int_equal(cluster.uuid[15], 0xff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trial_says_which_life_of_which_cluster_answered),
        cmocka_unit_test(the_lives_of_a_cluster_are_read),
        cmocka_unit_test(a_good_answer_is_taken_whole),
        cmocka_unit_test(an_answer_with_anything_wrong_is_refused),
        cmocka_unit_test(more_servers_than_a_cluster_has_are_refused),
    };
    return cmocka_run_group_tests_name("enroll", tests, NULL, NULL);
}
