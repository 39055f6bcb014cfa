/* Getting wanted blocks ready: read again where the buffer was needed elsewhere, only the pages that differ where the target
 * said what it has, compressed where that pays. All in the group's buffer, where the blocks lie. */
#include "dataplane/send_local.h"

#include "base/hash.h"
#include "dataplane/compressible.h"
#include "dataplane/leaf_lanes.h"

#include <zstd.h>

enum {
    SAMPLE_BYTES = 4096,
    LEVEL = 1,
    PAGES_WORTH = 14, /* so many of 16 pages differ: the whole block goes, and the target need not look for the old one */
    ALL_PAGES = 0xffff,
};

static uint8_t *block_of(const struct send_group *group, size_t slot)
{
    return group->buffer + group->place[slot] * FAR_BLOCK_BYTES;
}

void send_describe_raw(struct send_group *group)
{
    struct far_transfer_data *data = &group->data;
    *data = (struct far_transfer_data){.group = group->offer.group};
    for (unsigned slot = 0; slot < group->offer.block_count; slot++) {
        if ((group->wanted >> slot & 1) != 0) {
            data->stored[data->count++] = (struct far_transfer_stored){
                .slot = (uint8_t)slot, .codec = FAR_TRANSFER_RAW, .pages = ALL_PAGES, .length = FAR_BLOCK_BYTES,
            };
        }
    }
}

/* Leaves of a block only the pages that the target has not; they move together at its beginning. */
static void keep_pages(struct send_group *group, struct far_transfer_stored *stored)
{
    const uint64_t *sums = group->want.sums[stored->slot];
    uint8_t *block = block_of(group, stored->slot);
    uint16_t pages = 0;
    for (unsigned i = 0; i < FAR_TRANSFER_PAGES; i++) {
        pages |= (uint16_t)((far_hash64(block + i * FAR_TRANSFER_PAGE, FAR_TRANSFER_PAGE) != sums[i]) << i);
    }
    unsigned count = (unsigned)__builtin_popcount(pages), kept = 0;
    if (count == 0 || count >= PAGES_WORTH) { /* equal sums of another block: the sums lie, all of it goes */
        return;
    }
    for (unsigned i = 0; i < FAR_TRANSFER_PAGES; i++) {
        if ((pages >> i & 1) != 0) {
            memmove(block + kept++ * FAR_TRANSFER_PAGE, block + i * FAR_TRANSFER_PAGE, FAR_TRANSFER_PAGE);
        }
    }
    stored->pages = pages;
    stored->length = count * FAR_TRANSFER_PAGE;
}

/* Compresses a block where it lies; the stored length, or 0 where it stays as it is. A sample says whether to try. */
static uint32_t compress(struct send_worker *worker, uint8_t *block, uint32_t plain)
{
    size_t bound = ZSTD_compressBound(FAR_BLOCK_BYTES), length;
    if (plain > 4 * SAMPLE_BYTES && !far_looks_compressible(block + plain / 2)) {
        length = ZSTD_compressCCtx(worker->zstd, worker->scratch, bound, block + plain / 2, SAMPLE_BYTES, LEVEL);
        if (ZSTD_isError(length) || length > SAMPLE_BYTES - SAMPLE_BYTES / 8) {
            return 0;
        }
    }
    length = ZSTD_compressCCtx(worker->zstd, worker->scratch, bound, block, plain, LEVEL);
    if (ZSTD_isError(length) || length > plain - plain / 8) {
        return 0;
    }
    memcpy(block, worker->scratch, length);
    return (uint32_t)length;
}

void send_pack(struct send_worker *worker, struct send_group *group)
{
    struct far_transfer_data *data = &group->data;
    send_describe_raw(group);
    for (size_t i = 0; i < data->count; i++) {
        struct far_transfer_stored *stored = &data->stored[i];
        if ((group->want.paged >> stored->slot & 1) != 0) {
            keep_pages(group, stored);
        }
        uint8_t *block = block_of(group, stored->slot);
        uint32_t length = group->compress ? compress(worker, block, stored->length) : 0;
        if (length != 0) {
            stored->codec = FAR_TRANSFER_ZSTD;
            stored->length = length;
            stored->hash = far_hash64(block, length);
        }
    }
}

/* The wanted blocks only, as they are now. */
static void offer_anew(struct far_send *send, struct send_group *group, const unsigned *slots, size_t count,
                       const struct far_hash256 *leaves)
{
    struct far_transfer_offer *offer = &group->offer;
    for (size_t i = 0; i < count; i++) {
        uint64_t block = offer->blocks[slots[i]];
        far_source_map_set(send->map, block, &leaves[i]);
        offer->blocks[i] = block;
        memcpy(offer->ids[i], leaves[i].bytes, 32);
        group->place[i] = group->place[slots[i]];
    }
    offer->block_count = (uint16_t)count;
    offer->run_count = 0; /* the target has them */
}

int send_read_again(struct send_worker *worker, struct send_group *group, bool *ret_changed, struct far_error *err)
{
    struct far_send *send = worker->send;
    const uint8_t *blocks[FAR_TRANSFER_GROUP] = {NULL};
    struct far_hash256 leaves[FAR_TRANSFER_GROUP];
    unsigned slots[FAR_TRANSFER_GROUP];
    size_t count = 0;
    for (unsigned slot = 0; slot < group->offer.block_count; slot++) {
        if ((group->wanted >> slot & 1) == 0) {
            continue;
        }
        uint64_t offset = group->offer.blocks[slot] * FAR_BLOCK_BYTES, rest = send->size_bytes - offset;
        size_t length = rest < FAR_BLOCK_BYTES ? (size_t)rest : FAR_BLOCK_BYTES;
        uint8_t *block = group->buffer + slot * FAR_BLOCK_BYTES;
        bool hole = false;
        int rc = send_read(worker, block, offset, length, &hole, err);
        if (rc != 0) {
            return rc;
        }
        memset(block + (hole ? 0 : length), 0, FAR_BLOCK_BYTES - (hole ? 0 : length));
        atomic_fetch_add(&send->attempt->figures.bytes_read, hole ? 0 : length);
        group->place[slot] = (uint8_t)slot;
        slots[count] = slot;
        blocks[count++] = block;
    }
    far_block_leaves(blocks, count, leaves);
    *ret_changed = false;
    for (size_t i = 0; i < count; i++) {
        *ret_changed = *ret_changed || memcmp(leaves[i].bytes, group->offer.ids[slots[i]], 32) != 0;
    }
    if (*ret_changed) {
        offer_anew(send, group, slots, count, leaves);
    }
    return 0;
}
