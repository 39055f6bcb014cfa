/* The envelope: how commands lie in a raft entry.
 *
 * Entry = header {magic, version, its raft index and term, count, length, XXH3-64} and count commands, each a fixed
 * little-endian header and its payload, padded with zeros to 8 bytes; the whole a multiple of 8 and at most
 * FAR_ENVELOPE_MAX. The entry knows its own index and term, so one that lies in the wrong place is found. Pure functions,
 * any thread. docs/FORMATS.md has the layout. */
#ifndef FAR_LOG_ENVELOPE_H
#define FAR_LOG_ENVELOPE_H

#include "base/buf.h"
#include "fsm/fsm.h"

enum {
    FAR_ENVELOPE_MAX = 256 * 1024,
    FAR_ENVELOPE_HEADER = 40,
    FAR_ENVELOPE_COMMAND_HEADER = 48,
    FAR_ENVELOPE_VERSION = 0,
};

/* Bytes that the command takes in an envelope, padding included. */
size_t far_envelope_command_size(const struct far_command *command);

/* Start an envelope in an empty buffer whose maximum is at least FAR_ENVELOPE_MAX. FAR_LIMIT: no memory. */
int far_envelope_begin(struct far_buf *out, struct far_error *err);
/* Append a command. FAR_LIMIT: the envelope is full, as it was before; FAR_INVALID: its payload is too long. */
int far_envelope_add(struct far_buf *out, const struct far_command *command, struct far_error *err);
/* Write place and checksum; may be done again with another place. */
void far_envelope_finish(struct far_buf *out, uint64_t index, uint64_t term);

struct far_envelope {
    uint64_t index;
    uint64_t term;
    uint32_t count;
    uint32_t next;         /* commands already taken */
    struct far_slice rest; /* of the borrowed entry */
};

/* Open an entry and check all of it, every command included. FAR_CORRUPT: not what far_envelope_finish() wrote.
 * FAR_INVALID: it is whole, but of a newer version, or holds a kind or an incompatible flag that this program does not
 * know: whoever applies must stop before it. */
int far_envelope_open(struct far_slice entry, struct far_envelope *ret_envelope, struct far_error *err);
/* The next command, its payload borrowed from the entry; false after the last. */
bool far_envelope_next(struct far_envelope *envelope, struct far_command *ret_command);

/* One command by itself, as proposals are forwarded: the same bytes as inside an envelope. */
int far_command_encode(const struct far_command *command, struct far_buf *out, struct far_error *err);
/* FAR_CORRUPT: wrong lengths. ret_used: its bytes, padding included. Kinds and flags are not looked at. */
int far_command_decode(struct far_slice bytes, struct far_command *ret_command, size_t *ret_used, struct far_error *err);

#endif
