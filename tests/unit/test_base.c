/* base: errors, buffers, arenas, bytes, hashes. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/bytes.h"
#include "base/config.h"
#include "base/error.h"
#include "base/hash.h"
#include "../lib/cm.h"

#include <errno.h>
#include <string.h>

static void error_keeps_class_and_gathers_context(void **unused)
{
    struct far_error err;
    assert_int_equal(far_fail_errno(&err, FAR_IO, ENOSPC, "write '%s'", "a"), FAR_LIMIT);
    assert_int_equal(far_error_context(&err, "open segment %d", 7), FAR_LIMIT);
    assert_string_equal(err.message, "open segment 7: write 'a': No space left on device");
    char text[2 * FAR_MESSAGE_MAX];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    assert_int_equal(far_fail(&err, FAR_INVALID, "%s", text), FAR_INVALID);
    far_error_context(&err, "%s", text);
    assert_int_equal(strlen(err.message), FAR_MESSAGE_MAX - 1);
}

static void error_classes_have_names_and_exit_codes(void **unused)
{
    for (int c = FAR_OK; c >= FAR_CLASS_MIN; c--) {
        assert_int_equal(far_class_info(c)->klass, c);
        assert_int_equal(far_class_from_name(far_class_info(c)->name), c);
    }
    assert_int_equal(far_class_info(99)->klass, FAR_INTERNAL);
}

static void buf_stops_at_its_maximum(void **unused)
{
    struct far_buf buf;
    far_buf_init(&buf, 1000);
    uint8_t block[600] = {0};
    assert_int_equal(far_buf_append(&buf, block, sizeof block), 0);
    assert_int_equal(far_buf_append(&buf, block, sizeof block), FAR_LIMIT);
    assert_int_equal(buf.len, 600);
    assert_int_equal(far_buf_append(&buf, block, 400), 0);
    far_buf_consume(&buf, 900);
    assert_int_equal(buf.len, 100);
    far_buf_done(&buf);
}

static void arena_hands_out_zeroes_up_to_its_maximum(void **unused)
{
    struct far_arena arena;
    far_arena_init(&arena, 10000);
    for (int i = 0; i < 10; i++) {
        unsigned char *p = far_arena_alloc(&arena, 1000 - 16);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        assert_int_equal(p[0] | p[983], 0);
        memset(p, 0xff, 984);
    }
    assert_null(far_arena_alloc(&arena, 1000));
    far_arena_reset(&arena);
    assert_non_null(far_arena_alloc(&arena, 9984));
    far_arena_done(&arena);
}

static void hex_is_exact(void **unused)
{
    uint8_t bytes[3];
    char text[7];
    assert_true(far_hex_decode("00fFa5", 6, bytes, 3));
    far_hex_encode(bytes, 3, text);
    assert_string_equal(text, "00ffa5");
    assert_false(far_hex_decode("00ff", 4, bytes, 3));
    assert_false(far_hex_decode("00ffg0", 6, bytes, 3));
}

static void digest_sums_do_not_depend_on_order(void **unused)
{
    struct far_hash128 a = far_hash128_parts(far_slice_str("a"), far_slice_str("1"));
    struct far_hash128 b = far_hash128_parts(far_slice_str("b"), far_slice_str("2"));
    struct far_hash128 ab = far_hash128_add(a, b);
    assert_true(far_hash128_equal(ab, far_hash128_add(b, a)));
    assert_true(far_hash128_equal(far_hash128_sub(ab, a), b));
}

static int parse(const char *text, char name[8], uint64_t *number, struct far_error *err)
{
    const struct far_config_key keys[] = {
        {.name = "name", .type = FAR_CONFIG_TEXT, .value = name, .size = 8, .required = true},
        {.name = "number", .type = FAR_CONFIG_U64, .value = number, .min = 1, .max = 4096},
    };
    return far_config_parse(text, strlen(text), "test", keys, 2, err);
}

static void config_names_the_line_that_is_wrong(void **unused)
{
    char name[8] = "";
    uint64_t number = 7;
    struct far_error err;
    assert_int_equal(parse("# a comment\n name =  web1 \nnumber = 4k\n", name, &number, &err), 0);
    assert_string_equal(name, "web1");
    assert_int_equal(number, 4096);
    assert_int_equal(parse("number = 5", name, &number, &err), FAR_INVALID);
    assert_string_equal(err.message, "test: 'name' is missing");
    assert_int_equal(parse("name = a\nnmuber = 5", name, &number, &err), FAR_INVALID);
    assert_string_equal(err.message, "test:2: 'nmuber' is no key of this program");
    assert_int_equal(parse("name = a\nname = b", name, &number, &err), FAR_INVALID);
    assert_int_equal(parse("name = a\nnumber = 5k", name, &number, &err), FAR_INVALID);
    assert_int_equal(parse("name = a\nnumber = -1", name, &number, &err), FAR_INVALID);
    assert_int_equal(parse("name = 12345678", name, &number, &err), FAR_INVALID);
    assert_int_equal(parse("name", name, &number, &err), FAR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_keeps_class_and_gathers_context),
        cmocka_unit_test(error_classes_have_names_and_exit_codes),
        cmocka_unit_test(buf_stops_at_its_maximum),
        cmocka_unit_test(arena_hands_out_zeroes_up_to_its_maximum),
        cmocka_unit_test(hex_is_exact),
        cmocka_unit_test(config_names_the_line_that_is_wrong),
        cmocka_unit_test(digest_sums_do_not_depend_on_order),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
