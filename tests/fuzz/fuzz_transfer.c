/* Frames of the data port, as a bad node may send them: the first byte picks the frame, the rest is header or head.
 * What is accepted must be encodable again into the same bytes. */
#include "dataplane/transfer_frames.h"

#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t out[FAR_TRANSFER_HEADER + FAR_TRANSFER_HEAD_MAX];
static union {
    struct far_transfer_header header;
    struct far_transfer_hello hello;
    struct far_transfer_welcome welcome;
    struct far_transfer_credit credit;
    struct far_transfer_offer offer;
    struct far_transfer_want want;
    struct far_transfer_page page;
    struct far_transfer_knock knock;
    uint64_t groups[FAR_TRANSFER_WANTS_MAX];
    struct far_transfer_data data;
    struct far_transfer_error error;
    uint64_t block;
} any;

/* Every want of a frame. */
static void try_wants(struct far_slice head)
{
    while (head.len > 0) {
        struct far_slice rest = head;
        if (far_transfer_want_next(&rest, &any.want, NULL) != 0) {
            return;
        }
        size_t len = far_transfer_want_encode(&any.want, out);
        FAR_ASSERT(len == far_transfer_want_bytes(&any.want) && len == head.len - rest.len);
        FAR_ASSERT(far_slice_equal(far_slice(head.data, len), far_slice(out, len)));
        head = rest;
    }
}

static void same(struct far_slice head, size_t len)
{
    FAR_ASSERT(far_slice_equal(head, far_slice(out, len)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > FAR_TRANSFER_HEAD_MAX) {
        return 0;
    }
    struct far_slice head = far_slice(data + 1, size - 1);
    size_t count = 0;
    switch (data[0] % 14) {
    case 0:
        if (head.len >= FAR_TRANSFER_HEADER && far_transfer_header_decode(head.data, &any.header, NULL) == 0) {
            (void)far_transfer_head_check(&any.header, head.data, head, NULL);
        }
        break;
    case 1:
        if (far_transfer_hello_decode(head, &any.hello, NULL) == 0) {
            same(head, far_transfer_hello_encode(&any.hello, out));
        }
        break;
    case 2:
        if (far_transfer_welcome_decode(head, &any.welcome, NULL) == 0) {
            same(head, far_transfer_welcome_encode(&any.welcome, out));
        }
        break;
    case 3:
        if (far_transfer_credit_decode(head, &any.credit, NULL) == 0) {
            same(head, far_transfer_credit_encode(&any.credit, out));
        }
        break;
    case 4:
        if (far_transfer_offer_decode(head, 1 << 24, &any.offer, NULL) == 0 && any.offer.block_count > 0) {
            same(head, far_transfer_offer_encode(&any.offer, out));
        }
        break;
    case 5:
        try_wants(head);
        break;
    case 6:
        (void)far_transfer_data_decode(head, 65536, &any.data, NULL);
        if (far_transfer_data_decode(head, FAR_TRANSFER_BULK_MAX, &any.data, NULL) == 0) {
            same(head, far_transfer_data_encode(&any.data, out));
        }
        break;
    case 10:
        if (far_transfer_ack_decode(head, any.groups, &count, NULL) == 0) {
            same(head, far_transfer_ack_encode(any.groups, count, out));
        }
        break;
    case 11:
        if (far_transfer_page_decode(head, &any.page, NULL) == 0) {
            same(head, far_transfer_page_encode(&any.page, out));
        }
        break;
    case 12: {
        unsigned level;
        if (far_transfer_page_ask_decode(head, &level, &any.block, NULL) == 0) {
            same(head, far_transfer_page_ask_encode(level, any.block, out));
        }
        break;
    }
    case 13:
        if (far_transfer_knock_decode(head, &any.knock, NULL) == 0) {
            same(head, far_transfer_knock_encode(&any.knock, out));
        }
        break;
    case 7:
    case 8:
        if (far_transfer_block_decode(head, 1 << 24, &any.block, NULL) == 0) {
            same(head, far_transfer_block_encode(any.block, out));
        }
        break;
    default:
        (void)far_transfer_error_decode(head, &any.error, NULL);
        break;
    }
    return 0;
}
