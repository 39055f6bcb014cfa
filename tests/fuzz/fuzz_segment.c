/* Segments as a bad disk or peer may give them. Checksums of end, index and header are made right, so that what lies behind
 * them is looked at; of the blocks, if the first byte says so. */
#define _GNU_SOURCE
#include "log/segment.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void repair_blocks(uint8_t *bytes, size_t size)
{
    for (size_t at = FAR_SEGMENT_HEADER; at + FAR_SEGMENT_BLOCK_HEADER < size;) {
        uint8_t *p = bytes + at;
        size_t len = far_get_le32(p + 12), left = size - at - FAR_SEGMENT_BLOCK_HEADER;
        if (len > left || len == 0) {
            return;
        }
        far_put_le64(p + 24, far_hash64_parts(far_slice(p, 24), far_slice(p + FAR_SEGMENT_BLOCK_HEADER, len), far_slice(NULL, 0)));
        at += FAR_SEGMENT_BLOCK_HEADER + len;
    }
}

static void repair(uint8_t *bytes, size_t size)
{
    uint8_t *end = bytes + size - FAR_SEGMENT_TRAILER;
    uint64_t at = far_get_le64(end + 88), count = far_get_le32(end + 96);
    if (at <= size && count <= FAR_SEGMENT_BLOCKS_MAX && count * FAR_SEGMENT_ENTRY <= size - at) {
        far_put_le64(end + 104, far_hash64(bytes + at, (size_t)count * FAR_SEGMENT_ENTRY));
    }
    far_put_le64(end + 112, size);
    far_put_le64(end + 128, far_hash64(end, 128));
    far_put_le64(bytes + 56, far_hash64(bytes, 56));
}

static void read_all(int fd)
{
    struct far_segment_reader *reader;
    struct far_event event;
    struct far_slice row;
    if (far_segment_open_fd(fd, "fuzz", &reader, NULL) != 0) {
        return;
    }
    uint64_t first = far_segment_of(reader)->first_seq, last = far_segment_of(reader)->last_seq;
    for (uint64_t i = 0; i < 64 && first + i <= last; i++) {
        if (far_segment_row(reader, first + i, &row, NULL) == 0) {
            (void)far_event_row_decode(row, &event, NULL, NULL);
        }
        (void)far_segment_row(reader, last - i, &row, NULL);
    }
    far_segment_close(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    int fd = memfd_create("segment", MFD_CLOEXEC);
    if (copy == NULL || fd < 0 || size == 0) {
        free(copy);
        close(fd);
        return 0;
    }
    memcpy(copy, data + 1, size - 1);
    size--;
    if (size >= FAR_SEGMENT_HEADER + FAR_SEGMENT_TRAILER) {
        if (data[0] != 0) {
            repair_blocks(copy, size);
        }
        repair(copy, size);
    }
    if (write(fd, copy, size) == (ssize_t)size) {
        read_all(fd);
    } else {
        close(fd);
    }
    free(copy);
    return 0;
}
