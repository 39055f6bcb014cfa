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
    } wrong[] = {{0, 0}, {2, 9}, {3, 0}, {3, FAR_TRANSFER_TYPE_MAX + 1}, {7, 1}, {11, 1}, {12, 1}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        far_transfer_header_encode(FAR_TRANSFER_DATA, far_slice(NULL, 0), 0, bytes);
        bytes[wrong[i].at] = wrong[i].value;
        assert_int_not_equal(far_transfer_header_decode(bytes, &header, NULL), 0);
    }
    struct far_error err;
    far_transfer_header_encode(FAR_TRANSFER_DATA, far_slice(NULL, 0), 0, bytes);
    bytes[2] = 0; /* as v0.1.0 speaks */
    assert_int_equal(far_transfer_header_decode(bytes, &header, &err), FAR_INVALID);
    assert_non_null(strstr(err.message, "upgrade"));
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
                                       .joins = true, .has_base = true}, back;
    memset(hello.freeze_ref, 'r', FAR_TRANSFER_REF_MAX);
    memset(hello.base_root, 0xab, 32);
    memset(hello.session, 0xcd, 16);
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
    head[8] = FAR_TRANSFER_GROUP + 1;
    assert_int_equal(far_transfer_offer_decode(far_slice(head, len), 3000, &back, NULL), FAR_INVALID);
}

static void data_heads_must_add_up(void **state)
{
    enum { WHOLE = 0xffff };
    struct far_transfer_data data = {.group = 1, .count = 2}, back;
    data.stored[0] = (struct far_transfer_stored){.slot = 0, .pages = WHOLE, .length = FAR_TRANSFER_BLOCK};
    data.stored[1] = (struct far_transfer_stored){
        .slot = 3, .codec = FAR_TRANSFER_ZSTD, .pages = 0x8001, .length = 77, .hash = 6};
    size_t len = far_transfer_data_encode(&data, head);
    assert_int_equal(far_transfer_data_decode(far_slice(head, len), FAR_TRANSFER_BLOCK + 77, &back, NULL), 0);
    assert_int_equal(back.stored[1].length, 77);
    assert_int_equal(back.stored[1].pages, 0x8001);
    assert_int_equal(far_transfer_data_decode(far_slice(head, len), FAR_TRANSFER_BLOCK + 78, &back, NULL), FAR_INVALID);
    const struct far_transfer_stored wrong[] = {
        {.slot = 0, .codec = FAR_TRANSFER_ZSTD, .pages = WHOLE, .length = 77, .hash = 6}, /* twice the same slot */
        {.slot = 3, .pages = WHOLE, .length = 77},                                        /* raw and short */
        {.slot = 3, .pages = 0x0101, .length = 3 * FAR_TRANSFER_PAGE},                    /* other pages than bytes */
        {.slot = 3, .pages = 0, .length = 0},                                             /* nothing at all */
        {.slot = 3, .codec = FAR_TRANSFER_ZSTD, .pages = 1, .length = FAR_TRANSFER_PAGE}, /* not shorter for it */
        {.slot = 3, .codec = 2, .pages = WHOLE, .length = 77},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        data.stored[1] = wrong[i];
        len = far_transfer_data_encode(&data, head);
        uint32_t bulk = FAR_TRANSFER_BLOCK + wrong[i].length;
        assert_int_equal(far_transfer_data_decode(far_slice(head, len), bulk, &back, NULL), FAR_INVALID);
    }
    data.stored[1] = (struct far_transfer_stored){.slot = 3, .pages = 0x0101, .length = 2 * FAR_TRANSFER_PAGE};
    len = far_transfer_data_encode(&data, head);
    assert_int_equal(far_transfer_data_decode(far_slice(head, len), FAR_TRANSFER_BLOCK + 8192, &back, NULL), 0);
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

static void wants_say_which_pages_are_there(void **state)
{
    static struct far_transfer_want want, back;
    want = (struct far_transfer_want){.group = 77, .mask = 0x8003, .paged = 0x8001};
    for (size_t i = 0; i < FAR_TRANSFER_PAGES; i++) {
        want.sums[0][i] = i;
        want.sums[15][i] = 100 + i;
    }
    size_t len = far_transfer_want_encode(&want, head);
    assert_int_equal(len, far_transfer_want_bytes(&want));
    len += far_transfer_want_encode(&(struct far_transfer_want){.group = 78}, head + len);
    struct far_slice rest = far_slice(head, len);
    assert_int_equal(far_transfer_want_next(&rest, &back, NULL), 0);
    assert_memory_equal(&want, &back, sizeof want);
    assert_int_equal(far_transfer_want_next(&rest, &back, NULL), 0);
    assert_int_equal(back.group, 78);
    assert_int_equal(rest.len, 0);
    for (size_t cut = 1; cut < far_transfer_want_bytes(&want); cut++) {
        rest = far_slice(head, cut);
        assert_int_equal(far_transfer_want_next(&rest, &back, NULL), FAR_INVALID);
    }
    want.paged = 4; /* pages of a block that is not wanted */
    len = far_transfer_want_encode(&want, head);
    rest = far_slice(head, len);
    assert_int_equal(far_transfer_want_next(&rest, &back, NULL), FAR_INVALID);
    want = (struct far_transfer_want){.mask = 0xffff, .paged = 0xffff};
    assert_true(far_transfer_want_bytes(&want) <= FAR_TRANSFER_HEAD_MAX); /* any fits a frame */
}

static void acknowledgements_and_pages_are_bounded(void **state)
{
    static uint64_t groups[FAR_TRANSFER_WANTS_MAX + 1], back[FAR_TRANSFER_WANTS_MAX];
    static struct far_transfer_page page, page_back;
    size_t count = 0;
    unsigned level;
    uint64_t index;
    size_t len = far_transfer_ack_encode(groups, FAR_TRANSFER_WANTS_MAX, head);
    assert_int_equal(far_transfer_ack_decode(far_slice(head, len), back, &count, NULL), 0);
    assert_int_equal(count, FAR_TRANSFER_WANTS_MAX);
    len = far_transfer_ack_encode(groups, FAR_TRANSFER_WANTS_MAX + 1, head);
    assert_int_equal(far_transfer_ack_decode(far_slice(head, len), back, &count, NULL), FAR_INVALID);
    assert_int_equal(far_transfer_ack_decode(far_slice(head, 7), back, &count, NULL), FAR_INVALID);
    page = (struct far_transfer_page){.level = 3, .index = 9};
    far_random_bytes(page.hashes, sizeof page.hashes);
    len = far_transfer_page_encode(&page, head);
    assert_int_equal(far_transfer_page_decode(far_slice(head, len), &page_back, NULL), 0);
    assert_memory_equal(&page, &page_back, sizeof page);
    assert_int_equal(far_transfer_page_decode(far_slice(head, len - 1), &page_back, NULL), FAR_INVALID);
    len = far_transfer_page_ask_encode(3, 9, head);
    assert_int_equal(far_transfer_page_ask_decode(far_slice(head, len), &level, &index, NULL), 0);
    assert_int_equal(level, 3);
    assert_int_equal(index, 9);
    len = far_transfer_page_ask_encode(4, 9, head);
    assert_int_equal(far_transfer_page_ask_decode(far_slice(head, len), &level, &index, NULL), FAR_INVALID);
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

static void pages_hashed_side_by_side_are_those_of_single_nodes(void **state)
{
    const char *ways[] = {"plain", "sha-ni", "avx512"};
    static struct far_hash256 children[FAR_MAP_FANOUT];
    struct far_hash256 first, hash;
    far_random_bytes(children, sizeof children);
    for (size_t w = 0; w < 3; w++) {
        if (far_leaf_lanes_force(ways[w])) {
            far_map_page_hash(children, &hash);
            first = w == 0 ? hash : first;
            assert_memory_equal(&first, &hash, sizeof hash);
        }
    }
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
        cmocka_unit_test(wants_say_which_pages_are_there),
        cmocka_unit_test(acknowledgements_and_pages_are_bounded),
        cmocka_unit_test(leaves_side_by_side_are_those_of_single_blocks),
        cmocka_unit_test(pages_hashed_side_by_side_are_those_of_single_nodes),
    };
    return cmocka_run_group_tests_name("transfer_frames", tests, NULL, NULL);
}
