/* The chain of events: how an event is encoded, hashed and stored.
 *
 * header = 64 bytes, little endian: seq, index, kind, version, flags, command id, actor, time, payload length, zero.
 * leaf = SHA-256(header ‖ SHA-256(payload)); head = SHA-256(previous head ‖ leaf); before the first event the head is 32
 * zero bytes. So whoever holds a head can check every event before it, also one whose payload was dropped.
 * A row, as stores keep it and peers exchange it = header ‖ payload ‖ head after it ‖ XXH3-64 of all that. Of a compacted event
 * (compact.h) it holds SHA-256(payload) instead of the payload, and a mark in the header; leaf, chain and proofs stay what
 * they were. Pure functions, any thread. */
#ifndef FAR_LOG_CHAIN_H
#define FAR_LOG_CHAIN_H

#include "base/buf.h"
#include "fsm/fsm.h"

enum {
    FAR_HEAD_SIZE = 32,
    FAR_EVENT_HEADER = 64,
    FAR_EVENT_ROW_MAX = FAR_EVENT_HEADER + FAR_EVENT_PAYLOAD_MAX + FAR_HEAD_SIZE + 8,
};

/* As the leaf and proofs have it: without the mark of a row. */
void far_event_header(const struct far_event *event, uint8_t ret_header[FAR_EVENT_HEADER]);
/* May its payload be dropped: does it say nothing but progress, and is the payload longer than its hash? */
bool far_event_may_compact(const struct far_event *event);
/* SHA-256 of a payload. FAR_INTERNAL only when OpenSSL fails (no memory), as the next three. */
int far_event_payload_hash(struct far_slice payload, uint8_t ret_hash[32], struct far_error *err);
/* The event without its payload; it borrows hash instead. */
int far_event_compact(struct far_event *event, uint8_t hash[32], struct far_error *err);
int far_event_leaf(const struct far_event *event, uint8_t ret_leaf[32], struct far_error *err);
/* head becomes the head after the event. */
int far_chain_add(uint8_t head[FAR_HEAD_SIZE], const struct far_event *event, struct far_error *err);

/* Append the row of an event to out; head: the one after it. FAR_LIMIT: out is full or the payload too long. */
int far_event_row_encode(const struct far_event *event, const uint8_t head[FAR_HEAD_SIZE], struct far_buf *out,
                         struct far_error *err);
/* The payload is borrowed from the row; ret_head may be NULL. FAR_CORRUPT names the seq that the row claims. */
int far_event_row_decode(struct far_slice row, struct far_event *ret_event, uint8_t ret_head[FAR_HEAD_SIZE],
                         struct far_error *err);

#endif
