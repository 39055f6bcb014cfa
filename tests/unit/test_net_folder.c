/* far_net_open(): what a server's or node's folder must hold to go on the network. */
#include "../lib/cm.h"
#include "../lib/made_pki.h"
#include "base/file.h"
#include "net/incarnation.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATH_BYTES = 320, FILE_MAX = 16 * 1024, SECRET_AT = 50, SECRET_LETTERS = 36 };
static const struct far_peer seven = {FAR_PARTY_SERVER, 7};
static struct far_test_pki pki;

static char *path_of(const char *name, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/%s", pki.dir, name);
    return path;
}

static void take(const char *from, const char *to)
{
    char old[PATH_BYTES], new[PATH_BYTES];
    assert_int_equal(rename(path_of(from, old), path_of(to, new)), 0);
}

static int setup(void **state)
{
    char dir[] = "/tmp/far-folder-XXXXXX";
    (void)state;
    assert_non_null(mkdtemp(dir));
    far_test_pki_init(&pki, dir, 9);
    far_test_pki_identity(&pki, FAR_PARTY_SERVER, 7);
    take("server-7.key", "server.key");
    take("server-7.crt", "server.crt");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    take("server.key", "server-7.key");
    take("server.crt", "server-7.crt");
    far_test_pki_done(&pki);
    return 0;
}

static int open_folder(struct far_error *err)
{
    struct far_net *net = NULL;
    int rc = far_net_open(pki.dir, seven, pki.cluster_uuid, 1, &net, err);
    far_net_free(net);
    return rc;
}

static void a_whole_folder_opens(void **state)
{
    struct far_error err = {0};
    (void)state;
    assert_int_equal(open_folder(&err), 0);
}

/* Wherever a letter of it is another one; of the key: of its secret number, the frame around it leaves some freedom. */
static void one_changed_letter_of_certificate_key_or_ca_is_found(void **state)
{
    static const char *const names[] = {"server.crt", "server.key", "ca.crt"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char path[PATH_BYTES];
        struct far_buf whole;
        struct far_error err = {0};
        far_buf_init(&whole, FILE_MAX);
        assert_int_equal(far_file_read(path_of(names[i], path), &whole, &err), 0);
        size_t first = (size_t)((uint8_t *)memchr(whole.data, '\n', whole.len) - whole.data) + 1;
        first += i == 1 ? SECRET_AT : 0;
        size_t end = i == 1 ? first + SECRET_LETTERS : whole.len;
        for (size_t at = first; at < end && whole.data[at] != '-'; at += 7) { /* of the first block of base64 */
            uint8_t letter = whole.data[at];
            whole.data[at] = letter == 'A' ? 'B' : 'A';
            if (letter == '\n' || letter == '=') {
                whole.data[at] = letter;
                continue;
            }
            assert_int_equal(far_file_replace(path, whole.data, whole.len, 0600, &err), 0);
            if (open_folder(&err) == 0) {
                fail_msg("%s with another letter at %zu was taken", names[i], at);
            }
            assert_non_null(strstr(err.message, pki.dir));
            whole.data[at] = letter;
        }
        assert_int_equal(far_file_replace(path, whole.data, whole.len, 0600, &err), 0);
        far_buf_done(&whole);
        assert_int_equal(open_folder(&err), 0);
    }
}

static void its_incarnation_counts_and_a_damaged_one_is_refused(void **state)
{
    char path[PATH_BYTES];
    struct far_net *net = NULL;
    struct far_error err = {0};
    struct far_incarnation back, made = {.reason = FAR_INCARNATION_QUORUM_LOST, .epoch = 4, .parent_seq = 7, .sure_seq = 6};
    (void)state;
    assert_int_equal(far_incarnation_load(pki.dir, pki.cluster_uuid, &back, NULL), FAR_NOT_FOUND);
    memcpy(made.cluster_uuid, pki.cluster_uuid, 16);
    memset(made.uuid, 3, 16);
    assert_int_equal(far_incarnation_save(pki.dir, &made, &err), 0);
    assert_int_equal(far_net_open(pki.dir, seven, pki.cluster_uuid, 1, &net, &err), 0);
    assert_int_equal(far_net_incarnation(net).epoch, 4);
    assert_int_equal(far_net_incarnation(net).tag, 0x0303030303030303);
    far_net_free(net);
    assert_int_equal(far_incarnation_load(pki.dir, pki.cluster_uuid, &back, &err), 0);
    uint8_t bytes[FAR_INCARNATION_BYTES], of_back[FAR_INCARNATION_BYTES];
    far_incarnation_encode(&made, bytes);
    far_incarnation_encode(&back, of_back); /* their bytes, for the structs have padding */
    assert_memory_equal(of_back, bytes, sizeof bytes);
    for (size_t at = 0; at < sizeof bytes; at++) {
        far_incarnation_encode(&made, bytes);
        bytes[at] ^= 1;
        assert_int_equal(far_file_replace(path_of("incarnation", path), bytes, sizeof bytes, 0600, &err), 0);
        assert_int_equal(open_folder(&err), FAR_CORRUPT);
    }
    made.cluster_uuid[0] ^= 1;
    assert_int_equal(far_incarnation_save(pki.dir, &made, &err), 0);
    assert_int_equal(open_folder(&err), FAR_CORRUPT);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(open_folder(&err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_folder_opens),
        cmocka_unit_test(its_incarnation_counts_and_a_damaged_one_is_refused),
        cmocka_unit_test(one_changed_letter_of_certificate_key_or_ca_is_found),
    };
    return cmocka_run_group_tests_name("net_folder", tests, setup, teardown);
}
