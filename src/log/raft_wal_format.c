/* Bytes of the WAL: see raft_wal_format.h and docs/FORMATS.md. */
#include "log/raft_wal_format.h"

#include "base/hash.h"
#include "log/raft_wal.h"

static const uint8_t segment_magic[8] = {'F', 'A', 'R', 'W', 'A', 'L', 0, 0};
static const uint8_t vote_magic[8] = {'F', 'A', 'R', 'V', 'O', 'T', 0, 0};
static const uint32_t record_magic = 0x4c415746; /* "FWAL" */

static size_t padded(size_t len)
{
    return (len + 7) / 8 * 8;
}

void far_wal_header_encode(uint8_t bytes[FAR_WAL_HEADER_BYTES], const struct far_wal_header *header)
{
    memset(bytes, 0, FAR_WAL_HEADER_BYTES);
    memcpy(bytes, segment_magic, 8);
    far_put_le64(bytes + 16, header->number);
    far_put_le64(bytes + 24, header->first_ordinal);
    far_put_le32(bytes + 32, header->salt);
    far_put_le64(bytes + 56, far_hash64(bytes, 56));
}

bool far_wal_header_decode(const uint8_t bytes[FAR_WAL_HEADER_BYTES], struct far_wal_header *ret_header)
{
    if (memcmp(bytes, segment_magic, 8) != 0 || far_get_le64(bytes + 56) != far_hash64(bytes, 56)) {
        return false;
    }
    *ret_header = (struct far_wal_header){.number = far_get_le64(bytes + 16),
                                          .first_ordinal = far_get_le64(bytes + 24),
                                          .salt = far_get_le32(bytes + 32)};
    return true;
}

int far_wal_item_encode(struct far_buf *payload, const struct far_wal_item *item)
{
    size_t bytes = FAR_WAL_ENTRY_HEADER_BYTES + padded(item->data.len);
    uint8_t *at = far_buf_reserve(payload, bytes);
    if (at == NULL || item->data.len > FAR_WAL_ENTRY_MAX) {
        return FAR_LIMIT;
    }
    memset(at, 0, bytes);
    far_put_le64(at, item->index);
    far_put_le64(at + 8, item->term);
    far_put_le32(at + 16, (uint32_t)item->data.len);
    at[20] = item->type;
    if (item->data.len > 0) {
        memcpy(at + FAR_WAL_ENTRY_HEADER_BYTES, item->data.data, item->data.len);
    }
    payload->len += bytes;
    return 0;
}

bool far_wal_item_decode(struct far_slice *rest, struct far_wal_item *ret_item)
{
    if (rest->len < FAR_WAL_ENTRY_HEADER_BYTES) {
        return false;
    }
    const uint8_t *at = rest->data;
    size_t len = far_get_le32(at + 16);
    if (len > FAR_WAL_ENTRY_MAX || padded(len) > rest->len - FAR_WAL_ENTRY_HEADER_BYTES) {
        return false;
    }
    *ret_item = (struct far_wal_item){.index = far_get_le64(at),
                                      .term = far_get_le64(at + 8),
                                      .type = at[20],
                                      .data = far_slice(at + FAR_WAL_ENTRY_HEADER_BYTES, len)};
    size_t bytes = FAR_WAL_ENTRY_HEADER_BYTES + padded(len);
    *rest = far_slice(at + bytes, rest->len - bytes);
    return true;
}

static uint64_t record_sum(const uint8_t header[FAR_WAL_RECORD_HEADER_BYTES], struct far_slice payload)
{
    return far_hash64_parts(far_slice(header, 24), payload, far_slice(NULL, 0));
}

void far_wal_record_header(uint8_t header[FAR_WAL_RECORD_HEADER_BYTES], uint64_t ordinal, uint32_t count,
                           uint32_t salt, struct far_slice payload)
{
    memset(header, 0, FAR_WAL_RECORD_HEADER_BYTES);
    far_put_le32(header, record_magic);
    far_put_le32(header + 4, (uint32_t)payload.len);
    far_put_le64(header + 8, ordinal);
    far_put_le32(header + 16, count);
    far_put_le32(header + 20, salt);
    far_put_le64(header + 24, record_sum(header, payload));
}

bool far_wal_record_decode(struct far_slice bytes, struct far_wal_record *ret_record)
{
    if (bytes.len < FAR_WAL_RECORD_HEADER_BYTES || far_get_le32(bytes.data) != record_magic) {
        return false;
    }
    size_t len = far_get_le32(bytes.data + 4);
    if (len % 8 != 0 || len > bytes.len - FAR_WAL_RECORD_HEADER_BYTES) {
        return false;
    }
    struct far_slice payload = far_slice(bytes.data + FAR_WAL_RECORD_HEADER_BYTES, len);
    if (far_get_le64(bytes.data + 24) != record_sum(bytes.data, payload)) {
        return false;
    }
    *ret_record = (struct far_wal_record){.ordinal = far_get_le64(bytes.data + 8),
                                          .count = far_get_le32(bytes.data + 16),
                                          .salt = far_get_le32(bytes.data + 20),
                                          .payload = payload,
                                          .bytes = FAR_WAL_RECORD_HEADER_BYTES + len};
    return true;
}

bool far_wal_record_behind(struct far_slice bytes, uint64_t ordinal, const uint32_t *salt)
{
    struct far_wal_record record;
    for (size_t at = 8; at + FAR_WAL_RECORD_HEADER_BYTES <= bytes.len; at += 8) {
        if (far_get_le32(bytes.data + at) == record_magic &&
            far_wal_record_decode(far_slice(bytes.data + at, bytes.len - at), &record) && record.ordinal >= ordinal &&
            record.ordinal - ordinal < bytes.len && (salt == NULL || record.salt == *salt)) {
            return true;
        }
    }
    return false;
}

void far_wal_vote_encode(uint8_t bytes[FAR_WAL_VOTE_BYTES], uint64_t counter, uint64_t term, uint64_t vote)
{
    memcpy(bytes, vote_magic, 8);
    far_put_le64(bytes + 8, counter);
    far_put_le64(bytes + 16, term);
    far_put_le64(bytes + 24, vote);
    far_put_le64(bytes + 32, far_hash64(bytes, 32));
}

bool far_wal_vote_decode(const uint8_t bytes[FAR_WAL_VOTE_BYTES], uint64_t *ret_counter, uint64_t *ret_term,
                         uint64_t *ret_vote)
{
    if (memcmp(bytes, vote_magic, 8) != 0 || far_get_le64(bytes + 32) != far_hash64(bytes, 32)) {
        return false;
    }
    *ret_counter = far_get_le64(bytes + 8);
    *ret_term = far_get_le64(bytes + 16);
    *ret_vote = far_get_le64(bytes + 24);
    return true;
}

int far_wal_parse_segment(struct far_slice bytes, struct far_error *err)
{
    struct far_wal_header header;
    struct far_wal_record record;
    if (bytes.len < FAR_WAL_HEADER_BYTES || !far_wal_header_decode(bytes.data, &header)) {
        return far_fail(err, FAR_CORRUPT, "the segment's header is damaged");
    }
    uint64_t ordinal = header.first_ordinal;
    size_t at = FAR_WAL_HEADER_BYTES;
    while (at < bytes.len && far_wal_record_decode(far_slice(bytes.data + at, bytes.len - at), &record)) {
        struct far_slice rest = record.payload;
        struct far_wal_item item;
        uint32_t count = 0;
        while (rest.len > 0 && far_wal_item_decode(&rest, &item)) {
            count++;
        }
        if (rest.len > 0 || count != record.count || record.ordinal != ordinal ||
            record.salt != header.salt) {
            return far_fail(err, FAR_CORRUPT, "the record at %zu is not well formed", at);
        }
        ordinal++;
        at += record.bytes;
    }
    for (; at < bytes.len; at++) {
        if (bytes.data[at] != 0) {
            return far_fail(err, FAR_CORRUPT, "no record and not empty at %zu", at);
        }
    }
    return 0;
}
