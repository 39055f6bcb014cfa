/* Records of packs, replica files and index values. The first byte says what: 0 a header of a pack, 1 one record as it
 * is, 2 one record with right checksums, 3 a walk over a file of records, strict and tolerant, 4 the file of a replica. */
#define _GNU_SOURCE
#include "base/hash.h"
#include "dataplane/vault_private.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int count_record(void *arg, struct far_place place, const struct far_record *record, struct far_error *err)
{
    (void)err;
    (void)place;
    *(uint64_t *)arg += record->stored_len;
    return 0;
}

static void walk(const uint8_t *data, size_t len, bool strict)
{
    uint64_t total = 0;
    uint64_t end = 0;
    bool sealed = false;
    struct far_error err;
    struct far_pack_visitor visitor = {.arg = &total, .record = count_record};
    int fd = memfd_create("pack", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, len) != (ssize_t)len) {
        abort();
    }
    if (far_pack_scan(fd, "pack", 1, 0, len, strict, &visitor, &end, &sealed, &err) != 0 || end > len || total > len) {
        abort();
    }
    close(fd);
}

static void open_record(uint8_t *bytes, size_t len, bool repair)
{
    static uint8_t raw[FAR_BLOCK_BYTES];
    struct far_record record;
    struct far_error err;
    if (len < FAR_RECORD_HEADER_BYTES) {
        return;
    }
    if (repair) {
        size_t payload = len - FAR_RECORD_HEADER_BYTES;
        memcpy(bytes, "FAR1", 4);
        far_put_le16(bytes + 6, 0);
        far_put_le32(bytes + 8, (uint32_t)payload);
        far_put_le64(bytes + 48, far_hash64(bytes + FAR_RECORD_HEADER_BYTES, payload));
        far_put_le64(bytes + 56, far_hash64(bytes, 56));
    }
    if (far_record_decode(bytes, &record, &err) == 0 && record.stored_len <= len - FAR_RECORD_HEADER_BYTES) {
        far_record_open(&record, bytes + FAR_RECORD_HEADER_BYTES, raw, sizeof raw, &err);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t uuid[16];
    struct far_error err;
    struct far_replica_file file;
    if (size < 1 || size > 1 << 20) {
        return 0;
    }
    size_t len = size - 1;
    uint8_t *copy = malloc(size);
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data + 1, len);
    if (data[0] == 0 && len >= FAR_PACK_HEADER_BYTES) {
        far_pack_header_decode(copy, 1, uuid, &err);
    } else if (data[0] == 1 || data[0] == 2) {
        open_record(copy, len, data[0] == 2);
    } else if (data[0] == 3) {
        walk(copy, len, true);
        walk(copy, len, false);
    } else if (data[0] == 4) {
        far_replica_file_decode(far_slice(copy, len), &file, &err);
    }
    free(copy);
    return 0;
}
