/* net/pki.h, net/join_token.h: keys, certificates, small files, join and API tokens. */
#include "../lib/cm.h"
#include "base/file.h"
#include "net/address.h"
#include "net/pki.h"
#include "net/join_token.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct material {
    struct far_buf ca_key, ca, key, request, certificate;
};

static int make(void **state)
{
    static struct material m;
    struct far_buf *const all[] = {&m.ca_key, &m.ca, &m.key, &m.request, &m.certificate};
    for (size_t i = 0; i < 5; i++) {
        far_buf_init(all[i], FAR_PKI_BYTES_MAX);
    }
    static const char *const hosts[] = {"127.0.0.1", "::1", "db.example.org"};
    struct far_error err;
    int rc = far_pki_key_make(&m.ca_key, &err) | far_pki_ca_make(far_buf_slice(&m.ca_key), "north", &m.ca, &err) |
             far_pki_key_make(&m.key, &err) | far_pki_request_make(far_buf_slice(&m.key), &m.request, &err) |
             far_pki_sign(far_buf_slice(&m.ca_key), far_buf_slice(&m.ca), far_buf_slice(&m.request),
                          (struct far_peer){FAR_PARTY_SERVER, 7}, hosts, 3, &m.certificate, &err);
    *state = &m;
    return rc;
}

static int unmake(void **state)
{
    struct material *m = *state;
    struct far_buf *const all[] = {&m->ca_key, &m->ca, &m->key, &m->request, &m->certificate};
    for (size_t i = 0; i < 5; i++) {
        far_secret_done(all[i]);
    }
    return 0;
}

static void signed_certificate_names_the_party_and_fits_its_key(void **state)
{
    struct material *m = *state;
    struct far_error err;
    struct far_peer seven = {FAR_PARTY_SERVER, 7};
    assert_int_equal(far_pki_check(far_buf_slice(&m->key), far_buf_slice(&m->certificate), far_buf_slice(&m->ca), seven,
                                   &err),
                     0);
    struct far_peer node = {FAR_PARTY_NODE, 7};
    assert_int_equal(far_pki_check(far_buf_slice(&m->key), far_buf_slice(&m->certificate), far_buf_slice(&m->ca), node,
                                   &err),
                     FAR_DENIED);
    assert_int_equal(far_pki_check(far_buf_slice(&m->ca_key), far_buf_slice(&m->certificate), far_buf_slice(&m->ca),
                                   seven, &err),
                     FAR_DENIED);
    struct far_buf other_key = {.max = FAR_PKI_BYTES_MAX};
    struct far_buf other_ca = {.max = FAR_PKI_BYTES_MAX};
    assert_int_equal(far_pki_key_make(&other_key, &err), 0);
    assert_int_equal(far_pki_ca_make(far_buf_slice(&other_key), "north", &other_ca, &err), 0);
    assert_int_equal(far_pki_check(far_buf_slice(&m->key), far_buf_slice(&m->certificate), far_buf_slice(&other_ca),
                                   seven, &err),
                     FAR_DENIED);
    far_secret_done(&other_key);
    far_buf_done(&other_ca);
}

static void ca_certificate_and_sealed_key_fit_the_state(void **state)
{
    struct material *m = *state;
    assert_true(m->ca.len <= 1400);
    assert_true(m->ca_key.len <= 1000);
}

static void request_that_was_altered_is_refused(void **state)
{
    struct material *m = *state;
    struct far_error err;
    struct far_buf out = {.max = FAR_PKI_BYTES_MAX};
    uint8_t copy[FAR_PKI_BYTES_MAX];
    for (size_t i = 0; i < m->request.len; i++) {
        memcpy(copy, m->request.data, m->request.len);
        copy[i] ^= 0x41;
        assert_int_equal(far_pki_sign(far_buf_slice(&m->ca_key), far_buf_slice(&m->ca), far_slice(copy, m->request.len),
                                      (struct far_peer){FAR_PARTY_NODE, 9}, NULL, 0, &out, &err),
                         FAR_INVALID);
        assert_int_equal(far_pki_sign(far_buf_slice(&m->ca_key), far_buf_slice(&m->ca), far_slice(copy, i),
                                      (struct far_peer){FAR_PARTY_NODE, 9}, NULL, 0, &out, &err),
                         FAR_INVALID);
    }
    assert_int_equal(out.len, 0);
    far_buf_done(&out);
}

static void host_names_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {"", "a b", "a,DNS:evil", "x\ny", "fe80::1%eth0", "a:b"};
    struct material *m = *state;
    struct far_error err;
    struct far_buf out = {.max = FAR_PKI_BYTES_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(far_pki_sign(far_buf_slice(&m->ca_key), far_buf_slice(&m->ca), far_buf_slice(&m->request),
                                      (struct far_peer){FAR_PARTY_NODE, 9}, &bad[i], 1, &out, &err),
                         FAR_INVALID);
    }
    const char *many[FAR_PKI_HOSTS_MAX + 1];
    for (size_t i = 0; i <= FAR_PKI_HOSTS_MAX; i++) {
        many[i] = "host";
    }
    assert_int_equal(far_pki_sign(far_buf_slice(&m->ca_key), far_buf_slice(&m->ca), far_buf_slice(&m->request),
                                  (struct far_peer){FAR_PARTY_NODE, 9}, many, FAR_PKI_HOSTS_MAX + 1, &out, &err),
                     FAR_INVALID);
    far_buf_done(&out);
}

static void pem_and_der_of_a_certificate_are_the_same(void **state)
{
    struct material *m = *state;
    struct far_error err;
    struct far_buf pem = {.max = FAR_PKI_BYTES_MAX};
    struct far_buf der = {.max = FAR_PKI_BYTES_MAX};
    assert_int_equal(far_pki_der_to_pem(far_buf_slice(&m->certificate), &pem, &err), 0);
    assert_int_equal(far_pki_pem_to_der(far_buf_slice(&pem), &der, &err), 0);
    assert_true(far_slice_equal(far_buf_slice(&der), far_buf_slice(&m->certificate)));
    assert_int_equal(far_pki_pem_to_der(far_slice_str("no certificate"), &der, &err), FAR_INVALID);
    far_buf_done(&pem);
    far_buf_done(&der);
}

static void peer_names_are_exact(void **unused)
{
    struct far_peer peer;
    char text[FAR_PEER_TEXT_MAX];
    static const char *const bad[] = {"", "server", "server:", "server:0", "server:01", "server:1x", "Server:1",
                                      "server:18446744073709551616", "node:-1", "node: 1", "nod:1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(far_peer_parse(bad[i], strlen(bad[i]), &peer));
    }
    assert_true(far_peer_parse("node:18446744073709551615", 25, &peer));
    assert_int_equal(peer.party, FAR_PARTY_NODE);
    far_peer_print(peer, text);
    assert_string_equal(text, "node:18446744073709551615");
}

static void files_are_written_whole_with_their_mode(void **unused)
{
    char dir[] = "/tmp/far-pki-XXXXXX";
    char path[64];
    struct far_error err;
    struct stat st;
    struct far_buf buf = {.max = 8};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/key", dir);
    assert_int_equal(far_file_read(path, &buf, &err), FAR_NOT_FOUND);
    assert_int_equal(far_file_replace(path, "first", 5, 0600, &err), 0);
    assert_int_equal(far_file_replace(path, "second", 6, 0600, &err), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(far_file_read(path, &buf, &err), 0);
    assert_true(far_slice_equal(far_buf_slice(&buf), far_slice_str("second")));
    assert_int_equal(far_file_read(path, &buf, &err), FAR_LIMIT);
    far_secret_done(&buf);
    unlink(path);
    rmdir(dir);
    assert_int_equal(far_file_replace(path, "x", 1, 0600, &err), FAR_IO);
}

static struct far_join_token sample_token(void)
{
    struct far_join_token token = {.address_count = 2};
    memset(token.ca_hash, 0x11, 32);
    memset(token.secret, 0x22, 32);
    strcpy(token.addresses[0], "a.example.org:5000");
    strcpy(token.addresses[1], "[2001:db8::1]:5000");
    return token;
}

static void join_token_survives_print_and_parse(void **unused)
{
    struct far_error err;
    struct far_join_token token = sample_token();
    struct far_join_token back;
    char text[FAR_JOIN_TOKEN_TEXT_MAX + 8] = "  ";
    assert_int_equal(far_join_token_print(&token, text + 2, &err), 0);
    strcat(text, "\r\n");
    assert_int_equal(far_join_token_parse(text, strlen(text), &back, &err), 0);
    assert_memory_equal(&back, &token, sizeof token);
    token.address_count = FAR_JOIN_TOKEN_ADDRESSES_MAX;
    for (size_t i = 0; i < token.address_count; i++) {
        memset(token.addresses[i], 'a', FAR_JOIN_TOKEN_ADDRESS_BYTES_MAX);
        token.addresses[i][FAR_JOIN_TOKEN_ADDRESS_BYTES_MAX] = '\0';
    }
    assert_int_equal(far_join_token_print(&token, text, &err), 0);
    assert_int_equal(far_join_token_parse(text, strlen(text), &back, &err), 0);
    assert_memory_equal(&back, &token, sizeof token);
    token.address_count++;
    assert_int_equal(far_join_token_print(&token, text, &err), FAR_INVALID);
    token.address_count = 0;
    assert_int_equal(far_join_token_print(&token, text, &err), FAR_INVALID);
}

static void join_token_with_any_change_is_refused(void **unused)
{
    struct far_error err;
    struct far_join_token token = sample_token();
    struct far_join_token back;
    char text[FAR_JOIN_TOKEN_TEXT_MAX];
    assert_int_equal(far_join_token_print(&token, text, &err), 0);
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        char kept = text[i];
        text[i] = kept == 'A' ? 'B' : 'A';
        assert_int_equal(far_join_token_parse(text, len, &back, &err), FAR_INVALID);
        text[i] = '\0';
        assert_int_equal(far_join_token_parse(text, len, &back, &err), FAR_INVALID);
        text[i] = kept;
        assert_int_equal(far_join_token_parse(text, i, &back, &err), FAR_INVALID);
    }
}

static void api_token_survives_print_and_parse(void **unused)
{
    uint8_t secret[32];
    uint8_t back[32];
    char text[FAR_API_TOKEN_TEXT_MAX];
    memset(secret, 0xa5, sizeof secret);
    far_api_token_print(secret, text);
    assert_true(far_api_token_parse(text, strlen(text), back));
    assert_memory_equal(secret, back, 32);
    text[8] = 'g';
    assert_false(far_api_token_parse(text, strlen(text), back));
    assert_false(far_api_token_parse("", 0, back));
}

static void addresses_need_host_and_port(void **unused)
{
    static const char *const bad[] = {"", "host", ":1", "host:", "host:65536", "host:1a", "::1:5000", "[]:1", "host:000001"};
    struct far_address address;
    struct far_error err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(far_address_parse(bad[i], &address, &err), FAR_INVALID);
    }
    assert_int_equal(far_address_parse("[::1]:5001", &address, &err), 0);
    assert_string_equal(address.host, "::1");
    assert_string_equal(address.port, "5001");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signed_certificate_names_the_party_and_fits_its_key),
        cmocka_unit_test(ca_certificate_and_sealed_key_fit_the_state),
        cmocka_unit_test(request_that_was_altered_is_refused),
        cmocka_unit_test(host_names_that_are_none_are_refused),
        cmocka_unit_test(pem_and_der_of_a_certificate_are_the_same),
        cmocka_unit_test(peer_names_are_exact),
        cmocka_unit_test(files_are_written_whole_with_their_mode),
        cmocka_unit_test(join_token_survives_print_and_parse),
        cmocka_unit_test(join_token_with_any_change_is_refused),
        cmocka_unit_test(api_token_survives_print_and_parse),
        cmocka_unit_test(addresses_need_host_and_port),
    };
    return cmocka_run_group_tests_name("pki", tests, make, unmake);
}
