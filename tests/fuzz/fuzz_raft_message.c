/* Raft's messages as a bad peer may send them: what is accepted gives the same bytes again. */
#include "log/raft_codec.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const struct raft_message *message, struct far_slice bytes)
{
    struct far_raft_codec_entry entries[FAR_RAFT_MESSAGE_ENTRIES_MAX];
    struct far_buf out;
    if (message->type == RAFT_APPEND_ENTRIES) {
        for (unsigned i = 0; i < message->append_entries.n_entries; i++) {
            const struct raft_entry *entry = &message->append_entries.entries[i];
            entries[i] = (struct far_raft_codec_entry){.term = entry->term, .type = (uint8_t)entry->type,
                                                       .data = far_slice(entry->buf.base, entry->buf.len)};
        }
    }
    far_buf_init(&out, 8 * 1024 * 1024);
    if (far_raft_message_encode(message, entries, &out, NULL) != 0) {
        abort();
    }
    /* A configuration is written anew by libraft, and features and capacity have 16 bits: only lengths there. */
    bool is_exact = message->type == RAFT_APPEND_ENTRIES || message->type == RAFT_REQUEST_VOTE ||
                    message->type == RAFT_TIMEOUT_NOW;
    if (is_exact && !far_slice_equal(far_buf_slice(&out), bytes)) {
        abort();
    }
    far_buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct raft_message message;
    struct far_slice bytes = far_slice(data, size);
    (void)far_raft_configuration_good(bytes);
    if (far_raft_message_decode(bytes, &message, NULL) == 0) {
        again(&message, bytes);
        far_raft_message_done(&message, true);
    }
    return 0;
}
