/* The envelope of raft entries: encode, and decode of bytes that may be damaged. See envelope.h. */
#include "log/envelope.h"

#include "base/hash.h"

enum { MAGIC = 0x4e455246 /* "FREN" */, AT_VERSION = 4, AT_INDEX = 8, AT_TERM = 16, AT_COUNT = 24, AT_LENGTH = 28, AT_HASH = 32 };

static size_t padded(size_t len)
{
    return (len + 7) & ~(size_t)7;
}

size_t far_envelope_command_size(const struct far_command *command)
{
    return padded(FAR_ENVELOPE_COMMAND_HEADER + command->payload.len);
}

int far_envelope_begin(struct far_buf *out, struct far_error *err)
{
    uint8_t *header = far_buf_reserve(out, FAR_ENVELOPE_HEADER);
    if (header == NULL) {
        return far_fail(err, FAR_LIMIT, "begin a log entry: no memory");
    }
    memset(header, 0, FAR_ENVELOPE_HEADER);
    out->len += FAR_ENVELOPE_HEADER;
    return 0;
}

int far_command_encode(const struct far_command *command, struct far_buf *out, struct far_error *err)
{
    if (command->payload.len > FAR_COMMAND_PAYLOAD_MAX) {
        return far_fail(err, FAR_INVALID, "the command has %zu bytes, the limit is %d", command->payload.len,
                        FAR_COMMAND_PAYLOAD_MAX);
    }
    size_t len = FAR_ENVELOPE_COMMAND_HEADER + command->payload.len;
    uint8_t *p = far_buf_reserve(out, padded(len));
    if (p == NULL) {
        return far_fail(err, FAR_LIMIT, "no room for the command");
    }
    far_put_le32(p, (uint32_t)len);
    far_put_le16(p + 4, command->kind);
    far_put_le16(p + 6, command->version);
    far_put_le32(p + 8, command->flags);
    far_put_le32(p + 12, 0);
    memcpy(p + 16, command->id, 16);
    far_put_le64(p + 32, command->actor);
    far_put_le64(p + 40, command->proposed_at_ms);
    if (command->payload.len > 0) {
        memcpy(p + FAR_ENVELOPE_COMMAND_HEADER, command->payload.data, command->payload.len);
    }
    memset(p + len, 0, padded(len) - len);
    out->len += padded(len);
    return 0;
}

int far_envelope_add(struct far_buf *out, const struct far_command *command, struct far_error *err)
{
    if (out->len + far_envelope_command_size(command) > FAR_ENVELOPE_MAX) {
        return far_fail(err, FAR_LIMIT, "the log entry is full");
    }
    int rv = far_command_encode(command, out, err);
    if (rv == 0) {
        far_put_le32(out->data + AT_COUNT, far_get_le32(out->data + AT_COUNT) + 1);
    }
    return rv;
}

static uint64_t hash_of(struct far_slice entry)
{
    return far_hash64_parts(far_slice(entry.data, AT_HASH),
                            far_slice(entry.data + FAR_ENVELOPE_HEADER, entry.len - FAR_ENVELOPE_HEADER),
                            far_slice(NULL, 0));
}

void far_envelope_finish(struct far_buf *out, uint64_t index, uint64_t term)
{
    uint8_t *p = out->data;
    far_put_le32(p, MAGIC);
    far_put_le16(p + AT_VERSION, FAR_ENVELOPE_VERSION);
    far_put_le16(p + AT_VERSION + 2, 0);
    far_put_le64(p + AT_INDEX, index);
    far_put_le64(p + AT_TERM, term);
    far_put_le32(p + AT_LENGTH, (uint32_t)out->len);
    far_put_le64(p + AT_HASH, hash_of(far_buf_slice(out)));
}

int far_command_decode(struct far_slice bytes, struct far_command *ret_command, size_t *ret_used, struct far_error *err)
{
    if (bytes.len < FAR_ENVELOPE_COMMAND_HEADER) {
        return far_fail(err, FAR_CORRUPT, "a command ends within its header");
    }
    const uint8_t *p = bytes.data;
    size_t len = far_get_le32(p);
    if (len < FAR_ENVELOPE_COMMAND_HEADER || len > FAR_ENVELOPE_COMMAND_HEADER + FAR_COMMAND_PAYLOAD_MAX ||
        padded(len) > bytes.len || far_get_le32(p + 12) != 0) {
        return far_fail(err, FAR_CORRUPT, "a command has a wrong length (%zu of %zu bytes)", len, bytes.len);
    }
    for (size_t i = len; i < padded(len); i++) {
        if (p[i] != 0) {
            return far_fail(err, FAR_CORRUPT, "the padding of a command is not zero");
        }
    }
    *ret_command = (struct far_command){
        .kind = far_get_le16(p + 4),
        .version = far_get_le16(p + 6),
        .flags = far_get_le32(p + 8),
        .actor = far_get_le64(p + 32),
        .proposed_at_ms = far_get_le64(p + 40),
        .payload = far_slice(p + FAR_ENVELOPE_COMMAND_HEADER, len - FAR_ENVELOPE_COMMAND_HEADER),
    };
    memcpy(ret_command->id, p + 16, sizeof ret_command->id);
    *ret_used = padded(len);
    return 0;
}

/* Is every command whole, and known here? */
static int check_commands(struct far_envelope envelope, struct far_error *err)
{
    struct far_command unknown = {0};
    bool incompatible = false;
    for (uint32_t i = 0; i < envelope.count; i++) {
        struct far_command command;
        size_t used;
        int rv = far_command_decode(envelope.rest, &command, &used, err);
        if (rv != 0) {
            far_error_context(err, "log entry %llu, command %u of %u", (unsigned long long)envelope.index, i + 1,
                              envelope.count);
            return rv;
        }
        envelope.rest = far_slice(envelope.rest.data + used, envelope.rest.len - used);
        if (!incompatible && ((command.flags & FAR_FLAGS_INCOMPATIBLE) != 0 ||
                              far_schema_find(FAR_CLASS_cmd, command.kind, command.version) == NULL)) {
            unknown = command;
            incompatible = true;
        }
    }
    if (envelope.rest.len != 0) {
        return far_fail(err, FAR_CORRUPT, "log entry %llu: %zu bytes behind its last command",
                        (unsigned long long)envelope.index, envelope.rest.len);
    }
    if (incompatible) {
        return far_fail(err, FAR_INVALID,
                        "log entry %llu holds command kind %u version %u flags %08x, which this version of Farshore does "
                        "not know; install the version that the other servers run",
                        (unsigned long long)envelope.index, unknown.kind, unknown.version, unknown.flags);
    }
    return 0;
}

int far_envelope_open(struct far_slice entry, struct far_envelope *ret_envelope, struct far_error *err)
{
    const uint8_t *p = entry.data;
    if (entry.len < FAR_ENVELOPE_HEADER || entry.len > FAR_ENVELOPE_MAX || entry.len % 8 != 0) {
        return far_fail(err, FAR_CORRUPT, "a log entry of %zu bytes", entry.len);
    }
    if (far_get_le32(p) != MAGIC || far_get_le32(p + AT_LENGTH) != entry.len ||
        far_get_le64(p + AT_HASH) != hash_of(entry)) {
        return far_fail(err, FAR_CORRUPT, "log entry %llu: its checksum is wrong",
                        (unsigned long long)far_get_le64(p + AT_INDEX));
    }
    if (far_get_le16(p + AT_VERSION) != FAR_ENVELOPE_VERSION || far_get_le16(p + AT_VERSION + 2) != 0) {
        return far_fail(err, FAR_INVALID, "log entry %llu has format %u, this version of Farshore knows %d",
                        (unsigned long long)far_get_le64(p + AT_INDEX), far_get_le16(p + AT_VERSION),
                        FAR_ENVELOPE_VERSION);
    }
    struct far_envelope envelope = {
        .index = far_get_le64(p + AT_INDEX),
        .term = far_get_le64(p + AT_TERM),
        .count = far_get_le32(p + AT_COUNT),
        .rest = far_slice(p + FAR_ENVELOPE_HEADER, entry.len - FAR_ENVELOPE_HEADER),
    };
    int rv = check_commands(envelope, err);
    if (rv == 0) {
        *ret_envelope = envelope;
    }
    return rv;
}

bool far_envelope_next(struct far_envelope *envelope, struct far_command *ret_command)
{
    size_t used;
    if (envelope->next == envelope->count || far_command_decode(envelope->rest, ret_command, &used, NULL) != 0) {
        return false;
    }
    envelope->rest = far_slice(envelope->rest.data + used, envelope->rest.len - used);
    envelope->next++;
    return true;
}
