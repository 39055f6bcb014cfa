/* Entries, single commands and rows of events as they may come from a damaged disk or a bad peer. */
#include "log/chain.h"
#include "log/envelope.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct far_envelope envelope;
    struct far_command command;
    struct far_event event;
    size_t used;
    uint8_t head[FAR_HEAD_SIZE];
    if (far_command_decode(far_slice(data, size), &command, &used, NULL) == 0 && used > size) {
        abort();
    }
    (void)far_event_row_decode(far_slice(data, size), &event, head, NULL);
    if (far_envelope_open(far_slice(data, size), &envelope, NULL) == 0) {
        uint32_t count = 0;
        while (far_envelope_next(&envelope, &command)) {
            count++;
        }
        if (count != envelope.count) {
            abort();
        }
    }
    /* Most inputs fail at the checksum: look behind it, too. */
    if (size >= FAR_ENVELOPE_HEADER && size <= FAR_ENVELOPE_MAX) {
        struct far_buf copy;
        far_buf_init(&copy, FAR_ENVELOPE_MAX);
        if (far_buf_append(&copy, data, size) == 0) {
            far_envelope_finish(&copy, 1, 1);
            (void)far_envelope_open(far_buf_slice(&copy), &envelope, NULL);
        }
        far_buf_done(&copy);
    }
    return 0;
}
