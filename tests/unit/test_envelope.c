/* The envelope: what goes in comes out, and nothing else is taken for one. */
#include "../lib/cm.h"

#include "log/envelope.h"

static struct far_command command_of(uint64_t number, struct far_slice payload)
{
    struct far_command command = {.kind = FAR_KIND_cmd_tick, .version = 0, .flags = 3, .actor = far_actor(FAR_ACTOR_TOKEN, number),
                                  .proposed_at_ms = 1000 + number, .payload = payload};
    far_put_le64(command.id, number);
    return command;
}

static void build(struct far_buf *out, unsigned count, size_t payload_len)
{
    static const uint8_t payload[1000] = {0x81, 1, 2, 3};
    far_buf_init(out, FAR_ENVELOPE_MAX);
    assert_int_equal(far_envelope_begin(out, NULL), 0);
    for (unsigned i = 0; i < count; i++) {
        struct far_command command = command_of(i, far_slice(payload, payload_len + i));
        assert_int_equal(far_envelope_add(out, &command, NULL), 0);
    }
    far_envelope_finish(out, 77, 5);
}

static void commands_come_out_as_they_went_in(void **state)
{
    (void)state;
    struct far_buf out;
    build(&out, 20, 1);
    assert_int_equal(out.len % 8, 0);
    struct far_envelope envelope;
    assert_int_equal(far_envelope_open(far_buf_slice(&out), &envelope, NULL), 0);
    assert_int_equal(envelope.index, 77);
    assert_int_equal(envelope.term, 5);
    assert_int_equal(envelope.count, 20);
    struct far_command command;
    for (unsigned i = 0; i < 20; i++) {
        assert_true(far_envelope_next(&envelope, &command));
        assert_int_equal(command.kind, FAR_KIND_cmd_tick);
        assert_int_equal(command.flags, 3);
        assert_int_equal(far_get_le64(command.id), i);
        assert_int_equal(command.actor, far_actor(FAR_ACTOR_TOKEN, i));
        assert_int_equal(command.proposed_at_ms, 1000 + i);
        assert_int_equal(command.payload.len, 1 + i);
    }
    assert_false(far_envelope_next(&envelope, &command));
    far_buf_done(&out);
}

static void every_flipped_byte_and_every_cut_is_found(void **state)
{
    (void)state;
    struct far_buf out;
    build(&out, 3, 5);
    struct far_envelope envelope;
    for (size_t i = 0; i < out.len; i++) {
        out.data[i] ^= 0x40;
        assert_int_equal(far_envelope_open(far_buf_slice(&out), &envelope, NULL), FAR_CORRUPT);
        out.data[i] ^= 0x40;
    }
    for (size_t len = 0; len < out.len; len++) {
        assert_int_equal(far_envelope_open(far_slice(out.data, len), &envelope, NULL), FAR_CORRUPT);
    }
    assert_int_equal(far_envelope_open(far_buf_slice(&out), &envelope, NULL), 0);
    far_buf_done(&out);
}

static void a_full_envelope_takes_no_more_and_stays_good(void **state)
{
    (void)state;
    static uint8_t big[FAR_COMMAND_PAYLOAD_MAX + 1];
    struct far_buf out;
    far_buf_init(&out, FAR_ENVELOPE_MAX);
    assert_int_equal(far_envelope_begin(&out, NULL), 0);
    struct far_command command = command_of(1, far_slice(big, FAR_COMMAND_PAYLOAD_MAX));
    assert_int_equal(far_envelope_add(&out, &command, NULL), 0);
    assert_int_equal(far_envelope_add(&out, &command, NULL), FAR_LIMIT);
    command.payload.len = FAR_ENVELOPE_MAX - out.len - FAR_ENVELOPE_COMMAND_HEADER;
    assert_int_equal(far_envelope_add(&out, &command, NULL), 0);
    assert_int_equal(out.len, FAR_ENVELOPE_MAX);
    far_envelope_finish(&out, 1, 1);
    struct far_envelope envelope;
    assert_int_equal(far_envelope_open(far_buf_slice(&out), &envelope, NULL), 0);
    assert_int_equal(envelope.count, 2);
    far_buf_reset(&out);
    command.payload.len = FAR_COMMAND_PAYLOAD_MAX + 1;
    assert_int_equal(far_envelope_add(&out, &command, NULL), FAR_INVALID);
    far_buf_done(&out);
}

static void what_a_newer_program_wrote_is_told_from_damage(void **state)
{
    (void)state;
    struct far_envelope envelope;
    struct far_command commands[3] = {command_of(1, far_slice("x", 1)), command_of(2, far_slice("x", 1)),
                                      command_of(3, far_slice("x", 1))};
    commands[0].kind = 60000;
    commands[1].version = 99;
    commands[2].flags = 1u << 16;
    for (int i = 0; i < 3; i++) {
        struct far_buf out;
        struct far_error err;
        far_buf_init(&out, FAR_ENVELOPE_MAX);
        assert_int_equal(far_envelope_begin(&out, NULL), 0);
        assert_int_equal(far_envelope_add(&out, &commands[i], NULL), 0);
        far_envelope_finish(&out, 9, 1);
        assert_int_equal(far_envelope_open(far_buf_slice(&out), &envelope, &err), FAR_INVALID);
        assert_non_null(strstr(err.message, "does not know"));
        far_buf_done(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_come_out_as_they_went_in),
        cmocka_unit_test(every_flipped_byte_and_every_cut_is_found),
        cmocka_unit_test(a_full_envelope_takes_no_more_and_stays_good),
        cmocka_unit_test(what_a_newer_program_wrote_is_told_from_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
