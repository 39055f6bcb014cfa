/* Trust from a key of then to a head of now: it follows what majorities signed, and nothing else moves it. */
#include "../lib/cm.h"

#include "base/buf.h"
#include "client/trust.h"

#include <openssl/evp.h>
#include <string.h>

enum { SERVERS = 8 };

static const char uuid[] = "000102030405060708090a0b0c0d0e0f";
static EVP_PKEY *keys[SERVERS];
static char hex[SERVERS][2 * TRUST_KEY + 1]; /* the public halves */
static struct trust trust;

static int make_keys(void **unused)
{
    for (int i = 0; i < SERVERS; i++) {
        uint8_t private[32], public[TRUST_KEY];
        size_t len = sizeof public;
        memset(private, i + 1, sizeof private);
        keys[i] = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private, sizeof private);
        assert_int_equal(EVP_PKEY_get_raw_public_key(keys[i], public, &len), 1);
        far_hex_encode(public, sizeof public, hex[i]);
    }
    return 0;
}

static int free_keys(void **unused)
{
    for (int i = 0; i < SERVERS; i++) {
        EVP_PKEY_free(keys[i]);
    }
    return 0;
}

/* voters: digits of servers, each with the key of its number. */
static json_t *head_of(int seq, int incarnation, const char *voters)
{
    json_t *list = json_array();
    for (; *voters != '\0'; voters++) {
        json_array_append_new(list, json_pack("{s:i, s:s}", "server_id", *voters - '0', "public_key", hex[*voters - '0']));
    }
    return json_pack("{s:i, s:i, s:s, s:o}", "seq", seq, "incarnation_epoch", incarnation, "head",
                     "1111111111111111111111111111111111111111111111111111111111111111", "voters", list);
}

static void tell(const char *kind, json_t *data)
{
    json_t *event = json_pack("{s:s, s:o}", "kind", kind, "data", data);
    trust_event(&trust, event);
    json_decref(event);
}

/* server says that it signed; with the key of `with`. */
static void sign_with(int seq, int incarnation, const char *voters, int server, int with)
{
    json_t *head = head_of(seq, incarnation, voters);
    struct head_message message;
    uint8_t signature[TRUST_SIGNATURE];
    char text[2 * TRUST_SIGNATURE + 1];
    size_t len = sizeof signature;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    assert_true(head_message_make(head, uuid, &message));
    assert_int_equal(EVP_DigestSignInit(context, NULL, NULL, NULL, keys[with]), 1);
    assert_int_equal(EVP_DigestSign(context, signature, &len, message.bytes, message.len), 1);
    EVP_MD_CTX_free(context);
    json_decref(head);
    far_hex_encode(signature, sizeof signature, text);
    tell("head_signed", json_pack("{s:i, s:i, s:s}", "server_id", server, "seq", seq, "signature", text));
}

/* A head with these voters, and these of them sign it. */
static void head(int seq, int incarnation, const char *voters, const char *signers)
{
    tell("head_proposed", head_of(seq, incarnation, voters));
    for (; *signers != '\0'; signers++) {
        sign_with(seq, incarnation, voters, *signers - '0', *signers - '0');
    }
}

static void begin(int key)
{
    assert_int_equal(trust_init(&trust, uuid, hex[key], NULL), 0);
}

/* Does it lead to a head of these voters, signed by all of them? */
static bool leads_to(int incarnation, const char *voters)
{
    json_t *json = head_of(1000, incarnation, voters);
    struct head_message message;
    bool all[TRUST_VOTERS_MAX] = {false};
    assert_true(head_message_make(json, uuid, &message));
    memset(all, true, message.voters);
    json_decref(json);
    return trust_leads_to(&trust, &message, all);
}

static void it_follows_servers_that_are_replaced_one_by_one(void **unused)
{
    begin(1);
    assert_true(leads_to(1, "123")); /* its own word, with a majority */
    head(10, 1, "123", "123");
    head(20, 1, "234", "234");
    assert_true(leads_to(1, "234"));
    head(30, 1, "345", "345");
    head(40, 1, "3456", "456");
    head(50, 1, "456", "456");
    assert_true(leads_to(1, "456"));
    assert_false(leads_to(1, "127"));
    assert_true(trust.lost_seq <= head_message_seq(&trust.newest));
    begin(4); /* a key that came in between */
    head(10, 1, "123", "123");
    head(20, 1, "234", "234");
    assert_true(leads_to(1, "234"));
}

static void a_majority_that_nobody_trusts_moves_nothing(void **unused)
{
    begin(1);
    head(10, 1, "123", "23"); /* the known key has not signed */
    assert_false(trust.is_begun);
    sign_with(10, 1, "123", 1, 1);
    assert_true(trust.is_begun);
    head(20, 1, "567", "567");
    assert_false(leads_to(1, "567"));
    assert_int_equal(trust.lost_seq, 20);
    head(30, 1, "156", "156"); /* one of three trusted, though the known one */
    assert_false(leads_to(1, "156"));
    head(40, 1, "125", "15"); /* a majority of its own, not of those that are trusted */
    assert_false(leads_to(1, "257"));
    assert_true(leads_to(1, "125")); /* all of them have signed */
}

static void a_signature_that_is_not_right_counts_for_nobody(void **unused)
{
    begin(1);
    tell("head_proposed", head_of(10, 1, "123"));
    sign_with(10, 1, "123", 1, 1);
    sign_with(10, 1, "123", 2, 5);
    sign_with(10, 1, "124", 3, 3); /* of another message */
    sign_with(10, 1, "123", 7, 7);
    tell("head_signed", json_pack("{s:i, s:i}", "server_id", 2, "seq", 10));
    tell("head_signed", json_pack("{s:i, s:i, s:s}", "server_id", 2, "seq", 11, "signature", "00"));
    tell("head_proposed", json_pack("{s:i}", "seq", 12));
    tell("site_created", json_null());
    trust_event(&trust, NULL);
    assert_false(trust.is_begun);
    sign_with(10, 1, "123", 2, 2);
    assert_true(trust.is_begun);
}

/* A server cannot lead the trust back by telling heads of before once more. */
static void older_heads_do_not_come_back(void **unused)
{
    begin(1);
    head(10, 1, "123", "123");
    head(20, 1, "234", "234");
    head(30, 1, "345", "345");
    head(20, 1, "234", "234");
    assert_true(leads_to(1, "345"));
    assert_false(leads_to(1, "127"));
}

static void a_new_incarnation_is_begun_by_the_known_key_only(void **unused)
{
    begin(1);
    head(10, 1, "123", "123");
    assert_false(leads_to(2, "3"));
    assert_true(leads_to(2, "1"));
    head(20, 2, "1", "1");
    assert_true(leads_to(2, "1"));
    begin(3);
    head(10, 1, "123", "12");
    head(20, 2, "3", "3"); /* what the recovery printed */
    head(30, 2, "34", "34");
    assert_true(leads_to(2, "34"));
    assert_int_equal(trust_init(&trust, uuid, "12", NULL), FAR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_follows_servers_that_are_replaced_one_by_one),
        cmocka_unit_test(a_majority_that_nobody_trusts_moves_nothing),
        cmocka_unit_test(a_signature_that_is_not_right_counts_for_nobody),
        cmocka_unit_test(older_heads_do_not_come_back),
        cmocka_unit_test(a_new_incarnation_is_begun_by_the_known_key_only),
    };
    return cmocka_run_group_tests_name("trust", tests, make_keys, free_keys);
}
