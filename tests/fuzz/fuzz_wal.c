/* A segment of the WAL with any bytes in it. The checksums of the header and of the first record are made right, so that
 * what lies behind them is looked at. */
#include "base/hash.h"
#include "log/raft_wal.h"
#include "log/raft_wal_format.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)far_wal_parse_segment(far_slice(data, size), NULL);
    (void)far_wal_record_behind(far_slice(data, size), 1, NULL);
    size_t start = FAR_WAL_HEADER_BYTES + FAR_WAL_RECORD_HEADER_BYTES;
    if (size < start || size > 1024 * 1024) {
        return 0;
    }
    uint8_t *copy = malloc(size);
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data, size);
    size_t body = (size - start) / 8 * 8;
    uint32_t count = far_get_le32(copy + FAR_WAL_HEADER_BYTES + 16);
    far_wal_header_encode(copy, &(struct far_wal_header){.number = 1, .first_ordinal = 1, .salt = 7});
    far_wal_record_header(copy + FAR_WAL_HEADER_BYTES, 1, count, 7, far_slice(copy + start, body));
    (void)far_wal_parse_segment(far_slice(copy, size), NULL);
    free(copy);
    return 0;
}
