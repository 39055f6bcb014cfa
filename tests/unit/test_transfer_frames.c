/* The frames of a transfer: what is written is read back, and what is no frame is refused. */
#include "../lib/cm.h"

#include "base/random.h"
#include "dataplane/leaf_lanes.h"
#include "dataplane/transfer_frames.h"

#include <stdlib.h>

static uint8_t head[FAR_TRANSFER_HEAD_MAX];

static void a_frame_is_read_back_as_it_was_written(void **state)
{
    struct far_transfer_header header;
    uint8_t bytes[FAR_TRANSFER_HEADER];
    static const uint8_t text[] = "head";
    far_transfer_header_encode(FAR_TRANSFER_DATA, far_slice(text, 4), 1000, bytes);
    assert_int_equal(far_transfer_header_decode(bytes, &header, NULL), 0);
    assert_int_equal(header.type, FAR_TRANSFER_DATA);
    assert_int_equal(header.head_len, 4);
    assert_int_equal(header.bulk_len, 1000);
    assert_int_equal(far_transfer_head_check(&header, bytes, far_slice(text, 4), NULL), 0);
    assert_int_equal(far_transfer_head_check(&header, bytes, far_slice("heed", 4), NULL), FAR_CORRUPT);
}

static void wrong_magic_type_version_and_lengths_are_refused(void **state)
{
    struct far_transfer_header header;
    uint8_t bytes[FAR_TRANSFER_HEADER];
    const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{0, 0}, {2, 9}, {3, 0}, {3, 13}, {7, 1}, {11, 1}, {12, 1}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        far_transfer_header_encode(FAR_TRANSFER_DATA, far_slice(NULL, 0), 0, bytes);
        bytes[wrong[i].at] = wrong[i].value;
        assert_int_not_equal(far_transfer_header_decode(bytes, &header, NULL), 0);
    }
    far_transfer_header_encode(FAR_TRANSFER_DATA, far_slice(NULL, 0), FAR_TRANSFER_BULK_MAX, bytes);
    assert_int_equal(far_transfer_header_decode(bytes, &header, NULL), 0);
    far_transfer_header_encode(FAR_TRANSFER_DATA, far_slice(NULL, 0), FAR_TRANSFER_BULK_MAX + 1, bytes);
    assert_int_equal(far_transfer_header_decode(bytes, &header, NULL), FAR_LIMIT);
    far_transfer_header_encode(FAR_TRANSFER_OFFER, far_slice(NULL, 0), 1, bytes);
    assert_int_equal(far_transfer_header_decode(bytes, &header, NULL), FAR_LIMIT);
}

static void a_hello_of_full_size_is_read_back(void **state)
{
    struct far_transfer_hello hello = {.job_id = 1, .disk_index = 2, .disk_id = 3, .task = 4, .attempt = 5,
                                       .incarnation_epoch = 6, .plan_epoch = 7, .size_bytes = 8, .frontier_block = 9,
                                       .has_base = true}, back;
    memset(hello.freeze_ref, 'r', FAR_TRANSFER_REF_MAX);
    memset(hello.base_root, 0xab, 32);
    size_t len = far_transfer_hello_encode(&hello, head);
    assert_int_equal(far_transfer_hello_decode(far_slice(head, len), &back, NULL), 0);
    assert_memory_equal(&hello, &back, sizeof hello);
    for (size_t cut = 0; cut < len; cut++) {
        assert_int_equal(far_transfer_hello_decode(far_slice(head, cut), &back, NULL), FAR_INVALID);
    }
    assert_int_equal(far_transfer_hello_decode(far_slice(head, len + 1), &back, NULL), FAR_INVALID);
}

static void an_offer_at_its_bounds_is_read_back_and_one_beyond_refused(void **state)
{
    static struct far_transfer_offer offer, back;
    offer.group = 3;
    offer.block_count = FAR_TRANSFER_GROUP;
    offer.run_count = FAR_TRANSFER_RUNS_MAX;
    for (size_t i = 0; i < FAR_TRANSFER_GROUP; i++) {
        offer.blocks[i] = 1000 + i * 7;
        far_random_bytes(offer.ids[i], 32);
    }
    for (size_t i = 0; i < FAR_TRANSFER_RUNS_MAX; i++) {
        offer.runs[i] = (struct far_transfer_run){.first_block = i * 2, .count = 1};
    }
    size_t len = far_transfer_offer_encode(&offer, head);
    assert_true(len <= FAR_TRANSFER_HEAD_MAX);
    assert_int_equal(far_transfer_offer_decode(far_slice(head, len), 3000, &back, NULL), 0);
    assert_memory_equal(&offer, &back, sizeof offer);
    assert_int_equal(far_transfer_offer_decode(far_slice(head, len), 1105, &back, NULL), FAR_INVALID); /* beyond the disk */
    assert_int_equal(far_transfer_offer_decode(far_slice(head, len - 1), 3000, &back, NULL), FAR_INVALID);
    head[4] = FAR_TRANSFER_GROUP + 1;
    assert_int_equal(far_transfer_offer_decode(far_slice(head, len), 3000, &back, NULL), FAR_INVALID);
}

static void data_heads_must_add_up(void **state)
{
    struct far_transfer_data data = {.group = 1, .count = 2}, back;
    data.stored[0] = (struct far_transfer_stored){.slot = 0, .length = FAR_TRANSFER_BLOCK};
    data.stored[1] = (struct far_transfer_stored){.slot = 3, .codec = FAR_TRANSFER_ZSTD, .length = 77, .hash = 6};
    size_t len = far_transfer_data_encode(&data, head);
    assert_int_equal(far_transfer_data_decode(far_slice(head, len), FAR_TRANSFER_BLOCK + 77, &back, NULL), 0);
    assert_int_equal(back.stored[1].length, 77);
    assert_int_equal(far_transfer_data_decode(far_slice(head, len), FAR_TRANSFER_BLOCK + 78, &back, NULL), FAR_INVALID);
    data.stored[1].slot = 0; /* twice the same */
    len = far_transfer_data_encode(&data, head);
    assert_int_equal(far_transfer_data_decode(far_slice(head, len), FAR_TRANSFER_BLOCK + 77, &back, NULL), FAR_INVALID);
    data.stored[1] = (struct far_transfer_stored){.slot = 3, .length = 77}; /* raw and short */
    len = far_transfer_data_encode(&data, head);
    assert_int_equal(far_transfer_data_decode(far_slice(head, len), FAR_TRANSFER_BLOCK + 77, &back, NULL), FAR_INVALID);
}

static void an_error_arrives_without_control_characters(void **state)
{
    struct far_transfer_error back;
    struct far_error error;
    far_fail(&error, FAR_LIMIT, "no\nspace");
    size_t len = far_transfer_error_encode(&error, head);
    assert_int_equal(far_transfer_error_decode(far_slice(head, len), &back, NULL), 0);
    assert_int_equal(back.klass, FAR_LIMIT);
    assert_string_equal(back.message, "no space");
    far_put_le32(head, 14);
    assert_int_equal(far_transfer_error_decode(far_slice(head, len), &back, NULL), FAR_INVALID);
}

static void wants_are_bounded(void **state)
{
    static struct far_transfer_want wants[FAR_TRANSFER_WANTS_MAX + 1], back[FAR_TRANSFER_WANTS_MAX];
    size_t count = 0;
    size_t len = far_transfer_wants_encode(wants, FAR_TRANSFER_WANTS_MAX, head);
    assert_int_equal(far_transfer_wants_decode(far_slice(head, len), back, &count, NULL), 0);
    assert_int_equal(count, FAR_TRANSFER_WANTS_MAX);
    len = far_transfer_wants_encode(wants, FAR_TRANSFER_WANTS_MAX + 1, head);
    assert_int_equal(far_transfer_wants_decode(far_slice(head, len), back, &count, NULL), FAR_INVALID);
    assert_int_equal(far_transfer_wants_decode(far_slice(head, 7), back, &count, NULL), FAR_INVALID);
}

static void leaves_side_by_side_are_those_of_single_blocks(void **state)
{
    enum { COUNT = 35 };
    const char *ways[] = {"plain", "sha-ni", "avx512"};
    const uint8_t *blocks[COUNT];
    struct far_hash256 leaves[COUNT], single;
    uint8_t *memory = malloc(COUNT * FAR_BLOCK_BYTES);
    far_random_bytes(memory, COUNT * FAR_BLOCK_BYTES);
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = memory + i * FAR_BLOCK_BYTES;
    }
    for (size_t w = 0; w < 3; w++) {
        if (!far_leaf_lanes_force(ways[w])) {
            print_message("# this processor has no %s\n", ways[w]);
            continue;
        }
        for (size_t count = 0; count <= COUNT; count += count < 18 ? 1 : 17) {
            memset(leaves, 0, sizeof leaves);
            far_block_leaves(blocks, count, leaves);
            for (size_t i = 0; i < count; i++) {
                far_block_leaf(blocks[i], FAR_BLOCK_BYTES, &single);
                assert_memory_equal(&single, &leaves[i], 32);
            }
        }
    }
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_is_read_back_as_it_was_written),
        cmocka_unit_test(wrong_magic_type_version_and_lengths_are_refused),
        cmocka_unit_test(a_hello_of_full_size_is_read_back),
        cmocka_unit_test(an_offer_at_its_bounds_is_read_back_and_one_beyond_refused),
        cmocka_unit_test(data_heads_must_add_up),
        cmocka_unit_test(an_error_arrives_without_control_characters),
        cmocka_unit_test(wants_are_bounded),
        cmocka_unit_test(leaves_side_by_side_are_those_of_single_blocks),
    };
    return cmocka_run_group_tests_name("transfer_frames", tests, NULL, NULL);
}
