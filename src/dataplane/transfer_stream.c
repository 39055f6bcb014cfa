/* Frames on a blocking stream: the header, the head and the bulk, which the caller reads by itself. */
#include "dataplane/engine_local.h"

int far_frame_read(struct far_bstream *stream, uint64_t idle_ms, struct far_frame *ret_frame, struct far_error *err)
{
    uint8_t header[FAR_TRANSFER_HEADER];
    int rc = far_bstream_read(stream, header, sizeof header, idle_ms, err);
    if (rc == 0) {
        rc = far_transfer_header_decode(header, &ret_frame->header, err);
    }
    if (rc == 0 && ret_frame->header.head_len > 0) {
        rc = far_bstream_read(stream, ret_frame->head, ret_frame->header.head_len, idle_ms, err);
    }
    return rc == 0 ? far_transfer_head_check(&ret_frame->header, header, far_frame_head(ret_frame), err) : rc;
}

int far_frame_add_bulk(struct far_bstream *stream, enum far_transfer_type type, struct far_slice head,
                       const struct far_slice *bulk, size_t pieces, uint64_t idle_ms, struct far_error *err)
{
    uint8_t bytes[FAR_TRANSFER_HEADER + FAR_TRANSFER_HEAD_MAX];
    struct far_slice parts[1 + FAR_TRANSFER_GROUP];
    uint32_t bulk_len = 0;
    for (size_t i = 0; i < pieces; i++) {
        parts[1 + i] = bulk[i];
        bulk_len += (uint32_t)bulk[i].len;
    }
    far_transfer_header_encode(type, head, bulk_len, bytes);
    memcpy(bytes + FAR_TRANSFER_HEADER, head.data, head.len);
    parts[0] = far_slice(bytes, FAR_TRANSFER_HEADER + head.len);
    return far_bstream_add(stream, parts, 1 + pieces, idle_ms, err);
}

int far_frame_add(struct far_bstream *stream, enum far_transfer_type type, const uint8_t *head, size_t head_len,
                  uint64_t idle_ms, struct far_error *err)
{
    static const uint8_t nothing[1];
    return far_frame_add_bulk(stream, type, far_slice(head_len > 0 ? head : nothing, head_len), NULL, 0, idle_ms, err);
}

int far_frame_write(struct far_bstream *stream, enum far_transfer_type type, const uint8_t *head, size_t head_len,
                    uint64_t idle_ms, struct far_error *err)
{
    int rc = far_frame_add(stream, type, head, head_len, idle_ms, err);
    return rc == 0 ? far_bstream_flush(stream, idle_ms, err) : rc;
}

int far_frame_error(const struct far_frame *frame, struct far_error *err)
{
    struct far_transfer_error said;
    int rc = far_transfer_error_decode(far_frame_head(frame), &said, err);
    return rc == 0 ? far_fail(err, said.klass, "the other node: %s", said.message) : rc;
}

int far_attempt_check_peer(const struct far_attempt *attempt, const struct far_bstream *stream, struct far_error *err)
{
    const struct far_engine_order *order = &attempt->order;
    if (!order->has_peer_fingerprint || memcmp(order->peer_fingerprint, far_bstream_fingerprint(stream), 32) == 0) {
        return 0;
    }
    return far_fail(err, FAR_DENIED, "the certificate of node %llu is of another key than the one that joined",
                    (unsigned long long)order->peer_node_id);
}
