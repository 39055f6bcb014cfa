/* A segment of then is read: tests/golden/formats/segment.txt, in hexadecimal. zstd may compress the same rows into other bytes
 * one day, so what is made now is not compared with it byte by byte. Made by: golden_segment <file>. */
#define _GNU_SOURCE
#include "lib/cm.h"

#include "log/segment.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FIRST = 41, COUNT = 9, FILE_MAX = 64 * 1024 };
static const char text_file[] = FAR_SRCDIR "/tests/golden/formats/segment.txt";

static struct far_event event_of(uint64_t seq, uint8_t payload[200])
{
    size_t len = (size_t)(seq - FIRST) * 20;
    memset(payload, (int)seq, len);
    struct far_event event = {.seq = seq, .index = seq + 7, .kind = 16, .version = 1, .flags = 2, .actor = 0x0300000000000005,
                              .time_ms = 1700000000000 + seq, .payload = far_slice(payload, len)};
    memset(event.command_id, 0xc0 + (int)(seq & 7), sizeof event.command_id);
    return event;
}

static void first_head(uint8_t head[FAR_HEAD_SIZE])
{
    memset(head, 0x5a, FAR_HEAD_SIZE);
}

static int make(const char *path)
{
    uint8_t head[FAR_HEAD_SIZE], payload[200];
    char name[FAR_SEGMENT_NAME], line[3];
    struct far_segment_writer *writer;
    struct far_segment segment;
    struct far_buf row;
    far_buf_init(&row, FAR_EVENT_ROW_MAX);
    first_head(head);
    if (far_segment_create(".", FIRST, head, &writer, NULL) != 0) {
        return 1;
    }
    for (uint64_t seq = FIRST; seq < FIRST + COUNT; seq++) {
        struct far_event event = event_of(seq, payload);
        far_buf_reset(&row);
        if (far_chain_add(head, &event, NULL) != 0 || far_event_row_encode(&event, head, &row, NULL) != 0 ||
            far_segment_add(writer, far_buf_slice(&row), NULL) != 0) {
            return 1;
        }
    }
    far_buf_done(&row);
    if (far_segment_finish(writer, &segment, NULL) != 0) {
        return 1;
    }
    far_segment_name(&segment, name);
    FILE *in = fopen(name, "rb"), *out = fopen(path, "w");
    for (int c = in == NULL || out == NULL ? EOF : fgetc(in); c != EOF; c = fgetc(in)) {
        far_hex_encode(&(uint8_t){(uint8_t)c}, 1, line);
        fputs(line, out);
    }
    return out == NULL || fputc('\n', out) == EOF || fclose(out) != 0 || fclose(in) != 0 || unlink(name) != 0;
}

static int open_golden(void)
{
    static char text[2 * FILE_MAX];
    static uint8_t bytes[FILE_MAX];
    FILE *file = fopen(text_file, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    size_t len = strcspn(text, "\n") / 2;
    assert_true(far_hex_decode(text, 2 * len, bytes, len));
    int fd = memfd_create("segment", MFD_CLOEXEC);
    assert_true(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
    return fd;
}

static void a_segment_of_then_is_read(void **state)
{
    (void)state;
    uint8_t head[FAR_HEAD_SIZE], stored[FAR_HEAD_SIZE], payload[200];
    struct far_segment_reader *reader;
    struct far_error err = {0};
    first_head(head);
    if (far_segment_open_fd(open_golden(), "segment.txt", &reader, &err) != 0) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(far_segment_of(reader)->first_seq, FIRST);
    assert_int_equal(far_segment_of(reader)->last_seq, FIRST + COUNT - 1);
    assert_memory_equal(far_segment_of(reader)->base_head, head, FAR_HEAD_SIZE);
    for (uint64_t seq = FIRST; seq < FIRST + COUNT; seq++) {
        struct far_event event = event_of(seq, payload), read;
        struct far_slice row;
        assert_int_equal(far_segment_row(reader, seq, &row, NULL), 0);
        assert_int_equal(far_event_row_decode(row, &read, stored, NULL), 0);
        assert_int_equal(far_chain_add(head, &event, NULL), 0);
        assert_memory_equal(head, stored, FAR_HEAD_SIZE);
        assert_true(far_slice_equal(read.payload, event.payload));
    }
    assert_memory_equal(far_segment_of(reader)->head, head, FAR_HEAD_SIZE);
    far_segment_close(reader);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_segment_of_then_is_read)};
    return argc == 2 ? make(argv[1]) : cmocka_run_group_tests(tests, NULL, NULL);
}
