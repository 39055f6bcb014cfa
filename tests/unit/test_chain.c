/* The chain of events: each byte counts, rows come back as written, the hashes are those of the definition. */
#include "../lib/cm.h"

#include "../lib/faults.h"
#include "log/chain.h"
#include "log/envelope.h"

#include <errno.h>
#include <openssl/sha.h>

static struct far_event event_of(uint64_t seq)
{
    return (struct far_event){.seq = seq, .index = 9, .kind = 3, .version = 1, .flags = 2, .command_id = {1, 2, 3},
                              .actor = 5, .time_ms = 6, .payload = far_slice("payload", 7)};
}

static void the_head_is_the_sha_256_of_the_definition(void **state)
{
    (void)state;
    struct far_event event = event_of(1);
    uint8_t head[32] = {0}, header[FAR_EVENT_HEADER], joined[FAR_EVENT_HEADER + 32], two[64] = {0}, want[32];
    far_event_header(&event, header);
    memcpy(joined, header, sizeof header);
    SHA256((const uint8_t *)"payload", 7, joined + sizeof header);
    SHA256(joined, sizeof joined, two + 32);
    SHA256(two, sizeof two, want);
    assert_int_equal(far_chain_add(head, &event, NULL), 0);
    assert_memory_equal(head, want, 32);
}

static void every_field_changes_the_head(void **state)
{
    (void)state;
    struct far_event events[10];
    uint8_t heads[10][32];
    for (int i = 0; i < 10; i++) {
        events[i] = event_of(1);
    }
    events[1].seq++;
    events[2].index++;
    events[3].kind++;
    events[4].version++;
    events[5].flags++;
    events[6].command_id[15]++;
    events[7].actor++;
    events[8].time_ms++;
    events[9].payload = far_slice("paYload", 7);
    for (int i = 0; i < 10; i++) {
        memset(heads[i], 0, 32);
        assert_int_equal(far_chain_add(heads[i], &events[i], NULL), 0);
        for (int j = 0; j < i; j++) {
            assert_memory_not_equal(heads[i], heads[j], 32);
        }
    }
}

static void a_row_comes_back_as_written_and_no_flipped_byte_passes(void **state)
{
    (void)state;
    struct far_event event = event_of(42), back;
    uint8_t head[32], back_head[32];
    memset(head, 0xab, sizeof head);
    struct far_buf row;
    far_buf_init(&row, FAR_EVENT_ROW_MAX);
    assert_int_equal(far_event_row_encode(&event, head, &row, NULL), 0);
    assert_int_equal(far_event_row_decode(far_buf_slice(&row), &back, back_head, NULL), 0);
    assert_memory_equal(head, back_head, 32);
    assert_true(far_slice_equal(event.payload, back.payload));
    back.payload = event.payload;
    assert_memory_equal(&event, &back, offsetof(struct far_event, payload));
    for (size_t i = 0; i < row.len; i++) {
        row.data[i] ^= 1;
        assert_int_equal(far_event_row_decode(far_buf_slice(&row), &back, NULL, NULL), FAR_CORRUPT);
        row.data[i] ^= 1;
    }
    for (size_t len = 0; len < row.len; len++) {
        assert_int_equal(far_event_row_decode(far_slice(row.data, len), &back, NULL, NULL), FAR_CORRUPT);
    }
    far_buf_done(&row);
}

/* Encode an entry and a row; either may fail for want of memory. */
static int encode_both(void)
{
    struct far_buf entry, row;
    struct far_event event = event_of(1);
    struct far_command command = {.kind = FAR_KIND_cmd_tick};
    uint8_t head[32] = {0};
    far_buf_init(&entry, FAR_ENVELOPE_MAX);
    far_buf_init(&row, FAR_EVENT_ROW_MAX);
    int rv = far_envelope_begin(&entry, NULL);
    rv = rv != 0 ? rv : far_envelope_add(&entry, &command, NULL);
    rv = rv != 0 ? rv : far_event_row_encode(&event, head, &row, NULL);
    far_buf_done(&entry);
    far_buf_done(&row);
    return rv;
}

static void each_failing_allocation_gives_limit_and_leaks_nothing(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        far_fault_arm(FAR_FAULT_ALLOC, n, ENOMEM);
        int rv = encode_both();
        if (!far_fault_disarm()) {
            assert_int_equal(rv, 0);
            break;
        }
        assert_int_equal(rv, FAR_LIMIT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_head_is_the_sha_256_of_the_definition),
        cmocka_unit_test(every_field_changes_the_head),
        cmocka_unit_test(a_row_comes_back_as_written_and_no_flipped_byte_passes),
        cmocka_unit_test(each_failing_allocation_gives_limit_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
