/* net/seal.h: sealed boxes and the recovery key's text. */
#include "../lib/cm.h"
#include "net/seal.h"

#include <ctype.h>
#include <stdio.h>

static void box_opens_with_its_key_and_context_only(void **unused)
{
    struct far_error err;
    uint8_t public_key[32];
    uint8_t private_key[32];
    uint8_t other_public[32];
    uint8_t other_private[32];
    struct far_buf box = {.max = 1000};
    struct far_buf plain = {.max = 1000};
    assert_int_equal(far_seal_keypair(public_key, private_key, &err), 0);
    assert_int_equal(far_seal_keypair(other_public, other_private, &err), 0);
    assert_int_equal(far_seal(public_key, "ca-key", far_slice_str("the secret"), &box, &err), 0);
    assert_int_equal(box.len, strlen("the secret") + FAR_SEAL_OVERHEAD);
    assert_int_equal(far_seal_open(other_private, "ca-key", far_buf_slice(&box), &plain, &err), FAR_DENIED);
    assert_int_equal(far_seal_open(private_key, "master-key", far_buf_slice(&box), &plain, &err), FAR_DENIED);
    assert_int_equal(plain.len, 0);
    assert_int_equal(far_seal_open(private_key, "ca-key", far_buf_slice(&box), &plain, &err), 0);
    assert_true(far_slice_equal(far_buf_slice(&plain), far_slice_str("the secret")));
    far_buf_done(&box);
    far_buf_done(&plain);
}

static void altered_or_cut_boxes_do_not_open(void **unused)
{
    struct far_error err;
    uint8_t public_key[32];
    uint8_t private_key[32];
    struct far_buf box = {.max = 1000};
    struct far_buf plain = {.max = 1000};
    assert_int_equal(far_seal_keypair(public_key, private_key, &err), 0);
    assert_int_equal(far_seal(public_key, "x", far_slice_str("abc"), &box, &err), 0);
    for (size_t i = 0; i < box.len; i++) {
        box.data[i] ^= 0x40;
        assert_int_equal(far_seal_open(private_key, "x", far_buf_slice(&box), &plain, &err), FAR_DENIED);
        box.data[i] ^= 0x40;
        assert_int_equal(far_seal_open(private_key, "x", far_slice(box.data, i), &plain, &err), FAR_DENIED);
    }
    assert_int_equal(plain.len, 0);
    far_buf_done(&box);
    far_buf_done(&plain);
}

static void sizes_at_the_bounds(void **unused)
{
    struct far_error err;
    uint8_t public_key[32];
    uint8_t private_key[32];
    uint8_t again[32];
    static uint8_t big[FAR_SEAL_PLAIN_MAX + 1];
    struct far_buf box = {.max = FAR_SEAL_PLAIN_MAX + FAR_SEAL_OVERHEAD};
    struct far_buf plain = {.max = FAR_SEAL_PLAIN_MAX};
    assert_int_equal(far_seal_keypair(public_key, private_key, &err), 0);
    assert_int_equal(far_seal_public(private_key, again, &err), 0);
    assert_memory_equal(public_key, again, 32);
    assert_int_equal(far_seal(public_key, "x", far_slice(big, sizeof big), &box, &err), FAR_LIMIT);
    assert_int_equal(far_seal(public_key, "x", far_slice(big, sizeof big - 1), &box, &err), 0);
    assert_int_equal(far_seal(public_key, "x", far_slice(big, 1), &box, &err), FAR_LIMIT);
    assert_int_equal(far_seal_open(private_key, "x", far_buf_slice(&box), &plain, &err), 0);
    assert_int_equal(plain.len, FAR_SEAL_PLAIN_MAX);
    far_buf_reset(&box);
    assert_int_equal(far_seal(public_key, "x", far_slice(NULL, 0), &box, &err), 0);
    far_buf_reset(&plain);
    assert_int_equal(far_seal_open(private_key, "x", far_buf_slice(&box), &plain, &err), 0);
    assert_int_equal(plain.len, 0);
    far_buf_done(&box);
    far_buf_done(&plain);
}

static void recovery_key_survives_paper(void **unused)
{
    struct far_error err;
    uint8_t key[32];
    uint8_t back[32];
    char text[FAR_RECOVERY_KEY_TEXT_MAX];
    for (int i = 0; i < 32; i++) {
        key[i] = (uint8_t)(i * 37 + 5);
    }
    far_recovery_key_print(key, text);
    assert_int_equal(strlen(text), FAR_RECOVERY_KEY_TEXT_MAX - 1);
    assert_int_equal(far_recovery_key_parse(text, strlen(text), back, &err), 0);
    assert_memory_equal(key, back, 32);
    for (char *c = text; *c != '\0'; c++) {
        *c = (char)(*c == '-' ? ' ' : *c == 'O' ? '0' : *c == 'B' ? '8' : tolower((unsigned char)*c));
    }
    assert_int_equal(far_recovery_key_parse(text, strlen(text), back, &err), 0);
    assert_memory_equal(key, back, 32);
}

static void recovery_key_with_a_typing_mistake_is_refused(void **unused)
{
    struct far_error err;
    uint8_t key[32] = {1, 2, 3};
    uint8_t back[32];
    char text[FAR_RECOVERY_KEY_TEXT_MAX];
    far_recovery_key_print(key, text);
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        char kept = text[i];
        if (kept == '-') {
            continue;
        }
        text[i] = kept == 'X' ? 'Y' : 'X';
        assert_int_equal(far_recovery_key_parse(text, len, back, &err), FAR_INVALID);
        text[i] = '9';
        assert_int_equal(far_recovery_key_parse(text, len, back, &err), FAR_INVALID);
        text[i] = kept;
        assert_int_equal(far_recovery_key_parse(text, i, back, &err), FAR_INVALID);
    }
    char longer[FAR_RECOVERY_KEY_TEXT_MAX + 1];
    snprintf(longer, sizeof longer, "%sA", text);
    assert_int_equal(far_recovery_key_parse(longer, strlen(longer), back, &err), FAR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(box_opens_with_its_key_and_context_only),
        cmocka_unit_test(altered_or_cut_boxes_do_not_open),
        cmocka_unit_test(sizes_at_the_bounds),
        cmocka_unit_test(recovery_key_survives_paper),
        cmocka_unit_test(recovery_key_with_a_typing_mistake_is_refused),
    };
    return cmocka_run_group_tests_name("seal", tests, NULL, NULL);
}
