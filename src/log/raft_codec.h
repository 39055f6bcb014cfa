/* Raft's messages as bytes (docs/FORMATS.md). Only raft_*.c include this: it names libraft's types. Pure. */
#ifndef FAR_LOG_RAFT_CODEC_H
#define FAR_LOG_RAFT_CODEC_H

#include "base/buf.h"
#include "log/blob.h"

#include <raft.h>

enum {
    FAR_RAFT_MESSAGE_MAX = 960 * 1024, /* of one frame on the wire */
    FAR_RAFT_MESSAGE_ENTRIES_MAX = 64,
};

/* The entries of an AppendEntries are given apart: the library leaves them to the driver. */
struct far_raft_codec_entry {
    uint64_t term;
    uint8_t type;
    struct far_slice data;
};

/* Is this a configuration that libraft may decode (it reads without looking at the end)? Pure. */
bool far_raft_configuration_good(struct far_slice bytes);
/* Append the message to out. FAR_LIMIT: out is full. entries: n_entries of an AppendEntries, else NULL. */
int far_raft_message_encode(const struct raft_message *message, const struct far_raft_codec_entry *entries,
                            struct far_buf *out, struct far_error *err);
/* The message in bytes, checked: lengths, counts, types, zero terms and indexes that would break libraft's assumptions.
 * Entries are one batch from raft_malloc, as libraft wants them. ret_message->server_id and address are not set.
 * FAR_INVALID. */
int far_raft_message_decode(struct far_slice bytes, struct raft_message *ret_message, struct far_error *err);
/* Frees what decode made: the array of entries always; with batch, their data too, an InstallSnapshot's data and
 * configuration. */
void far_raft_message_done(struct raft_message *message, bool batch);

#endif
