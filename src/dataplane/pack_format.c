/* Records and headers of packs as bytes: see pack.h and docs/FORMATS.md. */
#include "dataplane/pack.h"

#include "base/hash.h"

#include <zstd.h>

#define RECORD_MAGIC 0x31524146u /* "FAR1" */
#define PACK_VERSION 0u
static const char pack_magic[8] = "FARPACK0";

static uint32_t raw_max_of(uint8_t type)
{
    switch (type) {
    case FAR_RECORD_BLOCK:
        return FAR_BLOCK_BYTES;
    case FAR_RECORD_PAGE:
        return FAR_MAP_PAGE_BYTES;
    case FAR_RECORD_ROOT:
        return 48;
    case FAR_RECORD_SEAL:
        return 8;
    default:
        return 0;
    }
}

void far_record_encode(const struct far_record *record, uint8_t ret_header[FAR_RECORD_HEADER_BYTES])
{
    far_put_le32(ret_header, RECORD_MAGIC);
    ret_header[4] = record->type;
    ret_header[5] = record->codec;
    far_put_le16(ret_header + 6, record->domain);
    far_put_le32(ret_header + 8, record->stored_len);
    far_put_le32(ret_header + 12, record->domain == 0 ? record->raw_len : record->key_pack);
    memcpy(ret_header + 16, record->id.bytes, 32);
    far_put_le64(ret_header + 48, record->sum);
    far_put_le64(ret_header + 56, far_hash64(ret_header, 56));
}

int far_record_decode(const uint8_t header[FAR_RECORD_HEADER_BYTES], struct far_record *ret_record,
                      struct far_error *err)
{
    if (far_get_le32(header) != RECORD_MAGIC) {
        return far_fail(err, FAR_CORRUPT, "no record starts here");
    }
    if (far_get_le64(header + 56) != far_hash64(header, 56)) {
        return far_fail(err, FAR_CORRUPT, "the header of the record is damaged");
    }
    struct far_record record = {
        .type = header[4],
        .codec = header[5],
        .domain = far_get_le16(header + 6),
        .stored_len = far_get_le32(header + 8),
        .sum = far_get_le64(header + 48),
    };
    memcpy(record.id.bytes, header + 16, 32);
    uint32_t raw_max = raw_max_of(record.type);
    bool keyed = record.domain != 0;
    if (raw_max == 0 || record.codec > FAR_CODEC_ZSTD || (keyed && record.type == FAR_RECORD_SEAL)) {
        return far_fail(err, FAR_CORRUPT, "a record of an unknown type or codec");
    }
    uint32_t word = far_get_le32(header + 12), overhead = keyed ? FAR_SEALED_OVERHEAD : 0;
    record.raw_len = keyed ? raw_max : word;
    record.key_pack = keyed ? word : 0;
    bool raw_good = record.codec != FAR_CODEC_RAW || record.stored_len == record.raw_len + overhead;
    if (record.raw_len != raw_max || record.stored_len <= overhead || record.stored_len > FAR_BLOCK_BYTES + overhead || !raw_good) {
        return far_fail(err, FAR_CORRUPT, "a record with impossible lengths");
    }
    *ret_record = record;
    return 0;
}

int far_record_check(const struct far_record *record, const void *stored, struct far_error *err)
{
    bool good = far_hash64(stored, record->stored_len) == record->sum;
    return good ? 0 : far_fail(err, FAR_CORRUPT, "checksum (XXH3) of the stored bytes is wrong");
}

int far_record_unpack(const struct far_record *record, const void *packed, size_t len, void *ret_raw, size_t raw_max,
                      struct far_error *err)
{
    if (record->raw_len > raw_max) {
        return far_fail(err, FAR_CORRUPT, "a record of another kind than expected");
    }
    if (record->codec == FAR_CODEC_RAW) {
        memcpy(ret_raw, packed, record->raw_len);
        return 0;
    }
    size_t n = ZSTD_decompress(ret_raw, record->raw_len, packed, len);
    if (ZSTD_isError(n) || n != record->raw_len) {
        return far_fail(err, FAR_CORRUPT, "the stored bytes do not uncompress");
    }
    return 0;
}

int far_record_open(const struct far_record *record, const void *stored, void *ret_raw, size_t raw_max,
                    struct far_error *err)
{
    int rc = far_record_check(record, stored, err);
    if (rc == 0 && record->domain != 0) {
        rc = far_fail(err, FAR_CORRUPT, "an encrypted record where none can be");
    }
    return rc == 0 ? far_record_unpack(record, stored, record->stored_len, ret_raw, raw_max, err) : rc;
}

void far_pack_header_encode(uint32_t number, const uint8_t vault_uuid[16], uint8_t ret_header[FAR_PACK_HEADER_BYTES])
{
    memset(ret_header, 0, FAR_PACK_HEADER_BYTES);
    memcpy(ret_header, pack_magic, 8);
    far_put_le32(ret_header + 8, PACK_VERSION);
    far_put_le32(ret_header + 12, number);
    memcpy(ret_header + 16, vault_uuid, 16);
    far_put_le64(ret_header + 56, far_hash64(ret_header, 56));
}

int far_pack_header_decode(const uint8_t header[FAR_PACK_HEADER_BYTES], uint32_t number, const uint8_t vault_uuid[16],
                           struct far_error *err)
{
    if (memcmp(header, pack_magic, 8) != 0 || far_get_le64(header + 56) != far_hash64(header, 56)) {
        return far_fail(err, FAR_CORRUPT, "the header of the pack is damaged");
    }
    if (far_get_le32(header + 8) != PACK_VERSION) {
        return far_fail(err, FAR_CORRUPT, "a pack of version %u, this program knows %u", far_get_le32(header + 8),
                        PACK_VERSION);
    }
    if (far_get_le32(header + 12) != number || memcmp(header + 16, vault_uuid, 16) != 0) {
        return far_fail(err, FAR_CORRUPT, "the pack is another one, or of another vault");
    }
    return 0;
}
