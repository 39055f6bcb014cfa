/* The schema: equal structs give equal bytes, and no hostile byte gets through. */
#include "fsm/schema.h"
#include "../lib/cm.h"

static struct far_arena arena;
static struct far_buf buf;
static struct far_error err;

static int setup(void **unused)
{
    far_arena_init(&arena, 1 << 20);
    far_buf_init(&buf, 1 << 20);
    return 0;
}

static int teardown(void **unused)
{
    far_arena_done(&arena);
    far_buf_done(&buf);
    return 0;
}

static struct far_cmd_workload_create sample(struct far_sub_disk_spec disks[2])
{
    disks[0] = (struct far_sub_disk_spec){.name = far_slice_str("root"), .locator = far_slice_str("/a.img")};
    disks[1] = (struct far_sub_disk_spec){.name = far_slice_str("data"), .locator = far_slice_str("/b.img")};
    return (struct far_cmd_workload_create){
        .name = far_slice_str("web"), .adapter = far_slice_str("file"), .disks = {.items = disks, .count = 2}};
}

static void what_is_encoded_is_decoded(void **unused)
{
    struct far_sub_disk_spec disks[2];
    struct far_cmd_workload_create in = sample(disks), out;
    assert_int_equal(far_schema_encode(&far_schema_cmd_workload_create, &in, &buf, &err), 0);
    assert_int_equal(far_schema_decode(&far_schema_cmd_workload_create, far_buf_slice(&buf), &arena, &out, &err), 0);
    assert_true(far_slice_equal(out.name, in.name));
    assert_int_equal(out.site.len, 0);
    assert_int_equal(out.disks.count, 2);
    const struct far_sub_disk_spec *got = out.disks.items;
    assert_true(far_slice_equal(got[1].locator, disks[1].locator));
}

static void every_cut_and_every_flip_is_survived(void **unused)
{
    struct far_sub_disk_spec disks[2];
    struct far_cmd_workload_create in = sample(disks), out;
    assert_int_equal(far_schema_encode(&far_schema_cmd_workload_create, &in, &buf, &err), 0);
    for (size_t cut = 0; cut < buf.len; cut++) {
        assert_int_not_equal(
            far_schema_decode(&far_schema_cmd_workload_create, far_slice(buf.data, cut), &arena, &out, &err), 0);
        far_arena_reset(&arena);
    }
    for (size_t bit = 0; bit < buf.len * 8; bit++) {
        buf.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        far_schema_decode(&far_schema_cmd_workload_create, far_buf_slice(&buf), &arena, &out, &err);
        far_arena_reset(&arena);
        buf.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void maxima_are_held_both_ways(void **unused)
{
    char name[65];
    memset(name, 'x', sizeof name);
    struct far_cmd_site_create in = {.name = far_slice(name, 64)};
    assert_int_equal(far_schema_encode(&far_schema_cmd_site_create, &in, &buf, &err), FAR_INVALID);
    assert_int_equal(buf.len, 0);
    /* {1: str of 64} by hand */
    uint8_t bytes[4 + 64] = {0x81, 0x01, 0xd9, 64};
    memset(bytes + 4, 'x', 64);
    assert_int_equal(far_schema_decode(&far_schema_cmd_site_create, far_slice(bytes, sizeof bytes), &arena, &in, &err),
                     FAR_INVALID);
    /* an array that promises 2^32 - 1 items in 5 bytes */
    const uint8_t bomb[] = {0x81, 0x04, 0xdd, 0xff, 0xff, 0xff, 0xff};
    struct far_cmd_workload_create out;
    assert_int_equal(
        far_schema_decode(&far_schema_cmd_workload_create, far_slice(bomb, sizeof bomb), &arena, &out, &err),
        FAR_INVALID);
}

static void numbers_of_fields_and_kinds_are_unique(void **unused)
{
    for (size_t i = 0; far_schemas[i] != NULL; i++) {
        unsigned last = 0;
        for (const struct far_field *f = far_schemas[i]->fields(); f->type != FAR_TYPE_END; f++) {
            assert_true(f->number > last);
            last = f->number;
        }
        for (size_t k = i + 1; far_schemas[k] != NULL; k++) {
            assert_false(far_schemas[i]->klass == far_schemas[k]->klass && far_schemas[i]->klass != FAR_CLASS_sub &&
                         far_schemas[i]->kind == far_schemas[k]->kind &&
                         far_schemas[i]->version == far_schemas[k]->version);
        }
    }
}

/* A node passes on what other programs said, and cuts it: the stream must not end over it. Commands are never altered. */
static void texts_of_messages_are_made_readable_and_others_not(void **unused)
{
    static const char said[] = "caf\xc3\xa9 \xff \xe2\x82";
    struct far_msg_refused message = {.error_message = far_slice(said, sizeof said - 1)}, read;
    struct far_cmd_site_remove command = {.name = far_slice(said, sizeof said - 1)};
    assert_int_equal(far_schema_encode(&far_schema_msg_refused, &message, &buf, &err), 0);
    assert_int_equal(far_schema_decode(&far_schema_msg_refused, far_buf_slice(&buf), &arena, &read, &err), 0);
    assert_true(far_slice_equal(read.error_message, far_slice_str("caf\xc3\xa9 ? ??")));
    far_buf_reset(&buf);
    assert_int_equal(far_schema_encode(&far_schema_cmd_site_remove, &command, &buf, &err), 0);
    assert_int_equal(far_schema_decode(&far_schema_cmd_site_remove, far_buf_slice(&buf), &arena, &command, &err), FAR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_encoded_is_decoded, setup, teardown),
        cmocka_unit_test_setup_teardown(every_cut_and_every_flip_is_survived, setup, teardown),
        cmocka_unit_test_setup_teardown(maxima_are_held_both_ways, setup, teardown),
        cmocka_unit_test_setup_teardown(texts_of_messages_are_made_readable_and_others_not, setup, teardown),
        cmocka_unit_test(numbers_of_fields_and_kinds_are_unique),
    };
    return cmocka_run_group_tests_name("schema", tests, NULL, NULL);
}
