/* The scan of request heads. The first byte says in which pieces the rest comes. In whatever pieces: the same judgement, no byte more than
 * there is room for, and of a head that is taken nothing is changed but in headers that are not looked at. */
#include "api/http_scan.h"

#include <stdlib.h>

enum { ROOM = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(struct far_http_scan *scan, const uint8_t *data, size_t size, size_t piece)
{
    uint8_t room[ROOM];
    size_t used;
    for (size_t at = 0; at < size; at += used) {
        size_t len = size - at < piece ? size - at : piece;
        uint64_t heads = scan->heads;
        memcpy(room, data + at, len);
        size_t got = far_http_scan_bytes(scan, room, len, sizeof room, &used);
        if (got > sizeof room || used == 0 || used > len || (got != used && scan->status == 0) || scan->heads > heads + 1) {
            abort();
        }
        if (used < len && memcmp(room + used, data + at + used, len - used) != 0) {
            abort();
        }
        for (size_t i = 0; i < used && scan->status == 0; i++) {
            if (room[i] != data[at + i] && room[i] != '~' && room[i] != ':') {
                abort();
            }
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct far_http_scan pieces = {0}, whole = {0};
    const char *why;
    if (size == 0) {
        return 0;
    }
    run(&pieces, data + 1, size - 1, data[0] == 0 ? 1 : data[0]);
    run(&whole, data + 1, size - 1, ROOM - 256);
    if (pieces.heads != whole.heads || pieces.status != whole.status || pieces.part != whole.part) {
        abort();
    }
    for (uint64_t head = 0; head < whole.heads; head++) {
        if (far_http_scan_take(&whole, &why) != 0 && (head + 1 != whole.heads || whole.part != FAR_HTTP_REST)) {
            abort();
        }
    }
    if (far_http_scan_take(&whole, &why) == 0) {
        abort();
    }
    return 0;
}
