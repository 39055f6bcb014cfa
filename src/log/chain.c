/* The chain of events: header, leaf, head, row. See chain.h. */
#include "log/chain.h"

#include "base/hash.h"

#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_Update: the events are short, and EVP costs more for each than the hash */
#include <openssl/sha.h>

enum { HASH = 32, COMPACTED = 1 }; /* the mark of a row, where other rows and all leaves have a zero */

/* ret_hash = SHA-256(a ‖ b). */
static int hash_two(struct far_slice a, struct far_slice b, uint8_t ret_hash[32], struct far_error *err)
{
    SHA256_CTX context;
    bool good = SHA256_Init(&context) == 1 && (a.len == 0 || SHA256_Update(&context, a.data, a.len) == 1) &&
                (b.len == 0 || SHA256_Update(&context, b.data, b.len) == 1) && SHA256_Final(ret_hash, &context) == 1;
    return good ? 0 : far_fail(err, FAR_INTERNAL, "SHA-256 failed");
}

/* Of the payload, also where it was dropped. */
static uint32_t length_of(const struct far_event *event)
{
    return event->compacted_len != 0 ? event->compacted_len : (uint32_t)event->payload.len;
}

void far_event_header(const struct far_event *event, uint8_t ret_header[FAR_EVENT_HEADER])
{
    uint8_t *p = ret_header;
    far_put_le64(p, event->seq);
    far_put_le64(p + 8, event->index);
    far_put_le16(p + 16, event->kind);
    far_put_le16(p + 18, event->version);
    far_put_le32(p + 20, event->flags);
    memcpy(p + 24, event->command_id, 16);
    far_put_le64(p + 40, event->actor);
    far_put_le64(p + 48, event->time_ms);
    far_put_le32(p + 56, length_of(event));
    far_put_le32(p + 60, 0);
}

int far_event_payload_hash(struct far_slice payload, uint8_t ret_hash[32], struct far_error *err)
{
    return hash_two(payload, far_slice(NULL, 0), ret_hash, err);
}

bool far_event_may_compact(const struct far_event *event)
{
    return event->kind == FAR_KIND_ev_node_reported && length_of(event) > HASH;
}

int far_event_compact(struct far_event *event, uint8_t hash[32], struct far_error *err)
{
    int rv = far_event_payload_hash(event->payload, hash, err);
    if (rv == 0) {
        event->compacted_len = (uint32_t)event->payload.len;
        event->payload = far_slice(hash, HASH);
    }
    return rv;
}

int far_event_leaf(const struct far_event *event, uint8_t ret_leaf[32], struct far_error *err)
{
    uint8_t header[FAR_EVENT_HEADER], computed[HASH];
    struct far_slice payload_hash = event->payload;
    int rv = 0;
    far_event_header(event, header);
    if (event->compacted_len == 0) {
        rv = far_event_payload_hash(event->payload, computed, err);
        payload_hash = far_slice(computed, sizeof computed);
    }
    return rv != 0 ? rv : hash_two(far_slice(header, sizeof header), payload_hash, ret_leaf, err);
}

int far_chain_add(uint8_t head[FAR_HEAD_SIZE], const struct far_event *event, struct far_error *err)
{
    uint8_t leaf[32], next[FAR_HEAD_SIZE];
    int rv = far_event_leaf(event, leaf, err);
    rv = rv != 0 ? rv : hash_two(far_slice(head, FAR_HEAD_SIZE), far_slice(leaf, sizeof leaf), next, err);
    if (rv == 0) {
        memcpy(head, next, FAR_HEAD_SIZE);
    }
    return rv;
}

int far_event_row_encode(const struct far_event *event, const uint8_t head[FAR_HEAD_SIZE], struct far_buf *out,
                         struct far_error *err)
{
    size_t payload_len = event->payload.len, len = FAR_EVENT_HEADER + payload_len + FAR_HEAD_SIZE;
    uint8_t *p = payload_len > FAR_EVENT_PAYLOAD_MAX ? NULL : far_buf_reserve(out, len + 8);
    if (p == NULL) {
        return far_fail(err, FAR_LIMIT, "event %llu: no room for its %zu bytes", (unsigned long long)event->seq,
                        payload_len);
    }
    far_event_header(event, p);
    far_put_le32(p + 60, event->compacted_len != 0 ? COMPACTED : 0);
    if (payload_len > 0) {
        memcpy(p + FAR_EVENT_HEADER, event->payload.data, payload_len);
    }
    memcpy(p + FAR_EVENT_HEADER + payload_len, head, FAR_HEAD_SIZE);
    far_put_le64(p + len, far_hash64(p, len));
    out->len += len + 8;
    return 0;
}

int far_event_row_decode(struct far_slice row, struct far_event *ret_event, uint8_t ret_head[FAR_HEAD_SIZE],
                         struct far_error *err)
{
    const uint8_t *p = row.data;
    if (row.len < FAR_EVENT_HEADER + FAR_HEAD_SIZE + 8 || row.len > FAR_EVENT_ROW_MAX) {
        return far_fail(err, FAR_CORRUPT, "an event of %zu bytes", row.len);
    }
    size_t len = row.len - 8;
    unsigned long long seq = far_get_le64(p);
    if (far_get_le64(p + len) != far_hash64(p, len)) {
        return far_fail(err, FAR_CORRUPT, "event %llu: its checksum is wrong", seq);
    }
    size_t stored = len - FAR_EVENT_HEADER - FAR_HEAD_SIZE, whole = far_get_le32(p + 56);
    uint32_t mark = far_get_le32(p + 60);
    if (mark > COMPACTED || stored != (mark == COMPACTED ? HASH : whole)) {
        return far_fail(err, FAR_CORRUPT, "event %llu: its length is wrong", seq);
    }
    struct far_event event = {
        .seq = far_get_le64(p),
        .index = far_get_le64(p + 8),
        .kind = far_get_le16(p + 16),
        .version = far_get_le16(p + 18),
        .flags = far_get_le32(p + 20),
        .actor = far_get_le64(p + 40),
        .time_ms = far_get_le64(p + 48),
        .payload = far_slice(p + FAR_EVENT_HEADER, stored),
        .compacted_len = mark == COMPACTED ? (uint32_t)whole : 0,
    };
    if (mark == COMPACTED && (!far_event_may_compact(&event) || whole > FAR_EVENT_PAYLOAD_MAX)) {
        return far_fail(err, FAR_CORRUPT, "event %llu is compacted, and is none of those that may be", seq);
    }
    memcpy(event.command_id, p + 24, sizeof event.command_id);
    *ret_event = event;
    if (ret_head != NULL) {
        memcpy(ret_head, p + len - FAR_HEAD_SIZE, FAR_HEAD_SIZE);
    }
    return 0;
}
