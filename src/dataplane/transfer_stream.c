/* Frames on a blocking stream: the header, the head and, written or read by the caller, the bulk. */
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

int far_frame_write(struct far_bstream *stream, enum far_transfer_type type, const uint8_t *head, size_t head_len,
                    uint32_t bulk_len, uint64_t idle_ms, struct far_error *err)
{
    uint8_t bytes[FAR_TRANSFER_HEADER + FAR_TRANSFER_HEAD_MAX];
    far_transfer_header_encode(type, far_slice(head, head_len), bulk_len, bytes);
    if (head_len > 0) {
        memcpy(bytes + FAR_TRANSFER_HEADER, head, head_len);
    }
    return far_bstream_write(stream, bytes, FAR_TRANSFER_HEADER + head_len, idle_ms, err);
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
